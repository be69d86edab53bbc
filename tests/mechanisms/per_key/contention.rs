//! Threads that add keys, open circuits or read the counts at the same time.

use super::{breakers, fragile};
use std::{
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};
use steadfast::{
    circuit_breaker::{Breaker, BreakerState},
    load_shed::Limiter,
    per_key::PerKey,
    shell::{Instrument, Number, Readings},
};
use tokio::time::Instant;

/// Runs `work` in two threads that start together. Each thread passes its number, 0 or 1, to `work`.
fn in_two_threads(work: impl Fn(u64) + Sync) {
    let start = Barrier::new(2);
    thread::scope(|scope| {
        for number in 0..2 {
            let (start, work) = (&start, &work);
            scope.spawn(move || {
                start.wait();
                work(number);
            });
        }
    });
}

#[test]
fn two_threads_never_keep_more_than_max_keys() {
    let breakers = breakers(Breaker::builder()).max_keys(10);
    in_two_threads(|number| {
        for round in 0..3_000 {
            drop(breakers.handle((round * 7 + number * 31) % 50));
            assert!(breakers.len() <= 10);
        }
    });
    let mut seen = 0;
    breakers.for_each(|_, _| seen += 1);
    assert_eq!(seen, breakers.len());
}

#[test]
fn two_threads_that_add_one_new_key_get_one_mechanism() {
    for _ in 0..300 {
        let breakers = breakers(fragile().consecutive_failures(2));
        in_two_threads(|_| breakers.handle(7).try_acquire().unwrap().failure());
        assert_eq!(breakers.get(&7).unwrap().state(), BreakerState::Open);
        assert_eq!((breakers.len(), breakers.overflowed()), (1, 0));
    }
}

#[test]
fn two_threads_open_no_more_circuits_than_the_bound() {
    for _ in 0..200 {
        let breakers = breakers(fragile()).most_open(0.3).unwrap();
        let handles: Vec<_> = (0..10).map(|key| breakers.handle(key)).collect();
        let over = AtomicBool::new(false);
        in_two_threads(|number| {
            for round in 0..20_usize {
                let breaker = &handles[(round * 3 + number as usize * 5) % handles.len()];
                match breaker.try_acquire() {
                    Ok(permit) => permit.failure(),
                    Err(_) if round % 3 == 0 => breaker.reset(),
                    Err(_) => {}
                }
                if breakers.open() > 3 {
                    over.store(true, Ordering::Relaxed);
                }
            }
        });
        let open = handles.iter().filter(|breaker| breaker.state() == BreakerState::Open).count();
        assert!(!over.load(Ordering::Relaxed) && open <= 3, "{open} open");
        assert_eq!(open, breakers.open());
    }
}

#[test]
fn calls_in_shadow_of_a_key_that_is_forgotten_while_it_is_read_count_once() {
    let limiters = PerKey::with(
        |key: &u64| *key,
        |_| {
            let limiter = Limiter::fixed(1).unwrap();
            limiter.set_shadow(true);
            limiter
        },
    );
    let limiters = limiters.max_keys(100);
    let pass = |key| {
        let limiter = limiters.handle(key);
        let _first = limiter.try_acquire();
        (0..10).for_each(|_| drop(limiter.try_acquire()));
    };
    (0..100).for_each(pass);
    let in_shadow = || {
        let mut in_shadow = 0;
        limiters.read(
            Instant::now(),
            &mut Readings::to(&mut |reading| match reading.number() {
                Number::Count(count) if reading.name() == "shadow_rejections_total" => in_shadow = *count,
                _ => {}
            }),
        );
        in_shadow
    };
    let ended = AtomicBool::new(false);
    in_two_threads(|number| {
        if number == 0 {
            (100..5_000).for_each(|key| drop(limiters.handle(key)));
            ended.store(true, Ordering::SeqCst);
        }
        while !ended.load(Ordering::SeqCst) {
            assert!(in_shadow() <= 1000);
        }
    });
    assert_eq!(in_shadow(), 1000);
}
