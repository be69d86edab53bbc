//! The readings of token buckets and sliding windows. The modules `keyed` and `distributed` contain those of their
//! limits.

use super::{SlidingWindow, TokenBucket};
use crate::shell::{Instrument, Reading, Readings};
use tokio::time::Instant;

/// The value of the label `limit` for a limit without a name.
const UNNAMED: &str = "rate_limit";

/// A limit with its name.
pub(super) struct Named<L> {
    pub(super) name: &'static str,
    pub(super) limit: L,
}

/// Gives `rate_limit_available`, the tokens available now, and `rate_limit_waiting`, the calls in the wait queue.
impl Instrument for Named<TokenBucket> {
    fn read(&self, now: Instant, readings: &mut Readings<'_>) {
        let Self { name, limit: bucket } = self;
        let available = Reading::sum("rate_limit_available", bucket.available_at(now) as f64);
        readings.add(available.label("limit", name));
        readings.add(Reading::sum("rate_limit_waiting", bucket.waiting() as f64).label("limit", name));
    }

    fn address(&self) -> Option<usize> {
        Some(TokenBucket::address(&self.limit))
    }
}

/// Gives `rate_limit_available`, the tokens available now.
impl Instrument for Named<SlidingWindow> {
    fn read(&self, now: Instant, readings: &mut Readings<'_>) {
        let Self { name, limit: window } = self;
        let available = Reading::sum("rate_limit_available", window.available_at(now) as f64);
        readings.add(available.label("limit", name));
    }

    fn address(&self) -> Option<usize> {
        Some(SlidingWindow::address(&self.limit))
    }
}

/// Gives `rate_limit_available`, the tokens available now, and `rate_limit_waiting`, the calls in the wait queue. The
/// label `limit` is `rate_limit`.
impl Instrument for TokenBucket {
    fn read(&self, now: Instant, readings: &mut Readings<'_>) {
        Named { name: UNNAMED, limit: self.clone() }.read(now, readings);
    }

    fn address(&self) -> Option<usize> {
        Some(TokenBucket::address(self))
    }
}

/// Gives `rate_limit_available`, the tokens available now. The label `limit` is `rate_limit`.
impl Instrument for SlidingWindow {
    fn read(&self, now: Instant, readings: &mut Readings<'_>) {
        Named { name: UNNAMED, limit: self.clone() }.read(now, readings);
    }

    fn address(&self) -> Option<usize> {
        Some(SlidingWindow::address(self))
    }
}
