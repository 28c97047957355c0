//! A real OpenLDAP server that is made to look like Active Directory: its names, and the limits that Samba has not.
//!
//! As there, an account gets 1,000 entries and then `sizeLimitExceeded`, unless it asks for pages; unlike there, a page of
//! more than 1,000 is refused. It fills and starts in well under a second, so a test can have one of its own; the
//! benchmarks keep large ones ([`Kept`]).

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::certificates::Authority;
use super::directory::BASE;
use super::process::{Server, command, succeed};
use super::{require, set_mode, temp_dir, write_file};

/// The account that is bound by the limits. (The administrator's is not.)
pub const ACCOUNT: &str = "cn=svc-sync,DC=corp,DC=example";
/// The common name in a client certificate that stands for [`ACCOUNT`].
pub const CLIENT: &str = "rcptsync client";
const ACCOUNT_PASSWORD: &str = "Svc!passw0rd";

const SCHEMA: &str = include_str!("../cases/schema/openldap.schema");

/// The database is a sparse file; this is only how far it may grow.
const DATABASE_BYTES_MAX: u64 = 1 << 30;

/// A database that outlives its server: it is filled once.
#[derive(Clone, Copy, Debug)]
pub struct Kept<'kept> {
    /// Where all of it lies.
    pub directory: &'kept Path,
    /// What it holds: one that holds something else, or was not filled to the end, is filled anew.
    pub version: &'kept str,
    /// How far it may grow.
    pub bytes_max: u64,
    /// More lines of its configuration.
    pub more: &'kept str,
}

/// A running server.
#[derive(Debug)]
pub struct Slapd {
    ldaps_port: u16,
    ldap_port: u16,
    authority: Authority,
    directory: PathBuf,
    // In this order: the server ends before its directory goes.
    _server: Server,
    _temporary: Option<TempDir>,
}

/// Whether the server and its tools are there; see [`require`].
pub fn is_available() -> bool {
    require("slapd") && require("slapadd") && require("ldapsearch") && require("openssl")
}

impl Slapd {
    /// Starts a server that holds `entries`: LDIF of everything below [`BASE`].
    pub fn start(entries: &str) -> Slapd {
        Slapd::start_with(entries, None)
    }

    /// Starts a server that wants a certificate of every client, of this authority (PEM). It takes the name
    /// [`CLIENT`] for [`ACCOUNT`], and nobody else may read.
    pub fn start_for_certificates(entries: &str, clients_authority: &str) -> Slapd {
        Slapd::start_with(entries, Some(clients_authority))
    }

    /// Starts a server with a database that is kept, filled by `write_entries` when it is not there yet.
    pub fn start_kept(
        kept: &Kept<'_>,
        write_entries: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
    ) -> Slapd {
        let at = |name: &str| kept.directory.join(name);
        std::fs::create_dir_all(kept.directory).expect("a directory of our own");
        let authority = configure(kept.directory, None, kept.bytes_max, kept.more);
        if std::fs::read_to_string(at("filled")).ok().as_deref() != Some(kept.version) {
            let _ = std::fs::remove_file(at("filled"));
            let _ = std::fs::remove_dir_all(at("database"));
            fill(kept.directory, write_entries);
            std::fs::remove_file(at("entries.ldif")).expect("a file of our own");
            write_file(&at("filled"), kept.version);
        }
        Slapd::serve(kept.directory.to_owned(), authority, None)
    }

    fn start_with(entries: &str, clients_authority: Option<&str>) -> Slapd {
        let temporary = temp_dir("slapd");
        let directory = temporary.path().to_owned();
        let authority = configure(&directory, clients_authority, DATABASE_BYTES_MAX, "");
        fill(&directory, |ldif| ldif.write_all(entries.as_bytes()));
        Slapd::serve(directory, authority, Some(temporary))
    }

    fn serve(directory: PathBuf, authority: Authority, temporary: Option<TempDir>) -> Slapd {
        let at = |name: &str| directory.join(name);
        let (ldaps_port, ldap_port) = (free_port(), free_port());
        let mut slapd = command("slapd");
        // A debug level, even of nothing, keeps it in the foreground.
        slapd.args(["-d", "0", "-f"]).arg(at("slapd.conf"));
        slapd.args([
            "-h",
            &format!("ldaps://127.0.0.1:{ldaps_port} ldap://127.0.0.1:{ldap_port}"),
        ]);
        let mut server = Server::start(&slapd, &at("slapd.out"), None);
        server.wait_until_ready("slapd accepts connections", || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, ldaps_port)).ok()
        });
        Slapd {
            ldaps_port,
            ldap_port,
            authority,
            directory,
            _server: server,
            _temporary: temporary,
        }
    }

    /// For `servers`.
    pub fn ldaps_url(&self) -> String {
        format!("ldaps://127.0.0.1:{}", self.ldaps_port)
    }

    /// For `servers` with `starttls = true`.
    pub fn ldap_url(&self) -> String {
        format!("ldap://127.0.0.1:{}", self.ldap_port)
    }

    /// What a client must trust.
    pub fn ca_file(&self) -> PathBuf {
        self.authority.file()
    }

    /// The password of [`ACCOUNT`].
    pub fn password_file(&self) -> PathBuf {
        self.directory.join("svc-sync.password")
    }

    /// A tool of OpenLDAP as [`ACCOUNT`].
    pub fn ldap_tool(&self, tool: &str) -> Command {
        let mut command = command(tool);
        command
            .env("LDAPTLS_CACERT", self.ca_file())
            .env("LDAPTLS_REQCERT", "demand")
            .args(["-x", "-H", &self.ldaps_url(), "-D", ACCOUNT, "-y"])
            .arg(self.password_file());
        command
    }
}

fn top() -> String {
    format!(
        "dn: {BASE}\nobjectClass: domain\ndc: corp\n\n\
         dn: {ACCOUNT}\nobjectClass: person\ncn: svc-sync\nsn: svc-sync\nuserPassword: {ACCOUNT_PASSWORD}\n\n"
    )
}

/// Writes everything that the server reads, but for its database.
fn configure(
    directory: &Path,
    clients_authority: Option<&str>,
    bytes_max: u64,
    more: &str,
) -> Authority {
    let at = |name: &str| directory.join(name);
    let authority = Authority::new(&at("tls"), "Authority of an OpenLDAP server");
    write_file(&at("active-directory.schema"), SCHEMA);
    write_conf(directory, &authority, clients_authority, bytes_max, more);
    write_file(&at("svc-sync.password"), ACCOUNT_PASSWORD);
    set_mode(&at("svc-sync.password"), 0o600);
    authority
}

fn fill(directory: &Path, write_entries: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) {
    let ldif = directory.join("entries.ldif");
    std::fs::create_dir(directory.join("database")).expect("a directory of our own");
    let file = std::fs::File::create(&ldif).expect("a file of our own");
    let mut writer = std::io::BufWriter::new(file);
    writer
        .write_all(top().as_bytes())
        .and_then(|()| write_entries(&mut writer))
        .and_then(|()| writer.flush())
        .expect("a file of our own");
    succeed(
        command("slapadd")
            .args(["-q", "-f"])
            .arg(directory.join("slapd.conf"))
            .arg("-l")
            .arg(&ldif),
    );
}

fn write_conf(
    directory: &Path,
    authority: &Authority,
    clients_authority: Option<&str>,
    bytes_max: u64,
    more: &str,
) {
    let mut ca_file = authority.file();
    let (mut clients, mut access) = (String::new(), String::new());
    if let Some(clients_authority) = clients_authority {
        ca_file = directory.join("clients-ca.pem");
        write_file(&ca_file, clients_authority);
        clients = format!("TLSVerifyClient demand\nauthz-regexp \"^cn={CLIENT}$\" \"{ACCOUNT}\"\n");
        access = format!("access to * by dn.exact=\"{ACCOUNT}\" read by * none\n");
    }

    let certificate = authority.issue("ldap.corp.example", IpAddr::V4(Ipv4Addr::LOCALHOST));
    write_file(
        &directory.join("slapd.conf"),
        format!(
            "modulepath /usr/lib/ldap\n\
             moduleload back_mdb\n\
             include /etc/ldap/schema/core.schema\n\
             include /etc/ldap/schema/cosine.schema\n\
             include /etc/ldap/schema/inetorgperson.schema\n\
             include {directory}/active-directory.schema\n\
             pidfile {directory}/slapd.pid\n\
             TLSCACertificateFile {ca}\n\
             TLSCertificateFile {certificate}\n\
             TLSCertificateKeyFile {key}\n\
             {clients}\
             database mdb\n\
             maxsize {bytes_max}\n\
             suffix \"{BASE}\"\n\
             directory {directory}/database\n\
             dbnosync\n\
             index objectClass,proxyAddresses eq\n\
             limits dn.exact=\"{ACCOUNT}\" size.soft=1000 size.hard=1000 size.pr=1000 size.prtotal=unlimited\n\
             {access}{more}",
            directory = directory.display(),
            ca = ca_file.display(),
            certificate = certificate.certificate_file.display(),
            key = certificate.key_file.display(),
        ),
    );
}

/// A port that nobody listens on. Between this and the server's own bind somebody could take it; then the server ends at
/// once, and the test says so.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a bound port").port()
}
