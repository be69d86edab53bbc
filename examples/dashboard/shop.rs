//! The shop: a server stack, its handler, and the client stack for payments.

use crate::scenario::Scenario;
use rand::{Rng, RngExt, SeedableRng, rngs::SmallRng};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use steadfast::{
    Error, Outcome,
    circuit_breaker::Breaker,
    load_level::Queue,
    load_shed::Limiter,
    rate_limit::{Keyed, Quota, RateLimit, TierBy},
    retry::Retry,
    stack::live::Control,
    telemetry::Metrics,
};
use thiserror::Error as ThisError;
use tokio::time::sleep;
use tower::{BoxError, Layer, service_fn, util::BoxCloneSyncService};

/// The time of the handler, without the payment.
const WORK: Duration = Duration::from_millis(20);
/// The quotas per key. The keys of paying callers begin with `paid-`.
const FREE: Quota = Quota::new(5, Duration::from_secs(1)).with_burst(10);
const PAID: Quota = Quota::new(50, Duration::from_secs(1)).with_burst(50);

/// An order, with the key of its caller.
#[derive(Clone)]
pub struct Order {
    pub key: String,
}

/// Why an order failed.
#[derive(Clone, Copy, Debug, ThisError)]
pub enum Failed {
    #[error("the payment failed")]
    Payment,
    #[error("payments are not available now")]
    Unavailable,
}

pub type Orders = BoxCloneSyncService<Order, (), Error<Failed>>;
type Payments = BoxCloneSyncService<(), (), Error<Failed>>;
type Quotas = Keyed<str, TierBy<fn(&str) -> usize>>;

pub struct Shop {
    pub orders: Orders,
    pub orders_control: Control,
    pub payments_control: Control,
}

impl Shop {
    pub fn open(metrics: &Metrics, scenario: Scenario, random: SmallRng) -> Result<Self, BoxError> {
        let (payments, payments_control) = payments(metrics, Dependency::new(scenario, random))?;
        let quotas: Quotas = Keyed::builder(10_000, FREE).tiers([PAID], tier_of as fn(&str) -> usize).build()?;
        let (layer, orders_control) = steadfast::server()
            .observe("orders", metrics.clone())
            .rate_limit(RateLimit::by_key_ref(quotas, |order: &Order| order.key.as_str()).named("by_key"))
            // Calls in service, waiting calls, and a few more, so that the queue decides which calls to reject.
            .load_shed(Limiter::fixed(56)?)
            // 16 at 80 ms each are 200 orders per second.
            .load_level(Queue::builder(16, 36).max_wait(Duration::from_millis(300)).build()?)
            .timeout(Duration::from_millis(800))
            // An order that cannot be paid is a failure of this stack, also if a layer of the other stack rejects it.
            .classify(|result: Result<&(), &Failed>| result.map_or(Outcome::Failure, |()| Outcome::Success))
            .live()?;
        let orders = layer.layer(service_fn(move |_: Order| take(payments.clone())));
        Ok(Self { orders: BoxCloneSyncService::new(orders), orders_control, payments_control })
    }
}

fn tier_of(key: &str) -> usize {
    usize::from(key.starts_with("paid-"))
}

/// Processes an order.
async fn take(payments: Payments) -> Result<(), Failed> {
    sleep(WORK).await;
    tower::ServiceExt::oneshot(payments, ()).await.map_err(|error| match error {
        Error::Service(failed) => failed,
        Error::Rejected(_) => Failed::Unavailable,
    })
}

fn payments(metrics: &Metrics, dependency: Dependency) -> Result<(Payments, Control), BoxError> {
    let breaker = Breaker::builder()
        .failure_rate(0.6, Duration::from_secs(5))
        .minimum_calls(20)
        .open_for(Duration::from_secs(4))
        .max_open_for(Duration::from_secs(8))
        .build()?;
    let (layer, control) = steadfast::client()
        .observe("payments", metrics.clone())
        .timeout(Duration::from_millis(700))
        .retry(Retry::new(3))
        .circuit_breaker(breaker)
        .attempt_timeout(Duration::from_millis(250))
        .live()?;
    let service = layer.layer(service_fn(move |()| {
        let (latency, fails) = dependency.draw();
        async move {
            sleep(latency).await;
            if fails { Err(Failed::Payment) } else { Ok(()) }
        }
    }));
    Ok((BoxCloneSyncService::new(service), control))
}

/// A simulated remote service, with the latency and failures of the phase.
#[derive(Clone)]
struct Dependency {
    scenario: Scenario,
    random: Arc<Mutex<SmallRng>>,
}

impl Dependency {
    fn new(scenario: Scenario, mut random: SmallRng) -> Self {
        let random = Arc::new(Mutex::new(SmallRng::seed_from_u64(random.next_u64())));
        Self { scenario, random }
    }

    /// Draws the latency of the next payment, and whether it fails.
    fn draw(&self) -> (Duration, bool) {
        let phase = self.scenario.now();
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        // The median is the latency of the phase. One payment in ten takes more than twice as long.
        let slowness = 0.5 + random.random::<f64>() * random.random::<f64>() * 2.0 + random.random::<f64>().powi(4);
        (phase.latency.mul_f64(slowness), random.random_bool(phase.failing))
    }
}
