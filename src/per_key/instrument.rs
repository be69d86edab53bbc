//! The readings of all keys.

use super::{
    handle::PerKey,
    keys::Keys,
    mechanism::{Mechanism, Tally},
};
use crate::{
    circuit_breaker::{Breaker, BreakerState},
    held::address,
    load_shed::Limiter,
    retry::RetryBudget,
    shell::{Instrument, Reading, Readings, StateListener},
};
use std::sync::{Arc, Weak};
use tokio::time::Instant;

/// The instrument of all keys, without the type of the key function.
pub(super) struct PerKeyInstrument<T: Mechanism, K>(pub(super) Arc<Keys<T, K>>);

impl<T: Mechanism, K: Send + Sync + 'static> Instrument for PerKeyInstrument<T, K> {
    fn read(&self, now: Instant, readings: &mut Readings<'_>) {
        self.0.read(now, readings);
    }

    fn listen(&self, listener: &Weak<StateListener>) {
        self.0.most_open().listen(listener);
    }

    fn address(&self) -> Option<usize> {
        Some(address(&self.0))
    }
}

/// Gives readings of all keys together, or of [labeled keys](PerKey::label_keys). A reading does not count as a use.
///
/// | of | readings |
/// |---|---|
/// | all | `keys`, and `keys_overflow_total`: how often a key used the overflow mechanism |
/// | [`Breaker`]s | `circuit_state`: the number of circuits in each state |
/// | | `circuit_transitions_total` of all keys, including forgotten ones |
/// | | `circuit_failure_ratio`: the largest among the breakers that count enough calls to open |
/// | | `circuit_half_open_in_seconds`: the longest time until an open circuit lets probes through |
/// | [`Limiter`]s | `in_flight` and `in_flight_limit`: the sums |
/// | | `shadow_rejections_total` of all keys, including forgotten ones |
/// | [`RetryBudget`]s | `retry_budget_balance`: the sum |
///
/// The overflow mechanism is included once a key has used it. A listener gets the transitions of all breakers,
/// including later ones.
///
/// # Cost
///
/// A reading visits each mechanism, one shard of the table after the other. A call with a new key may wait until the
/// reading has left the shard of that key: a 64th of the keys.
impl<T, K, F> Instrument for PerKey<T, K, F>
where
    T: Mechanism,
    K: Send + Sync + 'static,
    F: Send + Sync + 'static,
{
    fn read(&self, now: Instant, readings: &mut Readings<'_>) {
        self.keys.read(now, readings);
    }

    fn listen(&self, listener: &Weak<StateListener>) {
        self.keys.most_open().listen(listener);
    }

    fn address(&self) -> Option<usize> {
        Some(address(&self.keys))
    }
}

impl<T: Mechanism, K> Keys<T, K> {
    fn read(&self, now: Instant, readings: &mut Readings<'_>) {
        let of_keys = |reading: Reading| reading.label("mechanism", T::NAME);
        readings.add(of_keys(Reading::sum("keys", self.len() as f64)));
        readings.add(of_keys(Reading::count("keys_overflow_total", self.overflowed())));

        let (labels, mut in_shadow) = (self.labels(), self.forgotten_in_shadow());
        let mut tallies: Vec<_> = labels.all().into_iter().map(|label| (label, T::Tally::default())).collect();
        self.look_at_all(|hash, handle| {
            in_shadow = in_shadow.wrapping_add(handle.in_shadow());
            if let Some((_, tally)) = tallies.get_mut(labels.place(hash)) {
                handle.add_to(tally, now);
            }
        });
        for (label, tally) in tallies {
            tally.give(&mut |reading| {
                readings.add(match label {
                    Some(label) => reading.label("key", label),
                    None => reading,
                });
            });
        }
        T::give_counts(self.most_open(), self.all_in_shadow(in_shadow), readings);
    }
}

/// The circuits of several keys.
#[derive(Default)]
pub struct Circuits {
    /// The number of circuits in each state, in the order of [`BreakerState::ALL`].
    in_state: [usize; BreakerState::ALL.len()],
    /// The largest of the failure ratios.
    failure_ratio: f64,
    /// The longest time until an open circuit lets probes through, in seconds.
    half_open_in: f64,
}

impl Circuits {
    pub(super) fn add(&mut self, breaker: &Breaker, now: Instant) {
        self.in_state[breaker.state().place()] += 1;
        self.failure_ratio = self.failure_ratio.max(breaker.failure_ratio_at(now));
        let until = breaker.half_open_at().map_or(0.0, |at| at.saturating_duration_since(now).as_secs_f64());
        self.half_open_in = self.half_open_in.max(until);
    }
}

impl Tally for Circuits {
    fn give(&self, give: &mut dyn FnMut(Reading)) {
        for (state, circuits) in BreakerState::ALL.into_iter().zip(self.in_state) {
            give(Reading::sum("circuit_state", circuits as f64).label("state", state.name()));
        }
        give(Reading::largest("circuit_failure_ratio", self.failure_ratio));
        give(Reading::largest("circuit_half_open_in_seconds", self.half_open_in));
    }
}

/// The calls in flight of several keys, and their limits: the sums.
#[derive(Default)]
pub struct Flights {
    in_flight: usize,
    limit: usize,
}

impl Flights {
    pub(super) fn add(&mut self, limiter: &Limiter) {
        self.in_flight = self.in_flight.saturating_add(limiter.in_flight());
        self.limit = self.limit.saturating_add(limiter.limit());
    }
}

impl Tally for Flights {
    fn give(&self, give: &mut dyn FnMut(Reading)) {
        give(Reading::sum("in_flight", self.in_flight as f64).label("mechanism", "load_shed"));
        give(Reading::sum("in_flight_limit", self.limit as f64).label("mechanism", "load_shed"));
    }
}

/// The retry budgets of several keys.
#[derive(Default)]
pub struct Retries {
    balance: f64,
}

impl Retries {
    pub(super) fn add(&mut self, budget: &RetryBudget) {
        self.balance += budget.balance();
    }
}

impl Tally for Retries {
    fn give(&self, give: &mut dyn FnMut(Reading)) {
        give(Reading::sum("retry_budget_balance", self.balance));
    }
}

impl Tally for () {
    fn give(&self, _give: &mut dyn FnMut(Reading)) {}
}
