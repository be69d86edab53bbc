use super::token_bucket::TokenBucket;
use tokio::time::Instant;

impl TokenBucket {
    /// Closes the bucket: refuses all waiters and every later call, even if there are tokens.
    ///
    /// A process that shuts down uses this to end its waits. A refusal reports
    /// [`RateLimited::is_closed`](crate::error::RateLimited::is_closed), and in a stack the call ends with
    /// [`Rejection::Closed`](crate::Rejection::Closed).
    ///
    /// - A waiter whose turn has come is admitted with its tokens, even if its task has not run since. If its future is
    ///   dropped before the task runs, the tokens go back to the bucket.
    /// - [`try_acquire`](Self::try_acquire) and [`reserve`](Self::reserve) are refused as well. One bucket may serve
    ///   layers that wait and layers that do not, and later calls must not get the tokens of refused waiters. To refuse
    ///   only waiters, give them a bucket of their own.
    /// - A call that costs nothing passes.
    /// - [`refund`](Self::refund), [`Reservation`](crate::rate_limit::Reservation)s and
    ///   [`available_at`](Self::available_at) work as before.
    /// - A limit in [shadow](crate::rate_limit::RateLimit::shadow) lets calls pass, and counts them as refused.
    /// - A bucket stays closed. Closing it again changes nothing.
    ///
    /// If the bucket limits calls to other services, close it last: work in progress may still need its tokens.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use steadfast::{Rejection, rate_limit::TokenBucket};
    ///
    /// let bucket = TokenBucket::builder(1, Duration::from_secs(60)).max_wait(Duration::from_secs(600)).build()?;
    /// bucket.acquire(1).await?;
    /// let waiting = tokio::spawn(bucket.acquire(1));
    /// tokio::task::yield_now().await;
    ///
    /// // On a shutdown signal, no task has to wait for its minute.
    /// bucket.close();
    /// let refused = waiting.await?.unwrap_err();
    /// assert!(refused.is_closed() && refused.retry_after().is_none());
    /// assert!(bucket.try_acquire(1).unwrap_err().is_closed());
    /// assert_eq!(Rejection::from(refused).to_string(), "rate limit: closed");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cost
    ///
    /// One lock, and one wake-up for each waiter after the lock is released. Calls to an open bucket cost nothing more.
    /// Each call to a closed bucket takes the lock.
    pub fn close(&self) {
        self.close_at(Instant::now());
    }

    /// [Closes](Self::close) the bucket at `now`: admits the waiters whose turn has come by that instant.
    pub fn close_at(&self, now: Instant) {
        self.shared.close(self.shared.origin.to(now));
    }

    /// Returns whether the bucket is [closed](Self::close). Takes the lock if calls wait, if the bucket has a warm-up,
    /// or if it is closed.
    pub fn is_closed(&self) -> bool {
        self.shared.is_closed()
    }
}
