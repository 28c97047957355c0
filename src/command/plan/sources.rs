//! Reading the sources of a run, and what of earlier records goes on counting beside or instead of what was read. Writes
//! nothing.

use std::time::Duration;

use super::{Run, SourceNow, SourceStatus, domains};
use crate::config::{LdapSource, Source, SourceKind};
use crate::current::{self, Changes, Controller, SourceRecords};
use crate::directory::Earlier;
use crate::error::{Failure, Result};
use crate::harmless::key;
use crate::records::Records;
use crate::report::{counted, number};
use crate::snapshot::{Cursor, Followed, Reading, Snapshot};
use crate::source::{self, referral};
use crate::state::head::{Frozen, Head, SourceState};
use crate::state::{Lost, State};
use crate::time::Timestamp;

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// Reads all sources, each in its own thread; in the order of the configuration.
pub(super) fn read(run: &Run<'_>, state: &State, head: &Head) -> Vec<Result<Reading>> {
    if run.is_stored {
        let sources = run.config.sources.iter();
        return sources.map(|source| Err(unread(source))).collect();
    }
    let sources: Vec<(&Source, Option<Earlier<'_>>)> = run
        .config
        .sources
        .iter()
        .map(|source| (source, earlier(run, source, head.sources.get(&source.name))))
        .collect();
    for (source, earlier) in &sources {
        let known = head.sources.get(&source.name);
        if let Some(known) =
            known.filter(|_| earlier.is_none_or(|earlier| earlier.is_complete_read_due))
        {
            run.progress.expect(&source.name, known.records_count);
        }
    }
    source::read_all(&sources, state, run.now, run.deadline, run.progress)
}

fn unread(source: &Source) -> Box<Failure> {
    Box::new(Failure {
        exit: crate::exit::Exit::SourceFrozen,
        what: format!("source {} was not read", source.name),
        place: format!("[source.{}]", source.name),
        why: "what is stored of it was asked for (--stored)".into(),
        in_force: String::new(),
        next: "leave --stored out where it can be read".into(),
    })
}

/// What can be followed instead of reading everything.
fn earlier<'run>(
    run: &Run<'_>,
    source: &Source,
    known: Option<&'run SourceState>,
) -> Option<Earlier<'run>> {
    let (SourceKind::Ldap(ldap), Some(known)) = (&source.kind, known) else {
        return None;
    };
    let (Some(controller), Some(cursor), Some(_), Some(complete_at)) = (
        &known.controller,
        &known.cursor,
        known.base,
        known.complete_at,
    ) else {
        return None;
    };
    if known.question != ldap.question() {
        tracing::info!(
            source = source.name,
            "source {}: the configuration asks something else than before: a complete read",
            source.name
        );
        return None;
    }
    Some(Earlier {
        answered_by: &known.answered_by,
        controller,
        cursor,
        is_complete_read_due: run.is_full
            || run.now >= complete_at.after(full_every(ldap, cursor))
            // A clock that was set back must not put it off.
            || run.now < complete_at,
        needs_organisation: domains::needs_look(run, source, known),
    })
}

/// How often everything is read although changes are followed. Deletions that the account is not shown are found by
/// nothing else.
pub fn full_every(ldap: &LdapSource, cursor: &Cursor) -> Duration {
    let default = if cursor.sees_deletions { DAY } else { HOUR };
    ldap.full_every.unwrap_or(default)
}

/// What each source has to say in this run.
pub(super) fn now(
    run: &Run<'_>,
    state: &State,
    head: &Head,
    readings: Vec<Result<Reading>>,
    failures: &mut Vec<Failure>,
) -> Vec<SourceNow> {
    let mut sources = Vec::new();
    for (source, reading) in run.config.sources.iter().zip(readings) {
        let desk = Desk {
            run,
            state,
            source,
            known: head.sources.get(&source.name),
            head,
        };
        let mut found = reading.map(|reading| desk.now(reading));
        if let Ok(None) = found {
            // What was followed belongs to records that are lost, so everything is read.
            let once = [(source, None)];
            let mut again = source::read_all(&once, state, run.now, run.deadline, run.progress);
            let reading = again.pop().unwrap_or_else(|| Err(desk.records_lost()));
            found = reading.map(|reading| desk.now(reading));
        }
        sources.push(match found {
            Ok(Some(now)) => now,
            Ok(None) => desk.stand_in(*desk.records_lost(), failures),
            Err(failure) => desk.stand_in(*failure, failures),
        });
    }
    sources
}

/// One source being looked at.
struct Desk<'desk, 'run> {
    run: &'desk Run<'run>,
    state: &'desk State,
    source: &'desk Source,
    known: Option<&'desk SourceState>,
    head: &'desk Head,
}

impl Desk<'_, '_> {
    /// `None`: the records are lost, and what was read cannot replace them.
    fn now(&self, reading: Reading) -> Option<SourceNow> {
        match reading {
            Reading::Complete(snapshot) => self.complete(snapshot),
            Reading::Followed(followed) => self.followed(followed),
        }
    }

    fn complete(&self, mut snapshot: Snapshot) -> Option<SourceNow> {
        let name = &self.source.name;
        let uncovered_referrals =
            referral::uncovered(&snapshot.referrals, &self.run.config.sources);
        for referral in &uncovered_referrals {
            tracing::warn!(
                source = name,
                "source {name}: no source covers {}, to which the directory refers",
                key(referral.as_bytes())
            );
        }
        let shown = snapshot.take_records();
        tracing::info!(
            source = name,
            records = shown.len(),
            "source {name}: read completely from {}, {}",
            snapshot.answered_by,
            counted(shown.len(), "record", "records")
        );
        self.tell_change_of_controller(&snapshot);
        let records = self.with_missing(shown, &snapshot)?;
        Some(SourceNow {
            name: name.clone(),
            records_count: records.len(),
            records: Some(records),
            status: SourceStatus::Complete {
                answered_by: snapshot.answered_by,
                referrals: snapshot.referrals,
                controller: snapshot.controller,
                cursor: snapshot.cursor,
                certificate_ends: snapshot.certificate_ends,
            },
            uncovered_referrals,
            organisation: snapshot.organisation,
        })
    }

    /// What was read, and what another controller showed. `None`: that is lost, and may not be known to this one yet.
    fn with_missing(&self, shown: Records, snapshot: &Snapshot) -> Option<SourceRecords> {
        let (Some(known), SourceKind::Ldap(ldap)) = (self.known, &self.source.kind) else {
            return Some(SourceRecords::shown(shown));
        };
        let before = known.controller.as_ref().zip(snapshot.controller.as_ref());
        let is_other = |(before, answering): (&Controller, &Controller)| {
            !answering.is_at_least(before) || known.missing_until.is_some()
        };
        let needs_stored = before.is_some_and(is_other) || snapshot.reported.is_some();
        if !needs_stored {
            return Some(SourceRecords::shown(shown));
        }
        let Some((stored, (before, answering))) = self.stored(None).zip(before) else {
            let is_late = |at: Timestamp| {
                let since = self.head.waiting_since(at, self.run.now);
                self.run.now <= since.after(ldap.replication_delay)
            };
            let may_be_late =
                !ldap.replication_delay.is_zero() && known.current_at.is_some_and(is_late);
            let is_unproven = before.is_some_and(is_other) && may_be_late;
            return (!is_unproven).then(|| SourceRecords::shown(shown));
        };
        if let Some(reported) = &snapshot.reported {
            let drift = current::drift(
                &stored,
                &shown,
                |guid| reported.guids.contains(guid),
                !reported.has_moves,
            );
            self.tell_drift(self.whole(drift)?, snapshot);
        }
        let records = self.whole(stored.after_complete_read(
            before,
            shown,
            answering,
            ldap.replication_delay,
            self.run.now,
        ))?;
        if !records.missing.is_empty() {
            tracing::warn!(
                source = self.source.name,
                "source {}: {} does not show {} of the records that another controller showed; they go on counting until it \
                 does, or for replication_delay",
                self.source.name,
                snapshot.answered_by,
                records.missing.len()
            );
        }
        Some(records)
    }

    /// Why everything was read although changes were followed before.
    fn tell_change_of_controller(&self, snapshot: &Snapshot) {
        let Some(known) = self.known.filter(|known| known.cursor.is_some()) else {
            return;
        };
        let before = known.controller.as_ref().zip(snapshot.controller.as_ref());
        if before.is_some_and(|(before, answering)| !answering.is_at_least(before)) {
            tracing::info!(
                source = self.source.name,
                "source {}: {} is another controller than the one that answered last as {}, or was set back: its changes \
                 cannot be followed from there",
                self.source.name,
                snapshot.answered_by,
                known.answered_by
            );
        }
    }

    fn tell_drift(&self, drift: current::Drift, snapshot: &Snapshot) {
        let sees_deletions = snapshot
            .cursor
            .as_ref()
            .is_some_and(|cursor| cursor.sees_deletions);
        if drift.vanished > 0 && !sees_deletions {
            tracing::info!(
                source = self.source.name,
                vanished = drift.vanished,
                "source {}: {} deleted unseen: the account is not shown deleted objects",
                self.source.name,
                counted(drift.vanished as u64, "object was", "objects were")
            );
        }
        let missed =
            drift.appeared + drift.changed + if sees_deletions { drift.vanished } else { 0 };
        if missed > 0 {
            tracing::warn!(
                source = self.source.name,
                missed,
                "source {}: the complete read found {} that following had missed",
                self.source.name,
                counted(missed as u64, "change", "changes")
            );
        }
    }

    fn followed(&self, mut followed: Followed) -> Option<SourceNow> {
        let known = self.known?;
        let SourceKind::Ldap(ldap) = &self.source.kind else {
            return None;
        };
        let mut records = self.stored(Some(followed.changes()))?;
        let organisation = followed.organisation.take();
        let is_changed = self.whole(records.change(followed.changes()))?;
        let is_expired = records.expire(&followed.controller, ldap.replication_delay, self.run.now);
        tracing::info!(
            source = self.source.name,
            records = records.len(),
            reported = followed.changes().len(),
            "source {}: followed the changes on {}, {} reported",
            self.source.name,
            followed.answered_by,
            number(followed.changes().len() as u64)
        );
        Some(SourceNow {
            name: self.source.name.clone(),
            records_count: records.len(),
            records: Some(records),
            status: SourceStatus::Followed {
                is_changed: is_changed || is_expired,
                is_expired,
                followed,
            },
            uncovered_referrals: referral::uncovered(&known.referrals, &self.run.config.sources),
            organisation,
        })
    }

    /// The records as they are stored; what `next` names is looked up in them.
    fn stored(&self, next: Option<&Changes>) -> Option<SourceRecords> {
        let known = self.known.filter(|known| known.base.is_some())?;
        let mut records = self.whole(self.state.records(&self.source.name, known, next))?;
        for missing in &mut records.missing {
            missing.since = missing.since.max(self.head.steady_since);
        }
        Some(records)
    }

    /// What came of a look at the stored records, unless they are lost.
    fn whole<T>(&self, looked: std::result::Result<T, Lost>) -> Option<T> {
        looked
            .inspect_err(|lost| {
                tracing::warn!(
                    source = self.source.name,
                    "source {}: its stored records are lost ({lost}); they count as never read",
                    self.source.name
                );
            })
            .ok()
    }

    fn records_lost(&self) -> Box<Failure> {
        Box::new(Failure {
            exit: crate::exit::Exit::SourceFrozen,
            what: format!("source {}: its stored records are lost", self.source.name),
            place: self.state.directory().display().to_string(),
            why: "another controller than the one they came from answered, and may not know yet whom that one showed"
                .into(),
            in_force: String::new(),
            next: "nothing: the source counts again when that controller answers, or after replication_delay".into(),
        })
    }

    /// The last complete records of a source that could not be read.
    fn stand_in(&self, mut failure: Failure, failures: &mut Vec<Failure>) -> SourceNow {
        let since = self
            .known
            .and_then(|known| known.frozen.as_ref())
            .map_or(self.run.now, |frozen| frozen.since);
        let frozen = Frozen {
            since,
            cause: failure.cause(),
        };
        let (records, status, uncovered_referrals) = match self.known.zip(self.stored(None)) {
            Some((known, records)) => {
                let when = known
                    .current_at
                    .map_or_else(String::new, |at: Timestamp| format!(" as of {at}"));
                failure.in_force = format!(
                    "its {} recipients stay{when}; other sources are current",
                    records.len()
                );
                let uncovered = referral::uncovered(&known.referrals, &self.run.config.sources);
                (records, SourceStatus::Frozen(frozen), uncovered)
            }
            None => {
                failure.in_force = if self.known.is_some_and(|known| known.base.is_some()) {
                    "what it said before is lost, so nothing is removed from any table".into()
                } else {
                    "it was never read completely, so nothing is removed from any table".into()
                };
                (
                    SourceRecords::default(),
                    SourceStatus::Never(frozen),
                    Vec::new(),
                )
            }
        };
        let is_asked_for = self.run.is_stored && matches!(status, SourceStatus::Frozen(_));
        let question = self.source.question();
        if !is_asked_for {
            failures.push(failure);
        } else if self.known.is_some_and(|known| known.question != question) {
            failure.why =
                "what is stored of it answers another question than the configuration asks now"
                    .into();
            failures.push(failure);
        }
        SourceNow {
            name: self.source.name.clone(),
            records_count: records.len(),
            records: Some(records),
            status,
            uncovered_referrals,
            organisation: None,
        }
    }
}
