//! What the gateway reads now: the files on disk (and what is in a relation), not our memory of them.
//!
//! A file whose stamp or digest is that of the last publish is ours; its rows are those of the ledger and it is not
//! parsed. Any other file is foreign and is read, by us or, where only postmap can, by postmap. Nothing is written here, and
//! no link is followed: a table path that is a link is refused, because replacing it would surprise whoever made it.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::{built, not_written, relation, stream};
use crate::config::{Format, MapType, Table};
use crate::error::{Failure, Result};
use crate::fold::Folding;
use crate::owners;
use crate::regular;
use crate::state::digest;
use crate::state::head::{Artefact, PendingRename, Stamp, TableState};
use crate::table::format::{self, KeyValue, ReadError};
use crate::table::value::Meaning;

/// A CDB can have no more, and a text of more is none that a gateway reads.
const TABLE_OCTETS_MAX: u64 = 1 << 32;

/// One file of a table.
#[derive(Debug)]
pub struct OnDisk {
    /// Its format.
    pub format: Format,
    /// Where it is, or would be.
    pub path: PathBuf,
    /// What is there.
    pub content: Content,
}

/// What is at the path of a table.
#[derive(Debug)]
pub enum Content {
    /// Nothing.
    Missing,
    /// What this program published last.
    AsPublished(Artefact),
    /// Something else that is a table.
    Foreign(Foreign, Vec<KeyValue>),
    /// Something else that is no table of this format: a gateway cannot use it either.
    NoTable(Foreign, String),
    /// Something else, of which only the mail system knows what it says: nothing reads what the template writes, or there is
    /// more in it than a table of recipients has.
    Unread(Foreign),
}

/// A file that this program did not write.
#[derive(Debug)]
pub struct Foreign {
    /// Its content.
    pub bytes: Vec<u8>,
    /// Path, digest and stamp, as an artefact that can be adopted.
    pub artefact: Artefact,
}

/// Looks at every file of a table, in the order of its formats. A file whose rename is pending is read, whatever is known:
/// the ledger is ahead of it.
pub fn look(
    table: &Table,
    state: Option<&TableState>,
    pending: &[PendingRename],
    folding: Folding,
) -> Result<Vec<OnDisk>> {
    let published = state.map_or(&[][..], |state| &state.artefacts);
    let look_at = |format: &Format| {
        let path = table.file(*format);
        let known = published
            .iter()
            .find(|known| known.format == *format && Path::new(&known.path) == path)
            .filter(|known| !pending.iter().any(|pending| pending.path == known.path));
        let content = match table.relation.as_ref().filter(|_| !format.is_file()) {
            Some(relation) => relation::look(relation, known)?,
            None => content(table, &path, *format, known, published, folding)?,
        };
        Ok(OnDisk {
            format: *format,
            path,
            content,
        })
    };
    table.formats.iter().map(look_at).collect()
}

fn content(
    table: &Table,
    path: &Path,
    format: Format,
    known: Option<&Artefact>,
    published: &[Artefact],
    folding: Folding,
) -> Result<Content> {
    let metadata = match path.symlink_metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // An index; a text is for people and postmap.
            if known.is_some() && !format.suffix().is_empty() {
                tell_of_absence(path);
            }
            return Ok(Content::Missing);
        }
        Err(error) => {
            return Err(not_written(
                "a table cannot be looked at",
                path,
                error,
                "let this account reach its directory",
            ));
        }
    };
    if let Some(refusal) = refusal(path, &metadata) {
        return Err(refusal);
    }
    if metadata.nlink() > 1 {
        tracing::warn!(
            "{} has another name (a hard link): what writes there writes into the table in force, and of LMDB a running smtpd will not \
             notice the replacement; keep backups as copies",
            path.display()
        );
    }
    let stamp = stamp(&metadata);
    if let Some(known) = known.filter(|known| known.stamp == stamp) {
        return Ok(Content::AsPublished(known.clone()));
    }
    let bytes = read_without_link(path).map_err(|error| {
        not_written(
            "a table cannot be read",
            path,
            error,
            "let this account read the table it replaces",
        )
    })?;
    let artefact = Artefact {
        format,
        path: path.display().to_string(),
        digest: digest(&bytes),
        stamp,
        made_with: table.made_with(format).to_owned(),
    };
    if let Some(known) = known.filter(|known| known.digest == artefact.digest) {
        let made_with = known.made_with.clone();
        return Ok(Content::AsPublished(Artefact {
            made_with,
            ..artefact
        }));
    }
    let found = Foreign { bytes, artefact };
    read(table, found, published, folding)
}

/// Why what lies there is neither read nor replaced.
fn refusal(path: &Path, found: &Metadata) -> Option<Box<Failure>> {
    let (why, next) = if !found.is_file() {
        let what = match found.is_symlink() {
            true => "is a symbolic link",
            false => "is not a regular file",
        };
        (
            format!("it {what}, and rcptsync neither follows nor replaces such a thing"),
            "name the file itself in [table.NAME] path, or remove it",
        )
    } else {
        // In /tmp: the rows of whoever was there first would count as those of an administrator.
        let directory = path.parent()?.metadata().ok()?;
        let is_open = directory.mode() & 0o002 != 0;
        if !is_open || owners::trusted().contains(&found.uid()) {
            return None;
        }
        let account = found.uid();
        (
            format!(
                "it belongs to the account {account}, and every account may make files in its directory"
            ),
            "remove it after a look, or name a path in a directory that is not open to all",
        )
    };
    Some(not_written("a table was not touched", path, why, next))
}

/// A table that is back does not help a smtpd that has looked for it meanwhile.
fn tell_of_absence(path: &Path) {
    tracing::warn!(
        "{} was published and is not there any more: a smtpd that looks for it answers 451, and one that has it open under another \
         name stays with it, for up to 100 clients after it is back; then: postfix reload",
        path.display()
    );
}

/// What a file of somebody else's says.
fn read(
    table: &Table,
    found: Foreign,
    published: &[Artefact],
    folding: Folding,
) -> Result<Content> {
    Ok(match read_rows(table, &found, published, folding)? {
        Some(Ok(rows)) => Content::Foreign(found, rows),
        Some(Err(error)) => Content::NoTable(found, error.to_string()),
        None => Content::Unread(found),
    })
}

/// The rows of a file that this program did not write, or why it is no table of its format; `None` where nothing here can read
/// it.
pub(super) fn read_rows(
    table: &Table,
    found: &Foreign,
    published: &[Artefact],
    folding: Folding,
) -> Result<Option<std::result::Result<Vec<KeyValue>, ReadError>>> {
    let (format, bytes) = (found.artefact.format, &found.bytes);
    if let Some(template) = (table.template.as_ref()).filter(|_| format == Format::Template) {
        let value = table.values.of(Meaning::Recipient);
        let rows = template.read(bytes, value.as_bytes());
        return Ok(rows.ok().filter(|_| template.is_readable()).map(Ok));
    }
    match format.map_type() {
        None => Ok(Some(format::read(format, bytes, folding))),
        Some(map_type) => read_built(&found.artefact, bytes, map_type, published).map(Some),
    }
}

/// Reads a file that only postmap can read. What postmap cannot list may still serve a gateway, so it is refused and not
/// taken for something without rows; but what by its first octets is no such table serves nobody.
fn read_built(
    found: &Artefact,
    bytes: &[u8],
    map_type: MapType,
    published: &[Artefact],
) -> Result<std::result::Result<Vec<KeyValue>, ReadError>> {
    let path = Path::new(&found.path);
    let name = map_type.name();
    match format::built::map_type(bytes) {
        None => return Ok(Err(ReadError(format!("it is no {name} table")))),
        Some(other) if other != map_type => {
            let why = format!("it is a {} table, not {name}", other.name());
            // Ours of before the format was changed: its rows are known.
            let is_ours =
                |known: &&Artefact| known.path == found.path && known.digest == found.digest;
            if published.iter().any(|known| is_ours(&known)) {
                return Ok(Err(ReadError(why)));
            }
            return Err(unreadable(path, why));
        }
        Some(_) => {}
    }
    if map_type.is_berkeley_db() && format::built::is_cut(bytes) {
        return Err(unreadable(path, "its end is missing"));
    }
    let rows = built::list(path, found.format.suffix(), map_type)
        .map_err(|error| unreadable(path, error))?;
    let now = path.symlink_metadata().map(|metadata| stamp(&metadata));
    if now.ok().as_ref() != Some(&found.stamp) {
        return Err(unreadable(path, "it was changed while it was read"));
    }
    Ok(Ok(rows))
}

fn unreadable(path: &Path, why: impl ToString) -> Box<Failure> {
    let next = "`postmap -s TYPE:PATH` must list it for this account; if nothing reads it any more, move it away";
    not_written("a table cannot be read", path, why, next)
}

pub(super) fn read_without_link(path: &Path) -> io::Result<Vec<u8>> {
    regular::read_all(&open_without_link(path)?, TABLE_OCTETS_MAX)
}

/// The digest of a file, of which no more than a block is held.
pub(super) fn digest_without_link(path: &Path) -> io::Result<String> {
    let input = stream::reading(open_without_link(path)?);
    Ok(stream::seal_of_rest(input)?.digest)
}

/// Opens a file to be read, but not through a link, nor through one of a stranger on the way to it.
pub(super) fn open_without_link(path: &Path) -> io::Result<File> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let directory = owners::open_directory(parent)?;
    // A pipe may have come there since it was looked at.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&directory, name, flags, Mode::empty())?;
    regular::regular(file.into())
}

/// What the file system says of a file.
pub(super) fn stamp(metadata: &Metadata) -> Stamp {
    Stamp {
        inode: (metadata.dev(), metadata.ino()),
        size: metadata.size(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    }
}
