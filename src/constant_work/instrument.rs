//! What can be read of pollers and publishers.
//!
//! The number of a version is that within its epoch. It begins again at 1 with a new epoch, which a publisher gets that
//! has lost count. Numbers above 2^53 are rounded.

use super::{InForce, PollerReadings, PublishError, PublisherReadings, Version};
use crate::shell::{Instrument, Reading, Readings};
use std::time::Duration;
use tokio::time::Instant;

/// `config_version`: the number of the snapshot in force within its epoch, so 1 again after a new epoch has begun; 0
/// while the defaults are in force. `config_age_seconds`: for how long the last good snapshot has been published; 0
/// before the first. `config_refused_total`: the ticks that brought none, by the [kind](super::Refusal::KINDS) of the
/// refusal as the label `reason`.
///
/// A source that is down is seen by refusals of the kind `source`, and by an age that grows beyond the period in which
/// the publisher publishes.
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

/// `config_version`: the number of the last publication within its epoch; 0 before the first. `config_age_seconds`: the
/// time since then; 0 before the first. `config_refused_total`: the attempts that failed, by
/// [kind](PublishError::KINDS) as the label `reason`.
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

/// Several pollers of one name: the newest version, and the oldest age.
fn give(version: Option<Version>, age: Option<Duration>, readings: &mut Readings<'_>) {
    let version = version.map_or(0, |version| version.version);
    readings.add(Reading::largest("config_version", version as f64));
    readings.add(Reading::largest("config_age_seconds", age.unwrap_or_default().as_secs_f64()));
}
