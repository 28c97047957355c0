//! Prometheus's own tools, from where `tests/setup` unpacked them or from the path: promtool reads metrics, rules and
//! expressions, node_exporter serves what a run left behind.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::process::{Server, command, find};
use super::slapd::free_port;
use super::{poll_until, skip};

const UNPACKED: &str = "/var/cache/rcptsync-tests/mail-systems";

/// A program of a package that is unpacked or installed.
fn program(package: &str, name: &str) -> Option<PathBuf> {
    let unpacked = Path::new(UNPACKED).join(package).join("usr/bin").join(name);
    if unpacked.exists() {
        return Some(unpacked);
    }
    let found = find(name);
    if found.is_none() {
        skip(&format!(
            "{name} is neither below {UNPACKED} nor in the path"
        ));
    }
    found
}

/// promtool, where it is there.
#[derive(Debug)]
pub struct Promtool(PathBuf);

impl Promtool {
    /// `None`: not there, which fails the test under `REQUIRE_SERVERS=1`.
    pub fn find() -> Option<Promtool> {
        program("prometheus", "promtool").map(Promtool)
    }

    /// Runs it in a directory; it must succeed, and say nothing that looks like a complaint.
    #[track_caller]
    pub fn succeed(&self, directory: &Path, arguments: &[&str], input: &str) -> String {
        let mut child = command(self.0.to_str().expect("text"))
            .current_dir(directory)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("promtool runs");
        let mut stdin = child.stdin.take().expect("a pipe");
        // One that has ended early says so by its code.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        let output = child.wait_with_output().expect("our own child");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "promtool {arguments:?}: {}\n{said}{told}\n{input}",
            output.status
        );
        said + &told
    }

    /// Metrics must be well-formed, and their names and kinds what Prometheus advises.
    #[track_caller]
    pub fn check_metrics(&self, text: &str) {
        let said = self.succeed(Path::new("/"), &["check", "metrics"], text);
        assert_eq!(said, "", "{text}");
    }
}

/// The program of node_exporter, where it is there.
pub fn node_exporter() -> Option<PathBuf> {
    program("prometheus-node-exporter", "prometheus-node-exporter")
}

/// What a node_exporter serves that reads this directory alone, under another account than ours.
#[track_caller]
pub fn scrape(node_exporter: &Path, directory: &Path, log: &Path) -> String {
    let port = free_port();
    let mut server = command("setpriv");
    server
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(node_exporter)
        .args(["--collector.disable-defaults", "--collector.textfile"])
        .arg(format!(
            "--collector.textfile.directory={}",
            directory.display()
        ))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"));
    let _server = Server::start(&server, log, None);
    poll_until(super::SERVER_DEADLINE, "node_exporter answers", || {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.starts_with("HTTP/1.0 200").then_some(answer)
    })
}
