//! The readers of headers on anything: the verdict on an answer, and the stamp on a request that has headers already.
//!
//! The first two bytes are the status and the time left. Each line after them is a field: its first byte chooses the
//! name, the rest is the value.
//!
//! `cargo +nightly fuzz run --fuzz-dir tests/fuzz headers`

#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE};
use libfuzzer_sys::fuzz_target;
use std::{convert::Infallible, time::Duration};
use steadfast::{
    CallContext, Criticality, Outcome,
    classify::Classify,
    http::{Peer, Verdict, Wire, ignored_headers},
    shell::{Frame, Stamp},
};

const NAMES: [&str; 15] = [
    "content-type",
    "date",
    "grpc-previous-rpc-attempts",
    "grpc-retry-pushback-ms",
    "grpc-status",
    "grpc-timeout",
    "retry-after",
    "steadfast-attempt",
    "steadfast-criticality",
    "steadfast-deadline-ms",
    "steadfast-rejected",
    "steadfast-retry",
    "x-envoy-attempt-count",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-overloaded",
];

const OURS: [&str; 5] = [
    "steadfast-attempt",
    "steadfast-criticality",
    "steadfast-deadline-ms",
    "x-envoy-attempt-count",
    "x-envoy-expected-rq-timeout-ms",
];

fn fields(lines: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines.split(|byte| *byte == b'\n') {
        let Some((name, value)) = line.split_first() else { continue };
        let name = match name {
            // A content type of gRPC is hard to hit.
            b'g' => {
                headers.append(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
                continue;
            }
            name => HeaderName::from_static(NAMES[usize::from(*name) % NAMES.len()]),
        };
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(name, value);
        }
    }
    headers
}

/// An answer is judged alike by all, but for what only internal peers may say.
fn judge(status: StatusCode, headers: &HeaderMap) {
    let mut answer = Response::new(());
    *answer.status_mut() = status;
    *answer.headers_mut() = headers.clone();
    let answer = Ok::<_, &Infallible>(&answer);
    let [internal, external] = [Peer::Internal, Peer::External].map(Verdict::new);
    let outcome = external.classify(answer);
    assert!(!matches!(outcome, Outcome::Unprocessed { .. } | Outcome::Ignored));
    assert!(internal.forbids_retry(answer) || !external.forbids_retry(answer));
    if !headers.contains_key("steadfast-retry") {
        assert_eq!(internal.classify(answer), outcome);
        assert_eq!(internal.forbids_retry(answer), external.forbids_retry(answer));
    }
    if !headers.contains_key(CONTENT_TYPE) {
        assert_eq!(outcome == Outcome::Success, status.as_u16() < 400);
    }
}

fn digits(headers: &HeaderMap, name: &str) -> Option<u64> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    assert!(values.next().is_none(), "{name} was sent twice");
    Some(value.to_str().expect("text").parse().expect("a number"))
}

/// A stamped request says what the context says, whatever it had.
fn stamp(left: u8, headers: &HeaderMap) {
    let mut frame = Frame::default();
    let context = CallContext::new().with_attempt(3).with_criticality(Criticality::Sheddable);
    let deadline = frame.now() + Duration::from_millis(1 << (left % 40));
    let context = context.with_deadline(deadline);
    for peer in [Peer::Internal, Peer::External] {
        let mut request = Request::new(());
        *request.headers_mut() = headers.clone();
        context.sync_scope(|| Wire::new(peer).stamp(&mut request, &mut frame));
        let sent = request.headers();
        match peer {
            Peer::Internal => {
                assert_eq!(digits(sent, "steadfast-attempt"), Some(3));
                assert_eq!(sent["steadfast-criticality"], "sheddable");
                assert!(digits(sent, "steadfast-deadline-ms").is_some_and(|millis| millis <= 1 << (left % 40)));
            }
            Peer::External => assert!(OURS.iter().all(|name| !sent.contains_key(*name))),
        }
        // A second stamp finds nothing to do.
        let mut again = request.clone();
        context.sync_scope(|| Wire::new(peer).stamp(&mut again, &mut frame));
        assert_eq!(again.headers(), sent);
    }
}

fuzz_target!(|data: &[u8]| {
    let [status, left, lines @ ..] = data else { return };
    let Ok(status) = StatusCode::from_u16(100 + u16::from(*status) * 2) else { return };
    let headers = fields(lines);
    let before = ignored_headers();
    judge(status, &headers);
    stamp(*left, &headers);
    assert!(ignored_headers().retry_after >= before.retry_after);
});
