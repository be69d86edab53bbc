//! Compares the retry budget with a balance in exact integers, and checks the cap, the initial retries, the floor, and
//! changes of the configuration.

use proptest::prelude::*;
use std::{
    sync::Barrier,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use steadfast::{Random, per_key::PerKey, retry::RetryBudget};
use tokio::{
    runtime,
    time::{Instant, advance},
};

/// One retry in the unit of these tests: 2^-32 of a retry, the unit in which a budget keeps its balance.
const RETRY: u64 = 1 << 32;

/// A clock that does not advance, so that the floor starts at exactly the instant from which the tests count.
fn standing_clock() -> runtime::Runtime {
    runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// Returns the exact balance. With the caps of these tests it has at most 52 bits, so a float of 53 bits represents it.
fn balance(budget: &RetryBudget) -> u64 {
    (budget.balance() * RETRY as f64) as u64
}

/// A budget with this ratio, without a floor and practically without a cap.
fn earning(ratio: f64) -> RetryBudget {
    RetryBudget::builder().ratio(ratio).cap(1_000_000).no_floor().random(Random::seeded(1)).build().unwrap()
}

fn withdraw_all(budget: &RetryBudget, now: Instant) -> u64 {
    std::iter::from_fn(|| budget.withdraw_at(now)).map(drop).count() as u64
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Deposit(u32),
    Withdraw,
    /// Refunds one of the open withdrawals.
    Refund(prop::sample::Index),
    Wait(Duration),
    /// A ratio in 256ths, and a cap.
    Configure(u64, u32),
    ConfigureTheSame,
    ConfigureNonsense,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..5u32).prop_map(Step::Deposit),
        1 => (5..5000u32).prop_map(Step::Deposit),
        8 => Just(Step::Withdraw),
        3 => any::<prop::sample::Index>().prop_map(Step::Refund),
        2 => (0..500u64).prop_map(|millis| Step::Wait(Duration::from_millis(millis))),
        1 => (0..10_000u64).prop_map(|secs| Step::Wait(Duration::from_secs(secs))),
        1 => (0..=256u64, 1..20u32).prop_map(|(ratio, cap)| Step::Configure(ratio, cap)),
        1 => Just(Step::ConfigureTheSame),
        1 => Just(Step::ConfigureNonsense),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_budget_grants_earned_retries_and_the_floor_and_no_more(
        seed in any::<u64>(),
        // In 256ths, which a balance represents exactly.
        ratio in prop_oneof![Just(0u64), 1..=256u64, Just(256u64)],
        cap in prop_oneof![1..20u32, Just(1_000_000)],
        floor in prop::option::of((1..5u64, 1..100u64)),
        steps in prop::collection::vec(any_step(), 1..200),
    ) {
        let clock = standing_clock();
        let _guard = clock.enter();
        let builder = RetryBudget::builder().ratio(ratio as f64 / 256.0).cap(cap).random(Random::seeded(seed));
        let builder = match floor {
            None => builder.no_floor(),
            Some((retries, secs)) => builder.floor(retries, Duration::from_secs(secs)),
        };
        let (start, mut now) = (Instant::now(), Instant::now());
        let budget = builder.build().unwrap();
        let initial = balance(&budget);
        prop_assert!(initial < RETRY, "a new budget has {} retries", budget.balance());

        let (mut ratio, mut most) = (ratio, u64::from(cap) * RETRY);
        // All deposits, in 256ths.
        let mut share = 0u64;
        let mut earned = initial;
        // The withdrawals from the balance and from the floor that were not refunded.
        let (mut of_balance, mut of_floor) = (Vec::new(), Vec::new());
        let (mut retries, mut floor_retries) = (0u64, 0u64);
        for step in steps {
            match step {
                Step::Deposit(times) => {
                    for _ in 0..times {
                        budget.deposit();
                        earned = (earned + ratio * (RETRY / 256)).min(most);
                    }
                    share += u64::from(times) * ratio;
                }
                Step::Withdraw => {
                    let withdrawal = budget.withdraw_at(now);
                    if earned >= RETRY {
                        earned -= RETRY;
                        retries += 1;
                        prop_assert!(withdrawal.is_some(), "an earned retry is refused");
                        of_balance.extend(withdrawal);
                    } else if let Some(withdrawal) = withdrawal {
                        floor_retries += 1;
                        of_floor.push(withdrawal);
                    }
                }
                Step::Refund(index) => {
                    let count = of_balance.len() + of_floor.len();
                    match if count == 0 { 0 } else { index.index(count) } {
                        at if at < of_balance.len() => {
                            budget.refund(of_balance.swap_remove(at));
                            earned = (earned + RETRY).min(most);
                            retries -= 1;
                        }
                        at if at < count => {
                            budget.refund(of_floor.swap_remove(at - of_balance.len()));
                            floor_retries -= 1;
                        }
                        _ => {}
                    }
                }
                Step::Wait(time) => now += time,
                Step::Configure(to, cap) => {
                    budget.configure(budget.configuration().ratio(to as f64 / 256.0).cap(cap)).unwrap();
                    (ratio, most) = (to, u64::from(cap) * RETRY);
                    earned = earned.min(most);
                }
                Step::ConfigureTheSame => budget.configure(budget.configuration()).unwrap(),
                Step::ConfigureNonsense => {
                    let before = budget.configuration();
                    budget.configure(RetryBudget::builder().ratio(0.5).cap(1).floor(0, Duration::ZERO)).unwrap_err();
                    prop_assert_eq!(budget.configuration(), before);
                }
            }
            prop_assert_eq!(balance(&budget), earned);
            prop_assert!(retries * RETRY <= initial + share * (RETRY / 256));
            // The floor saves at most one retry.
            let elapsed = now.saturating_duration_since(start).as_nanos();
            let trickle = floor.map_or(0, |(retries, secs)| {
                1 + elapsed * u128::from(retries) / (u128::from(secs) * 1_000_000_000)
            });
            prop_assert!(u128::from(floor_retries) <= trickle, "{} of {} from the floor", floor_retries, trickle);
        }
    }
}

#[test]
fn the_ratio_is_exact_to_one_in_a_thousand_million() {
    let now = Instant::now();
    // Each ratio, and how many billionths it is, rounded.
    let ratios = [(0.6, 600_000_000), (0.1, 100_000_000), (1.0 / 3.0, 333_333_333), (0.001, 1_000_000), (1e-9, 1)];
    for (ratio, billionths) in ratios {
        let budget = earning(ratio);
        let initial = budget.balance();
        let deposits = 1_000_000u64;
        let mut retries = 0;
        for _ in 0..deposits {
            budget.deposit();
            retries += withdraw_all(&budget, now);
        }
        let earned = retries as f64 + budget.balance() - initial;
        let expected = (billionths * deposits) as f64 / 1e9;
        let error = (earned - expected).abs() / deposits as f64;
        assert!(error <= 1e-9, "{ratio} acts as {}", earned / deposits as f64);
    }
}

#[test]
fn a_ratio_of_six_tenths_gives_six_retries_for_ten_calls() {
    let now = Instant::now();
    let budget = earning(0.6);
    let retries: u64 = (0..100_000)
        .map(|_| {
            budget.deposit();
            withdraw_all(&budget, now)
        })
        .sum();
    // The budget begins with a fraction of a retry. This fraction may complete one more retry.
    assert!((60_000..=60_001).contains(&retries), "{retries} retries");
}

#[test]
fn the_cap_bounds_saved_retries_and_refunds() {
    let now = Instant::now();
    for cap in [1, 10, 1000] {
        let budget = RetryBudget::builder().ratio(1.0).cap(cap).no_floor().build().unwrap();
        (0..5000).for_each(|_| budget.deposit());
        assert_eq!(budget.balance(), f64::from(cap));
        let withdrawal = budget.withdraw_at(now).unwrap();
        budget.deposit();
        budget.refund(withdrawal);
        assert_eq!(budget.balance(), f64::from(cap));
        assert_eq!(withdraw_all(&budget, now), u64::from(cap));
    }
}

#[test]
fn a_budget_starts_with_its_initial_retries() {
    let now = Instant::now();
    for initial in [0, 1, 3, 10] {
        let budget = RetryBudget::builder().initial(initial).no_floor().build().unwrap();
        assert_eq!(balance(&budget), u64::from(initial) * RETRY);
        assert_eq!(withdraw_all(&budget, now), u64::from(initial));
    }
}

#[test]
fn a_running_budget_ignores_initial_retries() {
    let built = RetryBudget::builder().cap(5).initial(5).no_floor();
    let budget = built.clone().build().unwrap();
    // The budget holds five retries, and keeps two of them under the new cap.
    budget.configure(budget.configuration().cap(2)).unwrap();
    assert_eq!((budget.balance(), budget.configuration()), (2.0, built.clone().cap(2)));
    assert_eq!(withdraw_all(&budget, Instant::now()), 2);
    budget.configure(RetryBudget::builder().cap(2).initial(900).no_floor()).unwrap();
    budget.configure(RetryBudget::builder().cap(9).initial(9).no_floor()).unwrap();
    assert_eq!(budget.balance(), 0.0);
    // The configuration still shows the initial retries with which the budget was built.
    assert!(budget.configuration().to_string().ends_with("cap 9, initial 5"), "{}", budget.configuration());
}

#[test]
fn the_configuration_can_be_built_after_the_cap_was_lowered_below_the_initial_retries() {
    let budget = RetryBudget::builder().cap(10).initial(8).no_floor().build().unwrap();
    budget.configure(budget.configuration().cap(4)).unwrap();
    assert_eq!(budget.configuration().to_string(), "ratio 0.1, no floor, cap 4, initial 4");
    assert_eq!(budget.configuration().build().unwrap().balance(), 4.0);
}

#[test]
fn a_full_budget_of_a_key_makes_room_even_if_the_cap_is_below_the_initial_retries() {
    let budgets = PerKey::new(|&key: &u64| key, RetryBudget::builder().cap(10).initial(8).no_floor());
    let budgets = budgets.unwrap().max_keys(1);
    let budget = budgets.handle(1);
    budget.configure(budget.configuration().cap(4)).unwrap();
    drop(budget);
    drop(budgets.handle(2));
    assert_eq!((budgets.get(&1).is_none(), budgets.get(&2).is_some(), budgets.overflowed()), (true, true, 0));
}

#[test]
fn budgets_start_at_a_fraction_of_one_retry_that_differs_from_client_to_client() {
    let starts = (0..1000).map(|_| RetryBudget::builder().no_floor().build().unwrap().balance());
    let mut starts: Vec<f64> = starts.collect();
    starts.sort_by(f64::total_cmp);
    assert!(starts.iter().all(|start| (0.0..1.0).contains(start)));
    let mean = starts.iter().sum::<f64>() / 1000.0;
    assert!((mean - 0.5).abs() < 0.05, "{mean} on average");
    assert!(starts.windows(2).filter(|pair| pair[0] == pair[1]).count() < 3, "clients start alike");
}

#[test]
fn a_thousand_new_clients_with_a_floor_do_not_all_start_with_a_retry() {
    let now = Instant::now();
    let granted = (0..1000).filter(|_| RetryBudget::builder().build().unwrap().withdraw_at(now).is_some()).count();
    // The floor gives each client one retry in 100 seconds, so all 1000 clients together get ten per second.
    assert!(granted <= 20, "{granted} of 1000 clients retry their very first call");
}

#[test]
fn the_floor_gives_its_first_retry_within_a_period_and_saves_at_most_one() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let start = Instant::now();
    let mut firsts = Vec::new();
    for seed in 0..1000 {
        let builder = RetryBudget::builder().ratio(0.0).floor(1, Duration::from_secs(100));
        let budget = builder.random(Random::seeded(seed)).build().unwrap();
        let at = |secs| start + Duration::from_secs(secs);
        firsts.push((0..=100).find(|secs| budget.withdraw_at(at(*secs)).is_some()).expect("one in the first period"));
        assert_eq!(withdraw_all(&budget, at(10_000)), 1);
    }
    let mean = firsts.iter().sum::<u64>() as f64 / 1000.0;
    assert!((mean - 50.0).abs() < 5.0, "the first comes after {mean} s on average");
}

#[tokio::test(start_paused = true)]
async fn a_reconfiguration_keeps_the_saved_retry_of_the_floor() {
    let floor = |retries| RetryBudget::builder().ratio(0.0).floor(retries, Duration::from_secs(100));
    for seed in 0..100 {
        let budget = floor(1).random(Random::seeded(seed)).build().unwrap();
        advance(Duration::from_secs(300)).await;
        budget.configure(floor(2)).unwrap();
        assert!(budget.withdraw().is_some() && budget.withdraw().is_none());
        budget.configure(floor(1)).unwrap();
        assert!(budget.withdraw().is_none(), "it has none to keep");
    }
}

#[test]
fn a_refunded_retry_of_the_floor_can_be_withdrawn_again_at_once() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let budget = RetryBudget::builder().ratio(0.0).floor(1, Duration::from_secs(100)).build().unwrap();
    let now = Instant::now() + Duration::from_secs(100);
    for _ in 0..10 {
        let withdrawal = budget.withdraw_at(now).expect("the floor has one");
        assert!(budget.withdraw_at(now).is_none());
        budget.refund(withdrawal);
    }
}

#[test]
fn threads_that_deposit_and_withdraw_share_every_retry_exactly_once() {
    let now = Instant::now();
    let budget = earning(0.5);
    let initial = balance(&budget);
    let retries = AtomicU64::new(0);
    let start = Barrier::new(4);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                start.wait();
                for _ in 0..20_000 {
                    budget.deposit();
                    if budget.withdraw_at(now).is_some() {
                        retries.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let retries = retries.into_inner() + withdraw_all(&budget, now);
    assert_eq!(retries * RETRY + balance(&budget), initial + 40_000 * RETRY);
}

#[test]
fn a_floor_added_to_a_thousand_budgets_gives_first_retries_at_random_instants_of_a_period() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let start = Instant::now();
    let at = |secs| start + Duration::from_secs(secs);
    let mut firsts = Vec::new();
    for seed in 0..1000 {
        let budget = RetryBudget::builder().ratio(0.0).no_floor().random(Random::seeded(seed)).build().unwrap();
        assert!(budget.withdraw_at(at(10_000)).is_none());
        let to = budget.configuration().floor(1, Duration::from_secs(100)).random(Random::seeded(seed));
        budget.configure(to.clone()).unwrap();
        assert_eq!(budget.configuration(), to);
        firsts.push((0..=100).find(|secs| budget.withdraw_at(at(*secs)).is_some()).expect("one in the first period"));
        assert_eq!(withdraw_all(&budget, at(10_000)), 1);
    }
    let mean = firsts.iter().sum::<u64>() as f64 / 1000.0;
    assert!((mean - 50.0).abs() < 5.0, "the first comes after {mean} s on average");
    assert!(firsts.iter().filter(|first| **first == 0).count() <= 30, "many retry at once");
}

#[test]
fn a_removed_floor_gives_no_retry_and_its_last_one_can_be_refunded() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let budget = RetryBudget::builder().ratio(0.0).floor(1, Duration::from_secs(100)).build().unwrap();
    let now = Instant::now() + Duration::from_secs(100);
    let withdrawal = budget.withdraw_at(now).expect("the floor has one");
    budget.configure(budget.configuration().no_floor()).unwrap();
    let before = balance(&budget);
    budget.refund(withdrawal);
    assert_eq!(balance(&budget), before, "what came from the floor was not earned");
    assert!(budget.withdraw_at(now + Duration::from_secs(10_000)).is_none());
}

#[test]
fn a_changed_floor_keeps_its_saved_retry_and_is_not_delayed() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let start = Instant::now();
    let at = |secs| start + Duration::from_secs(secs);
    let budget = RetryBudget::builder().ratio(0.0).floor(1, Duration::from_secs(100)).build().unwrap();
    // The floor is empty at 200 s and has half a retry at 250 s. At the new rate of one in 10 s, it has one at 255 s.
    assert_eq!(withdraw_all(&budget, at(200)), 1);
    clock.block_on(tokio::time::advance(Duration::from_secs(250)));
    budget.configure(budget.configuration().floor(1, Duration::from_secs(10))).unwrap();
    assert!(budget.withdraw_at(at(254)).is_none());
    assert!(budget.withdraw_at(at(255)).is_some());
    assert!(budget.withdraw_at(at(264)).is_none());
    assert!(budget.withdraw_at(at(265)).is_some());
}
