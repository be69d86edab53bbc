//! Combinations of bodies, deadlines and `steadfast-retry`.

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
    // A proxy that passes responses on.
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
async fn an_outer_server_keeps_unprocessed_in_responses_to_external_peers() {
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
async fn a_body_cut_short_by_the_total_timeout_is_no_evidence() {
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
async fn a_body_exempt_from_deadlines_is_exempt_in_every_outer_stack() {
    let mut events = answer([Step::Wait(secs(60)), Step::Data("late")]);
    events.extensions_mut().insert(NoBodyDeadline);
    let inner = steadfast::server().timeout(secs(1)).http(Peer::Internal).whole_body();
    let outer = steadfast::server().timeout(secs(2)).http(Peer::External).whole_body();
    let service = outer.service(inner.service(service([events])).unwrap()).unwrap();
    let body = service.oneshot(Request::new(())).await.unwrap().into_body();
    assert_eq!(body.collect().await.unwrap().to_bytes(), "late");
}

#[tokio::test(start_paused = true)]
async fn an_endless_body_ends_at_its_deadline() {
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
async fn a_complete_body_can_be_read_after_its_deadline() {
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
async fn a_reader_that_comes_after_the_deadline_is_no_evidence() {
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
async fn failed_trailers_at_the_callers_deadline_are_no_evidence() {
    for (deadline, state) in [(ms(400), State::Closed), (ms(600), State::Open)] {
        for ends_body in [true, false] {
            let breaker = touchy();
            let client =
                steadfast::client().circuit_breaker(breaker.clone()).attempt_timeout(secs(1)).http(Peer::External);
            let service = service([grpc([Step::Wait(deadline), trailers("4")])]);
            let client = if ends_body { client.whole_body() } else { client.whole_body_without_deadline() };
            let context = CallContext::new().with_deadline(tokio::time::Instant::now() + deadline);
            let answer = context.scope(client.service(service).unwrap().oneshot(Request::new(()))).await.unwrap();
            answer.into_body().collect().await.unwrap();
            assert_eq!(breaker.state(), state);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_grpc_body_that_ends_without_a_status_is_a_failure() {
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

/// A value that a closure captures. Cloning it panics while its number is not zero.
struct Fragile(Arc<AtomicU32>);

impl Clone for Fragile {
    fn clone(&self) -> Self {
        assert_eq!(self.0.load(Relaxed), 0, "this clone panics");
        Self(self.0.clone())
    }
}

#[tokio::test(start_paused = true)]
async fn a_closure_that_panics_on_clone_leaks_no_permit() {
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

#[tokio::test(start_paused = true)]
async fn a_live_server_holds_permits_until_the_end_of_bodies_and_admits_exempt_requests() {
    let places = Limiter::fixed(1).unwrap();
    let (layer, _control) = steadfast::server()
        .load_shed(places.clone())
        .timeout(secs(1))
        .exempt(|request: &Request<()>| request.uri() == "/health")
        .http(Peer::Internal)
        .whole_body()
        .live()
        .unwrap();
    let server = tower::Layer::layer(&layer, service([answer([Step::Hang]), answer([Step::Data("well")])]));
    let first = server.clone().oneshot(Request::new(())).await.unwrap();
    assert_eq!(places.in_flight(), 1);
    let refused = server.clone().oneshot(Request::new(())).await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    let health = server.clone().oneshot(Request::get("/health").body(()).unwrap()).await.unwrap();
    assert_eq!(health.into_body().collect().await.unwrap().to_bytes(), "well");
    assert!(first.into_body().collect().await.is_err());
    assert_eq!(places.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_live_client_holds_permits_until_the_end_of_bodies() {
    let (places, breaker) = (Limiter::fixed(1).unwrap(), touchy());
    let (layer, _control) = steadfast::client()
        .timeout(secs(10))
        .retry(Retry::new(2).without_budget())
        .circuit_breaker(breaker.clone())
        .load_shed(places.clone())
        .attempt_timeout(secs(1))
        .http(Peer::Internal)
        .whole_body()
        .live()
        .unwrap();
    let client = tower::Layer::layer(&layer, service([answer([Step::Wait(ms(500)), Step::Fail])]));
    let first = client.oneshot(Request::new(())).await.unwrap();
    assert_eq!(places.in_flight(), 1);
    assert!(first.into_body().collect().await.is_err());
    assert_eq!((places.in_flight(), breaker.state()), (0, State::Open));
}

#[tokio::test(start_paused = true)]
async fn nested_stacks_each_hold_their_permit_until_the_end_of_the_body() {
    let (inner, outer) = (Limiter::fixed(1).unwrap(), Limiter::fixed(1).unwrap());
    let handler = service([answer([Step::Data("a"), Step::Data("b")])]);
    let client = steadfast::client().load_shed(inner.clone()).http(Peer::Internal);
    let client = client.respond_http(Peer::Internal).whole_body().service(handler).unwrap();
    let server = steadfast::server().load_shed(outer.clone()).http(Peer::External).whole_body();
    let mut body = server.service(client).unwrap().oneshot(Request::new(())).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    assert_eq!((inner.in_flight(), outer.in_flight()), (1, 1));
    drop(body);
    assert_eq!((inner.in_flight(), outer.in_flight()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_response_that_opens_the_breaker_is_returned_without_a_retry() {
    let mut failed = answer([Step::Data("sorry")]);
    *failed.status_mut() = StatusCode::BAD_GATEWAY;
    let client = steadfast::client()
        .retry(Retry::new(2).without_budget())
        .circuit_breaker(touchy())
        .http(Peer::External)
        .whole_body()
        .service(service([failed]))
        .unwrap();
    let start = tokio::time::Instant::now();
    let answer = client.oneshot(Request::new(())).await.unwrap();
    assert_eq!((answer.status(), tokio::time::Instant::now() - start), (StatusCode::BAD_GATEWAY, ms(0)));
}

#[tokio::test(start_paused = true)]
async fn an_unread_body_closes_the_breaker_and_a_body_that_kept_its_reader_waiting_does_not() {
    for (waits, state) in [(false, State::Closed), (true, State::HalfOpen)] {
        let breaker = Breaker::builder().consecutive_failures(1).open_for(secs(1)).probes(1).build().unwrap();
        let mut failed = answer([]);
        *failed.status_mut() = StatusCode::BAD_GATEWAY;
        let client = steadfast::client()
            .circuit_breaker(breaker.clone())
            .http(Peer::External)
            .whole_body()
            .service(service([failed, answer([Step::Data("a"), Step::Hang])]))
            .unwrap();
        client.clone().oneshot(Request::new(())).await.unwrap();
        assert_eq!(breaker.state(), State::Open);
        sleep(secs(2)).await;
        let mut body = client.oneshot(Request::new(())).await.unwrap().into_body();
        if waits {
            body.frame().await.unwrap().unwrap();
            assert!(tokio::time::timeout(secs(1), body.frame()).await.is_err());
        }
        drop(body);
        assert_eq!(breaker.state(), state);
    }
}

#[tokio::test(start_paused = true)]
async fn the_deadline_of_bodies_can_be_disabled_for_one_response_or_for_all() {
    let slow = || answer([Step::Wait(secs(60)), Step::Data("late")]);
    let mut marked = slow();
    marked.extensions_mut().insert(NoBodyDeadline);
    let server = steadfast::server().timeout(secs(1)).http(Peer::External);
    let both = service([marked, slow()]);
    let bounded = server.clone().whole_body().service(both).unwrap();
    let first = bounded.clone().oneshot(Request::new(())).await.unwrap();
    assert_eq!(first.into_body().collect().await.unwrap().to_bytes(), "late");
    assert!(bounded.oneshot(Request::new(())).await.unwrap().into_body().collect().await.is_err());

    let unbounded = server.whole_body_without_deadline().service(service([slow()])).unwrap();
    let answer = unbounded.oneshot(Request::new(())).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "late");
}

#[tokio::test(start_paused = true)]
async fn a_body_keeps_the_frames_and_size_of_the_service() {
    let server = steadfast::server()
        .load_shed(Limiter::fixed(1).unwrap())
        .http(Peer::External)
        .whole_body()
        .service(service_fn(async |_: Request<()>| {
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"12345"))))
        }))
        .unwrap();
    let body = server.oneshot(Request::new(())).await.unwrap().into_body();
    assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(5), false));
    assert_eq!(body.collect().await.unwrap().to_bytes(), "12345");
}
