//! What observers read of mechanisms that keep many states: each name and label from the beginning, and nothing changes
//! by reading.

mod keyed;

use std::collections::BTreeMap;
use steadfast::shell::{Instrument, Number, Readings};
use tokio::time::Instant;

/// The readings as a scrape shows them: `name{label="value"}`, and the number. A name with the same labels comes once.
fn read(instrument: &(impl Instrument + ?Sized)) -> BTreeMap<String, f64> {
    read_at(instrument, Instant::now())
}

fn read_at(instrument: &(impl Instrument + ?Sized), now: Instant) -> BTreeMap<String, f64> {
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
                Number::Count(count) => count as f64,
                Number::Sum(value) | Number::Largest(value) => value,
                other => panic!("{other:?}"),
            };
            assert!(all.insert(name.clone(), number).is_none(), "{name} comes twice");
        }),
    );
    all
}

/// The number of this name and these labels.
fn number(instrument: &(impl Instrument + ?Sized), name: &str) -> f64 {
    let all = read(instrument);
    *all.get(name).unwrap_or_else(|| panic!("no {name} in {all:?}"))
}
