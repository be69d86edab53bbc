//! The table of metrics, which is public API.

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetricKind {
    /// A count that never falls, except by a restart.
    Counter,
    /// A current value.
    Gauge,
    /// Durations by [`BUCKETS`](super::BUCKETS).
    Histogram,
}

/// One row of the table of [metrics](super#the-metrics).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MetricInfo {
    /// The name, with the prefix `steadfast_`.
    pub name: &'static str,
    /// The kind of the metric.
    pub kind: MetricKind,
    /// The names of the labels. The first label names the stack, the source, the header, or (as `name`) the store or
    /// the durable queue.
    pub labels: &'static [&'static str],
    /// A description in one sentence.
    pub help: &'static str,
}

impl MetricInfo {
    /// The name without the prefix, as in readings.
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

/// All metrics of this crate, sorted by name. Names, kinds and labels are part of the API.
pub const METRICS: &[MetricInfo] = metrics! {
    "attempt_duration_seconds" Histogram ["stack", "kind", "outcome"] "The duration of attempts.";
    "call_duration_seconds" Histogram ["stack", "outcome"] "The duration of calls, including waits and retries.";
    "circuit_failure_ratio" Gauge ["stack"] "The share of failures among the calls that the circuit breaker counts.";
    "circuit_half_open_in_seconds" Gauge ["stack"] "The time until an open circuit becomes half-open, else 0.";
    "circuit_state" Gauge ["stack", "state"] "1 for the current state of the circuit, else 0; with a circuit per key, the number of circuits in the state.";
    "circuit_transitions_total" Counter ["stack", "to"] "Transitions of the circuit, by the new state.";
    "config_age_seconds" Gauge ["source"] "The time since the last good configuration was published.";
    "config_changes_total" Counter ["stack", "result"] "Changes of the configuration of a live stack.";
    "config_refused_total" Counter ["source", "reason"] "Refused configurations.";
    "config_version" Gauge ["source"] "The version of the last good configuration.";
    "durable_dead" Gauge ["name"] "The dead letters of a durable queue.";
    "durable_oldest_seconds" Gauge ["name"] "The age of the oldest message of a durable queue.";
    "durable_pending" Gauge ["name"] "The messages of a durable queue that are not done.";
    "durable_redelivered_total" Counter ["name"] "Redelivered messages.";
    "hints_ignored_total" Counter ["header"] "Ignored malformed headers.";
    "in_flight" Gauge ["stack", "mechanism"] "The calls in flight.";
    "in_flight_limit" Gauge ["stack", "mechanism"] "The concurrency limit: the most calls in flight.";
    "in_flight_limit_reason" Gauge ["stack", "reason"] "1 for the reason that set the concurrency limit, else 0.";
    "keys" Gauge ["stack", "mechanism"] "The keys that have their own limit or breaker.";
    "keys_overflow_total" Counter ["stack", "mechanism"] "Calls whose key got no entry, because no other key could be forgotten.";
    "queue_drain_seconds" Gauge ["stack"] "The time until the backlog drains: infinite if it does not shrink, 0 if unknown.";
    "queue_oldest_seconds" Gauge ["stack"] "How long the oldest call in the queue has waited.";
    "queue_wait_seconds" Histogram ["stack"] "How long calls waited in the queue, without those that did not wait.";
    "queue_waiting" Gauge ["stack"] "The calls that wait in the queue.";
    "rate_limit_available" Gauge ["stack", "limit"] "The available tokens.";
    "rate_limit_waiting" Gauge ["stack", "limit"] "The calls that wait for tokens.";
    "rejections_total" Counter ["stack", "mechanism", "reason", "reached"] "Calls that a mechanism rejected or ended.";
    "retries_denied_total" Counter ["stack", "reason"] "Calls with a retryable failure that got no further attempt.";
    "retry_budget_balance" Gauge ["stack"] "The earned retries that remain.";
    "retry_delay_seconds" Histogram ["stack"] "The total backoff of calls with more than one attempt.";
    "shadow_rejections_total" Counter ["stack", "mechanism"] "Calls that a limit in shadow mode would have rejected.";
    "shed_exempt_total" Counter ["stack"] "Calls that were exempt from the concurrency limit.";
    "shed_total" Counter ["stack", "class", "reason"] "Calls that the concurrency limit rejected, by criticality class.";
    "store_debt" Gauge ["name"] "The spent tokens that the store does not know yet.";
    "store_sync_age_seconds" Gauge ["name"] "The time since the store last answered.";
    "store_up" Gauge ["name"] "1 if the store answers, else 0.";
    "switched_off" Gauge ["stack"] "1 if the kill switch is on, else 0.";
    "timeout_rate" Gauge ["stack"] "The share of recent calls that a learned timeout ended.";
    "timeout_seconds" Gauge ["stack"] "The current limit of a learned timeout.";
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
