//! LDIF (RFC 2849), as much of it as the tests write and read.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Appends `name: value`, in Base64 where the value could be taken for something else.
pub fn push_line(ldif: &mut String, name: &str, value: &str) {
    ldif.push_str(name);
    if is_plain(value) {
        ldif.push_str(": ");
        ldif.push_str(value);
    } else {
        ldif.push_str(":: ");
        ldif.push_str(&STANDARD.encode(value));
    }
    ldif.push('\n');
}

/// Appends `name:: value` for a value that is not text.
pub fn push_bytes(ldif: &mut String, name: &str, value: &[u8]) {
    ldif.push_str(name);
    ldif.push_str(":: ");
    ldif.push_str(&STANDARD.encode(value));
    ldif.push('\n');
}

fn is_plain(value: &str) -> bool {
    value.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        && !value.starts_with([' ', ':', '<'])
        && !value.ends_with(' ')
}

/// A value of a relative name, as RFC 4514 escapes it.
pub fn escape_name(value: &str) -> String {
    let mut escaped = String::new();
    for character in value.chars() {
        if matches!(
            character,
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=' | '#'
        ) {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// How many entries an answer of `ldapsearch -LLL` holds.
pub fn entries_count(answer: &str) -> usize {
    answer
        .lines()
        .filter(|line| line.starts_with("dn:"))
        .count()
}
