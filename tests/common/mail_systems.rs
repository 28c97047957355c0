//! Exim, OpenSMTPD, Sendmail and Rspamd, which ask a table whether they take an address.
//!
//! They lie where `tests/setup` unpacked them, for Debian has one mail system at a time. Each runs from a directory of its own,
//! in a mount namespace where its accounts exist and where what it would write elsewhere goes with the process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::postfix::Session;
use super::process::{Server, command, succeed};
use super::slapd::free_port;
use super::{require_root, skip, temp_dir, write_file};

/// Where `tests/setup` unpacks.
const UNPACKED: &str = "/var/cache/rcptsync-tests/mail-systems";

/// The domains that each of them takes mail for.
pub const DOMAINS: [&str; 3] = ["example.com", "example.org", "xn--bcher-kva.example"];

fn unpacked(package: &str) -> PathBuf {
    Path::new(UNPACKED).join(package)
}

/// Whether a mail system is there and may be started.
pub fn is_available(packages: &[&str]) -> bool {
    let missing = packages.iter().find(|package| !unpacked(package).exists());
    match missing {
        Some(package) => skip(&format!("{package} is not unpacked below {UNPACKED}")),
        None => require_root(),
    }
}

/// A directory for a mail system, with accounts that the machine need not have.
struct Place {
    directory: TempDir,
}

/// `$1` has `passwd`, `group` and `hosts`; the rest is the program.
const IN_NAMESPACE: &str = r#"
    place=$1; shift
    for name in passwd group hosts; do mount --bind "$place/$name" "/etc/$name" || exit 1; done
    for path in /var/spool /var/lib /run; do mount -t tmpfs none "$path" || exit 1; done
    mkdir -m 711 /var/spool/smtpd && mkdir -p /var/lib/opensmtpd/empty || exit 1
    hostname gateway.example || exit 1
    exec "$@"
"#;

impl Place {
    fn new(name: &str) -> Place {
        let place = Place {
            directory: temp_dir(name),
        };
        let (mut passwd, mut group) = (
            "root:x:0:0::/root:/bin/sh\n".to_owned(),
            "root:x:0:\n".to_owned(),
        );
        let accounts = [
            "Debian-exim",
            "opensmtpd",
            "opensmtpq",
            "smmta",
            "smmsp",
            "nobody",
            "mail",
        ];
        for (account, number) in accounts.iter().zip(64_001..) {
            passwd.push_str(&format!(
                "{account}:x:{number}:{number}::/nonexistent:/usr/sbin/nologin\n"
            ));
            group.push_str(&format!("{account}:x:{number}:\n"));
        }
        place.write("passwd", passwd);
        place.write("group", group);
        place.write("hosts", "127.0.0.1 gateway.example localhost\n");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        write_file(&self.path(name), content);
        self.path(name)
    }

    fn run(&self, program: &Path) -> Command {
        let mut unshared = command("unshare");
        unshared
            .args([
                "--mount",
                "--uts",
                "--propagation",
                "private",
                "sh",
                "-c",
                IN_NAMESPACE,
                "sh",
            ])
            .arg(self.directory.path())
            .arg(program);
        unshared
    }

    /// Gives a program its input, and takes what it prints.
    #[track_caller]
    fn talk(&self, mut program: Command, input: &str) -> String {
        let input = self.write("input", input);
        let input = std::fs::File::open(input).expect("a file of our own");
        let output = succeed(program.stdin(Stdio::from(input)));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// Exim with a table in one of its lookups, which says of each address whether it is taken. The table is asked as
/// the README says: `lookup` is what stands between `{` and `}` behind `lookup`.
#[track_caller]
pub fn ask_exim(lookup: &str, addresses: &[String]) -> Vec<bool> {
    let place = Place::new("exim");
    let root = place.directory.path().display().to_string();
    let domains = DOMAINS.join(" : ");
    let config = place.write(
        "exim.conf",
        format!(
            "primary_hostname = gateway.example\n\
             log_file_path = {root}/%slog\nspool_directory = {root}/spool\n\
             host_lookup =\nrfc1413_hosts =\nsmtputf8_advertise_hosts = *\n\
             smtp_accept_max_nonmail = 100000\n\
             domainlist relay_to_domains = {domains}\n\
             acl_smtp_rcpt = check_rcpt\n\
             begin acl\n\
             check_rcpt:\n\
             \x20 deny   domains   = +relay_to_domains\n\
             \x20        condition = ${{lookup {lookup} {{no}}{{yes}}}}\n\
             \x20        message   = 550 5.1.1 User unknown\n\
             \x20 accept domains   = +relay_to_domains\n\
             \x20 deny   message   = relay not permitted\n"
        ),
    );
    let mut program = place.run(&unpacked("exim4-daemon-light/usr/sbin/exim4"));
    program.arg("-C").arg(config).args(["-bh", "192.0.2.1"]);
    let mut dialogue = String::from("EHLO client.example.net\r\n");
    for address in addresses {
        dialogue.push_str(&format!(
            "RSET\r\nMAIL FROM:<> SMTPUTF8\r\nRCPT TO:<{address}>\r\n"
        ));
    }
    let answers = place.talk(program, &format!("{dialogue}QUIT\r\n"));
    // Of each address: RSET, MAIL, RCPT.
    let mut codes = answers
        .lines()
        .filter_map(|line| line.split_at_checked(4))
        .filter_map(|(code, _)| code.strip_suffix(' ')?.parse::<u16>().ok());
    assert_eq!(
        (codes.next(), codes.next()),
        (Some(220), Some(250)),
        "{answers}"
    );
    let codes: Vec<u16> = codes.collect();
    assert_eq!(codes.len(), addresses.len() * 3 + 1, "{answers}");
    codes.chunks_exact(3).map(|codes| codes[2] == 250).collect()
}

/// What Exim's lookup of a key says, without a mail: `lookup` as in [`ask_exim`], where `$sender_address` is the key.
#[track_caller]
pub fn exim_finds(lookup: &str, key: &str) -> bool {
    let place = Place::new("exim");
    let root = place.directory.path().display().to_string();
    let config = place.write(
        "exim.conf",
        format!("log_file_path = {root}/%slog\nspool_directory = {root}/spool\n"),
    );
    let mut program = place.run(&unpacked("exim4-daemon-light/usr/sbin/exim4"));
    program.arg("-C").arg(config).args(["-f", key, "-be"]);
    program.arg(format!("${{lookup {lookup} {{yes}}{{no}}}}"));
    place.talk(program, "").trim() == "yes"
}

/// OpenSMTPD with a table of recipients.
#[track_caller]
pub fn ask_opensmtpd(table: &Path, addresses: &[String]) -> Vec<bool> {
    let place = Place::new("opensmtpd");
    let port = free_port();
    let config = place.write(
        "smtpd.conf",
        format!(
            "table recipients file:{}\n\
             listen on 127.0.0.1 port {port} hostname gateway.example\n\
             action \"relay\" relay host smtp://127.0.0.1:9\n\
             match from any for rcpt-to <recipients> action \"relay\"\n",
            table.display()
        ),
    );
    let mut program = place.run(&unpacked("opensmtpd/usr/sbin/smtpd"));
    program.args(["-d", "-f"]).arg(config);
    let mut server = Server::start(&program, &place.path("log"), None);
    server.wait_until_ready("smtpd", || Session::open(port).ok());
    let mut session = Session::open(port).expect("a session");
    let mut ask = |address: &String| {
        // It hangs up on who says two things at once, and on who is refused too often.
        let answers = session.rcpt(&[address]).or_else(|_| {
            session = Session::open(port)?;
            session.rcpt(&[address])
        });
        answers.expect("an answer")[0].code == 250
    };
    addresses.iter().map(&mut ask).collect()
}

/// Sendmail with an access map that its own makemap builds; what its rules say of each address.
#[track_caller]
pub fn ask_sendmail(table: &Path, addresses: &[String]) -> Vec<bool> {
    let place = Place::new("sendmail");
    let root = place.directory.path().display().to_string();
    place.write(
        "relay-domains",
        DOMAINS.map(|domain| format!("{domain}\n")).concat(),
    );
    place.write("local-host-names", "");
    place.write(
        "gateway.mc",
        format!(
            "include(`{}/usr/share/sendmail/cf/m4/cf.m4')dnl\n\
             OSTYPE(`linux')dnl\n\
             define(`confCW_FILE', `{root}/local-host-names')dnl\n\
             define(`confCR_FILE', `{root}/relay-domains')dnl\n\
             define(`ALIAS_FILE', `')dnl\n\
             define(`QUEUE_DIR', `{root}')dnl\n\
             define(`confDONT_BLAME_SENDMAIL', `GroupWritableDirPathSafe,TrustStickyBit')dnl\n\
             FEATURE(`nocanonify')dnl\n\
             FEATURE(`access_db', `hash -T<TMPF> {root}/access')dnl\n\
             FEATURE(`blocklist_recipients')dnl\n\
             MAILER(`smtp')dnl\n",
            unpacked("sendmail-cf").display()
        ),
    );
    let cf = unpacked("sendmail-cf/usr/share/sendmail/cf");
    let made = succeed(
        command("m4")
            .arg("-I")
            .arg(&cf)
            .arg(place.path("gateway.mc")),
    );
    let config = place.write("gateway.cf", made.stdout);
    let source = std::fs::read_to_string(table).expect("a table");
    let mut makemap = place.run(&unpacked("sendmail-bin/usr/libexec/sendmail/makemap"));
    makemap
        .arg("-C")
        .arg(&config)
        .arg("hash")
        .arg(place.path("access"));
    place.talk(makemap, &source);

    let mut program = place.run(&unpacked("sendmail-bin/usr/libexec/sendmail/sendmail"));
    program.arg("-bt").arg("-C").arg(config);
    // As if a stranger asked.
    let mut questions = String::from(
        ".D{client_addr}192.0.2.1\n.D{client_name}client.example.net\n.D{client_resolve}OK\n",
    );
    for address in addresses {
        questions.push_str(&format!("check_rcpt {address}\n"));
    }
    let answers = place.talk(program, &format!("{questions}/quit\n"));
    let verdicts: Vec<bool> = answers
        .lines()
        .filter_map(|line| line.strip_prefix("check_rcpt"))
        .filter_map(|line| line.trim().strip_prefix("returns:"))
        .map(|verdict| !verdict.contains("error"))
        .collect();
    assert_eq!(verdicts.len(), addresses.len(), "{answers}");
    verdicts
}

/// Rspamd with a multimap rule.
#[track_caller]
pub fn ask_rspamd(table: &Path, addresses: &[String]) -> Vec<bool> {
    let place = Place::new("rspamd");
    let root = place.directory.path().display().to_string();
    let package = unpacked("rspamd").display().to_string();
    let port = free_port();
    place.write("tld", "com\norg\nexample\n");
    let config = place.write(
        "rspamd.conf",
        format!(
            "options {{\n  filters = \"\"; pidfile = \"{root}/pid\"; url_tld = \"{root}/tld\"; hs_cache_dir = \"{root}\";\n\
             \x20 tempdir = \"{root}\"; control_socket = \"{root}/control mode=0600\";\n\
             \x20 dns {{ nameserver = [\"127.0.0.1:9\"]; timeout = 0.1s; }}\n}}\n\
             logging {{ type = \"console\"; level = \"info\"; }}\n\
             worker \"normal\" {{ bind_socket = \"127.0.0.1:{port}\"; count = 1; }}\n\
             lua = \"{package}/usr/share/rspamd/rules/rspamd.lua\";\n\
             modules {{ path = \"{package}/usr/share/rspamd/plugins/multimap.lua\"; }}\n\
             multimap {{ KNOWN_RECIPIENT {{ type = \"rcpt\"; map = \"{}\"; score = 0; }} }}\n",
            table.display()
        ),
    );
    let mut program = place.run(&unpacked("rspamd/usr/bin/rspamd"));
    program.args(["-f", "-i", "-c"]).arg(config);
    for (name, path) in [
        ("SHAREDIR", "/usr/share/rspamd"),
        ("LUALIBDIR", "/usr/share/rspamd/lualib"),
        ("RULESDIR", "/usr/share/rspamd/rules"),
        ("PLUGINSDIR", "/usr/share/rspamd/plugins"),
    ] {
        program.arg(format!("--var={name}={package}{path}"));
    }
    for name in ["CONFDIR", "LOCAL_CONFDIR", "RUNDIR", "DBDIR", "LOGDIR"] {
        program.arg(format!("--var={name}={root}"));
    }
    program.env("LD_LIBRARY_PATH", format!("{package}/usr/lib/rspamd"));
    let mut server = Server::start(&program, &place.path("log"), None);
    // It answers before it has read its maps.
    server.wait_until_ready("rspamd", || {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()
    });
    server.wait_until_ready("its map", || server_has_read(&place, table).then_some(()));
    addresses
        .iter()
        .map(|address| scan(port, address))
        .collect()
}

fn server_has_read(place: &Place, table: &Path) -> bool {
    let log = std::fs::read_to_string(place.path("log")).unwrap_or_default();
    log.contains(&format!("elements from {}", table.display()))
}

/// Whether the rule finds a recipient.
fn scan(port: u16, address: &str) -> bool {
    const MESSAGE: &str = "Subject: a question\r\n\r\nHello\r\n";
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("rspamd listens");
    let length = MESSAGE.len();
    let request = format!(
        "POST /checkv2 HTTP/1.0\r\nRcpt: {address}\r\nContent-Length: {length}\r\n\r\n{MESSAGE}"
    );
    stream.write_all(request.as_bytes()).expect("sent");
    let mut reader = BufReader::new(stream);
    let mut status = String::new();
    reader.read_line(&mut status).expect("an answer");
    assert!(status.contains(" 200 "), "{address}: {status}");
    let mut answer = String::new();
    reader.read_to_string(&mut answer).expect("an answer");
    let json = answer.split("\r\n\r\n").nth(1).expect("a body");
    let report: serde_json::Value = serde_json::from_str(json).expect("JSON");
    report["symbols"]["KNOWN_RECIPIENT"].is_object()
}
