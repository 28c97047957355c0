//! The forms in which a table is written and read back.
//!
//! Each format renders rows to bytes and reads bytes back to keys and values; both are pure. What is written is proven
//! by reading it back before anything is renamed (`publish::prepare`). The same rows give the same bytes.

pub mod cdb;
pub mod text;

use std::borrow::Cow;

use crate::config::Format;
use crate::fold::Folding;
use crate::table::rows::{Row, Rows, RowsBuilder};

/// A row as a file says it.
pub type KeyValue = (Vec<u8>, Vec<u8>);

/// Why rows cannot be written in a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// CDB offsets have 32 bits.
    #[error("the table would be larger than the 4 GiB that a CDB can address")]
    TooLarge,
}

/// Why a file is not a table of a format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ReadError(pub(crate) String);

/// The rows that a file of one format has: without keys that the format cannot say, and without rows that somebody wrote
/// into another file and that wait there. Nothing else is rendered.
#[derive(Debug)]
pub struct Said<'rows> {
    format: Format,
    rows: Cow<'rows, Rows>,
}

impl<'rows> Said<'rows> {
    /// What a format says of a table.
    pub fn of(format: Format, rows: &'rows Rows) -> Said<'rows> {
        let is_said = |row: &Row<'_>| is_said(format, row);
        if rows.iter().all(|row| is_said(&row)) {
            let rows = Cow::Borrowed(rows);
            return Said { format, rows };
        }
        let mut said = RowsBuilder::default();
        for row in rows.iter().filter(is_said) {
            said.push(row.key, row.facts());
        }
        let rows = Cow::Owned(said.finish());
        Said { format, rows }
    }

    /// The format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The rows.
    pub fn rows(&self) -> &Rows {
        &self.rows
    }
}

/// Whether a file of a format has a row of its table.
pub fn is_said(format: Format, row: &Row<'_>) -> bool {
    let can_say = match format {
        Format::Text => text::can_say(row.key),
        Format::Cdb => true,
    };
    can_say && row.facts().is_in(format)
}

/// The bytes of a file.
pub fn render(said: &Said<'_>, value: &str) -> Result<Vec<u8>, RenderError> {
    match said.format {
        Format::Text => Ok(text::render(&said.rows, value)),
        Format::Cdb => cdb::render(&said.rows, value),
    }
}

/// The keys and values of a file. Keys of a text are folded, as postmap folds them; in an index they are as they are.
pub fn read(format: Format, bytes: &[u8], folding: Folding) -> Result<Vec<KeyValue>, ReadError> {
    match format {
        Format::Text => Ok(text::read(bytes, folding)),
        Format::Cdb => cdb::read(bytes),
    }
}
