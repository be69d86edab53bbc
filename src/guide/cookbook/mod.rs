//! What do I write for my case? Short recipes to copy.
//!
//! The tests compile and run the examples, except where a recipe says otherwise. The other pages of the guide give the
//! reasons.
//!
//! | recipe | needs |
//! |---|---|
//! | [an axum server][axum] | `http` |
//! | [a hyper server][hyper-server], [a hyper client][hyper-client] | `http` |
//! | [a tonic server][tonic-server], [a tonic client][tonic-client] | `http` |
//! | [a reqwest client][reqwest] | `http` |
//! | [one circuit breaker for each host][per-host] | `http` |
//! | [idempotency keys][keys] | `http` |
//! | [a bulkhead for each tenant](#a-bulkhead-for-each-tenant) | |
//! | [Prometheus](#prometheus) | `metrics` |
//! | [OpenTelemetry](#opentelemetry) | `tracing` |
//!
//! # A bulkhead for each tenant
//!
//! A bulkhead keeps one tenant from taking the places of all others. A [`PerKey`](crate::per_key::PerKey) of limiters
//! gives each tenant the same number of places:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use steadfast::{load_shed::LoadShedConfig, per_key::PerKey};
//! use tower::{ServiceExt, service_fn};
//!
//! struct Request {
//!     tenant: u64,
//! }
//!
//! let bulkheads = PerKey::new(|request: &Request| request.tenant, LoadShedConfig::new(2))?;
//! let server = steadfast::server()
//!     .load_shed(bulkheads.clone())
//!     .service(service_fn(async |_: Request| Ok::<_, std::io::Error>("rows")))?;
//!
//! // Tenant 7 has two calls in flight. Its third call is refused, and tenant 8 does not notice.
//! let busy = bulkheads.handle(7);
//! let _places = (busy.try_acquire()?, busy.try_acquire()?);
//! assert!(server.clone().oneshot(Request { tenant: 7 }).await.is_err());
//! assert_eq!(server.oneshot(Request { tenant: 8 }).await?, "rows");
//! # Ok(())
//! # }
//! ```
//!
//! The sum of all bulkheads has no bound. If the server can do only a certain number of calls at once, let the tenants
//! share one limit with [`fair_share`](crate::load_shed::LimiterBuilder::fair_share). With a share of 1, a tenant may
//! hold at most as many places as are free. A tenant alone therefore gets half of the places, and a tenant that comes
//! later still finds some:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use steadfast::load_shed::{Limiter, LoadShed};
//! use tower::{ServiceExt, service_fn};
//!
//! struct Request {
//!     tenant: u64,
//! }
//!
//! let limiter = Limiter::at_most(10).fair_share(1.0).build()?;
//! let shed = LoadShed::new(limiter.clone()).tenant(|request: &Request| request.tenant);
//! let server = steadfast::server().load_shed(shed).service(service_fn(async |_: Request| {
//!     tokio::time::sleep(std::time::Duration::from_millis(10)).await;
//!     Ok::<_, std::io::Error>("rows")
//! }))?;
//!
//! let call = |tenant| server.clone().oneshot(Request { tenant });
//! // Twenty calls of tenant 7 arrive before one of tenant 8.
//! let (of_7, of_8) = tokio::join!(futures::future::join_all((0..20).map(|_| call(7))), call(8));
//! assert!(of_7.iter().filter(|answer| answer.is_ok()).count() < 10);
//! assert!(of_8.is_ok());
//! # Ok(())
//! # }
//! ```
//!
//! A tenant that buys a rate, not places, gets a bucket of its own: see
//! [a limit for each key](crate::rate_limit#a-limit-for-each-key). The example `own_gate` writes a bulkhead as a gate
//! of your own.
//!
//! # Prometheus
//!
//! The feature `metrics` writes to the recorder of the `metrics` crate. `metrics-exporter-prometheus` is such a
//! recorder. Make one `Metrics` for the program and give a clone to each stack. The route `/metrics` collects and
//! renders.
//!
#![cfg_attr(feature = "metrics", doc = "```")]
#![cfg_attr(not(feature = "metrics"), doc = "```ignore")]
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use axum::{Router, routing::get};
//! use metrics_exporter_prometheus::PrometheusBuilder;
//! use steadfast::{circuit_breaker::Breaker, telemetry::{BUCKETS, Metrics}};
//! use tower::{ServiceExt, service_fn};
//!
//! let exporter = PrometheusBuilder::new().set_buckets(&BUCKETS)?.install_recorder()?;
//! let metrics = Metrics::new();
//! let payments = steadfast::client()
//!     .observe("payments", metrics.clone())
//!     .circuit_breaker(Breaker::builder().build()?)
//!     .service(service_fn(async |amount: u32| Ok::<_, std::io::Error>(amount)))?;
//!
//! let scrape = move || {
//!     metrics.collect();
//!     exporter.run_upkeep();
//!     exporter.render()
//! };
//! # let page = scrape.clone();
//! let app: Router = Router::new().route("/metrics", get(async move || scrape()));
//! # let _ = app;
//!
//! payments.clone().oneshot(7).await?;
//! # let page = page();
//! assert!(page.contains(r#"steadfast_circuit_state{stack="payments",state="closed"} 1"#));
//! assert!(page.contains(r#"steadfast_call_duration_seconds_count{stack="payments",outcome="success"} 1"#));
//! # Ok(())
//! # }
//! ```
//!
//! The example `dashboard` has a dashboard for Grafana and alert rules for these metrics. The table of all metrics is
//! in [`telemetry`](crate::telemetry#the-metrics).
//!
//! # OpenTelemetry
//!
//! This crate does not depend on OpenTelemetry. Its spans are spans of the `tracing` crate, and `tracing-opentelemetry`
//! exports those. A program needs the crates `opentelemetry`, `opentelemetry_sdk`, `opentelemetry-otlp`,
//! `tracing-opentelemetry` and `tracing-subscriber`. The tests do not compile the following lines:
//!
//! ```text
//! let exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic().build()?;
//! let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).build();
//! tracing_subscriber::registry()
//!     .with(EnvFilter::new("info,steadfast=debug"))
//!     .with(tracing_opentelemetry::layer().with_tracer(provider.tracer("shop")))
//!     .init();
//! ```
//!
//! A stack with the observer `Spans` then makes a span for each call, and one for each attempt below it. The filter has
//! to let the level DEBUG of the target `steadfast` pass.
//!
#![cfg_attr(feature = "tracing", doc = "```")]
#![cfg_attr(not(feature = "tracing"), doc = "```ignore")]
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use steadfast::{retry::Retry, telemetry::Spans};
//! use tower::{ServiceExt, service_fn};
//!
//! let payments = steadfast::client()
//!     .observe("payments", Spans::new())
//!     .retry(Retry::new(3))
//!     .service(service_fn(async |amount: u32| Ok::<_, std::io::Error>(amount)))?;
//! assert_eq!(payments.oneshot(7).await?, 7);
//! # Ok(())
//! # }
//! ```
//!
//! The stack does not send the trace context. Your service has to send it. Inside the service, the current span is the
//! span of the attempt. For metrics, let the collector of OpenTelemetry scrape `/metrics` of the recipe above.
//! `.observe("payments", (metrics, Spans::new()))` gives a stack both observers.
//!
#![cfg_attr(feature = "http", doc = "[axum]: frameworks#an-axum-server")]
#![cfg_attr(feature = "http", doc = "[hyper-server]: frameworks#a-hyper-server")]
#![cfg_attr(feature = "http", doc = "[hyper-client]: frameworks#a-hyper-client")]
#![cfg_attr(feature = "http", doc = "[tonic-server]: frameworks#a-tonic-server")]
#![cfg_attr(feature = "http", doc = "[tonic-client]: frameworks#a-tonic-client")]
#![cfg_attr(feature = "http", doc = "[reqwest]: frameworks#a-reqwest-client")]
#![cfg_attr(feature = "http", doc = "[per-host]: frameworks#one-circuit-breaker-for-each-host")]
#![cfg_attr(feature = "http", doc = "[keys]: frameworks#idempotency-keys")]
#![cfg_attr(not(feature = "http"), doc = "[axum]: crate#features")]
#![cfg_attr(not(feature = "http"), doc = "[hyper-server]: crate#features")]
#![cfg_attr(not(feature = "http"), doc = "[hyper-client]: crate#features")]
#![cfg_attr(not(feature = "http"), doc = "[tonic-server]: crate#features")]
#![cfg_attr(not(feature = "http"), doc = "[tonic-client]: crate#features")]
#![cfg_attr(not(feature = "http"), doc = "[reqwest]: crate#features")]
#![cfg_attr(not(feature = "http"), doc = "[per-host]: crate#features")]
#![cfg_attr(not(feature = "http"), doc = "[keys]: crate#features")]

#[cfg(feature = "http")]
pub mod frameworks;
