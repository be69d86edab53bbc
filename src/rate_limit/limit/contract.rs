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
/// [`SlidingWindow`](crate::rate_limit::SlidingWindow), a bucket for each key, several of them; or one of your own. One
/// that refuses at once implements [`admit`](Self::admit) and [`refund`](Self::refund), and its place is
/// [`Infallible`](std::convert::Infallible).
///
/// [`RateLimit::new`](crate::rate_limit::RateLimit::new) makes a rate limit of it. A stack asks for [`DescribeLimit`],
/// and a [live stack](crate::stack::live) for [`LiveLimit`](crate::rate_limit::LiveLimit).
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
/// /// A fixed number of calls, until an operator allows more.
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
    /// Whether calls may wait here, and [`admit`](Self::admit) reads their deadline from the frame.
    const WAITS: bool = false;

    /// Whether calls wait for a decision, not for tokens: the limit asks a store. Such calls wait in
    /// [shadow](crate::rate_limit::RateLimit::shadow), too, since only the decision says whether they would be refused.
    const ASKS: bool = false;

    /// The tokens of an admitted call. The permit is kept or refunded exactly once, so it needs no destructor.
    type Permit;

    /// The place of a call that waits. It ends by [`poll`](Self::poll) or [`leave`](Self::leave), exactly once, so it
    /// needs no destructor. [`Infallible`](std::convert::Infallible) where no call waits.
    type Place;

    /// Takes tokens for a call, all or none, or says that it has to wait.
    fn admit(
        &self,
        request: &Request,
        tokens: u64,
        frame: &mut Frame,
    ) -> Decision<Self::Permit, Self::Place, RateLimited>;

    /// Whether a call of this cost would be refused at `due`, as far as can be known now. Nothing changes by asking. A
    /// [retry](crate::retry) further out asks before it waits.
    ///
    /// A limit that lets calls wait refuses those that would have to wait too long. Default: `false`.
    fn would_refuse(&self, _request: &Request, _tokens: u64, _due: Instant, _frame: &mut Frame) -> bool {
        false
    }

    /// Asks for a place. On `Pending` the waker is registered, or [`Frame::wake_at`] was asked; on `Ready` the place is
    /// gone. Not called where no call waits.
    fn poll(
        &self,
        _place: &mut Self::Place,
        _cx: &mut Context<'_>,
        _frame: &mut Frame,
    ) -> Poll<Result<Self::Permit, RateLimited>> {
        Poll::Ready(Err(RateLimited::new(None)))
    }

    /// Gives up a place, and what was granted to it meanwhile. Not called where no call waits.
    fn leave(&self, _place: &mut Self::Place, _frame: &mut Frame) {}

    /// Gives back what was taken for a call that then was not made, or need not count.
    fn refund(&self, permit: Self::Permit, frame: &mut Frame);
}

/// Says in words what a limit allows, for [`Explanation`](crate::stack::Explanation).
pub trait DescribeLimit {
    /// The text: the quota, or the limit and its window.
    fn describe(&self) -> String;

    /// Adds what the limit lets others read, with `name` for the label `limit`: see [`Explanation::instrument`].
    ///
    /// Default: nothing.
    fn instruments(&self, _name: &'static str, _explanation: &mut Explanation) {}

    /// The longest that a call waits here.
    fn longest_wait(&self) -> Duration {
        Duration::ZERO
    }

    /// The longest that a call waits here in [shadow](crate::rate_limit::RateLimit::shadow).
    fn longest_wait_in_shadow(&self) -> Duration {
        Duration::ZERO
    }
}
