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

/// The default of the longest wait that a service may ask for.
pub(crate) const DEFAULT_MAX_HINT: Duration = Duration::from_secs(60);

/// How calls are retried: how often, after what wait, from which budget, and which requests. See the [module](super).
#[doc(alias("RetryPolicy", "backoff"))]
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
    /// A budget with all defaults, which the layer builds for itself.
    Default,
    Shared(RetryBudget),
    None,
}

impl Budget {
    /// Returns the given budget, or builds the default one.
    fn made(&self, random: &Random) -> Result<Option<RetryBudget>, ConfigError> {
        Ok(match self {
            Self::Default => Some(RetryBudget::builder().random(random.clone()).build()?),
            Self::Shared(budget) => Some(budget.clone()),
            Self::None => None,
        })
    }
}

impl Retry {
    /// Allows at most this number of attempts for each call, the first one included.
    ///
    /// Default: [`Backoff::default`], and a [`RetryBudget`] with all defaults that all services of the layer share.
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
    /// Sets the wait before each retry.
    pub fn backoff(self, backoff: Backoff) -> Self {
        Self { backoff, ..self }
    }

    /// Sets the longest `retry_after` of an answer or a refusal that a retry waits for. If the service asks for a
    /// longer wait, the call is not retried. A retry is never sent earlier than the service asks. Zero allows no such
    /// wait.
    ///
    /// The backoff is added to the `retry_after`. Default: 60 s. Callers rarely wait longer, and each waiting call uses
    /// memory in this process.
    pub fn max_hint(self, max_hint: Duration) -> Self {
        Self { max_hint, ..self }
    }

    /// Also waits after refusals by inner layers: for an open circuit until it lets probes through, and for a rate
    /// limit until it has tokens. Use it for batch work, which may be late but should not fail.
    ///
    /// The wait is the `retry_after` of the refusal, plus the backoff. It must end before the deadline of the call, and
    /// costs an attempt. A refusal without a `retry_after`, or with one above [`max_hint`](Self::max_hint), ends the
    /// call.
    ///
    /// Each wait takes a retry from the budget; if there is none, the call fails at once. A new process has none, and a
    /// full default budget lets ten calls wait. Give batch work [`initial(n)`](super::RetryBudgetBuilder::initial) with
    /// a higher `cap`, or [`without_budget`](Self::without_budget).
    ///
    /// All waiting calls are retried at about the same time, spread by the backoff. A half-open circuit then admits its
    /// few probes and refuses the other calls, which fail.
    ///
    /// Default: a refusal ends the call at once. An open circuit exists to fail fast, and a [rate
    /// limit](crate::rate_limit::RateLimit::wait) can let calls wait in order of arrival.
    pub fn wait_for_refusals(self) -> Self {
        Self { waits_for_refusals: true, ..self }
    }

    /// Takes retries from this budget, which other layers may share.
    pub fn budget(self, budget: RetryBudget) -> Self {
        Self { budget: Budget::Shared(budget), ..self }
    }

    /// Retries at any failure rate. The load on a failing service is then multiplied by the attempts.
    pub fn without_budget(self) -> Self {
        Self { budget: Budget::None, ..self }
    }

    /// Draws the jitter, and the random numbers of the default budget, from this generator. Clones of a generator share
    /// one sequence, so no two layers draw the same numbers.
    pub fn random(self, random: Random) -> Self {
        Self { random, ..self }
    }

    /// Retries only the requests for which `may_repeat` returns true. A payment without an idempotency key must not be
    /// repeated.
    ///
    /// `may_repeat` runs once per call, before the first attempt. It may run again if the configuration of a live stack
    /// changes while the call starts. Other requests are sent once and not cloned.
    ///
    /// `may_repeat` is a closure or function `Fn(&Request) -> bool`, or one that returns a [`Repeat`](super::Repeat).
    /// With [`Repeat::IfUnprocessed`](super::Repeat::IfUnprocessed), a payment is retried if the service provably did
    /// not process it. A closure names the type of its parameter: `|order: &Order|`, or `|order: &&Order|` if the
    /// request is itself a reference.
    pub fn replay_if<F>(self, may_repeat: F) -> Retry<ReplayIf<F>> {
        self.replay_by(ReplayIf(may_repeat))
    }

    /// Copies requests with `copy` instead of `Clone`. A request for which it returns `None` is sent once.
    ///
    /// Use it for requests that are not `Clone`, such as reqwest's with its `try_clone`. `copy` runs before the first
    /// attempt, and before each retry except the last possible one.
    ///
    /// If the requests borrow, pass a function that takes any lifetime, not a closure:
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

    /// Replaces the policy that decides which requests may be sent again with the result of `change`.
    #[cfg(feature = "http")]
    pub(crate) fn map_replay<Q>(self, change: impl FnOnce(P) -> Q) -> Retry<Q> {
        let Self { attempts, backoff, max_hint, waits_for_refusals, budget, random, replay } = self;
        Retry { attempts, backoff, max_hint, waits_for_refusals, budget, replay: change(replay), random }
    }

    /// Builds the default budget, if no other was chosen, and makes the handle that changes the configuration.
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
/// The layer keeps the service's error type, which must be `From<Rejection>`. To return a refusal in another form, use
/// [`typed_error`](StackLayer::typed_error) or [`respond_with`](StackLayer::respond_with).
#[doc(alias("RetryPolicy", "RetryTransientMiddleware"))]
pub type RetryLayer<P = CloneRequest, C = AnyError, X = KeepError> = StackLayer<RetryStage<P, Leaf<C>>, X>;

impl<P> RetryLayer<P> {
    /// Returns a layer that retries every `Err`, as configured.
    ///
    /// # Errors
    ///
    /// Attempts must be from 1 to 1,000, and the longest hint at most 366 days; see [`Backoff::exponential`] for the
    /// backoff.
    pub fn new(retry: Retry<P>) -> Result<Self, ConfigError> {
        Ok(StackLayer::from_stages(retry.stage(Leaf::default())?, KeepError))
    }
}

impl<P: Clone, C: Clone, X: Clone> RetryLayer<P, C, X> {
    /// Classifies the service's answers with this closure.
    pub fn classify<F, Response, E>(self, classifier: F) -> RetryLayer<P, F, X>
    where
        F: Fn(Result<&Response, &E>) -> Outcome,
    {
        self.classify_with(classifier)
    }

    /// Classifies the service's answers with this [`Classify`](crate::classify::Classify).
    pub fn classify_with<D>(self, classifier: D) -> RetryLayer<P, D, X> {
        self.map_stages(|stage| {
            let RetryStage { attempts, backoff, max_hint, waits_for_refusals, budget, replay, random, next: _ } = stage;
            let next = Leaf::new(classifier);
            RetryStage { attempts, backoff, max_hint, waits_for_refusals, budget, replay, random, next }
        })
    }
}
