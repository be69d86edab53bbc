//! The readings of a [`PerKey`], combined over all its keys, and the listeners of its mechanisms.

use super::{Collector, Notes, number, read};
use crate::support::secs;
use std::{collections::BTreeMap, convert::Infallible, future::ready};
use steadfast::{
    circuit_breaker::{Breaker, BreakerBuilder},
    load_shed::{Limiter, LoadShedConfig},
    per_key::PerKey,
    rate_limit::{RateLimit, TokenBucket},
    retry::RetryBudget,
    shell::Instrument,
};
use tokio::time::advance;
use tower::{ServiceExt, service_fn};

type Breakers = PerKey<Breaker, u64, fn(&u64) -> u64>;

fn same(key: &u64) -> u64 {
    *key
}

fn fragile() -> BreakerBuilder {
    Breaker::builder().consecutive_failures(1).open_for(secs(5))
}

fn breakers(builder: BreakerBuilder) -> Breakers {
    PerKey::new(same as fn(&u64) -> u64, builder).unwrap()
}

fn fail(breaker: &Breaker) {
    breaker.try_acquire().unwrap().failure();
}

/// Returns the readings that count circuits and transitions by state. Leaves out zeros.
fn circuits(instrument: &(impl Instrument + ?Sized)) -> BTreeMap<String, f64> {
    let all = read(instrument);
    let states = all.iter().filter(|(name, _)| name.starts_with("circuit_state") || name.contains("transitions"));
    states.filter(|(_, number)| **number > 0.0).map(|(name, number)| (name.clone(), *number)).collect()
}

fn expected<const N: usize>(numbers: [(&str, f64); N]) -> BTreeMap<String, f64> {
    numbers.into_iter().map(|(name, number)| (name.to_owned(), number)).collect()
}

#[tokio::test(start_paused = true)]
async fn all_readings_are_there_before_the_first_key() {
    let states = ["closed", "open", "half_open", "forced_open", "forced_closed"];
    let mut zero = vec![
        r#"keys{mechanism="circuit_breaker"}"#.to_owned(),
        r#"keys_overflow_total{mechanism="circuit_breaker"}"#.to_owned(),
        "circuit_failure_ratio".to_owned(),
        "circuit_half_open_in_seconds".to_owned(),
    ];
    zero.extend(states.map(|state| format!("circuit_state{{state={state:?}}}")));
    zero.extend(states.map(|state| format!("circuit_transitions_total{{to={state:?}}}")));
    let zero: BTreeMap<_, _> = zero.into_iter().map(|name| (name, 0.0)).collect();
    assert_eq!(read(&breakers(fragile())), zero);
    // The readings are equal if a function makes the breakers.
    let made = PerKey::with(same, |_: &u64| fragile().build().unwrap());
    assert_eq!(read(&made), zero);

    let made = PerKey::with(same, |_: &u64| Limiter::fixed(3).unwrap());
    let of_limiters = ["in_flight", "in_flight_limit", "keys", "keys_overflow_total", "shadow_rejections_total"];
    let names = of_limiters.map(|name| (format!("{name}{{mechanism=\"load_shed\"}}"), 0.0));
    assert_eq!(read(&made), names.into());
}

#[tokio::test(start_paused = true)]
async fn circuits_are_counted_by_state_with_the_longest_open_time_and_the_largest_ratio() {
    let breakers = breakers(Breaker::builder().failure_rate(0.9, secs(10)).minimum_calls(4).open_for(secs(5)));
    for key in 0..3 {
        (0..4).for_each(|_| fail(&breakers.handle(key)));
        advance(secs(1)).await;
    }
    // Three of four calls of one key failed. One call of another key is too few for a ratio.
    (0..3).for_each(|_| fail(&breakers.handle(10)));
    breakers.handle(10).try_acquire().unwrap().success();
    fail(&breakers.handle(11));
    breakers.handle(12).force_open();
    let of = |name: &str| number(&breakers, name);
    assert_eq!(
        circuits(&breakers),
        expected([
            (r#"circuit_state{state="closed"}"#, 2.0),
            (r#"circuit_state{state="open"}"#, 3.0),
            (r#"circuit_state{state="forced_open"}"#, 1.0),
            (r#"circuit_transitions_total{to="open"}"#, 3.0),
            (r#"circuit_transitions_total{to="forced_open"}"#, 1.0),
        ])
    );
    assert_eq!(of("circuit_half_open_in_seconds"), 4.0);
    assert_eq!(of("circuit_failure_ratio"), 0.75);
    assert_eq!(of(r#"keys{mechanism="circuit_breaker"}"#), 6.0);
    // The open times have ended, but a reading makes no circuit half-open.
    advance(secs(5)).await;
    assert_eq!(of("circuit_half_open_in_seconds"), 0.0);
    assert_eq!(of(r#"circuit_state{state="open"}"#), 3.0);
}

#[tokio::test(start_paused = true)]
async fn transitions_of_forgotten_keys_still_count_and_a_reading_keeps_no_key() {
    let breakers = breakers(fragile()).max_keys(2).idle_after(secs(60));
    for key in 0..100 {
        fail(&breakers.handle(key));
        let opened = number(&breakers, r#"circuit_transitions_total{to="open"}"#);
        assert_eq!(opened, key as f64 + 1.0);
        advance(secs(31)).await;
    }
    assert_eq!(number(&breakers, r#"keys{mechanism="circuit_breaker"}"#), 2.0);
    // Each new key found a place, although all keys were read in between.
    assert_eq!(number(&breakers, r#"keys_overflow_total{mechanism="circuit_breaker"}"#), 0.0);
    assert_eq!(number(&breakers, r#"circuit_state{state="open"}"#), 2.0);
}

#[tokio::test(start_paused = true)]
async fn the_overflow_mechanism_is_read_once_a_key_has_used_it() {
    let breakers = breakers(fragile()).max_keys(1);
    fail(&breakers.handle(1));
    assert_eq!(number(&breakers, r#"circuit_state{state="closed"}"#), 0.0);
    fail(&breakers.handle(2));
    assert!(breakers.handle(3).try_acquire().is_err());
    assert_eq!(number(&breakers, r#"keys{mechanism="circuit_breaker"}"#), 1.0);
    assert_eq!(number(&breakers, r#"keys_overflow_total{mechanism="circuit_breaker"}"#), 2.0);
    assert_eq!(number(&breakers, r#"circuit_state{state="open"}"#), 2.0);
    assert_eq!(number(&breakers, r#"circuit_transitions_total{to="open"}"#), 2.0);
}

#[tokio::test(start_paused = true)]
async fn a_listener_gets_the_transitions_of_all_breakers_including_later_ones_until_it_is_dropped() {
    let breakers = breakers(fragile());
    fail(&breakers.handle(1));
    let notes = Notes::of(&breakers);
    assert!(notes.take().is_empty());
    fail(&breakers.handle(2));
    let opened = ["circuit_breaker: closed => open: 1 in a row (trouble)"];
    assert_eq!(notes.take(), opened);
    breakers.handle(1).reset();
    assert_eq!(notes.take(), ["circuit_breaker: open => closed: by hand"]);
    let second = Notes::of(&breakers);
    fail(&breakers.handle(3));
    assert_eq!((notes.take(), second.take()), (opened.map(String::from).into(), opened.map(String::from).into()));
    drop(notes);
    fail(&breakers.handle(4));
    assert_eq!(second.take(), opened);
    // The listener may use the breakers, and its panic harms no call.
    let own = breakers.clone();
    let reading = Notes::also(&breakers, move || {
        assert!(number(&own, r#"circuit_state{state="open"}"#) > 0.0);
        panic!("of a listener");
    });
    fail(&breakers.handle(5));
    assert_eq!((reading.take().len(), second.take().len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_observer_of_a_stack_reads_all_keys_and_gets_their_transitions() {
    let (collector, breakers) = (Collector::default(), breakers(fragile()));
    let service = service_fn(|key: u64| ready(if key == 0 { Ok(()) } else { Err("down") }));
    let client =
        steadfast::client().observe("hosts", collector.clone()).circuit_breaker(breakers).service(service).unwrap();
    let instrument = collector.the_one();
    let notes = Notes::of(&*instrument);
    for key in 0..4 {
        let _ = client.clone().oneshot(key).await;
    }
    assert_eq!(number(&*instrument, r#"circuit_state{state="open"}"#), 3.0);
    assert_eq!(number(&*instrument, r#"circuit_state{state="closed"}"#), 1.0);
    assert_eq!(notes.take().len(), 3);

    let buckets = PerKey::new(same, TokenBucket::builder(1, secs(10))).unwrap();
    let service = service_fn(|_: u64| ready(Ok::<_, Infallible>(())));
    let server = steadfast::server().observe("tenants", collector.clone()).rate_limit(RateLimit::from(buckets));
    let server = server.service(service).unwrap();
    for key in [1, 1, 2] {
        let _ = server.clone().oneshot(key).await;
    }
    let keys: Vec<_> = collector.instruments().iter().map(|instrument| read(&**instrument)).collect();
    assert!(keys.iter().any(|all| all.get(r#"keys{mechanism="rate_limit"}"#) == Some(&2.0)), "{keys:?}");
}

#[tokio::test(start_paused = true)]
async fn limiters_add_up_and_calls_in_shadow_still_count_when_their_limiter_is_forgotten() {
    let limiters = PerKey::new(same, LoadShedConfig { shadow: true, ..LoadShedConfig::new(2) }).unwrap().max_keys(2);
    let of = |name: &str| number(&limiters, &format!("{name}{{mechanism=\"load_shed\"}}"));
    let first = limiters.handle(1);
    let held: Vec<_> = (0..5).map(|_| first.try_acquire().unwrap()).collect();
    let second = limiters.handle(2);
    let _one = second.try_acquire().unwrap();
    assert_eq!((of("in_flight"), of("in_flight_limit"), of("shadow_rejections_total")), (6.0, 4.0, 3.0));
    drop(held);
    drop(first);
    for key in 10..20 {
        drop(limiters.handle(key));
        assert_eq!(of("shadow_rejections_total"), 3.0, "{key}");
    }
    assert!(limiters.get(&1).is_none());
    assert_eq!((of("in_flight"), of("keys")), (1.0, 2.0));
}

#[tokio::test(start_paused = true)]
async fn budgets_add_up() {
    let budgets = PerKey::new(same, RetryBudget::builder().initial(2).no_floor()).unwrap();
    drop((budgets.handle(1), budgets.handle(2)));
    assert_eq!(number(&budgets, "retry_budget_balance"), 4.0);
    assert_eq!(number(&budgets, r#"keys{mechanism="retry_budget"}"#), 2.0);
}

#[tokio::test(start_paused = true)]
async fn labeled_keys_have_their_own_readings_and_all_others_share_one() {
    let labels = || [(1, "one"), (2, "two"), (3, "two"), (4, "other")];
    let breakers = breakers(fragile()).label_keys(labels()).unwrap();
    let names: Vec<_> = read(&breakers).into_keys().collect();
    assert_eq!(names.iter().filter(|name| name.starts_with("circuit_state")).count(), 15);
    (1..10).for_each(|key| fail(&breakers.handle(key)));
    for (label, open) in [("one", 1.0), ("two", 2.0), ("other", 6.0)] {
        let name = format!("circuit_state{{state=\"open\",key={label:?}}}");
        assert_eq!(number(&breakers, &name), open, "{label}");
    }
    // New keys change no names.
    assert_eq!(read(&breakers).into_keys().collect::<Vec<_>>(), names);
    assert_eq!(number(&breakers, r#"circuit_transitions_total{to="open"}"#), 9.0);
    // An empty list removes the labels.
    let breakers = breakers.label_keys([]).unwrap();
    assert_eq!(number(&breakers, r#"circuit_state{state="open"}"#), 9.0);
}

#[test]
fn more_than_64_labeled_keys_are_refused() {
    let labels = |keys: u64| (0..keys).map(|key| (key, "many"));
    assert!(breakers(fragile()).label_keys(labels(64)).is_ok());
    for keys in [65, u64::MAX] {
        let error = breakers(fragile()).label_keys(labels(keys)).unwrap_err();
        assert_eq!(error.field(), "per_key.label_keys");
    }
}

#[test]
fn more_than_64_labels_of_one_key_are_refused() {
    let words: Vec<&'static str> = (0..65).map(|number| &*number.to_string().leak()).collect();
    let labelled = |labels: &[&'static str]| {
        let labels = labels.iter().map(|label| (7, *label));
        breakers(fragile()).label_keys(labels).is_ok()
    };
    assert!(labelled(&words[..64]));
    assert!(!labelled(&words));
}
