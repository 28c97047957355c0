//! What was measured, as lines of a table in Markdown.

use std::fmt::Write;
use std::time::Duration;

use crate::timed::Runs;

/// What a ratio should be.
#[derive(Clone, Copy, Debug)]
pub enum Aim {
    /// Ours in parts of theirs.
    AtMost(f64),
    /// The same on both sides, as far as a clock can tell.
    Same,
    /// Only looked at.
    Report,
}

/// How close "the same" must be.
const SAME_MAX: f64 = 1.05;

/// What the numbers of a line count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Written as milliseconds where they are few.
    Seconds,
    /// Written as microseconds.
    SecondsPerRecipient,
    /// Written as mebibytes.
    Bytes,
}

/// One side of a line.
#[derive(Clone, Debug)]
pub struct Side {
    /// One for each round.
    numbers: Vec<f64>,
    unit: Unit,
    processor: Option<Duration>,
    memory_bytes: Option<u64>,
}

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Line {
    /// The number of the row in `README.md`.
    pub row: u8,
    /// What was done.
    pub work: String,
    /// What rcptsync needed.
    pub ours: Side,
    /// What it is held against.
    pub theirs: Option<Side>,
    /// What the ratio should be.
    pub aim: Aim,
}

impl Side {
    /// The wall clock of runs, with their processor time and memory.
    pub fn wall(runs: &Runs) -> Side {
        let processor: Vec<f64> = runs.iter().map(|run| run.processor.as_secs_f64()).collect();
        Side {
            numbers: runs.iter().map(|run| run.wall.as_secs_f64()).collect(),
            unit: Unit::Seconds,
            processor: Some(Duration::from_secs_f64(median(&processor))),
            memory_bytes: runs.iter().filter_map(|run| run.memory_bytes).max(),
        }
    }

    /// The wall clock for each of so many recipients.
    pub fn wall_each(runs: &Runs, recipients_count: u64) -> Side {
        let each = |run: &crate::timed::Timed| run.wall.as_secs_f64() / recipients_count as f64;
        Side::numbers(runs.iter().map(each), Unit::SecondsPerRecipient)
    }

    /// The processor time for each of so many recipients.
    pub fn processor_each(runs: &Runs, recipients_count: u64) -> Side {
        let each =
            |run: &crate::timed::Timed| run.processor.as_secs_f64() / recipients_count as f64;
        Side::numbers(runs.iter().map(each), Unit::SecondsPerRecipient)
    }

    /// The peak memory of runs.
    pub fn memory(runs: &Runs) -> Side {
        let bytes = runs.iter().filter_map(|run| run.memory_bytes);
        Side::numbers(bytes.map(|bytes| bytes as f64), Unit::Bytes)
    }

    /// A size that is always the same.
    pub fn bytes(bytes: u64) -> Side {
        Side::numbers([bytes as f64], Unit::Bytes)
    }

    fn numbers(numbers: impl IntoIterator<Item = f64>, unit: Unit) -> Side {
        Side {
            numbers: numbers.into_iter().collect(),
            unit,
            processor: None,
            memory_bytes: None,
        }
    }

    fn text(&self) -> String {
        let least = self.numbers.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.numbers.iter().copied().fold(0.0, f64::max);
        let [middle, least, most] =
            [median(&self.numbers), least, most].map(|number| self.unit.text(number));
        if self.numbers.len() == 1 {
            middle
        } else {
            format!("{middle} [{least} .. {most}]")
        }
    }

    fn costs(&self) -> String {
        let processor = self.processor;
        let processor = processor.map(|time| Unit::Seconds.text(time.as_secs_f64()));
        let memory = self
            .memory_bytes
            .map(|bytes| Unit::Bytes.text(bytes as f64));
        let parts: Vec<String> = processor.into_iter().chain(memory).collect();
        parts.join(", ")
    }
}

impl Unit {
    fn text(self, number: f64) -> String {
        match self {
            Unit::Seconds if number < 1.0 => format!("{:.1} ms", number * 1e3),
            Unit::Seconds => format!("{number:.2} s"),
            Unit::SecondsPerRecipient => format!("{:.2} µs", number * 1e6),
            Unit::Bytes => format!("{:.1} MiB", number / f64::from(1 << 20)),
        }
    }
}

impl Line {
    /// Ours in parts of theirs, by their medians.
    pub fn ratio(&self) -> Option<f64> {
        let theirs = self.theirs.as_ref()?;
        Some(median(&self.ours.numbers) / median(&theirs.numbers))
    }

    /// The line in Markdown.
    pub fn markdown(&self) -> String {
        let ratio = self.ratio();
        let (aim, is_met) = match (self.aim, ratio) {
            (Aim::AtMost(most), Some(ratio)) => (format!("{most}"), answer(ratio <= most)),
            (Aim::Same, Some(ratio)) => ("1.0".to_owned(), answer(ratio <= SAME_MAX)),
            (Aim::AtMost(_) | Aim::Same, None) | (Aim::Report, _) => (String::new(), ""),
        };
        let theirs = self.theirs.as_ref();
        format!(
            "| {} | {} | {} | {} | {} | {} | {} | {aim} | {is_met} |",
            self.row,
            self.work,
            self.ours.text(),
            self.ours.costs(),
            theirs.map(Side::text).unwrap_or_default(),
            theirs.map(Side::costs).unwrap_or_default(),
            ratio.map(|ratio| format!("{ratio:.3}")).unwrap_or_default(),
        )
    }
}

fn answer(is_met: bool) -> &'static str {
    if is_met { "yes" } else { "**no**" }
}

/// The whole file.
pub fn page(head: &str, lines: &[Line]) -> String {
    let mut page = head.to_owned();
    page.push_str(
        "\n| row | work | ours | processor, memory | theirs | processor, memory | ratio | at most | met |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for line in lines {
        // Writing to a text cannot fail.
        let _ = writeln!(page, "{}", line.markdown());
    }
    page
}

fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.get(middle), sorted.len() % 2) {
        (None, _) => f64::NAN,
        (Some(odd), 1) => *odd,
        (Some(upper), _) => (upper + sorted[middle - 1]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(ours: &[f64], theirs: &[f64], aim: Aim, expected: &str) {
        let side = |numbers: &[f64]| Side::numbers(numbers.iter().copied(), Unit::Seconds);
        let line = Line {
            row: 1,
            work: "work".to_owned(),
            ours: side(ours),
            theirs: Some(side(theirs)),
            aim,
        };
        assert_eq!(line.markdown(), expected);
    }

    #[test]
    fn a_line_tells_medians_spread_and_whether_the_aim_is_met() {
        check(
            &[3.0, 1.0, 2.0],
            &[4.0, 4.0, 5.0],
            Aim::AtMost(0.5),
            "| 1 | work | 2.00 s [1.00 s .. 3.00 s] |  | 4.00 s [4.00 s .. 5.00 s] |  | 0.500 | 0.5 | yes |",
        );
        check(
            &[0.5],
            &[0.25],
            Aim::Same,
            "| 1 | work | 500.0 ms |  | 250.0 ms |  | 2.000 | 1.0 | **no** |",
        );
        check(
            &[1.0, 2.0],
            &[1.0],
            Aim::Report,
            "| 1 | work | 1.50 s [1.00 s .. 2.00 s] |  | 1.00 s |  | 1.500 |  |  |",
        );
    }
}
