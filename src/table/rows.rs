//! Sorted, unique rows of a table, with what is known about each.
//!
//! The keys lie one behind the other in a single buffer, so a million rows are two allocations. The value is not here:
//! all rows of a table have the same. Rows come from keys that the program made (`keys`) or from a file that somebody
//! else wrote; which of the two is a fact of the row.
//!
//! Invariant: keys are unique and in byte order, so two sets of rows can be walked side by side.

use crate::config::Format;
use crate::time::Timestamp;

/// A set of sources, by their number in the list that goes with the rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceSet(pub u64);

impl SourceSet {
    /// The set with one member.
    pub fn of(number: usize) -> SourceSet {
        SourceSet(
            1_u64
                .checked_shl(u32::try_from(number).unwrap_or(u32::MAX))
                .unwrap_or(0),
        )
    }

    /// Whether a source is in it.
    pub fn contains(self, number: usize) -> bool {
        self.0 & SourceSet::of(number).0 != 0
    }

    /// Whether no source is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The numbers of the members.
    pub fn numbers(self) -> impl Iterator<Item = usize> {
        (0..64).filter(move |number| self.contains(*number))
    }
}

/// A set of formats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FormatSet(pub u8);

impl FormatSet {
    /// The set with one member.
    pub fn of(format: Format) -> FormatSet {
        match format {
            Format::Text => FormatSet(1),
            Format::Cdb => FormatSet(2),
        }
    }

    /// Whether no format is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether a format is in it.
    pub fn contains(self, format: Format) -> bool {
        self.0 & FormatSet::of(format).0 != 0
    }

    /// The members of both.
    pub fn with(self, other: FormatSet) -> FormatSet {
        FormatSet(self.0 | other.0)
    }
}

/// What is known about a row beside its key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The sources whose records gave the key.
    pub sources: SourceSet,
    /// `recipients.always` gives it.
    pub is_always: bool,
    /// It stood in a file that we did not write, and no source ever knew it.
    pub is_foreign: bool,
    /// It was found in these files alone and nobody wants it: while it waits, it is written nowhere else. Empty for a row
    /// that belongs into every file.
    pub only_in: FormatSet,
    /// No source gives it any more; it stays from then until the grace is over.
    pub leaving_since: Option<Timestamp>,
}

impl Facts {
    /// Whether the guard counts the row: the configuration's own rows and hand-made ones are nobody's recipients.
    pub fn counts(self) -> bool {
        !self.sources.is_empty() || (!self.is_always && !self.is_foreign)
    }

    /// Whether the row is written in a format.
    pub fn is_in(self, format: Format) -> bool {
        self.only_in.is_empty() || self.only_in.contains(format)
    }
}

/// One row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'rows> {
    /// The lookup key.
    pub key: &'rows [u8],
    /// What is known about it.
    pub facts: Facts,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    start: usize,
    length: usize,
    facts: Facts,
}

/// Sorted, unique rows.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    bytes: Vec<u8>,
    slots: Vec<Slot>,
}

impl Rows {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The rows in byte order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = Row<'_>> {
        self.slots.iter().map(|slot| self.row(slot))
    }

    /// The rows of these numbers.
    pub fn range(&self, numbers: std::ops::Range<usize>) -> impl Iterator<Item = Row<'_>> {
        self.slots[numbers].iter().map(|slot| self.row(slot))
    }

    /// The keys in byte order.
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.iter().map(|row| row.key)
    }

    /// The row of a key.
    pub fn find(&self, key: &[u8]) -> Option<Row<'_>> {
        let at = self
            .slots
            .binary_search_by(|slot| self.row(slot).key.cmp(key))
            .ok()?;
        Some(self.row(&self.slots[at]))
    }

    fn row(&self, slot: &Slot) -> Row<'_> {
        Row {
            key: &self.bytes[slot.start..slot.start + slot.length],
            facts: slot.facts,
        }
    }

    /// Both sets side by side in byte order: `(ours, theirs)`, at least one of them present.
    pub fn walk<'rows>(
        &'rows self,
        other: &'rows Rows,
    ) -> impl Iterator<Item = (Option<Row<'rows>>, Option<Row<'rows>>)> {
        let (mut ours, mut theirs) = (self.iter().peekable(), other.iter().peekable());
        std::iter::from_fn(move || match (ours.peek(), theirs.peek()) {
            (None, None) => None,
            (Some(our), Some(their)) if our.key == their.key => Some((ours.next(), theirs.next())),
            (Some(our), Some(their)) if our.key > their.key => Some((None, theirs.next())),
            (Some(_), _) => Some((ours.next(), None)),
            (None, Some(_)) => Some((None, theirs.next())),
        })
    }
}

/// Rows in any order, with repetitions.
#[derive(Debug, Default)]
pub struct RowsBuilder {
    rows: Rows,
}

impl RowsBuilder {
    /// One more row.
    pub fn push(&mut self, key: &[u8], facts: Facts) {
        self.rows.slots.push(Slot {
            start: self.rows.bytes.len(),
            length: key.len(),
            facts,
        });
        self.rows.bytes.extend_from_slice(key);
    }

    /// Sorts and unites: a key given by several origins is one row with all of them.
    pub fn finish(self) -> Rows {
        let Rows { bytes, mut slots } = self.rows;
        let key = |slot: &Slot| &bytes[slot.start..slot.start + slot.length];
        slots.sort_by(|one, other| key(one).cmp(key(other)));
        slots.dedup_by(|later, first| {
            let is_same = key(later) == key(first);
            if is_same {
                first.facts = united(first.facts, later.facts);
            }
            is_same
        });
        Rows { bytes, slots }
    }
}

fn united(one: Facts, other: Facts) -> Facts {
    Facts {
        sources: SourceSet(one.sources.0 | other.sources.0),
        is_always: one.is_always || other.is_always,
        is_foreign: one.is_foreign && other.is_foreign,
        only_in: if one.only_in.is_empty() || other.only_in.is_empty() {
            FormatSet::default()
        } else {
            one.only_in.with(other.only_in)
        },
        leaving_since: one.leaving_since.and(other.leaving_since),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(keys: &[&str]) -> Rows {
        let mut builder = RowsBuilder::default();
        for key in keys {
            builder.push(key.as_bytes(), Facts::default());
        }
        builder.finish()
    }

    #[test]
    fn rows_are_sorted_and_unique() {
        let rows = rows(&["b@x", "a@x", "b@x", "ä@x", "a.b@x"]);
        let keys: Vec<_> = rows.keys().map(String::from_utf8_lossy).collect();
        assert_eq!(keys, ["a.b@x", "a@x", "b@x", "ä@x"]);
        assert!(rows.find(b"a@x").is_some() && rows.find(b"c@x").is_none());
    }

    #[test]
    fn a_key_of_two_origins_has_both() {
        let mut builder = RowsBuilder::default();
        builder.push(
            b"a@x",
            Facts {
                sources: SourceSet::of(0),
                ..Facts::default()
            },
        );
        builder.push(
            b"a@x",
            Facts {
                sources: SourceSet::of(3),
                ..Facts::default()
            },
        );
        builder.push(
            b"a@x",
            Facts {
                is_always: true,
                ..Facts::default()
            },
        );
        let rows = builder.finish();
        let facts = rows.find(b"a@x").expect("the row").facts;
        assert_eq!(facts.sources.numbers().collect::<Vec<_>>(), [0, 3]);
        assert!(facts.is_always && facts.counts());
    }

    #[test]
    fn walking_meets_every_key_once() {
        let (one, other) = (rows(&["a", "b", "d"]), rows(&["b", "c", "d", "e"]));
        let met: Vec<String> = one
            .walk(&other)
            .map(|(ours, theirs)| {
                let text = |row: Option<Row<'_>>| {
                    row.map_or("-".into(), |row| {
                        String::from_utf8_lossy(row.key).into_owned()
                    })
                };
                format!("{}{}", text(ours), text(theirs))
            })
            .collect();
        assert_eq!(met, ["a-", "bb", "-c", "dd", "-e"]);
    }
}
