//! The headers that carry the context of a call. A server reads them from requests, and a client writes them.
//!
//! | header | value | read from | written to |
//! |---|---|---|---|
//! | `grpc-timeout` | the time left | any peer | any peer, on gRPC requests |
//! | `steadfast-deadline-ms` | the time left | any peer | internal peers |
//! | `x-envoy-expected-rq-timeout-ms` | the time left | internal peers | no peer |
//! | `grpc-previous-rpc-attempts` | earlier attempts | any peer | any peer, on gRPC requests, if there were earlier attempts |
//! | `steadfast-attempt` | earlier attempts | any peer | internal peers, if there were earlier attempts |
//! | `x-envoy-attempt-count` | attempts, including this one | any peer | no peer |
//! | `steadfast-criticality` | the criticality | any peer; an external one can only lower it | internal peers, unless it is `critical` |
//!
//! An internal peer is a service of the same organization; see [`Peer`](super::Peer). Headers carry durations, never
//! wall-clock times, so the clocks of two machines need not agree.

mod field;
mod ignored;
mod names;
mod read;
mod stamp;

pub(super) use field::{ascii, number, trimmed};
pub(super) use ignored::IgnoredHeader;
pub use ignored::{IgnoredHeaders, ignored_headers};
pub(super) use names::{KnownHeader, known};
pub(super) use read::read;
pub use stamp::Wire;

use crate::context::Criticality;
use http::HeaderName;

const DEADLINE: HeaderName = HeaderName::from_static("steadfast-deadline-ms");
const ATTEMPT: HeaderName = HeaderName::from_static("steadfast-attempt");
const CRITICALITY: HeaderName = HeaderName::from_static("steadfast-criticality");
const GRPC_ATTEMPTS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");
const ENVOY_TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
const ENVOY_ATTEMPT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");

/// The most digits of a number that is read. The number states milliseconds or attempts.
const DIGITS: usize = 10;
/// The longest deadline that is written: the largest number of [`DIGITS`] digits.
const MOST_MILLIS: u64 = 9_999_999_999;

const CLASSES: [Criticality; 4] =
    [Criticality::Sheddable, Criticality::SheddablePlus, Criticality::Critical, Criticality::CriticalPlus];

/// Returns the value of `steadfast-criticality` for this class.
fn name(class: Criticality) -> &'static str {
    match class {
        Criticality::Sheddable => "sheddable",
        Criticality::SheddablePlus => "sheddable-plus",
        Criticality::Critical => "critical",
        Criticality::CriticalPlus => "critical-plus",
    }
}

#[cfg(test)]
mod tests;
