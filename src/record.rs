//! The facts about one directory object that decisions need.
//!
//! Records are what is stored per source, so that a changed rule (a new domain, an exclusion) is decided anew without
//! the directory. Decisions are never stored. A value of another address type is kept when it holds an `@`: such a SIP
//! address looks like mail, and `explain` can then say why it is not.

use crate::entry::Entry;

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

/// One object of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Record {
    /// `objectGUID`, 16 bytes, which survives a move or a rename; empty where the source has none.
    pub guid: Vec<u8>,
    /// The distinguished name as received; for a list, the place in its file: `line 12`.
    pub dn: String,
    /// `msExchRecipientTypeDetails`, where present and a number.
    pub recipient_type: Option<u64>,
    /// `msExchRequireAuthToSendTo`: the recipient refuses senders from outside.
    pub is_internal_only: bool,
    /// The values that could be asked for: every `smtp:` one, and others that hold an `@`, as received, in byte order:
    /// two controllers need not give them in the same one.
    pub proxy_addresses: Vec<Vec<u8>>,
    /// How many other values there were (X.500, X.400 and the like).
    pub other_values_count: u32,
}

impl Record {
    /// The facts of an entry.
    pub fn from_entry(entry: &Entry) -> Record {
        let mut record = Record {
            guid: entry
                .values(OBJECT_GUID)
                .next()
                .unwrap_or_default()
                .to_vec(),
            recipient_type: first_text(entry, RECIPIENT_TYPE).and_then(|text| text.parse().ok()),
            is_internal_only: first_text(entry, REQUIRE_AUTHENTICATION)
                .is_some_and(|text| text.eq_ignore_ascii_case("TRUE")),
            dn: entry.dn().to_owned(),
            ..Record::default()
        };
        for value in entry.values(PROXY_ADDRESSES) {
            if smtp_address(value).is_some() || value.contains(&b'@') {
                record.proxy_addresses.push(value.to_vec());
            } else {
                record.other_values_count += 1;
            }
        }
        record.proxy_addresses.sort_unstable();
        record
    }

    /// The facts of one line of a list.
    pub fn from_list_line(line_number: usize, address: &str) -> Record {
        Record {
            dn: format!("line {line_number}"),
            proxy_addresses: vec![format!("smtp:{address}").into_bytes()],
            ..Record::default()
        }
    }
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

    #[test]
    fn an_entry_becomes_its_facts() {
        let values = |values: &[&str]| {
            values
                .iter()
                .map(|value| value.as_bytes().to_vec())
                .collect::<Vec<_>>()
        };
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
        let expected = Record {
            guid: vec![0xff; 16],
            dn: "CN=Staff,DC=x".into(),
            recipient_type: Some(34_359_738_368),
            is_internal_only: true,
            proxy_addresses: values(&["SIP:staff@x.example", "SMTP:staff@x.example"]),
            other_values_count: 1,
        };
        assert_eq!(Record::from_entry(&entry), expected);
    }
}
