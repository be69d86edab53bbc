//! An instrument whose state changes and readings a test controls.

use crate::support::Backend;
use std::sync::{
    Arc, Mutex, Weak,
    atomic::{AtomicU64, Ordering::Relaxed},
};
use steadfast::{
    Rejection,
    shell::{
        DescribeGate, Ending, Explanation, Frame, Gate, Instrument, Reading, Readings, StateChange, StateListener,
    },
};
use tokio::time::Instant;

/// A gate that admits all calls, and its instrument.
#[derive(Clone, Default)]
pub struct Switch(Arc<Shared>);

#[derive(Default)]
struct Shared {
    listeners: Mutex<Vec<Weak<StateListener>>>,
    waiting: AtomicU64,
}

impl Switch {
    /// Reports a state change to the listeners.
    pub fn change(&self, from: &'static str, to: &'static str) {
        self.tell(StateChange::new("circuit_breaker", from, to, &"as the test says"));
    }

    /// Reports a state change that is trouble to the listeners.
    pub fn trouble(&self, from: &'static str, to: &'static str) {
        self.tell(StateChange::new("circuit_breaker", from, to, &"5 of 8 failed").trouble());
    }

    pub fn tell(&self, change: StateChange<'_>) {
        let listeners: Vec<_> = self.0.listeners.lock().unwrap().iter().filter_map(Weak::upgrade).collect();
        for listener in listeners {
            listener(&change);
        }
    }

    /// Returns the number of live listeners.
    pub fn listeners(&self) -> usize {
        self.0.listeners.lock().unwrap().iter().filter(|listener| listener.strong_count() > 0).count()
    }

    /// Sets the number of waiting calls.
    pub fn set_waiting(&self, waiting: u64) {
        self.0.waiting.store(waiting, Relaxed);
    }

    /// Returns the number of handles.
    pub fn handles(&self) -> usize {
        Arc::strong_count(&self.0)
    }
}

impl Instrument for Switch {
    fn read(&self, _: Instant, readings: &mut Readings<'_>) {
        let waiting = self.0.waiting.load(Relaxed);
        readings.add(Reading::sum("queue_waiting", waiting as f64));
    }

    fn listen(&self, listener: &Weak<StateListener>) {
        self.0.listeners.lock().unwrap().push(listener.clone());
    }
}

impl<Request> Gate<Request> for Switch {
    type Permit = ();

    fn admit(&self, _: &Request, _: &mut Frame) -> Result<(), Rejection> {
        Ok(())
    }

    fn settle(&self, (): (), _: Ending, _: &mut Frame) {}
}

impl DescribeGate for Switch {
    fn describe(&self, explanation: &mut Explanation) {
        explanation.instrument(self.clone());
    }
}

/// Lets the switch fill a slot of a stack, as a gate.
impl steadfast::stack::Slot for Switch {
    type Stage<Next> = steadfast::shell::GateStage<Self, Next>;

    fn build<Next>(self, next: Next) -> Result<Self::Stage<Next>, steadfast::ConfigError> {
        Ok(steadfast::shell::GateStage::new(self, next))
    }
}

/// A service that always answers 200.
pub fn answers() -> Backend {
    Backend::always(crate::support::Act::answer(200))
}
