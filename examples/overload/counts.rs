//! Counts of calls and of how they ended. The clients write them while the display reads them.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// In time. An answer after the deadline counts as [`TimedOut`](Self::TimedOut).
    Answered,
    TimedOut,
    BreakerOpen,
    LoadShed,
    RateLimited,
    /// None of the above: a broken connection, or an unexpected answer.
    Failed,
}

impl Ending {
    pub const ALL: [Self; 6] =
        [Self::Answered, Self::TimedOut, Self::BreakerOpen, Self::LoadShed, Self::RateLimited, Self::Failed];

    /// Returns the ending of a call that a mechanism stopped, on the client or on the server. `mechanism` is its name
    /// in a rejection.
    pub fn stopped_by(mechanism: &str) -> Self {
        match mechanism {
            "timeout" => Self::TimedOut,
            "circuit_breaker" => Self::BreakerOpen,
            "load_shed" => Self::LoadShed,
            "rate_limit" => Self::RateLimited,
            _ => Self::Failed,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Answered => "in time",
            Self::TimedOut => "timed out",
            Self::BreakerOpen => "breaker open",
            Self::LoadShed => "load shed",
            Self::RateLimited => "rate limited",
            Self::Failed => "failed",
        }
    }
}

/// Counters that change during the run. Each is independent of the others, so relaxed operations suffice.
#[derive(Default)]
pub struct Counters {
    offered: AtomicU64,
    endings: [AtomicU64; Ending::ALL.len()],
}

impl Counters {
    pub fn arrived(&self) {
        self.offered.fetch_add(1, Ordering::Relaxed);
    }

    pub fn ended(&self, ending: Ending) {
        self.endings[ending as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn read(&self) -> Counts {
        Counts {
            offered: self.offered.load(Ordering::Relaxed),
            endings: self.endings.each_ref().map(|count| count.load(Ordering::Relaxed)),
        }
    }
}

/// Counts at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub offered: u64,
    endings: [u64; Ending::ALL.len()],
}

impl Counts {
    pub fn of(&self, ending: Ending) -> u64 {
        self.endings[ending as usize]
    }

    pub fn unfinished(&self) -> u64 {
        self.offered.saturating_sub(self.endings.iter().sum())
    }

    pub fn plus(mut self, other: Self) -> Self {
        self.offered += other.offered;
        self.endings.iter_mut().zip(other.endings).for_each(|(count, more)| *count += more);
        self
    }

    /// Returns the calls per second, if `earlier` was taken `time` before these counts.
    pub fn per_second_since(&self, earlier: &Self, time: Duration) -> Rates {
        let rate = |now: u64, before: u64| {
            let seconds = time.as_secs_f64();
            if seconds > 0.0 { now.saturating_sub(before) as f64 / seconds } else { 0.0 }
        };
        Rates {
            offered: rate(self.offered, earlier.offered),
            endings: Ending::ALL.map(|ending| rate(self.of(ending), earlier.of(ending))),
        }
    }
}

/// Calls per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    pub offered: f64,
    endings: [f64; Ending::ALL.len()],
}

impl Rates {
    pub fn of(&self, ending: Ending) -> f64 {
        self.endings[ending as usize]
    }
}
