//! Read, decide, judge: everything of a run up to publishing. Writes nothing.
//!
//! `sync` carries a plan out, `diff` shows it; both are the same call, so a dry run is judged exactly as the real one.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::config::{Config, Format, Source, Table, TableFolding};
use crate::diff::{Diff, Values};
use crate::error::{Failure, Result};
use crate::exit::Exit;
use crate::fold::Folding;
use crate::guard::{self, Counts, Evidence, Judgement, SourceEvidence};
use crate::hold::{Cause, Released};
use crate::keys::Key;
use crate::policy::LeftOut;
use crate::postfix::Gateway;
use crate::publish::on_disk::{self, Content, OnDisk};
use crate::record::Record;
use crate::report::key;
use crate::snapshot::{Progress, Snapshot};
use crate::source::{self, referral};
use crate::state::State;
use crate::state::files::Ledger;
use crate::state::head::{Frozen, Head, SourceState, TableState};
use crate::table::format::{self, Said};
use crate::table::rows::{Facts, FormatSet, Rows, RowsBuilder, SourceSet};
use crate::table::wanted;
use crate::time::Timestamp;

/// A run under way: the configuration, and the time, taken once.
#[derive(Debug)]
pub struct Run<'run> {
    /// The configuration.
    pub config: &'run Config,
    /// Which run.
    pub id: String,
    /// When it began.
    pub now: Timestamp,
    /// When it must be over.
    pub deadline: Instant,
    /// How far the reading is.
    pub progress: &'run Progress,
}

/// What a run found and what it would do.
#[derive(Debug)]
pub struct Plan<'run> {
    /// Per configured source, then per removed one.
    pub sources: Vec<SourceNow>,
    /// Per table.
    pub tables: Vec<TablePlan<'run>>,
    /// Values left out, by reason.
    pub left_out: LeftOut,
    /// What failed without ending the run.
    pub failures: Vec<Failure>,
}

/// A source in this run.
#[derive(Debug)]
pub struct SourceNow {
    /// Its name.
    pub name: String,
    /// Its records: those just read, or the last complete ones.
    pub records: Vec<Record>,
    /// How it was found.
    pub status: SourceStatus,
    /// Search references that no source covers.
    pub uncovered_referrals: Vec<String>,
}

/// How a source was found.
#[derive(Debug)]
pub enum SourceStatus {
    /// Read completely now.
    Complete {
        /// The server or file.
        answered_by: String,
        /// Search references met.
        referrals: Vec<String>,
    },
    /// Not readable; the records are those of its last complete read.
    Frozen(Frozen),
    /// Never read completely.
    Never(Frozen),
    /// Not in the configuration any more.
    Removed,
}

/// A table in this run.
#[derive(Debug)]
pub struct TablePlan<'run> {
    /// Its configuration.
    pub table: &'run Table,
    /// The folding of its keys.
    pub folding: Folding,
    /// What is at its paths.
    pub on_disk: Vec<OnDisk>,
    /// What the gateway reads now.
    pub in_force: Rows,
    /// With which values.
    pub values: Values,
    /// Rows wanted.
    pub wanted: Rows,
    /// What flows and what waits.
    pub judgement: Judgement,
    /// What the gateway would see change.
    pub diff: Diff,
    /// The formats to write.
    pub writes: Vec<Format>,
    /// Whether this program never published it.
    pub is_first: bool,
}

impl TablePlan<'_> {
    /// Whether the table is this program's to remember. One that it never published is not while all of it waits: its
    /// next publication is still the first.
    pub fn is_ours(&self) -> bool {
        let is_found = self
            .on_disk
            .iter()
            .any(|file| matches!(file.content, Content::Foreign(..)));
        let is_left_alone = self
            .judgement
            .holds
            .iter()
            .any(|hold| hold.cause == Cause::ForeignValues);
        !is_left_alone && (!self.is_first || !self.writes.is_empty() || is_found)
    }
}

impl Plan<'_> {
    /// Whether carrying it out would replace a file.
    pub fn is_change(&self) -> bool {
        self.tables.iter().any(|table| !table.writes.is_empty())
    }

    /// Everything that is true of the plan, for the exit code.
    pub fn exits(&self) -> Vec<Exit> {
        let mut exits: Vec<Exit> = self.failures.iter().map(|failure| failure.exit).collect();
        if self
            .tables
            .iter()
            .any(|table| !table.judgement.holds.is_empty())
        {
            exits.push(Exit::Held);
        }
        exits
    }
}

/// Makes the plan of a run.
pub fn make<'run>(run: &Run<'run>, state: &State, head: &Head) -> Result<Plan<'run>> {
    let mut failures = Vec::new();
    let mut sources = read_sources(run, state, head, &mut failures);
    let ledgers: Vec<Option<Ledger>> = run
        .config
        .tables
        .iter()
        .map(|table| ledger_of(state, head, table))
        .collect();
    for name in ledgers.iter().flatten().flat_map(Ledger::sources_in_use) {
        if !sources.iter().any(|source| source.name == name) {
            let (name, status) = (name.to_owned(), SourceStatus::Removed);
            sources.push(SourceNow {
                name,
                records: Vec::new(),
                status,
                uncovered_referrals: Vec::new(),
            });
        }
    }
    let mut left_out = LeftOut::new();
    let mut tables = Vec::new();
    let needs_gateway = run
        .config
        .tables
        .iter()
        .any(|table| table.folding == TableFolding::Auto);
    let gateway = if needs_gateway { Gateway::ask() } else { None };
    for (table, ledger) in run.config.tables.iter().zip(ledgers) {
        let folding = match table.folding {
            TableFolding::Auto => gateway.as_ref().map_or(Folding::Unicode, Gateway::folding),
            TableFolding::Fixed(folding) => folding,
        };
        let desk = Desk {
            run,
            state,
            head,
            sources: &sources,
            table,
            folding,
        };
        let (plan, of_table) = desk.plan(ledger)?;
        left_out = of_table;
        tables.push(plan);
    }
    Ok(Plan {
        sources,
        tables,
        left_out,
        failures,
    })
}

fn ledger_of(state: &State, head: &Head, table: &Table) -> Option<Ledger> {
    let known = head
        .tables
        .get(&table.name)
        .filter(|known| known.ledger > 0)?;
    state
        .ledger(&table.name, known.ledger)
        .inspect_err(|lost| {
            tracing::warn!(
                "table {}: its ledger is lost ({lost}); the files count as foreign",
                table.name
            )
        })
        .ok()
}

/// Reads all sources, each in its own thread, and stands in the last complete records of those that failed.
fn read_sources(
    run: &Run<'_>,
    state: &State,
    head: &Head,
    failures: &mut Vec<Failure>,
) -> Vec<SourceNow> {
    let readings: Vec<Result<Snapshot>> =
        source::read_all(&run.config.sources, run.now, run.deadline, run.progress);
    let mut sources = Vec::new();
    for (source, reading) in run.config.sources.iter().zip(readings) {
        let known = head.sources.get(&source.name);
        sources.push(match reading {
            Ok(snapshot) => complete(run, source, snapshot),
            Err(failure) => {
                let (now, failure) = stand_in(run, state, source, known, *failure);
                failures.push(failure);
                now
            }
        });
    }
    sources
}

fn complete(run: &Run<'_>, source: &Source, snapshot: Snapshot) -> SourceNow {
    let (records, answered_by, referrals) = snapshot.into_parts();
    let uncovered_referrals = referral::uncovered(&referrals, &run.config.sources);
    for referral in &uncovered_referrals {
        tracing::warn!(
            source = source.name,
            "no source covers {}, to which the directory refers",
            key(referral.as_bytes())
        );
    }
    tracing::info!(
        source = source.name,
        records = records.len(),
        "read completely from {answered_by}"
    );
    let status = SourceStatus::Complete {
        answered_by,
        referrals,
    };
    SourceNow {
        name: source.name.clone(),
        records,
        status,
        uncovered_referrals,
    }
}

fn stand_in(
    run: &Run<'_>,
    state: &State,
    source: &Source,
    known: Option<&SourceState>,
    mut failure: Failure,
) -> (SourceNow, Failure) {
    let since = known
        .and_then(|known| known.frozen.as_ref())
        .map_or(run.now, |frozen| frozen.since);
    let frozen = Frozen {
        since,
        cause: format!("{}: {}", failure.what, failure.why),
    };
    let last = known.and_then(|known| Some((known, known.base?)));
    let records = last.and_then(|(known, base)| match state.records(&source.name, base) {
        Ok(records) => Some((known, records)),
        Err(lost) => {
            tracing::warn!(
                source = source.name,
                "its stored records are lost ({lost}); it counts as never read"
            );
            None
        }
    });
    let (records, status, uncovered_referrals) = match records {
        Some((known, records)) => {
            let when = known
                .complete_at
                .map_or_else(String::new, |at| format!(" as of {at}"));
            failure.in_force = format!(
                "its {} recipients stay{when}; other sources are current",
                records.len()
            );
            let uncovered = referral::uncovered(&known.referrals, &run.config.sources);
            (records, SourceStatus::Frozen(frozen), uncovered)
        }
        None => {
            failure.in_force =
                "it was never read completely, so nothing is removed from any table".into();
            (Vec::new(), SourceStatus::Never(frozen), Vec::new())
        }
    };
    (
        SourceNow {
            name: source.name.clone(),
            records,
            status,
            uncovered_referrals,
        },
        failure,
    )
}

/// One table being planned.
struct Desk<'desk, 'run> {
    run: &'desk Run<'run>,
    state: &'desk State,
    head: &'desk Head,
    sources: &'desk [SourceNow],
    table: &'run Table,
    folding: Folding,
}

impl<'run> Desk<'_, 'run> {
    fn plan(&self, ledger: Option<Ledger>) -> Result<(TablePlan<'run>, LeftOut)> {
        let records: Vec<&[Record]> = self
            .sources
            .iter()
            .map(|source| source.records.as_slice())
            .collect();
        let (wanted, left_out) = wanted::rows(self.run.config, &records, self.folding);
        // Without a ledger nothing is known to be ours.
        let known = ledger
            .as_ref()
            .and_then(|_| self.head.tables.get(&self.table.name));
        let on_disk = on_disk::look(self.table, known, &self.head.pending, self.folding)?;
        let is_first = ledger.is_none();
        let (in_force, values) =
            self.in_force(ledger.unwrap_or_default(), &on_disk, &wanted, &records);
        let released = self.released();
        let evidence = Evidence {
            table: &self.table.name,
            in_force: &in_force,
            wanted: &wanted,
            is_first,
            values_vary: on_disk.iter().any(has_varying_values),
            sources: &self.source_evidence(&released),
            domains: &wanted::domain_forms(&self.run.config.domains, self.folding),
            canaries_missing: &self.canaries_missing(&wanted),
            limits: &self.run.config.guard,
            grace: self.run.config.recipients.grace,
            window: &self.window(),
            released: &released,
            now: self.run.now,
        };
        let judgement = guard::judge(&evidence);
        // A file that may serve as another kind of map is left alone altogether, values included.
        let is_left_alone = judgement
            .holds
            .iter()
            .any(|hold| hold.cause == Cause::ForeignValues);
        let rows = judgement.approved.rows();
        let (diff, writes) = if is_left_alone {
            (Diff::none(&in_force), Vec::new())
        } else {
            let diff = Diff::between(&in_force, &values, rows, &self.table.value);
            let writes = self.writes(&on_disk, rows, &diff, &judgement);
            (diff, writes)
        };
        let table = self.table;
        let folding = self.folding;
        Ok((
            TablePlan {
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
            },
            left_out,
        ))
    }

    /// Rows of the ledger, with sources renumbered, and rows of foreign files beside them.
    fn in_force(
        &self,
        ledger: Ledger,
        on_disk: &[OnDisk],
        wanted: &Rows,
        records: &[&[Record]],
    ) -> (Rows, Values) {
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
        let mut rows = RowsBuilder::default();
        for row in ledger.rows.iter() {
            rows.push(
                row.key,
                Facts {
                    sources: renumbered(row.facts.sources),
                    ..row.facts
                },
            );
        }
        let mut values = Values {
            common: ledger.value.into_bytes(),
            ..Values::default()
        };
        let mut unknown = BTreeSet::new();
        for (key, value) in on_disk.iter().flat_map(foreign_rows) {
            if *value != values.common {
                values.others.insert(key.clone(), value.clone());
            }
            if ledger.rows.find(key).is_none() && wanted.find(key).is_none() {
                unknown.insert(key.clone());
            }
        }
        let strangers = unknown.clone();
        wanted::forget_known(&mut unknown, records, self.folding);
        self.forget_published(&mut unknown);
        for file in on_disk {
            let only_in = self
                .formats_never_published(on_disk)
                .with(FormatSet::of(file.format));
            for (key, _) in foreign_rows(file) {
                let known = ledger.rows.find(key);
                if known.is_none_or(|row| !row.facts.only_in.is_empty()) {
                    let is_foreign = known.is_some_and(|row| row.facts.is_foreign)
                        || (strangers.contains(key) && unknown.contains(key));
                    let facts = Facts {
                        is_foreign,
                        only_in,
                        ..Facts::default()
                    };
                    rows.push(key, facts);
                }
            }
        }
        (rows.finish(), values)
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

    /// What a generation once added was known to a source then.
    fn forget_published(&self, unknown: &mut BTreeSet<Vec<u8>>) {
        if unknown.is_empty() {
            return;
        }
        for generation in self
            .state
            .generation_numbers()
            .into_iter()
            .filter_map(|number| self.state.generation(number).ok())
        {
            for table in generation.tables {
                for key in &table.added {
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
            let is_complete = matches!(source.status, SourceStatus::Complete { .. });
            SourceEvidence {
                name: source.name.clone(),
                is_removed: matches!(source.status, SourceStatus::Removed),
                is_never_complete: matches!(source.status, SourceStatus::Never(_)),
                is_empty: is_complete && source.records.is_empty() && !is_approved,
                uncovered_referrals: source.uncovered_referrals.clone(),
            }
        };
        self.sources.iter().map(evidence).collect()
    }

    fn canaries_missing(&self, wanted: &Rows) -> Vec<String> {
        let canaries = self.run.config.guard.must_contain.iter();
        let is_missing = |canary: &&crate::address::Address| {
            let row = |key: Key| wanted.find(key.as_str().as_bytes());
            !Key::all_of(canary, self.folding)
                .into_iter()
                .filter_map(row)
                .any(|row| !row.facts.sources.is_empty())
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
            if removals.table == self.table.name && removals.at > begins {
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
            Content::Missing | Content::NoTable(..) => !is_held_back,
            Content::AsPublished(_) => !diff.is_empty(),
            Content::Foreign(_, found) => {
                !says_the_same(file.format, found, rows, &self.table.value)
            }
        };
        let first = on_disk.iter().position(must_write);
        first.map_or_else(Vec::new, |first| {
            on_disk[first..].iter().map(|file| file.format).collect()
        })
    }
}

fn foreign_rows(file: &OnDisk) -> &[format::KeyValue] {
    match &file.content {
        Content::Foreign(_, rows) => rows,
        Content::Missing | Content::AsPublished(_) | Content::NoTable(..) => &[],
    }
}

fn has_varying_values(file: &OnDisk) -> bool {
    foreign_rows(file)
        .windows(2)
        .any(|pair| pair[0].1 != pair[1].1)
}

fn says_the_same(format: Format, found: &[format::KeyValue], rows: &Rows, value: &str) -> bool {
    let mut found: Vec<&format::KeyValue> = found.iter().collect();
    found.sort();
    let said = Said::of(format, rows);
    found.iter().all(|(_, other)| other == value.as_bytes())
        && found
            .iter()
            .map(|(key, _)| key.as_slice())
            .eq(said.rows().keys())
}
