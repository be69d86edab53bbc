//! The calls in flight of any number of tenants, in fixed memory.
//!
//! A count-min sketch: a tenant has one cell in each of four rows, and its count is the smallest of the four. Each cell
//! counts all tenants that share it, so a count is never too low. A count is too high only if the tenant shares its
//! cells in all four rows with tenants that have calls in flight, or in the race that [`Tenants::enter`] describes. The
//! probability that a tenant shares all four with five large tenants is `(5 / 512)^4`, about 1e-8.
//!
//! An exact table of the tenants in flight would have no such error. But finding, claiming and freeing its slots takes
//! a lock, or several atomic steps between which one tenant may claim two slots.
//!
//! | step | result |
//! |---|---|
//! | read all four cells | the smallest is the anchor. If it has no room, the call is refused and nothing was written |
//! | add one to the other three cells | not decided yet |
//! | compare-and-swap the anchor, if it has room | the call is admitted: one atomic step decides |
//! | otherwise, subtract one from the other three cells | start again, with at most four tries in all |
//!
//! An admitted call is counted in all four of its cells. Each anchor therefore counts all earlier calls of its tenant,
//! in whichever row their own anchors were. So no race lets a tenant exceed its share.

use super::Share;
use crate::sync::{AtomicU64, Ordering};
use std::{
    fmt,
    hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState},
};

const ROWS: usize = 4;
/// The cells of a row: a power of two. Loom models have fewer.
const WIDTH: usize = if cfg!(steadfast_loom) { 2 } else { 512 };
/// Each row uses its own bits of a hash to choose the cell of a tenant. They begin this number of bits above those of
/// the row before.
const BITS: u32 = 16;
/// The most times that a call chooses an anchor. It chooses again if another call has meanwhile taken the last place of
/// the anchor.
const TRIES: usize = 4;

/// The calls in flight by tenant. Methods take the hash of a tenant, made by [`hash_of`](Self::hash_of).
///
/// 16 KiB. Cells share cache lines: the probability of false sharing between two tenants is 1/64 in each row. If each
/// cell had 128 bytes of its own, the sketch would take 256 KiB, and most calls would miss the first-level cache four
/// times.
pub struct Tenants {
    /// The rows, one after the other. Each change of a cell is `AcqRel` and pairs with every other change of that cell.
    /// A call that changes a cell after another call also observes what that other call changed before, in any cell.
    /// [`enter_by`] relies on this.
    cells: Box<[AtomicU64]>,
    share: Share,
    /// Secret unless set, so that no tenant can choose a key that shares the cells of another tenant.
    seed: [u64; 2],
}

impl Tenants {
    pub fn new(share: Share, seed: Option<u64>) -> Self {
        let secret = RandomState::new();
        let seed = seed.map_or_else(|| [secret.hash_one(0), secret.hash_one(1)], |seed| [seed, 0]);
        Self { cells: (0..ROWS * WIDTH).map(|_| AtomicU64::new(0)).collect(), share, seed }
    }

    /// Returns the hash of a tenant, never zero. Runs user code: the `Hash` of the key.
    #[inline]
    pub fn hash_of(&self, key: &impl Hash) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.seed.hash(&mut hasher);
        key.hash(&mut hasher);
        hasher.finish().max(1)
    }

    /// Returns the number of places that one tenant may hold.
    #[inline]
    pub fn allowed(&self, limit: u64, in_flight: u64) -> u64 {
        self.share.allowed(limit, in_flight)
    }

    /// Takes a place for a tenant that has fewer than `allowed`, and returns whether it did. [`leave`](Self::leave)
    /// gives the place back.
    ///
    /// No allocation and no lock. Without a race it takes five loads, three atomic additions and one compare-and-swap
    /// to admit, and four loads to refuse.
    ///
    /// A call may be refused although its tenant has room. This takes two events at the same moment. Another call of
    /// the tenant is being admitted or refused, and calls of other tenants that share cells with this tenant end.
    #[inline]
    pub fn enter(&self, tenant: u64, allowed: u64) -> bool {
        let cells = self.cells_of(tenant);
        for _ in 0..TRIES {
            let counts = cells.map(|cell| cell.load(Ordering::Relaxed));
            let anchor = (1..ROWS).fold(0, |least, row| if counts[row] < counts[least] { row } else { least });
            if counts[anchor] >= allowed {
                return false;
            }
            if enter_by(cells, anchor, allowed) {
                return true;
            }
        }
        false
    }

    /// Gives a place back. The caller runs it exactly once for each [`enter`](Self::enter) or [`add`](Self::add) that
    /// took one.
    #[inline]
    pub fn leave(&self, tenant: u64) {
        for cell in self.cells_of(tenant) {
            cell.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Takes a place for a tenant regardless of its share. Returns an upper bound of its places after that.
    #[inline]
    pub fn add(&self, tenant: u64) -> u64 {
        let counts = self.cells_of(tenant).map(|cell| cell.fetch_add(1, Ordering::AcqRel));
        counts.into_iter().fold(u64::MAX, u64::min).saturating_add(1)
    }

    /// Returns an upper bound of the calls of a tenant in flight.
    #[cfg(any(test, steadfast_loom))]
    pub fn in_flight(&self, tenant: u64) -> u64 {
        self.cells_of(tenant).map(|cell| cell.load(Ordering::Relaxed)).into_iter().min().unwrap_or_default()
    }

    #[inline]
    fn cells_of(&self, tenant: u64) -> [&AtomicU64; ROWS] {
        std::array::from_fn(|row| &self.cells[row * WIDTH + (tenant >> (row as u32 * BITS)) as usize % WIDTH])
    }
}

/// Counts a call in all rows if the anchor has room. The anchor is changed last and decides. Take two calls of one
/// tenant with different anchors. Each adds to the anchor of the other before it reads its own, so at least one
/// observes the other.
#[inline]
fn enter_by(cells: [&AtomicU64; ROWS], anchor: usize, allowed: u64) -> bool {
    let others = || (0..ROWS).filter(|row| *row != anchor).map(|row| cells[row]);
    for cell in others() {
        cell.fetch_add(1, Ordering::AcqRel);
    }
    let more = |count: u64| (count < allowed).then(|| count + 1);
    let entered = cells[anchor].fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok();
    if !entered {
        for cell in others() {
            cell.fetch_sub(1, Ordering::AcqRel);
        }
    }
    entered
}

impl fmt::Debug for Tenants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tenants").field("share", &self.share).finish_non_exhaustive()
    }
}

/// For the models of `tests/loom`.
#[cfg(steadfast_loom)]
impl Tenants {
    /// Does one try of [`enter`](Self::enter), with this anchor.
    pub fn enter_with_anchor(&self, tenant: u64, allowed: u64, anchor: usize) -> bool {
        enter_by(self.cells_of(tenant), anchor, allowed)
    }
}

#[cfg(all(test, not(steadfast_loom)))]
mod tests {
    use super::*;
    use std::{collections::HashMap, thread};

    fn tenants() -> Tenants {
        Tenants::new(Share::of(1.0).unwrap(), Some(1))
    }

    #[test]
    fn a_tenant_takes_its_share_and_gives_it_back() {
        let tenants = tenants();
        let (one, other) = (tenants.hash_of(&"one"), tenants.hash_of(&"other"));
        assert!(tenants.enter(one, 2) && tenants.enter(one, 2));
        assert!(!tenants.enter(one, 2));
        assert!(tenants.enter(other, 1));
        assert_eq!((tenants.in_flight(one), tenants.in_flight(other)), (2, 1));
        tenants.leave(one);
        assert!(tenants.enter(one, 2));
        assert!(!tenants.enter(one, 0));
    }

    #[test]
    fn a_refused_call_changes_nothing() {
        let tenants = tenants();
        let one = tenants.hash_of(&"one");
        assert!(tenants.enter(one, 1));
        for _ in 0..100 {
            assert!(!tenants.enter(one, 1));
        }
        assert_eq!(tenants.cells.iter().map(|cell| cell.load(Ordering::Relaxed)).sum::<u64>(), ROWS as u64);
    }

    #[test]
    fn tenants_that_share_cells_in_three_rows_are_counted_apart() {
        let tenants = tenants();
        let (one, other) = (0x0001_0002_0003_0004, 0x0009_0002_0003_0004);
        (0..100).for_each(|_| assert!(tenants.enter(one, 100)));
        assert!(tenants.enter(other, 1));
        assert_eq!((tenants.in_flight(one), tenants.in_flight(other)), (100, 1));
    }

    #[test]
    fn few_of_many_small_tenants_are_counted_too_high() {
        let tenants = tenants();
        // The most calls that experiment E24 (`examples/experiments`) has in flight, 300 of them of five large tenants.
        for number in 0..420_u64 {
            tenants.add(tenants.hash_of(&if number < 300 { number % 5 } else { number }));
        }
        let too_high = (1_000..11_000_u64).filter(|number| tenants.in_flight(tenants.hash_of(number)) > 0).count();
        // 125 tenants are spread over the 512 cells of each row. All four cells of another tenant are in use with a
        // probability of (1 - e^(-125/512))^4, which is 0.0022: 22 of 10,000 tenants.
        assert!(too_high < 60, "{too_high}");
        let blocked = (1_000..11_000_u64).filter(|number| tenants.in_flight(tenants.hash_of(number)) > 10).count();
        assert_eq!(blocked, 0);
    }

    #[test]
    fn no_count_is_lost_under_contention() {
        let tenants = tenants();
        let held: Vec<u64> = thread::scope(|scope| {
            let work = |seed: u64| {
                let tenants = &tenants;
                move || {
                    let mut held = Vec::new();
                    let mut random = seed;
                    for _ in 0..20_000 {
                        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        // Four tenants that share cells.
                        let tenant = [0, 1, 1 << BITS, 1 | 1 << BITS][(random >> 60) as usize % 4];
                        if random >> 40 & 1 == 0 {
                            held.extend(tenants.enter(tenant, 40).then_some(tenant));
                        } else if let Some(tenant) = held.pop() {
                            tenants.leave(tenant);
                        }
                    }
                    held
                }
            };
            let threads: Vec<_> = (1..=4).map(|seed| scope.spawn(work(seed))).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        let mut by_tenant = HashMap::new();
        held.iter().for_each(|tenant| *by_tenant.entry(*tenant).or_insert(0) += 1);
        assert!(!held.is_empty() && by_tenant.values().all(|count| *count <= 40), "{by_tenant:?}");
        held.iter().for_each(|tenant| tenants.leave(*tenant));
        assert!(tenants.cells.iter().all(|cell| cell.load(Ordering::Relaxed) == 0));
    }

    #[test]
    fn hashes_are_never_zero_and_follow_the_seed() {
        let [one, same, other] = [Some(1), Some(1), Some(2)].map(|seed| Tenants::new(Share::of(1.0).unwrap(), seed));
        let hashes = |tenants: &Tenants| (0..100).map(|key| tenants.hash_of(&key)).collect::<Vec<_>>();
        assert_eq!(hashes(&one), hashes(&same));
        assert_ne!(hashes(&one), hashes(&other));
        let secret = [None, None].map(|seed| hashes(&Tenants::new(Share::of(1.0).unwrap(), seed)));
        assert_ne!(secret[0], secret[1]);
    }
}
