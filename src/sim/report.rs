use super::{
    BackendCounts, ClassReport, Recovery, Span,
    recovery::{Calls, Disturbed, recovery},
};
use crate::error::Rejection;
use std::{collections::BTreeMap, fmt::Display, time::Duration};

/// The results of the calls of a run.
///
/// `Display` prints it as a table. With the `serde` feature it serializes, including [`goodput`](Self::goodput),
/// [`amplification`](Self::amplification) and [`recovery`](Self::recovery).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// The seed of the run.
    pub seed: u64,
    /// The classes, in the order of their loads.
    pub classes: Vec<ClassReport>,
    /// The calls of all classes over time, by arrival. A hundred equal spans cover the time from the end of the warm-up
    /// to the end of the run.
    pub spans: Vec<Span>,
    /// The backends, in the order of their creation.
    pub backends: Vec<BackendCounts>,
    /// When the first change of load or disturbance of a backend began, in seconds from the start of the run. `None` if
    /// there was none.
    pub disturbed_from: Option<f64>,
    /// When the last change of load or disturbance of a backend ended, in seconds from the start of the run. `None` if
    /// there was none.
    pub calm_from: Option<f64>,
    /// The most tasks at once: one for each call, one for each call on a [`Link`](super::Link), and one for each future
    /// of [`Sim::spawn`](super::Sim::spawn). A real server would have the same number.
    pub most_tasks: u64,
    /// The permits, places and probes that were still held at the end of the run, by the name given to
    /// [`Sim::watch`](super::Sim::watch). Names with zero are included.
    pub held: BTreeMap<String, u64>,
}

impl Report {
    /// Returns the class with this name.
    ///
    /// # Panics
    ///
    /// If no class has this name. The message lists the existing names.
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

    /// Returns the number of calls that arrived after the warm-up.
    pub fn offered(&self) -> u64 {
        self.classes.iter().map(|class| class.offered).sum()
    }

    /// Returns the share of the calls that were answered in time, from 0 to 1.
    pub fn goodput(&self) -> f64 {
        ratio(self.classes.iter().map(|class| class.in_time).sum(), self.offered())
    }

    /// Returns the share of the calls that ended with a rejection by this mechanism, one of [`Rejection::MECHANISMS`]:
    /// `"timeout"`, `"load_shed"`, ..
    ///
    /// # Panics
    ///
    /// If no mechanism has this name. The message lists all mechanisms, whether or not the stack has them.
    #[track_caller]
    pub fn rejected(&self, mechanism: &str) -> f64 {
        let mechanism = known_mechanism(mechanism);
        let rejected = self.classes.iter().filter_map(|class| class.rejected.get(mechanism)).sum();
        ratio(rejected, self.offered())
    }

    /// Returns the calls that arrived at all backends together, per call that was made. In a chain of services, each
    /// hop that is a backend counts. `None` if there is no backend.
    pub fn amplification(&self) -> Option<f64> {
        let received = self.backends.iter().map(|backend| backend.received).sum();
        (!self.backends.is_empty()).then(|| ratio(received, self.offered()))
    }

    /// Returns the goodput of the calls that arrived between `from` and `to`: the share that was answered in time.
    /// Spans that overlap this time count as a whole. `None` if no call arrived in them.
    pub fn goodput_between(&self, from: Duration, to: Duration) -> Option<f64> {
        let (from, to) = (from.as_secs_f64(), to.as_secs_f64());
        Calls::of(self.spans.iter().filter(|span| span.from < to && span.to > from)).goodput()
    }

    /// Returns how long after the last disturbance goodput recovered and stayed good. The class that took longest
    /// decides. If goodput of one class never recovered, the result is [`Recovery::Never`].
    ///
    /// Goodput is good if it is at least 95% of its usual value. The usual value is the share of calls that was
    /// answered in time before the first disturbance. It is 1 if fewer than 20 calls arrived before that disturbance.
    /// The time is exact to one of the report's [spans](Self::spans).
    ///
    /// A few calls prove little, and some calls of a healthy system may fail. Goodput has therefore recovered at the
    /// first span that meets three conditions. First, goodput in the span itself is at least half its usual value.
    /// Second, goodput is good in every window of about 200 calls from there on. Each window may have more failures by
    /// chance: up to three standard deviations. Third, at least 200 calls arrive from there on. If fewer than 400 calls
    /// arrive after the disturbance, half of them are enough.
    ///
    /// A class with fewer than 20 calls after the disturbance does not count. If that is true of all classes, the calls
    /// of all classes together decide.
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
    /// If it was less. The message contains the report.
    #[track_caller]
    pub fn assert_goodput_at_least(&self, share: f64) {
        check_goodput(Some(self.goodput()), share, self);
    }

    /// Fails the test if the [`amplification`](Self::amplification) is above this factor.
    ///
    /// # Panics
    ///
    /// If it is, or if there is no backend. The message contains the report.
    #[track_caller]
    pub fn assert_amplification_at_most(&self, factor: f64) {
        let Some(amplification) = self.amplification() else {
            panic!("there is no backend, wanted an amplification of at most {factor}\n{self}")
        };
        assert!(amplification <= factor, "amplification is {amplification:.4}, wanted at most {factor}\n{self}");
    }

    /// Fails the test unless goodput recovered within this time after the last disturbance, as
    /// [`recovery`](Self::recovery) defines it.
    ///
    /// # Panics
    ///
    /// If it did not, or if that is unknown, because there was no disturbance or too few calls arrived after it. The
    /// message contains the report.
    #[track_caller]
    pub fn assert_recovers_within(&self, limit: Duration) {
        check_recovery(self.recovery(), limit, self);
    }

    /// Fails the test if a mechanism rejected more than this share of the calls.
    ///
    /// # Panics
    ///
    /// If it did, or if no mechanism has this name. The message contains the report.
    #[track_caller]
    pub fn assert_rejected_at_most(&self, mechanism: &str, share: f64) {
        check_rejected(mechanism, self.rejected(mechanism), share, self);
    }

    /// Fails the test if anything that [`Sim::watch`](super::Sim::watch) watches was still held at the end of the run.
    ///
    /// # Panics
    ///
    /// If it was, or if nothing is watched. The message contains the report.
    #[track_caller]
    pub fn assert_nothing_held(&self) {
        assert!(!self.held.is_empty(), "nothing is watched: register the handles with `Sim::watch`\n{self}");
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
            assert!(time <= limit, "goodput took {time:?} to recover, wanted at most {limit:?}\n{shown}");
        }
        Recovery::Never => panic!("goodput never recovered, wanted recovery within {limit:?}\n{shown}"),
        Recovery::Untested => {
            panic!("too few calls came after the last disturbance to know whether goodput recovered\n{shown}")
        }
        Recovery::Undisturbed => panic!("there was no disturbance to recover from\n{shown}"),
    }
}

/// Returns the static name of a mechanism.
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
