//! A page: lines laid out for a person, no wider than the terminal that shows them.
//!
//! On a terminal a sentence is broken between its words, and goes on below its own beginning. Into a file or a program it
//! stays one line, so that `grep` finds it whole and a log keeps it in one piece. Nothing is ever cut, and no word is broken:
//! an address or a path that is wider than the terminal can still be copied. Not here: what is said (`text` and its
//! neighbours), and what makes strings from elsewhere harmless (`key`); what comes here is harmless already.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;

use anstyle::Style;
use textwrap::core::display_width;
use textwrap::{Options, WordSeparator, WordSplitter, WrapAlgorithm};

use super::PLAIN;

/// Longer lines are hard to read, however wide the terminal is.
const COLUMNS_MAX: usize = 100;
/// A terminal that is narrower, or does not say how wide it is.
const COLUMNS_MIN: usize = 40;
const COLUMNS_UNTOLD: usize = 80;
/// A first column is no wider than that; what is longer has a line of its own.
const FIRST_COLUMN_MAX: usize = 44;

/// Where lines go, and how wide they may be.
pub struct Page<'out> {
    out: &'out mut dyn Write,
    /// `None`: no terminal, and a sentence is a line.
    columns: Option<usize>,
}

/// A cell of a table: how it looks, and what it says.
pub type Cell = (Style, String);

/// How the cells of a column stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Figures.
    Right,
}

impl<'out> Page<'out> {
    /// A page on standard output, which `out` writes to.
    pub fn stdout(out: &'out mut dyn Write) -> Page<'out> {
        let columns = columns_of(&std::io::stdout());
        Page { out, columns }
    }

    /// A page on standard error, which `out` writes to.
    pub fn stderr(out: &'out mut dyn Write) -> Page<'out> {
        let columns = columns_of(&std::io::stderr());
        Page { out, columns }
    }

    /// An empty line.
    pub fn blank(&mut self) -> io::Result<()> {
        writeln!(self.out)
    }

    /// A line that is not broken: a heading, a row, an address.
    pub fn line(&mut self, text: impl std::fmt::Display) -> io::Result<()> {
        writeln!(self.out, "{text}")
    }

    /// A sentence behind `before`; what does not fit goes on below the sentence. Line ends in it are kept, and so is a line
    /// that begins with a space: something to be copied.
    pub fn hanging(&mut self, before: &str, text: &str) -> io::Result<()> {
        let below = " ".repeat(display_width(before));
        let mut before = before;
        for line in text.lines() {
            match self.columns {
                Some(columns) if !line.starts_with(' ') => {
                    let options = Options::new(columns)
                        .initial_indent(before)
                        .subsequent_indent(&below)
                        .break_words(false)
                        .word_separator(WordSeparator::AsciiSpace)
                        .word_splitter(WordSplitter::NoHyphenation)
                        .wrap_algorithm(WrapAlgorithm::FirstFit);
                    for wrapped in textwrap::wrap(line, options) {
                        writeln!(self.out, "{}", wrapped.trim_end())?;
                    }
                }
                Some(_) | None => writeln!(self.out, "{before}{line}")?,
            }
            before = &below;
        }
        Ok(())
    }

    /// Rows of cells, each column as wide as its widest cell, two columns apart; what stands in the last column is broken like
    /// a sentence.
    pub fn table(&mut self, indent: &str, aligns: &[Align], rows: &[Vec<Cell>]) -> io::Result<()> {
        let last = aligns.len().saturating_sub(1);
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            let widths = cells.map(|(_, text)| display_width(text));
            let is_short = |width: &usize| column > 0 || *width <= FIRST_COLUMN_MAX;
            widths.filter(is_short).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..aligns.len()).map(width).collect();
        for row in rows {
            let mut line = indent.to_owned();
            for (column, (style, text)) in row.iter().enumerate() {
                let (align, width) = (aligns[column], widths[column]);
                let style = if text.is_empty() { &PLAIN } else { style };
                let mut padding = " ".repeat(width.saturating_sub(display_width(text)));
                if column == 0 && display_width(text) > width {
                    writeln!(self.out, "{indent}{style}{text}{style:#}")?;
                    line.push_str(&" ".repeat(width + 2));
                    continue;
                }
                if column == last && align == Align::Left && !text.is_empty() {
                    let text = format!("{style}{text}{style:#}");
                    self.hanging(&line, &text)?;
                    line.clear();
                    break;
                }
                if align == Align::Right {
                    line.push_str(&std::mem::take(&mut padding));
                }
                line.push_str(&format!("{style}{text}{style:#}{padding}  "));
            }
            if !line.is_empty() {
                writeln!(self.out, "{}", line.trim_end())?;
            }
        }
        Ok(())
    }
}

/// How wide lines may be there.
fn columns_of(file: &(impl AsFd + IsTerminal)) -> Option<usize> {
    let told = || {
        let size = rustix::termios::tcgetwinsize(file).ok()?;
        (size.ws_col > 0).then_some(usize::from(size.ws_col))
    };
    file.is_terminal().then(|| {
        told()
            .unwrap_or(COLUMNS_UNTOLD)
            .clamp(COLUMNS_MIN, COLUMNS_MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::BAD;

    #[track_caller]
    fn check(columns: Option<usize>, write: impl FnOnce(&mut Page<'_>), expected: &str) {
        let mut out = Vec::new();
        let out_ref: &mut dyn Write = &mut out;
        let mut page = Page {
            out: out_ref,
            columns,
        };
        write(&mut page);
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }

    #[test]
    fn a_sentence_goes_on_below_itself() {
        let sentence = |text: &'static str| {
            move |page: &mut Page<'_>| page.hanging("why:  ", text).expect("written")
        };
        for (columns, text, expected) in [
            (
                Some(20),
                "one two three four",
                "why:  one two three\n      four\n",
            ),
            (None, "one two three four", "why:  one two three four\n"),
            // Columns, not characters and not octets.
            (
                Some(14),
                "日本 日本 äöü äöü",
                "why:  日本\n      日本 äöü\n      äöü\n",
            ),
            // What is to be copied is in one piece.
            (
                Some(14),
                "a-very-long-name@example.com b",
                "why:  a-very-long-name@example.com\n      b\n",
            ),
            (
                Some(14),
                "one\n  two three four",
                "why:  one\n        two three four\n",
            ),
            (Some(14), "", ""),
        ] {
            check(columns, sentence(text), expected);
        }
        let styled = format!("{BAD}why:{BAD:#}  ");
        let write = |page: &mut Page<'_>| page.hanging(&styled, "one two three").expect("written");
        check(Some(14), write, &format!("{styled}one two\n      three\n"));
    }

    #[test]
    fn columns_stand_below_each_other() {
        let plain = |text: &str| (Style::new(), text.to_owned());
        let long = format!("{}.example", "l".repeat(60));
        let rows = [
            vec![plain("日本"), plain("1"), plain("x")],
            vec![plain("b.example"), plain("1,204"), plain("one two three")],
            vec![plain(&long), plain("7")],
        ];
        let write = |page: &mut Page<'_>| {
            let aligns = [Align::Left, Align::Right, Align::Left];
            page.table("  ", &aligns, &rows).expect("written");
        };
        let expected = format!(
            "  日本           1  x\n  b.example  1,204  one two\n                    three\n  {long}\n                 7\n"
        );
        check(Some(29), write, &expected);
    }
}
