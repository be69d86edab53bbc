use std::{
    fs::{self, File, FileType, OpenOptions},
    io,
    path::Path,
};

/// Opens the file at this path for reading, if it is a regular file.
///
/// Opening a FIFO waits for a writer, and reading a device may block forever. The open is therefore non-blocking, and
/// files of all other types are refused. The function checks the type of the opened file, since by then another file
/// may be at the path.
pub(super) fn open_regular(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK | libc::O_NOCTTY);
    match options.open(path) {
        Ok(file) => match refusal(path, file.metadata()?.file_type()) {
            Some(refusal) => Err(refusal),
            None => Ok(file),
        },
        // A socket cannot be opened, and a device may lack a driver. Then the type is that of the file at the path.
        Err(error) => Err(fs::metadata(path).ok().and_then(|found| refusal(path, found.file_type())).unwrap_or(error)),
    }
}

/// Returns the error for a file that is not a regular file, or `None` for a regular file.
fn refusal(path: &Path, found: FileType) -> Option<io::Error> {
    let (kind, what) = match what(found) {
        "a regular file" => return None,
        what @ "a folder" => (io::ErrorKind::IsADirectory, what),
        what => (io::ErrorKind::InvalidInput, what),
    };
    Some(io::Error::new(kind, format!("{} is {what}: it must be a regular file", path.display())))
}

fn what(found: FileType) -> &'static str {
    if found.is_file() {
        return "a regular file";
    }
    if found.is_dir() {
        return "a folder";
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if found.is_fifo() {
            return "a FIFO";
        }
        if found.is_socket() {
            return "a socket";
        }
        if found.is_char_device() || found.is_block_device() {
            return "a device";
        }
    }
    "of another type"
}
