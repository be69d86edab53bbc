use super::{
    charge::{Charge, Charged},
    demand::{Demand, Settled},
    error::StoreError,
};
use std::{future::Future, pin::Pin, time::Duration};

/// Keeps the state of limits that many processes share.
///
/// There are two kinds of state: a bucket for each key of [`Exact`](crate::rate_limit::distributed::Exact) and
/// [`WriteBehind`](crate::rate_limit::distributed::WriteBehind), and a window for each key of
/// [`Leased`](crate::rate_limit::distributed::Leased). They are independent, even under the same key. One call carries
/// a batch of at most [`LARGEST_BATCH`] different keys. The store answers for each key, in the order of the batch. The
/// caller may drop a future at any time.
///
/// [`Embedded`](crate::rate_limit::distributed::Embedded) is a store in memory, for one process. `Redis`, with the
/// feature `redis`, is a store for many processes. The conformance suite (feature `conformance`) checks a store of your
/// own.
///
/// # Rules for a store of your own
///
/// - The steps for one key are atomic: no other charge or demand for that key comes in between.
/// - All times are by the store's own clock. [`Charge`] and [`Demand`] list the steps and their order.
/// - Numbers may be as large as `u64::MAX`. Sums saturate; none may wrap around or panic.
/// - A store may forget a key without state. A bucket has no state once its level and its debt have been zero for a
///   second. A window has no state once no spend is counted and no process is known. Such a key is new when it comes
///   again.
/// - For a bucket the store remembers the last sequence of at least 64 processes, the most recent ones. A repeated
///   charge of any other process may count twice, which errs on the safe side.
pub trait Store: Send + Sync + 'static {
    /// Counts what was spent of these buckets, and grants what is wanted. [`Charge`] lists the steps.
    fn charge<'a>(&'a self, charges: &'a [Charge]) -> Answering<'a, Charged>;

    /// Settles these windows: counts what was spent and when, and grants what is wanted. [`Demand`] lists the steps.
    ///
    /// A demand may come again if its answer was lost. The store then counts nothing twice and grants nothing.
    fn settle<'a>(&'a self, demands: &'a [Demand]) -> Answering<'a, Settled>;

    /// Returns the longest time from the end of an outage until every process gets answers again. If processes
    /// reconnect by themselves, it is the longest pause before an attempt, plus the time of the attempt. In this time,
    /// and until the processes have reported what they spent in the outage, no process takes tokens from the store.
    /// Otherwise the store could grant tokens that other processes have already spent. Default: zero.
    fn returns_within(&self) -> Duration {
        Duration::ZERO
    }

    /// Returns a sentence for an operator about a property of the store that lets limits admit too much. An example is
    /// a server that may evict keys. The sentence only shows in
    /// [`StoreHealth::concern`](crate::rate_limit::distributed::StoreHealth::concern). Each call of `readings` reads
    /// it, so this method must return at once. Default: `None`, no such property is known.
    fn concern(&self) -> Option<String> {
        None
    }
}

/// The answers of a [`Store`] to a batch, in the order of the batch.
pub type Answering<'a, Answer> = Pin<Box<dyn Future<Output = Result<Vec<Answer>, StoreError>> + Send + 'a>>;

/// The most keys of a batch.
pub const LARGEST_BATCH: usize = 64;
