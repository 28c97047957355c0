//! Whether the files on the disk are still what was published: read anew from their first octet to their last, whatever
//! their time stamps say.
//!
//! A run trusts a file that the file system calls untouched; this looks. A file of other octets is read as its readers
//! read it, so that an edited one and a torn one can be told apart. In an index that is as published, every key is looked up.
//! Nothing is written, and no link is followed.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::on_disk::{Content, Foreign, digest_without_link, read_rows, read_without_link, stamp};
use super::stream::Seal;
use super::{built, prove, relation};
use crate::config::{Format, Relation, Table};
use crate::fold::Folding;
use crate::state::files::Ledger;
use crate::state::head::{Artefact, Head};
use crate::table::format::{KeyValue, ReadError, Said};
use crate::table::value::RowValues;

/// One file of a table.
#[derive(Debug)]
pub struct Inspected {
    /// Its format.
    pub format: Format,
    /// Where it is, or would be.
    pub path: PathBuf,
    /// What was found.
    pub found: Found,
}

/// What was found at the path of a table.
#[derive(Debug)]
pub enum Found {
    /// The octets that were published. Where a gateway looks keys up and the record knows them, so many were found.
    AsPublished(Option<u64>),
    /// Whatever it is: a run has decided to replace it and is not done.
    Pending,
    /// Nothing.
    Missing,
    /// A table that this program has no record of.
    Unrecorded(Vec<KeyValue>),
    /// A table of other octets than those published.
    Other(Vec<KeyValue>, Differing),
    /// No table of this format: a gateway cannot use it.
    NoTable(String),
    /// The octets that were published, in which a key is not found.
    NotFound(String),
    /// It cannot be read, or is no regular file.
    Unreadable(String),
}

/// Rows by which a file differs from what was published.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Differing {
    /// Published, and not in the file.
    pub missing: Vec<Vec<u8>>,
    /// In the file, and never published so.
    pub added: Vec<Vec<u8>>,
    /// With another value.
    pub changed: Vec<Vec<u8>>,
}

/// Looks at every file of a table, in the order of its formats.
pub fn inspect(
    table: &Table,
    head: &Head,
    ledger: Option<&Ledger>,
    folding: Folding,
) -> Vec<Inspected> {
    let published = head.tables.get(&table.name);
    let published = published.map_or(&[][..], |state| &state.artefacts);
    let look_at = |format: &Format| {
        let path = table.file(*format);
        let is_known =
            |known: &&Artefact| known.format == *format && Path::new(&known.path) == path;
        let known = published.iter().find(is_known);
        // The record is ahead of such a file.
        let mut pending = head.pending.iter();
        let found = if pending.any(|pending| Path::new(&pending.path) == path) {
            Found::Pending
        } else {
            find(table, *format, &path, known, ledger, folding)
        };
        Inspected {
            format: *format,
            path,
            found,
        }
    };
    table.formats.iter().map(look_at).collect()
}

fn find(
    table: &Table,
    format: Format,
    path: &Path,
    known: Option<&Artefact>,
    ledger: Option<&Ledger>,
    folding: Folding,
) -> Found {
    if let Some(relation) = table.relation.as_ref().filter(|_| !format.is_file()) {
        return find_in_database(table, relation, known, ledger);
    }
    let metadata = match path.symlink_metadata() {
        Ok(metadata) if metadata.is_file() => metadata,
        Ok(metadata) if metadata.is_symlink() => {
            return Found::Unreadable("it is a symbolic link, which rcptsync never follows".into());
        }
        Ok(_) => return Found::Unreadable("it is not a regular file".into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Found::Missing,
        Err(error) => return Found::Unreadable(error.to_string()),
    };
    let digest = match digest_without_link(path) {
        Ok(digest) => digest,
        Err(error) => return Found::Unreadable(error.to_string()),
    };
    if known.is_some_and(|known| known.digest == digest) {
        let octets = metadata.len();
        let found = match ledger {
            Some(ledger) => look_up(format, path, ledger, Seal { octets, digest }),
            None => Ok(None),
        };
        return found.map_or_else(Found::NotFound, Found::AsPublished);
    }
    let artefact = Artefact {
        format,
        path: path.display().to_string(),
        digest,
        stamp: stamp(&metadata),
        made_with: String::new(),
    };
    let rows = read_without_link(path)
        .map_err(|error| Found::Unreadable(error.to_string()))
        .and_then(|bytes| {
            let found = Foreign { bytes, artefact };
            let published = known.map(std::slice::from_ref).unwrap_or_default();
            let read = read_rows(table, &found, published, folding);
            let unread = || Err(ReadError("nothing here can read it".into()));
            read.map_err(|failure| Found::Unreadable(failure.why))?
                .unwrap_or_else(unread)
                .map_err(|error| Found::NoTable(error.to_string()))
        });
    match (rows, known.and(ledger)) {
        (Err(found), _) => found,
        (Ok(rows), None) => Found::Unrecorded(rows),
        (Ok(rows), Some(ledger)) => {
            let differing = differing(&rows, &table.said(format, &ledger.rows), &ledger.values);
            Found::Other(rows, differing)
        }
    }
}

/// A relation is compared by what its server computes over all rows, and read where that is not what was left there.
fn find_in_database(
    table: &Table,
    relation: &Relation,
    known: Option<&Artefact>,
    ledger: Option<&Ledger>,
) -> Found {
    match relation::look(relation, known) {
        Err(failure) => Found::Unreadable(failure.why),
        Ok(Content::Missing) => Found::Missing,
        Ok(Content::AsPublished(_)) => Found::AsPublished(None),
        Ok(Content::NoTable(_, why)) => Found::NoTable(why),
        Ok(Content::Unread(_)) => Found::NoTable("nothing here can read it".into()),
        Ok(Content::Foreign(_, rows)) => match known.and(ledger) {
            None => Found::Unrecorded(rows),
            Some(ledger) => {
                let said = table.said(Format::Postgresql, &ledger.rows);
                let differing = differing(&rows, &said, &ledger.values);
                Found::Other(rows, differing)
            }
        },
    }
}

fn look_up(
    format: Format,
    path: &Path,
    ledger: &Ledger,
    seal: Seal,
) -> Result<Option<u64>, String> {
    let said = Said::of(format, &ledger.rows);
    match format {
        // It is read from its beginning to its end, and the octets are those that were read when it was published.
        Format::Text | Format::Template | Format::Postgresql => return Ok(None),
        Format::Cdb => prove::look_up(path, &said, &ledger.values, &seal, 1)?,
        Format::Hash | Format::Btree | Format::Lmdb => {
            if let Some(map_type) = format.map_type() {
                built::look_up(path, map_type, &said, &ledger.values)?;
            }
        }
    }
    Ok(Some(said.keys().count() as u64))
}

fn differing(rows: &[KeyValue], said: &Said<'_>, values: &RowValues) -> Differing {
    let mut found: BTreeMap<&[u8], &[u8]> = BTreeMap::new();
    for (key, value) in rows {
        // A CDB is looked up so: the first of two is found.
        found.entry(key).or_insert(value);
    }
    let mut differing = Differing::default();
    for (key, value) in said.lines(values) {
        match found.remove(key) {
            None => differing.missing.push(key.to_vec()),
            Some(found) if found != value => differing.changed.push(key.to_vec()),
            Some(_) => {}
        }
    }
    differing.added = found.into_keys().map(<[u8]>::to_vec).collect();
    differing
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::rows::{Facts, RowsBuilder};

    #[track_caller]
    fn check(rows: &[(&str, &str)], missing: &[&str], added: &[&str], changed: &[&str]) {
        let mut published = RowsBuilder::default();
        for key in ["a@x", "b@x", "c@x"] {
            published.push(key.as_bytes(), Facts::default());
        }
        let published = published.finish();
        let rows: Vec<KeyValue> = rows
            .iter()
            .map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().to_vec()))
            .collect();
        let keys = |keys: &[&str]| keys.iter().map(|key| key.as_bytes().to_vec()).collect();
        let expected = Differing {
            missing: keys(missing),
            added: keys(added),
            changed: keys(changed),
        };
        let found = differing(
            &rows,
            &Said::of(Format::Text, &published),
            &RowValues::alike("OK"),
        );
        assert_eq!(found, expected);
    }

    #[test]
    fn rows_by_which_a_file_differs() {
        let all = [("a@x", "OK"), ("b@x", "OK"), ("c@x", "OK")];
        check(&all, &[], &[], &[]);
        check(&all[1..], &["a@x"], &[], &[]);
        check(&[], &["a@x", "b@x", "c@x"], &[], &[]);
        check(
            &[
                ("c@x", "OK"),
                ("@x", "OK"),
                ("b@x", "1"),
                ("a@x", "OK"),
                ("a@x", "2"),
            ],
            &[],
            &["@x"],
            &["b@x"],
        );
    }
}
