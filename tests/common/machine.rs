//! A Debian machine under a real systemd: its own root (thrown away at the end), its own network, its own journal.
//!
//! `tests/setup` makes the root once, below [`ROOT`], with Postfix and slapd in it; every machine sees it through an overlay
//! in memory, so tests neither wait for each other nor leave anything behind. Nothing of the tests' own process is seen
//! inside but what is copied there. Units run as they do on a gateway: sandboxes, credentials, accounts and timers are
//! those of systemd itself.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use tempfile::TempDir;

use super::process::{Server, command};
use super::{SERVER_DEADLINE, poll_until, require, require_root, skip, temp_dir};

/// Where `tests/setup` makes the root.
const ROOT: &str = "/var/cache/rcptsync-tests/machine";

/// Enters control groups of its own, named `$1`, and becomes the rest: the systemd of each machine manages the groups below
/// its own, and two in one would disturb each other.
const IN_OWN_GROUPS: &str = r#"
    name=$1; shift
    for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
        [ -e "$hierarchy/cgroup.procs" ] || continue
        mkdir "$hierarchy/$name" && echo $$ >"$hierarchy/$name/cgroup.procs"
    done
    exec "$@"
"#;

/// Where the program lies; the benchmarks, which share this module, boot nothing.
const PROGRAM: Option<&str> = option_env!("CARGO_BIN_EXE_rcptsync");

/// A running machine.
#[derive(Debug)]
pub struct Machine {
    /// The process with number 1 inside, by its number outside.
    leader: u32,
    // Ended before its directory and its control groups go.
    _server: Server,
    _directory: TempDir,
    _groups: Groups,
}

/// The control groups of a machine, by their name.
#[derive(Debug)]
struct Groups(String);

impl Drop for Groups {
    fn drop(&mut self) {
        for hierarchy in ["", "systemd", "unified"] {
            let group = Path::new("/sys/fs/cgroup").join(hierarchy).join(&self.0);
            if group.exists() {
                let mut find = command("find");
                // What is not gone yet does no harm.
                let _ = find
                    .arg(group)
                    .args(["-depth", "-type", "d", "-exec", "rmdir", "{}", "+"])
                    .output();
            }
        }
    }
}

impl Machine {
    /// Boots one; nothing where this machine cannot (which fails the test under `REQUIRE_SERVERS=1`).
    pub fn boot(name: &str) -> Option<Machine> {
        let is_here = Path::new(ROOT).join("usr").exists()
            || skip(&format!("no root of a machine below {ROOT}"));
        if !(is_here && require("systemd-nspawn") && require_root()) {
            return None;
        }
        let directory = temp_dir(name);
        let machine = format!("{name}-{}", std::process::id());
        let groups = Groups(format!("rcptsync-{machine}"));
        let mut nspawn = command("sh");
        nspawn
            .args(["-c", IN_OWN_GROUPS, "sh", &groups.0, "systemd-nspawn"])
            .args(["--boot", "--volatile=overlay", "--register=no"])
            .args(["--keep-unit", "--private-network", "--console=pipe"])
            .arg("--resolv-conf=off")
            .arg(format!("--directory={ROOT}"))
            .arg(format!("--machine={machine}"));
        let mut server = Server::start(&nspawn, &directory.path().join("console.log"), None);
        let leader = server.wait_until_ready("systemd", || leader(&machine));
        let machine = Machine {
            leader,
            _server: server,
            _directory: directory,
            _groups: groups,
        };
        poll_until(SERVER_DEADLINE, "the machine runs", || {
            let state = machine.run("systemctl is-system-running");
            let state = String::from_utf8_lossy(&state.stdout).trim().to_owned();
            matches!(state.as_str(), "running" | "degraded").then_some(())
        });
        Some(machine)
    }

    /// Boots one with the program, its unit, its timer (off), its account and its directories, as a hand installs them.
    pub fn with_program(name: &str) -> Option<Machine> {
        let machine = Machine::boot(name)?;
        let program = PROGRAM.expect("a test of the program");
        machine.copy(Path::new(program), "/usr/bin/rcptsync");
        for (name, place) in [
            ("rcptsync.service", "/etc/systemd/system"),
            ("rcptsync.timer", "/etc/systemd/system"),
            ("rcptsync.sysusers", "/usr/lib/sysusers.d/rcptsync.conf"),
            ("rcptsync.tmpfiles", "/usr/lib/tmpfiles.d/rcptsync.conf"),
        ] {
            machine.copy_unit(name, place);
        }
        machine.succeed(
            "systemd-sysusers; systemd-tmpfiles --create rcptsync.conf; systemctl daemon-reload",
        );
        Some(machine)
    }

    /// Copies a file of `contrib/systemd` to a place, or into a directory, of the machine.
    #[track_caller]
    pub fn copy_unit(&self, name: &str, place: &str) {
        let unit = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("contrib/systemd")
            .join(name);
        let place = match self.path(place).is_dir() {
            true => format!("{place}/{name}"),
            false => place.to_owned(),
        };
        self.copy(&unit, &place);
    }

    /// Where a path of the machine lies, seen from outside.
    pub fn path(&self, inside: &str) -> PathBuf {
        let inside = inside.trim_start_matches('/');
        Path::new(&format!("/proc/{}/root", self.leader)).join(inside)
    }

    /// Copies a file into the machine, its permissions too.
    #[track_caller]
    pub fn copy(&self, from: &Path, inside: &str) {
        std::fs::copy(from, self.path(inside)).expect("a file of the machine");
    }

    /// Writes a file in the machine.
    #[track_caller]
    pub fn write(&self, inside: &str, content: impl AsRef<[u8]>) {
        super::write_file(&self.path(inside), content);
    }

    /// Runs a script as root in the machine: `sh -e`, without a terminal.
    pub fn run(&self, script: &str) -> Output {
        let mut child = command("nsenter")
            .arg(format!("--target={}", self.leader))
            .args(["--mount", "--uts", "--ipc", "--net", "--pid"])
            .args(["--root", "--wd=/"])
            .args(["env", "-i", "LANG=C.UTF-8", "HOME=/root", "TERM=dumb"])
            .arg("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .args(["timeout", "300", "sh", "-e"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("nsenter runs");
        let mut stdin = child.stdin.take().expect("a pipe");
        // One that has ended early says so by its code.
        let _ = stdin.write_all(script.as_bytes());
        drop(stdin);
        child.wait_with_output().expect("our own child")
    }

    /// Runs a script that must succeed, and gives what it printed.
    #[track_caller]
    pub fn succeed(&self, script: &str) -> String {
        let output = self.run(script);
        let (said, told) = (
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        );
        assert!(
            output.status.success(),
            "{script}: {}\n{said}{told}",
            output.status
        );
        said
    }
}

/// The first process of a machine: the child of its systemd-nspawn that has become systemd.
fn leader(machine: &str) -> Option<u32> {
    let wanted = format!("--machine={machine}");
    let processes = || {
        let entries = std::fs::read_dir("/proc").expect("/proc");
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
    };
    let is_nspawn = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|octet| *octet == 0);
        let program = words.next().unwrap_or_default();
        program.ends_with(b"systemd-nspawn") && words.any(|word| word == wanted.as_bytes())
    };
    let nspawn = processes().find(is_nspawn)?;
    // Its first child is not it, and is gone soon.
    processes().find(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let (name, rest) = stat.rsplit_once(')').unwrap_or_default();
        name.ends_with("(systemd") && rest.split_whitespace().nth(1) == Some(&nspawn.to_string())
    })
}
