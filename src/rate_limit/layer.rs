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

/// A limit on the rate of calls: where the tokens come from, what each call costs, and what becomes of a call for which
/// there are too few. See the [module](super).
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
    /// Each call costs one token of this [`Limit`], and is refused where there is none.
    pub fn new(limit: L) -> Self {
        let refused = RefusedCalls::default();
        Self { limit, cost: OneToken, refund_if: AllCount, name: None, shadow: Shadow::default(), refused }
    }
}

impl<L, J> RateLimit<L, OneToken, J> {
    /// Each call costs what `cost` says of its request, in tokens. A call that costs nothing passes; one that costs
    /// more than the burst is refused for ever.
    ///
    /// It runs once per attempt, before the call is admitted. It runs once more before a [retry](crate::retry) further
    /// out waits, to find out whether there will be enough tokens.
    ///
    /// `cost` is a closure or function `Fn(&Request) -> u64`. A closure names the type of its parameter:
    /// `|order: &Order|`, or `|order: &&Order|` where the request is itself a reference.
    pub fn cost<F>(self, cost: F) -> RateLimit<L, CostBy<F>, J> {
        let Self { limit, cost: OneToken, refund_if, name, shadow, refused } = self;
        RateLimit { limit, cost: CostBy(cost), refund_if, name, shadow, refused }
    }
}

impl<L, C, J> RateLimit<L, C, J> {
    /// Gives the tokens of a call back if `need_not_count` is true of the service's answer: a `304 Not Modified`, say.
    ///
    /// It runs when the service has answered. Default: whatever reached the service counts.
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

    /// Names the limit in its refusals: [`RateLimited::limit`]. Of [several](RateLimit::and) each has its own name, and
    /// one without has that of the whole. Default: no name.
    pub fn named(self, name: &'static str) -> Self {
        Self { name: Some(name), ..self }
    }

    /// Only counts what it would refuse ([`refused`](Self::refused)), and lets it pass. Calls that are within the limit
    /// take their tokens as ever, the others take none; no call waits, but for a store that has to be asked. To see
    /// what a limit would do before it does it.
    ///
    /// Among [several](RateLimit::and) it belongs at the end, where it sees the calls that the others admit.
    pub fn shadow(self) -> Self {
        let shadow = Shadow::default();
        shadow.set(true);
        Self { shadow, ..self }
    }

    /// A handle that counts the calls that this limit refuses. Clones of the limit, and all layers and stacks that are
    /// made of it, count together.
    pub fn refused(&self) -> RefusedCalls {
        self.refused.clone()
    }

    /// Admits a call, or not. `None` is what a call has taken that is let through beyond the rate.
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

    /// Whether a call would be refused at `due`. In shadow none is.
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

    /// What becomes of a call that has waited.
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

    /// Counts a refusal, and gives it the limit's name.
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
    /// Both limits at once: a call passes if there are enough tokens of each, and otherwise takes none of either. Chain
    /// it for more: ten per second, a thousand per hour and a megabyte per second, each with a cost of its own.
    ///
    /// A refusal names the first limit that refuses, and the time of that one. So the limit with the longest period
    /// comes first: a caller that comes back at that time is then not refused by another. A call that is refused by the
    /// second limit has the tokens of the first for a moment, in which another may be refused for the lack of them.
    ///
    /// Each part has its own cost of a call, and the whole has no [`cost`](RateLimit::cost). Which calls need not count
    /// is a question to the whole: [`refund_if`](Self::refund_if) comes last. Limits that [`wait`](RateLimit::wait)
    /// cannot be parts: while a call waited for one, it would hold the tokens of the others. A stack with such a part
    /// does not compile where it is called: its places are not `Infallible`.
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
    /// Puts another limit in the place of this one.
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

    /// Adds what can be read of it. A limit without a name has that of the whole of which it is a part.
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
/// The service's error type is kept and must be `From<Rejection>`; [`typed_error`](StackLayer::typed_error) and
/// [`respond_with`](StackLayer::respond_with) choose otherwise.
pub type RateLimitLayer<L = TokenBucket, C = OneToken, J = AllCount, X = KeepError> =
    StackLayer<AdmissionStage<RateLimit<L, C, J>, Leaf>, X>;

impl<L, C, J> RateLimitLayer<L, C, J> {
    /// A layer with this limit: a [`TokenBucket`], or a [`RateLimit`].
    pub fn new(limit: impl Into<RateLimit<L, C, J>>) -> Self {
        StackLayer::from_stages(AdmissionStage::with(limit.into(), Leaf::default()), KeepError)
    }
}
