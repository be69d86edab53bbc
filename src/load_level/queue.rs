mod calls;
mod closing;
mod settings;

pub(super) use calls::ArrivingCall;

use super::{
    QueueBuilder, Readings,
    acquire::{Acquire, Permit},
    places::{ServicePlaces, Word},
    state::QueueState,
};
use crate::{
    clock::Origin,
    histogram::Histogram,
    sync::{Mutex, lock},
};
use std::{fmt, sync::Arc};
use tokio::time::Instant;

/// A bounded wait queue and a concurrency limit in front of a service.
///
/// A call waits only while all places in the service are taken, while other calls wait, or while the
/// [pace](QueueBuilder::pace) holds it back. Waiters are served in the order of the [`Discipline`](super::Discipline).
/// The queue bounds their number, their total weight and the time that they wait. Clones share the queue.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), steadfast::ConfigError> {
/// use std::time::Duration;
/// use steadfast::load_level::Queue;
///
/// let queue = Queue::builder(1, 100).build()?;
/// let permit = queue.acquire().await.unwrap();
/// let next = tokio::spawn({
///     let queue = queue.clone();
///     async move { queue.acquire().await.is_ok() }
/// });
/// tokio::task::yield_now().await;
/// assert_eq!((queue.in_service(), queue.readings().waiting), (1, 1));
/// drop(permit);
/// assert!(next.await.unwrap());
/// # Ok(())
/// # }
/// ```
///
/// # Cost
///
/// While no call waits and there is no pace, a call makes one compare-and-swap to enter and one to leave. It reads no
/// clock, takes no lock and allocates nothing. Otherwise a call takes a lock and reads the clock, as does each change
/// of a setting. A place in the queue has 80 bytes and is reused. A waiter is woken once, however long the queue is;
/// see [`acquire`](Self::acquire) for a queue with a pace.
#[doc(alias("buffer", "bulkhead queue", "CoDel", "backpressure", "throttle", "ConcurrencyLimit"))]
#[derive(Clone)]
pub struct Queue {
    shared: Arc<QueueShared>,
}

struct QueueShared {
    /// The places in the service, and whether a call needs the lock.
    word: Word,
    /// The instant from which the times in the state count.
    origin: Origin,
    state: Mutex<QueueState>,
}

impl Queue {
    /// Configures a queue with at most `concurrency` calls in the service at once, and at most `depth` waiters.
    ///
    /// By Little's law, the concurrency of a service at capacity is its throughput in calls per second times their mean
    /// latency. A depth above the number of calls that are served within [`max_wait`](QueueBuilder::max_wait) only
    /// delays refusals.
    pub fn builder(concurrency: usize, depth: usize) -> QueueBuilder {
        QueueBuilder::new(concurrency, depth)
    }

    /// Configures a queue with at most `concurrency` calls in the service at once, which finds its depth by itself.
    ///
    /// It measures the service rate: how fast the service takes the calls that wait. It refuses a new call if the calls
    /// that would be served before it take longer than the new call may wait. Such a call would only wait in vain, and
    /// be refused later. The [discipline](QueueBuilder::discipline) says how long it may wait: by default half of the
    /// time until its deadline, and at most [`max_wait`](QueueBuilder::max_wait). During an overload the queue
    /// therefore refuses calls when they come, not after they have waited. The error is
    /// [`QueueFull`](crate::error::QueueFull) with the cause [`Deadline`](crate::error::QueueFullCause::Deadline).
    ///
    /// - The rate is measured over the last 200 to 400 calls that waited. With a concurrency above 100 it is measured
    ///   over the last two to four calls for each place in the service. If the service takes more calls than that in 50
    ///   ms, the rate is measured over the last 50 to 100 ms. Time in which no call waits does not count. If fewer
    ///   calls waited in the last 5 to 10 s of the time that counts, the rate is measured over these seconds. A service
    ///   that takes fewer than 10 waiters, plus one for each place, in 5 s is measured over a longer time.
    /// - The rate is known once the service has taken enough waiters: 11, and one more for each of its places. Calls
    ///   must have been waiting for at least 50 ms of that time. The queue measures the rate again after a new
    ///   [pace](QueueBuilder::pace), after an idle time, and after a standstill. The idle time is ten seconds without a
    ///   waiter, or 20 times the mean time of a call, if that is longer. In a standstill calls wait, and the service
    ///   takes none of them for 20 times the mean time of a call. While the rate is not known, the
    ///   [depth](QueueBuilder::depth) is the only bound.
    /// - If no call waits, the next call may wait, however low the measured rate is. A measured rate that is too low
    ///   therefore makes the queue shorter for a while, but the service stays busy. A rate that is too high lets calls
    ///   wait that are refused later.
    ///
    /// [`Readings`] state the rate and the depth that follows from it. A call that waits costs two divisions more than
    /// in another queue: one when it comes, and one when its turn comes.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), steadfast::ConfigError> {
    /// use std::time::Duration;
    /// use steadfast::load_level::Queue;
    /// use tokio::time::{interval, sleep};
    ///
    /// // A call takes 10 ms and waits for up to 200 ms, behind at most 20 others. A new call comes every 5 ms.
    /// let queue = Queue::adaptive(1).max_wait(Duration::from_millis(200)).build()?;
    /// let mut arrivals = interval(Duration::from_millis(5));
    /// for _ in 0..1_000 {
    ///     arrivals.tick().await;
    ///     let queue = queue.clone();
    ///     tokio::spawn(async move {
    ///         let _permit = queue.acquire().await?;
    ///         sleep(Duration::from_millis(10)).await;
    ///         Ok::<_, steadfast::Rejection>(())
    ///     });
    /// }
    /// let now = queue.readings();
    /// assert_eq!((now.depth, now.max_depth), (21, 10_000));
    /// assert_eq!(now.served_per_second, Some(100.0));
    /// // Most refused calls are refused when they come. The others had come before the rate was known, or had the last
    /// // place.
    /// assert!(now.not_served.full > 400 && now.not_served.waited_too_long < 50);
    /// # Ok(())
    /// # }
    /// ```
    pub fn adaptive(concurrency: usize) -> QueueBuilder {
        QueueBuilder::adaptive(concurrency)
    }

    /// Returns an empty queue.
    pub(super) fn of(limit: u32, state: QueueState) -> Self {
        let word = Word::new(limit, state.mode());
        let origin = Origin::at(Instant::now());
        Self { shared: Arc::new(QueueShared { word, origin, state: Mutex::new(state) }) }
    }

    /// Waits for a place in the service, as a call that weighs 1. The deadline and the criticality are those of the
    /// [context](crate::CallContext::current) of the first poll. The permit keeps the place in the service until it is
    /// dropped.
    ///
    /// The first poll takes a place in the service, or else a place in the queue. Dropping the future gives that place
    /// up at once. A future that is neither polled nor dropped after its turn has come keeps a place in the service.
    ///
    /// # Errors
    ///
    /// - [`Rejection::QueueFull`](crate::Rejection::QueueFull): at once, or later if a call that is worth more takes
    ///   the waiter's place.
    /// - [`Rejection::WaitedTooLong`](crate::Rejection::WaitedTooLong): the call's time to wait has ended, or its
    ///   deadline passed before its task polled it.
    /// - [`Rejection::Closed`](crate::Rejection::Closed): at once, or later if the queue is [closed](Self::close).
    ///
    /// # Cost
    ///
    /// A call that waits makes one timer and is woken once. With a pace it is woken up to twice, and up to twice more
    /// for each call that overtakes it.
    pub fn acquire(&self) -> Acquire {
        self.acquire_weighing(1)
    }

    /// [`acquire`](Self::acquire) for a call of another weight.
    pub fn acquire_weighing(&self, weight: u64) -> Acquire {
        Acquire::new(self.clone(), weight)
    }

    /// Takes a place in the service if one is free, no call waits, the pace allows it, and the queue is open. Otherwise
    /// returns `None` at once. Takes the lock if it returns `None`, and with a pace. A call that takes the lock counts
    /// as an arrival in [`Readings::desired_concurrency`].
    pub fn try_acquire(&self) -> Option<Permit> {
        (self.enter() || self.enter_slowly(Instant::now())).then(|| Permit::new(self.clone()))
    }

    /// Returns the waits of the calls that have left the queue, served or not.
    pub(super) fn waits(&self) -> Histogram {
        lock(&self.shared.state).waits
    }

    /// Returns the address of the state that all handles share.
    pub(super) fn address(&self) -> usize {
        crate::held::address(&self.shared)
    }

    /// Returns the number of calls in the service.
    pub fn in_service(&self) -> usize {
        self.shared.word.places().taken as usize
    }

    /// Returns the concurrency limit: the most calls that may be in the service.
    pub fn concurrency(&self) -> usize {
        self.shared.word.places().limit as usize
    }

    /// Reads the queue now, by tokio's clock. The expected wait is not known at the beginning of a first backlog; see
    /// [`Readings::expected_wait`].
    pub fn readings(&self) -> Readings {
        self.readings_at(Instant::now())
    }

    /// Reads the queue at `now`. If `now` is earlier than the latest instant that the queue has seen under its lock,
    /// the readings are those of that latest instant.
    ///
    /// It takes the lock, so read a busy queue only a few times per second. It changes no state.
    pub fn readings_at(&self, now: Instant) -> Readings {
        let QueueShared { word, origin, state } = &*self.shared;
        let state = lock(state);
        Readings::of(&state, word.places(), state.time_at(origin.to(now)))
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ServicePlaces { taken, limit } = self.shared.word.places();
        let waiting = lock(&self.shared.state).waiters.all().calls;
        f.debug_struct("Queue")
            .field("in_service", &taken)
            .field("concurrency", &limit)
            .field("waiting", &waiting)
            .finish()
    }
}
