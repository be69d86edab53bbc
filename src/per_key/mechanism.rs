//! The mechanisms of which there can be one for each key, and what each of them would lose by being forgotten.

use crate::{
    circuit_breaker::{Breaker, BreakerBuilder, BreakerConfig, BreakerState, MostOpen},
    error::ConfigError,
    load_shed::{Limiter, LoadShedConfig},
    rate_limit::{SlidingWindow, SlidingWindowBuilder, TokenBucket, TokenBucketBuilder},
    retry::{RetryBudget, RetryBudgetBuilder},
    shell::Reconfigure,
};
use std::sync::Arc;
use tokio::time::Instant;

/// A handle of a mechanism of this crate, cheap to clone. All that a table does with it under a lock is its own code.
pub trait Mechanism: Clone {
    /// What is changed for all keys at once, while calls pass.
    type Config: Clone + Send;

    /// Its name among the layers of a stack.
    const LAYER: &'static str;

    /// What the mechanism remembers at `now`.
    fn memory_at(&self, now: Instant) -> Memory;

    /// Whether there is another handle of it.
    fn is_shared(&self) -> bool;

    /// The rule that it follows, in words.
    fn rule(&self) -> String;

    /// Follows another configuration, which was checked.
    fn follow(&self, _config: &Self::Config) {}

    /// Counts among those of which not all may be open at once.
    fn be_bound(&self, _most_open: &Arc<MostOpen>) {}
}

/// What would be lost by forgetting a mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Nothing: it is as good as a new one.
    Nothing,
    /// What it has seen, which grows old.
    Evidence,
    /// Calls in flight, a promise to callers, or the will of an operator.
    InUse,
}

impl Mechanism for Breaker {
    type Config = BreakerConfig;

    const LAYER: &'static str = "circuit breaker";

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
        Breaker::be_bound(self, most_open);
    }
}

impl Mechanism for Limiter {
    type Config = ();

    const LAYER: &'static str = "load shed";

    fn memory_at(&self, _now: Instant) -> Memory {
        if self.in_flight() == 0 { Memory::Nothing } else { Memory::InUse }
    }

    fn is_shared(&self) -> bool {
        Limiter::is_shared(self)
    }

    fn rule(&self) -> String {
        let (limit, shadow) = self.configuration();
        format!("at most {limit} in flight{}", if shadow { " (shadow)" } else { "" })
    }
}

impl Mechanism for TokenBucket {
    type Config = ();

    const LAYER: &'static str = "rate limit";

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

/// Makes mechanisms that are all alike.
pub trait Recipe: Send + Sync + 'static {
    /// Of which it is the configuration.
    type Mechanism: Mechanism;

    /// A new one. It is an error always or never.
    fn make(&self) -> Result<Self::Mechanism, ConfigError>;
}

impl Recipe for BreakerBuilder {
    type Mechanism = Breaker;

    fn make(&self) -> Result<Breaker, ConfigError> {
        self.clone().build()
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
