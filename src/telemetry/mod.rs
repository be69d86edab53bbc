//! Metrics, traces and events of stacks.
//!
//! Operators need to see what a service rejects and retries. Pass an observer of this module to
//! [`observe`](crate::stack::ClientBuilder::observe), with a name for the stack:
//!
#![cfg_attr(feature = "metrics", doc = "```")]
#![cfg_attr(not(feature = "metrics"), doc = "```ignore")]
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use steadfast::{circuit_breaker::Breaker, telemetry::{Metrics, SampleValue}};
//! use tower::{ServiceExt, service_fn};
//!
//! let metrics = Metrics::new(); // one for the program
//! let payments = steadfast::client()
//!     .observe("payments", metrics.clone())
//!     .timeout(Duration::from_secs(2))
//!     .circuit_breaker(Breaker::builder().build()?)
//!     .service(service_fn(async |amount: u32| Ok::<_, std::io::Error>(amount)))?;
//! payments.oneshot(7).await?;
//!
//! let samples = metrics.samples();
//! let calls = samples.iter().find(|sample| sample.name == "steadfast_call_duration_seconds").unwrap();
//! assert_eq!(calls.labels, [("stack", "payments"), ("outcome", "success")]);
//! assert!(matches!(&calls.value, SampleValue::Histogram(durations) if durations.count() == 1));
//! # Ok(())
//! # }
//! ```
//!
//! | observer | feature | reports |
//! |---|---|---|
//! | `Metrics` | `metrics` | counts and durations of calls, and the state of each mechanism |
//! | `Spans` | `tracing` | a span for each call and attempt, and log events |
//! | [`Events`] | | transitions, retries, rejections and queue states, to your own functions, in a task of your own and outside the path of calls |
//!
//! Combine two observers in a pair: `.observe("payments", (metrics, Spans::new()))`. Implement
//! [`Observer`](crate::shell::Observer) for anything else. `Metrics` and `Spans` exist only with their features. A
//! stack without an observer pays nothing.
//!
//! # Metrics
//!
//! Calls are counted when they end. Mechanisms are read when the metrics are collected. They keep their own counts in
//! any case, so `Metrics` adds no work to a breaker, a queue or a bucket on the path of a call. `Metrics::collect()`
//! writes all metrics to the recorder that is installed in the `metrics` crate. Call it in the handler of your scrape
//! endpoint. With `metrics-exporter-prometheus`:
//!
#![cfg_attr(feature = "metrics", doc = "```")]
#![cfg_attr(not(feature = "metrics"), doc = "```ignore")]
//! use metrics_exporter_prometheus::PrometheusBuilder;
//! use steadfast::{load_shed::Limiter, telemetry::{BUCKETS, Metrics}};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let exporter = PrometheusBuilder::new().set_buckets(&BUCKETS)?.install_recorder()?;
//! let metrics = Metrics::new();
//! let _layer = steadfast::server().observe("orders", metrics.clone()).load_shed(Limiter::fixed(64)?).layer()?;
//!
//! // The handler of `/metrics`:
//! let scrape = move || {
//!     metrics.collect();
//!     exporter.render()
//! };
//! assert!(scrape().contains(r#"steadfast_in_flight_limit{stack="orders",mechanism="load_shed"} 64"#));
//! # Ok(())
//! # }
//! ```
//!
//! This requires `metrics` 0.24 and an exporter for that version, here `metrics-exporter-prometheus` 0.18. A recorder
//! of another version receives nothing. `metrics-exporter-prometheus` keeps each value until it renders. If scrapes may
//! stop, call its `run_upkeep`, or its memory grows. Without `set_buckets` it exports summaries, which cannot be
//! aggregated over processes. The recorder may be installed before or after the stacks are built, but before the first
//! collection. `Metrics::samples()` returns the same numbers for an exporter of your own.
//!
//! `Metrics::watch("name", handle)` reads a mechanism that is part of no stack. Your own gates and limits are read if
//! they [add](crate::shell::Explanation::instrument) an [`Instrument`](crate::shell::Instrument) to the explanation.
//! The metrics of your own gates and limits keep their names, without a prefix, and get the label `stack`.
//!
//! ## The metrics
//!
//! Each name has the prefix `steadfast_`. `METRICS` is this table as a constant.
//!
//! | name | kind | labels | value |
//! |---|---|---|---|
//! | `call_duration_seconds` | histogram | stack, outcome | all calls, including waits and retries |
//! | `attempt_duration_seconds` | histogram | stack, kind, outcome | attempts that passed all layers of the stack; kind is `first` or `retry` |
//! | `retry_delay_seconds` | histogram | stack | for each call with more than one attempt, the sum of the waits between its attempts: backoff and hints |
//! | `retries_denied_total` | counter | stack, reason | calls with a retryable failure that got no further attempt; reason is a [`Denied`](crate::shell::Denied), such as `budget` or `no_hint` |
//! | `rejections_total` | counter | stack, mechanism, reason, reached | calls that were rejected or ended, by [reason](Refusals); reached is `true` if the service had been called |
//! | `shadow_rejections_total` | counter | stack, mechanism | calls that a limit in shadow mode would have rejected |
//! | `circuit_state` | gauge | stack, state | 1 for the current state, else 0; per key, the number of circuits in each state |
//! | `circuit_transitions_total` | counter | stack, to | state changes |
//! | `circuit_failure_ratio` | gauge | stack | the share of failures among the calls in the window, 0 without calls; per key, the largest among the breakers that count enough calls to open |
//! | `circuit_half_open_in_seconds` | gauge | stack | the time until an open circuit becomes half-open, else 0 |
//! | `retry_budget_balance` | gauge | stack | earned retries that remain |
//! | `in_flight`, `in_flight_limit` | gauge | stack, mechanism | calls in flight for `load_shed` or in service for `load_level`, and the limit on them |
//! | `in_flight_limit_reason` | gauge | stack, reason | 1 for the reason that set the limit of `load_shed`, else 0: `fixed`, `unknown`, `rate`, `algorithm`, `floor`, `ceiling` or `signal`; a plain `Limiter::fixed` has no such metric |
//! | `shed_total` | counter | stack, class, reason | calls that a limit of `load_shed` rejected, by criticality; not for a plain `Limiter::fixed` |
//! | `shed_exempt_total` | counter | stack | calls that were exempt from a limit of `load_shed`; not for a plain `Limiter::fixed` |
//! | `queue_waiting` | gauge | stack | waiting calls |
//! | `queue_oldest_seconds` | gauge | stack | how long the oldest call has waited |
//! | `queue_drain_seconds` | gauge | stack | the time until the backlog drains: infinite if it does not shrink, 0 if unknown |
//! | `queue_wait_seconds` | histogram | stack | the waiting time of calls that waited, served or not |
//! | `rate_limit_available`, `rate_limit_waiting` | gauge | stack, limit | available tokens, and calls that wait for them; limit is the limit's [name](crate::rate_limit::RateLimit::named) |
//! | `keys` | gauge | stack, mechanism | keys that have their own mechanism |
//! | `keys_overflow_total` | counter | stack, mechanism | calls whose key got no entry, because no other key could be forgotten |
//! | `hints_ignored_total` | counter | header | malformed headers in the whole process (feature `http`) |
//! | `timeout_seconds` | gauge | stack | the current value of a learned timeout; if a stack has several, the longest |
//! | `timeout_rate` | gauge | stack | the share of recent calls that a learned timeout ended |
//! | `switched_off` | gauge | stack | 1 if the kill switch of a [live](crate::stack::live) stack is on |
//! | `config_changes_total` | counter | stack, result | configuration changes of a live stack, `applied` or `refused` |
//! | `config_version` | gauge | source | the version of the configuration that a poller has in force, or a publisher published; 0 if none |
//! | `config_age_seconds` | gauge | source | the time since the last good configuration was published; 0 if none |
//! | `config_refused_total` | counter | source, reason | refused snapshots |
//! | `store_up` | gauge | name | 1 if the store of a distributed limit or of a durable queue answers, else 0 |
//! | `store_sync_age_seconds` | gauge | name | the time since that store last answered |
//! | `store_debt` | gauge | name | the spent tokens that the store of a distributed limit does not know yet |
//! | `durable_pending` | gauge | name | the messages of a durable queue that are not done |
//! | `durable_oldest_seconds` | gauge | name | the age of the oldest message of a durable queue |
//! | `durable_dead` | gauge | name | the dead letters of a durable queue |
//! | `durable_redelivered_total` | counter | name | redelivered messages |
//!
//! - `outcome` is a result of the classifier (`success`, `failure`, `overloaded`, `unprocessed`, `permanent` or
//!   `ignored`), or `rejected`, `timed_out`, `cancelled` or `panicked`.
//! - Label values are compile-time constants, never a key, a path, a host or the text of an error. The number of series
//!   is therefore bounded: about 40 for a stack, plus 21 for each histogram (18 bounds, `+Inf`, sum and count). A stack
//!   has one histogram for each outcome of its calls that occurred, and one for each kind and outcome of its attempts.
//!   It has at most one each for `retry_delay_seconds` and `queue_wait_seconds`.
//! - With [`PerKey::label_keys`](crate::per_key::PerKey::label_keys), all gauges of a per-key mechanism except `keys`
//!   also have the label `key`. Its value is one of up to 64 constants that you choose, or `other`. Each value adds a
//!   series to each of these gauges.
//! - From the start, every gauge and counter is exported, except rejections with `reached="true"`, which appear when
//!   one occurs. A histogram appears with its first duration. Only the series of `queue_wait_seconds` exists from the
//!   start.
//! - A rejection by your own gate counts for the mechanism that its [`Rejection`](crate::Rejection) names.
//! - The values of stacks with the same name are summed. Of times, ages, ratios, `config_version`, `store_up`,
//!   `durable_pending`, `durable_dead` and `switched_off`, the largest is reported. A mechanism that several of these
//!   stacks share is read once. When a stack is dropped, its counts stay and its gauges become zero.
//! - Distributed limits of one stack that have no [name](crate::rate_limit::RateLimit::named) share the name
//!   `rate_limit`. Their `store_up` stays 1 while one of their stores answers, so name each limit.
//! - Counts live in the process. When the process restarts, they restart at zero, as Prometheus expects.
//!
//! Names, kinds and labels are part of the API.

#[cfg(feature = "metrics")]
mod collect;
mod events;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(any(feature = "metrics", feature = "tracing"))]
mod outcome;
mod reason;
#[cfg(feature = "metrics")]
mod registry;
#[cfg(feature = "tracing")]
mod spans;
#[cfg(feature = "metrics")]
mod table;
#[cfg(feature = "metrics")]
mod tally;
#[cfg(feature = "metrics")]
mod thread_shards;

#[cfg(feature = "metrics")]
#[doc(hidden)]
pub use self::metrics::Begun;
#[cfg(feature = "metrics")]
pub use self::{
    metrics::{Metrics, Sample, SampleValue, Watching},
    table::{METRICS, MetricInfo, MetricKind},
};
pub use crate::histogram::{BUCKETS, Histogram};
pub use events::{Delivery, Events, EventsBuilder, QueueState, Refusals, RetryCounts};
#[cfg(feature = "tracing")]
pub use spans::Spans;
