//! Compares the limit on calls in flight with a plain count.

use proptest::prelude::*;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use steadfast::load_shed::Limiter;

#[derive(Clone, Copy, Debug)]
enum Step {
    Acquire,
    /// Drops one of the permits.
    Release(prop::sample::Index),
    SetLimit(usize),
    SetShadow(bool),
    Configure(usize, bool),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => Just(Step::Acquire),
        4 => any::<prop::sample::Index>().prop_map(Step::Release),
        1 => (0..8usize).prop_map(Step::SetLimit),
        1 => Just(Step::SetLimit(usize::MAX)),
        1 => any::<bool>().prop_map(Step::SetShadow),
        1 => (0..8usize, any::<bool>()).prop_map(|(limit, shadow)| Step::Configure(limit, shadow)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_admits_exactly_while_there_is_room_also_after_the_limit_changes(
        first_limit in 1..8usize,
        steps in prop::collection::vec(any_step(), 1..200),
    ) {
        let limiter = Limiter::fixed(first_limit).unwrap();
        let clone = limiter.clone();
        let (mut limit, mut shadow, mut beyond) = (first_limit, false, 0);
        let mut permits = Vec::new();
        for step in steps {
            match step {
                Step::Acquire => match clone.try_acquire() {
                    Ok(permit) => {
                        prop_assert!(shadow || permits.len() < limit, "admitted beyond {}", limit);
                        beyond += u64::from(permits.len() >= limit);
                        permits.push(permit);
                    }
                    Err(refused) => {
                        prop_assert!(!shadow && permits.len() >= limit, "refused {} of {}", permits.len(), limit);
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
                Step::SetShadow(new) => {
                    limiter.set_shadow(new);
                    shadow = new;
                }
                Step::Configure(0, new) => {
                    let error = limiter.configure(0, new).unwrap_err();
                    prop_assert_eq!(error.field(), "load_shed.limit");
                }
                Step::Configure(new_limit, new_shadow) => {
                    limiter.configure(new_limit, new_shadow).unwrap();
                    (limit, shadow) = (new_limit, new_shadow);
                }
            }
            prop_assert_eq!((limiter.in_flight(), limiter.would_have_refused()), (permits.len(), beyond));
            prop_assert_eq!(limiter.configuration(), (limit, shadow));
            prop_assert_eq!((limiter.limit(), limiter.is_shadow()), (limit, shadow));
        }
        permits.clear();
        prop_assert_eq!(limiter.in_flight(), 0);
    }
}

#[test]
fn a_limit_below_the_calls_in_flight_interrupts_no_call_and_admits_none() {
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
fn when_shadow_ends_with_too_many_in_flight_calls_are_refused_until_enough_have_ended() {
    let limiter = Limiter::fixed(2).unwrap();
    limiter.set_shadow(true);
    let mut permits: Vec<_> = (0..5).map(|_| limiter.try_acquire().unwrap()).collect();
    assert_eq!((limiter.in_flight(), limiter.would_have_refused()), (5, 3));
    limiter.set_shadow(false);
    for in_flight in [5, 4, 3, 2] {
        assert_eq!(limiter.in_flight(), in_flight);
        assert_eq!(limiter.try_acquire().unwrap_err().limit(), 2);
        permits.pop();
    }
    assert!(limiter.try_acquire().is_ok());
    assert_eq!(limiter.would_have_refused(), 3, "an enforced limit adds nothing to the count of shadow mode");
}

#[test]
fn the_greatest_limits_read_back_as_no_limit_and_leave_the_mode_alone() {
    let limiter = Limiter::fixed(usize::MAX).unwrap();
    assert_eq!(limiter.configuration(), (usize::MAX, false));
    // The limiter stores the limit and the shadow mode in one word, so a limit has one bit less.
    let greatest = usize::MAX >> 1;
    for (limit, read) in [(greatest - 1, greatest - 1), (greatest, usize::MAX), (usize::MAX, usize::MAX)] {
        for shadow in [true, false] {
            limiter.configure(limit, shadow).unwrap();
            assert_eq!(limiter.configuration(), (read, shadow));
            assert!(limiter.try_acquire().is_ok());
        }
    }
    assert_eq!(limiter.would_have_refused(), 0);
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
    assert!(admitted.load(Ordering::Relaxed) >= 20_000, "the limit always has room for three of four threads");
}
