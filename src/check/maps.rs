//! Judging which tables Postfix asks: ours, by their right name and type, and whether they open and answer.

use super::facts::{Content, Facts, Gateway, Map, Outdated, Postfix};
use super::{Told, error, info, not_checked, warning};
use crate::config::{Table, TableFolding, TableKind};
use crate::fold::Folding;
use crate::postfix::lookup::direct;
use crate::postfix::relay_domains::tokens;

/// The text is read as it is.
const TEXT: &str = "text";
/// The type of Postfix that reads it so.
const TEXT_TYPE: &str = "texthash";
/// Built by postmap; they are opened by libraries that a build may lack.
const BERKELEY_TYPES: &[&str] = &["hash", "btree"];

/// As main.cf names it, best form first.
fn names(table: &Table) -> Vec<String> {
    let of_type = |kind: &str| format!("{kind}:{}", table.path.display());
    let formats = || {
        let formats = table
            .formats
            .iter()
            .filter(|format| format.is_for_postfix());
        formats.map(|format| format.name())
    };
    let mut names: Vec<String> = formats()
        .filter(|name| *name != TEXT)
        .map(of_type)
        .collect();
    if formats().any(|name| name == TEXT) {
        names.push(of_type(TEXT_TYPE));
    }
    names
}

fn full_name(map: &Map) -> String {
    format!("{}:{}", map.kind, map.name)
}

/// The table of ours that a map means by its path, whatever its type.
fn meant<'facts>(facts: &'facts Facts<'_>, map: &Map) -> Option<&'facts Table> {
    let is_meant = |table: &&Table| {
        let path = table.path.display().to_string();
        let files = table.formats.iter().map(|format| table.file(*format));
        map.name == path
            || files
                .map(|file| file.display().to_string())
                .any(|file| file == map.name)
    };
    facts.recipient_tables().find(is_meant)
}

pub(super) fn postfix(facts: &Facts<'_>) -> Vec<Told> {
    match &facts.gateway {
        Gateway::Known(_) => Vec::new(),
        Gateway::Absent => vec![not_checked(
            "the gateway",
            "no Postfix is configured on this machine (no main.cf)",
            "run doctor on the gateway",
        )],
        Gateway::Silent(why) => vec![error(
            format!("Postfix does not tell its settings: {why}"),
            "what postconf cannot read, a daemon of Postfix cannot either",
            "mend main.cf and master.cf until `postconf -x` works".into(),
        )],
    }
}

pub(super) fn relay_recipient_maps(facts: &Facts<'_>) -> Vec<Told> {
    let Some(postfix) = facts.postfix() else {
        return Vec::new();
    };
    let first = facts.recipient_tables().next();
    // A table of kind access may refuse in its place.
    let Some(first) = first else {
        return Vec::new();
    };
    let wanted = names(first).first().cloned();
    let mend = wanted.map_or_else(String::new, |name| {
        format!("postconf -e 'relay_recipient_maps = {name}'; postfix reload")
    });
    if postfix.maps.is_empty() {
        return vec![error(
            "relay_recipient_maps is empty".into(),
            "Postfix then takes every recipient of a relay domain, and bounces to forged senders what Exchange refuses",
            mend,
        )];
    }
    let ours: Vec<(&Map, &Table)> = postfix
        .maps
        .iter()
        .filter_map(|map| meant(facts, map).map(|table| (map, table)))
        .collect();
    if ours.is_empty() {
        let texts: Vec<&str> = postfix.maps.iter().map(|map| map.text.as_str()).collect();
        return vec![error(
            format!(
                "relay_recipient_maps does not name a table of ours: {}",
                texts.join(", ")
            ),
            "what is published is not what decides",
            mend,
        )];
    }
    let other = ours
        .into_iter()
        .filter_map(|(map, table)| other_name(facts, map, table));
    other.chain(other_services(facts, postfix)).collect()
}

/// Where main.cf names a table of a kind.
fn place_of(kind: TableKind) -> &'static str {
    match kind {
        TableKind::Recipients => "relay_recipient_maps",
        TableKind::Access | TableKind::Callout => {
            "check_recipient_access in smtpd_recipient_restrictions"
        }
        TableKind::Domains => "relay_domains",
        TableKind::Transport => "transport_maps",
    }
}

/// A table of another kind than recipients must be named where its reader looks.
pub(super) fn table_asked(facts: &Facts<'_>) -> Vec<Told> {
    let Some(postfix) = facts.postfix() else {
        return Vec::new();
    };
    let named = |kind: TableKind| -> Vec<&str> {
        match kind {
            TableKind::Recipients | TableKind::Access | TableKind::Callout => postfix
                .access
                .iter()
                .map(|access| access.text.as_str())
                .collect(),
            TableKind::Domains => postfix.settings.words("relay_domains"),
            TableKind::Transport => postfix.settings.words("transport_maps"),
        }
    };
    let tables = facts.tables.iter().map(|facts| facts.table);
    let unasked = tables.filter(|table| {
        let names = names(table);
        let is_named = |map: &&str| names.iter().any(|name| name == direct(map));
        table.kind != TableKind::Recipients
            && !names.is_empty()
            && !named(table.kind).iter().any(is_named)
    });
    unasked
        .map(|table| {
            let name = names(table).into_iter().next().unwrap_or_default();
            warning(
                format!(
                    "table {} is published, and Postfix does not ask it",
                    table.name
                ),
                "what it says does not count",
                format!("name {name} in {}", place_of(table.kind)),
            )
        })
        .collect()
}

/// Services that strangers reach and that ask other tables than main.cf says.
fn other_services(facts: &Facts<'_>, postfix: &Postfix) -> Vec<Told> {
    const NAME: &str = "relay_recipient_maps";
    let ours: Vec<String> = facts.recipient_tables().flat_map(names).collect();
    let is_ours = |value: &str| {
        let mut maps = tokens(value).map(direct);
        maps.any(|map| ours.iter().any(|name| name == map))
    };
    let other = postfix.settings.open_services().filter_map(|service| {
        let value = service.overrides.get(NAME)?;
        let path = service.path();
        (!is_ours(value)).then(|| {
            error(
                format!("master.cf, {path}: {NAME} = {value}"),
                "strangers reach this service, and it does not ask a table of ours",
                format!("postconf -PX '{path}/{NAME}'; postfix reload"),
            )
        })
    });
    other.collect()
}

/// A map that means a table of ours and names it by another path or type than it is published in.
fn other_name(facts: &Facts<'_>, map: &Map, table: &Table) -> Option<Told> {
    let names = names(table);
    if names.contains(&full_name(map)) {
        return None;
    }
    let mend = names.first().map_or_else(String::new, |name| {
        format!("postconf -e 'relay_recipient_maps = {name}'; postfix reload")
    });
    if map.name != table.path.display().to_string() {
        return Some(error(
            format!(
                "relay_recipient_maps has {}, with the suffix of the file",
                map.text
            ),
            "Postfix adds the suffix itself, so it looks for another file, and answers 451 while that is missing",
            mend,
        ));
    }
    let what = format!(
        "relay_recipient_maps has {}, which is published as {}",
        map.text,
        names.join(", ")
    );
    let mut hooks = facts.files.hooks.iter();
    Some(if hooks.any(|hook| hook.command.contains("postmap")) {
        warning(
            what,
            "a hook seems to build it in place: while postmap writes a hash, smtpd refuses recipients that are there",
            mend,
        )
    } else {
        error(
            what,
            "no run writes the file that Postfix opens: it is missing, or stays as it was",
            mend,
        )
    })
}

pub(super) fn map_type(facts: &Facts<'_>) -> Vec<Told> {
    let Some(postfix) = facts.postfix() else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for map in &postfix.maps {
        let kind = &map.kind;
        if !postfix.settings.map_types.contains(kind) {
            found.push(error(
                format!(
                    "relay_recipient_maps has {}, and this Postfix has no type {kind}",
                    map.text
                ),
                "smtpd answers 451 to everybody",
                unknown_type(kind),
            ));
        } else if BERKELEY_TYPES.contains(&kind.as_str()) && is_redirected(postfix) {
            found.push(warning(
                format!("{} is redirected to another type (non_bdb_migration_level)", map.text),
                "this build has no Berkeley DB, or is leaving it: Postfix opens another file than the one the type names",
                "publish cdb or lmdb, and name that type in relay_recipient_maps".into(),
            ));
        }
    }
    found
}

fn unknown_type(kind: &str) -> String {
    if BERKELEY_TYPES.contains(&kind) {
        "publish cdb or lmdb instead: this Postfix was built without Berkeley DB".to_owned()
    } else {
        format!("install the package postfix-{kind}, or publish a type that `postconf -m` lists")
    }
}

fn is_redirected(postfix: &Postfix) -> bool {
    let level = postfix.settings.get("non_bdb_migration_level");
    !matches!(level, "" | "disable")
}

pub(super) fn map_opens(facts: &Facts<'_>) -> Vec<Told> {
    let Some(postfix) = facts.postfix() else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for map in &postfix.maps {
        // Told once, where tables and types are.
        let is_ours_and_missing = facts.tables.iter().any(|facts| {
            let mut missing = facts
                .files
                .iter()
                .filter(|file| file.content == Content::Missing);
            names(facts.table).contains(&full_name(map))
                && missing.any(|file| {
                    map.kind == file.format || (file.format == TEXT && map.kind == TEXT_TYPE)
                })
        });
        if is_ours_and_missing || !postfix.settings.map_types.contains(&map.kind) {
            continue;
        }
        match &map.answers {
            Ok(answers) => found.extend(answers.lost_key.as_ref().map(|key| {
                error(
                    format!("{} holds {key} and does not find it", map.text),
                    "its keys are not folded as Postfix folds them, so recipients that stand in it are refused",
                    "rcptsync sync; if another program writes the file, let it stop".into(),
                )
            })),
            Err(why) if facts.is_root || !why.contains("Permission denied") => found.push(error(
                format!("{} does not open: {why}", map.text),
                "a table that does not open makes Postfix answer 451 to everybody; a broken CDB kills smtpd",
                match meant(facts, map) {
                    Some(_) => "rcptsync sync".to_owned(),
                    None => format!("postmap {}, or take it out of relay_recipient_maps", map.text),
                },
            )),
            Err(why) => found.push(not_checked(&map.text, why, "run doctor as root")),
        }
    }
    found
}

pub(super) fn map_older(facts: &Facts<'_>) -> Vec<Told> {
    let outdated = facts.postfix().map_or(&[][..], |postfix| &postfix.outdated);
    let tell = |outdated: &Outdated| {
        let Outdated { map, text, index } = outdated;
        let is_ours = |table: &Table| table.path.display().to_string() == *text;
        let mend = if facts.tables.iter().any(|facts| is_ours(facts.table)) {
            format!("rcptsync sync; if the text has what was published, touch {index}")
        } else {
            format!("postmap {map}")
        };
        warning(
            format!("{map} is older than its text {text}"),
            "what was written into the text since then does not count, and every smtpd warns of it in the log",
            mend,
        )
    };
    outdated.iter().map(tell).collect()
}

pub(super) fn folding(facts: &Facts<'_>) -> Vec<Told> {
    let Some(postfix) = facts.postfix() else {
        return Vec::new();
    };
    let is_smtputf8 = postfix.settings.get("smtputf8_enable") == "yes";
    let of_gateway = if is_smtputf8 {
        Folding::Unicode
    } else {
        Folding::Ascii
    };
    let differs = |facts: &&super::facts::TableFacts<'_>| match facts.table.folding {
        TableFolding::Auto | TableFolding::Fixed(Folding::Both) => false,
        TableFolding::Fixed(folding) => folding != of_gateway,
    };
    let tables = facts.tables.iter().filter(differs);
    let tables = tables.filter(|facts| facts.table.kind.has_addresses());
    tables
        .map(|facts| {
            let name = &facts.table.name;
            warning(
                format!(
                    "table {name} is folded otherwise than by Postfix here (smtputf8_enable = {})",
                    if is_smtputf8 { "yes" } else { "no" }
                ),
                "keys with letters outside ASCII are not found, and their recipients refused",
                format!("[table.{name}] folding = \"auto\", or \"both\" for a table that serves several gateways"),
            )
        })
        .collect()
}

pub(super) fn reload_hook(facts: &Facts<'_>) -> Vec<Told> {
    let Some(postfix) = facts.postfix() else {
        return Vec::new();
    };
    let is_reload = |command: &str| command.contains("postfix") && command.contains("reload");
    let reloads: Vec<_> = facts
        .files
        .hooks
        .iter()
        .filter(|hook| is_reload(&hook.command))
        .collect();
    let ours: Vec<&Map> = postfix
        .maps
        .iter()
        .filter(|map| meant(facts, map).is_some())
        .collect();
    let text = ours.iter().find(|map| map.kind == TEXT_TYPE);
    let proxied = ours.iter().find(|map| map.is_proxied);
    match (text.or(proxied), reloads.first()) {
        (Some(map), None) if map.is_proxied => vec![warning(
            format!(
                "{} is asked through proxymap, and no hook reloads Postfix",
                map.text
            ),
            "proxymap looks for a new table only when a daemon connects to it anew, so each smtpd may answer from the old \
             one for up to 100 clients more (max_use)",
            format!(
                "a table on this machine needs no proxymap: name {} without proxy: in relay_recipient_maps; or add a [[hook]] with \
                 run = [\"/usr/sbin/postfix\", \"reload\"]",
                full_name(map)
            ),
        )],
        (Some(map), None) => vec![warning(
            format!(
                "{} is read once by each smtpd, and no hook reloads Postfix",
                map.text
            ),
            "a change counts after up to 100 clients or 100 seconds of idleness only",
            "publish cdb, or add a [[hook]] with run = [\"/usr/sbin/postfix\", \"reload\"]".into(),
        )],
        (None, Some(hook)) if !ours.is_empty() => vec![info(
            format!("hook {} reloads Postfix ({})", hook.name, hook.command),
            "it is not needed: smtpd notices a replaced table before its next client, and a reload costs it its caches",
            format!("take [[hook]] {} out", hook.name),
        )],
        (Some(_), Some(_)) | (None, _) => Vec::new(),
    }
}
