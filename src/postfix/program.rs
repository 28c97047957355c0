//! Running a program of Postfix: by its absolute path, without a shell, to its end or to the end of its time.
//!
//! What it reads and says passes through pipes while it runs, so that neither side waits for the other and nothing is held
//! that grows with a table. Not here: what is asked, and what an answer means.
//!
//! Invariant: no program outlives [`converse`].

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::Account;
use crate::time::rough;

/// Where the programs of Postfix lie. No `PATH` finds them.
const DIRECTORIES: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

/// The search path of those programs; of our environment they get the place of main.cf alone.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// How long a question takes at most that nobody's data makes longer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Octets of complaints that are kept, the last ones: a program says at its end why it failed.
const SAID_OCTETS_MAX: usize = 4 * 1024;

/// Where, as whom and how long a program runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting<'setting> {
    /// The directory.
    pub(crate) directory: &'setting Path,
    /// Another account than this one.
    pub(crate) account: Option<Account>,
    /// It is ended then.
    pub(crate) limit: Duration,
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Ended<Heard> {
    /// Its exit status.
    pub(crate) status: ExitStatus,
    /// What was made of its answer.
    pub(crate) heard: Heard,
    /// The end of what it said on standard error.
    pub(crate) said: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgramError {
    /// Not there, not executable.
    #[error("could not be started: {0}")]
    NotStarted(io::Error),
    /// It did not end.
    #[error("did not end within {limit}, so it was ended{said}")]
    TimedOut {
        /// The limit.
        limit: String,
        /// The end of what it said, with an introduction.
        said: String,
    },
}

/// Runs a program of Postfix in a setting. `tell` writes what it reads, `hear` reads what it answers; `hear` may stop
/// early, the rest is passed over.
pub(crate) fn converse<Heard: Send>(
    program: &str,
    arguments: &[&str],
    setting: &Setting<'_>,
    tell: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send,
    hear: impl FnOnce(&mut dyn BufRead) -> Heard + Send,
) -> Result<Ended<Heard>, ProgramError> {
    let limit = setting.limit;
    let deadline = Instant::now() + limit;
    let mut child = start(program, arguments, setting).map_err(ProgramError::NotStarted)?;
    let group = Pid::from_child(&child);
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (status, heard, said) = thread::scope(|scope| {
        let attach = || -> io::Result<_> {
            // A program that does not read everything is judged by its status and its answer.
            let tell = move || stdin.map(|stdin| tell_all(stdin, tell));
            thread::Builder::new().spawn_scoped(scope, tell)?;
            let hear = move || {
                let mut answer = BufReader::new(readable(stdout));
                let heard = hear(&mut answer);
                // It must not wait for a reader who has seen enough.
                let _ = io::copy(&mut answer, &mut io::sink());
                heard
            };
            let heard = thread::Builder::new().spawn_scoped(scope, hear)?;
            let said = move || last_octets(readable(stderr));
            let said = thread::Builder::new().spawn_scoped(scope, said)?;
            Ok((heard, said))
        };
        let attached = attach();
        let status = attached
            .as_ref()
            .ok()
            .and_then(|_| wait(&mut child, deadline));
        if status.is_none() {
            // It may have ended this moment; then there is nothing to end.
            let _ = kill_process_group(group, Signal::KILL);
            let _ = child.wait();
        }
        attached.map(|(heard, said)| (status, joined(heard), joined(said)))
    })
    .map_err(ProgramError::NotStarted)?;
    let said = crate::harmless::printable(&said).trim().to_owned();
    match status {
        Some(status) => Ok(Ended {
            status,
            heard,
            said,
        }),
        None => Err(ProgramError::TimedOut {
            limit: rough(limit.max(Duration::from_secs(1))),
            said: introduced(&said),
        }),
    }
}

/// Runs a program of Postfix with a short answer; `None` where it cannot be started or does not end. To be called only where
/// there is a main.cf: without it, they sleep a second before they fail.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Option<Output> {
    output(program, arguments, None, "")
}

/// The same with something on its standard input.
pub(super) fn run_with_input(program: &str, arguments: &[&str], input: &str) -> Option<Output> {
    output(program, arguments, None, input)
}

/// The same as another account, which root alone can do; nothing of root's groups is kept.
pub(super) fn run_as(account: Account, program: &str, arguments: &[&str]) -> Option<Output> {
    output(program, arguments, Some(account), "")
}

fn output(
    program: &str,
    arguments: &[&str],
    account: Option<Account>,
    input: &str,
) -> Option<Output> {
    let setting = Setting {
        directory: Path::new("/"),
        account,
        limit: ANSWER_TIMEOUT,
    };
    let tell = |stdin: &mut dyn Write| stdin.write_all(input.as_bytes());
    let hear = |answer: &mut dyn BufRead| {
        let mut stdout = Vec::new();
        answer.read_to_end(&mut stdout).map(|_| stdout)
    };
    let ended = converse(program, arguments, &setting, tell, hear).ok()?;
    Some(Output {
        status: ended.status,
        stdout: ended.heard.ok()?,
        stderr: ended.said.into_bytes(),
    })
}

/// What a program said, to be put behind what it did.
pub(crate) fn introduced(said: &str) -> String {
    match said {
        "" => String::new(),
        said => format!("; it said:\n{said}"),
    }
}

/// Where those of these programs lie that are there.
pub(crate) fn places(programs: &[&str]) -> Vec<PathBuf> {
    let of_program = |program: &&str| {
        let mut places = DIRECTORIES
            .iter()
            .map(|directory| Path::new(directory).join(program));
        places.find(|place| place.is_file())
    };
    programs.iter().filter_map(of_program).collect()
}

fn start(program: &str, arguments: &[&str], setting: &Setting<'_>) -> io::Result<Child> {
    let mut tried = Err(io::ErrorKind::NotFound.into());
    for place in DIRECTORIES {
        let mut command = Command::new(format!("{place}/{program}"));
        if let Some(account) = setting.account {
            command.uid(account.uid).gid(account.gid);
        }
        tried = command
            .args(arguments)
            .env_clear()
            .env("PATH", PATH)
            .env("LANG", "C")
            .envs(std::env::var_os("MAIL_CONFIG").map(|directory| ("MAIL_CONFIG", directory)))
            .current_dir(setting.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn();
        if tried.is_ok() {
            break;
        }
    }
    tried
}

/// Tells everything and closes the pipe.
fn tell_all(
    stdin: impl Write,
    tell: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let mut stdin = io::BufWriter::new(stdin);
    tell(&mut stdin)?;
    stdin.flush()
}

/// A pipe that is there, since it was asked for.
fn readable(pipe: Option<impl Read + Send + 'static>) -> Box<dyn Read + Send> {
    match pipe {
        Some(pipe) => Box::new(pipe),
        None => Box::new(io::empty()),
    }
}

fn last_octets(mut stderr: impl Read) -> Vec<u8> {
    let (mut said, mut buffer) = (Vec::new(), [0; 1024]);
    loop {
        let count = match stderr.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Ok(0) | Err(_) => break,
            Ok(count) => count,
        };
        said.extend_from_slice(&buffer[..count]);
        let surplus = said.len().saturating_sub(SAID_OCTETS_MAX);
        said.drain(..surplus);
    }
    said
}

fn wait(child: &mut Child, deadline: Instant) -> Option<ExitStatus> {
    let mut pause = Duration::from_millis(1);
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
