//! The way from a script that wrote the table before: what README says of it, row for row and figure for figure.
//!
//! The script's file is made as getadsmtp.pl makes it: every value with `smtp:` or `SMTP:` in front, as it stands in the
//! directory, and ` OK` behind it. Not here: foreign tables as such (`holds`).

mod common;

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::rcptsync::Rcptsync;
use common::write_file;

/// Of an export, what the script prints.
fn script(ldif: &str) -> String {
    let mut table = String::new();
    for line in ldif.replace("\n ", "").lines() {
        let Some((name, value)) = line.split_once(": ") else {
            continue;
        };
        let value = match name {
            "proxyAddresses" => value.to_owned(),
            "proxyAddresses:" => {
                let value = STANDARD.decode(value).expect("an export");
                String::from_utf8(value).expect("a text of the directory")
            }
            _ => continue,
        };
        let address = value.strip_prefix("smtp:").or(value.strip_prefix("SMTP:"));
        table.extend(address.map(|address| format!("{address} OK\n")));
    }
    table
}

/// The sample company in a directory of its own, with a table that the script and a person wrote.
fn installation(by_hand: &str) -> Rcptsync {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/sample");
    let read = |name: &str| std::fs::read_to_string(sample.join(name)).expect("the sample");
    let program = Rcptsync::new("migration");
    program.write_config(&read("rcptsync.toml").replace("../../target/sample/", ""));
    let company = read("company.ldif");
    let table = script(&company);
    assert_eq!(table.lines().count(), 230);
    program.write_settled("company.ldif", &company);
    write_file(&program.table(), format!("{table}{by_hand}"));
    program
}

const BY_HAND: &str =
    "Anna.Berg@Nordwind.Example OK\noldpartner@nordwind.example OK\nscanner@nordwind.example OK\n";

#[test]
fn the_table_of_a_script_is_taken_over() {
    let program = installation(BY_HAND);
    let outcome = program.run_untouching(&["diff"], 65);
    outcome.expect_output(&[
        "232 in force, 198 wanted: 16 added, 6 removed, 0 changed, 44 held",
        "3 rows that no source knows",
        "24 removals would make 15.6 % within the window",
    ]);
    program.run(&["sync"]).expect_code(65);
    let config = std::fs::read_to_string(program.config_file()).expect("the configuration");
    program.write_config(&format!(
        "{config}\n[source.by_hand]\nkind = \"list\"\npath = \"by_hand\"\n"
    ));
    program.write_settled(
        "by_hand",
        "oldpartner@nordwind.example\nscanner@nordwind.example\n",
    );
    let (_, digests) = program.holds();
    program.run(&["sync"]).expect_code(65);
    for digest in digests {
        program.run(&["approve", &digest]).expect_code(0);
    }
    program.run(&["sync"]).expect_code(0);
    let outcome = program.run_untouching(&["diff"], 0);
    outcome.expect_output(&["200 in force, 200 wanted: 0 added, 0 removed, 0 changed, 0 held"]);
    assert!(program.table_keys().contains("scanner@nordwind.example"));
}

#[test]
fn a_file_that_is_an_access_map_too_is_held_whole() {
    let program = installation("user1@nordwind.example 550 User unknown.\n");
    let outcome = program.run_untouching(&["diff"], 65);
    outcome.expect_output(&["the values in this file differ from row to row"]);
}
