//! Following changes with DirSync, against a controller that does what Samba never does.
//!
//! Rounds, ranges, small pages, cookies that are refused, controllers that were restored or that lie. The rule behind all
//! rows: whatever the controller does, the table is right, or the run says that it could not read and the table is the old
//! one; and the next sound run makes it right, because nothing counts as known before it was stored. Not here: what a real
//! controller tells (`incremental.rs`).
#![allow(
    clippy::expect_used,
    reason = "a test fails by panicking, and the message says what was expected"
)]

mod common;

use common::embedded::{self, BASE};
use common::rcptsync::Rcptsync;
use ldap_server::sequence::{Script, Twist};
use ldap_server::{Directory, Fault, Moment, Server, hostile};

/// `CN=0` to `CN=7` below the domain; two units, with one recipient each, one of the units excluded.
fn company() -> Directory {
    let person = |directory: Directory, name: &str, unit: &str| {
        let address = format!("SMTP:{name}@example.com");
        let guid = format!("{name:-<16}");
        directory.entry(
            &format!("CN={name},OU={unit},{BASE}"),
            &[("objectGUID", &[&guid]), ("proxyAddresses", &[&address])],
        )
    };
    let unit = |directory: Directory, name: &str| {
        let guid = format!("{name:=<16}");
        directory.entry(&format!("OU={name},{BASE}"), &[("objectGUID", &[&guid])])
    };
    let directory = Directory::new(BASE).recipients(8);
    let directory = unit(unit(directory, "Staff"), "Leavers");
    let directory = person(person(directory, "anna", "Staff"), "bernd", "Leavers");
    directory
        .usn(1_000)
        .invocation_id([7; 16])
        .sees_deletions()
        .evaluates_filters()
}

/// The keys of [`company`] in one line.
const KEYS: &str = "0 1 2 3 4 5 6 7 anna";

/// An installation that has read the directory once. The guard is not what is tested here.
fn settled(directory: Directory, incremental: &str) -> (Server, Rcptsync) {
    let (server, program) = embedded::install(
        "dirsync",
        directory,
        &format!("incremental = \"{incremental}\"\ntimeout = \"2s\"\nreplication_delay = \"0s\""),
        &format!(
            "[recipients]\nexclude_dn = [\"OU=Leavers,{BASE}\"]\n\
             [guard]\nwindow = \"1s\"\nremoved_floor = 1000\n"
        ),
    );
    program.run(&["sync"]).expect_code(0);
    assert_eq!(program.keys(), KEYS);
    (server, program)
}

/// How the source was read, told by `diff`, which stores nothing.
fn state(program: &Rcptsync) -> String {
    let diff = program.run(&["diff", "--format", "json"]).json();
    let state = &diff["sources"]["corp"]["state"];
    state.as_str().expect("a state").to_owned()
}

#[track_caller]
fn check_read(
    directory: Directory,
    change: impl FnOnce(Directory) -> Directory,
    expected_state: &str,
    keys: &str,
) {
    let (server, program) = settled(directory, "dirsync");
    server.change(change);
    assert_eq!(state(&program), expected_state);
    program.run(&["sync"]).expect_code(0);
    assert_eq!(program.keys(), keys);
    program.run(&["sync"]).expect_code(0);
    assert_eq!(program.keys(), keys);
    assert_eq!(state(&program), "unchanged");
}

/// A change is followed: in one answer, in many rounds, and with small pages.
#[track_caller]
fn check(change: impl Fn(Directory) -> Directory, keys: &str) {
    for directory in [
        company(),
        company().dir_sync_round(1),
        company().page_max(2).range_max(3),
    ] {
        check_read(directory, &change, "changed", keys);
    }
}

fn dn(name: &str) -> String {
    format!("{name},{BASE}")
}

#[test]
fn every_kind_of_change_is_followed() {
    let addresses = |directory: Directory, values: &[&str]| {
        directory.changed(&dn("CN=1"), "proxyAddresses", values)
    };
    check(
        |directory| addresses(directory, &["SMTP:new@example.com", "smtp:1@example.com"]),
        "0 1 2 3 4 5 6 7 anna new",
    );
    check(|directory| addresses(directory, &[]), "0 2 3 4 5 6 7 anna");
    check(
        |directory| addresses(directory, &["SIP:1@example.com"]),
        "0 2 3 4 5 6 7 anna",
    );
    let many: Vec<String> = (10..20).map(|n| format!("smtp:{n}@example.com")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    check(
        |directory| addresses(directory, &many),
        "0 10 11 12 13 14 15 16 17 18 19 2 3 4 5 6 7 anna",
    );
    check(
        |directory| directory.deleted(&dn("CN=1")).deleted(&dn("CN=3")),
        "0 2 4 5 6 7 anna",
    );
    check(
        |directory| {
            directory
                .deleted(&dn("CN=1"))
                .undeleted(b"0000000000000001", &dn("CN=back"))
                .changed(&dn("CN=back"), "proxyAddresses", &["smtp:back@example.com"])
        },
        "0 2 3 4 5 6 7 anna back",
    );
    check(
        |directory| directory.added(&dn("CN=x"), &[("proxyAddresses", &["SMTP:x@example.com"])]),
        "0 1 2 3 4 5 6 7 anna x",
    );
    check(
        |directory| directory.moved(&dn("CN=1"), &dn("CN=1,OU=Leavers")),
        "0 2 3 4 5 6 7 anna",
    );
}

/// A controller tells the unit alone; what lies below it is nobody's change.
#[test]
fn what_lies_below_a_unit_goes_with_it() {
    check(
        |directory| directory.moved(&dn("OU=Staff"), &dn("OU=Staff,OU=Leavers")),
        "0 1 2 3 4 5 6 7",
    );
    check(
        |directory| directory.moved(&dn("OU=Leavers"), &dn("OU=Former")),
        "0 1 2 3 4 5 6 7 anna bernd",
    );
    // The one changes its name, and the other takes it.
    check(
        |directory| {
            directory
                .moved(&dn("OU=Leavers"), &dn("OU=Former"))
                .moved(&dn("OU=Staff"), &dn("OU=Leavers"))
        },
        "0 1 2 3 4 5 6 7 bernd",
    );
}

/// A change, and with it something after which the numbers of before say nothing: everything is read.
#[track_caller]
fn check_complete(more: impl FnOnce(Directory) -> Directory, keys: &str) {
    let change = |directory: Directory| {
        more(directory.changed(&dn("CN=1"), "proxyAddresses", &["SMTP:new@example.com"]))
    };
    check_read(company(), change, "complete", keys);
}

#[test]
fn a_controller_that_lost_its_place_is_read_completely() {
    let keys = "0 2 3 4 5 6 7 anna new";
    check_complete(|directory| directory.invocation_id([8; 16]), keys);
    // A copy of the machine was put back: the same identity, numbers of long ago.
    check_complete(|directory| directory.usn(10), keys);
}

/// The cookie is refused in this run and in every other; a complete read takes a new one, which is refused too.
#[test]
fn a_refused_cookie_leads_to_a_complete_read() {
    for code in [12, 53] {
        let (server, program) = settled(company(), "dirsync");
        for (address, keys) in [
            ("SMTP:new@example.com", "0 2 3 4 5 6 7 anna new"),
            ("SMTP:newer@example.com", "0 2 3 4 5 6 7 anna newer"),
        ] {
            server.change(|directory| {
                directory
                    .changed(&dn("CN=1"), "proxyAddresses", &[address])
                    .evicts_cookies(code)
            });
            assert_eq!(state(&program), "complete", "{code}");
            program.run(&["sync"]).expect_code(0);
            assert_eq!(program.keys(), keys, "{code}");
        }
    }
}

#[test]
fn a_controller_without_dir_sync_is_read_completely() {
    let (server, program) = settled(company().no_dir_sync(), "auto");
    server.change(|directory| directory.deleted(&dn("CN=1")));
    assert_eq!(state(&program), "complete");
    program.run(&["sync"]).expect_code(0);
    assert_eq!(program.keys(), "0 2 3 4 5 6 7 anna");
}

/// Without sight of deletions the table keeps the address until everything is read, and no longer.
#[test]
fn a_deletion_that_nobody_tells_counts_with_the_next_complete_read() {
    let blind = Directory::new(BASE)
        .recipients(8)
        .usn(1_000)
        .evaluates_filters();
    let (server, program) = embedded::install(
        "dirsync",
        blind,
        "incremental = \"dirsync\"",
        "[guard]\nwindow = \"1s\"\nremoved_floor = 1000\n",
    );
    program.run(&["sync"]).expect_code(0);
    server.change(|directory| directory.deleted(&dn("CN=1")));
    program.run(&["sync"]).expect_code(0);
    assert_eq!(program.keys(), "0 1 2 3 4 5 6 7");
    program.run(&["sync", "--full"]).expect_code(0);
    assert_eq!(program.keys(), "0 2 3 4 5 6 7");
}

/// Two changes, and a fault while they are told: the old table with exit code 75, or the new one with 0. Then the fault is
/// gone, and the table is right.
#[track_caller]
fn check_fault(directory: Directory, fault: Fault) {
    let what = format!("{fault:?}");
    let (server, program) = settled(directory, "dirsync");
    server.change(|directory| {
        directory
            .changed(&dn("CN=1"), "proxyAddresses", &["SMTP:new@example.com"])
            .deleted(&dn("CN=3"))
            .fault(fault)
    });
    let keys = "0 2 4 5 6 7 anna new";
    let run = program.run(&["sync"]);
    match run.code {
        Some(0) => assert_eq!(program.keys(), keys, "{what}"),
        Some(75) => assert_eq!(program.keys(), KEYS, "{what}"),
        code => assert_eq!(code, Some(75), "{what}: {}", run.stderr),
    }
    assert!(!run.stderr.contains("panicked"), "{what}: {}", run.stderr);
    server.change(Directory::without_faults);
    program.run(&["sync"]).expect_code(0);
    assert_eq!(program.keys(), keys, "{what}: afterwards");
}

#[test]
fn no_fault_of_the_controller_loses_a_change() {
    for round in [1, 2] {
        let moment = Moment::DirSync(round);
        for fault in [
            Fault::Close(moment),
            Fault::Reset(moment),
            Fault::Silence(moment),
            Fault::Code(moment, 1, b"in words".to_vec()),
            Fault::Code(moment, 12, Vec::new()),
            Fault::Code(moment, 51, Vec::new()),
            Fault::Code(moment, 53, Vec::new()),
            Fault::NoDirSyncControl { round },
            Fault::DirSyncControl {
                round,
                value: vec![0x30, 0x00],
            },
            Fault::DirSyncControl {
                round,
                value: b"\x30\x08\x02\x01\x00\x02\x01\x00\x04\x00".to_vec(),
            },
            Fault::DirSyncControl {
                round,
                value: hostile::nested_headers(200_000),
            },
            Fault::BytesInDirSync {
                round,
                bytes: hostile::message(99, 0x64),
            },
            Fault::CutInDirSync { round, entries: 0 },
            Fault::CutInDirSync { round, entries: 1 },
        ] {
            check_fault(company().dir_sync_round(1), fault);
        }
    }
    check_fault(company(), Fault::EndlessDirSync);
    // While what changed is read again.
    for fault in [
        Fault::Close(Moment::BaseSearch),
        Fault::Code(Moment::BaseSearch, 51, Vec::new()),
    ] {
        check_fault(company(), fault);
    }
}

/// Whoever refers to somewhere else has not said that the object is gone, nor has who shows it and denies it.
#[test]
fn an_object_is_gone_when_nothing_else_is_said_of_it() {
    for (twist, touched) in [(Twist::Refer(0), &["CN=1"][..]), (Twist::Code(32), &[])] {
        let (server, program) = settled(company(), "dirsync");
        // Behind the bind, two questions about the server and the one about changes.
        let script = Script {
            twists: vec![(5, twist)],
            ..Script::default()
        };
        let addresses = &["SMTP:1@example.com", "smtp:new@example.com"];
        server.change(|directory| {
            directory
                .changed(&dn("CN=1"), "proxyAddresses", addresses)
                .script(script)
        });
        program.run(&["sync"]).expect_code(0);
        assert_eq!(program.keys(), "0 1 2 3 4 5 6 7 anna new");
        let touched: Vec<_> = touched.iter().map(|name| dn(name).into_bytes()).collect();
        assert_eq!(server.stats().touched, touched);
    }
}

/// Whether anything lies below what moved is a question too, and a refusal is no answer to it.
#[test]
fn a_refusal_to_show_what_lies_below_a_unit_loses_nothing() {
    let (server, program) = settled(company(), "dirsync");
    server.change(|directory| {
        directory
            .moved(&dn("OU=Leavers"), &dn("OU=Former"))
            .fault(Fault::PageCode { page: 1, code: 51 })
    });
    program.run(&["sync"]).expect_code(75);
    assert_eq!(program.keys(), KEYS);
    server.change(Directory::without_faults);
    program.run(&["sync"]).expect_code(0);
    assert_eq!(program.keys(), "0 1 2 3 4 5 6 7 anna bernd");
}
