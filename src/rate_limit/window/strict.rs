use std::{collections::VecDeque, time::Duration};
use tokio::time::Instant;

/// The most cells of a window.
const MOST_CELLS: u64 = 256;

/// The tokens admitted in the last window, in a fixed number of cells.
///
/// A cell counts in full until its *last* admission has left the window, so no token is forgotten too early. A new cell
/// begins when the newest one has at least a 256th of the limit, rounded up, and the instant differs. It follows:
///
/// - There is always a cell for an admission. All cells but the newest hold at least a 256th of the limit, and together
///   the cells hold at most the limit. So there are at most 256.
/// - A limit of up to 256 has a cell for each instant, and loses nothing.
/// - Only the oldest cell holds tokens too long. Its last admission is still in the window, and the other cells hold
///   only later admissions. The tokens that stay too long are those that it had before its last admission: less than a
///   256th of the limit.
///
/// Only refunds and a changed limit leave smaller cells behind. These are merged when there is no room for another
/// cell. A merged cell may hold more than a 256th of the limit too long.
pub(super) struct Strict {
    /// From the oldest to the newest, each later than the one before, none of them empty. It never grows beyond its
    /// capacity.
    cells: VecDeque<Cell>,
    /// The tokens in all cells.
    held: u64,
}

struct Cell {
    /// When the last of its tokens was taken.
    last: Instant,
    tokens: u64,
}

impl Strict {
    /// Allocates the cells that this limit can need.
    pub(super) fn with_room_for(limit: u64) -> Self {
        Self { cells: VecDeque::with_capacity(most_cells(limit)), held: 0 }
    }

    /// Allocates more cells, if this limit can need them.
    pub(super) fn make_room_for(&mut self, limit: u64) {
        self.cells.reserve_exact(most_cells(limit).saturating_sub(self.cells.len()));
    }

    /// Takes the tokens, or changes nothing and returns the time until there are enough. `now` never goes back, and
    /// `tokens` is at most the limit.
    pub(super) fn take(&mut self, tokens: u64, limit: u64, now: Instant, window: Duration) -> Result<(), Duration> {
        let gone = self.gone_by(now, window);
        let missing = (self.held - gone).saturating_add(tokens).saturating_sub(limit);
        if missing > 0 {
            return Err(self.time_until_free(gone + missing, now, window));
        }
        self.forget(now, window);
        self.held += tokens;
        let enough = limit.div_ceil(MOST_CELLS);
        match self.cells.back_mut() {
            Some(newest) if newest.last == now || newest.tokens < enough => {
                newest.last = now;
                newest.tokens += tokens;
            }
            _ => {
                if self.cells.len() >= MOST_CELLS as usize {
                    self.merge(enough);
                }
                self.cells.push_back(Cell { last: now, tokens });
            }
        }
        Ok(())
    }

    /// Gives back the newest tokens.
    pub(super) fn refund(&mut self, tokens: u64) {
        let newest_first = self.cells.iter_mut().rev();
        self.held = self.held.saturating_sub(give_back(tokens, newest_first));
        while self.cells.back().is_some_and(|cell| cell.tokens == 0) {
            self.cells.pop_back();
        }
    }

    /// Gives back tokens that were taken at `taken`. `latest` is the window's own time: the latest instant of any
    /// admission.
    pub(super) fn refund_taken_at(&mut self, tokens: u64, taken: Instant, latest: Instant, window: Duration) {
        if has_left(taken, latest, window) {
            return;
        }
        // The tokens are in the first of these cells, or in a later one if they were counted at a later instant.
        let since = self.cells.iter_mut().skip_while(|cell| cell.last < taken);
        self.held = self.held.saturating_sub(give_back(tokens, since));
        self.cells.retain(|cell| cell.tokens > 0);
    }

    /// Returns the tokens available at `now`, which never goes back.
    pub(super) fn available(&self, limit: u64, now: Instant, window: Duration) -> u64 {
        limit.saturating_sub(self.held - self.gone_by(now, window))
    }

    /// Returns the tokens in the cells that have left the window by `now`. They are part of `held`.
    fn gone_by(&self, now: Instant, window: Duration) -> u64 {
        self.cells.iter().take_while(|cell| has_left(cell.last, now, window)).map(|cell| cell.tokens).sum()
    }

    /// Removes the cells that have left the window by `now`.
    fn forget(&mut self, now: Instant, window: Duration) {
        while let Some(oldest) = self.cells.front().filter(|cell| has_left(cell.last, now, window)) {
            self.held = self.held.saturating_sub(oldest.tokens);
            self.cells.pop_front();
        }
    }

    /// Returns the time until `tokens`, at most `held`, have left the window.
    fn time_until_free(&self, tokens: u64, now: Instant, window: Duration) -> Duration {
        let mut free = 0;
        let last = self.cells.iter().find(|cell| {
            free += cell.tokens;
            free >= tokens
        });
        let age = last.map_or(window, |cell| now.saturating_duration_since(cell.last));
        window.saturating_sub(age)
    }

    /// Merges each cell with fewer than `enough` tokens with the next cell. Tokens then stay longer, never shorter.
    fn merge(&mut self, enough: u64) {
        let mut merged = 0;
        for _ in 0..self.cells.len() {
            let Some(cell) = self.cells.pop_front() else { return };
            match self.cells.back_mut() {
                // Each round takes a cell from the front. It adds the cell to the one at the back, or puts it behind
                // that one. Before the first round, the cell at the back is the newest, not the one before `cell`.
                Some(before) if merged > 0 && before.tokens < enough => {
                    before.last = cell.last;
                    before.tokens += cell.tokens;
                }
                _ => {
                    self.cells.push_back(cell);
                    merged += 1;
                }
            }
        }
    }
}

/// Takes tokens out of these cells, one after the other, and returns the number taken.
fn give_back<'cell>(tokens: u64, cells: impl Iterator<Item = &'cell mut Cell>) -> u64 {
    let mut left = tokens;
    for cell in cells {
        let given = cell.tokens.min(left);
        cell.tokens -= given;
        left -= given;
        if left == 0 {
            break;
        }
    }
    tokens - left
}

/// Returns whether tokens taken at `taken` have left the window that ends at `now`.
fn has_left(taken: Instant, now: Instant, window: Duration) -> bool {
    now.saturating_duration_since(taken) >= window
}

/// Returns the most cells that a limit can need: at most one for each token, because no cell is empty.
fn most_cells(limit: u64) -> usize {
    limit.min(MOST_CELLS) as usize
}

#[cfg(all(test, not(steadfast_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WINDOW: Duration = Duration::from_nanos(1_000);

    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// Takes tokens, after some nanoseconds.
        Take(u64, u64),
        Refund(u64),
        /// Gives back tokens that were taken this many nanoseconds ago.
        RefundTaken(u64, u64),
        Limit(u64),
    }

    fn any_limit() -> impl Strategy<Value = u64> {
        prop_oneof![1..300u64, 240..300u64, 1..5_000u64]
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            400 => (Just(1), 1..4u64).prop_map(|(tokens, nanos)| Step::Take(tokens, nanos)),
            4 => (1..100u64, 0..50u64).prop_map(|(tokens, nanos)| Step::Take(tokens, nanos)),
            10 => (1..10u64).prop_map(Step::Refund),
            20 => (1..100u64, 0..1_200u64).prop_map(|(tokens, nanos)| Step::RefundTaken(tokens, nanos)),
            2 => any_limit().prop_map(Step::Limit),
        ]
    }

    #[test]
    fn small_cells_are_merged_when_no_cell_is_left() {
        let now = Instant::now();
        let mut strict = Strict::with_room_for(256);
        let mut take = |limit, nanos| {
            strict.make_room_for(limit);
            strict.take(1, limit, now + Duration::from_nanos(nanos), WINDOW).unwrap();
            (strict.cells.len(), strict.cells.capacity())
        };
        assert!((0..256).all(|nanos| take(256, nanos).0 == nanos as usize + 1));
        assert!((256..259).all(|nanos| take(1_000, nanos) == (256, 256)));
        // 63 cells of four tokens, one of seven, and the new one.
        assert_eq!(take(1_000, 259), (65, 256));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn cells_are_in_order_and_not_empty_and_never_more_than_their_capacity(
            limit in any_limit(),
            steps in prop::collection::vec(any_step(), 1..3_000),
        ) {
            let mut now = Instant::now();
            let (mut limit, mut strict) = (limit, Strict::with_room_for(limit));
            let mut room = strict.cells.capacity();
            for step in steps {
                match step {
                    Step::Take(tokens, nanos) => {
                        now += Duration::from_nanos(nanos);
                        if tokens <= limit {
                            let _ = strict.take(tokens, limit, now, WINDOW);
                        }
                    }
                    Step::Refund(tokens) => strict.refund(tokens),
                    Step::RefundTaken(tokens, nanos) => {
                        strict.refund_taken_at(tokens, now - Duration::from_nanos(nanos), now, WINDOW);
                    }
                    Step::Limit(changed) => {
                        limit = changed;
                        strict.make_room_for(limit);
                        room = strict.cells.capacity();
                    }
                }
                prop_assert_eq!(strict.cells.capacity(), room, "it allocated");
                prop_assert!(strict.cells.len() <= MOST_CELLS as usize);
                prop_assert_eq!(strict.cells.iter().map(|cell| cell.tokens).sum::<u64>(), strict.held);
                prop_assert!(strict.cells.iter().all(|cell| cell.tokens > 0));
                prop_assert!(strict.cells.iter().is_sorted_by(|one, next| one.last < next.last));
            }
        }
    }
}
