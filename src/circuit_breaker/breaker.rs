use super::{
    BreakerBuilder, BreakerState, MostOpen, Permit,
    state::{BreakerShared, CircuitState, Delivery},
    ticket::{Evidence, Ticket},
    transition::{Listener, Transition},
};
use crate::{
    error::{CircuitOpen, ConfigError},
    held::{Held, is_held},
};
use std::{fmt, sync::Arc};
use tokio::time::Instant;

/// A circuit breaker: stops calls to a service that fails, and uses a few probes to find out when the service works
/// again.
///
/// It is a cheap handle: all clones share one breaker. It can be read, forced, reset and
/// [reconfigured](Self::configure) while calls are in flight, and used without tower:
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
/// In a closed circuit, admission takes one load. If the duration of a call counts, admission also takes a few more
/// loads and one clock reading. Recording a result takes one compare-and-swap for a failure rate. If only consecutive
/// failures count, most successes take none. A success takes one if it ends a run of failures, or is the first result
/// of an era. In an open circuit, a refusal takes a few loads and one clock reading.
///
/// Probes and changes of state take a lock. Recording a call takes one only in rare cases, such as after a sixteenth of
/// the window has held more than 262,143 calls.
#[doc(alias("CircuitBreaker", "fuse", "failure accrual"))]
#[derive(Clone)]
pub struct Breaker {
    shared: Arc<BreakerShared>,
}

impl Breaker {
    /// Returns a builder.
    pub fn builder() -> BreakerBuilder {
        BreakerBuilder::default()
    }

    /// Returns a breaker with a configuration that was checked.
    pub(super) fn new(config: BreakerBuilder) -> Self {
        Self { shared: Arc::new(BreakerShared::new(config)) }
    }

    /// Lets one call through, by tokio's clock.
    ///
    /// # Errors
    ///
    /// [`CircuitOpen`] while the circuit is open, or half-open without a free place for a probe. The call that opens a
    /// half-open circuit again, after the [probe timeout](BreakerBuilder::probe_timeout), gets this error too.
    #[inline]
    pub fn try_acquire(&self) -> Result<Permit<'_>, CircuitOpen> {
        let ticket = self.admit(Instant::now)?;
        Ok(Permit { breaker: Held::Borrowed(self), ticket: Some(ticket) })
    }

    /// Lets one call through, by tokio's clock. The permit owns a clone of the breaker, so it can move to another task.
    ///
    /// ```
    /// use steadfast::circuit_breaker::Breaker;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let breaker = Breaker::builder().build()?;
    /// let permit = breaker.try_acquire_owned()?;
    /// let call = std::thread::spawn(move || permit.success());
    /// # call.join().unwrap();
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The error of [`try_acquire`](Self::try_acquire).
    ///
    /// # Cost
    ///
    /// That of `try_acquire`, and one clone of an `Arc`.
    pub fn try_acquire_owned(&self) -> Result<Permit<'static>, CircuitOpen> {
        let ticket = self.admit(Instant::now)?;
        Ok(Permit { breaker: Held::Owned(self.clone()), ticket: Some(ticket) })
    }

    /// Lets one call through at `now`.
    ///
    /// # Errors
    ///
    /// The error of [`try_acquire`](Self::try_acquire).
    #[inline]
    pub fn try_acquire_at(&self, now: Instant) -> Result<Permit<'_>, CircuitOpen> {
        let ticket = self.admit(|| now)?;
        Ok(Permit { breaker: Held::Borrowed(self), ticket: Some(ticket) })
    }

    /// Returns when an open circuit lets probes through. The instant may be in the past: the circuit stays open until
    /// the next call. `None` in every other state; a circuit that was opened by hand waits for a
    /// [`reset`](Self::reset).
    pub fn half_open_at(&self) -> Option<Instant> {
        self.shared.half_open_at()
    }

    /// Returns the free places for probes of a half-open circuit. Zero in every other state. Probes that hang keep
    /// their places until the first call after the probe timeout opens the circuit again.
    pub fn free_probes(&self) -> u32 {
        self.shared.word().places()
    }

    /// Returns the state. After its open time, a circuit still stays open until the next call.
    pub fn state(&self) -> BreakerState {
        self.shared.word().state()
    }

    /// Returns the calls that the failure rate counts at `now`, and the failures among them. Zero if there is no
    /// failure rate. Each change of state resets both to zero.
    pub fn counts_at(&self, now: Instant) -> (u64, u64) {
        let counts = self.shared.counts(self.shared.since_origin(now));
        (counts.calls, counts.bad)
    }

    /// Returns the calls that the [rate of slow calls](BreakerBuilder::slow_call_rate) counts at `now`, and the slow
    /// ones among them. Zero if no such rate is configured. Each change of state resets both to zero.
    pub fn slow_counts_at(&self, now: Instant) -> (u64, u64) {
        let counts = self.shared.slow_counts(self.shared.since_origin(now));
        (counts.calls, counts.bad)
    }

    /// Calls `listener` with each later change of state, once and in order. While a listener is too slow, changes can
    /// be [missed](Transition::missed).
    ///
    /// The listener runs without the breaker's lock, on the thread whose call changed the state, or on a thread that
    /// delivers an earlier transition. A listener should be short: send the transition to a channel, or count it. It
    /// may use the breaker. If a listener panics, no call fails. A breaker can have several listeners and keeps them as
    /// long as it lives. A listener that keeps a handle of the breaker keeps the breaker alive forever.
    ///
    /// A call can change the state while it passes the gates of its stack. After the open time, it makes the circuit
    /// half-open. After the probe timeout, it opens a half-open circuit again. A [live](crate::stack::live) stack
    /// refuses a configuration that the listener applies during such a transition. It accepts one during other
    /// transitions.
    ///
    /// ```
    /// use std::sync::mpsc::channel;
    /// use steadfast::circuit_breaker::{Breaker, BreakerState};
    ///
    /// # fn main() -> Result<(), steadfast::ConfigError> {
    /// let breaker = Breaker::builder().consecutive_failures(2).build()?;
    /// let (sender, transitions) = channel();
    /// breaker.on_transition(move |transition| {
    ///     // The receiver may be gone.
    ///     let _ = sender.send(*transition);
    /// });
    /// for _ in 0..2 {
    ///     breaker.try_acquire().unwrap().failure();
    /// }
    /// let transition = transitions.try_recv().unwrap();
    /// assert_eq!((transition.from(), transition.to()), (BreakerState::Closed, BreakerState::Open));
    /// assert_eq!(transition.failures_in_a_row(), 2);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cost
    ///
    /// None for a call that does not change the state.
    pub fn on_transition(&self, listener: impl Fn(&Transition) + Send + Sync + 'static) {
        self.shared.listen(Listener::Kept(Arc::new(listener)));
    }

    /// Opens the circuit until it is [`reset`](Self::reset). Calls in flight continue, and their results do not count.
    pub fn force_open(&self) {
        self.shared.force(CircuitState::ForcedOpen, Delivery::Now);
    }

    /// Closes the circuit until it is [`reset`](Self::reset). No result opens it.
    pub fn force_closed(&self) {
        self.shared.force(CircuitState::ForcedClosed, Delivery::Now);
    }

    /// Closes the circuit, and starts all counts at zero.
    pub fn reset(&self) {
        self.shared.force(CircuitState::Closed, Delivery::Now);
    }

    /// Replaces the whole configuration while calls pass. A new configuration alone never opens a circuit.
    ///
    /// - The state stays, except in the case of fewer probes below. Permits in flight stay valid: their results count
    ///   by the new configuration. An open circuit stays open until the instant that its refusals have stated, and the
    ///   present probes keep their probe timeout. New values of `open_for`, `max_open_for` and `probe_timeout` take
    ///   effect at the next opening or series of probes. A forced circuit stays forced.
    /// - The failures in a row and the calls in the window stay. If the calls in the window already reach a new rate,
    ///   the circuit opens at the next call that counts. If the failures in a row already reach a new limit, it opens
    ///   at the next failure, unless a success comes first. A limit that is added ignores earlier calls: failures in a
    ///   row start at zero, and the window of a new rate is empty.
    /// - If the window becomes shorter, it forgets the calls that are older than the new length, exact to a sixteenth
    ///   of the old length. After any change of the length, the calls that it keeps expire oldest first within the new
    ///   length. Some expire too early, so the rate counts somewhat fewer calls until one window has passed.
    /// - If a half-open circuit already has the successes that a lower number of probes requires, it closes at once.
    ///   Probes in flight beyond the number continue, and the circuit admits no others until there is room. A higher
    ///   number takes effect at once.
    /// - A call keeps the time of
    ///   [`cancelled_is_failure_after`](BreakerBuilder::cancelled_is_failure_after), and the threshold of
    ///   [slow calls](BreakerBuilder::slow_call_rate), that it was admitted with.
    ///
    /// A call with the configuration that is already in force takes one lock. It changes nothing, except that a
    /// [generator](BreakerBuilder::random) in `to` replaces the present one.
    ///
    /// ```
    /// use std::time::Duration;
    /// use steadfast::circuit_breaker::{Breaker, BreakerState};
    ///
    /// # fn main() -> Result<(), steadfast::ConfigError> {
    /// let breaker = Breaker::builder().consecutive_failures(5).build()?;
    /// breaker.try_acquire().unwrap().failure();
    ///
    /// let strict = breaker.configuration().consecutive_failures(2).open_for(Duration::from_secs(30));
    /// breaker.configure(strict.clone())?;
    /// assert_eq!(breaker.configuration(), strict);
    ///
    /// breaker.try_acquire().unwrap().failure();
    /// assert_eq!(breaker.state(), BreakerState::Open);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The errors of [`build`](BreakerBuilder::build); the old configuration then stays.
    pub fn configure(&self, to: BreakerBuilder) -> Result<(), ConfigError> {
        to.check()?;
        self.shared.reconfigure(to, Delivery::Now);
        Ok(())
    }

    /// Returns the configuration in force: that of [`build`](BreakerBuilder::build), or of the last
    /// [`configure`](Self::configure). Takes the lock.
    pub fn configuration(&self) -> BreakerBuilder {
        self.shared.configuration()
    }

    /// Replaces the configuration with a checked one. [`deliver_transitions`](Self::deliver_transitions) delivers the
    /// transition.
    pub(super) fn configure_quietly(&self, to: BreakerBuilder) {
        self.shared.reconfigure(to, Delivery::Later);
    }

    /// Forces or resets the state. [`deliver_transitions`](Self::deliver_transitions) delivers the transition.
    pub(super) fn force_quietly(&self, state: CircuitState) {
        self.shared.force(state, Delivery::Later);
    }

    /// Delivers the transitions of the quiet methods.
    pub(super) fn deliver_transitions(&self) {
        self.shared.deliver_pending();
    }

    /// Sets a bound on the number of open breakers. A closed circuit then opens only if the bound has a place, or by
    /// hand.
    pub(crate) fn set_bound(&self, bound: &Arc<MostOpen>) {
        self.shared.set_bound(bound);
    }

    /// Returns the share of failures in the window at `now`, if it contains enough calls to open the circuit. Otherwise
    /// zero.
    pub(crate) fn failure_ratio_at(&self, now: Instant) -> f64 {
        self.shared.failure_ratio(self.shared.since_origin(now))
    }

    /// Returns whether the circuit is closed, and no failure or slow call at `now` counts towards opening it.
    pub(crate) fn is_clean_at(&self, now: Instant) -> bool {
        self.state() == BreakerState::Closed && self.shared.is_clean(self.shared.since_origin(now))
    }

    /// Returns the address of the state that all handles share.
    pub(crate) fn address(&self) -> usize {
        crate::held::address(&self.shared)
    }

    /// Returns whether there is another handle.
    pub(crate) fn is_shared(&self) -> bool {
        is_held(&self.shared)
    }

    pub(super) fn listen(&self, listener: Listener) {
        self.shared.listen(listener);
    }

    /// Returns how often each state was entered, in the order of [`BreakerState::ALL`].
    pub(super) fn times_entered(&self) -> [u64; BreakerState::ALL.len()] {
        self.shared.times_entered()
    }

    /// Returns the number of the present era. Each change of state begins a new one.
    #[inline]
    pub(super) fn era(&self) -> u32 {
        self.shared.word().era()
    }

    /// Admits or refuses a call. Reads the clock only if the result or the ticket depends on it.
    #[inline]
    pub(super) fn admit(&self, now: impl FnOnce() -> Instant) -> Result<Ticket, CircuitOpen> {
        let shared = &*self.shared;
        let word = shared.word();
        match word.state() {
            BreakerState::Closed if word.calls_are_timed() => {
                Ok(shared.published.timed_ticket(word.era(), shared.since_origin(now())))
            }
            BreakerState::Closed | BreakerState::ForcedClosed => Ok(Ticket::untimed(word.era())),
            BreakerState::ForcedOpen => Err(CircuitOpen::new(None)),
            BreakerState::Open | BreakerState::HalfOpen => shared.admit_probe(word, shared.since_origin(now())),
        }
    }

    /// Records that a call is still in flight, and whether it has reached the service. If its threshold has passed,
    /// counts the call as slow; a slow probe opens the circuit. Otherwise returns when the threshold will pass. `None`
    /// if no threshold is ahead.
    #[inline]
    pub(super) fn under_way(
        &self,
        ticket: &mut Ticket,
        reached: bool,
        now: impl FnOnce() -> Instant,
    ) -> Option<Instant> {
        if ticket.is_timed() { self.shared.timed_under_way(ticket, reached, now) } else { None }
    }

    /// Returns whether a call at `due` would be refused if no other call begins or ends before. Changes nothing.
    pub(super) fn would_refuse_at(&self, due: Instant) -> bool {
        self.shared.would_refuse(self.shared.since_origin(due))
    }

    /// Returns whether calls are refused now and none of them would change the state. Reads the clock only if the
    /// result depends on it.
    pub(super) fn is_shut(&self, now: impl FnOnce() -> Instant) -> bool {
        self.shared.is_shut(now)
    }

    /// Records the end of a call. Reads the clock only if the end may be recorded: not for a call of an earlier era,
    /// for example.
    #[inline]
    pub(super) fn settle(&self, ticket: Ticket, evidence: Evidence, now: impl FnOnce() -> Instant) {
        let shared = &*self.shared;
        let word = shared.word();
        // The result of a call of an earlier era does not count.
        if word.era() != ticket.era() {
            return;
        }
        match word.state() {
            BreakerState::Closed if ticket.is_timed() => {
                shared.settle_timed(&ticket, evidence, shared.since_origin(now()))
            }
            BreakerState::Closed => shared.record(ticket.era(), evidence, || shared.since_origin(now())),
            BreakerState::HalfOpen => shared.settle_probe(&ticket, evidence, shared.since_origin(now())),
            _ => {}
        }
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker").field("state", &self.state()).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(steadfast_loom)))]
mod tests {
    use super::*;

    #[test]
    fn admission_to_a_closed_circuit_reads_the_clock_only_if_durations_count() {
        let second = std::time::Duration::from_secs(1);
        let reads = |builder: BreakerBuilder| {
            let (breaker, mut reads) = (builder.build().unwrap(), 0);
            let now = || {
                reads += 1;
                Instant::now()
            };
            breaker.admit(now).unwrap();
            reads
        };
        assert_eq!(reads(Breaker::builder()), 0);
        assert_eq!(reads(Breaker::builder().cancelled_is_failure_after(second)), 1);
        assert_eq!(reads(Breaker::builder().slow_call_rate(0.5, second)), 1);
    }
}
