//! Serialized durations: `"250ms"` or `"1m 30s"` in human-readable formats such as JSON, otherwise whole nanoseconds.
//!
//! A human-readable duration is one or more numbers, each followed by its unit, largest unit first. There is no space
//! between a number and its unit. Units are case-sensitive: `d`, `h`, `m` or `min`, `s`, `ms`, `us` or `µs`, `ns`.
//! Months and years are not supported, because their length varies. A decimal fraction is accepted if it is a whole
//! number of nanoseconds.
//!
//! [`fields`] makes a module for each field, so that an error names the field.

use crate::{
    clock::Nanos,
    error::{ConfigError, LONGEST},
};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, Visitor},
};
use std::{fmt, time::Duration};

/// The units, largest first, each with its nanoseconds. The first name is used for writing.
const UNITS: [(&[&str], u64); 7] = [
    (&["d"], 86_400_000_000_000),
    (&["h"], 3_600_000_000_000),
    (&["m", "min"], 60_000_000_000),
    (&["s"], 1_000_000_000),
    (&["ms"], 1_000_000),
    // With the micro sign, and with the Greek letter that looks the same.
    (&["us", "\u{b5}s", "\u{3bc}s"], 1_000),
    (&["ns"], 1),
];

const NANOS_PER_SEC: u128 = 1_000_000_000;

const RULE: &str =
    "must be numbers with a unit each, of d, h, m, s, ms, us and ns, the largest first: \"1m 30s\", \"250ms\"";

/// Makes a module for each field that holds a duration, for `#[serde(with = ..)]`.
macro_rules! fields {
    ($($module:ident: $field:literal,)*) => { $(
        pub(crate) mod $module {
            use super::{Deserializer, Duration, Serializer};

            pub(crate) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
                super::write(*duration, serializer)
            }

            pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
                super::read($field, deserializer)
            }
        }
    )* };
}

/// Makes the modules of optional fields.
macro_rules! optional_fields {
    ($($module:ident: $field:literal,)*) => { $(
        pub(crate) mod $module {
            use super::{Deserializer, Duration, Serialize, Serializer};

            pub(crate) fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
                duration.map(super::Written).serialize(serializer)
            }

            pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
                deserializer.deserialize_option(super::ReadOptional($field))
            }
        }
    )* };
}

fields! {
    backoff_base: "retry.backoff.base",
    backoff_cap: "retry.backoff.cap",
    max_hint: "retry.max_hint",
    failure_rate_window: "circuit_breaker.failure_rate.window",
    slow_call_threshold: "circuit_breaker.slow_call_rate.threshold",
    open_for: "circuit_breaker.open_for",
    probe_timeout: "circuit_breaker.probe_timeout",
    max_wait: "load_level.max_wait",
    adaptive_target: "load_level.discipline.adaptive.target",
    adaptive_interval: "load_level.discipline.adaptive.interval",
    // The period of the retry budget's floor and of the queue's pace.
    pace_period: "period",
    quota_period: "rate_limit.quotas.period",
}

optional_fields! {
    timeout: "timeout",
    attempt_timeout: "attempt_timeout",
    max_open_for: "circuit_breaker.max_open_for",
    cancelled_is_failure_after: "circuit_breaker.cancelled_is_failure_after",
}

fn write<S: Serializer>(duration: Duration, serializer: S) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() {
        serializer.collect_str(&ForPeople(duration))
    } else {
        Nanos::of(duration).0.serialize(serializer)
    }
}

fn read<'de, D: Deserializer<'de>>(field: &'static str, deserializer: D) -> Result<Duration, D::Error> {
    if deserializer.is_human_readable() {
        deserializer.deserialize_str(Read(field))
    } else {
        Ok(Duration::from_nanos(u64::deserialize(deserializer)?))
    }
}

/// A duration in the form of this module.
struct Written(Duration);

impl Serialize for Written {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        write(self.0, serializer)
    }
}

/// Reads a human-readable duration into the field of this name.
struct Read(&'static str);

impl Visitor<'_> for Read {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a duration for {}, such as \"1m 30s\" or \"250ms\"", self.0)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
        parse(text).map_err(|rule| E::custom(ConfigError::new(self.0, text, rule)))
    }
}

/// Reads an optional duration.
struct ReadOptional(&'static str);

impl<'de> Visitor<'de> for ReadOptional {
    type Value = Option<Duration>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Read(self.0).expecting(f)
    }

    fn visit_none<E: Error>(self) -> Result<Option<Duration>, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Option<Duration>, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<Duration>, D::Error> {
        read(self.0, deserializer).map(Some)
    }
}

/// Reads a duration, or returns the rule that the text breaks.
fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || RULE.to_owned();
    let too_long = || format!("must be at most {}", ForPeople(LONGEST));
    let mut units = UNITS.iter();
    let mut total: u128 = 0;
    let mut rest = text;
    loop {
        let (whole, after) = digits(rest);
        let (fraction, after) = match after.strip_prefix('.').map(digits) {
            Some(("", _)) => return Err(wrong()),
            Some((fraction, after)) => (fraction, after),
            None => ("", after),
        };
        let end = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let (name, after) = after.split_at(end);
        // The search continues after the previous unit, so units descend and do not repeat.
        let unit = units.find(|(names, _)| names.contains(&name)).map(|(_, nanos)| u128::from(*nanos));
        let (Some(unit), false) = (unit, whole.is_empty()) else { return Err(wrong()) };
        let whole: u64 = whole.parse().map_err(|_| too_long())?;
        // The total fits into 128 bits: it adds at most seven products of a 64-bit number and a unit below 2^47.
        total += u128::from(whole) * unit + part_of(unit, fraction).ok_or_else(wrong)?;
        if after.is_empty() {
            break;
        }
        rest = after.trim_start_matches(' ');
    }
    let secs = u64::try_from(total / NANOS_PER_SEC).map_err(|_| too_long())?;
    // Less than 10^9.
    Ok(Duration::new(secs, (total % NANOS_PER_SEC) as u32))
}

/// Splits a text after its leading digits.
fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// Returns the nanoseconds of a decimal fraction of a unit, if that is a whole number.
fn part_of(unit: u128, fraction: &str) -> Option<u128> {
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() {
        return Some(0);
    }
    // A day is 2^16 * 3^3 * 5^11 ns. A fraction of more than 16 digits, without trailing zeros, is therefore never a
    // whole number of nanoseconds. The limit here is 18 digits: such a fraction times a unit fits into 128 bits.
    let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?).filter(|scale| *scale <= 10_u128.pow(18))?;
    let nanos = fraction.parse::<u128>().ok()? * unit;
    (nanos % scale == 0).then_some(nanos / scale)
}

/// Writes a duration in the form that is read.
struct ForPeople(Duration);

impl fmt::Display for ForPeople {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_zero() {
            return f.write_str("0s");
        }
        let mut rest = self.0.as_nanos();
        let mut gap = "";
        for (names, unit) in UNITS {
            let unit = u128::from(unit);
            if rest >= unit {
                write!(f, "{gap}{}{}", rest / unit, names[0])?;
                rest %= unit;
                gap = " ";
            }
        }
        Ok(())
    }
}
