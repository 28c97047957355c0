//! The life of a hold through the command line: how it comes, what it names, how it goes; foreign tables and grace.

mod common;

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use common::plain::STAFF;
use common::rcptsync::Rcptsync;
use common::{poll_until, process, require, write_file};
use rcptsync::config::Format;
use rcptsync::state::State;
use rcptsync::table::format::{self, Said};
use rcptsync::table::rows::{Facts, RowsBuilder};
use rcptsync::table::value::RowValues;

/// `a0 a1 …`, from one number to before another.
fn many(from: usize, to: usize) -> String {
    let names: Vec<String> = (from..to).map(|number| format!("a{number}")).collect();
    names.join(" ")
}

fn count(program: &Rcptsync) -> usize {
    program.table_keys().len()
}

#[track_caller]
fn approve(program: &Rcptsync, digest: &str) {
    let outcome = program.run_untouching(&["approve", digest], 0);
    outcome.expect_output(&[
        "approved: ",
        "the next run applies those that are still wanted",
    ]);
}

/// From these local parts to those, under these limits: the holds that come, and what is in force with them; then that
/// they go by themselves with their cause, and by approval.
#[track_caller]
fn check(before: &str, more: &str, after: &str, holds: &[&str], keys: &str) {
    let program = Rcptsync::plain("hold", STAFF, "");
    program.configure(&["example.com", "example.org"], STAFF, "");
    program.staff(before);
    program.run(&["sync"]).expect_code(0);
    program.configure(&["example.com", "example.org"], STAFF, more);
    program.staff(after);
    program.run_untouching(&["diff"], 65);
    for _ in 0..2 {
        program
            .run(&["sync"])
            .expect_code(65)
            .expect_output(&["release: rcptsync approve "]);
        assert_eq!(program.keys(), keys);
        assert_eq!(program.holds().0, holds);
    }
    program.run(&["status"]).expect_code(1).expect_output(&[
        "RCPTSYNC WARNING",
        "  held  ",
        "release: rcptsync approve ",
    ]);
    for digest in program.holds().1 {
        approve(&program, &digest);
    }
    program
        .run(&["status"])
        .expect_code(0)
        .expect_output(&["  approved  "]);
    program.run(&["sync"]).expect_code(0);
    let mut wanted: Vec<&str> = after.split(' ').collect();
    wanted.sort_by_key(|name| {
        if name.contains('@') {
            (*name).to_owned()
        } else {
            format!("{name}@example.com")
        }
    });
    assert_eq!(program.keys(), wanted.join(" "));
    program.run_untouching(&["sync"], 0);
}

#[test]
fn what_is_too_much_waits_and_everything_else_flows() {
    let four = "anna bob carl dora";
    check(
        four,
        "",
        "anna dora",
        &["domain_halved example.com: -bob -carl"],
        four,
    );
    check(
        four,
        "",
        "anna eve",
        &["domain_halved example.com: -bob -carl -dora"],
        "anna bob carl dora eve",
    );
}

#[test]
fn each_limit_has_its_hold() {
    let four = "anna bob carl dora";
    // One domain does not stop the leavers of the other.
    check(
        "anna bob carl dora x@example.org",
        "",
        "anna bob carl",
        &["domain_emptied example.org: -x@example.org"],
        "anna bob carl x@example.org",
    );
    check(
        four,
        "[guard]\nremoved_floor = 0\nremoved_percent_max = 20\n",
        "anna bob carl",
        &["removed_percent_max example.com: -dora"],
        four,
    );
    check(
        four,
        "[guard]\nadded_floor = 1\nadded_percent_max = 25\n",
        "anna bob carl eve fred",
        &["added_percent_max relay_recipients: +eve +fred"],
        "anna bob carl",
    );
    // A missing canary means that the read is at fault, so that no removal is believed; additions are.
    check(
        four,
        "[guard]\nmust_contain = [\"dora@example.com\"]\n",
        "anna bob eve",
        &["must_contain dora@example.com: -carl -dora"],
        "anna bob carl dora eve",
    );
    check(
        four,
        "[guard]\nrecipients_min = 4\n",
        "anna bob carl",
        &["recipients_min relay_recipients: -dora"],
        four,
    );
}

#[test]
fn a_slow_drain_is_a_drain() {
    let program = Rcptsync::plain("drain", STAFF, "");
    program.staff(&many(0, 100));
    program.run(&["sync"]).expect_code(0);
    for (from, code, rows) in [
        (4, 0, 96),
        (8, 0, 92),
        (12, 65, 92),
        (16, 65, 92),
        (10, 0, 90),
        (14, 65, 90),
    ] {
        program.staff(&many(from, 100));
        program.run(&["sync"]).expect_code(code);
        assert_eq!(count(&program), rows, "without the first {from}");
    }
    // Five wait; ten went unnoticed before them, and what is approved now is not counted later.
    let (holds, digests) = program.holds();
    assert_eq!(
        holds,
        ["removed_percent_max example.com: -a10 -a11 -a12 -a13"]
    );
    program
        .run(&["diff"])
        .expect_code(65)
        .expect_output(&["4 removals would make 14.0 % within the window, 5 % are allowed"]);
    approve(&program, &digests[0]);
    program.run(&["sync"]).expect_code(0);
    assert_eq!(count(&program), 86);
    program.staff(&many(15, 100));
    program.run_untouching(&["sync"], 65);
    // With time the window moves on.
    let config = std::fs::read_to_string(program.config_file()).expect("our own file");
    program.write_config(&format!("{config}[guard]\nwindow = \"1s\"\n"));
    poll_until(Duration::from_secs(10), "the window to pass", || {
        (program.run(&["sync"]).code == Some(0)).then_some(())
    });
    assert_eq!(count(&program), 85);
}

#[test]
fn an_approval_releases_what_it_names_and_nothing_else() {
    let program = Rcptsync::plain("approve", STAFF, "");
    program.staff(&many(0, 100));
    program.run(&["sync"]).expect_code(0);
    program.staff(&many(20, 100));
    // A look does not make a hold that can be approved.
    let (_, looked_at) = program.holds();
    program.run_untouching(&["approve", &looked_at[0]], 64);
    program.run_untouching(&["sync"], 65);
    let (_, first) = program.holds();
    assert_eq!(first, looked_at);
    // The directory moves on: a0 is back, 20 more are gone.
    program.staff(&format!("a0 {}", many(40, 100)));
    program.run_untouching(&["sync"], 65);
    let (_, second) = program.holds();
    assert_ne!(first, second);
    // In capitals, and its beginning alone.
    approve(&program, &first[0][..10].to_ascii_uppercase());
    program.run(&["sync"]).expect_code(65);
    let rows = program.table_keys();
    assert_eq!(rows.len(), 81);
    assert!(
        rows.contains("a0@example.com")
            && !rows.contains("a1@example.com")
            && rows.contains("a20@example.com")
    );
    let (holds, third) = program.holds();
    assert_eq!(
        holds,
        [format!(
            "removed_percent_max example.com:{}",
            many(20, 40).replace('a', " -a").replace("  ", " ")
        )]
    );
    // Taken back by the directory, the hold is gone; its digest is still known for a day.
    program.staff(&format!("a0 {}", many(20, 100)));
    program.run_untouching(&["sync"], 0);
    program.run_untouching(&["status"], 0);
    approve(&program, &third[0]);
    program.run_untouching(&["sync"], 0);
    // An approval lapses after a day.
    let state = State::lock(&program.state_dir()).expect("nobody else runs");
    let mut head = state.head().expect("a head");
    for hold in head.holds.values_mut() {
        let a_day = Duration::from_secs(86_401);
        hold.approved_at = hold.approved_at.map(|at| at.before(a_day));
        hold.last_seen = hold.last_seen.before(a_day);
    }
    state.store_head(&head).expect("stored");
    drop(state);
    program.staff(&format!("a0 {}", many(40, 100)));
    program.run_untouching(&["sync"], 65);
    program
        .run_untouching(&["approve", &first[0]], 64)
        .expect_answers(&["no hold of the last 24 hours"]);
    assert_eq!(
        program
            .run(&["history", "--format", "json"])
            .json()
            .as_array()
            .map(Vec::len),
        Some(2)
    );
}

#[test]
fn a_small_domain_drains_no_better() {
    let program = Rcptsync::plain("small-drain", STAFF, "");
    let domains = ["example.com", "example.org"];
    program.configure(&domains, STAFF, "");
    let org = |count: usize| -> String {
        let names = (0..count).map(|number| format!(" o{number}@example.org"));
        names.collect()
    };
    let sync = |com: usize, of_org: usize, code: i32, rows: usize| {
        program.staff(&format!("{}{}", many(0, com), org(of_org)));
        program.run(&["sync"]).expect_code(code);
        assert_eq!(count(&program), rows, "{com} and {of_org}");
    };
    sync(8, 3, 0, 11);
    // Half of eight is four, whether at once or one by one.
    sync(7, 2, 0, 9);
    sync(6, 1, 0, 7);
    sync(5, 1, 0, 6);
    sync(4, 1, 65, 6);
    assert_eq!(program.holds().0, ["domain_halved example.com: -a4"]);
    sync(5, 0, 65, 6);
    assert_eq!(
        program.holds().0,
        ["domain_emptied example.org: -o0@example.org"]
    );
    sync(5, 1, 0, 6);
}

/// The originals of foreign files, oldest first.
fn originals(program: &Rcptsync) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(program.state_dir().join("generation")).expect("generations");
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.retain(|path| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().contains("relay_recipients"))
    });
    paths.sort();
    paths
}

#[test]
fn a_hand_made_table_is_taken_over_and_what_is_strange_in_it_held() {
    let text = "# made by hand\nanna@example.com OK\nBOB@Example.com   OK\nold@example.com OK\n@example.com OK\n\
                x@elsewhere.example OK\nleft@example.com OK\n";
    for has_index in [false, true] {
        if has_index && !require("cdb") {
            return;
        }
        let program = Rcptsync::plain(
            "foreign",
            STAFF,
            "[recipients]\nexclude = [\"left@example.com\"]\n",
        );
        program.staff("anna bob carl left");
        write_file(&program.table(), text);
        if has_index {
            let rows = program.directory().join("rows");
            write_file(
                &rows,
                text.replace("# made by hand\n", "")
                    .replace("BOB@Example.com   OK", "bob@example.com OK"),
            );
            process::succeed(
                process::command("cdb")
                    .arg("-c")
                    .arg("-m")
                    .arg(program.table_cdb())
                    .arg(&rows),
            );
        }
        let index = std::fs::read(program.table_cdb()).ok();
        program.run_untouching(&["diff"], 65);
        program.run(&["sync"]).expect_code(65);
        // What a source knows and the rules leave out goes; what nobody knows stays.
        assert_eq!(
            program.keys(),
            "@example.com anna bob carl old x@elsewhere.example"
        );
        let (holds, digests) = program.holds();
        assert_eq!(
            holds,
            ["foreign_table relay_recipients: -@example.com -old -x@elsewhere.example"]
        );
        let kept = originals(&program);
        let is_kept = |original: &[u8]| {
            kept.iter()
                .any(|path| std::fs::read(path).expect("kept") == original)
        };
        assert!(is_kept(text.as_bytes()));
        assert!(index.is_none_or(|index| is_kept(&index)));
        assert_eq!(kept.len(), 1 + usize::from(has_index), "{kept:?}");
        for (address, code, parts) in [
            ("anna@example.com", 0, &["accepted", "counts"][..]),
            (
                "old@example.com",
                0,
                &[
                    "accepted",
                    "foreign",
                    "made by hand",
                    "held",
                    "its removal waits: foreign_table",
                ],
            ),
            ("anybody@example.com", 0, &["by the row @example.com"]),
            (
                "left@example.com",
                0,
                &["by the row @example.com", "left out"],
            ),
        ] {
            program
                .run_untouching(&["explain", address], code)
                .expect_output(parts);
        }
        program
            .run(&["history"])
            .expect_code(0)
            .expect_output(&["   6  found a file that rcptsync had not written"]);
        program.run_untouching(&["sync"], 65);
        // A source that knows it from now on makes it its own.
        program.staff("anna bob carl left old");
        program.run(&["sync"]).expect_code(65);
        assert_ne!(program.holds().1, digests);
        approve(&program, &program.holds().1[0]);
        program.run(&["sync"]).expect_code(0);
        assert_eq!(program.keys(), "anna bob carl old");
        program
            .run_untouching(&["explain", "x@elsewhere.example"], 1)
            .expect_output(&["refused", "gone with generation"]);
        program
            .run_untouching(&["explain", "left@example.com"], 1)
            .expect_output(&["refused", "left out"]);
        program.run_untouching(&["sync"], 0);
    }
}

#[test]
fn a_hand_made_table_that_is_right_is_not_touched() {
    let program = Rcptsync::plain("same", STAFF, "");
    program.staff("anna bob");
    write_file(
        &program.table(),
        "# ours\n\nbob@example.com OK\nANNA@example.com\tOK\n",
    );
    let metadata = || {
        let metadata = program.table().metadata().expect("it is there");
        (metadata.ino(), metadata.mtime_nsec(), metadata.size())
    };
    let before = metadata();
    program.run(&["sync"]).expect_code(0);
    assert_eq!(metadata(), before);
    assert!(program.table_cdb().exists());
    program.run_untouching(&["sync"], 0);
    program.staff("anna bob carl");
    program.run(&["sync"]).expect_code(0);
    assert_eq!(program.keys(), "anna bob carl");
}

#[test]
fn values_that_vary_are_not_ours_to_change() {
    let text = "anna@example.com OK\nbob@example.com REJECT gone away\n";
    let program = Rcptsync::plain("values", STAFF, "");
    program.staff("anna bob carl");
    write_file(&program.table(), text);
    for _ in 0..3 {
        program
            .run_untouching(&["sync"], 65)
            .expect_output(&["the values in this file differ from row to row"]);
    }
    let (holds, digests) = program.holds();
    assert_eq!(holds, ["foreign_values relay_recipients: +carl"]);
    assert_eq!(originals(&program).len(), 1);
    approve(&program, &digests[0]);
    program.run(&["sync"]).expect_code(0);
    assert_eq!(program.keys(), "anna bob carl");
    program.run_untouching(&["sync"], 0);

    // The same when somebody edits a table of ours later.
    let program = Rcptsync::plain("values-later", STAFF, "");
    program.staff("anna bob");
    program.run(&["sync"]).expect_code(0);
    write_file(&program.table(), text);
    program.staff("anna bob carl");
    for _ in 0..3 {
        program
            .run_untouching(&["sync"], 65)
            .expect_output(&["the values in this file differ from row to row"]);
    }
    assert_eq!(
        std::fs::read(&originals(&program)[0]).expect("kept"),
        text.as_bytes()
    );
    // Taken back by hand, it is ours again.
    write_file(
        &program.table(),
        "anna@example.com OK\nbob@example.com OK\n",
    );
    program.run(&["sync"]).expect_code(0);
    assert_eq!(program.keys(), "anna bob carl");

    // One other value for all rows is a matter of taste, not another kind of map.
    let program = Rcptsync::plain("value", STAFF, "");
    program.staff("anna bob");
    write_file(&program.table(), "anna@example.com x\nbob@example.com x\n");
    program
        .run(&["sync"])
        .expect_code(0)
        .expect_output(&["~ anna@example.com x -> OK"]);
    assert_eq!(program.keys(), "anna bob");
}

#[test]
fn a_table_edited_by_hand_later_is_told_and_mended() {
    let published = || {
        let program = Rcptsync::plain("edited", STAFF, "");
        program.staff("anna bob carl");
        program.run(&["sync"]).expect_code(0);
        program
    };
    // A row more waits for somebody to say whose it is, also when other rows come and go.
    let program = published();
    let text = std::fs::read_to_string(program.table()).expect("a table");
    write_file(&program.table(), format!("{text}guest@example.com OK\n"));
    program.run(&["sync"]).expect_code(65);
    program.run_untouching(&["sync"], 65);
    assert_eq!(
        program.holds().0,
        ["foreign_table relay_recipients: -guest"]
    );
    program.staff("anna bob dora");
    program.run(&["sync"]).expect_code(65);
    assert_eq!(program.keys(), "anna bob dora guest");
    program
        .run_untouching(&["explain", "guest@example.com"], 1)
        .expect_output(&["foreign", "the text of relay_recipients has it, but"]);
    let cdb = std::fs::read(program.table_cdb()).expect("a table");
    assert!(!String::from_utf8_lossy(&cdb).contains("guest"));
    approve(&program, &program.holds().1[0]);
    program.run(&["sync"]).expect_code(0);
    assert_eq!(program.keys(), "anna bob dora");
    // A row less comes back; a file that is gone or broken, too.
    for damage in ["anna@example.com OK\n", "", "\0"] {
        for path in [Rcptsync::table, Rcptsync::table_cdb] {
            let program = published();
            let before = std::fs::read(path(&program)).expect("a table");
            write_file(&path(&program), damage);
            program.run_untouching(&["diff"], 2);
            program.run(&["sync"]).expect_code(0);
            assert_eq!(
                std::fs::read(path(&program)).expect("a table"),
                before,
                "{damage:?}"
            );
            std::fs::remove_file(path(&program)).expect("removed");
            program
                .run_untouching(&["diff"], 2)
                .expect_output(&["written anew, with the same rows"]);
            program.run(&["sync"]).expect_code(0);
            assert_eq!(std::fs::read(path(&program)).expect("a table"), before);
            program.run_untouching(&["sync"], 0);
        }
    }
    // The times alone are no edit.
    let program = published();
    write_file(
        &program.table(),
        std::fs::read(program.table()).expect("a table"),
    );
    program.run_untouching(&["sync"], 0);
}

/// A wildcard written into one file waits there: no change of other rows carries it into the other file.
#[test]
fn what_waits_in_one_file_is_not_copied_into_another() {
    for (edited, other) in [
        (
            Rcptsync::table as fn(&Rcptsync) -> PathBuf,
            Rcptsync::table_cdb as fn(&Rcptsync) -> PathBuf,
        ),
        (Rcptsync::table_cdb, Rcptsync::table),
    ] {
        let program = Rcptsync::plain("one-file", STAFF, "");
        program.staff("anna bob carl");
        program.run(&["sync"]).expect_code(0);
        let format = if edited(&program) == program.table() {
            Format::Text
        } else {
            Format::Cdb
        };
        let mut rows = RowsBuilder::default();
        for key in [
            "@example.com",
            "anna@example.com",
            "bob@example.com",
            "carl@example.com",
        ] {
            rows.push(key.as_bytes(), Facts::default());
        }
        let rows = rows.finish();
        let mut bytes = Vec::new();
        format::render(
            &Said::of(format, &rows),
            &RowValues::alike("OK"),
            &mut bytes,
        )
        .expect("small enough");
        write_file(&edited(&program), bytes);
        let has_wildcard = |path: PathBuf| {
            let bytes = std::fs::read(path).expect("a table");
            // In a text at the beginning of a line; in a CDB behind the lengths of key and value.
            let needles = [
                &b"\n@example.com"[..],
                &b"\x0c\0\0\0\x02\0\0\0@example.com"[..],
            ];
            needles
                .iter()
                .any(|needle| bytes.windows(needle.len()).any(|some| some == *needle))
        };
        for names in ["anna bob carl dora", "anna bob dora", "anna bob dora eve"] {
            program.staff(names);
            program.run(&["sync"]).expect_code(65);
            assert!(
                has_wildcard(edited(&program)) && !has_wildcard(other(&program)),
                "{format:?}"
            );
        }
        approve(&program, &program.holds().1[0]);
        program.run(&["sync"]).expect_code(0);
        assert!(!has_wildcard(edited(&program)));
    }
}

#[test]
fn a_vanished_address_stays_for_its_grace() {
    let grace = |time: &str| format!("[recipients]\ngrace = \"{time}\"\n");
    let program = Rcptsync::plain("grace", STAFF, &grace("1h"));
    program.staff("anna bob carl dora");
    program.run(&["sync"]).expect_code(0);
    program.staff("anna bob carl");
    program
        .run_untouching(&["sync"], 0)
        .expect_output(&["nothing changed", "; 1 address leaving"]);
    program
        .run(&["diff"])
        .expect_code(0)
        .expect_output(&["leaving  dora@example.com until 2"]);
    let json = program
        .run(&["diff", "--format", "json"])
        .expect_code(0)
        .json();
    assert_eq!(
        json["leaving"][0]["address"].as_str(),
        Some("dora@example.com")
    );
    program
        .run(&["status"])
        .expect_code(0)
        .expect_output(&["leaving: 1 row, the next at 2"]);
    let json = program
        .run(&["status", "--format", "json"])
        .expect_code(0)
        .json();
    assert_eq!(json["leaving"][0]["rows"], 1);
    program
        .run_untouching(&["explain", "dora@example.com"], 0)
        .expect_output(&["accepted", "leaving", "it stays until"]);
    // Coming back cancels it; the next time begins anew.
    program.staff("anna bob carl dora");
    program.run_untouching(&["sync"], 0);
    let explained = program.run_untouching(&["explain", "dora@example.com"], 0);
    assert!(
        !explained.stdout.contains("leaving"),
        "{}",
        explained.stdout
    );
    let status = program.run(&["status"]).expect_code(0);
    assert!(!status.stdout.contains("leaving"), "{}", status.stdout);
    // To begin to leave counts as a removal then, not when the time is over.
    program.staff("anna bob");
    program.run_untouching(&["sync"], 65);
    assert_eq!(
        program.holds().0,
        ["domain_halved example.com: -carl -dora"]
    );
    program.staff("anna bob carl");
    program.run_untouching(&["sync"], 0);
    program.configure(&["example.com"], STAFF, &grace("2s"));
    poll_until(Duration::from_secs(20), "the grace to pass", || {
        program.run(&["sync"]).expect_code(0);
        (program.keys() == "anna bob carl").then_some(())
    });
    program
        .run_untouching(&["explain", "dora@example.com"], 1)
        .expect_output(&["refused", "gone with generation 2 "]);
    program
        .run_untouching(&["explain", "nobody@example.com"], 1)
        .expect_output(&["never seen"]);
    program.run_untouching(&["sync"], 0);
}

/// The removal was proven when it began; a source that cannot be read afterwards neither hastens nor delays it.
#[test]
fn a_grace_ends_while_the_source_is_frozen() {
    let grace = |time: &str| format!("[recipients]\ngrace = \"{time}\"\n");
    let program = Rcptsync::plain("grace-frozen", STAFF, &grace("1h"));
    program.staff("anna bob carl dora");
    program.run(&["sync"]).expect_code(0);
    program.staff("anna bob carl");
    program.run_untouching(&["sync"], 0);
    std::fs::remove_file(program.directory().join("staff.list")).expect("removed");
    program.run_untouching(&["sync"], 75);
    assert_eq!(program.keys(), "anna bob carl dora");
    program.configure(&["example.com"], STAFF, &grace("1s"));
    poll_until(Duration::from_secs(20), "the grace to pass", || {
        // Time alone is a reason to publish.
        program.run(&["sync"]).expect_code(75);
        (program.keys() == "anna bob carl").then_some(())
    });
    program.run_untouching(&["sync"], 75);
    let json = program.run(&["status", "--format", "json"]).json();
    assert_eq!(json["leaving"], serde_json::json!([]));
}

/// What is held is not leaving; once approved, it has its grace like any other.
#[test]
fn a_held_removal_begins_to_leave_when_it_is_approved() {
    let program = Rcptsync::plain("grace-held", STAFF, "[recipients]\ngrace = \"1h\"\n");
    program.staff("anna bob carl dora");
    program.run(&["sync"]).expect_code(0);
    program.staff("anna bob");
    program.run_untouching(&["sync"], 65);
    let json = program.run(&["diff", "--format", "json"]).json();
    assert_eq!(json["leaving"], serde_json::json!([]));
    approve(&program, &program.holds().1[0]);
    program.run_untouching(&["sync"], 0);
    program.run(&["diff"]).expect_code(0).expect_output(&[
        "leaving  carl@example.com until 2",
        "leaving  dora@example.com",
    ]);
    program
        .run(&["status"])
        .expect_code(0)
        .expect_output(&["leaving: 2 rows, the next at 2"]);
    program.run_untouching(&["sync"], 0);
}

#[test]
fn what_leaves_the_configuration_waits() {
    let guests = "[source.guests]\nkind = \"list\"\npath = \"guests.list\"\n";
    let both = format!("{STAFF}{guests}");
    let program = Rcptsync::plain("removed", &both, "");
    let domains = ["example.com", "example.org"];
    program.configure(&domains, &both, "");
    program.staff("anna bob carl dora shared");
    program.write_settled(
        "guests.list",
        "gwen@example.com\nshared@example.com\nx@example.org\n",
    );
    program.run(&["sync"]).expect_code(0);
    // A source: its own rows wait, what others have as well does not.
    program.configure(&domains, STAFF, "");
    for _ in 0..2 {
        program
            .run_untouching(&["sync"], 65)
            .expect_output(&["the source is not in the configuration any more"]);
        assert_eq!(
            program.holds().0,
            ["source_removed guests: -gwen -x@example.org"]
        );
    }
    program
        .run_untouching(&["explain", "gwen@example.com"], 0)
        .expect_output(&["held", "source_removed"]);
    // Back again, nothing has happened.
    program.configure(&domains, &both, "");
    program.run_untouching(&["sync"], 0);
    // A domain, while the source that filled it is frozen.
    std::fs::remove_file(program.directory().join("guests.list")).expect("removed");
    program.configure(&["example.com"], &both, "");
    program
        .run_untouching(&["sync"], 65)
        .expect_answers(&["source guests: "]);
    assert_eq!(
        program.holds().0,
        ["domain_removed example.org: -x@example.org"]
    );
    program.staff("anna bob carl eve shared");
    program.run(&["sync"]).expect_code(65);
    assert_eq!(
        program.keys(),
        "anna bob carl eve gwen shared x@example.org"
    );
    // Both at once, released one by one.
    program.configure(&["example.com"], STAFF, "");
    program.run_untouching(&["sync"], 65);
    let (holds, digests) = program.holds();
    assert_eq!(
        holds,
        [
            "domain_removed example.org: -x@example.org",
            "source_removed guests: -gwen"
        ]
    );
    approve(&program, &digests[1]);
    program.run(&["sync"]).expect_code(65);
    assert_eq!(program.keys(), "anna bob carl eve shared x@example.org");
    approve(&program, &digests[0]);
    program.run(&["sync"]).expect_code(0);
    assert_eq!(program.keys(), "anna bob carl eve shared");
    // What is not there any more is not told of any more.
    let json = program
        .run(&["diff", "--format", "json"])
        .expect_code(0)
        .json();
    let sources = json["sources"].as_object().expect("sources");
    assert_eq!(sources.keys().collect::<Vec<_>>(), ["staff"]);
}

#[test]
fn names_and_order_of_sources_carry_no_rows_away() {
    let section =
        |name: &str, path: &str| format!("[source.{name}]\nkind = \"list\"\npath = \"{path}\"\n");
    let (staff, guests) = (
        section("staff", "staff.list"),
        section("guests", "guests.list"),
    );
    let program = Rcptsync::plain("order", &format!("{staff}{guests}"), "");
    program.staff("anna bob carl dora");
    program.write_settled("guests.list", "gwen@example.com\n");
    program.run(&["sync"]).expect_code(0);
    let configure = |sources: &[&str]| program.configure(&["example.com"], &sources.concat(), "");
    configure(&[&guests, &staff]);
    program.run_untouching(&["sync"], 0);
    configure(&[
        &section("a", "staff.list"),
        &guests,
        &section("b", "staff.list"),
    ]);
    program.run_untouching(&["sync"], 0);
    configure(&[&section("b", "staff.list")]);
    program.run_untouching(&["sync"], 65);
    assert_eq!(program.holds().0, ["source_removed guests: -gwen"]);
    configure(&[&guests]);
    program.run_untouching(&["sync"], 65);
    assert_eq!(
        program.holds().0,
        ["source_removed b: -anna -bob -carl -dora"]
    );
    configure(&[&guests, &staff]);
    program.run_untouching(&["sync"], 0);
    // What the configuration itself says comes and goes freely.
    let always = "[recipients]\nalways = [\"postmaster\", \"abuse\"]\n";
    program.configure(&["example.com"], &format!("{guests}{staff}"), always);
    program.run(&["sync"]).expect_code(0);
    assert_eq!(program.keys(), "abuse anna bob carl dora gwen postmaster");
    program
        .run_untouching(&["explain", "abuse@example.com"], 0)
        .expect_output(&["recipients.always: abuse"]);
    configure(&[&guests, &staff]);
    program.run(&["sync"]).expect_code(0);
    assert_eq!(program.keys(), "anna bob carl dora gwen");
}

#[test]
fn generations_tell_what_was_published() {
    let program = Rcptsync::plain("history", STAFF, "");
    for (names, generation) in [
        ("anna bob", 1),
        ("anna bob", 1),
        ("anna bob carl", 2),
        ("anna carl", 3),
        ("anna carl dora", 4),
    ] {
        program.staff(names);
        program.run(&["sync"]).expect_code(0);
        let json = program
            .run(&["history", "--format", "json"])
            .expect_code(0)
            .json();
        let last = json
            .as_array()
            .and_then(|all| all.last())
            .expect("a generation");
        assert_eq!(last["generation"].as_u64(), Some(generation));
    }
    program
        .run(&["history", "3"])
        .expect_code(0)
        .expect_output(&["generation 3 of ", "2 rows afterwards", "- bob@example.com"]);
    let json = program
        .run(&["history", "2", "--format", "json"])
        .expect_code(0)
        .json();
    assert_eq!(
        json["tables"][0]["added"],
        serde_json::json!(["carl@example.com"])
    );
    for (address, code, part) in [
        ("dora@example.com", 0, "since     generation 4 of "),
        ("anna@example.com", 0, "since     generation 1 of "),
        ("bob@example.com", 1, "gone with generation 3 of "),
    ] {
        program
            .run_untouching(&["explain", address], code)
            .expect_output(&[part]);
    }
}

/// The first table is a removal of everybody who is not in it: each reason to doubt it is a question of its own.
/// A first table without the recipients of a source that nobody could read would refuse them all; with `always` it would
/// even look like a table.
#[test]
fn no_approval_publishes_a_first_table_without_a_source() {
    let more = "[recipients]\nalways = [\"postmaster\"]\n";
    let program = Rcptsync::plain("unread", STAFF, more);
    program.run_untouching(&["sync"], 65);
    let (holds, digests) = program.holds();
    assert_eq!(
        holds,
        [
            "source_never_complete staff: +postmaster",
            "recipients_min relay_recipients:"
        ]
    );
    program
        .run_untouching(&["approve", &digests[0]], 64)
        .expect_answers(&["waits for source staff", "[source.staff]"]);
    approve(&program, &digests[1]);
    program.run_untouching(&["sync"], 65);
    program.staff("anna bob");
    program.run(&["sync"]).expect_code(0);
    assert_eq!(program.keys(), "anna bob postmaster");
}

#[test]
fn one_approval_answers_one_question() {
    let more = "[guard]\nmust_contain = [\"helpdesk@example.com\"]\nrecipients_min = 3\n";
    let program = Rcptsync::plain("questions", STAFF, more);
    program.staff("anna bob");
    for expected in [
        &[
            "must_contain helpdesk@example.com: +anna +bob",
            "recipients_min relay_recipients:",
        ][..],
        &["recipients_min relay_recipients: +anna +bob"],
    ] {
        program.run_untouching(&["sync"], 65);
        let (holds, digests) = program.holds();
        assert_eq!(holds, expected);
        assert!(program.seen().is_empty());
        approve(&program, &digests[0]);
    }
    program.run(&["sync"]).expect_code(0);
    assert_eq!(program.keys(), "anna bob");
}
