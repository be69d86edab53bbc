//! Starts the processes, makes the fault, and collects the reports.

use super::client::{Log, PART, PROCESSES, Part, STORE};
use crate::clock::now;
use std::{
    env,
    io::Read,
    process::{Child, Command, Stdio},
    time::Duration,
};
use tokio::time::sleep;

/// The time from the start of a run until the fault, and the length of the fault.
const BEFORE: Duration = Duration::from_millis(1500);
const FAULT: Duration = Duration::from_millis(3000);
/// In the environment: another length of the fault, in seconds.
const SECONDS: &str = "STEADFAST_FAULT_SECONDS";
/// The time from the end of the fault to the end of the run: two seconds to recover, and a while after that.
const AFTER: Duration = Duration::from_millis(4500);

/// The result of a run. Times are nanoseconds by the clock that all processes share.
pub struct Run {
    pub logs: Vec<Log>,
    pub begin: u64,
    pub fault: (u64, u64),
    pub end: u64,
}

/// Returns the length of a fault.
pub fn fault() -> Duration {
    let seconds = env::var(SECONDS).ok().and_then(|seconds| seconds.parse().ok());
    seconds.map_or(FAULT, Duration::from_secs_f64)
}

/// Runs four processes, each with its own URL of the store, while `begin` and `end` make and end the fault.
pub async fn run(
    urls: [String; PROCESSES],
    is_cluster: bool,
    begin: impl AsyncFnOnce(),
    end: impl AsyncFnOnce(),
) -> Run {
    run_parts(|_, whole| urls.iter().map(|url| (Part { is_cluster, ..whole }, url.clone())).collect(), begin, end).await
}

/// Runs four processes, one of which crashes when the fault begins. Another takes its place half a second later.
pub async fn run_with_a_death(url: String) -> Run {
    let parts = |fault: u64, whole: Part| {
        let last = Part { dies: true, end: fault, ..whole };
        let heir = Part { begin: fault + 500_000_000, ..whole };
        [whole, whole, whole, last, heir].into_iter().map(|part| (part, url.clone())).collect()
    };
    run_parts(parts, async || {}, async || {}).await
}

/// Runs the processes of these parts. `parts` makes them from the time at which the fault begins, and a part for the
/// whole time.
async fn run_parts(
    parts: impl FnOnce(u64, Part) -> Vec<(Part, String)>,
    begin: impl AsyncFnOnce(),
    end: impl AsyncFnOnce(),
) -> Run {
    // The processes need a while to start.
    let start = now() + 500_000_000;
    let until = start + (BEFORE + fault() + AFTER).as_nanos() as u64;
    let whole = Part { index: 0, is_cluster: false, begin: start, end: until, dies: false };
    let parts = parts(start + BEFORE.as_nanos() as u64, whole);
    let processes = parts.into_iter().enumerate().map(|(index, (part, url))| {
        let part = Part { index, ..part };
        let child = Command::new(env::current_exe().expect("a test knows its own path"))
            .env(PART, serde_json::to_string(&part).expect("plain data"))
            .env(STORE, url)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn();
        Stopped(child.expect("this program can be started"))
    });
    let processes: Vec<Stopped> = processes.collect();
    sleep(Duration::from_nanos(start.saturating_sub(now())) + BEFORE).await;
    let began = now();
    begin().await;
    sleep(fault().saturating_sub(Duration::from_nanos(now() - began))).await;
    end().await;
    let ended = now();
    let mut logs = Vec::new();
    for process in processes {
        let output = tokio::task::spawn_blocking(move || process.output()).await.expect("it can be read");
        logs.push(serde_json::from_str(&output).expect("a log"));
    }
    Run { logs, begin: start, fault: (began, ended), end: until }
}

/// A process that is killed, by its own id, when it is dropped.
struct Stopped(Child);

impl Stopped {
    fn output(mut self) -> String {
        let mut output = String::new();
        let stdout = self.0.stdout.as_mut().expect("it is a pipe");
        stdout.read_to_string(&mut output).expect("it can be read");
        output
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}
