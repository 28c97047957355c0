//! A mail address that can be said at `RCPT TO`, and its external form.
//!
//! Directory values become addresses here or are refused with a reason. Postfix looks a recipient up in external
//! (quoted) form first (`src/global/mail_addr_find.c`), quoted exactly where `src/global/quote_822_local.c` quotes; the
//! same rule is [`Address::quoted_local`]. Not here: folding and the two forms of a domain, which make keys (`keys`).
//!
//! Invariant: an `Address` has a non-empty local part without control characters or line ends, and a [`Domain`]; it is
//! never a wildcard.

use std::borrow::Cow;

use crate::domain::{Domain, DomainError};
use crate::fold;

/// Octets of the longest address that fits into a path of 256 with its angle brackets (RFC 5321 section 4.5.3.1.3).
pub const ADDRESS_OCTETS_MAX: usize = 254;

/// No address is written with more, however many of its characters have a backslash or fold to shorter ones: a longer text is
/// not looked into.
const TEXT_OCTETS_MAX: usize = 8 * ADDRESS_OCTETS_MAX;

/// `local@domain`, the local part in internal form: without quotes, in the case of the source.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    local: String,
    domain: Domain,
}

/// Why a text is not an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// No `@` outside quotes.
    #[error("it has no \"@\"")]
    NoAt,
    /// `@example.com`, `*@example.com`: would stand for every address of a domain in one lookup order or another.
    #[error("it is a wildcard")]
    Wildcard,
    /// Control characters, line ends, NUL.
    #[error("it holds a control character or a line end")]
    Control,
    /// A local part that is neither plain nor quoted.
    #[error("its local part is malformed")]
    Local,
    /// What [`Domain::parse`] refused.
    #[error("{0}")]
    Domain(#[from] DomainError),
    /// Longer than any path at `RCPT TO`.
    #[error("it is longer than 254 octets")]
    TooLong,
}

impl Address {
    /// Parses `local@domain`, where the local part is a dot-string, a quoted string, or needs quotes that it lacks.
    ///
    /// The limit of 64 octets for a local part (RFC 5321 section 4.5.3.1.1) is not applied: Exchange makes longer ones
    /// and Postfix takes them.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.len() > TEXT_OCTETS_MAX {
            return Err(AddressError::TooLong);
        }
        if text.contains(is_control) {
            return Err(AddressError::Control);
        }
        let (local, domain) = if text.starts_with('"') {
            split_quoted(text)?
        } else {
            split_plain(text)?
        };
        if is_wildcard(&local) {
            return Err(AddressError::Wildcard);
        }
        Address::bounded(local, Domain::parse(domain)?)
    }

    /// The address of a local part in internal form, whatever stands in it.
    pub fn of(local: &str, domain: &Domain) -> Result<Self, AddressError> {
        if local.contains(is_control) {
            return Err(AddressError::Control);
        }
        if is_wildcard(local) {
            return Err(AddressError::Wildcard);
        }
        Address::bounded(local.to_owned(), domain.clone())
    }

    fn bounded(local: String, domain: Domain) -> Result<Self, AddressError> {
        let address = Address { local, domain };
        let domain_octets = address
            .domain
            .ascii()
            .len()
            .min(address.domain.unicode().len());
        if address.quoted_local().len() + 1 + domain_octets > ADDRESS_OCTETS_MAX {
            return Err(AddressError::TooLong);
        }
        Ok(address)
    }

    /// The domain.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// The local part as it is meant, without quotes.
    pub fn local(&self) -> &str {
        &self.local
    }

    /// The local part as Postfix writes it in a lookup key: with quotes where they are needed and only there.
    pub fn quoted_local(&self) -> String {
        quoted(&self.local)
    }

    /// Whether both name the same mailbox as a gateway sees it: same domain, same folded local part.
    pub fn is_same_as(&self, other: &Address) -> bool {
        self.domain == other.domain && fold::unicode(&self.local) == fold::unicode(&other.local)
    }

    /// Whether stock Postfix turns the address away before or beside any table: a leading `-`
    /// (`allow_min_user = no`), or sender-specified routing (`allow_untrusted_routing = no`).
    pub fn is_refused_by_postfix_anyway(&self) -> bool {
        self.local.starts_with('-') || self.local.contains(['%', '!', '@'])
    }
}

/// For people: the external form with the domain as a reader knows it.
impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.quoted_local(), self.domain)
    }
}

/// Control characters and everything that ends a line somewhere.
pub fn is_control(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
}

/// A local part in external form.
pub fn quoted(local: &str) -> String {
    if is_dot_string(local) {
        return local.to_owned();
    }
    let mut quoted = String::with_capacity(local.len() + 2);
    quoted.push('"');
    for character in local.chars() {
        if matches!(character, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted.push('"');
    quoted
}

/// What stands before and behind the `@` of a lookup key, the local part in internal form; `None` where it is malformed, or no
/// address. Of `@example.com`, the local part is empty.
pub fn split_external(key: &str) -> Option<(Cow<'_, str>, &str)> {
    if key.starts_with('"') {
        let (local, domain) = split_quoted(key).ok()?;
        return Some((local.into(), domain));
    }
    let (local, domain) = key.rsplit_once('@')?;
    Some((local.into(), domain))
}

fn is_wildcard(local: &str) -> bool {
    local.is_empty() || local == "*"
}

fn split_plain(text: &str) -> Result<(String, &str), AddressError> {
    let (local, domain) = text.rsplit_once('@').ok_or(AddressError::NoAt)?;
    if local.contains(['"', '\\']) || local.starts_with(' ') || local.ends_with(' ') {
        return Err(AddressError::Local);
    }
    Ok((local.to_owned(), domain))
}

fn split_quoted(text: &str) -> Result<(String, &str), AddressError> {
    let mut local = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => local.push(characters.next().ok_or(AddressError::Local)?.1),
            '"' => {
                let rest = &text[at + 1..];
                return match rest.strip_prefix('@') {
                    Some(domain) => Ok((local, domain)),
                    None if rest.contains('@') => Err(AddressError::Local),
                    None => Err(AddressError::NoAt),
                };
            }
            other => local.push(other),
        }
    }
    Err(AddressError::Local)
}

/// `is_822_dot_string` of Postfix: atoms joined by single dots, 8-bit text allowed.
fn is_dot_string(local: &str) -> bool {
    !local.is_empty()
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..")
        && !local.contains([
            ' ', '(', ')', '<', '>', '@', ',', ';', ':', '\\', '"', '[', ']',
        ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, AddressError>) {
        assert_eq!(
            Address::parse(text)
                .map(|address| address.to_string())
                .as_deref(),
            expected.as_ref().map(|text| *text),
            "{text:?}"
        );
    }

    #[test]
    fn plain_and_quoted_addresses() {
        check("anna@example.com", Ok("anna@example.com"));
        check("Anna.Berg@Example.COM", Ok("Anna.Berg@example.com"));
        check("o'brien+list@example.com", Ok("o'brien+list@example.com"));
        check(
            "SystemMailbox{bb558c35-97f1}@example.com",
            Ok("SystemMailbox{bb558c35-97f1}@example.com"),
        );
        check("müller@bücher.example", Ok("müller@bücher.example"));
        check("müller@xn--bcher-kva.example", Ok("müller@bücher.example"));
        check("#hash@example.com", Ok("#hash@example.com"));
    }

    #[test]
    fn quotes_stand_where_postfix_writes_them() {
        check("\"anna\"@example.com", Ok("anna@example.com"));
        check("\"john doe\"@example.com", Ok("\"john doe\"@example.com"));
        check("john doe@example.com", Ok("\"john doe\"@example.com"));
        check("john..doe@example.com", Ok("\"john..doe\"@example.com"));
        check(".john@example.com", Ok("\".john\"@example.com"));
        check("\"a\\\"b\"@example.com", Ok("\"a\\\"b\"@example.com"));
        check("\"a\\\\b\"@example.com", Ok("\"a\\\\b\"@example.com"));
        check("\"a@b\"@example.com", Ok("\"a@b\"@example.com"));
        check("a@b@example.com", Ok("\"a@b\"@example.com"));
        check("a,b@example.com", Ok("\"a,b\"@example.com"));
    }

    #[test]
    fn wildcards_and_injections_are_refused() {
        check("@example.com", Err(AddressError::Wildcard));
        check("\"\"@example.com", Err(AddressError::Wildcard));
        check("*@example.com", Err(AddressError::Wildcard));
        check("a@example.com\nb@example.com", Err(AddressError::Control));
        check("a\r\n@example.com", Err(AddressError::Control));
        check("a\u{0}@example.com", Err(AddressError::Control));
        check("a\u{85}@example.com", Err(AddressError::Control));
        check("a\u{2028}@example.com", Err(AddressError::Control));
        check("a\t@example.com", Err(AddressError::Control));
        check("a\u{1b}[31m@example.com", Err(AddressError::Control));
        check(" a@example.com", Err(AddressError::Local));
        check("a\"b@example.com", Err(AddressError::Local));
        check("\"a\"b@example.com", Err(AddressError::Local));
        check("\"a@example.com", Err(AddressError::Local));
        check("\"a\\", Err(AddressError::Local));
        check("\"a\"", Err(AddressError::NoAt));
        check("anna", Err(AddressError::NoAt));
        check("", Err(AddressError::NoAt));
        check("a@", Err(AddressError::Domain(DomainError::Empty)));
        check(
            "a@[192.0.2.1]",
            Err(AddressError::Domain(DomainError::Literal)),
        );
        check(
            "a@*.example.com",
            Err(AddressError::Domain(DomainError::Wildcard)),
        );
        check(
            "a@example.com ",
            Err(AddressError::Domain(DomainError::Syntax)),
        );
    }

    #[test]
    fn octets_are_bounded_by_the_path_not_by_the_local_part() {
        let longest = format!("{}@example.com", "a".repeat(ADDRESS_OCTETS_MAX - 12));
        check(&longest, Ok(&longest));
        check(&format!("a{longest}"), Err(AddressError::TooLong));
        check(&"\n".repeat(10_000), Err(AddressError::TooLong));
        // The backslash and quotes of the external form count.
        check(
            &format!("\"{}\"@example.com", "a ".repeat(120)),
            Ok(&format!("\"{}\"@example.com", "a ".repeat(120))),
        );
        check(
            &format!("\"{}\"@example.com", "a ".repeat(121)),
            Err(AddressError::TooLong),
        );
    }

    #[test]
    fn sameness_is_that_of_the_gateway() {
        let address = |text| Address::parse(text).expect("an address");
        assert!(address("Anna@example.com").is_same_as(&address("\"anna\"@EXAMPLE.com")));
        assert!(address("a@bücher.example").is_same_as(&address("A@xn--bcher-kva.example")));
        assert!(!address("anna@example.com").is_same_as(&address("anna@sub.example.com")));
    }
}
