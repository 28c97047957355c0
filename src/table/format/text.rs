//! The source text of a lookup table: `key value` lines, as postmap and texthash read them.
//!
//! Grammar: `src/util/readlline.c` and `src/postmap/postmap.c` of Postfix. A line whose first character is `#` is a
//! comment, so a key that begins with `#` cannot be said here (nor in what postmap builds from it) and is left out; a CDB
//! of our own holds it. The reader does what postmap does, including what it merely warns about, and holds one line.

use std::borrow::Cow;
use std::io::{self, BufRead, Write};

use crate::fold::{self, Folding};
use crate::table::format::{KeyValue, Said};
use crate::table::value::{Meaning, RowValues};

/// Constant, so that the same rows are the same bytes.
const HEAD: &str = "\
# Written by rcptsync. Changes made here by hand are found at the next run: rows
# that no source knows are held and reported, all else is written anew.
# Addresses that no directory knows belong into a source of kind \"list\"
# (see [source.NAME] in rcptsync.toml).
";

/// Writes the text.
pub fn render(said: &Said<'_>, values: &RowValues, out: &mut impl Write) -> io::Result<()> {
    out.write_all(HEAD.as_bytes())?;
    let rests = Meaning::ALL.map(|meaning| format!(" {}\n", values.of(meaning)));
    for row in said.rows() {
        out.write_all(row.key)?;
        out.write_all(rests[usize::from(row.meaning().number())].as_bytes())?;
    }
    Ok(())
}

/// Whether the text can hold a key: a reader of its line finds this key and no other. Of our own keys only those that
/// begin with `#` fail; a foreign index may hold anything, line ends included.
pub fn can_say(key: &[u8]) -> bool {
    if !key.is_empty() && is_plain(key) {
        return true;
    }
    // Postfix counts the vertical tab as a space, which Rust does not.
    if key.iter().any(u8::is_ascii_control) {
        return false;
    }
    let rows = read(&[key, b" OK"].concat(), Folding::Ascii);
    matches!(rows.as_slice(), [(found, value)] if found == key && value == b"OK")
}

/// Whether there is nothing in a key that a quote, a comment, a space or the folding of ASCII could touch. Without an early
/// end, so that many octets are looked at in one step.
fn is_plain(key: &[u8]) -> bool {
    key.iter().fold(true, |is_plain, byte| {
        let is_letter_or_sign = (b'!' <= *byte) & (*byte != 0x7f);
        let is_capital = (b'A' <= *byte) & (*byte <= b'Z');
        let is_special = (*byte == b'#') | (*byte == b'"') | (*byte == b'\\');
        is_plain & is_letter_or_sign & !is_capital & !is_special
    })
}

/// The keys and values of a text, in its order; of a key that stands there twice only the first.
pub fn read(bytes: &[u8], folding: Folding) -> Vec<KeyValue> {
    let mut rows: Vec<KeyValue> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    let each = |key: &[u8], value: &[u8]| {
        if seen.insert(key.to_vec()) {
            rows.push((key.to_vec(), value.to_vec()));
        }
    };
    // What lies in memory can always be read.
    each_row(bytes, folding, each).unwrap_or_default();
    rows
}

/// Tells every row of a text as it is read, a key that stands there twice both times.
pub fn each_row(
    input: impl BufRead,
    folding: Folding,
    mut each: impl FnMut(&[u8], &[u8]),
) -> io::Result<()> {
    each_line(input, |line| {
        if let Some((key, value)) = split(line) {
            each(&folded(key, folding), value);
        }
    })
}

fn folded(key: &[u8], folding: Folding) -> Cow<'_, [u8]> {
    if is_plain(key) && (folding == Folding::Ascii || key.is_ascii()) {
        return Cow::Borrowed(key);
    }
    let folded = match (std::str::from_utf8(key), folding) {
        (Ok(text), Folding::Unicode | Folding::Both) => fold::unicode(text),
        (Ok(text), Folding::Ascii) => fold::ascii(text),
        (Err(_), _) => return Cow::Owned(key.to_ascii_lowercase()),
    };
    match folded {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}

/// Joins continuation lines and drops comments and blank lines, even in the middle of a continued line.
fn each_line(mut input: impl BufRead, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let (mut logical, mut line) = (Vec::new(), Vec::new());
    while input.read_until(b'\n', &mut line)? > 0 {
        line.pop_if(|last| *last == b'\n');
        // A NUL ends the text for Postfix.
        if line.contains(&0) {
            let end = line.iter().position(|byte| *byte == 0);
            line.truncate(end.unwrap_or(line.len()));
        }
        let content = line.trim_ascii_start();
        let (is_content, is_start) = (
            !content.is_empty() && content[0] != b'#',
            content.len() == line.len(),
        );
        if is_content && is_start {
            if !logical.is_empty() {
                each(&logical);
            }
            std::mem::swap(&mut logical, &mut line);
        } else if is_content && !logical.is_empty() {
            logical.extend_from_slice(&line);
        }
        line.clear();
    }
    if !logical.is_empty() {
        each(&logical);
    }
    Ok(())
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
    // Most keys have neither quotes nor escapes, and end where the first such or a space stands.
    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\') || byte.is_ascii_whitespace();
    let plain_octets = line.iter().position(is_special)?;
    let end = plain_octets + line[plain_octets..].iter().position(is_end)?;
    let value = line[end..].trim_ascii();
    (!value.is_empty() && end > 0).then_some((&line[..end], value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Format;
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
        let mut text = Vec::new();
        render(
            &Said::of(Format::Text, &rows),
            &RowValues::alike("OK"),
            &mut text,
        )
        .expect("memory");
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
    fn each_octet_is_plain_or_not() {
        for octet in 0..=u8::MAX {
            let is_allowed = (octet.is_ascii_graphic() || !octet.is_ascii())
                && !octet.is_ascii_uppercase()
                && !b"#\"\\".contains(&octet);
            let key = [&[b'a'; 40], &[octet][..], &[b'a'; 3]].concat();
            assert_eq!(is_plain(&key), is_allowed, "{octet}");
        }
    }

    #[test]
    fn a_key_can_be_said_if_it_is_read_back() {
        for (key, expected) in [
            ("a@x", true),
            ("müller@x", true),
            ("MÜLLER@x", false),
            ("mü ller@x", false),
            ("\"mü ller\"@x", true),
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
