//! Keys with their own readings.

use super::{handle::PerKey, mechanism::Mechanism};
use crate::error::ConfigError;
use std::{collections::HashMap, hash::Hash};

/// The most keys with a label, and the most labels besides [`OTHER`]. Each label adds a time series for each reading,
/// in every process.
const MOST_LABELS: usize = 64;

/// The label of all keys that have none.
const OTHER: &str = "other";

/// The labels of keys, by their hash.
#[derive(Default)]
pub(super) struct Labels {
    /// The index of each key's label.
    places: HashMap<u64, usize>,
    /// The first is the label of all other keys. Empty if no key has a label.
    labels: Vec<&'static str>,
}

impl Labels {
    /// Returns all labels, each of which gets its own tally. Returns a single `None` if no key has a label.
    pub(super) fn all(&self) -> Vec<Option<&'static str>> {
        match &*self.labels {
            [] => vec![None],
            labels => labels.iter().copied().map(Some).collect(),
        }
    }

    /// Returns the index of a key's label. It is zero for a key without a label, and for the overflow mechanism.
    pub(super) fn place(&self, hash: Option<u64>) -> usize {
        hash.and_then(|hash| self.places.get(&hash)).copied().unwrap_or(0)
    }

    fn add(&mut self, hash: u64, label: &'static str) {
        let place = self.labels.iter().position(|other| *other == label).unwrap_or_else(|| {
            self.labels.push(label);
            self.labels.len() - 1
        });
        self.places.insert(hash, place);
    }
}

impl<T: Mechanism, K, F> PerKey<T, K, F> {
    /// Gives these keys their own readings in metrics. The readings have a label `key` with the value given here, and
    /// with the value `other` for all other keys together. Several keys may share a value. Default: the readings
    /// combine all keys, without the label.
    ///
    /// The labels apply from now on and to all clones, and replace earlier labels. The number of keys, and counts of
    /// events such as `circuit_transitions_total`, still combine all keys.
    ///
    /// ```
    /// use steadfast::{circuit_breaker::Breaker, per_key::PerKey, shell::{Reading, Readings, Instrument}};
    /// use tokio::time::Instant;
    ///
    /// # fn main() -> Result<(), steadfast::ConfigError> {
    /// let breakers = PerKey::new(|host: &String| host.clone(), Breaker::builder().consecutive_failures(1))?
    ///     .label_keys([("db.example".to_owned(), "db"), ("pay.example".to_owned(), "pay")])?;
    /// breakers.handle("pay.example".to_owned()).try_acquire().unwrap().failure();
    ///
    /// let open = Reading::sum("circuit_state", 1.0).label("state", "open").label("key", "pay");
    /// let mut readings = Vec::new();
    /// breakers.read(Instant::now(), &mut Readings::to(&mut |reading| readings.push(reading)));
    /// assert!(readings.contains(&open));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// There must be at most 64 keys, and at most 64 values: each value adds time series in every process.
    pub fn label_keys(self, labels: impl IntoIterator<Item = (K, &'static str)>) -> Result<Self, ConfigError>
    where
        K: Hash,
    {
        let mut all = Labels::default();
        for (key, label) in labels {
            if all.labels.is_empty() {
                all.labels.push(OTHER);
            }
            all.add(self.keys.hash(&key), label);
            // A key that is given twice gets its last label, but its first label stays in the list, and counts too.
            if all.places.len() > MOST_LABELS || all.labels.len() > MOST_LABELS + 1 {
                return Err(ConfigError::new(
                    "per_key.label_keys",
                    "more than 64",
                    "must be at most 64 keys and 64 values of the label",
                ));
            }
        }
        self.keys.set_labels(all);
        Ok(self)
    }
}
