use crate::sync::{Mutex, lock};
use std::{fmt, sync::Arc};

/// The totals of a worker: at its end, or so far in [`WorkerReadings`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerReport {
    /// The calls that ended with success.
    pub succeeded: u64,
    /// The calls that failed, and the messages that could not be decoded. The calls in `rejected` do not count.
    pub failed: u64,
    /// The calls that the service or a layer around it rejected, and that [do not count as a
    /// try](super::super#semantics). Their messages come again.
    pub rejected: u64,
    /// The messages that became dead letters.
    pub dead: u64,
    /// The messages that were dropped because they were too old.
    pub dropped_for_age: u64,
    /// The messages that were taken over from a worker that died or was cut off. A message that Redis gave to this
    /// worker in an answer that was lost counts too.
    pub taken_over: u64,
    /// The messages that were put back without a call when the worker ended.
    pub given_back: u64,
    /// The messages whose end, or whose return to the queue, Redis had not confirmed when the worker ended. They are
    /// delivered again, unless Redis recorded the end without the worker learning of it.
    pub unconfirmed: u64,
}

/// The state of a worker at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerReadings {
    /// The calls in progress.
    pub in_flight: usize,
    /// The messages that the worker has: in a call, waiting for a call, or with an unconfirmed end.
    pub held: usize,
    /// The totals so far.
    pub so_far: WorkerReport,
    /// The number of failed requests to Redis.
    pub redis_failures: u64,
    /// The last failure of Redis. `None` once a request has succeeded since then.
    pub redis_error: Option<String>,
}

/// Reads the state of a worker. Clones read the same worker.
#[derive(Clone)]
pub struct WorkerMonitor(pub(super) Arc<WorkerShared>);

#[derive(Default)]
pub(super) struct WorkerShared(Mutex<WorkerReadings>);

impl WorkerMonitor {
    /// Returns the worker's state now, or its last state after its end.
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
