use crate::clock::Nanos;
use std::{fmt, sync::Arc, time::Duration};

/// The clock for publication times: the system's, or a test's.
///
/// It serves only to record the time of a publication, and to compare that time with the present. All waiting uses
/// tokio's clock, which does not step.
#[derive(Clone)]
pub struct WallClock(Arc<dyn Fn() -> Duration + Send + Sync>);

impl WallClock {
    /// Returns the system's clock.
    #[expect(clippy::disallowed_types, reason = "a publication is dated by the wall clock, and only dated")]
    pub fn system() -> Self {
        use std::time::SystemTime;
        Self::from_fn(|| SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default())
    }

    /// Returns a clock that shows the time since 1970 that the function returns.
    pub fn from_fn(since_1970: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self(Arc::new(since_1970))
    }

    /// Returns the nanoseconds since 1970. They fit until the year 2554.
    pub fn now_nanos(&self) -> u64 {
        self.now().0
    }

    /// Returns the time since 1970.
    pub(super) fn now(&self) -> Nanos {
        Nanos::of((self.0)())
    }
}

impl Default for WallClock {
    fn default() -> Self {
        Self::system()
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WallClock").finish_non_exhaustive()
    }
}
