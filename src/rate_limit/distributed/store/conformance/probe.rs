use super::{
    super::{Answering, Charge, Charged, Demand, Settled, Store},
    report::Failure,
};
use crate::rate_limit::Quota;
use std::{
    fmt::Debug,
    ops::{Deref, RangeInclusive},
    sync::Arc,
    time::Duration,
};
use tokio::time::{Instant, timeout};

/// The result of a check.
pub(super) type Outcome = Result<(), Failure>;

/// The store as one check sees it, with keys that no other check uses.
pub(super) struct Probe<'a> {
    store: &'a dyn Store,
    prefix: String,
}

/// An answer of the store, and bounds of the time at which the store made it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer<T> {
    answer: T,
    /// The store made the answer after this time.
    pub(super) asked: Instant,
    /// The store made the answer before this time.
    pub(super) answered: Instant,
}

/// The least and the most time that can have passed between two answers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passed {
    pub(super) least: Duration,
    pub(super) most: Duration,
}

/// The resolution of the coarsest clock that a store may have.
pub(super) const TICK: Duration = Duration::from_millis(1);

/// A store that takes longer than this counts as one that does not answer.
const PATIENCE: Duration = Duration::from_secs(5);

impl<'a> Probe<'a> {
    pub(super) fn new(store: &'a dyn Store, prefix: String) -> Self {
        Self { store, prefix }
    }

    /// Returns a key of this check.
    pub(super) fn key(&self, name: impl AsRef<[u8]>) -> Arc<[u8]> {
        [self.prefix.as_bytes(), name.as_ref()].concat().into()
    }

    /// Returns a charge of client 1, which reports nothing and wants nothing.
    pub(super) fn charge_of(&self, quota: Quota) -> Charge {
        Charge { least: 1, ..Charge::that_wants(0, self.key("key"), quota, 1) }
    }

    /// Sends one charge, and returns its answer.
    pub(super) async fn charge(&self, charge: Charge) -> Result<Answer<Charged>, Failure> {
        let all = self.charge_all(&[charge]).await?;
        Ok(Answer { answer: all[0], asked: all.asked, answered: all.answered })
    }

    /// Sends a batch of charges. Returns one answer for each.
    pub(super) async fn charge_all(&self, charges: &[Charge]) -> Result<Answer<Vec<Charged>>, Failure> {
        ask(|| self.store.charge(charges), charges.len()).await
    }

    /// Sends one demand, and returns its answer.
    pub(super) async fn settle(&self, demand: Demand) -> Result<Answer<Settled>, Failure> {
        let all = self.settle_all(&[demand]).await?;
        Ok(Answer { answer: all[0], asked: all.asked, answered: all.answered })
    }

    /// Sends a batch of demands. Returns one answer for each.
    pub(super) async fn settle_all(&self, demands: &[Demand]) -> Result<Answer<Vec<Settled>>, Failure> {
        ask(|| self.store.settle(demands), demands.len()).await
    }
}

async fn ask<'a, T>(ask: impl FnOnce() -> Answering<'a, T>, count: usize) -> Result<Answer<Vec<T>>, Failure> {
    // A store may make its answer before the answer is awaited.
    let asked = Instant::now();
    let answer = match timeout(PATIENCE, ask()).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(Failure::new("a batch", "an answer", error)),
        Err(_) => return Err(Failure::new("a batch", "an answer", format!("nothing for {PATIENCE:?}"))),
    };
    same("answers to a batch", count, answer.len())?;
    Ok(Answer { answer, asked, answered: Instant::now() })
}

impl<T> Answer<T> {
    /// Returns the time that passed since an earlier answer was made.
    pub(super) fn since<U>(&self, earlier: &Answer<U>) -> Passed {
        Passed {
            least: self.asked.saturating_duration_since(earlier.answered).saturating_sub(TICK),
            most: self.answered.saturating_duration_since(earlier.asked) + TICK,
        }
    }
}

impl<T> Deref for Answer<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.answer
    }
}

impl Passed {
    /// Returns the whole tokens that drain in the least time, and those in the most time, rounded up.
    pub(super) fn drains(&self, quota: Quota) -> (u64, u64) {
        let parts = |time: Duration| time.as_nanos() * u128::from(quota.count());
        let period = quota.period().as_nanos();
        ((parts(self.least) / period) as u64, parts(self.most).div_ceil(period) as u64)
    }
}

/// Returns a quota of which next to nothing drains while the suite runs.
pub(super) fn slow(burst: u64) -> Quota {
    Quota::new(1, Duration::from_secs(3600)).with_burst(burst)
}

pub(super) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Passes if the answer is the expected one.
pub(super) fn same<T: PartialEq + Debug>(what: &str, expected: T, answered: T) -> Outcome {
    if expected == answered {
        return Ok(());
    }
    Err(Failure::new(what, format_args!("{expected:?}"), format_args!("{answered:?}")))
}

/// Passes if the answer is in the expected range.
pub(super) fn within<T: PartialOrd + Debug>(what: &str, expected: RangeInclusive<T>, answered: T) -> Outcome {
    if expected.contains(&answered) {
        return Ok(());
    }
    let (least, most) = expected.into_inner();
    Err(Failure::new(what, format_args!("{least:?} to {most:?}"), format_args!("{answered:?}")))
}
