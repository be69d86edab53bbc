//! How long the check of a known key takes at worst while another thread sends new keys.
//!
//! Every limiter has room for [`ROOM`] keys and knows [`KNOWN`] keys, which arrive all the time. One thread times each
//! of their checks with two clock readings. On two threads, the other thread floods the limiter with new keys. Keys
//! that recover lose one token each, which returns after a millisecond. Keys that drain lose all tokens, so that no key
//! can be evicted without loss. Our limit gives new keys one shared bucket once its table is full; governor grows;
//! rate-net and throttle-net keep the debts of the keys that they evict.

use super::limits::{Limit, Ours, Size, monotonic_governor, rate_net, throttle_net};
use crate::{
    allocations,
    gate::Gate,
    harness::{Contestant, Effort, Role, Row},
    pinning::pin,
    tally::Turn,
};
use clock_lib::SystemClock;
use foldhash::fast::RandomState as FastHasher;
use std::{
    hint::black_box,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};
use steadfast::rate_limit::Overflow;

const ROOM: usize = 100_000;
const KNOWN: u64 = 1_000;
const BURST: u32 = 1_000_000;
const SIZE: Size = Size { interval: Duration::from_millis(1), burst: BURST, keys: ROOM };

/// The first cost of a known key, so that its bucket does not become full during a turn.
const FIRST: u32 = 10_000;

/// Known keys start here.
const FIRST_KNOWN: u64 = 1 << 62;

/// How many checks form one window: about a millisecond of checks.
const WINDOW: usize = 1 << 13;

pub fn rows() -> Vec<Row> {
    [("recover", 1), ("drain", BURST)].map(|(what, tokens)| row(what, tokens)).into()
}

fn row(what: &str, tokens: u32) -> Row {
    Row::new(
        format!("keyed rate limit: p99.9 of a known key (2 threads: while new keys flood it and {what})"),
        vec![
            contestant(Role::Ours, "steadfast", tokens, || Ours::new(SIZE, Overflow::Shared, FastHasher::default())),
            contestant(Role::Peer, "governor", tokens, || monotonic_governor(SIZE, FastHasher::default())),
            contestant(Role::Peer, "rate-net", tokens, || rate_net(HALF, SystemClock::new())),
            contestant(Role::Peer, "throttle-net", tokens, || throttle_net(HALF, SystemClock::new())),
        ],
    )
}

/// rate-net and throttle-net are sized for twice the keys.
const HALF: Size = Size { keys: ROOM / 2, ..SIZE };

fn contestant<L: Limit>(
    role: Role,
    name: &'static str,
    tokens: u32,
    make: impl Fn() -> L + Sync + 'static,
) -> Contestant {
    Contestant::by_turns(role, name, move |threads, effort| turn(&make(), tokens, threads, effort))
}

/// Fills the limit, and a tenth more, while its known keys arrive, and then times their checks.
fn turn(limit: &impl Limit, tokens: u32, threads: usize, effort: Effort) -> Turn {
    for known in 0..KNOWN {
        assert!(limit.take(FIRST_KNOWN + known, FIRST));
    }
    let filled = ROOM as u64 / 10 * 11;
    for key in 0..filled {
        limit.take(key, tokens);
        if key % 4 == 0 {
            limit.take(FIRST_KNOWN + key / 4 % KNOWN, 1);
        }
    }
    let (gate, over, flooded) = (&Gate::new(threads), &AtomicBool::new(false), &AtomicU64::new(filled));
    thread::scope(|scope| {
        if threads > 1 {
            scope.spawn(move || {
                pin(1);
                gate.pass();
                while !over.load(Relaxed) {
                    let key = flooded.load(Relaxed);
                    black_box(limit.take(black_box(key), tokens));
                    flooded.store(key + 1, Relaxed);
                }
            });
        }
        let timed = scope.spawn(move || {
            pin(0);
            gate.pass();
            let turn = time(limit, flooded, threads, effort);
            over.store(true, Relaxed);
            turn
        });
        timed.join().expect("a measuring thread panicked")
    })
}

/// Times checks of known keys. Windows in which the flood stalled do not count.
fn time(limit: &impl Limit, flooded: &AtomicU64, threads: usize, effort: Effort) -> Turn {
    let mut samples: Vec<u32> = Vec::with_capacity(effort.measured.as_nanos() as usize / 20 + WINDOW);
    let (mut wrong, mut checks, mut known) = (0, 0, 0);
    let (allocations, flood) = (allocations::so_far(), flooded.load(Relaxed));
    let begin = Instant::now();
    while begin.elapsed() < effort.measured && samples.len() + WINDOW <= samples.capacity() {
        let (before, kept) = (flooded.load(Relaxed), samples.len());
        for _ in 0..WINDOW {
            known = (known + 1) % KNOWN;
            let begin = Instant::now();
            let admitted = limit.take(black_box(FIRST_KNOWN + known), 1);
            samples.push(begin.elapsed().as_nanos().try_into().unwrap_or(u32::MAX));
            wrong += u64::from(!admitted);
        }
        checks += WINDOW as u64;
        if threads > 1 && flooded.load(Relaxed) == before {
            samples.truncate(kept);
        }
    }
    let calls = checks + flooded.load(Relaxed) - flood;
    let allocations = (allocations::so_far() - allocations) as f64 / calls as f64;
    Turn { nanos: nearly_worst(&mut samples), allocations, wrong }
}

/// Returns the time that one check in a thousand exceeded.
fn nearly_worst(samples: &mut [u32]) -> Option<f64> {
    let place = samples.len().checked_sub(samples.len() / 1000 + 1)?;
    let (_, nanos, _) = samples.select_nth_unstable(place);
    Some(f64::from(*nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EFFORT: Effort =
        Effort { repetitions: 1, warm_up: Duration::from_millis(1), measured: Duration::from_millis(20) };

    /// Admits every key at once, except the known keys.
    #[derive(Clone, Copy)]
    struct Odd {
        admits: bool,
        slow: bool,
    }

    impl Limit for Odd {
        fn take(&self, key: u64, tokens: u32) -> bool {
            if key < FIRST_KNOWN || tokens == FIRST {
                return true;
            }
            let begin = Instant::now();
            // One known key in five hundred.
            while self.slow && key.is_multiple_of(500) && begin.elapsed() < Duration::from_micros(50) {}
            self.admits
        }
    }

    #[test]
    fn a_known_key_that_is_refused_is_a_wrong_answer() {
        for (admits, seen) in [(true, false), (false, true)] {
            let turn = turn(&Odd { admits, slow: false }, 1, 1, EFFORT);
            assert_eq!(turn.wrong > 0, seen);
        }
    }

    #[test]
    fn a_check_in_five_hundred_that_is_slow_is_seen() {
        let nanos = turn(&Odd { admits: true, slow: true }, 1, 1, EFFORT).nanos;
        assert!(nanos.is_some_and(|nanos| nanos >= 50_000.0), "{nanos:?}");
    }

    #[test]
    fn one_in_a_thousand_took_longer() {
        let mut samples: Vec<u32> = (1..=10_000).collect();
        assert_eq!(nearly_worst(&mut samples), Some(9_990.0));
        assert_eq!(nearly_worst(&mut []), None);
    }
}
