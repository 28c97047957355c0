//! Renaming what was prepared, or committing it, and finishing what a dead run had decided.
//!
//! Recovery only goes forward: head.json names the renames before the first happens, so after a crash each is found done
//! (the live file has the digest), or is done now (the temporary file has it), or is written anew from the ledger. A file
//! that somebody wrote meanwhile is not overwritten: it is judged as foreign, like any other.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::on_disk::{digest_without_link, open_without_link, stamp};
use super::prepare::{ANOTHER_FILE, Inode, Prepared, open_directory, prepare_rows};
use super::{built, not_written, relation, temporary_path};
use crate::config::{Relation, Table};
use crate::error::{Failure, Result};
use crate::state::State;
use crate::state::head::{Artefact, Head, PendingRename, Stamp};

/// Puts one decided artefact in force: renames the file, or commits the transaction.
pub fn put_in_force(prepared: Prepared, head: &Head) -> Result<Artefact> {
    let pending = prepared.pending;
    match prepared.transaction {
        None => rename(&pending, prepared.inode, head),
        Some(transaction) => Ok(Artefact {
            stamp: transaction.commit(&pending.path)?,
            format: pending.format,
            path: pending.path,
            digest: pending.digest,
            made_with: pending.made_with,
        }),
    }
}

/// Renames one decided artefact onto its live path and syncs the directory. `inode` is that of the file that was proven, where
/// this very run has proven it.
fn rename(pending: &PendingRename, inode: Option<Inode>, head: &Head) -> Result<Artefact> {
    let path = Path::new(&pending.path);
    let renamed = || -> io::Result<Artefact> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let temporary = temporary_path(path);
        let directory = open_directory(parent)?;
        let temporary_name = temporary.file_name().unwrap_or_default();
        let replaced = open_without_link(path).ok();
        rustix::fs::renameat(&directory, temporary_name, &directory, name)?;
        if let Some(replaced) = replaced
            && let Err(error) = give_notice(&replaced, pending, head)
        {
            tracing::warn!(
                "{}: the file that was replaced has another name, and a running smtpd is not told: {error}",
                path.display()
            );
        }
        rustix::fs::fsync(&directory)?;
        let stamp = stamp(&path.symlink_metadata()?);
        if inode.is_some_and(|inode| inode != stamp.inode) {
            // Nothing is recorded, so the next run judges it as foreign.
            return Err(io::Error::other(ANOTHER_FILE));
        }
        Ok(Artefact {
            format: pending.format,
            path: pending.path.clone(),
            digest: pending.digest.clone(),
            stamp,
            made_with: pending.made_with.clone(),
        })
    };
    renamed().map_err(|error| not_replaced(path, error))
}

fn not_replaced(path: &Path, error: io::Error) -> Box<Failure> {
    let next = "mend the directory of the table; the next run finishes what was decided";
    let mut failure = not_written("a table could not be replaced", path, error, next);
    failure.in_force =
        "this file stays as it was; the ones before it are replaced, and no hook was run".into();
    failure
}

/// Makes a rename last that was done.
fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = open_directory(path.parent().unwrap_or(Path::new("/")))?;
    Ok(rustix::fs::fsync(&directory)?)
}

/// A running smtpd sees that its table was replaced by the file it has open having no name any more. Where that has another
/// one (a backup made of hard links; NFS, which keeps what is open under a name of its own), smtpd sees it by another time
/// (`dict_changed_name`, `src/util/dict.c`); of LMDB it does not look at that. A file that was not published there may be anybody's,
/// and keeps its time.
fn give_notice(replaced: &File, pending: &PendingRename, head: &Head) -> io::Result<()> {
    let metadata = replaced.metadata()?;
    let inode = (metadata.dev(), metadata.ino());
    let mut known = head.tables.get(&pending.table).into_iter();
    let is_published = known.any(|known| {
        let mut artefacts = known.artefacts.iter();
        artefacts.any(|known| known.path == pending.path && known.stamp.inode == inode)
    });
    if is_published && metadata.nlink() > 0 {
        // smtpd compares whole seconds.
        replaced.set_modified(metadata.modified()? + Duration::from_secs(1))?;
    }
    Ok(())
}

/// Moves a file from the private directory it was made in to where it waits for its rename.
pub(super) fn set_beside(
    from: &OwnedFd,
    name: &OsStr,
    directory: &OwnedFd,
    temporary_name: &OsStr,
) -> io::Result<()> {
    Ok(rustix::fs::renameat(from, name, directory, temporary_name)?)
}

/// Finishes the renames that a dead run had decided and clears them from `head`. Gives how many there were. What was decided of
/// a relation that cannot be reached stays decided: the files of other tables do not wait for a database.
pub fn recover(
    state: &State,
    head: &mut Head,
    tables: &[Table],
    deadline: Instant,
) -> Result<usize> {
    let decided = std::mem::take(&mut head.pending);
    let mut waiting = Vec::new();
    for pending in &decided {
        let is_meant = |table: &&Table| {
            table.name == pending.table
                && table.formats.contains(&pending.format)
                && table.file(pending.format) == Path::new(&pending.path)
        };
        let artefact = match tables.iter().find(is_meant) {
            Some(table) => match finish(state, head, table, pending, deadline) {
                Err(failure) if !pending.format.is_file() => {
                    tell_of_waiting(&failure);
                    waiting.push(pending.clone());
                    continue;
                }
                finished => finished?,
            },
            None => {
                tracing::warn!(
                    "{}: decided by a run that died, and not in the configuration any more; it stays as it is",
                    pending.path
                );
                if pending.format.is_file() {
                    remove_leftover(Path::new(&pending.path));
                }
                None
            }
        };
        // What could not be finished is not what head.json says of it, so the next look must read the file.
        if let Some(known) = head.tables.get_mut(&pending.table) {
            known
                .artefacts
                .retain(|other| other.format != pending.format);
            known.artefacts.extend(artefact);
        }
    }
    let finished_count = decided.len() - waiting.len();
    head.pending = waiting;
    Ok(finished_count)
}

fn tell_of_waiting(failure: &Failure) {
    tracing::warn!(
        "{}: what a run that died had decided is not finished, and hooks wait for it: {}, {}",
        failure.place,
        failure.what,
        failure.why
    );
}

/// What lies at a live path after a run that died.
enum Live {
    Missing,
    File {
        digest: String,
        stamp: Stamp,
    },
    /// What is no file was put there by somebody else.
    Other,
}

impl Live {
    /// What cannot be read now may be what was decided, or what it replaces; whoever guesses loses one of the two.
    fn look(path: &Path) -> Result<Live> {
        let looked = || match path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Live::Missing),
            Err(error) => Err(error),
            Ok(metadata) if !metadata.is_file() => Ok(Live::Other),
            Ok(metadata) => Ok(Live::File {
                digest: digest_without_link(path)?,
                stamp: stamp(&metadata),
            }),
        };
        looked().map_err(|error| {
            let next = "let this account read the table, and look for faults of the disk; the next run finishes what was decided";
            not_written("a table that was decided cannot be looked at", path, error, next)
        })
    }
}

/// Whether that is what the dead run was about to replace.
fn is_known(head: &Head, pending: &PendingRename, digest: &String) -> bool {
    head.tables.get(&pending.table).is_some_and(|known| {
        let mut artefacts = known.artefacts.iter();
        known.originals.contains(digest) || artefacts.any(|artefact| artefact.digest == *digest)
    })
}

/// A transaction that was not committed is gone, so it is done or is made anew.
fn finish_relation(
    state: &State,
    head: &Head,
    table: &Table,
    relation: &Relation,
    pending: &PendingRename,
    deadline: Instant,
) -> Result<Option<Artefact>> {
    match relation::now(relation)? {
        Some(found) if found.digest == pending.digest => Ok(Some(found)),
        Some(found) if !is_known(head, pending, &found.digest) => {
            tell_of_another(pending);
            Ok(None)
        }
        Some(_) | None => from_ledger(state, head, table, pending, deadline),
    }
}

fn tell_of_another(pending: &PendingRename) {
    tracing::warn!(
        "{}: written by somebody else after a run that died had decided to replace it; it counts as foreign",
        pending.path
    );
}

fn finish(
    state: &State,
    head: &Head,
    table: &Table,
    pending: &PendingRename,
    deadline: Instant,
) -> Result<Option<Artefact>> {
    if let Some(relation) = table
        .relation
        .as_ref()
        .filter(|_| !pending.format.is_file())
    {
        return finish_relation(state, head, table, relation, pending, deadline);
    }
    let path = Path::new(&pending.path);
    match Live::look(path)? {
        Live::File { digest, stamp } if digest == pending.digest => {
            // The run may have died before it could do that.
            sync_directory(path).map_err(|error| not_replaced(path, error))?;
            return Ok(Some(Artefact {
                format: pending.format,
                path: pending.path.clone(),
                digest,
                stamp,
                made_with: pending.made_with.clone(),
            }));
        }
        Live::File { digest, .. } if !is_known(head, pending, &digest) => {
            tell_of_another(pending);
            return Ok(None);
        }
        Live::Other => {
            tell_of_another(pending);
            return Ok(None);
        }
        Live::File { .. } | Live::Missing => {}
    }
    if digest_without_link(&temporary_path(path)).is_ok_and(|digest| digest == pending.digest) {
        return rename(pending, None, head).map(Some);
    }
    from_ledger(state, head, table, pending, deadline)
}

/// Writes anew what was decided.
fn from_ledger(
    state: &State,
    head: &Head,
    table: &Table,
    pending: &PendingRename,
    deadline: Instant,
) -> Result<Option<Artefact>> {
    let known = head.tables.get(&pending.table);
    let ledger = known
        .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound).into())
        .and_then(|known| state.ledger(&pending.table, known));
    match ledger {
        Ok(ledger) => {
            let (rows, values) = (&ledger.rows, &ledger.values);
            let prepared = prepare_rows(table, pending.format, rows, values, deadline)?;
            put_in_force(prepared, head).map(Some)
        }
        Err(lost) => {
            tracing::warn!(
                "table {}: its ledger is lost ({lost}); the file in force counts as foreign",
                table.name
            );
            Ok(None)
        }
    }
}

/// Removes temporary files that no decision names: of a run that died before it, or of one that failed.
pub fn remove_leftovers(tables: &[Table]) {
    for path in tables.iter().flat_map(|table| {
        let files = table.formats.iter().filter(|format| format.is_file());
        files.map(|format| table.file(*format))
    }) {
        remove_leftover(&path);
    }
}

fn remove_leftover(path: &Path) {
    let temporary = temporary_path(path);
    match std::fs::remove_file(&temporary) {
        Ok(()) => tracing::info!(
            "{}: removed; it was prepared and never decided",
            temporary.display()
        ),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!("{}: {error}", temporary.display()),
    }
    match built::remove(path) {
        Ok(true) => tracing::info!("{}: what postmap left there is removed", path.display()),
        Ok(false) => {}
        Err(error) => tracing::warn!(
            "{}: what postmap left there cannot be removed: {error}",
            path.display()
        ),
    }
}
