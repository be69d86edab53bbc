//! The parts of a `RateLimit`: the trait that token buckets, windows and users' own limits implement, the cost of a
//! call, refunds and the count of refusals.

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
