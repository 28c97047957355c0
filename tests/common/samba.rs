//! A real Active Directory controller (Samba), filled with a [`Company`], once for each test process; and copies of it.
//!
//! Samba's LDAP ports are fixed, so every controller takes a loopback address of its own, and two runs on one machine do
//! not meet. Only LDAP is served, and DNS or Kerberos for tests that ask for it: no file shares, and no replication: a
//! copy is a second controller of the same domain as it was when the copy was made, and from then on each goes its own
//! way. What Samba does not do as Microsoft's controller does (the limit of 1,000 entries, ranges that the server forces,
//! DirSync in several rounds, global catalogs that lack attributes) is tried elsewhere, with OpenLDAP and
//! `tests/ldap-server`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::certificates::Authority;
use super::directory::{BASE, Company, DOMAINS, Dialect, complete_domains};
use super::process::{Server, command, succeed};
use super::rcptsync::{LdapConfig, Rcptsync};
use super::{ldif, names, poll_until, require, require_root, set_mode, temp_dir, write_file};

/// The account that the program under test uses: an ordinary user of the domain without any right of its own.
pub const ACCOUNT: &str = "svc-sync@corp.example";
const ACCOUNT_PASSWORD: &str = "Svc!passw0rd";
const ADMINISTRATOR: &str = "administrator@corp.example";
const ADMINISTRATOR_PASSWORD: &str = "Adm!npassw0rd";

/// The controller's name in its certificate, beside its address.
pub const HOST_NAME: &str = "dc1.corp.example";

/// Accounts beside [`ACCOUNT`] with Kerberos, each with a keytab of its own.
pub const DISABLED_ACCOUNT: &str = "svc-disabled";
pub const CHANGED_ACCOUNT: &str = "svc-changed";
/// The controller's own service.
pub const SERVICE: &str = "ldap/dc1.corp.example";

const SEED: u64 = 20_261_121;

/// What the controller of [`shared`] holds.
const OBJECTS_COUNT: usize = 3_200;
/// Where finding the controller is tested, and not what it holds.
const OBJECTS_COUNT_WITH_NAMES: usize = 400;

/// The controller's own object, which `dsServiceName` of its root DSE names.
const SETTINGS: &str =
    "CN=NTDS Settings,CN=DC1,CN=Servers,CN=Default-First-Site-Name,CN=Sites,CN=Configuration";

const SHOW_DELETED: &str = "1.2.840.113556.1.4.417";
const FEW_OBJECTS_COUNT: usize = 200;

/// Ends a controller whose supervisor was killed too.
const RUN_SECONDS_MAX: u32 = 1_800;

const SCHEMA: [&str; 4] = [
    include_str!("../cases/schema/1-attributes.ldif"),
    include_str!("../cases/schema/2-classes.ldif"),
    include_str!("../cases/schema/3-accepted-domains.ldif"),
    include_str!("../cases/schema/4-refusals.ldif"),
];

/// A running controller and the truth about what it holds.
#[derive(Debug)]
pub struct Samba {
    pub company: Company,
    address: Ipv4Addr,
    directory: PathBuf,
    authority: Authority,
    /// `None` while it is stopped.
    server: Option<Server>,
    /// Removes the directory of a copy, which outlives its server when that is stopped.
    remover: Option<Server>,
}

/// What a controller serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Services {
    /// LDAP, as it is by default.
    Ldap,
    /// Names, and changes of the schema.
    LdapAndNames,
    /// LDAP that takes Kerberos inside TLS, which Samba does not by default, and Kerberos.
    LdapAndKerberos,
}

static SHARED: LazyLock<Mutex<Samba>> =
    LazyLock::new(|| Mutex::new(Samba::start_with(Services::Ldap, OBJECTS_COUNT)));

static SHARED_WITH_NAMES: LazyLock<Mutex<Samba>> = LazyLock::new(|| {
    Mutex::new(Samba::start_with(
        Services::LdapAndNames,
        OBJECTS_COUNT_WITH_NAMES,
    ))
});

static WITH_KERBEROS: LazyLock<Mutex<Samba>> = LazyLock::new(|| {
    Mutex::new(Samba::start_with(
        Services::LdapAndKerberos,
        FEW_OBJECTS_COUNT,
    ))
});

/// Whether a controller can be started here; if not, it is said that the test is skipped.
pub fn is_available() -> bool {
    require_root()
        && require("samba")
        && require("samba-tool")
        && require("ldbadd")
        && require("ldbedit")
        && require("ldapmodify")
        && require("openssl")
}

/// The controller of this process, one test at a time: tests change it, and the company with it. `None`: the test is
/// skipped.
pub fn shared() -> Option<MutexGuard<'static, Samba>> {
    the_one(&SHARED)
}

/// Another controller, the same for all tests of this process, that answers DNS for its domain too, and whose schema may be
/// changed.
pub fn shared_with_names() -> Option<MutexGuard<'static, Samba>> {
    the_one(&SHARED_WITH_NAMES)
}

fn the_one(shared: &'static LazyLock<Mutex<Samba>>) -> Option<MutexGuard<'static, Samba>> {
    // A test that failed while it held the controller leaves directory and company in step: both change together.
    is_available().then(|| shared.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The same for a small controller that serves Kerberos too. `None`: the test is skipped.
pub fn shared_with_kerberos() -> Option<MutexGuard<'static, Samba>> {
    let is_there = require("unshare") && require("faketime");
    is_there.then(|| the_one(&WITH_KERBEROS)).flatten()
}

impl Samba {
    /// A controller of a new domain with a company of so many objects.
    pub fn start(objects_count: usize) -> Samba {
        Samba::start_with(Services::Ldap, objects_count)
    }

    fn start_with(services: Services, objects_count: usize) -> Samba {
        let temporary = temp_dir("samba");
        let directory = temporary.path().to_owned();
        let address = free_address();
        let authority = Authority::new(&directory.join("tls"), "Authority of a Samba domain");
        let company = Company::generate(SEED, objects_count);
        provision(&directory, services);
        write_smb_conf(&directory, address, &authority, services);
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
        tool(
            &directory,
            &["user", "create", "svc-sync", ACCOUNT_PASSWORD],
        );
        if services == Services::LdapAndKerberos {
            prepare_kerberos(&directory);
        }
        for (file, password) in [
            ("svc-sync.password", ACCOUNT_PASSWORD),
            ("administrator.password", ADMINISTRATOR_PASSWORD),
        ] {
            // No line end: ldapmodify -y takes the whole file.
            write_file(&directory.join(file), password);
            set_mode(&directory.join(file), 0o600);
        }
        // From here on the supervisor removes it: a `static` is not dropped.
        let server = serve(&directory, address, Some(&directory));
        let samba = Samba {
            company,
            address,
            directory: temporary.keep(),
            authority,
            server: Some(server),
            remover: None,
        };
        if services == Services::LdapAndNames {
            // It was made with an address that nobody listens on.
            samba.replace_records(HOST_NAME, &[names::address(address)]);
        }
        samba
    }

    /// For the resolver of the program under test.
    pub fn resolv_conf(&self) -> PathBuf {
        let file = self.directory.join("resolv.conf");
        write_file(&file, format!("nameserver {}\n", self.address));
        file
    }

    /// Makes a name with these records.
    pub fn add_records(&self, name: &str, records: &[Vec<u8>]) {
        self.modify(&names::addition(name, records));
    }

    /// Gives a name that is there these records and no others.
    pub fn replace_records(&self, name: &str, records: &[Vec<u8>]) {
        self.modify(&names::replacement(name, records));
    }

    /// A second controller of the same domain, at another address: it holds what the first one holds now, has an
    /// `invocationId` of its own, as every controller has, and counts its changes from the same number on. Both have the
    /// same certificate authority. Nobody may change the first one meanwhile.
    pub fn copy_of(original: &Samba) -> Samba {
        let temporary = temp_dir("samba-copy");
        let directory = temporary.path().to_owned();
        let address = free_address();
        succeed(
            command("sh")
                .args(["-c", r#"cp -a "$1/." "$2" && rm -rf "$2/run" "$2/log""#])
                .arg("sh")
                .args([&original.directory, &directory]),
        );
        let authority = original.authority.copied_to(&directory.join("tls"));
        write_smb_conf(&directory, address, &authority, Services::Ldap);
        let change = format!(
            "dn: {SETTINGS},{BASE}\nchangetype: modify\nreplace: invocationId\n\
             invocationId: {:08x}-0000-4000-8000-000000000000\n",
            u32::from(address)
        );
        offline(&directory, "ldbmodify", &[], &change);
        let log = directory.join("log/remover.out");
        let remover = Server::start(command("sleep").arg("infinity"), &log, Some(&directory));
        Samba {
            company: original.company.clone(),
            address,
            server: Some(serve(&directory, address, None)),
            directory: temporary.keep(),
            authority,
            remover: Some(remover),
        }
    }

    /// Ends a copy's server; its directory stays.
    pub fn stop(&mut self) {
        assert!(self.remover.is_some(), "only a copy keeps its directory");
        self.server = None;
        // Its children go on for a moment, and whoever starts meanwhile does not get the ports.
        poll_until(
            STOP_TIME_MAX,
            "a controller that was stopped is silent",
            || TcpStream::connect((self.address, LDAPS_PORT)).err(),
        );
    }

    /// Starts a copy again at its old address.
    pub fn start_again(&mut self) {
        self.server = Some(serve(&self.directory, self.address, None));
    }

    /// Hides an object and all below it from [`ACCOUNT`].
    pub fn hide_from_account(&self, dn: &str) {
        succeed(
            self.samba_tool(&["dsacl", "set", &format!("--objectdn={dn}")])
                .arg(format!("--sddl=(D;CI;RPLCLORC;;;{})", self.account_sid())),
        );
    }

    fn account_sid(&self) -> String {
        let arguments = ["user", "show", "svc-sync", "--attributes=objectSid"];
        let shown = succeed(&mut self.samba_tool(&arguments));
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        let sid = shown
            .lines()
            .find_map(|line| line.strip_prefix("objectSid: "));
        sid.unwrap_or_else(|| panic!("no objectSid: {shown}"))
            .to_owned()
    }

    fn samba_tool(&self, arguments: &[&str]) -> Command {
        let mut samba_tool = command("samba-tool");
        samba_tool
            .args(arguments)
            .args(["-s".as_ref(), smb_conf(&self.directory).as_os_str()])
            .args(["-H".as_ref(), sam_ldb(&self.directory).as_os_str()]);
        samba_tool
    }

    /// Lets [`ACCOUNT`] see deleted objects, with the commands of the README.
    pub fn let_account_see_deletions(&self) {
        let conf = format!("--configfile={}", smb_conf(&self.directory).display());
        let sid = self.account_sid();
        // Behind the head of the list: the end of a long one stands on a line of its own.
        let insert = format!("sed -i 's/^nTSecurityDescriptor: .*D:[A-Z]*/&(A;;LCRP;;;{sid})/'");
        let edited = succeed(
            command("ldbedit")
                .arg(conf)
                .arg("-H")
                .arg(sam_ldb(&self.directory))
                .args(["--controls=show_deleted:1", "--controls=sd_flags:1:4"])
                .args(["-b", &format!("CN=Deleted Objects,{BASE}"), "-s", "base"])
                .args(["-e", &insert, "(objectClass=*)", "nTSecurityDescriptor"]),
        );
        let said = String::from_utf8_lossy(&edited.stdout);
        assert!(said.contains("1 modifies"), "ldbedit: {said}");
    }

    /// The deleted objects: what each was called (the value of its relative name), and its distinguished name now.
    pub fn tombstones(&self) -> BTreeMap<String, String> {
        Samba::tombstones_seen_by(self.administrator_tool("ldapsearch"))
    }

    /// Those of them that [`ACCOUNT`] sees.
    pub fn tombstones_for_account(&self) -> BTreeMap<String, String> {
        Samba::tombstones_seen_by(self.ldap_tool("ldapsearch"))
    }

    fn tombstones_seen_by(mut ldapsearch: Command) -> BTreeMap<String, String> {
        let found = succeed(
            ldapsearch
                .args(["-LLL", "-o", "ldif-wrap=no", "-b", BASE])
                .args(["-e", &format!("!{SHOW_DELETED}"), "(isDeleted=TRUE)", "1.1"]),
        );
        String::from_utf8_lossy(&found.stdout)
            .lines()
            .filter_map(|line| line.strip_prefix("dn: "))
            .filter_map(|dn| {
                let (name, _) = dn.split_once("\\0ADEL:")?;
                let (_, name) = name.split_once('=')?;
                Some((name.to_owned(), dn.to_owned()))
            })
            .collect()
    }

    /// One attribute of the root DSE, as [`ACCOUNT`] sees it.
    pub fn root_attribute(&self, name: &str) -> String {
        self.attribute_of("", name)
    }

    /// The first value of an attribute of an object, as [`ACCOUNT`] sees it; octets in Base64.
    pub fn attribute_of(&self, dn: &str, name: &str) -> String {
        let found = succeed(self.ldap_tool("ldapsearch").args([
            "-LLL",
            "-o",
            "ldif-wrap=no",
            "-s",
            "base",
            "-b",
            dn,
            name,
        ]));
        let found = String::from_utf8_lossy(&found.stdout).into_owned();
        found
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(|value| value.trim_start_matches([':', ' ']).to_owned())
            .unwrap_or_else(|| panic!("no {name} in {dn:?}:\n{found}"))
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

    /// Configures a program to read this controller, and these when it does not answer, over LDAPS. Nobody of
    /// the company is elsewhere, remote mailboxes or not.
    pub fn configure(&self, program: &Rcptsync, others: &[&Samba], source_more: &str, more: &str) {
        let servers = std::iter::once(self).chain(others.iter().copied());
        let servers: Vec<String> = servers.map(Samba::ldaps_url).collect();
        program.configure_ldap(&LdapConfig {
            server: servers.join("\", \""),
            starttls: false,
            ca_file: &self.ca_file(),
            bind_name: ACCOUNT,
            password_file: &self.password_file(),
            page_size: 1_000,
            source_more,
            domains: &DOMAINS,
            more: &(complete_domains() + more),
        });
    }

    /// The keytab of an account.
    pub fn keytab(&self, account: &str) -> PathBuf {
        keytab(&self.directory, account)
    }

    /// Where it listens.
    pub fn address(&self) -> Ipv4Addr {
        self.address
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
        succeed(self.administrator_tool("ldapmodify").arg("-f").arg(&file))
    }

    fn administrator_tool(&self, tool: &str) -> Command {
        let password_file = self.directory.join("administrator.password");
        self.ldap_tool_as(tool, ADMINISTRATOR, &password_file)
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
const STOP_TIME_MAX: Duration = Duration::from_secs(20);

/// An address of 127.0.0.0/8 whose LDAP ports nobody has. It is made from the process number, so that two processes that
/// look at the same moment look at different addresses; within this one no address is given twice.
pub fn free_address() -> Ipv4Addr {
    static GIVEN: Mutex<BTreeSet<Ipv4Addr>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let address = (std::process::id()..)
        .take(1_000)
        .map(|number| {
            let [_, second, third, fourth] = number.to_be_bytes();
            // Neither 127.0.0.0/16, where everybody else is, nor a last number of 0 or 255.
            Ipv4Addr::new(127, 64 + second % 128, third, 1 + fourth % 254)
        })
        .find(|address| {
            !given.contains(address)
                && [53, 88, 389, 464, LDAPS_PORT, 3268, 3269]
                    .into_iter()
                    .all(|port| TcpListener::bind((*address, port)).is_ok())
        })
        .expect("a loopback address with free LDAP ports");
    given.insert(address);
    address
}

/// Makes the domain. The base configuration is empty: the machine's own would be copied into the new one.
fn provision(directory: &Path, services: Services) {
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
                // Names are half of the time.
                match services {
                    Services::Ldap | Services::LdapAndKerberos => "--dns-backend=NONE",
                    Services::LdapAndNames => "--dns-backend=SAMBA_INTERNAL",
                },
                "--host-name=dc1",
                // An address of the loopback net would be thrown away, and the network card's taken, without an IPv6 one.
                "--host-ip=127.0.0.1",
                "--host-ip6=::1",
            ])
            .arg(format!("--adminpass={ADMINISTRATOR_PASSWORD}")),
    );
}

/// Registers the controller's name, which a part of Samba does that does not run here, and makes accounts with keytabs.
fn prepare_kerberos(directory: &Path) {
    tool(directory, &["spn", "add", SERVICE, "DC1$"]);
    let export = |account: &str| {
        let file = keytab(directory, account);
        let principal = format!("--principal={account}");
        let file = file.to_str().expect("text");
        succeed(
            command("samba-tool")
                .args(["domain", "exportkeytab", file, &principal, "-s"])
                .arg(smb_conf(directory)),
        );
    };
    export("svc-sync");
    export(SERVICE);
    for account in [DISABLED_ACCOUNT, CHANGED_ACCOUNT] {
        tool(directory, &["user", "create", account, ACCOUNT_PASSWORD]);
        export(account);
    }
    tool(directory, &["user", "disable", DISABLED_ACCOUNT]);
    let new_password = "--newpassword=An0ther!passw0rd";
    tool(
        directory,
        &["user", "setpassword", CHANGED_ACCOUNT, new_password],
    );
}

fn keytab(directory: &Path, account: &str) -> PathBuf {
    directory.join(format!("{}.keytab", account.replace('/', "-")))
}

/// Administers the domain while the controller does not run.
#[track_caller]
fn tool(directory: &Path, arguments: &[&str]) {
    succeed(
        command("samba-tool")
            .args(arguments)
            .args(["-s".as_ref(), smb_conf(directory).as_os_str()])
            .args(["-H".as_ref(), sam_ldb(directory).as_os_str()]),
    );
}

/// Our own configuration instead of the one that was made: every path below the directory, one address, few services.
fn write_smb_conf(directory: &Path, address: Ipv4Addr, authority: &Authority, services: Services) {
    let services = match services {
        Services::Ldap => {
            "server services = ldap\n\
             ldap server require strong auth = yes"
        }
        Services::LdapAndNames => {
            "server services = ldap dns\n\
             ldap server require strong auth = yes\n\
             allow dns updates = disabled\n\
             dsdb:schema update allowed = yes"
        }
        Services::LdapAndKerberos => {
            "server services = ldap kdc\n\
             ldap server require strong auth = allow_sasl_over_tls"
        }
    };
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
             {services}\n\
             interfaces = {address}/8\n\
             bind interfaces only = yes\n\
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

fn serve(directory: &Path, address: Ipv4Addr, remove_at_end: Option<&Path>) -> Server {
    let mut samba = command("samba");
    samba
        .args(["-i", "-M", "prefork", "--no-process-group"])
        .arg(format!("--maximum-runtime={RUN_SECONDS_MAX}"))
        .args(["--debug-stdout", "-s"])
        .arg(smb_conf(directory));
    let mut server = Server::start(&samba, &directory.join("log/samba.out"), remove_at_end);
    server.wait_until_ready("Samba accepts connections", || {
        TcpStream::connect((address, LDAPS_PORT)).ok()
    });
    server
}

fn smb_conf(directory: &Path) -> PathBuf {
    directory.join("dc.conf")
}

fn sam_ldb(directory: &Path) -> PathBuf {
    directory.join("private/sam.ldb")
}

/// The base of every search, again, so that tests need one module only.
pub const SEARCH_BASE: &str = BASE;
