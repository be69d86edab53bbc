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
    prefetch: Option<usize>,
    pace: Option<(u64, Duration)>,
}

/// More calls or messages than any process holds.
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

    /// The most calls at a time. Default: 16. From 1 to 2^20.
    pub fn concurrency(mut self, calls: usize) -> Self {
        self.settings.concurrency = calls;
        self
    }

    /// The messages to have ready beyond those that are being worked on, so that none waits for Redis. They are in
    /// progress: no other worker gets them, unless this one dies. Default: as many as the
    /// [concurrency](Self::concurrency), which keeps calls that take longer than a round trip to Redis without a gap.
    /// Up to 2^20; with 0 each message is fetched when there is a call free for it.
    pub fn prefetch(self, messages: usize) -> Self {
        Self { prefetch: Some(messages), ..self }
    }

    /// Begins at most `calls` calls per `per` in this worker, evenly spread. After a pause it makes up for at most 5
    /// ms. Default: as fast as the concurrency allows.
    ///
    /// For all workers together put a [distributed limit](crate::rate_limit::distributed) around the service: a message
    /// that it refuses comes again, and that is no try.
    pub fn pace(self, calls: u64, per: Duration) -> Self {
        Self { pace: Some((calls, per)), ..self }
    }

    /// How often a message is tried before it becomes a dead letter. Default: 5. At least 1.
    ///
    /// A worker that dies counts as a try of the message that it was [calling
    /// alone](super::super#messages-that-kill-their-worker), and of no other.
    pub fn max_tries(mut self, tries: u32) -> Self {
        self.settings.max_tries = tries;
        self
    }

    /// How long a message waits before each further try. Default: from 1 s, doubling up to 5 minutes, with full jitter.
    ///
    /// A worker looks every 100 ms for messages that are due.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.settings.backoff = backoff;
        self
    }

    /// A message that was appended longer ago, by the server's clock, is dropped with a count when its call would
    /// begin. Default: none is.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.settings.max_age = Some(age);
        self
    }

    /// A message is taken over once its worker has not kept it alive for this time. Default: 30 s.
    ///
    /// A worker that lives keeps its messages alive four times in that time, however long the calls take. Shorter means
    /// that messages of a dead worker come sooner, and that one which is only cut off from Redis loses them sooner.
    /// From 100 ms to 366 days; less than the [time for an answer](super::super::DurableQueueBuilder::answer_timeout)
    /// makes a slow answer of Redis a takeover.
    pub fn takeover_after(mut self, idle: Duration) -> Self {
        self.settings.takeover_after = idle;
        self
    }

    /// The worker.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`]: a number or a duration is out of its range, or the backoff cannot work.
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
        // It begins to count when the worker runs.
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
            let rule = "must be at least 100 ms: a worker that lives must be able to say so in time";
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
