//! Going back: the plan that puts the rows of an earlier generation in force, by hand (`rollback`) or because a gateway
//! contradicted the last one. Writes nothing.
//!
//! Rows go back, the configuration does not: they get the values of today. What is undone so is held, each table's in one
//! hold that stands until it is released; whatever changes later flows.
//!
//! Invariant: every generation in between was read, or there is no plan.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use super::domains::{self, DomainsNow};
use super::tables::with_values;
use super::{Plan, Run, TablePlan};
use crate::config::{Table, TableFolding};
use crate::diff::{Diff, Values};
use crate::error::{Failure, Result};
use crate::exit::Exit;
use crate::guard::{Approved, Judgement};
use crate::hold::{Cause, Hold};
use crate::policy::Counted;
use crate::postfix::Gateway;
use crate::publish::on_disk::{self, Content, OnDisk};
use crate::state::files::{Generation, Ledger, Origin};
use crate::state::head::Head;
use crate::state::{Lost, State};
use crate::table::rows::{Facts, Rows, RowsBuilder, SourceSet};
use crate::table::value::Meaning;

/// The plan that goes back to a generation; `cause` is why.
pub fn to<'run>(
    run: &Run<'run>,
    state: &State,
    head: &Head,
    number: u64,
    cause: Cause,
) -> Result<Plan<'run>> {
    let undone = generations_behind(state, head, number)?;
    let mut names = Names::default();
    let needs_gateway = (run.config.tables.iter()).any(|table| table.folding == TableFolding::Auto);
    let gateway = if needs_gateway { Gateway::ask() } else { None };
    let mut tables = Vec::new();
    for table in &run.config.tables {
        let Some(ledger) = ledger(state, head, table)? else {
            continue;
        };
        let folding = super::folding(table, gateway.as_ref());
        let known = head.tables.get(&table.name);
        let on_disk = on_disk::look(table, known, &head.pending, folding)?;
        let is_foreign =
            |file: &&OnDisk| matches!(file.content, Content::Foreign(..) | Content::Unread(_));
        let foreign = on_disk.iter().find(is_foreign);
        // Where gateways refuse what was published, whoever wrote there meanwhile is no reason to wait; what he wrote is kept.
        if let Some(file) = foreign.filter(|_| cause != Cause::Proof) {
            return Err(not_ours(&file.path.display().to_string()));
        }
        let then = rows_then(&ledger, &undone, &table.name, &mut names);
        let wanted = with_values(&then, &table.values);
        let hold = undone_changes(table, &ledger.rows, &wanted, cause, number);
        let values = Values {
            common: ledger.values.clone(),
            ..Values::default()
        };
        let diff = Diff::between(&ledger.rows, &values, &wanted, &table.values);
        let writes = if diff.is_empty() && foreign.is_none() {
            Vec::new()
        } else {
            table.formats.clone()
        };
        tables.push(TablePlan {
            table,
            folding,
            on_disk,
            in_force: ledger.rows,
            values,
            judgement: Judgement {
                approved: Approved::again(wanted.clone()),
                holds: hold.into_iter().collect(),
            },
            wanted,
            diff,
            writes,
            is_first: false,
        });
    }
    Ok(Plan {
        sources: Vec::new(),
        source_names: names.0,
        origin: if cause == Cause::Proof {
            Origin::Proof
        } else {
            Origin::Rollback
        },
        domains: DomainsNow {
            listed: domains::stored(&run.config.domains, head),
            ..DomainsNow::default()
        },
        tables,
        counted: Counted::default(),
        failures: Vec::new(),
        gateway,
    })
}

/// The rows of a table as they were published last; one that was never published has nothing to go back from.
fn ledger(state: &State, head: &Head, table: &Table) -> Result<Option<Ledger>> {
    let known = head.tables.get(&table.name);
    let Some(known) = known.filter(|known| known.ledger > 0) else {
        return Ok(None);
    };
    state.ledger(&table.name, known).map(Some).map_err(|lost| {
        Box::new(Failure {
            exit: exit_of(&lost),
            what: format!("table {} cannot go back", table.name),
            place: state.directory().display().to_string(),
            why: format!("its ledger is lost: {lost}"),
            in_force: Failure::NOTHING_TOUCHED.into(),
            next: "run `rcptsync sync`, which writes the ledger anew, then go back".into(),
        })
    })
}

/// What is damaged or gone stays so; what cannot be read now may be read later.
fn exit_of(lost: &Lost) -> Exit {
    match lost {
        Lost::Io(error) if error.kind() != ErrorKind::NotFound => Exit::NotWritten,
        Lost::Io(_) | Lost::Broken(_) => Exit::Usage,
    }
}

fn not_ours(path: &str) -> Box<Failure> {
    Box::new(Failure {
        exit: Exit::Held,
        what: "nothing was put back".into(),
        place: path.to_owned(),
        why: "somebody else has written this table since it was published".into(),
        in_force: Failure::NOTHING_TOUCHED.into(),
        next: "run `rcptsync sync`, which keeps what was found there, then go back".into(),
    })
}

/// The generations behind a number, the newest first.
fn generations_behind(state: &State, head: &Head, number: u64) -> Result<Vec<Generation>> {
    let refused = |exit: Exit, number: u64, why: String| {
        Box::new(Failure {
            exit,
            what: format!("generation {number} cannot be reached"),
            place: state.directory().display().to_string(),
            why,
            in_force: Failure::NOTHING_TOUCHED.into(),
            next: "`rcptsync history` lists the generations that are kept".into(),
        })
    };
    if number == 0 || number > head.generation {
        let why = format!("generations go from 1 to {}", head.generation);
        return Err(refused(Exit::Usage, number, why));
    }
    state
        .generation(number)
        .map_err(|lost| refused(exit_of(&lost), number, lost.to_string()))?;
    let behind = (number + 1..=head.generation).rev();
    let read = behind.map(|number| {
        let generation = state.generation(number);
        generation.map_err(|lost| {
            let why = format!("it has to be undone, and is lost: {lost}");
            refused(exit_of(&lost), number, why)
        })
    });
    read.collect()
}

/// The names of sources, by the number that rows get for them.
#[derive(Debug, Default)]
struct Names(Vec<String>);

impl Names {
    /// The set under our numbers, from one under those of `others`.
    fn renumbered(&mut self, set: SourceSet, others: &[String]) -> SourceSet {
        let names = set.numbers().filter_map(|number| others.get(number));
        names.fold(SourceSet::default(), |all, name| {
            let known = self.0.iter().position(|known| known == name);
            let number = known.unwrap_or_else(|| {
                self.0.push(name.clone());
                self.0.len() - 1
            });
            SourceSet(all.0 | SourceSet::of(number).0)
        })
    }
}

/// The rows of a table before the generations that are to be undone, the newest of which comes first.
fn rows_then(ledger: &Ledger, undone: &[Generation], table: &str, names: &mut Names) -> Rows {
    // What is other than today: nothing, or a row.
    let mut others: BTreeMap<Vec<u8>, Option<Facts>> = BTreeMap::new();
    for generation in undone {
        let Some(of_table) = generation.table(table) else {
            continue;
        };
        for key in of_table.added.keys() {
            others.insert(key.to_vec(), None);
        }
        for row in of_table.removed.iter() {
            let facts = Facts {
                sources: names.renumbered(row.facts().sources, &generation.source_names),
                leaving_since: None,
                ..row.facts()
            };
            others.insert(row.key.to_vec(), Some(facts));
        }
        for changed in &of_table.changed {
            let today = ledger.rows.find(&changed.key).map(|row| Facts {
                sources: names.renumbered(row.facts().sources, &ledger.source_names),
                ..row.facts()
            });
            let then = others.entry(changed.key.clone()).or_insert(today);
            if let Some(facts) = then {
                facts.meaning = changed.meant;
            }
        }
    }
    let mut rows = RowsBuilder::default();
    for row in ledger.rows.iter() {
        if !others.contains_key(row.key) {
            let facts = Facts {
                sources: names.renumbered(row.facts().sources, &ledger.source_names),
                ..row.facts()
            };
            rows.push(row.key, facts);
        }
    }
    for (key, facts) in others {
        if let Some(facts) = facts {
            rows.push(&key, facts);
        }
    }
    rows.finish()
}

/// The hold of what is undone: it would come, or go, if a run did today what runs have done since.
fn undone_changes(
    table: &Table,
    today: &Rows,
    then: &Rows,
    cause: Cause,
    number: u64,
) -> Option<Hold> {
    let (mut added, mut removed) = (Vec::new(), Vec::new());
    for (today, then) in today.walk(then) {
        match (today, then) {
            (Some(row), None) => added.push(row.key.to_vec()),
            (None, Some(row)) => removed.push(row.key.to_vec()),
            (Some(today), Some(then)) if today.meaning() != then.meaning() => {
                // Who is refused today was accepted then: to refuse again is a removal.
                let is_refused = today.meaning() == Meaning::InternalOnly;
                let list = if is_refused { &mut removed } else { &mut added };
                list.push(today.key.to_vec());
            }
            _ => {}
        }
    }
    (!added.is_empty() || !removed.is_empty()).then(|| Hold {
        table: table.name.clone(),
        cause,
        // What was contradicted, or what was gone back to.
        scope: format!("generation {}", number + u64::from(cause == Cause::Proof)),
        found: 0.0,
        allowed: 0.0,
        added,
        removed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diff::Changed;
    use crate::state::files::GenerationTable;
    use crate::time::Timestamp;

    /// `key` or `key!` (refused), separated by spaces.
    fn rows(text: &str) -> Rows {
        let mut rows = RowsBuilder::default();
        for key in text.split_whitespace() {
            let (key, meaning) = match key.strip_suffix('!') {
                Some(key) => (key, Meaning::InternalOnly),
                None => (key, Meaning::Recipient),
            };
            let facts = Facts {
                meaning,
                sources: SourceSet::of(0),
                ..Facts::default()
            };
            rows.push(key.as_bytes(), facts);
        }
        rows.finish()
    }

    fn text(rows: &Rows) -> String {
        let of_row = |row: crate::table::rows::Row<'_>| {
            let sign = if row.meaning() == Meaning::InternalOnly {
                "!"
            } else {
                ""
            };
            format!("{}{sign}", String::from_utf8_lossy(row.key))
        };
        rows.iter().map(of_row).collect::<Vec<_>>().join(" ")
    }

    fn generation(added: &str, removed: &str, changed: &[(&str, Meaning)]) -> Generation {
        let changed = changed.iter().map(|(key, meant)| Changed {
            key: key.as_bytes().to_vec(),
            meant: *meant,
            from: Vec::new(),
            to: Vec::new(),
        });
        Generation {
            number: 0,
            at: Timestamp(0),
            run: String::new(),
            origin: Origin::Sync,
            source_names: vec!["then".into()],
            tables: vec![GenerationTable {
                name: "t".into(),
                added: rows(added),
                removed: rows(removed),
                changed: changed.collect(),
                ..GenerationTable::default()
            }],
        }
    }

    #[test]
    fn generations_are_undone_from_the_newest_to_the_oldest() {
        let ledger = Ledger {
            source_names: vec!["now".into()],
            rows: rows("a c d! e"),
            ..Ledger::default()
        };
        let undone = [
            generation("c e", "", &[("d", Meaning::Recipient)]),
            generation("", "c f", &[]),
            generation("f", "g!", &[]),
        ];
        let mut names = Names::default();
        for (count, expected) in [(0, "a c d! e"), (1, "a d"), (2, "a c d f"), (3, "a c d g!")] {
            let then = rows_then(&ledger, &undone[..count], "t", &mut names);
            assert_eq!(text(&then), expected, "{count} undone");
            let none = rows_then(&ledger, &undone[..count], "another", &mut names);
            assert_eq!(text(&none), "a c d! e");
        }
        let then = rows_then(&ledger, &undone[..2], "t", &mut names);
        let of = |key: &[u8]| {
            let sources = then.find(key).map(|row| row.facts().sources);
            let numbers = sources.unwrap_or_default().numbers();
            numbers
                .map(|number| names.0[number].as_str())
                .collect::<Vec<_>>()
        };
        assert_eq!((of(b"a"), of(b"f")), (vec!["now"], vec!["then"]));
    }

    #[test]
    fn what_is_undone_is_named_as_it_would_come_or_go_again() {
        let text = "[domains]\nlist=['x']\n[source.a]\nkind='list'\npath='a'\n[table.t]\npath='t'\nformats=['cdb']\n";
        let config =
            crate::config::parse(std::path::Path::new("/c"), text).expect("a configuration");
        let check = |today: &str, then: &str, expected: Option<(&str, &str)>| {
            let hold = undone_changes(
                &config.tables[0],
                &rows(today),
                &rows(then),
                Cause::Rollback,
                3,
            );
            let keys = |keys: &[Vec<u8>]| String::from_utf8_lossy(&keys.join(&b' ')).into_owned();
            let found = hold.map(|hold| (keys(&hold.added), keys(&hold.removed)));
            let expected = expected.map(|(added, removed)| (added.to_owned(), removed.to_owned()));
            assert_eq!(found, expected, "{today} after {then}");
        };
        check("a b", "a b", None);
        check("a c", "a b", Some(("c", "b")));
        check("a! b", "a b!", Some(("b", "a")));
    }
}
