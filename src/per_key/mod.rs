//! One mechanism for each key: a circuit breaker for each host, a limit for each tenant.

mod gate;
mod handle;
mod keys;
mod limit;
mod live;
mod mechanism;
mod order;
mod table;

pub use handle::PerKey;
#[doc(hidden)]
pub use live::OneOrPerKey;
#[doc(hidden)]
pub use mechanism::{Mechanism, Recipe};
