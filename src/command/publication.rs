//! Carrying a plan out: the steps between judgement and hooks, in the order that survives a kill at any point.
//!
//! What was found is stored already (`facts`). First every file is prepared and proven; then the generation and the
//! ledgers are written; then head.json names the renames (from here on the next run finishes them); then the renames;
//! the caller's last head.json is the commit.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;

use super::plan::{Plan, Run, TablePlan};
use crate::at_once::at_once;
use crate::config::{Hook, HookInput};
use crate::error::Result;
use crate::harmless::{exact, inert_json};
use crate::hook::Told;
use crate::publish::on_disk::{Content, Foreign, OnDisk};
use crate::publish::{self, Prepared};
use crate::report::difference::by_domain;
use crate::state::files::{Generation, GenerationTable, Ledger, Origin, original_name};
use crate::state::head::{
    Artefact, DOMAINS_KEPT, Head, OTHER_DOMAINS, Removals, TableState, ToProve,
};
use crate::state::{State, digest};
use crate::table::rows::Rows;

/// Generations that are kept whatever their age.
const GENERATIONS_KEPT_MIN: usize = 20;

/// What was published.
#[derive(Clone, Debug)]
pub struct Published {
    /// The generation's number.
    pub generation: u64,
    /// The files replaced.
    pub paths: Vec<String>,
}

/// Puts the plan in force. Where this fails before the decision, `head` is as it was and every old table stays.
pub fn publish(
    run: &Run<'_>,
    state: &State,
    plan: &Plan<'_>,
    to_prove: Option<ToProve>,
    head: &mut Head,
) -> Result<Option<Published>> {
    let mut next = head.clone();
    let is_large =
        (plan.tables.iter()).any(|table| publish::is_shared(table.judgement.approved.rows().len()));
    // What is stored here counts for nothing before head.json names it, so the order of the two does not matter; few rows
    // are written in one order all the same, which tells more when something fails.
    let (prepared, stored) = if is_large {
        at_once(
            || prepare(run, plan),
            || store_ledgers(run, state, plan, &mut next),
        )
    } else {
        (prepare(run, plan), Ok(()))
    };
    let prepared = prepared?;
    stored?;
    keep_originals(run, state, plan, &mut next)?;
    if !is_large {
        store_ledgers(run, state, plan, &mut next)?;
    }
    if prepared.is_empty() {
        *head = next;
        return Ok(None);
    }
    next.generation += 1;
    next.published = next.generation;
    next.published_at = Some(run.now);
    next.to_prove = to_prove.map(|to_prove| ToProve {
        generation: next.generation,
        ..to_prove
    });
    state.store_generation(&generation(run, plan, next.generation, &prepared))?;
    let decided = || prepared.iter().map(Prepared::pending);
    // One that waits for a database to be reached again waits on.
    next.pending
        .retain(|waiting| decided().all(|pending| pending.path != waiting.path));
    next.pending.extend(decided().cloned());
    state.store_head(&next)?;
    *head = next;

    let mut paths = Vec::new();
    for prepared in prepared {
        let table = prepared.pending().table.clone();
        let artefact = publish::put_in_force(prepared, head)?;
        paths.push(artefact.path.clone());
        head.pending.retain(|pending| pending.path != artefact.path);
        adopt(head, &table, artefact);
    }
    Ok(Some(Published {
        generation: head.generation,
        paths,
    }))
}

/// Writes and proves every file that is to be replaced.
fn prepare(run: &Run<'_>, plan: &Plan<'_>) -> Result<Vec<Prepared>> {
    let mut prepared: Vec<Prepared> = Vec::new();
    for table in &plan.tables {
        if table.writes.iter().any(|format| format.is_file()) {
            make_directory(table)?;
        }
        prepared.extend(publish::prepare(
            table.table,
            &table.writes,
            &table.judgement.approved,
            run.deadline,
        )?);
    }
    Ok(prepared)
}

/// The directory of a table is made for its first publication only; one that vanished later is an error to be told.
fn make_directory(table: &TablePlan<'_>) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let Some(parent) = table
        .table
        .path
        .parent()
        .filter(|parent| table.is_first && !parent.exists())
    else {
        return Ok(());
    };
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(parent);
    made.map_err(|error| {
        Box::new(crate::error::Failure {
            exit: crate::exit::Exit::NotWritten,
            what: "the directory of a table could not be made".into(),
            place: parent.display().to_string(),
            why: error.to_string(),
            in_force: "no table was published".into(),
            next: "make it, owned by the account that runs rcptsync and readable by Postfix".into(),
        })
    })
}

fn adopt(head: &mut Head, table: &str, artefact: Artefact) {
    let artefacts = &mut head.tables.entry(table.to_owned()).or_default().artefacts;
    artefacts.retain(|known| known.format != artefact.format);
    artefacts.push(artefact);
}

/// Keeps files that somebody else wrote, byte for byte, as a generation of their own, before anything replaces them.
fn keep_originals(run: &Run<'_>, state: &State, plan: &Plan<'_>, head: &mut Head) -> Result<()> {
    let number = head.generation + 1;
    let mut tables: Vec<GenerationTable> = Vec::new();
    for table in &plan.tables {
        let mut kept = GenerationTable {
            name: table.table.name.clone(),
            ..GenerationTable::default()
        };
        let known = head.tables.entry(table.table.name.clone()).or_default();
        let kept_before = std::mem::take(&mut known.originals);
        let own: Vec<String> = known
            .artefacts
            .iter()
            .map(|artefact| artefact.digest.clone())
            .collect();
        for file in &table.on_disk {
            let foreign: &Foreign = match &file.content {
                Content::Foreign(foreign, rows) => {
                    kept.rows_count = kept.rows_count.max(rows.len() as u64);
                    foreign
                }
                Content::NoTable(foreign, why) => {
                    tracing::warn!("{}: {why}; it is written anew", file.path.display());
                    foreign
                }
                Content::Unread(foreign) => foreign,
                Content::AsPublished(artefact) => {
                    adopt(head, &table.table.name, artefact.clone());
                    continue;
                }
                Content::Missing => continue,
            };
            // A file that says what was to be published is ours from now on. One that is replaced becomes ours by that,
            // and one that is left alone must be found foreign again by the next run.
            if table.is_ours() && !table.writes.contains(&file.format) && !is_no_table(file) {
                adopt(head, &table.table.name, foreign.artefact.clone());
            }
            let digest = &foreign.artefact.digest;
            if own.contains(digest) {
                continue;
            }
            let known = head.tables.entry(table.table.name.clone()).or_default();
            known.originals.push(digest.clone());
            if kept_before.contains(digest) {
                continue;
            }
            let name = original_name(number, &table.table.name, file.format);
            let path = state.store_original(&name, &foreign.bytes)?;
            tracing::warn!(
                "{} was not written by rcptsync; its original is kept as {}",
                file.path.display(),
                path.display()
            );
            kept.files
                .push((path.display().to_string(), digest.clone()));
        }
        if !kept.files.is_empty() {
            tables.push(kept);
        }
    }
    if !tables.is_empty() {
        let (at, run) = (run.now, run.id.clone());
        state.store_generation(&Generation {
            number,
            at,
            run,
            origin: Origin::Foreign,
            source_names: Vec::new(),
            tables,
        })?;
        head.generation = number;
    }
    Ok(())
}

fn is_no_table(file: &OnDisk) -> bool {
    matches!(file.content, Content::NoTable(..) | Content::Unread(_))
}

fn store_ledgers(run: &Run<'_>, state: &State, plan: &Plan<'_>, head: &mut Head) -> Result<()> {
    let mut ours = plan.tables.iter().filter(|table| table.is_ours());
    ours.try_for_each(|table| store_ledger(run, state, plan, table, head))
}

/// Writes the ledger of a table if it says anything new, and what its rows mean for the window and the next deadline.
fn store_ledger(
    run: &Run<'_>,
    state: &State,
    plan: &Plan<'_>,
    table: &TablePlan<'_>,
    head: &mut Head,
) -> Result<()> {
    let rows = table.judgement.approved.rows();
    let ledger = Ledger {
        source_names: plan.source_names.clone(),
        values: table.table.values.clone(),
        rows: rows.clone(),
    };
    let file = ledger.sealed();
    let file_digest = file.digest();
    let number = head.next_file;
    let known: &mut TableState = head.tables.entry(table.table.name.clone()).or_default();
    // A ledger that was lost is written anew though it says the same.
    if table.is_first || known.ledger_digest != file_digest {
        state.store_ledger(&table.table.name, number, &file)?;
        known.ledger = number;
        known.ledger_digest = file_digest;
        head.next_file += 1;
        known.domains.clear();
    }
    if known.domains.is_empty() {
        let forms = plan.domains.listed.forms(table.folding);
        known.domains = largest(by_domain(&forms, rows.keys()));
    }
    known.added_total += table.diff.added.len() as u64;
    known.removed_total += table.diff.removed.len() as u64;
    known.rows_count = rows.len() as u64;
    let leaving = || rows.iter().filter_map(|row| row.facts().leaving_since);
    known.leaving_count = leaving().count() as u64;
    known.next_deadline = leaving()
        .min()
        .map(|since| since.after(run.config.recipients.grace));
    let removed = table.judgement.approved.removed();
    if !removed.is_zero() {
        head.removals.push(Removals {
            at: run.now,
            table: table.table.name.clone(),
            counts: removed.clone(),
        });
    }
    Ok(())
}

/// The domains with most rows, and the sum of the others.
fn largest(domains: BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let mut sorted: Vec<(String, u64)> = domains.into_iter().collect();
    sorted.sort_by_key(|(_, count)| Reverse(*count));
    let others = sorted.split_off(sorted.len().min(DOMAINS_KEPT));
    let others_count: u64 = others.iter().map(|(_, count)| count).sum();
    sorted.extend((others_count > 0).then(|| (OTHER_DOMAINS.to_owned(), others_count)));
    sorted.into_iter().collect()
}

fn generation(run: &Run<'_>, plan: &Plan<'_>, number: u64, prepared: &[Prepared]) -> Generation {
    let touched = plan.tables.iter().filter(|table| !table.writes.is_empty());
    let of_table = |table: &TablePlan<'_>| GenerationTable {
        name: table.table.name.clone(),
        rows_count: table.judgement.approved.rows().len() as u64,
        added: table.diff.added.clone(),
        removed: table.diff.removed.clone(),
        changed: table.diff.changed.clone(),
        files: prepared
            .iter()
            .map(Prepared::pending)
            .filter(|pending| pending.table == table.table.name)
            .map(|pending| (pending.path.clone(), pending.digest.clone()))
            .collect(),
    };
    Generation {
        number,
        at: run.now,
        run: run.id.clone(),
        origin: plan.origin,
        source_names: plan.source_names.clone(),
        tables: touched.map(of_table).collect(),
    }
}

/// What a hook must be told: the difference since its own last success. Rows are listed for a hook that wants them alone.
pub fn told(
    run: &Run<'_>,
    state: &State,
    head: &Head,
    hook: &Hook,
    told_last: Option<u64>,
) -> Told {
    // Half a difference would be a wrong one.
    let told_last = told_last.filter(|told_last| {
        let mut numbers = told_last.saturating_add(1)..=head.generation;
        let lost = numbers.find_map(|number| Some((number, state.generation(number).err()?)));
        if let Some((number, lost)) = &lost {
            tracing::warn!("generation {number} is lost ({lost}); a hook is told of every row");
        }
        lost.is_none()
    });
    let mut tables = serde_json::Map::new();
    let (mut added_count, mut removed_count, mut total_count) = (0, 0, 0);
    for table in &run.config.tables {
        let known = head.tables.get(&table.name);
        let rows_count = known.map_or(0, |known| known.rows_count);
        total_count += rows_count;
        if told_last.is_none() && hook.input == HookInput::None {
            added_count += rows_count;
            continue;
        }
        let (added, removed) = since(state, head, &table.name, told_last);
        added_count += added.len() as u64;
        removed_count += removed.len() as u64;
        tables.insert(
            table.name.clone(),
            json!({ "added": added, "removed": removed }),
        );
    }
    // What is remembered of a table or a format that is not in the configuration any more is not published.
    let artefacts = || {
        run.config.tables.iter().flat_map(|table| {
            let known = head.tables.get(&table.name).into_iter();
            known.flat_map(|known| &known.artefacts).filter(|known| {
                table.formats.contains(&known.format)
                    && Path::new(&known.path) == table.file(known.format)
            })
        })
    };
    let digests: String = artefacts()
        .map(|artefact| format!("{}  {}\n", artefact.digest, artefact.path))
        .collect();
    // A colon separates, and the name of a relation has some; it is none that a hook could copy.
    let files = artefacts().filter(|artefact| artefact.format.is_file());
    let files: Vec<&str> = files.map(|artefact| artefact.path.as_str()).collect();
    Told {
        environment: vec![
            ("RCPTSYNC_ADDED", added_count.to_string()),
            ("RCPTSYNC_REMOVED", removed_count.to_string()),
            ("RCPTSYNC_TOTAL", total_count.to_string()),
            ("RCPTSYNC_GENERATION", head.published.to_string()),
            ("RCPTSYNC_DIGEST", digest(digests.as_bytes())),
            ("RCPTSYNC_TABLES", files.join(":")),
        ],
        input: inert_json(
            &json!({ "schema": 1, "generation": head.published, "tables": tables }).to_string(),
        ),
    }
}

/// Keys that came and went since a generation, each counted once however often it did. A hook that was never told
/// anything is told of every row.
fn since(
    state: &State,
    head: &Head,
    table: &str,
    told_last: Option<u64>,
) -> (Vec<String>, Vec<String>) {
    let Some(told_last) = told_last else {
        let rows = head
            .tables
            .get(table)
            .and_then(|known| state.ledger(table, known).ok());
        let rows: Rows = rows.map(|ledger| ledger.rows).unwrap_or_default();
        return (rows.keys().map(exact).collect(), Vec::new());
    };
    let mut net: BTreeMap<Vec<u8>, i32> = BTreeMap::new();
    for number in told_last.saturating_add(1)..=head.generation {
        let Ok(generation) = state.generation(number) else {
            continue;
        };
        if let Some(table) = generation.table(table) {
            table
                .added
                .keys()
                .for_each(|key| *net.entry(key.to_vec()).or_default() += 1);
            table
                .removed
                .keys()
                .for_each(|key| *net.entry(key.to_vec()).or_default() -= 1);
        }
    }
    let of_sign = |sign: i32| {
        net.iter()
            .filter(|(_, count)| count.signum() == sign)
            .map(|(bytes, _)| exact(bytes))
            .collect()
    };
    (of_sign(1), of_sign(-1))
}

/// Forgets generations that are old enough, but never one that a hook is still owed.
pub fn prune(run: &Run<'_>, state: &State, head: &Head) {
    let owed_from = head.hooks.values().copied().min().unwrap_or(u64::MAX);
    let numbers = state.generation_numbers();
    let prunable = numbers.len().saturating_sub(GENERATIONS_KEPT_MIN);
    for number in numbers
        .into_iter()
        .take(prunable)
        .filter(|number| *number <= owed_from)
    {
        let oldest = run.now.before(run.config.history_keep);
        match state.generation(number) {
            Ok(generation) if head.waiting_since(generation.at, run.now) >= oldest => break,
            Ok(_) => state.remove_generation(number),
            Err(lost) => tracing::warn!("generation {number} is lost: {lost}"),
        }
    }
}
