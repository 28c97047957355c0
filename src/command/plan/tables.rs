//! Planning one table: what is in force, what is wanted, what the guard says, and which files that means. Writes nothing.

use std::collections::BTreeSet;

use super::domains::DomainsNow;
use super::{Run, SourceNow, SourceStatus, TablePlan};
use crate::address::Address;
use crate::at_once::at_once;
use crate::config::{Format, Table};
use crate::current::SourceRecords;
use crate::diff::{Diff, Values};
use crate::error::{Failure, Result};
use crate::exit::Exit;
use crate::fold::Folding;
use crate::guard::{self, Counts, Evidence, Judgement, SourceEvidence};
use crate::hold::{Cause, Released, Standing};
use crate::keys::Key;
use crate::publish::on_disk::{self, Content, OnDisk};
use crate::state::files::Ledger;
use crate::state::head::{Head, HoldState, TableState};
use crate::state::{Lost, State};
use crate::table::format::{self, Said};
use crate::table::rows::{Facts, FormatSet, Rows, RowsBuilder, SourceSet};
use crate::table::value::{Meaning, RowValues};
use crate::table::wanted;

/// A table as it was published last, if this program did and still knows.
pub(super) fn ledger_of(state: &State, head: &Head, table: &Table) -> Option<Ledger> {
    let known = head
        .tables
        .get(&table.name)
        .filter(|known| known.ledger > 0)?;
    state
        .ledger(&table.name, known)
        .inspect_err(|lost| {
            tracing::warn!(
                "table {}: its ledger is lost ({lost}); the files count as foreign",
                table.name
            )
        })
        .ok()
}

/// The records that count, per source.
pub(super) fn records_of<'run>(
    sources: &'run [SourceNow],
    none: &'run SourceRecords,
) -> Vec<&'run SourceRecords> {
    let records = |source: &'run SourceNow| source.records.as_ref().unwrap_or(none);
    sources.iter().map(records).collect()
}

/// Records that were whole a moment ago cannot be read any more.
pub(super) fn not_planned(state: &State, what: &str, lost: &Lost) -> Failure {
    Failure {
        exit: Exit::NotWritten,
        what: format!("{what}: not looked at, since the records of a source cannot be read back"),
        place: state.directory().display().to_string(),
        why: lost.to_string(),
        in_force: Failure::NOTHING_TOUCHED.into(),
        next: "look for faults of the disk; the next run reads what is damaged anew".into(),
    }
}

/// One table being planned.
pub(super) struct Desk<'desk, 'run> {
    pub(super) run: &'desk Run<'run>,
    pub(super) state: &'desk State,
    pub(super) head: &'desk Head,
    pub(super) sources: &'desk [SourceNow],
    pub(super) domains: &'desk DomainsNow,
    pub(super) table: &'run Table,
    pub(super) folding: Folding,
}

impl<'run> Desk<'_, 'run> {
    pub(super) fn plan(&self, ledger: Option<Ledger>, wanted: Rows) -> Result<TablePlan<'run>> {
        // Without a ledger nothing is known to be ours.
        let known = ledger
            .as_ref()
            .and_then(|_| self.head.tables.get(&self.table.name));
        let on_disk = on_disk::look(self.table, known, &self.head.pending, self.folding)?;
        let is_first = ledger.is_none();
        let (in_force, values) = self
            .in_force(ledger.unwrap_or_default(), &on_disk, &wanted)
            .map_err(|lost| self.lost(&lost))?;
        let released = self.released();
        // What the configuration has no value for any more cannot be kept, whatever else waits.
        let kept = with_values(&in_force, &self.table.values);
        let evidence = Evidence {
            table: &self.table.name,
            kind: self.table.kind,
            in_force: &kept,
            wanted: &wanted,
            is_first,
            values_vary: on_disk.iter().any(has_varying_values),
            unread: on_disk.iter().find_map(unread),
            sources: &self.source_evidence(&released),
            domains: &self.domains.listed.forms(self.folding),
            domains_never_read: &self.domains.never_read,
            elsewhere: &self.domains.elsewhere,
            canaries_missing: &self.canaries_missing(&wanted),
            limits: &self.run.config.guard,
            grace: self.run.config.recipients.grace,
            window: &self.window(),
            released: &released,
            standing: &self.standing(),
            now: self.run.now,
            steady_since: self.head.steady_since,
        };
        let table_values = &self.table.values;
        // Nearly always everything flows, and then this is the difference.
        let (diff_of_wanted, judgement) = at_once(
            || Diff::between(&in_force, &values, &wanted, table_values),
            || guard::judge(&evidence),
        );
        let rows = judgement.approved.rows();
        let (diff, writes) = if judgement.leaves_alone() {
            (Diff::none(&in_force), Vec::new())
        } else {
            let diff = if rows.are_shared_with(&wanted) {
                diff_of_wanted
            } else {
                Diff::between(&in_force, &values, rows, table_values)
            };
            let writes = self.writes(&on_disk, rows, &diff, &judgement);
            (diff, writes)
        };
        let table = self.table;
        let folding = self.folding;
        Ok(TablePlan {
            table,
            folding,
            on_disk,
            in_force,
            values,
            wanted,
            judgement,
            diff,
            writes,
            is_first,
        })
    }

    /// Rows of the ledger, with sources renumbered, and rows of foreign files beside them.
    fn in_force(
        &self,
        ledger: Ledger,
        on_disk: &[OnDisk],
        wanted: &Rows,
    ) -> std::result::Result<(Rows, Values), Lost> {
        let numbers: Vec<SourceSet> = ledger
            .source_names
            .iter()
            .map(|name| self.sources.iter().position(|source| source.name == *name))
            .map(|number| number.map_or(SourceSet::default(), SourceSet::of))
            .collect();
        let renumbered = |set: SourceSet| {
            SourceSet(
                set.numbers()
                    .filter_map(|number| numbers.get(number))
                    .fold(0, |all, number| all | number.0),
            )
        };
        let mut values = Values {
            common: ledger.values.clone(),
            ..Values::default()
        };
        let mut unknown = BTreeSet::new();
        for (key, value) in on_disk.iter().flat_map(foreign_rows) {
            let known = ledger.rows.find(key);
            let meaning = known.map_or(Meaning::default(), |row| row.meaning());
            if *value != values.common.of(meaning).as_bytes() {
                values.others.insert(key.clone(), value.clone());
            }
            if known.is_none() && wanted.find(key).is_none() {
                unknown.insert(key.clone());
            }
        }
        let strangers = unknown.clone();
        let none = SourceRecords::default();
        let records = records_of(self.sources, &none);
        wanted::forget_known(&mut unknown, &records, self.folding)?;
        self.forget_published(&mut unknown);
        let mut beside: Vec<(&[u8], Facts)> = Vec::new();
        for file in on_disk {
            let only_in = self
                .formats_never_published(on_disk)
                .with(FormatSet::of(file.format));
            for (key, _) in foreign_rows(file) {
                let known = ledger.rows.find(key);
                if known.is_none_or(|row| !row.facts().only_in.is_empty()) {
                    let is_foreign = known.is_some_and(|row| row.facts().is_foreign)
                        || (strangers.contains(key) && unknown.contains(key));
                    let facts = Facts {
                        is_foreign,
                        only_in,
                        ..Facts::default()
                    };
                    beside.push((key, facts));
                }
            }
        }
        let is_renumbered =
            (numbers.iter().enumerate()).any(|(number, found)| *found != SourceSet::of(number));
        if beside.is_empty() && !is_renumbered {
            return Ok((ledger.rows, values));
        }
        let mut rows = RowsBuilder::default();
        for row in ledger.rows.iter() {
            let facts = Facts {
                sources: renumbered(row.facts().sources),
                ..row.facts()
            };
            rows.push(row.key, facts);
        }
        for (key, facts) in beside {
            rows.push(key, facts);
        }
        Ok((rows.finish(), values))
    }

    fn lost(&self, lost: &Lost) -> Box<Failure> {
        let table = format!("table {}", self.table.name);
        Box::new(not_planned(self.state, &table, lost))
    }

    /// Formats that the gateway has no file of yet: a table that is taken over is taken over into them whole.
    fn formats_never_published(&self, on_disk: &[OnDisk]) -> FormatSet {
        let known = self.head.tables.get(&self.table.name);
        let is_new = |file: &&OnDisk| {
            let is_known = |known: &TableState| {
                known
                    .artefacts
                    .iter()
                    .any(|known| known.format == file.format)
            };
            let is_absent = matches!(file.content, Content::Missing | Content::NoTable(..));
            is_absent && !known.is_some_and(is_known)
        };
        let new = on_disk.iter().filter(is_new);
        new.fold(FormatSet::default(), |all, file| {
            all.with(FormatSet::of(file.format))
        })
    }

    /// What a generation once added was known to a source then, so that a source that is read and does not show it has
    /// removed it. One that cannot be read may know it still: its last records can be older than the file, where state was
    /// put back from a backup.
    fn forget_published(&self, unknown: &mut BTreeSet<Vec<u8>>) {
        let is_unread = |source: &SourceNow| {
            matches!(
                source.status,
                SourceStatus::Frozen(_) | SourceStatus::Never(_)
            )
        };
        if unknown.is_empty() || self.sources.iter().any(is_unread) {
            return;
        }
        for generation in self
            .state
            .generation_numbers()
            .into_iter()
            .filter_map(|number| self.state.generation(number).ok())
        {
            for table in generation.tables {
                for key in table.added.keys() {
                    unknown.remove(key);
                }
            }
        }
    }

    fn source_evidence(&self, released: &Released) -> Vec<SourceEvidence> {
        let evidence = |source: &SourceNow| {
            let known = self.head.sources.get(&source.name);
            let is_approved = known.is_some_and(|known| known.is_empty_approved)
                || released.condition(Cause::SourceEmpty, &source.name);
            let is_current = matches!(
                source.status,
                SourceStatus::Complete { .. } | SourceStatus::Followed { .. }
            );
            SourceEvidence {
                name: source.name.clone(),
                is_removed: matches!(source.status, SourceStatus::Removed),
                is_never_complete: matches!(source.status, SourceStatus::Never(_)),
                is_empty: is_current && source.records_count == 0 && !is_approved,
                uncovered_referrals: source.uncovered_referrals.clone(),
            }
        };
        self.sources.iter().map(evidence).collect()
    }

    fn canaries_missing(&self, wanted: &Rows) -> Vec<String> {
        let canaries = self.run.config.guard.must_contain.iter();
        let is_missing = |canary: &&Address| {
            let row = |key: Key| wanted.find(key.as_str().as_bytes());
            !Key::all_of(canary, self.folding)
                .into_iter()
                .filter_map(row)
                .any(|row| !row.facts().sources.is_empty())
        };
        canaries
            .filter(is_missing)
            .map(ToString::to_string)
            .collect()
    }

    fn window(&self) -> Counts {
        let begins = self.run.now.before(self.run.config.guard.window);
        let mut counts = Counts::default();
        for removals in &self.head.removals {
            let at = self.head.waiting_since(removals.at, self.run.now);
            if removals.table == self.table.name && at > begins {
                counts.add(&removals.counts);
            }
        }
        counts
    }

    fn released(&self) -> Released {
        let mut released = Released::default();
        for (digest, hold) in &self.head.holds {
            if !hold.is_approved(self.run.now) || hold.table != self.table.name {
                continue;
            }
            match self.state.hold(digest) {
                Ok(hold) => released.release(hold),
                Err(lost) => tracing::warn!(
                    "the rows of approved hold {digest} are lost ({lost}); approve it again"
                ),
            }
        }
        released
    }

    /// Changes that were undone and still wait. One whose rows are lost holds everything: what was undone must not return by
    /// accident.
    fn standing(&self) -> Vec<Standing> {
        let holds = self.head.holds.iter().filter(|(_, hold)| {
            hold.is_current
                && hold.cause.stands()
                && hold.table == self.table.name
                && !hold.is_approved(self.run.now)
        });
        let standing = |(digest, known): (&String, &HoldState)| match self.state.hold(digest) {
            Ok(hold) => Standing::of(hold),
            Err(lost) => {
                tracing::warn!(
                    "the rows of hold {digest} ({}, {}) are lost ({lost}); every change of table {} waits",
                    known.cause.name(),
                    known.scope,
                    known.table
                );
                Standing::lost(known.cause, &known.scope)
            }
        };
        holds.map(standing).collect()
    }

    /// A file is written when it would differ. Behind a text that is written, the index is written too, so that it never
    /// is older than its source.
    fn writes(
        &self,
        on_disk: &[OnDisk],
        rows: &Rows,
        diff: &Diff,
        judgement: &Judgement,
    ) -> Vec<Format> {
        // Where nothing is in force and everything waits, there is no table to write: an empty one would refuse everybody.
        let is_held_back = rows.is_empty() && !judgement.holds.is_empty();
        let must_write = |file: &OnDisk| match &file.content {
            Content::Missing | Content::NoTable(..) | Content::Unread(_) => !is_held_back,
            // What an older template made is made anew, even if a gateway would see no change.
            Content::AsPublished(known) => {
                !diff.is_empty() || known.made_with != self.table.made_with(file.format)
            }
            Content::Foreign(_, found) => !says_the_same(
                &self.table.said(file.format, rows),
                found,
                &self.table.values,
            ),
        };
        let first = on_disk.iter().position(must_write);
        first.map_or_else(Vec::new, |first| {
            on_disk[first..].iter().map(|file| file.format).collect()
        })
    }
}

/// The rows that the configuration has values for, and those of others: an empty value crashes smtpd 3.7, and what
/// somebody else wrote goes by approval alone.
pub(super) fn with_values(rows: &Rows, values: &RowValues) -> Rows {
    if values.all().iter().all(|value| !value.is_empty()) {
        return rows.clone();
    }
    let mut kept = RowsBuilder::default();
    for row in rows.iter() {
        let facts = row.facts();
        let is_of_others = facts.is_foreign || !facts.only_in.is_empty();
        if is_of_others || !values.of(facts.meaning).is_empty() {
            kept.push(row.key, facts);
        }
    }
    kept.finish()
}

fn foreign_rows(file: &OnDisk) -> &[format::KeyValue] {
    match &file.content {
        Content::Foreign(_, rows) => rows,
        Content::Missing | Content::AsPublished(_) | Content::NoTable(..) | Content::Unread(_) => {
            &[]
        }
    }
}

/// The beginning of the digest of a file that nothing of ours reads: what is approved of is this one.
fn unread(file: &OnDisk) -> Option<&str> {
    match &file.content {
        Content::Unread(foreign) => foreign.artefact.digest.get(..12),
        Content::Missing
        | Content::AsPublished(_)
        | Content::Foreign(..)
        | Content::NoTable(..) => None,
    }
}

fn has_varying_values(file: &OnDisk) -> bool {
    foreign_rows(file)
        .windows(2)
        .any(|pair| pair[0].1 != pair[1].1)
}

fn says_the_same(said: &Said<'_>, found: &[format::KeyValue], values: &RowValues) -> bool {
    let mut found: Vec<&format::KeyValue> = found.iter().collect();
    found.sort();
    let found = found.iter();
    said.lines(values)
        .eq(found.map(|(key, value)| (key.as_slice(), value.as_slice())))
}
