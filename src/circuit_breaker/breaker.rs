use super::{
    BreakerBuilder, BreakerState, MostOpen, Permit,
    state::{BreakerShared, CircuitState, Tell},
    ticket::{Evidence, Ticket},
    transition::{Listener, Transition},
};
use crate::{
    error::{CircuitOpen, ConfigError},
    held::{Held, is_held},
};
use std::{fmt, sync::Arc};
use tokio::time::Instant;

/// Stops calls to a service that fails, and finds out by a few probes when it works again.
///
/// A handle: cheap to clone, and all clones are one breaker. It can be read, forced, reset and
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
/// Closed: one load to admit; one compare-and-swap to record a call into a failure rate, none to record a success where
/// only consecutive failures count. Open: one load and one reading of the clock to refuse. A lock is taken only to
/// change the state and for probes.
#[derive(Clone)]
pub struct Breaker {
    shared: Arc<BreakerShared>,
}

impl Breaker {
    /// A breaker to configure.
    pub fn builder() -> BreakerBuilder {
        BreakerBuilder::default()
    }

    /// A breaker by a configuration that was checked.
    pub(super) fn new(config: BreakerBuilder) -> Self {
        Self { shared: Arc::new(BreakerShared::new(config)) }
    }

    /// Lets one call through, by tokio's clock.
    ///
    /// # Errors
    ///
    /// [`CircuitOpen`] while the circuit is open, and while it is half-open and all probes are out.
    #[inline]
    pub fn try_acquire(&self) -> Result<Permit<'_>, CircuitOpen> {
        let ticket = self.admit(Instant::now)?;
        Ok(Permit { breaker: Held::Borrowed(self), ticket: Some(ticket) })
    }

    /// Lets one call through now, by tokio's clock, whose permit can go to another task: it owns a clone of the
    /// breaker.
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
    /// As [`try_acquire`](Self::try_acquire).
    ///
    /// # Cost
    ///
    /// One clone of an `Arc` more.
    pub fn try_acquire_owned(&self) -> Result<Permit<'static>, CircuitOpen> {
        let ticket = self.admit(Instant::now)?;
        Ok(Permit { breaker: Held::Owned(self.clone()), ticket: Some(ticket) })
    }

    /// Lets one call through at `now`.
    ///
    /// # Errors
    ///
    /// As [`try_acquire`](Self::try_acquire).
    #[inline]
    pub fn try_acquire_at(&self, now: Instant) -> Result<Permit<'_>, CircuitOpen> {
        let ticket = self.admit(|| now)?;
        Ok(Permit { breaker: Held::Borrowed(self), ticket: Some(ticket) })
    }

    /// When an open circuit lets probes through. The instant may be in the past: the circuit stays open until the next
    /// call. `None` in every other state; a circuit that was opened by hand waits for a [`reset`](Self::reset).
    pub fn half_open_at(&self) -> Option<Instant> {
        self.shared.half_open_at()
    }

    /// How many more probes a half-open circuit lets through now. Zero in every other state. Probes that hang keep
    /// their places until a call that asks after the probe timeout opens the circuit again.
    pub fn free_probes(&self) -> u32 {
        self.shared.look().places()
    }

    /// The state. An open circuit whose time is up stays open until a call asks.
    pub fn state(&self) -> BreakerState {
        self.shared.look().state()
    }

    /// The calls that the failure rate counts at `now`, and the failures among them. Zero where there is no failure
    /// rate. Each change of the state begins at zero.
    pub fn counts_at(&self, now: Instant) -> (u64, u64) {
        let counts = self.shared.counts(self.shared.time(now));
        (counts.calls, counts.bad)
    }

    /// The calls that the [rate of slow calls](BreakerBuilder::slow_call_rate) counts at `now`, and the slow ones among
    /// them. Zero where no such rate is configured. Each change of the state begins at zero.
    pub fn slow_counts_at(&self, now: Instant) -> (u64, u64) {
        let counts = self.shared.slow_counts(self.shared.time(now));
        (counts.calls, counts.bad)
    }

    /// Calls `listener` with each transition from one state to another, from now on, in order, each once.
    ///
    /// The listener runs after the lock of the breaker is released, on the thread whose call changed the state, or on a
    /// thread that delivers an earlier transition. So it should be short: send the transition to a channel, or count
    /// it. It may use the breaker. A panic in it harms no call. There may be several listeners; each stays as long as
    /// the breaker. A listener that keeps a handle of the breaker keeps it alive for ever.
    ///
    /// A call that finds an open circuit due makes it half-open on its way through the gates. A configuration that the
    /// listener applies to a [live](crate::stack::live) stack is refused then. In other transitions it is not.
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

    /// Opens the circuit until it is [`reset`](Self::reset). Calls in flight go on and count for nothing.
    pub fn force_open(&self) {
        self.shared.force(CircuitState::ForcedOpen, Tell::Now);
    }

    /// Closes the circuit until it is [`reset`](Self::reset). No result opens it.
    pub fn force_closed(&self) {
        self.shared.force(CircuitState::ForcedClosed, Tell::Now);
    }

    /// Closes the circuit, and counts from zero.
    pub fn reset(&self) {
        self.shared.force(CircuitState::Closed, Tell::Now);
    }

    /// Follows another configuration from now on, as a whole, while calls pass. A configuration is no reason to open or
    /// to close a circuit, or to forget results.
    ///
    /// - The state stays, and permits in flight stay valid: their results count by the new configuration. An open
    ///   circuit stays open until the instant that callers have learned, and a half-open one waits for its probes as
    ///   long as it would have; a new `open_for`, `max_open_for` and `probe_timeout` hold from the next time on. A
    ///   forced circuit stays forced.
    /// - The failures in a row and the calls in the window stay. Where they are already beyond a new threshold, the
    ///   circuit opens at the next call that counts, or at the next failure where failures in a row count. A threshold
    ///   that is added begins at zero: failures in a row, and the window of a rate.
    /// - If the window becomes shorter, it forgets older calls, to a sixteenth of the old length. The other calls slide
    ///   out oldest first within the new length. Some slide out too early, so the rate counts somewhat fewer calls
    ///   until one window has passed.
    /// - A half-open circuit whose successes suffice by a lower number of probes closes at once. Probes in flight
    ///   beyond the number go on, and no others are let through until there is room. More probes are let through at
    ///   once.
    /// - A call keeps the time of
    ///   [`cancelled_is_failure_after`](BreakerBuilder::cancelled_is_failure_after), and the threshold of
    ///   [slow calls](BreakerBuilder::slow_call_rate), that it was admitted with.
    ///
    /// The configuration in force changes nothing, costs one lock, and disturbs no call.
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
    /// As [`build`](BreakerBuilder::build); the old configuration stays.
    pub fn configure(&self, to: BreakerBuilder) -> Result<(), ConfigError> {
        to.check()?;
        self.shared.follow(to, Tell::Now);
        Ok(())
    }

    /// The configuration in force: that of [`build`](BreakerBuilder::build), or of the last
    /// [`configure`](Self::configure). Takes the lock.
    pub fn configuration(&self) -> BreakerBuilder {
        self.shared.configuration()
    }

    /// Follows another configuration that was checked. [`settle_news`](Self::settle_news) delivers the transition.
    pub(super) fn configure_quietly(&self, to: BreakerBuilder) {
        self.shared.follow(to, Tell::Later);
    }

    /// Forces or resets the state. [`settle_news`](Self::settle_news) delivers the transition.
    pub(super) fn force_quietly(&self, state: CircuitState) {
        self.shared.force(state, Tell::Later);
    }

    /// Delivers the transitions that were made quietly.
    pub(super) fn settle_news(&self) {
        self.shared.tell_pending();
    }

    /// Opens only where this bound has a place for it.
    pub(crate) fn be_bound(&self, bound: &Arc<MostOpen>) {
        self.shared.be_bound(bound);
    }

    /// The share of failures in the window at `now`, where it counts enough calls to open the circuit. Otherwise zero.
    pub(crate) fn failure_ratio_at(&self, now: Instant) -> f64 {
        self.shared.failure_ratio(self.shared.time(now))
    }

    /// Whether it is closed and remembers nothing at `now` that brings it nearer to being open.
    pub(crate) fn is_clean_at(&self, now: Instant) -> bool {
        self.state() == BreakerState::Closed && self.shared.is_clean(self.shared.time(now))
    }

    /// The address of what all its handles share.
    pub(crate) fn address(&self) -> usize {
        crate::held::address(&self.shared)
    }

    /// Whether there is another handle of it.
    pub(crate) fn is_shared(&self) -> bool {
        is_held(&self.shared)
    }

    pub(super) fn listen(&self, listener: Listener) {
        self.shared.listen(listener);
    }

    /// How often each state was entered, in the order of [`BreakerState::ALL`].
    pub(super) fn entered(&self) -> [u64; BreakerState::ALL.len()] {
        self.shared.entered()
    }

    /// The number of the present era. Each transition begins a new one.
    #[inline]
    pub(super) fn era(&self) -> u32 {
        self.shared.look().era()
    }

    /// Admits a call. Reads the clock only where the answer depends on it.
    #[inline]
    pub(super) fn admit(&self, now: impl FnOnce() -> Instant) -> Result<Ticket, CircuitOpen> {
        let shared = &*self.shared;
        let word = shared.look();
        match word.state() {
            BreakerState::Closed if word.calls_are_timed() => {
                Ok(shared.published.timed_ticket(word.era(), shared.time(now())))
            }
            BreakerState::Closed | BreakerState::ForcedClosed => Ok(Ticket::untimed(word.era())),
            BreakerState::ForcedOpen => Err(CircuitOpen::new(None)),
            BreakerState::Open | BreakerState::HalfOpen => shared.admit_probe(word, shared.time(now())),
        }
    }

    /// Learns that a call is still under way, and whether it has reached the service. Counts it at once if it is slow
    /// by now, or returns when it will be.
    #[inline]
    pub(super) fn under_way(
        &self,
        ticket: &mut Ticket,
        reached: bool,
        now: impl FnOnce() -> Instant,
    ) -> Option<Instant> {
        if ticket.is_timed() { self.shared.timed_under_way(ticket, reached, now) } else { None }
    }

    /// Whether a call at `due` would be refused, if no other call begins or ends before. Changes nothing.
    pub(super) fn would_refuse_at(&self, due: Instant) -> bool {
        self.shared.would_refuse(self.shared.time(due))
    }

    /// Whether calls are refused now, and none of them would change that. Reads the clock only where it matters.
    pub(super) fn is_shut(&self, now: impl FnOnce() -> Instant) -> bool {
        self.shared.is_shut(now)
    }

    /// Learns how a call ended. Reads the clock only where something is recorded.
    #[inline]
    pub(super) fn settle(&self, ticket: Ticket, evidence: Evidence, now: impl FnOnce() -> Instant) {
        let shared = &*self.shared;
        let word = shared.look();
        // Evidence about an earlier era says nothing about this one.
        if word.era() != ticket.era() {
            return;
        }
        match word.state() {
            BreakerState::Closed if ticket.is_timed() => shared.settle_timed(&ticket, evidence, shared.time(now())),
            BreakerState::Closed => shared.record(ticket.era(), evidence, || shared.time(now())),
            BreakerState::HalfOpen => shared.settle_probe(&ticket, evidence, shared.time(now())),
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
    fn a_closed_circuit_reads_the_clock_for_an_admission_only_where_the_time_of_a_call_says_something() {
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
