//! Tables that postmap builds: `hash`, `btree` and `lmdb`.
//!
//! postmap is never given the live name: a table that is rebuilt in place gives wrong answers meanwhile. It works in a
//! private directory beside the live file, where nobody else can put anything in its way, and reads there a text of our own.
//! What it has built is proven by its own lookups (every key, with its value) and its own listing (so many rows, and no
//! more), because it drops lines with exit status 0. Only then is the file moved beside the live one, to be renamed like any
//! other.
//!
//! A table of Berkeley DB is not the same octets each time it is built, so the digest is that of this one file.
//!
//! Invariant: the private directory is gone when [`build`] returns; that of a run that died is removed by the next.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;

use super::prepare::{Proven, is_shared, keep_owner, open_directory};
use super::{not_written, rename, stream, temporary_path};
use crate::at_once::at_once;
use crate::config::{MapType, Table};
use crate::error::{Failure, Result};
use crate::owners;
use crate::postfix::postmap::{Map, PostmapError};
use crate::table::format::{self, KeyValue, RenderError, Said};
use crate::table::value::RowValues;

/// What postmap is given: a name without meaning, in a directory of its own.
const NAME: &str = "table";

/// So long postmap may take for any table, and so much longer for each row: one that takes longer has hung. A million rows of
/// the slowest type took 10 seconds.
const TIME_OF_ANY: Duration = Duration::from_secs(60);
const TIME_OF_ROW: Duration = Duration::from_micros(200);

/// How long a table that somebody else built may take to be listed.
const LISTING_TIME: Duration = Duration::from_secs(120);

/// Why there is no built table.
#[derive(Debug, thiserror::Error)]
enum BuildError {
    #[error(transparent)]
    File(#[from] io::Error),
    #[error(transparent)]
    Rendering(#[from] RenderError),
    #[error(transparent)]
    Postmap(#[from] PostmapError),
    #[error("{0}")]
    Disproof(String),
}

impl From<Errno> for BuildError {
    fn from(error: Errno) -> Self {
        BuildError::File(error.into())
    }
}

/// Builds and proves a table, and sets it beside the live one.
pub(super) fn build(
    table: &Table,
    map_type: MapType,
    said: &Said<'_>,
    values: &RowValues,
    deadline: Instant,
) -> Result<Proven> {
    let path = table.file(said.format());
    let of_bench = || -> std::result::Result<Proven, BuildError> {
        let bench = Bench::set_up(&path)?;
        build_on(&bench, table, map_type, said, values, deadline)
    };
    let built = of_bench();
    if let Err(error) = remove(&path) {
        tracing::warn!("{}: {error}", bench_path(&path).display());
    }
    built.map_err(|error| not_built(&path, &error))
}

fn build_on(
    bench: &Bench,
    table: &Table,
    map_type: MapType,
    said: &Said<'_>,
    values: &RowValues,
    deadline: Instant,
) -> std::result::Result<Proven, BuildError> {
    let path = table.file(said.format());
    let text = bench.create(NAME)?;
    let with_threads = is_shared(said.rows_count());
    stream::write(&text, with_threads, |out| format::render(said, values, out))?;
    drop(text);

    let map = Map {
        directory: &bench.path(),
        map_type,
        name: NAME,
    };
    let limit = || time_for(said).min(deadline.saturating_duration_since(Instant::now()));
    let told = map.build(limit())?;
    let built_name = format!("{NAME}{}", said.format().suffix());
    let proven = || {
        let file = bench.open(&built_name).map_err(|error| {
            BuildError::Disproof(format!("postmap ended well, but {built_name}: {error}"))
        })?;
        prove(&map, said, values, limit(), with_threads)?;
        Ok(file)
    };
    let file: File = proven().map_err(|error| with_what_was_told(error, &told))?;

    keep_owner(&file, &bench.parent, &path);
    rustix::fs::fchmod(&file, Mode::from_raw_mode(table.mode))?;
    file.sync_all()?;
    let seal = stream::seal_of_rest(stream::reading(&file))?;
    let temporary = temporary_path(&path);
    let temporary_name = temporary.file_name().unwrap_or_default();
    rename::set_beside(
        &bench.directory,
        built_name.as_ref(),
        &bench.parent,
        temporary_name,
    )?;
    Ok(Proven::of(&file, seal.digest)?)
}

/// A line that postmap dropped is told in its complaints alone.
fn with_what_was_told(mut error: BuildError, told: &str) -> BuildError {
    if let BuildError::Disproof(why) = &mut error
        && !told.is_empty()
    {
        why.push_str("; when it was built, postmap said:\n");
        why.push_str(told);
    }
    error
}

/// Looks every key up and counts the rows. Keys are unique, so as many rows as keys that were found are these rows.
fn prove(
    map: &Map<'_>,
    said: &Said<'_>,
    values: &RowValues,
    limit: Duration,
    with_threads: bool,
) -> std::result::Result<(), BuildError> {
    let look_up = || has_every_row(map, said, values, limit);
    let count = || {
        let mut rows_count = 0_usize;
        map.list(limit, |_, _| rows_count += 1).map(|()| rows_count)
    };
    let (found, rows_count) = if with_threads {
        at_once(look_up, count)
    } else {
        (look_up(), count())
    };
    found?;
    let (rows_count, meant_count) = (rows_count?, said.keys().count());
    if rows_count != meant_count {
        let why = format!("postmap built {rows_count} rows where {meant_count} were meant");
        return Err(BuildError::Disproof(why));
    }
    Ok(())
}

fn has_every_row(
    map: &Map<'_>,
    said: &Said<'_>,
    values: &RowValues,
    limit: Duration,
) -> std::result::Result<(), BuildError> {
    let mut meant = said.lines(values);
    let mut wrong = None;
    let each = |key: &[u8], found: &[u8]| {
        if wrong.is_none() {
            wrong = meant.next().filter(|row| *row != (key, found));
        }
    };
    let tell = |out: &mut dyn io::Write| {
        said.keys().try_for_each(|key| {
            out.write_all(key)?;
            out.write_all(b"\n")
        })
    };
    map.look_up(limit, tell, each)?;
    match wrong.or_else(|| meant.next()) {
        None => Ok(()),
        Some((key, _)) => {
            let key = String::from_utf8_lossy(key);
            let why = format!("postmap does not find {key:?} with its value in what it built");
            Err(BuildError::Disproof(why))
        }
    }
}

/// Every row of a table that somebody else built, as postmap lists it.
pub(super) fn list(
    path: &Path,
    suffix: &str,
    map_type: MapType,
) -> std::result::Result<Vec<KeyValue>, String> {
    let mut rows = Vec::new();
    with_map(path, suffix, map_type, |map| {
        let listed = map.list(LISTING_TIME, |key, value| {
            rows.push((key.to_vec(), value.to_vec()))
        });
        listed.map_err(|error| error.to_string())
    })?;
    Ok(rows)
}

/// Looks every key up in a table that lies where a gateway reads it.
pub(super) fn look_up(
    path: &Path,
    map_type: MapType,
    said: &Said<'_>,
    values: &RowValues,
) -> std::result::Result<(), String> {
    with_map(path, said.format().suffix(), map_type, |map| {
        has_every_row(map, said, values, time_for(said)).map_err(|error| error.to_string())
    })
}

fn with_map<Found>(
    path: &Path,
    suffix: &str,
    map_type: MapType,
    ask: impl FnOnce(&Map<'_>) -> std::result::Result<Found, String>,
) -> std::result::Result<Found, String> {
    let name = path.file_name().and_then(OsStr::to_str);
    let name = name.and_then(|name| name.strip_suffix(suffix));
    let (Some(name), Some(parent)) = (name, path.parent()) else {
        return Err("its name is not UTF-8".into());
    };
    let directory = owners::open_directory(parent).map_err(|error| error.to_string())?;
    ask(&Map {
        directory: &path_of(&directory),
        map_type,
        name,
    })
}

/// How long postmap may take for so many rows.
fn time_for(said: &Said<'_>) -> Duration {
    TIME_OF_ANY + TIME_OF_ROW * u32::try_from(said.rows_count()).unwrap_or(u32::MAX)
}

fn not_built(path: &Path, error: &BuildError) -> Box<Failure> {
    let next = match error {
        BuildError::File(_) | BuildError::Rendering(_) => {
            "mend the directory of the table (it must exist, with space, and belong to this account), then run again"
        }
        BuildError::Postmap(_) => {
            "mend what postmap complains of (it must work for the account that runs rcptsync), then run again"
        }
        // Seen with lmdb: exit status 0, not a word, and an empty table.
        BuildError::Disproof(_) => {
            "see whether the disk is full, of which postmap may say nothing, and what it complained of; then run again"
        }
    };
    not_written("a table could not be built", path, error, next)
}

/// A private directory in which postmap works.
struct Bench {
    /// The directory of the table.
    parent: OwnedFd,
    directory: OwnedFd,
}

impl Bench {
    /// Makes it anew. Whoever may write to the directory of the table could put another in its place, but not one that is
    /// ours and closed to others.
    fn set_up(path: &Path) -> std::result::Result<Bench, BuildError> {
        remove(path)?;
        let parent = open_directory(path.parent().unwrap_or(Path::new("/")))?;
        let name = bench_name(path);
        rustix::fs::mkdirat(&parent, &name, Mode::RWXU)?;
        let directory = rustix::fs::openat(&parent, &name, DIRECTORY_ITSELF, Mode::empty())?;
        let found = rustix::fs::fstat(&directory)?;
        let is_ours = found.st_uid == rustix::process::geteuid().as_raw();
        if !is_ours || found.st_mode & 0o077 != 0 {
            let why = "somebody else put another directory in the place of a private one";
            return Err(io::Error::other(why).into());
        }
        Ok(Bench { parent, directory })
    }

    /// It, whatever is done to its name meanwhile.
    fn path(&self) -> PathBuf {
        path_of(&self.directory)
    }

    fn create(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        Ok(rustix::fs::openat(&self.directory, name, flags, mode)?.into())
    }

    fn open(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file: File = rustix::fs::openat(&self.directory, name, flags, Mode::empty())?.into();
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.nlink() != 1 {
            return Err(io::Error::other("it is not a file with one name"));
        }
        Ok(file)
    }
}

const DIRECTORY_ITSELF: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// An open directory as a path for another program to begin in.
fn path_of(directory: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", directory.as_raw_fd()).into()
}

/// A fixed name, so that nothing can pile up.
fn bench_name(path: &Path) -> OsString {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    format!(".{name}.rcptsync-build").into()
}

fn bench_path(path: &Path) -> PathBuf {
    path.with_file_name(bench_name(path))
}

/// Removes the private directory of a table, with all that postmap left in it. Gives whether there was one.
pub(super) fn remove(path: &Path) -> io::Result<bool> {
    let parent = match owners::open_directory(path.parent().unwrap_or(Path::new("/"))) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        parent => parent?,
    };
    let name = bench_name(path);
    let directory = match rustix::fs::openat(&parent, &name, DIRECTORY_ITSELF, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(false),
        // A link, or a file: not ours, and in the way.
        Err(Errno::LOOP | Errno::NOTDIR) => {
            rustix::fs::unlinkat(&parent, &name, AtFlags::empty())?;
            return Ok(true);
        }
        directory => directory?,
    };
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            rustix::fs::unlinkat(&directory, entry.file_name(), AtFlags::empty())?;
        }
    }
    rustix::fs::unlinkat(&parent, &name, AtFlags::REMOVEDIR)?;
    Ok(true)
}
