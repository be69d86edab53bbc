//! The configuration that is published: the limits of tenants.

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use steadfast::{
    ConfigError,
    constant_work::{Build, Rule},
};

/// The limit of one tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    pub tenant: u64,
    pub count: u32,
    pub period_nanos: u64,
    pub burst: u32,
    pub tier: u8,
}

/// The fields of [`Limit`], always of the same length. Postcard writes small integers in fewer bytes than large ones,
/// and reads them in fewer steps. The cost of a tick would then depend on the size of the limits.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Limit")]
struct FixedLength {
    #[serde(with = "postcard::fixint::le")]
    tenant: u64,
    #[serde(with = "postcard::fixint::le")]
    count: u32,
    #[serde(with = "postcard::fixint::le")]
    period_nanos: u64,
    #[serde(with = "postcard::fixint::le")]
    burst: u32,
    tier: u8,
}

/// A limit as it is encoded in a slot.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct Slot(#[serde(with = "FixedLength")] pub Limit);

thread_local! {
    /// How many slots this thread has decoded.
    pub static DECODED: Cell<u64> = const { Cell::new(0) };
}

impl Rule for Slot {
    const SCHEMA: u32 = 1;

    /// Sorts after all tenants.
    fn inert(_slot: u32) -> Self {
        Self(Limit { tenant: u64::MAX, count: u32::MAX, period_nanos: 1, burst: u32::MAX, tier: 0 })
    }

    fn validate(&self) -> Result<(), ConfigError> {
        DECODED.set(DECODED.get() + 1);
        match self.0 {
            Limit { count: 0, .. } => Err(ConfigError::new("limit.count", 0, "must be at least 1")),
            Limit { period_nanos: 0, .. } => Err(ConfigError::new("limit.period_nanos", 0, "must be at least 1")),
            _ => Ok(()),
        }
    }
}

/// Builds a table for binary search. The publisher sorts the rules, and this only checks their order, because sorting
/// takes longer for unsorted rules.
pub struct Tables;

impl Build<Slot> for Tables {
    type Value = Box<[Limit]>;

    fn check(&mut self, rules: &[Slot]) -> Result<(), ConfigError> {
        let in_order = |pair: &[Slot]| (pair[0].0.tenant < pair[1].0.tenant) | (pair[1].0.tenant == u64::MAX);
        match rules.windows(2).fold(true, |all, pair| all & in_order(pair)) {
            true => Ok(()),
            false => Err(ConfigError::new("limits", "unsorted", "must be sorted by tenant, each one once")),
        }
    }

    fn build(&mut self, rules: &[Slot]) -> Box<[Limit]> {
        rules.iter().map(|rule| rule.0).collect()
    }
}

/// Returns some limits, sorted by tenant.
pub fn some(seed: u64, count: u32) -> Vec<Limit> {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut limits = Vec::new();
    let mut tenant = 0;
    for _ in 0..count {
        tenant += random.random_range(1..1_000_000_000);
        limits.push(Limit {
            tenant,
            count: random.random_range(1..=100_000),
            period_nanos: random.random_range(1_000_000..=3_600_000_000_000),
            burst: random.random_range(1..=1_000),
            tier: random.random_range(0..=3),
        });
    }
    limits
}
