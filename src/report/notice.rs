//! A notice as it is sent: a subject, a text for a person at night, and JSON for programs.
//!
//! Foreign strings are escaped and cut, lists are cut and counted: whoever can write an attribute in the directory neither
//! puts a line end into a header nor fills a mailbox. The keys of the JSON are an interface (README, "Being told").

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

use super::difference::HoldReport;
use super::text::{hold_sentence, release};
use super::{counted, number};
use crate::config::Config;
use crate::error::Failure;
use crate::harmless::printable;
use crate::hold::{Cause, Hold, is_approvable, short};
use crate::notice::{Known, Notice, When};
use crate::state::head::{Head, HoldState, SourceState};
use crate::state::runs::RunRecord;
use crate::time::{Timestamp, rough};

/// Holds whose rows are looked up.
pub const HOLDS_MAX: usize = 10;

/// Rows of a hold, each of those that come and those that go.
const ROWS_MAX: usize = 10;

/// Failures, conditions and holds that are listed.
const LISTED_MAX: usize = 20;

/// Characters of a foreign string, and of a subject.
const CHARACTERS_MAX: usize = 400;
const SUBJECT_CHARACTERS_MAX: usize = 150;

/// Characters of a line of the text.
const WIDTH: usize = 76;

/// Changes that wait, as they are told.
#[derive(Clone, Debug)]
pub struct HoldTold {
    digest: String,
    table: String,
    cause: Cause,
    scope: String,
    added_count: u64,
    removed_count: u64,
    since: Timestamp,
    /// Why it stands there, and what releases it.
    sentence: Option<String>,
    release: String,
    added: Vec<String>,
    removed: Vec<String>,
}

impl HoldTold {
    /// A hold, with some of its rows where they could be looked up.
    pub fn of(digest: &str, known: &HoldState, rows: Option<&Hold>) -> HoldTold {
        let report = rows.map(HoldReport::of);
        let first = |keys: &[String]| keys.iter().take(ROWS_MAX).map(|key| foreign(key)).collect();
        let approvable = is_approvable(known.cause, known.removed_count);
        let approve = approvable.then(|| format!("rcptsync approve {}", short(digest)));
        HoldTold {
            digest: digest.to_owned(),
            table: known.table.clone(),
            cause: known.cause,
            scope: foreign(&known.scope),
            added_count: known.added_count,
            removed_count: known.removed_count,
            since: known.since,
            sentence: report.as_ref().map(hold_sentence),
            release: report.as_ref().map_or(approve.unwrap_or_default(), release),
            added: report
                .as_ref()
                .map_or_else(Vec::new, |report| first(&report.added)),
            removed: report
                .as_ref()
                .map_or_else(Vec::new, |report| first(&report.removed)),
        }
    }
}

/// All that a notice is made from.
#[derive(Debug)]
pub struct Message<'run> {
    /// What is new, goes on, and is over.
    pub notice: &'run Notice,
    /// The name of this machine.
    pub host: &'run str,
    /// The configuration.
    pub config: &'run Config,
    /// What is so now, where it can be read.
    pub head: Option<&'run Head>,
    /// The run.
    pub run: &'run RunRecord,
    /// What waits.
    pub holds: &'run [HoldTold],
}

impl Message<'_> {
    /// One line: the most urgent, and how many others there are.
    pub fn subject(&self) -> String {
        let notice = self.notice;
        let first_of = |list: &[(String, Known)]| {
            let first = list.iter().min_by_key(|(_, known)| known.when);
            first.map(|(_, known)| known.clone())
        };
        let (what, count) = if let Some(known) = first_of(&notice.began) {
            (
                format!("{}: {}", known.when.name(), known.what),
                notice.began.len(),
            )
        } else if let Some(known) = first_of(&notice.goes_on).filter(|_| notice.is_reminder) {
            (
                format!("still {}: {}", known.when.name(), known.what),
                notice.goes_on.len(),
            )
        } else {
            let over = first_of(&notice.ended).map_or_else(String::new, |known| known.over);
            (format!("recovered: {over}"), notice.ended.len())
        };
        let mut more = match count {
            0 | 1 => String::new(),
            count => format!(", and {} more", count - 1),
        };
        if notice.began.is_empty() && !notice.is_reminder && !notice.goes_on.is_empty() {
            more += &format!(" ({} still so)", notice.goes_on.len());
        }
        let text = cut(&foreign(&what), SUBJECT_CHARACTERS_MAX);
        format!("rcptsync on {}: {text}{more}", foreign(self.host))
    }

    /// What a person reads.
    pub fn text(&self) -> String {
        let mut text = format!(
            "rcptsync on {}, {}. The run ended with {}.\n",
            foreign(self.host),
            self.run.at,
            self.run.code
        );
        self.list(&mut text, "New", &self.notice.began);
        self.list(&mut text, "Still so", &self.notice.goes_on);
        self.list(&mut text, "Over", &self.notice.ended);
        self.in_force(&mut text);
        self.failures(&mut text);
        self.held(&mut text);
        text.push_str("\nWhat to do now\n");
        let next = if self.notice.began.is_empty() && self.notice.goes_on.is_empty() {
            "Nothing. `rcptsync status` shows how things stand."
        } else {
            "`rcptsync status` shows how things stand, `rcptsync diff` what a run would publish and what it would hold, \
             `rcptsync doctor` tries every precondition."
        };
        paragraph(&mut text, "  ", "  ", next);
        text
    }

    /// For programs.
    pub fn json(&self) -> String {
        let whens: Vec<&str> = self.notice.whens().into_iter().map(When::name).collect();
        let failures = self.run.failures.iter().take(LISTED_MAX).map(|failure| {
            let mut value = json!({ "exit": failure.exit, "code": failure.exit.code() });
            for (name, answer) in answers(failure) {
                value[name] = Value::String(foreign(answer));
            }
            value
        });
        let value = json!({
            "schema": 1,
            "when": whens,
            "is_reminder": self.notice.is_reminder,
            "subject": self.subject(),
            "text": self.text(),
            "host": foreign(self.host),
            "run": {
                "id": self.run.id,
                "at": self.run.at.to_string(),
                "code": self.run.code,
                "exits": self.run.exits,
                "is_changed": self.run.is_changed,
            },
            "generation": self.head.map(|head| head.generation),
            "began": self.conditions(&self.notice.began),
            "goes_on": self.conditions(&self.notice.goes_on),
            "ended": self.conditions(&self.notice.ended),
            "failures_count": self.run.failures.len(),
            "failures": failures.collect::<Vec<_>>(),
            "holds_count": self.holds.len(),
            "holds": self.holds.iter().take(LISTED_MAX).map(hold_json).collect::<Vec<_>>(),
            "sources": self.sources(),
            "hooks_owed": self.hooks_owed(),
            "tables": self.tables(),
        });
        format!("{value}\n")
    }

    fn list(&self, text: &mut String, title: &str, list: &[(String, Known)]) {
        if list.is_empty() {
            return;
        }
        let _ = writeln!(text, "\n{title}");
        for (_, known) in list.iter().take(LISTED_MAX) {
            let is_over = known.gone_since.is_some();
            let (name, what) = match is_over {
                true => (When::Recovered.name(), &known.over),
                false => (known.when.name(), &known.what),
            };
            let first = format!("  {name:<11}");
            paragraph(text, &first, "             ", &foreign(what));
            let lasted = rough(lasted(known, self.run.at));
            let runs = counted(known.runs_count, "run", "runs");
            let times = match is_over {
                true => format!(
                    "it was {} for {lasted}, from {}; {runs} met it",
                    known.when.name(),
                    known.since
                ),
                false => format!("since {} ({lasted}); {runs} met it", known.since),
            };
            paragraph(text, "             ", "             ", &times);
        }
        more(text, "  ", list.len(), LISTED_MAX);
    }

    fn in_force(&self, text: &mut String) {
        let Some(head) = self.head else {
            return;
        };
        let _ = writeln!(text, "\nIn force: generation {}", head.generation);
        for (name, rows, held) in self.table_counts(head) {
            let waiting = match held {
                0 => String::new(),
                held => format!(", {} waiting", counted(held, "change", "changes")),
            };
            let rows = counted(rows, "row", "rows");
            paragraph(text, "  ", "    ", &format!("{name}: {rows}{waiting}"));
        }
    }

    fn failures(&self, text: &mut String) {
        if self.run.failures.is_empty() {
            return;
        }
        text.push_str("\nWhat failed in this run\n");
        for failure in self.run.failures.iter().take(LISTED_MAX) {
            for (name, answer) in answers(failure) {
                let first = match name {
                    "what" => "  ".to_owned(),
                    name => format!("    {:<10}", format!("{}:", name.replace('_', " "))),
                };
                let rest = " ".repeat(if name == "what" { 4 } else { 14 });
                paragraph(text, &first, &rest, &foreign(answer));
            }
        }
        more(text, "  ", self.run.failures.len(), LISTED_MAX);
    }

    fn held(&self, text: &mut String) {
        if self.holds.is_empty() {
            return;
        }
        text.push_str("\nWhat waits\n");
        for hold in self.holds.iter().take(LISTED_MAX) {
            let (added, removed) = (number(hold.added_count), number(hold.removed_count));
            let counts = format!("{}; {added} to add, {removed} to remove", hold.cause.name());
            let sentence = hold.sentence.as_deref().unwrap_or(&counts);
            let what = format!("{}, table {}: {sentence}", hold.scope, hold.table);
            paragraph(text, "  ", "    ", &what);
            for (sign, rows, count) in [
                ('+', &hold.added, hold.added_count),
                ('-', &hold.removed, hold.removed_count),
            ] {
                for row in rows {
                    let _ = writeln!(text, "    {sign} {row}");
                }
                if !rows.is_empty() {
                    more(
                        text,
                        &format!("    {sign} "),
                        usize::try_from(count).unwrap_or(usize::MAX),
                        rows.len(),
                    );
                }
            }
            paragraph(text, "    release: ", "    ", &hold.release);
        }
        more(text, "  ", self.holds.len(), LISTED_MAX);
    }

    fn conditions(&self, list: &[(String, Known)]) -> Vec<Value> {
        let condition = |(name, known): &(String, Known)| {
            let what = match known.gone_since {
                Some(_) => &known.over,
                None => &known.what,
            };
            json!({
                "when": known.when.name(),
                "key": foreign(name),
                "what": foreign(what),
                "since": known.since.to_string(),
                "ended": known.gone_since.map(|at| at.to_string()),
                "lasted_seconds": lasted(known, self.run.at).as_secs(),
                "runs": known.runs_count,
            })
        };
        list.iter().take(LISTED_MAX).map(condition).collect()
    }

    fn sources(&self) -> Value {
        let sources = self.config.sources.iter().map(|source| {
            let known = self.head.and_then(|head| head.sources.get(&source.name));
            (source.name.clone(), source_json(known))
        });
        Value::Object(sources.collect())
    }

    fn hooks_owed(&self) -> Vec<&str> {
        let hooks = self.config.hooks.iter().map(|hook| hook.name.as_str());
        hooks
            .filter(|name| self.head.is_some_and(|head| head.owes(name)))
            .collect()
    }

    fn tables(&self) -> Value {
        let counts = self
            .head
            .into_iter()
            .flat_map(|head| self.table_counts(head));
        let table = |(name, rows, held): (&str, u64, u64)| {
            (name.to_owned(), json!({ "rows": rows, "held": held }))
        };
        Value::Object(counts.map(table).collect())
    }

    /// Rows in force, and changes that wait.
    fn table_counts<'head>(
        &'head self,
        head: &'head Head,
    ) -> impl Iterator<Item = (&'head str, u64, u64)> {
        self.config.tables.iter().map(|table| {
            let rows = head
                .tables
                .get(&table.name)
                .map_or(0, |known| known.rows_count);
            let held = self
                .run
                .tables
                .get(&table.name)
                .map_or(0, |counts| counts.held);
            (table.name.as_str(), rows, held)
        })
    }
}

fn hold_json(hold: &HoldTold) -> Value {
    json!({
        "digest": hold.digest,
        "table": hold.table,
        "cause": hold.cause.name(),
        "scope": hold.scope,
        "added_count": hold.added_count,
        "removed_count": hold.removed_count,
        "added": hold.added,
        "removed": hold.removed,
        "since": hold.since.to_string(),
        "sentence": hold.sentence,
        "release": hold.release,
    })
}

fn source_json(known: Option<&SourceState>) -> Value {
    let frozen = known.and_then(|known| known.frozen.as_ref());
    let current_at = known.and_then(|known| known.current_at);
    let state = match (frozen, current_at) {
        (_, None) => "never",
        (Some(_), Some(_)) => "frozen",
        (None, Some(_)) => "current",
    };
    json!({
        "state": state,
        "current_at": current_at.map(|at| at.to_string()),
        "frozen_since": frozen.map(|frozen| frozen.since.to_string()),
        "cause": frozen.map(|frozen| foreign(&frozen.cause)),
    })
}

fn answers(failure: &Failure) -> [(&'static str, &str); 5] {
    [
        ("what", &failure.what),
        ("where", &failure.place),
        ("why", &failure.why),
        ("in_force", &failure.in_force),
        ("next", &failure.next),
    ]
}

fn lasted(known: &Known, now: Timestamp) -> Duration {
    known.gone_since.unwrap_or(now).since(known.since)
}

/// A string that may come from elsewhere: one line, without effects, not longer than a person reads.
fn foreign(text: &str) -> String {
    let text = printable(text.trim().as_bytes());
    cut(&text.replace('\n', "; "), CHARACTERS_MAX)
}

fn cut(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}

fn more(text: &mut String, before: &str, count: usize, listed: usize) {
    if count > listed {
        let _ = writeln!(
            text,
            "{before}... and {} more",
            number((count - listed) as u64)
        );
    }
}

/// Adds words in lines of [`WIDTH`]; a longer word has a line of its own.
fn paragraph(text: &mut String, first: &str, rest: &str, words: &str) {
    let mut line = first.to_owned();
    let mut is_empty = true;
    for word in words.split_whitespace() {
        let length = line.chars().count() + 1 + word.chars().count();
        if !is_empty && length > WIDTH {
            let _ = writeln!(text, "{}", line.trim_end());
            rest.clone_into(&mut line);
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    let _ = writeln!(text, "{}", line.trim_end());
}
