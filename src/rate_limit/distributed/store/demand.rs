use std::{sync::Arc, time::Duration};

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
    /// The key, with its namespace: at most [`LONGEST_NAME`](super::LONGEST_NAME) bytes.
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
