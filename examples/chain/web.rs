//! The chain over HTTP.

use crate::{
    ATTEMPT, DEADLINE, Style,
    hop::{LEFT, Seen},
    retry,
};
use http_body_util::{Either, Empty, Full};
use hyper::{Request, Response, StatusCode, body::Bytes, body::Incoming, header::HeaderValue};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
};
use steadfast::{
    ConfigError,
    http::{Peer, Verdict},
};
use tokio::net::TcpListener;
use tower::{BoxError, Service, ServiceExt, service_fn, util::BoxCloneSyncService};

/// A call of the next hop.
pub type Next = BoxCloneSyncService<Request<Empty<Bytes>>, Response<Incoming>, BoxError>;

/// Calls the next hop, through a stack.
pub fn client(style: Style) -> Result<Next, ConfigError> {
    let http = Client::builder(TokioExecutor::new()).retry_canceled_requests(false).build_http();
    let stack = steadfast::client().timeout(DEADLINE).retry(retry(style)?).attempt_timeout(ATTEMPT).boxed_error();
    Ok(match style {
        Style::Chained => BoxCloneSyncService::new(stack.http(Peer::Internal).service(http)?),
        // Classifies by status only; sends no context headers and trusts none.
        Style::Plain => BoxCloneSyncService::new(stack.classify_with(Verdict::new(Peer::External)).service(http)?),
    })
}

/// A request to this address.
pub fn request(to: SocketAddr, path: &str) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    // An address and a path always make a valid URI.
    *request.uri_mut() = format!("http://{to}{path}").parse().unwrap_or_default();
    request
}

pub async fn serve(
    listener: TcpListener,
    style: Style,
    next: Option<SocketAddr>,
    seen: Arc<Seen>,
) -> Result<(), BoxError> {
    let (client, noted) = (client(style)?, seen.clone());
    let handler = service_fn(move |request: Request<Incoming>| {
        let (client, seen) = (client.clone(), noted.clone());
        async move {
            let mut answer = Response::new(Empty::<Bytes>::new());
            *answer.status_mut() = handle(request, next, client, seen).await;
            Ok::<_, Infallible>(answer)
        }
    });
    let stack = steadfast::server().timeout(10 * DEADLINE).http(Peer::Internal).service(handler)?;
    let all = service_fn(move |request: Request<Incoming>| {
        let (stack, seen) = (stack.clone(), seen.clone());
        async move {
            if request.uri().path().starts_with("/of/") {
                return Ok(Response::new(Either::Right(Full::from(of(request.uri().path(), &seen)))));
            }
            stack.oneshot(request).await.map(|answer| answer.map(Either::Left))
        }
    });
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = TowerToHyperService::new(all.clone());
        tokio::spawn(async move {
            // An error here means that the caller has left.
            let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn handle(request: Request<Incoming>, next: Option<SocketAddr>, mut client: Next, seen: Arc<Seen>) -> StatusCode {
    let before = request.headers().get(LEFT).and_then(|left| left.to_str().ok()?.parse().ok());
    let (_working, left) = seen.begin(0, before);
    let Some(next) = next else {
        return if seen.work().await { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
    };
    let mut request = self::request(next, "/");
    request.headers_mut().insert(LEFT, HeaderValue::from(left));
    match client.call(request).await {
        Ok(answer) => answer.status(),
        Err(_) => StatusCode::BAD_GATEWAY,
    }
}

/// Returns the counters, or sets the mode of the leaf.
fn of(path: &str, seen: &Seen) -> String {
    if let Some(mode) = path.strip_prefix("/of/mode/").and_then(|mode| mode.parse().ok()) {
        seen.set_mode(mode);
    }
    let [web, grpc] = [&seen.calls[0], &seen.calls[1]].map(|calls| calls.load(Relaxed));
    let [not_shrunk, overrun, own] = [&seen.not_shrunk, &seen.overrun, &seen.own_overrun].map(|of| of.load(Relaxed));
    format!("{web} {grpc} {not_shrunk} {overrun} {own}")
}
