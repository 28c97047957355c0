//! Which addresses count: each value of each record is accepted or left out with a reason.
//!
//! Nothing is dropped silently: every reason is counted and `explain` finds it again. Decisions are made anew from the
//! records in every run and never stored, so a changed rule needs no directory. Not here: the case and quotes of a key
//! (`keys`), and whether a change is believable (`guard`).

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::address::{Address, AddressError};
use crate::config::{Recipients, Treatment};
use crate::dn::DistinguishedName;
use crate::domains::Domains;
use crate::fold;
use crate::kind::{self, Class};
use crate::record::{self, RecordRef};

/// Why a value gets no row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// SIP, X500, X400, EUM and every other type but SMTP.
    NotSmtp,
    /// No address, or not UTF-8.
    Malformed,
    /// `@example.com` and the like: never from a source.
    Wildcard,
    /// Control characters or line ends.
    ControlCharacter,
    /// Over 254 octets.
    TooLong,
    /// The domain is not in the list.
    ForeignDomain,
    /// `recipients.exclude_dn`
    ExcludedDn,
    /// `recipients.exclude`
    Excluded,
    /// Exchange's own mailboxes.
    System,
    /// Refuses senders from outside: accepted at the gateway, it would become a bounce.
    InternalOnly,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 10] = [
        Reason::NotSmtp,
        Reason::Malformed,
        Reason::Wildcard,
        Reason::ControlCharacter,
        Reason::TooLong,
        Reason::ForeignDomain,
        Reason::ExcludedDn,
        Reason::Excluded,
        Reason::System,
        Reason::InternalOnly,
    ];

    /// Its name in JSON, reports and metrics: `foreign_domain`.
    pub fn name(self) -> &'static str {
        match self {
            Reason::NotSmtp => "not_smtp",
            Reason::Malformed => "malformed",
            Reason::Wildcard => "wildcard",
            Reason::ControlCharacter => "control_character",
            Reason::TooLong => "too_long",
            Reason::ForeignDomain => "foreign_domain",
            Reason::ExcludedDn => "excluded_dn",
            Reason::Excluded => "excluded",
            Reason::System => "system",
            Reason::InternalOnly => "internal_only",
        }
    }

    /// A sentence for `explain`, without subject: "the domain is not …".
    pub fn sentence(self) -> &'static str {
        match self {
            Reason::NotSmtp => {
                "only SMTP values of proxyAddresses are mail addresses; Exchange does not deliver to this type"
            }
            Reason::Malformed => "the value is not a mail address",
            Reason::Wildcard => {
                "it would stand for every address of its domain; no source may say that"
            }
            Reason::ControlCharacter => "the value holds a control character or a line end",
            Reason::TooLong => "the address is longer than the 254 octets that SMTP can say",
            Reason::ForeignDomain => "its domain is not listed in [domains]",
            Reason::ExcludedDn => "its entry lies in a subtree of recipients.exclude_dn",
            Reason::Excluded => "it is named in recipients.exclude",
            Reason::System => {
                "it is a mailbox of Exchange itself (recipients.system = \"leave_out\")"
            }
            Reason::InternalOnly => {
                "it refuses senders from outside (msExchRequireAuthToSendTo), so Exchange would bounce what the gateway accepts \
                 (recipients.internal_only = \"leave_out\")"
            }
        }
    }
}

/// What became of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It gets its rows.
    Accepted(Address),
    /// It gets none.
    LeftOut(Reason),
}

/// How many values were left out, by reason.
pub type LeftOut = BTreeMap<Reason, u64>;

/// What is worth knowing of a value that is accepted all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Note {
    /// Its object is of a kind that this version does not know, or that should have no address.
    UnexpectedKind,
    /// Stock Postfix refuses it whatever a table says.
    RefusedByPostfix,
    /// A text table cannot say its key, nor can what is built from a text.
    NotInText,
    /// The reader that a template writes for would not find its key.
    NotInTemplate,
}

/// How many values are accepted with a note, by note.
pub type Noted = BTreeMap<Note, u64>;

/// What was counted on the way from records to addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Values left out.
    pub left_out: LeftOut,
    /// Values accepted with a note.
    pub noted: Noted,
}

impl Counted {
    /// Adds other counts to these.
    pub fn add(&mut self, other: Counted) {
        for (reason, count) in other.left_out {
            self.leave_out(reason, count);
        }
        for (note, count) in other.noted {
            self.note(note, count);
        }
    }

    /// More values left out.
    pub fn leave_out(&mut self, reason: Reason, count: u64) {
        *self.left_out.entry(reason).or_default() += count;
    }

    /// More values accepted with a note.
    pub fn note(&mut self, note: Note, count: u64) {
        *self.noted.entry(note).or_default() += count;
    }
}

/// The rules of the configuration.
#[derive(Clone, Debug)]
pub struct Policy<'config> {
    domains: &'config Domains,
    recipients: &'config Recipients,
    /// `recipients.exclude` by [`name_of`]: a long list must not be walked for every value of a large directory.
    excluded: HashSet<Vec<u8>>,
}

/// One text for all spellings of an address ([`Address::is_same_as`]).
fn name_of(address: &Address) -> Vec<u8> {
    let local = fold::unicode(address.local());
    format!("{local}@{}", address.domain().ascii()).into_bytes()
}

impl<'config> Policy<'config> {
    /// The rules of a configuration, for the domains of a run.
    pub fn new(recipients: &'config Recipients, domains: &'config Domains) -> Self {
        Policy {
            domains,
            recipients,
            excluded: recipients.exclude.iter().map(name_of).collect(),
        }
    }

    /// Decides one value of a record. The reason named is the first that applies, the value's own before its record's.
    pub fn decide(&self, record: RecordRef<'_>, value: &[u8]) -> Decision {
        let decided = self.address(value);
        match decided.and_then(|address| self.left_out_record(record).map_or(Ok(address), Err)) {
            Ok(address) => Decision::Accepted(address),
            Err(reason) => Decision::LeftOut(reason),
        }
    }

    /// The address in a value, unless there is a reason in the value itself to leave it out.
    pub fn address(&self, value: &[u8]) -> Result<Address, Reason> {
        let address = parse(value)?;
        if self.domains.find(address.domain()).is_none() {
            return Err(Reason::ForeignDomain);
        }
        if self.excludes_any() && self.excludes(&name_of(&address)) {
            return Err(Reason::Excluded);
        }
        Ok(address)
    }

    /// Whether any address is excluded by name.
    pub fn excludes_any(&self) -> bool {
        !self.excluded.is_empty()
    }

    /// Whether an address is, by its folded local part and the A-label form of its domain.
    pub fn excludes(&self, name: &[u8]) -> bool {
        self.excluded.contains(name)
    }

    /// Why every address of a record is left out, if so.
    pub fn left_out_record(&self, record: RecordRef<'_>) -> Option<Reason> {
        let rules = self.recipients;
        if !rules.exclude_dn.is_empty()
            // A name that cannot be parsed lies in no subtree: when in doubt, the recipient counts.
            && let Ok(name) = DistinguishedName::parse(record.dn())
            && rules.exclude_dn.iter().any(|base| name.is_at_or_under(base))
        {
            return Some(Reason::ExcludedDn);
        }
        let class = record.recipient_type().map(kind::class);
        if rules.system == Treatment::LeaveOut && class == Some(Class::System) {
            return Some(Reason::System);
        }
        (rules.internal_only == Treatment::LeaveOut && record.is_internal_only())
            .then_some(Reason::InternalOnly)
    }
}

/// The address in a value of `proxyAddresses`.
fn parse(value: &[u8]) -> Result<Address, Reason> {
    let address = record::smtp_address(value).ok_or(Reason::NotSmtp)?;
    let text = std::str::from_utf8(address).map_err(|_| Reason::Malformed)?;
    Address::parse(text).map_err(|error| match error {
        AddressError::Wildcard => Reason::Wildcard,
        AddressError::Control => Reason::ControlCharacter,
        AddressError::TooLong => Reason::TooLong,
        AddressError::NoAt | AddressError::Local | AddressError::Domain(_) => Reason::Malformed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Facts, Record};

    #[test]
    fn every_reason_is_among_all() {
        // What serde expects is every variant there is.
        let error = serde_json::from_str::<Reason>("\"no reason\"").expect_err("it is none");
        let names: Vec<String> = Reason::ALL
            .map(|reason| format!("`{}`", reason.name()))
            .into();
        let expected = format!("expected one of {} at", names.join(", "));
        assert!(error.to_string().contains(&expected), "{error}");
    }

    const CONFIG: &str = r#"
        [domains]
        list = ["example.com", "bücher.example"]
        [source.a]
        kind = "list"
        path = "a"
        [table.t]
        path = "t"
        formats = ["cdb"]
        [recipients]
        exclude_dn = ["OU=Leavers,DC=x"]
        exclude = ["Test@example.com"]
    "#;

    #[track_caller]
    fn check(facts: &Facts<'_>, value: &str, expected: Result<&str, Reason>) {
        let config =
            crate::config::parse(std::path::Path::new("/c"), CONFIG).expect("a configuration");
        let domains = Domains::exact(&config.domains.list);
        let policy = Policy::new(&config.recipients, &domains);
        let record = Record::of(facts.clone());
        let found = match policy.decide(record.view(), value.as_bytes()) {
            Decision::Accepted(address) => Ok(address.to_string()),
            Decision::LeftOut(reason) => Err(reason),
        };
        assert_eq!(found, expected.map(str::to_owned), "{value:?}");
    }

    #[test]
    fn every_value_is_accepted_or_has_a_reason() {
        let person = Facts {
            dn: "CN=Anna,OU=Staff,DC=x",
            ..Facts::default()
        };
        check(&person, "SMTP:Anna@Example.com", Ok("Anna@example.com"));
        check(
            &person,
            "smtp:a@xn--bcher-kva.example",
            Ok("a@bücher.example"),
        );
        check(&person, "SIP:anna@example.com", Err(Reason::NotSmtp));
        check(&person, "smtp:@example.com", Err(Reason::Wildcard));
        check(
            &person,
            "smtp:a@example.com\nb",
            Err(Reason::ControlCharacter),
        );
        check(&person, "smtp:anna", Err(Reason::Malformed));
        check(
            &person,
            "smtp:anna@notexample.com",
            Err(Reason::ForeignDomain),
        );
        check(
            &person,
            "smtp:anna@sub.example.com",
            Err(Reason::ForeignDomain),
        );
        check(&person, "smtp:anna@exampleXcom", Err(Reason::ForeignDomain));
        check(&person, "smtp:test@EXAMPLE.com", Err(Reason::Excluded));
        check(
            &person,
            "smtp:testing@example.com",
            Ok("testing@example.com"),
        );
    }

    #[test]
    fn a_record_can_be_left_out_as_a_whole() {
        let record = |dn: &'static str, recipient_type, is_internal_only| Facts {
            dn,
            recipient_type,
            is_internal_only,
            ..Facts::default()
        };
        let value = "smtp:a@example.com";
        check(
            &record("CN=a,OU=leavers,DC=x", None, false),
            value,
            Err(Reason::ExcludedDn),
        );
        check(
            &record("CN=a,OU=NotLeavers,DC=x", None, false),
            value,
            Ok("a@example.com"),
        );
        check(
            &record("not a name", None, false),
            value,
            Ok("a@example.com"),
        );
        check(
            &record("CN=a,DC=x", Some(536_870_912), false),
            value,
            Err(Reason::System),
        );
        check(
            &record("CN=a,DC=x", Some(4), false),
            value,
            Ok("a@example.com"),
        );
        check(
            &record("CN=a,DC=x", Some(999), false),
            value,
            Ok("a@example.com"),
        );
        check(
            &record("CN=a,DC=x", Some(256), true),
            value,
            Err(Reason::InternalOnly),
        );
        // The value's own reason is named before its record's.
        check(
            &record("CN=a,DC=x", Some(256), true),
            "smtp:a@other.example",
            Err(Reason::ForeignDomain),
        );
    }
}
