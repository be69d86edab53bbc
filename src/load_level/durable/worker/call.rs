//! One call of the service, and the verdict on its message.

use super::super::{error::BoxError, message::Delivery};
use crate::{
    error::{QueueFullCause, Rejection, chain},
    sync::{Mutex, lock},
};
use std::{
    any::Any,
    error::Error,
    future::{Future, poll_fn},
    marker::PhantomData,
    sync::Arc,
    time::Duration,
};
use tower::Service;

/// The result of a call.
#[derive(Debug)]
pub(super) enum Verdict {
    Succeeded,
    Failed {
        reason: String,
    },
    /// Rejected by the service or a layer around it, before any work was done: not a try.
    Rejected {
        retry_after: Option<Duration>,
        /// Whether the worker begins no call for a while, because the service takes no calls now.
        pauses_worker: bool,
    },
    /// The message cannot be decoded. Another try would fail in the same way.
    Undecodable {
        reason: String,
    },
}

/// Makes the calls of a worker.
pub(super) trait Caller: Send + Sync + 'static {
    /// Decodes the message, and calls the service with it.
    fn call(&self, delivery: Delivery) -> impl Future<Output = Verdict> + Send;
}

/// The service of a worker, and the function that decodes its requests.
pub(super) struct Target<Decode, S, T, E> {
    pub(super) decode: Arc<Decode>,
    pub(super) service: Arc<Mutex<S>>,
    pub(super) decodes_to: PhantomData<fn() -> Result<T, E>>,
}

impl<Decode, S, T, E> Caller for Target<Decode, S, T, E>
where
    Decode: Fn(Delivery) -> Result<T, E> + Send + Sync + 'static,
    T: Send + 'static,
    E: Into<BoxError> + 'static,
    S: Service<T> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    async fn call(&self, delivery: Delivery) -> Verdict {
        let request = match (self.decode)(delivery) {
            Ok(request) => request,
            Err(error) => return Verdict::Undecodable { reason: format!("undecodable: {}", chain(&*error.into())) },
        };
        // The service is cloned here, so that a panic of `clone` is in the task of the call.
        let mut service = lock(&self.service).clone();
        let ready = poll_fn(|cx| service.poll_ready(cx)).await.map_err(|error| Verdict::of(&*error.into()));
        if let Err(verdict) = ready {
            return verdict;
        }
        match service.call(request).await {
            Ok(_) => Verdict::Succeeded,
            Err(error) => Verdict::of(&*error.into()),
        }
    }
}

impl Verdict {
    fn of(error: &(dyn Error + 'static)) -> Self {
        match rejection(error) {
            Some(rejection) if comes_again(rejection) => Self::Rejected {
                retry_after: rejection.retry_after(),
                pauses_worker: !matches!(rejection, Rejection::RateLimited(_) | Rejection::TimedOut(_)),
            },
            _ => Self::Failed { reason: chain(error) },
        }
    }

    pub(super) fn of_panic(payload: &(dyn Any + Send)) -> Self {
        let text =
            payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(|text| &**text));
        Self::Failed { reason: format!("panicked: {}", text.unwrap_or("without a message")) }
    }
}

/// Returns the first rejection among the error and its sources.
fn rejection<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Rejection> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(rejection) = error.downcast_ref() {
            return Some(rejection);
        }
        next = error.source();
    }
    None
}

/// Returns whether the same call may be admitted later, and no work has been done yet.
fn comes_again(rejection: &Rejection) -> bool {
    let never = match rejection {
        // The call costs more than the limit ever allows at once, or its key is too long.
        Rejection::RateLimited(details) => details.retry_after().is_none(),
        Rejection::QueueFull(details) => details.cause() == QueueFullCause::TooHeavy,
        _ => false,
    };
    !never && !rejection.reached_service()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Closed, Overloaded, QueueFull, RateLimited, TimedOut};

    #[test]
    fn only_a_rejected_call_that_may_be_admitted_later_does_not_count_as_a_try() {
        let second = Some(Duration::from_secs(1));
        let rejections: [(Rejection, bool); 8] = [
            (Overloaded::new(3, None).into(), true),
            (RateLimited::new(second).into(), true),
            (RateLimited::new(None).into(), false),
            (QueueFull::new(QueueFullCause::TooHeavy, 1, None).into(), false),
            // This process stops, and another one takes the message.
            (Closed::queue().into(), true),
            (RateLimited::closed().into(), true),
            (TimedOut::new(second, true).into(), false),
            (TimedOut::new(second, false).into(), true),
        ];
        for (rejection, comes_again) in rejections {
            let error = crate::error::Error::<std::fmt::Error>::Rejected(rejection.clone());
            assert_eq!(matches!(Verdict::of(&error), Verdict::Rejected { .. }), comes_again, "{rejection}");
        }
    }

    #[test]
    fn the_reason_names_all_sources() {
        let error = crate::error::Error::Service(std::fmt::Error);
        let Verdict::Failed { reason } = Verdict::of(&error) else { panic!("a failure") };
        assert!(reason.starts_with("the service failed: an error occurred"), "{reason}");
    }
}
