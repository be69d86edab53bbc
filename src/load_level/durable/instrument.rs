use super::{DurableQueue, QueueError, QueueReadings};
use crate::{
    error::{ConfigError, check_duration},
    shell::{Instrument, Reading, Readings},
    sync::{Mutex, lock},
};
use std::{convert::Infallible, fmt, future::Future, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};

/// Keeps the last readings of a [`DurableQueue`], so that metrics are read without a wait for Redis. Made by
/// [`DurableQueue::instrument`]; clones are one.
///
/// Give one clone to the metrics, and let another one ask Redis: in a task of its own by
/// [`refresh_every`](Self::refresh_every), or where the metrics are scraped by [`refresh`](Self::refresh).
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
/// | `durable_pending` | the messages that are waiting, in progress, or waiting for another try |
/// | `durable_oldest_seconds` | the age of the oldest of those that are waiting or in progress; 0 if there is none |
/// | `durable_dead` | the dead letters that are kept |
/// | `durable_redelivered_total` | the messages that were delivered again since the first answer of Redis |
/// | `store_up` | 1 if Redis gave the readings at the last refresh, else 0; 0 before the first one |
/// | `store_sync_age_seconds` | how old the readings are; before the first, the time since the instrument was made |
///
/// While Redis is away the last readings stay, and `store_up` is 0. All processes read one queue: take the largest of
/// their readings, not the sum.
///
/// # Cost
///
/// A reading takes a short lock. A refresh is one script of Redis that takes about 20 µs.
#[derive(Clone)]
pub struct QueueInstrument {
    queue: DurableQueue,
    kept: Arc<Mutex<KeptReadings>>,
}

/// What is known of the queue.
struct KeptReadings {
    last: Option<QueueReadings>,
    is_up: bool,
    /// When the last readings came, or when the instrument was made.
    since: Instant,
    redelivered: u64,
    /// The answers so far. It tells whether another one came while Redis was asked.
    answers: u64,
}

impl DurableQueue {
    /// An instrument for metrics, without readings so far. It keeps the connection of the queue.
    pub fn instrument(&self) -> QueueInstrument {
        QueueInstrument { queue: self.clone(), kept: Arc::new(Mutex::new(KeptReadings::new(Instant::now()))) }
    }
}

impl QueueInstrument {
    /// Asks Redis for readings, and keeps them. Dropped before its end, it leaves those before. Several may ask at once:
    /// an answer that is older than the kept one is not kept.
    ///
    /// # Errors
    ///
    /// As of [`DurableQueue::readings`]. The readings before stay.
    pub async fn refresh(&self) -> Result<QueueReadings, QueueError> {
        let asked_after = lock(&self.kept).answers;
        let answer = self.queue.readings().await;
        lock(&self.kept).hear(answer.as_ref().ok(), asked_after, Instant::now());
        answer
    }

    /// Asks Redis now and again each `period` after an answer, for ever. Spawn it, and abort the task to end it.
    ///
    /// # Errors
    ///
    /// A period of zero, or one above 366 days.
    pub fn refresh_every(
        self,
        period: Duration,
    ) -> Result<impl Future<Output = Infallible> + Send + 'static, ConfigError> {
        check_duration("durable.refresh_every", period)?;
        Ok(async move {
            loop {
                // What Redis says of an error is in the readings as an age.
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

    /// Keeps an answer, or notes that there was none. `asked_after`: the answers before it was asked for.
    fn hear(&mut self, answer: Option<&QueueReadings>, asked_after: u64, now: Instant) {
        self.is_up = answer.is_some();
        let Some(readings) = answer else { return };
        let before = self.last.as_ref().map_or(readings.redelivered, |last| last.redelivered);
        if readings.redelivered < before && asked_after != self.answers {
            // Another one that was asked for at the same time has overtaken it.
            return;
        }
        self.answers = self.answers.wrapping_add(1);
        // The data of Redis may have begun again.
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
    fn the_last_readings_stay_while_redis_is_away_and_no_count_falls_when_its_data_begins_again() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut kept = KeptReadings::new(start);
        assert_eq!(numbers(&kept, at(3)), [0.0, 0.0, 0.0, 0.0, 0.0, 3.0]);
        kept.hear(None, 0, at(4));
        assert_eq!(numbers(&kept, at(4)), [0.0, 0.0, 0.0, 0.0, 0.0, 4.0]);
        // What was delivered again before is of no interest.
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
    fn an_answer_that_comes_late_is_no_new_beginning_of_the_data() {
        let start = Instant::now();
        let mut kept = KeptReadings::new(start);
        kept.hear(Some(&readings(0, 100)), 0, start);
        // Both are asked for after the first answer. The older one comes last.
        kept.hear(Some(&readings(0, 105)), 1, start);
        kept.hear(Some(&readings(9, 103)), 1, start);
        assert_eq!(numbers(&kept, start), [3.0, 1.5, 7.0, 5.0, 1.0, 0.0]);
        // Redis has begun again, and this is asked for after all others.
        kept.hear(Some(&readings(0, 2)), 2, start);
        assert_eq!(numbers(&kept, start), [3.0, 1.5, 7.0, 7.0, 1.0, 0.0]);
    }
}
