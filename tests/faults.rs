//! A directory that misbehaves, through the command line: whatever it does, no recipient is lost and the cause is told.
//!
//! Each row publishes twelve recipients from a sound server, then asks one that has lost five of them *and* fails. What a
//! fault means on the wire is tested in `directory.rs`; here it is what becomes of the tables.

mod common;

use std::time::Duration;

use common::rcptsync::Rcptsync;
use ldap_server::{Directory, Fault, Moment, NoticeForm, Server, hostile};

const BASE: &str = "DC=corp,DC=example";

/// One source that reads these servers, in pages of three.
fn corp(urls: &[String]) -> String {
    source("corp", urls, BASE)
}

fn source(name: &str, urls: &[String], base: &str) -> String {
    format!(
        "[source.{name}]\nkind = \"ldap\"\nservers = [\"{}\"]\nbase = [\"{base}\"]\npage_size = 3\ntimeout = \"300ms\"\nreplication_delay = \"0s\"\n\
         connect_timeout = \"1s\"\nbind = {{ method = \"anonymous\" }}\n",
        urls.join("\", \"")
    )
}

fn served(program: &Rcptsync, directory: Directory, more: &str) -> Server {
    let server = Server::start(directory);
    program.configure(&["example.com"], &corp(&[server.url()]), more);
    server
}

fn twelve() -> Directory {
    Directory::new(BASE).recipients(12)
}

fn seven() -> Directory {
    Directory::new(BASE).recipients(7)
}

#[track_caller]
fn check(fault: Fault, causes: &[&str]) {
    check_directory(seven().fault(fault), causes);
}

#[track_caller]
fn check_directory(directory: Directory, causes: &[&str]) {
    let program = Rcptsync::new("faults");
    {
        let _sound = served(&program, twelve(), "");
        program.run(&["sync"]).expect_code(0);
    }
    let rows = program.keys();
    assert_eq!(rows.split(' ').count(), 12);
    {
        let _failing = served(&program, directory.clone(), "");
        for verb in ["diff", "sync"] {
            let outcome = program.run_untouching(&[verb], 75);
            outcome.expect_answers(&[
                "source corp: ",
                "its 12 recipients stay as of",
                "other sources are current",
            ]);
            outcome.expect_answers(causes);
        }
        program
            .run_untouching(&["status"], 1)
            .expect_output(&["RCPTSYNC WARNING", "source corp is frozen since"]);
        let outcome = program.run_untouching(&["explain", "11@example.com"], 0);
        outcome.expect_output(&["accepted", "source corp is frozen since"]);
    }
    {
        let _sound = served(&program, twelve(), "");
        program.run_untouching(&["sync"], 0);
        program.run_untouching(&["status"], 0);
    }
    // The same as the very first answer: nothing is published, and no table is made.
    let program = Rcptsync::new("faults-first");
    let _failing = served(&program, directory, "");
    let outcome = program.run(&["sync"]);
    outcome.expect_answers(&["it was never read completely"]);
    outcome.expect_answers(causes);
    assert_eq!(outcome.code, Some(65), "{}", outcome.stdout);
    assert!(program.seen().is_empty(), "{:?}", program.seen().keys());
    program
        .run(&["status"])
        .expect_code(2)
        .expect_output(&["source corp was never read completely"]);
    let (holds, _) = program.holds();
    assert!(
        holds
            .iter()
            .any(|hold| hold.starts_with("source_never_complete corp")),
        "{holds:?}"
    );
    assert!(program.seen().is_empty());
}

#[test]
fn a_page_that_fails_freezes() {
    for (page, code, cause) in [
        (1, 1, "operationsError (1)"),
        (1, 10, "referral (10)"),
        (2, 4, "sizeLimitExceeded (4)"),
        (2, 51, "busy (51)"),
        (3, 3, "timeLimitExceeded (3)"),
        (3, 10, "referral (10)"),
        (3, 4711, "a code without a name (4711)"),
    ] {
        check(
            Fault::PageCode { page, code },
            &[&format!("page {page} ended with {cause}")],
        );
    }
    check(
        Fault::Code(Moment::Page(1), 32, b"no such base".to_vec()),
        &["noSuchObject (32)", "no such base"],
    );
    check(Fault::Code(Moment::Bind, 51, Vec::new()), &["busy (51)"]);
}

#[test]
fn a_connection_that_ends_freezes() {
    let closed = "the server closed the connection before it had answered";
    for (fault, cause) in [
        (Fault::Close(Moment::Bind), closed),
        (
            Fault::CutAfterEntries {
                page: 1,
                entries: 0,
            },
            closed,
        ),
        (
            Fault::CutAfterEntries {
                page: 2,
                entries: 2,
            },
            closed,
        ),
        // Everything came but the result.
        (
            Fault::CutAfterEntries {
                page: 3,
                entries: 1,
            },
            closed,
        ),
        (
            Fault::CutInMessage { page: 2 },
            "in the middle of a message",
        ),
        (Fault::Reset(Moment::Page(2)), "Connection reset"),
        (
            Fault::Notice(Moment::Page(2), NoticeForm::Standard),
            "notice: unavailable (52): \"going down\"",
        ),
        (
            Fault::Notice(Moment::Page(3), NoticeForm::ActiveDirectory),
            "notice: unavailable (52): \"going down\"",
        ),
        (Fault::Silence(Moment::Bind), "no answer within 300ms"),
        (Fault::Silence(Moment::Page(3)), "no answer within 300ms"),
        (
            Fault::SlowDrip {
                page: 2,
                pause: Duration::from_millis(20),
            },
            "no answer within 300ms",
        ),
    ] {
        check(fault, &[cause]);
    }
}

#[test]
fn an_end_that_is_not_proven_freezes() {
    check(
        Fault::NoPagingControl { page: 1 },
        &["without the paging control"],
    );
    check(
        Fault::NoPagingControl { page: 3 },
        &["without the paging control"],
    );
    check(
        Fault::PagingControl {
            page: 3,
            value: vec![0x30, 0x00],
        },
        &["paging control of the answer is damaged"],
    );
    check(
        Fault::EndlessEmptyPages { page: 3 },
        &["100 pages in a row without an entry"],
    );
    check(Fault::TooManyEntriesInPage, &["more than the 3 entries"]);
    let values: Vec<Vec<u8>> = (0..9)
        .map(|number| format!("smtp:m{number}@example.com").into_bytes())
        .collect();
    let many = seven()
        .raw_entry(
            format!("CN=Many,{BASE}").as_bytes(),
            vec![("proxyAddresses".into(), values)],
        )
        .range_max(4);
    check_directory(
        many.clone().fault(Fault::RangeGap(1)),
        &["came where one from 4 belongs"],
    );
    check_directory(
        many.fault(Fault::RangeVanished),
        &["did not give the values from 4 on"],
    );
}

#[test]
fn octets_that_are_no_answer_freeze() {
    let page = Moment::Page(2);
    for (bytes, cause) in [
        (
            b"HTTP/1.1 400 Bad Request\r\n".to_vec(),
            "no message where one belongs",
        ),
        (
            hostile::nested_headers(200_000),
            "nested deeper than 16 levels",
        ),
        (hostile::inner_too_long(3), "does not fit what is around it"),
        (
            hostile::message(99, 0x65),
            "an answer of kind 0x65 to request 99",
        ),
        (vec![0x30, 0x80, 0, 0], "indefinite form"),
    ] {
        check(Fault::Bytes(page, bytes.clone()), &[cause]);
    }
    let huge = Fault::Zeros(page, vec![0x30, 0x84, 0x7f, 0xff, 0xff, 0xff], 1 << 20);
    check(huge, &["a message of 2147483653 bytes"]);
    let dn = [b"CN=\xff,", BASE.as_bytes()].concat();
    check_directory(
        seven().raw_entry(&dn, vec![]),
        &["an entry whose DN is not UTF-8"],
    );
    // What the other side says does not act on the terminal.
    check(
        Fault::Code(
            Moment::Page(1),
            4,
            b"\x1b[2J\r\n  next:     rm -rf /".to_vec(),
        ),
        &["\\u{1b}[2J"],
    );
}

#[test]
fn a_cookie_without_end_is_ended_by_the_time_of_the_run() {
    let program = Rcptsync::new("endless");
    let _server = served(&program, seven().fault(Fault::EndlessCookie), "");
    let config = std::fs::read_to_string(program.config_file()).expect("our own file");
    program.write_config(&format!("run_timeout = \"1s\"\n{config}"));
    program
        .run(&["sync"])
        .expect_code(65)
        .expect_answers(&["the time for the whole run is used up"]);
    assert!(program.seen().is_empty());
}

#[test]
fn a_server_that_is_down_freezes_and_the_next_in_the_list_stands_in() {
    let program = Rcptsync::new("list");
    let down = Server::start(twelve());
    let down_url = down.url();
    drop(down);
    let breaking = Server::start(Directory::new(BASE).recipients(9).fault(
        Fault::CutAfterEntries {
            page: 2,
            entries: 1,
        },
    ));
    let sound = Server::start(twelve());
    program.configure(
        &["example.com"],
        &corp(&[down_url.clone(), breaking.url(), sound.url()]),
        "",
    );
    program
        .run(&["sync"])
        .expect_code(0)
        .expect_output(&[&sound.url()]);
    assert_eq!(program.keys().split(' ').count(), 12);
    program.configure(&["example.com"], &corp(&[down_url, breaking.url()]), "");
    let outcome = program.run_untouching(&["sync"], 75);
    outcome.expect_answers(&["Connection refused", "closed the connection"]);
}

#[test]
fn success_with_nothing_is_held() {
    let program = Rcptsync::new("empty");
    {
        let _sound = served(&program, twelve(), "");
        program.run(&["sync"]).expect_code(0);
    }
    let _empty = served(&program, Directory::new(BASE), "");
    for arguments in [&["diff"][..], &["sync"], &["sync"]] {
        let outcome = program.run_untouching(arguments, 65);
        outcome.expect_output(&["corp, table relay_recipients: the source answered success with nothing; 12 removals wait"]);
    }
    let (holds, digests) = program.holds();
    assert!(
        holds[0].starts_with("source_empty corp: -0 -10 "),
        "{holds:?}"
    );
    // What one hold names is released; a table without anybody is another question.
    program.run(&["approve", &digests[0]]).expect_code(0);
    program.run(&["sync"]).expect_code(65);

    let program = Rcptsync::new("empty-first");
    let _empty = served(&program, Directory::new(BASE), "");
    for _ in 0..2 {
        program.run(&["sync"]).expect_code(65);
        assert!(program.seen().is_empty());
    }
    let (holds, _) = program.holds();
    assert!(
        holds.iter().any(|hold| hold == "source_empty corp:"),
        "{holds:?}"
    );
    let _sound = served(&program, twelve(), "");
    program.run(&["sync"]).expect_code(0);
    assert_eq!(program.keys().split(' ').count(), 12);
}

#[test]
fn one_frozen_source_does_not_stop_the_others() {
    let program = Rcptsync::new("several");
    let staff = "[source.staff]\nkind = \"list\"\npath = \"staff.list\"\n";
    let sound = Server::start(twelve());
    let config = |server: &Server| format!("{}{staff}", corp(&[server.url()]));
    program.configure(&["example.com"], &config(&sound), "");
    // bob is the directory's, too.
    program.staff("anna bob carl dora 3");
    program.run(&["sync"]).expect_code(0);
    assert_eq!(
        program.keys(),
        "0 10 11 1 2 3 4 5 6 7 8 9 anna bob carl dora"
    );
    let failing = Server::start(seven().fault(Fault::PageCode { page: 3, code: 51 }));
    program.configure(&["example.com"], &config(&failing), "");
    program.staff("anna bob eve");
    let outcome = program.run(&["sync"]).expect_code(75);
    outcome.expect_answers(&["source corp: ", "busy (51)", "its 12 recipients stay"]);
    // Its own removals and additions flow; what the frozen one has as well stays.
    assert_eq!(program.keys(), "0 10 11 1 2 3 4 5 6 7 8 9 anna bob eve");
    program.run_untouching(&["sync"], 75);
    program.configure(&["example.com"], &config(&sound), "");
    program.run_untouching(&["sync"], 0);
    // A source that is new and was never read holds the removals of all, and stops no addition.
    let never = format!(
        "{}{}",
        config(&sound),
        source("branch", &[failing.url()], BASE)
    );
    program.configure(&["example.com"], &never, "");
    program.staff("anna bob fred");
    program
        .run(&["sync"])
        .expect_code(65)
        .expect_answers(&["source branch: ", "it was never read completely"]);
    assert_eq!(
        program.keys(),
        "0 10 11 1 2 3 4 5 6 7 8 9 anna bob eve fred"
    );
    assert_eq!(program.holds().0, ["source_never_complete branch: -eve"]);
    // The present rules apply to the records of a frozen source.
    let more = "[recipients]\nexclude = [\"11@example.com\"]\n";
    program.configure(&["example.com"], &config(&failing), more);
    program.run(&["sync"]).expect_code(75);
    assert_eq!(program.keys(), "0 10 1 2 3 4 5 6 7 8 9 anna bob fred");
}

#[test]
fn a_child_domain_that_nobody_reads_holds_the_first_publication() {
    let references = [
        "ldap://child.corp.example/DC=child,DC=corp,DC=example",
        "ldap://corp.example/CN=Configuration,DC=corp,DC=example",
    ];
    let program = Rcptsync::new("references");
    let server = served(&program, twelve().references(&references), "");
    for _ in 0..2 {
        let outcome = program.run(&["sync"]).expect_code(65);
        outcome.expect_output(&[references[0], "no source covers it"]);
        assert!(program.seen().is_empty());
    }
    let (holds, digests) = program.holds();
    assert_eq!(holds.len(), 1, "{holds:?}");
    assert!(
        holds[0].starts_with(&format!("uncovered_referral {}: +0 +10 ", references[0])),
        "{holds:?}"
    );
    program.run(&["approve", &digests[0][..8]]).expect_code(0);
    program.run(&["sync"]).expect_code(0);
    assert_eq!(program.keys().split(' ').count(), 12);
    // From then on it is a warning.
    let outcome = program.run_untouching(&["sync"], 0);
    assert!(outcome.stderr.contains(references[0]), "{}", outcome.stderr);

    // Whoever approves of several has seen each.
    let program = Rcptsync::new("several-references");
    let second = "ldap://other.corp.example/DC=other,DC=corp,DC=example";
    let _server = served(&program, twelve().references(&[references[0], second]), "");
    program
        .run(&["sync"])
        .expect_code(65)
        .expect_output(&[references[0], second]);

    // A source that covers it needs no approval.
    let program = Rcptsync::new("covered");
    let child = Server::start(Directory::new("DC=child,DC=corp,DC=example").recipients(13));
    let both = [
        corp(&[server.url()]),
        source("child", &[child.url()], "DC=child,DC=corp,DC=example"),
    ]
    .concat();
    program.configure(&["example.com"], &both, "");
    let outcome = program.run(&["sync"]).expect_code(0);
    assert!(
        !outcome.stderr.contains("no source covers"),
        "{}",
        outcome.stderr
    );
    assert_eq!(program.keys().split(' ').count(), 13);
}
