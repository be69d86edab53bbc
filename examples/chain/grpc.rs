//! The chain over gRPC, with the standard health service.

use crate::{
    ATTEMPT, DEADLINE, Style,
    hop::{LEFT, Seen},
    retry,
};
use std::{net::SocketAddr, sync::Arc};
use steadfast::http::{DEFAULT_REPLAY_CAP, HttpBody, Peer, Verdict};
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status,
    body::Body,
    metadata::MetadataValue,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_client::HealthClient,
    health_server::{Health, HealthServer},
};
use tower::{BoxError, util::BoxCloneSyncService};

/// A stack around a channel.
type Stack = BoxCloneSyncService<http::Request<Body>, http::Response<HttpBody<Body>>, tonic::transport::Error>;

/// Calls the next hop, through a stack below the generated client.
pub fn client(style: Style, next: SocketAddr) -> Result<HealthClient<Stack>, BoxError> {
    let channel: Channel = Endpoint::from_shared(format!("http://{next}"))?.connect_lazy();
    // A health check changes nothing, so it may be repeated. The client assumes nothing about methods in general.
    let retry = retry(style)?.bodies(DEFAULT_REPLAY_CAP, Body::new).idempotent(|_: &http::Request<Body>| true);
    let stack = steadfast::client().timeout(DEADLINE).retry(retry).attempt_timeout(ATTEMPT);
    let stack = stack.respond_http(Peer::Internal);
    Ok(HealthClient::new(match style {
        Style::Chained => BoxCloneSyncService::new(stack.http(Peer::Internal).service(channel)?),
        Style::Plain => BoxCloneSyncService::new(stack.classify_with(Verdict::new(Peer::External)).service(channel)?),
    }))
}

struct Hop {
    next: Option<HealthClient<Stack>>,
    seen: Arc<Seen>,
}

#[tonic::async_trait]
impl Health for Hop {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let before = request.metadata().get(LEFT).and_then(|left| left.to_str().ok()?.parse().ok());
        let (_working, left) = self.seen.begin(1, before);
        let Some(mut next) = self.next.clone() else {
            let fails = self.seen.work().await;
            return if fails {
                Err(Status::internal("broken"))
            } else {
                Ok(Response::new(HealthCheckResponse::default()))
            };
        };
        let mut request = Request::new(HealthCheckRequest::default());
        request.metadata_mut().insert(LEFT, MetadataValue::from(left));
        // The headers in the next hop's status are for this hop, not for its caller.
        next.check(request).await.map_err(|status| Status::new(status.code(), status.message()))
    }

    type WatchStream = futures::stream::Empty<Result<HealthCheckResponse, Status>>;

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("only `check` is"))
    }
}

pub async fn serve(
    listener: TcpListener,
    style: Style,
    next: Option<SocketAddr>,
    seen: Arc<Seen>,
) -> Result<(), BoxError> {
    let next = next.map(|next| client(style, next)).transpose()?;
    let stack = steadfast::server().timeout(10 * DEADLINE).http(Peer::Internal).layer()?;
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let service = HealthServer::new(Hop { next, seen });
    Server::builder().layer(stack).add_service(service).serve_with_incoming(incoming).await?;
    Ok(())
}
