//! The handles of a subject's mechanisms, and their expected readings.

use crate::{subject::PLACES, under_way::UnderWay};
use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Waker},
};
use steadfast::{
    circuit_breaker::{Breaker, BreakerState},
    load_level::{Acquire, Permit, Queue},
    load_shed::Limiter,
    rate_limit::TokenBucket,
    retry::RetryBudget,
};
use tokio::time::Instant;

/// The resources that calls should have spent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// The attempts that reached the service, ended with its readiness error, or panicked. Each spends a token.
    pub reached: u64,
    /// The attempts that succeeded since the circuit was last open. Each spends a probe.
    pub succeeded: usize,
    /// The retries among the attempts in `reached`. Each spends a retry of the budget.
    pub retried: u64,
}

impl Spent {
    pub const NOTHING: Self = Self { reached: 0, succeeded: 0, retried: 0 };

    pub fn reached(reached: u64) -> Self {
        Self { reached, ..Self::NOTHING }
    }

    pub fn succeeded(self, succeeded: usize) -> Self {
        Self { succeeded, ..self }
    }

    pub fn retried(self, retried: u64) -> Self {
        Self { retried, ..self }
    }
}

/// The handles of a subject's mechanisms.
#[derive(Clone, Default)]
pub struct Resources {
    pub limiter: Option<Limiter>,
    pub queue: Option<Queue>,
    /// The number of calls that [`exhaust`](Self::exhaust) lets wait in the queue: the depth of the queue, or none.
    pub line: usize,
    /// The calls by which [`exhaust`](Self::exhaust) takes the places of the queue.
    pub others: Arc<Mutex<Others>>,
    pub breaker: Option<Breaker>,
    pub bucket: Option<TokenBucket>,
    pub budget: Option<RetryBudget>,
    pub under_way: Option<UnderWay>,
}

/// The calls by which [`Resources::exhaust`] takes the places of the queue.
#[derive(Default)]
pub struct Others {
    permits: Vec<Permit>,
    waiting: Vec<Pin<Box<Acquire>>>,
}

/// The readings of the handles.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Held {
    pub in_flight: Option<usize>,
    pub in_service: Option<usize>,
    pub waiting: Option<usize>,
    pub free_probes: Option<usize>,
    pub tokens: Option<u64>,
    pub retries: Option<f64>,
    /// The counts of [`UnderWay`]: calls that have begun and not ended.
    pub under_way: Option<[i64; 2]>,
}

impl Resources {
    /// Reads the handles. The reading makes a tight breaker half-open if its open time has passed.
    pub fn held(&self) -> Held {
        Held {
            in_flight: self.limiter.as_ref().map(Limiter::in_flight),
            in_service: self.queue.as_ref().map(Queue::in_service),
            waiting: self.queue.as_ref().map(|queue| queue.readings().waiting),
            free_probes: self.breaker.as_ref().map(free_probes),
            tokens: self.bucket.as_ref().map(|bucket| bucket.available_at(Instant::now())),
            retries: self.budget.as_ref().map(RetryBudget::balance),
            under_way: self.under_way.as_ref().map(UnderWay::counts),
        }
    }

    /// Reads everything that the handles offer, at this instant if the method takes one. Also asks a bucket for more
    /// than its burst, which the bucket must refuse.
    pub fn read_at(&self, instant: Instant) {
        if let Some(limiter) = &self.limiter {
            let _ = (limiter.configuration(), limiter.in_flight(), limiter.refused());
        }
        if let Some(queue) = &self.queue {
            let _ = (queue.configuration(), queue.readings_at(instant));
        }
        if let Some(breaker) = &self.breaker {
            let _ = (breaker.state(), breaker.half_open_at(), breaker.free_probes(), breaker.configuration());
            let _ = (breaker.counts_at(instant), breaker.slow_counts_at(instant));
        }
        if let Some(bucket) = &self.bucket {
            let _ = (bucket.available_at(instant), bucket.quota(), bucket.waiting());
            assert!(bucket.try_acquire_at(u64::MAX, instant).is_err());
        }
        if let Some(budget) = &self.budget {
            let _ = (budget.balance(), budget.configuration());
        }
    }

    /// Returns the expected readings when no call is in flight in a tight subject.
    pub fn held_after(&self, spent: Spent) -> Held {
        Held {
            in_flight: self.limiter.as_ref().map(|_| 0),
            in_service: self.queue.as_ref().map(|_| 0),
            waiting: self.queue.as_ref().map(|_| 0),
            free_probes: self.breaker.as_ref().map(|_| PLACES - spent.succeeded),
            tokens: self.bucket.as_ref().map(|_| PLACES as u64 - spent.reached),
            retries: self.budget.as_ref().map(|_| (PLACES as u64 - spent.retried) as f64),
            under_way: self.under_way.as_ref().map(|_| [0, 0]),
        }
    }

    /// Returns the number of calls that a tight subject admits at once after `spent`.
    pub fn free_places(&self, spent: Spent) -> usize {
        let probes = if self.breaker.is_some() { PLACES - spent.succeeded } else { PLACES };
        let tokens = if self.bucket.is_some() { PLACES - spent.reached as usize } else { PLACES };
        probes.min(tokens)
    }

    /// Returns the mechanisms that can be exhausted, from the innermost layer outwards.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        let load_level = self.queue.is_some().then_some("load_level");
        let load_shed = self.limiter.is_some().then_some("load_shed");
        let rate_limit = self.bucket.is_some().then_some("rate_limit");
        let circuit_breaker = self.breaker.is_some().then_some("circuit_breaker");
        load_level.into_iter().chain(load_shed).chain(rate_limit).chain(circuit_breaker)
    }

    /// Makes this mechanism refuse all calls from here on, or let them wait.
    pub fn exhaust(&self, mechanism: &str) {
        match (mechanism, self) {
            ("load_shed", Self { limiter: Some(limiter), .. }) => {
                while let Ok(permit) = limiter.try_acquire() {
                    std::mem::forget(permit);
                }
            }
            ("load_level", Self { queue: Some(queue), .. }) => {
                let mut others = self.others.lock().unwrap();
                others.permits.extend(std::iter::from_fn(|| queue.try_acquire()));
                for _ in 0..self.line {
                    let mut waiting = Box::pin(queue.acquire());
                    // Other calls may have the wait places already. The queue then refuses this one.
                    if waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
                        others.waiting.push(waiting);
                    }
                }
            }
            ("rate_limit", Self { bucket: Some(bucket), .. }) => while bucket.try_acquire(1).is_ok() {},
            ("circuit_breaker", Self { breaker: Some(breaker), .. }) => breaker.force_open(),
            _ => panic!("no {mechanism} here"),
        }
    }
}

impl Resources {
    /// Returns one of the places in the service that [`exhaust`](Self::exhaust) took.
    pub fn one_leaves(&self) {
        let permit = self.others.lock().unwrap().permits.pop();
        assert!(permit.is_some());
    }

    /// Returns all of these places.
    pub fn all_leave(&self) {
        self.others.lock().unwrap().permits.clear();
    }
}

/// Returns the number of probes that the breaker would admit now, or one more than [`PLACES`] if it is closed.
fn free_probes(breaker: &Breaker) -> usize {
    if breaker.state() == BreakerState::ForcedOpen {
        return 0;
    }
    (0..=PLACES).map_while(|_| breaker.try_acquire().ok()).collect::<Vec<_>>().len()
}
