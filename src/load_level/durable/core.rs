use crate::{
    Random,
    redis::{Connection, Server},
    sync::{Mutex, lock},
};
use std::{sync::atomic::AtomicUsize, time::Duration};
use tokio::runtime::Handle;

/// What all handles of a queue share.
pub(super) struct Core {
    pub(super) connection: Connection,
    pub(super) server: Server,
    pub(super) random: Random,
    pub(super) handle: Handle,
    pub(super) keys: Keys,
    pub(super) limits: Limits,
    pub(super) consumption: Consumption,
    /// The bytes of the messages that are on their way to Redis. Relaxed: it guards no other memory.
    pub(super) bytes_on_the_way: AtomicUsize,
}

/// The keys of a queue. All have the same hash tag.
pub(super) struct Keys {
    pub(super) stream: String,
    pub(super) retries: String,
    pub(super) totals: String,
    pub(super) dead: String,
    pub(super) once: String,
}

/// The consumer group. There is one: what a message is given to is one worker.
pub(super) const GROUP: &str = "workers";

impl Keys {
    pub(super) fn of(prefix: &str, name: &str) -> Self {
        let key = |what: &str| format!("{prefix}{{{name}}}:{what}");
        let (stream, retries, totals) = (key("stream"), key("retries"), key("totals"));
        Self { stream, retries, totals, dead: key("dead"), once: key("once:") }
    }

    pub(super) fn of_all(&self) -> [&str; 4] {
        [&self.stream, &self.retries, &self.totals, &self.dead]
    }
}

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

/// How fast messages come to an end, by what Redis said of it at two times.
#[derive(Default)]
pub(super) struct Consumption(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// Milliseconds of the server's clock, and the messages that had come to an end by then.
    since: Option<(u64, u64)>,
    /// Messages, in so many milliseconds.
    rate: Option<(u64, u64)>,
}

/// A rate is of at least so many milliseconds: it is not taken from a batch or two.
const SPAN: u64 = 1000;

impl Consumption {
    /// Redis said that so many had come to an end at this time.
    pub(super) fn heard(&self, millis: u64, ended: u64) {
        let known = &mut *lock(&self.0);
        match known.since {
            Some((at, before)) if ended >= before && millis >= at => {
                if millis - at >= SPAN {
                    known.rate = Some((ended - before, millis - at));
                    known.since = Some((millis, ended));
                }
            }
            // The first time, or the data is another one.
            _ => *known = Known { since: Some((millis, ended)), rate: None },
        }
    }

    /// In what time so many are expected to come to an end.
    pub(super) fn time_for(&self, messages: u64) -> Option<Duration> {
        let (ended, millis) = lock(&self.0).rate?;
        let millis = u128::from(messages) * u128::from(millis);
        let millis = millis.checked_div(u128::from(ended))?;
        Some(Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_for_a_backlog_follows_the_rate_of_the_last_second_or_more() {
        let consumption = Consumption::default();
        consumption.heard(10_000, 500);
        consumption.heard(10_900, 590);
        assert_eq!(consumption.time_for(100), None, "too soon to know");
        consumption.heard(12_000, 700);
        assert_eq!(consumption.time_for(100), Some(Duration::from_secs(1)));
        consumption.heard(13_000, 700);
        assert_eq!(consumption.time_for(100), None, "nobody consumes");
    }

    #[test]
    fn a_server_that_lost_its_data_is_learned_anew() {
        let consumption = Consumption::default();
        consumption.heard(10_000, 500);
        consumption.heard(12_000, 700);
        consumption.heard(13_000, 0);
        assert_eq!(consumption.time_for(100), None);
    }

    #[test]
    fn all_keys_have_the_name_as_their_hash_tag() {
        let keys = Keys::of("steadfast:", "mail");
        assert_eq!(keys.of_all()[0], "steadfast:{mail}:stream");
        assert!(keys.of_all().iter().all(|key| key.starts_with("steadfast:{mail}:")));
        assert_eq!(keys.once, "steadfast:{mail}:once:");
    }
}
