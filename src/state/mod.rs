//! What the program remembers between runs: the only place that knows the state directory.
//!
//! ```text
//! lock                    writers only; they lock the directory, too
//! head.json               what is; replacing it is the commit point (`head`)
//! source/NAME/base-N      records of a source, as last read completely (`records`)
//! source/NAME/changes-N   what was reported of them since
//! ledger/TABLE-N          a table as last published, with the origin of every row
//! generation/N            what each publish did; beside it the originals of foreign files
//! hold/DIGEST             the rows of a hold
//! runs.jsonl              one line a run, bounded, never needed for correctness
//! notified.json           what hooks were told of how things stand; its loss means that they are told again
//! ```
//!
//! Every file but head.json, runs.jsonl and lock is written once, synced, and named by head.json only afterwards; readers
//! never lock. What head.json does not name is left over from a run that died, and the next writer removes it. A damaged
//! record or ledger file is as good as none and is told; a damaged or newer head.json stops the run.
//!
//! A file that is whole may still be the wrong one: an older base under the name of a newer one, put back from a backup, would
//! take out of the tables whoever came since. So every file is known by more than its name: by its digest in head.json, or by
//! the number or the digest that it was given for a name.
//!
//! Records are written while they are read, into a file of a name that begins with a dot; once they are proven complete and
//! other than those known, it is synced and becomes a base by its new name.

pub mod files;
pub mod head;
pub mod runs;
mod sealed;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Access, OFlags};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::current::{Changes, SourceRecords};
use crate::error::{Failure, Result};
use crate::exit::Exit;
use crate::hold::{Hold, hex};
use crate::notice::Memory;
use crate::owners;
use crate::records::{Records, Spool, SpoolError};
use crate::regular;
use files::{Generation, Ledger};
use head::{FORMAT, Head, SourceState, TableState};
use runs::{LINES_KEPT, LINES_SLACK, RunRecord};
pub use sealed::{Broken, Sealed};

/// A file of the state and not what a link names; a pipe in its place is not waited for.
const ITSELF: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK);

/// A million recipients make a ledger of some sixty megabytes.
const FILE_OCTETS_MAX: u64 = 1 << 30;

/// Ends the name of a file that is being written; a dot begins it.
const TEMPORARY_SUFFIX: &str = ".new";

/// The state directory, held by a writer or looked at by a reader.
#[derive(Debug)]
pub struct State {
    directory: PathBuf,
    /// Held until dropped; `None` for a reader.
    lock: Option<Lock>,
    /// Two of one source in one run are two files.
    spools_count: AtomicU64,
}

/// What a writer holds: the file `lock`, and the directory itself. A file that is in the way is soon removed, and its
/// successor is free.
#[derive(Debug)]
struct Lock {
    directory: File,
    _file: File,
}

/// The file `notified.json`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Notified {
    format: u32,
    hooks: BTreeMap<String, Memory>,
}

const NOTIFIED_FORMAT: u32 = 1;

/// Why an immutable file gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// The system would not read it.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is not whole.
    #[error("{0}")]
    Broken(#[from] Broken),
}

impl State {
    /// Opens the directory for the one writer, making it where it is missing.
    pub fn lock(directory: &Path) -> Result<State> {
        // Whoever can put another directory in its place decides what was published last.
        if let Some(hand) = owners::refused_above(directory) {
            return Err(owners::refusal(
                "the state directory is not trusted",
                directory,
                &hand,
            ));
        }
        if !directory.exists() {
            make_with_open_parents(directory)
                .map_err(|error| denied_or(Exit::Configuration, directory, &error))?;
        }
        check_owner(directory)?;
        Ok(State {
            directory: directory.to_owned(),
            lock: Some(Lock::take(directory)?),
            spools_count: AtomicU64::new(0),
        })
    }

    /// Opens the directory for looking. A directory that does not exist reads as one without any state.
    pub fn view(directory: &Path) -> State {
        State {
            directory: directory.to_owned(),
            lock: None,
            spools_count: AtomicU64::new(0),
        }
    }

    /// The directory, for messages.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether it lies on a file system that takes nothing: then no run can even leave behind that it failed.
    pub fn is_read_only(&self) -> bool {
        let asked = rustix::fs::access(&self.directory, Access::WRITE_OK);
        asked == Err(rustix::io::Errno::ROFS)
    }

    /// What is. Without head.json: nothing yet, except that numbers go on behind files that are there.
    pub fn head(&self) -> Result<Head> {
        let path = self.directory.join("head.json");
        let text = match read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(self.fresh_head()),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(denied_or(Exit::Permission, &path, &error));
            }
            Err(error) => return Err(unusable_head(&path, error.to_string())),
        };
        let unusable = |why: String| unusable_head(&path, why);
        let damaged = |error: &dyn std::fmt::Display| unusable(format!("it is damaged: {error}"));
        let mut value: serde_json::Value =
            serde_json::from_slice(&text).map_err(|error| damaged(&error))?;
        match value.get("format").and_then(serde_json::Value::as_u64) {
            Some(format) if format > u64::from(FORMAT) => {
                return Err(unusable(format!(
                    "it was written by a newer rcptsync (format {format}, known here: {FORMAT})"
                )));
            }
            _ => {}
        }
        if !head::has_own_digest(&text) {
            return Err(damaged(&"its digest does not match"));
        }
        if let Some(head) = value.as_object_mut() {
            head.remove(head::DIGEST_KEY);
        }
        let head = serde_json::from_value(value).map_err(|error| damaged(&error))?;
        Ok(self.caught_up(head))
    }

    /// What is, and what was found by looking at it. A reader holds no lock, so a run may replace meanwhile what is looked at:
    /// where it did, the look is taken again.
    pub fn steadily<Found>(&self, mut look: impl FnMut(&Head) -> Result<Found>) -> Result<Found> {
        const LOOKS_MAX: usize = 20;
        let mut head = self.head()?;
        for _ in 1..LOOKS_MAX {
            let found = look(&head);
            let now = self.head()?;
            if now == head {
                return found;
            }
            head = now;
        }
        look(&head)
    }

    /// A head that is older than what runs have published since was put back from a backup. Its numbers go on behind those,
    /// and what hooks were told meanwhile is not known.
    fn caught_up(&self, head: Head) -> Head {
        let numbers = self.generation_numbers();
        let later = numbers
            .into_iter()
            .filter(|number| *number > head.generation);
        let later: Vec<u64> = later.collect();
        if later.is_empty() {
            return head;
        }
        // What a run left that died before it decided is no generation: no run was recorded with it.
        let runs = self.runs();
        let is_published = |number: &u64| {
            let found = self.generation(*number).ok();
            found.is_some_and(|found| {
                let mut runs = runs.iter();
                runs.any(|run| run.id == found.run && run.generation >= *number)
            })
        };
        let Some(last) = later.into_iter().rev().find(is_published) else {
            return head;
        };
        tracing::warn!(
            "head.json is that of generation {}, and generation {last} was published: it was put back from a backup; the tables \
             in force count as foreign where they differ, and every hook is owed",
            head.generation
        );
        Head {
            generation: last,
            published: last,
            hooks: BTreeMap::new(),
            settled: None,
            ..head
        }
    }

    fn fresh_head(&self) -> Head {
        let last = self.generation_numbers().into_iter().max().unwrap_or(0);
        if last > 0 {
            tracing::warn!(
                "head.json is missing although {} has {last} generations: the tables in force count as foreign",
                self.directory.display()
            );
        }
        // Numbers are never used twice, also not those of files whose head is gone. Which hooks were owed is gone too, so
        // all are.
        Head {
            generation: last,
            published: last,
            next_file: last.saturating_mul(1000).saturating_add(1),
            ..Head::default()
        }
    }

    /// Replaces head.json: the commit.
    pub fn store_head(&self, head: &Head) -> Result<()> {
        let text =
            serde_json::to_vec_pretty(head).map_err(|error| self.not_stored(&error.into()))?;
        self.store(Path::new("head.json"), &[&head::with_digest(text)])
    }

    /// The records of a source that count. What `next` names is looked up in the same walk as the stored changes.
    pub fn records(
        &self,
        source: &str,
        known: &SourceState,
        next: Option<&Changes>,
    ) -> std::result::Result<SourceRecords, Lost> {
        let path = |name| self.directory.join(source_path(source, name));
        let base = known.base.ok_or(io::ErrorKind::NotFound);
        let base = base.map_err(|kind| Lost::Io(kind.into()))?;
        let (base, missing) = Records::open(regular::open_itself(&path(base_name(base)))?)?;
        if base.digest() != known.base_digest {
            return Err(Broken::Another.into());
        }
        let mut records = SourceRecords::with_missing(base, missing);
        let (mut stored, mut digest) = (Vec::new(), String::new());
        for number in &known.changes {
            let file = read(&path(changes_name(*number)))?;
            stored.push(files::changes_from_bytes(&file)?);
            digest = digest_with(&digest, &sealed::digest_of(&file));
        }
        if digest != known.changes_digest {
            return Err(Broken::Another.into());
        }
        records.look_up(stored.iter().chain(next))?;
        for changes in &stored {
            records.change(changes)?;
        }
        Ok(records)
    }

    /// Takes the records of a source while it is read: in a file where state may be written, in memory otherwise.
    pub fn spool(&self, source: &str) -> Spool {
        if self.lock.is_none() {
            return Spool::in_memory();
        }
        let number = self.spools_count.fetch_add(1, Ordering::Relaxed);
        let name = format!(".records-{number}{TEMPORARY_SUFFIX}");
        Spool::at(self.directory.join(source_path(source, name)))
    }

    /// Makes a file of the records of a source, unless the one that is known holds the same and is whole. Gives the digest
    /// of a file that was made.
    pub fn store_records(
        &self,
        source: &str,
        number: u64,
        records: &SourceRecords,
        known: &SourceState,
    ) -> Result<Option<String>> {
        let written;
        let whole = match records.unchanged_base() {
            Some(base) => base,
            None => {
                written = self.put_together(source, records)?;
                &written
            }
        };
        let digest = whole.digest();
        let is_there = known.changes.is_empty()
            && known.base_digest == digest
            && known
                .base
                .is_some_and(|base| self.is_base(source, base, &digest));
        if is_there {
            return Ok(None);
        }
        let copied;
        let spooled = match whole.spooled() {
            Some(spooled) => Some(spooled),
            None => {
                copied = self.put_together(source, records)?;
                copied.spooled()
            }
        };
        let to = self.directory.join(source_path(source, base_name(number)));
        let adopted = match spooled {
            Some((file, from)) => adopt(file, from, &to),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        adopted.map_err(|error| self.not_stored(&error))?;
        Ok(Some(digest))
    }

    /// Writes all records that count into a new file, one after the other.
    fn put_together(&self, source: &str, records: &SourceRecords) -> Result<Records> {
        let mut spool = self.spool(source);
        let mut pushed = Ok(());
        let walked = records.for_each_shown(|record| {
            if pushed.is_ok() {
                pushed = spool.push(record);
            }
        });
        walked.map_err(|lost| self.not_stored(&io::Error::other(lost)))?;
        pushed
            .and_then(|()| spool.finish(&records.missing))
            .map_err(|error| match error {
                SpoolError::Io { error, .. } => self.not_stored(&error),
                SpoolError::TooLarge(_) => self.not_stored(&io::Error::other(error)),
            })
    }

    /// Whether a base is whole and has this digest.
    fn is_base(&self, source: &str, number: u64, digest: &str) -> bool {
        let path = self.directory.join(source_path(source, base_name(number)));
        regular::open_itself(&path)
            .map_err(Lost::Io)
            .and_then(Records::open)
            .is_ok_and(|(found, _)| found.digest() == digest)
    }

    /// Writes changes of the records of a source.
    pub fn store_changes(&self, source: &str, number: u64, file: &Sealed<'_>) -> Result<()> {
        self.store(&source_path(source, changes_name(number)), &file.parts())
    }

    /// A table as it was published last.
    pub fn ledger(&self, table: &str, known: &TableState) -> std::result::Result<Ledger, Lost> {
        let file = read(&self.directory.join(ledger_path(table, known.ledger)))?;
        let digest = sealed::digest_of(&file);
        let ledger = Ledger::from_bytes(file)?;
        if digest != known.ledger_digest {
            return Err(Broken::Another.into());
        }
        Ok(ledger)
    }

    /// Writes a ledger.
    pub fn store_ledger(&self, table: &str, number: u64, file: &Sealed<'_>) -> Result<()> {
        self.store(&ledger_path(table, number), &file.parts())
    }

    /// The numbers of the generations that are kept, ascending.
    pub fn generation_numbers(&self) -> Vec<u64> {
        let mut numbers: Vec<u64> = names_in(&self.directory.join("generation"))
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect();
        numbers.sort_unstable();
        numbers
    }

    /// One generation.
    pub fn generation(&self, number: u64) -> std::result::Result<Generation, Lost> {
        let path = self.directory.join("generation").join(number.to_string());
        let generation = Generation::from_bytes(&read(&path)?)?;
        if generation.number != number {
            return Err(Broken::Another.into());
        }
        Ok(generation)
    }

    /// Writes a generation.
    pub fn store_generation(&self, generation: &Generation) -> Result<()> {
        self.store(
            &Path::new("generation").join(generation.number.to_string()),
            &generation.sealed().parts(),
        )
    }

    /// Keeps the original of a foreign file, byte for byte, beside its generation; gives the path it is kept at.
    pub fn store_original(&self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        let path = Path::new("generation").join(name);
        self.store(&path, &[bytes])?;
        Ok(self.directory.join(path))
    }

    /// Removes a generation and the originals kept with it.
    pub fn remove_generation(&self, number: u64) {
        let directory = self.directory.join("generation");
        for name in names_in(&directory) {
            if name == number.to_string() || name.starts_with(&format!("{number}.")) {
                remove(&directory.join(name));
            }
        }
    }

    /// The rows of a hold.
    pub fn hold(&self, digest: &str) -> std::result::Result<Hold, Lost> {
        let hold = files::hold_from_bytes(&read(&self.directory.join("hold").join(digest))?)?;
        // An approval names these rows and no others.
        if hold.digest() != digest {
            return Err(Broken::Another.into());
        }
        Ok(hold)
    }

    /// Writes the rows of a hold.
    pub fn store_hold(&self, digest: &str, hold: &Hold) -> Result<()> {
        let path = Path::new("hold").join(digest);
        // The digest names the rows but not the figures, so a file that opens is not compared further.
        if self.hold(digest).is_ok() {
            return Ok(());
        }
        self.store(&path, &files::sealed_hold(hold).parts())
    }

    /// What the file system says of the records and ledgers that `head` names: as long as that is the same, they are what
    /// they were.
    pub fn stamps(&self, head: &Head) -> String {
        let stamp = |path: &PathBuf| match self.directory.join(path).metadata() {
            Ok(found) => format!(
                "{} {} {} {}.{}",
                path.display(),
                found.ino(),
                found.len(),
                found.ctime(),
                found.ctime_nsec()
            ),
            Err(error) => format!("{} {error}", path.display()),
        };
        let stamps: Vec<String> = named_facts(head).iter().map(stamp).collect();
        stamps.join("\n")
    }

    /// Removes what no head names any more: left over from a run that died, or replaced.
    pub fn tidy(&self, head: &Head) {
        let mut named = named_facts(head);
        let holds = head.holds.keys();
        named.extend(holds.map(|digest| Path::new("hold").join(digest)));
        let sources = names_in(&self.directory.join("source"))
            .into_iter()
            .map(|name| Path::new("source").join(name));
        for directory in sources.chain(["ledger".into(), "hold".into()]) {
            for name in names_in(&self.directory.join(&directory)) {
                let path = directory.join(name);
                if !named.contains(&path) {
                    remove(&self.directory.join(path));
                }
            }
        }
        // A run writes two generations at most before it decides. Anything beyond those was not left by a dead run.
        for number in 1..=2 {
            self.remove_generation(head.generation.saturating_add(number));
        }
        for directory in [".", "generation"].map(|part| self.directory.join(part)) {
            for name in names_in(&directory) {
                if name.starts_with('.') && name.ends_with(TEMPORARY_SUFFIX) {
                    remove(&directory.join(name));
                }
            }
        }
    }

    /// The last runs, newest last; lines that cannot be read are skipped.
    pub fn runs(&self) -> Vec<RunRecord> {
        let bytes = read(&self.directory.join("runs.jsonl")).unwrap_or_default();
        String::from_utf8_lossy(&bytes)
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Adds a line for a run; failing at that fails nothing else.
    pub fn store_run(&self, run: &RunRecord) {
        if let Err(error) = self.append_run(run) {
            tracing::warn!("{}: {error}", self.directory.join("runs.jsonl").display());
        }
    }

    /// Per hook, what it was told of how things stand. A damaged file is as good as none: everything is told again.
    pub fn notified(&self) -> BTreeMap<String, Memory> {
        let path = self.directory.join("notified.json");
        let notified = match read(&path) {
            Ok(text) => {
                serde_json::from_slice::<Notified>(&text).map_err(|error| error.to_string())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return BTreeMap::new(),
            Err(error) => Err(error.to_string()),
        };
        let known = notified.and_then(|notified| match notified.format {
            NOTIFIED_FORMAT => Ok(notified.hooks),
            format => Err(format!("its format {format} is not known here")),
        });
        known.unwrap_or_else(|why| {
            tracing::warn!(
                "{}: {why}; hooks are told again what goes on",
                path.display()
            );
            BTreeMap::new()
        })
    }

    /// Replaces what hooks were told.
    pub fn store_notified(&self, hooks: &BTreeMap<String, Memory>) -> Result<()> {
        let notified = serde_json::json!({ "format": NOTIFIED_FORMAT, "hooks": hooks });
        let text = format!("{notified:#}\n");
        self.store(Path::new("notified.json"), &[text.as_bytes()])
    }

    /// Nothing is stored in a directory that somebody put in the place of the one that is locked.
    fn is_in_place(&self) -> io::Result<()> {
        match &self.lock {
            Some(lock) if !lock.is_of(&self.directory) => Err(io::Error::other(
                "another directory stands in its place since this run began",
            )),
            Some(_) | None => Ok(()),
        }
    }

    fn append_run(&self, run: &RunRecord) -> io::Result<()> {
        self.is_in_place()?;
        let path = self.directory.join("runs.jsonl");
        let line = serde_json::to_string(run)?;
        // A line of a run that died in the middle of it, or that the disk garbled, must not stop those behind it. Whatever
        // else lies there is replaced and not written to, and so is a file with another name.
        let is_ours = match path.symlink_metadata() {
            Ok(found) => found.is_file() && found.nlink() == 1 && found.len() <= FILE_OCTETS_MAX,
            Err(_) => true,
        };
        let bytes = match read(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!("{}: {error}; it is begun anew", path.display());
                return write_durably(&path, &[format!("{line}\n").as_bytes()]);
            }
            read => read.unwrap_or_default(),
        };
        let text = String::from_utf8_lossy(&bytes);
        let mut lines: Vec<&str> = text.lines().collect();
        if is_ours && lines.len() < LINES_KEPT + LINES_SLACK {
            let mut file = OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o600)
                .custom_flags(ITSELF.bits().cast_signed())
                .open(&path)
                .and_then(regular::regular)?;
            let end_of_last = if text.is_empty() || text.ends_with('\n') {
                ""
            } else {
                "\n"
            };
            return file.write_all(format!("{end_of_last}{line}\n").as_bytes());
        }
        let mut kept = lines.split_off(lines.len().saturating_sub(LINES_KEPT));
        kept.push(&line);
        kept.push("");
        write_durably(&path, &[kept.join("\n").as_bytes()])
    }

    fn store(&self, relative: &Path, parts: &[&[u8]]) -> Result<()> {
        let path = self.directory.join(relative);
        let stored = self
            .is_in_place()
            .and_then(|()| write_durably(&path, parts));
        stored.map_err(|error| self.not_stored(&error))
    }

    fn not_stored(&self, error: &io::Error) -> Box<Failure> {
        let mut failure = denied_or(Exit::NotWritten, &self.directory, error);
        failure.what = "the state could not be written".into();
        failure.in_force =
            "every table is the old one or the new one; the next run finishes what was decided"
                .into();
        failure
    }
}

impl Lock {
    fn take(directory: &Path) -> Result<Lock> {
        let path = directory.join("lock");
        let failed = |error: &io::Error| denied_or(Exit::Configuration, &path, error);
        let held = File::open(directory).map_err(|error| failed(&error))?;
        // Not every file system of the network can lock a directory.
        if matches!(held.try_lock(), Err(TryLockError::WouldBlock)) {
            return Err(locked(&path));
        }
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .custom_flags(ITSELF.bits().cast_signed())
            .open(&path)
            .and_then(regular::regular)
            .map_err(|error| failed(&error))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock {
                directory: held,
                _file: file,
            }),
            Err(TryLockError::WouldBlock) => Err(locked(&path)),
            Err(TryLockError::Error(error)) => Err(failed(&error)),
        }
    }

    fn is_of(&self, directory: &Path) -> bool {
        let inode = |found: Metadata| (found.dev(), found.ino());
        let (held, now) = (self.directory.metadata(), directory.metadata());
        held.ok().map(inode) == now.ok().map(inode)
    }
}

fn locked(path: &Path) -> Box<Failure> {
    Box::new(Failure {
        exit: Exit::Locked,
        what: "another run is under way".into(),
        place: path.display().to_string(),
        why: "it holds the lock".into(),
        in_force: "this run touched nothing; the other one goes on".into(),
        next: "wait for it; `rcptsync status` shows the last runs".into(),
    })
}

/// SHA-256 in hexadecimal digits: what `sha256sum` prints.
pub fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// What seals one file after the other, where the last one has this digest.
pub fn digest_with(before: &str, last: &str) -> String {
    digest(format!("{before} {last}").as_bytes())
}

/// The records and ledgers that a head names.
fn named_facts(head: &Head) -> BTreeSet<PathBuf> {
    let sources = head.sources.iter().flat_map(|(name, source)| {
        let base = source.base.map(base_name).into_iter();
        let changes = source.changes.iter().map(|number| changes_name(*number));
        base.chain(changes).map(|file| source_path(name, file))
    });
    let tables = (head.tables.iter()).map(|(name, table)| ledger_path(name, table.ledger));
    sources.chain(tables).collect()
}

fn source_path(source: &str, file: String) -> PathBuf {
    Path::new("source").join(source).join(file)
}

fn base_name(number: u64) -> String {
    format!("base-{number}")
}

fn changes_name(number: u64) -> String {
    format!("changes-{number}")
}

fn ledger_path(table: &str, number: u64) -> PathBuf {
    Path::new("ledger").join(format!("{table}-{number}"))
}

fn make_private(directory: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
}

/// The parents are for others too: tables lie beside the state by default, and a gateway must get through to them.
fn make_with_open_parents(directory: &Path) -> io::Result<()> {
    if let Some(parent) = directory.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(parent)?;
    }
    make_private(directory)
}

/// Temporary file beside it, synced, renamed, directory synced.
fn write_durably(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let temporary = directory.join(format!(".{}{TEMPORARY_SUFFIX}", name.to_string_lossy()));
    let written = || -> io::Result<()> {
        let mut file = create_new(&temporary)?;
        for part in parts {
            file.write_all(part)?;
        }
        adopt(&file, &temporary, path)
    };
    written().inspect_err(|_| remove(&temporary))
}

/// A private file that was not there, in a private directory; what a dead run left under its name is removed.
pub(crate) fn create_new(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        make_private(directory)?;
    }
    remove(path);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600);
    options.open(path)
}

/// Gives a file that was written its name, for good.
fn adopt(file: &File, from: &Path, to: &Path) -> io::Result<()> {
    file.sync_all()?;
    std::fs::rename(from, to)?;
    match to.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

fn names_in(directory: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// The octets of a file of the state. Whoever looks may be root, and the account of the timer somebody else's by now: no link
/// is followed, no pipe waited for, and what is larger than any state is not read.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    regular::read_itself(path, FILE_OCTETS_MAX)
}

/// Removes a file whose absence is all that matters.
pub(crate) fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!("{} could not be removed: {error}", path.display());
    }
}

/// State written by another account would lock out the timer's, so a stray `sudo` is stopped before it writes.
fn check_owner(directory: &Path) -> Result<()> {
    let metadata = std::fs::metadata(directory)
        .map_err(|error| denied_or(Exit::Configuration, directory, &error))?;
    let (owner, account) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != account {
        return Err(Box::new(Failure {
            exit: Exit::Permission,
            what: "this is not the account that owns the state".into(),
            place: directory.display().to_string(),
            why: format!(
                "it belongs to {}, this process runs as {}",
                account_name(owner),
                account_name(account)
            ),
            in_force: Failure::NOTHING_TOUCHED.into(),
            next: format!(
                "run it as that account: sudo -u {} {}",
                account_name(owner),
                command_line()
            ),
        }));
    }
    // A slip in the configuration (state_dir = "/var/lib") must not lock everybody out of somebody else's directory.
    let is_open = metadata.permissions().mode() & 0o077 != 0;
    let names = names_in(directory);
    let is_ours = names.is_empty() || names.iter().any(|name| name == "lock");
    if !metadata.is_dir() || (is_open && !is_ours) {
        let why = if metadata.is_dir() {
            "it is open to other accounts and holds files that are no state of rcptsync"
        } else {
            "it is not a directory"
        };
        return Err(Box::new(Failure {
            exit: Exit::Configuration,
            what: "the state directory cannot be used".into(),
            place: directory.display().to_string(),
            why: why.into(),
            in_force: Failure::NOTHING_TOUCHED.into(),
            next: "name a directory in state_dir that is private (0700), empty, or not there yet"
                .into(),
        }));
    }
    if is_open {
        std::fs::set_permissions(directory, Permissions::from_mode(0o700))
            .map_err(|error| denied_or(Exit::Configuration, directory, &error))?;
        tracing::warn!(
            "{} was open to other accounts; it is private (0700) now",
            directory.display()
        );
    }
    Ok(())
}

fn unusable_head(path: &Path, why: String) -> Box<Failure> {
    Box::new(Failure {
        exit: Exit::Configuration,
        what: "the state cannot be used".into(),
        place: path.display().to_string(),
        why,
        in_force: Failure::NOTHING_TOUCHED.into(),
        next: format!(
            "move it away (mv {0} {0}.broken) and run again: the tables in force then count as foreign, so nothing that no \
             source knows is removed without approval",
            path.display()
        ),
    })
}

fn account_name(uid: u32) -> String {
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = accounts.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.get(2)? == &uid.to_string()).then(|| fields[0].to_owned())
    });
    name.unwrap_or_else(|| format!("'#{uid}'"))
}

/// The command line as a shell would have to be given it.
fn command_line() -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-=:@%+,".contains(&byte);
    let quoted = |word: std::ffi::OsString| {
        let word = word.to_string_lossy().into_owned();
        if !word.is_empty() && word.bytes().all(is_plain) {
            word
        } else {
            format!("'{}'", word.replace('\'', "'\\''"))
        }
    };
    let words: Vec<String> = std::env::args_os().map(quoted).collect();
    words.join(" ")
}

/// What an error while state is written asks for.
pub(crate) fn exit_of(error: &io::Error) -> Exit {
    if error.kind() == io::ErrorKind::PermissionDenied {
        Exit::Permission
    } else {
        Exit::NotWritten
    }
}

fn denied_or(exit: Exit, path: &Path, error: &io::Error) -> Box<Failure> {
    let is_denied = error.kind() == io::ErrorKind::PermissionDenied;
    Box::new(Failure {
        exit: if is_denied { Exit::Permission } else { exit },
        what: "the state directory cannot be used".into(),
        place: path.display().to_string(),
        why: error.to_string(),
        in_force: Failure::NOTHING_TOUCHED.into(),
        next: if is_denied {
            "run it as the account that owns state_dir".into()
        } else {
            "make state_dir a private directory (0700) of the account that runs rcptsync, with free space".into()
        },
    })
}
