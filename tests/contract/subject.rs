//! The subjects of the contract: each layer used alone, and both stacks.

use crate::{
    any_layer::{AnyLayer, Handle, Stages},
    below::{Below, Inner},
    clock::OnTime,
    controls::{Act, Controls},
    fixture::{AppError, Fault},
    resources::{Resources, Spent},
    task::{Task, pass},
    types::Local,
};
use futures::future::LocalBoxFuture;
use std::{rc::Rc, time::Duration};
use steadfast::{
    Error, Random, Rejection,
    circuit_breaker::{Breaker, CircuitBreakerLayer},
    load_level::{LoadLevelLayer, Queue},
    load_shed::{Limiter, LoadShedLayer},
    rate_limit::{RateLimit, RateLimitLayer, TokenBucket},
    retry::{Backoff, Jitter, Retry, RetryBudget, RetryLayer},
    shell::{StackLayer, TypedError},
    timeout::{Quantile, TimeoutLayer},
};
use tower::{BoxError, ServiceExt};

mod one_key;
mod seams;

pub use one_key::circuit_breaker_of_one_key;
pub use seams::{client_of_own_stages, client_that_is_observed, server_that_is_observed};

/// Makes a subject, with state of its own.
pub type Make = fn(Room) -> Subject;

/// The capacity of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// So little that the loss of one place shows: [`PLACES`] of everything, and a half-open circuit breaker.
    Tight,
    /// Exactly [`MANY`] calls.
    Roomy,
}

/// The places of a tight subject: calls in flight, probes, tokens, retries.
pub const PLACES: usize = 4;
/// The calls that a roomy subject admits at once.
pub const MANY: usize = 1000;
/// The timeout of a call, or of an attempt.
pub const LIMIT: Duration = Duration::from_secs(10);
/// The timeout of a client's call, with all attempts and waits.
pub const WHOLE_LIMIT: Duration = Duration::from_secs(60);
/// The number of attempts of a call.
pub const ATTEMPTS: u32 = 3;
/// The wait of a call before each retry.
pub const BACKOFF: Duration = Duration::from_millis(10);
/// The open time of a circuit. Less than the backoff, so that a retry finds it half-open.
pub const OPEN_FOR: Duration = Duration::from_millis(5);
/// The time in which a bucket refills one token. A test gets a new token only if it advances the clock by a day.
pub const MINTING_TIME: Duration = Duration::from_secs(24 * 60 * 60);
/// The deposit of a call into the retry budget.
const RATIO: f64 = 0.25;

/// One layer, or one stack of layers, under test.
pub struct Subject {
    layer: Box<dyn AnyLayer>,
    pub resources: Resources,
    /// The time after which a call of a hanging service ends.
    pub gives_up_after: Option<Duration>,
}

pub fn timeout(_: Room) -> Subject {
    let layer = TimeoutLayer::new(LIMIT).unwrap().typed_error();
    Subject::new(layer, Resources::default(), Some(LIMIT))
}

/// A learned timeout whose lower and upper bounds are both [`LIMIT`], so that it stays at [`LIMIT`].
pub fn timeout_that_learns(_: Room) -> Subject {
    let limit = Quantile::builder(0.1).between(LIMIT, LIMIT).build().unwrap();
    Subject::new(TimeoutLayer::learned(limit).typed_error(), Resources::default(), Some(LIMIT))
}

pub fn retry(_: Room) -> Subject {
    let budget = a_budget();
    let layer = RetryLayer::new(a_retry(&budget)).unwrap().typed_error();
    Subject::new(layer, Resources { budget: Some(budget), ..Resources::default() }, None)
}

pub fn circuit_breaker(room: Room) -> Subject {
    of_breaker(a_breaker(room))
}

/// A breaker that times each call. No call is slow enough to count.
pub fn circuit_breaker_that_times(room: Room) -> Subject {
    let breaker = a_breaker(room);
    breaker.configure(breaker.configuration().slow_call_rate(1.0, 365 * MINTING_TIME)).unwrap();
    of_breaker(breaker)
}

fn of_breaker(breaker: Breaker) -> Subject {
    let layer = CircuitBreakerLayer::new(breaker.clone()).typed_error();
    Subject::new(layer, Resources { breaker: Some(breaker), ..Resources::default() }, None)
}

pub fn load_shed(room: Room) -> Subject {
    let limiter = a_limiter(room);
    let layer = LoadShedLayer::new(limiter.clone()).typed_error();
    Subject::new(layer, Resources { limiter: Some(limiter), ..Resources::default() }, None)
}

/// A queue in which one call may wait.
pub fn load_level(room: Room) -> Subject {
    let queue = a_queue(room, 1);
    let layer = LoadLevelLayer::new(queue.clone()).typed_error();
    Subject::new(layer, Resources { queue: Some(queue), line: 1, ..Resources::default() }, None)
}

/// A queue whose depth and waits have no practical bound.
pub fn load_level_that_waits(room: Room) -> Subject {
    let queue = a_queue(room, usize::MAX);
    let layer = LoadLevelLayer::new(queue.clone()).typed_error();
    Subject::new(layer, Resources { queue: Some(queue), ..Resources::default() }, None)
}

pub fn rate_limit(room: Room) -> Subject {
    let bucket = a_bucket(room);
    let layer = RateLimitLayer::new(bucket.clone()).typed_error();
    Subject::new(layer, Resources { bucket: Some(bucket), ..Resources::default() }, None)
}

/// A rate limit at which calls wait for a token without a practical bound.
pub fn rate_limit_that_waits(room: Room) -> Subject {
    let bucket = TokenBucket::with_quota(a_bucket(room).quota()).max_wait(365 * MINTING_TIME).build().unwrap();
    let layer = RateLimitLayer::new(RateLimit::new(bucket.clone()).wait()).typed_error();
    Subject::new(layer, Resources { bucket: Some(bucket), ..Resources::default() }, None)
}

/// A rate limit at which calls would wait, but at most a second.
pub fn rate_limit_that_waits_a_little(room: Room) -> Subject {
    let bucket = a_bucket(room);
    let layer = RateLimitLayer::new(RateLimit::new(bucket.clone()).wait()).typed_error();
    Subject::new(layer, Resources { bucket: Some(bucket), ..Resources::default() }, None)
}

/// Two equal buckets, of which [`Resources`] holds the second one. If the first one lost a token, it would refuse a
/// call for which the second one still has a token.
pub fn rate_limit_of_two(room: Room) -> Subject {
    let bucket = a_bucket(room);
    let limit = RateLimit::new(a_bucket(room)).and(RateLimit::new(bucket.clone()));
    let layer = RateLimitLayer::new(limit).typed_error();
    Subject::new(layer, Resources { bucket: Some(bucket), ..Resources::default() }, None)
}

pub fn client(room: Room) -> Subject {
    let (limiter, breaker, bucket, budget) = (a_limiter(room), a_breaker(room), a_bucket(room), a_budget());
    let layer = steadfast::client()
        .timeout(WHOLE_LIMIT)
        .retry(a_retry(&budget))
        .circuit_breaker(breaker.clone())
        .rate_limit(bucket.clone())
        .load_shed(limiter.clone())
        .attempt_timeout(LIMIT)
        .layer()
        .unwrap();
    let resources = Resources {
        limiter: Some(limiter),
        breaker: Some(breaker),
        bucket: Some(bucket),
        budget: Some(budget),
        ..Resources::default()
    };
    Subject::new(layer, resources, Some(LIMIT * ATTEMPTS + BACKOFF * (ATTEMPTS - 1)))
}

/// A client whose only timeout is that of the whole call.
pub fn client_without_attempt_timeout(room: Room) -> Subject {
    let (limiter, breaker, bucket, budget) = (a_limiter(room), a_breaker(room), a_bucket(room), a_budget());
    let layer = steadfast::client()
        .timeout(LIMIT)
        .retry(a_retry(&budget))
        .circuit_breaker(breaker.clone())
        .rate_limit(bucket.clone())
        .load_shed(limiter.clone())
        .layer()
        .unwrap();
    let resources = Resources {
        limiter: Some(limiter),
        breaker: Some(breaker),
        bucket: Some(bucket),
        budget: Some(budget),
        ..Resources::default()
    };
    Subject::new(layer, resources, Some(LIMIT))
}

pub fn server(room: Room) -> Subject {
    let (limiter, bucket) = (a_limiter(room), a_bucket(room));
    let layer =
        steadfast::server().rate_limit(bucket.clone()).load_shed(limiter.clone()).timeout(LIMIT).layer().unwrap();
    let resources = Resources { limiter: Some(limiter), bucket: Some(bucket), ..Resources::default() };
    Subject::new(layer, resources, Some(LIMIT))
}

pub fn server_that_levels(room: Room) -> Subject {
    let (bucket, queue) = (a_bucket(room), a_queue(room, 1));
    // Room for the calls in the service, and for the waiting one.
    let limiter = Limiter::fixed(queue.concurrency() + 1).unwrap();
    let layer = steadfast::server()
        .rate_limit(bucket.clone())
        .load_shed(limiter.clone())
        .load_level(queue.clone())
        .timeout(LIMIT)
        .layer()
        .unwrap();
    let resources =
        Resources { limiter: Some(limiter), bucket: Some(bucket), queue: Some(queue), line: 1, ..Resources::default() };
    Subject::new(layer, resources, Some(LIMIT))
}

/// A server whose calls wait without a practical bound, but run for at most [`LIMIT`].
pub fn server_that_waits(room: Room) -> Subject {
    let queue = a_queue(room, usize::MAX);
    let layer = steadfast::server().load_level(queue.clone()).timeout(LIMIT).layer().unwrap();
    Subject::new(layer, Resources { queue: Some(queue), ..Resources::default() }, Some(LIMIT))
}

fn a_queue(room: Room, depth: usize) -> Queue {
    let concurrency = if room == Room::Tight { PLACES } else { MANY };
    Queue::builder(concurrency, depth).max_wait(365 * MINTING_TIME).build().unwrap()
}

fn a_limiter(room: Room) -> Limiter {
    Limiter::fixed(if room == Room::Tight { PLACES } else { MANY }).unwrap()
}

fn a_bucket(room: Room) -> TokenBucket {
    let burst = if room == Room::Tight { PLACES } else { MANY };
    TokenBucket::builder(1, MINTING_TIME).burst(burst as u64).build().unwrap()
}

/// A tight breaker is open for [`OPEN_FOR`]. A roomy one is closed until [`MANY`] calls in a row fail.
fn a_breaker(room: Room) -> Breaker {
    let most = if room == Room::Tight { 1 } else { MANY as u32 };
    let breaker = Breaker::builder()
        .consecutive_failures(most)
        .open_for(OPEN_FOR)
        .max_open_for(OPEN_FOR)
        .probes(PLACES as u32)
        .probe_timeout(365 * MINTING_TIME)
        .build()
        .unwrap();
    if room == Room::Tight {
        breaker.try_acquire().unwrap().failure();
    }
    breaker
}

/// A budget at its cap.
fn a_budget() -> RetryBudget {
    let budget = RetryBudget::builder().ratio(RATIO).cap(PLACES as u32).no_floor().random(Random::seeded(1));
    let budget = budget.build().unwrap();
    (0..PLACES * 4).for_each(|_| budget.deposit());
    budget
}

fn a_retry(budget: &RetryBudget) -> Retry {
    let backoff = Backoff::exponential(BACKOFF, BACKOFF).jitter(Jitter::None);
    Retry::new(ATTEMPTS).backoff(backoff).budget(budget.clone()).random(Random::seeded(2))
}

impl Subject {
    fn new<St: Stages>(
        layer: StackLayer<St, TypedError>,
        resources: Resources,
        gives_up_after: Option<Duration>,
    ) -> Self {
        Self { layer: Box::new(layer), resources, gives_up_after }
    }

    /// Returns a subject whose breaker, if it has one, admits [`PLACES`] probes.
    pub async fn tight(make: Make) -> Self {
        let subject = make(Room::Tight);
        pass(OPEN_FOR).await;
        subject
    }

    /// Returns a subject that admits [`MANY`] calls.
    pub async fn roomy(make: Make) -> Self {
        let subject = make(Room::Roomy);
        pass(OPEN_FOR).await;
        subject
    }

    /// Wraps this service: one more `layer()` call.
    pub fn around(&self, below: &Below) -> Handle<Error<Fault>> {
        self.layer.around(below.inner())
    }

    /// Wraps this service, behind a gate that checks the time.
    pub fn around_behind(&self, gate: OnTime, below: &Below) -> Handle<Error<Fault>> {
        self.layer.around_behind(gate, below.inner())
    }

    /// Wraps this service by a `layer()` call of a clone of the layer.
    pub fn cloned_around(&self, below: &Below) -> Handle<Error<Fault>> {
        self.layer.cloned().around(below.inner())
    }

    /// Wraps a service with tower's `BoxError`, with [`keep_error`](StackLayer::keep_error).
    pub fn around_keeping_box_errors(&self, inner: Inner<BoxError>) -> Handle<BoxError> {
        self.layer.around_keeping_box_errors(inner)
    }

    /// Wraps a service with an error enum of the user's, with [`keep_error`](StackLayer::keep_error).
    pub fn around_keeping_errors(&self, inner: Inner<AppError>) -> Handle<AppError> {
        self.layer.around_keeping_errors(inner)
    }

    /// Wraps this service, with [`boxed_error`](StackLayer::boxed_error).
    pub fn around_boxing_errors(&self, below: &Below) -> Handle<BoxError> {
        self.layer.around_boxing_errors(below.inner())
    }

    /// Wraps a service with tower's `BoxError`, as its own error type.
    pub fn around_box_errors(&self, inner: Inner<BoxError>) -> Handle<Error<BoxError>> {
        self.layer.around_box_errors(inner)
    }

    /// Wraps this service, with [`respond_with`](StackLayer::respond_with).
    pub fn around_responding(&self, below: &Below, respond: fn(Rejection) -> u32) -> Handle<Fault> {
        self.layer.around_responding(below.inner(), respond)
    }

    /// Calls a service that is neither `Send` nor `'static`.
    pub fn call_local<'a>(
        &self,
        inner: Local<'a>,
        request: Rc<str>,
    ) -> LocalBoxFuture<'a, Result<Rc<str>, Error<Fault>>> {
        self.layer.call_local(inner, request)
    }

    /// Returns whether the subject admits only a limited number of calls at once.
    pub fn is_bounded(&self) -> bool {
        let Resources { limiter, queue, breaker, bucket, .. } = &self.resources;
        limiter.is_some() || queue.is_some() || breaker.is_some() || bucket.is_some()
    }

    /// Makes the subject reject the next call, if the service of that call [hangs](Act::Wait). Returns the mechanism
    /// that will reject it.
    pub fn provoke_a_rejection(&self) -> &'static str {
        let mut mechanism = "timeout";
        for name in self.resources.names() {
            self.resources.exhaust(name);
            mechanism = name;
        }
        mechanism
    }

    /// Lets [`OPEN_FOR`] pass. Then asserts that all capacity is free except `spent`, by the readings of the handles.
    pub async fn assert_left(&self, spent: Spent) {
        pass(OPEN_FOR).await;
        assert_eq!(self.resources.held(), self.resources.held_after(spent), "what is left (actual, expected)");
    }

    /// Asserts the same as [`assert_left`](Self::assert_left). Then asserts that the subject admits exactly as many
    /// calls at once as it has places left. These calls take all of these places.
    pub async fn assert_admits_what_is_left(&self, spent: Spent) {
        self.assert_left(spent).await;
        let free = self.resources.free_places(spent);
        let below = Below::plain(Controls::new().act(Act::Wait));
        let mut calls: Vec<_> = (0..=free).map(|_| Task::new(self.around(&below).oneshot(7))).collect();
        for call in &mut calls {
            let _ = call.poll();
        }
        let admitted = if self.is_bounded() { free } else { free + 1 };
        assert_eq!(below.reached(), admitted as u64, "calls admitted at once, of {}", free + 1);
    }
}
