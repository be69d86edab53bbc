//! The details of each rejection.

use super::{Closed, Rejection, readable::Readable};
use crate::{
    clock::Nanos,
    words::{Flag, Wait},
};
use std::time::Duration;
use thiserror::Error as ThisError;

/// The call's time was up.
///
/// Two of them are equal if the same limit ended the call, with the same consequences. Where the call was
/// ([`phase`](Self::phase)) and the time that it spent are measured, and do not count.
#[derive(Clone, Debug, ThisError)]
#[error("{}", self.text())]
pub struct TimedOut {
    limit: Wait,
    spent: Wait,
    how: How,
    pub(super) reached: Flag,
}

/// What ended the call, where, and whether it was cut short: parts of a word.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
struct How {
    by: TimedOutBy,
    phase: TimedOutIn,
    cut_short: bool,
}

/// The deadline that ended a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TimedOutBy {
    /// The timeout of the call; on a server, of the work on it.
    Call,
    /// The timeout of an attempt.
    Attempt,
    /// The deadline that the call inherited from its caller.
    Caller,
}

/// Where a call was when its time was up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TimedOutIn {
    /// Before the service: in a queue, at a limit, or between two attempts.
    Waiting,
    /// Next to the service, which was not ready for it.
    Readiness,
    /// In the service.
    Service,
}

impl TimedOut {
    /// A call that was not answered within `limit`, or by the deadline that it inherited where `limit` is `None`. It was
    /// in the service if it had reached it, or else [waited](TimedOutIn::Waiting).
    pub fn new(limit: Option<Duration>, reached_service: bool) -> Self {
        let by = if limit.is_some() { TimedOutBy::Call } else { TimedOutBy::Caller };
        let phase = if reached_service { TimedOutIn::Service } else { TimedOutIn::Waiting };
        let how = How { by, phase, cut_short: false };
        Self { limit: Wait::of(limit), spent: Wait::NONE, how, reached: Flag::of(reached_service) }
    }

    /// The same, ended by this deadline.
    #[must_use]
    pub fn ended_by(self, by: TimedOutBy) -> Self {
        Self { how: How { by, ..self.how }, ..self }
    }

    /// The same, given up there after this time. `None` where it is not known.
    #[must_use]
    pub fn given_up(self, phase: TimedOutIn, spent: Option<Duration>) -> Self {
        Self { how: How { phase, ..self.how }, spent: Wait::of(spent), ..self }
    }

    /// The same, of a call that had less than half of the time that it may take. For a timeout of your own; see
    /// [`was_cut_short`](Self::was_cut_short).
    #[must_use]
    pub fn cut_short(self) -> Self {
        Self { how: How { cut_short: true, ..self.how }, ..self }
    }

    /// The time that the call had, or `None` where it was the inherited deadline that passed.
    pub fn limit(&self) -> Option<Duration> {
        self.limit.get()
    }

    /// The time from where the timeout began to count until it gave up. It is longer than the limit where the executor
    /// was late. `None` where the call had no timeout, and where the deadline had passed before it began.
    pub fn spent(&self) -> Option<Duration> {
        self.spent.get()
    }

    /// The deadline that ended the call.
    pub fn by(&self) -> TimedOutBy {
        self.how.by
    }

    /// Where the call was when it was given up. After an earlier attempt it may wait again:
    /// [`reached_service`](Rejection::reached_service) tells of all attempts.
    pub fn phase(&self) -> TimedOutIn {
        self.how.phase
    }

    /// Whether a deadline ended the call before it had half of the time that it may take: of the timeout that ended it,
    /// and of the attempt under way.
    ///
    /// Such a call says nothing about the service. Circuit breakers do not count it; see
    /// [`Ending::CutShort`](crate::shell::Ending::CutShort).
    pub fn was_cut_short(&self) -> bool {
        self.how.cut_short
    }

    fn text(&self) -> String {
        let mut text = match self.limit() {
            Some(limit) => format!("no answer within {}", Readable(limit)),
            None => "no answer by the deadline of the caller".to_owned(),
        };
        if self.by() == TimedOutBy::Attempt {
            text.push_str(" (attempt timeout)");
        }
        if let Some(spent) = self.spent() {
            let place = match self.phase() {
                TimedOutIn::Waiting => "before its turn",
                TimedOutIn::Readiness => "waiting for readiness",
                TimedOutIn::Service => "in the service",
            };
            text.push_str(&format!(", given up {place} after {}", Readable(spent)));
        }
        if !self.reached.is_set() {
            text.push_str("; the service was not reached");
        }
        text
    }
}

impl PartialEq for TimedOut {
    fn eq(&self, other: &Self) -> bool {
        let parts = |it: &Self| (it.limit, it.how.by, it.how.cut_short, it.reached);
        parts(self) == parts(other)
    }
}

impl Eq for TimedOut {}

/// The circuit breaker does not let calls through at present.
///
/// The message does not name the mechanism; that of [`Rejection::from`] does. See the [module](crate::error).
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("{}", self.text())]
pub struct CircuitOpen {
    retry_after: Wait,
    pub(super) reached: Flag,
}

impl CircuitOpen {
    /// A call that an open breaker refused. `retry_after` is the time until it lets probes through, where that is
    /// known: not for a breaker that was opened by hand or waits for the answers of its probes.
    pub fn new(retry_after: Option<Duration>) -> Self {
        Self { retry_after: Wait::of(retry_after), reached: Flag::NO }
    }

    /// The time until the breaker lets probes through.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after.get()
    }

    fn text(&self) -> String {
        match self.retry_after() {
            Some(wait) => format!("open for another {}", Readable(wait)),
            None => "open until its probes end or it is reset".to_owned(),
        }
    }
}

/// The stack was told to let no calls through.
#[derive(Clone, Debug, Default, PartialEq, Eq, ThisError)]
#[error("switched off")]
pub struct SwitchedOff {
    pub(super) reached: Flag,
}

impl SwitchedOff {
    /// A call to a stack that is switched off.
    pub fn new() -> Self {
        Self::default()
    }
}

/// There was no room for one more call.
///
/// The message does not name the mechanism; that of [`Rejection::from`] does. See the [module](crate::error).
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("{}", self.text())]
pub struct Overloaded {
    limit: usize,
    retry_after: Wait,
    cause: OverloadedCause,
    pub(super) reached: Flag,
}

impl Overloaded {
    /// A call that found `limit` others in flight. `retry_after` is the time until room is expected, where known.
    pub fn new(limit: usize, retry_after: Option<Duration>) -> Self {
        Self { limit, retry_after: Wait::of(retry_after), cause: OverloadedCause::Limit, reached: Flag::NO }
    }

    /// The same for this cause.
    #[must_use]
    pub fn by(self, cause: OverloadedCause) -> Self {
        Self { cause, ..self }
    }

    /// Why there was no room.
    pub fn cause(&self) -> OverloadedCause {
        self.cause
    }

    /// The limit at the time.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// The time until room is expected. A fixed limit does not know.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after.get()
    }

    fn text(&self) -> String {
        let Self { limit, .. } = self;
        match self.cause {
            OverloadedCause::Limit => {
                format!("{limit} {} in flight already", if *limit == 1 { "call is" } else { "calls are" })
            }
            OverloadedCause::Class => format!("what is left of the limit of {limit} in flight is for other classes"),
            OverloadedCause::Tenant => format!("the tenant has its share of the limit of {limit} in flight"),
            OverloadedCause::Signal => format!("an overload signal has lowered the limit to {limit} in flight"),
        }
    }
}

/// Why there was no room for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u64)]
pub enum OverloadedCause {
    /// The limit on the calls in flight was reached.
    Limit,
    /// What was left is for more critical calls, or guaranteed to other classes.
    Class,
    /// The tenant of the call had its share of the places.
    Tenant,
    /// An overload signal had lowered the limit, which was reached.
    Signal,
}

impl OverloadedCause {
    pub(crate) const COUNT: usize = 4;
    pub(crate) const ALL: [Self; Self::COUNT] = [Self::Limit, Self::Class, Self::Tenant, Self::Signal];

    /// The cause in a word, for labels.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::Class => "class",
            Self::Tenant => "tenant",
            Self::Signal => "signal",
        }
    }
}

/// The caller has had its share.
///
/// The message does not name the mechanism; that of [`Rejection::from`] does. See the [module](crate::error).
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("{}", self.text())]
pub struct RateLimited {
    retry_after: Wait,
    limit: Option<&'static str>,
    /// The tokens that were there. Of a key that is too long, its length in the upper half, and the longest allowed.
    number: u64,
    never: Never,
    pub(super) reached: Flag,
}

/// Why another try never makes sense, where there is no time to retry after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
enum Never {
    /// The call costs more than is ever allowed at once.
    TooMuch,
    /// The key is longer than the longest that is allowed.
    LongKey,
    /// The bucket is closed.
    Closed,
}

impl RateLimited {
    /// A call that found too few tokens. `retry_after` is the time until there are enough; `None` where there never
    /// will be, since the call costs more than is ever allowed at once.
    pub fn new(retry_after: Option<Duration>) -> Self {
        let retry_after = Wait::of(retry_after);
        Self { retry_after, limit: None, number: 0, never: Never::TooMuch, reached: Flag::NO }
    }

    /// A call whose key has `length` bytes, more than the `longest` that is allowed: refused for ever.
    pub fn long_key(length: usize, longest: usize) -> Self {
        let half = |length: usize| u64::from(u32::try_from(length).unwrap_or(u32::MAX));
        Self { never: Never::LongKey, number: half(length) << 32 | half(longest), ..Self::new(None) }
    }

    /// A call to a limit that is closed. As a [`Rejection`] it is [`Rejection::Closed`].
    pub fn closed() -> Self {
        Self { never: Never::Closed, ..Self::new(None) }
    }

    /// The same, refused by the limit of this name.
    #[must_use]
    pub fn named(self, limit: &'static str) -> Self {
        Self { limit: Some(limit), ..self }
    }

    /// Adds that `remaining` tokens were there.
    #[must_use]
    pub fn with_remaining(self, remaining: u64) -> Self {
        if self.never == Never::LongKey { self } else { Self { number: remaining, ..self } }
    }

    /// The time until there are enough tokens, if no other call takes them. `None`: never. The call costs too much, its
    /// key is too long, or the limit is [closed](Self::is_closed).
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after.get()
    }

    /// Whether the limit is [closed](crate::rate_limit::TokenBucket::close), and so refuses every call.
    pub fn is_closed(&self) -> bool {
        self.never == Never::Closed
    }

    /// The name of the limit, if it has one.
    pub fn limit(&self) -> Option<&'static str> {
        self.limit
    }

    /// The tokens that were there, fewer than the call costs, where the limit says so: those of
    /// [many processes](crate::rate_limit::distributed) do, where they decide without asking. Zero otherwise; other
    /// limits are asked by their `available_at`.
    pub fn remaining(&self) -> u64 {
        if self.never == Never::LongKey { 0 } else { self.number }
    }

    fn text(&self) -> String {
        let limit = self.limit.map_or(String::new(), |limit| format!("{limit}: "));
        match (self.retry_after(), self.never) {
            (Some(wait), _) => format!("{limit}used up for another {}", Readable(wait)),
            (None, Never::LongKey) => {
                let (length, longest) = (self.number >> 32, self.number as u32);
                format!("{limit}the key is {length} bytes long, and must be at most {longest}")
            }
            (None, Never::TooMuch) => format!("{limit}the call costs more than is ever allowed at once"),
            (None, Never::Closed) => format!("{limit}closed"),
        }
    }
}

/// The queue has no place for the call, or gave it to one that is worth more.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("{}", self.text())]
pub struct QueueFull {
    bound: u64,
    retry_after: Wait,
    cause: QueueFullCause,
    pub(super) reached: Flag,
}

/// Why there is no place in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u64)]
pub enum QueueFullCause {
    /// The queue is at its depth limit.
    Depth,
    /// In an [adaptive](crate::load_level::Queue::adaptive) queue, more calls are before this one than the service takes
    /// in the time for which it may wait.
    Deadline,
    /// The queue is at its weight limit.
    Weight,
    /// The call alone is heavier than the queue's weight limit.
    TooHeavy,
    /// The call had a place and lost it to one that is worth more.
    Displaced,
    /// In this process as many messages, or bytes, are on their way to the queue as may be: it is the way that is
    /// overloaded, and not those who work on what is queued.
    OnTheWay,
}

impl QueueFull {
    /// A call that found no place in a queue with this bound: the calls that may wait, or their weight. `retry_after`
    /// is the time in which those who wait now are expected to be served, where that is known.
    pub fn new(cause: QueueFullCause, bound: u64, retry_after: Option<Duration>) -> Self {
        Self { bound, retry_after: Wait::of(retry_after), cause, reached: Flag::NO }
    }

    /// Why there is no place.
    pub fn cause(&self) -> QueueFullCause {
        self.cause
    }

    /// The most that may wait: a number of calls, or a weight, as the [cause](Self::cause) says.
    pub fn bound(&self) -> u64 {
        self.bound
    }

    /// The time in which those who wait now are expected to be served. `None` where the queue has not been busy for
    /// long enough to know, for a call that never finds a place, and where only the way to the queue is full.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after.get()
    }

    fn text(&self) -> String {
        let Self { bound, .. } = self;
        match self.cause {
            QueueFullCause::Depth => format!("the queue is at its depth limit of {bound}"),
            QueueFullCause::Deadline => {
                format!("the queue is at its depth limit of {bound} for calls that may wait that long")
            }
            QueueFullCause::Weight => format!("the queue is at its weight limit of {bound}"),
            QueueFullCause::TooHeavy => format!("the call is heavier than the queue's weight limit of {bound}"),
            QueueFullCause::Displaced => "a call that is worth more took the place in the queue".to_owned(),
            QueueFullCause::OnTheWay => format!("what is on its way to the queue is at the limit of {bound}"),
        }
    }
}

/// The call waited in a queue for as long as it is worth.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("waited for {} and was not served", Readable(waited.duration()))]
pub struct WaitedTooLong {
    waited: Nanos,
    retry_after: Wait,
    pub(super) reached: Flag,
}

impl WaitedTooLong {
    /// A call that waited for this long. `retry_after` is the time in which those who wait now are expected to be
    /// served, where that is known.
    pub fn new(waited: Duration, retry_after: Option<Duration>) -> Self {
        Self { waited: Nanos::of(waited), retry_after: Wait::of(retry_after), reached: Flag::NO }
    }

    /// For how long the call waited.
    pub fn waited(&self) -> Duration {
        self.waited.duration()
    }

    /// The time in which those who wait now are expected to be served. `None` where the queue has not been busy for
    /// long enough to know.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after.get()
    }
}

impl From<TimedOut> for Rejection {
    fn from(details: TimedOut) -> Self {
        Self::TimedOut(details)
    }
}

impl From<CircuitOpen> for Rejection {
    fn from(details: CircuitOpen) -> Self {
        Self::CircuitOpen(details)
    }
}

impl From<Overloaded> for Rejection {
    fn from(details: Overloaded) -> Self {
        Self::Overloaded(details)
    }
}

/// [`Rejection::Closed`] where the limit is closed.
impl From<RateLimited> for Rejection {
    fn from(details: RateLimited) -> Self {
        if !details.is_closed() {
            return Self::RateLimited(details);
        }
        let mut closed = Closed::rate_limit(details.limit);
        closed.reached = details.reached;
        Self::Closed(closed)
    }
}

impl From<QueueFull> for Rejection {
    fn from(details: QueueFull) -> Self {
        Self::QueueFull(details)
    }
}

impl From<WaitedTooLong> for Rejection {
    fn from(details: WaitedTooLong) -> Self {
        Self::WaitedTooLong(details)
    }
}

impl From<SwitchedOff> for Rejection {
    fn from(details: SwitchedOff) -> Self {
        Self::SwitchedOff(details)
    }
}
