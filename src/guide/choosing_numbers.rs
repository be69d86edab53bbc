//! Which numbers do I have to choose, and which ones can the crate find?
//!
//! A wrong timeout or limit is worse than none: it gives up calls that would have succeeded, or lets in work whose
//! caller has gone. Most numbers have a default with a reason. Some can be learned. A few only you can know.
//!
//! # Numbers that only you know
//!
//! - **How long a caller waits.** It is the `timeout` of the client's stack, and the deadline of every service that the
//!   call reaches. Set it below the timeout of your own callers, such as the proxy in front.
//! - **Which requests may be sent twice.** See [`safe_retries`](super::safe_retries).
//! - **What you promised.** A quota that a contract names is a [`rate_limit`](crate::rate_limit). A rate limit is no
//!   protection against overload; see [`overload`](super::overload).
//!
//! # Numbers that the crate finds
//!
//! | number | found by | from |
//! |---|---|---|
//! | how many calls a server works on at once | [`Limiter::adaptive`](crate::load_shed::Limiter::adaptive) | the deadlines of the callers, and the rate at which calls end |
//! | how long an attempt may take | [`Quantile`](crate::timeout::Quantile) | the latencies of successful calls, the calls that timed out, and the share of calls that may be given up wrongly |
//! | how many calls may wait | [`Queue::adaptive`](crate::load_level::Queue::adaptive) | the rate of the service, and how long a call may wait |
//! | how many retries there may be | [`RetryBudget`](crate::retry::RetryBudget) | the traffic |
//!
//! The adaptive limiter takes the deadline of each call from its [context](crate::CallContext). `deadline(..)` of its
//! builder sets the deadline that the limiter assumes for a call without one.
//! [`Limiter::readings`](crate::load_shed::Limiter::readings) has the limit, and the reason for its value. The limit
//! learns from calls that overlap. A call alone in flight is no evidence, unless the limit is below four. A quiet
//! service therefore keeps its [initial](crate::load_shed::LimiterBuilder::initial) limit, and its readings state the
//! reason [`Unknown`](crate::load_shed::LimitReason::Unknown).
//!
//! A learned timeout begins at its ceiling and becomes shorter as it learns:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use steadfast::timeout::Quantile;
//! use tower::{ServiceExt, service_fn};
//!
//! let ms = Duration::from_millis;
//! // One call in a hundred may be given up although its answer would still have come.
//! let limit = Quantile::builder(0.01).between(ms(1), ms(1_000)).build()?;
//! let search = steadfast::client().attempt_timeout(limit.clone()).service(service_fn(async |_: &str| {
//!     tokio::time::sleep(Duration::from_millis(10)).await;
//!     Ok::<_, std::io::Error>("three results")
//! }))?;
//! assert_eq!(limit.current(), ms(1_000));
//!
//! for _ in 0..1_024 {
//!     search.clone().oneshot("tea").await?;
//! }
//! assert!(limit.current() >= ms(10) && limit.current() < ms(15));
//! # Ok(())
//! # }
//! ```
//!
//! All requests of a stack share one learned timeout. A kind of request that is rarer than the share of calls that may
//! be given up, and slower than the others, is [always given up](crate::timeout::Quantile#requests-of-different-kinds).
//! Give it its own stack and its own `Quantile`.
//!
//! # Defaults
//!
//! | mechanism | default |
//! |---|---|
//! | [retry](crate::retry#defaults) | waits of 50 ms, doubling to 2 s, with full jitter; a budget of 10% of the calls; follows hints of up to 60 s |
//! | [circuit breaker](crate::circuit_breaker#defaults) | opens if half of the calls in 10 s failed, and there were at least 20; stays open for 5 s, and after failed probes for longer, up to a minute; 3 probes |
//! | [adaptive limit](crate::load_shed#defaults) | uses 0.7 of the deadline of a call; assumes a deadline of 1 s for a call without one; is 100 calls until it has learned |
//! | [queue](crate::load_level) | a call waits for at most half of the time until its deadline, and at most 1 s |
//! | [rate limit](crate::rate_limit#defaults) | a burst of one period's worth; refuses, and does not wait |
//! | [one for each key](crate::per_key#defaults) | 1024 keys; a key with evidence, such as an open circuit, can be forgotten after ten idle minutes |
//!
//! The pages that the table links to give the reasons. A timeout and a fixed limit have no default, because nothing but
//! your service says what they should be.
//!
//! # Rules of thumb
//!
//! - **Calls in flight**: by Little's law a service at capacity has `calls per second * mean latency` of them. Set a
//!   fixed limit somewhat above that number.
//! - **Attempt timeout**: above the latency of nearly all successful calls, and short enough that two attempts fit
//!   into the timeout of the call.
//! - **Requests of different kinds**, such as a report and a lookup: choose the timeout of each kind with
//!   [`PerRequest`](crate::timeout::PerRequest). Set it somewhat above the slowest successful calls of the kind. The
//!   stack does not check this timeout against its other numbers.
//! - **Longest wait in a queue**: half of the time for which callers wait, if their requests carry no deadline.
//! - **A breaker with little traffic**: 20 calls in 10 s never come. Use
//!   [`consecutive_failures`](crate::circuit_breaker::BreakerBuilder::consecutive_failures) or a lower
//!   [`minimum_calls`](crate::circuit_breaker::BreakerBuilder::minimum_calls).
//! - **A program that lives for a few calls**: a new retry budget holds less than one retry, and few calls earn few
//!   retries. Use [`initial`](crate::retry::RetryBudgetBuilder::initial).
//!
//! # Numbers that contradict each other
//!
//! A stack checks its numbers against each other when it is built:
//!
//! ```
//! # fn main() {
//! use std::time::Duration;
//!
//! let stack = steadfast::client()
//!     .timeout(Duration::from_millis(500))
//!     .attempt_timeout(Duration::from_millis(600))
//!     .layer();
//! assert_eq!(stack.unwrap_err().field(), "timeout");
//! # }
//! ```
//!
//! Numbers that are merely unusual are accepted. [`explain`](crate::shell::StackLayer::explain) then says what follows
//! from them, for example `2 of 3 full attempts fit into the timeout of 1.5s.`
//!
//! # Try a number before it counts
//!
//! A limit in shadow refuses nothing and counts the calls that it would have refused:
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use steadfast::load_shed::Limiter;
//!
//! let limiter = Limiter::fixed(1)?;
//! limiter.set_shadow(true);
//! let (_first, _second) = (limiter.try_acquire()?, limiter.try_acquire()?);
//! assert_eq!(limiter.would_have_refused(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! [`RateLimit::shadow`](crate::rate_limit::RateLimit::shadow) does this for rate limits. The feature `sim` runs the
//! stack under simulated load and outages; see [`virtual_time`](super::virtual_time).
