//! Where in the directory the objects are whose rows come, go or wait: twelve removals in `OU=Sales` tell more than twelve
//! addresses. For people who read a difference; a run decides nothing by it. Writes nothing.
//!
//! What comes is looked for in the records just read, what goes in those of the run before; each is one walk, and only
//! where there is something to look for. A key of two objects counts in the place of each. The rows of a first publication are
//! everybody's and are not looked for.

use std::collections::BTreeMap;

use super::Plan;
use crate::address::Address;
use crate::dn;
use crate::fold::Folding;
use crate::harmless::key;
use crate::hold::{Hold, Place};
use crate::keys::Key;
use crate::record::{RecordRef, smtp_address};
use crate::report::difference::Difference;
use crate::state::State;
use crate::state::head::Head;
use crate::table::rows::Rows;

/// So many places of a table or a hold are told apart.
const PLACES_MAX: usize = 1_000;

/// Whether a hold of the plan is new: its places are to be found now or never.
pub fn is_any_hold_new(head: &Head, plan: &Plan<'_>) -> bool {
    let mut holds = plan.tables.iter().flat_map(|table| &table.judgement.holds);
    holds.any(|hold| !head.holds.contains_key(&hold.digest()))
}

/// Tells it in the report of a plan. Where records cannot be read back, the plan says so, and this says nothing.
pub fn tell(state: &State, head: &Head, plan: &Plan<'_>, report: &mut Difference) {
    let holds = (plan.tables.iter()).flat_map(|table| {
        table
            .judgement
            .holds
            .iter()
            .map(|hold| (table.folding, hold))
    });
    let mut tables: Vec<Tally<'_>> = plan.tables.iter().map(of_table).collect();
    let mut held: Vec<Tally<'_>> = (holds.clone())
        .map(|(folding, hold)| {
            let (added, removed) = (Keys::Listed(&hold.added), Keys::Listed(&hold.removed));
            Tally::of(folding, added, removed)
        })
        .collect();
    let mut all: Vec<&mut Tally<'_>> = tables.iter_mut().chain(&mut held).collect();
    if all.iter().any(|tally| !tally.added.is_empty()) {
        for source in &plan.sources {
            if let Some(records) = &source.records {
                let note =
                    |record: RecordRef<'_>| count(&mut all, Side::Added, &source.name, record);
                let _ = records.for_each(note);
            }
        }
    }
    if all.iter().any(|tally| !tally.removed.is_empty()) {
        for (name, known) in head
            .sources
            .iter()
            .filter(|(_, known)| known.base.is_some())
        {
            if let Ok(records) = state.records(name, known, None) {
                let note = |record: RecordRef<'_>| count(&mut all, Side::Removed, name, record);
                let _ = records.for_each(note);
            }
        }
    }
    for (table, tally) in plan.tables.iter().zip(tables) {
        if let Some(told) = report.tables.get_mut(&table.table.name) {
            told.places = tally.into_places();
        }
    }
    // The report has the holds of all tables in their order.
    for ((told, mut tally), (_, hold)) in report.holds.iter_mut().zip(held).zip(holds) {
        remember(state, head, hold, &mut tally);
        told.places = tally.into_places();
    }
}

/// Adds what an earlier run found of a hold: of the same one instead of what is left to find; of one that has grown into this,
/// what its rows were.
fn remember(state: &State, head: &Head, hold: &Hold, tally: &mut Tally<'_>) {
    let is_among =
        |one: &[Vec<u8>], other: &[Vec<u8>]| one.iter().all(|key| other.binary_search(key).is_ok());
    let digest = hold.digest();
    let known = if let Some(same) = head.holds.get(&digest) {
        if same.places.is_empty() {
            return;
        }
        tally.counts.clear();
        same
    } else {
        let mut earlier = head.holds.iter().filter(|(_, known)| {
            known.is_current
                && known.table == hold.table
                && known.cause == hold.cause
                && known.scope == hold.scope
        });
        let Some((digest, known)) = earlier.next() else {
            return;
        };
        let rows = state.hold(digest);
        if !rows.is_ok_and(|rows| {
            is_among(&rows.added, &hold.added) && is_among(&rows.removed, &hold.removed)
        }) {
            return;
        }
        known
    };
    for place in &known.places {
        let at = (place.source.clone(), place.container.clone());
        let counts = tally.counts.entry(at).or_default();
        // What still comes is found in every run.
        counts[0] = counts[0].max(place.added);
        counts[1] += place.removed;
    }
}

fn of_table<'plan>(table: &'plan super::TablePlan<'_>) -> Tally<'plan> {
    let added = if table.in_force.is_empty() {
        Keys::Listed(&[])
    } else {
        Keys::Rows(&table.diff.added)
    };
    Tally::of(table.folding, added, Keys::Rows(&table.diff.removed))
}

/// Keys that are looked for, sorted.
enum Keys<'plan> {
    Rows(&'plan Rows),
    Listed(&'plan [Vec<u8>]),
}

impl Keys<'_> {
    fn is_empty(&self) -> bool {
        match self {
            Keys::Rows(rows) => rows.is_empty(),
            Keys::Listed(keys) => keys.is_empty(),
        }
    }

    fn has(&self, wanted: &[u8]) -> bool {
        match self {
            Keys::Rows(rows) => rows.find(wanted).is_some(),
            Keys::Listed(keys) => keys
                .binary_search_by(|key| key.as_slice().cmp(wanted))
                .is_ok(),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Added,
    Removed,
}

/// The changes of one table, or of one hold.
struct Tally<'plan> {
    folding: Folding,
    added: Keys<'plan>,
    removed: Keys<'plan>,
    /// By source and container, rows that come and rows that go.
    counts: BTreeMap<(String, String), [u64; 2]>,
}

impl<'plan> Tally<'plan> {
    fn of(folding: Folding, added: Keys<'plan>, removed: Keys<'plan>) -> Tally<'plan> {
        let counts = BTreeMap::new();
        Tally {
            folding,
            added,
            removed,
            counts,
        }
    }

    /// How many of the keys of a record are looked for.
    fn count_in(&self, side: Side, record: RecordRef<'_>) -> u64 {
        let wanted = match side {
            Side::Added => &self.added,
            Side::Removed => &self.removed,
        };
        if wanted.is_empty() {
            return 0;
        }
        let mut found: Vec<Vec<u8>> = Vec::new();
        for address in record.proxy_addresses().filter_map(smtp_address) {
            for_each_key(address, self.folding, |key| {
                if wanted.has(key) {
                    found.push(key.to_vec());
                }
            });
        }
        // One object may have very many.
        found.sort_unstable();
        found.dedup();
        found.len() as u64
    }

    /// The places with the most changes first.
    fn into_places(self) -> Vec<Place> {
        let place = |((source, container), [added, removed]): ((String, String), [u64; 2])| Place {
            source,
            container,
            added,
            removed,
        };
        let mut places: Vec<Place> = self.counts.into_iter().map(place).collect();
        places.sort_by_key(|place| std::cmp::Reverse(place.added + place.removed));
        places
    }
}

fn count(all: &mut [&mut Tally<'_>], side: Side, source: &str, record: RecordRef<'_>) {
    for tally in all {
        let found = tally.count_in(side, record);
        if found == 0 {
            continue;
        }
        let mut place = (
            source.to_owned(),
            key(dn::container_of(record.dn()).as_bytes()),
        );
        if tally.counts.len() >= PLACES_MAX && !tally.counts.contains_key(&place) {
            place = (source.to_owned(), String::new());
        }
        tally.counts.entry(place).or_default()[usize::from(side == Side::Removed)] += found;
    }
}

/// The keys of an address as received.
fn for_each_key(address: &[u8], folding: Folding, mut each: impl FnMut(&[u8])) {
    // Nearly every address is its only key in lower case, and a walk meets every address of the directory.
    let is_plain = |octet: &u8| octet.is_ascii_alphanumeric() || b"@.-_".contains(octet);
    let has = |part: &[u8]| {
        address
            .windows(part.len())
            .any(|octets| octets.eq_ignore_ascii_case(part))
    };
    if address.iter().all(is_plain)
        && !has(b"..")
        && !has(b".@")
        && !has(b"xn--")
        && !address.starts_with(b".")
    {
        return each(&address.to_ascii_lowercase());
    }
    let text = std::str::from_utf8(address).ok();
    if let Some(address) = text.and_then(|text| Address::parse(text).ok()) {
        Key::all_of(&address, folding)
            .iter()
            .for_each(|key| each(key.as_str().as_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The short way gives what the long way gives.
    #[test]
    fn a_plain_address_is_its_own_key() {
        for text in [
            "Anna.Berg@Example.com",
            "a-b_c@example.com",
            "a..b@example.com",
            ".a@example.com",
            "a.@example.com",
            "a@XN--bcher-kva.example",
            "a@bücher.example",
            "STRASSE@example.com",
            "john doe@example.com",
        ] {
            let mut found = Vec::new();
            for_each_key(text.as_bytes(), Folding::Both, |key| {
                found.push(key.to_vec())
            });
            let address = Address::parse(text).expect("an address");
            let expected = Key::all_of(&address, Folding::Both);
            let expected: Vec<Vec<u8>> = expected.iter().map(|key| key.as_str().into()).collect();
            assert_eq!(found, expected, "{text}");
        }
    }
}
