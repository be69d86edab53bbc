//! The encoding of a rule: every field has a fixed place, given or not, and every number a fixed length.
//!
//! The fields and their order are the encoding. A change of either needs another
//! [`SCHEMA`](crate::constant_work::Rule::SCHEMA).

use super::{
    fixed_length::{FixedLength, Listed, WireCursor, WireError, structs, variants},
    rule::{LONGEST_NAME, MOST_LIMITS, MOST_TIERS, StackRule},
};
use crate::{
    backoff::{Backoff, Growth, Jitter},
    load_level::{Discipline, Kind},
    rate_limit::Quota,
    stack::live::{
        BreakerConfig, BudgetConfig, FailureRate, Forced, LoadLevelConfig, LoadShedConfig, Pace, RateLimitConfig,
        RetryConfig, SlowCallRate, StackConfig,
    },
};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, SeqAccess, Visitor},
    ser::{self, SerializeTuple},
};
use std::{fmt, str, time::Duration};

structs! {
    StackRule { name, config }
    StackConfig {
        switched_off, timeout, attempt_timeout, retry, circuit_breaker, rate_limit, load_shed, load_level
    }
    RetryConfig { attempts, backoff, max_hint, budget }
    BudgetConfig { ratio, cap, floor }
    Pace { count, period }
    BreakerConfig {
        consecutive_failures, failure_rate, slow_call_rate, minimum_calls, open_for, max_open_for, probes,
        probe_timeout, cancelled_is_failure_after, overload_is_failure, forced
    }
    FailureRate { rate, window }
    SlowCallRate { rate, threshold }
    RateLimitConfig { quotas, shadow }
    LoadShedConfig { limit, shadow }
    LoadLevelConfig { concurrency, depth, max_weight, max_wait, discipline, pace }
}

variants! {
    Forced: Forced::Open, Forced::Closed;
    Growth: Growth::Exponential, Growth::Linear;
}

impl Listed for RateLimitConfig {
    const MOST: usize = MOST_LIMITS;
}

impl Listed for Quota {
    const MOST: usize = MOST_TIERS;
}

impl FixedLength for Quota {
    const ABSENT: Self = Self::new(0, Duration::ZERO);

    fn pass(&mut self, cursor: &mut WireCursor<'_>) -> Result<(), WireError> {
        let mut parts = (self.count(), self.period(), self.burst());
        parts.pass(cursor)?;
        let (count, period, burst) = parts;
        *self = Self::new(count, period).with_burst(burst);
        Ok(())
    }
}

impl FixedLength for Backoff {
    const ABSENT: Self = Self::fixed(Duration::ZERO);

    fn pass(&mut self, cursor: &mut WireCursor<'_>) -> Result<(), WireError> {
        let mut parts = self.parts();
        parts.pass(cursor)?;
        *self = Self::of_parts(parts);
        Ok(())
    }
}

impl FixedLength for Jitter {
    const ABSENT: Self = Self::Full;

    fn pass(&mut self, cursor: &mut WireCursor<'_>) -> Result<(), WireError> {
        let mut parts = self.numbers();
        parts.pass(cursor)?;
        *self = Self::of_numbers(parts.0, parts.1).ok_or("unknown enum variant")?;
        Ok(())
    }
}

impl FixedLength for Discipline {
    const ABSENT: Self = Self::fifo();

    fn pass(&mut self, cursor: &mut WireCursor<'_>) -> Result<(), WireError> {
        let none = Duration::ZERO;
        let mut parts = match self.0 {
            Kind::Deadline { share } => (0_u8, share, none, none),
            Kind::Fifo => (1, 0.0, none, none),
            Kind::Lifo => (2, 0.0, none, none),
            Kind::Adaptive { target, interval } => (3, 0.0, target, interval),
            Kind::EarliestDeadline { share } => (4, share, none, none),
        };
        parts.pass(cursor)?;
        let (variant, share, target, interval) = parts;
        *self = match variant {
            0 => Self::by_deadline(share),
            1 => Self::fifo(),
            2 => Self::lifo(),
            3 => Self::adaptive_with(target, interval),
            4 => Self::earliest_deadline_with(share),
            _ => return Err("unknown enum variant"),
        };
        Ok(())
    }
}

/// The name of a stack, padded with zeros.
impl FixedLength for String {
    const ABSENT: Self = Self::new();

    fn pass(&mut self, cursor: &mut WireCursor<'_>) -> Result<(), WireError> {
        let mut bytes = [0; LONGEST_NAME];
        bytes.iter_mut().zip(self.bytes()).for_each(|(place, byte)| *place = byte);
        cursor.bytes(&mut bytes)?;
        let length = bytes.iter().position(|byte| *byte == 0).unwrap_or(LONGEST_NAME);
        let (name, rest) = bytes.split_at(length);
        if rest.iter().any(|byte| *byte != 0) {
            return Err("a name contains a zero byte");
        }
        let name = str::from_utf8(name).map_err(|_| "a name is not UTF-8")?;
        *self = name.to_owned();
        Ok(())
    }
}

/// The length of every encoded rule.
const LENGTH: usize = 1071;

impl Serialize for StackRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = [0; LENGTH];
        self.clone().pass(&mut WireCursor::Write(&mut bytes)).map_err(ser::Error::custom)?;
        let mut tuple = serializer.serialize_tuple(LENGTH)?;
        bytes.iter().try_for_each(|byte| tuple.serialize_element(byte))?;
        tuple.end()
    }
}

impl<'de> Deserialize<'de> for StackRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_tuple(LENGTH, ReadRule)
    }
}

struct ReadRule;

impl<'de> Visitor<'de> for ReadRule {
    type Value = StackRule;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {LENGTH} bytes of a rule")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<StackRule, A::Error> {
        let mut bytes = [0; LENGTH];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = sequence.next_element()?.ok_or_else(|| de::Error::invalid_length(index, &self))?;
        }
        let mut rule = StackRule::ABSENT;
        rule.pass(&mut WireCursor::Read(&bytes)).map_err(de::Error::custom)?;
        Ok(rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::constant_work::Rule;

    #[test]
    fn every_rule_has_its_length() {
        for rule in [StackRule::inert(0), StackRule::ABSENT] {
            let mut bytes = [0; LENGTH];
            let mut cursor = WireCursor::Write(&mut bytes);
            rule.clone().pass(&mut cursor).expect("room");
            assert!(matches!(cursor, WireCursor::Write([])), "there is no room left");
        }
    }
}
