//! Recipients that no source reads: which signs there are, what waits because of them, and what answers them.
//!
//! Signs among records are tried with an LDIF file, signs of the organisation with a real controller.

mod common;

use common::directory::{BASE, DOMAINS};
use common::plain::STAFF;
use common::rcptsync::Rcptsync;
use common::samba::{self, Samba};
use rcptsync::state::State;

const LOCAL: u64 = 1;
const REMOTE: u64 = 0x8000_0000;

/// A company in an LDIF file, and a list beside it.
const COMPANY: &str = "[source.company]\nkind = \"ldif\"\npath = \"company.ldif\"\n";

/// Writes `company.ldif`: addresses, those of remote mailboxes with `~` before them.
fn company(program: &Rcptsync, addresses: &str) {
    let entry = |address: &str| {
        let (kind, address) = match address.strip_prefix('~') {
            Some(address) => (REMOTE, address),
            None => (LOCAL, address),
        };
        format!(
            "dn: CN={address},{BASE}\nproxyAddresses: SMTP:{address}\nmsExchRecipientTypeDetails: {kind}\n\n"
        )
    };
    let entries: String = addresses.split_whitespace().map(entry).collect();
    program.write_settled("company.ldif", &entries);
}

const TWO: [&str; 2] = ["example.com", "example.org"];

fn with_list() -> String {
    format!("{COMPANY}{STAFF}")
}

fn complete(domain: &str) -> String {
    format!("[domain.\"{domain}\"]\ndirectory_is_complete = true\n")
}

/// The holds of a first publication of this company; then that approving them publishes it, and that it goes on.
#[track_caller]
fn check(addresses: &str, list: &str, more: &str, holds: &[&str]) {
    let program = Rcptsync::new("elsewhere");
    program.configure(&TWO, &with_list(), more);
    company(&program, addresses);
    program.staff(list);
    if !holds.is_empty() {
        for _ in 0..2 {
            program.run_untouching(&["sync"], 65).expect_output(&[
                "there are signs that recipients of it live elsewhere",
                "contrib/export-cloud-recipients.ps1",
                "directory_is_complete = true",
                "release: rcptsync approve ",
            ]);
            assert!(!program.table().exists());
        }
    }
    let (found, digests) = program.holds();
    assert_eq!(found, holds);
    for digest in digests {
        program.run(&["approve", &digest]).expect_code(0);
    }
    program.run(&["sync"]).expect_code(0);
    assert!(program.keys().contains("anna"));
    // From here on it is only told.
    company(&program, &format!("{addresses} ~new@example.com"));
    program.run(&["sync"]).expect_code(0);
    assert!(program.keys().contains("new"));
    program.run_untouching(&["sync"], 0);
}

#[test]
fn a_first_publication_waits_where_recipients_are_in_the_cloud() {
    let local = "anna@example.com bob@example.org";
    let both = "anna@example.com ~bob@example.org";
    check(local, "list@example.net", "", &[]);
    check(
        both,
        "list@example.net",
        "",
        &["recipients_elsewhere example.org: +anna +bob@example.org"],
    );
    // The first of two holds has the rows; both are to be looked at.
    check(
        "~anna@example.com ~bob@example.org",
        "list@example.net",
        "",
        &[
            "recipients_elsewhere example.com: +anna +bob@example.org",
            "recipients_elsewhere example.org:",
        ],
    );
    // A word for the domain, or a list of those who are elsewhere.
    check(both, "list@example.net", &complete("example.org"), &[]);
    check(both, "cloud@example.org", "", &[]);
    check(
        both,
        "cloud@example.com",
        &complete("example.com"),
        &["recipients_elsewhere example.org: +anna +bob@example.org +cloud"],
    );
}

#[test]
fn a_domain_that_comes_later_waits_alone() {
    let program = Rcptsync::new("elsewhere-later");
    program.configure(&["example.com"], COMPANY, "");
    company(&program, "anna@example.com ~bob@example.org");
    program.run(&["sync"]).expect_code(0);
    program.configure(&TWO, COMPANY, "");
    company(
        &program,
        "anna@example.com carl@example.com ~bob@example.org dora@example.org",
    );
    program.run(&["sync"]).expect_code(65);
    assert_eq!(program.keys(), "anna carl");
    let (holds, _) = program.holds();
    assert_eq!(
        holds,
        ["recipients_elsewhere example.org: +bob@example.org +dora@example.org"]
    );
    let outcome = program.run_untouching(&["diff"], 65);
    outcome.expect_output(&[
        "elsewhere  recipients of example.org may live where no source reads: 1 address of a remote mailbox",
    ]);
    assert!(
        outcome
            .stderr
            .contains("recipients of example.org may live elsewhere")
    );
    program
        .run_untouching(&["explain", "bob@example.org"], 1)
        .expect_output(&[
            "remote user mailbox",
            "its addition waits: recipients_elsewhere",
        ]);
    program.configure(&TWO, COMPANY, &complete("example.org"));
    program.run(&["sync"]).expect_code(0);
    assert_eq!(program.keys(), "anna bob@example.org carl dora@example.org");
    // Published, it is only told, also without that word.
    program.configure(&TWO, COMPANY, "");
    company(
        &program,
        "anna@example.com carl@example.com ~bob@example.org dora@example.org ~eve@example.org",
    );
    // Also in a run that finds nothing new.
    for _ in 0..3 {
        let outcome = program.run(&["sync"]).expect_code(0);
        assert!(
            outcome
                .stderr
                .contains("recipients of example.org may live elsewhere")
        );
    }
    assert!(program.keys().contains("eve@example.org"));
    let head = State::view(&program.state_dir()).head();
    assert!(head.expect("a head").settled.is_some());
}

#[test]
fn a_table_made_by_hand_stays_as_it_is_until_somebody_has_looked() {
    let program = Rcptsync::new("elsewhere-by-hand");
    program.configure(&["example.com"], COMPANY, "");
    company(
        &program,
        "anna@example.com ~bob@example.com carl@example.com",
    );
    let by_hand = "anna@example.com OK\ncloud@example.com OK\n";
    common::write_file(&program.table(), by_hand);
    for _ in 0..3 {
        program.run(&["sync"]).expect_code(65);
        assert_eq!(program.keys(), "anna cloud");
        let (holds, _) = program.holds();
        assert_eq!(
            holds,
            [
                "foreign_table relay_recipients: -cloud",
                "recipients_elsewhere example.com: +bob +carl"
            ]
        );
    }
    let (_, digests) = program.holds();
    program.run(&["approve", &digests[1]]).expect_code(0);
    program.run(&["sync"]).expect_code(65);
    assert_eq!(program.keys(), "anna bob carl cloud");
}

/// The company of the controller, with these keys of the source and sections.
fn configure(program: &Rcptsync, samba: &Samba, domains: &[&str], source_more: &str, more: &str) {
    program.configure_ldap(&common::rcptsync::LdapConfig {
        server: samba.ldaps_url(),
        starttls: false,
        ca_file: &samba.ca_file(),
        bind_name: samba::ACCOUNT,
        password_file: &samba.password_file(),
        page_size: 1_000,
        source_more,
        domains,
        more,
    });
}

/// User mailboxes alone: none of them is remote.
const MAILBOXES: &str = "filter = \"(&(proxyAddresses=smtp:*)(msExchRecipientTypeDetails=1))\"";
const EXCHANGE: &str =
    "CN=Corp Organization,CN=Microsoft Exchange,CN=Services,CN=Configuration,DC=corp,DC=example";

/// What is in the way of a first publication while this object is there.
#[track_caller]
fn check_organisation(samba: &Samba, dn: &str, attributes: &str, domains: &[&str], signs: &[&str]) {
    samba.modify(&format!("dn: {dn}\nchangetype: add\n{attributes}\n"));
    let program = Rcptsync::new("elsewhere-organisation");
    configure(&program, samba, domains, MAILBOXES, "");
    let report = program.run(&["diff", "--format", "json"]).json();
    samba.modify(&format!("dn: {dn}\nchangetype: delete\n\n"));
    let found: Vec<String> = report["elsewhere"]
        .as_object()
        .expect("domains")
        .iter()
        .map(|(domain, signs)| format!("{domain}: {}", signs.as_str().expect("text")))
        .collect();
    assert_eq!(found, signs);
    assert_eq!(
        report["holds"].as_array().expect("holds").len(),
        signs.len(),
        "{report:#}"
    );
}

#[test]
fn the_organisation_gives_signs_too() {
    let Some(samba) = samba::shared() else {
        return;
    };
    let one = &DOMAINS[..1];
    let plain = "objectClass: container\n";
    check_organisation(&samba, &format!("CN=Plain,{EXCHANGE}"), plain, one, &[]);
    check_organisation(
        &samba,
        &format!("CN=Hybrid Configuration,{EXCHANGE}"),
        "objectClass: msExchCoexistenceRelationship\n",
        one,
        &["example.com: a hybrid configuration"],
    );
    check_organisation(
        &samba,
        &format!("CN=Cloud,CN=Accepted Domains,CN=Transport Settings,{EXCHANGE}"),
        "objectClass: msExchAcceptedDomain\nmsExchAcceptedDomainName: corp.mail.onmicrosoft.com\n",
        one,
        &["example.com: the accepted domain corp.mail.onmicrosoft.com"],
    );
    check_organisation(
        &samba,
        &format!("CN=Plain,{EXCHANGE}"),
        plain,
        &["example.com", "relay.example.net", "partner.example.org"],
        &["relay.example.net: it is an internal relay domain"],
    );
}

#[test]
fn remote_mailboxes_of_a_real_directory_are_a_sign() {
    let Some(samba) = samba::shared() else {
        return;
    };
    let program = Rcptsync::new("elsewhere-directory");
    let more = format!(
        "[recipients]\nexclude_dn = [\"{}\"]\n",
        common::directory::LEAVERS
    );
    configure(&program, &samba, &DOMAINS, "", &more);
    program.run_untouching(&["sync"], 65);
    let report = program.run(&["diff", "--format", "json"]).json();
    let holds = report["holds"].as_array().expect("holds");
    assert_eq!(holds.len(), DOMAINS.len(), "{report:#}");
    for hold in holds {
        assert_eq!(hold["cause"], "recipients_elsewhere");
        assert!(hold["found"].as_f64().expect("a figure") > 10.0, "{hold:#}");
        let digest = hold["digest"].as_str().expect("a digest");
        program.run(&["approve", digest]).expect_code(0);
    }
    program.run(&["sync"]).expect_code(0);
    assert!(program.table_keys() == samba.company.expected_accepted());
    program.run_untouching(&["sync"], 0);
}

#[test]
fn public_folders_that_no_base_reaches_are_told() {
    let Some(samba) = samba::shared() else {
        return;
    };
    let container = format!("CN=Microsoft Exchange System Objects,{BASE}");
    let staff = format!("OU=Staff,{BASE}");
    for (bases, is_told) in [
        (vec![staff.as_str()], true),
        (vec![staff.as_str(), container.as_str()], false),
        (vec![BASE], false),
        (vec![], false),
    ] {
        let program = Rcptsync::new("folders");
        let bases = match bases.is_empty() {
            true => String::new(),
            false => format!("base = [\"{}\"]", bases.join("\", \"")),
        };
        configure(
            &program,
            &samba,
            &DOMAINS,
            &bases,
            &common::directory::complete_domains(),
        );
        let outcome = program.run(&["diff"]).expect_code(2);
        let is_in = |text: &str| {
            text.contains("which no base reaches")
                || text.contains("no base reaches the mail-enabled")
        };
        assert_eq!(
            is_in(&outcome.stderr),
            is_told,
            "{bases}: {}",
            outcome.stderr
        );
        assert_eq!(is_in(&outcome.stdout), is_told, "{bases}");
    }
}
