//! Writing a table beside the live one and proving it, before anything is renamed.
//!
//! What was meant is checked again on what the disk gives back: the digest of the bytes, and every row through a reader
//! that is not the writer (for a CDB the `cdb` crate, for a text the rules of postmap). Nothing is followed through a
//! link: all files are opened relative to the table's directory, exclusively.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};

use super::on_disk::read_without_link;
use super::{not_written, temporary_path};
use crate::config::{Format, Table};
use crate::error::Result;
use crate::fold::Folding;
use crate::guard::Approved;
use crate::state::digest;
use crate::state::head::PendingRename;
use crate::table::format::{self, Said};
use crate::table::rows::Rows;

/// An artefact that lies beside the live one, synced and proven.
#[derive(Debug)]
pub struct Prepared {
    pub(super) pending: PendingRename,
}

impl Prepared {
    /// What remains to be done, as head.json says it.
    pub fn pending(&self) -> &PendingRename {
        &self.pending
    }
}

/// Writes and proves one format of a table.
pub fn prepare(table: &Table, format: Format, approved: &Approved) -> Result<Prepared> {
    prepare_rows(table, format, approved.rows(), &table.value)
}

pub(super) fn prepare_rows(
    table: &Table,
    format: Format,
    rows: &Rows,
    value: &str,
) -> Result<Prepared> {
    let path = table.file(format);
    let failed = |why: String| {
        let next = "mend the directory of the table (it must exist, with space, and belong to this account), then run again";
        not_written("a table could not be written", &path, why, next)
    };
    let said = Said::of(format, rows);
    let bytes = format::render(&said, value).map_err(|error| {
        not_written(
            "a table could not be written",
            &path,
            error,
            "publish text, or split the domains over several tables",
        )
    })?;
    let temporary = temporary_path(&path);
    let written =
        write(&path, &temporary, table.mode, &bytes).map_err(|error| failed(error.to_string()));
    let proven = written.and_then(|()| prove(&said, &temporary, &bytes, value).map_err(failed));
    if let Err(failure) = proven {
        // A half-written file must not fill the disk any longer.
        let _ = std::fs::remove_file(&temporary);
        return Err(failure);
    }
    Ok(Prepared {
        pending: PendingRename {
            table: table.name.clone(),
            format,
            path: path.display().to_string(),
            digest: digest(&bytes),
        },
    })
}

fn write(path: &Path, temporary: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), temporary.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let directory = open_directory(parent)?;
    match rustix::fs::unlinkat(&directory, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&directory, name, flags, Mode::RUSR | Mode::WUSR)?;
    let mut file = File::from(file);
    keep_owner(&file, path);
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Opens the directory of a table, so that what is done there is done in one and the same directory. The administrator may
/// have linked the directory; the files in it are never followed through a link.
pub(super) fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// The new table belongs to whom the old one belonged, as far as this account may say so.
fn keep_owner(file: &File, live: &Path) {
    let (Ok(new), Ok(old)) = (file.metadata(), live.symlink_metadata()) else {
        return;
    };
    if !old.is_file() {
        return;
    }
    let owner = (old.uid() != new.uid()).then(|| Uid::from_raw(old.uid()));
    let group = (old.gid() != new.gid()).then(|| Gid::from_raw(old.gid()));
    for (owner, group) in [(None, group), (owner, None)] {
        if (owner.is_some() || group.is_some())
            && let Err(error) = rustix::fs::fchown(file, owner, group)
        {
            tracing::debug!(
                "{}: the owner of the old table could not be kept: {error}",
                live.display()
            );
        }
    }
}

/// Reads back what was written and compares it with what was meant.
fn prove(
    said: &Said<'_>,
    temporary: &Path,
    bytes: &[u8],
    value: &str,
) -> std::result::Result<(), String> {
    let found = read_without_link(temporary)
        .map_err(|error| format!("it could not be read back: {error}"))?;
    if found != bytes {
        return Err("what was read back is not what was written".into());
    }
    match said.format() {
        Format::Text => prove_text(&found, said.rows(), value),
        Format::Cdb => prove_cdb(temporary, said.rows(), value),
    }
}

fn prove_text(bytes: &[u8], rows: &Rows, value: &str) -> std::result::Result<(), String> {
    // Rows are folded already, so folding them again as ASCII changes nothing and hides nothing.
    let found =
        format::read(Format::Text, bytes, Folding::Ascii).map_err(|error| error.to_string())?;
    let is_equal = found.iter().map(|(key, _)| key.as_slice()).eq(rows.keys())
        && found.iter().all(|(_, found)| found == value.as_bytes());
    if is_equal {
        Ok(())
    } else {
        Err("read as postmap reads it, the text has other rows than were meant".into())
    }
}

fn prove_cdb(path: &Path, rows: &Rows, value: &str) -> std::result::Result<(), String> {
    // The reader takes a database without records for a broken one; its 2048 octets were compared already.
    if rows.is_empty() {
        return Ok(());
    }
    let path: PathBuf = path.to_owned();
    // The reader may panic on a file that is not what was written; that must stop the publication, not the program.
    let proof = std::panic::AssertUnwindSafe(|| -> std::result::Result<(), String> {
        let database = ::cdb::CDB::open(&path)
            .map_err(|error| format!("it does not open as a CDB: {error}"))?;
        for key in rows.keys() {
            let mut values = database.find(key);
            let found = values
                .next()
                .transpose()
                .map_err(|error| error.to_string())?;
            if found.as_deref() != Some(value.as_bytes()) || values.next().is_some() {
                return Err(format!(
                    "{:?} is not found in it exactly once",
                    String::from_utf8_lossy(key)
                ));
            }
        }
        let count = database.iter().count();
        if count == rows.len() {
            Ok(())
        } else {
            Err(format!("it has {count} records instead of {}", rows.len()))
        }
    });
    std::panic::catch_unwind(proof).unwrap_or_else(|_| Err("the CDB reader failed on it".into()))
}
