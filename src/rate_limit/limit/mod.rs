//! The parts of a `RateLimit`: the source of its tokens, the cost of a call, refunds and the count of refusals. Token
//! buckets, windows and users' own limits are such sources, and implement the trait [`Limit`]. A source whose quotas
//! can change while calls pass also implements [`LiveLimit`].

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
