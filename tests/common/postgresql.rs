//! A real PostgreSQL server, one for all tests of a process; each test has a database of its own.
//!
//! It lives in a directory of its own, under the account that the package makes for it (it refuses root), and listens on a
//! socket there and, with TLS, on a free port of 127.0.0.1.

use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::certificates::Authority;
use super::process::{Server, command, find, succeed};
use super::slapd::free_port;
use super::{require, require_root, set_mode, skip, temp_dir, write_file};

/// The account that writes: without a password on the socket, with one over the network.
pub const WRITER: &str = "writer";
/// The account that gateways read with, and its password.
pub const READER: &str = "reader";
pub const PASSWORD: &str = "Pg!passw0rd";

const ACCOUNT: &str = "postgres";

/// A server that follows the one of this process.
#[derive(Debug)]
pub struct Standby {
    _server: Server,
    /// Also where its socket is.
    pub directory: PathBuf,
    pub port: u16,
}

/// A database in the server of this process.
#[derive(Debug)]
pub struct Database {
    pub name: String,
}

#[derive(Debug)]
struct Postgresql {
    _server: Server,
    directory: PathBuf,
    authority: Authority,
    port: u16,
}

static SHARED: LazyLock<Postgresql> = LazyLock::new(Postgresql::start);
static DATABASES: AtomicUsize = AtomicUsize::new(0);

/// Where Debian has the programs of the newest server.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let mut found: Vec<PathBuf> = versions
        .map(|version| version.path().join("bin"))
        .filter(|directory| directory.join("initdb").exists())
        .collect();
    found.sort();
    found.pop()
}

/// A new database, empty but for what the server puts there. `None`: the test is skipped.
pub fn database() -> Option<Database> {
    database_with("")
}

/// The same with more options for `CREATE DATABASE`.
pub fn database_with(options: &str) -> Option<Database> {
    let is_there = require_root() && require("psql") && require("setpriv");
    if !is_there || (programs().is_none() && !skip("the server of PostgreSQL not found")) {
        return None;
    }
    let name = format!("test_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
    let database = Database { name };
    let create = format!("CREATE DATABASE {} OWNER {WRITER} {options}", database.name);
    SHARED.ask("postgres", ACCOUNT, &create);
    Some(database)
}

impl Postgresql {
    fn start() -> Postgresql {
        let directory = temp_dir("postgresql").keep();
        let authority = Authority::new(&directory, "test authority");
        let certificate = authority.issue("db.example.net", IpAddr::V4(Ipv4Addr::LOCALHOST));
        let (user, group) = ids();
        chown(&directory, Some(user), Some(group)).expect("root may give files away");
        chown(&certificate.key_file, Some(user), Some(group)).expect("root may give files away");
        set_mode(&directory, 0o755);
        let programs = programs().expect("looked for before");
        let cluster = directory.join("cluster");
        let initdb = programs.join("initdb");
        succeed(
            as_account(&initdb)
                .args([
                    "--auth=trust",
                    "--encoding=UTF8",
                    "--locale=C.UTF-8",
                    "--no-sync",
                    "-U",
                ])
                .arg(ACCOUNT)
                .arg("-D")
                .arg(&cluster),
        );
        write_file(
            &cluster.join("pg_hba.conf"),
            format!(
                "local all {ACCOUNT},{WRITER},stranger trust\n\
                 local replication {ACCOUNT} trust\n\
                 local all all scram-sha-256\n\
                 hostssl all all 127.0.0.0/8 scram-sha-256\n\
                 host all {READER} 127.0.0.1/32 scram-sha-256\n"
            ),
        );
        let port = free_port();
        let mut postgres = as_account(&programs.join("postgres"));
        postgres.arg("-D").arg(&cluster);
        for option in [
            format!("port={port}"),
            "listen_addresses=127.0.0.1,127.0.0.2".into(),
            format!("unix_socket_directories={}", directory.display()),
            "ssl=on".into(),
            format!("ssl_cert_file={}", certificate.certificate_file.display()),
            format!("ssl_key_file={}", certificate.key_file.display()),
            "fsync=off".into(),
            "max_connections=200".into(),
        ] {
            postgres.arg("-c").arg(option);
        }
        let server = Postgresql {
            _server: start(&postgres, &directory, port),
            directory,
            authority,
            port,
        };
        server.ask(
            "postgres",
            ACCOUNT,
            &format!(
                "CREATE ROLE {WRITER} LOGIN PASSWORD '{PASSWORD}'; CREATE ROLE {READER} LOGIN PASSWORD '{PASSWORD}'; \
                 CREATE ROLE stranger LOGIN"
            ),
        );
        server
    }

    /// Runs statements and gives the rows, columns separated by bars.
    #[track_caller]
    fn ask(&self, database: &str, role: &str, statements: &str) -> String {
        let mut psql = command("psql");
        psql.args([
            "-XAtq",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            role,
            "-d",
            database,
            "-p",
        ])
        .arg(self.port.to_string())
        .arg("-h")
        .arg(&self.directory)
        .args(["-c", statements]);
        let output = succeed(&mut psql);
        String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned()
    }
}

/// Starts a server and waits until it answers. It and its directory go with the test process.
fn start(postgres: &Command, directory: &Path, port: u16) -> Server {
    let mut server = Server::start(postgres, &directory.join("log"), Some(directory));
    server.wait_until_ready("PostgreSQL answers", || {
        let mut ready = command("pg_isready");
        ready
            .arg("-h")
            .arg(directory)
            .args(["-p", &port.to_string()]);
        ready.output().ok().filter(|output| output.status.success())
    });
    server
}

impl Standby {
    /// A copy of the server of this process that goes on following it.
    pub fn start() -> Standby {
        let directory = temp_dir("standby").keep();
        let (user, group) = ids();
        chown(&directory, Some(user), Some(group)).expect("root may give files away");
        let programs = programs().expect("looked for before");
        let cluster = directory.join("cluster");
        succeed(
            as_account(&programs.join("pg_basebackup"))
                .args(["-R", "-c", "fast", "--no-sync", "-U", ACCOUNT, "-p"])
                .arg(SHARED.port.to_string())
                .arg("-h")
                .arg(&SHARED.directory)
                .arg("-D")
                .arg(&cluster),
        );
        let port = free_port();
        let mut postgres = as_account(&programs.join("postgres"));
        postgres.arg("-D").arg(&cluster);
        for option in [
            format!("port={port}"),
            "listen_addresses=127.0.0.1".into(),
            format!("unix_socket_directories={}", directory.display()),
            "ssl=off".into(),
            "max_connections=200".into(),
            "fsync=off".into(),
        ] {
            postgres.arg("-c").arg(option);
        }
        Standby {
            _server: start(&postgres, &directory, port),
            directory,
            port,
        }
    }
}

impl Database {
    /// Runs statements as the owner of the server.
    #[track_caller]
    pub fn ask(&self, statements: &str) -> String {
        SHARED.ask(&self.name, ACCOUNT, statements)
    }

    /// Keys of a relation in one line.
    #[track_caller]
    pub fn keys(&self, relation: &str) -> String {
        let rows = self.ask(&format!(
            "SELECT replace(address, '@example.com', '') || CASE value WHEN 'OK' THEN '' ELSE '=' || value END \
             FROM {relation} ORDER BY address COLLATE \"C\""
        ));
        rows.replace('\n', " ")
    }

    /// The section of a table that stands in this database, reached through the socket.
    pub fn by_socket(&self) -> String {
        self.section(
            &SHARED.directory.display().to_string(),
            SHARED.port,
            WRITER,
            "",
        )
    }

    /// The same over TCP and TLS.
    pub fn by_network(
        &self,
        host: &str,
        role: &str,
        ca_file: &Path,
        password_file: &Path,
    ) -> String {
        let more = format!(
            "ca_file = \"{}\"\npassword_file = \"{}\"\n",
            ca_file.display(),
            password_file.display()
        );
        self.section(host, SHARED.port, role, &more)
    }

    /// Any section.
    pub fn section(&self, host: &str, port: u16, role: &str, more: &str) -> String {
        format!(
            "[table.relay_recipients.postgresql]\nhost = \"{host}\"\nport = {port}\ndatabase = \"{}\"\nrole = \"{role}\"\n{more}\n",
            self.name
        )
    }

    /// The directory of the socket.
    pub fn socket_directory(&self) -> &'static Path {
        &SHARED.directory
    }

    /// The file of the authority that the server's certificate is of.
    pub fn ca_file(&self) -> PathBuf {
        SHARED.authority.file()
    }

    pub fn port(&self) -> u16 {
        SHARED.port
    }
}

fn as_account(program: &Path) -> Command {
    let mut command = command("setpriv");
    command
        .arg(format!("--reuid={ACCOUNT}"))
        .arg(format!("--regid={ACCOUNT}"))
        .arg("--clear-groups")
        .arg(program)
        .current_dir("/");
    command
}

/// The numbers of the account.
fn ids() -> (u32, u32) {
    let id = |option: &str| {
        let output = succeed(command("id").args([option, ACCOUNT]));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.trim().parse().expect("a number")
    };
    assert!(find("psql").is_some(), "asked for before");
    (id("-u"), id("-g"))
}
