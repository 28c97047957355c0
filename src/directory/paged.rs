//! The search, page by page, until the server says that nothing is left.
//!
//! The LDAP crate has an adapter for this; it takes a lost connection, a refused page and a missing control for the end
//! of the search (a table would shrink and nobody would know). So the loop is ours, and every way out of it but one is
//! an error.
//!
//! Invariant: [`read_base`] and [`read_entries`] return `Ok` only after a page that ended with success and an empty cookie.

use std::collections::BTreeSet;

use crate::entry::Entry;
use crate::record::{ATTRIBUTES, Record};
use crate::records::SpoolError;
use crate::snapshot::SourceProgress;

use super::failure::{Cause, Step, Trouble};
use super::range;
use super::session::{Answer, Query, Reach, Session, With, success};

/// A server may give an empty page now and then (it looked at many objects and found none); so many in a row lead
/// nowhere.
const EMPTY_PAGES_MAX: u32 = 100;

/// A forest has a handful of domains; references are kept between runs.
const REFERENCES_MAX: usize = 1_000;
const REFERENCES_BYTES_MAX: usize = 1024 * 1024;

/// What may be held in memory of what a server sends, beside the message that is looked at: the objects of a page whose
/// values come in pieces, all values of one of them, the entries of a configuration. Four times the largest message; a
/// thousand objects with as many addresses as Active Directory gives at once take as much. Records are handed on one by
/// one, and what they take is bounded by whoever takes them.
const HELD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Takes the records that are read.
pub type Sink<'sink> = &'sink mut dyn FnMut(Record) -> Result<(), SpoolError>;

/// What was read so far, of all bases.
pub struct Found<'sink> {
    /// The facts of every entry go there.
    sink: Sink<'sink>,
    /// Search references, each once.
    pub references: BTreeSet<String>,
}

/// What may still be held.
pub struct Budget {
    bytes_left: usize,
}

impl<'sink> Found<'sink> {
    /// Nothing yet.
    pub fn into(sink: Sink<'sink>) -> Self {
        Found {
            sink,
            references: BTreeSet::new(),
        }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Budget {
            bytes_left: HELD_BYTES_MAX,
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
        let values = entry.values_count() * size_of::<Vec<u8>>();
        self.spend(entry.bytes_count() + values + size_of::<Record>())
    }

    fn spend(&mut self, bytes: usize) -> Result<(), Cause> {
        match self.bytes_left.checked_sub(bytes) {
            Some(left) => {
                self.bytes_left = left;
                Ok(())
            }
            None => Err(Cause::TooLarge(HELD_BYTES_MAX as u64)),
        }
    }
}

/// Reads everything below one base that the filter lets through.
pub async fn read_base(
    session: &mut Session,
    base: &str,
    filter: &str,
    page_size: u32,
    found: &mut Found<'_>,
    progress: &SourceProgress,
) -> Result<(), Trouble> {
    let query = of_recipients(base, filter);
    let mut pages = Pages::of(&query, page_size);
    while !pages.are_over {
        let mut in_pieces = Vec::new();
        // What a page took is free again behind it.
        let mut budget = Budget::default();
        let take = |entry: &Entry| {
            progress.count_entry();
            if range::has_range(entry) {
                budget.spend_entry(entry)?;
                in_pieces.push(entry.clone());
            } else {
                (found.sink)(Record::from_entry(entry))?;
            }
            Ok(())
        };
        pages.next(session, take).await?;
        // Between pages: the connection answers one search at a time.
        for entry in &in_pieces {
            let whole = range::complete(session, entry, ATTRIBUTES).await?;
            let taken = (found.sink)(Record::from_entry(&whole));
            taken.map_err(|error| pages.trouble(error.into()))?;
        }
    }
    found.references.append(&mut pages.references);
    Ok(())
}

/// Reads the first page below a base, to get an impression: its records, and whether more follow. What comes in ranges is there
/// as far as the page has it.
pub async fn read_first_page(
    session: &mut Session,
    base: &str,
    filter: &str,
    page_size: u32,
) -> Result<(Vec<Record>, bool), Trouble> {
    let query = of_recipients(base, filter);
    let mut pages = Pages::of(&query, page_size);
    let mut records = Vec::new();
    let mut budget = Budget::default();
    let take = |entry: &Entry| {
        budget.spend_entry(entry)?;
        records.push(Record::from_entry(entry));
        Ok(())
    };
    pages.next(session, take).await?;
    Ok((records, !pages.are_over))
}

fn of_recipients<'query>(base: &'query str, filter: &'query str) -> Query<'query> {
    Query {
        base,
        reach: Reach::Subtree,
        filter,
        attributes: ATTRIBUTES.iter().map(|name| (*name).to_owned()).collect(),
    }
}

/// Reads every entry that a query finds, for attributes that have one value.
pub async fn read_entries(
    session: &mut Session,
    query: &Query<'_>,
    page_size: u32,
    budget: &mut Budget,
) -> Result<Vec<Entry>, Trouble> {
    let mut all = Vec::new();
    let mut pages = Pages::of(query, page_size);
    while !pages.are_over {
        let take = |entry: &Entry| {
            budget.spend_entry(entry)?;
            all.push(entry.clone());
            Ok(())
        };
        pages.next(session, take).await?;
    }
    Ok(all)
}

/// A search under way.
struct Pages<'query> {
    query: &'query Query<'query>,
    size: u32,
    /// Of the last page read.
    number: u64,
    cookie: Vec<u8>,
    /// The last page ended with success and an empty cookie.
    are_over: bool,
    empty_pages_count: u32,
    references: BTreeSet<String>,
}

impl<'query> Pages<'query> {
    fn of(query: &'query Query<'query>, size: u32) -> Self {
        Pages {
            query,
            size,
            number: 0,
            cookie: Vec::new(),
            are_over: false,
            empty_pages_count: 0,
            references: BTreeSet::new(),
        }
    }

    /// Reads the next page. After an error, what was taken of it counts for nothing.
    async fn next(
        &mut self,
        session: &mut Session,
        take: impl FnMut(&Entry) -> Result<(), Cause>,
    ) -> Result<(), Trouble> {
        self.number += 1;
        let read = self.read(session, take).await;
        let entries_count = read.map_err(|cause| self.trouble(cause))?;
        self.are_over = self.cookie.is_empty();
        self.empty_pages_count = if entries_count == 0 {
            self.empty_pages_count + 1
        } else {
            0
        };
        if !self.are_over && self.empty_pages_count == EMPTY_PAGES_MAX {
            return Err(self.trouble(Cause::EmptyPages(EMPTY_PAGES_MAX)));
        }
        Ok(())
    }

    fn trouble(&self, cause: Cause) -> Trouble {
        let (base, number) = (self.query.base.to_owned(), self.number);
        Trouble::new(Step::Page { base, number }, cause)
    }

    /// Reads a page to its end: how many entries it had.
    async fn read(
        &mut self,
        session: &mut Session,
        mut take: impl FnMut(&Entry) -> Result<(), Cause>,
    ) -> Result<u32, Cause> {
        let mut entries_count = 0;
        let mut answers = session
            .search(self.query, &[With::Page(self.size, &self.cookie)])
            .await?;
        loop {
            match answers.next().await? {
                Answer::Entry(entry) => {
                    if entries_count >= self.size {
                        return Err(Cause::TooManyEntries { asked: self.size });
                    }
                    entries_count += 1;
                    take(entry)?;
                }
                Answer::Reference(urls) => refer(&mut self.references, urls)?,
                Answer::End(end) => {
                    // The result first: what a refusal says counts more than that it came without a control.
                    let cookie = end.cookie();
                    success(end.outcome)?;
                    self.cookie = cookie?;
                    return Ok(entries_count);
                }
            }
        }
    }
}

fn refer(known: &mut BTreeSet<String>, urls: Vec<String>) -> Result<(), Cause> {
    for url in urls {
        let is_new = known.insert(url);
        let bytes = || known.iter().map(String::len).sum::<usize>();
        if is_new && (known.len() > REFERENCES_MAX || bytes() > REFERENCES_BYTES_MAX) {
            return Err(Cause::TooManyReferences(REFERENCES_MAX));
        }
    }
    Ok(())
}
