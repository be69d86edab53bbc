//! The clients' side of the connection, and a client as it is often written.

use crate::{
    counts::Ending,
    scenario::{ATTEMPTS, CONNECTIONS, DEADLINE},
};
use http_body_util::Empty;
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::{
    convert::Infallible,
    error::Error,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};
use tokio::{net::TcpStream, time::timeout};
use tower::{Service, util::BoxCloneService};

pub type Ask = Request<Empty<Bytes>>;

/// A client of either kind: both run through the same code.
pub type Client = BoxCloneService<Ask, Ending, Infallible>;

/// Counts the attempts of a call. It travels in the request's extensions, which all attempts of the call share.
#[derive(Clone, Default)]
pub struct Attempts(Arc<AtomicU32>);

impl Attempts {
    pub fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A request to the server, whose attempts are counted in `attempts`.
pub fn ask(address: SocketAddr, attempts: Attempts) -> Result<Ask, hyper::http::Error> {
    Request::get(format!("http://{address}/")).extension(attempts).body(Empty::new())
}

/// A few HTTP/2 connections, used in turn.
#[derive(Clone)]
pub struct Connections {
    senders: Arc<[SendRequest<Empty<Bytes>>]>,
    turn: Arc<AtomicUsize>,
}

impl Connections {
    pub async fn open(address: SocketAddr) -> Result<Self, Box<dyn Error>> {
        let mut senders = Vec::new();
        for _ in 0..CONNECTIONS {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                // The server's own limit on streams arrives only after the first calls.
                .initial_max_send_streams(usize::MAX)
                // A late answer to a dropped call is recognized, not taken for a protocol error.
                .max_concurrent_reset_streams(100_000)
                .handshake(TokioIo::new(stream))
                .await?;
            tokio::spawn(connection);
            senders.push(sender);
        }
        Ok(Self { senders: senders.into(), turn: Arc::default() })
    }
}

impl Service<Ask> for Connections {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, ask: Ask) -> Self::Future {
        if let Some(Attempts(count)) = ask.extensions().get() {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut sender = self.senders[turn % self.senders.len()].clone();
        Box::pin(async move {
            sender.ready().await?;
            sender.send_request(ask).await
        })
    }
}

/// The client without protection. It looks reasonable: it never waits forever, and it retries.
pub fn plain(connections: Connections) -> Client {
    Client::new(tower::service_fn(move |ask| {
        let mut connections = connections.clone();
        async move {
            let mut ending = Ending::Failed;
            for _ in 0..ATTEMPTS {
                ending = match timeout(DEADLINE / ATTEMPTS, connections.call(Ask::clone(&ask))).await {
                    Ok(Ok(answer)) if answer.status().is_success() => return Ok(Ending::Answered),
                    Ok(_) => Ending::Failed,
                    Err(_) => Ending::TimedOut,
                };
            }
            Ok(ending)
        }
    }))
}
