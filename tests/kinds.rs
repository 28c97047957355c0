//! Every kind of table, published and asked by a real Postfix in the way that is its own.

mod common;

use std::path::PathBuf;

use common::postfix::{self, Gateway, Options};
use common::rcptsync::Rcptsync;
use rcptsync::config::Format;
use rcptsync::table::format::{self, Said};
use rcptsync::table::rows::{Facts, RowsBuilder};
use rcptsync::table::value::RowValues;

/// A mailbox, a group that takes no mail from outside, and a mailbox in another mail system.
const COMPANY: &str = "\
dn: CN=Anna,DC=corp,DC=example
objectGUID:: AAAAAAAAAAAAAAAAAAAAAQ==
msExchRecipientTypeDetails: 1
proxyAddresses: SMTP:Anna@example.com
proxyAddresses: smtp:anna@call.example

dn: CN=Team,DC=corp,DC=example
objectGUID:: AAAAAAAAAAAAAAAAAAAAAg==
msExchRecipientTypeDetails: 256
msExchRequireAuthToSendTo: TRUE
proxyAddresses: SMTP:Team@example.com

dn: CN=Rita,DC=corp,DC=example
objectGUID:: AAAAAAAAAAAAAAAAAAAAAw==
msExchRecipientTypeDetails: 2147483648
proxyAddresses: SMTP:Rita@example.com

";

const SOURCE: &str = "[source.corp]\nkind = \"ldif\"\npath = \"company.ldif\"\n";

const TABLES: &str = r#"
[domain."example.com"]
directory_is_complete = true
[domain."catch.example"]
policy = "catch_all"
[domain."call.example"]
policy = "callout"
[table.access]
path = "tables/access"
formats = ["text", "cdb"]
folding = "unicode"
kind = "access"
[table.domains]
path = "tables/domains"
formats = ["text", "cdb"]
folding = "unicode"
kind = "domains"
value = "1"
[table.transport]
path = "tables/transport"
formats = ["text", "cdb"]
folding = "unicode"
kind = "transport"
next_hop = "discard:"
remote_next_hop = "discard:remote"
[table.callout]
path = "tables/callout"
formats = ["text", "cdb"]
folding = "unicode"
kind = "callout"
"#;

const DOMAINS: [&str; 4] = [
    "example.com",
    "catch.example",
    "call.example",
    "bücher.example",
];

/// An installation with a table of each kind, published.
fn published() -> Rcptsync {
    let program = Rcptsync::new("kinds");
    program.configure(&DOMAINS, SOURCE, TABLES);
    program.write_settled("company.ldif", COMPANY);
    // Nobody is known in bücher.example: who has none there must not be refused for that.
    let outcome = program.run(&["sync"]).expect_code(65);
    let held = "held  bücher.example, table access: nobody in the domain would be accepted";
    assert!(outcome.stdout.contains(held), "{}", outcome.stdout);
    program
}

fn table(program: &Rcptsync, name: &str) -> PathBuf {
    program.directory().join("tables").join(name)
}

/// What the text of a table says, without comments.
fn lines(program: &Rcptsync, name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(table(program, name)).expect("a published table");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(str::to_owned).collect()
}

#[test]
fn each_kind_says_what_its_reader_asks_for() {
    let program = published();
    let expected: [(&str, &[&str]); 5] = [
        (
            "relay_recipients",
            &[
                "@call.example OK",
                "@catch.example OK",
                "anna@call.example OK",
                "anna@example.com OK",
                "rita@example.com OK",
            ],
        ),
        (
            "access",
            &[
                "anna@call.example DUNNO",
                "anna@example.com DUNNO",
                "call.example DUNNO",
                "catch.example DUNNO",
                "example.com 550 5.1.1 User unknown",
                "rita@example.com DUNNO",
                "team@example.com 550 5.7.1 This address accepts mail from inside the organisation only",
            ],
        ),
        (
            "domains",
            &[
                "bücher.example 1",
                "call.example 1",
                "catch.example 1",
                "example.com 1",
                "xn--bcher-kva.example 1",
            ],
        ),
        (
            "transport",
            &[
                "bücher.example discard:",
                "call.example discard:",
                "catch.example discard:",
                "example.com discard:",
                "rita@example.com discard:remote",
                "xn--bcher-kva.example discard:",
            ],
        ),
        ("callout", &["call.example reject_unverified_recipient"]),
    ];
    for (name, rows) in expected {
        assert_eq!(lines(&program, name), rows, "{name}");
    }
    let diff = program.run(&["diff"]);
    for line in [
        "policy  call.example is not decided on by its list: callout",
        "policy  catch.example is not decided on by its list: catch_all",
    ] {
        assert!(diff.stdout.contains(line), "{}", diff.stdout);
    }
    // Nothing but the hold is left.
    program.run_untouching(&["sync"], 65);
}

#[test]
fn a_gateway_answers_as_every_kind_says() {
    if !postfix::is_available() {
        return;
    }
    let program = published();
    let behind = {
        // What the system behind knows of the domain that is called out to.
        let known = program.directory().join("tables/known");
        std::fs::write(&known, "bernd@call.example OK\n").expect("a file of our own");
        Gateway::start(
            &known,
            "texthash",
            &Options {
                relay_domains: vec!["call.example".into()],
                ..Options::default()
            },
        )
    };
    let map = |name: &str| format!("cdb:{}", table(&program, name).display());
    let gateway = Gateway::start(
        &program.table(),
        "cdb",
        &Options {
            more: vec![
                ("relay_domains", map("domains")),
                ("transport_maps", map("transport")),
                (
                    "smtpd_recipient_restrictions",
                    format!(
                        "reject_unauth_destination, check_recipient_access {}, check_recipient_access {}",
                        map("access"),
                        map("callout")
                    ),
                ),
                ("unverified_recipient_reject_code", "550".into()),
                // The probe goes to another port than the mail.
                ("address_verify_transport_maps", String::new()),
                (
                    "address_verify_relay_transport",
                    format!("smtp:[127.0.0.1]:{}", behind.port()),
                ),
            ],
            ..Options::default()
        },
    );
    for (address, code, text) in [
        ("anna@example.com", 250, "2.1.5"),
        ("rita@example.com", 250, "2.1.5"),
        (
            "nobody@example.com",
            550,
            "5.1.1 <nobody@example.com>: Recipient address rejected: User unknown",
        ),
        (
            "team@example.com",
            550,
            "5.7.1 <team@example.com>: Recipient address rejected: This address accepts mail from inside",
        ),
        ("anyone@catch.example", 250, "2.1.5"),
        // Nobody is known there, so the table of recipients refuses; the access table does not, until it is approved.
        ("nobody@xn--bcher-kva.example", 550, "5.1.1"),
        ("bernd@call.example", 250, "2.1.5"),
        ("nobody@call.example", 550, "5.1.1"),
        ("anyone@other.example", 554, "5.7.1"),
    ] {
        let answer = gateway.rcpt(&[address]).remove(0);
        let is_expected = answer.code == code && answer.text.starts_with(text);
        assert!(is_expected, "{address}: {answer:?}\n{}", gateway.mail_log());
    }
    let hop = gateway.postmap(&["-q", "rita@example.com", &map("transport")]);
    assert_eq!(String::from_utf8_lossy(&hop.stdout), "discard:remote\n");
}

#[test]
fn explain_tells_what_each_kind_says() {
    let program = published();
    let check = |address: &str, code: i32, parts: &[&str]| {
        let outcome = program.run(&["explain", address]).expect_code(code);
        for part in parts {
            assert!(outcome.stdout.contains(part), "{part}:\n{}", outcome.stdout);
        }
    };
    check(
        "anna@example.com",
        0,
        &[
            "relay_recipients has it (text, cdb)",
            "access says \"DUNNO\" (text, cdb)",
            "domains says \"1\", by the row example.com (text, cdb)",
            "transport says \"discard:\", by the row example.com (text, cdb)",
            "callout says nothing of it",
        ],
    );
    check(
        "team@example.com",
        1,
        &[
            "access says \"550 5.7.1 This address",
            "it refuses senders from outside",
        ],
    );
    check(
        "x@catch.example",
        0,
        &["relay_recipients has it, by the row @catch.example"],
    );
    check(
        "x@other.example",
        1,
        &[
            "domains says nothing of it",
            "relay_recipients does not have it",
        ],
    );
}

#[test]
fn an_access_table_alone_accepts_nobody_of_other_domains() {
    let program = Rcptsync::new("kinds");
    program.write_config(&format!(
        "state_dir = \"state\"\n[domains]\nlist = [\"example.com\"]\n{SOURCE}\n[domain.\"example.com\"]\n\
         directory_is_complete = true\n[table.access]\npath = \"tables/access\"\nformats = [\"cdb\"]\n\
         folding = \"unicode\"\nkind = \"access\"\n"
    ));
    program.write_settled("company.ldif", COMPANY);
    program.run(&["sync"]).expect_code(0);
    for (address, code) in [
        ("anna@example.com", 0),
        ("nobody@example.com", 1),
        ("anna@other.example", 1),
    ] {
        program.run(&["explain", address]).expect_code(code);
    }
}

#[test]
fn who_takes_no_more_mail_from_outside_is_judged_as_a_removal() {
    let program = published();
    let refusing = COMPANY.replace(
        "msExchRecipientTypeDetails: 1\n",
        "msExchRecipientTypeDetails: 1\nmsExchRequireAuthToSendTo: TRUE\n",
    );
    program.write_settled("company.ldif", &refusing);
    program.run(&["sync"]).expect_code(65);
    let (holds, _) = program.holds();
    // Two of four addresses, and the last one of a domain, in both tables that decide on recipients.
    let of_tables = |line: &str| holds.iter().filter(|hold| *hold == line).count();
    assert_eq!(
        of_tables("domain_emptied call.example: -anna@call.example"),
        2,
        "{holds:?}"
    );
    assert!(lines(&program, "access").contains(&"anna@call.example DUNNO".to_owned()));
    assert!(
        lines(&program, "access")
            .iter()
            .any(|line| line.starts_with("anna@example.com 550 5.7.1")),
        "{:?}",
        lines(&program, "access")
    );
}

#[test]
fn a_policy_that_opens_a_domain_is_closed_by_approval_alone() {
    let program = published();
    let closed = TABLES.replace("policy = \"catch_all\"", "policy = \"list\"");
    program.configure(&DOMAINS, SOURCE, &closed);
    program.run(&["sync"]).expect_code(65);
    assert!(lines(&program, "relay_recipients").contains(&"@catch.example OK".to_owned()));
    let (holds, digests) = program.holds();
    let narrowed = "domain_narrowed catch.example: -@catch.example";
    let at = holds.iter().position(|hold| hold == narrowed);
    let at = at.expect("held");
    program.run(&["approve", &digests[at]]).expect_code(0);
    program.run(&["sync"]).expect_code(65);
    assert!(!lines(&program, "relay_recipients").contains(&"@catch.example OK".to_owned()));
}

#[test]
fn a_domain_leaves_every_table_by_approval_alone() {
    let program = published();
    program.configure(&DOMAINS[..3], SOURCE, TABLES);
    program.run(&["sync"]).expect_code(65);
    assert!(lines(&program, "domains").contains(&"bücher.example 1".to_owned()));
    let (holds, _) = program.holds();
    let removed = holds
        .iter()
        .filter(|hold| hold.starts_with("domain_removed bücher.example"));
    // In the tables of domains and of transports; nothing of it is in the others.
    assert_eq!(removed.count(), 2, "{holds:?}");
}

#[test]
fn a_next_hop_that_is_not_configured_any_more_leaves_no_row_without_a_value() {
    let program = published();
    let without = TABLES.replace("next_hop = \"discard:\"\n", "");
    program.configure(&DOMAINS, SOURCE, &without);
    program.run(&["sync"]).expect_code(65);
    assert_eq!(
        lines(&program, "transport"),
        ["rita@example.com discard:remote"]
    );
    // Nor does going back bring one.
    program.run(&["rollback", "1"]).expect_code(0);
    assert_eq!(
        lines(&program, "transport"),
        ["rita@example.com discard:remote"]
    );
}

#[test]
fn a_transport_of_somebody_else_is_neither_emptied_nor_dropped() {
    let program = Rcptsync::new("kinds");
    program.write_config(&format!(
        "state_dir = \"state\"\n[domains]\nlist = [\"example.com\"]\n{SOURCE}\n[domain.\"example.com\"]\n\
         directory_is_complete = true\n[table.transport]\npath = \"tables/transport\"\nformats = [\"cdb\"]\n\
         folding = \"unicode\"\nkind = \"transport\"\nnext_hop = \"discard:\"\n"
    ));
    program.write_settled("company.ldif", COMPANY);
    let mut rows = RowsBuilder::default();
    rows.push(b"old.example", Facts::default());
    let mut cdb = Vec::new();
    format::render(
        &Said::of(Format::Cdb, &rows.finish()),
        &RowValues::alike("smtp:[192.0.2.1]"),
        &mut cdb,
    )
    .expect("small enough");
    std::fs::write(table(&program, "transport.cdb"), cdb).expect("our own file");
    program
        .run_untouching(&["sync"], 73)
        .expect_answers(&["no value for the row old.example", "approve the hold"]);
    let (holds, digests) = program.holds();
    assert_eq!(holds, ["foreign_table transport: -old.example"]);
    program.run(&["approve", &digests[0]]).expect_code(0);
    program.run(&["sync"]).expect_code(0);
    let database = cdb::CDB::open(table(&program, "transport.cdb")).expect("a CDB");
    assert!(database.get(b"old.example").is_none());
    let value = database.get(b"example.com").expect("a row");
    assert_eq!(value.expect("it is read"), b"discard:");
}
