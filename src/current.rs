//! Whether an answer is current, not only complete: what of earlier records goes on counting after a read. Pure.
//!
//! A domain controller that replicates late gives a complete and old answer: what was added elsewhere is not in it yet.
//! So what one controller showed and another does not is *missing*: it goes on counting until the controller that
//! showed it answers without it, or until it has been missing for `replication_delay`. Whatever an answer shows counts
//! at once. Whole records are compared, not addresses: an old answer also has old kinds, flags and places, and each of
//! them can take an address out of the table.
//!
//! Not here: whether an answer is complete (`directory`), and who of the records is a recipient (`policy`).
//!
//! Invariant: a record leaves [`SourceRecords`] only by the word of the controller that showed it, by a deletion that a
//! controller reports, or by the delay.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::record::{Record, RecordRef};
use crate::records::Records;
use crate::state::Lost;
use crate::time::Timestamp;

/// Who answered, and as of when by its own count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Controller {
    /// `invocationId` of the controller's database (MS-ADTS 3.1.1.1.9), which a restore changes; for a server that has
    /// none, its URL.
    pub identity: String,
    /// `highestCommittedUSN` before the read began, where the server tells it.
    pub usn: Option<u64>,
}

impl Controller {
    /// Whether its answer holds everything that `earlier` knew: the same database, not set back.
    pub fn is_at_least(&self, earlier: &Controller) -> bool {
        self.identity == earlier.identity && self.usn >= earlier.usn
    }
}

/// A record that one controller showed and another does not show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The record as it was shown.
    pub record: Record,
    /// Since when it is missing.
    pub since: Timestamp,
    /// Who showed it last.
    pub shown_by: Controller,
}

/// The records of a source that count.
#[derive(Debug, Default)]
pub struct SourceRecords {
    /// What the last complete read showed.
    base: Records,
    /// By `objectGUID`, what is known of objects that changes since have named. Small beside the base.
    changed: HashMap<Vec<u8>, Changed>,
    /// Objects that the base does not have, in the order in which they came.
    added: Vec<Record>,
    /// How many are shown.
    count: u64,
    /// Whether the file of the base names others as missing.
    is_base_with_missing: bool,
    /// What the last answer does not show, and another showed.
    pub missing: Vec<Missing>,
}

/// An object that changes have named.
#[derive(Debug, Default)]
struct Changed {
    /// Its records in the base. More than one of an object: below two bases, or moved while everything was read.
    stored: Vec<Record>,
    /// What stands in their place now.
    now: Now,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Now {
    #[default]
    AsStored,
    Other(Record),
    Gone,
}

/// A part of the records that are shown; all parts one after the other are all of them, in their order.
#[derive(Clone, Debug)]
pub struct Part<'records> {
    records: &'records SourceRecords,
    blocks: Range<usize>,
    is_last: bool,
}

/// What changed in a source since its last answer, by `objectGUID`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Objects that are new or other than before.
    pub changed: Vec<Record>,
    /// Objects that are no recipients of this source any more.
    pub gone: Vec<Vec<u8>>,
    /// Objects that the directory itself calls deleted.
    pub deleted: Vec<Vec<u8>>,
}

impl Changes {
    /// Whether nothing was reported.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Objects named.
    pub fn len(&self) -> usize {
        self.changed.len() + self.gone.len() + self.deleted.len()
    }

    /// Every object named.
    fn guids(&self) -> impl Iterator<Item = &[u8]> {
        let changed = self.changed.iter().map(|record| record.view().guid());
        let gone = self.gone.iter().chain(&self.deleted);
        changed.chain(gone.map(Vec::as_slice))
    }
}

impl SourceRecords {
    /// Records that are shown and nothing else.
    pub fn shown(base: Records) -> SourceRecords {
        SourceRecords::with_missing(base, Vec::new())
    }

    /// Records that are shown, and those that are missing.
    pub fn with_missing(base: Records, missing: Vec<Missing>) -> SourceRecords {
        SourceRecords {
            count: base.len(),
            base,
            is_base_with_missing: !missing.is_empty(),
            missing,
            ..SourceRecords::default()
        }
    }

    /// How many are shown.
    pub fn len(&self) -> u64 {
        self.count
    }

    /// Whether none is shown.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The records of a complete read, where nothing changed since and nothing is missing.
    pub fn unchanged_base(&self) -> Option<&Records> {
        let is_as_stored = |changed: &Changed| changed.now == Now::AsStored;
        let is_unchanged = self.added.is_empty() && self.changed.values().all(is_as_stored);
        let has_missing = self.is_base_with_missing || !self.missing.is_empty();
        (is_unchanged && !has_missing).then_some(&self.base)
    }

    /// Shows every record that the last answer shows.
    pub fn for_each_shown(&self, each: impl FnMut(RecordRef<'_>)) -> Result<(), Lost> {
        let all = Part {
            records: self,
            blocks: 0..self.base.blocks_count(),
            is_last: true,
        };
        all.for_each(each)
    }

    /// Shows every record that counts: those that are shown, then those that are missing.
    pub fn for_each(&self, mut each: impl FnMut(RecordRef<'_>)) -> Result<(), Lost> {
        self.for_each_shown(&mut each)?;
        let missing = self.missing.iter();
        missing.for_each(|missing| each(missing.record.view()));
        Ok(())
    }

    /// What is shown, in so many parts of about the same size.
    pub fn parts(&self, count: usize) -> Vec<Part<'_>> {
        let blocks_count = self.base.blocks_count();
        let part = |number: usize| Part {
            records: self,
            blocks: blocks_count * number / count..blocks_count * (number + 1) / count,
            is_last: number + 1 == count,
        };
        (0..count).map(part).collect()
    }

    /// What counts after a complete read by `answering`, where these counted after the last one by `before`.
    pub fn after_complete_read(
        mut self,
        before: &Controller,
        shown: Records,
        answering: &Controller,
        delay: Duration,
        now: Timestamp,
    ) -> Result<SourceRecords, Lost> {
        let is_same = answering.is_at_least(before);
        if is_same && self.missing.is_empty() {
            return Ok(SourceRecords::shown(shown));
        }
        self.count_from(now);
        let mut present: HashSet<Name> = HashSet::new();
        shown.for_each(|record| {
            present.insert(name_of(&[record.octets()]));
        })?;
        let is_present = |record: RecordRef<'_>| present.contains(&name_of(&[record.octets()]));
        let mut missing = std::mem::take(&mut self.missing);
        missing.retain(|missing| !is_present(missing.record.view()));
        if !is_same {
            self.for_each_shown(|record| {
                if !is_present(record) {
                    missing.push(Missing {
                        record: record.to_record(),
                        since: now,
                        shown_by: before.clone(),
                    });
                }
            })?;
        }
        missing.retain(|missing| missing.counts(answering, delay, now));
        Ok(SourceRecords::with_missing(shown, missing))
    }

    /// Looks up in the base what changes name, so that [`Self::change`] needs no look at it: one walk for all of them.
    pub fn look_up<'changes>(
        &mut self,
        changes: impl IntoIterator<Item = &'changes Changes>,
    ) -> Result<(), Lost> {
        let mut found: HashMap<Vec<u8>, Changed> = HashMap::new();
        for guid in changes.into_iter().flat_map(Changes::guids) {
            if !self.changed.contains_key(guid) {
                found.entry(guid.to_vec()).or_default();
            }
        }
        if found.is_empty() {
            return Ok(());
        }
        self.base.for_each(|record| {
            if let Some(changed) = found.get_mut(record.guid()) {
                changed.stored.push(record.to_record());
            }
        })?;
        self.changed.extend(found);
        Ok(())
    }

    /// Applies what a controller reports; whether anything is other than before.
    pub fn change(&mut self, changes: &Changes) -> Result<bool, Lost> {
        self.look_up([changes])?;
        let before = (self.count, self.missing.len());
        let changed: HashMap<&[u8], &Record> = changes
            .changed
            .iter()
            .map(|record| (record.view().guid(), record))
            .collect();
        let deleted: HashSet<&[u8]> = changes.deleted.iter().map(Vec::as_slice).collect();
        // Read as gone and, a moment later, as there: it is there.
        let gone: HashSet<&[u8]> = (changes.gone.iter().map(Vec::as_slice))
            .chain(deleted.iter().copied())
            .filter(|guid| !changed.contains_key(guid))
            .collect();
        for guid in &gone {
            if let Some(known) = self.changed.get_mut(*guid) {
                known.now = Now::Gone;
            }
        }
        self.added
            .retain(|record| !gone.contains(record.view().guid()));
        // What is shown again is missing no more.
        self.missing.retain(|missing| {
            let guid = missing.record.view().guid();
            !deleted.contains(guid) && changed.get(guid) != Some(&&missing.record)
        });
        let mut is_other = false;
        let mut met: HashSet<&[u8]> = HashSet::new();
        for (guid, record) in &changed {
            if let Some(known) = self.changed.get_mut(*guid).filter(|known| known.is_shown()) {
                met.insert(guid);
                is_other |= known.become_other(record);
            }
        }
        for record in &mut self.added {
            if let Some((guid, now)) = changed.get_key_value(record.view().guid()) {
                met.insert(guid);
                is_other |= record != *now;
                record.clone_from(now);
            }
        }
        let new = changes.changed.iter().filter_map(|record| {
            let guid = record.view().guid();
            changed.get(guid).filter(|_| met.insert(guid))
        });
        let new: Vec<Record> = new.map(|record| (*record).clone()).collect();
        is_other |= !new.is_empty();
        self.added.extend(new);
        let of_base = self.changed.values();
        let gone = of_base.filter(|known| !known.is_shown());
        let gone: usize = gone.map(|known| known.stored.len()).sum();
        self.count = self.base.len() - gone as u64 + self.added.len() as u64;
        Ok(is_other || before != (self.count, self.missing.len()))
    }

    /// Lets go of what has been missing for the delay; whether there was any, or any since a time to come.
    pub fn expire(&mut self, answering: &Controller, delay: Duration, now: Timestamp) -> bool {
        let before = self.missing.len();
        let was_ahead = self.count_from(now);
        self.missing
            .retain(|missing| missing.counts(answering, delay, now));
        was_ahead || before != self.missing.len()
    }

    /// A clock that was ahead when a record was missed must not make the delay longer; whether it was.
    fn count_from(&mut self, now: Timestamp) -> bool {
        let ahead = (self.missing.iter_mut()).filter(|missing| missing.since > now);
        ahead.map(|missing| missing.since = now).count() > 0
    }

    /// When the first of the missing will have been so for longer than the delay.
    pub fn next_deadline(&self, delay: Duration) -> Option<Timestamp> {
        let since = self.missing.iter().map(|missing| missing.since).min();
        since.map(|since| since.after(delay + Duration::from_secs(1)))
    }
}

impl Changed {
    /// Whether anything stands in its place, or places.
    fn is_shown(&self) -> bool {
        !self.stored.is_empty() && self.now != Now::Gone
    }

    /// Whether that is other than what stood there.
    fn become_other(&mut self, record: &Record) -> bool {
        let is_same = match &self.now {
            Now::AsStored => self.stored.iter().all(|stored| stored == record),
            Now::Other(now) => now == record,
            Now::Gone => false,
        };
        if !is_same {
            self.now = Now::Other(record.clone());
        }
        !is_same
    }
}

impl Part<'_> {
    /// Shows the records of this part.
    pub fn for_each(&self, mut each: impl FnMut(RecordRef<'_>)) -> Result<(), Lost> {
        let SourceRecords {
            base,
            changed,
            added,
            ..
        } = self.records;
        base.for_each_in(self.blocks.clone(), |record| {
            match changed.get(record.guid()).map(|known| &known.now) {
                None | Some(Now::AsStored) => each(record),
                Some(Now::Other(now)) => each(now.view()),
                Some(Now::Gone) => {}
            }
        })?;
        if self.is_last {
            added.iter().for_each(|record| each(record.view()));
        }
        Ok(())
    }
}

impl Missing {
    /// Whether it counts although `answering` does not show it.
    fn counts(&self, answering: &Controller, delay: Duration, now: Timestamp) -> bool {
        // Times are whole seconds, rounded down: one more, so that the delay is never shorter than it is.
        let is_within = !delay.is_zero() && now <= self.since.after(delay);
        !answering.is_at_least(&self.shown_by) && is_within
    }
}

/// So much of a SHA-256 names a record, or an object: a million of them must not take the memory of a million records.
type Name = [u8; 16];

fn name_of(parts: &[&[u8]]) -> Name {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    let mut name = Name::default();
    let length = name.len();
    name.copy_from_slice(&hash.finalize()[..length]);
    name
}

/// How many objects are other in a complete read than in what was known before, apart from those that `explained` says:
/// what following the changes had missed.
pub fn drift(
    known: &SourceRecords,
    read: &Records,
    explained: impl Fn(&[u8]) -> bool,
    with_places: bool,
) -> Result<Drift, Lost> {
    let content = |record: RecordRef<'_>| {
        if with_places {
            name_of(&[record.octets()])
        } else {
            name_of(&record.octets_without_dn())
        }
    };
    let mut by_object: HashMap<Name, (Name, IsMet)> = HashMap::new();
    known.for_each_shown(|record| {
        if !explained(record.guid()) {
            let known = (content(record), IsMet(false));
            by_object.insert(name_of(&[record.guid()]), known);
        }
    })?;
    let mut drift = Drift::default();
    read.for_each(|record| {
        if explained(record.guid()) {
            return;
        }
        match by_object.get_mut(&name_of(&[record.guid()])) {
            None => drift.appeared += 1,
            Some((known, is_met)) => {
                is_met.0 = true;
                drift.changed += usize::from(*known != content(record));
            }
        }
    })?;
    let vanished = by_object.values().filter(|(_, is_met)| !is_met.0);
    drift.vanished = vanished.count();
    Ok(drift)
}

/// Whether an object that was known was read.
struct IsMet(bool);

/// What following the changes had missed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// Objects that were not known.
    pub appeared: usize,
    /// Objects that were known otherwise.
    pub changed: usize,
    /// Objects that are no more.
    pub vanished: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Facts;

    const DELAY: Duration = Duration::from_secs(100);

    fn controller(identity: &str, usn: u64) -> Controller {
        Controller {
            identity: identity.into(),
            usn: Some(usn),
        }
    }

    /// `a1 b2`: object a with its first version, object b with its second.
    fn records(text: &str) -> Vec<Record> {
        let record = |word: &str| {
            Record::of(Facts {
                guid: &word.as_bytes()[..1],
                dn: word,
                ..Facts::default()
            })
        };
        text.split_whitespace().map(record).collect()
    }

    fn read(text: &str) -> Records {
        Records::of(&records(text))
    }

    fn shown(records: &SourceRecords) -> String {
        let mut shown = Vec::new();
        let each = |record: RecordRef<'_>| shown.push(record.dn().to_owned());
        records.for_each_shown(each).expect("in memory");
        assert_eq!(records.len(), shown.len() as u64);
        let mut in_parts = Vec::new();
        for part in records.parts(3) {
            let each = |record: RecordRef<'_>| in_parts.push(record.dn().to_owned());
            part.for_each(each).expect("in memory");
        }
        assert_eq!(in_parts, shown);
        let missing = (records.missing.iter())
            .map(|missing| format!("{}?{}", missing.record.view().dn(), missing.since.0));
        shown
            .into_iter()
            .chain(missing)
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Complete reads, one after the other: who answered with which USN at what time, and with what.
    #[track_caller]
    fn check(reads: &[(&str, u64, u64, &str)], expected: &str) {
        let mut before: Option<(SourceRecords, Controller)> = None;
        for (identity, usn, now, text) in reads {
            let answering = controller(identity, *usn);
            let found = match before.take() {
                None => SourceRecords::shown(read(text)),
                Some((known, earlier)) => known
                    .after_complete_read(&earlier, read(text), &answering, DELAY, Timestamp(*now))
                    .expect("in memory"),
            };
            before = Some((found, answering));
        }
        assert_eq!(
            before.map(|(found, _)| shown(&found)).as_deref(),
            Some(expected)
        );
    }

    #[test]
    fn a_removal_counts_when_the_answer_is_current() {
        let first = ("x", 5, 0, "a1 b1");
        check(&[first, ("x", 5, 1, "a1")], "a1");
        check(&[first, ("x", 9, 1, "a1")], "a1");
        // Another controller, or the same one set back.
        check(&[first, ("y", 9, 1, "a1")], "a1 b1?1");
        check(&[first, ("x", 4, 1, "a1")], "a1 b1?1");
        // Additions and new facts count at once, old facts go on counting.
        check(&[first, ("y", 9, 1, "a2 c1")], "a2 c1 a1?1 b1?1");
        // Until it is shown again, by whomever.
        check(&[first, ("y", 9, 1, "a1"), ("y", 9, 2, "a1 b1")], "a1 b1");
        check(&[first, ("y", 9, 1, "a1"), ("z", 1, 2, "a1 b1")], "a1 b1");
        // Until the one that showed it says the same.
        check(&[first, ("y", 9, 1, "a1"), ("x", 5, 2, "a1")], "a1");
        // Until the delay is over, counted from the first answer without it.
        check(&[first, ("y", 9, 1, "a1"), ("y", 9, 101, "a1")], "a1 b1?1");
        check(&[first, ("y", 9, 1, "a1"), ("z", 9, 101, "a1")], "a1 b1?1");
        check(&[first, ("y", 9, 1, "a1"), ("y", 9, 102, "a1")], "a1");
        // The clock was ahead at the first answer without it.
        let ahead = ("y", 9, 1_000_000, "a1");
        check(&[first, ahead, ("y", 9, 2, "a1")], "a1 b1?2");
        // What the second one showed is missed in its turn.
        check(&[first, ("y", 9, 1, "a1 c1"), ("x", 6, 2, "a1")], "a1 c1?2");
    }

    #[track_caller]
    fn check_changes(known: &str, changes: (&str, &str, &str), expected: &str, is_other: bool) {
        let guids = |text: &str| {
            records(text)
                .into_iter()
                .map(|record| record.view().guid().to_vec())
                .collect()
        };
        let missing = records("m1").into_iter().map(|record| Missing {
            record,
            since: Timestamp(1),
            shown_by: controller("x", 1),
        });
        let mut found = SourceRecords::with_missing(read(known), missing.collect());
        let changes = Changes {
            changed: records(changes.0),
            gone: guids(changes.1),
            deleted: guids(changes.2),
        };
        assert_eq!(found.change(&changes).expect("in memory"), is_other);
        assert_eq!(shown(&found), expected);
    }

    #[test]
    fn changes_are_applied_by_guid() {
        check_changes("a1 b1", ("", "", ""), "a1 b1 m1?1", false);
        check_changes("a1 b1", ("a1", "z", "z"), "a1 b1 m1?1", false);
        check_changes("a1 b1", ("a2 c1", "b", ""), "a2 c1 m1?1", true);
        check_changes("a1 b1", ("c1", "b", ""), "a1 c1 m1?1", true);
        check_changes("a1 b1", ("", "", "a m"), "b1", true);
        check_changes("a1 b1", ("", "m", ""), "a1 b1 m1?1", false);
        // Missing on another controller, and shown by now.
        check_changes("a1 b1", ("m1", "", ""), "a1 b1 m1", true);
        check_changes("a1 b1", ("m2", "", ""), "a1 b1 m2 m1?1", true);
        // Read twice, in two places.
        check_changes("a1 a2 b1", ("a3", "", ""), "a3 a3 b1 m1?1", true);
        // Gone, and there a moment later; twice, the later counts.
        check_changes("a1 b1", ("a2", "a", ""), "a2 b1 m1?1", true);
        check_changes("a1 b1", ("c1 c2", "", ""), "a1 b1 c2 m1?1", true);
    }

    /// One change after the other gives what each of them says; the base is looked at once.
    #[test]
    fn changes_follow_changes() {
        let mut found = SourceRecords::shown(read("a1 b1 b2 c1 d1"));
        let changes = [
            ("a2 e1", "b"),
            ("a2 b3 f1", ""),
            ("e2 f1", "c x"),
            ("c2 a1", "e"),
            ("", "f"),
            ("f2 e3", ""),
        ]
        .map(|(changed, gone)| Changes {
            changed: records(changed),
            gone: gone.split_whitespace().map(|guid| guid.into()).collect(),
            deleted: Vec::new(),
        });
        found.look_up(&changes).expect("in memory");
        let mut seen = Vec::new();
        for changes in &changes {
            assert!(found.change(changes).expect("in memory"));
            seen.push(shown(&found));
        }
        let expected = [
            "a2 c1 d1 e1",
            "a2 c1 d1 e1 b3 f1",
            "a2 d1 e2 b3 f1",
            "a1 d1 b3 f1 c2",
            "a1 d1 b3 c2",
            "a1 d1 b3 c2 f2 e3",
        ];
        assert_eq!(seen, expected);
        // Other again, and as it was.
        assert!(found.unchanged_base().is_none());
        assert!(!found.change(&changes[5]).expect("in memory"));
    }

    #[test]
    fn drift_is_what_nobody_reported() {
        let explained = |guid: &[u8]| guid == b"e";
        let check = |known: &str, read: &str, with_places: bool, expected: [usize; 3]| {
            let known_records = SourceRecords::shown(super::tests::read(known));
            let found = drift(
                &known_records,
                &super::tests::read(read),
                explained,
                with_places,
            )
            .expect("in memory");
            let found = [found.appeared, found.changed, found.vanished];
            assert_eq!(found, expected, "{known} -> {read}");
        };
        check("a1 b1 e1", "b1 a1", true, [0, 0, 0]);
        check("a1", "a1 e1", true, [0, 0, 0]);
        check("a1 b1 c1", "a2 b1 d1", true, [1, 1, 1]);
        check("a1", "a2", false, [0, 0, 0]);
    }
}
