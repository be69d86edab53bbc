use crate::rate_limit::Quota;

/// How a process decides while the store does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnOutage {
    /// This process's fair share of the limit: the part that it had of all that was admitted in the four seconds
    /// before. A key without such a part gets one part of the number of [processes] that are expected. The share stays
    /// for the whole outage. All shares together are about the limit.
    ///
    /// [processes]: super::ExactBuilder::processes
    #[default]
    FairShare,
    /// The whole limit, from the last known state on, by each process for itself. All together admit up to N times the
    /// limit, where N is the number of processes.
    LastKnown,
    /// Everything is admitted, and reported to the store later.
    Open,
    /// Everything is refused.
    Closed,
    /// A quota of each process's own, for each key: N processes admit N times as much.
    Local(Quota),
}

/// The number of an outage of one limit's store, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outage(pub(crate) u64);
