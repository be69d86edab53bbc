use super::{blocking_task::BlockingTask, file::read};
use crate::{
    constant_work::{Sink, SourceError},
    error::ConfigError,
    random::Random,
};
use rand::RngExt;
use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    mem,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// Writes a snapshot to a file.
///
/// A publication writes a temporary file in the same folder (`.<name>.<16 hexadecimal digits>.tmp`), syncs it to disk,
/// and renames it over the file. On Unix it then syncs the folder. A reader that opens the file sees the old bytes or
/// the new ones, as a whole. This holds also after a crash of the process or the machine. It requires a file system
/// with an atomic rename, as POSIX demands.
///
/// - An existing regular file keeps its permissions; a new file gets `0666` less the umask. The owner is the user of
///   the publisher.
/// - A symbolic link at the path is replaced, not followed. The folder must exist.
/// - A killed publisher leaves its temporary file behind. The next publisher tries to remove such files in each
///   publication, up to and including its first success. It removes temporary files for the same target that are more
///   than a minute older than the one that it has just created. On a very slow disk, such a file may belong to a
///   running publisher. The publication of that publisher then fails, and the published snapshot stays whole.
///
/// # Errors
///
/// [`NotFound`] if there is no folder, or if another publisher has removed the temporary file. [`Unreachable`] for all
/// other errors of the file system, such as a missing permission or a full disk. Both carry the [`io::Error`]. [`Busy`]
/// while an earlier operation is still running; see below. After an error, the sink removes its temporary file. After
/// an error of the last step, the sync of the folder, the file contains the new bytes nevertheless.
///
/// # Cancellation
///
/// If a publication is dropped, its thread still completes it. Until then calls fail with [`Busy`].
/// [`FileSource`](super::FileSource) describes the effect on the end of a runtime.
///
/// # Costs
///
/// A publication costs one copy of the bytes, two syncs to disk on Unix (usually some milliseconds each), and one
/// blocking task.
///
/// [`NotFound`]: crate::constant_work::SourceFailure::NotFound
/// [`Unreachable`]: crate::constant_work::SourceFailure::Unreachable
/// [`Busy`]: crate::constant_work::SourceFailure::Busy
pub struct FileSink {
    place: Arc<Place>,
    random: Random,
    /// The buffer of the next call.
    buffer: Vec<u8>,
    /// Whether a publication of this sink has succeeded. Until then, each publication tries to remove the temporary
    /// files of killed publishers.
    is_clean: bool,
    task: BlockingTask<(Vec<u8>, io::Result<()>)>,
}

/// The place of the file.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    folder: PathBuf,
    name: OsString,
}

/// A temporary file counts as left behind by a killed publisher if it is older than a new one by more than this.
const LEFT_BEHIND: Duration = Duration::from_secs(60);

/// The hexadecimal digits in the name of a temporary file.
const DIGITS: usize = 16;

impl FileSink {
    /// Returns a sink that writes to the file at this path. The file need not exist yet.
    ///
    /// # Errors
    ///
    /// The path has no file name, such as `/` or `..`.
    pub fn new(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else {
            return Err(ConfigError::new("constant_work.file_sink.path", path, "must end in the name of a file"));
        };
        // The parent of a bare file name is empty.
        let folder = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let place = Place { path: path.to_owned(), folder: folder.to_owned(), name: name.to_owned() };
        let (place, random) = (Arc::new(place), Random::new());
        Ok(Self { place, random, buffer: Vec::new(), is_clean: false, task: BlockingTask::default() })
    }

    /// Returns the path that was given.
    pub fn path(&self) -> &Path {
        &self.place.path
    }

    /// Copies `fill` into the buffer and runs the work with it, on a thread for blocking work. Takes the buffer back
    /// and returns the result of the work.
    async fn on_a_thread(
        &mut self,
        fill: &[u8],
        work: impl FnOnce(&Place, &mut Vec<u8>) -> io::Result<()> + Send + 'static,
    ) -> Result<io::Result<()>, SourceError> {
        if let Some((buffer, _)) = self.task.left_behind().await? {
            self.buffer = buffer;
        }
        let (place, mut buffer) = (self.place.clone(), mem::take(&mut self.buffer));
        buffer.clear();
        buffer.extend_from_slice(fill);
        let work = move || {
            let ended = work(&place, &mut buffer);
            (buffer, ended)
        };
        let (buffer, ended) = self.task.run(work).await?;
        self.buffer = buffer;
        Ok(ended)
    }
}

impl Sink for FileSink {
    async fn published(&mut self, into: &mut Vec<u8>, at_most: usize) -> Result<bool, SourceError> {
        into.clear();
        match self.on_a_thread(&[], move |place, buffer| read(&place.path, buffer, at_most)).await? {
            Ok(()) => {
                mem::swap(into, &mut self.buffer);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn publish(&mut self, snapshot: &[u8]) -> Result<(), SourceError> {
        let (number, cleans) = (self.random.with(|random| random.random::<u64>()), !self.is_clean);
        let work = move |place: &Place, buffer: &mut Vec<u8>| {
            let temporary = place.folder.join(place.temporary(number));
            let file = OpenOptions::new().write(true).create_new(true).open(&temporary)?;
            if cleans {
                // A process without permission to list the folder may still publish.
                let _ = clean(place, &file);
            }
            let replaced = replace(place, &temporary, file, buffer);
            if replaced.is_err() {
                // If the sync of the folder failed, the file was already renamed, and there is nothing to remove.
                let _ = fs::remove_file(&temporary);
            }
            replaced
        };
        let ended = self.on_a_thread(snapshot, work).await?;
        ended?;
        self.is_clean = true;
        Ok(())
    }
}

impl Place {
    fn temporary(&self, number: u64) -> OsString {
        let mut name = OsString::from(".");
        name.push(&self.name);
        name.push(format!(".{number:0width$x}.tmp", width = DIGITS));
        name
    }

    /// Returns whether a file of this name is a temporary file for this sink's target, created by any publisher.
    fn is_temporary(&self, name: &Path) -> bool {
        let (name, own) = (name.as_os_str().as_encoded_bytes(), self.name.as_encoded_bytes());
        let rest = name.strip_prefix(b".").and_then(|rest| rest.strip_prefix(own)?.strip_prefix(b"."));
        let digits = rest.and_then(|rest| rest.strip_suffix(b".tmp"));
        digits.is_some_and(|digits| digits.len() == DIGITS && digits.iter().all(u8::is_ascii_hexdigit))
    }
}

/// Replaces the file with these bytes, by renaming a temporary file that was just created.
fn replace(place: &Place, temporary: &Path, mut file: File, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    match fs::symlink_metadata(&place.path) {
        Ok(old) if old.is_file() => file.set_permissions(old.permissions())?,
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    file.sync_all()?;
    drop(file);
    fs::rename(temporary, &place.path)?;
    // On other systems a folder cannot be opened.
    #[cfg(unix)]
    File::open(&place.folder)?.sync_all()?;
    Ok(())
}

/// Removes the temporary files of killed publishers. Compares the modification times of the files, so only the clock of
/// the file system counts.
fn clean(place: &Place, own: &File) -> io::Result<()> {
    let now = own.metadata()?.modified()?;
    for entry in fs::read_dir(&place.folder)?.flatten() {
        if !place.is_temporary(Path::new(&entry.file_name())) {
            continue;
        }
        let written = entry.metadata().and_then(|metadata| metadata.modified());
        if written.is_ok_and(|written| now.duration_since(written).is_ok_and(|age| age > LEFT_BEHIND)) {
            // Another publisher may remove it at the same time.
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}
