use super::{handle::Keyed, shared::KeyedShared};
use crate::{
    held::address,
    shell::{Instrument, Reading, Readings},
};
use std::{fmt, sync::Arc};
use tokio::time::Instant;

/// What can be read of a table of buckets, whatever its keys are.
pub(super) struct KeyedInstrument(Arc<KeyedShared>);

impl<K: ?Sized, T, S> Keyed<K, T, S> {
    pub(super) fn instrument(&self) -> KeyedInstrument {
        KeyedInstrument(self.shared.clone())
    }
}

impl Instrument for KeyedInstrument {
    fn read(&self, now: Instant, readings: &mut Readings<'_>) {
        read(&self.0, now, readings);
    }

    fn address(&self) -> Option<usize> {
        Some(address(&self.0))
    }
}

/// Gives the number of live keys, `keys`, and how often a key found no slot, `keys_overflow_total`: both with the label
/// `mechanism="rate_limit"`.
///
/// # Cost
///
/// A look at all slots, a block of 8 KiB at a time: calls wait for at most that. In a table for more than 700,000 keys
/// it looks at a part of the blocks that stands for all. Then the number is an estimate. It is off by less than one in
/// a hundred where there are enough keys to matter.
impl<K: ?Sized + 'static, T: Send + Sync + 'static, S: Send + Sync + 'static> Instrument for Keyed<K, T, S> {
    fn read(&self, now: Instant, readings: &mut Readings<'_>) {
        read(&self.shared, now, readings);
    }

    fn address(&self) -> Option<usize> {
        Some(address(&self.shared))
    }
}

fn read(shared: &KeyedShared, now: Instant, readings: &mut Readings<'_>) {
    let of_keys = |reading: Reading| reading.label("mechanism", "rate_limit");
    readings.add(of_keys(Reading::sum("keys", shared.about_live_keys(now) as f64)));
    readings.add(of_keys(Reading::count("keys_overflow_total", shared.table.overflows())));
}

impl fmt::Debug for KeyedInstrument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedInstrument").field("max_keys", &self.0.max_keys).finish_non_exhaustive()
    }
}
