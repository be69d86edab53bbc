use super::{
    BackendCounts, ClassReport, Recovery, Span,
    recovery::{Calls, Disturbed, recovery},
};
use crate::error::Rejection;
use std::{collections::BTreeMap, fmt::Display, time::Duration};

/// How the calls of a run ended.
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
    /// The calls of all classes over time, by the instant of arrival: in a hundred equal spans.
    pub spans: Vec<Span>,
    /// The backends, in the order in which they were made.
    pub backends: Vec<BackendCounts>,
    /// When the first change of load or disturbance of a backend began, in seconds. `None` if there was none.
    pub disturbed_from: Option<f64>,
    /// When the last change of load and the last disturbance of a backend were over, in seconds. `None` if there was
    /// none.
    pub calm_from: Option<f64>,
    /// The most tasks that were alive at once: one for each call, one for each call on its way through a
    /// [`Link`](super::Link), and one for each future of [`Sim::spawn`](super::Sim::spawn). A server would have as
    /// many.
    pub most_tasks: u64,
    /// The permits, places and probes still held when the run was over, by the name given to
    /// [`Sim::watch`](super::Sim::watch). An entry for each name, zero included.
    pub held: BTreeMap<String, u64>,
}

impl Report {
    /// The class with this name.
    ///
    /// # Panics
    ///
    /// If no class has this name. The message lists the names that there are.
    #[track_caller]
    pub fn class(&self, name: &str) -> &ClassReport {
        match self.classes.iter().find(|class| class.name == name) {
            Some(class) => class,
            None => {
                let names: Vec<_> = self.classes.iter().map(|class| &class.name).collect();
                panic!("there is no class {name:?}, only {names:?}")
            }
        }
    }

    /// Calls that arrived.
    pub fn offered(&self) -> u64 {
        self.classes.iter().map(|class| class.offered).sum()
    }

    /// The share of the calls that were answered in time, from 0 to 1.
    pub fn goodput(&self) -> f64 {
        ratio(self.classes.iter().map(|class| class.in_time).sum(), self.offered())
    }

    /// The share of the calls that ended with a rejection by this mechanism, one of [`Rejection::MECHANISMS`]:
    /// `"timeout"`, `"load_shed"`, ..
    ///
    /// # Panics
    ///
    /// If no mechanism has this name. The message lists those that there are, whether or not the stack has them.
    #[track_caller]
    pub fn rejected(&self, mechanism: &str) -> f64 {
        let mechanism = known_mechanism(mechanism);
        let rejected = self.classes.iter().filter_map(|class| class.rejected.get(mechanism)).sum();
        ratio(rejected, self.offered())
    }

    /// The calls that arrived at backends, per call that was made. Those of all backends together: in a chain of
    /// services each hop that is a backend counts. `None` where there is no backend.
    pub fn amplification(&self) -> Option<f64> {
        let received = self.backends.iter().map(|backend| backend.received).sum();
        (!self.backends.is_empty()).then(|| ratio(received, self.offered()))
    }

    /// Of the calls that arrived from `from` to `to`, the share that was answered in time: over all spans which that
    /// time touches. `None` if no call arrived in them.
    pub fn goodput_between(&self, from: Duration, to: Duration) -> Option<f64> {
        let (from, to) = (from.as_secs_f64(), to.as_secs_f64());
        Calls::of(self.spans.iter().filter(|span| span.from < to && span.to > from)).goodput()
    }

    /// How long after the last disturbance goodput was back for good, in each class: the longest of these times.
    ///
    /// Goodput is back where it is at least 95% of the share that was answered in time before the first disturbance (of
    /// all calls, where fewer than 20 came before it). Exact to a span, which is a hundredth of the run. A few calls
    /// say little, and of an otherwise healthy system some may fail: goodput is back for good from the first span on
    /// after which it is good in every window of 200 calls, less three standard deviations of what fails by chance, and
    /// which itself is at least half as good. As many calls have to come after it, or half of all that came after the
    /// disturbance if those are fewer than 400.
    ///
    /// A class of which fewer than 20 calls came after the disturbance says nothing. If all are such, all classes
    /// together decide.
    pub fn recovery(&self) -> Recovery {
        let classes = self.classes.iter().map(ClassReport::recovery);
        match classes.fold(Recovery::Undisturbed, Recovery::or_worse) {
            Recovery::Untested => {
                let disturbed = self.disturbed_from.zip(self.calm_from).map(|(from, to)| Disturbed { from, to });
                recovery(&self.spans, disturbed)
            }
            worst => worst,
        }
    }

    /// Fails the test unless at least this share of the calls was answered in time.
    ///
    /// # Panics
    ///
    /// If it was less, with the report.
    #[track_caller]
    pub fn assert_goodput_at_least(&self, share: f64) {
        check_goodput(Some(self.goodput()), share, self);
    }

    /// Fails the test if more calls arrived at the backends, per call made.
    ///
    /// # Panics
    ///
    /// If they did, and if there is no backend to count them; with the report.
    #[track_caller]
    pub fn assert_amplification_at_most(&self, factor: f64) {
        let Some(amplification) = self.amplification() else {
            panic!("there is no backend, wanted an amplification of at most {factor}\n{self}")
        };
        assert!(amplification <= factor, "amplification is {amplification:.4}, wanted at most {factor}\n{self}");
    }

    /// Fails the test unless goodput was back within this time after the last disturbance, in each class.
    ///
    /// # Panics
    ///
    /// If it was not, and if nothing is known, since there was no disturbance or too few calls came after it; with the
    /// report.
    #[track_caller]
    pub fn assert_recovers_within(&self, limit: Duration) {
        check_recovery(self.recovery(), limit, self);
    }

    /// Fails the test if a mechanism rejected more than this share of the calls.
    ///
    /// # Panics
    ///
    /// If it did, with the report; and if no mechanism has this name.
    #[track_caller]
    pub fn assert_rejected_at_most(&self, mechanism: &str, share: f64) {
        check_rejected(mechanism, self.rejected(mechanism), share, self);
    }

    /// Fails the test if anything that [`Sim::watch`](super::Sim::watch) watches was still held when the run was over.
    ///
    /// # Panics
    ///
    /// If it was, and if nothing is watched; with the report.
    #[track_caller]
    pub fn assert_nothing_held(&self) {
        assert!(!self.held.is_empty(), "nothing is watched, so nobody knows what is still held\n{self}");
        assert!(self.held.values().all(|held| *held == 0), "something is still held\n{self}");
    }
}

#[track_caller]
pub(super) fn check_goodput(goodput: Option<f64>, share: f64, shown: &impl Display) {
    let Some(goodput) = goodput else { panic!("no call arrived, wanted a goodput of at least {share}\n{shown}") };
    assert!(goodput >= share, "goodput is {goodput:.4}, wanted at least {share}\n{shown}");
}

#[track_caller]
pub(super) fn check_rejected(mechanism: &str, rejected: f64, share: f64, shown: &impl Display) {
    assert!(rejected <= share, "{mechanism} rejected {rejected:.4}, wanted at most {share}\n{shown}");
}

#[track_caller]
pub(super) fn check_recovery(recovery: Recovery, limit: Duration, shown: &impl Display) {
    match recovery {
        Recovery::After(time) => {
            assert!(time <= limit, "it took {time:?} to recover, wanted at most {limit:?}\n{shown}");
        }
        Recovery::Never => panic!("it never recovered, wanted {limit:?} at most\n{shown}"),
        Recovery::Untested => {
            panic!("too few calls came after the last disturbance to know whether it recovered\n{shown}")
        }
        Recovery::Undisturbed => panic!("there was no disturbance to recover from\n{shown}"),
    }
}

/// The name of a mechanism, if it is one.
#[track_caller]
pub(super) fn known_mechanism(mechanism: &str) -> &'static str {
    match Rejection::MECHANISMS.iter().find(|known| **known == mechanism) {
        Some(known) => known,
        None => panic!("no mechanism is called {mechanism:?}, only {:?}", Rejection::MECHANISMS),
    }
}

pub(super) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Report {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;

        let mut fields = serializer.serialize_struct("Report", 11)?;
        fields.serialize_field("seed", &self.seed)?;
        fields.serialize_field("goodput", &self.goodput())?;
        fields.serialize_field("amplification", &self.amplification())?;
        fields.serialize_field("recovery", &self.recovery())?;
        fields.serialize_field("disturbed_from", &self.disturbed_from)?;
        fields.serialize_field("calm_from", &self.calm_from)?;
        fields.serialize_field("most_tasks", &self.most_tasks)?;
        fields.serialize_field("held", &self.held)?;
        fields.serialize_field("classes", &self.classes)?;
        fields.serialize_field("backends", &self.backends)?;
        fields.serialize_field("spans", &self.spans)?;
        fields.end()
    }
}
