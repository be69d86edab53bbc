//! Stacks combined with layers, routers and clients of other crates.

use crate::process::Server;
use crate::trial::trials;
use axum::{Router, body::Body, routing::get};
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, StatusCode, body::Bytes};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use std::{
    convert::Infallible,
    error::Error as _,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use steadfast::{Error, Rejection, circuit_breaker::Breaker, load_shed::Limiter, rate_limit::TokenBucket};
use tokio::sync::Notify;
use tonic::{Code, Status, transport::Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower::{
    BoxError, Service, ServiceBuilder, ServiceExt, balance::p2c::Balance, buffer::Buffer, discover::ServiceList,
    load::Constant, service_fn,
};

trials![
    the_routes_of_an_axum_router_share_one_rate_limit,
    the_routes_of_an_axum_router_share_one_concurrency_limit,
    a_rejection_does_not_poison_a_tower_buffer,
    a_rejection_does_not_evict_a_service_from_a_tower_balance,
    a_stack_wraps_the_client_of_hyper_util_directly,
    a_generated_client_over_a_stack_sees_the_status_of_a_rejection,
    a_generated_client_over_a_stack_with_typed_errors_keeps_the_rejection_as_source,
    a_generated_client_over_a_stack_finds_the_status_in_the_error_of_the_service,
    a_stack_keeps_the_error_type_of_a_boxed_service,
];

fn refuse(rejection: Rejection) -> Response<Body> {
    let status = match rejection {
        Rejection::RateLimited(_) => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

async fn status_of(router: &Router, path: &str) -> StatusCode {
    let request = Request::get(path).body(Body::empty()).unwrap();
    router.clone().oneshot(request).await.unwrap().status()
}

/// A breaker that rejects every call until it is reset.
fn open_breaker() -> Breaker {
    let breaker = Breaker::builder().build().unwrap();
    breaker.force_open();
    breaker
}

async fn the_routes_of_an_axum_router_share_one_rate_limit() {
    let hour = Duration::from_secs(3600);
    let bucket = TokenBucket::builder(2, hour).build().unwrap();
    let stack = steadfast::server().rate_limit(bucket).respond_with(refuse).layer().unwrap();
    let nested = Router::new().route("/c", get(async || "c"));
    let router = Router::new().route("/a", get(async || "a")).route("/b", get(async || "b")).nest("/nested", nested);
    let router = router.layer(stack);

    assert_eq!(status_of(&router, "/a").await, StatusCode::OK);
    assert_eq!(status_of(&router, "/b").await, StatusCode::OK);
    for path in ["/a", "/b", "/nested/c", "/no/such/route"] {
        assert_eq!(status_of(&router, path).await, StatusCode::TOO_MANY_REQUESTS, "{path}");
    }
}

async fn the_routes_of_an_axum_router_share_one_concurrency_limit() {
    let limiter = Limiter::fixed(1).unwrap();
    let stack = steadfast::server().load_shed(limiter.clone()).respond_with(refuse).layer().unwrap();
    let finish = Arc::new(Notify::new());
    let slow = {
        let finish = finish.clone();
        async move || finish.notified().await
    };
    let router = Router::new().route("/slow", get(slow)).route("/fast", get(async || ())).layer(stack);

    let call = {
        let router = router.clone();
        tokio::spawn(async move { status_of(&router, "/slow").await })
    };
    while limiter.in_flight() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(status_of(&router, "/fast").await, StatusCode::SERVICE_UNAVAILABLE);
    finish.notify_one();
    assert_eq!(call.await.unwrap(), StatusCode::OK);
    assert_eq!(status_of(&router, "/fast").await, StatusCode::OK);
    assert_eq!(limiter.in_flight(), 0);
}

async fn a_rejection_does_not_poison_a_tower_buffer() {
    let breaker = open_breaker();
    let service = ServiceBuilder::new()
        .layer(steadfast::client().circuit_breaker(breaker.clone()).layer().unwrap())
        .service(service_fn(async |number: u32| Ok::<_, Infallible>(number)));
    let buffer = Buffer::new(service, 8);

    let error = buffer.clone().oneshot(7).await.unwrap_err();
    let error = error.downcast_ref::<Error<Infallible>>().expect("the buffer passes errors on");
    assert!(matches!(error.rejection(), Some(Rejection::CircuitOpen(_))));
    breaker.reset();
    assert_eq!(buffer.oneshot(8).await.unwrap(), 8);
}

async fn a_rejection_does_not_evict_a_service_from_a_tower_balance() {
    let breaker = open_breaker();
    let stack = steadfast::client().circuit_breaker(breaker.clone()).layer().unwrap();
    let echo = service_fn(async |number: u32| Ok::<_, Infallible>(number));
    let services = [1, 2].map(|load| Constant::new(ServiceBuilder::new().layer(&stack).service(echo), load));
    let mut balance = Balance::new(ServiceList::new::<u32>(services));

    for _ in 0..20 {
        let error = balance.ready().await.unwrap().call(7).await.unwrap_err();
        assert!(error.is::<Error<Infallible>>(), "{error}");
    }
    assert_eq!(balance.len(), 2);
    breaker.reset();
    assert_eq!(balance.ready().await.unwrap().call(8).await.unwrap(), 8);
}

async fn a_stack_wraps_the_client_of_hyper_util_directly() {
    let server = Server::start("hyper_server");
    let http = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let api = steadfast::client().timeout(Duration::from_secs(30)).service(http).unwrap();
    let request = Request::get(format!("http://{}/", server.address())).body(Full::default()).unwrap();
    let response = api.oneshot(request).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "GET /\n");
}

/// A channel that is never used, because the stack around it rejects every call.
fn unused_channel() -> tonic::transport::Channel {
    Endpoint::from_static("http://127.0.0.1:1").connect_lazy()
}

async fn a_generated_client_over_a_stack_sees_the_status_of_a_rejection() {
    let stack = steadfast::client()
        .circuit_breaker(open_breaker())
        .respond_with(|rejection| Status::unavailable(rejection.to_string()).into_http())
        .service(unused_channel())
        .unwrap();
    let status = HealthClient::new(stack).check(HealthCheckRequest::default()).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "circuit breaker: open until its probes end or it is reset")
    );
}

async fn a_generated_client_over_a_stack_with_typed_errors_keeps_the_rejection_as_source() {
    let stack = steadfast::client().circuit_breaker(open_breaker()).service(unused_channel()).unwrap();
    let status = HealthClient::new(stack).check(HealthCheckRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unknown);
    let error = status.source().and_then(|source| source.downcast_ref::<Error<tonic::transport::Error>>());
    assert!(matches!(error.and_then(Error::rejection), Some(Rejection::CircuitOpen(_))));
}

async fn a_generated_client_over_a_stack_finds_the_status_in_the_error_of_the_service() {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let service = service_fn(move |_: Request<tonic::body::Body>| {
        counted.fetch_add(1, Ordering::Relaxed);
        async { Err::<Response<tonic::body::Body>, _>(Status::not_found("no such service")) }
    });
    let stack = steadfast::client().timeout(Duration::from_secs(30)).service(service).unwrap();
    let status = HealthClient::new(stack).check(HealthCheckRequest::default()).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "no such service"));
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

async fn a_stack_keeps_the_error_type_of_a_boxed_service() {
    let service = ServiceBuilder::new()
        .layer(steadfast::client().circuit_breaker(open_breaker()).keep_error().layer().unwrap())
        .timeout(Duration::from_secs(30))
        .service(service_fn(async |number: u32| Ok::<_, Infallible>(number)));
    let error: BoxError = service.oneshot(7).await.unwrap_err();
    assert!(error.is::<Rejection>(), "{error}");
}
