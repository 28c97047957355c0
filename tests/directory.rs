//! Reading a directory, against a server that misbehaves in every way we know of.
//!
//! The rule behind all rows: whatever the server does, the read gives every record or an error that names the cause.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use ldap_server::sequence::{End, Pieces, Script, Stray, Twist};
use ldap_server::{
    Authority, Directory, Fault, Identity, Moment, NoticeForm, SearchSeen, Server, Stats, Validity,
    hostile,
};
use rcptsync::config::secret::SecretPlace;
use rcptsync::config::{Bind, Incremental, LdapSource, ServerAddress, Servers};
use rcptsync::directory::{ReadFailure, read};
use rcptsync::exit::Exit;
use rcptsync::records::Spool;
use rcptsync::snapshot::{Reading, Snapshot, SourceProgress};

const BASE: &str = "DC=corp,DC=example";
const NAME: &str = "rcptsync@corp.example";
const PASSWORD: &str = "s3cret-Pa55";
const PAGE_SIZE: u32 = 3;
const AUTHORITY: &str = "Corp authority";

/// A source, its password file and its authority.
struct Fixture {
    source: LdapSource,
    authority: Authority,
    files: tempfile::TempDir,
    deadline: Duration,
}

impl Fixture {
    fn new() -> Fixture {
        let fixture = Fixture {
            source: LdapSource {
                incremental: Incremental::Off,
                full_every: None,
                replication_delay: Duration::ZERO,
                servers: Servers::Listed(vec![]),
                bases: vec![BASE.into()],
                filter: "(proxyAddresses=smtp:*)".into(),
                page_size: PAGE_SIZE,
                connect_timeout: Duration::from_secs(5),
                timeout: Duration::from_secs(5),
                starttls: false,
                ca_file: None,
                bind: Bind::Anonymous,
            },
            authority: Authority::new(AUTHORITY),
            files: tempfile::tempdir().expect("a directory"),
            deadline: Duration::from_secs(60),
        };
        std::fs::write(fixture.path("ca.pem"), fixture.authority.pem()).expect("written");
        fixture
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.files.path().join(name)
    }

    /// Binds with this password, over TLS.
    fn with_password(mut self, password: &str) -> Fixture {
        let path = self.path("password");
        std::fs::write(&path, password).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("mode set");
        self.source.bind = Bind::Simple {
            name: NAME.into(),
            password: SecretPlace::File(path),
        };
        self.source.ca_file = Some(self.path("ca.pem"));
        self
    }

    fn identity(&self) -> Identity {
        self.authority
            .identity(&["localhost", "127.0.0.1"], Validity::Current)
    }

    fn ask(mut self, servers: &[&Server]) -> Fixture {
        *self.listed() = servers.iter().map(|server| address(server)).collect();
        self
    }

    fn listed(&mut self) -> &mut Vec<ServerAddress> {
        match &mut self.source.servers {
            Servers::Listed(servers) => servers,
            Servers::Discovered(_) => unreachable!("these tests list their servers"),
        }
    }

    fn read(&self) -> Result<Snapshot, ReadFailure> {
        let deadline = Instant::now() + self.deadline;
        let (mut spool, progress) = (Spool::in_memory(), SourceProgress::default());
        match read("corp", &self.source, None, deadline, &mut spool, &progress)? {
            Reading::Complete(snapshot) => Ok(snapshot),
            Reading::Followed(_) => unreachable!("there is nothing to follow"),
        }
    }

    /// What was read, in one line: how many records, or the error.
    #[track_caller]
    fn outcome(&self) -> String {
        match self.read() {
            Ok(snapshot) => format!("{} records", snapshot.records().len()),
            Err(failure) => {
                let told = failure.failure("all stays as it was");
                let text = format!("{failure}\n{told:?}");
                assert!(!told.next.is_empty() && !told.place.is_empty(), "{text}");
                assert!(!text.contains(PASSWORD), "{text}");
                text
            }
        }
    }
}

fn address(server: &Server) -> ServerAddress {
    ServerAddress {
        url: server.url(),
        is_ldaps: server.url().starts_with("ldaps"),
        host: "127.0.0.1".into(),
        port: server.port(),
    }
}

/// Seven recipients make pages of 3, 3 and 1.
fn seven() -> Directory {
    Directory::new(BASE).recipients(7)
}

#[track_caller]
fn check(directory: Directory, expected: &str) {
    check_with(Fixture::new(), directory, expected);
}

#[track_caller]
fn check_with(fixture: Fixture, directory: Directory, expected: &str) -> Stats {
    let server = Server::start(directory);
    let found = fixture.ask(&[&server]).outcome();
    assert!(
        found.contains(expected),
        "found: {found}\nexpected: {expected}"
    );
    server.stats()
}

#[test]
fn clean_reads_are_complete() {
    check(Directory::new(BASE), "0 records");
    check(Directory::new(BASE).recipients(1), "1 records");
    check(Directory::new(BASE).recipients(3), "3 records");
    check(seven(), "7 records");
    let stats = check_with(Fixture::new(), seven(), "7 records");
    // The root DSE is asked where Exchange's organisation would be, which this server does not say; and once more at the end.
    let (pages, others): (Vec<_>, Vec<_>) =
        (stats.searches.into_iter()).partition(|search| !search.base.is_empty());
    assert_eq!((pages.len(), others.len()), (3, 2));
    assert_eq!(stats.unbinds_count, 1);
    for search in pages {
        assert_eq!(search.page_size, Some(PAGE_SIZE));
        assert!(search.is_paging_critical);
        assert_eq!(search.scope, 2);
    }
    let mut fixture = Fixture::new();
    fixture.source.bases = vec![];
    let stats = check_with(fixture, seven(), "7 records");
    assert_eq!(
        (
            stats.searches[0].base.as_str(),
            stats.searches[1].base.as_str()
        ),
        ("", BASE)
    );
    let mut fixture = Fixture::new();
    fixture.source.bases = vec![format!("CN=1,{BASE}"), format!("CN=2,{BASE}")];
    check_with(fixture, seven(), "2 records");
    let mut fixture = Fixture::new();
    fixture.source.page_size = 1000;
    check_with(
        fixture,
        Directory::new(BASE).recipients(5000),
        "5000 records",
    );
}

#[test]
fn records_are_what_the_server_has() {
    let server = Server::start(
        Directory::new(BASE)
            .raw_entry(
                format!("CN=Jörg,{BASE}").as_bytes(),
                vec![
                    ("ObjectGuid".into(), vec![vec![0xff; 16]]),
                    (
                        "PROXYaddresses".into(),
                        vec![b"SMTP:j@x.example".to_vec(), b"X500:/o=x".to_vec()],
                    ),
                ],
            )
            .references(&[
                "ldap://DomainDnsZones.corp.example/DC=DomainDnsZones,DC=corp,DC=example",
            ]),
    );
    let snapshot = Fixture::new().ask(&[&server]).read().expect("a snapshot");
    assert_eq!(snapshot.answered_by, server.url());
    assert_eq!(
        snapshot.referrals,
        ["ldap://DomainDnsZones.corp.example/DC=DomainDnsZones,DC=corp,DC=example"]
    );
    let records = snapshot.records().all().expect("in memory");
    let record = records[0].view();
    assert_eq!(record.dn(), format!("CN=Jörg,{BASE}"));
    assert_eq!(record.guid(), [0xff; 16]);
    assert!(record.proxy_addresses().eq([b"SMTP:j@x.example"]));
    assert_eq!(record.other_values_count(), 1);
}

#[test]
fn a_result_other_than_success_is_an_error_on_every_page() {
    for page in 1..=3 {
        for (code, name) in [
            (1, "operationsError (1)"),
            (3, "timeLimitExceeded (3)"),
            (4, "sizeLimitExceeded (4)"),
            (10, "referral (10)"),
            (11, "adminLimitExceeded (11)"),
            (12, "unavailableCriticalExtension (12)"),
            (51, "busy (51)"),
            (53, "unwillingToPerform (53)"),
            (80, "other (80)"),
            (4711, "a code without a name (4711)"),
        ] {
            let expected = format!("source corp: page {page} ended with {name}");
            check(seven().fault(Fault::PageCode { page, code }), &expected);
            let code = Fault::Code(Moment::Page(page), code, b"in words".to_vec());
            check(
                seven().fault(code),
                &format!("page {page}: {name}: \"in words\""),
            );
        }
    }
    let mut fixture = Fixture::new();
    fixture.source.bases = vec!["DC=other".into()];
    check_with(fixture, seven(), "noSuchObject (32)");
    check(seven().needs_bind(), "set [source.corp.bind]");
}

#[test]
fn a_lost_connection_is_an_error_wherever_it_happens() {
    let closed = "the server closed the connection before it had answered";
    check(seven().fault(Fault::Close(Moment::Bind)), closed);
    check(
        seven().fault(Fault::Reset(Moment::Bind)),
        "Connection reset",
    );
    for page in 1..=3 {
        let entries = usize::from(page < 3);
        check(
            seven().fault(Fault::CutAfterEntries { page, entries }),
            closed,
        );
        check(
            seven().fault(Fault::CutInMessage { page }),
            "in the middle of a message",
        );
        check(seven().fault(Fault::Close(Moment::Page(page))), closed);
        check(
            seven().fault(Fault::Reset(Moment::Page(page))),
            "Connection reset",
        );
        for form in [NoticeForm::Standard, NoticeForm::ActiveDirectory] {
            check(
                seven().fault(Fault::Notice(Moment::Page(page), form)),
                "ended the connection with a notice: unavailable (52): \"going down\"",
            );
        }
    }
    // All entries of the last page came, and only the result did not.
    check(
        seven().fault(Fault::CutAfterEntries {
            page: 3,
            entries: 1,
        }),
        closed,
    );
}

#[test]
fn paging_must_prove_the_end() {
    for page in 1..=3 {
        check(
            seven().fault(Fault::NoPagingControl { page }),
            "without the paging control",
        );
        let value = vec![0x30, 0x00];
        check(
            seven().fault(Fault::PagingControl { page, value }),
            "paging control of the answer is damaged",
        );
    }
    check(
        seven().fault(Fault::EndlessEmptyPages { page: 2 }),
        "100 pages in a row without an entry",
    );
    check(
        seven().fault(Fault::TooManyEntriesInPage),
        "more than the 3 entries",
    );
    let mut fixture = Fixture::new();
    fixture.deadline = Duration::from_millis(700);
    check_with(
        fixture,
        seven().fault(Fault::EndlessCookie),
        "run is used up",
    );
}

#[test]
fn waiting_has_an_end() {
    for moment in [Moment::Bind, Moment::Page(1), Moment::Page(3)] {
        let mut fixture = Fixture::new();
        fixture.source.timeout = Duration::from_millis(200);
        check_with(
            fixture,
            seven().fault(Fault::Silence(moment)),
            "no answer within 200ms",
        );
        let mut fixture = Fixture::new();
        fixture.deadline = Duration::from_millis(200);
        check_with(
            fixture,
            seven().fault(Fault::Silence(moment)),
            "run is used up",
        );
    }
    let drip = Fault::SlowDrip {
        page: 1,
        pause: Duration::from_millis(20),
    };
    let mut fixture = Fixture::new();
    fixture.source.timeout = Duration::from_millis(300);
    check_with(fixture, seven().fault(drip), "no answer within 300ms");
}

#[test]
fn octets_that_are_no_answer_are_refused() {
    let page = Moment::Page(2);
    for (bytes, expected) in [
        (
            b"HTTP/1.1 400 Bad Request\r\n".to_vec(),
            "no message where one belongs",
        ),
        (vec![0x30, 0x80, 0x00, 0x00], "indefinite form"),
        (vec![0x3f, 0x81, 0x00], "a tag of the long form"),
        (hostile::inner_too_long(3), "does not fit what is around it"),
        (
            hostile::nested_headers(200_000),
            "nested deeper than 16 levels",
        ),
        (hostile::message(4, 0x7a), "an answer of kind 0x7a"),
        (hostile::message(4, 0x79), "an answer of kind 0x79"),
        (
            hostile::message(4, 0x65),
            "no result code where one belongs",
        ),
        (
            hostile::message(4, 0x64),
            "an entry that is not built as one",
        ),
        (hostile::bind_success(4), "an answer of kind 0x61"),
        (
            hostile::message(3, 0x64),
            "an answer of kind 0x64 to request 3",
        ),
        (
            hostile::message(99, 0x65),
            "an answer of kind 0x65 to request 99",
        ),
    ] {
        check(seven().fault(Fault::Bytes(page, bytes.clone())), expected);
        check(
            seven().fault(Fault::BytesInPage { page: 2, bytes }),
            expected,
        );
    }
    for bytes in [
        hostile::nested_headers(200_000),
        hostile::message(1, 0x61),
        hostile::message(1, 0x65),
    ] {
        check(
            seven().fault(Fault::Bytes(Moment::Bind, bytes)),
            "is not an answer in LDAP",
        );
    }
    let dn = [b"CN=\xff,", BASE.as_bytes()].concat();
    check(
        seven().raw_entry(&dn, vec![]),
        "an entry whose DN is not UTF-8",
    );
    // Words that are not UTF-8 do not hide the result.
    let code = Fault::Code(Moment::Page(1), 4, b"zu gro\xdf".to_vec());
    check(seven().fault(code), "sizeLimitExceeded (4): \"zu gro?\"");
    let code = Fault::Code(Moment::Page(1), 4, b"\x1b[2J".to_vec());
    check(seven().fault(code), "\\u{1b}[2J");
}

#[test]
fn what_a_search_finds_is_taken_apart_in_its_turn() {
    let damaged = "an entry that is not built as one";
    let dn = b"\x04\x04CN=a";
    for (parts, expected) in [
        (&[&dn[..], b"\x30\x00"][..], "more than the 3 entries"),
        (&[dn], damaged),
        (&[b"\x04\x01\xff", b"\x30\x00"], "whose DN is not UTF-8"),
        (&[b"\x0c\x04CN=a", b"\x30\x00"], damaged),
        (&[dn, b"\x31\x00"], damaged),
        (&[dn, b"\x30\x00", dn], damaged),
        (&[dn, b"\x30\x02\x30\x00"], damaged),
        (&[dn, b"\x30\x05\x30\x03\x04\x01m"], damaged),
        (&[dn, b"\x30\x07\x30\x05\x04\x01m\x30\x00"], damaged),
        (&[dn, b"\x30\x09\x30\x07\x04\x01m\x31\x02\x05\x00"], damaged),
        (
            &[dn, b"\x30\x07\x30\x05\x04\x01\xff\x31\x00"],
            "an attribute whose name is not UTF-8",
        ),
    ] {
        // Page 2 is asked for by message 4.
        let bytes = hostile::operation(4, 0x64, &parts.concat());
        check(
            seven().fault(Fault::BytesInPage { page: 2, bytes }),
            expected,
        );
    }
    let reference = hostile::operation(4, 0x73, b"\x04\x01\xff");
    let bytes = reference;
    check(
        seven().fault(Fault::BytesInPage { page: 2, bytes }),
        "a search reference that is not UTF-8",
    );
    // Behind the result of its own search, and one for a search that is over or never was.
    for (page, id) in [(1, 3), (2, 4), (2, 3), (2, 99)] {
        let bytes = hostile::entry(id, b"CN=late", &[]);
        check(
            seven().fault(Fault::BytesBehindPage { page, bytes }),
            &format!("an answer of kind 0x64 to request {id}"),
        );
    }
    // Torn at every octet, in time.
    let drip = Fault::SlowDrip {
        page: 2,
        pause: Duration::from_micros(50),
    };
    check(seven().fault(drip), "7 records");
}

/// An answer of a connection (the first page is the third, behind the bind and the question about the server), twisted so.
fn twisted(answer: u32, twist: Twist) -> Directory {
    seven().script(Script {
        twists: vec![(answer, twist)],
        pieces: Pieces::Octets(1),
    })
}

#[test]
fn what_comes_out_of_turn_is_met() {
    // The result of the last page before its entry, in packets of their own.
    check(
        twisted(5, Twist::Swap(0, 1)),
        "the end of all answers: the server sent something that is not an answer in LDAP: an answer of kind 0x64 to request 5",
    );
    check(
        twisted(3, Twist::Swap(0, 3)),
        "an answer of kind 0x64 to request 3",
    );
    // Whoever leaves behind the last answer has told everything.
    check(twisted(6, Twist::Cut(0, End::Close)), "7 records");
    check(twisted(6, Twist::Cut(0, End::Reset)), "7 records");
    let notice = Stray::Notice(NoticeForm::ActiveDirectory);
    check(twisted(6, Twist::Insert(0, notice)), "7 records");
}

#[test]
fn two_controls_prove_nothing() {
    for is_other_first in [false, true] {
        for cookie in [vec![], vec![7; 8]] {
            let twist = Twist::TwoControls {
                is_other_first,
                cookie,
            };
            check(
                twisted(3, twist),
                "the paging control of the answer is damaged: it is there twice",
            );
        }
    }
}

/// Pages of very many and very small entries: what is under way is bounded, and nothing of it is lost.
#[test]
fn tiny_entries_pass_through_a_bounded_window() {
    let tiny = |count| hostile::entry(3, b"", &[]).repeat(count);
    let bytes = tiny(1_000_000);
    check(
        seven().fault(Fault::BytesInPage { page: 1, bytes }),
        "more than the 3 entries",
    );
    let mut fixture = Fixture::new();
    fixture.source.page_size = 200_000;
    let bytes = tiny(150_000);
    check_with(
        fixture,
        seven().fault(Fault::BytesInPage { page: 1, bytes }),
        "150007 records",
    );
}

type Attributes<'row> = &'row [(&'row str, &'row [&'row str])];

#[test]
fn ranges_are_read_to_their_end() {
    let values: Vec<Vec<u8>> = (0..10)
        .map(|number| format!("smtp:{number}@x.example").into_bytes())
        .collect();
    let many = |range_max| {
        let attributes = vec![("proxyAddresses".to_owned(), values.clone())];
        seven()
            .raw_entry(format!("CN=Many,{BASE}").as_bytes(), attributes)
            .range_max(range_max)
    };
    for (range_max, base_searches) in [(1, 9), (3, 3), (5, 1), (9, 1), (10, 0), (1500, 0)] {
        let server = Server::start(many(range_max));
        let snapshot = Fixture::new().ask(&[&server]).read().expect("a snapshot");
        let records = snapshot.records().all().expect("in memory");
        let record = records
            .iter()
            .find(|record| record.view().dn().starts_with("CN=Many"));
        let found = record.expect("it is there").view().proxy_addresses();
        assert!(found.eq(&values), "{range_max}");
        assert_eq!(snapshot.records().len(), 8);
        let searches = server.stats().searches;
        let is_entry = |search: &&SearchSeen| search.scope == 0 && !search.base.is_empty();
        let base = searches.iter().filter(is_entry);
        assert_eq!(base.count(), base_searches, "{range_max}");
    }
    check(
        many(3).fault(Fault::RangeGap(1)),
        "the range proxyAddresses;range=4-6 came where one from 3 belongs",
    );
    // The rest of somebody else's.
    let rest: Attributes<'_> = &[("proxyAddresses;range=3-*", &["smtp:x@x.example"])];
    let done = hostile::operation(6, 0x65, b"\x0a\x01\x00\x04\x00\x04\x00");
    let other = [hostile::entry(6, b"CN=other", rest), done].concat();
    check(
        many(3).fault(Fault::Bytes(Moment::BaseSearch, other)),
        "the server sent another entry than the one asked for",
    );
    check(
        many(3).fault(Fault::RangeVanished),
        "did not give the values from 3 on",
    );
    check(
        many(3).fault(Fault::Code(Moment::BaseSearch, 32, b"".to_vec())),
        "the rest of proxyAddresses ended with noSuchObject (32)",
    );
    check(
        many(3).fault(Fault::Close(Moment::BaseSearch)),
        "the rest of proxyAddresses failed",
    );
    let value: &[&str] = &["smtp:a@x.example"];
    let rows: [(Attributes<'_>, &str); 4] = [
        (
            &[
                ("proxyAddresses", value),
                ("proxyaddresses;range=0-0", value),
            ],
            "both whole and in pieces",
        ),
        (
            &[("proxyAddresses;range=all", value)],
            "came where one from 0 belongs",
        ),
        (&[("proxyAddresses;range=0-9", value)], "came with 1 values"),
        // Not asked for, so nothing is missing without it.
        (
            &[("proxyAddresses", value), ("member;range=0-0", value)],
            "2 records",
        ),
    ];
    for (attributes, expected) in rows {
        // The first page of a connection is its third request, behind the bind and the question about the server.
        let bytes = hostile::entry(3, format!("CN=x,{BASE}").as_bytes(), attributes);
        let directory = Directory::new(BASE).recipients(1);
        check(
            directory.fault(Fault::BytesInPage { page: 1, bytes }),
            expected,
        );
    }
}

#[test]
fn a_password_travels_inside_tls_alone() {
    let fixture = Fixture::new().with_password(PASSWORD);
    let right = seven().account(NAME, PASSWORD).needs_bind();
    let ldaps = right.clone().ldaps(&fixture.identity());
    let stats = check_with(fixture, ldaps, "7 records");
    assert_eq!(stats.binds, [(NAME.to_owned(), PASSWORD.to_owned())]);

    let mut fixture = Fixture::new().with_password(PASSWORD);
    fixture.source.starttls = true;
    let start_tls = right.clone().start_tls(&fixture.identity());
    let stats = check_with(fixture, start_tls, "7 records");
    assert_eq!((stats.start_tls_count, stats.binds.len()), (1, 1));

    // In clear: refused before there is a connection.
    let stats = check_with(
        Fixture::new().with_password(PASSWORD),
        right,
        "does not travel in clear",
    );
    assert_eq!(stats.connections_count, 0);
}

#[test]
fn a_stripped_start_tls_costs_no_password() {
    let mut injected = hostile::bind_success(1);
    injected.extend(hostile::bind_success(2));
    let identity = Fixture::new().identity();
    let refused = |code| Fault::Code(Moment::StartTls, code, b"no TLS here".to_vec());
    for (directory, expected) in [
        (seven(), "StartTLS ended with protocolError (2)"),
        (
            seven().fault(refused(52)),
            "StartTLS ended with unavailable (52)",
        ),
        (
            seven().fault(Fault::Close(Moment::StartTls)),
            "StartTLS failed",
        ),
        (
            seven().fault(Fault::Reset(Moment::StartTls)),
            "StartTLS failed",
        ),
        (
            seven().fault(Fault::Silence(Moment::StartTls)),
            "no connection within",
        ),
        (
            seven().fault(Fault::Bytes(Moment::StartTls, hostile::bind_success(1))),
            "an answer of kind 0x61",
        ),
        (
            seven().fault(Fault::Notice(Moment::StartTls, NoticeForm::Standard)),
            "with a notice: unavailable",
        ),
        (
            seven().fault(Fault::Zeros(
                Moment::StartTls,
                vec![0x30, 0x84, 0x7f, 0xff, 0xff, 0xff],
                1 << 20,
            )),
            "are not accepted",
        ),
        (
            seven()
                .start_tls(&identity)
                .fault(Fault::StartTlsInjection(injected)),
            "the TLS handshake failed",
        ),
    ] {
        let mut fixture = Fixture::new().with_password(PASSWORD);
        fixture.source.starttls = true;
        fixture.source.connect_timeout = Duration::from_millis(500);
        let stats = check_with(fixture, directory, expected);
        assert_eq!(stats.binds, []);
        let password = PASSWORD.as_bytes();
        assert!(
            !stats
                .received
                .windows(password.len())
                .any(|window| window == password)
        );
    }
}

#[test]
fn certificates_are_checked_and_the_fault_is_named() {
    let own = |names: &[&str], validity| {
        let fixture = Fixture::new().with_password(PASSWORD);
        let identity = fixture.authority.identity(names, validity);
        (fixture, identity)
    };
    let other = |authority: &str| {
        let (fixture, _) = own(&[], Validity::Current);
        let identity = Authority::new(authority).identity(&["127.0.0.1"], Validity::Current);
        (fixture, identity)
    };
    let name = ["127.0.0.1"];
    for ((fixture, identity), why, next) in [
        (other("Stranger"), "UnknownIssuer", "set `ca_file`"),
        (other(AUTHORITY), "BadSignature", "set `ca_file`"),
        (
            own(&["dc1.corp.example"], Validity::Current),
            "not valid for name",
            "dc1.corp.example",
        ),
        (
            own(&[], Validity::Current),
            "not valid for name",
            "subjectAltName",
        ),
        (own(&name, Validity::Expired), "expired", "renew"),
        (own(&name, Validity::Future), "not valid yet", "clock"),
    ] {
        let server = Server::start(seven().ldaps(&identity));
        let found = fixture.ask(&[&server]).outcome();
        assert!(found.contains(why) && found.contains(next), "{found}");
        assert!(found.contains("the TLS handshake failed"), "{found}");
        assert_eq!(server.stats().binds, []);
    }
    // TLS towards a port that speaks none.
    let server = Server::start(seven());
    let mut fixture = Fixture::new().with_password(PASSWORD).ask(&[&server]);
    fixture.listed()[0].is_ldaps = true;
    fixture.source.connect_timeout = Duration::from_millis(500);
    assert!(fixture.outcome().contains("source corp: "));
    assert_eq!(server.stats().binds, []);
}

/// With TLS 1.3 the refusal comes when the handshake is over for the client; it is told as what it is.
#[test]
fn a_refused_client_certificate_is_told() {
    let clients = Authority::new("Authority of clients");
    let stranger = Authority::new("Stranger");
    for (identity, expected, next) in [
        (
            Some(stranger.client("rcptsync", Validity::Current)),
            "UnknownCA",
            "let the server trust the authority",
        ),
        (
            Some(clients.client("rcptsync", Validity::Expired)),
            "CertificateExpired",
            "renew the client certificate",
        ),
        (None, "CertificateRequired", "method = \\\"external\\\""),
    ] {
        let mut fixture = Fixture::new().with_password(PASSWORD);
        if let Some((certificate, key)) = identity {
            let certificate_file = fixture.path("client.pem");
            std::fs::write(&certificate_file, certificate).expect("written");
            // The mode of a secret is that of the file that was there.
            std::fs::write(fixture.path("password"), key).expect("written");
            fixture.source.bind = Bind::External {
                certificate_file,
                key: SecretPlace::File(fixture.path("password")),
            };
        }
        let server_identity = fixture
            .authority
            .identity_for_clients(&["127.0.0.1"], &clients);
        for starttls in [false, true] {
            let directory = match starttls {
                false => seven().ldaps(&server_identity),
                true => seven().start_tls(&server_identity),
            };
            let server = Server::start(directory);
            fixture.source.starttls = starttls;
            fixture.source.servers = Servers::Listed(vec![address(&server)]);
            let failure = fixture.read().expect_err("refused");
            let told = failure.failure("all stays");
            assert_eq!(told.exit, Exit::Permission, "{told:?}");
            let text = format!("{told:?}");
            assert!(text.contains(expected) && text.contains(next), "{text}");
            assert_eq!(server.stats().binds, []);
        }
    }
}

#[test]
fn without_secret_or_authority_nothing_is_sent() {
    for (password, ca, expected, exit) in [
        ("", None, "holds no password", Exit::Permission),
        ("\n", None, "holds no password", Exit::Permission),
        (
            PASSWORD,
            Some(""),
            "holds no certificate",
            Exit::Configuration,
        ),
        (
            PASSWORD,
            Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            "ca.pem: ",
            Exit::Configuration,
        ),
        (
            PASSWORD,
            Some("-----BEGIN CERTIFICATE-----\n"),
            "ca.pem: not PEM",
            Exit::Configuration,
        ),
    ] {
        let fixture = Fixture::new().with_password(password);
        let server = Server::start(seven().ldaps(&fixture.identity()));
        if let Some(ca) = ca {
            std::fs::write(fixture.path("ca.pem"), ca).expect("written");
        }
        let fixture = fixture.ask(&[&server]);
        let failure = fixture.read().expect_err("refused");
        assert!(failure.to_string().contains(expected), "{failure}");
        assert_eq!(failure.failure("").exit, exit);
        assert_eq!(server.stats().connections_count, 0);
    }
    let fixture = Fixture::new().with_password(PASSWORD);
    let server = Server::start(seven().ldaps(&fixture.identity()));
    std::fs::remove_file(fixture.path("password")).expect("removed");
    let found = fixture.ask(&[&server]).outcome();
    assert!(
        found.contains("the password of the account cannot be read"),
        "{found}"
    );
    assert_eq!(server.stats().connections_count, 0);
}

/// Three wrong passwords in a few minutes lock an account; a timer with several servers must not send three a run.
#[test]
fn a_refused_account_is_tried_once() {
    let fixture = Fixture::new().with_password(PASSWORD);
    let other = seven().account(NAME, "another").ldaps(&fixture.identity());
    let first = Server::start(other.clone());
    let second = Server::start(other);
    let fixture = fixture.ask(&[&first, &second]);
    let failure = fixture.read().expect_err("refused").failure("");
    assert_eq!(failure.exit, Exit::Permission);
    assert!(
        failure.what.contains("invalidCredentials (49)"),
        "{failure:?}"
    );
    assert!(
        failure
            .next
            .contains("the password is wrong, or the name (52e)"),
        "{failure:?}"
    );
    assert_eq!(first.stats().binds.len() + second.stats().binds.len(), 1);

    for (code, tries) in [
        (8, 1),
        (48, 1),
        (49, 1),
        (50, 1),
        (53, 1),
        (51, 2),
        (52, 2),
        (1, 2),
    ] {
        let fixture = Fixture::new().with_password(PASSWORD);
        let refusing = seven().ldaps(&fixture.identity()).fault(Fault::Code(
            Moment::Bind,
            code,
            b"\xff".to_vec(),
        ));
        let first = Server::start(refusing.clone());
        let second = Server::start(refusing);
        let found = fixture.ask(&[&first, &second]).outcome();
        assert!(
            found.contains("the bind as rcptsync@corp.example ended with"),
            "{found}"
        );
        assert_eq!(
            first.stats().binds.len() + second.stats().binds.len(),
            tries,
            "{code}"
        );
    }
}

#[test]
fn the_next_server_is_asked_when_one_fails() {
    let down = Server::start(seven());
    let down_address = address(&down);
    drop(down);
    let breaking = Server::start(seven().fault(Fault::CutAfterEntries {
        page: 2,
        entries: 1,
    }));
    let sound = Server::start(Directory::new(BASE).recipients(5));
    let mut fixture = Fixture::new().ask(&[&breaking, &sound]);
    fixture.listed().insert(0, down_address.clone());
    let snapshot = fixture.read().expect("a snapshot");
    // Nothing of what the second one gave is left.
    assert_eq!(snapshot.records().len(), 5);
    assert_eq!(snapshot.answered_by, sound.url());

    let mut fixture = Fixture::new().ask(&[&breaking]);
    fixture.listed().insert(0, down_address.clone());
    let found = fixture.outcome();
    assert!(found.contains("Connection refused"), "{found}");
    assert!(found.contains("source corp: page 2 failed"), "{found}");
    *fixture.listed() = vec![ServerAddress {
        host: "no-such-host.invalid".into(),
        ..down_address
    }];
    let found = fixture.outcome();
    assert!(found.contains("cannot be resolved"), "{found}");
}

#[test]
fn a_filter_that_is_none_is_told() {
    let mut fixture = Fixture::new();
    fixture.source.filter = "(proxyAddresses=smtp:*".into();
    let stats = check_with(fixture, seven(), "mend `filter`");
    assert!(stats.searches.iter().all(|search| search.base.is_empty()));
}
