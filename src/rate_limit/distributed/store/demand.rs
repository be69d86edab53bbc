use std::{sync::Arc, time::Duration};

/// A request of one process about the window of one key: its spends, the tokens that it holds, and those that it wants.
///
/// For each key the store keeps the spent tokens with their times, the tokens that each process holds, and the total of
/// all spent tokens. If its clock goes back a little, the store uses the latest time that the clock has shown. A little
/// is, with `Redis`, at most a fortieth of the window. A clock may also go back far, as when an operator sets it. The
/// store then moves all its times back with the clock, so that every spend keeps its age. The store takes these steps
/// in order:
///
/// 1. It forgets spends of more than a window ago. It may keep them by fortieths of the window: a spend then counts
///    until a window after the end of its fortieth.
/// 2. It forgets each process that has sent no demand for more than two windows. The tokens that such a process held
///    count as spent now.
/// 3. It compares totals, before it counts anything of this demand, and even if it then ignores the demand. If its own
///    total is lower, data were lost. It takes the demand's total and answers [`lost`](Settled::lost). For a window
///    from now it grants nothing to any process. A further loss within that window does not extend it.
/// 4. It ignores a demand whose sequence is not above the last one of this process. The answer then grants nothing, and
///    its [`free`](Settled::free) is zero.
/// 5. It counts as new the part of `spent` beyond the `spent` of this process's last demand. If the process is not
///    known, all of `spent` is new. It counts the new tokens at the times in `spends`, the latest first, and adds them
///    to the total. New tokens beyond those in `spends` are older than a window and count for nothing.
/// 6. It grants as much of `want` as is free, and nothing in the window of step 3. Free is the limit, less the spends
///    that still count, less all tokens that processes hold; for this process that is `held`. From then on the process
///    holds the grant, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// The key, with its namespace: at most [`LONGEST_NAME`](super::LONGEST_NAME) bytes.
    pub key: Arc<[u8]>,
    /// The most tokens that all processes together may spend in any window.
    pub limit: u64,
    /// The length of the window.
    pub window: Duration,
    /// The number of the process that sends this demand. No other process has this number. A process has another number
    /// for each key, and draws a new one if it forgets the key and uses it again.
    pub client: u64,
    /// Counts the demands of this process for this key, from 1. A demand whose number is not above the last one is late
    /// or a repetition, and is ignored.
    pub sequence: u64,
    /// All tokens of this key that this process ever spent under its number.
    pub spent: u64,
    /// All spends of this process in the last window, the latest first: their age and their tokens.
    pub spends: Vec<(Duration, u64)>,
    /// The tokens that this process still holds and may spend. This number replaces the one that the store has.
    pub held: u64,
    /// The tokens that the process wants beyond `held`.
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
    /// after data were lost, and in the answer to an ignored demand.
    pub free: u64,
    /// All tokens that the store ever counted as spent for this key, without held tokens.
    pub total: u64,
    /// Whether this demand has shown that data were lost. Other processes may then hold tokens, or have spent some,
    /// that the store does not know yet. False in later answers, although nothing is granted for a window.
    pub lost: bool,
}
