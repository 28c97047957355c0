//! Where recipients come from: one way to read a source, whatever it is.
//!
//! A [`Snapshot`] is all records of one source, proven complete; there is no way to hold half of one. Each reader proves
//! completeness in its own way and only then makes one (`directory`, `ldif`, `list`).

pub mod file;
pub mod ldif;
pub mod list;

pub mod referral;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::config::{Source, SourceKind};
use crate::directory;
use crate::error::{Failure, Result};
use crate::exit::Exit;
use crate::record::Record;
use crate::time::Timestamp;
use file::FileFailure;

/// All records of one source as a read found them, proven complete.
#[derive(Debug)]
pub struct Snapshot {
    records: Vec<Record>,
    answered_by: String,
    referrals: Vec<String>,
}

impl Snapshot {
    /// To be called by a reader that has proven that nothing is missing, and by nobody else.
    ///
    /// `answered_by` is the server or the file. `referrals` are the search references met, as URLs: subtrees that the
    /// server holds elsewhere and whose entries are therefore not among the records.
    pub(crate) fn of_complete_read(
        records: Vec<Record>,
        answered_by: String,
        referrals: Vec<String>,
    ) -> Snapshot {
        Snapshot {
            records,
            answered_by,
            referrals,
        }
    }

    /// The records, in the order read.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The server or file that gave them.
    pub fn answered_by(&self) -> &str {
        &self.answered_by
    }

    /// Search references met.
    pub fn referrals(&self) -> &[String] {
        &self.referrals
    }

    /// Records, who gave them, and search references.
    pub fn into_parts(self) -> (Vec<Record>, String, Vec<String>) {
        (self.records, self.answered_by, self.referrals)
    }
}

/// Reads all sources at once, each in a thread of its own; a failing one fails alone. In the order given.
pub fn read_all(
    sources: &[Source],
    now: Timestamp,
    deadline: Instant,
    progress: &Progress,
) -> Vec<Result<Snapshot>> {
    std::thread::scope(|scope| {
        let started: Vec<_> = sources
            .iter()
            .map(|source| {
                let reader = std::thread::Builder::new().name(format!("source {}", source.name));
                reader.spawn_scoped(scope, move || read(source, now, deadline, progress))
            })
            .collect();
        let joined = sources.iter().zip(started).map(|(source, started)| {
            match started.map(|thread| thread.join()) {
                Ok(Ok(reading)) => reading,
                Ok(Err(_)) => Err(not_read(
                    source,
                    Exit::Bug,
                    "its reader failed; please report this with the log",
                )),
                Err(error) => Err(not_read(source, Exit::SourceFrozen, &error.to_string())),
            }
        });
        joined.collect()
    })
}

fn read(
    source: &Source,
    now: Timestamp,
    deadline: Instant,
    progress: &Progress,
) -> Result<Snapshot> {
    let name = &source.name;
    let file_failed = |failure: FileFailure| Box::new(failure.failure(name));
    match &source.kind {
        SourceKind::Ldap(ldap) => directory::read(name, ldap, deadline, progress)
            .map_err(|failure| Box::new(failure.failure(""))),
        SourceKind::Ldif(file) => ldif::read(file, now, deadline, progress).map_err(file_failed),
        SourceKind::List(file) => list::read(file, now, deadline, progress).map_err(file_failed),
    }
}

fn not_read(source: &Source, exit: Exit, why: &str) -> Box<Failure> {
    Box::new(Failure {
        exit,
        what: format!("source {}: it could not be read", source.name),
        place: format!("[source.{}]", source.name),
        why: why.into(),
        in_force: String::new(),
        next: "the next run tries again".into(),
    })
}

/// How far the reading is, for a progress bar; written by readers, read by whoever draws.
#[derive(Debug, Default)]
pub struct Progress {
    entries_count: AtomicU64,
}

impl Progress {
    /// One more entry was read.
    pub fn count_entry(&self) {
        self.entries_count.fetch_add(1, Ordering::Relaxed);
    }

    /// Entries read so far, of all sources.
    pub fn entries_count(&self) -> u64 {
        self.entries_count.load(Ordering::Relaxed)
    }
}
