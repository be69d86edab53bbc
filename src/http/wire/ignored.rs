use std::sync::atomic::{AtomicU64, Ordering};

/// A header that was ignored because its value could not be read.
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

/// One count for each [`IgnoredHeader`], in the order of its variants. Relaxed: the counts guard no other memory.
static COUNTS: [AtomicU64; 7] = [const { AtomicU64::new(0) }; 7];

impl IgnoredHeader {
    /// Adds one to the count of this header.
    #[cold]
    pub(in crate::http) fn count(self) {
        COUNTS[self as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn counted(self) -> u64 {
        COUNTS[self as usize].load(Ordering::Relaxed)
    }
}

/// The number of headers that this process ignored because their values could not be read. [`ignored_headers`] returns
/// it.
///
/// A growing number means that a peer or a proxy writes malformed headers. Each call goes on as if the header were
/// absent, with the exceptions named below.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IgnoredHeaders {
    /// `Retry-After` that is neither 1 to 10 digits nor an HTTP date.
    pub retry_after: u64,
    /// `steadfast-retry` from an internal peer that is neither `never` nor `unprocessed`.
    pub steadfast_retry: u64,
    /// `grpc-retry-pushback-ms` that is no signed 32-bit number. It forbids a retry, as gRFC A6 requires.
    pub grpc_retry_pushback: u64,
    /// `grpc-status` that is no number from 0 to 16. It counts as 2, `UNKNOWN`, as in gRPC's own libraries.
    pub grpc_status: u64,
    /// `grpc-timeout`, `steadfast-deadline-ms` and, from an internal peer, `x-envoy-expected-rq-timeout-ms`.
    pub deadline: u64,
    /// `grpc-previous-rpc-attempts`, `steadfast-attempt` and `x-envoy-attempt-count`.
    pub attempt: u64,
    /// `steadfast-criticality` that names no class.
    pub criticality: u64,
}

impl IgnoredHeaders {
    /// Returns the count of each kind of header, with the name of the kind. The name is the label `header` of the
    /// [metric](crate::telemetry#the-metrics).
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

/// Returns the number of headers that were ignored since the process began, by kind.
///
/// The counts cover all stacks of the process and never fall. Each is exact, but together they are no snapshot, because
/// calls go on during the reading. Costs one atomic load per kind. A readable header costs nothing.
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
