use super::{
    budget::RetryBudget,
    config::RetryHandle,
    replay::{CloneRequest, ReplayIf, ReplayWith},
    stage::RetryStage,
};
use crate::{
    backoff::Backoff,
    classify::{AnyError, Outcome},
    error::{ConfigError, LONGEST},
    random::Random,
    shell::{KeepError, Leaf, StackLayer},
};
use std::time::Duration;

/// The most attempts that a call may have.
const MOST_ATTEMPTS: u32 = 1000;

/// The longest wait that a service may ask for, unless configured otherwise.
pub(crate) const DEFAULT_MAX_HINT: Duration = Duration::from_secs(60);

/// How a call is retried: how often, after what wait, at whose expense, and which requests. See the [module](super).
#[derive(Clone, Debug)]
#[must_use]
pub struct Retry<P = CloneRequest> {
    attempts: u32,
    backoff: Backoff,
    max_hint: Duration,
    waits_for_refusals: bool,
    budget: Budget,
    replay: P,
    random: Random,
}

#[derive(Clone, Debug)]
enum Budget {
    /// One of its own, with all defaults.
    Default,
    Shared(RetryBudget),
    None,
}

impl Budget {
    /// Makes the budget, unless it was given.
    fn made(&self, random: &Random) -> Result<Option<RetryBudget>, ConfigError> {
        Ok(match self {
            Self::Default => Some(RetryBudget::builder().random(random.clone()).build()?),
            Self::Shared(budget) => Some(budget.clone()),
            Self::None => None,
        })
    }
}

impl Retry {
    /// At most this many attempts for each call, the first one included.
    ///
    /// Unless configured otherwise: [`Backoff::default`], and a [`RetryBudget`] of its own with all defaults, shared by
    /// everything that the layer makes.
    pub fn new(attempts: u32) -> Self {
        Self {
            attempts,
            backoff: Backoff::default(),
            max_hint: DEFAULT_MAX_HINT,
            waits_for_refusals: false,
            budget: Budget::Default,
            replay: CloneRequest,
            random: Random::new(),
        }
    }
}

impl<P> Retry<P> {
    /// How long to wait before each retry.
    pub fn backoff(self, backoff: Backoff) -> Self {
        Self { backoff, ..self }
    }

    /// The longest `retry_after` of an answer that a retry waits for. If the service asks for a longer wait, the call
    /// is not retried. A retry never comes earlier than the service asks. Zero: no such wait.
    ///
    /// The backoff comes on top. Default: 60 s. Callers seldom wait longer, and each waiting call holds memory here.
    pub fn max_hint(self, max_hint: Duration) -> Self {
        Self { max_hint, ..self }
    }

    /// Waits for refusals by layers further in, too: for an open circuit until it lets probes through, and for a rate
    /// limit until it has tokens. For batch work, which had better be late than fail.
    ///
    /// The wait is the `retry_after` of the refusal, at most [`max_hint`](Self::max_hint), and the backoff on top. It
    /// ends before the deadline of the call, and costs an attempt. A refusal that cannot say when to come back ends the
    /// call.
    ///
    /// Each wait takes a retry from the budget, and the call fails at once if there is none. A new process has none,
    /// and a full default budget lets ten calls wait. Give batch work
    /// [`initial(n)`](super::RetryBudgetBuilder::initial) with a higher `cap`, or
    /// [`without_budget`](Self::without_budget).
    ///
    /// All calls that wait come back at about the same time, spread by the backoff. A half-open circuit then lets its
    /// few probes through and refuses the others. Those calls then fail.
    ///
    /// Default: a refusal ends the call at once. An open circuit is there to fail fast, and a
    /// [rate limit](crate::rate_limit::RateLimit::wait) can let calls wait in order of arrival.
    pub fn wait_for_refusals(self) -> Self {
        Self { waits_for_refusals: true, ..self }
    }

    /// Takes retries from this budget, which other layers may share.
    pub fn budget(self, budget: RetryBudget) -> Self {
        Self { budget: Budget::Shared(budget), ..self }
    }

    /// Retries whatever the share of failures. A service in trouble then sees its load multiplied by the attempts.
    pub fn without_budget(self) -> Self {
        Self { budget: Budget::None, ..self }
    }

    /// Draws the jitter from this generator. The clones of one generator share its numbers, so no two layers draw the
    /// same ones.
    pub fn random(self, random: Random) -> Self {
        Self { random, ..self }
    }

    /// Retries only the requests for which `may_repeat` is true: a payment without an idempotency key may not.
    ///
    /// It runs once per call, before the first attempt. Other requests are sent once and not cloned.
    ///
    /// `may_repeat` is a closure or function `Fn(&Request) -> bool`, or one that answers with a
    /// [`Repeat`](super::Repeat): then a payment is sent again if the service provably did nothing with it. A closure
    /// names the type of its parameter: `|order: &Order|`, or `|order: &&Order|` where the request is itself a
    /// reference.
    pub fn replay_if<F>(self, may_repeat: F) -> Retry<ReplayIf<F>> {
        self.replay_by(ReplayIf(may_repeat))
    }

    /// Copies requests by `copy` instead of `Clone`; what it answers with `None` is sent once.
    ///
    /// For requests that are not `Clone`, such as reqwest's with its `try_clone`. It runs before the first attempt,
    /// then before each retry but the last possible one.
    ///
    /// Where the requests borrow, pass a function that takes any lifetime, not a closure:
    /// `fn copy<'a>(text: &&'a str) -> Option<&'a str>`.
    pub fn replay_with<F, Request>(self, copy: F) -> Retry<ReplayWith<F>>
    where
        F: Fn(&Request) -> Option<Request>,
    {
        self.replay_by(ReplayWith(copy))
    }

    /// Decides by this [`Replay`](super::Replay) which requests may be sent again, and makes them.
    pub fn replay_by<Q>(self, replay: Q) -> Retry<Q> {
        let Self { attempts, backoff, max_hint, waits_for_refusals, budget, random, replay: _ } = self;
        Retry { attempts, backoff, max_hint, waits_for_refusals, budget, replay, random }
    }

    /// Changes what decides which requests may be sent again.
    #[cfg(feature = "http")]
    pub(crate) fn map_replay<Q>(self, change: impl FnOnce(P) -> Q) -> Retry<Q> {
        let Self { attempts, backoff, max_hint, waits_for_refusals, budget, random, replay } = self;
        Retry { attempts, backoff, max_hint, waits_for_refusals, budget, replay: change(replay), random }
    }

    /// Makes the budget of its own, if it has one, and the handle that changes the configuration.
    pub(crate) fn with_handle(self) -> Result<(Self, RetryHandle), ConfigError> {
        let budget = self.budget.made(&self.random)?;
        let Self { attempts, backoff, max_hint, .. } = self;
        let handle = RetryHandle { attempts, backoff, max_hint, budget: budget.clone() };
        Ok((Self { budget: budget.map_or(Budget::None, Budget::Shared), ..self }, handle))
    }

    pub(crate) fn stage<Next>(self, next: Next) -> Result<RetryStage<P, Next>, ConfigError> {
        check_attempts(self.attempts)?;
        check_max_hint(self.max_hint)?;
        self.backoff.check()?;
        let budget = self.budget.made(&self.random)?;
        let Self { attempts, backoff, max_hint, waits_for_refusals, replay, random, budget: _ } = self;
        Ok(RetryStage { attempts, backoff, max_hint, waits_for_refusals, budget, replay, random, next })
    }
}

pub(crate) fn check_attempts(attempts: u32) -> Result<(), ConfigError> {
    if !(1..=MOST_ATTEMPTS).contains(&attempts) {
        return Err(ConfigError::new("retry.attempts", attempts, "must be from 1 to 1000"));
    }
    Ok(())
}

pub(crate) fn check_max_hint(max_hint: Duration) -> Result<(), ConfigError> {
    if max_hint > LONGEST {
        return Err(ConfigError::new("retry.max_hint", max_hint, "must be at most 366 days"));
    }
    Ok(())
}

/// Retries calls, as a tower layer. See the [module](super).
///
/// The service's error type is kept and must be `From<Rejection>`; [`typed_error`](StackLayer::typed_error) and
/// [`respond_with`](StackLayer::respond_with) choose otherwise.
pub type RetryLayer<P = CloneRequest, C = AnyError, X = KeepError> = StackLayer<RetryStage<P, Leaf<C>>, X>;

impl<P> RetryLayer<P> {
    /// A layer that retries as configured whatever ends in an `Err`.
    ///
    /// # Errors
    ///
    /// Attempts must be from 1 to 1000, and the longest hint at most 366 days; see [`Backoff::exponential`] for the
    /// backoff.
    pub fn new(retry: Retry<P>) -> Result<Self, ConfigError> {
        Ok(StackLayer::from_stages(retry.stage(Leaf::default())?, KeepError))
    }
}

impl<P: Clone, C: Clone, X: Clone> RetryLayer<P, C, X> {
    /// Decides by this closure what the service's answers mean.
    pub fn classify<F, Response, E>(self, classifier: F) -> RetryLayer<P, F, X>
    where
        F: Fn(Result<&Response, &E>) -> Outcome,
    {
        self.classify_with(classifier)
    }

    /// Decides by this [`Classify`](crate::classify::Classify) what the service's answers mean.
    pub fn classify_with<D>(self, classifier: D) -> RetryLayer<P, D, X> {
        self.map_stages(|stage| {
            let RetryStage { attempts, backoff, max_hint, waits_for_refusals, budget, replay, random, next: _ } = stage;
            let next = Leaf::new(classifier);
            RetryStage { attempts, backoff, max_hint, waits_for_refusals, budget, replay, random, next }
        })
    }
}
