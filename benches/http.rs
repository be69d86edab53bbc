//! What `.http(..)` costs per call, beside a hand-written classifier and responder that do less: one status each, and
//! no headers. The service is ready at once. Its answer returns the request, so that no call makes a new one.

use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use std::{
    convert::Infallible,
    future::{Ready, ready},
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};
use steadfast::{
    Outcome, Rejection,
    circuit_breaker::Breaker,
    http::{HttpBody, Peer},
    load_shed::Limiter,
    rate_limit::TokenBucket,
    retry::Retry,
};
use tower::Service;

const SECOND: Duration = Duration::from_secs(1);

type Asked = Request<()>;

/// Answers each request with the request itself.
#[derive(Clone)]
struct Echo;

impl Service<Asked> for Echo {
    type Response = Response<Option<Asked>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Asked) -> Self::Future {
        ready(Ok(Response::new(Some(request))))
    }
}

/// Returns headers as browsers and clients send them, and `more`.
fn request(more: &[(&'static str, &'static str)]) -> Asked {
    let usual = [
        ("host", "api.example.com"),
        ("user-agent", "bench/1.0"),
        ("accept", "*/*"),
        ("accept-encoding", "gzip"),
        ("authorization", "Bearer 0123456789"),
        ("content-type", "application/json"),
    ];
    let mut headers = HeaderMap::new();
    for (name, value) in usual.iter().chain(more) {
        headers.insert(*name, HeaderValue::from_static(value));
    }
    let mut request = Request::new(());
    *request.headers_mut() = headers;
    request
}

/// Makes one call, whose answer returns the request.
fn call<S, B, E>(service: &S, request: &mut Option<Asked>, back: impl Fn(B) -> Option<Asked>)
where
    S: Service<Asked, Response = Response<B>, Error = E> + Clone,
{
    let mut context = Context::from_waker(Waker::noop());
    let mut service = service.clone();
    let _ = black_box(service.poll_ready(&mut context));
    let future = pin!(service.call(request.take().unwrap()));
    let Poll::Ready(Ok(answer)) = black_box(future.poll(&mut context)) else { panic!("ready at once") };
    *request = back(answer.into_body());
}

fn bench(criterion: &mut Criterion, name: &str, operation: impl FnMut()) {
    let mut operation = operation;
    criterion.bench_function(name, |bencher| bencher.iter(&mut operation));
}

fn bucket() -> TokenBucket {
    TokenBucket::builder(1_000_000_000, SECOND).build().unwrap()
}

fn limiter() -> Limiter {
    Limiter::fixed(1024).unwrap()
}

fn servers(criterion: &mut Criterion) {
    let builder = || steadfast::server().rate_limit(bucket()).load_shed(limiter()).timeout(SECOND);
    let by_hand = builder()
        .respond_with(|_: Rejection| {
            let mut response = Response::new(None);
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            response
        })
        .service(Echo)
        .unwrap();
    let mut asked = Some(request(&[]));
    bench(criterion, "server of three, by hand", || call(&by_hand, &mut asked, |body| body));
    for (name, peer, more) in [
        ("server of three, http, external", Peer::External, &[][..]),
        ("server of three, http, internal", Peer::Internal, &[]),
        (
            "server of three, http, internal, with a deadline and an attempt",
            Peer::Internal,
            &[("steadfast-deadline-ms", "900"), ("steadfast-attempt", "0")],
        ),
    ] {
        let service = builder().http(peer).service(Echo).unwrap();
        let mut asked = Some(request(more));
        bench(criterion, name, || {
            call(&service, &mut asked, |body: HttpBody<Option<Asked>>| body.into_service().flatten())
        });
    }
}

fn clients(criterion: &mut Criterion) {
    let builder = || {
        steadfast::client()
            .timeout(10 * SECOND)
            .circuit_breaker(Breaker::builder().failure_rate(0.5, 10 * SECOND).build().unwrap())
            .rate_limit(bucket())
            .load_shed(limiter())
            .attempt_timeout(SECOND)
    };
    let by_status = |result: Result<&Response<Option<Asked>>, &Infallible>| match result.map(Response::status) {
        Ok(status) if status.is_server_error() => Outcome::Failure,
        Ok(_) => Outcome::Success,
        Err(never) => match *never {},
    };
    let mut asked = Some(request(&[]));
    let by_hand = builder().retry(Retry::new(3)).classify(by_status).service(Echo).unwrap();
    bench(criterion, "client of five, by hand", || call(&by_hand, &mut asked, |body| body));
    for (name, peer) in
        [("client of five, http, external", Peer::External), ("client of five, http, internal", Peer::Internal)]
    {
        let service = builder().retry(steadfast::http::retry(3)).http(peer).service(Echo).unwrap();
        bench(criterion, name, || call(&service, &mut asked, |body| body));
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(SECOND).sample_size(20);
    targets = servers, clients
}
criterion_main!(benches);
