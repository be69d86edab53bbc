//! Reading files.

use super::fixture::{Folder, failure, fetch, io_kind, published, run};
use crate::trial::trials;
use std::{
    fs, io,
    os::unix::{fs::symlink, net::UnixListener},
    time::Duration,
};
use steadfast::{
    constant_work::{FileSink, FileSource, FixedSource, Source, SourceFailure},
    error::chain,
};
use tokio::time::timeout;

/// Many times the duration of a read.
const PATIENCE: Duration = Duration::from_secs(10);

trials![
    a_file_is_read_as_it_is_now,
    a_read_stops_at_the_limit,
    a_config_map_is_seen_when_its_folder_is_swapped,
    what_is_no_file_says_so,
    a_read_reuses_its_buffers,
    other_types_of_files_are_refused_at_once,
    fixed_bytes_never_change,
];

async fn a_file_is_read_as_it_is_now() {
    let folder = Folder::new();
    let path = folder.path("snapshot");
    let mut source = FileSource::new(&path);
    assert_eq!(failure(fetch(&mut source, 100).await), Some(SourceFailure::NotFound));
    fs::write(&path, "one").expect("a folder to write in");
    assert_eq!(fetch(&mut source, 100).await.expect("a file"), b"one");
    let other = folder.path("other");
    fs::write(&other, "another").expect("a folder to write in");
    fs::rename(&other, &path).expect("both are there");
    assert_eq!(fetch(&mut source, 100).await.expect("a file"), b"another");
    fs::write(&path, "").expect("a folder to write in");
    assert_eq!(fetch(&mut source, 100).await.expect("a file"), b"");
    fs::remove_file(&path).expect("it is there");
    assert_eq!(failure(fetch(&mut source, 100).await), Some(SourceFailure::NotFound));
}

async fn a_read_stops_at_the_limit() {
    let folder = Folder::new();
    let path = folder.path("snapshot");
    fs::write(&path, [7; 1000]).expect("a folder to write in");
    for (at_most, length) in [(0, 0), (1, 1), (999, 999), (1000, 1000), (1001, 1000), (usize::MAX, 1000)] {
        assert_eq!(fetch(&mut FileSource::new(&path), at_most).await.expect("a file"), vec![7; length], "{at_most}");
    }
}

/// Does the steps of a kubelet when a config map has changed.
async fn a_config_map_is_seen_when_its_folder_is_swapped() {
    let folder = Folder::new();
    let swap = |version: u32| {
        let name = format!("..2026_01_31_12_00_0{version}.1");
        fs::create_dir(folder.path(&name)).expect("a folder to write in");
        fs::write(folder.path(&name).join("snapshot"), format!("version {version}")).expect("a folder to write in");
        symlink(&name, folder.path("..data_tmp")).expect("a folder to write in");
        fs::rename(folder.path("..data_tmp"), folder.path("..data")).expect("it is there");
    };
    swap(0);
    symlink("..data/snapshot", folder.path("snapshot")).expect("a folder to write in");
    let mut source = FileSource::new(folder.path("snapshot"));
    for version in 0..10 {
        assert_eq!(fetch(&mut source, 100).await.expect("a file"), format!("version {version}").as_bytes());
        swap(version + 1);
        fs::remove_dir_all(folder.path(&format!("..2026_01_31_12_00_0{version}.1"))).expect("it is there");
    }
}

async fn what_is_no_file_says_so() {
    let folder = Folder::new();
    fs::write(folder.path("file"), "").expect("a folder to write in");
    symlink("loop", folder.path("loop")).expect("a folder to write in");
    symlink("nowhere", folder.path("dangling")).expect("a folder to write in");
    for (path, kind) in [
        (folder.path("."), io::ErrorKind::IsADirectory),
        (folder.path("file/snapshot"), io::ErrorKind::NotADirectory),
        ("a\0b".into(), io::ErrorKind::InvalidInput),
    ] {
        let error = fetch(&mut FileSource::new(&path), 100).await.expect_err("no file");
        assert_eq!(error.failure(), SourceFailure::Unreachable, "{error:?}");
        assert_eq!(io_kind(&error), Some(kind), "{}", path.display());
    }
    let error = fetch(&mut FileSource::new(folder.path("loop")), 100).await.expect_err("no file");
    assert_eq!(error.failure(), SourceFailure::Unreachable, "{error:?}");
    let error = fetch(&mut FileSource::new(folder.path("dangling")), 100).await.expect_err("no file");
    assert_eq!(error.failure(), SourceFailure::NotFound, "{error:?}");
}

async fn a_read_reuses_its_buffers() {
    let folder = Folder::new();
    let path = folder.path("snapshot");
    let mut source = FileSource::new(&path);
    let mut bytes = Vec::new();
    let mut buffers = Vec::new();
    for tick in 0..100 {
        // Bad ticks, too.
        match tick % 10 {
            3 => fs::remove_file(&path).expect("it is there"),
            _ => fs::write(&path, vec![1; 10_000]).expect("a folder to write in"),
        }
        assert_eq!(source.fetch(&mut bytes, 10_001).await.is_ok(), tick % 10 != 3);
        buffers.push((bytes.as_ptr().addr(), bytes.capacity()));
    }
    let mut later = buffers.split_off(4);
    later.sort();
    later.dedup();
    assert_eq!(later.len(), 2, "the two that change places: {later:?}");
}

/// Opening a FIFO without a writer blocks, and so may reading a device.
async fn other_types_of_files_are_refused_at_once() {
    let folder = Folder::new();
    run("mkfifo", &[], &folder.path("fifo"));
    let _socket = UnixListener::bind(folder.path("socket")).expect("a folder to write in");
    symlink("fifo", folder.path("link")).expect("a folder to write in");
    for (path, what) in [
        (folder.path("fifo"), "a FIFO"),
        (folder.path("link"), "a FIFO"),
        (folder.path("socket"), "a socket"),
        ("/dev/zero".into(), "a device"),
        ("/dev/tty".into(), "a device"),
        (folder.path("."), "a folder"),
    ] {
        let text = format!("it cannot be reached or used: {} is {what}: it must be a regular file", path.display());
        let read = timeout(PATIENCE, fetch(&mut FileSource::new(&path), 100)).await.expect("nothing waits");
        assert_eq!(chain(&read.expect_err("no file")), text);
        let mut sink = FileSink::new(folder.path("fifo")).expect("a name");
        let found = timeout(PATIENCE, published(&mut sink)).await.expect("nothing waits");
        assert_eq!(failure(found), Some(SourceFailure::Unreachable));
    }
}

async fn fixed_bytes_never_change() {
    let mut source = FixedSource::new(*b"fixed");
    for (at_most, bytes) in [(5, b"fixed" as &[u8]), (6, b"fixed"), (2, b"fi"), (0, b""), (usize::MAX, b"fixed")] {
        assert_eq!(fetch(&mut source, at_most).await.expect("always"), bytes);
    }
}
