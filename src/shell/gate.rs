use super::{Abandonment, Callee, Ending, Frame, Stage};
use crate::error::{Error, Rejection};
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    task::{Context, Poll},
};
use tokio::time::Instant;
use tower::Service;

/// Admits or refuses a call at once: a circuit breaker, a limit on calls in flight.
///
/// A rate limit is no gate, since calls may wait for it. It has a stage of its own; a rate limit of a user's own implements
/// [`Limit`](crate::rate_limit::Limit).
///
/// [`GateStage`] makes a stage of it and sees to it that every permit is settled exactly once, whatever becomes of the
/// call.
pub trait Gate<Request> {
    /// What an admitted call holds: plain data, with no destructor of its own.
    type Permit;

    /// Admits the call or refuses it, at once.
    fn admit(&self, request: &Request, frame: &mut Frame) -> Result<Self::Permit, Rejection>;

    /// Whether the gate would refuse an attempt with this request at `due`, as far as can be known now. Nothing changes by
    /// asking. See [`Stage::would_refuse`].
    ///
    /// Default: `false`.
    fn would_refuse(&self, _request: &Request, _due: Instant, _frame: &mut Frame) -> bool {
        false
    }

    /// Learns, in each poll that ends pending, that the call is still under way. Whether it has reached the service is
    /// [known to the frame](Frame::reached_service). The gate may look at the time and
    /// [ask for a poll](Frame::wake_at). Default: nothing.
    #[inline]
    fn under_way(&self, _permit: &mut Self::Permit, _frame: &mut Frame) {}

    /// Takes the permit back and learns how the call ended. The service's future has been dropped by now, unless user
    /// code panicked in a poll: then it is dropped with the response future.
    fn settle(&self, permit: Self::Permit, ending: Ending, frame: &mut Frame);
}

/// The stage of a [`Gate`].
#[derive(Clone, Debug)]
pub struct GateStage<G, Next> {
    pub(crate) gate: G,
    pub(crate) next: Next,
}

impl<G, Next> GateStage<G, Next> {
    /// A gate in front of the next stage.
    pub fn new(gate: G, next: Next) -> Self {
        Self { gate, next }
    }
}

impl<G, Next> GateStage<G, Next> {
    /// Holds a permit while user code may panic.
    #[inline]
    fn guard<Request>(
        &self,
        permit: Option<G::Permit>,
        panicked: Ending,
    ) -> SettleOnDrop<G::Permit, impl Fn(G::Permit, Ending, &mut Frame)>
    where
        G: Gate<Request>,
    {
        let settle = |permit, ending, frame: &mut Frame| self.gate.settle(permit, ending, frame);
        SettleOnDrop::new(settle, permit, panicked)
    }
}

pin_project! {
    /// A call at a [`GateStage`].
    #[derive(Debug)]
    pub struct GateCall<Call, Permit> {
        #[pin]
        state: State<Call, Permit>,
    }
}

pin_project! {
    #[project = StateProjection]
    #[derive(Debug)]
    enum State<Call, Permit> {
        // Refused; the rejection comes out of the first poll.
        Refused { rejection: Option<Rejection> },
        // Admitted and on its way further in. The permit is here between polls; during one it is in a guard on the
        // stack, so that an unwinding panic settles it.
        Admitted { #[pin] next: Call, permit: Option<Permit> },
        // Ended, and everything given back.
        Ended,
    }
}

impl<G, Next, S, Request> Stage<S, Request> for GateStage<G, Next>
where
    G: Gate<Request>,
    Next: Stage<S, Request>,
    S: Service<Request>,
{
    const READS_DEADLINE: bool = Next::READS_DEADLINE;

    type Call = GateCall<Next::Call, G::Permit>;

    #[inline]
    fn start(&self, request: Request, frame: &mut Frame) -> Self::Call {
        match self.gate.admit(&request, frame) {
            Ok(permit) => {
                let guard = self.guard::<Request>(Some(permit), Ending::Refused { retry_after: None });
                let next = self.next.start(request, frame);
                GateCall { state: State::Admitted { next, permit: guard.keep() } }
            }
            Err(rejection) => {
                // The request is dropped here, and its drop is user code.
                frame.user_code_runs();
                GateCall { state: State::Refused { rejection: Some(rejection) } }
            }
        }
    }

    fn would_refuse(&self, request: &Request, due: Instant, frame: &mut Frame) -> bool {
        self.gate.would_refuse(request, due, frame) || self.next.would_refuse(request, due, frame)
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
        match state.as_mut().project() {
            StateProjection::Admitted { next, permit } => {
                // Without its permit a call has been torn down by a panic: it must not go on unadmitted.
                let Some(held) = permit.take() else { super::polled_after_end() };
                let mut guard = self.guard::<Request>(Some(held), Ending::Panicked);
                let Poll::Ready(result) = self.next.poll(next, callee, cx, frame) else {
                    if let Some(held) = guard.held() {
                        self.gate.under_way(held, frame);
                    }
                    *permit = guard.keep();
                    return Poll::Pending;
                };
                state.set(State::Ended);
                let ending = Ending::of(&result, frame);
                guard.settle(ending, frame);
                Poll::Ready(result)
            }
            StateProjection::Refused { rejection } => match rejection.take() {
                Some(rejection) => Poll::Ready(Err(Error::Rejected(rejection))),
                None => super::polled_after_end(),
            },
            StateProjection::Ended => super::polled_after_end(),
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
        if let StateProjection::Admitted { next, permit } = state.as_mut().project() {
            let guard = self.guard::<Request>(permit.take(), Ending::Panicked);
            self.next.abandon(next, callee, cause, frame);
            state.set(State::Ended);
            let ending = Ending::of_abandoned(cause, frame);
            guard.settle(ending, frame);
        }
    }
}

/// Holds a permit while user code may panic.
pub(crate) struct SettleOnDrop<P, F>
where
    F: Fn(P, Ending, &mut Frame),
{
    /// Takes the permit back.
    settle: F,
    /// `None` once the permit was kept or settled, and for a call that an earlier panic tore down.
    permit: Option<P>,
    /// How the call has ended if this is dropped by a panic.
    panicked: Ending,
}

impl<P, F> SettleOnDrop<P, F>
where
    F: Fn(P, Ending, &mut Frame),
{
    #[inline]
    pub(crate) fn new(settle: F, permit: Option<P>, panicked: Ending) -> Self {
        Self { settle, permit, panicked }
    }

    /// The permit, while this holds it.
    #[inline]
    pub(crate) fn held(&mut self) -> Option<&mut P> {
        self.permit.as_mut()
    }

    /// No panic: the permit goes on to where it lives between polls.
    #[inline]
    pub(crate) fn keep(mut self) -> Option<P> {
        self.permit.take()
    }

    /// The call has ended.
    #[inline]
    pub(crate) fn settle(mut self, ending: Ending, frame: &mut Frame) {
        if let Some(permit) = self.permit.take() {
            (self.settle)(permit, ending, frame);
        }
    }
}

impl<P, F> Drop for SettleOnDrop<P, F>
where
    F: Fn(P, Ending, &mut Frame),
{
    #[inline]
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            (self.settle)(permit, self.panicked, &mut Frame::new());
        }
    }
}
