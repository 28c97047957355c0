//! What the readers of other mail systems can be told, and how: one [`Form`] for each way to read a line.
//!
//! A form says how a text is escaped where a template prints it, which keys the reader would not find again or would
//! find in more than the one address (they are left out and counted), and it reads a file as its mail system does. All is
//! measured with the readers themselves, in `tests/templates.rs`.
//!
//! Invariant: a key that [`Form::can_say`] is read back from its spelling as the same key.

use std::borrow::Cow;
use std::io::BufRead;

use serde::de::{Deserializer, MapAccess, Visitor};

use crate::address::{is_control, quoted, split_external};
use crate::table::format::ReadError;

/// How a text is written for a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `key: value` as Exim's lsearch reads it: quoted where it must be.
    Exim,
    /// A table of OpenSMTPD (table(5)): one key a line.
    OpenSmtpd,
    /// The source of an access map of Sendmail, as makemap reads it: `To:key value`.
    Sendmail,
    /// A map of Rspamd: one key a line.
    Rspamd,
    /// One address a line and nothing else, for whatever reads that.
    Lines,
    /// One JSON object, keys and values in quotes.
    Json,
}

impl Form {
    /// All of them.
    pub const ALL: [Form; 6] = [
        Form::Exim,
        Form::OpenSmtpd,
        Form::Sendmail,
        Form::Rspamd,
        Form::Lines,
        Form::Json,
    ];

    /// Its name behind `escape:` in a template.
    pub fn name(self) -> &'static str {
        match self {
            Form::Exim => "exim",
            Form::OpenSmtpd => "opensmtpd",
            Form::Sendmail => "sendmail",
            Form::Rspamd => "rspamd",
            Form::Lines => "lines",
            Form::Json => "json",
        }
    }

    /// A text as it is printed, or why it is not.
    pub fn escape(self, text: &str) -> Result<Cow<'_, str>, &'static str> {
        if text.contains(is_control) {
            return Err("it holds a control character or a line end");
        }
        match self {
            Form::Exim => Ok(exim_word(text)),
            Form::Json => serde_json::to_string(text)
                .map(Cow::Owned)
                .map_err(|_| "it is no text"),
            Form::OpenSmtpd | Form::Sendmail | Form::Rspamd | Form::Lines => {
                if text.contains(char::is_whitespace) {
                    return Err("it holds a space, which ends a word in this form");
                }
                Ok(Cow::Borrowed(text))
            }
        }
    }

    /// Whether values are written as they are; in JSON they are escaped like any text.
    pub fn has_plain_values(self) -> bool {
        self != Form::Json
    }

    /// Whether the reader finds this key, and by it nothing else.
    pub fn can_say(self, key: &[u8]) -> bool {
        let Ok(key) = std::str::from_utf8(key) else {
            return false;
        };
        let is_plain = |octet: u8| {
            octet.is_ascii_lowercase() || octet.is_ascii_digit() || b"@._-".contains(&octet)
        };
        self.spelling(key).is_some_and(|spelled| {
            if key.contains('@') && key.bytes().all(is_plain) {
                self.key_of(&spelled).as_deref() == Some(key)
            } else {
                self.reads_back(&spelled, key)
            }
        })
    }

    /// Whether the line of a word is one row, that of this key.
    fn reads_back(self, word: &str, key: &str) -> bool {
        let Ok(escaped) = self.escape(word) else {
            return false;
        };
        let line = match self {
            Form::Exim => format!("{escaped}: OK\n"),
            Form::Sendmail => format!("{escaped}\tOK\n"),
            Form::Json => format!("{{{escaped}: \"OK\"}}"),
            Form::OpenSmtpd | Form::Rspamd | Form::Lines => format!("{escaped}\n"),
        };
        let (mut is_it, mut count) = (false, 0);
        let read = self.each_row(line.as_bytes(), |found, _| {
            (is_it, count) = (found == key.as_bytes(), count + 1);
        });
        read.is_ok() && is_it && count == 1
    }

    /// A key as its reader asks for it, without escapes; `None` if it is not to be told.
    fn spelling(self, key: &str) -> Option<String> {
        let spelled = match split_external(key) {
            None if key.is_empty() || key.contains('"') || self == Form::Sendmail => {
                return None;
            }
            None => key.to_owned(),
            Some((local, domain)) if local.is_empty() => self.wildcard_spelling(domain)?,
            Some((local, domain)) => {
                if !self.finds_local(&local, key.starts_with('"')) {
                    return None;
                }
                match self {
                    Form::Sendmail => format!("To:{local}@{domain}"),
                    Form::Exim | Form::OpenSmtpd | Form::Rspamd | Form::Lines | Form::Json => {
                        format!("{local}@{domain}")
                    }
                }
            }
        };
        self.escape(&spelled).is_ok().then_some(spelled)
    }

    /// How the reader writes every address of a domain, if it can.
    fn wildcard_spelling(self, domain: &str) -> Option<String> {
        match self {
            Form::Exim => Some(format!("*@{domain}")),
            Form::Sendmail => Some(format!("To:{domain}")),
            Form::OpenSmtpd | Form::Lines | Form::Json => Some(format!("@{domain}")),
            Form::Rspamd => None,
        }
    }

    /// Whether the reader finds a local part, and nothing else by it.
    fn finds_local(self, local: &str, is_quoted: bool) -> bool {
        match self {
            // Found by lsearch whatever it is. The others are left out for those who read the same file with wildlsearch
            // or nwildlsearch, where they would be patterns, negations, file names, lookups or expansions.
            Form::Exim => {
                !local.starts_with(['^', '*', '!', '/', '@']) && !local.contains(['$', ';'])
            }
            // RCPT TO takes atoms in ASCII and nothing in quotes. A leading sign is a comment.
            Form::OpenSmtpd => !is_quoted && local.is_ascii() && !local.starts_with('#'),
            // Routes of old are followed before the map is asked.
            Form::Sendmail => {
                let is_route = local.contains('%') || local.trim_start_matches('!').contains('!');
                !is_quoted && local.is_ascii() && !is_route
            }
            // `#` ends the line, `/` begins an expression that ends at the next one, lines further on, and a tag is cut off
            // before the map is asked.
            Form::Rspamd => {
                let is_read = !local.starts_with('/') && !local.contains(['#', '+']);
                !is_quoted && local.is_ascii() && is_read
            }
            Form::Lines => !local.starts_with(['#', '@']),
            Form::Json => !local.starts_with('@'),
        }
    }

    /// The key that a reader's word stands for; `None` if it stands for no row.
    fn key_of(self, word: &str) -> Option<String> {
        match self {
            // lsearch compares keys without their case.
            Form::Exim => {
                let word = word.to_ascii_lowercase();
                let any = word.strip_prefix('*').filter(|rest| rest.starts_with('@'));
                Some(external(any.unwrap_or(&word)))
            }
            Form::Sendmail => {
                let (tag, address) = word.split_at_checked(3)?;
                let address = address.to_ascii_lowercase();
                tag.eq_ignore_ascii_case("To:").then(|| {
                    if address.contains('@') {
                        external(&address)
                    } else {
                        format!("@{address}")
                    }
                })
            }
            Form::OpenSmtpd | Form::Rspamd | Form::Lines | Form::Json => Some(external(word)),
        }
    }

    /// Tells the rows of a file in its order, as its reader finds them; a row without a value where the form has none. A
    /// line that means something else than a recipient who is taken is an error: it would be lost.
    pub fn each_row(
        self,
        input: impl BufRead,
        mut each: impl FnMut(&[u8], Option<&[u8]>),
    ) -> Result<(), ReadError> {
        let mut each_word = |word: &[u8], value: Option<&[u8]>| {
            let word = std::str::from_utf8(word).ok();
            let key = word.and_then(|word| self.key_of(word));
            let key = key.ok_or_else(|| no_row(word.unwrap_or("text that is not UTF-8")))?;
            each(key.as_bytes(), value);
            Ok(())
        };
        match self {
            Form::Exim => each_of_lsearch(input, each_word),
            Form::Sendmail => each_line(input, |line| {
                let (word, value) = split_at_space(line);
                let is_domain_refused = !word.contains(&b'@') && is_refusal(value);
                if word.is_empty() || word.starts_with(b"#") || is_domain_refused {
                    return Ok(());
                }
                if value.is_empty() || is_refusal(value) {
                    return Err(no_row(&String::from_utf8_lossy(line)));
                }
                each_word(word, Some(value))
            }),
            Form::OpenSmtpd | Form::Rspamd | Form::Lines => each_line(input, |line| {
                let line = line.trim_ascii();
                let (word, rest) = split_at_space(line);
                if word.is_empty() || word.starts_with(b"#") {
                    return Ok(());
                }
                let is_pair = self == Form::OpenSmtpd && word.contains(&b':');
                if is_pair || !rest.is_empty() {
                    return Err(no_row(&String::from_utf8_lossy(line)));
                }
                each_word(word, None)
            }),
            Form::Json => {
                let mut json = serde_json::Deserializer::from_reader(input);
                let pairs = Pairs(|key: &str, value: &str| {
                    each_word(key.as_bytes(), Some(value.as_bytes()))
                });
                let read = json.deserialize_map(pairs).and_then(|()| json.end());
                read.map_err(|error| ReadError(error.to_string()))
            }
        }
    }
}

fn no_row(what: &str) -> ReadError {
    ReadError(format!("{what:?} is no row of a table of recipients"))
}

/// `local@domain` as Postfix would look it up. A domain alone is left as it is.
fn external(word: &str) -> String {
    match word.rsplit_once('@') {
        Some((local, domain)) if !local.is_empty() => format!("{}@{domain}", quoted(local)),
        _ => word.to_owned(),
    }
}

/// A key ends at the first colon or space, begins no comment, and is quoted where it would.
fn exim_word(text: &str) -> Cow<'_, str> {
    let is_plain = !text.is_empty()
        && !text.starts_with(['#', '"'])
        && !text.contains(|character: char| character == ':' || character.is_whitespace());
    if is_plain {
        return Cow::Borrowed(text);
    }
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    Cow::Owned(format!("\"{escaped}\""))
}

/// `internal_lsearch_find` of Exim: comments, blank lines, quoted keys, lines that go on.
fn each_of_lsearch(
    input: impl BufRead,
    mut each: impl FnMut(&[u8], Option<&[u8]>) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    let mut row: Option<(Vec<u8>, Vec<u8>)> = None;
    each_line(input, |line| {
        if line.is_empty() || line.starts_with(b"#") {
            return Ok(());
        }
        if line[0].is_ascii_whitespace() {
            if let Some((_, value)) = &mut row {
                value.extend_from_slice(line.trim_ascii());
            }
            return Ok(());
        }
        let (key, rest) = match line.strip_prefix(b"\"") {
            Some(quoted) => dequoted(quoted),
            None => {
                let is_end = |byte: &u8| *byte == b':' || byte.is_ascii_whitespace();
                let end = line.iter().position(is_end).unwrap_or(line.len());
                (line[..end].to_vec(), &line[end..])
            }
        };
        let rest = rest.trim_ascii_start();
        let value = rest.strip_prefix(b":").unwrap_or(rest).trim_ascii();
        match row.replace((key, value.to_vec())) {
            Some((key, value)) => each(&key, Some(&value)),
            None => Ok(()),
        }
    })?;
    row.map_or(Ok(()), |(key, value)| each(&key, Some(&value)))
}

/// What stands between quotes, of which the first is gone, and what stands behind them.
fn dequoted(text: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut found = Vec::new();
    let mut at = 0;
    while at < text.len() && text[at] != b'"' {
        if text[at] == b'\\' && at + 1 < text.len() {
            at += 1;
        }
        found.push(text[at]);
        at += 1;
    }
    (found, text.get(at + 1..).unwrap_or_default())
}

/// A row of a map that says who is not taken is not a row of a table that says who is.
fn is_refusal(value: &[u8]) -> bool {
    let first = value
        .split(|byte| *byte == b':' || byte.is_ascii_whitespace())
        .next();
    let first = first.unwrap_or_default();
    first.iter().all(u8::is_ascii_digit)
        || [&b"ERROR"[..], b"REJECT", b"DISCARD", b"QUARANTINE"]
            .iter()
            .any(|word| first.eq_ignore_ascii_case(word))
}

/// The first word of a line, and what stands behind it.
fn split_at_space(line: &[u8]) -> (&[u8], &[u8]) {
    let end = line
        .iter()
        .position(u8::is_ascii_whitespace)
        .unwrap_or(line.len());
    (&line[..end], line[end..].trim_ascii())
}

/// Every line without its end.
fn each_line(
    mut input: impl BufRead,
    mut each: impl FnMut(&[u8]) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    let mut line = Vec::new();
    let mut next = |line: &mut Vec<u8>| -> Result<usize, ReadError> {
        line.clear();
        (input.read_until(b'\n', line)).map_err(|error| ReadError(error.to_string()))
    };
    while next(&mut line)? > 0 {
        each(line.strip_suffix(b"\n").unwrap_or(&line))?;
    }
    Ok(())
}

/// The pairs of a JSON object, each told as it is read.
struct Pairs<Each>(Each);

impl<'de, Each: FnMut(&str, &str) -> Result<(), ReadError>> Visitor<'de> for Pairs<Each> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object of addresses and texts")
    }

    fn visit_map<Map: MapAccess<'de>>(mut self, mut map: Map) -> Result<(), Map::Error> {
        while let Some((key, value)) = map.next_entry::<String, String>()? {
            (self.0)(&key, &value).map_err(serde::de::Error::custom)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(form: Form, text: &str, expected: &[(&str, &str)]) {
        let mut rows = Vec::new();
        let read = form.each_row(text.as_bytes(), |key, value| {
            let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
            rows.push((text(key), text(value.unwrap_or_default())));
        });
        assert_eq!(read, Ok(()), "{text}");
        let expected = expected
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        assert_eq!(rows, expected.collect::<Vec<_>>(), "{text}");
    }

    #[test]
    fn files_of_others_are_read_as_their_readers_do() {
        let exim = "# comment\n\nAnna@Example.com: OK\n\"john doe@example.com\" : a\n  b\n\
                    bob@example.com OK\ncarl@example.com:OK\ndora@example.com\n*@example.org: OK\n\"q\\\"\\\\@x\":";
        check(
            Form::Exim,
            exim,
            &[
                ("anna@example.com", "OK"),
                ("\"john doe\"@example.com", "ab"),
                ("bob@example.com", "OK"),
                ("carl@example.com", "OK"),
                ("dora@example.com", ""),
                ("@example.org", "OK"),
                ("\"q\\\"\\\\\"@x", ""),
            ],
        );
        let sendmail = "# comment\nTo:anna@example.com\tOK\n\nto:Bob@example.com OK\n\
                        To:example.org RELAY\nTo:example.com\tERROR:5.1.1:550 User unknown\n";
        check(
            Form::Sendmail,
            sendmail,
            &[
                ("anna@example.com", "OK"),
                ("bob@example.com", "OK"),
                ("@example.org", "RELAY"),
            ],
        );
        let list = " # comment\n\nanna@example.com\r\n  bob@example.com  \n@example.org";
        let rows = &[
            ("anna@example.com", ""),
            ("bob@example.com", ""),
            ("@example.org", ""),
        ];
        check(Form::OpenSmtpd, list, rows);
        check(Form::Rspamd, list, rows);
        check(Form::Lines, list, rows);
        check(Form::Json, "{\"a b@x\": \"OK\"}\n", &[("\"a b\"@x", "OK")]);
    }

    #[test]
    fn what_is_more_than_a_table_of_recipients_is_not_read() {
        let check = |form: Form, text: &str| {
            let read = form.each_row(text.as_bytes(), |_, _| ());
            assert!(read.is_err(), "{form:?}: {text}");
        };
        check(Form::Sendmail, "Connect:192.0.2\tRELAY\n");
        check(Form::Sendmail, "To:bob@example.com\t550 gone\n");
        check(Form::Sendmail, "bob@example.com\tREJECT\n");
        check(Form::Sendmail, "To:bob@example.com\n");
        check(Form::OpenSmtpd, "bob@example.com: bob\n");
        check(Form::OpenSmtpd, "bob@example.com bob\n");
        check(Form::Rspamd, "bob@example.com 10\n");
        check(Form::Lines, "anna@example.com bob@example.com\n");
        for damaged in ["", "[]", "{\"a@x\": 1}", "{\"a@x\": \"OK\"", "{} {}"] {
            check(Form::Json, damaged);
        }
    }

    #[test]
    fn what_is_said_is_read_back_and_what_cannot_be_is_left_out() {
        for form in Form::ALL {
            for key in [
                "anna@example.com",
                "o'brien@example.com",
                "john.doe@xn--bcher-kva.example",
            ] {
                assert!(form.can_say(key.as_bytes()), "{form:?} {key}");
            }
            for key in [
                &b"a\nb@x"[..],
                b"a\0@x",
                b"a\xff@x",
                b"",
                b"\"a@x",
                b"\"\xe2\x80\xa8\"@x",
                b"a b@x",
            ] {
                assert!(
                    !form.can_say(key),
                    "{form:?} {}",
                    String::from_utf8_lossy(key)
                );
            }
            // Keys that somebody else wrote into an index.
            for (key, others) in [
                ("Anna@example.com", &[Form::Exim, Form::Sendmail][..]),
                ("a:b", &[Form::OpenSmtpd, Form::Sendmail]),
                ("@a:b", &[Form::OpenSmtpd, Form::Rspamd]),
                (
                    "#a",
                    &[Form::OpenSmtpd, Form::Sendmail, Form::Rspamd, Form::Lines],
                ),
            ] {
                let expected = !others.contains(&form);
                assert_eq!(form.can_say(key.as_bytes()), expected, "{form:?} {key}");
            }
            assert_eq!(
                form.can_say(b"@example.com"),
                form != Form::Rspamd,
                "{form:?}"
            );
            assert_eq!(
                form.can_say(b"example.com"),
                form != Form::Sendmail,
                "{form:?}"
            );
        }
    }
}
