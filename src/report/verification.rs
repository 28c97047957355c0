//! What `verify` found, as one value: its JSON, and the text made from it.
//!
//! The keys are an interface. What servers and files said is made harmless when it is put in ([`key`]).

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use serde::Serialize;

use super::page::Page;
use super::{BAD, GOOD, HELD, STRONG, counted, number};
use crate::error::Failure;
use crate::harmless::key;
use crate::probe::verdict::{self, Expected, Reason, Side, Verdict};
use crate::probe::{Answer, Interview};
use crate::publish::inspect::{Found, Inspected};

/// Rows of a list that are named; the others are counted.
const ROWS_NAMED: usize = 10;

/// The whole report.
#[derive(Debug, Serialize)]
pub struct Verification {
    /// Version of this layout.
    pub schema: u32,
    /// What it comes to.
    pub outcome: Outcome,
    /// Per table.
    pub tables: BTreeMap<String, TableVerified>,
    /// The gateway, where one was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Asked>,
    /// The system behind it, where it was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub callout: Option<Asked>,
}

/// What everything comes to; the worst that is true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Everything agrees.
    Agrees,
    /// Files and servers agree, and a complete read found other rows.
    Outdated,
    /// Something could not be read or asked, or decides nothing.
    Undecided,
    /// A file or a server is not as it should be.
    Disagrees,
}

/// One table.
#[derive(Debug, Serialize)]
pub struct TableVerified {
    /// Rows that were published last.
    pub rows: u64,
    /// Why nothing is known of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Per format.
    pub files: Vec<FileVerified>,
    /// What a complete read says (`--full`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub complete_read: Option<Compared>,
}

/// One file.
#[derive(Debug, Serialize)]
pub struct FileVerified {
    /// In which format.
    pub format: &'static str,
    /// Where.
    pub path: String,
    /// What was found there.
    pub state: FileState,
    /// More about that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Keys that were looked up in it and found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys_found: Option<u64>,
    /// Published rows that are not in it.
    pub rows_missing: Named,
    /// Rows in it that were not published.
    pub rows_added: Named,
    /// Rows with another value.
    pub rows_changed: Named,
}

/// What was found at the path of a table ([`Found`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FileState {
    /// The octets that were published.
    AsPublished,
    /// Something that a run is about to replace.
    Pending,
    /// Nothing.
    Missing,
    /// A table without a record.
    Unrecorded,
    /// A table of other octets.
    Other,
    /// No table of its format.
    NoTable,
    /// A table in which a key is not found.
    NotFound,
    /// Something that cannot be read.
    Unreadable,
}

/// The first of some keys.
#[derive(Debug, Default, Serialize)]
pub struct Named {
    /// How many there are.
    pub count: u64,
    /// The first of them.
    pub first: Vec<String>,
}

/// The rows in force beside those that a complete read wants.
#[derive(Debug, Default, Serialize)]
pub struct Compared {
    /// Rows in force.
    pub in_force: u64,
    /// Rows wanted.
    pub wanted: u64,
    /// Of those that are not wanted, so many stay for their grace.
    pub leaving: u64,
    /// In force, and not wanted.
    pub not_wanted: Named,
    /// Wanted, and not in force.
    pub lacking: Named,
}

/// A server that was asked.
#[derive(Debug, Serialize)]
pub struct Asked {
    /// Where.
    pub server: String,
    /// Why nobody could ask it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// How it greeted.
    pub greeting: String,
    /// What is to be known of the whole.
    pub notes: Vec<String>,
    /// What it said.
    pub answers: Vec<Told>,
}

/// Why an address was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// The table has it.
    Known,
    /// Nobody has it.
    Random,
    /// Every domain should have it, and the table does not.
    Postmaster,
    /// The directory has it, and a rule leaves it out.
    LeftOut,
}

impl Purpose {
    /// Whether an answer says something about the table. What servers say to the others is worth knowing, and no more.
    pub fn decides(self) -> bool {
        matches!(self, Purpose::Known | Purpose::Random)
    }

    fn name(self) -> &'static str {
        match self {
            Purpose::Known => "known",
            Purpose::Random => "random",
            Purpose::Postmaster => "postmaster",
            Purpose::LeftOut => "left out",
        }
    }

    fn finding(self) -> &'static str {
        match self {
            Purpose::Postmaster => {
                "every domain must have a postmaster (RFC 5321 section 4.5.1): [recipients] always = [\"postmaster\"], once \
                 somebody reads it"
            }
            Purpose::LeftOut | Purpose::Known | Purpose::Random => {
                "the system behind takes it, and the gateway does not, for a rule leaves it out: `rcptsync explain` says which"
            }
        }
    }
}

/// What was said to one address.
#[derive(Debug, Serialize)]
pub struct Told {
    /// The address.
    pub address: String,
    /// Why it was asked.
    pub purpose: Purpose,
    /// The right answer.
    pub expected: Expected,
    /// What the server said.
    pub reply: Option<String>,
    /// How long that took.
    pub took_seconds: Option<f64>,
    /// `agrees`, `contradicts`, `undecided` or `finding`.
    pub verdict: &'static str,
    /// Why it is undecided.
    pub reason: Option<Reason>,
    /// What that means.
    pub sentence: Option<String>,
}

impl Named {
    /// Of keys in their order.
    pub fn of<'key>(keys: impl IntoIterator<Item = &'key [u8]>) -> Named {
        let mut named = Named::default();
        keys.into_iter().for_each(|key| named.push(key));
        named
    }

    /// One more.
    pub fn push(&mut self, of: &[u8]) {
        self.count += 1;
        if self.first.len() < ROWS_NAMED {
            self.first.push(key(of));
        }
    }
}

impl FileVerified {
    /// The report of a file.
    pub fn of(file: &Inspected) -> FileVerified {
        let (state, why) = match &file.found {
            Found::AsPublished(_) => (FileState::AsPublished, None),
            Found::Pending => (FileState::Pending, None),
            Found::Missing => (FileState::Missing, None),
            Found::Unrecorded(_) => (FileState::Unrecorded, None),
            Found::Other(..) => (FileState::Other, None),
            Found::NoTable(why) => (FileState::NoTable, Some(why)),
            Found::NotFound(why) => (FileState::NotFound, Some(why)),
            Found::Unreadable(why) => (FileState::Unreadable, Some(why)),
        };
        let mut verified = FileVerified {
            format: file.format.name(),
            path: key(file.path.as_os_str().as_encoded_bytes()),
            state,
            why: why.map(|why| key(why.as_bytes())),
            keys_found: None,
            rows_missing: Named::default(),
            rows_added: Named::default(),
            rows_changed: Named::default(),
        };
        if let Found::AsPublished(keys_found) = &file.found {
            verified.keys_found = *keys_found;
        }
        if let Found::Other(_, differing) = &file.found {
            verified.rows_missing = Named::of(differing.missing.iter().map(Vec::as_slice));
            verified.rows_added = Named::of(differing.added.iter().map(Vec::as_slice));
            verified.rows_changed = Named::of(differing.changed.iter().map(Vec::as_slice));
        }
        verified
    }

    fn sentence(&self) -> String {
        let why = self.why.as_deref().unwrap_or_default();
        match self.state {
            FileState::AsPublished => match self.keys_found {
                Some(count) => format!("as published; {} found", counted(count, "key", "keys")),
                None => "as published".into(),
            },
            FileState::Pending => {
                "a run decided to replace it and has not done so; the next `rcptsync sync` does".into()
            }
            FileState::Missing => {
                "missing: a gateway that reads it answers 451 to everybody; `rcptsync sync` writes it".into()
            }
            FileState::Unrecorded => {
                "a table that rcptsync has no record of; `rcptsync diff` shows what it would become".into()
            }
            FileState::Other => format!(
                "other octets than were published, edited or cut: {} missing, {} added, {} with another value",
                counted(self.rows_missing.count, "row", "rows"),
                number(self.rows_added.count),
                number(self.rows_changed.count)
            ),
            FileState::NoTable => format!(
                "no table of its format ({why}): torn, and of no use to a gateway; `rcptsync sync` replaces it"
            ),
            FileState::NotFound => format!("the octets that were published, but {why}"),
            FileState::Unreadable => format!("not read: {why}"),
        }
    }
}

impl Asked {
    /// The report of a server that nobody could ask.
    pub fn unasked(server: String, failure: &Failure, notes: Vec<String>) -> Asked {
        Asked {
            server,
            failure: Some(key(failure.why.as_bytes())),
            greeting: String::new(),
            notes,
            answers: Vec::new(),
        }
    }

    /// The report of a server that let itself be asked, with the purposes of the questions in their order.
    pub fn of(server: String, interview: &Interview, purposes: &[Purpose], side: Side) -> Asked {
        let greeting = interview.greeting.as_ref();
        let pace = greeting.and_then(verdict::pace_of_greeting);
        let greeting = greeting.map(ToString::to_string).unwrap_or_default();
        let answers = interview.answers.iter().zip(purposes);
        Asked {
            server,
            failure: None,
            greeting: key(greeting.as_bytes()),
            notes: pace.into_iter().map(str::to_owned).collect(),
            answers: answers
                .map(|(answer, purpose)| Told::of(answer, *purpose, side))
                .collect(),
        }
    }
}

impl Told {
    fn of(answer: &Answer, purpose: Purpose, side: Side) -> Told {
        let expected = answer.question.expected;
        let is_finding = !purpose.decides() && answer.verdict == Verdict::Contradicts;
        let reply = answer.reply.as_ref();
        let said = reply.map(ToString::to_string);
        let said = said.or_else(|| answer.trouble.clone());
        let sentence = if is_finding {
            Some(purpose.finding())
        } else {
            answer.verdict.sentence(expected, side)
        };
        let pace = reply.and_then(|reply| verdict::pace(reply.took));
        let sentences: Vec<&str> = sentence.into_iter().chain(pace).collect();
        Told {
            address: key(answer.question.address.to_string().as_bytes()),
            purpose,
            expected,
            reply: said.map(|said| key(said.as_bytes())),
            took_seconds: reply.map(|reply| (reply.took.as_secs_f64() * 1000.0).round() / 1000.0),
            verdict: if is_finding {
                "finding"
            } else {
                answer.verdict.name()
            },
            reason: match answer.verdict {
                Verdict::Undecided(reason) => Some(reason),
                Verdict::Agrees | Verdict::Contradicts => None,
            },
            sentence: (!sentences.is_empty()).then(|| sentences.join("; ")),
        }
    }
}

/// The report for a person.
pub fn print(out: &mut dyn Write, report: &Verification) -> io::Result<()> {
    let page = &mut Page::stdout(out);
    for (name, table) in &report.tables {
        let rows = counted(table.rows, "row", "rows");
        page.line(format_args!("{STRONG}{name}{STRONG:#}  {rows} published"))?;
        if let Some(problem) = &table.problem {
            page.hanging("  ", &format!("{BAD}{problem}{BAD:#}"))?;
        }
        for file in &table.files {
            let style = if file.state == FileState::AsPublished {
                GOOD
            } else {
                BAD
            };
            let sentence = file.sentence();
            page.hanging(
                &format!("  {:<5} ", file.format),
                &format!("{}: {style}{sentence}{style:#}", file.path),
            )?;
            named(page, "-", &file.rows_missing)?;
            named(page, "+", &file.rows_added)?;
            named(page, "~", &file.rows_changed)?;
        }
        if let Some(compared) = &table.complete_read {
            print_compared(page, compared)?;
        }
    }
    let servers = [
        ("gateway", &report.gateway),
        ("system behind", &report.callout),
    ];
    for (title, asked) in servers {
        if let Some(asked) = asked {
            print_asked(page, title, asked)?;
        }
    }
    let (style, verdict) = match report.outcome {
        Outcome::Agrees => (GOOD, "everything agrees"),
        Outcome::Outdated => (HELD, "a complete read wants other rows than those in force"),
        Outcome::Undecided => (HELD, "undecided: not everything could be read or asked"),
        Outcome::Disagrees => (BAD, "not as it should be"),
    };
    page.line(format_args!("{style}{verdict}{style:#}"))
}

fn print_compared(page: &mut Page<'_>, compared: &Compared) -> io::Result<()> {
    let grace = if compared.leaving > 0 {
        format!(" ({} in their grace)", number(compared.leaving))
    } else {
        String::new()
    };
    let sentence = format!(
        "{} in force, {} wanted; {} not wanted{grace}, {} lacking",
        number(compared.in_force),
        number(compared.wanted),
        number(compared.not_wanted.count),
        number(compared.lacking.count),
    );
    page.hanging("  complete read: ", &sentence)?;
    named(page, "not wanted:", &compared.not_wanted)?;
    named(page, "lacking:", &compared.lacking)
}

fn named(page: &mut Page<'_>, mark: &str, named: &Named) -> io::Result<()> {
    for key in &named.first {
        page.line(format_args!("    {mark} {key}"))?;
    }
    let more = named.count.saturating_sub(named.first.len() as u64);
    if more > 0 {
        page.line(format_args!("    {mark} … and {} more", number(more)))?;
    }
    Ok(())
}

fn print_asked(page: &mut Page<'_>, title: &str, asked: &Asked) -> io::Result<()> {
    let title = format!("{STRONG}{title} {}{STRONG:#}", asked.server);
    if asked.failure.is_none() {
        page.hanging("", &format!("{title}  {}", asked.greeting))?;
    } else {
        page.line(title)?;
    }
    if let Some(failure) = &asked.failure {
        page.hanging("  ", &format!("{BAD}could not be asked{BAD:#}: {failure}"))?;
    }
    for note in &asked.notes {
        page.hanging(&format!("  {HELD}note{HELD:#}         "), note)?;
    }
    let mut sentences = BTreeSet::new();
    for told in &asked.answers {
        let style = match told.verdict {
            "agrees" => GOOD,
            "contradicts" => BAD,
            _ => HELD,
        };
        let reply = told.reply.as_deref().unwrap_or("not asked");
        let (purpose, address) = (told.purpose.name(), &told.address);
        page.hanging(
            &format!("  {style}{:<11}{style:#}  ", told.verdict),
            &format!("{purpose} {address}: {reply}"),
        )?;
        // What it means is said once.
        if let Some(sentence) = &told.sentence
            && sentences.insert(sentence)
        {
            page.hanging("               ", sentence)?;
        }
    }
    Ok(())
}
