//! `doctor` and the answer at `RCPT TO`: what it finds, a running Postfix does.

mod common;

use common::plain::STAFF;
use common::postfix::{self, Gateway, Options};
use common::rcptsync::Rcptsync;
use common::write_file;

/// A parameter as it is anyway.
const NOTHING: (&str, &str) = ("soft_bounce", "no");
/// Nobody has it.
const NOBODY: &str = "nobody@example.com";

/// A gateway with this parameter in its main.cf (`$TABLE` is ours) answers `address` with this code, and doctor finds just that.
#[track_caller]
fn check(parameter: (&'static str, &str), address: &str, code: u16, finding: &str) {
    let (name, value) = parameter;
    let domains = ["example.com", "sub.example.com", "bücher.example"];
    let relayed = [
        "example.com",
        "sub.example.com",
        "bücher.example",
        "xn--bcher-kva.example",
    ];
    let mut program = Rcptsync::new("doctor-gateway");
    program.configure(&domains, STAFF, "[recipients]\nalways = [\"postmaster\"]\n");
    program.staff("anna x@sub.example.com y@bücher.example");
    program.run(&["sync"]).expect_code(0);
    let table = program.table().display().to_string();
    let options = Options {
        relay_domains: relayed.map(str::to_owned).to_vec(),
        more: vec![(name, value.replace("$TABLE", &table))],
        ..Options::default()
    };
    let gateway = Gateway::start(&program.table(), "cdb", &options);
    let answer = gateway.rcpt(&[address]).remove(0);
    assert_eq!(answer.code, code, "{name} = {value}: {}", answer.text);
    // It listens on the loopback address here, where no stranger comes from.
    let services = gateway.config_directory().join("master.cf");
    write_file(&services, "smtp inet n - n - - smtpd\n");
    program.mail_config = Some(gateway.config_directory());
    let outcome = program.run(&["doctor", "--format", "json"]);
    let expected: Vec<&str> = finding
        .split(", ")
        .filter(|name| !name.is_empty())
        .collect();
    assert_eq!(
        outcome.findings(),
        expected,
        "{name} = {value}: {}",
        outcome.stdout
    );
}

#[test]
fn what_is_found_is_what_the_gateway_does() {
    if !postfix::is_available() {
        return;
    }
    check(NOTHING, NOBODY, 550, "");
    check(NOTHING, "anna@example.com", 250, "");
    check(
        ("relay_recipient_maps", ""),
        NOBODY,
        250,
        "error relay_recipient_maps",
    );
    check(
        ("relay_recipient_maps", "hash:$TABLE"),
        "anna@example.com",
        451,
        "error relay_recipient_maps, error map_opens",
    );
    check(
        (
            "relay_recipient_maps",
            "cdb:$TABLE, inline:{@example.com=x}",
        ),
        NOBODY,
        250,
        "error wildcards",
    );
    check(
        ("smtpd_reject_unlisted_recipient", "no"),
        NOBODY,
        250,
        "error unlisted_recipient",
    );
    check(
        ("receive_override_options", "no_unknown_recipient_checks"),
        NOBODY,
        250,
        "error unknown_recipient_checks",
    );
    check(("soft_bounce", "yes"), NOBODY, 450, "error soft_bounce");
    check(
        ("unknown_relay_recipient_reject_code", "450"),
        NOBODY,
        450,
        "error reject_code",
    );
}

#[test]
fn what_is_asked_instead_of_the_table() {
    if !postfix::is_available() {
        return;
    }
    for parameter in [
        "virtual_alias_maps",
        "canonical_maps",
        "recipient_canonical_maps",
    ] {
        check(
            (parameter, "inline:{@example.com=anna@example.com}"),
            NOBODY,
            250,
            "error alias_wildcards",
        );
        check(
            (parameter, "inline:{sales@example.com=anna@example.com}"),
            "sales@example.com",
            250,
            "info aliases",
        );
    }
    for parameter in ["mydestination", "virtual_mailbox_domains"] {
        check(
            (parameter, "example.com"),
            NOBODY,
            250,
            "error ignored_class",
        );
    }
}

#[test]
fn domains_that_are_not_relayed_as_they_are_written() {
    if !postfix::is_available() {
        return;
    }
    let relayed = |more: &str| format!("example.com, sub.example.com, {more}");
    check(
        ("relay_domains", &relayed("xn--bcher-kva.example")),
        "y@bücher.example",
        554,
        "warning domain_forms",
    );
    check(
        (
            "relay_domains",
            &relayed("bücher.example, xn--bcher-kva.example, example.org"),
        ),
        "anna@example.org",
        550,
        "error domains_without_recipients",
    );
    check(
        ("relay_domains", &relayed("")),
        "y@xn--bcher-kva.example",
        554,
        "warning domains_not_relayed",
    );
    check(
        (
            "smtpd_recipient_restrictions",
            "check_recipient_access inline:{example.com=REJECT}",
        ),
        "x@sub.example.com",
        554,
        "warning access_sub_domains",
    );
}

/// Behind proxymap, a session that begins after a publication may be answered from the table before it.
#[test]
fn a_table_behind_proxymap_is_late() {
    if !postfix::is_available() {
        return;
    }
    const CLIENTS_OF_A_SMTPD: usize = 20;
    // Where one smtpd has not done with its last client, there is another one.
    const CLIENTS_MAX: usize = 10 * CLIENTS_OF_A_SMTPD;
    for (map_type, expected) in [("cdb", 0..1), ("proxy:cdb", 1..CLIENTS_MAX)] {
        let program = Rcptsync::plain("doctor-proxied", STAFF, "");
        program.staff("anna");
        program.run(&["sync"]).expect_code(0);
        let options = Options {
            relay_domains: vec!["example.com".into()],
            // However long a client takes, a smtpd does not give up its connection to proxymap for that.
            more: vec![
                ("max_use", CLIENTS_OF_A_SMTPD.to_string()),
                ("ipc_idle", "1h".into()),
                ("max_idle", "1h".into()),
            ],
            ..Options::default()
        };
        let gateway = Gateway::start(&program.table(), map_type, &options);
        let is_known = |address: &str| gateway.rcpt(&[address]).remove(0).code == 250;
        assert!(is_known("anna@example.com") && !is_known("bob@example.com"));
        program.staff("anna bob");
        program.run(&["sync"]).expect_code(0);
        let late_count = (0..CLIENTS_MAX).take_while(|_| !is_known("bob@example.com"));
        let late_count = late_count.count();
        assert!(expected.contains(&late_count), "{map_type}: {late_count}");
    }
}
