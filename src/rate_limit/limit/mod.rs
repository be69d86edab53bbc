//! The limit of a stack: the trait that buckets, windows and users' own limits implement, and the parts of a
//! `RateLimit`.

mod both;
mod contract;
mod cost;
mod live;
mod refund;
mod refused;

pub use both::Both;
pub use contract::{DescribeLimit, Limit};
pub use cost::{Cost, CostBy, CostsOfParts, OneToken};
pub use live::{LiveLimit, Shadow};
pub use refund::{AllCount, RefundBy, RefundIf};
pub use refused::RefusedCalls;
