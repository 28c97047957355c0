//! `explain ADDRESS`: is it accepted now, and why. From the stored records and the published tables; no network.
//!
//! What the gateway answers is read from the files on disk in the order Postfix looks keys up, which is another for each kind
//! of table (`lookup`). Why it answers so is decided anew from
//! the records, by the same policy as in a run.

use std::collections::HashMap;
use std::io::{self, Write};

use anstyle::Style;

use super::plan;
use crate::address::{Address, AddressError};
use crate::config::{Config, Table, TableFolding, TableKind};
use crate::domains::Domains;
use crate::error::Result;
use crate::exchange::Relation;
use crate::exit::Exit;
use crate::fold::Folding;
use crate::harmless::key;
use crate::hold::Hold;
use crate::keys::Key;
use crate::kind;
use crate::lookup;
use crate::policy::{Decision, Policy};
use crate::postfix::Gateway;
use crate::publish::on_disk::{self, Content, OnDisk};
use crate::record::{Record, RecordRef};
use crate::report::page::Page;
use crate::report::text::cause_alone;
use crate::report::{BAD, GOOD, HELD, PLAIN, STRONG};
use crate::state::State;
use crate::state::files::{Generation, Ledger};
use crate::state::head::Head;
use crate::table::value::refuses;
use crate::table::wanted;
use crate::time::Timestamp;

/// Explains addresses, one after the other; the code is that of a refusal if any is refused.
pub fn run(config: &Config, texts: &[String], out: &mut dyn Write) -> Result<u8> {
    let asked: Vec<std::result::Result<Address, AddressError>> =
        texts.iter().map(|text| Address::parse(text)).collect();
    let state = State::view(&config.state_dir);
    let archive =
        state.steadily(|head| Archive::open(config, &state, head, asked.iter().flatten()))?;
    let explanations: Vec<_> = (asked.iter())
        .map(|address| address.as_ref().map(|address| archive.explanation(address)))
        .collect();
    let is_refused = |explained: &std::result::Result<Explanation<'_, '_>, _>| {
        !explained.as_ref().is_ok_and(Explanation::is_accepted)
    };
    let is_any_refused = explanations.iter().any(is_refused);
    // A reader who has seen enough (`| head`) is no failure.
    let _ = print(&mut Page::stdout(out), texts, &explanations, &archive);
    Ok(if is_any_refused {
        Exit::Refused
    } else {
        Exit::Current
    }
    .code())
}

fn print(
    page: &mut Page<'_>,
    texts: &[String],
    explanations: &[std::result::Result<Explanation<'_, '_>, &AddressError>],
    archive: &Archive<'_>,
) -> io::Result<()> {
    for (text, explained) in texts.iter().zip(explanations) {
        match explained {
            Ok(explanation) => explanation.print(page)?,
            Err(error) => {
                let text = key(text.as_bytes());
                let verdict = format!("{STRONG}{text}{STRONG:#}: {BAD}refused{BAD:#}, ");
                page.hanging(&verdict, &error.to_string())?;
            }
        }
        if texts.len() > 1 {
            page.blank()?;
        }
    }
    archive.print_notes(page)
}

/// What the runs left behind, read once for all addresses.
struct Archive<'run> {
    config: &'run Config,
    head: Head,
    domains: Domains,
    delimiter: String,
    tables: Vec<TableView<'run>>,
    /// What names an asked address, by its first key.
    origins: HashMap<Key, Vec<Origin>>,
    /// Records that could not be read.
    lost: Vec<String>,
    holds: Vec<(String, Hold)>,
    /// The newest first.
    generations: Vec<Generation>,
}

/// A table as the gateway reads it now, and as it was published.
struct TableView<'run> {
    table: &'run Table,
    folding: Folding,
    ledger: Ledger,
    on_disk: Vec<OnDisk>,
}

/// A value of a record that names an address.
struct Origin {
    source: String,
    record: Record,
    value: Vec<u8>,
    decision: Decision,
    /// Since when the controller that answers does not show it.
    missing_since: Option<Timestamp>,
}

impl<'run> Archive<'run> {
    fn open<'asked>(
        config: &'run Config,
        state: &State,
        head: &Head,
        asked: impl Iterator<Item = &'asked Address>,
    ) -> Result<Self> {
        let head = head.clone();
        let gateway = Gateway::ask();
        let mut tables = Vec::new();
        for table in &config.tables {
            let folding = match table.folding {
                TableFolding::Auto => gateway.as_ref().map_or(Folding::Unicode, Gateway::folding),
                TableFolding::Fixed(folding) => folding,
            };
            let known = head.tables.get(&table.name);
            let ledger = known.and_then(|known| state.ledger(&table.name, known).ok());
            let published = known.filter(|_| ledger.is_some());
            let on_disk = on_disk::look(table, published, &head.pending, folding)?;
            tables.push(TableView {
                table,
                folding,
                ledger: ledger.unwrap_or_default(),
                on_disk,
            });
        }
        let current = head.holds.iter().filter(|(_, known)| known.is_current);
        let holds = current
            .filter_map(|(digest, _)| Some((digest.clone(), state.hold(digest).ok()?)))
            .collect();
        let numbers = state
            .generation_numbers()
            .into_iter()
            .rev()
            .filter(|number| *number <= head.generation);
        let generations = numbers
            .filter_map(|number| state.generation(number).ok())
            .collect();
        let delimiter = gateway
            .map(|gateway| gateway.recipient_delimiter)
            .unwrap_or_default();
        let (origins, lost) = (
            asked
                .map(|address| (name_of(address), Vec::new()))
                .collect(),
            Vec::new(),
        );
        let domains = plan::domains::stored(&config.domains, &head);
        let mut archive = Archive {
            config,
            head,
            domains,
            delimiter,
            tables,
            origins,
            lost,
            holds,
            generations,
        };
        archive.find_origins(state);
        Ok(archive)
    }

    /// Walks all records once, and keeps what names an asked address.
    fn find_origins(&mut self, state: &State) {
        let policy = Policy::new(&self.config.recipients, &self.domains);
        for (name, source) in &self.head.sources {
            if source.base.is_none() {
                continue;
            }
            let origins = &mut self.origins;
            let mut note = |record: RecordRef<'_>, missing_since| {
                for value in record.proxy_addresses() {
                    let named = named_by(value).map(|address| name_of(&address));
                    if let Some(origins) = named.and_then(|named| origins.get_mut(&named)) {
                        origins.push(Origin {
                            source: name.clone(),
                            decision: policy.decide(record, value),
                            record: record.to_record(),
                            value: value.to_vec(),
                            missing_since,
                        });
                    }
                }
            };
            let walked = state.records(name, source, None).and_then(|records| {
                records.for_each_shown(|record| note(record, None))?;
                for missing in &records.missing {
                    note(missing.record.view(), Some(missing.since));
                }
                Ok(())
            });
            if let Err(lost) = walked {
                self.lost
                    .push(format!("the records of source {name} are lost: {lost}"));
            }
        }
    }

    /// What an answer for any address has to be read with.
    fn print_notes(&self, page: &mut Page<'_>) -> io::Result<()> {
        for lost in &self.lost {
            note(page, &key(lost.as_bytes()))?;
        }
        for (name, source) in &self.head.sources {
            if let Some(frozen) = &source.frozen {
                let cause = key(frozen.cause.as_bytes());
                let cause = cause_alone(name, &cause);
                note(
                    page,
                    &format!("source {name} is frozen since {}: {cause}", frozen.since),
                )?;
            }
        }
        Ok(())
    }

    fn explanation<'a>(&'a self, address: &'a Address) -> Explanation<'a, 'run> {
        let answers = self
            .tables
            .iter()
            .map(|view| view.answer(address, &self.delimiter))
            .collect();
        Explanation {
            archive: self,
            address,
            answers,
        }
    }
}

/// One key for all spellings of an address.
fn name_of(address: &Address) -> Key {
    Key::all_of(address, Folding::Unicode).swap_remove(0)
}

/// The address behind the prefix of a value, of whatever type.
fn named_by(value: &[u8]) -> Option<Address> {
    let (_, text) = std::str::from_utf8(value).ok()?.split_once(':')?;
    Address::parse(text).ok()
}

/// What one table answers.
struct Answer<'a, 'run> {
    view: &'a TableView<'run>,
    keys: Vec<Key>,
    /// The key that is found, and its value.
    row: Option<(String, String)>,
}

impl Answer<'_, '_> {
    /// Whether mail to the address passes by this table.
    fn lets_pass(&self) -> bool {
        let value = self.row.as_ref().map(|(_, value)| value);
        match self.view.table.kind {
            TableKind::Recipients | TableKind::Domains => value.is_some(),
            TableKind::Access => !value.is_some_and(|value| refuses(value)),
            TableKind::Transport | TableKind::Callout => true,
        }
    }
}

impl<'run> TableView<'run> {
    /// The gateway reads the last format: a text beside an index is only its source.
    fn answer(&self, address: &Address, delimiter: &str) -> Answer<'_, 'run> {
        let order = lookup::order(self.table.kind, address, self.folding, delimiter);
        let read = self.on_disk.last();
        let row = order.into_iter().find_map(|wanted| {
            let value = self.value(read?, &wanted)?;
            Some((wanted, value))
        });
        Answer {
            view: self,
            keys: Key::all_of(address, self.folding),
            row,
        }
    }

    /// What a file says of a key.
    fn value(&self, file: &OnDisk, wanted: &str) -> Option<String> {
        match &file.content {
            Content::AsPublished(_) => {
                let row = self.ledger.rows.find(wanted.as_bytes());
                let said = self.table.said(file.format, &self.ledger.rows);
                let row = row.filter(|row| said.has(row))?;
                Some(self.ledger.values.of(row.meaning()).to_owned())
            }
            Content::Foreign(_, rows) => {
                let found = rows.iter().find(|(found, _)| found == wanted.as_bytes());
                found.map(|(_, value)| key(value))
            }
            Content::Missing | Content::NoTable(..) | Content::Unread(_) => None,
        }
    }

    /// Formats that have a key.
    fn formats_with(&self, wanted: &str) -> Vec<&'static str> {
        let with = self
            .on_disk
            .iter()
            .filter(|file| self.value(file, wanted).is_some());
        with.map(|file| file.format.name()).collect()
    }

    /// Formats that cannot say a key of the table.
    fn formats_unable(&self, wanted: &str) -> Vec<&'static str> {
        let row = self.ledger.rows.find(wanted.as_bytes());
        let is_unable = |file: &&OnDisk| {
            let is_published = matches!(file.content, Content::AsPublished(_));
            is_published
                && row.is_some_and(|row| {
                    let said = self.table.said(file.format, &self.ledger.rows);
                    row.facts().is_in(file.format) && !said.has(&row)
                })
        };
        let unable = self.on_disk.iter().filter(is_unable);
        unable.map(|file| file.format.name()).collect()
    }

    /// Formats without a file that a gateway could read.
    fn missing(&self) -> impl Iterator<Item = &'static str> {
        let is_missing = |file: &&OnDisk| {
            matches!(
                file.content,
                Content::Missing | Content::NoTable(..) | Content::Unread(_)
            )
        };
        self.on_disk
            .iter()
            .filter(is_missing)
            .map(|file| file.format.name())
    }
}

/// What kind of recipient the directory calls it, in parentheses.
fn kind_of(record: RecordRef<'_>) -> String {
    match record.recipient_type() {
        Some(kind) if kind::class(kind) == kind::Class::Unknown => {
            format!(" ({}: {kind})", kind::name(kind))
        }
        Some(kind) => format!(" ({})", kind::name(kind)),
        // A line of a list has no kind; an object without one is decided upon by its addresses alone.
        None if record.guid().is_empty() => String::new(),
        None => " (of no kind that Exchange names)".to_owned(),
    }
}

struct Explanation<'a, 'run> {
    archive: &'a Archive<'run>,
    address: &'a Address,
    answers: Vec<Answer<'a, 'run>>,
}

impl Explanation<'_, '_> {
    fn is_accepted(&self) -> bool {
        !self.address.is_refused_by_postfix_anyway()
            && self.is_relayed()
            && self.answers.iter().all(Answer::lets_pass)
    }

    /// Whether mail for its domain is taken at all. A table of recipients or of domains says so itself; where neither is
    /// published, the list of domains is all there is to go by.
    fn is_relayed(&self) -> bool {
        let says_so = |answer: &Answer<'_, '_>| {
            matches!(
                answer.view.table.kind,
                TableKind::Recipients | TableKind::Domains
            )
        };
        self.answers.iter().any(says_so)
            || self.archive.domains.find(self.address.domain()).is_some()
    }

    /// The verdict; the story behind it; what the tables answer.
    fn print(&self, page: &mut Page<'_>) -> io::Result<()> {
        let is_accepted = self.is_accepted();
        let verdict = if is_accepted {
            format!("{GOOD}accepted{GOOD:#}")
        } else {
            format!("{BAD}refused{BAD:#}")
        };
        let address = key(self.address.to_string().as_bytes());
        page.line(format_args!("{STRONG}{address}{STRONG:#}: {verdict}"))?;
        if self.address.is_refused_by_postfix_anyway() {
            let why = "Postfix refuses it whatever the table says: a leading \"-\" (allow_min_user) or \"%\", \"!\" or \"@\" in \
                       the local part (allow_untrusted_routing)";
            note(page, why)?;
        }
        let is_known = self.print_origins(page)?;
        let is_held = self.print_holds(page)?;
        let has_history = self.print_history(page)?;
        if !is_known && !is_held && !has_history && !is_accepted {
            let never = "no source that was read completely has it, and no table ever had it";
            page.hanging("  never seen: ", never)?;
        }
        for answer in &self.answers {
            self.print_answer(page, answer)?;
        }
        Ok(())
    }

    fn print_answer(&self, page: &mut Page<'_>, answer: &Answer<'_, '_>) -> io::Result<()> {
        let (name, kind) = (&answer.view.table.name, answer.view.table.kind);
        let says = match &answer.row {
            Some((found, value)) => {
                let is_own = answer.keys.iter().any(|key| key.as_str() == found);
                let by = if is_own {
                    String::new()
                } else {
                    format!(", by the row {}", key(found.as_bytes()))
                };
                let formats = answer.view.formats_with(found).join(", ");
                let says = match kind {
                    TableKind::Recipients => "has it".to_owned(),
                    TableKind::Access
                    | TableKind::Domains
                    | TableKind::Transport
                    | TableKind::Callout => format!("says \"{value}\""),
                };
                format!("{name} {says}{by} ({formats})")
            }
            None if kind.decides_on_recipients() => format!("{name} does not have it"),
            None => format!("{name} says nothing of it"),
        };
        told(page, PLAIN, "table", &says)?;
        for own in answer.keys.iter().filter(|_| answer.row.is_none()) {
            for format in answer.view.formats_with(own.as_str()) {
                note(
                    page,
                    &format!(
                        "the {format} of {name} has it, but that is not what the gateway reads"
                    ),
                )?;
            }
        }
        for own in answer.keys.iter().filter(|_| answer.row.is_none()) {
            for format in answer.view.formats_unable(own.as_str()) {
                let own = key(own.as_str().as_bytes());
                let what = format!(
                    "{own} is left out of the {format} of {name}, which cannot say it to its reader"
                );
                note(page, &what)?;
            }
        }
        for format in answer.view.missing() {
            note(
                page,
                &format!(
                    "{name} has no {format} file: a gateway that reads it answers 451 to everybody"
                ),
            )?;
        }
        for row in answer
            .keys
            .iter()
            .filter_map(|key| answer.view.ledger.rows.find(key.as_str().as_bytes()))
        {
            if let Some(since) = row.facts().leaving_since {
                let until = since.after(self.archive.config.recipients.grace);
                let what = format!("no source has it since {since}; it stays until {until}");
                told(page, HELD, "leaving", &what)?;
            }
            if row.facts().is_foreign {
                told(
                    page,
                    HELD,
                    "foreign",
                    "the row was made by hand, and no source knows it",
                )?;
            }
        }
        Ok(())
    }

    /// Every value of every record that names the address, with what the policy says of it.
    fn print_origins(&self, page: &mut Page<'_>) -> io::Result<bool> {
        let origins = self
            .archive
            .origins
            .get(&name_of(self.address))
            .map_or(&[][..], Vec::as_slice);
        // What counts first: an address that is accepted may have other values that do not.
        let mut told_origins: Vec<&Origin> = origins.iter().collect();
        told_origins.sort_by_key(|origin| matches!(origin.decision, Decision::LeftOut(_)));
        for origin in told_origins {
            let record = origin.record.view();
            let decision = match &origin.decision {
                Decision::Accepted(address) => {
                    let listed = self.archive.domains.find(address.domain());
                    let listed =
                        listed.map_or_else(String::new, |listed| listed.domain.to_string());
                    let below = if listed == address.domain().to_string() {
                        ""
                    } else {
                        "a sub-domain of "
                    };
                    format!(
                        "{GOOD}counts{GOOD:#}: an SMTP address in {below}the listed domain {listed}"
                    )
                }
                Decision::LeftOut(reason) => format!("{BAD}left out{BAD:#}: {}", reason.sentence()),
            };
            let story = format!(
                "source {}: {}{}\nproxyAddresses: {}\n{decision}",
                origin.source,
                key(record.dn().as_bytes()),
                kind_of(record),
                key(&origin.value),
            );
            told(page, PLAIN, "from", &story)?;
        }
        for (origin, since) in origins
            .iter()
            .filter_map(|origin| Some((origin, origin.missing_since?)))
        {
            self.print_missing(page, origin, since)?;
        }
        self.print_domain(page)?;
        let mut is_known = !origins.is_empty();
        for address in wanted::always(&self.archive.config.recipients, &self.archive.domains)
            .filter(|always| always.is_same_as(self.address))
        {
            is_known = true;
            let local = key(address.local().as_bytes());
            told(page, PLAIN, "from", &format!("recipients.always: {local}"))?;
        }
        Ok(is_known)
    }

    /// Why a record counts that the directory did not show last.
    fn print_missing(
        &self,
        page: &mut Page<'_>,
        origin: &Origin,
        since: Timestamp,
    ) -> io::Result<()> {
        let known = self.archive.head.sources.get(&origin.source);
        let sources = self.archive.config.sources.iter();
        let delay = sources
            .filter(|source| source.name == origin.source)
            .find_map(|source| source.replication_delay())
            .unwrap_or_default();
        let controller = known.map_or("the controller", |known| &known.answered_by);
        let what = format!(
            "{} does not show this since {since}, another controller did; it counts until that one says the same, or until {} \
             (replication_delay)",
            key(controller.as_bytes()),
            since.after(delay)
        );
        told(page, HELD, "missing", &what)
    }

    /// What is known of a domain that is not listed.
    fn print_domain(&self, page: &mut Page<'_>) -> io::Result<()> {
        let domain = self.address.domain();
        if self.archive.domains.find(domain).is_some() {
            return Ok(());
        }
        let mut is_accepted = false;
        for (name, source) in &self.archive.head.sources {
            let organisation = source.organisation.as_ref();
            let Some(accepted) = organisation.and_then(|found| found.accepted(domain)) else {
                continue;
            };
            is_accepted = true;
            let what = match accepted.relation {
                Relation::Authoritative => "an accepted domain",
                Relation::ExternalRelay => {
                    "an external relay domain: its recipients live elsewhere"
                }
                Relation::InternalRelay => {
                    "an internal relay domain: some of its recipients live elsewhere"
                }
                Relation::Unknown => "an accepted domain of a type unknown to this version",
            };
            let what = format!(
                "{} is {what} (source {name}); it is listed only if [domains] list names it",
                accepted.domain
            );
            told(page, PLAIN, "domain", &what)?;
        }
        if !is_accepted {
            let what = format!(
                "{domain} is not among the listed domains, so no table has addresses of it"
            );
            told(page, PLAIN, "domain", &what)?;
        }
        Ok(())
    }

    fn print_holds(&self, page: &mut Page<'_>) -> io::Result<bool> {
        let mut is_held = false;
        for (digest, hold) in &self.archive.holds {
            let what = if self.has_key(|own| is_among(&hold.added, own)) {
                "its addition waits"
            } else if self.has_key(|own| is_among(&hold.removed, own)) {
                "its removal waits"
            } else {
                continue;
            };
            is_held = true;
            let since = self
                .archive
                .head
                .holds
                .get(digest)
                .map_or_else(String::new, |known| known.since.to_string());
            let story = format!(
                "{what}: {}, {}, since {since}\nrelease: rcptsync approve {}",
                hold.cause.name(),
                key(hold.scope.as_bytes()),
                crate::hold::short(digest)
            );
            told(page, HELD, "held", &story)?;
        }
        Ok(is_held)
    }

    /// Whether one of the address's keys is such a one.
    fn has_key(&self, is_such: impl Fn(&[u8]) -> bool) -> bool {
        let mut keys = self.answers.iter().flat_map(|answer| &answer.keys);
        keys.any(|own| is_such(own.as_str().as_bytes()))
    }

    /// The last generation that brought or took it.
    fn print_history(&self, page: &mut Page<'_>) -> io::Result<bool> {
        for generation in &self.archive.generations {
            for table in &generation.tables {
                let what = if self.has_key(|own| table.added.find(own).is_some()) {
                    "since"
                } else if self.has_key(|own| table.removed.find(own).is_some()) {
                    "gone with"
                } else {
                    continue;
                };
                let run = key(generation.run.as_bytes());
                let which = format!(
                    "generation {} of {}, run {run}",
                    generation.number, generation.at
                );
                told(page, PLAIN, what, &which)?;
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// A part of the story: what it is about, and the sentences, which stand below each other.
fn told(page: &mut Page<'_>, style: Style, about: &str, text: &str) -> io::Result<()> {
    let padding = " ".repeat(10_usize.saturating_sub(about.len()));
    page.hanging(&format!("  {style}{about}{style:#}{padding}"), text)
}

fn note(page: &mut Page<'_>, text: &str) -> io::Result<()> {
    told(page, HELD, "note", text)
}

fn is_among(sorted: &[Vec<u8>], key: &[u8]) -> bool {
    sorted
        .binary_search_by(|one| one.as_slice().cmp(key))
        .is_ok()
}
