//! `hyper_server` and `axum_server`, beyond their limits and back.

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
    the_hyper_server_answers_what_fits_and_refuses_the_rest,
    the_axum_server_answers_what_fits_and_refuses_the_rest,
    the_hyper_server_tells_callers_over_the_rate_when_to_come_back,
    the_axum_server_tells_callers_over_the_rate_when_to_come_back,
    the_hyper_server_answers_in_its_own_words,
    the_axum_server_answers_in_its_own_words_and_without_limits_for_its_health,
    a_refusal_leaves_the_other_calls_on_an_http2_connection_alone,
];

/// What both examples allow.
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

    /// Checks an answer of any kind against what the examples promise.
    fn check(&self) {
        let (retry_after, mechanism, title, detail) = match self.status {
            StatusCode::OK => return,
            // A fixed limit does not know when there will be room.
            StatusCode::SERVICE_UNAVAILABLE => {
                (None, "load_shed", "Service Unavailable", "The service has too much to do at present.")
            }
            // A new token comes every 10 ms, and the header counts whole seconds.
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
        // No word about the limits, which are no concern of strangers.
        let expected = json!({"type": "about:blank", "title": title, "status": status, "detail": detail});
        assert_eq!(problem, expected);
    }
}

/// One TCP connection with HTTP/1, which is never opened again: a call on a closed one panics.
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

/// More calls at once than fit get what fits done, the rest refused, and all connections are good for more.
async fn what_does_not_fit_is_refused(example: &str, path: &str) {
    let server = Server::start(example);
    // Fewer than a burst, so that the rate limit stays out of it; and all connections are open before the first call.
    let mut connections = Connection::open_many(server.address(), 2 * IN_FLIGHT).await;
    for _ in 0..20 {
        let answers = join_all(connections.iter_mut().map(|connection| connection.get(path))).await;
        answers.iter().for_each(Answer::check);
        let refused = count(&answers, StatusCode::SERVICE_UNAVAILABLE);
        if refused > 0 {
            // Whoever was refused found all places taken, by calls that were then answered.
            assert!(count(&answers, StatusCode::OK) >= IN_FLIGHT, "{answers:?}");
            // There is room again for half as many of those who were refused.
            let refused = connections.iter_mut().zip(&answers).filter(|(_, answer)| !answer.status.is_success());
            let again = join_all(refused.take(IN_FLIGHT / 2).map(|(connection, _)| connection.get(path))).await;
            assert_eq!(count(&again, StatusCode::OK), again.len(), "{again:?}");
            return;
        }
        // The machine was so busy that the calls came one after the other. Give the rate limit time to forget them.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    panic!("{} calls at once never met", 2 * IN_FLIGHT);
}

/// Callers over the rate are told when to come back, and when they do, on the same connection, are answered.
async fn callers_over_the_rate_come_back_when_told(example: &str, path: &str) {
    let server = Server::start(example);
    // Too few to be refused for want of room, enough to use up a burst in a fraction of a second.
    let connections = Connection::open_many(server.address(), IN_FLIGHT - 2).await;
    let (calls, refused) = (AtomicUsize::new(0), AtomicBool::new(false));
    let callers = connections.into_iter().map(async |mut connection| {
        while !refused.load(Ordering::Relaxed) {
            assert!(calls.fetch_add(1, Ordering::Relaxed) < 100 * BURST, "never refused");
            let answer = connection.get(path).await;
            answer.check();
            assert_ne!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
            if let Some(seconds) = answer.header(RETRY_AFTER) {
                // The others stop as well, so that afterwards there are tokens for all who were refused.
                refused.store(true, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_secs(seconds.parse().unwrap())).await;
                assert_eq!(connection.get(path).await.status, StatusCode::OK);
            }
        }
    });
    join_all(callers).await;
    assert!(calls.into_inner() > BURST);
}

async fn the_hyper_server_answers_what_fits_and_refuses_the_rest() {
    what_does_not_fit_is_refused("hyper_server", "/").await;
}

async fn the_axum_server_answers_what_fits_and_refuses_the_rest() {
    what_does_not_fit_is_refused("axum_server", "/orders/7").await;
}

async fn the_hyper_server_tells_callers_over_the_rate_when_to_come_back() {
    callers_over_the_rate_come_back_when_told("hyper_server", "/").await;
}

async fn the_axum_server_tells_callers_over_the_rate_when_to_come_back() {
    callers_over_the_rate_come_back_when_told("axum_server", "/orders").await;
}

async fn the_hyper_server_answers_in_its_own_words() {
    let server = Server::start("hyper_server");
    let mut connection = Connection::open(server.address()).await;
    let answer = connection.get("/anything").await;
    assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "GET /anything\n"));
}

async fn the_axum_server_answers_in_its_own_words_and_without_limits_for_its_health() {
    let server = Server::start("axum_server");
    let mut connection = Connection::open(server.address()).await;
    assert_eq!(connection.get("/orders/7").await.body, "order 7\n");
    assert_eq!(connection.get("/orders").await.body, "orders 1 to 9\n");
    for _ in 0..3 * BURST {
        assert_eq!(connection.get("/health").await.status, StatusCode::OK);
    }
}

async fn a_refusal_leaves_the_other_calls_on_an_http2_connection_alone() {
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
