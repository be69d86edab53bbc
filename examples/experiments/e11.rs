//! E11: adaptive concurrency. A service becomes three times slower and recovers, at three loads. An adaptive limit is
//! compared with the best fixed limit of each phase, which no user knows beforehand.

use crate::{
    finding::{Bound, Figure, Finding},
    lab::{Lab, Means, secs},
    workers::{CAPACITY, MEAN_SERVICE, Record, adaptive, run as simulate, workers},
};
use std::time::Duration;
use steadfast::{
    ConfigError,
    load_shed::{Aimd, Gradient, Limiter},
    sim::Load,
};

/// Shares of the capacity of the fast service.
const OFFERED: [f64; 3] = [0.8, 1.5, 3.0];
const SLOWER: f64 = 3.0;
const PHASES: usize = 3;
/// Fixed limits. While the service is fast, the throughput is the same with each limit from 20 to 200. While it is
/// slow, the throughput is the same with each limit from 20 to 65.
const FIXED: [usize; 5] = [20, 40, 60, 120, 240];
/// The round trips of a phase that are examined closely.
const CLOSE: [f64; 2] = [20.0, 60.0];

/// Four groups of numbers, in this order:
///
/// - for each phase, the answers in time,
/// - for each phase, the calls that arrive in its [close look](CLOSE) and are answered in time,
/// - the calls that are refused in the first phase,
/// - for each phase, the answers in time that end in its close look, whenever their calls arrived.
type Numbers = [f64; NUMBERS];

const NUMBERS: usize = 3 * PHASES + 1;
/// The index of the first number of the last group.
const BY_ANSWER: usize = 2 * PHASES + 1;

pub fn run(lab: &Lab) -> Result<Vec<Finding>, ConfigError> {
    let phase = lab.length(secs(20), secs(5));
    let means = |offered: f64, limiter: fn() -> Result<Limiter, ConfigError>| {
        lab.means(lab.count(10, 3, 4), |seed| numbers(seed, phase, offered, limiter))
    };
    let mut figures = Vec::new();
    for (offered, [over_phases, close, by_other, by_gradient, by_aimd]) in OFFERED.into_iter().zip(NAMES) {
        let mut best = Means { model: [0.0; NUMBERS], half_widths: [0.0; NUMBERS], others: [0.0; NUMBERS] };
        for limit in FIXED {
            let fixed =
                lab.means(lab.count(10, 3, 4), |seed| numbers(seed, phase, offered, || Limiter::fixed(limit)))?;
            larger(&mut best.model, fixed.model);
            larger(&mut best.others, fixed.others);
        }
        let ours = shares(&means(offered, adaptive)?, &best);
        // The change of the service time weighs four times as much in a phase that is a quarter as long.
        let over_phase = if lab.is_glance() { 0.85 } else { 0.9 };
        figures.push(part(over_phases, Bound::AtLeast(over_phase), &ours, 0));
        // Below the capacity the calls are the limit; above it, the service is.
        let (counted, other) = if offered < 1.0 { (PHASES, BY_ANSWER) } else { (BY_ANSWER, PHASES) };
        figures.push(part(close, Bound::AtLeast(0.88), &ours, counted));
        if offered < 1.0 {
            let refused =
                lab.means(lab.count(10, 3, 4), |seed| Ok([numbers(seed, phase, offered, adaptive)?[2 * PHASES]]))?;
            figures.push(Figure::new("refused at 0.8x while the service was fast", [Bound::AtMost(0.0)], refused));
        }
        figures.extend(lab.beyond_a_glance(|| {
            let gradient = shares(&means(offered, by_gradient_algorithm)?, &best);
            let aimd = shares(&means(offered, by_aimd_algorithm)?, &best);
            Ok(vec![
                part(by_other, Bound::Free, &ours, other),
                part(by_gradient, Bound::Free, &gradient, 0),
                part(by_aimd, Bound::Free, &aimd, 0),
            ])
        })?);
    }
    Ok(vec![Finding {
        id: "E11",
        what: "adaptive concurrency: service time x1, x3, x1; goodput of each phase, of that of the best fixed limit",
        anchors: Vec::new(),
        figures,
        to_come: None,
    }])
}

const NAMES: [[&str; 5]; 3] = [
    ["0.8x", "0.8x, calls of round trip 20 to 60", "0.8x, answers of that time", "0.8x, gradient", "0.8x, AIMD"],
    ["1.5x", "1.5x, answers of round trip 20 to 60", "1.5x, calls of that time", "1.5x, gradient", "1.5x, AIMD"],
    ["3x", "3x, answers of round trip 20 to 60", "3x, calls of that time", "3x, gradient", "3x, AIMD"],
];

fn by_gradient_algorithm() -> Result<Limiter, ConfigError> {
    Limiter::adaptive().deadline(crate::workers::DEADLINE).algorithm(Gradient::new(20, 1.5)?).build()
}

fn by_aimd_algorithm() -> Result<Limiter, ConfigError> {
    Limiter::adaptive().deadline(crate::workers::DEADLINE).algorithm(Aimd::new(20, 0.9)?).build()
}

fn numbers(
    seed: u64,
    phase: Duration,
    offered: f64,
    limiter: impl FnOnce() -> Result<Limiter, ConfigError>,
) -> Result<Numbers, ConfigError> {
    let length = phase.saturating_mul(PHASES as u32);
    let service = workers().slow(phase..2 * phase, SLOWER);
    let records = simulate(seed, length, Load::poisson(offered * CAPACITY), service, limiter)?;
    let mut numbers = [0.0; NUMBERS];
    for index in 0..PHASES {
        let begin = index as f64 * phase.as_secs_f64();
        let round_trip = MEAN_SERVICE.as_secs_f64() * if index == 1 { SLOWER } else { 1.0 };
        let [from, to] = CLOSE.map(|round_trips| begin + round_trips * round_trip);
        numbers[index] = in_time(&records, begin, begin + phase.as_secs_f64());
        // Selects by arrival: the answers of so short a time also include earlier calls that waited.
        let came = |record: &&Record| record.came_in(from, to) && record.is_in_time();
        numbers[PHASES + index] = records.iter().filter(came).count() as f64;
        numbers[BY_ANSWER + index] = in_time(&records, from, to);
    }
    let refused = |record: &&Record| record.is_refused() && record.came_in(0.0, phase.as_secs_f64());
    numbers[2 * PHASES] = records.iter().filter(refused).count() as f64;
    Ok(numbers)
}

fn in_time(records: &[Record], from: f64, to: f64) -> f64 {
    records.iter().filter(|record| record.was_answered_in(from, to)).count() as f64
}

fn larger(best: &mut Numbers, numbers: Numbers) {
    for (best, number) in best.iter_mut().zip(numbers) {
        *best = best.max(number);
    }
}

/// The answers in time, as a share of the best.
fn shares(ours: &Means<NUMBERS>, best: &Means<NUMBERS>) -> Means<NUMBERS> {
    let share = |numbers: &Numbers, best: &Numbers| std::array::from_fn(|index| numbers[index] / best[index]);
    Means {
        model: share(&ours.model, &best.model),
        half_widths: share(&ours.half_widths, &best.model),
        others: share(&ours.others, &best.others),
    }
}

/// The numbers of the three phases.
fn part(name: &'static str, bound: Bound, shares: &Means<NUMBERS>, from: usize) -> Figure {
    let three = |numbers: &Numbers| std::array::from_fn(|index| numbers[from + index]);
    let [model, half_widths, others] = [&shares.model, &shares.half_widths, &shares.others].map(three);
    Figure::new(name, [bound; PHASES], Means { model, half_widths, others })
}
