//! Textbook mechanisms, without this crate: the mechanisms behind the published numbers.

use crate::lab::Client;
use rand::{SeedableRng, rngs::Xoshiro256PlusPlus};
use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};
use steadfast::sim::{Call, Failure, Reply};
use tower::{Service, ServiceExt};

/// The random numbers of a mechanism that must behave identically in every run. The run's seed is mixed with a
/// constant, so that the numbers differ from those that the run itself draws.
pub fn random(seed: u64) -> Xoshiro256PlusPlus {
    Xoshiro256PlusPlus::seed_from_u64(seed ^ 0x7465_7874_626f_6f6b)
}

pub type Promise<T, E> = Pin<Box<dyn Future<Output = Result<T, E>>>>;

/// Retries every failure at once, while a bucket allows it.
#[derive(Clone)]
pub struct Retries<S> {
    service: S,
    attempts: u32,
    bucket: Option<Bucket>,
}

impl<S> Retries<S> {
    pub fn new(attempts: u32, service: S) -> Self {
        Self { service, attempts, bucket: None }
    }

    pub fn within(self, bucket: Bucket) -> Self {
        Self { bucket: Some(bucket), ..self }
    }
}

impl<S: Client> Service<Call> for Retries<S> {
    type Response = Reply;
    type Error = S::Error;
    type Future = Promise<Reply, S::Error>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let Self { service, attempts, bucket } = self.clone();
        Box::pin(async move {
            if let Some(bucket) = &bucket {
                bucket.deposit();
            }
            let mut tried = 1;
            loop {
                let result = service.clone().oneshot(call).await;
                if result.is_ok() || tried >= attempts || !bucket.as_ref().is_none_or(Bucket::withdraw) {
                    return result;
                }
                tried += 1;
            }
        })
    }
}

/// Refuses a call beyond a limit on the calls in flight.
#[derive(Clone)]
pub struct Cap<S> {
    service: S,
    limit: usize,
    in_flight: Rc<Cell<usize>>,
}

impl<S> Cap<S> {
    pub fn new(limit: usize, service: S) -> Self {
        Self { service, limit, in_flight: Rc::default() }
    }
}

/// One call in flight.
struct Place(Rc<Cell<usize>>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl<S> Service<Call> for Cap<S>
where
    S: Service<Call, Response = Reply, Error = Failure> + Clone + 'static,
{
    type Response = Reply;
    type Error = Failure;
    type Future = Promise<Reply, Failure>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let Self { service, limit, in_flight } = self.clone();
        Box::pin(async move {
            if in_flight.get() >= limit {
                return Err(Failure::Overloaded);
            }
            in_flight.set(in_flight.get() + 1);
            let _place = Place(in_flight);
            service.oneshot(call).await
        })
    }
}

/// Tokens for retries: each call adds a fraction of a token, each retry takes one token.
#[derive(Clone)]
pub struct Bucket {
    balance: Rc<Cell<f64>>,
    capacity: f64,
    per_call: f64,
}

impl Bucket {
    pub fn new(capacity: f64, per_call: f64, balance: f64) -> Self {
        Self { balance: Rc::new(Cell::new(balance)), capacity, per_call }
    }

    fn deposit(&self) {
        self.balance.set((self.balance.get() + self.per_call).min(self.capacity));
    }

    fn withdraw(&self) -> bool {
        let enough = self.balance.get() >= 1.0;
        if enough {
            self.balance.set(self.balance.get() - 1.0);
        }
        enough
    }
}
