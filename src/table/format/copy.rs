//! Rows as PostgreSQL writes and reads them (`COPY … TO STDOUT`, text format): a key, a tab, a value, a line end, with
//! backslashes before what would end one of them.
//!
//! Rows in the byte order of their keys are the same octets on both sides, so
//! `psql -Atqc 'COPY (SELECT address, value FROM … ORDER BY address COLLATE "C") TO STDOUT' | sha256sum`
//! prints the digest that is recorded of them.

use std::io::{self, Write};

use super::{KeyValue, ReadError, Said};
use crate::table::value::RowValues;

/// An entry of an index of PostgreSQL holds at most a third of a page of 8 KiB.
const KEY_OCTETS_MAX: usize = 2000;

/// Whether a relation holds a key.
pub fn can_say(key: &[u8]) -> bool {
    key.len() <= KEY_OCTETS_MAX && !key.contains(&0) && std::str::from_utf8(key).is_ok()
}

/// Writes every row.
pub fn render(said: &Said<'_>, values: &RowValues, out: &mut impl Write) -> io::Result<()> {
    said.lines(values)
        .try_for_each(|(key, value)| write_row(out, key, value))
}

/// Writes one row.
pub fn write_row(out: &mut impl Write, key: &[u8], value: &[u8]) -> io::Result<()> {
    write_escaped(out, key)?;
    out.write_all(b"\t")?;
    write_escaped(out, value)?;
    out.write_all(b"\n")
}

const ESCAPES: [(u8, u8); 7] = [
    (b'\\', b'\\'),
    (0x08, b'b'),
    (0x0c, b'f'),
    (b'\n', b'n'),
    (b'\r', b'r'),
    (b'\t', b't'),
    (0x0b, b'v'),
];

fn write_escaped(out: &mut impl Write, text: &[u8]) -> io::Result<()> {
    let mut rest = text;
    loop {
        let found = rest.iter().enumerate().find_map(|(at, octet)| {
            let (_, letter) = ESCAPES.iter().find(|(escaped, _)| escaped == octet)?;
            Some((at, *letter))
        });
        let Some((at, letter)) = found else {
            return out.write_all(rest);
        };
        out.write_all(&rest[..at])?;
        out.write_all(&[b'\\', letter])?;
        rest = &rest[at + 1..];
    }
}

/// Reads rows that were copied out.
pub fn read(bytes: &[u8]) -> Result<Vec<KeyValue>, ReadError> {
    let lines = bytes.split_inclusive(|octet| *octet == b'\n');
    lines.map(read_row).collect()
}

/// Reads one row, its line end included.
pub fn read_row(line: &[u8]) -> Result<KeyValue, ReadError> {
    let wrong = |why: &str| ReadError(why.to_owned());
    let line = line
        .strip_suffix(b"\n")
        .ok_or_else(|| wrong("a row lacks its end"))?;
    let mut fields = line.split(|octet| *octet == b'\t');
    match (fields.next(), fields.next(), fields.next()) {
        (Some(key), Some(value), None) => Ok((unescaped(key)?, unescaped(value)?)),
        _ => Err(wrong("a row has not two columns")),
    }
}

fn unescaped(field: &[u8]) -> Result<Vec<u8>, ReadError> {
    let mut text = Vec::with_capacity(field.len());
    let mut octets = field.iter();
    while let Some(octet) = octets.next() {
        if *octet != b'\\' {
            text.push(*octet);
            continue;
        }
        let letter = octets.next();
        if letter == Some(&b'N') {
            return Err(ReadError(
                "a row has NULL where an address or a value is meant".into(),
            ));
        }
        let escape = ESCAPES.iter().find(|(_, escape)| Some(escape) == letter);
        match escape {
            Some((escaped, _)) => text.push(*escaped),
            None => return Err(ReadError("a backslash stands before nothing known".into())),
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_they_were() {
        for (key, value, expected) in [
            ("anna@example.com", "OK", "anna@example.com\tOK\n"),
            (
                "\"a\\\\b\"@x",
                "550 5.1.1 no",
                "\"a\\\\\\\\b\"@x\t550 5.1.1 no\n",
            ),
            (
                "a\tb\nc\rd",
                "\u{8}\u{b}\u{c}",
                "a\\tb\\nc\\rd\t\\b\\v\\f\n",
            ),
            ("jürgen@bücher.example", "", "jürgen@bücher.example\t\n"),
        ] {
            let mut out = Vec::new();
            write_row(&mut out, key.as_bytes(), value.as_bytes()).expect("memory");
            assert_eq!(out, expected.as_bytes(), "{key}");
            let row = (key.as_bytes().to_vec(), value.as_bytes().to_vec());
            assert_eq!(read(&out), Ok(vec![row]), "{key}");
        }
    }

    #[test]
    fn what_is_no_row_is_refused() {
        for (bytes, expected) in [
            ("a\tb", "lacks its end"),
            ("a\n", "two columns"),
            ("a\tb\tc\n", "two columns"),
            ("\n", "two columns"),
            ("\\N\tOK\n", "NULL"),
            ("a\\\tOK\n", "backslash"),
            ("a\\q\tOK\n", "backslash"),
        ] {
            let error = read(bytes.as_bytes()).expect_err(bytes).to_string();
            assert!(error.contains(expected), "{bytes:?}: {error}");
        }
        assert_eq!(read(b""), Ok(Vec::new()));
    }

    #[test]
    fn a_key_is_text_that_an_index_can_hold() {
        for (key, expected) in [
            (&b"a@x"[..], true),
            (b"#a@x", true),
            (b"a\0@x", false),
            (b"\xff@x", false),
            (&[b'a'; 2000], true),
            (&[b'a'; 2001], false),
        ] {
            assert_eq!(can_say(key), expected, "{key:?}");
        }
    }
}
