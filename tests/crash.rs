//! A run is killed, or a call of it fails, at every system call that touches the file system or a child process.
//!
//! One run is traced by strace first; then it is repeated once for every call and every fault, and is killed in front of that
//! call, or the call fails with ENOSPC, EIO, EACCES or EINTR. Whatever happens, every file of every table is the old one or the
//! new one and Postfix loads it, `status` tells what is, and one plain run afterwards makes everything as if nothing had happened:
//! the tables, the kept original of a foreign file, the hooks, what was to be told, and no file left over. An ordinary run
//! tries a part, of a change each kind of call with each error. A long one tries every call: of a change with all faults, of
//! other runs with one error after the other.
//!
//! Disks that end in the middle of a write, and reads and writes that are short or interrupted, are real ones. Not here: damage
//! to files that lie there (`state.rs`).
#![allow(
    clippy::expect_used,
    reason = "a test fails by panicking, and the message says what was expected"
)]

mod common;
#[path = "crash/disk.rs"]
mod disk;
#[path = "crash/reader.rs"]
mod reader;
#[path = "crash/scene.rs"]
mod scene;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use common::calls::{Call, Fault, Point};
use common::random::Random;
use common::{campaign, postfix, require};
use scene::{Scene, is_rename_of_table, is_rename_to};

const SEED: u64 = 20_261_126;

/// So many points fail before a campaign stops.
const FAILURES_MAX: usize = 20;

/// Which faults a long run tries in a scene.
#[derive(Clone, Copy, PartialEq)]
enum Faults {
    /// It is killed in front of every call.
    Kill,
    /// Every call fails with every error.
    Errors,
    /// Both.
    All,
    /// It is killed in front of every call that changes something, and every call fails with one error after the other.
    Turns,
}

impl Faults {
    /// Those of the `number`-th call.
    fn of(self, call: &Call, number: usize) -> Vec<Fault> {
        let (mut killed, mut errors): (Vec<Fault>, Vec<Fault>) = call
            .faults()
            .into_iter()
            .partition(|fault| *fault == Fault::Kill);
        match self {
            Faults::Kill => errors.clear(),
            Faults::Errors => killed.clear(),
            Faults::All => {}
            Faults::Turns if campaign::is_long() => {
                killed.retain(|_| call.is_change());
                let at = number % errors.len().max(1);
                errors = errors.into_iter().skip(at).take(1).collect();
            }
            Faults::Turns => {}
        }
        killed.extend(errors);
        killed
    }
}

/// Takes one of a list by chance, the others keeping no order.
fn take(points: &mut Vec<Point>, random: &mut Random) -> Option<Point> {
    let count = u64::try_from(points.len())
        .ok()
        .filter(|count| *count > 0)?;
    let at = usize::try_from(random.below(count)).ok()?;
    Some(points.swap_remove(at))
}

/// The points that are tried: all in a long run. Else about so many, by turns one at which it is killed in front of a call that
/// changes something, and one of a kind of call that fails with an error.
fn chosen(calls: Vec<Call>, faults: Faults, ordinary: usize) -> Vec<Point> {
    let points = calls.iter().enumerate().flat_map(|(number, call)| {
        let point = |fault| Point {
            call: call.clone(),
            fault,
        };
        faults.of(call, number).into_iter().map(point)
    });
    let points: Vec<Point> = points.collect();
    if campaign::is_long() {
        return points;
    }
    let (_, mut random) = campaign::seeded(SEED);
    let (mut killed, failing): (Vec<Point>, Vec<Point>) = points
        .into_iter()
        .partition(|point| point.fault == Fault::Kill);
    killed.retain(|point| point.call.is_change());
    let mut of_kind: BTreeMap<(String, Fault), Vec<Point>> = BTreeMap::new();
    for point in failing {
        let kind = (point.call.name.clone(), point.fault);
        of_kind.entry(kind).or_default().push(point);
    }
    let of_kind = of_kind.values_mut();
    let mut failing: Vec<Point> = of_kind
        .filter_map(|points| take(points, &mut random))
        .collect();
    let mut chosen: Vec<Point> = Vec::new();
    while chosen.len() < ordinary && !(killed.is_empty() && failing.is_empty()) {
        chosen.extend(take(&mut killed, &mut random));
        chosen.extend(take(&mut failing, &mut random));
    }
    chosen
}

/// How often a fault was tried.
type Tried = BTreeMap<Fault, usize>;

/// Tries points of a scene; about `ordinary` of them in an ordinary run.
#[track_caller]
fn check(scene: &Scene, what: &str, faults: Faults, ordinary: usize) {
    tell(&tried(scene, what, faults, ordinary), what);
}

#[track_caller]
fn tried(scene: &Scene, what: &str, faults: Faults, ordinary: usize) -> Tried {
    let (seed, _) = campaign::seeded(SEED);
    let points = chosen(scene.calls(), faults, ordinary);
    let mut tried = Tried::new();
    let (mut missed, mut failures) = (Vec::new(), Vec::new());
    for point in &points {
        let what = format!("{what}, seed {seed}: {point}");
        let ended = scene.run_with_fault(point);
        if ended.is_reached {
            *tried.entry(point.fault).or_default() += 1;
        } else if point.call.name != "wait4" {
            // Whoever waits for a child asks again and again, now and then once less often.
            missed.push(what.clone());
        }
        // One campaign tells all that is wrong.
        let checked = AssertUnwindSafe(|| {
            scene.check_not_half(&ended, &what);
            scene.check_healed(&what);
        });
        failures.extend(catch_unwind(checked).err().map(|_| what.clone()));
        assert!(failures.len() < FAILURES_MAX, "{failures:#?}");
    }
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(
        missed.len() * 50 <= points.len(),
        "not come to: {missed:#?}"
    );
    tried
}

fn tell(tried: &Tried, what: &str) {
    let killed = tried.get(&Fault::Kill).copied().unwrap_or(0);
    if killed > 0 {
        campaign::tell(
            killed,
            &format!("calls of {what} in front of which it was killed"),
        );
    }
    let failed = || tried.iter().filter(|(fault, _)| **fault != Fault::Kill);
    let each: Vec<String> = failed()
        .map(|(error, count)| format!("{count} with {error}"))
        .collect();
    if !each.is_empty() {
        let count: usize = failed().map(|(_, count)| count).sum();
        campaign::tell(
            count,
            &format!("calls of {what} that failed, {}", each.join(", ")),
        );
    }
}

fn is_possible() -> bool {
    postfix::is_available() && require("strace")
}

#[test]
fn a_change_is_killed_at_every_call() {
    if is_possible() {
        check(&Scene::of_change("killed"), "a change", Faults::Kill, 30);
    }
}

#[test]
fn every_call_of_a_change_fails_once() {
    if is_possible() {
        let scene = Scene::of_own_change("failing");
        check(&scene, "a change", Faults::Errors, 120);
    }
}

#[test]
fn a_change_of_built_tables_survives_every_fault() {
    if is_possible() {
        let scene = Scene::of_built_change("built");
        check(&scene, "a change of built tables", Faults::All, 20);
    }
}

#[test]
fn a_change_of_large_tables_survives_every_fault() {
    if is_possible() {
        let scene = Scene::of_large_change("large");
        check(&scene, "a change of large tables", Faults::Turns, 15);
    }
}

#[test]
fn the_first_run_survives_every_fault() {
    if is_possible() {
        check(
            &Scene::of_first_run("first"),
            "a first run",
            Faults::Turns,
            30,
        );
    }
}

#[test]
fn going_back_survives_every_fault() {
    if is_possible() {
        check(
            &Scene::of_rollback("rollback"),
            "a rollback",
            Faults::Turns,
            30,
        );
    }
}

#[test]
fn an_approval_survives_every_fault() {
    if is_possible() {
        check(
            &Scene::of_approval("approval"),
            "an approval",
            Faults::All,
            30,
        );
    }
}

#[test]
fn putting_back_what_a_gateway_contradicts_survives_every_fault() {
    if is_possible() {
        let scene = Scene::of_contradiction("contradicted");
        check(&scene, "a contradicted change", Faults::Turns, 20);
    }
}

/// A power cut may take a rename back whose directory was not synced, behind the commit of the run that found it done.
#[test]
fn a_recovery_makes_the_renames_last_that_it_finds_done() {
    if !is_possible() {
        return;
    }
    let is_commit = |call: &Call| is_rename_to(call, Path::new("head.json"));
    let calls = Scene::of_recovery("lasting", is_commit, 1).calls();
    let is_sync = |call: &Call| call.name == "fsync" && call.told.contains("/tables>");
    assert!(calls.iter().any(is_sync), "{calls:#?}");
}

#[test]
fn a_recovery_survives_every_fault() {
    if !is_possible() {
        return;
    }
    let is_commit = |call: &Call| is_rename_to(call, Path::new("head.json"));
    let scenes = [
        Scene::of_recovery("before-renames", is_rename_of_table, 0),
        Scene::of_recovery("between-renames", is_rename_of_table, 2),
        Scene::of_recovery("before-commit", is_commit, 1),
        Scene::of_recovery("before-hook-was-noted", is_commit, 2),
    ];
    let mut all = Tried::new();
    for scene in scenes {
        for (fault, count) in tried(&scene, "a recovery", Faults::Turns, 12) {
            *all.entry(fault).or_default() += count;
        }
    }
    tell(&all, "a recovery");
}

/// Numbers from 0 on, all of them or some by chance.
fn numbers(end: u64, step: u64, ordinary: u64) -> Vec<u64> {
    if campaign::is_long() {
        return (0..end)
            .step_by(usize::try_from(step).expect("a small step"))
            .collect();
    }
    let (_, mut random) = campaign::seeded(SEED);
    (0..ordinary).map(|_| random.below(end)).collect()
}

#[test]
fn a_disk_may_be_full_at_any_page() {
    if !is_possible() {
        return;
    }
    let mut points = 0;
    for scene in [
        Scene::on_small_disk("full"),
        Scene::on_small_disk_with_built("full-built"),
    ] {
        // With so many pages the run ends as if nothing had happened.
        let is_enough = |pages: &u64| scene.run_on_full_disk(*pages).code == Some(scene.code);
        let enough = (3..10).map(|power| 1 << power).find(is_enough);
        for pages in numbers(enough.expect("a small run"), 1, 6) {
            let what = format!("{pages} pages are left");
            let ended = scene.run_on_full_disk(pages);
            scene.check_not_half(&ended, &what);
            scene.check_healed(&what);
            points += 1;
        }
    }
    campaign::tell(
        points,
        "sizes of a disk that was full in the middle of a run",
    );
}

#[test]
fn a_file_may_end_at_any_octet() {
    if !is_possible() {
        return;
    }
    let scene = Scene::of_own_change("cut");
    let mut points = 0;
    // Longer is no file of this run; a signal that nobody ignores ends the run in the middle.
    for octets in numbers(9_000, 13, 12) {
        for trap in ["trap '' XFSZ; ", ""] {
            let what = format!("files end at {octets} octets; {trap}");
            let script = format!("{trap}exec prlimit --core=0 --fsize={octets} -- \"$@\"");
            let ended = scene.run_under(&["sh", "-c", &script, "sh"]);
            scene.check_not_half(&ended, &what);
            scene.check_healed(&what);
            points += 1;
        }
    }
    campaign::tell(points, "lengths at which the files of a run ended");
}

/// Nothing is lost by them, so nothing is told of them. Not with tables that postmap builds: Berkeley DB gives up.
#[test]
fn short_and_interrupted_reads_and_writes_are_gone_on_with() {
    if !is_possible() {
        return;
    }
    for scene in [Scene::of_own_change("short"), Scene::of_first_run("short")] {
        let library = disk::short_library(scene.program.directory());
        let preload = format!("LD_PRELOAD={}", library.display());
        let ended = scene.run_under(&["env", &preload]);
        assert_eq!(ended.code, Some(scene.code), "{}", ended.stderr);
        scene.check_not_half(&ended, "short");
        scene.check_healed("short");
    }
}
