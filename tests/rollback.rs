//! Going back to an earlier generation, and what becomes of the changes that are undone so.

mod common;

use common::plain::STAFF;
use common::rcptsync::Rcptsync;

/// Three generations: `anna bob cleo`, then `anna cleo dora`, then `anna cleo dora eva`.
fn published() -> Rcptsync {
    let program = Rcptsync::plain("rollback", STAFF, "");
    for names in ["anna bob cleo", "anna cleo dora", "anna cleo dora eva"] {
        program.staff(names);
        program.run(&["sync"]).expect_code(0);
    }
    program
}

/// The one hold there is.
#[track_caller]
fn digest(program: &Rcptsync, expected: &str) -> String {
    let (holds, mut digests) = program.holds();
    assert_eq!(holds, [expected]);
    digests.remove(0)
}

#[test]
fn what_is_undone_waits_and_later_changes_flow() {
    let program = published();
    let outcome = program.run(&["rollback", "1"]).expect_code(0);
    assert_eq!(program.keys(), "anna bob cleo");
    for line in [
        "held  generation 1, table relay_recipients: undone by going back to generation 1; 2 additions and 1 removal wait",
        "generation 4 of ",
    ] {
        assert!(outcome.stdout.contains(line), "{line}\n{}", outcome.stdout);
    }
    let undone = "rollback generation 1: +dora +eva -bob";
    digest(&program, undone);
    program.run_untouching(&["sync"], 65);
    let status = program.run(&["status"]);
    assert!(status.stdout.contains("rollback"), "{}", status.stdout);

    program.staff("anna cleo dora eva finn");
    program.run(&["sync"]).expect_code(65);
    assert_eq!(program.keys(), "anna bob cleo finn");
    let digest = digest(&program, undone);
    program.run(&["approve", &digest]).expect_code(0);
    program.run(&["sync"]).expect_code(0);
    assert_eq!(program.keys(), "anna cleo dora eva finn");
    program.run_untouching(&["sync"], 0);
    let history = program.run(&["history"]).expect_code(0);
    assert!(
        history.stdout.contains("put back by hand: +1 -2"),
        "{}",
        history.stdout
    );
}

#[test]
fn what_the_directory_takes_back_waits_no_more() {
    let program = published();
    program.run(&["rollback", "2"]).expect_code(0);
    digest(&program, "rollback generation 2: +eva");
    program.staff("anna cleo dora");
    program.run(&["sync"]).expect_code(0);
    assert_eq!(program.keys(), "anna cleo dora");
    // Whoever comes later under the same name is nobody's undone change.
    program.staff("anna cleo dora eva");
    program.run(&["sync"]).expect_code(0);
    assert_eq!(program.keys(), "anna cleo dora eva");
}

#[test]
fn an_approval_given_before_does_not_let_it_return() {
    let program = published();
    program.run(&["rollback", "1"]).expect_code(0);
    let undone = "rollback generation 1: +dora +eva -bob";
    program
        .run(&["approve", &digest(&program, undone)])
        .expect_code(0);
    program.run(&["sync"]).expect_code(0);
    assert_eq!(program.keys(), "anna cleo dora eva");
    program.run(&["rollback", "1"]).expect_code(0);
    program.run_untouching(&["sync"], 65);
    assert_eq!(program.keys(), "anna bob cleo");
}

#[test]
fn one_can_go_back_further_and_forward_again() {
    let program = published();
    program.run(&["rollback", "2"]).expect_code(0);
    program.run(&["rollback", "1"]).expect_code(0);
    assert_eq!(program.keys(), "anna bob cleo");
    let (mut holds, _) = program.holds();
    holds.sort();
    assert_eq!(
        holds,
        [
            "rollback generation 1: +dora -bob",
            "rollback generation 2: +eva"
        ]
    );
    program.run(&["rollback", "3"]).expect_code(0);
    assert_eq!(program.keys(), "anna cleo dora eva");
    // What is in force is what the sources want: nothing waits.
    program.run_untouching(&["sync"], 0);
    let again = program.run_untouching(&["rollback", "6"], 0);
    assert!(again.stdout.contains("nothing changed"), "{}", again.stdout);
}

#[test]
fn hooks_are_told_of_it() {
    let hook = "[[hook]]\nname = \"count\"\nrun = [\"/bin/sh\", \"-c\", \"env | grep RCPTSYNC_REMOVED > removed\"]\n";
    let program = Rcptsync::plain("rollback", STAFF, "");
    let directory = program.directory().display().to_string();
    let hook = hook.replace("> removed", &format!("> {directory}/removed"));
    program.configure(&["example.com"], STAFF, &hook);
    for names in ["anna bob", "anna bob cleo dora"] {
        program.staff(names);
        program.run(&["sync"]).expect_code(0);
    }
    program.run(&["rollback", "1"]).expect_code(0);
    let told = std::fs::read_to_string(program.directory().join("removed")).expect("told");
    assert_eq!(told, "RCPTSYNC_REMOVED=2\n");
}

#[test]
fn where_one_cannot_go_back_nothing_is_touched() {
    let program = published();
    let check = |number: &str, code: i32, parts: &[&str]| {
        program
            .run_untouching(&["rollback", number], code)
            .expect_answers(parts);
    };
    check(
        "0",
        64,
        &[
            "generation 0 cannot be reached",
            "generations go from 1 to 3",
        ],
    );
    check(
        "9",
        64,
        &[
            "generation 9 cannot be reached",
            "generations go from 1 to 3",
        ],
    );
    let generation = program.state_dir().join("generation/2");
    let content = std::fs::read(&generation).expect("a generation");
    std::fs::write(&generation, &content[..content.len() - 1]).expect("our own file");
    check(
        "1",
        64,
        &[
            "generation 2 cannot be reached",
            "it has to be undone, and is lost",
        ],
    );
    std::fs::write(&generation, &content).expect("our own file");
    let text = std::fs::read_to_string(program.table()).expect("a table");
    std::fs::write(program.table(), format!("{text}hand@example.com OK\n")).expect("our own file");
    check("1", 65, &["nothing was put back", "run `rcptsync sync`"]);
}

#[test]
fn a_table_whose_rows_are_lost_does_not_stay_behind_in_silence() {
    let program = published();
    let ledgers = std::fs::read_dir(program.state_dir().join("ledger")).expect("ledgers");
    for ledger in ledgers {
        std::fs::remove_file(ledger.expect("a ledger").path()).expect("our own file");
    }
    let outcome = program.run_untouching(&["rollback", "1"], 64);
    outcome.expect_answers(&[
        "table relay_recipients cannot go back",
        "its ledger is lost",
    ]);
    program.run(&["sync"]).expect_code(0);
    program.run(&["rollback", "1"]).expect_code(0);
    assert_eq!(program.keys(), "anna bob cleo");
}
