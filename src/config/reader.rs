//! Typed access to a TOML text that collects problems instead of stopping at the first.
//!
//! A [`Section`] is one table of the file. Its accessors note which keys the program knows; [`Section::finish`] then
//! reports every other key with its line and the nearest known one. A value of the wrong type is a problem and reads as
//! absent, so that one mistake does not hide the next. Not here: what the values mean (`parse`).

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One thing that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line in the file, from 1; 0 when no single line is to blame.
    pub line: usize,
    /// Dotted name of the key: `source.corp.page_size`.
    pub key: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}: ", self.line)?;
        }
        if self.key.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.key, self.message)
        }
    }
}

/// How a file that belongs to the configuration is read.
pub type ReadFile<'text> = dyn Fn(&Path) -> io::Result<Vec<u8>> + 'text;

/// The text being read and the problems found so far.
pub(super) struct Reader<'text> {
    text: &'text str,
    read: Option<&'text ReadFile<'text>>,
    problems: RefCell<Vec<Problem>>,
}

impl<'text> Reader<'text> {
    pub(super) fn new(text: &'text str, read: Option<&'text ReadFile<'text>>) -> Self {
        Reader {
            text,
            read,
            problems: RefCell::default(),
        }
    }

    /// Parses the text; a syntax error is a problem like any other.
    pub(super) fn parse(&self) -> Option<DeTable<'text>> {
        match DeTable::parse(self.text) {
            Ok(table) => Some(table.into_inner()),
            Err(error) => {
                self.report(
                    error.span().unwrap_or_default(),
                    String::new(),
                    error.message().to_owned(),
                );
                None
            }
        }
    }

    /// The problems in the order of the file.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| {
            if problem.line == 0 {
                usize::MAX
            } else {
                problem.line
            }
        });
        problems
    }

    pub(super) fn report(&self, at: Range<usize>, key: String, message: String) {
        let before = &self.text[..at.start.min(self.text.len())];
        let line = before.matches('\n').count() + 1;
        self.problems
            .borrow_mut()
            .push(Problem { line, key, message });
    }

    /// Whether a problem of this section or of something in it is known.
    pub(super) fn has_told_of(&self, section: &str) -> bool {
        let is_of = |key: &str| {
            key.strip_prefix(section)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.problems
            .borrow()
            .iter()
            .any(|problem| is_of(&problem.key))
    }

    /// A problem of the file as a whole.
    pub(super) fn report_missing(&self, key: &str, message: &str) {
        self.problems.borrow_mut().push(Problem {
            line: 0,
            key: key.to_owned(),
            message: message.to_owned(),
        });
    }
}

/// A value together with the place it stands in.
#[derive(Clone, Debug)]
pub(super) struct Placed<T> {
    pub(super) value: T,
    pub(super) at: Range<usize>,
}

/// One table of the file.
pub(super) struct Section<'read, 'text> {
    reader: &'read Reader<'text>,
    table: &'read DeTable<'text>,
    name: String,
    at: Range<usize>,
    known: RefCell<Vec<&'static str>>,
    /// Keys that were told to have the wrong type: they are not missing, too.
    mistyped: RefCell<Vec<String>>,
}

impl<'read, 'text> Section<'read, 'text> {
    pub(super) fn root(reader: &'read Reader<'text>, table: &'read DeTable<'text>) -> Self {
        Section {
            reader,
            table,
            name: String::new(),
            at: 0..0,
            known: RefCell::default(),
            mistyped: RefCell::default(),
        }
    }

    fn child(&self, name: String, table: &'read DeTable<'text>, at: Range<usize>) -> Self {
        Section {
            reader: self.reader,
            table,
            name,
            at,
            known: RefCell::default(),
            mistyped: RefCell::default(),
        }
    }

    /// `source.corp.page_size` for `page_size`, and the section's own name for nothing.
    pub(super) fn full_name(&self, key: &str) -> String {
        match (self.name.as_str(), key) {
            ("", key) => key.to_owned(),
            (name, "") => name.to_owned(),
            (name, key) => format!("{name}.{key}"),
        }
    }

    /// Reports a problem of the whole section, or of a key as far as its type is right.
    pub(super) fn problem(&self, key: &str, message: impl Into<String>) {
        if self
            .mistyped
            .borrow()
            .iter()
            .any(|mistyped| mistyped == key)
        {
            return;
        }
        let at = self
            .peek(key)
            .map_or_else(|| self.at.clone(), |value| value.span());
        self.reader.report(at, self.full_name(key), message.into());
    }

    /// Reports a problem of one value.
    pub(super) fn problem_at(&self, at: &Range<usize>, key: &str, message: impl Into<String>) {
        self.reader
            .report(at.clone(), self.full_name(key), message.into());
    }

    /// What a file holds that the configuration names, if files are read at all.
    pub(super) fn read_file(&self, file: &Path) -> Option<io::Result<Vec<u8>>> {
        self.reader.read.map(|read| read(file))
    }

    /// Whether the key is there, whatever its type.
    pub(super) fn has(&self, key: &str) -> bool {
        self.peek(key).is_some()
    }

    fn peek(&self, key: &str) -> Option<&'read Spanned<DeValue<'text>>> {
        self.table
            .iter()
            .find(|(name, _)| name.get_ref().as_ref() == key)
            .map(|(_, value)| value)
    }

    fn take(&self, key: &'static str) -> Option<&'read Spanned<DeValue<'text>>> {
        self.known.borrow_mut().push(key);
        self.peek(key)
    }

    fn wrong_type(&self, key: &str, value: &Spanned<DeValue<'text>>, wanted: &str) {
        let message = format!("is {}, but must be {wanted}", type_name(value.get_ref()));
        self.mistyped.borrow_mut().push(key.to_owned());
        self.problem_at(&value.span(), key, message);
    }

    pub(super) fn text(&self, key: &'static str) -> Option<Placed<String>> {
        let value = self.take(key)?;
        let text = self.text_of(key, value)?;
        Some(Placed {
            value: text,
            at: value.span(),
        })
    }

    fn text_of(&self, key: &str, value: &Spanned<DeValue<'text>>) -> Option<String> {
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.wrong_type(key, value, "text in quotes");
        }
        text.map(str::to_owned)
    }

    /// A list of texts; absent reads as empty.
    pub(super) fn texts(&self, key: &'static str) -> Vec<Placed<String>> {
        match self.take(key) {
            None => Vec::new(),
            Some(value) => self.texts_of(key, value),
        }
    }

    /// One text, or a list of texts; absent reads as empty.
    pub(super) fn text_or_texts(&self, key: &'static str) -> Vec<Placed<String>> {
        match self.take(key) {
            Some(value) if value.get_ref().as_str().is_some() => {
                let text = self.text_of(key, value).into_iter();
                text.map(|text| Placed {
                    value: text,
                    at: value.span(),
                })
                .collect()
            }
            Some(value) => self.texts_of(key, value),
            None => Vec::new(),
        }
    }

    fn texts_of(&self, key: &str, value: &Spanned<DeValue<'text>>) -> Vec<Placed<String>> {
        let Some(items) = value.get_ref().as_array() else {
            self.wrong_type(key, value, "a list of texts");
            return Vec::new();
        };
        let placed = |item: &Spanned<DeValue<'text>>| {
            self.text_of(key, item).map(|value| Placed {
                value,
                at: item.span(),
            })
        };
        items.iter().filter_map(placed).collect()
    }

    /// A list of texts that must not be empty.
    pub(super) fn texts_needed(&self, key: &'static str, example: &str) -> Vec<Placed<String>> {
        let texts = self.texts(key);
        if texts.is_empty() {
            self.problem(key, format!("at least one is needed: {key} = {example}"));
        }
        texts
    }

    pub(super) fn boolean(&self, key: &'static str, default: bool) -> bool {
        let Some(value) = self.take(key) else {
            return default;
        };
        value.get_ref().as_bool().unwrap_or_else(|| {
            self.wrong_type(key, value, "true or false");
            default
        })
    }

    /// A whole number within `range`.
    pub(super) fn integer(&self, key: &'static str, default: u64, range: Range<u64>) -> u64 {
        let Some(value) = self.take(key) else {
            return default;
        };
        let Some(integer) = value.get_ref().as_integer() else {
            self.wrong_type(key, value, "a whole number");
            return default;
        };
        match u64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) if range.contains(&number) => number,
            _ => {
                let message = format!("must be between {} and {}", range.start, range.end - 1);
                self.problem_at(&value.span(), key, message);
                default
            }
        }
    }

    /// A percentage: a number that is not negative.
    pub(super) fn percent(&self, key: &'static str, default: f64) -> f64 {
        let Some(value) = self.take(key) else {
            return default;
        };
        let text = match value.get_ref() {
            DeValue::Integer(integer) => integer.as_str(),
            DeValue::Float(float) => float.as_str(),
            DeValue::String(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => "",
        };
        match text.parse::<f64>() {
            Ok(number) if number >= 0.0 && number.is_finite() => number,
            _ => {
                self.wrong_type(key, value, "a number of percent that is not negative");
                default
            }
        }
    }

    /// humantime text: `15m`, `24h`, `90d`.
    pub(super) fn duration(&self, key: &'static str, default: Duration) -> Duration {
        self.text(key)
            .and_then(|text| self.duration_of(key, &text))
            .unwrap_or(default)
    }

    pub(super) fn duration_of(&self, key: &str, text: &Placed<String>) -> Option<Duration> {
        let duration = humantime::parse_duration(&text.value);
        if let Err(error) = &duration {
            self.problem_at(
                &text.at,
                key,
                format!("is not a duration such as \"30s\", \"15m\" or \"24h\": {error}"),
            );
        }
        duration.ok()
    }

    /// `[key]`
    pub(super) fn section(&self, key: &'static str) -> Option<Section<'read, 'text>> {
        let value = self.take(key)?;
        let Some(table) = value.get_ref().as_table() else {
            self.wrong_type(key, value, &format!("a section: [{}]", self.full_name(key)));
            return None;
        };
        Some(self.child(self.full_name(key), table, value.span()))
    }

    /// `[key.NAME]`, in the order of the file.
    pub(super) fn named_sections(
        &self,
        key: &'static str,
    ) -> Vec<(Placed<String>, Section<'read, 'text>)> {
        let Some(outer) = self.section(key) else {
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (name, value) in outer.table {
            let Some(table) = value.get_ref().as_table() else {
                let message = format!("stands outside of a named section: [{}.NAME]", outer.name);
                outer.problem_at(&name.span(), name.get_ref(), message);
                continue;
            };
            let full_name = outer.full_name(name.get_ref());
            let placed = Placed {
                value: name.get_ref().to_string(),
                at: name.span(),
            };
            sections.push((placed, self.child(full_name, table, name.span())));
        }
        sections.sort_by_key(|(name, _)| name.at.start);
        sections
    }

    /// `[[key]]`
    pub(super) fn listed_sections(&self, key: &'static str) -> Vec<Section<'read, 'text>> {
        let Some(value) = self.take(key) else {
            return Vec::new();
        };
        let Some(items) = value.get_ref().as_array() else {
            self.wrong_type(key, value, &format!("a list of sections: [[{key}]]"));
            return Vec::new();
        };
        let section = |item: &'read Spanned<DeValue<'text>>| match item.get_ref().as_table() {
            Some(table) => Some(self.child(self.full_name(key), table, item.span())),
            None => {
                self.wrong_type(key, item, "a section");
                None
            }
        };
        items.iter().filter_map(section).collect()
    }

    /// Reports every key that no accessor asked for.
    pub(super) fn finish(self) {
        let known = self.known.borrow();
        for (name, _) in self.table {
            let name_text = name.get_ref().as_ref();
            if known.contains(&name_text) {
                continue;
            }
            let message = match nearest(name_text, &known) {
                Some(near) => format!("unknown key; did you mean \"{near}\"?"),
                None => format!("unknown key; known here: {}", known.join(", ")),
            };
            self.problem_at(&name.span(), name_text, message);
        }
    }
}

fn nearest<'known>(name: &str, known: &[&'known str]) -> Option<&'known str> {
    const SIMILARITY_MIN: f64 = 0.8;
    known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), *candidate))
        .filter(|(similarity, _)| *similarity >= SIMILARITY_MIN)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, candidate)| candidate)
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    }
}
