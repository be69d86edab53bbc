//! Client stacks below generated clients, against real tonic servers.

use crate::trial::trials;
use futures::{StreamExt, future::BoxFuture, stream};
use hyper::Request as HttpRequest;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
    vec,
};
use steadfast::{
    CallContext,
    circuit_breaker::{Breaker, BreakerState},
    http::{self, Peer},
    load_shed::Limiter,
    rate_limit::TokenBucket,
};
use tokio::time::{Instant, sleep};
use tonic::{
    Code, Request, Response, Status,
    body::Body,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus,
    health_client::HealthClient,
    health_server::{Health, HealthServer},
};
use tower::Layer;

trials![
    a_failing_status_in_trailers_opens_the_breaker_below_a_generated_client,
    a_retry_below_a_generated_client_sees_a_status_in_trailers_with_peek,
    a_generated_client_returns_a_rejection_as_a_status_with_its_pushback,
    a_deadline_shrinks_across_two_servers,
];

type Check = Box<dyn Fn() -> BoxFuture<'static, Result<Response<HealthCheckResponse>, Status>> + Send + Sync>;
type Messages = Vec<Result<HealthCheckResponse, Status>>;

/// A service with a handler of the test.
struct Scripted {
    check: Check,
    watch: Box<dyn Fn() -> Messages + Send + Sync>,
}

#[tonic::async_trait]
impl Health for Scripted {
    async fn check(&self, _: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        (self.check)().await
    }

    type WatchStream = stream::Iter<vec::IntoIter<Result<HealthCheckResponse, Status>>>;

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(stream::iter((self.watch)())))
    }
}

impl Scripted {
    fn checking<F>(check: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Response<HealthCheckResponse>, Status>> + Send + 'static,
    {
        Self { check: Box::new(move || Box::pin(check())), watch: Box::new(Vec::new) }
    }

    fn watching(watch: impl Fn() -> Messages + Send + Sync + 'static) -> Self {
        let check = || Box::pin(async { Err(Status::unimplemented("only watched")) }) as _;
        Self { check: Box::new(check), watch: Box::new(watch) }
    }
}

fn serving() -> HealthCheckResponse {
    HealthCheckResponse { status: ServingStatus::Serving.into() }
}

/// Starts a server, and returns a channel to it.
async fn serve(health: Scripted) -> Channel {
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap().with_nodelay(Some(true));
    let endpoint = Endpoint::from_shared(format!("http://{}", incoming.local_addr().unwrap())).unwrap();
    // Longer than any test, so that only the deadline of the caller counts.
    let stack = steadfast::server().timeout(Duration::from_secs(300)).http(Peer::Internal).layer().unwrap();
    let server = Server::builder().layer(stack).add_service(HealthServer::new(health));
    tokio::spawn(server.serve_with_incoming(incoming));
    endpoint.connect().await.unwrap()
}

/// A channel that is never used, because the stack around it rejects every call.
fn unused_channel() -> Channel {
    Endpoint::from_static("http://127.0.0.1:1").connect_lazy()
}

fn pushback(status: &Status) -> i64 {
    status.metadata().get("grpc-retry-pushback-ms").expect("a pushback").to_str().unwrap().parse().unwrap()
}

fn rejected(status: &Status) -> &str {
    status.metadata().get("steadfast-rejected").expect("a mechanism").to_str().unwrap()
}

async fn a_failing_status_in_trailers_opens_the_breaker_below_a_generated_client() {
    let channel = serve(Scripted::watching(|| vec![Ok(serving()), Err(Status::internal("the data is gone"))])).await;
    let breaker = Breaker::builder().consecutive_failures(3).build().unwrap();
    let stack = steadfast::client()
        .circuit_breaker(breaker.clone())
        .http(Peer::Internal)
        .respond_http(Peer::Internal)
        .whole_body()
        .service(channel)
        .unwrap();
    let client = HealthClient::new(stack);
    for number in 0..3 {
        assert_eq!(breaker.state(), BreakerState::Closed, "after {number} failures");
        let mut messages = client.clone().watch(HealthCheckRequest::default()).await.unwrap().into_inner();
        assert_eq!(messages.next().await.unwrap().unwrap().status(), ServingStatus::Serving);
        let status = messages.next().await.unwrap().unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::Internal, "the data is gone"));
    }
    assert_eq!(breaker.state(), BreakerState::Open);
    let status = client.clone().watch(HealthCheckRequest::default()).await.unwrap_err();
    assert_eq!((status.code(), rejected(&status)), (Code::Unavailable, "circuit_breaker"));
}

async fn a_retry_below_a_generated_client_sees_a_status_in_trailers_with_peek() {
    for (peeks, calls_expected) in [(true, 2), (false, 1)] {
        let calls = Arc::new(AtomicU32::new(0));
        let counted = calls.clone();
        // The head comes before the status, as in every stream.
        let channel = serve(Scripted::watching(move || match counted.fetch_add(1, Ordering::SeqCst) {
            0 => vec![Err(Status::unavailable("about to stop"))],
            _ => vec![Ok(serving())],
        }))
        .await;
        let stack = steadfast::client()
            .retry(http::retry(3).without_budget().bodies(1024, Body::new).idempotent(|_: &HttpRequest<Body>| true))
            .http(Peer::Internal)
            .respond_http(Peer::Internal)
            .whole_body()
            .layer()
            .unwrap();
        let request = HealthCheckRequest::default();
        let first = if peeks {
            let mut client = HealthClient::new(stack.layer(http::peek().layer(channel)));
            client.watch(request).await.unwrap().into_inner().next().await.unwrap()
        } else {
            HealthClient::new(stack.layer(channel)).watch(request).await.unwrap().into_inner().next().await.unwrap()
        };
        assert_eq!(first.map_err(|status| status.code()), if peeks { Ok(serving()) } else { Err(Code::Unavailable) });
        assert_eq!(calls.load(Ordering::SeqCst), calls_expected);
    }
}

async fn a_generated_client_returns_a_rejection_as_a_status_with_its_pushback() {
    let breaker = Breaker::builder().consecutive_failures(1).build().unwrap();
    let client = steadfast::client().circuit_breaker(breaker.clone()).http(Peer::Internal).respond_http(Peer::Internal);
    // No process listens there.
    let mut client = HealthClient::new(client.service(unused_channel()).unwrap());
    assert_eq!(client.check(HealthCheckRequest::default()).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(breaker.state(), BreakerState::Open);
    let status = client.check(HealthCheckRequest::default()).await.unwrap_err();
    assert_eq!((status.code(), rejected(&status)), (Code::Unavailable, "circuit_breaker"));
    assert!(status.message().starts_with("circuit breaker: open for another "), "{status}");
    assert!((1..=5000).contains(&pushback(&status)), "{status:?}");
    assert_eq!(status.metadata().get("steadfast-retry").unwrap(), "unprocessed");

    let bucket = TokenBucket::builder(1, Duration::from_secs(3600)).build().unwrap();
    bucket.try_acquire(1).unwrap();
    let client = steadfast::client().rate_limit(bucket).http(Peer::Internal).respond_http(Peer::Internal);
    let mut client = HealthClient::new(client.service(unused_channel()).unwrap());
    let status = client.check(HealthCheckRequest::default()).await.unwrap_err();
    assert_eq!((status.code(), rejected(&status)), (Code::ResourceExhausted, "rate_limit"));
    assert!((3_000_000..=3_600_000).contains(&pushback(&status)), "{status:?}");

    let limiter = Limiter::fixed(1).unwrap();
    let _place = limiter.try_acquire().unwrap();
    let client = steadfast::client().load_shed(limiter.clone()).http(Peer::Internal).respond_http(Peer::Internal);
    let mut client = HealthClient::new(client.service(unused_channel()).unwrap());
    let status = client.check(HealthCheckRequest::default()).await.unwrap_err();
    assert_eq!((status.code(), rejected(&status)), (Code::ResourceExhausted, "load_shed"));
    // The hint is not known: do not retry.
    assert_eq!(pushback(&status), -1);

    let channel = serve(Scripted::checking(std::future::pending)).await;
    let client =
        steadfast::client().timeout(Duration::from_millis(50)).classify_with(http::Verdict::new(Peer::Internal));
    let mut client = HealthClient::new(client.respond_http(Peer::Internal).service(channel).unwrap());
    let status = client.check(HealthCheckRequest::default()).await.unwrap_err();
    assert_eq!((status.code(), rejected(&status)), (Code::DeadlineExceeded, "timeout"));
    // The work had begun: an ordinary failure.
    assert!(status.metadata().get("grpc-retry-pushback-ms").is_none(), "{status:?}");
    assert!(status.metadata().get("steadfast-retry").is_none());
}

/// The time left until the deadline of the current call.
fn left() -> Option<Duration> {
    CallContext::current().deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()))
}

async fn a_deadline_shrinks_across_two_servers() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let see = {
        let seen = seen.clone();
        move |server| seen.lock().unwrap().push((server, left().expect("a deadline")))
    };
    let client = || steadfast::client().http(Peer::Internal).respond_http(Peer::Internal).whole_body();

    let last = serve(Scripted::checking({
        let see = see.clone();
        move || {
            let see = see.clone();
            async move {
                see("last");
                Ok(Response::new(serving()))
            }
        }
    }))
    .await;
    let last = HealthClient::new(client().service(last).unwrap());
    let first = serve(Scripted::checking(move || {
        let (see, mut last) = (see.clone(), last.clone());
        async move {
            see("first");
            sleep(Duration::from_millis(50)).await;
            last.check(HealthCheckRequest::default()).await
        }
    }))
    .await;

    let stack = steadfast::client().timeout(Duration::from_secs(60)).http(Peer::Internal).respond_http(Peer::Internal);
    let mut caller = HealthClient::new(stack.service(first).unwrap());
    assert_eq!(caller.check(HealthCheckRequest::default()).await.unwrap().get_ref().status(), ServingStatus::Serving);
    let seen = seen.lock().unwrap().clone();
    let [("first", first), ("last", last)] = *seen else { panic!("{seen:?}") };
    assert!(first <= Duration::from_secs(60) && last <= first - Duration::from_millis(50), "{first:?}, then {last:?}");
    // Far more time than any machine needs.
    assert!(last > Duration::from_secs(30), "{last:?}");
}
