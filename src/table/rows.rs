//! Sorted, unique rows of a table, with what is known about each.
//!
//! The rows lie one behind the other in a single buffer, which is also how a ledger stores them: a row costs three octets
//! beside its key, a walk reads memory from the beginning to the end, and a clone shares the buffer. The value is not here,
//! only what it means (`value`). Rows come from keys that the program made (`keys`) or from a file that somebody
//! else wrote; which of the two is a fact of the row.
//!
//! Invariant: keys are unique and in byte order, so two sets of rows can be walked side by side. The same rows are the same
//! octets.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use crate::at_once::at_once;
use crate::config::Format;
use crate::leb128;
use crate::table::value::Meaning;
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
        let mut left = self.0;
        std::iter::from_fn(move || {
            let number = left.trailing_zeros() as usize;
            left &= left.checked_sub(1)?;
            Some(number)
        })
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
            Format::Hash => FormatSet(4),
            Format::Btree => FormatSet(8),
            Format::Lmdb => FormatSet(16),
            Format::Template => FormatSet(32),
            Format::Postgresql => FormatSet(64),
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
    /// What the row means to the gateway.
    pub meaning: Meaning,
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
    /// Whether the guard counts the row: the configuration's own rows and hand-made ones are nobody's recipients, and who
    /// refuses mail from outside is none to the gateway.
    pub fn counts(self) -> bool {
        let is_of_somebody = matches!(self.meaning, Meaning::Recipient | Meaning::Remote);
        is_of_somebody && (!self.sources.is_empty() || (!self.is_always && !self.is_foreign))
    }

    /// What is known of a key that is given twice. Whoever is accepted once is; of two times to leave, the later.
    fn with(self, other: Facts) -> Facts {
        Facts {
            meaning: self.meaning.min(other.meaning),
            sources: SourceSet(self.sources.0 | other.sources.0),
            is_always: self.is_always || other.is_always,
            is_foreign: self.is_foreign && other.is_foreign,
            only_in: if self.only_in.is_empty() || other.only_in.is_empty() {
                FormatSet::default()
            } else {
                self.only_in.with(other.only_in)
            },
            leaving_since: (self.leaving_since.zip(other.leaving_since))
                .map(|(one, other)| one.max(other)),
        }
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
    /// What is known about it, as it is stored.
    stored: &'rows [u8],
}

impl Row<'_> {
    /// What it means to the gateway.
    #[inline]
    pub fn meaning(&self) -> Meaning {
        let flags = self.stored.first().copied().unwrap_or(0);
        Meaning::of_number(flags >> MEANING_SHIFT)
    }

    /// What is known about it.
    #[inline]
    pub fn facts(&self) -> Facts {
        let (flags, mut rest) = self.stored.split_first().unwrap_or((&0, &[]));
        let mut number = || leb128::take(&mut rest).unwrap_or(0);
        Facts {
            meaning: self.meaning(),
            sources: SourceSet(number()),
            is_always: flags & ALWAYS != 0,
            is_foreign: flags & FOREIGN != 0,
            only_in: FormatSet(if flags & ONLY_IN == 0 {
                0
            } else {
                number() as u8
            }),
            leaving_since: (flags & LEAVING != 0).then(|| Timestamp(number())),
        }
    }
}

const ALWAYS: u8 = 1;
const FOREIGN: u8 = 2;
const ONLY_IN: u8 = 4;
const LEAVING: u8 = 8;
/// Two bits of the flags.
const MEANING_SHIFT: u8 = 4;

/// Sorted, unique rows. A clone shares them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// Row behind row: flags, the set of sources, what the flags announce, the length of the key, the key.
    octets: Arc<Vec<u8>>,
    /// Where every [`STRIDE`]th row begins.
    marks: Arc<Vec<usize>>,
    count: usize,
}

/// Rows between two marks: a lookup passes so many keys at most, and a mark costs half an octet a row.
const STRIDE: usize = 16;

/// Octets that are no rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("they are not rows in byte order")]
pub struct NotRows;

impl Rows {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether these are a clone of the others. Equal rows need not be.
    pub fn are_shared_with(&self, other: &Rows) -> bool {
        Arc::ptr_eq(&self.octets, &other.octets)
    }

    /// The rows in byte order of their keys.
    pub fn iter(&self) -> Iter<'_> {
        self.from(0)
    }

    /// Rows by number.
    pub fn range(&self, range: Range<usize>) -> impl Iterator<Item = Row<'_>> {
        let mark = range.start / STRIDE;
        let begin = self.marks.get(mark).copied();
        let rows = self.from(begin.unwrap_or(self.octets.len()));
        rows.skip(range.start - mark * STRIDE).take(range.len())
    }

    fn from(&self, begin: usize) -> Iter<'_> {
        Iter {
            rest: &self.octets[begin..],
        }
    }

    /// The keys in byte order.
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.iter().map(|row| row.key)
    }

    /// The row of a key.
    pub fn find(&self, key: &[u8]) -> Option<Row<'_>> {
        let is_before = |begin: &usize| self.from(*begin).next().is_some_and(|row| row.key <= key);
        let mark = self.marks.partition_point(is_before).checked_sub(1)?;
        let near = self.from(*self.marks.get(mark)?).take(STRIDE);
        near.into_iter().find(|row| row.key == key)
    }

    /// The rows as they are stored; [`Rows::from_octets`] takes them back.
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// Rows that were stored.
    pub fn from_octets(octets: Vec<u8>) -> Result<Rows, NotRows> {
        let (mut marks, mut count, mut at) = (Vec::new(), 0_usize, 0);
        let mut last: Option<&[u8]> = None;
        while at < octets.len() {
            if count.is_multiple_of(STRIDE) {
                marks.push(at);
            }
            let (row, row_octets) = split_row(&octets[at..]).ok_or(NotRows)?;
            if last.is_some_and(|last| last >= row.key) {
                return Err(NotRows);
            }
            last = Some(row.key);
            at += row_octets;
            count += 1;
        }
        Ok(Rows {
            octets: Arc::new(octets),
            marks: Arc::new(marks),
            count,
        })
    }

    /// Both sets side by side in byte order: `(ours, theirs)`, at least one of them present.
    pub fn walk<'rows>(
        &'rows self,
        other: &'rows Rows,
    ) -> impl Iterator<Item = (Option<Row<'rows>>, Option<Row<'rows>>)> {
        let (mut our_rows, mut their_rows) = (self.iter(), other.iter());
        let (mut our, mut their) = (our_rows.next(), their_rows.next());
        std::iter::from_fn(move || {
            let order = match (&our, &their) {
                (None, None) => return None,
                (Some(our), Some(their)) => our.key.cmp(their.key),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
            };
            let mut met = (None, None);
            if order.is_le() {
                met.0 = std::mem::replace(&mut our, our_rows.next());
            }
            if order.is_ge() {
                met.1 = std::mem::replace(&mut their, their_rows.next());
            }
            Some(met)
        })
    }
}

/// Rows one after the other.
#[derive(Clone, Debug)]
pub struct Iter<'rows> {
    rest: &'rows [u8],
}

impl<'rows> Iterator for Iter<'rows> {
    type Item = Row<'rows>;

    #[inline]
    fn next(&mut self) -> Option<Row<'rows>> {
        let Some((row, octets)) = split_row(self.rest) else {
            // Whoever made the rows wrote each as one, or saw that it is.
            debug_assert!(self.rest.is_empty(), "half a row is no end");
            return None;
        };
        self.rest = &self.rest[octets..];
        Some(row)
    }
}

/// The row that stands at the beginning, and how many octets it takes.
#[inline]
fn split_row(octets: &[u8]) -> Option<(Row<'_>, usize)> {
    let (flags, mut rest) = octets.split_first()?;
    leb128::take(&mut rest)?;
    for flag in [ONLY_IN, LEAVING] {
        if flags & flag != 0 {
            leb128::take(&mut rest)?;
        }
    }
    let stored = &octets[..octets.len() - rest.len()];
    let length = usize::try_from(leb128::take(&mut rest)?).ok()?;
    let key = rest.get(..length)?;
    let row_octets = octets.len() - rest.len() + length;
    Some((Row { key, stored }, row_octets))
}

fn push_row(octets: &mut Vec<u8>, key: &[u8], facts: Facts) {
    let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
    octets.push(
        flag(facts.is_always, ALWAYS)
            | flag(facts.is_foreign, FOREIGN)
            | flag(!facts.only_in.is_empty(), ONLY_IN)
            | flag(facts.leaving_since.is_some(), LEAVING)
            | facts.meaning.number() << MEANING_SHIFT,
    );
    leb128::push(octets, facts.sources.0);
    if !facts.only_in.is_empty() {
        leb128::push(octets, u64::from(facts.only_in.0));
    }
    if let Some(since) = facts.leaving_since {
        leb128::push(octets, since.0);
    }
    leb128::push(octets, key.len() as u64);
    octets.extend_from_slice(key);
}

/// Rows that come in byte order, each once.
#[derive(Debug, Default)]
struct InOrder {
    octets: Vec<u8>,
    marks: Vec<usize>,
    count: usize,
    last_key: Range<usize>,
}

impl InOrder {
    fn is_behind_last(&self, key: &[u8]) -> bool {
        self.count == 0 || self.octets[self.last_key.clone()] < *key
    }

    fn push(&mut self, key: &[u8], facts: Facts) {
        debug_assert!(self.is_behind_last(key), "rows come in byte order");
        if self.count.is_multiple_of(STRIDE) {
            self.marks.push(self.octets.len());
        }
        push_row(&mut self.octets, key, facts);
        self.last_key = self.octets.len() - key.len()..self.octets.len();
        self.count += 1;
    }

    /// Rows of which the first is behind our last.
    fn append(&mut self, later: &InOrder) {
        let mut at = self.octets.len();
        self.octets.extend_from_slice(&later.octets);
        while let Some((_, octets)) = split_row(&self.octets[at..]) {
            if self.count.is_multiple_of(STRIDE) {
                self.marks.push(at);
            }
            self.count += 1;
            at += octets;
        }
    }

    fn finish(self) -> Rows {
        Rows {
            octets: Arc::new(self.octets),
            marks: Arc::new(self.marks),
            count: self.count,
        }
    }
}

/// Rows in any order, with repetitions.
///
/// They are put into drawers by the beginning of their key, in the order of the drawers, so that most of sorting happens in
/// memory that the processor has at hand.
#[derive(Debug, Default)]
pub struct RowsBuilder {
    /// All, as long as they come in byte order.
    in_order: InOrder,
    /// All, once they do not.
    drawers: Vec<Drawer>,
}

#[derive(Clone, Debug, Default)]
struct Drawer {
    octets: Vec<u8>,
    count: usize,
}

/// Fewer are sorted before a second thread is started.
const ROWS_WORTH_A_THREAD: usize = 20_000;

/// Fewer rows alike so far are compared key by key.
const ALIKE_MIN: usize = 24;

/// Keys alike for longer are compared as a whole: foreign ones may be of any length.
const DEPTH_MAX: usize = 1024;

impl RowsBuilder {
    /// One more row.
    pub fn push(&mut self, key: &[u8], facts: Facts) {
        if self.drawers.is_empty() {
            if self.in_order.is_behind_last(key) {
                return self.in_order.push(key, facts);
            }
            self.take_drawers();
        }
        let drawer = &mut self.drawers[drawer_of(key)];
        push_row(&mut drawer.octets, key, facts);
        drawer.count += 1;
    }

    fn take_drawers(&mut self) {
        self.drawers = vec![Drawer::default(); DRAWERS_COUNT];
        let rows = std::mem::take(&mut self.in_order).finish();
        for row in rows.iter() {
            self.push(row.key, row.facts());
        }
    }

    /// Sorts and unites: a key given by several origins is one row with all of them.
    pub fn finish(self) -> Rows {
        RowsBuilder::finish_all(vec![self])
    }

    /// The rows of several builders as one.
    pub fn finish_all(mut builders: Vec<RowsBuilder>) -> Rows {
        if let [_] = builders.as_slice()
            && let Some(builder) = builders.pop_if(|builder| builder.drawers.is_empty())
        {
            return builder.in_order.finish();
        }
        // Per drawer, what the builders have in it.
        let mut drawers = vec![Vec::new(); DRAWERS_COUNT];
        for builder in &mut builders {
            if builder.drawers.is_empty() {
                builder.take_drawers();
            }
            for (all, own) in drawers.iter_mut().zip(std::mem::take(&mut builder.drawers)) {
                all.push(own);
            }
        }
        let count = count_of(&drawers);
        if count < ROWS_WORTH_A_THREAD {
            return sorted(drawers).finish();
        }
        let mut below = 0;
        let half = drawers.iter().position(|drawer| {
            below += drawer.iter().map(|part| part.count).sum::<usize>();
            below >= count / 2
        });
        let high = drawers.split_off(half.map_or(0, |half| half + 1));
        let (mut low, high) = at_once(|| sorted(drawers), || sorted(high));
        low.append(&high);
        low.finish()
    }
}

fn count_of(drawers: &[Vec<Drawer>]) -> usize {
    drawers.iter().flatten().map(|part| part.count).sum()
}

/// A letter or digit at the first place of a key makes a drawer with each letter or digit at the second; what lies between
/// or outside of them goes together.
const CLASSES_COUNT: usize = 39;
const DRAWERS_COUNT: usize = CLASSES_COUNT * CLASSES_COUNT;

/// Never a smaller number for a greater key.
fn drawer_of(key: &[u8]) -> usize {
    // Whether all keys of the class have the same octet there.
    let class = |at: usize| match key.get(at) {
        None | Some(0..b'0') => (0, false),
        Some(digit @ b'0'..=b'9') => (usize::from(digit - b'0') + 1, true),
        Some(b':'..b'a') => (11, false),
        Some(letter @ b'a'..=b'z') => (usize::from(letter - b'a') + 12, true),
        Some(b'{'..) => (38, false),
    };
    let (first, is_one_octet) = class(0);
    let second = if is_one_octet { class(1).0 } else { 0 };
    first * CLASSES_COUNT + second
}

/// A row to be sorted.
#[derive(Clone, Copy, Debug)]
struct Slot<'rows> {
    /// Eight octets of its key, from some depth on, as a number: numbers are compared faster than octets far away. Zeros
    /// behind the end.
    window: u64,
    /// From its first octet on.
    octets: &'rows [u8],
}

impl<'rows> Slot<'rows> {
    #[inline]
    fn row(&self) -> Row<'rows> {
        const NONE: Row<'_> = Row {
            key: &[],
            stored: &[],
        };
        split_row(self.octets).map_or(NONE, |(row, _)| row)
    }
}

/// The rows of all drawers in byte order, each once.
fn sorted(drawers: Vec<Vec<Drawer>>) -> InOrder {
    let mut rows = InOrder::default();
    let octets = drawers.iter().flatten().map(|part| part.octets.len());
    rows.octets.reserve_exact(octets.sum());
    for drawer in drawers {
        let mut slots = Vec::with_capacity(drawer.iter().map(|part| part.count).sum());
        for part in &drawer {
            let mut rest = part.octets.as_slice();
            while let Some((row, octets)) = split_row(rest) {
                slots.push(Slot {
                    window: window(row.key, 0),
                    octets: &rest[..octets],
                });
                rest = &rest[octets..];
            }
        }
        sort(&mut slots, 0);
        let mut sorted = slots.iter().map(Slot::row).peekable();
        while let Some(row) = sorted.next() {
            let mut facts = row.facts();
            while let Some(other) = sorted.next_if(|next| next.key == row.key) {
                facts = facts.with(other.facts());
            }
            rows.push(row.key, facts);
        }
    }
    rows
}

#[inline]
fn window(key: &[u8], depth: usize) -> u64 {
    let rest = key.get(depth..).unwrap_or_default();
    if let Some(octets) = rest.first_chunk::<8>() {
        return u64::from_be_bytes(*octets);
    }
    let mut octets = [0; 8];
    octets[..rest.len()].copy_from_slice(rest);
    u64::from_be_bytes(octets)
}

/// Sorts by the windows at this depth, then what is alike there by those eight octets further on.
fn sort(slots: &mut [Slot<'_>], depth: usize) {
    slots.sort_unstable_by_key(|slot| slot.window);
    for alike in slots.chunk_by_mut(|one, other| one.window == other.window) {
        if alike.len() == 1 {
            continue;
        }
        if alike.len() < ALIKE_MIN || depth >= DEPTH_MAX {
            alike.sort_unstable_by(|one, other| one.row().key.cmp(other.row().key));
            continue;
        }
        let mut is_over = true;
        for slot in &mut *alike {
            let key = slot.row().key;
            is_over &= key.len() <= depth + 8;
            slot.window = window(key, depth + 8);
        }
        if is_over {
            // Alike but for zeros at their end.
            alike.sort_unstable_by_key(|slot| slot.row().key.len());
        } else {
            sort(alike, depth + 8);
        }
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
        let facts = rows.find(b"a@x").expect("the row").facts();
        assert_eq!(facts.sources.numbers().collect::<Vec<_>>(), [0, 3]);
        assert!(facts.is_always && facts.counts());
    }

    /// Rows by the plainest means: an ordered map.
    fn naive(given: &[(Vec<u8>, Facts)]) -> Vec<(Vec<u8>, Facts)> {
        let mut rows: std::collections::BTreeMap<Vec<u8>, Facts> = Default::default();
        for (key, facts) in given {
            let known = rows.get(key).copied();
            let facts = known.map_or(*facts, |known| known.with(*facts));
            rows.insert(key.clone(), facts);
        }
        rows.into_iter().collect()
    }

    #[track_caller]
    fn check_sorted(given: &[(Vec<u8>, Facts)], builders_count: usize) {
        let mut builders: Vec<RowsBuilder> = Vec::new();
        builders.resize_with(builders_count, RowsBuilder::default);
        for (number, (key, facts)) in given.iter().enumerate() {
            builders[number % builders_count].push(key, *facts);
        }
        let expected = naive(given);
        let rows = RowsBuilder::finish_all(builders);
        let found: Vec<_> = rows
            .iter()
            .map(|row| (row.key.to_vec(), row.facts()))
            .collect();
        assert!(found == expected, "{} rows given", given.len());
        assert_eq!(rows.len(), expected.len());
        let stored = Rows::from_octets(rows.octets().to_vec()).expect("rows");
        assert!(stored.iter().eq(rows.iter()) && stored.len() == rows.len());
        for (number, (key, facts)) in expected.iter().enumerate() {
            let row = rows.find(key).expect("the row");
            assert_eq!(row.facts(), *facts);
            let range = number..(number + 3).min(rows.len());
            let found: Vec<_> = rows.range(range.clone()).map(|row| row.key).collect();
            let keys = expected[range].iter().map(|(key, _)| key.as_slice());
            assert!(found.into_iter().eq(keys));
        }
        assert!(rows.find(b"no such key").is_none());
        assert_eq!(rows.range(rows.len()..rows.len() + 2).count(), 0);
    }

    /// As many numbers as asked for, always the same.
    fn numbers(count: usize) -> impl Iterator<Item = usize> {
        (0..count).map(|at| at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 17)
    }

    #[test]
    fn many_rows_are_sorted_as_a_few_are() {
        let facts = |number: usize| Facts {
            meaning: Meaning::of_number(number as u8),
            sources: SourceSet::of(number % 64),
            is_always: number.is_multiple_of(3),
            is_foreign: number.is_multiple_of(5),
            only_in: FormatSet((number % 3) as u8),
            leaving_since: (number.is_multiple_of(7)).then_some(Timestamp(number as u64)),
        };
        let keys: [fn(usize) -> Vec<u8>; 7] = [
            // All kinds of octets at the beginning.
            |number| {
                const OCTETS: &[u8] = b"\"#-./09:A`az{\xc3\xd0\xff\0";
                let octet = |at: u32| OCTETS[number / OCTETS.len().pow(at) % OCTETS.len()];
                (0..(number >> 30) as u32 % 4).map(octet).collect()
            },
            // Few keys, each many times.
            |number| format!("{}@example.com", number % 97).into_bytes(),
            // Alike for longer than one window.
            |number| format!("firstname.lastname.{}@example.com", number % 100_000).into_bytes(),
            |number| format!("{number:0>30}").into_bytes(),
            // In order already.
            |number| number.to_be_bytes()[..2].to_vec(),
            // Alike but for zeros.
            |number| vec![0; number % 40],
            |number| {
                [
                    vec![b'a'; 3 * DEPTH_MAX],
                    vec![0; number % 3],
                    vec![1; number % 5],
                ]
                .concat()
            },
        ];
        for key in keys {
            for count in [0, 1, 2, 500, ROWS_WORTH_A_THREAD + 1] {
                let given: Vec<_> = numbers(count)
                    .map(|number| (key(number), facts(number)))
                    .collect();
                let is_long = given.first().is_some_and(|(key, _)| key.len() > DEPTH_MAX);
                let given = if is_long {
                    &given[..count.min(500)]
                } else {
                    &given
                };
                for builders_count in [1, 2, 3] {
                    check_sorted(given, builders_count);
                }
            }
        }
    }

    #[test]
    fn drawers_are_in_the_order_of_keys() {
        let mut last = drawer_of(b"");
        for first in 0..=u8::MAX {
            let pairs = (0..=u8::MAX).map(|second| vec![first, second]);
            for key in std::iter::once(vec![first]).chain(pairs) {
                let drawer = drawer_of(&key);
                assert!((last..DRAWERS_COUNT).contains(&drawer), "{key:?}");
                last = drawer;
            }
        }
    }

    #[test]
    fn octets_that_are_no_rows_are_refused() {
        let octets = rows(&["a@x", "b@x", "c@x"]).octets().to_vec();
        let row_octets = octets.len() / 3;
        for length in 0..octets.len() {
            let found = Rows::from_octets(octets[..length].to_vec());
            assert_eq!(found.is_ok(), length % row_octets == 0, "cut at {length}");
        }
        let swapped = [&octets[row_octets..], &octets[..row_octets]].concat();
        assert!(Rows::from_octets(swapped).is_err());
        assert!(Rows::from_octets(octets.repeat(2)).is_err());
        for at in 0..octets.len() {
            let mut flipped = octets.clone();
            flipped[at] ^= 0x80;
            let _ = Rows::from_octets(flipped);
        }
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
