//! A reverse proxy with hyper and a stack on each side. It limits callers, and calls the service with retries, a
//! circuit breaker and the rest of the caller's deadline.
//!
//! ```sh
//! cargo run --features http --example hyper_server -- 8080
//! cargo run --features http --example proxy -- 127.0.0.1:8080 8000
//! curl -i http://127.0.0.1:8000/
//! ```
//!
//! Ctrl-C stops it. Bodies stream in both directions. Uploads of up to 1 MB are kept for retries; larger uploads are
//! sent once.

use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use hyper::{HeaderMap, Request, Response, StatusCode, Uri, Version, body::Bytes, body::Incoming, header};
use hyper_util::client::legacy::{self, Client, connect::HttpConnector};
use hyper_util::{rt::TokioExecutor, rt::TokioIo, rt::TokioTimer, server::conn::auto, service::TowerToHyperService};
use std::{env, io, net::Ipv4Addr, time::Duration};
use steadfast::{circuit_breaker::Breaker, http, http::HttpBody, http::Peer, http::Verdict, load_shed::Limiter};
use tokio::net::TcpListener;
use tower::{BoxError, ServiceExt, service_fn};

/// `Incoming` cannot wrap a replayed body. A boxed body can.
type Upload = UnsyncBoxBody<Bytes, io::Error>;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let service = env::args().nth(1).ok_or("the address of the service is missing")?;
    let port = env::args().nth(2).map_or(Ok(0), |port| port.parse())?;
    let mut connector = HttpConnector::new();
    // A dead host does not even refuse connections, so connecting needs a limit. The limit is shorter than the attempt
    // timeout, so that the error names the cause.
    connector.set_connect_timeout(Some(Duration::from_millis(200)));
    // The stack retries, within its budget. Two layers of retries multiply.
    let client = Client::builder(TokioExecutor::new()).retry_canceled_requests(false).build::<_, Upload>(connector);
    let inner = steadfast::client()
        // Keeps 1 MB of each upload: at most 256 MB with the 256 calls below. The default budget allows one retry for
        // every ten calls.
        .retry(http::retry(3).bodies(1 << 20, |body| Upload::new(body.map_err(io::Error::other))))
        .circuit_breaker(Breaker::builder().failure_rate(0.5, Duration::from_secs(10)).build()?)
        // Three attempts fit into the 10 s of a call.
        .attempt_timeout(Duration::from_secs(3))
        // The service is your own: it receives the deadline of each attempt, and may forbid retries.
        .http_by(Peer::Internal, Verdict::new(Peer::Internal).unsent(legacy::Error::is_connect))
        // A rejection becomes a response to the external caller, and does not reveal the limits.
        .respond_http(Peer::External)
        .whole_body()
        .service(client)?;
    let outer = steadfast::server()
        // Bounds the connections to the service and the memory for uploads.
        .load_shed(Limiter::fixed(256)?)
        // Bounds a call and its body. A caller may ask for less time. The service receives the time left.
        .timeout(Duration::from_secs(10))
        .http(Peer::External)
        .whole_body()
        .service(service_fn(move |request| {
            let (inner, request) = (inner.clone(), to_service(request, &service));
            let answer = async move { Ok::<_, BoxError>(inner.oneshot(request?).await?) };
            async move {
                let bad_gateway = Response::builder().status(StatusCode::BAD_GATEWAY).body(HttpBody::default());
                let mut answer = answer.await.or(bad_gateway)?;
                end_hop(answer.headers_mut());
                Ok::<_, hyper::http::Error>(answer)
            }
        }))?;
    eprint!("{}", outer.explain());

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // The process has probably no file descriptors left. Wait for connections to end.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let service = TowerToHyperService::new(outer.clone());
        tokio::spawn(async move {
            let mut connection = auto::Builder::new(TokioExecutor::new());
            // With a timer, hyper gives up on callers that do not finish their headers.
            connection.http1().timer(TokioTimer::new());
            connection.http2().timer(TokioTimer::new());
            // The caller sees a broken connection too.
            let _ = connection.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// Turns the caller's request into the request to the service.
fn to_service(request: Request<Incoming>, service: &str) -> Result<Request<Upload>, hyper::http::Error> {
    let (mut head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    head.uri = Uri::builder().scheme("http").authority(service).path_and_query(path).build()?;
    head.version = Version::HTTP_11;
    end_hop(&mut head.headers);
    Ok(Request::from_parts(head, Upload::new(body.map_err(io::Error::other))))
}

/// Removes the hop-by-hop headers.
fn end_hop(headers: &mut HeaderMap) {
    for name in [header::CONNECTION, header::TE, header::TRANSFER_ENCODING, header::UPGRADE] {
        headers.remove(name);
    }
}
