use super::Queue;
use crate::{load_level::places::Mode, sync::lock};

impl Queue {
    /// Closes the queue: refuses every waiter whose turn has not come, and every later call even if the service has
    /// room. The refused calls get [`Rejection::Closed`](crate::Rejection::Closed). A process that stops closes its
    /// queue, so that waits end while the calls in the service finish.
    ///
    /// - A call in the service goes on, and its permit returns its place. [`in_service`](Self::in_service) reads zero
    ///   when the last call has ended.
    /// - A call whose turn has come gets its permit, whether or not its task has run since. So does a waiter that is
    ///   next while a place is free and the pace allows it by now. The result does not depend on which task is polled
    ///   first. Only a call that is polled after its deadline gets no permit.
    /// - A waiting future that is dropped instead of polled again leaves nothing behind.
    /// - [`try_acquire`](Self::try_acquire) returns `None`. [`is_closed`](Self::is_closed) tells a closed queue from a
    ///   full one.
    /// - A closed queue stays closed. Closing it again changes nothing.
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
    /// // Wait until the calls in the service have ended, for at most the time that the process may take.
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
    /// Takes one lock, and wakes each waiter once after the lock is released. The ability to close costs an open queue
    /// nothing. Each call to a closed queue takes the lock.
    pub fn close(&self) {
        self.change(|state, places, now| state.close(places, now));
    }

    /// Returns whether the queue is [closed](Self::close). Takes the lock if calls wait, there is a pace, or the queue
    /// is closed.
    pub fn is_closed(&self) -> bool {
        let shared = &*self.shared;
        shared.word.mode() == Mode::Slow && lock(&shared.state).is_closed()
    }
}
