//! Reads a source from a directory over LDAP, completely or not at all.
//!
//! Servers are tried in their order until one answers completely; what one gave before it failed is thrown away, so no
//! snapshot is pieced together from two. A refusal of the account ends the read at once. Everything is bounded by the
//! deadline of the run. Not here: what becomes of a source that could not be read.
//!
//! Layers, the outermost first: `wire` (TCP, TLS), `filter` (limits and shape of messages, with `message` and `ber`),
//! `session` (one connection), `paged` and `range` (what makes an answer complete).
//!
//! Invariant: a snapshot is made in one place, after every base was read to its end on one connection.

pub mod ber;
mod domains;
mod failure;
mod filter;
pub mod message;
mod paged;
mod range;
mod session;
mod wire;

use std::sync::Arc;
use std::time::Instant;

use rustls::ClientConfig;

use crate::config::{Bind, LdapSource, ServerAddress};
use crate::snapshot::{Progress, Snapshot};

pub use failure::{Attempt, Cause, ReadFailure, Reason, Step, Trouble};
pub use filter::{FRAME_BYTES_MAX, Lost};
pub use wire::TrustError;

use paged::{Budget, Found};
use session::{Credentials, Patience, Session};

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
    refuse_password_in_clear(source)?;
    // Before any connection: where the password cannot be read, nothing is sent.
    let credentials = Credentials::read(&source.bind).map_err(Reason::Secret)?;
    let tls = wire::tls_settings(source).map_err(Reason::Trust)?;
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
fn refuse_password_in_clear(source: &LdapSource) -> Result<(), Reason> {
    if let Bind::Anonymous = source.bind {
        return Ok(());
    }
    let in_clear = |server: &&ServerAddress| !wire::is_protected(server, source);
    match source.servers.iter().find(in_clear) {
        Some(server) => Err(Reason::PasswordInClear {
            server: server.url.clone(),
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
                let organisation = found.organisation.map(|found| {
                    found.map_err(|trouble| domains::failure(source_name, server, trouble))
                });
                return Ok(Snapshot::of_complete_read(
                    found.records,
                    server.url.clone(),
                    references,
                )
                .with_organisation(organisation));
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
    let mut session = Session::open(server, source, tls, patience).await?;
    let read = read_bases(&mut session, source, credentials, progress).await;
    session.close().await;
    read
}

async fn read_bases(
    session: &mut Session,
    source: &LdapSource,
    credentials: &Credentials,
    progress: &Progress,
) -> Result<Found, Trouble> {
    session.bind(credentials).await.map_err(|cause| {
        let name = match credentials {
            Credentials::Anonymous => String::new(),
            Credentials::Simple { name, .. } => name.clone(),
        };
        Trouble::new(Step::Bind { name }, cause)
    })?;
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
    if !source.is_global_catalog() {
        // Behind the recipients: what goes wrong here costs none of them.
        found.organisation = Some(domains::read(session, source, &mut budget).await);
    }
    Ok(found)
}
