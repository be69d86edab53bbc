//! A process that may write no more than a block to any file, as on a disk that has just become full.

use super::fixture::{Folder, publication};
use crate::trial::trials;
use std::{
    env,
    path::Path,
    process::{Command, Stdio, exit},
};
use steadfast::{
    constant_work::{FileSink, FixedSource, Poller, Shape, Sink, Snapshot, StackRule, Stacks, Version, slot_length_of},
    error::chain,
    stack::live::StackConfig,
};

trials![a_full_disk_leaves_no_file_and_a_reason];

/// The variable that makes this program write into a full folder and print the result.
pub const FULL_DISK: &str = "CONSTANT_WORK_FULL_DISK";

pub fn write_to_a_full_disk(folder: &Path) -> ! {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let mut sink = FileSink::new(folder.join("snapshot")).expect("a name");
        println!(
            "{}",
            sink.publish(&publication(1)).await.map_or_else(|error| chain(&error), |()| "written".to_owned())
        );

        let rules = vec![StackRule::new("api", StackConfig::default()).expect("a rule that can work")];
        let shape = Shape::new(100, slot_length_of::<StackRule>().expect("a rule")).expect("a shape");
        let (version, mut bytes) = (Version { epoch: 1, version: 1 }, Vec::new());
        Snapshot { version, published_at_nanos: 0, rules }.encode(shape, &mut bytes).expect("rules that fit");
        let poller = Poller::builder(FixedSource::new(bytes), shape).last_good(folder.join("last_good"));
        let mut poller = poller.build(Stacks::new().ignore_unknown()).expect("settings that can work");
        let readings = poller.readings();
        while readings.now().last_good.failed + readings.now().last_good.written == 0 {
            poller.tick().await.expect("a snapshot that is right");
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        println!("{}", readings.now().last_good_error.unwrap_or_else(|| "written".to_owned()));
    });
    // Waits for a write in progress.
    drop(runtime);
    exit(0)
}

async fn a_full_disk_leaves_no_file_and_a_reason() {
    let folder = Folder::new();
    let said = |limit: &str| {
        // Ignores the signal that the kernel sends for a file that exceeds the limit, so that the write fails.
        let program = env::current_exe().expect("a test knows its own path");
        let said = Command::new("sh")
            .args(["-c", &format!("trap '' XFSZ; {limit}; exec \"$0\"")])
            .arg(program)
            .env(FULL_DISK, folder.path(""))
            .stdin(Stdio::null())
            .output()
            .expect("every system has a shell");
        assert!(said.status.success(), "{said:?}");
        String::from_utf8(said.stdout).expect("text").lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let full = said("ulimit -f 1");
    assert!(full[0].starts_with("it cannot be reached or used: ") && full[0].contains("too large"), "{full:?}");
    assert!(full[1].starts_with("it cannot be written: ") && full[1].contains("too large"), "{full:?}");
    assert_eq!(folder.names(), Vec::<String>::new());
    // With room on the disk, the write succeeds.
    assert_eq!(said("true"), ["written", "written"]);
    assert_eq!(folder.names(), ["last_good", "snapshot"]);
}
