//! Breakers with a bound on the share that is open at once.

use crate::{both, check};
use steadfast::{
    circuit_breaker::{Breaker, BreakerState},
    per_key::PerKey,
};

/// Returns this number of breakers. Each opens at its first failure, at most half of them at once.
fn half_of<const N: usize>() -> [Breaker; N] {
    let builder = Breaker::builder().consecutive_failures(1);
    let breakers = PerKey::new(|key: &usize| *key, builder).unwrap().most_open(0.5).unwrap();
    std::array::from_fn(|key| breakers.handle(key))
}

fn fail(breaker: &Breaker) {
    if let Ok(permit) = breaker.try_acquire() {
        permit.failure();
    }
}

fn is_open(breaker: &Breaker) -> bool {
    breaker.state() == BreakerState::Open
}

#[test]
fn of_two_circuits_that_fail_at_the_same_time_one_opens() {
    check(|| {
        let [one, other] = half_of();
        let (first, second) = (one.clone(), other.clone());
        both(move || fail(&first), move || fail(&second));
        assert!(is_open(&one) != is_open(&other));
    });
}

#[test]
fn a_circuit_that_sees_another_closed_may_take_its_place_and_no_thread_sees_both_open() {
    check(|| {
        let [one, other] = half_of();
        fail(&one);
        let (first, second) = (one.clone(), other.clone());
        both(
            move || first.reset(),
            move || {
                fail(&second);
                // The other circuit must have closed before this one opened.
                assert!(!is_open(&second) || !is_open(&one));
            },
        );
        fail(&other);
        assert!(is_open(&other));
    });
}
