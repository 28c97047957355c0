//! The facts about one directory object that decisions need, as one run of octets: the same in memory, on the disk and
//! under way.
//!
//! Records are what is stored per source, so that a changed rule (a new domain, an exclusion) is decided anew without
//! the directory. Decisions are never stored. A value of another address type is kept when it holds an `@`: such a SIP
//! address looks like mail, and `explain` can then say why it is not.
//!
//! Layout: the length of what follows (four octets, little-endian), the flags, `objectGUID`, the kind where the flags say
//! that there is one, the number of other values, the DN, and the values to the end. Numbers and lengths are
//! LEB128 (`leb128`).
//!
//! Invariant: the same facts are the same octets, and a [`RecordRef`] was seen to decode to its end.

use std::fmt;
use std::hash::{Hash, Hasher};

use crate::entry::Entry;
use crate::leb128;
use crate::state::Broken;

/// The attributes a record is made from: what every LDAP read asks for.
pub const ATTRIBUTES: &[&str] = &[
    PROXY_ADDRESSES,
    OBJECT_GUID,
    RECIPIENT_TYPE,
    REQUIRE_AUTHENTICATION,
];

/// The attribute that decides who is a recipient (Exchange's own resolver asks nothing else).
pub const PROXY_ADDRESSES: &str = "proxyAddresses";
/// What an object is known by, wherever it is moved.
pub const OBJECT_GUID: &str = "objectGUID";
const RECIPIENT_TYPE: &str = "msExchRecipientTypeDetails";
const REQUIRE_AUTHENTICATION: &str = "msExchRequireAuthToSendTo";

/// The octets of the length in front of a record.
pub const LENGTH_OCTETS: usize = 4;

const HAS_KIND: u8 = 1;
const IS_INTERNAL_ONLY: u8 = 2;

/// What a record is made from.
#[derive(Clone, Debug, Default)]
pub struct Facts<'a> {
    /// `objectGUID`, 16 octets, which survives a move or a rename; empty where the source has none.
    pub guid: &'a [u8],
    /// The distinguished name as received; for a list, the place in its file: `line 12`.
    pub dn: &'a str,
    /// `msExchRecipientTypeDetails`, where present and a number.
    pub recipient_type: Option<u64>,
    /// `msExchRequireAuthToSendTo`: the recipient refuses senders from outside.
    pub is_internal_only: bool,
    /// The values that could be asked for: every `smtp:` one, and others that hold an `@`, as received.
    pub proxy_addresses: Vec<&'a [u8]>,
    /// How many other values there were (X.500, X.400 and the like).
    pub other_values_count: u32,
}

/// One object of a source, in octets of its own.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Record {
    octets: Box<[u8]>,
}

/// One object of a source, in the octets of somebody else.
#[derive(Clone, Copy, Default)]
pub struct RecordRef<'a> {
    octets: &'a [u8],
    guid: &'a [u8],
    dn: &'a str,
    recipient_type: Option<u64>,
    is_internal_only: bool,
    other_values_count: u32,
    values: &'a [u8],
}

impl Record {
    /// The record of these facts.
    pub fn of(facts: Facts<'_>) -> Record {
        let mut values = facts.proxy_addresses;
        // Two controllers need not give them in the same order.
        values.sort_unstable();
        let values_octets: usize = values.iter().map(|value| value.len() + 2).sum();
        let mut octets = Vec::with_capacity(48 + facts.dn.len() + values_octets);
        octets.extend_from_slice(&[0; LENGTH_OCTETS]);
        octets.push(
            if facts.recipient_type.is_some() {
                HAS_KIND
            } else {
                0
            } | if facts.is_internal_only {
                IS_INTERNAL_ONLY
            } else {
                0
            },
        );
        push_octets(&mut octets, facts.guid);
        if let Some(kind) = facts.recipient_type {
            leb128::push(&mut octets, kind);
        }
        leb128::push(&mut octets, u64::from(facts.other_values_count));
        push_octets(&mut octets, facts.dn.as_bytes());
        for value in values {
            push_octets(&mut octets, value);
        }
        // An entry is bounded when it is read, far below what four octets can say.
        let length = u32::try_from(octets.len() - LENGTH_OCTETS).unwrap_or(u32::MAX);
        octets[..LENGTH_OCTETS].copy_from_slice(&length.to_le_bytes());
        Record {
            octets: octets.into_boxed_slice(),
        }
    }

    /// The facts of an entry.
    pub fn from_entry(entry: &Entry) -> Record {
        let mut facts = Facts {
            guid: entry.values(OBJECT_GUID).next().unwrap_or_default(),
            dn: entry.dn(),
            recipient_type: first_text(entry, RECIPIENT_TYPE).and_then(|text| text.parse().ok()),
            is_internal_only: first_text(entry, REQUIRE_AUTHENTICATION)
                .is_some_and(|text| text.eq_ignore_ascii_case("TRUE")),
            ..Facts::default()
        };
        for value in entry.values(PROXY_ADDRESSES) {
            if smtp_address(value).is_some() || value.contains(&b'@') {
                facts.proxy_addresses.push(value);
            } else {
                facts.other_values_count += 1;
            }
        }
        Record::of(facts)
    }

    /// The facts of one line of a list.
    pub fn from_list_line(line_number: usize, address: &str) -> Record {
        Record::of(Facts {
            dn: &format!("line {line_number}"),
            proxy_addresses: vec![format!("smtp:{address}").as_bytes()],
            ..Facts::default()
        })
    }

    /// The record, to look at.
    pub fn view(&self) -> RecordRef<'_> {
        let decoded = RecordRef::first_of(&self.octets);
        debug_assert!(decoded.is_ok(), "made by `of`, or copied from a view");
        decoded.map(|(record, _)| record).unwrap_or_default()
    }
}

impl<'a> RecordRef<'a> {
    /// The record at the beginning of these octets, and what is behind it.
    pub fn first_of(octets: &'a [u8]) -> Result<(RecordRef<'a>, &'a [u8]), Broken> {
        let length = length_of_first(octets).ok_or(Broken::Content)?;
        let (octets, behind) = octets.split_at_checked(length).ok_or(Broken::Content)?;
        let mut rest = &octets[LENGTH_OCTETS..];
        let flags = *rest.split_off_first().ok_or(Broken::Content)?;
        if flags & !(HAS_KIND | IS_INTERNAL_ONLY) != 0 {
            return Err(Broken::Content);
        }
        let guid = take_octets(&mut rest)?;
        let recipient_type = if flags & HAS_KIND != 0 {
            Some(take_number(&mut rest)?)
        } else {
            None
        };
        let other_values_count =
            u32::try_from(take_number(&mut rest)?).map_err(|_| Broken::Content)?;
        let dn = std::str::from_utf8(take_octets(&mut rest)?).map_err(|_| Broken::Content)?;
        let values = rest;
        while !rest.is_empty() {
            take_octets(&mut rest)?;
        }
        let record = RecordRef {
            octets,
            guid,
            dn,
            recipient_type,
            is_internal_only: flags & IS_INTERNAL_ONLY != 0,
            other_values_count,
            values,
        };
        Ok((record, behind))
    }

    /// The whole of it, length included.
    pub fn octets(self) -> &'a [u8] {
        self.octets
    }

    /// `objectGUID`; empty where the source has none.
    pub fn guid(self) -> &'a [u8] {
        self.guid
    }

    /// The distinguished name as received; for a list, the place in its file: `line 12`.
    pub fn dn(self) -> &'a str {
        self.dn
    }

    /// `msExchRecipientTypeDetails`, where present and a number.
    pub fn recipient_type(self) -> Option<u64> {
        self.recipient_type
    }

    /// `msExchRequireAuthToSendTo`: the recipient refuses senders from outside.
    pub fn is_internal_only(self) -> bool {
        self.is_internal_only
    }

    /// How many values there were that nobody could ask for (X.500, X.400 and the like).
    pub fn other_values_count(self) -> u32 {
        self.other_values_count
    }

    /// The values that could be asked for, as received, in byte order.
    pub fn proxy_addresses(self) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = self.values;
        // Seen to decode when the view was made.
        std::iter::from_fn(move || take_octets(&mut rest).ok())
    }

    /// Its octets without the DN, in two parts.
    pub fn octets_without_dn(self) -> [&'a [u8]; 2] {
        let dn_and_values = self.dn.len() + self.values.len();
        let before = self.octets.len().saturating_sub(dn_and_values);
        // The length of the whole, and that of the DN, say no more than that another name is longer.
        let length_of_dn = leb128::octets_of(self.dn.len() as u64);
        let facts = LENGTH_OCTETS..before.saturating_sub(length_of_dn);
        [self.octets.get(facts).unwrap_or_default(), self.values]
    }

    /// The record in octets of its own.
    pub fn to_record(self) -> Record {
        Record {
            octets: self.octets.into(),
        }
    }
}

/// How many octets the first record takes, its length included; `None` where not even that is there.
pub fn length_of_first(octets: &[u8]) -> Option<usize> {
    let length = u32::from_le_bytes(*octets.first_chunk::<LENGTH_OCTETS>()?);
    usize::try_from(length).ok()?.checked_add(LENGTH_OCTETS)
}

impl PartialEq for RecordRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.octets == other.octets
    }
}

impl Eq for RecordRef<'_> {}

impl Hash for RecordRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.octets.hash(state);
    }
}

impl fmt::Debug for RecordRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = self.proxy_addresses().map(<[u8]>::escape_ascii);
        f.debug_struct("Record")
            .field("guid", &format_args!("{}", self.guid.escape_ascii()))
            .field("dn", &self.dn)
            .field("recipient_type", &self.recipient_type)
            .field("is_internal_only", &self.is_internal_only)
            .field("other_values_count", &self.other_values_count)
            .field("proxy_addresses", &values.collect::<Vec<_>>())
            .finish()
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view().fmt(f)
    }
}

fn push_octets(octets: &mut Vec<u8>, value: &[u8]) {
    leb128::push(octets, value.len() as u64);
    octets.extend_from_slice(value);
}

fn take_number(rest: &mut &[u8]) -> Result<u64, Broken> {
    leb128::take(rest).ok_or(Broken::Content)
}

fn take_octets<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Broken> {
    let length = usize::try_from(take_number(rest)?).map_err(|_| Broken::Content)?;
    let (octets, behind) = rest.split_at_checked(length).ok_or(Broken::Content)?;
    *rest = behind;
    Ok(octets)
}

/// What stands behind the prefix of an SMTP value; the prefix is compared without case (`SMTP:` marks the primary
/// address, `smtp:` the others, and both are recipients). `None` for every other type.
pub fn smtp_address(value: &[u8]) -> Option<&[u8]> {
    const PREFIX: &[u8] = b"smtp:";
    let (prefix, address) = value.split_at_checked(PREFIX.len())?;
    prefix.eq_ignore_ascii_case(PREFIX).then_some(address)
}

fn first_text<'entry>(entry: &'entry Entry, name: &str) -> Option<&'entry str> {
    entry
        .values(name)
        .next()
        .and_then(|value| std::str::from_utf8(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_smtp_values_are_addresses() {
        for (value, expected) in [
            ("SMTP:Anna@example.com", Some("Anna@example.com")),
            ("smtp:anna@example.com", Some("anna@example.com")),
            ("Smtp:anna@example.com", Some("anna@example.com")),
            ("smtp:", Some("")),
            ("SIP:anna@example.com", None),
            ("X500:/o=Org/cn=anna", None),
            ("smtpx:anna@example.com", None),
            ("smtp", None),
            ("", None),
        ] {
            assert_eq!(
                smtp_address(value.as_bytes()),
                expected.map(str::as_bytes),
                "{value}"
            );
        }
    }

    fn values<'a>(values: &[&'a str]) -> Vec<&'a [u8]> {
        values.iter().map(|value| value.as_bytes()).collect()
    }

    #[test]
    fn an_entry_becomes_its_facts() {
        let mut entry = Entry::named("CN=Staff,DC=x");
        let addresses = ["SMTP:staff@x.example", "SIP:staff@x.example", "X500:/o=x"];
        for (name, added) in [
            ("PROXYADDRESSES", &addresses.map(str::as_bytes)[..]),
            ("msExchRecipientTypeDetails", &[b"34359738368"]),
            ("msexchrequireauthtosendto", &[b"TRUE"]),
            ("objectGUID", &[&[0xff; 16]]),
            ("mail", &[b"other@x.example"]),
        ] {
            entry.add_name(name);
            added.iter().for_each(|value| entry.add_value(value));
        }
        let expected = Record::of(Facts {
            guid: &[0xff; 16],
            dn: "CN=Staff,DC=x",
            recipient_type: Some(34_359_738_368),
            is_internal_only: true,
            proxy_addresses: values(&["SIP:staff@x.example", "SMTP:staff@x.example"]),
            other_values_count: 1,
        });
        assert_eq!(Record::from_entry(&entry), expected);
    }

    /// Facts become octets and facts again; octets that were cut or changed are refused, or are other facts.
    #[track_caller]
    fn check_octets(facts: Facts<'_>) {
        let record = Record::of(facts.clone());
        let view = record.view();
        assert_eq!(view.guid(), facts.guid);
        assert_eq!(view.dn(), facts.dn);
        assert_eq!(view.recipient_type(), facts.recipient_type);
        assert_eq!(view.is_internal_only(), facts.is_internal_only);
        assert_eq!(view.other_values_count(), facts.other_values_count);
        let mut sorted = facts.proxy_addresses.clone();
        sorted.sort();
        assert!(view.proxy_addresses().eq(sorted));
        assert_eq!(view.to_record(), record);

        let octets = view.octets();
        let two = [octets, octets].concat();
        let (first, behind) = RecordRef::first_of(&two).expect("two records");
        assert_eq!((first, behind), (view, octets));
        for length in 0..octets.len() {
            assert!(RecordRef::first_of(&octets[..length]).is_err(), "{length}");
        }
        for at in 0..octets.len() {
            for bit in 0..8 {
                let mut flipped = octets.to_vec();
                flipped[at] ^= 1 << bit;
                let found = RecordRef::first_of(&flipped);
                assert!(found.map(|(found, _)| found) != Ok(view), "{bit} at {at}");
            }
        }

        let long = "x".repeat(200);
        let moved = Record::of(Facts {
            dn: &long,
            ..facts.clone()
        });
        let without = |record: &Record| record.view().octets_without_dn().concat();
        assert_eq!(without(&moved), without(&record));
        let changed = Record::of(Facts {
            other_values_count: facts.other_values_count ^ 1,
            ..facts
        });
        assert_ne!(without(&changed), without(&record));
    }

    #[test]
    fn facts_and_octets_are_the_same() {
        let long = "x".repeat(20_000);
        check_octets(Facts::default());
        check_octets(Facts {
            guid: &[0xff; 16],
            dn: "CN=Müller,DC=x",
            recipient_type: Some(u64::MAX),
            is_internal_only: true,
            proxy_addresses: vec![&[0xff, 0], b"", b"smtp:b@x", b"SMTP:a@x"],
            other_values_count: u32::MAX,
        });
        let record = Record::of(Facts {
            dn: &long,
            proxy_addresses: vec![long.as_bytes(); 3],
            ..Facts::default()
        });
        assert!(record.view().proxy_addresses().eq([long.as_bytes(); 3]));
        assert_eq!(record.view().dn(), long);
    }
}
