//! Stores with one defect in their buckets. Each test names the checks that must find it.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_store_that_grants_one_too_many() {
    one_too_many().fails(&["a_fresh_key_grants_up_to_the_burst", "concurrent_charges_share_the_burst"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_ignores_the_least() {
    asks(|charge| charge.least = 1).fails(&["less_than_the_least_is_not_granted"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_grants_all_or_nothing() {
    let store = asks(|charge| charge.least = charge.want.max(1));
    store.fails(&["a_fresh_key_grants_up_to_the_burst", "less_than_the_least_is_not_granted"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_counts_repeated_charges() {
    let counter = Counter::default();
    let store = asks(move |charge| charge.sequence = counter.next(&charge.key, charge.client));
    let fails = [
        "late_spends_take_room_up_to_the_burst_and_are_owed_beyond",
        "a_repeated_charge_is_counted_once",
        "a_charge_that_was_overtaken_is_not_counted",
        "the_same_sequence_of_another_client_is_counted",
    ];
    store.fails_only(&fails).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_knows_only_the_last_sequence_and_not_whether_it_went_back() {
    let last: Mutex<HashMap<(Arc<[u8]>, u64), u64>> = Mutex::default();
    let counter = Counter::default();
    let store = asks(move |charge| {
        if charge.spent > 0 {
            let before = last.lock().unwrap().insert((charge.key.clone(), charge.client), charge.sequence);
            charge.spent = if before == Some(charge.sequence) { 0 } else { charge.spent };
            charge.sequence = counter.next(&charge.key, charge.client);
        }
    });
    store.fails_only(&["a_charge_that_was_overtaken_is_not_counted"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_confuses_clients() {
    let only = ["the_same_sequence_of_another_client_is_counted"];
    asks(|charge| charge.client = 1).fails(&only).await;
    // A store may truncate the number of a client to four bits, and pass. With three bits it fails.
    asks(|charge| charge.client &= 0xf).fails_only(&[]).await;
    asks(|charge| charge.client &= 0x7).fails(&only).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_forgets_refunds_or_their_age() {
    let never = asks(|charge| charge.refund = 0);
    never.fails_only(&["a_refund_makes_room", "an_old_refund_gives_back_what_has_not_drained"]).await;
    let always = asks(|charge| charge.refund_of = Duration::MAX);
    let old = ["an_old_refund_gives_back_what_has_not_drained", "a_refund_that_has_drained_returns_nothing"];
    always.fails_only(&old).await;
    let total = answers(|charge, answer| answer.total -= charge.refund.min(answer.total));
    total.fails(&["a_refund_makes_room", "the_total_counts_grants_and_spends"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_ignores_the_age_of_a_hint() {
    let late = ["a_late_hint_counts_what_has_not_drained"];
    asks(|charge| charge.hint.at = Duration::MAX).fails_only(&late).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_forgives_debt() {
    let store = asks(|charge| charge.max_debt = 0);
    store
        .fails(&[
            "spends_raise_the_level_up_to_the_burst_plus_max_debt",
            "a_level_above_the_burst_drains_before_anything_is_granted",
        ])
        .await;
    asks(|charge| charge.max_debt = u64::MAX).fails(&["spends_raise_the_level_up_to_the_burst_plus_max_debt"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_treats_late_spends_like_others() {
    let fails = [
        "late_spends_take_room_up_to_the_burst_and_are_owed_beyond",
        "a_debt_is_repaid_with_two_fifths_of_the_rate",
        "a_debt_takes_the_whole_rate_of_an_empty_bucket",
    ];
    asks(|charge| charge.late = 0).fails_only(&fails).await;
    answers(|_, answer| answer.debt = 0).fails(&fails[..2]).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_count_spends() {
    let store = asks(|charge| charge.spent = 0);
    store.fails(&["the_total_counts_grants_and_spends", "a_repeated_charge_is_counted_once"]).await;
}

/// Returns a store with another clock: `clock` turns the time since the store was made into the time that it shows.
fn by_a_clock(clock: impl Fn(Duration) -> Duration + Send + Sync + 'static) -> Wrong {
    let start = Instant::now();
    charged(move |inner, charges| inner.charge_at(charges, start + clock(Instant::now() - start)))
}

#[tokio::test(start_paused = true)]
async fn a_store_that_never_drains_or_at_another_rate() {
    by_a_clock(|time| time).fails_only(&[]).await;
    let store = by_a_clock(|_| Duration::ZERO);
    store.fails(&["a_bucket_drains_at_its_rate", "asking_every_millisecond_loses_no_token"]).await;
    by_a_clock(|time| time * 21 / 20).fails(&["a_bucket_drains_at_its_rate"]).await;
    by_a_clock(|time| time * 19 / 20).fails(&["a_bucket_drains_at_its_rate"]).await;
    // A clock of 10 ms is too coarse; a clock of a millisecond is fine.
    let store = by_a_clock(|time| Duration::from_millis(time.as_millis() as u64 / 10 * 10));
    store.fails(&["a_process_that_waits_for_retry_after_is_granted"]).await;
    by_a_clock(|time| Duration::from_millis(time.as_millis() as u64)).fails_only(&[]).await;
}

/// Keeps whole tokens only: the tokens drained since the last charge are rounded down.
#[tokio::test(start_paused = true)]
async fn a_store_that_loses_parts_of_tokens() {
    let times: Mutex<HashMap<Arc<[u8]>, (Instant, Instant)>> = Mutex::default();
    let store = charged(move |inner, charges| {
        let (mut times, now) = (times.lock().unwrap(), Instant::now());
        let charge = |charge: &Charge| {
            let (asked, shown) = times.entry(charge.key.clone()).or_insert((now, now));
            let token = charge.quota.period().as_nanos() as u64 / charge.quota.count();
            let tokens = (now - *asked).as_nanos() as u64 / token.max(1);
            *asked = now;
            *shown += Duration::from_nanos(tokens * token);
            inner.charge_at(std::slice::from_ref(charge), *shown)[0]
        };
        charges.iter().map(charge).collect()
    });
    store.fails(&["asking_every_millisecond_loses_no_token", "alternating_quotas_grant_between_their_two_rates"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_mixes_up_keys() {
    let lower = asks(|charge| charge.key = charge.key.to_ascii_lowercase().into());
    lower.fails_only(&["keys_are_independent"]).await;
    let text = asks(|charge| charge.key = String::from_utf8_lossy(&charge.key).as_bytes().into());
    text.fails(&["a_key_is_any_bytes"]).await;
    let until_zero = asks(|charge| charge.key = charge.key.split(|byte| *byte == 0).next().unwrap_or(b"").into());
    until_zero.fails(&["a_key_is_any_bytes", "keys_are_independent"]).await;
    let cut = asks(|charge| charge.key = charge.key[..charge.key.len().min(1023)].into());
    cut.fails_only(&["a_key_is_any_bytes"]).await;
    let one = asks(|charge| charge.key = Arc::from(&b"key"[..]));
    one.fails(&["keys_are_independent", "less_than_the_least_is_not_granted"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_answers_in_another_order_or_not_for_all() {
    let backwards = charged(|inner, charges| inner.charge_at(charges, Instant::now()).into_iter().rev().collect());
    backwards.fails(&["the_largest_batch_is_answered_in_order"]).await;
    let short = charged(|inner, charges| inner.charge_at(&charges[..charges.len().min(63)], Instant::now()));
    short.fails_only(&["the_largest_batch_is_answered_in_order"]).await;
    let backwards = settled(|inner, demands| inner.settle_at(demands, Instant::now()).into_iter().rev().collect());
    backwards.fails_only(&["a_batch_of_windows_is_answered_in_order"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_whose_total_is_something_else() {
    let spends_only = answers(|_, answer| answer.total -= answer.granted);
    spends_only.fails(&["the_total_counts_grants_and_spends"]).await;
    let level = answers(|_, answer| answer.total = answer.level);
    level.fails(&["a_refund_makes_room", "an_idle_bucket_saves_up_no_more_than_the_burst"]).await;
    let wraps = answers(|_, answer| answer.total &= u64::from(u32::MAX));
    wraps.fails(&["the_largest_burst_is_granted_and_counted"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_ignores_hints_or_believes_all() {
    asks(|charge| charge.hint = Default::default()).fails(&["a_hint_repairs_lost_data"]).await;
    let believes = asks(|charge| charge.hint.total = charge.hint.total.max(1 << 20));
    believes.fails(&["a_hint_that_is_not_ahead_of_the_store_is_ignored"]).await;
    let full = asks(|charge| charge.hint.level = charge.quota.burst());
    full.fails(&["a_hint_repairs_lost_data"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_whose_retry_after_is_too_short_or_too_long() {
    let waits = ["retry_after_is_the_time_until_there_is_room", "a_process_that_waits_for_retry_after_is_granted"];
    answers(|_, answer| answer.retry_after /= 2).fails(&waits).await;
    answers(|_, answer| answer.retry_after *= 2).fails(&waits[..1]).await;
    // The store answers with at most a tenth of the period. For a quota of ten tokens, that is the time for one token,
    // not for `least`.
    answers(|charge, answer| answer.retry_after = answer.retry_after.min(charge.quota.period() / 10))
        .fails(&waits)
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_starts_over_with_a_new_quota() {
    let quotas: Mutex<HashMap<Arc<[u8]>, (Quota, u8)>> = Mutex::default();
    let store = asks(move |charge| {
        let mut quotas = quotas.lock().unwrap();
        let (quota, era) = quotas.entry(charge.key.clone()).or_insert((charge.quota, 0));
        if *quota != charge.quota {
            (*quota, *era) = (charge.quota, era.wrapping_add(1));
        }
        charge.key = [&charge.key[..], &[*era]].concat().into();
    });
    let fails = [
        "a_changed_quota_does_not_reprice_spent_tokens",
        "a_smaller_burst_forgives_nothing",
        "alternating_quotas_grant_between_their_two_rates",
    ];
    store.fails(&fails).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_keeps_the_first_quota() {
    let quotas: Mutex<HashMap<Arc<[u8]>, Quota>> = Mutex::default();
    let store = asks(move |charge| {
        let mut quotas = quotas.lock().unwrap();
        charge.quota = *quotas.entry(charge.key.clone()).or_insert(charge.quota);
    });
    let fails =
        ["a_changed_quota_does_not_reprice_spent_tokens", "a_bucket_drains_by_the_old_quota_until_the_new_one_comes"];
    store.fails(&fails).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_counts_in_floating_point() {
    let store = asks(|charge| charge.want = charge.want as f32 as u64);
    store.fails_only(&[]).await;
    let store = answers(|_, answer| answer.level = answer.level as f32 as u64);
    store.fails(&["the_largest_burst_is_granted_and_counted"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_always_grants_something() {
    asks(|charge| charge.want = charge.want.max(1)).fails(&["a_charge_that_wants_nothing_changes_nothing"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_treats_each_hint_as_a_full_bucket() {
    let store = asks(|charge| {
        if charge.hint.total > 0 {
            charge.hint.level = charge.quota.burst();
            charge.hint.total = charge.hint.total.saturating_add(1);
        }
    });
    store
        .fails(&["a_hint_of_an_expired_bucket_does_no_harm", "a_hint_that_is_not_ahead_of_the_store_is_ignored"])
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_store_whose_numbers_are_too_small() {
    // The store keeps milliseconds in 32 bits.
    let store = answers(|_, answer| answer.retry_after = answer.retry_after.min(Duration::from_millis(1 << 32)));
    store
        .fails_only(&[
            "the_largest_burst_is_granted_and_counted",
            "the_slowest_rate_is_kept",
            "no_number_is_too_large_for_a_bucket",
        ])
        .await;
    // The store keeps tokens in 63 bits.
    let store = asks(|charge| charge.spent = if charge.spent > i64::MAX as u64 { 0 } else { charge.spent });
    store.fails_only(&["no_number_is_too_large_for_a_bucket"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_has_no_empty_key() {
    let store = answers(|charge, answer| answer.granted *= u64::from(!charge.key.is_empty()));
    store.fails_only(&["the_empty_key_is_a_key"]).await;
}
