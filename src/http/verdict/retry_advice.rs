use crate::http::{
    Peer,
    wire::{IgnoredHeader, trimmed},
};
use http::{HeaderMap, HeaderName};

pub(in crate::http) const RETRY: HeaderName = HeaderName::from_static("steadfast-retry");

/// What an internal peer says about a retry by `steadfast-retry`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetryAdvice {
    /// Nobody tries again.
    Never,
    /// The request was not processed.
    Unprocessed,
}

impl RetryAdvice {
    /// The first field of an internal peer; nothing of anyone else. A word that is not known is
    /// [counted](crate::http::ignored_headers).
    pub(super) fn read(peer: Peer, fields: &HeaderMap) -> Option<Self> {
        let asked = Self::peek(peer, fields);
        if asked.is_none() && peer == Peer::Internal && fields.contains_key(RETRY) {
            IgnoredHeader::SteadfastRetry.count();
        }
        asked
    }

    /// As [`read`](Self::read), without counting: for a second look.
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
