//! Tower's closest to our stack.

use super::{ATTEMPTS, Inner, LIMIT, Layered, PLENTY, ROOM, SECOND};
use std::{sync::Arc, time::Duration};
use tokio::time::Sleep;
use tower::{
    BoxError, ServiceBuilder,
    retry::{
        Policy,
        backoff::{Backoff, ExponentialBackoffMaker, MakeBackoff},
        budget::{Budget, TpsBudget},
    },
    util::rng::HasherRng,
};

/// The retry is inside the limit, where it clones the least. Outside the limit, the permit would not be held during
/// backoffs.
pub fn tower<S: Inner>(service: S) -> impl Layered {
    ServiceBuilder::new()
        .timeout(LIMIT)
        .load_shed()
        .concurrency_limit(ROOM)
        .retry(TowerRetry::new())
        .timeout(SECOND)
        .service(service)
}

pub fn buffered_tower<S: Inner>(service: S) -> impl Layered {
    ServiceBuilder::new()
        .timeout(LIMIT)
        .retry(TowerRetry::new())
        .load_shed()
        .buffer(ROOM)
        .concurrency_limit(ROOM)
        .rate_limit(PLENTY, SECOND)
        .timeout(SECOND)
        .service(service)
}

/// Retries every error while the budget has a retry, with tower's own budget and backoff.
#[derive(Clone)]
struct TowerRetry {
    left: u32,
    budget: Arc<TpsBudget>,
}

impl TowerRetry {
    fn new() -> Self {
        Self { left: ATTEMPTS - 1, budget: Arc::default() }
    }
}

impl Policy<u64, u64, BoxError> for TowerRetry {
    type Future = Sleep;

    fn retry(&mut self, _request: &mut u64, result: &mut Result<u64, BoxError>) -> Option<Sleep> {
        if result.is_ok() {
            self.budget.deposit();
            return None;
        }
        if self.left == 0 || !self.budget.withdraw() {
            return None;
        }
        self.left -= 1;
        let maker = ExponentialBackoffMaker::new(Duration::from_millis(50), SECOND, 0.99, HasherRng::default());
        Some(maker.ok()?.make_backoff().next_backoff())
    }

    fn clone_request(&mut self, request: &u64) -> Option<u64> {
        Some(*request)
    }
}
