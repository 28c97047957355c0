//! LDIF exports as programs write them, whole, cut and converted.
//!
//! The `ldapsearch-*` cases are the output of OpenLDAP 2.5.13 against a slapd of eight recipients with a size limit of
//! three, the `ldbsearch*` ones that of ldb 2.6 on the database of a Samba directory. `ldifde.ldif` is
//! written by hand in the form that ldifde is known for; it was not captured.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use rcptsync::config::FileSource;
use rcptsync::record::{Facts, Record, smtp_address};
use rcptsync::records::Spool;
use rcptsync::snapshot::{Snapshot, SourceProgress};
use rcptsync::source::{file, ldif};
use rcptsync::time::Timestamp;

fn case(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/cases/ldif");
    std::fs::read_to_string(path.join(name)).expect("the case")
}

fn read_path(path: &Path) -> Result<Snapshot, String> {
    let source = FileSource {
        path: path.to_owned(),
        max_age: Some(Duration::from_secs(48 * 3600)),
    };
    // Later than any of these files was written, so that no test waits for one to settle.
    let now = Timestamp::now().after(file::SETTLED * 2);
    let (mut spool, progress) = (Spool::in_memory(), SourceProgress::default());
    ldif::read(&source, now, Instant::now(), &mut spool, &progress).map_err(|failure| {
        let failure = failure.failure("corp");
        assert!(!failure.why.is_empty() && !failure.next.is_empty());
        let line = failure
            .place
            .rsplit_once(", line ")
            .map_or("", |(_, line)| line);
        format!("{line}: {}", failure.what.replace("source corp: ", ""))
    })
}

fn records(snapshot: &Snapshot) -> Vec<Record> {
    snapshot.records().all().expect("in memory")
}

fn read_bytes(bytes: &[u8]) -> Result<Snapshot, String> {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(bytes).expect("written");
    read_path(file.path())
}

/// `records/SMTP values/referrals`, or the line and the sentence of the failure.
#[track_caller]
fn check(name: &str, expected: &str) {
    let read = match read_bytes(case(name).as_bytes()) {
        Ok(snapshot) => {
            let smtp_values_count = records(&snapshot)
                .iter()
                .flat_map(|record| record.view().proxy_addresses())
                .filter(|value| smtp_address(value).is_some())
                .count();
            format!(
                "{}/{smtp_values_count}/{}",
                snapshot.records().len(),
                snapshot.referrals.len()
            )
        }
        Err(failure) => failure,
    };
    assert_eq!(read, expected, "{name}");
}

#[test]
fn complete_exports() {
    check("ldapsearch-plain.ldif", "8/19/1");
    check("ldapsearch-L.ldif", "8/19/1");
    check("ldapsearch-LL.ldif", "8/19/1");
    check("ldapsearch-LLL.ldif", "8/19/1");
    check("ldapsearch-paged-plain.ldif", "8/19/1");
    check("ldapsearch-paged-L.ldif", "8/19/1");
    check("ldapsearch-paged-LL.ldif", "8/19/1");
    check("ldapsearch-paged-LLL.ldif", "8/19/1");
    check("ldapsearch-paged-prompt.ldif", "8/0/1");
    check("ldapsearch-nobody.ldif", "0/0/1");
    check("ldbsearch.ldif", "8/20/3");
    check("ldbsearch-nobody.ldif", "0/0/3");
    check("ldifde.ldif", "2/3/0");
}

#[test]
fn incomplete_exports() {
    check(
        "ldapsearch-size-limit-plain.ldif",
        "32: the export is incomplete: the search ended with 4 Size limit exceeded",
    );
    check(
        "ldapsearch-paged-size-limit-plain.ldif",
        "41: the export is incomplete: the search ended with 4 Size limit exceeded",
    );
    check(
        "ldapsearch-paged-size-limit-LLL.ldif",
        "7: the export is incomplete: its last page was not the last one of the search",
    );
    check(
        "ldapsearch-no-such-object.ldif",
        "11: the export is incomplete: the search ended with 32 No such object",
    );
    check(
        "ldbsearch-range.ldif",
        "3: the export holds only a part of the values: \"proxyAddresses;range=0-0\"",
    );
}

/// What the head of `ldif` says cannot be seen. Should one of these fail some day, that sentence can go.
#[test]
fn what_cannot_be_seen() {
    check("ldapsearch-size-limit-L.ldif", "3/7/0");
    check("ldapsearch-size-limit-LLL.ldif", "3/7/0");
}

#[test]
fn every_form_of_one_search_gives_the_same_records() {
    let plain = read_bytes(case("ldapsearch-plain.ldif").as_bytes()).expect("whole");
    for name in [
        "ldapsearch-L.ldif",
        "ldapsearch-LL.ldif",
        "ldapsearch-LLL.ldif",
        "ldapsearch-paged-plain.ldif",
        "ldapsearch-paged-L.ldif",
        "ldapsearch-paged-LL.ldif",
        "ldapsearch-paged-LLL.ldif",
    ] {
        let other = read_bytes(case(name).as_bytes()).expect("whole");
        assert_eq!(records(&other), records(&plain), "{name}");
        assert_eq!(other.referrals, plain.referrals, "{name}");
    }
    assert_eq!(
        plain.referrals,
        ["ldap://other.lab.test/ou=Elsewhere,dc=lab,dc=test??sub"]
    );
}

#[test]
fn records_hold_what_the_export_says() {
    let snapshot = read_bytes(case("ldifde.ldif").as_bytes()).expect("whole");
    let guid: Vec<u8> = (0..16).collect();
    let anna = Record::of(Facts {
        guid: &guid,
        dn: "CN=Anna Berg,OU=Staff,DC=corp,DC=example",
        recipient_type: Some(1),
        is_internal_only: false,
        proxy_addresses: vec![b"SMTP:anna.berg@corp.example", b"smtp:a.berg@corp.example"],
        other_values_count: 1,
    });
    let jürgen = Record::of(Facts {
        dn: "CN=Jürgen Groß,OU=Staff,DC=corp,DC=example",
        is_internal_only: true,
        proxy_addresses: vec!["smtp:jürgen@bücher.example".as_bytes()],
        ..Facts::default()
    });
    assert_eq!(records(&snapshot), [anna, jürgen]);
    let samba = read_bytes(case("ldbsearch.ldif").as_bytes()).expect("whole");
    let is_named = |record: &Record| record.view().guid().len() == 16;
    assert!(records(&samba).iter().all(is_named));
}

/// An independent, naive writer: every attribute on one line, then folded at a width, or in base64.
fn rewritten(text: &str, width: usize, in_base64: bool) -> String {
    let mut rewritten = String::new();
    for line in text.replace("\r\n", "\n").replace("\n ", "").lines() {
        let line = match line.split_once(": ") {
            Some((name, value)) if in_base64 && !line.starts_with('#') && !name.ends_with(':') => {
                format!("{name}:: {}", STANDARD.encode(value))
            }
            _ => line.to_owned(),
        };
        let mut column = 0;
        for character in line.chars() {
            if column == width {
                rewritten.push_str("\n ");
                column = 1;
            }
            rewritten.push(character);
            column += 1;
        }
        rewritten.push('\n');
    }
    rewritten
}

#[test]
fn folding_and_base64_change_nothing() {
    for name in ["ldapsearch-plain.ldif", "ldbsearch.ldif", "ldifde.ldif"] {
        let text = case(name);
        let whole = read_bytes(text.as_bytes()).expect("whole");
        for width in 2..100 {
            for in_base64 in [false, true] {
                let other = read_bytes(rewritten(&text, width, in_base64).as_bytes());
                let other = other.expect("whole");
                assert_eq!(records(&other), records(&whole), "{name} at {width}");
                assert_eq!(other.referrals, whole.referrals, "{name} at {width}");
            }
        }
    }
}

#[test]
fn utf_16_changes_nothing() {
    let text = case("ldifde.ldif");
    let whole = read_bytes(text.as_bytes()).expect("whole");
    for mark in ["", "\u{feff}"] {
        let marked = format!("{mark}{text}");
        let units: Vec<u16> = marked.encode_utf16().collect();
        for bytes in [
            marked.clone().into_bytes(),
            units.iter().flat_map(|unit| unit.to_le_bytes()).collect(),
            units.iter().flat_map(|unit| unit.to_be_bytes()).collect(),
        ] {
            assert_eq!(
                records(&read_bytes(&bytes).expect("whole")),
                records(&whole)
            );
        }
    }
}

/// Cuts a case at every byte. A cut within a line is always seen; at most `unseen_max` of those at a line end are not.
#[track_caller]
fn check_cuts(name: &str, unseen_max: usize) {
    let text = case(name);
    let bytes = text.as_bytes();
    let whole = read_bytes(bytes).expect("whole");
    let mut unseen_count = 0;
    for cut in 0..bytes.len() {
        let Ok(part) = read_bytes(&bytes[..cut]) else {
            continue;
        };
        assert!(bytes[..cut].ends_with(b"\n"), "{name} cut at {cut}");
        assert!(
            part.records().len() <= whole.records().len(),
            "{name} cut at {cut}"
        );
        if records(&part) != records(&whole) || part.referrals != whole.referrals {
            unseen_count += 1;
        }
    }
    assert!(
        unseen_count <= unseen_max,
        "{name}: {unseen_count} cuts are not seen"
    );
}

#[test]
fn a_cut_is_seen_wherever_the_program_writes_an_end() {
    check_cuts("ldapsearch-plain.ldif", 0);
    check_cuts("ldapsearch-paged-plain.ldif", 0);
    // Behind the head (`version: 1`, a blank line, `#`) that promises the counts.
    check_cuts("ldapsearch-L.ldif", 3);
    check_cuts("ldapsearch-paged-L.ldif", 3);
    check_cuts("ldbsearch.ldif", 0);
}

#[test]
fn elsewhere_a_cut_is_seen_within_a_line() {
    let lines_count = |name: &str| case(name).lines().count();
    for name in ["ldapsearch-LLL.ldif", "ldapsearch-LL.ldif", "ldifde.ldif"] {
        check_cuts(name, lines_count(name));
    }
    // Only the first page can be cut unseen: its cookie asks for the next.
    check_cuts("ldapsearch-paged-LLL.ldif", 20);
}
