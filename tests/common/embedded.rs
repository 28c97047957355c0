//! An installation of the program that reads the embedded LDAP server (`tests/ldap-server`), over LDAPS with an account.
//!
//! Not here: what the server holds and how it misbehaves.

use ldap_server::{Authority, Directory, Server, Validity};

use super::rcptsync::{LdapConfig, Rcptsync};
use super::{set_mode, write_file};

/// The naming context of every directory served so.
pub const BASE: &str = "DC=corp,DC=example";

const ACCOUNT: &str = "rcptsync@corp.example";
const PASSWORD: &str = "s3cret-Pa55";

/// A server of this directory and an installation that reads it, for `example.com`. Nothing has been read yet.
pub fn install(
    name: &str,
    directory: Directory,
    source_more: &str,
    more: &str,
) -> (Server, Rcptsync) {
    let authority = Authority::new("Corp authority");
    let identity = authority.identity(&["127.0.0.1"], Validity::Current);
    let directory = directory.account(ACCOUNT, PASSWORD).needs_bind();
    let server = Server::start(directory.ldaps(&identity));
    let program = Rcptsync::new(name);
    let at = |name: &str| program.directory().join(name);
    write_file(&at("ca.pem"), authority.pem());
    write_file(&at("password"), PASSWORD);
    set_mode(&at("password"), 0o600);
    program.configure_ldap(&LdapConfig {
        server: server.url(),
        starttls: false,
        ca_file: &at("ca.pem"),
        bind_name: ACCOUNT,
        password_file: &at("password"),
        page_size: 1_000,
        source_more,
        domains: &["example.com"],
        more,
    });
    (server, program)
}
