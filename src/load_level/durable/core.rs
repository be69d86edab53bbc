use super::{batch::SendQueue, consumption::Consumption};
use crate::{
    random::Random,
    redis::{Connection, Server},
};
use std::{
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

/// The state that all handles of a queue share.
pub(super) struct Core {
    pub(super) connection: Connection,
    pub(super) server: Server,
    pub(super) random: Random,
    pub(super) keys: Keys,
    pub(super) limits: Limits,
    pub(super) consumption: Consumption,
    pub(super) send_queue: SendQueue,
    /// The bytes of the messages on the way to Redis. Relaxed: it guards no other memory.
    pub(super) bytes_on_the_way: Arc<AtomicUsize>,
}

/// The keys of a queue in Redis. All have the same hash tag.
pub(super) struct Keys {
    /// A stream of the messages that are waiting or in progress.
    pub(super) stream: String,
    /// A sorted set of the messages that wait for another try, by the time at which each is due.
    pub(super) retries: String,
    /// A hash of the queue's counts, such as `appended`.
    pub(super) totals: String,
    /// A stream of the dead letters.
    pub(super) dead: String,
    /// The prefix of the key for each deduplication key.
    pub(super) once: String,
}

/// The only consumer group, so that each message goes to one worker.
pub(super) const GROUP: &str = "workers";

impl Keys {
    pub(super) fn of(prefix: &str, name: &str) -> Self {
        let key = |what: &str| format!("{prefix}{{{name}}}:{what}");
        let (stream, retries, totals) = (key("stream"), key("retries"), key("totals"));
        Self { stream, retries, totals, dead: key("dead"), once: key("once:") }
    }

    /// Returns all keys of the queue except the deduplication keys.
    pub(super) fn of_all(&self) -> [&str; 4] {
        [&self.stream, &self.retries, &self.totals, &self.dead]
    }
}

/// The limits of a queue, as its [builder](super::DurableQueueBuilder) documents them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) depth: u64,
    pub(super) dedup_for: Duration,
    pub(super) dead_letters: u64,
    pub(super) message_bytes: usize,
    pub(super) on_the_way: usize,
    pub(super) bytes_on_the_way: usize,
    pub(super) batch: usize,
    pub(super) batch_bytes: usize,
    pub(super) answer_timeout: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_keys_have_the_name_as_their_hash_tag() {
        let keys = Keys::of("steadfast:", "mail");
        assert_eq!(keys.of_all()[0], "steadfast:{mail}:stream");
        assert!(keys.of_all().iter().all(|key| key.starts_with("steadfast:{mail}:")));
        assert_eq!(keys.once, "steadfast:{mail}:once:");
    }
}
