use crate::clock::Nanos;
use std::time::Duration;

/// The time between readings of the signals.
pub(super) const EVERY: Nanos = Nanos::of(Duration::from_millis(10));
/// A cap counts in parts of a call, so that it can shrink by 2%. This number of parts is one call.
const PARTS: u64 = 1024;
/// The most periods that [`Cap::after`] computes. By then a cap is at one call, or has reached any limit below 400
/// million calls and ended.
const MOST_PERIODS: u64 = 2_000;

/// The most calls in flight that the signals allow, in parts of a call.
///
/// While a signal reports overload, the cap is at most the calls in flight. It shrinks by 2% in each period of 10 ms:
/// to about a third in half a second. After the overload it grows by 1% in each period, until it reaches the limit and
/// ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cap(pub(super) u64);

impl Cap {
    /// No cap.
    pub(super) const NONE: Self = Self(u64::MAX);

    /// Returns the cap in calls: at least one, so that a call can observe the end of the overload.
    #[inline]
    pub(super) fn calls(self) -> u64 {
        if self == Self::NONE { u64::MAX } else { (self.0 / PARTS).max(1) }
    }

    /// Returns the cap after this number of periods in one state.
    pub(super) fn after(self, periods: u64, is_overloaded: bool, in_flight: u64, limit: u64) -> Self {
        if !is_overloaded && self == Self::NONE {
            return self;
        }
        let mut parts = self.0;
        if is_overloaded {
            parts = parts.min(in_flight.max(1).saturating_mul(PARTS));
        }
        for _ in 0..periods.min(MOST_PERIODS) {
            parts = if is_overloaded { parts - parts / 50 } else { parts.saturating_add(parts.div_ceil(100)) };
            parts = parts.max(PARTS);
        }
        if !is_overloaded && parts / PARTS >= limit { Self::NONE } else { Self(parts) }
    }
}

#[cfg(all(test, not(steadfast_loom)))]
mod tests {
    use super::*;

    #[test]
    fn it_starts_at_the_calls_in_flight_shrinks_and_grows_back_to_the_limit() {
        let cap = Cap::NONE.after(1, true, 100, 10_000);
        assert_eq!(cap.calls(), 98);
        let cap = cap.after(49, true, 98, 10_000);
        assert_eq!(cap.calls(), 36);
        let grown = cap.after(100, false, 36, 10_000);
        assert!((90..=100).contains(&grown.calls()), "{grown:?}");
        assert_eq!(grown.after(2_000, false, 36, 10_000), Cap::NONE);
    }

    #[test]
    fn it_is_never_below_one_call_and_ends_from_there() {
        let least = Cap::NONE.after(u64::MAX, true, 0, 10);
        assert_eq!(least.calls(), 1);
        assert_eq!(least.after(1_000, false, 1, 10), Cap::NONE);
        assert_eq!(Cap::NONE.after(u64::MAX, false, 0, 0), Cap::NONE);
        assert!(Cap::NONE.after(1, true, u64::MAX, u64::MAX).calls() > 1 << 50);
    }
}
