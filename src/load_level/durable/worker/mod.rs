//! Takes messages and calls a service with each.

mod builder;
mod call;
mod clock;
mod memory;
mod report;
mod requests;
mod run;

pub use builder::WorkerBuilder;
pub(super) use memory::Memory;
pub use report::{WorkerMonitor, WorkerReadings, WorkerReport};

use super::core::Core;
use crate::{backoff::Backoff, load_level::pace::Pace, sync::Mutex};
use report::Shared;
use std::{fmt, sync::Arc, time::Duration};

/// Takes messages of a queue and calls a service with each. Made by
/// [`DurableQueue::worker`](super::DurableQueue::worker).
///
/// It does nothing until it [runs](Self::run).
pub struct Worker<Decode, S> {
    core: Arc<Core>,
    settings: Settings,
    decode: Arc<Decode>,
    service: Arc<Mutex<S>>,
    shared: Arc<Shared>,
}

/// How a worker works.
#[derive(Clone, Copy, Debug)]
struct Settings {
    concurrency: usize,
    prefetch: usize,
    pace: Option<Pace>,
    max_tries: u32,
    backoff: Backoff,
    max_age: Option<Duration>,
    takeover_after: Duration,
}

impl<Decode, S> Worker<Decode, S> {
    /// What the worker does, for others to read while it runs.
    pub fn monitor(&self) -> WorkerMonitor {
        WorkerMonitor(self.shared.clone())
    }
}

impl<Decode, S> fmt::Debug for Worker<Decode, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Worker");
        debug.field("stream", &self.core.keys.stream).field("settings", &self.settings).finish_non_exhaustive()
    }
}
