use crate::{backoff::Backoff, load_level::pace::Pace};
use std::time::Duration;

/// The settings of a worker, as its [builder](super::WorkerBuilder) documents them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) concurrency: usize,
    pub(super) prefetch: usize,
    pub(super) pace: Option<Pace>,
    pub(super) max_tries: u32,
    pub(super) backoff: Backoff,
    pub(super) max_age: Option<Duration>,
    pub(super) takeover_after: Duration,
}
