//! Publishing snapshots to files.

use super::fixture::{Folder, LENGTH, failure, fetch, io_kind, number, publication, published, run};
use crate::trial::trials;
use std::{
    fs::{self, Permissions},
    future::{Future, poll_fn},
    io,
    os::unix::fs::{PermissionsExt, symlink},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};
use steadfast::constant_work::{FileSink, FileSource, Sink, SourceFailure};
use tokio::time::{Instant, sleep};

trials![
    what_was_published_is_there,
    a_file_keeps_its_permissions,
    a_link_is_replaced_and_not_followed,
    temporary_files_of_killed_publishers_are_removed,
    a_publication_that_fails_changes_nothing,
    a_path_without_a_name_is_refused,
    a_reader_sees_old_or_new_and_no_part,
    a_dropped_publication_is_old_or_new,
];

async fn what_was_published_is_there() {
    let folder = Folder::new();
    let mut sink = FileSink::new(folder.path("snapshot")).expect("a name");
    assert_eq!(published(&mut sink).await.expect("a folder"), None);
    for number in 0..5 {
        sink.publish(&publication(number)).await.expect("a folder to write in");
        assert_eq!(published(&mut sink).await.expect("a file"), Some(publication(number)));
        assert_eq!(folder.names(), ["snapshot"]);
    }
    let mut part = Vec::new();
    assert!(sink.published(&mut part, 10).await.expect("a file"));
    assert_eq!(part, publication(4)[..10]);
}

async fn a_file_keeps_its_permissions() {
    let folder = Folder::new();
    let path = folder.path("snapshot");
    let mode = || fs::metadata(&path).expect("a file").permissions().mode() & 0o7777;
    fs::write(folder.path("any"), "").expect("a folder to write in");
    let usual = fs::metadata(folder.path("any")).expect("a file").permissions().mode() & 0o7777;
    let mut sink = FileSink::new(&path).expect("a name");
    sink.publish(b"one").await.expect("a folder to write in");
    assert_eq!(mode(), usual);
    for changed in [0o640, 0o444] {
        fs::set_permissions(&path, Permissions::from_mode(changed)).expect("a file of our own");
        sink.publish(b"two").await.expect("a folder to write in");
        assert_eq!(mode(), changed);
    }
}

async fn a_link_is_replaced_and_not_followed() {
    let folder = Folder::new();
    fs::write(folder.path("elsewhere"), "left alone").expect("a folder to write in");
    symlink("elsewhere", folder.path("snapshot")).expect("a folder to write in");
    let mut sink = FileSink::new(folder.path("snapshot")).expect("a name");
    sink.publish(b"new").await.expect("a folder to write in");
    assert_eq!(fs::read(folder.path("elsewhere")).expect("a file"), b"left alone");
    assert_eq!(fs::read(folder.path("snapshot")).expect("a file"), b"new");
}

async fn temporary_files_of_killed_publishers_are_removed() {
    let folder = Folder::new();
    let old = [".snapshot.0123456789abcdef.tmp"];
    let others = [
        ".other.0123456789abcdef.tmp",
        ".snapshot.0123456789abcde.tmp",
        ".snapshot.0123456789abcdex.tmp",
        ".snapshot.tmp",
        ".snapshot.x.0123456789abcdef.tmp",
        "snapshot.0123456789abcdef.tmp",
    ];
    let young = [".snapshot.0123456789abcdee.tmp"];
    for name in old.iter().chain(&others).chain(&young) {
        fs::write(folder.path(name), "").expect("a folder to write in");
        let age = if young.contains(name) { "30 seconds ago" } else { "2 minutes ago" };
        run("touch", &["-d", age], &folder.path(name));
    }
    FileSink::new(folder.path("snapshot")).expect("a name").publish(b"new").await.expect("a folder to write in");
    let mut left: Vec<_> = others.iter().chain(&young).chain(&["snapshot"]).map(|&name| name.to_owned()).collect();
    left.sort();
    assert_eq!(folder.names(), left);
}

async fn a_publication_that_fails_changes_nothing() {
    let folder = Folder::new();
    let mut sink = FileSink::new(folder.path("nowhere/snapshot")).expect("a name");
    let error = sink.publish(b"new").await.expect_err("no folder");
    assert_eq!(error.failure(), SourceFailure::NotFound, "{error:?}");
    assert_eq!(published(&mut sink).await.expect("nothing is there"), None);
    // A folder that cannot be replaced stays, and the temporary file is removed.
    fs::create_dir(folder.path("folder")).expect("a folder to write in");
    let mut sink = FileSink::new(folder.path("folder")).expect("a name");
    let error = sink.publish(b"new").await.expect_err("a folder");
    assert_eq!(io_kind(&error), Some(io::ErrorKind::IsADirectory), "{error:?}");
    let error = published(&mut sink).await.expect_err("a folder");
    assert_eq!(io_kind(&error), Some(io::ErrorKind::IsADirectory), "{error:?}");
    assert_eq!(folder.names(), ["folder"]);
}

async fn a_path_without_a_name_is_refused() {
    for path in ["/", "", "..", "folder/.."] {
        let error = FileSink::new(path).err().expect(path);
        assert_eq!(error.field(), "constant_work.file_sink.path");
    }
}

async fn a_reader_sees_old_or_new_and_no_part() {
    const PUBLICATIONS: u32 = 1000;
    let folder = Folder::new();
    let mut sink = FileSink::new(folder.path("snapshot")).expect("a name");
    sink.publish(&publication(0)).await.expect("a folder to write in");
    let ended = Arc::new(AtomicBool::new(false));
    let reading = tokio::spawn({
        let (ended, mut source) = (ended.clone(), FileSource::new(folder.path("snapshot")));
        async move {
            let (mut last, mut seen) = (0, 0);
            while !ended.load(Ordering::Relaxed) {
                let now = number(&fetch(&mut source, LENGTH + 1).await.expect("it is never away"));
                assert!(now >= last, "{now} after {last}");
                seen += u32::from(now > last);
                last = now;
            }
            seen
        }
    });
    for number in 1..=PUBLICATIONS {
        sink.publish(&publication(number)).await.expect("a folder to write in");
    }
    ended.store(true, Ordering::Relaxed);
    let seen = reading.await.expect("no torn read");
    assert!(seen > PUBLICATIONS / 20, "read while it was published: {seen}");
}

/// Drops the future after this number of polls. Returns whether it had completed before.
async fn dropped_after<F: Future>(future: F, polls: u32) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(move |cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if left == 0 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

async fn a_dropped_publication_is_old_or_new() {
    let folder = Folder::new();
    let mut sink = FileSink::new(folder.path("snapshot")).expect("a name");
    sink.publish(&publication(0)).await.expect("a folder to write in");
    let (mut dropped, mut last) = (0, 0);
    for next in 1..=100 {
        dropped += u32::from(dropped_after(sink.publish(&publication(next)), 0).await.is_none());
        let seen = number(&fs::read(folder.path("snapshot")).expect("a file"));
        assert!(seen == last || seen == next, "{seen} at {next}");
        let began = Instant::now();
        // The dropped publication completes by itself, and only then another one begins.
        while failure(published(&mut sink).await) == Some(SourceFailure::Busy) {
            assert!(Instant::now() < began + Duration::from_secs(10), "still busy");
            sleep(Duration::from_millis(1)).await;
        }
        last = number(&fs::read(folder.path("snapshot")).expect("a file"));
        assert_eq!(last, next);
    }
    assert!(dropped > 50, "{dropped}");
    assert_eq!(folder.names(), ["snapshot"]);
}
