//! The allocations of a call over HTTP.

use crate::counting::so_far;
use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body::Body;
use http_body_util::Full;
use std::{
    convert::Infallible,
    future::{Ready, ready},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Duration,
};
use steadfast::{circuit_breaker::Breaker, http::Peer, load_shed::Limiter, rate_limit::TokenBucket};
use tower::{Service, service_fn};

const SECOND: Duration = Duration::from_secs(1);

fn answers(_: Request<()>) -> Ready<Result<Response<Full<Bytes>>, Infallible>> {
    ready(Ok(Response::new(Full::new(Bytes::from_static(b"answer")))))
}

fn request() -> Request<()> {
    let headers = [("steadfast-deadline-ms", "900"), ("steadfast-attempt", "1"), ("accept", "text/html")];
    let mut request = Request::new(());
    for (name, value) in headers {
        request.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    request
}

/// Makes two calls, and reads their bodies to the end. Returns the number of allocations of the second call.
fn allocations<S, B>(service: &S) -> u64
where
    S: Service<Request<()>, Response = Response<B>> + Clone,
    B: Body + Unpin,
{
    let context = &mut Context::from_waker(Waker::noop());
    let mut times = 0;
    for _ in 0..2 {
        let (request, mut service) = (request(), service.clone());
        let before = so_far().times;
        let Poll::Ready(Ok(answer)) = pin!(service.call(request)).poll(context) else { panic!("ready at once") };
        let mut body = answer.into_body();
        while let Poll::Ready(Some(frame)) = Pin::new(&mut body).poll_frame(context) {
            assert!(frame.is_ok());
        }
        times = so_far().times - before;
    }
    times
}

#[tokio::test(start_paused = true)]
async fn a_server_allocates_nothing_for_http_and_a_few_times_for_whole_bodies() {
    let builder = || {
        let bucket = TokenBucket::builder(1_000_000, SECOND).build().unwrap();
        steadfast::server().rate_limit(bucket).load_shed(Limiter::fixed(8).unwrap()).timeout(SECOND)
    };
    for peer in [Peer::Internal, Peer::External] {
        assert_eq!(allocations(&builder().http(peer).service(service_fn(answers)).unwrap()), 0);
    }
    let whole = builder().http(Peer::Internal).whole_body().service(service_fn(answers)).unwrap();
    // This number is that of a stack with two gates and a timeout.
    assert_eq!(allocations(&whole), 8);
}

#[tokio::test(start_paused = true)]
async fn a_client_allocates_for_the_headers_that_it_writes() {
    let builder = || {
        let breaker = Breaker::builder().build().unwrap();
        steadfast::client().circuit_breaker(breaker).load_shed(Limiter::fixed(8).unwrap()).attempt_timeout(SECOND)
    };
    assert_eq!(allocations(&builder().http(Peer::External).service(service_fn(answers)).unwrap()), 0);
    // The header with the time left costs two allocations: its text, and the shared buffer of its value.
    assert_eq!(allocations(&builder().http(Peer::Internal).service(service_fn(answers)).unwrap()), 2);
    let whole = builder().http(Peer::External).whole_body().service(service_fn(answers)).unwrap();
    // This number is that of a stack with two gates and a timeout.
    assert_eq!(allocations(&whole), 8);
}
