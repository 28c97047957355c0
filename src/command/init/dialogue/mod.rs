//! The questions of `init`, one after the other, each answer tried at once: whom to ask ([`directory`]), for whom
//! ([`recipients`]), where it is all written ([`files`]).
//!
//! An answer is put into the [`Draft`], from which the text of the configuration is made, and that is parsed as every
//! configuration is: there is no second opinion on what is good. Not here: how it is asked ([`terminal`]).
//!
//! Invariant: nothing is written before the last question is answered.

mod directory;
mod files;
mod recipients;
pub mod terminal;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use rustls::pki_types::CertificateDer;

use super::{Options, new_file, refused};
use crate::config::{self, Config, LdapSource, SourceKind};
use crate::directory::introduction::Introduction;
use crate::error::{Failure, Result};
use crate::exit::Exit;
use crate::postfix::parameters;
use crate::templates::{self, Names, Target};
use terminal::{Question, Terminal};

/// The name of the source in every configuration that is written here.
const SOURCE: &str = "corp";

/// All that is asked of a directory in one step.
const STEP_TIME: Duration = Duration::from_secs(120);

/// What has been answered.
struct Draft<'run> {
    options: &'run Options,
    /// What the configuration is made from.
    names: Names,
    /// An authority that is to be saved where `ca_file` says.
    authority: Option<CertificateDer<'static>>,
    /// Whether the password was typed, and so stands nowhere yet.
    is_password_typed: bool,
}

/// Asks for everything that no option says, writes it, and tells what comes next.
pub fn run(options: &Options, mut terminal: Terminal<'_>, out: &mut dyn Write) -> Result<u8> {
    let terminal = &mut terminal;
    if terminal.asks() {
        terminal.say(
            "A configuration in a few questions. Each answer is tried at once; nothing is\n\
             written before the last one. Enter takes what stands in [brackets], and Ctrl-C\n\
             ends it.",
        );
    }
    let mut draft = Draft {
        options,
        names: super::names_of_this_machine(target(options, terminal)?, None),
        authority: None,
        is_password_typed: false,
    };
    let seen = directory::servers(&mut draft, terminal)?;
    directory::authority(&mut draft, terminal, &seen)?;
    let signed_in = directory::account(&mut draft, terminal)?;
    let page = recipients::first_page(&mut draft, terminal, &signed_in)?;
    recipients::domains(&mut draft, terminal, &page)?;
    table(&mut draft, terminal)?;
    recipients::always(&mut draft, terminal)?;
    recipients::canaries(&mut draft, terminal, &signed_in, &page)?;
    let files = files::ask(&mut draft, terminal, &signed_in)?;
    files::write(&files, out)?;
    files::tell_what_is_next(&draft, &files, out)
}

fn target(options: &Options, terminal: &mut Terminal<'_>) -> Result<Target> {
    let all: Vec<&str> = Target::value_variants()
        .iter()
        .map(|target| target.name())
        .collect();
    let question = Question {
        option: "TARGET",
        text: &format!("Gateway, one of {}", all.join(", ")),
        proposal: Some(here().name().to_owned()),
    };
    let given = options.target.map(|target| target.name().to_owned());
    terminal.ask(&question, given, |_, answer| {
        Target::from_str(answer, true).map_err(|_| wrong(&format!("\"{answer}\" is none of them")))
    })
}

/// The gateway that this machine seems to be.
fn here() -> Target {
    match Path::new("/etc/pmg").is_dir() {
        true => Target::Pmg,
        false => Target::Postfix,
    }
}

/// Where the table lies, and of which type it is.
fn table(draft: &mut Draft<'_>, terminal: &mut Terminal<'_>) -> Result<()> {
    let question = Question {
        option: "--table-path",
        text: "Table: its path, without a suffix",
        proposal: Some(draft.names.path().to_owned()),
    };
    terminal.ask(&question, draft.options.table_path.clone(), |_, answer| {
        super::table_path(answer).map_err(wrong)?;
        draft.names.table_path = Some(answer.to_owned());
        draft.config().map(drop)
    })?;
    if !draft.names.target.is_postfix() {
        return Ok(());
    }
    let known = parameters::map_types();
    let question = Question {
        option: "--map-type",
        text: "Its type: cdb (needs neither postmap nor reload), lmdb, hash or btree",
        proposal: Some(draft.names.map_type.clone()),
    };
    terminal.ask(&question, draft.options.map_type.clone(), |terminal, answer| {
        let map_type = super::map_type(answer).map_err(wrong)?;
        if known.as_ref().is_some_and(|known| !known.contains(&map_type)) {
            terminal.say(&format!(
                "  note: the Postfix on this machine does not open {map_type} yet (package postfix-{map_type})"
            ));
        }
        draft.names.map_type = map_type;
        draft.config().map(drop)
    })
}

impl Draft<'_> {
    fn text(&self) -> String {
        templates::configuration(&self.names)
    }

    /// Where the configuration is to be written, unless somebody names another place.
    fn path(&self) -> &Path {
        self.options
            .output
            .as_deref()
            .unwrap_or(&self.options.config)
    }

    /// A place beside it that is free.
    fn free_place(&self, stem: &str, suffix: &str) -> PathBuf {
        let directory = new_file::directory_of(self.path());
        let place = |number: u32| match number {
            1 => directory.join(format!("{stem}{suffix}")),
            _ => directory.join(format!("{stem}-{number}{suffix}")),
        };
        let mut numbers = 1..;
        let free = numbers.find(|number| new_file::is_free(&place(*number)));
        place(free.unwrap_or(1))
    }

    /// The configuration as far as it is known; what is not stands there made up.
    fn config(&self) -> Result<Config> {
        let path = std::path::absolute(self.path()).unwrap_or_else(|_| self.path().to_owned());
        config::parse(&path, &self.text()).map_err(|problems| {
            let told = problems.iter().map(|problem| match problem.key.as_str() {
                "" => problem.message.clone(),
                key => format!("{key}: {}", problem.message),
            });
            wrong(&told.collect::<Vec<_>>().join("\n"))
        })
    }

    /// Its source.
    fn source(&self) -> Result<LdapSource> {
        let config = self.config()?;
        let source = config.sources.into_iter().next();
        match source.map(|source| source.kind) {
            Some(SourceKind::Ldap(ldap)) => Ok(*ldap),
            // The template has a directory, and nothing else.
            Some(SourceKind::Ldif(_) | SourceKind::List(_)) | None => {
                Err(wrong("the configuration has no directory"))
            }
        }
    }

    fn introduction<'source>(&'source self, source: &'source LdapSource) -> Introduction<'source> {
        Introduction {
            source_name: SOURCE,
            source,
            authority: self.authority.as_ref(),
            deadline: Instant::now() + STEP_TIME,
        }
    }
}

/// A path as it counts for whoever types it; one in a configuration counts from its directory.
fn from_here(path: &str) -> String {
    match std::path::absolute(path) {
        Ok(absolute) => absolute.display().to_string(),
        Err(_) => path.to_owned(),
    }
}

/// What is wrong with an answer.
fn wrong(why: &str) -> Box<Failure> {
    refused(Exit::Usage, why, "", "", "")
}

/// The words of a list, as somebody types one.
fn words(answer: &str) -> impl Iterator<Item = &str> {
    answer
        .split([',', ' ', '\t'])
        .filter(|word| !word.is_empty())
}
