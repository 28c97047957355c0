//! One session with a PostgreSQL server. The only file that names its crate.
//!
//! Synchronous to its callers: a runtime of one thread lives inside, and every wait ends at the deadline of the session.
//! Over the network everything travels inside TLS, whose certificate must be that of the configured host.

use std::future::Future;
use std::io::{self, Cursor};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use rustls::ClientConfig;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, SimpleQueryMessage};
use tokio_rustls::TlsConnector;

use super::DatabaseError;
use crate::config::Relation;
use crate::owners;
use crate::trust;

/// Name resolution, TCP, TLS and authentication together.
const CONNECT_TIME: Duration = Duration::from_secs(15);

/// A sentence of a server that is told on.
const MESSAGE_CHARS_MAX: usize = 400;

/// An open session.
pub struct Session {
    /// `None` once it is being dropped.
    runtime: Option<Runtime>,
    client: Client,
    deadline: Instant,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Session(…)")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Not waited for: a name resolution that hangs would be. A transaction that is open ends with the connection.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Session {
    /// Connects and authenticates.
    pub fn open(relation: &Relation, deadline: Instant) -> Result<Session, DatabaseError> {
        let password = relation.password.as_ref().map(|place| place.read());
        let password = password.transpose()?;
        let mut config = Config::new();
        config
            .host(&relation.host)
            .port(relation.port)
            .dbname(&relation.database)
            .user(&relation.role)
            .application_name("rcptsync")
            .connect_timeout(CONNECT_TIME);
        if let Some(password) = &password {
            config.password(password.reveal());
        }
        let settings = if relation.is_socket() {
            config.ssl_mode(SslMode::Disable);
            trust::nobody()?
        } else {
            config.ssl_mode(SslMode::Require);
            trust::authorities(relation.ca_file.as_deref())?
        };
        let tls = Tls(Arc::new(settings.with_no_client_auth()));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        let left = deadline.saturating_duration_since(Instant::now());
        let connected = runtime.block_on(async {
            tokio::time::timeout(left.min(CONNECT_TIME), connect(&config, relation, tls)).await
        });
        let (client, connection) = match connected.unwrap_or(Err(DatabaseError::TimeIsUp)) {
            Ok(connected) => connected,
            Err(error) => {
                runtime.shutdown_background();
                return Err(match &password {
                    Some(password) => without(error, password.reveal()),
                    None => error,
                });
            }
        };
        runtime.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!("the connection to the database ended: {error}");
            }
        });
        Ok(Session {
            runtime: Some(runtime),
            client,
            deadline,
        })
    }

    /// Runs statements that answer nothing.
    pub fn run(&self, statements: &str) -> Result<(), DatabaseError> {
        self.wait(async {
            self.client
                .batch_execute(statements)
                .await
                .map_err(|error| told(&error))
        })
    }

    /// The first row of an answer, as text; NULL is empty.
    pub fn row(&self, query: &str) -> Result<Option<Vec<String>>, DatabaseError> {
        let messages = self.wait(async {
            self.client
                .simple_query(query)
                .await
                .map_err(|error| told(&error))
        })?;
        Ok(messages.iter().find_map(|message| {
            let SimpleQueryMessage::Row(row) = message else {
                return None;
            };
            let text = |at| row.get(at).unwrap_or_default().to_owned();
            Some((0..row.len()).map(text).collect())
        }))
    }

    /// Runs a statement whose parameters are arrays of text, and gives how many rows it touched.
    pub fn change(&self, statement: &str, columns: &[Vec<&str>]) -> Result<u64, DatabaseError> {
        let parameters: Vec<&(dyn ToSql + Sync)> = columns
            .iter()
            .map(|column| column as &(dyn ToSql + Sync))
            .collect();
        self.wait(async {
            let touched = self.client.execute(statement, &parameters).await;
            touched.map_err(|error| told(&error))
        })
    }

    /// Shows what a `COPY … TO STDOUT` gives, row by row.
    pub fn copy_out(
        &self,
        statement: &str,
        each: &mut dyn FnMut(&[u8]) -> Result<(), DatabaseError>,
    ) -> Result<(), DatabaseError> {
        self.wait(async {
            let stream = self.client.copy_out(statement).await;
            let mut stream = Box::pin(stream.map_err(|error| told(&error))?);
            while let Some(block) = stream.next().await {
                each(&block.map_err(|error| told(&error))?)?;
            }
            Ok(())
        })
    }

    /// Sends blocks to a `COPY … FROM STDIN`, and gives how many rows came of them.
    pub fn copy_in(
        &self,
        statement: &str,
        blocks: &mut dyn Iterator<Item = Vec<u8>>,
    ) -> Result<u64, DatabaseError> {
        self.wait(async {
            let sink = self.client.copy_in(statement).await;
            let mut sink = Box::pin(sink.map_err(|error| told(&error))?);
            for block in blocks {
                let sent = sink.feed(Cursor::new(block)).await;
                sent.map_err(|error| told(&error))?;
            }
            sink.as_mut().finish().await.map_err(|error| told(&error))
        })
    }

    fn wait<Answer>(
        &self,
        answer: impl Future<Output = Result<Answer, DatabaseError>>,
    ) -> Result<Answer, DatabaseError> {
        let Some(runtime) = &self.runtime else {
            return Err(DatabaseError::TimeIsUp);
        };
        let left = self.deadline.saturating_duration_since(Instant::now());
        runtime
            .block_on(async { tokio::time::timeout(left, answer).await })
            .unwrap_or(Err(DatabaseError::TimeIsUp))
    }
}

/// What the crate says, as far as it is told on.
fn told(error: &tokio_postgres::Error) -> DatabaseError {
    if let Some(said) = error.as_db_error() {
        let parts = [Some(said.message()), said.detail()];
        let message = parts.into_iter().flatten().collect::<Vec<_>>().join("; ");
        return DatabaseError::Refused {
            state: said.code().code().chars().take(5).collect(),
            message: message.chars().take(MESSAGE_CHARS_MAX).collect(),
        };
    }
    let cause = std::error::Error::source(error);
    let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
    // The crate says what it did; its cause says why.
    let message = error.to_string();
    let message = if message.contains(cause.trim_start_matches(": ")) {
        message
    } else {
        message + &cause
    };
    DatabaseError::Lost(message.chars().take(MESSAGE_CHARS_MAX).collect())
}

/// What goes on for as long as the connection is there.
type Connection = Pin<Box<dyn Future<Output = Result<(), tokio_postgres::Error>> + Send>>;

async fn connect(
    config: &Config,
    relation: &Relation,
    mut tls: Tls,
) -> Result<(Client, Connection), DatabaseError> {
    if !relation.is_socket() {
        let connected = config.connect(tls).await;
        let (client, connection) = connected.map_err(|error| told(&error))?;
        return Ok((client, Box::pin(connection)));
    }
    let directory = Path::new(&relation.host);
    let socket = directory.join(format!(".s.PGSQL.{}", relation.port));
    let stream = UnixStream::connect(&socket).await;
    let stream = stream
        .map_err(|error| DatabaseError::Lost(format!("error connecting to server: {error}")))?;
    let peer = stream.peer_cred()?.uid();
    if !is_trusted(peer, directory) {
        // It would be told the password, and the rows.
        let why = format!(
            "a stranger answers at {}: the account {peer}",
            socket.display()
        );
        return Err(io::Error::other(why).into());
    }
    let tls = MakeTlsConnect::<UnixStream>::make_tls_connect(&mut tls, "");
    let tls = tls.map_err(io::Error::other)?;
    let connected = config.connect_raw(stream, tls).await;
    let (client, connection) = connected.map_err(|error| told(&error))?;
    Ok((client, Box::pin(connection)))
}

/// Whether the server behind a socket may be this account's: root's, ours, that of PostgreSQL, or the owner of the directory,
/// where nobody else may make a socket (in /tmp everybody may).
fn is_trusted(account: u32, directory: &Path) -> bool {
    let is_of_postgresql = |line: &str| {
        let mut fields = line.split(':');
        fields.next() == Some("postgres") && fields.nth(1) == Some(&account.to_string())
    };
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let is_own = directory
        .metadata()
        .is_ok_and(|found| found.uid() == account && found.mode() & 0o002 == 0);
    is_own || owners::trusted().contains(&account) || accounts.lines().any(is_of_postgresql)
}

/// A server that was given the password may say it back.
fn without(error: DatabaseError, password: &str) -> DatabaseError {
    match error {
        DatabaseError::Refused { state, message } => DatabaseError::Refused {
            state,
            message: message.replace(password, "…"),
        },
        DatabaseError::NotBuilt
        | DatabaseError::Secret(_)
        | DatabaseError::Trust(_)
        | DatabaseError::System(_)
        | DatabaseError::Lost(_)
        | DatabaseError::TimeIsUp
        | DatabaseError::Standby
        | DatabaseError::Wrong(_) => error,
    }
}

/// Our TLS, as the crate wants to be given it.
#[derive(Clone)]
struct Tls(Arc<ClientConfig>);

struct TlsOf {
    settings: Arc<ClientConfig>,
    server: ServerName<'static>,
}

/// A stream inside TLS.
struct Protected<S>(tokio_rustls::client::TlsStream<S>);

impl<S> MakeTlsConnect<S> for Tls
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Protected<S>;
    type TlsConnect = TlsOf;
    type Error = InvalidDnsNameError;

    fn make_tls_connect(&mut self, host: &str) -> Result<TlsOf, InvalidDnsNameError> {
        // A socket of this machine has no name, and no TLS.
        let name = if host.is_empty() { "localhost" } else { host };
        Ok(TlsOf {
            settings: Arc::clone(&self.0),
            server: ServerName::try_from(name.to_owned())?,
        })
    }
}

impl<S> TlsConnect<S> for TlsOf
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Protected<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Protected<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        let connector = TlsConnector::from(self.settings);
        Box::pin(async move { connector.connect(self.server, stream).await.map(Protected) })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Protected<S> {
    fn channel_binding(&self) -> ChannelBinding {
        // The certificate is verified; binding the authentication to it as well would prove no more.
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Protected<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Protected<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
