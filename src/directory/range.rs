//! Attributes that come in pieces: `proxyAddresses;range=0-1499`, then the rest by asking for it.
//!
//! Active Directory gives at most MaxValRange values (1,500 unless changed) of an attribute at once and puts the range
//! in the attribute's name; a reader that looks for the plain name finds nothing, and all addresses of that object would
//! vanish. [`complete`] fetches the rest until the answer says `-*` and puts the plain name back.
//!
//! Invariant: the pieces follow each other without a gap from 0 to the end, or it is an error.

use crate::entry::Entry;

use super::failure::{Cause, Step, Trouble};
use super::paged::Budget;
use super::session::Session;

/// A range as an attribute's name tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The number of the first value, from 0.
    pub from: u32,
    /// That of the last one; `None` is `*`: up to the last value there is.
    pub to: Option<u32>,
}

/// Whether some of the entry's attributes came in pieces.
pub fn has_range(entry: &Entry) -> bool {
    entry.names().any(is_ranged)
}

/// Fetches what is missing of every attribute asked for.
pub async fn complete(
    session: &mut Session,
    entry: &Entry,
    asked: &[&str],
) -> Result<Entry, Trouble> {
    let mut budget = Budget::default();
    let mut whole = entry.only(|name| !is_ranged(name));
    for name in entry.names() {
        let Some((base_name, _)) = split_name(name) else {
            continue;
        };
        let Some(attribute) = asked
            .iter()
            .find(|asked| asked.eq_ignore_ascii_case(base_name))
        else {
            continue;
        };
        let trouble = |cause| {
            let step = Step::Range {
                dn: entry.dn().to_owned(),
                attribute: (*attribute).to_owned(),
            };
            Trouble::new(step, cause)
        };
        // The plain name comes along without values; with some, the two would contradict each other.
        if whole.values(attribute).next().is_some() {
            return Err(trouble(Cause::Entry(
                "an attribute both whole and in pieces",
            )));
        }
        let values = fetch(session, attribute, entry, &mut budget)
            .await
            .map_err(trouble)?;
        whole.add_name(attribute);
        values.iter().for_each(|value| whole.add_value(value));
    }
    Ok(whole)
}

async fn fetch(
    session: &mut Session,
    attribute: &str,
    entry: &Entry,
    budget: &mut Budget,
) -> Result<Vec<Vec<u8>>, Cause> {
    let mut values = Vec::new();
    let mut next_piece = piece(entry, attribute);
    loop {
        let expected_from = u32::try_from(values.len()).unwrap_or(u32::MAX);
        let mut piece_found = next_piece.ok_or(Cause::RangeVanished { expected_from })?;
        let is_last = check_piece(&piece_found, expected_from)?;
        values.append(&mut piece_found.1);
        if is_last {
            return Ok(values);
        }
        let wanted = format!("{attribute};range={}-*", values.len());
        let found = session.read_entry(entry.dn(), vec![wanted]).await?;
        if found
            .iter()
            .any(|found| !found.dn().eq_ignore_ascii_case(entry.dn()))
        {
            return Err(Cause::Entry("another entry than the one asked for"));
        }
        next_piece = found.iter().find_map(|entry| piece(entry, attribute));
        if let Some((_, values)) = &next_piece {
            budget.spend_values(values)?;
        }
    }
}

/// The first piece of an attribute that an entry has, with its name.
fn piece(entry: &Entry, attribute: &str) -> Option<(String, Vec<Vec<u8>>)> {
    let is_wanted = |name: &&str| {
        split_name(name).is_some_and(|(base, _)| base.eq_ignore_ascii_case(attribute))
    };
    let name = entry.names().find(is_wanted)?;
    let values = entry.values(name).map(<[u8]>::to_vec).collect();
    Some((name.to_owned(), values))
}

/// Whether the piece begins where the one before ended and holds what its name says; `true` if it is the last one.
fn check_piece(piece: &(String, Vec<Vec<u8>>), expected_from: u32) -> Result<bool, Cause> {
    let (name, values) = piece;
    let gap = || Cause::RangeGap {
        expected_from,
        found: super::failure::safe(name),
    };
    let (_, range) = split_name(name).ok_or_else(gap)?;
    let range = range.ok_or_else(gap)?;
    if range.from != expected_from {
        return Err(gap());
    }
    let Some(to) = range.to else {
        return Ok(true);
    };
    let count = to.checked_sub(range.from).ok_or_else(gap)?;
    if usize::try_from(count).is_ok_and(|count| values.len() == count + 1) {
        Ok(false)
    } else {
        Err(Cause::RangeCount {
            found: super::failure::safe(name),
            count: values.len(),
        })
    }
}

fn is_ranged(name: &str) -> bool {
    split_name(name).is_some()
}

/// Splits `name;range=0-1499`. `None` where the name has no such option; an inner `None` where the range is no range.
pub fn split_name(name: &str) -> Option<(&str, Option<Range>)> {
    const OPTION: &str = "range=";
    let (base, options) = name.split_once(';')?;
    let range = options.split(';').find_map(|option| {
        let (key, range) = option.split_at_checked(OPTION.len())?;
        key.eq_ignore_ascii_case(OPTION).then_some(range)
    })?;
    Some((base, parse_range(range)))
}

fn parse_range(text: &str) -> Option<Range> {
    let number = |text: &str| {
        let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        is_plain.then(|| text.parse().ok()).flatten()
    };
    let (from, to) = text.split_once('-')?;
    let to = match to {
        "*" => None,
        to => Some(number(to)?),
    };
    Some(Range {
        from: number(from)?,
        to,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, expected_from: u32, values_count: usize, expected: &str) {
        let piece = (name.to_owned(), vec![vec![]; values_count]);
        let found = match check_piece(&piece, expected_from) {
            Ok(true) => "last".to_owned(),
            Ok(false) => "more".to_owned(),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn pieces_follow_each_other() {
        check("proxyAddresses;range=0-1499", 0, 1500, "more");
        check("PROXYADDRESSES;Range=1500-*", 1500, 3, "last");
        check("proxyAddresses;range=1500-*", 1500, 0, "last");
        check("proxyAddresses;x-y;range=0-0", 0, 1, "more");
        check(
            "a;range=1501-*",
            1500,
            3,
            "the range a;range=1501-* came where one from 1500 belongs",
        );
        check(
            "a;range=0-9",
            0,
            9,
            "the range a;range=0-9 came with 9 values",
        );
        for broken in [
            "range=",
            "range=0",
            "range=+0-*",
            "range=0-1-2",
            "range=0--1",
        ] {
            let expected = format!("the range a;{broken} came where one from 0 belongs");
            check(&format!("a;{broken}"), 0, 1, &expected);
        }
        check(
            "a;range=9-0",
            9,
            1,
            "the range a;range=9-0 came where one from 9 belongs",
        );
    }

    #[test]
    fn only_a_range_is_a_range() {
        assert_eq!(split_name("proxyAddresses"), None);
        assert_eq!(split_name("userCertificate;binary"), None);
        assert_eq!(split_name("a;rangé=0-*"), None);
        assert_eq!(
            split_name("a;RANGE=7-*"),
            Some(("a", Some(Range { from: 7, to: None })))
        );
    }
}
