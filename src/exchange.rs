//! What a directory says of its Exchange organisation: accepted domains, a hybrid configuration. Facts, pure.
//!
//! Like records, they are stored per source and decided upon anew in every run. Not here: how they are read
//! (`directory::domains`) and what follows from them (`command::plan`).

use serde::{Deserialize, Serialize};

use crate::domain::Domain;
use crate::domains::{Entry, Reach};
use crate::entry::Entry as DirectoryEntry;

/// The class of an accepted domain.
pub const ACCEPTED_DOMAIN_CLASS: &str = "msExchAcceptedDomain";
/// The class of a hybrid configuration.
pub const HYBRID_CLASS: &str = "msExchCoexistenceRelationship";
/// The name of an accepted domain: `example.com` or `*.example.com`.
pub const NAME: &str = "msExchAcceptedDomainName";
/// Its type and more, in bits.
pub const FLAGS: &str = "msExchAcceptedDomainFlags";

const TYPE_BITS: i64 = 0b11;
const MATCH_SUB_DOMAINS: i64 = 0x1_0000;

/// What Exchange does with mail for an accepted domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// All its recipients are in the organisation.
    Authoritative,
    /// None of them needs to be: Exchange passes its mail on.
    ExternalRelay,
    /// Some of them are, others live elsewhere.
    InternalRelay,
    /// A value that no version of Exchange writes.
    Unknown,
}

impl Relation {
    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Relation::Authoritative => "authoritative",
            Relation::ExternalRelay => "external relay",
            Relation::InternalRelay => "internal relay",
            Relation::Unknown => "unknown",
        }
    }
}

/// An accepted domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcceptedDomain {
    /// Its name.
    pub domain: Domain,
    /// What Exchange does with its mail.
    pub relation: Relation,
    /// Whether whole labels to its left belong to it.
    pub with_sub_domains: bool,
}

impl AcceptedDomain {
    /// As it enters the list of domains: relayed domains are cut out of a listed domain that they lie below.
    pub fn entry(&self) -> Entry {
        Entry {
            domain: self.domain.clone(),
            reach: if self.with_sub_domains {
                Reach::WithSubDomains
            } else {
                Reach::Itself
            },
            is_excluded: self.relation != Relation::Authoritative,
        }
    }

    /// Whether it is the domain through which Exchange on the premises and in the cloud reach each other.
    pub fn is_cloud_routing(&self) -> bool {
        self.domain.ascii().ends_with(".mail.onmicrosoft.com")
    }

    /// Whether a domain is this one or, where it says so, lies in it.
    pub fn covers(&self, domain: &Domain) -> bool {
        let below = domain.ascii().strip_suffix(self.domain.ascii());
        self.domain == *domain
            || (self.with_sub_domains && below.is_some_and(|labels| labels.ends_with('.')))
    }
}

/// Everything that was found in one directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Organisation {
    /// Its accepted domains.
    pub accepted_domains: Vec<AcceptedDomain>,
    /// Whether it has a hybrid configuration with Exchange Online; `None` where that could not be looked at.
    pub is_hybrid: Option<bool>,
    /// Containers of Exchange's own objects that no `base` of the source reaches although mail-enabled public folders lie
    /// in them.
    pub folders_out_of_reach: Vec<String>,
}

impl Organisation {
    /// The accepted domain that Exchange goes by for a domain: the one with the most labels.
    pub fn accepted(&self, domain: &Domain) -> Option<&AcceptedDomain> {
        let covering = self.accepted_domains.iter();
        covering
            .filter(|accepted| accepted.covers(domain))
            .max_by_key(|accepted| accepted.domain.ascii().len())
    }
}

/// Why an entry is no accepted domain to go by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// Its name is missing, or none of a domain (`*`: mail for everybody).
    Name(String),
    /// Its flags are not a number.
    Flags,
}

/// The accepted domain that an entry stands for.
pub fn accepted_domain(entry: &DirectoryEntry) -> Result<AcceptedDomain, Unusable> {
    let text = |name| {
        let value = entry.values(name).next();
        value.map(|value| String::from_utf8_lossy(value).trim().to_owned())
    };
    let written = text(NAME).unwrap_or_default();
    let flags = match text(FLAGS) {
        None => 0,
        Some(flags) => flags.parse::<i64>().map_err(|_| Unusable::Flags)?,
    };
    let (has_star, name) = match written.strip_prefix("*.") {
        Some(name) => (true, name),
        None => (false, written.as_str()),
    };
    let domain = Domain::parse(name).map_err(|_| Unusable::Name(written.clone()))?;
    Ok(AcceptedDomain {
        domain,
        relation: match flags & TYPE_BITS {
            0 => Relation::Authoritative,
            1 => Relation::ExternalRelay,
            2 => Relation::InternalRelay,
            _ => Relation::Unknown,
        },
        with_sub_domains: has_star || flags & MATCH_SUB_DOMAINS != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, flags: Option<&str>) -> DirectoryEntry {
        let mut entry = DirectoryEntry::named("CN=x");
        entry.add_name("msexchaccepteddomainname");
        entry.add_value(name.as_bytes());
        if let Some(flags) = flags {
            entry.add_name(FLAGS);
            entry.add_value(flags.as_bytes());
        }
        entry
    }

    #[track_caller]
    fn check(name: &str, flags: Option<&str>, expected: Result<(&str, Relation, bool), Unusable>) {
        let found = accepted_domain(&entry(name, flags));
        let found = found.map(|found| {
            let name = found.domain.to_string();
            (name, found.relation, found.with_sub_domains)
        });
        let expected = expected.map(|(name, relation, sub)| (name.to_owned(), relation, sub));
        assert_eq!(found, expected, "{name} {flags:?}");
    }

    #[test]
    fn the_two_lowest_bits_are_the_type() {
        use Relation::{Authoritative, ExternalRelay, InternalRelay};
        check(
            "example.com",
            None,
            Ok(("example.com", Authoritative, false)),
        );
        check(
            "example.com",
            Some("12"),
            Ok(("example.com", Authoritative, false)),
        );
        check(
            "Example.COM",
            Some("1"),
            Ok(("example.com", ExternalRelay, false)),
        );
        check(
            "example.com",
            Some("10"),
            Ok(("example.com", InternalRelay, false)),
        );
        check(
            "example.com",
            Some("3"),
            Ok(("example.com", Relation::Unknown, false)),
        );
        check(
            "*.example.com",
            Some("8"),
            Ok(("example.com", Authoritative, true)),
        );
        check(
            "example.com",
            Some("65544"),
            Ok(("example.com", Authoritative, true)),
        );
        check(
            "example.com",
            Some("-2147418112"),
            Ok(("example.com", Authoritative, true)),
        );
        check(
            "xn--bcher-kva.example",
            Some("8"),
            Ok(("bücher.example", Authoritative, false)),
        );
    }

    #[test]
    fn what_is_no_domain_lists_nothing() {
        for name in [
            "*",
            "",
            "*.",
            "exa mple.com",
            "*.*.example.com",
            "[192.0.2.1]",
        ] {
            check(name, Some("0"), Err(Unusable::Name(name.into())));
        }
        check("example.com", Some("twelve"), Err(Unusable::Flags));
    }

    #[test]
    fn the_accepted_domain_with_the_most_labels_decides() {
        let accepted = |name: &str, flags: &str| {
            accepted_domain(&entry(name, Some(flags))).expect("an accepted domain")
        };
        let organisation = Organisation {
            accepted_domains: vec![
                accepted("*.example.com", "0"),
                accepted("*.relay.example.com", "1"),
                accepted("example.org", "2"),
            ],
            ..Organisation::default()
        };
        for (name, expected) in [
            ("example.com", Some(Relation::Authoritative)),
            ("a.example.com", Some(Relation::Authoritative)),
            ("relay.example.com", Some(Relation::ExternalRelay)),
            ("a.relay.example.com", Some(Relation::ExternalRelay)),
            ("example.org", Some(Relation::InternalRelay)),
            ("a.example.org", None),
            ("notexample.com", None),
        ] {
            let domain = Domain::parse(name).expect("a domain");
            let found = organisation.accepted(&domain).map(|found| found.relation);
            assert_eq!(found, expected, "{name}");
        }
        assert!(accepted("corp.mail.onmicrosoft.com", "0").is_cloud_routing());
        assert!(!accepted("corpmail.onmicrosoft.com", "0").is_cloud_routing());
        assert!(!accepted("mail.onmicrosoft.com", "0").is_cloud_routing());
    }
}
