use super::{
    bucket::TokenBucket,
    limit::{
        AllCount, Both, Cost, CostBy, CostsOfParts, DescribeLimit, Limit, OneToken, RefundBy, RefusedCalls, Shadow,
    },
    window::SlidingWindow,
};
use crate::{
    error::RateLimited,
    shell::{AdmissionStage, Decision, Explanation, Frame, KeepError, Leaf, RefusesNow, StackLayer},
};
use std::time::Duration;
use tokio::time::Instant;

/// A limit on the rate of calls. It has a source of tokens and a cost of each call. It also says how to handle a call
/// for which there are too few tokens. See the [module](super).
///
/// `L` is the source of tokens, `C` the cost of a call, and `J` decides which answered calls are refunded.
#[derive(Clone, Debug)]
pub struct RateLimit<L = TokenBucket, C = OneToken, J = AllCount> {
    pub(super) limit: L,
    cost: C,
    pub(super) refund_if: J,
    name: Option<&'static str>,
    pub(super) shadow: Shadow,
    refused: RefusedCalls,
}

impl<L> RateLimit<L> {
    /// Makes a rate limit in which each call costs one token of this [`Limit`], and is refused if there is none.
    pub fn new(limit: L) -> Self {
        let refused = RefusedCalls::default();
        Self { limit, cost: OneToken, refund_if: AllCount, name: None, shadow: Shadow::default(), refused }
    }
}

impl<L, J> RateLimit<L, OneToken, J> {
    /// Charges each call the tokens that `cost` returns for its request. A call that costs nothing passes. A call that
    /// costs more than the burst is refused until the burst is raised.
    ///
    /// `cost` runs once per attempt, before the call is admitted. It does not run if an earlier one of several
    /// [combined](RateLimit::and) limits refuses the attempt. It may run once more before the backoff of an outer
    /// [retry](crate::retry), which asks whether there will be enough tokens.
    ///
    /// `cost` is a closure or function `Fn(&Request) -> u64`. A closure names the type of its parameter:
    /// `|order: &Order|`, or `|order: &&Order|` if the request is itself a reference.
    pub fn cost<F>(self, cost: F) -> RateLimit<L, CostBy<F>, J> {
        let Self { limit, cost: OneToken, refund_if, name, shadow, refused } = self;
        RateLimit { limit, cost: CostBy(cost), refund_if, name, shadow, refused }
    }
}

impl<L, C, J> RateLimit<L, C, J> {
    /// Refunds a call if `need_not_count` returns true for the service's answer, such as a `304 Not Modified`.
    ///
    /// `need_not_count` runs when the service has answered. Default: every call that reached the service counts.
    ///
    /// ```
    /// # fn main() -> Result<(), steadfast::ConfigError> {
    /// use std::{convert::Infallible, time::Duration};
    /// use steadfast::rate_limit::{RateLimit, TokenBucket};
    ///
    /// type Response = hyper::Response<String>;
    ///
    /// let bucket = TokenBucket::builder(100, Duration::from_secs(1)).build()?;
    /// // Handlers of axum and hyper have no error: theirs is `Infallible`.
    /// let limit = RateLimit::new(bucket)
    ///     .refund_if(|answer: Result<&Response, &Infallible>| answer.is_ok_and(|response| response.status() == 304));
    /// # let _ = limit;
    /// # Ok(())
    /// # }
    /// ```
    pub fn refund_if<F, Response, E>(self, need_not_count: F) -> RateLimit<L, C, RefundBy<F>>
    where
        F: Fn(Result<&Response, &E>) -> bool,
    {
        let Self { limit, cost, refund_if: _, name, shadow, refused } = self;
        RateLimit { limit, cost, refund_if: RefundBy(need_not_count), name, shadow, refused }
    }

    /// Names the limit in its refusals: [`RateLimited::limit`]. Each of several [combined](RateLimit::and) limits can
    /// have its own name. A part without a name takes the name of the combined limit. Default: no name.
    pub fn named(self, name: &'static str) -> Self {
        Self { name: Some(name), ..self }
    }

    /// Only counts the calls that the limit would refuse ([`refused`](Self::refused)), and lets them pass. Use it to
    /// try a limit on real traffic.
    ///
    /// Calls within the limit take their tokens. The others take none, but add to the debt of a limit that [counts
    /// refused calls](RateLimit::count_refused). No call waits for tokens. If a distributed limit asks its store, the
    /// call still waits for the answer. Put a shadow limit last among [combined](RateLimit::and) limits, where it
    /// counts only calls that the others admit.
    pub fn shadow(self) -> Self {
        let shadow = Shadow::default();
        shadow.set(true);
        Self { shadow, ..self }
    }

    /// Returns a handle that counts the calls that this limit refuses. All clones of the limit, and all layers and
    /// stacks made from it, count together.
    pub fn refused(&self) -> RefusedCalls {
        self.refused.clone()
    }

    /// Admits a call, refuses it or lets it wait. The permit is `None` if the call passes in shadow without tokens.
    #[inline]
    pub(super) fn decide<Request>(
        &self,
        request: &Request,
        frame: &mut Frame,
    ) -> Decision<Option<L::Permit>, L::Place, RateLimited>
    where
        L: Limit<Request>,
        C: Cost<Request>,
    {
        let tokens = self.cost.tokens(request, frame);
        match self.limit.admit(request, tokens, frame) {
            Decision::Admitted(permit) => Decision::Admitted(Some(permit)),
            Decision::Waits(mut place) if self.shadow.is_on() && !L::ASKS => {
                self.limit.leave(&mut place, frame);
                self.refused.count_in_shadow();
                Decision::Admitted(None)
            }
            Decision::Waits(place) => Decision::Waits(place),
            Decision::Refused(_) if self.shadow.is_on() => {
                self.refused.count_in_shadow();
                Decision::Admitted(None)
            }
            Decision::Refused(refused) => Decision::Refused(self.refuse(refused)),
        }
    }

    /// Returns whether a call would be refused at `due`. A limit in shadow refuses no call.
    pub(super) fn would_refuse<Request>(&self, request: &Request, due: Instant, frame: &mut Frame) -> bool
    where
        L: Limit<Request>,
        C: Cost<Request>,
    {
        if self.shadow.is_on() {
            return false;
        }
        let tokens = self.cost.tokens(request, frame);
        self.limit.would_refuse(request, tokens, due, frame)
    }

    /// Admits or refuses a call that has waited.
    pub(super) fn admit_waited<Permit>(
        &self,
        verdict: Result<Permit, RateLimited>,
    ) -> Result<Option<Permit>, RateLimited> {
        match verdict {
            Ok(permit) => Ok(Some(permit)),
            Err(_) if self.shadow.is_on() => {
                self.refused.count_in_shadow();
                Ok(None)
            }
            Err(refused) => Err(self.refuse(refused)),
        }
    }

    /// Counts a refusal. Adds the limit's name, unless the refusal already names one of the combined limits.
    #[cold]
    pub(super) fn refuse(&self, refused: RateLimited) -> RateLimited {
        self.refused.count();
        match self.name {
            Some(name) if refused.limit().is_none() => refused.named(name),
            _ => refused,
        }
    }

    #[inline]
    pub(super) fn give_back<Request>(&self, permit: Option<L::Permit>, frame: &mut Frame)
    where
        L: Limit<Request>,
    {
        if let Some(permit) = permit {
            self.limit.refund(permit, frame);
        }
    }
}

impl<L, C> RateLimit<L, C> {
    /// Combines two limits: a call passes if both have enough tokens, and otherwise takes none of either. Chain `and`
    /// to combine more limits: 10 per second, 1,000 per hour and a megabyte per second, each with its own cost.
    ///
    /// A refusal carries the name and the time of the first limit that refuses. Put the limit with the longest period
    /// first. Its times are mostly the longest. A caller that comes back after such a time mostly finds tokens of the
    /// other limits, too. A call that the second limit refuses holds the tokens of the first limit for a moment. During
    /// that moment another call may be refused for lack of them.
    ///
    /// Each part has its own cost, and the whole has no [`cost`](RateLimit::cost). Refunds belong to the whole: call
    /// [`refund_if`](Self::refund_if) last. A limit that lets calls [`wait`](RateLimit::wait), or makes them wait for a
    /// store, cannot be a part. A waiting call would hold the tokens of the other parts. Calling a stack with such a
    /// part does not compile, because the part's [`Place`](Limit::Place) is not `Infallible`.
    pub fn and<M, D>(self, other: RateLimit<M, D>) -> RateLimit<Both<Self, RateLimit<M, D>>, CostsOfParts> {
        RateLimit {
            limit: Both { first: self, second: other },
            cost: CostsOfParts,
            refund_if: AllCount,
            name: None,
            shadow: Shadow::default(),
            refused: RefusedCalls::default(),
        }
    }
}

impl<L, C, J> RateLimit<L, C, J> {
    /// Replaces the limit.
    pub(super) fn map<M>(self, change: impl FnOnce(L) -> M) -> RateLimit<M, C, J> {
        let Self { limit, cost, refund_if, name, shadow, refused } = self;
        RateLimit { limit: change(limit), cost, refund_if, name, shadow, refused }
    }
}

impl<L: DescribeLimit, C, J> RateLimit<L, C, J> {
    pub(super) fn describe(&self) -> String {
        let limit = self.limit.describe();
        let named = self.name.map_or(limit.clone(), |name| format!("{name}: {limit}"));
        if self.shadow.is_on() { format!("{named} (shadow)") } else { named }
    }

    /// Adds the instruments of the limit. They use `name` if the limit has no name of its own.
    pub(super) fn instruments(&self, name: &'static str, explanation: &mut Explanation) {
        self.limit.instruments(self.name.unwrap_or(name), explanation);
        explanation.instrument(self.refused());
    }

    pub(super) fn longest_wait(&self) -> Duration {
        if self.shadow.is_on() { self.limit.longest_wait_in_shadow() } else { self.limit.longest_wait() }
    }
}

impl<L: RefusesNow, C, J> RefusesNow for RateLimit<L, C, J> {
    fn refuses_now(&self, frame: &mut Frame) -> bool {
        !self.shadow.is_on() && self.limit.refuses_now(frame)
    }
}

impl From<TokenBucket> for RateLimit {
    fn from(bucket: TokenBucket) -> Self {
        Self::new(bucket)
    }
}

impl From<SlidingWindow> for RateLimit<SlidingWindow> {
    fn from(window: SlidingWindow) -> Self {
        Self::new(window)
    }
}

/// Limits the rate of calls, as a tower layer. See the [module](super).
///
/// The layer keeps the service's error type, which must be `From<Rejection>`. [`typed_error`](StackLayer::typed_error)
/// and [`respond_with`](StackLayer::respond_with) change that.
#[doc(alias("RateLimiterLayer", "GovernorLayer", "throttle"))]
pub type RateLimitLayer<L = TokenBucket, C = OneToken, J = AllCount, X = KeepError> =
    StackLayer<AdmissionStage<RateLimit<L, C, J>, Leaf>, X>;

impl<L, C, J> RateLimitLayer<L, C, J> {
    /// Makes a layer with this limit: a [`TokenBucket`], a [`SlidingWindow`] or a [`RateLimit`].
    pub fn new(limit: impl Into<RateLimit<L, C, J>>) -> Self {
        StackLayer::from_stages(AdmissionStage::with(limit.into(), Leaf::default()), KeepError)
    }
}
