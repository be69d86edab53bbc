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
use crate::{error::chain, panics::caught};
use build::Build;
use builder::PollerBuilder;
use current::Current;
use last_good::LastGood;
use readings::{Good, InForce, PollerReadings};
use std::{
    convert::Infallible,
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};
use tick::Tick;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

/// Reads a whole snapshot in every period, verifies it, builds a value from it and puts the value in force.
///
/// See the [module](super) for an example, the defaults and the effects of faults.
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
    /// Returns a builder of a poller that reads this source. Its snapshots have this shape.
    pub fn builder(source: S, shape: Shape) -> PollerBuilder<T, S> {
        PollerBuilder::new(source, shape)
    }
}

impl<T: Rule, S: Source, B: Build<T>> Poller<T, S, B> {
    /// Returns a handle to the value in force.
    pub fn current(&self) -> Current<B::Value> {
        self.tick.current.clone()
    }

    /// Returns a handle to the poller's state. It can be read while the poller runs and afterwards.
    pub fn readings(&self) -> PollerReadings {
        self.readings.clone()
    }

    /// Returns the offset within each period at which [`run`](Self::run) ticks. The periods count from the first poll
    /// of `run`, and the offset is from one nanosecond to the period. The builder draws it once, so that the ticks of a
    /// fleet that starts at once are spread over the period.
    pub fn phase(&self) -> Duration {
        self.phase
    }

    /// Ticks at once, and then at the same phase of every period. Never returns.
    ///
    /// A tick that takes longer than the period does not move the phase. Of the ticks that become due during it, one
    /// follows at once. The others are skipped and counted as missed.
    ///
    /// If the future is dropped, for example with its runtime, the ticks stop and the value in force stays. Where a
    /// runtime may end before the process does, call [`tick`](Self::tick) instead: each call may run in another
    /// runtime.
    pub async fn run(mut self) -> Infallible {
        let mut due = Instant::now() + self.phase;
        let mut ticks = interval_at(due, self.period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        // The readings record how a tick ended.
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

    /// Runs one tick, for tests and for callers with their own schedule. Needs a tokio runtime with time enabled.
    ///
    /// If the future is dropped, the value in force and all counts stay as they were. The next tick starts from the
    /// beginning.
    ///
    /// # Errors
    ///
    /// The reason why there is no new configuration. The tick has nevertheless built a value and put it in force. It
    /// built the value from the last good rules or, if they are stale or missing, from the defaults. If `build`
    /// panicked, the value in force stays, with one exception. If it panicked for new rules while the last good rules
    /// in force are stale, the tick builds from the defaults.
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
        // There is no `.await` below this line: a tick that is dropped there would lose a restored configuration.
        self.conclude(fetched, restored, begun)
    }

    async fn fetch(&mut self, at_most: usize) -> Result<(), SourceError> {
        let (source, into) = (&mut self.source, &mut self.tick.incoming.bytes);
        let fetching = output_of(async { source.fetch(into, at_most).await });
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
        let outcome = self.tick.finish_tick(fetched, now, self.wall_clock.now());
        let good = self.tick.last_good_read_at.map(|read_at| Good {
            version: self.tick.last_good.header.version,
            published_at: self.tick.last_good.header.published_at,
            read_at,
        });
        let used = match self.tick.in_force {
            InForce::LastGood => self.tick.last_good.header.used_slots,
            InForce::Defaults => self.tick.defaults.header.used_slots,
        };
        if let (Some(last_good), Some(_)) = (&mut self.last_good, good) {
            last_good.begin_writing(&self.tick.last_good.bytes);
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

/// Returns `None` if the future panicked.
async fn output_of<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| caught(|| future.as_mut().poll(cx)).map_or(Poll::Ready(None), |poll| poll.map(Some))).await
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
