//! Listeners of a breaker: under every interleaving, each transition is delivered once and in order, and none stays
//! pending.

use super::*;
use std::sync::Mutex;
use steadfast::circuit_breaker::Transition;

type Change = (BreakerState, BreakerState);

/// The transitions that a listener got. Loom does not know the lock of `changes`, and switches no threads within it.
#[derive(Default)]
struct Delivered {
    changes: Mutex<Vec<Change>>,
    /// The listeners that run now. Loom may switch threads at each access.
    inside: AtomicUsize,
    overlaps: AtomicUsize,
}

impl Delivered {
    fn add(&self, transition: &Transition) {
        if self.inside.fetch_add(1, Ordering::Relaxed) > 0 {
            self.overlaps.fetch_add(1, Ordering::Relaxed);
        }
        self.changes.lock().unwrap().push((transition.from(), transition.to()));
        self.inside.fetch_sub(1, Ordering::Relaxed);
    }

    /// Asserts that all transitions were delivered once, in order, and one at a time. Returns them.
    fn assert_chain(&self, breaker: &Breaker) -> Vec<Change> {
        let changes = self.changes.lock().unwrap().clone();
        assert_eq!(self.overlaps.load(Ordering::Relaxed), 0, "{changes:?}");
        assert!(changes.windows(2).all(|pair| pair[0].1 == pair[1].0), "{changes:?}");
        assert_eq!(changes.first().map(|(from, _)| *from), Some(BreakerState::Closed), "{changes:?}");
        assert_eq!(changes.last().map(|(_, to)| *to), Some(breaker.state()), "{changes:?}");
        changes
    }
}

/// Returns a breaker that opens at the first failure, and the transitions that it delivers.
fn listened() -> (Breaker, Arc<Delivered>) {
    let breaker = Breaker::builder().consecutive_failures(1).open_for(SECOND).max_open_for(SECOND).build().unwrap();
    let delivered = Arc::new(Delivered::default());
    let listener = delivered.clone();
    breaker.on_transition(move |transition| listener.add(transition));
    (breaker, delivered)
}

#[test]
fn each_transition_of_two_threads_is_delivered_once_and_in_order() {
    check(|| {
        let (breaker, delivered) = listened();
        let (one, other) = (breaker.clone(), breaker.clone());
        both(move || one.force_open(), move || other.force_closed());
        assert_eq!(delivered.assert_chain(&breaker).len(), 2);
    });
}

#[test]
fn each_transition_of_three_threads_is_delivered_once_and_in_order() {
    check_with_interruptions(2, || {
        let (breaker, delivered) = listened();
        let (one, two, three) = (breaker.clone(), breaker.clone(), breaker.clone());
        let opening = thread::spawn(move || one.force_open());
        both(move || two.force_closed(), move || three.force_open());
        opening.join().unwrap();
        // There are only two transitions if one thread opens the circuit while it is open already.
        let changes = delivered.assert_chain(&breaker);
        assert!((2..=3).contains(&changes.len()), "{changes:?}");
    });
}

#[test]
fn one_transition_is_delivered_if_two_failures_open_the_circuit_at_once() {
    check(|| {
        let (breaker, delivered) = listened();
        let now = Instant::now();
        let fail = {
            let breaker = breaker.clone();
            move || drop(breaker.try_acquire_at(now).map(|permit| permit.failure_at(now)))
        };
        in_threads(2, fail);
        assert_eq!(delivered.assert_chain(&breaker), [(BreakerState::Closed, BreakerState::Open)]);
    });
}

#[test]
fn a_transition_by_a_live_configuration_is_delivered_while_another_thread_delivers() {
    check_with_interruptions(2, || {
        let (breaker, delivered) = listened();
        let (_layer, control) = steadfast::client().circuit_breaker(breaker.clone()).live().unwrap();
        let forced = BreakerConfig { forced: Some(Forced::Open), ..control.built().circuit_breaker.clone().unwrap() };
        let config = StackConfig { circuit_breaker: Some(forced), ..StackConfig::default() };
        let other = breaker.clone();
        both(move || control.apply(&config).unwrap(), move || other.force_closed());
        assert_eq!(delivered.assert_chain(&breaker).len(), 2);
    });
}

#[test]
fn a_listener_added_during_transitions_gets_all_from_some_transition_on() {
    check(|| {
        let (breaker, delivered) = listened();
        let late = Arc::new(Delivered::default());
        let (changing, adding, listener) = (breaker.clone(), breaker.clone(), late.clone());
        let changes = move || {
            changing.force_open();
            changing.force_closed();
        };
        both(changes, move || adding.on_transition(move |transition| listener.add(transition)));
        let all = delivered.assert_chain(&breaker);
        assert!(all.ends_with(&late.changes.lock().unwrap()), "{all:?}");
    });
}
