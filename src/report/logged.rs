//! The result of a run as lines of the log: what `journalctl -u rcptsync` shows, and programs that read JSON.
//!
//! One line a table that changed, one a hold (a warning, so that `-q` shows it too), and one at the end. A run without a
//! change has the last one alone. No lists of keys: `rcptsync history` and `rcptsync status` have them.

use super::difference::Difference;
use super::text::{hold_sentence, release};
use crate::log::RESULT;
use crate::state::runs::RunRecord;

/// The whole result; `ended` says in a sentence how the run did, and which files were replaced is told beside it.
pub fn result(difference: &Difference, record: &RunRecord, files: &[String], ended: &str) {
    let is_published = !files.is_empty();
    for (name, table) in (difference.tables.iter()).filter(|_| is_published) {
        let counts = &table.counts;
        let rows_after = counts.kept + counts.changed + counts.added;
        if counts.added + counts.removed + counts.changed == 0 {
            continue;
        }
        tracing::info!(
            target: RESULT,
            table = name,
            added = counts.added,
            removed = counts.removed,
            changed = counts.changed,
            held = counts.held,
            rows = rows_after,
            "table {name}: {} added, {} removed, {} changed, {} in force",
            super::number(counts.added),
            super::number(counts.removed),
            super::number(counts.changed),
            super::counted(rows_after, "row", "rows"),
        );
    }
    for hold in &difference.holds {
        tracing::warn!(
            target: RESULT,
            table = hold.table,
            scope = hold.scope,
            cause = hold.cause.name(),
            digest = hold.digest,
            added = hold.added.len(),
            removed = hold.removed.len(),
            "held: {}, table {}: {}; release: {}",
            hold.scope,
            hold.table,
            hold_sentence(hold),
            release(hold)
        );
    }
    tracing::info!(
        target: RESULT,
        code = record.code,
        changed = record.is_changed,
        generation = record.generation,
        milliseconds = record.milliseconds,
        files = files.join(":"),
        leaving = difference.leaving.len(),
        "{ended}"
    );
}
