//! Plain addresses, decided and folded without an allocation: letters, digits and a few signs in front of a domain that was
//! met before. Nearly all addresses of a large directory are plain.
//!
//! Not here: any rule. What becomes of an address that is not plain, and what a domain is that was not met yet, `policy`,
//! `keys` and `domains` say.
//!
//! Invariant: what is said here of a value is what [`Policy::decide`] and [`Key::all_of`](crate::keys::Key::all_of) say of
//! it; the test compares them.

use crate::address::{self, ADDRESS_OCTETS_MAX};
use crate::domain::Domain;
use crate::domains::{ByName, Domains, forms_of};
use crate::fold::Folding;
use crate::policy::{Policy, Reason};
use crate::record;

/// Domains beyond are not remembered: a directory may hold addresses of any number of foreign ones.
const DOMAINS_MAX: usize = 10_000;

/// Decides plain addresses.
#[derive(Debug)]
pub struct PlainAddresses<'run> {
    policy: &'run Policy<'run>,
    domains: &'run Domains,
    folding: Folding,
    met: ByName<Met>,
    /// Where keys are put together.
    key: Vec<u8>,
}

/// What is known of a domain, by the text behind the `@`.
#[derive(Debug)]
enum Met {
    NoDomain,
    Foreign {
        octets_max: usize,
    },
    Listed {
        octets_max: usize,
        number: usize,
        ascii: Vec<u8>,
        /// As they stand in keys.
        forms: Vec<Vec<u8>>,
    },
}

/// What becomes of a plain value, as far as the value itself decides.
#[derive(Debug)]
pub enum Plain<'address> {
    /// It gets no row.
    LeftOut(Reason),
    /// It gets rows if its record does not say otherwise.
    Listed(Keys<'address>),
}

/// The keys of a plain address.
#[derive(Debug)]
pub struct Keys<'address> {
    /// The number of the listed domain that the address lies in.
    pub domain: usize,
    key: &'address mut Vec<u8>,
    forms: &'address [Vec<u8>],
}

impl<'run> PlainAddresses<'run> {
    /// By the rules of a run.
    pub fn new(policy: &'run Policy<'run>, domains: &'run Domains, folding: Folding) -> Self {
        PlainAddresses {
            policy,
            domains,
            folding,
            met: ByName::default(),
            key: Vec::new(),
        }
    }

    /// Decides a value of `proxyAddresses`; `None` where it is not plain.
    pub fn decide(&mut self, value: &[u8]) -> Option<Plain<'_>> {
        let Some(address) = record::smtp_address(value) else {
            return Some(Plain::LeftOut(Reason::NotSmtp));
        };
        if address.len() > ADDRESS_OCTETS_MAX {
            return None;
        }
        let at = address.iter().rposition(|octet| *octet == b'@')?;
        let (local, domain) = (&address[..at], &address[at + 1..]);
        if !is_plain(local) {
            return None;
        }
        if self.met.get(domain).is_none() {
            self.meet(domain)?;
        }
        let (octets_max, listed) = match self.met.get(domain)? {
            Met::NoDomain => return Some(Plain::LeftOut(Reason::Malformed)),
            Met::Foreign { octets_max } => (octets_max, None),
            Met::Listed {
                octets_max,
                number,
                ascii,
                forms,
            } => (octets_max, Some((*number, ascii, forms))),
        };
        if local.len() + 1 + octets_max > ADDRESS_OCTETS_MAX {
            return None;
        }
        let Some((domain, ascii, forms)) = listed else {
            return Some(Plain::LeftOut(Reason::ForeignDomain));
        };
        self.key.clear();
        self.key.extend(local.iter().map(u8::to_ascii_lowercase));
        self.key.push(b'@');
        if self.policy.excludes_any() {
            let name = [&self.key, ascii.as_slice()].concat();
            if self.policy.excludes(&name) {
                return Some(Plain::LeftOut(Reason::Excluded));
            }
        }
        let key = &mut self.key;
        Some(Plain::Listed(Keys { domain, key, forms }))
    }

    /// Remembers a domain; `None` where that is not for us.
    fn meet(&mut self, name: &[u8]) -> Option<()> {
        let text = std::str::from_utf8(name).ok()?;
        if self.met.len() >= DOMAINS_MAX || text.contains(address::is_control) {
            return None;
        }
        let met = match Domain::parse(text) {
            Err(_) => Met::NoDomain,
            Ok(domain) => {
                let octets_max = domain.ascii().len().max(domain.unicode().len());
                match self.domains.number_of(&domain) {
                    None => Met::Foreign { octets_max },
                    Some(number) => Met::Listed {
                        octets_max,
                        number,
                        ascii: domain.ascii().as_bytes().to_vec(),
                        forms: forms_of(&domain, self.folding),
                    },
                }
            }
        };
        self.met.insert(name, met);
        Some(())
    }
}

impl Keys<'_> {
    /// Hands over each key.
    pub fn for_each(self, mut each: impl FnMut(&[u8])) {
        let local_octets = self.key.len();
        for form in self.forms {
            self.key.truncate(local_octets);
            self.key.extend_from_slice(form);
            each(self.key);
        }
    }
}

/// Whether a local part needs no quotes, folds octet by octet, is no wildcard, and is not refused by Postfix anyway.
fn is_plain(local: &[u8]) -> bool {
    const PLAIN: [bool; 256] = {
        let mut plain = [false; 256];
        let mut at = 0;
        while at < 256 {
            let octet = at as u8;
            plain[at] = octet.is_ascii_alphanumeric()
                || matches!(
                    octet,
                    b'.' | b'_' | b'-' | b'\'' | b'+' | b'&' | b'=' | b'#'
                );
            at += 1;
        }
        plain
    };
    let mut last = b'.';
    for octet in local {
        if !PLAIN[usize::from(*octet)] || (*octet == b'.' && last == b'.') {
            return false;
        }
        last = *octet;
    }
    last != b'.' && local.first() != Some(&b'-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Key;
    use crate::policy::Decision;
    use crate::record::RecordRef;

    const CONFIG: &str = r#"
        [domains]
        list = ["example.com", "bücher.example", "straße.example"]
        [source.a]
        kind = "list"
        path = "a"
        [table.t]
        path = "t"
        formats = ["cdb"]
        [recipients]
        exclude = ["Test@example.com", "test@bücher.example"]
    "#;

    /// What is said of a value here, and by the rules; whether it is plain.
    #[track_caller]
    fn check(value: &[u8]) -> bool {
        let config =
            crate::config::parse(std::path::Path::new("/c"), CONFIG).expect("a configuration");
        let domains = Domains::exact(&config.domains.list);
        let policy = Policy::new(&config.recipients, &domains);
        let mut is_plain = false;
        for folding in [Folding::Unicode, Folding::Ascii, Folding::Both] {
            let expected = match policy.decide(RecordRef::default(), value) {
                Decision::LeftOut(reason) => Err(reason),
                Decision::Accepted(address) => {
                    assert!(!is_plain || !address.is_refused_by_postfix_anyway());
                    let keys = Key::all_of(&address, folding).into_iter();
                    Ok(keys.map(|key| key.as_str().to_owned()).collect::<Vec<_>>())
                }
            };
            let mut plain = PlainAddresses::new(&policy, &domains, folding);
            // Twice: its domain is met, and then known.
            for _ in 0..2 {
                let found = match plain.decide(value) {
                    None => continue,
                    Some(Plain::LeftOut(reason)) => Err(reason),
                    Some(Plain::Listed(keys)) => {
                        let mut found = Vec::new();
                        keys.for_each(|key| found.push(String::from_utf8_lossy(key).into_owned()));
                        Ok(found)
                    }
                };
                is_plain = true;
                assert_eq!(found, expected, "{}", String::from_utf8_lossy(value));
            }
        }
        is_plain
    }

    #[test]
    fn plain_addresses_are_decided_as_all_are() {
        let long = "a".repeat(250);
        let very_long = "a".repeat(3_000);
        let mut values: Vec<Vec<u8>> =
            vec![b"smtp:a\xff@example.com".to_vec(), b"smtp:a@\xff".to_vec()];
        let locals = [
            "anna",
            "Anna.Berg",
            "o'brien+list",
            "test",
            "TEST",
            "#hash",
            "a-b",
            "-a",
            "a.",
            ".a",
            "a..b",
            "",
            "*",
            "a*",
            "a b",
            "\"a\"",
            "\"a b\"",
            "a@b",
            "a%b",
            "a!b",
            "müller",
            "a\nb",
            "a\\b",
            "a,b",
            &long[..242],
            &long[..243],
            &long,
            &very_long,
        ];
        let domains = [
            "example.com",
            "EXAMPLE.com",
            "bücher.example",
            "BÜCHER.example",
            "xn--bcher-kva.example",
            "straße.example",
            "xn--strae-oqa.example",
            "strasse.example",
            "other.example",
            "sub.example.com",
            "",
            "*",
            "[192.0.2.1]",
            "a b",
            "example.com.",
            "exam\nple.com",
            "exam\u{2028}ple.com",
        ];
        for prefix in ["smtp:", "SMTP:", "Smtp:", "SIP:", "X500:", ""] {
            for local in locals {
                for domain in domains {
                    values.push(format!("{prefix}{local}@{domain}").into_bytes());
                }
                values.push(format!("{prefix}{local}").into_bytes());
            }
        }
        let plain = values.iter().filter(|value| check(value)).count();
        assert!(
            plain * 4 > values.len(),
            "{plain} of {} are plain",
            values.len()
        );
        for value in [
            "smtp:anna@example.com",
            "SMTP:O'Brien+x@BÜCHER.example",
            "SIP:anna@example.com",
        ] {
            assert!(check(value.as_bytes()), "{value}");
        }
    }
}
