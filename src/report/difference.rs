//! What a run would do or did, as one value: the JSON of `diff --format json`, and what the other formats are made from.
//!
//! The keys are an interface. `added` and `removed` are what would be published now; what is held stands under `holds`
//! alone. Counts are of keys, so an address in an international domain counts once per form. Keys and values are exact: whoever
//! shows them makes them harmless.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::at_once::at_once;
use crate::command::plan::{Plan, SourceNow, SourceStatus, TablePlan};
use crate::config::{Config, Format};
use crate::domains::{Forms, Numbering};
use crate::harmless::{exact, key};
use crate::hold::{Cause, Hold, Place};
use crate::policy::{LeftOut, Note, Noted};
use crate::state::head::Frozen;
use crate::state::runs::TableCounts;
use crate::table::format::Said;
use crate::table::rows::Row;
use crate::time::Timestamp;

/// The whole report.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Difference {
    /// Version of this layout.
    pub schema: u32,
    /// `unchanged`, `changed` or `held`.
    pub outcome: Outcome,
    /// Per table.
    pub tables: BTreeMap<String, TableDifference>,
    /// What waits.
    pub holds: Vec<HoldReport>,
    /// Per source.
    pub sources: BTreeMap<String, SourceReport>,
    /// Domains with signs that recipients of theirs live elsewhere, to the signs.
    pub elsewhere: BTreeMap<String, String>,
    /// Domains whose addresses no table decides on, to their policy.
    #[serde(default)]
    pub policies: BTreeMap<String, String>,
    /// Addresses in their grace.
    pub leaving: Vec<Leaving>,
    /// Values left out, by reason.
    pub left_out: LeftOut,
    /// Values accepted with a note, by note.
    pub noted: Noted,
}

/// What a run would come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing to publish.
    Unchanged,
    /// Something to publish.
    Changed,
    /// Something waits.
    Held,
}

/// One table.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TableDifference {
    /// Figures of the whole table.
    pub counts: TableCounts,
    /// Figures per domain.
    pub domains: BTreeMap<String, DomainCounts>,
    /// Keys that come.
    pub added: Vec<String>,
    /// Keys that go.
    pub removed: Vec<String>,
    /// Rows whose value changes.
    pub changed: Vec<ChangedReport>,
    /// Files that would be written though no row changes: missing, damaged, or with rows of their own.
    pub restored: Vec<String>,
    /// Where the objects are whose rows come and go (`command::plan::places`); empty where nobody looked, and for the rows of
    /// a first publication.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<Place>,
}

/// Figures of one domain in a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainCounts {
    /// Rows the gateway reads now.
    pub in_force: u64,
    /// Rows wanted.
    pub wanted: u64,
    /// Rows that come.
    pub added: u64,
    /// Rows that go.
    pub removed: u64,
    /// Changes that wait.
    pub held: u64,
}

/// A row whose value changes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ChangedReport {
    /// Its key.
    pub key: String,
    /// The value before.
    pub from: String,
    /// The value after.
    pub to: String,
}

/// A hold.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HoldReport {
    /// What `approve` takes.
    pub digest: String,
    /// Why.
    pub cause: Cause,
    /// About what.
    pub scope: String,
    /// The figure found.
    pub found: f64,
    /// The figure allowed.
    pub allowed: f64,
    /// The table.
    pub table: String,
    /// Keys that would come.
    pub added: Vec<String>,
    /// Keys that would go.
    pub removed: Vec<String>,
    /// Where the objects are that these keys are of; empty where nobody looked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<Place>,
}

/// A source.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SourceReport {
    /// How it was found.
    pub state: SourceKnown,
    /// Since when it is frozen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Why it is frozen.
    pub cause: Option<String>,
    /// The server or file that answered.
    pub answered_by: Option<String>,
    /// Its records.
    pub records: u64,
    /// Containers with mail-enabled public folders that no `base` of it reaches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub folders_out_of_reach: Vec<String>,
}

/// How a source was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceKnown {
    /// Read completely.
    Complete,
    /// Followed, and nothing had changed.
    Unchanged,
    /// Followed, and something had changed.
    Changed,
    /// Not readable now.
    Frozen,
    /// Never read completely.
    Never,
    /// Not in the configuration any more.
    Removed,
}

impl Outcome {
    /// As it stands in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Unchanged => "unchanged",
            Outcome::Changed => "changed",
            Outcome::Held => "held",
        }
    }
}

impl SourceKnown {
    /// As it stands in JSON.
    pub fn name(self) -> &'static str {
        match self {
            SourceKnown::Complete => "complete",
            SourceKnown::Unchanged => "unchanged",
            SourceKnown::Changed => "changed",
            SourceKnown::Frozen => "frozen",
            SourceKnown::Never => "never",
            SourceKnown::Removed => "removed",
        }
    }
}

/// An address in its grace.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Leaving {
    /// The address.
    pub address: String,
    /// When it goes.
    pub until: String,
}

impl Difference {
    /// The report of a plan. Of the rows that come and of those that go, no more than `rows_max` are listed.
    pub fn of(config: &Config, plan: &Plan<'_>, rows_max: usize) -> Difference {
        let holds: Vec<&Hold> = plan
            .tables
            .iter()
            .flat_map(|table| &table.judgement.holds)
            .collect();
        let outcome = match (holds.is_empty(), plan.is_change()) {
            (false, _) => Outcome::Held,
            (true, true) => Outcome::Changed,
            (true, false) => Outcome::Unchanged,
        };
        let of_table = |table: &TablePlan<'_>| {
            let name = table.table.name.clone();
            (name, of_table(plan, table, rows_max))
        };
        let (noted, tables) = at_once(
            || noted(plan),
            || plan.tables.iter().map(of_table).collect(),
        );
        Difference {
            schema: 1,
            outcome,
            tables,
            holds: holds.into_iter().map(HoldReport::of).collect(),
            sources: of_sources(&plan.sources, |name| {
                plan.domains.folders_out_of_reach(name)
            }),
            elsewhere: plan
                .domains
                .elsewhere
                .iter()
                .map(|found| (found.domain.clone(), found.signs_text()))
                .collect(),
            policies: (config.domains.policies.iter())
                .map(|(domain, policy)| (domain.to_string(), policy.name().to_owned()))
                .collect(),
            leaving: leaving(config, plan),
            left_out: plan.counted.left_out.clone(),
            noted,
        }
    }

    /// The same report, of a run that found the sources so, and their organisations as they were.
    pub fn set_sources(&mut self, sources: &[SourceNow]) {
        let before = std::mem::take(&mut self.sources);
        self.sources = of_sources(sources, |name| {
            let known = before.get(name);
            known.map_or_else(Vec::new, |known| known.folders_out_of_reach.clone())
        });
    }
}

fn of_sources(
    sources: &[SourceNow],
    folders_out_of_reach: impl Fn(&str) -> Vec<String>,
) -> BTreeMap<String, SourceReport> {
    let of_source = |source: &SourceNow| {
        let mut report = of_source(&source.status, source.records_count);
        report.folders_out_of_reach = folders_out_of_reach(&source.name);
        (source.name.clone(), report)
    };
    sources.iter().map(of_source).collect()
}

/// The figures of a table.
pub fn counts(table: &TablePlan<'_>) -> TableCounts {
    let held = table
        .judgement
        .holds
        .iter()
        .map(|hold| hold.added.len() + hold.removed.len())
        .sum::<usize>();
    TableCounts {
        in_force: table.in_force.len() as u64,
        wanted: table.wanted.len() as u64,
        added: table.diff.added.len() as u64,
        removed: table.diff.removed.len() as u64,
        changed: table.diff.changed.len() as u64,
        kept: table.diff.kept_count,
        held: held as u64,
    }
}

fn of_table(plan: &Plan<'_>, table: &TablePlan<'_>, rows_max: usize) -> TableDifference {
    let restored = if table.diff.is_empty() {
        table.writes.as_slice()
    } else {
        &[]
    };
    TableDifference {
        counts: counts(table),
        domains: of_domains(plan, table),
        added: table.diff.added.keys().take(rows_max).map(exact).collect(),
        removed: table
            .diff
            .removed
            .keys()
            .take(rows_max)
            .map(exact)
            .collect(),
        changed: table
            .diff
            .changed
            .iter()
            .map(|row| ChangedReport {
                key: exact(&row.key),
                from: exact(&row.from),
                to: exact(&row.to),
            })
            .collect(),
        restored: restored
            .iter()
            .map(|format| table.table.file(*format).display().to_string())
            .collect(),
        places: Vec::new(),
    }
}

fn of_domains(plan: &Plan<'_>, table: &TablePlan<'_>) -> BTreeMap<String, DomainCounts> {
    let forms = plan.domains.listed.forms(table.folding);
    let holds = || table.judgement.holds.iter();
    let held = holds().flat_map(|hold| hold.added.iter().chain(&hold.removed));
    let (in_force, mut others) = at_once(
        || by_domain(&forms, table.in_force.keys()),
        || {
            [
                by_domain(&forms, table.wanted.keys()),
                by_domain(&forms, table.diff.added.keys()),
                by_domain(&forms, table.diff.removed.keys()),
                by_domain(&forms, held.map(Vec::as_slice)),
            ]
        },
    );
    let names: BTreeSet<String> = (in_force.keys())
        .chain(others.iter().flat_map(BTreeMap::keys))
        .cloned()
        .collect();
    let of_name = |name: String| {
        let [wanted, added, removed, held] = others
            .each_mut()
            .map(|counts| counts.remove(&name).unwrap_or(0));
        let counts = DomainCounts {
            in_force: in_force.get(&name).copied().unwrap_or(0),
            wanted,
            added,
            removed,
            held,
        };
        (name, counts)
    };
    names.into_iter().map(of_name).collect()
}

/// How many keys lie in each domain.
pub fn by_domain<'keys>(
    forms: &Forms,
    keys: impl Iterator<Item = &'keys [u8]>,
) -> BTreeMap<String, u64> {
    let mut numbering = Numbering::of(forms);
    let mut counts: Vec<u64> = Vec::new();
    for found in keys {
        let number = numbering.number_of(found);
        if counts.len() <= number {
            counts.resize(number + 1, 0);
        }
        counts[number] += 1;
    }
    let named = numbering.names().iter().zip(counts);
    named
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| (key(name.as_bytes()), count))
        .collect()
}

impl HoldReport {
    /// A hold with all its rows.
    pub fn of(hold: &Hold) -> HoldReport {
        HoldReport {
            digest: hold.digest(),
            cause: hold.cause,
            scope: key(hold.scope.as_bytes()),
            found: hold.found,
            allowed: hold.allowed,
            table: hold.table.clone(),
            added: keys(&hold.added),
            removed: keys(&hold.removed),
            places: Vec::new(),
        }
    }
}

fn of_source(status: &SourceStatus, records: u64) -> SourceReport {
    let report = |state,
                  since: Option<Timestamp>,
                  cause: Option<&str>,
                  answered_by: Option<&str>| SourceReport {
        state,
        since: since.map(|since| since.to_string()),
        cause: cause.map(|cause| key(cause.as_bytes())),
        answered_by: answered_by.map(str::to_owned),
        records,
        folders_out_of_reach: Vec::new(),
    };
    let known = |state, frozen: &Frozen| {
        let (since, cause) = (Some(frozen.since), Some(frozen.cause.as_str()));
        report(state, since, cause, None)
    };
    match status {
        SourceStatus::Complete { answered_by, .. } => {
            report(SourceKnown::Complete, None, None, Some(answered_by))
        }
        SourceStatus::Followed {
            is_changed,
            followed,
            ..
        } => {
            let state = if *is_changed {
                SourceKnown::Changed
            } else {
                SourceKnown::Unchanged
            };
            report(state, None, None, Some(&followed.answered_by))
        }
        SourceStatus::Frozen(frozen) => known(SourceKnown::Frozen, frozen),
        SourceStatus::Never(frozen) => known(SourceKnown::Never, frozen),
        SourceStatus::Removed => report(SourceKnown::Removed, None, None, None),
    }
}

/// The notes of the policy, and keys that a published text cannot say, nor what is built from one.
fn noted(plan: &Plan<'_>) -> Noted {
    let mut noted = plan.counted.noted.clone();
    for (note, is_of) in [
        (
            Note::NotInText,
            (|format| format != Format::Template) as fn(Format) -> bool,
        ),
        (Note::NotInTemplate, |format| format == Format::Template),
    ] {
        let unsaid = |table: &TablePlan<'_>| {
            // A CDB says every key; there is nothing to look for.
            let formats = table.table.formats.iter();
            let said: Vec<Said<'_>> = formats
                .filter(|format| **format != Format::Cdb && is_of(**format))
                .map(|format| table.table.said(*format, &table.wanted))
                .collect();
            if said.is_empty() {
                return 0;
            }
            let is_unsaid = |row: &Row<'_>| !said.iter().all(|said| said.has(row));
            table.wanted.iter().filter(is_unsaid).count() as u64
        };
        let unsaid_count: u64 = plan.tables.iter().map(unsaid).sum();
        if unsaid_count > 0 {
            noted.insert(note, unsaid_count);
        }
    }
    noted
}

fn leaving(config: &Config, plan: &Plan<'_>) -> Vec<Leaving> {
    let mut found = BTreeMap::new();
    for row in plan
        .tables
        .iter()
        .flat_map(|table| table.judgement.approved.rows().iter())
    {
        if let Some(since) = row.facts().leaving_since {
            found.insert(
                exact(row.key),
                since.after(config.recipients.grace).to_string(),
            );
        }
    }
    found
        .into_iter()
        .map(|(address, until)| Leaving { address, until })
        .collect()
}

fn keys(keys: &[Vec<u8>]) -> Vec<String> {
    keys.iter().map(|bytes| exact(bytes)).collect()
}
