//! For whom: where to search, what the first page holds, which domains, which addresses stand for all.

use std::collections::BTreeMap;

use super::directory::SignedIn;
use super::terminal::{Question, Terminal};
use super::{Draft, words, wrong};
use crate::address::Address;
use crate::command::init::without_none;
use crate::config::DomainsFrom;
use crate::directory::introduction::{FirstPage, Refused};
use crate::domain::Domain;
use crate::domains::{Domains, Entry};
use crate::error::Result;
use crate::harmless::key;
use crate::kind::{self, Class};
use crate::postfix::relay_domains::relay_domains;
use crate::record::{Record, smtp_address};
use crate::report::{counted, number};
use crate::templates::{EVERY_DOMAIN_HAS, Target};

/// More would not fit on a screen; any other can be typed.
const DOMAINS_SHOWN_MAX: usize = 20;

/// The largest; the others are counted together.
const KINDS_SHOWN_MAX: usize = 8;

/// Canaries that outlive the people who read them.
const ROLES: [&str; 8] = [
    "helpdesk", "info", "support", "office", "contact", "service", "sales", "hr",
];

/// What was read of the directory.
pub struct Page {
    first: FirstPage,
    /// Where it was read.
    base: String,
    /// Every address on it.
    addresses: Vec<Address>,
}

/// A domain that may be listed.
struct Candidate {
    domain: Domain,
    addresses_count: u64,
    /// What Exchange and Postfix say of it.
    notes: Vec<String>,
    is_proposed: bool,
}

/// Reads the first page below the base that somebody names, and tells what is on it.
pub fn first_page(
    draft: &mut Draft<'_>,
    terminal: &mut Terminal<'_>,
    signed_in: &SignedIn,
) -> Result<Page> {
    let proposed = signed_in.met.base.clone();
    let bases = &draft.options.bases;
    let given = match (bases.is_empty(), signed_in.met.is_global_catalog) {
        (false, _) => Some(bases.join("\n")),
        // The whole forest; it has no name.
        (true, true) => Some(String::new()),
        (true, false) => None,
    };
    let question = Question {
        option: "--base",
        text: "Where to search (everything below it is read)",
        proposal: proposed.clone(),
    };
    let page = terminal.ask(&question, given, |_, answer| {
        let bases: Vec<String> = answer.lines().map(str::to_owned).collect();
        let is_default = proposed.as_deref() == Some(answer) && signed_in.met.is_default_base;
        draft.names.source.bases = if is_default { Vec::new() } else { bases.clone() };
        let source = draft.source()?;
        // Of several, the first gives the impression.
        let base = bases.first().cloned().unwrap_or_default();
        let read = draft.introduction(&source).first_page(&base, &signed_in.credentials);
        let first = read.map_err(|refused: Refused| refused.failure)?;
        if first.records.is_empty() {
            return Err(wrong(
                "nothing below it has an SMTP address in proxyAddresses, or the account may not see it",
            ));
        }
        let addresses = addresses(&first);
        Ok(Page {
            first,
            base,
            addresses,
        })
    })?;
    tell_kinds(terminal, &page.first);
    Ok(page)
}

fn addresses(page: &FirstPage) -> Vec<Address> {
    let mut found = Vec::new();
    for record in &page.records {
        let values = record.view().proxy_addresses().filter_map(smtp_address);
        let texts = values.filter_map(|value| std::str::from_utf8(value).ok());
        found.extend(texts.filter_map(|text| Address::parse(text).ok()));
    }
    found
}

fn tell_kinds(terminal: &mut Terminal<'_>, page: &FirstPage) {
    let count = counted(page.records.len() as u64, "object", "objects");
    terminal.say(&match page.has_more {
        true => format!("  {count} on the first page, and more follow. On this page:"),
        false => format!("  {count}, and that is all:"),
    });
    let (mut kinds, mut system_count, mut internal_count) = (BTreeMap::new(), 0, 0);
    for record in &page.records {
        let record = record.view();
        let kind = record.recipient_type();
        if kind.map(kind::class) == Some(Class::System) {
            system_count += 1;
        } else if record.is_internal_only() {
            internal_count += 1;
        } else {
            let name = kind.map_or("without a kind (msExchRecipientTypeDetails)", kind::name);
            *kinds.entry(name).or_insert(0) += 1;
        }
    }
    let mut kinds: Vec<(&str, u64)> = kinds.into_iter().collect();
    kinds.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let mut line = |count: u64, name: &str| {
        if count > 0 {
            terminal.say(&format!("  {:>9}  {name}", number(count)));
        }
    };
    for (name, count) in kinds.iter().take(KINDS_SHOWN_MAX) {
        line(*count, name);
    }
    let others = kinds.get(KINDS_SHOWN_MAX..).unwrap_or_default();
    line(
        others.iter().map(|(_, count)| count).sum(),
        "of other kinds",
    );
    line(internal_count, "left out: they refuse senders from outside");
    line(system_count, "left out: Exchange's own");
    let is_remote = |record: &Record| record.view().recipient_type().is_some_and(kind::is_remote);
    let is_hybrid = (page.organisation.as_ref()).and_then(|organisation| organisation.is_hybrid);
    if is_hybrid == Some(true) || page.records.iter().any(is_remote) {
        terminal.say(
            "  note: some of them live in Exchange Online. What was made there alone is not in this directory, so the \
             first publication waits (README, Recipients elsewhere).",
        );
    }
}

/// The domains that rows may exist for.
pub fn domains(draft: &mut Draft<'_>, terminal: &mut Terminal<'_>, page: &Page) -> Result<()> {
    let relayed = relay_domains().ok();
    let candidates = candidates(page, relayed.as_deref());
    tell_candidates(terminal, &candidates);
    let proposed: Vec<String> = candidates
        .iter()
        .take(DOMAINS_SHOWN_MAX)
        .enumerate()
        .filter(|(_, candidate)| candidate.is_proposed)
        .map(|(at, _)| (at + 1).to_string())
        .collect();
    let is_kept_by_pmg = draft.names.target == Target::Pmg && relayed.is_some();
    let question = Question {
        option: "--domain",
        text: "Domains of the table: numbers or names; or exchange (its accepted domains) or \
               postfix (its relay_domains), which are then looked up at each run",
        proposal: match is_kept_by_pmg {
            true => Some("postfix".to_owned()),
            false => Some(proposed.join(", ")).filter(|proposed| !proposed.is_empty()),
        },
    };
    let options = draft.options;
    let named = options
        .domains
        .iter()
        .map(|domain| domain.ascii().to_owned());
    let from = options.domains_from.map(|from| from.name().to_owned());
    let given: Vec<String> = from.into_iter().chain(named).collect();
    let given = (!given.is_empty()).then(|| given.join(" "));
    terminal.ask(&question, given, |terminal, answer| {
        let is_exchange_visible = (page.first.organisation.as_ref())
            .is_some_and(|organisation| !organisation.accepted_domains.is_empty());
        draft.names.domains.clear();
        draft.names.domains_from = None;
        for word in words(answer) {
            match word {
                "exchange" if !is_exchange_visible => {
                    return Err(wrong("no accepted domain is visible to this account"));
                }
                "exchange" => draft.names.domains_from = Some(DomainsFrom::Exchange),
                "postfix" => {
                    relay_domains().map_err(|error| wrong(&error.to_string()))?;
                    draft.names.domains_from = Some(DomainsFrom::Postfix);
                }
                _ => {
                    let domain = chosen(word, &candidates)?;
                    note_on(terminal, &domain, &candidates, relayed.is_some());
                    draft.names.domains.push(domain);
                }
            }
        }
        draft.config().map(drop)
    })
}

fn chosen(word: &str, candidates: &[Candidate]) -> Result<Domain> {
    match word.parse::<usize>() {
        Ok(position) => position
            .checked_sub(1)
            .and_then(|at| candidates.get(at))
            .map(|candidate| candidate.domain.clone())
            .ok_or_else(|| wrong(&format!("there is no domain {position} in the list"))),
        Err(_) => Domain::parse(word).map_err(|error| wrong(&format!("\"{word}\": {error}"))),
    }
}

/// What speaks against a domain that was chosen all the same.
fn note_on(
    terminal: &mut Terminal<'_>,
    domain: &Domain,
    candidates: &[Candidate],
    is_postfix_known: bool,
) {
    let found = candidates
        .iter()
        .find(|candidate| candidate.domain == *domain);
    if found.is_none_or(|candidate| candidate.addresses_count == 0) {
        terminal.say(&format!(
            "  note: nobody on this page has an address in {}",
            domain.unicode()
        ));
    }
    if is_postfix_known && found.is_none_or(|candidate| !candidate.is_relayed()) {
        terminal.say(&format!(
            "  note: this Postfix does not relay {} yet (relay_domains)",
            domain.unicode()
        ));
    }
}

const RELAYED: &str = "relayed by this Postfix";

impl Candidate {
    fn is_relayed(&self) -> bool {
        self.notes.iter().any(|note| note == RELAYED)
    }
}

fn candidates(page: &Page, relayed: Option<&[Entry]>) -> Vec<Candidate> {
    let organisation = page.first.organisation.as_ref();
    let accepted = organisation.map(|found| found.accepted_domains.as_slice());
    let accepted = accepted.unwrap_or_default();
    let mut counts: BTreeMap<String, (Domain, u64)> = BTreeMap::new();
    let mut add = |domain: &Domain, count| {
        let known = counts.entry(domain.ascii().to_owned());
        known.or_insert_with(|| (domain.clone(), 0)).1 += count;
    };
    for address in &page.addresses {
        add(address.domain(), 1);
    }
    for accepted in accepted {
        add(&accepted.domain, 0);
    }
    for entry in relayed.into_iter().flatten() {
        add(&entry.domain, 0);
    }
    let relays = relayed.map(|entries| Domains::of(entries.to_vec()));
    let mut candidates: Vec<Candidate> = counts
        .into_values()
        .map(|(domain, addresses_count)| {
            let known = organisation.and_then(|organisation| organisation.accepted(&domain));
            let is_relayed = (relays.as_ref()).is_some_and(|relays| relays.find(&domain).is_some());
            let is_ours = known.is_some_and(|known| {
                known.relation == crate::exchange::Relation::Authoritative
                    && !known.is_cloud_routing()
            });
            let of_exchange = known.map(|known| format!("{} in Exchange", known.relation.name()));
            let of_postfix = is_relayed.then(|| RELAYED.to_owned());
            Candidate {
                is_proposed: addresses_count > 0 && (is_ours || is_relayed),
                notes: of_exchange.into_iter().chain(of_postfix).collect(),
                domain,
                addresses_count,
            }
        })
        .collect();
    candidates.sort_by_key(|candidate| std::cmp::Reverse(candidate.addresses_count));
    candidates
}

fn tell_candidates(terminal: &mut Terminal<'_>, candidates: &[Candidate]) {
    terminal.say("  domains of the addresses on it:");
    for (at, candidate) in candidates.iter().take(DOMAINS_SHOWN_MAX).enumerate() {
        let line = format!(
            "  {:>3}  {:<28} {:>8}  {}",
            at + 1,
            key(candidate.domain.unicode().as_bytes()),
            number(candidate.addresses_count),
            candidate.notes.join(", ")
        );
        terminal.say(line.trim_end());
    }
    let more = candidates.len().saturating_sub(DOMAINS_SHOWN_MAX);
    if more > 0 {
        terminal.say(&format!("       and {more} more"));
    }
}

/// Local parts that every domain has.
pub fn always(draft: &mut Draft<'_>, terminal: &mut Terminal<'_>) -> Result<()> {
    let given = &draft.options.always;
    let given = (!given.is_empty()).then(|| given.join(" "));
    let question = Question {
        option: "--always",
        text: "Local parts that every domain accepts, in the directory or not (or none)",
        proposal: Some(EVERY_DOMAIN_HAS.join(", ")),
    };
    terminal.ask(&question, given, |_, answer| {
        draft.names.always = Some(listed(answer));
        draft.config().map(drop)
    })
}

/// Addresses without which a read is not believed.
pub fn canaries(
    draft: &mut Draft<'_>,
    terminal: &mut Terminal<'_>,
    signed_in: &SignedIn,
    page: &Page,
) -> Result<()> {
    let given = &draft.options.must_contain;
    let given = (!given.is_empty()).then(|| given.join(" "));
    let question = Question {
        option: "--must-contain",
        text: "Canaries: addresses that will always be there. If one is missing from a read, no \
               removal is believed (or none)",
        proposal: Some(role_address(draft, page).unwrap_or_else(|| "none".to_owned())),
    };
    terminal.ask(&question, given, |_, answer| {
        draft.names.must_contain = listed(answer);
        let config = draft.config()?;
        let source = draft.source()?;
        for canary in &config.guard.must_contain {
            let is_on_page = page
                .addresses
                .iter()
                .any(|address| address.is_same_as(canary));
            let is_there = is_on_page || {
                let asked = draft.introduction(&source);
                let found = asked.has_address(&page.base, canary, &signed_in.credentials);
                found.map_err(|refused| refused.failure)?
            };
            if !is_there {
                return Err(wrong(&format!("nobody in the directory has {canary}")));
            }
        }
        Ok(())
    })
}

/// An address of a role on the page, in a domain that was chosen.
fn role_address(draft: &Draft<'_>, page: &Page) -> Option<String> {
    let listed = |address: &&Address| draft.names.domains.contains(address.domain());
    let mut found = ROLES.iter().filter_map(|role| {
        let mut addresses = page.addresses.iter().filter(listed);
        addresses.find(|address| address.local().eq_ignore_ascii_case(role))
    });
    found.next().map(ToString::to_string)
}

fn listed(answer: &str) -> Vec<String> {
    without_none(&words(answer).collect::<Vec<_>>())
}
