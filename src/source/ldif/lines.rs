//! The lines of an LDIF text, unfolded: a line that begins with one space continues the one before it.
//!
//! Comments are folded like attributes (RFC 2849 note 2), so that a folded comment is one comment. Not here: what a
//! line means.

use std::borrow::Cow;
use std::iter::Peekable;

use super::LdifError;

/// Walks through a text line by line.
pub(super) struct Lines<'text> {
    rest: Peekable<std::iter::Zip<std::ops::RangeFrom<usize>, std::str::Lines<'text>>>,
}

impl<'text> Lines<'text> {
    pub(super) fn of(text: &'text str) -> Self {
        Lines {
            rest: (1..).zip(text.lines()).peekable(),
        }
    }

    /// Whether the next line begins an entry.
    pub(super) fn entry_is_next(&mut self) -> bool {
        let next = self.rest.peek();
        next.and_then(|(_, line)| line.get(..3))
            .is_some_and(|name| name.eq_ignore_ascii_case("dn:"))
    }

    /// The next whole line, with the number of the physical line it begins on.
    pub(super) fn next_unfolded(&mut self) -> Result<Option<(usize, Cow<'text, str>)>, LdifError> {
        let Some((line, first)) = self.rest.next() else {
            return Ok(None);
        };
        if first.starts_with(' ') {
            return Err(LdifError::ContinuesNothing { line });
        }
        let mut whole = Cow::Borrowed(first);
        if first.is_empty() {
            return Ok(Some((line, whole)));
        }
        while let Some((_, next)) = self.rest.next_if(|(_, next)| next.starts_with(' ')) {
            whole.to_mut().push_str(&next[1..]);
        }
        Ok(Some((line, whole)))
    }
}
