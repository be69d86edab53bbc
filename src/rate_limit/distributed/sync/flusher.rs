use std::{fmt, future::Future, pin::Pin};

/// The background task of a distributed limit: spawn [`run`](Self::run).
///
/// It ends with the runtime that it is spawned in. Until another flusher runs, the limit then decides as it does while
/// the store is down. If another flusher exists but never runs, see [Without a
/// flusher](crate::rate_limit::distributed#without-a-flusher). A limit makes further flushers:
/// [`Exact::flusher`](crate::rate_limit::distributed::Exact::flusher),
/// [`Leased::flusher`](crate::rate_limit::distributed::Leased::flusher),
/// [`WriteBehind::flusher`](crate::rate_limit::distributed::WriteBehind::flusher).
#[must_use = "a limit whose flusher does not run never asks its store"]
pub struct Flusher(Pin<Box<dyn Future<Output = ()> + Send>>);

impl Flusher {
    pub(super) fn new(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(Box::pin(work))
    }

    /// Exchanges everything between the limit and its store, until the last handle of the limit is dropped. Then it
    /// reports what is left to report, returns what is held, and ends.
    ///
    /// One flusher of a limit works at a time, and the others wait for their turn. When the working flusher is dropped,
    /// for example with its runtime, the next one continues. Spawn one in each runtime that uses the limit and may
    /// outlive the others. A runtime can stop running without being dropped, such as a current-thread runtime after its
    /// `block_on`. A working flusher in it keeps its turn and blocks the others.
    ///
    /// For an orderly shutdown, wait until this function returns. To other processes, dropping the last flusher looks
    /// like a crash. The limit itself then decides as it does while the store is down, until another flusher runs.
    pub async fn run(self) {
        self.0.await;
    }
}

impl fmt::Debug for Flusher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flusher").finish_non_exhaustive()
    }
}
