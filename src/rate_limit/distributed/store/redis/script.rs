use super::codec::nonsense;
use crate::{
    rate_limit::distributed::store::{StoreError, StoreErrorKind},
    redis::{Connection, Failure, Fault, FaultKind, RedisError, Script},
};
use ::redis::{Cmd, Value};
use std::sync::{Arc, LazyLock};

/// The script for `Store::charge`.
pub(super) static CHARGE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("charge.lua")));

/// The script for `Store::settle`.
pub(super) static SETTLE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("settle.lua")));

/// One call of a script.
#[derive(Clone)]
pub(super) struct Call {
    script: &'static Script,
    keys: Arc<[ScriptKey]>,
    /// The server is about to get these keys from another server, and should already answer for them.
    asking: bool,
}

/// A key with its prefix, and the argument of the script for it.
pub(super) struct ScriptKey {
    pub(super) key: Vec<u8>,
    pub(super) argument: Vec<u8>,
}

impl Call {
    pub(super) fn new(script: &'static Script, keys: Vec<ScriptKey>) -> Self {
        Self { script, keys: keys.into(), asking: false }
    }

    /// Returns the call for a server that is about to get the keys.
    #[must_use]
    pub(super) fn asking(&self) -> Self {
        Self { asking: true, ..self.clone() }
    }

    /// Calls the script over this connection. Fails or waits for a connection as [`Connection::ask`] does.
    pub(super) async fn send(&self, connection: &Connection) -> Result<Value, Failure> {
        let ask =
            async |connection: &mut _| self.script.run(connection, self.asking, |command| self.write(command)).await;
        connection.ask(ask).await
    }

    fn write(&self, command: &mut Cmd) {
        command.arg(self.keys.len());
        for ScriptKey { key, .. } in &*self.keys {
            command.arg(&key[..]);
        }
        for ScriptKey { argument, .. } in &*self.keys {
            command.arg(&argument[..]);
        }
    }
}

/// Returns the answer of the script for each key, in their order.
pub(super) fn answers(call: &Call, answer: Result<Value, Failure>) -> Result<Vec<Vec<u8>>, StoreError> {
    let answer = answer.map_err(|failure| call.foreign(&failure).unwrap_or_else(|| failure.into()))?;
    let Value::Array(answers) = answer else { return Err(nonsense(format_args!("no list, but {}", kind(&answer)))) };
    if answers.len() != call.keys.len() {
        return Err(nonsense(format_args!("{} answers for {} keys", answers.len(), call.keys.len())));
    }
    let bytes = |answer| match answer {
        Value::BulkString(bytes) => Ok(bytes),
        other => Err(nonsense(format_args!("no bytes, but {}", kind(&other)))),
    };
    answers.into_iter().map(bytes).collect()
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Nil => "nothing",
        Value::Int(_) => "an integer",
        Value::BulkString(_) | Value::SimpleString(_) | Value::VerbatimString { .. } => "a string",
        Value::Array(_) | Value::Set(_) | Value::Map(_) => "a list",
        _ => "something else",
    }
}

impl Call {
    /// Returns the error for a value that this crate has not written, or `None` for any other failure. The script's
    /// error is `FOREIGN n` for the `n`-th key of the call, counted from 1.
    fn foreign(&self, failure: &Failure) -> Option<StoreError> {
        let Failure::Said(error) = failure else { return None };
        let place: usize = (error.code() == Some("FOREIGN")).then(|| error.detail()?.trim().parse().ok())??;
        let key = self.keys.get(place.checked_sub(1)?)?.key.escape_ascii();
        Some(nonsense(format_args!(
            "the value under the key \"{key}\" was not written by this crate: delete it, or choose another prefix"
        )))
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        Fault::from(failure).into()
    }
}

impl From<RedisError> for StoreError {
    fn from(error: RedisError) -> Self {
        Fault::from(error).into()
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        let kind = match fault.kind {
            FaultKind::Unreachable => StoreErrorKind::Unreachable,
            FaultKind::Refused => StoreErrorKind::Refused,
            FaultKind::Incomprehensible => StoreErrorKind::Incomprehensible,
        };
        Self::new(kind, fault.detail)
    }
}
