use super::{Queue, SLOW};
use crate::sync::{Ordering, lock};

impl Queue {
    /// Ends the queue: whoever waits is refused now, and whoever comes from now on is refused at once, even where there is
    /// room. Both get [`Rejection::Closed`](crate::Rejection::Closed). For a process that stops: accept no more, tell those
    /// who wait, let those in the service finish.
    ///
    /// - A call in the service goes on. Its permit returns its place as ever, so that
    ///   [`in_service`](Self::in_service) reads zero when the last one has ended.
    /// - A call whose turn has come is in the service, whether or not its task has seen that: it gets its permit. So does one
    ///   whose pace allows it by now. What a call gets does not depend on which task happens to be polled first.
    /// - [`try_acquire`](Self::try_acquire) finds no place. [`is_closed`](Self::is_closed) says why.
    /// - A queue stays closed. To close it again changes nothing.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), tower::BoxError> {
    /// use std::time::Duration;
    /// use steadfast::{Rejection, load_level::{LoadLevelLayer, Queue}};
    /// use tokio::time::{sleep, timeout};
    /// use tower::{BoxError, Layer, ServiceExt, service_fn};
    ///
    /// let query = service_fn(async |_: ()| {
    ///     sleep(Duration::from_millis(10)).await;
    ///     Ok::<_, BoxError>("rows")
    /// });
    /// let queue = Queue::builder(1, 100).build()?;
    /// let service = LoadLevelLayer::new(queue.clone()).typed_error().layer(query);
    /// let running = tokio::spawn(service.clone().oneshot(()));
    /// let waiting = tokio::spawn(service.clone().oneshot(()));
    /// tokio::task::yield_now().await;
    ///
    /// // On a signal to stop:
    /// queue.close();
    /// let refused = waiting.await?.unwrap_err();
    /// assert!(matches!(refused.rejection(), Some(Rejection::Closed(_))));
    /// let refused = service.oneshot(()).await.unwrap_err();
    /// assert_eq!(refused.rejection().unwrap().to_string(), "load level: closed");
    ///
    /// // Wait until the calls in the service have ended, for as long as the process may take.
    /// let drained = async {
    ///     while queue.in_service() > 0 {
    ///         sleep(Duration::from_millis(5)).await;
    ///     }
    /// };
    /// timeout(Duration::from_secs(30), drained).await?;
    /// assert_eq!(running.await?.map_err(steadfast::Error::into_boxed)?, "rows");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cost
    ///
    /// One lock, and one wake-up for each call that waits, after the lock is released. An open queue does not look whether it
    /// is closed: a closed one sends each call to the lock.
    pub fn close(&self) {
        self.change(|state, places, now| state.close(places, now));
    }

    /// Whether the queue is [closed](Self::close). Takes the lock if calls wait, there is a pace, or the queue is closed.
    pub fn is_closed(&self) -> bool {
        let shared = &*self.shared;
        shared.word.0.load(Ordering::Relaxed) & SLOW != 0 && lock(&shared.state).is_closed()
    }
}
