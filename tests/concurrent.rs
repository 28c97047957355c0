//! Many at once: runs that want to write, and readers that never lock and must never see half of anything.
//!
//! Not here: what Postfix reads while tables are replaced (`load.rs`), and runs that die (`crash.rs`).
#![allow(
    clippy::expect_used,
    reason = "a test fails by panicking, and the message says what was expected"
)]

mod common;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::scope;
use std::time::{Duration, SystemTime};

use common::campaign;
use common::plain::STAFF;
use common::process::{command, succeed};
use common::rcptsync::{Outcome, Rcptsync};
use common::{SERVER_DEADLINE, poll_until, write_file};

/// Who is there all the time.
const FIXED: usize = 40;

/// Replaces the list in one step, as somebody who exports it should; some come and go with every round.
fn staff(program: &Rcptsync, round: u64) {
    let fixed = (0..FIXED).map(|number| format!("fixed{number}@example.com\n"));
    let passing = (0..3).map(|number| format!("round{round}-{number}@example.com\n"));
    let next = program.directory().join("next.list");
    write_file(&next, fixed.chain(passing).collect::<String>());
    let settled = SystemTime::now() - Duration::from_secs(3_600);
    let file = std::fs::File::options().append(true).open(&next);
    file.and_then(|file| file.set_modified(settled))
        .expect("a time of our own file");
    std::fs::rename(next, program.directory().join("staff.list")).expect("renamed");
}

/// Removals are not what is tried here.
const GUARD: &str = "[guard]\nwindow = \"1s\"\nremoved_floor = 1000000\n";

#[track_caller]
fn expect_one_of(outcome: Outcome, codes: &[i32]) -> i32 {
    let code = outcome.code.filter(|code| codes.contains(code));
    let is_calm = !outcome.stderr.contains("panicked");
    match code.filter(|_| is_calm) {
        Some(code) => code,
        None => unreachable!("{outcome:?} is none of {codes:?}"),
    }
}

#[test]
fn one_writes_and_whoever_reads_sees_one_moment() {
    let program = Rcptsync::plain("at-once", STAFF, GUARD);
    staff(&program, 0);
    program.run(&["sync"]).expect_code(0);
    let rounds = campaign::extent(12, 250);
    let (mut wrote, mut refused, mut read) = (0, 0, 0);
    for round in 1..=rounds {
        staff(&program, round);
        let is_over = AtomicBool::new(false);
        let program = &program;
        scope(|scope| {
            let writers: Vec<_> = (0..3)
                .map(|_| scope.spawn(|| expect_one_of(program.run(&["sync"]), &[0, 74])))
                .collect();
            let readers = [
                (&["explain", "fixed0@example.com"][..], &[0][..]),
                (&["explain", "nobody@example.com"], &[1]),
                (&["diff"], &[0, 2]),
                // That a rename is decided and not done is true at that moment.
                (&["status"], &[0, 1, 2]),
                (&["history"], &[0]),
                (&["approve", "0123456789abcdef"], &[64, 74]),
            ]
            .map(|(arguments, codes)| {
                let is_over = &is_over;
                scope.spawn(move || {
                    let mut count = 0;
                    while count == 0 || !is_over.load(Ordering::Relaxed) {
                        expect_one_of(program.run(arguments), codes);
                        count += 1;
                    }
                    count
                })
            });
            for writer in writers {
                match writer.join().expect("a writer") {
                    0 => wrote += 1,
                    _ => refused += 1,
                }
            }
            is_over.store(true, Ordering::Relaxed);
            for reader in readers {
                read += reader.join().expect("a reader");
            }
        });
        // Where somebody who approves was in the way of all, the next run does it.
        expect_one_of(program.run(&["sync"]), &[0]);
        let keys = program.table_keys();
        assert_eq!(keys.len(), FIXED + 3, "round {round}: {keys:?}");
        assert!(keys.contains(&format!("round{round}-0@example.com")));
        assert_eq!(program.seen().len(), 2, "something lies beside the tables");
    }
    campaign::tell(
        wrote + refused,
        "runs of several at once, each of which wrote or was refused",
    );
    campaign::tell(read, "answers of readers while others wrote");
}

/// A run that waits in its hook until it may go on.
struct Waiting {
    program: Rcptsync,
    begun: PathBuf,
    go: PathBuf,
}

impl Waiting {
    fn new(name: &str) -> Waiting {
        let program = Rcptsync::plain(name, STAFF, "");
        let (begun, go) = (
            program.directory().join("begun"),
            program.directory().join("go"),
        );
        let script = program.directory().join("hook.sh");
        write_file(
            &script,
            format!(
                "echo >{}; until test -e {}; do sleep 0.05; done\n",
                begun.display(),
                go.display()
            ),
        );
        let hook = format!(
            "[[hook]]\nname = \"waits\"\ntimeout = \"2m\"\nrun = [\"/bin/sh\", \"{}\"]\n",
            script.display()
        );
        program.configure(&["example.com"], STAFF, &hook);
        staff(&program, 0);
        Waiting { program, begun, go }
    }

    /// What is done while the run waits; gives how the run ended.
    fn meanwhile(&self, act: impl FnOnce(&Rcptsync)) -> Outcome {
        scope(|scope| {
            let run = scope.spawn(|| self.program.run(&["sync"]));
            poll_until(SERVER_DEADLINE, "the hook", || {
                self.begun.exists().then_some(())
            });
            act(&self.program);
            write_file(&self.go, "");
            run.join().expect("a run")
        })
    }
}

#[test]
fn a_lock_file_that_is_removed_locks_all_the_same() {
    let waiting = Waiting::new("lock-removed");
    let outcome = waiting.meanwhile(|program| {
        let lock = program.state_dir().join("lock");
        program.run(&["sync"]).expect_code(74);
        std::fs::remove_file(&lock).expect("the lock");
        program.run(&["sync"]).expect_code(74);
        write_file(&lock, "");
        program.run(&["sync"]).expect_code(74);
        program.run(&["approve", "0123456789"]).expect_code(74);
        program.run(&["rollback", "1"]).expect_code(74);
        // Whoever looks is not in the way, and nothing is in theirs.
        program.run(&["diff"]).expect_code(0);
        program
            .run(&["explain", "fixed1@example.com"])
            .expect_code(0);
    });
    outcome.expect_code(0);
    waiting.program.run(&["sync"]).expect_code(0);
    waiting.program.run(&["status"]).expect_code(0);
}

#[test]
fn a_state_directory_in_the_place_of_the_locked_one_gets_nothing_of_its_run() {
    let waiting = Waiting::new("state-replaced");
    let state = waiting.program.state_dir();
    let outcome = waiting.meanwhile(|program| {
        std::fs::rename(&state, program.directory().join("old")).expect("renamed");
        std::fs::create_dir(&state).expect("a directory of our own");
        common::set_mode(&state, 0o700);
    });
    outcome
        .expect_code(73)
        .expect_answers(&["another directory stands in its place"]);
    let left: Vec<_> = std::fs::read_dir(&state).expect("ours").collect();
    assert!(left.is_empty(), "{left:?}");
    // The new one begins anew with the tables as it finds them.
    waiting.program.run(&["sync"]).expect_code(0);
    assert_eq!(waiting.program.table_keys().len(), FIXED + 3);
}

/// What a hook leaves running, in a session of its own, has nothing of the run's.
#[test]
fn a_hook_that_leaves_a_daemon_leaves_no_lock() {
    let program = Rcptsync::plain("daemon", STAFF, "");
    let pid = program.directory().join("pid");
    let script = program.directory().join("hook.sh");
    write_file(
        &script,
        format!(
            "setsid sh -c 'echo $$ >{}; exec sleep 1006.25' >/dev/null 2>&1 &\nuntil test -s {}; do sleep 0.05; done\n",
            pid.display(),
            pid.display()
        ),
    );
    let hook = format!(
        "[[hook]]\nname = \"daemon\"\nrun = [\"/bin/sh\", \"{}\"]\n",
        script.display()
    );
    program.configure(&["example.com"], STAFF, &hook);
    staff(&program, 0);
    program.run(&["sync"]).expect_code(0);
    let pid = std::fs::read_to_string(&pid).expect("the hook told it");
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", pid.trim()));
    let open: Vec<PathBuf> = descriptors
        .expect("it runs")
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter(|path| path.starts_with(program.directory()))
        .collect();
    let next = program.run(&["sync"]);
    succeed(command("kill").arg(pid.trim()));
    assert!(open.is_empty(), "{open:?}");
    next.expect_code(0);
}
