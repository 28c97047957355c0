//! A real Active Directory controller (Samba), filled with a [`Company`], once for each test process.
//!
//! Samba's LDAP ports are fixed, so every process takes a loopback address of its own, and two runs on one machine do not
//! meet. Only LDAP is served: no Kerberos, no DNS, no file shares. What Samba does not do as Microsoft's controller does
//! (the limit of 1,000 entries, ranges that the server forces) is tried elsewhere, with OpenLDAP and `tests/ldap-server`.

use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use super::certificates::Authority;
use super::directory::{BASE, Company, Dialect};
use super::process::{Server, command, succeed};
use super::{ldif, require, require_root, set_mode, temp_dir, write_file};

/// The account that the program under test uses: an ordinary user of the domain without any right of its own.
pub const ACCOUNT: &str = "svc-sync@corp.example";
const ACCOUNT_PASSWORD: &str = "Svc!passw0rd";
const ADMINISTRATOR: &str = "administrator@corp.example";
const ADMINISTRATOR_PASSWORD: &str = "Adm!npassw0rd";

/// The controller's name in its certificate, beside its address.
const HOST_NAME: &str = "dc1.corp.example";

const SEED: u64 = 20_261_121;
const OBJECTS_COUNT: usize = 3_200;

/// Ends a controller whose supervisor was killed too.
const RUN_SECONDS_MAX: u32 = 1_800;

const SCHEMA: [&str; 3] = [
    include_str!("../cases/schema/1-attributes.ldif"),
    include_str!("../cases/schema/2-classes.ldif"),
    include_str!("../cases/schema/3-accepted-domains.ldif"),
];

/// A running controller and the truth about what it holds.
#[derive(Debug)]
pub struct Samba {
    pub company: Company,
    address: Ipv4Addr,
    directory: PathBuf,
    authority: Authority,
    _server: Server,
}

static SHARED: LazyLock<Mutex<Samba>> = LazyLock::new(|| Mutex::new(Samba::start()));

/// The controller of this process, one test at a time: tests change it, and the company with it. `None`: the test is
/// skipped.
pub fn shared() -> Option<MutexGuard<'static, Samba>> {
    let is_there = require_root()
        && require("samba")
        && require("samba-tool")
        && require("ldbadd")
        && require("ldapmodify")
        && require("openssl");
    // A test that failed while it held the controller leaves directory and company in step: both change together.
    is_there.then(|| SHARED.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Samba {
    fn start() -> Samba {
        let temporary = temp_dir("samba");
        let directory = temporary.path().to_owned();
        let address = free_address();
        let authority = Authority::new(&directory.join("tls"), "Authority of a Samba domain");
        let company = Company::generate(SEED, OBJECTS_COUNT);
        provision(&directory);
        write_smb_conf(&directory, address, &authority);
        for schema in SCHEMA {
            offline(
                &directory,
                "ldbmodify",
                &["--option=dsdb:schema update allowed=true"],
                schema,
            );
        }
        // Without batch mode the time grows with the square of the number of objects; changes of the schema refuse it.
        offline(
            &directory,
            "ldbadd",
            &["-o", "batch_mode:1"],
            &company.ldif(Dialect::Samba),
        );
        succeed(
            command("samba-tool")
                .args(["user", "create", "svc-sync", ACCOUNT_PASSWORD])
                .args(["-s".as_ref(), smb_conf(&directory).as_os_str()])
                .args(["-H".as_ref(), sam_ldb(&directory).as_os_str()]),
        );
        for (file, password) in [
            ("svc-sync.password", ACCOUNT_PASSWORD),
            ("administrator.password", ADMINISTRATOR_PASSWORD),
        ] {
            // No line end: ldapmodify -y takes the whole file.
            write_file(&directory.join(file), password);
            set_mode(&directory.join(file), 0o600);
        }
        let mut server = serve(&directory);
        // From here on the supervisor removes it: a `static` is not dropped.
        let directory = temporary.keep();
        server.wait_until_ready("Samba accepts connections", || {
            TcpStream::connect((address, LDAPS_PORT)).ok()
        });
        Samba {
            company,
            address,
            directory,
            authority,
            _server: server,
        }
    }

    /// For `servers`.
    pub fn ldaps_url(&self) -> String {
        format!("ldaps://{}", self.address)
    }

    /// For `servers` with `starttls = true`.
    pub fn ldap_url(&self) -> String {
        format!("ldap://{}", self.address)
    }

    /// What a client must trust.
    pub fn ca_file(&self) -> PathBuf {
        self.authority.file()
    }

    /// The password of [`ACCOUNT`].
    pub fn password_file(&self) -> PathBuf {
        self.directory.join("svc-sync.password")
    }

    /// Runs a tool of OpenLDAP as [`ACCOUNT`], over LDAPS.
    pub fn ldap_tool(&self, tool: &str) -> Command {
        self.ldap_tool_as(tool, ACCOUNT, &self.password_file())
    }

    /// Changes the directory over LDAPS as its administrator.
    #[track_caller]
    pub fn modify(&self, ldif: &str) -> Output {
        let file = self.directory.join("change.ldif");
        write_file(&file, ldif);
        let password_file = self.directory.join("administrator.password");
        succeed(
            self.ldap_tool_as("ldapmodify", ADMINISTRATOR, &password_file)
                .arg("-f")
                .arg(&file),
        )
    }

    /// Hides what lies in a container from ordinary accounts; gives what [`Samba::show_contents`] needs to show it again.
    #[track_caller]
    pub fn hide_contents(&self, container: &str) -> String {
        let found = succeed(
            command("ldbsearch")
                .arg(format!(
                    "--configfile={}",
                    smb_conf(&self.directory).display()
                ))
                .arg("-H")
                .arg(sam_ldb(&self.directory))
                .args(["-b", container, "-s", "base", "nTSecurityDescriptor"]),
        );
        // Folded lines are joined; what is left of the entry is its DN and the descriptor.
        let text = String::from_utf8_lossy(&found.stdout).replace("\n ", "");
        let descriptor = text
            .lines()
            .find(|line| line.starts_with("nTSecurityDescriptor:"))
            .unwrap_or_else(|| panic!("no descriptor: {text}"));
        let restore = format!(
            "dn: {container}\nchangetype: modify\nreplace: nTSecurityDescriptor\n{descriptor}\n\n"
        );
        succeed(
            command("samba-tool")
                .args(["dsacl", "set"])
                .arg(format!("--objectdn={container}"))
                .arg("--sddl=(D;;LC;;;AU)")
                .arg("-s")
                .arg(smb_conf(&self.directory))
                .arg("-H")
                .arg(sam_ldb(&self.directory)),
        );
        restore
    }

    /// Shows what was hidden. The tools of ldb write a descriptor as text, which only they read back.
    #[track_caller]
    pub fn show_contents(&self, restore: &str) {
        offline(&self.directory, "ldbmodify", &[], restore);
    }

    fn ldap_tool_as(&self, tool: &str, account: &str, password_file: &Path) -> Command {
        let mut command = command(tool);
        command
            .env("LDAPTLS_CACERT", self.ca_file())
            .env("LDAPTLS_REQCERT", "demand")
            .args(["-x", "-H", &self.ldaps_url(), "-D", account, "-y"])
            .arg(password_file);
        command
    }
}

const LDAPS_PORT: u16 = 636;

/// An address of 127.0.0.0/8 whose LDAP ports nobody has. It is made from the process number, so that two processes that
/// look at the same moment look at different addresses.
fn free_address() -> Ipv4Addr {
    (std::process::id()..)
        .take(1_000)
        .map(|number| {
            let [_, second, third, fourth] = number.to_be_bytes();
            // Neither 127.0.0.0/16, where everybody else is, nor a last number of 0 or 255.
            Ipv4Addr::new(127, 64 + second % 128, third, 1 + fourth % 254)
        })
        .find(|address| {
            [389, LDAPS_PORT, 3268, 3269]
                .into_iter()
                .all(|port| TcpListener::bind((*address, port)).is_ok())
        })
        .expect("a loopback address with free LDAP ports")
}

/// Makes the domain. The base configuration is empty: the machine's own would be copied into the new one.
fn provision(directory: &Path) {
    let base_conf = directory.join("base.conf");
    write_file(&base_conf, "[global]\n");
    succeed(
        command("samba-tool")
            .args(["domain", "provision", "-s"])
            .arg(&base_conf)
            .arg(format!("--targetdir={}", directory.display()))
            .args([
                "--realm=CORP.EXAMPLE",
                "--domain=CORP",
                "--server-role=dc",
                // Names are no part of these tests, and half of the time.
                "--dns-backend=NONE",
                "--host-name=dc1",
                // An address of the loopback net would be thrown away, and the network card's taken, without an IPv6 one.
                "--host-ip=127.0.0.1",
                "--host-ip6=::1",
            ])
            .arg(format!("--adminpass={ADMINISTRATOR_PASSWORD}")),
    );
}

/// Our own configuration instead of the one that was made: every path below the directory, one address, LDAP alone.
fn write_smb_conf(directory: &Path, address: Ipv4Addr, authority: &Authority) {
    let certificate = authority.issue(HOST_NAME, IpAddr::V4(address));
    let at = |name: &str| directory.join(name).display().to_string();
    for name in ["run", "log"] {
        std::fs::create_dir(at(name)).expect("a directory of our own");
    }
    write_file(
        &smb_conf(directory),
        format!(
            "[global]\n\
             netbios name = DC1\n\
             realm = CORP.EXAMPLE\n\
             workgroup = CORP\n\
             server role = active directory domain controller\n\
             server services = ldap\n\
             interfaces = {address}/8\n\
             bind interfaces only = yes\n\
             ldap server require strong auth = yes\n\
             tls enabled = yes\n\
             tls cafile = {ca}\n\
             tls certfile = {certificate}\n\
             tls keyfile = {key}\n\
             private dir = {private}\n\
             lock directory = {lock}\n\
             state directory = {state}\n\
             cache directory = {cache}\n\
             binddns dir = {bind_dns}\n\
             pid directory = {run}\n\
             ncalrpc dir = {run}/ncalrpc\n\
             winbindd socket directory = {run}/winbindd\n\
             ntp signd socket directory = {run}/ntp_signd\n\
             log file = {log}/log.%m\n",
            ca = authority.file().display(),
            certificate = certificate.certificate_file.display(),
            key = certificate.key_file.display(),
            private = at("private"),
            lock = directory.display(),
            state = at("state"),
            cache = at("cache"),
            bind_dns = at("bind-dns"),
            run = at("run"),
            log = at("log"),
        ),
    );
}

/// Gives LDIF to a tool of ldb, while the controller does not run. The tool ends with 0 although it stopped at a record that
/// the schema refuses, so what it printed is compared with the number of records.
#[track_caller]
fn offline(directory: &Path, tool: &str, options: &[&str], ldif: &str) {
    let file = directory.join("load.ldif");
    write_file(&file, ldif);
    let output = succeed(
        command(tool)
            .arg(format!("--configfile={}", smb_conf(directory).display()))
            .arg("-H")
            .arg(sam_ldb(directory))
            .args(options)
            .arg(&file),
    );
    let said = String::from_utf8_lossy(&output.stdout);
    let records_count = ldif::entries_count(ldif);
    assert!(
        said.contains(&format!(" {records_count} records successfully")),
        "{tool}: {said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn serve(directory: &Path) -> Server {
    let mut samba = command("samba");
    samba
        .args(["-i", "-M", "prefork", "--no-process-group"])
        .arg(format!("--maximum-runtime={RUN_SECONDS_MAX}"))
        .args(["--debug-stdout", "-s"])
        .arg(smb_conf(directory));
    Server::start(&samba, &directory.join("log/samba.out"), Some(directory))
}

fn smb_conf(directory: &Path) -> PathBuf {
    directory.join("dc.conf")
}

fn sam_ldb(directory: &Path) -> PathBuf {
    directory.join("private/sam.ldb")
}

/// The base of every search, again, so that tests need one module only.
pub const SEARCH_BASE: &str = BASE;
