//! The examples `hyper_server` and `axum_server` above their limits and afterwards.

use crate::process::{self, Server};
use crate::trial::trials;
use futures::future::join_all;
use http_body_util::{BodyExt, Empty};
use hyper::{
    HeaderMap, Request, StatusCode,
    body::Bytes,
    client::conn::{http1, http2},
    header::{AsHeaderName, CONTENT_TYPE, RETRY_AFTER},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

trials![
    the_hyper_server_refuses_calls_above_its_concurrency_limit,
    the_axum_server_refuses_calls_above_its_concurrency_limit,
    the_hyper_server_sends_retry_after_above_its_rate,
    the_axum_server_sends_retry_after_above_its_rate,
    the_hyper_server_sends_its_own_responses,
    the_axum_server_sends_its_own_responses_and_exempts_its_health_check,
    a_rejection_does_not_affect_other_calls_on_an_http2_connection,
];

/// The limits of both examples.
const IN_FLIGHT: usize = 32;
const BURST: usize = 100;

#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    async fn read(response: hyper::Response<hyper::body::Incoming>) -> Self {
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Self { status: head.status, headers: head.headers, body: String::from_utf8(body.to_vec()).unwrap() }
    }

    fn header(&self, name: impl AsHeaderName) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Checks any response against the promises of the examples.
    fn check(&self) {
        let (retry_after, mechanism, title, detail) = match self.status {
            StatusCode::OK => return,
            // A fixed limit does not know when a permit returns.
            StatusCode::SERVICE_UNAVAILABLE => {
                (None, "load_shed", "Service Unavailable", "The service has too much to do at present.")
            }
            // A token comes every 10 ms, and the header counts whole seconds.
            StatusCode::TOO_MANY_REQUESTS => {
                (Some("1"), "rate_limit", "Too Many Requests", "There were too many requests.")
            }
            _ => panic!("{self:?}"),
        };
        assert_eq!(self.header(RETRY_AFTER), retry_after);
        assert_eq!(self.header("steadfast-rejected"), Some(mechanism));
        assert_eq!(self.header("steadfast-retry"), Some("unprocessed"));
        assert_eq!(self.header(CONTENT_TYPE), Some("application/problem+json"));
        let problem: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        let status = self.status.as_u16();
        // The response reveals no limits to external callers.
        let expected = json!({"type": "about:blank", "title": title, "status": status, "detail": detail});
        assert_eq!(problem, expected);
    }
}

/// An HTTP/1 connection that is never reopened: a call on a closed connection panics.
struct Connection {
    sender: http1::SendRequest<Empty<Bytes>>,
}

impl Connection {
    async fn open(address: SocketAddr) -> Self {
        let stream = process::connect(address).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self { sender }
    }

    async fn open_many(address: SocketAddr, count: usize) -> Vec<Self> {
        join_all((0..count).map(|_| Self::open(address))).await
    }

    async fn get(&mut self, path: &str) -> Answer {
        self.sender.ready().await.expect("the connection is open");
        Answer::read(self.sender.send_request(get(path)).await.expect("the server answers")).await
    }
}

fn get(path: &str) -> Request<Empty<Bytes>> {
    Request::get(path).header("host", "localhost").body(Empty::new()).unwrap()
}

fn count(answers: &[Answer], status: StatusCode) -> usize {
    answers.iter().filter(|answer| answer.status == status).count()
}

/// Makes more calls at once than the limit. Checks that the server answers as many as the limit allows and refuses the
/// others, and that all connections stay usable.
async fn calls_above_the_limit_are_refused(example: &str, path: &str) {
    let server = Server::start(example);
    // Fewer calls than a burst, so that the rate limit does not act. All connections are open before the first call.
    let mut connections = Connection::open_many(server.address(), 2 * IN_FLIGHT).await;
    for _ in 0..20 {
        let answers = join_all(connections.iter_mut().map(|connection| connection.get(path))).await;
        answers.iter().for_each(Answer::check);
        let refused = count(&answers, StatusCode::SERVICE_UNAVAILABLE);
        if refused > 0 {
            // A refused call found all permits taken, by calls that were then answered.
            assert!(count(&answers, StatusCode::OK) >= IN_FLIGHT, "{answers:?}");
            // Then there are permits for half of the refused calls.
            let refused = connections.iter_mut().zip(&answers).filter(|(_, answer)| !answer.status.is_success());
            let again = join_all(refused.take(IN_FLIGHT / 2).map(|(connection, _)| connection.get(path))).await;
            assert_eq!(count(&again, StatusCode::OK), again.len(), "{again:?}");
            return;
        }
        // On a busy machine the calls came one after the other. Wait until the rate limit has recovered.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    panic!("{} calls at once never met", 2 * IN_FLIGHT);
}

/// Checks that calls above the rate get a hint, and that callers who wait for it are answered on the same connection.
async fn callers_above_the_rate_succeed_after_the_hint(example: &str, path: &str) {
    let server = Server::start(example);
    // Too few callers to reach the concurrency limit, enough to use up a burst in a fraction of a second.
    let connections = Connection::open_many(server.address(), IN_FLIGHT - 2).await;
    let (calls, refused) = (AtomicUsize::new(0), AtomicBool::new(false));
    let callers = connections.into_iter().map(async |mut connection| {
        while !refused.load(Ordering::Relaxed) {
            assert!(calls.fetch_add(1, Ordering::Relaxed) < 100 * BURST, "no call was refused");
            let answer = connection.get(path).await;
            answer.check();
            assert_ne!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
            if let Some(seconds) = answer.header(RETRY_AFTER) {
                // The others stop too, so that the next tokens are for the refused callers.
                refused.store(true, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_secs(seconds.parse().unwrap())).await;
                assert_eq!(connection.get(path).await.status, StatusCode::OK);
            }
        }
    });
    join_all(callers).await;
    assert!(calls.into_inner() > BURST);
}

async fn the_hyper_server_refuses_calls_above_its_concurrency_limit() {
    calls_above_the_limit_are_refused("hyper_server", "/").await;
}

async fn the_axum_server_refuses_calls_above_its_concurrency_limit() {
    calls_above_the_limit_are_refused("axum_server", "/orders/7").await;
}

async fn the_hyper_server_sends_retry_after_above_its_rate() {
    callers_above_the_rate_succeed_after_the_hint("hyper_server", "/").await;
}

async fn the_axum_server_sends_retry_after_above_its_rate() {
    callers_above_the_rate_succeed_after_the_hint("axum_server", "/orders").await;
}

async fn the_hyper_server_sends_its_own_responses() {
    let server = Server::start("hyper_server");
    let mut connection = Connection::open(server.address()).await;
    let answer = connection.get("/anything").await;
    assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "GET /anything\n"));
}

async fn the_axum_server_sends_its_own_responses_and_exempts_its_health_check() {
    let server = Server::start("axum_server");
    let mut connection = Connection::open(server.address()).await;
    assert_eq!(connection.get("/orders/7").await.body, "order 7\n");
    assert_eq!(connection.get("/orders").await.body, "orders 1 to 9\n");
    for _ in 0..3 * BURST {
        assert_eq!(connection.get("/health").await.status, StatusCode::OK);
    }
}

async fn a_rejection_does_not_affect_other_calls_on_an_http2_connection() {
    let server = Server::start("hyper_server");
    let stream = process::connect(server.address()).await.unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let url = format!("http://{}/", server.address());
    for _ in 0..20 {
        let calls = (0..2 * IN_FLIGHT).map(|_| {
            let (mut sender, request) = (sender.clone(), Request::get(&url).body(Empty::<Bytes>::new()).unwrap());
            async move { Answer::read(sender.send_request(request).await.expect("the connection is open")).await }
        });
        let answers = join_all(calls).await;
        answers.iter().for_each(Answer::check);
        if count(&answers, StatusCode::SERVICE_UNAVAILABLE) > 0 {
            assert!(count(&answers, StatusCode::OK) >= IN_FLIGHT, "{answers:?}");
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    panic!("{} calls at once never met", 2 * IN_FLIGHT);
}
