//! Putting tables in force: the only place that writes beside tables and renames onto them.
//!
//! A reader sees the old table or the new one, never a mixture and never none. Every artefact of every table is written
//! beside the live one, by us or by postmap (`built`) or into a transaction (`relation`), proven and synced ([`mod@prepare`])
//! before the first is renamed or committed ([`put_in_force`]); what a dead run left decided is finished forward
//! ([`recover`]). The table in force is never linked, moved aside or written into: a running smtpd learns of a new table from
//! the link count or the time of the file it has open, and a second name would keep both. A file that somebody else gave one
//! gets another time once it is replaced.
//!
//! This module does not decide *whether* to publish: it takes [`crate::guard::Approved`], and in recovery the ledger of a
//! decision that was made of one.

mod built;
pub mod inspect;
pub mod on_disk;
mod prepare;
mod prove;
mod relation;
mod rename;
mod stream;

pub use prepare::{Prepared, is_shared, prepare};
pub use rename::{put_in_force, recover, remove_leftovers};

use std::path::{Path, PathBuf};

use crate::error::Failure;
use crate::exit::Exit;

/// Where an artefact is written before it is renamed. A fixed name, so that nothing can pile up.
fn temporary_path(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.rcptsync-new"))
}

fn not_written(what: &str, path: &Path, why: impl ToString, next: &str) -> Box<Failure> {
    Box::new(Failure {
        exit: Exit::NotWritten,
        what: what.into(),
        place: path.display().to_string(),
        why: why.to_string(),
        in_force: "the old table stays in force".into(),
        next: next.into(),
    })
}
