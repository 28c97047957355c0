//! What damage to the state directory, foreign files and strange tables mean: told, safe, and healed where it can be.
//!
//! The promise tested everywhere is the same: nothing damaged is taken for a first run, nothing that no run decided is
//! removed, and a run that could do its work leaves nothing damaged behind. Not here: dying in the middle (`crash.rs`).
#![allow(
    clippy::expect_used,
    reason = "a test fails by panicking, and the message says what was expected"
)]

mod common;

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use common::rcptsync::{Outcome, Rcptsync};
use common::{set_mode, write_file};
use rcptsync::state::State;

/// One list, one table in both formats.
fn installation(name: &str, more: &str) -> Rcptsync {
    let program = Rcptsync::new(name);
    configure(&program, "people", more);
    list(&program, &people(0..20));
    program
}

fn configure(program: &Rcptsync, source: &str, more: &str) {
    program.write_config(&format!(
        "state_dir = \"{state}\"\n[domains]\nlist = [\"example.com\"]\n\
         [source.{source}]\nkind = \"list\"\npath = \"{list}\"\n\
         [table.relay_recipients]\npath = \"{table}\"\nformats = [\"text\", \"cdb\"]\nfolding = \"unicode\"\n{more}\n",
        state = program.state_dir().display(),
        list = list_path(program).display(),
        table = program.table().display(),
    ));
}

fn list_path(program: &Rcptsync) -> PathBuf {
    program.directory().join("people.list")
}

fn people(range: std::ops::Range<usize>) -> Vec<String> {
    range
        .map(|number| format!("person{number}@example.com"))
        .collect()
}

/// Writes the list as a file that settled a while ago; a younger one is not believed yet.
fn list(program: &Rcptsync, addresses: &[String]) {
    let path = list_path(program);
    write_file(&path, addresses.join("\n") + "\n");
    let settled = SystemTime::now() - Duration::from_secs(60);
    let file = File::options().write(true).open(path).expect("our list");
    file.set_modified(settled).expect("a time of our own");
}

fn tables(program: &Rcptsync) -> Vec<(Vec<u8>, u64, i64)> {
    [program.table(), program.table_cdb()]
        .iter()
        .map(|path| {
            let metadata = path.symlink_metadata().expect("a table");
            let bytes = std::fs::read(path).expect("a table");
            (bytes, metadata.ino(), metadata.mtime_nsec())
        })
        .collect()
}

fn head_path(program: &Rcptsync) -> PathBuf {
    program.state_dir().join("head.json")
}

fn head(program: &Rcptsync) -> serde_json::Value {
    let text = std::fs::read(head_path(program)).expect("head.json");
    serde_json::from_slice(&text).expect("JSON")
}

/// Files below a part of the state directory.
fn files(program: &Rcptsync, part: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![program.state_dir().join(part)];
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(&directory)
            .into_iter()
            .flatten()
            .flatten()
        {
            if entry.path().is_dir() {
                waiting.push(entry.path());
            } else {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).expect("a file of the state");
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::write(path, bytes).expect("a file of our own");
}

#[track_caller]
fn expect_text(outcome: &Outcome, parts: &[&str]) {
    let said = format!("{}{}", outcome.stdout, outcome.stderr);
    for part in parts {
        assert!(said.contains(part), "{part:?} is missing in:\n{said}");
    }
}

/// A damaged head.json: 78 with the way on, and nothing is touched.
#[track_caller]
fn check_unusable_head(program: &Rcptsync, head: &[u8]) {
    let before = tables(program);
    std::fs::write(head_path(program), head).expect("head.json");
    let outcome = program.run(&["sync"]).expect_code(78);
    expect_text(&outcome, &["head.json.broken", "foreign"]);
    assert_eq!(tables(program), before);
    assert_eq!(std::fs::read(head_path(program)).expect("head.json"), head);
    program.run(&["diff"]).expect_code(78);
    program.run(&["status"]).expect_code(3);
}

#[test]
fn a_damaged_head_stops_every_run() {
    let program = installation("head", "");
    program.run(&["sync"]).expect_code(0);
    let whole = std::fs::read(head_path(&program)).expect("head.json");
    let state = State::view(&program.state_dir());

    for length in 0..whole.len() - 1 {
        std::fs::write(head_path(&program), &whole[..length]).expect("head.json");
        assert!(state.head().is_err(), "cut at {length} of {}", whole.len());
        if length % 500 == 0 {
            check_unusable_head(&program, &whole[..length]);
        }
    }
    for at in 0..whole.len() {
        for bit in [0, 2, 5] {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << bit;
            std::fs::write(head_path(&program), &flipped).expect("head.json");
            // Only the last line end is not covered by anything.
            if at + 1 < whole.len() {
                assert!(
                    state.head().is_err(),
                    "bit {bit} at {at}: {}",
                    String::from_utf8_lossy(&flipped)
                );
            }
            if at % 500 == 0 && bit == 0 {
                check_unusable_head(&program, &flipped);
            }
        }
    }
    let newer = String::from_utf8(whole.clone()).expect("UTF-8");
    let newer = newer.replacen("\"format\": 1", "\"format\": 2", 1);
    check_unusable_head(&program, newer.as_bytes());

    std::fs::write(head_path(&program), whole).expect("head.json");
    program.run(&["sync"]).expect_code(0);
}

#[test]
fn a_missing_head_makes_the_tables_foreign() {
    let hook = "[[hook]]\nname = \"told\"\nrun = [\"/bin/sh\", \"-c\", \"exit 1\"]\n";
    let program = installation("no-head", hook);
    program.run(&["sync"]).expect_code(69);
    let before = tables(&program);
    std::fs::remove_file(head_path(&program)).expect("head.json");
    // One address is gone and nobody knows how many went before: it still is judged, and nothing else happens to it.
    list(&program, &people(0..19));
    let outcome = program.run(&["sync"]);
    expect_text(&outcome, &["head.json is missing"]);
    // What was owed is not forgotten with the head.
    outcome.expect_code(69);
    assert_eq!(program.table_keys().len(), 19);
    list(&program, &people(0..2));
    program.run(&["sync"]).expect_code(65);
    assert_eq!(program.table_keys().len(), 19);

    // The other way round: the tables are as they were, and the hook still is owed.
    list(&program, &people(0..20));
    program.run(&["sync"]).expect_code(69);
    assert_eq!(tables(&program)[0].0, before[0].0);
    std::fs::remove_file(head_path(&program)).expect("head.json");
    program.run(&["sync"]).expect_code(69);
}

/// A head from a backup: no number is used twice, no generation is lost, and a hook that was told more than it says is told
/// of every row.
#[test]
fn a_head_that_was_put_back_goes_on_behind_what_was_published() {
    let program = installation("old-head", "");
    let told = program.directory().join("told");
    let hook = format!(
        "[[hook]]\nname = \"told\"\nrun = [\"/bin/sh\", \"-c\", \"echo $RCPTSYNC_ADDED $RCPTSYNC_GENERATION >>{}\"]\n",
        told.display()
    );
    configure(&program, "people", &hook);
    program.run(&["sync"]).expect_code(0);
    let old = std::fs::read(head_path(&program)).expect("head.json");
    for count in [21, 22] {
        list(&program, &people(0..count));
        program.run(&["sync"]).expect_code(0);
    }
    std::fs::write(head_path(&program), &old).expect("head.json");
    program.run(&["history", "3"]).expect_code(0);
    list(&program, &people(0..23));
    let outcome = program.run(&["sync"]).expect_code(0);
    expect_text(&outcome, &["put back from a backup"]);
    assert_eq!(program.table_keys().len(), 23);
    let lines = std::fs::read_to_string(&told).expect("what the hook was told");
    assert_eq!(lines, "20 1\n1 2\n1 3\n23 5\n");
    let text = program.run(&["history"]).expect_code(0).stdout;
    assert_eq!(text.lines().count(), 6, "{text}");

    // A run that died before it decided left a generation as well, and that is none.
    let next = program.state_dir().join("generation/6");
    {
        let state = State::lock(&program.state_dir()).expect("nobody runs");
        let mut generation = state.generation(5).expect("whole");
        generation.number = 6;
        generation.run = "20261126T033000Z-4711".into();
        state.store_generation(&generation).expect("stored");
    }
    let outcome = program.run(&["sync"]).expect_code(0);
    assert_eq!(outcome.stderr, "");
    assert!(!next.exists());
}

/// A damaged file of the state is told of by the first run, harmless, and whole again after it.
#[track_caller]
fn check_healed(part: &str, told: &str) {
    let program = installation("healed", "");
    program.run(&["sync"]).expect_code(0);
    let before = tables(&program);
    let damaged = files(&program, part);
    assert_eq!(damaged.len(), 1, "{part}");
    flip(&damaged[0]);
    let outcome = program.run(&["sync"]).expect_code(0);
    if !told.is_empty() {
        expect_text(&outcome, &[told]);
    }
    assert_eq!(tables(&program), before, "{part}");
    let outcome = program.run(&["sync"]).expect_code(0);
    assert!(
        outcome.stderr.is_empty(),
        "{part} is still told of: {}",
        outcome.stderr
    );

    // Whole again: the source may fail now, and the table may lose a row, and neither is a surprise.
    std::fs::remove_file(list_path(&program)).expect("the list");
    let outcome = program.run(&["sync"]).expect_code(75);
    expect_text(&outcome, &["20 recipients stay"]);
    assert_eq!(tables(&program), before, "{part}");
}

#[test]
fn damaged_files_of_the_state_are_told_of_and_written_anew() {
    check_healed("source", "");
    check_healed("ledger", "its ledger is lost");
}

#[test]
fn a_source_whose_records_are_lost_holds_every_removal() {
    let program = installation("lost-records", "");
    program.run(&["sync"]).expect_code(0);
    flip(&files(&program, "source")[0]);
    let before = tables(&program);
    std::fs::remove_file(list_path(&program)).expect("the list");
    let outcome = program.run(&["sync"]).expect_code(65);
    expect_text(
        &outcome,
        &["records are lost", "never been read completely"],
    );
    assert_eq!(tables(&program), before);
}

/// Whatever happened to stored records, nothing of them counts, and the source heals them.
#[test]
fn records_that_are_not_whole_never_count() {
    let program = installation("not-whole", "");
    program.run(&["sync"]).expect_code(0);
    let before = tables(&program);
    let base = files(&program, "source").remove(0);
    let whole = std::fs::read(&base).expect("the records");
    let length = whole.len();
    let earlier = [b"rcptsync records 2\n".as_slice(), &whole[19..]].concat();
    let mut flips: Vec<Vec<u8>> = Vec::new();
    for at in [0, 20, 24, length / 2, length - 40, length - 33, length - 1] {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        flips.push(flipped);
    }
    let cuts = [0, 10, 19, length / 2, length - 48, length - 1].map(|at| whole[..at].to_vec());
    for damaged in flips.into_iter().chain(cuts).chain([earlier]) {
        std::fs::write(&base, &damaged).expect("the records");
        let hidden = program.directory().join("hidden.list");
        std::fs::rename(list_path(&program), &hidden).expect("our list");
        let outcome = program.run(&["diff"]).expect_code(65);
        expect_text(&outcome, &["records are lost", "nothing is removed"]);
        let explained = program.run(&["explain", "person1@example.com"]);
        expect_text(&explained, &["are lost"]);
        std::fs::rename(&hidden, list_path(&program)).expect("our list");
    }
    program.run(&["sync"]).expect_code(0);
    assert_eq!(tables(&program), before);
    let healed = files(&program, "source");
    assert_eq!(healed.len(), 1);
    assert_eq!(std::fs::read(&healed[0]).expect("the records"), whole);
}

/// Records that cannot be stored count for nothing: those known before stay, and a dry run needs no place for any.
#[test]
fn records_that_cannot_be_stored_leave_those_before_in_force() {
    let program = installation("not-stored", "");
    program.run(&["sync"]).expect_code(0);
    let before = (tables(&program), files(&program, "source"));
    list(&program, &people(5..25));
    let blocker = program.state_dir().join("source/people/.records-0.new");
    std::fs::create_dir(&blocker).expect("a directory in its place");
    program.run(&["diff"]).expect_code(2);
    let outcome = program.run(&["sync"]).expect_code(73);
    let told = [
        "its records could not be stored",
        "20 recipients stay",
        "state_dir",
    ];
    expect_text(&outcome, &told);
    assert_eq!((tables(&program), files(&program, "source")), before);
    std::fs::remove_dir(&blocker).expect("removed");
    program.run(&["sync"]).expect_code(0);
    assert_eq!(program.table_keys(), people(5..25).into_iter().collect());
}

#[test]
fn a_damaged_hold_is_written_anew_by_the_run_that_finds_it_again() {
    let program = installation("lost-hold", "");
    program.run(&["sync"]).expect_code(0);
    list(&program, &people(0..5));
    program.run(&["sync"]).expect_code(65);
    let hold = files(&program, "hold").remove(0);
    let digest = hold
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    flip(&hold);
    program.run(&["approve", &digest]).expect_code(64);
    program.run(&["sync"]).expect_code(65);
    program.run(&["approve", &digest]).expect_code(0);
    program.run(&["sync"]).expect_code(0);
    assert_eq!(program.table_keys().len(), 5);
}

#[test]
fn a_damaged_generation_costs_history_alone() {
    let program = installation("lost-generation", "");
    program.run(&["sync"]).expect_code(0);
    flip(&files(&program, "generation")[0]);
    program.run(&["history"]).expect_code(0);
    program.run(&["history", "1"]).expect_code(64);
    program
        .run(&["explain", "person1@example.com"])
        .expect_code(0);
    list(&program, &people(0..21));
    program.run(&["sync"]).expect_code(0);
    assert_eq!(program.table_keys().len(), 21);
}

#[test]
fn a_damaged_record_of_runs_is_carried_on() {
    let program = installation("runs", "");
    program.run(&["sync"]).expect_code(0);
    let runs = program.state_dir().join("runs.jsonl");
    // A run that died while it wrote its line, and a disk that garbled it.
    let mut bytes = std::fs::read(&runs).expect("runs");
    bytes.extend_from_slice(b"{\"id\": \"\xff\xfe");
    std::fs::write(&runs, bytes).expect("runs");
    program.run(&["sync"]).expect_code(0);
    let status = program
        .run(&["status", "--format", "json"])
        .expect_code(0)
        .json();
    assert_eq!(status["runs"].as_array().map(Vec::len), Some(2), "{status}");
}

#[test]
fn one_run_at_a_time() {
    let program = installation("locked", "");
    program.run(&["sync"]).expect_code(0);
    let before = tables(&program);
    let lock = OpenOptions::new()
        .write(true)
        .open(program.state_dir().join("lock"))
        .expect("the lock");
    lock.try_lock().expect("nobody runs");
    list(&program, &people(0..21));
    program.run(&["sync"]).expect_code(74);
    program.run(&["approve", "0123456789"]).expect_code(74);
    program.run(&["diff"]).expect_code(2);
    program.run(&["status"]).expect_code(0);
    assert_eq!(tables(&program), before);
    drop(lock);
    program.run(&["sync"]).expect_code(0);
}

#[test]
fn a_link_or_a_directory_is_no_table() {
    let program = installation("links", "");
    program.run(&["sync"]).expect_code(0);
    let cdb = program.table_cdb();
    let elsewhere = program.directory().join("elsewhere.cdb");
    list(&program, &people(0..21));

    std::fs::rename(&cdb, &elsewhere).expect("moved");
    let before = std::fs::read(&elsewhere).expect("a table");
    std::os::unix::fs::symlink(&elsewhere, &cdb).expect("a link");
    let outcome = program.run(&["sync"]).expect_code(73);
    expect_text(&outcome, &["symbolic link"]);
    assert!(cdb.is_symlink());
    assert_eq!(std::fs::read(&elsewhere).expect("a table"), before);

    std::fs::remove_file(&cdb).expect("the link");
    std::fs::create_dir(&cdb).expect("a directory");
    let outcome = program.run(&["sync"]).expect_code(73);
    expect_text(&outcome, &["not a regular file"]);
    std::fs::remove_dir(&cdb).expect("the directory");

    // A second name keeps the old content; the table itself is new.
    std::fs::hard_link(&elsewhere, &cdb).expect("a second name");
    let outcome = program.run(&["sync"]).expect_code(0);
    expect_text(&outcome, &["hard link"]);
    assert_eq!(std::fs::read(&elsewhere).expect("a table"), before);
    assert_ne!(std::fs::read(&cdb).expect("a table"), before);
    assert_eq!(program.table_keys().len(), 21);
}

#[test]
fn what_dead_runs_left_is_removed() {
    let program = installation("leftovers", "");
    program.run(&["sync"]).expect_code(0);
    let table_directory = program.directory().join("tables");
    let state = program.state_dir();
    let left = [
        table_directory.join(".relay_recipients.rcptsync-new"),
        table_directory.join(".relay_recipients.cdb.rcptsync-new"),
        state.join("source/people/base-99"),
        state.join("source/people/.base-99.new"),
        state.join("source/people/.records-0.new"),
        state.join("source/people/.records-7.new"),
        state.join("ledger/relay_recipients-99"),
        state.join("hold/0123456789abcdef"),
        state.join("generation/2"),
        state.join("generation/2.original.relay_recipients.text"),
        state.join("generation/.2.new"),
        state.join(".head.json.new"),
        state.join(".runs.jsonl.new"),
    ];
    for path in &left {
        write_file(path, "left over");
    }
    program.run(&["sync"]).expect_code(0);
    for path in &left {
        assert!(!path.exists(), "{}", path.display());
    }
    program.run(&["history", "1"]).expect_code(0);
}

#[test]
fn the_state_is_private_and_of_one_account() {
    let program = installation("private", "");
    let state = program.directory().join("deep/state");
    let config = |state: &Path| {
        program.write_config(&format!(
            "state_dir = \"{}\"\n[domains]\nlist = [\"example.com\"]\n[source.people]\nkind = \"list\"\npath = \"{}\"\n\
             [table.t]\npath = \"{}\"\nformats = [\"cdb\"]\nfolding = \"unicode\"\n",
            state.display(),
            list_path(&program).display(),
            program.table().display(),
        ));
    };
    config(&state);
    program.run(&["sync"]).expect_code(0);
    let mode = |path: &Path| path.metadata().expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&state), 0o700);
    // Tables may lie beside the state; their readers must get through.
    assert_eq!(mode(&program.directory().join("deep")), 0o755);

    set_mode(&state, 0o755);
    let outcome = program.run(&["sync"]).expect_code(0);
    expect_text(&outcome, &["open to other accounts"]);
    assert_eq!(mode(&state), 0o700);

    // A directory that is somebody else's home is not made private by a slip in the configuration.
    let shared = program.directory().join("shared");
    write_file(&shared.join("of-somebody"), "else");
    set_mode(&shared, 0o755);
    config(&shared);
    program.run(&["sync"]).expect_code(78);
    assert_eq!(mode(&shared), 0o755);
    let file = program.directory().join("a-file");
    write_file(&file, "no directory");
    set_mode(&file, 0o644);
    config(&file);
    program.run(&["sync"]).expect_code(78);
    assert_eq!(mode(&file), 0o644);

    if common::require_root() {
        config(&state);
        std::os::unix::fs::chown(&state, Some(65_534), None).expect("chown");
        let outcome = program.run(&["sync"]).expect_code(77);
        expect_text(&outcome, &["sudo -u"]);
    }
}

#[test]
fn a_table_edited_into_another_kind_of_map_is_left_alone_for_good() {
    let program = installation("values", "");
    program.run(&["sync"]).expect_code(0);
    let text = std::fs::read_to_string(program.table()).expect("the text");
    let edited = text.replacen("person3@example.com OK", "person3@example.com REJECT", 1);
    std::fs::write(program.table(), &edited).expect("the text");
    for run in 0..3 {
        let outcome = program.run(&["sync"]);
        expect_text(&outcome, &["values in this file differ"]);
        outcome.expect_code(65);
        let now = std::fs::read_to_string(program.table()).expect("the text");
        assert_eq!(now, edited, "run {run}");
    }
    // Kept once, not once a run.
    let originals = files(&program, "generation");
    let originals = originals
        .iter()
        .filter(|path| path.to_string_lossy().contains("original"));
    assert_eq!(originals.count(), 1);
}

#[test]
fn keys_of_a_foreign_index_that_a_text_cannot_say_stop_nothing() {
    let program = installation("odd-keys", "");
    let mut keys = people(0..20);
    keys.extend(
        [
            "Known@Example.com",
            "two\nlines@example.com OK\n@example.com",
            " a@example.com",
            "a\0b@example.com",
            "#hash@example.com",
            "\"open@example.com",
            "lonely key@example.com",
        ]
        .map(String::from),
    );
    let mut writer =
        cdb::CDBWriter::create(program.table_cdb().display().to_string()).expect("a CDB");
    for key in &keys {
        writer.add(key.as_bytes(), b"OK").expect("a row");
    }
    writer.finish().expect("a CDB");
    // The strange rows wait; everybody else gets through.
    list(&program, &people(0..21));
    program.run(&["sync"]).expect_code(65);
    let wanted: BTreeSet<String> = people(0..21).into_iter().collect();
    assert_eq!(program.table_keys(), wanted);
    program.run(&["sync"]).expect_code(65);
}

#[test]
fn a_renamed_source_is_forgotten_when_nothing_is_its_own_any_more() {
    let program = installation("renamed", "");
    program.run(&["sync"]).expect_code(0);
    configure(&program, "staff", "");
    program.run(&["sync"]).expect_code(0);
    let report = program
        .run(&["diff", "--format", "json"])
        .expect_code(0)
        .json();
    let names: Vec<&String> = report["sources"]
        .as_object()
        .expect("sources")
        .keys()
        .collect();
    assert_eq!(names, ["staff"]);
}

#[test]
fn a_removed_domain_keeps_its_postmaster_while_it_waits() {
    let program = installation("domain", "");
    let config = |domains: &str| {
        program.write_config(&format!(
            "state_dir = \"{}\"\n[domains]\nlist = [{domains}]\n[recipients]\nalways = [\"postmaster\"]\n\
             [source.people]\nkind = \"list\"\npath = \"{}\"\n\
             [table.t]\npath = \"{}\"\nformats = [\"text\"]\nfolding = \"unicode\"\n",
            program.state_dir().display(),
            list_path(&program).display(),
            program.table().display(),
        ));
    };
    config("\"example.com\", \"example.net\"");
    let mut all = people(0..20);
    all.push("a@example.net".to_owned());
    list(&program, &all);
    program.run(&["sync"]).expect_code(0);
    config("\"example.com\"");
    program.run(&["sync"]).expect_code(65);
    for key in ["a@example.net", "postmaster@example.net"] {
        assert!(program.table_keys().contains(key), "{key}");
    }
}

#[test]
fn a_table_that_moves_over_a_file_of_its_own_adopts_it() {
    let program = installation("moved", "");
    program.run(&["sync"]).expect_code(0);
    let head_before = head(&program);
    let moved = program.directory().join("tables/moved");
    for suffix in ["", ".cdb"] {
        let from = program
            .directory()
            .join(format!("tables/relay_recipients{suffix}"));
        std::fs::rename(from, format!("{}{suffix}", moved.display())).expect("moved");
    }
    program.write_config(&format!(
        "state_dir = \"{}\"\n[domains]\nlist = [\"example.com\"]\n[source.people]\nkind = \"list\"\npath = \"{}\"\n\
         [table.relay_recipients]\npath = \"{}\"\nformats = [\"text\", \"cdb\"]\nfolding = \"unicode\"\n",
        program.state_dir().display(),
        list_path(&program).display(),
        moved.display(),
    ));
    program.run(&["sync"]).expect_code(0);
    let head = head(&program);
    assert_eq!(head["generation"], head_before["generation"]);
    let paths: Vec<&str> = head["tables"]["relay_recipients"]["artefacts"]
        .as_array()
        .expect("artefacts")
        .iter()
        .filter_map(|artefact| artefact["path"].as_str())
        .collect();
    let moved = moved.display().to_string();
    assert_eq!(paths, [moved.clone(), format!("{moved}.cdb")]);
}

/// As a run leaves it that died between its decision to publish 21 rows and the renames: the tables of 20 are in force.
fn died_before_its_renames(name: &str) -> Rcptsync {
    let program = installation(name, "");
    program.run(&["sync"]).expect_code(0);
    let paths = [program.table(), program.table_cdb()];
    let old: Vec<Vec<u8>> = paths
        .iter()
        .map(|path| std::fs::read(path).expect("a table"))
        .collect();
    list(&program, &people(0..21));
    program.run(&["sync"]).expect_code(0);
    let state = State::lock(&program.state_dir()).expect("the lock");
    let mut head = state.head().expect("head.json");
    for (path, old) in paths.iter().zip(old) {
        let name = path.file_name().expect("a name").to_string_lossy();
        let temporary = path.with_file_name(format!(".{name}.rcptsync-new"));
        std::fs::rename(path, &temporary).expect("renamed");
        std::fs::write(path, &old).expect("a table");
        let known = head.tables.get_mut("relay_recipients").expect("the table");
        let place = path.display().to_string();
        for artefact in known
            .artefacts
            .iter_mut()
            .filter(|artefact| artefact.path == place)
        {
            head.pending.push(rcptsync::state::head::PendingRename {
                table: "relay_recipients".to_owned(),
                format: artefact.format,
                path: place.clone(),
                digest: std::mem::replace(&mut artefact.digest, rcptsync::state::digest(&old)),
                made_with: String::new(),
            });
            artefact.stamp = rcptsync::state::head::Stamp::default();
        }
    }
    state.store_head(&head).expect("head.json");
    program
}

#[test]
fn what_was_decided_is_finished() {
    let program = died_before_its_renames("decided");
    // The source is away: the decision alone says what to do.
    std::fs::remove_file(list_path(&program)).expect("the list");
    program.run(&["status"]).expect_code(1);
    program.run(&["sync"]).expect_code(75);
    assert_eq!(program.table_keys().len(), 21);
    // The temporary files are gone too: the ledger says it.
    let program = died_before_its_renames("decided-ledger");
    for name in [
        ".relay_recipients.rcptsync-new",
        ".relay_recipients.cdb.rcptsync-new",
    ] {
        std::fs::remove_file(program.directory().join("tables").join(name)).expect("left over");
    }
    std::fs::remove_file(list_path(&program)).expect("the list");
    program.run(&["sync"]).expect_code(75);
    assert_eq!(program.table_keys().len(), 21);
}

#[test]
fn a_table_edited_after_a_run_died_is_not_overwritten_unseen() {
    let program = died_before_its_renames("edited");
    let mut edited = std::fs::read(program.table()).expect("the text");
    edited.extend_from_slice(b"stranger@example.com OK\n");
    std::fs::write(program.table(), &edited).expect("the text");
    program.run(&["sync"]).expect_code(65);
    assert!(program.table_keys().contains("stranger@example.com"));
    assert_eq!(program.table_keys().len(), 22);
    let kept = files(&program, "generation");
    assert!(
        kept.iter()
            .any(|path| std::fs::read(path).is_ok_and(|bytes| bytes == edited))
    );
}

#[test]
fn a_link_made_after_a_run_died_is_not_replaced() {
    let program = died_before_its_renames("linked");
    let elsewhere = program.directory().join("elsewhere");
    std::fs::rename(program.table(), &elsewhere).expect("moved");
    std::os::unix::fs::symlink(&elsewhere, program.table()).expect("a link");
    program.run(&["sync"]).expect_code(73);
    assert!(program.table().is_symlink());
}

#[test]
fn a_table_dropped_while_a_rename_was_owed_is_compared_when_it_comes_back() {
    let program = died_before_its_renames("dropped");
    let config = program.directory().join("rcptsync.toml");
    let with_table = std::fs::read_to_string(&config).expect("the configuration");
    program.write_config(
        &with_table
            .replace("[table.relay_recipients]", "[table.other]")
            .replace("tables/relay_recipients", "tables/other"),
    );
    program.run(&["sync"]).expect_code(0);
    assert!(
        !program
            .directory()
            .join("tables/.relay_recipients.rcptsync-new")
            .exists()
    );
    assert_eq!(program.table_keys().len(), 20);
    program.write_config(&with_table);
    program.run(&["sync"]).expect_code(0);
    assert_eq!(program.table_keys().len(), 21);
}

#[test]
fn holds_that_change_with_every_run_do_not_pile_up() {
    let program = installation("holds", "");
    list(&program, &people(0..60));
    program.run(&["sync"]).expect_code(0);
    for gone in 0..28 {
        list(&program, &people(0..29 - gone));
        program.run(&["sync"]).expect_code(65);
    }
    assert_eq!(program.table_keys().len(), 60);
    // The present one, and enough past ones for somebody who reads about one an hour later.
    assert_eq!(files(&program, "hold").len(), 25);
    // The oldest of those still can be approved, and the run after it judges the rest.
    let head = head(&program);
    let holds = head["holds"].as_object().expect("holds");
    let smallest = holds
        .iter()
        .min_by_key(|(_, hold)| hold["removed_count"].as_u64());
    let digest = smallest.expect("a hold").0;
    program.run(&["approve", digest]).expect_code(0);
    program.run(&["sync"]);
    assert!(program.table_keys().len() < 60);
}

#[test]
fn a_hook_whose_difference_is_lost_is_told_of_every_row() {
    let script = "test ! -e $0.away && cat >$0.told";
    let program = installation("told", "");
    let flag = program.directory().join("hook");
    let hook = format!(
        "[[hook]]\nname = \"told\"\ninput = \"json\"\nrun = [\"/bin/sh\", \"-c\", \"{script}\", \"{}\"]\n",
        flag.display()
    );
    configure(&program, "people", &hook);
    program.run(&["sync"]).expect_code(0);
    write_file(&flag.with_extension("away"), "");
    list(&program, &people(0..21));
    program.run(&["sync"]).expect_code(69);
    flip(&program.state_dir().join("generation/2"));
    std::fs::remove_file(flag.with_extension("away")).expect("the flag");
    let outcome = program.run(&["sync"]).expect_code(0);
    expect_text(&outcome, &["generation 2 is lost"]);
    let told = std::fs::read(flag.with_extension("told")).expect("what the hook was told");
    let told: serde_json::Value = serde_json::from_slice(&told).expect("JSON");
    let added = told["tables"]["relay_recipients"]["added"].as_array();
    assert_eq!(added.map(Vec::len), Some(21), "{told}");
}
