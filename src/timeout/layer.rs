use super::{PerRequest, Quantile, TimeoutStage, stage::Of};
use crate::{
    error::{ConfigError, check_duration},
    shell::{KeepError, Leaf, StackLayer},
};
use std::time::Duration;

/// Bounds how long a call may take, as a tower layer. See the [module](super).
///
/// The service's error type is kept and must be `From<Rejection>`; [`typed_error`](StackLayer::typed_error) and
/// [`respond_with`](StackLayer::respond_with) choose otherwise.
pub type TimeoutLayer<X = KeepError, P = Duration> = StackLayer<TimeoutStage<Leaf, P>, X>;

impl TimeoutLayer {
    /// A layer that gives each call this long.
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
    /// A layer that gives each call the time that this closure chooses for its request; `None` for no limit. See
    /// [`PerRequest`].
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
    /// A layer that gives each call the time that all but a share of the calls take. It reads the clock where a call
    /// begins and where it ends.
    pub fn learned(limit: Quantile) -> Self {
        StackLayer::from_stages(TimeoutStage::new(Of::Call, limit, Leaf::default()), KeepError)
    }
}
