//! `diff`: what `sync` would do, and nothing else. Takes no lock and writes nothing.

use std::io::Write;
use std::time::Instant;

use super::plan;
use crate::config::Config;
use crate::error::Result;
use crate::exit::Exit;
use crate::report::difference::Difference;
use crate::report::{Tell, markdown, progress, text, unified};
use crate::snapshot::Progress;
use crate::state::State;

/// How the difference is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For a person
    Text,
    /// For a program; the keys stay stable
    Json,
    /// Like `diff -U0` of the rows
    Unified,
    /// For a merge request
    Markdown,
}

/// Plans, prints, and gives the exit code.
pub fn run(
    config: &Config,
    format: Format,
    is_quiet: bool,
    out: &mut dyn Write,
    tell: Tell<'_>,
) -> Result<u8> {
    let entries = Progress::default();
    let run = super::begin(config, Instant::now(), &entries);
    let state = State::view(&config.state_dir);
    let head = state.head()?;
    let plan = progress::while_reading(&entries, !is_quiet, || plan::make(&run, &state, &head));
    let difference = Difference::of(config, &plan);
    plan.failures.iter().for_each(tell);
    // A reader who has seen enough (`| head`) is no failure.
    let _ = match format {
        Format::Text => text::difference(out, &difference),
        Format::Json => serde_json::to_writer_pretty(&mut *out, &difference)
            .map_err(Into::into)
            .and_then(|()| writeln!(out)),
        Format::Unified => plan
            .tables
            .iter()
            .try_for_each(|table| unified::table(out, table)),
        Format::Markdown => markdown::difference(out, &difference),
    };
    let mut exits = plan.exits();
    exits.extend(plan.failures.iter().map(|failure| failure.exit));
    if plan.is_change() {
        exits.push(Exit::WouldChange);
    }
    Ok(Exit::first(exits).code())
}
