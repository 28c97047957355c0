//! What a server is asked: addresses that the table has, ones that nobody has, postmasters, and what a rule leaves out.
//!
//! The table is the one in force: what its file says, not what was published. Nothing is asked here.

use std::collections::BTreeSet;

use super::TableNow;
use super::plan::Plan;
use crate::address::Address;
use crate::config::{Config, DomainPolicy, DomainRules};
use crate::domain::Domain;
use crate::domains::{Domains, forms_of};
use crate::harmless::key;
use crate::keys::{Key, domain_part};
use crate::policy::{Decision, Policy, Reason};
use crate::probe::sample::{self, Reservoir};
use crate::probe::verdict::Expected;
use crate::probe::{Question, random};
use crate::publish::inspect::Found;
use crate::record;
use crate::report::verification::Purpose;
use crate::table::format::{KeyValue, Said};
use crate::table::rows::Row;
use crate::table::value::{self, Meaning};

/// Questions about the recipients of a table, with the purpose of each.
#[derive(Default)]
pub(super) struct Questions<'run> {
    table: Option<&'run TableNow<'run>>,
    samples: usize,
    questions: Vec<Question>,
    purposes: Vec<Purpose>,
    notes: Vec<String>,
}

/// The keys in force.
enum InForce<'run> {
    Published(Said<'run>),
    Found(&'run [KeyValue]),
    Nothing,
}

impl<'run> InForce<'run> {
    /// A gateway reads the last format: a text beside an index is only its source. Where no file is of use, what was
    /// published is asked for.
    fn of(table: &'run TableNow<'run>) -> InForce<'run> {
        let file = table.files.last();
        if let Some(Found::Other(rows, _) | Found::Unrecorded(rows)) = file.map(|file| &file.found)
        {
            return InForce::Found(rows);
        }
        match (file, &table.ledger) {
            (Some(file), Some(ledger)) => {
                InForce::Published(table.table.said(file.format, &ledger.rows))
            }
            (_, None) | (None, _) => InForce::Nothing,
        }
    }

    /// Those for which a gateway must say 250.
    fn accepted(&self) -> Box<dyn Iterator<Item = &'run [u8]> + 'run> {
        match self {
            InForce::Published(said) => {
                let rows = said.rows();
                Box::new(rows.filter(is_accepted).map(|row| row.key))
            }
            InForce::Found(rows) => {
                let accepted = rows.iter().filter(|(_, value)| !is_refusal(value));
                Box::new(accepted.map(|(key, _)| key.as_slice()))
            }
            InForce::Nothing => Box::new(std::iter::empty()),
        }
    }

    /// Domains of which every address is accepted.
    fn whole_domains(&self) -> BTreeSet<&'run [u8]> {
        let keys: Box<dyn Iterator<Item = &'run [u8]>> = match self {
            InForce::Published(said) => Box::new(said.keys()),
            InForce::Found(rows) => Box::new(rows.iter().map(|(key, _)| key.as_slice())),
            InForce::Nothing => Box::new(std::iter::empty()),
        };
        keys.filter_map(|key| key.strip_prefix(b"@")).collect()
    }
}

impl<'run> Questions<'run> {
    pub(super) fn new(table: &'run TableNow<'run>, samples: usize) -> Questions<'run> {
        Questions {
            table: Some(table),
            samples,
            ..Questions::default()
        }
    }

    /// Addresses that the table has.
    pub(super) fn about_known(&mut self, listed: &Domains) {
        let keys = self.in_force().accepted();
        let mut is_ours = sample::of_listed(listed);
        let ours = keys.filter(|key| is_ours(domain_part(key)));
        for address in sample::known(ours, self.samples, &mut random) {
            self.push(address, Expected::Accepted, Purpose::Known);
        }
    }

    /// An address that nobody has, in each domain of which another is asked for, and in others that are listed.
    pub(super) fn about_nobody(&mut self, listed: &Domains, rules: &DomainRules) {
        let mut domains = self.domains();
        for listed in listed.iter().filter(|listed| listed.reach.is_itself()) {
            if !domains.contains(&listed.domain) {
                domains.push(listed.domain.clone());
            }
        }
        let whole = self.in_force().whole_domains();
        for domain in domains.into_iter().take(self.samples) {
            let name = key(domain.to_string().as_bytes());
            let is_whole = |form: &Vec<u8>| whole.contains(form.as_slice());
            let why = match rules.policy_of(&domain) {
                DomainPolicy::List if self.forms(&domain).iter().any(is_whole) => {
                    format!("by the row @{name}")
                }
                DomainPolicy::List => {
                    if let Some(address) = self.unknown(&domain) {
                        self.push(address, Expected::Refused, Purpose::Random);
                    }
                    continue;
                }
                policy @ (DomainPolicy::Callout | DomainPolicy::CatchAll) => {
                    format!("by its policy \"{}\"", policy.name())
                }
            };
            let what = "the table accepts every address";
            self.notes.push(format!(
                "{name}: {what}, {why}; no random one was asked for"
            ));
        }
    }

    /// The postmaster of each domain that is asked for.
    pub(super) fn about_postmasters(&mut self) {
        for domain in self.domains().into_iter().take(self.samples) {
            let postmaster = Address::parse(&format!("postmaster@{}", domain.ascii()));
            let Ok(postmaster) = postmaster else { continue };
            let mut asked = self.questions.iter();
            if asked.any(|question| question.address.is_same_as(&postmaster)) {
                continue;
            }
            let purpose = if self.has(&postmaster) {
                Purpose::Known
            } else {
                Purpose::Postmaster
            };
            self.push(postmaster, Expected::Accepted, purpose);
        }
    }

    /// Addresses of our domains that the directory has and a rule leaves out, and that no other object gives.
    pub(super) fn about_left_out(&mut self, config: &Config, plan: &Plan<'_>) {
        let policy = Policy::new(&config.recipients, &plan.domains.listed);
        let mut chosen = Reservoir::new(self.samples);
        for records in plan
            .sources
            .iter()
            .filter_map(|source| source.records.as_ref())
        {
            let walked = records.for_each_shown(|record| {
                for value in record.proxy_addresses() {
                    let is_ours = matches!(
                        policy.decide(record, value),
                        Decision::LeftOut(
                            Reason::ExcludedDn
                                | Reason::Excluded
                                | Reason::System
                                | Reason::InternalOnly
                        )
                    );
                    if is_ours {
                        chosen.offer(&mut random, || value.to_vec());
                    }
                }
            });
            if let Err(lost) = walked {
                self.notes
                    .push(key(format!("records are lost: {lost}").as_bytes()));
            }
        }
        for value in chosen.into_kept() {
            let text = record::smtp_address(&value).and_then(|text| std::str::from_utf8(text).ok());
            let address = text.and_then(|text| Address::parse(text).ok());
            if let Some(address) = address.filter(|address| !self.has(address)) {
                self.push(address, Expected::Refused, Purpose::LeftOut);
            }
        }
    }

    /// The questions, their purposes, and what is to be known beside them.
    pub(super) fn finish(self) -> (Vec<Question>, Vec<Purpose>, Vec<String>) {
        (self.questions, self.purposes, self.notes)
    }

    fn push(&mut self, address: Address, expected: Expected, purpose: Purpose) {
        self.questions.push(Question { address, expected });
        self.purposes.push(purpose);
    }

    fn in_force(&self) -> InForce<'run> {
        self.table.map_or(InForce::Nothing, InForce::of)
    }

    /// The domains of the questions so far, each once.
    fn domains(&self) -> Vec<Domain> {
        let mut domains: Vec<Domain> = Vec::new();
        for question in &self.questions {
            if !domains.contains(question.address.domain()) {
                domains.push(question.address.domain().clone());
            }
        }
        domains
    }

    fn forms(&self, domain: &Domain) -> Vec<Vec<u8>> {
        self.table
            .map_or_else(Vec::new, |table| forms_of(domain, table.folding))
    }

    fn unknown(&self, domain: &Domain) -> Option<Address> {
        // Nobody wins this lottery; were it so, another ticket is drawn.
        let mut drawn = std::iter::repeat_with(|| sample::unknown(domain, &mut random)).take(9);
        drawn.find_map(|address| address.filter(|address| !self.has(address)))
    }

    fn has(&self, address: &Address) -> bool {
        let Some(table) = self.table else {
            return false;
        };
        let keys = Key::all_of(address, table.folding);
        match InForce::of(table) {
            InForce::Published(_) => keys.iter().any(|key| {
                let ledger = table.ledger.as_ref();
                let row = ledger.and_then(|ledger| ledger.rows.find(key.as_str().as_bytes()));
                row.is_some_and(|row| is_accepted(&row))
            }),
            InForce::Found(rows) => rows.iter().any(|(found, value)| {
                !is_refusal(value) && keys.iter().any(|key| key.as_str().as_bytes() == found)
            }),
            InForce::Nothing => false,
        }
    }
}

/// Whether the row stands for an address that a gateway accepts.
fn is_accepted(row: &Row<'_>) -> bool {
    row.meaning() == Meaning::Recipient
}

/// Whether a row that somebody else wrote refuses whoever it is found for, as those of access tables may.
fn is_refusal(value: &[u8]) -> bool {
    std::str::from_utf8(value).is_ok_and(value::refuses)
}
