//! From the directory to the answer at `RCPT TO`: a real controller, the program, a real Postfix.
//!
//! What the table must hold is tested in `active_directory.rs`; here it is asked as a stranger on the Internet asks.

mod common;

use std::collections::BTreeSet;

use common::directory::{Company, DOMAINS, LEAVERS, RELAY_DOMAINS, complete_domains};
use common::postfix::{self, Gateway, Options};
use common::rcptsync::{LdapConfig, Rcptsync};
use common::samba::{self, Samba};

/// An installation that has published the company, and a gateway that reads its CDB.
fn published(samba: &Samba, options: &Options) -> (Rcptsync, Gateway) {
    let rcptsync = Rcptsync::new("gateway");
    rcptsync.configure_ldap(&LdapConfig {
        server: samba.ldaps_url(),
        starttls: false,
        ca_file: &samba.ca_file(),
        bind_name: samba::ACCOUNT,
        password_file: &samba.password_file(),
        page_size: 1_000,
        source_more: "",
        domains: &DOMAINS,
        more: &format!(
            "{}[recipients]\nexclude_dn = [\"{LEAVERS}\"]\n[guard]\nremoved_floor = 1000\n",
            complete_domains()
        ),
    });
    rcptsync.run(&["sync"]).expect_code(0);
    let gateway = Gateway::start(&rcptsync.table(), "cdb", options);
    (rcptsync, gateway)
}

/// Addresses that nobody must get: what the company leaves out, and near misses of accepted ones, about one for each.
fn misses(company: &Company, recipient_delimiter: &str) -> Vec<String> {
    let accepted = company.expected_accepted();
    let mut misses: BTreeSet<String> = company
        .expected_left_out()
        .into_iter()
        .map(|(address, _)| address)
        .collect();
    for object in company.objects() {
        misses.extend(object.mail.clone());
    }
    for (number, key) in accepted.iter().enumerate() {
        let (local, domain) = key.rsplit_once('@').expect("a key has a domain");
        if local.starts_with('"') {
            continue;
        }
        misses.insert(match number % 6 {
            0 => format!("x{key}"),
            1 => format!("{local}x@{domain}"),
            2 => format!("{local}@deep.{domain}"),
            3 if recipient_delimiter.is_empty() => format!("{local}+tag@{domain}"),
            3 => format!("tag+{local}@{domain}"),
            4 => format!("{local}@example.com"),
            _ => format!("{local}@sub.example.com"),
        });
    }
    misses
        .into_iter()
        .filter(|miss| !accepted.contains(&miss.to_lowercase()))
        .collect()
}

#[test]
fn the_gateway_takes_every_recipient_and_nobody_else() {
    let Some(samba) = samba::shared() else {
        return;
    };
    if !postfix::is_available() {
        return;
    }
    let accepted: Vec<String> = samba.company.expected_accepted().into_iter().collect();
    for recipient_delimiter in ["", "+"] {
        let options = Options {
            recipient_delimiter,
            ..Options::default()
        };
        let (_rcptsync, gateway) = published(&samba, &options);
        check_all(&gateway, &accepted, &[250]);
        let shouted: Vec<String> = accepted.iter().map(|key| key.to_uppercase()).collect();
        check_all(&gateway, &shouted, &[250]);

        let misses = misses(&samba.company, recipient_delimiter);
        assert!(misses.len() > accepted.len() / 2, "{}", misses.len());
        // 554: not even a domain of ours.
        let (ours, others): (Vec<String>, Vec<String>) = misses.into_iter().partition(|miss| {
            RELAY_DOMAINS
                .iter()
                .any(|d| miss.ends_with(&format!("@{d}")))
        });
        check_all(&gateway, &ours, &[550]);
        // Postfix relays for sub-domains of relay_domains as well, and finds nobody there.
        check_all(&gateway, &others, &[550, 554]);

        // With a delimiter, and only then, whatever stands behind it goes to the recipient before it.
        let tagged: Vec<String> = accepted
            .iter()
            .filter(|key| !key.starts_with('"') && !key.contains('+'))
            .map(|key| key.replacen('@', "+some.tag@", 1))
            .step_by(10)
            .collect();
        let code = if recipient_delimiter.is_empty() {
            550
        } else {
            250
        };
        check_all(&gateway, &tagged, &[code]);
    }
}

#[track_caller]
fn check_all(gateway: &Gateway, addresses: &[String], codes: &[u16]) {
    let wrong: Vec<String> = addresses
        .iter()
        .zip(gateway.rcpt(addresses))
        .filter(|(_, answer)| !codes.contains(&answer.code))
        .map(|(address, answer)| format!("{address}: {} {}", answer.code, answer.text))
        .take(20)
        .collect();
    assert!(wrong.is_empty(), "not {codes:?}: {wrong:#?}");
}

#[test]
fn explain_says_what_the_gateway_does() {
    let Some(samba) = samba::shared() else {
        return;
    };
    if !postfix::is_available() {
        return;
    }
    let (rcptsync, gateway) = published(&samba, &Options::default());
    let mut asked: BTreeSet<String> = samba.company.expected_accepted();
    let accepted_count = asked.len();
    let left_out = samba.company.expected_left_out();
    asked.extend(left_out.into_iter().map(|(address, _)| address));
    asked.extend(misses(&samba.company, ""));
    let asked: Vec<String> = asked.into_iter().collect();

    let mut disagreements = Vec::new();
    for (address, (answer, verdict)) in asked.iter().zip(
        gateway
            .rcpt(&asked)
            .into_iter()
            .zip(verdicts(&rcptsync, &asked)),
    ) {
        if (answer.code == 250) != verdict.contains("accepted") {
            disagreements.push(format!(
                "{address}: {} {}; explain: {verdict}",
                answer.code, answer.text
            ));
        }
    }
    // Told also when all is well: the figure is worth knowing.
    let line = format!(
        "explain and the gateway were compared on {} addresses, {accepted_count} of them accepted\n",
        asked.len()
    );
    std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes())
        .expect("standard error is open");
    assert!(
        disagreements.is_empty(),
        "{} of {}: {disagreements:#?}",
        disagreements.len(),
        asked.len()
    );
}

/// What `explain` says of each address, in their order: the lines that are not indented.
fn verdicts(rcptsync: &Rcptsync, addresses: &[String]) -> Vec<String> {
    const ADDRESSES_A_RUN: usize = 2000;
    let mut verdicts = Vec::new();
    for some in addresses.chunks(ADDRESSES_A_RUN) {
        let mut arguments = vec!["explain", "--"];
        arguments.extend(some.iter().map(String::as_str));
        let explained = rcptsync.run(&arguments).stdout;
        verdicts.extend(
            explained
                .lines()
                .filter(|line| !line.is_empty() && !line.starts_with(' '))
                .map(str::to_owned),
        );
    }
    assert_eq!(verdicts.len(), addresses.len());
    verdicts
}

#[test]
fn a_running_smtpd_answers_from_the_new_table() {
    let Some(mut samba) = samba::shared() else {
        return;
    };
    if !postfix::is_available() {
        return;
    }
    let (rcptsync, gateway) = published(&samba, &Options::default());
    let (dn, leaving) = samba.company.some_user(0);
    let coming = "coming@example.com";
    let ask = || {
        let answers = gateway.rcpt(&[leaving.as_str(), coming]);
        answers.iter().map(|answer| answer.code).collect::<Vec<_>>()
    };
    assert_eq!(ask(), [250, 550]);

    let removal = samba.company.remove_address(&dn, &leaving);
    let addition = samba.company.add_address(&dn, "coming");
    samba.modify(&format!("{removal}{addition}"));
    rcptsync.run(&["sync"]).expect_code(0);
    // The very next session: smtpd looks at its tables before it accepts a client.
    assert_eq!(ask(), [550, 250], "{}", gateway.mail_log());
    assert!(
        !gateway.mail_log().contains("reload"),
        "{}",
        gateway.mail_log()
    );
    rcptsync.run(&["explain", &leaving]).expect_code(1);
    rcptsync.run(&["explain", coming]).expect_code(0);

    let back = samba.company.remove_address(&dn, coming);
    samba.modify(&back);
}

/// A `#` at the start of a line is a comment in the text, whatever stands behind it; the CDB knows no comments.
#[test]
fn an_address_that_the_text_cannot_say_is_in_the_cdb() {
    let Some(mut samba) = samba::shared() else {
        return;
    };
    if !postfix::is_available() {
        return;
    }
    let (dn, _) = samba.company.some_user(1);
    let change = samba.company.add_address(&dn, "#1");
    samba.modify(&change);
    let (rcptsync, gateway) = published(&samba, &Options::default());
    let answers = gateway.rcpt(&["#1@example.com", "\"#1\"@example.com"]);
    let change = samba.company.remove_address(&dn, "#1@example.com");
    samba.modify(&change);

    assert!(
        answers.iter().all(|answer| answer.code == 250),
        "{answers:?}"
    );
    assert!(!rcptsync.table_keys().contains("#1@example.com"));
}
