//! The verbs, one file each. `sync` is the pipeline; every other verb is a prefix of it or reads what it left behind.

pub mod approve;
pub mod check;
pub mod completions;
pub mod diff;
pub mod doctor;
mod ended;
pub mod explain;
mod facts;
pub mod history;
pub mod init;
pub mod man;
mod notices;
mod owed;
pub mod plan;
mod proof;
mod publication;
pub mod status;
pub mod sync;
pub mod verify;

use std::time::Instant;

use crate::config::Config;
use crate::log;
use crate::snapshot::Progress;
use crate::state::head::Head;
use crate::time::{Clocks, Timestamp, deadline, rough};

/// The one place where a run takes the time.
fn begin<'run>(
    config: &'run Config,
    started: Instant,
    is_full: bool,
    progress: &'run Progress,
) -> plan::Run<'run> {
    let clocks = Clocks::now();
    let now = clocks.now;
    let id = run_id(now, std::process::id());
    log::run_begins(&id);
    plan::Run {
        config,
        id,
        now,
        clocks,
        deadline: deadline(started, config.run_timeout),
        is_full,
        is_stored: false,
        progress,
    }
}

/// A clock that is set ahead must not end what waits for a time: removals would go that nobody waited for.
fn see_clocks(run: &plan::Run<'_>, head: &mut Head) {
    if let Some(ahead) = head.see(run.clocks) {
        tracing::warn!(
            "the clock was set ahead by {} since the last run: grace, replication_delay and the window of the guard count anew \
             from now on",
            rough(ahead)
        );
    }
}

/// When a run began and its process, so that a line with it tells the time: `20261126T033000Z-4711`.
fn run_id(now: Timestamp, process: u32) -> String {
    let began: String = (now.to_string().chars())
        .filter(|character| !matches!(character, '-' | ':'))
        .collect();
    format!("{began}-{process}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_run_tells_when_it_began() {
        assert_eq!(
            run_id(Timestamp(1_795_663_800), 4711),
            "20261126T033000Z-4711"
        );
    }

    #[test]
    fn a_run_timeout_beyond_the_clock_is_no_limit() {
        let text = "run_timeout = '500000000000years'\n[domains]\nlist = ['x.example']\n[source.a]\nkind = 'list'\n\
                    path = 'a'\n[table.t]\npath = 't'\nformats = ['cdb']\n";
        let config =
            crate::config::parse(std::path::Path::new("/c"), text).expect("a configuration");
        let (started, progress) = (Instant::now(), Progress::default());
        assert!(begin(&config, started, false, &progress).deadline > started + config.history_keep);
    }
}
