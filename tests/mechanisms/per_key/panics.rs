//! User code that panics leaves nothing locked or taken. Listeners, and keys that are dropped, may use a table.

use crate::support::secs;
use std::{
    cell::Cell,
    hash::{Hash, Hasher},
    panic::{AssertUnwindSafe, catch_unwind},
};
use steadfast::{
    circuit_breaker::{Breaker, BreakerState},
    load_shed::{Limiter, LoadShedConfig},
    per_key::PerKey,
    shell::{Ending, Frame, Gate},
};
use tokio::time::advance;

thread_local! {
    /// The user code that panics when it runs next.
    static FAULT: Cell<Fault> = const { Cell::new(Fault::None) };
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    None,
    KeyOf,
    Hash,
    Make,
    Drop,
}

fn may_panic(at: Fault) {
    if FAULT.get() == at {
        FAULT.set(Fault::None);
        panic!("{at:?}");
    }
}

/// Runs `work` with a fault, and checks that the fault was reached.
fn with_fault(fault: Fault, work: impl FnOnce()) {
    FAULT.set(fault);
    assert!(catch_unwind(AssertUnwindSafe(work)).is_err(), "{fault:?}");
    assert_eq!(FAULT.get(), Fault::None);
}

struct Key(u64);

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        may_panic(Fault::Hash);
        self.0.hash(state);
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            may_panic(Fault::Drop);
        }
    }
}

fn key_of(request: &u64) -> Key {
    may_panic(Fault::KeyOf);
    Key(*request)
}

type Limiters = PerKey<Limiter, Key, fn(&u64) -> Key>;

fn limiters() -> Limiters {
    let make = |_: &Key| {
        may_panic(Fault::Make);
        Limiter::fixed(2).unwrap()
    };
    PerKey::with(key_of as fn(&u64) -> Key, make).max_keys(2)
}

/// Makes a call that is admitted, and ends it.
fn call(limiters: &Limiters, request: u64) {
    let frame = &mut Frame::new();
    let permit = limiters.admit(&request, frame).unwrap();
    Gate::<u64>::settle(limiters, permit, Ending::Panicked, frame);
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_key_panics_takes_nothing_and_blocks_no_other_call() {
    let limiters = limiters();
    for fault in [Fault::KeyOf, Fault::Hash, Fault::Make] {
        with_fault(fault, || call(&limiters, 1));
        assert_eq!(limiters.len(), 0, "{fault:?}");
    }
    call(&limiters, 1);
    for fault in [Fault::KeyOf, Fault::Hash, Fault::Drop] {
        with_fault(fault, || call(&limiters, 1));
        assert_eq!(limiters.len(), 1, "{fault:?}");
    }
    assert_eq!(limiters.handle(Key(1)).in_flight(), 0);
    call(&limiters, 2);
    advance(secs(1)).await;
    // The key of the removed entry is dropped after the new key has its place.
    with_fault(Fault::Drop, || call(&limiters, 3));
    assert_eq!(limiters.len(), 2);
    (1..10).for_each(|request| call(&limiters, request));
    let mut in_flight = 0;
    limiters.for_each(|_, limiter| in_flight += limiter.in_flight());
    assert_eq!(in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn the_shared_mechanism_is_made_again_after_a_panic() {
    let limiters = limiters().max_keys(0);
    with_fault(Fault::Make, || call(&limiters, 1));
    assert!(limiters.overflow().is_none());
    call(&limiters, 1);
    assert_eq!(limiters.overflow().unwrap().limit(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_listener_may_use_the_table() {
    let builder = Breaker::builder().consecutive_failures(1);
    let breakers = PerKey::new(|key: &u64| *key, builder).unwrap();
    let breaker = breakers.handle(1);
    let others = breakers.clone();
    breaker.on_transition(move |_| {
        others.handle(2).force_open();
    });
    breaker.try_acquire().unwrap().failure();
    assert_eq!(breakers.get(&2).unwrap().state(), BreakerState::ForcedOpen);
}

#[tokio::test(start_paused = true)]
async fn a_key_is_hashed_without_a_lock_and_may_use_the_table_when_it_is_dropped() {
    struct Talks(u64, Option<PerKey<Limiter, u64, fn(&u64) -> u64>>);

    impl Hash for Talks {
        fn hash<H: Hasher>(&self, state: &mut H) {
            self.0.hash(state);
        }
    }

    impl Drop for Talks {
        fn drop(&mut self) {
            if let Some(other) = &self.1 {
                drop(other.handle(self.0));
            }
        }
    }

    let other = PerKey::new((|key: &u64| *key) as fn(&u64) -> u64, LoadShedConfig::new(1)).unwrap();
    let talking = PerKey::new(|_: &()| Talks(0, None), LoadShedConfig::new(1)).unwrap().max_keys(1);
    for key in 0..3 {
        drop(talking.handle(Talks(key, Some(other.clone()))));
        advance(secs(1)).await;
    }
    assert_eq!(other.len(), 2);
}
