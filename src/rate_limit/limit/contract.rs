use crate::{
    error::RateLimited,
    shell::{Decision, Explanation, Frame},
};
use std::{
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Instant;

/// The source of a rate limit's tokens: a [`TokenBucket`](crate::rate_limit::TokenBucket), a
/// [`SlidingWindow`](crate::rate_limit::SlidingWindow), a bucket for each key, several combined limits, or a type of
/// your own.
///
/// A limit that admits or refuses at once implements [`admit`](Self::admit) and [`refund`](Self::refund), and its
/// [`Place`](Self::Place) is [`Infallible`](std::convert::Infallible).
/// [`RateLimit::new`](crate::rate_limit::RateLimit::new) makes a rate limit from it. A stack also requires
/// [`DescribeLimit`], and a [live stack](crate::stack::live) requires [`LiveLimit`](crate::rate_limit::LiveLimit).
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::{convert::Infallible, future::ready, sync::{Arc, Mutex}, time::Duration};
/// use steadfast::{ConfigError, error::RateLimited};
/// use steadfast::rate_limit::{DescribeLimit, Limit, LiveLimit, Quota, RateLimit};
/// use steadfast::shell::{Decision, Frame};
/// use steadfast::stack::live::{RateLimitConfig, StackConfig};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// /// Admits a fixed number of calls, until an operator allows more.
/// #[derive(Clone)]
/// struct Trial(Arc<Mutex<(u64, u64)>>);
///
/// impl<Request> Limit<Request> for Trial {
///     type Permit = u64;
///     type Place = Infallible;
///
///     fn admit(&self, _: &Request, tokens: u64, _: &mut Frame) -> Decision<u64, Infallible, RateLimited> {
///         let (most, taken) = &mut *self.0.lock().unwrap();
///         if tokens > most.saturating_sub(*taken) {
///             return Decision::Refused(RateLimited::new(None));
///         }
///         *taken += tokens;
///         Decision::Admitted(tokens)
///     }
///
///     fn refund(&self, tokens: u64, _: &mut Frame) {
///         self.0.lock().unwrap().1 -= tokens;
///     }
/// }
///
/// impl DescribeLimit for Trial {
///     fn describe(&self) -> String {
///         format!("{} calls in all", self.0.lock().unwrap().0)
///     }
/// }
///
/// impl LiveLimit for Trial {
///     fn handle(&self) -> Box<dyn LiveLimit + Send + Sync> {
///         Box::new(self.clone())
///     }
///
///     fn quotas(&self) -> Vec<Quota> {
///         vec![Quota::new(self.0.lock().unwrap().0, Duration::from_secs(1))]
///     }
///
///     fn check_quotas(&self, quotas: &[Quota]) -> Result<(), ConfigError> {
///         match quotas {
///             [_] => Ok(()),
///             _ => Err(ConfigError::new("rate_limit.quotas", quotas.len(), "must be one")),
///         }
///     }
///
///     fn set_quotas(&self, quotas: &[Quota]) {
///         self.0.lock().unwrap().0 = quotas[0].count();
///     }
/// }
///
/// let trial = Trial(Arc::new(Mutex::new((1, 0))));
/// let (layer, control) = steadfast::server().rate_limit(RateLimit::new(trial)).live()?;
/// let service = layer.layer(service_fn(|n: u32| ready(Ok::<_, Infallible>(n))));
/// assert!(service.clone().oneshot(7).await.is_ok());
/// assert!(service.clone().oneshot(7).await.is_err());
///
/// let more = RateLimitConfig::new([Quota::new(2, Duration::from_secs(1))]);
/// control.apply(&StackConfig { rate_limit: vec![more], ..StackConfig::default() })?;
/// assert!(service.oneshot(7).await.is_ok());
/// # Ok(())
/// # }
/// ```
pub trait Limit<Request> {
    /// Whether calls may wait. If so, [`admit`](Self::admit) may read the deadline of the call from the frame.
    const WAITS: bool = false;

    /// Whether calls wait for a store's decision, not for tokens. Such calls also wait in
    /// [shadow](crate::rate_limit::RateLimit::shadow), because only the decision says whether they would be refused.
    const ASKS: bool = false;

    /// The tokens of an admitted call. The stage drops the permit of a call that counts, which spends the tokens. The
    /// stage passes any other permit to [`refund`](Self::refund), once. A permit therefore needs no destructor.
    type Permit;

    /// The place of a call that waits. [`poll`](Self::poll) or [`leave`](Self::leave) ends it exactly once, so it needs
    /// no destructor. [`Infallible`](std::convert::Infallible) if no call waits.
    type Place;

    /// Admits a call and takes all its tokens, makes the call wait, or refuses it.
    fn admit(
        &self,
        request: &Request,
        tokens: u64,
        frame: &mut Frame,
    ) -> Decision<Self::Permit, Self::Place, RateLimited>;

    /// Returns whether a call of this cost would be refused at `due`, as far as is known now. Changes nothing. An outer
    /// [retry](crate::retry) asks before its backoff.
    ///
    /// A limit that lets calls wait returns `true` for a call that would have to wait too long. Default: `false`.
    fn would_refuse(&self, _request: &Request, _tokens: u64, _due: Instant, _frame: &mut Frame) -> bool {
        false
    }

    /// Polls a place. On `Pending`, the implementation has registered the waker or called [`Frame::wake_at`]. On
    /// `Ready`, the place is gone. Not called if no call waits.
    fn poll(
        &self,
        _place: &mut Self::Place,
        _cx: &mut Context<'_>,
        _frame: &mut Frame,
    ) -> Poll<Result<Self::Permit, RateLimited>> {
        Poll::Ready(Err(RateLimited::new(None)))
    }

    /// Gives up a place. Tokens that were granted to it go back. Not called if no call waits.
    fn leave(&self, _place: &mut Self::Place, _frame: &mut Frame) {}

    /// Gives back the tokens of a call that was not made, or need not count.
    fn refund(&self, permit: Self::Permit, frame: &mut Frame);
}

/// Describes a limit for an [`Explanation`](crate::stack::Explanation).
pub trait DescribeLimit {
    /// Returns the description: the quota, or the limit and its window.
    fn describe(&self) -> String;

    /// Adds the instruments of the limit, with `name` for the label `limit`: see [`Explanation::instrument`].
    ///
    /// Default: nothing.
    fn instruments(&self, _name: &'static str, _explanation: &mut Explanation) {}

    /// Returns the longest wait of a call.
    fn longest_wait(&self) -> Duration {
        Duration::ZERO
    }

    /// Returns the longest wait of a call in [shadow](crate::rate_limit::RateLimit::shadow).
    fn longest_wait_in_shadow(&self) -> Duration {
        Duration::ZERO
    }
}
