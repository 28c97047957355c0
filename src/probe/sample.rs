//! Which addresses are asked: a few that a table has, spread over its domains, and ones that nobody has.
//!
//! Pure: where chance is needed, it is passed in. Not asked are addresses that stock Postfix turns away whatever a table
//! says, and rows that stand for a domain.

use std::collections::{BTreeMap, HashMap};

use crate::address::Address;
use crate::domain::Domain;
use crate::domains::Domains;
use crate::keys::domain_part;

/// Letters of a local part that nobody has: 26^32 is 1.9e45.
const LETTERS: usize = 32;

/// A few of many, each as likely as any other, without holding more than the few.
#[derive(Debug)]
pub struct Reservoir<Item> {
    kept: Vec<Item>,
    kept_max: usize,
    seen: u64,
}

impl<Item> Reservoir<Item> {
    /// Keeps so many at most.
    pub fn new(kept_max: usize) -> Self {
        Reservoir {
            kept: Vec::new(),
            kept_max,
            seen: 0,
        }
    }

    /// One more, made only if it is kept.
    pub fn offer(&mut self, random: &mut dyn FnMut() -> u64, item: impl FnOnce() -> Item) {
        self.seen += 1;
        if self.kept.len() < self.kept_max {
            self.kept.push(item());
        } else if let Ok(at) = usize::try_from(random() % self.seen)
            && let Some(place) = self.kept.get_mut(at)
        {
            *place = item();
        }
    }

    /// Those that were kept.
    pub fn into_kept(self) -> Vec<Item> {
        self.kept
    }
}

/// Up to `count` addresses behind keys of a table: one of every domain, then a second, as far as they go.
pub fn known<'key>(
    keys: impl Iterator<Item = &'key [u8]>,
    count: usize,
    random: &mut dyn FnMut() -> u64,
) -> Vec<Address> {
    let mut by_domain: BTreeMap<&[u8], Reservoir<&[u8]>> = BTreeMap::new();
    for key in keys.filter(|key| is_askable(key)) {
        by_domain
            .entry(domain_part(key))
            .or_insert_with(|| Reservoir::new(count))
            .offer(random, || key);
    }
    let mut domains: Vec<(u64, Vec<&[u8]>)> = (by_domain.into_values())
        .map(|reservoir| (random(), reservoir.into_kept()))
        .collect();
    domains.sort_unstable();
    let mut chosen: Vec<Address> = Vec::new();
    for round in 0..count {
        for key in domains.iter().filter_map(|(_, kept)| kept.get(round)) {
            let address = std::str::from_utf8(key).ok();
            let Some(address) = address.and_then(|text| Address::parse(text).ok()) else {
                continue;
            };
            // Both forms of an international domain are one address.
            let is_new = !chosen.iter().any(|chosen| chosen.is_same_as(&address));
            if is_new && chosen.len() < count {
                chosen.push(address);
            }
        }
    }
    chosen
}

/// Whether stock Postfix looks into a table for it ([`Address::is_refused_by_postfix_anyway`], on a key).
fn is_askable(key: &[u8]) -> bool {
    let domain_octets = domain_part(key).len();
    let local = key.len().checked_sub(domain_octets + 1);
    let local = local.map_or(&[][..], |octets| &key[..octets]);
    !local.is_empty()
        && !local.starts_with(b"-")
        && !local
            .iter()
            .any(|octet| matches!(octet, b'%' | b'!' | b'@'))
}

/// An address in a domain that nobody has.
pub fn unknown(domain: &Domain, random: &mut dyn FnMut() -> u64) -> Option<Address> {
    let letter = |_| char::from(b'a' + (random() % 26) as u8);
    let local: String = (0..LETTERS).map(letter).collect();
    Address::parse(&format!("{local}@{}", domain.ascii())).ok()
}

/// Whether the domain part of a key is that of a listed domain. Folding makes keys that are not: `strasse.example` of
/// `straße.example`, which is another domain.
pub fn of_listed<'key>(listed: &Domains) -> impl FnMut(&'key [u8]) -> bool {
    let mut known: HashMap<&[u8], bool> = HashMap::new();
    move |part| {
        *known.entry(part).or_insert_with(|| {
            let domain = std::str::from_utf8(part).ok();
            let domain = domain.and_then(|domain| Domain::parse(domain).ok());
            domain.is_some_and(|domain| listed.find(&domain).is_some())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Chance that can be repeated.
    fn chance() -> impl FnMut() -> u64 {
        let mut state = 88_172_645_463_325_252_u64;
        move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        }
    }

    #[track_caller]
    fn check(keys: &[&str], count: usize, expected: &[&str]) {
        let keys = keys.iter().map(|key| key.as_bytes());
        let chosen = known(keys, count, &mut chance());
        let mut chosen: Vec<String> = chosen.iter().map(ToString::to_string).collect();
        chosen.sort_unstable();
        assert_eq!(chosen, expected);
    }

    #[test]
    fn samples_are_spread_over_the_domains() {
        let mut keys: Vec<String> = (0..1000)
            .map(|number| format!("a{number}@big.example"))
            .collect();
        keys.extend((0..5).map(|number| format!("only@small{number}.example")));
        for count in [0, 1, 5, 6, 8, 2000] {
            let keys = keys.iter().map(|key| key.as_bytes());
            let chosen = known(keys, count, &mut chance());
            assert_eq!(chosen.len(), count.min(1005), "{count}");
            let small = chosen.iter().filter(|address| address.local() == "only");
            let expected = if count >= 6 {
                5..=5
            } else {
                count.saturating_sub(1)..=count
            };
            assert!(expected.contains(&small.count()), "{count}");
        }
    }

    #[test]
    fn what_cannot_be_asked_is_not_chosen() {
        check(
            &[
                "@all.example",
                "-a@x.example",
                "a%b@x.example",
                "a!b@x.example",
                "\"a@b\"@x.example",
                "no address",
                "",
                "\"john doe\"@x.example",
                "anna@x.example",
            ],
            9,
            &["\"john doe\"@x.example", "anna@x.example"],
        );
    }

    #[test]
    fn two_forms_of_a_domain_are_one_address() {
        check(
            &["a@bücher.example", "a@xn--bcher-kva.example"],
            5,
            &["a@bücher.example"],
        );
    }

    #[test]
    fn every_item_is_kept_as_often_as_any_other() {
        let mut random = chance();
        let mut kept = [0; 20];
        for _ in 0..10_000 {
            let mut reservoir = Reservoir::new(5);
            (0..kept.len()).for_each(|item| reservoir.offer(&mut random, || item));
            reservoir
                .into_kept()
                .into_iter()
                .for_each(|item| kept[item] += 1);
        }
        assert!(
            kept.iter().all(|count| (2250..2750).contains(count)),
            "{kept:?}"
        );
    }

    #[test]
    fn nobody_has_an_address_of_random_letters() {
        let domain = Domain::parse("x.example").expect("a domain");
        let mut random = chance();
        let mut unknown = || unknown(&domain, &mut random).expect("an address");
        let (one, other) = (unknown(), unknown());
        assert_ne!(one, other);
        assert_eq!(one.local().len(), LETTERS);
        assert!(one.local().bytes().all(|octet| octet.is_ascii_lowercase()));
    }

    #[test]
    fn a_domain_that_folding_made_is_not_listed() {
        let listed = ["straße.example", "bücher.example"];
        let listed = listed.map(|name| Domain::parse(name).expect("a domain"));
        let listed = Domains::exact(&listed);
        let mut is_ours = of_listed(&listed);
        for (part, expected) in [
            ("xn--strae-oqa.example", true),
            ("strasse.example", false),
            ("bücher.example", true),
            ("xn--bcher-kva.example", true),
            ("bücher.example", true),
            ("", false),
        ] {
            assert_eq!(is_ours(part.as_bytes()), expected, "{part}");
        }
    }
}
