//! Programs that tests run: tools that end by themselves, and servers that must not outlive the test process.
//!
//! A server runs below a small supervising shell that holds the reading end of a pipe. The writing end is ours and is
//! never written to: however the test process ends, by success, panic, signal or `SIGKILL`, the pipe closes, and the shell
//! ends the server and removes its directory. A `static` is never dropped in Rust, so a guard with `Drop` would not do;
//! `PR_SET_PDEATHSIG` would not either, because it follows the *thread* that started the server, which for a shared server
//! is that of whichever test came first.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};

use super::{SERVER_DEADLINE, poll_until};

/// Where servers lie that the `PATH` of an ordinary account leaves out, and what `tests/setup` has built.
const SYSTEM_DIRECTORIES: &str = "/usr/local/sbin:/usr/sbin:/sbin:/var/cache/rcptsync-tests/bin";

/// The search path of every program started here.
pub fn search_path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":");
    path.push(SYSTEM_DIRECTORIES);
    path
}

/// The place of a program.
pub fn find(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&search_path())
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
}

/// A command found in [`search_path`], without standard input, speaking English.
pub fn command(program: &str) -> Command {
    let mut command = Command::new(find(program).unwrap_or_else(|| program.into()));
    command
        .env("PATH", search_path())
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null());
    command
}

/// Runs a command that must succeed.
#[track_caller]
pub fn succeed(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// `$1` is what to remove at the end, or empty; the rest is the server. Descriptor 3 is the pipe: a shell gives background
/// commands an empty standard input.
const SUPERVISOR: &str = r#"
    remove=$1; shift
    exec 3<&0
    "$@" </dev/null 3<&- &
    server=$!
    { read -r _ <&3; kill -TERM "$server"; sleep 10; kill -KILL "$server"; } &
    watcher=$!
    exec 3<&-
    wait "$server"
    status=$?
    kill "$watcher" 2>/dev/null
    # The children of a server that has ended write for a moment longer, and make their directories anew.
    [ -z "$remove" ] || for _ in 1 2 3 4 5 6 7 8 9 10; do rm -rf "$remove"; sleep 0.2; done
    exit "$status"
"#;

/// A running server.
#[derive(Debug)]
pub struct Server {
    supervisor: Child,
    /// `None` once the server was told to end.
    pipe: Option<ChildStdin>,
    log: PathBuf,
}

impl Server {
    /// Starts a server that stays in the foreground. What it prints goes to `log`; `remove_at_end` goes with it.
    pub fn start(server: &Command, log: &Path, remove_at_end: Option<&Path>) -> Server {
        let log_file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .expect("a log file");
        let mut command = command("sh");
        command
            .arg("-c")
            .arg(SUPERVISOR)
            .arg("supervisor")
            .arg(remove_at_end.unwrap_or(Path::new("")))
            .arg(server.get_program())
            .args(server.get_args())
            .stdin(Stdio::piped())
            .stdout(log_file.try_clone().expect("a second descriptor"))
            .stderr(log_file)
            // Ctrl-C at the terminal is for the tests; the server ends when they have ended.
            .process_group(0);
        for (name, value) in server.get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        let mut supervisor = command.spawn().expect("sh runs");
        Server {
            pipe: supervisor.stdin.take(),
            supervisor,
            log: log.to_owned(),
        }
    }

    /// Asks until the server answers; fails at once, with its log, when it has ended instead.
    #[track_caller]
    pub fn wait_until_ready<Answer>(
        &mut self,
        what: &str,
        mut ask: impl FnMut() -> Option<Answer>,
    ) -> Answer {
        poll_until(SERVER_DEADLINE, what, || {
            if let Some(status) = self.status() {
                panic!("{what}: the server has ended: {status}\n{}", self.log());
            }
            ask()
        })
    }

    /// What the server has printed.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    fn status(&mut self) -> Option<ExitStatus> {
        self.supervisor.try_wait().expect("our own child")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.pipe = None;
        // A second panic during the first would hide its message, so no deadline of ours: the supervisor has one.
        let _ = self.supervisor.wait();
    }
}
