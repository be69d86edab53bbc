//! Takes work in at the pace of those who bring it, and does it at the pace of those who can.

#[cfg(feature = "redis")]
pub mod durable;
