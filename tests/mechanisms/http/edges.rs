//! Where bodies, deadlines and marks meet.

use super::whole_body::{Step, answer, service};
use crate::support::secs;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use std::{
    convert::Infallible,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};
use steadfast::{
    circuit_breaker::{Breaker, BreakerState as State},
    http::{NoBodyDeadline, Peer},
    load_shed::Limiter,
    retry::{Backoff, Retry},
};
use tower::{ServiceExt, service_fn};

#[tokio::test(start_paused = true)]
async fn an_external_service_cannot_make_internal_callers_repeat_a_request() {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let upstream = service_fn(async |_: Request<String>| {
        CALLS.fetch_add(1, Relaxed);
        let answer = Response::builder().status(500).header("steadfast-retry", "unprocessed");
        Ok::<_, Infallible>(answer.body(String::new()).unwrap())
    });
    let upstream = steadfast::client().http(Peer::External).respond_http(Peer::External).service(upstream).unwrap();
    // A proxy, which passes on what it gets.
    let proxy = steadfast::server().http(Peer::Internal).service(upstream).unwrap();
    let client = steadfast::client()
        .retry(steadfast::http::retry(3).without_budget())
        .http(Peer::Internal)
        .service(proxy)
        .unwrap();
    let answer = client.oneshot(Request::post("/orders").body(String::new()).unwrap()).await.unwrap();
    assert_eq!((answer.status(), CALLS.load(Relaxed)), (StatusCode::INTERNAL_SERVER_ERROR, 1));
}

#[tokio::test(start_paused = true)]
async fn a_nested_server_still_says_to_an_external_peer_what_was_not_processed() {
    let places = Limiter::fixed(1).unwrap();
    let inner = steadfast::server()
        .load_shed(places.clone())
        .http(Peer::External)
        .service(service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))))
        .unwrap();
    let outer = steadfast::server().http(Peer::External).service(inner).unwrap();
    let _taken = places.try_acquire().unwrap();
    let answer = outer.oneshot(Request::new(())).await.unwrap();
    assert_eq!(answer.headers()["steadfast-retry"], "unprocessed");
}

#[tokio::test(start_paused = true)]
async fn a_late_attempt_whose_body_has_too_little_time_proves_nothing() {
    let breaker = Breaker::builder().consecutive_failures(2).build().unwrap();
    let mut busy = answer([]);
    *busy.status_mut() = StatusCode::BAD_GATEWAY;
    let client = steadfast::client()
        .timeout(secs(10))
        .retry(Retry::new(2).without_budget().backoff(Backoff::fixed(secs(9))))
        .circuit_breaker(breaker.clone())
        .http(Peer::External)
        .whole_body()
        .service(service([busy, answer([Step::Hang])]))
        .unwrap();
    let body = client.oneshot(Request::new(())).await.unwrap().into_body();
    assert!(body.collect().await.is_err());
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_body_without_a_deadline_has_none_in_any_stack_around_it() {
    let mut events = answer([Step::Wait(secs(60)), Step::Data("late")]);
    events.extensions_mut().insert(NoBodyDeadline);
    let inner = steadfast::server().timeout(secs(1)).http(Peer::Internal).whole_body();
    let outer = steadfast::server().timeout(secs(2)).http(Peer::External).whole_body();
    let service = outer.service(inner.service(service([events])).unwrap()).unwrap();
    let body = service.oneshot(Request::new(())).await.unwrap().into_body();
    assert_eq!(body.collect().await.unwrap().to_bytes(), "late");
}
