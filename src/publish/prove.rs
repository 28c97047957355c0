//! Proving a table that lies beside the live one, before it is renamed.
//!
//! Two readers that are not the writer look at what the disk gives back. One reads the file from its first octet to its
//! last: they must be the octets that were written, and its rows those that were meant, in their order, so none is missing,
//! changed, twice or added. For a CDB, where a gateway does not read but looks up, the `cdb` crate looks up every key.
//! A large CDB is looked up while it is synced and read: the octets it was looked up in are the ones that are compared.
//!
//! Nothing is written here, and no more of a file is held than a block, or mapped than [`MAPPED_ROWS_MAX`] rows with their
//! hash tables.

use std::fs::File;
use std::io::{self, BufReader};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::on_disk::open_without_link;
use super::stream::{self, Hashing, Seal};
use crate::config::Format;
use crate::fold::Folding;
use crate::table::format::{Said, cdb, text};
use crate::table::value::{Meaning, RowValues};

/// Rows that are looked up before the file is mapped anew: the pages of their records stay mapped so long.
const MAPPED_ROWS_MAX: usize = 1 << 18;

/// Rows that a thread looks up before it asks for more.
const SHARE_ROWS: usize = 1 << 13;

/// More threads than these gain nothing: the writing does not become faster.
const THREADS_MAX: usize = 4;

/// Why a file is not what was meant.
pub(super) type Disproof = String;

/// Syncs a file that was written as `meant` and proves that it says what it shall.
pub(super) fn sync_and_prove(
    file: &File,
    path: &Path,
    said: &Said<'_>,
    values: &RowValues,
    meant: &Seal,
    with_threads: bool,
) -> Result<(), Disproof> {
    let sync_and_read = || {
        file.sync_all().map_err(|error| error.to_string())?;
        read_back(path, said, values, meant)
    };
    if said.format() != Format::Cdb {
        return sync_and_read();
    }
    if !with_threads {
        return sync_and_read().and_then(|()| look_up(path, said, values, meant, 1));
    }
    let threads_count = thread::available_parallelism().map_or(1, usize::from);
    let threads_count = threads_count.min(THREADS_MAX);
    let (read, found) = thread::scope(|scope| {
        let look_up = || look_up(path, said, values, meant, threads_count);
        let found = thread::Builder::new().spawn_scoped(scope, look_up);
        let read = sync_and_read();
        (
            read,
            found.map(|found| found.join().unwrap_or_else(|_| Err(READER_FAILED.into()))),
        )
    });
    read.and(found.unwrap_or_else(|error| Err(error.to_string())))
}

/// Reads the file once, and compares its octets and its rows.
fn read_back(
    path: &Path,
    said: &Said<'_>,
    values: &RowValues,
    meant: &Seal,
) -> Result<(), Disproof> {
    let unread = |error: io::Error| format!("it could not be read back: {error}");
    let file = open_without_link(path).map_err(unread)?;
    let octets = file.metadata().map_err(unread)?.len();
    let mut input = stream::reading(file);
    let rows = has_rows(&mut input, octets, said, values);
    if stream::seal_of_rest(input).map_err(unread)? != *meant {
        return Err(NOT_WHAT_WAS_WRITTEN.into());
    }
    rows
}

fn has_rows(
    input: &mut BufReader<Hashing<File>>,
    octets: u64,
    said: &Said<'_>,
    values: &RowValues,
) -> Result<(), Disproof> {
    let mut lines = said.lines(values);
    let mut is_equal = true;
    let mut each = |key: &[u8], value: &[u8]| is_equal &= lines.next() == Some((key, value));
    match said.format() {
        Format::Cdb => {
            cdb::each_record(input, octets, each).map_err(|error| error.to_string())?;
        }
        Format::Template => {
            // Without a reader its octets are compared, and nothing else can be.
            let Some(template) = said.template().filter(|template| template.is_readable()) else {
                return Ok(());
            };
            let value = values.of(Meaning::Recipient).as_bytes();
            template
                .each_row(input, |key, found| each(key, found.unwrap_or(value)))
                .map_err(|error| error.to_string())?;
        }
        // Rows are folded already, so folding them again as ASCII changes nothing and hides nothing.
        Format::Text | Format::Hash | Format::Btree | Format::Lmdb | Format::Postgresql => {
            text::each_row(input, Folding::Ascii, each).map_err(|error| error.to_string())?;
        }
    }
    if is_equal && lines.next().is_none() {
        return Ok(());
    }
    Err(match said.format() {
        Format::Cdb => "it has other records than were meant".into(),
        Format::Template => {
            "read as its mail system reads it, it has other rows than were meant".into()
        }
        Format::Text | Format::Hash | Format::Btree | Format::Lmdb | Format::Postgresql => {
            "read as postmap reads it, the text has other rows than were meant".into()
        }
    })
}

const NOT_WHAT_WAS_WRITTEN: &str = "what was read back is not what was written";
const READER_FAILED: &str = "the CDB reader failed on it";

/// Looks up every key, in the order of the rows, as their records lie.
pub(super) fn look_up(
    path: &Path,
    said: &Said<'_>,
    values: &RowValues,
    meant: &Seal,
    threads_count: usize,
) -> Result<(), Disproof> {
    let rows_count = said.rows_count();
    for start in (0..rows_count).step_by(MAPPED_ROWS_MAX) {
        let mapped = start..rows_count.min(start + MAPPED_ROWS_MAX);
        // The reader maps what is there, and an empty file would end the program.
        let octets = path.metadata().map_err(|error| error.to_string())?.len();
        if octets != meant.octets {
            return Err(NOT_WHAT_WAS_WRITTEN.into());
        }
        // The reader takes a database without records for a broken one; its 2048 octets are compared anyway.
        if said.rows_of(mapped.clone()).next().is_none() {
            continue;
        }
        // The reader may panic on a file that is not what was written; that must stop the publication, not the program.
        let found = AssertUnwindSafe(|| look_up_mapped(path, said, values, mapped, threads_count));
        catch_unwind(found).unwrap_or_else(|_| Err(READER_FAILED.into()))?;
    }
    Ok(())
}

fn look_up_mapped(
    path: &Path,
    said: &Said<'_>,
    values: &RowValues,
    mapped: Range<usize>,
    threads_count: usize,
) -> Result<(), Disproof> {
    let database =
        ::cdb::CDB::open(path).map_err(|error| format!("it does not open as a CDB: {error}"))?;
    let next = AtomicUsize::new(mapped.start);
    let work = || {
        loop {
            let start = next.fetch_add(SHARE_ROWS, Ordering::Relaxed);
            if start >= mapped.end {
                return Ok(());
            }
            let share = start..mapped.end.min(start + SHARE_ROWS);
            said.rows_of(share)
                .try_for_each(|row| has_once(&database, row.key, values.of(row.meaning())))?;
        }
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads_count)
            .map(|_| thread::Builder::new().spawn_scoped(scope, work))
            .collect();
        let mut found = work();
        for other in others {
            // A thread that could not be started left its share to the others.
            let Ok(other) = other else { continue };
            let of_other = other.join().unwrap_or_else(|_| Err(READER_FAILED.into()));
            found = found.and(of_other);
        }
        found
    })
}

fn has_once(database: &::cdb::CDB, key: &[u8], value: &str) -> Result<(), Disproof> {
    let mut all = database.find(key);
    let found = all.next().transpose().map_err(|error| error.to_string())?;
    if found.as_deref() == Some(value.as_bytes()) && all.next().is_none() {
        return Ok(());
    }
    let key = String::from_utf8_lossy(key);
    Err(format!("{key:?} is not found in it exactly once"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::format;
    use crate::table::rows::{Facts, Rows, RowsBuilder};

    const FORMATS: [Format; 2] = [Format::Text, Format::Cdb];

    fn rows(numbers: impl Iterator<Item = usize>) -> Rows {
        let mut rows = RowsBuilder::default();
        for number in numbers {
            rows.push(
                format!("recipient{number}@example.com").as_bytes(),
                Facts::default(),
            );
        }
        rows.finish()
    }

    fn rendered(format: Format, rows: &Rows, value: &str) -> Vec<u8> {
        let mut octets = Vec::new();
        format::render(
            &Said::of(format, rows),
            &RowValues::alike(value),
            &mut octets,
        )
        .expect("memory");
        octets
    }

    fn seal(octets: &[u8]) -> Seal {
        stream::write(Vec::new(), false, |out| {
            Ok(io::Write::write_all(out, octets)?)
        })
        .expect("memory")
    }

    /// Proves a file with a content beside rows and what is said to have been written.
    fn proven(
        format: Format,
        content: &[u8],
        meant: &Seal,
        rows: &Rows,
        with_threads: bool,
    ) -> Result<(), Disproof> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("table");
        std::fs::write(&path, content).expect("written");
        let file = File::open(&path).expect("opened");
        sync_and_prove(
            &file,
            &path,
            &Said::of(format, rows),
            &RowValues::alike("OK"),
            meant,
            with_threads,
        )
    }

    /// A file that is not what was written fails, and so does one that was written wrongly, though its seal is right.
    #[track_caller]
    fn check_disproven(format: Format, content: &[u8], meant: &Rows, what: &str) {
        let written = rendered(format, meant, "OK");
        let damaged = proven(format, content, &seal(&written), meant, false);
        assert_eq!(
            damaged,
            Err("what was read back is not what was written".into()),
            "{format:?}: {what}"
        );
        let rendered_wrongly = proven(format, content, &seal(content), meant, false);
        assert!(rendered_wrongly.is_err(), "{format:?}: {what}, rendered so");
    }

    #[test]
    fn what_was_meant_is_proven() {
        for format in FORMATS {
            for count in [0, 1, SHARE_ROWS * 2 + 1] {
                let rows = rows(0..count);
                let content = rendered(format, &rows, "OK");
                for with_threads in [false, true] {
                    let proven = proven(format, &content, &seal(&content), &rows, with_threads);
                    assert_eq!(proven, Ok(()), "{format:?}: {count} rows");
                }
            }
        }
    }

    #[test]
    fn other_rows_than_were_meant_are_found() {
        let meant = rows(0..100);
        for format in FORMATS {
            let check = |other: &Rows, value: &str, what: &str| {
                check_disproven(format, &rendered(format, other, value), &meant, what);
            };
            check(&rows(0..99), "OK", "the last row is missing");
            check(&rows(1..100), "OK", "the first row is missing");
            check(&rows(0..101), "OK", "a row too many");
            check(&rows((0..99).chain([100])), "OK", "another row");
            check(&rows(0..0), "OK", "no rows");
            check(&meant, "NO", "another value");
            check(&meant, "OK and more", "a longer value");
        }
        let text = rendered(Format::Text, &meant, "OK");
        let twice = [&text[..], b"recipient99@example.com OK\n"].concat();
        check_disproven(Format::Text, &twice, &meant, "a row twice");
        check_disproven(Format::Text, &[], &meant, "an empty file");
        check_disproven(Format::Cdb, &[], &meant, "an empty file");
        check_disproven(Format::Cdb, &twice_in_cdb(), &rows(0..1), "a row twice");
    }

    /// A database of one key, with two records and two slots for it.
    fn twice_in_cdb() -> Vec<u8> {
        let once = rendered(Format::Cdb, &rows(0..1), "OK");
        let slots_at = once.len() - 16;
        let record = &once[2048..slots_at];
        let slot = once[slots_at..].chunks(8).find(|slot| slot[4..] != [0; 4]);
        let hash = &slot.expect("a slot")[..4];
        let positions = [2048, 2048 + record.len()];
        let mut octets = once[..2048].to_vec();
        for pair in octets.chunks_mut(8) {
            let is_filled = pair[4..] != [0; 4];
            let end = u32::from_le_bytes([pair[0], pair[1], pair[2], pair[3]]) as usize;
            let after = if end > slots_at { 32 } else { 0 };
            pair[..4].copy_from_slice(&le(slots_at + record.len() + after));
            pair[4..].copy_from_slice(&le(if is_filled { 4 } else { 0 }));
        }
        octets.extend([record, record].concat());
        // Four slots, two of them filled from the one where the search begins.
        let first = (u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3]]) >> 8) as usize % 4;
        let mut slots = [[0; 8]; 4];
        for (number, position) in positions.iter().enumerate() {
            let slot = &mut slots[(first + number) % 4];
            slot[..4].copy_from_slice(hash);
            slot[4..].copy_from_slice(&le(*position));
        }
        octets.extend(slots.as_flattened());
        octets
    }

    fn le(number: usize) -> [u8; 4] {
        u32::try_from(number).expect("small").to_le_bytes()
    }

    #[test]
    fn damage_between_writing_and_proving_is_found() {
        let meant = rows(0..5);
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("table");
        for format in FORMATS {
            let written = rendered(format, &meant, "OK");
            let seal = seal(&written);
            let check = |content: &[u8], what: &str| {
                std::fs::write(&path, content).expect("written");
                let read = read_back(
                    &path,
                    &Said::of(format, &meant),
                    &RowValues::alike("OK"),
                    &seal,
                );
                assert_eq!(read, Err(NOT_WHAT_WAS_WRITTEN.into()), "{format:?}: {what}");
            };
            for at in 0..written.len() {
                let mut flipped = written.clone();
                flipped[at] ^= 1 << (at % 8);
                check(&flipped, &format!("flipped at {at}"));
                if at % 16 == 0 {
                    check(&written[..at], &format!("cut at {at}"));
                }
            }
            check(&[&written[..], b"\n"].concat(), "longer");
        }
    }

    /// A record where no lookup finds it is no row for a gateway, even if a reader of the file meets it.
    #[test]
    fn a_key_that_cannot_be_looked_up_is_found() {
        let meant = rows(0..20);
        let written = rendered(Format::Cdb, &meant, "OK");
        let slots_octets = meant.len() * 16;
        let mut without_slots = written.clone();
        without_slots[written.len() - slots_octets..].fill(0);
        let seal = seal(&without_slots);
        for with_threads in [false, true] {
            let proven = proven(Format::Cdb, &without_slots, &seal, &meant, with_threads);
            let why = proven.expect_err("nothing is found");
            assert!(why.ends_with("is not found in it exactly once"), "{why}");
        }
    }

    #[test]
    fn a_reader_that_panics_stops_the_publication_alone() {
        let meant = rows(0..20);
        let mut written = rendered(Format::Cdb, &meant, "OK");
        // Slots far behind the end of the file.
        written[..2048]
            .chunks_mut(8)
            .for_each(|pair| pair[4..].fill(0xff));
        let seal = seal(&written);
        for with_threads in [false, true] {
            assert!(proven(Format::Cdb, &written, &seal, &meant, with_threads).is_err());
        }
    }
}
