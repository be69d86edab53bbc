use super::{
    readings::Readings as LimitReadings,
    synchronizer::{Handle, Synchronizer},
};
use crate::{
    held::address,
    shell::{Instrument, Reading, Readings},
};
use std::sync::Arc;
use tokio::time::Instant;

/// The instrument of a limit in a stack, with the limit's name. It holds no handle, so it does not keep the flusher
/// from ending with the last handle.
pub(crate) struct StoreInstrument<S> {
    name: &'static str,
    synchronizer: Arc<S>,
}

impl<S: Synchronizer> Handle<S> {
    pub(crate) fn instrument(&self, name: &'static str) -> StoreInstrument<S> {
        StoreInstrument { name, synchronizer: self.shared().clone() }
    }
}

impl<S: Synchronizer> Instrument for StoreInstrument<S> {
    fn read(&self, now: Instant, readings: &mut Readings<'_>) {
        give(&self.synchronizer.readings(now), Some(self.name), readings);
    }

    fn address(&self) -> Option<usize> {
        Some(address(&self.synchronizer))
    }
}

/// Adds the readings of a limit. If it is part of a stack, all but `keys` get the label `name`.
pub(crate) fn give(limit: &LimitReadings, name: Option<&'static str>, readings: &mut Readings<'_>) {
    let store = &limit.store;
    let of_store = [
        Reading::largest("store_up", f64::from(u8::from(store.is_up))),
        Reading::largest("store_sync_age_seconds", store.staleness.as_secs_f64()),
        Reading::sum("store_debt", limit.unflushed as f64),
    ];
    for reading in of_store {
        readings.add(match name {
            Some(name) => reading.label("name", name),
            None => reading,
        });
    }
    readings.add(Reading::sum("keys", limit.keys as f64).label("mechanism", "rate_limit"));
}
