//! Where bodies, deadlines and marks meet.

use super::whole_body::{Step, answer, grpc, service, touchy, trailers};
use crate::support::{ms, secs};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, StreamBody};
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};
use steadfast::{
    CallContext,
    circuit_breaker::{Breaker, BreakerState as State},
    http::{NoBodyDeadline, Peer},
    load_shed::Limiter,
    retry::{Backoff, Retry},
};
use tokio::time::sleep;
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

#[tokio::test(start_paused = true)]
async fn a_body_that_always_has_a_frame_ends_at_its_deadline_too() {
    for is_grpc in [false, true] {
        let endless = service_fn(move |_: Request<()>| {
            let frames = futures::stream::repeat_with(|| Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"more"))));
            let mut answer = Response::new(StreamBody::new(frames));
            if is_grpc {
                answer.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
            }
            std::future::ready(Ok::<_, Infallible>(answer))
        });
        let places = Limiter::fixed(1).unwrap();
        let server = steadfast::server()
            .load_shed(places.clone())
            .timeout(secs(1))
            .http(Peer::External)
            .whole_body()
            .service(endless)
            .unwrap();
        let mut body = server.oneshot(Request::new(())).await.unwrap().into_body();
        for _ in 0..9 {
            assert!(body.frame().await.unwrap().unwrap().is_data());
            sleep(ms(100)).await;
        }
        sleep(ms(100)).await;
        let last = body.frame().await.unwrap();
        assert!(last.is_ok_and(|frame| is_grpc && frame.is_trailers()) || !is_grpc);
        assert!(body.frame().await.is_none());
        assert_eq!(places.in_flight(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_complete_is_not_thrown_away_at_its_deadline() {
    let server = steadfast::server()
        .timeout(secs(1))
        .http(Peer::External)
        .whole_body()
        .service(service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("all"))))))
        .unwrap();
    let body = server.oneshot(Request::new(())).await.unwrap().into_body();
    sleep(secs(5)).await;
    assert_eq!(body.collect().await.unwrap().to_bytes(), "all");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_comes_after_the_deadline_proves_nothing_against_the_service() {
    for steps in [vec![Step::Hang], vec![Step::Data("a"), Step::Data("b")]] {
        let breaker = touchy();
        let client = steadfast::client()
            .circuit_breaker(breaker.clone())
            .attempt_timeout(secs(1))
            .http(Peer::External)
            .whole_body()
            .service(service([answer(steps)]))
            .unwrap();
        let body = client.oneshot(Request::new(())).await.unwrap().into_body();
        sleep(secs(5)).await;
        assert!(body.collect().await.is_err());
        assert_eq!(breaker.state(), State::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn trailers_that_give_up_at_the_callers_deadline_prove_nothing() {
    for (deadline, state) in [(ms(400), State::Closed), (ms(600), State::Open)] {
        let breaker = touchy();
        let client = steadfast::client()
            .circuit_breaker(breaker.clone())
            .attempt_timeout(secs(1))
            .http(Peer::External)
            .whole_body()
            .service(service([grpc([Step::Wait(deadline), trailers("4")])]))
            .unwrap();
        let context = CallContext::new().with_deadline(tokio::time::Instant::now() + deadline);
        let answer = context.scope(client.oneshot(Request::new(()))).await.unwrap();
        answer.into_body().collect().await.unwrap();
        assert_eq!(breaker.state(), state);
    }
}

#[tokio::test(start_paused = true)]
async fn a_grpc_body_that_says_it_is_over_and_had_no_status_is_a_failure() {
    let breaker = touchy();
    let client = steadfast::client()
        .circuit_breaker(breaker.clone())
        .http(Peer::External)
        .whole_body()
        .service(service_fn(async |_: Request<()>| {
            let answer = Response::builder().header("content-type", "application/grpc");
            Ok::<_, Infallible>(answer.body(Full::new(Bytes::from("message"))).unwrap())
        }))
        .unwrap();
    let mut body = client.oneshot(Request::new(())).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    assert!(body.is_end_stream());
    drop(body);
    assert_eq!(breaker.state(), State::Open);
}

/// A closure whose clones can be made to panic.
struct Fragile(Arc<AtomicU32>);

impl Clone for Fragile {
    fn clone(&self) -> Self {
        assert_eq!(self.0.load(Relaxed), 0, "as it should");
        Self(self.0.clone())
    }
}

#[tokio::test(start_paused = true)]
async fn a_closure_that_cannot_be_cloned_costs_no_place() {
    let (places, armed) = (Limiter::fixed(1).unwrap(), Arc::new(AtomicU32::new(0)));
    let fragile = Fragile(armed.clone());
    let server = steadfast::server()
        .load_shed(places.clone())
        .exempt(move |_: &Request<()>| {
            let whole: &Fragile = &fragile;
            whole.0.load(Relaxed) > 1
        })
        .http(Peer::Internal)
        .whole_body()
        .service(service([answer([])]))
        .unwrap();
    armed.store(1, Relaxed);
    let call = tokio::spawn(server.oneshot(Request::new(())));
    drop(call.await);
    assert_eq!(places.in_flight(), 0);
}
