//! Values of one machine word each, for the state that travels with a call.
//!
//! Rust moves structs and enums with loads of 16 bytes, often right after their parts were written. If a part was
//! written by a store of fewer than 8 bytes, the load waits until the store has left the store buffer: 4 to 10 ns. The
//! processor forwards stores of 8 bytes from the store buffer to the load, without this wait.

use crate::clock::Nanos;
use std::{fmt, time::Duration};

/// A boolean in one word.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Flag(u64);

impl Flag {
    pub(crate) const NO: Self = Self(0);
    pub(crate) const YES: Self = Self(1);

    #[inline]
    pub(crate) const fn of(is_so: bool) -> Self {
        Self(is_so as u64)
    }

    #[inline]
    pub(crate) const fn is_set(self) -> bool {
        self.0 != 0
    }
}

impl fmt::Debug for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.is_set().fmt(f)
    }
}

/// An optional duration in one word. Durations of 584 years or more are equal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wait(u64);

impl Wait {
    pub(crate) const NONE: Self = Self(u64::MAX);

    #[inline]
    pub(crate) const fn of(wait: Option<Duration>) -> Self {
        match wait {
            Some(wait) => {
                let Nanos(nanos) = Nanos::of(wait);
                Self(if nanos == u64::MAX { u64::MAX - 1 } else { nanos })
            }
            None => Self::NONE,
        }
    }

    #[inline]
    pub(crate) const fn get(self) -> Option<Duration> {
        if self.0 == u64::MAX { None } else { Some(Duration::from_nanos(self.0)) }
    }
}

impl Default for Wait {
    fn default() -> Self {
        Self::NONE
    }
}

impl fmt::Debug for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_kept_to_the_nanosecond_and_the_longest_are_one() {
        let longest = Duration::from_nanos(u64::MAX - 1);
        for wait in [Duration::ZERO, Duration::from_nanos(1), Duration::from_secs(366 * 24 * 3600), longest] {
            assert_eq!(Wait::of(Some(wait)).get(), Some(wait));
        }
        assert_eq!(Wait::of(Some(Duration::MAX)).get(), Some(longest));
        assert_eq!(Wait::of(None).get(), None);
    }
}
