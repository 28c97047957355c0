//! Addresses, domains and distinguished names: what whoever can write one attribute can write.

use std::sync::LazyLock;

use rcptsync::address::{ADDRESS_OCTETS_MAX, Address, is_control, quoted, split_external};
use rcptsync::config::{Config, Format};
use rcptsync::dn::{self, DistinguishedName};
use rcptsync::domain::Domain;
use rcptsync::domains::Domains;
use rcptsync::entry::Entry;
use rcptsync::exchange;
use rcptsync::fold::{self, Folding};
use rcptsync::harmless;
use rcptsync::keys::{self, Key, folded_forms};
use rcptsync::policy::{Decision, Policy};
use rcptsync::record::{Facts, Record, RecordRef};
use rcptsync::smtp;
use rcptsync::source::referral;
use rcptsync::table::format::template::Form;
use rcptsync::table::format::{self, Said, text};
use rcptsync::table::plain::{Plain, PlainAddresses};
use rcptsync::table::rows::{self, RowsBuilder};
use rcptsync::table::value::RowValues;

const FOLDINGS: [Folding; 3] = [Folding::Unicode, Folding::Ascii, Folding::Both];

pub fn address(octets: &[u8]) {
    let Ok(written) = std::str::from_utf8(octets) else {
        return;
    };
    let _ = split_external(written);
    let Ok(address) = Address::parse(written) else {
        return;
    };
    check_address(&address);
    let said = smtp::said(&address);
    assert!(
        said.len() <= ADDRESS_OCTETS_MAX,
        "{} octets are said",
        said.len()
    );
    assert!(!said.contains(is_control), "a command is one line");
    assert_eq!(Address::parse(&said).as_ref(), Ok(&address));
    for folding in FOLDINGS {
        let all = Key::all_of(&address, folding);
        assert!(!all.is_empty(), "{address} cannot be looked up");
        for key in &all {
            check_key(key.as_str(), &address, folding);
        }
    }
}

fn check_address(address: &Address) {
    assert!(!address.local().is_empty() && address.local() != "*");
    assert!(!address.local().contains(is_control));
    assert!(address.is_same_as(address));
    for domain in [address.domain().ascii(), address.domain().unicode()] {
        let external = format!("{}@{domain}", address.quoted_local());
        assert_eq!(
            Address::parse(&external).as_ref(),
            Ok(address),
            "{external}"
        );
        let (local, behind) = split_external(&external).expect("made so");
        assert_eq!((local.as_ref(), behind), (address.local(), domain));
    }
}

/// A key is one row in every format that can say it, and nothing but this address.
fn check_key(key: &str, address: &Address, folding: Folding) {
    assert!(!key.contains(is_control), "{key:?}");
    let folded = folded_forms(key, folding);
    assert!(
        folded.iter().any(|folded| folded == key),
        "{key} is not folded"
    );
    let (local, domain) = split_external(key).expect("an address");
    assert_eq!(
        format!("{}@{domain}", quoted(&local)),
        key,
        "quoted otherwise"
    );
    assert!(!local.is_empty() && local != "*", "{key} is a wildcard");
    // Not quoted: atoms joined by single dots (RFC 5321 section 4.1.2).
    let are_atoms = local.split('.').all(|atom| {
        !atom.is_empty() && !atom.contains(|character| r#" ()<>@,;:\"[]"#.contains(character))
    });
    assert_eq!(key.starts_with('"'), !are_atoms, "{key}");
    assert_eq!(keys::domain_part(key.as_bytes()), domain.as_bytes());
    let forms = [address.domain().ascii(), address.domain().unicode()];
    assert!(
        forms.iter().any(|form| folded_forms(form, folding)
            .iter()
            .any(|form| form == domain)),
        "{key} is in no form of {}",
        address.domain()
    );
    assert_eq!(fold::unicode(&local), fold::unicode(address.local()));
    assert_eq!(
        text::can_say(key.as_bytes()),
        !key.starts_with('#'),
        "{key} in a text"
    );
    for form in Form::ALL {
        if form.can_say(key.as_bytes()) {
            assert!(!local.starts_with('@') || form == Form::Sendmail || form == Form::OpenSmtpd);
        }
    }
    let mut row = RowsBuilder::default();
    row.push(key.as_bytes(), rows::Facts::default());
    let row = row.finish();
    for format in [Format::Text, Format::Cdb, Format::Postgresql] {
        let mut written = Vec::new();
        let said = Said::of(format, &row);
        format::render(&said, &RowValues::alike("OK"), &mut written).expect("memory");
        let read = format::read(format, &written, Folding::Ascii).expect("a table");
        let found: Vec<&[u8]> = read.iter().map(|(key, _)| key.as_slice()).collect();
        assert_eq!(found, said.keys().collect::<Vec<_>>(), "{format:?}");
        assert!(read.iter().all(|(_, value)| value == b"OK"));
    }
}

pub fn domain(octets: &[u8]) {
    let Ok(written) = std::str::from_utf8(octets) else {
        return;
    };
    let mut entry = Entry::named("CN=x");
    entry.add_name(exchange::NAME);
    entry.add_value(octets);
    if let Ok(accepted) = exchange::accepted_domain(&entry) {
        check_domain(&accepted.domain);
        assert_eq!(
            accepted.with_sub_domains,
            written.trim().starts_with("*."),
            "{written:?}"
        );
    }
    let Ok(domain) = Domain::parse(written) else {
        return;
    };
    check_domain(&domain);
    let folded = fold::unicode(written);
    assert!(
        folded == domain.ascii() || folded == fold::unicode(domain.unicode()),
        "{written:?} only looks like {domain}"
    );
}

fn check_domain(domain: &Domain) {
    let (ascii, unicode) = (domain.ascii(), domain.unicode());
    for form in [ascii, unicode, &ascii.to_ascii_uppercase()] {
        let again = Domain::parse(form).expect("either form, in any case");
        assert_eq!(
            (again.ascii(), again.unicode()),
            (ascii, unicode),
            "from {form:?}"
        );
    }
    assert!(ascii.len() <= 253);
    for label in ascii.split('.') {
        assert!((1..=63).contains(&label.len()), "{ascii}");
        assert!(!label.starts_with('-') && !label.ends_with('-'), "{ascii}");
        let is_of_host =
            |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-';
        assert!(label.bytes().all(is_of_host), "{ascii}");
    }
    assert!(
        !unicode.contains(|character: char| is_control(character) || character.is_whitespace())
    );
    assert!(
        !unicode.contains(['*', '@', '"', '\\', '[', '%', '!']),
        "{unicode}"
    );
    assert_eq!(
        harmless::key(unicode.as_bytes()),
        unicode,
        "a name that a terminal only shows"
    );
    let stored: Domain = String::from(domain.clone()).try_into().expect("as stored");
    assert_eq!(stored, *domain);
}

static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    let text = r#"
        [domains]
        list = ["example.com", "bücher.example", "straße.example"]
        [source.a]
        kind = "list"
        path = "a"
        [table.t]
        path = "t"
        formats = ["cdb"]
        [recipients]
        exclude = ["Test@example.com", "test@bücher.example"]
        exclude_dn = ["OU=Leavers,DC=x"]
    "#;
    rcptsync::config::parse(std::path::Path::new("/c"), text).expect("a configuration")
});

/// What becomes of a value of `proxyAddresses`: never a row outside of the listed domains, and the short way for plain
/// addresses says what the long one says.
pub fn value(octets: &[u8]) {
    let domains = Domains::exact(&CONFIG.domains.list);
    let policy = Policy::new(&CONFIG.recipients, &domains);
    for folding in FOLDINGS {
        let forms = domains.forms(folding);
        let expected = match policy.decide(RecordRef::default(), octets) {
            Decision::LeftOut(reason) => Err(reason),
            Decision::Accepted(address) => {
                check_address(&address);
                assert!(octets[..5].eq_ignore_ascii_case(b"smtp:"));
                let all = Key::all_of(&address, folding);
                for key in &all {
                    let domain = keys::domain_part(key.as_str().as_bytes());
                    assert!(forms.find(domain).is_some(), "{} is in none", key.as_str());
                }
                Ok(all
                    .iter()
                    .map(|key| key.as_str().to_owned())
                    .collect::<Vec<_>>())
            }
        };
        let mut plain = PlainAddresses::new(&policy, &domains, folding);
        // Twice: its domain is met, and then known.
        for _ in 0..2 {
            let found = match plain.decide(octets) {
                None => continue,
                Some(Plain::LeftOut(reason)) => Err(reason),
                Some(Plain::Listed(keys)) => {
                    let mut found = Vec::new();
                    keys.for_each(|key| found.push(String::from_utf8_lossy(key).into_owned()));
                    Ok(found)
                }
            };
            assert_eq!(found, expected, "{}", octets.escape_ascii());
        }
    }
}

pub fn distinguished_name(octets: &[u8]) {
    let Ok(written) = std::str::from_utf8(octets) else {
        return;
    };
    assert!(written.ends_with(dn::container_of(written)));
    assert!(written.starts_with(dn::below_domain(written)));
    let reference = format!("ldap://x/{written}");
    assert!(referral::uncovered(&[reference], &[]).len() <= 1);
    let root = DistinguishedName::parse("").expect("the root");
    if let Ok(name) = DistinguishedName::parse(written) {
        assert!(name.is_at_or_under(&name) && name.is_at_or_under(&root));
        let printed = name.to_string();
        assert_eq!(
            DistinguishedName::parse(&printed),
            Ok(name.clone()),
            "{printed:?}"
        );
        if let Ok(container) = DistinguishedName::parse(dn::container_of(written)) {
            assert!(name.is_at_or_under(&container), "{written:?}");
        }
        if let Some(domain) = name.domain() {
            let domain = DistinguishedName::parse(&domain).expect("a name");
            assert!(name.is_at_or_under(&domain));
        }
    }
    as_a_value(written);
}

/// Whoever may choose the name of an object chooses no place for it.
fn as_a_value(value: &str) {
    let escaped: String = value
        .bytes()
        .map(|octet| format!("\\{octet:02x}"))
        .collect();
    let below = |container: &str| {
        let text = format!("CN={escaped},{container}");
        (DistinguishedName::parse(&text).expect("a name"), text)
    };
    let (name, text) = below("OU=Staff,DC=x");
    let staff = DistinguishedName::parse("ou=staff,dc=x").expect("a name");
    let leavers = DistinguishedName::parse("OU=Leavers,DC=x").expect("a name");
    assert!(name.is_at_or_under(&staff) && name != staff);
    assert!(!name.is_at_or_under(&leavers));
    assert_eq!(DistinguishedName::parse(dn::container_of(&text)), Ok(staff));
    let of_two = DistinguishedName::parse("CN=a+OU=b,OU=Staff,DC=x").expect("a name");
    assert_ne!(name, of_two, "one value reads as two");
    let record = Record::of(Facts {
        dn: &text,
        ..Facts::default()
    });
    let domains = Domains::exact(&CONFIG.domains.list);
    let policy = Policy::new(&CONFIG.recipients, &domains);
    assert_eq!(policy.left_out_record(record.view()), None);
}
