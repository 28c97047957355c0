//! What a run leaves behind for Prometheus: values in, the text of the exposition format out. Pure.
//!
//! Every run that held the lock writes it at its end ([`textfile`]), however it ended; `command::ended` gathers what goes
//! in. Which metrics there are is said in one place, [`FAMILIES`].
//!
//! Invariant: what is not known is absent, never 0. A run that failed early tells what head.json says and nothing of
//! what it would have found.

mod families;
pub mod textfile;

use std::fmt::Write;

use crate::config::Config;
use crate::harmless::key;
use crate::state::head::Head;
use crate::state::runs::RunRecord;
use crate::time::Timestamp;

pub use families::FAMILIES;

/// What the metrics are made from.
#[derive(Debug)]
pub struct Seen<'run> {
    /// The configuration.
    pub config: &'run Config,
    /// What is, as it was read again after the run; `None` where it could not be.
    pub head: Option<&'run Head>,
    /// How the run went.
    pub run: &'run RunRecord,
    /// Certificates in files.
    pub certificates: Vec<Dated>,
    /// Secrets in files.
    pub secrets: Vec<Dated>,
}

/// A file that the configuration names, with the time that matters of it.
#[derive(Clone, Debug)]
pub struct Dated {
    /// The section that names it: `source.corp`.
    pub section: String,
    /// What it is there: `authority`, `client`, `password`, `key`, `keytab`.
    pub what: &'static str,
    /// When its certificate ends, or when it was written last.
    pub at: Timestamp,
}

/// A metric with all its samples.
pub struct Family {
    /// Its name; `rcptsync_` begins it.
    pub name: &'static str,
    /// `gauge` or `counter`.
    pub kind: &'static str,
    /// One sentence.
    pub help: &'static str,
    samples: fn(&Seen<'_>) -> Vec<Sample>,
}

/// One value, and what it is of.
struct Sample {
    labels: Vec<(&'static str, String)>,
    value: f64,
}

/// The text format of Prometheus, version 0.0.4. The same values give the same text.
pub fn text(seen: &Seen<'_>) -> String {
    let mut text = String::new();
    for family in FAMILIES {
        let samples = (family.samples)(seen);
        if samples.is_empty() {
            continue;
        }
        let Family {
            name, kind, help, ..
        } = family;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for sample in samples {
            let labels: Vec<String> = (sample.labels.iter())
                .map(|(label, value)| format!("{label}=\"{}\"", escaped(value)))
                .collect();
            let labels = match labels.as_slice() {
                [] => String::new(),
                labels => format!("{{{}}}", labels.join(",")),
            };
            let _ = writeln!(text, "{name}{labels} {}", sample.value);
        }
    }
    text
}

/// A label's value: in that format a backslash, a quote and a line end mean something; what would act on a terminal is
/// spelled out as everywhere.
fn escaped(value: &str) -> String {
    key(value.as_bytes())
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_says_nothing_but_its_value() {
        for (value, expected) in [
            ("example.com", "example.com"),
            ("bücher.example", "bücher.example"),
            ("a\"} 1", "a\\\"} 1"),
            ("a\\", "a\\\\"),
            ("a\nb 1", "a\\\\u{a}b 1"),
            ("\u{1b}[31m\u{202e}", "\\\\u{1b}[31m\\\\u{202e}"),
        ] {
            assert_eq!(escaped(value), expected);
        }
    }
}
