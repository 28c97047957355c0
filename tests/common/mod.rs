//! What the integration tests share: real servers in directories of their own, and a runner for the program.
//!
//! Every server listens on a loopback address or port that it found free, reads no configuration of this machine, and
//! ends with the test process however that ends (`process`). Nothing is waited for by sleeping: what is awaited is asked
//! for until it is there ([`poll_until`]). Not here: the LDAP server that misbehaves (`tests/ldap-server`), but for its
//! beginning (`embedded`).
#![allow(
    dead_code,
    reason = "every integration test is a crate of its own and uses a part of this module"
)]
#![allow(
    clippy::panic,
    reason = "a test fails by panicking, and a poll that never succeeds has no value to go on with"
)]

pub mod campaign;
pub mod certificates;
pub mod dialogue;
pub mod directory;
pub mod embedded;
pub mod ldif;
pub mod machine;
pub mod mail_systems;
pub mod mutation;
pub mod names;
pub mod plain;
pub mod postfix;
pub mod postgresql;
pub mod process;
pub mod prometheus;
pub mod random;
pub mod rcptsync;
pub mod samba;
pub mod second;
pub mod slapd;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Whether a program that a test needs is there. With `REQUIRE_SERVERS=1` its absence fails the test; otherwise one line
/// says that the test was skipped, and the caller returns.
pub fn require(program: &str) -> bool {
    if process::find(program).is_some() {
        return true;
    }
    skip(&format!("{program} not found"))
}

/// Postfix and Samba start as root only.
pub fn require_root() -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    skip("needs root")
}

/// Says in one line that the test is skipped; with `REQUIRE_SERVERS=1` it fails instead.
pub fn skip(why: &str) -> bool {
    let thread = std::thread::current();
    let test_name = thread.name().unwrap_or("a test");
    assert!(
        std::env::var_os("REQUIRE_SERVERS").is_none_or(|value| value != "1"),
        "{test_name}: {why}, and REQUIRE_SERVERS=1 is set (tests/setup installs every server)"
    );
    // Not through a print macro: the test harness keeps back what a successful test prints.
    writeln!(std::io::stderr(), "SKIPPED {test_name}: {why}").expect("standard error is open");
    false
}

/// A directory for one test. Postfix insists that others can walk through every parent of its queue, hence mode 755.
pub fn temp_dir(name: &str) -> TempDir {
    let directory = tempfile::Builder::new()
        .prefix(&format!("rcptsync-{name}-"))
        .tempdir()
        .expect("a temporary directory");
    set_mode(directory.path(), 0o755);
    directory
}

/// Sets the permission bits of a path.
pub fn set_mode(path: &std::path::Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .expect("permissions of our own file");
}

/// Writes a file, making its parents.
pub fn write_file(path: &std::path::Path, content: impl AsRef<[u8]>) {
    let parent = path.parent().expect("a file has a parent");
    std::fs::create_dir_all(parent).expect("a directory of our own");
    std::fs::write(path, content).expect("a file of our own");
}

/// How long a server may take to start or to stop on a busy machine.
pub const SERVER_DEADLINE: Duration = Duration::from_secs(60);

/// Asks until there is an answer; fails the test at the deadline.
#[track_caller]
pub fn poll_until<Answer>(
    deadline: Duration,
    what: &str,
    mut ask: impl FnMut() -> Option<Answer>,
) -> Answer {
    const BETWEEN_QUESTIONS: Duration = Duration::from_millis(20);
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(
            started.elapsed() < deadline,
            "{what}: not within {} s",
            deadline.as_secs()
        );
        std::thread::sleep(BETWEEN_QUESTIONS);
    }
}
