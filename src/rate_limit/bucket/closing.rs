use super::token_bucket::TokenBucket;
use tokio::time::Instant;

impl TokenBucket {
    /// Closes the bucket: refuses all waiters, and every call that comes later, even if there are tokens.
    /// [`RateLimited::is_closed`](crate::error::RateLimited::is_closed) is true of such a refusal. In a stack the call
    /// ends with [`Rejection::Closed`](crate::Rejection::Closed). A process that stops uses it to end its waits.
    ///
    /// - A waiter whose turn has come is admitted with its tokens, whether or not its task has run since. If it is
    ///   dropped before that, it gives them back.
    /// - [`try_acquire`](Self::try_acquire) and [`reserve`](Self::reserve) are refused as well. One bucket may serve
    ///   layers that wait and layers that do not, and later calls must not get the tokens that refused waiters had
    ///   waited for. To refuse waiters alone, give them a bucket of their own.
    /// - A call that costs nothing passes.
    /// - [`refund`](Self::refund), [`Reservation`](crate::rate_limit::Reservation)s and
    ///   [`available_at`](Self::available_at) work as before.
    /// - A limit in [shadow](crate::rate_limit::RateLimit::shadow) lets calls pass, and counts them as refused.
    /// - A bucket stays closed. Closing it again changes nothing.
    ///
    /// Work that has begun may still need tokens of a bucket that limits calls to other services. Close such a bucket
    /// last.
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
    /// One lock, and one wake-up for each waiter, after the lock is released. An open bucket costs nothing more. Each
    /// call to a closed bucket takes the lock.
    pub fn close(&self) {
        self.close_at(Instant::now());
    }

    /// [Closes](Self::close) the bucket at `now`: admits the waiters whose turn has come by that instant.
    pub fn close_at(&self, now: Instant) {
        self.shared.close(self.shared.origin.to(now));
    }

    /// Whether the bucket is [closed](Self::close). Takes the lock while calls wait, while the bucket warms up, and
    /// when it is closed.
    pub fn is_closed(&self) -> bool {
        self.shared.is_closed()
    }
}
