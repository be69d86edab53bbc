//! Messages per second through a durable queue, beside plain `XADD` by `redis-benchmark`: `cargo bench --bench durable`.
//!
//! Starts a `redis-server` of its own. What is printed depends on the machine, which the server shares with all else.

#[path = "../tests/support/redis.rs"]
#[allow(dead_code, reason = "a part of it is used")]
mod server;

use server::RedisServer;
use std::{
    convert::Infallible,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use steadfast::load_level::durable::{Delivery, DurableQueue};
use tokio::time::{Instant, sleep};
use tower::{Service, service_fn};

const PAYLOAD: usize = 100;
const MESSAGES: u64 = 500_000;
const CALLERS: u64 = 32;
/// Appends that one caller has on the way.
const WINDOW: usize = 256;

fn main() {
    if let Some(missing) = server::missing() {
        return println!("{missing}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime can be made").block_on(measure());
}

async fn measure() {
    let server = RedisServer::start().await;
    plain(&server, 1);
    plain(&server, 64);
    plain(&server, 512);
    server.command(&["FLUSHALL"]).await;

    let queue = DurableQueue::builder(server.url(), "bench").depth(10 * MESSAGES).connect().await;
    let queue = queue.expect("a server that is right");
    let took = append_all(&queue).await;
    report("appended", took);
    let took = work_all(&queue).await;
    report("worked on", took);
    let began = Instant::now();
    tokio::join!(append_all(&queue), work_all(&queue));
    report("appended and worked on at the same time", Instant::now() - began);
}

fn report(what: &str, took: Duration) {
    println!("{what}: {:.0} messages per second", MESSAGES as f64 / took.as_secs_f64());
}

/// What the server can do with the same payload and nothing around it.
fn plain(server: &RedisServer, pipeline: u32) {
    let (port, pipeline) = (server.port().to_string(), pipeline.to_string());
    let arguments = ["-p", &port, "-n", "500000", "-c", "50", "-P", &pipeline, "-q"];
    let payload = "x".repeat(PAYLOAD);
    let output = Command::new("redis-benchmark").args(arguments).args(["XADD", "plain", "*", "p", &payload]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let rate = text.split(['\r', '\n']).rfind(|line| line.contains("requests per second")).unwrap_or("no figure");
    let rate = rate.split_once(": ").map_or(rate, |(_, rate)| rate);
    println!("redis-benchmark XADD, {pipeline} in a pipeline: {rate}");
}

async fn append_all(queue: &DurableQueue) -> Duration {
    let began = Instant::now();
    let callers = (0..CALLERS).map(|_| {
        let mut producer = queue.producer(|payload: Vec<u8>| Ok::<_, Infallible>(payload));
        tokio::spawn(async move {
            let mut left = MESSAGES / CALLERS;
            while left > 0 {
                let window = WINDOW.min(left as usize);
                let appends: Vec<_> = (0..window).map(|_| producer.call(vec![b'x'; PAYLOAD])).collect();
                for append in appends {
                    append.await.expect("room");
                }
                left -= window as u64;
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.expect("it does not panic");
    }
    Instant::now() - began
}

async fn work_all(queue: &DurableQueue) -> Duration {
    let began = Instant::now();
    let done = Arc::new(AtomicU64::new(0));
    let counter = done.clone();
    let service = service_fn(move |_: Delivery| {
        counter.fetch_add(1, Ordering::Relaxed);
        std::future::ready(Ok::<(), Infallible>(()))
    });
    let worker = queue.worker(Ok::<Delivery, Infallible>, service).concurrency(1024).prefetch(2048);
    let worker = worker.build().expect("settings that can work");
    let all = async move {
        while done.load(Ordering::Relaxed) < MESSAGES {
            sleep(Duration::from_millis(1)).await;
        }
    };
    let report = tokio::spawn(worker.run(all)).await.expect("it does not panic");
    assert_eq!(report.succeeded, MESSAGES);
    Instant::now() - began
}
