//! No tenant fills the places of the others.
//!
//! - [`share`] is how many places one tenant may have.
//! - [`tenants`] counts the calls in flight of each tenant, in fixed memory.
//!
//! With `n` tenants that ask for more than they get, each holds `a (L - all)` places. So `a L / (1 + n a)` each, and
//! `L / (1 + n a)` places stay free for tenants that ask for less.

mod share;
mod tenants;

pub(super) use share::Share;
pub(super) use tenants::Tenants;
