mod decision;
mod describe;
mod recall;

pub use decision::Decision;
pub use describe::DescribeAdmission;

use super::{Abandonment, Callee, Ending, Frame, Inherited, RefusesNow, Stage, settle::SettleOnDrop};
use crate::error::{Error, Rejection};
use pin_project_lite::pin_project;
use std::{
    mem::needs_drop,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::time::Instant;
use tower::Service;

/// Admits a call, refuses it, or makes it wait for its turn: a rate limit, a queue.
///
/// [`AdmissionStage`] turns it into a stage. However the call ends, the stage gives each permit back exactly once,
/// unless [`keep`](Self::keep) kept it, and ends each wait exactly once. A [`Gate`](super::Gate) is an admission at
/// which no call waits.
///
/// `Response` and `ServiceError` are the types of the service.
///
/// # Cancellation
///
/// If the caller drops a waiting call, the stage first gives up the call's place among the waiters
/// ([`leave`](Self::leave)). Then it drops the request. An admitted call that is dropped is [settled](Self::settle) as
/// [`Ending::Cancelled`], after the service's future was dropped.
///
/// # Cost
///
/// The stage allocates nothing, and reads the clock only if the admission asks for the time.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::{task::{Context, Poll}, time::Duration};
/// use steadfast::{Rejection, classify::AnyError};
/// use steadfast::shell::{Admission, AdmissionStage, Decision, Ending, Frame, KeepError, Leaf, StackLayer};
/// use tokio::time::Instant;
/// use tower::{Layer, ServiceExt, service_fn};
///
/// /// Makes calls wait until the caches are warm.
/// #[derive(Clone)]
/// struct WarmAt(Instant);
///
/// impl<Request, Response, ServiceError> Admission<Request, Response, ServiceError> for WarmAt {
///     const READS_DEADLINE: bool = false;
///
///     type Permit = ();
///     type Place = ();
///
///     fn admit(&self, _: &Request, frame: &mut Frame) -> Decision<(), ()> {
///         if frame.now() < self.0 { Decision::Waits(()) } else { Decision::Admitted(()) }
///     }
///
///     fn poll(&self, (): &mut (), _: &mut Context<'_>, frame: &mut Frame) -> Poll<Result<(), Rejection>> {
///         if frame.now() < self.0 {
///             frame.wake_at(self.0);
///             return Poll::Pending;
///         }
///         Poll::Ready(Ok(()))
///     }
///
///     fn leave(&self, (): &mut (), _: &mut Frame) {}
///
///     fn settle(&self, (): (), _: Ending, _: &mut Frame) {}
/// }
///
/// let start = Instant::now();
/// let stage = AdmissionStage::with(WarmAt(start + Duration::from_secs(1)), Leaf::new(AnyError));
/// let layer = StackLayer::from_stages(stage, KeepError);
/// let service = layer.layer(service_fn(async |n: u32| Ok::<_, Box<dyn std::error::Error + Send + Sync>>(n)));
/// assert_eq!(service.oneshot(7).await.unwrap(), 7);
/// assert_eq!(start.elapsed(), Duration::from_secs(1));
/// # Ok(())
/// # }
/// ```
pub trait Admission<Request, Response, ServiceError> {
    /// Whether [`admit`](Self::admit) reads the deadline from the frame; see [`Stage::READS_DEADLINE`].
    const READS_DEADLINE: bool;

    /// Whether the permit of an admitted call takes up room in the limit, such as one of the calls in flight. `false`
    /// if the permit only waits for the verdict on the call, as the permit of a circuit breaker does. See
    /// [`Gate::HOLDS_ROOM`](super::Gate::HOLDS_ROOM). Default: `true`.
    ///
    /// This room is not the [`Place`](Self::Place) of a waiting call, which has no permit yet.
    const HOLDS_ROOM: bool = true;

    /// The permit of an admitted call. The stage settles or refunds it exactly once, so it needs no destructor. The
    /// admission itself settles a permit that [`keep`](Self::keep) has kept.
    type Permit;

    /// The place of a waiting call among the waiters, such as its position in a queue. [`poll`](Self::poll) or
    /// [`leave`](Self::leave) gives it up exactly once, so the type needs no `Drop`. A type that has one, such as the
    /// future of a semaphore, is dropped after `poll` or `leave` gave the place up.
    /// [`Infallible`](std::convert::Infallible) if no call waits.
    type Place;

    /// Decides whether a call is admitted, waits, or is refused.
    fn admit(&self, request: &Request, frame: &mut Frame) -> Decision<Self::Permit, Self::Place>;

    /// Predicts whether an attempt with this request would be refused at `due`. Changes no state. See
    /// [`Stage::would_refuse`].
    ///
    /// Default: `false`.
    fn would_refuse(&self, _request: &Request, _due: Instant, _frame: &mut Frame) -> bool {
        false
    }

    /// Polls for the turn of a waiting call. Before it returns `Pending` it registers the waker or calls
    /// [`Frame::wake_at`]. Once it returns `Ready`, it has given up the call's place among the waiters.
    fn poll(
        &self,
        place: &mut Self::Place,
        cx: &mut Context<'_>,
        frame: &mut Frame,
    ) -> Poll<Result<Self::Permit, Rejection>>;

    /// Runs when a call is dropped, timed out or recalled while it waits. Gives up the call's place among the waiters.
    /// If the call was granted a permit meanwhile, also gives back that permit.
    fn leave(&self, place: &mut Self::Place, frame: &mut Frame);

    /// Runs after each pending poll of an admitted call. See [`Gate::under_way`](super::Gate::under_way).
    ///
    /// Default: does nothing.
    #[inline]
    fn under_way(&self, _permit: &mut Self::Permit, _frame: &mut Frame) {}

    /// Returns whether a call with this answer counts toward the limit. If not, the stage [refunds](Self::refund) the
    /// call's permit instead of settling it.
    ///
    /// Default: every call counts.
    #[inline]
    fn counts(&self, _answer: Result<&Response, &ServiceError>, _frame: &mut Frame) -> bool {
        true
    }

    /// Runs after the service returned a response and the call [counts](Self::counts). It may keep the permit for
    /// longer than the call, for example until the body of the response has been sent. `ending` is the ending that
    /// [`settle`](Self::settle) would receive. Returns `Some(permit)` if the stage is to settle the permit now. Returns
    /// `None` if it kept the permit. The admission must then settle the permit later, exactly once.
    ///
    /// It must not panic.
    ///
    /// Default: keeps nothing.
    #[inline]
    fn keep(&self, permit: Self::Permit, _response: &mut Response, _ending: Ending) -> Option<Self::Permit> {
        Some(permit)
    }

    /// Takes back the permit of a call that does not count. Called only if [`counts`](Self::counts) returned `false`.
    ///
    /// Default: settles it as if an inner layer had refused the call.
    #[inline]
    fn refund(&self, permit: Self::Permit, frame: &mut Frame) {
        self.settle(permit, Ending::Refused { retry_after: None }, frame);
    }

    /// Takes the permit back and learns how the call ended. The service's future has been dropped before, with one
    /// exception: after a panic in a poll it is dropped together with the response future.
    fn settle(&self, permit: Self::Permit, ending: Ending, frame: &mut Frame);
}

/// The stage of an [`Admission`].
///
/// | state | event | next state |
/// |---|---|---|
/// | - | `start`: admitted | `Admitted` |
/// | - | `start`: refused | `Refused` |
/// | - | `start`: waits | `Waiting` |
/// | `Waiting` | its turn comes | `Admitted` |
/// | `Waiting` | its turn comes, and user code panics before the next stage started | `Ended`; the permit is settled |
/// | `Waiting` | refused while it waits | `Ended`, with the rejection |
/// | `Waiting` | abandoned, or recalled | `Ended`, after giving up its place among the waiters |
/// | `Admitted` | the next stage returns `Ready` | `Ended`; the permit is settled, refunded or kept |
/// | `Admitted` | abandoned | `Ended`; the permit is settled |
/// | `Admitted` | recalled, and no inner stage has refused the call | `Ended`; the permit is settled |
/// | `Admitted` | recalled, and an inner stage has refused the call | `Admitted` |
/// | `Admitted` | user code panics in the next stage | `Admitted` without its permit, which is settled; not polled again |
/// | `Refused` | polled | `Refused` without its rejection, which the poll returns; not polled again |
/// | `Refused` | abandoned, or recalled | `Refused` |
#[derive(Clone, Debug)]
pub struct AdmissionStage<A, Next> {
    pub(crate) admission: A,
    pub(crate) next: Next,
}

impl<A, Next> AdmissionStage<A, Next> {
    /// Puts an admission in front of the next stage. For a [`Gate`](super::Gate) see
    /// [`GateStage::new`](super::GateStage).
    pub fn with(admission: A, next: Next) -> Self {
        Self { admission, next }
    }
}

pin_project! {
    /// A call at an [`AdmissionStage`].
    #[derive(Debug)]
    pub struct AdmissionCall<Call, Permit, Place, Request> {
        #[pin]
        state: State<Call, Permit, Place, Request>,
    }
}

pin_project! {
    #[project = StateProjection]
    #[derive(Debug)]
    enum State<Call, Permit, Place, Request> {
        // The first poll returns the rejection.
        Refused { rejection: Option<Rejection> },
        // Waits for its turn, with the request, and the context and deadline that the next stage will inherit.
        Waiting { place: Place, waiting: Option<(Request, Inherited)> },
        // Passed on to the next stage. The permit is here between polls. During a poll a guard in a local variable
        // holds it, so that an unwinding panic settles it.
        Admitted { #[pin] next: Call, permit: Option<Permit> },
        // The call holds neither a permit nor a place among the waiters.
        Ended,
    }
}

impl<A, Next, S, Request> Stage<S, Request> for AdmissionStage<A, Next>
where
    A: Admission<Request, S::Response, S::Error>,
    Next: Stage<S, Request>,
    S: Service<Request>,
{
    const READS_DEADLINE: bool = A::READS_DEADLINE || Next::READS_DEADLINE;

    type Call = AdmissionCall<Next::Call, A::Permit, A::Place, Request>;

    #[inline]
    fn start(&self, request: Request, frame: &mut Frame) -> Self::Call {
        let state = match self.admission.admit(&request, frame) {
            // => Admitted
            Decision::Admitted(permit) => self.start_next::<S, Request>(request, permit, frame),
            // => Waiting
            Decision::Waits(place) => State::Waiting { place, waiting: Some((request, frame.inherited())) },
            // => Refused
            Decision::Refused(rejection) => {
                // Dropping it runs user code.
                drop(request);
                frame.user_code_runs();
                State::Refused { rejection: Some(rejection) }
            }
        };
        AdmissionCall { state }
    }

    fn would_refuse(&self, request: &Request, due: Instant, frame: &mut Frame) -> bool {
        self.admission.would_refuse(request, due, frame) || self.next.would_refuse(request, due, frame)
    }

    #[inline]
    fn poll(
        &self,
        call: Pin<&mut Self::Call>,
        callee: Pin<&mut Callee<S, S::Future>>,
        cx: &mut Context<'_>,
        frame: &mut Frame,
    ) -> Poll<Result<S::Response, Error<S::Error>>> {
        let mut state = call.project().state;
        if let StateProjection::Waiting { place, waiting } = state.as_mut().project() {
            let turn = ready!(self.admission.poll(place, cx, frame));
            let waited = waiting.take();
            match turn {
                // Waiting => Admitted
                Ok(permit) => {
                    let guard = self.guard::<S, Request>(Some(permit), Ending::Refused { retry_after: None });
                    // Drops the place among the waiters. Its `Drop` may be user code.
                    state.set(State::Ended);
                    if needs_drop::<A::Place>() {
                        frame.user_code_runs();
                    }
                    let (Some(permit), Some((request, inherited))) = (guard.keep(), waited) else {
                        super::polled_after_end()
                    };
                    frame.set_inherited(inherited);
                    let admitted = self.start_next::<S, Request>(request, permit, frame);
                    state.set(admitted);
                }
                // Waiting => Ended
                Err(rejection) => {
                    state.set(State::Ended);
                    drop(waited);
                    frame.user_code_runs();
                    return Poll::Ready(Err(Error::Rejected(rejection)));
                }
            }
        }
        match state.as_mut().project() {
            // Admitted => Ended
            StateProjection::Admitted { next, permit } => {
                // The permit is missing only after a panic in an earlier poll. Such a call must not continue.
                let Some(held) = permit.take() else { super::polled_after_end() };
                let mut guard = self.guard::<S, Request>(Some(held), Ending::Panicked);
                let Poll::Ready(mut result) = self.next.poll(next, callee, cx, frame) else {
                    if let Some(held) = guard.held() {
                        self.admission.under_way(held, frame);
                    }
                    *permit = guard.keep();
                    return Poll::Pending;
                };
                state.set(State::Ended);
                let counts = match &result {
                    Ok(response) => self.admission.counts(Ok(response), frame),
                    Err(Error::Service(error)) => self.admission.counts(Err(error), frame),
                    Err(Error::Rejected(_)) => true,
                };
                let ending = Ending::of(&result, frame);
                if counts {
                    guard.change(|permit| match &mut result {
                        Ok(response) => self.admission.keep(permit, response, ending),
                        Err(_) => Some(permit),
                    });
                    guard.settle(ending, frame);
                } else if let Some(permit) = guard.keep() {
                    self.admission.refund(permit, frame);
                }
                Poll::Ready(result)
            }
            // Refused => Refused, without its rejection
            StateProjection::Refused { rejection } => match rejection.take() {
                Some(rejection) => Poll::Ready(Err(Error::Rejected(rejection))),
                None => super::polled_after_end(),
            },
            StateProjection::Waiting { .. } | StateProjection::Ended => super::polled_after_end(),
        }
    }

    #[inline]
    fn abandon(
        &self,
        call: Pin<&mut Self::Call>,
        callee: Pin<&mut Callee<S, S::Future>>,
        cause: Abandonment,
        frame: &mut Frame,
    ) {
        let mut state = call.project().state;
        match state.as_mut().project() {
            // Admitted => Ended
            StateProjection::Admitted { next, permit } => {
                let guard = self.guard::<S, Request>(permit.take(), Ending::Panicked);
                self.next.abandon(next, callee, cause, frame);
                state.set(State::Ended);
                let ending = Ending::of_abandoned(cause, frame);
                guard.settle(ending, frame);
            }
            // Waiting => Ended
            StateProjection::Waiting { .. } => self.leave::<S, Request>(state, frame),
            StateProjection::Refused { .. } | StateProjection::Ended => {}
        }
    }
}

impl<A, Next> AdmissionStage<A, Next> {
    /// Passes an admitted call on to the next stage.
    #[inline]
    fn start_next<S, Request>(
        &self,
        request: Request,
        permit: A::Permit,
        frame: &mut Frame,
    ) -> State<Next::Call, A::Permit, A::Place, Request>
    where
        A: Admission<Request, S::Response, S::Error>,
        Next: Stage<S, Request>,
        S: Service<Request>,
    {
        let guard = self.guard::<S, Request>(Some(permit), Ending::Refused { retry_after: None });
        let next = self.next.start(request, frame);
        State::Admitted { next, permit: guard.keep() }
    }

    /// Holds a permit while user code may panic.
    #[inline]
    fn guard<S, Request>(
        &self,
        permit: Option<A::Permit>,
        panicked: Ending,
    ) -> SettleOnDrop<A::Permit, impl Fn(A::Permit, Ending, &mut Frame)>
    where
        A: Admission<Request, S::Response, S::Error>,
        S: Service<Request>,
    {
        let settle = |permit, ending, frame: &mut Frame| self.admission.settle(permit, ending, frame);
        SettleOnDrop::new(settle, permit, panicked)
    }
}

impl<A: RefusesNow, Next: RefusesNow> RefusesNow for AdmissionStage<A, Next> {
    #[inline]
    fn refuses_now(&self, frame: &mut Frame) -> bool {
        self.admission.refuses_now(frame) || self.next.refuses_now(frame)
    }
}
