//! The difference between two states of a table, as rows. Pure.

use std::collections::HashMap;

use crate::table::rows::{Row, Rows, RowsBuilder};
use crate::table::value::{Meaning, RowValues};

/// A row whose value changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Its key.
    pub key: Vec<u8>,
    /// What it meant before.
    pub meant: Meaning,
    /// The value before.
    pub from: Vec<u8>,
    /// The value after.
    pub to: Vec<u8>,
}

/// What a gateway sees change.
#[derive(Clone, Debug, Default)]
pub struct Diff {
    /// Rows that come.
    pub added: Rows,
    /// Rows that go.
    pub removed: Rows,
    /// Rows that stay with another value, sorted.
    pub changed: Vec<Changed>,
    /// How many rows stay as they are.
    pub kept_count: u64,
}

impl Diff {
    /// From `before` to `after`, each with its values.
    pub fn between(
        before: &Rows,
        values_before: &Values,
        after: &Rows,
        values: &RowValues,
    ) -> Diff {
        let mut diff = Diff::default();
        if before.is_empty() {
            diff.added = after.clone();
            return diff;
        }
        let (mut added, mut removed) = (RowsBuilder::default(), RowsBuilder::default());
        let are_alike = values_before.are(values);
        for (was, is) in before.walk(after) {
            match (was, is) {
                (Some(was), Some(is)) if are_alike && was.meaning() == is.meaning() => {
                    diff.kept_count += 1;
                }
                (Some(was), Some(is)) => {
                    let from = values_before.of(&was);
                    let to = values.of(is.meaning()).as_bytes();
                    if from == to {
                        diff.kept_count += 1;
                    } else {
                        let (key, from, to) = (was.key.to_vec(), from.to_vec(), to.to_vec());
                        let meant = was.meaning();
                        diff.changed.push(Changed {
                            key,
                            meant,
                            from,
                            to,
                        });
                    }
                }
                (Some(row), None) => removed.push(row.key, row.facts()),
                (None, Some(row)) => added.push(row.key, row.facts()),
                (None, None) => {}
            }
        }
        diff.added = added.finish();
        diff.removed = removed.finish();
        diff
    }

    /// Nothing changes in `rows`.
    pub fn none(rows: &Rows) -> Diff {
        Diff {
            kept_count: rows.len() as u64,
            ..Diff::default()
        }
    }

    /// Whether the gateway would see nothing.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

/// The values of rows in force: those that we wrote, by meaning, and others for rows in a foreign file.
#[derive(Clone, Debug, Default)]
pub struct Values {
    /// Of every row without an entry in `others`.
    pub common: RowValues,
    /// Of rows in foreign files.
    pub others: HashMap<Vec<u8>, Vec<u8>>,
}

impl Values {
    /// Whether rows of every meaning have these.
    fn are(&self, values: &RowValues) -> bool {
        self.common == *values && self.others.is_empty()
    }

    /// The value of a row.
    pub fn of(&self, row: &Row<'_>) -> &[u8] {
        let other = self.others.get(row.key).map(Vec::as_slice);
        other.unwrap_or_else(|| self.common.of(row.meaning()).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::rows::{Facts, RowsBuilder};

    #[test]
    fn a_difference_names_every_row_that_a_gateway_sees_change() {
        let rows = |keys: &[&str]| {
            let mut builder = RowsBuilder::default();
            keys.iter()
                .for_each(|key| builder.push(key.as_bytes(), Facts::default()));
            builder.finish()
        };
        let values = Values {
            common: RowValues::alike("OK"),
            others: HashMap::from([(b"c".to_vec(), b"1".to_vec())]),
        };
        let diff = Diff::between(
            &rows(&["a", "b", "c"]),
            &values,
            &rows(&["b", "c", "d"]),
            &RowValues::alike("OK"),
        );
        assert!(diff.added.keys().eq([b"d"]));
        assert!(diff.removed.keys().eq([b"a"]));
        assert_eq!(
            diff.changed,
            [Changed {
                key: b"c".to_vec(),
                meant: Meaning::Recipient,
                from: b"1".to_vec(),
                to: b"OK".to_vec()
            }]
        );
        assert_eq!(diff.kept_count, 1);
        let same = Diff::between(&rows(&["a"]), &values, &rows(&["a"]), &values.common);
        assert!(same.is_empty());
    }
}
