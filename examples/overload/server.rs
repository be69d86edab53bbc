//! A real HTTP/2 server with a known capacity.

use crate::{
    held::{self, Gauge},
    scenario::{Mode, SERVICE_TIME, SLOTS, SLOWER},
    stacks,
};
use http_body_util::Empty;
use hyper::{
    Request, Response,
    body::{Body, Bytes, Incoming},
    server::conn::http2,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{
    convert::Infallible,
    error::Error,
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
    sync::{Mutex, mpsc, oneshot},
    time::{Instant, sleep_until},
};
use tower::{BoxError, Service};

pub type Answer = Response<Empty<Bytes>>;

/// A server with its own thread and runtime, so that busy clients cannot slow it down.
pub struct Server {
    runtime: Runtime,
    pub address: SocketAddr,
    pace: Pace,
    gauge: Gauge,
}

impl Server {
    pub fn start(mode: Mode) -> Result<Self, Box<dyn Error>> {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).thread_name("server").on_thread_start(held::count_this_thread).enable_all();
        let runtime = builder.build()?;
        let gauge = Gauge::new(runtime.metrics());
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        let pace = Pace::default();
        let backend = Backend::start(&runtime, &pace);
        match mode {
            Mode::Unprotected => runtime.spawn(accept(listener, backend)),
            Mode::Protected => runtime.spawn(accept(listener, stacks::server(backend)?)),
        };
        Ok(Self { runtime, address, pace, gauge })
    }

    /// Returns the handle that slows the work down.
    pub fn pace(&self) -> Pace {
        self.pace.clone()
    }

    /// Returns the gauge of the server's live tasks and bytes.
    pub fn gauge(&self) -> Gauge {
        self.gauge.clone()
    }

    /// Ends every connection and all work, by shutting down their runtime.
    pub fn stop(self) {
        self.runtime.shutdown_timeout(Duration::from_secs(1));
    }
}

async fn accept<S, B>(listener: TcpListener, service: S)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    loop {
        // An error of one connection concerns only its client, which sees it too.
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, service.clone()));
        }
    }
}

async fn serve<S, B>(stream: TcpStream, service: S) -> Result<(), BoxError>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    stream.set_nodelay(true)?;
    // HTTP/2 limits the streams itself. These limits are set out of reach, so that they do not replace the protection
    // that this example shows.
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(u32::MAX)
        .max_pending_accept_reset_streams(usize::MAX)
        .max_local_error_reset_streams(None)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    Ok(connection.await?)
}

/// The service time as a multiple of the usual one: 1 until the work is slowed down.
#[derive(Clone)]
pub struct Pace(Arc<AtomicU32>);

impl Default for Pace {
    fn default() -> Self {
        Self(Arc::new(AtomicU32::new(1)))
    }
}

impl Pace {
    /// Work that begins from now on takes longer.
    pub fn slow_down(&self) {
        self.0.store(SLOWER, Ordering::Relaxed);
    }

    fn service_time(&self) -> Duration {
        SERVICE_TIME * self.0.load(Ordering::Relaxed)
    }
}

/// The work behind the server: a few slots, and an unbounded queue in front of them, as in many servers.
///
/// A queued request stays queued when its caller gives up, and is processed at its turn.
#[derive(Clone)]
pub struct Backend {
    queue: mpsc::UnboundedSender<Job>,
}

struct Job {
    arrived: Instant,
    done: oneshot::Sender<()>,
}

impl Backend {
    fn start(runtime: &Runtime, pace: &Pace) -> Self {
        let (queue, jobs) = mpsc::unbounded_channel();
        let jobs = Arc::new(Mutex::new(jobs));
        // Slots that a burst fills at the same moment would stay in step for the whole load, and answers would arrive
        // thirty at a time. A shorter first job, of a different length in each slot, spreads them.
        for number in 1..=SLOTS {
            runtime.spawn(slot(jobs.clone(), SERVICE_TIME * number / SLOTS, pace.clone()));
        }
        Self { queue }
    }
}

/// Works on one job after another. The first job, during the warm-up, takes `first`; the others take the service time.
async fn slot(jobs: Arc<Mutex<mpsc::UnboundedReceiver<Job>>>, first: Duration, pace: Pace) {
    let mut free_at = Instant::now();
    let mut service_time = first;
    loop {
        let Some(job) = jobs.lock().await.recv().await else { return };
        // Counts from when both the slot was free and the job had arrived, not from when this task was woken. Otherwise
        // each late timer would cost about a millisecond of capacity.
        free_at = free_at.max(job.arrived) + service_time;
        sleep_until(free_at).await;
        // The caller may have left. The work was done anyway.
        let _ = job.done.send(());
        service_time = pace.service_time();
    }
}

impl Service<Request<Incoming>> for Backend {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Incoming>) -> Self::Future {
        let (done, finished) = oneshot::channel();
        // The receiver of the queue, and `done` before its job is finished, are dropped only when the runtime shuts
        // down.
        let _ = self.queue.send(Job { arrived: Instant::now(), done });
        Box::pin(async {
            let _ = finished.await;
            Ok(Answer::default())
        })
    }
}
