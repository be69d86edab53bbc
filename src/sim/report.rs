use super::{BackendCounts, Failure, Load, Reply};
use crate::Error;
use hdrhistogram::Histogram;
use std::{collections::BTreeMap, fmt, time::Duration};

/// The report is cut into so many spans of time, whatever the length of the run.
const SPANS: u64 = 100;

/// So many calls say whether goodput is good: of 200 calls that fail once in fifty, more than one in twenty fails once in
/// three hundred times.
const ENOUGH_CALLS: u64 = 200;

/// What became of the load.
///
/// `Display` prints it as a table; with the `serde` feature it serializes, and [`goodput`](Self::goodput),
/// [`amplification`](Self::amplification) and [`recovery`](Self::recovery) with it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// The seed of the run.
    pub seed: u64,
    /// The classes, in the order of their loads.
    pub classes: Vec<ClassReport>,
    /// The calls of all classes over time, by the instant of arrival: in a hundred equal spans, whatever the length of the
    /// run.
    pub spans: Vec<Span>,
    /// The backends, in the order in which they were made.
    pub backends: Vec<BackendCounts>,
    /// When the last change of load and the last disturbance of a backend were over, in seconds. `None` if there was none.
    pub calm_from: Option<f64>,
    /// The most tasks that were alive at once: one for each call, one for each call on its way through a
    /// [`Link`](super::Link), and whatever was spawned with [`Sim::spawn`](super::Sim::spawn). A server would have as many.
    pub most_tasks: u64,
}

/// What became of the calls of one class.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ClassReport {
    /// The name of the load.
    pub name: String,
    /// Calls that arrived.
    pub offered: u64,
    /// Calls that were answered in time.
    pub in_time: u64,
    /// Calls that were answered when it was too late.
    pub late: u64,
    /// Calls that ended with a failure of a backend.
    pub failed: u64,
    /// Calls that ended with a rejection, by mechanism.
    pub rejected: BTreeMap<&'static str, u64>,
    /// Calls that had not ended when the run was over.
    pub unanswered: u64,
    /// The latency of the answers, late ones included, in seconds.
    pub latency: Latencies,
    /// The calls of this class over time, in the spans of the report.
    pub spans: Vec<Span>,
}

/// Quantiles of a latency, in seconds. Exact to a thousandth.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Latencies {
    /// The mean.
    pub mean: f64,
    /// The median.
    pub p50: f64,
    /// The 90th percentile.
    pub p90: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The 99.9th percentile.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

/// Calls that arrived in one span of time, and how many of them were answered in time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Span {
    /// Its begin, in seconds.
    pub from: f64,
    /// Its end, in seconds.
    pub to: f64,
    /// Calls that arrived in it.
    pub offered: u64,
    /// Those of them that were answered in time.
    pub in_time: u64,
}

/// Whether goodput came back after the last disturbance.
///
/// `Display` says it in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(tag = "state", content = "seconds", rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Recovery {
    /// There was no disturbance: no backend had a bad day, and no load changed its rate.
    Undisturbed,
    /// No calls arrived after it, and so nobody knows.
    Untested,
    /// It was back after so long, for good. In JSON, the seconds.
    After(#[cfg_attr(feature = "serde", serde(serialize_with = "in_seconds"))] Duration),
    /// It was not back before the end of the run, or not for good.
    Never,
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Undisturbed => f.write_str("no disturbance"),
            Self::Untested => f.write_str("no calls after the last disturbance"),
            Self::After(time) => write!(f, "recovered {time:?} after the last disturbance"),
            Self::Never => f.write_str("never recovered"),
        }
    }
}

#[cfg(feature = "serde")]
fn in_seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

impl Report {
    /// Calls that arrived.
    pub fn offered(&self) -> u64 {
        self.classes.iter().map(|class| class.offered).sum()
    }

    /// The share of the calls that were answered in time, from 0 to 1.
    pub fn goodput(&self) -> f64 {
        ratio(self.classes.iter().map(|class| class.in_time).sum(), self.offered())
    }

    /// The share of the calls that ended with a rejection by this mechanism: `"timeout"`, `"load_shed"`, ..
    pub fn rejected(&self, mechanism: &str) -> f64 {
        let rejected = self.classes.iter().filter_map(|class| class.rejected.get(mechanism)).sum();
        ratio(rejected, self.offered())
    }

    /// The calls that arrived at backends, per call that was made. Those of all backends together: in a chain of services
    /// each hop that is a backend counts.
    pub fn amplification(&self) -> f64 {
        ratio(self.backends.iter().map(|backend| backend.received).sum(), self.offered())
    }

    /// Of the calls that arrived from `from` to `to`, the share that was answered in time: over all spans which that time
    /// touches. `None` if no call arrived in them.
    pub fn goodput_between(&self, from: Duration, to: Duration) -> Option<f64> {
        let (from, to) = (from.as_secs_f64(), to.as_secs_f64());
        let touched = self.spans.iter().filter(|span| span.from < to && span.to > from);
        let calls = Calls::of(touched);
        (calls.offered > 0).then(|| ratio(calls.in_time, calls.offered))
    }

    /// How long after the last disturbance goodput was back at 95% of the load, for good.
    ///
    /// Exact to a span, which is a hundredth of the run. A few calls say little, and of an otherwise healthy system some
    /// may fail: goodput is back for good from the first span on after which it is at least 95% in every window of 200
    /// calls, and which itself is not mostly failures. As many calls have to come after it, or half of all that came after
    /// the disturbance if those are fewer than 400.
    pub fn recovery(&self) -> Recovery {
        let Some(calm_from) = self.calm_from else { return Recovery::Undisturbed };
        if self.spans.iter().all(|span| span.from < calm_from || span.offered == 0) {
            return Recovery::Untested;
        }
        // The span in which the disturbance ends is among them: it may be as good as the others.
        let after: Vec<Span> =
            self.spans.iter().filter(|span| span.to > calm_from && span.offered > 0).copied().collect();
        let enough = ENOUGH_CALLS.min(Calls::of(&after).offered / 2);
        let back = (0..after.len()).map(|index| &after[index..]).find(|rest| good_to_the_end(rest, enough));
        match back.and_then(<[Span]>::first) {
            Some(span) => Recovery::After(Duration::from_secs_f64((span.from - calm_from).max(0.0))),
            None => Recovery::Never,
        }
    }

    /// Fails the test unless at least this share of the calls was answered in time.
    ///
    /// # Panics
    ///
    /// If it was less, with the report.
    #[track_caller]
    pub fn assert_goodput_at_least(&self, share: f64) {
        let goodput = self.goodput();
        assert!(goodput >= share, "goodput is {goodput:.4}, wanted at least {share}\n{self}");
    }

    /// Fails the test if more calls arrived at the backends, per call made.
    ///
    /// # Panics
    ///
    /// If they did, with the report.
    #[track_caller]
    pub fn assert_amplification_at_most(&self, factor: f64) {
        let amplification = self.amplification();
        assert!(amplification <= factor, "amplification is {amplification:.4}, wanted at most {factor}\n{self}");
    }

    /// Fails the test unless goodput was back within this time after the last disturbance.
    ///
    /// # Panics
    ///
    /// If it was not, and if nobody can know, since there was no disturbance or no call came after it; with the report.
    #[track_caller]
    pub fn assert_recovers_within(&self, limit: Duration) {
        match self.recovery() {
            Recovery::After(time) => {
                assert!(time <= limit, "it took {time:?} to recover, wanted at most {limit:?}\n{self}");
            }
            Recovery::Never => panic!("it never recovered, wanted {limit:?} at most\n{self}"),
            Recovery::Untested => {
                panic!("no calls came after the last disturbance, so nobody knows whether it recovered\n{self}")
            }
            Recovery::Undisturbed => panic!("there was no disturbance to recover from\n{self}"),
        }
    }

    /// Fails the test if a mechanism rejected more than this share of the calls.
    ///
    /// # Panics
    ///
    /// If it did, with the report.
    #[track_caller]
    pub fn assert_rejected_at_most(&self, mechanism: &str, share: f64) {
        let rejected = self.rejected(mechanism);
        assert!(rejected <= share, "{mechanism} rejected {rejected:.4}, wanted at most {share}\n{self}");
    }
}

/// Whether goodput is good in every window of enough calls. A window ends with a span; the last one has what is left over,
/// too.
fn good_to_the_end(spans: &[Span], enough: u64) -> bool {
    let mostly_good = spans.first().is_some_and(|span| 2 * span.in_time >= span.offered);
    let mut left = Calls::of(spans);
    if !mostly_good || left.offered < enough {
        return false;
    }
    let mut window = Calls::default();
    for span in spans {
        window = window.and(span);
        let rest = left.offered - window.offered;
        if window.offered >= ENOUGH_CALLS && rest >= ENOUGH_CALLS {
            if !window.is_good() {
                return false;
            }
            left = Calls { offered: rest, in_time: left.in_time - window.in_time };
            window = Calls::default();
        }
    }
    left.is_good()
}

/// Calls, and how many of them were answered in time.
#[derive(Clone, Copy, Default)]
struct Calls {
    offered: u64,
    in_time: u64,
}

impl Calls {
    fn of<'a>(spans: impl IntoIterator<Item = &'a Span>) -> Self {
        spans.into_iter().fold(Self::default(), Self::and)
    }

    fn and(self, span: &Span) -> Self {
        Self { offered: self.offered + span.offered, in_time: self.in_time + span.in_time }
    }

    /// 95% of them.
    fn is_good(self) -> bool {
        20 * self.in_time >= 19 * self.offered
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["class", "offered", "in time", "late", "failed", "rejected", "unanswered", "p50 ms", "p99 ms"];
        writeln!(f, "{:<12}{}", head[0], head[1..].iter().map(|name| format!("{name:>11}")).collect::<String>())?;
        for class in &self.classes {
            let rejected: u64 = class.rejected.values().sum();
            let counts = [class.offered, class.in_time, class.late, class.failed, rejected, class.unanswered];
            write!(f, "{:<12}{}", class.name, counts.map(|count| format!("{count:>11}")).concat())?;
            writeln!(f, "{:>11.1}{:>11.1}", class.latency.p50 * 1e3, class.latency.p99 * 1e3)?;
            for (mechanism, count) in &class.rejected {
                writeln!(f, "  rejected by {mechanism}: {count}")?;
            }
        }
        for backend in &self.backends {
            let BackendCounts {
                name, received, answered, refused, wasted, abandoned, in_flight, most_in_flight, ..
            } = backend;
            write!(f, "{name}: {received} received ({:.3} per call), ", ratio(*received, self.offered()))?;
            write!(f, "{answered} answered, {refused} refused, {wasted} wasted, {abandoned} abandoned, ")?;
            writeln!(f, "{in_flight} in flight; {most_in_flight} at once")?;
        }
        write!(f, "goodput {:.4}, {} tasks at once", self.goodput(), self.most_tasks)?;
        match self.recovery() {
            Recovery::Undisturbed => writeln!(f),
            recovery => writeln!(f, ", {recovery}"),
        }
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Report {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;

        let mut fields = serializer.serialize_struct("Report", 9)?;
        fields.serialize_field("seed", &self.seed)?;
        fields.serialize_field("goodput", &self.goodput())?;
        fields.serialize_field("amplification", &self.amplification())?;
        fields.serialize_field("recovery", &self.recovery())?;
        fields.serialize_field("calm_from", &self.calm_from)?;
        fields.serialize_field("most_tasks", &self.most_tasks)?;
        fields.serialize_field("classes", &self.classes)?;
        fields.serialize_field("backends", &self.backends)?;
        fields.serialize_field("spans", &self.spans)?;
        fields.end()
    }
}

/// Keeps the count while a run goes on.
#[derive(Default)]
pub(super) struct Ledger {
    length_nanos: u64,
    classes: Vec<(ClassReport, Option<Histogram<u64>>)>,
}

impl Ledger {
    pub(super) fn new(loads: &[Load], length: Duration) -> Self {
        let length_nanos = nanos(length);
        let class = |load: &Load| {
            let report = ClassReport { name: load.name.clone(), spans: spans(length_nanos), ..ClassReport::default() };
            // Three digits are within what a histogram can do, so it is always there.
            (report, Histogram::new(3).ok())
        };
        Self { length_nanos, classes: loads.iter().map(class).collect() }
    }

    pub(super) fn offered(&mut self, class: usize, begin: Duration) {
        let span = self.span(begin);
        if let Some((class, _)) = self.classes.get_mut(class) {
            class.offered += 1;
            if let Some(span) = class.spans.get_mut(span) {
                span.offered += 1;
            }
        }
    }

    pub(super) fn ended(
        &mut self,
        class: usize,
        begin: Duration,
        end: Duration,
        limit: Duration,
        result: &Result<Reply, Error<Failure>>,
    ) {
        let latency = end.saturating_sub(begin);
        let span = self.span(begin);
        let Some((class, histogram)) = self.classes.get_mut(class) else { return };
        match result {
            Ok(Reply) => {
                if latency > limit {
                    class.late += 1;
                } else {
                    class.in_time += 1;
                    if let Some(span) = class.spans.get_mut(span) {
                        span.in_time += 1;
                    }
                }
                if let Some(histogram) = histogram {
                    // Grows as needed: a saturating record would not.
                    let _ = histogram.record(nanos(latency));
                }
            }
            Err(Error::Service(_)) => class.failed += 1,
            Err(Error::Rejected(rejection)) => *class.rejected.entry(rejection.mechanism()).or_default() += 1,
        }
    }

    /// The span of an instant: the last one that begins no later. In whole nanoseconds, as their edges are.
    fn span(&self, at: Duration) -> usize {
        // The edge of span i is i * length / SPANS, rounded down. Times are a year at most, which leaves room for this.
        let index = (SPANS * (nanos(at) + 1) - 1) / self.length_nanos.max(1);
        index.min(SPANS - 1) as usize
    }

    pub(super) fn report(
        self,
        seed: u64,
        calm_from: Option<Duration>,
        backends: Vec<BackendCounts>,
        most_tasks: u64,
    ) -> Report {
        let mut all = spans(self.length_nanos);
        let mut finish = |(mut class, histogram): (ClassReport, Option<Histogram<u64>>)| {
            let ended = class.in_time + class.late + class.failed + class.rejected.values().sum::<u64>();
            class.unanswered = class.offered - ended;
            if let Some(histogram) = histogram {
                let seconds = |nanos: f64| nanos / 1e9;
                let quantile = |quantile| seconds(histogram.value_at_quantile(quantile) as f64);
                class.latency = Latencies {
                    mean: seconds(histogram.mean()),
                    p50: quantile(0.5),
                    p90: quantile(0.9),
                    p99: quantile(0.99),
                    p999: quantile(0.999),
                    max: seconds(histogram.max() as f64),
                };
            }
            for (all, span) in all.iter_mut().zip(&class.spans) {
                all.offered += span.offered;
                all.in_time += span.in_time;
            }
            class
        };
        let classes = self.classes.into_iter().map(&mut finish).collect();
        let calm_from = calm_from.map(|instant| instant.as_secs_f64());
        Report { seed, classes, spans: all, backends, calm_from, most_tasks }
    }
}

/// The spans of a run, with nothing in them.
fn spans(length_nanos: u64) -> Vec<Span> {
    let edge = |span: u64| Duration::from_nanos(span * length_nanos / SPANS).as_secs_f64();
    (0..SPANS).map(|span| Span { from: edge(span), to: edge(span + 1), ..Span::default() }).collect()
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
