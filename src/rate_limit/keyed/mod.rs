//! A bucket for each of many keys, in a table of fixed size.
//!
//! - `table` finds a bucket by the hash of its key, and decides which one gives way to a new one.
//! - `tier` is what the keys of a tier are counted by, and the change from one quota to the next.
//! - `shared` puts both together: what all handles share.
//! - `handle` is what users ask; `look` is what can be seen without a change, and
//!   `instrument` what observers read.
//! - `by_key` makes a limit of a stack of it.

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
