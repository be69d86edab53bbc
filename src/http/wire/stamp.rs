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

/// Tells the called service about the call: a [`Stamp`] that writes the headers of each attempt.
///
/// It writes from the [current](CallContext::current) context, in which a client stack runs each attempt. The deadline
/// is that by which the attempt is given up.
///
/// | header | value | sent to |
/// |---|---|---|
/// | `grpc-timeout` | the time left, rounded down, of at most 8 digits | anyone, on requests of gRPC |
/// | `grpc-previous-rpc-attempts` | the earlier attempts, if there were any | anyone, on requests of gRPC |
/// | `steadfast-deadline-ms` | the time left in milliseconds, rounded down | internal peers |
/// | `steadfast-attempt` | the earlier attempts, if there were any | internal peers |
/// | `steadfast-criticality` | `sheddable`, `sheddable-plus` or `critical-plus` | internal peers |
///
/// A request is one of gRPC if its content type begins with `application/grpc`. Its timeout is in the finest unit that
/// fits, and never zero, which the grammar excludes: `1n` says that no time is left. Less than one millisecond is a
/// `steadfast-deadline-ms` of 0. The criticality is not sent if it is `critical`, the default.
///
/// **Nothing is passed on by accident.** A proxy may have copied the headers of the request that it serves. To an
/// external peer no `steadfast-deadline-ms`, `steadfast-attempt`, `steadfast-criticality`, `x-envoy-attempt-count` or
/// `x-envoy-expected-rq-timeout-ms` is sent: those that the request has are removed. To an internal peer the attempt
/// and the criticality are always those of the context. A server stack has read them, and has believed only what that
/// peer may ask for.
///
/// **A deadline only shrinks.** A `grpc-timeout` or `steadfast-deadline-ms` that the request has, and that is shorter,
/// stays. Without a deadline in the context the request's own stays, too.
///
/// No clock time is ever sent, only lengths of time: the clocks of both sides need not agree. The time in transit is
/// not subtracted. So the service may work on for that long after its caller has given up.
///
/// # Cost
///
/// One pass over the headers, two allocations for each number that is written, and one reading of the clock, if a
/// deadline is sent.
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
    /// Writes what this peer may know.
    pub fn new(peer: Peer) -> Self {
        Self { peer }
    }
}

impl<B> Stamp<Request<B>> for Wire {
    fn stamp(&self, request: &mut Request<B>, frame: &mut Frame) {
        let headers = request.headers_mut();
        let found = FoundHeaders::in_request(headers);
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
        if self.peer == Peer::External && found.has_internal {
            for name in [DEADLINE, ATTEMPT, CRITICALITY, ENVOY_ATTEMPT, ENVOY_TIMEOUT] {
                headers.remove(name);
            }
        }
    }
}

/// What a request has by itself, or from an earlier hop.
#[derive(Default)]
struct FoundHeaders {
    is_grpc: bool,
    /// Headers that are for internal peers only.
    has_internal: bool,
    attempt_or_criticality: bool,
    /// The `grpc-timeout` fields, and the shortest that can be read.
    grpc_timeouts: usize,
    grpc_left: Option<Duration>,
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
        self.has_internal |= known.is_internal();
        self.attempt_or_criticality |= matches!(known, KnownHeader::Attempt | KnownHeader::Criticality);
        match known {
            KnownHeader::GrpcTimeout => {
                self.grpc_timeouts += 1;
                self.grpc_left = shorter(self.grpc_left, grpc::timeout(value));
            }
            KnownHeader::Deadline => self.left = shorter(self.left, millis(value)),
            _ => {}
        }
    }
}

fn for_grpc(headers: &mut HeaderMap, found: &FoundHeaders, context: CallContext, left: Option<Duration>) {
    if let Some(left) = left {
        let shortest = found.grpc_left.map_or(left, |earlier| earlier.min(left));
        // Of several the service may read any.
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
    if found.attempt_or_criticality {
        headers.remove(ATTEMPT);
        headers.remove(CRITICALITY);
    }
    if context.attempt() > 0 {
        headers.insert(ATTEMPT, HeaderValue::from(context.attempt()));
    }
    let criticality = context.criticality();
    if criticality != Criticality::default() {
        headers.insert(CRITICALITY, HeaderValue::from_static(name(criticality)));
    }
}
