mod calls;
mod closing;
mod settings;

pub(super) use calls::ArrivingCall;

use super::{
    QueueBuilder, Readings,
    acquire::{Acquire, Permit},
    places::{Places, Word},
    state::QueueState,
};
use crate::{
    clock::Origin,
    histogram::Histogram,
    sync::{Mutex, lock},
};
use std::{fmt, sync::Arc};
use tokio::time::Instant;

/// A bounded queue in front of a service that does a limited number of calls at once.
///
/// No call waits while there is room in the service. The others wait for their turn, in the order of the
/// [`Discipline`](super::Discipline). The queue limits their number, their weight and their time. Clones share the
/// queue.
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
/// While no call waits and there is no pace: one compare-and-swap to admit and one to leave; no clock, no lock, no
/// allocation. Otherwise, and for each change of a setting, it takes a lock and reads the clock. A place in the queue
/// has 80 bytes, which are used again. One wake-up ends a wait, with any number of waiters.
#[derive(Clone)]
pub struct Queue {
    shared: Arc<QueueShared>,
}

struct QueueShared {
    word: Word,
    origin: Origin,
    state: Mutex<QueueState>,
}

impl Queue {
    /// At most `concurrency` calls are in the service at once, and at most `depth` wait.
    ///
    /// By Little's law the calls in a service at capacity are its calls per second times their mean latency. A depth
    /// beyond the calls that are served within [`max_wait`](QueueBuilder::max_wait) only delays refusals.
    pub fn builder(concurrency: usize, depth: usize) -> QueueBuilder {
        QueueBuilder::new(concurrency, depth)
    }

    /// At most `concurrency` calls are in the service at once. The queue finds by itself how many may wait.
    ///
    /// It measures how fast the service takes the calls that wait. A newcomer is refused if the calls that would be
    /// served before it take longer than it may wait: the queue could only refuse it later. The time for which it may
    /// wait is that of the [discipline](QueueBuilder::discipline), by default half of the time until its deadline, and
    /// at most [`max_wait`](QueueBuilder::max_wait). So an overload leads to refusals in the moment in which the calls
    /// come, not after they have waited. The error is [`QueueFull`](crate::error::QueueFull) with the cause
    /// [`Deadline`](crate::error::QueueFullCause::Deadline).
    ///
    /// - The rate is that of the last 200 to 400 calls that waited (400 to 800 in a service of 200 at once, and so on),
    ///   or of the last 5 to 10 s in which calls waited, if these were fewer. Time in which no call waits does not
    ///   count.
    /// - The rate is known once 10 calls, and one for each place in the service, were taken from the queue, and calls
    ///   have waited for 50 ms in all. The queue measures it again after ten seconds without a waiter, and after a standstill:
    ///   no call was taken for 20 times the mean time of a call. A new [pace](QueueBuilder::pace) does the same. Until
    ///   it is known, only the [depth](QueueBuilder::depth) is a bound.
    /// - A queue in which no call waits takes the next one, at any rate. A rate that is too low for a while makes the
    ///   queue shorter, but lets the service work on; one that is too high makes calls wait that are refused later.
    ///
    /// [`Readings`] state the rate and the depth that follows from it. The cost of a call that waits is that of any
    /// queue, and one division when it comes.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), steadfast::ConfigError> {
    /// use std::time::Duration;
    /// use steadfast::load_level::Queue;
    /// use tokio::time::{interval, sleep};
    ///
    /// // A call takes 10 ms, and waits for up to 200 ms: behind 20 others. A new one comes every 5 ms.
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
    /// // Most are refused as they come. The others came before the rate was known, or to the last place.
    /// assert!(now.not_served.full > 400 && now.not_served.waited_too_long < 50);
    /// # Ok(())
    /// # }
    /// ```
    pub fn adaptive(concurrency: usize) -> QueueBuilder {
        QueueBuilder::adaptive(concurrency)
    }

    /// An empty queue.
    pub(super) fn of(limit: u32, state: QueueState) -> Self {
        let word = Word::new(limit, state.mode());
        let origin = Origin::at(Instant::now());
        Self { shared: Arc::new(QueueShared { word, origin, state: Mutex::new(state) }) }
    }

    /// Waits for its turn, as a call that weighs 1. Its deadline and its criticality are those of the
    /// [context](crate::CallContext::current) of the first poll. The permit holds a place in the service until it is
    /// dropped.
    ///
    /// The first poll takes the place in the queue. Dropping the future gives up the place at once. A future that is
    /// neither polled nor dropped when its turn has come keeps a place in the service.
    ///
    /// # Errors
    ///
    /// [`Rejection::QueueFull`](crate::Rejection::QueueFull) at once, or later where the place goes to a call that is
    /// worth more; [`Rejection::WaitedTooLong`](crate::Rejection::WaitedTooLong);
    /// [`Rejection::Closed`](crate::Rejection::Closed) at once, or later where the queue is [closed](Self::close).
    ///
    /// # Cost
    ///
    /// For a call that waits: one timer and one wake-up. With a pace it is woken once more each time that the order
    /// changes.
    pub fn acquire(&self) -> Acquire {
        self.acquire_weighing(1)
    }

    /// [`acquire`](Self::acquire) for a call of another weight.
    pub fn acquire_weighing(&self, weight: u64) -> Acquire {
        Acquire::new(self.clone(), weight)
    }

    /// Takes a place in the service if one is free, no call waits, and the queue is open. Where there is none it takes
    /// the lock, and counts as a call that arrived.
    pub fn try_acquire(&self) -> Option<Permit> {
        (self.enter() || self.enter_slowly(Instant::now())).then(|| Permit::new(self.clone()))
    }

    /// How long the calls waited that have left the queue, served or not.
    pub(super) fn waits(&self) -> Histogram {
        lock(&self.shared.state).waits
    }

    /// The address of what all its handles share.
    pub(super) fn address(&self) -> usize {
        crate::held::address(&self.shared)
    }

    /// The calls in the service.
    pub fn in_service(&self) -> usize {
        self.shared.word.places().taken as usize
    }

    /// The most calls that may be in the service.
    pub fn concurrency(&self) -> usize {
        self.shared.word.places().limit as usize
    }

    /// The queue as it is now, by tokio's clock. The expected wait is unknown at the beginning of a first backlog; see
    /// [`Readings::expected_wait`].
    pub fn readings(&self) -> Readings {
        self.readings_at(Instant::now())
    }

    /// The queue as it is at `now`. An instant before the latest one at which a call came or went counts as that one.
    ///
    /// It takes the lock, so read a busy queue only a few times per second. It changes nothing.
    pub fn readings_at(&self, now: Instant) -> Readings {
        let QueueShared { word, origin, state } = &*self.shared;
        let state = lock(state);
        Readings::of(&state, word.places(), state.time_at(origin.to(now)))
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Places { taken, limit } = self.shared.word.places();
        let waiting = lock(&self.shared.state).waiters.all().calls;
        f.debug_struct("Queue")
            .field("in_service", &taken)
            .field("concurrency", &limit)
            .field("waiting", &waiting)
            .finish()
    }
}
