use super::{Published, error::PublishError};
use crate::{
    constant_work::Shape,
    error::chain,
    held::address,
    sync::{Mutex, lock},
};
use std::{collections::BTreeMap, fmt, sync::Arc};
use tokio::time::Instant;

/// A handle to the state of a [`Publisher`](crate::constant_work::Publisher), for metrics and alarms. Clones read the
/// same publisher, also after its end.
#[derive(Clone)]
pub struct PublisherReadings {
    slots: u32,
    nearly_full: f64,
    state: Arc<Mutex<PublisherState>>,
}

#[derive(Default)]
struct PublisherState {
    /// The number of rules in the last attempt.
    rules: usize,
    /// The last successful publication, and when it ended.
    last: Option<(Published, Instant)>,
    publications: u64,
    failures: BTreeMap<&'static str, u64>,
    last_error: Option<String>,
}

impl PublisherReadings {
    pub(super) fn new(shape: Shape, nearly_full: f64) -> Self {
        Self { slots: shape.slots(), nearly_full, state: Arc::default() }
    }

    /// Returns the number of rules in the last attempt, published or not, divided by the number of slots. The publisher
    /// refuses rules with a fill above 1. Returns 0 before the first attempt.
    pub fn fill(&self) -> f64 {
        lock(&self.state).rules as f64 / f64::from(self.slots)
    }

    /// Returns whether [`fill`](Self::fill) has reached the builder's
    /// [`nearly_full`](crate::constant_work::PublisherBuilder::nearly_full). Choose a larger shape then, before
    /// publications fail.
    pub fn is_nearly_full(&self) -> bool {
        self.fill() >= self.nearly_full
    }

    /// Returns the last successful publication.
    pub fn last(&self) -> Option<Published> {
        lock(&self.state).last.as_ref().map(|(published, _)| published.clone())
    }

    /// Returns the time of the last successful publication.
    pub fn last_success(&self) -> Option<Instant> {
        lock(&self.state).last.as_ref().map(|&(_, at)| at)
    }

    /// Returns the number of successful publications, changed or not.
    pub fn publications(&self) -> u64 {
        lock(&self.state).publications
    }

    /// Returns the failed attempts, by [`PublishError::kind`]. Dropped attempts are not counted.
    pub fn failures(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.state).failures.clone()
    }

    /// Returns the error of the last attempt, with all causes in one line. `None` after a success.
    pub fn last_error(&self) -> Option<String> {
        lock(&self.state).last_error.clone()
    }

    /// Returns the address of the state that all clones share.
    pub(in crate::constant_work) fn address(&self) -> usize {
        address(&self.state)
    }

    pub(super) fn attempted(&self, rules: usize) {
        lock(&self.state).rules = rules;
    }

    pub(super) fn ended(&self, ended: &Result<Published, PublishError>, now: Instant) {
        let mut state = lock(&self.state);
        match ended {
            Ok(published) => {
                state.publications += 1;
                state.last = Some((published.clone(), now));
                state.last_error = None;
            }
            Err(error) => {
                *state.failures.entry(error.kind()).or_default() += 1;
                state.last_error = Some(chain(error));
            }
        }
    }
}

impl fmt::Debug for PublisherReadings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("PublisherReadings");
        debug.field("fill", &self.fill()).field("last", &self.last()).field("failures", &self.failures());
        debug.finish_non_exhaustive()
    }
}
