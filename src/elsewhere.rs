//! Signs that recipients of a domain live where no source reads: in Exchange Online, or behind a relay. Pure.
//!
//! A directory that is in hybrid operation does not hold mailboxes and groups that were made in the cloud, so a table made
//! from it alone refuses them. Nobody can count what is not there; there are only signs. They are taken back by a source of
//! kind `list` or `ldif` that gives the domain addresses, and by `directory_is_complete = true`. What follows from a sign is
//! the guard's to say.

use std::fmt;

use crate::config::DomainRules;
use crate::domain::Domain;
use crate::domains::Domains;
use crate::exchange::{Organisation, Relation};

/// One sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sign {
    /// So many addresses of the domain belong to mailboxes that are in the cloud.
    RemoteMailboxes(u64),
    /// The organisation that gives the domain addresses has a hybrid configuration.
    HybridConfiguration,
    /// That organisation accepts mail for a domain through which the cloud is reached.
    CloudRouting(Domain),
    /// The domain itself is an internal relay domain.
    InternalRelay,
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sign::RemoteMailboxes(1) => f.write_str("1 address of a remote mailbox"),
            Sign::RemoteMailboxes(count) => write!(f, "{count} addresses of remote mailboxes"),
            Sign::HybridConfiguration => f.write_str("a hybrid configuration"),
            Sign::CloudRouting(domain) => write!(f, "the accepted domain {domain}"),
            Sign::InternalRelay => f.write_str("it is an internal relay domain"),
        }
    }
}

/// A listed domain with signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// The name of the domain.
    pub domain: String,
    /// What speaks for it, most telling first.
    pub signs: Vec<Sign>,
}

impl Elsewhere {
    /// Addresses of remote mailboxes.
    pub fn remote_count(&self) -> u64 {
        let count = |sign: &Sign| match sign {
            Sign::RemoteMailboxes(count) => *count,
            Sign::HybridConfiguration | Sign::CloudRouting(_) | Sign::InternalRelay => 0,
        };
        self.signs.iter().map(count).sum()
    }

    /// All signs in one line.
    pub fn signs_text(&self) -> String {
        let signs: Vec<String> = self.signs.iter().map(ToString::to_string).collect();
        signs.join(", ")
    }
}

/// What is known of a source.
#[derive(Clone, Copy, Debug)]
pub struct Witness<'run> {
    /// What it gives to each listed domain, in the order of the list.
    pub given: &'run [Given],
    /// What its directory says of Exchange.
    pub organisation: Option<&'run Organisation>,
    /// Whether it is a file, which somebody fills on purpose.
    pub is_file: bool,
}

/// Addresses that one source gives to one domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// How many.
    pub addresses_count: u64,
    /// Those of mailboxes that are in the cloud.
    pub remote_count: u64,
}

impl Given {
    /// Adds others to these.
    pub fn add(&mut self, other: Given) {
        self.addresses_count += other.addresses_count;
        self.remote_count += other.remote_count;
    }
}

/// The listed domains with signs, in the order of the list, without those of which the configuration says that it matters not.
pub fn find(domains: &Domains, rules: &DomainRules, witnesses: &[Witness<'_>]) -> Vec<Elsewhere> {
    let mut found = Vec::new();
    let listed = domains.iter().enumerate();
    for (number, listed) in listed.filter(|(_, listed)| rules.may_lack_recipients(&listed.domain)) {
        let mut signs = Vec::new();
        let mut is_answered = false;
        for witness in witnesses {
            let given = witness.given.get(number).copied().unwrap_or_default();
            let its_signs = signs_of(&listed.domain, witness, given);
            is_answered |= witness.is_file && given.addresses_count > 0 && its_signs.is_empty();
            signs.extend(its_signs);
        }
        if !signs.is_empty() && !is_answered {
            found.push(Elsewhere {
                domain: listed.domain.to_string(),
                signs: merged(signs),
            });
        }
    }
    found
}

fn signs_of(domain: &Domain, witness: &Witness<'_>, given: Given) -> Vec<Sign> {
    let mut signs = Vec::new();
    if given.remote_count > 0 {
        signs.push(Sign::RemoteMailboxes(given.remote_count));
    }
    let Some(organisation) = witness.organisation else {
        return signs;
    };
    let accepted = organisation.accepted(domain);
    if accepted.is_some_and(|accepted| accepted.relation == Relation::InternalRelay) {
        signs.push(Sign::InternalRelay);
    }
    // What is true of the organisation concerns the domains that it fills.
    if given.addresses_count > 0 {
        let routing = organisation.accepted_domains.iter();
        signs.extend((organisation.is_hybrid == Some(true)).then_some(Sign::HybridConfiguration));
        signs.extend(
            routing
                .filter(|accepted| accepted.is_cloud_routing())
                .map(|accepted| Sign::CloudRouting(accepted.domain.clone())),
        );
    }
    signs
}

/// Signs of several sources, each told once.
fn merged(signs: Vec<Sign>) -> Vec<Sign> {
    let mut all: Vec<Sign> = Vec::new();
    let mut remote_count = 0;
    for sign in signs {
        match sign {
            Sign::RemoteMailboxes(count) => remote_count += count,
            Sign::HybridConfiguration | Sign::CloudRouting(_) | Sign::InternalRelay => {
                if !all.contains(&sign) {
                    all.push(sign);
                }
            }
        }
    }
    if remote_count > 0 {
        all.insert(0, Sign::RemoteMailboxes(remote_count));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::current::SourceRecords;
    use crate::exchange::AcceptedDomain;
    use crate::fold::Folding;
    use crate::record::{Facts, Record};
    use crate::records::Records;
    use crate::table::wanted;

    fn record(recipient_type: u64, address: &str) -> Record {
        Record::of(Facts {
            recipient_type: Some(recipient_type),
            proxy_addresses: vec![format!("smtp:{address}").as_bytes()],
            ..Facts::default()
        })
    }

    const LOCAL: u64 = 1;
    const REMOTE: u64 = 0x8000_0000;

    fn organisation(is_hybrid: bool, accepted: &[(&str, Relation)]) -> Organisation {
        let accepted = accepted.iter().map(|(name, relation)| AcceptedDomain {
            domain: Domain::parse(name).expect("a domain"),
            relation: *relation,
            with_sub_domains: false,
        });
        Organisation {
            accepted_domains: accepted.collect(),
            is_hybrid: Some(is_hybrid),
            ..Organisation::default()
        }
    }

    /// `expected`: per domain its signs.
    #[track_caller]
    fn check(
        organisation: &Organisation,
        records: &[Record],
        list: &[Record],
        complete: &[&str],
        expected: &[&str],
    ) {
        let text = "[domains]\nlist=['example.com','example.org']\n[table.t]\npath='t'\nformats=['cdb']\n\
                    [source.a]\nkind='list'\npath='a'\n";
        let config =
            crate::config::parse(std::path::Path::new("/c"), text).expect("a configuration");
        let domains = Domains::exact(&config.domains.list);
        let rules = DomainRules {
            complete: complete
                .iter()
                .map(|name| Domain::parse(name).expect("a domain"))
                .collect(),
            ..DomainRules::default()
        };
        let [records, list] =
            [records, list].map(|records| SourceRecords::shown(Records::of(records)));
        let sources = [&records, &list];
        let wanted = wanted::rows(
            &config,
            &config.tables[0],
            &domains,
            &sources,
            Folding::Unicode,
        )
        .expect("in memory");
        let witnesses = [
            Witness {
                given: &wanted.given[0],
                organisation: Some(organisation),
                is_file: false,
            },
            Witness {
                given: &wanted.given[1],
                organisation: None,
                is_file: true,
            },
        ];
        let found: Vec<String> = find(&domains, &rules, &witnesses)
            .iter()
            .map(|found| format!("{}: {}", found.domain, found.signs_text()))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn remote_mailboxes_are_a_sign_for_their_domain() {
        let none = organisation(false, &[]);
        let both = [
            record(LOCAL, "a@example.com"),
            record(REMOTE, "b@example.org"),
        ];
        let expected = ["example.org: 1 address of a remote mailbox"];
        check(&none, &both[..1], &[], &[], &[]);
        check(&none, &both, &[], &[], &expected);
        check(&none, &both, &[], &["example.com"], &expected);
        check(&none, &both, &[], &["example.org"], &[]);
        // Addresses that nobody lists are no recipients of ours.
        check(&none, &[record(REMOTE, "b@example.net")], &[], &[], &[]);
    }

    #[test]
    fn an_organisation_speaks_for_the_domains_that_it_fills() {
        let records = [record(LOCAL, "a@example.com")];
        check(
            &organisation(true, &[]),
            &records,
            &[],
            &[],
            &["example.com: a hybrid configuration"],
        );
        let cloud = organisation(
            false,
            &[("corp.mail.onmicrosoft.com", Relation::Authoritative)],
        );
        let expected = ["example.com: the accepted domain corp.mail.onmicrosoft.com"];
        check(&cloud, &records, &[], &[], &expected);
        let near = organisation(
            false,
            &[("mail.onmicrosoft.com.example", Relation::Authoritative)],
        );
        check(&near, &records, &[], &[], &[]);
        let relay = organisation(
            false,
            &[
                ("example.org", Relation::InternalRelay),
                ("example.com", Relation::ExternalRelay),
            ],
        );
        check(
            &relay,
            &records,
            &[],
            &[],
            &["example.org: it is an internal relay domain"],
        );
    }

    #[test]
    fn a_file_that_gives_the_domain_addresses_is_an_answer() {
        let hybrid = organisation(true, &[]);
        let records = [
            record(LOCAL, "a@example.com"),
            record(LOCAL, "a@example.org"),
        ];
        let cloud = [Record::from_list_line(1, "cloud@example.com")];
        check(
            &hybrid,
            &records,
            &cloud,
            &[],
            &["example.org: a hybrid configuration"],
        );
        // An export of the same directory is none.
        let export = [record(REMOTE, "cloud@example.com")];
        check(
            &organisation(false, &[]),
            &records,
            &export,
            &[],
            &["example.com: 1 address of a remote mailbox"],
        );
    }
}
