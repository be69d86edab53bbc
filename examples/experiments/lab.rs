//! Runs the experiments: chooses their seeds, and computes means over many runs on all cores.

use indicatif::ProgressBar;
use std::{
    array,
    ops::{Range, RangeInclusive},
    time::Duration,
};
use steadfast::{
    ConfigError, Error,
    load_level::Queue,
    load_shed::Limiter,
    sim::{Call, Estimate, Failure, Reply, Report, Sim, each_seed},
};
use tower::Service;

/// How many unseen seeds must confirm a figure, unless the experiment needs more.
const OTHER_SEEDS: u64 = 5;

/// The range of the first unseen seed: above all seeds of the models, and with room for as many seeds as any experiment
/// uses.
pub const FIRST_OTHER_SEEDS: RangeInclusive<u64> = 1_000..=1_000_000_000_000;

/// A service that a simulated load can call.
pub trait Client: Service<Call, Response = Reply, Error: Into<Error<Failure>>> + Clone + 'static {}

impl<S: Service<Call, Response = Reply, Error: Into<Error<Failure>>> + Clone + 'static> Client for S {}

/// How much of each experiment a lab runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// As the model defines.
    Whole,
    /// Fewer seeds.
    Quick,
    /// For the tests, in an unoptimized build: only the figures with a bound, on a few seeds, and for a shorter time in
    /// some experiments. Without anchors.
    #[allow(dead_code, reason = "unused in the example")]
    Glance,
}

/// Runs experiments in full or in part.
pub struct Lab {
    effort: Effort,
    first_other_seed: u64,
    bar: ProgressBar,
}

/// The figures of one mechanism, on the model's seeds and on others. They are means unless stated otherwise.
pub struct Means<const N: usize> {
    pub model: [f64; N],
    /// Half the width of the confidence interval of each mean of the model; zero if it is not a mean.
    pub half_widths: [f64; N],
    pub others: [f64; N],
}

impl Lab {
    /// Creates a lab that confirms figures on the seeds from `first_other_seed` on: five, or as many as the experiment
    /// needs. With less effort it uses fewer seeds wherever a model asks for many.
    pub fn new(first_other_seed: u64, effort: Effort, bar: ProgressBar) -> Self {
        Self { effort, first_other_seed, bar }
    }

    /// Returns the number of seeds: as the model defines, or fewer if they are enough for its figures.
    pub fn count(&self, whole: u64, quick: u64, glance: u64) -> u64 {
        match self.effort {
            Effort::Whole => whole,
            Effort::Quick => quick,
            Effort::Glance => glance,
        }
    }

    /// Returns the simulated time of an experiment: as the model defines, or a shorter time that keeps its bounds.
    pub fn length(&self, of_the_model: Duration, glance: Duration) -> Duration {
        if self.is_glance() { glance } else { of_the_model }
    }

    /// Returns whether this lab runs each experiment in full.
    pub fn is_thorough(&self) -> bool {
        self.effort == Effort::Whole
    }

    /// Returns whether this lab is for the tests.
    pub fn is_glance(&self) -> bool {
        self.effort == Effort::Glance
    }

    /// Runs a part that the tests leave out: published mechanisms, wrong uses of this crate, and numbers without a
    /// bound.
    pub fn beyond_a_glance<T>(&self, run: impl FnOnce() -> Result<Vec<T>, ConfigError>) -> Result<Vec<T>, ConfigError> {
        if self.is_glance() { Ok(Vec::new()) } else { run() }
    }

    /// Returns the means over this many seeds, and over five others (one with less effort, none at a glance).
    pub fn means<const N: usize>(
        &self,
        seeds: u64,
        run: impl Fn(u64) -> Result<[f64; N], ConfigError> + Sync,
    ) -> Result<Means<N>, ConfigError> {
        self.means_with(seeds, self.count(OTHER_SEEDS, 1, 1), run)
    }

    /// Returns the means over `seeds` and over `others` seeds. At a glance the means of the model stand for both.
    pub fn means_with<const N: usize>(
        &self,
        seeds: u64,
        others: u64,
        run: impl Fn(u64) -> Result<[f64; N], ConfigError> + Sync,
    ) -> Result<Means<N>, ConfigError> {
        let first = self.first_other_seed;
        let model = self.estimates(0..seeds, &run)?;
        let others = if self.is_glance() { model } else { self.estimates(first..first.saturating_add(others), &run)? };
        let [model, half_widths] = [model.map(|number| number.mean), model.map(|number| number.half_width)];
        Ok(Means { model, half_widths, others: others.map(|number| number.mean) })
    }

    /// Returns the largest of each number over this many seeds, and over five others (one with less effort, none at a
    /// glance). For bounds that apply to every run.
    pub fn worst<const N: usize>(
        &self,
        seeds: u64,
        run: impl Fn(u64) -> Result<[f64; N], ConfigError> + Sync,
    ) -> Result<Means<N>, ConfigError> {
        self.worst_with(seeds, self.count(OTHER_SEEDS, 1, 1), run)
    }

    /// Returns the largest of each number over `seeds` and over `others` seeds. For a defect that few runs show.
    pub fn worst_with<const N: usize>(
        &self,
        seeds: u64,
        others: u64,
        run: impl Fn(u64) -> Result<[f64; N], ConfigError> + Sync,
    ) -> Result<Means<N>, ConfigError> {
        let first = self.first_other_seed;
        let largest = |seeds| {
            let results = self.each(seeds, &run)?;
            // NaN violates every bound, so it counts as the largest.
            let larger = |one: f64, other: f64| if one.is_nan() || other <= one { one } else { other };
            Ok(array::from_fn(|index| results.iter().map(|numbers| numbers[index]).fold(f64::NEG_INFINITY, larger)))
        };
        let model = largest(0..seeds)?;
        let others = if self.is_glance() { model } else { largest(first..first.saturating_add(others))? };
        Ok(Means { model, half_widths: [0.0; N], others })
    }

    /// Returns the mean of each number over these seeds. Runs share nothing, so the result does not depend on their
    /// order.
    pub fn mean<const N: usize>(
        &self,
        seeds: Range<u64>,
        run: impl Fn(u64) -> Result<[f64; N], ConfigError> + Sync,
    ) -> Result<[f64; N], ConfigError> {
        Ok(self.estimates(seeds, run)?.map(|estimate| estimate.mean))
    }

    /// Returns the means with their confidence intervals.
    fn estimates<const N: usize>(
        &self,
        seeds: Range<u64>,
        run: impl Fn(u64) -> Result<[f64; N], ConfigError> + Sync,
    ) -> Result<[Estimate; N], ConfigError> {
        let results = self.each(seeds, run)?;
        Ok(array::from_fn(|index| Estimate::of(results.iter().map(|numbers| numbers[index]))))
    }

    /// Returns the numbers of each of these seeds, in order.
    fn each<const N: usize>(
        &self,
        seeds: Range<u64>,
        run: impl Fn(u64) -> Result<[f64; N], ConfigError> + Sync,
    ) -> Result<Vec<[f64; N]>, ConfigError> {
        self.bar.inc_length(seeds.end.saturating_sub(seeds.start));
        each_seed(seeds, |seed| {
            let result = run(seed);
            self.bar.inc(1);
            result
        })
    }
}

/// Returns how many calls arrived at the backends, per call made. Without a backend the result is NaN, which violates
/// every bound.
pub fn amplification(report: &Report) -> f64 {
    report.amplification().unwrap_or(f64::NAN)
}

/// Watches the permits that a limiter has given out.
pub fn watch_limiter(sim: &Sim, limiter: &Limiter) {
    let limiter = limiter.clone();
    sim.watch("permits of a limiter", move || limiter.in_flight() as u64);
}

/// Watches the calls in a queue, and in the service behind it.
pub fn watch_queue(sim: &Sim, queue: &Queue) {
    let queue = queue.clone();
    sim.watch("places of a queue", move || (queue.in_service() + queue.readings().waiting) as u64);
}

/// Checks that a run has returned everything that it watches.
pub fn settled(report: Report) -> Result<Report, ConfigError> {
    let rule = "must all have been given back at the end of the run";
    match report.held.iter().find(|(_, held)| **held > 0) {
        Some((what, held)) => Err(ConfigError::new("experiment.held", format_args!("{held} {what}"), rule)),
        None => Ok(report),
    }
}

pub const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}
