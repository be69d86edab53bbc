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
/// There are two kinds of state: a bucket for each key of [`Exact`](super::Exact) and [`WriteBehind`](super::WriteBehind),
/// and a window for each key of [`Leased`](super::Leased). They have nothing to do with each other, even under the same key.
/// One call is about a batch of at most [`LARGEST_BATCH`] keys, each by itself, all different, and answers for each in the
/// same order. The caller may drop a future at any time.
///
/// [`Embedded`](super::Embedded) does what a store has to, in memory; Redis, with the feature `redis`, for many processes. Whether one of
/// your own does is found out by the conformance suite.
pub trait Store: Send + Sync + 'static {
    /// Counts what was spent of these buckets, and grants what is wanted of them.
    fn charge<'a>(&'a self, charges: &'a [Charge]) -> Answering<'a, Charged>;

    /// Settles these windows: counts what was spent and when, and grants what is wanted.
    ///
    /// A demand that the store has seen may come again, since its answer was lost: nothing in it is then counted twice.
    fn settle<'a>(&'a self, demands: &'a [Demand]) -> Answering<'a, Settled>;

    /// When the store is back after an outage, the longest that it takes until each process that asks is answered again:
    /// where processes connect anew, the longest pause before they try. Until that is over, and they have told what they
    /// spent meanwhile, nobody takes what others may have spent. Default: no time.
    fn returns_within(&self) -> Duration {
        Duration::ZERO
    }

    /// A property of the store by which limits can admit too much, for an operator to read. Default: none is known.
    fn concern(&self) -> Option<String> {
        None
    }
}

/// The answer of a [`Store`].
pub type Answering<'a, Answer> = Pin<Box<dyn Future<Output = Result<Vec<Answer>, StoreError>> + Send + 'a>>;

/// The most keys of a batch.
pub const LARGEST_BATCH: usize = 64;

/// What one process has spent and wants of the bucket of one key.
///
/// The bucket's level is what was spent and has not drained yet. It drains at the rate of the quota by the store's clock;
/// the bucket of a key that the store does not know is empty. Beside the level there may be a debt. While there is one, two
/// fifths of the rate repay it and three drain the level; what the level does not need repays the debt as well. In this
/// order the store
///
/// 1. lets drain what has drained since it was last asked, by the quota of then; a clock that went back drains nothing, and
///    draining goes on from the time that it shows;
/// 2. if its total is less than that of the hint, raises both to the hint, less what has drained since the hint;
/// 3. takes back the refund;
/// 4. counts what was spent, whatever the level: up to the burst and `max_debt`. Of what was spent late it adds to the level
///    what fits below the burst, and the rest to the debt, while both together are at most the burst and `max_debt`;
/// 5. grants as much of `want` as fits below the burst, or nothing if that is less than `least`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// The key, with its namespace: at most [`LONGEST_NAME`] bytes.
    pub key: Arc<[u8]>,
    /// The rate and the burst. One that was checked.
    pub quota: Quota,
    /// Which process says so: a number that no other has.
    pub client: u64,
    /// Counts the charges of this process for this key in which something was spent: one with a sequence that is not above
    /// the last one has come before, and what was spent in it is not counted again.
    pub sequence: u64,
    /// What was admitted without asking.
    pub spent: u64,
    /// The part of `spent` that was admitted because the store did not answer, and that has not drained since. It takes
    /// room below the burst only: beyond that it is a debt.
    pub late: u64,
    /// The most that may be owed beyond the burst. What is spent beyond that is forgiven.
    pub max_debt: u64,
    /// What was granted and not used.
    pub refund: u64,
    /// When the first of it was granted, as [`Charged::at`] said. What has drained since is not taken back.
    pub refund_of: Duration,
    /// How many tokens it wants.
    pub want: u64,
    /// With fewer than this it can do nothing.
    pub least: u64,
    /// What it knows: if the store knows less, the store has lost its data.
    pub hint: Hint,
}

/// What a process knows of a bucket from the last answer of the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hint {
    /// The level, less what has drained since.
    pub level: u64,
    /// When that is, by the store's clock: what drains after that is taken off. A charge can arrive long after it was sent.
    pub at: Duration,
    /// The highest total that it was ever answered.
    pub total: u64,
}

/// What a store says to a [`Charge`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Charged {
    /// The tokens that the process may spend.
    pub granted: u64,
    /// What has been spent and has not drained, in whole tokens, rounded up; the grant is in it.
    pub level: u64,
    /// What is owed beside the level, in whole tokens, rounded up.
    pub debt: u64,
    /// All tokens ever counted or granted. It never goes back but when the store loses its data.
    pub total: u64,
    /// Where nothing was granted: the time until `least` will be, if nobody else takes it.
    pub retry_after: Duration,
    /// When that was, by the store's clock, counted from any fixed time.
    pub at: Duration,
}

/// What one process says and wants of the window of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// The key, with its namespace: at most [`LONGEST_NAME`] bytes.
    pub key: Arc<[u8]>,
    /// The most tokens that are spent in any window.
    pub limit: u64,
    /// The length of the window.
    pub window: Duration,
    /// Which process says so: a number that no other has.
    pub client: u64,
    /// Counts what this process sends for this key. One that is not above the last one was overtaken and is ignored.
    pub sequence: u64,
    /// All tokens that this process ever spent of this key. What the store did not know of is new.
    pub spent: u64,
    /// When that was: all spends of this process in the last window, the latest first, as how long ago, and how many
    /// tokens.
    pub spends: Vec<(Duration, u64)>,
    /// The tokens that this process still holds and may spend.
    pub held: u64,
    /// How many more it wants.
    pub want: u64,
    /// The highest total that it was answered, or 0 after two windows without an answer. If the store knows of fewer, it has
    /// lost its data. It then takes this for its own total, and for a window grants nothing to any process.
    pub total: u64,
}

/// What a store says to a [`Demand`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// The tokens that the process may spend beyond those that it holds.
    pub granted: u64,
    /// The tokens that nobody has spent in this window, or holds. None for a window after data were lost.
    pub free: u64,
    /// All tokens that the store ever counted for this key.
    pub total: u64,
    /// The store has lost what it knew: others may hold tokens, or have spent some, that it does not know of yet.
    pub lost: bool,
}

/// The longest key with its namespace, in bytes.
pub const LONGEST_NAME: usize = LONGEST_KEY + 68;

/// The longest key, in bytes.
pub const LONGEST_KEY: usize = 1024;

/// Why a store did not settle a batch. Whether it did so in part nobody knows: the same is to be sent again.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("the store of rate limits {kind}: {detail}")]
pub struct StoreError {
    kind: StoreErrorKind,
    detail: String,
}

/// What is wrong with a store.
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

    /// What is wrong.
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
