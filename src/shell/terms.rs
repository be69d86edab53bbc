use crate::backoff::Backoff;
use std::time::Duration;

/// How long a call and its attempts may take, and how often it is tried: what a call keeps from its beginning to its
/// end.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Terms {
    pub(crate) timeout: Option<Duration>,
    pub(crate) attempt_timeout: Option<Duration>,
    pub(crate) attempts: u32,
    pub(crate) backoff: Backoff,
    pub(crate) max_hint: Duration,
}
