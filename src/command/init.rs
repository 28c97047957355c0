//! `init`: a commented configuration, and the exact lines for the gateway; with `--install`, the lines put in their place.
//!
//! In two steps, because a gateway that names a table which is not there answers 451 to everybody. First the configuration
//! is written and nothing else happens; names come from the command line, or from a person on a terminal (`dialogue`), who
//! learns at once what each answer leads to. When it has been published, `--install` takes
//! path, type and domains from that configuration and tells Postfix ([`postfix`]) or PMG ([`pmg`]).
//!
//! Invariant: nothing that is there is overwritten, neither a file nor a parameter; but for the untouched default of the package.

mod dialogue;
mod new_file;
pub mod pmg;
mod postfix;
mod relayed;

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::config::{Config, DomainsFrom, Format, Table, TableKind};
use crate::domain::Domain;
use crate::error::{Failure, Result};
use crate::exit::Exit;
use crate::harmless;
use crate::postfix::parameters;
use crate::templates::{self, BindNames, Names, SecretNames, SourceNames, Target};
use dialogue::terminal::Terminal;

/// What is asked for, as typed.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whom to set up.
    pub target: Option<Target>,
    /// `--server`
    pub servers: Vec<String>,
    /// `--discover`
    pub discover: Option<String>,
    /// `--ca-file`
    pub ca_file: Option<String>,
    /// `--ca-fingerprint`, as 64 digits.
    pub ca_fingerprint: Option<String>,
    /// `--method`
    pub method: Option<Method>,
    /// `--name`
    pub name: Option<String>,
    /// `--password-file`
    pub password_file: Option<String>,
    /// `--keytab`
    pub keytab: Option<String>,
    /// `--credential`
    pub credential: Option<String>,
    /// `--base`
    pub bases: Vec<String>,
    /// `--domain`
    pub domains: Vec<Domain>,
    /// `--domains-from`
    pub domains_from: Option<Origin>,
    /// `--table-path`
    pub table_path: Option<String>,
    /// `--map-type`
    pub map_type: Option<String>,
    /// `--always`
    pub always: Vec<String>,
    /// `--must-contain`
    pub must_contain: Vec<String>,
    /// `--output`
    pub output: Option<PathBuf>,
    /// Where the program looks for its configuration.
    pub config: PathBuf,
    /// Whether anything is asked and tried.
    pub manner: Manner,
}

/// Whether anything is asked and tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Asked and tried on a terminal; elsewhere like `Print`.
    Ask,
    /// Tried, and never asked.
    Try,
    /// Neither.
    Print,
}

/// How to sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Method {
    /// Name and password
    Simple,
    /// Kerberos, with a keytab
    Gssapi,
    /// Nobody
    Anonymous,
}

impl Method {
    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Method::Simple => "simple",
            Method::Gssapi => "gssapi",
            Method::Anonymous => "anonymous",
        }
    }

    fn named(name: &str) -> Option<Method> {
        Method::from_str(name, false).ok()
    }
}

/// Where domains come from beside those that are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Origin {
    /// The accepted domains
    Exchange,
    /// relay_domains on this machine
    Postfix,
}

impl Origin {
    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Origin::Exchange => "exchange",
            Origin::Postfix => "postfix",
        }
    }
}

/// Asks and tries, where that is wanted and a person is there; else prints what the options say.
pub fn run(options: &Options, out: &mut dyn Write) -> Result<u8> {
    let is_person_there =
        || io::stdin().is_terminal() && io::stdout().is_terminal() && io::stderr().is_terminal();
    let told = &mut anstream::stderr();
    match options.manner {
        Manner::Try => dialogue::run(options, Terminal::silent(told), out),
        Manner::Ask if is_person_there() => dialogue::run(options, Terminal::asking(told), out),
        Manner::Ask | Manner::Print => printed(options, out),
    }
}

/// Prints the configuration, or writes it to a new file, and prints what the gateway is to be told.
fn printed(options: &Options, out: &mut dyn Write) -> Result<u8> {
    let target = options.target.ok_or_else(no_target)?;
    if options.ca_fingerprint.is_some() {
        return Err(refused(
            Exit::Usage,
            "no server is asked for a certificate here",
            "--ca-fingerprint",
            "only what is tried is saved",
            "add --try, or name a --ca-file that is there",
        ));
    }
    let names = names(options, target);
    let configuration = templates::configuration(&names);
    if let Some(file) = &options.output {
        new_file::write(file, configuration.as_bytes(), 0o644)
            .map_err(|error| not_written(file, &error))?;
    }
    // A reader who has gone away changes nothing.
    let _ = print(options, &names, &configuration, out);
    Ok(Exit::Current.code())
}

fn no_target() -> Box<Failure> {
    let all: Vec<&str> = (Target::value_variants().iter())
        .map(|target| target.name())
        .collect();
    refused(
        Exit::Usage,
        "no gateway is named",
        "the command line",
        "only on a terminal somebody can be asked",
        &format!("name one of {}", all.join(", ")),
    )
}

fn print(
    options: &Options,
    names: &Names,
    configuration: &str,
    out: &mut dyn Write,
) -> io::Result<()> {
    match &options.output {
        Some(file) => writeln!(
            out,
            "wrote {}",
            harmless::key(file.as_os_str().as_encoded_bytes())
        )?,
        None => part(out, "/etc/rcptsync/rcptsync.toml", configuration)?,
    }
    part(out, names.target.title(), &templates::gateway(names))?;
    if names.target == Target::Pmg {
        part(out, pmg::OVERRIDE, &templates::pmg_override(names))?;
    }
    Ok(())
}

fn part(out: &mut dyn Write, title: &str, text: &str) -> io::Result<()> {
    writeln!(
        out,
        "#### {title} {}\n\n{}\n",
        "#".repeat(100_usize.saturating_sub(title.len())),
        text.trim_end()
    )
}

/// Puts the lines for the table that this configuration publishes in their place.
pub fn install(target: Option<Target>, config: &Config, out: &mut dyn Write) -> Result<u8> {
    let target = target.ok_or_else(no_target)?;
    if !target.is_postfix() {
        return Err(refused(
            Exit::Usage,
            &format!("nothing can be installed for {}", target.title()),
            "--install",
            "it changes the settings of Postfix and of PMG only",
            &format!(
                "`rcptsync init {} --print` shows the lines; enter them by hand",
                target.name()
            ),
        ));
    }
    let Some(map_types) = parameters::map_types() else {
        return Err(refused(
            Exit::Configuration,
            "no Postfix is configured on this machine",
            "main.cf",
            "the settings belong to the Postfix that reads the table",
            "run it on the gateway",
        ));
    };
    let table = table(config)?;
    let names = published(target, config, table, &map_types)?;
    let conflicts = relayed::conflicts(config, table)?;
    if target == Target::Postfix {
        return postfix::install(&names, &config.domains, conflicts, out);
    }
    if !conflicts.is_empty() {
        return Err(refused(
            Exit::Configuration,
            "mail of a domain would be lost",
            "relay_domains",
            &conflicts.join("\n"),
            "mend it, then run it again",
        ));
    }
    pmg::install(Path::new("/"), &names, out)
}

/// What was typed, and what this machine says of itself.
fn names(options: &Options, target: Target) -> Names {
    let of_this_machine = names_of_this_machine(target, options.map_type.as_deref());
    let always = (!options.always.is_empty()).then(|| without_none(&options.always));
    let library = (!of_this_machine.is_package_needed)
        .then(|| parameters::library(&of_this_machine.map_type))
        .flatten();
    Names {
        source: SourceNames {
            servers: options.servers.clone(),
            discover: options.discover.clone(),
            ca_file: options.ca_file.clone(),
            bases: options.bases.clone(),
            bind: bind(options),
        },
        domains: options.domains.clone(),
        domains_from: options.domains_from.map(|from| match from {
            Origin::Exchange => DomainsFrom::Exchange,
            Origin::Postfix => DomainsFrom::Postfix,
        }),
        always,
        must_contain: without_none(&options.must_contain),
        table_path: options.table_path.clone(),
        ..of_this_machine
    }
    .with_needed_files(library)
}

/// Without what somebody says: what this machine says of itself.
fn names_of_this_machine(target: Target, map_type: Option<&str>) -> Names {
    let map_types = parameters::map_types().filter(|_| target.is_postfix());
    let has = |map_type: &&str| map_types.iter().flatten().any(|known| known == map_type);
    // cdb needs neither postmap nor locks; hash is what every Postfix with Berkeley DB has.
    let found = ["cdb", "lmdb", "hash"].into_iter().find(has);
    let map_type = map_type.or(found).unwrap_or("cdb");
    Names {
        is_package_needed: map_types.is_none(),
        restrictions: postfix::restrictions(map_types.is_some()),
        ..Names::of(target, map_type.to_owned())
    }
}

/// `none` says that there is to be none.
fn without_none<Word: AsRef<str>>(words: &[Word]) -> Vec<String> {
    let named = words
        .iter()
        .map(AsRef::as_ref)
        .filter(|word| *word != "none");
    named.map(str::to_owned).collect()
}

/// Who asks, where an option says so.
fn bind(options: &Options) -> Option<BindNames> {
    if options.method == Some(Method::Anonymous) {
        return Some(BindNames::Anonymous);
    }
    let name = options.name.clone()?;
    let secret = |file: &Option<String>, name: &str| match (&options.credential, file) {
        (Some(name), _) => SecretNames::Credential(name.clone()),
        (None, Some(file)) => SecretNames::File(file.clone()),
        (None, None) => SecretNames::Credential(name.to_owned()),
    };
    let is_kerberos = options.keytab.is_some() || options.method == Some(Method::Gssapi);
    Some(match is_kerberos {
        true => BindNames::Gssapi {
            principal: name,
            keytab: secret(&options.keytab, "corp.keytab"),
        },
        false => BindNames::Simple {
            name,
            password: secret(&options.password_file, "corp.password"),
        },
    })
}

/// The names of a configuration whose table is published and is one that Postfix opens.
fn published(
    target: Target,
    config: &Config,
    table: &Table,
    map_types: &[String],
) -> Result<Names> {
    let place = config.path.display().to_string();
    let unusable = |why: &str, next: &str| {
        refused(
            Exit::Configuration,
            "Postfix cannot be told of the table",
            &place,
            why,
            next,
        )
    };
    let map_type = table.formats.iter().map(|format| format.name());
    let Some(map_type) = map_type
        .into_iter()
        .find(|name| map_types.iter().any(|known| known == name))
    else {
        let why = format!(
            "table {} has none of the types that `postconf -m` lists",
            table.name
        );
        let next = "name a type in its formats that this Postfix has (cdb: the package postfix-cdb), and publish it first";
        return Err(unusable(&why, next));
    };
    let path = table.path.display().to_string();
    if !is_plain_path(&path) {
        let why = format!("{path}: it has characters that mean something in main.cf");
        return Err(unusable(
            &why,
            "give it a path of letters, digits and . _ - / alone",
        ));
    }
    let names = Names {
        domains: config.domains.list.clone(),
        table_path: Some(path),
        restrictions: postfix::restrictions(true),
        ..Names::of(target, map_type.to_owned())
    }
    .with_needed_files(parameters::library(map_type));
    parameters::opens(&names.map()).map_err(|why| {
        let next =
            "publish it first (`rcptsync sync`): without it, Postfix would answer 451 to everybody";
        unusable(&why, next)
    })?;
    Ok(names)
}

/// The table of recipients: the one with the usual name, or else the first.
fn table(config: &Config) -> Result<&Table> {
    let of_kind = || {
        let tables = config.tables.iter();
        tables.filter(|table| table.kind == TableKind::Recipients)
    };
    let named = of_kind().find(|table| table.name == "relay_recipients");
    named.or_else(|| of_kind().next()).ok_or_else(|| {
        refused(
            Exit::Configuration,
            "Postfix cannot be told of the table",
            &config.path.display().to_string(),
            "no table is of the kind \"recipients\", which relay_recipient_maps asks",
            "add one; the lines for tables of other kinds stand in the README",
        )
    })
}

/// The path of a table, as it is typed.
pub fn table_path(path: &str) -> std::result::Result<String, &'static str> {
    if path.ends_with(".cdb") {
        return Err("stands there without .cdb, as in main.cf");
    }
    is_plain_path(path)
        .then(|| path.to_owned())
        .ok_or("an absolute path of letters, digits and . _ - / alone")
}

/// The type of a table that Postfix opens, as it is typed.
pub fn map_type(name: &str) -> std::result::Result<String, &'static str> {
    let formats = Format::ALL.into_iter();
    let mut indexed = formats.filter(|format| format.is_for_postfix() && *format != Format::Text);
    match indexed.find(|format| format.name() == name) {
        Some(_) => Ok(name.to_owned()),
        None => Err("one of cdb, lmdb, hash, btree"),
    }
}

/// A path that needs no quotes in main.cf, a template or a shell.
pub fn is_plain_path(path: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
    path.starts_with('/') && !path.ends_with('/') && path.bytes().all(is_plain)
}

fn refused(exit: Exit, what: &str, place: &str, why: &str, next: &str) -> Box<Failure> {
    Box::new(Failure {
        exit,
        what: what.to_owned(),
        place: place.to_owned(),
        why: why.to_owned(),
        in_force: Failure::NOTHING_TOUCHED.into(),
        next: next.to_owned(),
    })
}

fn not_written(path: &Path, error: &io::Error) -> Box<Failure> {
    let kind = error.kind();
    let (exit, next) = if kind == io::ErrorKind::PermissionDenied {
        (Exit::Permission, "run it as root")
    } else if kind == io::ErrorKind::AlreadyExists {
        let next = "nothing is overwritten: name another file, or move that one away";
        (Exit::NotWritten, next)
    } else if kind == io::ErrorKind::NotFound {
        (Exit::NotWritten, "make its directory first")
    } else {
        (Exit::NotWritten, "mend what it says")
    };
    let place = path.display().to_string();
    refused(
        exit,
        "a file could not be written",
        &place,
        &error.to_string(),
        next,
    )
}
