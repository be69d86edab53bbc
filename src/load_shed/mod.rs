//! Refuses a call for which there is no room now: load shedding, admission control.
//!
//! A server that takes in more than it can do finishes nothing in time: its queues grow until every answer comes after
//! its caller has gone. One that refuses early what it cannot do keeps answering at full capacity. This layer decides
//! at once; one that lets calls wait is [`load_level`](crate::load_level).
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
//! - A call takes a place in the first poll of its future and gives it back when it ends, is dropped, or panics,
//!   whichever comes first; the service's future is dropped before.
//! - A handle that is ready but not called takes no place.
//! - The place ends with the response's head; a streamed body is not covered.
//! - A call that a timeout ends gives its place back though the work for it may go on, in a spawned task or another
//!   process. Where it does, keep `limit / timeout` below what the service can work off per second.
//! - A refusal has no `retry_after`: the limit does not know when there will be room. It says
//!   [why](crate::error::OverloadedCause) there is none.
//! - The [`Limiter`] is a handle: it can be read and changed while calls are in flight, shared by many layers, and used
//!   without tower.
//! - A limiter in [shadow](Limiter::set_shadow) refuses nothing and counts what it would have refused.
//!
//! # A limit that finds itself
//!
//! [`Limiter::adaptive`] needs one number that its user knows: the deadline of the callers. Most calls bring theirs in
//! their [context](crate::CallContext), which the feature `http` fills from headers. The builder has one for the rest.
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
//! - By default a call is refused if it would not end within 70% of the time that it has left. By Little's law a call
//!   that finds `n` others in flight ends after about `(n + 1) / rate`, where calls end at `rate`. The rate is measured
//!   over some 0.7 of the deadline, or longer where fewer than 128 calls end in that time.
//! - The limit goes up or down by up to 2.5 standard deviations of that count, until about 3% of the answers near it
//!   take more than 85% of the time that they have.
//! - While less than half of the limit is in use, a lower rate says nothing: the limit stays, and it grows only by
//!   calls that ended.
//! - No latency is compared with an ideal one. A service that becomes three times slower for good gets the limit that
//!   fits, and one fast answer changes nothing. There are no probes: no call is refused to find something out.
//! - Where more calls are given up than answered, two at a time find out when the service answers again. The work on
//!   calls that were given up may go on, and no limit can see it.
//! - [`Aimd`] and [`Gradient`] are there for those who know them, and [`Algorithm`] for one of your own. In simulations
//!   of a metastable collapse both did much worse; see `examples/experiments`, E4. After a change of the service time
//!   they lost less than the default; see E11.
//!
//! [`Limiter::readings`] says what the limit is, and why. For a limit of its own for each host or endpoint, see
//! [`per_key`](crate::per_key#a-limit-for-each-key-that-finds-itself).
//!
//! # Classes, tenants, signals
//!
//! Fixed limits have these, too: [`Limiter::at_most`].
//!
//! - [`by_criticality`](LimiterBuilder::by_criticality): less critical calls see a lower limit. A class can be
//!   [guaranteed](LimiterBuilder::guarantee) a share. The class is that of the context. No caller raises itself, unless
//!   it is trusted: the feature `http` takes the word of internal peers only.
//! - [`fair_share`](LimiterBuilder::fair_share): no tenant fills the places of the others. One that asks for more than
//!   it gets leaves as much free as it has.
//! - [`signal`](LimiterBuilder::signal): the limit goes down while the runtime lags ([`RuntimeLag`]), the control group
//!   is under pressure ([`CgroupPressure`]), or a function of yours says so.
//! - [`LoadShed::exempt`]: health checks pass, and are counted.
//!
//! # Reconfiguration
//!
//! [`Limiter::configure`] sets the limit and the mode in one step while calls pass. Each call is judged by one
//! configuration, the one at its admission. Calls in flight keep their places: where they are more than a new limit
//! allows, or shadow ends with too many in flight, calls are refused until enough have ended. The count of what would
//! have been refused goes on.
//!
//! # Cost
//!
//! A plain fixed limit: two loads and one compare-and-swap to admit, and one subtraction to give back. Two loads and one
//! addition to refuse: the addition counts the refusal in a striped counter. No clock, no allocation.
//!
//! An adaptive limit: one reading of the clock and one of the context to admit or refuse, about ten loads, and one
//! addition more to give back. One call of sixteen, each near the limit, and each below a limit of 32 reads the clock at
//! its end. So does the last of several calls in flight. No lock is waited for, and nothing is allocated.
//!
//! # Differences from `tower::limit::ConcurrencyLimit` under `tower::load_shed`
//!
//! There an idle handle that was polled ready keeps a place; `layer()` makes a new limit each time; and an inner
//! service that yields to the runtime is taken for overload.
//!
//! # Defaults
//!
//! An adaptive limit has these: a share of 0.7, a deadline of a second for calls without one, 100 calls before anything
//! is known, a floor of 1 and a ceiling of 10,000. [`LimiterBuilder`] has the reasons.
//!
//! There is no default for a fixed limit. By Little's law the calls in flight at capacity are the capacity in calls per second
//! times the mean latency; some more absorb bursts, and each adds its share of the latency.

mod adaptive;
mod builder;
mod classes;
mod config;
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
