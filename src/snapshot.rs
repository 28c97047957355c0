//! What a reader hands over: all records of one source, proven complete, or what changed since they last were. There is
//! no way to hold half of either.
//!
//! Each reader proves completeness in its own way (`directory`, `source::ldif`, `source::list`) and only then makes one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::current::{Changes, Controller};
use crate::error::Result;
use crate::exchange::Organisation;
use crate::records::{Records, Spool, SpoolError};
use crate::time::Timestamp;

/// What a source said.
#[derive(Debug)]
pub enum Reading {
    /// All of it was read.
    Complete(Snapshot),
    /// The directory was asked what changed since the answer before, and told all of it; perhaps nothing.
    Followed(Followed),
}

impl Reading {
    /// What was found of Exchange's organisation.
    pub fn organisation(&self) -> Option<&Result<Organisation>> {
        match self {
            Reading::Complete(snapshot) => snapshot.organisation.as_ref(),
            Reading::Followed(followed) => followed.organisation.as_ref(),
        }
    }

    /// Notes when the certificate ends that the server showed.
    pub(crate) fn set_certificate_ends(&mut self, ends: Option<Timestamp>) {
        match self {
            Reading::Complete(snapshot) => snapshot.certificate_ends = ends,
            Reading::Followed(followed) => followed.certificate_ends = ends,
        }
    }

    pub(crate) fn organisation_mut(&mut self) -> &mut Option<Result<Organisation>> {
        match self {
            Reading::Complete(snapshot) => &mut snapshot.organisation,
            Reading::Followed(followed) => &mut followed.organisation,
        }
    }
}

/// All records of one source as a read found them, proven complete.
#[derive(Debug)]
pub struct Snapshot {
    /// The records, in the order read.
    records: Records,
    /// The server or file that gave them.
    pub answered_by: String,
    /// The search references met, as URLs: subtrees that the server holds elsewhere and whose entries are therefore not
    /// among the records.
    pub referrals: Vec<String>,
    /// Which controller answered, where it is one of several that may differ.
    pub controller: Option<Controller>,
    /// When the certificate ends that the server showed.
    pub certificate_ends: Option<Timestamp>,
    /// From where changes can be followed; taken before the read began.
    pub cursor: Option<Cursor>,
    /// Where changes were followed before: what the directory reported meanwhile.
    pub reported: Option<Reported>,
    /// What the same session found of Exchange's organisation, or why it could not be looked at; the records are complete all
    /// the same. `None` where nobody looked.
    pub organisation: Option<Result<Organisation>>,
}

/// What was reported between two complete reads, so that whatever else differs is what following had missed.
#[derive(Debug, Default)]
pub struct Reported {
    /// `objectGUID` of every object reported.
    pub guids: BTreeSet<Vec<u8>>,
    /// Whether some may have been moved or renamed, and all below them with them.
    pub has_moves: bool,
}

/// All that changed in a source since the cursor before.
#[derive(Debug)]
pub struct Followed {
    /// What changed, proven to be all of it.
    pub(crate) changes: Changes,
    /// The server that told it.
    pub answered_by: String,
    /// Which controller that is.
    pub controller: Controller,
    /// When the certificate ends that it showed.
    pub certificate_ends: Option<Timestamp>,
    /// From where to follow on.
    pub cursor: Cursor,
    /// What the same session found of Exchange's organisation, or why it could not be looked at. `None` where nobody looked,
    /// because nothing was written there or the source is none to look for it in.
    pub organisation: Option<Result<Organisation>>,
}

/// From where the changes of a directory can be followed (DirSync, MS-ADTS 3.1.1.3.4.1.3).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// The naming context that is followed.
    pub naming_context: String,
    /// The cookie, in base64. Only the controller knows what it means.
    pub cookie: String,
    /// Whether the account was shown a deleted object. Where it was not, deletions count as unseen.
    pub sees_deletions: bool,
}

impl Snapshot {
    /// To be called by a reader that has proven that nothing is missing, and by nobody else.
    pub(crate) fn of_complete_read(
        records: &mut Spool,
        answered_by: String,
        referrals: Vec<String>,
    ) -> std::result::Result<Snapshot, SpoolError> {
        Ok(Snapshot {
            records: records.finish(&[])?,
            answered_by,
            referrals,
            controller: None,
            certificate_ends: None,
            cursor: None,
            reported: None,
            organisation: None,
        })
    }

    /// The records, in the order read.
    pub fn records(&self) -> &Records {
        &self.records
    }

    /// The records, taken out.
    pub fn take_records(&mut self) -> Records {
        std::mem::take(&mut self.records)
    }
}

impl Followed {
    /// What changed.
    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    /// The same answer, for whoever knows that nothing changed, in the organisation neither.
    pub fn without_news(&self) -> Followed {
        Followed {
            changes: Changes::default(),
            answered_by: self.answered_by.clone(),
            controller: self.controller.clone(),
            certificate_ends: self.certificate_ends,
            cursor: self.cursor.clone(),
            organisation: None,
        }
    }
}

/// How far a run is, for people who wait; written by the run, read by whoever draws (`report::progress`).
#[derive(Debug, Default)]
pub struct Progress {
    seen: Mutex<Seen>,
}

/// What there is to be seen of a run.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// How many entries the last complete read of a source found, where everything is read again.
    expected: BTreeMap<String, u64>,
    /// The sources that are being read or were, in the order in which they began.
    pub sources: Vec<Arc<SourceProgress>>,
    /// What is done after the reading.
    pub stage: Option<&'static str>,
}

/// How far the reading of one source is.
#[derive(Debug, Default)]
pub struct SourceProgress {
    /// Its name.
    pub name: String,
    /// How many entries its last complete read found, where everything is read again.
    pub expected_count: Option<u64>,
    entries_count: AtomicU64,
    is_over: AtomicBool,
}

impl Progress {
    /// All of a source is about to be read, and this is how many entries it had.
    pub fn expect(&self, name: &str, entries_count: u64) {
        self.lock().expected.insert(name.to_owned(), entries_count);
    }

    /// The reading of a source begins; for the second time, if nothing could be done with what was read.
    pub fn begin(&self, name: &str) -> Arc<SourceProgress> {
        let mut seen = self.lock();
        let begun = Arc::new(SourceProgress {
            name: name.to_owned(),
            expected_count: seen.expected.get(name).copied(),
            ..SourceProgress::default()
        });
        seen.sources.retain(|source| source.name != name);
        seen.sources.push(Arc::clone(&begun));
        begun
    }

    /// The reading is over, and this is being done.
    pub fn stage(&self, stage: &'static str) {
        self.lock().stage = Some(stage);
    }

    /// What is to be seen now.
    pub fn seen(&self) -> Seen {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        // Whoever panicked while it was locked left nothing half done.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SourceProgress {
    /// One more entry was read.
    pub fn count_entry(&self) {
        self.entries_count.fetch_add(1, Ordering::Relaxed);
    }

    /// Entries read so far.
    pub fn entries_count(&self) -> u64 {
        self.entries_count.load(Ordering::Relaxed)
    }

    /// Nothing more will be read.
    pub fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Whether nothing more will be read.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}
