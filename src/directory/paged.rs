//! The search, page by page, until the server says that nothing is left.
//!
//! The LDAP crate has an adapter for this; it takes a lost connection, a refused page and a missing control for the end
//! of the search (a table would shrink and nobody would know). So the loop is ours, and every way out of it but one is
//! an error.
//!
//! Invariant: [`read_base`] returns `Ok` only after a page that ended with success and an empty cookie.

use std::collections::BTreeSet;

use crate::entry::Entry;
use crate::record::{ATTRIBUTES, Record};
use crate::snapshot::Progress;

use super::failure::{Cause, Step, Trouble};
use super::range;
use super::session::{Answer, Query, Reach, Session, With, success};

/// A server may give an empty page now and then (it looked at many objects and found none); so many in a row lead
/// nowhere.
const EMPTY_PAGES_MAX: u32 = 100;

/// What entries may take in memory: three million recipients with ten addresses each. A directory that gives more is
/// not one of a mail organisation, or does not end.
const READ_BYTES_MAX: usize = 2 * 1024 * 1024 * 1024;

/// What was read so far, of all bases.
#[derive(Default)]
pub struct Found {
    /// The facts of every entry.
    pub records: Vec<Record>,
    /// Search references, each once.
    pub references: BTreeSet<String>,
}

/// What may still be kept.
pub struct Budget {
    bytes_left: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Budget {
            bytes_left: READ_BYTES_MAX,
        }
    }
}

impl Budget {
    /// Accounts for values.
    pub fn spend_values(&mut self, values: &[Vec<u8>]) -> Result<(), Cause> {
        let octets: usize = values.iter().map(Vec::len).sum();
        self.spend(octets.saturating_add(size_of_val(values)))
    }

    /// Accounts for an entry.
    pub fn spend_entry(&mut self, entry: &Entry) -> Result<(), Cause> {
        self.spend(entry.dn.len() + size_of::<Record>())?;
        entry.attributes.iter().try_for_each(|(name, values)| {
            self.spend(name.len())?;
            self.spend_values(values)
        })
    }

    fn spend(&mut self, bytes: usize) -> Result<(), Cause> {
        match self.bytes_left.checked_sub(bytes) {
            Some(left) => {
                self.bytes_left = left;
                Ok(())
            }
            None => Err(Cause::TooLarge(READ_BYTES_MAX)),
        }
    }
}

/// Reads everything below one base that the filter lets through.
pub async fn read_base(
    session: &mut Session,
    base: &str,
    filter: &str,
    page_size: u32,
    found: &mut Found,
    budget: &mut Budget,
    progress: &Progress,
) -> Result<(), Trouble> {
    let query = Query {
        base,
        reach: Reach::Subtree,
        filter,
        attributes: ATTRIBUTES.iter().map(|name| (*name).to_owned()).collect(),
    };
    let mut cookie = Vec::new();
    let mut empty_pages_count = 0;
    let mut number = 0;
    loop {
        number += 1;
        let trouble = |cause| {
            let base = base.to_owned();
            Trouble::new(Step::Page { base, number }, cause)
        };
        let read = read_page(session, &query, page_size, &cookie, found, budget, progress)
            .await
            .map_err(trouble)?;
        // Between pages: the connection answers one search at a time.
        for entry in read.in_pieces {
            let entry = range::complete(session, entry, ATTRIBUTES, budget).await?;
            found.records.push(Record::from_entry(entry));
        }
        if read.cookie.is_empty() {
            return Ok(());
        }
        cookie = read.cookie;
        empty_pages_count = if read.entries_count == 0 {
            empty_pages_count + 1
        } else {
            0
        };
        if empty_pages_count == EMPTY_PAGES_MAX {
            return Err(trouble(Cause::EmptyPages(EMPTY_PAGES_MAX)));
        }
    }
}

struct PageRead {
    entries_count: u32,
    in_pieces: Vec<Entry>,
    cookie: Vec<u8>,
}

async fn read_page(
    session: &mut Session,
    query: &Query<'_>,
    asked: u32,
    cookie: &[u8],
    found: &mut Found,
    budget: &mut Budget,
    progress: &Progress,
) -> Result<PageRead, Cause> {
    let mut entries_count = 0;
    let mut in_pieces = Vec::new();
    let mut answers = session.search(query, &[With::Page(asked, cookie)]).await?;
    loop {
        match answers.next().await? {
            Answer::Entry(entry) => {
                entries_count += 1;
                if entries_count > asked {
                    return Err(Cause::TooManyEntries { asked });
                }
                budget.spend_entry(&entry)?;
                if range::has_range(&entry) {
                    in_pieces.push(entry);
                } else {
                    found.records.push(Record::from_entry(entry));
                }
                progress.count_entry();
            }
            Answer::Reference(urls) => {
                for url in urls {
                    budget.spend(url.len() + size_of::<String>())?;
                    found.references.insert(url);
                }
            }
            Answer::End(end) => {
                // The result first: what a refusal says counts more than that it came without a control.
                let cookie = end.cookie();
                success(end.outcome)?;
                return Ok(PageRead {
                    entries_count,
                    in_pieces,
                    cookie: cookie?,
                });
            }
        }
    }
}
