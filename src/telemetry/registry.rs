//! The mechanisms that are read, by the name of their stack.

use super::tally::CallTally;
use crate::{
    panics::survives,
    shell::{Instrument, Number, Reading, Readings},
    sync::{Mutex, MutexGuard, lock},
};
use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt,
    sync::Arc,
};
use tokio::time::Instant;

/// A name, and labels in the order in which the mechanism gives them.
type ReadingKey = (&'static str, Vec<(&'static str, &'static str)>);

/// The readings of several mechanisms of one name, brought together.
pub(super) type MergedReadings = BTreeMap<ReadingKey, Number>;

/// All that is read, by name of the stack.
#[derive(Default)]
pub(super) struct InstrumentRegistry {
    groups: Mutex<BTreeMap<&'static str, StackGroup>>,
}

/// The stacks of one name, and what is watched by it.
#[derive(Default)]
struct StackGroup {
    /// Of the stacks; `None` where there is none, and mechanisms alone are watched.
    tally: Option<Arc<CallTally>>,
    watched: Vec<WatchedInstrument>,
    /// What those have counted that are gone. It makes sure that no count falls.
    gone: MergedReadings,
}

/// An instrument, and by how many it is watched.
#[derive(Clone)]
struct WatchedInstrument {
    instrument: InstrumentIdentity,
    uses: usize,
    counted: Arc<Mutex<InstrumentCounts>>,
}

/// An instrument that can be told from others without a call of it.
#[derive(Clone)]
struct InstrumentIdentity {
    instrument: Arc<dyn Instrument>,
    address: Option<usize>,
}

impl InstrumentIdentity {
    fn of(instrument: &Arc<dyn Instrument>) -> Self {
        let mut address = None;
        survives(|| address = instrument.address());
        Self { instrument: instrument.clone(), address }
    }

    fn is(&self, other: &Self) -> bool {
        match (self.address, other.address) {
            (Some(one), Some(other)) => one == other,
            _ => Arc::ptr_eq(&self.instrument, &other.instrument),
        }
    }
}

/// What a watched instrument has counted. All that read it share this.
#[derive(Default)]
struct InstrumentCounts {
    /// What it had counted before, which does not count. `None` until it has been read without a panic.
    before: Option<MergedReadings>,
    /// The most that it has counted since then, by each reader. No reader gives less.
    most: MergedReadings,
    /// `most` is part of what stays of its name, and so does not grow.
    is_gone: bool,
}

impl InstrumentCounts {
    /// Puts what the instrument has counted since it is watched in the place of what it has counted in all.
    fn adjust(&mut self, readings: &mut MergedReadings, is_complete: bool) {
        if self.before.is_none() && is_complete {
            let lasting = readings.iter().filter(|(_, number)| is_lasting(number));
            self.before = Some(lasting.map(|(key, number)| (key.clone(), number.clone())).collect());
        }
        if let Some(before) = self.before.as_ref().filter(|_| !self.is_gone) {
            for (key, number) in readings.iter().filter(|(_, number)| is_lasting(number)) {
                let since = before.get(key).map_or_else(|| number.clone(), |before| since(number, before));
                match self.most.entry(key.clone()) {
                    Entry::Vacant(absent) => drop(absent.insert(since)),
                    Entry::Occupied(mut present) => raise(present.get_mut(), &since),
                }
            }
        }
        readings.retain(|_, number| !is_lasting(number));
        readings.extend(self.most.iter().map(|(key, number)| (key.clone(), number.clone())));
    }
}

impl WatchedInstrument {
    /// Adds its present readings, but for what it had counted before.
    fn add_to(&self, merged: &mut MergedReadings, now: Instant) {
        let mut readings = MergedReadings::new();
        // It may be a user's, so it is read under no lock.
        let is_complete = read(&*self.instrument.instrument, now, &mut readings);
        lock(&self.counted).adjust(&mut readings, is_complete);
        readings.into_iter().for_each(|(key, number)| merge(merged, key, number));
    }

    fn is_begun(&self) -> bool {
        lock(&self.counted).before.is_some()
    }
}

/// Instruments that are read until this is dropped.
pub(super) struct RegistryWatch {
    registry: Arc<InstrumentRegistry>,
    name: &'static str,
    instruments: Vec<InstrumentIdentity>,
}

impl InstrumentRegistry {
    /// The tally of the stacks of this name.
    pub(super) fn tally(&self, name: &'static str) -> Arc<CallTally> {
        self.groups().entry(name).or_default().tally.get_or_insert_default().clone()
    }

    /// Reads these instruments from now on.
    pub(super) fn watch(self: &Arc<Self>, name: &'static str, instruments: &[Arc<dyn Instrument>]) -> RegistryWatch {
        let instruments: Vec<_> = instruments.iter().map(InstrumentIdentity::of).collect();
        let mut groups = self.groups();
        let group = groups.entry(name).or_default();
        let all: Vec<_> = instruments.iter().map(|instrument| group.watch(instrument)).collect();
        drop(groups);
        // What comes from now on counts. Another thread may have begun to read it since.
        for watched in all.iter().filter(|watched| !watched.is_begun()) {
            watched.add_to(&mut MergedReadings::new(), Instant::now());
        }
        RegistryWatch { registry: self.clone(), name, instruments }
    }

    /// The tally and the readings of each name.
    pub(super) fn read(&self) -> Vec<(&'static str, Option<Arc<CallTally>>, MergedReadings)> {
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

    fn groups(&self) -> MutexGuard<'_, BTreeMap<&'static str, StackGroup>> {
        lock(&self.groups)
    }

    /// Takes one use of an instrument away, unless it is the last one.
    fn release(&self, name: &'static str, instrument: &InstrumentIdentity) -> Option<WatchedInstrument> {
        let mut groups = self.groups();
        let watched = groups.get_mut(name)?.watched.iter_mut().find(|watched| watched.instrument.is(instrument))?;
        if watched.uses > 1 {
            watched.uses -= 1;
            return None;
        }
        Some(watched.clone())
    }

    /// Takes an instrument away for good. What it has counted stays.
    fn retire(&self, name: &'static str, last: &WatchedInstrument) {
        let mut readings = MergedReadings::new();
        last.add_to(&mut readings, Instant::now());
        let mut groups = self.groups();
        let Some(group) = groups.get_mut(name) else { return };
        let is_last = |watched: &WatchedInstrument| watched.instrument.is(&last.instrument);
        let Some(place) = group.watched.iter().position(is_last) else { return };
        if group.watched[place].uses > 1 {
            // Somebody watches it again.
            group.watched[place].uses -= 1;
            return;
        }
        let gone = group.watched.remove(place);
        let mut counted = lock(&gone.counted);
        // Those that read it meanwhile give no more than stays.
        counted.is_gone = true;
        // The series of its gauges go on: there is none of it.
        let gauges = readings.into_iter().filter(|(_, number)| !is_lasting(number));
        let gauges = gauges.map(|(key, _)| (key, Number::Sum(0.0)));
        for (key, number) in counted.most.clone().into_iter().chain(gauges) {
            merge(&mut group.gone, key, number);
        }
    }
}

impl StackGroup {
    /// Watches an instrument once more.
    fn watch(&mut self, instrument: &InstrumentIdentity) -> WatchedInstrument {
        if let Some(watched) = self.watched.iter_mut().find(|watched| watched.instrument.is(instrument)) {
            watched.uses += 1;
            return watched.clone();
        }
        let watched = WatchedInstrument { instrument: instrument.clone(), uses: 1, counted: Arc::default() };
        self.watched.push(watched.clone());
        watched
    }
}

impl Drop for RegistryWatch {
    fn drop(&mut self) {
        for instrument in &self.instruments {
            if let Some(last) = self.registry.release(self.name, instrument) {
                self.registry.retire(self.name, &last);
            }
        }
    }
}

impl fmt::Debug for InstrumentRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.groups().keys()).finish()
    }
}

/// Reads an instrument. Returns whether it has given all, or has panicked.
fn read(instrument: &dyn Instrument, now: Instant, merged: &mut MergedReadings) -> bool {
    let mut take = |reading: Reading| {
        let (name, labels, number) = (reading.name(), reading.labels().to_vec(), reading.number().clone());
        merge(merged, (name, labels), number);
    };
    survives(|| instrument.read(now, &mut Readings::to(&mut take)))
}

/// Whether a number stays when its mechanism is gone.
fn is_lasting(number: &Number) -> bool {
    matches!(number, Number::Count(_) | Number::Durations(_))
}

/// What has been counted since an earlier state.
fn since(number: &Number, before: &Number) -> Number {
    match (number, before) {
        (Number::Count(count), Number::Count(before)) => Number::Count(count.saturating_sub(*before)),
        (Number::Durations(durations), Number::Durations(before)) => {
            Number::Durations(Box::new(durations.since(before)))
        }
        _ => number.clone(),
    }
}

/// Raises what was counted to this, where this is more.
fn raise(most: &mut Number, number: &Number) {
    match (most, number) {
        (Number::Count(most), Number::Count(count)) => *most = (*most).max(*count),
        (Number::Durations(most), Number::Durations(durations)) => most.raise(durations),
        _ => {}
    }
}

/// Adds a number to those of its key.
fn merge(merged: &mut MergedReadings, key: ReadingKey, number: Number) {
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
