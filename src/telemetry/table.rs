//! The metrics, as documented API.

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetricKind {
    /// It only grows, but for a restart.
    Counter,
    /// A value of the present.
    Gauge,
    /// Durations by [`BUCKETS`](super::BUCKETS).
    Histogram,
}

/// One line of the table of [metrics](super#the-metrics).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MetricInfo {
    /// The name, with the prefix `steadfast_`.
    pub name: &'static str,
    /// What it is.
    pub kind: MetricKind,
    /// The names of the labels. The first one names the stack, or what else it is of.
    pub labels: &'static [&'static str],
    /// What it says, in a sentence.
    pub help: &'static str,
}

impl MetricInfo {
    /// The name without the prefix, as readings have it.
    pub(super) fn short_name(&self) -> &'static str {
        self.name.strip_prefix("steadfast_").unwrap_or(self.name)
    }
}

macro_rules! metrics {
    ($($name:literal $kind:ident [$($label:literal),*] $help:literal;)*) => {
        &[$(MetricInfo {
            name: concat!("steadfast_", $name),
            kind: MetricKind::$kind,
            labels: &[$($label),*],
            help: $help,
        }),*]
    };
}

/// All metrics of this crate, by name. Names, kinds and labels change as the API does.
pub const METRICS: &[MetricInfo] = metrics! {
    "attempt_duration_seconds" Histogram ["stack", "kind", "outcome"] "How long attempts took.";
    "call_duration_seconds" Histogram ["stack", "outcome"] "How long calls took, waits and retries included.";
    "circuit_failure_ratio" Gauge ["stack"] "The share of failures among the calls that the circuit breaker counts.";
    "circuit_half_open_in_seconds" Gauge ["stack"] "The time until an open circuit lets probes through, else 0.";
    "circuit_state" Gauge ["stack", "state"] "1 for the state of the circuit, else 0; by key, the circuits in it.";
    "circuit_transitions_total" Counter ["stack", "to"] "How often the circuit came into a state.";
    "config_age_seconds" Gauge ["source"] "The time since the configuration in force was published.";
    "config_changes_total" Counter ["stack", "result"] "Changes of the configuration of a live stack.";
    "config_refused_total" Counter ["source", "reason"] "Configurations that were refused.";
    "config_version" Gauge ["source"] "The version of the configuration in force.";
    "durable_dead" Gauge ["name"] "The dead letters of a durable queue.";
    "durable_oldest_seconds" Gauge ["name"] "The age of the oldest message of a durable queue.";
    "durable_pending" Gauge ["name"] "The messages of a durable queue that are not done.";
    "durable_redelivered_total" Counter ["name"] "Messages that were delivered again.";
    "hints_ignored_total" Counter ["header"] "Malformed headers that were ignored.";
    "in_flight" Gauge ["stack", "mechanism"] "The calls in flight.";
    "in_flight_limit" Gauge ["stack", "mechanism"] "The most calls that may be in flight.";
    "in_flight_limit_reason" Gauge ["stack", "reason"] "1 for the reason of the limit on the calls in flight, else 0.";
    "keys" Gauge ["stack", "mechanism"] "The keys with a limit or a breaker of their own.";
    "keys_overflow_total" Counter ["stack", "mechanism"] "Calls of keys for which there was no place.";
    "queue_drain_seconds" Gauge ["stack"] "When the backlog is gone: infinite if it does not shrink, 0 if unknown.";
    "queue_oldest_seconds" Gauge ["stack"] "How long the oldest call in the queue has waited.";
    "queue_wait_seconds" Histogram ["stack"] "How long calls waited in the queue, of those that waited.";
    "queue_waiting" Gauge ["stack"] "The calls that wait in the queue.";
    "rate_limit_available" Gauge ["stack", "limit"] "The tokens that can be had now.";
    "rate_limit_waiting" Gauge ["stack", "limit"] "The calls that wait for tokens.";
    "rejections_total" Counter ["stack", "mechanism", "reason", "reached"] "Calls that a mechanism refused or ended.";
    "retries_denied_total" Counter ["stack", "reason"] "Calls that were worth another attempt and got none.";
    "retry_budget_balance" Gauge ["stack"] "The retries that were earned and are left.";
    "retry_delay_seconds" Histogram ["stack"] "The waits between the attempts of a call, of those with a retry.";
    "shadow_rejections_total" Counter ["stack", "mechanism"] "Calls that a limit in shadow let pass.";
    "shed_exempt_total" Counter ["stack"] "Calls that were exempt from a limit on the calls in flight.";
    "shed_total" Counter ["stack", "class", "reason"] "Calls that such a limit refused, by class.";
    "store_debt" Gauge ["name"] "The tokens that were spent and are not in the store yet.";
    "store_sync_age_seconds" Gauge ["name"] "The time since the store last answered.";
    "store_up" Gauge ["name"] "1 if the store answers, else 0.";
    "switched_off" Gauge ["stack"] "1 if the kill switch is on, else 0.";
    "timeout_rate" Gauge ["stack"] "The share of the last calls that a learned timeout gave up.";
    "timeout_seconds" Gauge ["stack"] "The limit of a learned timeout.";
};

#[cfg(all(test, not(steadfast_loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_its_names_follow_the_conventions() {
        assert!(METRICS.is_sorted_by(|one, next| one.name < next.name));
        for MetricInfo { name, kind, labels, .. } in METRICS {
            assert_eq!(name.ends_with("_total"), *kind == MetricKind::Counter, "{name}");
            assert!(*kind != MetricKind::Histogram || name.ends_with("_seconds"), "{name}");
            assert!(!labels.is_empty(), "{name}");
        }
    }
}
