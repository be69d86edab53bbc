use crate::constant_work::regular_file::open_regular;
use std::{
    error::Error,
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::{Instant, timeout_at},
};

/// Counts the writes of the last-good file, and tells whether the poller refused the file at the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LastGoodCounts {
    /// The number of writes that succeeded.
    pub written: u64,
    /// The number of writes that failed.
    pub failed: u64,
    /// The number of writes that were skipped, because an earlier write was still running.
    pub busy: u64,
    /// At the start the file was refused, could not be read, or was not read in time: 0 or 1. A missing file does not
    /// count.
    pub refused: u64,
}

/// The file of the last good snapshot. Disk work runs on tokio's threads for blocking work. A disk that hangs delays
/// only the first tick, at most until the timeout. It blocks at most one thread for reading and one for writing.
#[derive(Debug)]
pub(super) struct LastGood {
    path: PathBuf,
    partial: PathBuf,
    reading: Reading,
    writing: Option<JoinHandle<Written>>,
    /// The buffer of the next write. Empty while a write runs.
    buffer: Vec<u8>,
    pub(super) counts: LastGoodCounts,
    /// Why the file was last refused, not read or not written. `None` after a successful write.
    pub(super) error: Option<String>,
}

#[derive(Debug)]
enum Reading {
    /// Not begun.
    Due,
    /// Begun in this tick, or in an earlier tick that was dropped.
    Begun(JoinHandle<io::Result<Vec<u8>>>),
    /// Read or given up.
    Done,
}

/// The buffer of a finished write, to be reused, and its result.
type Written = (Vec<u8>, io::Result<()>);

impl LastGood {
    /// Returns `None` if the path does not end with a file name.
    pub(super) fn new(path: PathBuf) -> Option<Self> {
        let mut name = path.file_name()?.to_owned();
        name.push(".partial");
        let partial = path.with_file_name(name);
        let counts = LastGoodCounts::default();
        let (reading, buffer) = (Reading::Due, Vec::new());
        Some(Self { path, partial, reading, writing: None, buffer, counts, error: None })
    }

    /// Begins to read the file, in the first tick only.
    pub(super) fn begin_reading(&mut self, at_most: usize) {
        if let Reading::Due = self.reading {
            let path = self.path.clone();
            self.reading = Reading::Begun(spawn_blocking(move || read(&path, at_most)));
        }
    }

    /// Returns the bytes of the file, in the first tick and if there is a file. Waits until the deadline, and then
    /// gives up permanently. If the future is dropped, the next tick continues the read.
    pub(super) async fn read(&mut self, deadline: Instant) -> Option<Vec<u8>> {
        let Reading::Begun(task) = &mut self.reading else { return None };
        let outcome = timeout_at(deadline, task).await;
        self.reading = Reading::Done;
        match outcome {
            Ok(Ok(Ok(bytes))) => Some(bytes),
            Ok(Ok(Err(error))) if error.kind() == io::ErrorKind::NotFound => None,
            Ok(Ok(Err(error))) => self.refuse(format!("it cannot be read: {error}")),
            Ok(Err(error)) => self.refuse(format!("it cannot be read: {error}")),
            Err(_) => self.refuse("it was not read in time".to_owned()),
        }
    }

    /// Counts the file as refused, for this reason. Returns `None`, the result of [`read`](Self::read) without a file.
    pub(super) fn refuse(&mut self, reason: String) -> Option<Vec<u8>> {
        self.counts.refused += 1;
        self.error = Some(reason);
        None
    }

    /// Takes the buffer back from a finished write, and counts the write. Does not wait for a running one.
    pub(super) async fn reclaim(&mut self) {
        let Some(task) = self.writing.as_mut().filter(|task| task.is_finished()) else { return };
        let outcome = task.await;
        self.writing = None;
        match outcome {
            Ok((buffer, result)) => {
                self.buffer = buffer;
                match result {
                    Ok(()) => {
                        self.counts.written += 1;
                        self.error = None;
                    }
                    Err(error) => self.failed(&error),
                }
            }
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&mut self, error: &dyn Error) {
        self.counts.failed += 1;
        self.error = Some(format!("it cannot be written: {error}"));
    }

    /// Begins to write a copy of the bytes, unless the previous write is still running.
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
    open_regular(path)?.take(at_most as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Replaces the file atomically: a reader that opens the path sees the old bytes or the new ones. The bytes are synced
/// before the rename, so a loss of power also leaves one of the two. A failed write removes its temporary file.
fn write(path: &Path, partial: &Path, bytes: &[u8]) -> io::Result<()> {
    match fs::remove_file(partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        // If a killed process left a temporary file, that file is now removed. It is not opened and overwritten,
        // because it may be of another type, such as a FIFO, whose open could block forever.
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).open(partial)?;
    let mut fill = || {
        file.write_all(bytes)?;
        file.sync_data()?;
        fs::rename(partial, path)
    };
    fill().inspect_err(|_| {
        let _ = fs::remove_file(partial);
    })
}
