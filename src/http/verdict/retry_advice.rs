use crate::http::{
    Peer,
    wire::{IgnoredHeader, trimmed},
};
use http::{HeaderMap, HeaderName};

pub(in crate::http) const RETRY: HeaderName = HeaderName::from_static("steadfast-retry");

/// What an internal peer says about a retry in `steadfast-retry`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetryAdvice {
    /// No caller may retry.
    Never,
    /// The request was not processed.
    Unprocessed,
}

impl RetryAdvice {
    /// Reads the first `steadfast-retry` field, and only if the peer is internal.
    /// [Counts](crate::http::ignored_headers) a value that is neither `never` nor `unprocessed`.
    pub(super) fn read(peer: Peer, fields: &HeaderMap) -> Option<Self> {
        let asked = Self::peek(peer, fields);
        if asked.is_none() && peer == Peer::Internal && fields.contains_key(RETRY) {
            IgnoredHeader::SteadfastRetry.count();
        }
        asked
    }

    /// Does what [`read`](Self::read) does, without counting, so that a response that is read twice counts once.
    pub(super) fn peek(peer: Peer, fields: &HeaderMap) -> Option<Self> {
        if peer == Peer::External {
            return None;
        }
        let value = trimmed(fields.get(RETRY)?);
        if value.eq_ignore_ascii_case(b"never") {
            Some(Self::Never)
        } else if value.eq_ignore_ascii_case(b"unprocessed") {
            Some(Self::Unprocessed)
        } else {
            None
        }
    }
}
