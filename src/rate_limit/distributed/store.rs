use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};
use thiserror::Error as ThisError;

/// Where the state of limits is kept that many processes share.
///
/// One call settles a batch: what this process has spent since the last one, and what it wants to have. It is small so
/// that a store of your own is; [`Embedded`](super::Embedded) does what it has to.
pub trait Store: Send + Sync + 'static {
    /// Settles these accounts, each by itself, and answers for each in the same order.
    ///
    /// A demand that the store has seen may come again, since its answer was lost: nothing in it is then counted twice. The
    /// caller may drop the future at any time, and then sends the same again.
    fn settle<'a>(&'a self, demands: &'a [Demand]) -> Settling<'a>;
}

/// The future of [`Store::settle`].
pub type Settling<'a> = Pin<Box<dyn Future<Output = Result<Vec<Settled>, StoreError>> + Send + 'a>>;

/// What one process says and wants of the account of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// The key, at most [`LONGEST_KEY`] bytes.
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
    /// The highest total that it was ever answered: if the store knows of fewer, it has lost its data.
    pub total: u64,
}

/// What a store says to a [`Demand`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// The tokens that the process may spend beyond those that it holds.
    pub granted: u64,
    /// The tokens that nobody has spent in this window, or holds.
    pub free: u64,
    /// All tokens that the store ever counted for this key.
    pub total: u64,
    /// The store has lost what it knew: others may hold tokens, or have spent some, that it does not know of yet.
    pub lost: bool,
}

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
