//! The instruments to read, by the name of their stack, or by the name that the user gave to
//! [`Metrics::watch`](super::Metrics::watch).

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

/// The name of a reading, and its labels in the order in which the mechanism lists them.
type ReadingKey = (&'static str, Vec<(&'static str, &'static str)>);

/// The merged readings of several mechanisms.
pub(super) type MergedReadings = BTreeMap<ReadingKey, Number>;

/// All instruments, by name.
#[derive(Default)]
pub(super) struct InstrumentRegistry {
    groups: Mutex<BTreeMap<&'static str, StackGroup>>,
}

/// The stacks of one name, and the instruments watched under it.
#[derive(Default)]
struct StackGroup {
    /// The counts of the stacks. `None` if no stack has this name, and only mechanisms are watched.
    tally: Option<Arc<CallTally>>,
    watched: Vec<WatchedInstrument>,
    /// The counts of retired instruments, so that no count falls, and their gauges at zero. An instrument is retired
    /// when its last watch is dropped.
    gone: MergedReadings,
}

/// An instrument, the number of its watches, and its counts.
#[derive(Clone)]
struct WatchedInstrument {
    instrument: InstrumentIdentity,
    uses: usize,
    counted: Arc<Mutex<InstrumentCounts>>,
}

/// An instrument with its identity, which can be compared without calling the instrument.
#[derive(Clone)]
struct InstrumentIdentity {
    instrument: Arc<dyn Instrument>,
    /// The [address](Instrument::address) that the instrument returned, if any.
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

/// The counts of a watched instrument. All readers share it.
#[derive(Default)]
struct InstrumentCounts {
    /// The counts before the first watch, which are subtracted. `None` until a reading succeeded without a panic.
    before: Option<MergedReadings>,
    /// The highest counts, less those of `before`, that any reader has seen. No reader reports lower counts.
    most: MergedReadings,
    /// Whether `most` was added to [`StackGroup::gone`]. From then on, `most` must not grow.
    is_gone: bool,
}

impl InstrumentCounts {
    /// Replaces the total counts of the instrument by its counts since it was first watched. `is_complete` is false if
    /// the instrument panicked during the reading.
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
    /// Adds the current readings, less the counts before the first watch.
    fn add_to(&self, merged: &mut MergedReadings, now: Instant) {
        let mut readings = MergedReadings::new();
        // The instrument may be user code, so it is read under no lock.
        let is_complete = read(&*self.instrument.instrument, now, &mut readings);
        lock(&self.counted).adjust(&mut readings, is_complete);
        readings.into_iter().for_each(|(key, number)| merge(merged, key, number));
    }

    /// Returns whether the counts before the first watch are known.
    fn is_begun(&self) -> bool {
        lock(&self.counted).before.is_some()
    }
}

/// Watches instruments until it is dropped.
pub(super) struct RegistryWatch {
    registry: Arc<InstrumentRegistry>,
    name: &'static str,
    instruments: Vec<InstrumentIdentity>,
}

impl InstrumentRegistry {
    /// Returns the counts of the stacks of this name. Creates them at the first use of the name.
    pub(super) fn tally(&self, name: &'static str) -> Arc<CallTally> {
        self.groups().entry(name).or_default().tally.get_or_insert_default().clone()
    }

    /// Watches these instruments under this name, until the returned watch is dropped.
    pub(super) fn watch(self: &Arc<Self>, name: &'static str, instruments: &[Arc<dyn Instrument>]) -> RegistryWatch {
        let instruments: Vec<_> = instruments.iter().map(InstrumentIdentity::of).collect();
        let mut groups = self.groups();
        let group = groups.entry(name).or_default();
        let all: Vec<_> = instruments.iter().map(|instrument| group.watch(instrument)).collect();
        drop(groups);
        // Sets the starting point of the counts, unless another thread has done so.
        for watched in all.iter().filter(|watched| !watched.is_begun()) {
            watched.add_to(&mut MergedReadings::new(), Instant::now());
        }
        RegistryWatch { registry: self.clone(), name, instruments }
    }

    /// Returns the counts and the readings of each name.
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

    /// Removes one watch of an instrument, unless it is the last one. For the last one, returns the instrument:
    /// [`retire`](Self::retire) reads it once more, without the lock, and then removes it.
    fn release(&self, name: &'static str, instrument: &InstrumentIdentity) -> Option<WatchedInstrument> {
        let mut groups = self.groups();
        let watched = groups.get_mut(name)?.watched.iter_mut().find(|watched| watched.instrument.is(instrument))?;
        if watched.uses > 1 {
            watched.uses -= 1;
            return None;
        }
        Some(watched.clone())
    }

    /// Reads an instrument once more and removes it, unless another thread has begun to watch it. The counts of the
    /// instrument stay, and its gauges become zero.
    fn retire(&self, name: &'static str, last: &WatchedInstrument) {
        let mut readings = MergedReadings::new();
        last.add_to(&mut readings, Instant::now());
        let mut groups = self.groups();
        let Some(group) = groups.get_mut(name) else { return };
        let is_last = |watched: &WatchedInstrument| watched.instrument.is(&last.instrument);
        let Some(place) = group.watched.iter().position(is_last) else { return };
        if group.watched[place].uses > 1 {
            // Another thread has begun to watch the instrument, so only this watch ends.
            group.watched[place].uses -= 1;
            return;
        }
        let gone = group.watched.remove(place);
        let mut counted = lock(&gone.counted);
        // From here on, `most` stays as it is. A concurrent reader therefore reports no more than `gone` will contain.
        counted.is_gone = true;
        // The series of its gauges go on at zero.
        let gauges = readings.into_iter().filter(|(_, number)| !is_lasting(number));
        let gauges = gauges.map(|(key, _)| (key, Number::Sum(0.0)));
        for (key, number) in counted.most.clone().into_iter().chain(gauges) {
            merge(&mut group.gone, key, number);
        }
    }
}

impl StackGroup {
    /// Adds a watch of an instrument.
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

/// Reads an instrument. Returns `false` if it panicked.
fn read(instrument: &dyn Instrument, now: Instant, merged: &mut MergedReadings) -> bool {
    let mut take = |reading: Reading| {
        let (name, labels, number) = (reading.name(), reading.labels().to_vec(), reading.number().clone());
        merge(merged, (name, labels), number);
    };
    survives(|| instrument.read(now, &mut Readings::to(&mut take)))
}

/// Whether a number stays when its mechanism is dropped.
fn is_lasting(number: &Number) -> bool {
    matches!(number, Number::Count(_) | Number::Durations(_))
}

/// Subtracts an earlier number.
fn since(number: &Number, before: &Number) -> Number {
    match (number, before) {
        (Number::Count(count), Number::Count(before)) => Number::Count(count.saturating_sub(*before)),
        (Number::Durations(durations), Number::Durations(before)) => {
            Number::Durations(Box::new(durations.since(before)))
        }
        _ => number.clone(),
    }
}

/// Raises a count to another, if that is higher.
fn raise(most: &mut Number, number: &Number) {
    match (most, number) {
        (Number::Count(most), Number::Count(count)) => *most = (*most).max(*count),
        (Number::Durations(most), Number::Durations(durations)) => most.raise(durations),
        _ => {}
    }
}

/// Merges a number into the number of its key.
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
        // The gauges in `gone` are all `Sum(0.0)`, also those of kind `Largest`.
        (Number::Sum(most) | Number::Largest(most), Number::Largest(other))
        | (Number::Largest(most), Number::Sum(other)) => *most = most.max(other),
        (Number::Durations(all), Number::Durations(other)) => all.merge(&other),
        // Two kinds with one name: the first kind wins.
        _ => {}
    }
}
