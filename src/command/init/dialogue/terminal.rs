//! Questions and answers: plain lines, one below the other, as a serial console and a screen reader take them.
//!
//! No library for prompts: those move a cursor, and read keys one by one. The terminal's own line editing is used as it is; for a
//! password it does not show the line. Ctrl-C ends the line like Enter does, so that it is an answer like others and the terminal is
//! put back before anything else happens. Without a terminal nothing is asked: what is proposed is taken.
//!
//! Invariant: when [`Terminal::ask`] and [`Terminal::secret`] return, the terminal is as it was; what is said is printable.

use std::io::{self, BufRead, Write};

use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};

use crate::command::init::refused;
use crate::error::{Failure, Result};
use crate::exit::Exit;
use crate::harmless;

const CTRL_C: u8 = 3;

/// Of a terminal that nobody has widened; the last column stays free.
const COLUMNS_MAX: usize = 79;

/// A longer line is no answer to anything that is asked here.
const LINE_OCTETS_MAX: usize = 16 * 1024;

/// Where it is asked, or only told.
pub struct Terminal<'run> {
    out: &'run mut dyn Write,
    asks: bool,
}

/// A question.
pub struct Question<'text> {
    /// The option that answers it, too.
    pub option: &'static str,
    /// What is asked.
    pub text: &'text str,
    /// What Enter means.
    pub proposal: Option<String>,
}

impl<'run> Terminal<'run> {
    /// Asks a person.
    pub fn asking(out: &'run mut dyn Write) -> Self {
        Terminal { out, asks: true }
    }

    /// Asks nobody.
    pub fn silent(out: &'run mut dyn Write) -> Self {
        Terminal { out, asks: false }
    }

    /// Whether somebody can be asked.
    pub fn asks(&self) -> bool {
        self.asks
    }

    /// Tells something, line by line.
    pub fn say(&mut self, text: &str) {
        // A reader who has gone away is noticed when something is asked.
        let _ = writeln!(
            self.out,
            "{}",
            wrapped(&harmless::printable(text.as_bytes()))
        );
    }

    /// Tells what is wrong with an answer.
    pub fn tell(&mut self, failure: &Failure) {
        for (mark, text) in [
            ("no:", &failure.what),
            ("   ", &failure.why),
            (" ->", &failure.next),
        ] {
            if !text.is_empty() {
                self.say(&format!("  {mark} {}", text.replace('\n', "; ")));
            }
        }
    }

    /// The first good answer: what an option says, or what somebody types. What is not good is told, and asked again; where
    /// nobody can be asked, it is the end.
    pub fn ask<Answer>(
        &mut self,
        question: &Question<'_>,
        mut given: Option<String>,
        mut take: impl FnMut(&mut Self, &str) -> Result<Answer>,
    ) -> Result<Answer> {
        loop {
            let answer = match given.take() {
                Some(answer) => answer,
                None => self.typed(question)?,
            };
            match take(self, answer.trim()) {
                Ok(taken) => return Ok(taken),
                Err(mut failure) if !self.asks => {
                    if failure.place.is_empty() {
                        failure.place = question.option.to_owned();
                    }
                    return Err(failure);
                }
                Err(failure) => self.tell(&failure),
            }
        }
    }

    fn typed(&mut self, question: &Question<'_>) -> Result<String> {
        if !self.asks {
            let missing = || {
                refused(
                    Exit::Usage,
                    "an answer is missing, and nobody can be asked",
                    question.option,
                    "nothing is proposed for it",
                    &format!("give {}", question.option),
                )
            };
            return question.proposal.clone().ok_or_else(missing);
        }
        let proposal = question.proposal.as_deref();
        let answer_line = match proposal {
            Some(proposal) => format!("  [{proposal}] > "),
            None => "  > ".to_owned(),
        };
        let prompt = format!("\n{}\n{answer_line}", wrapped(question.text));
        loop {
            let line = self.line(&prompt, true)?;
            match (line.trim(), proposal) {
                ("", Some(proposal)) => return Ok(proposal.to_owned()),
                ("", None) => {}
                (line, _) => return Ok(line.to_owned()),
            }
        }
    }

    /// A line that is not shown.
    pub fn secret(&mut self, prompt: &str) -> Result<String> {
        self.line(&format!("{prompt}\n  > "), false)
    }

    fn line(&mut self, prompt: &str, is_shown: bool) -> Result<String> {
        let lost = |error: io::Error| given_up(&error.to_string());
        let mode = Mode::of_a_question(is_shown).map_err(lost)?;
        let asked = write!(self.out, "{}", harmless::printable(prompt.as_bytes()));
        let read = asked
            .and_then(|()| self.out.flush())
            .and_then(|()| read_line());
        drop(mode);
        let line = read.map_err(lost)?;
        let line = match line {
            Line::Typed(line) => line,
            Line::End => return Err(self.left("the input has ended")),
            Line::Interrupted => return Err(self.left("Ctrl-C")),
        };
        String::from_utf8(line).map_err(|_| given_up("the answer is not UTF-8"))
    }

    fn left(&mut self, why: &str) -> Box<Failure> {
        let _ = writeln!(self.out);
        given_up(why)
    }
}

/// Lines that fit; what follows a break stands as far to the right as its line.
fn wrapped(text: &str) -> String {
    text.lines()
        .map(wrapped_line)
        .collect::<Vec<_>>()
        .join("\n")
}

fn wrapped_line(line: &str) -> String {
    let indent = &line[..line.len() - line.trim_start().len()];
    if line.chars().count() <= COLUMNS_MAX {
        return line.to_owned();
    }
    // Columns are those of a table only where a line fits.
    let mut wrapped = indent.to_owned();
    let mut column = indent.len();
    for word in line.split_whitespace() {
        let width = word.chars().count();
        if column > indent.len() && column + 1 + width > COLUMNS_MAX {
            wrapped.push('\n');
            wrapped.push_str(indent);
            column = indent.len();
        }
        if column > indent.len() {
            wrapped.push(' ');
            column += 1;
        }
        wrapped.push_str(word);
        column += width;
    }
    wrapped
}

fn given_up(why: &str) -> Box<Failure> {
    let mut failure = refused(
        Exit::Usage,
        "the questions were not answered to their end",
        "standard input",
        why,
        "run it again when you like; every answer can be an option, too: `rcptsync init --help`",
    );
    failure.in_force = "nothing was written".into();
    failure
}

enum Line {
    Typed(Vec<u8>),
    End,
    Interrupted,
}

/// One line, without its end.
fn read_line() -> io::Result<Line> {
    let mut input = io::stdin().lock();
    let mut line = Vec::new();
    loop {
        // A terminal gives a line at a time.
        let octets = match input.fill_buf() {
            Ok(octets) => octets,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if octets.is_empty() {
            return Ok(if line.is_empty() {
                Line::End
            } else {
                Line::Typed(line)
            });
        }
        let end = octets
            .iter()
            .position(|octet| matches!(octet, b'\n' | &CTRL_C));
        let taken = end.map_or(octets.len(), |end| end + 1);
        let last = octets[taken - 1];
        line.extend_from_slice(&octets[..taken]);
        input.consume(taken);
        if last == CTRL_C {
            return Ok(Line::Interrupted);
        }
        if last == b'\n' {
            line.pop();
            return Ok(Line::Typed(line));
        }
        if line.len() > LINE_OCTETS_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}

/// The mode of the terminal while a question stands there; dropped, it is as it was before.
struct Mode {
    before: Termios,
}

impl Mode {
    fn of_a_question(is_shown: bool) -> io::Result<Mode> {
        let before = tcgetattr(io::stdin())?;
        let mut during = before.clone();
        during.local_modes.remove(LocalModes::ISIG);
        during.special_codes[SpecialCodeIndex::VEOL] = CTRL_C;
        if !is_shown {
            during.local_modes.remove(LocalModes::ECHO);
            during.local_modes.insert(LocalModes::ECHONL);
        }
        tcsetattr(io::stdin(), OptionalActions::Drain, &during)?;
        Ok(Mode { before })
    }
}

impl Drop for Mode {
    fn drop(&mut self) {
        // A terminal that has gone away needs nothing.
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit() {
        let word = "0123456789abcdef";
        let five = format!("  {}", [word; 5].join(" "));
        let broken = format!("  {}\n  {word}", [word; 4].join(" "));
        let long = "0".repeat(100);
        for (text, expected) in [
            ("a  b\n\n  c", "a  b\n\n  c"),
            (&five, &broken),
            (&long, &long),
        ] {
            assert_eq!(wrapped(text), expected);
        }
    }
}
