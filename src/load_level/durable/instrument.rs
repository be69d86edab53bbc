use super::{DurableQueue, QueueError, QueueReadings};
use crate::{
    error::{ConfigError, check_duration},
    shell::{Instrument, Reading, Readings},
    sync::{Mutex, lock},
};
use std::{convert::Infallible, fmt, future::Future, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};

/// Caches the last readings of a [`DurableQueue`], so that reading metrics does not wait for Redis. Made by
/// [`DurableQueue::instrument`]. Clones share the cache.
///
/// Give one clone to the metrics, and let another one refresh the cache. Spawn [`refresh_every`](Self::refresh_every)
/// as a task, or call [`refresh`](Self::refresh) when the metrics are scraped.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use steadfast::load_level::durable::DurableQueue;
///
/// let queue = DurableQueue::builder("redis://127.0.0.1:6379", "mails").connect().await?;
/// let instrument = queue.instrument();
/// tokio::spawn(instrument.clone().refresh_every(Duration::from_secs(10))?);
/// # #[cfg(feature = "metrics")]
/// # fn watch(metrics: &steadfast::telemetry::Metrics, instrument: steadfast::load_level::durable::QueueInstrument) {
/// let watching = metrics.watch("mails", instrument);
/// # }
/// # Ok(())
/// # }
/// ```
///
/// | reading | of |
/// |---|---|
/// | `durable_pending` | the number of messages that are waiting, in progress, or waiting for another try |
/// | `durable_oldest_seconds` | the age of the stream's first message, waiting or in progress; 0 if there is none |
/// | `durable_dead` | the dead letters that are kept |
/// | `durable_redelivered_total` | the messages that were delivered again since the first answer of Redis |
/// | `store_up` | 1 if Redis gave the readings at the last refresh, else 0; 0 before the first one |
/// | `store_sync_age_seconds` | the age of the readings; before the first, the time since the instrument was made |
///
/// While Redis is unreachable the last readings stay, and `store_up` is 0. All processes read one queue: take the
/// largest of their readings, not the sum.
///
/// # Cost
///
/// A reading takes a short lock. A refresh is one script of Redis that takes about 20 µs.
#[derive(Clone)]
pub struct QueueInstrument {
    queue: DurableQueue,
    kept: Arc<Mutex<KeptReadings>>,
}

/// The cached readings.
struct KeptReadings {
    last: Option<QueueReadings>,
    is_up: bool,
    /// The time of the last readings, or of the creation of the instrument.
    since: Instant,
    /// The redeliveries since the first answer.
    redelivered: u64,
    /// The number of answers that were cached so far. It shows whether another answer was cached while Redis was asked.
    answers: u64,
}

impl DurableQueue {
    /// Returns an instrument for metrics, without readings so far. It uses the connection of the queue.
    pub fn instrument(&self) -> QueueInstrument {
        QueueInstrument { queue: self.clone(), kept: Arc::new(Mutex::new(KeptReadings::new(Instant::now()))) }
    }
}

impl QueueInstrument {
    /// Asks Redis for readings, and caches them. If the future is dropped before its end, the old readings stay.
    /// Several callers may refresh at once. An answer is out of date, and discarded, if it counts fewer redeliveries
    /// than an answer that came after its request.
    ///
    /// # Errors
    ///
    /// As [`DurableQueue::readings`]. The old readings stay.
    pub async fn refresh(&self) -> Result<QueueReadings, QueueError> {
        let asked_after = lock(&self.kept).answers;
        let answer = self.queue.readings().await;
        lock(&self.kept).hear(answer.as_ref().ok(), asked_after, Instant::now());
        answer
    }

    /// Refreshes now, and again `period` after each refresh has ended, for ever. Spawn the future, and abort its task to
    /// end it.
    ///
    /// # Errors
    ///
    /// A period of zero, or one longer than 366 days.
    pub fn refresh_every(
        self,
        period: Duration,
    ) -> Result<impl Future<Output = Infallible> + Send + 'static, ConfigError> {
        check_duration("durable.refresh_every", period)?;
        Ok(async move {
            loop {
                // An error shows in the readings: `store_up` is 0, and their age grows.
                let _ = self.refresh().await;
                sleep(period).await;
            }
        })
    }
}

impl KeptReadings {
    fn new(now: Instant) -> Self {
        Self { last: None, is_up: false, since: now, redelivered: 0, answers: 0 }
    }

    /// Caches an answer unless it is out of date, or notes that there was none. `asked_after` is the number of answers
    /// that were cached before the request.
    fn hear(&mut self, answer: Option<&QueueReadings>, asked_after: u64, now: Instant) {
        self.is_up = answer.is_some();
        let Some(readings) = answer else { return };
        let before = self.last.as_ref().map_or(readings.redelivered, |last| last.redelivered);
        if readings.redelivered < before && asked_after != self.answers {
            // Another answer came after this request was made, and counts more: this answer is out of date.
            return;
        }
        self.answers = self.answers.wrapping_add(1);
        // A lower number shows that Redis has new data: then all of its redeliveries are new.
        let more = readings.redelivered.checked_sub(before).unwrap_or(readings.redelivered);
        self.redelivered = self.redelivered.wrapping_add(more);
        self.last = Some(readings.clone());
        self.since = now;
    }
}

impl Instrument for QueueInstrument {
    fn read(&self, now: Instant, readings: &mut Readings<'_>) {
        lock(&self.kept).give(now).into_iter().for_each(|reading| readings.add(reading));
    }

    fn address(&self) -> Option<usize> {
        Some(crate::held::address(&self.kept))
    }
}

impl KeptReadings {
    fn give(&self, now: Instant) -> [Reading; 6] {
        let (pending, oldest, dead) =
            self.last.as_ref().map_or((0, None, 0), |last| (last.backlog(), last.oldest, last.dead_letters));
        [
            Reading::largest("durable_pending", pending as f64),
            Reading::largest("durable_oldest_seconds", oldest.unwrap_or_default().as_secs_f64()),
            Reading::largest("durable_dead", dead as f64),
            Reading::count("durable_redelivered_total", self.redelivered),
            Reading::largest("store_up", f64::from(u8::from(self.is_up))),
            Reading::largest("store_sync_age_seconds", now.saturating_duration_since(self.since).as_secs_f64()),
        ]
    }
}

impl fmt::Debug for QueueInstrument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueInstrument").field("queue", &self.queue).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(steadfast_loom)))]
mod tests {
    use super::*;
    use crate::{load_level::DrainTime, shell::Number};

    fn readings(waiting: u64, redelivered: u64) -> QueueReadings {
        QueueReadings {
            waiting,
            in_progress: 2,
            waiting_for_retry: 1,
            dead_letters: 7,
            oldest: Some(Duration::from_millis(1500)),
            appended: 100,
            acknowledged: 50,
            redelivered,
            dead: 9,
            dropped_for_age: 0,
            dead_letters_trimmed: 0,
            drain_time: DrainTime::Never,
        }
    }

    fn numbers(kept: &KeptReadings, now: Instant) -> [f64; 6] {
        kept.give(now).map(|reading| match reading.number() {
            Number::Count(count) => *count as f64,
            Number::Sum(value) | Number::Largest(value) => *value,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn while_redis_is_away_the_last_readings_stay_and_new_data_lowers_no_count() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut kept = KeptReadings::new(start);
        assert_eq!(numbers(&kept, at(3)), [0.0, 0.0, 0.0, 0.0, 0.0, 3.0]);
        kept.hear(None, 0, at(4));
        assert_eq!(numbers(&kept, at(4)), [0.0, 0.0, 0.0, 0.0, 0.0, 4.0]);
        // Redeliveries before the first answer do not count.
        kept.hear(Some(&readings(5, 1000)), 0, at(5));
        assert_eq!(numbers(&kept, at(6)), [8.0, 1.5, 7.0, 0.0, 1.0, 1.0]);
        kept.hear(Some(&readings(0, 1003)), 1, at(7));
        assert_eq!(numbers(&kept, at(7)), [3.0, 1.5, 7.0, 3.0, 1.0, 0.0]);
        kept.hear(None, 2, at(8));
        assert_eq!(numbers(&kept, at(9)), [3.0, 1.5, 7.0, 3.0, 0.0, 2.0]);
        kept.hear(Some(&readings(0, 4)), 2, at(10));
        assert_eq!(numbers(&kept, at(9)), [3.0, 1.5, 7.0, 7.0, 1.0, 0.0]);
    }

    #[test]
    fn a_late_answer_does_not_count_as_new_data() {
        let start = Instant::now();
        let mut kept = KeptReadings::new(start);
        kept.hear(Some(&readings(0, 100)), 0, start);
        // Both requests follow the first answer. The older answer comes last.
        kept.hear(Some(&readings(0, 105)), 1, start);
        kept.hear(Some(&readings(9, 103)), 1, start);
        assert_eq!(numbers(&kept, start), [3.0, 1.5, 7.0, 5.0, 1.0, 0.0]);
        // Redis has new data, and this request follows all answers.
        kept.hear(Some(&readings(0, 2)), 2, start);
        assert_eq!(numbers(&kept, start), [3.0, 1.5, 7.0, 7.0, 1.0, 0.0]);
    }
}
