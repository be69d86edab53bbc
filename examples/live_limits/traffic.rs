//! Two tenants that send at their rates. A refusal does not slow them down.

use crate::server::{TENANT, TIERS};
use http_body_util::{BodyExt, Empty};
use hyper::{Request, StatusCode, body::Bytes};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tower::BoxError;

/// A tenant of each tier, and the requests that it sends per second: more than its limit ever allows.
pub const TENANTS: [(&str, u32); TIERS.len()] = [("free-ben", 200), ("paid-anna", 400)];
/// The most requests of a tenant that are in flight. Requests due beyond that are not sent, and count as failed.
const MOST_UNDER_WAY: usize = 500;

type Http = Client<HttpConnector, Empty<Bytes>>;

/// How requests ended since the counts were last taken.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub answered: u32,
    /// Refused by a limit or by the kill switch.
    pub refused: u32,
    pub failed: u32,
}

#[derive(Default)]
struct Counters {
    answered: AtomicU32,
    refused: AtomicU32,
    failed: AtomicU32,
}

/// Running tenants. Dropping this stops them.
pub struct Traffic {
    counters: [Arc<Counters>; TENANTS.len()],
    _tasks: JoinSet<()>,
}

/// Starts the tenants.
pub fn start(address: SocketAddr) -> Traffic {
    let counters: [Arc<Counters>; TENANTS.len()] = Default::default();
    let mut tasks = JoinSet::new();
    for ((tenant, per_second), counters) in TENANTS.into_iter().zip(&counters) {
        let http = Client::builder(TokioExecutor::new()).build_http();
        tasks.spawn(send(tenant, per_second, address, http, counters.clone()));
    }
    Traffic { counters, _tasks: tasks }
}

impl Traffic {
    /// Returns the counts since the last call, by tier.
    pub fn take(&self) -> [Counts; TIERS.len()] {
        self.counters.each_ref().map(|counters| Counts {
            answered: counters.answered.swap(0, Relaxed),
            refused: counters.refused.swap(0, Relaxed),
            failed: counters.failed.swap(0, Relaxed),
        })
    }
}

/// Sends forever.
async fn send(tenant: &'static str, per_second: u32, address: SocketAddr, http: Http, counters: Arc<Counters>) {
    let room = Arc::new(Semaphore::new(MOST_UNDER_WAY));
    let mut ticks = interval(Duration::from_secs(1) / per_second);
    // After a stall the overdue requests are sent, so the mean rate stays.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    loop {
        ticks.tick().await;
        let Ok(place) = room.clone().try_acquire_owned() else {
            counters.failed.fetch_add(1, Relaxed);
            continue;
        };
        let (http, counters) = (http.clone(), counters.clone());
        tokio::spawn(async move {
            let counter = match ask(&http, address, tenant).await {
                Ok(status) if status.is_success() => &counters.answered,
                Ok(StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) => &counters.refused,
                _ => &counters.failed,
            };
            counter.fetch_add(1, Relaxed);
            drop(place);
        });
    }
}

async fn ask(http: &Http, address: SocketAddr, tenant: &str) -> Result<StatusCode, BoxError> {
    let request = Request::get(format!("http://{address}/report")).header(TENANT, tenant).body(Empty::new())?;
    let response = http.request(request).await?;
    let status = response.status();
    // Reads the answer to its end, so that the connection can serve the next request.
    response.into_body().collect().await?;
    Ok(status)
}
