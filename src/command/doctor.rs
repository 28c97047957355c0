//! `doctor`: every precondition tried one by one. Writes nothing, takes no lock, works before the first run.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use crate::check::gather::{Begin, gather};
use crate::check::{Severity, judge};
use crate::config::Config;
use crate::error::Result;
use crate::exit::Exit;
use crate::report::{findings, progress};
use crate::snapshot::Progress;

/// What the command line says.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// JSON instead of text.
    pub is_json: bool,
    /// No progress bar.
    pub is_quiet: bool,
    /// The checks that found nothing, too.
    pub is_verbose: bool,
}

/// Gathers, judges and prints; ends with 1 where a finding is an error.
pub fn run(config: &Config, options: Options, out: &mut dyn Write) -> Result<u8> {
    let entries = Progress::default();
    let started = Instant::now();
    let run = super::begin(config, started, true, &entries);
    let begin = Begin {
        config,
        now: run.now,
        started,
        deadline: run.deadline,
        progress: &entries,
    };
    let facts = progress::shown(&entries, !options.is_quiet, || {
        gather(&begin, Path::new("/"))
    });
    let found = judge(&facts);
    // A reader who has seen enough (`| head`) is no failure.
    let _ = if options.is_json {
        findings::json(out, &found)
    } else {
        findings::text(out, &found, options.is_verbose)
    };
    let is_error = found
        .iter()
        .any(|finding| finding.severity == Severity::Error);
    let exit = if is_error {
        Exit::Refused
    } else {
        Exit::Current
    };
    Ok(exit.code())
}
