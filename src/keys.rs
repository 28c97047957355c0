//! The keys of an address: the texts under which a gateway looks it up.
//!
//! A key is the external (quoted) form, folded as the gateway folds, once per form of the domain, because Postfix
//! converts nothing between them. CDB lookups are byte-exact, so a key that is not folded would never be found.
//!
//! Invariant: a [`Key`] is folded, quoted where Postfix quotes, and of an address of at most 254 octets. Every address has
//! at least one.

use crate::address::{ADDRESS_OCTETS_MAX, Address};
use crate::fold::{self, Folding};

/// One lookup key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// Every key of an address, without repetition: one for most, two or more for an IDN or for both foldings.
    pub fn all_of(address: &Address, folding: Folding) -> Vec<Key> {
        let local = address.quoted_local();
        let domain = address.domain();
        let mut keys = Vec::with_capacity(2);
        for domain in [domain.ascii(), domain.unicode()] {
            let whole = format!("{local}@{domain}");
            // What is said at RCPT TO is bounded; what Postfix folds it to may be longer, and is looked up all the same.
            if whole.len() > ADDRESS_OCTETS_MAX {
                continue;
            }
            for folded in folded_forms(&whole, folding) {
                let key = Key(folded);
                if !keys.contains(&key) {
                    keys.push(key);
                }
            }
        }
        keys
    }

    /// The key as it stands in a table.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `text` in every form the gateway may ask for.
pub fn folded_forms(text: &str, folding: Folding) -> Vec<String> {
    match folding {
        Folding::Unicode => vec![fold::unicode(text).into_owned()],
        Folding::Ascii => vec![fold::ascii(text).into_owned()],
        Folding::Both => vec![
            fold::unicode(text).into_owned(),
            fold::ascii(text).into_owned(),
        ],
    }
}

/// The domain part of a key. A key's domain cannot hold an `@`, its local part can. A key that is the name of a domain, or
/// of everything below it (`.example.com`), lies in that domain.
pub fn domain_part(key: &[u8]) -> &[u8] {
    match key.iter().rposition(|byte| *byte == b'@') {
        Some(at) => &key[at + 1..],
        None => key.strip_prefix(b".").unwrap_or(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(address: &str, folding: Folding, expected: &[&str]) {
        let address = Address::parse(address).expect("an address");
        let keys = Key::all_of(&address, folding);
        assert_eq!(keys.iter().map(Key::as_str).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn keys_are_what_the_gateway_asks_for() {
        check("Anna@Example.com", Folding::Unicode, &["anna@example.com"]);
        check("Anna@Example.com", Folding::Both, &["anna@example.com"]);
        check(
            "\"John Doe\"@example.com",
            Folding::Unicode,
            &["\"john doe\"@example.com"],
        );
        check(
            "A@bücher.example",
            Folding::Unicode,
            &["a@xn--bcher-kva.example", "a@bücher.example"],
        );
        check(
            "STRAßE@example.com",
            Folding::Unicode,
            &["strasse@example.com"],
        );
        check(
            "STRAßE@example.com",
            Folding::Ascii,
            &["straße@example.com"],
        );
        check(
            "STRAßE@example.com",
            Folding::Both,
            &["strasse@example.com", "straße@example.com"],
        );
        check(
            "a@straße.example",
            Folding::Unicode,
            &["a@xn--strae-oqa.example", "a@strasse.example"],
        );
        // The ASCII form of this domain makes the address too long for any path; its other form does not.
        let local = "a".repeat(ADDRESS_OCTETS_MAX - "@bücher.example".len());
        check(
            &format!("{local}@bücher.example"),
            Folding::Unicode,
            &[&format!("{local}@bücher.example")],
        );
    }

    #[test]
    fn folding_may_lengthen_a_key_but_never_lose_it() {
        // Two octets each, six when folded.
        let address = format!("{}@example.com", "\u{390}".repeat(121));
        let folded = format!("{}@example.com", "\u{3b9}\u{308}\u{301}".repeat(121));
        check(&address, Folding::Unicode, &[&folded]);
        check(&address, Folding::Both, &[&folded, &address]);
    }

    #[test]
    fn the_domain_of_a_key_is_behind_its_last_at() {
        assert_eq!(domain_part(b"\"a@b\"@example.com"), b"example.com");
        assert_eq!(domain_part(b"@example.com"), b"example.com");
        assert_eq!(domain_part(b"example.com"), b"example.com");
    }
}
