//! What a certificate says of itself: whose it is, who says so, for which names, from when until when (RFC 5280).
//!
//! For people and for metrics. Whether it is to be trusted is decided where TLS is spoken (`trust`, `directory::wire`), by
//! the TLS library and never from what is read here.
//!
//! Invariant: the fingerprint is that of the very octets; every text is one line that a terminal only shows.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;

use crate::harmless;
use crate::hold::hex;
use crate::time::Timestamp;

/// A certificate, as it stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Whose it is: `DC=example, DC=corp, CN=Corp Root CA`. May be empty, where names alone say whose.
    pub subject: String,
    /// Who says so.
    pub issuer: String,
    /// The names and addresses of its subject (`subjectAltName`), in their order; nothing else is a name to a client.
    pub names: Vec<String>,
    /// Good from here on.
    pub not_before: Timestamp,
    /// Good until here; the last second counts.
    pub not_after: Timestamp,
    /// Whether its subject may issue certificates.
    pub is_authority: bool,
    /// Whether subject and issuer are the same: the top of a chain.
    pub is_self_issued: bool,
    /// SHA-256 of its octets (DER): 64 digits, as `certutil -hashfile FILE SHA256` prints them.
    pub fingerprint: String,
}

/// Octets that are no certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what stands there is no X.509 certificate")]
pub struct NoCertificate;

impl Certificate {
    /// Reads a certificate (DER), with nothing behind it.
    pub fn read(der: &[u8]) -> Result<Certificate, NoCertificate> {
        let (behind, found) = X509Certificate::from_der(der).map_err(|_| NoCertificate)?;
        if !behind.is_empty() {
            return Err(NoCertificate);
        }
        let names = match found.subject_alternative_name() {
            Ok(Some(names)) => names.value.general_names.iter().filter_map(name).collect(),
            // Twice, or damaged: no client takes a name from there.
            Ok(None) | Err(_) => Vec::new(),
        };
        Ok(Certificate {
            subject: line(&found.subject().to_string()),
            issuer: line(&found.issuer().to_string()),
            names,
            not_before: timestamp(found.validity().not_before),
            not_after: timestamp(found.validity().not_after),
            is_authority: found.is_ca(),
            is_self_issued: found.subject().as_raw() == found.issuer().as_raw(),
            fingerprint: hex(&Sha256::digest(der)),
        })
    }

    /// Reads every certificate of a PEM file, in its order: the first is its owner's, where it has one. What is none is left
    /// out.
    pub fn of_pem(pem: &[u8]) -> impl Iterator<Item = Certificate> {
        let found = CertificateDer::pem_slice_iter(pem);
        found.filter_map(|der| Certificate::read(&der.ok()?).ok())
    }
}

/// A name that a server may be reached under.
fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(line(name)),
        GeneralName::IPAddress(octets) => Some(match **octets {
            [a, b, c, d] => Ipv4Addr::new(a, b, c, d).to_string(),
            _ => match <[u8; 16]>::try_from(*octets) {
                Ok(octets) => Ipv6Addr::from(octets).to_string(),
                Err(_) => hex(octets),
            },
        }),
        GeneralName::OtherName(..)
        | GeneralName::RFC822Name(_)
        | GeneralName::X400Address(_)
        | GeneralName::DirectoryName(_)
        | GeneralName::EDIPartyName(_)
        | GeneralName::URI(_)
        | GeneralName::RegisteredID(_)
        | GeneralName::Invalid(..) => None,
    }
}

fn line(text: &str) -> String {
    harmless::key(text.as_bytes())
}

/// Before 1970 reads as 1970.
fn timestamp(time: ASN1Time) -> Timestamp {
    Timestamp(time.timestamp().try_into().unwrap_or(0))
}

/// A fingerprint as it is typed or pasted: with colons, spaces and capitals as other programs print it, or without.
///
/// `None` where it has not the 64 digits of a SHA-256.
pub fn fingerprint(typed: &str) -> Option<String> {
    let mut digits = String::with_capacity(64);
    for character in typed.chars() {
        match character {
            ':' | ' ' | '-' => {}
            _ if character.is_ascii_hexdigit() => {
                let _ = digits.write_char(character.to_ascii_lowercase());
            }
            _ => return None,
        }
    }
    (digits.len() == 64).then_some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// See `README` beside it.
    const AUTHORITY: &[u8] = include_bytes!("../tests/cases/certificates/authority.pem");
    const SERVER: &[u8] = include_bytes!("../tests/cases/certificates/server.pem");

    fn der(pem: &[u8]) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(pem).expect("PEM")
    }

    #[test]
    fn a_certificate_says_whose_it_is() {
        let authority = Certificate::read(&der(AUTHORITY)).expect("a certificate");
        assert_eq!(
            authority,
            Certificate {
                subject: "DC=example, DC=corp, CN=Corp \\u{1b}[31mRoot CA".into(),
                issuer: "DC=example, DC=corp, CN=Corp \\u{1b}[31mRoot CA".into(),
                names: Vec::new(),
                not_before: Timestamp(1_795_663_791),
                not_after: Timestamp(2_111_023_791),
                is_authority: true,
                is_self_issued: true,
                // As `openssl x509 -fingerprint -sha256` prints it.
                fingerprint: fingerprint(
                    "F7:47:C9:C8:79:88:E1:D0:A3:FF:AA:B2:B9:B0:F6:0D:B1:58:B5:04:62:75:67:34:36:23:A3:FA:3F:2E:C5:EF"
                )
                .expect("64 digits"),
            }
        );
        let server = Certificate::read(&der(SERVER)).expect("a certificate");
        assert_eq!(server.subject, "");
        assert_eq!(server.issuer, authority.subject);
        assert_eq!(
            server.names,
            ["dc1.corp.example", "192.0.2.1", "2001:db8::1"]
        );
        assert!(!server.is_authority && !server.is_self_issued);
    }

    #[test]
    fn other_octets_are_no_certificate() {
        let good = der(SERVER);
        let mut longer = good.to_vec();
        longer.push(0);
        for octets in [&b""[..], b"0", &good[..good.len() - 1], &longer, SERVER] {
            assert_eq!(Certificate::read(octets), Err(NoCertificate));
        }
    }

    #[test]
    fn a_fingerprint_is_64_digits_however_they_are_written() {
        let digits = "0123456789abcdef".repeat(4);
        let colons = "01:23:45:67:89:AB:CD:EF:".repeat(4);
        let spaces = "01 23 45 67 89 ab cd ef ".repeat(4);
        for typed in [&digits, colons.trim_end_matches(':'), &spaces] {
            assert_eq!(fingerprint(typed).as_ref(), Some(&digits), "{typed}");
        }
        for typed in [
            "",
            "yes",
            &digits[1..],
            &format!("{digits}0"),
            &digits.replace('0', "g"),
        ] {
            assert_eq!(fingerprint(typed), None, "{typed}");
        }
    }
}
