//! The mechanisms that a key can have, and the evidence that each would lose if it were forgotten.

use super::instrument::{Circuits, Flights, Retries};
use crate::{
    circuit_breaker::{Breaker, BreakerBuilder, BreakerConfig, BreakerState, MostOpen},
    error::ConfigError,
    load_shed::{Limiter, LoadShedConfig},
    rate_limit::{SlidingWindow, SlidingWindowBuilder, TokenBucket, TokenBucketBuilder},
    retry::{RetryBudget, RetryBudgetBuilder},
    shell::{Reading, Readings, Reconfigure},
};
use std::sync::Arc;
use tokio::time::Instant;

/// A handle of a mechanism of this crate, cheap to clone. Its methods run no user code, so a table may call them under
/// a lock.
pub trait Mechanism: Clone + Send + Sync + 'static {
    /// The configuration that can be changed for all keys at once, while calls pass.
    type Config: Clone + Send;

    /// The name of the mechanism's layer in an explanation.
    const LAYER: &'static str;

    /// The mechanism's name in metrics.
    const NAME: &'static str;

    /// Combines the readings of several mechanisms.
    type Tally: Tally;

    /// Adds the mechanism's readings at `now` to the tally.
    fn add_to(&self, _tally: &mut Self::Tally, _now: Instant) {}

    /// Returns the number of calls that the mechanism let pass in shadow. When the table forgets the mechanism, it adds
    /// this number to the calls that forgotten mechanisms let pass, so that the total does not fall.
    fn in_shadow(&self) -> u64 {
        0
    }

    /// Gives the counts of all mechanisms together, including forgotten ones.
    fn give_counts(_of_breakers: &MostOpen, _in_shadow: u64, _readings: &mut Readings<'_>) {}

    /// Returns what would be lost if the mechanism were forgotten at `now`.
    fn memory_at(&self, now: Instant) -> Memory;

    /// Returns whether the mechanism has another handle.
    fn is_shared(&self) -> bool;

    /// Describes the mechanism's rule.
    fn rule(&self) -> String;

    /// Applies another configuration, which was checked.
    fn follow(&self, _config: &Self::Config) {}

    /// Gives the mechanism the state that all breakers of a `PerKey` share, such as the bound on open circuits. Other
    /// mechanisms ignore it.
    fn be_bound(&self, _most_open: &Arc<MostOpen>) {}
}

/// The combined readings of several mechanisms.
pub trait Tally: Default {
    /// Gives all readings: always all of them, even if they are zero.
    fn give(&self, give: &mut dyn FnMut(Reading));
}

/// The loss if a mechanism were forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Nothing: it is at least as good as a new one.
    Nothing,
    /// Results of recent calls, which lose their value with time.
    Evidence,
    /// Calls in flight, a handle in other code, an open time that has not ended, or a state that an operator set.
    InUse,
}

impl Mechanism for Breaker {
    type Config = BreakerConfig;

    const LAYER: &'static str = "circuit breaker";
    const NAME: &'static str = "circuit_breaker";

    type Tally = Circuits;

    fn add_to(&self, circuits: &mut Circuits, now: Instant) {
        circuits.add(self, now);
    }

    fn give_counts(of_breakers: &MostOpen, _in_shadow: u64, readings: &mut Readings<'_>) {
        for (state, entered) in BreakerState::ALL.into_iter().zip(of_breakers.times_entered()) {
            readings.add(Reading::count("circuit_transitions_total", entered).label("to", state.name()));
        }
    }

    fn memory_at(&self, now: Instant) -> Memory {
        match self.state() {
            BreakerState::Closed if self.is_clean_at(now) => Memory::Nothing,
            BreakerState::Open if self.half_open_at().is_none_or(|until| now < until) => Memory::InUse,
            BreakerState::Closed | BreakerState::Open | BreakerState::HalfOpen => Memory::Evidence,
            BreakerState::ForcedOpen | BreakerState::ForcedClosed => Memory::InUse,
        }
    }

    fn is_shared(&self) -> bool {
        Breaker::is_shared(self)
    }

    fn rule(&self) -> String {
        self.configuration().to_string()
    }

    fn follow(&self, config: &BreakerConfig) {
        self.apply(config);
    }

    fn be_bound(&self, most_open: &Arc<MostOpen>) {
        Breaker::set_bound(self, most_open);
    }
}

impl Mechanism for Limiter {
    type Config = ();

    const LAYER: &'static str = "load shed";
    const NAME: &'static str = "load_shed";

    type Tally = Flights;

    fn add_to(&self, flights: &mut Flights, _now: Instant) {
        flights.add(self);
    }

    fn in_shadow(&self) -> u64 {
        self.would_have_refused()
    }

    fn give_counts(_of_breakers: &MostOpen, in_shadow: u64, readings: &mut Readings<'_>) {
        readings.add(Reading::count("shadow_rejections_total", in_shadow).label("mechanism", Self::NAME));
    }

    fn memory_at(&self, _now: Instant) -> Memory {
        match self.in_flight() {
            0 if self.has_learned() => Memory::Evidence,
            0 => Memory::Nothing,
            _ => Memory::InUse,
        }
    }

    fn is_shared(&self) -> bool {
        Limiter::is_shared(self)
    }

    fn rule(&self) -> String {
        self.rule_text()
    }
}

impl Mechanism for TokenBucket {
    type Config = ();

    const LAYER: &'static str = "rate limit";
    const NAME: &'static str = "rate_limit";

    type Tally = ();

    fn memory_at(&self, now: Instant) -> Memory {
        match self.is_closed() {
            true => Memory::InUse,
            false if self.available_at(now) >= self.quota().burst() => Memory::Nothing,
            false => Memory::Evidence,
        }
    }

    fn is_shared(&self) -> bool {
        TokenBucket::is_shared(self)
    }

    fn rule(&self) -> String {
        self.quota().to_string()
    }
}

impl Mechanism for SlidingWindow {
    type Config = ();

    const LAYER: &'static str = "rate limit";
    const NAME: &'static str = "rate_limit";

    type Tally = ();

    fn memory_at(&self, now: Instant) -> Memory {
        if self.available_at(now) >= self.limit() { Memory::Nothing } else { Memory::Evidence }
    }

    fn is_shared(&self) -> bool {
        SlidingWindow::is_shared(self)
    }

    fn rule(&self) -> String {
        format!("{} in any {:?}", self.limit(), self.window())
    }
}

impl Mechanism for RetryBudget {
    type Config = ();

    const LAYER: &'static str = "retry budget";
    const NAME: &'static str = "retry_budget";

    type Tally = Retries;

    fn add_to(&self, retries: &mut Retries, _now: Instant) {
        retries.add(self);
    }

    fn memory_at(&self, _now: Instant) -> Memory {
        if self.is_as_good_as_new() { Memory::Nothing } else { Memory::Evidence }
    }

    fn is_shared(&self) -> bool {
        RetryBudget::is_shared(self)
    }

    fn rule(&self) -> String {
        self.configuration().to_string()
    }
}

/// Makes mechanisms with one configuration.
pub trait Recipe: Send + Sync + 'static {
    /// The mechanism that it makes.
    type Mechanism: Mechanism;

    /// Makes a new mechanism. A configuration fails always or never; a function may fail later.
    fn make(&self) -> Result<Self::Mechanism, ConfigError>;
}

impl Recipe for BreakerBuilder {
    type Mechanism = Breaker;

    fn make(&self) -> Result<Breaker, ConfigError> {
        self.clone().build()
    }
}

impl<T, F> Recipe for F
where
    T: Mechanism,
    F: Fn() -> Result<T, ConfigError> + Send + Sync + 'static,
{
    type Mechanism = T;

    fn make(&self) -> Result<T, ConfigError> {
        self()
    }
}

impl Recipe for LoadShedConfig {
    type Mechanism = Limiter;

    fn make(&self) -> Result<Limiter, ConfigError> {
        let limiter = Limiter::fixed(self.limit)?;
        limiter.set_shadow(self.shadow);
        Ok(limiter)
    }
}

impl Recipe for TokenBucketBuilder {
    type Mechanism = TokenBucket;

    fn make(&self) -> Result<TokenBucket, ConfigError> {
        self.clone().build()
    }
}

impl Recipe for SlidingWindowBuilder {
    type Mechanism = SlidingWindow;

    fn make(&self) -> Result<SlidingWindow, ConfigError> {
        self.clone().build()
    }
}

impl Recipe for RetryBudgetBuilder {
    type Mechanism = RetryBudget;

    fn make(&self) -> Result<RetryBudget, ConfigError> {
        self.clone().build()
    }
}
