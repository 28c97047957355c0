//! Storing what a run found, before anything is published: what the sources said, and what is held. It is true whatever
//! becomes of the tables.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::plan::domains::RELAY_DOMAINS;
use super::plan::{Plan, Run, SourceNow, SourceStatus, TablePlan};
use crate::config::Source;
use crate::current::SourceRecords;
use crate::error::Result;
use crate::hold::{Cause, Hold, Place};
use crate::report::difference::Difference;
use crate::snapshot::Followed;
use crate::state::files::sealed_changes;
use crate::state::head::{APPROVAL_LIFE, Head, HoldState, RelayDomainsState, SourceState};
use crate::state::{State, digest_with};
use crate::time::Timestamp;

/// Past holds of one cause and scope that still can be approved. In a busy directory every run finds another one, and each
/// may name as many rows as the table has.
const PAST_HOLDS_KEPT: usize = 24;

/// Files with changes behind one with all records; more are put together into one.
const CHANGES_FILES_MAX: usize = 32;

/// Stores what is known of domains and what is held, and notes both in `head`.
pub fn store_judgement(
    run: &Run<'_>,
    state: &State,
    plan: &Plan<'_>,
    head: &mut Head,
) -> Result<()> {
    store_domains(plan, head);
    store_holds(run, state, plan, head)?;
    forget_old(run, head);
    Ok(())
}

/// Stores what going back holds, and notes it in `head`. Approvals given before hold good no more: they would let what was
/// undone return at once.
pub fn store_undone(run: &Run<'_>, state: &State, plan: &Plan<'_>, head: &mut Head) -> Result<()> {
    for table in plan.tables.iter().filter(|table| !table.diff.is_empty()) {
        let of_table = |known: &&mut HoldState| known.table == table.table.name;
        for known in head.holds.values_mut().filter(of_table) {
            known.approved_at = None;
        }
        for hold in &table.judgement.holds {
            let digest = hold.digest();
            state.store_hold(&digest, hold)?;
            head.holds.insert(digest, hold_state(run, hold, run.now));
        }
    }
    Ok(())
}

/// Removals behind the window count no more, and holds not seen for a day can be approved no more.
pub fn forget_old(run: &Run<'_>, head: &mut Head) {
    let begins = run.now.before(run.config.guard.window);
    let steady_since = head.steady_since;
    for removals in &mut head.removals {
        removals.at = removals.at.max(steady_since).min(run.now);
    }
    head.removals.retain(|removals| removals.at > begins);
    head.holds.retain(|_, known| {
        let last = known
            .approved_at
            .map_or(known.last_seen, |at| at.max(known.last_seen));
        known.is_current || run.now.since(last) < APPROVAL_LIFE
    });
    forget_oldest_holds(head, run.now);
}

/// Stores what the sources said, and notes it in `head`.
pub fn store_sources(
    run: &Run<'_>,
    state: &State,
    sources: &[SourceNow],
    head: &mut Head,
) -> Result<()> {
    for source in sources {
        let name = &source.name;
        let is_approved = is_approved_empty(run, head, name);
        let configured = run
            .config
            .sources
            .iter()
            .find(|source| source.name == *name);
        let delay = configured
            .and_then(Source::replication_delay)
            .unwrap_or_default();
        let known = head.sources.entry(name.clone()).or_default();
        match &source.status {
            SourceStatus::Complete {
                answered_by,
                referrals,
                controller,
                cursor,
                certificate_ends,
            } => {
                if let Some(records) = &source.records {
                    store_whole(state, name, known, records, &mut head.next_file)?;
                }
                known.complete_at = Some(run.now);
                known.answered_by.clone_from(answered_by);
                known.referrals.clone_from(referrals);
                known.controller.clone_from(controller);
                known.cursor.clone_from(cursor);
                known.certificate_ends = *certificate_ends;
                known.question = configured.map(Source::question).unwrap_or_default();
            }
            SourceStatus::Followed {
                followed,
                is_changed,
                is_expired,
            } => {
                if let Some(records) = source.records.as_ref().filter(|_| *is_changed) {
                    if *is_expired || is_time_to_put_together(known, followed, records) {
                        store_whole(state, name, known, records, &mut head.next_file)?;
                    } else {
                        store_changes(state, name, known, followed, &mut head.next_file)?;
                    }
                }
                known.answered_by.clone_from(&followed.answered_by);
                known.controller = Some(followed.controller.clone());
                known.cursor = Some(followed.cursor.clone());
                known.certificate_ends = followed.certificate_ends;
            }
            SourceStatus::Frozen(frozen) | SourceStatus::Never(frozen) => {
                known.frozen = Some(frozen.clone());
                continue;
            }
            SourceStatus::Removed => continue,
        }
        if let Some(records) = &source.records {
            known.missing_until = records.next_deadline(delay);
        }
        known.current_at = Some(run.now);
        known.frozen = None;
        known.records_count = source.records_count;
        known.is_empty_approved =
            source.records_count == 0 && (known.is_empty_approved || is_approved);
    }
    head.sources
        .retain(|name, _| run.config.sources.iter().any(|source| source.name == *name));
    Ok(())
}

fn is_approved_empty(run: &Run<'_>, head: &Head, name: &str) -> bool {
    head.holds.values().any(|hold| {
        hold.cause == Cause::SourceEmpty && hold.scope == name && hold.is_approved(run.now)
    })
}

/// Reading many small files, or much that was replaced since, costs more than writing everything once.
fn is_time_to_put_together(
    known: &SourceState,
    followed: &Followed,
    records: &SourceRecords,
) -> bool {
    let changes_count = known.changes_count + followed.changes().len() as u64;
    known.changes.len() >= CHANGES_FILES_MAX || changes_count > records.len() / 4
}

/// Keeps what was reported of a source in a file of its own.
fn store_changes(
    state: &State,
    name: &str,
    known: &mut SourceState,
    followed: &Followed,
    next_file: &mut u64,
) -> Result<()> {
    let file = sealed_changes(followed.changes());
    state.store_changes(name, *next_file, &file)?;
    known.changes.push(*next_file);
    known.changes_digest = digest_with(&known.changes_digest, &file.digest());
    known.changes_count += followed.changes().len() as u64;
    *next_file += 1;
    Ok(())
}

/// Keeps all records of a source in one file, unless they stand there already, undamaged.
fn store_whole(
    state: &State,
    name: &str,
    known: &mut SourceState,
    records: &SourceRecords,
    next_file: &mut u64,
) -> Result<()> {
    if let Some(digest) = state.store_records(name, *next_file, records, known)? {
        known.base = Some(*next_file);
        known.base_digest = digest;
        known.changes.clear();
        known.changes_digest.clear();
        known.changes_count = 0;
        *next_file += 1;
    }
    Ok(())
}

/// Notes what is known of domains. Like records, it is stored as a fact and decided upon in every run anew.
fn store_domains(plan: &Plan<'_>, head: &mut Head) {
    let domains = &plan.domains;
    for (name, known) in &mut head.sources {
        known.organisation = domains.organisations.get(name).cloned();
        known.domains_frozen = domains.frozen.get(name).cloned();
    }
    head.relay_domains = RelayDomainsState {
        entries: domains.relayed.clone(),
        frozen: domains.frozen.get(RELAY_DOMAINS).cloned(),
    };
}

/// Keeps every hold's rows, so that an approval can name them.
fn store_holds(run: &Run<'_>, state: &State, plan: &Plan<'_>, head: &mut Head) -> Result<()> {
    let holds: BTreeMap<String, &Hold> = plan
        .tables
        .iter()
        .flat_map(|table| &table.judgement.holds)
        .map(|hold| (hold.digest(), hold))
        .collect();
    for known in head.holds.values_mut() {
        // The holds of a table that could not be planned stand as they stood; one that is gone holds nothing.
        let is_planned = |table: &TablePlan<'_>| table.table.name == known.table;
        let is_configured = (run.config.tables.iter()).any(|table| table.name == known.table);
        known.is_current &= is_configured && !plan.tables.iter().any(is_planned);
    }
    for (digest, hold) in holds {
        state.store_hold(&digest, hold)?;
        let is_same = |known: &&HoldState| {
            known.table == hold.table && known.cause == hold.cause && known.scope == hold.scope
        };
        let since = head
            .holds
            .values()
            .filter(is_same)
            .map(|known| known.since)
            .min()
            .unwrap_or(run.now);
        // One that lapsed must be given again, and `status` must not call the hold approved.
        let approved = head
            .holds
            .get(&digest)
            .filter(|known| known.is_approved(run.now));
        let mut now = hold_state(run, hold, since);
        now.approved_at = approved.and_then(|known| known.approved_at);
        if let Some(known) = head.holds.remove(&digest) {
            now.places = known.places;
        }
        head.holds.insert(digest, now);
    }
    Ok(())
}

/// Keeps where the objects of a hold were, for later runs to tell: the greatest places, and the others as one.
pub fn remember_places(head: &mut Head, report: &Difference) {
    const PLACES_KEPT: usize = 20;
    for told in report.holds.iter().filter(|told| !told.places.is_empty()) {
        let Some(known) = head.holds.get_mut(&told.digest) else {
            continue;
        };
        let (kept, others) = told.places.split_at(told.places.len().min(PLACES_KEPT));
        known.places = kept.to_vec();
        let others = others.iter().cloned().reduce(|sum, place| Place {
            container: String::new(),
            added: sum.added + place.added,
            removed: sum.removed + place.removed,
            ..sum
        });
        known.places.extend(others);
    }
}

/// A hold that this run found.
fn hold_state(run: &Run<'_>, hold: &Hold, since: Timestamp) -> HoldState {
    HoldState {
        table: hold.table.clone(),
        cause: hold.cause,
        scope: hold.scope.clone(),
        added_count: hold.added.len() as u64,
        removed_count: hold.removed.len() as u64,
        since,
        last_seen: run.now,
        is_current: true,
        approved_at: None,
        places: Vec::new(),
    }
}

/// Keeps of each cause and scope the newest past holds that nobody approved.
fn forget_oldest_holds(head: &mut Head, now: Timestamp) {
    let mut past: Vec<(String, &HoldState)> = head
        .holds
        .iter()
        .filter(|(_, hold)| !hold.is_current && !hold.is_approved(now))
        .map(|(digest, hold)| (digest.clone(), hold))
        .collect();
    let kind = |hold: &HoldState| (hold.table.clone(), hold.cause, hold.scope.clone());
    past.sort_by_cached_key(|(_, hold)| (kind(hold), Reverse(hold.last_seen)));
    let forgotten: Vec<String> = past
        .chunk_by(|(_, one), (_, other)| kind(one) == kind(other))
        .flat_map(|of_kind| of_kind.iter().skip(PAST_HOLDS_KEPT))
        .map(|(digest, _)| digest.clone())
        .collect();
    for digest in forgotten {
        head.holds.remove(&digest);
    }
}
