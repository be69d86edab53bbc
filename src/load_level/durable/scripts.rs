//! The Lua scripts: their calls and their answers.

use super::entry::Entry;
use crate::redis::{Connection, Failure, Fault, FaultKind, Script};
use ::redis::{Cmd, Value};
use std::{sync::LazyLock, time::Duration};

macro_rules! script {
    ($($name:ident = $file:literal;)+) => {
        $(pub(super) static $name: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!(concat!("scripts/", $file))));)+
    };
}

script! {
    APPEND = "append.lua";
    SETTLE = "settle.lua";
    TEND = "tend.lua";
    KEEP = "keep.lua";
    LEAVE = "leave.lua";
    MARK = "mark.lua";
    REVIVE = "revive.lua";
    READINGS = "readings.lua";
}

/// Calls a script: `write` adds the number of keys, the keys and the arguments.
pub(super) async fn call(connection: &Connection, script: &Script, write: impl Fn(&mut Cmd)) -> Result<Value, Failure> {
    connection.ask(async |connection: &mut _| script.run(connection, false, write).await).await
}

/// The fault of an answer that no script gives.
pub(super) fn nonsense() -> Fault {
    Fault::new(FaultKind::Incomprehensible, "the script returned an unexpected answer")
}

/// Returns a duration in milliseconds, the unit of the scripts.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn list(value: Value) -> Result<Vec<Value>, Fault> {
    match value {
        Value::Array(values) => Ok(values),
        _ => Err(nonsense()),
    }
}

pub(super) fn number(value: &Value) -> Result<u64, Fault> {
    match value {
        Value::Int(number) => Ok(u64::try_from(*number).unwrap_or(0)),
        _ => Err(nonsense()),
    }
}

pub(super) fn bytes(value: Value) -> Result<Vec<u8>, Fault> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) => Ok(text.into_bytes()),
        _ => Err(nonsense()),
    }
}

pub(super) fn text(value: Value) -> Result<String, Fault> {
    String::from_utf8(bytes(value)?).map_err(|_| nonsense())
}

pub(super) fn identity_of(value: Value) -> Result<Entry, Fault> {
    match &value {
        Value::BulkString(text) => Entry::parse(text),
        Value::SimpleString(text) => Entry::parse(text.as_bytes()),
        _ => None,
    }
    .ok_or_else(nonsense)
}

/// Reads the entries of a stream: the identity and the fields of each.
pub(super) fn entries(value: Value) -> Result<Vec<(Entry, Fields)>, Fault> {
    let entry = |entry| {
        let [identity, fields] = <[Value; 2]>::try_from(list(entry)?).map_err(|_| nonsense())?;
        Ok((identity_of(identity)?, Fields::of(fields)?))
    };
    list(value)?.into_iter().map(entry).collect()
}

/// The fields of a stream entry: `p`, `m` and `r`. If another program appended the entry without these fields, the
/// payload is empty.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fields {
    pub(super) payload: Vec<u8>,
    /// The message's history as text, if the message was put back or is a dead letter.
    pub(super) memory: Option<Vec<u8>>,
    /// Why the message became a dead letter.
    pub(super) reason: Option<Vec<u8>>,
}

impl Fields {
    pub(super) fn of(value: Value) -> Result<Self, Fault> {
        let mut fields = Self::default();
        let mut values = match value {
            Value::Map(pairs) => pairs.into_iter().flat_map(|(name, value)| [name, value]).collect(),
            value => list(value)?,
        }
        .into_iter();
        while let (Some(name), Some(value)) = (values.next(), values.next()) {
            let value = bytes(value)?;
            match &*bytes(name)? {
                b"p" => fields.payload = value,
                b"m" => fields.memory = Some(value),
                b"r" => fields.reason = Some(value),
                _ => {}
            }
        }
        Ok(fields)
    }
}
