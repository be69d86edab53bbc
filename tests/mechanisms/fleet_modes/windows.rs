//! Windows in the embedded store: the spends in any window, and the keys in memory.

use crate::support::fleet::Process;
use proptest::prelude::*;
use std::time::Duration;
use steadfast::rate_limit::distributed::Embedded;
use tokio::time::Instant;

const WINDOW: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);

fn fresh(client: u64) -> Process {
    Process::new("key", WINDOW, client)
}

/// Returns the most tokens spent in any window that ends with a spend.
fn worst_window(spends: &[(Instant, u64)]) -> u64 {
    let ending_at = |end: Instant| spends.iter().filter(move |(at, _)| *at <= end && end - *at < WINDOW);
    spends.iter().map(|(end, _)| ending_at(*end).map(|(_, tokens)| tokens).sum()).max().unwrap_or(0)
}

proptest! {
    #![proptest_config(crate::support::cases(400))]

    #[test]
    fn three_processes_never_spend_more_than_the_limit_in_a_window(
        limit in 1..200u64,
        steps in prop::collection::vec(
            (0..3usize, 0..4000u64, 0..=100u64, 0..300u64, any::<bool>(), any::<bool>()),
            1..120,
        ),
    ) {
        let store = Embedded::new();
        let mut now = Instant::now();
        let mut all: Vec<Process> = (1..=3).map(fresh).collect();
        let mut spends = Vec::new();
        let mut heard = [now; 3];
        for (who, millis, percent, want, is_answered, comes_again) in steps {
            now += Duration::from_millis(millis);
            // A store forgets a process that sends no demand for two windows. So a process that has sent none for one
            // window sends one now.
            for (process, heard) in all.iter_mut().zip(&mut heard).filter(|(_, heard)| now - **heard > WINDOW) {
                let demand = process.demand(limit, 0, now);
                process.answered(&store.settle_at(&[demand], now)[0]);
                *heard = now;
            }
            let process = &mut all[who];
            let tokens = process.held * percent / 100;
            if tokens > 0 {
                process.spend(tokens, now);
                spends.push((now, tokens));
            }
            let demand = process.demand(limit, want, now);
            let settled = store.settle_at(std::slice::from_ref(&demand), now)[0];
            heard[who] = now;
            if comes_again {
                // A repeated demand counts for nothing.
                prop_assert_eq!(store.settle_at(&[demand], now)[0].granted, 0);
            }
            // The grant of a lost answer goes to no process.
            if is_answered {
                process.answered(&settled);
            }
        }
        prop_assert!(worst_window(&spends) <= limit, "{} of {limit}", worst_window(&spends));
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_held_or_spent_by_one_process_are_not_granted_to_another() {
    let (store, now) = (Embedded::new(), Instant::now());
    let (mut first, mut second) = (fresh(1), fresh(2));
    let settle = |process: &mut Process, want, now| {
        let demand = process.demand(100, want, now);
        let settled = store.settle_at(&[demand], now)[0];
        process.answered(&settled);
        settled.granted
    };
    assert_eq!(settle(&mut first, 60, now), 60);
    assert_eq!(settle(&mut second, 60, now), 40);
    first.spend(60, now + SECOND);
    assert_eq!(settle(&mut first, 10, now + SECOND), 0);
    // The store divides time into fortieths of the window, 250 ms each. Tokens spent at 1 s count until a window after
    // the end of their fortieth, so until 11.25 s.
    assert_eq!(settle(&mut second, 10, now + WINDOW + SECOND), 0);
    assert_eq!(settle(&mut second, 100, now + WINDOW + SECOND + SECOND / 4), 60);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_lost_its_data_learns_what_was_spent_and_grants_nothing_for_a_window() {
    let (store, now) = (Embedded::new(), Instant::now());
    let mut process = fresh(1);
    let demand = process.demand(100, 80, now);
    process.answered(&store.settle_at(&[demand], now)[0]);
    process.spend(70, now);
    let demand = process.demand(100, 0, now);
    process.answered(&store.settle_at(&[demand], now)[0]);
    store.clear();
    let demand = process.demand(100, 0, now + SECOND);
    let settled = store.settle_at(&[demand], now + SECOND)[0];
    assert_eq!((settled.lost, settled.total, settled.free), (true, 140, 0));
    // A new process gets nothing either, until unreported spends no longer count.
    let mut newcomer = fresh(2);
    let mut granted = |at| {
        let demand = newcomer.demand(100, 10, at);
        store.settle_at(&[demand], at)[0].granted
    };
    assert_eq!(granted(now + SECOND + WINDOW - Duration::from_nanos(1)), 0);
    assert_eq!(granted(now + SECOND + WINDOW), 10);
}

#[tokio::test(start_paused = true)]
async fn keys_that_no_process_uses_are_forgotten_by_the_store() {
    let (store, mut now) = (Embedded::new(), Instant::now());
    for number in 0..100_000u64 {
        now += Duration::from_millis(10);
        let demand = Process::new(number.to_le_bytes(), WINDOW, 1).demand(100, 0, now);
        store.settle_at(&[demand], now);
    }
    // The store needs the 2,000 keys of the last two windows. It looks for keys to forget each time that the number of
    // keys has doubled.
    assert!(store.keys() < 6000, "{} keys", store.keys());
}
