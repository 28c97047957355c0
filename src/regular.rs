//! Reading a file that somebody else could have put there: a regular one, of no more than so many octets.
//!
//! A pipe in its place would be waited for, a device never ends, and a file of holes takes all memory. Not here: who may
//! put another file in its place (`owners`), and files of sources, which must have stood still (`source::file`).
//!
//! Invariant: what is read was a regular file, and no more is held of it than was allowed.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// More than any configuration, template, list of authorities or chain of certificates has.
pub const SMALL_OCTETS_MAX: u64 = 16 << 20;

/// Opens a regular file, through links.
pub fn open(path: &Path) -> io::Result<File> {
    open_with(path, OFlags::empty())
}

/// Opens a regular file that is no link itself.
pub fn open_itself(path: &Path) -> io::Result<File> {
    open_with(path, OFlags::NOFOLLOW)
}

/// The octets of a regular file, through links.
pub fn read(path: &Path, octets_max: u64) -> io::Result<Vec<u8>> {
    read_all(&open(path)?, octets_max)
}

/// The octets of a regular file that is no link itself.
pub fn read_itself(path: &Path, octets_max: u64) -> io::Result<Vec<u8>> {
    read_all(&open_itself(path)?, octets_max)
}

/// The octets of a regular file that is open.
pub fn read_all(file: &File, octets_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let is_too_long = file.metadata()?.len() > octets_max
        || file.take(octets_max + 1).read_to_end(&mut bytes)? as u64 > octets_max;
    if is_too_long {
        let why = format!("it is longer than the {octets_max} octets that such a file may have");
        return Err(io::Error::other(why));
    }
    Ok(bytes)
}

/// A file, if it is regular.
pub fn regular(file: File) -> io::Result<File> {
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(not_regular()),
    }
}

fn open_with(path: &Path, flags: OFlags) -> io::Result<File> {
    // Opening a device may do something, so it is not tried.
    let metadata = match flags.contains(OFlags::NOFOLLOW) {
        true => path.symlink_metadata()?,
        false => path.metadata()?,
    };
    if !metadata.is_file() {
        return Err(not_regular());
    }
    // It may be another by now, and without O_NONBLOCK a pipe would be waited for.
    let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    regular(file)
}

fn not_regular() -> io::Error {
    io::Error::other("it is not a regular file")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, octets_max: u64, expected: &str) {
        let read = read(Path::new(path), octets_max).map_err(|error| error.to_string());
        assert!(
            matches!(&read, Err(why) if why.contains(expected)),
            "{path}: {read:?}"
        );
    }

    #[test]
    fn what_is_no_file_of_that_length_is_refused() {
        check("/dev/zero", 10, "not a regular file");
        check("/dev", 10, "not a regular file");
        check("/proc/self/status", 10, "longer than the 10 octets");
        check("/nonexistent", 10, "No such file");
        let file = tempfile::NamedTempFile::new().expect("a file");
        file.as_file().set_len(11).expect("a hole");
        check(
            &file.path().display().to_string(),
            10,
            "longer than the 10 octets",
        );
        assert_eq!(read(file.path(), 11).expect("no longer"), [0; 11]);
        let link = tempfile::tempdir().expect("a directory");
        let link = link.path().join("link");
        std::os::unix::fs::symlink(file.path(), &link).expect("a link");
        assert!(read(&link, 11).is_ok() && read_itself(&link, 11).is_err());
    }
}
