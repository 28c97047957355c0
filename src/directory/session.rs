//! One connection to one server: bind, search, one answer at a time. The only file that names the LDAP crate.
//!
//! Every wait is bounded by the time for one answer and by the deadline of the run. An error is final: the crate would
//! answer a further question after an error as if all had ended well, so a session that failed is not asked again. Not
//! here: paging (`paged`), ranges (`range`), sockets and TLS (`wire`), the checks of messages (`filter`).
//!
//! Invariant: [`Answer::End`] is only made from a SearchResultDone that the server sent for this very search.

use std::time::{Duration, Instant};

use ldap3::controls::{Control, MakeCritical, PagedResults, RawControl};
use ldap3::{
    Ldap, LdapConnAsync, LdapConnSettings, LdapError, LdapResult, Scope, SearchStream, StdStream,
};
use tokio::task::JoinHandle;
use tokio::time::timeout_at;

use crate::certificate::Certificate;
use crate::config::{LdapSource, ServerAddress};
use crate::entry::Entry;
use crate::time::Timestamp;

use super::ber::BerError;
use super::bind::Credentials;
use super::failure::{Cause, Step, Trouble};
use super::filter::{Batch, Filter, Lost};
use super::message::{self, DirSyncEnd, Found, Outcome};
use super::wire::Stream;
use super::{gssapi, wire};

/// The control of RFC 2696.
const PAGED_RESULTS: &str = "1.2.840.113556.1.4.319";
/// MS-ADTS 3.1.1.3.4.1.14: deleted objects are found too.
const SHOW_DELETED: &str = "1.2.840.113556.1.4.417";
/// MS-ADTS 3.1.1.3.4.1.3: what changed since a cookie.
pub const DIRSYNC: &str = "1.2.840.113556.1.4.841";
/// For an unbind to be written: politeness must not cost a run its time.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long to wait.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For one answer.
    pub answer: Duration,
    /// For everything.
    pub deadline: Instant,
}

impl Patience {
    /// Waits for one answer.
    pub async fn wait<F: Future>(&self, answer: F) -> Result<F::Output, Cause> {
        self.wait_for(self.answer, Cause::NoAnswer, answer).await
    }

    async fn wait_for<F: Future>(
        &self,
        duration: Duration,
        too_late: fn(Duration) -> Cause,
        answer: F,
    ) -> Result<F::Output, Cause> {
        // A duration beyond what the clock can say is beyond the deadline too.
        let own_end = Instant::now().checked_add(duration);
        let own_end = own_end.filter(|own_end| *own_end <= self.deadline);
        match timeout_at(own_end.unwrap_or(self.deadline).into(), answer).await {
            Ok(output) => Ok(output),
            Err(_) if own_end.is_none() => Err(Cause::Deadline),
            Err(_) => Err(too_late(duration)),
        }
    }
}

/// A connection that may be asked.
pub struct Session {
    ldap: Ldap,
    driver: JoinHandle<ldap3::result::Result<()>>,
    filter: Filter,
    patience: Patience,
    /// When the certificate ends that the server showed, where it showed one.
    pub certificate_ends: Option<Timestamp>,
}

/// A search, apart from its page.
pub struct Query<'query> {
    /// Where.
    pub base: &'query str,
    /// How deep.
    pub reach: Reach,
    /// What (RFC 4515).
    pub filter: &'query str,
    /// The attributes wanted.
    pub attributes: Vec<String>,
}

/// How deep a search goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The base itself.
    Base,
    /// What lies right below the base.
    OneLevel,
    /// The base and everything below.
    Subtree,
}

/// What goes along with a search. All of it is critical: a server that does not know it must say so, and not answer
/// something else.
#[derive(Clone, Copy)]
pub enum With<'cookie> {
    /// A page of so many entries, behind the page that ended with this cookie; empty for the first.
    Page(u32, &'cookie [u8]),
    /// Only what changed since this cookie; empty for everything.
    DirSync(&'cookie [u8]),
    /// Deleted objects too.
    Deleted,
}

/// The answers to one search.
pub struct Answers<'session> {
    session: &'session mut Session,
    stream: SearchStream<'static, String, Vec<String>>,
    batch: Option<Batch>,
    entry: Entry,
}

/// One answer.
pub enum Answer<'answers> {
    /// An object, until the next answer.
    Entry(&'answers Entry),
    /// URLs of a subtree that the server does not hold.
    Reference(Vec<String>),
    /// The last answer.
    End(End),
}

/// How a search ended.
pub struct End {
    /// The result.
    pub outcome: Outcome,
    controls: Vec<RawControl>,
}

impl End {
    /// The cookie of the next page; empty after the last one.
    pub fn cookie(&self) -> Result<Vec<u8>, Cause> {
        let value = self.value_of(PAGED_RESULTS).map_err(Cause::PagingControl)?;
        let value = value.ok_or(Cause::NoPagingControl)?;
        message::paging_cookie(value).map_err(Cause::PagingControl)
    }

    /// How a DirSync answer ended.
    pub fn dirsync(&self) -> Result<DirSyncEnd, Cause> {
        let value = self.value_of(DIRSYNC).map_err(Cause::DirSyncControl)?;
        let value = value.ok_or(Cause::NoDirSyncControl)?;
        message::dirsync_end(value).map_err(Cause::DirSyncControl)
    }

    /// Two that contradict each other: the one says that nothing follows, and the other that something does.
    fn value_of(&self, name: &str) -> Result<Option<&[u8]>, BerError> {
        let mut found = self.controls.iter().filter(|control| control.ctype == name);
        let value = found
            .next()
            .map(|control| control.val.as_deref().unwrap_or_default());
        match found.next() {
            None => Ok(value),
            Some(_) => Err(BerError::Twice),
        }
    }
}

impl Session {
    /// Connects, protects, puts the filter and the LDAP crate on top, and says who we are.
    pub async fn open(
        server: &ServerAddress,
        source: &LdapSource,
        tls: &std::sync::Arc<rustls::ClientConfig>,
        credentials: &Credentials,
        patience: Patience,
    ) -> Result<Session, Trouble> {
        let connect = wire::connect(server, source, tls);
        let mut connection = patience
            .wait_for(source.connect_timeout, Cause::ConnectTimeout, connect)
            .await
            .map_err(|cause| Trouble::new(Step::Connect, cause))??;
        if let Credentials::Gssapi(kerberos) = credentials {
            // The crate would negotiate a layer of its own below TLS that it cannot see, which controllers refuse.
            let certificate = connection.server_certificate.as_deref();
            let stream = connection.stream.as_mut();
            gssapi::bind(kerberos, &server.host, stream, certificate, patience).await?;
        }
        let certificate_ends = connection
            .server_certificate
            .as_deref()
            .and_then(|der| Some(Certificate::read(der).ok()?.not_after));
        let mut session = Session {
            certificate_ends,
            ..Session::over(connection.stream, patience).await?
        };
        match session.bind(credentials).await {
            Ok(()) => Ok(session),
            Err(cause) => {
                session.close().await;
                Err(Trouble::new(Step::Bind(credentials.identity()), cause))
            }
        }
    }

    /// Puts the filter and the LDAP crate on top of a connection. Nothing is said yet.
    pub async fn over(stream: Box<dyn Stream>, patience: Patience) -> Result<Session, Trouble> {
        let broken = |error| Trouble::new(Step::Connect, Cause::Connect(error));
        let (filter, stream) = Filter::start(stream).map_err(broken)?;
        let settings = LdapConnSettings::new().set_std_stream(StdStream::Unix(stream));
        let (connection, ldap) = LdapConnAsync::with_settings(settings, "ldapi:///")
            .await
            .map_err(|error| Trouble::new(Step::Connect, Cause::Library(error.to_string())))?;
        Ok(Session {
            ldap,
            driver: tokio::spawn(connection.drive()),
            filter,
            patience,
            certificate_ends: None,
        })
    }

    async fn bind(&mut self, credentials: &Credentials) -> Result<(), Cause> {
        let patience = self.patience;
        let bound = match credentials {
            Credentials::Anonymous => patience.wait(self.ldap.simple_bind("", "")).await?,
            Credentials::Simple { name, password } => {
                let bound = self.ldap.simple_bind(name, password.reveal());
                patience.wait(bound).await?
            }
            Credentials::External { .. } => patience.wait(self.ldap.sasl_external_bind()).await?,
            // Bound before the crate got the connection.
            Credentials::Gssapi(_) => return Ok(()),
        };
        match bound {
            Ok(result) => success(outcome(result)),
            Err(error) => Err(self.cause(error).await),
        }
    }

    /// One entry by its name: none or one, or an error.
    pub async fn read_entry(
        &mut self,
        dn: &str,
        attributes: Vec<String>,
    ) -> Result<Vec<Entry>, Cause> {
        let query = Query {
            base: dn,
            reach: Reach::Base,
            filter: "(objectClass=*)",
            attributes,
        };
        self.read_query(&query).await
    }

    /// The answer to a search that finds one entry at most.
    pub async fn read_query(&mut self, query: &Query<'_>) -> Result<Vec<Entry>, Cause> {
        let mut answers = self.search(query, &[]).await?;
        let mut entries = Vec::new();
        loop {
            match answers.next().await? {
                Answer::Entry(entry) if entries.is_empty() => entries.push(entry.clone()),
                Answer::Entry(_) => return Err(Cause::TooManyEntries { asked: 1 }),
                // Whoever refers to somebody else has not said that there is no entry; below a base, others hold other parts.
                Answer::Reference(_) if matches!(query.reach, Reach::Base) => {
                    return Err(Cause::Entry("a reference where an entry was asked for"));
                }
                Answer::Reference(_) => {}
                Answer::End(end) => {
                    success_behind(!entries.is_empty(), end.outcome)?;
                    return Ok(entries);
                }
            }
        }
    }

    /// To be called behind the last answer that counts. Whatever a server sends behind a result is out of turn, and may be
    /// what belonged in front of it; it is met on the way to the answer of one question more. That the server has gone
    /// meanwhile says nothing against what it had told.
    pub async fn expect_nothing_behind(&mut self) -> Result<(), Cause> {
        const NO_ATTRIBUTES: &str = "1.1";
        let asked = self.read_entry("", vec![NO_ATTRIBUTES.to_owned()]).await;
        match asked {
            Ok(_) | Err(Cause::Refused(_)) => Ok(()),
            Err(Cause::Lost(lost @ (Lost::Closed | Lost::Broken(_) | Lost::Notice(_)))) => {
                self.filter.tell_again(lost);
                Ok(())
            }
            Err(cause) => Err(cause),
        }
    }

    /// Asks; the answers are then taken one by one.
    pub async fn search(
        &mut self,
        query: &Query<'_>,
        with: &[With<'_>],
    ) -> Result<Answers<'_>, Cause> {
        if !with.is_empty() {
            let controls: Vec<RawControl> = with.iter().map(control).collect();
            self.ldap.with_controls(controls);
        }
        let scope = match query.reach {
            Reach::Base => Scope::Base,
            Reach::OneLevel => Scope::OneLevel,
            Reach::Subtree => Scope::Subtree,
        };
        let sent =
            self.ldap
                .streaming_search(query.base, scope, query.filter, query.attributes.clone());
        match self.patience.wait(sent).await? {
            Ok(stream) => Ok(Answers {
                session: self,
                stream,
                batch: None,
                entry: Entry::default(),
            }),
            Err(error) => Err(self.cause(error).await),
        }
    }

    /// Unbinds, so that the server does not log a lost connection.
    pub async fn close(mut self) {
        let left = self
            .patience
            .deadline
            .saturating_duration_since(Instant::now());
        let farewell = FAREWELL.min(left);
        let _ = tokio::time::timeout(farewell, self.ldap.unbind()).await;
        drop(self.ldap);
        self.filter.flushed(farewell).await;
    }

    /// The true cause of an error of the crate: the filter knows how a connection ended, the driver why it gave up.
    async fn cause(&mut self, error: LdapError) -> Cause {
        if let LdapError::FilterParsing = error {
            return Cause::Filter;
        }
        if let Some(lost) = self.filter.lost() {
            return wire::cause_of_loss(lost);
        }
        let ended = tokio::time::timeout(FAREWELL, &mut self.driver).await;
        Cause::Library(match ended {
            Ok(Ok(Err(reason))) => format!("the LDAP library gave up: {reason}"),
            Ok(Err(panic)) => format!("the LDAP library failed: {panic}"),
            Ok(Ok(Ok(()))) | Err(_) => format!("the LDAP library gave up: {error}"),
        })
    }
}

impl Answers<'_> {
    /// The next answer. Not to be called again after the end or an error.
    pub async fn next(&mut self) -> Result<Answer<'_>, Cause> {
        loop {
            if let Some(batch) = &mut self.batch {
                let message = batch.next();
                let message =
                    message.map_err(|error| Cause::Lost(Lost::Malformed(error.into())))?;
                if let Some(message) = message {
                    return match message::found(message, &mut self.entry).map_err(Cause::Entry)? {
                        Found::Entry => Ok(Answer::Entry(&self.entry)),
                        Found::Reference(urls) => Ok(Answer::Reference(urls)),
                    };
                }
                if batch.is_last {
                    return self.end().await.map(Answer::End);
                }
            }
            // The batch before is dropped first: that makes room for this one.
            self.batch = None;
            let id = u32::try_from(self.stream.ldap_handle().last_id()).ok();
            let found = self.session.filter.found();
            let found = self.session.patience.wait(found).await?;
            let Some(batch) = found else {
                return Err(self.session.cause(LdapError::EndOfStream).await);
            };
            // Others are left over from a search that was given up.
            self.batch = Some(batch).filter(|batch| Some(batch.search_id) == id);
        }
    }

    /// The result, of which the filter says that it came.
    async fn end(&mut self) -> Result<End, Cause> {
        match self.session.patience.wait(self.stream.next()).await? {
            Ok(None) => {
                // Taken, not `finish()`ed: that one invents a result where there is none.
                let result = self.stream.res.take();
                let mut result =
                    result.ok_or_else(|| Cause::Library("an end without a result".into()))?;
                let controls = std::mem::take(&mut result.ctrls).into_iter();
                Ok(End {
                    outcome: outcome(result),
                    controls: controls.map(|Control(_, control)| control).collect(),
                })
            }
            Ok(Some(_)) => Err(Cause::Library("an answer that never reached it".into())),
            Err(error) => Err(self.session.cause(error).await),
        }
    }
}

/// Success, or the refusal as a cause.
pub fn success(outcome: Outcome) -> Result<(), Cause> {
    if outcome.code == 0 {
        Ok(())
    } else {
        Err(Cause::Refused(outcome))
    }
}

/// What was asked for is not there (RFC 4511 appendix A.2).
pub const NO_SUCH_OBJECT: u32 = 32;

/// The same of a search that may find nothing: who has told something of an object is not believed that it is not there.
pub fn success_behind(is_any_told: bool, outcome: Outcome) -> Result<(), Cause> {
    if is_any_told && outcome.code == NO_SUCH_OBJECT {
        return Err(Cause::Entry(
            "what it found, and behind it that it is not there",
        ));
    }
    success(outcome)
}

fn outcome(result: LdapResult) -> Outcome {
    Outcome {
        code: result.rc,
        matched: result.matched,
        diagnostic: result.text,
        referrals: result.refs,
    }
}

fn control(with: &With<'_>) -> RawControl {
    let critical = |name: &str, value| RawControl {
        ctype: name.to_owned(),
        crit: true,
        val: value,
    };
    match with {
        With::Page(size, cookie) => {
            let control = PagedResults {
                size: i32::try_from(*size).unwrap_or(i32::MAX),
                cookie: cookie.to_vec(),
            };
            control.critical().into()
        }
        With::DirSync(cookie) => critical(DIRSYNC, Some(message::dirsync_request(cookie))),
        With::Deleted => critical(SHOW_DELETED, None),
    }
}
