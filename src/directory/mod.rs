//! Reads a source from a directory over LDAP, completely or not at all.
//!
//! Servers are tried in their order until one answers completely; what one gave before it failed is thrown away, so no
//! snapshot is pieced together from two. A refusal of the account ends the read at once. Everything is bounded by the
//! deadline of the run. Not here: what becomes of a source that could not be read.
//!
//! Layers, the outermost first: `wire` (TCP, TLS), `bind` (who to be), `gssapi`
//! (Kerberos, with `sasl` and `keytab`; a feature of the build), `filter` (limits and shape of messages, with `message` and `ber`),
//! `session` (one connection), `paged` and `range` (what makes an answer complete).
//!
//! Invariant: a snapshot is made in one place, after every base was read to its end on one connection.

pub mod ber;
mod bind;
mod failure;
mod filter;
#[cfg(feature = "gssapi")]
mod gssapi;
#[cfg(not(feature = "gssapi"))]
#[path = "gssapi_absent.rs"]
mod gssapi;
#[cfg(feature = "gssapi")]
mod keytab;
pub mod message;
mod paged;
mod range;
#[cfg(feature = "gssapi")]
mod sasl;
mod session;
mod wire;

use std::sync::Arc;
use std::time::Instant;

use rustls::ClientConfig;

use crate::config::{LdapSource, ServerAddress};
use crate::snapshot::{Progress, Snapshot};

pub use bind::CredentialsError;
pub use failure::{Attempt, Cause, KerberosError, ReadFailure, Reason, Step, Trouble};
pub use filter::{FRAME_BYTES_MAX, Lost};
pub use wire::TrustError;

use bind::Credentials;
use paged::{Budget, Found};
use session::{Patience, Session};

/// Reads all bases of a source.
pub fn read(
    source_name: &str,
    source: &LdapSource,
    deadline: Instant,
    progress: &Progress,
) -> Result<Snapshot, ReadFailure> {
    read_source(source_name, source, deadline, progress).map_err(|reason| ReadFailure {
        source_name: source_name.to_owned(),
        reason,
    })
}

fn read_source(
    source_name: &str,
    source: &LdapSource,
    deadline: Instant,
    progress: &Progress,
) -> Result<Snapshot, Reason> {
    refuse_to_bind_in_clear(source)?;
    // Before any connection: where the password or the key cannot be read, nothing is sent.
    let credentials = Credentials::read(&source.bind).map_err(Reason::Credentials)?;
    let tls = wire::tls_settings(source, &credentials)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(Reason::Runtime)?;
    let read = runtime.block_on(try_servers(
        source_name,
        source,
        &credentials,
        &tls,
        deadline,
        progress,
    ));
    // Not dropped: a name resolution that hangs would be waited for.
    runtime.shutdown_background();
    read
}

/// The configuration refuses this too; a password is worth a second look.
fn refuse_to_bind_in_clear(source: &LdapSource) -> Result<(), Reason> {
    let Some(why) = source.bind.needs_tls() else {
        return Ok(());
    };
    let in_clear = |server: &&ServerAddress| !wire::is_protected(server, source);
    match source.servers.iter().find(in_clear) {
        Some(server) => Err(Reason::WithoutTls {
            server: server.url.clone(),
            why,
        }),
        None => Ok(()),
    }
}

async fn try_servers(
    source_name: &str,
    source: &LdapSource,
    credentials: &Credentials,
    tls: &Arc<ClientConfig>,
    deadline: Instant,
    progress: &Progress,
) -> Result<Snapshot, Reason> {
    let patience = Patience {
        answer: source.timeout,
        deadline,
    };
    let mut attempts = Vec::new();
    for server in &source.servers {
        let read = read_server(server, source, credentials, tls, patience, progress);
        match read.await {
            Ok(found) => {
                let references = found.references.into_iter().collect();
                return Ok(Snapshot::of_complete_read(
                    found.records,
                    server.url.clone(),
                    references,
                ));
            }
            Err(trouble) => {
                let is_final = trouble.is_refused_account() || Instant::now() >= deadline;
                let attempt = Attempt {
                    server: server.url.clone(),
                    trouble,
                };
                tracing::debug!(source = source_name, %attempt, "server failed");
                attempts.push(attempt);
                if is_final {
                    break;
                }
            }
        }
    }
    Err(Reason::Servers(attempts))
}

async fn read_server(
    server: &ServerAddress,
    source: &LdapSource,
    credentials: &Credentials,
    tls: &Arc<ClientConfig>,
    patience: Patience,
    progress: &Progress,
) -> Result<Found, Trouble> {
    let mut session = Session::open(server, source, tls, credentials, patience).await?;
    let read = read_bases(&mut session, source, progress).await;
    session.close().await;
    read
}

async fn read_bases(
    session: &mut Session,
    source: &LdapSource,
    progress: &Progress,
) -> Result<Found, Trouble> {
    let proposed;
    let bases = if source.bases.is_empty() {
        proposed = session
            .default_naming_context()
            .await
            .map_err(|cause| Trouble::new(Step::RootDse, cause))?;
        std::slice::from_ref(&proposed)
    } else {
        &source.bases
    };
    let (mut found, mut budget) = (Found::default(), Budget::default());
    for base in bases {
        paged::read_base(
            session,
            base,
            &source.filter,
            source.page_size,
            &mut found,
            &mut budget,
            progress,
        )
        .await?;
    }
    Ok(found)
}
