//! A new file, whole or not at all, and never in the place of another.
//!
//! Written beside its place, synced, then linked there: `link` fails where anything is already, a symbolic link included.
//! The one file that makes room is the default that packages bring, as long as nobody has touched it: it is comments alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

/// What packages install as `/etc/rcptsync/rcptsync.toml`.
const PACKAGED: &[u8] = include_bytes!("../../../templates/packaged.toml");

/// Writes a file that is not there yet.
pub fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    written(path, content, mode, |_| Ok(()))
}

/// Whether a file can come there: nothing is there yet, not even a link, or the untouched default of the package.
pub fn is_free(path: &Path) -> bool {
    path.symlink_metadata().is_err() || is_packaged(path)
}

/// Writes a secret: nobody but the owner of its directory reads it.
pub fn write_secret(path: &Path, content: &[u8]) -> io::Result<()> {
    let directory = fs::metadata(directory_of(path))?;
    written(path, content, 0o600, |file| {
        let is_owner = file.metadata()?.uid() == directory.uid();
        match is_owner {
            true => Ok(()),
            false => fchown(file, Some(directory.uid()), None),
        }
    })
}

fn written(
    path: &Path,
    content: &[u8],
    mode: u32,
    prepare: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let directory = directory_of(path);
    let mut temporary_name = std::ffi::OsString::from(".");
    temporary_name.push(name);
    temporary_name.push(format!(".rcptsync-{}", std::process::id()));
    let temporary = directory.join(temporary_name);
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    let written = prepare(&file)
        .and_then(|()| fill(file, content, mode))
        .and_then(|()| link(&temporary, path));
    let removed = fs::remove_file(&temporary);
    written.and(removed)?;
    File::open(directory)?.sync_all()
}

/// Whether the file is the default of the package, in whose place a new one may come.
fn is_packaged(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| found.is_file())
        && fs::read(path).is_ok_and(|content| content == PACKAGED)
}

fn link(temporary: &Path, path: &Path) -> io::Result<()> {
    if is_packaged(path) {
        fs::remove_file(path)?;
    }
    fs::hard_link(temporary, path)
}

/// Where a file lies.
pub fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn fill(mut file: File, content: &[u8], mode: u32) -> io::Result<()> {
    file.write_all(content)?;
    // Whatever the umask says.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.sync_all()
}
