//! The rows that the sources and the configuration want: from records to a table, in one straight walk. Pure.

use std::collections::{BTreeSet, HashMap};

use crate::address::Address;
use crate::config::Config;
use crate::current::SourceRecords;
use crate::domain::Domain;
use crate::fold::Folding;
use crate::keys::{Key, folded_forms};
use crate::policy::{Counted, Policy};
use crate::record;
use crate::table::rows::{Facts, Rows, RowsBuilder, SourceSet};

/// The wanted rows of a table, and what was counted on the way. `records` are per source, by number.
pub fn rows(config: &Config, records: &[&SourceRecords], folding: Folding) -> (Rows, Counted) {
    let policy = Policy::of(config);
    let mut rows = RowsBuilder::default();
    let mut counted = Counted::default();
    for (number, records) in records.iter().enumerate() {
        let facts = Facts {
            sources: SourceSet::of(number),
            ..Facts::default()
        };
        let mut accept = |address: &Address| {
            for key in Key::all_of(address, folding) {
                rows.push(key.as_str().as_bytes(), facts);
            }
        };
        counted.add(policy.decide_all(&records.shown, &mut accept));
        for missing in &records.missing {
            // Counted when it is shown.
            policy.decide_all(std::slice::from_ref(&missing.record), &mut accept);
        }
    }
    let facts = Facts {
        is_always: true,
        ..Facts::default()
    };
    for address in always(config) {
        for key in Key::all_of(&address, folding) {
            rows.push(key.as_str().as_bytes(), facts);
        }
    }
    (rows.finish(), counted)
}

/// The addresses that `recipients.always` gives to every domain.
pub fn always(config: &Config) -> impl Iterator<Item = Address> {
    let locals = config.recipients.always.iter();
    locals.flat_map(|local| {
        let address = move |domain: &Domain| {
            let quoted = local.replace('\\', "\\\\").replace('"', "\\\"");
            Address::parse(&format!("\"{quoted}\"@{}", domain.ascii())).ok()
        };
        config.domains.iter().filter_map(address)
    })
}

/// Every form in which a configured domain stands in a key, to the domain's name.
pub fn domain_forms(domains: &[Domain], folding: Folding) -> HashMap<Vec<u8>, String> {
    let mut forms = HashMap::new();
    for domain in domains {
        for form in [domain.ascii(), domain.unicode()]
            .into_iter()
            .flat_map(|form| folded_forms(form, folding))
        {
            forms.insert(form.into_bytes(), domain.to_string());
        }
    }
    forms
}

/// Removes from `keys` those that any record ever knew, accepted or not; what is left, no source knows.
pub fn forget_known(keys: &mut BTreeSet<Vec<u8>>, records: &[&SourceRecords], folding: Folding) {
    let values = records
        .iter()
        .flat_map(|records| records.all())
        .flat_map(|record| &record.proxy_addresses);
    for value in values {
        if keys.is_empty() {
            return;
        }
        let address =
            record::smtp_address(value).and_then(|address| std::str::from_utf8(address).ok());
        if let Some(Ok(address)) = address.map(Address::parse) {
            for key in Key::all_of(&address, folding) {
                keys.remove(key.as_str().as_bytes());
            }
        }
    }
}
