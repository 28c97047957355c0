//! The rows that the sources and the configuration want: from records to a table, in one straight walk. Pure, except that
//! records may lie on the disk and are read as they are decided, block by block.
//!
//! Invariant: rows come of a walk that met every record, or there are none.

use std::collections::BTreeSet;

use crate::address::Address;
use crate::at_once::at_once;
use crate::config::{Config, DomainPolicy, DomainRules, Recipients, Table, TableKind};
use crate::current::SourceRecords;
use crate::domain::Domain;
use crate::domains::{Domains, ListedDomain, forms_of};
use crate::elsewhere::Given;
use crate::fold::Folding;
use crate::keys::Key;
use crate::kind::{self, Class};
use crate::policy::{Counted, Note, Policy, Reason};
use crate::record::{self, RecordRef};
use crate::state::Lost;
use crate::table::plain::{Plain, PlainAddresses};
use crate::table::rows::{Facts, Rows, RowsBuilder, SourceSet};
use crate::table::value::Meaning;

/// Fewer records are decided before a second thread is started.
const RECORDS_WORTH_A_THREAD: u64 = 10_000;

/// What the sources and the configuration want.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// In a table of which kind.
    pub kind: TableKind,
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
    config: &Config,
    table: &Table,
    domains: &Domains,
    records: &[&SourceRecords],
    folding: Folding,
) -> Result<Wanted, Lost> {
    let policy = Policy::new(&config.recipients, domains);
    // No record says anything about a table of domains.
    let records = if table.kind.has_addresses() {
        records
    } else {
        &[]
    };
    let desk = || Desk {
        table,
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
    let records_count: u64 = records.iter().map(|records| records.len()).sum();
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
    last.push_own(config);
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
        kind: table.kind,
        folding,
        rows,
        counted,
        given,
    })
}

/// What an address means in a table, if it gets a row there; `left_out` is why its record is left out.
fn meaning_of(table: &Table, left_out: Option<Reason>, is_remote: bool) -> Option<Meaning> {
    match (table.kind, left_out) {
        (TableKind::Recipients | TableKind::Access, None) => Some(Meaning::Recipient),
        (TableKind::Access, Some(Reason::InternalOnly)) => Some(Meaning::InternalOnly),
        (TableKind::Transport, None) if is_remote => Some(Meaning::Remote),
        _ => None,
    }
    // What has no value in the configuration is not wanted.
    .filter(|meaning| !table.values.of(*meaning).is_empty())
}

/// Where records are decided.
struct Desk<'run> {
    table: &'run Table,
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
        let mut not_smtp_count = u64::from(record.other_values_count());
        let mut accepted_count = 0;
        let is_remote = record.recipient_type().is_some_and(kind::is_remote);
        let one = Given {
            addresses_count: 1,
            remote_count: u64::from(is_remote),
        };
        let (table, policy) = (self.table, self.policy);
        // Looked at once, and only if a value asks for it.
        let mut looked: Option<(Option<Reason>, Option<Meaning>)> = None;
        let mut look = || {
            *looked.get_or_insert_with(|| {
                let left_out = policy.left_out_record(record);
                (left_out, meaning_of(table, left_out, is_remote))
            })
        };
        for value in record.proxy_addresses() {
            match self.plain.decide(value) {
                Some(Plain::LeftOut(Reason::NotSmtp)) => not_smtp_count += 1,
                Some(Plain::LeftOut(reason)) => self.counted.leave_out(reason, 1),
                Some(Plain::Listed(keys)) => {
                    let (left_out, meaning) = look();
                    match left_out {
                        Some(reason) => self.counted.leave_out(reason, 1),
                        None => {
                            accepted_count += 1;
                            self.given[source][keys.domain].add(one);
                        }
                    }
                    if let Some(meaning) = meaning {
                        let facts = facts_of(source, meaning);
                        keys.for_each(|key| self.rows.push(key, facts));
                    }
                }
                None => match policy.address(value) {
                    Err(reason) => self.counted.leave_out(reason, 1),
                    Ok(address) => {
                        let (left_out, meaning) = look();
                        match left_out {
                            Some(reason) => self.counted.leave_out(reason, 1),
                            None => {
                                accepted_count += 1;
                                self.count(&address, source, one);
                            }
                        }
                        if let Some(meaning) = meaning {
                            self.push(&address, facts_of(source, meaning));
                        }
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

    /// Counts an accepted address.
    fn count(&mut self, address: &Address, source: usize, one: Given) {
        if let Some(domain) = self.domains.number_of(address.domain()) {
            self.given[source][domain].add(one);
        }
        if address.is_refused_by_postfix_anyway() {
            self.counted.note(Note::RefusedByPostfix, 1);
        }
    }

    fn push(&mut self, address: &Address, facts: Facts) {
        for key in Key::all_of(address, self.folding) {
            self.rows.push(key.as_str().as_bytes(), facts);
        }
    }

    /// Takes the rows that the configuration itself wants.
    fn push_own(&mut self, config: &Config) {
        let facts = |meaning| Facts {
            meaning,
            is_always: true,
            ..Facts::default()
        };
        if self.table.kind.decides_on_recipients() {
            for address in always(&config.recipients, self.domains) {
                self.push(&address, facts(Meaning::Recipient));
            }
        }
        for (key, meaning) in whole_domains(self.table, &config.domains, self.domains, self.folding)
        {
            self.rows.push(&key, facts(meaning));
        }
    }
}

fn facts_of(source: usize, meaning: Meaning) -> Facts {
    Facts {
        meaning,
        sources: SourceSet::of(source),
        ..Facts::default()
    }
}

/// The rows for whole domains. Keys are those that the reader of the kind asks for: `@example.com` in a table of recipients
/// (`mail_addr_find`), and in the others `example.com`, and `.example.com` where a parent does not match its sub-domains
/// (access(5), transport(5), `match_list`).
fn whole_domains(
    table: &Table,
    rules: &DomainRules,
    domains: &Domains,
    folding: Folding,
) -> Vec<(Vec<u8>, Meaning)> {
    let mut rows = Vec::new();
    let mut push = |before: &str, domain: &Domain, meaning: Meaning| {
        if !table.values.of(meaning).is_empty() {
            let keys = forms_of(domain, folding).into_iter();
            rows.extend(keys.map(|form| ([before.as_bytes(), &form].concat(), meaning)));
        }
    };
    for listed in domains.iter() {
        let (domain, policy) = (&listed.domain, rules.policy_of(&listed.domain));
        let is_open = policy != DomainPolicy::List;
        match table.kind {
            TableKind::Recipients if is_open => push("@", domain, Meaning::Domain),
            TableKind::Callout if policy == DomainPolicy::Callout => {
                push("", domain, Meaning::Domain);
            }
            TableKind::Recipients | TableKind::Callout => {}
            // A refusal of the parent must not reach it.
            TableKind::Access if is_open => push("", domain, Meaning::Recipient),
            TableKind::Access | TableKind::Domains | TableKind::Transport => {
                if listed.reach.is_itself() {
                    push("", domain, Meaning::Domain);
                }
                if listed.reach.is_below() {
                    push(".", domain, Meaning::Domain);
                }
            }
        }
    }
    if table.kind == TableKind::Access {
        for domain in domains.excluded() {
            push("", &domain, Meaning::Recipient);
        }
    }
    rows
}

/// The addresses that `recipients.always` gives to every listed domain. A domain of which the sub-domains alone are listed
/// gets none: nobody knows which of them exist.
pub fn always<'run>(
    recipients: &'run Recipients,
    domains: &'run Domains,
) -> impl Iterator<Item = Address> + 'run {
    recipients.always.iter().flat_map(move |local| {
        let address = move |listed: &ListedDomain| Address::of(local, &listed.domain).ok();
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
    use crate::policy::Decision;
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
        let wanted = rows(
            config,
            &config.tables[0],
            &domains,
            &[&records],
            Folding::Unicode,
        )
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
