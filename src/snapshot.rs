//! What a reader hands over: all records of one source, proven complete. There is no way to hold half of one.
//!
//! Each reader proves completeness in its own way (`directory`, `source::ldif`, `source::list`) and only then makes one.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Result;
use crate::exchange::Organisation;
use crate::record::Record;

/// All records of one source as a read found them, proven complete.
#[derive(Debug)]
pub struct Snapshot {
    records: Vec<Record>,
    answered_by: String,
    referrals: Vec<String>,
    organisation: Option<Result<Organisation>>,
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
            organisation: None,
        }
    }

    /// With what the same session found of Exchange's organisation, or why it could not be looked at. The records are
    /// complete all the same.
    pub(crate) fn with_organisation(self, organisation: Option<Result<Organisation>>) -> Snapshot {
        Snapshot {
            organisation,
            ..self
        }
    }

    /// What was found of Exchange's organisation; `None` where the source is none to look for it in.
    pub fn take_organisation(&mut self) -> Option<Result<Organisation>> {
        self.organisation.take()
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
