//! Limits the calls in flight and refuses calls over the limit: load shedding, admission control, a bulkhead.
//!
//! An overloaded server that admits every call finishes none in time: its queues grow until each answer comes after its
//! caller has given up. A server that refuses early the calls it cannot finish keeps answering at full capacity. This
//! layer admits or refuses at once. The layer that lets calls wait is [`load_level`](crate::load_level).
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use steadfast::load_shed::{LoadShedLayer, Limiter};
//! use tower::{BoxError, Layer, ServiceExt, service_fn};
//!
//! let query = service_fn(async |_: ()| {
//!     tokio::time::sleep(Duration::from_millis(10)).await;
//!     Ok::<_, BoxError>("rows")
//! });
//! let limiter = Limiter::fixed(2)?;
//! let service = LoadShedLayer::new(limiter.clone()).typed_error().layer(query);
//!
//! let calls = (0..3).map(|_| service.clone().oneshot(()));
//! let answers = futures::future::join_all(calls).await;
//! assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 2);
//! assert_eq!(limiter.in_flight(), 0);
//! # Ok(())
//! # }
//! ```
//!
//! # Semantics
//!
//! - A call takes a place in the first poll of its future, unless an outer layer makes it wait. Inside a retry each
//!   attempt takes a place of its own. The call gives the place back when it ends, panics or is dropped. The service's
//!   future is dropped before that. Only after a panic of the service it is dropped later, with the response future.
//! - A service handle that was polled ready but not called takes no place.
//! - A call gives its place back when the service returns the head of the response, so the place does not cover a
//!   streamed body. In a stack with `whole_body` (feature `http`) the call keeps its place until the end of the body.
//! - A call that ends by a timeout gives its place back, although a spawned task or another process may still work on
//!   it. Such work no longer counts. Within the length of one timeout, up to `limit` more calls can therefore begin. If
//!   your service goes on with such work, keep `limit / timeout` below the rate at which the service finishes calls.
//! - A refusal has no `retry_after`, because the limit does not know when there will be room. It has a
//!   [cause](crate::error::OverloadedCause).
//! - The [`Limiter`] is a handle. It can be read and changed while calls are in flight, shared by many layers, and used
//!   without tower.
//! - A limiter in [shadow](Limiter::set_shadow) refuses no call and counts the calls that it would have refused.
//!
//! # A limit that finds itself
//!
//! [`Limiter::adaptive`] makes an adaptive concurrency limit. It needs one number: the deadline of the callers. Most
//! calls carry a deadline in their [context](crate::CallContext), which the feature `http` fills from headers.
//! [`LimiterBuilder::deadline`] sets the deadline of the others.
//!
//! ```
//! use std::time::Duration;
//! use steadfast::load_shed::{LoadShed, Limiter};
//! # use tower::{BoxError, service_fn};
//! # use steadfast::Criticality;
//! # struct Request { tenant: u64 }
//!
//! # fn main() -> Result<(), steadfast::ConfigError> {
//! let limiter = Limiter::adaptive()
//!     .deadline(Duration::from_millis(500))
//!     .by_criticality()
//!     .fair_share(1.0)
//!     .build()?;
//! let shed = LoadShed::new(limiter.clone()).tenant(|request: &Request| request.tenant);
//! # let handler = service_fn(async |_: Request| Ok::<_, BoxError>("rows"));
//! let server = steadfast::server().load_shed(shed).service(handler)?;
//! # let _ = server;
//! println!("{:?}", limiter.readings());
//! # Ok(())
//! # }
//! ```
//!
//! - By default a call is refused if it would take longer than 70% of its remaining time. By Little's law a call that
//!   finds `n` others in flight ends after about `(n + 1) / rate`. Here `rate` is the rate of completions. It is
//!   measured over about 0.7 of the deadline, or longer if fewer than 128 calls end in that time.
//! - Let `m` be the number of calls that end at that rate within 70% of the remaining time. The limit differs from `m`
//!   by at most 2.5 standard deviations. One standard deviation is the square root of `m`. The limit settles where
//!   about 3% of the answers near it take more than 85% of their time.
//! - A call is late if it takes more than 85% of its time, and early if it takes less than 60%. A higher measured rate
//!   raises the limit at once. A lower measured rate lowers the limit at once only if the calls test the limit. While
//!   no call is late, there are two cases in which the calls do not test the limit: less than half of it is in use, or
//!   all measured calls are early. Then the limit falls slowly: to half in about 60 deadlines.
//! - No latency is compared with an ideal latency. A service that becomes three times slower for good gets a limit that
//!   fits it, and one fast answer changes nothing. The limiter does not probe: it refuses no call to learn something.
//! - If more calls are given up than answered, the limiter admits two calls at a time until the service answers again.
//!   If then no call ends for the length of a deadline, the calls in flight no longer count: two more are admitted.
//!   Work on calls that were given up may go on, and no limit can observe it.
//! - [`Aimd`] and [`Gradient`] are the algorithms of other libraries, and [`Algorithm`] is a trait for your own. The
//!   experiments in `examples/experiments` simulate both. In a metastable collapse (E4) the default served 83% to 97%
//!   of the calls, `Gradient` 56% to 78%, and `Aimd` 44% to 58%. In E11 a service was three times slower for a while.
//!   Against the goodput of the best fixed limit, the default lost 3% to 4%, and `Aimd` less than 1%. `Gradient` lost
//!   5% at a load of 0.8 of the capacity that the service had before, and nothing at higher loads.
//!
//! [`Limiter::readings`] returns the limit and the reason for it. For a separate limit for each host or endpoint, see
//! [`per_key`](crate::per_key#an-adaptive-limit-for-each-key).
//!
//! # Classes, tenants, signals
//!
//! Classes, tenants and signals also work with fixed limits: see [`Limiter::at_most`]. A fixed limit without classes,
//! fair shares and signals is a *plain* fixed limit. [`LoadShed::exempt`] does not change that.
//!
//! - [`by_criticality`](LimiterBuilder::by_criticality): less critical calls see a lower limit. A class can be
//!   [guaranteed](LimiterBuilder::guarantee) a share of the limit. It gets those places even when its own lower limit
//!   is reached. A limiter with a guarantee has a limit of at most 65,535; exempt calls and calls in shadow mode are
//!   admitted beyond that. The class of a call is the criticality in its context, or the one that
//!   [`LoadShed::criticality`] derives from the request. A caller cannot raise its own criticality unless it is
//!   trusted: the feature `http` reads the header of internal peers only.
//! - [`fair_share`](LimiterBuilder::fair_share): no tenant fills the places of the others. With a share of 1, a tenant
//!   holds at most as many places as remain free: a single greedy tenant gets half of the limit.
//! - [`signal`](LimiterBuilder::signal): the limit shrinks while the runtime lags ([`RuntimeLag`]), while the control
//!   group is under pressure ([`CgroupPressure`]), or while a function of yours reports overload.
//! - [`LoadShed::exempt`]: health checks and similar requests are always admitted. They take places. They are
//!   [counted](Limiter::exempted) unless the limit is a plain fixed limit.
//!
//! # Reconfiguration
//!
//! [`Limiter::configure`] sets the limit and the mode in one step while calls pass. Each call is judged by the
//! configuration at its admission. Calls in flight keep their places. If more calls are in flight than the new limit
//! allows, new calls are refused until enough have ended. This also holds when shadow mode ends. The count of calls
//! that would have been refused is not reset.
//!
//! # Cost
//!
//! A plain fixed limit: two loads and one compare-and-swap to admit, one subtraction to release. A refusal takes two
//! loads and one addition to a striped counter. No clock reading, no allocation.
//!
//! An adaptive limit: one reading of the clock and of the context, and about ten loads, to admit or refuse. To release
//! it takes one addition more than a plain fixed limit. With the default algorithm about one call in sixteen is
//! measured: it reads the clock at its end. Each call admitted near the limit or below a limit of 32 is measured, too.
//! The last of several calls in flight also reads the clock at its end. An algorithm whose
//! [`measures_all`](Algorithm::measures_all) returns `true`, such as `Aimd`, measures every call. No call waits for a
//! lock, and nothing is allocated.
//!
//! # Cancellation
//!
//! A dropped call gives its place back. An adaptive limit counts a dropped call as given up under three conditions. The
//! call is [measured](#cost), had reached the service, and had taken more than 85% of its time. Otherwise, or if the
//! call arrived after its deadline, the limit learns nothing from the dropped call.
//!
//! # Differences from `tower::limit::ConcurrencyLimit` under `tower::load_shed`
//!
//! In tower, an idle handle that was polled ready keeps a place. Each `layer()` makes a new limit. An inner service
//! that yields to the runtime counts as overloaded.
//!
//! # Defaults
//!
//! An adaptive limit uses a share of 0.7 of the deadline, and a deadline of one second for calls without one. The limit
//! is 100 calls until it has learned. Its floor is 1 and its ceiling 10,000. The methods of [`LimiterBuilder`] describe
//! these numbers. A service whose calls do not overlap keeps its [initial](LimiterBuilder::initial) limit, unless that
//! is below 4.
//!
//! A fixed limit has no default. By Little's law the calls in flight at capacity are the capacity in calls per second
//! times the mean latency. A higher limit absorbs bursts, and adds to the latency in proportion.

mod adaptive;
mod builder;
mod classes;
mod config;
mod enter;
mod fair;
mod instrument;
mod layer;
mod limiter;
mod permit;
mod places;
mod readings;
mod refusals;
mod rule;
mod signal;
mod stage;
mod terms;

pub use adaptive::{Aimd, Algorithm, Gradient, Limit, Little, Window};
pub use builder::LimiterBuilder;
pub use config::LoadShedConfig;
#[cfg(steadfast_loom)]
#[doc(hidden)]
pub use fair::{Share, Tenants};
#[doc(hidden)]
pub use layer::{ExemptBy, ExemptOf, NoTenants, NoneExempt, TenantBy, TenantOf};
pub use layer::{LoadShed, LoadShedLayer};
pub use limiter::Limiter;
#[cfg(feature = "constant-work")]
pub(crate) use limiter::check;
pub use permit::Permit;
#[doc(hidden)]
pub use permit::Ticket;
pub use readings::{LimitReason, Readings};
pub use signal::{CgroupPressure, CgroupPressureBuilder, Hysteresis, RuntimeLag, Signal};
