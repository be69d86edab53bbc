//! The callers of the shop, who send at their rates whatever the answers.

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

/// Paying callers, each with a quota of its own.
const PAYING: u32 = 20;
/// A free caller who sends this many orders per second: three times its quota.
const NOISY: f64 = 15.0;
/// One in fifty callers does not wait for longer than this.
const HURRIED: Duration = Duration::from_millis(250);
/// The most orders under way. What is due beyond that is not sent: a machine that stalls must not be buried.
const MOST_UNDER_WAY: usize = 1000;

/// Sends orders: for ever, or until the scenario was there once.
pub async fn run(shop: Shop, scenario: Scenario, mut random: SmallRng, once: bool) {
    let room = Arc::new(Semaphore::new(MOST_UNDER_WAY));
    let mut due = tokio::time::Instant::now();
    while !(once && scenario.is_over()) {
        let paying = scenario.now().offered;
        let per_second = paying + NOISY;
        // Arrivals that know nothing of each other.
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
            // The page shows how it ended.
            let _ = timeout(patience, answer).await;
            drop(place);
        });
    }
}
