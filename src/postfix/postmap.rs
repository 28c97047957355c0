//! `postmap`: building tables, looking keys up, listing rows.
//!
//! Its exit status proves little (it is 0 when lines were dropped), so whoever builds asks afterwards. Keys are octets here:
//! postmap is told neither to fold them (`-f`) nor to look for UTF-8 (`-u`), whatever main.cf says, because the rows are
//! folded already. A table is named relative to a directory, and always with its type.
//!
//! Not here: where a table is built, and what must be in it (`publish::built`).

use std::io::{self, BufRead, Write};
use std::path::Path;
use std::time::Duration;

use super::program::{Ended, ProgramError, Setting, converse, introduced};
use crate::config::MapType;
use crate::hook::status_text;

/// Why postmap did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PostmapError {
    /// It could not be run to its end.
    #[error("postmap {0}")]
    Program(#[from] ProgramError),
    /// It ended with a failure.
    #[error("postmap ended with {status}{said}", said = introduced(said))]
    Failed {
        /// Exit code or signal.
        status: String,
        /// The end of what it said.
        said: String,
    },
    /// It answered something that is no row.
    #[error("postmap answered {line:?} where a row belongs")]
    NoRow {
        /// The line.
        line: String,
    },
    /// Its answer broke off.
    #[error("the answer of postmap could not be read: {0}")]
    Unread(#[from] io::Error),
}

/// A table that postmap works on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Map<'map> {
    /// The directory.
    pub(crate) directory: &'map Path,
    /// The type.
    pub(crate) map_type: MapType,
    /// The name, without the suffix of the type.
    pub(crate) name: &'map str,
}

impl Map<'_> {
    /// Builds the table from the text of its name. Gives what postmap said: a line that it dropped is told there alone.
    pub(crate) fn build(&self, limit: Duration) -> Result<String, PostmapError> {
        let ended = self.run(&["-u", "-f"], limit, |_| Ok(()), |_| ())?;
        succeeded(&ended)?;
        Ok(ended.said)
    }

    /// Looks keys up, and tells the rows found in the order of the keys. `tell` writes the keys, each with its line end.
    pub(crate) fn look_up(
        &self,
        limit: Duration,
        tell: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send,
        each: impl FnMut(&[u8], &[u8]) + Send,
    ) -> Result<(), PostmapError> {
        let hear = |answer: &mut dyn BufRead| each_row(answer, each);
        let ended = self.run(&["-u", "-f", "-q", "-"], limit, tell, hear)?;
        let rows_count = ended.heard.as_ref().copied().unwrap_or(1);
        // "Nothing found" is an exit status, too; it then says nothing.
        let is_nothing_found =
            rows_count == 0 && ended.status.code() == Some(1) && ended.said.is_empty();
        if !is_nothing_found {
            succeeded(&ended)?;
        }
        ended.heard.map(|_| ())
    }

    /// Tells every row, in the order of the table.
    pub(crate) fn list(
        &self,
        limit: Duration,
        each: impl FnMut(&[u8], &[u8]) + Send,
    ) -> Result<(), PostmapError> {
        let hear = |answer: &mut dyn BufRead| each_row(answer, each);
        let ended = self.run(&["-u", "-f", "-s"], limit, |_| Ok(()), hear)?;
        succeeded(&ended)?;
        ended.heard.map(|_| ())
    }

    fn run<Heard: Send>(
        &self,
        options: &[&str],
        limit: Duration,
        tell: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send,
        hear: impl FnOnce(&mut dyn BufRead) -> Heard + Send,
    ) -> Result<Ended<Heard>, PostmapError> {
        let map = format!("{}:{}", self.map_type.name(), self.name);
        let arguments = [options, &[map.as_str()]].concat();
        let setting = Setting {
            directory: self.directory,
            account: None,
            limit,
        };
        let ended = converse("postmap", &arguments, &setting, tell, hear)?;
        if !ended.said.is_empty() {
            tracing::debug!("postmap {}: {}", arguments.join(" "), ended.said);
        }
        Ok(ended)
    }
}

fn succeeded<Heard>(ended: &Ended<Heard>) -> Result<(), PostmapError> {
    if ended.status.success() {
        return Ok(());
    }
    Err(PostmapError::Failed {
        status: status_text(ended.status),
        said: ended.said.clone(),
    })
}

/// Tells the rows of an answer, `key<TAB>value` lines, and gives how many there were.
fn each_row(
    answer: &mut dyn BufRead,
    mut each: impl FnMut(&[u8], &[u8]),
) -> Result<usize, PostmapError> {
    let (mut line, mut count) = (Vec::new(), 0);
    while answer.read_until(b'\n', &mut line)? > 0 {
        line.pop_if(|last| *last == b'\n');
        let tab = line.iter().position(|octet| *octet == b'\t');
        let Some(tab) = tab else {
            let line = String::from_utf8_lossy(&line).into_owned();
            return Err(PostmapError::NoRow { line });
        };
        each(&line[..tab], &line[tab + 1..]);
        count += 1;
        line.clear();
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(answer: &[u8], expected: &[(&[u8], &[u8])]) {
        let mut rows = Vec::new();
        let each = |key: &[u8], value: &[u8]| rows.push((key.to_vec(), value.to_vec()));
        let count = each_row(&mut &*answer, each).expect("rows");
        let expected: Vec<_> = (expected.iter())
            .map(|(key, value)| (key.to_vec(), value.to_vec()))
            .collect();
        assert_eq!((rows, count), (expected.clone(), expected.len()));
    }

    #[test]
    fn an_answer_is_taken_apart_at_the_first_tab() {
        check(b"", &[]);
        check(
            b"a@x\tOK\n\"b c\"@x\tOK\tmore\n",
            &[(b"a@x", b"OK"), (b"\"b c\"@x", b"OK\tmore")],
        );
        check(
            b"\xff@x\t\nlast@x\tOK",
            &[(b"\xff@x", b""), (b"last@x", b"OK")],
        );
        let no_row = each_row(&mut &b"a@x\tOK\nb@x\n"[..], |_, _| ());
        assert!(
            matches!(&no_row, Err(PostmapError::NoRow { line }) if line == "b@x"),
            "{no_row:?}"
        );
    }
}
