//! `[domains]` and `[domain."NAME"]`: what rows may exist for, checked. Pure.

use super::super::reader::{Placed, Reader, Section};
use super::super::{DomainPolicy, DomainRules, DomainsFrom, Source, Table, TableKind};
use crate::domain::Domain;
use crate::fold;

/// What `[domains]` says, and where it names where domains come from.
#[derive(Default)]
pub(super) struct Parsed {
    pub(super) rules: DomainRules,
    from: Option<Placed<DomainsFrom>>,
    has_from: bool,
}

impl Parsed {
    /// The whole list, where nothing is added to it from elsewhere (a wrong `from` is told once, and not by what follows
    /// from it).
    pub(super) fn whole_list(&self) -> Option<&[Domain]> {
        (!self.has_from).then_some(self.rules.list.as_slice())
    }
}

/// `[domains]`, which must be there.
pub(super) fn parse(root: &Section<'_, '_>, reader: &Reader<'_>) -> Parsed {
    let parsed = root.section("domains").map(domains);
    if parsed.is_none() && !reader.has_told_of("domains") {
        reader.report_missing(
            "domains",
            "missing: name the domains to publish, [domains] list = [\"example.com\"]",
        );
    }
    parsed.unwrap_or_default()
}

fn domains(section: Section<'_, '_>) -> Parsed {
    let has_from = section.has("from");
    let from = section.text("from").and_then(|text| {
        let value = match text.value.as_str() {
            "exchange" => DomainsFrom::Exchange,
            "postfix" => DomainsFrom::Postfix,
            other => {
                let message = format!("\"{other}\" is none of \"exchange\", \"postfix\"");
                section.problem_at(&text.at, "from", message);
                return None;
            }
        };
        Some(Placed { value, at: text.at })
    });
    // With another origin, the list names domains in addition, and may be missing.
    let texts = if has_from {
        section.texts("list")
    } else {
        section.texts_needed("list", "[\"example.com\"]")
    };
    let list = list(&section, texts);
    section.finish();
    let rules = DomainRules {
        list,
        from: from.as_ref().map(|from| from.value),
        complete: Vec::new(),
        policies: Vec::new(),
    };
    Parsed {
        rules,
        from,
        has_from,
    }
}

fn list(section: &Section<'_, '_>, texts: Vec<Placed<String>>) -> Vec<Domain> {
    let mut domains: Vec<Domain> = Vec::new();
    for text in texts {
        let domain = match Domain::parse(&text.value) {
            Ok(domain) => domain,
            Err(error) => {
                section.problem_at(&text.at, "list", format!("\"{}\": {error}", text.value));
                continue;
            }
        };
        let folded = fold::unicode(domain.unicode());
        match domains
            .iter()
            .find(|other| fold::unicode(other.unicode()) == folded)
        {
            Some(other) if *other == domain => {
                section.problem_at(&text.at, "list", format!("{domain} stands there twice"));
            }
            // straße.example and strasse.example: two owners, one lookup key.
            Some(other) => {
                let message = format!(
                    "{domain} and {other} are one domain to Postfix, which folds both to {folded}"
                );
                section.problem_at(&text.at, "list", message);
            }
            None => domains.push(domain),
        }
    }
    domains
}

/// A policy, where it stands.
pub(super) type PlacedPolicy = Placed<(Domain, DomainPolicy)>;

/// `[domain."NAME"]`: the domains whose directory is said to be complete, and the policies.
pub(super) fn each(root: &Section<'_, '_>, parsed: &Parsed) -> (Vec<Domain>, Vec<PlacedPolicy>) {
    let (mut complete, mut policies) = (Vec::new(), Vec::new());
    for (name, section) in root.named_sections("domain") {
        let is_complete = section.boolean("directory_is_complete", false);
        let policy = policy(&section);
        match Domain::parse(&name.value) {
            // Where domains come from elsewhere, any may be among them one day.
            Ok(domain)
                if parsed
                    .whole_list()
                    .is_some_and(|list| !list.contains(&domain)) =>
            {
                let message = format!("{domain} is not among the domains of [domains] list");
                section.problem_at(&name.at, "", message);
            }
            Ok(domain) => {
                if is_complete {
                    complete.push(domain.clone());
                }
                policies.extend(policy.map(|policy| Placed {
                    value: (domain, policy.value),
                    at: policy.at,
                }));
            }
            Err(error) => {
                section.problem_at(&name.at, "", format!("\"{}\": {error}", name.value));
            }
        }
        section.finish();
    }
    (complete, policies)
}

fn policy(section: &Section<'_, '_>) -> Option<Placed<DomainPolicy>> {
    let text = section.text("policy")?;
    let value = match text.value.as_str() {
        "list" => return None,
        "callout" => DomainPolicy::Callout,
        "catch_all" => DomainPolicy::CatchAll,
        other => {
            let message = format!("\"{other}\" is none of \"list\", \"callout\", \"catch_all\"");
            section.problem_at(&text.at, "policy", message);
            return None;
        }
    };
    Some(Placed { value, at: text.at })
}

/// A domain is opened to callouts only where something makes Postfix call out: otherwise every address would be accepted.
pub(super) fn check_policies(root: &Section<'_, '_>, policies: &[PlacedPolicy], tables: &[Table]) {
    let has_callout = tables.iter().any(|table| table.kind == TableKind::Callout);
    let mut callouts = policies
        .iter()
        .filter(|policy| policy.value.1 == DomainPolicy::Callout);
    if !has_callout && let Some(policy) = callouts.next() {
        root.problem_at(
            &policy.at,
            "domain",
            format!(
                "policy = \"callout\" of {} accepts every address unless Postfix asks the system behind: add a \
                 [table.NAME] of kind \"callout\", for check_recipient_access",
                policy.value.0
            ),
        );
    }
}

/// What only the sources can say of the origin of domains.
pub(super) fn check_origin(root: &Section<'_, '_>, parsed: &Parsed, sources: &[Source]) {
    let Some(from) = &parsed.from else { return };
    if from.value == DomainsFrom::Exchange
        && !sources.iter().any(Source::has_accepted_domains)
        && !sources.is_empty()
    {
        root.problem_at(
            &from.at,
            "domains.from",
            "\"exchange\" reads the accepted domains from a source of kind \"ldap\" that is not a global catalog (port 3268, \
             3269), and there is none",
        );
    }
}
