//! The log: what happens, line by line, on standard error or in the journal. What a run *did* is a result (`report`), and
//! comes here only where results are logged ([`RESULT`]).
//!
//! A line is made once ([`line::Line`]), whatever its form: messages say all that a person needs, fields repeat it for
//! programs. Every line of a run carries the run's id, from whatever thread it comes: a process does one run, so the id
//! belongs to the process ([`run_begins`]).
//!
//! Only this program's own lines are shown. What libraries trace at their own discretion may hold what was said to a server,
//! secrets included, and is dropped.

mod journal;
mod line;

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;
use std::time::SystemTime;

use tracing::metadata::LevelFilter;
use tracing::span;
use tracing::{Event, Level, Metadata};

use crate::cli::{Cli, Color, LogFormat};
use crate::report::page::Page;
use crate::report::progress;
use journal::Journal;
use line::Line;

/// Target of lines that are the result of a run. Shown without `-v`, unless only warnings are asked for.
pub const RESULT: &str = "rcptsync::result";

/// The id of the run that this process does.
static RUN: OnceLock<String> = OnceLock::new();

/// Where the result of `sync` and `rollback` goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Results {
    /// To standard output, as text for a person.
    #[default]
    Printed,
    /// Into the log: programs read that, or it stands in the journal together with all else.
    Logged,
}

/// Sets the log up, once, and the colours of everything that is printed.
pub fn start(cli: &Cli) -> Results {
    match cli.color {
        Color::Auto => anstream::ColorChoice::Auto,
        Color::Always => anstream::ColorChoice::Always,
        Color::Never => anstream::ColorChoice::Never,
    }
    .write_global();
    let form = match cli.log_format {
        LogFormat::Auto => Journal::behind_standard_error().map_or_else(Form::text, Form::Journal),
        LogFormat::Text => Form::text(),
        LogFormat::Json => Form::Json,
    };
    let results = match &form {
        Form::Json => Results::Logged,
        Form::Journal(_) if journal::is_standard_output_too() => Results::Logged,
        Form::Journal(_) | Form::Terminal | Form::Lines => Results::Printed,
    };
    let log = Log {
        form,
        level: match cli.verbose {
            0 => LevelFilter::WARN,
            1 => LevelFilter::INFO,
            _ => LevelFilter::DEBUG,
        },
        shows_results: !cli.quiet,
    };
    // There is one already in a process that is not ours.
    let _ = tracing::subscriber::set_global_default(log);
    results
}

/// From here on, every line of this process carries the id of its run.
pub fn run_begins(id: &str) {
    // In a process that does several (tests), lines carry the id of the first.
    let _ = RUN.set(id.to_owned());
}

/// How a line is shown.
enum Form {
    /// To a person: which run it is needs no telling.
    Terminal,
    /// Lines of text that somebody keeps.
    Lines,
    Json,
    Journal(Journal),
}

impl Form {
    fn text() -> Form {
        if io::stderr().is_terminal() {
            Form::Terminal
        } else {
            Form::Lines
        }
    }
}

struct Log {
    form: Form,
    level: LevelFilter,
    shows_results: bool,
}

impl Log {
    fn show(&self, line: &Line) -> io::Result<()> {
        let run = RUN.get().map(String::as_str);
        match &self.form {
            Form::Terminal => {
                let mut text = Vec::new();
                line.lay_out(&mut Page::stderr(&mut text))?;
                progress::beside(|| anstream::stderr().write_all(&text))
            }
            Form::Lines => {
                let before = run.map_or_else(String::new, |run| format!("{run} "));
                anstream::stderr().write_all(line.text(&before).as_bytes())
            }
            Form::Json => {
                let now = humantime::format_rfc3339_millis(SystemTime::now());
                let text = format!("{}\n", line.json(&now.to_string(), run));
                io::stderr().lock().write_all(text.as_bytes())
            }
            Form::Journal(journal) => journal.say(line, run),
        }
    }
}

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let is_ours = metadata.target().split("::").next() == Some("rcptsync");
        let is_result = metadata.target() == RESULT && self.shows_results;
        is_ours && (*metadata.level() <= self.level || is_result)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level.max(LevelFilter::INFO))
    }

    fn event(&self, event: &Event<'_>) {
        // A reader of standard error who has gone away changes nothing.
        let _ = self.show(&Line::of(event));
    }

    // The id of a run is all the context that lines need, so there are no spans.
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// The name and the priority (syslog(3)) of a level.
fn named(level: Level) -> (&'static str, u8) {
    match level {
        Level::ERROR => ("error", 3),
        Level::WARN => ("warning", 4),
        Level::INFO => ("info", 6),
        Level::DEBUG | Level::TRACE => ("debug", 7),
    }
}
