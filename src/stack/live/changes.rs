//! Describes the difference between two configurations.

use super::StackConfig;
use crate::rate_limit::RateLimitConfig;
use std::fmt;

/// Displays the fields that differ, each with its old and its new value: `timeout: 1s => 2s, load_shed.limit: 64 =>
/// 32`.
pub(super) struct Changes<'config> {
    pub(super) before: &'config StackConfig,
    pub(super) after: &'config StackConfig,
}

/// The maximum length of a value, in characters, without the `..` at the end of a truncated one.
const LONGEST_VALUE: usize = 200;

/// Writes a list of changes with separators.
struct Writer<'f, 'buffer> {
    f: &'f mut fmt::Formatter<'buffer>,
    separator: &'static str,
}

impl Writer<'_, '_> {
    /// Writes a field, if its values differ.
    fn field(&mut self, name: fmt::Arguments<'_>, before: &str, after: &str) -> fmt::Result {
        if before == after {
            return Ok(());
        }
        let separator = std::mem::replace(&mut self.separator, ", ");
        write!(self.f, "{separator}{name}: {before} => {after}")
    }
}

/// Writes the fields of a part that differ. For a part that only one of the two configurations has, writes `some` and
/// `none` in place of its fields.
macro_rules! part {
    ($writer:ident, $before:ident, $after:ident, $part:ident: $($field:ident),*) => {
        let none = |part: bool| if part { "some" } else { "none" };
        match (&$before.$part, &$after.$part) {
            (Some(before), Some(after)) => {
                $($writer.field(
                    format_args!(concat!(stringify!($part), ".", stringify!($field))),
                    &words(&before.$field),
                    &words(&after.$field),
                )?;)*
            }
            (before, after) => {
                $writer.field(format_args!(stringify!($part)), none(before.is_some()), none(after.is_some()))?;
            }
        }
    };
}

impl fmt::Display for Changes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { before, after } = self;
        let mut writer = Writer { f, separator: "" };
        let switch = |off: bool| if off { "on" } else { "off" };
        writer.field(format_args!("kill switch"), switch(before.switched_off), switch(after.switched_off))?;
        writer.field(format_args!("timeout"), &words(&before.timeout), &words(&after.timeout))?;
        part!(writer, before, after, retry: attempts, max_hint, budget);
        let backoff = |config: &StackConfig| config.retry.as_ref().map(|retry| retry.backoff.to_string());
        let (old, new) = (backoff(before).unwrap_or_default(), backoff(after).unwrap_or_default());
        if before.retry.is_some() && after.retry.is_some() {
            writer.field(format_args!("retry.backoff"), &old, &new)?;
        }
        part!(writer, before, after, circuit_breaker: consecutive_failures, failure_rate, slow_call_rate,
            minimum_calls, open_for, max_open_for, probes, probe_timeout, cancelled_is_failure_after,
            overload_is_failure, forced);
        for (place, (before, after)) in before.rate_limit.iter().zip(&after.rate_limit).enumerate() {
            writer.field(format_args!("rate_limit[{place}].quotas"), &quotas(before), &quotas(after))?;
            writer.field(format_args!("rate_limit[{place}].shadow"), &words(&before.shadow), &words(&after.shadow))?;
        }
        part!(writer, before, after, load_shed: limit, shadow);
        part!(writer, before, after, load_level: concurrency, depth, max_weight, max_wait, discipline, pace);
        writer.field(format_args!("attempt_timeout"), &words(&before.attempt_timeout), &words(&after.attempt_timeout))
    }
}

fn quotas(limit: &RateLimitConfig) -> String {
    let quotas: Vec<_> = limit.quotas.iter().map(|quota| quota.to_string()).collect();
    truncated(quotas.join(" or "))
}

/// Formats a value as `Debug` does, but without `Some(..)` around it, and with `none` for `None`. Truncates long
/// values.
fn words(value: &impl fmt::Debug) -> String {
    let text = format!("{value:?}");
    let inside = text.strip_prefix("Some(").and_then(|text| text.strip_suffix(')'));
    match inside.unwrap_or(&text) {
        "None" => "none".to_owned(),
        inside => truncated(inside.to_owned()),
    }
}

/// Truncates a value: a limit with many tiers has a long list of quotas.
fn truncated(mut text: String) -> String {
    if let Some((cut, _)) = text.char_indices().nth(LONGEST_VALUE) {
        text.truncate(cut);
        text.push_str("..");
    }
    text
}
