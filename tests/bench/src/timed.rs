//! One piece of work measured: wall clock, processor time, peak memory; and many of them, alternating between the sides.
//!
//! Times are those of the program and of all that it waited for: a pipeline's processor time is that of all its members,
//! its peak memory that of the largest. The program runs below GNU time, because the peak of a process that this one
//! starts would be at least its own. Work inside this process is timed where it stands.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use wait4::Wait4;

use crate::common::process::{command, find};

/// What one run cost.
#[derive(Clone, Copy, Debug)]
pub struct Timed {
    /// From start to end.
    pub wall: Duration,
    /// User and system.
    pub processor: Duration,
    /// Peak resident memory, of a program alone.
    pub memory_bytes: Option<u64>,
}

/// The runs of one side.
pub type Runs = Vec<Timed>;

/// Runs a program that must succeed; what it prints is thrown away.
pub fn program(timed: &Command) -> Timed {
    program_to(timed, Stdio::null())
}

/// Runs a program that must succeed; what it prints goes there.
pub fn program_to(timed: &Command, output: Stdio) -> Timed {
    let costs = tempfile::NamedTempFile::new().expect("a temporary file");
    let mut command = command("time");
    command
        .args(["--quiet", "--format=%M", "--output"])
        .arg(costs.path())
        .arg(timed.get_program())
        .args(timed.get_args())
        .stdout(output);
    for (name, value) in timed.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    // What was written before is none of this run's business.
    rustix::fs::sync();
    let started = Instant::now();
    let mut child = command
        .stderr(Stdio::piped())
        .spawn()
        .expect("GNU time runs");
    let mut said = String::new();
    let mut stderr = child.stderr.take().expect("piped");
    let _ = stderr.read_to_string(&mut said);
    let ended = child.wait4().expect("our own child");
    let wall = started.elapsed();
    assert!(
        ended.status.success(),
        "{timed:?}: {}\n{said}",
        ended.status
    );
    let peak = std::fs::read_to_string(costs.path()).expect("what GNU time wrote");
    let kibibytes: u64 = peak.trim().parse().expect("a number of GNU time");
    Timed {
        wall,
        processor: ended.rusage.utime + ended.rusage.stime,
        memory_bytes: Some(kibibytes * 1024),
    }
}

/// Times work of this thread.
pub fn in_process(work: impl FnOnce()) -> Timed {
    rustix::fs::sync();
    let processor_before = thread_processor_time();
    let started = Instant::now();
    work();
    Timed {
        wall: started.elapsed(),
        processor: thread_processor_time().saturating_sub(processor_before),
        memory_bytes: None,
    }
}

fn thread_processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// Runs the sides in turn, so that whatever the machine does meanwhile happens to all of them.
pub fn in_turn<const SIDES: usize>(
    rounds_count: usize,
    sides: &mut [&mut dyn FnMut() -> Timed; SIDES],
) -> [Runs; SIDES] {
    let mut runs = [const { Vec::new() }; SIDES];
    for _ in 0..rounds_count {
        for (side, runs) in sides.iter_mut().zip(&mut runs) {
            runs.push(side());
        }
    }
    runs
}

/// A program of this machine, by its name.
pub fn is_there(program: &str) -> bool {
    find(program).is_some()
}
