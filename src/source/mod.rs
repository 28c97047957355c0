//! Where recipients come from: one way to read a source, whatever it is.
//!
//! A [`Snapshot`] is all records of one source, proven complete; there is no way to hold half of one. Each reader proves
//! completeness in its own way and only then makes one (`directory`, `ldif`, `list`).

pub mod file;
pub mod ldif;
pub mod list;

use std::sync::atomic::{AtomicU64, Ordering};

use crate::record::Record;

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
