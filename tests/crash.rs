//! A run is killed, or an operation of it fails, at every step that touches the file system.
//!
//! One run is traced by strace first; then it is repeated once for every system call that names a file of the
//! installation, and is killed in front of that call, or the call fails. Whatever happens, every table is the old one or
//! the new one, `status` answers, and one plain run afterwards makes everything as if nothing had happened: the tables, the
//! kept original of a foreign file, the hook, and no file left over. Of a table that is large enough to be written and proven
//! by several threads, it is the calls at its files that are killed or fail, in whichever thread comes to one first; of a table
//! that postmap builds, those at the place where postmap works, in whichever of the two programs comes to one.
//! Not here: damage to files that lie there (`state.rs`).
#![allow(
    clippy::expect_used,
    reason = "a test fails by panicking, and the message says what was expected"
)]

mod common;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use common::campaign;
use common::postfix::{self, Instance};
use common::process::{command, succeed};
use common::rcptsync::Rcptsync;
use common::{require, set_mode, write_file};

/// Every call that changes files, by all of its names; a question mark where an architecture may lack it.
const SYSCALLS: &str = "?open,openat,?creat,write,pwrite64,fsync,fdatasync,?rename,?renameat,renameat2,?unlink,unlinkat,\
                        ?chmod,fchmod,fchmodat,?chown,fchown,fchownat,?mkdir,mkdirat,?rmdir,ftruncate";

/// The files of both tables, in text and an index.
fn tables(index: &str) -> [String; 4] {
    [
        "tables/first".into(),
        format!("tables/first.{index}"),
        "tables/second".into(),
        format!("tables/second.{index}"),
    ]
}

/// Recipients of a large table: more than it takes for threads to share its work (`publish::prepare`).
const LARGE: usize = 6_000;

/// An installation in front of a run, to which it can be put back.
struct Scene {
    program: Rcptsync,
    /// What is run: `sync`, or `rollback` to a generation.
    verb: &'static [&'static str],
    /// What stands beside the text of each table: `cdb`, or `lmdb`, which postmap builds with the same octets each time.
    index: &'static str,
    /// Whose postmap that is.
    _postfix: Option<Instance>,
    /// The tables before and after an undisturbed run.
    before: Vec<Option<Vec<u8>>>,
    after: Vec<Option<Vec<u8>>>,
    /// The foreign file whose original must be kept.
    foreign: Option<Vec<u8>>,
    /// How the undisturbed run ends, and what its hook saw.
    code: i32,
    seen_by_hook: String,
    /// Where calls are traced, one path after the other; `None` is everywhere.
    places: Vec<Option<PathBuf>>,
}

/// A system call of a traced run: its name, and the how-manieth of its name in its thread at a place it is.
#[derive(Debug, PartialEq)]
struct Step {
    place: Option<PathBuf>,
    name: String,
    count: usize,
}

impl std::fmt::Display for Step {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} {}", self.name, self.count)?;
        self.place
            .iter()
            .try_for_each(|place| write!(out, " at {}", place.display()))
    }
}

impl Scene {
    /// Two tables that were published, one of them edited by hand since, and a source that moved on.
    fn of_change(name: &str) -> Scene {
        Scene::of_change_of(name, 30, "cdb")
    }

    /// The same with tables that postmap builds, tried at the place where it builds one of them, and beside.
    fn of_built_change(name: &str) -> Scene {
        let mut scene = Scene::of_change_of(name, 30, "lmdb");
        let bench = "tables/.first.lmdb.rcptsync-build";
        let places = [
            bench.to_owned(),
            format!("{bench}/table"),
            format!("{bench}/table.lmdb"),
            "tables".into(),
        ];
        scene.places = places.map(|place| Some(scene.path(&place))).into();
        scene
    }

    /// The same with tables that several threads write and prove, tried at the files of one of them and their directory.
    fn of_large_change(name: &str) -> Scene {
        let mut scene = Scene::of_change_of(name, LARGE, "cdb");
        let places = [
            "tables/.first.rcptsync-new",
            "tables/.first.cdb.rcptsync-new",
            "tables",
        ];
        scene.places = places.map(|place| Some(scene.path(place))).into();
        scene
    }

    fn of_change_of(name: &str, count: usize, index: &'static str) -> Scene {
        let mut program = install(name, index);
        let postfix = (index != "cdb").then(|| Instance::for_postmap(true));
        program.mail_config = postfix.as_ref().map(Instance::config_directory);
        list(&program, 0..count);
        program.run(&["sync"]).expect_code(0);
        let second = program.directory().join("tables/second");
        let mut edited = std::fs::read(&second).expect("a table");
        edited.extend_from_slice(b"stranger@example.com OK\n");
        std::fs::write(&second, &edited).expect("a table");
        list(&program, 1..count + 3);
        let scene = Scene::rehearsed(program, index, 65, Some(edited));
        Scene {
            _postfix: postfix,
            ..scene
        }
    }

    /// Nothing at all, not even a state directory.
    fn of_first_run(name: &str) -> Scene {
        let program = install(name, "cdb");
        list(&program, 0..30);
        Scene::rehearsed(program, "cdb", 0, None)
    }

    /// Two generations, and going back to the first.
    fn of_rollback(name: &str) -> Scene {
        let program = install(name, "cdb");
        for numbers in [0..30, 1..33] {
            list(&program, numbers);
            program.run(&["sync"]).expect_code(0);
        }
        Scene::rehearsed_with(&["rollback", "1"], program, "cdb", 0, None)
    }

    fn rehearsed(
        program: Rcptsync,
        index: &'static str,
        code: i32,
        foreign: Option<Vec<u8>>,
    ) -> Scene {
        Scene::rehearsed_with(&["sync"], program, index, code, foreign)
    }

    fn rehearsed_with(
        verb: &'static [&'static str],
        program: Rcptsync,
        index: &'static str,
        code: i32,
        foreign: Option<Vec<u8>>,
    ) -> Scene {
        let directory = program.directory().to_owned();
        std::fs::create_dir(directory.join("kept")).expect("a directory of our own");
        for part in ["state", "tables", "hook.log"] {
            if directory.join(part).exists() {
                succeed(
                    command("cp")
                        .arg("-a")
                        .arg(directory.join(part))
                        .arg(directory.join("kept")),
                );
            }
        }
        let mut scene = Scene {
            before: Vec::new(),
            after: Vec::new(),
            foreign,
            code,
            seen_by_hook: String::new(),
            places: vec![None],
            index,
            _postfix: None,
            program,
            verb,
        };
        scene.before = scene.tables();
        scene.program.run(verb).expect_code(code);
        scene.after = scene.tables();
        scene.seen_by_hook = scene.hook_log().pop().expect("the hook ran");
        for path in ["tables/first.cdb", "tables/second.cdb"] {
            if index != "cdb" {
                continue;
            }
            let database = cdb::CDB::open(scene.path(path)).expect("a CDB");
            assert!(database.get(b"person1@example.com").is_some(), "{path}");
        }
        assert!(
            scene
                .before
                .iter()
                .zip(&scene.after)
                .all(|(before, after)| before != after)
        );
        scene
    }

    fn path(&self, part: &str) -> PathBuf {
        self.program.directory().join(part)
    }

    fn tables(&self) -> Vec<Option<Vec<u8>>> {
        tables(self.index)
            .iter()
            .map(|table| std::fs::read(self.path(table)).ok())
            .collect()
    }

    fn hook_log(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.path("hook.log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    fn reset(&self) {
        let script = "rm -rf state tables hook.log hook.seen && cp -a kept/. .";
        succeed(
            command("sh")
                .args(["-c", script])
                .current_dir(self.program.directory()),
        );
    }

    /// Runs `sync` below strace; gives its exit code, `None` when it was killed.
    fn trace(&self, place: Option<&Path>, options: &[&str]) -> Option<i32> {
        let status = command("strace")
            .args(["-f", "-y", "-qq", "-o"])
            .arg(self.path("strace.log"))
            .args(["-e", &format!("trace={SYSCALLS}"), "-e", "signal=none"])
            .args(place.iter().flat_map(|place| [Path::new("-P"), place]))
            .args(options)
            .arg(env!("CARGO_BIN_EXE_rcptsync"))
            .arg("--config")
            .arg(self.path("rcptsync.toml"))
            .arg("--quiet")
            .args(self.verb)
            .env_remove("RCPTSYNC_CONFIG")
            .envs(
                self.program
                    .mail_config
                    .iter()
                    .map(|path| ("MAIL_CONFIG", path)),
            )
            .stderr(std::process::Stdio::null())
            .status()
            .expect("strace runs");
        status.code()
    }

    /// The steps of an undisturbed run.
    fn steps(&self) -> Vec<Step> {
        let places = self.places.iter();
        let steps: Vec<Step> = places
            .flat_map(|place| self.steps_at(place.as_deref()))
            .collect();
        assert!(steps.len() >= 15, "strace saw next to nothing: {steps:?}");
        steps
    }

    fn steps_at(&self, place: Option<&Path>) -> Vec<Step> {
        self.reset();
        assert_eq!(self.trace(place, &[]), Some(self.code));
        let log = std::fs::read_to_string(self.path("strace.log")).expect("a log");
        let directory = self.program.directory().to_string_lossy().into_owned();
        let mut counts: HashMap<(String, String), usize> = HashMap::new();
        let mut steps: Vec<Step> = Vec::new();
        for line in log.lines() {
            let Some((thread, call)) = line.split_once(' ') else {
                continue;
            };
            let Some((name, arguments)) = call.trim_start().split_once('(') else {
                continue;
            };
            if name.starts_with('<') || name.contains(' ') {
                continue;
            }
            let count = counts
                .entry((thread.to_owned(), name.to_owned()))
                .or_default();
            *count += 1;
            let step = Step {
                place: place.map(Path::to_owned),
                name: name.to_owned(),
                count: *count,
            };
            if arguments.contains(&directory) && !steps.contains(&step) {
                steps.push(step);
            }
        }
        let steps_min = if place.is_none() { 50 } else { 1 };
        assert!(
            steps.len() >= steps_min,
            "strace saw next to nothing:\n{log}"
        );
        steps
    }

    /// Whether the last run recorded nothing but what an undisturbed one does: 65 hides a frozen source behind it.
    fn is_said_to_be_current(&self) -> bool {
        let text = std::fs::read_to_string(self.path("state/runs.jsonl")).unwrap_or_default();
        let run: serde_json::Value = text
            .lines()
            .last()
            .and_then(|line| serde_json::from_str(line).ok())
            .unwrap_or_default();
        let expected = if self.code == 0 {
            serde_json::json!([])
        } else {
            serde_json::json!(["held"])
        };
        run["exits"] == expected
    }

    /// What must be true whatever happened.
    #[track_caller]
    fn check_not_half(&self, what: &str) {
        for ((table, now), (before, after)) in tables(self.index)
            .iter()
            .zip(self.tables())
            .zip(self.before.iter().zip(&self.after))
        {
            assert!(now == *before || now == *after, "{what}: {table} is half");
        }
        let status = self.program.run(&["status"]);
        assert!(
            matches!(status.code, Some(0..=3)) && !status.stderr.contains("panicked"),
            "{what}: status {:?}\n{}",
            status.code,
            status.stderr
        );
    }

    /// One plain run, and it is as if nothing had happened.
    #[track_caller]
    fn check_healed(&self, what: &str) {
        if self.verb != ["sync"] {
            self.check_decided(what);
        }
        let run = self.program.run(self.verb);
        assert_eq!(
            run.code,
            Some(self.code),
            "{what}\n{}{}",
            run.stdout,
            run.stderr
        );
        for ((table, now), after) in tables(self.index)
            .iter()
            .zip(self.tables())
            .zip(&self.after)
        {
            assert!(now == *after, "{what}: {table} is not the new one");
        }
        let seen = self.hook_log();
        assert_eq!(
            seen.last(),
            Some(&self.seen_by_hook),
            "{what}: the hook saw something else last"
        );
        let text = std::fs::read(self.path("state/head.json")).expect("head.json");
        let head: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        assert_eq!(
            head["hooks"]["told"], head["published"],
            "{what}: the hook is owed"
        );
        assert_eq!(
            head["pending"],
            serde_json::json!([]),
            "{what}: renames are pending"
        );
        self.check_nothing_left_over(what, &head);
        if let Some(foreign) = &self.foreign {
            let kept = self.names("state/generation").iter().any(|name| {
                name.contains(".original.second.text")
                    && std::fs::read(self.path("state/generation").join(name))
                        .is_ok_and(|kept| kept == *foreign)
            });
            assert!(kept, "{what}: the original is not kept");
        }
    }

    /// A plain run neither carries out what was not decided, nor publishes what was undone.
    #[track_caller]
    fn check_decided(&self, what: &str) {
        let run = self.program.run(&["sync"]);
        let expected = match run.code {
            Some(0) => &self.before,
            Some(65) => &self.after,
            code => unreachable!("{what}: {code:?}\n{}{}", run.stdout, run.stderr),
        };
        assert!(self.tables() == *expected, "{what}: exit {:?}", run.code);
    }

    #[track_caller]
    fn check_nothing_left_over(&self, what: &str, head: &serde_json::Value) {
        let names = self.names("tables");
        let expected = tables(self.index).map(|table| table.replace("tables/", ""));
        assert_eq!(names, expected, "{what}");
        let mut expected: Vec<String> = ["first", "second"]
            .map(|table| format!("{table}-{}", head["tables"][table]["ledger"]))
            .into();
        expected.sort();
        assert_eq!(self.names("state/ledger"), expected, "{what}");
        let base = format!("base-{}", head["sources"]["people"]["base"]);
        assert_eq!(self.names("state/source/people"), [base], "{what}");
        let mut holds: Vec<String> = head["holds"]
            .as_object()
            .expect("holds")
            .keys()
            .cloned()
            .collect();
        holds.sort();
        assert_eq!(self.names("state/hold"), holds, "{what}");
        let last = head["generation"].as_u64().expect("a number");
        for name in self.names("state/generation") {
            let number = name
                .split('.')
                .next()
                .and_then(|number| number.parse::<u64>().ok());
            assert!(
                number.is_some_and(|number| number <= last),
                "{what}: generation/{name}"
            );
        }
        let known = [
            "generation",
            "head.json",
            "hold",
            "ledger",
            "lock",
            "runs.jsonl",
            "source",
        ];
        for name in self.names("state") {
            assert!(known.contains(&name.as_str()), "{what}: state/{name}");
        }
    }

    fn names(&self, part: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(part))
            .into_iter()
            .flatten()
            .flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

fn install(name: &str, index: &str) -> Rcptsync {
    let program = Rcptsync::new(name);
    let directory = program.directory().display().to_string();
    let hook = program.directory().join("hook");
    write_file(
        &hook,
        format!(
            "#!/bin/sh\ncd {directory} && cat {} >hook.seen && cksum <hook.seen >>hook.log\n",
            tables(index).join(" ")
        ),
    );
    set_mode(&hook, 0o755);
    program.write_config(&format!(
        "state_dir = \"{directory}/state\"\n[domains]\nlist = [\"example.com\"]\n\
         [source.people]\nkind = \"list\"\npath = \"{directory}/people.list\"\n\
         [table.first]\npath = \"{directory}/tables/first\"\nformats = [\"text\", \"{index}\"]\nfolding = \"unicode\"\n\
         [table.second]\npath = \"{directory}/tables/second\"\nformats = [\"text\", \"{index}\"]\nfolding = \"unicode\"\n\
         [[hook]]\nname = \"told\"\nrun = [\"{directory}/hook\"]\n",
    ));
    program
}

/// Writes the list as a file that settled a while ago; a younger one is not believed yet.
fn list(program: &Rcptsync, numbers: std::ops::Range<usize>) {
    let path = program.directory().join("people.list");
    let text: String = numbers
        .map(|number| format!("person{number}@example.com\n"))
        .collect();
    write_file(&path, text);
    let file = std::fs::File::options()
        .write(true)
        .open(path)
        .expect("our list");
    file.set_modified(SystemTime::now() - Duration::from_secs(60))
        .expect("a time of our own");
}

#[track_caller]
fn check_killed(scene: &Scene, what: &str) {
    if !require("strace") {
        return;
    }
    let steps = scene.steps();
    for step in &steps {
        let what = format!("{what}: killed at {step}");
        scene.reset();
        let inject = format!("inject={}:signal=KILL:when={}", step.name, step.count);
        let code = scene.trace(step.place.as_deref(), &["-e", &inject]);
        // The hook's own shell may be the one that is killed; then the hook is owed. Without its postmap, a run publishes nothing.
        assert!(
            matches!(code, None | Some(69 | 73 | 137)),
            "{what}: ended with {code:?}"
        );
        scene.check_not_half(&what);
        scene.check_healed(&what);
    }
    campaign::tell(
        steps.len(),
        &format!("points of {what} where it was killed"),
    );
}

/// `errors` by the beginning of the call's name.
#[track_caller]
fn check_failing(scene: &Scene, what: &str, errors: &[(&str, &str)]) {
    if !require("strace") {
        return;
    }
    let mut points = 0;
    for step in scene.steps() {
        let of_step = |(prefix, _): &&(&str, &str)| step.name.starts_with(prefix);
        for (_, error) in errors.iter().filter(of_step) {
            let what = format!("{what}: {step} fails with {error}");
            scene.reset();
            let inject = format!("inject={}:error={error}:when={}", step.name, step.count);
            let code = scene.trace(step.place.as_deref(), &["-e", &inject]);
            points += 1;
            scene.check_not_half(&what);
            if code == Some(0) || (code == Some(scene.code) && scene.is_said_to_be_current()) {
                assert!(
                    scene.tables() == scene.after,
                    "{what}: exit {code:?} with an old table"
                );
            } else {
                assert!(
                    matches!(code, Some(65 | 69 | 73 | 75 | 77 | 78)),
                    "{what}: ended with {code:?}"
                );
            }
            scene.check_healed(&what);
        }
    }
    campaign::tell(points, &format!("points of {what} where a call failed"));
}

#[test]
fn a_run_that_changes_tables_is_killed_at_every_step() {
    check_killed(&Scene::of_change("killed"), "a change");
}

#[test]
fn the_first_run_is_killed_at_every_step() {
    check_killed(&Scene::of_first_run("killed-first"), "a first run");
}

#[test]
fn going_back_is_killed_at_every_step() {
    check_killed(&Scene::of_rollback("killed-rollback"), "going back");
}

#[test]
fn a_run_that_changes_large_tables_is_killed_at_every_step() {
    check_killed(&Scene::of_large_change("killed-large"), "a large change");
}

#[test]
fn a_run_that_changes_built_tables_is_killed_at_every_step() {
    if postfix::is_available() {
        check_killed(&Scene::of_built_change("killed-built"), "a built change");
    }
}

#[test]
fn every_step_of_a_built_change_fails_once() {
    if postfix::is_available() {
        let errors = [
            ("pwrite", "ENOSPC"),
            ("fdatasync", "EIO"),
            ("fsync", "EIO"),
            ("open", "EACCES"),
            ("rename", "EIO"),
            ("unlink", "EACCES"),
            ("mkdir", "ENOSPC"),
        ];
        let scene = Scene::of_built_change("failing-built");
        check_failing(&scene, "a built change", &errors);
    }
}

#[test]
fn every_step_of_a_change_fails_once() {
    let errors = [
        ("write", "ENOSPC"),
        ("pwrite", "ENOSPC"),
        ("fsync", "EIO"),
        ("fdatasync", "EIO"),
        ("rename", "EIO"),
        ("rename", "EACCES"),
        ("open", "EACCES"),
        ("open", "EIO"),
        ("unlink", "EACCES"),
        ("fchmod", "EPERM"),
    ];
    check_failing(&Scene::of_change("failing"), "a change", &errors);
}

#[test]
fn every_step_of_a_large_change_fails_once() {
    let errors = [("write", "ENOSPC"), ("fsync", "EIO"), ("open", "EIO")];
    let scene = Scene::of_large_change("failing-large");
    check_failing(&scene, "a large change", &errors);
}

#[test]
fn every_step_of_the_first_run_fails_once() {
    let errors = [
        ("write", "EIO"),
        ("fsync", "EIO"),
        ("rename", "EIO"),
        ("open", "ENOSPC"),
        ("mkdir", "ENOSPC"),
    ];
    check_failing(
        &Scene::of_first_run("failing-first"),
        "a first run",
        &errors,
    );
}
