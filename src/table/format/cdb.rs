//! D. J. Bernstein's constant database, byte for byte as `postmap cdb:` writes it.
//!
//! Layout (<https://cr.yp.to/cdb/cdb.txt>, checked against Postfix 3.7.11): 256 pairs of position and slot count; records
//! of key length, value length, key, value in the order given; 256 hash tables of (hash, position) with twice as many
//! slots as keys, searched from `(hash >> 8) mod slots`. All numbers are 32-bit little-endian. Keys and values carry no
//! trailing NUL. Every key is written once, and a value is never empty: an empty one crashes smtpd 3.7.
//!
//! The reader here is for files that somebody else wrote and checks every offset; what we write is proven by another
//! reader (the `cdb` crate).

use crate::table::format::{KeyValue, ReadError, RenderError};
use crate::table::rows::Rows;

const TABLES_COUNT: usize = 256;
const HEADER_OCTETS: usize = TABLES_COUNT * 8;

/// The bytes of the database.
pub fn render(rows: &Rows, value: &str) -> Result<Vec<u8>, RenderError> {
    let value = value.as_bytes();
    let records_octets: usize = rows.keys().map(|key| 8 + key.len() + value.len()).sum();
    let octets = HEADER_OCTETS + records_octets + rows.len() * 16;
    let too_large = |_| RenderError::TooLarge;
    u32::try_from(octets).map_err(too_large)?;

    let mut bytes = Vec::with_capacity(octets);
    bytes.resize(HEADER_OCTETS, 0);
    let mut hashes: Vec<Vec<(u32, u32)>> = vec![Vec::new(); TABLES_COUNT];
    for key in rows.keys() {
        let hash = hash(key);
        let position = u32::try_from(bytes.len()).map_err(too_large)?;
        hashes[table_of(hash)].push((hash, position));
        push_u32(&mut bytes, key.len())?;
        push_u32(&mut bytes, value.len())?;
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(value);
    }
    for (table, entries) in hashes.iter().enumerate() {
        let slots = slots_of(entries);
        let mut header = Vec::with_capacity(8);
        push_u32(&mut header, bytes.len())?;
        push_u32(&mut header, slots.len())?;
        bytes[table * 8..table * 8 + 8].copy_from_slice(&header);
        for (hash, position) in slots {
            bytes.extend_from_slice(&hash.to_le_bytes());
            bytes.extend_from_slice(&position.to_le_bytes());
        }
    }
    Ok(bytes)
}

fn push_u32(bytes: &mut Vec<u8>, number: usize) -> Result<(), RenderError> {
    let number = u32::try_from(number).map_err(|_| RenderError::TooLarge)?;
    bytes.extend_from_slice(&number.to_le_bytes());
    Ok(())
}

fn slots_of(entries: &[(u32, u32)]) -> Vec<(u32, u32)> {
    let mut slots = vec![(0, 0); entries.len() * 2];
    for entry in entries {
        let mut slot = (entry.0 >> 8) as usize % slots.len();
        while slots[slot].1 != 0 {
            slot = (slot + 1) % slots.len();
        }
        slots[slot] = *entry;
    }
    slots
}

fn hash(key: &[u8]) -> u32 {
    key.iter().fold(5381, |hash: u32, byte| {
        (hash << 5).wrapping_add(hash) ^ u32::from(*byte)
    })
}

fn table_of(hash: u32) -> usize {
    (hash & 0xff) as usize
}

/// All records of a file that somebody else wrote, in its order.
pub fn read(bytes: &[u8]) -> Result<Vec<KeyValue>, ReadError> {
    let error = |text: &str| ReadError(text.to_owned());
    if bytes.len() < HEADER_OCTETS {
        return Err(error("it is shorter than the header of a CDB"));
    }
    let number = |at: usize| -> Option<usize> {
        let octets: [u8; 4] = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(octets)).ok()
    };
    // The records end where the first hash table begins.
    let tables = (0..TABLES_COUNT).filter_map(|table| number(table * 8));
    let records_end = tables
        .min()
        .filter(|end| (HEADER_OCTETS..=bytes.len()).contains(end));
    let records_end = records_end.ok_or_else(|| error("its header points outside the file"))?;
    let mut rows = Vec::new();
    let mut at = HEADER_OCTETS;
    while at < records_end {
        let record = || {
            let (key_length, value_length) = (number(at)?, number(at + 4)?);
            let key_end = (at + 8).checked_add(key_length)?;
            let value_end = key_end
                .checked_add(value_length)
                .filter(|end| *end <= records_end)?;
            Some((
                bytes.get(at + 8..key_end)?,
                bytes.get(key_end..value_end)?,
                value_end,
            ))
        };
        let (key, value, end) =
            record().ok_or_else(|| error("a record runs over the end of the records"))?;
        rows.push((without_nul(key).to_vec(), without_nul(value).to_vec()));
        at = end;
    }
    Ok(rows)
}

/// Postfix reads keys and values with and without a trailing NUL (`postmap -N`).
fn without_nul(octets: &[u8]) -> &[u8] {
    octets.strip_suffix(b"\0").unwrap_or(octets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::rows::{Facts, RowsBuilder};

    fn rows(count: usize) -> Rows {
        let mut builder = RowsBuilder::default();
        for number in 0..count {
            builder.push(
                format!("recipient{number}@example.com").as_bytes(),
                Facts::default(),
            );
        }
        builder.finish()
    }

    // Equality with `postmap cdb:` byte for byte is tested in tests/postmap.rs.
    #[test]
    fn what_is_rendered_is_read_back() {
        for count in [0, 1, 2, 255, 5000] {
            let rows = rows(count);
            let bytes = render(&rows, "OK").expect("small enough");
            let found = read(&bytes).expect("a database");
            assert_eq!(found.len(), count);
            assert!(found.iter().map(|(key, _)| key.as_slice()).eq(rows.keys()));
            assert!(found.iter().all(|(_, value)| value == b"OK"));
        }
    }

    #[test]
    fn an_empty_database_is_2048_octets() {
        let bytes = render(&Rows::default(), "OK").expect("small enough");
        assert_eq!(bytes.len(), 2048);
        assert!(bytes.chunks(8).all(|pair| pair == [0, 8, 0, 0, 0, 0, 0, 0]));
    }

    #[test]
    fn broken_files_are_refused_and_never_a_panic() {
        let bytes = render(&rows(20), "OK").expect("small enough");
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
