use super::TokenBucket;
use tokio::time::Instant;

impl TokenBucket {
    /// Ends the bucket: whoever waits is refused now, and whoever comes from now on is refused at once, even if there are
    /// tokens. [`RateLimited::is_closed`](crate::error::RateLimited::is_closed) says why; in a stack such a call ends with
    /// [`Rejection::Closed`](crate::Rejection::Closed). For a process that stops and should not wait until the line is empty.
    ///
    /// - A waiter whose turn has come by now has its tokens, whether or not its task has seen that: it is admitted. Dropped
    ///   before that, it gives them back as ever.
    /// - [`try_acquire`](Self::try_acquire) and [`reserve`](Self::reserve) are refused as well. One bucket may serve layers
    ///   that wait and layers that do not, and a process that accepts no more means both; nor may those who come later have
    ///   the tokens for which others have waited in vain. To turn away only those who wait, use a bucket of their own.
    /// - A call that costs nothing asks nothing of the bucket, and passes.
    /// - [`refund`](Self::refund), a [`Reservation`](super::super::Reservation) and [`available_at`](Self::available_at) do
    ///   as ever.
    /// - A limit in [shadow](super::super::RateLimit::shadow) lets calls pass, closed or not, and counts them as refused.
    /// - A bucket stays closed. To close it again changes nothing.
    ///
    /// Work that has begun may still need tokens of a bucket that limits calls out. Close such a bucket last.
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
    /// // On a signal to stop: no task has to wait for its minute.
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
    /// One lock, and one wake-up for each waiter, after the lock is released. An open bucket does not look whether it is
    /// closed: a closed one sends each call to the lock.
    pub fn close(&self) {
        self.close_at(Instant::now());
    }

    /// The same at `now`: waiters whose turn has come by that instant are admitted.
    pub fn close_at(&self, now: Instant) {
        self.shared.close(self.shared.origin.nanos_to(now));
    }

    /// Whether the bucket is [closed](Self::close). Takes the lock while somebody waits, while the bucket warms up, and where
    /// it is closed.
    pub fn is_closed(&self) -> bool {
        self.shared.is_closed()
    }
}
