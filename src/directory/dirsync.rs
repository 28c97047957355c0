//! Following the changes of a directory between complete reads (DirSync, MS-ADTS 3.1.1.3.4.1.3).
//!
//! DirSync is only believed about *which* objects changed. Each of them is then read again in the ordinary way, by its
//! `objectGUID`, with the filter and the attributes of a complete read; so there is one way from an entry to a record, and
//! nothing is pieced together from differences. DirSync says nothing of the children of a container that was renamed or
//! moved, so everything below such an object is read again too. It covers a whole naming context: what lies outside the
//! configured bases is left out here.
//!
//! A cookie is taken *before* a complete read, with a filter that nothing matches: what changes during the read is then
//! reported again by the next question, never lost.
//!
//! Invariant: [`Following::follow`] returns changes only after the server said that nothing more is to be told, and after each
//! object told was read again or is gone.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::config::{Incremental, LdapSource};
use crate::current::Changes;
use crate::dn::DistinguishedName;
use crate::entry::Entry;
use crate::record::{ATTRIBUTES, OBJECT_GUID, Record};
use crate::snapshot::{Cursor, Reported, SourceProgress};

use super::Earlier;
use super::failure::{Cause, Step, Trouble};
use super::paged::{self, Found};
use super::range;
use super::rootdse::RootDse;
use super::session::{
    Answer, NO_SUCH_OBJECT, Query, Reach, Session, With, success, success_behind,
};

/// More objects than these are not read one by one: a complete read is then cheaper, and bounded.
const CHANGES_MAX: usize = 2_000;

/// More of what changed is not held in memory: a complete read says it too, and hands on what it finds.
const CHANGES_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Names of more objects are not held either.
const REPORTS_MAX: usize = 500_000;

/// Answers without an entry that still say that more follows: a server that looks at a large directory for nobody gives
/// some, but each brings it further. So many in a row lead nowhere, and neither does one that stands still.
const EMPTY_ROUNDS_MAX: u32 = 10_000;

const NOBODY: &str = "(!(objectClass=*))";
const EVERYBODY: &str = "(objectClass=*)";
const IS_DELETED: &str = "isDeleted";
/// Reported when an object is renamed and when it is moved; without asking for them, both stay silent.
const NAME: &str = "name";
const PARENT_GUID: &str = "parentGUID";

const GUID_OCTETS: usize = 16;

/// The container of deleted objects, by its well-known GUID (MS-ADTS 6.1.1.4.2).
const DELETED_OBJECTS: &str = "18E2EA80684F11D2B9AA00C04F79F805";

/// What can be followed on a server.
#[derive(Clone, Copy)]
pub struct Following<'read> {
    naming_context: &'read str,
    source: &'read LdapSource,
}

/// What is known of an object that was reported.
#[derive(Clone, Copy, Debug, Default)]
struct Report {
    is_deleted: bool,
    may_have_moved: bool,
}

impl<'read> Following<'read> {
    /// Whether the changes of this source can be followed on this server, or why not.
    pub fn on(
        source: &'read LdapSource,
        server: &'read RootDse,
    ) -> Result<Following<'read>, &'static str> {
        if source.incremental == Incremental::Off {
            return Err("`incremental` is \"off\"");
        }
        if source.filter != LdapSource::DEFAULT_FILTER {
            return Err("`filter` is not the default one");
        }
        if !server.counts_changes() {
            return Err("the server does not offer DirSync");
        }
        let naming_context = server.default_naming_context.as_deref();
        let naming_context = naming_context.ok_or("the server names no naming context")?;
        let root = DistinguishedName::parse(naming_context)
            .map_err(|_| "the naming context of the server is no distinguished name")?;
        let parsed = server.naming_contexts.iter();
        let parsed = parsed.filter_map(|name| DistinguishedName::parse(name).ok());
        let others: Vec<_> = parsed.filter(|other| !root.is_at_or_under(other)).collect();
        let is_inside = |base: &String| {
            DistinguishedName::parse(base).is_ok_and(|base| {
                base.is_at_or_under(&root) && !others.iter().any(|other| base.is_at_or_under(other))
            })
        };
        if !source.bases.iter().all(is_inside) {
            return Err("a base lies outside of the server's own naming context");
        }
        Ok(Following {
            naming_context,
            source,
        })
    }

    fn trouble(&self, cause: Cause) -> Trouble {
        let naming_context = self.naming_context.to_owned();
        Trouble::new(Step::DirSync { naming_context }, cause)
    }

    /// To be called before a complete read: a cursor for everything that happens from now on (`None` where the server refuses
    /// it), and what was reported since the earlier one.
    pub async fn begin(
        &self,
        session: &mut Session,
        earlier: Option<Earlier<'_>>,
    ) -> Result<(Option<Cursor>, Option<Reported>), Trouble> {
        if let Some(earlier) = earlier
            && let Some((reports, cookie)) = self.reports(session, earlier.cursor).await?
        {
            let mut reported = Reported::default();
            reported.add(reports);
            return Ok((Some(self.cursor(session, cookie).await?), Some(reported)));
        }
        match self.ask(session, NOBODY, Vec::new()).await {
            Ok((_, cookie)) => Ok((Some(self.cursor(session, cookie).await?), None)),
            Err(Cause::Refused(outcome)) if self.source.incremental == Incremental::Auto => {
                tracing::debug!(
                    "{}: no DirSync: {}",
                    self.naming_context,
                    Cause::Refused(outcome)
                );
                Ok((None, None))
            }
            Err(cause) => Err(self.trouble(cause)),
        }
    }

    /// To be called after a complete read: adds what was reported while it was under way. The cursor stays where it is.
    pub async fn report_on(
        &self,
        session: &mut Session,
        cursor: &Cursor,
        reported: &mut Reported,
    ) -> Result<(), Trouble> {
        if let Some((reports, _)) = self.reports(session, cursor).await? {
            reported.add(reports);
        }
        Ok(())
    }

    /// What changed since a cursor. `None` where only a complete read can say: the cursor is not known any more, or there is
    /// too much of it.
    pub async fn follow(
        &self,
        session: &mut Session,
        cursor: &Cursor,
        progress: &SourceProgress,
    ) -> Result<Option<(Changes, Cursor)>, Trouble> {
        let Some((reports, cookie)) = self.reports(session, cursor).await? else {
            return Ok(None);
        };
        if reports.len() > CHANGES_MAX {
            tracing::info!(
                "{}: {} objects changed, too many to follow: a complete read",
                self.naming_context,
                reports.len()
            );
            return Ok(None);
        }
        if !reports.is_empty() {
            self.check_bases(session).await?;
        }
        let mut rereading = Rereading {
            following: *self,
            session,
            progress,
            changes_bytes: 0,
            changes: Changes::default(),
        };
        for (guid, report) in reports {
            match rereading.read(guid, report).await {
                Ok(()) => {}
                // One object that the server will not show must not keep all others waiting.
                Err(trouble) if matches!(trouble.cause, Cause::Refused(_) | Cause::Entry(_)) => {
                    tracing::info!(
                        "{}: what changed cannot be read again ({}): a complete read",
                        self.naming_context,
                        trouble.cause
                    );
                    return Ok(None);
                }
                Err(trouble) => return Err(trouble),
            }
            if rereading.changes_bytes > CHANGES_BYTES_MAX {
                tracing::info!(
                    "{}: what changed takes more than {CHANGES_BYTES_MAX} bytes, too many to follow: a complete read",
                    self.naming_context
                );
                return Ok(None);
            }
        }
        let changes = rereading.changes;
        super::nothing_behind(session).await?;
        let cursor = Cursor {
            cookie: BASE64.encode(cookie),
            // Who is shown a deletion sees deletions; who saw them before and is shown none sees them still.
            sees_deletions: cursor.sees_deletions || !changes.deleted.is_empty(),
            ..cursor.clone()
        };
        Ok(Some((changes, cursor)))
    }

    /// A base that is gone is an error of a complete read; it must not become a base that has lost all its objects.
    async fn check_bases(&self, session: &mut Session) -> Result<(), Trouble> {
        for base in &self.source.bases {
            let read = session.read_entry(base, vec![OBJECT_GUID.to_owned()]).await;
            let (base, number) = (base.clone(), 1);
            read.map_err(|cause| Trouble::new(Step::Page { base, number }, cause))?;
        }
        Ok(())
    }

    async fn cursor(&self, session: &mut Session, cookie: Vec<u8>) -> Result<Cursor, Trouble> {
        Ok(Cursor {
            naming_context: self.naming_context.to_owned(),
            cookie: BASE64.encode(cookie),
            sees_deletions: self
                .sees_deletions(session)
                .await
                .map_err(|cause| self.trouble(cause))?,
        })
    }

    /// Whether the account is shown deleted objects: it needs a right on their container that accounts do not have by
    /// default, and without it no deletion is ever reported to it.
    async fn sees_deletions(&self, session: &mut Session) -> Result<bool, Cause> {
        let query = Query {
            base: &format!("<WKGUID={DELETED_OBJECTS},{}>", self.naming_context),
            reach: Reach::OneLevel,
            filter: "(isDeleted=TRUE)",
            attributes: vec![OBJECT_GUID.to_owned()],
        };
        match has_any(session, &query, &[With::Page(1, &[]), With::Deleted]).await {
            Err(Cause::Refused(_)) => Ok(false),
            found => found,
        }
    }

    /// Which objects changed since a cursor. `None`: the server does not know the cursor, or there are too many.
    async fn reports(
        &self,
        session: &mut Session,
        cursor: &Cursor,
    ) -> Result<Option<(BTreeMap<Vec<u8>, Report>, Vec<u8>)>, Trouble> {
        let Ok(cookie) = BASE64.decode(&cursor.cookie) else {
            return Ok(None);
        };
        match self.ask(session, EVERYBODY, cookie).await {
            Ok((Some(reports), cookie)) => Ok(Some((reports, cookie))),
            Ok((None, _)) => {
                tracing::info!(
                    "{}: more than {REPORTS_MAX} objects changed, too many to follow: a complete read",
                    self.naming_context
                );
                Ok(None)
            }
            Err(Cause::Refused(outcome)) => {
                tracing::info!(
                    "{}: the changes cannot be followed on ({}): a complete read",
                    self.naming_context,
                    Cause::Refused(outcome)
                );
                Ok(None)
            }
            Err(cause) => Err(self.trouble(cause)),
        }
    }

    /// Asks until the server has nothing more to tell. `None` instead of more than [`REPORTS_MAX`] reports.
    async fn ask(
        &self,
        session: &mut Session,
        filter: &str,
        mut cookie: Vec<u8>,
    ) -> Result<(Option<BTreeMap<Vec<u8>, Report>>, Vec<u8>), Cause> {
        let mut reports: Option<BTreeMap<Vec<u8>, Report>> = Some(BTreeMap::new());
        let mut empty_rounds_count = 0;
        let query = Query {
            base: self.naming_context,
            reach: Reach::Subtree,
            filter,
            attributes: (ATTRIBUTES.iter())
                .chain(&[IS_DELETED, NAME, PARENT_GUID])
                .map(|name| (*name).to_owned())
                .collect(),
        };
        loop {
            let mut answers = session.search(&query, &[With::DirSync(&cookie)]).await?;
            let mut is_empty = true;
            let end = loop {
                match answers.next().await? {
                    Answer::Entry(entry) => {
                        is_empty = false;
                        let (guid, report) = report(entry)?;
                        if let Some(reports) = &mut reports {
                            let known = reports.entry(guid).or_default();
                            // The last word on being deleted, and every word on having moved.
                            known.is_deleted = report.is_deleted;
                            known.may_have_moved |= report.may_have_moved;
                        }
                        reports = reports.filter(|reports| reports.len() <= REPORTS_MAX);
                    }
                    Answer::Reference(_) => {}
                    Answer::End(end) => break end,
                }
            };
            let answered = end.dirsync();
            success(end.outcome)?;
            let answered = answered?;
            if !answered.has_more {
                return Ok((reports, answered.cookie));
            }
            empty_rounds_count = if is_empty { empty_rounds_count + 1 } else { 0 };
            if empty_rounds_count == EMPTY_ROUNDS_MAX || (is_empty && cookie == answered.cookie) {
                return Err(Cause::EmptyPages(empty_rounds_count));
            }
            cookie = answered.cookie;
        }
    }

    /// Whether a name lies where the source is read. A name that cannot be parsed does: when in doubt, the recipient counts.
    fn covers(&self, name: &str) -> bool {
        let bases = &self.source.bases;
        bases.is_empty()
            || DistinguishedName::parse(name).map_or(true, |name| {
                bases
                    .iter()
                    .filter_map(|base| DistinguishedName::parse(base).ok())
                    .any(|base| name.is_at_or_under(&base))
            })
    }
}

impl Reported {
    fn add(&mut self, reports: BTreeMap<Vec<u8>, Report>) {
        self.has_moves |= reports.values().any(|report| report.may_have_moved);
        self.guids.extend(reports.into_keys());
    }
}

fn report(entry: &Entry) -> Result<(Vec<u8>, Report), Cause> {
    let guid = entry.values(OBJECT_GUID).next();
    let guid = guid.filter(|guid| guid.len() == GUID_OCTETS);
    let guid = guid.ok_or(Cause::Entry("a change of an object without objectGUID"))?;
    let is_deleted = entry
        .values(IS_DELETED)
        .any(|value| value.eq_ignore_ascii_case(b"TRUE"));
    let may_have_moved = [NAME, PARENT_GUID]
        .iter()
        .any(|name| entry.values(name).next().is_some());
    Ok((
        guid.to_vec(),
        Report {
            is_deleted,
            may_have_moved,
        },
    ))
}

/// Whether a search for a page of one entry finds any.
async fn has_any(
    session: &mut Session,
    query: &Query<'_>,
    with: &[With<'_>],
) -> Result<bool, Cause> {
    let (mut is_any, mut is_any_elsewhere) = (false, false);
    let mut answers = session.search(query, with).await?;
    loop {
        match answers.next().await? {
            Answer::Entry(_) if is_any => return Err(Cause::TooManyEntries { asked: 1 }),
            Answer::Entry(_) => is_any = true,
            Answer::Reference(_) => is_any_elsewhere = true,
            Answer::End(end) => {
                return success_behind(is_any || is_any_elsewhere, end.outcome).map(|()| is_any);
            }
        }
    }
}

/// Reading again what was reported.
struct Rereading<'read, 'session> {
    following: Following<'read>,
    session: &'session mut Session,
    progress: &'read SourceProgress,
    /// What they take, and over the limit also what was not taken.
    changes_bytes: usize,
    changes: Changes,
}

impl Rereading<'_, '_> {
    async fn read(&mut self, guid: Vec<u8>, report: Report) -> Result<(), Trouble> {
        if report.is_deleted {
            self.changes.deleted.push(guid);
            return Ok(());
        }
        let base = format!("<GUID={}>", dashed(&guid));
        match self.read_object(&base).await? {
            Some(record) if record.view().guid() != guid => {
                // The account may not read its objectGUID any more, say: it could not be told from others.
                const OTHER: Cause =
                    Cause::Entry("an object without the objectGUID that was asked for");
                return Err(self.following.trouble(OTHER));
            }
            Some(record) => self.take(record),
            None => self.changes.gone.push(guid),
        }
        if report.may_have_moved && self.has_children(&base).await? {
            self.read_below(&base).await?;
        }
        Ok(())
    }

    /// The object itself, if it is still there and a recipient.
    async fn read_object(&mut self, base: &str) -> Result<Option<Record>, Trouble> {
        let query = Query {
            base,
            reach: Reach::Base,
            filter: &self.following.source.filter,
            attributes: ATTRIBUTES.iter().map(|name| (*name).to_owned()).collect(),
        };
        let trouble = |cause| {
            let (base, number) = (base.to_owned(), 1);
            Trouble::new(Step::Page { base, number }, cause)
        };
        let entry = match self.session.read_query(&query).await {
            Ok(entries) => entries.into_iter().next(),
            Err(Cause::Refused(outcome)) if outcome.code == NO_SUCH_OBJECT => None,
            Err(cause) => return Err(trouble(cause)),
        };
        let Some(mut entry) = entry else {
            return Ok(None);
        };
        if range::has_range(&entry) {
            entry = range::complete(self.session, &entry, ATTRIBUTES).await?;
        }
        self.progress.count_entry();
        Ok(Some(Record::from_entry(&entry)))
    }

    async fn has_children(&mut self, base: &str) -> Result<bool, Trouble> {
        let query = Query {
            base,
            reach: Reach::OneLevel,
            filter: EVERYBODY,
            attributes: vec![OBJECT_GUID.to_owned()],
        };
        match has_any(self.session, &query, &[With::Page(1, &[])]).await {
            Err(Cause::Refused(outcome)) if outcome.code == NO_SUCH_OBJECT => Ok(false),
            // A container that cannot be looked into now is not an empty one.
            found => found.map_err(|cause| self.following.trouble(cause)),
        }
    }

    async fn read_below(&mut self, base: &str) -> Result<(), Trouble> {
        let source = self.following.source;
        let mut records = Vec::new();
        let mut bytes = self.changes_bytes;
        let mut sink = |record: Record| {
            bytes += bytes_of(&record);
            // Read to its end all the same: the connection answers one search at a time.
            if bytes <= CHANGES_BYTES_MAX {
                records.push(record);
            }
            Ok(())
        };
        paged::read_base(
            self.session,
            base,
            &source.filter,
            source.page_size,
            &mut Found::into(&mut sink),
            self.progress,
        )
        .await?;
        for record in records {
            self.take(record);
        }
        self.changes_bytes = bytes;
        Ok(())
    }

    fn take(&mut self, record: Record) {
        self.changes_bytes += bytes_of(&record);
        if self.following.covers(record.view().dn()) {
            self.changes.changed.push(record);
        } else {
            self.changes.gone.push(record.view().guid().to_vec());
        }
    }
}

fn bytes_of(record: &Record) -> usize {
    record.view().octets().len() + size_of::<Record>()
}

/// A GUID as it stands in a name (MS-DTYP 2.3.4.3): the first three groups are little-endian numbers.
fn dashed(guid: &[u8]) -> String {
    let hex = crate::hold::hex(guid);
    let octet = |at: usize| hex.get(at * 2..at * 2 + 2).unwrap_or_default();
    let group = |order: &[usize]| order.iter().map(|at| octet(*at)).collect::<String>();
    [
        group(&[3, 2, 1, 0]),
        group(&[5, 4]),
        group(&[7, 6]),
        group(&[8, 9]),
        group(&[10, 11, 12, 13, 14, 15]),
    ]
    .join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guid_is_written_as_names_want_it() {
        let octets: Vec<u8> = (0..16).collect();
        assert_eq!(dashed(&octets), "03020100-0504-0706-0809-0a0b0c0d0e0f");
    }
}
