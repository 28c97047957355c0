//! What we write, beside what Postfix's own `postmap` makes of the same rows.
//!
//! Byte for byte for the CDB, key for key through `postmap -q -`, warning for warning on the text (its exit status proves
//! nothing: it is 0 when lines are dropped), and letter for letter for the folding of keys.

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Output, Stdio};

use common::postfix::{self, Instance};
use common::process::command;
use rcptsync::address::Address;
use rcptsync::config::Format;
use rcptsync::fold::{self, Folding};
use rcptsync::keys::Key;
use rcptsync::table::format::{self, Said};
use rcptsync::table::rows::{Facts, Rows, RowsBuilder};
use rcptsync::table::value::RowValues;

/// Addresses as a directory may hold them, with everything that quoting, folding and both forms of a domain can do.
const ADDRESSES: &[&str] = &[
    "Anna.Berg@example.com",
    "o'brien@example.com",
    "bestellung+amazon@example.com",
    "\"john doe\"@example.com",
    "john..doe@example.com",
    ".leading@example.com",
    "trailing.@example.com",
    "a,b@example.com",
    "\"a\\\"b\"@example.com",
    "\"back\\\\slash\"@example.com",
    "(comment)@example.com",
    "semi;colon:colon@example.com",
    "[bracket]@example.com",
    "<angle>@example.com",
    "SystemMailbox{bb558c35-97f1-4cb9-8ff7-d53741dc928c}@example.com",
    "hash#inside@example.com",
    "key:@example.com",
    "a/b=c?d_e~f`g|h^i$j%k!l&m*n@example.com",
    "müller@bücher.example",
    "MÜLLER@xn--bcher-kva.example",
    "straße@example.com",
    "STRASSE@example.com",
    "Σίσυφος@example.com",
    "İstanbul@example.com",
    "日本@example.com",
    "nbsp\u{a0}inside@example.com",
];

fn rows(addresses: &[&str], folding: Folding) -> Rows {
    let mut rows = RowsBuilder::default();
    for address in addresses {
        let address = Address::parse(address).expect("an address");
        for key in Key::all_of(&address, folding) {
            rows.push(key.as_str().as_bytes(), Facts::default());
        }
    }
    rows.finish()
}

/// Runs postmap with keys on its standard input, as `-q -` wants them.
fn query(instance: &Instance, map: &str, keys: &[u8]) -> Output {
    let mut child = command("postmap")
        .env("MAIL_CONFIG", instance.config_directory())
        .args(["-q", "-", map])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("postmap runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    let keys = keys.to_vec();
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut stdin, &keys));
    let output = child.wait_with_output().expect("postmap ends");
    writer
        .join()
        .expect("a thread of ours")
        .expect("postmap reads all keys");
    output
}

fn rendered(format: Format, rows: &Rows) -> Vec<u8> {
    let mut bytes = Vec::new();
    format::render(&Said::of(format, rows), &RowValues::alike("OK"), &mut bytes)
        .expect("small enough");
    bytes
}

/// Builds a CDB from our text with postmap and compares it with ours.
#[track_caller]
fn check(rows: &Rows, is_smtputf8: bool) {
    let instance = Instance::for_postmap(is_smtputf8);
    let directory = common::temp_dir("postmap");
    let source = directory.path().join("table");
    let text = rendered(Format::Text, rows);
    let cdb = rendered(Format::Cdb, rows);
    std::fs::write(&source, &text).expect("written");
    let built = instance.postmap(&[&format!("cdb:{}", source.display())]);
    assert_eq!(
        String::from_utf8_lossy(&built.stderr),
        "",
        "postmap warns of our text"
    );
    let theirs = std::fs::read(with_suffix(&source)).expect("postmap's CDB");
    assert!(
        theirs == cdb,
        "postmap made another CDB of our text: {} and {} octets",
        theirs.len(),
        cdb.len()
    );

    std::fs::write(with_suffix(&source), &cdb).expect("written");
    let keys: Vec<u8> = rows.keys().flat_map(|key| [key, b"\n"].concat()).collect();
    let found = query(&instance, &format!("cdb:{}", source.display()), &keys);
    let found_count = String::from_utf8_lossy(&found.stdout)
        .lines()
        .filter(|line| line.ends_with("\tOK"))
        .count();
    assert_eq!(
        (found_count, String::from_utf8_lossy(&found.stderr)),
        (rows.len(), "".into())
    );
}

fn with_suffix(path: &Path) -> std::path::PathBuf {
    path.with_extension("cdb")
}

#[test]
fn our_cdb_is_postmaps_cdb() {
    if !postfix::is_available() {
        return;
    }
    check(&rows(ADDRESSES, Folding::Unicode), true);
    check(&rows(ADDRESSES, Folding::Ascii), false);
    check(&rows(&[], Folding::Unicode), true);
    let many: Vec<String> = (0..20_000)
        .map(|number| format!("first.last{number}@example.com"))
        .collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    check(&rows(&many, Folding::Unicode), true);
}

#[test]
fn a_leading_hash_is_in_the_cdb_alone() {
    if !postfix::is_available() {
        return;
    }
    let rows = rows(&["#hash@example.com", "a@example.com"], Folding::Unicode);
    let text = rendered(Format::Text, &rows);
    assert!(!String::from_utf8_lossy(&text).contains("#hash"));
    let instance = Instance::for_postmap(true);
    let directory = common::temp_dir("postmap");
    let path = directory.path().join("table");
    std::fs::write(with_suffix(&path), rendered(Format::Cdb, &rows)).expect("written");
    let found = query(
        &instance,
        &format!("cdb:{}", path.display()),
        b"#hash@example.com\n",
    );
    assert_eq!(
        String::from_utf8_lossy(&found.stdout),
        "#hash@example.com\tOK\n"
    );
}

/// Every letter that folding changes, as postmap folds it: it is given the letter, we ask for our folding of it.
#[test]
fn letters_are_folded_as_postfix_folds_them() {
    if !postfix::is_available() {
        return;
    }
    let letters: Vec<char> = ('\u{80}'..='\u{1FFFF}')
        .filter(|letter| !letter.is_control())
        .filter(|letter| fold::unicode(&letter.to_string()) != letter.to_string())
        .collect();
    assert!(letters.len() > 1300, "{} letters fold", letters.len());
    let instance = Instance::for_postmap(true);
    let directory = common::temp_dir("postmap");
    let source = directory.path().join("table");
    // The number keeps apart what folding makes equal.
    let text: String = letters
        .iter()
        .enumerate()
        .map(|(at, letter)| format!("{letter}{at}@example.com OK\n"))
        .collect();
    std::fs::write(&source, text).expect("written");
    let built = instance.postmap(&[&format!("cdb:{}", source.display())]);
    assert_eq!(String::from_utf8_lossy(&built.stderr), "");

    let bytes = std::fs::read(with_suffix(&source)).expect("postmap's CDB");
    let theirs = format::read(Format::Cdb, &bytes, Folding::Unicode).expect("a CDB");
    let theirs: BTreeSet<Vec<u8>> = theirs.into_iter().map(|(key, _)| key).collect();
    for (at, letter) in letters.iter().enumerate() {
        let folded = fold::unicode(&letter.to_string()).into_owned();
        let is_equal = theirs.contains(format!("{folded}{at}@example.com").as_bytes());
        assert!(
            is_equal || is_newer_than_unicode_15(*letter),
            "U+{:04X} {letter} is {folded} to us",
            u32::from(*letter)
        );
    }
}

/// Letters of Unicode 16 and later, which the ICU of this Postfix (72, Unicode 15) leaves as they are.
fn is_newer_than_unicode_15(letter: char) -> bool {
    matches!(
        u32::from(letter),
        0x1C89 | 0xA7CB..=0xA7CE | 0xA7D2..=0xA7E2 | 0xAB6C..=0xAB6D | 0x10D50..=0x10D65 | 0x16EA0..=0x16EB8 | 0x1DF40..=0x1DF95
    )
}
