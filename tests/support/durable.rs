//! A durable queue, workers that record their calls, and helpers that wait for a condition.

use crate::server::RedisServer;
use std::{
    collections::HashMap,
    convert::Infallible,
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};
use steadfast::{
    load_level::durable::{
        Delivery, DurableQueue, DurableQueueBuilder, Message, QueueReadings, Receipt, Worker, WorkerBuilder,
        WorkerMonitor, WorkerReport,
    },
    retry::{Backoff, Jitter},
};
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, sleep},
};
use tower::{Service, ServiceExt};

pub fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub fn builder(server: &RedisServer) -> DurableQueueBuilder {
    DurableQueue::builder(server.url(), "orders")
}

pub async fn queue() -> (RedisServer, DurableQueue) {
    let server = RedisServer::start().await;
    let queue = builder(&server).connect().await.expect("a working server");
    (server, queue)
}

pub fn encode(message: Message) -> Result<Message, Infallible> {
    Ok(message)
}

pub async fn append(queue: &DurableQueue, text: &str) -> Receipt {
    let producer = queue.producer(encode);
    producer.oneshot(Message::new(text)).await.expect("a queue with room on a working server")
}

/// The deliveries that a worker was called with, and their times.
#[derive(Clone, Default)]
pub struct Calls(Arc<Mutex<Vec<(Delivery, Instant)>>>);

impl Calls {
    pub fn note(&self, delivery: &Delivery) {
        self.0.lock().expect("an unpoisoned lock").push((delivery.clone(), Instant::now()));
    }

    pub fn all(&self) -> Vec<Delivery> {
        self.0.lock().expect("an unpoisoned lock").iter().map(|(delivery, _)| delivery.clone()).collect()
    }

    pub fn times(&self) -> Vec<Instant> {
        self.0.lock().expect("an unpoisoned lock").iter().map(|(_, at)| *at).collect()
    }

    pub fn texts(&self) -> Vec<String> {
        self.all().into_iter().map(|delivery| String::from_utf8(delivery.payload).expect("text")).collect()
    }

    pub fn count(&self) -> usize {
        self.0.lock().expect("an unpoisoned lock").len()
    }

    /// The number of deliveries of each message.
    pub fn by_text(&self) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for text in self.texts() {
            *counts.entry(text).or_default() += 1;
        }
        counts
    }
}

pub type Decode = fn(Delivery) -> Result<Delivery, Infallible>;

pub fn decode(delivery: Delivery) -> Result<Delivery, Infallible> {
    Ok(delivery)
}

/// A worker with short times, for short tests.
pub fn worker<S>(queue: &DurableQueue, service: S) -> WorkerBuilder<Decode, S> {
    let backoff = Backoff::exponential(millis(100), millis(800)).jitter(Jitter::None);
    queue.worker(decode as Decode, service).backoff(backoff).takeover_after(millis(800))
}

/// A worker that runs until it is stopped, or aborted like a process that dies.
pub struct Running {
    pub monitor: WorkerMonitor,
    stop: oneshot::Sender<()>,
    task: JoinHandle<WorkerReport>,
}

impl Running {
    pub fn start<S>(worker: WorkerBuilder<Decode, S>) -> Self
    where
        S: Service<Delivery> + Clone + Send + 'static,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        S::Future: Send,
    {
        Self::start_built(worker.build().expect("valid settings"))
    }

    pub fn start_built<D, T, E, S>(worker: Worker<D, S>) -> Self
    where
        D: Fn(Delivery) -> Result<T, E> + Send + Sync + 'static,
        T: Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
        S: Service<T> + Clone + Send + 'static,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        S::Future: Send,
    {
        let monitor = worker.monitor();
        let (stop, stopped) = oneshot::channel();
        let stopped = async {
            let _ = stopped.await;
        };
        Self { monitor, stop, task: tokio::spawn(worker.run(stopped)) }
    }

    pub async fn stop(self) -> WorkerReport {
        let _ = self.stop.send(());
        self.task.await.expect("a worker does not panic")
    }

    /// Aborts the worker, as if its process had died.
    pub async fn die(self) {
        self.task.abort();
        let ended = self.task.await;
        assert!(ended.is_err_and(|error| error.is_cancelled()), "it was running");
    }
}

/// Waits until a condition is true, for up to 20 s. Returns how long that took.
pub async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !is().await {
        assert!(Instant::now() < began + Duration::from_secs(20), "not so in time: {what}");
        sleep(millis(5)).await;
    }
    Instant::now() - began
}

pub async fn readings(queue: &DurableQueue) -> QueueReadings {
    queue.readings().await.expect("a server that answers")
}

/// Waits until the queue is empty and `acknowledged` messages were acknowledged.
pub async fn until_done(queue: &DurableQueue, acknowledged: u64) {
    until("all is done", async || {
        let Ok(readings) = queue.readings().await else { return false };
        readings.backlog() == 0 && readings.acknowledged >= acknowledged
    })
    .await;
}

/// A service that records its calls and then runs `then`.
pub fn noting<F, Fut, E>(
    calls: &Calls,
    then: F,
) -> impl Service<Delivery, Response = (), Error = E, Future: Send> + Clone + Send + 'static
where
    F: Fn(Delivery) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<(), E>> + Send + 'static,
    E: Send + 'static,
{
    let calls = calls.clone();
    tower::service_fn(move |delivery: Delivery| {
        calls.note(&delivery);
        then(delivery)
    })
}

pub async fn succeed(_: Delivery) -> Result<(), Infallible> {
    Ok(())
}
