//! What a run would do or did, as one value: the JSON of `diff --format json`, and what the other formats are made from.
//!
//! The keys are an interface. `added` and `removed` are what would be published now; what is held stands under `holds`
//! alone. Counts are of keys, so an address in an international domain counts once per form.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::command::plan::{Plan, SourceStatus, TablePlan};
use crate::config::{Config, Format};
use crate::hold::{Cause, Hold};
use crate::keys::domain_part;
use crate::policy::{LeftOut, Note, Noted};
use crate::report::key;
use crate::state::runs::TableCounts;
use crate::table::format::is_said;
use crate::time::Timestamp;

/// The whole report.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    /// Version of this layout.
    pub schema: u32,
    /// `unchanged`, `changed` or `held`.
    pub outcome: &'static str,
    /// Per table.
    pub tables: BTreeMap<String, TableDifference>,
    /// What waits.
    pub holds: Vec<HoldReport>,
    /// Per source.
    pub sources: BTreeMap<String, SourceReport>,
    /// Domains with signs that recipients of theirs live elsewhere, to the signs.
    pub elsewhere: BTreeMap<String, String>,
    /// Addresses in their grace.
    pub leaving: Vec<Leaving>,
    /// Values left out, by reason.
    pub left_out: LeftOut,
    /// Values accepted with a note, by note.
    pub noted: Noted,
}

/// One table.
#[derive(Clone, Debug, Default, Serialize)]
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
}

/// Figures of one domain in a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
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
#[derive(Clone, Debug, Serialize)]
pub struct ChangedReport {
    /// Its key.
    pub key: String,
    /// The value before.
    pub from: String,
    /// The value after.
    pub to: String,
}

/// A hold.
#[derive(Clone, Debug, Serialize)]
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
}

/// A source.
#[derive(Clone, Debug, Serialize)]
pub struct SourceReport {
    /// `complete`, `frozen`, `never` or `removed`.
    pub state: &'static str,
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
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub folders_out_of_reach: Vec<String>,
}

/// An address in its grace.
#[derive(Clone, Debug, Serialize)]
pub struct Leaving {
    /// The address.
    pub address: String,
    /// When it goes.
    pub until: String,
}

impl Difference {
    /// The report of a plan.
    pub fn of(config: &Config, plan: &Plan<'_>) -> Difference {
        let holds: Vec<&Hold> = plan
            .tables
            .iter()
            .flat_map(|table| &table.judgement.holds)
            .collect();
        let outcome = match (holds.is_empty(), plan.is_change()) {
            (false, _) => "held",
            (true, true) => "changed",
            (true, false) => "unchanged",
        };
        Difference {
            schema: 1,
            outcome,
            tables: plan
                .tables
                .iter()
                .map(|table| (table.table.name.clone(), of_table(plan, table)))
                .collect(),
            holds: holds.into_iter().map(of_hold).collect(),
            sources: plan
                .sources
                .iter()
                .map(|source| {
                    let mut report = of_source(&source.status, source.records.len() as u64);
                    report.folders_out_of_reach = plan.domains.folders_out_of_reach(&source.name);
                    (source.name.clone(), report)
                })
                .collect(),
            elsewhere: plan
                .domains
                .elsewhere
                .iter()
                .map(|found| (found.domain.clone(), found.signs_text()))
                .collect(),
            leaving: leaving(config, plan),
            left_out: plan.counted.left_out.clone(),
            noted: noted(plan),
        }
    }
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

fn of_table(plan: &Plan<'_>, table: &TablePlan<'_>) -> TableDifference {
    let forms = plan.domains.listed.forms(table.folding);
    let mut domains: BTreeMap<String, DomainCounts> = BTreeMap::new();
    let mut tally = |keys: &mut dyn Iterator<Item = &[u8]>,
                     field: fn(&mut DomainCounts) -> &mut u64| {
        for found in keys {
            let part = domain_part(found);
            let name = forms.name_of(part).map_or_else(|| key(part), str::to_owned);
            *field(domains.entry(name).or_default()) += 1;
        }
    };
    tally(&mut table.in_force.keys(), |counts| &mut counts.in_force);
    tally(&mut table.wanted.keys(), |counts| &mut counts.wanted);
    tally(&mut table.diff.added.iter().map(Vec::as_slice), |counts| {
        &mut counts.added
    });
    tally(
        &mut table.diff.removed.iter().map(Vec::as_slice),
        |counts| &mut counts.removed,
    );
    let held = table
        .judgement
        .holds
        .iter()
        .flat_map(|hold| hold.added.iter().chain(&hold.removed));
    tally(&mut held.map(Vec::as_slice), |counts| &mut counts.held);

    let restored = if table.diff.is_empty() {
        table.writes.as_slice()
    } else {
        &[]
    };
    TableDifference {
        counts: counts(table),
        domains,
        added: keys(&table.diff.added),
        removed: keys(&table.diff.removed),
        changed: table
            .diff
            .changed
            .iter()
            .map(|row| ChangedReport {
                key: key(&row.key),
                from: key(&row.from),
                to: key(&row.to),
            })
            .collect(),
        restored: restored
            .iter()
            .map(|format| table.table.file(*format).display().to_string())
            .collect(),
    }
}

fn of_hold(hold: &Hold) -> HoldReport {
    HoldReport {
        digest: hold.digest(),
        cause: hold.cause,
        scope: key(hold.scope.as_bytes()),
        found: hold.found,
        allowed: hold.allowed,
        table: hold.table.clone(),
        added: keys(&hold.added),
        removed: keys(&hold.removed),
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
    match status {
        SourceStatus::Complete { answered_by, .. } => {
            report("complete", None, None, Some(answered_by))
        }
        SourceStatus::Frozen(frozen) => {
            report("frozen", Some(frozen.since), Some(&frozen.cause), None)
        }
        SourceStatus::Never(frozen) => {
            report("never", Some(frozen.since), Some(&frozen.cause), None)
        }
        SourceStatus::Removed => report("removed", None, None, None),
    }
}

/// The notes of the policy, and keys that a published text cannot say.
fn noted(plan: &Plan<'_>) -> Noted {
    let mut noted = plan.counted.noted.clone();
    let texts = plan
        .tables
        .iter()
        .filter(|table| table.table.formats.contains(&Format::Text));
    let unsaid = |table: &TablePlan<'_>| {
        table
            .wanted
            .iter()
            .filter(|row| !is_said(Format::Text, row))
            .count() as u64
    };
    let unsaid_count: u64 = texts.map(unsaid).sum();
    if unsaid_count > 0 {
        noted.insert(Note::NotInText, unsaid_count);
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
        if let Some(since) = row.facts.leaving_since {
            found.insert(
                key(row.key),
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
    keys.iter().map(|bytes| key(bytes)).collect()
}
