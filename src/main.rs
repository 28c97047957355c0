//! The program: parse the command line, load the configuration, run the verb, map its outcome to an exit code.
//!
//! Everything else is in the library, which `lib.rs` introduces. Nothing here decides anything.

use std::process::ExitCode;

use clap::Parser;
use rcptsync::cli::{Cli, Color, Command, LogFormat, TextOrJson};
use rcptsync::command::{
    approve, check, diff, doctor, explain, history, init, status, sync, verify,
};
use rcptsync::error::{Failure, Result};
use rcptsync::exit::Exit;
use rcptsync::report::Tell;
use rcptsync::{config, log, report};

fn main() -> ExitCode {
    quiet_readers();
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
    log::start(&cli);
    match cli.color {
        Color::Auto => anstream::ColorChoice::Auto,
        Color::Always => anstream::ColorChoice::Always,
        Color::Never => anstream::ColorChoice::Never,
    }
    .write_global();
    let code = std::panic::catch_unwind(|| {
        let tell = |failure: &Failure| match cli.log_format {
            // A reader of standard error who has gone away changes nothing.
            LogFormat::Text => drop(report::failure(&mut anstream::stderr(), failure)),
            LogFormat::Json => report::failure_event(failure),
        };
        run(&cli, &tell).unwrap_or_else(|failure| {
            tell(&failure);
            failure.exit.code()
        })
    });
    // The hook has told where it was.
    ExitCode::from(code.unwrap_or(Exit::Bug.code()))
}

fn run(cli: &Cli, tell: Tell<'_>) -> Result<u8> {
    let out = &mut anstream::stdout();
    // It runs before there is a configuration.
    if let Some(options) = new_installation(&cli.command) {
        return init::run(&options, out);
    }
    let config = match (config::load(&cli.config), &cli.command) {
        (Ok(config), _) => config,
        (Err(failure), Command::Status { format, .. }) => {
            return Ok(status::unknown(&failure, *format == TextOrJson::Json, out));
        }
        (Err(failure), _) => return Err(failure),
    };
    match &cli.command {
        Command::Sync { dry_run, full } => {
            let options = sync::Options {
                is_dry_run: *dry_run,
                is_full: *full,
                is_quiet: cli.quiet,
                back_to: None,
            };
            sync::run(&config, options, out, tell)
        }
        Command::Rollback { generation } => {
            let options = sync::Options {
                is_quiet: cli.quiet,
                back_to: Some(*generation),
                ..sync::Options::default()
            };
            sync::run(&config, options, out, tell)
        }
        Command::Diff { format } => {
            let options = diff::Options {
                format: *format,
                is_full: false,
                is_quiet: cli.quiet,
            };
            diff::run(&config, options, out, tell)
        }
        Command::Approve { digest } => approve::run(&config, digest, out),
        Command::Explain { addresses } => explain::run(&config, addresses, out),
        Command::Status {
            warn_age,
            crit_age,
            format,
        } => {
            let is_json = *format == TextOrJson::Json;
            status::run(
                &config,
                status::Options {
                    warn_age: *warn_age,
                    crit_age: *crit_age,
                    is_json,
                },
                out,
            )
        }
        Command::History { generation, format } => {
            history::run(&config, *generation, *format == TextOrJson::Json, out)
        }
        Command::Verify(asked) => verify::run(&config, &asked.options(cli.quiet), out, tell),
        Command::Check => check::run(&config, out),
        Command::Doctor { format } => {
            let options = doctor::Options {
                is_json: *format == TextOrJson::Json,
                is_quiet: cli.quiet,
                is_verbose: cli.verbose > 0,
            };
            doctor::run(&config, options, out)
        }
        Command::Init { target, .. } => init::install(*target, &config, out),
    }
}

/// What `init` without `--install` is asked for.
fn new_installation(command: &Command) -> Option<init::Options> {
    let Command::Init {
        target,
        servers,
        domains,
        table_path,
        output,
        install: false,
    } = command
    else {
        return None;
    };
    Some(init::Options {
        target: *target,
        servers: servers.clone(),
        domains: domains.clone(),
        table_path: table_path.clone(),
        output: output.clone(),
    })
}

/// A panic in a thread that reads a source is that source's failure and is told as one; the library behind it may panic on
/// what a hostile server sends. Everywhere else a panic is a bug of ours, and said so: exit code 70.
fn quiet_readers() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let thread = std::thread::current();
        if thread
            .name()
            .is_some_and(|name| name.starts_with("source "))
        {
            tracing::debug!("{panic}");
        } else {
            default(panic);
        }
    }));
}
