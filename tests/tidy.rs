//! The rules of the house that a program can check. What a reviewer must judge is not here.

use std::path::{Path, PathBuf};

use clap::CommandFactory;
use rcptsync::cli::Cli;
use rcptsync::exit::Exit;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("a text file of this repository")
}

fn rust_files(directory: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![root().join(directory)];
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|suffix| suffix == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The part of a file that is the product: everything before its unit tests.
fn product(path: &Path) -> String {
    let text = read(path);
    text.split("#[cfg(test)]")
        .next()
        .unwrap_or_default()
        .to_owned()
}

fn name(path: &Path) -> String {
    path.strip_prefix(root())
        .expect("below the root")
        .display()
        .to_string()
}

/// Fails with the places where a file outside `allowed` says one of `words` in its code (comments do not count).
#[track_caller]
fn check_only(allowed: &[&str], words: &[&str]) {
    let mut found = Vec::new();
    for path in rust_files("src") {
        let name = name(&path);
        if allowed.contains(&name.as_str()) {
            continue;
        }
        for (number, line) in product(&path).lines().enumerate() {
            let is_comment = line.trim_start().starts_with("//");
            if !is_comment && words.iter().any(|word| line.contains(word)) {
                found.push(format!("{name}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert!(
        found.is_empty(),
        "{words:?} belongs to {allowed:?} alone:\n{}",
        found.join("\n")
    );
}

#[test]
fn every_file_says_what_it_is() {
    for path in rust_files("src").into_iter().chain(rust_files("tests")) {
        assert!(
            read(&path).starts_with("//!"),
            "{} has no head",
            name(&path)
        );
    }
}

#[test]
fn each_power_lives_in_one_place() {
    check_only(&["src/directory/session.rs"], &["ldap3::"]);
    check_only(&["src/directory/discover.rs"], &["hickory_resolver"]);
    check_only(&["src/directory/gssapi.rs"], &["krb5::"]);
    check_only(&["src/postgresql/session.rs"], &["tokio_postgres"]);
    check_only(&["src/publish/relation.rs"], &["COMMIT"]);
    check_only(
        &["src/directory/wire.rs", "src/smtp.rs"],
        &["TcpStream", "TcpListener", "UdpSocket"],
    );
    check_only(
        &["src/publish/rename.rs", "src/metrics/textfile.rs"],
        &["renameat"],
    );
    check_only(&["src/log/journal.rs"], &["UnixDatagram"]);
    // State renames its own files, and nothing onto a table.
    check_only(
        &[
            "src/publish/rename.rs",
            "src/state/mod.rs",
            "src/metrics/textfile.rs",
        ],
        &["fs::rename"],
    );
    check_only(
        &[
            "src/directory/mod.rs",
            "src/source/ldif.rs",
            "src/source/list.rs",
            "src/snapshot.rs",
        ],
        &["of_complete_read"],
    );
    check_only(
        &["src/hook.rs", "src/postfix/program.rs"],
        &["process::Command", "Command::new"],
    );
    check_only(
        &[
            "src/time.rs",
            "src/command/mod.rs",
            "src/command/approve.rs",
            "src/command/status.rs",
        ],
        &["Timestamp::now"],
    );
    check_only(&["src/certificate.rs"], &["x509_parser::"]);
    check_only(&["src/surroundings.rs"], &["signal_hook::"]);
    check_only(&["src/guard.rs"], &["Approved {"]);
    // Files that are new, and never in the place of another.
    check_only(&["src/command/init/new_file.rs"], &["hard_link"]);
    check_only(&["src/command/init/pmg.rs"], &["fs::symlink"]);
}

#[test]
fn the_core_does_not_touch_the_world() {
    let core = [
        "address",
        "certificate",
        "check/access",
        "check/classes",
        "check/domains",
        "check/exchange",
        "check/facts",
        "check/files",
        "check/maps",
        "check/mod",
        "check/pmg",
        "check/replies",
        "check/sources",
        "check/tables",
        "diff",
        "directory/keytab",
        "dn",
        "domain",
        "domains",
        "elsewhere",
        "entry",
        "exchange",
        "fold",
        "guard",
        "hold",
        "keys",
        "kind",
        "leb128",
        "lookup",
        "manual/mod",
        "manual/roff",
        "notice",
        "metrics/families",
        "metrics/mod",
        "policy",
        "postfix/master",
        "probe/sample",
        "probe/verdict",
        "record",
        "source/referral",
        "state/files",
        "state/head",
        "state/sealed",
        "table/format/built",
        "table/format/cdb",
        "table/format/copy",
        "table/format/mod",
        "table/format/template/form",
        "table/format/template/mod",
        "table/format/template/shipped",
        "table/format/text",
        "table/mod",
        "table/plain",
        "table/rows",
        "table/value",
        "table/wanted",
        "templates",
        "config/parse/domains",
        "config/parse/hook",
        "config/parse/mod",
        "config/parse/relation",
        "config/parse/source",
        "config/reader",
    ];
    for file in core {
        let text = product(&root().join(format!("src/{file}.rs")));
        for word in [
            "std::fs",
            "TcpStream",
            "std::process",
            "std::env",
            "std::thread",
            "SystemTime",
            "Instant",
            "tracing::",
        ] {
            assert!(
                !text.contains(word),
                "src/{file}.rs is core and names {word}"
            );
        }
    }
}

#[test]
fn functions_fit_on_a_screen() {
    const LINES_MAX: usize = 75;
    for path in rust_files("src") {
        let text = product(&path);
        let mut start: Option<(usize, usize)> = None;
        for (number, line) in text.lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let code = line.trim_start();
            let is_function = [
                "fn ",
                "pub fn ",
                "pub(crate) fn ",
                "pub(super) fn ",
                "async fn ",
                "pub(super) async fn ",
            ]
            .iter()
            .any(|word| code.starts_with(word));
            if is_function && start.is_none() {
                start = Some((number, indent));
            }
            if let Some((first, indent_of_function)) = start
                && indent == indent_of_function
                && code.starts_with('}')
            {
                assert!(
                    number - first <= LINES_MAX,
                    "{}:{}: {} lines",
                    name(&path),
                    first + 1,
                    number - first
                );
                start = None;
            }
        }
    }
}

#[test]
fn the_readme_knows_every_verb_key_and_code() {
    let readme = read(&root().join("README.md"));
    for verb in Cli::command().get_subcommands() {
        let verb = verb.get_name();
        assert!(
            readme.contains(&format!("rcptsync {verb}")) || readme.contains(&format!("`{verb}`")),
            "verb {verb}"
        );
    }
    for code in Exit::codes().into_keys() {
        assert!(readme.contains(&format!("| {code} |")), "code {code}");
    }
    let parse: String = rust_files("src/config/parse")
        .iter()
        .map(|path| product(path))
        .collect();
    // Keys that are known only to be refused with a sentence.
    let not_offered = ["kind"];
    let calls = [
        "text(\"",
        "texts(\"",
        "text_or_texts(\"",
        "texts_needed(\"",
        "duration(\"",
        "integer(\"",
        "percent(\"",
        "boolean(\"",
        "section(\"",
        "sections(\"",
    ];
    for key in calls
        .iter()
        .flat_map(|call| parse.split(call).skip(1))
        .filter_map(|rest| rest.split('"').next())
    {
        assert!(
            not_offered.contains(&key) || readme.contains(key),
            "configuration key {key}"
        );
    }
}

/// README is long: its list of contents leads to every section, in their order.
#[test]
fn the_readme_has_a_way_through() {
    let readme = read(&root().join("README.md"));
    let (_, rest) = readme
        .split_once("\n## Contents\n")
        .expect("a list of contents");
    let sections: Vec<&str> = rest
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .collect();
    let contents = rest.split("\n## ").next().unwrap_or_default();
    let links = contents
        .split('[')
        .skip(1)
        .filter_map(|link| link.split_once("](#"));
    let links: Vec<(&str, &str)> = links
        .filter_map(|(name, rest)| Some((name, rest.split_once(')')?.0)))
        .collect();
    let is_kept = |letter: &char| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_');
    for (name, anchor) in &links {
        let expected: String = name.to_lowercase().chars().filter(is_kept).collect();
        assert_eq!(*anchor, expected.replace(' ', "-"));
    }
    let names: Vec<&str> = links.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, sections);
}

#[test]
fn the_changelog_has_an_unreleased_part_and_nothing_is_left_to_do() {
    assert!(read(&root().join("CHANGELOG.md")).contains("## Unreleased"));
    for path in rust_files("src") {
        let text = read(&path);
        for word in ["TODO", "FIXME", "XXX"] {
            assert!(!text.contains(word), "{} has a {word}", name(&path));
        }
    }
}

/// Each direct dependency has its reason in Cargo.toml; this list makes a new one a decision.
#[test]
fn dependencies_are_decided() {
    let manifest = read(&root().join("Cargo.toml"));
    let section = manifest
        .split("\n[dependencies]\n")
        .nth(1)
        .and_then(|rest| rest.split("\n[").next())
        .expect("the section");
    let mut found: Vec<&str> = section
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .filter_map(|line| line.split([' ', '=']).next())
        .collect();
    found.sort_unstable();
    let decided = [
        "anstream",
        "anstyle",
        "base64",
        "cdb",
        "clap",
        "clap_complete",
        "futures-util",
        "hickory-resolver",
        "humantime",
        "icu_casemap",
        "idna",
        "indicatif",
        "krb5",
        "ldap3",
        "minijinja",
        "rustix",
        "rustls",
        "rustls-native-certs",
        "serde",
        "serde_json",
        "sha2",
        "signal-hook",
        "strsim",
        "textwrap",
        "thiserror",
        "tokio",
        "tokio-postgres",
        "tokio-rustls",
        "toml",
        "tracing",
        "x509-parser",
    ];
    assert_eq!(found, decided);
}
