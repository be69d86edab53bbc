//! A publisher that is repeatedly killed during a publication.

use super::fixture::{Folder, number, publication};
use crate::trial::trials;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use std::{
    env, fs,
    path::Path,
    process::{Child, Command, exit},
    time::Duration,
};
use steadfast::constant_work::{FileSink, Sink};
use tokio::time::{Instant, sleep};

trials![a_killed_publisher_leaves_old_or_new];

/// The variable that makes this program publish to a path until it is killed.
pub const PUBLISH_TO: &str = "CONSTANT_WORK_PUBLISH_TO";

pub fn publish_until_killed(path: &Path) -> ! {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let mut sink = FileSink::new(path).expect("a name");
        let first = fs::read(path).map_or(0, |bytes| number(&bytes));
        for number in first + 1.. {
            sink.publish(&publication(number)).await.expect("a folder to write in");
        }
    });
    exit(1)
}

/// Killed also if the test fails.
struct Publisher(Child);

impl Drop for Publisher {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn a_killed_publisher_leaves_old_or_new() {
    const KILLS: u32 = 100;
    let folder = Folder::new();
    let path = folder.path("snapshot");
    let program = env::current_exe().expect("this program has a path");
    let mut random = SmallRng::seed_from_u64(7);
    let (mut last, mut halfway) = (0, 0);
    for _ in 0..KILLS {
        let child = Command::new(&program).env(PUBLISH_TO, &path).spawn().expect("this program can be started");
        let publisher = Publisher(child);
        let began = Instant::now();
        while fs::read(&path).map_or(0, |bytes| number(&bytes)) <= last {
            assert!(Instant::now() < began + Duration::from_secs(20), "it does not publish");
            sleep(Duration::from_millis(1)).await;
        }
        sleep(Duration::from_micros(random.random_range(0..10_000))).await;
        drop(publisher);
        let now = number(&fs::read(&path).expect("a file"));
        assert!(now > last, "{now} after {last}");
        last = now;
        let left = folder.names().len() - 1;
        halfway += u32::from(left > 0);
        for name in folder.names().iter().filter(|name| *name != "snapshot") {
            assert!(name.starts_with(".snapshot.") && name.ends_with(".tmp"), "{name}");
            fs::remove_file(folder.path(name)).expect("it is there");
        }
    }
    assert!(halfway > KILLS / 10, "killed in mid-publication: {halfway} times, {last} publications");
}
