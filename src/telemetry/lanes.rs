//! Counters that one thread alone writes, so that counting takes no atomic read-modify-write.

use std::{
    array,
    cell::Cell,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// The lanes that belong to one thread each. Threads beyond share one more lane.
const OWNED: usize = 32;

/// One value for each thread, made by the first use.
pub(super) struct Lanes<T>([OnceLock<Box<T>>; OWNED + 1]);

/// Who writes to a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writer {
    /// This thread alone.
    Alone,
    /// Several threads.
    Shared,
}

impl Writer {
    /// Adds to a counter of the lane, with release: who reads it with acquire sees what was added before.
    #[inline]
    pub(super) fn add(self, counter: &AtomicU64, amount: u64) {
        match self {
            // No other thread writes between the load and the store.
            Self::Alone => counter.store(counter.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Release),
            Self::Shared => {
                counter.fetch_add(amount, Ordering::Release);
            }
        }
    }
}

impl<T: Default> Lanes<T> {
    /// The lane of this thread.
    #[inline]
    pub(super) fn own(&self) -> (&T, Writer) {
        // A thread that is ending has given its number back.
        let number = NUMBER.try_with(Number::get).unwrap_or(OWNED);
        let lane = self.0[number].get_or_init(Box::default);
        (lane, if number < OWNED { Writer::Alone } else { Writer::Shared })
    }

    /// All lanes that were used.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().filter_map(|lane| lane.get().map(|lane| &**lane))
    }
}

impl<T> Default for Lanes<T> {
    fn default() -> Self {
        Self(array::from_fn(|_| OnceLock::new()))
    }
}

thread_local! {
    static NUMBER: Number = const { Number(Cell::new(UNKNOWN)) };
}

/// No number was taken yet.
const UNKNOWN: usize = usize::MAX;

/// The number of a thread: one below [`OWNED`] that no other living thread has, or [`OWNED`].
///
/// The lock orders the threads that have one number after each other: the later one sees all that the earlier one has
/// counted.
struct Number(Cell<usize>);

/// The numbers that are free, as bits.
static FREE: Mutex<u32> = Mutex::new(u32::MAX);

const _: () = assert!(OWNED == u32::BITS as usize);

fn free() -> MutexGuard<'static, u32> {
    FREE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Number {
    #[inline]
    fn get(&self) -> usize {
        let number = self.0.get();
        if number == UNKNOWN { self.take() } else { number }
    }

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

impl Drop for Number {
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
    fn living_threads_have_lanes_of_their_own_and_the_rest_share_one() {
        let lanes = Lanes::<AtomicU64>::default();
        let all_live = Barrier::new(2 * OWNED);
        let writers: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..2 * OWNED)
                .map(|_| {
                    scope.spawn(|| {
                        let (lane, writer) = lanes.own();
                        all_live.wait();
                        (0..1000).for_each(|_| writer.add(lane, 1));
                        (std::ptr::from_ref(lane) as usize, writer)
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let alone: Vec<_> = writers.iter().filter(|(_, writer)| *writer == Writer::Alone).collect();
        assert_eq!(alone.iter().map(|(lane, _)| lane).collect::<HashSet<_>>().len(), alone.len());
        assert!(alone.len() <= OWNED && alone.len() < writers.len());
        let counted: u64 = lanes.iter().map(|lane| lane.load(Ordering::Relaxed)).sum();
        assert_eq!(counted, 2000 * OWNED as u64);
    }

    #[test]
    fn a_lane_goes_to_the_next_thread_with_what_was_counted() {
        let lanes = Lanes::<AtomicU64>::default();
        for _ in 0..200 {
            thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        let (lane, writer) = lanes.own();
                        writer.add(lane, 1);
                    });
                }
            });
        }
        assert_eq!(lanes.iter().map(|lane| lane.load(Ordering::Relaxed)).sum::<u64>(), 400);
        // Other tests run beside it, on threads with numbers of their own.
        assert!(lanes.iter().count() <= OWNED + 1);
    }
}
