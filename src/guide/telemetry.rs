//! How do I see what a stack does?
//!
//! A service that refuses and retries can look healthy from the outside for a long time. Its operators have to see how
//! much is refused, by which layer, and why.
//!
//! # Observers
//!
//! `.observe("payments", observer)` names the stack and adds an observer. There are three, and a pair of observers is
//! an observer, too:
//!
//! | observer | feature | gives |
//! |---|---|---|
//! | `Metrics` | `metrics` | counts and durations of calls, the state of each mechanism |
//! | `Spans` | `tracing` | a span for each call and each attempt, and events |
//! | [`Events`](crate::telemetry::Events) | none | runs your own functions, in a task that you spawn |
//!
//! A stack without an observer pays nothing.
//!
//! # Metrics
//!
//! Make one `Metrics` for the program, and give a clone to each stack. `Metrics` hands its numbers to the recorder that
//! is installed in the `metrics` crate. Call `collect` in the handler that is scraped.
//!
#![cfg_attr(feature = "metrics", doc = "```")]
#![cfg_attr(not(feature = "metrics"), doc = "```ignore")]
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use steadfast::{load_shed::Limiter, telemetry::{Metrics, SampleValue}};
//! use tower::{ServiceExt, service_fn};
//!
//! let metrics = Metrics::new();
//! let limiter = Limiter::fixed(1)?;
//! let orders = steadfast::server()
//!     .observe("orders", metrics.clone())
//!     .load_shed(limiter.clone())
//!     .service(service_fn(async |(): ()| Ok::<_, std::io::Error>(())))?;
//!
//! let _place = limiter.try_acquire()?;
//! assert!(orders.clone().oneshot(()).await.is_err());
//!
//! // In a server: `metrics.collect()`, and the exporter renders.
//! let refused = metrics.samples().into_iter().find(|sample| {
//!     sample.name == "steadfast_rejections_total" && sample.labels.contains(&("mechanism", "load_shed"))
//! });
//! assert!(matches!(refused.unwrap().value, SampleValue::Counter(1)));
//! # Ok(())
//! # }
//! ```
//!
//! The module [`telemetry`](crate::telemetry#metrics) has the setup for Prometheus and the table of all metrics. The
//! example `dashboard` has a live web page that you can copy into your server, a dashboard for Grafana and alerts for
//! Prometheus.
//!
//! # Which metric answers which question
//!
//! | question | metric, each with the prefix `steadfast_` |
//! |---|---|
//! | How many calls succeed, and how fast? | `call_duration_seconds` by `outcome` |
//! | What is refused, and by which layer? | `rejections_total` by `mechanism` and `reason` |
//! | Is the dependency down? | `circuit_state`, `circuit_failure_ratio` |
//! | Do retries help, or is the budget empty? | `attempt_duration_seconds` by `kind`, `retries_denied_total` by `reason`, `retry_budget_balance` |
//! | Is the server full? | `in_flight` beside `in_flight_limit`, and `shed_total` by `class` |
//! | How long do calls wait? | `queue_wait_seconds`, `queue_oldest_seconds`, `queue_drain_seconds` |
//! | What would a new limit refuse? | `shadow_rejections_total` |
//! | Which configuration is in force? | `config_version`, `config_age_seconds`, `config_refused_total` |
//!
//! Labels are fixed when the program is compiled: no key, no path and no text of an error is a label. The number of
//! time series is therefore bounded.
//!
//! # Traces and logs
//!
//! `Spans` makes a span of each call, and of each attempt below it. It logs a warning for the first rejection by a
//! mechanism of a stack at once. After that it logs at most one warning for this mechanism in ten seconds, with the
//! number of rejections since the last warning.
//!
//! # Functions of your own
//!
//! [`Events`](crate::telemetry::Events) calls your functions in a task that you spawn. No call waits for them. The
//! argument of `build` is the interval at which the task reports counts.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::{sync::mpsc, time::Duration};
//! use steadfast::{circuit_breaker::Breaker, telemetry::Events};
//!
//! let (log, lines) = mpsc::channel();
//! let (events, delivery) = Events::builder()
//!     .on_transition(move |stack, change| {
//!         let _ = log.send(format!("{stack}: {} is {}", change.mechanism(), change.to()));
//!     })
//!     .build(Duration::from_secs(10))?;
//! let delivery = tokio::spawn(delivery.run());
//!
//! let breaker = Breaker::builder().build()?;
//! let stack = steadfast::client().observe("payments", events).circuit_breaker(breaker.clone()).layer()?;
//! breaker.force_open();
//! drop(stack); // the delivery task reports the rest and ends
//! delivery.await?;
//! assert_eq!(lines.recv()?, "payments: circuit_breaker is forced_open");
//! # Ok(())
//! # }
//! ```
//!
//! An [`Observer`](crate::shell::Observer) of your own sees each call as it begins and as it ends.
//!
//! # Without an observer
//!
//! Each handle can be read: [`Breaker::state`](crate::circuit_breaker::Breaker::state),
//! [`Limiter::readings`](crate::load_shed::Limiter::readings), [`Queue::readings`](crate::load_level::Queue::readings),
//! [`RetryBudget::balance`](crate::retry::RetryBudget::balance). A mechanism without a stack is measured with
//! `Metrics::watch("name", handle)`.
