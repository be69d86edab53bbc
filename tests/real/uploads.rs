//! Uploads through the example `proxy`, and through reqwest, to a server that fails at first.

use crate::process::{self, Server};
use crate::trial::trials;
use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::IntoResponse,
};
use futures::{StreamExt, stream};
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Response,
    body::{Bytes, Frame, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use std::{
    convert::Infallible,
    mem,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use steadfast::http::{self, Peer};
use tokio::{
    net::{TcpListener, TcpSocket},
    time::sleep,
};
use tower::{ServiceExt, service_fn};

trials![
    a_streaming_upload_is_retried_byte_for_byte,
    an_upload_answered_before_it_was_read_is_retried,
    an_upload_above_the_cap_is_sent_once_and_the_caller_gets_the_response,
    the_service_receives_the_rest_of_the_callers_deadline,
    a_service_that_is_down_is_a_bad_gateway,
    a_stream_through_reqwest_is_retried_byte_for_byte,
];

/// The cap of the proxy.
const CAP: usize = 1 << 20;
/// A new budget has less than one retry, and ten calls earn one.
const CALLS_FOR_A_RETRY: usize = 10;

/// The server's reaction to the first upload.
#[derive(Clone, Copy, Debug)]
enum First {
    Reads,
    DoesNotRead,
}

#[derive(Debug)]
struct Seen {
    headers: HeaderMap,
    /// `None` if it was not read.
    body: Option<Bytes>,
}

#[derive(Clone)]
struct Service {
    first: First,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Service {
    async fn start(first: First) -> (Self, SocketAddr) {
        let service = Self { first, seen: Arc::default() };
        let router = Router::new().fallback(answer).with_state(service.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(axum::serve(listener, router).into_future());
        (service, address)
    }

    fn seen(&self) -> Vec<Seen> {
        mem::take(&mut self.seen.lock().unwrap())
    }
}

/// Fails the first PUT since the list was cleared. Answers all other requests at once.
async fn answer(State(service): State<Service>, request: Request) -> impl IntoResponse {
    if request.method() == "GET" {
        service.seen.lock().unwrap().push(Seen { headers: request.headers().clone(), body: None });
        return (StatusCode::OK, [("retry-after", "0")]);
    }
    let (head, body) = request.into_parts();
    let is_first = service.seen.lock().unwrap().is_empty();
    let body = match (service.first, is_first) {
        (First::DoesNotRead, true) => None,
        _ => Some(body.collect().await.unwrap().to_bytes()),
    };
    service.seen.lock().unwrap().push(Seen { headers: head.headers, body });
    let status = if is_first { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (status, [("retry-after", "0")])
}

/// Bytes in which no two pieces are equal.
fn bytes(length: usize) -> Bytes {
    (0..length).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect::<Vec<_>>().into()
}

/// A stream of pieces of odd lengths with pauses, whose length is not known in advance.
fn streamed(bytes: Bytes) -> UnsyncBoxBody<Bytes, Infallible> {
    let piece = (bytes.len() / 7).max(1) + 1;
    let pieces: Vec<_> =
        (0..bytes.len()).step_by(piece).map(|from| bytes.slice(from..bytes.len().min(from + piece))).collect();
    UnsyncBoxBody::new(StreamBody::new(stream::iter(pieces).then(async |piece| {
        sleep(Duration::from_millis(2)).await;
        Ok(Frame::data(piece))
    })))
}

/// One connection for each call: the proxy closes the connection of an upload that it answered without reading it.
async fn call(
    proxy: &Server,
    request: hyper::http::request::Builder,
    body: UnsyncBoxBody<Bytes, Infallible>,
) -> Response<Incoming> {
    let stream = process::connect(proxy.address()).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender.send_request(request.uri("/notes").header("host", "localhost").body(body).unwrap()).await.unwrap()
}

async fn get(proxy: &Server, deadline: Option<&str>) -> Response<Incoming> {
    let request = hyper::Request::get("/");
    let request = deadline.into_iter().fold(request, |request, left| request.header("steadfast-deadline-ms", left));
    call(proxy, request, UnsyncBoxBody::new(Body::empty().map_err(|_| unreachable!()))).await
}

/// The proxy, with retries in its budget.
async fn proxy(service: &Service, address: SocketAddr) -> Server {
    let proxy = Server::start_with("proxy", &[&address.to_string()]);
    for _ in 0..CALLS_FOR_A_RETRY {
        assert_eq!(get(&proxy, None).await.status(), StatusCode::OK);
    }
    service.seen();
    proxy
}

async fn is_retried(first: First) {
    let (service, address) = Service::start(first).await;
    let proxy = proxy(&service, address).await;
    let upload = bytes(300_001);
    let answer = call(&proxy, hyper::Request::put("/"), streamed(upload.clone())).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let seen = service.seen();
    let attempts: Vec<_> = seen.iter().map(|seen| seen.headers.get("steadfast-attempt")).collect();
    assert!(attempts[0].is_none() && attempts[1].is_some_and(|attempt| attempt == "1"), "{attempts:?}");
    match first {
        First::Reads => assert!(seen[0].body.as_ref() == Some(&upload)),
        First::DoesNotRead => assert!(seen[0].body.is_none()),
    }
    assert!(seen[1].body.as_ref() == Some(&upload), "the second attempt differs");
}

async fn a_streaming_upload_is_retried_byte_for_byte() {
    is_retried(First::Reads).await;
}

async fn an_upload_answered_before_it_was_read_is_retried() {
    is_retried(First::DoesNotRead).await;
}

async fn an_upload_above_the_cap_is_sent_once_and_the_caller_gets_the_response() {
    let (service, address) = Service::start(First::Reads).await;
    let proxy = proxy(&service, address).await;
    let upload = bytes(CAP + 1);
    let answer = call(&proxy, hyper::Request::put("/"), streamed(upload.clone())).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers()["retry-after"], "0");
    let seen = service.seen();
    assert_eq!(seen.len(), 1);
    assert!(seen[0].body.as_ref() == Some(&upload));
}

async fn the_service_receives_the_rest_of_the_callers_deadline() {
    let (service, address) = Service::start(First::Reads).await;
    let proxy = proxy(&service, address).await;
    let left = |seen: &Seen| seen.headers["steadfast-deadline-ms"].to_str().unwrap().parse::<u64>().unwrap();
    // The proxy gives each attempt three seconds.
    assert_eq!(get(&proxy, None).await.status(), StatusCode::OK);
    let without = left(&service.seen()[0]);
    assert!((2000..=3000).contains(&without), "{without} ms");
    assert_eq!(get(&proxy, Some("1500")).await.status(), StatusCode::OK);
    let with = left(&service.seen()[0]);
    assert!((500..1500).contains(&with), "{with} ms");
    // No time is left.
    assert_eq!(get(&proxy, Some("0")).await.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(service.seen().len(), 0);
}

async fn a_service_that_is_down_is_a_bad_gateway() {
    // Bound, so that no other server gets the port, but not listening.
    let gone = TcpSocket::new_v4().unwrap();
    gone.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let proxy = Server::start_with("proxy", &[&gone.local_addr().unwrap().to_string()]);
    let answer = get(&proxy, None).await;
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes().len(), 0);
}

async fn a_stream_through_reqwest_is_retried_byte_for_byte() {
    let (service, address) = Service::start(First::Reads).await;
    let client = reqwest::Client::builder().retry(reqwest::retry::never()).build().unwrap();
    let stack = steadfast::client()
        .retry(http::retry(3).without_budget().bodies(CAP, reqwest::Body::wrap))
        .http(Peer::External)
        .service(service_fn(move |request: hyper::Request<reqwest::Body>| {
            let client = client.clone();
            async move { client.execute(request.try_into()?).await.map(Response::<reqwest::Body>::from) }
        }))
        .unwrap();
    let upload = bytes(300_001);
    // Without and with a length that is known in advance.
    for body in
        [reqwest::Body::wrap_stream(streamed(upload.clone()).into_data_stream()), reqwest::Body::from(upload.clone())]
    {
        let request = hyper::Request::put(format!("http://{address}/notes")).body(body).unwrap();
        assert_eq!(stack.clone().oneshot(request).await.unwrap().status(), StatusCode::OK);
        let seen = service.seen();
        assert_eq!(seen.len(), 2);
        assert!(seen.iter().all(|seen| seen.body.as_ref() == Some(&upload)));
        // An external service does not learn the number of the attempt.
        assert!(seen.iter().all(|seen| !seen.headers.contains_key("steadfast-attempt")));
    }
}
