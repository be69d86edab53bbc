//! Four callers, one of which is noisy.

use http_body_util::Empty;
use hyper::{Request, body::Bytes};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use indicatif::ProgressBar;
use std::{fmt, net::SocketAddr, time::Duration};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tower::BoxError;

const LENGTH: Duration = Duration::from_secs(6);
/// Quiet callers send for the whole time; the noisy caller starts after a third of it.
const NOISE_BEGINS: Duration = Duration::from_secs(2);
/// The time covered by one point of the picture.
pub const SLICE: Duration = Duration::from_millis(500);
pub const SLICES: usize = (LENGTH.as_millis() / SLICE.as_millis()) as usize;

/// The key, the requests per second, and when the caller starts.
const CALLERS: [(&str, u32, Duration); 4] = [
    ("pro-noisy", 400, NOISE_BEGINS),
    ("pro-anna", 40, Duration::ZERO),
    ("free-ben", 4, Duration::ZERO),
    ("free-eve", 4, Duration::ZERO),
];

/// The results of a caller's requests.
pub struct Run {
    pub title: &'static str,
    pub callers: Vec<Caller>,
}

pub struct Caller {
    pub key: &'static str,
    pub per_second: u32,
    /// Sent, and answered with success, in each slice of time.
    pub slices: Vec<(u32, u32)>,
}

impl Caller {
    fn sums(&self) -> (u32, u32) {
        self.slices.iter().fold((0, 0), |sum, slice| (sum.0 + slice.0, sum.1 + slice.1))
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}:", self.title)?;
        for caller in &self.callers {
            let (sent, answered) = caller.sums();
            writeln!(f, "  {:<10} {answered:>5} of {sent:>5} requests answered, the others refused", caller.key)?;
        }
        Ok(())
    }
}

/// Lets all callers send at their rates. A refusal does not slow a caller down.
pub async fn run(title: &'static str, address: SocketAddr, bar: &ProgressBar) -> Result<Run, BoxError> {
    let http = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let mut all = JoinSet::new();
    for (index, (key, per_second, begins)) in CALLERS.into_iter().enumerate() {
        bar.inc_length(u64::from(per_second) * (LENGTH - begins).as_secs());
        all.spawn(one(index, key, per_second, begins, address, http.clone(), bar.clone()));
    }
    let mut callers: Vec<_> = all.join_all().await.into_iter().collect::<Result<_, _>>()?;
    callers.sort_by_key(|(index, _)| *index);
    Ok(Run { title, callers: callers.into_iter().map(|(_, caller)| caller).collect() })
}

async fn one(
    index: usize,
    key: &'static str,
    per_second: u32,
    begins: Duration,
    address: SocketAddr,
    http: Client<HttpConnector, Empty<Bytes>>,
    bar: ProgressBar,
) -> Result<(usize, Caller), BoxError> {
    tokio::time::sleep(begins).await;
    let gap = Duration::from_secs(1) / per_second;
    let mut ticks = interval(gap);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut calls = JoinSet::new();
    for number in 0..u32::try_from((LENGTH - begins).as_nanos() / gap.as_nanos())? {
        ticks.tick().await;
        let request = Request::get(format!("http://{address}/report")).header("x-api-key", key).body(Empty::new())?;
        let call = http.request(request);
        let slice = ((begins + gap * number).as_nanos() / SLICE.as_nanos()) as usize;
        calls.spawn(async move { (slice, call.await.is_ok_and(|response| response.status().is_success())) });
        bar.inc(1);
    }
    let mut slices = vec![(0, 0); SLICES];
    for (slice, answered) in calls.join_all().await {
        if let Some((sent, successes)) = slices.get_mut(slice) {
            *sent += 1;
            *successes += u32::from(answered);
        }
    }
    Ok((index, Caller { key, per_second, slices }))
}
