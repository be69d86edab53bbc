//! Each row of the table of `Verdict`: the outcome of a response, and whether the response forbids a retry.

use http::{HeaderName, HeaderValue, Response, StatusCode};
use proptest::{collection::vec, prelude::*};
use std::{convert::Infallible, io, time::Duration};
use steadfast::{
    Outcome,
    classify::Classify,
    http::{Peer, Verdict, ignored_headers},
};

const PEERS: [Peer; 2] = [Peer::Internal, Peer::External];
const GRPC: (&str, &str) = ("content-type", "application/grpc");
/// The outcome of each gRPC code, from 0 to 16.
const CODES: [Outcome; 17] = {
    use Outcome::{Failure, Overloaded, Permanent, Success};
    [
        Success,
        Failure,
        Failure,
        Permanent,
        Failure,
        Permanent,
        Permanent,
        Permanent,
        Overloaded { retry_after: None },
        Permanent,
        Permanent,
        Permanent,
        Permanent,
        Failure,
        Failure,
        Failure,
        Permanent,
    ]
};

fn answer(status: u16, headers: &[(&str, &str)]) -> Response<()> {
    let mut answer = Response::builder().status(status);
    for (name, value) in headers {
        answer = answer.header(*name, *value);
    }
    answer.body(()).unwrap()
}

/// The outcome, and whether a retry is forbidden.
fn judged(peer: Peer, status: u16, headers: &[(&str, &str)]) -> (Outcome, bool) {
    let answer = answer(status, headers);
    let answer = Ok::<_, &Infallible>(&answer);
    let verdict = Verdict::new(peer);
    (verdict.classify(answer), verdict.forbids_retry(answer))
}

#[track_caller]
fn assert_judged(status: u16, headers: &[(&str, &str)], outcome: Outcome) {
    for peer in PEERS {
        assert_eq!(judged(peer, status, headers), (outcome, false), "{status} {headers:?} of {peer:?}");
    }
}

fn overloaded(millis: impl Into<Option<u64>>) -> Outcome {
    Outcome::Overloaded { retry_after: millis.into().map(Duration::from_millis) }
}

#[test]
fn each_status_alone_has_its_outcome() {
    for status in 100..1000 {
        let expected = match status {
            ..400 => Outcome::Success,
            429 => overloaded(1000),
            408 | 425 | 500 | 502 | 503 | 504 | 520..530 => Outcome::Failure,
            501 | 505 => Outcome::Permanent,
            status if status < 500 => Outcome::Permanent,
            // A client treats other codes from 500 on as 500: RFC 9110, section 15.
            _ => Outcome::Failure,
        };
        assert_judged(status, &[], expected);
    }
}

#[test]
fn a_success_status_overrides_all_other_headers() {
    for extra in [
        ("steadfast-rejected", "load_shed"),
        ("steadfast-retry", "unprocessed"),
        ("x-envoy-overloaded", "true"),
        ("retry-after", "5"),
        ("grpc-status", "14"),
    ] {
        for status in [100, 200, 204, 304] {
            assert_judged(status, &[extra], Outcome::Success);
        }
    }
    assert_judged(200, &[GRPC, ("grpc-status", "0"), ("steadfast-rejected", "load_shed")], Outcome::Success);
    assert_judged(503, &[GRPC, ("grpc-status", "0"), ("grpc-retry-pushback-ms", "-1")], Outcome::Success);
}

#[test]
fn a_rejection_without_a_hint_is_overloaded_and_not_retried() {
    for mechanism in ["load_shed", "timeout", "kill_switch"] {
        let headers = [("steadfast-retry", "unprocessed"), ("steadfast-rejected", mechanism)];
        assert_eq!(judged(Peer::Internal, 503, &headers), (overloaded(None), false));
    }
}

#[test]
fn only_an_internal_peer_may_say_that_a_request_was_not_processed() {
    for (status, headers, hint) in [
        (503, &[("steadfast-retry", "unprocessed")][..], None),
        (
            503,
            &[("steadfast-retry", " Unprocessed "), ("retry-after", "2"), ("steadfast-rejected", "rate_limit")],
            Some(2),
        ),
        (404, &[("steadfast-retry", "unprocessed")], None),
        (200, &[GRPC, ("grpc-status", "14"), ("steadfast-retry", "unprocessed")], None),
        (
            200,
            &[GRPC, ("grpc-status", "8"), ("steadfast-retry", "unprocessed"), ("grpc-retry-pushback-ms", "2000")],
            Some(2),
        ),
    ] {
        let unprocessed = Outcome::Unprocessed { retry_after: hint.map(Duration::from_secs) };
        assert_eq!(judged(Peer::Internal, status, headers), (unprocessed, false), "{status} {headers:?}");
        let without: Vec<_> = headers.iter().copied().filter(|(name, _)| *name != "steadfast-retry").collect();
        assert_eq!(judged(Peer::External, status, headers), judged(Peer::External, status, &without));
    }
}

#[test]
fn an_internal_peer_may_forbid_a_retry_in_any_response() {
    for (status, headers, outcome) in [
        (200, &[][..], Outcome::Success),
        (503, &[], Outcome::Failure),
        (404, &[], Outcome::Permanent),
        (429, &[("retry-after", "2")], overloaded(2000)),
        (200, &[GRPC, ("grpc-status", "14")], Outcome::Failure),
        (200, &[GRPC], Outcome::Success),
    ] {
        let never: Vec<_> = headers.iter().copied().chain([("steadfast-retry", " NEVER ")]).collect();
        assert_eq!(judged(Peer::Internal, status, &never), (outcome, true), "{status} {headers:?}");
        assert_eq!(judged(Peer::External, status, &never), (outcome, false), "{status} {headers:?}");
    }
    let before = ignored_headers().steadfast_retry;
    assert_eq!(judged(Peer::Internal, 503, &[("steadfast-retry", "perhaps")]), (Outcome::Failure, false));
    assert!(ignored_headers().steadfast_retry > before);
}

#[test]
fn overload_is_recognized_by_status_and_hint_or_by_a_header() {
    assert_judged(429, &[("retry-after", "3")], overloaded(3000));
    assert_judged(503, &[("retry-after", "0")], overloaded(0));
    assert_judged(503, &[("retry-after", "7"), ("retry-after", "1")], overloaded(7000));
    let due = [("date", "Sun, 06 Nov 1994 08:49:37 GMT"), ("retry-after", "Sun, 06 Nov 1994 08:50:37 GMT")];
    assert_judged(503, &due, overloaded(60_000));
    // Malformed: no hint.
    assert_judged(503, &[("retry-after", "soon")], Outcome::Failure);
    assert_judged(429, &[("retry-after", "soon")], overloaded(1000));
    for header in [("steadfast-rejected", "load_shed"), ("x-envoy-overloaded", "true")] {
        for status in [400, 404, 429, 500, 501, 503, 504] {
            assert_judged(status, &[header], overloaded(None));
            assert_judged(status, &[header, ("retry-after", "3")], overloaded(3000));
        }
        assert_judged(200, &[GRPC, ("grpc-status", "5"), header], overloaded(None));
    }
    // A timeout of the service is a failure, unless the call did not reach the service.
    let timeout = ("steadfast-rejected", "timeout");
    assert_judged(504, &[timeout], Outcome::Failure);
    assert_judged(200, &[GRPC, ("grpc-status", "4"), timeout], Outcome::Failure);
    // Other statuses do not mean overload, with or without a hint.
    for (status, outcome) in [(500, Outcome::Failure), (504, Outcome::Failure), (404, Outcome::Permanent)] {
        assert_judged(status, &[("retry-after", "3")], outcome);
    }
}

#[test]
fn each_grpc_code_has_its_outcome_and_is_overloaded_with_a_pushback() {
    for (code, outcome) in CODES.into_iter().enumerate() {
        let code = code.to_string();
        // The code is in the head ("Trailers-Only"), with any HTTP status.
        for status in [200, 400, 429, 503] {
            let headers = [("content-type", "Application/gRPC+proto"), ("grpc-status", &code)];
            assert_judged(status, &headers, outcome);
        }
        let pushed = |millis| [GRPC, ("grpc-status", &code), ("grpc-retry-pushback-ms", millis)];
        let is_success = outcome == Outcome::Success;
        assert_judged(200, &pushed("250"), if is_success { outcome } else { overloaded(250) });
        for never in ["-1", "soon", "2147483648"] {
            for peer in PEERS {
                let expected = if is_success { (outcome, false) } else { (overloaded(None), true) };
                assert_eq!(judged(peer, 200, &pushed(never)), expected, "{code} of {peer:?}");
            }
        }
    }
    for unknown in ["", "17", "-1", "none"] {
        assert_judged(200, &[GRPC, ("grpc-status", unknown)], Outcome::Failure);
    }
    // The pushback takes precedence over `Retry-After`, also if it is negative.
    let both = [GRPC, ("grpc-status", "8"), ("retry-after", "9"), ("grpc-retry-pushback-ms", "250")];
    assert_judged(200, &both, overloaded(250));
    assert_judged(200, &both[..3], overloaded(9000));
    let never = [GRPC, ("grpc-status", "8"), ("retry-after", "9"), ("grpc-retry-pushback-ms", "-1")];
    assert_eq!(judged(Peer::External, 200, &never), (overloaded(None), true));
    // A pushback counts only for gRPC.
    assert_judged(500, &[("grpc-retry-pushback-ms", "-1"), ("grpc-status", "5")], Outcome::Failure);
}

#[test]
fn a_grpc_response_without_a_code_is_classified_by_its_http_status() {
    assert_judged(200, &[GRPC], Outcome::Success);
    for status in (100..1000).filter(|status| *status != 200) {
        let expected = match status {
            401 | 403 | 404 => Outcome::Permanent,
            429 => overloaded(1000),
            _ => Outcome::Failure,
        };
        assert_judged(status, &[GRPC], expected);
    }
    assert_judged(503, &[GRPC, ("retry-after", "3")], overloaded(3000));
    assert_judged(502, &[GRPC, ("grpc-retry-pushback-ms", "250")], overloaded(250));
}

#[test]
fn an_error_is_a_failure_unless_the_request_was_not_sent() {
    let (refused, reset) = (io::ErrorKind::ConnectionRefused, io::ErrorKind::ConnectionReset);
    let judge = |verdict: &dyn Classify<Response<()>, io::Error>, kind: io::ErrorKind| {
        let error = kind.into();
        assert!(!verdict.forbids_retry(Err(&error)));
        verdict.classify(Err(&error))
    };
    for peer in PEERS {
        let plain = Verdict::new(peer);
        let knows = plain.unsent(|error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused);
        assert_eq!((judge(&plain, refused), judge(&plain, reset)), (Outcome::Failure, Outcome::Failure));
        assert_eq!(judge(&knows, refused), Outcome::Unprocessed { retry_after: None });
        assert_eq!(judge(&knows, reset), Outcome::Failure);
        assert_eq!(knows.classify(Ok::<_, &io::Error>(&answer(404, &[]))), Outcome::Permanent);
    }
}

fn field() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(any::<u8>(), 0..32), "[-0-9]{0,11}".prop_map(String::into_bytes)]
}

proptest! {
    #[test]
    fn any_response_is_classified_without_a_panic(
        status in 100..1000_u16,
        is_grpc: bool,
        values in vec((0..8_usize, field()), 0..10),
    ) {
        let names = [
            "retry-after", "date", "content-type", "grpc-status", "grpc-retry-pushback-ms", "steadfast-retry",
            "steadfast-rejected", "x-envoy-overloaded",
        ];
        let mut answer = Response::new(());
        *answer.status_mut() = StatusCode::from_u16(status).unwrap();
        if is_grpc {
            answer.headers_mut().append("content-type", HeaderValue::from_static("application/grpc"));
        }
        for (name, value) in values {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                answer.headers_mut().append(HeaderName::from_static(names[name]), value);
            }
        }
        for peer in PEERS {
            let verdict = Verdict::new(peer);
            let outcome = verdict.classify(Ok::<_, &Infallible>(&answer));
            let forbids = verdict.forbids_retry(Ok::<_, &Infallible>(&answer));
            // Random bytes are not `never`, the value of `steadfast-retry`. So only a gRPC pushback forbids a retry.
            prop_assert!(!forbids || answer.headers().contains_key("grpc-retry-pushback-ms"));
            let is_unprocessed = matches!(outcome, Outcome::Unprocessed { .. });
            prop_assert!(!is_unprocessed && outcome != Outcome::Ignored);
            if !is_grpc && answer.headers().get("content-type").is_none() {
                prop_assert_eq!(outcome == Outcome::Success, status < 400);
            }
        }
    }
}
