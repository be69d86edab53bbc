//! The callers of the shop. They send at fixed rates, independent of the responses.

use crate::{
    scenario::Scenario,
    shop::{Order, Shop},
};
use rand::{RngExt, rngs::SmallRng};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::Semaphore,
    time::{sleep_until, timeout},
};
use tower::ServiceExt;

/// The number of paying callers, each with its own quota.
const PAYING: u32 = 20;
/// Orders per second of a free caller: three times its quota.
const NOISY: f64 = 15.0;
/// One caller in fifty gives up after this time.
const HURRIED: Duration = Duration::from_millis(250);
/// The most orders in flight. Orders above that are not sent, so that a stalled machine is not overloaded.
const MOST_UNDER_WAY: usize = 1000;

/// Sends orders forever, or until one round of the scenario has ended.
pub async fn run(shop: Shop, scenario: Scenario, mut random: SmallRng, once: bool) {
    let room = Arc::new(Semaphore::new(MOST_UNDER_WAY));
    let mut due = tokio::time::Instant::now();
    while !(once && scenario.is_over()) {
        let paying = scenario.now().offered;
        let per_second = paying + NOISY;
        // Poisson arrivals.
        let gap = -(1.0 - random.random::<f64>()).ln() / per_second;
        due += Duration::from_secs_f64(gap);
        sleep_until(due).await;
        let key = if random.random_bool(paying / per_second) {
            format!("paid-{}", random.random_range(0..PAYING))
        } else {
            "free-ben".to_owned()
        };
        let patience = if random.random_bool(0.02) { HURRIED } else { Duration::from_secs(60) };
        let Ok(place) = room.clone().try_acquire_owned() else { continue };
        let answer = shop.orders.clone().oneshot(Order { key });
        tokio::spawn(async move {
            // The page shows the outcome.
            let _ = timeout(patience, answer).await;
            drop(place);
        });
    }
}
