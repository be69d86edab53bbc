use super::{Abandonment, Border, Callee, Frame, Stage, Timer, service::Shared};
use pin_project_lite::pin_project;
use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tower::Service;

pin_project! {
    /// The future of a call through a stack, or through a layer used alone.
    ///
    /// It does nothing before its first poll. Its completion returns all permits of the call, except those that
    /// [`Admission::keep`](super::Admission::keep) kept. Dropping it earlier, polled or not, returns all of them.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<St, X, S, Request>
    where
        St: Stage<S, Request>,
        X: Border<Request, S::Response, S::Error>,
        S: Service<Request>,
    {
        #[pin]
        state: State<St::Call, X::Seen, Request>,
        // `None` once the call has ended, so that a kept future holds no place in the service's queue.
        #[pin]
        callee: Option<Callee<S, S::Future>>,
        shared: Arc<Shared<St, X>>,
        #[pin]
        timer: Timer,
        // Set during a poll. After a poll that panicked it stays set.
        in_poll: bool,
    }

    impl<St, X, S, Request> PinnedDrop for ResponseFuture<St, X, S, Request>
    where
        St: Stage<S, Request>,
        X: Border<Request, S::Response, S::Error>,
        S: Service<Request>,
    {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            let StateProjection::Running { call, .. } = this.state.project() else { return };
            if let Some(callee) = this.callee.as_pin_mut() {
                this.shared.stage.abandon(call, callee, Abandonment::Cancelled, &mut Frame::new());
            }
        }
    }
}

pin_project! {
    #[project = StateProjection]
    #[project_replace = StateTaken]
    enum State<Call, Seen, Request> {
        Unpolled { request: Request },
        Running { #[pin] call: Call, seen: Seen },
        Ended,
    }
}

impl<St, X, S, Request> ResponseFuture<St, X, S, Request>
where
    St: Stage<S, Request>,
    X: Border<Request, S::Response, S::Error>,
    S: Service<Request>,
{
    #[inline]
    pub(super) fn new(request: Request, service: S, shared: Arc<Shared<St, X>>) -> Self {
        let callee = Some(Callee::new(service));
        Self { state: State::Unpolled { request }, callee, shared, timer: Timer::new(), in_poll: false }
    }
}

impl<St, X, S, Request> Future for ResponseFuture<St, X, S, Request>
where
    St: Stage<S, Request>,
    X: Border<Request, S::Response, S::Error>,
    S: Service<Request>,
{
    type Output = Result<X::Response, X::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Shared { stage, border } = &**this.shared;
        if *this.in_poll {
            super::polled_after_end();
        }
        *this.in_poll = true;
        let mut frame = Frame::new();

        if let StateProjection::Unpolled { .. } = this.state.as_mut().project() {
            if let StateTaken::Unpolled { mut request } = this.state.as_mut().project_replace(State::Ended) {
                let seen = border.enter(&mut request, &mut frame);
                // The border is user code. It may have read the clock and then run for long.
                frame.user_code_runs();
                let call = stage.start(request, &mut frame);
                this.state.set(State::Running { call, seen });
            }
        }
        loop {
            let StateProjection::Running { call, .. } = this.state.as_mut().project() else {
                super::polled_after_end()
            };
            let Some(callee) = this.callee.as_mut().as_pin_mut() else { super::polled_after_end() };
            let polled = stage.poll(call, callee, cx, &mut frame);
            if polled.is_ready() {
                let StateTaken::Running { seen, .. } = this.state.as_mut().project_replace(State::Ended) else {
                    super::polled_after_end()
                };
                this.callee.set(None);
                this.timer.as_mut().disarm();
                *this.in_poll = false;
                // The drop of the service, and what the border does, are user code.
                frame.user_code_runs();
                // The result is moved out last, after the code above. The stages have just written its parts one by
                // one. A load that spans several parts waits until the stores have left the store buffer; see
                // `crate::words`.
                return polled.map(|result| border.exit(seen, result, &mut frame));
            }
            match frame.take_wake() {
                None => this.timer.as_mut().disarm(),
                // The timer has fired: poll the stages again, with a new reading of the clock.
                Some(wake) if this.timer.as_mut().poll_until(wake, cx).is_ready() => {
                    frame = Frame::new();
                    continue;
                }
                Some(_) => {}
            }
            *this.in_poll = false;
            return Poll::Pending;
        }
    }
}

impl<St, X, S, Request> fmt::Debug for ResponseFuture<St, X, S, Request>
where
    St: Stage<S, Request>,
    X: Border<Request, S::Response, S::Error>,
    S: Service<Request>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
