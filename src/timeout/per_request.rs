use std::{fmt, time::Duration};

/// A limit that a closure chooses for each request, where requests need different times: a report longer than a lookup.
///
/// It takes the place of a duration in [`TimeoutLayer::by`](super::TimeoutLayer::by), and in `timeout` and
/// `attempt_timeout` of the stacks.
///
/// - `None` is no limit of this layer. A deadline that the call inherits still ends it.
/// - A limit of zero refuses the call before it begins. One beyond all timers is as good as none.
/// - The closure runs where the call begins, before the stages further in see the request; for an attempt timeout, once
///   for each attempt. A change of a live stack that overtakes the call asks again. A call whose deadline has passed is
///   refused before the closure runs.
/// - The time of the closure is not part of the limit. If it panics, what the stages further out took for the call is
///   given back, as where the request is refused.
/// - A configuration cannot set the limit. [`Control::apply`](crate::stack::live::Control::apply) refuses one that
///   names it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::{convert::Infallible, time::Duration};
/// use steadfast::timeout::PerRequest;
/// use tower::{ServiceExt, service_fn};
///
/// let by_path = PerRequest::new(|path: &&str| {
///     Some(Duration::from_millis(if path.starts_with("/reports/") { 30_000 } else { 250 }))
/// });
/// let service = steadfast::client().timeout(by_path).service(service_fn(async |path: &'static str| {
///     tokio::time::sleep(Duration::from_secs(5)).await;
///     Ok::<_, Infallible>(path)
/// }))?;
/// assert_eq!(service.clone().oneshot("/reports/2026").await?, "/reports/2026");
/// let error = service.oneshot("/users/7").await.unwrap_err();
/// assert!(error.to_string().contains("no answer within 250 ms"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy)]
pub struct PerRequest<F>(F);

impl<F> PerRequest<F> {
    /// Limits that this closure chooses: `|request: &Request| -> Option<Duration>`.
    pub fn new<Request>(limit: F) -> Self
    where
        F: Fn(&Request) -> Option<Duration>,
    {
        Self(limit)
    }

    #[inline]
    pub(super) fn choose<Request>(&self, request: &Request) -> Option<Duration>
    where
        F: Fn(&Request) -> Option<Duration>,
    {
        (self.0)(request)
    }
}

impl<F> fmt::Debug for PerRequest<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PerRequest").finish_non_exhaustive()
    }
}
