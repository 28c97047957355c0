//! The command line: what can be typed, and the help that teaches it. No logic.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

use crate::command::{diff, init};
use crate::config;
use crate::domain::Domain;
use crate::templates::Target;

/// Keeps a mail gateway's recipient tables equal to what Active Directory says
///
/// A timer runs `rcptsync sync`: it reads who exists, compares with what the gateway reads now, and replaces the lookup
/// tables in one step, so that Postfix refuses unknown recipients at RCPT TO. What looks wrong is held until somebody
/// has looked; what a source cannot say completely stays as it was.
#[derive(Debug, Parser)]
#[command(name = "rcptsync", version, max_term_width = 100, after_help = AFTER_HELP)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,

    /// Configuration file
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "RCPTSYNC_CONFIG",
        default_value = "/etc/rcptsync/rcptsync.toml"
    )]
    pub config: PathBuf,

    /// Form of the log on standard error
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// Log more: once for what is done, twice for details
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,

    /// Only warnings and errors; nothing on standard output of `sync` (for cron)
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Colours
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto)]
    pub color: Color,
}

const AFTER_HELP: &str = "\
Exit codes: 0 current, 2 would change (diff), 65 changes are held, 69 a hook is owed, 73 a table could not be
written, 74 another run holds the lock, 75 a source could not be read completely, 77 no permission, 78 the
configuration or the state is wrong, 64 wrong command line, 70 a bug. `status` speaks 0 1 2 3 like any
monitoring plugin; `explain` ends with 1 for an address that is refused.

First steps: `rcptsync init postfix`, `rcptsync check`, `rcptsync diff`, `rcptsync sync`.";

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Read the sources, replace the tables that differ, run the hooks that are owed
    ///
    /// Safe to run at any time: a run that finds no change touches no table. Removals that exceed the limits of the guard
    /// are held and the rest is published (exit code 65); a source that cannot be read completely keeps its recipients
    /// (75).
    Sync {
        /// Print what `diff` prints, and change nothing
        #[arg(long)]
        dry_run: bool,
        /// Read every source completely, even where only its changes would be read
        #[arg(long)]
        full: bool,
    },
    /// Show what `sync` would do, and do nothing
    ///
    /// Ends with 0 if nothing would change, 2 if something would be published, 65 if changes would be held.
    Diff {
        /// How to show it
        #[arg(long, value_enum, default_value_t = diff::Format::Text)]
        format: diff::Format,
    },
    /// Release the changes that one hold names
    ///
    /// The next run applies those of them that are still wanted and judges everything else anew. An approval lapses
    /// after 24 hours. `status` and `sync` show the digests.
    Approve {
        /// The hold's digest, or its first 8 digits or more
        digest: String,
    },
    /// Say whether an address is accepted now, and why (or several addresses)
    ///
    /// From the stored records and the published tables, without network: which object has it, which rule left it out,
    /// what waits, since when it is there, when it left. Ends with 0 if it is accepted and with 1 if it is refused.
    Explain {
        /// The address, as at RCPT TO
        #[arg(required = true, value_name = "ADDRESS")]
        addresses: Vec<String>,
    },
    /// Show how things stand: last runs, holds, owed hooks, age of what is known
    ///
    /// The output and the codes of a monitoring plugin: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.
    Status {
        /// A source last known completely (read or followed) longer ago than this is a warning
        #[arg(long, value_name = "TIME", default_value = "2h", value_parser = humantime::parse_duration)]
        warn_age: Duration,
        /// A source last known completely longer ago than this is critical
        #[arg(long, value_name = "TIME", default_value = "24h", value_parser = humantime::parse_duration)]
        crit_age: Duration,
        /// How to show it
        #[arg(long, value_enum, default_value_t = TextOrJson::Text)]
        format: TextOrJson,
    },
    /// List the generations, or show one
    History {
        /// Show the rows of this generation
        generation: Option<u64>,
        /// How to show it
        #[arg(long, value_enum, default_value_t = TextOrJson::Text)]
        format: TextOrJson,
    },
    /// Check the configuration alone: no network, nothing written, all problems at once
    Check,
    /// Write a commented configuration and the exact lines for a gateway
    ///
    /// Prints both; with --output the configuration becomes a new file. Nothing else is touched, and the configuration need not
    /// be there yet. When it is written and its tables are published, `init postfix --install` or `init pmg --install` puts the
    /// gateway's lines in their place: names come from the configuration then, and nothing that is there is overwritten.
    Init {
        /// The gateway
        #[arg(value_enum, hide_possible_values = false)]
        target: Target,
        /// A directory server, ldaps://HOST or ldap://HOST (StartTLS); several are asked in their order
        #[arg(long = "server", value_name = "URL", value_parser = server)]
        servers: Vec<String>,
        /// A domain that the gateway relays; may stand there several times
        #[arg(long = "domain", value_name = "DOMAIN", value_parser = Domain::parse)]
        domains: Vec<Domain>,
        /// Where the table lies, without a suffix
        #[arg(long, value_name = "PATH", value_parser = table_path)]
        table_path: Option<String>,
        /// Write the configuration to this file, which must not be there yet
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Put the lines for the tables of --config in their place (postfix, pmg)
        #[arg(long, conflicts_with_all = ["servers", "domains", "table_path", "output"])]
        install: bool,
    },
}

fn server(url: &str) -> Result<String, &'static str> {
    config::server_address(url).map(|_| url.to_owned())
}

fn table_path(path: &str) -> Result<String, &'static str> {
    if path.ends_with(".cdb") {
        return Err("stands there without .cdb, as in main.cf");
    }
    init::is_plain_path(path)
        .then(|| path.to_owned())
        .ok_or("an absolute path of letters, digits and . _ - / alone")
}

/// Two ways to show a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TextOrJson {
    /// For a person
    Text,
    /// For a program
    Json,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines
    Text,
    /// One JSON object a line
    Json,
}

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}
