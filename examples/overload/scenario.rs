//! The numbers of the scenario, each in one place.

use std::time::Duration;

/// How many requests the server works on at once.
pub const SLOTS: u32 = 30;

/// How long a slot takes for one request.
pub const SERVICE_TIME: Duration = Duration::from_millis(100);

/// The caller's deadline: a later answer is worthless to the caller.
pub const DEADLINE: Duration = Duration::from_secs(1);

/// The attempts of a call, with or without protection.
pub const ATTEMPTS: u32 = 3;

/// The offered loads, as multiples of the server's capacity.
pub const MULTIPLES: [f64; 5] = [0.5, 1.0, 2.0, 5.0, 10.0];

/// The load of the last step, in which the service time grows [`SLOWER`] times in mid-run.
pub const SLOWDOWN_MULTIPLE: f64 = 2.0;

/// The factor by which the service time grows.
pub const SLOWER: u32 = 3;

/// How long after the slowdown the calls count again. The work that was admitted earlier takes 2.4 s. The limit needs
/// about another second to notice that the service answers again.
pub const SETTLING: Duration = Duration::from_millis(3_500);

/// How many HTTP/2 connections the clients share. At peak they carry thousands of calls in flight.
pub const CONNECTIONS: usize = 4;

/// The capacity of the server in requests per second. It is exact by construction: every slot computes when it is free
/// again, so a late timer delays one answer and costs no capacity.
pub fn capacity_rps() -> f64 {
    f64::from(SLOTS) / SERVICE_TIME.as_secs_f64()
}

/// The capacity after the service time has grown.
pub fn slow_capacity_rps() -> f64 {
    capacity_rps() / f64::from(SLOWER)
}

/// How long one step of the run takes.
#[derive(Clone, Copy)]
pub struct Lengths {
    /// The load runs and nothing is counted: queues fill, connections settle.
    pub warm_up: Duration,
    /// The calls that arrive in this time are counted, each until its end.
    pub measured: Duration,
}

/// What happens in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// The load and the server are steady.
    Steady,
    /// The service time grows in mid-run. Calls count from when the server has settled.
    Slowdown,
}

impl Lengths {
    /// Returns these times for a step of this course. In the slow course the server gives a third of the answers per
    /// second, so the measured time is three times as long.
    pub fn of(self, course: Course) -> Self {
        match course {
            Course::Steady => self,
            Course::Slowdown => {
                Self { warm_up: self.warm_up + self.measured + SETTLING, measured: self.measured * SLOWER }
            }
        }
    }

    /// Returns how long the step takes. Its last calls take up to the deadline: half of it on average.
    pub fn whole(self) -> Duration {
        self.warm_up + self.measured + DEADLINE / 2
    }

    /// When the service time grows, from the start of the load.
    pub fn slow_after(self, course: Course) -> Option<Duration> {
        (course == Course::Slowdown).then(|| self.warm_up.saturating_sub(SETTLING))
    }
}

/// Whether server and clients are unprotected or behind the stacks of this crate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Unprotected,
    Protected,
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Self::Unprotected => "unprotected",
            Self::Protected => "protected",
        }
    }
}
