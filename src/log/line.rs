//! One line of the log as a value, and its forms: text, JSON, fields for the journal.
//!
//! Invariant: nothing in it acts on a terminal, and the message is one line, whoever wrote the words in it. The answers of a
//! failure ([`ANSWERS`]) may have several lines.

use std::fmt::{self, Write as _};
use std::io;

use serde::Serialize;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

use super::named;
use crate::harmless::{inert_json, key, printable};
use crate::report::page::Page;
use crate::report::{BAD, FAINT, HELD, PLAIN, STRONG};

/// The fields of a failure that a person reads below the message, and their titles.
const ANSWERS: [(&str, &str); 4] = [
    ("place", "where"),
    ("why", "why"),
    ("in_force", "in force"),
    ("next", "next"),
];

/// One line.
#[derive(Debug)]
pub struct Line {
    /// How urgent it is.
    pub level: Level,
    /// All that a person needs, but the answers of a failure.
    pub message: String,
    /// The same in parts, for programs; and the answers of a failure.
    pub fields: Map<String, Value>,
}

/// A line in JSON, in the order of its keys.
#[derive(Serialize)]
struct Object<'line> {
    time: &'line str,
    level: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<&'line str>,
    message: &'line str,
    fields: &'line Map<String, Value>,
}

impl Line {
    /// The line that an event asks for.
    pub fn of(event: &Event<'_>) -> Line {
        let mut line = Line {
            level: *event.metadata().level(),
            message: String::new(),
            fields: Map::new(),
        };
        event.record(&mut line);
        line
    }

    /// For a person who watches.
    pub fn lay_out(&self, page: &mut Page<'_>) -> io::Result<()> {
        let (name, message) = self.head();
        page.hanging(&format!("{name} "), &message)?;
        for (field, title) in ANSWERS {
            let lines: Vec<&str> = self.answer(field).collect();
            page.hanging(&format!("  {:<10}", format!("{title}:")), &lines.join("\n"))?;
        }
        Ok(())
    }

    /// For a file, each line of text behind `before`.
    pub fn text(&self, before: &str) -> String {
        let (name, message) = self.head();
        let mut text = format!("{before}{name} {message}\n");
        for answer in self.answers() {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{before}{answer}");
        }
        text
    }

    /// For the journal, which shows nothing but this: the message, and below it the answers of a failure.
    pub fn journal_message(&self) -> String {
        let mut text = self.message.clone();
        for answer in self.answers() {
            let _ = write!(text, "\n{answer}");
        }
        text
    }

    /// One object; `run` within a run alone.
    pub fn json(&self, time: &str, run: Option<&str>) -> String {
        let (level, _) = named(self.level);
        let object = Object {
            time,
            level,
            run,
            message: &self.message,
            fields: &self.fields,
        };
        // Texts and numbers can always be written.
        inert_json(&serde_json::to_string(&object).unwrap_or_default())
    }

    /// How urgent it is, and what it says, with colours.
    fn head(&self) -> (String, String) {
        let (name, _) = named(self.level);
        let (style, message) = match self.level {
            Level::ERROR => (BAD, STRONG),
            Level::WARN => (HELD, PLAIN),
            Level::INFO | Level::DEBUG | Level::TRACE => (FAINT, PLAIN),
        };
        let name = format!("{style}{name}:{style:#}");
        (name, format!("{message}{}{message:#}", self.message))
    }

    /// The lines of an answer.
    fn answer(&self, field: &str) -> impl Iterator<Item = &str> {
        let answer = self.fields.get(field).and_then(Value::as_str);
        let lines = answer.unwrap_or_default().lines();
        lines.filter(|line| !line.trim().is_empty())
    }

    fn answers(&self) -> impl Iterator<Item = String> {
        ANSWERS.iter().flat_map(|(field, title)| {
            let lines = self.answer(field).enumerate();
            lines.map(move |(number, line)| match number {
                0 => format!("  {:<10}{line}", format!("{title}:")),
                _ => format!("            {line}"),
            })
        })
    }

    fn set(&mut self, field: &Field, value: Value) {
        self.fields.insert(field.name().to_owned(), value);
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message = key(value.as_bytes());
        } else {
            self.set(field, printable(value.as_bytes()).into());
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(level: Level, message: &str, why: &str) -> Line {
        let mut fields = Map::new();
        fields.insert("why".into(), why.into());
        Line {
            level,
            message: message.into(),
            fields,
        }
    }

    #[test]
    fn an_answer_of_several_lines_stays_below_its_title() {
        let line = line(Level::ERROR, "it failed", "one\n\ntwo");
        let told = "it failed\n  why:      one\n            two";
        assert_eq!(line.journal_message(), told);
        let text = anstream::adapter::strip_str(&line.text("7 ")).to_string();
        assert_eq!(
            text,
            "7 error: it failed\n7   why:      one\n7             two\n"
        );
    }

    #[test]
    fn a_line_in_json_names_its_run_where_there_is_one() {
        let line = line(Level::WARN, "m", "w");
        let without = r#"{"time":"T","level":"warning","message":"m","fields":{"why":"w"}}"#;
        assert_eq!(line.json("T", None), without);
        let with = r#"{"time":"T","level":"warning","run":"7","message":"m","fields":{"why":"w"}}"#;
        assert_eq!(line.json("T", Some("7")), with);
    }
}
