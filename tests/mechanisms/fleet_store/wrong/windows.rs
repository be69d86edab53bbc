//! Stores with one defect in their windows. Each test names the checks that must find it.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_store_that_has_one_map_for_buckets_and_windows() {
    let seen: Arc<Mutex<HashSet<Arc<[u8]>>>> = Arc::default();
    let of_buckets = seen.clone();
    let mut store = charged(move |inner, charges| {
        of_buckets.lock().unwrap().extend(charges.iter().map(|charge| charge.key.clone()));
        inner.charge_at(charges, Instant::now())
    });
    // Spends of the bucket show in the total of the window.
    store.settle = Box::new(move |inner, demands| {
        let of_bucket = |demand: &Demand| seen.lock().unwrap().contains(&demand.key) && !demand.key.is_empty();
        let mut answers = inner.settle_at(demands, Instant::now());
        let both = demands.iter().zip(&mut answers).filter(|(demand, _)| of_bucket(demand));
        both.for_each(|(_, answer)| answer.total += 5);
        answers
    });
    store.fails_only(&["a_bucket_and_a_window_of_one_key_are_independent"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_gives_a_window_to_the_wrong_client() {
    let store = demands(|demand| demand.client = 1);
    store.fails(&["held_tokens_are_not_granted_to_another_client", "no_window_has_more_spends_than_the_limit"]).await;
    // Each client has its own window.
    let store = demands(|demand| demand.key = [&demand.key[..], &demand.client.to_le_bytes()].concat().into());
    store.fails(&["held_tokens_are_not_granted_to_another_client", "no_window_has_more_spends_than_the_limit"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_grants_a_repeated_demand() {
    let counter = Counter::default();
    let store = demands(move |demand| demand.sequence = counter.next(&demand.key, demand.client));
    let fails = [
        "a_repeated_demand_grants_and_counts_nothing",
        "a_demand_that_was_overtaken_is_ignored",
        "no_window_has_more_spends_than_the_limit",
    ];
    store.fails(&fails).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_counts_spends_from_the_report_on_or_not_for_a_window() {
    let late = demands(|demand| demand.spends.iter_mut().for_each(|(age, _)| *age = Duration::ZERO));
    late.fails_only(&["spends_count_from_the_time_at_which_they_were_spent"]).await;
    let short = demands(|demand| demand.window = demand.window * 9 / 10);
    short.fails(&["spends_count_until_a_window_later"]).await;
    let long = demands(|demand| demand.window = demand.window * 11 / 10);
    long.fails(&["spends_count_until_a_window_later", "tokens_held_by_a_silent_client_count_as_spent"]).await;
    let never = demands(|demand| demand.spends.clear());
    never.fails(&["spends_count_until_a_window_later", "no_window_has_more_spends_than_the_limit"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_counts_each_spend_each_time() {
    let spent = Counter::default();
    let store =
        demands(move |demand| demand.spent = demand.spent.saturating_add(100 * spent.next(&demand.key, demand.client)));
    store.fails(&["spends_count_once"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_returns_nothing_or_forgets_silent_clients() {
    let most: Mutex<HashMap<(Arc<[u8]>, u64), u64>> = Mutex::default();
    let keeps = settled(move |inner, demands| {
        let mut most = most.lock().unwrap();
        let settle = |demand: &Demand| {
            let held = most.entry((demand.key.clone(), demand.client)).or_default();
            let demand = Demand { held: demand.held.max(*held), ..demand.clone() };
            let settled = inner.settle_at(std::slice::from_ref(&demand), Instant::now())[0];
            *held = demand.held.saturating_add(settled.granted);
            settled
        };
        demands.iter().map(settle).collect()
    });
    keeps.fails(&["returned_tokens_are_granted_to_others"]).await;

    // The store forgets the tokens of a client that was silent for a window.
    let heard: Mutex<HashMap<(Arc<[u8]>, u64), (Instant, Demand)>> = Mutex::default();
    let forgets = settled(move |inner, demands| {
        let (mut heard, now) = (heard.lock().unwrap(), Instant::now());
        for ((_, _), (at, last)) in heard.iter_mut() {
            if now - *at > last.window {
                last.sequence += 1;
                let gone = Demand { held: 0, want: 0, ..last.clone() };
                inner.settle_at(&[gone], now);
                *at = now;
            }
        }
        for demand in demands {
            heard.insert((demand.key.clone(), demand.client), (now, demand.clone()));
        }
        inner.settle_at(demands, now)
    });
    forgets.fails_only(&["tokens_held_by_a_silent_client_count_as_spent"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_report_lost_data() {
    let fails = ["lost_data_is_reported_as_lost", "after_data_were_lost_nothing_is_granted_for_a_window"];
    demands(|demand| demand.total = 0).fails_only(&fails).await;
    let always = settled(|inner, demands| {
        let mut answers = inner.settle_at(demands, Instant::now());
        answers.iter_mut().for_each(|answer| answer.lost = true);
        answers
    });
    always.fails_only(&fails).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_keeps_the_largest_limit() {
    let store = demands(|demand| demand.limit = demand.limit.max(100));
    store.fails(&["a_smaller_limit_still_counts_held_tokens"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_whose_numbers_are_too_small() {
    let store = demands(|demand| demand.want &= u64::from(u32::MAX));
    store.fails_only(&["no_number_is_too_large_for_a_window"]).await;
    let store = demands(|demand| demand.held &= u64::MAX >> 13);
    store.fails_only(&[]).await;
}
