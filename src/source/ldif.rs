//! A source that is an LDIF export: content records (RFC 2849) as `ldapsearch`, `ldbsearch` and `ldifde` write them.
//!
//! What these programs say about their own work is held against what was read: result codes, paging cookies, counts. A
//! file that begins like their output must end like it. Only the attributes of a [`Record`] are decoded. Not here:
//! whether the file is whole and settled (`file`), and what the records mean.
//!
//! What cannot be seen: `ldapsearch -LLL` (without paging), `-LL` and `ldifde` say nothing at their end, so an export
//! of theirs that was cut exactly at a line end looks like a smaller one; and `-L` writes counts but not the result
//! code, so that a search which the server ended early counts as many as it gave. Plain `ldapsearch` (no `-L`) proves
//! both.
//!
//! Invariant: where [`parse`] succeeds, nothing in the text contradicts that the spool has every record of it.

mod lines;
mod trailer;

use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::config::FileSource;
use crate::entry::Entry;
use crate::record::{ATTRIBUTES, Record};
use crate::records::{Spool, SpoolError};
use crate::snapshot::{Snapshot, SourceProgress};
use crate::time::Timestamp;

use super::file::{self, FileFailure};

use lines::Lines;
use trailer::Trailer;

/// Why the text gave no records.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// It is not a complete export.
    #[error(transparent)]
    Ldif(#[from] LdifError),
    /// A record could not be kept.
    #[error(transparent)]
    Spool(#[from] SpoolError),
}

/// Why a text is not a complete LDIF export.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LdifError {
    /// Neither an attribute nor a comment.
    #[error("the line is not LDIF: it is neither \"attribute: value\" nor a comment")]
    NotAttribute {
        /// The line.
        line: usize,
    },
    /// A line begins with a space, and nothing is before it that it could continue.
    #[error("the line continues nothing: it begins with a space after a blank line")]
    ContinuesNothing {
        /// The line.
        line: usize,
    },
    /// `version: 2`
    #[error("the LDIF version is unknown ({version:?})")]
    Version {
        /// The line.
        line: usize,
        /// What it says.
        version: String,
    },
    /// A record begins with another attribute.
    #[error("the record begins with {attribute:?}, not with \"dn\"")]
    NoDn {
        /// The line.
        line: usize,
        /// How it begins.
        attribute: String,
    },
    /// A `dn:` within a record.
    #[error("a second \"dn\" stands within one record")]
    SecondDn {
        /// The line.
        line: usize,
    },
    /// `attribute:: ` with something else than base64, or with base64 of something else than text where text is needed.
    #[error("the base64 value of {attribute:?} does not decode")]
    Base64 {
        /// The line.
        line: usize,
        /// The attribute.
        attribute: String,
    },
    /// `attribute:< file:///…`
    #[error("the value of {attribute:?} stands in another file")]
    Url {
        /// The line.
        line: usize,
        /// The attribute.
        attribute: String,
    },
    /// A name that ldapsearch writes into a comment, where its line end begins a line of the file.
    #[error("a name holds a line end, and ldapsearch wrote it into a comment as it is")]
    LineEndInName {
        /// The line of the name itself, behind the comment.
        line: usize,
    },
    /// `proxyAddresses;range=0-1499`
    #[error("the export holds only a part of the values: {attribute:?}")]
    Range {
        /// The line.
        line: usize,
        /// The attribute with its options.
        attribute: String,
    },
    /// `changetype: modify` and everything else but `add`.
    #[error("the file holds changes, not entries (changetype: {changetype})")]
    ChangeRecord {
        /// The line.
        line: usize,
        /// The kind of change.
        changetype: String,
    },
    /// The server ended the search with an error.
    #[error("the export is incomplete: the search ended with {result}")]
    SearchFailed {
        /// The line.
        line: usize,
        /// Code and text, as written: `4 Size limit exceeded`.
        result: String,
    },
    /// The last page carried a cookie that asks for another.
    #[error("the export is incomplete: its last page was not the last one of the search")]
    MorePages {
        /// The line of the cookie.
        line: usize,
    },
    /// It begins like the output of a program that writes an end, and has none.
    #[error("the export is incomplete: it has no {missing:?} at its end")]
    NoEnd {
        /// The line that promises it.
        line: usize,
        /// What is missing.
        missing: &'static str,
    },
    /// It says how much it holds, and holds something else.
    #[error("the export is incomplete: it should hold {expected} {counted} and holds {found}")]
    Count {
        /// The line that says so.
        line: usize,
        /// What is counted.
        counted: &'static str,
        /// The count it gives.
        expected: u64,
        /// The count that was read.
        found: u64,
    },
}

/// Reads an export; waits until its file is settled, but not beyond `deadline`.
pub fn read(
    source: &FileSource,
    now: Timestamp,
    deadline: Instant,
    spool: &mut Spool,
    progress: &SourceProgress,
) -> Result<Snapshot, FileFailure> {
    let text = file::read(source, now, deadline)?;
    let referrals = parse(&text, spool, progress).map_err(|error| match error {
        ParseError::Ldif(error) => FileFailure::Ldif {
            path: source.path.clone(),
            error,
        },
        ParseError::Spool(error) => error.into(),
    })?;
    Ok(Snapshot::of_complete_read(
        spool,
        source.path.display().to_string(),
        referrals,
    )?)
}

/// Reads the text of a whole file into a spool. That it ends with a line end is for the caller to see to. Gives the search
/// references, as URLs: what the server holds elsewhere and the export therefore lacks.
pub fn parse(
    text: &str,
    spool: &mut Spool,
    progress: &SourceProgress,
) -> Result<Vec<String>, ParseError> {
    let mut reading = Reading {
        spool,
        referrals: Vec::new(),
        block: Block::None,
        trailer: Trailer::default(),
        progress,
    };
    let mut lines = Lines::of(text);
    while let Some((line, text)) = lines.next_unfolded()? {
        if text.is_empty() {
            reading.end_block()?;
        } else if let Some(comment) = text.strip_prefix('#') {
            reading.comment(line, comment, lines.entry_is_next())?;
        } else if !trailer::is_prompt(&text) {
            reading.attribute(&Attribute::split(line, &text)?)?;
        }
    }
    reading.end_block()?;
    reading.trailer.finish()?;
    Ok(reading.referrals)
}

impl LdifError {
    pub(super) fn line(&self) -> usize {
        match self {
            LdifError::NotAttribute { line }
            | LdifError::ContinuesNothing { line }
            | LdifError::Version { line, .. }
            | LdifError::NoDn { line, .. }
            | LdifError::SecondDn { line }
            | LdifError::Base64 { line, .. }
            | LdifError::Url { line, .. }
            | LdifError::LineEndInName { line }
            | LdifError::Range { line, .. }
            | LdifError::ChangeRecord { line, .. }
            | LdifError::SearchFailed { line, .. }
            | LdifError::MorePages { line }
            | LdifError::NoEnd { line, .. }
            | LdifError::Count { line, .. } => *line,
        }
    }

    pub(super) fn why(&self) -> &'static str {
        match self {
            LdifError::NotAttribute { .. } => {
                "a message of a program stands among the entries, or the file is of another kind"
            }
            LdifError::ContinuesNothing { .. }
            | LdifError::NoDn { .. }
            | LdifError::SecondDn { .. } => {
                "lines are missing, were joined, or were edited by hand there"
            }
            LdifError::Version { .. } => "RFC 2849 defines version 1 alone",
            LdifError::Base64 { .. } => "characters are missing, or the DN is not UTF-8",
            LdifError::Url { .. } => "files that LDIF refers to are never opened",
            LdifError::LineEndInName { .. } => {
                "whoever chose that name may have written the lines before it"
            }
            LdifError::Range { .. } => {
                "the server gives so many values at once and no more, and the export did not ask for the others"
            }
            LdifError::ChangeRecord { .. } => "a file of changes does not tell who exists",
            LdifError::SearchFailed { .. } => "the server did not give all entries",
            LdifError::MorePages { .. } => "the export was interrupted, or asks for one page only",
            LdifError::NoEnd { .. } | LdifError::Count { .. } => {
                "the export was interrupted, cut off or shortened, or several were mixed"
            }
        }
    }

    pub(super) fn next(&self) -> &'static str {
        match self {
            LdifError::NotAttribute { .. } => {
                "keep standard error out of the file (no `2>&1`), then export anew"
            }
            LdifError::ContinuesNothing { .. }
            | LdifError::NoDn { .. }
            | LdifError::SecondDn { .. }
            | LdifError::Base64 { .. } => {
                "export anew; in a file made by hand, put a blank line before each \"dn:\" and none within a record"
            }
            LdifError::Version { .. } => "export as LDIF version 1",
            LdifError::Url { .. } => "export the values themselves (ldapsearch without -t)",
            LdifError::LineEndInName { .. } => {
                "export without comments (ldapsearch -LLL), or give the object another name"
            }
            LdifError::Range { .. } => {
                "read this directory with `kind = \"ldap\"`, which fetches every range"
            }
            LdifError::ChangeRecord { .. } => "export the entries themselves",
            LdifError::SearchFailed { .. } | LdifError::MorePages { .. } => {
                "page the search (ldapsearch -E pr=1000/noprompt) and export anew"
            }
            LdifError::NoEnd { .. } | LdifError::Count { .. } => {
                "look for a full disk or an export that was ended early, then export anew"
            }
        }
    }
}

/// One unfolded line, split at its colon; nothing decoded.
struct Attribute<'text> {
    line: usize,
    name: &'text str,
    value: Value<'text>,
}

enum Value<'text> {
    Plain(&'text str),
    Base64(&'text str),
    Url,
}

impl<'text> Attribute<'text> {
    fn split(line: usize, text: &'text str) -> Result<Self, LdifError> {
        let (name, value) = text
            .split_once(':')
            .filter(|(name, _)| {
                !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic())
            })
            .ok_or(LdifError::NotAttribute { line })?;
        let value = match value.as_bytes() {
            [b':', ..] => Value::Base64(value[1..].trim_matches(' ')),
            [b'<', ..] => Value::Url,
            _ => Value::Plain(value.trim_start_matches(' ')),
        };
        Ok(Attribute { line, name, value })
    }

    fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    fn bytes(&self) -> Result<Vec<u8>, LdifError> {
        match self.value {
            Value::Plain(text) => Ok(text.as_bytes().to_vec()),
            Value::Base64(encoded) => STANDARD.decode(encoded).map_err(|_| self.not_base64()),
            Value::Url => Err(LdifError::Url {
                line: self.line,
                attribute: self.name.to_owned(),
            }),
        }
    }

    fn text(&self) -> Result<String, LdifError> {
        String::from_utf8(self.bytes()?).map_err(|_| self.not_base64())
    }

    fn not_base64(&self) -> LdifError {
        LdifError::Base64 {
            line: self.line,
            attribute: self.name.to_owned(),
        }
    }
}

/// What the lines up to the next blank one belong to.
enum Block {
    None,
    Entry(Entry),
    /// `ref: ldap://…` without a DN.
    Reference,
    /// `search: 2`, `result: 0 Success` and what else ldapsearch tells of a result.
    SearchResult,
}

struct Reading<'run> {
    spool: &'run mut Spool,
    referrals: Vec<String>,
    block: Block,
    trailer: Trailer,
    progress: &'run SourceProgress,
}

impl Reading<'_> {
    fn end_block(&mut self) -> Result<(), SpoolError> {
        if let Block::Entry(entry) = std::mem::replace(&mut self.block, Block::None) {
            self.spool.push(Record::from_entry(&entry).view())?;
            self.trailer.count_entry();
            self.progress.count_entry();
        }
        Ok(())
    }

    fn comment(
        &mut self,
        line: usize,
        comment: &str,
        is_before_entry: bool,
    ) -> Result<(), LdifError> {
        // What `ref:` is in plain output, `-L` writes as `# refldap://…`. Right before an entry stands its name.
        if let Some(url) = comment
            .strip_prefix(" ref")
            .filter(|url| url.get(..4).is_some_and(|scheme| scheme == "ldap") && !is_before_entry)
        {
            return self.reference(url.to_owned());
        }
        self.trailer.comment(line, comment)
    }

    fn reference(&mut self, url: String) -> Result<(), LdifError> {
        self.referrals.push(url);
        self.trailer.count_reference();
        Ok(())
    }

    fn attribute(&mut self, attribute: &Attribute<'_>) -> Result<(), LdifError> {
        if attribute.is("dn") {
            return self.begin_entry(attribute);
        }
        match &mut self.block {
            Block::Entry(entry) => add_to_entry(entry, attribute),
            Block::SearchResult => self.trailer.result_attribute(attribute),
            Block::Reference if attribute.is("ref") => self.reference(attribute.text()?),
            Block::Reference => Ok(()),
            Block::None => self.begin_other(attribute),
        }
    }

    fn begin_entry(&mut self, attribute: &Attribute<'_>) -> Result<(), LdifError> {
        match self.block {
            Block::None => {}
            Block::Entry(_) | Block::Reference | Block::SearchResult => {
                return Err(LdifError::SecondDn {
                    line: attribute.line,
                });
            }
        }
        self.trailer.begin_entry()?;
        let name = attribute.text()?;
        if self.trailer.has_names_in_comments() && holds_line_end(&name) {
            return Err(LdifError::LineEndInName {
                line: attribute.line,
            });
        }
        self.block = Block::Entry(Entry::named(&name));
        Ok(())
    }

    fn begin_other(&mut self, attribute: &Attribute<'_>) -> Result<(), LdifError> {
        if attribute.is("version") {
            // No block of its own: RFC 2849 lets the first `dn:` follow without a blank line.
            let version = attribute.text()?;
            return if version == "1" {
                Ok(())
            } else {
                Err(LdifError::Version {
                    line: attribute.line,
                    version,
                })
            };
        }
        if attribute.is("ref") {
            self.block = Block::Reference;
            return self.reference(attribute.text()?);
        }
        if attribute.is("search") {
            self.block = Block::SearchResult;
            self.trailer.begin_result(attribute.line);
            return Ok(());
        }
        Err(LdifError::NoDn {
            line: attribute.line,
            attribute: attribute.name.to_owned(),
        })
    }
}

fn add_to_entry(entry: &mut Entry, attribute: &Attribute<'_>) -> Result<(), LdifError> {
    if attribute.is("changetype") {
        let changetype = attribute.text()?;
        return if changetype.trim_end().eq_ignore_ascii_case("add") {
            Ok(())
        } else {
            Err(LdifError::ChangeRecord {
                line: attribute.line,
                changetype,
            })
        };
    }
    let (name, options) = match attribute.name.split_once(';') {
        Some((name, options)) => (name, Some(options)),
        None => (attribute.name, None),
    };
    let Some(wanted) = ATTRIBUTES
        .iter()
        .find(|wanted| wanted.eq_ignore_ascii_case(name))
    else {
        return Ok(());
    };
    if let Some(options) = options {
        let is_range = |option: &str| option.to_ascii_lowercase().starts_with("range=");
        return if options.split(';').any(is_range) {
            Err(LdifError::Range {
                line: attribute.line,
                attribute: attribute.name.to_owned(),
            })
        } else {
            // With an option it is another attribute (RFC 4512 section 2.5).
            Ok(())
        };
    }
    let value = attribute.bytes()?;
    let value = match guid_of_text(&value) {
        Some(guid) if *wanted == "objectGUID" => guid.to_vec(),
        Some(_) | None => value,
    };
    entry.add_name(wanted);
    entry.add_value(&value);
    Ok(())
}

/// Whether a line end stands in a name, as it is or escaped (`\0A`, as in the names that Active Directory gives to the loser of a
/// replication conflict).
fn holds_line_end(name: &str) -> bool {
    let mut characters = name.chars();
    while let Some(character) = characters.next() {
        let is_line_end = match character {
            '\\' if characters
                .as_str()
                .get(..2)
                .is_some_and(|digits| digits.eq_ignore_ascii_case("0a")) =>
            {
                true
            }
            '\\' => {
                characters.next();
                false
            }
            other => other == '\n',
        };
        if is_line_end {
            return true;
        }
    }
    false
}

/// The bytes of a GUID that stands there as text, which is what `ldbsearch` writes: `ab427668-dc05-437f-80c5-7203588b990e`.
/// The first three fields are little-endian numbers (MS-DTYP section 2.3.4), so their bytes come in reverse.
fn guid_of_text(text: &[u8]) -> Option<[u8; 16]> {
    const HYPHENS_AT: [usize; 4] = [8, 13, 18, 23];
    const ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    if text.len() != 36 || HYPHENS_AT.iter().any(|at| text[*at] != b'-') {
        return None;
    }
    let mut digits = text
        .iter()
        .enumerate()
        .filter(|(at, _)| !HYPHENS_AT.contains(at))
        .map(|(_, byte)| char::from(*byte).to_digit(16));
    let mut guid = [0; 16];
    for at in ORDER {
        let (high, low) = (digits.next()??, digits.next()??);
        guid[at] = u8::try_from(high * 16 + low).ok()?;
    }
    Some(guid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<(Vec<Record>, Vec<String>), ParseError> {
        let mut spool = Spool::in_memory();
        let referrals = parse(text, &mut spool, &SourceProgress::default())?;
        let records = spool.finish(&[])?.all().expect("in memory");
        Ok((records, referrals))
    }

    /// Records as `dn|value,value`, then referrals as `>url`; or the error with its line.
    fn shown(text: &str) -> String {
        match parsed(text) {
            Err(ParseError::Spool(error)) => error.to_string(),
            Err(ParseError::Ldif(error)) => format!("line {}: {error}", error.line()),
            Ok((records, referrals)) => records
                .iter()
                .map(|record| {
                    let values: Vec<_> = record
                        .view()
                        .proxy_addresses()
                        .map(String::from_utf8_lossy)
                        .collect();
                    format!("{}|{}", record.view().dn(), values.join(","))
                })
                .chain(referrals.iter().map(|url| format!(">{url}")))
                .collect::<Vec<_>>()
                .join(" "),
        }
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(shown(text), expected, "{text}");
    }

    const ANNA: &str = "dn: CN=a\nproxyAddresses: smtp:a@x\n";

    #[test]
    fn what_rfc_2849_allows() {
        check("", "");
        check("# nobody\n", "");
        check("version: 1\n", "");
        check(ANNA, "CN=a|smtp:a@x");
        check(&format!("version: 1\n{ANNA}"), "CN=a|smtp:a@x");
        check(
            &format!("version: 1\r\n\r\n\r\n{ANNA}\r\n\r\n"),
            "CN=a|smtp:a@x",
        );
        check(
            "dn: CN=a,\n OU=b\nPROXYADDRESSES:smtp:\n a@\n x\nproxyAddresses:  smtp:b@x\n",
            "CN=a,OU=b|smtp:a@x,smtp:b@x",
        );
        check("DN: CN=a\nproxyAddresses: \nmail:\n", "CN=a|");
        check(
            "dn:: Q049SsO8\nproxyAddresses:: c210cDph\n QHg= \n",
            "CN=Jü|smtp:a@x",
        );
        check(
            &format!("# a\n # b\n dn: CN=no\n{ANNA}# c\nproxyAddresses: smtp:b@x\n\n{ANNA}"),
            "CN=a|smtp:a@x,smtp:b@x CN=a|smtp:a@x",
        );
        check(
            &format!("{ANNA}jpegPhoto:< file:///a\nphoto:: #\nproxyAddresses;lang-de: smtp:b@x\n"),
            "CN=a|smtp:a@x",
        );
        check(
            "dn: CN=a\ncontrol: 1.2 true\nchangetype: add\nproxyAddresses: smtp:a@x\n",
            "CN=a|smtp:a@x",
        );
    }

    #[test]
    fn what_is_no_ldif_is_refused_with_its_line() {
        let not_attribute =
            "the line is not LDIF: it is neither \"attribute: value\" nor a comment";
        check("anna@x\n", &format!("line 1: {not_attribute}"));
        check(
            &format!("{ANNA}\n# c\nSASL SSF: 256\n"),
            &format!("line 5: {not_attribute}"),
        );
        check(
            &format!("{ANNA}\u{feff}dn: CN=b\n"),
            &format!("line 3: {not_attribute}"),
        );
        check(&format!("{ANNA}: x\n"), &format!("line 3: {not_attribute}"));
        check(&format!("{ANNA}-\n"), &format!("line 3: {not_attribute}"));
        let continues = "the line continues nothing: it begins with a space after a blank line";
        check(" dn: CN=a\n", &format!("line 1: {continues}"));
        check(
            &format!("{ANNA}\n mail: x\n"),
            &format!("line 4: {continues}"),
        );
        check(
            "version: 2\n",
            "line 1: the LDIF version is unknown (\"2\")",
        );
        check(
            &format!("{ANNA}\nmail: x\n"),
            "line 4: the record begins with \"mail\", not with \"dn\"",
        );
        check(
            &format!("{ANNA}{ANNA}"),
            "line 3: a second \"dn\" stands within one record",
        );
        let base64 = "does not decode";
        check(
            "dn:: Q049Sg\n",
            &format!("line 1: the base64 value of \"dn\" {base64}"),
        );
        check(
            "dn:: /w==\n",
            &format!("line 1: the base64 value of \"dn\" {base64}"),
        );
        check(
            "dn: CN=a\nproxyAddresses:: a b=\n",
            &format!("line 2: the base64 value of \"proxyAddresses\" {base64}"),
        );
        check(
            "dn: CN=a\nproxyAddresses:< file:///a\n",
            "line 2: the value of \"proxyAddresses\" stands in another file",
        );
    }

    #[test]
    fn what_does_not_tell_who_exists_is_refused() {
        check(
            "dn: CN=a\nproxyaddresses;Range=0-1499: smtp:a@x\n",
            "line 2: the export holds only a part of the values: \"proxyaddresses;Range=0-1499\"",
        );
        check("dn: CN=a\nmember;range=0-1499: CN=b\n", "CN=a|");
        for changetype in ["modify", "delete", "modrdn", "moddn"] {
            check(
                &format!("dn: CN=a\nchangetype: {changetype}\n"),
                &format!("line 2: the file holds changes, not entries (changetype: {changetype})"),
            );
        }
    }

    #[test]
    fn what_ldapsearch_says_at_its_end_is_held_against_it() {
        let counts = "# numResponses: 2\n# numEntries: 1\n";
        let end = "search: 2\nresult: 0 Success\n";
        let plain = format!("# extended LDIF\n#\n# LDAPv3\n\n{ANNA}\n");
        check(&format!("{plain}{end}\n{counts}"), "CN=a|smtp:a@x");
        check(
            &plain,
            "line 1: the export is incomplete: it has no \"result: 0\" at its end",
        );
        check(
            &format!("{plain}search: 2\n"),
            "line 8: the export is incomplete: it has no \"result: 0\" at its end",
        );
        check(
            &format!("{plain}{end}"),
            "line 3: the export is incomplete: it has no \"# numResponses\" at its end",
        );
        check(
            &format!("{plain}{end}\n# numResponses: 2\n"),
            "line 11: the export is incomplete: it should hold 0 entries and holds 1",
        );
        check(
            &format!("{plain}{end}\n# numResponses: 2\n# numEntries: 2\n"),
            "line 12: the export is incomplete: it should hold 2 entries and holds 1",
        );
        check(
            &format!("{plain}{end}\n{counts}# numReferences: 1\n"),
            "line 13: the export is incomplete: it should hold 1 references and holds 0",
        );
        check(
            &format!("{plain}search: 2\nresult: 4 Size limit exceeded\n"),
            "line 9: the export is incomplete: the search ended with 4 Size limit exceeded",
        );
        check(
            &format!("{plain}search: 2\nresult: what\n"),
            "line 9: the export is incomplete: the search ended with what",
        );
        check(
            &format!("{plain}{end}pagedresults: estimate=9 cookie=AA==\n\n{counts}"),
            "line 10: the export is incomplete: its last page was not the last one of the search",
        );
        check(
            &format!("{plain}{end}pagedresults: cookie=\n\n{counts}"),
            "CN=a|smtp:a@x",
        );
        // Two exports, one after the other, are two; one that never ended stays one that never ended.
        let whole = format!("{plain}{end}\n{counts}");
        check(
            &format!("{whole}{whole}{ANNA}"),
            "CN=a|smtp:a@x CN=a|smtp:a@x CN=a|smtp:a@x",
        );
        check(
            &format!("{plain}{whole}"),
            "line 1: the export is incomplete: it has no \"result: 0\" at its end",
        );
        check(
            &format!("{plain}{end}\n# numResponses: 2\n{whole}"),
            "line 11: the export is incomplete: it should hold 0 entries and holds 1",
        );
        // The names of objects stand in comments, too.
        check(
            &format!("# numEntries: 7, People\n# returned records\n{ANNA}"),
            "CN=a|smtp:a@x",
        );
    }

    /// Names of objects are written by whoever may make objects; ldapsearch 2.5 puts them into comments, line ends included.
    #[test]
    fn a_name_in_a_comment_says_nothing() {
        let end = "search: 2\nresult: 0 Success\n\n# numResponses: 2\n# numEntries: 1\n";
        let head = "# extended LDIF\n#\n# LDAPv3\n\n";
        let whole = |before: &str| format!("{head}{before}{ANNA}\n{end}");
        for comment in [
            "# refldap://x/dc\\3Dy, x\n",
            "# pagedresults: cookie\\3DAA, x\n",
            "# pagedresults: cookie=AA, x\n",
            "# numResponses: 7, x\n",
        ] {
            check(&whole(comment), "CN=a|smtp:a@x");
        }
        // The name of the object below, of which ldapsearch wrote every line.
        let injected = "# a\ndn: CN=victim\nproxyAddresses: smtp:victim@x\n\n# numResponses: 1\n# numEntries: 1\n# z, x\n";
        let named = "dn:: Y249YQpkbjogQ049dmljdGltCnByb3h5QWRkcmVzc2VzOiBzbXRwOnZpY3RpbUB4CgojIG51bVJlc3BvbnNlczogMQojIG51bUVudHJpZXM6IDEKIyB6LGRjPXg=\nproxyAddresses: smtp:a@x\n";
        let told = "a name holds a line end, and ldapsearch wrote it into a comment as it is";
        check(
            &format!("{head}{injected}{named}\n{end}"),
            &format!("line 12: {told}"),
        );
        let conflict = "dn: CN=a\\0ACNF:1,DC=x\nproxyAddresses: smtp:a@x\n";
        check(
            &format!("{head}# a\\0ACNF:1, x\n{conflict}\n{end}"),
            &format!("line 6: {told}"),
        );
        // Without comments such a name is a name like others.
        check(conflict, "CN=a\\0ACNF:1,DC=x|smtp:a@x");
        check(
            &whole("").replace("CN=a\n", "CN=a\\\\0A\n"),
            "CN=a\\\\0A|smtp:a@x",
        );
    }

    #[test]
    fn references_are_collected() {
        check(
            &format!("{ANNA}\nref: ldap://b.x/DC=b\nref: ldap://c.x/DC=b\n\n# refldap://d.x/\n"),
            "CN=a|smtp:a@x >ldap://b.x/DC=b >ldap://c.x/DC=b >ldap://d.x/",
        );
        check(&format!("{ANNA}ref: ldap://b.x/DC=b\n"), "CN=a|smtp:a@x");
    }

    #[test]
    fn a_guid_as_text_is_the_same_sixteen_bytes() {
        let guid = guid_of_text(b"33221100-5544-7766-8899-aabbccddeeff").expect("a GUID");
        assert_eq!(
            guid.to_vec(),
            (0..16).map(|digit| digit * 0x11).collect::<Vec<u8>>()
        );
        for text in ["", "33221100-5544-7766-8899-aabbccddeefg"] {
            assert_eq!(guid_of_text(text.as_bytes()), None);
        }
        let texts = [
            "objectGUID: 33221100-5544-7766-8899-aabbccddeeff",
            "objectGUID:: ABEiM0RVZneImaq7zN3u/w==",
        ];
        for text in texts {
            let (records, _) = parsed(&format!("{ANNA}{text}\n")).expect("whole");
            assert_eq!(records[0].view().guid(), guid);
        }
    }
}
