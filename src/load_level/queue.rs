mod closing;

use super::{
    Discipline, QueueBuilder, Readings,
    acquire::{Acquire, Permit},
    builder::{check_concurrency, check_depth, check_max_wait, check_max_weight},
    config::LoadLevelConfig,
    pace::{Pace, Share},
    state::{Arrival, Newcomer, Places, State, Turn},
    waiters::{CLASSES, Place, drop_waker},
};
use crate::{
    Criticality, Rejection,
    clock::{self, Origin},
    deadline::Deadline,
    error::ConfigError,
    sync::{AtomicU64, Mutex, Ordering, lock},
};
use std::{fmt, sync::Arc, task::Waker, time::Duration};
use tokio::time::Instant;

/// A bounded queue in front of a service that does so many things at once.
///
/// So many calls are in the service at most, and as long as there is room nobody waits. The others wait for their turn,
/// in the order of the [`Discipline`]; no more than the queue may hold, and no longer than they may. Clones share the
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
/// While nobody waits and there is no pace: one compare-and-swap to admit and one to leave; no clock, no lock, no
/// allocation. Otherwise, and for each change of a setting, a lock is taken, and the clock is read. A place in the queue is 112 bytes, which are used
/// again; one wake-up ends the wait, however many wait.
#[derive(Clone)]
pub struct Queue {
    shared: Arc<Shared>,
}

struct Shared {
    word: Word,
    origin: Origin,
    state: Mutex<State>,
}

/// The calls in the service, how many there may be, and whether to ask under the lock. While [`SLOW`] is set only the
/// holder of the lock changes it. Relaxed throughout: it guards no other memory, and each change is one atomic step.
///
/// On a line of the cache of its own.
#[repr(align(128))]
struct Word(AtomicU64);

const LIMIT_SHIFT: u32 = 31;
const TAKEN: u64 = (1 << LIMIT_SHIFT) - 1;
/// Somebody waits, there is a pace, or the queue is closed.
const SLOW: u64 = 1 << 63;
/// The most calls in a service.
pub(super) const MOST_CONCURRENCY: usize = (1 << LIMIT_SHIFT) - 1;

impl Places {
    fn of(word: u64) -> Self {
        Self { taken: (word & TAKEN) as u32, limit: ((word & !SLOW) >> LIMIT_SHIFT) as u32 }
    }

    fn word(self) -> u64 {
        (u64::from(self.limit) << LIMIT_SHIFT) | u64::from(self.taken)
    }
}

/// A call that comes, as the queue sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    pub(super) weight: u64,
    pub(super) criticality: Criticality,
    pub(super) deadline: Deadline,
}

/// Where a place stands.
pub(super) enum Standing {
    Come(Share),
    Refused(Rejection),
    NotBefore(Instant),
}

impl Queue {
    /// At most `concurrency` calls are in the service at once, and at most `depth` wait.
    ///
    /// By Little's law the calls in a service at capacity are its calls per second times their mean latency. A depth of
    /// more than is served within [`max_wait`](QueueBuilder::max_wait) is of no use but to be refused later.
    pub fn builder(concurrency: usize, depth: usize) -> QueueBuilder {
        QueueBuilder::new(concurrency, depth)
    }

    /// An empty queue.
    pub(super) fn of(limit: u32, state: State) -> Self {
        let slow = if state.needs_lock() { SLOW } else { 0 };
        let word = Word(AtomicU64::new(Places { taken: 0, limit }.word() | slow));
        let origin = Origin::at(Instant::now());
        Self { shared: Arc::new(Shared { word, origin, state: Mutex::new(state) }) }
    }

    /// Waits for its turn, as a call that weighs 1, with the deadline and the criticality of the
    /// [context](crate::CallContext::current) that is current in the first poll. The place is held until the permit is
    /// dropped.
    ///
    /// Nothing happens before the first poll, in which the place in the queue is taken. Dropping the future gives up
    /// the place at once. A future that is neither polled nor dropped when its turn has come keeps a place in the
    /// service.
    ///
    /// # Errors
    ///
    /// [`Rejection::QueueFull`] at once, or later where the place goes to one that is worth more;
    /// [`Rejection::WaitedTooLong`]; [`Rejection::Closed`] at once, or later where the queue is [closed](Self::close).
    ///
    /// # Cost
    ///
    /// For a call that waits: one timer, one wake-up, and with a pace a second one if the order changed meanwhile, each
    /// time.
    pub fn acquire(&self) -> Acquire {
        self.acquire_weighing(1)
    }

    /// The same for a call of another weight.
    pub fn acquire_weighing(&self, weight: u64) -> Acquire {
        Acquire::new(self.clone(), weight)
    }

    /// A place in the service, if there is one, nobody waits, and the queue is not closed. Where there is none it takes the
    /// lock, and counts as a call that arrived.
    pub fn try_acquire(&self) -> Option<Permit> {
        (self.enter() || self.enter_slowly(Instant::now())).then(|| Permit::new(self.clone()))
    }

    /// The calls in the service.
    pub fn in_service(&self) -> usize {
        self.places().taken as usize
    }

    /// The most calls that may be in the service.
    pub fn concurrency(&self) -> usize {
        self.places().limit as usize
    }

    /// The queue as it is now, by tokio's clock. The expected wait is unknown at the beginning of a first backlog; see
    /// [`Readings::expected_wait`].
    pub fn readings(&self) -> Readings {
        self.readings_at(Instant::now())
    }

    /// The queue as it is at `now`. An instant before the latest one at which a call came or went counts as that one.
    ///
    /// It takes the lock; in a queue that is busy not more than some times per second. It changes nothing.
    pub fn readings_at(&self, now: Instant) -> Readings {
        let Shared { origin, state, .. } = &*self.shared;
        let state = lock(state);
        let (places, now) = (self.places(), state.time_at(origin.nanos_to(now)));
        Readings::of(&state, places, now)
    }

    /// Changes the number of calls that may be in the service. Where more are, nobody is interrupted: nobody is let in
    /// until enough have ended. So a limit that adapts can fill it, on what it learns from the answers.
    ///
    /// # Errors
    ///
    /// It must be from 1 to 2^31 - 1; otherwise the old one stays.
    pub fn set_concurrency(&self, concurrency: usize) -> Result<(), ConfigError> {
        let limit = check_concurrency(concurrency)?;
        self.change(|state, places, now| {
            places.limit = limit;
            state.capacity_changes(now);
            state.admit(places, None, now);
        });
        Ok(())
    }

    /// Changes the number of calls that may wait. Those who wait stay, even if there are more, until a newcomer that is
    /// worth more needs the place: then as many go as are too many.
    ///
    /// # Errors
    ///
    /// It must be at least 1; otherwise the old one stays.
    pub fn set_depth(&self, depth: usize) -> Result<(), ConfigError> {
        check_depth(depth)?;
        self.change(|state, _, _| state.depth = depth);
        Ok(())
    }

    /// Changes what those who wait may weigh. Those who wait stay, even if they weigh more, as with
    /// [`set_depth`](Self::set_depth).
    ///
    /// # Errors
    ///
    /// It must be at least 1; otherwise the old one stays.
    pub fn set_max_weight(&self, max_weight: u64) -> Result<(), ConfigError> {
        check_max_weight(max_weight)?;
        self.change(|state, _, _| state.max_weight = max_weight.into());
        Ok(())
    }

    /// Changes the longest that a call may wait, for those that come from now on.
    ///
    /// # Errors
    ///
    /// It must be longer than zero and at most 366 days; otherwise the old one stays.
    pub fn set_max_wait(&self, max_wait: Duration) -> Result<(), ConfigError> {
        check_max_wait(max_wait)?;
        self.change(|state, _, _| state.max_wait = clock::nanos(max_wait));
        Ok(())
    }

    /// Changes the discipline. Who waits keeps the time for which it may wait, but for a target of
    /// [`Discipline::adaptive`], which counts for all.
    ///
    /// # Errors
    ///
    /// As [`build`](QueueBuilder::build); the old one stays.
    pub fn set_discipline(&self, discipline: Discipline) -> Result<(), ConfigError> {
        discipline.check()?;
        self.change(|state, _, _| state.set_discipline(discipline));
        Ok(())
    }

    /// Changes the pace, or takes it away. Who waits is told at once. The call that began last counts for the new pace,
    /// too: the next one begins so much later than that one as the new pace says, or now if it was due.
    ///
    /// # Errors
    ///
    /// As [`build`](QueueBuilder::build); the old one stays.
    pub fn set_pace(&self, pace: Option<(u64, Duration)>) -> Result<(), ConfigError> {
        let pace = pace.map(|(calls, period)| Pace::new("load_level.pace", calls, period)).transpose()?;
        self.change(|state, places, now| {
            state.pace = pace.map(|pace| pace.in_place_of(state.pace, now));
            state.capacity_changes(now);
            state.admit(places, None, now);
        });
        Ok(())
    }

    /// All of its settings.
    pub fn configuration(&self) -> LoadLevelConfig {
        let state = lock(&self.shared.state);
        let pace = state.pace.map(|pace| pace.terms());
        LoadLevelConfig {
            concurrency: self.concurrency(),
            depth: state.depth,
            max_weight: u64::try_from(state.max_weight).ok(),
            max_wait: Duration::from_nanos(state.max_wait),
            discipline: state.discipline(),
            pace: pace.map(|(count, period)| crate::pace::Pace { count, period }),
        }
    }

    /// Whether a call that weighs 1 finds no place to wait, unless it is worth more than one that waits; or no place at all,
    /// in a closed queue. Reads the clock and takes the lock if calls wait, there is a pace, or the queue is closed.
    pub(super) fn is_full(&self, now: impl FnOnce() -> Instant) -> bool {
        let Shared { word, origin, state } = &*self.shared;
        if word.0.load(Ordering::Relaxed) & SLOW == 0 {
            return false;
        }
        let now = origin.nanos_to(now());
        let state = lock(state);
        state.is_closed() || state.is_full(state.time_at(now))
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut State, &mut Places, u64)) {
        self.locked(Instant::now(), change);
    }

    fn places(&self) -> Places {
        Places::of(self.shared.word.0.load(Ordering::Relaxed))
    }

    /// Takes a place in the service if that needs no lock. It is given back by [`end`](Self::end).
    #[inline]
    pub(super) fn enter(&self) -> bool {
        let word = &self.shared.word.0;
        let mut seen = word.load(Ordering::Relaxed);
        loop {
            let Places { taken, limit } = Places::of(seen);
            if seen & SLOW != 0 || taken >= limit {
                return false;
            }
            match word.compare_exchange_weak(seen, seen + 1, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(newer) => seen = newer,
            }
        }
    }

    /// The same under the lock, and without waiting.
    #[cold]
    fn enter_slowly(&self, now: Instant) -> bool {
        self.locked(now, |state, places, now| state.try_arrive(places, now).is_some())
    }

    /// Takes a place in the service, or one in the queue, or neither.
    pub(super) fn arrive(&self, ticket: Ticket, now: Instant) -> Result<Arrival, Rejection> {
        let arrival = self.locked(now, |state, places, nanos| {
            let class = if state.by_criticality { (ticket.criticality as usize).min(CLASSES - 1) } else { 0 };
            let deadline = ticket.deadline.instant().map_or(u64::MAX, |instant| self.shared.origin.nanos_to(instant));
            state.arrive(Newcomer { class, weight: ticket.weight, deadline }, places, nanos)
        });
        arrival.map_err(Rejection::from)
    }

    /// Whether it is this place's turn. Then it has become one in the service; after a refusal it is gone. If not, the
    /// waker is woken when it is; at the instant that comes back it is to be asked again.
    pub(super) fn poll(&self, place: Place, waker: &Waker, now: Instant) -> Standing {
        // A waker is user code, and none runs with the lock held.
        let mut waker = Some(waker.clone());
        let (turn, nanos) =
            self.locked(now, |state, places, nanos| (state.poll(place, &mut waker, places, nanos), nanos));
        drop_waker(waker);
        match turn {
            Turn::Come(share) => Standing::Come(share),
            Turn::Refused(refusal) => Standing::Refused(refusal.into()),
            // At most 366 days ahead.
            Turn::NotBefore(at) => Standing::NotBefore(now + Duration::from_nanos(at.saturating_sub(nanos))),
        }
    }

    /// Gives up a place in the queue, or the one in the service that it has become.
    pub(super) fn leave(&self, place: Place, now: Instant) {
        self.locked(now, |state, places, now| state.leave(place, places, now));
    }

    /// Gives a place in the service back, exactly once for each that was taken, and what it has not used of the pace.
    #[inline]
    pub(super) fn end(&self, unused: Share, now: impl FnOnce() -> Instant) {
        let word = &self.shared.word.0;
        let mut seen = word.load(Ordering::Relaxed);
        while seen & SLOW == 0 {
            match word.compare_exchange_weak(seen, seen - 1, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(newer) => seen = newer,
            }
        }
        self.end_slowly(unused, now());
    }

    #[cold]
    fn end_slowly(&self, unused: Share, now: Instant) {
        self.locked(now, |state, places, now| state.end(unused, places, now));
    }

    /// Works on the queue with its lock held, and then wakes who is to be woken.
    fn locked<T>(&self, now: Instant, work: impl FnOnce(&mut State, &mut Places, u64) -> T) -> T {
        let Shared { word, origin, state } = &*self.shared;
        let mut state = lock(state);
        // From here until the word is stored nobody else changes it.
        let mut places = Places::of(word.0.fetch_or(SLOW, Ordering::Relaxed));
        let now = state.turn_to(origin.nanos_to(now));
        let result = work(&mut state, &mut places, now);
        state.arm(&places, now);
        let slow = if state.needs_lock() { SLOW } else { 0 };
        word.0.store(places.word() | slow, Ordering::Relaxed);
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        wakers.wake();
        result
    }

    pub(crate) fn describe(&self) -> String {
        lock(&self.shared.state).describe(self.places().limit)
    }

    pub(crate) fn longest_wait(&self) -> Duration {
        Duration::from_nanos(lock(&self.shared.state).max_wait)
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Places { taken, limit } = self.places();
        let waiting = lock(&self.shared.state).waiters.waiting();
        f.debug_struct("Queue")
            .field("in_service", &taken)
            .field("concurrency", &limit)
            .field("waiting", &waiting)
            .finish()
    }
}
