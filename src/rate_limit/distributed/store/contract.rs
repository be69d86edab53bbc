use super::{
    charge::{Charge, Charged},
    demand::{Demand, Settled},
    error::StoreError,
};
use std::{future::Future, pin::Pin, time::Duration};

/// Where the state of limits is kept that many processes share.
///
/// There are two kinds of state: a bucket for each key of [`Exact`](crate::rate_limit::distributed::Exact) and
/// [`WriteBehind`](crate::rate_limit::distributed::WriteBehind), and a window for each key of
/// [`Leased`](crate::rate_limit::distributed::Leased). They have nothing to do with each other, even under the same
/// key. One call is about a batch of at most [`LARGEST_BATCH`] keys, each by itself, all different. It answers for each
/// key in the same order. The caller may drop a future at any time.
///
/// [`Embedded`](crate::rate_limit::distributed::Embedded) is a store in memory, for one process. Redis, with the
/// feature `redis`, is one for many processes. The conformance suite checks a store of your own (feature
/// `conformance`).
///
/// # Rules for a store of your own
///
/// - The steps for one key are atomic: no other charge or demand for that key comes in between.
/// - All times are by the store's own clock. [`Charge`] and [`Demand`] list the steps and their order.
/// - Numbers may be as large as `u64::MAX`. Sums saturate; none may wrap around or panic.
/// - A store may forget a key that has nothing to remember. A bucket has nothing once its level and its debt have been
///   zero for a second. A window has nothing once no spend is counted and no process is known. A key that comes after
///   that is new.
/// - For a bucket the store remembers the last sequence of at least 64 processes, the most recent ones. A charge that
///   comes again from any other process may count twice, which errs on the safe side.
pub trait Store: Send + Sync + 'static {
    /// Counts what was spent of these buckets, and grants what is wanted of them. [`Charge`] lists the steps.
    fn charge<'a>(&'a self, charges: &'a [Charge]) -> Answering<'a, Charged>;

    /// Settles these windows: counts what was spent and when, and grants what is wanted. [`Demand`] lists the steps.
    ///
    /// A demand that the store has seen may come again, since its answer was lost. The store then counts nothing of it
    /// twice and grants nothing.
    fn settle<'a>(&'a self, demands: &'a [Demand]) -> Answering<'a, Settled>;

    /// The longest time from the end of an outage until every process that asks is answered again. Where processes
    /// connect again by themselves, it is the longest pause before they try. Until it is over, and the processes have
    /// reported what they spent in the outage, no process takes tokens that others may have spent. Default: no time.
    fn returns_within(&self) -> Duration {
        Duration::ZERO
    }

    /// A sentence for an operator about a property of the store that lets limits admit too much, such as a server that
    /// may evict keys. [`StoreHealth::concern`](crate::rate_limit::distributed::StoreHealth::concern) shows it, and
    /// nothing else depends on it. It is read with each call of `readings`, so it must return at once. Default: `None`,
    /// no such property is known.
    fn concern(&self) -> Option<String> {
        None
    }
}

/// The answer of a [`Store`].
pub type Answering<'a, Answer> = Pin<Box<dyn Future<Output = Result<Vec<Answer>, StoreError>> + Send + 'a>>;

/// The most keys of a batch.
pub const LARGEST_BATCH: usize = 64;
