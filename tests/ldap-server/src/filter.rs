//! Search filters: as much of them as a reader of recipients sends, compared without case as Active Directory does.
//!
//! Not here: undefined results. What an entry does not have does not match, and its negation does.

use crate::Object;
use crate::ber::Reader;

/// A filter as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Filter {
    And(Vec<Filter>),
    Or(Vec<Filter>),
    Not(Box<Filter>),
    Equal(String, Vec<u8>),
    /// Beginning, parts in between, end.
    Substrings(String, Vec<(u8, Vec<u8>)>),
    Present(String),
    /// Of a kind that matches nothing here.
    Other,
}

const INITIAL: u8 = 0x80;
const FINAL: u8 = 0x82;

impl Filter {
    /// From a tag and its content; `None` when it is broken.
    pub(crate) fn parse(tag: u8, content: &[u8]) -> Option<Filter> {
        let mut reader = Reader(content);
        match tag {
            0xa0 => parse_all(reader).map(Filter::And),
            0xa1 => parse_all(reader).map(Filter::Or),
            0xa2 => {
                let (tag, content) = reader.read()?;
                Some(Filter::Not(Box::new(Filter::parse(tag, content)?)))
            }
            0xa3 => Some(Filter::Equal(
                reader.read_text()?,
                reader.read()?.1.to_ascii_lowercase(),
            )),
            0xa4 => {
                let name = reader.read_text()?;
                let mut reader = Reader(reader.read()?.1);
                let mut parts = Vec::new();
                while let Some((tag, part)) = reader.read() {
                    parts.push((tag, part.to_ascii_lowercase()));
                }
                Some(Filter::Substrings(name, parts))
            }
            0x87 => Some(Filter::Present(
                String::from_utf8_lossy(content).into_owned(),
            )),
            _ => Some(Filter::Other),
        }
    }

    pub(crate) fn matches(&self, object: &Object) -> bool {
        match self {
            Filter::And(all) => all.iter().all(|filter| filter.matches(object)),
            Filter::Or(any) => any.iter().any(|filter| filter.matches(object)),
            Filter::Not(filter) => !filter.matches(object),
            Filter::Equal(name, wanted) => object
                .values(name)
                .iter()
                .any(|value| value.to_ascii_lowercase() == *wanted),
            Filter::Substrings(name, parts) => object
                .values(name)
                .iter()
                .any(|value| has_parts(&value.to_ascii_lowercase(), parts)),
            // Every entry has a class, though nobody wrote it down.
            Filter::Present(name) => {
                name.eq_ignore_ascii_case("objectClass") || !object.values(name).is_empty()
            }
            Filter::Other => false,
        }
    }
}

fn parse_all(mut reader: Reader<'_>) -> Option<Vec<Filter>> {
    let mut filters = Vec::new();
    while let Some((tag, content)) = reader.read() {
        filters.push(Filter::parse(tag, content)?);
    }
    Some(filters)
}

fn has_parts(value: &[u8], parts: &[(u8, Vec<u8>)]) -> bool {
    let mut rest = value;
    for (tag, part) in parts {
        let at = match *tag {
            INITIAL => rest.starts_with(part).then_some(0),
            FINAL => rest
                .ends_with(part)
                .then(|| rest.len().saturating_sub(part.len())),
            _ => (0..=rest.len()).find(|at| rest[*at..].starts_with(part)),
        };
        let Some(at) = at else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ber::element;

    fn text(tag: u8, text: &str) -> Vec<u8> {
        element(tag, &[text.as_bytes()])
    }

    fn equal(name: &str, value: &str) -> Vec<u8> {
        element(0xa3, &[&text(0x04, name), &text(0x04, value)])
    }

    fn substrings(name: &str, parts: &[(u8, &str)]) -> Vec<u8> {
        let parts: Vec<u8> = parts
            .iter()
            .flat_map(|(tag, part)| text(*tag, part))
            .collect();
        element(0xa4, &[&text(0x04, name), &element(0x30, &[&parts])])
    }

    #[track_caller]
    fn check(filter: &[u8], expected: bool) {
        let object = Object {
            attributes: vec![
                ("cn".to_owned(), vec![b"Anna".to_vec()]),
                (
                    "proxyAddresses".to_owned(),
                    vec![b"X500:/o=x".to_vec(), b"SMTP:Anna@example.com".to_vec()],
                ),
                ("mail".to_owned(), vec![]),
            ],
            ..Object::default()
        };
        let (tag, content) = Reader(filter).read().expect("an element");
        let filter = Filter::parse(tag, content).expect("a filter");
        assert_eq!(filter.matches(&object), expected, "{filter:?}");
    }

    #[test]
    fn filters_match_what_they_say() {
        check(&text(0x87, "objectClass"), true);
        check(&text(0x87, "CN"), true);
        check(&text(0x87, "mail"), false);
        check(&text(0x87, "none"), false);
        check(&element(0xa2, &[&text(0x87, "objectClass")]), false);
        check(&equal("cn", "anna"), true);
        check(&equal("cn", "ann"), false);
        check(&substrings("proxyAddresses", &[(0x80, "smtp:")]), true);
        check(&substrings("proxyAddresses", &[(0x80, "sip:")]), false);
        check(
            &substrings("cn", &[(0x80, "a"), (0x81, "n"), (0x82, "na")]),
            true,
        );
        check(&substrings("cn", &[(0x80, "an"), (0x82, "nna")]), false);
        let both = [equal("cn", "anna"), equal("cn", "bernd")].concat();
        check(&element(0xa0, &[&both]), false);
        check(&element(0xa1, &[&both]), true);
        check(&element(0xa9, &[]), false);
    }
}
