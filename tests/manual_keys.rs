//! rcptsync.toml(5) beside the parser: every key that it knows stands in the page and no other, under its section; each default
//! told there is the one that is used; the example is complete.
//!
//! What the parser knows is asked of it: a date, which no key takes, is a wrong type where a key is known, and an unknown key
//! elsewhere.
#![cfg(all(feature = "gssapi", feature = "postgresql"))]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use clap::CommandFactory;
use rcptsync::cli::Cli;
use rcptsync::config::{self, Config, Problem};
use rcptsync::manual::{self, Page};
use toml::{Table, Value};

/// Configurations that are complete, which have every section and every kind of each between them.
const COMPLETE: [&str; 4] = [
    "[domains]\nlist = ['example.com']\n[domain.'example.com']\n[source.corp]\nkind = 'ldap'\n\
     servers = ['ldaps://dc1.corp.example']\n[source.corp.bind]\nmethod = 'simple'\nname = 'a'\ncredential = 'p'\n\
     [recipients]\n[guard]\n[table.t]\nformats = ['text', 'postgresql']\npath = '/t'\n[table.t.postgresql]\n\
     host = 'db.example'\ndatabase = 'mail'\nrole = 'r'\npassword_file = '/p'\n\
     [[hook]]\nname = 'h'\nrun = ['/bin/true']\n[verify]\n[history]\n[metrics]\ntextfile = '/m.prom'\n",
    "[domains]\nlist = ['example.com']\n[source.corp]\nkind = 'ldap'\ndiscover = 'corp.example'\n\
     [source.corp.bind]\nmethod = 'external'\ncertificate_file = '/c'\nkey_file = '/k'\n\
     [table.t]\nkind = 'access'\nformats = ['cdb']\npath = '/t'\n",
    "[domains]\nlist = ['example.com']\n[source.corp]\nkind = 'ldap'\ndiscover = 'corp.example'\n\
     [source.corp.bind]\nmethod = 'gssapi'\nprincipal = 'a@CORP.EXAMPLE'\nkeytab = '/k'\n\
     [table.t]\nkind = 'transport'\nformats = ['hash']\npath = '/t'\nnext_hop = 'smtp:[x.example]'\n",
    "[domains]\nlist = ['example.com']\n[source.corp]\nkind = 'list'\npath = '/l'\n\
     [table.t]\nformats = ['template']\ntemplate = 'exim-lsearch'\npath = '/t'\n\
     [[hook]]\nname = 'n'\nrun = ['/bin/true']\nwhen = 'refused'\n",
];

/// A section of the page, and where it stands in the configurations above.
const SECTIONS: [(&str, &[&str]); 13] = [
    ("The program", &[]),
    ("[domains]", &["domains"]),
    ("[domain.\"NAME\"]", &["domain", "example.com"]),
    ("[source.NAME]", &["source", "corp"]),
    ("[source.NAME.bind]", &["source", "corp", "bind"]),
    ("[recipients]", &["recipients"]),
    ("[guard]", &["guard"]),
    ("[table.NAME]", &["table", "t"]),
    ("[table.NAME.postgresql]", &["table", "t", "postgresql"]),
    ("[[hook]]", &["hook"]),
    ("[verify]", &["verify"]),
    ("[metrics]", &["metrics"]),
    ("[history]", &["history"]),
];

fn page() -> String {
    manual::page(Page::Configuration, Cli::command())
}

/// What the page shows of a line of roff.
fn shown(roff: &str) -> String {
    roff.replace("\\(dq", "\"")
        .replace("\\(:u", "ü")
        .replace("\\-", "-")
        .replace("\\e", "\\")
}

/// The keys of the page by section, each with its default in TOML where it has one.
fn told() -> BTreeMap<String, BTreeMap<String, Option<String>>> {
    let page = page().replace("\\\n", "");
    let mut sections: BTreeMap<String, BTreeMap<String, Option<String>>> = BTreeMap::new();
    let mut section = String::new();
    let mut before = "";
    for line in page.lines() {
        if let Some(name) = line.strip_prefix(".SS ") {
            section = shown(name);
            sections.entry(section.clone()).or_default();
        }
        let key = match before == ".TP" {
            true => line.strip_prefix(".B ").or(line.strip_prefix(".BI \"")),
            false => None,
        };
        if let Some((key, rest)) = key.and_then(|line| line.split_once(" = ")) {
            let default = line.starts_with(".B ").then(|| shown(rest));
            let of_section = sections
                .get_mut(&section)
                .expect("a key stands in a section");
            let before = of_section.insert(key.to_owned(), default);
            assert!(before.is_none(), "{section} {key} stands there twice");
        }
        before = line;
    }
    sections
}

fn table(text: &str) -> Table {
    text.parse().expect("a complete configuration is TOML")
}

/// The section at a place, if this configuration has it.
fn at<'config>(config: &'config mut Table, place: &[&str]) -> Option<&'config mut Table> {
    let Some((name, rest)) = place.split_first() else {
        return Some(config);
    };
    let section = config.get_mut(*name)?;
    let section = match section.is_array() {
        true => section.as_array_mut()?.first_mut()?,
        false => section,
    };
    at(section.as_table_mut()?, rest)
}

fn parse(config: &Table) -> Result<Config, Vec<Problem>> {
    let text = toml::to_string(config).expect("TOML");
    config::parse(Path::new("/etc/rcptsync/rcptsync.toml"), &text)
}

/// Everything that the program believes of a configuration, without its text.
fn believed(config: &Table) -> Result<String, Vec<Problem>> {
    let config = Config {
        text: String::new(),
        ..parse(config)?
    };
    Ok(format!("{config:?}"))
}

/// Every text in the parser's source that may be a key.
fn candidates() -> BTreeSet<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/parse");
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(directory).expect("the parser") {
        let text = std::fs::read_to_string(entry.expect("a file").path()).expect("its source");
        let is_key = |text: &&str| {
            !text.is_empty()
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        };
        found.extend(text.split('"').filter(is_key).map(str::to_owned));
    }
    assert!(found.len() > 70, "{found:?}");
    found
}

/// The keys that the parser knows at a place: those that are there, and those that it does not call unknown.
fn known(place: &[&str], candidates: &BTreeSet<String>) -> BTreeSet<String> {
    let date: Value = "1979-05-27"
        .parse::<toml::value::Datetime>()
        .expect("a date")
        .into();
    let mut known = BTreeSet::new();
    for text in COMPLETE {
        let mut complete = table(text);
        parse(&complete).expect("a complete configuration");
        let Some(section) = at(&mut complete, place) else {
            continue;
        };
        let is_section = |value: &Value| {
            let items = value.as_array().and_then(|items| items.first());
            value.is_table() || items.is_some_and(Value::is_table)
        };
        let there = section.iter().filter(|(_, value)| !is_section(value));
        known.extend(there.map(|(key, _)| key.clone()));
        for key in candidates {
            let mut probed = complete.clone();
            let section = at(&mut probed, place).expect("the section of before");
            if section.contains_key(key) {
                continue;
            }
            section.insert(key.clone(), date.clone());
            let problems = parse(&probed).expect_err("no key takes a date");
            let of_key = |problem: &&Problem| problem.key.rsplit('.').next() == Some(key);
            let of_key: Vec<&Problem> = problems.iter().filter(of_key).collect();
            let is_unknown = |problem: &&Problem| problem.message.starts_with("unknown key");
            let is_section = |problem: &&Problem| problem.message.contains("section");
            assert!(!of_key.is_empty(), "{place:?} {key}: {problems:?}");
            if !of_key.iter().any(is_unknown) && !of_key.iter().any(is_section) {
                known.insert(key.clone());
            }
        }
    }
    known
}

#[test]
fn every_key_of_the_parser_stands_in_the_page_and_no_other() {
    let (told, candidates) = (told(), candidates());
    let names: BTreeSet<&str> = SECTIONS.iter().map(|(name, _)| *name).collect();
    let named: BTreeSet<&str> = told.keys().map(String::as_str).collect();
    assert_eq!(named, names, "the sections");
    for (name, place) in SECTIONS {
        let of_page: BTreeSet<String> = told[name].keys().cloned().collect();
        assert_eq!(of_page, known(place, &candidates), "the keys of {name}");
    }
}

#[test]
fn a_default_that_is_told_is_the_one_that_is_used() {
    let mut count = 0;
    for (name, place) in SECTIONS {
        for (key, default) in &told()[name] {
            let Some(default) = default else { continue };
            let line = table(&format!("{key} = {default}"));
            let mut is_tried = false;
            for text in COMPLETE {
                let complete = table(text);
                let mut with_default = complete.clone();
                match at(&mut with_default, place) {
                    Some(section) if !section.contains_key(key) => section.extend(line.clone()),
                    _ => continue,
                }
                if let Ok(believed_with) = believed(&with_default) {
                    let without = believed(&complete).expect("a complete configuration");
                    assert_eq!(believed_with, without, "{name} {key} = {default}");
                    is_tried = true;
                }
            }
            assert!(is_tried, "{name} {key} = {default} is an error everywhere");
            count += 1;
        }
    }
    assert!(count > 35, "{count} defaults");
}

#[test]
fn the_example_is_complete() {
    let page = page();
    let examples: Vec<&str> = (page.split("\n.EX\n").skip(1))
        .filter_map(|rest| rest.split("\n.EE\n").next())
        .collect();
    assert!(!examples.is_empty());
    for example in examples {
        let text = shown(example);
        let config = config::parse(Path::new("/etc/rcptsync/rcptsync.toml"), &text);
        assert!(config.is_ok(), "{text}\n{config:?}");
    }
}
