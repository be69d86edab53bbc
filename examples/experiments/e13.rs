//! E13: a load step. The load of a service at nine tenths of its capacity rises to 1.4 times as much, for good. From
//! the first round trips on, the slowest of the admitted calls must stay within their deadline.

use crate::{
    finding::{Bound, Figure, Finding},
    lab::{FIRST_OTHER_SEEDS, Lab, Means, ms, secs},
    workers::{CAPACITY, DEADLINE, MEAN_SERVICE, Record, adaptive, run as simulate, workers},
};
use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};
use steadfast::{ConfigError, sim::Load};

const BEFORE: f64 = 0.9;
const AFTER: f64 = 1.26;
const STEP: Duration = secs(10);
const LENGTH: Duration = secs(14);
/// Five round trips.
const BIN: Duration = ms(50);
/// Goodput counts from this round trip after the step on.
const SETTLED: f64 = 20.0;
/// The calls of the last round trips are left out, because no calls arrive after them.
const END: Duration = secs(13);
/// The calls in a bin, and the late ones among them.
type Bins = Vec<[u64; 2]>;

pub fn run(lab: &Lab) -> Result<Vec<Finding>, ConfigError> {
    let seeds = lab.count(400, 100, 20);
    // A percentile over the calls of 50 ms needs as many other seeds as the model has.
    let others = lab.count(400, 100, 0);
    let pools = [const { Mutex::new(Vec::new()) }; 2];
    let means = lab.means_with(seeds, others, |seed| {
        let records = simulate(seed, LENGTH, load(), workers(), adaptive)?;
        let pool = &pools[usize::from(seed >= *FIRST_OTHER_SEEDS.start())];
        pool_bins(&mut pool.lock().unwrap_or_else(PoisonError::into_inner), &records);
        Ok(summary(&records))
    })?;
    let [model, others] = pools.map(|pool| worst(&pool.into_inner().unwrap_or_else(PoisonError::into_inner)));
    let late = Means { model: [model], half_widths: [0.0], others: [if lab.is_glance() { model } else { others }] };
    let pair = |index: usize| Means {
        model: [means.model[index]],
        half_widths: [means.half_widths[index]],
        others: [means.others[index]],
    };
    Ok(vec![Finding {
        id: "E13",
        what: "load step from 0.9 to 1.26 of the capacity; a p99 within the deadline is 0.01 late of the accepted",
        anchors: Vec::new(),
        figures: vec![
            // A glance has 20 seeds, which gives about 1000 calls per bin.
            Figure::new("late of the accepted, in the worst bin of 5 round trips", [Bound::AtMost(0.01)], late),
            Figure::new("goodput of the capacity, from round trip 20 after the step", [Bound::AtLeast(0.98)], pair(0)),
            Figure::new("shed before the step", [Bound::AtMost(0.003)], pair(1)),
        ],
        to_come: None,
    }])
}

fn load() -> Load {
    Load::poisson(BEFORE * CAPACITY).step(STEP, AFTER * CAPACITY)
}

/// Returns the goodput after the step as a share of the capacity, and the share of calls refused before the step.
fn summary(records: &[Record]) -> [f64; 2] {
    let from = STEP.as_secs_f64() + SETTLED * MEAN_SERVICE.as_secs_f64();
    let to = END.as_secs_f64();
    let count = |what: &dyn Fn(&Record) -> bool| records.iter().filter(|record| what(record)).count() as f64;
    let in_time = count(&|record| record.was_answered_in(from, to));
    let before = |record: &Record| record.came < STEP.as_secs_f64();
    let refused = count(&|record| record.is_refused() && before(record));
    [in_time / ((to - from) * CAPACITY), refused / count(&before).max(1.0)]
}

fn pool_bins(bins: &mut Bins, records: &[Record]) {
    bins.resize((END.as_secs_f64() / BIN.as_secs_f64()).ceil() as usize, [0; 2]);
    for Record { came, took } in records {
        let (Some(took), Some(bin)) = (took, bins.get_mut((came / BIN.as_secs_f64()) as usize)) else { continue };
        bin[0] += 1;
        bin[1] += u64::from(*took > DEADLINE.as_secs_f64());
    }
}

/// Returns the largest share of late calls in a bin.
fn worst(bins: &Bins) -> f64 {
    bins.iter().map(|[all, late]| *late as f64 / (*all).max(1) as f64).fold(0.0, f64::max)
}
