//! `explain ADDRESS`: is it accepted now, and why. From the stored records and the published tables; no network.
//!
//! What the gateway answers is read from the files on disk in the order Postfix looks keys up (`mail_addr_find`): the whole
//! address, the address without its extension where a delimiter is set, `@domain`. Why it answers so is decided anew from
//! the records, by the same policy as in a run.

use std::io::{self, Write};

use crate::address::Address;
use crate::config::{Config, Table, TableFolding};
use crate::error::Result;
use crate::exit::Exit;
use crate::fold::Folding;
use crate::keys::Key;
use crate::kind;
use crate::policy::{Decision, Policy};
use crate::postfix::Gateway;
use crate::publish::on_disk::{self, Content};
use crate::record::Record;
use crate::report::{BAD, GOOD, HELD, STRONG, key, printable};
use crate::state::State;
use crate::state::files::{Ledger, Origin};
use crate::state::head::Head;
use crate::table::wanted;

/// Explains one address.
pub fn run(config: &Config, text: &str, out: &mut dyn Write) -> Result<u8> {
    let address = match Address::parse(text) {
        Ok(address) => address,
        Err(error) => {
            let _ = writeln!(
                out,
                "{}: {BAD}refused{BAD:#}, {error}",
                key(text.as_bytes())
            );
            return Ok(Exit::Refused.code());
        }
    };
    let state = State::view(&config.state_dir);
    let head = state.head()?;
    let gateway = Gateway::ask();
    let mut answers = Vec::new();
    for table in &config.tables {
        answers.push(answer(&state, &head, table, &address, gateway.as_ref())?);
    }
    let is_refused_anyway = address.is_refused_by_postfix_anyway();
    let is_accepted = !is_refused_anyway && answers.iter().all(|answer| answer.row.is_some());
    let explanation = Explanation {
        config,
        state: &state,
        head: &head,
        address: &address,
        answers: &answers,
    };
    let _ = explanation.print(out, is_accepted);
    Ok(if is_accepted {
        Exit::Current
    } else {
        Exit::Refused
    }
    .code())
}

/// What one table answers.
struct Answer<'run> {
    table: &'run Table,
    keys: Vec<Key>,
    ledger: Ledger,
    /// The key that is found, and in which files.
    row: Option<(String, Vec<&'static str>)>,
    /// Formats that have no file.
    missing: Vec<&'static str>,
}

fn answer<'run>(
    state: &State,
    head: &Head,
    table: &'run Table,
    address: &Address,
    gateway: Option<&Gateway>,
) -> Result<Answer<'run>> {
    let folding = match table.folding {
        TableFolding::Auto => gateway.map_or(Folding::Unicode, Gateway::folding),
        TableFolding::Fixed(folding) => folding,
    };
    let known = head.tables.get(&table.name);
    let ledger = known.and_then(|known| state.ledger(&table.name, known.ledger).ok());
    let on_disk = on_disk::look(
        table,
        known.filter(|_| ledger.is_some()),
        &head.pending,
        folding,
    )?;
    let ledger = ledger.unwrap_or_default();
    let delimiter = gateway.map_or("", |gateway| &gateway.recipient_delimiter);
    let has = |content: &Content, wanted: &str| match content {
        Content::AsPublished(_) => ledger.rows.find(wanted.as_bytes()).is_some(),
        Content::Foreign(_, rows) => rows.iter().any(|(found, _)| found == wanted.as_bytes()),
        Content::Missing | Content::NoTable(..) => false,
    };
    let mut row = None;
    for wanted in lookup_order(address, folding, delimiter) {
        let formats: Vec<&'static str> = on_disk
            .iter()
            .filter(|file| has(&file.content, &wanted))
            .map(|file| file.format.name())
            .collect();
        if !formats.is_empty() {
            row = Some((wanted, formats));
            break;
        }
    }
    let is_missing = |content: &Content| matches!(content, Content::Missing | Content::NoTable(..));
    let missing = on_disk
        .iter()
        .filter(|file| is_missing(&file.content))
        .map(|file| file.format.name())
        .collect();
    Ok(Answer {
        table,
        keys: Key::all_of(address, folding),
        ledger,
        row,
        missing,
    })
}

/// The keys Postfix asks for, in its order.
fn lookup_order(address: &Address, folding: Folding, delimiter: &str) -> Vec<String> {
    let mut order: Vec<String> = Key::all_of(address, folding)
        .iter()
        .map(|key| key.as_str().to_owned())
        .collect();
    if let Some(bare) = without_extension(address, delimiter) {
        order.extend(
            Key::all_of(&bare, folding)
                .iter()
                .map(|key| key.as_str().to_owned()),
        );
    }
    for form in wanted::domain_forms(std::slice::from_ref(address.domain()), folding).into_keys() {
        order.push(format!("@{}", String::from_utf8_lossy(&form)));
    }
    order
}

/// `split_addr` of Postfix: at the first delimiter, unless nothing would stand before it or the name is reserved.
fn without_extension(address: &Address, delimiter: &str) -> Option<Address> {
    let local = address.local();
    let folded = local.to_ascii_lowercase();
    let is_reserved = matches!(
        folded.as_str(),
        "postmaster" | "mailer-daemon" | "double-bounce"
    ) || (delimiter.contains('-')
        && (folded.starts_with("owner-") || folded.ends_with("-request")));
    let at = local
        .find(|character| delimiter.contains(character))
        .filter(|at| *at > 0 && !is_reserved)?;
    Address::parse(&format!(
        "\"{}\"@{}",
        &local[..at],
        address.domain().ascii()
    ))
    .ok()
}

struct Explanation<'run> {
    config: &'run Config,
    state: &'run State,
    head: &'run Head,
    address: &'run Address,
    answers: &'run [Answer<'run>],
}

impl Explanation<'_> {
    fn print(&self, out: &mut dyn Write, is_accepted: bool) -> io::Result<()> {
        let verdict = if is_accepted {
            format!("{GOOD}accepted{GOOD:#}")
        } else {
            format!("{BAD}refused{BAD:#}")
        };
        writeln!(
            out,
            "{STRONG}{}{STRONG:#}: {verdict}",
            key(self.address.to_string().as_bytes())
        )?;
        if self.address.is_refused_by_postfix_anyway() {
            writeln!(
                out,
                "  note      Postfix refuses it whatever the table says: a leading \"-\" (allow_min_user) or \"%\", \"!\" or \
                 \"@\" in the local part (allow_untrusted_routing)"
            )?;
        }
        for answer in self.answers {
            self.print_answer(out, answer)?;
        }
        let is_known = self.print_origins(out)?;
        let is_held = self.print_holds(out)?;
        let has_history = self.print_history(out)?;
        if !is_known && !is_held && !has_history && !is_accepted {
            writeln!(
                out,
                "  never seen: no source that was read completely has it, and no table ever had it"
            )?;
        }
        for (name, source) in &self.head.sources {
            if let Some(frozen) = &source.frozen {
                let cause = key(frozen.cause.as_bytes());
                writeln!(
                    out,
                    "  {HELD}note{HELD:#}      source {name} is frozen since {}: {cause}",
                    frozen.since
                )?;
            }
        }
        Ok(())
    }

    fn print_answer(&self, out: &mut dyn Write, answer: &Answer<'_>) -> io::Result<()> {
        let name = &answer.table.name;
        match &answer.row {
            Some((found, formats)) => {
                let as_key = if answer.keys.iter().any(|key| key.as_str() == found) {
                    String::new()
                } else {
                    format!(", by the row {}", key(found.as_bytes()))
                };
                writeln!(
                    out,
                    "  table     {name} has it{as_key} ({})",
                    formats.join(", ")
                )?;
            }
            None => writeln!(out, "  table     {name} does not have it")?,
        }
        for format in &answer.missing {
            writeln!(
                out,
                "  {HELD}note{HELD:#}      {name} has no {format} file: a gateway that reads it answers 451 to everybody"
            )?;
        }
        let leaving = answer
            .keys
            .iter()
            .filter_map(|key| answer.ledger.rows.find(key.as_str().as_bytes()));
        for row in leaving {
            if let Some(since) = row.facts.leaving_since {
                let until = since.after(self.config.recipients.grace);
                writeln!(
                    out,
                    "  {HELD}leaving{HELD:#}   no source has it since {since}; it stays until {until}"
                )?;
            }
            if row.facts.is_foreign {
                writeln!(
                    out,
                    "  {HELD}foreign{HELD:#}   the row was made by hand, and no source knows it"
                )?;
            }
        }
        Ok(())
    }

    /// Every value of every record that names the address, with what the policy says of it.
    fn print_origins(&self, out: &mut dyn Write) -> io::Result<bool> {
        let policy = Policy::of(self.config);
        let mut is_known = false;
        for (name, source) in &self.head.sources {
            let Some(base) = source.base else { continue };
            let records = match self.state.records(name, base) {
                Ok(records) => records,
                Err(lost) => {
                    writeln!(
                        out,
                        "  {HELD}note{HELD:#}      the records of source {name} are lost: {lost}"
                    )?;
                    continue;
                }
            };
            for record in &records {
                for value in record
                    .proxy_addresses
                    .iter()
                    .filter(|value| self.is_named_by(value))
                {
                    is_known = true;
                    self.print_origin(out, name, record, value, &policy.decide(record, value))?;
                }
            }
        }
        for address in
            wanted::always(self.config).filter(|address| address.is_same_as(self.address))
        {
            is_known = true;
            writeln!(
                out,
                "  from      recipients.always: {}",
                key(address.local().as_bytes())
            )?;
        }
        Ok(is_known)
    }

    fn is_named_by(&self, value: &[u8]) -> bool {
        let text = std::str::from_utf8(value)
            .ok()
            .and_then(|value| value.split_once(':'));
        text.is_some_and(|(_, text)| {
            Address::parse(text).is_ok_and(|address| address.is_same_as(self.address))
        })
    }

    fn print_origin(
        &self,
        out: &mut dyn Write,
        source: &str,
        record: &Record,
        value: &[u8],
        decision: &Decision,
    ) -> io::Result<()> {
        let kind = record
            .recipient_type
            .map_or(String::new(), |kind| format!(" ({})", kind::name(kind)));
        writeln!(
            out,
            "  from      source {source}: {}{kind}",
            key(record.dn.as_bytes())
        )?;
        writeln!(out, "            proxyAddresses: {}", key(value))?;
        match decision {
            Decision::Accepted(_) => writeln!(out, "            {GOOD}counts{GOOD:#}"),
            Decision::LeftOut(reason) => writeln!(
                out,
                "            {BAD}left out{BAD:#}: {}",
                reason.sentence()
            ),
        }
    }

    fn print_holds(&self, out: &mut dyn Write) -> io::Result<bool> {
        let mut is_held = false;
        for (digest, known) in self.head.holds.iter().filter(|(_, known)| known.is_current) {
            let Ok(hold) = self.state.hold(digest) else {
                continue;
            };
            let names = |keys: &[Vec<u8>]| self.has_key_in(keys);
            let what = if names(&hold.added) {
                "its addition waits"
            } else if names(&hold.removed) {
                "its removal waits"
            } else {
                continue;
            };
            is_held = true;
            let scope = key(known.scope.as_bytes());
            writeln!(
                out,
                "  {HELD}held{HELD:#}      {what}: {}, {scope}, since {}",
                known.cause.name(),
                known.since
            )?;
            writeln!(
                out,
                "            release: rcptsync approve {}",
                &digest[..12]
            )?;
        }
        Ok(is_held)
    }

    fn has_key_in(&self, keys: &[Vec<u8>]) -> bool {
        let mut own = self.answers.iter().flat_map(|answer| &answer.keys);
        own.any(|own| keys.iter().any(|key| key == own.as_str().as_bytes()))
    }

    /// The last generation that brought or took it.
    fn print_history(&self, out: &mut dyn Write) -> io::Result<bool> {
        let numbers = self.state.generation_numbers().into_iter().rev();
        for number in numbers.filter(|number| *number <= self.head.generation) {
            let Ok(generation) = self.state.generation(number) else {
                continue;
            };
            for table in generation
                .tables
                .iter()
                .filter(|_| generation.origin == Origin::Sync)
            {
                let what = if self.has_key_in(&table.added) {
                    "since"
                } else if self.has_key_in(&table.removed) {
                    "gone with"
                } else {
                    continue;
                };
                let when = format!(
                    "generation {number} of {}, run {}",
                    generation.at,
                    printable(generation.run.as_bytes())
                );
                writeln!(out, "  {what:<9} {when}")?;
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(address: &str, delimiter: &str, expected: &[&str]) {
        let address = Address::parse(address).expect("an address");
        assert_eq!(
            lookup_order(&address, Folding::Unicode, delimiter),
            expected
        );
    }

    #[test]
    fn keys_are_asked_for_as_postfix_does() {
        check(
            "Anna+news@example.com",
            "",
            &["anna+news@example.com", "@example.com"],
        );
        check(
            "Anna+news@example.com",
            "+",
            &["anna+news@example.com", "anna@example.com", "@example.com"],
        );
        check(
            "anna-news@example.com",
            "+-",
            &["anna-news@example.com", "anna@example.com", "@example.com"],
        );
        check(
            "+news@example.com",
            "+",
            &["+news@example.com", "@example.com"],
        );
        check(
            "owner-list@example.com",
            "-",
            &["owner-list@example.com", "@example.com"],
        );
        check(
            "owner+list@example.com",
            "+",
            &[
                "owner+list@example.com",
                "owner@example.com",
                "@example.com",
            ],
        );
    }
}
