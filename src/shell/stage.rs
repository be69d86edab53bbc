use super::{Callee, Frame};
use crate::classify::Outcome;
use crate::error::{Error, Rejection};
use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Instant;
use tower::Service;

/// How a call passes through one mechanism.
///
/// Stages nest as plain structs: each holds the `next` inner stage and passes the call on by reference. The
/// [module](super) says who calls what, and when.
pub trait Stage<S, Request>
where
    S: Service<Request>,
{
    /// Whether this stage, or an inner one, reads the deadline from the frame's context in [`start`](Self::start). If
    /// none does, a timeout need not read the clock for a call that is answered in its first poll.
    const READS_DEADLINE: bool;

    /// The state of one call in this stage and all inner stages: permits, deadlines, and the request until the service
    /// is called. It moves once per stage, so keep it small; the service's future is in the [`Callee`].
    type Call;

    /// Admits the call, refuses it, or lets it wait for its turn. Runs once for each call, and inside a retry once for
    /// each attempt. After a [recall](super::Recall) it runs again. It does not run before the first poll of the
    /// response future. If the stage refuses, the state that `start` returns keeps the rejection, and the first
    /// [`poll`](Self::poll) returns it.
    fn start(&self, request: Request, frame: &mut Frame) -> Self::Call;

    /// Predicts whether this stage, or an inner one, would refuse an attempt with this request at `due`. A retry asks
    /// before its backoff, and ends the call at once if the answer is `true`. A retry that [waits for
    /// refusals](crate::retry::Retry::wait_for_refusals) does not ask.
    ///
    /// The prediction uses the current state and changes no state. A stage that would make the attempt wait for its
    /// turn returns `false`. A stage that runs a user's closure to make the prediction must also call
    /// [`Frame::user_code_runs`].
    ///
    /// Default: `false`. A stage around another one must ask the inner one. Otherwise an outer retry waits for an
    /// attempt that is then refused.
    fn would_refuse(&self, _request: &Request, _due: Instant, _frame: &mut Frame) -> bool {
        false
    }

    /// Drives the call. When it returns `Ready` the call has ended: the service's future has been dropped, and all
    /// permits have been returned, except those that [`Admission::keep`](super::Admission::keep) kept. After that
    /// neither `poll` nor `abandon` is called again. Before it returns `Pending` it registers a waker or calls
    /// [`Frame::wake_at`], unless an outer timeout ends the call in the same poll.
    fn poll(
        &self,
        call: Pin<&mut Self::Call>,
        callee: Pin<&mut Callee<S, S::Future>>,
        cx: &mut Context<'_>,
        frame: &mut Frame,
    ) -> Poll<Result<S::Response, Error<S::Error>>>;

    /// Ends a call that has not ended by itself: drops the service's future, then returns all permits. Called at most
    /// once, after `start`, and only if no `poll` has returned `Ready`. After a panic in a poll it is called with
    /// [`Abandonment::Cancelled`] when the response future is dropped, and finishes the cleanup.
    fn abandon(
        &self,
        call: Pin<&mut Self::Call>,
        callee: Pin<&mut Callee<S, S::Future>>,
        cause: Abandonment,
        frame: &mut Frame,
    );
}

/// Why a call is abandoned before it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Abandonment {
    /// The caller dropped the response future.
    Cancelled,
    /// An outer timeout ended the call or the attempt.
    TimedOut,
}

/// How a call or an attempt ended. The ending decides how each stage settles its permit, and whether a retry may
/// follow.
///
/// | ending | evidence about the service | tokens of the call |
/// |---|---|---|
/// | `Answered` | what the classifier said | spent |
/// | `TimedOut` | a failure | spent |
/// | `CutShort` | none | spent |
/// | `Refused` | none | refunded |
/// | `Cancelled` | see each mechanism | spent if the service was reached, else refunded |
/// | `Panicked` | a failure | spent |
///
/// A permit of a concurrency limit is returned after every ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ending {
    /// The service answered, or failed to become ready. The [`Outcome`] is the verdict of the classifier.
    ///
    /// [`Outcome::Ignored`] also stands for a call that a layer refused after an earlier attempt had reached the
    /// service. [`End::rejection`](super::End::rejection) has that refusal.
    Answered(Outcome),
    /// The service was called and did not answer in time.
    TimedOut,
    /// The service was called, and a deadline ended the attempt before it had half of its full time.
    ///
    /// The full time is the attempt timeout; without one, the timeout of the stack. An attempt has less if the caller's
    /// deadline is earlier, or if the attempt starts late in the call. The service is not to blame if it does not
    /// answer such an attempt. If no timeout of the stack has a limit, an attempt has no full time. It is then cut
    /// short whenever the caller's deadline ends it.
    CutShort,
    /// The service was not called. For example, an inner stage refused, the call ran out of time before the service was
    /// ready, or a live stack [recalled](super::Recall) the call.
    Refused {
        /// The time until another attempt makes sense, if known.
        retry_after: Option<Duration>,
    },
    /// The caller dropped the call.
    Cancelled {
        /// Whether the service had been called.
        reached_service: bool,
    },
    /// User code panicked while the next stage was polled or abandoned: the service, the [stamp](super::Stamp), a
    /// classifier or an observer. A panic while the next stage was [started](Stage::start), as in a cost function or a
    /// clone of the request, is `Refused`.
    Panicked,
}

impl Ending {
    /// Returns the ending of a result that the next stage returned.
    pub fn of<T, E>(result: &Result<T, Error<E>>, frame: &Frame) -> Self {
        match result {
            Err(Error::Rejected(rejection)) => Self::from(rejection),
            Ok(_) | Err(Error::Service(_)) => frame.reported().unwrap_or(Self::Answered(Outcome::Ignored)),
        }
    }

    /// Returns whether the service never saw the call, so that its tokens are refunded.
    #[inline]
    pub fn spared_the_service(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Cancelled { reached_service: false })
    }

    /// Returns the ending of an [abandoned](Stage::abandon) call, after its inner stages were abandoned.
    pub fn of_abandoned(cause: Abandonment, frame: &Frame) -> Self {
        match (cause, frame.reached_service()) {
            (Abandonment::Cancelled, reached_service) => Self::Cancelled { reached_service },
            (Abandonment::TimedOut, true) if frame.is_cut_short() => Self::CutShort,
            (Abandonment::TimedOut, true) => Self::TimedOut,
            (Abandonment::TimedOut, false) => Self::Refused { retry_after: None },
        }
    }
}

impl From<&Rejection> for Ending {
    fn from(rejection: &Rejection) -> Self {
        match (rejection, rejection.reached_service()) {
            (Rejection::TimedOut(details), true) if details.was_cut_short() => Self::CutShort,
            (Rejection::TimedOut(_), true) => Self::TimedOut,
            // An earlier attempt reached the service. Its result was settled when that attempt ended.
            (_, true) => Self::Answered(Outcome::Ignored),
            (_, false) => Self::Refused { retry_after: rejection.retry_after() },
        }
    }
}
