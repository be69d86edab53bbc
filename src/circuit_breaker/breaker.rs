use super::window::Window;
use crate::{
    clock::{Origin, nanos},
    error::{CircuitOpen, ConfigError, check_duration},
    sync::{AtomicU64, Mutex, Ordering, lock},
};
use std::{fmt, sync::Arc, time::Duration};
use tokio::time::Instant;

/// Stops calling a service that fails, and finds out by a few probes when it works again.
///
/// A handle: cheap to clone, all clones are one breaker. It can be read, forced and reset while calls are in flight,
/// and asked without tower:
///
/// ```
/// use std::time::Duration;
/// use steadfast::circuit_breaker::{Breaker, BreakerState};
///
/// # fn main() -> Result<(), steadfast::ConfigError> {
/// let breaker = Breaker::builder().consecutive_failures(2).build()?;
/// for _ in 0..2 {
///     breaker.try_acquire().unwrap().failure();
/// }
/// assert_eq!(breaker.state(), BreakerState::Open);
/// assert!(breaker.try_acquire().is_err());
/// # Ok(())
/// # }
/// ```
///
/// # Cost
///
/// Closed: one load to admit; one compare-and-swap to record a call into a failure rate, none to record a success
/// where only consecutive failures count. Open: one load and one reading of the clock to refuse. A lock is taken only to
/// change the state and for probes.
#[derive(Clone)]
pub struct Breaker {
    shared: Arc<Shared>,
}

struct Shared {
    config: BreakerBuilder,
    /// A copy of what `machine` says, for those who only look: written with the machine locked, and with release, so that
    /// whoever reads it (with acquire) also sees the instants below that were written before it.
    word: AtomicU64,
    /// When an open circuit lets probes through, in nanoseconds since the origin. Whoever reads an older `word` with it
    /// finds the instant of a later opening, never one of another meaning.
    open_until: AtomicU64,
    /// When a half-open circuit gives up on its probes.
    probes_until: AtomicU64,
    /// The era in the upper half, failures in a row in the lower one. Relaxed: each change is one atomic step.
    in_a_row: AtomicU64,
    window: Option<Window>,
    machine: Mutex<Machine>,
    origin: Origin,
}

struct Machine {
    state: State,
    /// Counts the changes of state. Every permit carries the era that admitted it, and counts for no other.
    era: u32,
}

/// The states, with what only their own era needs.
#[derive(Clone, Copy, Debug)]
enum State {
    /// All calls pass, and their results are counted.
    Closed,
    /// No call passes until `open_until`; the first after it makes the circuit half-open.
    Open,
    /// At most `probes` calls pass: `in_flight + succeeded <= probes`. As many successes close the circuit; one failure
    /// opens it, and so does a series of probes that brings none of both until `probes_until`. `unanswered`: one of this
    /// series reached the service and was dropped before its answer. A success ends a series.
    HalfOpen { in_flight: u32, succeeded: u32, unanswered: bool },
    /// Opened by hand: no call passes until it is reset.
    ForcedOpen,
    /// Closed by hand: all calls pass and nothing is counted until it is reset.
    ForcedClosed,
}

/// The state of a [`Breaker`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BreakerState {
    /// All calls pass.
    Closed,
    /// No calls pass. The first call after the open time finds it half-open.
    Open,
    /// A limited number of calls pass, as probes.
    HalfOpen,
    /// Opened by hand.
    ForcedOpen,
    /// Closed by hand.
    ForcedClosed,
}

/// What became of a call, to a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evidence {
    Success,
    Failure,
    /// The caller gave up before the service answered. A probe gives its place to another call.
    Unanswered,
    /// It says nothing about the service: the call did not get there. A probe gives its place to another call.
    Nothing,
}

/// Admits one call. Plain data: it has to be settled by the stage that holds it.
#[derive(Debug)]
pub struct Ticket {
    era: u32,
    /// When the call was admitted, where the breaker needs to know.
    admitted: Option<Instant>,
}

/// A call that a breaker has let through. Dropped without a verdict it counts as cancelled.
#[derive(Debug)]
#[must_use = "a permit that is dropped at once tells the breaker nothing"]
pub struct Permit<'breaker> {
    breaker: &'breaker Breaker,
    ticket: Option<Ticket>,
}

/// The word that those read who only look.
#[derive(Clone, Copy)]
struct Word(u64);

impl Word {
    const STATE_SHIFT: u32 = 29;
    const PLACES_MASK: u64 = (1 << Self::STATE_SHIFT) - 1;

    /// The era, the state, and the free places for probes.
    fn pack(era: u32, state: BreakerState, places: u32) -> Self {
        Self(u64::from(era) << 32 | (state as u64) << Self::STATE_SHIFT | u64::from(places) & Self::PLACES_MASK)
    }

    #[inline]
    fn era(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[inline]
    fn state(self) -> BreakerState {
        match self.0 >> Self::STATE_SHIFT & 0b111 {
            0 => BreakerState::Closed,
            1 => BreakerState::Open,
            2 => BreakerState::HalfOpen,
            3 => BreakerState::ForcedOpen,
            _ => BreakerState::ForcedClosed,
        }
    }

    fn has_place(self) -> bool {
        self.0 & Self::PLACES_MASK > 0
    }
}

impl Breaker {
    /// A breaker to configure.
    pub fn builder() -> BreakerBuilder {
        BreakerBuilder::default()
    }

    /// Lets one call through, by tokio's clock.
    ///
    /// # Errors
    ///
    /// [`CircuitOpen`] while the circuit is open, and while it is half-open and all probes are out.
    pub fn try_acquire(&self) -> Result<Permit<'_>, CircuitOpen> {
        let ticket = self.admit(Instant::now)?;
        Ok(Permit { breaker: self, ticket: Some(ticket) })
    }

    /// Lets one call through at `now`.
    ///
    /// # Errors
    ///
    /// As [`try_acquire`](Self::try_acquire).
    #[inline]
    pub fn try_acquire_at(&self, now: Instant) -> Result<Permit<'_>, CircuitOpen> {
        let ticket = self.admit(|| now)?;
        Ok(Permit { breaker: self, ticket: Some(ticket) })
    }

    /// The state. An open circuit whose time is up stays open until a call asks.
    pub fn state(&self) -> BreakerState {
        self.shared.look().state()
    }

    /// The calls and the failures among them that the failure rate is taken from at `now`: zero where none is configured,
    /// and after each change of the state, which begins to count anew.
    pub fn counts_at(&self, now: Instant) -> (u64, u64) {
        let counts = self.shared.window.as_ref().map(|window| window.counts(self.shared.look().era(), now));
        counts.map_or((0, 0), |counts| (counts.calls, counts.failures))
    }

    /// Opens the circuit until it is [`reset`](Self::reset). Calls in flight go on and count for nothing.
    pub fn force_open(&self) {
        self.shared.change(&mut lock(&self.shared.machine), State::ForcedOpen);
    }

    /// Closes the circuit until it is [`reset`](Self::reset), whatever the results.
    pub fn force_closed(&self) {
        self.shared.change(&mut lock(&self.shared.machine), State::ForcedClosed);
    }

    /// Closes the circuit and begins to count anew.
    pub fn reset(&self) {
        self.shared.change(&mut lock(&self.shared.machine), State::Closed);
    }

    /// Admits a call. Reads the clock only where the answer depends on it.
    #[inline]
    pub(super) fn admit(&self, now: impl FnOnce() -> Instant) -> Result<Ticket, CircuitOpen> {
        let shared = &*self.shared;
        let word = shared.look();
        match word.state() {
            BreakerState::Closed => {
                Ok(Ticket { era: word.era(), admitted: shared.config.cancelled_after.map(|_| now()) })
            }
            BreakerState::ForcedClosed => Ok(Ticket { era: word.era(), admitted: None }),
            BreakerState::ForcedOpen => Err(CircuitOpen::new(None)),
            BreakerState::Open | BreakerState::HalfOpen => shared.admit_probe(word, now()),
        }
    }

    /// Learns what became of a call. Reads the clock only where something is recorded.
    #[inline]
    pub(super) fn settle(&self, ticket: &Ticket, evidence: Evidence, now: impl FnOnce() -> Instant) {
        let shared = &*self.shared;
        let word = shared.look();
        // Evidence about an earlier era says nothing about this one.
        if word.era() != ticket.era {
            return;
        }
        match (word.state(), evidence) {
            (BreakerState::Closed, Evidence::Success) => shared.record_success(ticket.era, now),
            (BreakerState::Closed, Evidence::Failure) => shared.record_failure(ticket.era, now()),
            (BreakerState::HalfOpen, evidence) => shared.settle_probe(ticket.era, evidence, now()),
            _ => {}
        }
    }

    /// What a cancelled call says: a failure if it had been in flight for so long that it counts as one.
    #[inline]
    pub(super) fn evidence_of_cancelled(&self, ticket: &Ticket, now: impl FnOnce() -> Instant) -> Evidence {
        match (ticket.admitted, self.shared.config.cancelled_after) {
            (Some(admitted), Some(after)) if now().saturating_duration_since(admitted) >= after => Evidence::Failure,
            _ => Evidence::Unanswered,
        }
    }

    pub(super) fn config(&self) -> &BreakerBuilder {
        &self.shared.config
    }
}

impl Shared {
    #[inline]
    fn look(&self) -> Word {
        Word(self.word.load(Ordering::Acquire))
    }

    /// Not closed: refuse, or let a probe through. `word` is what was seen.
    fn admit_probe(&self, word: Word, now: Instant) -> Result<Ticket, CircuitOpen> {
        // Without the lock while nothing can have changed, so that refusing costs the same on any number of threads.
        match word.state() {
            BreakerState::Open if !self.has_come(&self.open_until, now) => return Err(self.open_until(now)),
            BreakerState::HalfOpen if !word.has_place() && !self.has_come(&self.probes_until, now) => {
                return Err(CircuitOpen::new(None));
            }
            _ => {}
        }

        let mut machine = lock(&self.machine);
        let ticket = |machine: &Machine| Ok(Ticket { era: machine.era, admitted: Some(now) });
        match machine.state {
            State::Closed | State::ForcedClosed => ticket(&machine),
            State::ForcedOpen => Err(CircuitOpen::new(None)),
            State::Open if !self.has_come(&self.open_until, now) => Err(self.open_until(now)),
            State::Open => {
                self.set(&self.probes_until, now, self.config.probe_timeout);
                self.change(&mut machine, State::HalfOpen { in_flight: 1, succeeded: 0, unanswered: false });
                ticket(&machine)
            }
            State::HalfOpen { in_flight, succeeded, unanswered } => {
                if in_flight == 0 && !unanswered {
                    // The first probe of a series.
                    self.set(&self.probes_until, now, self.config.probe_timeout);
                } else if self.has_come(&self.probes_until, now) {
                    // A service that hangs is no better than one that fails.
                    self.open(&mut machine, now);
                    return Err(self.open_until(now));
                }
                if in_flight + succeeded >= self.config.probes {
                    return Err(CircuitOpen::new(None));
                }
                machine.state = State::HalfOpen { in_flight: in_flight + 1, succeeded, unanswered };
                self.publish(&machine);
                ticket(&machine)
            }
        }
    }

    fn settle_probe(&self, era: u32, evidence: Evidence, now: Instant) {
        let mut machine = lock(&self.machine);
        if machine.era != era {
            return;
        }
        let State::HalfOpen { in_flight, succeeded, unanswered } = machine.state else { return };
        let in_flight = in_flight.saturating_sub(1);
        match evidence {
            Evidence::Failure => self.open(&mut machine, now),
            Evidence::Success if succeeded + 1 >= self.config.probes => self.change(&mut machine, State::Closed),
            Evidence::Success => {
                self.set(&self.probes_until, now, self.config.probe_timeout);
                machine.state = State::HalfOpen { in_flight, succeeded: succeeded + 1, unanswered: false };
                self.publish(&machine);
            }
            Evidence::Unanswered | Evidence::Nothing => {
                let unanswered = unanswered || evidence == Evidence::Unanswered;
                machine.state = State::HalfOpen { in_flight, succeeded, unanswered };
                self.publish(&machine);
            }
        }
    }

    #[inline]
    fn record_success(&self, era: u32, now: impl FnOnce() -> Instant) {
        if self.config.consecutive_failures.is_some() {
            self.count_in_a_row(era, |_| 0);
        }
        if let Some(window) = &self.window {
            window.record(era, false, now());
        }
    }

    fn record_failure(&self, era: u32, now: Instant) {
        let mut tripped = false;
        if let Some(most) = self.config.consecutive_failures {
            tripped = self.count_in_a_row(era, |failures| failures.saturating_add(1)) >= most;
        }
        if let Some(window) = &self.window {
            window.record(era, true, now);
            let counts = window.counts(era, now);
            tripped |= counts.calls >= u64::from(self.config.minimum_calls)
                && counts.failures * PARTS >= counts.calls * u64::from(self.config.failure_parts);
        }
        if tripped {
            let mut machine = lock(&self.machine);
            if machine.era == era && matches!(machine.state, State::Closed) {
                self.open(&mut machine, now);
            }
        }
    }

    /// Changes the failures in a row of this era, unless a later one has begun to count. Returns the count.
    #[inline]
    fn count_in_a_row(&self, era: u32, change: impl Fn(u32) -> u32) -> u32 {
        let mut word = self.in_a_row.load(Ordering::Relaxed);
        loop {
            let counted = (word >> 32) as u32;
            // Eras wrap around: the later of two is the one that is ahead by less than half of them.
            if counted != era && counted.wrapping_sub(era) < u32::MAX / 2 {
                return 0;
            }
            let failures = change(if counted == era { word as u32 } else { 0 });
            let after = u64::from(era) << 32 | u64::from(failures);
            if after == word {
                return failures;
            }
            match self.in_a_row.compare_exchange_weak(word, after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return failures,
                Err(newer) => word = newer,
            }
        }
    }

    fn open(&self, machine: &mut Machine, now: Instant) {
        self.set(&self.open_until, now, self.config.open_for);
        self.change(machine, State::Open);
    }

    /// Begins a new era.
    fn change(&self, machine: &mut Machine, state: State) {
        machine.state = state;
        machine.era = machine.era.wrapping_add(1);
        self.publish(machine);
    }

    fn publish(&self, machine: &Machine) {
        let (state, places) = match machine.state {
            State::Closed => (BreakerState::Closed, 0),
            State::Open => (BreakerState::Open, 0),
            State::HalfOpen { in_flight, succeeded, .. } => {
                (BreakerState::HalfOpen, self.config.probes.saturating_sub(in_flight + succeeded))
            }
            State::ForcedOpen => (BreakerState::ForcedOpen, 0),
            State::ForcedClosed => (BreakerState::ForcedClosed, 0),
        };
        self.word.store(Word::pack(machine.era, state, places).0, Ordering::Release);
    }

    /// Sets an instant, with the machine locked and before the word is published.
    fn set(&self, instant: &AtomicU64, now: Instant, after: Duration) {
        instant.store(self.origin.nanos_to(now).saturating_add(nanos(after)), Ordering::Relaxed);
    }

    fn has_come(&self, instant: &AtomicU64, now: Instant) -> bool {
        self.origin.nanos_to(now) >= instant.load(Ordering::Relaxed)
    }

    fn open_until(&self, now: Instant) -> CircuitOpen {
        let left = self.open_until.load(Ordering::Relaxed).saturating_sub(self.origin.nanos_to(now));
        CircuitOpen::new(Some(Duration::from_nanos(left)))
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker").field("state", &self.state()).finish_non_exhaustive()
    }
}

impl Permit<'_> {
    /// The call succeeded, by tokio's clock.
    pub fn success(self) {
        self.settle(Evidence::Success, Instant::now);
    }

    /// The call failed, by tokio's clock.
    pub fn failure(self) {
        self.settle(Evidence::Failure, Instant::now);
    }

    /// The call succeeded at `now`.
    #[inline]
    pub fn success_at(self, now: Instant) {
        self.settle(Evidence::Success, || now);
    }

    /// The call failed at `now`.
    pub fn failure_at(self, now: Instant) {
        self.settle(Evidence::Failure, || now);
    }

    #[inline]
    fn settle(mut self, evidence: Evidence, now: impl FnOnce() -> Instant) {
        if let Some(ticket) = self.ticket.take() {
            self.breaker.settle(&ticket, evidence, now);
        }
    }
}

impl Drop for Permit<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            let evidence = if std::thread::panicking() {
                Evidence::Failure
            } else {
                self.breaker.evidence_of_cancelled(&ticket, Instant::now)
            };
            self.breaker.settle(&ticket, evidence, Instant::now);
        }
    }
}

/// A failure rate is kept in parts of this, so that no decision is made in floating point.
const PARTS: u64 = 1_000_000;

/// Configures a [`Breaker`].
#[derive(Clone, Debug)]
#[must_use]
pub struct BreakerBuilder {
    pub(super) consecutive_failures: Option<u32>,
    pub(super) failure_rate: Option<(f64, Duration)>,
    failure_parts: u32,
    pub(super) minimum_calls: u32,
    pub(super) open_for: Duration,
    pub(super) probes: u32,
    probe_timeout: Duration,
    cancelled_after: Option<Duration>,
    pub(super) overload_is_failure: bool,
}

impl Default for BreakerBuilder {
    fn default() -> Self {
        Self {
            consecutive_failures: None,
            failure_rate: None,
            failure_parts: 0,
            minimum_calls: 20,
            open_for: Duration::from_secs(5),
            probes: 3,
            probe_timeout: Duration::from_secs(30),
            cancelled_after: None,
            overload_is_failure: false,
        }
    }
}

impl BreakerBuilder {
    /// Opens after this many failures in a row. May be combined with a failure rate: the first to be reached opens.
    pub fn consecutive_failures(self, failures: u32) -> Self {
        Self { consecutive_failures: Some(failures), ..self }
    }

    /// Opens when this share of the calls of the last `window` failed: 0.5 is one half. Exact to 1 in a million; the
    /// window slides in sixteenths.
    ///
    /// Default, where neither this nor [`consecutive_failures`](Self::consecutive_failures) is set: one half over ten
    /// seconds.
    pub fn failure_rate(self, rate: f64, window: Duration) -> Self {
        Self { failure_rate: Some((rate, window)), ..self }
    }

    /// The fewest calls in the window for the failure rate to count. Default 20: the rate of fewer is chance.
    pub fn minimum_calls(self, calls: u32) -> Self {
        Self { minimum_calls: calls, ..self }
    }

    /// How long the circuit stays open before it lets probes through. Default 5 s.
    pub fn open_for(self, duration: Duration) -> Self {
        Self { open_for: duration, ..self }
    }

    /// How many calls a half-open circuit lets through, and must see succeed, to close. Default 3.
    pub fn probes(self, probes: u32) -> Self {
        Self { probes, ..self }
    }

    /// After how long without a success or a failure the probes are given up and the circuit opens again, when the next
    /// call asks. It counts from the first probe, and anew from each success. Default 30 s; a timeout inside the breaker
    /// ends a probe earlier.
    pub fn probe_timeout(self, duration: Duration) -> Self {
        Self { probe_timeout: duration, ..self }
    }

    /// Takes a call that reached the service and was dropped by its caller after at least this long for a failure. Default: a dropped call says
    /// nothing, however long it took. Costs a reading of the clock per call.
    pub fn cancelled_is_failure_after(self, duration: Duration) -> Self {
        Self { cancelled_after: Some(duration), ..self }
    }

    /// Takes [`Outcome::Overloaded`](crate::Outcome::Overloaded) for a failure.
    ///
    /// Default: no. A service that refuses some calls works at its capacity; not calling it at all turns an overload
    /// into an outage.
    pub fn overload_is_failure(self, is_failure: bool) -> Self {
        Self { overload_is_failure: is_failure, ..self }
    }

    /// The breaker, closed.
    ///
    /// # Errors
    ///
    /// The rate must be above 0 and at most 1, the window at least a microsecond; failures in a row, minimum calls and
    /// probes at least 1 and at most a million; durations longer than zero and at most 366 days.
    pub fn build(mut self) -> Result<Breaker, ConfigError> {
        if self.consecutive_failures.is_none() && self.failure_rate.is_none() {
            self.failure_rate = Some((0.5, Duration::from_secs(10)));
        }
        if let Some(failures) = self.consecutive_failures {
            check_count("circuit_breaker.consecutive_failures", failures)?;
        }
        check_count("circuit_breaker.minimum_calls", self.minimum_calls)?;
        check_count("circuit_breaker.probes", self.probes)?;
        check_duration("circuit_breaker.open_for", self.open_for)?;
        check_duration("circuit_breaker.probe_timeout", self.probe_timeout)?;
        if let Some(duration) = self.cancelled_after {
            check_duration("circuit_breaker.cancelled_is_failure_after", duration)?;
        }
        let origin = Origin::at(Instant::now());
        let mut window = None;
        if let Some((rate, length)) = self.failure_rate {
            check_duration("circuit_breaker.failure_rate.window", length)?;
            if length < Duration::from_micros(1) {
                let rule = "must be at least a microsecond";
                return Err(ConfigError::new("circuit_breaker.failure_rate.window", length, rule));
            }
            if !(rate > 0.0 && rate <= 1.0) {
                let rule = "must be a number above 0 and at most 1";
                return Err(ConfigError::new("circuit_breaker.failure_rate.rate", rate, rule));
            }
            self.failure_parts = ((rate * PARTS as f64).round() as u32).max(1);
            window = Some(Window::new(length, origin));
        }
        let machine = Machine { state: State::Closed, era: 0 };
        Ok(Breaker {
            shared: Arc::new(Shared {
                config: self,
                word: AtomicU64::new(Word::pack(machine.era, BreakerState::Closed, 0).0),
                open_until: AtomicU64::new(0),
                probes_until: AtomicU64::new(0),
                in_a_row: AtomicU64::new(0),
                window,
                machine: Mutex::new(machine),
                origin,
            }),
        })
    }
}

impl fmt::Display for BreakerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("opens at ")?;
        if let Some(failures) = self.consecutive_failures {
            write!(f, "{failures} failures in a row")?;
        }
        if let Some((_, window)) = self.failure_rate {
            let or = if self.consecutive_failures.is_some() { " or at " } else { "" };
            let (percent, minimum) = (f64::from(self.failure_parts) / 1e4, self.minimum_calls);
            write!(f, "{or}{percent}% failures of at least {minimum} calls in {window:?}")?;
        }
        write!(f, ", for {:?}, then {} probes", self.open_for, self.probes)
    }
}

fn check_count(field: &'static str, count: u32) -> Result<(), ConfigError> {
    if !(1..=1_000_000).contains(&count) {
        return Err(ConfigError::new(field, count, "must be from 1 to 1000000"));
    }
    Ok(())
}
