use super::{
    Discipline,
    acquire::{Acquire, Permit},
    pace::Pace,
    rates::{DrainTime, drain_time},
    state::{Arrival, Newcomer, Places, State, Turn},
    waiters::{CLASSES, Place, drop_waker},
};
use crate::{
    Criticality, Rejection,
    clock::{self, Origin},
    error::{ConfigError, QueueFull, QueueFullCause, WaitedTooLong},
    sync::{AtomicU64, Mutex, Ordering, lock},
    timeout::Deadline,
};
use std::{fmt, sync::Arc, task::Waker, time::Duration};
use tokio::time::Instant;

/// A bounded queue in front of a service that does so many things at once.
///
/// So many calls are in the service at most, and as long as there is room nobody waits. The others wait for their turn, in
/// the order of the [`Discipline`]; no more than the queue may hold, and no longer than they may. Clones share the queue.
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
/// allocation. Otherwise a lock is taken, and the clock is read. A place in the queue is 112 bytes, which are used again; one
/// wake-up ends the wait, however many wait.
#[derive(Clone)]
pub struct Queue {
    shared: Arc<Shared>,
}

struct Shared {
    word: Word,
    origin: Origin,
    state: Mutex<State>,
}

/// The calls in the service, how many there may be, and whether to ask under the lock. While [`SLOW`] is set only the holder
/// of the lock changes it. Relaxed throughout: it guards no other memory, and each change is one atomic step.
///
/// On a line of the cache of its own.
#[repr(align(128))]
struct Word(AtomicU64);

const LIMIT_SHIFT: u32 = 31;
const TAKEN: u64 = (1 << LIMIT_SHIFT) - 1;
/// Somebody waits, or there is a pace.
const SLOW: u64 = 1 << 63;
/// The most calls in a service.
const MOST_CONCURRENCY: usize = (1 << LIMIT_SHIFT) - 1;

impl Places {
    fn of(word: u64) -> Self {
        Self { taken: (word & TAKEN) as u32, limit: ((word & !SLOW) >> LIMIT_SHIFT) as u32 }
    }

    fn word(self) -> u64 {
        (u64::from(self.limit) << LIMIT_SHIFT) | u64::from(self.taken)
    }
}

/// Why a call is refused, as the queue keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Full { cause: QueueFullCause, bound: u64, retry_after: Option<Duration> },
    TooLong { waited: Duration, retry_after: Option<Duration> },
}

impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Full { cause, bound, retry_after } => QueueFull::new(cause, bound, retry_after).into(),
            Refusal::TooLong { waited, retry_after } => WaitedTooLong::new(waited, retry_after).into(),
        }
    }
}

/// How many calls were not served, ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Refused because the queue was full.
    pub full: u64,
    /// Refused after they had waited, because one that was worth more needed the place.
    pub displaced: u64,
    /// Refused because they had waited for as long as they may, or their deadline had passed.
    pub waited_too_long: u64,
    /// Dropped by their callers while they waited.
    pub cancelled: u64,
}

/// A queue at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Readings {
    /// The calls in the service.
    pub in_service: usize,
    /// The most calls that may be in the service.
    pub concurrency: usize,
    /// How many wait.
    pub waiting: usize,
    /// What they weigh.
    pub weight: u64,
    /// For how long the one has waited that has waited for longest. Zero where nobody waits.
    pub oldest_age: Duration,
    /// How long one would wait that came now and was served after all who wait: their number divided by how many leave per
    /// second. Zero where there is room; `None` where that is not known yet.
    pub expected_wait: Option<Duration>,
    /// When the backlog is gone if all goes on as in the last ten seconds: B / (u - l), where B wait, u leave the queue and l
    /// join it per second.
    pub drain_time: DrainTime,
    /// How many calls at once the service would have to do to keep up with what arrives, refused calls included, and to work
    /// off the backlog in ten seconds: for an autoscaler, which divides it by what one instance does. The calls in the
    /// service where nobody waits, as they are now: smooth it.
    pub desired_concurrency: usize,
    /// How many calls were not served, ever.
    pub not_served: Counts,
}

/// The time in which the [`desired_concurrency`](Readings::desired_concurrency) works off the backlog.
const TO_WORK_OFF: f64 = 10.0;

/// A call that comes, as the queue sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    pub(super) weight: u64,
    pub(super) criticality: Criticality,
    pub(super) deadline: Deadline,
}

/// Where a place stands.
pub(super) enum Standing {
    Come,
    Refused(Rejection),
    NotBefore(Instant),
}

impl Queue {
    /// At most `concurrency` calls are in the service at once, and at most `depth` wait.
    ///
    /// By Little's law the calls in a service at capacity are its calls per second times their mean latency. A depth of more
    /// than is served within [`max_wait`](QueueBuilder::max_wait) is of no use but to be refused later.
    pub fn builder(concurrency: usize, depth: usize) -> QueueBuilder {
        QueueBuilder {
            concurrency,
            depth,
            max_weight: None,
            max_wait: Duration::from_secs(1),
            discipline: Discipline::default(),
            by_criticality: false,
            pace: None,
        }
    }

    /// Waits for its turn, as a call that weighs 1, with the deadline and the criticality of the
    /// [current context](crate::CallContext::current). The place is held until the permit is dropped.
    ///
    /// Nothing happens before the first poll, in which the place in the queue is taken. Dropping the future gives up the place
    /// at once. A future that is neither polled nor dropped when its turn has come keeps a place in the service.
    ///
    /// # Errors
    ///
    /// [`Rejection::QueueFull`] at once, or later where the place goes to one that is worth more;
    /// [`Rejection::WaitedTooLong`].
    ///
    /// # Cost
    ///
    /// For a call that waits: one timer, one wake-up, and with a pace a second one if the order changed meanwhile, each time.
    pub fn acquire(&self) -> Acquire {
        self.acquire_weighing(1)
    }

    /// The same for a call of another weight.
    pub fn acquire_weighing(&self, weight: u64) -> Acquire {
        Acquire::new(self.clone(), weight)
    }

    /// A place in the service, if there is one and nobody waits.
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

    /// The queue as it is now, by tokio's clock.
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
        let (waiting, flow) = (state.waiters.waiting(), state.rates.flow(now, state.totals));
        let (in_service, concurrency) = (places.taken as usize, places.limit as usize);
        let desired_concurrency = match flow {
            Some(flow) if waiting > 0 && flow.served > 0.0 => {
                let needed = (flow.arrived + waiting as f64 / TO_WORK_OFF) / flow.served;
                (concurrency as f64 * needed).ceil() as usize
            }
            _ => in_service.saturating_add(waiting).min(concurrency),
        };
        Readings {
            in_service,
            concurrency,
            waiting,
            weight: u64::try_from(state.waiters.weight()).unwrap_or(u64::MAX),
            oldest_age: Duration::from_nanos(state.oldest_age(now)),
            expected_wait: match waiting {
                0 if in_service < concurrency => Some(Duration::ZERO),
                _ => state.expected_wait(now),
            },
            drain_time: drain_time(waiting as u64, flow),
            desired_concurrency: desired_concurrency.max(1),
            not_served: state.counts,
        }
    }

    /// Changes the number of calls that may be in the service. Where more are, nobody is interrupted: nobody is let in until
    /// enough have ended. So a limit that adapts can fill it, on what it learns from the answers.
    ///
    /// # Errors
    ///
    /// It must be from 1 to 2^31 - 1; otherwise the old one stays.
    pub fn set_concurrency(&self, concurrency: usize) -> Result<(), ConfigError> {
        let limit = check_concurrency(concurrency)?;
        self.change(|state, places, now| {
            places.limit = limit;
            state.admit(places, None, now);
        });
        Ok(())
    }

    /// Changes the number of calls that may wait. Those who wait stay, even if there are more.
    ///
    /// # Errors
    ///
    /// It must be at least 1; otherwise the old one stays.
    pub fn set_depth(&self, depth: usize) -> Result<(), ConfigError> {
        check_depth(depth)?;
        self.change(|state, _, _| state.depth = depth);
        Ok(())
    }

    /// Changes what those who wait may weigh. Those who wait stay, even if they weigh more.
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
        self.change(|state, _, _| state.rule = discipline.rule());
        Ok(())
    }

    /// Changes the pace, or takes it away. Who waits is told at once.
    ///
    /// # Errors
    ///
    /// As [`build`](QueueBuilder::build); the old one stays.
    pub fn set_pace(&self, pace: Option<(u64, Duration)>) -> Result<(), ConfigError> {
        if let Some((calls, period)) = pace {
            Pace::new(calls, period, 0)?;
        }
        self.change(|state, places, now| {
            // Checked above.
            state.pace = pace.and_then(|(calls, period)| Pace::new(calls, period, now).ok());
            state.admit(places, None, now);
        });
        Ok(())
    }

    fn change(&self, change: impl FnOnce(&mut State, &mut Places, u64)) {
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
        self.locked(now, |state, places, now| state.try_arrive(places, now))
    }

    /// Takes a place in the service, or one in the queue, or neither.
    pub(super) fn arrive(&self, ticket: Ticket, now: Instant) -> Result<Option<Place>, Rejection> {
        let arrival = self.locked(now, |state, places, nanos| {
            let class = if state.by_criticality { (ticket.criticality as usize).min(CLASSES - 1) } else { 0 };
            let patience = state.rule.patience(state.max_wait, ticket.deadline, now);
            let deadline = ticket.deadline.instant().map_or(u64::MAX, |instant| self.shared.origin.nanos_to(instant));
            state.arrive(Newcomer { class, weight: ticket.weight, patience, deadline }, places, nanos)
        });
        match arrival {
            Arrival::Admitted => Ok(None),
            Arrival::Waits(place) => Ok(Some(place)),
            Arrival::Refused(refusal) => Err(refusal.into()),
        }
    }

    /// Whether it is this place's turn. Then it has become one in the service; after a refusal it is gone. If not, the waker
    /// is woken when it is; at the instant that comes back it is to be asked again.
    pub(super) fn poll(&self, place: Place, waker: &Waker, now: Instant) -> Standing {
        // A waker is user code, and none runs with the lock held.
        let mut waker = Some(waker.clone());
        let (turn, nanos) =
            self.locked(now, |state, places, nanos| (state.poll(place, &mut waker, places, nanos), nanos));
        drop_waker(waker);
        match turn {
            Turn::Come => Standing::Come,
            Turn::Refused(refusal) => Standing::Refused(refusal.into()),
            // At most 366 days ahead.
            Turn::NotBefore(at) => Standing::NotBefore(now + Duration::from_nanos(at.saturating_sub(nanos))),
        }
    }

    /// Gives up a place in the queue, or the one in the service that it has become.
    pub(super) fn leave(&self, place: Place, now: Instant) {
        self.locked(now, |state, places, now| state.leave(place, places, now));
    }

    /// Gives a place in the service back; exactly once for each that was taken.
    #[inline]
    pub(super) fn end(&self, spared_the_service: bool, now: impl FnOnce() -> Instant) {
        let word = &self.shared.word.0;
        let mut seen = word.load(Ordering::Relaxed);
        while seen & SLOW == 0 {
            match word.compare_exchange_weak(seen, seen - 1, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(newer) => seen = newer,
            }
        }
        self.end_slowly(spared_the_service, now());
    }

    #[cold]
    fn end_slowly(&self, spared_the_service: bool, now: Instant) {
        self.locked(now, |state, places, now| state.end(spared_the_service, places, now));
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
        let Places { limit, .. } = self.places();
        let state = lock(&self.shared.state);
        format!("{limit} at once, {} waiting, for up to {:?}", state.depth, Duration::from_nanos(state.max_wait))
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

/// Configures a [`Queue`].
#[derive(Clone, Debug)]
#[must_use]
pub struct QueueBuilder {
    concurrency: usize,
    depth: usize,
    max_weight: Option<u64>,
    max_wait: Duration,
    discipline: Discipline,
    by_criticality: bool,
    pace: Option<(u64, Duration)>,
}

impl QueueBuilder {
    /// The most that those who wait may weigh together, in whatever unit the calls are weighed. A call that alone weighs more
    /// is refused unless there is room for it at once. Default: any.
    pub fn max_weight(self, max_weight: u64) -> Self {
        Self { max_weight: Some(max_weight), ..self }
    }

    /// The longest that a call waits, whatever its deadline. Where calls carry no deadline make it half of the time after which
    /// their callers give up: what is served later is more often than not served in vain. Default: a second, for callers that
    /// wait for two or more.
    pub fn max_wait(self, max_wait: Duration) -> Self {
        Self { max_wait, ..self }
    }

    /// Who is next, and who has waited too long. Default: [by deadline](Discipline::by_deadline), and half of it.
    pub fn discipline(self, discipline: Discipline) -> Self {
        Self { discipline, ..self }
    }

    /// Serves calls of a higher [`Criticality`] first, and takes the places of lower ones for them if the queue is full. In
    /// each class the discipline decides. As long as the higher classes alone are more than can be served, the lower ones are
    /// not. Default: all calls are of one class.
    pub fn by_criticality(self) -> Self {
        Self { by_criticality: true, ..self }
    }

    /// Lets at most `calls` begin in a `period`, evenly: one after the other, and where timers are too coarse for that those
    /// together that are due within five milliseconds. In every interval of length t at most `1 + (t + 5 ms) * calls /
    /// period` begin. Default: as fast as there is room.
    ///
    /// With a pace each call takes the lock.
    pub fn pace(self, calls: u64, period: Duration) -> Self {
        Self { pace: Some((calls, period)), ..self }
    }

    /// The queue, empty.
    ///
    /// # Errors
    ///
    /// The concurrency must be from 1 to 2^31 - 1, depth and weight at least 1; the longest wait longer than zero and at most
    /// 366 days; the pace from 1 call to one per nanosecond, in a period longer than zero and of at most 366 days; a share of
    /// the deadline above zero and at most one; a target longer than zero and shorter than its interval, of at most 366 days.
    pub fn build(self) -> Result<Queue, ConfigError> {
        let limit = check_concurrency(self.concurrency)?;
        check_depth(self.depth)?;
        self.max_weight.map_or(Ok(()), check_max_weight)?;
        let max_weight = self.max_weight.map_or(u128::MAX, u128::from);
        check_max_wait(self.max_wait)?;
        self.discipline.check()?;
        let pace = self.pace.map(|(calls, period)| Pace::new(calls, period, 0)).transpose()?;
        let slow = if pace.is_some() { SLOW } else { 0 };
        let state =
            State::new(self.depth, max_weight, self.max_wait, self.discipline.rule(), self.by_criticality, pace);
        let word = Word(AtomicU64::new(Places { taken: 0, limit }.word() | slow));
        let origin = Origin::at(Instant::now());
        Ok(Queue { shared: Arc::new(Shared { word, origin, state: Mutex::new(state) }) })
    }
}

fn check_concurrency(concurrency: usize) -> Result<u32, ConfigError> {
    match u32::try_from(concurrency) {
        Ok(limit @ 1..) if concurrency <= MOST_CONCURRENCY => Ok(limit),
        _ => Err(ConfigError::new("load_level.concurrency", concurrency, "must be at least 1, and at most 2^31 - 1")),
    }
}

fn check_depth(depth: usize) -> Result<(), ConfigError> {
    at_least_one("load_level.depth", depth as u64)
}

fn check_max_weight(max_weight: u64) -> Result<(), ConfigError> {
    at_least_one("load_level.max_weight", max_weight)
}

fn at_least_one(field: &'static str, value: u64) -> Result<(), ConfigError> {
    if value == 0 {
        return Err(ConfigError::new(field, value, "must be at least 1"));
    }
    Ok(())
}

fn check_max_wait(max_wait: Duration) -> Result<(), ConfigError> {
    crate::error::check_duration("load_level.max_wait", max_wait)
}
