//! The queue in this process: a layer in front of the service. The caller waits until its job is done.

use crate::traffic::{AT_ONCE, Job, Line, Look, work};
use std::{convert::Infallible, time::Duration};
use steadfast::{
    ConfigError, Error,
    load_level::{LoadLevelLayer, Queue},
};
use tower::{BoxError, Layer, ServiceExt, service_fn, util::BoxCloneSyncService};

/// Deeper than the backlog of the burst.
const DEPTH: usize = 100_000;
/// Long, because no interactive user waits for this work. For interactive work, keep the default of a second.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);

pub struct Embedded {
    queue: Queue,
    service: BoxCloneSyncService<Job, (), Error<Infallible>>,
}

impl Embedded {
    pub fn new() -> Result<Self, ConfigError> {
        let queue = Queue::builder(AT_ONCE, DEPTH).max_wait(LONGEST_WAIT).build()?;
        let slow = service_fn(async |job: Job| {
            work(job).await;
            Ok::<_, Infallible>(())
        });
        // One queue for all clones of the service, and for all services of the layer.
        let service = LoadLevelLayer::new(queue.clone()).typed_error().layer(slow);
        Ok(Self { queue, service: BoxCloneSyncService::new(service) })
    }
}

impl Line for Embedded {
    fn bring(&self, job: Job) -> impl Future<Output = Result<(), BoxError>> + Send + 'static {
        let service = self.service.clone();
        async move { service.oneshot(job).await.map_err(BoxError::from) }
    }

    async fn look(&self) -> Result<Look, BoxError> {
        let readings = self.queue.readings();
        Ok(Look { waiting: readings.waiting as u64, drain_time: readings.drain_time })
    }
}
