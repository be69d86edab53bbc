//! Whether the server may evict keys that limits need.

use crate::redis::{Connection, Failure};
use ::redis::{Value, cmd};
use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::time::timeout;

/// The server's answer about its memory. Calls of the store ask the server until it has answered once.
#[derive(Default)]
pub(super) struct Memory {
    /// Whether the server has answered, or is being asked now. Relaxed: it guards no other memory.
    is_asked: AtomicBool,
    /// The sentence for an operator, if the answer shows that the server may evict keys.
    concern: OnceLock<String>,
}

/// The time that the server has to answer. No call waits for it.
const PATIENCE: Duration = Duration::from_secs(1);

impl Memory {
    /// Returns whether the server is still to be asked.
    pub(super) fn is_open(&self) -> bool {
        !self.is_asked.load(Ordering::Relaxed)
    }

    /// Returns whether the caller has to ask the server. No other caller gets `true`, unless that caller gets no
    /// answer.
    pub(super) fn begin(&self) -> bool {
        !self.is_asked.swap(true, Ordering::Relaxed)
    }

    pub(super) fn concern(&self) -> Option<&str> {
        self.concern.get().map(String::as_str)
    }

    /// Asks the server. If it refuses the command, there is no concern. If it does not answer, or the runtime ends
    /// first, a later call asks again.
    pub(super) async fn ask(&self, connection: &Connection) {
        let mut asking = Asking { memory: self, is_answered: false };
        let info = connection.ask(async |connection| cmd("INFO").arg("memory").query_async(connection).await);
        let answer = timeout(PATIENCE, info).await;
        if let Ok(Ok(answer)) = &answer {
            if let Some(concern) = concern_of(&text_of(answer)) {
                // The server answers once, so this is not set twice.
                let _ = self.concern.set(concern);
            }
        }
        asking.is_answered = matches!(answer, Ok(Ok(_) | Err(Failure::Said(_))));
    }
}

/// The request in flight. If it is dropped before the answer, a later call asks again.
struct Asking<'a> {
    memory: &'a Memory,
    is_answered: bool,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.memory.is_asked.store(false, Ordering::Relaxed);
        }
    }
}

fn text_of(answer: &Value) -> String {
    match answer {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => text.clone(),
        _ => String::new(),
    }
}

/// Returns the concern about this answer. Every key of a limit has an expiry, so all policies but `noeviction` evict it
/// at the `maxmemory`. A server without a `maxmemory` evicts nothing.
fn concern_of(info: &str) -> Option<String> {
    let field = |name: &str| info.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'));
    let (most, policy) = (field("maxmemory")?, field("maxmemory_policy")?);
    (most != "0" && policy != "noeviction").then(|| {
        format!(
            "maxmemory-policy = {policy}: the server evicts keys when it uses {most} bytes, and a limit whose key is \
             evicted admits its tokens again; set maxmemory-policy noeviction"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_may_evict_keys_is_a_concern() {
        let info = |most: &str, policy: &str| {
            format!(
                "# Memory\r\nused_memory:1\r\nmaxmemory:{most}\r\nmaxmemory_human:x\r\nmaxmemory_policy:{policy}\r\n"
            )
        };
        assert_eq!(concern_of(&info("0", "allkeys-lru")), None);
        assert_eq!(concern_of(&info("1000", "noeviction")), None);
        assert_eq!(concern_of("nothing of the kind"), None);
        for policy in ["allkeys-lru", "allkeys-random", "volatile-ttl", "volatile-lru"] {
            let concern = concern_of(&info("1000", policy)).unwrap();
            assert!(concern.contains(policy) && concern.contains("1000"), "{concern}");
        }
    }
}
