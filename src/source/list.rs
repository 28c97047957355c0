//! A source that is a plain list: one address a line.
//!
//! A `#` at the beginning of a line, or after white space, begins a comment; blank lines and white space around an
//! address do not count. An address stands there as a person writes it, so what needs quotes has them. Not here:
//! whether an address is one, and whether it counts. A line that is none becomes a record all the same, so that it is
//! left out with a reason and counted: one typing error must not freeze a whole list, and must not vanish either.
//!
//! That a list is whole can be proven only by its last line end (`file`): a file that was cut exactly at a line end
//! looks like a shorter list. What such a list would remove is the guard's concern.

use std::time::Instant;

use crate::config::FileSource;
use crate::record::Record;
use crate::records::{Spool, SpoolError};
use crate::snapshot::{Snapshot, SourceProgress};
use crate::time::Timestamp;

use super::file::{self, FileFailure};

/// Reads a list; waits until its file is settled, but not beyond `deadline`.
pub fn read(
    source: &FileSource,
    now: Timestamp,
    deadline: Instant,
    spool: &mut Spool,
    progress: &SourceProgress,
) -> Result<Snapshot, FileFailure> {
    let text = file::read(source, now, deadline)?;
    parse(&text, spool, progress)?;
    Ok(Snapshot::of_complete_read(
        spool,
        source.path.display().to_string(),
        Vec::new(),
    )?)
}

/// Reads the text of a whole list into a spool: one record for each line that is neither blank nor a comment.
pub fn parse(text: &str, spool: &mut Spool, progress: &SourceProgress) -> Result<(), SpoolError> {
    for (index, line) in text.lines().enumerate() {
        let address = without_comment(line).trim();
        if address.is_empty() {
            continue;
        }
        spool.push(record(index + 1, address).view())?;
        progress.count_entry();
    }
    Ok(())
}

fn record(line_number: usize, address: &str) -> Record {
    if is_one_address(address) {
        return Record::from_list_line(line_number, address);
    }
    // `a@x.example, b@x.example` must not become the one mailbox `"a@x.example, b"@x.example`, which a directory value
    // of that form would mean. No address begins with a space, so this line is malformed to whoever decides.
    Record::from_list_line(line_number, &format!(" {address}"))
}

/// Whether a line can mean one address only: it begins with a quote, or holds nothing that would have to be quoted.
fn is_one_address(text: &str) -> bool {
    text.starts_with('"')
        || (text.matches('@').count() <= 1
            && !text.contains(|character: char| {
                character.is_whitespace() || r#"()<>,;:\"[]"#.contains(character)
            }))
}

fn without_comment(line: &str) -> &str {
    let start = line.len() - line.trim_start().len();
    let quoted = quoted_characters(line);
    let mut previous_is_blank = quoted == 0;
    for (at, character) in line[start..].char_indices().skip(quoted) {
        if character == '#' && previous_is_blank {
            return &line[..start + at];
        }
        previous_is_blank = character.is_whitespace();
    }
    line
}

/// How many characters the quoted local part takes that the line begins with, quotes included; 0 without one.
fn quoted_characters(line: &str) -> usize {
    let mut escaped = false;
    let line = line.trim_start();
    if !line.starts_with('"') {
        return 0;
    }
    for (index, character) in line.chars().enumerate().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return index + 1,
            _ => {}
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::io::Write;

    use crate::address::{Address, AddressError};
    use crate::domain::DomainError;
    use crate::record;

    /// Records as `line N=address`, or `line N!reason` where the address is none.
    fn read_text(text: &str) -> Result<Vec<String>, String> {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(text.as_bytes()).expect("written");
        let source = FileSource {
            path: file.path().to_owned(),
            max_age: None,
        };
        let now = Timestamp::now().after(file::SETTLED * 2);
        let mut spool = Spool::in_memory();
        let snapshot = read(
            &source,
            now,
            Instant::now(),
            &mut spool,
            &SourceProgress::default(),
        )
        .map_err(|error| error.failure("list").what)?;
        assert!(snapshot.referrals.is_empty());
        assert_eq!(snapshot.answered_by, file.path().display().to_string());
        let shown = |record: &Record| {
            let record = record.view();
            let value = record.proxy_addresses().next().expect("a value");
            let text = std::str::from_utf8(record::smtp_address(value).expect("an SMTP value"))
                .expect("text");
            match Address::parse(text) {
                Ok(address) => format!("{}={address}", record.dn()),
                Err(error) => format!("{}!{}", record.dn(), name_of(error)),
            }
        };
        let records = snapshot.records().all().expect("in memory");
        Ok(records.iter().map(shown).collect())
    }

    fn name_of(error: AddressError) -> &'static str {
        match error {
            AddressError::NoAt => "no at",
            AddressError::Wildcard => "wildcard",
            AddressError::Control => "control",
            AddressError::Local => "local",
            AddressError::Domain(DomainError::Syntax) => "domain",
            AddressError::Domain(_) => "another domain error",
            AddressError::TooLong => "too long",
        }
    }

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        assert_eq!(
            read_text(text).expect("a complete list"),
            expected,
            "{text:?}"
        );
    }

    #[test]
    fn one_address_a_line() {
        check("a@x.example\n", &["line 1=a@x.example"]);
        check(
            "# partners\n\n a@x.example \r\n\tb@x.example\t# Bernd\n",
            &["line 3=a@x.example", "line 4=b@x.example"],
        );
        check("# nobody at present\n", &[]);
        check(" \t\n", &[]);
        check("\u{feff}a@x.example\n", &["line 1=a@x.example"]);
        check("  #a@x.example\n", &[]);
        check("a#b@x.example #c\n", &["line 1=a#b@x.example"]);
        check("jürgen@bücher.example\n", &["line 1=jürgen@bücher.example"]);
        check("\"a b\"@x.example\n", &["line 1=\"a b\"@x.example"]);
        check("\"a #b\"@x.example #c\n", &["line 1=\"a #b\"@x.example"]);
        check(
            "\"a\\\" #b\"@x.example\n",
            &["line 1=\"a\\\" #b\"@x.example"],
        );
    }

    #[test]
    fn what_is_no_address_is_kept_to_be_counted() {
        check("a@x.example b@x.example\n", &["line 1!local"]);
        check("a@x.example, b@x.example\n", &["line 1!local"]);
        check("a@x.example;b@x.example\n", &["line 1!local"]);
        check("a@b@x.example\n", &["line 1!local"]);
        check("Anna Berg <a@x.example>\n", &["line 1!local"]);
        check("\"Anna Berg\" <a@x.example>\n", &["line 1!local"]);
        check("\"a\"@x.example b@x.example\n", &["line 1!domain"]);
        check("\"a b@x.example\n", &["line 1!local"]);
        check("smtp:a@x.example\n", &["line 1!local"]);
        check("john doe@x.example\n", &["line 1!local"]);
        check("@x.example\n", &["line 1!wildcard"]);
        check("*@x.example\n", &["line 1!wildcard"]);
        check("anna\n", &["line 1!no at"]);
        check("a\u{7}@x.example\n", &["line 1!control"]);
        check("a@x.example\rb@x.example\n", &["line 1!control"]);
    }

    #[test]
    fn a_list_that_is_not_whole_is_refused() {
        let whole = "a@x.example\nb@x.example\n";
        for cut in 0..whole.len() {
            let read = read_text(&whole[..cut]);
            assert_eq!(read.is_ok(), cut > 0 && whole[..cut].ends_with('\n'));
        }
    }
}
