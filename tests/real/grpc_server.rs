//! `tonic_server`, beyond its limits and back.

use crate::process::{self, Server};
use crate::trial::trials;
use futures::{future::join_all, stream};
use http_body_util::StreamBody;
use hyper::{
    Request,
    body::{Bytes, Frame},
    client::conn::http2,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tonic::{
    Code, Response, Status,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_client::HealthClient,
};
use tower::service_fn;

trials![
    callers_over_the_rate_are_told_when_to_come_back,
    callers_that_find_no_room_are_refused_and_those_that_stall_are_ended,
    a_call_ends_with_the_time_that_its_caller_gives_it,
];

/// What the example allows.
const IN_FLIGHT: usize = 32;
const BURST: u32 = 100;

/// A channel to the server, and how often it has connected.
async fn connect(server: &Server) -> (HealthClient<Channel>, Arc<AtomicU32>) {
    let address = server.address();
    let connections = Arc::new(AtomicU32::new(0));
    let counted = connections.clone();
    let connector = service_fn(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move { process::connect(address).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    (HealthClient::new(endpoint.connect_with_connector(connector).await.unwrap()), connections)
}

async fn check(client: &HealthClient<Channel>) -> Result<Response<HealthCheckResponse>, Status> {
    client.clone().check(HealthCheckRequest::default()).await
}

fn pushback(status: &Status) -> Option<u64> {
    status.metadata().get("grpc-retry-pushback-ms").map(|value| value.to_str().unwrap().parse().unwrap())
}

async fn callers_over_the_rate_are_told_when_to_come_back() {
    let server = Server::start("tonic_server");
    let (client, connections) = connect(&server).await;
    assert_eq!(check(&client).await.unwrap().get_ref().status(), ServingStatus::Serving);

    // All go on until 16 calls were refused: the last caller alone may be too slow for the rate.
    let (answered, refused) = (AtomicU32::new(1), AtomicU32::new(0));
    let callers = (0..16).map(async |_| {
        for _ in 0..1000 {
            if refused.load(Ordering::Relaxed) >= 16 {
                return;
            }
            let Err(status) = check(&client).await else {
                answered.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            refused.fetch_add(1, Ordering::Relaxed);
            assert_eq!(status.code(), Code::ResourceExhausted);
            assert!(status.message().starts_with("rate limit: used up for another "), "{status}");
            let wait = pushback(&status).expect("a rate limit knows when there will be tokens");
            // One comes every 10 ms.
            assert!((1..=10).contains(&wait), "{wait} ms");
        }
    });
    join_all(callers).await;
    let refused = refused.into_inner();
    assert!(refused >= 16, "{refused} of 16,000 calls were refused");
    assert!(answered.load(Ordering::Relaxed) >= BURST);

    // Each of the callers may take the first token that comes, so wait for all of theirs.
    tokio::time::sleep(Duration::from_millis(16 * 10)).await;
    assert_eq!(check(&client).await.unwrap().get_ref().status(), ServingStatus::Serving);
    assert_eq!(connections.load(Ordering::Relaxed), 1, "a refusal closed the connection");
}

async fn callers_that_find_no_room_are_refused_and_those_that_stall_are_ended() {
    let server = Server::start("tonic_server");
    let (client, _) = connect(&server).await;

    // Calls whose message never comes take all the places until their time is up.
    let stream = process::connect(server.address()).await.unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let uri = format!("http://{}/grpc.health.v1.Health/Check", server.address());
    let stalled = (0..IN_FLIGHT).map(|_| {
        let message = StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>());
        let request = Request::post(&uri).header("content-type", "application/grpc").body(message).unwrap();
        let mut sender = sender.clone();
        async move { sender.send_request(request).await.unwrap() }
    });
    let stalled = tokio::spawn(join_all(stalled));

    // They get there sooner or later, but each is given only a second.
    let mut refused = None;
    for _ in 0..50 {
        if let Err(status) = check(&client).await {
            refused = Some(status);
            break;
        }
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    let status = refused.expect("all places are taken");
    assert_eq!(
        (status.code(), status.message()),
        (Code::ResourceExhausted, "load shed: 32 calls are in flight already")
    );
    // Nothing is known of when there will be room, so callers are not to try again.
    assert_eq!(status.metadata().get("grpc-retry-pushback-ms").unwrap(), "-1");
    assert_eq!(status.metadata().get("steadfast-rejected").unwrap(), "load_shed");

    for response in stalled.await.unwrap() {
        let code = response.headers().get("grpc-status").unwrap().to_str().unwrap().parse::<i32>().unwrap();
        assert_eq!(Code::from(code), Code::DeadlineExceeded);
    }
    assert_eq!(check(&client).await.unwrap().get_ref().status(), ServingStatus::Serving);
}

async fn a_call_ends_with_the_time_that_its_caller_gives_it() {
    let server = Server::start("tonic_server");
    let stream = process::connect(server.address()).await.unwrap();
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let uri = format!("http://{}/grpc.health.v1.Health/Check", server.address());
    // The message never comes.
    let message = StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>());
    let request = Request::post(&uri).header("content-type", "application/grpc").header("grpc-timeout", "50m");
    let response = sender.send_request(request.body(message).unwrap()).await.unwrap();
    let header = |name| response.headers()[name].to_str().unwrap();
    match header("grpc-status") {
        "4" => assert!(header("grpc-message").starts_with("timeout: no answer by the deadline of the caller")),
        // tonic has a timer of its own for it, which may be first.
        code => assert_eq!((code, header("grpc-message")), ("1", "Timeout expired")),
    }
}
