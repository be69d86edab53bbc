use super::{super::grpc, retry_advice::RETRY, *};
use http::{HeaderValue, header::CONTENT_TYPE};
use proptest::{collection::vec, prelude::*};

fn fields(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

fn overloaded(millis: Option<u64>) -> Outcome {
    Outcome::Overloaded { retry_after: millis.map(Duration::from_millis) }
}

#[test]
fn the_trailers_decide_the_outcome_of_a_grpc_call() {
    let verdict = Verdict::new(Peer::Internal);
    for (trailers, expected) in [
        (&[("grpc-status", "0")][..], (Outcome::Success, false)),
        (&[("grpc-status", "0"), ("grpc-retry-pushback-ms", "-1")], (Outcome::Success, false)),
        (&[("grpc-status", "0"), ("steadfast-retry", "never")], (Outcome::Success, true)),
        (&[("grpc-status", "14")], (Outcome::Failure, false)),
        (&[("grpc-status", "14"), ("grpc-retry-pushback-ms", "250")], (overloaded(Some(250)), false)),
        (&[("grpc-status", "14"), ("grpc-retry-pushback-ms", "-1")], (overloaded(None), true)),
        (&[("grpc-status", "5")], (Outcome::Permanent, false)),
        (&[("grpc-status", "8"), ("steadfast-retry", "never")], (overloaded(None), true)),
        (&[("grpc-status", "8"), ("retry-after", "3")], (overloaded(Some(3000)), false)),
        (
            &[("grpc-status", "14"), ("steadfast-retry", "unprocessed")],
            (Outcome::Unprocessed { retry_after: None }, false),
        ),
        (&[("grpc-status", "none")], (Outcome::Failure, false)),
        (&[("x-checksum", "1")], (Outcome::Failure, false)),
    ] {
        assert_eq!(verdict.of_trailers(Some(&fields(trailers))), expected, "{trailers:?}");
    }
    assert_eq!(verdict.of_trailers(None), (Outcome::Failure, false));
}

#[test]
fn the_steadfast_retry_of_an_external_peer_is_ignored() {
    let trailers = fields(&[("grpc-status", "14"), ("steadfast-retry", "unprocessed")]);
    assert_eq!(Verdict::new(Peer::External).of_trailers(Some(&trailers)), (Outcome::Failure, false));
    let trailers = fields(&[("grpc-status", "14"), ("steadfast-retry", "never")]);
    assert_eq!(Verdict::new(Peer::External).of_trailers(Some(&trailers)), (Outcome::Failure, false));
}

#[test]
fn only_a_grpc_response_with_http_200_and_no_grpc_status_awaits_its_trailers() {
    for (status, content_type, code, expected) in [
        (200, "application/grpc", None, true),
        (200, "application/grpc+proto", None, true),
        (200, "application/grpc", Some("0"), false),
        (200, "application/grpc", Some("14"), false),
        (200, "application/grpc", Some(""), false),
        (204, "application/grpc", None, false),
        (503, "application/grpc", None, false),
        (200, "application/json", None, false),
    ] {
        let mut answer = Response::builder().status(status).header(CONTENT_TYPE, content_type).body(()).unwrap();
        if let Some(code) = code {
            answer.headers_mut().insert(grpc::STATUS, HeaderValue::from_static(code));
        }
        assert_eq!(awaits_trailers(&answer), expected, "{answer:?}");
    }
}

proptest! {
    #[test]
    fn any_trailers_are_a_success_exactly_if_their_code_is_0(
        values in vec((0..6_usize, vec(any::<u8>(), 0..12)), 0..8),
        peer in prop_oneof![Just(Peer::Internal), Just(Peer::External)],
    ) {
        let names = [grpc::STATUS, grpc::PUSHBACK, RETRY, REJECTED, ENVOY_OVERLOADED, http::header::RETRY_AFTER];
        let mut trailers = HeaderMap::new();
        for (name, value) in values {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                trailers.append(&names[name], value);
            }
        }
        let (outcome, _) = Verdict::new(peer).of_trailers(Some(&trailers));
        prop_assert_eq!(outcome == Outcome::Success, GrpcCode::peek(&trailers) == Some(GrpcCode::OK));
    }
}
