use crate::shell::Frame;

/// When a request may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Repeat {
    /// After each ending that justifies another attempt: processing the request twice does no harm.
    Always,
    /// Only if the service provably did not process the request
    /// ([`Outcome::Unprocessed`](crate::Outcome::Unprocessed)), or an inner layer refused it and the retry [waits for
    /// refusals](super::Retry::wait_for_refusals).
    IfUnprocessed,
}

/// Decides which requests may be sent again, and creates the requests of further attempts.
///
/// Pass it to [`Retry::replay_by`](super::Retry::replay_by). The default sends clones of every request.
///
/// # Cancellation
///
/// The retry drops the kept value when the call ends or is dropped, unless the last attempt has already taken it: see
/// [`last`](Self::last).
///
/// # Cost
///
/// `keep` runs once for each call that may have more than one attempt. If the configuration of a live stack changes
/// while the call starts, `keep` may run again. The other methods run only between attempts.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::{Arc, atomic::{AtomicU32, Ordering}};
/// use steadfast::{Error, Outcome, retry::{Repeat, Replay, Retry}, shell::Frame};
/// use tower::{ServiceExt, service_fn};
///
/// /// Not `Clone`: a large body that is shared, not copied.
/// struct Upload(Arc<[u8]>);
///
/// /// Sends an upload again if the service did not process it.
/// struct ShareBody;
///
/// impl Replay<Upload> for ShareBody {
///     type Kept = Upload;
///
///     fn keep(&self, upload: Upload, _: &mut Frame) -> (Upload, Option<(Repeat, Upload)>) {
///         let kept = Upload(upload.0.clone());
///         (upload, Some((Repeat::IfUnprocessed, kept)))
///     }
///
///     fn look<'kept>(&self, kept: &'kept Upload) -> Option<&'kept Upload> {
///         Some(kept)
///     }
///
///     fn copy(&self, kept: &Upload, _: &mut Frame) -> Option<Upload> {
///         Some(Upload(kept.0.clone()))
///     }
///
///     fn last(&self, kept: Upload, _: &mut Frame) -> Upload {
///         kept
///     }
/// }
///
/// static CALLS: AtomicU32 = AtomicU32::new(0);
/// let service = steadfast::client()
///     .retry(Retry::new(5).replay_by(ShareBody).without_budget())
///     .classify(|answer: Result<&usize, &&str>| match answer {
///         Ok(_) => Outcome::Success,
///         Err(&"no connection") => Outcome::Unprocessed { retry_after: None },
///         Err(_) => Outcome::Failure,
///     })
///     .service(service_fn(async |upload: Upload| match CALLS.fetch_add(1, Ordering::Relaxed) {
///         0 => Err("no connection"),
///         1 => Err("connection reset"),
///         _ => Ok(upload.0.len()),
///     }))?;
/// // The first attempt never reached the service. The service may have processed the second one.
/// let error = service.oneshot(Upload(Arc::from(vec![0; 100]))).await.unwrap_err();
/// assert_eq!(error, Error::Service("connection reset"));
/// # Ok(())
/// # }
/// ```
pub trait Replay<Request> {
    /// The value that is kept of a request for further attempts.
    type Kept;

    /// Runs before the first attempt. Returns the request to send, and the value to keep for further attempts, or
    /// `None` if the request must never be sent twice.
    fn keep(&self, request: Request, frame: &mut Frame) -> (Request, Option<(Repeat, Self::Kept)>);

    /// Returns the request of a further attempt as the inner layers will see it. The retry asks these layers whether
    /// they would refuse the request, unless it [waits for refusals](super::Retry::wait_for_refusals). `None` if no
    /// further attempt is possible: then the caller gets the last answer.
    fn look<'kept>(&self, kept: &'kept Self::Kept) -> Option<&'kept Request>;

    /// Runs before each further attempt except the last possible one. Returns a copy of the kept request. `None` if
    /// there can be no other copy: then this attempt is the [last](Self::last).
    fn copy(&self, kept: &Self::Kept, frame: &mut Frame) -> Option<Request>;

    /// Runs before the last possible attempt, and when [`copy`](Self::copy) has returned `None`. Returns the kept
    /// request.
    fn last(&self, kept: Self::Kept, frame: &mut Frame) -> Request;
}

/// Sends clones of every request. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct CloneRequest;

/// Sends clones of the requests that may be repeated: [`Retry::replay_if`](super::Retry::replay_if).
#[derive(Clone, Copy, Debug)]
pub struct ReplayIf<F>(pub(super) F);

/// Copies requests with a function: [`Retry::replay_with`](super::Retry::replay_with).
#[derive(Clone, Copy, Debug)]
pub struct ReplayWith<F>(pub(super) F);

/// The possible results of a function that decides whether a request may be sent again.
pub trait MayRepeat {
    /// Returns when the request may be sent again; `None` for never.
    fn repeat(self) -> Option<Repeat>;
}

impl MayRepeat for bool {
    #[inline]
    fn repeat(self) -> Option<Repeat> {
        self.then_some(Repeat::Always)
    }
}

impl MayRepeat for Repeat {
    #[inline]
    fn repeat(self) -> Option<Repeat> {
        Some(self)
    }
}

impl MayRepeat for Option<Repeat> {
    #[inline]
    fn repeat(self) -> Option<Repeat> {
        self
    }
}

impl<Request: Clone> Replay<Request> for CloneRequest {
    type Kept = Request;

    #[inline]
    fn keep(&self, request: Request, _frame: &mut Frame) -> (Request, Option<(Repeat, Request)>) {
        let kept = request.clone();
        (request, Some((Repeat::Always, kept)))
    }

    #[inline]
    fn look<'kept>(&self, kept: &'kept Request) -> Option<&'kept Request> {
        Some(kept)
    }

    fn copy(&self, kept: &Request, _frame: &mut Frame) -> Option<Request> {
        Some(kept.clone())
    }

    fn last(&self, kept: Request, _frame: &mut Frame) -> Request {
        kept
    }
}

impl<Request: Clone, M: MayRepeat, F: Fn(&Request) -> M> Replay<Request> for ReplayIf<F> {
    type Kept = Request;

    fn keep(&self, request: Request, _frame: &mut Frame) -> (Request, Option<(Repeat, Request)>) {
        let kept = (self.0)(&request).repeat().map(|repeat| (repeat, request.clone()));
        (request, kept)
    }

    fn look<'kept>(&self, kept: &'kept Request) -> Option<&'kept Request> {
        Some(kept)
    }

    fn copy(&self, kept: &Request, _frame: &mut Frame) -> Option<Request> {
        Some(kept.clone())
    }

    fn last(&self, kept: Request, _frame: &mut Frame) -> Request {
        kept
    }
}

impl<Request, F: Fn(&Request) -> Option<Request>> Replay<Request> for ReplayWith<F> {
    type Kept = Request;

    fn keep(&self, request: Request, _frame: &mut Frame) -> (Request, Option<(Repeat, Request)>) {
        let kept = (self.0)(&request).map(|kept| (Repeat::Always, kept));
        (request, kept)
    }

    fn look<'kept>(&self, kept: &'kept Request) -> Option<&'kept Request> {
        Some(kept)
    }

    fn copy(&self, kept: &Request, _frame: &mut Frame) -> Option<Request> {
        (self.0)(kept)
    }

    fn last(&self, kept: Request, _frame: &mut Frame) -> Request {
        kept
    }
}
