use std::sync::atomic::{AtomicU64, Ordering};

/// A header that was ignored, since its value could not be read.
#[derive(Clone, Copy, Debug)]
pub(in crate::http) enum IgnoredHeader {
    RetryAfter,
    SteadfastRetry,
    GrpcRetryPushback,
    GrpcStatus,
    Deadline,
    Attempt,
    Criticality,
}

/// Relaxed: nothing else is read by what the counts say.
static COUNTS: [AtomicU64; 7] = [const { AtomicU64::new(0) }; 7];

impl IgnoredHeader {
    /// Adds one to the count of such headers.
    #[cold]
    pub(in crate::http) fn count(self) {
        COUNTS[self as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn counted(self) -> u64 {
        COUNTS[self as usize].load(Ordering::Relaxed)
    }
}

/// How many headers this process has ignored because their values could not be read. Read by [`ignored_headers`].
///
/// A number that grows means that a peer, or a proxy on the way, writes what its specification does not allow. The call
/// then goes on as if the header were absent, with the exceptions named below.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IgnoredHeaders {
    /// `Retry-After` that is neither 1 to 10 digits nor a date of HTTP.
    pub retry_after: u64,
    /// `steadfast-retry` of an internal peer that is neither `never` nor `unprocessed`.
    pub steadfast_retry: u64,
    /// `grpc-retry-pushback-ms` that is no signed number of 32 bits. It forbids a retry, as gRFC A6 wants it.
    pub grpc_retry_pushback: u64,
    /// `grpc-status` that is no number from 0 to 16. It means 2, `UNKNOWN`, as in gRPC's own libraries.
    pub grpc_status: u64,
    /// `grpc-timeout`, `steadfast-deadline-ms` and, of an internal peer, `x-envoy-expected-rq-timeout-ms`.
    pub deadline: u64,
    /// `grpc-previous-rpc-attempts`, `steadfast-attempt` and `x-envoy-attempt-count`.
    pub attempt: u64,
    /// `steadfast-criticality` that names no class.
    pub criticality: u64,
}

impl IgnoredHeaders {
    /// Each kind by its name, as the label `header` of the [metric](crate::telemetry#the-metrics) has it.
    pub fn by_name(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        let Self { retry_after, steadfast_retry, grpc_retry_pushback, grpc_status, deadline, attempt, criticality } =
            *self;
        let all = [
            ("retry_after", retry_after),
            ("steadfast_retry", steadfast_retry),
            ("grpc_retry_pushback", grpc_retry_pushback),
            ("grpc_status", grpc_status),
            ("deadline", deadline),
            ("attempt", attempt),
            ("criticality", criticality),
        ];
        all.into_iter()
    }
}

/// The headers that were ignored since the process began, by kind.
///
/// The counts are those of the whole process, of all stacks together, and only grow. Each is exact. Together they are
/// no snapshot, since calls go on while they are read. The cost is one atomic load for each kind. A header that is read
/// well costs nothing here.
///
/// ```
/// use http::{HeaderValue, Response, StatusCode, header::RETRY_AFTER};
/// use std::convert::Infallible;
/// use steadfast::{Outcome, classify::Classify, http::{Peer, Verdict, ignored_headers}};
///
/// let before = ignored_headers().retry_after;
/// let mut answer = Response::new(());
/// *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
/// answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("soon"));
/// let outcome = Verdict::new(Peer::External).classify(Ok::<_, &Infallible>(&answer));
/// assert_eq!(outcome, Outcome::Failure);
/// assert_eq!(ignored_headers().retry_after, before + 1);
/// ```
pub fn ignored_headers() -> IgnoredHeaders {
    IgnoredHeaders {
        retry_after: IgnoredHeader::RetryAfter.counted(),
        steadfast_retry: IgnoredHeader::SteadfastRetry.counted(),
        grpc_retry_pushback: IgnoredHeader::GrpcRetryPushback.counted(),
        grpc_status: IgnoredHeader::GrpcStatus.counted(),
        deadline: IgnoredHeader::Deadline.counted(),
        attempt: IgnoredHeader::Attempt.counted(),
        criticality: IgnoredHeader::Criticality.counted(),
    }
}
