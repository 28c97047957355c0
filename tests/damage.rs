//! Every file of the state directory, damaged in every way that a disk, a backup or a stray hand can think of.
//!
//! One installation is brought into a state that has everything: sources of two kinds, generations, the original of a
//! foreign file, a hold that waits, a hook that was told. All removals that its sources ask for wait for an approval that
//! nobody gives, so whatever is done to the state, each table must have the rows that it had: one less is a recipient lost
//! with the state, one more is one that came out of it. Every verb must answer, in its time and without a bug, and a run
//! must say that something is wrong or write it anew. Not here: dying in the middle (`crash.rs`), and what each kind of
//! damage means in detail (`state.rs`).
#![allow(
    clippy::expect_used,
    reason = "a test fails by panicking, and the message says what was expected"
)]

mod common;

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use common::campaign;
use common::process::{command, succeed};
use common::rcptsync::{Outcome, Rcptsync};
use common::write_file;
use rcptsync::state::State;

/// Far more than a run takes, and far less than for ever: a pipe in the place of a file must not be waited for.
const PATIENCE_SECONDS: &str = "30";

const SEED: u64 = 20_261_126;

/// What a run may end with over damaged state: everything that is no bug, no signal and no time-out.
const HONEST: [i32; 8] = [0, 65, 69, 73, 74, 75, 77, 78];

const HOOKS: &str = "[[hook]]\nname = \"push\"\nrun = [\"/bin/true\"]\n\
                     [[hook]]\nname = \"alarm\"\nwhen = [\"refused\", \"failed\"]\nrun = [\"/bin/true\"]\n";

const SOURCES: &str = "[source.staff]\nkind = \"list\"\npath = \"staff.list\"\n\
                       [source.partners]\nkind = \"list\"\npath = \"partners.list\"\n";

fn names(prefix: &str, numbers: std::ops::Range<usize>) -> String {
    let names: Vec<String> = numbers.map(|number| format!("{prefix}{number}")).collect();
    names.join(" ")
}

fn lines(prefix: &str, numbers: std::ops::Range<usize>) -> String {
    numbers
        .map(|number| format!("{prefix}{number}@example.com\n"))
        .collect()
}

/// An installation with everything, to which it can be put back.
struct Scene {
    program: Rcptsync,
    /// The rows of the text, and of the index.
    rows: [BTreeSet<String>; 2],
    /// Files of the state, from its directory.
    files: Vec<PathBuf>,
    /// Whether [`GONE`] may be there again.
    may_return: bool,
}

/// How many earlier states of a scene are kept.
const EARLIER: usize = 4;

/// Who was removed before the present state: an old one that is put back whole knows nothing of that, and keeps who it knows
/// while removals wait, or while no source can be read.
const GONE: &str = "staff0@example.com";

impl Scene {
    fn new(name: &str) -> Scene {
        let program = Rcptsync::plain(name, SOURCES, HOOKS);
        let keep = |number: usize| {
            let script = format!("mkdir kept-{number} && cp -a state kept-{number}");
            succeed(
                command("sh")
                    .args(["-c", &script])
                    .current_dir(program.directory()),
            );
        };
        program.staff(&format!("{} comes-and-goes", names("staff", 0..40)));
        program.write_settled("partners.list", &lines("partner", 0..30));
        program.run(&["sync"]).expect_code(0);
        keep(1);
        program.staff(&names("staff", 1..43));
        program.write_settled("partners.list", &lines("partner", 0..31));
        program.run(&["sync"]).expect_code(0);
        keep(2);
        let mut edited = std::fs::read(program.table()).expect("a table");
        edited.extend_from_slice(b"stranger@example.com OK\n");
        std::fs::write(program.table(), edited).expect("our own table");
        program.staff(&format!("{} comes-and-goes", names("staff", 1..44)));
        program.run(&["sync"]).expect_code(65);
        keep(3);
        // Both would lose most of their people, and that waits.
        program.staff(&names("staff", 1..8));
        program.run(&["sync"]).expect_code(65);
        keep(4);
        program.staff(&names("staff", 1..4));
        program.write_settled("partners.list", &lines("partner", 0..3));
        program.run(&["sync"]).expect_code(65);
        program.run(&["sync"]).expect_code(65);
        succeed(
            command("sh")
                .args([
                    "-c",
                    "mkdir kept && cp -a state tables staff.list partners.list kept",
                ])
                .current_dir(program.directory()),
        );
        let mut scene = Scene {
            rows: rows(&program),
            files: Vec::new(),
            may_return: false,
            program,
        };
        scene.files = scene.files_now();
        let found: Vec<String> = scene
            .files
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        for part in [
            "generation/1",
            ".original.",
            "head.json",
            "hold/",
            "ledger/",
            "lock",
            "notified.json",
            "runs.jsonl",
            "source/partners/base-",
            "source/staff/base-",
        ] {
            assert!(
                found.iter().any(|name| name.contains(part)),
                "{part}: {found:?}"
            );
        }
        scene
    }

    fn state(&self) -> PathBuf {
        self.program.state_dir()
    }

    fn path_kept(&self, file: &Path) -> PathBuf {
        self.program.directory().join("kept/state").join(file)
    }

    fn files_now(&self) -> Vec<PathBuf> {
        let output = succeed(
            command("find")
                .args([".", "!", "-type", "d", "-printf", "%P\\n"])
                .current_dir(self.state()),
        );
        let text = String::from_utf8(output.stdout).expect("our own names");
        let mut files: Vec<PathBuf> = text.lines().map(PathBuf::from).collect();
        files.sort();
        files
    }

    fn reset(&self) {
        let script = "rm -rf state tables staff.list partners.list && cp -a kept/. .";
        succeed(
            command("sh")
                .args(["-c", script])
                .current_dir(self.program.directory()),
        );
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        self.program
            .run_under(&["timeout", PATIENCE_SECONDS], arguments)
    }

    /// A verb must answer, and not by a bug.
    #[track_caller]
    fn answer(&self, what: &str, arguments: &[&str], codes: &[i32]) -> Outcome {
        let outcome = self.run(arguments);
        assert!(
            outcome.code.is_some_and(|code| codes.contains(&code))
                && !outcome.stderr.contains("panicked"),
            "{what}: {arguments:?} ended with {:?}\n{}{}",
            outcome.code,
            outcome.stdout,
            outcome.stderr
        );
        outcome
    }

    /// Every table is as it was: nobody lost, nobody let in.
    #[track_caller]
    fn check_rows(&self, what: &str) {
        for (name, (now, before)) in ["the text", "the index"]
            .iter()
            .zip(rows(&self.program).iter().zip(&self.rows))
        {
            let lost: Vec<&String> = before.difference(now).collect();
            let new: Vec<&String> = now.difference(before).collect();
            let is_same = lost.is_empty() && new.iter().all(|key| self.may_return && *key == GONE);
            assert!(is_same, "{what}: {name} lost {lost:?} and has {new:?}");
        }
    }

    /// Whoever looks gets an answer; a run changes no table; the run after it, and the way on that it names, heal.
    #[track_caller]
    fn check(&self, what: &str) {
        self.answer(what, &["status"], &[0, 1, 2, 3]);
        self.answer(what, &["explain", "staff20@example.com"], &[0, 73, 77, 78]);
        self.answer(what, &["explain", "nobody@example.com"], &[1, 73, 77, 78]);
        self.answer(what, &["diff"], &HONEST);
        self.answer(what, &["history"], &[0, 77, 78]);
        self.check_rows(what);
        let first = self.answer(what, &["sync"], &HONEST);
        self.check_rows(&format!("{what}, after a run"));
        if first.code == Some(78) {
            assert!(
                first.stderr.contains("in force: ") && first.stderr.contains("next:     "),
                "{what}: {}",
                first.stderr
            );
            return;
        }
        self.answer(what, &["sync"], &HONEST);
        self.check_rows(&format!("{what}, after two runs"));
    }

    /// The same while no source can be read: what stands in must be what they said last, or nothing.
    #[track_caller]
    fn check_as(&self, is_blind: bool, what: &str) {
        if !is_blind {
            return self.check(what);
        }
        for source in ["staff.list", "partners.list"] {
            std::fs::remove_file(self.program.directory().join(source)).expect("a list");
        }
        self.check(&format!("{what}, without its sources"));
    }

    /// Whether what the file says is believed; `None` for a file of which nothing is.
    fn is_believed(&self, file: &Path) -> Option<bool> {
        let state = State::view(&self.state());
        let kept = State::view(&self.program.directory().join("kept/state"));
        let head = kept.head().expect("whole");
        let name = file.file_name().expect("a name").to_string_lossy();
        let number = || name.parse().expect("a number");
        let parts: Vec<String> =
            (file.iter().map(|part| part.to_string_lossy().into_owned())).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        Some(match parts.as_slice() {
            ["head.json"] => state.head().is_ok(),
            ["ledger", _] => state
                .ledger("relay_recipients", &head.tables["relay_recipients"])
                .is_ok(),
            ["generation", name] if !name.contains('.') => state.generation(number()).is_ok(),
            ["hold", name] => state.hold(name).is_ok(),
            ["source", source, _] => state.records(source, &head.sources[*source], None).is_ok(),
            ["notified.json"] => {
                state.notified();
                return None;
            }
            ["runs.jsonl"] => {
                state.runs();
                return None;
            }
            _ => return None,
        })
    }

    fn check_not_believed(&self, file: &Path, bytes: &[u8], what: &str) {
        std::fs::write(self.state().join(file), bytes).expect("a file of the state");
        let is_believed = self.is_believed(file);
        assert!(
            is_believed != Some(true),
            "{} {what} is believed",
            file.display()
        );
    }

    fn earlier(&self, number: usize) -> PathBuf {
        self.program
            .directory()
            .join(format!("kept-{number}/state"))
    }
}

fn rows(program: &Rcptsync) -> [BTreeSet<String>; 2] {
    let index = cdb::CDB::open(program.table_cdb()).expect("an index");
    let keys = index.iter().map(|row| row.expect("a row").0);
    let keys = keys.map(|key| String::from_utf8(key).expect("a key"));
    [program.table_keys(), keys.collect()]
}

/// What can stand in the place of a file.
#[derive(Clone, Copy, Debug)]
enum Instead {
    Nothing,
    Empty,
    Directory,
    Pipe,
    Zeros,
    LinkToNowhere,
    LinkToDevice,
    OtherVersion,
    Text,
}

const INSTEAD: [Instead; 9] = [
    Instead::Nothing,
    Instead::Empty,
    Instead::Directory,
    Instead::Pipe,
    Instead::Zeros,
    Instead::LinkToNowhere,
    Instead::LinkToDevice,
    Instead::OtherVersion,
    Instead::Text,
];

fn replace(path: &Path, instead: Instead) {
    let bytes = std::fs::read(path).expect("a file of the state");
    std::fs::remove_file(path).expect("removed");
    match instead {
        Instead::Nothing => {}
        Instead::Empty => write_file(path, ""),
        Instead::Directory => std::fs::create_dir(path).expect("made"),
        Instead::Pipe => drop(succeed(command("mkfifo").arg(path))),
        Instead::Zeros => write_file(path, vec![0; bytes.len()]),
        Instead::LinkToNowhere => symlink("/nowhere/at/all", path).expect("linked"),
        Instead::LinkToDevice => symlink("/dev/zero", path).expect("linked"),
        Instead::OtherVersion => {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let newer = match text.split_once('\n') {
                Some((first, _)) if first.starts_with("rcptsync ") => {
                    let mut newer = bytes.clone();
                    newer[first.len() - 1] += 1;
                    newer
                }
                _ => text
                    .replacen("\"format\": 1", "\"format\": 2", 1)
                    .into_bytes(),
            };
            write_file(path, newer);
        }
        Instead::Text => write_file(path, "somebody's notes\n"),
    }
}

#[test]
fn whatever_stands_in_the_place_of_a_file() {
    let scene = Scene::new("damage-instead");
    let mut count = 0;
    for (number, file) in scene.files.iter().enumerate() {
        for (kind, instead) in INSTEAD.into_iter().enumerate() {
            let is_blind = (number + kind) % 2 == 1;
            for blind in [false, true] {
                let is_skipped = blind != is_blind || (number + kind) % 3 != 0;
                if is_skipped && !campaign::is_long() {
                    continue;
                }
                scene.reset();
                replace(&scene.state().join(file), instead);
                scene.check_as(
                    blind,
                    &format!("{instead:?} in the place of {}", file.display()),
                );
                count += 1;
            }
        }
    }
    campaign::tell(
        count,
        "files of the state with something else in their place",
    );
}

/// Lengths of a file: the first and the last ones, and a stride between; in a long run all of them.
fn lengths(length: usize) -> Vec<usize> {
    let (ends, stride) = if campaign::is_long() {
        (1024, 1)
    } else {
        (64, 211)
    };
    let is_tried = |at: &usize| *at < ends || *at + ends >= length || at.is_multiple_of(stride);
    (0..length).filter(is_tried).collect()
}

#[test]
fn a_file_cut_anywhere_or_flipped_anywhere_is_not_believed() {
    let scene = Scene::new("damage-cut");
    let (seed, mut random) = campaign::seeded(SEED);
    let (mut cuts, mut flips) = (0, 0);
    for file in &scene.files {
        let whole = std::fs::read(scene.state().join(file)).expect("a file of the state");
        assert!(scene.is_believed(file) != Some(false), "{}", file.display());
        // The last line end of head.json is covered by nothing.
        let end = whole.len() - usize::from(file.ends_with("head.json"));
        for length in lengths(end) {
            scene.check_not_believed(file, &whole[..length], &format!("cut at {length}"));
            cuts += 1;
        }
        for _ in 0..campaign::extent(50, 3_000).min(8 * end as u64) {
            let at = usize::try_from(random.below(end as u64)).expect("within the file");
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << random.below(8);
            scene.check_not_believed(file, &flipped, &format!("flipped at {at}, seed {seed}"));
            flips += 1;
        }
        std::fs::write(scene.state().join(file), whole).expect("a file of the state");
    }
    campaign::tell(cuts, "lengths at which a file of the state was cut");
    campaign::tell(flips, "bits of the state that were flipped");
}

#[test]
fn runs_go_on_over_files_that_were_cut_or_flipped() {
    let scene = Scene::new("damage-runs");
    let (seed, mut random) = campaign::seeded(SEED);
    let mut count = 0;
    for file in &scene.files {
        let whole = std::fs::read(scene.path_kept(file)).expect("a file of the state");
        if whole.is_empty() {
            continue;
        }
        for _ in 0..campaign::extent(1, 40) {
            scene.reset();
            let at = usize::try_from(random.below(whole.len() as u64)).expect("within the file");
            let (mut bytes, is_blind) = (whole.clone(), random.below(2) == 0);
            let how = if random.below(2) == 0 {
                bytes.truncate(at);
                "cut"
            } else {
                bytes[at] ^= 1 << random.below(8);
                "flipped"
            };
            std::fs::write(scene.state().join(file), bytes).expect("a file of the state");
            scene.check_as(
                is_blind,
                &format!("{} {how} at {at}, seed {seed}", file.display()),
            );
            count += 1;
        }
    }
    campaign::tell(
        count,
        "installations run with a file of the state cut or flipped",
    );
}

/// Of what kind a file of the state is: those of one kind could stand for each other.
fn kind(file: &Path) -> String {
    let name = file.file_name().expect("a name").to_string_lossy();
    let parent = file.parent().expect("a parent").display().to_string();
    let letters: String = name.chars().filter(char::is_ascii_alphabetic).collect();
    match parent.split('/').next() {
        Some("hold") => "hold".into(),
        Some("source") => "base".into(),
        _ => format!("{parent}/{letters}"),
    }
}

/// A file that is whole, and that was another one: an older version under the present name, or that of a neighbour.
#[test]
fn a_whole_file_in_the_place_of_another_counts_for_nothing() {
    let mut scene = Scene::new("damage-swapped");
    let mut swaps: Vec<(PathBuf, PathBuf)> = Vec::new();
    let whole = |path: &Path| std::fs::read(path).expect("a file of the state");
    let states = (1..=EARLIER).map(|number| format!("kept-{number}/state"));
    for state in states.chain(["kept/state".to_owned()]) {
        let found = succeed(
            command("find")
                .args([&state, "-type", "f", "-size", "+0"])
                .current_dir(scene.program.directory()),
        );
        for other in String::from_utf8(found.stdout)
            .expect("our own names")
            .lines()
        {
            let relative = Path::new(other.strip_prefix(&format!("{state}/")).expect("below"));
            let other = scene.program.directory().join(other);
            for file in scene
                .files
                .iter()
                .filter(|file| kind(file) == kind(relative))
            {
                let is_known = |(known, with): &(PathBuf, PathBuf)| {
                    known == file && whole(with) == whole(&other)
                };
                let is_same = whole(&scene.path_kept(file)) == whole(&other);
                if !is_same && !swaps.iter().any(is_known) {
                    swaps.push((file.clone(), other.clone()));
                }
            }
        }
    }
    assert!(swaps.len() > 20, "{swaps:?}");
    let mut count = 0;
    for (number, (file, with)) in swaps.iter().enumerate() {
        let is_head = file.ends_with("head.json");
        for is_blind in [false, true] {
            let is_records = file.starts_with("source");
            let is_tried = is_blind == (number % 2 == 0) || is_head || is_records;
            if !is_tried && !campaign::is_long() {
                continue;
            }
            scene.reset();
            std::fs::copy(with, scene.state().join(file)).expect("copied");
            let what = format!("{} for {}", with.display(), file.display());
            let is_evidence =
                is_head || file.ends_with("runs.jsonl") || file.ends_with("notified.json");
            if !is_evidence {
                assert!(scene.is_believed(file) != Some(true), "{what} is believed");
            }
            scene.may_return = is_head && is_blind;
            scene.check_as(is_blind, &what);
            count += 1;
        }
    }
    campaign::tell(
        count,
        "files of the state swapped with another of their kind",
    );
}

/// A part of the state, or all of it, put back from a backup while the tables are newer.
#[test]
fn an_older_state_takes_nobody_away() {
    let mut scene = Scene::new("damage-restored");
    let mut count = 0;
    for number in 1..=EARLIER {
        let parts = [
            ".",
            "source",
            "source/staff",
            "ledger",
            "generation",
            "hold",
        ];
        for (place, part) in parts.into_iter().enumerate() {
            for is_blind in [false, true] {
                let (from, to) = match part {
                    "." => (scene.earlier(number), scene.state()),
                    _ => (scene.earlier(number).join(part), scene.state().join(part)),
                };
                let is_skipped = part != "." && (number + place + usize::from(is_blind)) % 2 == 0;
                if !from.exists() || (is_skipped && !campaign::is_long()) {
                    continue;
                }
                scene.reset();
                std::fs::remove_dir_all(&to).expect("a part of the state");
                succeed(command("cp").arg("-a").arg(&from).arg(&to));
                scene.may_return = part == ".";
                scene.check_as(is_blind, &format!("{part} of {number} generations"));
                count += 1;
            }
        }
    }
    campaign::tell(count, "parts of the state put back from a backup");
}

/// The state directory is not there, or is none.
#[test]
fn a_state_directory_that_is_gone_takes_nobody_away() {
    let scene = Scene::new("damage-gone");
    for is_blind in [false, true] {
        scene.reset();
        std::fs::remove_dir_all(scene.state()).expect("the state");
        scene.check_as(is_blind, "no state directory");
        for part in ["source", "ledger", "generation", "hold"] {
            scene.reset();
            std::fs::remove_dir_all(scene.state().join(part)).expect("a part of the state");
            scene.check_as(is_blind, &format!("no {part}"));
            scene.reset();
            std::fs::remove_dir_all(scene.state().join(part)).expect("a part of the state");
            write_file(&scene.state().join(part), "a file");
            scene.check_as(is_blind, &format!("a file for {part}"));
        }
    }
    scene.reset();
    std::fs::remove_dir_all(scene.state()).expect("the state");
    write_file(&scene.state(), "a file");
    scene.check("a file for the state directory");
}
