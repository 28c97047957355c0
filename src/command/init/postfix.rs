//! Parameters of main.cf: set where nobody has set them, told where somebody has.
//!
//! What is to be set is decided before anything is: a main.cf is never left between the old settings and the new ones.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{new_file, not_written, refused};
use crate::config::{DomainRules, DomainsFrom};
use crate::domain::Domain;
use crate::domains::Domains;
use crate::error::Result;
use crate::exit::Exit;
use crate::harmless;
use crate::postfix::relay_domains::relay_domains;
use crate::postfix::{main_cf, parameters};
use crate::templates::Names;

/// What makes a table of recipients refuse, with the value that Postfix ships.
const AS_SHIPPED: [(&str, &str); 3] = [
    ("smtpd_reject_unlisted_recipient", "yes"),
    ("unknown_relay_recipient_reject_code", "550"),
    ("soft_bounce", "no"),
];

/// What is to be done, and what stands in its way.
#[derive(Debug)]
struct Judgement {
    to_set: Vec<(&'static str, String)>,
    conflicts: Vec<String>,
}

/// Sets `relay_domains` and `relay_recipient_maps`.
pub fn install(
    names: &Names,
    rules: &DomainRules,
    conflicts: Vec<String>,
    out: &mut dyn Write,
) -> Result<u8> {
    let judgement = judged(names, rules, conflicts).map_err(|why| {
        let next = "`postconf -n` must work for this account";
        refused(
            Exit::Configuration,
            "main.cf could not be read",
            &place(),
            &why,
            next,
        )
    })?;
    if !judgement.conflicts.is_empty() {
        return Err(refused(
            Exit::Configuration,
            "main.cf is not changed: something stands in the way",
            &place(),
            &judgement.conflicts.join("\n"),
            "merge them by hand, then run it again",
        ));
    }
    if judgement.to_set.is_empty() {
        let _ = writeln!(out, "main.cf is set up already; nothing was changed");
    } else {
        let copy = keep_a_copy(&main_cf())?;
        parameters::set(&judgement.to_set).map_err(|why| {
            refused(
                Exit::NotWritten,
                "main.cf could not be changed",
                &place(),
                &why,
                "run it as root",
            )
        })?;
        let _ = writeln!(out, "kept  {}", copy.display());
        for (name, value) in &judgement.to_set {
            let _ = writeln!(out, "set   {name} = {}", harmless::key(value.as_bytes()));
        }
        let _ = writeln!(out, "next  postfix reload");
    }
    let _ = writeln!(
        out,
        "\n# An unknown recipient is to meet the check before greylisting and callouts:\n#\n{}",
        harmless::printable(names.restrictions.as_bytes()).trim_end()
    );
    Ok(Exit::Current.code())
}

fn place() -> String {
    main_cf().display().to_string()
}

fn judged(
    names: &Names,
    rules: &DomainRules,
    conflicts: Vec<String>,
) -> std::result::Result<Judgement, String> {
    let current = parameters::set_in_main_cf(&["relay_domains", "relay_recipient_maps"])?;
    let mut judgement = Judgement {
        to_set: Vec::new(),
        conflicts,
    };
    if rules.from != Some(DomainsFrom::Postfix) {
        judgement.relay_domains(names, &missing(&rules.list), &current);
    }
    judgement.relay_recipient_maps(&names.map(), current.get("relay_recipient_maps"));
    for (name, shipped) in AS_SHIPPED {
        judgement.as_shipped(name, shipped, &parameters::in_force(name)?);
    }
    Ok(judgement)
}

/// Domains that this Postfix does not relay. That its list cannot be listed (pcre, ldap) is a conflict already.
fn missing(domains: &[Domain]) -> Vec<&Domain> {
    let Ok(entries) = relay_domains() else {
        return Vec::new();
    };
    let relayed = Domains::of(entries);
    domains
        .iter()
        .filter(|domain| relayed.find(domain).is_none())
        .collect()
}

impl Judgement {
    fn relay_domains(
        &mut self,
        names: &Names,
        missing: &[&Domain],
        current: &BTreeMap<String, String>,
    ) {
        let value = current
            .get("relay_domains")
            .filter(|value| !value.is_empty());
        match value {
            None if names.domains.is_empty() => self.conflicts.push(
                "relay_domains is not set, and the configuration lists no domains: name those that are to be relayed".into(),
            ),
            None => self.to_set.push(("relay_domains", names.domain_forms().join(", "))),
            Some(_) if missing.is_empty() => {}
            Some(value) => {
                let missing: Vec<&str> = missing.iter().map(|domain| domain.ascii()).collect();
                let more = command("relay_domains", &format!("{value}, {}", missing.join(", ")));
                self.conflicts
                    .push(format!("relay_domains lacks {}: {more}", missing.join(", ")));
            }
        }
    }

    fn relay_recipient_maps(&mut self, map: &str, current: Option<&String>) {
        let value = current.map(String::as_str).unwrap_or_default();
        let is_ours = |found: &str| found.strip_prefix("proxy:").unwrap_or(found) == map;
        if value.is_empty() {
            self.to_set.push(("relay_recipient_maps", map.to_owned()));
        } else if !words(value).any(is_ours) {
            let instead = command("relay_recipient_maps", map);
            self.conflicts.push(format!(
                "relay_recipient_maps is {value}: let rcptsync take that table over by naming its path as `path`, \
                 or put ours in its place: {instead}"
            ));
        }
    }

    fn as_shipped(&mut self, name: &str, shipped: &str, in_force: &str) {
        if in_force != shipped {
            let instead = command(name, shipped);
            self.conflicts
                .push(format!("{name} is {in_force}: {instead}"));
        }
    }
}

/// How `reject_unlisted_recipient` gets before what would answer 450: for the restrictions that this Postfix has, or in general.
pub fn restrictions(is_here: bool) -> String {
    const NAME: &str = "smtpd_recipient_restrictions";
    let current = match is_here {
        true => parameters::set_in_main_cf(&[NAME]).unwrap_or_default(),
        false => BTreeMap::new(),
    };
    match current.get(NAME) {
        Some(value) => of_restrictions(value),
        None if is_here => {
            format!("#    {NAME} is not set on this machine: nothing stands before the check\n")
        }
        None => format!(
            "#    {NAME} = permit_mynetworks, reject_unauth_destination, reject_unlisted_recipient, ...\n"
        ),
    }
}

fn of_restrictions(value: &str) -> String {
    const NAME: &str = "smtpd_recipient_restrictions";
    const BEFORE: &str = "reject_unauth_destination";
    const CHECK: &str = "reject_unlisted_recipient";
    if value.is_empty() || words(value).any(|word| word == CHECK) {
        return format!("#    {NAME} needs no change on this machine\n");
    }
    let Some(at) = position(value, BEFORE) else {
        return format!(
            "#    put {CHECK} before the first of them that greylists or calls out:\n#    {NAME} = {value}\n"
        );
    };
    let (before, behind) = value.split_at(at + BEFORE.len());
    format!(
        "\n{}\n",
        command(NAME, &format!("{before}, {CHECK}{behind}"))
    )
}

/// Where a word stands in a list.
fn position(list: &str, word: &str) -> Option<usize> {
    let is_end = |text: Option<char>| text.is_none_or(is_separator);
    let mut found = list.match_indices(word).map(|(at, _)| at);
    found.find(|at| {
        let (before, behind) = (&list[..*at], &list[at + word.len()..]);
        is_end(before.chars().next_back()) && is_end(behind.chars().next())
    })
}

fn is_separator(character: char) -> bool {
    matches!(character, ',' | ' ' | '\t' | '\r' | '\n')
}

fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split(is_separator).filter(|word| !word.is_empty())
}

/// A command for a shell.
fn command(name: &str, value: &str) -> String {
    format!("postconf -e '{name} = {}'", value.replace('\'', r"'\''"))
}

/// A copy of main.cf as it was, under a name that was free.
fn keep_a_copy(path: &Path) -> Result<PathBuf> {
    const COPIES_MAX: u32 = 100;
    let read = || -> std::io::Result<(Vec<u8>, u32)> {
        let mode = path.metadata()?.permissions().mode();
        Ok((std::fs::read(path)?, mode & 0o777))
    };
    let (content, mode) = read().map_err(|error| not_written(path, &error))?;
    let mut number = 1;
    loop {
        let mut copy = path.as_os_str().to_owned();
        copy.push(match number {
            1 => ".before-rcptsync".to_owned(),
            _ => format!(".before-rcptsync.{number}"),
        });
        let copy = PathBuf::from(copy);
        match new_file::write(&copy, &content, mode) {
            Ok(()) => return Ok(copy),
            Err(error)
                if error.kind() == std::io::ErrorKind::AlreadyExists && number < COPIES_MAX =>
            {
                number += 1
            }
            Err(error) => return Err(not_written(&copy, &error)),
        }
    }
}
