mod stage;

use self::stage::{EndOnDrop, Watched};
use super::{Ending, Instrument, Retries, polled_after_end};
use crate::{context::CallContext, error::Rejection, panics::survives};
use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
    time::Duration,
};

pub use stage::ObserveStage;

/// Watches the calls of a stack and their attempts, for metrics, traces and logs.
///
/// It goes to [`ClientBuilder::observe`](crate::stack::ClientBuilder::observe) or
/// [`ServerBuilder::observe`](crate::stack::ServerBuilder::observe). A pair of observers is one. A stack that is not
/// observed has no stage for it.
///
/// Each call is begun once and ended once, in its first poll at the earliest, and so is each attempt that comes to the
/// service: what a layer refuses makes no attempt. The gates decide before that poll begins. An attempt that a change
/// of a [live](crate::stack::live) stack takes back to the gates has not begun.
///
/// # Cancellation and panics
///
/// A call that is dropped ends as [`Ending::Cancelled`], one whose service panics as [`Ending::Panicked`]. By then
/// everything that was taken for it has been given back. A panic of [`begin`](Self::begin), [`poll`](Self::poll) or
/// [`end`](Self::end) comes out of the poll of the response future, and the attempt counts as one whose service has
/// panicked. Places that a call has taken go back when its future is dropped. A panic of `end` while another one
/// unwinds is swallowed.
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

    /// Learns, once, when the stack is built and after [`watches`](Self::watches), what can be read of its mechanisms:
    /// from the outside in. The clone of the observer that learns it is not the one that watches calls, so what it
    /// learns belongs to what its clones share.
    ///
    /// Default: nothing.
    fn instruments(&self, _instruments: &[Arc<dyn Instrument>]) {}

    /// A call, or an attempt, begins.
    fn begin(&self, begin: &Begin) -> Self::Watch;

    /// Runs one poll of the call or attempt: the place to enter a span. What is done when it comes is not part of a
    /// poll: the decisions of gates, the copy for a retry.
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

    fn instruments(&self, instruments: &[Arc<dyn Instrument>]) {
        self.0.instruments(instruments);
        self.1.instruments(instruments);
    }

    #[inline]
    fn begin(&self, begin: &Begin) -> Self::Watch {
        // A panic of the inner one ends what the outer one has begun.
        let outer = EndOnDrop::new(&self.0, Watched::new(self.0.begin(begin)));
        let inner = self.1.begin(begin);
        let Some(Watched { watch: outer, .. }) = outer.keep() else { polled_after_end() };
        (outer, inner)
    }

    #[inline]
    fn poll<T>(&self, (outer, inner): &mut Self::Watch, poll: impl FnOnce() -> T) -> T {
        self.0.poll(outer, || self.1.poll(inner, poll))
    }

    #[inline]
    fn end(&self, (outer, inner): Self::Watch, end: &End<'_>) {
        match catch_unwind(AssertUnwindSafe(|| self.1.end(inner, end))) {
            Ok(()) => self.0.end(outer, end),
            Err(panic) => {
                // One panic comes out.
                survives(|| self.0.end(outer, end));
                resume_unwind(panic);
            }
        }
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

    /// What the retry did. Of an attempt: the default, which is one attempt and no denial. The number of an attempt is
    /// in the [context](Begin::context) of its beginning, from 0 on.
    #[inline]
    pub fn retries(&self) -> Retries {
        self.retries
    }
}
