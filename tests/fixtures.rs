//! The servers that the other tests rely on do what those tests believe of them.
//!
//! Nothing here runs rcptsync: a failure here means that a fixture is wrong, and no other test needs to be looked at.

mod common;

use std::collections::BTreeSet;

use common::directory::{Company, DOMAINS, Dialect, Truth, Unit};
use common::postfix::{self, Gateway, Instance, Options};
use common::process::succeed;
use common::slapd::{self, Slapd};
use common::{ldif, samba, temp_dir, write_file};

#[test]
fn the_company_has_everything_that_goes_wrong() {
    let company = Company::generate(1, 3_000);
    let accepted = company.expected_accepted();
    let values = || company.objects().iter().flat_map(|object| &object.values);
    assert!(accepted.len() > 6_000, "{} keys", accepted.len());

    for part in ["'", "+", "\"", "ö", "strasse", "@xn--", "@bücher", "{"] {
        assert!(
            accepted.iter().any(|key| key.contains(part)),
            "no key with {part}"
        );
    }
    let prefixes: BTreeSet<&str> = values()
        .filter_map(|value| Some(value.text.split_once(':')?.0))
        .collect();
    let prefixes_expected = BTreeSet::from([
        "SMTP", "smtp", "Smtp", "X500", "SIP", "sip", "x400", "EUM", "smtpx",
    ]);
    assert_eq!(prefixes, prefixes_expected);
    let most = company.objects().iter().map(|o| o.values.len()).max();
    assert!(most >= Some(30), "{most:?} values at most");

    let reasons: BTreeSet<&str> = company.expected_left_out_counts().into_keys().collect();
    let reasons_expected = BTreeSet::from([
        "control_character",
        "excluded_dn",
        "foreign_domain",
        "internal_only",
        "malformed",
        "not_smtp",
        "system",
        "too_long",
        "wildcard",
    ]);
    assert_eq!(reasons, reasons_expected);

    for (address, why) in company.expected_left_out() {
        assert!(!accepted.contains(&address), "{address}: {why}");
    }
    let is_ours = |key: &String| {
        let domain = key.rsplit('@').next().unwrap_or_default();
        DOMAINS.contains(&domain) || domain == "xn--bcher-kva.example"
    };
    assert!(accepted.iter().all(is_ours));
}

#[test]
fn the_company_knows_what_a_change_does() {
    let mut company = Company::generate(2, 500);
    let accepted = company.expected_accepted();
    let (dn, key) = company.some_user(0);
    let keys = company.keys_of(&dn);

    company.remove_address(&dn, &key);
    assert!(!company.expected_accepted().contains(&key));
    company.add_address(&dn, "a.new.one");
    assert!(
        company
            .expected_accepted()
            .contains("a.new.one@example.com")
    );

    company.move_to(&dn, Unit::Leavers);
    let without = company.expected_accepted();
    assert!(keys.iter().all(|key| !without.contains(key)), "{keys:?}");
    let (dn, _) = company.add_user();
    assert_eq!(
        company.expected_accepted().len(),
        without.len() + company.keys_of(&dn).len()
    );
    company.delete(&dn);
    assert_eq!(company.expected_accepted(), without);
    assert_eq!(accepted.len(), without.len() + keys.len());
}

#[test]
fn samba_serves_the_company_to_an_ordinary_account() {
    let Some(samba) = samba::shared() else {
        return;
    };
    let search = |filter: &str, attribute: &str| {
        let output = succeed(
            samba
                .ldap_tool("ldapsearch")
                .args(["-LLL", "-o", "ldif-wrap=no", "-E", "pr=1000/noprompt"])
                .args(["-b", samba::SEARCH_BASE, filter, attribute]),
        );
        String::from_utf8(output.stdout).expect("ldapsearch prints ASCII")
    };
    let answer = search("(proxyAddresses=smtp:*)", "proxyAddresses");
    assert_eq!(
        ldif::entries_count(&answer),
        samba.company.found_by_filter_count()
    );
    assert!(samba.company.objects().len() >= 3_000);

    // The values as well, not only the objects.
    let values_found = answer
        .lines()
        .filter(|line| line.starts_with("proxyAddresses:"))
        .count();
    let values_expected: usize = samba
        .company
        .objects()
        .iter()
        .filter(|object| object.is_found_by_filter())
        .map(|object| object.values.len())
        .sum();
    assert_eq!(values_found, values_expected);

    for (filter, is_meant) in [
        (
            "(msExchRequireAuthToSendTo=TRUE)",
            (|object| object.is_internal_only) as fn(&common::directory::Object) -> bool,
        ),
        ("(msExchRecipientTypeDetails=549755813888)", |object| {
            object.recipient_type == Some(549_755_813_888)
        }),
        ("(msExchHideFromAddressLists=TRUE)", |object| {
            object.is_hidden
        }),
    ] {
        let count = samba
            .company
            .objects()
            .iter()
            .filter(|o| is_meant(o))
            .count();
        assert_eq!(
            ldif::entries_count(&search(filter, "1.1")),
            count,
            "{filter}"
        );
    }
}

#[test]
fn samba_follows_its_company_through_changes() {
    let Some(mut samba) = samba::shared() else {
        return;
    };
    let (dn, key) = samba.company.some_user(3);
    let change = samba.company.remove_address(&dn, &key);
    samba.modify(&change);
    let change = samba.company.add_address(&dn, "added.in.fixtures");
    samba.modify(&change);
    let change = samba.company.move_to(&dn, Unit::Leavers);
    samba.modify(&change);
    let (new_dn, change) = samba.company.add_user();
    samba.modify(&change);
    let change = samba.company.delete(&new_dn);
    samba.modify(&change);

    let output = succeed(
        samba
            .ldap_tool("ldapsearch")
            .args([
                "-LLL",
                "-o",
                "ldif-wrap=no",
                "-b",
                common::directory::LEAVERS,
            ])
            .args(["(proxyAddresses=smtp:added.in.fixtures@example.com)", "1.1"]),
    );
    assert_eq!(
        ldif::entries_count(&String::from_utf8_lossy(&output.stdout)),
        1
    );
}

#[test]
fn samba_takes_no_password_without_tls() {
    let Some(samba) = samba::shared() else {
        return;
    };
    let output = common::process::command("ldapsearch")
        .args(["-x", "-H", &samba.ldap_url(), "-D", samba::ACCOUNT, "-y"])
        .arg(samba.password_file())
        .args(["-s", "base", "-b", samba::SEARCH_BASE])
        .output()
        .expect("ldapsearch runs");
    // strongerAuthRequired
    assert_eq!(output.status.code(), Some(8), "{output:?}");
}

#[test]
fn slapd_ends_an_unpaged_answer_after_1000_entries() {
    if !slapd::is_available() {
        return;
    }
    let company = Company::generate(3, 2_500);
    let slapd = Slapd::start(&company.ldif(Dialect::OpenLdap));
    let search = |page: &[&str]| {
        slapd
            .ldap_tool("ldapsearch")
            .args(["-LLL", "-o", "ldif-wrap=no"])
            .args(page)
            .args(["-b", common::directory::BASE])
            .args(["(proxyAddresses=smtp:*)", "1.1"])
            .output()
            .expect("ldapsearch runs")
    };
    let count = |output: &std::process::Output| {
        ldif::entries_count(&String::from_utf8_lossy(&output.stdout))
    };
    let paged = search(&["-E", "pr=1000/noprompt"]);
    assert!(paged.status.success(), "{paged:?}");
    assert_eq!(count(&paged), company.found_by_filter_count());

    let unpaged = search(&[]);
    // sizeLimitExceeded
    assert_eq!((unpaged.status.code(), count(&unpaged)), (Some(4), 1_000));
}

#[test]
fn postfix_answers_from_a_table_that_postmap_made() {
    if !postfix::is_available() {
        return;
    }
    let directory = temp_dir("table");
    let table = directory.path().join("relay_recipients");
    let known = [
        "anna@example.com",
        "\"john doe\"@example.com",
        "jörg@bücher.example",
    ];
    let text: String = known.iter().map(|key| format!("{key} OK\n")).collect();
    write_file(&table, &text);
    Instance::for_postmap(true).postmap_build("cdb", &table);

    let gateway = Gateway::start(&table, "cdb", &Options::default());
    let asked = [
        known[0],
        "ANNA@Example.COM",
        known[1],
        known[2],
        "nobody@example.com",
        "anna+tag@example.com",
        "anna@elsewhere.example",
    ];
    let answers = gateway.rcpt(&asked);
    let codes: Vec<u16> = answers.iter().map(|answer| answer.code).collect();
    assert_eq!(
        codes,
        [250, 250, 250, 250, 550, 550, 554],
        "{answers:?}\n{}",
        gateway.mail_log()
    );
    let unknown = &answers[4].text;
    assert!(
        unknown.starts_with("5.1.1 <nobody@example.com>: Recipient address rejected"),
        "{unknown}"
    );

    let output = gateway.postmap(&["-q", known[0], &format!("cdb:{}", table.display())]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "OK\n");
}

#[test]
fn postfix_takes_every_address_of_the_company() {
    if !postfix::is_available() {
        return;
    }
    let company = Company::generate(4, 1_000);
    let accepted: Vec<String> = company.expected_accepted().into_iter().collect();
    let directory = temp_dir("table");
    let table = directory.path().join("relay_recipients");
    let text: String = accepted.iter().map(|key| format!("{key} OK\n")).collect();
    write_file(&table, &text);
    Instance::for_postmap(true).postmap_build("cdb", &table);

    let options = Options {
        recipient_delimiter: "+",
        ..Options::default()
    };
    let gateway = Gateway::start(&table, "cdb", &options);
    for (address, answer) in accepted.iter().zip(gateway.rcpt(&accepted)) {
        assert_eq!(answer.code, 250, "{address}: {}", answer.text);
    }
    let left_out: Vec<String> = company
        .expected_left_out()
        .into_iter()
        .map(|(address, _)| address)
        .collect();
    for (address, answer) in left_out.iter().zip(gateway.rcpt(&left_out)) {
        assert!(
            matches!(answer.code, 550 | 554),
            "{address}: {} {}",
            answer.code,
            answer.text
        );
    }
    // The values as they stand in the directory, whatever their case and spelling.
    let as_written: Vec<&str> = company
        .objects()
        .iter()
        .filter(|object| object.left_out().is_none())
        .flat_map(|object| &object.values)
        .filter(|value| matches!(value.truth, Truth::Address { .. }))
        .filter_map(|value| Some(value.text.split_once(':')?.1))
        .collect();
    for (address, answer) in as_written.iter().zip(gateway.rcpt(&as_written)) {
        assert_eq!(answer.code, 250, "{address}: {}", answer.text);
    }
}
