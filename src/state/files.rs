//! What is in the sealed files: records, ledgers, generations, holds, each to bytes and back. Pure.

use serde::{Deserialize, Serialize};

use super::sealed::{Broken, DIGEST_OCTETS, Reader, Sealed, Writer, head, last_octets};
use crate::config::Format;
use crate::current::{Changes, Controller, Missing};
use crate::diff::Changed;
use crate::hold::{Cause, Hold};
use crate::record::{Record, RecordRef};
use crate::table::rows::{Rows, SourceSet};
use crate::table::value::{Meaning, RowValues};
use crate::time::Timestamp;

const RECORDS: &str = "records 3";
const CHANGES: &str = "changes 2";
const LEDGER: &str = "ledger 3";
const GENERATION: &str = "generation 3";
const HOLD: &str = "hold 1";

/// Behind the records of a file, and behind those that are missing: two numbers and the digest.
pub const RECORDS_TAIL_OCTETS: usize = 2 * 8 + DIGEST_OCTETS;

/// How a file with the records of a source begins. Behind it are the records, one behind the other, then those that are
/// missing, then the tail: only what was written to its end has one.
pub fn records_head() -> Vec<u8> {
    head(RECORDS)
}

/// What a file with records says of them at its end, where they have been counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordsTail {
    /// The octets of the records.
    pub octets: u64,
    /// How many records there are.
    pub count: u64,
}

impl RecordsTail {
    /// Everything behind the records but the digest.
    pub fn to_bytes(self, missing: &[Missing]) -> Vec<u8> {
        let mut writer = Writer::plain();
        writer.list(missing, |writer, missing| {
            writer.octets(missing.record.view().octets());
            writer.number(missing.since.0);
            writer.octets(missing.shown_by.identity.as_bytes());
            writer.number(u64::from(missing.shown_by.usn.is_some()));
            writer.number(missing.shown_by.usn.unwrap_or(0));
        });
        let mut bytes = writer.into_bytes();
        bytes.extend_from_slice(&self.numbers());
        bytes
    }

    /// The two numbers.
    pub fn numbers(self) -> Vec<u8> {
        [self.octets.to_le_bytes(), self.count.to_le_bytes()].concat()
    }

    /// The tail in the last [`RECORDS_TAIL_OCTETS`] of a file, and its digest.
    pub fn from_bytes(tail: &[u8]) -> Result<(RecordsTail, [u8; DIGEST_OCTETS]), Broken> {
        let mut reader = Reader::plain(tail);
        let found = RecordsTail {
            octets: reader.number()?,
            count: reader.number()?,
        };
        Ok((found, reader.digest()?))
    }
}

/// The records that are missing, between those that are shown and the tail.
pub fn missing_from_bytes(bytes: &[u8]) -> Result<Vec<Missing>, Broken> {
    Reader::plain(bytes).list(|reader| {
        Ok(Missing {
            record: read_record(reader)?,
            since: Timestamp(reader.number()?),
            shown_by: Controller {
                identity: reader.text()?,
                usn: optional_number(reader)?,
            },
        })
    })
}

/// Changes of the records of a source, as a whole file.
pub fn sealed_changes(changes: &Changes) -> Sealed<'_> {
    let mut writer = Writer::new(CHANGES);
    writer.list(&changes.changed, |writer, record| {
        writer.octets(record.view().octets());
    });
    writer.list(&changes.gone, |writer, guid| writer.octets(guid));
    writer.list(&changes.deleted, |writer, guid| writer.octets(guid));
    writer.seal()
}

/// The changes in a file.
pub fn changes_from_bytes(file: &[u8]) -> Result<Changes, Broken> {
    let mut reader = Reader::open(CHANGES, file)?;
    Ok(Changes {
        changed: reader.list(read_record)?,
        gone: keys(&mut reader)?,
        deleted: keys(&mut reader)?,
    })
}

fn read_record(reader: &mut Reader<'_>) -> Result<Record, Broken> {
    match RecordRef::first_of(reader.octets()?)? {
        (record, []) => Ok(record.to_record()),
        _ => Err(Broken::Content),
    }
}

fn optional_number(reader: &mut Reader<'_>) -> Result<Option<u64>, Broken> {
    let is_there = reader.number()? == 1;
    Ok(Some(reader.number()?).filter(|_| is_there))
}

/// A table as it was published last: its rows with their origins, and their values.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// The names behind the numbers in the rows.
    pub source_names: Vec<String>,
    /// The right-hand sides of the rows.
    pub values: RowValues,
    /// The rows.
    pub rows: Rows,
}

impl Ledger {
    /// The names of the sources that gave at least one row. The others may be gone from the configuration for years.
    pub fn sources_in_use(&self) -> impl Iterator<Item = &str> {
        let used = self
            .rows
            .iter()
            .fold(0, |used, row| used | row.facts().sources.0);
        let names = self.source_names.iter().enumerate();
        names
            .filter(move |(number, _)| SourceSet(used).contains(*number))
            .map(|(_, name)| name.as_str())
    }

    /// The whole file.
    pub fn sealed(&self) -> Sealed<'_> {
        let mut writer = Writer::new(LEDGER);
        writer.list(&self.source_names, |writer, name| {
            writer.octets(name.as_bytes())
        });
        write_values(&mut writer, &self.values);
        writer.long_octets(self.rows.octets());
        writer.seal()
    }

    /// The ledger in a file.
    pub fn from_bytes(file: Vec<u8>) -> Result<Ledger, Broken> {
        let mut reader = Reader::open(LEDGER, &file)?;
        let source_names = reader.list(Reader::text)?;
        let values = values(&mut reader)?;
        let length = reader.last_octets_length()?;
        let rows = Rows::from_octets(last_octets(file, length)).map_err(|_| Broken::Content)?;
        Ok(Ledger {
            source_names,
            values,
            rows,
        })
    }
}

/// Where a generation came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A run published what the sources say.
    Sync,
    /// A file was found that this program had not written; its original is kept.
    Foreign,
    /// The rows of an earlier generation, put back by hand.
    Rollback,
    /// The rows of the generation before, put back because a gateway contradicted the one after it.
    Proof,
}

impl Origin {
    const ALL: [Origin; 4] = [
        Origin::Sync,
        Origin::Foreign,
        Origin::Rollback,
        Origin::Proof,
    ];
}

/// One publish: what `history`, `explain` and an undo read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// Its number, from 1.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// Which run.
    pub run: String,
    /// How it came about.
    pub origin: Origin,
    /// The names behind the numbers in the rows.
    pub source_names: Vec<String>,
    /// What it did to each table that it touched.
    pub tables: Vec<GenerationTable>,
}

/// What a generation did to one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GenerationTable {
    /// The table.
    pub name: String,
    /// Rows after it.
    pub rows_count: u64,
    /// Rows added.
    pub added: Rows,
    /// Rows removed.
    pub removed: Rows,
    /// Rows whose value changed.
    pub changed: Vec<Changed>,
    /// Files written, or kept byte for byte: path and SHA-256.
    pub files: Vec<(String, String)>,
}

impl Generation {
    /// The whole file.
    pub fn sealed(&self) -> Sealed<'_> {
        let mut writer = Writer::new(GENERATION);
        writer.number(self.number);
        writer.number(self.at.0);
        writer.octets(self.run.as_bytes());
        let origin = Origin::ALL.iter().position(|origin| *origin == self.origin);
        writer.number(origin.unwrap_or(0) as u64);
        writer.list(&self.source_names, |writer, name| {
            writer.octets(name.as_bytes())
        });
        writer.list(&self.tables, |writer, table| {
            writer.octets(table.name.as_bytes());
            writer.number(table.rows_count);
            writer.long_octets(table.added.octets());
            writer.long_octets(table.removed.octets());
            writer.list(&table.changed, |writer, changed| {
                writer.octets(&changed.key);
                writer.number(u64::from(changed.meant.number()));
                writer.octets(&changed.from);
                writer.octets(&changed.to);
            });
            writer.list(&table.files, |writer, (path, digest)| {
                writer.octets(path.as_bytes());
                writer.octets(digest.as_bytes());
            });
        });
        writer.seal()
    }

    /// The generation in a file.
    pub fn from_bytes(file: &[u8]) -> Result<Generation, Broken> {
        let mut reader = Reader::open(GENERATION, file)?;
        Ok(Generation {
            number: reader.number()?,
            at: Timestamp(reader.number()?),
            run: reader.text()?,
            origin: origin(reader.number()?)?,
            source_names: reader.list(Reader::text)?,
            tables: reader.list(|reader| {
                Ok(GenerationTable {
                    name: reader.text()?,
                    rows_count: reader.number()?,
                    added: rows(reader)?,
                    removed: rows(reader)?,
                    changed: reader.list(|reader| {
                        Ok(Changed {
                            key: reader.octets()?.to_vec(),
                            meant: Meaning::of_number(reader.number()? as u8),
                            from: reader.octets()?.to_vec(),
                            to: reader.octets()?.to_vec(),
                        })
                    })?,
                    files: reader.list(|reader| Ok((reader.text()?, reader.text()?)))?,
                })
            })?,
        })
    }

    /// What it did to a table, if anything.
    pub fn table(&self, name: &str) -> Option<&GenerationTable> {
        self.tables.iter().find(|table| table.name == name)
    }
}

fn write_values(writer: &mut Writer<'_>, values: &RowValues) {
    for value in values.all() {
        writer.octets(value.as_bytes());
    }
}

fn values(reader: &mut Reader<'_>) -> Result<RowValues, Broken> {
    let values = [
        reader.text()?,
        reader.text()?,
        reader.text()?,
        reader.text()?,
    ];
    Ok(values.into())
}

fn origin(number: u64) -> Result<Origin, Broken> {
    let number = usize::try_from(number).ok();
    let origin = number.and_then(|number| Origin::ALL.get(number));
    origin.copied().ok_or(Broken::Content)
}

fn rows(reader: &mut Reader<'_>) -> Result<Rows, Broken> {
    Rows::from_octets(reader.octets()?.to_vec()).map_err(|_| Broken::Content)
}

fn keys(reader: &mut Reader<'_>) -> Result<Vec<Vec<u8>>, Broken> {
    reader.list(|reader| Ok(reader.octets()?.to_vec()))
}

/// A hold with its rows, as a whole file.
pub fn sealed_hold(hold: &Hold) -> Sealed<'_> {
    let mut writer = Writer::new(HOLD);
    writer.octets(hold.table.as_bytes());
    writer.octets(hold.cause.name().as_bytes());
    writer.octets(hold.scope.as_bytes());
    writer.number(hold.found.to_bits());
    writer.number(hold.allowed.to_bits());
    writer.list(&hold.added, |writer, key| writer.octets(key));
    writer.list(&hold.removed, |writer, key| writer.octets(key));
    writer.seal()
}

/// The hold in a file.
pub fn hold_from_bytes(file: &[u8]) -> Result<Hold, Broken> {
    let mut reader = Reader::open(HOLD, file)?;
    let table = reader.text()?;
    let cause =
        serde_json::from_value::<Cause>(reader.text()?.into()).map_err(|_| Broken::Content)?;
    Ok(Hold {
        table,
        cause,
        scope: reader.text()?,
        found: f64::from_bits(reader.number()?),
        allowed: f64::from_bits(reader.number()?),
        added: keys(&mut reader)?,
        removed: keys(&mut reader)?,
    })
}

/// The file name under which the original of a foreign file is kept beside its generation.
pub fn original_name(number: u64, table: &str, format: Format) -> String {
    format!("{number}.original.{table}.{}", format.name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record;
    use crate::table::rows::{Facts, FormatSet, RowsBuilder};

    #[test]
    fn changes_and_what_is_missing_survive_the_disk() {
        let records = vec![
            Record::of(record::Facts::default()),
            Record::of(record::Facts {
                guid: &[1; 16],
                dn: "CN=Müller,DC=x",
                recipient_type: Some(u64::MAX),
                is_internal_only: true,
                proxy_addresses: vec![b"SMTP:a@x", &[0xff, 0]],
                other_values_count: 7,
            }),
        ];
        let missing = [None, Some(u64::MAX)].map(|usn| Missing {
            record: records[1].clone(),
            since: Timestamp(7),
            shown_by: Controller {
                identity: "ldaps://dc1".into(),
                usn,
            },
        });
        let tail = RecordsTail {
            octets: 1,
            count: u64::MAX,
        };
        let bytes = tail.to_bytes(&missing);
        let (before, numbers) = bytes.split_at(bytes.len() - 16);
        assert_eq!(missing_from_bytes(before), Ok(missing.to_vec()));
        let end = [numbers, &[7; 32]].concat();
        assert_eq!(end.len(), RECORDS_TAIL_OCTETS);
        assert_eq!(RecordsTail::from_bytes(&end), Ok((tail, [7; 32])));
        let changes = Changes {
            changed: records,
            gone: vec![vec![1; 16]],
            deleted: vec![vec![2; 16], vec![]],
        };
        assert_eq!(
            changes_from_bytes(&sealed_changes(&changes).parts().concat()),
            Ok(changes)
        );
    }

    #[test]
    fn a_ledger_survives_the_disk() {
        let mut rows = RowsBuilder::default();
        let facts = Facts {
            sources: SourceSet::of(63),
            meaning: Meaning::Domain,
            is_always: true,
            is_foreign: true,
            only_in: FormatSet::of(Format::Cdb),
            leaving_since: Some(Timestamp(9)),
        };
        rows.push(b"b@x", facts);
        rows.push(b"a@x", Facts::default());
        let ledger = Ledger {
            source_names: vec!["corp".into()],
            values: RowValues::alike("OK"),
            rows: rows.finish(),
        };
        let found = Ledger::from_bytes(ledger.sealed().parts().concat()).expect("whole");
        assert!(found.rows.iter().eq(ledger.rows.iter()));
        assert_eq!(
            (found.source_names, found.values),
            (ledger.source_names, ledger.values)
        );
    }

    #[test]
    fn generations_and_holds_survive_the_disk() {
        let rows = |key: &str| {
            let mut rows = RowsBuilder::default();
            rows.push(key.as_bytes(), Facts::default());
            rows.finish()
        };
        let generation = Generation {
            number: 3,
            at: Timestamp(5),
            run: "r".into(),
            origin: Origin::Proof,
            source_names: vec!["corp".into()],
            tables: vec![GenerationTable {
                name: "t".into(),
                rows_count: 2,
                added: rows("a@x"),
                removed: rows("b@x"),
                changed: vec![Changed {
                    key: b"c@x".to_vec(),
                    meant: Meaning::Remote,
                    from: b"1".to_vec(),
                    to: b"2".to_vec(),
                }],
                files: vec![("/p".into(), "d".into())],
            }],
        };
        assert_eq!(
            Generation::from_bytes(&generation.sealed().parts().concat()),
            Ok(generation)
        );
        let hold = Hold {
            table: "t".into(),
            cause: Cause::DomainHalved,
            scope: "x".into(),
            found: 51.5,
            allowed: 50.0,
            added: vec![],
            removed: vec![b"a@x".to_vec()],
        };
        assert_eq!(
            hold_from_bytes(&sealed_hold(&hold).parts().concat()),
            Ok(hold)
        );
    }
}
