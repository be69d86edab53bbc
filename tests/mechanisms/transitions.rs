//! Listeners of a breaker. Each transition is delivered once and in order, with the counts before it, even if a
//! listener is slow, panics, or uses the breaker. Of more than 1024 pending transitions, the oldest are dropped and
//! counted.

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

type Delivered = Arc<Mutex<Vec<Transition>>>;

/// Adds a listener that records its transitions.
fn listen(breaker: &Breaker) -> Delivered {
    let delivered = Delivered::default();
    let keep = delivered.clone();
    breaker.on_transition(move |transition| keep.lock().unwrap().push(*transition));
    delivered
}

/// Returns the transitions since the last call.
fn changes(delivered: &Delivered) -> Vec<(BreakerState, BreakerState)> {
    delivered.lock().unwrap().drain(..).map(|transition| (transition.from(), transition.to())).collect()
}

fn breaker(builder: BreakerBuilder) -> (Breaker, Delivered) {
    let breaker = builder.open_for(secs(5)).max_open_for(secs(5)).probe_timeout(secs(30)).build().unwrap();
    let delivered = listen(&breaker);
    (breaker, delivered)
}

fn fails(breaker: &Breaker) {
    breaker.try_acquire().unwrap().failure();
}

fn succeeds(breaker: &Breaker) {
    breaker.try_acquire().unwrap().success();
}

#[tokio::test(start_paused = true)]
async fn each_kind_of_transition_is_delivered_once() {
    let (breaker, delivered) = breaker(Breaker::builder().consecutive_failures(2).probes(2));
    fails(&breaker);
    assert_eq!(changes(&delivered), []);
    fails(&breaker);
    assert_eq!(changes(&delivered), [(Closed, Open)]);
    breaker.try_acquire().unwrap_err();
    advance(secs(5)).await;
    assert_eq!(changes(&delivered), []);
    // The first probe fails.
    fails(&breaker);
    assert_eq!(changes(&delivered), [(Open, HalfOpen), (HalfOpen, Open)]);
    advance(secs(5)).await;
    // Two probes hang, and a later call opens the circuit.
    let probes = [breaker.try_acquire().unwrap(), breaker.try_acquire().unwrap()];
    assert_eq!(changes(&delivered), [(Open, HalfOpen)]);
    advance(secs(30)).await;
    breaker.try_acquire().unwrap_err();
    assert_eq!(changes(&delivered), [(HalfOpen, Open)]);
    drop(probes);
    advance(secs(5)).await;
    succeeds(&breaker);
    assert_eq!(changes(&delivered), [(Open, HalfOpen)]);
    succeeds(&breaker);
    assert_eq!(changes(&delivered), [(HalfOpen, Closed)]);

    // Another configuration needs fewer probes.
    fails(&breaker);
    fails(&breaker);
    advance(secs(5)).await;
    succeeds(&breaker);
    changes(&delivered);
    breaker.configure(breaker.configuration().probes(1)).unwrap();
    assert_eq!(changes(&delivered), [(HalfOpen, Closed)]);

    for (force, from, to) in [
        (Breaker::force_open as fn(&Breaker), Closed, ForcedOpen),
        (Breaker::force_closed, ForcedOpen, ForcedClosed),
        (Breaker::reset, ForcedClosed, Closed),
    ] {
        force(&breaker);
        assert_eq!(changes(&delivered), [(from, to)]);
        // A second time changes no state.
        force(&breaker);
        assert_eq!(changes(&delivered), []);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_probe_opens_the_circuit_and_a_rate_of_slow_calls_does() {
    let (breaker, delivered) = breaker(Breaker::builder().slow_call_rate(0.5, ms(100)).minimum_calls(2).probes(1));
    for _ in 0..2 {
        let permit = breaker.try_acquire().unwrap();
        advance(ms(100)).await;
        permit.success();
    }
    let transition = delivered.lock().unwrap()[0];
    assert_eq!(transition.slow_counts(), (2, 2));
    assert_eq!(changes(&delivered), [(Closed, Open)]);
    advance(secs(5)).await;
    let mut probe = breaker.try_acquire().unwrap();
    advance(ms(100)).await;
    probe.under_way();
    assert_eq!(changes(&delivered), [(Open, HalfOpen), (HalfOpen, Open)]);
    drop(probe);
    assert_eq!(changes(&delivered), []);
}

#[tokio::test(start_paused = true)]
async fn a_transition_reports_its_reason() {
    let (by_rate, delivered) = breaker(Breaker::builder().failure_rate(0.5, secs(10)).minimum_calls(4));
    succeeds(&by_rate);
    succeeds(&by_rate);
    fails(&by_rate);
    fails(&by_rate);
    let transition = delivered.lock().unwrap()[0];
    assert_eq!((transition.counts(), transition.failures_in_a_row(), transition.missed()), ((4, 2), 0, 0));
    assert_eq!(transition.half_open_at(), Some(Instant::now() + secs(5)));
    assert_eq!(transition.half_open_at(), by_rate.half_open_at());
    by_rate.reset();
    let transition = delivered.lock().unwrap()[1];
    assert_eq!((transition.counts(), transition.half_open_at()), ((0, 0), None));

    let (in_a_row, delivered) = breaker(Breaker::builder().consecutive_failures(3));
    fails(&in_a_row);
    fails(&in_a_row);
    in_a_row.force_closed();
    let transition = delivered.lock().unwrap()[0];
    assert_eq!((transition.failures_in_a_row(), transition.counts()), (2, (0, 0)));
}

#[test]
fn a_listener_sees_the_new_state() {
    let breaker = Breaker::builder().consecutive_failures(1).build().unwrap();
    let (states, handle) = (Arc::new(Mutex::new(vec![])), breaker.clone());
    let keep = states.clone();
    breaker.on_transition(move |transition| keep.lock().unwrap().push((transition.to(), handle.state())));
    fails(&breaker);
    breaker.reset();
    assert_eq!(*states.lock().unwrap(), [(Open, Open), (Closed, Closed)]);
}

#[test]
fn transitions_of_many_threads_are_delivered_once_and_in_order() {
    for _ in 0..size(10, 200) {
        let breaker = Breaker::builder().consecutive_failures(1).build().unwrap();
        let (delivered, inside) = (listen(&breaker), Arc::new(AtomicBool::new(false)));
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
        let delivered = changes(&delivered);
        assert_eq!((others.load(SeqCst), changed.load(SeqCst)), (0, 200));
        assert_eq!(delivered.first().map(|(from, _)| *from), Some(Closed));
        assert_eq!(delivered.last().map(|(_, to)| *to), Some(last));
        assert!(delivered.windows(2).all(|pair| pair[0].1 == pair[1].0), "{delivered:?}");
        assert!(delivered.iter().all(|(from, to)| from != to));
    }
}

#[test]
fn a_listener_may_use_its_breaker() {
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
    let delivered = listen(&breaker);
    fails(&breaker);
    assert_eq!(changes(&delivered), [(Closed, Open), (Open, ForcedClosed), (ForcedClosed, Closed)]);
    assert_eq!(breaker.configuration(), Breaker::builder().consecutive_failures(3));
}

#[test]
fn a_slow_listener_blocks_no_other_thread_and_gets_their_transitions_later() {
    let breaker = Breaker::builder().build().unwrap();
    let (entered, is_entered) = channel();
    let (go, may_go) = channel::<()>();
    let may_go = Mutex::new(may_go);
    let delivered = listen(&breaker);
    breaker.on_transition(move |transition| {
        if transition.to() == ForcedOpen {
            entered.send(()).unwrap();
            may_go.lock().unwrap().recv().unwrap();
        }
    });
    thread::scope(|scope| {
        // A failed assertion drops the sender. The listener then stops waiting, and the scope can end.
        let go = go;
        let delivering = scope.spawn(|| breaker.force_open());
        is_entered.recv().unwrap();
        breaker.force_closed();
        breaker.reset();
        assert_eq!(breaker.state(), Closed);
        // The slow listener still runs. This thread has not delivered the pending transitions.
        assert_eq!(delivered.lock().unwrap().len(), 1);
        // A listener that is added now gets only later transitions.
        let late = listen(&breaker);
        fails_until_open(&breaker);
        assert_eq!(changes(&late), []);
        go.send(()).unwrap();
        // The thread of the slow listener delivers all pending transitions.
        delivering.join().unwrap();
        assert_eq!(changes(&late), [(Closed, Open)]);
    });
    let expected = [(Closed, ForcedOpen), (ForcedOpen, ForcedClosed), (ForcedClosed, Closed), (Closed, Open)];
    assert_eq!(changes(&delivered), expected);
}

fn fails_until_open(breaker: &Breaker) {
    while let Ok(permit) = breaker.try_acquire() {
        permit.failure();
    }
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_panics_fails_no_call_and_later_transitions_are_delivered() {
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
    let delivered = listen(&breaker);
    let client = steadfast::client().circuit_breaker(breaker.clone());
    let client = client.service(Backend::script([Act::fail()], Act::answer(200))).unwrap();
    client.clone().oneshot(()).await.unwrap_err();
    advance(secs(1)).await;
    // The next call passes as a probe and is answered, although the listener panics.
    client.clone().oneshot(()).await.unwrap();
    assert_eq!(changes(&delivered), [(Closed, Open), (Open, HalfOpen)]);
    breaker.force_open();
    assert_eq!((changes(&delivered), calls.load(SeqCst)), (vec![(HalfOpen, ForcedOpen)], 3));
}

#[tokio::test(start_paused = true)]
async fn a_transition_while_a_panic_unwinds_is_delivered() {
    let breaker = Breaker::builder().consecutive_failures(1).build().unwrap();
    breaker.on_transition(|_| panic!("a listener, as the test wants it"));
    let delivered = listen(&breaker);
    let client = steadfast::client().circuit_breaker(breaker.clone()).service(Backend::always(Act::panic())).unwrap();
    assert!(tokio::spawn(client.oneshot(())).await.unwrap_err().is_panic());
    assert_eq!(changes(&delivered), [(Closed, Open)]);
}

#[test]
fn beyond_1024_pending_transitions_the_oldest_are_dropped_and_counted() {
    let breaker = Breaker::builder().build().unwrap();
    let (handle, late) = (breaker.clone(), Delivered::default());
    let keep = late.clone();
    breaker.on_transition(move |transition| {
        if (transition.from(), transition.to()) == (Closed, ForcedOpen) && handle.state() == ForcedOpen {
            // 1,500 transitions happen during the delivery of this one. A listener is added after 200 of them.
            for change in 0..1500 {
                if change == 200 {
                    let keep = keep.clone();
                    handle.on_transition(move |transition| keep.lock().unwrap().push(*transition));
                }
                if change % 2 == 0 { handle.force_closed() } else { handle.reset() }
            }
        }
    });
    let delivered = listen(&breaker);
    breaker.force_open();
    let delivered = delivered.lock().unwrap();
    assert_eq!(delivered.len(), 1 + 1024);
    let missed: Vec<u64> = delivered.iter().map(Transition::missed).collect();
    assert_eq!((missed[..2].to_vec(), missed[2..].iter().sum::<u64>()), (vec![0, 476], 0));
    assert_eq!(delivered.len() as u64 + missed.iter().sum::<u64>(), 1501);
    let late = late.lock().unwrap();
    let missed: Vec<u64> = late.iter().map(Transition::missed).collect();
    assert_eq!((late.len(), missed[0], missed.iter().sum::<u64>()), (1024, 276, 276));
}
