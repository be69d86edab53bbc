use std::{
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::{Instant, timeout_at},
};

/// What became of the file of the last good snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LastGoodCounts {
    /// Written as a whole.
    pub written: u64,
    /// Not written: the disk refused it.
    pub failed: u64,
    /// Not written: an earlier write had not ended.
    pub busy: u64,
    /// Read at the start and refused, or not read in time: at most one.
    pub refused: u64,
}

/// The file of the last good snapshot. Disk work is done on tokio's threads for blocking work, one piece at a time: a
/// disk that hangs holds back neither the ticks nor more than one thread for reading and one for writing.
#[derive(Debug)]
pub(super) struct LastGood {
    path: PathBuf,
    partial: PathBuf,
    reading: Reading,
    writing: Option<JoinHandle<Written>>,
    /// Where the bytes are copied to for a write; empty while one goes on.
    buffer: Vec<u8>,
    pub(super) counts: LastGoodCounts,
}

#[derive(Debug)]
enum Reading {
    /// Not begun.
    Due,
    /// Begun in this tick or in one that was dropped.
    Begun(JoinHandle<io::Result<Vec<u8>>>),
    /// Read or given up.
    Done,
}

/// The buffer of a write that ended, to be used again, and how it ended.
type Written = (Vec<u8>, io::Result<()>);

impl LastGood {
    /// `None` where the path has no name of a file at its end.
    pub(super) fn new(path: PathBuf) -> Option<Self> {
        let mut name = path.file_name()?.to_owned();
        name.push(".partial");
        let partial = path.with_file_name(name);
        let counts = LastGoodCounts::default();
        Some(Self { path, partial, reading: Reading::Due, writing: None, buffer: Vec::new(), counts })
    }

    /// Begins to read the file, in the first tick.
    pub(super) fn begin_reading(&mut self, at_most: usize) {
        if let Reading::Due = self.reading {
            let path = self.path.clone();
            self.reading = Reading::Begun(spawn_blocking(move || read(&path, at_most)));
        }
    }

    /// What was in the file, in the first tick and where there is one. Waits until the deadline, and then gives up for
    /// good. Dropped, it goes on in the next tick.
    pub(super) async fn read(&mut self, deadline: Instant) -> Option<Vec<u8>> {
        let Reading::Begun(task) = &mut self.reading else { return None };
        let outcome = timeout_at(deadline, task).await;
        self.reading = Reading::Done;
        match outcome {
            Ok(Ok(Ok(bytes))) => Some(bytes),
            Ok(Ok(Err(error))) if error.kind() == io::ErrorKind::NotFound => None,
            _ => {
                self.counts.refused += 1;
                None
            }
        }
    }

    /// Takes the buffer back from a write that has ended. Does not wait for one that has not.
    pub(super) async fn reclaim(&mut self) {
        let Some(task) = self.writing.as_mut().filter(|task| task.is_finished()) else { return };
        let outcome = task.await;
        self.writing = None;
        match outcome {
            Ok((buffer, result)) => {
                self.buffer = buffer;
                match result {
                    Ok(()) => self.counts.written += 1,
                    Err(_) => self.counts.failed += 1,
                }
            }
            Err(_) => self.counts.failed += 1,
        }
    }

    /// Begins to write a copy of the bytes, unless the write before still goes on.
    pub(super) fn begin_writing(&mut self, bytes: &[u8]) {
        if self.writing.is_some() {
            self.counts.busy += 1;
            return;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        buffer.extend_from_slice(bytes);
        let (path, partial) = (self.path.clone(), self.partial.clone());
        self.writing = Some(spawn_blocking(move || {
            let result = write(&path, &partial, &buffer);
            (buffer, result)
        }));
    }
}

fn read(path: &Path, at_most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(at_most);
    fs::File::open(path)?.take(at_most as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whoever opens the path sees the old bytes or the new. The bytes are on the disk before they have the name, so that a
/// loss of power leaves one of the two as well.
fn write(path: &Path, partial: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::File::create(partial)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    fs::rename(partial, path)
}
