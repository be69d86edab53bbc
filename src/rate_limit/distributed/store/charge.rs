use crate::rate_limit::Quota;
use std::{sync::Arc, time::Duration};

/// A request of one process about the bucket of one key: its spends, and the tokens that it wants.
///
/// The bucket's level is the number of spent tokens that have not drained. It drains at the rate of the quota by the
/// store's clock. The bucket of an unknown key is empty. Beside the level there may be a debt. While there is a debt,
/// two fifths of the rate repay it and three fifths drain the level. The part of the rate that the level does not need
/// repays the debt as well. The store takes these steps in order:
///
/// 1. It drains level and debt for the time since the last charge, at the rate of the last charge's quota. If the clock
///    went back, nothing drains, and draining continues from the time that the clock shows. From here on the new quota
///    applies.
/// 2. If its total is less than the total of the hint, it takes the hint's total. It raises the level to the hint's
///    level, of which at most the burst plus `max_debt` counts, less what has drained since [`Hint::at`]. A higher
///    level stays, and so does the debt.
/// 3. It lowers the level by the refund, less what has drained since `refund_of`. The total stays.
/// 4. If the sequence is new, it counts `spent`, and adds all of it to the total. It adds `spent - late` to the level,
///    which may rise above the burst, at most to the burst plus `max_debt`. Then it adds `late`: the part that fits
///    below the burst to the level, and the rest to the debt. Level and debt together rise at most to the burst plus
///    `max_debt`. Any tokens beyond that are forgiven.
/// 5. It grants as much of `want` as fits below the burst, in whole tokens, or nothing if that is less than `least`. It
///    adds the grant to the level and to the total.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// The key, with its namespace: at most [`LONGEST_NAME`](super::LONGEST_NAME) bytes.
    pub key: Arc<[u8]>,
    /// The rate and the burst, which the limit has checked. The next charge may have another quota.
    pub quota: Quota,
    /// The number of the process that sends this charge. It is unique to that process.
    pub client: u64,
    /// The number of a charge that reports spends. It is at least 1. Each new report of a process for a key has a
    /// higher number than the report before, with gaps. A charge whose sequence is not above the last one of its
    /// process is late or a repetition. The store does not count its `spent`. If `spent` is zero, the sequence has no
    /// meaning, and the store does not remember it.
    pub sequence: u64,
    /// The tokens that the process admitted without a grant, since its last charge with a lower sequence.
    pub spent: u64,
    /// The part of `spent` that the process admitted in an outage, and that has not drained since. It takes room below
    /// the burst only; the rest becomes a debt.
    pub late: u64,
    /// The most tokens that may be owed beyond the burst. The store forgives spends beyond that.
    pub max_debt: u64,
    /// The tokens that were granted and not used.
    pub refund: u64,
    /// The time of the earliest grant in the refund, from [`Charged::at`]. Tokens that have drained since that time are
    /// not taken back.
    pub refund_of: Duration,
    /// The tokens that the process wants. Zero if it only reports.
    pub want: u64,
    /// The fewest tokens that the process can use. If there is room for fewer, the store grants none.
    pub least: u64,
    /// The last state that the process knows. If the total of the store is lower, the store has lost its data or has
    /// forgotten an empty bucket.
    pub hint: Hint,
}

impl Charge {
    /// Returns a charge that reports nothing and wants `tokens`, all or none.
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

/// The state of a bucket as one process knows it from the last answer of the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hint {
    /// The level of the last answer, less what has drained until the process sent this hint.
    pub level: u64,
    /// The time at which the process sent this hint, by the store's clock. The store subtracts what drains after this
    /// time, since a charge can arrive long after it was sent.
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
    /// All tokens ever counted or granted, forgiven ones included. A refund does not lower it. It only falls if the
    /// store loses its data or forgets an empty bucket.
    pub total: u64,
    /// If nothing was granted, the time until there is room for `least`, if no other process takes it. A debt makes
    /// this time longer, since then only three fifths of the rate make room. Zero if something was granted.
    pub retry_after: Duration,
    /// The time of the charge by the store's clock, counted from any fixed time.
    pub at: Duration,
}
