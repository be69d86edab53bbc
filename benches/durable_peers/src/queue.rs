//! The queue: callers that append, and a worker that does nothing with what it gets.

use crate::{Load, Result};
use std::{
    convert::Infallible,
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use steadfast::load_level::durable::{AppendError, Delivery, DurableQueue, Message};
use tokio::{runtime::Runtime, sync::Notify, task::JoinSet};
use tower::{Service, service_fn};

/// So many callers append, each one message after the other: enough for two batches and a third that is being made.
const CALLERS: u64 = 1536;

/// What the worker has at most.
const CONCURRENCY: usize = 1024;
const PREFETCH: usize = 2048;

/// Whether messages have keys for deduplication.
#[derive(Clone, Copy)]
pub enum Keys {
    None,
    Each,
}

pub struct Queue {
    queue: DurableQueue,
    runtime: Runtime,
    load: Load,
}

impl Queue {
    pub fn connect(url: &str, runtime: Runtime, load: Load) -> Result<Self> {
        let queue = runtime.block_on(DurableQueue::builder(url, "bench").depth(10 * load.messages).connect())?;
        Ok(Self { queue, runtime, load })
    }

    /// Until all have their receipts.
    pub fn produce(&mut self, keys: Keys) -> Result<()> {
        self.runtime.block_on(produce(self.queue.clone(), self.load, keys))
    }

    /// Until the worker has told Redis of all, and has ended.
    pub fn consume(&mut self) -> Result<()> {
        self.runtime.block_on(consume(self.queue.clone(), self.load))
    }

    pub fn produce_and_consume(&mut self) -> Result<()> {
        let (queue, load) = (&self.queue, self.load);
        self.runtime.block_on(async {
            let both = (produce(queue.clone(), load, Keys::None), consume(queue.clone(), load));
            tokio::try_join!(both.0, both.1).map(drop)
        })
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

async fn consume(queue: DurableQueue, load: Load) -> Result<()> {
    let (done, all) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
    let is_over = all.clone();
    let service = service_fn(move |_: Delivery| {
        if done.fetch_add(1, Ordering::Relaxed) + 1 == load.messages {
            all.notify_one();
        }
        ready(Ok::<(), Infallible>(()))
    });
    let worker = queue.worker(Ok::<Delivery, Infallible>, service).concurrency(CONCURRENCY).prefetch(PREFETCH);
    let worker = worker.build()?;
    // In a task of its own: a thread of the runtime is nearer to it than the one that waits here.
    let report = tokio::spawn(worker.run(async move { is_over.notified().await })).await?;
    if report.succeeded != load.messages || report.unconfirmed != 0 {
        return Err(format!("{} messages, and {report:?}", load.messages).into());
    }
    Ok(())
}
