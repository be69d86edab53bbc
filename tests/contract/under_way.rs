//! The calls in progress, counted by an observer and by stages of a user.

use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};
use steadfast::{
    ConfigError, Error,
    shell::{Abandonment, Begin, Callee, Describe, End, Explanation, Frame, Observed, Observer, Stage},
    stack::Slot,
};
use tokio::time::Instant;
use tower::Service;

/// Two counts. As an observer, this type counts the calls and the attempts in progress. The stages of its
/// [slots](Self::slot) count the calls in an outer and in an inner stage.
#[derive(Clone, Debug, Default)]
pub struct UnderWay(Arc<[AtomicI64; 2]>);

impl UnderWay {
    pub fn counts(&self) -> [i64; 2] {
        [0, 1].map(|which| self.0[which].load(Relaxed))
    }

    /// Returns a slot whose stage counts its calls: as the outer one if `place` is 0, as the inner one if it is 1.
    pub fn slot(&self, place: usize) -> CountIn {
        CountIn { under_way: self.clone(), place }
    }

    fn add(&self, place: usize, change: i64) {
        self.0[place].fetch_add(change, Relaxed);
    }
}

impl Observer for UnderWay {
    type Watch = usize;

    fn begin(&self, begin: &Begin) -> usize {
        assert_eq!(begin.stack(), "subject");
        let place = if begin.observed() == Observed::Call { 0 } else { 1 };
        self.add(place, 1);
        place
    }

    fn end(&self, place: usize, _: &End<'_>) {
        self.add(place, -1);
    }
}

/// A slot with a [`CountStage`].
pub struct CountIn {
    under_way: UnderWay,
    place: usize,
}

impl Slot for CountIn {
    type Stage<Next> = CountStage<Next>;

    fn build<Next>(self, next: Next) -> Result<CountStage<Next>, ConfigError> {
        let Self { under_way, place } = self;
        Ok(CountStage { under_way, place, next })
    }
}

/// A user's stage that counts the calls in it, similar to the example in the documentation of [`steadfast::shell`].
#[derive(Clone)]
pub struct CountStage<Next> {
    under_way: UnderWay,
    place: usize,
    next: Next,
}

/// A counted call, until it is dropped.
pub struct Passing {
    under_way: UnderWay,
    place: usize,
}

impl Drop for Passing {
    fn drop(&mut self) {
        self.under_way.add(self.place, -1);
    }
}

pin_project! {
    pub struct CountCall<Call> {
        #[pin]
        next: Call,
        passing: Option<Passing>,
    }
}

impl<Next, S, Request> Stage<S, Request> for CountStage<Next>
where
    Next: Stage<S, Request>,
    S: Service<Request>,
{
    const READS_DEADLINE: bool = Next::READS_DEADLINE;

    type Call = CountCall<Next::Call>;

    fn start(&self, request: Request, frame: &mut Frame) -> Self::Call {
        self.under_way.add(self.place, 1);
        let passing = Some(Passing { under_way: self.under_way.clone(), place: self.place });
        CountCall { next: self.next.start(request, frame), passing }
    }

    fn would_refuse(&self, request: &Request, due: Instant, frame: &mut Frame) -> bool {
        self.next.would_refuse(request, due, frame)
    }

    fn poll(
        &self,
        call: Pin<&mut Self::Call>,
        callee: Pin<&mut Callee<S, S::Future>>,
        cx: &mut Context<'_>,
        frame: &mut Frame,
    ) -> Poll<Result<S::Response, Error<S::Error>>> {
        let call = call.project();
        // If the next stage panics, `passing` is dropped, and the call no longer counts.
        let passing = call.passing.take();
        let polled = self.next.poll(call.next, callee, cx, frame);
        if polled.is_pending() {
            *call.passing = passing;
        }
        polled
    }

    fn abandon(
        &self,
        call: Pin<&mut Self::Call>,
        callee: Pin<&mut Callee<S, S::Future>>,
        cause: Abandonment,
        frame: &mut Frame,
    ) {
        let call = call.project();
        let passing = call.passing.take();
        self.next.abandon(call.next, callee, cause, frame);
        drop(passing);
    }
}

impl<Next: Describe> Describe for CountStage<Next> {
    fn describe(&self, explanation: &mut Explanation) {
        explanation.layer("count", "the calls that pass");
        self.next.describe(explanation);
    }
}
