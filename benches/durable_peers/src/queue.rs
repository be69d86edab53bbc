//! The queue: callers that append, and a worker that discards its messages.

use crate::{Load, Result};
use std::{
    convert::Infallible,
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use steadfast::load_level::durable::{AppendError, Delivery, DurableQueue, Message, WorkerReport};
use tokio::{
    runtime::Runtime,
    sync::oneshot,
    task::{JoinHandle, JoinSet},
    time::sleep,
};
use tower::{Service, service_fn};

/// The number of callers. Each appends one message after another; they fill two batches and a third that is being
/// collected.
const CALLERS: u64 = 1536;

/// The worker's prefetch limit.
const CONCURRENCY: usize = 1024;
const PREFETCH: usize = 2048;

/// Whether messages have deduplication keys.
#[derive(Clone, Copy)]
pub enum Keys {
    None,
    Each,
}

pub struct Queue {
    queue: DurableQueue,
    runtime: Runtime,
    load: Load,
    working: Option<Working>,
}

impl Queue {
    pub fn connect(url: &str, runtime: Runtime, load: Load) -> Result<Self> {
        let queue = runtime.block_on(DurableQueue::builder(url, "bench").depth(10 * load.messages).connect())?;
        Ok(Self { queue, runtime, load, working: None })
    }

    /// Appends all messages, and waits for their receipts.
    pub fn produce(&mut self, keys: Keys) -> Result<()> {
        self.runtime.block_on(produce(self.queue.clone(), self.load, keys))
    }

    /// Starts a worker, and waits until it has acknowledged all messages to Redis. [`end`](Self::end) stops the worker.
    pub fn consume(&mut self) -> Result<()> {
        self.working = Some(self.runtime.block_on(consume(self.queue.clone(), self.load))?);
        Ok(())
    }

    pub fn produce_and_consume(&mut self) -> Result<()> {
        let (queue, load) = (&self.queue, self.load);
        let working = self.runtime.block_on(async {
            let both = (produce(queue.clone(), load, Keys::None), consume(queue.clone(), load));
            tokio::try_join!(both.0, both.1).map(|((), working)| working)
        })?;
        self.working = Some(working);
        Ok(())
    }

    /// Stops the worker, which waits for its pending read from Redis.
    pub fn end(&mut self) -> Result<()> {
        match self.working.take() {
            Some(working) => self.runtime.block_on(working.end(self.load)),
            None => Ok(()),
        }
    }
}

async fn produce(queue: DurableQueue, load: Load, keys: Keys) -> Result<()> {
    let next = Arc::new(AtomicU64::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let next = next.clone();
        let mut producer = queue.producer(|message: Message| Ok::<_, Infallible>(message));
        callers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= load.messages {
                    return Ok::<(), AppendError>(());
                }
                let message = Message::new(vec![b'x'; load.payload]);
                let message = match keys {
                    Keys::None => message,
                    Keys::Each => message.once(number.to_be_bytes()),
                };
                producer.call(message).await?;
            }
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    Ok(())
}

/// Starts a worker, and waits until Redis has confirmed all messages. The worker continues to run.
async fn consume(queue: DurableQueue, load: Load) -> Result<Working> {
    let service = service_fn(|_: Delivery| ready(Ok::<(), Infallible>(())));
    let worker = queue.worker(Ok::<Delivery, Infallible>, service).concurrency(CONCURRENCY).prefetch(PREFETCH);
    let worker = worker.build()?;
    let (monitor, (stop, stopped)) = (worker.monitor(), oneshot::channel::<()>());
    // In a task of its own: a runtime thread runs it with less latency than the thread that waits here.
    let task = tokio::spawn(worker.run(async move { drop(stopped.await) }));
    loop {
        let readings = monitor.readings();
        if readings.so_far.succeeded >= load.messages && readings.held == 0 {
            return Ok(Working { stop, task });
        }
        sleep(Duration::from_millis(1)).await;
    }
}

/// A running worker without messages.
struct Working {
    stop: oneshot::Sender<()>,
    task: JoinHandle<WorkerReport>,
}

impl Working {
    async fn end(self, load: Load) -> Result<()> {
        drop(self.stop);
        let report = self.task.await?;
        if report.succeeded != load.messages || report.unconfirmed != 0 {
            return Err(format!("{} messages, and {report:?}", load.messages).into());
        }
        Ok(())
    }
}
