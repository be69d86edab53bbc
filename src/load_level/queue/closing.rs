use super::Queue;
use crate::{load_level::places::Mode, sync::lock};

impl Queue {
    /// Closes the queue: refuses all calls that wait, and every call that comes later, even if there is room. They get
    /// [`Rejection::Closed`](crate::Rejection::Closed). A process that stops uses it to end its waits while the calls
    /// in the service finish.
    ///
    /// - A call in the service goes on, and its permit returns its place. [`in_service`](Self::in_service) reads zero
    ///   when the last one has ended.
    /// - A call whose turn has come gets its permit, whether or not its task has run since. So does a call that the
    ///   pace allows by now. The outcome does not depend on which task is polled first.
    /// - A waiting future that is dropped instead of polled again leaves nothing behind.
    /// - [`try_acquire`](Self::try_acquire) returns `None`. [`is_closed`](Self::is_closed) tells this from a full
    ///   queue.
    /// - A queue stays closed. Closing it again changes nothing.
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
    /// One lock, and one wake-up for each call that waits, after the lock is released. An open queue costs nothing
    /// more. Each call to a closed queue takes the lock.
    pub fn close(&self) {
        self.change(|state, places, now| state.close(places, now));
    }

    /// Whether the queue is [closed](Self::close). Takes the lock if calls wait, there is a pace, or the queue is
    /// closed.
    pub fn is_closed(&self) -> bool {
        let shared = &*self.shared;
        shared.word.mode() == Mode::Slow && lock(&shared.state).is_closed()
    }
}
