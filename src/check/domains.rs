//! Judging the domains: which are relayed, listed and accepted, and what the tables in force say of each.

use std::collections::BTreeSet;

use super::facts::{Facts, Postfix};
use super::{Told, error, info, not_checked, some_of, warning};
use crate::command::plan::domains::difference;
use crate::config::DomainPolicy;
use crate::domain::Domain;
use crate::domains::{Domains, Entry};
use crate::exchange::Organisation;

/// Domains for which some map that opens takes everybody.
fn wild(postfix: &Postfix) -> BTreeSet<&str> {
    let answers = postfix
        .maps
        .iter()
        .filter_map(|map| map.answers.as_ref().ok());
    answers
        .flat_map(|answers| answers.wildcards.iter().map(String::as_str))
        .collect()
}

/// Whether every map opens, so that what none of them knows is known to be refused.
fn all_answer(postfix: &Postfix) -> bool {
    !postfix.maps.is_empty() && postfix.maps.iter().all(|map| map.answers.is_ok())
}

fn forms(domain: &Domain) -> [&str; 2] {
    [domain.ascii(), domain.unicode()]
}

fn policy(facts: &Facts<'_>, domain: &Domain) -> DomainPolicy {
    facts.config.domains.policy_of(domain)
}

/// Domains whose recipients no source knows, by explicit choice.
pub(super) fn policies(facts: &Facts<'_>) -> Vec<Told> {
    let with = |wanted: DomainPolicy| -> Vec<String> {
        let policies = facts.config.domains.policies.iter();
        let domains = policies.filter(|(_, policy)| *policy == wanted);
        domains.map(|(domain, _)| domain.to_string()).collect()
    };
    let (callout, open) = (with(DomainPolicy::Callout), with(DomainPolicy::CatchAll));
    let mut found = Vec::new();
    if !open.is_empty() {
        found.push(info(
            format!(
                "policy = \"catch_all\": everybody is taken in {}",
                some_of(&open)
            ),
            "it was chosen so: what the system behind refuses is bounced, to forged senders, too",
            "policy = \"list\" where a source knows the recipients".into(),
        ));
    }
    if callout.is_empty() {
        return found;
    }
    found.push(info(
        format!("policy = \"callout\": Postfix asks the system behind about {}", some_of(&callout)),
        "it was chosen so: an address counts as that system answers at RCPT TO, and for days out of a cache",
        "rcptsync verify --callout HOST:PORT shows what it answers".into(),
    ));
    let Some(postfix) = facts.postfix() else {
        return found;
    };
    let is_same =
        |name: &str, as_mail: &str| postfix.settings.get(name) == postfix.settings.get(as_mail);
    if is_same("address_verify_relay_transport", "relay_transport")
        && is_same("address_verify_transport_maps", "transport_maps")
    {
        found.push(info(
            "callouts go the way of mail".into(),
            "Exchange 2013 and later takes every recipient on port 25 and refuses on 2525 alone, where the recipient filter runs",
            "postconf -e 'address_verify_relay_transport = relay:[EXCHANGE]:2525'; postfix reload".into(),
        ));
    }
    found
}

pub(super) fn wildcards(facts: &Facts<'_>) -> Vec<Told> {
    let Some(postfix) = facts.postfix() else {
        return Vec::new();
    };
    // Those that a policy opens are told as such.
    let is_policy = |name: &&str| {
        let domain = postfix.forms.get(*name);
        domain.is_some_and(|domain| policy(facts, domain) != DomainPolicy::List)
    };
    let wild: BTreeSet<&str> = wild(postfix)
        .into_iter()
        .filter(|name| !is_policy(name))
        .collect();
    if wild.is_empty() {
        return Vec::new();
    }
    let maps: Vec<&str> = postfix
        .maps
        .iter()
        .filter(|map| {
            map.answers
                .as_ref()
                .is_ok_and(|answers| !answers.wildcards.is_empty())
        })
        .map(|map| map.text.as_str())
        .collect();
    let names: Vec<String> = wild.into_iter().map(str::to_owned).collect();
    vec![error(
        format!(
            "everybody is taken in {} ({})",
            some_of(&names),
            maps.join(", ")
        ),
        "a row @domain, or a pattern, turns the check off for the whole domain: what Exchange refuses is bounced to forged senders",
        "take the row or the pattern out; postmap -q @DOMAIN TYPE:PATH shows it".into(),
    )]
}

/// Relay domains without any row, or why that cannot be known.
fn empty<'facts>(
    postfix: &'facts Postfix,
    entries: &'facts [Entry],
) -> Result<Vec<&'facts Domain>, &'facts str> {
    if let Some(why) = postfix.maps.iter().find_map(|map| map.holds.as_ref().err()) {
        return Err(why);
    }
    let held: BTreeSet<&str> = postfix
        .maps
        .iter()
        .filter_map(|map| map.holds.as_ref().ok())
        .flat_map(|holds| holds.domains.iter().map(String::as_str))
        .collect();
    let wild = wild(postfix);
    let is_known = |form: &str| {
        held.contains(form) || wild.contains(form) || postfix.classes.contains_key(form)
    };
    let domains = entries
        .iter()
        .filter(|entry| !entry.is_excluded && entry.reach.is_itself())
        .map(|entry| &entry.domain);
    Ok(domains
        .filter(|domain| !forms(domain).into_iter().any(is_known))
        .collect())
}

pub(super) fn without_recipients(facts: &Facts<'_>) -> Vec<Told> {
    let Some(postfix) = facts.postfix() else {
        return Vec::new();
    };
    let entries = match &facts.relayed {
        Ok(entries) => entries,
        Err(why) => {
            return vec![not_checked(
                "whether every relay domain has recipients",
                why,
                "name the domains in relay_domains, or in a table that can be listed",
            )];
        }
    };
    // Told where tables are.
    if facts.is_before_first_run() || !all_answer(postfix) {
        return Vec::new();
    }
    let empty = match empty(postfix, entries) {
        Ok(empty) => empty,
        Err(why) => {
            return vec![not_checked(
                "whether every relay domain has recipients",
                why,
                "",
            )];
        }
    };
    let empty: Vec<String> = empty.into_iter().map(ToString::to_string).collect();
    if empty.is_empty() {
        return Vec::new();
    }
    vec![error(
        format!("relay domains without any recipient: {}", some_of(&empty)),
        "every mail for them is refused with 550",
        "list them under [domains], with a source that knows their recipients; or take them out of relay_domains".into(),
    )]
}

pub(super) fn not_relayed(facts: &Facts<'_>) -> Vec<Told> {
    let (Some(postfix), Ok(entries)) = (facts.postfix(), &facts.relayed) else {
        return no_relay_domains(facts);
    };
    let relayed = Domains::of(entries.iter().cloned());
    let organisations = organisations(facts);
    let is_other_class = |domain: &Domain| {
        forms(domain)
            .iter()
            .any(|form| postfix.classes.contains_key(*form))
    };
    // Those that Exchange accepts are told beside what it accepts.
    let is_accepted = |domain: &Domain| {
        organisations
            .iter()
            .any(|found| found.accepted(domain).is_some())
    };
    let missing: Vec<String> = facts
        .listed
        .iter()
        .map(|listed| &listed.domain)
        .filter(|domain| {
            relayed.find(domain).is_none() && !is_other_class(domain) && !is_accepted(domain)
        })
        .map(ToString::to_string)
        .collect();
    if missing.is_empty() {
        return Vec::new();
    }
    vec![warning(
        format!(
            "listed here and not in relay_domains: {}",
            some_of(&missing)
        ),
        "Postfix refuses their mail with \"Relay access denied\", or takes it by another rule that does not ask the table",
        format!("add them to relay_domains: {}", missing.join(", ")),
    )]
}

/// The gateway is there, and relays for nobody.
fn no_relay_domains(facts: &Facts<'_>) -> Vec<Told> {
    match (facts.postfix(), &facts.relayed) {
        (Some(_), Err(why)) => vec![not_checked(
            "whether every listed domain is relayed",
            why,
            "",
        )],
        (Some(_), Ok(_)) | (None, _) => Vec::new(),
    }
}

/// With `smtputf8_enable = no` nobody can name the other form.
pub(super) fn both_forms(facts: &Facts<'_>) -> Vec<Told> {
    let Some(postfix) = facts.postfix() else {
        return Vec::new();
    };
    let relayed = match &postfix.relayed_forms {
        Ok(relayed) => relayed,
        Err(why) => {
            let what = "whether international domains are relayed in both forms";
            return vec![not_checked(what, why, "")];
        }
    };
    if postfix.settings.get("smtputf8_enable") != "yes" {
        return Vec::new();
    }
    let is_alone = |form: &&String| {
        let domain = postfix.forms.get(*form);
        domain.is_some_and(|domain| !forms(domain).iter().all(|form| relayed.contains(*form)))
    };
    let other = |form: &String| {
        let domain = postfix.forms.get(form)?;
        forms(domain).into_iter().find(|other| other != form)
    };
    let missing: Vec<String> = relayed
        .iter()
        .filter(is_alone)
        .filter_map(|form| other(form).map(str::to_owned))
        .collect();
    if missing.is_empty() {
        return Vec::new();
    }
    vec![warning(
        format!(
            "not in relay_domains beside their other form: {}",
            some_of(&missing)
        ),
        "Postfix converts nothing between the two forms of an international domain, and refuses to relay for the one it does not \
         have",
        format!("add them to relay_domains: {}", missing.join(", ")),
    )]
}

/// What is known of Exchange.
fn organisations<'facts>(facts: &'facts Facts<'_>) -> Vec<&'facts Organisation> {
    let reads = facts
        .sources
        .iter()
        .filter_map(|source| source.reading.as_ref()?.as_ref().ok());
    reads
        .filter_map(|read| read.organisation.as_ref())
        .filter(|found| !found.accepted_domains.is_empty())
        .collect()
}

pub(super) fn accepted(facts: &Facts<'_>) -> Vec<Told> {
    let (Some(_), Ok(entries)) = (facts.postfix(), &facts.relayed) else {
        return Vec::new();
    };
    let organisations = organisations(facts);
    if organisations.is_empty() {
        return Vec::new();
    }
    let found = difference(organisations.into_iter(), entries);
    let names = |domains: &[Domain]| domains.iter().map(ToString::to_string).collect::<Vec<_>>();
    let (accepted, relayed) = (names(&found.accepted_alone), names(&found.relayed_alone));
    let mut told = Vec::new();
    if !accepted.is_empty() {
        told.push(warning(
            format!(
                "Exchange accepts domains that Postfix does not relay: {}",
                some_of(&accepted)
            ),
            "mail for them is refused here, unless it comes in another way",
            format!("add them to relay_domains: {}", accepted.join(", ")),
        ));
    }
    if !relayed.is_empty() {
        told.push(warning(
            format!(
                "Postfix relays domains that Exchange does not accept: {}",
                some_of(&relayed)
            ),
            "what is taken for them, Exchange refuses, and it is bounced",
            format!(
                "take them out of relay_domains, or let Exchange accept them: {}",
                relayed.join(", ")
            ),
        ));
    }
    told
}

pub(super) fn postmaster(facts: &Facts<'_>) -> Vec<Told> {
    let Some(postfix) = facts.postfix() else {
        return Vec::new();
    };
    if facts.is_before_first_run() || !all_answer(postfix) {
        return Vec::new();
    }
    let wild = wild(postfix);
    let is_known = |name: &str| {
        let mut answers = postfix
            .maps
            .iter()
            .filter_map(|map| map.answers.as_ref().ok());
        let is_alias = postfix.aliases.iter().any(|alias| {
            let mut addresses = alias.addresses.iter().flatten();
            addresses.any(|address| *address == format!("postmaster@{name}"))
        });
        is_alias || wild.contains(name) || answers.any(|answers| answers.postmasters.contains(name))
    };
    let entries = facts.relayed.as_deref().unwrap_or_default();
    let relayed = Domains::of(entries.iter().cloned());
    // A domain without anybody is told as such.
    let empty = empty(postfix, entries).unwrap_or_default();
    let without: BTreeSet<String> = postfix
        .forms
        .values()
        .filter(|domain| relayed.find(domain).is_some() && !empty.contains(domain))
        .filter(|domain| {
            !forms(domain)
                .iter()
                .any(|form| postfix.classes.contains_key(*form) || is_known(form))
        })
        .map(ToString::to_string)
        .collect();
    if without.is_empty() {
        return Vec::new();
    }
    let names: Vec<String> = without.into_iter().collect();
    vec![warning(
        format!("no postmaster in {}", some_of(&names)),
        "RFC 5321 wants one for every domain, and Postfix exempts none in a relay domain; whoever wants to complain is refused",
        "[recipients] always = [\"postmaster\", \"abuse\"], and let Exchange have the address"
            .into(),
    )]
}
