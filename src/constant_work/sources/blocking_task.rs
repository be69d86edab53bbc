use crate::constant_work::{SourceError, SourceFailure};
use std::error::Error;
use tokio::{runtime::Handle, task::JoinHandle};

/// Runs blocking work on one of tokio's threads for such work, one operation at a time.
///
/// Blocking work cannot be stopped. If the caller drops the future, the work continues, and no other begins before it
/// ends. A disk that hangs therefore blocks one thread, not one for each attempt.
pub(crate) struct BlockingTask<R> {
    /// The work that runs, or that has ended and whose result was not taken yet.
    out: Option<JoinHandle<R>>,
}

impl<R> Default for BlockingTask<R> {
    fn default() -> Self {
        Self { out: None }
    }
}

impl<R: Send + 'static> BlockingTask<R> {
    /// Returns the result of work whose future was dropped, if there is any.
    ///
    /// # Errors
    ///
    /// [`SourceFailure::Busy`] while that work is still running.
    pub(crate) async fn left_behind(&mut self) -> Result<Option<R>, SourceError> {
        match &self.out {
            None => Ok(None),
            Some(out) if !out.is_finished() => Err(busy()),
            Some(_) => Ok(self.end().await.ok()),
        }
    }

    /// Runs the work and returns its result. Discards the result of earlier work whose future was dropped.
    ///
    /// # Errors
    ///
    /// [`SourceFailure::Busy`] while earlier work is still running. [`SourceFailure::Unreachable`] outside of a tokio
    /// runtime, or if the work panics.
    pub(crate) async fn run(&mut self, work: impl FnOnce() -> R + Send + 'static) -> Result<R, SourceError> {
        self.left_behind().await?;
        let handle = Handle::try_current().map_err(unreachable)?;
        self.out = Some(handle.spawn_blocking(work));
        self.end().await
    }

    async fn end(&mut self) -> Result<R, SourceError> {
        let Some(out) = &mut self.out else { return Err(busy()) };
        let ended = out.await;
        self.out = None;
        ended.map_err(unreachable)
    }
}

fn busy() -> SourceError {
    SourceError::new(SourceFailure::Busy)
}

fn unreachable(error: impl Error + Send + Sync + 'static) -> SourceError {
    SourceError::new(SourceFailure::Unreachable).because(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
            mpsc,
        },
        time::Duration,
    };
    use tokio::time::{sleep, timeout};

    #[tokio::test]
    async fn work_that_hangs_blocks_one_thread_and_no_caller() {
        let (go_on, hangs) = mpsc::channel::<()>();
        let (mut task, begun) = (BlockingTask::default(), Arc::new(AtomicUsize::new(0)));
        let work = |result: &'static str| {
            let begun = begun.clone();
            move || {
                begun.fetch_add(1, Ordering::Relaxed);
                result
            }
        };
        let (hanging, first) = (work("stale"), Duration::from_millis(20));
        let stuck = task.run(move || {
            let result = hanging();
            let _ = hangs.recv();
            result
        });
        timeout(first, stuck).await.expect_err("it hangs");
        for _ in 0..1000 {
            let failed = task.run(work("too early")).await.expect_err("the first one is still running");
            assert_eq!(failed.failure(), SourceFailure::Busy);
        }
        assert_eq!(begun.load(Ordering::Relaxed), 1, "nothing else has begun");
        go_on.send(()).expect("it hangs");
        let fresh = loop {
            match task.run(work("fresh")).await {
                Err(_) => sleep(Duration::from_millis(1)).await,
                Ok(fresh) => break fresh,
            }
        };
        assert_eq!(fresh, "fresh");
    }
}
