//! Hooks that are told how things stand: sequences of runs, and what was told at each.

mod common;

use std::path::PathBuf;

use common::embedded::{self, BASE};
use common::plain::STAFF;
use common::rcptsync::{Outcome, Rcptsync};
use common::{require, write_file};
use ldap_server::{Directory, Fault, Moment};

/// A program that writes the subject it is told into the log.
const TELL: &str = "echo \"$RCPTSYNC_SUBJECT\" >> $log";

/// What a hook for everything asks for.
const ALL: &str = "when = [\"refused\", \"failed\", \"owed\", \"recovered\"]";

/// More of the staff than the guard lets go at once: fifty of them.
fn staff(last: usize) -> String {
    let names: Vec<String> = (1..=last).map(|number| format!("a{number:02}")).collect();
    names.join(" ")
}

const HELD: &str = "changes of relay_recipients are held: domain_halved, example.com";
const FLOWS: &str = "no change of relay_recipients is held any more for domain_halved, example.com";

/// An installation with published staff, whose hooks are scripts that append to one log.
struct Desk {
    program: Rcptsync,
}

impl Desk {
    /// Name, keys and body of each hook; the body finds the log in `$log`.
    fn new(name: &str, hooks: &[(&str, &str, &str)]) -> Desk {
        let desk = Desk {
            program: Rcptsync::plain(name, STAFF, ""),
        };
        desk.program.staff(&staff(50));
        desk.hooks(hooks);
        desk.program.run(&["sync"]).expect_code(0);
        assert_eq!(desk.log(), "", "all is well");
        desk
    }

    fn hooks(&self, hooks: &[(&str, &str, &str)]) {
        let log = self.path("log");
        let mut sections = String::new();
        for (name, keys, body) in hooks {
            let script = self.path(&format!("{name}.sh"));
            write_file(&script, format!("log={}\n{body}\n", log.display()));
            let script = script.display();
            sections += &format!(
                "[[hook]]\nname = \"{name}\"\nrun = [\"/bin/sh\", \"{script}\"]\n{keys}\n"
            );
        }
        self.program.configure(&["example.com"], STAFF, &sections);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.program.directory().join(name)
    }

    /// What was told since the last look, without the name of the machine.
    fn log(&self) -> String {
        let text = std::fs::read_to_string(self.path("log")).unwrap_or_default();
        write_file(&self.path("log"), "");
        let lines = text.lines().map(|line| match line.split_once(": ") {
            Some((host, told)) if host.starts_with("rcptsync on ") => told,
            _ => line,
        });
        lines.collect::<Vec<_>>().join("; ")
    }

    /// A run that must end with this code and tell this.
    #[track_caller]
    fn check(&self, arguments: &[&str], code: i32, told: &str) -> Outcome {
        let outcome = self.program.run(arguments).expect_code(code);
        assert_eq!(self.log(), told, "{}", outcome.stderr);
        outcome
    }

    fn digest(&self) -> String {
        self.program.holds().1.first().expect("a hold").clone()
    }
}

#[test]
fn a_hold_is_told_once_and_so_is_its_end() {
    let desk = Desk::new("told-hold", &[("tell", ALL, TELL)]);
    desk.program.staff(&staff(20));
    // A look tells nothing.
    desk.check(&["diff"], 65, "");
    desk.check(&["sync", "--dry-run"], 65, "");
    desk.check(&["sync"], 65, &format!("refused: {HELD}"));
    desk.check(&["sync"], 65, "");
    // Another hold for the same reason, with another digest.
    desk.program.staff(&staff(19));
    desk.check(&["sync"], 65, "");
    desk.program
        .run(&["approve", &desk.digest()])
        .expect_code(0);
    desk.check(&["sync"], 0, &format!("recovered: {FLOWS}"));
    desk.check(&["sync"], 0, "");
    // Going back is a run.
    desk.check(
        &["rollback", "1"],
        0,
        "refused: changes of relay_recipients are held: rollback, generation 1",
    );
    desk.check(&["sync"], 65, "");
}

#[test]
fn a_source_that_fails_is_told_once_and_so_is_its_return() {
    let desk = Desk::new(
        "told-source",
        &[
            ("tell", ALL, TELL),
            (
                "ends",
                "when = \"recovered\"",
                "echo \"$RCPTSYNC_WHEN, $RCPTSYNC_CODE\" >> $log",
            ),
        ],
    );
    let (there, away) = (desk.path("staff.list"), desk.path("away"));
    let frozen = "failed: source staff cannot be read completely";
    for (is_there, code, told) in [
        (false, 75, frozen),
        (false, 75, ""),
        (
            true,
            0,
            "recovered: source staff is not frozen any more; recovered, 0",
        ),
        (true, 0, ""),
        // It comes and goes: that is told once more, and its end not at once.
        (false, 75, frozen),
        (true, 0, ""),
        (false, 75, ""),
        (true, 0, ""),
    ] {
        let _ = if is_there {
            std::fs::rename(&away, &there)
        } else {
            std::fs::rename(&there, &away)
        };
        desk.check(&["sync"], code, told);
    }
    // One thing is over and another is not.
    let desk = Desk::new("told-both", &[("tell", ALL, TELL)]);
    desk.program.staff(&staff(20));
    desk.check(&["sync"], 65, &format!("refused: {HELD}"));
    std::fs::remove_file(desk.path("staff.list")).expect("it was there");
    desk.check(&["sync"], 65, frozen);
    desk.program.staff(&staff(20));
    desk.check(
        &["sync"],
        65,
        "recovered: source staff is not frozen any more (1 still so)",
    );
    // One that was never read.
    let desk = Desk::new("told-never", &[("tell", ALL, TELL)]);
    let config = std::fs::read_to_string(desk.program.config_file()).expect("our own file");
    desk.program.write_config(&format!(
        "{config}[source.other]\nkind = \"list\"\npath = \"other.list\"\n"
    ));
    desk.check(
        &["sync"],
        75,
        "failed: source other has never been read completely",
    );
    desk.check(&["sync"], 75, "");
}

#[test]
fn time_brings_reminders_and_patience() {
    if !require("faketime") {
        return;
    }
    let after = |desk: &Desk, offset: &str, code: i32, told: &str| {
        let outcome = desk
            .program
            .run_under(&["faketime", "-f", offset], &["sync"]);
        assert_eq!(
            (outcome.code, desk.log().as_str()),
            (Some(code), told),
            "{}",
            outcome.stderr
        );
    };
    let frozen = "failed: source staff cannot be read completely";
    for (keys, runs) in [
        (
            "",
            [
                ("+0", frozen),
                ("+23h", ""),
                ("+25h", &format!("still {frozen}")),
                ("+26h", ""),
            ],
        ),
        (
            "remind_every = \"2h\"",
            [
                ("+0", frozen),
                ("+1h", ""),
                ("+3h", &format!("still {frozen}")),
                ("+4h", ""),
            ],
        ),
        (
            "remind_every = \"none\"",
            [("+0", frozen), ("+2h", ""), ("+25h", ""), ("+100d", "")],
        ),
        (
            "delay = \"15m\"",
            [("+0", ""), ("+10m", ""), ("+16m", frozen), ("+30m", "")],
        ),
    ] {
        let desk = Desk::new("told-time", &[("tell", &format!("{ALL}\n{keys}"), TELL)]);
        std::fs::remove_file(desk.path("staff.list")).expect("it was there");
        for (offset, told) in runs {
            after(&desk, offset, 75, told);
        }
    }
}

#[test]
fn a_hook_that_is_owed_is_told_and_a_notice_that_fails_is_not() {
    let broken = "test -e $log.mended";
    let desk = Desk::new("told-owed", &[("tell", ALL, TELL)]);
    desk.hooks(&[
        ("push", "", broken),
        ("tell", ALL, TELL),
        ("deaf", ALL, "exit 1"),
        ("last", ALL, TELL),
    ]);
    let owed = "owed: hook push is owed";
    let outcome = desk.check(&["sync"], 69, &format!("{owed}; {owed}"));
    outcome.expect_answers(&[
        "hook push failed",
        "hook deaf failed",
        "not told: rcptsync on",
        owed,
    ]);
    // Each of them stands for itself, and is tried again.
    let outcome = desk.check(&["sync"], 69, "");
    outcome.expect_answers(&["hook push failed", "hook deaf failed"]);
    let status = desk.program.run(&["status"]).expect_code(1);
    status.expect_output(&[
        "hook push is owed",
        "hook deaf is not told anything since",
        "exit code 1",
    ]);
    let findings = desk.program.run(&["status", "--format", "json"]).json()["findings"].to_string();
    assert!(
        findings.contains("hook deaf is not told anything"),
        "{findings}"
    );
    write_file(&desk.path("log.mended"), "");
    let over = "recovered: hook push is not owed any more";
    desk.check(&["sync"], 69, &format!("{over}; {over}"));
    desk.hooks(&[
        ("push", "", broken),
        ("tell", ALL, TELL),
        ("deaf", ALL, TELL),
        ("last", ALL, TELL),
    ]);
    desk.check(&["sync"], 0, over);
    desk.program.run(&["status"]).expect_code(0);
    desk.check(&["sync"], 0, "");
}

/// A run whose time is over still tells.
#[test]
fn a_notice_has_its_own_time() {
    let desk = Desk::new("told-timeout", &[]);
    desk.hooks(&[("push", "", "sleep 60"), ("tell", ALL, TELL)]);
    let config = std::fs::read_to_string(desk.program.config_file()).expect("our own file");
    desk.program
        .write_config(&format!("run_timeout = \"1s\"\n{config}"));
    desk.check(&["sync"], 69, "owed: hook push is owed");
}

#[test]
fn a_run_that_dies_after_telling_tells_once_more() {
    // Whoever started the hook is killed as soon as it was told, twice.
    let kill = format!(
        "{TELL}\ntest -e $log.twice && exit 0\ntest -e $log.once && touch $log.twice\ntouch $log.once\nkill -9 $PPID"
    );
    let desk = Desk::new("told-killed", &[("tell", ALL, &kill)]);
    let (there, away) = (desk.path("staff.list"), desk.path("away"));
    std::fs::rename(&there, &away).expect("renamed");
    let frozen = "failed: source staff cannot be read completely";
    let killed = desk.program.run(&["sync"]);
    assert_eq!(
        (killed.code != Some(0), desk.log().as_str()),
        (true, frozen),
        "{}",
        killed.stderr
    );
    // It has mended itself meanwhile: whoever was told of it learns that.
    std::fs::rename(&away, &there).expect("renamed");
    let over = "recovered: source staff is not frozen any more";
    let killed = desk.program.run(&["sync"]);
    assert_eq!(
        (killed.code != Some(0), desk.log().as_str()),
        (true, over),
        "{}",
        killed.stderr
    );
    desk.check(&["sync"], 0, over);
    desk.check(&["sync"], 0, "");
}

/// Killed in front of every call that touches what is remembered: told once or twice, never not at all.
#[test]
fn a_run_that_dies_at_any_step_of_remembering_tells_once_or_twice() {
    if !require("strace") {
        return;
    }
    let desk = Desk::new("told-crash", &[("tell", ALL, TELL)]);
    let (there, away) = (desk.path("staff.list"), desk.path("away"));
    let notified = desk.path("state/notified.json");
    let temporary = desk.path("state/.notified.json.new");
    let paths = [
        notified.to_str().expect("text"),
        temporary.to_str().expect("text"),
    ];
    let frozen = "failed: source staff cannot be read completely";
    let mut points_count = 0;
    for call in ["openat", "write", "fsync", "rename", "unlink"] {
        for number in 1.. {
            std::fs::rename(&there, &away).expect("renamed");
            let inject = format!("inject=?{call}:signal=KILL:when={number}");
            let wrapper = [
                "strace",
                "-f",
                "-qq",
                "-o",
                "/dev/null",
                "-P",
                paths[0],
                "-P",
                paths[1],
                "-e",
                &inject,
            ];
            let killed = desk.program.run_under(&wrapper, &["sync"]);
            let is_through = killed.code == Some(75);
            desk.program.run(&["sync"]).expect_code(75);
            let told = desk.log();
            let expected = [frozen.to_owned(), format!("{frozen}; {frozen}")];
            assert!(expected.contains(&told), "{call} {number}: {told}");
            desk.check(&["sync"], 75, "");
            std::fs::rename(&away, &there).expect("renamed");
            std::fs::remove_file(&notified).expect("what was remembered");
            desk.check(&["sync"], 0, "");
            if is_through {
                break;
            }
            points_count += 1;
        }
    }
    assert!(points_count >= 8, "{points_count} points");
}

#[test]
fn state_that_is_damaged_is_told_and_repeats_itself_at_most_once() {
    let desk = Desk::new("told-damaged", &[("tell", ALL, TELL)]);
    std::fs::remove_file(desk.path("staff.list")).expect("it was there");
    let frozen = "failed: source staff cannot be read completely";
    desk.check(&["sync"], 75, frozen);
    for damage in [
        "",
        "{",
        "{\"format\": 2, \"hooks\": {}}",
        "{\"format\": 1, \"hooks\": {\"tell\": 7}}",
    ] {
        write_file(&desk.path("state/notified.json"), damage);
        let outcome = desk.check(&["sync"], 75, frozen);
        assert!(
            outcome.stderr.contains("hooks are told again what goes on"),
            "{}",
            outcome.stderr
        );
        desk.check(&["sync"], 75, "");
    }
    // What nobody can read is not over.
    let head = std::fs::read(desk.path("state/head.json")).expect("head.json");
    write_file(&desk.path("state/head.json"), &head[..head.len() / 2]);
    desk.check(&["sync"], 78, "failed: the state cannot be used");
    desk.check(&["sync"], 78, "");
    write_file(&desk.path("state/head.json"), &head);
    desk.check(
        &["sync"],
        75,
        "recovered: configuration and state are good again (1 still so)",
    );
    // What cannot be remembered would be told by every run, so it is told by none.
    let notified = desk.path("state/notified.json");
    std::fs::remove_file(&notified).expect("it was there");
    std::fs::create_dir(&notified).expect("a directory in its place");
    let outcome = desk.check(&["sync"], 73, "");
    outcome.expect_answers(&["the state could not be written"]);
}

/// Another run holds the lock: that one tells.
#[test]
fn a_locked_run_tells_nothing() {
    let desk = Desk::new("told-locked", &[("tell", ALL, TELL)]);
    std::fs::remove_file(desk.path("staff.list")).expect("it was there");
    let lock = std::fs::File::options()
        .write(true)
        .open(desk.path("state/lock"))
        .expect("the lock");
    lock.lock().expect("locked");
    desk.check(&["sync"], 74, "");
    drop(lock);
    desk.check(
        &["sync"],
        75,
        "failed: source staff cannot be read completely",
    );
}

#[test]
fn a_hook_reads_json_or_text_and_both_are_bounded() {
    let desk = Desk::new(
        "told-input",
        &[
            ("json", ALL, "cat > $log.json"),
            (
                "text",
                &format!("{ALL}\ninput = \"text\""),
                "cat > $log.text; env | sort > $log.env",
            ),
            (
                "none",
                &format!("{ALL}\ninput = \"none\""),
                "cat > $log.none",
            ),
        ],
    );
    let text = |name: &str| std::fs::read_to_string(desk.path(name)).expect("what a hook was told");
    // As many as the guard lets come at once, and all of them go.
    let many: Vec<String> = (0..1_000).map(|number| format!("b{number}")).collect();
    desk.program
        .staff(&format!("{} {}", staff(50), many.join(" ")));
    desk.program.run(&["sync"]).expect_code(0);
    desk.program.staff("a01");
    desk.program.run(&["sync"]).expect_code(65);
    let (json, said) = (text("log.json"), text("log.text"));
    assert!(
        json.len() < 16_384 && said.len() < 8_192,
        "{} {}",
        json.len(),
        said.len()
    );
    assert_eq!(text("log.none"), "");
    let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let keys: Vec<&str> = value
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect();
    let expected = "began ended failures failures_count generation goes_on holds holds_count hooks_owed host is_reminder run \
                    schema sources subject tables text when";
    assert_eq!(keys.join(" "), expected);
    assert_eq!(value["text"], said);
    let hold = &value["holds"][0];
    assert_eq!(
        (
            &hold["removed_count"],
            hold["removed"].as_array().map(Vec::len)
        ),
        (&1_049.into(), Some(10))
    );
    let release = hold["release"].as_str().expect("a command");
    assert!(
        said.contains(&format!("release: {release}")) && said.contains("- ... and 1,039 more"),
        "{said}"
    );
    assert!(
        said.lines().all(|line| line.chars().count() <= 76),
        "{said}"
    );
    let environment = text("log.env");
    for name in [
        "RCPTSYNC_WHEN=refused\n",
        "RCPTSYNC_SUBJECT=rcptsync on ",
        "RCPTSYNC_CODE=65\n",
        "RCPTSYNC_RUN=",
        "LANG=C.UTF-8\n",
    ] {
        assert!(environment.contains(name), "{name}: {environment}");
    }
    // What a command of the text says is what it does.
    let words: Vec<&str> = release.split(' ').skip(1).collect();
    desk.program.run(&words).expect_code(0);
}

/// Whoever answers in place of a controller puts no line into a header, and nothing onto a screen.
#[test]
fn what_comes_from_elsewhere_is_harmless() {
    let hostile = format!(
        "\u{1b}[31m\r\nBcc: mallory@example.com\n\u{202e}{}\u{9b}",
        "x".repeat(5_000)
    );
    let fault = Fault::Code(Moment::Page(1), 4, hostile.into_bytes());
    let directory = Directory::new(BASE).recipients(7).fault(fault);
    let (_server, program) = embedded::install("told-hostile", directory, "", "");
    let (script, json) = (
        program.directory().join("tell.sh"),
        program.directory().join("json"),
    );
    let (path, at) = (script.display(), json.display());
    write_file(
        &script,
        format!("cat > {at}\nprintf %s \"$RCPTSYNC_SUBJECT\" > {at}.subject\n"),
    );
    let config = std::fs::read_to_string(program.config_file()).expect("our own file");
    program.write_config(&format!(
        "{config}[[hook]]\nname = \"tell\"\nrun = [\"/bin/sh\", \"{path}\"]\n{ALL}\n"
    ));
    program.run(&["sync"]).expect_code(65);
    let told = std::fs::read_to_string(&json).expect("what a hook was told");
    let subject = std::fs::read_to_string(json.with_extension("subject")).expect("a subject");
    let value: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    let why = value["failures"][0]["why"].as_str().expect("a text");
    assert!(why.contains("\\u{1b}[31m"), "{why}");
    let text = value["text"].as_str().expect("a text").replace('\n', " ");
    assert!(told.len() < 16_384, "{}", told.len());
    for text in [told.trim_end(), &subject, why, &text] {
        let is_active = |character: char| character.is_control() || character == '\u{202e}';
        assert!(!text.contains(is_active), "{text:?}");
    }
}
