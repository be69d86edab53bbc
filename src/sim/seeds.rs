//! Runs a scenario with many seeds, and combines the reports.

use super::{Call, Failure, Reply, Report, Scenario, Sim};
use crate::error::{ConfigError, Error};
use std::{
    fmt,
    num::NonZero,
    ops::RangeInclusive,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};
use tower::Service;

/// A [`Scenario`] with several seeds, from [`Scenario::seeds`].
///
/// One run shows what can happen; several show what happens on average. The runs share nothing and use all cores, so
/// `build` is called on several threads.
///
/// ```
/// # fn main() -> Result<(), steadfast::ConfigError> {
/// use std::time::Duration;
/// use steadfast::sim::{Backend, Latency, Load, Report, Scenario};
///
/// let ms = Duration::from_millis;
/// let scenario = Scenario::new(Load::poisson(80.0)).length(ms(10_000)).warm_up(ms(1_000));
/// let reports = scenario.seeds(1..=8).run(|sim| {
///     let backend = sim.backend(Backend::new(Latency::exponential(ms(10))).servers(1));
///     steadfast::client().timeout(ms(200)).service(backend)
/// })?;
/// let goodput = reports.estimate(Report::goodput);
/// println!("{goodput}");
/// assert!(goodput.low() > 0.95, "{goodput}");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Seeds {
    pub(super) scenario: Scenario,
    pub(super) seeds: RangeInclusive<u64>,
}

impl Seeds {
    /// Runs the load through one client, as [`Scenario::run`] does, once for each seed.
    ///
    /// # Errors
    ///
    /// The errors of [`Scenario::run`], and an empty range of seeds.
    pub fn run<S, B>(self, build: B) -> Result<Reports, ConfigError>
    where
        B: Fn(&Sim) -> Result<S, ConfigError> + Sync,
        S: Service<Call, Response = Reply> + Clone + 'static,
        S::Error: Into<Error<Failure>>,
    {
        self.run_clients(|sim| Ok(vec![build(sim)?]))
    }

    /// Runs the load through many clients, as [`Scenario::run_clients`] does, once for each seed.
    ///
    /// # Errors
    ///
    /// The errors of [`Scenario::run_clients`], and an empty range of seeds.
    pub fn run_clients<S, B>(self, build: B) -> Result<Reports, ConfigError>
    where
        B: Fn(&Sim) -> Result<Vec<S>, ConfigError> + Sync,
        S: Service<Call, Response = Reply> + Clone + 'static,
        S::Error: Into<Error<Failure>>,
    {
        let Self { scenario, seeds } = self;
        if seeds.is_empty() {
            return Err(ConfigError::new("sim.seeds", seeds, "must contain at least one seed"));
        }
        let reports = each_seed(seeds, |seed| scenario.clone().seed(seed).run_clients(&build))?;
        Ok(Reports { reports })
    }
}

/// Returns the result of a run for each of these seeds, in their order. The runs share nothing and use all cores.
///
/// Use it for a run that is not a [`Scenario`], or that combines several scenarios.
///
/// # Errors
///
/// The error of the first run that fails, in the order of the seeds.
pub fn each_seed<T: Send>(
    seeds: impl IntoIterator<Item = u64>,
    run: impl Fn(u64) -> Result<T, ConfigError> + Sync,
) -> Result<Vec<T>, ConfigError> {
    let seeds: Vec<u64> = seeds.into_iter().collect();
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    let work = || {
        while let Some((index, seed)) = {
            let index = next.fetch_add(1, Ordering::Relaxed);
            seeds.get(index).map(|seed| (index, *seed))
        } {
            let result = run(seed);
            results.lock().unwrap_or_else(PoisonError::into_inner).push((index, result));
        }
    };
    thread::scope(|scope| {
        let helpers = thread::available_parallelism().map_or(1, NonZero::get).min(seeds.len().max(1)) - 1;
        (0..helpers).for_each(|_| drop(scope.spawn(work)));
        work();
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// The reports of several seeds.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Reports {
    /// The reports, in the order of their seeds. Print the [`seed`](Report::seed) of each before an assertion: the
    /// message of a failed assertion does not name it, and [`Scenario::seed`] can run that seed again:
    ///
    /// ```
    /// # fn main() -> Result<(), steadfast::ConfigError> {
    /// # use std::time::Duration;
    /// # use steadfast::sim::{Backend, Latency, Load, Scenario};
    /// # let ms = Duration::from_millis;
    /// # let scenario = Scenario::new(Load::poisson(80.0)).length(ms(5_000));
    /// # let reports = scenario.seeds(1..=2).run(|sim| {
    /// #     steadfast::client().timeout(ms(200)).service(sim.backend(Backend::new(Latency::fixed(ms(10)))))
    /// # })?;
    /// for report in &reports.reports {
    ///     println!("seed {}", report.seed);
    ///     report.class("calls").assert_p99_at_most(ms(50));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub reports: Vec<Report>,
}

impl Reports {
    /// Returns the mean of a number over all runs, with its confidence interval. `number` takes one report:
    /// [`Report::goodput`], or a closure such as `|report| report.class("checkout").rejected("rate_limit")`.
    pub fn estimate(&self, number: impl Fn(&Report) -> f64) -> Estimate {
        Estimate::of(self.reports.iter().map(number))
    }
}

/// A mean over several runs, with its confidence interval.
///
/// `Display` shows `0.9810 ± 0.0040 (8 runs)`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Estimate {
    /// The mean. NaN if there is no run.
    pub mean: f64,
    /// Half the width of the 95% confidence interval of the mean: Student's t times the standard error. Exact if the
    /// runs are normally distributed, and nearly exact for many runs of any distribution. Infinite for fewer than two
    /// runs.
    pub half_width: f64,
    /// The number of runs.
    pub runs: usize,
}

impl Estimate {
    /// Returns the estimate from these numbers, one for each run.
    pub fn of(numbers: impl IntoIterator<Item = f64>) -> Self {
        let numbers: Vec<f64> = numbers.into_iter().collect();
        let runs = numbers.len();
        // A sum of floats depends on its order, which is that of the seeds.
        let mean = numbers.iter().sum::<f64>() / runs as f64;
        let half_width = if runs < 2 {
            f64::INFINITY
        } else {
            let squares: f64 = numbers.iter().map(|number| (number - mean).powi(2)).sum();
            let error = (squares / (runs - 1) as f64 / runs as f64).sqrt();
            student_t(runs - 1) * error
        };
        Self { mean, half_width, runs }
    }

    /// Returns the lower end of the confidence interval.
    pub fn low(&self) -> f64 {
        self.mean - self.half_width
    }

    /// Returns the upper end of the confidence interval.
    pub fn high(&self) -> f64 {
        self.mean + self.half_width
    }
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mean, half_width, runs } = self;
        match runs {
            0 => f.write_str("no run"),
            1 => write!(f, "{mean:.4} (1 run)"),
            _ => write!(f, "{mean:.4} ± {half_width:.4} ({runs} runs)"),
        }
    }
}

/// Returns the 97.5% quantile of Student's distribution with this number of degrees of freedom, at least one. Beyond
/// the table it uses the first terms of the Cornish-Fisher expansion (M. Abramowitz and I. Stegun, "Handbook of
/// Mathematical Functions", 1964, 26.7.5). Beyond the table, these terms are exact to a thousandth of the quantile.
fn student_t(degrees: usize) -> f64 {
    const TABLE: [f64; 12] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179];
    const NORMAL: f64 = 1.959_964;
    TABLE.get(degrees.saturating_sub(1)).copied().unwrap_or_else(|| {
        let (z, n) = (NORMAL, degrees as f64);
        z + (z.powi(3) + z) / (4.0 * n) + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * n * n)
    })
}
