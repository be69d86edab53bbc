//! A token bucket for each of many keys, in a table of fixed size.
//!
//! - `table` finds a bucket by the hash of its key, and decides which bucket gives its slot to a new key.
//! - `tier` counts the tokens of a tier's keys, and converts them from one quota to the next.
//! - `shared` combines both into the state that all handles share.
//! - `handle` is the handle, `look` its reads that change nothing, and `instrument` its readings for observers.
//! - `by_key` implements the limit of a stack.

mod builder;
mod by_key;
mod handle;
mod instrument;
mod look;
mod shared;
mod table;
mod tier;
mod tier_of;

pub use builder::{KeyedBuilder, Overflow};
pub use by_key::{BorrowedKey, ByKey, KeyOf, OwnedKey};
pub use handle::Keyed;
pub(super) use tier::check_all as check_tiers;
pub use tier_of::{OneTier, TierBy, TierOf};
