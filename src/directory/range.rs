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
struct Range {
    from: u32,
    // `None` is `*`: up to the last value there is.
    to: Option<u32>,
}

/// Whether some of the entry's attributes came in pieces.
pub fn has_range(entry: &Entry) -> bool {
    entry
        .attributes
        .iter()
        .any(|(name, _)| split_name(name).is_some())
}

/// Fetches what is missing of every attribute asked for.
pub async fn complete(
    session: &mut Session,
    mut entry: Entry,
    asked: &[&str],
    budget: &mut Budget,
) -> Result<Entry, Trouble> {
    let (ranged, plain): (Vec<_>, Vec<_>) = std::mem::take(&mut entry.attributes)
        .into_iter()
        .partition(|(name, _)| split_name(name).is_some());
    entry.attributes = plain;
    for (name, values) in ranged {
        let base_name = split_name(&name).map_or("", |(base_name, _)| base_name);
        let Some(attribute) = asked
            .iter()
            .find(|asked| asked.eq_ignore_ascii_case(base_name))
        else {
            continue;
        };
        let trouble = |cause| {
            let step = Step::Range {
                dn: entry.dn.clone(),
                attribute: (*attribute).to_owned(),
            };
            Trouble::new(step, cause)
        };
        // The plain name comes along without values; with some, the two would contradict each other.
        if entry.values(attribute).next().is_some() {
            return Err(trouble(Cause::Entry(
                "an attribute both whole and in pieces",
            )));
        }
        let values = fetch(session, &entry.dn, attribute, (name, values), budget)
            .await
            .map_err(trouble)?;
        entry.attributes.push(((*attribute).to_owned(), values));
    }
    Ok(entry)
}

async fn fetch(
    session: &mut Session,
    dn: &str,
    attribute: &str,
    first: (String, Vec<Vec<u8>>),
    budget: &mut Budget,
) -> Result<Vec<Vec<u8>>, Cause> {
    let mut values = Vec::new();
    let mut piece = first;
    loop {
        let expected_from = u32::try_from(values.len()).unwrap_or(u32::MAX);
        let is_last = check_piece(&piece, expected_from)?;
        values.append(&mut piece.1);
        if is_last {
            return Ok(values);
        }
        let next_from = values.len();
        let wanted = format!("{attribute};range={next_from}-*");
        let found = session.read_entry(dn, vec![wanted]).await?;
        let pieces = found.into_iter().flat_map(|entry| entry.attributes);
        piece = pieces
            .into_iter()
            .find(|(name, _)| {
                split_name(name).is_some_and(|(base, _)| base.eq_ignore_ascii_case(attribute))
            })
            .ok_or(Cause::RangeVanished {
                expected_from: u32::try_from(next_from).unwrap_or(u32::MAX),
            })?;
        budget.spend_values(&piece.1)?;
    }
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

/// Splits `name;range=0-1499`. `None` where the name has no such option; an inner `None` where the range is no range.
fn split_name(name: &str) -> Option<(&str, Option<Range>)> {
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
