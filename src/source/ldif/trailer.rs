//! What `ldapsearch` and `ldbsearch` say about their own work, held against what was read.
//!
//! Seen in the output of OpenLDAP 2.5 and ldb 2.6. Plain ldapsearch: a head of comments for each page, a record
//! `search`/`result` with its code and cookie for each page, counts once. `-L`: the head, no result code, counts, the
//! cookie as a comment. `-LL` and `-LLL`: nothing but the cookie. ldbsearch: numbered records, and counts. A count of
//! zero is not written (`numEntries` is absent then).
//!
//! Counts are about what came since the last counts, so that several exports can stand one after the other.

use super::{Attribute, LdifError};

const RESULT: &str = "result: 0";
const COUNTS: &str = "# numResponses";
const RETURNED: &str = "# returned … records";

/// What is owed and what was counted since the last counts.
#[derive(Default)]
pub(super) struct Trailer {
    entries_count: u64,
    references_count: u64,
    /// The line that promises a `result:`.
    owes_result: Option<usize>,
    /// The line that promises counts, and which.
    owes_counts: Option<(usize, &'static str)>,
    /// The line of a cookie that asks for another page.
    more_pages: Option<usize>,
    claimed: Option<Claimed>,
    /// A head was there: of output with a comment before each entry that holds its name.
    has_head: bool,
}

/// Counts that the text gives: line and number; all are known when something else follows.
#[derive(Default)]
struct Claimed {
    entries: Option<(usize, u64)>,
    references: Option<(usize, u64)>,
    both: Option<(usize, u64)>,
}

/// The question of `ldapsearch -E pr=N` without `noprompt`, which it writes between the pages.
pub(super) fn is_prompt(line: &str) -> bool {
    line.starts_with("Press [size] Enter for the next {")
}

impl Trailer {
    pub(super) fn count_entry(&mut self) {
        self.entries_count += 1;
    }

    pub(super) fn count_reference(&mut self) {
        self.references_count += 1;
    }

    /// Whether the text is of a kind in which the name of every entry stands in a comment before it.
    pub(super) fn has_names_in_comments(&self) -> bool {
        self.has_head
    }

    pub(super) fn begin_entry(&mut self) -> Result<(), LdifError> {
        self.settle()
    }

    pub(super) fn begin_result(&mut self, line: usize) {
        self.owes_result = Some(line);
    }

    /// A line of a search result.
    pub(super) fn result_attribute(&mut self, attribute: &Attribute<'_>) -> Result<(), LdifError> {
        if attribute.is("result") {
            let result = attribute.text()?;
            if result.split(' ').next() != Some("0") {
                return Err(LdifError::SearchFailed {
                    line: attribute.line,
                    result,
                });
            }
            self.owes_result = None;
        } else if attribute.is("pagedresults") {
            self.cookie(attribute.line, &attribute.text()?);
        }
        Ok(())
    }

    /// A comment, without its `#`.
    pub(super) fn comment(&mut self, line: usize, comment: &str) -> Result<(), LdifError> {
        let comment = comment.trim();
        match comment {
            "extended LDIF" => {
                self.settle()?;
                if let Some(line) = self.owes_result {
                    return Err(no_end(line, RESULT));
                }
                self.owes_result = Some(line);
            }
            "LDAPv3" => {
                self.settle()?;
                self.has_head = true;
                self.owes_counts = self.owes_counts.or(Some((line, COUNTS)));
            }
            _ => match comment.split_once(' ') {
                // Without a comma: that of base64 has none, that of a name in its place has.
                Some(("pagedresults:", pages)) if !pages.contains(',') => self.cookie(line, pages),
                Some((name, rest)) => self.count(line, name, rest),
                None => {}
            },
        }
        Ok(())
    }

    /// The end of the text.
    pub(super) fn finish(&mut self) -> Result<(), LdifError> {
        self.settle()?;
        if let Some(line) = self.owes_result {
            return Err(no_end(line, RESULT));
        }
        if let Some(line) = self.more_pages {
            return Err(LdifError::MorePages { line });
        }
        match self.owes_counts {
            Some((line, missing)) => Err(no_end(line, missing)),
            None => Ok(()),
        }
    }

    /// `cookie=AA==`, with an estimate before it where the server gives one; the last cookie is empty.
    fn cookie(&mut self, line: usize, pages: &str) {
        let is_last = pages
            .rsplit_once("cookie=")
            .is_some_and(|(_, cookie)| cookie.trim().is_empty());
        self.more_pages = (!is_last).then_some(line);
    }

    fn count(&mut self, line: usize, name: &str, rest: &str) {
        let number = |text: &str| text.parse().ok().map(|count: u64| (line, count));
        match (name, rest) {
            ("numResponses:", count) if number(count).is_some() => {
                self.owes_counts = None;
                self.claimed = Some(Claimed {
                    entries: Some((line, 0)),
                    references: Some((line, 0)),
                    both: None,
                });
            }
            ("numEntries:", count) => self.claim(|claimed| &mut claimed.entries, number(count)),
            ("numReferences:", count) => {
                self.claim(|claimed| &mut claimed.references, number(count));
            }
            ("record", count) if number(count).is_some() => {
                self.owes_counts = self.owes_counts.or(Some((line, RETURNED)));
            }
            ("returned", count) => {
                if let Some(both) = count.strip_suffix(" records").and_then(number) {
                    self.owes_counts = None;
                    self.claimed = Some(Claimed {
                        both: Some(both),
                        ..Claimed::default()
                    });
                }
            }
            (count, "entries") => self.claim(|claimed| &mut claimed.entries, number(count)),
            (count, "referrals") => self.claim(|claimed| &mut claimed.references, number(count)),
            _ => {}
        }
    }

    /// Such a line counts only after the one that begins the counts: elsewhere it is somebody's comment.
    fn claim(
        &mut self,
        which: fn(&mut Claimed) -> &mut Option<(usize, u64)>,
        count: Option<(usize, u64)>,
    ) {
        if let (Some(claimed), Some(count)) = (&mut self.claimed, count) {
            *which(claimed) = Some(count);
        }
    }

    /// Compares what is claimed with what was read, once nothing more can be claimed.
    fn settle(&mut self) -> Result<(), LdifError> {
        let Some(claimed) = self.claimed.take() else {
            return Ok(());
        };
        let (entries, references) = (self.entries_count, self.references_count);
        for (claimed, counted, found) in [
            (claimed.entries, "entries", entries),
            (claimed.references, "references", references),
            (claimed.both, "records", entries + references),
        ] {
            if let Some((line, expected)) = claimed
                && expected != found
            {
                return Err(LdifError::Count {
                    line,
                    counted,
                    expected,
                    found,
                });
            }
        }
        if let Some(line) = self.more_pages {
            return Err(LdifError::MorePages { line });
        }
        (self.entries_count, self.references_count) = (0, 0);
        Ok(())
    }
}

fn no_end(line: usize, missing: &'static str) -> LdifError {
    LdifError::NoEnd { line, missing }
}
