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

/// Traces calls and attempts as spans of the `tracing` crate, and logs rejections, retries and state changes as events.
///
/// The target is `steadfast`. All names, mechanisms, reasons and states are compile-time constants.
///
/// | span | level | fields |
/// |---|---|---|
/// | `steadfast.call` | DEBUG | `stack`, `outcome`, `attempts`, `error.type` |
/// | `steadfast.attempt` | DEBUG | `stack`, `http.request.resend_count`, `outcome` |
///
/// | event | level | fields |
/// |---|---|---|
/// | a state change | WARN for trouble, else INFO | `stack`, `mechanism`, `from`, `to`, `evidence`, `missed` |
/// | calls were rejected | WARN | `stack`, `mechanism`, `count` |
/// | a call was rejected | DEBUG | `stack`, `mechanism`, `reason`, `reached`, `retry_after` |
/// | a retry | DEBUG | `stack`, `attempt` |
/// | a retry was denied | DEBUG | `stack`, `reason` |
///
/// In the event of a state change, `evidence` is the reason of the change, in words. `missed` is the number of earlier
/// changes that were dropped because the log was too slow. It is absent if there are none.
///
/// # Spans
///
/// A span is entered in each poll. Spans that the service creates are children of the attempt's span or, on a server,
/// of the call's span. The span of an attempt is a child of its call's span. The parent of a call's span is the span in
/// which the call is first polled. At the end, these fields are recorded:
///
/// - `outcome`: `success`, `failure`, `overloaded`, `unprocessed`, `permanent`, `ignored`, `rejected`, `timed_out`,
///   `cancelled` or `panicked`.
/// - `error.type`: the mechanism that rejected the call, or the outcome unless that is `success` or `ignored`.
/// - `attempts`: includes an attempt that an inner layer refused. Absent if the call panicked.
///
/// Gates decide on the first attempt before the call is polled. Their events for it, such as that of a circuit that
/// becomes half-open, therefore belong to the caller's span. Their events for further attempts belong to
/// `steadfast.call`.
///
/// `http.request.resend_count` and `attempt` are the [number of the attempt](crate::CallContext::attempt): 1 for the
/// second attempt. The first attempt has neither. In a stack without a retry, the number comes from the caller's
/// context. An attempt that times out before the service is ready ends as `rejected`, because the service was not
/// called.
///
/// # One warning per ten seconds
///
/// The first rejection by a mechanism logs a warning at once, with a `count` of 1. Rejections in the following ten
/// seconds are only counted. The first rejection after that logs a warning with the number of rejections since the last
/// warning. No rejection is lost, but the last ones are logged only with the next rejection. Each mechanism of each
/// stack has its own count. The time is that of tokio's clock.
///
/// # Cost
///
/// While the level is disabled, each span and each event costs one check and no allocation. An enabled span allocates
/// once, and costs the work of the subscriber. A rejection reads the clock while warnings are enabled. The counts of
/// each stack take 7 KB.
///
/// Mechanisms continue with the time read before the subscriber ran ([`Observer::IS_QUICK`]). Otherwise they would read
/// the clock once more in each call (40 ns), even with spans disabled. If a subscriber blocks, later decisions in that
/// poll use the time that was read before the subscriber blocked. Use a subscriber that writes in its own thread.
///
/// # Panics of the subscriber
///
/// A panic of the subscriber propagates out of the poll of the response future, as for any [`Observer`]. It never
/// propagates while another panic unwinds: if the service and the subscriber panic in one poll, the panic of the
/// service propagates. If the subscriber panics in the event of a state change, no call is affected.
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
/// `tracing-subscriber` prints spans only if configured, here when they close:
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
/// `tracing-opentelemetry` exports the spans as a tree below the span of the request:
///
/// ```text
/// let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).build();
/// tracing_subscriber::registry()
///     .with(EnvFilter::new("info,steadfast=debug"))
///     .with(tracing_opentelemetry::layer().with_tracer(provider.tracer("shop")))
///     .init();
/// ```
///
/// `Spans` does not write the trace context to requests: your service must do so. Inside an attempt,
/// `Span::current().context()` is the context of that attempt's span. Each attempt has its own span, and each further
/// attempt has `http.request.resend_count`, as the HTTP conventions require.
#[doc(alias = "OpenTelemetry")]
#[derive(Clone)]
pub struct Spans {
    /// Shared by all clones in one stack.
    stack: Arc<StackLog>,
}

struct StackLog {
    name: &'static str,
    warnings: RejectionWarnings,
    /// Logs the state changes of the stack's mechanisms. The mechanisms hold the listener weakly, so it ends with the
    /// stack. The listener does not reference this `StackLog`, so the two do not keep each other alive.
    listener: OnceLock<Arc<StateListener>>,
}

/// The span of a call, or of an attempt.
#[doc(hidden)]
#[derive(Debug)]
pub struct Watch {
    /// `None` if spans are disabled. Boxed to keep the state of a call small.
    span: Option<Box<Span>>,
    is_call: Flag,
}

impl Spans {
    /// Creates an observer for one stack or several. Each stack has its own counts of rejections.
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

/// Creates the span, unless it is disabled.
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
                // Before the span, so that a panic of the subscriber unwinds through no span.
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
        // A panic of the subscriber is caught before the span closes. Closing may panic, too, and a second panic during
        // unwinding would abort the process.
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
    // The number of attempts before a panic is not known.
    if end.ending() != Ending::Panicked {
        span.record("attempts", end.retries().attempts());
    }
    if let Some(error) = outcome.error_type(end.rejection()) {
        span.record("error.type", error);
    }
}

/// Returns the listener that logs the state changes of a stack.
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
