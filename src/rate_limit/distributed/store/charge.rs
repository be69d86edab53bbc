use crate::rate_limit::Quota;
use std::{sync::Arc, time::Duration};

/// The spends and the wants of one process, for the bucket of one key.
///
/// The bucket's level is what was spent and has not drained yet. It drains at the rate of the quota by the store's
/// clock; the bucket of a key that the store does not know is empty. Beside the level there may be a debt. While there
/// is one, two fifths of the rate repay it and three fifths drain the level. The part of the rate that the level does
/// not need repays the debt as well. In this order the store
///
/// 1. drains level and debt for the time since the last charge, at the rate of the last charge's quota. A clock that
///    went back drains nothing, and draining goes on from the time that it shows. From here on the new quota is in
///    force;
/// 2. if its total is less than that of the hint, takes the hint's total, and raises the level to the hint's level,
///    less what has drained since [`Hint::at`]. The level stays where it is higher, and the hint raises it to the burst
///    and `max_debt` at most. The debt stays;
/// 3. lowers the level by the refund, less what has drained since `refund_of`. The total stays;
/// 4. where the sequence is new, counts `spent`, and adds all of it to the total. The level takes `spent - late`, and
///    may rise above the burst by that, to the burst and `max_debt` at most. Of `late` the level takes what fits below
///    the burst. The rest is added to the debt, while both together are at most the burst and `max_debt`. The part
///    beyond that is forgiven;
/// 5. grants as much of `want` as fits below the burst, in whole tokens, or nothing if that is less than `least`. The
///    grant is added to the level and to the total.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// The key, with its namespace: at most [`LONGEST_NAME`](super::LONGEST_NAME) bytes.
    pub key: Arc<[u8]>,
    /// The rate and the burst, which the limit has checked. The next charge may bring another quota.
    pub quota: Quota,
    /// The number of the process that sends this. No other process has it.
    pub client: u64,
    /// Rises, with gaps, from one charge of this process for this key to the next in which something was spent. It is
    /// at least 1 there. A charge whose sequence is not above the last one has come before, and the store does not
    /// count its `spent` again. Where `spent` is zero the sequence means nothing, and the store does not remember it.
    pub sequence: u64,
    /// The tokens that the process admitted without asking, since its last charge with a lower sequence.
    pub spent: u64,
    /// The part of `spent` that was admitted because the store did not answer, and that has not drained since. It takes
    /// room below the burst only: beyond that it is a debt.
    pub late: u64,
    /// The most tokens that may be owed beyond the burst. The store forgives what is spent beyond that.
    pub max_debt: u64,
    /// The tokens that were granted and not used.
    pub refund: u64,
    /// When the first of the refund was granted, by [`Charged::at`]. The part that has drained since is not taken back.
    pub refund_of: Duration,
    /// How many tokens the process wants. Zero where it only reports.
    pub want: u64,
    /// The process can use no fewer tokens than this.
    pub least: u64,
    /// The last state that the process knows. If the store's total is lower, the store has lost its data.
    pub hint: Hint,
}

impl Charge {
    /// A charge of this process that tells nothing, and wants `tokens`, all or none.
    pub(crate) fn that_wants(tokens: u64, key: Arc<[u8]>, quota: Quota, client: u64) -> Self {
        Self {
            key,
            quota,
            client,
            sequence: 0,
            spent: 0,
            late: 0,
            max_debt: 0,
            refund: 0,
            refund_of: Duration::ZERO,
            want: tokens,
            least: tokens,
            hint: Hint::default(),
        }
    }
}

/// The state of a bucket as one process knows it, from the last answer of the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hint {
    /// The level, less what has drained since.
    pub level: u64,
    /// The time of this level, by the store's clock. The store takes off what drains after it, since a charge can
    /// arrive long after it was sent.
    pub at: Duration,
    /// The highest total that the store ever answered to this process.
    pub total: u64,
}

/// The answer of a store to a [`Charge`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Charged {
    /// The tokens that the process may spend.
    pub granted: u64,
    /// The level after the grant, in whole tokens, rounded up.
    pub level: u64,
    /// The debt beside the level, in whole tokens, rounded up.
    pub debt: u64,
    /// All tokens ever counted or granted, forgiven ones included. A refund does not lower it. It goes back only where
    /// the store loses its data.
    pub total: u64,
    /// Where nothing was granted: the time until there is room for `least`, if no other process takes it. A debt makes
    /// it longer, since three fifths of the rate make room while there is one. Zero where something was granted.
    pub retry_after: Duration,
    /// The time of the charge by the store's clock, counted from any fixed time.
    pub at: Duration,
}
