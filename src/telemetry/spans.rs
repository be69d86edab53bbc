mod scope;
mod warnings;

use self::{scope::within, warnings::RejectionWarnings};
use super::{
    outcome::CallOutcome,
    reason::{DENIALS, RejectionReason, denial_index},
};
use crate::{
    error::Rejection,
    shell::{Begin, Denied, End, Ending, Instrument, Observed, Observer, StateChange, StateListener},
    words::Flag,
};
use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, OnceLock},
};
use tracing::{Level, Span, debug, debug_span, event_enabled, field, info, metadata::LevelFilter, warn};

/// The target of all spans and events.
const TARGET: &str = "steadfast";

/// Traces calls and attempts as spans of the `tracing` crate, and logs what happens to them as events.
///
/// The target is `steadfast`. All names, mechanisms, reasons and states are known when the program is built.
///
/// | span | level | fields |
/// |---|---|---|
/// | `steadfast.call` | DEBUG | `stack`, `outcome`, `attempts`, `error.type` |
/// | `steadfast.attempt` | DEBUG | `stack`, `http.request.resend_count`, `outcome` |
///
/// | event | level | fields |
/// |---|---|---|
/// | a change of state | WARN for trouble, else INFO | `stack`, `mechanism`, `from`, `to`, `evidence`, `missed` |
/// | calls were rejected | WARN | `stack`, `mechanism`, `count` |
/// | a call was rejected | DEBUG | `stack`, `mechanism`, `reason`, `reached`, `retry_after` |
/// | an attempt after the first | DEBUG | `stack`, `attempt` |
/// | a retry was denied | DEBUG | `stack`, `reason` |
///
/// # Spans
///
/// A span is entered in each poll, so the spans of the service are children of its attempt, and attempts are children
/// of their call. The parent of a call is the span in which it is polled first. `outcome` is recorded at the end:
/// `success`, `failure`, `overloaded`, `unprocessed`, `permanent`, `ignored`, `rejected`, `timed_out`, `cancelled` or
/// `panicked`. `error.type` is the mechanism that rejected the call, or the outcome unless that is `success` or
/// `ignored`. `attempts` counts one that a layer refused, and is missing of a call that panicked.
///
/// The gates decide before the first poll, so their events, such as that of a circuit that becomes half-open, belong to
/// the span around the call.
///
/// `http.request.resend_count` and `attempt` are the [number of the attempt](crate::CallContext::attempt), from 1 on. A
/// stack without a retry has the number that its caller gave it. An attempt whose time is up before the service is
/// ready ends as `rejected`.
///
/// # One warning in ten seconds
///
/// The first rejection of a mechanism is warned of at once, with a `count` of 1. Those of the following ten seconds are
/// counted, and the first one after them is warned of with the number of all since the last warning. No rejection is
/// lost, but the last ones wait for the next one. Counts are per stack and mechanism, and by tokio's clock.
///
/// # Cost
///
/// Where the level is disabled, a check for each span and event; no allocation. A span that is enabled makes one.
/// A rejection reads the clock while warnings are enabled. Each stack holds 6 KB for its counts. A span costs what the
/// subscriber makes of it.
///
/// Mechanisms go on with the time that was read before the subscriber ran ([`Observer::IS_QUICK`]). They would
/// otherwise read the clock once more in each call (40 ns), also where spans are disabled. A subscriber that blocks
/// makes later decisions of that poll count from the time before. Use one that writes in a thread of its own.
///
/// # Panics of the subscriber
///
/// They come out of the poll of the response future, as those of any [`Observer`], and never while another panic
/// unwinds. Where the service and the subscriber panic in one poll, the panic of the service comes out. A panic in the
/// event of a change of state harms no call.
///
/// # Example
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use steadfast::{circuit_breaker::Breaker, retry::Retry, telemetry::Spans};
/// use tower::{ServiceExt, service_fn};
///
/// let payments = steadfast::client()
///     .observe("payments", Spans::new())
///     .retry(Retry::new(3))
///     .circuit_breaker(Breaker::builder().failure_rate(0.5, std::time::Duration::from_secs(10)).build()?)
///     .service(service_fn(async |amount: u32| Ok::<_, std::io::Error>(amount)))?;
/// assert_eq!(payments.oneshot(7).await?, 7);
/// # Ok(())
/// # }
/// ```
///
/// # In the terminal
///
/// `tracing-subscriber` prints a span only where it is asked to, when it closes:
///
/// ```text
/// tracing_subscriber::fmt()
///     .with_env_filter("info,steadfast=debug")
///     .with_span_events(FmtSpan::CLOSE)
///     .init();
/// ```
///
/// # OpenTelemetry
///
/// The spans are ordinary ones, so `tracing-opentelemetry` exports them as a tree below the span of the request:
///
/// ```text
/// let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).build();
/// tracing_subscriber::registry()
///     .with(EnvFilter::new("info,steadfast=debug"))
///     .with(tracing_opentelemetry::layer().with_tracer(provider.tracer("shop")))
///     .init();
/// ```
///
/// The service sends the trace context along: inside an attempt, `Span::current().context()` is that of the attempt. So
/// each attempt is a client span of its own, as the conventions for HTTP ask, with `http.request.resend_count`.
#[derive(Clone)]
pub struct Spans {
    /// What all clones in one stack share.
    stack: Arc<StackLog>,
}

struct StackLog {
    name: &'static str,
    warnings: RejectionWarnings,
    /// The mechanisms hold it weakly, so it ends with the stack. It holds nothing of the stack.
    listener: OnceLock<Arc<StateListener>>,
}

/// The span of a call, or of an attempt.
#[doc(hidden)]
#[derive(Debug)]
pub struct Watch {
    /// `None` where spans are disabled. In a box, since what travels with a call is small.
    span: Option<Box<Span>>,
    is_call: Flag,
}

impl Spans {
    /// Spans and events of one stack, or of several: each stack counts for itself.
    pub fn new() -> Self {
        Self::of("")
    }

    fn of(name: &'static str) -> Self {
        Self { stack: Arc::new(StackLog { name, warnings: RejectionWarnings::new(), listener: OnceLock::new() }) }
    }
}

impl Default for Spans {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spans").field("stack", &self.stack.name).finish_non_exhaustive()
    }
}

impl Observer for Spans {
    const IS_QUICK: bool = true;

    type Watch = Watch;

    fn watches(&mut self, stack: &'static str) {
        *self = Self::of(stack);
    }

    fn instruments(&self, instruments: &[Arc<dyn Instrument>]) {
        let listener = self.stack.listener.get_or_init(|| listener(self.stack.name));
        for instrument in instruments {
            instrument.listen(&Arc::downgrade(listener));
        }
    }

    #[inline]
    fn begin(&self, begin: &Begin) -> Watch {
        let is_call = Flag::of(begin.observed() == Observed::Call);
        let span = if LevelFilter::current() < LevelFilter::DEBUG { None } else { span(begin) };
        Watch { span, is_call }
    }

    #[inline]
    fn poll<T>(&self, watch: &mut Watch, poll: impl FnOnce() -> T) -> T {
        within(watch.span.as_deref(), poll)
    }

    #[inline]
    fn end(&self, Watch { span, is_call }: Watch, end: &End<'_>) {
        let has_events = is_call.is_set() && (end.rejection().is_some() || end.retries().denied().is_some());
        if span.is_some() || has_events {
            self.stack.end(span, is_call, end);
        }
    }
}

/// Begins a span, unless it is disabled.
#[cold]
fn span(begin: &Begin) -> Option<Box<Span>> {
    let stack = begin.stack();
    let span = match begin.observed() {
        Observed::Call => debug_span!(
            target: TARGET,
            "steadfast.call",
            stack,
            outcome = field::Empty,
            attempts = field::Empty,
            "error.type" = field::Empty,
        ),
        Observed::Attempt => {
            let attempt = begin.context().attempt();
            let resent = (attempt > 0).then_some(attempt);
            if let Some(attempt) = resent {
                // Before the span: a panic of the subscriber then unwinds past none.
                debug!(target: TARGET, stack, attempt, "retrying");
            }
            debug_span!(
                target: TARGET,
                "steadfast.attempt",
                stack,
                "http.request.resend_count" = resent,
                outcome = field::Empty,
            )
        }
    };
    if span.is_disabled() { None } else { Some(Box::new(span)) }
}

impl StackLog {
    #[cold]
    fn end(&self, span: Option<Box<Span>>, is_call: Flag, end: &End<'_>) {
        // The span closes after a panic has been caught: the subscriber may panic again.
        let noted = catch_unwind(AssertUnwindSafe(|| self.note(span.as_deref(), is_call, end)));
        drop(span);
        if let Err(panic) = noted {
            resume_unwind(panic);
        }
    }

    fn note(&self, span: Option<&Span>, is_call: Flag, end: &End<'_>) {
        if let Some(span) = span {
            record(span, is_call, end);
        }
        if !is_call.is_set() {
            return;
        }
        if let Some(rejection) = end.rejection() {
            within(span, || self.rejected(rejection));
        }
        if let Some(denied) = end.retries().denied() {
            within(span, || self.denied(denied));
        }
    }

    fn rejected(&self, rejection: &Rejection) {
        let (stack, mechanism) = (self.name, rejection.mechanism());
        let (reason, reached) = (RejectionReason::of(rejection).name(), rejection.reached_service());
        let retry_after = rejection.retry_after().map(field::debug);
        debug!(target: TARGET, stack, mechanism, reason, reached, retry_after, "{rejection}");
        if event_enabled!(target: TARGET, Level::WARN) {
            if let Some(count) = self.warnings.count(rejection) {
                warn!(target: TARGET, stack, mechanism, count, "calls were rejected");
            }
        }
    }

    fn denied(&self, denied: Denied) {
        debug!(target: TARGET, stack = self.name, reason = DENIALS[denial_index(denied)].1, "a retry was denied");
    }
}

fn record(span: &Span, is_call: Flag, end: &End<'_>) {
    let outcome = CallOutcome::of(end);
    span.record("outcome", outcome.name());
    if !is_call.is_set() {
        return;
    }
    // What a retry did before a panic is not known.
    if end.ending() != Ending::Panicked {
        span.record("attempts", end.retries().attempts());
    }
    if let Some(error) = outcome.error_type(end.rejection()) {
        span.record("error.type", error);
    }
}

/// Logs the changes of state in a stack.
fn listener(stack: &'static str) -> Arc<StateListener> {
    Arc::new(move |change: &StateChange<'_>| {
        let (mechanism, from, to) = (change.mechanism(), change.from(), change.to());
        let missed = (change.missed() > 0).then_some(change.missed());
        let evidence = field::display(change.evidence());
        if change.is_trouble() {
            warn!(target: TARGET, stack, mechanism, from, to, evidence, missed, "the state has changed");
        } else {
            info!(target: TARGET, stack, mechanism, from, to, evidence, missed, "the state has changed");
        }
    })
}
