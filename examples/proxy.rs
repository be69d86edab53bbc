//! A reverse proxy of hyper with a stack on each side: callers are limited, and the service behind it is called with
//! retries, a circuit breaker and what is left of the caller's time.
//!
//! ```sh
//! cargo run --features http --example hyper_server -- 8080
//! cargo run --features http --example proxy -- 127.0.0.1:8080 8000
//! curl -i http://127.0.0.1:8000/
//! ```
//!
//! Ctrl-C stops it. Bodies stream in both directions. Up to a megabyte of an upload is kept, so that it can be sent
//! again; what is larger is sent once.

use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use hyper::{HeaderMap, Request, Response, StatusCode, Uri, Version, body::Bytes, body::Incoming, header};
use hyper_util::client::legacy::{self, Client, connect::HttpConnector};
use hyper_util::{rt::TokioExecutor, rt::TokioIo, rt::TokioTimer, server::conn::auto, service::TowerToHyperService};
use std::{env, io, net::Ipv4Addr, time::Duration};
use steadfast::{circuit_breaker::Breaker, http, http::HttpBody, http::Peer, http::Verdict, load_shed::Limiter};
use tokio::net::TcpListener;
use tower::{BoxError, ServiceExt, service_fn};

/// `Incoming` cannot hold the replay of another body. A box can.
type Upload = UnsyncBoxBody<Bytes, io::Error>;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let service = env::args().nth(1).ok_or("the address of the service is missing")?;
    let port = env::args().nth(2).map_or(Ok(0), |port| port.parse())?;
    let mut connector = HttpConnector::new();
    // A host that is gone does not even refuse. Below the attempt timeout, so that the error says what is wrong.
    connector.set_connect_timeout(Some(Duration::from_millis(200)));
    // Retries are the stack's, which knows their budget. Two layers of retries multiply.
    let client = Client::builder(TokioExecutor::new()).retry_canceled_requests(false).build::<_, Upload>(connector);
    let inner = steadfast::client()
        // A megabyte of each upload: with the 256 calls below, 256 MB at most. One retry for every ten calls.
        .retry(http::retry(3).bodies(1 << 20, |body| Upload::new(body.map_err(io::Error::other))))
        .circuit_breaker(Breaker::builder().failure_rate(0.5, Duration::from_secs(10)).build()?)
        // Three attempts fit into the ten seconds of a call.
        .attempt_timeout(Duration::from_secs(3))
        // The service is your own: it is sent the deadline of each attempt, and its word on retries is believed.
        .http_by(Peer::Internal, Verdict::new(Peer::Internal).unsent(legacy::Error::is_connect))
        // A rejection is an answer to the caller, who is not told the limits.
        .respond_http(Peer::External)
        .whole_body()
        .service(client)?;
    let outer = steadfast::server()
        // Bounds the connections to the service, and the memory for uploads.
        .load_shed(Limiter::fixed(256)?)
        // Ends a call and its body. A caller may ask for less time, and the service is sent what is left.
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
            // Out of file descriptors, most likely. Give the connections that hold them time to end.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let service = TowerToHyperService::new(outer.clone());
        tokio::spawn(async move {
            let mut connection = auto::Builder::new(TokioExecutor::new());
            // With a timer hyper gives up on callers that do not finish sending their headers.
            connection.http1().timer(TokioTimer::new());
            connection.http2().timer(TokioTimer::new());
            // A connection that breaks is a matter of its caller, who sees it, too.
            let _ = connection.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// The request as it goes to the service.
fn to_service(request: Request<Incoming>, service: &str) -> Result<Request<Upload>, hyper::http::Error> {
    let (mut head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    head.uri = Uri::builder().scheme("http").authority(service).path_and_query(path).build()?;
    head.version = Version::HTTP_11;
    end_hop(&mut head.headers);
    Ok(Request::from_parts(head, Upload::new(body.map_err(io::Error::other))))
}

/// Removes the headers that are about one connection.
fn end_hop(headers: &mut HeaderMap) {
    for name in [header::CONNECTION, header::TE, header::TRANSFER_ENCODING, header::UPGRADE] {
        headers.remove(name);
    }
}
