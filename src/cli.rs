//! The command line: what can be typed, and the help that teaches it. No logic.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;

use crate::address::Address;
use crate::command::{diff, init, verify};
use crate::config;
use crate::domain::Domain;
use crate::exit::Exit;
use crate::manual::Page;
use crate::smtp::{self, Endpoint};
use crate::templates::Target;

/// Keeps a mail gateway's recipient tables equal to what Active Directory says
///
/// A timer runs `rcptsync sync`: it reads who exists, compares with what the gateway reads now, and replaces the lookup
/// tables in one step, so that Postfix refuses unknown recipients at RCPT TO. What looks wrong is held until somebody
/// has looked; what a source cannot say completely stays as it was.
#[derive(Debug, Parser)]
#[command(name = "rcptsync", version, max_term_width = 100, after_help = after_help())]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,

    /// Configuration file
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        value_hint = ValueHint::FilePath,
        env = "RCPTSYNC_CONFIG",
        default_value = "/etc/rcptsync/rcptsync.toml",
        help_heading = EVERYWHERE
    )]
    pub config: PathBuf,

    /// Log on standard error: `auto` (entries of the journal under systemd, else lines), `text`, or `json`
    /// (one object a line, the result of `sync` and `rollback` included)
    #[arg(
        long,
        global = true,
        value_name = "FORM",
        value_enum,
        default_value_t = LogFormat::Auto,
        hide_possible_values = true,
        help_heading = EVERYWHERE
    )]
    pub log_format: LogFormat,

    /// Log more: once for what is done, twice for details
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = EVERYWHERE)]
    pub verbose: u8,

    /// Only warnings and errors; nothing on standard output of `sync` (for cron)
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = EVERYWHERE)]
    pub quiet: bool,

    /// Colours: `auto` (on a terminal), `always` or `never`
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        value_enum,
        default_value_t = Color::Auto,
        hide_possible_values = true,
        help_heading = EVERYWHERE
    )]
    pub color: Color,
}

/// Heads the options of the program, so that those of the verb are found at once.
const EVERYWHERE: &str = "Options of every verb";

fn after_help() -> String {
    let mut help = "Exit codes:\n".to_owned();
    for (code, meanings) in Exit::codes() {
        help.push_str(&format!("  {code:<3} {}\n", meanings.join("\n      ")));
    }
    help.push_str(
        "  `status` uses 0 1 2 3, like any monitoring plugin.\n\n\
         First steps: `rcptsync init`, then `check`, `doctor`, `diff`, `sync`.\n\
         Manual: `man rcptsync`, `man rcptsync.toml`; or `rcptsync man | man -l -`.",
    );
    help
}

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
        /// Read no source: take what the last run stored, without network and without a secret. Shows what a change of rules,
        /// domains or tables would do
        #[arg(long)]
        stored: bool,
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
        #[arg(value_hint = ValueHint::Other)]
        digest: String,
    },
    /// Say whether an address is accepted now, and why
    ///
    /// From the stored records and the published tables, without network: which object has it, which rule left it out,
    /// what waits, since when it is there, when it left. Ends with 0 if it is accepted and with 1 if it is refused.
    Explain {
        /// One address or several, as at RCPT TO
        #[arg(required = true, value_name = "ADDRESS", value_hint = ValueHint::EmailAddress)]
        addresses: Vec<String>,
    },
    /// Show how things stand: last runs, holds, owed hooks, age of what is known
    ///
    /// The output and the codes of a monitoring plugin: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.
    Status {
        /// A source last known completely (read or followed) longer ago than this is a warning
        #[arg(long, value_name = "TIME", value_hint = ValueHint::Other, default_value = "2h", value_parser = humantime::parse_duration)]
        warn_age: Duration,
        /// A source last known completely longer ago than this is critical
        #[arg(long, value_name = "TIME", value_hint = ValueHint::Other, default_value = "24h", value_parser = humantime::parse_duration)]
        crit_age: Duration,
        /// How to show it
        #[arg(long, value_enum, default_value_t = TextOrJson::Text)]
        format: TextOrJson,
    },
    /// List the generations, or show one
    History {
        /// Show the rows of this generation
        #[arg(value_hint = ValueHint::Other)]
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
        /// The number of that generation
        #[arg(value_hint = ValueHint::Other)]
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
    /// Write a commented configuration and the exact lines for a gateway; on a terminal, ask for what is in it
    ///
    /// On a terminal it asks for what no option says, and tries each answer at once: it shows the server's certificates, signs
    /// in, reads the first page and counts what is on it. Nothing is written before the last question is answered. With --try
    /// it does the same without a question, on a terminal or not; what is not said is as proposed, or an error.
    ///
    /// Elsewhere, and with --print, nothing is tried: it prints configuration and lines, with made-up names where no option
    /// says one; with --output the configuration becomes a new file.
    ///
    /// When it is written and its tables are published, `init postfix --install` or `init pmg --install` puts the gateway's
    /// lines in their place: names come from the configuration then. Nothing that is there is ever overwritten.
    Init(Box<Init>),
    /// Print a manual page, for man(1)
    ///
    /// Read it with `rcptsync man | man -l -`; the packages install both pages, for `man rcptsync` and `man rcptsync.toml`.
    Man {
        /// The page
        #[arg(value_enum, default_value_t = Page::Program)]
        page: Page,
    },
    /// Print the script that lets a shell complete the command line
    ///
    /// The packages install it. By hand, for bash: `rcptsync completions bash > /etc/bash_completion.d/rcptsync`; for zsh, as
    /// a file _rcptsync in a directory of $fpath; for fish, as rcptsync.fish in /etc/fish/completions.
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: Shell,
    },
}

/// What `init` is told.
#[derive(Debug, Args)]
pub struct Init {
    /// The gateway
    #[arg(value_enum, hide_possible_values = false)]
    target: Option<Target>,
    /// A directory server, ldaps://HOST or ldap://HOST (StartTLS); several are asked in their order
    #[arg(long = "server", value_name = "URL", value_hint = ValueHint::Url, value_parser = server)]
    servers: Vec<String>,
    /// A domain whose controllers DNS names, instead of --server
    #[arg(long, value_name = "DOMAIN", value_hint = ValueHint::Other, conflicts_with = "servers")]
    discover: Option<String>,
    /// PEM file of the authority that issued the servers' certificates, instead of the system's
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    ca_file: Option<String>,
    /// SHA-256 of the authority that a server shows: if it is that one, it is saved as --ca-file, a new file
    #[arg(long, value_name = "SHA256", value_hint = ValueHint::Other, requires = "ca_file", conflicts_with = "is_print", value_parser = fingerprint)]
    ca_fingerprint: Option<String>,
    /// How to sign in
    #[arg(long, value_enum, requires_ifs = [("simple", "name"), ("gssapi", "name")])]
    method: Option<init::Method>,
    /// The account: NAME@DOMAIN, DOMAIN\NAME or a DN; for gssapi the principal
    #[arg(long, value_name = "NAME", value_hint = ValueHint::Other)]
    name: Option<String>,
    /// File that holds its password; others must not be able to read it
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "name")]
    password_file: Option<String>,
    /// Keytab that holds its keys (gssapi)
    #[arg(
        long,
        value_name = "FILE", value_hint = ValueHint::FilePath,
        requires = "name",
        conflicts_with = "password_file"
    )]
    keytab: Option<String>,
    /// Name of the systemd credential under which the run gets password or keytab, instead of reading the file
    #[arg(long, value_name = "NAME", value_hint = ValueHint::Other, requires = "name", value_parser = credential)]
    credential: Option<String>,
    /// Where to search, as a DN; everywhere where nothing is said
    #[arg(long = "base", value_name = "DN", value_hint = ValueHint::Other)]
    bases: Vec<String>,
    /// A domain that the gateway relays; may stand there several times
    #[arg(long = "domain", value_name = "DOMAIN", value_hint = ValueHint::Other, value_parser = Domain::parse)]
    domains: Vec<Domain>,
    /// Where domains come from, beside --domain
    #[arg(long, value_enum)]
    domains_from: Option<init::Origin>,
    /// Where the table lies, without a suffix
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath, value_parser = init::table_path)]
    table_path: Option<String>,
    /// Type of the table that Postfix reads: cdb, lmdb, hash, btree
    #[arg(long, value_name = "TYPE", value_hint = ValueHint::Other, value_parser = init::map_type)]
    map_type: Option<String>,
    /// A local part that every domain has, instead of postmaster and abuse; may stand there several times
    #[arg(long = "always", value_name = "LOCAL", value_hint = ValueHint::Other)]
    always: Vec<String>,
    /// An address that must be in every read (canary); may stand there several times
    #[arg(long = "must-contain", value_name = "ADDRESS", value_hint = ValueHint::EmailAddress)]
    must_contain: Vec<String>,
    /// Write the configuration to this file, which must not be there yet
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,
    /// Try the answers as on a terminal, and ask nothing
    #[arg(long = "try", conflicts_with = "is_print")]
    is_try: bool,
    /// Ask nothing and try nothing, even on a terminal
    #[arg(long = "print")]
    is_print: bool,
    /// Put the lines for the tables of --config in their place (postfix, pmg)
    #[arg(long, conflicts_with_all = [
        "servers", "discover", "ca_file", "ca_fingerprint", "method", "name", "password_file", "keytab", "credential",
        "bases", "domains", "domains_from", "table_path", "map_type", "always", "must_contain", "output", "is_try",
        "is_print",
    ])]
    install: bool,
}

impl Command {
    /// Whether it reads secrets, runs programs or writes anything because the configuration says so; `check` is for whoever is
    /// about to. `doctor` tells what is wrong with a configuration instead of refusing it.
    pub fn acts(&self) -> bool {
        match self {
            Command::Sync { .. }
            | Command::Diff { .. }
            | Command::Approve { .. }
            | Command::Rollback { .. }
            | Command::Verify(_)
            | Command::Check
            | Command::Init(_) => true,
            Command::Explain { .. }
            | Command::Status { .. }
            | Command::Doctor { .. }
            | Command::History { .. }
            | Command::Completions { .. }
            | Command::Man { .. } => false,
        }
    }
}

impl Init {
    /// Whose lines are to be put in their place, where that is asked for.
    pub fn target(&self) -> Option<Target> {
        self.target
    }

    /// What a new configuration is made from, unless the lines of one that is there are to be put in their place.
    pub fn new_configuration(&self, config: &Path) -> Option<init::Options> {
        (!self.install).then(|| self.options(config))
    }

    fn options(&self, config: &Path) -> init::Options {
        init::Options {
            target: self.target,
            servers: self.servers.clone(),
            discover: self.discover.clone(),
            ca_file: self.ca_file.clone(),
            ca_fingerprint: self.ca_fingerprint.clone(),
            method: self.method,
            name: self.name.clone(),
            password_file: self.password_file.clone(),
            keytab: self.keytab.clone(),
            credential: self.credential.clone(),
            bases: self.bases.clone(),
            domains: self.domains.clone(),
            domains_from: self.domains_from,
            table_path: self.table_path.clone(),
            map_type: self.map_type.clone(),
            always: self.always.clone(),
            must_contain: self.must_contain.clone(),
            output: self.output.clone(),
            config: config.to_owned(),
            manner: match (self.is_try, self.is_print) {
                (true, _) => init::Manner::Try,
                (_, true) => init::Manner::Print,
                (false, false) => init::Manner::Ask,
            },
        }
    }
}

fn server(url: &str) -> Result<String, &'static str> {
    config::server_address(url).map(|_| url.to_owned())
}

fn credential(name: &str) -> Result<String, &'static str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    match !name.is_empty() && !name.starts_with('.') && name.bytes().all(is_plain) {
        true => Ok(name.to_owned()),
        false => Err("a name of letters, digits and . _ - alone"),
    }
}

fn fingerprint(text: &str) -> Result<String, &'static str> {
    crate::certificate::fingerprint(text)
        .ok_or("the SHA-256 of a certificate has 64 hexadecimal digits")
}

/// What `verify` looks at and asks.
#[derive(Debug, Args)]
pub struct Verify {
    /// Read every source completely, and compare the rows in force with those wanted
    #[arg(long)]
    full: bool,
    /// Ask a gateway: addresses of the table must get 250, random ones 550 5.1.1
    #[arg(long, value_name = "HOST:PORT", value_hint = ValueHint::Hostname)]
    smtp: Option<Endpoint>,
    /// Ask the system behind the gateway (Exchange: port 2525): it must know every address of the table, and no random
    /// one; with --full, addresses that a rule leaves out are asked for as well
    #[arg(long, value_name = "HOST:PORT", value_hint = ValueHint::Hostname)]
    callout: Option<Endpoint>,
    /// The table whose addresses are asked for; the first of the configuration where nothing is said
    #[arg(long, value_name = "NAME", value_hint = ValueHint::Other)]
    table: Option<String>,
    /// Addresses of each sort that are asked for at most
    #[arg(long, value_name = "N", value_hint = ValueHint::Other, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=100))]
    samples: u8,
    /// Sender of the questions; the empty one (<>) where nothing is said, as for a bounce
    #[arg(long, value_name = "ADDRESS", value_hint = ValueHint::EmailAddress, value_parser = sender)]
    sender: Option<Address>,
    /// Name to introduce this machine with; its full name, or its address, where nothing is said
    #[arg(long, value_name = "NAME", value_hint = ValueHint::Other, value_parser = Domain::parse)]
    helo: Option<Domain>,
    /// How long one reply may take, the greeting included: tarpits and postscreen take their time
    #[arg(long, value_name = "TIME", value_hint = ValueHint::Other, default_value = "30s", value_parser = time_to_wait)]
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
    /// Entries of the journal where standard error leads there (systemd), lines elsewhere
    Auto,
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
