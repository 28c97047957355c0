//! The command line: what can be typed, and the help that teaches it. No logic.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

use crate::command::diff;

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
monitoring plugin; `explain` ends with 1 for an address that is refused, `doctor` with 1 for an error.

First steps: `rcptsync check`, `rcptsync doctor`, `rcptsync diff`, `rcptsync sync`.";

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
    /// Try every precondition one by one: sources, permissions, tables, Postfix, PMG, Exchange
    ///
    /// Reads every source completely and asks every server, asks Postfix for its settings and its tables for every domain,
    /// and looks at what else decides about a recipient. Each finding says what is so, why it matters and what mends it.
    /// Writes nothing and takes no lock; works before the first `sync`, and as an ordinary account (what needs root is told
    /// as not checked). Ends with 1 if a finding is an error.
    Doctor {
        /// How to show it
        #[arg(long, value_enum, default_value_t = TextOrJson::Text)]
        format: TextOrJson,
    },
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
