//! The command line: what can be typed, and the help that teaches it. No logic.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::address::Address;
use crate::command::{diff, init, verify};
use crate::config;
use crate::domain::Domain;
use crate::smtp::{self, Endpoint};
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
Exit codes: 0 current, 2 would change (diff), 65 changes are held, 69 a hook is owed, or a gateway
disagrees (verify), 73 a table could not be written, 74 another run holds the lock, 75 a source
could not be read completely, 77 no permission, 78 the configuration or the state is wrong, 64 wrong
command line, 70 a bug. `status` speaks 0 1 2 3 like any monitoring plugin; `explain` ends with 1 for an
address that is refused, `doctor` with 1 for an error.

First steps: `rcptsync init postfix`, `rcptsync check`, `rcptsync doctor`, `rcptsync diff`, `rcptsync sync`.";

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
    /// Go back to the rows of an earlier generation
    ///
    /// Publishes them as a new generation and runs the hooks. What is undone is held until it is approved; whatever
    /// changes later flows. The configuration is that of today, values included. `history` lists the generations.
    Rollback {
        /// Its number
        generation: u64,
    },
    /// Ask whether the published tables are in force: the files, a complete read, a gateway, the system behind it
    ///
    /// Alone, it reads every published file anew and compares it with what was published; in an index every key is
    /// looked up. Takes no lock and changes nothing; never sends a message.
    #[command(after_help = VERIFY_HELP)]
    Verify(Verify),
    /// Check the configuration alone: no network, nothing written, all problems at once
    Check,
    /// Try every precondition one by one: sources, permissions, tables, Postfix, PMG, Exchange
    ///
    /// Reads every source completely and asks every server, asks Postfix for its settings and its tables for every domain,
    /// and looks at what else decides about a recipient. Each finding says what is so, why it matters and what mends it.
    /// Writes nothing and takes no lock; works before the first `sync`, and as an ordinary account (what needs root is told
    /// as not checked). -v lists the checks without a finding, too. Ends with 1 if a finding is an error.
    Doctor {
        /// How to show it
        #[arg(long, value_enum, default_value_t = TextOrJson::Text)]
        format: TextOrJson,
    },
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

/// What `verify` looks at and asks.
#[derive(Debug, Args)]
pub struct Verify {
    /// Read every source completely, and compare the rows in force with those wanted
    #[arg(long)]
    full: bool,
    /// Ask a gateway: addresses of the table must get 250, random ones 550 5.1.1
    #[arg(long, value_name = "HOST:PORT")]
    smtp: Option<Endpoint>,
    /// Ask the system behind the gateway (Exchange: port 2525): it must know every address of the table, and no random
    /// one; with --full, addresses that a rule leaves out are asked for as well
    #[arg(long, value_name = "HOST:PORT")]
    callout: Option<Endpoint>,
    /// The table whose addresses are asked for; the first of the configuration where nothing is said
    #[arg(long, value_name = "NAME")]
    table: Option<String>,
    /// Addresses of each sort that are asked for at most
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=100))]
    samples: u8,
    /// Sender of the questions; the empty one (<>) where nothing is said, as for a bounce
    #[arg(long, value_name = "ADDRESS", value_parser = sender)]
    sender: Option<Address>,
    /// Name to introduce this machine with; its full name, or its address, where nothing is said
    #[arg(long, value_name = "NAME", value_parser = Domain::parse)]
    helo: Option<Domain>,
    /// How long one reply may take, the greeting included: tarpits and postscreen take their time
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time_to_wait)]
    timeout: Duration,
    /// How to show it
    #[arg(long, value_enum, default_value_t = TextOrJson::Text)]
    format: TextOrJson,
}

impl Verify {
    /// What the verb takes.
    pub fn options(&self, is_quiet: bool) -> verify::Options {
        verify::Options {
            is_full: self.full,
            smtp: self.smtp.clone(),
            callout: self.callout.clone(),
            table: self.table.clone(),
            samples: self.samples.into(),
            sender: self.sender.clone(),
            helo: self.helo.clone(),
            timeout: self.timeout,
            is_json: self.format == TextOrJson::Json,
            is_quiet,
        }
    }
}

/// A sender that every server can be told.
fn sender(text: &str) -> Result<Address, String> {
    let address = Address::parse(text).map_err(|error| error.to_string())?;
    if smtp::needs_smtputf8(&address) {
        return Err("a server without SMTPUTF8 could not be told; choose one in ASCII".into());
    }
    Ok(address)
}

/// Nothing would be heard within no time.
fn time_to_wait(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if time.is_zero() {
        return Err("must be more than nothing".into());
    }
    Ok(time)
}

// The terminal breaks the lines.
const VERIFY_HELP: &str = "\
A server is asked up to RCPT TO, never given a message, and for 5 recipients a session at most: known ones of the \
table in force (spread over its domains), a random one in each of their domains and of those listed, and each \
postmaster; of every sort --samples at most. Greylisting, tarpits, postscreen, tables that do not open, callouts and \
refused relaying are told apart and explained. There is no TLS: a server that insists on it (530) says so.

Exit codes: 0 everything agrees; 69 a file is not what was published, or a server contradicts (it does not know a \
known address, or accepts a random one); 75 a server could not be asked, or nothing that it said about the known or \
the random addresses of a domain decides. With --full also those of `diff`: 2 other rows are wanted, 65 they wait, 75 \
a source could not be read. A postmaster that is not in the table and is refused is a finding, and no more.";

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
