//! The limit on calls in flight against a plain count.

use proptest::prelude::*;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use steadfast::load_shed::Limiter;

#[derive(Clone, Copy, Debug)]
enum Step {
    Acquire,
    /// Drops one of the permits at hand.
    Release(prop::sample::Index),
    SetLimit(usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => Just(Step::Acquire),
        4 => any::<prop::sample::Index>().prop_map(Step::Release),
        1 => (0..8usize).prop_map(Step::SetLimit),
        1 => Just(Step::SetLimit(usize::MAX)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_admits_exactly_while_there_is_room_whatever_becomes_of_the_limit(
        first_limit in 1..8usize,
        steps in prop::collection::vec(any_step(), 1..200),
    ) {
        let limiter = Limiter::fixed(first_limit).unwrap();
        let clone = limiter.clone();
        let mut limit = first_limit;
        let mut permits = Vec::new();
        for step in steps {
            match step {
                Step::Acquire => match clone.try_acquire() {
                    Ok(permit) => {
                        prop_assert!(permits.len() < limit, "admitted beyond {}", limit);
                        permits.push(permit);
                    }
                    Err(refused) => {
                        prop_assert!(permits.len() >= limit, "refused {} of {}", permits.len(), limit);
                        prop_assert_eq!((refused.limit(), refused.retry_after()), (limit, None));
                    }
                },
                Step::Release(index) if !permits.is_empty() => drop(permits.swap_remove(index.index(permits.len()))),
                Step::Release(_) => {}
                Step::SetLimit(0) => {
                    let error = limiter.set_limit(0).unwrap_err();
                    prop_assert_eq!(error.field(), "load_shed.limit");
                }
                Step::SetLimit(new) => {
                    limiter.set_limit(new).unwrap();
                    limit = new;
                }
            }
            prop_assert_eq!((limiter.in_flight(), limiter.limit()), (permits.len(), limit));
        }
        permits.clear();
        prop_assert_eq!(limiter.in_flight(), 0);
    }
}

#[test]
fn a_limit_below_what_is_in_flight_interrupts_nobody_and_admits_nobody() {
    let limiter = Limiter::fixed(4).unwrap();
    let mut permits: Vec<_> = (0..4).map(|_| limiter.try_acquire().unwrap()).collect();
    limiter.set_limit(2).unwrap();
    for in_flight in [4, 3, 2] {
        assert_eq!(limiter.in_flight(), in_flight);
        assert_eq!(limiter.try_acquire().unwrap_err().limit(), 2);
        permits.pop();
    }
    assert!(limiter.try_acquire().is_ok());
}

#[test]
fn under_contention_the_limit_is_never_exceeded_and_nothing_leaks() {
    const LIMIT: usize = 3;
    let limiter = Limiter::fixed(LIMIT).unwrap();
    let (inside, admitted) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let start = Barrier::new(4);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                start.wait();
                for _ in 0..20_000 {
                    if let Ok(_permit) = limiter.try_acquire() {
                        assert!(inside.fetch_add(1, Ordering::SeqCst) < LIMIT);
                        admitted.fetch_add(1, Ordering::Relaxed);
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    assert_eq!(limiter.in_flight(), 0);
    assert!(admitted.load(Ordering::Relaxed) >= 20_000, "there was always room for three of four");
}
