//! The calls in flight of a limit with classes, and of an adaptive limit.

use super::both;
use loom::sync::Arc;
use std::time::Duration;
use steadfast::{CallContext, Criticality, load_shed::Limiter};
use tokio::time::Instant;

fn of(class: Criticality) -> CallContext {
    CallContext::new().with_criticality(class)
}

#[test]
fn no_class_takes_what_another_is_guaranteed_and_no_place_is_lost() {
    super::check_with_interruptions(3, || {
        let limiter = Limiter::at_most(2).guarantee(Criticality::Critical, 0.5).build().unwrap();
        let limiter = Arc::new(limiter);
        let now = Instant::now();
        let (one, other) = (Arc::clone(&limiter), Arc::clone(&limiter));
        let low = move || {
            let context = of(Criticality::Sheddable);
            let first = one.try_acquire_at(&context, now);
            let second = one.try_acquire_at(&context, now);
            (first.is_ok(), second.is_ok())
        };
        let high = move || other.try_acquire_at(&of(Criticality::Critical), now).is_ok();
        let (low, high) = both(low, high);
        assert_eq!((low, high), ((true, false), true));
        assert_eq!(limiter.in_flight(), 0);
    });
}

/// In a model, the limit counts at most three calls of each class. It counts all further calls in one number.
#[test]
fn calls_in_shadow_beyond_the_count_of_their_class_lose_no_place() {
    super::check_with_interruptions(3, || {
        let limiter = Limiter::at_most(3).guarantee(Criticality::Critical, 0.5).shadow().build().unwrap();
        let limiter = Arc::new(limiter);
        let now = Instant::now();
        let held = [(); 2].map(|()| limiter.try_acquire_at(&of(Criticality::Critical), now).unwrap());
        let call = |limiter: Arc<Limiter>| {
            move || {
                let permits = [(); 2].map(|()| limiter.try_acquire_at(&of(Criticality::Critical), now).unwrap());
                assert!((4..=6).contains(&limiter.in_flight()));
                drop(permits);
            }
        };
        both(call(Arc::clone(&limiter)), call(Arc::clone(&limiter)));
        assert_eq!(limiter.in_flight(), 2);
        drop(held);
        assert_eq!(limiter.in_flight(), 0);
    });
}

#[test]
fn a_limit_that_shrinks_is_kept_from_then_on_and_loses_no_permit() {
    super::check_with_interruptions(3, || {
        let limiter = Arc::new(Limiter::at_most(2).by_criticality().build().unwrap());
        let now = Instant::now();
        let (one, other) = (Arc::clone(&limiter), Arc::clone(&limiter));
        let context = of(Criticality::CriticalPlus);
        // Each call is judged by the limit that it read. A call that read the limit of 2 may therefore take a second
        // place after the change.
        let calls = move || {
            let held = one.try_acquire_at(&context, now);
            let more = one.try_acquire_at(&context, now);
            assert!(one.in_flight() <= 2);
            drop((held, more));
        };
        let shrink = move || {
            other.set_limit(1).unwrap();
            let first = other.try_acquire_at(&context, now);
            let second = other.try_acquire_at(&context, now);
            assert!(first.is_err() || second.is_err(), "two calls over a limit of one");
        };
        both(calls, shrink);
        assert_eq!(limiter.in_flight(), 0);
        let last = limiter.try_acquire_at(&context, now);
        assert!(last.is_ok() && limiter.try_acquire_at(&context, now).is_err());
    });
}

#[test]
fn windows_that_end_while_calls_pass_lose_no_permit() {
    super::check_with_interruptions(1, || {
        let limiter = Limiter::adaptive().ceiling(1).deadline(Duration::from_millis(10)).build().unwrap();
        let limiter = Arc::new(limiter);
        let start = Instant::now();
        let (one, other) = (Arc::clone(&limiter), Arc::clone(&limiter));
        let call = |limiter: Arc<Limiter>, at: u64| {
            move || {
                let permit = limiter.try_acquire_at(&CallContext::new(), start + Duration::from_millis(at));
                assert!(limiter.in_flight() <= 1);
                permit.is_ok()
            }
        };
        let admitted = both(call(one, 5), call(other, 500));
        assert!(admitted.0 || admitted.1);
        assert_eq!(limiter.in_flight(), 0);
    });
}
