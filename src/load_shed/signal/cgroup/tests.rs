use super::*;
use std::{
    env, fs,
    path::Path,
    process,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};
use tokio::{
    task::yield_now,
    time::{advance, sleep},
};

/// A temporary folder with the files of a group.
struct Group(PathBuf);

impl Group {
    /// Makes a group under no pressure that uses 100 of 1000 bytes.
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("steadfast-cgroup-{}-{}", process::id(), NUMBER.fetch_add(1, Relaxed));
        let group = Self(env::temp_dir().join(name));
        fs::create_dir_all(&group.0).unwrap();
        group.pressure("cpu", "0.00");
        group.pressure("memory", "0.00");
        group.write("memory.current", "100\n");
        group.write("memory.max", "1000\n");
        group
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).unwrap();
    }

    fn pressure(&self, of: &str, percent: &str) {
        self.write(&format!("{of}.pressure"), &format!("some avg10={percent} avg60=0.00 avg300=0.00 total=0\n"));
    }

    fn builder(&self) -> CgroupPressureBuilder {
        CgroupPressure::builder().folder(&self.0)
    }

    fn both(&self) -> CgroupPressure {
        self.builder().cpu_above(0.2).memory_above(0.9).build().unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn level(signal: &CgroupPressure) -> Option<f64> {
    signal.level(Instant::now())
}

/// Waits until the files were read again. Virtual time does not pass while a thread for blocking work reads.
async fn until_read_again() {
    sleep(Duration::from_millis(1_500)).await;
}

#[tokio::test(start_paused = true)]
async fn the_level_is_the_largest_pressure_divided_by_its_bound() {
    let group = Group::new();
    let signal = group.both();
    assert_eq!(level(&signal), None);
    tokio::spawn(signal.measure());
    until_read_again().await;
    assert_eq!(level(&signal), Some(0.1 / 0.9));

    group.pressure("cpu", "10.00");
    until_read_again().await;
    assert_eq!(level(&signal), Some(0.5));

    group.write("memory.current", "900\n");
    until_read_again().await;
    assert_eq!(level(&signal), Some(1.0));

    group.pressure("memory", "99.00");
    until_read_again().await;
    assert_eq!(level(&signal), Some(0.99 / 0.9));
}

#[tokio::test(start_paused = true)]
async fn while_a_file_is_missing_the_level_is_unknown() {
    let group = Group::new();
    let signal = group.both();
    tokio::spawn(signal.measure());
    until_read_again().await;
    assert!(level(&signal).is_some());
    fs::remove_file(group.0.join("cpu.pressure")).unwrap();
    until_read_again().await;
    assert_eq!(level(&signal), None);
    group.pressure("cpu", "20.00");
    until_read_again().await;
    assert_eq!(level(&signal), Some(1.0));
}

#[tokio::test(start_paused = true)]
async fn after_its_task_is_dropped_the_level_is_unknown() {
    let group = Group::new();
    let signal = group.both();
    let task = tokio::spawn(signal.measure());
    until_read_again().await;
    assert!(level(&signal).is_some());
    task.abort();
    yield_now().await;
    assert_eq!(level(&signal), None);
}

#[tokio::test(start_paused = true)]
async fn a_reading_counts_for_five_seconds() {
    let group = Group::new();
    let signal = group.both();
    let mut task = Box::pin(signal.measure());
    tokio::select! {
        () = &mut task => unreachable!("it has a handle"),
        () = until_read_again() => {}
    }
    // The last reading was one second after the start. The task is not polled any more.
    advance(secs(3)).await;
    assert!(level(&signal).is_some());
    advance(secs(3)).await;
    assert_eq!(level(&signal), None);
}

#[tokio::test(start_paused = true)]
async fn the_task_ends_with_the_last_handle() {
    let group = Group::new();
    let signal = group.both();
    let task = tokio::spawn(signal.measure());
    until_read_again().await;
    assert!(!task.is_finished());
    drop(signal);
    until_read_again().await;
    assert!(task.is_finished());
}

#[test]
fn a_missing_file_is_named_by_the_error() {
    let group = Group::new();
    for name in ["cpu.pressure", "memory.pressure", "memory.current", "memory.max"] {
        let path = group.0.join(name);
        let text = fs::read_to_string(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let error = group.builder().cpu_above(0.2).memory_above(0.9).build().unwrap_err();
        assert_eq!((error.field(), error.value()), ("load_shed.cgroup.folder", &*format!("{path:?}")));
        fs::write(&path, text).unwrap();
    }
    assert!(group.builder().cpu_above(0.2).memory_above(0.9).build().is_ok());
}

#[test]
fn files_that_no_bound_needs_may_be_missing() {
    let group = Group::new();
    fs::remove_file(group.0.join("memory.max")).unwrap();
    assert!(group.builder().cpu_above(0.2).build().is_ok());
    assert!(group.builder().memory_above(0.2).build().is_err());
}

#[test]
fn bounds_are_shares_and_at_least_one_is_set() {
    let builder = || CgroupPressure::builder().folder(Path::new("/nowhere"));
    for wrong in [0.0, -0.1, 1.1, f64::NAN, f64::INFINITY] {
        let cpu = builder().cpu_above(wrong).build().unwrap_err();
        assert_eq!(cpu.field(), "load_shed.cgroup.cpu_above");
        let memory = builder().memory_above(wrong).build().unwrap_err();
        assert_eq!(memory.field(), "load_shed.cgroup.memory_above");
    }
    assert_eq!(builder().build().unwrap_err().field(), "load_shed.cgroup");
}
