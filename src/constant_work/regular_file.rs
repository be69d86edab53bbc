use std::{
    fs::{self, File, FileType, OpenOptions},
    io,
    path::Path,
};

/// Opens what the path leads to for reading, if it is a regular file.
///
/// To open a FIFO waits for a writer, and to read a device may wait for ever. So nothing waits here, and whatever is no
/// regular file is refused. The type is that of what was opened: the path may lead elsewhere by now.
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
        // A socket cannot be opened at all, and a device may be without a driver.
        Err(error) => Err(fs::metadata(path).ok().and_then(|found| refusal(path, found.file_type())).unwrap_or(error)),
    }
}

/// Why nothing is read from what is there: it is of this type.
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
