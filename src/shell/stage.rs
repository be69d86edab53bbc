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
/// Stages nest as plain structs: each holds the `next` one further in and hands the call on by reference. See the
/// [module](super) for who calls what, and when.
pub trait Stage<S, Request>
where
    S: Service<Request>,
{
    /// Whether this stage, or one further in, reads the deadline from the frame's context in [`start`](Self::start).
    /// Where none does, a timeout need not read the clock for a call that is answered in its first poll.
    const READS_DEADLINE: bool;

    /// What this stage, and all further in, keep while one call passes: permits, deadlines, the request until the
    /// service is called. It moves once per stage, so it is small: the service's future is in the [`Callee`].
    type Call;

    /// Admits or refuses the call. Runs in the first poll of the response future (and at each new attempt), never
    /// before. A refusal is kept in the call and comes out of the first [`poll`](Self::poll).
    fn start(&self, request: Request, frame: &mut Frame) -> Self::Call;

    /// Whether this stage, or one further in, would refuse an attempt with this request at `due`. A retry asks before
    /// it waits until then, and ends the call at once if so.
    ///
    /// The answer is a forecast from the present state, and nothing changes by asking. A stage that would let the
    /// attempt wait for its turn answers `false`. A stage that runs a closure of the user to find out calls
    /// [`Frame::user_code_runs`].
    ///
    /// Default: `false`. A stage around another one has to hand the question on to that one. Otherwise a retry further
    /// out waits for an attempt that is then refused.
    fn would_refuse(&self, _request: &Request, _due: Instant, _frame: &mut Frame) -> bool {
        false
    }

    /// Drives the call. On `Ready` the call has ended: everything taken for it has been given back, the service's
    /// future has been dropped, and neither `poll` nor `abandon` is called again. On `Pending` a waker is registered or
    /// [`Frame::wake_at`] was asked.
    fn poll(
        &self,
        call: Pin<&mut Self::Call>,
        callee: Pin<&mut Callee<S, S::Future>>,
        cx: &mut Context<'_>,
        frame: &mut Frame,
    ) -> Poll<Result<S::Response, Error<S::Error>>>;

    /// Ends a call that has not ended by itself: drops the service's future, then gives everything back. Called at most
    /// once, after `start` and instead of the last `poll`. After a panic in a poll it comes with
    /// [`Abandonment::Cancelled`] when the future is dropped, and does what is left.
    fn abandon(
        &self,
        call: Pin<&mut Self::Call>,
        callee: Pin<&mut Callee<S, S::Future>>,
        cause: Abandonment,
        frame: &mut Frame,
    );
}

/// Why a call is given up before it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Abandonment {
    /// The caller dropped the response future.
    Cancelled,
    /// A timeout further out ran out.
    TimedOut,
}

/// How a call, or one attempt, ended: what permits are settled by and retries are decided by.
///
/// | ending | evidence about the service | what was taken for the call |
/// |---|---|---|
/// | `Answered` | what the classifier said | spent |
/// | `TimedOut` | a failure | spent |
/// | `CutShort` | none | spent |
/// | `Refused` | none | refunded |
/// | `Cancelled` | see each mechanism | spent if the service was reached, else refunded |
/// | `Panicked` | a failure | spent |
///
/// A slot among the calls in flight is given back whatever the ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ending {
    /// The service answered, or its readiness failed, and this is the verdict on it.
    ///
    /// With [`Outcome::Ignored`] also a call that a layer refused after an earlier attempt had reached the service. An
    /// observer finds that refusal in [`End::rejection`](super::End::rejection).
    Answered(Outcome),
    /// The service was called and did not answer in time.
    TimedOut,
    /// The service was called, and a deadline ended the attempt before it had half of its patience.
    ///
    /// Full patience is the attempt timeout; without one, the timeout of the stack. An attempt has less where the
    /// caller's deadline comes earlier, or the attempt begins late in the call. A service that answers in time to
    /// others does not answer such a call, and is not to blame.
    CutShort,
    /// The service was not called: a stage further in refused, or the time was up before the service was ready.
    Refused {
        /// After how long another try makes sense, where that is known.
        retry_after: Option<Duration>,
    },
    /// The caller dropped the call.
    Cancelled {
        /// The service had been called.
        reached_service: bool,
    },
    /// User code panicked in a poll: the service, in call, poll or drop, or a classifier. A panic on the way to the
    /// service, in a cost function or a clone of the request, is `Refused`.
    Panicked,
}

impl Ending {
    /// The ending behind a result that comes out of the next stage.
    pub fn of<T, E>(result: &Result<T, Error<E>>, frame: &Frame) -> Self {
        match result {
            Err(Error::Rejected(rejection)) => Self::from(rejection),
            Ok(_) | Err(Error::Service(_)) => frame.reported().unwrap_or(Self::Answered(Outcome::Ignored)),
        }
    }

    /// Whether the service never saw the call: what was taken for it is refunded.
    #[inline]
    pub fn spared_the_service(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Cancelled { reached_service: false })
    }

    /// The ending of a call that was [abandoned](Stage::abandon), once the stages further in have been.
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
            // An earlier attempt reached the service and what became of it was settled then.
            (_, true) => Self::Answered(Outcome::Ignored),
            (_, false) => Self::Refused { retry_after: rejection.retry_after() },
        }
    }
}
