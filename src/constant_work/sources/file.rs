use super::blocking_task::BlockingTask;
use crate::constant_work::{Source, SourceError, regular_file::open_regular};
use std::{
    io::{self, Read},
    mem,
    path::Path,
    sync::Arc,
};

/// Reads a snapshot from a file, on one of tokio's threads for blocking work.
///
/// Each fetch opens the path again and follows its links. The next tick sees a file that was replaced by a rename, as
/// by a [`FileSink`](super::FileSink). It also sees an update of a mounted Kubernetes config map, whose folder is
/// swapped as a whole:
///
/// ```text
/// binaryData:                        # of the config map: `data` takes UTF-8 only
///   limits.snapshot: <base64>
///
/// /etc/limits/limits.snapshot  ->  ..data/limits.snapshot
/// /etc/limits/..data           ->  ..2026_01_31_12_00_00.123456789/     swapped by the kubelet
/// ```
///
/// There, use `FileSource::new("/etc/limits/limits.snapshot")`. Mount the whole folder: Kubernetes never updates a file
/// that is mounted with `subPath`. A config map can contain at most 1 MiB.
///
/// # Errors
///
/// [`NotFound`] if there is no file, and [`Unreachable`] for every other error of the file system, such as a missing
/// permission. Both carry the [`io::Error`]. A folder, a FIFO, a socket or a device is also [`Unreachable`], and the
/// error names the type. The source never waits for the writer of a FIFO. [`Busy`] while an earlier read is still
/// running; see below.
///
/// # Cancellation
///
/// A read cannot be stopped. If a fetch is dropped, its read continues, and every fetch fails with [`Busy`] until that
/// read ends. A disk that hangs therefore blocks one thread, for any number of ticks. Tokio waits for that thread when
/// its runtime is dropped; to exit without the wait, use `Runtime::shutdown_background`.
///
/// # Costs
///
/// One blocking task: one open, one check of the file's type, one close, and one read per block that the system
/// returns. The source keeps one buffer and swaps it with the caller's.
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
    /// Returns a source that reads the file at this path. The file need not exist yet.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self { path: path.as_ref().into(), buffer: Vec::new(), task: BlockingTask::default() }
    }

    /// Returns the path that was given.
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

/// Reads at most `at_most` bytes of the file at the path.
pub(super) fn read(path: &Path, into: &mut Vec<u8>, at_most: usize) -> io::Result<()> {
    into.clear();
    open_regular(path)?.take(u64::try_from(at_most).unwrap_or(u64::MAX)).read_to_end(into)?;
    Ok(())
}
