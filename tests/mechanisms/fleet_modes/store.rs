//! A store that can be slow, fail, hang, give wrong answers and panic, and that records its calls.

use crate::support::{fleet, ms};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use std::{
    future::pending,
    sync::{Arc, Mutex, MutexGuard},
};
use steadfast::rate_limit::{
    Quota,
    distributed::{Answering, Charge, Charged, Demand, Embedded, Settled, Store, StoreError, StoreErrorKind},
};
use tokio::{
    spawn,
    time::{Instant, sleep},
};

/// The reaction of a [`Fickle`] store to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Answers,
    Fails,
    /// Does nothing, and never answers.
    Hangs,
    /// Does its work, and never answers.
    IsNotHeard,
    /// Does its work once the mode changes, as a stopped server does when it continues, and never answers.
    IsStopped,
    /// Leaves out the last answer.
    AnswersTooFew,
    Panics,
}

/// An [`Embedded`] store at the end of a slow connection. A call arrives even if its caller has gone. Clones are the
/// same store.
#[derive(Clone)]
pub struct Fickle {
    pub inner: Embedded,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    mode: Mode,
    /// The percentage of calls whose answers are lost.
    lost_percent: u32,
    /// The least and the most milliseconds of a call.
    latency: (u64, u64),
    random: SmallRng,
    under_way: usize,
    most_under_way: usize,
    calls: Vec<(Instant, Vec<Charge>)>,
    granted: u64,
}

impl Fickle {
    /// Returns a store that answers at once.
    pub fn new() -> Self {
        Self::slow(0, 0)
    }

    /// Returns a store whose calls take from `least` to `most` milliseconds there and back.
    pub fn slow(least: u64, most: u64) -> Self {
        let shared = Shared {
            mode: Mode::Answers,
            lost_percent: 0,
            latency: (least, most),
            random: SmallRng::seed_from_u64(7),
            under_way: 0,
            most_under_way: 0,
            calls: Vec::new(),
            granted: 0,
        };
        Self { inner: Embedded::new(), shared: Arc::new(Mutex::new(shared)) }
    }

    /// Loses the answers of this percentage of calls.
    pub fn losing(self, percent: u32) -> Self {
        self.locked().lost_percent = percent;
        self
    }

    pub fn becomes(&self, mode: Mode) {
        self.locked().mode = mode;
    }

    pub fn becomes_slow(&self, least: u64, most: u64) {
        self.locked().latency = (least, most);
    }

    /// Returns the number of calls for buckets.
    pub fn calls(&self) -> usize {
        self.locked().calls.len()
    }

    /// Returns the time and the charges of each call.
    pub fn batches(&self) -> Vec<(Instant, Vec<Charge>)> {
        self.locked().calls.clone()
    }

    /// Returns the most calls that were in flight at once.
    pub fn most_under_way(&self) -> usize {
        self.locked().most_under_way
    }

    /// Returns all tokens that the store ever granted.
    pub fn granted(&self) -> u64 {
        self.locked().granted
    }

    /// Returns how many tokens of this key are free, without taking any.
    pub fn free(&self, key: &[u8], quota: Quota) -> u64 {
        quota.burst().saturating_sub(self.look(key, quota, 0).level)
    }

    /// Asks the store for `want` tokens, which takes them if they are granted.
    pub fn look(&self, key: &[u8], quota: Quota, want: u64) -> Charged {
        // The name of the key for a limit without a namespace.
        let name = [b"0::", key].concat();
        let charge = Charge { client: 0, max_debt: 1 << 55, ..fleet::want(name, quota, want) };
        self.inner.charge_at(&[charge], Instant::now())[0]
    }

    fn locked(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Makes one call: the way to the store, the work there, and the way back.
    async fn travel<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Embedded) -> Vec<T> + Send + 'static,
    ) -> Result<Vec<T>, StoreError> {
        let (mode, there, back, _under_way) = {
            let mut shared = self.locked();
            let (least, most) = shared.latency;
            let all = shared.random.random_range(least..=most);
            let there = shared.random.random_range(0..=all);
            let is_lost = shared.random.random_range(0..100) < shared.lost_percent;
            shared.under_way += 1;
            shared.most_under_way = shared.most_under_way.max(shared.under_way);
            let mode = if is_lost && shared.mode == Mode::Answers { Mode::IsNotHeard } else { shared.mode };
            (mode, there, all - there, UnderWay(self.clone()))
        };
        match mode {
            Mode::Panics => panic!("as the test asked for"),
            Mode::Hangs => return pending().await,
            Mode::Fails => {
                sleep_ms(there).await;
                return Err(StoreError::new(StoreErrorKind::Refused, "as the test asked for"));
            }
            Mode::IsStopped => {
                let this = self.clone();
                spawn(async move {
                    while this.locked().mode == Mode::IsStopped {
                        sleep(ms(1)).await;
                    }
                    work(&this.inner);
                });
                return pending().await;
            }
            Mode::Answers | Mode::IsNotHeard | Mode::AnswersTooFew => {}
        }
        let inner = self.inner.clone();
        let mut answers = if there == 0 {
            work(&inner)
        } else {
            let arrives = spawn(async move {
                sleep_ms(there).await;
                work(&inner)
            });
            arrives.await.unwrap()
        };
        sleep_ms(back).await;
        match mode {
            Mode::IsNotHeard => pending().await,
            Mode::AnswersTooFew => drop(answers.pop()),
            _ => {}
        }
        Ok(answers)
    }
}

async fn sleep_ms(millis: u64) {
    if millis > 0 {
        sleep(ms(millis)).await;
    }
}

struct UnderWay(Fickle);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.locked().under_way -= 1;
    }
}

impl Store for Fickle {
    fn charge<'a>(&'a self, charges: &'a [Charge]) -> Answering<'a, Charged> {
        let charges = charges.to_vec();
        self.locked().calls.push((Instant::now(), charges.clone()));
        let shared = self.shared.clone();
        Box::pin(self.travel(move |inner| {
            let charged = inner.charge_at(&charges, Instant::now());
            shared.lock().unwrap().granted += charged.iter().map(|charged| charged.granted).sum::<u64>();
            charged
        }))
    }

    fn settle<'a>(&'a self, demands: &'a [Demand]) -> Answering<'a, Settled> {
        let demands = demands.to_vec();
        Box::pin(self.travel(move |inner| inner.settle_at(&demands, Instant::now())))
    }
}
