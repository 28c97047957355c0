//! The rows that the sources and the configuration want: from records to a table, in one straight walk. Pure.

use std::collections::BTreeSet;

use crate::address::Address;
use crate::config::Recipients;
use crate::current::SourceRecords;
use crate::domains::{Domains, ListedDomain};
use crate::fold::Folding;
use crate::keys::Key;
use crate::policy::{Counted, Policy};
use crate::record;
use crate::state::Lost;
use crate::table::rows::{Facts, Rows, RowsBuilder, SourceSet};

/// The wanted rows of a table, and what was counted on the way. `records` are per source, by number.
pub fn rows(
    recipients: &Recipients,
    domains: &Domains,
    records: &[&SourceRecords],
    folding: Folding,
) -> Result<(Rows, Counted), Lost> {
    let policy = Policy::new(recipients, domains);
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
        records.for_each_shown(|record| policy.decide_all(record, &mut counted, &mut accept))?;
        for missing in &records.missing {
            // Counted when it is shown.
            let mut not_counted = Counted::default();
            policy.decide_all(missing.record.view(), &mut not_counted, &mut accept);
        }
    }
    let facts = Facts {
        is_always: true,
        ..Facts::default()
    };
    for address in always(recipients, domains) {
        for key in Key::all_of(&address, folding) {
            rows.push(key.as_str().as_bytes(), facts);
        }
    }
    Ok((rows.finish(), counted))
}

/// The addresses that `recipients.always` gives to every listed domain. A domain of which the sub-domains alone are listed
/// gets none: nobody knows which of them exist.
pub fn always<'run>(
    recipients: &'run Recipients,
    domains: &'run Domains,
) -> impl Iterator<Item = Address> + 'run {
    recipients.always.iter().flat_map(move |local| {
        let address = move |listed: &ListedDomain| {
            let quoted = local.replace('\\', "\\\\").replace('"', "\\\"");
            Address::parse(&format!("\"{quoted}\"@{}", listed.domain.ascii())).ok()
        };
        let listed = domains.iter().filter(|listed| listed.reach.is_itself());
        listed.filter_map(address)
    })
}

/// Removes from `keys` those that any record ever knew, accepted or not; what is left, no source knows.
pub fn forget_known(
    keys: &mut BTreeSet<Vec<u8>>,
    records: &[&SourceRecords],
    folding: Folding,
) -> Result<(), Lost> {
    if keys.is_empty() {
        return Ok(());
    }
    let mut forget = |value: &[u8]| {
        let address =
            record::smtp_address(value).and_then(|address| std::str::from_utf8(address).ok());
        if let Some(Ok(address)) = address.map(Address::parse) {
            for key in Key::all_of(&address, folding) {
                keys.remove(key.as_str().as_bytes());
            }
        }
    };
    for records in records {
        records.for_each(|record| record.proxy_addresses().for_each(&mut forget))?;
    }
    Ok(())
}
