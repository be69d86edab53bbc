use super::{super::Peer, *};
use crate::{
    context::CallContext,
    shell::{Frame, Stamp},
};
use http::{HeaderMap, HeaderValue, Request};
use proptest::{collection::vec, prelude::*};
use std::time::Duration;
use tokio::time::Instant;

const PEERS: [Peer; 2] = [Peer::Internal, Peer::External];
const NAMES: [HeaderName; 7] =
    [super::super::grpc::TIMEOUT, DEADLINE, ATTEMPT, CRITICALITY, GRPC_ATTEMPTS, ENVOY_TIMEOUT, ENVOY_ATTEMPT];

fn fields(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

/// The milliseconds left after reading the headers, for a call that had `given` milliseconds before.
fn left(peer: Peer, given: Option<u64>, pairs: &[(&'static str, &str)]) -> Option<u128> {
    let now = Instant::now();
    let context = match given {
        Some(millis) => CallContext::new().with_deadline(now + Duration::from_millis(millis)),
        None => CallContext::new(),
    };
    let deadline = read(peer, &fields(pairs), context, || now).context.deadline();
    deadline.map(|deadline| deadline.saturating_duration_since(now).as_millis())
}

#[test]
fn the_smallest_deadline_that_can_be_read_counts() {
    for peer in PEERS {
        assert_eq!(left(peer, None, &[]), None);
        assert_eq!(left(peer, None, &[("grpc-timeout", "2S")]), Some(2000));
        assert_eq!(left(peer, None, &[("steadfast-deadline-ms", " 1500 ")]), Some(1500));
        assert_eq!(left(peer, None, &[("grpc-timeout", "2S"), ("steadfast-deadline-ms", "1500")]), Some(1500));
        assert_eq!(left(peer, None, &[("grpc-timeout", "1S"), ("steadfast-deadline-ms", "1500")]), Some(1000));
        assert_eq!(
            left(peer, None, &[("grpc-timeout", "9S"), ("grpc-timeout", "x"), ("grpc-timeout", "3S")]),
            Some(3000)
        );
        assert_eq!(left(peer, Some(700), &[("grpc-timeout", "2S")]), Some(700));
        assert_eq!(left(peer, Some(700), &[("grpc-timeout", "600m")]), Some(600));
    }
}

#[test]
fn a_header_grants_at_most_an_hour_and_zero_is_now() {
    for peer in PEERS {
        assert_eq!(left(peer, None, &[("grpc-timeout", "99999999H")]), Some(3_600_000));
        assert_eq!(left(peer, None, &[("steadfast-deadline-ms", "9999999999")]), Some(3_600_000));
        assert_eq!(left(peer, Some(7_200_000), &[("steadfast-deadline-ms", "3600001")]), Some(3_600_000));
        assert_eq!(left(peer, Some(7_200_000), &[]), Some(7_200_000));
        assert_eq!(left(peer, Some(700), &[("steadfast-deadline-ms", "0")]), Some(0));
        assert_eq!(left(peer, None, &[("grpc-timeout", "0n")]), Some(0));
    }
}

#[test]
fn only_internal_peers_may_set_envoys_timeout() {
    let headers = [("x-envoy-expected-rq-timeout-ms", "250"), ("grpc-timeout", "1S")];
    assert_eq!(left(Peer::Internal, None, &headers), Some(250));
    assert_eq!(left(Peer::External, None, &headers), Some(1000));
}

#[test]
fn a_deadline_that_cannot_be_read_is_ignored_and_counted() {
    let before = ignored_headers().deadline;
    let malformed = ["", "-1", "1.5", "12345678901", "soon", "5ms"];
    for value in malformed {
        let headers =
            [("steadfast-deadline-ms", value), ("grpc-timeout", value), ("x-envoy-expected-rq-timeout-ms", value)];
        assert_eq!(left(Peer::Internal, None, &headers), None, "{value:?}");
    }
    assert!(ignored_headers().deadline >= before + 3 * malformed.len() as u64);
}

#[test]
fn the_largest_attempt_of_all_headers_holds_for_both_peers() {
    let before = ignored_headers().attempt;
    for peer in PEERS {
        let attempt = |given: u32, pairs: &[(&'static str, &str)]| {
            read(peer, &fields(pairs), CallContext::new().with_attempt(given), Instant::now).context.attempt()
        };
        assert_eq!(attempt(0, &[]), 0);
        assert_eq!(attempt(0, &[("steadfast-attempt", "2")]), 2);
        assert_eq!(attempt(0, &[("grpc-previous-rpc-attempts", "3"), ("steadfast-attempt", "2")]), 3);
        assert_eq!(attempt(0, &[("x-envoy-attempt-count", "5"), ("steadfast-attempt", "2")]), 4);
        assert_eq!(attempt(0, &[("x-envoy-attempt-count", "1")]), 0);
        assert_eq!(attempt(0, &[("x-envoy-attempt-count", "0")]), 0);
        assert_eq!(attempt(7, &[("steadfast-attempt", "2")]), 7);
        assert_eq!(attempt(0, &[("steadfast-attempt", "9999999999")]), u32::MAX);
        assert_eq!(attempt(0, &[("steadfast-attempt", "-2"), ("grpc-previous-rpc-attempts", "1")]), 1);
        // Of several fields with one name, the first counts.
        assert_eq!(attempt(0, &[("steadfast-attempt", "2"), ("steadfast-attempt", "6")]), 2);
    }
    assert!(ignored_headers().attempt >= before + 2);
}

#[test]
fn any_peer_may_lower_the_criticality_and_only_an_internal_peer_may_raise_it() {
    use Criticality::*;
    let claim = |peer, given: Criticality, value: &str| {
        let headers = fields(&[("steadfast-criticality", value)]);
        read(peer, &headers, CallContext::new().with_criticality(given), Instant::now).context.criticality()
    };
    for class in CLASSES {
        assert_eq!(claim(Peer::Internal, Critical, name(class)), class);
        assert_eq!(claim(Peer::External, Critical, name(class)), class.min(Critical));
        assert_eq!(claim(Peer::External, Sheddable, name(class)), Sheddable);
        assert_eq!(claim(Peer::External, CriticalPlus, name(class)), class);
    }
    assert_eq!(claim(Peer::External, Critical, " Sheddable-PLUS "), SheddablePlus);
    let before = ignored_headers().criticality;
    for value in ["", "high", "critical+", "sheddable, critical"] {
        assert_eq!(claim(Peer::Internal, Critical, value), Critical, "{value:?}");
    }
    assert!(ignored_headers().criticality >= before + 4);
}

/// A request as the stamp writes it in this context.
fn sent(peer: Peer, grpc: bool, context: CallContext) -> Request<()> {
    let mut request = Request::new(());
    if grpc {
        request.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    }
    context.sync_scope(|| Wire::new(peer).stamp(&mut request, &mut Frame::default()));
    request
}

fn any_context() -> impl Strategy<Value = (Option<u64>, u32, usize)> {
    (proptest::option::of(0..3_500_000_u64), any::<u32>(), 0..CLASSES.len())
}

proptest! {
    #[test]
    fn an_internal_peer_reads_what_was_written((millis, attempt, class) in any_context(), grpc: bool) {
        let now = Instant::now();
        let context = CallContext::new().with_attempt(attempt).with_criticality(CLASSES[class]);
        let left = millis.map(Duration::from_millis);
        let context = left.map_or(context, |left| context.with_deadline(now + left));
        let request = sent(Peer::Internal, grpc, context);
        let read = read(Peer::Internal, request.headers(), CallContext::new(), || now).context;
        prop_assert_eq!((read.attempt(), read.criticality()), (context.attempt(), context.criticality()));
        prop_assert_eq!(read.deadline().is_some(), millis.is_some());
        // Rounding and the passing time only make the deadline earlier, except that gRPC sends at least one nanosecond.
        prop_assert!(read.deadline() <= context.deadline().map(|deadline| deadline + Duration::from_nanos(1)));
    }

    #[test]
    fn an_external_peer_receives_only_the_timeout_and_the_attempts_of_grpc(
        (millis, attempt, class) in any_context(),
        grpc: bool,
    ) {
        let context = CallContext::new().with_attempt(attempt).with_criticality(CLASSES[class]);
        let deadline = millis.map(|millis| Instant::now() + Duration::from_millis(millis));
        let context = deadline.map_or(context, |deadline| context.with_deadline(deadline));
        let request = sent(Peer::External, grpc, context);
        let names: Vec<_> = NAMES.into_iter().filter(|name| request.headers().contains_key(name)).collect();
        let timeout = (grpc && millis.is_some()).then_some(super::super::grpc::TIMEOUT);
        let attempts = (grpc && attempt > 0).then_some(GRPC_ATTEMPTS);
        prop_assert_eq!(names, timeout.into_iter().chain(attempts).collect::<Vec<_>>());
    }

    #[test]
    fn any_bytes_never_extend_a_deadline_nor_raise_the_criticality_of_an_external_peer(
        values in vec((0..NAMES.len(), prop_oneof![
            vec(any::<u8>(), 0..12),
            "[0-9]{0,12}[HMSmun]?".prop_map(String::into_bytes),
            Just(b"critical-plus".to_vec()),
            Just(b"sheddable".to_vec()),
        ]), 0..12),
        (millis, attempt, class) in any_context(),
    ) {
        let mut headers = HeaderMap::new();
        for (name, value) in values {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                headers.append(&NAMES[name], value);
            }
        }
        let now = Instant::now();
        let given = CallContext::new().with_attempt(attempt).with_criticality(CLASSES[class]);
        let given = millis.map_or(given, |millis| given.with_deadline(now + Duration::from_millis(millis)));
        for peer in PEERS {
            let context = read(peer, &headers, given, || now).context;
            prop_assert!(given.deadline().is_none_or(|deadline| context.deadline().unwrap() <= deadline));
            prop_assert!(context.deadline().is_none_or(|deadline| deadline >= now));
            prop_assert!(context.attempt() >= attempt);
            if peer == Peer::External {
                prop_assert!(context.criticality() <= given.criticality());
            }
            // A proxy may have copied the headers into its own request. After the stamp, the headers claim no higher
            // attempt and no higher criticality than the context. A request without the header is read as `critical`.
            let mut request = Request::new(());
            *request.headers_mut() = headers.clone();
            context.sync_scope(|| Wire::new(peer).stamp(&mut request, &mut Frame::default()));
            let passed_on = read(Peer::Internal, request.headers(), CallContext::new(), || now).context;
            prop_assert!(passed_on.criticality() <= context.criticality().max(Criticality::Critical));
            prop_assert!(passed_on.attempt() <= context.attempt());
        }
    }
}
