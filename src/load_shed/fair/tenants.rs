//! The calls in flight of any number of tenants, in fixed memory.
//!
//! A count-min sketch: a tenant has one cell in each of four rows, and its count is the smallest of the four. Each cell
//! counts all tenants that share it, so a count is never too low. A tenant is counted too high only if it meets others
//! in all four rows. For one that has nothing in flight beside five large ones that is `(5 / 512)^4`, about 1e-8.
//!
//! An exact table of the tenants in flight would have no such error. But finding, claiming and freeing its slots takes a
//! lock, or several atomic steps between which one tenant may claim two slots.
//!
//! | step | cells |
//! |---|---|
//! | read all four | the smallest is the anchor. If it has no room: refused, nothing was written |
//! | add to the other three | |
//! | compare-and-swap the anchor, if it has room | admitted: one atomic step decides |
//! | the anchor has no room any more | subtract from the three, and look again |
//!
//! Every call that was admitted is in all four of its cells when it is admitted. So an anchor counts all earlier calls
//! of its tenant, whichever row they chose, and no race lets a tenant exceed what is allowed.

use super::Share;
use crate::sync::{AtomicU64, Ordering};
use std::{
    fmt,
    hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState},
};

const ROWS: usize = 4;
/// Cells in a row. A power of two. A model of the concurrency has fewer.
const WIDTH: usize = if cfg!(steadfast_loom) { 2 } else { 512 };
/// The bits of a hash that choose the cell of a row. Rows use different bits.
const BITS: u32 = 16;
/// How often a call looks for another anchor after another call took the last place of the first.
const TRIES: usize = 4;

/// The calls in flight by tenant. Methods take the hash of a tenant, made by [`hash`](Self::hash).
///
/// 16 KiB. Cells share cache lines: two tenants write one line by chance with a probability of 1/64 in each row. With a
/// cache line for each cell the sketch would be 256 KiB, so most calls would miss the first-level cache four times.
pub struct Tenants {
    /// Rows one after the other. Each change of a cell acquires and releases: a call that adds to a cell sees in the
    /// others what came before in this one. See [`enter`](Self::enter).
    cells: Box<[AtomicU64]>,
    share: Share,
    /// Secret unless it is given, so that no tenant can choose a name that meets another.
    seed: [u64; 2],
}

impl Tenants {
    pub fn new(share: Share, seed: Option<u64>) -> Self {
        let secret = RandomState::new();
        let seed = seed.map_or_else(|| [secret.hash_one(0), secret.hash_one(1)], |seed| [seed, 0]);
        Self { cells: (0..ROWS * WIDTH).map(|_| AtomicU64::new(0)).collect(), share, seed }
    }

    /// The hash of a tenant, never zero. Runs user code: the `Hash` of the key.
    #[inline]
    pub fn hash_of(&self, key: &impl Hash) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.seed.hash(&mut hasher);
        key.hash(&mut hasher);
        hasher.finish().max(1)
    }

    /// The places that one tenant may hold.
    #[inline]
    pub fn allowed(&self, limit: u64, in_flight: u64) -> u64 {
        self.share.allowed(limit, in_flight)
    }

    /// Takes a place for a tenant that has fewer than `allowed`, to be given back by [`leave`](Self::leave). Returns
    /// whether it did.
    ///
    /// No allocation and no lock. Four loads and four atomic additions to admit, four loads to refuse. A call may be
    /// refused while another of the same tenant is just being refused or admitted, if both meet calls of other tenants
    /// that end in this moment.
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

    /// Gives a place back. Exactly once for each [`enter`](Self::enter) that took one.
    #[inline]
    pub fn leave(&self, tenant: u64) {
        for cell in self.cells_of(tenant) {
            cell.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Takes a place for a tenant, whatever it has. Returns what it has then, or more.
    #[inline]
    pub fn add(&self, tenant: u64) -> u64 {
        let counts = self.cells_of(tenant).map(|cell| cell.fetch_add(1, Ordering::AcqRel));
        counts.into_iter().fold(u64::MAX, u64::min).saturating_add(1)
    }

    /// The calls of a tenant in flight, or more.
    #[cfg(any(test, steadfast_loom))]
    pub fn in_flight(&self, tenant: u64) -> u64 {
        self.cells_of(tenant).map(|cell| cell.load(Ordering::Relaxed)).into_iter().min().unwrap_or_default()
    }

    #[inline]
    fn cells_of(&self, tenant: u64) -> [&AtomicU64; ROWS] {
        std::array::from_fn(|row| &self.cells[row * WIDTH + (tenant >> (row as u32 * BITS)) as usize % WIDTH])
    }
}

/// Counts a call in all rows if the anchor has room. The anchor comes last and decides. Of two calls of one tenant with
/// two anchors at least one sees the other: each adds to the anchor of the other before it looks at its own.
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
    /// As [`enter`](Self::enter), with this anchor.
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
    fn a_tenant_takes_what_is_allowed_and_gives_it_back() {
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
    fn tenants_that_meet_in_three_rows_do_not_meet() {
        let tenants = tenants();
        let (one, other) = (0x0001_0002_0003_0004, 0x0009_0002_0003_0004);
        (0..100).for_each(|_| assert!(tenants.enter(one, 100)));
        assert!(tenants.enter(other, 1));
        assert_eq!((tenants.in_flight(one), tenants.in_flight(other)), (100, 1));
    }

    #[test]
    fn hardly_a_small_tenant_of_many_is_counted_too_high() {
        let tenants = tenants();
        // As many as E24 has in flight at most, 300 of them of five large ones.
        for number in 0..420_u64 {
            tenants.add(tenants.hash_of(&if number < 300 { number % 5 } else { number }));
        }
        let too_high = (1_000..11_000_u64).filter(|number| tenants.in_flight(tenants.hash_of(number)) > 0).count();
        // Each cell is in use by 125 tenants of 512: (1 - e^(-125/512))^4 is 0.0023.
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
