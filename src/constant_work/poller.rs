pub(super) mod build;
pub(super) mod builder;
pub(super) mod current;
pub(super) mod last_good;
pub(super) mod readings;
pub(super) mod tick;

use super::{
    refusal::Refusal,
    rule::Rule,
    shape::Shape,
    snapshot::Version,
    source::{Source, SourceError, SourceFailure},
    wall_clock::WallClock,
};
use crate::error::chain;
use build::Build;
use builder::PollerBuilder;
use current::Current;
use last_good::LastGood;
use readings::{Good, InForce, PollerReadings};
use std::{
    convert::Infallible,
    fmt,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::Poll,
    time::Duration,
};
use tick::Tick;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

/// Reads a whole snapshot in every period, checks all of it, builds a value from it and puts that in force.
///
/// See the [module](super) for an example, the defaults and what happens when something is wrong.
pub struct Poller<T, S, B: Build<T>> {
    source: S,
    period: Duration,
    timeout: Duration,
    phase: Duration,
    last_good: Option<LastGood>,
    readings: PollerReadings,
    wall_clock: WallClock,
    tick: Tick<T, B>,
}

impl<T: Rule, S: Source> Poller<T, S, fn(&[T])> {
    /// Begins a poller of this source, whose snapshots have this shape.
    pub fn builder(source: S, shape: Shape) -> PollerBuilder<T, S> {
        PollerBuilder::new(source, shape)
    }
}

impl<T: Rule, S: Source, B: Build<T>> Poller<T, S, B> {
    /// The value in force, for those who use it.
    pub fn current(&self) -> Current<B::Value> {
        self.tick.current.clone()
    }

    /// Reads the poller's state, while it runs and afterwards.
    pub fn readings(&self) -> PollerReadings {
        self.readings.clone()
    }

    /// When in each period [`run`](Self::run) ticks, counted from its start: from one nanosecond to the period. Drawn
    /// once, so that the pollers of a fleet that starts at once are spread over the period.
    pub fn phase(&self) -> Duration {
        self.phase
    }

    /// Ticks at once, and then for ever at the same phase of each period. Never returns.
    ///
    /// A tick that takes longer than the period does not move the phase: one that became due meanwhile follows at once,
    /// and further ones are left out and counted. Dropped, as with its runtime, it stops, and the value in force stays.
    /// Where a runtime may end before the process does, call [`tick`](Self::tick) instead: each may be in another
    /// runtime.
    pub async fn run(mut self) -> Infallible {
        let mut due = Instant::now() + self.phase;
        let mut ticks = interval_at(due, self.period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        // How a tick ended is in the readings.
        let _ = self.tick().await;
        loop {
            let now_due = ticks.tick().await;
            let periods = now_due.saturating_duration_since(due).as_nanos() / self.period.as_nanos();
            due = now_due;
            let missed = u64::try_from(periods).unwrap_or(u64::MAX).saturating_sub(1);
            self.readings.update(|state| state.ticks.missed += missed);
            let _ = self.tick().await;
        }
    }

    /// One tick, for tests and for those who have a schedule of their own. Needs a tokio runtime with time enabled.
    ///
    /// Dropped before its end it has changed nothing that is in force, and is in no count; the next tick is a whole
    /// one.
    ///
    /// # Errors
    ///
    /// Why there is no new configuration. The value in force was built again all the same.
    pub async fn tick(&mut self) -> Result<Version, Refusal> {
        let begun = Instant::now();
        let at_most = self.tick.shape.length() + 1;
        if let Some(last_good) = &mut self.last_good {
            last_good.begin_reading(at_most);
        }
        let fetched = self.fetch(at_most).await;
        let mut restored = None;
        if let Some(last_good) = &mut self.last_good {
            last_good.reclaim().await;
            restored = last_good.read(begun + self.timeout).await;
        }
        // Nothing is awaited from here on, or a restored configuration could be lost: what follows happens as a whole
        // or not at all.
        self.conclude(fetched, restored, begun)
    }

    async fn fetch(&mut self, at_most: usize) -> Result<(), SourceError> {
        let (source, into) = (&mut self.source, &mut self.tick.incoming.bytes);
        let fetching = caught(async { source.fetch(into, at_most).await });
        match timeout(self.timeout, fetching).await {
            Ok(Some(fetched)) => fetched,
            Ok(None) => Err(SourceError::new(SourceFailure::Panicked)),
            Err(_) => Err(SourceError::new(SourceFailure::TimedOut(self.timeout))),
        }
    }

    fn conclude(
        &mut self,
        fetched: Result<(), SourceError>,
        restored: Option<Vec<u8>>,
        begun: Instant,
    ) -> Result<Version, Refusal> {
        let now = Instant::now();
        let bytes = if fetched.is_ok() { self.tick.incoming.bytes.len() } else { 0 };
        if let (Some(restored), Some(last_good)) = (restored, &mut self.last_good) {
            if let Err(refusal) = self.tick.restore(restored, now) {
                last_good.refuse(chain(&refusal));
            }
        }
        let outcome = self.tick.conclude(fetched, now, self.wall_clock.now());
        let good = self.tick.good_read.map(|read_at| Good {
            version: self.tick.good.header.version,
            published_at: self.tick.good.header.published_at,
            read_at,
        });
        let used = match self.tick.in_force {
            InForce::LastGood => self.tick.good.header.used,
            InForce::Defaults => self.tick.defaults.header.used,
        };
        if let (Some(last_good), Some(_)) = (&mut self.last_good, good) {
            last_good.begin_writing(&self.tick.good.bytes);
        }
        let duration = Instant::now().saturating_duration_since(begun);
        self.readings.update(|state| {
            state.in_force = self.tick.in_force;
            state.good = good;
            state.used = used;
            state.bytes = bytes;
            state.last_tick = Some(duration);
            if let Some(last_good) = &self.last_good {
                state.last_good = last_good.counts;
                state.last_good_error.clone_from(&last_good.error);
            }
            match &outcome {
                Ok(_) => state.ticks.good += 1,
                Err(refusal) => {
                    state.ticks.refused[refusal.index()] += 1;
                    state.last_refusal = Some((refusal.clone(), now));
                }
            }
        });
        outcome
    }
}

/// `None` where the future panicked.
async fn caught<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Some),
        Err(_) => Poll::Ready(None),
    })
    .await
}

impl<T, S, B: Build<T>> fmt::Debug for Poller<T, S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller")
            .field("period", &self.period)
            .field("timeout", &self.timeout)
            .field("phase", &self.phase)
            .field("readings", &self.readings)
            .finish_non_exhaustive()
    }
}
