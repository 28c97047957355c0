//! Where recipients come from: one way to read a source, whatever it is.
//!
//! Not here: what becomes of a source that could not be read (`command::plan` stands in its last complete records).

pub mod file;
pub mod ldif;
pub mod list;
pub mod referral;

use std::time::Instant;

use crate::config::{Source, SourceKind};
use crate::directory::{self, Earlier};
use crate::error::{Failure, Result};
use crate::exit::Exit;
use crate::records::Spool;
use crate::snapshot::{Progress, Reading, SourceProgress};
use crate::state::State;
use crate::time::Timestamp;
use file::FileFailure;

/// Reads all sources at once, each in a thread of its own and into a spool of its own; a failing one fails alone. In the
/// order given.
pub fn read_all(
    sources: &[(&Source, Option<Earlier<'_>>)],
    state: &State,
    now: Timestamp,
    deadline: Instant,
    progress: &Progress,
) -> Vec<Result<Reading>> {
    std::thread::scope(|scope| {
        let started: Vec<_> = sources
            .iter()
            .map(|(source, earlier)| {
                let reader = std::thread::Builder::new().name(format!("source {}", source.name));
                let earlier = *earlier;
                let mut spool = state.spool(&source.name);
                let progress = progress.begin(&source.name);
                reader.spawn_scoped(scope, move || {
                    let reading = read(source, earlier, &mut spool, now, deadline, &progress);
                    progress.end();
                    reading
                })
            })
            .collect();
        let joined = sources.iter().zip(started).map(|((source, _), started)| {
            match started.map(|thread| thread.join()) {
                Ok(Ok(reading)) => reading,
                Ok(Err(_)) => Err(not_read(
                    source,
                    Exit::Bug,
                    "its reader failed; please report this with the log",
                )),
                Err(error) => Err(not_read(source, Exit::SourceFrozen, &error.to_string())),
            }
        });
        joined.collect()
    })
}

fn read(
    source: &Source,
    earlier: Option<Earlier<'_>>,
    spool: &mut Spool,
    now: Timestamp,
    deadline: Instant,
    progress: &SourceProgress,
) -> Result<Reading> {
    let name = &source.name;
    let file_failed = |failure: FileFailure| Box::new(failure.failure(name));
    let snapshot = match &source.kind {
        SourceKind::Ldap(ldap) => {
            return directory::read(name, ldap, earlier, deadline, spool, progress).map_err(
                |failure| {
                    Box::new(match failure.not_stored() {
                        Some(error) => error.failure(name),
                        None => failure.failure(""),
                    })
                },
            );
        }
        SourceKind::Ldif(file) => ldif::read(file, now, deadline, spool, progress),
        SourceKind::List(file) => list::read(file, now, deadline, spool, progress),
    };
    snapshot.map(Reading::Complete).map_err(file_failed)
}

fn not_read(source: &Source, exit: Exit, why: &str) -> Box<Failure> {
    Box::new(Failure {
        exit,
        what: format!("source {}: it could not be read", source.name),
        place: format!("[source.{}]", source.name),
        why: why.into(),
        in_force: String::new(),
        next: "the next run tries again".into(),
    })
}
