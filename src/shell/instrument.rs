//! The readings and state changes that a mechanism reports, for metrics and dashboards.

use crate::histogram::Histogram;
use std::{
    fmt,
    sync::{Arc, Weak},
};
use tokio::time::Instant;

/// A mechanism that reports its readings at any time, and its state changes.
///
/// The handles of this crate's mechanisms are instruments. Your own stage, gate or limit passes its instrument to
/// [`Explanation::instrument`](super::Explanation::instrument) when it describes itself. An
/// [`Observer`](super::Observer) of the stack receives all instruments when the stack is built.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
/// use steadfast::error::{Rejection, SwitchedOff};
/// use steadfast::shell::{DescribeGate, Ending, Explanation, Frame, Gate, Instrument, Reading, Readings};
/// use tokio::time::Instant;
/// use tower::{ServiceExt, service_fn};
///
/// /// Refuses even numbers, and counts them.
/// #[derive(Clone, Default)]
/// struct OddOnly(Arc<Refused>);
///
/// #[derive(Default)]
/// struct Refused(AtomicU64);
///
/// impl Gate<u32> for OddOnly {
///     type Permit = ();
///
///     fn admit(&self, number: &u32, _: &mut Frame) -> Result<(), Rejection> {
///         if number % 2 == 1 {
///             return Ok(());
///         }
///         self.0.0.fetch_add(1, Ordering::Relaxed);
///         Err(SwitchedOff::new().into())
///     }
///
///     fn settle(&self, (): (), _: Ending, _: &mut Frame) {}
/// }
///
/// impl Instrument for Refused {
///     fn read(&self, _now: Instant, readings: &mut Readings<'_>) {
///         readings.add(Reading::count("shop_even_numbers_total", self.0.load(Ordering::Relaxed)));
///     }
/// }
///
/// impl DescribeGate for OddOnly {
///     fn describe(&self, explanation: &mut Explanation) {
///         explanation.layer("odd only", "no even numbers");
///         explanation.instrument(self.0.clone());
///     }
/// }
///
/// # #[cfg(feature = "metrics")] {
/// let metrics = steadfast::telemetry::Metrics::new();
/// let service = steadfast::client()
///     .observe("numbers", metrics.clone())
///     .own_load_shed(steadfast::stack::gate(OddOnly::default()))
///     .service(service_fn(async |n: u32| Ok::<_, std::io::Error>(n)))?;
/// assert!(service.oneshot(8).await.is_err());
/// assert!(metrics.samples().iter().any(|sample| sample.name == "shop_even_numbers_total"));
/// # }
/// # Ok(())
/// # }
/// ```
pub trait Instrument: Send + Sync + 'static {
    /// Adds all readings at the time `now`. Each run must add readings of the same names and labels, from the first run
    /// on.
    ///
    /// Changes no state. May hold a lock, but only for a short time, because a call that needs the lock waits
    /// meanwhile.
    fn read(&self, now: Instant, readings: &mut Readings<'_>);

    /// Adds a listener. Until the listener is dropped, it learns the later state changes in order, each at most once. A
    /// listener that is too slow misses changes; [`StateChange::missed`] counts them. The mechanism holds no lock while
    /// the listener runs.
    ///
    /// Default: does nothing, for an instrument without states.
    fn listen(&self, _listener: &Weak<StateListener>) {}

    /// Returns the address of the state that the instrument reads, which all handles of one mechanism share. If two
    /// instruments of one stack have one address, only one of them is read. This also holds across stacks of one name.
    ///
    /// Default: `None`, for an instrument that differs from all others.
    fn address(&self) -> Option<usize> {
        None
    }
}

/// A shared pointer to an instrument is that instrument.
impl<T: Instrument + ?Sized> Instrument for Arc<T> {
    fn read(&self, now: Instant, readings: &mut Readings<'_>) {
        (**self).read(now, readings);
    }

    fn listen(&self, listener: &Weak<StateListener>) {
        (**self).listen(listener);
    }

    fn address(&self) -> Option<usize> {
        (**self).address().or_else(|| Some(Arc::as_ptr(self).cast::<()>() as usize))
    }
}

/// Learns the state changes of an [`Instrument`]. It runs in the thread that changed the state, or in one that still
/// delivers an earlier change. So it must be quick. A panic of a listener affects no call.
pub type StateListener = dyn Fn(&StateChange<'_>) + Send + Sync;

/// Collects the readings of an [`Instrument`].
pub struct Readings<'to>(&'to mut dyn FnMut(Reading));

impl<'to> Readings<'to> {
    /// Passes each reading to this function.
    pub fn to(take: &'to mut dyn FnMut(Reading)) -> Self {
        Self(take)
    }

    /// Adds one reading.
    pub fn add(&mut self, reading: Reading) {
        (self.0)(reading);
    }
}

impl fmt::Debug for Readings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readings").finish_non_exhaustive()
    }
}

/// One number of an [`Instrument`], with its name and labels.
///
/// The mechanisms of this crate use the names of the [metrics](crate::telemetry#the-metrics) without the prefix
/// `steadfast_`. Your own name gets no prefix, so begin it with the name of your program. Names and label values must
/// be known at compile time, so that their number stays small. Never use a key, a path or an error message.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    name: &'static str,
    labels: Vec<(&'static str, &'static str)>,
    number: Number,
}

/// A number, and how several with the same name and labels combine.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Number {
    /// A count since the mechanism was built. It never falls. Several counts are summed.
    Count(u64),
    /// A current value. Several values are summed.
    Sum(f64),
    /// A current value, such as an age or a ratio. Of several, the largest counts.
    Largest(f64),
    /// The durations since the mechanism was built, by buckets. Several histograms are summed.
    Durations(Box<Histogram>),
}

impl Reading {
    /// Makes a count since the mechanism was built.
    pub fn count(name: &'static str, value: u64) -> Self {
        Self { name, labels: Vec::new(), number: Number::Count(value) }
    }

    /// Makes a current value, which is summed with those of other mechanisms.
    pub fn sum(name: &'static str, value: f64) -> Self {
        Self { name, labels: Vec::new(), number: Number::Sum(value) }
    }

    /// Makes a current value. Of several mechanisms, the largest counts.
    pub fn largest(name: &'static str, value: f64) -> Self {
        Self { name, labels: Vec::new(), number: Number::Largest(value) }
    }

    /// Makes a reading of the durations since the mechanism was built.
    pub fn durations(name: &'static str, durations: Histogram) -> Self {
        Self { name, labels: Vec::new(), number: Number::Durations(Box::new(durations)) }
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, name: &'static str, value: &'static str) -> Self {
        self.labels.push((name, value));
        self
    }

    /// The name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The labels.
    pub fn labels(&self) -> &[(&'static str, &'static str)] {
        &self.labels
    }

    /// The number.
    pub fn number(&self) -> &Number {
        &self.number
    }
}

/// A change of state of an [`Instrument`].
#[derive(Clone, Copy)]
pub struct StateChange<'change> {
    mechanism: &'static str,
    from: &'static str,
    to: &'static str,
    is_trouble: bool,
    evidence: &'change dyn fmt::Display,
    missed: u64,
}

impl<'change> StateChange<'change> {
    /// Makes a change from one state to another, with its reason in words. `mechanism` is a name as
    /// [`Rejection::mechanism`](crate::Rejection::mechanism) returns it.
    pub fn new(
        mechanism: &'static str,
        from: &'static str,
        to: &'static str,
        evidence: &'change dyn fmt::Display,
    ) -> Self {
        Self { mechanism, from, to, is_trouble: false, evidence, missed: 0 }
    }

    /// Marks the change as one that an operator should see: a circuit that opens, a configuration that is refused.
    #[must_use]
    pub fn trouble(self) -> Self {
        Self { is_trouble: true, ..self }
    }

    /// Sets the number of earlier changes that the listener missed because it was too slow.
    #[must_use]
    pub fn after_missing(self, missed: u64) -> Self {
        Self { missed, ..self }
    }

    /// The mechanism.
    pub fn mechanism(&self) -> &'static str {
        self.mechanism
    }

    /// The state before.
    pub fn from(&self) -> &'static str {
        self.from
    }

    /// The state after.
    pub fn to(&self) -> &'static str {
        self.to
    }

    /// Returns whether an operator should see the change.
    pub fn is_trouble(&self) -> bool {
        self.is_trouble
    }

    /// Returns the reason of the change, in words.
    pub fn evidence(&self) -> &'change dyn fmt::Display {
        self.evidence
    }

    /// Returns how many earlier changes the listener missed because it was too slow.
    pub fn missed(&self) -> u64 {
        self.missed
    }
}

impl fmt::Debug for StateChange<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateChange")
            .field("mechanism", &self.mechanism)
            .field("from", &self.from)
            .field("to", &self.to)
            .field("is_trouble", &self.is_trouble)
            .field("evidence", &format_args!("{}", self.evidence))
            .field("missed", &self.missed)
            .finish()
    }
}

/// The instruments of a stack, if they are collected.
#[derive(Clone, Default)]
pub(super) struct Collected(Option<Vec<Arc<dyn Instrument>>>);

impl Collected {
    /// Starts to collect.
    pub(super) fn begin(&mut self) {
        self.0 = Some(Vec::new());
    }

    pub(super) fn add(&mut self, instrument: impl Instrument) {
        if let Some(instruments) = &mut self.0 {
            instruments.push(Arc::new(instrument));
        }
    }

    pub(super) fn take(&mut self) -> Vec<Arc<dyn Instrument>> {
        self.0.take().unwrap_or_default()
    }
}

impl fmt::Debug for Collected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.as_ref().map(Vec::len))
    }
}
