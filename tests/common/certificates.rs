//! A certificate authority for one server, made with the openssl command.
//!
//! Samba makes certificates of its own, but with a common name only; every TLS library of today wants the name of the
//! server among the alternative names. Nothing of the machine's OpenSSL configuration is used.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::process::{command, succeed};
use super::{set_mode, write_file};

const DAYS: &str = "2";

/// A new authority.
#[derive(Debug)]
pub struct Authority {
    directory: PathBuf,
}

/// A server's certificate and its key, mode 600 (Samba refuses a key that others can read).
#[derive(Debug)]
pub struct Certificate {
    pub certificate_file: PathBuf,
    pub key_file: PathBuf,
}

impl Authority {
    /// Makes the authority's key and certificate below `directory`.
    pub fn new(directory: &Path, name: &str) -> Authority {
        let authority = Authority {
            directory: directory.to_owned(),
        };
        write_file(
            &directory.join("openssl.cnf"),
            "[req]\ndistinguished_name = name\n[name]\n\
             [authority]\nbasicConstraints = critical, CA:TRUE\nkeyUsage = critical, keyCertSign, cRLSign\n\
             subjectKeyIdentifier = hash\n",
        );
        succeed(
            authority
                .request(name, "ca")
                .args(["-x509", "-days", DAYS, "-extensions", "authority", "-out"])
                .arg(authority.file()),
        );
        authority
    }

    /// The same authority in a copy of its directory.
    pub fn copied_to(&self, directory: &Path) -> Authority {
        let authority = Authority {
            directory: directory.to_owned(),
        };
        assert!(
            authority.file().exists(),
            "{} is a copy",
            directory.display()
        );
        authority
    }

    /// The file that a client trusts.
    pub fn file(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// A certificate for a server that is reached under a name or an address.
    pub fn issue(&self, name: &str, address: IpAddr) -> Certificate {
        let request_file = self.directory.join("server.csr");
        let extensions_file = self.directory.join("server.cnf");
        let certificate = Certificate {
            certificate_file: self.directory.join("server.pem"),
            key_file: self.directory.join("server.key"),
        };
        succeed(self.request(name, "server").arg("-out").arg(&request_file));
        write_file(
            &extensions_file,
            format!(
                "basicConstraints = CA:FALSE\nextendedKeyUsage = serverAuth\n\
                 subjectAltName = DNS:{name}, DNS:localhost, IP:{address}\n"
            ),
        );
        succeed(
            command("openssl")
                .args(["x509", "-req", "-days", DAYS, "-CAcreateserial", "-in"])
                .arg(&request_file)
                .arg("-CA")
                .arg(self.file())
                .arg("-CAkey")
                .arg(self.directory.join("ca.key"))
                .arg("-extfile")
                .arg(&extensions_file)
                .arg("-out")
                .arg(&certificate.certificate_file),
        );
        set_mode(&certificate.key_file, 0o600);
        certificate
    }

    /// A request for `name` with a new key in `KEY.key`.
    fn request(&self, name: &str, key: &str) -> std::process::Command {
        let mut openssl = command("openssl");
        openssl
            .args(["req", "-new", "-nodes", "-sha256", "-newkey", "ec"])
            .args(["-pkeyopt", "ec_paramgen_curve:P-256", "-config"])
            .arg(self.directory.join("openssl.cnf"))
            .args(["-subj", &format!("/CN={name}"), "-keyout"])
            .arg(self.directory.join(format!("{key}.key")));
        openssl
    }
}
