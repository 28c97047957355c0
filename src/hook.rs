//! Running a program after a table has changed, or when something is to be told.
//!
//! A program and its arguments, never a shell; a small environment; standard input empty or what the hook asked for; output
//! captured, bounded and logged. When the time is up, the whole process group is ended. Not here: which hooks are owed
//! (`command::owed`), and what there is to be told (`notice`).

use std::io::{self, PipeReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::config::{Hook, HookInput};
use crate::owners::{self, Hand};

/// What a hook is told.
#[derive(Clone, Debug)]
pub struct Told {
    /// Variables of its environment, beside `PATH` and `LANG`.
    pub environment: Vec<(&'static str, String)>,
    /// Its standard input, where it asked for one.
    pub input: String,
}

/// Why a hook did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// Not there, not executable.
    #[error("it could not be started: {0}")]
    Start(io::Error),
    /// Somebody else decides what it does.
    #[error("it was not started: {0}, who could put another program in its place")]
    NotTrusted(Hand),
    /// It ended with a failure.
    #[error("it ended with {status}{output}", output = quoted(output))]
    Failed {
        /// Exit code or signal.
        status: String,
        /// The end of what it said.
        output: String,
    },
    /// It did not end.
    #[error("it did not end within {limit}, so its process group was ended{output}", output = quoted(output))]
    TimedOut {
        /// The limit.
        limit: String,
        /// The end of what it said.
        output: String,
    },
}

fn quoted(output: &str) -> String {
    if output.is_empty() {
        String::new()
    } else {
        format!("; it said: {output}")
    }
}

/// Octets of a hook's output that are kept, the last ones: a program says at its end why it failed.
const OUTPUT_OCTETS_MAX: usize = 16 * 1024;

/// How long a process group may take to end after SIGTERM, and how long an ended hook's descendants are listened to.
const PATIENCE: Duration = Duration::from_secs(2);

/// The search path of a hook; nothing of ours is inherited.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs a hook to its end, or to the end of its time, whichever comes first. Without a deadline of the run it has all of its
/// own time.
pub fn run(hook: &Hook, told: &Told, run_deadline: Option<Instant>) -> Result<(), HookError> {
    let left = run_deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    let limit = left.map_or(hook.timeout, |left| left.min(hook.timeout));
    let deadline = crate::time::deadline(Instant::now(), limit);
    if let Some(hand) = owners::refused(&hook.program) {
        return Err(HookError::NotTrusted(hand));
    }
    let (mut child, said) = start(hook, told).map_err(HookError::Start)?;
    let group = Pid::from_child(&child);
    let output = attach(&mut child, said, told.input.clone()).map_err(|error| {
        // Nobody would hear what it says.
        end_group(group, &mut child, true);
        HookError::Start(error)
    })?;

    let (status, output) = follow(&mut child, &output, deadline);
    // A hook that ended may have left descendants behind; they would outlive the run otherwise.
    end_group(group, &mut child, status.is_none());
    let output = crate::harmless::printable(&output);
    for line in output.lines() {
        tracing::info!(hook = hook.name, "hook {}: {line}", hook.name);
    }
    let output = last_line(&output);
    match status {
        None => Err(HookError::TimedOut {
            limit: crate::time::rough(limit.max(Duration::from_secs(1))),
            output,
        }),
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(HookError::Failed {
            status: status_text(status),
            output,
        }),
    }
}

/// Both outputs go into one pipe: the order of what was said is kept, and the last line is the last line.
fn start(hook: &Hook, told: &Told) -> io::Result<(Child, PipeReader)> {
    let (said, stdout) = io::pipe()?;
    let stderr = stdout.try_clone()?;
    let child = Command::new(&hook.program)
        .args(&hook.arguments)
        .env_clear()
        .env("PATH", PATH)
        .env("LANG", "C.UTF-8")
        .envs(told.environment.iter().map(|(name, value)| (name, value)))
        .stdin(if hook.input == HookInput::None {
            Stdio::null()
        } else {
            Stdio::piped()
        })
        .stdout(stdout)
        .stderr(stderr)
        .current_dir("/")
        .process_group(0)
        .spawn()?;
    Ok((child, said))
}

/// Feeds standard input and drains the output from threads, so that neither side can block the other.
fn attach(
    child: &mut Child,
    said: PipeReader,
    input: String,
) -> io::Result<mpsc::Receiver<Vec<u8>>> {
    if let Some(mut stdin) = child.stdin.take() {
        // A hook that does not read its input is no failure.
        thread::Builder::new().spawn(move || stdin.write_all(input.as_bytes()))?;
    }
    let (sender, receiver) = mpsc::sync_channel(16);
    thread::Builder::new().spawn(move || drain(said, &sender))?;
    Ok(receiver)
}

fn drain(mut pipe: impl Read, sender: &mpsc::SyncSender<Vec<u8>>) {
    let mut buffer = [0; 4096];
    loop {
        match pipe.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => break,
            Ok(count) if sender.send(buffer[..count].to_vec()).is_err() => break,
            Ok(_) => {}
        }
    }
}

/// Waits for the end of the hook, reading what it says meanwhile. After its end, descendants that keep the pipes open are
/// listened to for a little while.
fn follow(
    child: &mut Child,
    said: &mpsc::Receiver<Vec<u8>>,
    deadline: Instant,
) -> (Option<ExitStatus>, Vec<u8>) {
    const POLL: Duration = Duration::from_millis(5);
    let mut output = Vec::new();
    let (mut status, mut listen_until) = (None, deadline);
    loop {
        match said.recv_timeout(POLL) {
            Ok(octets) => {
                output.extend_from_slice(&octets);
                let surplus = output.len().saturating_sub(OUTPUT_OCTETS_MAX);
                output.drain(..surplus);
            }
            Err(mpsc::RecvTimeoutError::Disconnected) if status.is_some() => break,
            Err(mpsc::RecvTimeoutError::Disconnected) => thread::sleep(POLL),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        if status.is_none()
            && let Ok(Some(ended)) = child.try_wait()
        {
            status = Some(ended);
            listen_until = Instant::now() + PATIENCE;
        }
        if Instant::now() >= listen_until {
            break;
        }
    }
    (status, output)
}

fn end_group(group: Pid, child: &mut Child, is_running: bool) {
    // The group may be gone already; then there is nothing to end.
    let _ = kill_process_group(group, Signal::TERM);
    if is_running {
        let patience_ends = Instant::now() + PATIENCE;
        while Instant::now() < patience_ends && matches!(child.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(5));
        }
    }
    let _ = kill_process_group(group, Signal::KILL);
    let _ = child.wait();
}

fn last_line(output: &str) -> String {
    output
        .lines()
        .rfind(|line| !line.trim().is_empty())
        .unwrap_or_default()
        .chars()
        .take(300)
        .collect()
}

/// How a program ended, in words.
pub(crate) fn status_text(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says this, interrupted before each octet.
    struct Interrupted(&'static [u8], bool);

    impl Read for Interrupted {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let Interrupted(said, _) = self;
            said.read(&mut buffer[..1])
        }
    }

    #[test]
    fn a_hook_whose_output_is_read_with_interruptions_is_heard_to_its_end() {
        let (sender, receiver) = mpsc::sync_channel(16);
        drain(Interrupted(b"why it failed", false), &sender);
        drop(sender);
        assert_eq!(
            receiver.iter().flatten().collect::<Vec<u8>>(),
            b"why it failed"
        );
    }
}
