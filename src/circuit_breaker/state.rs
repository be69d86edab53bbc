//! The state that all handles of a breaker share, and its transitions.
//!
//! | from | to | when | in |
//! |---|---|---|---|
//! | closed | open | a call completes a run of failures, or brings a rate to its limit | `counting`, `slow` |
//! | open | half-open | a call arrives after the open time; it is the first probe | `probes` |
//! | half-open | open | a probe fails, or reaches the threshold of slow calls | `probes`, `slow` |
//! | half-open | open | a call arrives after the probe timeout without a verdict of a probe | `probes` |
//! | half-open | half-open | a probe is admitted, or ends in another way | `probes` |
//! | half-open | closed | enough probes have succeeded | `probes` |
//! | half-open | closed | a new configuration needs fewer probes, and that number has succeeded | `follow` |
//! | any | forced open, forced closed, closed | by hand | this file |
//!
//! Each change except that from half-open to half-open begins a new era.

mod counting;
mod follow;
mod probes;
mod slow;

use super::{
    BreakerBuilder, BreakerState,
    most_open::{MostOpen, OpenPlace},
    open_time::{Bounds, OpenTime},
    published::{Published, calls_are_timed},
    transition::{Listener, Transition, TransitionQueue},
    window::{Counts, Window},
    word::Word,
};
use crate::{
    clock::{Nanos, Origin},
    error::CircuitOpen,
    sync::{AtomicU64, Mutex, Ordering, lock},
};
use std::sync::{Arc, OnceLock};
use tokio::time::Instant;

/// The state that all handles of one breaker share. Times count from `origin`.
pub(super) struct BreakerShared {
    pub(super) published: Published,
    /// When an open circuit lets probes through. Relaxed: it is written before the word that names it. A thread that
    /// reads it with an older word finds the instant of a later opening, and never a value of another meaning.
    open_until: AtomicU64,
    /// When a half-open circuit gives up its probes. Relaxed, as `open_until`.
    probes_until: AtomicU64,
    /// The era in the upper half, the failures in a row in the lower half. Relaxed: each change is one atomic step.
    in_a_row: AtomicU64,
    failures: Window,
    /// The window of slow calls. Created when their rate is first configured, and set with the machine locked.
    slow: OnceLock<Box<Window>>,
    machine: Mutex<Machine>,
    origin: Origin,
    /// The bound on the number of open breakers of which this is one. Read only to open.
    bound: OnceLock<Arc<MostOpen>>,
}

/// The part under the lock. A function that takes a reference to it runs under the lock.
pub(super) struct Machine {
    state: CircuitState,
    /// Counts the changes of state. Every permit carries the era that admitted it, and counts for no other.
    era: u32,
    pub(super) config: BreakerBuilder,
    open_time: OpenTime,
    transitions: TransitionQueue,
    /// How often each state was entered, in the order of [`BreakerState::ALL`].
    entered: [u64; BreakerState::ALL.len()],
    /// Kept while the circuit is open or half-open, if there is a bound.
    place: Option<OpenPlace>,
}

/// When a thread delivers its transitions to the listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// After it unlocks the machine.
    Now,
    /// With [`BreakerShared::deliver_pending`], when the thread holds no other lock.
    Later,
}

/// The states, each with the data of its era.
#[derive(Clone, Copy, Debug)]
pub(super) enum CircuitState {
    /// All calls pass, and their results are counted.
    Closed,
    /// No call passes until `open_until`. The circuit enters it for the [`OpenTime`].
    Open,
    /// A few calls pass as probes.
    HalfOpen(Probes),
    /// Opened by hand: no call passes until it is reset.
    ForcedOpen,
    /// Closed by hand: all calls pass and nothing is counted until it is reset.
    ForcedClosed,
}

/// The probes of a half-open circuit.
///
/// At most `probes` calls pass: `in_flight + succeeded <= probes`, unless the number was lowered since. Always
/// `succeeded < probes`.
///
/// Probes form series. A series continues while a probe is in flight, and until `lasts_until`. A success ends it. A
/// series without a success or a failure until `probes_until` opens the circuit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probes {
    in_flight: u32,
    succeeded: u32,
    /// In the future after a probe that reached the service was abandoned before its answer.
    lasts_until: Nanos,
}

impl Probes {
    /// The first probe of a half-open circuit is in flight.
    const FIRST: Self = Self { in_flight: 1, succeeded: 0, lasts_until: Nanos::ZERO };

    /// Returns how many more probes may pass if `probes` must succeed.
    fn places(self, probes: u32) -> u32 {
        probes.saturating_sub(self.in_flight + self.succeeded)
    }

    /// Returns whether a probe that is admitted now belongs to the present series.
    fn series_goes_on(self, now: Nanos) -> bool {
        self.in_flight > 0 || now < self.lasts_until
    }
}

impl BreakerShared {
    pub(super) fn new(config: BreakerBuilder) -> Self {
        let origin = Origin::at(Instant::now());
        let (state, open_time, transitions) = (CircuitState::Closed, OpenTime::default(), TransitionQueue::default());
        let machine =
            Machine { state, era: 0, config, open_time, transitions, entered: Default::default(), place: None };
        let config = &machine.config;
        let slow = OnceLock::new();
        if config.slow_call_rate.is_some() {
            let _ = slow.set(Box::default());
        }
        Self {
            published: Published::new(machine.word(), config),
            open_until: AtomicU64::new(0),
            probes_until: AtomicU64::new(0),
            in_a_row: AtomicU64::new(0),
            failures: Window::default(),
            slow,
            machine: Mutex::new(machine),
            origin,
            bound: OnceLock::new(),
        }
    }

    #[inline]
    pub(super) fn look(&self) -> Word {
        self.published.word()
    }

    #[inline]
    pub(super) fn time(&self, now: Instant) -> Nanos {
        self.origin.to(now)
    }

    /// Returns the calls in the window and the failures among them, if a failure rate is configured.
    pub(super) fn counts(&self, now: Nanos) -> Counts {
        let (rules, ticks) = self.published.rules_and_ticks();
        if rules.has_rate() { self.failures.counts(&ticks, self.look().era(), now) } else { Counts::default() }
    }

    /// Returns the share of failures in the window, if it contains enough calls to open the circuit. Otherwise zero.
    pub(super) fn failure_ratio(&self, now: Nanos) -> f64 {
        let (rules, _) = self.published.rules_and_ticks();
        let counts = self.counts(now);
        if rules.failure_rate().has_enough_calls(counts) { counts.bad as f64 / counts.calls.max(1) as f64 } else { 0.0 }
    }

    /// Returns when an open circuit lets probes through.
    pub(super) fn half_open_at(&self) -> Option<Instant> {
        let open = self.look().state() == BreakerState::Open;
        open.then(|| self.origin.instant(Nanos(self.open_until.load(Ordering::Relaxed)))).flatten()
    }

    /// Opens the circuit after a failed probe, or after probes without a verdict.
    // HalfOpen => Open
    fn reopen(&self, machine: &mut Machine, now: Nanos) {
        let bounds = machine.bounds();
        let Machine { open_time, config, .. } = machine;
        let open_for = open_time.after_failed_probe(bounds, || config.random.get());
        self.open(machine, now, open_for);
    }

    fn open(&self, machine: &mut Machine, now: Nanos, open_for: Nanos) {
        self.open_until.store(now.saturating_add(open_for).0, Ordering::Relaxed);
        self.change(machine, CircuitState::Open, now);
    }

    // HalfOpen => Closed
    fn close(&self, machine: &mut Machine, now: Nanos) {
        machine.open_time.closed(now);
        self.change(machine, CircuitState::Closed, now);
    }

    /// Sets the bound on open breakers. The first bound counts.
    pub(super) fn be_bound(&self, bound: &Arc<MostOpen>) {
        let _ = self.bound.set(bound.clone());
    }

    /// Takes a place of the bound. Returns `false` if the bound has none; without a bound, returns `true`.
    fn takes_place(&self, machine: &mut Machine) -> bool {
        let Some(bound) = self.bound.get() else { return true };
        machine.place = bound.take();
        machine.place.is_some()
    }

    /// Returns whether there is no failure in a row and no bad call in a window. Changes nothing.
    pub(super) fn is_clean(&self, now: Nanos) -> bool {
        let (era, in_a_row) = (self.look().era(), self.in_a_row.load(Ordering::Relaxed));
        let runs = (in_a_row >> 32) as u32 == era && in_a_row as u32 > 0;
        !runs && self.counts(now).bad == 0 && self.slow_counts(now).bad == 0
    }

    /// Begins a new era by hand.
    // Any => ForcedOpen | ForcedClosed | Closed
    pub(super) fn force(&self, state: CircuitState, delivery: Delivery) {
        let now = self.time(Instant::now());
        self.with_machine(delivery, |machine| {
            machine.open_time = OpenTime::default();
            self.change(machine, state, now);
        });
    }

    /// Begins a new era.
    fn change(&self, machine: &mut Machine, state: CircuitState, now: Nanos) {
        let from = machine.word().state();
        let bound = self.bound.get();
        let of_all = bound.map(|bound| bound.listeners()).filter(|listeners| !listeners.is_empty());
        let is_heard = of_all.is_some() || machine.transitions.has_listeners();
        let counted = is_heard.then(|| self.counted(machine, now));
        machine.state = state;
        machine.era = machine.era.wrapping_add(1);
        self.publish(machine);
        if !matches!(state, CircuitState::Open | CircuitState::HalfOpen(_)) {
            // After all threads can see that the circuit is not open.
            machine.place = None;
        }
        let to = machine.word().state();
        if from != to {
            let entered = &mut machine.entered[to.place()];
            *entered = entered.wrapping_add(1);
            bound.into_iter().for_each(|bound| bound.count(to));
        }
        if let Some(counted) = counted.filter(|_| from != to) {
            machine.transitions.add(Transition { from, to, half_open_at: self.half_open_at(), ..counted }, of_all);
        }
    }

    /// Returns the counts of the present era.
    fn counted(&self, machine: &Machine, now: Nanos) -> Transition {
        let (from, in_a_row) = (machine.word().state(), self.in_a_row.load(Ordering::Relaxed));
        let counts_here = from == BreakerState::Closed;
        Transition {
            from,
            to: from,
            failures: if counts_here { self.counts(now) } else { Counts::default() },
            slow: if counts_here { self.slow_counts(now) } else { Counts::default() },
            failures_in_a_row: if (in_a_row >> 32) as u32 == machine.era { in_a_row as u32 } else { 0 },
            half_open_at: None,
            missed: 0,
        }
    }

    /// Runs `work` with the machine locked, then delivers the transitions that it has made.
    fn with_machine<T>(&self, when: Delivery, work: impl FnOnce(&mut Machine) -> T) -> T {
        let mut machine = lock(&self.machine);
        let before = machine.transitions.added();
        let result = work(&mut machine);
        // A thread with `Delivery::Later` delivers its transitions itself.
        let delivers =
            when == Delivery::Now && machine.transitions.added() != before && machine.transitions.begin_delivery();
        drop(machine);
        if delivers {
            self.deliver();
        }
        result
    }

    /// Delivers pending transitions until there are none.
    #[cold]
    fn deliver(&self) {
        loop {
            let next = lock(&self.machine).transitions.next();
            let Some(item) = next else { return };
            item.deliver();
        }
    }

    /// Delivers each later transition to this listener.
    pub(super) fn listen(&self, listener: Listener) {
        lock(&self.machine).transitions.add_listener(listener);
    }

    /// Returns how often each state was entered, in the order of [`BreakerState::ALL`].
    pub(super) fn entered(&self) -> [u64; BreakerState::ALL.len()] {
        lock(&self.machine).entered
    }

    /// Delivers the pending transitions, unless another thread is delivering.
    pub(super) fn deliver_pending(&self) {
        let delivers = lock(&self.machine).transitions.begin_delivery();
        if delivers {
            self.deliver();
        }
    }

    /// Publishes the machine's state for threads without the lock.
    fn publish(&self, machine: &Machine) {
        self.published.set_word(machine.word());
    }

    fn has_come(&self, instant: &AtomicU64, now: Nanos) -> bool {
        now.0 >= instant.load(Ordering::Relaxed)
    }

    fn open_until(&self, now: Nanos) -> CircuitOpen {
        let until = Nanos(self.open_until.load(Ordering::Relaxed));
        CircuitOpen::new(Some(until.saturating_sub(now).duration()))
    }
}

impl Machine {
    fn bounds(&self) -> Bounds {
        Bounds::new(self.config.open_for, self.config.longest_open())
    }

    /// Returns the word for threads without the lock.
    fn word(&self) -> Word {
        let (state, places) = match self.state {
            CircuitState::Closed => (BreakerState::Closed, 0),
            CircuitState::Open => (BreakerState::Open, 0),
            CircuitState::HalfOpen(probes) => (BreakerState::HalfOpen, probes.places(self.config.probes)),
            CircuitState::ForcedOpen => (BreakerState::ForcedOpen, 0),
            CircuitState::ForcedClosed => (BreakerState::ForcedClosed, 0),
        };
        Word::pack(self.era, state, places, calls_are_timed(&self.config))
    }
}
