//! The readings of mechanisms that keep a state for each key, and of the configuration of a live stack. Each name and
//! label exists from the start, and a reading changes nothing.

mod keyed;
mod live;
mod per_key;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};
use steadfast::shell::{Begin, End, Instrument, Number, Observer, Readings, StateListener};
use tokio::time::Instant;

/// Returns the readings as in a scrape: `name{label="value"}`, and the number. Panics if a name occurs twice with the
/// same labels.
pub fn read(instrument: &(impl Instrument + ?Sized)) -> BTreeMap<String, f64> {
    read_at(instrument, Instant::now())
}

pub fn read_at(instrument: &(impl Instrument + ?Sized), now: Instant) -> BTreeMap<String, f64> {
    let mut all = BTreeMap::new();
    instrument.read(
        now,
        &mut Readings::to(&mut |reading| {
            let labels: Vec<_> = reading.labels().iter().map(|(name, value)| format!("{name}={value:?}")).collect();
            let name = match &*labels {
                [] => reading.name().to_owned(),
                labels => format!("{}{{{}}}", reading.name(), labels.join(",")),
            };
            let number = match reading.number() {
                Number::Count(count) => *count as f64,
                Number::Sum(value) | Number::Largest(value) => *value,
                other => panic!("{other:?}"),
            };
            assert!(all.insert(name.clone(), number).is_none(), "{name} comes twice");
        }),
    );
    all
}

/// Returns the number of one reading. `name` includes the labels, as in [`read`].
pub fn number(instrument: &(impl Instrument + ?Sized), name: &str) -> f64 {
    let all = read(instrument);
    *all.get(name).unwrap_or_else(|| panic!("no {name} in {all:?}"))
}

/// An observer that collects the instruments of a stack.
#[derive(Clone, Default)]
pub struct Collector(Arc<Mutex<Vec<Arc<dyn Instrument>>>>);

impl Collector {
    pub fn instruments(&self) -> Vec<Arc<dyn Instrument>> {
        self.0.lock().unwrap().clone()
    }

    /// Returns the only instrument of a stack.
    pub fn the_one(&self) -> Arc<dyn Instrument> {
        let instruments = self.instruments();
        assert_eq!(instruments.len(), 1);
        instruments[0].clone()
    }
}

impl Observer for Collector {
    type Watch = ();

    fn instruments(&self, instruments: &[Arc<dyn Instrument>]) {
        *self.0.lock().unwrap() = instruments.to_vec();
    }

    fn begin(&self, _begin: &Begin) {}

    fn end(&self, (): (), _end: &End<'_>) {}
}

/// Listens to an instrument while it is alive. Records each change as `mechanism: from => to: evidence`, with
/// ` (trouble)` at the end if [`StateChange::is_trouble`](steadfast::shell::StateChange::is_trouble) is true.
pub struct Notes {
    notes: Arc<Mutex<Vec<String>>>,
    _listener: Arc<StateListener>,
}

impl Notes {
    pub fn of(instrument: &(impl Instrument + ?Sized)) -> Self {
        Self::also(instrument, || {})
    }

    /// Makes notes as [`of`](Self::of) does, and runs `also` after each note.
    pub fn also(instrument: &(impl Instrument + ?Sized), also: impl Fn() + Send + Sync + 'static) -> Self {
        let notes = Arc::new(Mutex::new(Vec::new()));
        let to = notes.clone();
        let listener: Arc<StateListener> = Arc::new(move |change| {
            let trouble = if change.is_trouble() { " (trouble)" } else { "" };
            let (mechanism, from, to_state) = (change.mechanism(), change.from(), change.to());
            let note = format!("{mechanism}: {from} => {to_state}: {}{trouble}", change.evidence());
            to.lock().unwrap().push(note);
            also();
        });
        instrument.listen(&Arc::downgrade(&listener));
        Self { notes, _listener: listener }
    }

    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.notes.lock().unwrap())
    }
}
