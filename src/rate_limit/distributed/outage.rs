use crate::rate_limit::Quota;

/// How a process decides while the store does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnOutage {
    /// This process keeps to its fair share of the limit. The share stays constant for the whole outage. All shares
    /// together are about the whole limit.
    ///
    /// - [`Exact`](super::Exact) and [`WriteBehind`](super::WriteBehind): the process's part of all tokens that were
    ///   admitted in the four seconds before the outage. For a key without such a part, one divided by the expected
    ///   number of [processes](super::ExactBuilder::processes).
    /// - [`Leased`](super::Leased): the tokens that the process held, and those that it had spent in the last window.
    #[default]
    FairShare,
    /// Each process applies the whole limit by itself, from the last known state on. N processes together admit up to N
    /// times the limit. With [`Leased`](super::Leased) it does the same as [`FairShare`](Self::FairShare).
    LastKnown,
    /// Admits every call, and reports it to the store later. Two refusals remain: a cost that the limit can never
    /// admit, such as more than the burst, and a key that is too long.
    Open,
    /// Refuses every call that costs at least one token.
    Closed,
    /// Applies this quota in each process, for each key. N processes admit N times the quota.
    Local(Quota),
}

/// The number of an outage of one limit's store, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outage(pub(crate) u64);
