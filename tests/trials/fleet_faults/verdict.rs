//! Checks of a run.

use super::{
    client::{BURST, DEADLINE, HOT, Key, PROCESSES, RATE, Sample, WINDOW, Way},
    fleet::Run,
};
use crate::timers;
use std::{collections::BTreeMap, time::Duration};

/// The tokens of a key that a fault allows beyond the bound of a calm run.
#[derive(Clone, Copy, Default)]
pub struct Beyond {
    /// For limits with a rate and a burst.
    pub bucket: u64,
    /// For the limit of a window.
    pub window: u64,
    /// Some of the processes were cut off: two fifths of the rate repay their debt afterwards.
    pub is_owed: bool,
    /// The store fails again and again. After each outage a lease waits until all processes have reported, which takes
    /// longer than the store answers.
    pub comes_and_goes: bool,
}

impl Beyond {
    /// The store fails for all processes, and keeps its data. Each process keeps to its share. The shares add up to
    /// one, give or take a twentieth.
    pub fn outage(fault: f64) -> Self {
        let bucket = BURST + PROCESSES as u64 + (RATE as f64 * fault / 20.0).ceil() as u64;
        Self { bucket, ..Self::default() }
    }

    /// The store comes back without its data.
    pub fn loss(fault: f64) -> Self {
        Self { bucket: Self::outage(fault).bucket + BURST, window: RATE, ..Self::default() }
    }
}

const SECOND: f64 = 1e9;

/// Checks a run, and prints its results.
pub fn check(what: &str, run: &Run, beyond: Beyond) {
    timers::report(run.logs.iter().flat_map(|log| &log.late).map(|nanos| Duration::from_nanos(*nanos)));
    let by_key = by_key(run);
    let late = percentile(run.logs.iter().flat_map(|log| &log.late).copied().collect(), 0.999);
    let worst_late = run.logs.iter().flat_map(|log| &log.late).max().copied().unwrap_or(0);
    // An admission is noted when its task runs, up to `worst_late` after the decision.
    let noted_late = (RATE as f64 * worst_late as f64 / SECOND).ceil() as u64;
    let [exact_bound, behind_bound] = run.logs[0].overshoot_bound;
    let worst = |way: Way, of: &dyn Fn(&[u64]) -> f64| {
        let all = by_key.iter().filter(|((other, _), _)| *other == way);
        all.map(|((_, key), times)| (of(times), *key)).fold((0.0, (0, 0)), |a, b| if b.0 > a.0 { b } else { a })
    };
    let (exact, behind) = (worst(Way::Exact, &level), worst(Way::WriteBehind, &level));
    let leased = worst(Way::Leased, &in_a_window);
    let bounds = [
        BURST + exact_bound + beyond.bucket + noted_late,
        BURST + behind_bound + beyond.bucket + noted_late,
        RATE + beyond.window,
    ];
    let waits: Vec<u64> = run.logs.iter().flat_map(|log| &log.waits).map(|(_, wait)| *wait).collect();
    let slowest = waits.iter().max().copied().unwrap_or(0);
    let decisions = waits.len();
    let wait = percentile(waits, 0.999);
    let millis = |nanos: u64| nanos as f64 / 1e6;
    println!(
        "{what}: level of exact {:.1} (at most {}), of write-behind {:.1} ({}), leased in a window {} ({}); {decisions} \
         decisions within {:.2} ms at p99.9 and {:.2} ms at worst, timers late by {:.2} and {:.2} ms",
        exact.0,
        bounds[0],
        behind.0,
        bounds[1],
        leased.0,
        bounds[2],
        millis(wait),
        millis(slowest),
        millis(late),
        millis(worst_late)
    );
    assert!(exact.0 <= bounds[0] as f64, "{what}: exact {exact:?}, at most {}", bounds[0]);
    assert!(behind.0 <= bounds[1] as f64, "{what}: write-behind {behind:?}, at most {}", bounds[1]);
    assert!(leased.0 <= bounds[2] as f64, "{what}: leased {leased:?}, at most {}", bounds[2]);
    let longest = DEADLINE.as_nanos() as u64 + 1_000_000 + late;
    assert!(wait <= longest, "{what}: decided within {} ms at p99.9, at most {}", millis(wait), millis(longest));
    all_is_well_again(what, run);
    the_rate_is_used(what, run, &by_key, beyond);
}

/// Asserts that within two seconds after the fault all stores decide again, and continue to decide. On a busy machine
/// three answers in a row may be late, so a few samples may fail. All admitted tokens must be reported.
fn all_is_well_again(what: &str, run: &Run) {
    for log in run.logs.iter().filter(|log| !log.died) {
        let later: Vec<_> = log.samples.iter().filter(|sample| sample.at >= run.fault.1).collect();
        let is_well = |sample: &&&Sample| sample.is_up == [true; 3];
        let first = later.iter().find(is_well).map(|sample| (sample.at - run.fault.1) as f64 / SECOND);
        assert!(first.is_some_and(|first| first <= 2.0), "{what}: all is well {first:?} s after the fault");
        let settled: Vec<_> = later.iter().filter(|sample| sample.at >= run.fault.1 + 2_000_000_000).copied().collect();
        let well = settled.iter().filter(is_well).count();
        assert!(
            well * 5 >= settled.len() * 4 && well > 5,
            "{what}: all is well in {well} of {} samples",
            settled.len()
        );
        let unreported = settled.last().map(|sample| sample.unflushed);
        assert!(unreported <= Some(50), "{what}: {unreported:?} tokens are not reported");
        let keys = log.samples.iter().flat_map(|sample| sample.keys).max();
        // Each process sees one hot key, a hundred keys of the second pattern, and at most one key of the third for each call.
        let seconds = (run.end - run.begin).div_ceil(1_000_000_000) as usize;
        assert!(keys <= Some(101 + 150 * seconds), "{what}: {keys:?} keys");
    }
}

/// Asserts that most of the hot key's rate is used, during the fault and after the debts have been repaid.
fn the_rate_is_used(what: &str, run: &Run, by_key: &BTreeMap<(Way, Key), Vec<u64>>, beyond: Beyond) {
    for way in [Way::Exact, Way::Leased, Way::WriteBehind] {
        let times = by_key.get(&(way, (HOT, 0))).map_or(&[][..], Vec::as_slice);
        let part = |from: u64, to: u64| {
            let admitted = times.iter().filter(|at| (from..to).contains(at)).count();
            admitted as f64 / (RATE as f64 * (to - from) as f64 / SECOND)
        };
        let (calm, later) = (part(run.begin, run.fault.0), part(run.fault.1 + 2_000_000_000, run.end));
        let during = part(run.fault.0, run.fault.1);
        println!("    {way:?}: {calm:.2} of the hot key's rate before, {during:.2} in the fault, {later:.2} later");
        let least = match way {
            Way::Leased => 0.6,
            Way::Exact | Way::WriteBehind if beyond.is_owed => 0.55,
            Way::Exact | Way::WriteBehind => 0.8,
        };
        assert!(later >= least, "{what}: {way:?} uses {later} of its rate after the fault");
        let least = if way == Way::Leased && beyond.comes_and_goes { 0.05 } else { 0.5 };
        assert!(during >= least, "{what}: {way:?} uses {during} of its rate in the fault");
        // A debt slows callers down, and never locks them out. After a window was lost, nothing is granted for a
        // window, so leased limits are left out.
        if way != Way::Leased {
            let ends = run.end.saturating_sub(1_000_000_000);
            let seconds = (run.fault.1..ends).step_by(50_000_000).map(|from| part(from, from + 1_000_000_000));
            let worst = seconds.fold(f64::INFINITY, f64::min);
            println!("        at least {worst:.2} of it in each second after the fault");
            assert!(worst >= 0.45, "{what}: {way:?} uses {worst} of its rate in a second after the fault");
        }
    }
}

fn by_key(run: &Run) -> BTreeMap<(Way, Key), Vec<u64>> {
    let mut by_key: BTreeMap<_, Vec<u64>> = BTreeMap::new();
    for (way, key, at) in run.logs.iter().flat_map(|log| &log.admitted) {
        by_key.entry((*way, *key)).or_default().push(*at);
    }
    by_key.values_mut().for_each(|times| times.sort_unstable());
    by_key
}

/// Returns the highest level of a bucket that drains at the rate. No interval of length t admits more than that and
/// `rate * t`.
fn level(times: &[u64]) -> f64 {
    let (mut level, mut last, mut most) = (0.0f64, 0, 0.0f64);
    for at in times {
        level = (level - (at - last) as f64 * RATE as f64 / SECOND).max(0.0) + 1.0;
        (last, most) = (*at, most.max(level));
    }
    most
}

/// Returns the most admissions in any window.
fn in_a_window(times: &[u64]) -> f64 {
    let window = WINDOW.as_nanos() as u64;
    let from = |end: u64| times.partition_point(|at| *at + window <= end);
    times.iter().enumerate().map(|(place, end)| place + 1 - from(*end)).max().unwrap_or(0) as f64
}

fn percentile(mut all: Vec<u64>, part: f64) -> u64 {
    all.sort_unstable();
    all.get((all.len() as f64 * part) as usize).or(all.last()).copied().unwrap_or(0)
}
