//! `init`: a commented configuration, and the exact lines for the gateway; with `--install`, the lines put in their place.
//!
//! In two steps, because a gateway that names a table which is not there answers 451 to everybody. First the configuration
//! is written and nothing else happens; names come from the command line. When it has been published, `--install` takes
//! path, type and domains from that configuration and tells Postfix ([`postfix`]) or PMG ([`pmg`]).
//!
//! Invariant: nothing that is there is overwritten, neither a file nor a parameter; but for the untouched default of the package.

mod new_file;
pub mod pmg;
mod postfix;
mod relayed;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::config::{Config, Table, TableKind};
use crate::domain::Domain;
use crate::error::{Failure, Result};
use crate::exit::Exit;
use crate::postfix::parameters;
use crate::report;
use crate::templates::{self, Names, Target};

/// What is asked for, as typed.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whom to set up.
    pub target: Target,
    /// `--server`
    pub servers: Vec<String>,
    /// `--domain`
    pub domains: Vec<Domain>,
    /// `--table-path`
    pub table_path: Option<String>,
    /// `--output`
    pub output: Option<PathBuf>,
}

/// Prints the configuration, or writes it to a new file, and prints what the gateway is to be told.
pub fn run(options: &Options, out: &mut dyn Write) -> Result<u8> {
    let names = names(options);
    let configuration = templates::configuration(&names);
    if let Some(file) = &options.output {
        new_file::write(file, configuration.as_bytes(), 0o644)
            .map_err(|error| not_written(file, &error))?;
    }
    // A reader who has gone away changes nothing.
    let _ = print(options, &names, &configuration, out);
    Ok(Exit::Current.code())
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
            report::key(file.as_os_str().as_encoded_bytes())
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
pub fn install(target: Target, config: &Config, out: &mut dyn Write) -> Result<u8> {
    if !target.is_postfix() {
        return Err(refused(
            Exit::Usage,
            &format!("nothing can be installed for {}", target.title()),
            "--install",
            "it changes the settings of Postfix and of PMG only",
            &format!(
                "`rcptsync init {}` prints the lines; enter them by hand",
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
fn names(options: &Options) -> Names {
    let map_types = parameters::map_types().filter(|_| options.target.is_postfix());
    let has = |map_type: &&str| map_types.iter().flatten().any(|known| known == map_type);
    // cdb needs neither postmap nor locks; hash is what every Postfix with Berkeley DB has.
    let map_type = ["cdb", "lmdb", "hash"].into_iter().find(has);
    let map_type = map_type.unwrap_or("cdb").to_owned();
    let library = map_types
        .is_some()
        .then(|| parameters::library(&map_type))
        .flatten();
    Names {
        target: options.target,
        servers: options.servers.clone(),
        domains: options.domains.clone(),
        table_path: options.table_path.clone(),
        is_package_needed: map_types.is_none(),
        restrictions: postfix::restrictions(map_types.is_some()),
        needed_files: Vec::new(),
        map_type,
    }
    .with_needed_files(library)
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
        target,
        servers: Vec::new(),
        domains: config.domains.list.clone(),
        table_path: Some(path),
        map_type: map_type.to_owned(),
        is_package_needed: false,
        restrictions: postfix::restrictions(true),
        needed_files: Vec::new(),
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
