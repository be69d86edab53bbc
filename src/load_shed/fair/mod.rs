//! No tenant fills the places of the others.
//!
//! - [`share`] is how many places one tenant may have.
//! - [`tenants`] counts the calls in flight of each tenant, in fixed memory.
//!
//! With `n` tenants that ask for more than they get, each holds `a (L - all)` places. So `a L / (1 + n a)` each, and
//! `L / (1 + n a)` places stay free for tenants that ask for less. The rule is known from switches that share memory
//! between their ports (Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet switches", 1998).

mod share;
mod tenants;

#[cfg(steadfast_loom)]
pub use share::Share;
#[cfg(not(steadfast_loom))]
pub(super) use share::Share;
#[cfg(steadfast_loom)]
pub use tenants::Tenants;
#[cfg(not(steadfast_loom))]
pub(super) use tenants::Tenants;
