//! Fair shares: no tenant fills the places of the others.
//!
//! - [`share`] is the number of places that one tenant may take.
//! - [`tenants`] counts the calls in flight of each tenant, in fixed memory.
//!
//! Let `a` be the share, `L` the limit and `all` the calls in flight. Each of `n` tenants whose demand exceeds its
//! share gets `a (L - all)` places. If no other tenant has a call in flight, that is `a L / (1 + n a)` places each.
//! Then `L / (1 + n a)` places stay free for tenants with less demand. The rule comes from switches that share memory
//! between their ports (Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet switches",
//! 1998).

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
