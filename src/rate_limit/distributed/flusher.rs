use std::{fmt, future::Future, pin::Pin};

/// What has to run in the background for a limit that many processes keep: spawn [`run`](Self::run), once.
#[must_use = "a limit without its flusher has no store"]
pub struct Flusher(Pin<Box<dyn Future<Output = ()> + Send>>);

impl Flusher {
    pub(super) fn new(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(Box::pin(work))
    }

    /// Carries everything between the limit and its store, until the last handle of the limit is dropped; then it tells what
    /// is left to tell, gives back what is held, and ends.
    ///
    /// To wait for that is to shut down in order. Dropping this future is what a crash is for the others; the limit itself
    /// then decides as it does while the store is down.
    pub async fn run(self) {
        self.0.await;
    }
}

impl fmt::Debug for Flusher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flusher").finish_non_exhaustive()
    }
}
