//! What is delivered beside the program, through its own checkers.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use common::require;
use rcptsync::config::{self, SourceKind};
use rcptsync::current::SourceRecords;
use rcptsync::domains::Domains;
use rcptsync::fold::Folding;
use rcptsync::policy::{LeftOut, Reason};
use rcptsync::records::Spool;
use rcptsync::snapshot::SourceProgress;
use rcptsync::source::{file, ldif};
use rcptsync::table::wanted;
use rcptsync::time::Timestamp;

fn contrib(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("contrib")
        .join(path)
}

#[test]
fn the_sample_is_a_complete_company() {
    let config = config::load(&contrib("sample/rcptsync.toml")).expect("a configuration");
    let [source] = config.sources.as_slice() else {
        unreachable!("the sample has one source");
    };
    let SourceKind::Ldif(source) = &source.kind else {
        unreachable!("the sample is an LDIF export");
    };
    // A fresh checkout is not settled yet.
    let now = Timestamp::now().after(file::SETTLED * 2);
    let (mut spool, progress) = (Spool::in_memory(), SourceProgress::default());
    let snapshot = ldif::read(source, now, Instant::now(), &mut spool, &progress);
    let mut snapshot = snapshot.expect("a complete export");
    assert_eq!(snapshot.records().len(), 139);
    let domains = Domains::exact(&config.domains.list);
    let records = SourceRecords::shown(snapshot.take_records());
    let table = &config.tables[0];
    let wanted = wanted::rows(&config, table, &domains, &[&records], Folding::Unicode)
        .expect("records in memory");
    // Counted by another program, too.
    let expected = LeftOut::from([
        (Reason::NotSmtp, 79),
        (Reason::Malformed, 1),
        (Reason::ForeignDomain, 17),
        (Reason::ExcludedDn, 10),
        (Reason::System, 11),
        (Reason::InternalOnly, 9),
    ]);
    assert_eq!(
        (wanted.rows.len(), wanted.counted.left_out),
        (198, expected)
    );
    for address in [
        "info@nordwind.example",
        "siobhan.o'brien@nordwind.example",
        "\"messe 2026\"@nordwind.example",
    ] {
        assert!(wanted.rows.find(address.as_bytes()).is_some(), "{address}");
    }
}

/// Every file below some directories of the repository.
fn files_below(names: &[&str]) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut waiting: Vec<PathBuf> = names.iter().map(|name| root.join(name)).collect();
    let mut found = Vec::new();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).expect("a directory of ours");
            waiting.extend(entries.map(|entry| entry.expect("an entry").path()));
        } else {
            found.push(path);
        }
    }
    found
}

/// Every shell script of the repository, by its first line; a CI job's steps are not looked into.
#[test]
fn shell_scripts_are_what_shellcheck_lets_pass() {
    if !require("shellcheck") {
        return;
    }
    let mut scripts = files_below(&[".ci", "contrib", "templates", "tests"]);
    scripts.retain(|path| is_shell_script(&std::fs::read(path).expect("a file of ours")));
    assert!(scripts.len() >= 2, "{scripts:?}");
    let output = Command::new("shellcheck")
        .args(scripts)
        .output()
        .expect("it runs");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}");
}

fn is_shell_script(file: &[u8]) -> bool {
    let first = file
        .split(|octet| *octet == b'\n')
        .next()
        .unwrap_or_default();
    let first = String::from_utf8_lossy(first);
    first.starts_with("#!") && first.ends_with("sh")
}

#[test]
fn the_units_are_what_systemd_understands() {
    if !require("systemd-analyze") {
        return;
    }
    // `verify` wants the programs to be there, and has no manual of ours.
    let directory = tempfile::tempdir().expect("a directory");
    let mut names = Vec::new();
    for path in files_below(&["contrib"]) {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .expect("text");
        if ![".service", ".timer", ".path"]
            .iter()
            .any(|kind| name.ends_with(kind))
        {
            continue;
        }
        let unit = std::fs::read_to_string(&path).expect("the unit");
        let start = |line: &str| match line.starts_with("ExecStart=") {
            true => "ExecStart=/bin/true\n".to_owned(),
            false => format!("{line}\n"),
        };
        let unit: String = unit.lines().map(start).collect();
        // A template is looked at as one of its units.
        let name = name.replace("@.", "@rcptsync.");
        std::fs::write(directory.path().join(&name), unit).expect("written");
        names.push(name);
    }
    assert!(names.len() >= 4, "{names:?}");
    let output = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .args(&names)
        .current_dir(directory.path())
        .output()
        .expect("it runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && !told.contains("rcptsync"),
        "{told}"
    );
}

/// The figure that the README names, and a time limit above the program's own.
#[test]
fn the_unit_is_closed_and_patient() {
    if !require("systemd-analyze") {
        return;
    }
    let unit = contrib("systemd/rcptsync.service");
    let text = std::fs::read_to_string(&unit).expect("the unit");
    let limit = text
        .lines()
        .find_map(|line| line.strip_prefix("TimeoutStartSec="));
    let limit = limit
        .and_then(|limit| limit.strip_suffix("min"))
        .expect("minutes");
    let limit: u64 = limit.parse().expect("a number");
    let ours = config::load(&contrib("sample/rcptsync.toml"))
        .expect("a configuration")
        .run_timeout;
    assert!(limit * 60 > ours.as_secs(), "{limit} min beside {ours:?}");

    let output = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager", "--threshold=15"])
        .arg(&unit)
        .output()
        .expect("it runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

/// The default of the package says nothing, and says the right thing as soon as its lines count.
#[test]
fn the_packaged_default_is_a_configuration_in_comments() {
    let text = include_str!("../templates/packaged.toml");
    assert!(
        text.lines()
            .all(|line| line.is_empty() || line.starts_with('#'))
    );
    let is_setting =
        |line: &&str| line.starts_with(|first: char| first == '[' || first.is_ascii_lowercase());
    let settings: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .filter(is_setting)
        .collect();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("rcptsync.toml");
    std::fs::write(&path, settings.join("\n")).expect("written");
    let config = config::load(&path).expect("a configuration");
    assert_eq!(
        (
            config.sources.len(),
            config.tables.len(),
            config.domains.list.len()
        ),
        (1, 1, 1)
    );
    assert_eq!(config.state_dir, Path::new("/var/lib/rcptsync/state"));
}
