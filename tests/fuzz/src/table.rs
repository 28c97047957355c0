//! Tables as they lie on the disk: ours and those of others.

use std::io::BufReader;

use rcptsync::config::{Config, Format};
use rcptsync::fold::Folding;
use rcptsync::publish::inspect::{Found, inspect};
use rcptsync::state::digest;
use rcptsync::state::files::Ledger;
use rcptsync::state::head::{Artefact, Head, Stamp, TableState};
use rcptsync::table::format::template::{Form, Template, shipped};
use rcptsync::table::format::{self, Said, built, cdb};
use rcptsync::table::rows::{Facts, Rows, RowsBuilder};
use rcptsync::table::value::RowValues;
use tempfile::TempDir;

use crate::choice;

const FOLDINGS: [Folding; 3] = [Folding::Unicode, Folding::Ascii, Folding::Both];

/// One row a line.
fn rows_of_lines(octets: &[u8]) -> Rows {
    let mut rows = RowsBuilder::default();
    let lines = octets.split(|octet| *octet == b'\n');
    for line in lines.filter(|line| !line.is_empty()) {
        rows.push(line, Facts::default());
    }
    rows.finish()
}

fn rendered(said: &Said<'_>, values: &RowValues) -> Vec<u8> {
    let mut written = Vec::new();
    format::render(said, values, &mut written).expect("memory");
    written
}

/// Rows as a ledger stores them.
pub fn rows(octets: &[u8]) {
    let Ok(rows) = Rows::from_octets(octets.to_vec()) else {
        return;
    };
    let mut built = RowsBuilder::default();
    let mut last: Option<&[u8]> = None;
    for (number, row) in rows.iter().enumerate() {
        assert!(last.is_none_or(|last| last < row.key), "in byte order");
        last = Some(row.key);
        assert_eq!(rows.find(row.key), Some(row));
        assert_eq!(rows.range(number..number + 1).next(), Some(row));
        built.push(row.key, row.facts());
    }
    assert_eq!(rows.iter().count(), rows.len());
    let built = built.finish();
    let again = Rows::from_octets(built.octets().to_vec()).expect("rows");
    assert_eq!(again, built);
    for (ours, theirs) in rows.walk(&built) {
        let (ours, theirs) = (ours.expect("a row"), theirs.expect("a row"));
        assert_eq!((ours.key, ours.facts()), (theirs.key, theirs.facts()));
    }
}

/// A text that anybody may have written.
pub fn text(octets: &[u8]) {
    let (size, octets) = choice(octets);
    for folding in FOLDINGS {
        let mut found = Vec::new();
        let each = |key: &[u8], value: &[u8]| found.push((key.to_vec(), value.to_vec()));
        format::text::each_row(octets, folding, each).expect("memory");
        let mut in_pieces = Vec::new();
        let each = |key: &[u8], value: &[u8]| in_pieces.push((key.to_vec(), value.to_vec()));
        let pieces = BufReader::with_capacity(size + 1, octets);
        format::text::each_row(pieces, folding, each).expect("memory");
        assert_eq!(in_pieces, found);
        for (key, value) in &found {
            assert!(!key.is_empty() && !value.is_empty());
            assert_eq!(value.trim_ascii(), value, "{}", value.escape_ascii());
            if format::text::can_say(key) && !value.contains(&0) && !value.contains(&b'\n') {
                let line = [key, b" ".as_slice(), value].concat();
                let read = format::text::read(&line, Folding::Ascii);
                assert_eq!(read, [(key.clone(), value.clone())]);
            }
        }
    }
    let rows = rows_of_lines(octets);
    let said = Said::of(Format::Text, &rows);
    let written = rendered(&said, &RowValues::alike("OK"));
    let read = format::text::read(&written, Folding::Ascii);
    let keys = read.iter().map(|(key, _)| key.as_slice());
    assert!(keys.eq(said.keys()), "{}", written.escape_ascii());
    for format in [Format::Hash, Format::Btree, Format::Lmdb] {
        for key in rows.keys() {
            assert!(!built::can_say(format, key) || format::text::can_say(key));
        }
    }
    let _ = (built::map_type(octets), built::is_cut(octets));
}

/// Rows of a relation.
pub fn copy(octets: &[u8]) {
    if let Ok(rows) = format::copy::read(octets) {
        let mut written = Vec::new();
        for (key, value) in &rows {
            format::copy::write_row(&mut written, key, value).expect("memory");
        }
        assert_eq!(format::copy::read(&written), Ok(rows));
    }
    let rows = rows_of_lines(octets);
    let said = Said::of(Format::Postgresql, &rows);
    let written = rendered(&said, &RowValues::alike("OK"));
    let read = format::copy::read(&written).expect("rows");
    assert!(read.iter().map(|(key, _)| key.as_slice()).eq(said.keys()));
}

/// Files of other mail systems.
pub fn template(octets: &[u8]) {
    thread_local! {
        static SHIPPED: Vec<Template> = shipped()
            .iter()
            .map(|shipped| Template::new(shipped.name, shipped.text).expect("a template"))
            .collect();
    }
    let (size, octets) = choice(octets);
    for form in Form::ALL {
        let read = |in_pieces: bool| {
            let mut found = Vec::new();
            let each = |key: &[u8], value: Option<&[u8]>| {
                assert!(std::str::from_utf8(key).is_ok());
                found.push((key.to_vec(), value.map(<[u8]>::to_vec)));
            };
            let read = if in_pieces {
                form.each_row(BufReader::with_capacity(size + 1, octets), each)
            } else {
                form.each_row(octets, each)
            };
            (read, found)
        };
        assert_eq!(read(true), read(false), "{form:?}");
        if let Ok(text) = std::str::from_utf8(octets)
            && let Ok(escaped) = form.escape(text)
        {
            assert!(
                !escaped.contains(['\n', '\r', '\0']),
                "{form:?}: {escaped:?}"
            );
        }
    }
    let rows = rows_of_lines(octets);
    if rows.len() > 50 {
        return;
    }
    SHIPPED.with(|shipped| {
        for template in shipped {
            let said = Said::of(Format::Template, &rows).by(Some(template));
            let written = rendered(&said, &RowValues::alike("OK"));
            let read = template.read(&written, b"OK").expect("a table");
            let keys = read.iter().map(|(key, _)| key.as_slice());
            let name = template.name();
            assert!(keys.eq(said.keys()), "{name}: {}", written.escape_ascii());
        }
    });
}

/// A CDB that somebody else wrote, and one of ours.
pub fn found_cdb(octets: &[u8]) {
    if let Ok(rows) = cdb::read(octets) {
        let texts: usize = rows
            .iter()
            .map(|(key, value)| key.len() + value.len())
            .sum();
        assert!(texts + 2048 <= octets.len());
    }
    let rows = rows_of_lines(octets);
    let written = rendered(&Said::of(Format::Cdb, &rows), &RowValues::alike("OK"));
    let mut found = Vec::new();
    let each = |key: &[u8], value: &[u8]| {
        assert_eq!(value, b"OK");
        found.push(key.to_vec());
    };
    cdb::each_record(written.as_slice(), written.len() as u64, each).expect("a CDB");
    assert!(found.iter().map(Vec::as_slice).eq(rows.keys()));
    for key in rows.keys() {
        assert_eq!(look_up(&written, key), [b"OK".to_vec()]);
    }
}

/// Every value of a key, as <https://cr.yp.to/cdb/cdb.txt> says how to find it. Nothing where the search leads outside.
fn look_up(file: &[u8], key: &[u8]) -> Vec<Vec<u8>> {
    let two = |at: u64| -> Option<(u64, u64)> {
        let at = usize::try_from(at).ok()?;
        let pair = file.get(at..at.checked_add(8)?)?;
        let number = |octets: &[u8]| {
            octets
                .iter()
                .rev()
                .fold(0, |sum, octet| sum << 8 | u64::from(*octet))
        };
        Some((number(&pair[..4]), number(&pair[4..])))
    };
    let hash = key.iter().fold(5381_u32, |hash, octet| {
        hash.wrapping_mul(33) ^ u32::from(*octet)
    });
    let hash = u64::from(hash);
    let search = || {
        let mut found = Vec::new();
        let (table_at, slots_count) = two(hash % 256 * 8)?;
        for number in 0..slots_count {
            let slot = (hash / 256 + number) % slots_count;
            let (of_key, record_at) = two(table_at + slot * 8)?;
            if record_at == 0 {
                break;
            }
            if of_key != hash {
                continue;
            }
            let (key_octets, value_octets) = two(record_at)?;
            if key_octets != key.len() as u64 {
                continue;
            }
            let begin = usize::try_from(record_at + 8).ok()?;
            let middle = begin + key.len();
            let end = middle + usize::try_from(value_octets).ok()?;
            if file.get(begin..middle)? == key {
                found.push(file.get(middle..end)?.to_vec());
            }
        }
        Some(found)
    };
    search().unwrap_or_default()
}

/// A table with one CDB, in a directory of its own.
struct Installation {
    directory: TempDir,
    config: Config,
}

impl Installation {
    fn new() -> Installation {
        let directory = tempfile::tempdir().expect("a directory");
        let text = "[domains]\nlist = ['x.example']\n[source.a]\nkind = 'list'\npath = 'a'\n\
                    [table.t]\npath = 't'\nformats = ['cdb']\n";
        let config = rcptsync::config::parse(&directory.path().join("c"), text);
        Installation {
            config: config.expect("a configuration"),
            directory,
        }
    }

    /// What the reader finds that proves a file: these octets, which are said to be what was published.
    fn found(&self, octets: &[u8], ledger: &Ledger) -> Found {
        let path = self.directory.path().join("t.cdb");
        std::fs::write(&path, octets).expect("written");
        let artefact = Artefact {
            format: Format::Cdb,
            path: path.display().to_string(),
            digest: digest(octets),
            stamp: Stamp {
                inode: (0, 0),
                size: 0,
                modified: (0, 0),
                changed: (0, 0),
            },
            made_with: String::new(),
        };
        let mut head = Head::default();
        let state = TableState {
            artefacts: vec![artefact],
            ..TableState::default()
        };
        head.tables.insert("t".into(), state);
        let table = &self.config.tables[0];
        let mut inspected = inspect(table, &head, Some(ledger), Folding::Unicode);
        inspected.pop().expect("one file").found
    }
}

/// The reader that looks up every key before a CDB is put in force, with a file that is not what was written: it never says
/// that all is well where a lookup would fail, and it ends.
pub fn proven_cdb(octets: &[u8]) {
    thread_local! {
        static INSTALLATION: Installation = Installation::new();
    }
    let (count, octets) = choice(octets);
    let mut rows = RowsBuilder::default();
    for number in 0..count % 8 {
        rows.push(format!("r{number}@x.example").as_bytes(), Facts::default());
    }
    let ledger = Ledger {
        source_names: vec!["a".into()],
        values: RowValues::alike("OK"),
        rows: rows.finish(),
    };
    let mut file = rendered(&Said::of(Format::Cdb, &ledger.rows), &ledger.values);
    // Changes: a position, and the octet that comes there.
    for change in octets.as_chunks::<3>().0 {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % file.len();
        file[at] = change[2];
    }
    let is_there = |key| look_up(&file, key) == [b"OK".to_vec()];
    let found = INSTALLATION.with(|installation| installation.found(&file, &ledger));
    let all_are_there = ledger.rows.keys().all(is_there);
    if let Found::AsPublished(count) = found {
        assert_eq!(count, Some(ledger.rows.len() as u64));
        assert!(all_are_there, "a key is not found");
    } else {
        assert!(matches!(found, Found::NotFound(_)), "{found:?}");
        assert!(!all_are_there, "{found:?}, though every key is");
    }
}
