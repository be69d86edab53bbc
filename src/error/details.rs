//! The details of the rejections, and their conversions. `Closed`, `Overloaded` and `TimedOut` have their own files.

use super::{Closed, Overloaded, Rejection, TimedOut, readable::Readable};
use crate::{
    clock::Nanos,
    words::{Flag, Wait},
};
use std::time::Duration;
use thiserror::Error as ThisError;

/// The circuit breaker is open, or is half-open and waits for its probes.
///
/// The message does not name the mechanism; the message of the [`Rejection`] does. See the [module](crate::error).
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("{}", self.text())]
pub struct CircuitOpen {
    retry_after: Wait,
    pub(super) reached: Flag,
}

impl CircuitOpen {
    /// Makes the rejection of an open breaker. `retry_after` is the time until the breaker admits probes. It is `None`
    /// if the breaker was opened by hand, or is waiting for the results of its probes.
    pub fn new(retry_after: Option<Duration>) -> Self {
        Self { retry_after: Wait::of(retry_after), reached: Flag::NO }
    }

    /// Returns the time until the breaker admits probes, if that is known; see [`new`](Self::new).
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
    /// Makes the rejection of a stack that is switched off.
    pub fn new() -> Self {
        Self::default()
    }
}

/// The rate limit had too few tokens for the call, the key of the call is too long, or the limit is closed.
///
/// The message does not name the mechanism; the message of the [`Rejection`] does. See the [module](crate::error).
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("{}", self.text())]
pub struct RateLimited {
    retry_after: Wait,
    limit: Option<&'static str>,
    /// The available tokens. For a key that is too long: its length in the upper half, and the maximum in the lower
    /// half.
    number: u64,
    never: Never,
    pub(super) reached: Flag,
}

/// Why another attempt never makes sense, if there is no `retry_after`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
enum Never {
    /// The call costs more than the burst.
    TooMuch,
    /// The key exceeds the maximum length.
    LongKey,
    /// The bucket is closed.
    Closed,
}

impl RateLimited {
    /// Makes the rejection of a call that found too few tokens. `retry_after` is the time until there are enough, or
    /// `None` if the call costs more than the burst, so that no wait helps.
    pub fn new(retry_after: Option<Duration>) -> Self {
        let retry_after = Wait::of(retry_after);
        Self { retry_after, limit: None, number: 0, never: Never::TooMuch, reached: Flag::NO }
    }

    /// Makes the rejection of a call whose key has `length` bytes, more than the maximum of `longest`. Such a call
    /// never succeeds.
    pub fn long_key(length: usize, longest: usize) -> Self {
        let half = |length: usize| u64::from(u32::try_from(length).unwrap_or(u32::MAX));
        Self { never: Never::LongKey, number: half(length) << 32 | half(longest), ..Self::new(None) }
    }

    /// Makes the rejection of a closed limit. It converts into [`Rejection::Closed`].
    pub fn closed() -> Self {
        Self { never: Never::Closed, ..Self::new(None) }
    }

    /// Sets the name of the limit that refused the call.
    #[must_use]
    pub fn named(self, limit: &'static str) -> Self {
        Self { limit: Some(limit), ..self }
    }

    /// Sets the number of available tokens. Does nothing if the key is [too long](Self::long_key).
    #[must_use]
    pub fn with_remaining(self, remaining: u64) -> Self {
        if self.never == Never::LongKey { self } else { Self { number: remaining, ..self } }
    }

    /// Returns the time until there are enough tokens, if no other call takes them. `None` means never: the call costs
    /// more than the burst, its key is too long, or the limit is [closed](Self::is_closed).
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after.get()
    }

    /// Returns whether the limit is [closed](crate::rate_limit::TokenBucket::close) and refuses every call.
    pub fn is_closed(&self) -> bool {
        self.never == Never::Closed
    }

    /// Returns the name of the limit, if it has one.
    pub fn limit(&self) -> Option<&'static str> {
        self.limit
    }

    /// Returns the available tokens, fewer than the call costs. Only a [distributed](crate::rate_limit::distributed)
    /// limit sets this number, and only if it refuses a call without asking the store. Otherwise the number is zero.
    /// For other limits, call their `available_at`.
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

/// The queue has no place for the call, or gave the place of the call to a more urgent one.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("{}", self.text())]
pub struct QueueFull {
    bound: u64,
    retry_after: Wait,
    cause: QueueFullCause,
    pub(super) reached: Flag,
}

/// Why a queue had no place for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u64)]
pub enum QueueFullCause {
    /// The queue is at its depth limit.
    Depth,
    /// The [adaptive](crate::load_level::Queue::adaptive) queue holds more calls than the service can start before this
    /// call's maximum wait ends.
    Deadline,
    /// The queue is at its weight limit.
    Weight,
    /// The call alone exceeds the queue's weight limit.
    TooHeavy,
    /// The call had a place and lost it to a more urgent call.
    Displaced,
    /// This process has reached its limit of messages, or bytes, that it sends to the queue at a time. The path to the
    /// queue is overloaded, not its workers.
    OnTheWay,
}

impl QueueFull {
    /// Makes the rejection of a queue with this [bound](Self::bound). `retry_after` is the expected time to serve the
    /// current waiters and one more call, if known.
    pub fn new(cause: QueueFullCause, bound: u64, retry_after: Option<Duration>) -> Self {
        Self { bound, retry_after: Wait::of(retry_after), cause, reached: Flag::NO }
    }

    /// Returns why there is no place.
    pub fn cause(&self) -> QueueFullCause {
        self.cause
    }

    /// Returns the bound that the [cause](Self::cause) names: a number of calls, a weight, or the messages or bytes
    /// that one process sends at a time. For a displaced call it is the depth limit.
    pub fn bound(&self) -> u64 {
        self.bound
    }

    /// Returns the expected time to serve the current waiters and one more call; for a durable queue, to process its
    /// current messages. `None` if the queue has not been busy long enough to know, or if none of its calls are served.
    /// Also `None` if the call can never find a place, or if only the path to the queue is full.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after.get()
    }

    fn text(&self) -> String {
        let Self { bound, .. } = self;
        match self.cause {
            QueueFullCause::Depth => format!("the queue is at its depth limit of {bound}"),
            QueueFullCause::Deadline => {
                format!("the queue is at its depth limit of {bound} for calls with this maximum wait")
            }
            QueueFullCause::Weight => format!("the queue is at its weight limit of {bound}"),
            QueueFullCause::TooHeavy => format!("the call is heavier than the queue's weight limit of {bound}"),
            QueueFullCause::Displaced => "a call that is worth more took the place in the queue".to_owned(),
            QueueFullCause::OnTheWay => {
                format!("the messages or bytes that are on their way to the queue are at the limit of {bound}")
            }
        }
    }
}

/// The call reached its maximum wait in a queue.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("waited for {} and was not served", Readable(waited.duration()))]
pub struct WaitedTooLong {
    waited: Nanos,
    retry_after: Wait,
    pub(super) reached: Flag,
}

impl WaitedTooLong {
    /// Makes the rejection of a call that waited for `waited`. `retry_after` is the expected time to serve the current
    /// waiters and one more call, if known.
    pub fn new(waited: Duration, retry_after: Option<Duration>) -> Self {
        Self { waited: Nanos::of(waited), retry_after: Wait::of(retry_after), reached: Flag::NO }
    }

    /// Returns how long the call waited.
    pub fn waited(&self) -> Duration {
        self.waited.duration()
    }

    /// Returns the expected time to serve the current waiters and one more call. `None` if the queue has not been busy
    /// long enough to know, or if none of its calls are served.
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

/// Converts into [`Rejection::Closed`] if the limit is closed.
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
