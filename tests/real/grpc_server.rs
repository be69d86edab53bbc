//! The example `tonic_server` above its limits and afterwards.

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
    calls_above_the_rate_get_a_pushback,
    calls_above_the_concurrency_limit_are_refused_and_stalled_calls_time_out,
    a_call_ends_at_the_deadline_of_its_caller,
];

/// The limits of the example.
const IN_FLIGHT: usize = 32;
const BURST: u32 = 100;

/// A channel to the server, and the number of its connections.
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

async fn calls_above_the_rate_get_a_pushback() {
    let server = Server::start("tonic_server");
    let (client, connections) = connect(&server).await;
    assert_eq!(check(&client).await.unwrap().get_ref().status(), ServingStatus::Serving);

    // All callers go on until 16 calls were refused. A single caller may be too slow to exceed the rate.
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
            let wait = pushback(&status).expect("a rate limit knows when it has tokens again");
            // A token comes every 10 ms.
            assert!((1..=10).contains(&wait), "{wait} ms");
        }
    });
    join_all(callers).await;
    let refused = refused.into_inner();
    assert!(refused >= 16, "{refused} of 16,000 calls were refused");
    assert!(answered.load(Ordering::Relaxed) >= BURST);

    // Any caller may take the next token, so wait for the tokens of all callers.
    tokio::time::sleep(Duration::from_millis(16 * 10)).await;
    assert_eq!(check(&client).await.unwrap().get_ref().status(), ServingStatus::Serving);
    assert_eq!(connections.load(Ordering::Relaxed), 1, "a refusal closed the connection");
}

async fn calls_above_the_concurrency_limit_are_refused_and_stalled_calls_time_out() {
    let server = Server::start("tonic_server");
    let (client, _) = connect(&server).await;

    // Calls whose message never comes take all permits until they time out.
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

    // They arrive at some time, but each has only one second.
    let mut refused = None;
    for _ in 0..50 {
        if let Err(status) = check(&client).await {
            refused = Some(status);
            break;
        }
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    let status = refused.expect("all permits are taken");
    assert_eq!(
        (status.code(), status.message()),
        (Code::ResourceExhausted, "load shed: 32 calls are in flight already")
    );
    // The limit does not know when a permit returns, so the pushback forbids a retry.
    assert_eq!(status.metadata().get("grpc-retry-pushback-ms").unwrap(), "-1");
    assert_eq!(status.metadata().get("steadfast-rejected").unwrap(), "load_shed");

    for response in stalled.await.unwrap() {
        let code = response.headers().get("grpc-status").unwrap().to_str().unwrap().parse::<i32>().unwrap();
        assert_eq!(Code::from(code), Code::DeadlineExceeded);
    }
    assert_eq!(check(&client).await.unwrap().get_ref().status(), ServingStatus::Serving);
}

async fn a_call_ends_at_the_deadline_of_its_caller() {
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
        // tonic has its own timer for this deadline, which may fire first.
        code => assert_eq!((code, header("grpc-message")), ("1", "Timeout expired")),
    }
}
