//! The server, which takes its limits from a file: the template to copy.

use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{HeaderValue, RETRY_AFTER},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};
use steadfast::{
    ConfigError, Rejection,
    constant_work::{FileSource, Poller, PollerReadings, Shape, StackRule, Stacks},
    load_level::Queue,
    load_shed::Limiter,
    rate_limit::{Keyed, Quota, RateLimit, TierBy},
    stack::live::Control,
};
use tokio::{net::TcpListener, task::JoinSet};
use tower::{BoxError, Layer, service_fn};

/// The name of this stack in the file.
pub const NAME: &str = "reports";
/// The tiers, in the order of their quotas.
pub const TIERS: [&str; 2] = ["free", "paid"];
/// The header that identifies a tenant. A real server takes the tenant from what it has authenticated.
pub const TENANT: &str = "x-tenant";

/// How often the file is read. Once a second is usual; a shorter period shows each change at once.
const PERIOD: Duration = Duration::from_millis(50);
/// The table has room for this number of tenants; beyond it, new tenants share a bucket.
const MOST_TENANTS: usize = 10_000;
/// How long the work on a request takes.
const WORK: Duration = Duration::from_millis(50);

type Quotas = Keyed<str, TierBy<fn(&str) -> usize>>;

/// The shape of the file, for its writers and readers: room for the rules of 16 stacks.
pub fn shape() -> Result<Shape, ConfigError> {
    Shape::for_rules::<StackRule>(16)
}

fn tier_of(tenant: &str) -> usize {
    usize::from(tenant.starts_with("paid-"))
}

fn tenant_of(request: &Request<Incoming>) -> &str {
    request.headers().get(TENANT).and_then(|tenant| tenant.to_str().ok()).unwrap_or_default()
}

/// A running server. Dropping it stops it.
pub struct Server {
    pub address: SocketAddr,
    /// Controls the stack.
    pub control: Control,
    /// Reads the number of calls in flight.
    pub limiter: Limiter,
    /// Counts how the readings of the file ended.
    pub poller: PollerReadings,
    _tasks: JoinSet<()>,
}

/// Serves on a free port of the loopback interface, with the limits of the file.
pub async fn start(file: &Path) -> Result<Server, BoxError> {
    // The configuration until the file is read, and for every field that the file leaves out.
    let free = Quota::new(50, Duration::from_secs(1)).with_burst(5);
    let paid = Quota::new(100, Duration::from_secs(1)).with_burst(10);
    let quotas: Quotas = Keyed::builder(MOST_TENANTS, free).tiers([paid], tier_of as fn(&str) -> usize).build()?;
    let limiter = Limiter::fixed(64)?;
    let (layer, control) = steadfast::server()
        .rate_limit(RateLimit::by_key_ref(quotas, tenant_of))
        .load_shed(limiter.clone())
        .load_level(Queue::builder(32, 32).build()?)
        .timeout(Duration::from_secs(1))
        .respond_with(refuse)
        .live()?;
    let service = layer.layer(service_fn(answer));

    let stacks = Stacks::new().with(NAME, control.clone())?;
    let mut poller = Poller::builder(FileSource::new(file), shape()?).period(PERIOD).build(stacks)?;
    let readings = poller.readings();
    // The first request already meets the limits of the file. A server also starts without a valid file.
    if let Err(refusal) = poller.tick().await {
        eprintln!("starting with the built-in limits: {refusal}");
    }

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        poller.run().await;
    });
    tasks.spawn(async move {
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Most likely the process is out of file descriptors. The pause gives open connections time to end.
                    eprintln!("cannot accept: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            // A clone per connection; all of them share the limits.
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                let mut connection = auto::Builder::new(TokioExecutor::new());
                connection.http1().timer(TokioTimer::new());
                connection.http2().timer(TokioTimer::new());
                if let Err(error) = connection.serve_connection(TokioIo::new(stream), service).await {
                    eprintln!("connection lost: {error}");
                }
            });
        }
    });
    Ok(Server { address, control, limiter, poller: readings, _tasks: tasks })
}

/// A placeholder for your own work.
async fn answer(_request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    tokio::time::sleep(WORK).await;
    Ok(Response::new(Full::from("all is well\n")))
}

/// Returns the answer to a request that was refused or took too long.
fn refuse(rejection: Rejection) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(format!("{rejection}\n")));
    *response.status_mut() = match rejection {
        Rejection::RateLimited(_) => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    if let Some(wait) = rejection.retry_after() {
        // The header counts whole seconds. Round up: a caller that comes back early is refused again.
        let seconds = wait.as_secs_f64().ceil() as u64;
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
