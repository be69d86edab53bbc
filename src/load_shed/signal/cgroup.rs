//! The pressure of the process's control group.

mod files;

use super::Signal;
use crate::{
    clock::{Nanos, Origin},
    error::ConfigError,
    sync::{AtomicU64, Ordering},
};
use files::{Files, Reading};
use std::{
    path::PathBuf,
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep_until},
};

/// How often the files are read. The kernel itself updates its averages every two seconds.
const EVERY: Duration = Duration::from_secs(1);
/// After this time without a reading the level is unknown.
const STALE: Duration = Duration::from_secs(5);
/// The folder in which a container finds its own group.
const FOLDER: &str = "/sys/fs/cgroup";
/// The bits of an unknown level. They are a NaN, which no level is.
const UNKNOWN: u64 = u64::MAX;

/// The pressure on CPU time and memory of the process's control group (cgroup v2): a signal of overload in a container
/// with limits.
///
/// [`measure`](Self::measure) returns a future; spawn it. It reads the files of the group once per second, on a thread
/// for blocking work, and publishes the level.
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), steadfast::ConfigError> {
/// use steadfast::load_shed::{CgroupPressure, Hysteresis, Limiter};
///
/// let pressure = CgroupPressure::builder().cpu_above(0.2).memory_above(0.9).build()?;
/// tokio::spawn(pressure.measure());
/// let limiter = Limiter::at_most(500).signal("cgroup", pressure, Hysteresis::default()).build()?;
/// # Ok(())
/// # }
/// ```
///
/// # Semantics
///
/// - The level is the largest of the bounded quantities, each divided by its bound. See [`CgroupPressureBuilder`].
/// - The level is unknown before the first reading, after the task was dropped, and after five seconds without a
///   reading.
/// - The level is also unknown after a file was missing or malformed, until the next successful reading. Unknown is no
///   overload.
/// - Clones share the measurement. Spawn one task for each signal.
///
/// # Cancellation
///
/// After the task is dropped the level is unknown. A reading that has begun ends on its thread, and its result is
/// dropped.
///
/// # Cost
///
/// Reading the level takes two loads. The task reads up to four small files per second, on a thread for blocking work.
#[derive(Clone, Debug)]
pub struct CgroupPressure {
    shared: Arc<CgroupShared>,
}

#[derive(Debug)]
struct CgroupShared {
    files: Files,
    origin: Origin,
    /// The bits of the level, or [`UNKNOWN`]. This and `read_at` are relaxed. A reader may combine a level with the
    /// time of the next reading. For the moment of the publication it then returns the previous level, however old that
    /// is.
    level: AtomicU64,
    /// When the files were read, since the origin.
    read_at: AtomicU64,
}

/// Configures a [`CgroupPressure`]: the bounds, of which at least one must be set, and the folder of the group.
#[derive(Clone, Debug)]
#[must_use]
pub struct CgroupPressureBuilder {
    folder: PathBuf,
    cpu: Option<f64>,
    memory: Option<f64>,
}

impl CgroupPressure {
    /// Starts without a bound, and with the folder `/sys/fs/cgroup`, in which a container finds its own group.
    pub fn builder() -> CgroupPressureBuilder {
        CgroupPressureBuilder { folder: FOLDER.into(), cpu: None, memory: None }
    }

    /// Measures until the future is dropped, or until no handle of this signal is left, which it notices within a
    /// second. The caller spawns the future on a tokio runtime.
    pub fn measure(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let task = Task(Arc::downgrade(&self.shared));
        async move {
            while let Some(files) = task.0.upgrade().map(|shared| shared.files.clone()) {
                let begun = Instant::now();
                // A runtime that shuts down runs no blocking work any more: the level is then unknown.
                let reading = spawn_blocking(move || files.read().ok()).await.ok().flatten();
                task.publish(reading);
                sleep_until(begun + EVERY).await;
            }
        }
    }
}

impl Signal for CgroupPressure {
    fn level(&self, now: Instant) -> Option<f64> {
        let CgroupShared { origin, level, read_at, .. } = &*self.shared;
        let bits = level.load(Ordering::Relaxed);
        let age = origin.to(now).saturating_sub(Nanos(read_at.load(Ordering::Relaxed)));
        (bits != UNKNOWN && age <= Nanos::of(STALE)).then(|| f64::from_bits(bits))
    }
}

impl CgroupPressureBuilder {
    /// Sets the folder of the group, with the files `cpu.pressure`, `memory.pressure`, `memory.current` and
    /// `memory.max`. Default: `/sys/fs/cgroup`. Outside a container the process's group is a folder below it, named in
    /// `/proc/self/cgroup`.
    pub fn folder(self, folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), ..self }
    }

    /// Sets the CPU pressure at which the level is 1. The pressure is the share of the last ten seconds in which some
    /// task of the group waited for a CPU (`some avg10` in `cpu.pressure`). `share` is above 0 and at most 1. With 0.2
    /// the level is 1 when some task waited for a fifth of the time. Default: CPU pressure is not watched.
    pub fn cpu_above(self, share: f64) -> Self {
        Self { cpu: Some(share), ..self }
    }

    /// Sets the memory usage and the memory pressure at which the level is 1. The larger of the two counts. `share` is
    /// above 0 and at most 1. Default: memory is not watched.
    ///
    /// The usage is `memory.current` divided by `memory.max`: 0 without a maximum, and 1 with a maximum of 0. It
    /// includes the page cache, which the kernel reclaims first: a group that reads many files comes near its maximum
    /// without harm. The pressure is the share of the last ten seconds in which some task waited for memory (`some
    /// avg10` in the file `memory.pressure`).
    pub fn memory_above(self, share: f64) -> Self {
        Self { memory: Some(share), ..self }
    }

    /// Builds the signal, whose level is unknown until its task has read the files. Reads each file that the bounds
    /// need once, and blocks for that time.
    ///
    /// # Errors
    ///
    /// At least one bound must be set, and each must be above 0 and at most 1. Each file that the bounds need must
    /// exist and be well-formed. This fails on systems without cgroup v2 and on kernels without pressure information.
    pub fn build(self) -> Result<CgroupPressure, ConfigError> {
        for (field, bound) in [("load_shed.cgroup.cpu_above", self.cpu), ("load_shed.cgroup.memory_above", self.memory)]
        {
            if let Some(bound) = bound.filter(|bound| !(*bound > 0.0 && *bound <= 1.0)) {
                return Err(ConfigError::new(field, bound, "must be above 0 and at most 1"));
            }
        }
        if self.cpu.is_none() && self.memory.is_none() {
            let rule = "must watch something: set cpu_above, memory_above or both";
            return Err(ConfigError::new("load_shed.cgroup", self.folder, rule));
        }
        let files = Files { folder: self.folder, cpu: self.cpu, memory: self.memory };
        files.read().map_err(|fault| {
            ConfigError::new(
                "load_shed.cgroup.folder",
                fault.path,
                format!("must be a readable file of cgroup v2: {}", fault.why),
            )
        })?;
        let [level, read_at] = [UNKNOWN, 0].map(AtomicU64::new);
        let origin = Origin::at(Instant::now());
        Ok(CgroupPressure { shared: Arc::new(CgroupShared { files, origin, level, read_at }) })
    }
}

/// The running task. When the task is dropped, the level becomes unknown.
struct Task(Weak<CgroupShared>);

impl Task {
    fn publish(&self, reading: Option<Reading>) {
        let Some(shared) = self.0.upgrade() else { return };
        shared.read_at.store(shared.origin.to(Instant::now()).0, Ordering::Relaxed);
        shared.level.store(reading.map_or(UNKNOWN, |Reading(level)| level.to_bits()), Ordering::Relaxed);
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.publish(None);
    }
}

#[cfg(all(test, not(steadfast_loom)))]
mod tests;
