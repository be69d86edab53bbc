//! Properties of the types, which the compiler checks.

use crate::{
    controls::Controls,
    fixture::{AppError, Fault, Fixture},
    subject::{Make, Room, Subject},
};
use futures::future::{Ready, ready};
use std::{
    cell::Cell,
    fmt::Debug,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};
use steadfast::{
    CallContext, ConfigError, Error, Random, Rejection,
    circuit_breaker::{Breaker, CircuitBreakerLayer},
    load_shed::{Limiter, LoadShedLayer},
    rate_limit::{RateLimitLayer, TokenBucket},
    retry::{Retry, RetryBudget, RetryLayer},
    timeout::TimeoutLayer,
};
use tokio::task::{LocalSet, spawn_local};
use tower::{Layer, Service};

/// A service that is neither `Send` nor `'static`, for requests that are not `Send`.
#[derive(Clone)]
pub struct Local<'a> {
    calls: &'a Cell<u32>,
    answer: Rc<str>,
}

impl Service<Rc<str>> for Local<'_> {
    type Response = Rc<str>;
    type Error = Fault;
    type Future = Ready<Result<Rc<str>, Fault>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Rc<str>) -> Self::Future {
        self.calls.set(self.calls.get() + 1);
        assert_eq!(&*request, "question");
        ready(Ok(self.answer.clone()))
    }
}

pub async fn a_service_that_is_neither_send_nor_static_works(make: Make) {
    let subject = make(Room::Roomy);
    let calls = Cell::new(0);
    let service = Local { calls: &calls, answer: "answer".into() };
    assert_eq!(subject.call_local(service, "question".into()).await, Ok("answer".into()));
    assert_eq!(calls.get(), 1);
}

pub async fn a_service_that_is_not_send_works_on_a_local_set(make: Make) {
    let subject: Subject = make(Room::Roomy);
    let calls: &'static Cell<u32> = Box::leak(Box::default());
    let tasks = LocalSet::new();
    tasks
        .run_until(async {
            let service = Local { calls, answer: "answer".into() };
            let call = spawn_local(subject.call_local(service, "question".into()));
            assert_eq!(call.await.unwrap(), Ok("answer".into()));
        })
        .await;
    assert_eq!(calls.get(), 1);
}

fn is_shared_and_cloned<T: Clone + Send + Sync + Debug + 'static>(_: &T) {}

/// Checks that a layer has the bounds that axum requires, and its service those that axum and tonic require.
fn serves<L>(layer: L)
where
    L: Layer<Fixture<AppError>, Service: Service<u32, Response = u32, Future: Send> + Debug + Clone + Send + Sync>,
    L: Clone + Send + Sync + Debug + 'static,
{
    let service = layer.layer(Fixture::new(&Controls::new()));
    is_shared_and_cloned(&layer);
    drop(service.clone());
}

#[tokio::test(start_paused = true)]
async fn layers_services_and_their_futures_can_be_sent_and_shared() {
    let limiter = Limiter::fixed(1).unwrap();
    let breaker = Breaker::builder().build().unwrap();
    let bucket = TokenBucket::builder(1, Duration::from_secs(1)).build().unwrap();

    serves(TimeoutLayer::new(Duration::from_secs(1)).unwrap());
    serves(RetryLayer::new(Retry::new(3)).unwrap());
    serves(CircuitBreakerLayer::new(breaker.clone()));
    serves(LoadShedLayer::new(limiter.clone()));
    serves(RateLimitLayer::new(bucket.clone()));

    let client = steadfast::client()
        .timeout(Duration::from_secs(10))
        .retry(Retry::new(3))
        .circuit_breaker(breaker)
        .rate_limit(bucket.clone())
        .load_shed(limiter.clone())
        .attempt_timeout(Duration::from_secs(1));
    is_shared_and_cloned(&client);
    serves(client.clone().layer().unwrap());
    serves(client.clone().keep_error().layer().unwrap());
    serves(client.respond_with(|_: Rejection| 503).layer().unwrap());

    let server = steadfast::server().rate_limit(bucket).load_shed(limiter).timeout(Duration::from_secs(1));
    is_shared_and_cloned(&server);
    serves(server.clone().layer().unwrap());
    serves(server.clone().keep_error().layer().unwrap());
    serves(server.respond_with(|_: Rejection| 503).layer().unwrap());
}

#[tokio::test(start_paused = true)]
async fn handles_and_errors_can_be_sent_and_shared() {
    is_shared_and_cloned(&Limiter::fixed(1).unwrap());
    is_shared_and_cloned(&Breaker::builder().build().unwrap());
    is_shared_and_cloned(&TokenBucket::builder(1, Duration::from_secs(1)).build().unwrap());
    is_shared_and_cloned(&RetryBudget::builder().build().unwrap());
    is_shared_and_cloned(&Random::seeded(1));
    is_shared_and_cloned(&CallContext::new());

    fn is_an_error<T: std::error::Error + Clone + Send + Sync + 'static>() {}
    is_an_error::<Rejection>();
    is_an_error::<ConfigError>();
    is_an_error::<Error<Fault>>();
}
