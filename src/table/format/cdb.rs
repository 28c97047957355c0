//! D. J. Bernstein's constant database, byte for byte as `postmap cdb:` writes it.
//!
//! Layout (<https://cr.yp.to/cdb/cdb.txt>, checked against Postfix 3.7.11): 256 pairs of position and slot count; records
//! of key length, value length, key, value in the order given; 256 hash tables of (hash, position) with twice as many
//! slots as keys, searched from `(hash >> 8) mod slots`. All numbers are 32-bit little-endian. Keys and values carry no
//! trailing NUL. Every key is written once, and a value is never empty: an empty one crashes smtpd 3.7.
//!
//! The reader here checks every offset, for it reads files that somebody else wrote. What we write is read by it as well,
//! record by record, and every key is looked up by another reader (the `cdb` crate, in `publish::prove`).

use std::io::{self, Read, Write};

use crate::table::format::{KeyValue, ReadError, RenderError, Said};
use crate::table::value::RowValues;

const TABLES_COUNT: usize = 256;
const HEADER_OCTETS: usize = TABLES_COUNT * 8;

/// Writes the database in one go from its first octet to its last: a first look at the keys tells everything that the
/// header says. It needs 12 octets of memory a key.
pub fn render(
    said: &Said<'_>,
    values: &RowValues,
    out: &mut impl Write,
) -> Result<(), RenderError> {
    let layout = Layout::of(said, values)?;
    out.write_all(layout.header()?.as_flattened())?;
    let entries = write_records(said, values, &layout, out)?;
    let mut slots = Vec::new();
    let mut rest = entries.as_slice();
    for count in layout.counts {
        let (of_table, behind) = rest.split_at(count);
        place(of_table, &mut slots);
        out.write_all(slots.as_flattened())?;
        rest = behind;
    }
    Ok(())
}

/// What is known before the first octet is written.
struct Layout {
    /// Of each key, in the order of the rows.
    hashes: Vec<u32>,
    /// Keys in each table.
    counts: [usize; TABLES_COUNT],
    /// Where the records end and the first table begins.
    records_end: u32,
}

impl Layout {
    fn of(said: &Said<'_>, values: &RowValues) -> Result<Layout, RenderError> {
        let mut hashes = Vec::with_capacity(said.rows_count());
        // Lengths of what lies in memory, so their sum cannot exceed 64 bits.
        let mut texts_octets: u64 = 0;
        let mut rows = said.rows();
        loop {
            let mut batch: [&[u8]; LANES] = [&[]; LANES];
            let mut batch_count = 0;
            for (place, row) in batch.iter_mut().zip(&mut rows) {
                *place = row.key;
                batch_count += 1;
                texts_octets += (row.key.len() + values.of(row.meaning()).len()) as u64;
            }
            hashes.extend_from_slice(&hash_side_by_side(batch)[..batch_count]);
            if batch_count < LANES {
                break;
            }
        }
        let mut counts = [0; TABLES_COUNT];
        for hash in &hashes {
            counts[table_of(*hash)] += 1;
        }
        let records_end = (hashes.len() as u64 * 8)
            .checked_add(texts_octets)
            .and_then(|octets| octets.checked_add(HEADER_OCTETS as u64));
        let records_end = records_end.ok_or(RenderError::TooLarge)?;
        let octets = (hashes.len() as u64 * 16).checked_add(records_end);
        // Where the whole fits into 32 bits, every position and length in it does.
        octets
            .and_then(|octets| u32::try_from(octets).ok())
            .ok_or(RenderError::TooLarge)?;
        Ok(Layout {
            hashes,
            counts,
            records_end: number(records_end)?,
        })
    }

    fn header(&self) -> Result<[[u8; 8]; TABLES_COUNT], RenderError> {
        let mut header = [[0; 8]; TABLES_COUNT];
        let mut position = self.records_end;
        for (pair, count) in header.iter_mut().zip(&self.counts) {
            let slots_count: u32 = number(count * 2)?;
            *pair = two(position, slots_count);
            position = slots_count
                .checked_mul(8)
                .and_then(|octets| octets.checked_add(position))
                .ok_or(RenderError::TooLarge)?;
        }
        Ok(header)
    }
}

/// Writes the records and gives hash and position of each: table by table, within a table in the order of the rows.
fn write_records(
    said: &Said<'_>,
    values: &RowValues,
    layout: &Layout,
    out: &mut impl Write,
) -> Result<Vec<(u32, u32)>, RenderError> {
    let mut entries = vec![(0, 0); layout.hashes.len()];
    let mut next = [0; TABLES_COUNT];
    for table in 1..TABLES_COUNT {
        next[table] = next[table - 1] + layout.counts[table - 1];
    }
    let mut position: u32 = number(HEADER_OCTETS)?;
    for (row, hash) in said.rows().zip(&layout.hashes) {
        let (key, value) = (row.key, values.of(row.meaning()));
        let place = &mut next[table_of(*hash)];
        entries[*place] = (*hash, position);
        *place += 1;
        let (key_octets, value_octets): (u32, u32) = (number(key.len())?, number(value.len())?);
        out.write_all(&two(key_octets, value_octets))?;
        out.write_all(key)?;
        out.write_all(value.as_bytes())?;
        position = [8, key_octets, value_octets]
            .into_iter()
            .try_fold(position, u32::checked_add)
            .ok_or(RenderError::TooLarge)?;
    }
    Ok(entries)
}

fn number<N>(number: N) -> Result<u32, RenderError>
where
    u32: TryFrom<N>,
{
    u32::try_from(number).map_err(|_| RenderError::TooLarge)
}

fn two(first: u32, second: u32) -> [u8; 8] {
    (u64::from(first) | u64::from(second) << 32).to_le_bytes()
}

/// The slots of one table; an empty one is all zero, and no record has position 0.
fn place(entries: &[(u32, u32)], slots: &mut Vec<[u8; 8]>) {
    slots.clear();
    slots.resize(entries.len() * 2, [0; 8]);
    for (hash, position) in entries {
        let mut slot = (hash >> 8) as usize % slots.len();
        while slots[slot] != [0; 8] {
            slot = if slot + 1 == slots.len() { 0 } else { slot + 1 };
        }
        slots[slot] = two(*hash, *position);
    }
}

const LANES: usize = 4;

/// The hashes of several keys. Each octet waits for the one before it, so a processor takes several keys in the time of
/// one.
fn hash_side_by_side(keys: [&[u8]; LANES]) -> [u32; LANES] {
    let length_min = keys.iter().map(|key| key.len()).min().unwrap_or(0);
    let mut hashes = [HASH_OF_NOTHING; LANES];
    for at in 0..length_min {
        for (hash, key) in hashes.iter_mut().zip(keys) {
            *hash = hash_on(*hash, key[at]);
        }
    }
    for (hash, key) in hashes.iter_mut().zip(keys) {
        *hash = key[length_min..]
            .iter()
            .fold(*hash, |hash, octet| hash_on(hash, *octet));
    }
    hashes
}

const HASH_OF_NOTHING: u32 = 5381;

fn hash_on(hash: u32, octet: u8) -> u32 {
    (hash << 5).wrapping_add(hash) ^ u32::from(octet)
}

fn table_of(hash: u32) -> usize {
    (hash & 0xff) as usize
}

/// All records of a file that somebody else wrote, in its order.
pub fn read(bytes: &[u8]) -> Result<Vec<KeyValue>, ReadError> {
    let mut rows = Vec::new();
    each_record(bytes, bytes.len() as u64, |key, value| {
        rows.push((without_nul(key).to_vec(), without_nul(value).to_vec()));
    })?;
    Ok(rows)
}

/// Tells the records of a file of a known length as it is read, in its order. What lies behind the records is left unread.
pub fn each_record(
    mut input: impl Read,
    octets: u64,
    mut each: impl FnMut(&[u8], &[u8]),
) -> Result<(), ReadError> {
    let error = |text: &str| ReadError(text.to_owned());
    let unread = |error: io::Error| ReadError(error.to_string());
    if octets < HEADER_OCTETS as u64 {
        return Err(error("it is shorter than the header of a CDB"));
    }
    let mut header = [[0; 8]; TABLES_COUNT];
    input
        .read_exact(header.as_flattened_mut())
        .map_err(unread)?;
    // The records end where the first hash table begins.
    let tables = header.iter().map(|pair| two_of(*pair).0);
    let records_end = tables
        .min()
        .filter(|end| (HEADER_OCTETS as u64..=octets).contains(end))
        .ok_or_else(|| error("its header points outside the file"))?;
    let mut left = records_end - HEADER_OCTETS as u64;
    let mut record = Vec::new();
    while left > 0 {
        let over_the_end = || error("a record runs over the end of the records");
        left = left.checked_sub(8).ok_or_else(over_the_end)?;
        let mut lengths = [0; 8];
        input.read_exact(&mut lengths).map_err(unread)?;
        let (key_octets, value_octets) = two_of(lengths);
        let record_octets = key_octets + value_octets;
        left = left.checked_sub(record_octets).ok_or_else(over_the_end)?;
        let key_end = usize::try_from(key_octets).map_err(|_| over_the_end())?;
        record.resize(
            usize::try_from(record_octets).map_err(|_| over_the_end())?,
            0,
        );
        input.read_exact(&mut record).map_err(unread)?;
        let (key, value) = record.split_at(key_end);
        each(key, value);
    }
    Ok(())
}

fn two_of(pair: [u8; 8]) -> (u64, u64) {
    let both = u64::from_le_bytes(pair);
    (both & u64::from(u32::MAX), both >> 32)
}

/// Postfix reads keys and values with and without a trailing NUL (`postmap -N`).
fn without_nul(octets: &[u8]) -> &[u8] {
    octets.strip_suffix(b"\0").unwrap_or(octets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Format;
    use crate::table::rows::{Facts, Rows, RowsBuilder};
    use crate::table::value::Meaning;

    fn rendered(rows: &Rows) -> Vec<u8> {
        let mut bytes = Vec::new();
        render(&Said::of(Format::Cdb, rows), &values(), &mut bytes).expect("small enough");
        bytes
    }

    fn rows(count: usize) -> Rows {
        let mut builder = RowsBuilder::default();
        for number in 0..count {
            let facts = Facts {
                meaning: Meaning::of_number(number as u8),
                ..Facts::default()
            };
            builder.push(format!("recipient{number}@example.com").as_bytes(), facts);
        }
        builder.finish()
    }

    fn values() -> RowValues {
        RowValues::alike("OK").with(Meaning::Domain, "550 5.1.1 User unknown")
    }

    // Equality with `postmap cdb:` byte for byte is tested in tests/postmap.rs.
    #[test]
    fn what_is_rendered_is_read_back() {
        for count in [0, 1, 2, 255, 5000] {
            let rows = rows(count);
            let bytes = rendered(&rows);
            let found = read(&bytes).expect("a database");
            let values = values();
            let meant = rows.iter().map(|row| {
                let value = values.of(row.meaning());
                (row.key.to_vec(), value.as_bytes().to_vec())
            });
            assert!(meant.eq(found), "{count} rows");
        }
    }

    #[test]
    fn an_empty_database_is_2048_octets() {
        let bytes = rendered(&Rows::default());
        assert_eq!(bytes.len(), 2048);
        assert!(bytes.chunks(8).all(|pair| pair == [0, 8, 0, 0, 0, 0, 0, 0]));
    }

    /// The layout said as plainly as possible, in memory.
    fn naive(rows: &Rows) -> Vec<u8> {
        let le = |number: usize| u32::try_from(number).expect("small").to_le_bytes();
        let mut bytes = vec![0; HEADER_OCTETS];
        let mut tables = vec![Vec::new(); TABLES_COUNT];
        let values = values();
        for row in rows.iter() {
            let (key, value) = (row.key, values.of(row.meaning()).as_bytes());
            let hash = naive_hash(key);
            tables[hash as usize % TABLES_COUNT].push((hash, bytes.len()));
            bytes.extend([&le(key.len()), &le(value.len()), key, value].concat());
        }
        for (table, entries) in tables.iter().enumerate() {
            let header = [le(bytes.len()), le(entries.len() * 2)].concat();
            bytes[table * 8..table * 8 + 8].copy_from_slice(&header);
            let mut slots = vec![None; entries.len() * 2];
            for (hash, position) in entries {
                let first = (hash >> 8) as usize % slots.len();
                let mut tried = (first..slots.len()).chain(0..first);
                let free = tried.find(|slot| slots[*slot].is_none()).expect("room");
                slots[free] = Some((*hash, *position));
            }
            for slot in slots {
                let (hash, position) = slot.unwrap_or_default();
                bytes.extend([hash.to_le_bytes(), le(position)].concat());
            }
        }
        bytes
    }

    fn naive_hash(key: &[u8]) -> u32 {
        key.iter().fold(5381, |hash, octet| {
            (hash << 5_u32).wrapping_add(hash) ^ u32::from(*octet)
        })
    }

    #[test]
    fn one_pass_writes_what_the_layout_says() {
        for count in [0, 1, 3, 4, 5, 255, 3000] {
            let rows = rows(count);
            assert!(rendered(&rows) == naive(&rows), "{count} rows");
        }
    }

    #[test]
    fn keys_of_any_length_hash_side_by_side_as_alone() {
        let long = [0xff; 300];
        let keys: [&[u8]; LANES] = [b"", b"a", &long, b"anna@example.com"];
        assert_eq!(hash_side_by_side(keys), keys.map(naive_hash));
    }

    #[test]
    fn what_cannot_be_addressed_is_refused_before_anything_is_written() {
        let value = "x".repeat(50_000_000);
        for (count, is_too_large) in [(85, false), (86, true)] {
            let rows = rows(count);
            let layout = Layout::of(&Said::of(Format::Cdb, &rows), &RowValues::alike(&value));
            assert_eq!(layout.is_err(), is_too_large, "{count} rows");
        }
    }

    #[test]
    fn broken_files_are_refused_and_never_a_panic() {
        let bytes = rendered(&rows(20));
        assert!(read(&[]).is_err());
        for length in 0..bytes.len() {
            let whole = read(&bytes[..length]);
            assert!(
                whole.is_err() || whole.is_ok_and(|rows| rows.len() == 20),
                "cut at {length}"
            );
        }
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x80;
            let _ = read(&flipped);
        }
    }
}
