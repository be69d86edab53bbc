//! Refuses a call for which there is no room now.
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
//! - A refusal has no `retry_after`: a fixed limit does not know when there will be room.
//! - The [`Limiter`] is a handle: it can be read and changed while calls are in flight, shared by many layers, and used
//!   without tower.
//! - A limiter in [shadow](Limiter::set_shadow) refuses nothing and counts what it would have refused.
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
//! Two loads and one compare-and-swap to admit, and one subtraction to give back. Two loads and one addition to refuse:
//! the addition counts the refusal in a striped counter. No clock, no allocation.
//!
//! # Differences from `tower::limit::ConcurrencyLimit` under `tower::load_shed`
//!
//! There an idle handle that was polled ready keeps a place; `layer()` makes a new limit each time; and an inner
//! service that yields to the runtime is taken for overload.
//!
//! # Defaults
//!
//! There is no default limit. By Little's law the calls in flight at capacity are the capacity in calls per second
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
pub use layer::{ClassBy, ClassOf, ClassOfContext, ExemptBy, ExemptOf, NoTenants, NoneExempt, TenantBy, TenantOf};
pub use layer::{LoadShed, LoadShedLayer};
pub use limiter::Limiter;
#[cfg(feature = "constant-work")]
pub(crate) use limiter::check;
pub use permit::Permit;
#[doc(hidden)]
pub use permit::Ticket;
pub use readings::{LimitReason, Readings};
pub use signal::{CgroupPressure, CgroupPressureBuilder, Hysteresis, RuntimeLag, Signal};
