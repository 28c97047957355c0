//! The source text of a lookup table: `key value` lines, as postmap and texthash read them.
//!
//! Grammar: `src/util/readlline.c` and `src/postmap/postmap.c` of Postfix. A line whose first character is `#` is a
//! comment, so a key that begins with `#` cannot be said here (nor in what postmap builds from it) and is left out; a CDB
//! of our own holds it. The reader does what postmap does, including what it merely warns about.

use crate::fold::{self, Folding};
use crate::table::format::KeyValue;
use crate::table::rows::Rows;

/// Constant, so that the same rows are the same bytes.
const HEAD: &str = "\
# Written by rcptsync. Changes made here by hand are found at the next run: rows
# that no source knows are held and reported, all else is written anew.
# Addresses that no directory knows belong into a source of kind \"list\"
# (see [source.NAME] in rcptsync.toml).
";

/// The bytes of the text; every key must be one that it can say.
pub fn render(rows: &Rows, value: &str) -> Vec<u8> {
    let mut bytes = HEAD.as_bytes().to_vec();
    for key in rows.keys() {
        bytes.extend_from_slice(key);
        bytes.push(b' ');
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(b'\n');
    }
    bytes
}

/// Whether the text can hold a key: a reader of its line finds this key and no other. Of our own keys only those that
/// begin with `#` fail; a foreign index may hold anything, line ends included.
pub fn can_say(key: &[u8]) -> bool {
    let is_plain = |byte: &u8| {
        byte.is_ascii_graphic() && !byte.is_ascii_uppercase() && !b"#\"\\".contains(byte)
    };
    if !key.is_empty() && key.iter().all(is_plain) {
        return true;
    }
    // Postfix counts the vertical tab as a space, which Rust does not.
    if key.iter().any(u8::is_ascii_control) {
        return false;
    }
    let rows = read(&[key, b" OK"].concat(), Folding::Ascii);
    matches!(rows.as_slice(), [(found, value)] if found == key && value == b"OK")
}

/// The keys and values of a text, in its order; of a key that stands there twice only the first.
pub fn read(bytes: &[u8], folding: Folding) -> Vec<KeyValue> {
    let mut rows: Vec<KeyValue> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for line in logical_lines(bytes) {
        if let Some((key, value)) = split(&line) {
            let key = folded(key, folding);
            if seen.insert(key.clone()) {
                rows.push((key, value.to_vec()));
            }
        }
    }
    rows
}

fn folded(key: &[u8], folding: Folding) -> Vec<u8> {
    match (std::str::from_utf8(key), folding) {
        (Ok(text), Folding::Unicode | Folding::Both) => {
            fold::unicode(text).into_owned().into_bytes()
        }
        (Ok(text), Folding::Ascii) => fold::ascii(text).into_owned().into_bytes(),
        (Err(_), _) => key.to_ascii_lowercase(),
    }
}

/// Joins continuation lines and drops comments and blank lines, even in the middle of a continued line.
fn logical_lines(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut lines: Vec<Vec<u8>> = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        // A NUL ends the text for Postfix.
        let line = line.split(|byte| *byte == 0).next().unwrap_or_default();
        let content = line.trim_ascii_start();
        if content.is_empty() || content.starts_with(b"#") {
            continue;
        }
        if content.len() == line.len() {
            lines.push(line.to_vec());
        } else if let Some(last) = lines.last_mut() {
            last.extend_from_slice(line);
        }
    }
    lines
}

/// The key ends at the first space outside quotes; a line without value, or with an open quote, is ignored by postmap.
fn split(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let (mut quoted, mut escaped) = (false, false);
    let is_end = |byte: &u8| {
        if escaped {
            escaped = false;
            return false;
        }
        match byte {
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            _ => return !quoted && byte.is_ascii_whitespace(),
        }
        false
    };
    let end = line.iter().position(is_end)?;
    let value = line[end..].trim_ascii();
    (!value.is_empty() && end > 0).then_some((&line[..end], value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Format;
    use crate::table::format::Said;
    use crate::table::rows::{Facts, RowsBuilder};

    #[track_caller]
    fn check(text: &str, expected: &[(&str, &str)]) {
        let rows = read(text.as_bytes(), Folding::Unicode);
        let rows: Vec<_> = rows
            .iter()
            .map(|(key, value)| (String::from_utf8_lossy(key), String::from_utf8_lossy(value)))
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect();
        assert_eq!(rows, expected, "{text:?}");
    }

    #[test]
    fn the_text_is_read_as_postmap_reads_it() {
        check("a@x OK\nb@x\tOK\r\n", &[("a@x", "OK"), ("b@x", "OK")]);
        check("# comment\n\n  # too\na@x OK", &[("a@x", "OK")]);
        check("a@x\n# between\n  OK more\n", &[("a@x", "OK more")]);
        check("  lost@x OK\na@x OK\n", &[("a@x", "OK")]);
        check("Anna@X OK\nanna@x later\n", &[("anna@x", "OK")]);
        check("STRAßE@x OK\n", &[("strasse@x", "OK")]);
        check("\"john doe\"@x OK\n", &[("\"john doe\"@x", "OK")]);
        check("\"a\\\" b\"@x OK\n", &[("\"a\\\" b\"@x", "OK")]);
        check("lonely@x\n\"open@x OK\n", &[]);
        check("a@x OK\0 hidden\n", &[("a@x", "OK")]);
        check("", &[]);
    }

    #[test]
    fn what_is_rendered_is_read_back() {
        let mut builder = RowsBuilder::default();
        for key in [
            "anna@example.com",
            "\"john doe\"@example.com",
            "#hash@example.com",
            "o'brien@example.com",
        ] {
            builder.push(key.as_bytes(), Facts::default());
        }
        let rows = builder.finish();
        let text = render(Said::of(Format::Text, &rows).rows(), "OK");
        let text = String::from_utf8(text).expect("UTF-8");
        check(
            &text,
            &[
                ("\"john doe\"@example.com", "OK"),
                ("anna@example.com", "OK"),
                ("o'brien@example.com", "OK"),
            ],
        );
    }

    #[test]
    fn a_key_can_be_said_if_it_is_read_back() {
        for (key, expected) in [
            ("a@x", true),
            ("müller@x", true),
            ("a#b@x", true),
            ("\"john doe\"@x", true),
            ("\"a\\\" b\"@x", true),
            ("@x", true),
            ("#a@x", false),
            ("", false),
            ("A@x", false),
            ("john doe@x", false),
            (" a@x", false),
            ("a@x\nb@x", false),
            ("a@x\0", false),
            ("a\u{b}@x", false),
            ("\"a@x", false),
        ] {
            assert_eq!(can_say(key.as_bytes()), expected, "{key:?}");
        }
    }
}
