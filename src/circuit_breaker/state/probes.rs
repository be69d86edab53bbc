//! Calls to a circuit that is not closed: refusals, and the probes of a half-open circuit.

use super::{BreakerShared, CircuitState, Delivery, Machine, Probes};
use crate::{
    circuit_breaker::{
        BreakerState,
        ticket::{Evidence, Ticket},
        word::Word,
    },
    clock::Nanos,
    error::CircuitOpen,
    sync::{Ordering, lock},
};
use tokio::time::Instant;

impl BreakerShared {
    /// Refuses a call, or admits it. The call is a probe, unless the circuit has closed after the call has read `word`.
    pub(in crate::circuit_breaker) fn admit_probe(&self, word: Word, now: Nanos) -> Result<Ticket, CircuitOpen> {
        // A refusal that changes no state takes no lock, unless another thread changes the state meanwhile. It
        // therefore costs the same on any number of threads.
        match word.state() {
            BreakerState::Open if !self.has_passed(&self.open_until, now) => return Err(self.circuit_open(now)),
            BreakerState::HalfOpen if word.places() == 0 && !self.has_passed(&self.probes_until, now) => {
                return Err(CircuitOpen::new(None));
            }
            _ => {}
        }

        self.with_machine(Delivery::Now, |machine| self.admit_probe_locked(machine, now))
    }

    fn admit_probe_locked(&self, machine: &mut Machine, now: Nanos) -> Result<Ticket, CircuitOpen> {
        match machine.state {
            CircuitState::Closed | CircuitState::ForcedClosed => {}
            CircuitState::ForcedOpen => return Err(CircuitOpen::new(None)),
            CircuitState::Open if !self.has_passed(&self.open_until, now) => return Err(self.circuit_open(now)),
            // Open => HalfOpen
            CircuitState::Open => {
                self.begin_series(machine, now);
                self.change(machine, CircuitState::HalfOpen(Probes::FIRST), now);
            }
            CircuitState::HalfOpen(probes) => {
                if !probes.series_goes_on(now) {
                    self.begin_series(machine, now);
                } else if self.has_passed(&self.probes_until, now) {
                    // HalfOpen => Open: a service that hangs is no better than one that fails.
                    self.reopen(machine, now);
                    return Err(self.circuit_open(now));
                }
                if probes.places(machine.config.probes) == 0 {
                    return Err(CircuitOpen::new(None));
                }
                // HalfOpen => HalfOpen
                self.stay_half_open(machine, Probes { in_flight: probes.in_flight + 1, ..probes });
            }
        }
        Ok(self.published.timed_ticket(machine.era, now))
    }

    pub(in crate::circuit_breaker) fn settle_probe(&self, ticket: &Ticket, evidence: Evidence, now: Nanos) {
        // A slow probe has failed, whatever its outcome is.
        let evidence = if ticket.is_slow(now) { Evidence::Failure } else { ticket.resolve(evidence, now) };
        self.with_machine(Delivery::Now, |machine| {
            if machine.era == ticket.era() {
                self.settle_probe_locked(machine, evidence, now);
            }
        });
    }

    fn settle_probe_locked(&self, machine: &mut Machine, evidence: Evidence, now: Nanos) {
        let CircuitState::HalfOpen(probes) = machine.state else { return };
        let probes = Probes { in_flight: probes.in_flight.saturating_sub(1), ..probes };
        match evidence {
            // HalfOpen => Open
            Evidence::Failure => self.reopen(machine, now),
            Evidence::Overloaded if machine.config.overload_is_failure => self.reopen(machine, now),
            // HalfOpen => Closed
            Evidence::Success | Evidence::Overloaded if probes.succeeded + 1 >= machine.config.probes => {
                self.close(machine, now);
            }
            // HalfOpen => HalfOpen
            Evidence::Success | Evidence::Overloaded => {
                self.begin_series(machine, now);
                let succeeded = probes.succeeded + 1;
                self.stay_half_open(machine, Probes { succeeded, lasts_until: Nanos::ZERO, ..probes });
            }
            Evidence::Cancelled | Evidence::Unanswered => {
                // The series lasts for at least half a probe timeout more. If a probe is abandoned in the second half
                // of the probe timeout, the series therefore lasts beyond the timeout. A call that arrives in between,
                // after the timeout and before the end of the series, opens the circuit. A probe that is abandoned in
                // the first half has no such effect.
                let half = Nanos(Nanos::of(machine.config.probe_timeout).0 / 2);
                let lasts_until = probes.lasts_until.max(now.saturating_add(half));
                self.stay_half_open(machine, Probes { lasts_until, ..probes });
            }
            Evidence::Nothing => self.stay_half_open(machine, probes),
        }
    }

    /// Opens the circuit because a probe in flight is slow.
    pub(super) fn fail_probe(&self, era: u32, now: Nanos) {
        self.with_machine(Delivery::Now, |machine| {
            if machine.era == era && matches!(machine.state, CircuitState::HalfOpen(_)) {
                // HalfOpen => Open
                self.reopen(machine, now);
            }
        });
    }

    /// Returns whether calls are refused now and none of them would change the state. Reads the clock only if the
    /// result depends on it.
    pub(in crate::circuit_breaker) fn is_shut(&self, now: impl FnOnce() -> Instant) -> bool {
        let word = self.word();
        match word.state() {
            BreakerState::Closed | BreakerState::ForcedClosed => false,
            BreakerState::ForcedOpen => true,
            BreakerState::Open => !self.has_passed(&self.open_until, self.since_origin(now())),
            BreakerState::HalfOpen => {
                word.places() == 0 && !self.has_passed(&self.probes_until, self.since_origin(now()))
            }
        }
    }

    /// Returns whether a call at `due` would be refused if no other call begins or ends before. Changes nothing.
    pub(in crate::circuit_breaker) fn would_refuse(&self, due: Nanos) -> bool {
        match self.word().state() {
            BreakerState::Closed | BreakerState::ForcedClosed => false,
            BreakerState::ForcedOpen => true,
            BreakerState::Open => !self.has_passed(&self.open_until, due),
            BreakerState::HalfOpen => {
                let machine = lock(&self.machine);
                let CircuitState::HalfOpen(probes) = machine.state else { return false };
                // A call that arrives after the probe timeout, while the series continues, opens the circuit again and
                // is refused.
                let is_overdue = probes.series_goes_on(due) && self.has_passed(&self.probes_until, due);
                is_overdue || probes.places(machine.config.probes) == 0
            }
        }
    }

    /// Begins the first series of probes of an era, or the next series: starts the probe timeout.
    fn begin_series(&self, machine: &Machine, now: Nanos) {
        let until = now.saturating_add(Nanos::of(machine.config.probe_timeout));
        self.probes_until.store(until.0, Ordering::Relaxed);
    }

    /// Continues the era with these probes.
    fn stay_half_open(&self, machine: &mut Machine, probes: Probes) {
        machine.state = CircuitState::HalfOpen(probes);
        self.publish(machine);
    }
}
