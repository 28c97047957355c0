//! Certificates made for one test.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig};

/// A certificate authority.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A server's certificate and key.
#[derive(Clone)]
pub struct Identity {
    pub(crate) config: Arc<ServerConfig>,
    certificate: Vec<u8>,
}

impl Identity {
    /// A chain of certificates, the server's own first, and its key; all PEM, and right or not.
    pub fn of_pem(chain: &str, key: &str) -> Identity {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain.as_bytes())
            .collect::<Result<_, _>>()
            .expect("certificates");
        let certificate = chain.first().expect("a certificate").to_vec();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = provider
            .key_provider
            .load_private_key(key)
            .expect("a key that can sign");
        // Not through the usual way, which looks whether certificate and key belong together and is a good one.
        let shown = Arc::new(CertifiedKey::new(chain, key));
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(shown)));
        Identity {
            config: Arc::new(config),
            certificate,
        }
    }

    /// The certificate itself (DER).
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }
}

/// When a certificate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// Now.
    Current,
    /// Until the year 2001.
    Expired,
    /// From the year 4000 on.
    Future,
}

impl Authority {
    /// A new one, known to nobody. Two of the same name have different keys, as after a renewal.
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names to refuse");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("signed");
        Authority { issuer }
    }

    /// Its certificate, for `ca_file`.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// The certificate of a client and its key, both PEM.
    pub fn client(&self, name: &str, validity: Validity) -> (String, String) {
        let mut params = CertificateParams::new(Vec::new()).expect("no names to refuse");
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        set_validity(&mut params, validity);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        (certificate.pem(), key.serialize_pem())
    }

    /// The same for a server that wants a certificate of this authority from every client.
    pub fn identity_for_clients(&self, names: &[&str], clients: &Authority) -> Identity {
        let mut roots = RootCertStore::empty();
        roots
            .add(clients.issuer.der().clone())
            .expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .expect("a verifier");
        self.identity_with(names, Validity::Current, verifier)
    }

    /// A certificate for these names and addresses.
    pub fn identity(&self, names: &[&str], validity: Validity) -> Identity {
        self.identity_with(names, validity, WebPkiClientVerifier::no_client_auth())
    }

    fn identity_with(
        &self,
        names: &[&str],
        validity: Validity,
        verifier: Arc<dyn ClientCertVerifier>,
    ) -> Identity {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("good names");
        set_validity(&mut params, validity);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            )
            .expect("a key that fits");
        Identity {
            config: Arc::new(config),
            certificate: certificate.der().to_vec(),
        }
    }
}

fn set_validity(params: &mut CertificateParams, validity: Validity) {
    let (from, to) = match validity {
        Validity::Current => (2000, 4000),
        Validity::Expired => (2000, 2001),
        Validity::Future => (4000, 4001),
    };
    params.not_before = date_time_ymd(from, 1, 1);
    params.not_after = date_time_ymd(to, 1, 1);
}
