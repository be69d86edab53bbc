//! The measurements, and the results of each step.

use crate::{
    operator::{Action, Step},
    server::TIERS,
    traffic::Counts,
};
use serde_json::{Value, json};
use std::fmt;
use steadfast::{
    constant_work::{Readings, Ticks},
    stack::live::StackConfig,
};

/// A tenth of a second, or longer on a busy machine.
pub struct Slice {
    /// Its end, and its length, in seconds.
    pub at: f64,
    pub length: f64,
    pub counts: [Counts; TIERS.len()],
    pub in_flight: usize,
    /// The configuration that the stack reports as in force.
    pub in_force: StackConfig,
}

impl Slice {
    /// Returns the answers per second, by tier.
    pub fn rates(&self) -> [f64; TIERS.len()] {
        self.counts.map(|counts| f64::from(counts.answered) / self.length.max(1e-3))
    }
}

/// A step, and the measurements during it.
pub struct Seen {
    pub step: Step,
    pub slices: Vec<Slice>,
}

/// The result of the second half of a step, when bursts are over.
pub struct Outcome {
    /// Per second, by tier.
    pub answered: [f64; TIERS.len()],
    pub refused: [f64; TIERS.len()],
    pub failed: u32,
    pub most_in_flight: usize,
}

impl Seen {
    pub fn outcome(&self) -> Outcome {
        let slices = &self.slices[self.slices.len() / 2..];
        let length: f64 = slices.iter().map(|slice| slice.length).sum();
        let per_second = |of: fn(&Counts) -> u32| {
            let sum = |tier: usize| slices.iter().map(|slice| of(&slice.counts[tier])).sum::<u32>();
            std::array::from_fn(|tier| f64::from(sum(tier)) / length.max(1e-3))
        };
        Outcome {
            answered: per_second(|counts| counts.answered),
            refused: per_second(|counts| counts.refused),
            failed: slices.iter().flat_map(|slice| slice.counts).map(|counts| counts.failed).sum(),
            most_in_flight: slices.iter().map(|slice| slice.in_flight).max().unwrap_or(0),
        }
    }

    /// Returns the configuration in force at the end of the step.
    fn in_force(&self) -> StackConfig {
        self.slices.last().map(|slice| slice.in_force.clone()).unwrap_or_default()
    }
}

/// Returns the rate limits in requests per second, by tier, ignoring other limits. `None` if the configuration does not
/// name one.
pub fn limits(config: &StackConfig) -> [Option<f64>; TIERS.len()] {
    let quotas = config.rate_limit.first().map_or(&[][..], |limit| &limit.quotas);
    std::array::from_fn(|tier| quotas.get(tier).map(|quota| quota.count() as f64 / quota.period().as_secs_f64()))
}

/// All measurements.
pub struct Report {
    pub steps: Vec<Seen>,
    pub readings: Readings,
}

impl Report {
    pub fn slices(&self) -> impl Iterator<Item = &Slice> {
        self.steps.iter().flat_map(|seen| &seen.slices)
    }

    pub fn json(&self) -> Value {
        let steps = self.steps.iter().map(|seen| {
            let (outcome, in_force) = (seen.outcome(), seen.in_force());
            json!({
                "name": seen.step.name,
                "is_damaged": seen.step.action != Action::Publish,
                "answered": outcome.answered,
                "refused": outcome.refused,
                "failed": outcome.failed,
                "most_in_flight": outcome.most_in_flight,
                "published": seen.step.config,
                "in_force": in_force,
                "limits": limits(&in_force),
            })
        });
        let ticks = self.readings.ticks;
        let refused: serde_json::Map<_, _> = refused(&ticks).map(|(kind, count)| (kind.into(), count.into())).collect();
        json!({ "steps": steps.collect::<Vec<_>>(), "ticks": { "good": ticks.good(), "refused": refused } })
    }
}

fn refused(ticks: &Ticks) -> impl Iterator<Item = (&'static str, u64)> + use<> {
    ticks.by_kind().filter(|(_, count)| *count > 0)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, second) = (format!("{}/s", TIERS[0]), format!("{}/s", TIERS[1]));
        writeln!(f, "{:<18} {first:>7} {:>6} {second:>7} {:>6} {:>10}", "", "limit", "limit", "in flight")?;
        for seen in &self.steps {
            let (outcome, in_force) = (seen.outcome(), seen.in_force());
            write!(f, "{:<18}", seen.step.name)?;
            for (answered, limit) in outcome.answered.into_iter().zip(limits(&in_force)) {
                let limit = if in_force.switched_off { "off".into() } else { format!("{:.0}", limit.unwrap_or(0.0)) };
                write!(f, " {answered:>7.0} {limit:>6}")?;
            }
            writeln!(f, " {:>10}", outcome.most_in_flight)?;
        }
        let ticks = self.readings.ticks;
        write!(f, "the file was read {} times: {} good", ticks.good() + total(&ticks), ticks.good())?;
        for (kind, count) in refused(&ticks) {
            write!(f, ", {count} {kind}")?;
        }
        Ok(())
    }
}

fn total(ticks: &Ticks) -> u64 {
    ticks.by_kind().map(|(_, count)| count).sum()
}
