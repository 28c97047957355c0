//! The report as a unified difference without context, between the rows in force and the rows that would be.

use std::io::{self, Write};

use crate::command::plan::TablePlan;
use crate::harmless::key;

/// A run of neighbouring changes.
#[derive(Default)]
struct Hunk {
    before: usize,
    after: usize,
    gone: Vec<String>,
    come: Vec<String>,
}

/// The difference of one table; nothing where nothing changes.
pub fn table(out: &mut dyn Write, plan: &TablePlan<'_>) -> io::Result<()> {
    if plan.diff.is_empty() {
        return Ok(());
    }
    let path = plan.table.path.display();
    writeln!(out, "--- {path} (in force)\n+++ {path} (wanted)")?;
    let rows = plan.judgement.approved.rows();
    let (mut before, mut after) = (0, 0);
    let mut hunk = Hunk::default();
    for (was, is) in plan.in_force.walk(rows) {
        let from = was.map(|row| key(plan.values.of(&row)));
        let to = is.map(|row| key(plan.table.values.of(row.meaning()).as_bytes()));
        let is_kept = from.is_some() && from == to;
        if is_kept {
            hunk.flush(out)?;
        }
        before += usize::from(was.is_some());
        after += usize::from(is.is_some());
        if is_kept {
            hunk = Hunk {
                before,
                after,
                ..Hunk::default()
            };
            continue;
        }
        if let (Some(row), Some(from)) = (was, from) {
            hunk.gone.push(format!("{} {from}", key(row.key)));
        }
        if let (Some(row), Some(to)) = (is, to) {
            hunk.come.push(format!("{} {to}", key(row.key)));
        }
    }
    hunk.flush(out)
}

impl Hunk {
    fn flush(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.gone.is_empty() && self.come.is_empty() {
            return Ok(());
        }
        // A side without lines is named by the line before it.
        let start = |at: usize, lines: &[String]| if lines.is_empty() { at } else { at + 1 };
        let (old, new) = (
            start(self.before, &self.gone),
            start(self.after, &self.come),
        );
        writeln!(
            out,
            "@@ -{old},{} +{new},{} @@",
            self.gone.len(),
            self.come.len()
        )?;
        for line in &self.gone {
            writeln!(out, "-{line}")?;
        }
        for line in &self.come {
            writeln!(out, "+{line}")?;
        }
        Ok(())
    }
}
