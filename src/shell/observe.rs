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
/// [`ClientBuilder::observe`](crate::stack::ClientBuilder::observe) and
/// [`ServerBuilder::observe`](crate::stack::ServerBuilder::observe) take it. A pair of observers is an observer, too. A
/// stack without an observer has no stage for it.
///
/// The observer sees the beginning and the end of each call exactly once. In a client, it also sees those of each
/// attempt that all layers admit. A refused attempt is not observed. A call begins in its first poll, after the gates
/// decided about it. If a change of a [live](crate::stack::live) stack sends an attempt back to the gates, the observer
/// has not seen that attempt begin.
///
/// # Cancellation and panics
///
/// A dropped call ends as [`Ending::Cancelled`], and a call whose service panics as [`Ending::Panicked`]. All permits
/// of the call have been returned by then. A panic of [`begin`](Self::begin), [`poll`](Self::poll) or
/// [`end`](Self::end) unwinds out of the poll, or the drop, of the response future. If the observer panics in an
/// attempt, the layers outside of the attempt count it as if the service had panicked. Dropping the future returns the
/// permits that are left. A panic of the observer during another panic is caught and dropped.
///
/// # Cost
///
/// The observer's own cost, and one clock reading at the beginning and one at the end of each call and each attempt.
/// Mechanisms that need the time share these readings if the observer [is quick](Self::IS_QUICK).
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
    /// Whether the methods take a negligible time: no I/O, no contended lock. The mechanisms then keep using the
    /// earlier clock reading. Otherwise they read the clock again after each method.
    ///
    /// Default: `false`.
    const IS_QUICK: bool = false;

    /// The state that the observer keeps during a call or an attempt.
    type Watch;

    /// Receives the name of the stack, once, when the stack is built.
    ///
    /// Default: does nothing.
    fn watches(&mut self, _stack: &'static str) {}

    /// Receives the instruments of the stack's mechanisms, outermost first, once, after [`watches`](Self::watches).
    /// Another clone of the observer watches the calls, so store the instruments in state that clones share.
    ///
    /// Default: does nothing.
    fn instruments(&self, _instruments: &[Arc<dyn Instrument>]) {}

    /// Runs when a call or an attempt begins.
    fn begin(&self, begin: &Begin) -> Self::Watch;

    /// Runs the function `poll`, which polls the call or the attempt once: for example within a span. If the call or
    /// the attempt is abandoned after its first poll, that function abandons it instead.
    ///
    /// Before the first poll of an attempt, the gates decide about it, and a retry copies its request. The span of an
    /// attempt therefore covers neither. For a second or later attempt, the span of the call covers both.
    ///
    /// Default: only runs `poll`.
    #[inline]
    fn poll<T>(&self, _watch: &mut Self::Watch, poll: impl FnOnce() -> T) -> T {
        poll()
    }

    /// Runs when the call or the attempt has ended.
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
        // A panic of the inner observer ends the watch of the outer one.
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
                // Only one panic unwinds further.
                survives(|| self.0.end(outer, end));
                resume_unwind(panic);
            }
        }
    }
}

/// Whether a call or an attempt is observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// A whole call, from its first poll to its end.
    Call,
    /// One attempt, from its admission by all layers to its end: the answer of the service, a timeout, a cancellation
    /// or a panic.
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
    /// Returns the name of the stack.
    #[inline]
    pub fn stack(&self) -> &'static str {
        self.stack
    }

    /// Returns whether a call or an attempt begins.
    #[inline]
    pub fn observed(&self) -> Observed {
        self.observed
    }

    /// Returns the context: of a call, the one that its caller set; of an attempt, the one that the service sees.
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
    /// Returns how the call or the attempt ended.
    #[inline]
    pub fn ending(&self) -> Ending {
        self.ending
    }

    /// Returns the rejection with which the call or the attempt ended, if any. The caller of a call receives it.
    #[inline]
    pub fn rejection(&self) -> Option<&'call Rejection> {
        self.rejection
    }

    /// Returns the duration of the call or the attempt.
    #[inline]
    pub fn took(&self) -> Duration {
        self.took
    }

    /// Returns what the retry did for a call. For an attempt, and for a call that panicked, it returns the default: one
    /// attempt and no denial. The number of an attempt, from 0, is in the [context](Begin::context) of its beginning.
    #[inline]
    pub fn retries(&self) -> Retries {
        self.retries
    }
}
