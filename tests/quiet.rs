//! A run that finds no change costs the same whatever the size of the directory: a few questions, two small files.
//!
//! strace tells which files the run opens, how much it reads and writes and what it renames; the embedded server, which
//! speaks as a controller here, tells how much went over the line. Compared are a small and a large directory. That real
//! controllers do not count the bind of the run itself as a change is tried with Samba. Not here: what is read when something
//! did change (`incremental.rs`).
#![allow(
    clippy::expect_used,
    reason = "a test fails by panicking, and the message says what was expected"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use common::process::command;
use common::rcptsync::Rcptsync;
use common::samba::{self, Samba};
use common::{embedded, require};
use ldap_server::{Directory, Server};

const SMALL: usize = 1_000;
const LARGE: usize = 20_000;

/// Times and numbers have more or fewer digits.
const DIFFERENCE_BYTES_MAX: u64 = 2_048;

/// Where the size of the directory lies: nothing in there may be opened to be read. A directory itself may.
const LARGE_PARTS: [&str; 5] = [
    "/state/source/",
    "/state/ledger/",
    "/state/generation/",
    "/state/hold/",
    "/tables/",
];

/// What a run without a change may write: its record of the run, what is, and its metrics.
const WRITTEN: [&str; 6] = [
    "/state/head.json",
    "/state/.head.json.new",
    "/state/runs.jsonl",
    "/state/.runs.jsonl.new",
    "/metrics/rcptsync.prom",
    "/metrics/.rcptsync.prom.rcptsync-new",
];

/// The calls that open, read, write, rename and remove, by all of their names; a question mark where an architecture may
/// lack one. Mapping a file is a way of reading it.
const SYSCALLS: &str = "?open,openat,?creat,read,pread64,readv,preadv,write,pwrite64,writev,pwritev,mmap,sendfile,\
                        copy_file_range,?rename,?renameat,renameat2,?unlink,unlinkat,?mkdir,mkdirat,ftruncate";

/// What one run did with files.
#[derive(Debug, Default)]
struct Trace {
    /// Files and directories that were opened, by their whole path.
    opened: BTreeSet<(PathBuf, IsForReading)>,
    /// Bytes read from and written to each file.
    read: BTreeMap<PathBuf, u64>,
    written: BTreeMap<PathBuf, u64>,
    /// Calls that rename or remove, as strace shows them.
    renames: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum IsForReading {
    Yes,
    /// For writing alone, as a place in the file system, or a directory.
    No,
}

impl Trace {
    /// Runs `sync`, which must succeed.
    #[track_caller]
    fn of_sync(program: &Rcptsync) -> Trace {
        let log = program.directory().join("strace.log");
        let status = command("strace")
            // No content of what is read and written: only names in quotes are left.
            .args(["-f", "-y", "-qq", "-s", "0", "-e", "signal=none", "-o"])
            .arg(&log)
            .args(["-e", &format!("trace={SYSCALLS}")])
            .arg(env!("CARGO_BIN_EXE_rcptsync"))
            .arg("--config")
            .arg(program.config_file())
            .args(["--quiet", "sync"])
            .env_remove("RCPTSYNC_CONFIG")
            .status()
            .expect("strace runs");
        assert!(status.success(), "sync below strace: {status}");
        let log = std::fs::read_to_string(log).expect("a log");
        let mut trace = Trace::default();
        // A call that another thread interrupts comes in two lines.
        let mut begun: BTreeMap<&str, &str> = BTreeMap::new();
        for line in log.lines() {
            let (thread, call) = line.split_once(' ').expect("a thread and its call");
            let call = call.trim_start();
            if let Some(beginning) = call.strip_suffix(" <unfinished ...>") {
                begun.insert(thread, beginning);
            } else if let Some((_, end)) = call
                .strip_prefix("<... ")
                .and_then(|rest| rest.split_once(" resumed>"))
            {
                let beginning = begun.remove(thread).expect("the beginning of the call");
                trace.note(&format!("{beginning}{end}"));
            } else {
                trace.note(call);
            }
        }
        assert!(trace.opened.len() > 5, "strace saw next to nothing:\n{log}");
        trace
    }

    fn note(&mut self, call: &str) {
        let Some((arguments, result)) = call.rsplit_once(" = ") else {
            return;
        };
        let Some((name, arguments)) = arguments.trim_end().split_once('(') else {
            return;
        };
        if name.starts_with("rename") || name.starts_with("unlink") || name.starts_with("mkdir") {
            self.renames.push(call.to_owned());
            return;
        }
        if result.starts_with('-') {
            return;
        }
        if matches!(name, "open" | "openat" | "creat") {
            // The descriptor that came back has the whole path behind it.
            let path = result.split_once('<').map_or("", |(_, path)| path);
            let flags = arguments.rsplit_once("\", ").map_or("", |(_, flags)| flags);
            let is_place = ["O_WRONLY", "O_PATH", "O_DIRECTORY"];
            let is_for_reading = match is_place.iter().any(|flag| flags.contains(flag)) {
                true => IsForReading::No,
                false => IsForReading::Yes,
            };
            let path = path.trim_end_matches('>').into();
            self.opened.insert((path, is_for_reading));
            return;
        }
        let path = arguments
            .split_once('<')
            .and_then(|(_, rest)| rest.split_once('>'))
            .map_or("", |(path, _)| path);
        // Sockets, pipes and the like have names without a root.
        if !path.starts_with('/') {
            return;
        }
        let bytes = result.split(' ').next().unwrap_or_default();
        let is_mapping = name == "mmap";
        let bytes = if is_mapping {
            // The length asked for; where it lies in memory is of no interest.
            arguments.split(", ").nth(1).unwrap_or_default()
        } else {
            bytes
        };
        let bytes: u64 = bytes.parse().unwrap_or(0);
        let is_write = name.contains("write") || matches!(name, "sendfile" | "copy_file_range");
        let list = match is_write || name == "ftruncate" {
            true => &mut self.written,
            false => &mut self.read,
        };
        *list.entry(path.into()).or_default() += bytes;
    }

    /// Fails unless this is what a run without a change may do.
    #[track_caller]
    fn check_quiet(&self, program: &Rcptsync, what: &str) {
        let directory = program.directory().to_string_lossy().into_owned();
        let part = |path: &PathBuf| {
            let path = path.to_string_lossy().into_owned();
            path.strip_prefix(&directory).map(str::to_owned)
        };
        let is_large = |part: &String| LARGE_PARTS.iter().any(|large| part.starts_with(large));
        let opened: Vec<String> = self
            .opened
            .iter()
            .filter(|(_, is_for_reading)| *is_for_reading == IsForReading::Yes)
            .filter_map(|(path, _)| part(path))
            .filter(is_large)
            .collect();
        assert!(opened.is_empty(), "{what}: opened for reading: {opened:?}");
        let read: Vec<String> = self.read.keys().filter_map(part).filter(is_large).collect();
        assert!(read.is_empty(), "{what}: read: {read:?}");
        let written: Vec<String> = self
            .written
            .keys()
            .map(|path| part(path).unwrap_or_else(|| path.display().to_string()))
            .filter(|part| !WRITTEN.contains(&part.as_str()) && !part.starts_with("/dev/"))
            .collect();
        assert!(written.is_empty(), "{what}: written: {written:?}");
        let renames: Vec<&String> = self
            .renames
            .iter()
            // Looking for what a dead run left is no touch.
            .filter(|call| call.contains("/tables") && !call.contains("ENOENT"))
            .collect();
        assert!(renames.is_empty(), "{what}: {renames:?}");
    }

    fn bytes(&self) -> [u64; 2] {
        [self.read.values().sum(), self.written.values().sum()]
    }
}

/// An installation that follows a controller with so many recipients, has read it completely and found nothing new since.
fn settled(recipients_count: usize) -> (Server, Rcptsync) {
    let directory = Directory::new(embedded::BASE)
        .recipients(recipients_count)
        .usn(100_000)
        .invocation_id([7; 16])
        .page_max(1_000)
        .sees_deletions()
        .evaluates_filters();
    let (server, program) = embedded::install(
        "quiet",
        directory,
        "incremental = \"dirsync\"\nfull_every = \"24h\"",
        "[metrics]\ntextfile = \"metrics/rcptsync.prom\"\n",
    );
    std::fs::create_dir(program.directory().join("metrics")).expect("a directory of our own");
    for _ in 0..2 {
        program.run(&["sync"]).expect_code(0);
    }
    (server, program)
}

/// How the source was read, told by `diff`, which stores nothing.
#[track_caller]
fn check_state(program: &Rcptsync, expected: &str) {
    let diff = program.run(&["diff", "--format", "json"]).expect_code(0);
    assert_eq!(diff.json()["sources"]["corp"]["state"], expected);
}

/// The bytes that one quiet run reads, writes, receives and sends.
#[track_caller]
fn measure(
    recipients_count: usize,
    before: impl FnOnce(Directory) -> Directory,
    state: &str,
) -> [u64; 4] {
    let (server, program) = settled(recipients_count);
    assert_eq!(program.table_keys().len(), recipients_count);
    server.change(before);
    check_state(&program, state);
    let earlier = server.stats();
    let trace = Trace::of_sync(&program);
    trace.check_quiet(&program, &format!("{recipients_count} recipients"));
    let stats = server.stats();
    let bytes = |now: usize, then: usize| u64::try_from(now - then).expect("a size");
    let [read, written] = trace.bytes();
    [
        read,
        written,
        bytes(stats.sent_bytes, earlier.sent_bytes),
        bytes(stats.received.len(), earlier.received.len()),
    ]
}

#[track_caller]
fn check(change: impl Fn(Directory) -> Directory, state: &str) {
    if !require("strace") {
        return;
    }
    let small = measure(SMALL, &change, state);
    let large = measure(LARGE, &change, state);
    for ((small, large), what) in small
        .into_iter()
        .zip(large)
        .zip(["read", "written", "received", "sent"])
    {
        assert!(
            small.abs_diff(large) <= DIFFERENCE_BYTES_MAX,
            "bytes {what}: {small} for {SMALL} recipients, {large} for {LARGE}"
        );
    }
}

#[test]
fn a_run_while_nothing_changes_costs_the_same_at_any_size() {
    check(|directory| directory, "unchanged");
}

/// The number of the last change moves all the time in a real domain: passwords, logons, computers.
#[test]
fn a_change_that_concerns_no_recipient_costs_the_same_at_any_size() {
    check(Directory::changed_elsewhere, "unchanged");
}

#[test]
fn a_run_against_a_real_controller_without_a_change_is_quiet() {
    if !require("strace") {
        return;
    }
    let Some(samba) = samba::is_available().then(|| Samba::start(100)) else {
        return;
    };
    let program = Rcptsync::new("quiet-samba");
    samba.configure(&program, &[], "incremental = \"dirsync\"", "");
    for _ in 0..2 {
        program.run(&["sync"]).expect_code(0);
    }
    check_state(&program, "unchanged");
    Trace::of_sync(&program).check_quiet(&program, "Samba");
}

/// Otherwise every run would find that something changed: its own logon.
#[test]
fn a_real_controller_does_not_count_the_bind_of_a_run_as_a_change() {
    let Some(samba) = samba::is_available().then(|| Samba::start(10)) else {
        return;
    };
    let program = Rcptsync::new("quiet-bind");
    samba.configure(&program, &[], "", "");
    // The first logon of all is one: lastLogonTimestamp is replicated, and written about every two weeks.
    program.run(&["sync"]).expect_code(0);
    let before = samba.root_attribute("highestCommittedUSN");
    for _ in 0..3 {
        program.run(&["sync"]).expect_code(0);
    }
    assert_eq!(samba.root_attribute("highestCommittedUSN"), before);
    let service = samba.root_attribute("dsServiceName");
    assert!(!samba.attribute_of(&service, "invocationId").is_empty());
}
