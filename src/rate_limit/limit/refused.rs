use crate::stripes::Counter;
use std::{fmt, sync::Arc};

/// How many calls a rate limit has refused, or would have in shadow mode. A cheap handle; clones count together.
///
/// Each of a few threads counts on a cache line of its own: refused calls do not wait for each other.
#[derive(Clone, Default)]
pub struct RefusedCalls(Arc<Counter>);

impl RefusedCalls {
    /// The calls so far.
    pub fn get(&self) -> u64 {
        self.0.get()
    }

    pub(in crate::rate_limit) fn count(&self) {
        self.0.add_one();
    }
}

impl fmt::Debug for RefusedCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RefusedCalls").field(&self.get()).finish()
    }
}
