//! Counts the instructions of ticks: this program runs itself under valgrind.
//!
//! Valgrind counts instead of sampling, so other work on the machine does not affect its figures. It splits the run at
//! each call of `border_of_a_case`.

use super::{
    cases::{Case, Source, Subject, WARM_UP},
    polling::Polling,
    watching::Watching,
};
use std::{
    env, fs,
    hint::black_box,
    io,
    process::{Command, Stdio},
};
use steadfast::ConfigError;

/// The environment variable that makes a program run only the ticks.
const ALONE: &str = "STEADFAST_EXPERIMENT_E18";

/// The instructions of a tick in each of the cases.
pub struct Instructions {
    pub polling: Vec<f64>,
    pub watching: Vec<f64>,
}

/// The extent of a count.
#[derive(Clone, Copy)]
pub struct Extent {
    pub ticks: u32,
    /// Only [`Case::extremes`] instead of all cases.
    pub extremes: bool,
}

impl Extent {
    pub fn cases(self) -> Vec<Case> {
        if self.extremes { Case::extremes() } else { Case::all() }
    }

    /// The cases that the watcher runs. It takes many times as long, and serves only for comparison.
    fn watched(self) -> Vec<Case> {
        let mut cases = self.cases();
        cases.retain(|case| !self.extremes || case.source == Source::Up);
        cases
    }
}

/// Returns whether instructions can be counted on this machine.
pub fn can_be_counted() -> bool {
    let version = Command::new("valgrind").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

/// Counts the instructions in this program, started with these arguments. The `main` of the program must call
/// [`run_alone`].
pub fn count(seed: u64, extent: Extent, arguments: &[&str]) -> io::Result<Instructions> {
    let counts = env::temp_dir().join(format!("steadfast-e18-{}-{seed}", std::process::id()));
    let output = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--read-inline-info=no",
            "--combine-dumps=yes",
            "--dump-before=*e18*border_of_a_case*",
        ])
        .arg(format!("--callgrind-out-file={}", counts.display()))
        .arg(env::current_exe()?)
        .args(arguments)
        .env(ALONE, format!("{seed} {} {}", extent.ticks, extent.extremes))
        .output()?;
    let text = fs::read_to_string(&counts);
    // The file may not exist, and is not needed any more.
    let _ = fs::remove_file(&counts);
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    let text = text?;
    let parts = text.lines().filter_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok());
    let parts: Vec<f64> = parts.collect();
    let cases = extent.cases().len();
    let watched = extent.watched().len();
    // There are two parts for each case, the code before it and the case itself, and one part for the end.
    if parts.len() != 2 * (cases + watched) + 1 {
        return Err(io::Error::other(format!("valgrind saw {} parts of the run", parts.len())));
    }
    let mut each = parts.iter().skip(1).step_by(2).map(|instructions| instructions / f64::from(extent.ticks));
    Ok(Instructions { polling: each.by_ref().take(cases).collect(), watching: each.collect() })
}

/// Runs the ticks if the environment asks this program to, and names their seed and extent.
pub fn run_alone() -> Option<Result<(), ConfigError>> {
    let asked = env::var(ALONE).ok()?;
    let mut words = asked.split(' ');
    let seed = words.next()?.parse().ok()?;
    let extent = Extent { ticks: words.next()?.parse().ok()?, extremes: words.next()?.parse().ok()? };
    Some(go_through(seed, extent))
}

/// Runs the ticks of each case, with a call of [`border_of_a_case`] before and after.
pub fn go_through(seed: u64, extent: Extent) -> Result<(), ConfigError> {
    let ticks = extent.ticks;
    for case in extent.cases() {
        go(&mut Polling::new(&case, seed, ticks)?, ticks);
    }
    for case in extent.watched() {
        go(&mut Watching::new(&case, seed, ticks), ticks);
    }
    Ok(())
}

fn go(subject: &mut impl Subject, ticks: u32) {
    for _ in 0..WARM_UP {
        subject.tick();
    }
    border_of_a_case();
    for _ in 0..ticks {
        black_box(subject.tick());
    }
    border_of_a_case();
}

#[inline(never)]
fn border_of_a_case() {
    black_box(());
}
