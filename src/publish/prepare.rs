//! Writing a table beside the live one, before anything is renamed.
//!
//! What was written is synced and proven (`prove`, and `built` for what postmap builds) before it counts. Nothing is followed
//! through a link: all files are opened relative to the table's directory, exclusively. Of a large table the formats are
//! written and proven side by side.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Instant, SystemTime};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};

use super::on_disk::open_without_link;
use super::prove::sync_and_prove;
use super::relation::{self, Transaction};
use super::{built, not_written, stream, temporary_path};
use crate::config::{Format, Table};
use crate::error::{Failure, Result};
use crate::guard::Approved;
use crate::owners;
use crate::state::head::PendingRename;
use crate::table::format::{self, RenderError, Said};
use crate::table::rows::Rows;
use crate::table::value::RowValues;

/// From so many rows on, threads share the work. Fewer are written and proven within about two milliseconds, of which threads
/// would save little, and in one order of system calls, which tells more when one of them fails.
const SHARED_ROWS_MIN: usize = 5_000;

/// Whether threads share the work of so many rows.
pub fn is_shared(rows_count: usize) -> bool {
    rows_count >= SHARED_ROWS_MIN
}

/// An artefact that lies beside the live one, synced and proven.
#[derive(Debug)]
pub struct Prepared {
    pub(super) pending: PendingRename,
    /// Where it is a file: device and inode of the one that was proven.
    pub(super) inode: Option<Inode>,
    /// Where it is a relation: what COMMIT puts in force, and what ends without it.
    pub(super) transaction: Option<Transaction>,
}

/// Device and inode of a file.
pub(super) type Inode = (u64, u64);

/// A file that is what it shall be.
pub(super) struct Proven {
    /// Its digest.
    pub(super) digest: String,
    /// Which one it is.
    pub(super) inode: Inode,
}

impl Proven {
    /// What was proven of an open file.
    pub(super) fn of(file: &File, digest: String) -> io::Result<Proven> {
        let metadata = file.metadata()?;
        let inode = (metadata.dev(), metadata.ino());
        Ok(Proven { digest, inode })
    }
}

impl Prepared {
    /// What remains to be done, as head.json says it.
    pub fn pending(&self) -> &PendingRename {
        &self.pending
    }
}

/// Writes and proves some formats of a table, and gives them in their order. If one fails, none is left there.
pub fn prepare(
    table: &Table,
    formats: &[Format],
    approved: &Approved,
    deadline: Instant,
) -> Result<Vec<Prepared>> {
    let rows = approved.rows();
    let of_format = |format: &Format| prepare_rows(table, *format, rows, &table.values, deadline);
    let prepared: Result<Vec<Prepared>> = if !is_shared(rows.len()) {
        formats.iter().map(of_format).collect()
    } else {
        thread::scope(|scope| {
            let started: Vec<_> = formats
                .iter()
                .map(|format| {
                    let builder = thread::Builder::new();
                    let started = builder.spawn_scoped(scope, move || of_format(format));
                    started.map_err(|error| not_prepared(&table.file(*format), error))
                })
                .collect();
            let joined = started.into_iter().map(|started| {
                started
                    .and_then(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
            });
            joined.collect::<Vec<_>>().into_iter().collect()
        })
    };
    let temporary = formats
        .iter()
        .filter(|format| format.is_file())
        .map(|format| temporary_path(&table.file(*format)));
    match &prepared {
        Ok(prepared) => {
            let inodes = prepared.iter().filter_map(|prepared| prepared.inode);
            let files: Vec<(PathBuf, Inode)> = temporary.zip(inodes).collect();
            if let Err(error) = give_one_time(&files) {
                tracing::debug!("{}: {error}", table.name);
            }
        }
        Err(_) => {
            for path in temporary {
                // Half a table must not fill the disk any longer.
                let _ = std::fs::remove_file(path);
            }
        }
    }
    prepared
}

/// Postfix calls an index outdated whose text is younger (`dict_cdb.c`, `dict_db.c`, `dict_lmdb.c`), and of files that are
/// written side by side the text may be done last. So all of them get the time of the oldest.
fn give_one_time(files: &[(PathBuf, Inode)]) -> io::Result<()> {
    let open = |(path, inode): &(PathBuf, Inode)| {
        let file = open_without_link(path)?;
        let metadata = file.metadata()?;
        // Somebody else's would get that time, by a hard link to it.
        match (metadata.dev(), metadata.ino()) == *inode {
            true => Ok(file),
            false => Err(io::Error::other(ANOTHER_FILE)),
        }
    };
    let files = files.iter().map(open).collect::<io::Result<Vec<File>>>()?;
    let times: io::Result<Vec<SystemTime>> = files
        .iter()
        .map(|file| file.metadata().and_then(|metadata| metadata.modified()))
        .collect();
    if let Some(oldest) = times?.into_iter().min() {
        for file in &files {
            file.set_modified(oldest)?;
        }
    }
    Ok(())
}

pub(super) fn prepare_rows(
    table: &Table,
    format: Format,
    rows: &Rows,
    values: &RowValues,
    deadline: Instant,
) -> Result<Prepared> {
    let path = table.file(format);
    let said = table.said(format, rows);
    let lacks_values = values.all().iter().any(String::is_empty);
    if lacks_values && let Some((key, _)) = said.lines(values).find(|(_, value)| value.is_empty()) {
        return Err(without_value(&path, key));
    }
    let pending = |digest| PendingRename {
        table: table.name.clone(),
        format,
        path: path.display().to_string(),
        digest,
        made_with: table.made_with(format).to_owned(),
    };
    if let Some(relation) = table.relation.as_ref().filter(|_| !format.is_file()) {
        let (transaction, digest) = relation::prepare(relation, &said, values, deadline)?;
        return Ok(Prepared {
            pending: pending(digest),
            inode: None,
            transaction: Some(transaction),
        });
    }
    let temporary = temporary_path(&path);
    let made = match format.map_type() {
        None => write(table, &said, values),
        Some(map_type) => built::build(table, map_type, &said, values, deadline),
    };
    let proven = made.inspect_err(|_| {
        // A half-written file must not fill the disk any longer.
        let _ = std::fs::remove_file(&temporary);
    })?;
    Ok(Prepared {
        pending: pending(proven.digest),
        inode: Some(proven.inode),
        transaction: None,
    })
}

/// Writes and proves one file.
fn write(table: &Table, said: &Said<'_>, values: &RowValues) -> Result<Proven> {
    let path = table.file(said.format());
    let temporary = temporary_path(&path);
    let is_shared = is_shared(said.rows_count());
    let file = create(&path, &temporary, table.mode).map_err(|error| not_prepared(&path, error))?;
    let seal = stream::write(&file, is_shared, |out| format::render(said, values, out))
        .map_err(|error| not_rendered(&path, error))?;
    sync_and_prove(&file, &temporary, said, values, &seal, is_shared)
        .map_err(|disproof| not_prepared(&path, disproof))?;
    Proven::of(&file, seal.digest).map_err(|error| not_prepared(&path, error))
}

/// An empty value crashes smtpd 3.7, and postmap drops its line. Rows of others in a table of transports have none of ours.
fn without_value(path: &Path, key: &[u8]) -> Box<Failure> {
    let key = crate::harmless::key(key);
    not_written(
        "a table could not be written",
        path,
        format!(
            "the configuration has no value for the row {key}, which somebody else wrote and which waits"
        ),
        "keep such rows in a table of their own, named beside this one in main.cf, then approve the hold (`rcptsync status`)",
    )
}

/// Somebody who may write in the directory of a table has been quick.
pub(super) const ANOTHER_FILE: &str =
    "somebody else has put another file in the place of the one that was proven";

fn not_prepared(path: &Path, why: impl ToString) -> Box<Failure> {
    let next = "mend the directory of the table (it must exist, with space, and belong to this account), then run again";
    not_written("a table could not be written", path, why, next)
}

fn not_rendered(path: &Path, error: RenderError) -> Box<Failure> {
    match error {
        RenderError::NotWritten(error) => not_prepared(path, error),
        RenderError::Template(_) => not_written(
            "a table could not be written",
            path,
            error,
            "mend the template that [table.NAME] template names, then run again",
        ),
        RenderError::TooLarge => not_written(
            "a table could not be written",
            path,
            error,
            "publish text, or split the domains over several tables",
        ),
    }
}

/// Makes an empty file for a table, that of a dead run being removed.
fn create(path: &Path, temporary: &Path, mode: u32) -> io::Result<File> {
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
    let file = File::from(file);
    keep_owner(&file, &directory, path);
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
    Ok(file)
}

/// Opens the directory of a table to make files there, so that what is done there is done in one and the same directory. The
/// administrator may have linked the directory; the files in it are never followed through a link.
pub(super) fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let directory = owners::open_directory(path)?;
    let mode = rustix::fs::fstat(&directory)?.st_mode;
    // With the sticky bit, what we make there nobody else can replace.
    if mode & 0o1002 == 0o002 {
        let why = format!(
            "every account may replace what lies in {0}; `chmod o-w {0}` mends that",
            path.display()
        );
        return Err(io::Error::other(why));
    }
    Ok(directory)
}

/// The new table belongs to whom the old one belonged, as far as this account may say so. Where others may make files, whoever
/// has made the old one must not get the new one.
pub(super) fn keep_owner(file: &File, directory: &OwnedFd, live: &Path) {
    let (Ok(new), Ok(old)) = (file.metadata(), live.symlink_metadata()) else {
        return;
    };
    let is_open = rustix::fs::fstat(directory).map_or(true, |found| found.st_mode & 0o022 != 0);
    if !old.is_file() || (is_open && !owners::trusted().contains(&old.uid())) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn no_text_is_younger_than_its_index() {
        let directory = tempfile::tempdir().expect("a directory");
        let now = SystemTime::now();
        let paths = [(0, "index"), (5, "text"), (3, "other")].map(|(seconds, name)| {
            let path = directory.path().join(name);
            let file = File::create(&path).expect("a file");
            file.set_modified(now + Duration::from_secs(seconds))
                .expect("a time");
            let proven = Proven::of(&file, String::new()).expect("it is there");
            (path, proven.inode)
        });
        give_one_time(&paths).expect("our own files");
        for (path, _) in &paths {
            let metadata = path.metadata().expect("it is there");
            assert_eq!(metadata.modified().expect("a time"), now, "{path:?}");
        }
        give_one_time(&[]).expect("nothing to do");
        let [(path, _), (_, of_another), _] = &paths;
        assert!(give_one_time(&[(path.clone(), *of_another)]).is_err());
    }
}
