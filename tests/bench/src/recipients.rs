//! Recipients as a directory of a mail organisation holds them, the same for the same number on every machine.
//!
//! 85 of 100 are users, 10 contacts, 5 groups; two to four SMTP addresses each in five domains, one of them
//! international; beside them X500 and SIP noise; German, English and French names, some with umlauts; organisational
//! units two or three deep. A recipient is made from its number alone, so a million need no memory.
//!
//! Invariant: no address is given twice, compared without case.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The naming context.
pub const BASE: &str = "DC=corp,DC=example";

/// The listed domains, as they stand in the directory.
pub const DOMAINS: [&str; 5] = [
    "example.com",
    "example.org",
    "corp.example",
    "mail.corp.example",
    "xn--bcher-kva.example",
];

/// The last of them in its other form, which a gateway with SMTPUTF8 asks for.
pub const INTERNATIONAL: [&str; 2] = ["xn--bcher-kva.example", "bücher.example"];

const SEED: u64 = 20_261_125;

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A mailbox of a person or a room.
    User,
    /// Somebody elsewhere.
    Contact,
    /// A distribution group.
    Group,
}

/// One object.
#[derive(Clone, Debug)]
pub struct Recipient {
    number: u64,
    class: Class,
    display_name: String,
    unit: String,
    /// The first is the primary one.
    addresses: Vec<String>,
    other_values: Vec<String>,
    recipient_type: u64,
    is_internal_only: bool,
}

/// The first so many recipients.
pub fn first(count: u64) -> impl Iterator<Item = Recipient> {
    (0..count).map(Recipient::of)
}

/// The organisational units, those above before those below.
pub fn units() -> Vec<String> {
    let mut units = Vec::new();
    for (country, cities) in COUNTRIES {
        let country = format!("OU={country},{BASE}");
        units.push(country.clone());
        units.extend(["Groups", "Contacts"].map(|name| format!("OU={name},{country}")));
        for city in cities {
            let city = format!("OU={city},{country}");
            units.push(city.clone());
            units.extend(DEPARTMENTS.map(|name| format!("OU={name},{city}")));
        }
    }
    units
}

impl Recipient {
    /// The recipient of a number.
    pub fn of(number: u64) -> Recipient {
        let mut random = Random(SEED.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let class = match random.below(100) {
            0..=84 => Class::User,
            85..=94 => Class::Contact,
            _ => Class::Group,
        };
        let (first, last) = (random.pick(&FIRST_NAMES), random.pick(&LAST_NAMES));
        let (country, cities) = random.pick(&COUNTRIES);
        let city = random.pick(&cities);
        let department = random.pick(&DEPARTMENTS);
        let (display_name, unit) = match class {
            // As many administrators name their users.
            Class::User => (
                format!("{last}, {first} {number}"),
                format!("OU={department},OU={city},OU={country}"),
            ),
            Class::Contact => (
                format!("{first} {last} {number}"),
                format!("OU=Contacts,OU={country}"),
            ),
            Class::Group => (
                format!("{department} {city} {number}"),
                format!("OU=Groups,OU={country}"),
            ),
        };
        let addresses = match class {
            Class::User | Class::Contact => addresses(&mut random, number, first, last),
            Class::Group => addresses(&mut random, number, department, city),
        };
        Recipient {
            number,
            class,
            display_name,
            unit,
            other_values: other_values(&mut random, &addresses),
            addresses,
            recipient_type: match class {
                Class::User => random.pick(&[1, 1, 1, 1, 1, 1, 4, 16, 32, 2_147_483_648]),
                Class::Contact => 64,
                Class::Group => 256,
            },
            is_internal_only: class == Class::Group && random.below(5) < 2,
        }
    }

    /// The distinguished name.
    pub fn dn(&self) -> String {
        let name = self.display_name.replace(',', "\\,");
        format!("CN={name},{},{BASE}", self.unit)
    }

    /// `objectGUID`
    pub fn guid(&self) -> [u8; 16] {
        let mut random = Random(self.number ^ SEED);
        let (high, low) = (random.next(), random.next());
        (u128::from(high) << 64 | u128::from(low)).to_be_bytes()
    }

    /// `msExchRecipientTypeDetails`
    pub fn recipient_type(&self) -> u64 {
        self.recipient_type
    }

    /// `msExchRequireAuthToSendTo`
    pub fn is_internal_only(&self) -> bool {
        self.is_internal_only
    }

    /// The addresses that a gateway must know.
    pub fn accepted(&self) -> impl Iterator<Item = &str> {
        let accepted = self.addresses.iter().filter(|_| !self.is_internal_only);
        accepted.map(String::as_str)
    }

    /// The values of `proxyAddresses`.
    pub fn proxy_addresses(&self) -> Vec<String> {
        let prefixes = std::iter::once("SMTP:").chain(std::iter::repeat("smtp:"));
        let addresses = prefixes.zip(&self.addresses);
        let addresses = addresses.map(|(prefix, address)| format!("{prefix}{address}"));
        addresses.chain(self.other_values.iter().cloned()).collect()
    }

    /// The keys of all these in the table, in the order of the directory.
    pub fn keys(&self) -> Vec<String> {
        let [ascii, unicode] = INTERNATIONAL;
        self.accepted()
            .flat_map(|address| {
                // As Postfix folds, as far as the letters of this file go.
                let key = address.to_lowercase().replace('ß', "ss");
                let local = key.strip_suffix(ascii);
                let other = local.map(|local| format!("{local}{unicode}"));
                std::iter::once(key.clone()).chain(other)
            })
            .collect()
    }

    /// Appends the whole entry.
    pub fn push_entry(&self, ldif: &mut String) {
        push_line(ldif, "dn", &self.dn());
        let (class, account) = match self.class {
            Class::User => ("user", Some('u')),
            Class::Contact => ("contact", None),
            Class::Group => ("group", Some('g')),
        };
        push_line(ldif, "objectClass", class);
        push_line(ldif, "cn", &self.display_name);
        push_line(ldif, "displayName", &self.display_name);
        if let Some(letter) = account {
            push_line(ldif, "sAMAccountName", &format!("{letter}{}", self.number));
        }
        if self.class == Class::User {
            push_line(ldif, "userAccountControl", "512");
        }
        if let Some(primary) = self.addresses.first() {
            push_line(ldif, "mail", primary);
        }
        push_line(ldif, "uSNChanged", &(10_000 + self.number).to_string());
        self.push_attributes(ldif);
    }

    /// Appends what an export of the needed attributes holds.
    pub fn push_export(&self, ldif: &mut String) {
        push_line(ldif, "dn", &self.dn());
        self.push_attributes(ldif);
    }

    fn push_attributes(&self, ldif: &mut String) {
        ldif.push_str("objectGUID:: ");
        ldif.push_str(&STANDARD.encode(self.guid()));
        ldif.push('\n');
        for value in self.proxy_addresses() {
            push_line(ldif, "proxyAddresses", &value);
        }
        push_line(
            ldif,
            "msExchRecipientTypeDetails",
            &self.recipient_type.to_string(),
        );
        if self.is_internal_only {
            push_line(ldif, "msExchRequireAuthToSendTo", "TRUE");
        }
        ldif.push('\n');
    }
}

/// Appends `name: value`, in Base64 where it is not plain.
pub fn push_line(ldif: &mut String, name: &str, value: &str) {
    ldif.push_str(name);
    if value.is_ascii() {
        ldif.push_str(": ");
        ldif.push_str(value);
    } else {
        ldif.push_str(":: ");
        ldif.push_str(&STANDARD.encode(value));
    }
    ldif.push('\n');
}

/// Two to four, each with the number in its local part.
fn addresses(random: &mut Random, number: u64, first: &str, last: &str) -> Vec<String> {
    let (plain_first, plain_last) = (plain(first), plain(last));
    let letter = first.chars().next().unwrap_or('x');
    let count = random.pick(&[2, 2, 3, 3, 3, 4]);
    // The primary address is mostly in the first domain.
    let primary_domain = random.pick(&[0, 0, 0, 0, 0, 1, 1, 2, 3, 4]);
    (0..count)
        .map(|at| {
            let domain = DOMAINS[(primary_domain + at) % DOMAINS.len()];
            let local = match at {
                0 => format!("{plain_first}.{plain_last}{number}"),
                1 => format!("{}{plain_last}{number}", plain(&letter.to_string())),
                // Once in a while as the name is written.
                2 if number.is_multiple_of(50) => format!("{first}.{last}{number}"),
                2 => format!("{plain_last}.{plain_first}{number}"),
                _ => format!("{plain_last}{number}"),
            };
            format!("{local}@{domain}").replace(' ', "-")
        })
        .collect()
}

fn other_values(random: &mut Random, addresses: &[String]) -> Vec<String> {
    let primary = addresses.first().map_or("", String::as_str);
    let local = primary.split('@').next().unwrap_or_default();
    let sip = (random.below(10) < 7).then(|| format!("sip:{primary}"));
    let x500 = (random.below(10) < 6).then(|| {
        let id = random.next();
        format!(
            "X500:/o=Corp/ou=Exchange Administrative Group (FYDIBOHF23SPDLT)/cn=Recipients/cn={id:016x}-{local}"
        )
    });
    sip.into_iter().chain(x500).collect()
}

fn plain(name: &str) -> String {
    let mut plain = String::with_capacity(name.len());
    for letter in name.chars() {
        match letter {
            'ä' => plain.push_str("ae"),
            'ö' => plain.push_str("oe"),
            'ü' => plain.push_str("ue"),
            'Ä' => plain.push_str("Ae"),
            'Ö' => plain.push_str("Oe"),
            'Ü' => plain.push_str("Ue"),
            'ß' => plain.push_str("ss"),
            'é' | 'è' => plain.push('e'),
            'ç' => plain.push('c'),
            'É' => plain.push('E'),
            other => plain.push(other),
        }
    }
    plain
}

/// SplitMix64: a few lines, the same numbers on every machine and in every version.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn pick<Item: Copy>(&mut self, list: &[Item]) -> Item {
        let at = self.below(list.len() as u64);
        list[usize::try_from(at).unwrap_or(0)]
    }
}

const COUNTRIES: [(&str, [&str; 4]); 3] = [
    ("Germany", ["Berlin", "München", "Köln", "Hamburg"]),
    ("France", ["Paris", "Lyon", "Lille", "Nantes"]),
    ("United Kingdom", ["London", "Leeds", "Bristol", "Glasgow"]),
];

const DEPARTMENTS: [&str; 6] = [
    "Sales",
    "Engineering",
    "Finance",
    "Legal",
    "Support",
    "Works",
];

const FIRST_NAMES: [&str; 48] = [
    "Anna",
    "Bernd",
    "Clara",
    "Dieter",
    "Eva",
    "Frank",
    "Gerda",
    "Hans",
    "Ines",
    "Jürgen",
    "Karla",
    "Lars",
    "Jörg",
    "Käthe",
    "Günter",
    "Sören",
    "Monika",
    "Stefan",
    "Ulrike",
    "Wolfgang",
    "Alice",
    "Brian",
    "Charlotte",
    "Daniel",
    "Emily",
    "Fiona",
    "George",
    "Harry",
    "Isla",
    "Jack",
    "Kate",
    "Liam",
    "Megan",
    "Oliver",
    "Thomas",
    "William",
    "André",
    "Béatrice",
    "Chloé",
    "Denis",
    "Éloise",
    "François",
    "Hélène",
    "Jean-Luc",
    "Léa",
    "Mathieu",
    "Noémie",
    "Solène",
];

const LAST_NAMES: [&str; 48] = [
    "Müller",
    "Schmidt",
    "Schneider",
    "Fischer",
    "Weber",
    "Meyer",
    "Wagner",
    "Becker",
    "Schulz",
    "Hoffmann",
    "Schäfer",
    "Koch",
    "Bauer",
    "Richter",
    "Klein",
    "Schröder",
    "Groß",
    "Krüger",
    "Köhler",
    "von Berg",
    "Smith",
    "Jones",
    "Taylor",
    "Brown",
    "Williams",
    "Wilson",
    "Johnson",
    "Davies",
    "Robinson",
    "Wright",
    "Thompson",
    "Evans",
    "Walker",
    "White",
    "Roberts",
    "Green",
    "Martin",
    "Bernard",
    "Thomas",
    "Petit",
    "Robert",
    "Richard",
    "Durand",
    "Dubois",
    "Moreau",
    "Lefèvre",
    "Girard",
    "Mercier",
];
