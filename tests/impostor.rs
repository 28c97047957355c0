//! A machine in the place of a domain controller: what it shows, offers and refers to, and that it never sees the password.
//!
//! Certificates are made by the openssl command, because right libraries do not make such; weak protocols and keys are
//! offered by its server. Where the embedded server answers, it says whether one octet of the password came. Not here: rows
//! about the authority, the name and the dates of an otherwise right certificate, and about StartTLS (`directory.rs`);
//! tickets (`gssapi.rs`); what DNS names (`discover.rs`).
#![allow(
    clippy::expect_used,
    reason = "a test fails by panicking, and the message says what was expected"
)]

mod common;

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::process::{self, command, succeed};
use common::slapd::{self, Slapd};
use common::{require, set_mode, temp_dir, write_file};
use ldap_server::{Directory, Fault, Identity, Moment, Server, hostile};
use rcptsync::config::secret::SecretPlace;
use rcptsync::config::{Bind, Incremental, LdapSource, ServerAddress, Servers};
use rcptsync::directory::{ReadFailure, read};
use rcptsync::exit::Exit;
use rcptsync::records::Spool;
use rcptsync::snapshot::{Reading, SourceProgress};
use tempfile::TempDir;

const BASE: &str = "DC=corp,DC=example";
const NAME: &str = "rcptsync@corp.example";
const PASSWORD: &str = "s3cret-Pa55";

/// How a certificate is made. Whatever is not said is right for a server at 127.0.0.1, issued by the authority `root`.
#[derive(Clone, Copy, Debug)]
struct Plan {
    subject: &'static str,
    issuer: &'static str,
    extensions: &'static str,
    key: &'static str,
    digest: &'static str,
    has_version_3: bool,
    is_over: bool,
}

const SERVER: Plan = Plan {
    subject: "server",
    issuer: "root",
    extensions: "basicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\nsubjectAltName=IP:127.0.0.1,DNS:localhost\n",
    key: "ec",
    digest: "-sha256",
    has_version_3: true,
    is_over: false,
};

const AUTHORITY: Plan = Plan {
    subject: "between",
    extensions: "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n",
    ..SERVER
};

/// Certificates and keys in a directory, and what reads them.
struct Forge {
    directory: TempDir,
}

impl Forge {
    /// With the one authority that is trusted.
    fn new() -> Forge {
        let forge = Forge {
            directory: temp_dir("impostor"),
        };
        write_file(&forge.path("password"), PASSWORD);
        set_mode(&forge.path("password"), 0o600);
        forge.make(Plan {
            subject: "root",
            ..AUTHORITY
        });
        forge
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).expect("a file of our own")
    }

    /// Makes `SUBJECT.pem` and `SUBJECT.key`.
    fn make(&self, plan: Plan) {
        let file = |suffix: &str| self.path(&format!("{}.{suffix}", plan.subject));
        let mut key = command("openssl");
        match plan.key.strip_prefix("rsa:") {
            Some(bits) => key.args(["genrsa", "-out"]).arg(file("key")).arg(bits),
            None => key
                .args([
                    "genpkey",
                    "-algorithm",
                    "EC",
                    "-pkeyopt",
                    "ec_paramgen_curve:P-256",
                    "-out",
                ])
                .arg(file("key")),
        };
        succeed(&mut key);
        write_file(
            &self.path("request.cnf"),
            "[req]\ndistinguished_name=name\n[name]\n",
        );
        write_file(&file("cnf"), plan.extensions);
        succeed(
            command("openssl")
                .args(["req", "-new", "-config"])
                .arg(self.path("request.cnf"))
                .args(["-subj", &format!("/CN={}", plan.subject), "-key"])
                .arg(file("key"))
                .arg("-out")
                .arg(file("csr")),
        );
        let mut sign = if plan.is_over {
            command("faketime")
        } else {
            command("openssl")
        };
        if plan.is_over {
            sign.args(["2001-01-01", "openssl"]);
        }
        sign.args(["x509", "-req", "-days", "2", plan.digest, "-in"])
            .arg(file("csr"));
        if plan.issuer == plan.subject || plan.subject == "root" {
            sign.arg("-key").arg(file("key"));
        } else {
            let issuer = |suffix: &str| self.path(&format!("{}.{suffix}", plan.issuer));
            sign.arg("-CA")
                .arg(issuer("pem"))
                .arg("-CAkey")
                .arg(issuer("key"))
                .arg("-CAcreateserial");
        }
        if plan.has_version_3 {
            sign.arg("-extfile").arg(file("cnf"));
        }
        succeed(sign.arg("-out").arg(file("pem")));
    }

    /// What shows these certificates, the server's own first.
    fn identity(&self, chain: &[&str]) -> Identity {
        let pems: String = chain
            .iter()
            .map(|name| self.text(&format!("{name}.pem")))
            .collect();
        Identity::of_pem(&pems, &self.text(&format!("{}.key", chain[0])))
    }

    fn source(&self, servers: Vec<ServerAddress>) -> LdapSource {
        LdapSource {
            incremental: Incremental::Auto,
            full_every: None,
            replication_delay: Duration::ZERO,
            servers: Servers::Listed(servers),
            bases: vec![BASE.into()],
            filter: LdapSource::DEFAULT_FILTER.into(),
            page_size: 100,
            connect_timeout: Duration::from_secs(20),
            timeout: Duration::from_secs(20),
            starttls: false,
            ca_file: Some(self.path("root.pem")),
            bind: Bind::Simple {
                name: NAME.into(),
                password: SecretPlace::File(self.path("password")),
            },
        }
    }
}

fn read_source(source: &LdapSource) -> Result<Reading, ReadFailure> {
    let deadline = Instant::now() + Duration::from_secs(60);
    let (mut spool, progress) = (Spool::in_memory(), SourceProgress::default());
    read("corp", source, None, deadline, &mut spool, &progress)
}

fn address(host: &str, port: u16, is_ldaps: bool) -> ServerAddress {
    let scheme = if is_ldaps { "ldaps" } else { "ldap" };
    ServerAddress {
        url: format!("{scheme}://{host}:{port}"),
        is_ldaps,
        host: host.into(),
        port,
    }
}

fn seven() -> Directory {
    Directory::new(BASE)
        .recipients(7)
        .account(NAME, PASSWORD)
        .needs_bind()
}

/// Nothing of the password came to a server.
#[track_caller]
fn check_knows_nothing(server: &Server, what: &str) {
    let stats = server.stats();
    assert_eq!(stats.binds, [], "{what}");
    let mut octets = stats.received.windows(PASSWORD.len());
    assert!(
        !octets.any(|octets| octets == PASSWORD.as_bytes()),
        "{what}"
    );
}

/// What a failure says, for people: all of it, and never the password.
#[track_caller]
fn told(failure: &ReadFailure) -> String {
    let told = failure.failure("all stays");
    assert!(!told.why.is_empty() && !told.next.is_empty(), "{told:?}");
    let text = format!("{failure}\n{told:?}");
    assert!(!text.contains(PASSWORD), "{text}");
    text
}

/// Shows a chain, under the name of which the server is asked for.
#[track_caller]
fn check_chain(plans: &[Plan], chain: &[&str], host: &str, expected: Result<(), &str>) {
    let forge = Forge::new();
    plans.iter().for_each(|plan| forge.make(*plan));
    let server = Server::start(seven().ldaps(&forge.identity(chain)));
    let source = forge.source(vec![address(host, server.port(), true)]);
    match (read_source(&source), expected) {
        (Ok(_), Ok(())) => assert_eq!(server.stats().binds.len(), 1),
        (Err(failure), Err(expected)) => {
            let text = told(&failure);
            assert!(
                text.contains("the TLS handshake failed"),
                "{plans:?}: {text}"
            );
            assert!(text.contains(expected), "{plans:?}: {text}");
            assert_eq!(failure.failure("").exit, Exit::SourceFrozen);
            check_knows_nothing(&server, &text);
        }
        (Ok(_), Err(_)) => unreachable!("{plans:?} was believed"),
        (Err(failure), Ok(())) => unreachable!("{plans:?}: {}", told(&failure)),
    }
}

#[test]
fn a_chain_that_proves_nothing_is_not_believed() {
    if !require("openssl") || !require("faketime") {
        return;
    }
    let named = |extensions| Plan {
        extensions,
        ..SERVER
    };
    let by = |issuer| Plan { issuer, ..SERVER };
    let one = |plan: Plan, host, expected| check_chain(&[plan], &["server"], host, expected);
    // What is right is believed, or the rows below would say nothing.
    one(SERVER, "127.0.0.1", Ok(()));
    one(SERVER, "localhost", Ok(()));
    check_chain(
        &[AUTHORITY, by("between")],
        &["server", "between"],
        "127.0.0.1",
        Ok(()),
    );

    for (extensions, host) in [
        ("subjectAltName=IP:127.0.0.2,DNS:localhost\n", "127.0.0.1"),
        ("subjectAltName=DNS:127.0.0.1\n", "127.0.0.1"),
        (
            "subjectAltName=URI:ldaps://127.0.0.1,email:a@127.0.0.1\n",
            "127.0.0.1",
        ),
        (
            "subjectAltName=DNS:localhost.attacker.example\n",
            "localhost",
        ),
        (
            "subjectAltName=DNS:attacker.example,DNS:ocalhost\n",
            "localhost",
        ),
        ("subjectAltName=DNS:*\n", "localhost"),
        ("subjectAltName=DNS:local*\n", "localhost"),
        ("subjectAltName=DNS:*.localhost\n", "localhost"),
        ("subjectAltName=IP:127.0.0.1\n", "localhost"),
    ] {
        one(named(extensions), host, Err("not valid for name"));
    }
    // The subject is no name of a server, whatever it says.
    let subject = Plan {
        subject: "localhost",
        extensions: "basicConstraints=CA:FALSE\n",
        ..SERVER
    };
    check_chain(
        &[subject],
        &["localhost"],
        "localhost",
        Err("not valid for name"),
    );

    let unknown = Err("UnknownIssuer");
    one(by("server"), "127.0.0.1", Err("invalid peer certificate"));
    check_chain(
        &[AUTHORITY, by("between")],
        &["server"],
        "127.0.0.1",
        unknown,
    );
    let other = Plan {
        subject: "other",
        issuer: "other",
        ..AUTHORITY
    };
    check_chain(
        &[other, by("other")],
        &["server", "other"],
        "127.0.0.1",
        unknown,
    );
    // A server's certificate, rightly issued, as the authority of another.
    let shop = Plan {
        subject: "shop",
        ..SERVER
    };
    check_chain(
        &[shop, by("shop")],
        &["server", "shop"],
        "127.0.0.1",
        Err("invalid peer certificate"),
    );
    let unmarked = Plan {
        extensions: "keyUsage=critical,keyCertSign\n",
        ..AUTHORITY
    };
    check_chain(
        &[unmarked, by("between")],
        &["server", "between"],
        "127.0.0.1",
        Err("invalid peer certificate"),
    );
    let last = Plan {
        extensions: "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign\n",
        ..AUTHORITY
    };
    let below = Plan {
        subject: "below",
        issuer: "between",
        ..AUTHORITY
    };
    check_chain(
        &[last, below, by("below")],
        &["server", "below", "between"],
        "127.0.0.1",
        Err("invalid peer certificate"),
    );
    let limited = Plan {
        extensions: "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\nnameConstraints=critical,permitted;DNS:shop.example\n",
        ..AUTHORITY
    };
    check_chain(
        &[limited, by("between")],
        &["server", "between"],
        "localhost",
        Err("invalid peer certificate"),
    );
    let over = Plan {
        is_over: true,
        ..AUTHORITY
    };
    check_chain(
        &[over, by("between")],
        &["server", "between"],
        "127.0.0.1",
        Err("expired"),
    );
    one(
        Plan {
            is_over: true,
            ..SERVER
        },
        "127.0.0.1",
        Err("expired"),
    );
    let of_client = "extendedKeyUsage=clientAuth\nsubjectAltName=IP:127.0.0.1\n";
    one(
        named(of_client),
        "127.0.0.1",
        Err("invalid peer certificate"),
    );
    let old_form = Plan {
        has_version_3: false,
        ..SERVER
    };
    one(old_form, "127.0.0.1", Err("invalid peer certificate"));
}

#[test]
fn a_weak_signature_proves_nothing() {
    if !require("openssl") {
        return;
    }
    for (digest, key) in [("-sha1", "ec"), ("-sha1", "rsa:2048"), ("-md5", "rsa:2048")] {
        let authority = Plan { key, ..AUTHORITY };
        let server = Plan {
            issuer: "between",
            digest,
            ..SERVER
        };
        let expected = Err("invalid peer certificate");
        check_chain(
            &[authority, server],
            &["server", "between"],
            "127.0.0.1",
            expected,
        );
    }
    for key in ["rsa:512", "rsa:1024"] {
        let authority = Plan { key, ..AUTHORITY };
        let server = Plan {
            issuer: "between",
            ..SERVER
        };
        check_chain(
            &[authority, server],
            &["server", "between"],
            "127.0.0.1",
            Err("invalid peer certificate"),
        );
    }
    let authority = Plan {
        key: "rsa:2048",
        ..AUTHORITY
    };
    let server = Plan {
        issuer: "between",
        ..SERVER
    };
    check_chain(
        &[authority, server],
        &["server", "between"],
        "127.0.0.1",
        Ok(()),
    );
}

/// OpenSSL's own server, made to offer this and nothing else, with a key of this kind. How far one gets with it.
fn offered(forge: &Forge, key: &'static str, options: &[&str]) -> String {
    forge.make(Plan { key, ..SERVER });
    let port = free_port();
    let mut server = command("openssl");
    server
        .args([
            "s_server",
            "-quiet",
            "-rev",
            "-accept",
            &format!("127.0.0.1:{port}"),
            "-cert",
        ])
        .arg(forge.path("server.pem"))
        .arg("-key")
        .arg(forge.path("server.key"))
        .args(options);
    let log = forge.path("s_server.log");
    let mut running = process::Server::start(&server, &log, None);
    running.wait_until_ready("s_server listens", || {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()
    });
    let mut source = forge.source(vec![address("127.0.0.1", port, true)]);
    source.timeout = Duration::from_secs(1);
    told(&read_source(&source).expect_err("that is no LDAP server"))
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("an address").port()
}

#[test]
fn weak_protocols_and_keys_are_not_spoken_with() {
    if !require("openssl") {
        return;
    }
    let forge = Forge::new();
    // Spoken with: the failure is that of a server that does not know LDAP.
    for options in [&["-tls1_2"], &["-tls1_3"]] {
        for key in ["ec", "rsa:2048"] {
            let text = offered(&forge, key, options);
            assert!(
                text.contains("the bind as rcptsync@corp.example failed"),
                "{options:?}: {text}"
            );
        }
    }
    const LAX: &str = "ALL:COMPLEMENTOFALL:@SECLEVEL=0";
    for (key, options) in [
        ("rsa:2048", &["-tls1", "-cipher", LAX][..]),
        ("rsa:2048", &["-tls1_1", "-cipher", LAX]),
        ("ec", &["-tls1", "-cipher", LAX]),
        // The key of the session from the server's own: who gets that key later reads everything.
        ("rsa:2048", &["-tls1_2", "-cipher", "kRSA:@SECLEVEL=0"]),
        ("rsa:2048", &["-tls1_2", "-cipher", "kDHE:@SECLEVEL=0"]),
        // Nothing is encrypted, nobody proves who he is, both.
        ("rsa:2048", &["-tls1_2", "-cipher", "eNULL:@SECLEVEL=0"]),
        ("rsa:2048", &["-tls1_2", "-cipher", "aNULL:@SECLEVEL=0"]),
        (
            "rsa:2048",
            &["-tls1_2", "-cipher", "AECDH-NULL-SHA:@SECLEVEL=0"],
        ),
        (
            "rsa:2048",
            &["-tls1_2", "-cipher", "ECDHE-RSA-AES128-SHA:@SECLEVEL=0"],
        ),
        ("rsa:1024", &["-tls1_2", "-cipher", LAX]),
        ("rsa:512", &["-tls1_2", "-cipher", LAX]),
        ("rsa:1024", &["-tls1_3", "-cipher", LAX]),
        ("ec", &["-tls1_2", "-cipher", LAX, "-named_curve", "P-521"]),
        ("ec", &["-tls1_2", "-cipher", LAX, "-sigalgs", "ECDSA+SHA1"]),
    ] {
        let text = offered(&forge, key, options);
        assert!(
            text.contains("the TLS handshake failed"),
            "{key} {options:?}: {text}"
        );
    }
}

/// An answer of success to StartTLS, and then no TLS: the password waits for it in vain.
#[test]
fn success_without_tls_gets_no_password() {
    if !require("openssl") {
        return;
    }
    let forge = Forge::new();
    let success = |id, tag, more: &[u8]| {
        hostile::operation(id, tag, &[b"\x0a\x01\x00\x04\x00\x04\x00", more].concat())
    };
    let started = success(1, 0x78, b"");
    let named = success(1, 0x78, b"\x8a\x161.3.6.1.4.1.1466.20037");
    let bound: Vec<u8> = (1..5).flat_map(|id| success(id, 0x61, b"")).collect();
    for bytes in [
        started.clone(),
        named,
        [started.clone(), bound].concat(),
        [started.clone(), b"HTTP/1.1 200 OK\r\n\r\n".to_vec()].concat(),
        // Plain text where the handshake belongs, in the shape of a record.
        [started.clone(), b"\x17\x03\x03\x00\x0c".to_vec(), started].concat(),
    ] {
        let server = Server::start(seven().fault(Fault::Bytes(Moment::StartTls, bytes)));
        let mut source = forge.source(vec![address("127.0.0.1", server.port(), false)]);
        source.starttls = true;
        source.connect_timeout = Duration::from_millis(700);
        let text = told(&read_source(&source).expect_err("there is no TLS"));
        let is_named =
            text.contains("the TLS handshake failed") || text.contains("no connection within");
        assert!(is_named, "{text}");
        check_knows_nothing(&server, &text);
    }
}

/// Referred to somebody else, in answer to whatever: nobody goes there, with the password or without.
#[test]
fn nobody_is_followed_to_another_server() {
    if !require("openssl") {
        return;
    }
    let forge = Forge::new();
    forge.make(SERVER);
    let identity = forge.identity(&["server"]);
    let attacker = Server::start(seven().ldaps(&identity));
    let url = format!("{}/{BASE}??sub", attacker.url());
    let octets = |tag: u8, content: &[u8]| {
        [&[tag, u8::try_from(content.len()).expect("short")], content].concat()
    };
    let referral = octets(0xa3, &octets(0x04, url.as_bytes()));
    let refer = |id, tag| {
        hostile::operation(
            id,
            tag,
            &[b"\x0a\x01\x0a\x04\x00\x04\x00", referral.as_slice()].concat(),
        )
    };
    let plain = || seven().ldaps(&identity);
    for (directory, expected) in [
        (
            plain().fault(Fault::Bytes(Moment::Bind, refer(1, 0x61))),
            "the bind as rcptsync@corp.example ended with referral (10)",
        ),
        (
            plain().fault(Fault::Bytes(Moment::Page(1), refer(3, 0x65))),
            "page 1 ended with referral (10)",
        ),
        (
            plain().fault(Fault::PageCode { page: 1, code: 10 }),
            "page 1 ended with referral (10)",
        ),
    ] {
        let server = Server::start(directory);
        let source = forge.source(vec![address("127.0.0.1", server.port(), true)]);
        let text = told(&read_source(&source).expect_err("referred"));
        assert!(text.contains(expected), "{text}");
        assert_eq!(attacker.stats().connections_count, 0);
    }
    let server = Server::start(plain().references(&[&url]));
    let source = forge.source(vec![address("127.0.0.1", server.port(), true)]);
    let reading = read_source(&source).expect("a reference is no failure");
    let Reading::Complete(snapshot) = reading else {
        unreachable!("nothing was there before")
    };
    assert_eq!(snapshot.referrals, [url]);
    assert_eq!(attacker.stats().connections_count, 0);
}

/// The impostor is one of several, and the first: the others are asked, and it has learned nothing.
#[test]
fn an_impostor_among_controllers_costs_nothing() {
    if !require("openssl") {
        return;
    }
    let forge = Forge::new();
    forge.make(SERVER);
    let right = Server::start(seven().ldaps(&forge.identity(&["server"])));
    forge.make(Plan {
        subject: "other",
        issuer: "other",
        ..AUTHORITY
    });
    forge.make(Plan {
        subject: "false",
        issuer: "other",
        ..SERVER
    });
    let wrong = Server::start(
        Directory::new(BASE)
            .recipients(900)
            .ldaps(&forge.identity(&["false", "other"])),
    );
    let source = forge.source(vec![
        address("127.0.0.1", wrong.port(), true),
        address("127.0.0.1", right.port(), true),
    ]);
    let Ok(Reading::Complete(snapshot)) = read_source(&source) else {
        unreachable!("one of them is right")
    };
    assert_eq!(snapshot.records().len(), 7);
    check_knows_nothing(&wrong, "the first one");
}

/// A real OpenLDAP server with a certificate of an authority that is not ours.
#[test]
fn a_real_server_of_strangers_is_not_believed() {
    if !slapd::is_available() {
        return;
    }
    let forge = Forge::new();
    let slapd = Slapd::start("");
    let port = port_of(&slapd.ldaps_url());
    for (port, starttls) in [(port, false), (port_of(&slapd.ldap_url()), true)] {
        let mut source = forge.source(vec![address("127.0.0.1", port, !starttls)]);
        source.starttls = starttls;
        let text = told(&read_source(&source).expect_err("a stranger"));
        assert!(
            text.contains("the TLS handshake failed") && text.contains("UnknownIssuer"),
            "{text}"
        );
    }
}

fn port_of(url: &str) -> u16 {
    let port = url.rsplit(':').next().expect("a port");
    port.trim_end_matches('/').parse().expect("a number")
}
