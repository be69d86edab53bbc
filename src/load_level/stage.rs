use super::{
    LoadLevel,
    layer::{Classes, Weigh},
    pace::Share,
    state::Standing,
};
use crate::{
    error::{Error, Rejection},
    shell::{Abandonment, Callee, Ending, Frame, Inherited, RefusesNow, SettleOnDrop, Stage, polled_after_end},
    stack::{Describe, Explanation},
    waiters::Place,
};
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    task::{Context, Poll},
};
use tokio::time::Instant;
use tower::Service;

/// Lets calls wait their turn. The stage of a [`LoadLevel`].
#[derive(Clone, Debug)]
pub struct LoadLevelStage<W, C, Next> {
    pub(super) level: LoadLevel<W, C>,
    pub(super) next: Next,
}

impl<W, C, Next> LoadLevelStage<W, C, Next> {
    /// A queue in front of the next stage.
    pub fn new(level: LoadLevel<W, C>, next: Next) -> Self {
        Self { level, next }
    }
}

pin_project! {
    /// A call at a [`LoadLevelStage`].
    #[derive(Debug)]
    pub struct LoadLevelCall<Call, Request> {
        #[pin]
        state: State<Call, Request>,
    }
}

pin_project! {
    #[project = StateProjection]
    #[derive(Debug)]
    enum State<Call, Request> {
        // Refused; the rejection comes out of the first poll.
        Refused { rejection: Option<Rejection> },
        // Waiting for its turn, with the request and what it will inherit.
        Waiting { place: Place, waiting: Option<(Request, Inherited)> },
        // In the service, and on its way further in. Its place is given back by whoever takes `Held`, which is in a guard
        // on the stack during a poll.
        Admitted { #[pin] next: Call, place: Option<Held> },
        // Ended, and everything given back.
        Ended,
    }
}

/// A place in the service, and what was taken of the pace for it.
#[derive(Debug)]
struct Held(Share);

impl<W, C, Next, S, Request> Stage<S, Request> for LoadLevelStage<W, C, Next>
where
    W: Weigh<Request>,
    C: Classes<Request>,
    Next: Stage<S, Request>,
    S: Service<Request>,
{
    const READS_DEADLINE: bool = true;

    type Call = LoadLevelCall<Next::Call, Request>;

    #[inline]
    fn start(&self, request: Request, frame: &mut Frame) -> Self::Call {
        if self.level.queue.enter() {
            return LoadLevelCall { state: self.go_on::<S, Request>(Share::NONE, request, frame) };
        }
        let ticket = self.level.ticket(&request, frame);
        let arrival = self.level.queue.arrive(ticket, frame.now());
        // It may have woken calls that waited.
        frame.user_code_runs();
        let state = match arrival {
            Standing::Admitted(share) => self.go_on::<S, Request>(share, request, frame),
            Standing::Waiting(place) => State::Waiting { place, waiting: Some((request, frame.inherited())) },
            Standing::Refused(refusal) => State::Refused { rejection: Some(refusal.into()) },
        };
        LoadLevelCall { state }
    }

    fn would_refuse(&self, request: &Request, due: Instant, frame: &mut Frame) -> bool {
        self.level.queue.is_closed() || self.next.would_refuse(request, due, frame)
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
            let standing = self.level.queue.poll(*place, cx.waker(), frame.now());
            // It cloned the waker, and may have woken other calls.
            frame.user_code_runs();
            match standing {
                Standing::Waiting(instant) => {
                    frame.wake_at(instant);
                    return Poll::Pending;
                }
                Standing::Admitted(share) => {
                    let Some((request, inherited)) = waiting.take() else { polled_after_end() };
                    state.set(State::Ended);
                    frame.set_inherited(inherited);
                    let admitted = self.go_on::<S, Request>(share, request, frame);
                    state.set(admitted);
                }
                Standing::Refused(refusal) => {
                    // The request is dropped here.
                    state.set(State::Ended);
                    return Poll::Ready(Err(Error::Rejected(refusal.into())));
                }
            }
        }
        match state.as_mut().project() {
            StateProjection::Admitted { next, place } => {
                // Without its place a call has been torn down by a panic: it must not go on unadmitted.
                let Some(held) = place.take() else { polled_after_end() };
                let guard = self.guard(held, Ending::Panicked);
                let Poll::Ready(result) = self.next.poll(next, callee, cx, frame) else {
                    *place = guard.keep();
                    return Poll::Pending;
                };
                state.set(State::Ended);
                let ending = Ending::of(&result, frame);
                guard.settle(ending, frame);
                Poll::Ready(result)
            }
            StateProjection::Refused { rejection } => match rejection.take() {
                Some(rejection) => Poll::Ready(Err(Error::Rejected(rejection))),
                None => polled_after_end(),
            },
            StateProjection::Waiting { .. } | StateProjection::Ended => polled_after_end(),
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
            StateProjection::Admitted { next, place } => {
                let guard = place.take().map(|held| self.guard(held, Ending::Panicked));
                self.next.abandon(next, callee, cause, frame);
                state.set(State::Ended);
                if let Some(guard) = guard {
                    guard.settle(Ending::of_abandoned(cause, frame), frame);
                }
            }
            StateProjection::Waiting { place, .. } => {
                self.level.queue.leave(*place, frame.now());
                // The request is dropped here.
                frame.user_code_runs();
                state.set(State::Ended);
            }
            StateProjection::Refused { .. } | StateProjection::Ended => {}
        }
    }
}

impl<W, C, Next> LoadLevelStage<W, C, Next> {
    /// An admitted call goes on to the next stage.
    #[inline]
    fn go_on<S, Request>(&self, share: Share, request: Request, frame: &mut Frame) -> State<Next::Call, Request>
    where
        Next: Stage<S, Request>,
        S: Service<Request>,
    {
        let guard = self.guard(Held(share), Ending::Refused { retry_after: None });
        let next = self.next.start(request, frame);
        State::Admitted { next, place: guard.keep() }
    }

    /// Holds a place in the service while user code may panic.
    #[inline]
    fn guard(&self, held: Held, panicked: Ending) -> SettleOnDrop<Held, impl Fn(Held, Ending, &mut Frame)> {
        let settle = |Held(share), ending: Ending, frame: &mut Frame| {
            let unused = if ending.spared_the_service() { share } else { Share::NONE };
            self.level.queue.end(unused, || frame.now());
            // It may have woken the next call.
            frame.user_code_runs();
        };
        SettleOnDrop::new(settle, Some(held), panicked)
    }
}

impl<W, C, Next: RefusesNow> RefusesNow for LoadLevelStage<W, C, Next> {
    fn refuses_now(&self, frame: &mut Frame) -> bool {
        self.level.queue.is_full(|| frame.now()) || self.next.refuses_now(frame)
    }
}

impl<W, C, Next: Describe> Describe for LoadLevelStage<W, C, Next> {
    fn describe(&self, explanation: &mut Explanation) {
        explanation.load_level(&self.level.queue, &self.next);
    }
}
