use super::{Abandonment, Callee, Describe, Ending, Explanation, Frame, RefusesNow, Retries, Stage, polled_after_end};
use crate::{
    context::CallContext,
    error::{Error, Rejection},
};
use pin_project_lite::pin_project;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Instant;
use tower::Service;

/// Watches the calls of a stack and their attempts, for metrics, traces and logs.
///
/// It is given to [`ClientBuilder::observe`](crate::stack::ClientBuilder::observe) or
/// [`ServerBuilder::observe`](crate::stack::ServerBuilder::observe). A pair of observers is one. A stack that is not
/// observed has no stage for it.
///
/// Each call is begun once and ended once, in its first poll at the earliest, and so is each attempt that comes to the
/// service: what a layer refuses makes no attempt.
///
/// # Cancellation and panics
///
/// A call that is dropped ends as [`Ending::Cancelled`], one whose service panics as [`Ending::Panicked`]. By then
/// everything that was taken for it has been given back. A panic of [`begin`](Self::begin), [`poll`](Self::poll) or
/// [`end`](Self::end) comes out of the poll of the response future, as one of the service would. A panic of `end` while
/// another one unwinds is swallowed.
///
/// # Cost
///
/// The observer itself, and readings of the clock at the beginning and the end of each call and each attempt. A
/// mechanism that needs the time shares these readings, if the observer [is quick](Self::IS_QUICK).
///
/// # Example
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::{io, sync::{Arc, Mutex}};
/// use steadfast::{CallContext, retry::Retry, shell::{Begin, End, Observed, Observer}};
/// use tower::{ServiceExt, service_fn};
///
/// #[derive(Clone, Default)]
/// struct Log(Arc<Mutex<Vec<String>>>);
///
/// impl Observer for Log {
///     type Watch = String;
///
///     fn begin(&self, begin: &Begin) -> String {
///         match begin.observed() {
///             Observed::Call => format!("call to {}", begin.stack()),
///             Observed::Attempt => format!("attempt {}", begin.context().attempt()),
///         }
///     }
///
///     fn end(&self, what: String, end: &End<'_>) {
///         self.0.lock().unwrap().push(format!("{what}: {:?}", end.ending()));
///     }
/// }
///
/// let log = Log::default();
/// let service = steadfast::client()
///     .observe("payments", log.clone())
///     .retry(Retry::new(3).without_budget())
///     .service(service_fn(async |()| match CallContext::current().attempt() {
///         0 => Err(io::Error::other("down")),
///         _ => Ok("answer"),
///     }))?;
/// assert_eq!(service.oneshot(()).await?, "answer");
/// assert_eq!(
///     *log.0.lock().unwrap(),
///     ["attempt 0: Answered(Failure)", "attempt 1: Answered(Success)", "call to payments: Answered(Success)"],
/// );
/// # Ok(())
/// # }
/// ```
pub trait Observer {
    /// Whether the methods take less time than a reading of the clock is worth: no I/O, no contended lock. The
    /// mechanisms then go on with the time that was read before. Otherwise they read the clock again after each method.
    ///
    /// Default: `false`.
    const IS_QUICK: bool = false;

    /// What the observer keeps while a call, or an attempt, is under way.
    type Watch;

    /// Learns, once, when the stack is built, which one it watches.
    ///
    /// Default: nothing.
    fn watches(&mut self, _stack: &'static str) {}

    /// A call, or an attempt, begins.
    fn begin(&self, begin: &Begin) -> Self::Watch;

    /// Runs one poll of the call or attempt: the place to enter a span.
    ///
    /// Default: nothing but that.
    #[inline]
    fn poll<T>(&self, _watch: &mut Self::Watch, poll: impl FnOnce() -> T) -> T {
        poll()
    }

    /// The call, or the attempt, has ended.
    fn end(&self, watch: Self::Watch, end: &End<'_>);
}

impl<A: Observer, B: Observer> Observer for (A, B) {
    const IS_QUICK: bool = A::IS_QUICK && B::IS_QUICK;

    type Watch = (A::Watch, B::Watch);

    fn watches(&mut self, stack: &'static str) {
        self.0.watches(stack);
        self.1.watches(stack);
    }

    #[inline]
    fn begin(&self, begin: &Begin) -> Self::Watch {
        (self.0.begin(begin), self.1.begin(begin))
    }

    #[inline]
    fn poll<T>(&self, (outer, inner): &mut Self::Watch, poll: impl FnOnce() -> T) -> T {
        self.0.poll(outer, || self.1.poll(inner, poll))
    }

    #[inline]
    fn end(&self, (outer, inner): Self::Watch, end: &End<'_>) {
        self.1.end(inner, end);
        self.0.end(outer, end);
    }
}

/// What is observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// A whole call, from its first poll to its end.
    Call,
    /// One attempt, from the layer around the service to its answer.
    Attempt,
}

/// The beginning of a call, or of an attempt.
#[derive(Clone, Copy, Debug)]
pub struct Begin {
    stack: &'static str,
    observed: Observed,
    context: CallContext,
}

impl Begin {
    /// The name of the stack.
    #[inline]
    pub fn stack(&self) -> &'static str {
        self.stack
    }

    /// Whether it is a call or an attempt.
    #[inline]
    pub fn observed(&self) -> Observed {
        self.observed
    }

    /// The context of the call, as its caller gave it, or that of the attempt, as the service sees it.
    #[inline]
    pub fn context(&self) -> CallContext {
        self.context
    }
}

/// The end of a call, or of an attempt.
#[derive(Clone, Copy, Debug)]
pub struct End<'call> {
    ending: Ending,
    rejection: Option<&'call Rejection>,
    took: Duration,
    retries: Retries,
}

impl<'call> End<'call> {
    /// How it ended.
    #[inline]
    pub fn ending(&self) -> Ending {
        self.ending
    }

    /// The rejection that the caller gets, if it gets one.
    #[inline]
    pub fn rejection(&self) -> Option<&'call Rejection> {
        self.rejection
    }

    /// How long it took.
    #[inline]
    pub fn took(&self) -> Duration {
        self.took
    }

    /// What the retry did. Of an attempt: nothing.
    #[inline]
    pub fn retries(&self) -> Retries {
        self.retries
    }
}

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
        Self { observer, stack, observed, next }
    }
}

pin_project! {
    /// A call at an [`ObserveStage`].
    #[derive(Debug)]
    pub struct ObserveCall<Call, Watch> {
        #[pin]
        next: Call,
        // `None` during a poll, and once the call has ended.
        watched: Option<Watched<Watch>>,
    }
}

/// A call, or an attempt, that was begun and not ended.
#[derive(Debug)]
struct Watched<Watch> {
    watch: Watch,
    /// `None` until the first poll has come through the observer.
    began: Option<Instant>,
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
        let mut guard = EndOnDrop { observer: &self.observer, watched: Some(Watched { watch, began: None }) };
        let next = guard.poll(frame, |frame| self.next.start(request, frame));
        ObserveCall { next, watched: guard.keep() }
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
        let call = call.project();
        let mut guard = EndOnDrop { observer: &self.observer, watched: call.watched.take() };
        let Poll::Ready(result) = guard.poll(frame, |frame| self.next.poll(call.next, callee, cx, frame)) else {
            *call.watched = guard.keep();
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
        callee: Pin<&mut Callee<S, S::Future>>,
        cause: Abandonment,
        frame: &mut Frame,
    ) {
        let call = call.project();
        let mut guard = EndOnDrop { observer: &self.observer, watched: call.watched.take() };
        if guard.watched.is_none() {
            // An earlier poll panicked, and ended it.
            return self.next.abandon(call.next, callee, cause, frame);
        }
        guard.poll(frame, |frame| self.next.abandon(call.next, callee, cause, frame));
        guard.end(Ending::of_abandoned(cause, frame), None, frame);
    }
}

/// Ends what is observed, also while a panic of user code unwinds.
struct EndOnDrop<'stage, O: Observer> {
    observer: &'stage O,
    watched: Option<Watched<O::Watch>>,
}

impl<O: Observer> EndOnDrop<'_, O> {
    /// Polls further in.
    #[inline]
    fn poll<T>(&mut self, frame: &mut Frame, poll: impl FnOnce(&mut Frame) -> T) -> T {
        let Some(Watched { watch, began }) = &mut self.watched else { polled_after_end() };
        let polled = self.observer.poll(watch, || {
            Self::observer_ran(frame);
            began.get_or_insert_with(|| frame.now());
            poll(frame)
        });
        Self::observer_ran(frame);
        polled
    }

    /// The observer ran, which is user code.
    #[inline]
    fn observer_ran(frame: &mut Frame) {
        if !O::IS_QUICK {
            frame.user_code_runs();
        }
    }

    /// It goes on.
    #[inline]
    fn keep(mut self) -> Option<Watched<O::Watch>> {
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
