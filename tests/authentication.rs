//! A client certificate instead of a password (SASL EXTERNAL), against a real OpenLDAP server: what is taken, what is
//! refused, and by whom.
//!
//! Not here: passwords (`directory.rs`, `active_directory.rs`) and Kerberos (`gssapi.rs`).

mod common;

use common::directory::{BASE, Company, DOMAINS, Dialect, complete_domains};
use common::rcptsync::{Outcome, Rcptsync};
use common::slapd::{self, Slapd};
use common::{set_mode, write_file};
use ldap_server::{Authority, Validity};

/// An installation with the certificate and the key of a client.
struct Client {
    program: Rcptsync,
}

impl Client {
    fn new((certificate, key): &(String, String)) -> Client {
        let program = Rcptsync::new("authentication");
        write_file(&program.directory().join("client.pem"), certificate);
        write_file(&program.directory().join("client.key"), key);
        set_mode(&program.directory().join("client.key"), 0o600);
        Client { program }
    }

    /// Reads the server with these keys of `[source.corp]`, whatever comes of it.
    fn sync_with(&self, slapd: &Slapd, source: &str) -> Outcome {
        let ca_file = slapd.ca_file();
        let source = format!(
            "[source.corp]\nkind = \"ldap\"\nbase = [\"{BASE}\"]\nca_file = \"{}\"\n{source}\n{}[guard]\nremoved_floor = 1000\n",
            ca_file.display(),
            complete_domains()
        );
        self.program.configure(&DOMAINS, &source, "");
        self.program.run(&["sync"])
    }

    fn sync(&self, slapd: &Slapd) -> Outcome {
        self.sync_with(slapd, &ldaps(slapd))
    }
}

const EXTERNAL: &str = "bind = { method = \"external\", certificate_file = \"client.pem\", key_file = \"client.key\" }";

fn ldaps(slapd: &Slapd) -> String {
    format!("servers = [\"{}\"]\n{EXTERNAL}", slapd.ldaps_url())
}

fn start_tls(slapd: &Slapd) -> String {
    format!(
        "servers = [\"{}\"]\nstarttls = true\n{EXTERNAL}",
        slapd.ldap_url()
    )
}

#[test]
fn the_owner_of_a_certificate_reads_everything() {
    if !slapd::is_available() {
        return;
    }
    let company = Company::generate(7, 1_500);
    let authority = Authority::new("Authority of clients");
    let slapd = Slapd::start_for_certificates(&company.ldif(Dialect::OpenLdap), &authority.pem());
    let client = Client::new(&authority.client(slapd::CLIENT, Validity::Current));
    for source in [ldaps(&slapd), start_tls(&slapd)] {
        client.sync_with(&slapd, &source).expect_code(0);
        assert!(client.program.table_keys().len() > 1_500);
        std::fs::remove_dir_all(client.program.directory().join("state")).expect("our state");
        std::fs::remove_file(client.program.table()).expect("our table");
        std::fs::remove_file(client.program.table_cdb()).expect("our table");
    }
    // The same with the key from a credential of the unit.
    let source = ldaps(&slapd).replace("key_file", "key_credential");
    client.sync_with(&slapd, &source);
    let credentials = format!(
        "CREDENTIALS_DIRECTORY={}",
        client.program.directory().display()
    );
    client
        .program
        .run_under(&["env", &credentials], &["sync"])
        .expect_code(0);
}

#[test]
fn a_certificate_that_is_not_taken_is_told() {
    if !slapd::is_available() {
        return;
    }
    let company = Company::generate(7, 20);
    let authority = Authority::new("Authority of clients");
    let slapd = Slapd::start_for_certificates(&company.ldif(Dialect::OpenLdap), &authority.pem());
    let stranger = Authority::new("Stranger");
    // OpenLDAP on Debian refuses a certificate by closing the connection; servers that say why are in `directory.rs`.
    let hangs_up = ["closed the connection", "takes this client certificate"];
    for (identity, parts) in [
        (stranger.client(slapd::CLIENT, Validity::Current), hangs_up),
        (authority.client(slapd::CLIENT, Validity::Expired), hangs_up),
        (authority.client(slapd::CLIENT, Validity::Future), hangs_up),
        // Good, but nobody: OpenLDAP takes the name as it is, and shows it nothing.
        (
            authority.client("somebody else", Validity::Current),
            ["noSuchObject (32)", "the account may not see it"],
        ),
    ] {
        let client = Client::new(&identity);
        for source in [ldaps(&slapd), start_tls(&slapd)] {
            // A source that was never read holds everything, which comes before 75.
            let outcome = client.sync_with(&slapd, &source).expect_code(65);
            outcome.expect_answers(&["source corp: "]);
            outcome.expect_answers(&parts);
        }
    }
}

#[test]
fn a_server_that_asks_for_no_certificate_refuses_the_bind() {
    if !slapd::is_available() {
        return;
    }
    let slapd = Slapd::start(&Company::generate(7, 20).ldif(Dialect::OpenLdap));
    let authority = Authority::new("Authority of clients");
    let client = Client::new(&authority.client(slapd::CLIENT, Validity::Current));
    client.sync(&slapd).expect_code(77).expect_answers(&[
        "client.pem ended with authMethodNotSupported (7)",
        "let it ask clients for certificates",
    ]);
}

#[test]
fn without_a_private_key_of_its_own_nothing_is_sent() {
    if !slapd::is_available() {
        return;
    }
    let authority = Authority::new("Authority of clients");
    let slapd = Slapd::start_for_certificates("", &authority.pem());
    let (certificate, key) = authority.client(slapd::CLIENT, Validity::Current);
    let (_, other_key) = authority.client(slapd::CLIENT, Validity::Current);
    let (first_line, _) = key.split_once('\n').expect("lines");
    let cut = format!("{first_line}\nMIGHAgEAM");
    for (certificate, key, code, why) in [
        (
            certificate.as_str(),
            other_key.as_str(),
            78,
            "cannot be used together",
        ),
        (
            &certificate,
            &cut,
            78,
            "client.key: is not the PEM of a key",
        ),
        (
            &certificate,
            "",
            78,
            "client.key: holds no PEM block of a key",
        ),
        (
            "",
            &key,
            78,
            "client.pem: holds no PEM block of a certificate",
        ),
    ] {
        let client = Client::new(&(certificate.to_owned(), key.to_owned()));
        let outcome = client.sync(&slapd).expect_code(code);
        outcome.expect_answers(&[why, "nothing was sent to a server", "[source.corp.bind]"]);
        assert!(!outcome.stderr.contains("MIGHAgEAM"), "{}", outcome.stderr);
    }
    let client = Client::new(&(certificate, key));
    let key_file = client.program.directory().join("client.key");
    set_mode(&key_file, 0o604);
    client
        .sync(&slapd)
        .expect_code(77)
        .expect_answers(&["client.key can be read by every account on this machine"]);
    std::fs::rename(&key_file, key_file.with_extension("moved")).expect("moved");
    client
        .sync(&slapd)
        .expect_code(77)
        .expect_answers(&["client.key: No such file"]);
    if rustix::process::geteuid().is_root() {
        set_mode(&key_file.with_extension("moved"), 0o600);
        std::os::unix::fs::symlink(key_file.with_extension("moved"), &key_file).expect("a link");
        client
            .sync(&slapd)
            .expect_code(77)
            .expect_answers(&["client.key is a symbolic link"]);
    }
    std::fs::remove_file(client.program.directory().join("client.pem")).expect("removed");
    std::fs::remove_file(&key_file).expect("removed");
    std::fs::rename(key_file.with_extension("moved"), &key_file).expect("moved");
    client
        .sync(&slapd)
        .expect_code(77)
        .expect_answers(&["client.pem: No such file"]);
}
