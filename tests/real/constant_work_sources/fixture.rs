//! A folder, a read, and the bytes of a publication, every part of which differs from those of any other.

use std::{
    env,
    error::Error,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};
use steadfast::constant_work::{Sink, Source, SourceError, SourceFailure};

pub fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A folder of one test, which is removed with its contents.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NUMBERS: AtomicU32 = AtomicU32::new(0);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("constant-work-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).expect("a temporary directory can be made");
        Self(folder)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Returns the sorted names of its contents.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("a folder that is there");
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn run(program: &str, arguments: &[&str], path: &Path) {
    let status = Command::new(program).args(arguments).arg(path).status();
    assert!(status.is_ok_and(|status| status.success()), "{program} {arguments:?} {}", path.display());
}

pub async fn fetch(source: &mut impl Source, at_most: usize) -> Result<Vec<u8>, SourceError> {
    let mut bytes = b"of an earlier tick".to_vec();
    source.fetch(&mut bytes, at_most).await.map(|()| bytes)
}

pub async fn published(sink: &mut impl Sink) -> Result<Option<Vec<u8>>, SourceError> {
    let mut bytes = b"of an earlier tick".to_vec();
    Ok(sink.published(&mut bytes, LENGTH + 1).await?.then_some(bytes))
}

/// Returns the failure, if there is one.
pub fn failure<T>(result: Result<T, SourceError>) -> Option<SourceFailure> {
    result.err().map(|error| error.failure())
}

/// Returns the kind of the [`io::Error`] that caused it.
pub fn io_kind(error: &SourceError) -> Option<io::ErrorKind> {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error.kind());
        }
        cause = error.source();
    }
    None
}

/// The bytes of a publication.
pub const LENGTH: usize = 256 << 10;

pub fn publication(number: u32) -> Vec<u8> {
    number.to_le_bytes().repeat(LENGTH / 4)
}

/// Returns the number of a publication that is whole.
pub fn number(bytes: &[u8]) -> u32 {
    let number = u32::from_le_bytes(bytes[..4].try_into().expect("four bytes"));
    assert!(bytes == publication(number), "torn: {} bytes of {number}", bytes.len());
    number
}
