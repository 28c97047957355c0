//! A company in a directory, made from a seed, that knows which of its addresses must be accepted.
//!
//! The truth is told by construction: a value is put together from a local part, a domain and a way of writing them, and
//! what must become of it is noted in the same moment. Nothing here parses an address, and nothing of the program
//! under test is called; where both agree, they do so for different reasons. Changes go through the company too
//! ([`Company::add_user`] and the others return the LDIF that makes the same change in a directory), so it knows the truth
//! at any time.

use std::collections::{BTreeMap, BTreeSet};

use super::ldif;
use super::random::Random;

/// The domain of the directory.
pub const BASE: &str = "DC=corp,DC=example";

/// What `[domains] list` says in the tests.
pub const DOMAINS: [&str; 3] = ["example.com", "sub.example.com", "bücher.example"];

/// Says of every domain of the company that nobody of it is elsewhere: it has remote mailboxes, which are a sign of others.
pub fn complete_domains() -> String {
    let section = |domain: &&str| format!("[domain.\"{domain}\"]\ndirectory_is_complete = true\n");
    DOMAINS.iter().map(section).collect()
}

/// What `relay_domains` says: Postfix wants both forms.
pub const RELAY_DOMAINS: [&str; 4] = [
    "example.com",
    "sub.example.com",
    "bücher.example",
    "xn--bcher-kva.example",
];

/// What `recipients.exclude_dn` says in the tests.
pub const LEAVERS: &str = "OU=Leavers,DC=corp,DC=example";

/// Domains of other people, some of them near misses of ours.
const FOREIGN_DOMAINS: [&str; 6] = [
    "partner.example.org",
    "corp.onmicrosoft.example",
    "corp.local",
    "notexample.com",
    "example.com.attacker.example",
    "deep.sub.example.com",
];

/// The most values of `proxyAddresses` on one object.
const VALUES_MAX: u64 = 40;

/// Where objects lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unit {
    Staff,
    Rooms,
    Groups,
    Contacts,
    /// A name with a comma, which a careless split of names would take apart.
    Branch,
    Leavers,
    /// Where Exchange keeps its own objects and public folders.
    ExchangeSystem,
}

impl Unit {
    /// All of them.
    pub const ALL: [Unit; 7] = [
        Unit::Staff,
        Unit::Rooms,
        Unit::Groups,
        Unit::Contacts,
        Unit::Branch,
        Unit::Leavers,
        Unit::ExchangeSystem,
    ];

    /// The value of its relative name.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Staff => "Staff",
            Unit::Rooms => "Rooms",
            Unit::Groups => "Groups",
            Unit::Contacts => "Contacts",
            Unit::Branch => "Branch, North",
            Unit::Leavers => "Leavers",
            Unit::ExchangeSystem => "Microsoft Exchange System Objects",
        }
    }

    /// The distinguished name.
    pub fn dn(self) -> String {
        let attribute = if self == Unit::ExchangeSystem {
            "CN"
        } else {
            "OU"
        };
        format!("{attribute}={},{BASE}", ldif::escape_name(self.name()))
    }
}

/// Object classes that carry addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    User,
    Group,
    Contact,
    PublicFolder,
    DynamicGroup,
}

/// A sort of object: how often, where, and what Exchange says about it.
struct Sort {
    name: &'static str,
    /// Of a thousand.
    share: u64,
    unit: Unit,
    class: Class,
    /// `msExchRecipientTypeDetails`
    recipient_type: Option<u64>,
    is_disabled: bool,
    is_internal_only: bool,
    has_addresses: bool,
    /// Why all its addresses are left out, if they are.
    left_out: Option<&'static str>,
}

const fn sort(
    name: &'static str,
    share: u64,
    unit: Unit,
    class: Class,
    recipient_type: Option<u64>,
) -> Sort {
    Sort {
        name,
        share,
        unit,
        class,
        recipient_type,
        is_disabled: false,
        is_internal_only: false,
        has_addresses: true,
        left_out: None,
    }
}

const fn disabled(sort: Sort) -> Sort {
    Sort {
        is_disabled: true,
        ..sort
    }
}

const fn system(sort: Sort) -> Sort {
    Sort {
        is_disabled: true,
        left_out: Some("system"),
        ..sort
    }
}

const fn internal_only(sort: Sort) -> Sort {
    Sort {
        is_internal_only: true,
        left_out: Some("internal_only"),
        ..sort
    }
}

#[rustfmt::skip]
const SORTS: &[Sort] = &[
    sort("user mailbox", 430, Unit::Staff, Class::User, Some(1)),
    sort("user mailbox of a branch", 60, Unit::Branch, Class::User, Some(1)),
    sort("user before Exchange 2007", 30, Unit::Staff, Class::User, None),
    disabled(sort("disabled user mailbox", 20, Unit::Staff, Class::User, Some(1))),
    disabled(sort("linked mailbox", 20, Unit::Staff, Class::User, Some(2))),
    disabled(sort("shared mailbox", 60, Unit::Staff, Class::User, Some(4))),
    disabled(sort("room mailbox", 40, Unit::Rooms, Class::User, Some(16))),
    disabled(sort("equipment mailbox", 10, Unit::Rooms, Class::User, Some(32))),
    sort("remote user mailbox", 60, Unit::Staff, Class::User, Some(0x8000_0000)),
    disabled(sort("remote shared mailbox", 20, Unit::Staff, Class::User, Some(0x8_0000_0000))),
    disabled(sort("remote room mailbox", 10, Unit::Rooms, Class::User, Some(0x2_0000_0000))),
    sort("kind of a later Exchange", 5, Unit::Staff, Class::User, Some(1 << 52)),
    sort("mail user", 10, Unit::Staff, Class::User, Some(128)),
    sort("mail contact", 70, Unit::Contacts, Class::Contact, Some(64)),
    sort("distribution group", 25, Unit::Groups, Class::Group, Some(256)),
    internal_only(sort("internal distribution group", 30, Unit::Groups, Class::Group, Some(256))),
    sort("security group", 5, Unit::Groups, Class::Group, Some(1024)),
    sort("room list", 5, Unit::Groups, Class::Group, Some(0x1000_0000)),
    sort("dynamic group", 5, Unit::Groups, Class::DynamicGroup, Some(2048)),
    internal_only(sort("internal dynamic group", 5, Unit::Groups, Class::DynamicGroup, Some(2048))),
    sort("public folder", 10, Unit::ExchangeSystem, Class::PublicFolder, Some(4096)),
    system(sort("health mailbox", 10, Unit::ExchangeSystem, Class::User, Some(0x80_0000_0000))),
    system(sort("arbitration mailbox", 4, Unit::Staff, Class::User, Some(0x80_0000))),
    system(sort("discovery mailbox", 3, Unit::Staff, Class::User, Some(0x2000_0000))),
    system(sort("public folder mailbox", 3, Unit::Staff, Class::User, Some(0x10_0000_0000))),
    Sort { left_out: Some("excluded_dn"), ..disabled(sort("leaver", 20, Unit::Leavers, Class::User, Some(1))) },
    Sort { has_addresses: false, ..sort("user without mail", 30, Unit::Staff, Class::User, None) },
];

/// What must become of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Truth {
    /// An address of ours with its keys, one for each form of its domain.
    Address { keys: Vec<String> },
    /// Never a row, wherever it stands. `said`: how somebody could ask for it, if at all.
    Never {
        said: Option<String>,
        why: &'static str,
    },
}

/// One value of `proxyAddresses`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    pub text: String,
    pub truth: Truth,
}

impl Value {
    fn is_smtp(&self) -> bool {
        self.text
            .get(..5)
            .is_some_and(|prefix| prefix.eq_ignore_ascii_case("smtp:"))
    }
}

/// One directory object.
#[derive(Clone, Debug)]
pub struct Object {
    pub number: u64,
    pub name: String,
    pub unit: Unit,
    pub class: Class,
    pub recipient_type: Option<u64>,
    pub is_disabled: bool,
    pub is_hidden: bool,
    pub is_internal_only: bool,
    /// Why all its addresses are left out because of what it is; where it lies comes first.
    left_out_by_kind: Option<&'static str>,
    pub mail: Option<String>,
    pub values: Vec<Value>,
}

impl Object {
    /// The distinguished name.
    pub fn dn(&self) -> String {
        format!("CN={},{}", ldif::escape_name(&self.name), self.unit.dn())
    }

    /// Why every address of it is left out.
    pub fn left_out(&self) -> Option<&'static str> {
        if self.unit == Unit::Leavers {
            Some("excluded_dn")
        } else {
            self.left_out_by_kind
        }
    }

    /// Whether `(proxyAddresses=smtp:*)` finds it.
    pub fn is_found_by_filter(&self) -> bool {
        self.values.iter().any(Value::is_smtp)
    }
}

/// Which server an LDIF file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Makes `objectGUID` and the like itself and refuses them from others.
    Samba,
    /// Knows nothing of Active Directory but the names in `cases/schema/openldap.schema`.
    OpenLdap,
}

/// All objects, and the truth about them.
#[derive(Clone, Debug)]
pub struct Company {
    objects: Vec<Object>,
    random: Random,
    next_number: u64,
}

impl Company {
    /// The same company for the same seed. A kind that comes with every thousand is there from a few hundred objects on.
    pub fn generate(seed: u64, objects_count: usize) -> Company {
        let mut company = Company {
            objects: Vec::with_capacity(objects_count),
            random: Random::new(seed),
            next_number: 0,
        };
        let shares: u64 = SORTS.iter().map(|sort| sort.share).sum();
        assert_eq!(shares, 1000, "the shares are of a thousand");
        while company.objects.len() < objects_count {
            let mut at = company.random.below(shares);
            let sort = SORTS
                .iter()
                .find(|sort| {
                    let is_here = at < sort.share;
                    at = at.saturating_sub(sort.share);
                    is_here
                })
                .expect("a number below the sum of the shares falls into one of them");
            let object = company.make(sort);
            company.objects.push(object);
        }
        company.share_some_addresses();
        company
    }

    /// All objects.
    pub fn objects(&self) -> &[Object] {
        &self.objects
    }

    /// The keys that must stand in the table, and no others.
    pub fn expected_accepted(&self) -> BTreeSet<String> {
        self.objects
            .iter()
            .filter(|object| object.left_out().is_none())
            .flat_map(|object| &object.values)
            .filter_map(|value| match &value.truth {
                Truth::Address { keys } => Some(keys),
                Truth::Never { .. } => None,
            })
            .flatten()
            .cloned()
            .collect()
    }

    /// Addresses that somebody could ask for and must not get, with the reason. An address that another object makes
    /// valid is not among them.
    pub fn expected_left_out(&self) -> Vec<(String, &'static str)> {
        let accepted = self.expected_accepted();
        let mut left_out = BTreeMap::new();
        for object in &self.objects {
            for value in &object.values {
                let (addresses, why) = match (&value.truth, object.left_out()) {
                    (Truth::Never { said, why }, _) => (said.iter().cloned().collect(), *why),
                    (Truth::Address { keys }, Some(why)) => (keys.clone(), why),
                    (Truth::Address { .. }, None) => continue,
                };
                for address in addresses {
                    if !accepted.contains(&address) {
                        left_out.entry(address).or_insert(why);
                    }
                }
            }
        }
        left_out.into_iter().collect()
    }

    /// How many values are left out for each reason, of the objects that `(proxyAddresses=smtp:*)` finds.
    pub fn expected_left_out_counts(&self) -> BTreeMap<&'static str, u64> {
        let mut counts = BTreeMap::new();
        for object in self.objects.iter().filter(|o| o.is_found_by_filter()) {
            for value in &object.values {
                let why = match &value.truth {
                    Truth::Never { why, .. } => Some(*why),
                    Truth::Address { .. } => object.left_out(),
                };
                if let Some(why) = why {
                    *counts.entry(why).or_default() += 1;
                }
            }
        }
        counts
    }

    /// How many objects `(proxyAddresses=smtp:*)` finds.
    pub fn found_by_filter_count(&self) -> usize {
        self.objects
            .iter()
            .filter(|object| object.is_found_by_filter())
            .count()
    }

    /// The whole directory below [`BASE`], which itself is there.
    pub fn ldif(&self, dialect: Dialect) -> String {
        let mut text = String::new();
        for unit in Unit::ALL {
            ldif::push_line(&mut text, "dn", &unit.dn());
            let class = match unit {
                Unit::ExchangeSystem => "container",
                Unit::Staff
                | Unit::Rooms
                | Unit::Groups
                | Unit::Contacts
                | Unit::Branch
                | Unit::Leavers => "organizationalUnit",
            };
            ldif::push_line(&mut text, "objectClass", class);
            text.push('\n');
        }
        for object in &self.objects {
            push_object(&mut text, object, dialect, false);
        }
        text
    }

    /// A new user with mailbox in the main domain, and the LDIF that adds it.
    pub fn add_user(&mut self) -> (String, String) {
        let sort = SORTS.first().expect("the first sort is the user mailbox");
        let mut object = self.make(sort);
        object.name = format!("{} (new)", object.name);
        let mut text = String::new();
        push_object(&mut text, &object, Dialect::Samba, true);
        let dn = object.dn();
        self.objects.push(object);
        (dn, text)
    }

    /// A further secondary address `local@example.com` for an object, and the LDIF that adds it. `local` needs no quotes
    /// and has no capital letters.
    pub fn add_address(&mut self, dn: &str, local: &str) -> String {
        let key = format!("{local}@example.com");
        let text = format!("smtp:{key}");
        self.object(dn).values.push(Value {
            text: text.clone(),
            truth: Truth::Address { keys: vec![key] },
        });
        change_value(dn, "add", &text)
    }

    /// An object without the value that makes `key`, and the LDIF that removes it.
    pub fn remove_address(&mut self, dn: &str, key: &str) -> String {
        let values = &mut self.object(dn).values;
        let at = values
            .iter()
            .position(|value| {
                matches!(&value.truth, Truth::Address { keys } if keys.iter().any(|k| k == key))
            })
            .expect("the object has the address");
        change_value(dn, "delete", &values.remove(at).text)
    }

    /// One object less, and the LDIF that deletes it.
    pub fn delete(&mut self, dn: &str) -> String {
        let count_before = self.objects.len();
        self.objects.retain(|object| object.dn() != dn);
        assert_eq!(self.objects.len() + 1, count_before, "{dn} was there once");
        let mut text = String::new();
        ldif::push_line(&mut text, "dn", dn);
        text.push_str("changetype: delete\n\n");
        text
    }

    /// The object in another place, and the LDIF that moves it.
    pub fn move_to(&mut self, dn: &str, unit: Unit) -> String {
        let object = self.object(dn);
        object.unit = unit;
        let mut text = String::new();
        ldif::push_line(&mut text, "dn", dn);
        text.push_str("changetype: modrdn\n");
        let name = format!("CN={}", ldif::escape_name(&object.name));
        ldif::push_line(&mut text, "newrdn", &name);
        text.push_str("deleteoldrdn: 1\n");
        ldif::push_line(&mut text, "newsuperior", &unit.dn());
        text.push('\n');
        text
    }

    /// A user mailbox that has an address which no other object has, and that address: something to change.
    pub fn some_user(&self, skip: usize) -> (String, String) {
        let mut owners_count: BTreeMap<&str, usize> = BTreeMap::new();
        for value in self.objects.iter().flat_map(|object| &object.values) {
            if let Truth::Address { keys } = &value.truth {
                for key in keys {
                    *owners_count.entry(key).or_default() += 1;
                }
            }
        }
        self.objects
            .iter()
            .filter(|object| object.unit == Unit::Staff && object.recipient_type == Some(1))
            .filter_map(|object| {
                let key = object.values.iter().find_map(|value| match &value.truth {
                    Truth::Address { keys } => keys
                        .first()
                        .filter(|key| owners_count.get(key.as_str()) == Some(&1)),
                    Truth::Never { .. } => None,
                })?;
                Some((object.dn(), key.clone()))
            })
            .nth(skip)
            .expect("a company has many users")
    }

    /// What must become of the addresses of one object.
    pub fn keys_of(&self, dn: &str) -> Vec<String> {
        self.objects
            .iter()
            .filter(|object| object.dn() == dn)
            .flat_map(|object| &object.values)
            .filter_map(|value| match &value.truth {
                Truth::Address { keys } => Some(keys.clone()),
                Truth::Never { .. } => None,
            })
            .flatten()
            .collect()
    }

    fn object(&mut self, dn: &str) -> &mut Object {
        self.objects
            .iter_mut()
            .find(|object| object.dn() == dn)
            .unwrap_or_else(|| panic!("no object {dn}"))
    }

    fn make(&mut self, sort: &Sort) -> Object {
        let number = self.next_number;
        self.next_number += 1;
        let (first, last) = (
            *self.random.pick(&FIRST_NAMES),
            *self.random.pick(&LAST_NAMES),
        );
        // One in nine with the comma of "last, first", as many administrators name their users.
        let name = match number % 9 {
            0 => format!("{last}, {first} {number}"),
            _ => format!("{first} {last} {number} {}", sort.name),
        };
        let values = if sort.has_addresses {
            self.values(number, first, last)
        } else {
            Vec::new()
        };
        Object {
            number,
            name,
            unit: sort.unit,
            class: sort.class,
            recipient_type: sort.recipient_type,
            is_disabled: sort.is_disabled,
            is_hidden: self.random.below(20) == 0,
            is_internal_only: sort.is_internal_only,
            left_out_by_kind: sort.left_out,
            // On some objects another address than any of proxyAddresses: it is nobody's.
            mail: (!number.is_multiple_of(3)).then(|| match number % 10 {
                7 => format!("only-mail{number}@example.com"),
                _ => format!("{}.{number}@example.com", last.to_lowercase()),
            }),
            values,
        }
    }

    /// Between one value and forty, mostly few. Every local part holds the object's number: no two objects share one.
    fn values(&mut self, number: u64, first: &str, last: &str) -> Vec<Value> {
        let count = match self.random.below(100) {
            0..=29 => 1,
            30..=79 => 2 + self.random.below(3),
            80..=96 => 5 + self.random.below(6),
            _ => 11 + self.random.below(VALUES_MAX - 10),
        };
        let mut values = vec![self.address("SMTP:", &format!("{first}.{last}{number}"), 0)];
        for at in 1..count {
            let local = format!("{last}{number}-{at}");
            let value = match self.random.below(100) {
                0..=9 => other_type(at, &local),
                10..=14 => self.foreign(&local),
                15..=16 => broken(at, &local),
                _ => {
                    let prefix = *self
                        .random
                        .pick(&["smtp:", "smtp:", "smtp:", "SMTP:", "Smtp:"]);
                    let local = self.odd_local(&local);
                    let domain_number = usize::try_from(self.random.below(4)).unwrap_or(0);
                    self.address(prefix, &local, domain_number)
                }
            };
            // An attribute holds no value twice, and servers compare without case.
            let is_new = |other: &Value| other.text.to_lowercase() != value.text.to_lowercase();
            if values.iter().all(is_new) {
                values.push(value);
            }
        }
        values
    }

    /// Local parts as they happen, from the plain to those that nobody believes are allowed.
    fn odd_local(&mut self, local: &str) -> String {
        match self.random.below(40) {
            0 => format!("O'{local}"),
            1 => format!("{local}+Newsletter"),
            2 => format!("jörg.{local}"),
            3 => format!("Straße{local}"),
            4 => format!("the {local}"),
            5 => format!("a\"b\\c{local}"),
            6 => format!("{local}."),
            7 => format!("_{local}&co=/sales"),
            8 => format!("{{{local}}}"),
            9 => format!("{}{local}", "long".repeat(20)),
            10 => format!("ÄRGER-{local}"),
            _ => local.to_owned(),
        }
    }

    /// An address of ours, with the domain in one of its spellings.
    fn address(&mut self, prefix: &str, local: &str, domain_number: usize) -> Value {
        const DOMAINS: [&[&str]; 4] = [
            &["example.com"],
            &["sub.example.com"],
            &["xn--bcher-kva.example", "bücher.example"],
            &["bücher.example", "xn--bcher-kva.example"],
        ];
        let forms = DOMAINS.get(domain_number).expect("one of four domains");
        let spelling = forms.first().expect("a domain has a form");
        let spelling = match self.random.below(5) {
            0 => spelling.to_uppercase(),
            _ => (*spelling).to_owned(),
        };
        // Some systems write quotes that are not needed; they are no part of the address.
        let written = if needs_quotes(local) || self.random.below(50) == 0 {
            quoted(local)
        } else {
            local.to_owned()
        };
        let in_key = if needs_quotes(local) {
            quoted(local)
        } else {
            local.to_owned()
        };
        Value {
            text: format!("{prefix}{written}@{spelling}"),
            truth: Truth::Address {
                keys: forms
                    .iter()
                    .map(|form| fold(&format!("{in_key}@{form}")))
                    .collect(),
            },
        }
    }

    fn foreign(&mut self, local: &str) -> Value {
        let address = format!("{local}@{}", self.random.pick(&FOREIGN_DOMAINS));
        Value {
            text: format!("smtp:{address}"),
            truth: Truth::Never {
                said: Some(fold(&address)),
                why: "foreign_domain",
            },
        }
    }

    /// Some left-out objects get an address that a recipient has too: it must stay valid.
    fn share_some_addresses(&mut self) {
        let shared: Vec<Value> = self
            .objects
            .iter()
            .filter(|object| object.left_out().is_none() && object.number % 50 == 1)
            .filter_map(|object| object.values.first().cloned())
            .collect();
        let left_out = self
            .objects
            .iter_mut()
            .filter(|object| object.left_out().is_some() && object.number % 3 == 0);
        for (object, value) in left_out.zip(shared) {
            object.values.push(value);
        }
    }
}

/// Types of addresses that are not mail, some of which look like it.
fn other_type(at: u64, local: &str) -> Value {
    let (text, said) = match at % 6 {
        0 => (
            format!("X500:/o=Corp/ou=Exchange Administrative Group/cn=Recipients/cn={local}"),
            None,
        ),
        1 => (
            format!("SIP:{local}@example.com"),
            Some(format!("{local}@example.com")),
        ),
        2 => (
            format!("sip:{local}@sub.example.com"),
            Some(format!("{local}@sub.example.com")),
        ),
        3 => (format!("x400:C=DE;A= ;P=Corp;O=Exchange;S={local};"), None),
        4 => (
            format!("EUM:{local}@example.com;phone-context=Corp"),
            Some(format!("{local}@example.com")),
        ),
        _ => (
            format!("smtpx:{local}@example.com"),
            Some(format!("{local}@example.com")),
        ),
    };
    Value {
        text,
        truth: Truth::Never {
            said: said.map(|address| fold(&address)),
            why: "not_smtp",
        },
    }
}

/// Values of type SMTP that are no address, or that would be more than one.
fn broken(at: u64, local: &str) -> Value {
    let (text, why) = match at % 7 {
        0 => ("smtp:@example.com".to_owned(), "wildcard"),
        1 => ("smtp:*@example.com".to_owned(), "wildcard"),
        2 => (format!("smtp:{local}"), "malformed"),
        3 => (
            format!("smtp:{local}@example.com\nroot@example.com OK"),
            "control_character",
        ),
        4 => (
            format!("smtp:{local}{}@example.com", "x".repeat(250)),
            "too_long",
        ),
        5 => (format!("smtp:{local}@*.example.com"), "malformed"),
        _ => (format!("smtp:{local}@[192.0.2.1]"), "malformed"),
    };
    Value {
        text,
        truth: Truth::Never { said: None, why },
    }
}

/// What a gateway asks for, as far as the letters of this file go.
fn fold(text: &str) -> String {
    text.to_lowercase().replace('ß', "ss")
}

fn needs_quotes(local: &str) -> bool {
    local.ends_with('.') || local.contains([' ', '"', '\\'])
}

fn quoted(local: &str) -> String {
    format!("\"{}\"", local.replace('\\', "\\\\").replace('"', "\\\""))
}

fn change_value(dn: &str, change: &str, value: &str) -> String {
    let mut text = String::new();
    ldif::push_line(&mut text, "dn", dn);
    text.push_str("changetype: modify\n");
    ldif::push_line(&mut text, change, "proxyAddresses");
    ldif::push_line(&mut text, "proxyAddresses", value);
    text.push_str("-\n\n");
    text
}

fn push_object(text: &mut String, object: &Object, dialect: Dialect, as_change: bool) {
    let mut line = |name: &str, value: &str| ldif::push_line(text, name, value);
    line("dn", &object.dn());
    if as_change {
        line("changetype", "add");
    }
    let (class, account) = match object.class {
        Class::User => ("user", Some(format!("u{}", object.number))),
        Class::Group => ("group", Some(format!("g{}", object.number))),
        Class::Contact => ("contact", None),
        Class::PublicFolder => ("publicFolder", None),
        Class::DynamicGroup => ("msExchDynamicDistributionList", None),
    };
    line("objectClass", class);
    line("cn", &object.name);
    line("displayName", &object.name);
    if let Some(account) = &account {
        line("sAMAccountName", account);
    }
    match object.class {
        Class::User => {
            // A normal account that needs no password (0x220), and the bit of a disabled one (2).
            line(
                "userAccountControl",
                if object.is_disabled { "546" } else { "544" },
            );
            line(
                "userPrincipalName",
                &format!("upn{}@example.com", object.number),
            );
        }
        // A universal distribution group.
        Class::Group => line("groupType", "8"),
        Class::Contact => line(
            "targetAddress",
            &format!("SMTP:target{}@partner.example.org", object.number),
        ),
        Class::PublicFolder | Class::DynamicGroup => {}
    }
    if let Some(recipient_type) = object.recipient_type {
        line("msExchRecipientTypeDetails", &recipient_type.to_string());
    }
    if object.is_internal_only {
        line("msExchRequireAuthToSendTo", "TRUE");
    } else if object.number.is_multiple_of(4) {
        line("msExchRequireAuthToSendTo", "FALSE");
    }
    if object.is_hidden {
        line("msExchHideFromAddressLists", "TRUE");
    }
    if let Some(mail) = &object.mail {
        line("mail", mail);
    }
    for value in &object.values {
        line("proxyAddresses", &value.text);
    }
    match dialect {
        Dialect::Samba => {}
        Dialect::OpenLdap => {
            let mut guid = [0x52; 16];
            guid[..8].copy_from_slice(&object.number.to_be_bytes());
            ldif::push_bytes(text, "objectGUID", &guid);
            ldif::push_line(text, "uSNChanged", &(10_000 + object.number).to_string());
        }
    }
    text.push('\n');
}

const FIRST_NAMES: [&str; 12] = [
    "Anna", "Bernd", "Clara", "Dieter", "Eva", "Frank", "Gerda", "Hans", "Ines", "JAN", "karla",
    "Lars",
];

const LAST_NAMES: [&str; 10] = [
    "Mueller",
    "Schmidt",
    "Schneider",
    "FISCHER",
    "Weber",
    "Meyer",
    "Wagner",
    "becker",
    "Schulz",
    "van-der-Berg",
];
