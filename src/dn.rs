//! Distinguished names, compared name part by name part (RFC 4514, RFC 4517 section 4.2.15).
//!
//! `OU=Leavers,DC=corp` holds `CN=Anna, OU=leavers, DC=corp` and does not hold `CN=x,OU=NotLeavers,DC=corp`: a suffix of
//! text is not a suffix of names. Not here: the DN as it was received, which entries and records keep for people to read.
//!
//! Invariant: a `DistinguishedName` is well-formed and folded, so equality of values is equality of names, and as text it is
//! read back as the same.

use std::fmt;

use crate::fold;

/// A parsed name; the part nearest to the root is last. The empty name (the root DSE) has no parts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DistinguishedName {
    parts: Vec<String>,
}

/// Why a text is not a distinguished name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnError {
    /// A part has no `=`.
    #[error("a part of the name has no \"=\"")]
    NoEquals,
    /// Nothing stands before a `=`.
    #[error("a part of the name has no attribute type before its \"=\"")]
    NoType,
    /// A backslash at the end, or escaped bytes that are not UTF-8.
    #[error("a backslash escape is incomplete or not UTF-8")]
    Escape,
}

impl DistinguishedName {
    /// Parses the string form of RFC 4514.
    pub fn parse(text: &str) -> Result<Self, DnError> {
        if text.trim().is_empty() {
            return Ok(DistinguishedName { parts: Vec::new() });
        }
        let parts = split_unescaped(text, ',')
            .into_iter()
            .map(parse_part)
            .collect::<Result<Vec<_>, _>>()?;
        Ok(DistinguishedName { parts })
    }

    /// The name of the domain that it lies in, as text: its `dc=` parts nearest to the root. `None` without any, and where
    /// one could not stand there without an escape.
    pub fn domain(&self) -> Option<String> {
        let is_other = |part: &String| !part.starts_with("dc=");
        let from = self.parts.iter().rposition(is_other).map_or(0, |at| at + 1);
        let parts = &self.parts[from..];
        let is_plain = |part: &String| {
            let label = part.strip_prefix("dc=").unwrap_or_default();
            label
                .chars()
                .all(|character| character.is_alphanumeric() || character == '-')
        };
        (!parts.is_empty() && parts.iter().all(is_plain)).then(|| parts.join(","))
    }

    /// Whether this is `base` itself or lies anywhere below it.
    pub fn is_at_or_under(&self, base: &DistinguishedName) -> bool {
        self.parts.ends_with(&base.parts)
    }
}

/// The parts as they are compared: folded, with a backslash before what would end one of them.
impl fmt::Display for DistinguishedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.parts.join(","))
    }
}

/// The name of the container of an entry, out of the entry's name as received; empty for the name of a root, and for what is
/// no name.
pub fn container_of(text: &str) -> &str {
    split_unescaped(text, ',')
        .first()
        .and_then(|first| text.get(first.len() + 1..))
        .map_or("", str::trim_start)
}

/// A name as received without the `DC=` parts at its end; the whole of one that has no others.
pub fn below_domain(text: &str) -> &str {
    let parts = split_unescaped(text, ',');
    let is_other = |part: &&str| {
        let kind = part.trim_start().get(..3);
        !kind.is_some_and(|kind| kind.eq_ignore_ascii_case("DC="))
    };
    match parts.iter().rposition(is_other) {
        Some(last) => {
            let length: usize = parts[..=last].iter().map(|part| part.len() + 1).sum();
            &text[..length - 1]
        }
        None => text,
    }
}

/// One part: attributes joined by `+` in any order, each `type=value`.
fn parse_part(text: &str) -> Result<String, DnError> {
    let mut pairs = split_unescaped(text, '+')
        .into_iter()
        .map(parse_pair)
        .collect::<Result<Vec<_>, _>>()?;
    pairs.sort_unstable();
    Ok(pairs.join("+"))
}

fn parse_pair(text: &str) -> Result<String, DnError> {
    let (kind, value) = text.split_once('=').ok_or(DnError::NoEquals)?;
    let kind = kind.trim();
    // What hides a separator is part of a value; a type that held it would not end where it seems to.
    if kind.is_empty() || kind.contains(['"', '\\']) {
        return Err(DnError::NoType);
    }
    let value = unescape(trim_unescaped(value))?;
    // Insignificant space handling: runs of spaces count as one (RFC 4518 section 2.6.1).
    let squeezed = value
        .split(' ')
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    Ok(format!(
        "{}={}",
        kind.to_ascii_lowercase(),
        escaped(&fold::unicode(&squeezed))
    ))
}

/// A value so that nothing in it ends it: two names are the same text only if they are the same name.
fn escaped(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for character in value.chars() {
        if matches!(character, '\\' | '"' | '+' | ',') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

fn split_unescaped(text: &str, separator: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut escaped, mut quoted) = (0, false, false);
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            _ if character == separator && !quoted => {
                parts.push(&text[start..at]);
                start = at + separator.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// Trims spaces around a value, but not the one that a backslash protects.
fn trim_unescaped(value: &str) -> &str {
    let value = value.trim_start_matches(' ');
    let trimmed = value.trim_end_matches(' ');
    let backslashes = trimmed
        .bytes()
        .rev()
        .take_while(|byte| *byte == b'\\')
        .count();
    if backslashes % 2 == 1 && trimmed.len() < value.len() {
        &value[..=trimmed.len()]
    } else {
        trimmed
    }
}

fn unescape(value: &str) -> Result<String, DnError> {
    let value = value
        .strip_prefix('"')
        .and_then(|inner| inner.strip_suffix('"'))
        .unwrap_or(value);
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let first = rest.next().ok_or(DnError::Escape)?;
        match hex(first) {
            Some(high) => {
                let low = rest.next().and_then(hex).ok_or(DnError::Escape)?;
                bytes.push(high << 4 | low);
            }
            None => bytes.push(first),
        }
    }
    String::from_utf8(bytes).map_err(|_| DnError::Escape)
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, base: &str, expected: bool) {
        let name = DistinguishedName::parse(name).expect("a name");
        let base = DistinguishedName::parse(base).expect("a base");
        assert_eq!(name.is_at_or_under(&base), expected);
    }

    #[test]
    fn the_container_is_behind_the_first_part() {
        for (name, container, short) in [
            (
                "CN=Anna,OU=Sales,OU=Köln,DC=corp,DC=example",
                "OU=Sales,OU=Köln,DC=corp,DC=example",
                "OU=Sales,OU=Köln",
            ),
            (
                "CN=Berg\\, Anna, OU=Sales,dc=corp",
                "OU=Sales,dc=corp",
                "OU=Sales",
            ),
            ("CN=\"Berg, Anna\",DC=corp", "DC=corp", "DC=corp"),
            (
                "CN=x,OU=a\\,DC=b,DC=corp",
                "OU=a\\,DC=b,DC=corp",
                "OU=a\\,DC=b",
            ),
            ("DC=example", "", ""),
            ("line 12", "", ""),
            ("", "", ""),
            ("\u{dc}", "", ""),
        ] {
            assert_eq!(container_of(name), container, "{name}");
            assert_eq!(below_domain(container), short, "{name}");
        }
    }

    #[test]
    fn below_is_by_name_parts() {
        check(
            "CN=Anna,OU=Leavers,DC=corp,DC=example",
            "OU=Leavers,DC=corp,DC=example",
            true,
        );
        check(
            "OU=Leavers,DC=corp,DC=example",
            "OU=Leavers,DC=corp,DC=example",
            true,
        );
        check(
            "cn=anna, ou=LEAVERS , dc=Corp,dc=example",
            "OU=Leavers,DC=corp,DC=example",
            true,
        );
        check(
            "CN=x,OU=NotLeavers,DC=corp,DC=example",
            "OU=Leavers,DC=corp,DC=example",
            false,
        );
        check(
            "CN=x,DC=corp,DC=example",
            "OU=Leavers,DC=corp,DC=example",
            false,
        );
        check(
            "CN=a\\,OU=Leavers,DC=corp,DC=example",
            "OU=Leavers,DC=corp,DC=example",
            false,
        );
        check("CN=M\\C3\\BCller,OU=A\\20,DC=x", "ou=a\\ ,dc=x", true);
        check("CN=MÜLLER,DC=x", "cn=m\\C3\\BCller,dc=X", true);
        check("CN=\"a,b\",DC=x", "CN=a\\,b,DC=x", true);
        check("OU=b+CN=a,DC=x", "CN=a+OU=B,DC=x", true);
        // One value is not two, whatever stands in it.
        check("CN=a\\00OU=b,DC=x", "CN=a+OU=b,DC=x", false);
        check("CN=a\\+OU=b,DC=x", "CN=a+OU=b,DC=x", false);
        check("CN=a\\2BOU\\3Db,DC=x", "CN=a\\+ou=b,DC=x", true);
        check("DC=x", "", true);
    }

    #[test]
    fn broken_names_are_told() {
        assert_eq!(DistinguishedName::parse("Leavers"), Err(DnError::NoEquals));
        assert_eq!(DistinguishedName::parse("=x,DC=y"), Err(DnError::NoType));
        assert_eq!(DistinguishedName::parse("C\\N=x"), Err(DnError::NoType));
        assert_eq!(DistinguishedName::parse("CN=a\\"), Err(DnError::Escape));
        assert_eq!(DistinguishedName::parse("CN=\\FF"), Err(DnError::Escape));
    }
}
