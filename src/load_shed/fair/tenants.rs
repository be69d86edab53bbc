//! The calls in flight of each tenant, in a sketch of fixed size.
//!
//! A tenant has one cell in each of four rows. A call in flight counts in all four. The smallest of the four is the
//! count of the tenant, and of those that share all four cells with it. So it is never too low. It is too high where
//! other tenants share each of the cells. A large tenant and a small one share all four once in 2^36 pairs.
//!
//! Exact counts need a table of entries that come and go. Two callers that enter a new tenant at once would need a
//! lock, or they could make two entries of it. The sketch has no entries: no count is lost, and no caller waits.

use super::Share;
use crate::sync::{AtomicU64, Ordering};
use std::{
    array, fmt,
    hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState},
};

const ROWS: usize = 4;
const CELLS: usize = 512;

/// Counts of calls in flight by tenant. 16 KiB, whatever number of tenants there is.
///
/// Cells are not padded. Eight of them are in a cache line, and a call of another tenant is in the same line of a row
/// once in 64 times. Padding would cost 128 KiB, and every call changes the word of all places anyway.
pub(in crate::load_shed) struct Tenants {
    rows: [Box<[AtomicU64]>; ROWS],
    share: Share,
    /// Keeps the cells of a tenant secret.
    seed: [u64; 2],
}

impl Tenants {
    /// Without a seed the cells of a tenant are secret.
    pub(in crate::load_shed) fn new(share: Share, seed: Option<u64>) -> Self {
        let secret = RandomState::new();
        let seed = seed.map_or_else(|| [secret.hash_one(0), secret.hash_one(1)], |seed| [seed, 0]);
        let row = |_| (0..CELLS).map(|_| AtomicU64::new(0)).collect();
        Self { rows: array::from_fn(row), share, seed }
    }

    /// The hash of a tenant: never zero.
    pub(in crate::load_shed) fn hash_of(&self, key: &impl Hash) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.seed.hash(&mut hasher);
        key.hash(&mut hasher);
        hasher.finish().max(1)
    }

    /// The places that one tenant may hold.
    #[inline]
    pub(in crate::load_shed) fn allowed(&self, limit: u64, in_flight: u64) -> u64 {
        self.share.allowed(limit, in_flight)
    }

    /// The calls in flight of a tenant, or more.
    #[inline]
    pub(in crate::load_shed) fn in_flight(&self, tenant: u64) -> u64 {
        self.smallest(tenant, ROWS, u64::MAX)
    }

    /// Takes a place for a tenant that has fewer than `allowed`. Otherwise counts nothing and returns false.
    ///
    /// Callers of one tenant that enter at once get the places that are left, as if they came one by one.
    #[inline]
    pub(in crate::load_shed) fn enter(&self, tenant: u64, allowed: u64) -> bool {
        // Those refused for long are refused by loads alone.
        if self.in_flight(tenant) >= allowed {
            return false;
        }
        if self.add(tenant) <= allowed {
            return true;
        }
        self.leave(tenant);
        false
    }

    /// Takes a place for a tenant, whatever it has. Returns what it has then, or more.
    #[inline]
    pub(in crate::load_shed) fn add(&self, tenant: u64) -> u64 {
        let [first @ .., last] = self.cells(tenant);
        for cell in first {
            cell.fetch_add(1, Ordering::Relaxed);
        }
        // Acquire and release, with each other: a call that is the n-th one here sees in the other rows what all
        // earlier ones have added there. So the n-th call of a tenant reads at least n in each row.
        let count = last.fetch_add(1, Ordering::AcqRel).saturating_add(1);
        self.smallest(tenant, ROWS - 1, count)
    }

    /// Gives a place back. Exactly once for each that was taken.
    #[inline]
    pub(in crate::load_shed) fn leave(&self, tenant: u64) {
        let [first @ .., last] = self.cells(tenant);
        for cell in first {
            cell.fetch_sub(1, Ordering::Relaxed);
        }
        last.fetch_sub(1, Ordering::AcqRel);
    }

    #[inline]
    fn smallest(&self, tenant: u64, rows: usize, most: u64) -> u64 {
        let cells = self.cells(tenant);
        cells[..rows].iter().map(|cell| cell.load(Ordering::Relaxed)).fold(most, u64::min)
    }

    /// The cells of a tenant, one in each row.
    #[inline]
    fn cells(&self, tenant: u64) -> [&AtomicU64; ROWS] {
        const BITS: u32 = CELLS.trailing_zeros();
        array::from_fn(|row| &self.rows[row][(tenant >> (row as u32 * BITS)) as usize % CELLS])
    }
}

impl fmt::Debug for Tenants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tenants").field("share", &self.share).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn tenants() -> Tenants {
        Tenants::new(Share::of(1.0).unwrap(), Some(1))
    }

    #[test]
    fn a_tenant_gets_what_is_allowed_and_no_more() {
        let tenants = tenants();
        assert!(!tenants.enter(7, 0));
        assert_eq!((0..5).filter(|_| tenants.enter(7, 3)).count(), 3);
        assert_eq!(tenants.in_flight(7), 3);
        assert!(tenants.enter(8, 1));
        tenants.leave(7);
        assert!(tenants.enter(7, 3) && !tenants.enter(7, 3));
        (0..3).for_each(|_| tenants.leave(7));
        tenants.leave(8);
        assert_eq!((tenants.in_flight(7), tenants.in_flight(8)), (0, 0));
    }

    #[test]
    fn a_large_tenant_is_not_seen_in_the_counts_of_ten_thousand_others() {
        let tenants = tenants();
        let large = tenants.hash_of(&"large");
        (0..200).for_each(|_| _ = tenants.add(large));
        let seen = (0..10_000).filter(|key| tenants.in_flight(tenants.hash_of(key)) > 0).count();
        assert_eq!(seen, 0);
    }

    #[test]
    fn threads_that_enter_at_once_share_what_is_allowed() {
        let tenants = tenants();
        for _ in 0..200 {
            let entered: usize = std::thread::scope(|scope| {
                let enter = || (0..20).filter(|_| tenants.enter(9, 10)).count();
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(enter)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).sum()
            });
            assert!(entered <= 10, "{entered}");
            (0..entered).for_each(|_| tenants.leave(9));
            assert_eq!(tenants.in_flight(9), 0);
        }
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

    proptest! {
        /// Against exact counts: never lower, and zero when all have left.
        #[test]
        fn no_count_is_lower_than_the_exact_one(steps in prop::collection::vec((0_u64..40, any::<bool>()), 1..400)) {
            let (tenants, mut exact) = (tenants(), HashMap::<u64, u64>::new());
            for (key, enters) in steps {
                // Few cells, so that tenants share them.
                let tenant = key % 5 | (key / 5 % 4) << 9 | (key % 3) << 18 | (key % 2) << 27;
                let count = exact.entry(tenant).or_default();
                if enters {
                    *count += u64::from(tenants.enter(tenant, 20));
                } else if *count > 0 {
                    tenants.leave(tenant);
                    *count -= 1;
                }
                for (tenant, count) in &exact {
                    prop_assert!(tenants.in_flight(*tenant) >= *count);
                }
            }
            for (tenant, count) in &exact {
                (0..*count).for_each(|_| tenants.leave(*tenant));
            }
            prop_assert!(exact.keys().all(|tenant| tenants.in_flight(*tenant) == 0));
        }
    }
}
