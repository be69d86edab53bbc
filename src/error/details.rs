//! The details of each rejection.

use super::{Closed, Overloaded, Rejection, TimedOut, readable::Readable};
use crate::{
    clock::Nanos,
    words::{Flag, Wait},
};
use std::time::Duration;
use thiserror::Error as ThisError;

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

/// The kill switch of the stack is on.
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
