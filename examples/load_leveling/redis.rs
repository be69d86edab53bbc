//! The queue in Redis. The caller leaves once Redis has stored the job; a worker does it, in this or another process.

use crate::traffic::{AT_ONCE, Job, Line, Look, work};
use std::{convert::Infallible, io, process};
use steadfast::load_level::durable::{Delivery, DurableQueue, Message, Producer, WorkerReport};
use tokio::task::JoinHandle;
use tower::{BoxError, ServiceExt, service_fn};

type Encode = fn(Job) -> Result<Message, Infallible>;

pub struct InRedis {
    queue: DurableQueue,
    producer: Producer<Encode>,
    worker: JoinHandle<WorkerReport>,
}

impl InRedis {
    pub async fn new(url: &str) -> Result<Self, BoxError> {
        // Each run has a queue of its own, whose keys remain. In a real service all processes use one name.
        let name = format!("load-leveling-{}", process::id());
        let queue = DurableQueue::builder(url, &name).connect().await?;
        let encode: Encode = |Job(number)| Ok(Message::new(number.to_le_bytes()));
        let producer = queue.producer(encode);
        let decode = |delivery: Delivery| {
            let bytes = delivery.payload.try_into();
            bytes.map(|bytes| Job(u64::from_le_bytes(bytes))).map_err(|_| io::Error::other("not eight bytes"))
        };
        let slow = service_fn(async |job: Job| {
            work(job).await;
            Ok::<_, Infallible>(())
        });
        let worker = queue.worker(decode, slow).concurrency(AT_ONCE).build()?;
        // Runs until this process ends. For a graceful shutdown, pass a future that resolves at the shutdown signal.
        let worker = tokio::spawn(worker.run(std::future::pending()));
        Ok(Self { queue, producer, worker })
    }
}

impl Drop for InRedis {
    fn drop(&mut self) {
        self.worker.abort();
    }
}

impl Line for InRedis {
    fn bring(&self, job: Job) -> impl Future<Output = Result<(), BoxError>> + Send + 'static {
        let producer = self.producer.clone();
        async move { producer.oneshot(job).await.map(|_| ()).map_err(BoxError::from) }
    }

    async fn look(&self) -> Result<Look, BoxError> {
        let readings = self.queue.readings().await?;
        Ok(Look { waiting: readings.waiting, drain_time: readings.drain_time })
    }
}
