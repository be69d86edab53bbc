//! One service of the chain, and its counters.

use crate::{Style, grpc, web};
use std::{
    io::{self, Read},
    net::{Ipv4Addr, SocketAddr},
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use steadfast::CallContext;
use tokio::{
    net::TcpListener,
    time::{Instant, sleep},
};
use tower::BoxError;

/// The header in which a hop passes on its own remaining time, in microseconds.
pub const LEFT: &str = "x-left-us";

/// The addresses that a hop listens on.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    pub web: SocketAddr,
    pub grpc: SocketAddr,
}

impl FromStr for Addresses {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (web, grpc) = text.split_once('+').unwrap_or((text, ""));
        Ok(Self { web: web.parse()?, grpc: grpc.parse()? })
    }
}

/// What the leaf does with a call.
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
pub enum Mode {
    Answers,
    Fails,
    TakesTwoSeconds,
}

/// The counters of a hop.
#[derive(Default)]
pub struct Seen {
    mode: AtomicUsize,
    /// The calls by HTTP and by gRPC.
    pub calls: [AtomicU64; 2],
    /// The calls whose remaining time was not shorter than their caller's, or that had no deadline.
    pub not_shrunk: AtomicU64,
    /// The longest time that a handler worked beyond its call's deadline, in microseconds. And the longest such time
    /// less the lateness of this process's own timers.
    pub overrun: AtomicU64,
    pub own_overrun: AtomicU64,
    /// How late the latest of the last [`REMEMBERED`] timers was, in microseconds.
    lateness: AtomicU64,
}

/// How often a hop measures how late its timers are.
const LOOK: Duration = Duration::from_millis(2);
/// The number of measurements for which a late timer is remembered.
const REMEMBERED: usize = 50;

impl Seen {
    pub fn set_mode(&self, mode: usize) {
        self.mode.store(mode, Relaxed);
    }

    /// Counts a call that arrived. Returns a guard that records its end, and the remaining microseconds.
    pub fn begin(self: &Arc<Self>, protocol: usize, left_of_caller: Option<u64>) -> (Working, u64) {
        self.calls[protocol].fetch_add(1, Relaxed);
        let deadline = CallContext::current().deadline();
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()).as_micros() as u64);
        // The client at the top of the chain sends no remaining time.
        if left.is_none() || left_of_caller.zip(left).is_some_and(|(before, left)| left >= before) {
            self.not_shrunk.fetch_add(1, Relaxed);
        }
        (Working { deadline, seen: self.clone() }, left.unwrap_or(u64::MAX))
    }

    /// Does the work of the leaf. Returns whether it fails.
    pub async fn work(&self) -> bool {
        match self.mode.load(Relaxed) {
            1 => return true,
            2 => sleep(Duration::from_secs(2)).await,
            _ => {}
        }
        false
    }
}

/// A running handler, until it is dropped.
pub struct Working {
    deadline: Option<Instant>,
    seen: Arc<Seen>,
}

impl Drop for Working {
    fn drop(&mut self) {
        if let Some(deadline) = self.deadline {
            let beyond = Instant::now().saturating_duration_since(deadline).as_micros() as u64;
            self.seen.overrun.fetch_max(beyond, Relaxed);
            self.seen.own_overrun.fetch_max(beyond.saturating_sub(self.seen.lateness.load(Relaxed)), Relaxed);
        }
    }
}

/// Serves until its standard input ends, which happens when the process that started it ends.
pub async fn serve(style: Style, next: Option<Addresses>) -> Result<(), BoxError> {
    let seen = Arc::new(Seen::default());
    tokio::spawn(watch_timers(seen.clone()));
    let (web, grpc) = (listener().await?, listener().await?);
    println!("listening on {}+{}", web.local_addr()?, grpc.local_addr()?);
    let servers = async {
        tokio::try_join!(
            web::serve(web, style, next.map(|next| next.web), seen.clone()),
            grpc::serve(grpc, style, next.map(|next| next.grpc), seen.clone())
        )
    };
    let parent_is_gone = tokio::task::spawn_blocking(|| io::stdin().read(&mut [0]));
    tokio::select! {
        served = servers => served.map(drop),
        _ = parent_is_gone => Ok(()),
    }
}

/// Records how late the timers of this process are, because the machine may be busy.
async fn watch_timers(seen: Arc<Seen>) {
    let mut lately = [0; REMEMBERED];
    for look in (0..REMEMBERED).cycle() {
        let due = Instant::now() + LOOK;
        tokio::time::sleep_until(due).await;
        lately[look] = Instant::now().saturating_duration_since(due).as_micros() as u64;
        seen.lateness.store(lately.into_iter().max().unwrap_or_default(), Relaxed);
    }
}

async fn listener() -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await
}
