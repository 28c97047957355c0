//! `verify`: files on the disk, a real Postfix that is set up wrongly in every way that has a name, and servers that no
//! Postfix can be made to be.
//!
//! Nothing waits for a time to pass but where the waiting is the thing that is tested, and then the right answer is the
//! same however busy the machine is.
#![allow(
    clippy::expect_used,
    reason = "a test fails by panicking, and the message says what was expected"
)]

mod common;

use std::path::Path;

use common::plain::STAFF;
use common::postfix::{self, Gateway, Options};
use common::rcptsync::{Outcome, Rcptsync};
use rcptsync::state::State;
use rcptsync::state::head::PendingRename;

const TWO_DOMAINS: [&str; 2] = ["example.com", "second.example"];

/// An installation that has published these addresses.
fn published(names: &str, more: &str) -> Rcptsync {
    let program = Rcptsync::plain("verify", STAFF, more);
    program.configure(&TWO_DOMAINS, STAFF, more);
    program.staff(names);
    program.run(&["sync"]).expect_code(0);
    program
}

#[track_caller]
fn expect(outcome: Outcome, code: i32, said: &[&str]) {
    let outcome = outcome.expect_code(code);
    for said in said {
        let is_said = outcome.stdout.contains(said) || outcome.stderr.contains(said);
        assert!(is_said, "{said:?}\n{}{}", outcome.stdout, outcome.stderr);
    }
}

// Files.

/// Changes the files of a publication, and says what `verify` finds then.
#[track_caller]
fn check_files(change: impl FnOnce(&Rcptsync), code: i32, said: &[&str]) {
    let program = published("anna berta@second.example carl", "");
    change(&program);
    let before = program.seen();
    expect(program.run(&["verify"]), code, said);
    assert_eq!(program.seen(), before, "verify touches nothing");
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut octets = std::fs::read(path).expect("a published file");
    change(&mut octets);
    std::fs::write(path, octets).expect("our own file");
}

#[test]
fn what_was_published_is_found_again() {
    check_files(
        |_| {},
        0,
        &[
            "relay_recipients  3 rows published",
            "relay_recipients: as published\n",
            "relay_recipients.cdb: as published; 3 keys found",
            "everything agrees",
        ],
    );
}

#[test]
fn an_edited_text_is_told_by_its_rows() {
    check_files(
        |program| {
            change(&program.table(), |text| {
                let edited = String::from_utf8_lossy(text)
                    .replace("anna@example.com OK", "Dora@example.com OK");
                *text = edited
                    .replace("carl@example.com OK", "carl@example.com 1")
                    .into_bytes();
            });
        },
        69,
        &[
            "other octets than were published, edited or cut: 1 row missing, 1 added, 1 with another value",
            "    - anna@example.com\n",
            "    + dora@example.com\n",
            "    ~ carl@example.com\n",
            "relay_recipients.cdb: as published",
            "not as it should be",
        ],
    );
}

#[test]
fn a_comment_is_an_edit_too() {
    let comment = |text: &mut Vec<u8>| text.extend(b"# by hand\n");
    check_files(
        |program| change(&program.table(), comment),
        69,
        &["edited or cut: 0 rows missing, 0 added, 0 with another value"],
    );
}

#[test]
fn a_cut_text_lacks_rows() {
    check_files(
        |program| {
            change(&program.table(), |text| {
                text.truncate(text.len() - 4);
            });
        },
        69,
        &["1 row missing", "    - "],
    );
}

#[test]
fn a_cut_cdb_is_no_table() {
    check_files(
        |program| change(&program.table_cdb(), |octets| octets.truncate(2100)),
        69,
        &["relay_recipients.cdb: no table of its format", "torn"],
    );
    check_files(
        |program| change(&program.table_cdb(), Vec::clear),
        69,
        &["relay_recipients.cdb: no table of its format (it is shorter than the header of a CDB)"],
    );
}

/// The size and the time of the file stay as they were: a run trusts them, `verify` reads.
#[test]
fn a_flipped_bit_is_found_though_the_stamp_is_right() {
    check_files(
        |program| {
            let path = program.table_cdb();
            let modified = path.metadata().and_then(|found| found.modified());
            change(&path, |octets| octets[2070] ^= 1);
            let file = std::fs::File::options().append(true).open(&path);
            file.and_then(|file| file.set_modified(modified?))
                .expect("our own file");
        },
        69,
        &["relay_recipients.cdb: other octets than were published"],
    );
}

#[test]
fn a_missing_file_and_a_link_are_told() {
    let remove = |path: &Path| std::fs::remove_file(path).expect("our own file");
    check_files(
        |program| remove(&program.table_cdb()),
        69,
        &["relay_recipients.cdb: missing", "451"],
    );
    check_files(
        |program| {
            remove(&program.table());
            std::os::unix::fs::symlink(program.config_file(), program.table()).expect("a link");
        },
        69,
        &["relay_recipients: not read: it is a symbolic link"],
    );
}

#[test]
fn a_table_without_a_record_is_told() {
    let program = Rcptsync::plain("verify", STAFF, "");
    expect(
        program.run(&["verify"]),
        69,
        &["never published", "missing"],
    );
    check_files(
        |program| {
            let ledgers = program.state_dir().join("ledger");
            let ledgers = std::fs::read_dir(ledgers).expect("a directory");
            for ledger in ledgers {
                change(&ledger.expect("an entry").path(), |octets| {
                    octets.truncate(20)
                });
            }
        },
        69,
        &["its record is lost"],
    );
}

/// A run that decided and died, or is not done yet.
#[test]
fn a_file_that_waits_for_its_replacement_is_told() {
    check_files(
        |program| {
            let state = State::lock(&program.state_dir()).expect("nobody else");
            let mut head = state.head().expect("a state");
            for table in head.tables.clone().into_values() {
                head.pending
                    .extend(table.artefacts.into_iter().map(|file| PendingRename {
                        table: "relay_recipients".into(),
                        format: file.format,
                        path: file.path,
                        digest: "0".repeat(64),
                        made_with: String::new(),
                    }));
            }
            state.store_head(&head).expect("our own directory");
        },
        69,
        &["a run decided to replace it and has not done so"],
    );
}

#[test]
fn a_complete_read_is_compared_with_the_rows_in_force() {
    let program = published("anna berta@second.example carl", "");
    expect(
        program.run(&["verify", "--full"]),
        0,
        &["complete read: 3 in force, 3 wanted; 0 not wanted, 0 lacking"],
    );
    program.staff("anna berta@second.example dora");
    expect(program.run(&["verify"]), 0, &["everything agrees"]);
    expect(
        program.run(&["verify", "--full"]),
        2,
        &[
            "3 in force, 3 wanted; 1 not wanted, 1 lacking",
            "    not wanted: carl@example.com\n",
            "    lacking: dora@example.com\n",
            "a complete read wants other rows than those in force",
        ],
    );
    let found = program
        .run(&["verify", "--full", "--format", "json"])
        .json();
    let compared = &found["tables"]["relay_recipients"]["complete_read"];
    assert_eq!(found["outcome"], "outdated");
    assert_eq!(compared["lacking"]["first"][0], "dora@example.com");
    std::fs::remove_file(program.directory().join("staff.list")).expect("our own file");
    expect(program.run(&["verify", "--full"]), 75, &["undecided"]);
}

/// Record and files differ for a moment in every run that publishes; that is no finding.
#[test]
fn a_run_that_publishes_meanwhile_is_no_finding() {
    let program = published("anna", "");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut names = "anna".to_owned();
            for number in 0..20 {
                names.push_str(&format!(" berta{number}"));
                program.staff(&names);
                program.run(&["sync"]).expect_code(0);
            }
        });
        for _ in 0..20 {
            expect(program.run(&["verify"]), 0, &["everything agrees"]);
        }
    });
}

#[test]
fn a_table_that_is_not_configured_cannot_be_asked_for() {
    let program = published("anna", "");
    expect(
        program.run(&["verify", "--table", "access"]),
        64,
        &[
            "--table access: there is no table of recipients with this name",
            "relay_recipients",
        ],
    );
}

// A real gateway.

const NAMES: &str = "anna berta@second.example john..doe@example.com";

/// Parameters of main.cf.
type Settings<'test> = &'test [(&'static str, &'test str)];

/// What `verify --smtp` says of a Postfix that is set up so; `table` is the name of the one it reads.
#[track_caller]
fn check_gateway(settings: Settings<'_>, arguments: &[&str], code: i32, said: &[&str]) {
    if !postfix::is_available() {
        return;
    }
    let program = published(NAMES, "");
    let gateway = start(&program.table(), "cdb", settings);
    let endpoint = endpoint(&gateway);
    let mut all = vec!["verify", "--smtp", &endpoint];
    all.extend(arguments);
    expect(program.run(&all), code, said);
}

fn endpoint(gateway: &Gateway) -> String {
    format!("127.0.0.1:{}", gateway.port())
}

fn start(table: &Path, map_type: &str, settings: Settings<'_>) -> Gateway {
    let options = Options {
        relay_domains: TWO_DOMAINS.map(str::to_owned).to_vec(),
        more: (settings.iter())
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect(),
        ..Options::default()
    };
    Gateway::start(table, map_type, &options)
}

/// Three known, two random; postmasters are refused, as nobody has put them into the table.
#[test]
fn a_gateway_that_reads_the_table_agrees() {
    check_gateway(
        &[],
        &[],
        0,
        &[
            "gateway 127.0.0.1:",
            "220 gateway.example.net ESMTP Postfix",
            "agrees       known anna@example.com: 250 2.1.5 Ok",
            "agrees       known berta@second.example: 250 2.1.5 Ok",
            "agrees       known \"john..doe\"@example.com: 250 2.1.5 Ok",
            "User unknown in relay recipient table",
            "finding      postmaster postmaster@example.com: 550 5.1.1",
            "always = [\"postmaster\"]",
            "everything agrees",
        ],
    );
}

#[test]
fn what_a_gateway_says_is_told_to_programs() {
    if !postfix::is_available() {
        return;
    }
    let program = published(NAMES, "");
    let gateway = start(&program.table(), "cdb", &[("soft_bounce", "yes")]);
    let arguments = ["verify", "--format", "json", "--smtp", &endpoint(&gateway)];
    let found = program.run(&arguments).expect_code(75).json();
    assert_eq!(
        (&found["schema"], &found["outcome"]),
        (&1.into(), &"undecided".into())
    );
    let files = found["tables"]["relay_recipients"]["files"]
        .as_array()
        .expect("a list");
    assert!(
        files.iter().all(|file| file["state"] == "as_published"),
        "{files:?}"
    );
    let gateway = &found["gateway"];
    assert_eq!(gateway["greeting"], "220 gateway.example.net ESMTP Postfix");
    let answers = gateway["answers"].as_array().expect("a list");
    let of = |purpose: &'static str| {
        answers
            .iter()
            .filter(move |told| told["purpose"] == purpose)
    };
    assert_eq!(
        [
            of("known").count(),
            of("random").count(),
            of("postmaster").count()
        ],
        [3, 2, 2]
    );
    assert!(of("known").all(|told| told["verdict"] == "agrees" && told["expected"] == "accepted"));
    assert!(
        of("random").all(|told| told["reason"] == "soft_refusal"),
        "{answers:?}"
    );
}

/// Such a row is the administrator's; whether it may be there is not asked here.
#[test]
fn a_row_for_a_whole_domain_makes_no_random_address_wrong() {
    if !postfix::is_available() {
        return;
    }
    let program = published(NAMES, "");
    let config = std::fs::read_to_string(program.config_file()).expect("our own file");
    program.write_config(&config.replace("[\"text\", \"cdb\"]", "[\"text\"]"));
    change(&program.table(), |text| {
        text.extend(b"@second.example OK\n")
    });
    let gateway = start(&program.table(), "texthash", &[]);
    expect(
        program.run(&["verify", "--smtp", &endpoint(&gateway)]),
        69,
        &[
            "0 rows missing, 1 added",
            "    + @second.example\n",
            "note         second.example: the table accepts every address, by the row @second.example",
            "agrees       random",
        ],
    );
}

#[test]
fn a_gateway_without_recipient_maps_is_contradicted() {
    check_gateway(
        &[("relay_recipient_maps", "")],
        &[],
        69,
        &[
            "contradicts  random ",
            ": 250 2.1.5 Ok",
            "relay_recipient_maps is empty",
        ],
    );
}

#[test]
fn a_gateway_that_reads_another_table_is_contradicted() {
    check_gateway(
        &[("relay_recipient_maps", "inline:{anna@example.com=OK}")],
        &[],
        69,
        &[
            "agrees       known anna@example.com: 250",
            "contradicts  known berta@second.example: 550 5.1.1",
            "it reads another table than this one",
        ],
    );
}

#[test]
fn soft_bounces_are_explained() {
    check_gateway(
        &[("soft_bounce", "yes")],
        &[],
        75,
        &[
            "agrees       known",
            "undecided    random",
            ": 450 4.1.1",
            "soft_bounce = yes",
        ],
    );
}

#[test]
fn a_table_that_does_not_open_is_explained() {
    check_gateway(
        &[("relay_recipient_maps", "hash:/nonexistent/table")],
        &[],
        75,
        &[
            "undecided    known",
            ": 451 4.3.0",
            "a lookup table does not work",
        ],
    );
}

/// As PMG and postgrey answer. Whoever is unknown is deferred as well, unless the table is asked first.
#[test]
fn greylisting_is_explained() {
    let greylisting =
        "check_recipient_access static:{DEFER_IF_PERMIT Service is unavailable (try later)}";
    check_gateway(
        &[("smtpd_recipient_restrictions", greylisting)],
        &[],
        75,
        &[
            "undecided    known anna@example.com: 450 4.7.1",
            "undecided    random",
            "greylisting: it defers whoever it does not know yet",
        ],
    );
    check_gateway(
        &[(
            "smtpd_recipient_restrictions",
            &format!("reject_unlisted_recipient, {greylisting}"),
        )],
        &[],
        75,
        &[
            "undecided    known anna@example.com: 450 4.7.1",
            "agrees       random",
        ],
    );
}

#[test]
fn denied_relaying_is_explained() {
    check_gateway(
        &[("relay_domains", "example.com")],
        &[],
        75,
        &[
            "agrees       known anna@example.com: 250",
            "undecided    known berta@second.example: 554 5.7.1",
            "it does not relay for this domain",
        ],
    );
    check_gateway(
        &[
            ("relay_domains", "example.com"),
            ("smtpd_relay_restrictions", "defer_unauth_destination"),
        ],
        &[],
        75,
        &[
            "undecided    known berta@second.example: 454 4.7.1",
            "it does not relay for this domain",
        ],
    );
}

#[test]
fn a_callout_of_the_gateway_is_explained() {
    let mut settings = vec![
        (
            "smtpd_recipient_restrictions",
            "reject_unverified_recipient",
        ),
        ("address_verify_relay_transport", "error:nobody"),
        ("address_verify_poll_count", "60"),
        ("address_verify_poll_delay", "1s"),
    ];
    check_gateway(
        &settings,
        &["--samples", "1"],
        75,
        &[
            "undecided    known",
            ": 450 4.1.1",
            "unverified_recipient_reject_code is still 450",
        ],
    );
    settings.push(("unverified_recipient_reject_code", "550"));
    check_gateway(
        &settings,
        &["--samples", "1"],
        69,
        &["contradicts  known", "undeliverable address"],
    );
}

#[test]
fn a_tarpit_is_waited_for_and_told() {
    check_gateway(
        &[("smtpd_client_restrictions", "sleep 2")],
        &["--samples", "1"],
        0,
        &["agrees       known", "it took its time: a tarpit"],
    );
    check_gateway(
        &[("smtpd_client_restrictions", "sleep 60")],
        &["--samples", "1", "--timeout", "3s"],
        75,
        &["no answer within 3s", "a longer --timeout may tell"],
    );
}

/// Twice in a row: the second time, postscreen knows the client.
#[test]
fn postscreen_is_waited_for_and_explained() {
    if !postfix::is_available() {
        return;
    }
    let program = published(NAMES, "");
    let options = Options {
        relay_domains: TWO_DOMAINS.map(str::to_owned).to_vec(),
        is_behind_postscreen: true,
        more: [
            ("postscreen_greet_wait", "3s"),
            ("postscreen_greet_action", "enforce"),
            ("postscreen_pipelining_enable", "yes"),
        ]
        .map(|(name, value)| (name, value.to_owned()))
        .to_vec(),
        ..Options::default()
    };
    let gateway = Gateway::start(&program.table(), "cdb", &options);
    let arguments = ["verify", "--smtp", &endpoint(&gateway), "--samples", "1"];
    expect(
        program.run(&arguments),
        75,
        &[
            "undecided    known",
            ": 450 4.3.2 Service currently unavailable",
            "postscreen tests this client",
            "it took its time to greet: postscreen waits",
        ],
    );
    expect(
        program.run(&arguments),
        0,
        &["agrees       known", "agrees       random"],
    );
}

/// A server that hangs up after one error is asked on in the next session.
#[test]
fn a_gateway_that_hangs_up_after_an_error_is_asked_again() {
    check_gateway(
        &[
            ("smtpd_hard_error_limit", "1"),
            ("smtpd_soft_error_limit", "1"),
        ],
        &[],
        0,
        &["agrees       known anna@example.com", "everything agrees"],
    );
}

#[test]
fn who_asks_and_for_whom_can_be_said() {
    check_gateway(
        &[
            ("smtpd_helo_required", "yes"),
            ("smtpd_delay_reject", "no"),
            (
                "smtpd_helo_restrictions",
                "check_helo_access inline:{probe.example.net=OK}, reject",
            ),
            (
                "smtpd_sender_restrictions",
                "check_sender_access inline:{me@example.net=OK}, reject",
            ),
        ],
        &["--helo", "probe.example.net", "--sender", "me@example.net"],
        0,
        &["everything agrees"],
    );
    check_gateway(
        &[
            ("smtpd_delay_reject", "no"),
            ("smtpd_helo_restrictions", "reject"),
        ],
        &[],
        75,
        &["could not be asked", "at EHLO", "it refuses this client"],
    );
    check_gateway(
        &[
            ("smtpd_delay_reject", "no"),
            ("smtpd_sender_restrictions", "reject"),
            ("smtpd_null_access_lookup_key", "<>"),
        ],
        &[],
        75,
        &[
            "could not be asked",
            "at MAIL FROM",
            "it refuses the sender",
        ],
    );
}

/// Addresses outside ASCII, in both forms of a domain; and a gateway that nobody can tell them.
#[test]
fn international_addresses_are_asked_where_they_can_be_said() {
    if !postfix::is_available() {
        return;
    }
    let domains = ["bücher.example"];
    let program = Rcptsync::plain("verify", STAFF, "");
    program.configure(&domains, STAFF, "");
    program.staff("müller@bücher.example anna@bücher.example");
    program.run(&["sync"]).expect_code(0);
    for (smtputf8, said) in [
        (true, "agrees       known müller@bücher.example: 250"),
        (false, "undecided    known müller@bücher.example: not asked"),
    ] {
        let options = Options {
            smtputf8,
            relay_domains: vec!["xn--bcher-kva.example".into(), "bücher.example".into()],
            ..Options::default()
        };
        let gateway = Gateway::start(&program.table(), "cdb", &options);
        let outcome = program.run(&["verify", "--smtp", &endpoint(&gateway)]);
        expect(
            outcome,
            0,
            &[said, "agrees       known anna@bücher.example: 250"],
        );
    }
}

#[test]
fn a_postmaster_in_the_table_counts() {
    if !postfix::is_available() {
        return;
    }
    let program = published(NAMES, "[recipients]\nalways = [\"postmaster\"]\n");
    let agreeing = start(&program.table(), "cdb", &[]);
    let arguments =
        |gateway: &Gateway| ["verify".to_owned(), "--smtp".to_owned(), endpoint(gateway)];
    let run = |gateway: &Gateway| {
        let arguments = arguments(gateway);
        program.run(&arguments.each_ref().map(String::as_str))
    };
    expect(
        run(&agreeing),
        0,
        &["agrees       known postmaster@example.com: 250"],
    );
    drop(agreeing);
    let refusing = start(
        &program.table(),
        "cdb",
        &[(
            "smtpd_recipient_restrictions",
            "check_recipient_access inline:{{postmaster@example.com = 550 5.1.1 gone}}",
        )],
    );
    expect(
        run(&refusing),
        69,
        &["contradicts  known postmaster@example.com: 550 5.1.1"],
    );
}

/// An access table: known addresses have a row that says nothing; the domain has one that refuses everybody else, and a group
/// that refuses outside senders its own, so nobody expects 250 for it.
#[test]
fn an_access_table_is_asked_for_by_its_name() {
    if !postfix::is_available() {
        return;
    }
    let more = "[source.groups]\nkind = \"ldif\"\npath = \"groups.ldif\"\n\
                [table.access]\nkind = \"access\"\npath = \"tables/access\"\nformats = [\"cdb\"]\nfolding = \"unicode\"\n";
    let program = Rcptsync::plain("verify", STAFF, more);
    program.configure(&TWO_DOMAINS, STAFF, more);
    program.staff(NAMES);
    program.write_settled(
        "groups.ldif",
        "dn: CN=council,DC=example\nobjectClass: group\nproxyAddresses: SMTP:council@third.example\n\
         proxyAddresses: smtp:council@second.example\nmsExchRequireAuthToSendTo: TRUE\n\n",
    );
    program.run(&["sync"]).expect_code(0);
    let table = program.directory().join("tables/access");
    let restriction = format!("check_recipient_access cdb:{}", table.display());
    let gateway = start(
        &program.table(),
        "cdb",
        &[
            ("relay_recipient_maps", ""),
            ("smtpd_recipient_restrictions", &restriction),
        ],
    );
    expect(
        program.run(&["verify", "--table", "access", "--smtp", &endpoint(&gateway)]),
        0,
        &[
            "access.cdb: as published; 6 keys found",
            "agrees       known anna@example.com: 250",
            "agrees       known berta@second.example: 250",
            "agrees       random",
            "everything agrees",
        ],
    );
}

/// What every address of a domain is accepted for is a choice, and a random one would prove nothing.
#[test]
fn a_domain_that_a_policy_opens_is_asked_for_no_random_address() {
    if !postfix::is_available() {
        return;
    }
    let program = published(
        NAMES,
        "[domain.\"second.example\"]\npolicy = \"catch_all\"\n",
    );
    let gateway = start(&program.table(), "cdb", &[]);
    expect(
        program.run(&["verify", "--smtp", &endpoint(&gateway)]),
        0,
        &[
            "second.example: the table accepts every address, by its policy \"catch_all\"",
            "agrees       random",
        ],
    );
}

// The system behind.

#[track_caller]
fn check_callout(settings: Settings<'_>, arguments: &[&str], code: i32, said: &[&str]) {
    if !postfix::is_available() {
        return;
    }
    let program = published(NAMES, "[recipients]\nexclude = [\"hidden@example.com\"]\n");
    program.staff(&format!("{NAMES} hidden"));
    let behind = start(Path::new("all"), "static", settings);
    let endpoint = endpoint(&behind);
    let mut all = vec!["verify", "--callout", &endpoint];
    all.extend(arguments);
    expect(program.run(&all), code, said);
}

#[test]
fn the_system_behind_is_asked_in_both_directions() {
    let all = "inline:{anna@example.com=OK, berta@second.example=OK, \"john..doe\"@example.com=OK}";
    check_callout(
        &[("relay_recipient_maps", all)],
        &["--full"],
        0,
        &[
            "system behind 127.0.0.1:",
            "agrees       known anna@example.com",
            "agrees       left out hidden@example.com",
        ],
    );
    check_callout(
        &[(
            "relay_recipient_maps",
            "inline:{anna@example.com=OK, berta@second.example=OK}",
        )],
        &[],
        69,
        &[
            "contradicts  known \"john..doe\"@example.com: 550 5.1.1",
            "the gateway must bounce (backscatter)",
        ],
    );
    check_callout(
        &[(
            "relay_recipient_maps",
            &all.replace("anna", "hidden@example.com=OK, anna"),
        )],
        &["--full"],
        0,
        &[
            "finding      left out hidden@example.com: 250",
            "a rule leaves it out",
        ],
    );
    check_callout(
        &[("relay_recipient_maps", "")],
        &[],
        69,
        &[
            "contradicts  random",
            "it does not check recipients at RCPT TO",
            "port 2525",
        ],
    );
}
