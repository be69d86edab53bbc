//! Counters in shards. Each of up to 32 threads is the only writer of its own shard, so it counts without an atomic
//! read-modify-write. All other threads share one shard, and add atomically.

use std::{
    array,
    cell::Cell,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// The number of shards with a single thread each. All other threads share one more shard.
const OWNED: usize = 32;

/// One value for each shard, created at its first use.
pub(super) struct ThreadShards<T>([OnceLock<Box<T>>; OWNED + 1]);

/// Which threads write to a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ShardWriter {
    /// Only this thread.
    Alone,
    /// Several threads.
    Shared,
}

impl ShardWriter {
    /// Adds to a counter of the shard, with release. A reader that loads it with acquire sees all earlier additions of
    /// this thread.
    #[inline]
    pub(super) fn add(self, counter: &AtomicU64, amount: u64) {
        match self {
            // This thread is the only writer, so the load and the store are not interleaved.
            Self::Alone => counter.store(counter.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Release),
            Self::Shared => {
                counter.fetch_add(amount, Ordering::Release);
            }
        }
    }
}

impl<T: Default> ThreadShards<T> {
    /// Returns the shard of this thread.
    #[inline]
    pub(super) fn own(&self) -> (&T, ShardWriter) {
        // A thread that is ending has returned its number, so it uses the shared shard.
        let number = THREAD_NUMBER.try_with(ThreadNumber::get).unwrap_or(OWNED);
        let shard = self.0[number].get_or_init(Box::default);
        (shard, if number < OWNED { ShardWriter::Alone } else { ShardWriter::Shared })
    }

    /// Iterates over all shards that were used.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().filter_map(|shard| shard.get().map(|shard| &**shard))
    }
}

impl<T> Default for ThreadShards<T> {
    fn default() -> Self {
        Self(array::from_fn(|_| OnceLock::new()))
    }
}

thread_local! {
    static THREAD_NUMBER: ThreadNumber = const { ThreadNumber(Cell::new(UNKNOWN)) };
}

/// The thread has taken no number yet.
const UNKNOWN: usize = usize::MAX;

/// The number of a thread: below [`OWNED`] and unique among living threads, or [`OWNED`].
///
/// The lock on [`FREE`] orders successive owners of a number: the later thread sees all counts of the earlier thread.
struct ThreadNumber(Cell<usize>);

/// The free numbers, one bit each.
static FREE: Mutex<u32> = Mutex::new(u32::MAX);

const _: () = assert!(OWNED == u32::BITS as usize);

fn free() -> MutexGuard<'static, u32> {
    FREE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ThreadNumber {
    #[inline]
    fn get(&self) -> usize {
        let number = self.0.get();
        if number == UNKNOWN { self.take() } else { number }
    }

    /// Takes the lowest free number, or [`OWNED`] if none is free.
    #[cold]
    fn take(&self) -> usize {
        let mut free = free();
        let number = free.trailing_zeros() as usize;
        if number < OWNED {
            *free &= !(1 << number);
        }
        self.0.set(number);
        number
    }
}

impl Drop for ThreadNumber {
    fn drop(&mut self) {
        let number = self.0.get();
        if number < OWNED {
            *free() |= 1 << number;
        }
    }
}

#[cfg(all(test, not(steadfast_loom)))]
mod tests {
    use super::*;
    use std::{collections::HashSet, sync::Barrier, thread};

    #[test]
    fn up_to_32_living_threads_own_a_shard_each_and_the_rest_share_one() {
        let shards = ThreadShards::<AtomicU64>::default();
        let all_live = Barrier::new(2 * OWNED);
        let writers: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..2 * OWNED)
                .map(|_| {
                    scope.spawn(|| {
                        let (shard, writer) = shards.own();
                        all_live.wait();
                        (0..1000).for_each(|_| writer.add(shard, 1));
                        (std::ptr::from_ref(shard) as usize, writer)
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let alone: Vec<_> = writers.iter().filter(|(_, writer)| *writer == ShardWriter::Alone).collect();
        assert_eq!(alone.iter().map(|(shard, _)| shard).collect::<HashSet<_>>().len(), alone.len());
        assert!(alone.len() <= OWNED && alone.len() < writers.len());
        let counted: u64 = shards.iter().map(|shard| shard.load(Ordering::Relaxed)).sum();
        assert_eq!(counted, 2000 * OWNED as u64);
    }

    #[test]
    fn no_count_is_lost_when_threads_end() {
        let shards = ThreadShards::<AtomicU64>::default();
        for _ in 0..200 {
            thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        let (shard, writer) = shards.own();
                        writer.add(shard, 1);
                    });
                }
            });
        }
        assert_eq!(shards.iter().map(|shard| shard.load(Ordering::Relaxed)).sum::<u64>(), 400);
    }
}
