use crate::{
    held::address,
    shell::{Instrument, Reading, Readings},
    stripes::Counter,
};
use std::{fmt, sync::Arc};
use tokio::time::Instant;

/// Counts the calls that a rate limit has refused, or would have refused in shadow mode. A cheap handle; clones count
/// together.
///
/// The counter is striped over cache lines, so threads with refused calls rarely contend.
#[derive(Clone, Default)]
pub struct RefusedCalls(Arc<Counts>);

#[derive(Default)]
struct Counts {
    /// Includes the calls of `in_shadow`.
    all: Counter,
    in_shadow: Counter,
}

impl RefusedCalls {
    /// Returns the number of calls refused so far, including those that passed only because the limit
    /// was in shadow.
    pub fn get(&self) -> u64 {
        self.0.all.get()
    }

    /// Returns the number of calls that the limit would have refused, but let pass, because it was in
    /// [shadow](crate::rate_limit::RateLimit::shadow).
    pub fn in_shadow(&self) -> u64 {
        self.0.in_shadow.get()
    }

    /// Counts a call that is refused.
    pub(in crate::rate_limit) fn count(&self) {
        self.0.all.add_one();
    }

    /// Counts a call that passes in shadow.
    pub(in crate::rate_limit) fn count_in_shadow(&self) {
        self.count();
        self.0.in_shadow.add_one();
    }
}

impl fmt::Debug for RefusedCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RefusedCalls").field(&self.get()).finish()
    }
}

/// Gives `shadow_rejections_total` of the mechanism `rate_limit`.
impl Instrument for RefusedCalls {
    fn read(&self, _now: Instant, readings: &mut Readings<'_>) {
        let in_shadow = Reading::count("shadow_rejections_total", self.in_shadow());
        readings.add(in_shadow.label("mechanism", "rate_limit"));
    }

    fn address(&self) -> Option<usize> {
        Some(address(&self.0))
    }
}
