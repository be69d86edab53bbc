use super::{
    batch::{BucketBatch, Landed},
    synchronizer::{BucketSync, Pace},
};
use crate::{
    rate_limit::distributed::sync::{
        flights::Flights,
        synchronizer::{Handle, Synchronizer},
    },
    sync::lock,
};
use rand::RngExt;
use std::{
    future::poll_fn,
    ops::Range,
    pin::pin,
    sync::{Arc, Weak},
    task::Poll,
    time::Duration,
};
use tokio::time::{Instant, sleep_until};

/// The time between two searches for keys that can be forgotten.
const SWEEP: Duration = Duration::from_secs(5);

/// The loop of the flusher.
pub(super) struct BucketRounds {
    sync: Arc<BucketSync>,
    flights: Flights<Landed>,
    /// When the next period begins.
    tick: Instant,
    /// When idle keys are forgotten next.
    sweep: Instant,
    /// The number of keys that may still leave the queue. With `EachPeriod` it begins at each tick with all queued
    /// keys. It is unbounded with `AtOnce`, and zero with `Probe`.
    leaving: usize,
}

/// The duty of the flusher towards the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FlusherDuty {
    /// The store is not given up. It is asked as soon as there is something to ask.
    AtOnce,
    /// The store is not given up. It is asked at each tick.
    EachPeriod,
    /// The store is given up. It is probed at each tick.
    Probe,
}

impl BucketRounds {
    pub(super) fn new(sync: Arc<BucketSync>) -> Self {
        let now = Instant::now();
        let mut rounds = Self { sync, flights: Flights::new(), tick: now, sweep: now + SWEEP, leaving: 0 };
        rounds.tick += rounds.period(0.0..1.0);
        rounds
    }

    /// Exchanges everything between this process and the store until no handle is left. Then it reports what is left to
    /// report.
    pub(super) async fn run(mut self, handles: Weak<Handle<BucketSync>>) {
        while handles.strong_count() > 0 {
            self.work().await;
        }
        self.land().await;
        self.report_the_rest().await;
    }

    /// Runs one round: sends what is due, and waits for an answer, for a request, or until something else is due.
    async fn work(&mut self) {
        let now = Instant::now();
        self.sync.health().look(now);
        if self.sweep <= now {
            self.sync.forget_the_idle(now);
            self.sweep = now + SWEEP;
        }
        let ticks = self.tick <= now;
        if ticks {
            self.tick = now + self.period(0.9..1.1);
        }
        let duty = self.duty();
        match duty {
            FlusherDuty::AtOnce => self.leaving = usize::MAX,
            FlusherDuty::EachPeriod if ticks => self.leaving = lock(&self.sync.queue).len(),
            FlusherDuty::EachPeriod => {}
            FlusherDuty::Probe => self.leaving = 0,
        }
        if duty == FlusherDuty::Probe && ticks && self.flights.are_done() {
            // The probe has a key of its own. If the fault lies in one of the keys in use, the store may still serve
            // the others.
            self.send(self.sync.probe(now));
        }
        while self.flights.has_room() {
            let Some(batch) = self.sync.next_batch(now, &mut self.leaving) else { break };
            self.send(batch);
        }
        if let Some(landed) = self.next_landed(self.wake_at(duty)).await {
            let now = Instant::now();
            self.sync.landed(landed, now);
            if duty != FlusherDuty::Probe && self.duty() == FlusherDuty::Probe {
                // (AtOnce | EachPeriod) => Probe
                self.tick = now + self.period(0.9..1.1);
            }
        }
    }

    /// Waits for the batches in flight.
    async fn land(&mut self) {
        while !self.flights.are_done() {
            let landed = poll_fn(|cx| self.flights.poll_next(cx)).await;
            self.sync.landed(landed, Instant::now());
        }
    }

    /// Reports what is left to report, until the store fails to answer.
    async fn report_the_rest(&mut self) {
        while let Some(batch) = self.sync.next_batch(Instant::now(), &mut usize::MAX.clone()) {
            let (batch, answer) = batch.fly(self.sync.store.clone(), self.sync.deadline).await;
            let is_lost = answer.is_err();
            self.sync.landed((batch, answer), Instant::now());
            if is_lost {
                break;
            }
        }
    }

    fn duty(&self) -> FlusherDuty {
        match self.sync.pace {
            _ if self.sync.health().is_down() => FlusherDuty::Probe,
            Pace::AtOnce { .. } => FlusherDuty::AtOnce,
            Pace::Each(_) => FlusherDuty::EachPeriod,
        }
    }

    fn send(&mut self, batch: BucketBatch) {
        self.flights.start(batch.fly(self.sync.store.clone(), self.sync.deadline));
    }

    /// Returns when something is due even if no batch lands and no request comes.
    fn wake_at(&self, duty: FlusherDuty) -> Instant {
        let due = match duty {
            FlusherDuty::AtOnce => self.sweep,
            FlusherDuty::EachPeriod | FlusherDuty::Probe => self.tick.min(self.sweep),
        };
        self.sync.health().decides_from().map_or(due, |from| due.min(from))
    }

    /// Waits for the next batch that lands. Returns `None` at `wake`, or when `hurry` wakes the flusher.
    async fn next_landed(&mut self, wake: Instant) -> Option<Landed> {
        let (mut hurry, mut sleep) = (pin!(self.sync.link().hurry.notified()), pin!(sleep_until(wake)));
        let flights = &mut self.flights;
        poll_fn(|cx| {
            if let Poll::Ready(landed) = flights.poll_next(cx) {
                return Poll::Ready(Some(landed));
            }
            if hurry.as_mut().poll(cx).is_ready() || sleep.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            Poll::Pending
        })
        .await
    }

    /// Returns the period times a random factor from this range, so that processes do not ask at the same time.
    fn period(&self, factor: Range<f64>) -> Duration {
        let factor = self.sync.random.with(|random| random.random_range(factor));
        self.sync.pace.period().mul_f64(factor)
    }
}
