//! The verbs, one file each. `sync` is the pipeline; every other verb is a prefix of it or reads what it left behind.

pub mod approve;
pub mod check;
pub mod diff;
pub mod explain;
pub mod history;
pub mod plan;
mod publication;
pub mod status;
pub mod sync;

use std::time::Instant;

use crate::config::Config;
use crate::snapshot::Progress;
use crate::time::Timestamp;

/// The one place where a run takes the time.
fn begin<'run>(
    config: &'run Config,
    started: Instant,
    progress: &'run Progress,
) -> plan::Run<'run> {
    let now = Timestamp::now();
    plan::Run {
        config,
        id: format!("{:x}-{:x}", now.0, std::process::id()),
        now,
        deadline: started + config.run_timeout,
        progress,
    }
}
