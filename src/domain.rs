//! A mail domain, in the two forms a gateway can be asked for it.
//!
//! Postfix converts nothing between `bücher.example` and `xn--bcher-kva.example` (SMTPUTF8_README, "No automatic
//! conversions"), so both forms become keys; for us they are one domain. Equality is equality of names: never a suffix,
//! never a pattern.
//!
//! Invariant: a `Domain` is a syntactically correct host name (RFC 5321 section 4.1.2, RFC 5890): no wildcard, no address
//! literal, no dot at either end.

use std::fmt;
use std::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};

use crate::fold;

/// One mail domain.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Domain {
    ascii: String,
    unicode: String,
}

/// Why a text is not a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DomainError {
    /// Nothing there.
    #[error("the domain is empty")]
    Empty,
    /// `*.example.com`, or an asterisk anywhere.
    #[error("a wildcard is not a domain")]
    Wildcard,
    /// `[192.0.2.1]`.
    #[error("an address literal is not a domain")]
    Literal,
    /// Labels, lengths or characters that no host name has.
    #[error("not a host name (letters, digits and hyphens, labels of 1 to 63 octets, or an IDN)")]
    Syntax,
}

impl Domain {
    /// Parses either form, in any case.
    pub fn parse(text: &str) -> Result<Self, DomainError> {
        match text.as_bytes() {
            [] => return Err(DomainError::Empty),
            [b'[', ..] => return Err(DomainError::Literal),
            bytes if bytes.contains(&b'*') => return Err(DomainError::Wildcard),
            bytes if bytes.ends_with(b".") => return Err(DomainError::Syntax),
            _ => {}
        }
        let ascii = idna::domain_to_ascii_strict(text).map_err(|_| DomainError::Syntax)?;
        let (unicode, checked) = idna::domain_to_unicode(&ascii);
        checked.map_err(|_| DomainError::Syntax)?;
        // UTS 46 also maps look-alikes (full-width letters, ligatures) onto plain ones. Only case may differ here: a
        // directory value that is not already one of the two forms is not the domain it resembles.
        let folded = fold::unicode(text);
        if folded != ascii && folded != fold::unicode(&unicode) {
            return Err(DomainError::Syntax);
        }
        Ok(Domain { ascii, unicode })
    }

    /// The A-label form, lower case: the identity of the domain.
    pub fn ascii(&self) -> &str {
        &self.ascii
    }

    /// The U-label form; equal to [`Domain::ascii`] for a domain without international labels.
    pub fn unicode(&self) -> &str {
        &self.unicode
    }
}

impl TryFrom<String> for Domain {
    type Error = DomainError;

    fn try_from(text: String) -> Result<Self, DomainError> {
        Domain::parse(&text)
    }
}

impl From<Domain> for String {
    fn from(domain: Domain) -> String {
        domain.ascii
    }
}

impl PartialEq for Domain {
    fn eq(&self, other: &Self) -> bool {
        self.ascii == other.ascii
    }
}

impl Eq for Domain {}

impl Hash for Domain {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.ascii.hash(state);
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.unicode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<(&str, &str), DomainError>) {
        let domain = Domain::parse(text);
        let forms = domain
            .as_ref()
            .map(|domain| (domain.ascii(), domain.unicode()));
        assert_eq!(forms.map_err(|error| *error), expected, "{text:?}");
    }

    #[test]
    fn both_forms_of_every_domain() {
        check("Example.COM", Ok(("example.com", "example.com")));
        check(
            "bücher.example",
            Ok(("xn--bcher-kva.example", "bücher.example")),
        );
        check(
            "BÜCHER.example",
            Ok(("xn--bcher-kva.example", "bücher.example")),
        );
        check(
            "XN--BCHER-KVA.example",
            Ok(("xn--bcher-kva.example", "bücher.example")),
        );
        check(
            "straße.example",
            Ok(("xn--strae-oqa.example", "straße.example")),
        );
        check(
            "strasse.example",
            Ok(("strasse.example", "strasse.example")),
        );
        check("corp", Ok(("corp", "corp")));
    }

    #[test]
    fn nothing_else_is_a_domain() {
        check("", Err(DomainError::Empty));
        check("*.example.com", Err(DomainError::Wildcard));
        check("[192.0.2.1]", Err(DomainError::Literal));
        for text in [
            ".example.com",
            "example.com.",
            "example..com",
            "exa mple.com",
            "-example.com",
            "example-.com",
            "a_b.example",
            "example.com\n",
            "exam\u{0}ple.com",
            "ｅxample.com",
            "ex\u{00AD}ample.com",
            "xn--a.example",
            "example.com@x",
            "\u{202E}example.com",
        ] {
            check(text, Err(DomainError::Syntax));
        }
        check(
            &format!("{}.example", "a".repeat(64)),
            Err(DomainError::Syntax),
        );
        check(
            &format!("{}com", "a.".repeat(126)),
            Err(DomainError::Syntax),
        );
    }
}
