//! Read, decide, judge: everything of a run up to publishing. Writes nothing.
//!
//! `sync` carries a plan out, `diff` shows it; both are the same call, so a dry run is judged exactly as the real one.

pub mod back;
pub mod domains;
pub mod places;
pub mod settled;
pub mod sources;
mod tables;

use std::time::Instant;

use crate::config::{Config, Format, Table, TableFolding, TableKind};
use crate::current::{Controller, SourceRecords};
use crate::diff::{Diff, Values};
use crate::elsewhere::Elsewhere;
use crate::error::{Failure, Result};
use crate::exchange::Organisation;
use crate::exit::Exit;
use crate::fold::Folding;
use crate::guard::Judgement;
use crate::policy::Counted;
use crate::postfix::Gateway;
use crate::publish::on_disk::{Content, OnDisk};
use crate::report::difference::Difference;
use crate::snapshot::{Cursor, Followed, Progress, Reading};
use crate::state::files::{Ledger, Origin};
use crate::state::head::{Frozen, Head};
use crate::state::runs::{Stage, Stages};
use crate::state::{Lost, State};
use crate::table::rows::Rows;
use crate::table::wanted::{self, Wanted};
use crate::time::{Clocks, Timestamp};
use domains::DomainsNow;
use tables::Desk;

/// A run under way: the configuration, and the time, taken once.
#[derive(Debug)]
pub struct Run<'run> {
    /// The configuration.
    pub config: &'run Config,
    /// Which run.
    pub id: String,
    /// When it began.
    pub now: Timestamp,
    /// The clocks then.
    pub clocks: Clocks,
    /// When it must be over.
    pub deadline: Instant,
    /// Whether everything is read, whatever could be followed.
    pub is_full: bool,
    /// Whether nothing is read: what is stored of each source counts.
    pub is_stored: bool,
    /// How far the reading is.
    pub progress: &'run Progress,
}

/// What became of planning.
#[derive(Debug)]
pub enum Planned<'run> {
    /// Nothing is new since the last run, which left nothing to do.
    Quiet(settled::Quiet),
    /// A plan was made.
    Made(Plan<'run>),
}

/// What a run found and what it would do.
#[derive(Debug)]
pub struct Plan<'run> {
    /// Per configured source, then per removed one.
    pub sources: Vec<SourceNow>,
    /// The names behind the numbers in the rows.
    pub source_names: Vec<String>,
    /// What the generation will come from.
    pub origin: Origin,
    /// The domains that rows may exist for.
    pub domains: DomainsNow,
    /// Per table.
    pub tables: Vec<TablePlan<'run>>,
    /// Values left out, by reason, and values accepted with a note.
    pub counted: Counted,
    /// What failed without ending the run.
    pub failures: Vec<Failure>,
    /// What the local Postfix says, where it was asked.
    gateway: Option<Gateway>,
}

impl Planned<'_> {
    /// The plan, where one was made.
    pub fn made(&self) -> Option<&Plan<'_>> {
        match self {
            Planned::Quiet(_) => None,
            Planned::Made(plan) => Some(plan),
        }
    }

    /// Its report. Of the rows that come and of those that go, no more than `rows_max` are listed.
    pub fn difference(&self, config: &Config, rows_max: usize) -> Difference {
        match self {
            Planned::Quiet(quiet) => quiet.difference.clone(),
            Planned::Made(plan) => Difference::of(config, plan, rows_max),
        }
    }

    /// What each source said.
    pub fn sources(&self) -> &[SourceNow] {
        match self {
            Planned::Quiet(quiet) => &quiet.sources,
            Planned::Made(plan) => &plan.sources,
        }
    }
}

/// A source in this run.
#[derive(Debug)]
pub struct SourceNow {
    /// Its name.
    pub name: String,
    /// Its records: those just read, or the last complete ones. `None` where they are those stored and nobody needs them.
    pub records: Option<SourceRecords>,
    /// How many there are.
    pub records_count: u64,
    /// How it was found.
    pub status: SourceStatus,
    /// Search references that no source covers.
    pub uncovered_referrals: Vec<String>,
    /// What was read of Exchange's organisation, until the domains of the run are found from it.
    pub organisation: Option<Result<Organisation>>,
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
        /// Which controller that is, where there may be several.
        controller: Option<Controller>,
        /// From where its changes can be followed.
        cursor: Option<Cursor>,
        /// When the certificate that the server showed ends.
        certificate_ends: Option<Timestamp>,
    },
    /// Followed from the last answer to its present state.
    Followed {
        /// What the directory told.
        followed: Followed,
        /// Whether any record is other than before.
        is_changed: bool,
        /// Whether records that another controller showed have been missing for long enough.
        is_expired: bool,
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
        !self.judgement.leaves_alone() && (!self.is_first || !self.writes.is_empty() || is_found)
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

/// Reads the sources and makes the plan of a run.
pub fn make<'run>(
    run: &Run<'run>,
    state: &State,
    head: &Head,
    stages: &mut Stages,
) -> Planned<'run> {
    let began = Instant::now();
    let readings = sources::read(run, state, head);
    stages.end(Stage::Read, began);
    let began = Instant::now();
    let planned = decide_all(run, state, head, readings);
    stages.end(Stage::Decide, began);
    planned
}

/// Makes the plan of what the sources said.
fn decide_all<'run>(
    run: &Run<'run>,
    state: &State,
    head: &Head,
    readings: Vec<Result<Reading>>,
) -> Planned<'run> {
    run.progress.stage("deciding who is a recipient");
    let needs_gateway = (run.config.tables.iter()).any(|table| table.folding == TableFolding::Auto);
    let gateway = if needs_gateway { Gateway::ask() } else { None };
    let relayed = domains::read_relayed(run, head);
    let found = settled::Found {
        readings: &readings,
        relayed: relayed.as_ref(),
        gateway: gateway.as_ref(),
    };
    if let Some(quiet) = settled::find(run, state, head, &found) {
        return Planned::Quiet(quiet);
    }
    let mut failures = Vec::new();
    let mut sources = sources::now(run, state, head, readings, &mut failures);
    let mut domains = domains::resolve(run, head, &mut sources, relayed.as_ref(), &mut failures);
    let mut planned_tables = run.config.tables.as_slice();
    let mut wanted = Vec::new();
    // Before the ledgers: what they hold must not be in memory while rows are sorted.
    match decide(run, &sources, &domains, gateway.as_ref()) {
        Ok(decided) => (wanted, domains.elsewhere) = decided,
        Err(lost) => {
            // What is wanted is not known, or what speaks against it.
            failures.push(tables::not_planned(state, "the tables", &lost));
            planned_tables = &[];
        }
    }
    let ledgers: Vec<Option<Ledger>> = planned_tables
        .iter()
        .map(|table| tables::ledger_of(state, head, table))
        .collect();
    add_removed(&mut sources, &ledgers);
    let mut counted = Counted::default();
    let mut tables = Vec::new();
    let planned = planned_tables.iter().zip(ledgers).zip(wanted);
    for ((table, ledger), wanted) in planned {
        let desk = Desk {
            run,
            state,
            head,
            sources: &sources,
            domains: &domains,
            table,
            folding: wanted.folding,
        };
        match desk.plan(ledger, wanted.rows) {
            Ok(plan) => {
                if wanted.kind.has_addresses() {
                    counted = wanted.counted;
                }
                tables.push(plan);
            }
            // One table that cannot be looked at keeps neither the others nor what the sources said waiting.
            Err(failure) => failures.push(*failure),
        }
    }
    Planned::Made(Plan {
        source_names: (sources.iter().map(|source| source.name.clone())).collect(),
        origin: Origin::Sync,
        sources,
        domains,
        tables,
        counted,
        failures,
        gateway,
    })
}

/// What is wanted in each table, with the folding of its keys, and what speaks against publishing some domains.
fn decide(
    run: &Run<'_>,
    sources: &[SourceNow],
    domains: &DomainsNow,
    gateway: Option<&Gateway>,
) -> std::result::Result<(Vec<Wanted>, Vec<Elsewhere>), Lost> {
    let none = SourceRecords::default();
    let records = tables::records_of(sources, &none);
    let mut wanted: Vec<Wanted> = Vec::new();
    for table in &run.config.tables {
        let folding = folding(table, gateway);
        // Which rows of a table of transports are wanted depends on its values.
        let is_alike = |known: &&Wanted| {
            known.kind == table.kind
                && known.folding == folding
                && table.kind != TableKind::Transport
        };
        wanted.push(match wanted.iter().find(is_alike).cloned() {
            Some(known) => known,
            None => wanted::rows(run.config, table, &domains.listed, &records, folding)?,
        });
    }
    // What a source gives to a domain is the same for every folding and every kind that has addresses.
    let with_addresses = wanted.iter().find(|wanted| wanted.kind.has_addresses());
    let given = with_addresses.map_or(&[][..], |wanted| &wanted.given);
    let elsewhere = domains::find_elsewhere(run, domains, given);
    Ok((wanted, elsewhere))
}

/// Sources that are not in the configuration any more, and still have rows.
fn add_removed(sources: &mut Vec<SourceNow>, ledgers: &[Option<Ledger>]) {
    for name in ledgers.iter().flatten().flat_map(Ledger::sources_in_use) {
        if !sources.iter().any(|source| source.name == name) {
            sources.push(SourceNow {
                name: name.to_owned(),
                records: None,
                records_count: 0,
                status: SourceStatus::Removed,
                uncovered_referrals: Vec::new(),
                organisation: None,
            });
        }
    }
}

/// How the keys of a table are folded.
fn folding(table: &Table, gateway: Option<&Gateway>) -> Folding {
    match table.folding {
        TableFolding::Auto => gateway.map_or(Folding::Unicode, Gateway::folding),
        TableFolding::Fixed(folding) => folding,
    }
}
