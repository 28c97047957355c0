//! The system calls of a program, one after the other, and what happens at one of them: it is killed, or the call fails.
//!
//! strace lists the calls and injects the fault. Of the whole program it is the calls of its first thread that are listed;
//! those of other threads and of its children are listed at a place, which is a path that they name or have open: there whoever
//! comes first to a call of that name and number is the one. Nothing is killed or fails before the program has opened its
//! configuration: until then it is the dynamic loader that works.
//!
//! Not here: what must be true afterwards.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::process::command;

/// What touches files, descriptors or children.
const TRACED: &str = "trace=%file,%desc,%process,kill,tgkill";

/// Not of the file system, whatever they do with a descriptor: a loop of events, the loop of a wait.
const OTHERS: [&str; 6] = [
    "epoll_create1",
    "epoll_ctl",
    "epoll_wait",
    "eventfd2",
    "poll",
    "exit",
];

/// Descriptors that lead to no file and no child.
const OTHER_DESCRIPTORS: [&str; 4] = ["<socket:", "<TCP", "<UDP", "<anon_inode:"];

/// What never fails: the end of the process, and the end of a descriptor, which Linux lets go whatever it answers (strace
/// would keep it open, and a reader of that pipe would wait for ever).
const INFALLIBLE: [&str; 3] = ["exit_group", "exit", "close"];

/// What changes something.
const CHANGES: [&str; 22] = [
    "write",
    "writev",
    "pwrite64",
    "fsync",
    "fdatasync",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "rmdir",
    "chmod",
    "fchmod",
    "fchmodat",
    "fchown",
    "ftruncate",
    "utimensat",
    "clone3",
    "execve",
    "flock",
];

/// A system call of a program: its name, and the how-manieth of its name in its thread (at a place) it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Where calls are listed; `None`: everywhere, in the first thread.
    pub place: Option<PathBuf>,
    pub name: String,
    pub count: usize,
    /// As strace told it.
    pub told: String,
}

impl Call {
    /// Whether it changes something, on a disk or among processes.
    pub fn is_change(&self) -> bool {
        CHANGES.contains(&self.name.as_str()) || self.told.contains("O_CREAT")
    }

    /// The faults that can befall it.
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = vec![Fault::Kill];
        if !INFALLIBLE.contains(&self.name.as_str()) {
            faults.extend(["EIO", "EACCES", "ENOSPC", "EINTR"].map(Fault::Error));
        }
        if ["clone", "clone3", "vfork"].contains(&self.name.as_str()) {
            // What it answers at a limit of processes or threads.
            faults.push(Fault::Error("EAGAIN"));
        }
        faults
    }
}

impl fmt::Display for Call {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.name, self.count)?;
        if let Some(place) = &self.place {
            write!(out, " at {}", place.display())?;
        }
        write!(out, ", {}", self.told)
    }
}

/// What happens at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The process is killed in front of it.
    Kill,
    /// It does nothing and answers this.
    Error(&'static str),
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Kill => out.write_str("killed"),
            Fault::Error(error) => out.write_str(error),
        }
    }
}

/// One fault at one call.
#[derive(Clone, Debug)]
pub struct Point {
    pub call: Call,
    pub fault: Fault,
}

impl fmt::Display for Point {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} at {}", self.fault, self.call)
    }
}

/// How a traced run ended.
#[derive(Debug)]
pub struct Ended {
    /// `None`: killed.
    pub code: Option<i32>,
    /// Whether the point was come to.
    pub is_reached: bool,
    /// What it said.
    pub stderr: String,
}

/// Runs a program below strace. `at` names where calls are listed, and `point` what happens there.
fn trace(
    program: &Command,
    log: &Path,
    place: Option<&Path>,
    point: Option<&Point>,
) -> (Option<i32>, String, String) {
    // Whoever outlives the program holds descriptor 3 on: a hook of a killed run would write into the next trial.
    let mut strace = command("sh");
    // With a fault, what else is called is of no interest, and takes time to be told.
    let traced = point.map_or(TRACED.to_owned(), |point| {
        format!("trace={}", point.call.name)
    });
    strace
        .args(["-c", r#"exec "$@" 3>&1 >/dev/null"#, "sh"])
        .args(["strace", "-qq", "-y", "-s", "200", "-e", "signal=none"])
        .args(["-e", &traced, "-o"])
        .arg(log);
    if let Some(place) = place {
        strace.arg("-f").arg("-P").arg(place);
    }
    if let Some(Point { call, fault }) = point {
        let what = match fault {
            Fault::Kill => "signal=KILL".to_owned(),
            Fault::Error(error) => format!("error={error}"),
        };
        let inject = format!("inject={}:{what}:when={}", call.name, call.count);
        strace.args(["-e", &inject]);
    }
    strace.arg(program.get_program()).args(program.get_args());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => strace.env(name, value),
            None => strace.env_remove(name),
        };
    }
    let output = strace
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .expect("sh runs");
    let log = std::fs::read(log).expect("strace writes a log");
    (
        output.status.code(),
        String::from_utf8_lossy(&log).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// Runs a program with a fault.
pub fn run_with_fault(program: &Command, log: &Path, point: &Point) -> Ended {
    let (code, told, stderr) = trace(program, log, point.call.place.as_deref(), Some(point));
    let is_reached = match point.fault {
        // A child may be the one that is killed; then the program itself ends by itself.
        Fault::Kill => code.is_none() || told.contains("<unfinished ...>") || told.contains("= ?"),
        Fault::Error(_) => told.contains("(INJECTED)"),
    };
    Ended {
        code,
        is_reached,
        stderr,
    }
}

/// The calls of an undisturbed run of a program, which must end with `code`. Those of the first thread are listed from the
/// first on that names `from`.
#[track_caller]
pub fn list(
    program: &Command,
    log: &Path,
    place: Option<&Path>,
    from: &str,
    code: i32,
) -> Vec<Call> {
    let (ended, told, stderr) = trace(program, log, place, None);
    assert_eq!(ended, Some(code), "{stderr}");
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut calls: Vec<Call> = Vec::new();
    let mut has_begun = place.is_some();
    for line in told.lines() {
        // Only with -f a line begins with the number of its thread.
        let (thread, call) = match line.split_once(' ') {
            Some((thread, call)) if thread.bytes().all(|octet| octet.is_ascii_digit()) => {
                (thread, call.trim_start())
            }
            _ => ("", line),
        };
        let Some((name, arguments)) = call.split_once('(') else {
            continue;
        };
        if name.starts_with('<') || name.contains(' ') {
            continue;
        }
        let count = counts.entry((thread, name)).or_default();
        *count += 1;
        has_begun |= name == "openat" && arguments.contains(from);
        let is_other = OTHERS.contains(&name)
            || arguments.contains("MAP_ANONYMOUS")
            || OTHER_DESCRIPTORS.iter().any(|kind| {
                arguments
                    .split(',')
                    .next()
                    .is_some_and(|first| first.contains(kind))
            });
        let is_known = |known: &Call| known.name == name && known.count == *count;
        if has_begun && !is_other && !calls.iter().any(is_known) {
            calls.push(Call {
                place: place.map(Path::to_owned),
                name: name.to_owned(),
                count: *count,
                told: arguments.chars().take(160).collect(),
            });
        }
    }
    calls
}
