//! `runs.jsonl`: one line a run, for people and for `status`. Bounded, and never needed for correctness.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::exit::Exit;
use crate::policy::LeftOut;
use crate::time::Timestamp;

/// Lines kept when the file is shortened, and how many more it may have before that.
pub(super) const LINES_KEPT: usize = 500;
pub(super) const LINES_SLACK: usize = 100;

/// How one run went.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RunRecord {
    /// The run's id, which every log line of it carries.
    pub id: String,
    /// When it began.
    pub at: Timestamp,
    /// How long it took, hooks included.
    pub milliseconds: u64,
    /// The code the process exited with.
    pub code: u8,
    /// Everything that was true of it, most urgent first.
    pub exits: Vec<Exit>,
    /// The generation in force after it.
    pub generation: u64,
    /// Whether it published.
    pub is_changed: bool,
    /// Per source that answered, the server or file that did.
    #[serde(default)]
    pub answered_by: BTreeMap<String, String>,
    /// Rows per table.
    pub tables: BTreeMap<String, TableCounts>,
    /// Values left out, by reason.
    pub left_out: LeftOut,
    /// What failed.
    pub failures: Vec<Failure>,
}

impl RunRecord {
    /// Takes in what failed and what else is so at the end of a run, and finds its code anew.
    pub fn ended_with(&mut self, failures: Vec<Failure>, exits: &[Exit]) {
        self.exits
            .extend(failures.iter().map(|failure| failure.exit));
        self.exits.extend_from_slice(exits);
        self.exits.sort_unstable();
        self.exits.dedup();
        self.failures.extend(failures);
        self.code = Exit::first(self.exits.iter().copied()).code();
    }
}

/// The figures of a table in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableCounts {
    /// Rows the gateway read before the run.
    pub in_force: u64,
    /// Rows the sources and the configuration want.
    pub wanted: u64,
    /// Rows added.
    pub added: u64,
    /// Rows removed.
    pub removed: u64,
    /// Rows whose value changed.
    pub changed: u64,
    /// Rows that stayed.
    pub kept: u64,
    /// Changes that wait.
    pub held: u64,
}
