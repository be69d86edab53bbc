//! The headers that each attempt sends.

use crate::{
    probes::every,
    support::{Failed, ms},
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};
use steadfast::{
    CallContext, Criticality,
    http::{Peer, Wire},
    shell::{Frame, Stamp},
};
use tokio::time::Instant;
use tower::{ServiceExt, service_fn};

const GRPC: (&str, &str) = ("content-type", "application/grpc");

fn request(headers: &[(&'static str, &'static str)]) -> Request<()> {
    let mut request = Request::new(());
    for (name, value) in headers {
        request.headers_mut().append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    request
}

/// All headers of a request stamped in this context, sorted.
fn sent(peer: Peer, context: CallContext, headers: &[(&'static str, &'static str)]) -> Vec<(String, String)> {
    let mut request = request(headers);
    context.sync_scope(|| Wire::new(peer).stamp(&mut request, &mut Frame::default()));
    listed(request.headers())
}

fn listed(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
    let mut all: Vec<_> = headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    all.sort();
    all
}

fn pairs(headers: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut all: Vec<_> = headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    all.sort();
    all
}

fn due_in(millis: u64) -> CallContext {
    CallContext::new().with_deadline(Instant::now() + ms(millis))
}

#[tokio::test(start_paused = true)]
async fn each_attempt_sends_its_time_left_and_the_number_of_earlier_attempts() {
    let seen = Arc::new(Mutex::new(vec![]));
    let noted = seen.clone();
    let service = service_fn(move |request: Request<()>| {
        noted.lock().unwrap().push(listed(request.headers()));
        async {
            tokio::time::sleep(ms(5)).await;
            Err::<Response<()>, _>(Failed)
        }
    });
    let client = steadfast::client()
        .timeout(ms(640))
        .retry(every(3, ms(95)))
        .attempt_timeout(ms(500))
        .stamp(Wire::new(Peer::Internal))
        .service(service)
        .unwrap();
    let call = client.oneshot(request(&[GRPC]));
    CallContext::new().with_criticality(Criticality::SheddablePlus).scope(call).await.unwrap_err();
    let class = ("steadfast-criticality", "sheddable-plus");
    let expected = [
        pairs(&[GRPC, class, ("grpc-timeout", "500000u"), ("steadfast-deadline-ms", "500")]),
        pairs(&[
            GRPC,
            class,
            ("grpc-timeout", "500000u"),
            ("steadfast-deadline-ms", "500"),
            ("steadfast-attempt", "1"),
            ("grpc-previous-rpc-attempts", "1"),
        ]),
        pairs(&[
            GRPC,
            class,
            ("grpc-timeout", "440000u"),
            ("steadfast-deadline-ms", "440"),
            ("steadfast-attempt", "2"),
            ("grpc-previous-rpc-attempts", "2"),
        ]),
    ];
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn an_external_peer_receives_only_grpcs_own_headers() {
    let context = due_in(1500).with_attempt(2).with_criticality(Criticality::CriticalPlus);
    let copied = [
        ("steadfast-deadline-ms", "100"),
        ("steadfast-attempt", "7"),
        ("steadfast-criticality", "critical-plus"),
        ("x-envoy-attempt-count", "3"),
        ("x-envoy-expected-rq-timeout-ms", "250"),
        ("grpc-previous-rpc-attempts", "4"),
        ("x-request-id", "1"),
    ];
    assert_eq!(sent(Peer::External, context, &copied), pairs(&[("x-request-id", "1")]));
    let expected = [GRPC, ("grpc-timeout", "1500000u"), ("grpc-previous-rpc-attempts", "2")];
    assert_eq!(sent(Peer::External, context, &[GRPC]), pairs(&expected));
    for copied in [&[GRPC][..], &[GRPC, ("grpc-previous-rpc-attempts", "4")]] {
        assert_eq!(sent(Peer::External, CallContext::new(), copied), pairs(&[GRPC]));
    }
}

#[tokio::test(start_paused = true)]
async fn an_internal_peer_receives_the_context_instead_of_copied_headers() {
    let copied = [
        ("steadfast-attempt", "7"),
        ("steadfast-attempt", "8"),
        ("steadfast-criticality", "critical-plus"),
        ("x-envoy-attempt-count", "3"),
        ("grpc-previous-rpc-attempts", "4"),
    ];
    for copied in [&[][..], &copied] {
        assert_eq!(sent(Peer::Internal, CallContext::new(), copied), pairs(&[]));
        let second = CallContext::new().with_attempt(1);
        assert_eq!(sent(Peer::Internal, second, copied), pairs(&[("steadfast-attempt", "1")]));
    }
    for (class, name) in [
        (Criticality::Sheddable, Some("sheddable")),
        (Criticality::SheddablePlus, Some("sheddable-plus")),
        (Criticality::Critical, None),
        (Criticality::CriticalPlus, Some("critical-plus")),
    ] {
        let context = CallContext::new().with_criticality(class);
        let expected: Vec<_> = name.map(|name| ("steadfast-criticality", name)).into_iter().collect();
        assert_eq!(sent(Peer::Internal, context, &copied), pairs(&expected));
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_already_in_the_request_only_shrinks() {
    for (had, sent_on) in [("1S", "1S"), ("1500m", "1500m"), ("2S", "1500000u"), ("soon", "1500000u"), ("0S", "1n")] {
        let sent = sent(Peer::External, due_in(1500), &[GRPC, ("grpc-timeout", had)]);
        assert_eq!(sent, pairs(&[GRPC, ("grpc-timeout", sent_on)]), "{had}");
    }
    let several = [GRPC, ("grpc-timeout", "2S"), ("grpc-timeout", "1S")];
    assert_eq!(sent(Peer::External, due_in(1500), &several), pairs(&[GRPC, ("grpc-timeout", "1000000u")]));
    assert_eq!(sent(Peer::External, CallContext::new(), &[GRPC, ("grpc-timeout", "2S")])[1].1, "2S");
    for (had, sent_on) in [("1499", "1499"), ("1501", "1500"), ("soon", "1500")] {
        let sent = sent(Peer::Internal, due_in(1500), &[("steadfast-deadline-ms", had)]);
        assert_eq!(sent, pairs(&[("steadfast-deadline-ms", sent_on)]), "{had}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_left_is_rounded_down_but_never_to_zero_for_grpc() {
    let now = Instant::now();
    for (left, millis, timeout) in [
        (ms(0), "0", "1n"),
        (std::time::Duration::from_nanos(999_999), "0", "999999n"),
        (std::time::Duration::from_micros(1999), "1", "1999000n"),
        (std::time::Duration::from_nanos(123_456_789), "123", "123456u"),
        (ms(3_600_000), "3600000", "3600000m"),
    ] {
        let context = CallContext::new().with_deadline(now + left);
        let expected = [GRPC, ("steadfast-deadline-ms", millis), ("grpc-timeout", timeout)];
        assert_eq!(sent(Peer::Internal, context, &[GRPC]), pairs(&expected), "{left:?}");
    }
    let context = due_in(10);
    tokio::time::advance(ms(60_000)).await;
    let expected = [GRPC, ("steadfast-deadline-ms", "0"), ("grpc-timeout", "1n")];
    assert_eq!(sent(Peer::Internal, context, &[GRPC]), pairs(&expected));
}

#[tokio::test(start_paused = true)]
async fn a_call_without_a_context_is_stamped_too() {
    let service = service_fn(async |request: Request<()>| Ok::<_, Infallible>(listed(request.headers())));
    let client = steadfast::client().stamp(Wire::new(Peer::Internal)).service(service).unwrap();
    assert_eq!(client.oneshot(request(&[])).await.unwrap(), pairs(&[]));
}
