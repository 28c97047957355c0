//! Hooks as shell scripts that tell what they saw: order, environment, input, debt, and an end to every one of them.

mod common;

use std::fmt::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::plain::STAFF;
use common::rcptsync::{Outcome, Rcptsync};
use common::{poll_until, set_mode, write_file};

/// An installation whose hooks are scripts that append to one log.
struct Desk {
    program: Rcptsync,
}

/// A hook: its name, more keys, and the body of its script, which finds the log in `$log`.
type Script<'test> = (&'test str, &'test str, &'test str);

/// What a well-behaved hook writes into the log.
const TELL: &str = "echo \"$0 +$RCPTSYNC_ADDED -$RCPTSYNC_REMOVED =$RCPTSYNC_TOTAL #$RCPTSYNC_GENERATION\" >> $log";

impl Desk {
    /// An installation with anna, bob, carl and dora, who are not published yet.
    fn new(scripts: &[Script<'_>]) -> Desk {
        let desk = Desk {
            program: Rcptsync::plain("hooks", STAFF, ""),
        };
        desk.program.staff("anna bob carl dora");
        desk.hooks(scripts);
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.program.directory().join(name)
    }

    /// Replaces all hooks.
    fn hooks(&self, scripts: &[Script<'_>]) {
        let mut sections = String::new();
        for (name, keys, body) in scripts {
            let path = self.path(&format!("{name}.sh"));
            let log = self.path("log");
            // Run by a shell, not started itself: a thread that forks at this moment keeps the file open for writing, and
            // the system starts no such program.
            write_file(&path, format!("log={}\n{body}\n", log.display()));
            writeln!(
                sections,
                "[[hook]]\nname = \"{name}\"\nrun = [\"/bin/sh\", \"{}\", \"an argument\"]\n{keys}",
                path.display()
            )
            .expect("a text grows");
        }
        self.program.configure(&["example.com"], STAFF, &sections);
    }

    #[track_caller]
    fn sync(&self, code: i32) -> Outcome {
        self.program.run(&["sync"]).expect_code(code)
    }

    /// What was logged since the last look, without the directory.
    fn log(&self) -> String {
        let text = std::fs::read_to_string(self.path("log")).unwrap_or_default();
        write_file(&self.path("log"), "");
        text.replace(&format!("{}/", self.program.directory().display()), "")
            .trim_end()
            .replace('\n', "; ")
    }

    /// Runs with these hooks; then the log must say this.
    #[track_caller]
    fn check(&self, names: &str, code: i32, log: &str) {
        if !names.is_empty() {
            self.program.staff(names);
        }
        let outcome = self.sync(code);
        assert_eq!(self.log(), log, "{}", outcome.stderr);
    }
}

#[test]
fn hooks_run_in_the_order_of_the_file_after_a_change_only() {
    let desk = Desk::new(&[
        ("zebra", "", TELL),
        ("ant", "", TELL),
        ("moth", "when = \"changed\"", TELL),
    ]);
    desk.check(
        "",
        0,
        "zebra.sh +4 -0 =4 #1; ant.sh +4 -0 =4 #1; moth.sh +4 -0 =4 #1",
    );
    desk.check("", 0, "");
    // A file that comes back with its old rows is none either.
    desk.check("anna bob carl dora", 0, "");
    desk.check(
        "anna bob carl eve",
        0,
        "zebra.sh +1 -1 =4 #2; ant.sh +1 -1 =4 #2; moth.sh +1 -1 =4 #2",
    );
    // A look runs none.
    desk.program.staff("anna");
    desk.program.run_untouching(&["diff"], 65);
    desk.program.run_untouching(&["sync", "--dry-run"], 65);
    // Nothing flows, so nothing is told.
    desk.check("", 65, "");
}

#[test]
fn a_hook_gets_six_facts_and_nothing_of_ours() {
    let desk = Desk::new(&[(
        "tell",
        "",
        "env | sort > $log; echo \"$1 $# $(pwd) $(cat | wc -c)\" >> $log",
    )]);
    let outcome = desk.program.run_under(
        &[
            "env",
            "SECRET=s3cret",
            "LD_PRELOAD=",
            "IFS=x",
            "CREDENTIALS_DIRECTORY=/run",
        ],
        &["sync"],
    );
    outcome.expect_code(0);
    let tables = format!("{0},{0}.cdb", desk.program.table().display()).replace(',', ":");
    let log = std::fs::read_to_string(desk.path("log")).expect("a log");
    let (facts, said): (Vec<&str>, Vec<&str>) = log.lines().partition(|line| line.contains('='));
    assert_eq!(said, ["an argument 1 / 0"]);
    let digest = facts
        .iter()
        .find_map(|line| line.strip_prefix("RCPTSYNC_DIGEST="))
        .expect("a digest");
    assert!(
        digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{digest}"
    );
    let expected = format!(
        "LANG=C.UTF-8\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nPWD=/\nRCPTSYNC_ADDED=4\n\
         RCPTSYNC_DIGEST={digest}\nRCPTSYNC_GENERATION=1\nRCPTSYNC_REMOVED=0\nRCPTSYNC_TABLES={tables}\nRCPTSYNC_TOTAL=4"
    );
    // The shell that runs the script adds these two itself.
    let facts: Vec<&str> = facts
        .into_iter()
        .filter(|line| !line.starts_with("_=") && !line.starts_with("SHLVL="))
        .collect();
    assert_eq!(facts.join("\n"), expected);
    // The digest names the content: other rows, another one; the same rows, the same.
    let digest_of = |names: &str| {
        desk.program.staff(names);
        desk.sync(0);
        let log = std::fs::read_to_string(desk.path("log")).expect("a log");
        let line = log
            .lines()
            .find_map(|line| line.strip_prefix("RCPTSYNC_DIGEST="));
        line.expect("a digest").to_owned()
    };
    let other = digest_of("anna bob carl dora eve");
    assert_ne!(other, digest);
    assert_eq!(digest_of("anna bob carl dora"), digest);
    // A table that is not published any more is not named.
    desk.hooks(&[("tell", "", "env | sort > $log")]);
    let config = std::fs::read_to_string(desk.program.config_file()).expect("our own file");
    desk.program
        .write_config(&config.replace("relay_recipients", "renamed"));
    desk.sync(0);
    let log = std::fs::read_to_string(desk.path("log")).expect("a log");
    let tables = tables.replace("relay_recipients", "renamed");
    assert!(
        log.contains(&format!("RCPTSYNC_TABLES={tables}\n")),
        "{log}"
    );
    assert!(log.contains("RCPTSYNC_TOTAL=4\n"), "{log}");
}

#[test]
fn the_difference_stands_on_standard_input_when_asked_for() {
    let desk = Desk::new(&[("tell", "input = \"json\"", "cat > $log")]);
    let input = |names: &str| -> serde_json::Value {
        desk.program.staff(names);
        desk.sync(0);
        let text = std::fs::read_to_string(desk.path("log")).expect("a log");
        serde_json::from_str(&text).expect("JSON")
    };
    let expected = |generation: u64, added: &[&str], removed: &[&str]| {
        serde_json::json!({ "schema": 1, "generation": generation, "tables": { "relay_recipients":
            { "added": added, "removed": removed } } })
    };
    let four = [
        "anna@example.com",
        "bob@example.com",
        "carl@example.com",
        "dora@example.com",
    ];
    assert_eq!(input("anna bob carl dora"), expected(1, &four, &[]));
    assert_eq!(
        input("anna bob carl eve"),
        expected(2, &["eve@example.com"], &["dora@example.com"])
    );
}

#[test]
fn the_first_failure_stops_the_later_ones_until_it_is_mended() {
    let failing = format!("{TELL}\nexit 3");
    let desk = Desk::new(&[
        ("one", "", TELL),
        ("two", "", &failing),
        ("three", "", TELL),
    ]);
    desk.check("", 69, "one.sh +4 -0 =4 #1; two.sh +4 -0 =4 #1");
    desk.check("", 69, "two.sh +4 -0 =4 #1");
    // Each is told of everything since its own last success, and of what is left of it.
    desk.check(
        "anna bob carl dora eve fred",
        69,
        "one.sh +2 -0 =6 #2; two.sh +6 -0 =6 #2",
    );
    desk.check(
        "anna bob carl dora eve gwen",
        69,
        "one.sh +1 -1 =6 #3; two.sh +6 -0 =6 #3",
    );
    desk.program
        .run(&["status"])
        .expect_code(1)
        .expect_output(&["hook two is owed", "hook three is owed"]);
    desk.hooks(&[("one", "", TELL), ("two", "", TELL), ("three", "", TELL)]);
    desk.check("", 0, "two.sh +6 -0 =6 #3; three.sh +6 -0 =6 #3");
    desk.check("", 0, "");
    // The same for a hook that had succeeded once: eve came and went, dora went and came back.
    desk.hooks(&[
        ("one", "", TELL),
        ("two", "", &failing),
        ("three", "", TELL),
    ]);
    desk.check(
        "anna bob carl dora gwen",
        69,
        "one.sh +0 -1 =5 #4; two.sh +0 -1 =5 #4",
    );
    desk.check(
        "anna bob carl eve gwen hugo",
        69,
        "one.sh +2 -1 =6 #5; two.sh +1 -0 =6 #5"
            .replace("two.sh +1 -0", "two.sh +1 -1")
            .as_str(),
    );
    desk.check(
        "anna bob carl dora eve gwen",
        69,
        "one.sh +1 -1 =6 #6; two.sh +0 -0 =6 #6",
    );
    desk.hooks(&[("one", "", TELL), ("two", "", TELL), ("three", "", TELL)]);
    desk.check("", 0, "two.sh +0 -0 =6 #6; three.sh +0 -0 =6 #6");
    // A hook that is added later is told of every row, and only it; one that is renamed is a new one.
    desk.hooks(&[("one", "", TELL), ("two", "", TELL), ("four", "", TELL)]);
    desk.check("", 0, "four.sh +6 -0 =6 #6");
    desk.check("", 0, "");
}

#[test]
fn a_hook_that_cannot_be_started_or_fails_is_told_with_its_cause() {
    for (run, causes) in [
        (
            "/no/such/program",
            &["could not be started", "No such file"][..],
        ),
        (
            "/etc/passwd",
            &["could not be started", "Permission denied"],
        ),
        ("exit 7", &["exit code 7"]),
        ("kill -9 $$", &["signal 9"]),
        (
            "echo first; echo; echo the last line >&2; exit 1",
            &["it said: the last line"],
        ),
        ("printf 'a\\033[31mb' >&2; exit 1", &["a\\u{1b}[31mb"]),
        (
            "head -c 100000 /dev/zero | tr '\\0' x; echo; echo the reason; exit 1",
            &["exit code 1; it said: the reason"],
        ),
        (
            "head -c 100000 /dev/zero | tr '\\0' x; exit 1",
            &["exit code 1", "xxxxxxxx"],
        ),
    ] {
        let desk = Desk::new(&[("push", "", run)]);
        if run.starts_with('/') {
            let section = format!("[[hook]]\nname = \"push\"\nrun = [\"{run}\"]\n");
            desk.program.configure(&["example.com"], STAFF, &section);
        }
        for _ in 0..2 {
            let outcome = desk.sync(69);
            outcome.expect_answers(&[
                "hook push failed",
                "in force: the new tables are published and in use",
            ]);
            outcome.expect_answers(causes);
            assert!(outcome.stderr.len() < 2000, "{}", outcome.stderr.len());
        }
        assert_eq!(desk.program.keys(), "anna bob carl dora");
    }
    // A file that may be run, and is no program.
    let desk = Desk::new(&[]);
    let path = desk.path("push");
    write_file(&path, "no program");
    set_mode(&path, 0o755);
    let section = format!(
        "[[hook]]\nname = \"push\"\nrun = [\"{}\"]\n",
        path.display()
    );
    desk.program.configure(&["example.com"], STAFF, &section);
    desk.sync(69).expect_answers(&["could not be started"]);
}

/// Processes whose command line holds this.
fn running(mark: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").expect("proc");
    processes
        .filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(mark))
        .collect()
}

#[test]
fn the_end_of_its_time_ends_all_its_processes() {
    // Distinct arguments of sleep tell our sleepers from everybody else's.
    for (body, mark, cause) in [
        ("sleep 1000.25", "1000.25", "it did not end within 1s"),
        (
            "sleep 1001.25 & (sleep 1001.25 & sleep 1001.25) & wait",
            "1001.25",
            "it did not end within 1s",
        ),
        (
            "trap '' TERM; echo stubborn; while :; do sleep 1002.25; done",
            "1002.25",
            "it said: stubborn",
        ),
        // Closing its output does not hide that it still runs.
        (
            "exec >&- 2>&-; sleep 1003.25",
            "1003.25",
            "it did not end within 1s",
        ),
    ] {
        let desk = Desk::new(&[("slow", "timeout = \"1s\"", body), ("next", "", TELL)]);
        let started = Instant::now();
        desk.sync(69)
            .expect_answers(&["hook slow failed", "process group was ended", cause]);
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "{:?}",
            started.elapsed()
        );
        poll_until(Duration::from_secs(2), mark, || {
            running(mark).is_empty().then_some(())
        });
        assert_eq!(desk.log(), "");
    }
    // A hook that succeeds and leaves somebody behind is a success; nobody stays behind.
    let desk = Desk::new(&[("leaves", "", "sleep 1004.25 &"), ("next", "", TELL)]);
    let started = Instant::now();
    desk.check("", 0, "next.sh +4 -0 =4 #1");
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
    poll_until(Duration::from_secs(2), "1004.25", || {
        running("1004.25").is_empty().then_some(())
    });
    // The time of the whole run bounds it, too.
    let desk = Desk::new(&[("slow", "timeout = \"1h\"", "sleep 1005.25")]);
    let config = std::fs::read_to_string(desk.program.config_file()).expect("our own file");
    desk.program
        .write_config(&format!("run_timeout = \"2s\"\n{config}"));
    desk.sync(69).expect_answers(&["did not end within"]);
    poll_until(Duration::from_secs(2), "1005.25", || {
        running("1005.25").is_empty().then_some(())
    });
}

#[test]
fn neither_side_can_block_the_other() {
    let names: Vec<String> = (0..20_000)
        .map(|number| format!("a-long-name-to-fill-the-pipe-{number}"))
        .collect();
    let names = names.join(" ");
    let flood =
        "head -c 8000000 /dev/zero | tr '\\0' x; head -c 8000000 /dev/zero >&2; cat | wc -c > $log";
    for (body, code) in [
        (flood, 0),
        ("exit 0", 0),
        ("exec <&-; exec >&- 2>&-; exit 0", 0),
        ("head -c 1 > /dev/null", 0),
        ("exec <&-; exit 1", 69),
    ] {
        let desk = Desk::new(&[("push", "input = \"json\"\ntimeout = \"20s\"", body)]);
        desk.program.staff(&names);
        let started = Instant::now();
        desk.sync(code);
        assert!(
            started.elapsed() < Duration::from_secs(15),
            "{body}: {:?}",
            started.elapsed()
        );
        if body == flood {
            let read: usize = desk.log().parse().expect("a count");
            assert!(read > 20_000 * 40, "{read}");
        }
    }
}

#[test]
fn the_output_of_hooks_is_logged_harmless_and_bounded() {
    let desk = Desk::new(&[(
        "push",
        "",
        "head -c 1000000 /dev/zero | tr '\\0' x; echo; echo end >&2; echo 'one \u{1b}[2J two'",
    )]);
    let outcome = desk.program.run(&["sync", "-v"]).expect_code(0);
    assert!(
        outcome.stderr.contains("one \\u{1b}[2J two"),
        "{} bytes",
        outcome.stderr.len()
    );
    assert!(outcome.stderr.len() < 100_000, "{}", outcome.stderr.len());
}

/// A hook that ends the run it belongs to: what was published stays, and the hook is owed until it has succeeded.
#[test]
fn a_hook_that_kills_its_run_is_owed() {
    let desk = Desk::new(&[
        ("one", "", TELL),
        ("two", "", "kill -9 $PPID; sleep 1007.25"),
    ]);
    let died = desk.program.run(&["sync"]);
    assert!(!matches!(died.code, Some(0..=127)), "{died:?}");
    assert_eq!(desk.log(), "one.sh +4 -0 =4 #1");
    assert_eq!(desk.program.keys(), "anna bob carl dora");
    desk.program
        .run(&["status"])
        .expect_output(&["hook two is owed"]);
    desk.hooks(&[("one", "", TELL), ("two", "", TELL)]);
    desk.check("", 0, "two.sh +4 -0 =4 #1");
    for sleeper in processes("sleep 1007.25") {
        let _ = common::process::command("kill").arg(sleeper).status();
    }
}

/// Numbers of processes with this command line.
fn processes(line: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").expect("proc");
    let number = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.ok()?.path();
        let found = std::fs::read(path.join("cmdline")).ok()?;
        let found = String::from_utf8_lossy(&found).replace('\0', " ");
        let number = path.file_name()?.to_string_lossy().into_owned();
        (found.trim_end() == line).then_some(number)
    };
    processes.filter_map(number).collect()
}

/// Whatever a hook does to itself, to its output and to what belongs to the run, the run ends, in its time and its memory, and
/// the tables are those that it published.
#[test]
fn hooks_that_misbehave_hurt_nobody_else() {
    let rows = [
        (
            "head -c 200000000 /dev/zero; head -c 1000000 /dev/zero >&2",
            0,
            "",
        ),
        // Escapes the process group with the pipe in its hands.
        ("setsid sleep 8.125 & exit 0", 0, ""),
        ("setsid sleep 8.125 & exit 3", 69, "exit code 3"),
        ("setsid head -c 500000000 /dev/zero & exit 0", 0, ""),
        ("kill -STOP $$", 69, "did not end within"),
        (
            "(trap '' TERM; kill -STOP $$; sleep 1008.25) & wait",
            69,
            "did not end within",
        ),
        ("kill -TERM 0; sleep 9", 69, "signal 15"),
        ("kill -SEGV $$", 69, "signal 11"),
        ("kill -PIPE $$", 69, "signal 13"),
        ("exec <&- >&- 2>&-; exit 0", 0, ""),
        (": >/proc/$PPID/fd/1; : >/proc/self/fd/0; exit 0", 0, ""),
        ("ulimit -f 0; yes | head -c 100000", 0, ""),
    ];
    for (body, code, cause) in rows {
        let desk = Desk::new(&[("wild", "timeout = \"4s\"", body), ("next", "", TELL)]);
        // What a run may have of its own beside what its programs take.
        let limits = ["prlimit", "--data=300000000"];
        let outcome = desk.program.run_under(&limits, &["sync"]).expect_code(code);
        if code == 0 {
            assert_eq!(desk.log(), "next.sh +4 -0 =4 #1", "{body}");
        } else {
            outcome.expect_answers(&[cause, "hook wild failed"]);
        }
        assert_eq!(desk.program.keys(), "anna bob carl dora", "{body}");
        desk.hooks(&[("wild", "", "exit 0"), ("next", "", TELL)]);
        desk.sync(0);
        desk.program.run(&["status"]).expect_code(0);
    }
    common::campaign::tell(rows.len(), "hooks that misbehave");
}

/// A hook may ask the program anything; what writes is refused, as the run that it belongs to is not over.
#[test]
fn a_hook_that_runs_the_program_is_no_deadlock() {
    let desk = Desk::new(&[]);
    let ask = |verb: &str| {
        format!(
            "{} --config {} {verb} >/dev/null 2>&1; echo \"{verb} $?\" >>$log; ",
            env!("CARGO_BIN_EXE_rcptsync"),
            desk.program.config_file().display()
        )
    };
    let verbs = [
        "sync",
        "rollback 1",
        "approve 0123456789",
        "diff",
        "explain anna@example.com",
        "history",
    ];
    let body: String = verbs.iter().map(|verb| ask(verb)).collect();
    desk.hooks(&[("asks", "timeout = \"60s\"", &body)]);
    desk.check(
        "",
        0,
        "sync 74; rollback 1 74; approve 0123456789 74; diff 0; explain anna@example.com 0; history 0",
    );
}

/// A hook that writes where only the program should: its table is found foreign, its state is the run's own again, and nobody is
/// lost by either.
#[test]
fn a_hook_that_writes_over_tables_or_state_is_found_out() {
    let desk = Desk::new(&[]);
    let (table, state) = (desk.program.table(), desk.program.state_dir());
    let (table, state) = (table.display(), state.display());
    desk.hooks(&[(
        "edits",
        "",
        &format!("echo 'evil@example.com OK' >>{table}"),
    )]);
    desk.sync(0);
    desk.hooks(&[("edits", "", "exit 0")]);
    let (holds, _) = {
        desk.sync(65);
        desk.program.holds()
    };
    assert_eq!(holds, ["foreign_table relay_recipients: -evil"]);
    for (body, code) in [
        (format!("echo >{state}/head.json"), 0),
        (format!("rm {state}/ledger/* {state}/source/*/*"), 0),
        (format!("rm -rf {state}"), 73),
        (format!("rm {table}; mkdir {table}; rmdir {table}"), 0),
        (format!("rm {state}/lock"), 0),
    ] {
        let desk = Desk::new(&[("edits", "", "exit 0")]);
        desk.sync(0);
        let own = desk.program.directory().display().to_string();
        let of_first = state.to_string().replace("/state", "");
        desk.hooks(&[("edits", "", &body.replace(&of_first, &own))]);
        desk.program.staff("anna bob carl dora eve");
        desk.sync(code);
        desk.hooks(&[("edits", "", "exit 0")]);
        desk.sync(0);
        assert_eq!(desk.program.keys(), "anna bob carl dora eve", "{body}");
        desk.sync(0);
    }
}

/// A program that somebody is writing at this moment is started by the next run.
#[test]
fn a_program_that_is_being_written_is_owed() {
    let desk = Desk::new(&[]);
    let path = desk.path("push");
    std::fs::copy("/bin/true", &path).expect("a program of our own");
    let section = format!(
        "[[hook]]\nname = \"push\"\nrun = [\"{}\"]\n",
        path.display()
    );
    desk.program.configure(&["example.com"], STAFF, &section);
    let writing = std::fs::File::options().append(true).open(&path);
    let writing = writing.expect("our own file");
    desk.sync(69)
        .expect_answers(&["could not be started", "Text file busy"]);
    drop(writing);
    // A thread that forks at this moment keeps it open a little longer.
    poll_until(Duration::from_secs(60), "the program is free", || {
        (desk.program.run(&["sync"]).code == Some(0)).then_some(())
    });
}

/// A time limit beyond what a clock can say is no limit, and no overflow.
#[test]
fn a_time_limit_may_be_longer_than_time() {
    let desk = Desk::new(&[]);
    let limit = "timeout = \"500000000000years\"\nrun = [\"/bin/true\"]\n";
    let hooks = format!(
        "[[hook]]\nname = \"push\"\n{limit}[[hook]]\nname = \"alarm\"\nwhen = [\"failed\"]\n{limit}"
    );
    desk.program.configure(&["example.com"], STAFF, &hooks);
    desk.sync(0);
    std::fs::remove_file(desk.path("staff.list")).expect("our own file");
    desk.sync(75);
}

/// A file that not even root can replace, until it is dropped.
struct Immovable(PathBuf);

impl Immovable {
    fn new(path: PathBuf) -> Option<Immovable> {
        let output = common::process::command("chattr")
            .arg("+i")
            .arg(&path)
            .output();
        output
            .is_ok_and(|output| output.status.success())
            .then_some(Immovable(path))
    }
}

impl Drop for Immovable {
    fn drop(&mut self) {
        let _ = common::process::command("chattr")
            .arg("-i")
            .arg(&self.0)
            .status();
    }
}

#[test]
fn a_hook_is_told_of_what_is_in_force_and_not_of_what_was_decided() {
    let desk = Desk::new(&[("push", "", TELL)]);
    desk.check("", 0, "push.sh +4 -0 =4 #1");
    {
        let path = desk.program.table_cdb();
        let Some(_immovable) = Immovable::new(path) else {
            common::skip("chattr +i is refused here, so no rename can be made to fail");
            return;
        };
        desk.check("anna bob carl dora eve", 73, "");
        desk.program
            .run(&["status"])
            .expect_code(2)
            .expect_output(&["1 rename decided and not done"]);
        desk.check("", 73, "");
    }
    desk.check("", 0, "push.sh +1 -0 =5 #2");
    desk.check("", 0, "");
}
