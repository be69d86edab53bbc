use super::{PerRequest, Quantile, TimeoutStage, stage::Of};
use crate::{
    error::{ConfigError, check_duration},
    shell::{KeepError, Leaf, StackLayer},
};
use std::time::Duration;

/// Bounds how long a call may take, as a tower layer. See the [module](super).
///
/// By default the layer keeps the service's error type, which must be `From<Rejection>`.
/// [`typed_error`](StackLayer::typed_error) and [`respond_with`](StackLayer::respond_with) change that.
#[doc(alias("TimeLimiter", "TimeLimiterLayer", "deadline"))]
pub type TimeoutLayer<X = KeepError, P = Duration> = StackLayer<TimeoutStage<Leaf, P>, X>;

impl TimeoutLayer {
    /// Makes a layer that ends each call after `limit`.
    ///
    /// # Errors
    ///
    /// The limit must be longer than zero and at most 366 days.
    pub fn new(limit: Duration) -> Result<Self, ConfigError> {
        check_duration("timeout.limit", limit)?;
        Ok(StackLayer::from_stages(TimeoutStage::new(Of::Call, limit, Leaf::default()), KeepError))
    }
}

impl<F> TimeoutLayer<KeepError, PerRequest<F>> {
    /// Makes a layer whose limit the closure chooses for each request; `None` sets no limit. See [`PerRequest`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use steadfast::timeout::TimeoutLayer;
    ///
    /// let layer = TimeoutLayer::by(|rows: &u32| Some(Duration::from_millis(10 + u64::from(*rows))));
    /// assert_eq!(layer.explain().layers().collect::<Vec<_>>(), [("timeout", "chosen for each request")]);
    /// ```
    pub fn by<Request>(limit: F) -> Self
    where
        F: Fn(&Request) -> Option<Duration>,
    {
        let limit = PerRequest::new(limit);
        StackLayer::from_stages(TimeoutStage::new(Of::Call, limit, Leaf::default()), KeepError)
    }
}

impl TimeoutLayer<KeepError, Quantile> {
    /// Makes a layer that learns its limit from the calls. See [`Quantile`].
    ///
    /// The layer reads the clock when a call begins, and when the call ends.
    pub fn learned(limit: Quantile) -> Self {
        StackLayer::from_stages(TimeoutStage::new(Of::Call, limit, Leaf::default()), KeepError)
    }
}

#[cfg(all(test, not(steadfast_loom)))]
mod tests {
    use super::*;
    use crate::context::{CallContext, tests::READS};
    use std::{convert::Infallible, pin::pin};
    use tokio::task::yield_now;
    use tower::{Layer, Service, service_fn};

    #[tokio::test(start_paused = true)]
    async fn a_call_reads_its_context_once_regardless_of_its_polls() {
        let yields = service_fn(async |polls: u32| {
            for _ in 1..polls {
                yield_now().await;
            }
            Ok::<_, Infallible>(READS.get())
        });
        let mut fixed = TimeoutLayer::new(Duration::from_secs(1)).unwrap().typed_error().layer(yields);
        let mut learned = TimeoutLayer::learned(Quantile::builder(0.1).build().unwrap()).typed_error().layer(yields);
        for polls in 1..4 {
            let before = READS.get();
            assert_eq!(fixed.call(polls).await, Ok(before + 1));
            assert_eq!(learned.call(polls).await, Ok(before + 2));
            assert_eq!(READS.get(), before + 2);
        }
        // Two reads: one for the scope of the context, and one for the call inside it.
        let before = READS.get();
        let mut call = pin!(CallContext::new().scope(fixed.call(1)));
        call.as_mut().await.unwrap();
        assert_eq!(READS.get(), before + 2, "one for the scope itself");
    }
}
