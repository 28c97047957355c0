//! From a server's address to a stream that may carry a password: name resolution, TCP, StartTLS, TLS.
//!
//! TLS is ours and not the LDAP crate's, because the crate would trust nobody when one system certificate is damaged,
//! fails on IPv6 addresses, and reads what a server sends without limits. Not here: what flows through the stream
//! (`filter`, `session`).
//!
//! Invariant: nothing but the StartTLS request is ever sent in clear on a connection that is to be protected.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WantsClientCert, WebPkiServerVerifier};
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName, UnixTime};
use rustls::{ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::config::{LdapSource, ServerAddress, Servers};
use crate::trust::{self, TrustError};

use super::ber;
use super::bind::{Credentials, CredentialsError};
use super::failure::{Cause, Reason, Step, Trouble};
use super::filter::Lost;
use super::message::{self, MessageError};

/// An answer to StartTLS or to a bind is a result code, a sentence and a token.
const SMALL_ANSWER_BYTES_MAX: usize = 64 * 1024;

/// The TLS library asks for 4 KiB at a time.
const ENCRYPTED_READ_BYTES: usize = 64 * 1024;

/// A connection, protected or not.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection to a server.
pub struct Connection {
    /// What flows.
    pub stream: Box<dyn Stream>,
    /// The server's own certificate, where it had to show one.
    pub server_certificate: Option<CertificateDer<'static>>,
}

/// Whether everything but a StartTLS request travels inside TLS.
pub fn is_protected(server: &ServerAddress, source: &LdapSource) -> bool {
    server.is_ldaps || source.starttls
}

/// The TLS settings of a source: whom to trust (nobody, where no server is to be reached over TLS), and which certificate
/// to show.
pub fn tls_settings(
    source: &LdapSource,
    credentials: &Credentials,
) -> Result<Arc<ClientConfig>, Reason> {
    tls_settings_trusting(trusting(source), credentials)
}

/// The same with these to trust.
pub fn tls_settings_trusting(
    settings: Result<ConfigBuilder<ClientConfig, WantsClientCert>, TrustError>,
    credentials: &Credentials,
) -> Result<Arc<ClientConfig>, Reason> {
    let settings = settings.map_err(Reason::Trust)?;
    let settings = match credentials {
        Credentials::External {
            certificate_file,
            certificates,
            key,
        } => settings
            .with_client_auth_cert(certificates.clone(), key.clone_key())
            .map_err(|error| {
                Reason::Credentials(CredentialsError::Mismatch {
                    certificate_file: certificate_file.clone(),
                    error,
                })
            })?,
        Credentials::Anonymous | Credentials::Simple { .. } | Credentials::Gssapi(_) => {
            settings.with_no_client_auth()
        }
    };
    Ok(Arc::new(settings))
}

fn trusting(
    source: &LdapSource,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, TrustError> {
    let needs_roots = match &source.servers {
        Servers::Listed(servers) => servers.iter().any(|server| is_protected(server, source)),
        Servers::Discovered(_) => true,
    };
    if needs_roots {
        trust::authorities(source.ca_file.as_deref())
    } else {
        trust::nobody()
    }
}

/// Connects, and protects the connection where the source says so.
pub async fn connect(
    server: &ServerAddress,
    source: &LdapSource,
    tls: &Arc<ClientConfig>,
) -> Result<Connection, Trouble> {
    let mut stream = connect_tcp(server, source.connect_timeout)
        .await
        .map_err(|cause| Trouble::new(Step::Connect, cause))?;
    if !is_protected(server, source) {
        return Ok(Connection {
            stream: Box::new(stream),
            server_certificate: None,
        });
    }
    if !server.is_ldaps {
        start_tls(&mut stream)
            .await
            .map_err(|cause| Trouble::new(Step::StartTls, cause))?;
    }
    let handshake = async {
        let name = ServerName::try_from(server.host.clone())
            .map_err(|error: InvalidDnsNameError| Cause::ServerName(error.to_string()))?;
        TlsConnector::from(Arc::clone(tls))
            .connect(name, BufReader::with_capacity(ENCRYPTED_READ_BYTES, stream))
            .await
            .map_err(tls_cause)
    };
    match handshake.await {
        Ok(stream) => {
            let (_, session) = stream.get_ref();
            let chain = session.peer_certificates().unwrap_or_default();
            Ok(Connection {
                server_certificate: chain.first().map(|own| own.clone().into_owned()),
                stream: Box::new(stream),
            })
        }
        Err(cause) => Err(Trouble::new(Step::TlsHandshake, cause)),
    }
}

/// The addresses of a server's name.
pub async fn addresses(server: &ServerAddress) -> Result<Vec<IpAddr>, Cause> {
    let found = tokio::net::lookup_host((server.host.as_str(), server.port)).await;
    Ok(found.map_err(Cause::Resolve)?.map(|at| at.ip()).collect())
}

/// The certificates that a server shows, its own first, and whether it is to be trusted. Nothing is sent behind the
/// handshake, and one who is not to be trusted gets no further than with [`connect`].
pub async fn shown_by(
    server: &ServerAddress,
    source: &LdapSource,
    roots: RootCertStore,
) -> Result<(Vec<CertificateDer<'static>>, Result<(), Trouble>), Reason> {
    let remembering = Arc::new(Remembering {
        judge: judge(roots).map_err(|error| Reason::Trust(TrustError::Library(error)))?,
        shown: Mutex::new(Vec::new()),
    });
    let mut settings = trust::nobody()
        .map_err(Reason::Trust)?
        .with_no_client_auth();
    settings
        .dangerous()
        .set_certificate_verifier(Arc::clone(&remembering) as Arc<dyn ServerCertVerifier>);
    let connected = connect(server, source, &Arc::new(settings)).await;
    let shown = std::mem::take(&mut *remembering.shown());
    Ok((shown, connected.map(drop)))
}

/// Whether trust in this one authority alone makes what a server shows trustworthy under its name.
pub fn is_trusted_through(
    authority: &CertificateDer<'static>,
    shown: &[CertificateDer<'static>],
    server: &ServerAddress,
) -> bool {
    let Some((own, others)) = shown.split_first() else {
        return false;
    };
    let mut roots = RootCertStore::empty();
    let Ok(name) = ServerName::try_from(server.host.clone()) else {
        return false;
    };
    roots.add(authority.clone()).is_ok()
        && judge(roots).is_ok_and(|judge| {
            let judged = judge.verify_server_cert(own, others, &name, &[], UnixTime::now());
            judged.is_ok()
        })
}

fn judge(roots: RootCertStore) -> Result<Arc<WebPkiServerVerifier>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))
}

/// Judges as the TLS library does, and remembers what was judged: a refusal names no certificate.
#[derive(Debug)]
struct Remembering {
    judge: Arc<WebPkiServerVerifier>,
    shown: Mutex<Vec<CertificateDer<'static>>>,
}

impl Remembering {
    fn shown(&self) -> MutexGuard<'_, Vec<CertificateDer<'static>>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ServerCertVerifier for Remembering {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let all = std::iter::once(own).chain(others);
        *self.shown() = all.map(|one| one.clone().into_owned()).collect();
        self.judge
            .verify_server_cert(own, others, name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.judge
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.judge
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.supported_verify_schemes()
    }
}

/// Tries every address of the name. Each gets its share of the time, so that one dead domain controller among several
/// behind one name does not use up the time of the others.
async fn connect_tcp(server: &ServerAddress, patience: Duration) -> Result<TcpStream, Cause> {
    let started = Instant::now();
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((server.host.as_str(), server.port))
        .await
        .map_err(Cause::Resolve)?
        .collect();
    let mut last_error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for (at, address) in addresses.iter().enumerate() {
        let untried_count = u32::try_from(addresses.len() - at).unwrap_or(u32::MAX);
        let share = patience.saturating_sub(started.elapsed()) / untried_count;
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true).map_err(Cause::Connect)?;
                return Ok(stream);
            }
            Ok(Err(error)) => last_error = error,
            Err(_) => last_error = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(Cause::Connect(last_error))
}

/// Asks for TLS and reads the answer, and not one byte more: what a stranger slips in behind it must meet the handshake
/// and fail there, not be taken for something said inside TLS.
async fn start_tls(stream: &mut TcpStream) -> Result<(), Cause> {
    let frame = ask(stream, message::START_TLS_REQUEST)
        .await
        .map_err(Cause::Lost)?;
    match message::start_tls_outcome(&frame) {
        Ok(outcome) if outcome.code == 0 => Ok(()),
        Ok(outcome) => Err(Cause::Refused(outcome)),
        Err(MessageError::Notice(outcome)) => Err(Cause::Lost(Lost::Notice(outcome))),
        Err(error) => Err(Cause::Lost(Lost::Malformed(error))),
    }
}

/// Sends a request and reads one message, and not one byte more.
pub async fn ask(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin + ?Sized),
    request: &[u8],
) -> Result<Vec<u8>, Lost> {
    let broken = |error: io::Error| {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            Lost::Closed
        } else {
            Lost::Broken(error)
        }
    };
    stream.write_all(request).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    let mut frame = Vec::new();
    let header = loop {
        let read = ber::header(&frame);
        match read.map_err(|error| Lost::Malformed(error.into()))? {
            Some(header) => break header,
            None => frame.push(stream.read_u8().await.map_err(broken)?),
        }
    };
    if header.total_octets() > SMALL_ANSWER_BYTES_MAX {
        return Err(Lost::TooLong {
            announced_bytes: header.total_octets(),
        });
    }
    frame.resize(header.total_octets(), 0);
    stream
        .read_exact(&mut frame[header.header_octets..])
        .await
        .map_err(broken)?;
    Ok(frame)
}

/// With TLS 1.3 the server looks at the client's certificate when the handshake is over for the client, so that its
/// refusal comes as the end of the connection.
pub fn cause_of_loss(lost: Lost) -> Cause {
    match lost {
        Lost::Broken(error) => tls_cause(error),
        Lost::Closed
        | Lost::ClosedInMessage { .. }
        | Lost::TooLong { .. }
        | Lost::Malformed(_)
        | Lost::Notice(_) => Cause::Lost(lost),
    }
}

fn tls_cause(error: io::Error) -> Cause {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
        .cloned();
    match inner {
        Some(inner) => Cause::Tls(inner),
        None => Cause::Lost(Lost::Broken(error)),
    }
}
