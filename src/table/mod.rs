//! A table: the sorted rows that a gateway reads, and the formats in which they are written.

pub mod format;
pub mod plain;
pub mod rows;
pub mod value;
pub mod wanted;
