//! What went wrong, told so that somebody can act on it at night.
//!
//! Each stage has its own closed error enum; on its way out it becomes a [`Failure`], which cannot be built without an
//! answer to all five questions: what failed, where, why, what remains in force, what to do next. The same value is
//! printed, logged and recorded. Not here: the printing (`report`).

use serde::{Deserialize, Serialize};

use crate::exit::Exit;

/// One failure, fatal or not, with its five answers. No secret ever enters one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The exit code it asks for.
    pub exit: Exit,
    /// What failed, as a sentence without a period: `source corp: page 7 ended with sizeLimitExceeded (4)`.
    pub what: String,
    /// Where: a server and base, a file and line, a program.
    pub place: String,
    /// The cause behind it, as the other side told it.
    pub why: String,
    /// What the gateway goes on doing meanwhile.
    pub in_force: String,
    /// What to do.
    pub next: String,
}

impl Failure {
    /// What remains in force when a run stops before it touched anything.
    pub const NOTHING_TOUCHED: &'static str = "every table stays as it was; nothing was touched";

    /// What failed and why, in one line: how state remembers it.
    pub fn cause(&self) -> String {
        format!("{}: {}", self.what, self.why)
    }
}

/// A result whose failure is told in full.
pub type Result<T> = std::result::Result<T, Box<Failure>>;
