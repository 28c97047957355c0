//! Who to be: passwords and keys in memory, read before anything is sent.
//!
//! A bind is tried as one account with one method; there is no second method to fall back to. Not here: the bind itself
//! (`session`), the handshake in which a client certificate is shown (`wire`).
//!
//! Invariant: nothing in this file shows a secret; of a client certificate only the file's name is told.

use std::io;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::Bind;
use crate::config::secret::{Secret, SecretError};
use crate::regular;

use super::gssapi::Kerberos;

/// Who to be.
pub enum Credentials {
    /// Nobody.
    Anonymous,
    /// Name and password.
    Simple {
        /// The account.
        name: String,
        /// Never empty (see `SecretPlace::read`).
        password: Secret,
    },
    /// The owner of a client certificate.
    External {
        /// The file, for messages.
        certificate_file: PathBuf,
        /// The client's certificate first.
        certificates: Vec<CertificateDer<'static>>,
        /// Its private key.
        key: PrivateKeyDer<'static>,
    },
    /// A Kerberos principal.
    Gssapi(Kerberos),
}

/// Who somebody is, for messages and advice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Nobody.
    Anonymous,
    /// An account with a password.
    Account(String),
    /// The owner of the certificate in this file.
    Certificate(PathBuf),
    /// A Kerberos principal.
    Principal(String),
}

/// Why nobody can be.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The password or the key cannot be read, or others can read it too.
    #[error("{error}")]
    Secret {
        /// What it is: "password", "key", "keytab".
        subject: &'static str,
        /// What is wrong with it.
        error: SecretError,
    },
    /// `certificate_file` is not there, or no permission.
    #[error("{path}: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A certificate or a key that is not PEM, or another thing in PEM.
    #[error("{path}: {reason}")]
    Damaged {
        /// What it should be: "certificate", "key".
        subject: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The TLS library refuses certificate and key, as one does that do not belong together.
    #[error("{certificate_file} and its key cannot be used together: {error}")]
    Mismatch {
        /// The certificate's file.
        certificate_file: PathBuf,
        /// What the library said.
        error: rustls::Error,
    },
    /// A keytab without a key that could be used.
    #[error("{path}: {reason}")]
    Keytab {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The configuration of Kerberos on this machine cannot be read.
    #[error("krb5.conf: {0}")]
    KerberosSettings(String),
    /// The configuration refuses this too.
    #[error("this build lacks the cargo feature gssapi")]
    NotBuilt,
}

impl CredentialsError {
    /// What of the account cannot be used.
    pub fn subject(&self) -> &'static str {
        match self {
            CredentialsError::Secret { subject, .. }
            | CredentialsError::Damaged { subject, .. } => subject,
            CredentialsError::Unreadable { .. } | CredentialsError::Mismatch { .. } => {
                "certificate"
            }
            CredentialsError::Keytab { .. } => "keytab",
            CredentialsError::KerberosSettings(_) | CredentialsError::NotBuilt => "realm",
        }
    }
}

impl Credentials {
    /// Reads the password or the key, where there is one.
    pub fn read(bind: &Bind) -> Result<Credentials, CredentialsError> {
        Ok(match bind {
            Bind::Anonymous => Credentials::Anonymous,
            Bind::Simple { name, password } => Credentials::Simple {
                name: name.clone(),
                password: password.read().map_err(secret("password"))?,
            },
            Bind::External {
                certificate_file,
                key,
            } => {
                let (key_path, key) = key.read_file().map_err(secret("key"))?;
                Credentials::External {
                    certificates: certificates(certificate_file)?,
                    key: PrivateKeyDer::from_pem_slice(key.reveal())
                        .map_err(|error| damaged("key", &key_path, &error))?,
                    certificate_file: certificate_file.clone(),
                }
            }
            Bind::Gssapi { principal, keytab } => {
                Credentials::Gssapi(Kerberos::read(principal, keytab)?)
            }
        })
    }

    /// Who that is.
    pub fn identity(&self) -> Identity {
        match self {
            Credentials::Anonymous => Identity::Anonymous,
            Credentials::Simple { name, .. } => Identity::Account(name.clone()),
            Credentials::External {
                certificate_file, ..
            } => Identity::Certificate(certificate_file.clone()),
            Credentials::Gssapi(kerberos) => Identity::Principal(kerberos.principal()),
        }
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let read = regular::read(path, regular::SMALL_OCTETS_MAX);
    let pem = read.map_err(|error| CredentialsError::Unreadable {
        path: path.to_owned(),
        error,
    })?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| damaged("certificate", path, &error))?;
    if found.is_empty() {
        return Err(damaged("certificate", path, &pem::Error::NoItemsFound));
    }
    Ok(found)
}

/// Says which secret it was.
pub fn secret(subject: &'static str) -> impl FnOnce(SecretError) -> CredentialsError {
    move |error| CredentialsError::Secret { subject, error }
}

/// What the parser said is not told: it quotes what it read.
fn damaged(subject: &'static str, path: &Path, error: &pem::Error) -> CredentialsError {
    let reason = if let pem::Error::NoItemsFound = error {
        format!("holds no PEM block of a {subject}")
    } else {
        format!("is not the PEM of a {subject}")
    };
    CredentialsError::Damaged {
        subject,
        path: path.to_owned(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::secret::SecretPlace;
    use std::os::unix::fs::PermissionsExt;

    #[track_caller]
    fn check(certificate: &str, key: &str, expected: &str) {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str, content: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, content).expect("written");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("set");
            path
        };
        let bind = Bind::External {
            certificate_file: at("client.pem", certificate),
            key: SecretPlace::File(at("client.key", key)),
        };
        let found = match Credentials::read(&bind) {
            Ok(_) => "good".to_owned(),
            Err(error) => error.to_string(),
        };
        assert!(found.ends_with(expected), "{found}");
    }

    #[test]
    fn a_certificate_and_its_key_are_pem() {
        let block = |kind: &str| format!("-----BEGIN {kind}-----\nAAAA\n-----END {kind}-----\n");
        let (certificate, key) = (block("CERTIFICATE"), block("PRIVATE KEY"));
        check(&certificate, &key, "good");
        check(&certificate, &block("EC PRIVATE KEY"), "good");
        check("", &key, "client.pem: holds no PEM block of a certificate");
        check(
            &key,
            &key,
            "client.pem: holds no PEM block of a certificate",
        );
        check(
            &certificate,
            &certificate,
            "client.key: holds no PEM block of a key",
        );
        check(
            &certificate,
            &block("ENCRYPTED PRIVATE KEY"),
            "client.key: holds no PEM block of a key",
        );
        let cut = "-----BEGIN PRIVATE KEY-----\ns3cret";
        check(&certificate, cut, "client.key: is not the PEM of a key");
    }
}
