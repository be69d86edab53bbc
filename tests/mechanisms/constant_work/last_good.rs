//! The file of the last good snapshot.

use super::support::{Answer, Scripted, builder, copy, in_force, limit, published, shape};
use std::{
    fs,
    future::Future,
    path::{Path, PathBuf},
    sync::mpsc,
    time::Duration,
};
use steadfast::constant_work::{InForce, LastGoodCounts, Poller, PollerReadings, Version, WallClock};

/// A directory for one test, empty at first and removed at the end.
pub struct Directory(PathBuf);

impl Directory {
    pub fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("constant_work_{name}"));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn file(&self) -> PathBuf {
        self.0.join("last_good")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Ticks until `enough` accepts the counts of the file.
async fn tick_until<B>(poller: &mut Poller<super::support::Limit, Scripted, B>, enough: impl Fn(LastGoodCounts) -> bool)
where
    B: steadfast::constant_work::Build<super::support::Limit>,
{
    for _ in 0..10_000 {
        let _ = poller.tick().await;
        if enough(poller.readings().now().last_good) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("not in ten thousand ticks: {:?}", poller.readings());
}

fn counts(readings: &PollerReadings) -> (u64, u64, u64) {
    let counts = readings.now().last_good;
    (counts.written, counts.failed, counts.refused)
}

#[tokio::test]
async fn a_start_while_the_source_is_down_finds_the_last_good_rules_and_refuses_replays() {
    let directory = Directory::new("cold_start");
    let good = published(shape(2), 1, 7, &[limit(7, 7)]);
    let source = Scripted::new(Answer::Bytes(good.clone()));
    let mut poller = builder(&source, shape(2)).last_good(directory.file()).build(copy).unwrap();
    tick_until(&mut poller, |counts| counts.written >= 1).await;
    assert_eq!(fs::read(directory.file()).unwrap(), good);
    assert_eq!(counts(&poller.readings()).2, 0, "a file that is not there yet is none that was refused");
    // A write may still be running after the drop. It replaces the file with equal bytes.
    drop(poller);

    let source = Scripted::down();
    // On a machine whose clock starts in 1970, the poller must still restore the rules of the file. The allowance lets
    // it accept the fetched snapshots, too.
    let unset = WallClock::from_fn(|| Duration::ZERO);
    let mut poller = builder(&source, shape(2))
        .wall_clock(unset)
        .clock_allowance(Duration::MAX)
        .last_good(directory.file())
        .build(copy)
        .unwrap();
    assert_eq!(poller.tick().await.unwrap_err().kind(), "source");
    assert_eq!(in_force(&poller.current()), [limit(7, 7)]);
    let readings = poller.readings().now();
    assert_eq!((readings.in_force, readings.version), (InForce::LastGood, Some(Version { epoch: 1, version: 7 })));
    source.gives(&published(shape(2), 1, 6, &[limit(6, 6)]));
    assert_eq!(poller.tick().await.unwrap_err().kind(), "backwards");
    source.gives(&published(shape(2), 1, 8, &[limit(8, 8)]));
    poller.tick().await.unwrap();
    assert_eq!(in_force(&poller.current()), [limit(8, 8)]);
}

#[tokio::test]
async fn a_replay_in_the_very_first_tick_is_refused() {
    let directory = Directory::new("replay");
    fs::write(directory.file(), published(shape(2), 1, 7, &[limit(7, 7)])).unwrap();
    let source = Scripted::new(Answer::Bytes(published(shape(2), 1, 6, &[limit(6, 6)])));
    let mut poller = builder(&source, shape(2)).last_good(directory.file()).build(copy).unwrap();
    assert_eq!(poller.tick().await.unwrap_err().kind(), "backwards");
    assert_eq!(in_force(&poller.current()), [limit(7, 7)]);
}

#[tokio::test]
async fn a_corrupt_file_is_counted_and_the_defaults_stay_until_a_good_read_replaces_it() {
    let good = published(shape(2), 1, 7, &[limit(7, 7)]);
    for (content, name) in [
        (&good[..good.len() - 1], "shorter"),
        (&[], "empty"),
        (&[&good[..], b"x"].concat(), "longer"),
        (b"{}", "other"),
    ] {
        let directory = Directory::new(name);
        fs::write(directory.file(), content).unwrap();
        let source = Scripted::down();
        let mut poller =
            builder(&source, shape(2)).defaults(vec![limit(9, 9)]).last_good(directory.file()).build(copy).unwrap();
        poller.tick().await.unwrap_err();
        assert_eq!(in_force(&poller.current()), [limit(9, 9)]);
        assert_eq!(counts(&poller.readings()), (0, 0, 1));
        source.gives(&good);
        tick_until(&mut poller, |counts| counts.written >= 1).await;
        assert_eq!(fs::read(directory.file()).unwrap(), good);
    }
}

#[tokio::test]
async fn a_snapshot_fetched_in_the_first_tick_wins_over_an_older_file() {
    let directory = Directory::new("both");
    fs::write(directory.file(), published(shape(2), 1, 7, &[limit(7, 7)])).unwrap();
    let source = Scripted::new(Answer::Bytes(published(shape(2), 1, 8, &[limit(8, 8)])));
    let mut poller = builder(&source, shape(2)).last_good(directory.file()).build(copy).unwrap();
    poller.tick().await.unwrap();
    assert_eq!(in_force(&poller.current()), [limit(8, 8)]);
}

#[tokio::test]
async fn failed_writes_are_counted_and_delay_no_tick() {
    let directory = Directory::new("refusing");
    let source = Scripted::new(Answer::Bytes(published(shape(2), 1, 7, &[limit(7, 7)])));
    let missing = directory.0.join("missing").join("last_good");
    let mut poller = builder(&source, shape(2)).last_good(missing).build(copy).unwrap();
    tick_until(&mut poller, |counts| counts.failed >= 2).await;
    let readings = poller.readings().now();
    assert_eq!((readings.ticks.by_kind().map(|(_, count)| count).sum::<u64>(), readings.last_good.written), (0, 0));
}

/// Runs a test in a runtime whose only thread for blocking work hangs until the test releases it. No work on files
/// begins or ends before that.
pub fn while_the_disk_hangs<F: Future<Output = ()>>(test: impl FnOnce(mpsc::Sender<()>) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let (go_on, hangs) = mpsc::channel::<()>();
        tokio::task::spawn_blocking(move || {
            let _ = hangs.recv();
        });
        test(go_on).await;
    });
}

/// The disk hangs during the first 50 ticks. The first tick gives up the read and begins a write. The other 49 find
/// that this write has not ended.
#[test]
fn a_disk_that_hangs_delays_no_tick_beyond_its_timeout_and_queues_no_work() {
    while_the_disk_hangs(async |go_on| {
        let directory = Directory::new("hanging");
        let source = Scripted::new(Answer::Bytes(published(shape(2), 1, 7, &[limit(7, 7)])));
        let poller = builder(&source, shape(2)).timeout(Duration::from_millis(20)).last_good(directory.file());
        let mut poller = poller.build(copy).unwrap();
        for _ in 0..50 {
            poller.tick().await.unwrap();
        }
        let readings = poller.readings().now();
        assert_eq!(in_force(&poller.current()), [limit(7, 7)]);
        assert_eq!((readings.last_good.busy, readings.last_good.refused), (49, 1));
        assert_eq!(readings.last_good_error.as_deref(), Some("it was not read in time"));
        go_on.send(()).unwrap();
        tick_until(&mut poller, |counts| counts.written >= 1).await;
        assert_eq!(poller.readings().now().last_good_error, None);
    });
}

#[tokio::test]
async fn a_folder_in_the_place_of_the_file_is_reported_and_left_alone() {
    let directory = Directory::new("no_file");
    fs::create_dir(directory.file().with_file_name("last_good.partial")).unwrap();
    fs::create_dir(directory.file()).unwrap();
    let source = Scripted::down();
    let mut poller = builder(&source, shape(2)).last_good(directory.file()).build(copy).unwrap();
    poller.tick().await.unwrap_err();
    let readings = poller.readings().now();
    let path = directory.file().display().to_string();
    let text = format!("it cannot be read: {path} is a folder: it must be a regular file");
    assert_eq!((readings.last_good.refused, readings.last_good_error), (1, Some(text)));
    source.gives(&published(shape(2), 1, 7, &[limit(7, 7)]));
    tick_until(&mut poller, |counts| counts.failed >= 1).await;
    let error = poller.readings().now().last_good_error.unwrap();
    assert!(error.starts_with("it cannot be written: "), "{error}");
    assert_eq!(in_force(&poller.current()), [limit(7, 7)]);
}

#[cfg(unix)]
#[tokio::test]
async fn a_fifo_in_the_place_of_either_file_delays_nothing() {
    let directory = Directory::new("fifo");
    for name in ["last_good", "last_good.partial"] {
        let made = std::process::Command::new("mkfifo").arg(directory.file().with_file_name(name)).status();
        assert!(made.unwrap().success());
    }
    let source = Scripted::new(Answer::Bytes(published(shape(2), 1, 7, &[limit(7, 7)])));
    let mut poller = builder(&source, shape(2)).last_good(directory.file()).build(copy).unwrap();
    tick_until(&mut poller, |counts| counts.written >= 1).await;
    assert_eq!(counts(&poller.readings()).2, 1, "the FIFO was refused");
    assert_eq!(fs::read(directory.file()).unwrap(), published(shape(2), 1, 7, &[limit(7, 7)]));
}
