//! What a mechanism lets others read and learn, for metrics and dashboards.

use crate::histogram::Histogram;
use std::{
    fmt,
    sync::{Arc, Weak},
};
use tokio::time::Instant;

/// A mechanism that can be read at any time, and that tells of its changes of state.
///
/// The handles of this crate's mechanisms are instruments. A stage, a gate or a limit of your own hands its instrument
/// to [`Explanation::instrument`](super::Explanation::instrument) where it describes itself; an
/// [`Observer`](super::Observer) of the stack gets all of them when the stack is built.
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
    /// Gives all readings as of `now`. The same names and labels come each time, from the first reading on.
    ///
    /// Reading changes nothing. It may take a short lock. Calls do not wait for it beyond that.
    fn read(&self, now: Instant, readings: &mut Readings<'_>);

    /// Tells each change of state from now on to this listener, once and in order, until it is dropped. No lock is held
    /// while the listener runs.
    ///
    /// Default: nothing, for an instrument without states.
    fn listen(&self, _listener: &Weak<StateListener>) {}

    /// The address of what it reads, such as that of the state which all handles of one mechanism share. Two
    /// instruments of one address are one: it is read once, though two stacks of one name have it.
    ///
    /// Default: `None`, for an instrument that is different from all others.
    fn address(&self) -> Option<usize> {
        None
    }
}

/// What several have in common is one instrument.
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

/// Learns each change of state of an [`Instrument`]. It runs in the thread that changed the state, so it must be
/// quick. A panic of a listener harms no call.
pub type StateListener = dyn Fn(&StateChange<'_>) + Send + Sync;

/// Takes the readings of an [`Instrument`].
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
/// `steadfast_`. A name of your own is used as it is, without a prefix, so begin it with that of your program. Names and
/// values of labels are known when the program is built: never a key, a path or the text of an error, so that their
/// number stays small.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    name: &'static str,
    labels: Vec<(&'static str, &'static str)>,
    number: Number,
}

/// A number, and what becomes of several with one name and the same labels.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Number {
    /// A count since the mechanism was built. It never falls. Several are added up.
    Count(u64),
    /// A value of the present. Several are added up.
    Sum(f64),
    /// A value of the present. The largest of several counts: an age, a ratio.
    Largest(f64),
    /// The durations since the mechanism was built, by buckets. Several are added up.
    Durations(Box<Histogram>),
}

impl Reading {
    /// A count since the mechanism was built.
    pub fn count(name: &'static str, value: u64) -> Self {
        Self { name, labels: Vec::new(), number: Number::Count(value) }
    }

    /// A value of the present, to be added to those of other mechanisms.
    pub fn sum(name: &'static str, value: f64) -> Self {
        Self { name, labels: Vec::new(), number: Number::Sum(value) }
    }

    /// A value of the present, of which the largest of several mechanisms counts.
    pub fn largest(name: &'static str, value: f64) -> Self {
        Self { name, labels: Vec::new(), number: Number::Largest(value) }
    }

    /// The durations since the mechanism was built.
    pub fn durations(name: &'static str, durations: Histogram) -> Self {
        Self { name, labels: Vec::new(), number: Number::Durations(Box::new(durations)) }
    }

    /// The same with one more label.
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
    /// The mechanism, named as [`Rejection::mechanism`](crate::Rejection::mechanism) names it, has gone from one state
    /// to another; for this reason, in words.
    pub fn new(
        mechanism: &'static str,
        from: &'static str,
        to: &'static str,
        evidence: &'change dyn fmt::Display,
    ) -> Self {
        Self { mechanism, from, to, is_trouble: false, evidence, missed: 0 }
    }

    /// The same as one that an operator should see: a circuit that opens, a configuration that is refused.
    #[must_use]
    pub fn trouble(self) -> Self {
        Self { is_trouble: true, ..self }
    }

    /// The same after this number of changes that the listener missed, since it was too slow.
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

    /// Whether an operator should see it.
    pub fn is_trouble(&self) -> bool {
        self.is_trouble
    }

    /// Why it changed, in words.
    pub fn evidence(&self) -> &'change dyn fmt::Display {
        self.evidence
    }

    /// The changes before this one that the listener missed, since it was too slow.
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

/// The instruments of a stack, where they are collected.
#[derive(Clone, Default)]
pub(super) struct Collected(Option<Vec<Arc<dyn Instrument>>>);

impl Collected {
    /// Collects them from now on.
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
