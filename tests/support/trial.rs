//! Tests that need something which may be missing: they are reported as ignored then, and fail under `CI=true`.
//!
//! A file of such tests lists them with [`trials!`]: async functions without arguments. Each runs in a tokio runtime of its
//! own, with two threads and real time.

use libtest_mimic::{Arguments, Failed, Trial};
use std::{env, process::ExitCode, time::Duration};
use tokio::{runtime, time::timeout};

/// The longest that a test may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Makes `pub fn trials() -> Vec<Trial>` of the names of async functions.
macro_rules! trials {
    ($($name:ident),+ $(,)?) => {
        pub fn trials() -> Vec<libtest_mimic::Trial> {
            vec![$(crate::trial::trial(concat!(module_path!(), "::", stringify!($name)), $name)),+]
        }
    };
}
pub(crate) use trials;

/// A test of this name.
pub fn trial<Test, Running>(name: &str, test: Test) -> Trial
where
    Test: FnOnce() -> Running + Send + 'static,
    Running: Future<Output = ()>,
{
    let name = name.split_once("::").map_or(name, |(_, name)| name);
    Trial::test(name, move || {
        let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let ended = runtime
            .map_err(|error| Failed::from(error.to_string()))?
            .block_on(async { timeout(PATIENCE, test()).await });
        ended.map_err(|_| Failed::from(format!("not done within {PATIENCE:?}")))
    })
}

/// Runs them one after another, since some measure time, or says why not.
pub fn run(trials: Vec<Trial>, missing: Option<String>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(1);
    let Some(missing) = missing else { return libtest_mimic::run(&arguments, trials).exit_code() };
    let in_vain = env::var("CI").is_ok_and(|ci| ci == "true");
    let ignored = trials.into_iter().map(|trial| trial.with_kind(&missing).with_ignored_flag(true)).collect();
    let exit_code = libtest_mimic::run(&arguments, ignored).exit_code();
    if in_vain && !arguments.list {
        eprintln!("CI must have it: {missing}");
        return ExitCode::FAILURE;
    }
    exit_code
}
