//! The state that all handles of a breaker share, and its transitions.
//!
//! | from | to | when | in |
//! |---|---|---|---|
//! | closed | open | after a failure the run of failures, or after a counted call a rate, is at its limit or above, and the bound on open breakers has a place | `counting`, `slow` |
//! | open | half-open | a call arrives after the open time; it is the first probe | `probes` |
//! | half-open | open | a probe fails, or is slow | `probes`, `slow` |
//! | half-open | open | a call arrives after `probes_until`, while a probe is in flight or `lasts_until` has not come (see [`Probes`]) | `probes` |
//! | half-open | half-open | a probe is admitted, succeeds while more must succeed, or ends as neither success nor failure | `probes` |
//! | half-open | closed | enough probes have succeeded | `probes` |
//! | half-open | closed | a new configuration needs fewer probes, and that number has succeeded | `reconfigure` |
//! | any | forced open, forced closed, closed | by hand, or by [`forced`](super::BreakerConfig::forced) in a configuration | this file |
//!
//! Each change except that from half-open to half-open begins a new era.

mod counting;
mod probes;
mod reconfigure;
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
    /// When an open circuit lets probes through. Relaxed: `open` writes the time first, and then publishes the open
    /// state with release. A thread that has loaded the word of an earlier opening may read the time of a later one.
    /// Either way it reads the end of an open time.
    open_until: AtomicU64,
    /// When the probe timeout of the present series of a half-open circuit ends. Relaxed, as `open_until`.
    probes_until: AtomicU64,
    /// The era in the upper half, the failures in a row in the lower half. Relaxed: each change is one atomic step.
    era_and_run: AtomicU64,
    /// The window of failures.
    failures: Window,
    /// The window of slow calls. Created when a rate of slow calls is first configured: with the breaker, or later
    /// under the lock of the machine.
    slow: OnceLock<Box<Window>>,
    machine: Mutex<Machine>,
    origin: Origin,
    /// The state that this breaker shares with the others of its `PerKey`: the bound on open breakers, the counts of
    /// transitions and the listeners of all. Read at each change of state.
    bound: OnceLock<Arc<MostOpen>>,
}

/// The part under the lock. A function that takes a reference to it runs under the lock.
pub(super) struct Machine {
    state: CircuitState,
    /// The number of the era: the changes of state so far. Every ticket carries the era that admitted its call, and the
    /// result counts in no other era.
    era: u32,
    pub(super) config: BreakerBuilder,
    open_time: OpenTime,
    transitions: TransitionQueue,
    /// How often each state was entered, in the order of [`BreakerState::ALL`].
    times_entered: [u64; BreakerState::ALL.len()],
    /// The breaker's place within the bound on open breakers. The breaker keeps it while the state is `Open` or
    /// `HalfOpen`. Otherwise `None`, and always `None` if the breaker belongs to no `PerKey`.
    place: Option<OpenPlace>,
}

/// Says which function delivers a thread's transitions to the listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// The called function, after it has unlocked the machine.
    Now,
    /// The caller, with [`BreakerShared::deliver_pending`], after it has released its other locks.
    Later,
}

/// The states, each with the data of its era.
#[derive(Clone, Copy, Debug)]
pub(super) enum CircuitState {
    /// All calls pass, and their results are counted.
    Closed,
    /// No call passes until `open_until`. [`OpenTime`] determines the length of this time when the circuit opens.
    Open,
    /// A few calls pass as probes.
    HalfOpen(Probes),
    /// Opened by hand or by `forced` in a configuration: no call passes until the next such change or a reset.
    ForcedOpen,
    /// Closed by hand or by `forced` in a configuration: all calls pass, and nothing is counted, until the next such
    /// change or a reset.
    ForcedClosed,
}

/// The probes of a half-open circuit.
///
/// With `n` as the configured number of probes: `in_flight + succeeded <= n`, unless a new configuration lowered `n`
/// since. Always `succeeded < n`.
///
/// A series is a sequence of probes that share one probe timeout, which ends at `probes_until`. A series continues
/// while a probe is in flight, or until `lasts_until` if that is later. A success starts the next series. A call that
/// arrives while the series continues, but after its probe timeout, opens the circuit. A call that arrives after the
/// series has ended starts the next one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probes {
    in_flight: u32,
    succeeded: u32,
    /// While no probe is in flight, the series ends at this time. If a probe that reached the service is abandoned
    /// before its answer, the series lasts for at least half a probe timeout more. Zero if no probe was abandoned like
    /// this since the circuit became half-open, or since the last success.
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
            Machine { state, era: 0, config, open_time, transitions, times_entered: Default::default(), place: None };
        let config = &machine.config;
        let slow = OnceLock::new();
        if config.slow_call_rate.is_some() {
            let _ = slow.set(Box::default());
        }
        Self {
            published: Published::new(machine.word(), config),
            open_until: AtomicU64::new(0),
            probes_until: AtomicU64::new(0),
            era_and_run: AtomicU64::new(0),
            failures: Window::default(),
            slow,
            machine: Mutex::new(machine),
            origin,
            bound: OnceLock::new(),
        }
    }

    #[inline]
    pub(super) fn word(&self) -> Word {
        self.published.word()
    }

    #[inline]
    pub(super) fn since_origin(&self, now: Instant) -> Nanos {
        self.origin.to(now)
    }

    /// Returns the calls in the window and the failures among them. Both are zero if no failure rate is configured.
    pub(super) fn counts(&self, now: Nanos) -> Counts {
        let (rules, ticks) = self.published.rules_and_ticks();
        if rules.has_rate() { self.failures.counts(&ticks, self.word().era(), now) } else { Counts::default() }
    }

    /// Returns the share of failures in the window. Returns zero while the window has fewer calls than the minimum.
    pub(super) fn failure_ratio(&self, now: Nanos) -> f64 {
        let (rules, _) = self.published.rules_and_ticks();
        let counts = self.counts(now);
        if rules.failure_rate().has_enough_calls(counts) { counts.bad as f64 / counts.calls.max(1) as f64 } else { 0.0 }
    }

    /// Returns when an open circuit lets probes through.
    pub(super) fn half_open_at(&self) -> Option<Instant> {
        let open = self.word().state() == BreakerState::Open;
        open.then(|| self.origin.instant(Nanos(self.open_until.load(Ordering::Relaxed)))).flatten()
    }

    /// Opens the circuit because a probe failed, or because the probes brought neither success nor failure in time.
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

    /// Sets the state that this breaker shares with the others of its `PerKey`. Only the first call has an effect.
    pub(super) fn set_bound(&self, bound: &Arc<MostOpen>) {
        let _ = self.bound.set(bound.clone());
    }

    /// Takes a place within the bound on open breakers, if the breaker belongs to a `PerKey`. Returns `false` if there
    /// is a bound and all its places are taken.
    fn try_take_place(&self, machine: &mut Machine) -> bool {
        let Some(bound) = self.bound.get() else { return true };
        machine.place = bound.take();
        machine.place.is_some()
    }

    /// Returns whether nothing counts towards opening: no failure in a row, no failure in the window, and no slow call.
    /// A run of failures from before a change of the configuration still counts here, even if the present configuration
    /// counts none. Changes nothing.
    pub(super) fn is_clean(&self, now: Nanos) -> bool {
        let (era, run) = (self.word().era(), self.era_and_run.load(Ordering::Relaxed));
        let has_run = (run >> 32) as u32 == era && run as u32 > 0;
        !has_run && self.counts(now).bad == 0 && self.slow_counts(now).bad == 0
    }

    /// Enters this state by hand, or by `forced` in a configuration. Forgets the last open time.
    // Any => ForcedOpen | ForcedClosed | Closed
    pub(super) fn force(&self, state: CircuitState, delivery: Delivery) {
        let now = self.since_origin(Instant::now());
        self.with_machine(delivery, |machine| {
            machine.open_time = OpenTime::default();
            self.change(machine, state, now);
        });
    }

    /// Enters a state, begins a new era, and publishes both. If the state differs from the one before, counts the
    /// change and queues it for the listeners.
    fn change(&self, machine: &mut Machine, state: CircuitState, now: Nanos) {
        let from = machine.word().state();
        let bound = self.bound.get();
        let group_listeners = bound.map(|bound| bound.listeners()).filter(|listeners| !listeners.is_empty());
        let is_heard = group_listeners.is_some() || machine.transitions.has_listeners();
        let counted = is_heard.then(|| self.transition_with_counts(machine, now));
        machine.state = state;
        machine.era = machine.era.wrapping_add(1);
        self.publish(machine);
        if !matches!(state, CircuitState::Open | CircuitState::HalfOpen(_)) {
            // Returns the place only now, after the new state was published. A thread that takes this place then sees
            // that the circuit is no longer open.
            machine.place = None;
        }
        let to = machine.word().state();
        if from != to {
            let entered = &mut machine.times_entered[to.place()];
            *entered = entered.wrapping_add(1);
            bound.into_iter().for_each(|bound| bound.count(to));
        }
        if let Some(counted) = counted.filter(|_| from != to) {
            let transition = Transition { from, to, half_open_at: self.half_open_at(), ..counted };
            machine.transitions.add(transition, group_listeners);
        }
    }

    /// Returns a transition with the counts of the present era, which are zero unless the circuit is closed. `from` and
    /// `to` are both the present state; the caller sets `to` and `half_open_at`.
    fn transition_with_counts(&self, machine: &Machine, now: Nanos) -> Transition {
        let (from, run) = (machine.word().state(), self.era_and_run.load(Ordering::Relaxed));
        let counts_here = from == BreakerState::Closed;
        Transition {
            from,
            to: from,
            failures: if counts_here { self.counts(now) } else { Counts::default() },
            slow: if counts_here { self.slow_counts(now) } else { Counts::default() },
            failures_in_a_row: if (run >> 32) as u32 == machine.era { run as u32 } else { 0 },
            half_open_at: None,
            missed: 0,
        }
    }

    /// Runs `work` with the machine locked. If `when` is [`Delivery::Now`] and `work` has made a transition, then
    /// delivers the pending transitions, unless another thread is delivering them.
    fn with_machine<T>(&self, when: Delivery, work: impl FnOnce(&mut Machine) -> T) -> T {
        let mut machine = lock(&self.machine);
        let before = machine.transitions.added();
        let result = work(&mut machine);
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
    pub(super) fn times_entered(&self) -> [u64; BreakerState::ALL.len()] {
        lock(&self.machine).times_entered
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

    /// Returns whether `now` is at or after this instant.
    fn has_passed(&self, instant: &AtomicU64, now: Nanos) -> bool {
        now.0 >= instant.load(Ordering::Relaxed)
    }

    /// Returns the refusal of a call at `now` by an open circuit.
    fn circuit_open(&self, now: Nanos) -> CircuitOpen {
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
