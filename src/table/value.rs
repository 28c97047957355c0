//! What a row means to the gateway, and the words in which a table says it. Pure.
//!
//! A row carries its meaning, not its value: the words of a meaning stand once for the whole table, so a changed sentence in
//! the configuration changes no row, and a row costs no octet more. Which meanings a table has follows from its kind
//! (`config::TableKind`).
//!
//! Invariant: a meaning has words, or no row of it is published (`publish::prepare`): an empty value crashes smtpd 3.7.

/// What a row means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Meaning {
    /// An address that somebody answers to.
    #[default]
    Recipient,
    /// An address that refuses senders from outside.
    InternalOnly,
    /// An address whose mailbox is in another mail system.
    Remote,
    /// A whole domain, by explicit configuration.
    Domain,
}

impl Meaning {
    /// All of them, by number.
    pub const ALL: [Meaning; 4] = [
        Meaning::Recipient,
        Meaning::InternalOnly,
        Meaning::Remote,
        Meaning::Domain,
    ];

    /// The number under which it is stored.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The meaning with the last two bits of a number.
    pub fn of_number(number: u8) -> Meaning {
        Meaning::ALL[usize::from(number & 3)]
    }
}

/// The right-hand sides of a table's rows, by meaning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowValues([String; 4]);

impl RowValues {
    /// One value for every row.
    pub fn alike(value: &str) -> RowValues {
        RowValues(Meaning::ALL.map(|_| value.to_owned()))
    }

    /// These, with another value for rows of one meaning.
    pub fn with(mut self, meaning: Meaning, value: &str) -> RowValues {
        self.0[usize::from(meaning.number())] = value.to_owned();
        self
    }

    /// The value of rows of a meaning.
    #[inline]
    pub fn of(&self, meaning: Meaning) -> &str {
        &self.0[usize::from(meaning.number())]
    }

    /// All of them, by the number of the meaning.
    pub fn all(&self) -> &[String; 4] {
        &self.0
    }
}

impl From<[String; 4]> for RowValues {
    fn from(values: [String; 4]) -> RowValues {
        RowValues(values)
    }
}

/// Whether a value refuses whoever it is found for (access(5)): a code that begins with 4 or 5 and what follows it, or a word
/// such as REJECT. An enhanced code must be of the same class.
pub fn refuses(value: &str) -> bool {
    let (first, rest) = value.split_once(' ').unwrap_or((value, ""));
    let is_word = ["REJECT", "DEFER", "DEFER_IF_PERMIT", "DEFER_IF_REJECT"]
        .iter()
        .any(|word| first.eq_ignore_ascii_case(word));
    let class = first.as_bytes().first();
    let is_code = first.len() == 3
        && first.bytes().all(|byte| byte.is_ascii_digit())
        && matches!(class, Some(b'4' | b'5'));
    let is_of_class = match rest.as_bytes().first() {
        None => false,
        Some(next) => !next.is_ascii_digit() || Some(next) == class,
    };
    is_word || (is_code && is_of_class)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meaning_is_stored_as_its_number() {
        for meaning in Meaning::ALL {
            assert_eq!(Meaning::of_number(meaning.number()), meaning);
        }
        let values = RowValues::alike("DUNNO").with(Meaning::Domain, "550 5.1.1 no");
        assert_eq!(values.of(Meaning::Recipient), "DUNNO");
        assert_eq!(values.of(Meaning::Domain), "550 5.1.1 no");
    }

    #[test]
    fn what_refuses_is_known_by_its_first_words() {
        for (value, expected) in [
            ("550 5.1.1 User unknown", true),
            ("450 try again", true),
            ("REJECT no", true),
            ("reject", true),
            ("550", false),
            ("550 4.1.1 of another class", false),
            ("250 OK", false),
            ("5500 no", false),
            ("OK", false),
            ("DUNNO", false),
            ("reject_unverified_recipient", false),
        ] {
            assert_eq!(refuses(value), expected, "{value}");
        }
    }
}
