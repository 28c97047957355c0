//! Kerberos instead of a password, against a real controller: Samba with its KDC.
//!
//! The program runs in a mount namespace of its own where the controller's name leads to its address. Not here: what only
//! Windows does (it looks at the channel binding; Samba 4.17 does not).
#![cfg(feature = "gssapi")]

mod common;

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::PathBuf;

use common::directory::{BASE, DOMAINS, complete_domains};
use common::rcptsync::{Outcome, Rcptsync};
use common::samba::{self, CHANGED_ACCOUNT, DISABLED_ACCOUNT, HOST_NAME, SERVICE, Samba};
use common::{set_mode, write_file};
use ldap_server::{Directory, Fault, Moment, hostile};
use sha2::{Digest, Sha256};

const PRINCIPAL: &str = "svc-sync@CORP.EXAMPLE";

/// How the program is told to read the directory; what a test changes of it.
struct Reading {
    server: String,
    starttls: bool,
    ca_file: PathBuf,
    principal: String,
    keytab: PathBuf,
    /// Where names of servers lead.
    address: Ipv4Addr,
    /// `HOST:PORT` of the KDC.
    kdc: String,
    /// A program that the run happens below.
    wrapper: &'static [&'static str],
}

impl Reading {
    fn of(samba: &Samba) -> Reading {
        Reading {
            server: format!("ldaps://{HOST_NAME}"),
            starttls: false,
            ca_file: samba.ca_file(),
            principal: PRINCIPAL.to_owned(),
            keytab: samba.keytab("svc-sync"),
            address: samba.address(),
            kdc: format!("{}:88", samba.address()),
            wrapper: &[],
        }
    }

    fn run(&self, program: &Rcptsync, arguments: &[&str]) -> Outcome {
        let source = format!(
            "[source.corp]\nkind = \"ldap\"\nservers = [\"{server}\"]\nstarttls = {starttls}\nca_file = \"{ca}\"\n\
             base = [\"{BASE}\"]\ntimeout = \"3s\"\n\
             [source.corp.bind]\nmethod = \"gssapi\"\nprincipal = \"{principal}\"\nkeytab = \"{keytab}\"\n",
            server = self.server,
            starttls = self.starttls,
            ca = self.ca_file.display(),
            principal = self.principal,
            keytab = self.keytab.display(),
        );
        let more = complete_domains() + "[guard]\nremoved_floor = 1000\n";
        program.configure(&DOMAINS, &source, &more);
        let at = |name: &str| program.directory().join(name);
        let address = self.address;
        write_file(
            &at("hosts"),
            format!("{address} {HOST_NAME}\n{address} localhost\n"),
        );
        write_file(
            &at("krb5.conf"),
            format!(
                "[libdefaults]\ndns_lookup_kdc = false\n[realms]\nCORP.EXAMPLE = {{\n kdc = {}\n}}\n",
                self.kdc
            ),
        );
        let hosts = at("hosts");
        let settings = format!("KRB5_CONFIG={}", at("krb5.conf").display());
        let tickets = format!("KRB5CCNAME=FILE:{}", at("tickets").display());
        let mut wrapper = vec![
            "unshare",
            "--mount",
            "sh",
            "-c",
            "mount --bind \"$0\" /etc/hosts && exec \"$@\"",
            hosts.to_str().expect("text"),
            "env",
            &settings,
            &tickets,
        ];
        wrapper.extend(self.wrapper);
        program.run_under(&wrapper, arguments)
    }
}

#[test]
fn a_keytab_is_enough_to_read_everything() {
    let Some(samba) = samba::shared_with_kerberos() else {
        return;
    };
    let expected = samba.company.expected_accepted();
    for starttls in [false, true] {
        let program = Rcptsync::new("gssapi");
        let mut reading = Reading::of(&samba);
        if starttls {
            reading.server = format!("ldap://{HOST_NAME}");
            reading.starttls = true;
        }
        reading.run(&program, &["sync"]).expect_code(0);
        assert!(expected.is_subset(&program.table_keys()));
        // No ticket is left behind, not even where the environment wants it.
        assert!(!program.directory().join("tickets").exists());
        // Everybody may read in Active Directory, but nobody without a name.
        let outcome = reading.run(&program, &["diff", "-vv"]).expect_code(0);
        assert!(!outcome.stderr.contains("error"), "{}", outcome.stderr);
        expect_no_key(&std::fs::read(&reading.keytab).expect("a keytab"), &outcome);
    }
}

/// Nothing that was printed or logged has sixteen octets of a keytab in a row, in hexadecimal or as a list of numbers.
#[track_caller]
fn expect_no_key(keytab: &[u8], outcome: &Outcome) {
    let told = format!("{}{}", outcome.stdout, outcome.stderr).to_lowercase();
    for octets in keytab.windows(16) {
        let hexadecimal: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
        let list = format!("{octets:?}");
        let numbers = list.trim_matches(['[', ']']);
        assert!(
            !told.contains(&hexadecimal) && !told.contains(numbers),
            "{told}"
        );
    }
}

/// A row: what is changed, the code, and parts of the five answers.
#[track_caller]
fn check(samba: &Samba, change: &dyn Fn(&mut Reading), code: i32, parts: &[&str]) {
    let program = Rcptsync::new("gssapi");
    Reading::of(samba).run(&program, &["sync"]).expect_code(0);
    let before = program.seen();
    let mut reading = Reading::of(samba);
    change(&mut reading);
    let outcome = reading.run(&program, &["sync"]).expect_code(code);
    outcome.expect_answers(&["source corp: "]);
    outcome.expect_answers(parts);
    assert!(program.seen() == before, "a table was touched");
}

#[test]
fn a_refused_account_is_told() {
    let Some(samba) = samba::shared_with_kerberos() else {
        return;
    };
    let account = |name: &'static str| {
        let keytab = samba.keytab(name);
        move |reading: &mut Reading| {
            reading.principal = format!("{name}@CORP.EXAMPLE");
            reading.keytab = keytab.clone();
        }
    };
    check(
        &samba,
        &account(CHANGED_ACCOUNT),
        77,
        &[
            "the ticket of svc-changed@CORP.EXAMPLE failed",
            "KDC_ERR_PREAUTH_FAILED (24)",
            "the KDC of CORP.EXAMPLE",
            "make a new keytab",
        ],
    );
    check(
        &samba,
        &account(DISABLED_ACCOUNT),
        77,
        &["KDC_ERR_CLIENT_REVOKED (18)", "enable or unlock"],
    );
    // The key of an account under a name that nobody has.
    let unknown = samba.keytab("svc-sync").with_file_name("unknown.keytab");
    let mut bytes = std::fs::read(samba.keytab("svc-sync")).expect("a keytab");
    let name = b"svc-sync";
    while let Some(at) = bytes.windows(name.len()).position(|window| window == name) {
        bytes[at..at + name.len()].copy_from_slice(b"svc-none");
    }
    write_file(&unknown, bytes);
    set_mode(&unknown, 0o600);
    check(
        &samba,
        &|reading| {
            reading.principal = "svc-none@CORP.EXAMPLE".to_owned();
            reading.keytab = unknown.clone();
        },
        77,
        &["KDC_ERR_C_PRINCIPAL_UNKNOWN (6)", "correct `principal`"],
    );
}

#[test]
fn what_is_not_the_accounts_fault_freezes() {
    let Some(samba) = samba::shared_with_kerberos() else {
        return;
    };
    check(
        &samba,
        &|reading| reading.wrapper = &["faketime", "-f", "+10m"],
        75,
        &["KRB_AP_ERR_SKEW (37)", "set the clock"],
    );
    // Nobody has registered this name for the service.
    check(
        &samba,
        &|reading| reading.server = "ldaps://localhost".to_owned(),
        75,
        &[
            "the ticket for ldap/localhost failed",
            "KDC_ERR_S_PRINCIPAL_UNKNOWN (7)",
            "setspn -S",
        ],
    );
    check(
        &samba,
        &|reading| reading.kdc = "127.0.0.1:1".to_owned(),
        75,
        &["no KDC for CORP.EXAMPLE answered", "port 88"],
    );
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = silent.local_addr().expect("bound").port();
    let _silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).expect("the same for UDP");
    check(
        &samba,
        &|reading| reading.kdc = format!("127.0.0.1:{port}"),
        75,
        &["within 3s"],
    );
}

/// Somebody who has a certificate of the server's name, but not the key of its service.
#[test]
fn an_impostor_is_not_believed() {
    let Some(samba) = samba::shared_with_kerberos() else {
        return;
    };
    let authority = ldap_server::Authority::new("Authority of an impostor");
    let identity = authority.identity(&[HOST_NAME], ldap_server::Validity::Current);
    let ca_file = samba.ca_file().with_file_name("impostor.pem");
    write_file(&ca_file, authority.pem());
    let impostor = |answer: Vec<u8>| {
        let directory = Directory::new(BASE).recipients(3).ldaps(&identity);
        ldap_server::Server::start(directory.fault(Fault::Bytes(Moment::Bind, answer)))
    };
    // BindResponse 1: in progress, with a token that is none.
    let no_proof = b"\x30\x0f\x02\x01\x01\x61\x0a\x0a\x01\x0e\x04\x00\x04\x00\x87\x01x".to_vec();
    for (answer, expected) in [
        (
            hostile::bind_success(1),
            "said success before it had proven who it is",
        ),
        (no_proof, "has not proven who it is"),
    ] {
        let server = impostor(answer);
        check(
            &samba,
            &|reading| {
                reading.server = format!("ldaps://{HOST_NAME}:{}", server.port());
                reading.address = Ipv4Addr::LOCALHOST;
                reading.ca_file = ca_file.clone();
            },
            75,
            &[
                "the Kerberos bind as svc-sync@CORP.EXAMPLE failed",
                expected,
            ],
        );
    }
}

/// What Windows looks at and this Samba does not: the token that reached a server, opened with the key of its service.
#[test]
fn a_ticket_is_tied_to_the_certificate_of_the_server() {
    let Some(samba) = samba::shared_with_kerberos() else {
        return;
    };
    let authority = ldap_server::Authority::new("Authority of a controller");
    let identity = authority.identity(&[HOST_NAME], ldap_server::Validity::Current);
    let server = ldap_server::Server::start(
        Directory::new(BASE)
            .ldaps(&identity)
            .fault(Fault::Bytes(Moment::Bind, hostile::bind_success(1))),
    );
    let mut reading = Reading::of(&samba);
    reading.server = format!("ldaps://{HOST_NAME}:{}", server.port());
    reading.address = Ipv4Addr::LOCALHOST;
    reading.ca_file = samba.ca_file().with_file_name("controller.pem");
    write_file(&reading.ca_file, authority.pem());
    reading.run(&Rcptsync::new("gssapi"), &["diff"]);

    let received = server.stats().received;
    let mechanism = b"\x04\x06GSSAPI\x04\x82";
    let at = received
        .windows(mechanism.len())
        .position(|window| window == mechanism)
        .expect("a bind request");
    // Two octets of length, then the token.
    let token = &received[at + mechanism.len() + 2..];
    let keytab = krb5::Keytab::load(samba.keytab(SERVICE)).expect("a keytab");
    let accept = |data: &[u8]| {
        let mut options = krb5::acceptor::AcceptOptions::default();
        options.replay_cache = None;
        options.channel_bindings = Some(krb5::ChannelBindings::new(data));
        krb5::KerberosContext::accept_token_with(&keytab, token, &options)
    };
    let digest = Sha256::digest(identity.certificate());
    let right = [b"tls-server-end-point:", digest.as_slice()].concat();
    let (context, _) = accept(&right).expect("the certificate it was sent to");
    assert_eq!(context.client_principal, PRINCIPAL);
    assert!(accept(b"tls-server-end-point:another").is_err());
}

#[test]
fn without_a_key_of_its_own_nothing_is_sent() {
    let Some(samba) = samba::shared_with_kerberos() else {
        return;
    };
    let other = |name: &str, content: Vec<u8>, mode: u32| {
        let path = samba.keytab("svc-sync").with_file_name(name);
        write_file(&path, content);
        set_mode(&path, mode);
        path
    };
    let good = std::fs::read(samba.keytab("svc-sync")).expect("a keytab");
    for (keytab, code, why) in [
        (
            samba.keytab(CHANGED_ACCOUNT),
            78,
            "holds no key of svc-sync@CORP.EXAMPLE; it is of svc-changed@CORP.EXAMPLE",
        ),
        (
            other("text.keytab", b"no keytab".to_vec(), 0o600),
            78,
            "text.keytab: is no keytab",
        ),
        (
            other("cut.keytab", good[..good.len() - 3].to_vec(), 0o600),
            78,
            "cut.keytab: is no keytab: it is cut",
        ),
        (
            other("open.keytab", good.clone(), 0o644),
            77,
            "open.keytab can be read by every account",
        ),
        (samba.keytab("nobody"), 77, "No such file"),
    ] {
        check(
            &samba,
            &|reading| reading.keytab = keytab.clone(),
            code,
            &[why, "nothing was sent to a server"],
        );
    }
}

/// `init` signs in with a keytab before it writes it down.
#[test]
fn init_tries_a_keytab() {
    let Some(samba) = samba::shared_with_kerberos() else {
        return;
    };
    let reading = Reading::of(&samba);
    let program = Rcptsync::new("gssapi-init");
    let written = program.directory().join("new.toml");
    let text = |path: &std::path::Path| path.display().to_string();
    let (ca_file, keytab) = (text(&reading.ca_file), text(&reading.keytab));
    let output = text(&written);
    let try_as = |principal: &str| {
        let arguments = [
            "init",
            "postfix",
            "--try",
            "--server",
            &reading.server,
            "--ca-file",
            &ca_file,
            "--method",
            "gssapi",
            "--name",
            principal,
            "--keytab",
            &keytab,
            "--domain",
            "example.com",
            "--output",
            &output,
        ];
        reading.run(&program, &arguments)
    };
    let refused = try_as("somebody-else@CORP.EXAMPLE").expect_code(77);
    assert!(
        refused.stderr.contains("the keytab cannot be used"),
        "{}",
        refused.stderr
    );
    assert!(!written.exists());
    try_as(PRINCIPAL).expect_code(0);
    let configuration = std::fs::read_to_string(&written).expect("it was written");
    let expected = format!("principal = \"{PRINCIPAL}\"\nkeytab = \"{keytab}\"\n");
    assert!(configuration.contains(&expected), "{configuration}");
}
