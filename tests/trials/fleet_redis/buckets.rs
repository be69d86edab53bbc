//! Buckets in Redis match those of the embedded store.

use super::fixture::{SECOND, charge, charged, one_of, seeded, slow, store, want};
use crate::{server::text, trial::trials};
use rand::RngExt;
use std::time::Duration;
use steadfast::rate_limit::{
    Quota,
    distributed::{Charge, Charged, Embedded, Hint, Store, StoreErrorKind, conformance},
};
use tokio::time::{Instant, sleep};

trials![
    the_conformance_suite_passes,
    any_charge_gets_the_answer_of_the_embedded_store,
    an_unknown_script_is_sent_again,
    a_bucket_expires_a_second_after_it_has_drained,
    a_refusal_writes_nothing,
    more_than_the_burst_can_be_owed,
    spends_count_once,
    a_hint_restores_lost_data,
    sixty_four_keys_are_one_call,
    a_key_may_be_any_bytes,
    a_foreign_value_is_named_and_left_alone,
    frequent_requests_lose_no_drained_tokens,
    a_wait_is_long_enough_and_not_longer,
];

/// Random charges. The embedded store uses the times in the answers of Redis, so both have the same clock.
async fn any_charge_gets_the_answer_of_the_embedded_store() {
    let (_server, redis) = store().await;
    for seed in 0..4 {
        let mut random = seeded(seed);
        let embedded = Embedded::new();
        let base = Instant::now() + SECOND;
        let mut epoch = None;
        let mut last: Option<(Charge, Charged, Charged)> = None;
        for step in 0..300 {
            // The script rounds a level that is a millionth of a token above a whole number. The embedded store is exact. A
            // microsecond drains a multiple of two millionths of a token of these quotas, also beside a debt.
            let quotas = [
                Quota::new(10, SECOND).with_burst(20),
                Quota::new(7, Duration::from_millis(1)).with_burst(50),
                Quota::new(1000, SECOND).with_burst(10),
                Quota::new(30, SECOND).with_burst(1 << 40),
            ];
            let want = random.random_range(0..30);
            let mut charge = Charge {
                client: random.random_range(0..70),
                sequence: random.random_range(1..40),
                spent: one_of(&mut random, &[0, 0, 0, 1, 9, 100]),
                max_debt: one_of(&mut random, &[0, 5, 60]),
                want,
                least: random.random_range(0..=want.max(1)),
                late: one_of(&mut random, &[0, 0, 1, 3, 40]),
                // The quota changes from time to time.
                ..charge(format!("key {seed}"), quotas[(step / 40 + seed as usize) % quotas.len()])
            };
            let (mut of, mut hint_of) = (Duration::ZERO, Duration::MAX);
            if let Some((before, in_redis, in_memory)) = &last {
                if random.random_range(0..6) == 0 {
                    charge = before.clone();
                }
                if random.random_range(0..6) == 0 {
                    charge.refund = random.random_range(0..20);
                    (charge.refund_of, of) = (in_redis.at, in_memory.at);
                }
                if random.random_range(0..6) == 0 {
                    charge.hint = Hint {
                        level: random.random_range(0..60),
                        at: Duration::MAX,
                        total: in_redis.total + step as u64,
                    };
                    // Half of the hints are as old as the last answer, and have drained since.
                    if random.random_range(0..2) == 0 {
                        (charge.hint.at, hint_of) = (in_redis.at, in_memory.at);
                    }
                }
            }
            let in_redis = charged(&redis, charge.clone()).await;
            let now = base + (in_redis.at - *epoch.get_or_insert(in_redis.at));
            let hint = Hint { at: hint_of, ..charge.hint };
            let of_memory = Charge { refund_of: of, hint, ..charge.clone() };
            let in_memory = embedded.charge_at(&[of_memory], now)[0];
            let rounded = in_redis.retry_after.abs_diff(in_memory.retry_after);
            // A changed quota rounds the debt, at worst to a millionth of a token.
            let millionths = charge.quota.period() / charge.quota.count() as u32 / 250_000;
            assert!(
                rounded <= Duration::from_micros(2) + millionths,
                "{seed}, {step}: {charge:?}: {in_redis:?}, {in_memory:?}"
            );
            let compared = Charged { at: in_redis.at, retry_after: in_redis.retry_after, ..in_memory };
            assert_eq!(in_redis, compared, "{seed}, {step}: {charge:?}");
            (charge.refund, charge.hint) = (0, Hint::default());
            last = Some((charge, in_redis, in_memory));
            if random.random_range(0..3) == 0 {
                sleep(Duration::from_micros(random.random_range(0..8000))).await;
            }
        }
    }
}

async fn an_unknown_script_is_sent_again() {
    let (server, store) = store().await;
    for expected in [9, 8, 7] {
        server.command(&["SCRIPT", "FLUSH"]).await;
        assert_eq!(charged(&store, want("key", slow(9), 1)).await.level, 10 - expected);
    }
    assert_eq!(charged(&store, want("key", slow(9), 1)).await.level, 4);
    assert_eq!(server.info("cmdstat_eval").await.split(',').next(), Some("calls=3"));
}

async fn a_bucket_expires_a_second_after_it_has_drained() {
    let (server, store) = store().await;
    let quota = Quota::new(100, SECOND);
    charged(&store, want("key", quota, 50)).await;
    let left = server.integer(&["PTTL", "steadfast:b:key"]).await;
    assert!((1300..=1500).contains(&left), "{left} ms");
    sleep(Duration::from_millis(1550)).await;
    assert_eq!(server.integer(&["EXISTS", "steadfast:b:key"]).await, 0);
    assert_eq!(charged(&store, want("key", quota, 100)).await.granted, 100);
}

async fn a_refusal_writes_nothing() {
    let (server, store) = store().await;
    charged(&store, charge("never", slow(5))).await;
    assert_eq!(server.integer(&["EXISTS", "steadfast:b:never"]).await, 0);
    charged(&store, want("key", slow(5), 5)).await;
    let before = server.info("cmdstat_set").await;
    for _ in 0..10 {
        assert_eq!(charged(&store, want("key", slow(5), 1)).await.granted, 0);
    }
    assert_eq!(server.info("cmdstat_set").await, before);
}

async fn more_than_the_burst_can_be_owed() {
    let (_server, store) = store().await;
    let spend = |sequence, spent| Charge { sequence, spent, max_debt: 20, ..want("key", slow(10), 1) };
    let owing = charged(&store, spend(1, 15)).await;
    assert_eq!((owing.granted, owing.level, owing.total), (0, 15, 15));
    assert_eq!(owing.retry_after.as_secs().div_ceil(10_000), 6);
    let most = charged(&store, spend(2, 100)).await;
    assert_eq!((most.level, most.total), (30, 115), "spends beyond the largest debt are forgiven");
}

async fn spends_count_once() {
    let (_server, store) = store().await;
    let spend = |client, sequence| Charge { client, sequence, spent: 3, ..charge("key", slow(100)) };
    assert_eq!(charged(&store, spend(1, 5)).await.total, 3);
    assert_eq!(charged(&store, spend(1, 5)).await.total, 3, "sent again");
    assert_eq!(charged(&store, spend(1, 4)).await.total, 3, "overtaken");
    assert_eq!(charged(&store, spend(2, 5)).await.total, 6, "another process");
    assert_eq!(charged(&store, spend(1, 6)).await.total, 9);
}

async fn a_hint_restores_lost_data() {
    let (server, store) = store().await;
    let before = charged(&store, want("key", slow(100), 60)).await;
    server.command(&["FLUSHALL"]).await;
    let hint = Hint { level: before.level, at: Duration::MAX, total: before.total };
    let after = charged(&store, Charge { hint, ..want("key", slow(100), 50) }).await;
    assert_eq!((after.granted, after.level, after.total), (0, 60, 60));
}

async fn sixty_four_keys_are_one_call() {
    let (server, store) = store().await;
    let charges: Vec<Charge> = (0..64).map(|key| want(format!("key {key}"), slow(100), key)).collect();
    let answers = store.charge(&charges).await.expect("a store that answers");
    assert_eq!(answers.iter().map(|charged| charged.granted).collect::<Vec<_>>(), (0..64).collect::<Vec<_>>());
    assert_eq!(server.info("cmdstat_eval").await.split(',').next(), Some("calls=1"));
    assert_eq!(store.charge(&[]).await, Ok(Vec::new()));
}

async fn a_key_may_be_any_bytes() {
    let (server, store) = store().await;
    let all: Vec<u8> = (0..=255).cycle().take(1024).collect();
    for key in [&all[..], b"", b"\0", b"{", b"\r\n"] {
        assert_eq!(charged(&store, want(key, slow(5), 2)).await.granted, 2);
        assert_eq!(charged(&store, want(key, slow(5), 2)).await.level, 4);
        let in_redis = [b"steadfast:b:", key].concat();
        assert_eq!(server.command_of_bytes(&[b"EXISTS", &in_redis]).await, redis::Value::Int(1));
    }
}

async fn a_foreign_value_is_named_and_left_alone() {
    let (server, store) = store().await;
    let nan = f64::NAN.to_le_bytes();
    let not_a_number = [&[1][..], &nan, &nan, &nan, &nan].concat();
    let foreign: [&[u8]; 4] = [b"text", b"", &[0; 33], &not_a_number];
    for value in foreign {
        server.command_of_bytes(&[b"SET", b"steadfast:b:bad\n", value]).await;
        let batch = [want("good", slow(10), 1), want("bad\n", slow(10), 1)];
        let error = store.charge(&batch).await.expect_err("the key has another value");
        assert_eq!(error.kind(), StoreErrorKind::Incomprehensible);
        assert!(error.to_string().contains(r#""steadfast:b:bad\n""#), "{error}");
        let left = server.command_of_bytes(&[b"GET", b"steadfast:b:bad\n"]).await;
        assert_eq!(left, redis::Value::BulkString(value.to_vec()));
    }
    server.command(&["DEL", "steadfast:b:bad\n"]).await;
    server.command(&["RPUSH", "steadfast:b:bad\n", "value"]).await;
    let error = store.charge(&[want("bad\n", slow(10), 1)]).await.expect_err("the key has another type");
    assert_eq!(error.kind(), StoreErrorKind::Incomprehensible);
    assert_eq!(text(&server.command(&["TYPE", "steadfast:b:bad\n"]).await), "list");
    // The other keys of the batch were not counted.
    assert_eq!(charged(&store, want("good", slow(10), 10)).await.granted, 10);
}

async fn frequent_requests_lose_no_drained_tokens() {
    let (_server, store) = store().await;
    // The level is so high that its rounding error exceeds what drains between two calls.
    let quota = Quota::new(1000, SECOND).with_burst(1 << 53);
    let spend = |sequence, spent| Charge { sequence, spent, ..charge("key", quota) };
    let first = charged(&store, spend(1, 1 << 52)).await;
    let mut last = first;
    let mut spent = 0;
    while last.at < first.at + Duration::from_millis(1500) {
        spent += 1;
        last = charged(&store, spend(1 + spent, 1)).await;
    }
    let drained = first.level + spent - last.level;
    let expected = (last.at - first.at).as_millis() as u64;
    // A level counts as whole within 10^-15 of itself: here five tokens.
    assert!(drained.abs_diff(expected) <= 10, "{drained} of {expected} drained in {spent} calls");
}

async fn a_wait_is_long_enough_and_not_longer() {
    let (_server, store) = store().await;
    let quota = Quota::new(997, SECOND).with_burst(50);
    charged(&store, want("key", quota, 50)).await;
    let mut refusals = 0;
    for _ in 0..300 {
        let refused = charged(&store, want("key", quota, 7)).await;
        // On a busy machine 7 ms pass before the call, and the tokens are available.
        if refused.granted > 0 {
            continue;
        }
        refusals += 1;
        if refusals > 30 {
            return;
        }
        let until = refused.at + refused.retry_after;
        loop {
            let asked = charged(&store, want("key", quota, 7)).await;
            match asked.granted {
                0 => assert!(asked.at < until, "{asked:?} at the end of the wait"),
                _ => break assert!(asked.at >= until, "{asked:?} before the end of the wait, {until:?}"),
            }
        }
    }
    assert!(refusals > 0, "no call was refused");
}

async fn the_conformance_suite_passes() {
    let (_server, store) = store().await;
    // The second run uses the data of the first.
    for _ in 0..2 {
        conformance::check(&store).await.into_result().unwrap();
    }
}
