//! The only place that prints results: values in, text out. Lines of the log are printed by `log`.
//!
//! Results go to standard output, everything else to standard error. Whatever came from a directory, a file or a program
//! is made [`harmless`](crate::harmless) before a terminal sees it.

pub mod difference;
pub mod findings;
pub mod logged;
pub mod markdown;
pub mod notice;
pub mod page;
pub mod progress;
pub mod text;
pub mod unified;
pub mod verification;

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use crate::error::Failure;
use crate::harmless::inert_json;

pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
pub(crate) const BAD: Style = AnsiColor::Red.on_default();
pub(crate) const HELD: Style = AnsiColor::Yellow.on_default();
pub(crate) const STRONG: Style = Style::new().bold();
pub(crate) const FAINT: Style = Style::new().dimmed();
pub(crate) const PLAIN: Style = Style::new();

/// A value as JSON for people and programs: exact, and harmless to look at.
pub fn json(out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    writeln!(out, "{}", inert_json(&serde_json::to_string_pretty(value)?))
}

/// A failure as one event of the log, with its answers as fields. For a person the log makes a block of them.
pub fn failure(failure: &Failure) {
    tracing::error!(
        code = failure.exit.code(),
        place = failure.place,
        why = failure.why,
        in_force = failure.in_force,
        next = failure.next,
        "{}",
        failure.what
    );
}

/// `1,204`
pub fn number(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 row`, `2 rows`
pub fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(count), if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(number),
            ["0", "999", "1,000", "1,234,567"]
        );
    }
}
