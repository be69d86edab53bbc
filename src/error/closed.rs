use super::Rejection;
use crate::words::Flag;
use thiserror::Error as ThisError;

/// The queue or the limit is closed and admits no more calls. Calls that it admitted before continue.
///
/// Another attempt in this process never makes sense. With the feature `http`, a server answers with 503, or with
/// gRPC's `UNAVAILABLE`, so that its caller can try another instance.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("{}", self.text())]
pub struct Closed {
    what: Closable,
    /// The name of a rate limit.
    limit: Option<&'static str>,
    pub(super) reached: Flag,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
enum Closable {
    Queue,
    RateLimit,
}

impl Closed {
    /// Makes the rejection of a closed [`Queue`](crate::load_level::Queue::close), for new calls and waiters.
    pub fn queue() -> Self {
        Self { what: Closable::Queue, limit: None, reached: Flag::NO }
    }

    /// Makes the rejection of a closed [`TokenBucket`](crate::rate_limit::TokenBucket::close), for new calls and
    /// waiters. `limit` is the name of the limit, if it has one.
    pub fn rate_limit(limit: Option<&'static str>) -> Self {
        Self { what: Closable::RateLimit, limit, reached: Flag::NO }
    }

    /// Returns the name of the rate limit, if it has one.
    pub fn limit(&self) -> Option<&'static str> {
        self.limit
    }

    /// The name of the mechanism's module.
    pub(super) fn mechanism(&self) -> &'static str {
        match self.what {
            Closable::Queue => "load_level",
            Closable::RateLimit => "rate_limit",
        }
    }

    /// The name of the mechanism in messages.
    pub(super) fn name(&self) -> &'static str {
        match self.what {
            Closable::Queue => "load level",
            Closable::RateLimit => "rate limit",
        }
    }

    fn text(&self) -> String {
        self.limit().map_or("closed".to_owned(), |limit| format!("{limit}: closed"))
    }
}

impl From<Closed> for Rejection {
    fn from(details: Closed) -> Self {
        Self::Closed(details)
    }
}
