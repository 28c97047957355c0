//! The domains that rows may exist for: one list, and one way to ask it.
//!
//! Whole labels are compared, from the most specific name to the least: `a.sub.example.com` is asked for itself, then for
//! what `sub.example.com` says of its sub-domains, then for what `example.com` says of its own. A suffix of text is never
//! asked for. What is excluded (a relay domain of Exchange below an accepted one, `!sub.example.com` of Postfix) cuts a part
//! out of a listed domain's sub-domains. Not here: where the list comes from (`command::plan`).
//!
//! Invariant: every listed domain has a rule, and no rule says two things; the first that was said holds.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::domain::Domain;
use crate::fold::Folding;
use crate::keys::{domain_part, folded_forms};

/// How far the listing of a domain reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// The domain alone.
    Itself,
    /// The domain and everything below it.
    WithSubDomains,
    /// What is below it, without the domain (`.example.com` of Postfix).
    SubDomains,
}

impl Reach {
    /// Whether the domain itself is meant.
    pub fn is_itself(self) -> bool {
        self != Reach::SubDomains
    }

    /// Whether its sub-domains are meant.
    pub fn is_below(self) -> bool {
        self != Reach::Itself
    }

    fn of(is_itself: bool, is_below: bool) -> Option<Reach> {
        match (is_itself, is_below) {
            (true, true) => Some(Reach::WithSubDomains),
            (true, false) => Some(Reach::Itself),
            (false, true) => Some(Reach::SubDomains),
            (false, false) => None,
        }
    }
}

/// A listed domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedDomain {
    /// Its name.
    pub domain: Domain,
    /// How far it reaches.
    pub reach: Reach,
}

impl ListedDomain {
    /// Whether whole labels to its left are listed with it.
    pub fn with_sub_domains(&self) -> bool {
        self.reach.is_below()
    }
}

/// A domain that is to be listed, or left out of what is listed after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its name.
    pub domain: Domain,
    /// How far it reaches.
    pub reach: Reach,
    /// Left out, not listed.
    pub is_excluded: bool,
}

/// What is said of a name, or of the names below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Part of the listed domain with this number.
    Listed(usize),
    /// Not listed, whatever is said of its parents.
    Excluded,
}

#[derive(Clone, Copy, Debug, Default)]
struct Rule {
    itself: Option<Verdict>,
    below: Option<Verdict>,
}

/// Rules by the octets of a name.
type Rules = HashMap<Vec<u8>, Rule>;

/// The names that `name` lies below, the nearest first.
fn parents(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    let dots = name.iter().enumerate().filter(|(_, byte)| **byte == b'.');
    dots.map(|(at, _)| &name[at + 1..])
}

fn verdict_of_parents(rules: &Rules, name: &[u8]) -> Option<Verdict> {
    parents(name).find_map(|parent| rules.get(parent)?.below)
}

/// Two names may fold to one form (`straße.example`, `strasse.example`): whoever is listed under it is.
fn either(one: Option<Verdict>, other: Option<Verdict>) -> Option<Verdict> {
    match (one, other) {
        (Some(Verdict::Listed(one)), Some(Verdict::Listed(other))) => {
            Some(Verdict::Listed(one.min(other)))
        }
        (Some(Verdict::Listed(_)), _) => one,
        (_, Some(Verdict::Listed(_))) => other,
        (Some(Verdict::Excluded), _) => one,
        (None, _) => other,
    }
}

fn verdict(rules: &Rules, name: &[u8]) -> Option<Verdict> {
    let own = rules.get(name).and_then(|rule| rule.itself);
    own.or_else(|| verdict_of_parents(rules, name))
}

/// A set of listed domains.
#[derive(Clone, Debug, Default)]
pub struct Domains {
    listed: Vec<ListedDomain>,
    rules: Rules,
}

impl Domains {
    /// The list that `entries` make. Of two that speak of the same name the first holds, as in the lists of Postfix.
    pub fn of(entries: impl IntoIterator<Item = Entry>) -> Domains {
        let mut domains = Domains::default();
        for entry in entries {
            domains.push(entry);
        }
        domains
    }

    /// A list of domains without their sub-domains.
    pub fn exact<'name>(names: impl IntoIterator<Item = &'name Domain>) -> Domains {
        let entry = |domain: &Domain| Entry {
            domain: domain.clone(),
            reach: Reach::Itself,
            is_excluded: false,
        };
        Domains::of(names.into_iter().map(entry))
    }

    fn push(&mut self, entry: Entry) {
        let name = entry.domain.ascii().as_bytes().to_vec();
        let is_open_below = self
            .rules
            .get(&name)
            .is_none_or(|rule| rule.below.is_none())
            && verdict_of_parents(&self.rules, &name).is_none();
        let is_open_itself = verdict(&self.rules, &name).is_none();
        let reach = Reach::of(
            entry.reach.is_itself() && is_open_itself,
            entry.reach.is_below() && is_open_below,
        );
        let Some(reach) = reach else { return };
        let says = if entry.is_excluded {
            Verdict::Excluded
        } else {
            Verdict::Listed(self.list(entry.domain, reach))
        };
        let rule = self.rules.entry(name).or_default();
        if reach.is_itself() {
            rule.itself = Some(says);
        }
        if reach.is_below() {
            rule.below = Some(says);
        }
    }

    /// The number of a domain in the list, where it is put if it is not there yet.
    fn list(&mut self, domain: Domain, reach: Reach) -> usize {
        let known = self.listed.iter().position(|known| known.domain == domain);
        if let Some(number) = known {
            self.listed[number].reach = Reach::WithSubDomains;
            return number;
        }
        self.listed.push(ListedDomain { domain, reach });
        self.listed.len() - 1
    }

    /// The listed domain that a domain is, or lies in.
    pub fn find(&self, domain: &Domain) -> Option<&ListedDomain> {
        self.listed.get(self.number_of(domain)?)
    }

    /// Its number in the order of the list.
    pub fn number_of(&self, domain: &Domain) -> Option<usize> {
        match verdict(&self.rules, domain.ascii().as_bytes())? {
            Verdict::Listed(number) => Some(number),
            Verdict::Excluded => None,
        }
    }

    /// All of them, in the order in which they were listed.
    pub fn iter(&self) -> impl Iterator<Item = &ListedDomain> {
        self.listed.iter()
    }

    /// The names that are cut out of a listed domain.
    pub fn excluded(&self) -> impl Iterator<Item = Domain> {
        let is_excluded = |rule: &Rule| rule.itself == Some(Verdict::Excluded);
        let excluded = self.rules.iter().filter(move |(_, rule)| is_excluded(rule));
        excluded.filter_map(|(name, _)| Domain::parse(std::str::from_utf8(name).ok()?).ok())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    /// The same list, to be asked with the domain part of a key.
    pub fn forms(&self, folding: Folding) -> Forms {
        let mut names: Vec<String> = self
            .listed
            .iter()
            .map(|listed| listed.domain.to_string())
            .collect();
        names.sort_unstable();
        let renumbered = |says: Verdict| match says {
            Verdict::Listed(number) => {
                let name = self
                    .listed
                    .get(number)
                    .map(|listed| listed.domain.to_string());
                Verdict::Listed(
                    names
                        .binary_search(&name.unwrap_or_default())
                        .unwrap_or_default(),
                )
            }
            Verdict::Excluded => Verdict::Excluded,
        };
        let mut rules = Rules::new();
        for (name, rule) in &self.rules {
            let Ok(domain) = Domain::parse(&String::from_utf8_lossy(name)) else {
                continue;
            };
            for form in forms_of(&domain, folding) {
                let known = rules.entry(form).or_default();
                known.itself = either(known.itself, rule.itself.map(renumbered));
                known.below = either(known.below, rule.below.map(renumbered));
            }
        }
        Forms { names, rules }
    }
}

/// Every form in which a domain stands in a key.
pub fn forms_of(domain: &Domain, folding: Folding) -> Vec<Vec<u8>> {
    let mut forms: Vec<Vec<u8>> = Vec::new();
    for form in [domain.ascii(), domain.unicode()]
        .into_iter()
        .flat_map(|form| folded_forms(form, folding))
        .map(String::into_bytes)
    {
        if !forms.contains(&form) {
            forms.push(form);
        }
    }
    forms
}

/// Every form of every listed domain, folded as keys are.
#[derive(Clone, Debug, Default)]
pub struct Forms {
    names: Vec<String>,
    rules: Rules,
}

impl Forms {
    /// The names of the listed domains, sorted.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The number among the names of the listed domain that a key with this domain part lies in.
    pub fn find(&self, domain_part: &[u8]) -> Option<usize> {
        match verdict(&self.rules, domain_part)? {
            Verdict::Listed(number) => Some(number),
            Verdict::Excluded => None,
        }
    }

    /// The name of the listed domain that a key with this domain part lies in.
    pub fn name_of(&self, domain_part: &[u8]) -> Option<&str> {
        self.find(domain_part)
            .and_then(|number| self.names.get(number))
            .map(String::as_str)
    }
}

/// Numbers for the domains that keys lie in, so that counting a row is an addition and not a text.
///
/// The listed ones come first; what lies in the sub-domains of a listed domain is counted under its name.
#[derive(Debug)]
pub struct Numbering<'run> {
    listed: &'run Forms,
    names: Vec<String>,
    numbers: ByName<usize>,
}

impl<'run> Numbering<'run> {
    /// Of the listed domains and all others that keys will name.
    pub fn of(listed: &'run Forms) -> Self {
        Numbering {
            listed,
            names: listed.names().to_vec(),
            numbers: ByName::default(),
        }
    }

    /// The number of the domain that a key lies in.
    pub fn number_of(&mut self, key: &[u8]) -> usize {
        let part = domain_part(key);
        if let Some(number) = self.numbers.get(part) {
            return *number;
        }
        let number = self.listed.find(part).unwrap_or_else(|| {
            self.names.push(String::from_utf8_lossy(part).into_owned());
            self.names.len() - 1
        });
        self.numbers.insert(part, number);
        number
    }

    /// The names, by number.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// How many of them are listed.
    pub fn listed_count(&self) -> usize {
        self.listed.names().len()
    }
}

/// Something for each name. A table has a handful of domains, and comparing with the first of them is faster than a hash.
#[derive(Debug)]
pub struct ByName<T> {
    first: Vec<(Vec<u8>, T)>,
    others: HashMap<Vec<u8>, T>,
}

/// More are looked up by their hash.
const COMPARED_MAX: usize = 8;

impl<T> Default for ByName<T> {
    fn default() -> Self {
        ByName {
            first: Vec::new(),
            others: HashMap::new(),
        }
    }
}

impl<T> ByName<T> {
    /// What there is for a name.
    #[inline]
    pub fn get(&self, name: &[u8]) -> Option<&T> {
        match self.first.iter().find(|(first, _)| first == name) {
            Some((_, found)) => Some(found),
            None if self.others.is_empty() => None,
            None => self.others.get(name),
        }
    }

    /// Adds what there is for a name that has nothing yet.
    pub fn insert(&mut self, name: &[u8], new: T) {
        if self.first.len() < COMPARED_MAX {
            self.first.push((name.to_vec(), new));
        } else {
            self.others.insert(name.to_vec(), new);
        }
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.first.len() + self.others.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(name: &str) -> Domain {
        Domain::parse(name).expect("a domain")
    }

    /// `example.com`, `*.example.com` (with sub-domains), `.example.com` (these alone), each with `!` before it left out.
    fn list(entries: &str) -> Domains {
        Domains::of(entries.split_whitespace().map(|text| {
            let (is_excluded, text) = text
                .strip_prefix('!')
                .map_or((false, text), |rest| (true, rest));
            let (reach, name) = if let Some(name) = text.strip_prefix("*.") {
                (Reach::WithSubDomains, name)
            } else if let Some(name) = text.strip_prefix('.') {
                (Reach::SubDomains, name)
            } else {
                (Reach::Itself, text)
            };
            Entry {
                domain: domain(name),
                reach,
                is_excluded,
            }
        }))
    }

    #[track_caller]
    fn check(entries: &str, name: &str, expected: Option<&str>) {
        let domains = list(entries);
        let found = domains
            .find(&domain(name))
            .map(|listed| listed.domain.to_string());
        assert_eq!(found.as_deref(), expected, "{name} in {entries}");
        // A key is counted where its address is.
        let forms = domains.forms(Folding::Both);
        for form in forms_of(&domain(name), Folding::Both) {
            assert_eq!(
                forms.name_of(&form),
                expected,
                "{name} in the forms of {entries}"
            );
        }
    }

    #[test]
    fn names_are_equal_or_whole_labels_to_the_left() {
        check("example.com", "example.com", Some("example.com"));
        check("example.com", "EXAMPLE.com", Some("example.com"));
        check("example.com", "sub.example.com", None);
        check("example.com", "notexample.com", None);
        check("example.com", "com", None);
        check("*.example.com", "example.com", Some("example.com"));
        check("*.example.com", "a.b.example.com", Some("example.com"));
        check("*.example.com", "notexample.com", None);
        check("*.example.com", "example.com.attacker.example", None);
        check(".example.com", "example.com", None);
        check(".example.com", "a.example.com", Some("example.com"));
        check(
            "*.bücher.example",
            "a.xn--bcher-kva.example",
            Some("bücher.example"),
        );
        check(
            "bücher.example",
            "xn--bcher-kva.example",
            Some("bücher.example"),
        );
        check(
            "*.straße.example",
            "a.straße.example",
            Some("straße.example"),
        );
    }

    #[test]
    fn the_first_that_speaks_of_a_name_holds() {
        check("!sub.example.com *.example.com", "sub.example.com", None);
        check(
            "!sub.example.com *.example.com",
            "x.sub.example.com",
            Some("example.com"),
        );
        check(
            "!*.sub.example.com *.example.com",
            "x.sub.example.com",
            None,
        );
        check(
            "*.example.com !sub.example.com",
            "sub.example.com",
            Some("example.com"),
        );
        check("!example.com example.com", "example.com", None);
        check(
            "example.com !example.com",
            "example.com",
            Some("example.com"),
        );
        check(
            "a.example.com !*.example.com",
            "a.example.com",
            Some("a.example.com"),
        );
        check(
            "!.example.com *.example.com",
            "example.com",
            Some("example.com"),
        );
        check("!.example.com *.example.com", "a.example.com", None);
        check(
            "sub.example.com *.example.com",
            "sub.example.com",
            Some("sub.example.com"),
        );
        check(
            "sub.example.com *.example.com",
            "a.sub.example.com",
            Some("example.com"),
        );
    }

    #[test]
    fn a_domain_is_listed_once() {
        let domains = list("example.com example.com .example.com *.example.com");
        let listed: Vec<_> = domains.iter().collect();
        assert_eq!(listed.len(), 1);
        assert!(listed[0].with_sub_domains() && listed[0].reach.is_itself());
        assert!(list("!example.com").is_empty());
    }
}
