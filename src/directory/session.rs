//! One connection to one server: bind, search, one answer at a time. The only file that names the LDAP crate.
//!
//! Every wait is bounded by the time for one answer and by the deadline of the run. An error is final: the crate would
//! answer a further question after an error as if all had ended well, so a session that failed is not asked again. Not
//! here: paging (`paged`), ranges (`range`), sockets and TLS (`wire`), the checks of messages (`filter`).
//!
//! Invariant: [`Answer::End`] is only made from a SearchResultDone that the server sent for this very search.

use std::time::{Duration, Instant};

use ldap3::asn1::{PL, StructureTag, TagClass};
use ldap3::controls::{Control, MakeCritical, PagedResults, RawControl};
use ldap3::{
    Ldap, LdapConnAsync, LdapConnSettings, LdapError, LdapResult, ResultEntry, Scope, SearchStream,
    StdStream,
};
use tokio::task::JoinHandle;
use tokio::time::timeout_at;

use crate::config::secret::{Secret, SecretError};
use crate::config::{Bind, LdapSource, ServerAddress};
use crate::entry::Entry;

use super::failure::{Cause, Step, Trouble};
use super::filter::Filter;
use super::message::{self, Outcome};
use super::wire;

/// The control of RFC 2696.
const PAGED_RESULTS: &str = "1.2.840.113556.1.4.319";
/// For an unbind to be written: politeness must not cost a run its time.
const FAREWELL: Duration = Duration::from_secs(1);

const ENTRY_ID: u64 = 4;
const REFERENCE_ID: u64 = 19;

/// Who to be, with the password in memory.
pub enum Credentials {
    /// Nobody.
    Anonymous,
    /// Name and password.
    Simple {
        /// The account.
        name: String,
        /// Never empty (see `SecretPlace::read`).
        password: Secret,
    },
}

impl Credentials {
    /// Reads the password, where there is one.
    pub fn read(bind: &Bind) -> Result<Credentials, SecretError> {
        Ok(match bind {
            Bind::Anonymous => Credentials::Anonymous,
            Bind::Simple { name, password } => Credentials::Simple {
                name: name.clone(),
                password: password.read()?,
            },
        })
    }
}

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
    async fn wait<F: Future>(&self, answer: F) -> Result<F::Output, Cause> {
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
    /// The base and everything below.
    Subtree,
}

/// The page wanted of a search.
pub struct Page<'cookie> {
    /// Entries wanted.
    pub size: u32,
    /// What the page before ended with; empty for the first.
    pub cookie: &'cookie [u8],
}

/// The answers to one search.
pub struct Answers<'session> {
    session: &'session mut Session,
    stream: SearchStream<'static, String, Vec<String>>,
}

/// One answer.
pub enum Answer {
    /// An object.
    Entry(Entry),
    /// URLs of a subtree that the server does not hold.
    Reference(Vec<String>),
    /// The last answer.
    End(End),
}

/// How a search ended.
pub struct End {
    /// The result.
    pub outcome: Outcome,
    /// The value of the paging control, where there was one.
    paging: Option<Vec<u8>>,
}

impl End {
    /// The cookie of the next page; empty after the last one.
    pub fn cookie(&self) -> Result<Vec<u8>, Cause> {
        let value = self.paging.as_ref().ok_or(Cause::NoPagingControl)?;
        message::paging_cookie(value).map_err(Cause::PagingControl)
    }
}

impl Session {
    /// Connects, protects, and puts the filter and the LDAP crate on top.
    pub async fn open(
        server: &ServerAddress,
        source: &LdapSource,
        tls: &std::sync::Arc<rustls::ClientConfig>,
        patience: Patience,
    ) -> Result<Session, Trouble> {
        let connect = wire::connect(server, source, tls);
        let stream = patience
            .wait_for(source.connect_timeout, Cause::ConnectTimeout, connect)
            .await
            .map_err(|cause| Trouble::new(Step::Connect, cause))??;
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
        })
    }

    /// Says who we are.
    pub async fn bind(&mut self, credentials: &Credentials) -> Result<(), Cause> {
        let (name, password) = match credentials {
            Credentials::Anonymous => ("", ""),
            Credentials::Simple { name, password } => (name.as_str(), password.reveal()),
        };
        let bound = self.ldap.simple_bind(name, password);
        match self.patience.wait(bound).await? {
            Ok(result) => {
                self.filter.taken();
                success(outcome(result))
            }
            Err(error) => Err(self.cause(error).await),
        }
    }

    /// What the server proposes as base.
    pub async fn default_naming_context(&mut self) -> Result<String, Cause> {
        let name = self.root_dse("defaultNamingContext").await?;
        name.ok_or(Cause::NoNamingContext)
    }

    /// One value of the root DSE, where it has one.
    pub async fn root_dse(&mut self, attribute: &str) -> Result<Option<String>, Cause> {
        let entries = self.read_entry("", vec![attribute.to_owned()]).await?;
        let value = entries
            .first()
            .and_then(|entry| entry.values(attribute).next());
        let name = value.and_then(|value| std::str::from_utf8(value).ok());
        Ok(name.filter(|name| !name.is_empty()).map(str::to_owned))
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
        let mut answers = self.search(&query, None).await?;
        let mut entries = Vec::new();
        loop {
            match answers.next().await? {
                Answer::Entry(entry) if entries.is_empty() => entries.push(entry),
                Answer::Entry(_) => return Err(Cause::TooManyEntries { asked: 1 }),
                Answer::Reference(_) => {}
                Answer::End(end) => {
                    success(end.outcome)?;
                    return Ok(entries);
                }
            }
        }
    }

    /// Asks; the answers are then taken one by one.
    pub async fn search(
        &mut self,
        query: &Query<'_>,
        page: Option<Page<'_>>,
    ) -> Result<Answers<'_>, Cause> {
        if let Some(page) = page {
            // Critical: a server that cannot page must say so, and not answer with what its size limit lets through.
            let control = PagedResults {
                size: i32::try_from(page.size).unwrap_or(i32::MAX),
                cookie: page.cookie.to_vec(),
            };
            self.ldap.with_controls(control.critical());
        }
        let scope = match query.reach {
            Reach::Base => Scope::Base,
            Reach::Subtree => Scope::Subtree,
        };
        let sent =
            self.ldap
                .streaming_search(query.base, scope, query.filter, query.attributes.clone());
        match self.patience.wait(sent).await? {
            Ok(stream) => Ok(Answers {
                session: self,
                stream,
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
            return Cause::Lost(lost);
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
    pub async fn next(&mut self) -> Result<Answer, Cause> {
        let found = self.session.patience.wait(self.stream.next()).await?;
        match found {
            Ok(Some(item)) => {
                self.session.filter.taken();
                read_item(item)
            }
            Ok(None) => {
                self.session.filter.taken();
                // Taken, not `finish()`ed: that one invents a result where there is none.
                let result = self.stream.res.take();
                let mut result =
                    result.ok_or_else(|| Cause::Library("an end without a result".into()))?;
                let paging = paging_value(std::mem::take(&mut result.ctrls));
                Ok(Answer::End(End {
                    outcome: outcome(result),
                    paging,
                }))
            }
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

fn outcome(result: LdapResult) -> Outcome {
    Outcome {
        code: result.rc,
        matched: result.matched,
        diagnostic: result.text,
        referrals: result.refs,
    }
}

fn paging_value(controls: Vec<Control>) -> Option<Vec<u8>> {
    controls
        .into_iter()
        .map(|Control(_, control): Control| control)
        .find(|control: &RawControl| control.ctype == PAGED_RESULTS)
        .map(|control| control.val.unwrap_or_default())
}

/// Takes an entry or a reference apart. The crate's own `SearchEntry::construct` panics where this returns an error.
fn read_item(item: ResultEntry) -> Result<Answer, Cause> {
    let operation = item.0;
    let id = operation.id;
    let parts = constructed(operation).ok_or(Cause::Entry("an answer without parts"))?;
    match id {
        ENTRY_ID => read_entry(parts).map(Answer::Entry),
        REFERENCE_ID => parts
            .into_iter()
            .map(|url| text(url).ok_or(Cause::Entry("a search reference that is not UTF-8")))
            .collect::<Result<_, _>>()
            .map(Answer::Reference),
        _ => Err(Cause::Entry("an answer that belongs to no search")),
    }
}

fn read_entry(parts: Vec<StructureTag>) -> Result<Entry, Cause> {
    const DAMAGED: Cause = Cause::Entry("an entry that is not built as one");
    let [dn, attributes] = <[StructureTag; 2]>::try_from(parts).map_err(|_| DAMAGED)?;
    let dn = text(dn).ok_or(Cause::Entry("an entry whose DN is not UTF-8"))?;
    let mut entry = Entry {
        dn,
        attributes: Vec::new(),
    };
    for attribute in constructed(attributes).ok_or(DAMAGED)? {
        let parts = constructed(attribute).ok_or(DAMAGED)?;
        let [name, values] = <[StructureTag; 2]>::try_from(parts).map_err(|_| DAMAGED)?;
        let name = text(name).ok_or(Cause::Entry("an attribute whose name is not UTF-8"))?;
        let values = constructed(values)
            .ok_or(DAMAGED)?
            .into_iter()
            .map(|value| octets(value).ok_or(DAMAGED))
            .collect::<Result<_, _>>()?;
        entry.attributes.push((name, values));
    }
    Ok(entry)
}

fn constructed(tag: StructureTag) -> Option<Vec<StructureTag>> {
    match tag.payload {
        PL::C(parts) => Some(parts),
        PL::P(_) => None,
    }
}

fn octets(tag: StructureTag) -> Option<Vec<u8>> {
    const OCTET_STRING_ID: u64 = 4;
    match tag.payload {
        PL::P(octets) if tag.class == TagClass::Universal && tag.id == OCTET_STRING_ID => {
            Some(octets)
        }
        PL::P(_) | PL::C(_) => None,
    }
}

fn text(tag: StructureTag) -> Option<String> {
    octets(tag).and_then(|octets| String::from_utf8(octets).ok())
}
