use std::{fmt, time::Duration};

/// A limit that a closure chooses for each request. Use it if requests need different times: a report takes longer than
/// a lookup.
///
/// Pass it to [`TimeoutLayer::by`](super::TimeoutLayer::by), or to `timeout` and `attempt_timeout` of a stack.
///
/// - `None` sets no limit in this layer. A deadline that the call inherits still ends it.
/// - A limit of zero refuses the call before it begins. A limit longer than any timer acts as no limit.
/// - The closure runs when the call begins, before the inner stages see the request. For an attempt timeout it runs
///   once for each attempt. If the configuration of a live stack changes while a call or attempt starts, the closure
///   may run again. A call whose deadline has passed is refused before the closure runs.
/// - The time that the closure takes is not part of the limit. If it panics, outer stages get back their permits and
///   tokens, as if the request was refused.
/// - A call costs one run of the closure and one clock reading after it. A dropped call leaves nothing behind.
/// - A configuration cannot set the limit. [`Control::apply`](crate::stack::live::Control::apply) refuses a
///   configuration that sets it.
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
    /// Makes a limit from a closure: `|request: &Request| -> Option<Duration>`.
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
