//! The file that node_exporter's textfile collector reads, written so that a scrape sees the old one or the new one.
//!
//! Like a table, it is written beside the live file under a name that the collector does not read, and renamed; no link is
//! followed. Unlike a table, it is for everybody to read and holds nothing that cannot be lost.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::owners;

const MODE: Mode = Mode::from_raw_mode(0o644);

/// Why there are no new metrics; the old ones stay.
#[derive(Debug, thiserror::Error)]
pub enum TextfileError {
    /// The system would not.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Something at the path that was not put there by a run.
    #[error("it is not a regular file, and rcptsync neither follows nor replaces such a thing")]
    NotAFile,
    /// Whoever may write there could silence every alert.
    #[error("every account may write to its directory; `chmod o-w` it")]
    OpenDirectory,
}

impl From<Errno> for TextfileError {
    fn from(error: Errno) -> Self {
        TextfileError::Io(error.into())
    }
}

/// Replaces the file at `path` with this text.
pub fn write(path: &Path, text: &str) -> Result<(), TextfileError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput).into());
    };
    let directory = owners::open_directory(parent)?;
    let stat = rustix::fs::fstat(&directory)?;
    if Mode::from_raw_mode(stat.st_mode).contains(Mode::WOTH) {
        return Err(TextfileError::OpenDirectory);
    }
    match rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if !is_file(&stat) => return Err(TextfileError::NotAFile),
        Ok(_) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    // A name of its own, so that nothing can pile up, and not one that ends with .prom.
    let temporary = format!(".{}.rcptsync-new", name.to_string_lossy());
    let written = write_new(&directory, &temporary, text).and_then(|()| {
        Ok(rustix::fs::renameat(
            &directory, &temporary, &directory, name,
        )?)
    });
    if written.is_err() {
        let _ = rustix::fs::unlinkat(&directory, &temporary, AtFlags::empty());
    }
    written
}

fn write_new(directory: &OwnedFd, name: &str, text: &str) -> Result<(), TextfileError> {
    // What a dead run left.
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(directory, name, flags, MODE)?);
    file.write_all(text.as_bytes())?;
    // Whatever the umask of the timer.
    rustix::fs::fchmod(&file, MODE)?;
    // A power cut must not leave an empty file, which reads as if nothing were wrong.
    Ok(file.sync_all()?)
}

fn is_file(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}
