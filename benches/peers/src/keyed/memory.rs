//! The heap memory per key: of a table sized for the keys, or of a map that has grown.

use super::{
    MANY, fill,
    limits::{Limit, Ours, Size, monotonic_governor, rate_net, throttle_net},
};
use crate::allocations;
use clock_lib::SystemClock;
use serde::Serialize;
use std::hash::RandomState;
use steadfast::rate_limit::Overflow;

/// The bytes that one limiter has allocated and kept once it knows its keys.
#[derive(Serialize)]
pub struct Memory {
    pub name: &'static str,
    pub keys: usize,
    pub bytes_per_key: f64,
}

pub const NAME: &str = "keyed rate limit: bytes per key";

/// With keys of eight bytes. Longer keys cost our limit nothing, because it does not store keys.
pub fn measure() -> Vec<Memory> {
    let each = MANY.into_iter().flat_map(|(count, _)| {
        let size = Size::plenty(count);
        [
            measured("steadfast", count, || Ours::new(size, Overflow::Shared, RandomState::new())),
            measured("governor", count, || monotonic_governor(size, RandomState::new())),
            measured("rate-net", count, || rate_net(size, SystemClock::new())),
            measured("throttle-net", count, || throttle_net(size, SystemClock::new())),
        ]
    });
    each.collect()
}

fn measured<L: Limit>(name: &'static str, keys: usize, make: impl FnOnce() -> L) -> Memory {
    let bytes = allocations::kept(|| {
        let limit = make();
        fill(&limit, keys);
        limit
    });
    Memory { name, keys, bytes_per_key: (bytes as f64 / keys as f64 * 10.0).round() / 10.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Large enough that parallel tests allocate and free little in comparison.
    #[test]
    fn a_list_of_boxes_takes_what_its_boxes_take() {
        let boxes = || -> Vec<Box<[u64; 4096]>> { (0..4000).map(|number| Box::new([number; 4096])).collect() };
        let bytes = allocations::kept(boxes);
        assert!((118_000_000..145_000_000).contains(&bytes), "{bytes}");
    }
}
