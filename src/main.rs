//! The program: parse the command line, load the configuration, run the verb, map its outcome to an exit code.
//!
//! Everything else is in the library, which `lib.rs` introduces. Nothing here decides anything.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use rcptsync::cli::{Cli, Command, TextOrJson};
use rcptsync::command::{
    approve, check, completions, diff, doctor, explain, history, init, man, status, sync, verify,
};
use rcptsync::error::{Failure, Result};
use rcptsync::exit::Exit;
use rcptsync::log::Results;
use rcptsync::{config, log, report, surroundings};

fn main() -> ExitCode {
    surroundings::settle();
    tell_panics();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are asked for; everything else is a wrong command line.
            let is_asked_for = !error.use_stderr();
            let _ = error.print();
            return ExitCode::from(
                if is_asked_for {
                    Exit::Current
                } else {
                    Exit::Usage
                }
                .code(),
            );
        }
    };
    let results = log::start(&cli);
    let code = std::panic::catch_unwind(|| {
        run(&cli, results).unwrap_or_else(|failure| {
            report::failure(&failure);
            failure.exit.code()
        })
    });
    // The hook has told where it was.
    ExitCode::from(code.unwrap_or(Exit::Bug.code()))
}

fn run(cli: &Cli, results: Results) -> Result<u8> {
    let out = &mut anstream::stdout();
    if let Some(outcome) = before_configuration(cli, out) {
        return outcome;
    }
    let config = match (config::load(&cli.config), &cli.command) {
        (Ok(config), _) => config,
        (Err(failure), Command::Status { format, .. }) => {
            return Ok(status::unknown(&failure, *format == TextOrJson::Json, out));
        }
        (Err(failure), _) => return Err(failure),
    };
    if cli.command.acts() {
        config.trusted()?;
    }
    match &cli.command {
        Command::Sync { dry_run, full } => {
            let options = sync::Options {
                is_dry_run: *dry_run,
                is_full: *full,
                is_quiet: cli.quiet,
                back_to: None,
                results,
            };
            sync::run(&config, options, out)
        }
        Command::Rollback { generation } => {
            let options = sync::Options {
                is_quiet: cli.quiet,
                back_to: Some(*generation),
                results,
                ..sync::Options::default()
            };
            sync::run(&config, options, out)
        }
        Command::Diff { format, stored } => {
            let options = diff::Options {
                format: *format,
                is_full: false,
                is_stored: *stored,
                is_quiet: cli.quiet,
            };
            diff::run(&config, options, out)
        }
        Command::Approve { digest } => approve::run(&config, digest, out),
        Command::Explain { addresses } => explain::run(&config, addresses, out),
        Command::Status {
            warn_age,
            crit_age,
            format,
        } => {
            let options = status::Options {
                warn_age: *warn_age,
                crit_age: *crit_age,
                is_json: *format == TextOrJson::Json,
            };
            status::run(&config, options, out)
        }
        Command::History { generation, format } => {
            history::run(&config, *generation, *format == TextOrJson::Json, out)
        }
        Command::Verify(asked) => verify::run(&config, &asked.options(cli.quiet), out),
        Command::Check => check::run(&config, out),
        Command::Doctor { format } => {
            let options = doctor::Options {
                is_json: *format == TextOrJson::Json,
                is_quiet: cli.quiet,
                is_verbose: cli.verbose > 0,
            };
            doctor::run(&config, options, out)
        }
        Command::Init(asked) => init::install(asked.target(), &config, out),
        // Done before.
        Command::Man { .. } | Command::Completions { .. } => Ok(Exit::Current.code()),
    }
}

/// Runs what needs no configuration, and does not look for one.
fn before_configuration(cli: &Cli, out: &mut dyn Write) -> Option<Result<u8>> {
    if let Command::Man { page } = &cli.command {
        return Some(Ok(man::run(*page, out)));
    }
    if let Command::Completions { shell } = &cli.command {
        return Some(Ok(completions::run(*shell, out)));
    }
    let Command::Init(asked) = &cli.command else {
        return None;
    };
    let options = asked.new_configuration(&cli.config)?;
    Some(init::run(&options, out))
}

/// A panic in a thread that reads a source is that source's failure and is told as one; the library behind it may panic on
/// what a hostile server sends. Everywhere else a panic is a bug of ours, and said so: exit code 70.
fn tell_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let is_reader = (thread.name()).is_some_and(|name| name.starts_with("source "));
        if is_reader {
            tracing::debug!("{panic}");
            return;
        }
        let trace = Backtrace::capture();
        let trace = if trace.status() == BacktraceStatus::Captured {
            format!("\n{trace}")
        } else {
            String::new()
        };
        report::failure(&Failure {
            exit: Exit::Bug,
            what: "a bug in rcptsync ended the run".into(),
            place: (panic.location()).map_or_else(String::new, |place| place.to_string()),
            why: format!("{panic}{trace}"),
            in_force:
                "each table is the old one or the new one; the next run finishes what was decided"
                    .into(),
            next: "please report it with this message (RUST_BACKTRACE=1 tells more)".into(),
        });
    }));
}
