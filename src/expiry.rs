//! When certificates end. Pure; whom to trust is rustls's to say (`trust`), and nothing here decides it.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::parse_x509_certificate;

use crate::time::Timestamp;

/// When a certificate ends (`notAfter`, RFC 5280 section 4.1.2.5); nothing where it cannot be read.
pub fn ends(der: &[u8]) -> Option<Timestamp> {
    let (_, certificate) = parse_x509_certificate(der).ok()?;
    let seconds = certificate.validity().not_after.timestamp();
    // One that ended before 1970 has ended.
    Some(Timestamp(u64::try_from(seconds).unwrap_or(0)))
}

/// When the first certificate of a PEM file ends, which is its owner's.
pub fn first_ends(pem: &[u8]) -> Option<Timestamp> {
    all(pem).next()
}

/// When the last of the certificates in a PEM file ends: from then on it lets nobody be trusted.
pub fn last_ends(pem: &[u8]) -> Option<Timestamp> {
    all(pem).max()
}

fn all(pem: &[u8]) -> impl Iterator<Item = Timestamp> {
    let certificates = CertificateDer::pem_slice_iter(pem);
    certificates.filter_map(|certificate| ends(&certificate.ok()?))
}
