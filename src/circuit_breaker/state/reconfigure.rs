//! Changes the configuration while calls pass.

use super::{BreakerShared, CircuitState, Delivery, Machine};
use crate::{
    circuit_breaker::{BreakerBuilder, published::window_of, ticks::Ticks, window::Window},
    clock::Nanos,
    sync::{Ordering, lock},
};
use tokio::time::Instant;

impl BreakerShared {
    /// Replaces the configuration with a checked one.
    pub(in crate::circuit_breaker) fn reconfigure(&self, to: BreakerBuilder, delivery: Delivery) {
        self.with_machine(delivery, |machine| self.reconfigure_locked(machine, to));
    }

    fn reconfigure_locked(&self, machine: &mut Machine, mut to: BreakerBuilder) {
        to.random.keep(&machine.config.random);
        if machine.config == to {
            machine.config = to;
            return;
        }
        let now = self.since_origin(Instant::now());
        if machine.config.consecutive_failures.is_none() {
            // The present configuration counts no failures in a row. If `to` counts them, it must not continue a run
            // that an earlier configuration counted.
            self.era_and_run.store(u64::from(machine.era) << 32, Ordering::Relaxed);
        }
        let ticks = self.change_windows(machine, &to, now);
        self.published.reconfigure(machine, &to, ticks);
        machine.config = to;
        match machine.state {
            // HalfOpen => Closed
            CircuitState::HalfOpen(probes) if probes.succeeded >= machine.config.probes => self.close(machine, now),
            _ => self.publish(machine),
        }
    }

    /// Prepares the windows for another configuration. Returns their new ticks, if the length changes or the first
    /// window is added.
    fn change_windows(&self, machine: &Machine, to: &BreakerBuilder, now: Nanos) -> Option<Ticks> {
        let Machine { config: from, era, .. } = machine;
        if to.slow_call_rate.is_some() {
            self.slow.get_or_init(Box::<Window>::default);
        }
        let (_, ticks) = self.published.rules_and_ticks();
        let windows = || [Some(&self.failures), self.slow.get().map(|window| &**window)].into_iter().flatten();
        let newest = windows().map(|window| window.newest(&ticks, *era, now)).max().unwrap_or(0);
        let changed = match (window_of(from), window_of(to)) {
            (Some(old), Some(new)) if old != new => Some(Ticks::resized(old, new, newest, *era, now)),
            (None, Some(new)) => Some(Ticks::emptied(new, newest, *era, now)),
            _ => None,
        };
        // A window that is added starts empty.
        if from.rate_and_window().is_none() && to.rate_and_window().is_some() {
            self.failures.clear(newest);
        }
        if let (None, Some(_), Some(window)) = (from.slow_call_rate, to.slow_call_rate, self.slow.get()) {
            window.clear(newest);
        }
        let newest = changed.map_or(newest, |ticks| ticks.at(*era, now));
        windows().for_each(|window| window.watch_all(newest));
        changed
    }

    pub(in crate::circuit_breaker) fn configuration(&self) -> BreakerBuilder {
        lock(&self.machine).config.clone()
    }
}

#[cfg(all(test, not(steadfast_loom)))]
mod tests {
    use super::*;
    use crate::circuit_breaker::{Breaker, BreakerState, ticket::Evidence};
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    /// Changes the configuration after a failure has read the present one and before it is judged. Returns the state,
    /// and for how long the circuit is open.
    fn a_failure_during(from: BreakerBuilder, to: BreakerBuilder) -> (BreakerState, Option<Duration>) {
        let shared = BreakerShared::new(from);
        let now = Instant::now();
        shared.record(0, Evidence::Failure, || {
            shared.reconfigure(to, Delivery::Now);
            shared.since_origin(now)
        });
        (shared.word().state(), shared.half_open_at().map(|until| until - now))
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_during_a_change_opens_only_by_both_configurations_and_for_the_new_time() {
        let in_a_row = |failures| Breaker::builder().consecutive_failures(failures).open_for(SECOND);
        let rate = |minimum| Breaker::builder().failure_rate(1.0, 16 * SECOND).minimum_calls(minimum).open_for(SECOND);
        for of in [&in_a_row as &dyn Fn(u32) -> BreakerBuilder, &rate] {
            let open_for = |seconds| (BreakerState::Open, Some(seconds * SECOND));
            assert_eq!(a_failure_during(of(1), of(2)), (BreakerState::Closed, None));
            assert_eq!(a_failure_during(of(2), of(1)), (BreakerState::Closed, None));
            assert_eq!(a_failure_during(of(1), of(1).open_for(3 * SECOND)), open_for(3));
            assert_eq!(a_failure_during(of(1), of(1).overload_is_failure(true)), open_for(1));
        }
        // The failure is recorded in a tick of the old window, and judged by the new window.
        let longer = rate(1).failure_rate(1.0, 160 * SECOND);
        assert_eq!(a_failure_during(rate(1), longer), (BreakerState::Open, Some(SECOND)));
    }
}
