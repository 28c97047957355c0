//! `history`: the generations, and what one of them did.

use std::io::Write;

use serde_json::json;

use crate::config::Config;
use crate::diff::Changed;
use crate::error::{Failure, Result};
use crate::exit::Exit;
use crate::harmless::{exact, key};
use crate::report::page::{Align, Page};
use crate::report::{self, BAD, GOOD, PLAIN, STRONG, counted, number};
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
                report::json(out, &to_json(&found))
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
                report::json(out, &all.iter().map(summary).collect::<Vec<_>>())
            } else {
                list(out, &all)
            }
        }
    };
    Ok(Exit::Current.code())
}

/// One row a table and generation.
fn list(out: &mut dyn Write, all: &[Generation]) -> std::io::Result<()> {
    let page = &mut Page::stdout(out);
    if all.is_empty() {
        return page.line("nothing was published yet");
    }
    let strong = |name: &str| (STRONG, name.to_owned());
    let mut rows = vec![
        [
            "generation",
            "published (UTC)",
            "table",
            "rows",
            "what changed",
        ]
        .map(strong)
        .to_vec(),
    ];
    for generation in all {
        for table in &generation.tables {
            let plain = |text: String| (PLAIN, text);
            rows.push(vec![
                plain(generation.number.to_string()),
                plain(generation.at.to_string()),
                plain(table.name.clone()),
                plain(number(table.rows_count)),
                plain(what_changed(generation.origin, table)),
            ]);
        }
    }
    let aligns = [
        Align::Right,
        Align::Left,
        Align::Left,
        Align::Right,
        Align::Left,
    ];
    page.table("", &aligns, &rows)
}

fn what_changed(origin: Origin, table: &GenerationTable) -> String {
    let figures = figures(table);
    match origin {
        Origin::Foreign => "found a file that rcptsync had not written".to_owned(),
        Origin::Sync => figures,
        Origin::Rollback => format!("put back by hand: {figures}"),
        Origin::Proof => format!("put back after a contradiction: {figures}"),
    }
}

fn figures(table: &GenerationTable) -> String {
    let [added, removed, changed] = [table.added.len(), table.removed.len(), table.changed.len()]
        .map(|count| number(count as u64));
    format!("{GOOD}+{added}{GOOD:#} {BAD}-{removed}{BAD:#} ~{changed}")
}

fn rows(out: &mut dyn Write, generation: &Generation) -> std::io::Result<()> {
    let page = &mut Page::stdout(out);
    page.line(format_args!(
        "{STRONG}generation {} of {}{STRONG:#}, run {}",
        generation.number,
        generation.at,
        key(generation.run.as_bytes())
    ))?;
    for table in &generation.tables {
        let rows = counted(table.rows_count, "row", "rows");
        let what = what_changed(generation.origin, table);
        page.hanging(
            &format!("{STRONG}{}{STRONG:#}: ", table.name),
            &format!("{rows} afterwards, {what}"),
        )?;
        for added in table.added.keys() {
            page.line(format_args!("  {GOOD}+ {}{GOOD:#}", key(added)))?;
        }
        for removed in table.removed.keys() {
            page.line(format_args!("  {BAD}- {}{BAD:#}", key(removed)))?;
        }
        for Changed {
            key: of, from, to, ..
        } in &table.changed
        {
            page.line(format_args!("  ~ {} {} -> {}", key(of), key(from), key(to)))?;
        }
        for (path, digest) in &table.files {
            page.line(format_args!("  {}", key(path.as_bytes())))?;
            page.line(format_args!("    sha256 {digest}"))?;
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
    let keys = |rows: &Rows| rows.keys().map(exact).collect::<Vec<_>>();
    let of_table = |table: &GenerationTable| {
        json!({ "table": table.name, "rows": table.rows_count, "added": keys(&table.added), "removed": keys(&table.removed),
                "changed": table.changed.iter().map(|changed| json!({ "key": exact(&changed.key), "from": exact(&changed.from),
                    "to": exact(&changed.to) })).collect::<Vec<_>>(),
                "files": table.files.iter().map(|(path, digest)| json!({ "path": path, "sha256": digest })).collect::<Vec<_>>() })
    };
    json!({ "generation": generation.number, "at": generation.at.to_string(), "run": generation.run,
            "origin": generation.origin, "tables": generation.tables.iter().map(of_table).collect::<Vec<_>>() })
}
