//! A new file, whole or not at all, and never in the place of another.
//!
//! Written beside its place, synced, then linked there: `link` fails where anything is already, a symbolic link included.
//! The one file that makes room is the default that packages bring, as long as nobody has touched it: it is comments alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// What packages install as `/etc/rcptsync/rcptsync.toml`.
const PACKAGED: &[u8] = include_bytes!("../../../templates/packaged.toml");

/// Writes a file that is not there yet.
pub fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut temporary_name = std::ffi::OsString::from(".");
    temporary_name.push(name);
    temporary_name.push(format!(".rcptsync-{}", std::process::id()));
    let temporary = directory.join(temporary_name);
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    let written = fill(file, content, mode).and_then(|()| link(&temporary, path));
    let removed = fs::remove_file(&temporary);
    written.and(removed)?;
    File::open(directory)?.sync_all()
}

/// Whether the file is the default of the package, in whose place a new one may come.
pub fn is_packaged(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| found.is_file())
        && fs::read(path).is_ok_and(|content| content == PACKAGED)
}

fn link(temporary: &Path, path: &Path) -> io::Result<()> {
    if is_packaged(path) {
        fs::remove_file(path)?;
    }
    fs::hard_link(temporary, path)
}

fn fill(mut file: File, content: &[u8], mode: u32) -> io::Result<()> {
    file.write_all(content)?;
    // Whatever the umask says.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.sync_all()
}
