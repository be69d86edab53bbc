//! Metrics of pollers and publishers.
//!
//! The version number counts within its epoch. It starts at 1 again with a new epoch, which an operator sets after a
//! publisher lost its state. Numbers above 2^53 are rounded.

use super::{InForce, PollerReadings, PublishError, PublisherReadings, Version};
use crate::shell::{Instrument, Reading, Readings};
use std::time::Duration;
use tokio::time::Instant;

/// `config_version`: the version number of the snapshot in force within its epoch; 0 while the defaults are in force.
/// `config_age_seconds`: the time since the last good snapshot was published; 0 before the first.
/// `config_refused_total`: the refused ticks, with the [kind](super::Refusal::KINDS) of the refusal as the label
/// `reason`.
///
/// If the source is down, refusals of the kind `source` increase, and the age exceeds the publisher's period.
impl Instrument for PollerReadings {
    fn read(&self, now: Instant, readings: &mut Readings<'_>) {
        let poller = self.at(now);
        let in_force = poller.version.filter(|_| poller.in_force == InForce::LastGood);
        give(in_force, poller.since_publication, readings);
        for (kind, refused) in poller.ticks.by_kind() {
            readings.add(Reading::count("config_refused_total", refused).label("reason", kind));
        }
    }

    fn address(&self) -> Option<usize> {
        Some(PollerReadings::address(self))
    }
}

/// `config_version`: the version number of the last publication within its epoch; 0 before the first.
/// `config_age_seconds`: the time since that publication; 0 before the first. `config_refused_total`: the failed
/// attempts, with their [kind](PublishError::KINDS) as the label `reason`.
impl Instrument for PublisherReadings {
    fn read(&self, now: Instant, readings: &mut Readings<'_>) {
        let age = self.last_success().map(|at| now.saturating_duration_since(at));
        give(self.last().map(|last| last.version), age, readings);
        let failures = self.failures();
        for kind in PublishError::KINDS {
            let refused = failures.get(kind).copied().unwrap_or(0);
            readings.add(Reading::count("config_refused_total", refused).label("reason", kind));
        }
    }

    fn address(&self) -> Option<usize> {
        Some(PublisherReadings::address(self))
    }
}

/// Adds both readings. Several pollers or publishers with one name report the greatest version and the greatest age.
fn give(version: Option<Version>, age: Option<Duration>, readings: &mut Readings<'_>) {
    let version = version.map_or(0, |version| version.version);
    readings.add(Reading::largest("config_version", version as f64));
    readings.add(Reading::largest("config_age_seconds", age.unwrap_or_default().as_secs_f64()));
}
