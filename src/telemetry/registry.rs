//! The mechanisms that are read, by the name of their stack.

use super::tally::Tally;
use crate::shell::{Instrument, Number, Reading, Readings};
use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::time::Instant;

/// A name, and labels in the order in which the mechanism gives them.
type Key = (&'static str, Vec<(&'static str, &'static str)>);

/// The readings of several mechanisms of one name, brought together.
pub(super) type Merged = BTreeMap<Key, Number>;

/// All that is read, by name of the stack.
#[derive(Default)]
pub(super) struct Registry {
    groups: Mutex<BTreeMap<&'static str, Group>>,
}

/// The stacks of one name, and what is watched by it.
#[derive(Default)]
struct Group {
    /// Of the stacks; `None` where there is none, and mechanisms alone are watched.
    tally: Option<Arc<Tally>>,
    watched: Vec<Watched>,
    /// What those have counted that are gone. It makes sure that no count falls.
    gone: Merged,
}

/// An instrument, and by how many it is watched. What it had counted before does not count.
#[derive(Clone)]
struct Watched {
    instrument: Arc<dyn Instrument>,
    uses: usize,
    before: Merged,
}

impl Watched {
    fn is(&self, instrument: &Arc<dyn Instrument>) -> bool {
        match (self.instrument.address(), instrument.address()) {
            (Some(one), Some(other)) => one == other,
            _ => Arc::ptr_eq(&self.instrument, instrument),
        }
    }

    /// Adds its present readings, but for what it had counted before.
    fn add_to(&self, merged: &mut Merged, now: Instant) {
        let mut readings = Merged::new();
        read(&*self.instrument, now, &mut readings);
        for (key, number) in readings {
            let before = self.before.get(&key);
            let since = match (number, before) {
                (Number::Count(count), Some(Number::Count(before))) => Number::Count(count.wrapping_sub(*before)),
                (Number::Durations(durations), Some(Number::Durations(before))) => {
                    Number::Durations(Box::new(durations.since(before)))
                }
                (number, _) => number,
            };
            merge(merged, key, since);
        }
    }
}

/// Instruments that are read until this is dropped.
pub(super) struct Watch {
    registry: Arc<Registry>,
    name: &'static str,
    instruments: Vec<Arc<dyn Instrument>>,
}

impl Registry {
    /// The tally of the stacks of this name.
    pub(super) fn tally(&self, name: &'static str) -> Arc<Tally> {
        self.groups().entry(name).or_default().tally.get_or_insert_default().clone()
    }

    /// Reads these instruments from now on.
    pub(super) fn watch(self: &Arc<Self>, name: &'static str, instruments: Vec<Arc<dyn Instrument>>) -> Watch {
        let now = Instant::now();
        // An instrument may be a user's, so it is read under no lock.
        let read = instruments.iter().map(|instrument| {
            let mut before = Merged::new();
            read(&**instrument, now, &mut before);
            before.retain(|_, number| is_lasting(number));
            Watched { instrument: instrument.clone(), uses: 1, before }
        });
        let all: Vec<_> = read.collect();
        let mut groups = self.groups();
        let group = groups.entry(name).or_default();
        let mut known = Vec::new();
        for newcomer in all {
            match group.watched.iter_mut().find(|watched| watched.is(&newcomer.instrument)) {
                Some(watched) => {
                    watched.uses += 1;
                    known.push(newcomer);
                }
                None => group.watched.push(newcomer),
            }
        }
        drop(groups);
        // An instrument is a user's, and so is its drop.
        drop(known);
        Watch { registry: self.clone(), name, instruments }
    }

    /// The tally and the readings of each name.
    pub(super) fn read(&self) -> Vec<(&'static str, Option<Arc<Tally>>, Merged)> {
        let now = Instant::now();
        let groups: Vec<_> = self
            .groups()
            .iter()
            .map(|(name, group)| (*name, group.tally.clone(), group.watched.clone(), group.gone.clone()))
            .collect();
        let groups = groups.into_iter().map(|(name, tally, watched, mut merged)| {
            watched.iter().for_each(|watched| watched.add_to(&mut merged, now));
            (name, tally, merged)
        });
        groups.collect()
    }

    fn groups(&self) -> MutexGuard<'_, BTreeMap<&'static str, Group>> {
        // Nothing under the lock panics half-way.
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one use of an instrument away, unless it is the last one.
    fn release(&self, name: &'static str, instrument: &Arc<dyn Instrument>) -> Option<Watched> {
        let mut groups = self.groups();
        let watched = groups.get_mut(name)?.watched.iter_mut().find(|watched| watched.is(instrument))?;
        if watched.uses > 1 {
            watched.uses -= 1;
            return None;
        }
        Some(watched.clone())
    }

    /// Takes an instrument away for good. What it has counted stays.
    fn retire(&self, name: &'static str, last: &Watched) {
        let mut counted = Merged::new();
        last.add_to(&mut counted, Instant::now());
        let mut groups = self.groups();
        let Some(group) = groups.get_mut(name) else { return };
        let Some(place) = group.watched.iter().position(|watched| watched.is(&last.instrument)) else { return };
        if group.watched[place].uses > 1 {
            // Somebody watches it again.
            group.watched[place].uses -= 1;
            return;
        }
        let gone = group.watched.remove(place);
        for (key, number) in counted {
            let number = match number {
                // Its series goes on: there is none of it.
                Number::Sum(_) | Number::Largest(_) => Number::Sum(0.0),
                number => number,
            };
            merge(&mut group.gone, key, number);
        }
        drop(groups);
        drop(gone);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        for instrument in &self.instruments {
            if let Some(last) = self.registry.release(self.name, instrument) {
                self.registry.retire(self.name, &last);
            }
        }
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.groups().keys()).finish()
    }
}

fn read(instrument: &dyn Instrument, now: Instant, merged: &mut Merged) {
    let mut take = |reading: Reading| {
        let (name, labels, number) = (reading.name(), reading.labels().to_vec(), reading.number().clone());
        merge(merged, (name, labels), number);
    };
    instrument.read(now, &mut Readings::to(&mut take));
}

/// Whether a number stays when its mechanism is gone.
fn is_lasting(number: &Number) -> bool {
    matches!(number, Number::Count(_) | Number::Durations(_))
}

/// Adds a number to those of its key.
fn merge(merged: &mut Merged, key: Key, number: Number) {
    let mut present = match merged.entry(key) {
        Entry::Occupied(present) => present,
        Entry::Vacant(absent) => {
            absent.insert(number);
            return;
        }
    };
    match (present.get_mut(), number) {
        (Number::Count(sum), Number::Count(other)) => *sum = sum.wrapping_add(other),
        (Number::Sum(sum), Number::Sum(other)) => *sum += other,
        (Number::Sum(most) | Number::Largest(most), Number::Largest(other))
        | (Number::Largest(most), Number::Sum(other)) => *most = most.max(other),
        (Number::Durations(all), Number::Durations(other)) => all.merge(&other),
        // Two kinds by one name: the first one counts.
        _ => {}
    }
}
