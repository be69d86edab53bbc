//! Metrics of a breaker, and reports of its changes of state.

use super::{Breaker, BreakerState, Transition, transition::Listener};
use crate::shell::{Instrument, Reading, Readings, StateChange, StateListener};
use std::{fmt, sync::Weak};
use tokio::time::Instant;

/// Gives four kinds of readings. `circuit_state` is 1 for the present state and 0 for the others.
/// `circuit_transitions_total` counts how often each state was entered. `circuit_failure_ratio` is the share of
/// failures in the window, or 0 if no call counts. `circuit_half_open_in_seconds` is the time until an open circuit
/// lets probes through, or 0 in every other state.
impl Instrument for Breaker {
    fn read(&self, now: Instant, readings: &mut Readings<'_>) {
        let (present, entered) = (self.state(), self.times_entered());
        for state in BreakerState::ALL {
            let is_present = f64::from(u8::from(state == present));
            readings.add(Reading::sum("circuit_state", is_present).label("state", state.name()));
            let entered = entered[state.place()];
            readings.add(Reading::count("circuit_transitions_total", entered).label("to", state.name()));
        }
        let (calls, failures) = self.counts_at(now);
        let ratio = failures as f64 / calls.max(1) as f64;
        readings.add(Reading::largest("circuit_failure_ratio", ratio));
        let until = self.half_open_at().map_or(0.0, |at| at.saturating_duration_since(now).as_secs_f64());
        readings.add(Reading::largest("circuit_half_open_in_seconds", until));
    }

    fn listen(&self, listener: &Weak<StateListener>) {
        Breaker::listen(self, Listener::OfInstrument(listener.clone()));
    }

    fn address(&self) -> Option<usize> {
        Some(Breaker::address(self))
    }
}

impl Transition {
    /// Reports the transition to the listener of an instrument.
    pub(super) fn report_to(&self, listener: &StateListener) {
        let evidence = Evidence(self);
        let change = StateChange::new("circuit_breaker", self.from.name(), self.to.name(), &evidence);
        let change = change.after_missing(self.missed);
        listener(&if self.to == BreakerState::Open { change.trouble() } else { change });
    }
}

/// The reason for a change of state, in words.
struct Evidence<'transition>(&'transition Transition);

impl fmt::Display for Evidence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Transition { from, to, .. } = *self.0;
        match (from, to) {
            (_, BreakerState::ForcedOpen | BreakerState::ForcedClosed) => f.write_str("by hand"),
            (BreakerState::Closed, BreakerState::Open) => counted(self.0, f),
            (BreakerState::HalfOpen, BreakerState::Open) => f.write_str("the probes failed or did not answer"),
            (BreakerState::Open, BreakerState::HalfOpen) => f.write_str("the open time has passed"),
            (BreakerState::HalfOpen, BreakerState::Closed) => {
                f.write_str("enough probes succeeded, or the circuit was reset")
            }
            _ => f.write_str("by hand"),
        }
    }
}

/// Writes the counts that a closed circuit had when it opened, without those that are zero.
fn counted(transition: &Transition, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (calls, failures) = transition.counts();
    let (timed, slow) = transition.slow_counts();
    let mut separator = "";
    if failures > 0 {
        write!(f, "{failures} of {calls} calls failed")?;
        separator = ", ";
    }
    if transition.failures_in_a_row() > 0 {
        write!(f, "{separator}{} in a row", transition.failures_in_a_row())?;
        separator = ", ";
    }
    if slow > 0 {
        write!(f, "{separator}{slow} of {timed} calls were slow")?;
    }
    Ok(())
}
