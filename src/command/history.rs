//! `history`: the generations, and what one of them did.

use std::io::Write;

use serde_json::json;

use crate::config::Config;
use crate::diff::Changed;
use crate::error::{Failure, Result};
use crate::exit::Exit;
use crate::report::{BAD, GOOD, counted, key, number};
use crate::state::State;
use crate::state::files::{Generation, GenerationTable, Origin};
use crate::table::rows::Rows;

/// Lists all generations, or the rows of one.
pub fn run(
    config: &Config,
    generation: Option<u64>,
    is_json: bool,
    out: &mut dyn Write,
) -> Result<u8> {
    let state = State::view(&config.state_dir);
    let head = state.head()?;
    let _ = match generation {
        Some(wanted) => {
            // One that a dead run wrote without deciding it is none.
            let found = if wanted <= head.generation {
                state.generation(wanted)
            } else {
                Err(std::io::Error::other("it is not among those that are kept").into())
            };
            let found = found.map_err(|lost| {
                Box::new(Failure {
                    exit: Exit::Usage,
                    what: format!("there is no generation {wanted}"),
                    place: state.directory().display().to_string(),
                    why: lost.to_string(),
                    in_force: Failure::NOTHING_TOUCHED.into(),
                    next: "`rcptsync history` lists those that are kept".into(),
                })
            })?;
            if is_json {
                writeln!(out, "{:#}", to_json(&found))
            } else {
                rows(out, &found)
            }
        }
        None => {
            let numbers = state.generation_numbers();
            let kept = numbers
                .into_iter()
                .filter(|number| *number <= head.generation);
            let all: Vec<Generation> = kept
                .filter_map(|number| state.generation(number).ok())
                .collect();
            if is_json {
                writeln!(
                    out,
                    "{:#}",
                    json!(all.iter().map(summary).collect::<Vec<_>>())
                )
            } else {
                list(out, &all)
            }
        }
    };
    Ok(Exit::Current.code())
}

fn list(out: &mut dyn Write, all: &[Generation]) -> std::io::Result<()> {
    if all.is_empty() {
        return writeln!(out, "nothing was published yet");
    }
    for generation in all {
        for table in &generation.tables {
            let what = match generation.origin {
                Origin::Foreign => format!(
                    "found a file that rcptsync had not written, {} rows",
                    number(table.rows_count)
                ),
                Origin::Sync | Origin::Rollback | Origin::Proof => format!(
                    "{}{GOOD}+{}{GOOD:#} {BAD}-{}{BAD:#} ~{}, {} rows",
                    put_back(generation.origin),
                    number(table.added.len() as u64),
                    number(table.removed.len() as u64),
                    number(table.changed.len() as u64),
                    number(table.rows_count),
                ),
            };
            writeln!(
                out,
                "{:>5}  {}  {}  {what}",
                generation.number, generation.at, table.name
            )?;
        }
    }
    Ok(())
}

fn put_back(origin: Origin) -> &'static str {
    match origin {
        Origin::Sync | Origin::Foreign => "",
        Origin::Rollback => "put back by hand: ",
        Origin::Proof => "put back after a contradiction: ",
    }
}

fn rows(out: &mut dyn Write, generation: &Generation) -> std::io::Result<()> {
    writeln!(
        out,
        "generation {} of {}, run {}",
        generation.number, generation.at, generation.run
    )?;
    for table in &generation.tables {
        writeln!(
            out,
            "{}: {} afterwards",
            table.name,
            counted(table.rows_count, "row", "rows")
        )?;
        for added in table.added.keys() {
            writeln!(out, "  {GOOD}+ {}{GOOD:#}", key(added))?;
        }
        for removed in table.removed.keys() {
            writeln!(out, "  {BAD}- {}{BAD:#}", key(removed))?;
        }
        for Changed {
            key: of, from, to, ..
        } in &table.changed
        {
            writeln!(out, "  ~ {} {} -> {}", key(of), key(from), key(to))?;
        }
        for (path, digest) in &table.files {
            writeln!(out, "  {digest}  {path}")?;
        }
    }
    Ok(())
}

fn summary(generation: &Generation) -> serde_json::Value {
    let of_table = |table: &GenerationTable| {
        json!({ "table": table.name, "rows": table.rows_count, "added": table.added.len(), "removed": table.removed.len(),
                "changed": table.changed.len() })
    };
    json!({ "generation": generation.number, "at": generation.at.to_string(), "run": generation.run,
            "origin": generation.origin, "tables": generation.tables.iter().map(of_table).collect::<Vec<_>>() })
}

fn to_json(generation: &Generation) -> serde_json::Value {
    let keys = |rows: &Rows| rows.keys().map(key).collect::<Vec<_>>();
    let of_table = |table: &GenerationTable| {
        json!({ "table": table.name, "rows": table.rows_count, "added": keys(&table.added), "removed": keys(&table.removed),
                "changed": table.changed.iter().map(|changed| json!({ "key": key(&changed.key), "from": key(&changed.from),
                    "to": key(&changed.to) })).collect::<Vec<_>>(),
                "files": table.files.iter().map(|(path, digest)| json!({ "path": path, "sha256": digest })).collect::<Vec<_>>() })
    };
    json!({ "generation": generation.number, "at": generation.at.to_string(), "run": generation.run,
            "origin": generation.origin, "tables": generation.tables.iter().map(of_table).collect::<Vec<_>>() })
}
