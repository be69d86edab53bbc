use super::Frame;

/// Writes to the request of each attempt, just before the service is called. It can write a header with the deadline,
/// the number of the attempt, or an idempotency key.
///
/// [`ClientBuilder::stamp`](crate::stack::ClientBuilder::stamp) and [`Leaf::stamp`](super::Leaf::stamp) take a stamp.
/// When the stamp writes, the service is ready, so the call leaves at once. In a stack of a builder,
/// [`CallContext::current`](crate::CallContext::current) then returns the context of the attempt. Each attempt has its
/// own copy of the request, so the next attempt does not see the stamp.
///
/// A panic in the stamp ends the attempt before the service receives it. A stack without a stamp has no cost for it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::{io, time::Duration};
/// use steadfast::{CallContext, retry::Retry, shell::{Frame, Stamp}};
/// use tower::{ServiceExt, service_fn};
///
/// #[derive(Clone, Default)]
/// struct Ask { attempt: u32, within: Option<Duration> }
///
/// struct Headers;
///
/// impl Stamp<Ask> for Headers {
///     fn stamp(&self, ask: &mut Ask, frame: &mut Frame) {
///         let context = CallContext::current();
///         ask.attempt = context.attempt();
///         ask.within = context.deadline().map(|deadline| deadline - frame.now());
///     }
/// }
///
/// let service = steadfast::client()
///     .retry(Retry::new(2).without_budget())
///     .attempt_timeout(Duration::from_millis(600))
///     .stamp(Headers)
///     .service(service_fn(async |ask: Ask| if ask.attempt == 0 { Err(io::Error::other("down")) } else { Ok(ask) }))?;
/// let sent = service.oneshot(Ask::default()).await?;
/// assert_eq!((sent.attempt, sent.within), (1, Some(Duration::from_millis(600))));
/// # Ok(())
/// # }
/// ```
pub trait Stamp<Request> {
    /// Writes to the request. [`Frame::now`] reads the clock at that time.
    fn stamp(&self, request: &mut Request, frame: &mut Frame);
}

/// Does not change requests. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoStamp;

impl<Request> Stamp<Request> for NoStamp {
    #[inline]
    fn stamp(&self, _request: &mut Request, _frame: &mut Frame) {}
}
