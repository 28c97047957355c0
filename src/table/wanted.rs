//! The rows that the sources and the configuration want: from records to a table, in one straight walk. Pure, except that
//! records may lie on the disk and are read as they are decided, block by block.
//!
//! Invariant: rows come of a walk that met every record, or there are none.

use std::collections::BTreeSet;

use crate::address::Address;
use crate::at_once::at_once;
use crate::config::Recipients;
use crate::current::SourceRecords;
use crate::domains::{Domains, ListedDomain};
use crate::elsewhere::Given;
use crate::fold::Folding;
use crate::keys::Key;
use crate::kind::{self, Class};
use crate::policy::{Counted, Decision, Note, Policy, Reason};
use crate::record::{self, RecordRef};
use crate::state::Lost;
use crate::table::plain::{Plain, PlainAddresses};
use crate::table::rows::{Facts, Rows, RowsBuilder, SourceSet};

/// Fewer records are decided before a second thread is started.
const RECORDS_WORTH_A_THREAD: u64 = 10_000;

/// What the sources and the configuration want.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// How their keys are folded.
    pub folding: Folding,
    /// The rows of a table.
    pub rows: Rows,
    /// What was counted on the way.
    pub counted: Counted,
    /// Per source, what it gives to each listed domain.
    pub given: Vec<Vec<Given>>,
}

/// What is wanted in a table. `records` are per source, by number.
pub fn rows(
    recipients: &Recipients,
    domains: &Domains,
    records: &[&SourceRecords],
    folding: Folding,
) -> Result<Wanted, Lost> {
    let policy = Policy::new(recipients, domains);
    let records_count: u64 = records.iter().map(|records| records.len()).sum();
    let desk = || Desk {
        policy: &policy,
        domains,
        plain: PlainAddresses::new(&policy, domains, folding),
        folding,
        rows: RowsBuilder::default(),
        counted: Counted::default(),
        given: vec![vec![Given::default(); domains.iter().count()]; records.len()],
    };
    let decided = |part: usize, parts_count: usize| -> Result<Desk<'_>, Lost> {
        let mut desk = desk();
        for (number, records) in records.iter().enumerate() {
            if let Some(part) = records.parts(parts_count).get(part) {
                part.for_each(|record| desk.decide(record, number))?;
            }
        }
        Ok(desk)
    };
    let mut desks = if records_count < RECORDS_WORTH_A_THREAD {
        vec![decided(0, 1)?]
    } else {
        let (first, second) = at_once(|| decided(0, 2), || decided(1, 2));
        vec![first?, second?]
    };
    let mut counted = Counted::default();
    for desk in &mut desks {
        counted.add(std::mem::take(&mut desk.counted));
    }
    // What is missing is counted when it is shown.
    let mut last = desk();
    for (number, records) in records.iter().enumerate() {
        for missing in &records.missing {
            last.decide(missing.record.view(), number);
        }
    }
    let facts = Facts {
        is_always: true,
        ..Facts::default()
    };
    for address in always(recipients, domains) {
        last.push(&address, facts);
    }
    desks.push(last);
    let mut given = desk().given;
    for desk in &desks {
        let of_desk = desk.given.iter().flatten();
        for (all, of_desk) in given.iter_mut().flatten().zip(of_desk) {
            all.add(*of_desk);
        }
    }
    let rows = RowsBuilder::finish_all(desks.into_iter().map(|desk| desk.rows).collect());
    Ok(Wanted {
        folding,
        rows,
        counted,
        given,
    })
}

/// Where records are decided.
struct Desk<'run> {
    policy: &'run Policy<'run>,
    domains: &'run Domains,
    plain: PlainAddresses<'run>,
    folding: Folding,
    rows: RowsBuilder,
    counted: Counted,
    given: Vec<Vec<Given>>,
}

impl Desk<'_> {
    /// Takes the rows of a record of a source, and counts what is left out and what is worth knowing.
    fn decide(&mut self, record: RecordRef<'_>, source: usize) {
        let facts = Facts {
            sources: SourceSet::of(source),
            ..Facts::default()
        };
        let mut not_smtp_count = u64::from(record.other_values_count());
        let mut accepted_count = 0;
        let is_remote = record.recipient_type().is_some_and(kind::is_remote);
        let one = Given {
            addresses_count: 1,
            remote_count: u64::from(is_remote),
        };
        // Looked at once, and only if a value asks for it.
        let mut of_record: Option<Option<Reason>> = None;
        for value in record.proxy_addresses() {
            match self.plain.decide(value) {
                Some(Plain::LeftOut(Reason::NotSmtp)) => not_smtp_count += 1,
                Some(Plain::LeftOut(reason)) => self.counted.leave_out(reason, 1),
                Some(Plain::Listed(keys)) => {
                    let policy = self.policy;
                    match of_record.get_or_insert_with(|| policy.left_out_record(record)) {
                        Some(reason) => self.counted.leave_out(*reason, 1),
                        None => {
                            accepted_count += 1;
                            self.given[source][keys.domain].add(one);
                            keys.for_each(|key| self.rows.push(key, facts));
                        }
                    }
                }
                None => match self.policy.decide(record, value) {
                    Decision::LeftOut(reason) => self.counted.leave_out(reason, 1),
                    Decision::Accepted(address) => {
                        accepted_count += 1;
                        if let Some(domain) = self.domains.number_of(address.domain()) {
                            self.given[source][domain].add(one);
                        }
                        if address.is_refused_by_postfix_anyway() {
                            self.counted.note(Note::RefusedByPostfix, 1);
                        }
                        self.push(&address, facts);
                    }
                },
            }
        }
        if not_smtp_count > 0 {
            self.counted.leave_out(Reason::NotSmtp, not_smtp_count);
        }
        let class = record.recipient_type().map(kind::class);
        if accepted_count > 0 && matches!(class, Some(Class::Unknown | Class::NotMailEnabled)) {
            self.counted.note(Note::UnexpectedKind, accepted_count);
        }
    }

    fn push(&mut self, address: &Address, facts: Facts) {
        for key in Key::all_of(address, self.folding) {
            self.rows.push(key.as_str().as_bytes(), facts);
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{self, Record};
    use crate::records::Records;

    const CONFIG: &str = r#"
        [domains]
        list = ["example.com", "bücher.example"]
        [source.a]
        kind = "list"
        path = "a"
        [table.t]
        path = "t"
        formats = ["cdb"]
        [recipients]
        always = ["postmaster"]
    "#;

    fn config() -> crate::config::Config {
        crate::config::parse(std::path::Path::new("/c"), CONFIG).expect("a configuration")
    }

    fn wanted(config: &crate::config::Config, records: &[Record]) -> (Vec<String>, Counted) {
        let domains = Domains::exact(&config.domains.list);
        let records = SourceRecords::shown(Records::of(records));
        let wanted = rows(&config.recipients, &domains, &[&records], Folding::Unicode)
            .expect("records in memory");
        let keys = wanted
            .rows
            .keys()
            .map(|key| String::from_utf8_lossy(key).into_owned());
        (keys.collect(), wanted.counted)
    }

    #[test]
    fn what_is_accepted_all_the_same_is_noted() {
        let record = |recipient_type, value: &str| {
            Record::of(record::Facts {
                recipient_type,
                proxy_addresses: vec![value.as_bytes()],
                ..record::Facts::default()
            })
        };
        let records = [
            record(Some(1), "smtp:a@example.com"),
            record(Some(999), "smtp:b@example.com"),
            record(Some(2_097_152), "smtp:c@example.com"),
            record(None, "smtp:-d@example.com"),
            record(Some(999), "smtp:e@other.example"),
        ];
        let (keys, counted) = wanted(&config(), &records);
        let expected = [
            "-d@example.com",
            "a@example.com",
            "b@example.com",
            "c@example.com",
            "postmaster@bücher.example",
            "postmaster@example.com",
            "postmaster@xn--bcher-kva.example",
        ];
        assert_eq!(keys, expected);
        assert_eq!(counted.left_out, [(Reason::ForeignDomain, 1)].into());
        let noted = [(Note::UnexpectedKind, 2), (Note::RefusedByPostfix, 1)].into();
        assert_eq!(counted.noted, noted);
    }

    #[test]
    fn many_records_are_decided_as_each_alone() {
        let record = |number: usize| {
            let values = [
                format!("SMTP:User.{}@example.com", number % 9_000),
                format!("smtp:ü{number}@BÜCHER.example"),
                format!("smtp:x{number}@other{}.example", number % 20),
                format!("SIP:user.{number}@example.com"),
            ];
            Record::of(record::Facts {
                is_internal_only: number.is_multiple_of(7),
                other_values_count: (number % 3) as u32,
                proxy_addresses: values.iter().map(String::as_bytes).collect(),
                ..record::Facts::default()
            })
        };
        let records: Vec<Record> = (0..=RECORDS_WORTH_A_THREAD as usize).map(record).collect();
        let config = config();
        let domains = Domains::exact(&config.domains.list);
        let policy = Policy::new(&config.recipients, &domains);
        let always = always(&config.recipients, &domains);
        let mut addresses: Vec<Address> = always.collect();
        let mut expected = Counted::default();
        for record in &records {
            let record = record.view();
            expected.leave_out(Reason::NotSmtp, u64::from(record.other_values_count()));
            for value in record.proxy_addresses() {
                match policy.decide(record, value) {
                    Decision::Accepted(address) => addresses.push(address),
                    Decision::LeftOut(reason) => expected.leave_out(reason, 1),
                }
            }
        }
        let keys: std::collections::BTreeSet<String> = addresses
            .iter()
            .flat_map(|address| Key::all_of(address, Folding::Unicode))
            .map(|key| key.as_str().to_owned())
            .collect();
        let (found, counted) = wanted(&config, &records);
        assert!(found.into_iter().eq(keys));
        assert_eq!(counted, expected);
    }
}
