//! Tests in real time, against servers and processes.
//!
//! A file of such tests lists them with [`trials!`]: async functions without arguments. Each runs in its own tokio
//! runtime, with two threads.
//!
//! A trial measures how late its own timers are. If it fails while they were late, the machine may be the cause, and
//! the trial runs again. After the last try it is reported as ignored, with the word "inconclusive" and the reason. A
//! failure while timers were on time counts at once.

use crate::timers::Timers;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use std::{
    any::Any,
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use tokio::{runtime, time::timeout};

/// The longest that a test may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// The number of runtimes started in this process. It names their threads, so that a trial can count its own.
static STARTED: AtomicUsize = AtomicUsize::new(0);

/// How often a trial runs at most, if it fails while the machine is too busy.
const TRIES: u32 = 3;

/// Defines `pub fn trials() -> Vec<Trial>` from the names of async functions.
macro_rules! trials {
    ($($name:ident),+ $(,)?) => {
        pub fn trials() -> Vec<libtest_mimic::Trial> {
            vec![$(crate::trial::trial(concat!(module_path!(), "::", stringify!($name)), $name)),+]
        }
    };
}
pub(crate) use trials;

/// Creates a trial with this name.
pub fn trial<Test, Running>(name: &str, test: Test) -> Trial
where
    Test: Fn() -> Running + Send + 'static,
    Running: Future<Output = ()>,
{
    let name = name.split_once("::").map_or(name, |(_, name)| name);
    let conclude = until_conclusive(name.to_owned(), move || in_a_runtime(&test));
    Trial::ignorable_test(name, conclude)
}

/// Runs a trial until it passes, fails while timers were on time, or has had all its tries.
fn until_conclusive(name: String, run: impl Fn() -> Result<(), Failed>) -> impl FnOnce() -> Result<Completion, Failed> {
    move || {
        for tried in 1.. {
            let timers = Timers::watch();
            let Err(failed) = run() else { return Ok(Completion::Completed) };
            let lateness = timers.lateness();
            if lateness.is_calm() {
                return Err(failed);
            }
            eprintln!("{name} failed, try {tried} of {TRIES}, while {lateness}");
            if tried == TRIES {
                let why = failed.message().unwrap_or("no message").lines().next().unwrap_or_default();
                return Ok(Completion::ignored_with(format!("inconclusive: {lateness}; the failure was: {why}")));
            }
        }
        unreachable!("the last try returns")
    }
}

fn in_a_runtime<Running: Future<Output = ()>>(test: impl Fn() -> Running) -> Result<(), Failed> {
    let name = format!("trial {}", STARTED.fetch_add(1, Ordering::Relaxed));
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).thread_name(name).enable_all().build();
    let runtime = runtime.map_err(|error| Failed::from(error.to_string()))?;
    let run = || runtime.block_on(async { timeout(PATIENCE, test()).await });
    let result = catch_unwind(AssertUnwindSafe(run));
    // A failed trial may have left a thread that blocks forever.
    runtime.shutdown_timeout(Duration::from_secs(5));
    match result {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Failed::from(format!("not done within {PATIENCE:?}"))),
        Err(panic) => Err(Failed::from(message(&*panic))),
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message").to_owned()
}

/// Ignores trials whose requirement is missing, with the reason. Under `CI=true` they run and fail.
pub fn needing(missing: Option<String>, trials: impl IntoIterator<Item = Trial>) -> Vec<Trial> {
    let is_ci = env::var("CI").is_ok_and(|ci| ci == "true");
    let ignore = |trial: Trial| match &missing {
        Some(missing) if !is_ci => trial.with_kind(missing).with_ignored_flag(true),
        _ => trial,
    };
    trials.into_iter().map(ignore).collect()
}

/// Runs the trials, `at_a_time` of them in parallel. Trials that measure time run one at a time.
pub fn run(trials: Vec<Trial>, at_a_time: usize) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(at_a_time);
    libtest_mimic::run(&arguments, trials).exit_code()
}
