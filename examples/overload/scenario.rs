//! The numbers of the story, each in one place.

use std::time::Duration;

/// How many requests the server works on at once.
pub const SLOTS: u32 = 30;

/// How long a slot is busy with one request, always.
pub const SERVICE_TIME: Duration = Duration::from_millis(100);

/// The caller's patience: an answer after this long is worth nothing to it.
pub const DEADLINE: Duration = Duration::from_secs(1);

/// How often a client tries in all, with or without protection.
pub const ATTEMPTS: u32 = 3;

/// The offered loads, as multiples of the server's capacity.
pub const MULTIPLES: [f64; 5] = [0.5, 1.0, 2.0, 5.0, 10.0];

/// The load of the last step, in which the service time grows by [`SLOWER`] in mid-run.
pub const SLOWDOWN_MULTIPLE: f64 = 2.0;

/// By how much the service time grows.
pub const SLOWER: u32 = 3;

/// How long after that the calls count again. The work that was taken in before takes 2.4 s, and about a second passes
/// until the limit knows that the service answers again.
pub const SETTLING: Duration = Duration::from_millis(3_500);

/// How many HTTP/2 connections the clients share. Thousands of calls are in flight on them at the worst of times.
pub const CONNECTIONS: usize = 4;

/// The capacity of the server in requests per second: a fact of its construction, not an estimate. Every slot keeps
/// its own account of when it is free again, so a timer that fires late delays one answer and costs no capacity.
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
    /// Load runs, nothing is counted: queues fill, connections settle.
    pub warm_up: Duration,
    /// The calls that arrive in this time are counted, each until its end.
    pub measured: Duration,
}

/// What happens in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// The load is steady, and so is the server.
    Steady,
    /// The service time grows in mid-run. The calls count that arrive when the server has settled.
    Slowdown,
}

impl Lengths {
    /// The same for a step of this course. In the slow one a third of the answers takes three times as long to count.
    pub fn of(self, course: Course) -> Self {
        match course {
            Course::Steady => self,
            Course::Slowdown => {
                Self { warm_up: self.warm_up + self.measured + SETTLING, measured: self.measured * SLOWER }
            }
        }
    }

    /// When the service time grows, from the begin of the load.
    pub fn slow_after(self, course: Course) -> Option<Duration> {
        (course == Course::Slowdown).then(|| self.warm_up.saturating_sub(SETTLING))
    }
}

/// Whether server and clients are on their own or behind the stacks of this crate.
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
