use super::{
    ATTEMPT, CRITICALITY, DEADLINE, ENVOY_ATTEMPT, ENVOY_TIMEOUT, GRPC_ATTEMPTS, KnownHeader, MOST_MILLIS, known, name,
    read::millis,
};
use crate::{
    context::{CallContext, Criticality},
    http::{Peer, grpc},
    shell::{Frame, Stamp},
};
use http::{HeaderMap, HeaderValue, Request};
use std::time::Duration;

/// Propagates deadline, attempt and criticality: a [`Stamp`] that writes them into the headers of each attempt.
///
/// It reads the [current](CallContext::current) context, in which a client stack runs each attempt. The deadline is the
/// time at which the stack gives the attempt up, or the inherited deadline if the stack has no timeout.
///
/// | header | value | sent to |
/// |---|---|---|
/// | `grpc-timeout` | the time left, rounded down to at most 8 digits | any peer, on gRPC requests |
/// | `grpc-previous-rpc-attempts` | the earlier attempts, if there were any | any peer, on gRPC requests |
/// | `steadfast-deadline-ms` | the time left in milliseconds, rounded down | internal peers |
/// | `steadfast-attempt` | the earlier attempts, if there were any | internal peers |
/// | `steadfast-criticality` | `sheddable`, `sheddable-plus` or `critical-plus` | internal peers |
///
/// A request is gRPC if its content type is `application/grpc`, with or without a format and parameters. `grpc-timeout`
/// is in the finest unit that needs at most 8 digits. The stamp never writes zero, which the grammar of gRPC excludes:
/// `1n` means that no time is left. Less than one millisecond is written as a `steadfast-deadline-ms` of 0. The
/// criticality is not sent if it is `critical`, the default.
///
/// **Copied headers.** A proxy may have copied the headers of the request that it serves. The stamp removes those that
/// state an attempt or a criticality: `steadfast-attempt`, `steadfast-criticality`, `grpc-previous-rpc-attempts` and
/// `x-envoy-attempt-count`. The peer then receives only the attempt and the criticality of the context. A server stack
/// that read the context from the headers of its caller has accepted only the claims that this caller may make. For an
/// external peer the stamp also removes `steadfast-deadline-ms` and `x-envoy-expected-rq-timeout-ms`.
///
/// **A deadline only shrinks.** A shorter `grpc-timeout` of the request stays. For an internal peer, so does a shorter
/// `steadfast-deadline-ms`. If the context has no deadline, these deadlines of the request stay too.
///
/// Headers carry durations, never wall-clock times, so the clocks of both sides need not agree. The time in transit is
/// not subtracted, so the service may continue for that time after its caller has given up.
///
/// # Cost
///
/// One pass over the headers, two allocations for each number written, and one reading of the clock if there is a
/// deadline to send.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use http::{Request, Response};
/// use std::{convert::Infallible, time::Duration};
/// use steadfast::http::{Peer, Wire};
/// use tower::{ServiceExt, service_fn};
///
/// let inventory = service_fn(async |request: Request<()>| {
///     assert_eq!(request.headers()["steadfast-deadline-ms"], "600");
///     Ok::<_, Infallible>(Response::new(()))
/// });
/// let inventory = steadfast::client()
///     .attempt_timeout(Duration::from_millis(600))
///     .stamp(Wire::new(Peer::Internal))
///     .service(inventory)?;
/// inventory.oneshot(Request::new(())).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Wire {
    peer: Peer,
}

impl Wire {
    /// Writes the headers that this peer may receive.
    pub fn new(peer: Peer) -> Self {
        Self { peer }
    }
}

impl<B> Stamp<Request<B>> for Wire {
    fn stamp(&self, request: &mut Request<B>, frame: &mut Frame) {
        let headers = request.headers_mut();
        let found = FoundHeaders::in_request(headers);
        if found.attempt_or_criticality {
            for name in [ATTEMPT, CRITICALITY, ENVOY_ATTEMPT, GRPC_ATTEMPTS] {
                headers.remove(name);
            }
        }
        if found.is_grpc || self.peer == Peer::Internal {
            let context = CallContext::current();
            let left = context.deadline().map(|deadline| deadline.saturating_duration_since(frame.now()));
            if found.is_grpc {
                for_grpc(headers, &found, context, left);
            }
            if self.peer == Peer::Internal {
                for_internal(headers, &found, context, left);
            }
        }
        if self.peer == Peer::External && found.internal_deadline {
            headers.remove(DEADLINE);
            headers.remove(ENVOY_TIMEOUT);
        }
    }
}

/// The headers that a request already has, its own or those of an earlier hop.
#[derive(Default)]
struct FoundHeaders {
    is_grpc: bool,
    /// Whether there is a deadline that only internal peers may receive.
    internal_deadline: bool,
    /// Whether there is a header that states an attempt or a criticality.
    attempt_or_criticality: bool,
    /// The number of `grpc-timeout` fields.
    grpc_timeouts: usize,
    /// The shortest readable `grpc-timeout`.
    grpc_left: Option<Duration>,
    /// The shortest readable `steadfast-deadline-ms`.
    left: Option<Duration>,
}

impl FoundHeaders {
    #[inline]
    fn in_request(headers: &HeaderMap) -> Self {
        let mut found = Self::default();
        let mut has_type = false;
        for (known, value) in known(headers) {
            match known {
                KnownHeader::ContentType if !has_type => (has_type, found.is_grpc) = (true, grpc::is_grpc_type(value)),
                KnownHeader::ContentType | KnownHeader::Accept => {}
                known => found.add(known, value),
            }
        }
        found
    }

    #[cold]
    fn add(&mut self, known: KnownHeader, value: &HeaderValue) {
        let shorter = |least: Option<Duration>, left: Option<Duration>| least.into_iter().chain(left).min();
        match known {
            KnownHeader::GrpcTimeout => {
                self.grpc_timeouts += 1;
                self.grpc_left = shorter(self.grpc_left, grpc::timeout(value));
            }
            KnownHeader::Deadline => {
                self.internal_deadline = true;
                self.left = shorter(self.left, millis(value));
            }
            KnownHeader::EnvoyTimeout => self.internal_deadline = true,
            KnownHeader::Attempt | KnownHeader::Criticality | KnownHeader::EnvoyAttempt | KnownHeader::GrpcAttempts => {
                self.attempt_or_criticality = true
            }
            _ => {}
        }
    }
}

fn for_grpc(headers: &mut HeaderMap, found: &FoundHeaders, context: CallContext, left: Option<Duration>) {
    if let Some(left) = left {
        let shortest = found.grpc_left.map_or(left, |earlier| earlier.min(left));
        // The service may read any of several `grpc-timeout` fields, so `insert` replaces them all. A single field of
        // zero is replaced, too: the grammar excludes zero.
        let only = found.grpc_timeouts == 1;
        if !only || found.grpc_left != Some(shortest) || shortest.is_zero() {
            headers.insert(grpc::TIMEOUT, grpc::timeout_value(shortest));
        }
    }
    if context.attempt() > 0 {
        headers.insert(GRPC_ATTEMPTS, HeaderValue::from(context.attempt()));
    }
}

fn for_internal(headers: &mut HeaderMap, found: &FoundHeaders, context: CallContext, left: Option<Duration>) {
    if let Some(left) = left {
        let left = found.left.map_or(left, |earlier| earlier.min(left));
        let millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        headers.insert(DEADLINE, HeaderValue::from(millis.min(MOST_MILLIS)));
    }
    if context.attempt() > 0 {
        headers.insert(ATTEMPT, HeaderValue::from(context.attempt()));
    }
    let criticality = context.criticality();
    if criticality != Criticality::default() {
        headers.insert(CRITICALITY, HeaderValue::from_static(name(criticality)));
    }
}
