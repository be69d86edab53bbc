//! How do I replace the layers that I have?
//!
//! There is one table for each crate: their call, ours, and the difference that matters. `none` in the second column
//! means that this crate has no counterpart. All statements about a crate are about the version below.
//!
//! | from | version |
//! |---|---|
//! | [tower](#from-tower) | 0.5.3 |
//! | [tower-resilience](#from-tower-resilience) | 0.13.0 |
//! | [governor](#from-governor) | 0.10.4 |
//! | [tower_governor](#from-tower_governor) | 0.8.0 |
//! | [reqwest-middleware, reqwest-retry](#from-reqwest-middleware-and-reqwest-retry) | 0.5.2, 0.9.1 |
//! | [failsafe](#from-failsafe) | 1.3.0 |
//!
//! # Common differences
//!
//! - A stack of this crate is always ready. It never refuses in `poll_ready`; the refusal comes out of the response
//!   future. Where a caller waited in `ready()` before, its call now ends with a [`Rejection`](crate::Rejection).
//! - Builders check their values: `build`, `layer` and `service` return a [`ConfigError`](crate::ConfigError).
//! - All services that a layer makes share its state. To separate two services, build two stacks.
//! - Time is tokio's time, so a test that pauses tokio's clock controls every mechanism.
//! - The order of the layers is [fixed](super::ordering), in whatever order the methods are called.
//!
//! # From tower
//!
//! | tower | here | difference |
//! |---|---|---|
//! | `ConcurrencyLimitLayer::new(n)` | [`Queue::builder(n, depth)`](crate::load_level::Queue::builder) | tower's calls wait without a bound; the queue has a depth and refuses calls that wait too long. Tower makes one semaphore for each service of the layer; here all share one |
//! | `GlobalConcurrencyLimitLayer::new(n)` | [`Queue::builder(n, depth)`](crate::load_level::Queue::builder) | tower takes the permit in `poll_ready`, so a handle that is ready and not called keeps it |
//! | `ConcurrencyLimitLayer` below `LoadShedLayer` | [`Limiter::fixed(n)`](crate::load_shed::Limiter::fixed) | one layer in place of two |
//! | `LoadShedLayer` | `load_shed(..)` of a stack | tower's has no limit of its own: it refuses while the service below is not ready |
//! | `RateLimitLayer::new(n, period)` | [`TokenBucket::builder(n, period)`](crate::rate_limit::TokenBucket::builder), with [`wait`](crate::rate_limit::RateLimit::wait) to keep the waiting | tower counts in fixed windows, and its service is not `Clone`, so each service has a count of its own |
//! | `Buffer::new(service, bound)` | [`Queue`](crate::load_level::Queue), or nothing | tower runs the service in a task. If you have a `Buffer` only to get a `Clone` service, keep it inside the stack |
//! | `RetryLayer::new(policy)` | [`Retry::new(attempts)`](crate::retry::Retry::new) | in tower the policy decides everything; here the classifier, the deadline, the budget and `Retry-After` decide |
//! | `Policy::retry` | [`classify`](crate::stack::ClientBuilder::classify) | one verdict serves the retry, the breaker and the metrics |
//! | `Policy::clone_request` | [`replay_if`](crate::retry::Retry::replay_if), [`replay_with`](crate::retry::Retry::replay_with) | by default each request is cloned |
//! | `TpsBudget::new(ttl, min_per_sec, share)` | [`RetryBudget::builder().ratio(share)`](crate::retry::RetryBudget::builder) | tower's policy has to ask the budget; here the retry does. Tower rounds 0.3 to one third; it panics on a share above 1,000 |
//! | `ExponentialBackoffMaker::new(min, max, jitter, rng)` | [`Backoff::exponential(min, max)`](crate::retry::Backoff::exponential) | full jitter, drawn below the cap |
//! | `TimeoutLayer::new(limit)` | [`timeout(limit)`](crate::stack::ClientBuilder::timeout), [`TimeoutLayer`](crate::timeout::TimeoutLayer) | tower's limit begins after readiness; here it covers readiness, queues and retries. The error is typed |
//! | `Balance` | keep it, with the feature `load` | a stack then implements tower's `Load`; see [`stack`](crate::stack#behind-a-balancer) |
//! | `Hedge` | none | |
//!
//! Tower's concurrency limit with load shedding, and ours:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), tower::BoxError> {
//! use std::time::Duration;
//! use steadfast::{Rejection, load_shed::Limiter};
//! use tower::{ServiceBuilder, ServiceExt, limit::GlobalConcurrencyLimitLayer, service_fn};
//!
//! let handler = service_fn(async |(): ()| {
//!     tokio::time::sleep(Duration::from_millis(20)).await;
//!     Ok::<_, std::io::Error>("rows")
//! });
//!
//! let before = ServiceBuilder::new().load_shed().layer(GlobalConcurrencyLimitLayer::new(1)).service(handler);
//! let after = steadfast::server().load_shed(Limiter::fixed(1)?).boxed_error().service(handler)?;
//!
//! let (first, second) = tokio::join!(before.clone().oneshot(()), before.oneshot(()));
//! assert!(first.is_ok() && second.is_err());
//! let (first, second) = tokio::join!(after.clone().oneshot(()), after.oneshot(()));
//! assert!(first.is_ok());
//! // The error of both is a `BoxError`. Ours holds the rejection.
//! let error = second.unwrap_err();
//! assert_eq!(error.downcast_ref().map(Rejection::mechanism), Some("load_shed"));
//! # Ok(())
//! # }
//! ```
//!
//! # From tower-resilience
//!
//! Their circuit breaker, bulkhead and rate limiter make a new state for each service of a layer, unless the layer
//! comes from `build_with_handle`. On a router, each route then has its own state. Here all services of a layer share
//! one state.
//!
//! | tower-resilience | here | difference |
//! |---|---|---|
//! | `CircuitBreakerLayer::builder()` | [`Breaker::builder()`](crate::circuit_breaker::Breaker::builder) | the breaker is a handle, and works without a layer |
//! | `failure_rate_threshold(r)` with `SlidingWindowType::TimeBased` and `sliding_window_duration(d)` | [`failure_rate(r, d)`](crate::circuit_breaker::BreakerBuilder::failure_rate) | their default is a window of 100 calls; here a window is a duration, 10 s by default |
//! | `minimum_number_of_calls(n)` | [`minimum_calls(n)`](crate::circuit_breaker::BreakerBuilder::minimum_calls) | their default is the size of the window; here it is 20 |
//! | `consecutive_failures(k)` | [`consecutive_failures(k)`](crate::circuit_breaker::BreakerBuilder::consecutive_failures) | here it can be combined with a rate |
//! | `slow_call_duration_threshold(d)`, `slow_call_rate_threshold(r)` | [`slow_call_rate(r, d)`](crate::circuit_breaker::BreakerBuilder::slow_call_rate) | here a call counts as slow as soon as it has taken `d`, even if it has not ended |
//! | `wait_duration_in_open(d)` | [`open_for(d)`](crate::circuit_breaker::BreakerBuilder::open_for) | theirs is 30 s by default; here 5 s, and failed probes double it |
//! | `permitted_calls_in_half_open(n)` | [`probes(n)`](crate::circuit_breaker::BreakerBuilder::probes) | 1 by default there, 3 here; if the probes hang, the first call after [`probe_timeout`](crate::circuit_breaker::BreakerBuilder::probe_timeout) opens the circuit |
//! | `failure_classifier(f)`, `classify_response(f)` | [`classify(f)`](crate::stack::ClientBuilder::classify) | f returns an [`Outcome`](crate::Outcome), not a `bool` |
//! | `CircuitBreakerHandle` | the [`Breaker`](crate::circuit_breaker::Breaker) itself | |
//! | `with_fallback(f)`, `FallbackLayer` | a match on [`Error`](crate::Error); see [`start`](super::start#handle-the-errors) | no layer |
//! | `BulkheadLayer`, `max_concurrent_calls(n)` | [`Queue::builder(n, depth)`](crate::load_level::Queue::builder) | theirs waits without a bound by default |
//! | `max_wait_duration(d)` | [`max_wait(d)`](crate::load_level::QueueBuilder::max_wait) | the deadline of the call counts, too |
//! | `reject_when_full()` | [`Limiter::fixed(n)`](crate::load_shed::Limiter::fixed) | |
//! | `backpressure()` | none | a stack is always ready |
//! | `AdaptiveLimiterLayer`, `Aimd`, `Vegas` | [`Limiter::adaptive()`](crate::load_shed::Limiter::adaptive) | the default uses the deadlines of the calls, and no threshold of latency; [`Aimd`](crate::load_shed::Aimd) and [`Gradient`](crate::load_shed::Gradient) are there, Vegas is not |
//! | `RateLimiterLayer`, `limit_for_period(n)`, `refresh_period(d)` | [`TokenBucket::builder(n, d)`](crate::rate_limit::TokenBucket::builder) | theirs counts in fixed windows by default, and waits for up to 100 ms (`timeout_duration`); here a call is refused at once, or [waits](crate::rate_limit::RateLimit::wait) |
//! | `burst_size(b)` | [`burst(n + b)`](crate::rate_limit::TokenBucketBuilder::burst) | theirs is added to the limit; here the burst is all that the bucket holds |
//! | `WindowType::SlidingLog` | [`SlidingWindow`](crate::rate_limit::SlidingWindow) | takes at most 6 KiB of memory, however high the limit is |
//! | `WindowType::SlidingCounter` | [`estimate()`](crate::rate_limit::SlidingWindowBuilder::estimate) | |
//! | `RetryLayer::builder()`, `max_attempts(n)` | [`Retry::new(n)`](crate::retry::Retry::new) | both count the first attempt |
//! | `exponential_backoff(base)`, `ExponentialRandomBackoff` | [`Backoff::exponential(base, cap)`](crate::retry::Backoff::exponential) | with full jitter, unless another [`Jitter`](crate::retry::Jitter) is given |
//! | `retry_on(f)`, `retry_on_response(f)` | [`classify(f)`](crate::stack::ClientBuilder::classify) | |
//! | `max_attempts_fn(f)` | [`replay_if(f)`](crate::retry::Retry::replay_if) | f says whether a request may be repeated, not how often |
//! | `RetryBudgetBuilder::new().token_bucket()` | [`RetryBudget`](crate::retry::RetryBudget) | theirs is off by default, and refills with time and with successes; here it is on, and calls earn a share |
//! | `TimeLimiterLayer`, `timeout_duration(d)` | [`timeout(d)`](crate::stack::ClientBuilder::timeout) | theirs begins after readiness and is 5 s by default; here there is no default |
//! | `timeout_fn(f)` | a deadline in the [context](crate::CallContext); see [`deadlines`](super::deadlines) | |
//! | `cancel_running_future(false)` | [`context::spawn`](crate::context::spawn) in your service | a timeout always drops the future |
//! | `OutlierDetectionLayer` | [`PerKey`](crate::per_key::PerKey) of breakers with [`most_open`](crate::per_key::PerKey::most_open) | |
//! | `ChaosLayer` | the feature `sim`; see [`virtual_time`](super::virtual_time) | in tests, not in traffic |
//! | cache, coalesce, executor, health check, hedge, reconnect, router | none | |
//!
//! # From governor
//!
//! | governor | here | difference |
//! |---|---|---|
//! | `Quota::per_second(n)`, `per_minute`, `per_hour` | [`Quota::new(n, period)`](crate::rate_limit::Quota::new) | the burst is `n` in both |
//! | `Quota::with_period(t)` | `Quota::new(1, t)` | |
//! | `allow_burst(b)` | [`with_burst(b)`](crate::rate_limit::Quota::with_burst) | |
//! | `RateLimiter::direct(quota)` | [`TokenBucket::with_quota(quota).build()?`](crate::rate_limit::TokenBucket::with_quota) | a clone shares the tokens, so no `Arc` is needed; [`set_quota`](crate::rate_limit::TokenBucket::set_quota) changes the rate |
//! | `check()`, `check_n(n)` | [`try_acquire(n)`](crate::rate_limit::TokenBucket::try_acquire) | one type of error; it has no `retry_after` if `n` is more than the burst |
//! | `NotUntil::wait_time_from(now)` | [`RateLimited::retry_after()`](crate::error::RateLimited::retry_after) | |
//! | `until_ready()`, `until_n_ready(n)` | [`acquire(n)`](crate::rate_limit::TokenBucket::acquire) | governor sleeps and asks again, so a later caller can overtake; here callers wait in line, for at most [`max_wait`](crate::rate_limit::TokenBucketBuilder::max_wait) |
//! | `until_ready_with_jitter(..)` | `acquire(n)` | waiters have places in line, so they need no jitter |
//! | `RateLimiter::keyed(quota)`, `dashmap`, `hashmap` | [`Keyed::builder(max_keys, quota)`](crate::rate_limit::Keyed::builder) | a table of fixed size |
//! | `check_key(&key)`, `check_key_n(&key, n)` | [`try_acquire(&key, n)`](crate::rate_limit::Keyed::try_acquire) | |
//! | `until_key_ready(&key)` | [`handle(key)`](crate::per_key::PerKey::handle)`.acquire(1)` of a `PerKey` of buckets | `Keyed` does not wait |
//! | `retain_recent()`, `shrink_to_fit()` | none needed | a key whose bucket is full again gives its slot to another |
//! | `StateSnapshot::remaining_burst_capacity()` | [`available_at(now)`](crate::rate_limit::TokenBucket::available_at) | reading takes no token |
//! | `FakeRelativeClock` | tokio's paused clock, or [`try_acquire_at`](crate::rate_limit::TokenBucket::try_acquire_at) | |
//!
//! # From tower_governor
//!
//! | tower_governor | here | difference |
//! |---|---|---|
//! | `per_second(s)`, `burst_size(b)` | `Quota::new(1, Duration::from_secs(s)).with_burst(b)` | their `s` is the time for one request, not a count |
//! | `GovernorLayer::new(config)` | `server().rate_limit(limit).http(peer).layer()?` | with the feature `http`; refusals are problems of RFC 9457, or a status of gRPC |
//! | `PeerIpKeyExtractor` | `http::ClientAddress` in [`RateLimit::by_key`](crate::rate_limit::RateLimit::by_key) | here the addresses of an IPv6 /64 share a key. Without an address, theirs answers 500; here such requests share a key |
//! | `SmartIpKeyExtractor` | `ClientAddress::trusted_proxies(n)` | theirs takes the first address of `X-Forwarded-For`, which a client can write; here the entry that your own proxy wrote counts |
//! | `GlobalKeyExtractor` | [`TokenBucket`](crate::rate_limit::TokenBucket) | |
//! | a `KeyExtractor` of your own | a closure in [`by_key`](crate::rate_limit::RateLimit::by_key) or [`by_key_ref`](crate::rate_limit::RateLimit::by_key_ref), or `http::header` | |
//! | `methods(list)` | [`exempt(f)`](crate::stack::ServerBuilder::exempt) for requests with another method | |
//! | `use_headers()` | `Http::rate_limit_fields(name, limit)` | `RateLimit` and `RateLimit-Policy` of the IETF draft, not `x-ratelimit-*` |
//! | `Retry-After` | with `.http(peer)` | theirs rounds down, so that it can be 0; here it rounds up |
//! | `error_handler(f)` | `Http::change(f)`, or [`respond_with(f)`](crate::stack::ServerBuilder::respond_with) | |
//! | a task that calls `config.limiter().retain_recent()` | none needed | the table has a fixed size |
//!
//! `per_second(2).burst_size(5)` is one token every two seconds, and five at once:
//!
//! ```
//! # fn main() -> Result<(), steadfast::ConfigError> {
//! use std::time::Duration;
//! use steadfast::rate_limit::{Keyed, Quota};
//! use tokio::time::Instant;
//!
//! let secs = Duration::from_secs;
//! let per_address = Keyed::<str>::builder(10_000, Quota::new(1, secs(2)).with_burst(5)).build()?;
//! let now = Instant::now();
//! assert!(per_address.try_acquire_at("192.0.2.1", 5, now).is_ok());
//! let refused = per_address.try_acquire_at("192.0.2.1", 1, now).unwrap_err();
//! assert_eq!(refused.retry_after(), Some(secs(2)));
//! assert!(per_address.try_acquire_at("192.0.2.1", 1, now + secs(2)).is_ok());
//! # Ok(())
//! # }
//! ```
//!
//! # From reqwest-middleware and reqwest-retry
//!
//! The [cookbook](super::cookbook) has a stack around reqwest. It needs the feature `http`.
//!
//! | reqwest-middleware, reqwest-retry | here | difference |
//! |---|---|---|
//! | `ClientBuilder::new(client).with(..).build()` | `client()` .. `.service(service_fn(..))?` around `client.execute` | requests are `http::Request`, sent with `oneshot` |
//! | a `Middleware` of your own | a tower layer inside or around the stack | |
//! | `RetryTransientMiddleware::new_with_policy(policy)` | `http::retry(attempts)` | theirs repeats every method, a POST too; here a POST needs an `Idempotency-Key`, or a proof that the server did nothing |
//! | `ExponentialBackoff::builder().build_with_max_retries(n)` | `http::retry(n + 1)` | here the first attempt counts |
//! | `build_with_total_retry_duration(d)` | [`timeout(d)`](crate::stack::ClientBuilder::timeout) | here the limit also ends the attempt in flight |
//! | `retry_bounds(min, max)` | [`Backoff::exponential(min, max)`](crate::retry::Backoff::exponential) | theirs are 1 s and 30 min by default, here 50 ms and 2 s |
//! | `RetryableStrategy` | `http::Verdict`, or [`classify(f)`](crate::stack::ClientBuilder::classify) | theirs repeats every 5xx, 408 and 429; here 501 and 505 are final |
//! | a 429 with `Retry-After` | `http::retry(attempts)` | theirs waits for its own backoff; here the retry waits for as long as the server asked, up to [`max_hint`](crate::retry::Retry::max_hint) |
//! | a streaming body | `bodies(cap, Body::wrap)` of the retry | theirs fails at once if the body cannot be cloned |
//! | `RetryError::WithRetries` | the answer or the error of the last attempt | the feature `metrics` counts attempts |
//! | no budget | [`RetryBudget`](crate::retry::RetryBudget) | on by default: 10% of the calls |
//!
//! # From failsafe
//!
//! | failsafe | here | difference |
//! |---|---|---|
//! | `Config::new().build()` | [`Breaker::builder().build()?`](crate::circuit_breaker::Breaker::builder) | theirs opens by a rate or by failures in a row; here the default is a rate |
//! | `consecutive_failures(n, backoff)` | [`consecutive_failures(n)`](crate::circuit_breaker::BreakerBuilder::consecutive_failures) | |
//! | `success_rate_over_time_window(r, min, window, backoff)` | [`failure_rate(1.0 - r, window)`](crate::circuit_breaker::BreakerBuilder::failure_rate)`.minimum_calls(min)` | theirs is a moving average of successes; here the failures in a sliding window count |
//! | `policy.or_else(other)` | both methods on one builder | |
//! | `backoff::constant(d)` | [`open_for(d)`](crate::circuit_breaker::BreakerBuilder::open_for)`.max_open_for(d)` | |
//! | `backoff::exponential(start, max)`, `equal_jittered`, `full_jittered` | `open_for(start).`[`max_open_for(max)`](crate::circuit_breaker::BreakerBuilder::max_open_for) | the open time doubles each time, and is multiplied by a random factor from 0.75 to 1.25 |
//! | `circuit_breaker.call(f)` | a permit: see below | |
//! | `futures::CircuitBreaker::call(future)` | [`CircuitBreakerLayer`](crate::circuit_breaker::CircuitBreakerLayer), or a client stack | |
//! | `call_with(predicate, f)` | [`Permit::outcome`](crate::circuit_breaker::Permit::outcome), or `classify(f)` | an error that their predicate denies is a success; here an outcome can also be ignored |
//! | `is_call_permitted()` | [`try_acquire()`](crate::circuit_breaker::Breaker::try_acquire), or [`state()`](crate::circuit_breaker::Breaker::state) | theirs can make an open circuit half-open; `state` changes nothing |
//! | `on_success()`, `on_error()` | [`Permit::success`](crate::circuit_breaker::Permit::success), [`Permit::failure`](crate::circuit_breaker::Permit::failure) | a result does not count if the circuit has changed its state since it admitted the call |
//! | half-open | [`probes(n)`](crate::circuit_breaker::BreakerBuilder::probes) | theirs admits every call, and the first result decides; here three probes pass, and all have to succeed |
//! | `reset()` | [`reset()`](crate::circuit_breaker::Breaker::reset) | |
//! | `Instrument` | [`on_transition(f)`](crate::circuit_breaker::Breaker::on_transition), or an [observer](super::telemetry) | |
//! | `Error::Inner(e)`, `Error::Rejected` | [`Error::Service(e)`](crate::Error::Service), [`Error::Rejected(r)`](crate::Error::Rejected) | the rejection says for how long the circuit stays open |
//!
//! A breaker around a function that is not async:
//!
//! ```
//! # fn main() -> Result<(), steadfast::ConfigError> {
//! use std::time::Duration;
//! use steadfast::{Error, circuit_breaker::{Breaker, BreakerState}};
//!
//! /// In place of `circuit_breaker.call(f)`.
//! fn call<T, E>(breaker: &Breaker, f: impl FnOnce() -> Result<T, E>) -> Result<T, Error<E>> {
//!     let permit = breaker.try_acquire().map_err(|open| Error::Rejected(open.into()))?;
//!     let result = f();
//!     match &result {
//!         Ok(_) => permit.success(),
//!         Err(_) => permit.failure(),
//!     }
//!     result.map_err(Error::Service)
//! }
//!
//! // In place of `consecutive_failures(3, exponential(10 s, 60 s))`.
//! let secs = Duration::from_secs;
//! let breaker = Breaker::builder().consecutive_failures(3).open_for(secs(10)).max_open_for(secs(60)).build()?;
//! for _ in 0..3 {
//!     assert!(matches!(call(&breaker, || Err::<(), _>("down")), Err(Error::Service("down"))));
//! }
//! assert_eq!(breaker.state(), BreakerState::Open);
//! assert!(matches!(call(&breaker, || Ok::<_, &str>(())), Err(Error::Rejected(_))));
//! # Ok(())
//! # }
//! ```
