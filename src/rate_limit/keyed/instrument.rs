use super::{handle::Keyed, shared::KeyedShared};
use crate::{
    held::address,
    shell::{Instrument, Reading, Readings},
};
use std::{fmt, sync::Arc};
use tokio::time::Instant;

/// The instrument of a table of buckets, without the type of its keys.
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

/// Gives `keys`, the number of live keys, and `keys_overflow_total`, which counts how often a key found no slot. Both
/// have the label `mechanism="rate_limit"`.
///
/// # Cost
///
/// A reading visits all slots, one block of at most 8 KiB at a time. A call may wait until the reading has visited a
/// block. In a table for more than 700,000 keys it visits a sample of the blocks, and the number of live keys is an
/// estimate. The estimate is off by less than 1% if many keys are live.
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
