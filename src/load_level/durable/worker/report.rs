use crate::sync::{Mutex, lock};
use std::{fmt, sync::Arc};

/// The work of a worker that has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerReport {
    /// The calls that ended with success.
    pub succeeded: u64,
    /// The calls that failed, those that the service rejected not counted.
    pub failed: u64,
    /// The calls that the service, or a layer around it, rejected: their messages come again, and that was no try.
    pub rejected: u64,
    /// The messages that became dead letters.
    pub dead: u64,
    /// The messages that were too old.
    pub dropped_for_age: u64,
    /// The messages that were taken over from a worker that died or was cut off.
    pub taken_over: u64,
    /// The messages that were given back when the worker ended, without a call.
    pub given_back: u64,
    /// The messages whose end Redis has not confirmed when the worker ended: they are delivered again, unless it has it
    /// all the same.
    pub unconfirmed: u64,
}

/// The state of a worker at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerReadings {
    /// The calls in progress.
    pub in_flight: usize,
    /// The messages that it has: those of the calls, those that wait for one, and those whose end is not confirmed.
    pub held: usize,
    /// Its work so far.
    pub so_far: WorkerReport,
    /// How often Redis failed it.
    pub redis_failures: u64,
    /// The last failure of Redis. `None` once a request has succeeded since then.
    pub redis_error: Option<String>,
}

/// Reads the state of a worker. Clones are one monitor.
#[derive(Clone)]
pub struct WorkerMonitor(pub(super) Arc<WorkerShared>);

#[derive(Default)]
pub(super) struct WorkerShared(Mutex<WorkerReadings>);

impl WorkerMonitor {
    /// The worker's state now. After its end: its last state.
    pub fn readings(&self) -> WorkerReadings {
        lock(&self.0.0).clone()
    }
}

impl fmt::Debug for WorkerMonitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WorkerMonitor").field(&self.readings()).finish()
    }
}

impl WorkerShared {
    pub(super) fn update(&self, update: impl FnOnce(&mut WorkerReadings)) {
        update(&mut lock(&self.0));
    }
}
