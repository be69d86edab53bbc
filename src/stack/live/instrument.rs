use super::shared::LiveShared;
use crate::{
    held::address,
    shell::{Instrument, Reading, Readings, StateListener},
};
use std::sync::{Arc, Weak};
use tokio::time::Instant;

/// Reads `switched_off` and `config_changes_total`. `switched_off` is 1 while the kill switch is on, else 0.
/// `config_changes_total` has the label `result`: `applied` counts the configurations that changed something, `refused`
/// those that were refused. From its registration on, a listener learns of each counted configuration once, in order,
/// with the fields that changed or with the error. If more than 1024 configurations wait for delivery, the listener
/// misses the oldest.
pub(super) struct LiveInstrument(pub(super) Arc<LiveShared>);

impl Instrument for LiveInstrument {
    fn read(&self, _now: Instant, readings: &mut Readings<'_>) {
        let (applied, refused) = self.0.news.counts();
        let of_changes = |count, result| Reading::count("config_changes_total", count).label("result", result);
        readings.add(Reading::largest("switched_off", f64::from(u8::from(self.0.is_off()))));
        readings.add(of_changes(applied, "applied"));
        readings.add(of_changes(refused, "refused"));
    }

    fn listen(&self, listener: &Weak<StateListener>) {
        self.0.news.listen(listener);
    }

    fn address(&self) -> Option<usize> {
        Some(address(&self.0))
    }
}
