use super::live::Pieces;
use crate::{
    circuit_breaker::Breaker,
    error::ConfigError,
    load_level::{LoadLevel, LoadLevelStage},
    load_shed::{Limiter, LoadShed},
    per_key::PerKey,
    rate_limit::{LiveLimits, RateLimit, RateLimitStage},
    retry::{Retry, RetryStage},
    shell::{Describe, Explanation, GateStage, ObserveStage, Observed, Observer},
    timeout::{Of, Patience, TimeoutStage},
};
use std::time::Duration;

/// Fills a slot of a stack: makes a stage when the stack is built.
///
/// The builder methods, such as `retry` and `load_shed`, make the slots of this crate's mechanisms. Your own slot makes
/// your own [`Stage`](crate::shell::Stage); see [stages of your own](super#stages-of-your-own).
///
/// ```
/// use steadfast::{ConfigError, load_shed::Limiter, shell::GateStage, stack::Slot};
///
/// /// Two limits in one slot.
/// struct Both(Limiter, Limiter);
///
/// impl Slot for Both {
///     type Stage<Next> = GateStage<Limiter, GateStage<Limiter, Next>>;
///
///     fn build<Next>(self, next: Next) -> Result<Self::Stage<Next>, ConfigError> {
///         Ok(GateStage::new(self.0, GateStage::new(self.1, next)))
///     }
/// }
///
/// let layer = steadfast::client().own_load_shed(Both(Limiter::fixed(64)?, Limiter::fixed(8)?)).layer()?;
/// assert_eq!(layer.explain().max_in_flight(), Some(8));
/// # Ok::<(), ConfigError>(())
/// ```
pub trait Slot {
    /// The stage that this slot puts around the stage `Next`.
    type Stage<Next>;

    /// Checks the configuration and makes the stage.
    ///
    /// # Errors
    ///
    /// A field that breaks a rule.
    fn build<Next>(self, next: Next) -> Result<Self::Stage<Next>, ConfigError>;
}

/// A slot for a live stack: its configuration can change while calls pass, or the configuration of the stack has no
/// part for it.
pub trait LiveSlot: Slot + Sized {
    /// Adds a handle of the mechanism to `pieces`, if the configuration of the stack has a part for the mechanism.
    #[doc(hidden)]
    fn add_to(self, pieces: &mut Pieces) -> Result<Self, ConfigError>;
}

/// An empty slot: no stage.
#[derive(Clone, Copy, Debug)]
pub struct Off;

impl Slot for Off {
    type Stage<Next> = Next;

    fn build<Next>(self, next: Next) -> Result<Next, ConfigError> {
        Ok(next)
    }
}

impl LiveSlot for Off {
    fn add_to(self, _pieces: &mut Pieces) -> Result<Self, ConfigError> {
        Ok(self)
    }
}

/// The slot of an observer, filled or empty.
pub trait Watch {
    /// The stage that observes the next one.
    type Stage<Next>;

    /// Tells the observer the name of the stack. The builder calls this before [`call`](Self::call) and
    /// [`attempt`](Self::attempt).
    fn watches(&mut self) {}

    /// Gives the observer the instruments of the mechanisms. Returns the explanation of the stages.
    fn give_instruments(&self, stages: &impl Describe) -> Explanation;

    /// Puts the stage that observes calls around `next`. An empty slot returns `next` itself.
    fn call<Next>(&self, next: Next) -> Self::Stage<Next>;

    /// Puts the stage that observes attempts around `next`. An empty slot returns `next` itself.
    fn attempt<Next>(&self, next: Next) -> Self::Stage<Next>;
}

impl Watch for Off {
    type Stage<Next> = Next;

    fn give_instruments(&self, stages: &impl Describe) -> Explanation {
        Explanation::of(stages)
    }

    fn call<Next>(&self, next: Next) -> Next {
        next
    }

    fn attempt<Next>(&self, next: Next) -> Next {
        next
    }
}

/// An observer, and the name of the stack.
#[derive(Clone, Copy, Debug)]
pub struct Watched<O> {
    pub(super) stack: &'static str,
    pub(super) observer: O,
}

impl<O: Observer + Clone> Watch for Watched<O> {
    type Stage<Next> = ObserveStage<O, Next>;

    fn watches(&mut self) {
        self.observer.watches(self.stack);
    }

    fn give_instruments(&self, stages: &impl Describe) -> Explanation {
        let (explanation, instruments) = Explanation::with_instruments(stages);
        self.observer.instruments(&instruments);
        explanation
    }

    fn call<Next>(&self, next: Next) -> ObserveStage<O, Next> {
        ObserveStage::of_informed(self.stack, Observed::Call, self.observer.clone(), next)
    }

    fn attempt<Next>(&self, next: Next) -> ObserveStage<O, Next> {
        ObserveStage::of_informed(self.stack, Observed::Attempt, self.observer.clone(), next)
    }
}

/// A slot with a timeout.
#[derive(Clone, Copy, Debug)]
pub struct Limit<P = Duration> {
    pub(super) of: Of,
    pub(super) limit: P,
}

impl<P: Patience> Slot for Limit<P> {
    type Stage<Next> = TimeoutStage<Next, P>;

    fn build<Next>(self, next: Next) -> Result<TimeoutStage<Next, P>, ConfigError> {
        self.limit.check(self.of.field())?;
        Ok(TimeoutStage::new(self.of, self.limit, next))
    }
}

/// A configuration can change a fixed limit. If the built limit is learned or chosen per request, the stack refuses a
/// configuration that sets the timeout.
impl<P: Patience> LiveSlot for Limit<P> {
    fn add_to(self, pieces: &mut Pieces) -> Result<Self, ConfigError> {
        match self.limit.fixed() {
            Ok(limit) => pieces.add_timeout(self.of, limit),
            Err(rule) => pieces.add_own_timeout(self.of, rule),
        }
        Ok(self)
    }
}

impl<P> Slot for Retry<P> {
    type Stage<Next> = RetryStage<P, Next>;

    fn build<Next>(self, next: Next) -> Result<RetryStage<P, Next>, ConfigError> {
        self.stage(next)
    }
}

impl<P> LiveSlot for Retry<P> {
    fn add_to(self, pieces: &mut Pieces) -> Result<Self, ConfigError> {
        let (retry, handle) = self.with_handle()?;
        pieces.add(handle, |config| config.retry.as_ref(), |config, retry| config.retry = Some(retry));
        Ok(retry)
    }
}

/// A slot with a gate: a circuit breaker, a limit on calls in flight, or a gate of your own.
#[derive(Clone, Copy, Debug)]
pub struct Gated<G>(pub(super) G);

impl<G> Slot for Gated<G> {
    type Stage<Next> = GateStage<G, Next>;

    fn build<Next>(self, next: Next) -> Result<GateStage<G, Next>, ConfigError> {
        Ok(GateStage::new(self.0, next))
    }
}

impl LiveSlot for Gated<Breaker> {
    fn add_to(self, pieces: &mut Pieces) -> Result<Self, ConfigError> {
        pieces.add(
            self.0.clone(),
            |config| config.circuit_breaker.as_ref(),
            |config, breaker| config.circuit_breaker = Some(breaker),
        );
        Ok(self)
    }
}

impl LiveSlot for Gated<Limiter> {
    fn add_to(self, pieces: &mut Pieces) -> Result<Self, ConfigError> {
        pieces.add(self.0.clone(), |config| config.load_shed.as_ref(), |config, shed| config.load_shed = Some(shed));
        Ok(self)
    }
}

impl<K, C, E> LiveSlot for Gated<LoadShed<K, C, E>> {
    fn add_to(self, pieces: &mut Pieces) -> Result<Self, ConfigError> {
        let limiter = self.0.limiter().clone();
        pieces.add(limiter, |config| config.load_shed.as_ref(), |config, shed| config.load_shed = Some(shed));
        Ok(self)
    }
}

/// One configuration applies to all keys. Breakers that a function makes for each key have no common configuration, so
/// the configuration of the stack has no part for them.
impl<K: Send + Sync + 'static, F> LiveSlot for Gated<PerKey<Breaker, K, F>> {
    fn add_to(self, pieces: &mut Pieces) -> Result<Self, ConfigError> {
        if let Some(keys) = self.0.all_keys() {
            pieces.add(
                keys,
                |config| config.circuit_breaker.as_ref(),
                |config, breaker| config.circuit_breaker = Some(breaker),
            );
        }
        Ok(self)
    }
}

/// The limit in a configuration is a limit on all calls in flight. Limiters per key have no such limit, so the
/// configuration of the stack has no part for them.
impl<K, F> LiveSlot for Gated<PerKey<Limiter, K, F>> {
    fn add_to(self, _pieces: &mut Pieces) -> Result<Self, ConfigError> {
        Ok(self)
    }
}

impl<L, C, J> Slot for RateLimit<L, C, J> {
    type Stage<Next> = RateLimitStage<Self, Next>;

    fn build<Next>(self, next: Next) -> Result<Self::Stage<Next>, ConfigError> {
        Ok(RateLimitStage::with(self, next))
    }
}

impl<L, C, J> LiveSlot for RateLimit<L, C, J>
where
    Self: LiveLimits,
{
    fn add_to(self, pieces: &mut Pieces) -> Result<Self, ConfigError> {
        pieces.add(self.handle(), |config| Some(&config.rate_limit), |config, limits| config.rate_limit = limits);
        Ok(self)
    }
}

impl<W, C> Slot for LoadLevel<W, C> {
    type Stage<Next> = LoadLevelStage<W, C, Next>;

    fn build<Next>(self, next: Next) -> Result<Self::Stage<Next>, ConfigError> {
        Ok(LoadLevelStage::with(self, next))
    }
}

impl<W, C> LiveSlot for LoadLevel<W, C> {
    fn add_to(self, pieces: &mut Pieces) -> Result<Self, ConfigError> {
        let queue = self.queue().clone();
        pieces.add(queue, |config| config.load_level.as_ref(), |config, level| config.load_level = Some(level));
        Ok(self)
    }
}

/// Makes one crate-private method for each slot of a builder. The method fills its slot and keeps the others.
///
/// List the fields in the order of the builder's type parameters. Give each field with its type parameter and the name
/// of its method.
macro_rules! fill_slots {
    ($builder:ident: [$($before:ident $Before:ident)*]) => {};
    (
        $builder:ident: [$($before:ident $Before:ident)*]
        $slot:ident $Old:ident $fill:ident, $($after:ident $After:ident $fill_after:ident,)*
    ) => {
        impl<$($Before,)* $Old, $($After,)*> $builder<$($Before,)* $Old, $($After,)*> {
            pub(crate) fn $fill<New>(
                self,
                fill: impl FnOnce($Old) -> New,
            ) -> $builder<$($Before,)* New, $($After,)*> {
                let Self { $($before,)* $slot, $($after,)* } = self;
                $builder { $($before,)* $slot: fill($slot), $($after,)* }
            }
        }
        fill_slots! {
            $builder: [$($before $Before)* $slot $Old]
            $($after $After $fill_after,)*
        }
    };
}

pub(super) use fill_slots;
