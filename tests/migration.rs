//! The way from a script that wrote the table before: what README says of it, row for row and figure for figure.
//!
//! The script's file is made as getadsmtp.pl makes it: every value with `smtp:` or `SMTP:` in front, as it stands in the
//! directory, and ` OK` behind it. Not here: foreign tables as such (`holds`).

mod common;

use std::collections::BTreeMap;
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

/// The figures of `diff`, which must end with this code and touch nothing: in force, wanted, added, removed, held.
#[track_caller]
fn check(program: &Rcptsync, code: i32, expected: [u64; 5]) {
    let report = program
        .run_untouching(&["diff", "--format", "json"], code)
        .json();
    let counts = &report["tables"]["relay_recipients"]["counts"];
    let found =
        ["in_force", "wanted", "added", "removed", "held"].map(|name| counts[name].as_u64());
    assert_eq!(found, expected.map(Some));
}

/// How many rows the holds of each cause have.
fn held(program: &Rcptsync) -> BTreeMap<String, usize> {
    let (holds, _) = program.holds();
    let mut held = BTreeMap::new();
    for hold in holds {
        let cause = hold.split(' ').next().unwrap_or_default().to_owned();
        *held.entry(cause).or_default() += hold.matches(" -").count() + hold.matches(" +").count();
    }
    held
}

#[test]
fn the_table_of_a_script_is_taken_over() {
    let program = installation(BY_HAND);
    check(&program, 65, [232, 198, 16, 6, 44]);
    let expected = [
        ("domain_removed", 17),
        ("foreign_table", 3),
        ("removed_percent_max", 24),
    ];
    assert_eq!(
        held(&program),
        expected
            .map(|(cause, rows)| (cause.to_owned(), rows))
            .into()
    );
    program.run(&["sync"]).expect_code(65);
    let config = std::fs::read_to_string(program.config_file()).expect("the configuration");
    program.write_config(&format!(
        "{config}\n[source.by_hand]\nkind = \"list\"\npath = \"by_hand\"\n"
    ));
    program.write_settled(
        "by_hand",
        "oldpartner@nordwind.example\nscanner@nordwind.example\n",
    );
    program.run(&["sync"]).expect_code(65);
    let (_, digests) = program.holds();
    for digest in digests {
        program.run(&["approve", &digest]).expect_code(0);
    }
    program.run(&["sync"]).expect_code(0);
    check(&program, 0, [200, 200, 0, 0, 0]);
    assert!(program.table_keys().contains("scanner@nordwind.example"));
}

#[test]
fn a_file_that_is_an_access_map_too_is_held_whole() {
    let program = installation("user1@nordwind.example 550 User unknown.\n");
    check(&program, 65, [231, 198, 0, 0, 65]);
    assert_eq!(
        held(&program).into_keys().collect::<Vec<_>>(),
        ["foreign_values"]
    );
}
