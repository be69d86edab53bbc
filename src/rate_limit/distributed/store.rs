use crate::rate_limit::Quota;
use std::{
    fmt,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};
use thiserror::Error as ThisError;
use tokio::time::timeout;

/// Where the state of limits is kept that many processes share.
///
/// There are two kinds of state: a bucket for each key of [`Exact`](super::Exact) and
/// [`WriteBehind`](super::WriteBehind), and a window for each key of [`Leased`](super::Leased). They have nothing to do
/// with each other, even under the same key. One call is about a batch of at most [`LARGEST_BATCH`] keys, each by
/// itself, all different. It answers for each key in the same order. The caller may drop a future at any time.
///
/// [`Embedded`](super::Embedded) is a store in memory, for one process. Redis, with the feature `redis`, is one for
/// many processes. The conformance suite checks a store of your own (feature `conformance`).
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
    /// may evict keys. [`StoreHealth::concern`](super::StoreHealth::concern) shows it, and nothing else depends on it.
    /// It is read with each call of `readings`, so it must return at once. Default: `None`, no such property is known.
    fn concern(&self) -> Option<String> {
        None
    }
}

/// The answer of a [`Store`].
pub type Answering<'a, Answer> = Pin<Box<dyn Future<Output = Result<Vec<Answer>, StoreError>> + Send + 'a>>;

/// The most keys of a batch.
pub const LARGEST_BATCH: usize = 64;

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
    /// The key, with its namespace: at most [`LONGEST_NAME`] bytes.
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

/// The spends, the holdings and the wants of one process, for the window of one key.
///
/// For each key the store keeps the tokens spent and when, the tokens that each process holds, and a total of all that
/// was spent. A clock that went back counts as the latest time that it has shown. In this order the store
///
/// 1. forgets the spends of more than a window ago. It may keep them by fortieths of the window: a spend then counts
///    until a window after the end of its fortieth;
/// 2. counts as spent now what a process holds that was last heard of more than two windows ago, and forgets that
///    process;
/// 3. compares totals, before it counts anything of this demand, even of one that it then ignores. If its own is less
///    than the demand's, data were lost. The store takes the demand's total and answers [`lost`](Settled::lost). For a
///    window from now it grants nothing to any process. A further loss within that window does not extend it;
/// 4. ignores a demand whose sequence is not above the last one of this process. The answer then grants nothing, and
///    nothing is free;
/// 5. counts as new the difference of `spent` to that of this process's last demand, or all of it where the process is
///    not known. It counts the new tokens at the times in `spends`, the latest first, and adds them to the total. New
///    tokens beyond those in `spends` are older than a window and count for nothing;
/// 6. grants as much of `want` as is free, and nothing while data are lost. Free is the limit, less the spends that
///    still count and all that processes hold; for this process that is `held`. The grant is then held too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// The key, with its namespace: at most [`LONGEST_NAME`] bytes.
    pub key: Arc<[u8]>,
    /// The most tokens that are spent in any window.
    pub limit: u64,
    /// The length of the window.
    pub window: Duration,
    /// The number of the process that sends this. No other process has it.
    pub client: u64,
    /// Counts the demands of this process for this key, from 1. One that is not above the last one was overtaken, or
    /// has come before, and is ignored.
    pub sequence: u64,
    /// All tokens that this process ever spent of this key.
    pub spent: u64,
    /// All spends of this process in the last window, the latest first: how long ago, and how many tokens.
    pub spends: Vec<(Duration, u64)>,
    /// The tokens that this process still holds and may spend. It takes the place of what the store knew of.
    pub held: u64,
    /// How many more tokens the process wants.
    pub want: u64,
    /// The highest total that the store answered to this process, or 0 after two windows without an answer.
    pub total: u64,
}

/// The answer of a store to a [`Demand`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// The tokens that the process may spend beyond those that it holds.
    pub granted: u64,
    /// The tokens of the limit that are neither spent in this window nor held, after this grant. Zero for a window
    /// after data were lost, and in the answer to a demand that is ignored.
    pub free: u64,
    /// All tokens that the store ever counted as spent for this key. Held tokens are not in it.
    pub total: u64,
    /// This demand has shown that data were lost. Other processes may hold tokens, or have spent some, that the store
    /// does not know of yet. False in later answers, although nothing is granted for a window.
    pub lost: bool,
}

/// The longest key with its namespace, in bytes.
pub const LONGEST_NAME: usize = LONGEST_KEY + 68;

/// The longest key, in bytes.
pub const LONGEST_KEY: usize = 1024;

/// Why a store did not answer a batch. It may have counted a part of it, so the limit sends all of it again.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("the store of rate limits {kind}: {detail}")]
pub struct StoreError {
    kind: StoreErrorKind,
    detail: String,
}

/// The kind of a [`StoreError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// It does not answer, or not in time.
    Unreachable,
    /// It answers that it cannot: it is loading, full, or may only be read.
    Refused,
    /// It answers what no such store would.
    Incomprehensible,
}

/// Asks a store, for so long, and takes what is no answer for an error: a panic, or fewer answers than questions.
pub(super) async fn ask<'a, Answer>(
    call: impl FnOnce() -> Answering<'a, Answer>,
    questions: usize,
    patience: Duration,
) -> Result<Vec<Answer>, StoreError> {
    let panicked = || StoreError::new(StoreErrorKind::Incomprehensible, "it panicked");
    // A store that panicked is asked again: what it leaves behind is for its own locks to say.
    let mut answering = catch_unwind(AssertUnwindSafe(call)).map_err(|_| panicked())?;
    let answer = poll_fn(|cx| {
        catch_unwind(AssertUnwindSafe(|| answering.as_mut().poll(cx))).unwrap_or_else(|_| Poll::Ready(Err(panicked())))
    });
    match timeout(patience, answer).await {
        Ok(Ok(answers)) if answers.len() != questions => {
            let detail = format_args!("{} answers to {questions} questions", answers.len());
            Err(StoreError::new(StoreErrorKind::Incomprehensible, detail))
        }
        Ok(answer) => answer,
        Err(_) => Err(StoreError::new(StoreErrorKind::Unreachable, format_args!("no answer in {patience:?}"))),
    }
}

impl StoreError {
    /// An error of this kind, with the store's own words.
    pub fn new(kind: StoreErrorKind, detail: impl fmt::Display) -> Self {
        Self { kind, detail: detail.to_string() }
    }

    /// The kind of this error.
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }
}

impl fmt::Display for StoreErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "does not answer",
            Self::Refused => "refuses",
            Self::Incomprehensible => "is not understood",
        })
    }
}
