//! Whom to trust in TLS: the authorities of a file, or those of the system.
//!
//! Everything of ours that speaks TLS begins here, so a damaged or empty file is told alike wherever it is named. Not here:
//! what is said over TLS (`directory::wire`, `postgresql`).
//!
//! Invariant: [`authorities`] trusts somebody, or is an error.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};

use crate::owners::{self, Hand, Who};
use crate::regular;

/// Why there is nobody to trust.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// `ca_file` is not there, or no permission.
    #[error("{path}: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// `ca_file` is not PEM, or a certificate in it is damaged.
    #[error("{path}: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// `ca_file` has other things in it, or nothing.
    #[error("{path} holds no certificate")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Every account may write it, or put another in its place.
    #[error("{hand}, and so decide which servers are trusted; `{mend}` mends that", mend = hand.mend())]
    OpenToAll {
        /// Where.
        hand: Hand,
    },
    /// The system has no roots.
    #[error("no root certificate of this system could be loaded{detail}")]
    NoSystemRoots {
        /// What was tried.
        detail: String,
    },
    /// The TLS library does not know its own defaults.
    #[error("{0}")]
    Library(rustls::Error),
}

/// TLS settings that trust the authorities of a PEM file, or those of the system.
pub fn authorities(
    ca_file: Option<&Path>,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, TrustError> {
    trusting(roots(ca_file)?)
}

/// The authorities of a PEM file, or those of the system.
pub fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, TrustError> {
    match ca_file {
        Some(path) => roots_of_file(path),
        None => roots_of_system(),
    }
}

/// TLS settings of a connection that will not use TLS.
pub fn nobody() -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, TrustError> {
    trusting(RootCertStore::empty())
}

/// TLS settings that trust these.
pub fn trusting(
    roots: RootCertStore,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, TrustError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TrustError::Library)?
        .with_root_certificates(roots))
}

fn roots_of_file(path: &Path) -> Result<RootCertStore, TrustError> {
    let damaged = |reason: String| TrustError::Damaged {
        path: path.to_owned(),
        reason,
    };
    let pem =
        regular::read(path, regular::SMALL_OCTETS_MAX).map_err(|error| TrustError::Unreadable {
            path: path.to_owned(),
            error,
        })?;
    // Whoever writes it can be every server.
    let everybody = owners::hands_on(path, &owners::trusted());
    if let Some(hand) = everybody.iter().find(|hand| hand.who == Who::Everybody) {
        return Err(TrustError::OpenToAll { hand: hand.clone() });
    }
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| damaged(format!("not PEM: {error:?}")))?;
        roots
            .add(certificate)
            .map_err(|error| damaged(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(TrustError::Empty {
            path: path.to_owned(),
        });
    }
    Ok(roots)
}

fn roots_of_system() -> Result<RootCertStore, TrustError> {
    let native = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // One damaged certificate among many must not leave us with nobody to trust.
    roots.add_parsable_certificates(native.certs);
    if roots.is_empty() {
        let detail = native
            .errors
            .first()
            .map(|error| format!(": {error}"))
            .unwrap_or_default();
        return Err(TrustError::NoSystemRoots { detail });
    }
    Ok(roots)
}
