//! Windows in Redis match those of the embedded store.

use super::fixture::{Process, SECOND, demand, seeded, settled, store};
use crate::trial::trials;
use rand::RngExt;
use std::time::Duration;
use steadfast::rate_limit::distributed::{Demand, Embedded, Settled, Store, StoreErrorKind};
use tokio::time::{Instant, sleep};

trials![
    any_demand_gets_the_answer_of_the_embedded_store,
    spends_count_for_a_window_and_a_fortieth,
    tokens_held_by_a_silent_process_count_as_spent_after_two_windows,
    a_demand_sent_again_is_ignored,
    a_server_that_lost_its_data_reports_it,
    a_window_expires_when_nothing_in_it_counts,
    a_shorter_window_forgets_by_time,
    a_clock_that_went_back_locks_no_process_out,
    a_foreign_value_is_named,
    sixty_four_windows_are_settled_in_order,
];

/// Nothing leaves these long windows during the test, so the clocks of the two stores do not matter.
async fn any_demand_gets_the_answer_of_the_embedded_store() {
    let (_server, redis) = store().await;
    for seed in 0..4 {
        let mut random = seeded(seed);
        let embedded = Embedded::new();
        let limit = [40, 300, 5000, 1 << 52][seed as usize];
        let process = |client| Process::new(format!("key {seed}"), 3000 * SECOND, client);
        let mut all: Vec<Process> = (1..=5).map(process).collect();
        for step in 0..250 {
            let process = &mut all[random.random_range(0..5)];
            let now = Instant::now();
            if process.held > 0 {
                let tokens = random.random_range(0..=process.held);
                process.spend(tokens, now);
            }
            let demand = process.demand(limit, random.random_range(0..limit / 4 + 2), now);
            let demands = [demand];
            let mut answers = Vec::new();
            for _ in 0..random.random_range(1..3) {
                let in_redis = redis.settle(&demands).await.expect("a store that answers")[0];
                let in_memory = embedded.settle_at(&demands, Instant::now())[0];
                assert_eq!(in_redis, in_memory, "{seed}, {step}: {demands:?}");
                answers.push(in_redis);
            }
            process.answered(&answers[0]);
            // A process that knows of more than the store, as after a loss of data.
            if random.random_range(0..40) == 0 {
                process.total += 1;
            }
        }
    }
}

async fn spends_count_for_a_window_and_a_fortieth() {
    let (_server, store) = store().await;
    let window = Duration::from_millis(800);
    let first = Demand { want: 10, ..demand("key", 10, window, 1) };
    assert_eq!(settled(&store, first).await.granted, 10);
    let spent_at = Instant::now();
    let spent = Demand { spent: 10, spends: vec![(Duration::ZERO, 10)], want: 1, ..demand("key", 10, window, 2) };
    assert_eq!(settled(&store, spent).await, Settled { granted: 0, free: 0, total: 10, lost: false });
    for sequence in 3.. {
        let now = Instant::now();
        let age = now - spent_at;
        let again =
            Demand { spent: 10, spends: vec![(age, 10)], want: 1, total: 10, ..demand("key", 10, window, sequence) };
        let granted = settled(&store, again).await.granted;
        let age_then = Instant::now() - spent_at;
        if granted > 0 {
            assert!(age_then >= window, "{age_then:?}");
            break;
        }
        assert!(age < window + window / 40 + Duration::from_millis(5), "{age:?}");
        sleep(Duration::from_millis(2)).await;
    }
}

async fn tokens_held_by_a_silent_process_count_as_spent_after_two_windows() {
    let (_server, store) = store().await;
    let window = Duration::from_millis(300);
    let holder = Demand { want: 6, ..demand("key", 10, window, 1) };
    assert_eq!(settled(&store, holder).await.granted, 6);
    let other = |sequence| Demand { client: 2, want: 10, held: 4, ..demand("key", 10, window, sequence) };
    assert_eq!(settled(&store, Demand { held: 0, ..other(1) }).await.granted, 4);
    sleep(window).await;
    assert_eq!(settled(&store, other(2)).await.granted, 0, "still held");
    sleep(window + window / 4).await;
    let counted = settled(&store, other(3)).await;
    assert_eq!((counted.granted, counted.total), (0, 6), "now it counts as spent");
    sleep(window + window / 4).await;
    assert_eq!(settled(&store, other(4)).await.granted, 6, "and a window later it no longer counts");
}

async fn a_demand_sent_again_is_ignored() {
    let (_server, store) = store().await;
    let first = Demand { spent: 3, spends: vec![(SECOND, 3)], want: 4, ..demand("key", 10, 60 * SECOND, 7) };
    assert_eq!(settled(&store, first.clone()).await, Settled { granted: 4, free: 3, total: 3, lost: false });
    assert_eq!(settled(&store, first.clone()).await, Settled { granted: 0, free: 0, total: 3, lost: false });
    assert_eq!(settled(&store, Demand { sequence: 6, ..first }).await.total, 3);
}

async fn a_server_that_lost_its_data_reports_it() {
    let (server, store) = store().await;
    let first = Demand { spent: 3, spends: vec![(Duration::ZERO, 3)], ..demand("key", 10, 60 * SECOND, 1) };
    assert_eq!(settled(&store, first.clone()).await.total, 3);
    server.command(&["FLUSHALL"]).await;
    let again = Demand { sequence: 2, total: 3, want: 9, ..first };
    assert_eq!(settled(&store, again.clone()).await, Settled { granted: 0, free: 0, total: 6, lost: true });
    // Other processes get nothing for a window, either.
    let other = Demand { client: 2, ..again };
    assert_eq!(settled(&store, other).await, Settled { granted: 0, free: 0, total: 9, lost: false });
}

async fn a_window_expires_when_nothing_in_it_counts() {
    let (server, store) = store().await;
    let window = Duration::from_millis(400);
    settled(&store, Demand { spent: 1, spends: vec![(Duration::ZERO, 1)], ..demand("key", 10, window, 1) }).await;
    let left = server.integer(&["PTTL", "steadfast:w:key"]).await;
    assert!((1600..=1801).contains(&left), "{left} ms of two windows and a second");
    settled(&store, Demand { spent: 1, want: 1, ..demand("key", 10, window, 2) }).await;
    let left = server.integer(&["PTTL", "steadfast:w:key"]).await;
    assert!((2000..=2211).contains(&left), "{left} ms of three windows, a fortieth and a second");
    sleep(Duration::from_millis(2250)).await;
    assert_eq!(server.integer(&["EXISTS", "steadfast:w:key"]).await, 0);
}

async fn a_shorter_window_forgets_by_time() {
    let (_server, store) = store().await;
    let first = Demand { spent: 9, spends: vec![(SECOND, 9)], ..demand("key", 10, 60 * SECOND, 1) };
    assert_eq!(settled(&store, first).await.free, 1);
    let longer = Demand { spent: 9, ..demand("key", 10, 600 * SECOND, 2) };
    assert_eq!(settled(&store, longer).await.free, 1);
    // The old cell ends up to a fortieth of the old window later.
    sleep(Duration::from_millis(1600)).await;
    let shorter = Demand { spent: 9, ..demand("key", 10, SECOND, 3) };
    assert_eq!(settled(&store, shorter).await.free, 10);
}

async fn a_foreign_value_is_named() {
    let (server, store) = store().await;
    let header = |numbers: [f64; 7]| [&[4][..], &numbers.map(f64::to_le_bytes).concat()].concat();
    let good = header([1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    server.command_of_bytes(&[b"SET", b"steadfast:w:good", &good]).await;
    assert_eq!(settled(&store, demand("good", 5, SECOND, 1)).await.total, 1);
    server.command(&["DEL", "steadfast:w:good"]).await;
    let foreign = [
        b"text".to_vec(),
        header([1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]),
        header([1.0, 1.0, f64::NAN, 0.0, 0.0, 0.0, 0.0]),
        header([1.0, -1.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
        header([1.0, 1.0, -2.5, 0.0, 0.0, 0.0, 0.0]),
        header([1.0, 1.0, 0.0, 0.0, 0.0, 0.0, -1.0]),
        vec![4; 97],
    ];
    for value in foreign {
        server.command_of_bytes(&[b"SET", b"steadfast:w:bad", &value]).await;
        let batch = [demand("good", 5, SECOND, 1), demand("bad", 5, SECOND, 1)];
        let error = store.settle(&batch).await.expect_err("the key has another value");
        assert_eq!(error.kind(), StoreErrorKind::Incomprehensible);
        assert!(error.to_string().contains(r#""steadfast:w:bad""#), "{error}");
    }
    assert_eq!(server.integer(&["EXISTS", "steadfast:w:good"]).await, 0);
}

async fn sixty_four_windows_are_settled_in_order() {
    let (_server, store) = store().await;
    let demands: Vec<Demand> =
        (0..64).map(|key| Demand { want: key, ..demand(format!("key {key}"), 100, SECOND, 1) }).collect();
    let granted = store.settle(&demands).await.expect("a store that answers");
    assert_eq!(granted.iter().map(|settled| settled.granted).collect::<Vec<_>>(), (0..64).collect::<Vec<_>>());
}

async fn a_clock_that_went_back_locks_no_process_out() {
    let (server, store) = store().await;
    let window = Duration::from_millis(400);
    let spent = Demand { spent: 60, spends: vec![(Duration::ZERO, 60)], ..demand("key", 100, window, 1) };
    assert_eq!(settled(&store, spent).await.total, 60);
    // All times in the value are an hour ahead, as if the server's clock had been.
    let get = server.command_of_bytes(&[b"GET", b"steadfast:w:key"]).await;
    let redis::Value::BulkString(mut value) = get else { panic!("{get:?}") };
    let number = |value: &[u8], at: usize| f64::from_le_bytes(value[at..at + 8].try_into().expect("eight bytes"));
    let cells = number(&value, 17) as usize;
    let times = [1, 41].into_iter().chain((0..cells).map(|cell| 57 + 16 * cell)).chain([57 + 16 * cells + 32]);
    for at in times.collect::<Vec<_>>() {
        let ahead = number(&value, at) + 3600e6;
        value[at..at + 8].copy_from_slice(&ahead.to_le_bytes());
    }
    server.command_of_bytes(&[b"SET", b"steadfast:w:key", &value]).await;
    // The spends still count ..
    let other = |sequence, held| Demand { client: 2, held, want: 100, ..demand("key", 100, window, sequence) };
    assert_eq!(settled(&store, other(1, 0)).await.granted, 40);
    // .. and no longer than before.
    sleep(window + window / 8).await;
    assert_eq!(settled(&store, other(2, 40)).await.granted, 60);
}
