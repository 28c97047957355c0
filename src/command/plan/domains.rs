//! The domains of a run: from the configuration, the accepted domains of the sources or `relay_domains`, with what was read
//! last standing in for what cannot be read now. Writes nothing.
//!
//! As with recipients: an answer that is complete counts, one that failed leaves the last complete one in force (frozen), and
//! where there is none yet, nothing is published and nothing removed. That no accepted domain is visible may mean that the
//! account may not see them, so it is no answer either.

use std::collections::BTreeMap;

use super::{Run, SourceNow, SourceStatus};
use crate::config::{DomainRules, DomainsFrom, Source, SourceKind};
use crate::dn::DistinguishedName;
use crate::domain::Domain;
use crate::domains::{Domains, Entry, Reach};
use crate::elsewhere::{self, Elsewhere, Given, Witness};
use crate::error::Failure;
use crate::exchange::{AcceptedDomain, Organisation, Relation};
use crate::exit::Exit;
use crate::harmless::key;
use crate::postfix::relay_domains::{RelayDomainsError, relay_domains};
use crate::report::difference::Difference as Report;
use crate::snapshot::Reading;
use crate::state::head::{Frozen, Head, SourceState};

/// How `status` and holds name the domains that Postfix gives.
pub const RELAY_DOMAINS: &str = "relay_domains";

/// The domains of a run, and what was found about them.
#[derive(Debug, Default)]
pub struct DomainsNow {
    /// What rows may exist for.
    pub listed: Domains,
    /// Origins that were never read: sources, or [`RELAY_DOMAINS`].
    pub never_read: Vec<String>,
    /// Per source, what its directory says of Exchange: now, or when it said so last.
    pub organisations: BTreeMap<String, Organisation>,
    /// What `relay_domains` says, where domains come from there: now, or when it was read last.
    pub relayed: Vec<Entry>,
    /// Since when and why an origin cannot be read.
    pub frozen: BTreeMap<String, Frozen>,
    /// Domains with signs that recipients of theirs live elsewhere.
    pub elsewhere: Vec<Elsewhere>,
}

impl DomainsNow {
    /// Containers with public folders that no base of a source reaches.
    pub fn folders_out_of_reach(&self, source: &str) -> Vec<String> {
        let organisation = self.organisations.get(source);
        organisation.map_or_else(Vec::new, |found| {
            let names = found.folders_out_of_reach.iter();
            names.map(|name| key(name.as_bytes())).collect()
        })
    }
}

/// `relay_domains`, or why it could not be read.
pub(super) type Relayed = Result<Vec<Entry>, RelayDomainsError>;

/// Reads `relay_domains`, where domains come from there or can be compared.
pub(super) fn read_relayed(run: &Run<'_>, head: &Head) -> Option<Relayed> {
    match run.config.domains.from {
        None => None,
        Some(DomainsFrom::Exchange) if run.is_stored => None,
        Some(DomainsFrom::Postfix) if run.is_stored => {
            let stored = head.relay_domains.entries.clone();
            let is_known = !stored.is_empty();
            Some(is_known.then_some(stored).ok_or(RelayDomainsError::Empty))
        }
        Some(DomainsFrom::Postfix) => Some(relay_domains()),
        // For the comparison alone.
        Some(DomainsFrom::Exchange) => relay_domains().ok().map(Ok),
    }
}

/// Whether the organisation of a source is to be looked at even where nothing was written since the last look: what that
/// one left open may have been in the way only then.
pub(super) fn needs_look(run: &Run<'_>, source: &Source, known: &SourceState) -> bool {
    let is_open = |found: &Organisation| is_origin(run) && found.accepted_domains.is_empty();
    source.has_accepted_domains()
        && (known.domains_frozen.is_some() || known.organisation.as_ref().is_none_or(is_open))
}

/// Whether what was found of the domains is what is stored, and leaves nothing to tell.
pub(super) fn is_as_known(
    run: &Run<'_>,
    head: &Head,
    readings: &[crate::error::Result<Reading>],
    relayed: Option<&Relayed>,
) -> bool {
    let bases = all_bases(run);
    let is_same = |source: &Source, reading: &crate::error::Result<Reading>| {
        let known = head.sources.get(&source.name);
        let last = known.and_then(|known| known.organisation.as_ref());
        let found = reading.as_ref().ok().and_then(Reading::organisation);
        match found {
            None => true,
            // The last known counts, and where it counts for nothing, nobody is told.
            Some(Err(_)) => !is_origin(run),
            Some(Ok(found)) if found.accepted_domains.is_empty() && is_origin(run) => false,
            Some(Ok(found)) => {
                let mut found = with_last(found.clone(), last.cloned());
                leave_out_reached(&bases, &mut found);
                Some(&found) == last
            }
        }
    };
    let is_relayed_same = match relayed {
        None => true,
        Some(_) if is_origin(run) => true,
        Some(Ok(entries)) => *entries == head.relay_domains.entries,
        Some(Err(_)) => false,
    };
    let is_frozen = head.relay_domains.frozen.is_some()
        || (head.sources.values()).any(|known| known.domains_frozen.is_some());
    let mut sources = run.config.sources.iter().zip(readings);
    !is_frozen && is_relayed_same && sources.all(|(source, reading)| is_same(source, reading))
}

/// Tells once more what was told when the report was made: it is still so.
pub(super) fn tell_again(head: &Head, relayed: Option<&Relayed>, report: &Report) {
    let organisations = head.sources.values();
    if let Some(Ok(relayed)) = relayed {
        tell_difference(
            organisations.filter_map(|known| known.organisation.as_ref()),
            relayed,
        );
    }
    for (source, report) in &report.sources {
        for container in &report.folders_out_of_reach {
            tell_folders(source, container);
        }
    }
    for (domain, signs) in &report.elsewhere {
        tell_elsewhere(domain, signs);
    }
}

/// Whether accepted domains are what the list is made from.
fn is_origin(run: &Run<'_>) -> bool {
    run.config.domains.from == Some(DomainsFrom::Exchange)
}

/// Finds the domains of a run, and tells what is strange about them.
pub(super) fn resolve(
    run: &Run<'_>,
    head: &Head,
    sources: &mut [SourceNow],
    relayed: Option<&Relayed>,
    failures: &mut Vec<Failure>,
) -> DomainsNow {
    let mut now = DomainsNow::default();
    for (source, read) in run.config.sources.iter().zip(sources.iter_mut()) {
        take_organisation(run, head, source, read, &mut now, failures);
    }
    if let Some(relayed) = relayed {
        take_relayed(run, head, relayed, &mut now, failures);
    }
    now.listed = listed(
        &run.config.domains,
        now.organisations.values(),
        &now.relayed,
    );
    if let Some(Ok(relayed)) = relayed {
        tell_difference(now.organisations.values(), relayed);
    }
    settle_folders(run, &mut now);
    now
}

/// The list that the configuration and what was read amount to.
pub fn listed<'run>(
    rules: &DomainRules,
    organisations: impl Iterator<Item = &'run Organisation>,
    relayed: &[Entry],
) -> Domains {
    let named = rules.list.iter().map(|domain| Entry {
        domain: domain.clone(),
        reach: Reach::Itself,
        is_excluded: false,
    });
    match rules.from {
        None => Domains::of(named),
        Some(DomainsFrom::Postfix) => Domains::of(named.chain(relayed.iter().cloned())),
        Some(DomainsFrom::Exchange) => {
            let organisations: Vec<&Organisation> = organisations.collect();
            let accepted = organisations
                .iter()
                .flat_map(|found| &found.accepted_domains)
                .map(AcceptedDomain::entry)
                .filter(|entry| !entry.is_excluded || !is_authoritative(&organisations, entry));
            let mut entries: Vec<Entry> = named.chain(accepted).collect();
            // Exchange goes by the most specific one.
            let labels_count = |entry: &Entry| entry.domain.ascii().split('.').count();
            entries
                .sort_by_key(|entry| (std::cmp::Reverse(labels_count(entry)), entry.is_excluded));
            Domains::of(entries)
        }
    }
}

/// Whether any organisation takes the mail of a domain for its own: what one lists, another does not take away.
fn is_authoritative(organisations: &[&Organisation], entry: &Entry) -> bool {
    organisations.iter().any(|found| {
        let accepted = found.accepted(&entry.domain);
        accepted.is_some_and(|accepted| accepted.relation == Relation::Authoritative)
    })
}

/// The list as the last run left it, for verbs that read no source.
pub fn stored(rules: &DomainRules, head: &Head) -> Domains {
    let organisations = head.sources.values();
    listed(
        rules,
        organisations.filter_map(|known| known.organisation.as_ref()),
        &head.relay_domains.entries,
    )
}

fn take_organisation(
    run: &Run<'_>,
    head: &Head,
    source: &Source,
    read: &mut SourceNow,
    now: &mut DomainsNow,
    failures: &mut Vec<Failure>,
) {
    // What it said before it became a global catalog or a file is nobody's word any more.
    if !source.has_accepted_domains() {
        return;
    }
    let known = head.sources.get(&source.name);
    let last = known.and_then(|known| known.organisation.clone());
    let is_origin = is_origin(run);
    let frozen = known.and_then(|known| known.domains_frozen.as_ref());
    let is_unseen = read.organisation.is_none();
    let (organisation, failure) = match read.organisation.take() {
        None => (last, None),
        Some(Err(failure)) => (last, Some(*failure)),
        Some(Ok(found)) if found.accepted_domains.is_empty() => (
            Some(with_last(found, last)),
            Some(none_visible(source, read)),
        ),
        Some(Ok(found)) => (Some(with_last(found, last)), None),
    };
    let is_known = organisation
        .as_ref()
        .is_some_and(|found| !found.accepted_domains.is_empty());
    now.organisations
        .extend(organisation.map(|found| (source.name.clone(), found)));
    if !is_origin {
        if let Some(failure) = failure {
            tracing::debug!("{}: {}", failure.what, failure.why);
        }
        return;
    }
    if !is_known {
        now.never_read.push(source.name.clone());
    }
    // What a source that is frozen as a whole failed at is told already.
    let Some(failure) = failure else {
        let frozen = frozen.filter(|_| is_unseen).cloned();
        now.frozen
            .extend(frozen.map(|frozen| (source.name.clone(), frozen)));
        return;
    };
    let since = frozen.map_or(run.now, |frozen| frozen.since);
    freeze(now, &source.name, since, failure, is_known, failures);
}

/// What could not be seen now is no news of what was seen once.
fn with_last(found: Organisation, last: Option<Organisation>) -> Organisation {
    let last = last.unwrap_or_default();
    // Who sees no accepted domain would not see this either.
    let is_visible = !found.accepted_domains.is_empty();
    let seen_hybrid = found.is_hybrid.filter(|is_hybrid| *is_hybrid || is_visible);
    Organisation {
        accepted_domains: if found.accepted_domains.is_empty() {
            last.accepted_domains
        } else {
            found.accepted_domains
        },
        is_hybrid: seen_hybrid.or(last.is_hybrid),
        folders_out_of_reach: found.folders_out_of_reach,
    }
}

fn none_visible(source: &Source, read: &SourceNow) -> Failure {
    let place = match &read.status {
        SourceStatus::Complete { answered_by, .. } => answered_by.clone(),
        SourceStatus::Followed { followed, .. } => followed.answered_by.clone(),
        SourceStatus::Frozen(_) | SourceStatus::Never(_) | SourceStatus::Removed => String::new(),
    };
    Failure {
        exit: Exit::SourceFrozen,
        what: format!("source {}: no accepted domain is visible", source.name),
        place,
        why: "the account may not see them, or this directory has no Exchange organisation; which of the two, it does not say"
            .into(),
        in_force: String::new(),
        next: "let the account read CN=Accepted Domains,CN=Transport Settings of the Exchange organisation in the configuration \
               naming context, or name the domains in [domains] list instead of from = \"exchange\""
            .into(),
    }
}

fn freeze(
    now: &mut DomainsNow,
    origin: &str,
    since: crate::time::Timestamp,
    mut failure: Failure,
    is_known: bool,
    failures: &mut Vec<Failure>,
) {
    let cause = failure.cause();
    now.frozen
        .insert(origin.to_owned(), Frozen { since, cause });
    failure.in_force = if is_known {
        "the domains that it gave last stay".into()
    } else {
        "its domains were never read, so nothing is removed from any table, and no first table is published".into()
    };
    failures.push(failure);
}

fn take_relayed(
    run: &Run<'_>,
    head: &Head,
    relayed: &Relayed,
    now: &mut DomainsNow,
    failures: &mut Vec<Failure>,
) {
    if run.config.domains.from != Some(DomainsFrom::Postfix) {
        return;
    }
    let known = &head.relay_domains;
    let error = match relayed {
        Ok(entries) => {
            now.relayed.clone_from(entries);
            return;
        }
        Err(error) => error,
    };
    now.relayed.clone_from(&known.entries);
    let is_known = !known.entries.is_empty();
    if !is_known {
        now.never_read.push(RELAY_DOMAINS.to_owned());
    }
    let since = known.frozen.as_ref().map_or(run.now, |frozen| frozen.since);
    freeze(
        now,
        RELAY_DOMAINS,
        since,
        error.failure(),
        is_known,
        failures,
    );
}

/// Domains that one of two lists has and the other has not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Exchange takes mail for them, and Postfix does not relay it there.
    pub accepted_alone: Vec<Domain>,
    /// Postfix relays mail for them, and Exchange does not take it.
    pub relayed_alone: Vec<Domain>,
}

/// How the accepted domains and `relay_domains` differ. Relayed domains of Exchange are accepted ones too.
pub fn difference<'run>(
    organisations: impl Iterator<Item = &'run Organisation>,
    relayed: &[Entry],
) -> Difference {
    let accepted: Vec<_> = organisations
        .flat_map(|found| &found.accepted_domains)
        .collect();
    let relay = Domains::of(relayed.iter().cloned());
    let mut difference = Difference::default();
    for found in &accepted {
        let is_relayed = relay.find(&found.domain).is_some();
        // Nobody on the Internet writes to it.
        if !is_relayed
            && !found.is_cloud_routing()
            && !difference.accepted_alone.contains(&found.domain)
        {
            difference.accepted_alone.push(found.domain.clone());
        }
    }
    for listed in relay.iter() {
        if !accepted.iter().any(|found| found.covers(&listed.domain)) {
            difference.relayed_alone.push(listed.domain.clone());
        }
    }
    difference
}

fn tell_difference<'run>(
    organisations: impl Iterator<Item = &'run Organisation> + Clone,
    relayed: &[Entry],
) {
    let is_any = |found: &Organisation| !found.accepted_domains.is_empty();
    if !organisations.clone().any(is_any) {
        return;
    }
    let difference = difference(organisations, relayed);
    let names = |domains: &[Domain]| {
        let names: Vec<String> = domains.iter().map(ToString::to_string).collect();
        names.join(", ")
    };
    if !difference.accepted_alone.is_empty() {
        tracing::warn!(
            "Exchange accepts domains that relay_domains of Postfix does not have: {}",
            names(&difference.accepted_alone)
        );
    }
    if !difference.relayed_alone.is_empty() {
        tracing::warn!(
            "relay_domains of Postfix has domains that Exchange does not accept: {}",
            names(&difference.relayed_alone)
        );
    }
}

/// Takes from the facts the public folders that another source reaches, and tells of the others.
fn settle_folders(run: &Run<'_>, now: &mut DomainsNow) {
    let bases = all_bases(run);
    for (source, organisation) in &mut now.organisations {
        leave_out_reached(&bases, organisation);
        for container in &organisation.folders_out_of_reach {
            tell_folders(source, &key(container.as_bytes()));
        }
    }
}

fn tell_folders(source: &str, container: &str) {
    tracing::warn!(
        source,
        "mail-enabled public folders lie in {container}, which no base reaches: add it to `base` of [source.{source}]"
    );
}

/// Every base of every source.
fn all_bases(run: &Run<'_>) -> Vec<DistinguishedName> {
    let bases = run
        .config
        .sources
        .iter()
        .filter_map(|source| match &source.kind {
            SourceKind::Ldap(ldap) => Some(&ldap.bases),
            SourceKind::Ldif(_) | SourceKind::List(_) => None,
        });
    bases
        .flatten()
        .filter_map(|base| DistinguishedName::parse(base).ok())
        .collect()
}

fn leave_out_reached(bases: &[DistinguishedName], organisation: &mut Organisation) {
    organisation.folders_out_of_reach.retain(|container| {
        let container = DistinguishedName::parse(container);
        !container.is_ok_and(|container| bases.iter().any(|base| container.is_at_or_under(base)))
    });
}

/// Domains with signs that recipients of theirs live elsewhere. `given`: per source, what it gives to each listed domain.
pub(super) fn find_elsewhere(
    run: &Run<'_>,
    now: &DomainsNow,
    given: &[Vec<Given>],
) -> Vec<Elsewhere> {
    let sources = run.config.sources.iter().zip(given);
    let witnesses: Vec<Witness<'_>> = sources
        .map(|(source, given)| Witness {
            given,
            organisation: now.organisations.get(&source.name),
            is_file: match &source.kind {
                SourceKind::Ldap(_) => false,
                SourceKind::Ldif(_) | SourceKind::List(_) => true,
            },
        })
        .collect();
    let found = elsewhere::find(&now.listed, &run.config.domains, &witnesses);
    for elsewhere in &found {
        tell_elsewhere(&elsewhere.domain, &elsewhere.signs_text());
    }
    found
}

fn tell_elsewhere(domain: &str, signs: &str) {
    tracing::warn!(
        "recipients of {domain} may live elsewhere: {signs}; add a source for them, or say [domain.\"{domain}\"] \
         directory_is_complete = true, or policy = \"callout\""
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(name: &str) -> Domain {
        Domain::parse(name).expect("a domain")
    }

    /// `example.com`, `*.example.com`; with `ext:` or `int:` before it a relay domain.
    fn organisation(names: &str) -> Organisation {
        let accepted = names.split_whitespace().map(|text| {
            let (relation, name) = if let Some(name) = text.strip_prefix("ext:") {
                (Relation::ExternalRelay, name)
            } else if let Some(name) = text.strip_prefix("int:") {
                (Relation::InternalRelay, name)
            } else {
                (Relation::Authoritative, text)
            };
            let bare = name.strip_prefix("*.");
            AcceptedDomain {
                domain: domain(bare.unwrap_or(name)),
                relation,
                with_sub_domains: bare.is_some(),
            }
        });
        Organisation {
            accepted_domains: accepted.collect(),
            ..Organisation::default()
        }
    }

    /// Which of `names` rows may exist for.
    #[track_caller]
    fn check(list: &str, accepted: &[&str], names: &str, expected: &str) {
        let rules = DomainRules {
            list: list.split_whitespace().map(domain).collect(),
            from: Some(DomainsFrom::Exchange),
            complete: Vec::new(),
            policies: Vec::new(),
        };
        let organisations: Vec<Organisation> =
            accepted.iter().map(|names| organisation(names)).collect();
        let listed = listed(&rules, organisations.iter(), &[]);
        let found: Vec<&str> = names
            .split_whitespace()
            .filter(|name| listed.find(&domain(name)).is_some())
            .collect();
        assert_eq!(found.join(" "), expected, "{list} {accepted:?}");
    }

    #[test]
    fn authoritative_domains_are_listed_and_relays_only_by_name() {
        let names = "example.com a.example.com example.org example.net";
        check(
            "",
            &["example.com int:example.org ext:example.net"],
            names,
            "example.com",
        );
        check(
            "example.org",
            &["example.com int:*.example.org"],
            names,
            "example.com example.org",
        );
        check("", &["*.example.com"], names, "example.com a.example.com");
        check(
            "",
            &["*.example.com ext:a.example.com"],
            names,
            "example.com",
        );
        check(
            "a.example.com",
            &["*.example.com ext:a.example.com"],
            names,
            "example.com a.example.com",
        );
        check(
            "",
            &["ext:*.example.com", "a.example.com"],
            names,
            "a.example.com",
        );
        check(
            "",
            &["ext:example.org", "example.org"],
            names,
            "example.org",
        );
        check("example.net", &[], names, "example.net");
        check(
            "",
            &["*.example.com", "ext:a.example.com"],
            names,
            "example.com a.example.com",
        );
        // The list names a domain alone; its sub-domains stay excluded.
        check("example.com", &["int:*.example.com"], names, "example.com");
    }

    #[test]
    fn the_two_lists_are_compared_as_lists_of_domains() {
        let entry = |name: &str, reach| Entry {
            domain: domain(name),
            reach,
            is_excluded: false,
        };
        let relayed = [
            entry("example.com", Reach::WithSubDomains),
            entry("bücher.example", Reach::Itself),
            entry("old.example", Reach::Itself),
        ];
        let found = organisation(
            "example.com sub.example.com xn--bcher-kva.example int:new.example corp.mail.onmicrosoft.com",
        );
        let expected = Difference {
            accepted_alone: vec![domain("new.example")],
            relayed_alone: vec![domain("old.example")],
        };
        assert_eq!(difference([&found].into_iter(), &relayed), expected);
    }
}
