//! Reads a source from a directory over LDAP, completely or not at all.
//!
//! Servers are tried in their order until one answers completely; what one gave before it failed is thrown away, so no
//! snapshot is pieced together from two. A refusal of the account ends the read at once. Everything is bounded by the
//! deadline of the run. Where the controller is the one of the answer before, only its changes are read. Not here: what
//! becomes of a source that could not be read.
//!
//! Layers, the outermost first: `wire` (TCP, TLS), `bind` (who to be), `gssapi` (Kerberos, with `sasl` and `keytab`; a
//! feature of the build), `filter` (limits and shape of messages, with `message` and `ber`), `session` (one connection),
//! `rootdse` (who answers), `paged` and `range` (what makes an answer complete), `dirsync` (what changed since), `domains`
//! (what it says of Exchange), `look` (all servers, for `doctor`), `introduction` (one server, step by step, for `init`). Beside them `discover` (which servers there are) and `global_catalog` (whether one shows
//! enough).
//!
//! Invariant: a snapshot is made in one place, after every base was read to its end on one connection, and nothing came behind.

pub mod ber;
mod bind;
mod dirsync;
mod discover;
mod domains;
mod failure;
mod filter;
mod global_catalog;
#[cfg(feature = "gssapi")]
mod gssapi;
#[cfg(not(feature = "gssapi"))]
#[path = "gssapi_absent.rs"]
mod gssapi;
pub mod introduction;
#[cfg(feature = "gssapi")]
pub mod keytab;
mod look;
pub mod message;
pub mod paged;
pub mod range;
mod rootdse;
#[cfg(feature = "gssapi")]
pub mod sasl;
pub mod session;
mod wire;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use rustls::ClientConfig;

use crate::config::{Incremental, LdapSource, ServerAddress, Servers};
use crate::current::{Changes, Controller};
use crate::record::Record;
use crate::records::{Spool, SpoolError};
use crate::snapshot::{Cursor, Followed, Reading, Snapshot, SourceProgress};

pub use crate::trust::TrustError;
pub use bind::{Credentials, CredentialsError};
pub use discover::{DiscoveryCause, DiscoveryFailure, questions};
pub use failure::{Attempt, Cause, KerberosError, ReadFailure, Reason, Step, Trouble};
pub use filter::{FRAME_BYTES_MAX, Lost};
pub use look::{Clock, Posture, RemoteDomain, ServerSeen, SourceSeen, look};

use dirsync::Following;
use global_catalog::Catalog;
use paged::Found;
use rootdse::RootDse;
use session::{Patience, Session};

/// What the answer before left, so that its changes can be followed.
#[derive(Clone, Copy, Debug)]
pub struct Earlier<'run> {
    /// The server that gave it; asked first.
    pub answered_by: &'run str,
    /// Which controller that was, and as of when.
    pub controller: &'run Controller,
    /// From where to follow.
    pub cursor: &'run Cursor,
    /// Whether everything is to be read again all the same.
    pub is_complete_read_due: bool,
    /// Whether the organisation is to be looked at even where nothing was written since.
    pub needs_organisation: bool,
}

/// Reads all bases of a source, or what changed in them since `earlier`.
pub fn read(
    source_name: &str,
    source: &LdapSource,
    earlier: Option<Earlier<'_>>,
    deadline: Instant,
    spool: &mut Spool,
    progress: &SourceProgress,
) -> Result<Reading, ReadFailure> {
    let reader = Reader {
        source_name,
        source,
        earlier,
        deadline,
        progress,
    };
    reader.read(spool).map_err(|reason| ReadFailure {
        source_name: source_name.to_owned(),
        reason,
    })
}

/// One read of one source.
struct Reader<'run> {
    source_name: &'run str,
    source: &'run LdapSource,
    earlier: Option<Earlier<'run>>,
    deadline: Instant,
    progress: &'run SourceProgress,
}

impl Reader<'_> {
    fn read(&self, spool: &mut Spool) -> Result<Reading, Reason> {
        refuse_to_bind_in_clear(self.source)?;
        // Before any connection: where the password or the key cannot be read, nothing is sent.
        let credentials = Credentials::read(&self.source.bind).map_err(Reason::Credentials)?;
        let tls = wire::tls_settings(self.source, &credentials)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(Reason::Runtime)?;
        let read = runtime.block_on(self.try_servers(&credentials, &tls, spool));
        // Not dropped: a name resolution that hangs would be waited for.
        runtime.shutdown_background();
        read
    }

    async fn try_servers(
        &self,
        credentials: &Credentials,
        tls: &Arc<ClientConfig>,
        spool: &mut Spool,
    ) -> Result<Reading, Reason> {
        let mut servers = discover::servers(self.source_name, self.source, self.deadline)
            .await
            .map_err(Reason::Discovery)?;
        // Only the server that answered last can be followed; the others are in their order.
        servers.sort_by_key(|server| {
            self.earlier
                .is_some_and(|earlier| earlier.answered_by != server.url)
        });
        let mut attempts = Vec::new();
        for server in &servers {
            match self.read_server(server, credentials, tls, spool).await {
                Ok(reading) => {
                    if let Some(first) = attempts.first() {
                        let first: &Attempt = first;
                        let more = match attempts.len() - 1 {
                            0 => String::new(),
                            count => format!(" (and {count} more)"),
                        };
                        tracing::warn!(
                            source = self.source_name,
                            "source {}: {first}{more}; {} answered instead",
                            self.source_name,
                            server.url
                        );
                    }
                    return Ok(reading);
                }
                Err(trouble) => {
                    let is_final = trouble.is_refused_account()
                        || trouble.is_our_own()
                        || Instant::now() >= self.deadline;
                    let attempt = Attempt {
                        server: server.url.clone(),
                        trouble,
                    };
                    tracing::debug!(
                        source = self.source_name,
                        "source {}: {attempt}",
                        self.source_name
                    );
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
        &self,
        server: &ServerAddress,
        credentials: &Credentials,
        tls: &Arc<ClientConfig>,
        spool: &mut Spool,
    ) -> Result<Reading, Trouble> {
        let mut session = self.open(server, credentials, tls).await?;
        let read = async {
            let root = RootDse::read(&mut session)
                .await
                .map_err(|cause| Trouble::new(Step::RootDse, cause))?;
            if !server.is_global_catalog() {
                return self
                    .read_controller(&mut session, server, &root, spool)
                    .await;
            }
            let elsewhere =
                async |ordinary: ServerAddress| self.open(&ordinary, credentials, tls).await;
            let catalog = global_catalog::check(&mut session, &root, server, elsewhere).await?;
            self.read_catalog(&mut session, server, &root, &catalog, spool)
                .await
        };
        let mut read = read.await;
        if let Ok(reading) = &mut read {
            reading.set_certificate_ends(session.certificate_ends);
        }
        session.close().await;
        read
    }

    async fn open(
        &self,
        server: &ServerAddress,
        credentials: &Credentials,
        tls: &Arc<ClientConfig>,
    ) -> Result<Session, Trouble> {
        let patience = Patience {
            answer: self.source.timeout,
            deadline: self.deadline,
        };
        Session::open(server, self.source, tls, credentials, patience).await
    }

    /// A global catalog is read completely each time: it tells no changes of the domains it does not hold itself.
    async fn read_catalog(
        &self,
        session: &mut Session,
        server: &ServerAddress,
        root: &RootDse,
        catalog: &Catalog,
        spool: &mut Spool,
    ) -> Result<Reading, Trouble> {
        if self.source.incremental == Incremental::DirSync {
            let why = "a global catalog does not tell what changed in a whole forest";
            return Err(Trouble::new(Step::RootDse, Cause::NoDirSync(why)));
        }
        let is_left_out = catalog.leaves_out(&self.source.bases);
        let references = self
            .read_bases(
                session,
                Some(global_catalog::FOREST),
                Some(&is_left_out),
                spool,
            )
            .await?;
        complete(spool, references, server, root).map_err(not_stored)
    }

    async fn read_controller(
        &self,
        session: &mut Session,
        server: &ServerAddress,
        root: &RootDse,
        spool: &mut Spool,
    ) -> Result<Reading, Trouble> {
        let mut reading = self.read_recipients(session, server, root, spool).await?;
        let is_needed = match &reading {
            Reading::Complete(_) => true,
            // The configuration lies in another naming context than the one that is followed.
            Reading::Followed(followed) => self.earlier.is_none_or(|earlier| {
                earlier.needs_organisation || followed.controller.usn != earlier.controller.usn
            }),
        };
        if is_needed {
            // Behind the recipients: what goes wrong here costs none of them.
            let configuration = root.configuration_naming_context.as_deref();
            let found = domains::read(session, configuration, self.source).await;
            let found =
                found.map_err(|trouble| domains::failure(self.source_name, server, trouble));
            *reading.organisation_mut() = Some(found);
        }
        Ok(reading)
    }

    async fn read_recipients(
        &self,
        session: &mut Session,
        server: &ServerAddress,
        root: &RootDse,
        spool: &mut Spool,
    ) -> Result<Reading, Trouble> {
        let controller = root.controller(&server.url);
        let following = match Following::on(self.source, root) {
            Ok(following) => Some(following),
            Err(why) if self.source.incremental == Incremental::DirSync => {
                return Err(Trouble::new(Step::RootDse, Cause::NoDirSync(why)));
            }
            Err(_) => None,
        };
        let everything = root.default_naming_context.as_deref();
        let Some(following) = following else {
            let references = self.read_bases(session, everything, None, spool).await?;
            return complete(spool, references, server, root).map_err(not_stored);
        };
        let earlier = self.earlier_on(&controller, root);
        if let Some(earlier) = earlier.filter(|earlier| !earlier.is_complete_read_due) {
            // Nothing at all was written there since, in whatever naming context.
            let found = if controller.usn == earlier.controller.usn {
                Some((Changes::default(), earlier.cursor.clone()))
            } else {
                following
                    .follow(session, earlier.cursor, self.progress)
                    .await?
            };
            if let Some((changes, cursor)) = found {
                return Ok(Reading::Followed(Followed {
                    changes,
                    answered_by: server.url.clone(),
                    controller,
                    certificate_ends: None,
                    cursor,
                    organisation: None,
                }));
            }
        }
        let (cursor, mut reported) = following.begin(session, earlier).await?;
        let references = self.read_bases(session, everything, None, spool).await?;
        if let (Some(reported), Some(cursor)) = (&mut reported, &cursor) {
            following.report_on(session, cursor, reported).await?;
        }
        // An object without objectGUID could not be told from another when it changes.
        let is_known_by_guid = spool.is_known_by_guid();
        let mut reading = complete(spool, references, server, root).map_err(not_stored)?;
        if let Reading::Complete(snapshot) = &mut reading {
            snapshot.cursor = cursor.filter(|_| is_known_by_guid);
            snapshot.reported = reported;
        }
        Ok(reading)
    }

    /// What the answer before left, if it is this controller's: another one has another history.
    fn earlier_on(&self, controller: &Controller, root: &RootDse) -> Option<Earlier<'_>> {
        self.earlier.filter(|earlier| {
            controller.is_at_least(earlier.controller)
                && root.default_naming_context.as_ref() == Some(&earlier.cursor.naming_context)
        })
    }

    async fn read_bases(
        &self,
        session: &mut Session,
        proposed: Option<&str>,
        is_left_out: Option<&dyn Fn(&str) -> bool>,
        spool: &mut Spool,
    ) -> Result<BTreeSet<String>, Trouble> {
        let bases = if self.source.bases.is_empty() {
            let missing = || Trouble::new(Step::RootDse, Cause::NoNamingContext);
            vec![proposed.ok_or_else(missing)?]
        } else {
            self.source.bases.iter().map(String::as_str).collect()
        };
        // What a server gave that failed is of no use.
        spool.reset();
        let mut sink = |record: Record| {
            let record = record.view();
            match is_left_out {
                Some(is_left_out) if is_left_out(record.dn()) => Ok(()),
                _ => spool.push(record),
            }
        };
        let mut found = Found::into(&mut sink);
        for base in bases {
            paged::read_base(
                session,
                base,
                &self.source.filter,
                self.source.page_size,
                &mut found,
                self.progress,
            )
            .await?;
        }
        nothing_behind(session).await?;
        Ok(found.references)
    }
}

/// To be called when everything was asked.
async fn nothing_behind(session: &mut Session) -> Result<(), Trouble> {
    let nothing = session.expect_nothing_behind().await;
    nothing.map_err(|cause| Trouble::new(Step::End, cause))
}

fn not_stored(error: SpoolError) -> Trouble {
    Trouble::new(Step::RootDse, error.into())
}

/// To be called when every base was read to its end on one connection, and nothing came behind.
fn complete(
    spool: &mut Spool,
    references: BTreeSet<String>,
    server: &ServerAddress,
    root: &RootDse,
) -> Result<Reading, SpoolError> {
    let referrals = references.into_iter().collect();
    let mut snapshot = Snapshot::of_complete_read(spool, server.url.clone(), referrals)?;
    snapshot.controller = Some(root.controller(&server.url));
    Ok(Reading::Complete(snapshot))
}

/// The configuration refuses this too; a password is worth a second look.
fn refuse_to_bind_in_clear(source: &LdapSource) -> Result<(), Reason> {
    let Some(why) = source.bind.needs_tls() else {
        return Ok(());
    };
    let Servers::Listed(servers) = &source.servers else {
        // What DNS names is reached over TLS and not otherwise.
        return Ok(());
    };
    let in_clear = |server: &&ServerAddress| !wire::is_protected(server, source);
    match servers.iter().find(in_clear) {
        Some(server) => Err(Reason::WithoutTls {
            server: server.url.clone(),
            why,
        }),
        None => Ok(()),
    }
}
