//! Finds the known headers of a request in one pass: those of the context, `accept` and `content-type`.
//!
//! A look-up hashes the name. A request has few headers, and nine names are of interest. One pass that compares lengths
//! costs a fraction of nine look-ups.

use http::{HeaderMap, HeaderName, HeaderValue};

/// A request header that the border of a server or the stamp of a client reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum KnownHeader {
    Accept,
    ContentType,
    GrpcTimeout,
    GrpcAttempts,
    Deadline,
    Attempt,
    Criticality,
    EnvoyTimeout,
    EnvoyAttempt,
}

impl KnownHeader {
    /// Returns which header this is. `HeaderName` is always lower case.
    #[inline]
    pub(in crate::http) fn of(name: &HeaderName) -> Option<Self> {
        let name = name.as_str();
        // By length first, which excludes most other headers.
        let (known, only) = match name.len() {
            6 => (Self::Accept, "accept"),
            12 if name.starts_with('c') => (Self::ContentType, "content-type"),
            12 => (Self::GrpcTimeout, "grpc-timeout"),
            17 => (Self::Attempt, "steadfast-attempt"),
            21 => match name {
                "steadfast-deadline-ms" => return Some(Self::Deadline),
                "steadfast-criticality" => return Some(Self::Criticality),
                _ => (Self::EnvoyAttempt, "x-envoy-attempt-count"),
            },
            26 => (Self::GrpcAttempts, "grpc-previous-rpc-attempts"),
            30 => (Self::EnvoyTimeout, "x-envoy-expected-rq-timeout-ms"),
            _ => return None,
        };
        (name == only).then_some(known)
    }
}

/// Returns the known headers among these, in their order.
#[inline]
pub(in crate::http) fn known(headers: &HeaderMap) -> impl Iterator<Item = (KnownHeader, &HeaderValue)> {
    headers.iter().filter_map(|(name, value)| Some((KnownHeader::of(name)?, value)))
}

#[cfg(test)]
mod tests {
    use super::{KnownHeader::*, *};
    use crate::http::wire::{ATTEMPT, CRITICALITY, DEADLINE, ENVOY_ATTEMPT, ENVOY_TIMEOUT, GRPC_ATTEMPTS};
    use http::header::{ACCEPT, CONTENT_TYPE};

    #[test]
    fn each_name_is_recognized_and_no_similar_name_is() {
        let names = [
            (ACCEPT, Accept),
            (CONTENT_TYPE, ContentType),
            (crate::http::grpc::TIMEOUT, GrpcTimeout),
            (GRPC_ATTEMPTS, GrpcAttempts),
            (DEADLINE, Deadline),
            (ATTEMPT, Attempt),
            (CRITICALITY, Criticality),
            (ENVOY_TIMEOUT, EnvoyTimeout),
            (ENVOY_ATTEMPT, EnvoyAttempt),
        ];
        for (name, known) in names {
            assert_eq!(KnownHeader::of(&name), Some(known));
            for instead in ["y", "c"] {
                let mut other = name.as_str().to_owned();
                other.replace_range(1..2, instead);
                assert!(other == name.as_str() || KnownHeader::of(&other.parse().unwrap()).is_none(), "{other}");
            }
        }
    }
}
