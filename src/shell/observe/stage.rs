use super::{Begin, End, Observed, Observer};
use crate::{
    context::CallContext,
    error::{Error, Rejection},
    panics::survives,
    shell::{
        Abandonment, Callee, Describe, Ending, Explanation, Frame, Recall, RefusesNow, Retries, Stage, polled_after_end,
    },
};
use pin_project_lite::pin_project;
use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    task::{Context, Poll},
    thread,
    time::Duration,
};
use tokio::time::Instant;
use tower::Service;

/// Reports each call, or each attempt, to an [`Observer`].
#[derive(Clone, Debug)]
pub struct ObserveStage<O, Next> {
    observer: O,
    stack: &'static str,
    observed: Observed,
    next: Next,
}

impl<O: Observer, Next> ObserveStage<O, Next> {
    /// Observes the calls, or the attempts, of the stack of this name.
    pub fn new(stack: &'static str, observed: Observed, mut observer: O, next: Next) -> Self {
        observer.watches(stack);
        Self::of_informed(stack, observed, observer, next)
    }

    /// Makes the stage for an observer whose [`watches`](Observer::watches) has run.
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

/// The state of the observation of a call or an attempt.
///
/// | state | event | next state |
/// |---|---|---|
/// | - | `start` | `Started` |
/// | `Started` | the first poll begins | `Torn` |
/// | `UnderWay` | a poll begins | `Torn` |
/// | `Torn` | the poll ends pending | `UnderWay` |
/// | `Torn` | the inner stages have ended | `Ended` |
/// | `Torn` | user code panics | `Torn` |
/// | `Started` | recalled | `Ended` |
/// | `Started`, `UnderWay`, `Torn` | abandoned | `Torn` while the inner stages are abandoned, then `Ended` |
/// | `Ended` | abandoned | `Ended` |
#[derive(Debug)]
enum Watching<Watch> {
    /// The observer has not seen the call or the attempt yet.
    Started {
        context: CallContext,
        began: Instant,
    },
    UnderWay(Watched<Watch>),
    /// In a poll or in `abandon`, or after one of them panicked. The inner stages have not ended.
    Torn,
    /// The inner stages have ended. They are neither polled nor abandoned again.
    Ended,
}

/// A call or an attempt that has begun and not ended.
#[derive(Debug)]
pub(super) struct Watched<Watch> {
    pub(super) watch: Watch,
    /// `None` only in a pair of observers, `(outer, inner)`, for the watch of the outer one while the inner one begins.
    /// If the inner observer panics there, the watch of the outer one ends with a duration of zero.
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
        let (context, began) = (frame.inherited().context(), frame.now());
        let guard = EndOnPanic { stage: self, context, began };
        let call =
            ObserveCall { next: self.next.start(request, frame), watching: Watching::Started { context, began } };
        mem::forget(guard);
        call
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
        let mut guard = match *watching {
            // Started => Torn
            Watching::Started { context, began } => {
                *watching = Watching::Torn;
                let guard = self.begin(context, began);
                observer_ran::<O>(frame);
                guard
            }
            // UnderWay => Torn
            Watching::UnderWay(_) => match mem::replace(watching, Watching::Torn) {
                Watching::UnderWay(watched) => EndOnDrop::new(&self.observer, watched),
                _ => polled_after_end(),
            },
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
                    // The observer panicked. The stages must return their permits nevertheless.
                    abandon(watching, frame);
                }
                // If the thread is unwinding already, this code runs in a drop. A panic that escapes from it would
                // abort the process.
                match panic {
                    Err(panic) if !thread::panicking() => resume_unwind(panic),
                    Err(panic) => {
                        survives(|| drop(panic));
                    }
                    Ok(()) if thread::panicking() => {
                        survives(|| guard.end(Ending::of_abandoned(cause, frame), None, frame));
                    }
                    Ok(()) => guard.end(Ending::of_abandoned(cause, frame), None, frame),
                }
            }
            // Started | Torn => Ended
            Watching::Started { .. } | Watching::Torn => abandon(watching, frame),
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
        // Only a call that was never polled can be recalled.
        if !matches!(watching, Watching::Started { .. }) {
            return None;
        }
        let request = self.next.recall(next, frame)?;
        // Started => Ended
        *watching = Watching::Ended;
        Some(request)
    }
}

/// Guards the start of the inner stages. If user code panics there, reports the beginning of the call or the attempt,
/// and its end as panicked.
struct EndOnPanic<'stage, O: Observer, Next> {
    stage: &'stage ObserveStage<O, Next>,
    context: CallContext,
    began: Instant,
}

impl<O: Observer, Next> Drop for EndOnPanic<'_, O, Next> {
    #[cold]
    fn drop(&mut self) {
        // A second panic would abort the process.
        survives(|| drop(self.stage.begin(self.context, self.began)));
    }
}

impl<O: Observer, Next> ObserveStage<O, Next> {
    /// Begins a call or an attempt that started with this context at this time.
    #[inline]
    fn begin(&self, context: CallContext, began: Instant) -> EndOnDrop<'_, O> {
        let Self { observer, stack, observed, .. } = self;
        let watch = observer.begin(&Begin { stack, observed: *observed, context });
        EndOnDrop::new(observer, Watched { watch, began: Some(began) })
    }
}

/// Holds the watch of a call or an attempt while user code may panic. Unless [`keep`](Self::keep) or [`end`](Self::end)
/// has taken the watch, dropping the guard ends the watch as [`Ending::Panicked`].
pub(super) struct EndOnDrop<'stage, O: Observer> {
    observer: &'stage O,
    watched: Option<Watched<O::Watch>>,
}

impl<'stage, O: Observer> EndOnDrop<'stage, O> {
    #[inline]
    pub(super) fn new(observer: &'stage O, watched: Watched<O::Watch>) -> Self {
        Self { observer, watched: Some(watched) }
    }

    /// Polls or abandons the next stage by `poll`, within [`Observer::poll`].
    #[inline]
    fn poll<T>(&mut self, frame: &mut Frame, poll: impl FnOnce(&mut Frame) -> T) -> T {
        let Some(Watched { watch, .. }) = &mut self.watched else { polled_after_end() };
        let polled = self.observer.poll(watch, || {
            observer_ran::<O>(frame);
            poll(frame)
        });
        observer_ran::<O>(frame);
        polled
    }

    /// Returns the watch of a call or an attempt that continues.
    #[inline]
    pub(super) fn keep(mut self) -> Option<Watched<O::Watch>> {
        self.watched.take()
    }

    /// Ends the watch with this ending.
    #[inline]
    fn end(mut self, ending: Ending, rejection: Option<&Rejection>, frame: &mut Frame) {
        if let Some(Watched { watch, began }) = self.watched.take() {
            let took = took(began, frame);
            self.observer.end(watch, &End { ending, rejection, took, retries: frame.retries() });
            observer_ran::<O>(frame);
        }
    }
}

impl<O: Observer> Drop for EndOnDrop<'_, O> {
    #[inline]
    fn drop(&mut self) {
        if let Some(Watched { watch, began }) = self.watched.take() {
            let took = took(began, &mut Frame::new());
            let end = End { ending: Ending::Panicked, rejection: None, took, retries: Retries::default() };
            // A second panic would abort the process.
            survives(|| self.observer.end(watch, &end));
        }
    }
}

/// Makes the frame forget the time, because the observer ran and is user code. The time stays if the observer is
/// [quick](Observer::IS_QUICK).
#[inline]
fn observer_ran<O: Observer>(frame: &mut Frame) {
    if !O::IS_QUICK {
        frame.user_code_runs();
    }
}

/// Returns how long a call or an attempt has taken.
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
