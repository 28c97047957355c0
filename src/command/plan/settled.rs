//! A run that finds nothing new: the sources say what they said, nobody touched a table, no time has come. Then the plan
//! of the last run holds, and nothing that grows with the directory is read again. Writes nothing.
//!
//! What a plan is made from is told by a digest. A run that leaves nothing to do leaves its report behind with that digest;
//! the next run that finds the same digest gives the same report.
//!
//! Invariant: everything that `plan::make` looks at is in `made_from`, is looked at in `find`, or prevents a plan from
//! being remembered.

use super::domains::{self, Relayed};
use super::{Plan, Run, SourceNow, SourceStatus};
use crate::error::Result;
use crate::postfix::Gateway;
use crate::publish::on_disk::{self, Content};
use crate::report::difference::{Difference, Outcome};
use crate::snapshot::Reading;
use crate::source::referral;
use crate::state::head::{Head, Settled};
use crate::state::{State, digest};

/// More addresses in their grace are not remembered: head.json stays small.
const LEAVING_MAX: usize = 100;

/// A run without news.
#[derive(Debug)]
pub struct Quiet {
    /// Per source; without records, which are those stored.
    pub sources: Vec<SourceNow>,
    /// What the last run reported, and this one does.
    pub difference: Difference,
}

/// What a run found before anything is decided.
pub(super) struct Found<'run> {
    /// Per source.
    pub(super) readings: &'run [Result<Reading>],
    /// `relay_domains`, where domains come from there or can be compared.
    pub(super) relayed: Option<&'run Relayed>,
    /// The Postfix on this machine.
    pub(super) gateway: Option<&'run Gateway>,
}

/// The report of the last run, if nothing that it was made from is other now.
pub(super) fn find(run: &Run<'_>, state: &State, head: &Head, found: &Found<'_>) -> Option<Quiet> {
    let settled = head.settled.as_ref()?;
    let mut sources = Vec::new();
    for (source, reading) in run.config.sources.iter().zip(found.readings) {
        sources.push(unchanged(run, head, &source.name, reading.as_ref().ok()?)?);
    }
    let is_over = |deadline: Option<crate::time::Timestamp>| {
        deadline.is_some_and(|deadline| run.now >= deadline)
    };
    let is_time = (run.config.tables.iter())
        .filter_map(|table| head.tables.get(&table.name))
        .any(|table| is_over(table.next_deadline))
        || head
            .sources
            .values()
            .any(|source| is_over(source.missing_until));
    // A clock that was set back: what counts from a time that is yet to come is counted anew.
    let was_set_back = run.now < settled.at;
    if is_time
        || was_set_back
        || settled.made_from != made_from(run, state, head, found.gateway)
        || !domains::is_as_known(run, head, found.readings, found.relayed)
    {
        return None;
    }
    for table in &run.config.tables {
        let known = head.tables.get(&table.name)?;
        let folding = super::folding(table, found.gateway);
        let files = on_disk::look(table, Some(known), &head.pending, folding).ok()?;
        let is_untouched = |file: &on_disk::OnDisk| matches!(&file.content, Content::AsPublished(found) if known.artefacts.contains(found));
        if !files.iter().all(is_untouched) {
            return None;
        }
    }
    let mut difference: Difference = serde_json::from_value(settled.report.clone()).ok()?;
    difference.set_sources(&sources);
    domains::tell_again(head, found.relayed, &difference);
    Some(Quiet {
        sources,
        difference,
    })
}

/// What a source said, if that is what it said before.
fn unchanged(run: &Run<'_>, head: &Head, name: &str, reading: &Reading) -> Option<SourceNow> {
    let known = head.sources.get(name)?;
    let (status, referrals) = match reading {
        Reading::Followed(followed) if followed.changes().is_empty() => (
            SourceStatus::Followed {
                is_changed: false,
                is_expired: false,
                followed: followed.without_news(),
            },
            &known.referrals,
        ),
        Reading::Complete(snapshot) => {
            let is_same_controller = match (&snapshot.controller, &known.controller) {
                (Some(answering), Some(before)) => answering.is_at_least(before),
                (None, None) => true,
                _ => false,
            };
            // New references are told.
            let has_same_referrals = snapshot.referrals == known.referrals;
            let is_plain = known.changes.is_empty() && known.missing_until.is_none();
            if !is_plain
                || !is_same_controller
                || !has_same_referrals
                || snapshot.reported.is_some()
            {
                return None;
            }
            if snapshot.records().digest() != known.base_digest {
                return None;
            }
            (
                SourceStatus::Complete {
                    answered_by: snapshot.answered_by.clone(),
                    referrals: snapshot.referrals.clone(),
                    controller: snapshot.controller.clone(),
                    cursor: snapshot.cursor.clone(),
                    certificate_ends: snapshot.certificate_ends,
                },
                &snapshot.referrals,
            )
        }
        Reading::Followed(_) => return None,
    };
    Some(SourceNow {
        name: name.to_owned(),
        records: None,
        records_count: known.records_count,
        status,
        uncovered_referrals: referral::uncovered(referrals, &run.config.sources),
        organisation: None,
    })
}

/// What the next run may rely on, if this one left nothing to do.
pub fn remember(
    run: &Run<'_>,
    state: &State,
    head: &Head,
    plan: &Plan<'_>,
    difference: &Difference,
) -> Option<Settled> {
    let is_current = |source: &SourceNow| {
        matches!(
            source.status,
            SourceStatus::Complete { .. } | SourceStatus::Followed { .. }
        )
    };
    let is_settled = difference.outcome == Outcome::Unchanged
        && plan.failures.is_empty()
        && plan.domains.frozen.is_empty()
        && plan.domains.never_read.is_empty()
        && plan.sources.iter().all(is_current)
        && head.pending.is_empty()
        && difference.leaving.len() <= LEAVING_MAX;
    is_settled.then_some(())?;
    Some(Settled {
        at: run.now,
        made_from: made_from(run, state, head, plan.gateway.as_ref()),
        report: serde_json::to_value(difference).ok()?,
    })
}

/// A digest of everything a plan is made from, apart from what only looking can tell.
fn made_from(run: &Run<'_>, state: &State, head: &Head, gateway: Option<&Gateway>) -> String {
    let mut parts = vec![
        env!("CARGO_PKG_VERSION").to_owned(),
        run.config.text.clone(),
        state.stamps(head),
    ];
    for table in &run.config.tables {
        parts.push(format!("{:?}", super::folding(table, gateway)));
        let known = head.tables.get(&table.name);
        parts.push(format!("{:?}", known.map(|known| &known.artefacts)));
        let made_with = table.formats.iter().map(|format| table.made_with(*format));
        parts.extend(made_with.map(str::to_owned));
    }
    for (name, source) in &head.sources {
        parts.push(format!(
            "{name} {} {:?} {:?} {:?}",
            source.is_empty_approved,
            source.missing_until,
            source.organisation,
            source.domains_frozen
        ));
    }
    // With the text of the configuration and the organisations, this is all that the list of domains is made from.
    parts.push(format!("{:?}", head.relay_domains));
    // Approvals lapse.
    let approved = head.holds.iter();
    let approved = approved.filter(|(_, hold)| hold.is_approved(run.now));
    parts.extend(approved.map(|(digest, _)| digest.clone()));
    digest(parts.join("\n").as_bytes())
}
