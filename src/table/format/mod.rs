//! The forms in which a table is written and read back.
//!
//! Each format renders rows to bytes and reads bytes back to keys and values; both are pure. What is written is proven
//! by reading it back before anything is renamed (`publish::prepare`). The same rows give the same bytes.

pub mod cdb;
pub mod text;

use crate::config::Format;
use crate::fold::Folding;
use crate::table::rows::Rows;

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

/// The bytes of a table.
pub fn render(format: Format, rows: &Rows, value: &str) -> Result<Vec<u8>, RenderError> {
    match format {
        Format::Text => Ok(text::render(rows, value)),
        Format::Cdb => cdb::render(rows, value),
    }
}

/// The keys and values of a file. Keys of a text are folded, as postmap folds them; in an index they are as they are.
pub fn read(format: Format, bytes: &[u8], folding: Folding) -> Result<Vec<KeyValue>, ReadError> {
    match format {
        Format::Text => Ok(text::read(bytes, folding)),
        Format::Cdb => cdb::read(bytes),
    }
}

/// Whether a format can hold a key at all.
pub fn can_say(format: Format, key: &[u8]) -> bool {
    match format {
        Format::Text => text::can_say(key),
        Format::Cdb => true,
    }
}
