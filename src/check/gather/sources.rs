//! Reading every source completely, as `diff` does, and then looking at each of its servers.
//!
//! The read comes first: where it is refused, no other server is asked, because a password that is wrong locks the account.

use super::Begin;
use crate::check::facts::{ReadFacts, SecretFacts, SecretOutcome, SourceFacts};
use crate::config::{Source, SourceKind};
use crate::directory::{self, Clock, SourceSeen};
use crate::error::Failure;
use crate::exit::Exit;
use crate::snapshot::Reading;
use crate::source;
use crate::state::State;

pub(super) fn gather(
    begin: &Begin<'_>,
    state: &State,
    secrets: &[SecretFacts],
) -> Vec<SourceFacts> {
    // Whoever else may write the configuration could have the secrets sent anywhere.
    let is_trusted = begin.config.trusted().is_ok();
    let has_secret = |source: &Source| {
        let secret = secrets.iter().find(|secret| secret.source == source.name);
        let is_read = secret.is_none_or(|secret| {
            matches!(
                secret.outcome,
                SecretOutcome::Good
                    | SecretOutcome::WrittenByGroup(_)
                    | SecretOutcome::ReadByGroup(..)
                    | SecretOutcome::ClosedToOwner(_)
            )
        });
        is_trusted && is_read
    };
    let tried: Vec<_> = begin
        .config
        .sources
        .iter()
        .filter(|source| has_secret(source))
        .map(|source| (source, None))
        .collect();
    let readings = source::read_all(&tried, state, begin.now, begin.deadline, begin.progress);
    let mut read = tried.iter().map(|(source, _)| *source).zip(readings);
    let of_source = |source: &Source| {
        let reading = has_secret(source)
            .then(|| read.next().map(|(_, reading)| reading.map(read_facts)))
            .flatten();
        let servers = servers(begin, source, reading.as_ref());
        SourceFacts {
            name: source.name.clone(),
            is_directory: matches!(source.kind, SourceKind::Ldap(_)),
            clocks: servers
                .as_ref()
                .and_then(|servers| servers.as_ref().ok())
                .map_or_else(Vec::new, |seen| clocks(begin, seen)),
            servers,
            reading,
        }
    };
    begin.config.sources.iter().map(of_source).collect()
}

fn read_facts(reading: Reading) -> ReadFacts {
    let organisation = match reading.organisation() {
        Some(Ok(found)) => Some(found.clone()),
        Some(Err(_)) | None => None,
    };
    match reading {
        Reading::Complete(snapshot) => ReadFacts {
            records_count: snapshot.records().len(),
            answered_by: snapshot.answered_by,
            organisation,
        },
        // Nothing was given to be followed.
        Reading::Followed(followed) => ReadFacts {
            records_count: 0,
            answered_by: followed.answered_by,
            organisation,
        },
    }
}

fn servers(
    begin: &Begin<'_>,
    source: &Source,
    reading: Option<&Result<ReadFacts, Box<Failure>>>,
) -> Option<Result<SourceSeen, Box<Failure>>> {
    let SourceKind::Ldap(ldap) = &source.kind else {
        return None;
    };
    match reading? {
        Err(failure) if failure.exit != Exit::SourceFrozen => None,
        _ => Some(directory::look(&source.name, ldap, begin.deadline)),
    }
}

/// How far each clock is from ours.
fn clocks(begin: &Begin<'_>, seen: &SourceSeen) -> Vec<(String, i64)> {
    let ahead = |clock: &Clock| {
        let ours = begin.now.after(clock.at.duration_since(begin.started));
        let seconds = |time: crate::time::Timestamp| i64::try_from(time.0).unwrap_or(i64::MAX);
        seconds(clock.theirs).saturating_sub(seconds(ours))
    };
    seen.servers
        .iter()
        .filter_map(|server| {
            let clock = server.clock.as_ref().ok()?.as_ref()?;
            Some((server.url.clone(), ahead(clock)))
        })
        .collect()
}
