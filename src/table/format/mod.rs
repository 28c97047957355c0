//! The forms in which a table is written and read back.
//!
//! Each format renders rows into a stream and reads a stream back row by row; both are pure, and neither ever holds a
//! whole file. What is written is proven by reading it back before anything is renamed (`publish::prove`). The same rows
//! give the same bytes. What postmap builds (`hash`, `btree`, `lmdb`) is rendered as the text that postmap reads, and only
//! postmap reads it back (`publish::built`). A relation is rendered as PostgreSQL copies it (`publish::relation`).

pub mod built;
pub mod cdb;
pub mod copy;
pub mod template;
pub mod text;

use std::io::{self, Write};
use std::ops::Range;

use crate::config::Format;
use crate::fold::Folding;
use crate::table::format::template::Template;
use crate::table::rows::{Row, Rows};
use crate::table::value::{Meaning, RowValues};

/// A row as a file says it.
pub type KeyValue = (Vec<u8>, Vec<u8>);

/// Why rows are not written in a format.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// CDB offsets have 32 bits.
    #[error("the table would be larger than the 4 GiB that a CDB can address")]
    TooLarge,
    /// A template came upon something that it cannot do.
    #[error("{0}")]
    Template(String),
    /// They cannot be put where they belong.
    #[error(transparent)]
    NotWritten(#[from] io::Error),
}

/// Why a file is not a table of a format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ReadError(pub(crate) String);

/// The rows that a file of one format has: without keys that the format cannot say, and without rows that somebody wrote
/// into another file and that wait there. Nothing else is rendered. It is a view: what is not said is passed over anew
/// each time, and nothing is copied.
#[derive(Clone, Copy, Debug)]
pub struct Said<'rows> {
    format: Format,
    template: Option<&'rows Template>,
    rows: &'rows Rows,
}

impl<'rows> Said<'rows> {
    /// What a format says of a table.
    pub fn of(format: Format, rows: &'rows Rows) -> Said<'rows> {
        Said {
            format,
            template: None,
            rows,
        }
    }

    /// With the template of the table, which says what the format `template` says.
    pub fn by(self, template: Option<&'rows Template>) -> Said<'rows> {
        Said { template, ..self }
    }

    /// The template, where the format is made by one.
    pub fn template(&self) -> Option<&'rows Template> {
        self.template.filter(|_| self.format == Format::Template)
    }

    /// Whether a file of the format has a row.
    pub fn has(&self, row: &Row<'_>) -> bool {
        let can_say = match self.format {
            Format::Text => text::can_say(row.key),
            Format::Cdb => true,
            Format::Hash | Format::Btree | Format::Lmdb => built::can_say(self.format, row.key),
            Format::Postgresql => copy::can_say(row.key),
            Format::Template => self
                .template
                .is_some_and(|template| template.can_say(row.key)),
        };
        can_say && row.facts().is_in(self.format)
    }

    /// The format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The keys, in byte order.
    pub fn keys(&self) -> impl Iterator<Item = &'rows [u8]> + use<'rows> {
        self.rows().map(|row| row.key)
    }

    /// The rows, in byte order of their keys.
    pub fn rows(&self) -> impl Iterator<Item = Row<'rows>> + use<'rows> {
        self.rows_of(0..self.rows.len())
    }

    /// Keys with their values, in byte order of the keys.
    pub fn lines<'values>(
        &self,
        values: &'values RowValues,
    ) -> impl Iterator<Item = (&'rows [u8], &'values [u8])> + use<'rows, 'values> {
        self.rows()
            .map(|row| (row.key, values.of(row.meaning()).as_bytes()))
    }

    /// Those of the rows that have these numbers; the numbers count every row of the table.
    pub fn rows_of(&self, rows: Range<usize>) -> impl Iterator<Item = Row<'rows>> + use<'rows> {
        let said = *self;
        self.rows.range(rows).filter(move |row| said.has(row))
    }

    /// How many rows the table has, said or not.
    pub fn rows_count(&self) -> usize {
        self.rows.len()
    }
}

/// Writes the content of a file, from its first octet to its last; for what postmap builds, that of the text it reads.
pub fn render(
    said: &Said<'_>,
    values: &RowValues,
    out: &mut impl Write,
) -> Result<(), RenderError> {
    match said.format {
        Format::Text | Format::Hash | Format::Btree | Format::Lmdb => {
            Ok(text::render(said, values, out)?)
        }
        Format::Cdb => cdb::render(said, values, out),
        Format::Template => match said.template {
            Some(template) => {
                // A template is given recipients only, all of which have one value.
                template.render(said.rows, values.of(Meaning::Recipient), out)
            }
            None => Err(RenderError::Template("there is no template".into())),
        },
        Format::Postgresql => Ok(copy::render(said, values, out)?),
    }
}

/// The keys and values of a file that needs no template to be read. Keys of a text are folded, as postmap folds them; in an index they are as they are.
pub fn read(format: Format, bytes: &[u8], folding: Folding) -> Result<Vec<KeyValue>, ReadError> {
    match format {
        Format::Text => Ok(text::read(bytes, folding)),
        Format::Cdb => cdb::read(bytes),
        Format::Hash | Format::Btree | Format::Lmdb => {
            Err(ReadError("only postmap reads such a table".into()))
        }
        Format::Template => Err(ReadError("its template alone can read it".into())),
        Format::Postgresql => copy::read(bytes),
    }
}
