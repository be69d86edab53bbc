use super::blocking_task::BlockingTask;
use crate::constant_work::{Source, SourceError, regular_file::open_regular};
use std::{
    io::{self, Read},
    mem,
    path::Path,
    sync::Arc,
};

/// Reads a snapshot from a file, on a thread of tokio's for blocking work.
///
/// Each fetch opens the path again and follows its links: a file that another one was moved over, as a
/// [`FileSink`](super::FileSink) does, is seen at the next tick, and so is a mounted Kubernetes config map, whose
/// folder is swapped as a whole:
///
/// ```text
/// binaryData:                        # of the config map: `data` takes UTF-8 only
///   limits.snapshot: <base64>
///
/// /etc/limits/limits.snapshot  ->  ..data/limits.snapshot
/// /etc/limits/..data           ->  ..2026_01_31_12_00_00.123456789/     swapped by the kubelet
/// ```
///
/// There the source is `FileSource::new("/etc/limits/limits.snapshot")`. Mount the whole folder: a file mounted with
/// `subPath` is never updated. A config map holds 1 MiB at most.
///
/// # Errors
///
/// [`NotFound`] where no file is there; anything else, such as no permission, is [`Unreachable`] with the
/// [`io::Error`]. So is whatever is no regular file: a folder, a FIFO, a socket or a device, which the error names.
/// Nothing waits for the writer of a FIFO.
///
/// # Cancellation
///
/// A read cannot be stopped: one whose future was dropped goes on, and until it has ended every fetch fails with
/// [`Busy`]. So a disk that hangs holds one thread, however many ticks it lasts. But tokio waits for it
/// when its runtime is dropped; end a process that must not with `Runtime::shutdown_background`.
///
/// # Costs
///
/// One open, one close, and a read for each piece that the system hands out, with one task on a thread for blocking
/// work. Two buffers, which change places with the caller's.
///
/// [`NotFound`]: crate::constant_work::SourceFailure::NotFound
/// [`Unreachable`]: crate::constant_work::SourceFailure::Unreachable
/// [`Busy`]: crate::constant_work::SourceFailure::Busy
pub struct FileSource {
    path: Arc<Path>,
    /// The buffer of the next read.
    buffer: Vec<u8>,
    task: BlockingTask<(Vec<u8>, io::Result<()>)>,
}

impl FileSource {
    /// Reads the file of this path, which need not exist yet.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self { path: path.as_ref().into(), buffer: Vec::new(), task: BlockingTask::default() }
    }

    /// The path as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Source for FileSource {
    async fn fetch(&mut self, into: &mut Vec<u8>, at_most: usize) -> Result<(), SourceError> {
        into.clear();
        if let Some((buffer, _)) = self.task.left_behind().await? {
            self.buffer = buffer;
        }
        let (path, mut buffer) = (self.path.clone(), mem::take(&mut self.buffer));
        let work = move || {
            let ended = read(&path, &mut buffer, at_most);
            (buffer, ended)
        };
        let (buffer, ended) = self.task.run(work).await?;
        self.buffer = buffer;
        ended?;
        mem::swap(into, &mut self.buffer);
        Ok(())
    }
}

/// Reads the file that the path leads to now, at most `at_most` bytes of it.
pub(super) fn read(path: &Path, into: &mut Vec<u8>, at_most: usize) -> io::Result<()> {
    into.clear();
    open_regular(path)?.take(u64::try_from(at_most).unwrap_or(u64::MAX)).read_to_end(into)?;
    Ok(())
}
