//! Rejections as responses, and the context that a server reads from requests.

use crate::support::{ms, secs};
use http::{HeaderValue, Method, Request, Response, StatusCode, header::HeaderName};
use http_body_util::BodyExt;
use serde_json::Value;
use std::{convert::Infallible, net::IpAddr, time::Duration};
use steadfast::{
    CallContext, Rejection,
    circuit_breaker::Breaker,
    error::{CircuitOpen, Overloaded, QueueFull, QueueFullCause, RateLimited, SwitchedOff, TimedOut, WaitedTooLong},
    http::{ByKey, Http, HttpBody, Peer},
    load_shed::Limiter,
    rate_limit::{Keyed, Quota, RateLimit, SlidingWindow, TokenBucket},
    shell::{DescribeGate, Ending, Explanation, Frame, Gate},
    stack::gate,
};
use tokio::time::{Instant, sleep};
use tower::{ServiceExt, service_fn};

/// Refuses every call with this rejection.
#[derive(Clone)]
struct Refuse(Rejection);

impl<Request> Gate<Request> for Refuse {
    type Permit = ();

    fn admit(&self, _: &Request, _: &mut Frame) -> Result<(), Rejection> {
        Err(self.0.clone())
    }

    fn settle(&self, (): (), _: Ending, _: &mut Frame) {}
}

impl DescribeGate for Refuse {
    fn describe(&self, explanation: &mut Explanation) {
        explanation.layer("refuse", "everything");
    }
}

type Answered = Response<HttpBody<String>>;

async fn ask(peer: Peer, rejection: Rejection, request: Request<()>) -> Answered {
    let server = steadfast::server()
        .own_load_shed(gate(Refuse(rejection)))
        .http(peer)
        .service(service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(String::new()))))
        .unwrap();
    server.oneshot(request).await.unwrap()
}

fn with(name: &'static str, value: &'static str) -> Request<()> {
    Request::builder().header(name, value).body(()).unwrap()
}

fn grpc() -> Request<()> {
    Request::post("/package.Service/Method").header("content-type", "application/grpc").body(()).unwrap()
}

fn header<'a, B>(response: &'a Response<B>, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|value| value.to_str().unwrap())
}

/// Each rejection with its HTTP status, its gRPC code, and its hint in seconds and milliseconds.
fn table() -> Vec<(Rejection, u16, &'static str, Option<(&'static str, &'static str)>)> {
    let hint = Some(ms(1500));
    let written = Some(("2", "1500"));
    vec![
        (TimedOut::new(Some(secs(1)), false).into(), 504, "4", None),
        (TimedOut::new(None, true).into(), 504, "4", None),
        (RateLimited::new(hint).into(), 429, "8", written),
        (Overloaded::new(1, hint).into(), 503, "8", written),
        (QueueFull::new(QueueFullCause::Depth, 1, hint).into(), 503, "8", written),
        (WaitedTooLong::new(secs(1), hint).into(), 503, "8", written),
        (CircuitOpen::new(hint).into(), 503, "14", written),
        (CircuitOpen::new(None).into(), 503, "14", None),
        (SwitchedOff::new().into(), 503, "14", None),
    ]
}

#[tokio::test(start_paused = true)]
async fn each_rejection_sets_status_hint_and_retry_header() {
    for (rejection, status, _, hint) in table() {
        let answer = ask(Peer::Internal, rejection.clone(), Request::new(())).await;
        assert_eq!(answer.status().as_u16(), status, "{rejection}");
        assert_eq!(header(&answer, "retry-after"), hint.map(|(seconds, _)| seconds), "{rejection}");
        assert_eq!(header(&answer, "steadfast-rejected"), Some(rejection.mechanism()));
        let unprocessed = (!rejection.reached_service()).then_some("unprocessed");
        assert_eq!(header(&answer, "steadfast-retry"), unprocessed, "{rejection}");
        assert_eq!(header(&answer, "content-type"), Some("application/problem+json"));
        let length = answer.headers()["content-length"].clone();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(length, body.len().to_string().as_str());
        let problem: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], "about:blank");
        assert_eq!(problem["title"], StatusCode::from_u16(status).unwrap().canonical_reason().unwrap());
        assert_eq!(problem["detail"], rejection.to_string());
    }
}

#[tokio::test(start_paused = true)]
async fn each_rejection_sets_the_grpc_status_and_pushback() {
    for (rejection, _, code, hint) in table() {
        let answer = ask(Peer::Internal, rejection.clone(), grpc()).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(header(&answer, "content-type"), Some("application/grpc"));
        assert_eq!(header(&answer, "grpc-status"), Some(code), "{rejection}");
        assert_eq!(header(&answer, "grpc-message"), Some(rejection.to_string().as_str()));
        let ended_the_work = matches!(rejection, Rejection::TimedOut(_)) && rejection.reached_service();
        let pushback = (!ended_the_work).then_some(hint.map_or("-1", |(_, millis)| millis));
        assert_eq!(header(&answer, "grpc-retry-pushback-ms"), pushback);
        assert_eq!(header(&answer, "retry-after"), None);
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "");
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_to_an_external_peer_reveals_no_limit() {
    let rejection = Rejection::from(Overloaded::new(1234, None));
    for request in [Request::new(()), grpc(), with("accept", "text/plain")] {
        let answer = ask(Peer::External, rejection.clone(), request).await;
        let head = format!("{:?}", answer.headers());
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        assert!(!head.contains("1234") && !body.contains("1234"), "{head} {body}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_body_is_a_problem_unless_the_caller_excludes_it() {
    let json = "application/problem+json";
    let text = "text/plain; charset=utf-8";
    for (accept, kind) in [
        ("*/*", json),
        ("application/json", json),
        ("text/html, APPLICATION/*;q=0.1", json),
        ("application/problem+json; q=0.5", json),
        ("text/html", text),
        ("text/html, application/json;q=0", text),
        ("text/plain, */*; q=0.0", text),
        ("nonsense", text),
        ("", text),
    ] {
        let answer = ask(Peer::Internal, SwitchedOff::new().into(), with("accept", accept)).await;
        assert_eq!(header(&answer, "content-type"), Some(kind), "{accept:?}");
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body.starts_with(b"{"), kind == json);
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_to_a_head_request_has_headers_and_no_body() {
    let request = Request::builder().method(Method::HEAD).body(()).unwrap();
    let answer = ask(Peer::Internal, SwitchedOff::new().into(), request).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_ne!(header(&answer, "content-length"), Some("0"));
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "");
}

#[tokio::test(start_paused = true)]
async fn a_change_function_sees_the_request_and_changes_the_response() {
    let border = Http::new(Peer::Internal).change_with(
        |request: &Request<()>| request.uri().path().to_owned(),
        |rejection, path, answer| {
            assert!(matches!(rejection, Rejection::SwitchedOff(_)));
            answer.status = StatusCode::IM_A_TEAPOT;
            answer.grpc_status = 9;
            answer.detail = format!("not at {path}").into();
            answer.problem_type = "https://example.com/off".into();
            answer.members.insert("path".to_owned(), path.into());
            answer.headers.insert("retry-after", HeaderValue::from_static("7"));
            answer.headers.append("x-twice", HeaderValue::from_static("1"));
            answer.headers.append("x-twice", HeaderValue::from_static("2"));
        },
    );
    let server = steadfast::server()
        .own_load_shed(gate(Refuse(SwitchedOff::new().into())))
        .http(border)
        .service(service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(String::new()))))
        .unwrap();
    let answer = server.clone().oneshot(Request::get("/tea").body(()).unwrap()).await.unwrap();
    assert_eq!((answer.status(), header(&answer, "retry-after")), (StatusCode::IM_A_TEAPOT, Some("7")));
    assert_eq!(answer.headers().get_all("x-twice").iter().count(), 2);
    let problem: Value = serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!((&problem["path"], &problem["detail"]), (&"/tea".into(), &"not at /tea".into()));
    assert_eq!((&problem["status"], &problem["type"]), (&418.into(), &"https://example.com/off".into()));

    let answer = server.oneshot(grpc()).await.unwrap();
    assert_eq!(header(&answer, "grpc-status"), Some("9"));
    assert_eq!(header(&answer, "grpc-message"), Some("not at /package.Service/Method"));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_forbids_a_retry_answers_never() {
    for (forbids, mark) in [(true, Some("never")), (false, None)] {
        let handler = service_fn(move |_: Request<()>| async move {
            if forbids {
                CallContext::forbid_retry();
            }
            Ok::<_, Infallible>(Response::new(String::new()))
        });
        let server = steadfast::server().http(Peer::Internal).service(handler).unwrap();
        assert_eq!(header(&server.oneshot(Request::new(())).await.unwrap(), "steadfast-retry"), mark);
    }
}

/// Returns the context that a handler sees.
async fn context_of(peer: Peer, request: Request<()>) -> CallContext {
    let handler = service_fn(async |_: Request<()>| {
        let mut response = Response::new(String::new());
        response.extensions_mut().insert(CallContext::current());
        Ok::<_, Infallible>(response)
    });
    let server = steadfast::server().http(peer).service(handler).unwrap();
    *server.oneshot(request).await.unwrap().extensions().get().unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_handler_sees_the_callers_deadline_attempt_and_criticality() {
    let request = Request::builder()
        .header("steadfast-deadline-ms", "250")
        .header("steadfast-attempt", "2")
        .header("steadfast-criticality", "critical-plus");
    let context = context_of(Peer::Internal, request.body(()).unwrap()).await;
    assert_eq!(context.deadline(), Some(Instant::now() + ms(250)));
    assert_eq!((context.attempt(), context.criticality()), (2, steadfast::Criticality::CriticalPlus));
}

#[tokio::test(start_paused = true)]
async fn an_earlier_deadline_of_the_task_is_kept() {
    let until = Instant::now() + ms(100);
    let context = CallContext::new().with_deadline(until);
    let seen = context.scope(context_of(Peer::External, with("steadfast-deadline-ms", "5000"))).await;
    assert_eq!(seen.deadline(), Some(until));
}

#[tokio::test(start_paused = true)]
async fn a_call_without_time_left_is_refused_before_it_takes_a_token() {
    let bucket = TokenBucket::builder(1, secs(60)).build().unwrap();
    let handler = service_fn(async |_: Request<()>| {
        sleep(ms(20)).await;
        Ok::<_, Infallible>(Response::new(String::new()))
    });
    let server =
        steadfast::server().rate_limit(bucket.clone()).timeout(secs(10)).http(Peer::External).service(handler).unwrap();
    let start = Instant::now();
    for value in ["0", "0000000000"] {
        let answer = server.clone().oneshot(with("steadfast-deadline-ms", value)).await.unwrap();
        assert_eq!((answer.status(), Instant::now() - start), (StatusCode::GATEWAY_TIMEOUT, Duration::ZERO));
        assert_eq!(header(&answer, "steadfast-retry"), Some("unprocessed"));
        assert_eq!(bucket.available_at(Instant::now()), 1);
    }
    let answer = server.clone().oneshot(with("steadfast-deadline-ms", "30")).await.unwrap();
    assert_eq!((answer.status(), Instant::now() - start), (StatusCode::OK, ms(20)));
    sleep(secs(60)).await;
    let start = Instant::now();
    let answer = server.oneshot(with("steadfast-deadline-ms", "10")).await.unwrap();
    assert_eq!((answer.status(), Instant::now() - start), (StatusCode::GATEWAY_TIMEOUT, ms(10)));
}

/// The parameters of the only item of a field, as numbers.
fn parameters(answer: &Answered, field: &str) -> Vec<(String, i64)> {
    let value = header(answer, field).unwrap();
    let list: sfv::List = sfv::Parser::new(value).parse().unwrap();
    let [sfv::ListEntry::Item(item)] = list.as_slice() else { panic!("{value}") };
    assert_eq!(item.bare_item.as_string().unwrap().as_str(), "calls");
    let number = |value: &sfv::BareItem| i64::from(value.as_integer().unwrap());
    item.params.iter().map(|(name, value)| (name.as_str().to_owned(), number(value))).collect()
}

fn named(parameters: &[(&str, i64)]) -> Vec<(String, i64)> {
    parameters.iter().map(|&(name, value)| (name.to_owned(), value)).collect()
}

#[tokio::test(start_paused = true)]
async fn every_response_reports_the_remaining_quota_if_configured() {
    let bucket = TokenBucket::builder(2, secs(5)).build().unwrap();
    let border = Http::new(Peer::External).rate_limit_fields("calls", bucket.clone()).unwrap();
    let server = steadfast::server()
        .rate_limit(bucket)
        .http(border)
        .service(service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(String::new()))))
        .unwrap();
    let mut answers = Vec::new();
    for _ in 0..3 {
        answers.push(server.clone().oneshot(Request::new(())).await.unwrap());
    }
    // The bucket gains a token in 2.5 s, which the field `t` rounds up.
    for (answer, standing) in answers.iter().zip([[("r", 1), ("t", 3)], [("r", 0), ("t", 3)], [("r", 0), ("t", 3)]]) {
        assert_eq!(parameters(answer, "ratelimit-policy"), named(&[("q", 2), ("w", 5)]));
        assert_eq!(parameters(answer, "ratelimit"), named(&standing));
    }
    assert_eq!((answers[2].status(), header(&answers[2], "retry-after")), (StatusCode::TOO_MANY_REQUESTS, Some("3")));
}

#[tokio::test(start_paused = true)]
async fn the_rate_limit_fields_work_per_key_and_for_any_limit() {
    let caller = |request: &Request<()>| *request.extensions().get::<IpAddr>().unwrap();
    let keyed = Keyed::<IpAddr>::builder(10, Quota::new(3, secs(3))).build().unwrap();
    let border = Http::new(Peer::External).rate_limit_fields("calls", ByKey(keyed.clone(), caller)).unwrap();
    let handler = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(String::new())));
    let server =
        steadfast::server().rate_limit(RateLimit::by_key(keyed, caller)).http(border).service(handler).unwrap();
    for (caller, left) in [(1, 2), (1, 1), (2, 2)] {
        let mut request = Request::new(());
        request.extensions_mut().insert(IpAddr::from([10, 0, 0, caller]));
        let answer = server.clone().oneshot(request).await.unwrap();
        assert_eq!(parameters(&answer, "ratelimit"), named(&[("r", left), ("t", 3 - left)]));
    }

    let window = SlidingWindow::builder(2, secs(60)).build().unwrap();
    let border = Http::new(Peer::External).rate_limit_fields("calls", window).unwrap();
    let server = steadfast::server().http(border).service(handler).unwrap();
    let answer = server.oneshot(Request::new(())).await.unwrap();
    assert_eq!(parameters(&answer, "ratelimit"), named(&[("r", 2), ("t", 60)]));
}

#[test]
fn an_invalid_policy_name_is_refused() {
    let bucket = TokenBucket::builder(1, secs(1)).build().unwrap();
    for name in ["", "a\"b", "a\\b", "ä", "\n"] {
        let error = Http::new(Peer::External).rate_limit_fields(name, bucket.clone()).map(drop).unwrap_err();
        assert_eq!(error.field(), "http.rate_limit_fields.name");
    }
}

#[tokio::test(start_paused = true)]
async fn exempt_requests_pass_every_gate_of_a_server_and_of_a_client() {
    let (places, bucket) = (Limiter::fixed(1).unwrap(), TokenBucket::builder(1, secs(60)).build().unwrap());
    let breaker = Breaker::builder().build().unwrap();
    breaker.force_open();
    bucket.try_acquire(1).unwrap();
    let _taken = places.try_acquire().unwrap();
    let health = |request: &Request<()>| request.uri().path() == "/health";
    let handler = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(String::new())));
    let server = steadfast::server()
        .rate_limit(bucket.clone())
        .load_shed(places.clone())
        .exempt(health)
        .http(Peer::External)
        .service(handler)
        .unwrap();
    let client = steadfast::client()
        .circuit_breaker(breaker)
        .rate_limit(bucket)
        .load_shed(places.clone())
        .exempt(health)
        .respond_http(Peer::Internal)
        .service(handler)
        .unwrap();
    for (path, status) in [("/health", StatusCode::OK), ("/order", StatusCode::TOO_MANY_REQUESTS)] {
        let answer = server.clone().oneshot(Request::get(path).body(()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), status);
    }
    for (path, status) in [("/health", StatusCode::OK), ("/order", StatusCode::SERVICE_UNAVAILABLE)] {
        let answer = client.clone().oneshot(Request::get(path).body(()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), status);
    }
    assert_eq!(places.in_flight(), 1);
}

#[tokio::test(start_paused = true)]
async fn requests_with_many_and_malformed_headers_are_served() {
    let mut request = Request::new(());
    for n in 0..200 {
        let name = HeaderName::from_bytes(format!("x-{n}").as_bytes()).unwrap();
        request.headers_mut().append(name, HeaderValue::from_bytes(&[n, 0xff]).unwrap_or(HeaderValue::from_static("")));
    }
    for name in ["grpc-timeout", "steadfast-deadline-ms", "content-type", "accept", "steadfast-attempt"] {
        request.headers_mut().append(name, HeaderValue::from_bytes(&[0xff; 40]).unwrap());
    }
    assert_eq!(ask(Peer::Internal, SwitchedOff::new().into(), request).await.status().as_u16(), 503);
}
