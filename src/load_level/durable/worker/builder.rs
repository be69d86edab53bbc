use super::{report::WorkerShared, run::Worker, settings::Settings};
use crate::{
    backoff::Backoff,
    error::{ConfigError, check_duration},
    load_level::{durable::core::Core, pace::Pace},
    sync::Mutex,
};
use std::{fmt, sync::Arc, time::Duration};

/// Configures a [`Worker`].
#[must_use]
pub struct WorkerBuilder<Decode, S> {
    core: Arc<Core>,
    decode: Decode,
    service: S,
    settings: Settings,
    /// `None`: the concurrency.
    prefetch: Option<usize>,
    pace: Option<(u64, Duration)>,
}

/// The largest concurrency, and the largest prefetch: more than any process can use.
const MOST_HELD: usize = 1 << 20;

impl<Decode, S> WorkerBuilder<Decode, S> {
    pub(in crate::load_level::durable) fn new(core: Arc<Core>, decode: Decode, service: S) -> Self {
        let settings = Settings {
            concurrency: 16,
            prefetch: 0,
            pace: None,
            max_tries: 5,
            backoff: Backoff::exponential(Duration::from_secs(1), Duration::from_secs(300)),
            max_age: None,
            takeover_after: Duration::from_secs(30),
        };
        Self { core, decode, service, settings, prefetch: None, pace: None }
    }

    /// Sets the most calls in flight. Default: 16. From 1 to 2^20.
    pub fn concurrency(mut self, calls: usize) -> Self {
        self.settings.concurrency = calls;
        self
    }

    /// Sets how many messages the worker may fetch beyond its concurrency, so that no call waits for Redis. Prefetched
    /// messages are in progress: no other worker gets them unless this one ends, dies or is cut off from Redis.
    /// Default: the [concurrency](Self::concurrency), which leaves no gap between calls that take longer than a round
    /// trip to Redis. Up to 2^20. With 0 a message is fetched only when the concurrency has room for its call.
    pub fn prefetch(self, messages: usize) -> Self {
        Self { prefetch: Some(messages), ..self }
    }

    /// Throttles this worker: at most `calls` calls begin per `per`, evenly spread. After a pause the worker makes up
    /// for at most 5 ms. Default: as fast as the concurrency allows.
    ///
    /// For a limit over all workers put a [distributed rate limit](crate::rate_limit::distributed) around the service.
    /// A message that the limit refuses comes again, and the call does not count as a try.
    pub fn pace(self, calls: u64, per: Duration) -> Self {
        Self { pace: Some((calls, per)), ..self }
    }

    /// Sets the number of tries before a message becomes a dead letter. Default: 5. At least 1.
    ///
    /// The death of a worker counts as a try of the [suspects](super::super#messages-that-kill-their-worker) that it
    /// was calling, and of no other message.
    pub fn max_tries(mut self, tries: u32) -> Self {
        self.settings.max_tries = tries;
        self
    }

    /// Sets the backoff before each further try. Default: from 1 s, doubling up to 5 minutes, with full jitter.
    ///
    /// A worker looks for due messages at least every 100 ms.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.settings.backoff = backoff;
        self
    }

    /// Sets the longest age of a message, by the server's clock. A message that is older when its call would begin is
    /// dropped and counted. Default: no message is dropped.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.settings.max_age = Some(age);
        self
    }

    /// Sets the time after which other workers take over the messages of a worker that has not kept them alive. Other
    /// queues call it the visibility timeout. Default: 30 s.
    ///
    /// A live worker keeps its messages alive three to four times in that time, however long the calls take. A shorter
    /// time redelivers the messages of a dead worker sooner. It also takes messages sooner from a worker that is only
    /// cut off from Redis. From 100 ms to 366 days. A time below the [answer
    /// timeout](super::super::DurableQueueBuilder::answer_timeout) can turn a slow answer of Redis into a takeover.
    pub fn takeover_after(mut self, idle: Duration) -> Self {
        self.settings.takeover_after = idle;
        self
    }

    /// Builds the worker.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`]: a number or a duration is out of its range, or the backoff is invalid.
    pub fn build(self) -> Result<Worker<Decode, S>, ConfigError> {
        let mut settings = self.settings;
        settings.prefetch = self.prefetch.unwrap_or(settings.concurrency);
        if settings.concurrency == 0 {
            return Err(ConfigError::new("durable.worker.concurrency", 0, "must be at least 1"));
        }
        let numbers =
            [("durable.worker.concurrency", settings.concurrency), ("durable.worker.prefetch", settings.prefetch)];
        if let Some((field, number)) = numbers.into_iter().find(|(_, number)| *number > MOST_HELD) {
            return Err(ConfigError::new(field, number, "must be at most 2^20"));
        }
        // The pace begins to count when the worker runs.
        settings.pace = self.pace.map(|(calls, per)| Pace::new("durable.worker.pace", calls, per)).transpose()?;
        if settings.max_tries == 0 {
            return Err(ConfigError::new("durable.worker.max_tries", 0, "must be at least 1"));
        }
        settings.backoff.check()?;
        if let Some(age) = settings.max_age {
            check_duration("durable.worker.max_age", age)?;
        }
        check_duration("durable.worker.takeover_after", settings.takeover_after)?;
        if settings.takeover_after < Duration::from_millis(100) {
            let rule = "must be at least 100 ms, so that a live worker can keep its messages alive in time";
            return Err(ConfigError::new("durable.worker.takeover_after", settings.takeover_after, rule));
        }
        Ok(Worker {
            core: self.core,
            settings,
            decode: Arc::new(self.decode),
            service: Arc::new(Mutex::new(self.service)),
            shared: Arc::new(WorkerShared::default()),
        })
    }
}

impl<Decode, S> fmt::Debug for WorkerBuilder<Decode, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("WorkerBuilder");
        debug.field("settings", &self.settings).field("prefetch", &self.prefetch).finish_non_exhaustive()
    }
}
