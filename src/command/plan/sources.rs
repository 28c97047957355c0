//! Reading the sources of a run, and standing in the last complete records of those that cannot be read. Writes nothing.

use super::{Run, SourceNow, SourceStatus};
use crate::config::Source;
use crate::error::{Failure, Result};
use crate::report::key;
use crate::snapshot::Snapshot;
use crate::source::{self, referral};
use crate::state::State;
use crate::state::head::{Frozen, Head, SourceState};

/// Reads all sources, each in its own thread, and stands in the last complete records of those that failed.
pub(super) fn read(
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

fn complete(run: &Run<'_>, source: &Source, mut snapshot: Snapshot) -> SourceNow {
    let organisation = snapshot.take_organisation();
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
        organisation,
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
            organisation: None,
        },
        failure,
    )
}
