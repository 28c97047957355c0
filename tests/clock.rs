//! Clocks that are wrong: set ahead, set back, at the beginning of time and beyond its end.
//!
//! A clock that jumps must not end what waits for a time that has to pass: the grace of an address, the window of the guard.
//! Nor may it make them last for ever. The program runs below `faketime`, which moves the clock of its time of day and not the
//! one that counts since the machine was started; where time is to pass, the state is made to know nothing of that one, as
//! after a restart. Not here: `replication_delay` and what a quiet run notices (`settled.rs`), and the clock of Kerberos.
#![allow(
    clippy::expect_used,
    reason = "a test fails by panicking, and the message says what was expected"
)]

mod common;

use common::plain::STAFF;
use common::rcptsync::{Outcome, Rcptsync};
use common::{campaign, require};
use rcptsync::state::State;

fn at(program: &Rcptsync, offset: &str) -> Outcome {
    program.run_under(&["faketime", "-f", offset], &["sync"])
}

/// The machine was started anew: how long that took is for the clock to say.
fn restart(program: &Rcptsync) {
    let state = State::lock(&program.state_dir()).expect("nobody runs");
    let mut head = state.head().expect("a state");
    head.clocks = None;
    state.store_head(&head).expect("stored");
}

fn people(numbers: std::ops::Range<usize>) -> String {
    let names: Vec<String> = numbers.map(|number| format!("p{number}")).collect();
    names.join(" ")
}

const AHEAD: &str = "the clock was set ahead by";

#[test]
fn a_clock_that_is_set_ahead_ends_no_grace() {
    if !require("faketime") {
        return;
    }
    let program = Rcptsync::plain("clock-grace", STAFF, "[recipients]\ngrace = \"3d\"\n");
    program.staff(&people(0..40));
    program.run(&["sync"]).expect_code(0);
    program.staff(&people(1..40));
    program.run(&["sync"]).expect_code(0);
    let is_there = || program.table_keys().contains("p0@example.com");
    assert!(is_there());
    let outcome = at(&program, "+10d").expect_code(0);
    assert!(
        is_there() && outcome.stderr.contains(AHEAD),
        "{}",
        outcome.stderr
    );
    // Told once, and the grace counts from then.
    let outcome = at(&program, "+10d").expect_code(0);
    assert!(
        is_there() && !outcome.stderr.contains(AHEAD),
        "{}",
        outcome.stderr
    );
    restart(&program);
    at(&program, "+12d").expect_code(0);
    assert!(is_there());
    // Set right: what began in a time to come begins now, and ends.
    program.run(&["sync"]).expect_code(0);
    assert!(is_there());
    restart(&program);
    at(&program, "+70h").expect_code(0);
    assert!(is_there());
    restart(&program);
    at(&program, "+73h").expect_code(0);
    assert!(!is_there());
}

#[test]
fn a_clock_that_is_set_ahead_begins_no_new_window() {
    if !require("faketime") {
        return;
    }
    let program = Rcptsync::plain("clock-window", STAFF, "");
    program.staff(&people(0..100));
    program.run(&["sync"]).expect_code(0);
    program.staff(&people(8..100));
    program.run(&["sync"]).expect_code(0);
    program.staff(&people(16..100));
    // A look is judged as the run is.
    let looked = program.run_under(&["faketime", "-f", "+2d"], &["diff"]);
    assert!(looked.stderr.contains(AHEAD), "{}", looked.stderr);
    looked.expect_code(65);
    at(&program, "+2d").expect_code(65);
    at(&program, "+2d").expect_code(65);
    assert_eq!(program.table_keys().len(), 92);
    restart(&program);
    at(&program, "+75h").expect_code(0);
    assert_eq!(program.table_keys().len(), 84);
    // Ten years ahead for one run, and set right: what went then counts for one window, not for ten years.
    program.staff(&people(18..100));
    restart(&program);
    at(&program, "+3650d").expect_code(0);
    assert_eq!(program.table_keys().len(), 82);
    program.staff(&people(28..100));
    program.run(&["sync"]).expect_code(65);
    restart(&program);
    at(&program, "+25h").expect_code(0);
    assert_eq!(program.table_keys().len(), 72);
}

/// Whatever the clock says, nobody is lost by it, nothing overflows, and everything is well once it is right again.
#[test]
fn clocks_beyond_reason_lose_nobody() {
    if !require("faketime") {
        return;
    }
    let more = "[recipients]\ngrace = \"30d\"\n[[hook]]\nname = \"alarm\"\nwhen = [\"refused\", \"failed\", \"recovered\"]\n\
                run = [\"/bin/true\"]\n";
    let sources = format!("{STAFF}max_age = \"48h\"\n");
    let offsets = [
        "-1h",
        "-1d",
        "-400d",
        "+1d",
        "+400d",
        "+3650d",
        "+100000d",
        "@1970-01-01 00:00:00",
        "@1970-01-02 00:00:00",
        "@2038-01-19 03:14:08",
        "@9999-12-31 23:59:59",
        "@20000-01-01 00:00:00",
        "+3000000d",
    ];
    let program = Rcptsync::plain("clock-wild", &sources, more);
    program.staff(&people(0..60));
    program.run(&["sync"]).expect_code(0);
    // Some leave, and more wait.
    program.staff(&people(2..60));
    program.run(&["sync"]).expect_code(0);
    program.staff(&people(40..60));
    program.run(&["sync"]).expect_code(65);
    for offset in offsets {
        for verb in [
            &["sync"][..],
            &["diff"],
            &["status"],
            &["explain", "p0@example.com", "p50@example.com"],
            &["history"],
        ] {
            let outcome = program.run_under(&["faketime", "-f", offset], verb);
            assert!(
                matches!(outcome.code, Some(0..=3 | 65 | 75))
                    && !outcome.stderr.contains("panicked"),
                "{offset} {verb:?}: {outcome:?}"
            );
            assert_eq!(program.table_keys().len(), 60, "{offset} {verb:?}");
        }
        let outcome = program.run(&["sync"]).expect_code(65);
        assert_eq!(
            program.table_keys().len(),
            60,
            "{offset}: {}",
            outcome.stderr
        );
    }
    program.staff(&people(0..60));
    program.run(&["sync"]).expect_code(0);
    campaign::tell(offsets.len(), "clocks set ahead, back and beyond reason");
}
