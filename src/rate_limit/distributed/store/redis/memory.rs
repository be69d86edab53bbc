//! Whether the server may evict what limits need to remember.

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

/// The server's answer about its memory. It is asked once.
#[derive(Default)]
pub(super) struct Memory {
    /// Relaxed: it guards no other memory.
    is_asked: AtomicBool,
    concern: OnceLock<String>,
}

/// How long the server has to answer. No call waits for it.
const PATIENCE: Duration = Duration::from_secs(1);

impl Memory {
    /// Whether the server is still to be asked.
    pub(super) fn is_open(&self) -> bool {
        !self.is_asked.load(Ordering::Relaxed)
    }

    /// Whether it is for the caller to ask.
    pub(super) fn begin(&self) -> bool {
        !self.is_asked.swap(true, Ordering::Relaxed)
    }

    pub(super) fn concern(&self) -> Option<&str> {
        self.concern.get().map(String::as_str)
    }

    /// Asks the server. A server that refuses the command is no concern. A later call asks again where the server did
    /// not answer, or where the runtime ended meanwhile.
    pub(super) async fn ask(&self, connection: &Connection) {
        let mut asking = Asking { memory: self, is_answered: false };
        let info = connection.ask(async |connection| cmd("INFO").arg("memory").query_async(connection).await);
        let answer = timeout(PATIENCE, info).await;
        if let Ok(Ok(answer)) = &answer {
            if let Some(concern) = concern_of(&text_of(answer)) {
                // Set once, since it is answered once.
                let _ = self.concern.set(concern);
            }
        }
        asking.is_answered = matches!(answer, Ok(Ok(_) | Err(Failure::Said(_))));
    }
}

/// The question on its way. Dropped before it is answered, it is to be asked again.
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

/// Every key of a limit has an expiry, so that all policies but one evict it.
fn concern_of(info: &str) -> Option<String> {
    let field = |name: &str| info.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'));
    let (most, policy) = (field("maxmemory")?, field("maxmemory_policy")?);
    (most != "0" && policy != "noeviction").then(|| {
        format!(
            "the server evicts keys when it has {most} bytes (maxmemory-policy {policy}): a limit whose key is evicted \
             admits again what it has admitted; it needs noeviction"
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
