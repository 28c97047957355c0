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
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::record::Record;
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceRecords {
    /// What the last answer shows.
    pub shown: Vec<Record>,
    /// What it does not show, and another showed.
    pub missing: Vec<Missing>,
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
}

impl SourceRecords {
    /// Records that are shown and nothing else.
    pub fn shown(shown: Vec<Record>) -> SourceRecords {
        SourceRecords {
            shown,
            missing: Vec::new(),
        }
    }

    /// All that count.
    pub fn all(&self) -> impl Iterator<Item = &Record> {
        let missing = self.missing.iter().map(|missing| &missing.record);
        self.shown.iter().chain(missing)
    }

    /// How many are shown.
    pub fn len(&self) -> usize {
        self.shown.len()
    }

    /// Whether none is shown.
    pub fn is_empty(&self) -> bool {
        self.shown.is_empty()
    }

    /// What counts after a complete read by `answering`, where these counted after the last one by `before`.
    pub fn after_complete_read(
        mut self,
        before: &Controller,
        shown: Vec<Record>,
        answering: &Controller,
        delay: Duration,
        now: Timestamp,
    ) -> SourceRecords {
        let is_same = answering.is_at_least(before);
        if is_same && self.missing.is_empty() {
            return SourceRecords::shown(shown);
        }
        self.count_from(now);
        let present: HashSet<&Record> = shown.iter().collect();
        let mut missing: Vec<Missing> = self
            .missing
            .into_iter()
            .filter(|missing| !present.contains(&missing.record))
            .filter(|missing| missing.counts(answering, delay, now))
            .collect();
        if !is_same {
            let vanished = self.shown.into_iter();
            missing.extend(
                vanished
                    .filter(|record| !present.contains(record))
                    .map(|record| Missing {
                        record,
                        since: now,
                        shown_by: before.clone(),
                    }),
            );
        }
        missing.retain(|missing| missing.counts(answering, delay, now));
        drop(present);
        SourceRecords { shown, missing }
    }

    /// Applies what a controller reports; whether anything is other than before.
    pub fn change(&mut self, changes: &Changes) -> bool {
        let before = (self.shown.len(), self.missing.len());
        let changed: HashMap<&[u8], &Record> = changes
            .changed
            .iter()
            .map(|record| (record.guid.as_slice(), record))
            .collect();
        let deleted: HashSet<&[u8]> = changes.deleted.iter().map(Vec::as_slice).collect();
        // Read as gone and, a moment later, as there: it is there.
        let gone: HashSet<&[u8]> = (changes.gone.iter().map(Vec::as_slice))
            .chain(deleted.iter().copied())
            .filter(|guid| !changed.contains_key(guid))
            .collect();
        self.shown
            .retain(|record| !gone.contains(record.guid.as_slice()));
        // What is shown again is missing no more.
        self.missing.retain(|missing| {
            let guid = missing.record.guid.as_slice();
            !deleted.contains(guid) && changed.get(guid) != Some(&&missing.record)
        });
        let mut is_other = before != (self.shown.len(), self.missing.len());
        let mut met: HashSet<&[u8]> = HashSet::new();
        // More than one of an object: below two bases, or moved while everything was read.
        for record in &mut self.shown {
            if let Some((guid, now)) = changed.get_key_value(record.guid.as_slice()) {
                met.insert(guid);
                if record != *now {
                    record.clone_from(now);
                    is_other = true;
                }
            }
        }
        let added = changes.changed.iter().filter_map(|record| {
            let guid = record.guid.as_slice();
            changed.get(guid).filter(|_| met.insert(guid))
        });
        let added: Vec<Record> = added.map(|record| (*record).clone()).collect();
        is_other |= !added.is_empty();
        self.shown.extend(added);
        is_other
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

impl Missing {
    /// Whether it counts although `answering` does not show it.
    fn counts(&self, answering: &Controller, delay: Duration, now: Timestamp) -> bool {
        // Times are whole seconds, rounded down: one more, so that the delay is never shorter than it is.
        let is_within = !delay.is_zero() && now <= self.since.after(delay);
        !answering.is_at_least(&self.shown_by) && is_within
    }
}

/// How many objects are other in a complete read than in what was known before, apart from those that `explained` says:
/// what following the changes had missed.
pub fn drift(
    known: &[Record],
    read: &[Record],
    explained: impl Fn(&[u8]) -> bool,
    with_places: bool,
) -> Drift {
    let by_guid: HashMap<&[u8], &Record> = known
        .iter()
        .map(|record| (record.guid.as_slice(), record))
        .collect();
    let mut drift = Drift::default();
    let mut met = HashSet::new();
    for record in read {
        met.insert(record.guid.as_slice());
        let is_same = |known: &Record| {
            *known == *record
                || (!with_places
                    && Record {
                        dn: record.dn.clone(),
                        ..known.clone()
                    } == *record)
        };
        match by_guid.get(record.guid.as_slice()) {
            _ if explained(&record.guid) => {}
            None => drift.appeared += 1,
            Some(known) if is_same(known) => {}
            Some(_) => drift.changed += 1,
        }
    }
    drift.vanished = by_guid
        .keys()
        .filter(|guid| !met.contains(**guid) && !explained(guid))
        .count();
    drift
}

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

    const DELAY: Duration = Duration::from_secs(100);

    fn controller(identity: &str, usn: u64) -> Controller {
        Controller {
            identity: identity.into(),
            usn: Some(usn),
        }
    }

    /// `a1 b2`: object a with its first version, object b with its second.
    fn records(text: &str) -> Vec<Record> {
        let record = |word: &str| Record {
            guid: word.as_bytes()[..1].to_vec(),
            dn: word.to_owned(),
            ..Record::default()
        };
        text.split_whitespace().map(record).collect()
    }

    fn shown(records: &SourceRecords) -> String {
        let shown = records.shown.iter().map(|record| record.dn.clone());
        let missing = (records.missing.iter())
            .map(|missing| format!("{}?{}", missing.record.dn, missing.since.0));
        shown.chain(missing).collect::<Vec<_>>().join(" ")
    }

    /// Complete reads, one after the other: who answered with which USN at what time, and with what.
    #[track_caller]
    fn check(reads: &[(&str, u64, u64, &str)], expected: &str) {
        let mut before: Option<(SourceRecords, Controller)> = None;
        for (identity, usn, now, text) in reads {
            let answering = controller(identity, *usn);
            let found = match before.take() {
                None => SourceRecords::shown(records(text)),
                Some((known, earlier)) => known.after_complete_read(
                    &earlier,
                    records(text),
                    &answering,
                    DELAY,
                    Timestamp(*now),
                ),
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
                .map(|record| record.guid)
                .collect()
        };
        let missing = records("m1").into_iter().map(|record| Missing {
            record,
            since: Timestamp(1),
            shown_by: controller("x", 1),
        });
        let mut found = SourceRecords {
            shown: records(known),
            missing: missing.collect(),
        };
        let changes = Changes {
            changed: records(changes.0),
            gone: guids(changes.1),
            deleted: guids(changes.2),
        };
        assert_eq!(found.change(&changes), is_other);
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

    #[test]
    fn drift_is_what_nobody_reported() {
        let explained = |guid: &[u8]| guid == b"e";
        let check = |known: &str, read: &str, with_places: bool, expected: [usize; 3]| {
            let found = drift(&records(known), &records(read), explained, with_places);
            let found = [found.appeared, found.changed, found.vanished];
            assert_eq!(found, expected, "{known} -> {read}");
        };
        check("a1 b1 e1", "b1 a1", true, [0, 0, 0]);
        check("a1", "a1 e1", true, [0, 0, 0]);
        check("a1 b1 c1", "a2 b1 d1", true, [1, 1, 1]);
        check("a1", "a2", false, [0, 0, 0]);
    }
}
