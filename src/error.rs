//! What a call can end with besides the service's own answer, and what a configuration can be refused for.
//!
//! A layer that refuses or ends a call says so with a [`Rejection`]: one type for the whole crate, which says which
//! mechanism it was, whether the call had reached the service, and after how long another try makes sense. Inside a
//! stack a call ends with the service's answer or an [`Error`], which keeps the service's own error untouched and
//! asks nothing of its type.

use std::{error, fmt, time::Duration};
use thiserror::Error as ThisError;

/// Why a mechanism of this crate refused a call or ended it.
///
/// Each variant has its details; `Display` says the mechanism and the details in one line.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[non_exhaustive]
pub enum Rejection {
    /// The call's time was up.
    #[error("timeout: {0}")]
    TimedOut(TimedOut),
    /// The circuit breaker does not let calls through at present.
    #[error("circuit breaker: {0}")]
    CircuitOpen(CircuitOpen),
    /// There was no room for one more call.
    #[error("load shed: {0}")]
    Overloaded(Overloaded),
    /// The caller has had its share.
    #[error("rate limit: {0}")]
    RateLimited(RateLimited),
    /// The queue has no place for the call, or gave it to one that is worth more.
    #[error("load level: {0}")]
    QueueFull(QueueFull),
    /// The call waited in a queue for as long as it is worth.
    #[error("load level: {0}")]
    WaitedTooLong(WaitedTooLong),
}

impl Rejection {
    /// After how long another try makes sense, counted from the rejection.
    ///
    /// `None` where nobody can know, or where another try never makes sense.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TimedOut(_) => None,
            Self::CircuitOpen(details) => details.retry_after(),
            Self::Overloaded(details) => details.retry_after(),
            Self::RateLimited(details) => details.retry_after(),
            Self::QueueFull(details) => details.retry_after(),
            Self::WaitedTooLong(details) => details.retry_after(),
        }
    }

    /// Whether the service had been called, in this attempt or an earlier one of the same stack: if so, the call may have
    /// had effects. Of layers stacked by hand each knows only its own part: a rejection that passes a retry from further
    /// in says nothing of the attempts before.
    pub fn reached_service(&self) -> bool {
        match self {
            Self::TimedOut(details) => details.reached,
            Self::CircuitOpen(details) => details.reached,
            Self::Overloaded(details) => details.reached,
            Self::RateLimited(details) => details.reached,
            Self::QueueFull(details) => details.reached,
            Self::WaitedTooLong(details) => details.reached,
        }
    }

    /// The name of the mechanism, as its module is called: `"timeout"`, `"circuit_breaker"`, ..
    pub fn mechanism(&self) -> &'static str {
        match self {
            Self::TimedOut(_) => "timeout",
            Self::CircuitOpen(_) => "circuit_breaker",
            Self::Overloaded(_) => "load_shed",
            Self::RateLimited(_) => "rate_limit",
            Self::QueueFull(_) | Self::WaitedTooLong(_) => "load_level",
        }
    }

    /// The same rejection, of a call that an earlier attempt had brought to the service.
    pub(crate) fn after_reaching_the_service(mut self) -> Self {
        match &mut self {
            Self::TimedOut(details) => details.reached = true,
            Self::CircuitOpen(details) => details.reached = true,
            Self::Overloaded(details) => details.reached = true,
            Self::RateLimited(details) => details.reached = true,
            Self::QueueFull(details) => details.reached = true,
            Self::WaitedTooLong(details) => details.reached = true,
        }
        self
    }
}

/// The call's time was up.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("{}", self.text())]
pub struct TimedOut {
    limit: Option<Duration>,
    reached: bool,
}

impl TimedOut {
    /// A call that was not answered within `limit`, or by the deadline that it inherited where `limit` is `None`.
    pub fn new(limit: Option<Duration>, reached_service: bool) -> Self {
        Self { limit, reached: reached_service }
    }

    /// The time that the call had, or `None` where it was the inherited deadline that passed.
    pub fn limit(&self) -> Option<Duration> {
        self.limit
    }

    fn text(&self) -> String {
        let when = match self.limit {
            Some(limit) => format!("no answer within {limit:?}"),
            None => "no answer by the deadline of the caller".to_owned(),
        };
        if self.reached { when } else { format!("{when}; the service was not reached") }
    }
}

/// The circuit breaker does not let calls through at present.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("{}", self.text())]
pub struct CircuitOpen {
    retry_after: Option<Duration>,
    reached: bool,
}

impl CircuitOpen {
    /// A call that an open breaker refused. `retry_after` is the time until it lets probes through, where that is
    /// known: not for a breaker that was opened by hand or waits for the answers of its probes.
    pub fn new(retry_after: Option<Duration>) -> Self {
        Self { retry_after, reached: false }
    }

    /// The time until the breaker lets probes through.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    fn text(&self) -> String {
        match self.retry_after {
            Some(wait) => format!("open for another {wait:?}"),
            None => "open".to_owned(),
        }
    }
}

/// There was no room for one more call.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("{limit} calls are in flight already")]
pub struct Overloaded {
    limit: usize,
    retry_after: Option<Duration>,
    reached: bool,
}

impl Overloaded {
    /// A call that found `limit` others in flight. `retry_after` is the time until room is expected, where known.
    pub fn new(limit: usize, retry_after: Option<Duration>) -> Self {
        Self { limit, retry_after, reached: false }
    }

    /// The limit at the time.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// The time until room is expected. A fixed limit does not know.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

/// The caller has had its share.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("{}", self.text())]
pub struct RateLimited {
    retry_after: Option<Duration>,
    limit: Option<&'static str>,
    remaining: u64,
    /// The length of a key that is too long, and the longest that is allowed.
    long_key: Option<(usize, usize)>,
    reached: bool,
}

impl RateLimited {
    /// A call that found too few tokens. `retry_after` is the time until there are enough; `None` where there never
    /// will be, since the call costs more than is ever allowed at once.
    pub fn new(retry_after: Option<Duration>) -> Self {
        Self { retry_after, limit: None, remaining: 0, long_key: None, reached: false }
    }

    /// A call whose key is of so many bytes where at most `longest` are allowed: refused for ever.
    pub fn long_key(length: usize, longest: usize) -> Self {
        Self { long_key: Some((length, longest)), ..Self::new(None) }
    }

    /// The same, refused by the limit of this name.
    #[must_use]
    pub fn named(self, limit: &'static str) -> Self {
        Self { limit: Some(limit), ..self }
    }

    /// The same, though so many tokens were there.
    #[must_use]
    pub fn with_remaining(self, remaining: u64) -> Self {
        Self { remaining, ..self }
    }

    /// The time until there are enough tokens, if nobody else takes them; `None`: never.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The name of the limit, if it has one.
    pub fn limit(&self) -> Option<&'static str> {
        self.limit
    }

    /// The tokens that were there, fewer than the call costs, where the limit says so: those of
    /// [many processes](crate::rate_limit::distributed) do, where they decide without asking. Zero otherwise; other limits are
    /// asked by their `available_at`.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    fn text(&self) -> String {
        let limit = self.limit.map_or(String::new(), |limit| format!("{limit}: "));
        match (self.retry_after, self.long_key) {
            (Some(wait), _) => format!("{limit}used up for another {wait:?}"),
            (None, Some((length, longest))) => {
                format!("{limit}the key is {length} bytes long, and must be at most {longest}")
            }
            (None, None) => format!("{limit}the call costs more than is ever allowed at once"),
        }
    }
}

/// The queue has no place for the call, or gave it to one that is worth more.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("{}", self.text())]
pub struct QueueFull {
    bound: u64,
    retry_after: Option<Duration>,
    cause: QueueFullCause,
    reached: bool,
}

/// Why there is no place in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueueFullCause {
    /// As many wait as may.
    Depth,
    /// What waits is as heavy as it may be.
    Weight,
    /// The call alone is heavier than all that may wait.
    TooHeavy,
    /// The call had a place and lost it to one that is worth more.
    Displaced,
    /// In this process as many messages, or bytes, are on their way to the queue as may be: it is the way that is
    /// overloaded, and not those who work on what is queued.
    OnTheWay,
}

impl QueueFull {
    /// A call that found no place in a queue with this bound: the calls that may wait, or their weight. `retry_after` is
    /// the time in which those who wait now are expected to be served, where that is known.
    pub fn new(cause: QueueFullCause, bound: u64, retry_after: Option<Duration>) -> Self {
        Self { bound, retry_after, cause, reached: false }
    }

    /// Why there is no place.
    pub fn cause(&self) -> QueueFullCause {
        self.cause
    }

    /// The most that may wait: a number of calls, or a weight, as the [cause](Self::cause) says.
    pub fn bound(&self) -> u64 {
        self.bound
    }

    /// The time in which those who wait now are expected to be served. `None` where the queue has not been busy for long
    /// enough to know, and for a call that never finds a place.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    fn text(&self) -> String {
        let Self { bound, .. } = self;
        match self.cause {
            QueueFullCause::Depth => format!("the queue has all it may have, {bound}"),
            QueueFullCause::Weight => format!("the queue has all the weight it may have, {bound}"),
            QueueFullCause::TooHeavy => format!("this alone is heavier than may be, {bound}"),
            QueueFullCause::Displaced => "the place in the queue went to one that is worth more".to_owned(),
            QueueFullCause::OnTheWay => format!("as much is on its way to the queue as may be, {bound}"),
        }
    }
}

/// The call waited in a queue for as long as it is worth.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("waited for {waited:?} and was not served")]
pub struct WaitedTooLong {
    waited: Duration,
    retry_after: Option<Duration>,
    reached: bool,
}

impl WaitedTooLong {
    /// A call that waited for so long. `retry_after` is the time in which those who wait now are expected to be served,
    /// where that is known.
    pub fn new(waited: Duration, retry_after: Option<Duration>) -> Self {
        Self { waited, retry_after, reached: false }
    }

    /// For how long the call waited.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// The time in which those who wait now are expected to be served. `None` where the queue has not been busy for long
    /// enough to know.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
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

impl From<RateLimited> for Rejection {
    fn from(details: RateLimited) -> Self {
        Self::RateLimited(details)
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

/// How a call through a stack fails: a layer rejected it, or the service failed.
///
/// `E` is the service's own error, of any type. `source()` is the [`Rejection`] or the service's error itself, so that
/// whatever walks the chain (tonic looks for its `Status` there) finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error<E> {
    /// A layer refused the call or ended it.
    Rejected(Rejection),
    /// The service's own error: from its readiness or from its answer.
    Service(E),
}

impl<E> Error<E> {
    /// The rejection, if a layer refused the call or ended it.
    pub fn rejection(&self) -> Option<&Rejection> {
        match self {
            Self::Rejected(rejection) => Some(rejection),
            Self::Service(_) => None,
        }
    }

    /// The service's own error, if it was the service that failed.
    pub fn into_service(self) -> Option<E> {
        match self {
            Self::Rejected(_) => None,
            Self::Service(error) => Some(error),
        }
    }
}

impl<E> From<Rejection> for Error<E> {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl<E> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(_) => f.write_str("the call was rejected"),
            Self::Service(_) => f.write_str("the service failed"),
        }
    }
}

impl<E: error::Error + 'static> error::Error for Error<E> {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Rejected(rejection) => Some(rejection),
            Self::Service(error) => Some(error),
        }
    }
}

/// A configuration that cannot work: which field, the value that it had, and the rule that the value breaks.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("{field} = {value}: {rule}")]
pub struct ConfigError {
    field: &'static str,
    value: String,
    rule: &'static str,
}

impl ConfigError {
    pub(crate) fn new(field: &'static str, value: impl fmt::Debug, rule: &'static str) -> Self {
        let mut value = format!("{value:?}");
        // Whoever configures a novel need not read it again.
        if let Some((cut, _)) = value.char_indices().nth(LONGEST_VALUE) {
            value.truncate(cut);
            value.push_str("..");
        }
        Self { field, value, rule }
    }

    /// The configured thing, as its method is called, with its mechanism in front: `"retry.attempts"`.
    pub fn field(&self) -> &'static str {
        self.field
    }

    /// The value that was given, cut off after 200 characters.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// The rule that the value breaks.
    pub fn rule(&self) -> &'static str {
        self.rule
    }
}

/// The most characters of a value that an error repeats.
const LONGEST_VALUE: usize = 200;

/// The longest duration that any configuration may name. tokio's timers reach a little over two years.
pub(crate) const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// The rule of every configured duration.
pub(crate) fn check_duration(field: &'static str, duration: Duration) -> Result<(), ConfigError> {
    if duration.is_zero() || duration > LONGEST {
        return Err(ConfigError::new(field, duration, "must be longer than zero and at most 366 days"));
    }
    Ok(())
}
