//! What stacks tell of themselves: metrics, traces, events.
//!
//! A service that refuses and retries has to be seen to be run. Give the observers of this module to
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
//! | observer | feature | tells |
//! |---|---|---|
//! | `Metrics` | `metrics` | counts and durations of calls, the state of each mechanism |
//! | `Spans` | `tracing` | a span for each call and each attempt, events for what happens |
//! | [`Events`] | | functions of your own, off the way of calls: transitions, retries, refusals, states of queues |
//!
//! Several go into a pair: `.observe("payments", (metrics, Spans::new()))`. An
//! [`Observer`](crate::shell::Observer) of your own tells anything else. With the features off the first two are
//! not compiled, and a stack without an observer pays nothing.
//!
//! # Metrics
//!
//! Calls are counted as they end. Mechanisms are read when the metrics are: a breaker, a queue or a bucket does no work
//! for its metrics on the way of a call. `Metrics::collect()` gives everything to the recorder that is installed in the
//! `metrics` crate. Call it where your service is scraped. With `metrics-exporter-prometheus`:
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
//! It takes `metrics` 0.24 and an exporter for that version, here `metrics-exporter-prometheus` 0.18: a recorder of
//! another version gets nothing. An exporter that keeps each value until it is rendered needs its upkeep
//! (`run_upkeep`) where nobody scrapes for long. Without `set_buckets` that exporter draws summaries, which cannot be
//! added up over processes. The recorder may be installed at any time, before or after the stacks are built.
//! `Metrics::samples()` gives the same numbers to an exporter of your own.
//!
//! A mechanism that is part of no stack is read by `Metrics::watch("name", handle)`. Gates and limits of your own are
//! read where they have an [`Instrument`](crate::shell::Instrument). Their names get no prefix, and the label `stack`.
//!
//! ## The metrics
//!
//! Each name has the prefix `steadfast_`. `METRICS` is this table for programs.
//!
//! | name | kind | labels | of |
//! |---|---|---|---|
//! | `call_duration_seconds` | histogram | stack, outcome | all calls, waits and retries included |
//! | `attempt_duration_seconds` | histogram | stack, kind, outcome | attempts that came to the service; kind is `first` or `retry` |
//! | `retry_delay_seconds` | histogram | stack | the waits of calls with more than one attempt |
//! | `retries_denied_total` | counter | stack, reason | calls that were worth another attempt and got none; reason is a [`Denied`](crate::shell::Denied) as `budget`, `no_hint` |
//! | `rejections_total` | counter | stack, mechanism, reason, reached | calls that were refused or ended, by [reason](Refusals); reached: `true` if the service had been called |
//! | `shadow_rejections_total` | counter | stack, mechanism | calls that a limit in shadow let pass |
//! | `circuit_state` | gauge | stack, state | 1 for the present state; by key, the number of circuits |
//! | `circuit_transitions_total` | counter | stack, to | changes of state |
//! | `circuit_failure_ratio` | gauge | stack | failures among the calls in the window; by key, the largest |
//! | `circuit_half_open_in_seconds` | gauge | stack | until an open circuit lets probes through, else 0 |
//! | `retry_budget_balance` | gauge | stack | earned retries that are left |
//! | `in_flight`, `in_flight_limit` | gauge | stack, mechanism | calls in flight of `load_shed`, calls in the service of `load_level` |
//! | `in_flight_limit_reason` | gauge | stack, reason | 1 for the reason of a limit of `load_shed` that is not a plain fixed one: `fixed`, `unknown`, `rate`, `algorithm`, `floor`, `ceiling`, `signal` |
//! | `shed_total` | counter | stack, class, reason | calls that such a limit refused, by criticality |
//! | `shed_exempt_total` | counter | stack | calls that were exempt from it |
//! | `queue_waiting` | gauge | stack | calls that wait |
//! | `queue_oldest_seconds` | gauge | stack | how long the oldest has waited |
//! | `queue_drain_seconds` | gauge | stack | until the backlog is gone: infinite if it does not shrink, 0 if unknown |
//! | `queue_wait_seconds` | histogram | stack | the waits of calls that waited, served or not |
//! | `rate_limit_available`, `rate_limit_waiting` | gauge | stack, limit | tokens, and calls that wait for them; limit is the limit's [name](crate::rate_limit::RateLimit::named) |
//! | `keys` | gauge | stack, mechanism | keys with a mechanism of their own |
//! | `keys_overflow_total` | counter | stack, mechanism | calls of keys for which there was no place |
//! | `hints_ignored_total` | counter | header | malformed headers, of the whole process (feature `http`) |
//! | `timeout_seconds` | gauge | stack | the limit of a learned timeout; of several in a stack, the longest |
//! | `timeout_rate` | gauge | stack | the share of the last calls that a learned timeout gave up |
//! | `switched_off` | gauge | stack | 1 if the kill switch of a [live](crate::stack::live) stack is on |
//! | `config_changes_total` | counter | stack, result | changes of a live stack, `applied` or `refused` |
//! | `config_version`, `config_age_seconds` | gauge | source | the configuration in force of a poller |
//! | `config_refused_total` | counter | source, reason | snapshots that were refused |
//! | `store_up`, `store_sync_age_seconds`, `store_debt` | gauge | name | the store of limits that many processes share |
//! | `durable_pending`, `durable_oldest_seconds`, `durable_dead` | gauge | name | a durable queue |
//! | `durable_redelivered_total` | counter | name | messages that were delivered again |
//!
//! - `outcome` is one of `success`, `failure`, `overloaded`, `unprocessed`, `permanent` and `ignored`, which the
//!   classifier says; and `rejected`, `timed_out`, `cancelled` and `panicked`.
//! - Values of labels are known when the program is compiled: never a key, a path, a host or the text of an error. So
//!   the number of series is bounded: about 40 for a stack, and for each outcome of calls and of attempts that has
//!   come up a histogram, which Prometheus sees as 21 series.
//! - Gauges and counters are there from the start, but for rejections with `reached="true"`. A histogram is there from
//!   its first duration.
//! - A gate of your own refuses with a rejection of this crate, and counts as the mechanism which that names.
//! - Two stacks of one name are added up. Of ages and ratios the largest counts. A mechanism in both of them is read
//!   once. When a stack is gone its counts stay and its gauges are zero.
//! - Counts are in the process only. A restart begins at zero, as Prometheus expects it.
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
