//! Listeners of a breaker: each transition is told once, in order, with what was counted, whatever a listener does.

use crate::support::{Act, Backend, ms, secs, size};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc::channel,
    },
    thread,
};
use steadfast::circuit_breaker::{Breaker, BreakerBuilder, BreakerState, Transition};
use tokio::time::{Instant, advance};
use tower::ServiceExt;

use BreakerState::{Closed, ForcedClosed, ForcedOpen, HalfOpen, Open};

type Told = Arc<Mutex<Vec<Transition>>>;

/// A listener that keeps what it was told.
fn listen(breaker: &Breaker) -> Told {
    let told = Told::default();
    let keep = told.clone();
    breaker.on_transition(move |transition| keep.lock().unwrap().push(*transition));
    told
}

/// What was told since this was asked for last.
fn changes(told: &Told) -> Vec<(BreakerState, BreakerState)> {
    told.lock().unwrap().drain(..).map(|transition| (transition.from(), transition.to())).collect()
}

fn breaker(builder: BreakerBuilder) -> (Breaker, Told) {
    let breaker = builder.open_for(secs(5)).max_open_for(secs(5)).probe_timeout(secs(30)).build().unwrap();
    let told = listen(&breaker);
    (breaker, told)
}

fn fails(breaker: &Breaker) {
    breaker.try_acquire().unwrap().failure();
}

fn succeeds(breaker: &Breaker) {
    breaker.try_acquire().unwrap().success();
}

#[tokio::test(start_paused = true)]
async fn each_transition_of_the_table_is_told_once() {
    let (breaker, told) = breaker(Breaker::builder().consecutive_failures(2).probes(2));
    fails(&breaker);
    assert_eq!(changes(&told), []);
    fails(&breaker);
    assert_eq!(changes(&told), [(Closed, Open)]);
    breaker.try_acquire().unwrap_err();
    advance(secs(5)).await;
    assert_eq!(changes(&told), []);
    // The first probe fails.
    fails(&breaker);
    assert_eq!(changes(&told), [(Open, HalfOpen), (HalfOpen, Open)]);
    advance(secs(5)).await;
    // Two hang, and a call that comes later opens the circuit.
    let probes = [breaker.try_acquire().unwrap(), breaker.try_acquire().unwrap()];
    assert_eq!(changes(&told), [(Open, HalfOpen)]);
    advance(secs(30)).await;
    breaker.try_acquire().unwrap_err();
    assert_eq!(changes(&told), [(HalfOpen, Open)]);
    drop(probes);
    advance(secs(5)).await;
    succeeds(&breaker);
    assert_eq!(changes(&told), [(Open, HalfOpen)]);
    succeeds(&breaker);
    assert_eq!(changes(&told), [(HalfOpen, Closed)]);

    // Another configuration asks for fewer probes.
    fails(&breaker);
    fails(&breaker);
    advance(secs(5)).await;
    succeeds(&breaker);
    changes(&told);
    breaker.configure(breaker.configuration().probes(1)).unwrap();
    assert_eq!(changes(&told), [(HalfOpen, Closed)]);

    for (force, from, to) in [
        (Breaker::force_open as fn(&Breaker), Closed, ForcedOpen),
        (Breaker::force_closed, ForcedOpen, ForcedClosed),
        (Breaker::reset, ForcedClosed, Closed),
    ] {
        force(&breaker);
        assert_eq!(changes(&told), [(from, to)]);
        // A second time changes nothing that could be told.
        force(&breaker);
        assert_eq!(changes(&told), []);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_probe_opens_the_circuit_and_a_rate_of_slow_calls_does() {
    let (breaker, told) = breaker(Breaker::builder().slow_call_rate(0.5, ms(100)).minimum_calls(2).probes(1));
    for _ in 0..2 {
        let permit = breaker.try_acquire().unwrap();
        advance(ms(100)).await;
        permit.success();
    }
    let transition = told.lock().unwrap()[0];
    assert_eq!(transition.slow_counts(), (2, 2));
    assert_eq!(changes(&told), [(Closed, Open)]);
    advance(secs(5)).await;
    let mut probe = breaker.try_acquire().unwrap();
    advance(ms(100)).await;
    probe.under_way();
    assert_eq!(changes(&told), [(Open, HalfOpen), (HalfOpen, Open)]);
    drop(probe);
    assert_eq!(changes(&told), []);
}

#[tokio::test(start_paused = true)]
async fn a_transition_says_what_led_to_it() {
    let (by_rate, told) = breaker(Breaker::builder().failure_rate(0.5, secs(10)).minimum_calls(4));
    succeeds(&by_rate);
    succeeds(&by_rate);
    fails(&by_rate);
    fails(&by_rate);
    let transition = told.lock().unwrap()[0];
    assert_eq!((transition.counts(), transition.failures_in_a_row(), transition.missed()), ((4, 2), 0, 0));
    assert_eq!(transition.half_open_at(), Some(Instant::now() + secs(5)));
    assert_eq!(transition.half_open_at(), by_rate.half_open_at());
    by_rate.reset();
    let transition = told.lock().unwrap()[1];
    assert_eq!((transition.counts(), transition.half_open_at()), ((0, 0), None));

    let (in_a_row, told) = breaker(Breaker::builder().consecutive_failures(3));
    fails(&in_a_row);
    fails(&in_a_row);
    in_a_row.force_closed();
    let transition = told.lock().unwrap()[0];
    assert_eq!((transition.failures_in_a_row(), transition.counts()), (2, (0, 0)));
}

#[test]
fn a_listener_sees_the_state_that_it_is_told_of() {
    let breaker = Breaker::builder().consecutive_failures(1).build().unwrap();
    let (states, handle) = (Arc::new(Mutex::new(vec![])), breaker.clone());
    let keep = states.clone();
    breaker.on_transition(move |transition| keep.lock().unwrap().push((transition.to(), handle.state())));
    fails(&breaker);
    breaker.reset();
    assert_eq!(*states.lock().unwrap(), [(Open, Open), (Closed, Closed)]);
}

#[test]
fn from_many_threads_each_transition_is_told_once_and_continues_the_one_before() {
    for _ in 0..size(10, 200) {
        let breaker = Breaker::builder().consecutive_failures(1).build().unwrap();
        let (told, inside) = (listen(&breaker), Arc::new(AtomicBool::new(false)));
        let others = Arc::new(AtomicUsize::new(0));
        let (is_inside, overlaps) = (inside.clone(), others.clone());
        breaker.on_transition(move |_| {
            if is_inside.swap(true, SeqCst) {
                overlaps.fetch_add(1, SeqCst);
            }
            thread::yield_now();
            is_inside.store(false, SeqCst);
        });
        let changed = AtomicUsize::new(0);
        thread::scope(|scope| {
            for seed in 0..4_usize {
                let (breaker, changed) = (&breaker, &changed);
                scope.spawn(move || {
                    for step in 0..50 {
                        match (seed * 7 + step * 3) % 5 {
                            0 => breaker.force_open(),
                            1 => breaker.force_closed(),
                            2 => drop(breaker.try_acquire().map(|permit| permit.failure())),
                            _ => breaker.reset(),
                        }
                        changed.fetch_add(1, SeqCst);
                    }
                });
            }
        });
        let last = breaker.state();
        let told = changes(&told);
        assert_eq!((others.load(SeqCst), changed.load(SeqCst)), (0, 200));
        assert_eq!(told.first().map(|(from, _)| *from), Some(Closed));
        assert_eq!(told.last().map(|(_, to)| *to), Some(last));
        assert!(told.windows(2).all(|pair| pair[0].1 == pair[1].0), "{told:?}");
        assert!(told.iter().all(|(from, to)| from != to));
    }
}

#[test]
fn a_listener_may_use_the_breaker_that_tells_it() {
    let breaker = Breaker::builder().consecutive_failures(1).build().unwrap();
    let handle = breaker.clone();
    breaker.on_transition(move |transition| match transition.to() {
        Open => handle.force_closed(),
        ForcedClosed => {
            handle.configure(handle.configuration().consecutive_failures(3)).unwrap();
            handle.try_acquire().unwrap().failure();
            handle.reset();
        }
        Closed => handle.on_transition(|_| {}),
        _ => {}
    });
    let told = listen(&breaker);
    fails(&breaker);
    assert_eq!(changes(&told), [(Closed, Open), (Open, ForcedClosed), (ForcedClosed, Closed)]);
    assert_eq!(breaker.configuration(), Breaker::builder().consecutive_failures(3));
}

#[test]
fn while_a_listener_is_slow_other_threads_go_on_and_what_they_change_is_told_after_it() {
    let breaker = Breaker::builder().build().unwrap();
    let (entered, is_entered) = channel();
    let (go, may_go) = channel::<()>();
    let may_go = Mutex::new(may_go);
    let told = listen(&breaker);
    breaker.on_transition(move |transition| {
        if transition.to() == ForcedOpen {
            entered.send(()).unwrap();
            may_go.lock().unwrap().recv().unwrap();
        }
    });
    thread::scope(|scope| {
        // Dropped if the test fails here, so that the listener goes on.
        let go = go;
        let telling = scope.spawn(|| breaker.force_open());
        is_entered.recv().unwrap();
        breaker.force_closed();
        breaker.reset();
        assert_eq!(breaker.state(), Closed);
        // Not told yet, nor by this thread.
        assert_eq!(told.lock().unwrap().len(), 1);
        // A listener that comes now is told of what comes from now on.
        let late = listen(&breaker);
        fails_until_open(&breaker);
        assert_eq!(changes(&late), []);
        go.send(()).unwrap();
        // That thread tells all of them.
        telling.join().unwrap();
        assert_eq!(changes(&late), [(Closed, Open)]);
    });
    let expected = [(Closed, ForcedOpen), (ForcedOpen, ForcedClosed), (ForcedClosed, Closed), (Closed, Open)];
    assert_eq!(changes(&told), expected);
}

fn fails_until_open(breaker: &Breaker) {
    while let Ok(permit) = breaker.try_acquire() {
        permit.failure();
    }
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_panics_harms_no_call_and_later_transitions_are_told() {
    struct PanicsAgain;
    impl Drop for PanicsAgain {
        fn drop(&mut self) {
            panic!("the payload of a panic");
        }
    }
    let breaker = Breaker::builder().consecutive_failures(1).open_for(secs(1)).build().unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let count = calls.clone();
    breaker.on_transition(move |transition| {
        count.fetch_add(1, SeqCst);
        if transition.to() == HalfOpen {
            std::panic::panic_any(PanicsAgain);
        }
        panic!("a listener, as the test wants it");
    });
    let told = listen(&breaker);
    let client = steadfast::client().circuit_breaker(breaker.clone());
    let client = client.service(Backend::script([Act::fail()], Act::answer(200))).unwrap();
    client.clone().oneshot(()).await.unwrap_err();
    advance(secs(1)).await;
    // The probe is let through and comes back.
    client.clone().oneshot(()).await.unwrap();
    assert_eq!(changes(&told), [(Closed, Open), (Open, HalfOpen)]);
    breaker.force_open();
    assert_eq!((changes(&told), calls.load(SeqCst)), (vec![(HalfOpen, ForcedOpen)], 3));
}

#[tokio::test(start_paused = true)]
async fn a_transition_while_a_panic_unwinds_is_told() {
    let breaker = Breaker::builder().consecutive_failures(1).build().unwrap();
    breaker.on_transition(|_| panic!("a listener, as the test wants it"));
    let told = listen(&breaker);
    let client = steadfast::client().circuit_breaker(breaker.clone()).service(Backend::always(Act::panic())).unwrap();
    assert!(tokio::spawn(client.oneshot(())).await.unwrap_err().is_panic());
    assert_eq!(changes(&told), [(Closed, Open)]);
}

#[test]
fn beyond_1024_that_wait_the_oldest_are_missed_and_counted() {
    let breaker = Breaker::builder().build().unwrap();
    let (handle, late) = (breaker.clone(), Told::default());
    let keep = late.clone();
    breaker.on_transition(move |transition| {
        if (transition.from(), transition.to()) == (Closed, ForcedOpen) && handle.state() == ForcedOpen {
            // 1500 transitions come while this one is told. A listener comes after 200 of them.
            for change in 0..1500 {
                if change == 200 {
                    let keep = keep.clone();
                    handle.on_transition(move |transition| keep.lock().unwrap().push(*transition));
                }
                if change % 2 == 0 { handle.force_closed() } else { handle.reset() }
            }
        }
    });
    let told = listen(&breaker);
    breaker.force_open();
    let told = told.lock().unwrap();
    assert_eq!(told.len(), 1 + 1024);
    let missed: Vec<u64> = told.iter().map(Transition::missed).collect();
    assert_eq!((missed[..2].to_vec(), missed[2..].iter().sum::<u64>()), (vec![0, 476], 0));
    assert_eq!(told.len() as u64 + missed.iter().sum::<u64>(), 1501);
    let late = late.lock().unwrap();
    let missed: Vec<u64> = late.iter().map(Transition::missed).collect();
    assert_eq!((late.len(), missed[0], missed.iter().sum::<u64>()), (1024, 276, 276));
}
