//! The context of a call on the wire: what is read from requests, and what is written to them.
//!
//! | header | says | read | written |
//! |---|---|---|---|
//! | `grpc-timeout` | the time left | of anyone | to anyone, on requests of gRPC |
//! | `steadfast-deadline-ms` | the time left | of anyone | to internal peers |
//! | `x-envoy-expected-rq-timeout-ms` | the time left | of internal peers | - |
//! | `grpc-previous-rpc-attempts` | earlier attempts | of anyone | to anyone, on repeated requests of gRPC |
//! | `steadfast-attempt` | earlier attempts | of anyone | to internal peers, after the first attempt |
//! | `x-envoy-attempt-count` | attempts, this one included | of anyone | - |
//! | `steadfast-criticality` | the criticality | of anyone, raised by internal peers | to internal peers |
//!
//! No clock time is sent or read, only lengths of time: the clocks of two machines need not agree.

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

/// The longest number of milliseconds, or of attempts, that is read and written.
const DIGITS: usize = 10;
const MOST_MILLIS: u64 = 9_999_999_999;

const CLASSES: [Criticality; 4] =
    [Criticality::Sheddable, Criticality::SheddablePlus, Criticality::Critical, Criticality::CriticalPlus];

/// The class as it is written.
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
