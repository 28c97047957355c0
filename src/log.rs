//! The log: lines on standard error, for people or as JSON. What a run *did* is reported elsewhere (`report`).

use std::io::IsTerminal;

use tracing::Level;

use crate::cli::{Cli, Color, LogFormat};
use crate::report::progress;

/// Sets the log up, once.
pub fn start(cli: &Cli) {
    let level = match (cli.quiet, cli.verbose) {
        (true, _) => Level::WARN,
        (false, 0) => Level::WARN,
        (false, 1) => Level::INFO,
        (false, _) => Level::DEBUG,
    };
    let is_coloured = match cli.color {
        Color::Auto => std::io::stderr().is_terminal(),
        Color::Always => true,
        Color::Never => false,
    };
    let lines = tracing_subscriber::fmt()
        .with_writer(progress::beside)
        .with_max_level(level)
        .with_target(false)
        .with_ansi(is_coloured);
    match cli.log_format {
        LogFormat::Text => lines.without_time().init(),
        LogFormat::Json => lines.json().init(),
    }
}
