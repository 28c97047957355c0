//! `diff`: what `sync` would do, and nothing else. Takes no lock and writes nothing.

use std::io::Write;
use std::time::Instant;

use super::plan::{self, places};
use crate::config::Config;
use crate::error::Result;
use crate::exit::Exit;
use crate::postfix::map_types;
use crate::report::text::{self, Told};
use crate::report::{self, markdown, progress, unified};
use crate::snapshot::Progress;
use crate::state::State;
use crate::state::runs::Stages;

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

/// What the command line says.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How the difference is told.
    pub format: Format,
    /// Read everything, whatever could be followed.
    pub is_full: bool,
    /// Read nothing: what is stored of each source counts.
    pub is_stored: bool,
    /// No progress bar.
    pub is_quiet: bool,
}

/// Plans, prints, and gives the exit code.
pub fn run(config: &Config, options: Options, out: &mut dyn Write) -> Result<u8> {
    let entries = Progress::default();
    let run = plan::Run {
        is_stored: options.is_stored,
        ..super::begin(config, Instant::now(), options.is_full, &entries)
    };
    map_types::require(&config.tables)?;
    let state = State::view(&config.state_dir);
    let (planned, difference) = state.steadily(|head| {
        let mut head = head.clone();
        super::see_clocks(&run, &mut head);
        let planned = progress::shown(&entries, !options.is_quiet, || {
            plan::make(&run, &state, &head, &mut Stages::default())
        });
        let mut difference = planned.difference(config, usize::MAX);
        if let Some(plan) = planned.made() {
            places::tell(&state, &head, plan, &mut difference);
        }
        Ok((planned, difference))
    })?;
    let plan = planned.made();
    let failures = plan.map_or(&[][..], |plan| &plan.failures);
    failures.iter().for_each(report::failure);
    // A reader who has seen enough (`| head`) is no failure.
    let _ = match options.format {
        Format::Text => text::difference(out, &difference, Told::Would),
        Format::Json => report::json(out, &difference),
        Format::Unified => plan
            .iter()
            .flat_map(|plan| &plan.tables)
            .try_for_each(|table| unified::table(out, table)),
        Format::Markdown => write!(out, "{}", markdown::difference(&difference)),
    };
    let mut exits = plan.map_or_else(Vec::new, plan::Plan::exits);
    if plan.is_some_and(plan::Plan::is_change) {
        exits.push(Exit::WouldChange);
    }
    Ok(Exit::first(exits).code())
}
