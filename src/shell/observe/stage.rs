use super::{Begin, End, Observed, Observer};
use crate::{
    error::{Error, Rejection},
    shell::{
        Abandonment, Callee, Describe, Ending, Explanation, Frame, Recall, RefusesNow, Retries, Stage, polled_after_end,
    },
};
use pin_project_lite::pin_project;
use std::{
    any::Any,
    mem,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    task::{Context, Poll},
    thread,
    time::Duration,
};
use tokio::time::Instant;
use tower::Service;

/// Tells an [`Observer`] of each call, or of each attempt.
#[derive(Clone, Debug)]
pub struct ObserveStage<O, Next> {
    observer: O,
    stack: &'static str,
    observed: Observed,
    next: Next,
}

impl<O: Observer, Next> ObserveStage<O, Next> {
    /// Observes what passes to the next stage, as calls or as attempts of the stack of this name.
    pub fn new(stack: &'static str, observed: Observed, mut observer: O, next: Next) -> Self {
        observer.watches(stack);
        Self::of_informed(stack, observed, observer, next)
    }

    /// The same for an observer that knows which stack it watches.
    pub(crate) fn of_informed(stack: &'static str, observed: Observed, observer: O, next: Next) -> Self {
        Self { observer, stack, observed, next }
    }
}

pin_project! {
    /// A call at an [`ObserveStage`].
    #[project = ObserveCallProjection]
    #[derive(Debug)]
    pub struct ObserveCall<Call, Watch> {
        #[pin]
        next: Call,
        watching: Watching<Watch>,
    }
}

/// How far the observation of a call, or of an attempt, has come.
///
/// | state | event | next state |
/// |---|---|---|
/// | - | `start` | `UnderWay` |
/// | - | `start`: the observer panics after the stages further in have begun | `Failed` |
/// | `UnderWay` | a poll begins | `Torn` |
/// | `Torn` | the poll ends pending | `UnderWay` |
/// | `Torn` | the stages further in have ended | `Ended` |
/// | `Torn` | user code panics | `Torn` |
/// | `Failed` | polled | `Ended`, and the panic goes on |
/// | `UnderWay` | recalled | `Ended` |
/// | any | abandoned | `Ended` |
#[derive(Debug)]
enum Watching<Watch> {
    UnderWay(Watched<Watch>),
    /// The panic waits for the poll, since `start` alone cannot give back what the stages further in have taken.
    Failed {
        watched: Watched<Watch>,
        panic: Box<dyn Any + Send>,
    },
    /// In a poll, or after one that panicked. The stages further in have not ended.
    Torn,
    /// The stages further in have ended. They are neither polled nor abandoned again.
    Ended,
}

/// A call, or an attempt, that was begun and not ended.
#[derive(Debug)]
pub(super) struct Watched<Watch> {
    pub(super) watch: Watch,
    /// `None` until the first poll has come through the observer.
    began: Option<Instant>,
}

impl<Watch> Watched<Watch> {
    #[inline]
    pub(super) fn new(watch: Watch) -> Self {
        Self { watch, began: None }
    }
}

impl<O, Next, S, Request> Stage<S, Request> for ObserveStage<O, Next>
where
    O: Observer,
    Next: Stage<S, Request>,
    S: Service<Request>,
{
    const READS_DEADLINE: bool = Next::READS_DEADLINE;

    type Call = ObserveCall<Next::Call, O::Watch>;

    #[inline]
    fn start(&self, request: Request, frame: &mut Frame) -> Self::Call {
        let Self { stack, observed, .. } = *self;
        let watch = self.observer.begin(&Begin { stack, observed, context: frame.inherited().context() });
        let mut guard = EndOnDrop::new(&self.observer, Watched::new(watch));
        if !O::ENTERS {
            // Nothing of the observer runs between the start of the stages further in and the end of this one.
            guard.begin(frame);
            return ObserveCall { next: self.next.start(request, frame), watching: guard.into_watching() };
        }
        let mut started = None;
        let start = || guard.poll(frame, |frame| started = Some(self.next.start(request, frame)));
        let panic = catch_unwind(AssertUnwindSafe(start)).err();
        match (started, guard.keep(), panic) {
            (Some(next), Some(watched), None) => ObserveCall { next, watching: Watching::UnderWay(watched) },
            (Some(next), Some(watched), Some(panic)) => {
                frame.user_code_runs();
                ObserveCall { next, watching: Watching::Failed { watched, panic } }
            }
            (None, Some(watched), Some(panic)) => {
                let _ended = EndOnDrop::new(&self.observer, watched);
                resume_unwind(panic)
            }
            _ => polled_after_end(),
        }
    }

    fn would_refuse(&self, request: &Request, due: Instant, frame: &mut Frame) -> bool {
        self.next.would_refuse(request, due, frame)
    }

    #[inline]
    fn poll(
        &self,
        call: Pin<&mut Self::Call>,
        callee: Pin<&mut Callee<S, S::Future>>,
        cx: &mut Context<'_>,
        frame: &mut Frame,
    ) -> Poll<Result<S::Response, Error<S::Error>>> {
        let ObserveCallProjection { next, watching } = call.project();
        let mut guard = match mem::replace(watching, Watching::Torn) {
            Watching::UnderWay(watched) => EndOnDrop::new(&self.observer, watched),
            // Failed => Ended
            Watching::Failed { watched, panic } => {
                let _ended = EndOnDrop::new(&self.observer, watched);
                self.next.abandon(next, callee, Abandonment::Cancelled, frame);
                *watching = Watching::Ended;
                resume_unwind(panic)
            }
            Watching::Torn | Watching::Ended => polled_after_end(),
        };
        let polled = guard.poll(frame, |frame| {
            let polled = self.next.poll(next, callee, cx, frame);
            if polled.is_ready() {
                // Torn => Ended
                *watching = Watching::Ended;
            }
            polled
        });
        let Poll::Ready(result) = polled else {
            // Torn => UnderWay
            if let Some(watched) = guard.keep() {
                *watching = Watching::UnderWay(watched);
            }
            return Poll::Pending;
        };
        let ending = Ending::of(&result, frame);
        let rejection = match &result {
            Err(Error::Rejected(rejection)) => Some(rejection),
            _ => None,
        };
        guard.end(ending, rejection, frame);
        Poll::Ready(result)
    }

    #[inline]
    fn abandon(
        &self,
        call: Pin<&mut Self::Call>,
        mut callee: Pin<&mut Callee<S, S::Future>>,
        cause: Abandonment,
        frame: &mut Frame,
    ) {
        let ObserveCallProjection { mut next, watching } = call.project();
        let mut abandon = |watching: &mut Watching<O::Watch>, frame: &mut Frame| {
            *watching = Watching::Torn;
            self.next.abandon(next.as_mut(), callee.as_mut(), cause, frame);
            *watching = Watching::Ended;
        };
        match mem::replace(watching, Watching::Torn) {
            // UnderWay => Ended
            Watching::UnderWay(watched) => {
                let mut guard = EndOnDrop::new(&self.observer, watched);
                let mut begun = false;
                let panic = catch_unwind(AssertUnwindSafe(|| {
                    guard.poll(frame, |frame| {
                        begun = true;
                        abandon(watching, frame);
                    });
                }));
                if !begun {
                    // The observer panicked. What was taken is given back all the same.
                    abandon(watching, frame);
                }
                match panic {
                    // While a panic unwinds, a second one that left a drop would end the process.
                    Err(panic) if !thread::panicking() => resume_unwind(panic),
                    Err(_) => {}
                    Ok(()) if thread::panicking() => {
                        let end = || guard.end(Ending::of_abandoned(cause, frame), None, frame);
                        let _ = catch_unwind(AssertUnwindSafe(end));
                    }
                    Ok(()) => guard.end(Ending::of_abandoned(cause, frame), None, frame),
                }
            }
            // Failed => Ended
            Watching::Failed { watched, .. } => {
                let _ended = EndOnDrop::new(&self.observer, watched);
                abandon(watching, frame);
            }
            // Torn => Ended
            Watching::Torn => abandon(watching, frame),
            Watching::Ended => *watching = Watching::Ended,
        }
    }
}

impl<O, Next, S, Request> Recall<S, Request> for ObserveStage<O, Next>
where
    O: Observer,
    Next: Recall<S, Request>,
    S: Service<Request>,
{
    fn recall(&self, call: Pin<&mut Self::Call>, frame: &mut Frame) -> Option<Request> {
        let ObserveCallProjection { next, watching } = call.project();
        if !matches!(watching, Watching::UnderWay(_)) {
            return None;
        }
        let request = self.next.recall(next, frame)?;
        // UnderWay => Ended
        if let Watching::UnderWay(watched) = mem::replace(watching, Watching::Ended) {
            EndOnDrop::new(&self.observer, watched).end(Ending::Refused { retry_after: None }, None, frame);
        }
        Some(request)
    }
}

/// Ends what is observed, also while a panic of user code unwinds.
pub(super) struct EndOnDrop<'stage, O: Observer> {
    observer: &'stage O,
    watched: Option<Watched<O::Watch>>,
}

impl<'stage, O: Observer> EndOnDrop<'stage, O> {
    #[inline]
    pub(super) fn new(observer: &'stage O, watched: Watched<O::Watch>) -> Self {
        Self { observer, watched: Some(watched) }
    }

    /// Polls further in.
    #[inline]
    fn poll<T>(&mut self, frame: &mut Frame, poll: impl FnOnce(&mut Frame) -> T) -> T {
        if !O::ENTERS {
            self.begin(frame);
            return poll(frame);
        }
        let Some(Watched { watch, began }) = &mut self.watched else { polled_after_end() };
        let polled = self.observer.poll(watch, || {
            Self::observer_ran(frame);
            began.get_or_insert_with(|| frame.now());
            poll(frame)
        });
        Self::observer_ran(frame);
        polled
    }

    /// The first poll comes through.
    #[inline]
    fn begin(&mut self, frame: &mut Frame) {
        if let Some(Watched { began, .. }) = &mut self.watched {
            Self::observer_ran(frame);
            began.get_or_insert_with(|| frame.now());
        }
    }

    /// The observer ran, which is user code.
    #[inline]
    fn observer_ran(frame: &mut Frame) {
        if !O::IS_QUICK {
            frame.user_code_runs();
        }
    }

    /// It goes on, between polls.
    #[inline]
    fn into_watching(mut self) -> Watching<O::Watch> {
        self.watched.take().map_or(Watching::Torn, Watching::UnderWay)
    }

    /// It goes on.
    #[inline]
    pub(super) fn keep(mut self) -> Option<Watched<O::Watch>> {
        self.watched.take()
    }

    #[inline]
    fn end(mut self, ending: Ending, rejection: Option<&Rejection>, frame: &mut Frame) {
        if let Some(Watched { watch, began }) = self.watched.take() {
            let took = took(began, frame);
            self.observer.end(watch, &End { ending, rejection, took, retries: frame.retries() });
            Self::observer_ran(frame);
        }
    }
}

impl<O: Observer> Drop for EndOnDrop<'_, O> {
    #[inline]
    fn drop(&mut self) {
        if let Some(Watched { watch, began }) = self.watched.take() {
            let took = took(began, &mut Frame::new());
            let end = End { ending: Ending::Panicked, rejection: None, took, retries: Retries::default() };
            // A second panic would end the process.
            let _ = catch_unwind(AssertUnwindSafe(|| self.observer.end(watch, &end)));
        }
    }
}

/// How long a call, or an attempt, has taken by now.
#[inline]
fn took(began: Option<Instant>, frame: &mut Frame) -> Duration {
    began.map_or(Duration::ZERO, |began| frame.now().saturating_duration_since(began))
}

impl<O, Next: Describe> Describe for ObserveStage<O, Next> {
    fn describe(&self, explanation: &mut Explanation) {
        self.next.describe(explanation);
    }
}

impl<O, Next: RefusesNow> RefusesNow for ObserveStage<O, Next> {
    fn refuses_now(&self, frame: &mut Frame) -> bool {
        self.next.refuses_now(frame)
    }
}
