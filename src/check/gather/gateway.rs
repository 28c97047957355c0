//! Asking the Postfix of this machine: its settings, and every table that decides about a recipient, for our domains.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::check::facts::{
    AccessMap, AliasMap, Closed, Gateway, Map, MapAnswers, MapHolds, Outdated, Postfix, Seen,
};
use crate::config::Config;
use crate::domain::Domain;
use crate::domains::{Domains, Entry};
use crate::postfix::relay_domains::{table_keys, tokens};
use crate::postfix::settings::Settings;
use crate::postfix::{Account, lookup};

/// An address that nobody has: a table that knows it knows everybody.
const NOBODY: &str = "rcptsync-asks-for-nobody-at-all";
/// Tables of patterns are asked for whole addresses alone.
const PATTERNS: &[&str] = &["regexp", "pcre"];
/// Asked before the table, in this order.
const ALIASES: &[&str] = &[
    "canonical_maps",
    "recipient_canonical_maps",
    "virtual_alias_maps",
];
/// Who is named there is not looked for in `relay_recipient_maps`.
const CLASSES: &[&str] = &[
    "mydestination",
    "virtual_alias_domains",
    "virtual_mailbox_domains",
];
/// Lists of tables whose age matters.
const TABLE_LISTS: &[&str] = &[
    "relay_recipient_maps",
    "relay_domains",
    "transport_maps",
    "virtual_alias_maps",
    "canonical_maps",
    "recipient_canonical_maps",
];
/// Lists of restrictions that are looked at for every recipient.
pub(in crate::check) const RESTRICTIONS: &[&str] = &[
    "smtpd_client_restrictions",
    "smtpd_helo_restrictions",
    "smtpd_sender_restrictions",
    "smtpd_relay_restrictions",
    "smtpd_recipient_restrictions",
];
/// Addresses of one alias table that are kept.
const ADDRESSES_MAX: usize = 1_000;

pub(super) fn gather(config: &Config, listed: &Domains, relayed: &[Entry]) -> Gateway {
    let settings = match Settings::ask() {
        None => return Gateway::Absent,
        Some(Err(error)) => return Gateway::Silent(error.to_string()),
        Some(Ok(settings)) => settings,
    };
    let forms = forms(listed, relayed);
    let names: Vec<String> = forms.keys().cloned().collect();
    let is_international = |domain: &Domain| domain.ascii() != domain.unicode();
    let international: Vec<String> = forms
        .iter()
        .filter(|(_, domain)| is_international(domain))
        .map(|(form, _)| form.clone())
        .collect();
    // Every key of a table that may be large, for nothing but to be compared with aliases.
    let has_aliases = ALIASES
        .iter()
        .any(|parameter| !settings.get(parameter).is_empty());
    let mut keys = BTreeSet::new();
    let texts = settings.words("relay_recipient_maps");
    let maps: Vec<Map> = texts
        .iter()
        .map(|text| map(text, &names, has_aliases.then_some(&mut keys)))
        .collect();
    let (classes, classes_unknown) = classes(&settings, &names);
    let aliases = ALIASES
        .iter()
        .flat_map(|parameter| {
            let texts = settings.words(parameter).into_iter();
            texts.map(|text| alias_map(parameter, text, &names, &keys))
        })
        .collect();
    let access: Vec<AccessMap> = access_tables(&settings)
        .into_iter()
        .map(|text| AccessMap {
            rows: lookup::look_up(&text, &names),
            text,
        })
        .collect();
    Gateway::Known(Box::new(Postfix {
        opened: opened(config, &settings, &maps),
        outdated: outdated(&settings, &access),
        relayed_forms: lookup::listed(settings.get("relay_domains"), &international),
        settings,
        maps,
        forms,
        classes,
        classes_unknown,
        aliases,
        access,
    }))
}

/// Postfix converts nothing between the two forms of a domain, so both are asked for.
fn forms(listed: &Domains, relayed: &[Entry]) -> BTreeMap<String, Domain> {
    let relayed = relayed.iter().filter(|entry| !entry.is_excluded);
    let domains = listed
        .iter()
        .map(|listed| &listed.domain)
        .chain(relayed.map(|entry| &entry.domain));
    let of_domain = |domain: &Domain| {
        [domain.ascii(), domain.unicode()].map(|form| (form.to_owned(), domain.clone()))
    };
    domains.flat_map(of_domain).collect()
}

fn map(text: &str, names: &[String], keys: Option<&mut BTreeSet<String>>) -> Map {
    let direct = lookup::direct(text);
    let (kind, name) = direct.split_once(':').unwrap_or((direct, ""));
    let held = table_keys(direct).map_err(|error| error.to_string());
    let first = held.as_ref().ok().and_then(|keys| keys.first());
    let holds = held.as_ref().map(|keys| holds(keys)).map_err(Clone::clone);
    let answers = answers(direct, kind, names, first.map(String::as_str));
    if let Some(keys) = keys {
        keys.extend(held.unwrap_or_default());
    }
    Map {
        text: text.to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
        is_proxied: direct != text,
        answers,
        holds,
    }
}

fn holds(keys: &[String]) -> MapHolds {
    let mut domains = BTreeSet::new();
    for domain in keys.iter().filter_map(|key| key.rsplit_once('@')) {
        if !domains.contains(domain.1) {
            domains.insert(domain.1.to_owned());
        }
    }
    MapHolds {
        domains,
        keys_count: keys.len(),
    }
}

fn answers(map: &str, kind: &str, names: &[String], known: Option<&str>) -> Seen<MapAnswers> {
    let nobody = |name: &String| format!("{NOBODY}@{name}");
    let everybody = |name: &String| format!("@{name}");
    let postmaster = |name: &String| format!("postmaster@{name}");
    let mut asked: Vec<String> = names.iter().map(nobody).collect();
    asked.extend(names.iter().map(postmaster));
    if !PATTERNS.contains(&kind) {
        asked.extend(names.iter().map(everybody));
    }
    asked.extend(known.map(str::to_owned));
    let found = lookup::look_up(map, &asked)?;
    let has = |key: String| found.contains_key(&key);
    let of = |is_it: &dyn Fn(&String) -> bool| -> BTreeSet<String> {
        names.iter().filter(|name| is_it(name)).cloned().collect()
    };
    Ok(MapAnswers {
        wildcards: of(&|name| has(nobody(name)) || has(everybody(name))),
        postmasters: of(&|name| has(postmaster(name))),
        lost_key: known
            .filter(|known| !found.contains_key(*known))
            .map(str::to_owned),
    })
}

type Classes = BTreeMap<String, &'static str>;

fn classes(settings: &Settings, names: &[String]) -> (Classes, Vec<(&'static str, String)>) {
    let (mut found, mut unknown) = (Classes::new(), Vec::new());
    for parameter in CLASSES.iter().copied() {
        match lookup::listed(settings.get(parameter), names) {
            Ok(listed) => {
                for name in listed {
                    found.entry(name).or_insert(parameter);
                }
            }
            Err(why) => unknown.push((parameter, why)),
        }
    }
    (found, unknown)
}

fn alias_map(
    parameter: &'static str,
    text: &str,
    names: &[String],
    keys: &BTreeSet<String>,
) -> AliasMap {
    let direct = lookup::direct(text);
    let kind = direct.split(':').next().unwrap_or_default();
    let of_ours = |key: &String| {
        let (local, domain) = key.rsplit_once('@')?;
        let is_beside = !local.is_empty() && names.iter().any(|name| name == domain);
        (is_beside && !keys.contains(key)).then(|| key.clone())
    };
    AliasMap {
        parameter,
        text: text.to_owned(),
        wildcards: answers(direct, kind, names, None).map(|answers| answers.wildcards),
        addresses: table_keys(direct)
            .map(|keys| {
                keys.iter()
                    .filter_map(of_ours)
                    .take(ADDRESSES_MAX)
                    .collect()
            })
            .map_err(|error| error.to_string()),
    }
}

/// The tables behind `check_recipient_access`, for strangers.
fn access_tables(settings: &Settings) -> BTreeSet<String> {
    let mut texts: Vec<&str> = RESTRICTIONS.iter().map(|name| settings.get(name)).collect();
    for service in settings.open_services() {
        texts.extend(RESTRICTIONS.iter().map(|name| settings.of(service, name)));
    }
    let mut found = BTreeSet::new();
    for text in texts {
        let words: Vec<&str> = tokens(text).collect();
        for pair in words.windows(2) {
            if let ["check_recipient_access", table] = pair {
                found.insert((*table).to_owned());
            }
        }
    }
    found
}

/// As Postfix sees it: in whole seconds.
fn outdated(settings: &Settings, access: &[AccessMap]) -> Vec<Outdated> {
    let lists = TABLE_LISTS.iter().flat_map(|name| settings.words(name));
    let maps: BTreeSet<&str> = lists
        .chain(access.iter().map(|access| access.text.as_str()))
        .map(lookup::direct)
        .collect();
    let outdated = |map: &str| {
        let (kind, text) = map.split_once(':')?;
        let suffix = match kind {
            "hash" | "btree" => ".db",
            "cdb" => ".cdb",
            "lmdb" => ".lmdb",
            _ => return None,
        };
        let index = format!("{text}{suffix}");
        let written = |path: &str| Path::new(path).metadata().ok().map(|found| found.mtime());
        (written(text)? > written(&index)?).then(|| Outdated {
            map: map.to_owned(),
            text: text.to_owned(),
            index,
        })
    };
    maps.into_iter().filter_map(outdated).collect()
}

/// Opens those of our tables that Postfix asks, as the account of Postfix.
fn opened(
    config: &Config,
    settings: &Settings,
    maps: &[Map],
) -> Vec<(String, Seen<Option<Closed>>)> {
    let is_ours = |map: &&Map| {
        let mut tables = config.tables.iter();
        tables.any(|table| table.path == Path::new(&map.name)) && map.answers.is_ok()
    };
    let name = settings.get("mail_owner");
    let of_map = |map: &Map| {
        let direct = format!("{}:{}", map.kind, map.name);
        let tried = || -> Seen<Option<Closed>> {
            if !rustix::process::geteuid().is_root() {
                return Err("trying it as another account needs root".into());
            }
            let account = account(name).ok_or(format!("/etc/passwd has no account {name}"))?;
            Ok(lookup::opens_for(account, &direct).err().map(|why| Closed {
                account: name.to_owned(),
                why,
                closed_directory: closed_directory(account, Path::new(&map.name)),
            }))
        };
        (map.text.clone(), tried())
    };
    maps.iter().filter(is_ours).map(of_map).collect()
}

fn account(name: &str) -> Option<Account> {
    let accounts = std::fs::read_to_string("/etc/passwd").ok()?;
    accounts.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [found, _, uid, gid, ..] = fields.as_slice() else {
            return None;
        };
        (*found == name).then_some(())?;
        Some(Account {
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
        })
    })
}

fn closed_directory(account: Account, path: &Path) -> Option<PathBuf> {
    let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
    above.reverse();
    let is_closed = |directory: &&Path| {
        directory.metadata().is_ok_and(|found| {
            let bit = if found.uid() == account.uid {
                0o100
            } else if found.gid() == account.gid {
                0o010
            } else {
                0o001
            };
            found.mode() & bit == 0
        })
    };
    above.into_iter().find(is_closed).map(Path::to_owned)
}
