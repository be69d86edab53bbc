use super::{codec::nonsense, connection::Failure};
use crate::rate_limit::distributed::StoreError;
use ::redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value, aio::MultiplexedConnection, cmd, pipe};
use std::sync::{Arc, LazyLock};

/// Charges buckets.
pub(super) static CHARGE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("charge.lua")));

/// Settles windows.
pub(super) static SETTLE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("settle.lua")));

/// A script, and the hash by which a server knows it.
pub(super) struct Script {
    text: &'static str,
    hash: String,
}

impl Script {
    fn new(text: &'static str) -> Self {
        Self { text, hash: ::redis::Script::new(text).get_hash().to_owned() }
    }
}

/// One call of a script.
#[derive(Clone)]
pub(super) struct Call {
    script: &'static Script,
    keys: Arc<[Entry]>,
    /// The server is about to get these keys from another one, and should answer for them already.
    asking: bool,
}

/// A key as it is in Redis, and what the script is told about it.
pub(super) struct Entry {
    pub(super) key: Vec<u8>,
    pub(super) argument: Vec<u8>,
}

impl Call {
    pub(super) fn new(script: &'static Script, keys: Vec<Entry>) -> Self {
        Self { script, keys: keys.into(), asking: false }
    }

    /// The same, of a server that is about to get the keys.
    #[must_use]
    pub(super) fn asking(&self) -> Self {
        Self { asking: true, ..self.clone() }
    }

    /// By the hash of the script if the server knows it, and else with its text: then it does. To load it first would reach
    /// one server only, and not last either.
    pub(super) async fn run(&self, connection: &mut MultiplexedConnection) -> Result<Value, RedisError> {
        let answer = self.send(connection, "EVALSHA", &self.script.hash).await;
        match answer {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.send(connection, "EVAL", self.script.text).await
            }
            answer => answer,
        }
    }

    async fn send(&self, connection: &mut MultiplexedConnection, name: &str, what: &str) -> Result<Value, RedisError> {
        let command = self.command(name, what);
        if !self.asking {
            return command.query_async(connection).await;
        }
        let (answer,) = pipe().cmd("ASKING").ignore().add_command(command).query_async(connection).await?;
        Ok(answer)
    }

    fn command(&self, name: &str, what: &str) -> Cmd {
        let mut command = cmd(name);
        command.arg(what).arg(self.keys.len());
        for Entry { key, .. } in &*self.keys {
            command.arg(&key[..]);
        }
        for Entry { argument, .. } in &*self.keys {
            command.arg(&argument[..]);
        }
        command
    }
}

/// What the script says to each key, in their order.
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
    /// The error where a key has a value that is none of this crate's: the script says the key's place.
    fn foreign(&self, failure: &Failure) -> Option<StoreError> {
        let Failure::Said(error) = failure else { return None };
        let place: usize = (error.code() == Some("FOREIGN")).then(|| error.detail()?.trim().parse().ok())??;
        let key = self.keys.get(place.checked_sub(1)?)?.key.escape_ascii();
        Some(nonsense(format_args!(
            "the value under the key \"{key}\" is somebody else's: delete it, or choose another prefix"
        )))
    }
}
