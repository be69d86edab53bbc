//! Getting snapshots by HTTP, from a real server and from faulty ones.

use super::fixture::{LENGTH, fetch, millis, number, publication};
use crate::trial::trials;
use http_body_util::{Empty, Full};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    server::conn::http1,
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use std::{
    convert::Infallible,
    error::Error,
    future::{Ready, ready},
    net::SocketAddr,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};
use steadfast::{
    Rejection,
    constant_work::{HttpSource, Source, SourceError, SourceFailure},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    time::timeout,
};
use tower::Service;

trials![
    the_whole_snapshot_comes_with_every_request,
    only_200_is_an_answer,
    an_endless_body_is_read_up_to_the_limit,
    only_the_client_checks_the_announced_length,
    a_server_that_hangs_costs_a_tick_and_no_more,
    nobody_there_says_so,
    a_stack_around_the_client_may_end_a_request,
    the_instance_that_was_ready_is_called,
];

type HttpClient = Client<HttpConnector, Empty<Bytes>>;

fn client() -> HttpClient {
    Client::builder(TokioExecutor::new()).build_http()
}

fn source_of(address: SocketAddr, path: &str) -> HttpSource<HttpClient, Empty<Bytes>> {
    HttpSource::new(client(), format!("http://{address}/{path}").parse().expect("a URI"))
}

/// The method and headers of the requests that arrived.
type Requests = Arc<Mutex<Vec<(String, Vec<String>)>>>;

/// A server of hyper, which answers `/<status>` with that status and a snapshot.
async fn serve() -> (SocketAddr, Requests) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    let requests = Requests::default();
    let seen = requests.clone();
    let answer = move |request: Request<Incoming>| {
        let names = request.headers().keys().map(ToString::to_string).collect();
        seen.lock().expect("nobody panics with it").push((request.method().to_string(), names));
        let status = request.uri().path().trim_start_matches('/').parse().expect("a status");
        let mut response = Response::new(Full::new(Bytes::from(publication(9))));
        *response.status_mut() = StatusCode::from_u16(status).expect("a status");
        ready(Ok::<_, Infallible>(response))
    };
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(answer.clone());
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    (address, requests)
}

/// A server that reads the head of each request, and leaves the rest to a function.
async fn serve_by_hand<Answering>(answer: impl Fn(TcpStream) -> Answering + Send + 'static) -> SocketAddr
where
    Answering: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.expect("a head that ends"));
            }
            tokio::spawn(answer(stream));
        }
    });
    address
}

fn chain(error: &SourceError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

async fn the_whole_snapshot_comes_with_every_request() {
    let (address, requests) = serve().await;
    let mut source = source_of(address, "200");
    for _ in 0..20 {
        assert_eq!(number(&fetch(&mut source, LENGTH + 1).await.expect("a server that is right")), 9);
    }
    // Much too long, and cut off.
    for at_most in [0, 1, 1000, LENGTH - 1] {
        let bytes = fetch(&mut source, at_most).await.expect("a server that is right");
        assert!(bytes == publication(9)[..at_most], "{at_most}");
    }
    for (method, headers) in requests.lock().expect("nobody panics with it").iter() {
        assert_eq!((method.as_str(), headers.as_slice()), ("GET", &["host".to_owned()] as &[String]));
    }
}

async fn only_200_is_an_answer() {
    let (address, _) = serve().await;
    for status in [201, 204, 206, 301, 304, 400, 401, 404, 429, 500, 503] {
        let error = fetch(&mut source_of(address, &status.to_string()), LENGTH + 1).await.expect_err("not 200");
        assert_eq!(error.failure(), SourceFailure::BadAnswer { status: Some(status) }, "{error:?}");
    }
}

async fn an_endless_body_is_read_up_to_the_limit() {
    let (ended, mut endings) = tokio::sync::mpsc::unbounded_channel();
    let address = serve_by_hand(move |mut stream| {
        let ended = ended.clone();
        async move {
            let mut sent = 0;
            let mut piece = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
            while stream.write_all(&piece).await.is_ok() {
                sent += piece.len();
                piece = format!("{:x}\r\n{}\r\n", 10_000, "x".repeat(10_000)).into_bytes();
            }
            ended.send(sent).expect("the test waits for it");
        }
    })
    .await;
    let mut source = source_of(address, "");
    for _ in 0..3 {
        assert_eq!(fetch(&mut source, 12_345).await.expect("enough bytes"), vec![b'x'; 12_345]);
        let sent = timeout(Duration::from_secs(10), endings.recv()).await.expect("it is cut off").expect("a server");
        // The buffers of the sockets, which are some megabytes.
        assert!(sent < 64 << 20, "{sent}");
    }
}

async fn only_the_client_checks_the_announced_length() {
    let answer = |head: &'static str, body: &'static str, at_most: usize| async move {
        let address = serve_by_hand(move |mut stream| async move {
            let answer = format!("HTTP/1.1 200 OK\r\n{head}\r\n{body}");
            stream.write_all(answer.as_bytes()).await.expect("a client that reads");
        })
        .await;
        fetch(&mut source_of(address, ""), at_most).await
    };
    // Fewer bytes than announced: no snapshot.
    for head in ["content-length: 10\r\n", "content-length: 18446744073709551614\r\n"] {
        let error = answer(head, "123", 100).await.expect_err("cut off");
        assert!(error.failure() == SourceFailure::Unreachable && error.source().is_some(), "{error:?}");
    }
    let error = answer("transfer-encoding: chunked\r\n", "3\r\n123\r\n", 100).await.expect_err("cut off");
    assert_eq!(error.failure(), SourceFailure::Unreachable, "{error:?}");
    // Without a length, the end of the connection ends the body: only the checksum detects missing bytes.
    assert_eq!(answer("", "123", 100).await.expect("an answer"), b"123");
    assert_eq!(answer("content-length: 3\r\n", "123 and more", 100).await.expect("an answer"), b"123");
    // The limit is reached before the end is missed.
    assert_eq!(answer("content-length: 10\r\n", "123", 3).await.expect("enough bytes"), b"123");
    let error = answer("content-length: many\r\n", "123", 100).await.expect_err("no HTTP");
    assert_eq!(error.failure(), SourceFailure::Unreachable, "{error:?}");
}

async fn a_server_that_hangs_costs_a_tick_and_no_more() {
    for said in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n123"] {
        let hangs = Arc::new(Mutex::new(true));
        let hanging = hangs.clone();
        let address = serve_by_hand(move |mut stream| {
            let hangs = *hanging.lock().expect("nobody panics with it");
            async move {
                let answer = if hangs { said } else { "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood" };
                stream.write_all(answer.as_bytes()).await.expect("a client that reads");
                // Until the client disconnects.
                let _ = stream.read_u8().await;
            }
        })
        .await;
        let mut source = source_of(address, "");
        for _ in 0..3 {
            timeout(millis(30), fetch(&mut source, 100)).await.expect_err("it hangs");
        }
        *hangs.lock().expect("nobody panics with it") = false;
        assert_eq!(fetch(&mut source, 100).await.expect("it is well again"), b"good", "{said:?}");
    }
}

async fn nobody_there_says_so() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    drop(listener);
    let error = fetch(&mut source_of(address, ""), 100).await.expect_err("nobody is there");
    assert_eq!(error.failure(), SourceFailure::Unreachable, "{error:?}");
    assert!(chain(&error).contains("refused"), "{}", chain(&error));
}

async fn a_stack_around_the_client_may_end_a_request() {
    let address = serve_by_hand(|mut stream| async move {
        let _ = stream.read_u8().await;
    })
    .await;
    let stack = steadfast::client().timeout(millis(30)).service(client()).expect("settings that work");
    let mut source = HttpSource::new(stack, format!("http://{address}/").parse().expect("a URI"));
    let error = fetch(&mut source, 100).await.expect_err("it hangs");
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    let mut timed_out = false;
    while let Some(error) = cause {
        timed_out |= matches!(error.downcast_ref(), Some(Rejection::TimedOut(_)));
        cause = error.source();
    }
    assert!(timed_out, "{}", chain(&error));
    let (address, _) = serve().await;
    let stack = steadfast::client().timeout(Duration::from_secs(10)).service(client()).expect("settings that work");
    let mut source = HttpSource::new(stack, format!("http://{address}/200").parse().expect("a URI"));
    assert_eq!(number(&fetch(&mut source, LENGTH + 1).await.expect("a server that is right")), 9);
}

/// A service that becomes ready after a while, answers only then, and loses its readiness when cloned.
#[derive(Default)]
struct Particular {
    is_ready: bool,
    waits: Option<oneshot::Receiver<()>>,
}

impl Clone for Particular {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Service<Request<()>> for Particular {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        let waits = self.waits.get_or_insert_with(|| {
            let (sender, receiver) = oneshot::channel();
            tokio::spawn(async move {
                tokio::task::yield_now().await;
                sender.send(())
            });
            receiver
        });
        std::pin::Pin::new(waits).poll(cx).map(|_| {
            self.is_ready = true;
            Ok(())
        })
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        assert!(self.is_ready, "called without being ready");
        ready(Ok(Response::new(Full::new(Bytes::from_static(b"ready")))))
    }
}

async fn the_instance_that_was_ready_is_called() {
    let mut source = HttpSource::new(Particular::default(), "/snapshot".parse().expect("a URI"));
    for _ in 0..3 {
        assert_eq!(fetch(&mut source, 100).await.expect("always"), b"ready");
    }
    let mut bytes = Vec::with_capacity(100);
    let buffer = bytes.as_ptr();
    source.fetch(&mut bytes, 100).await.expect("always");
    assert_eq!(bytes.as_ptr(), buffer);
}
