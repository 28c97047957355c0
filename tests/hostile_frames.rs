//! A server that sends as much as it can, in whatever form: the program ends with exit 75, the table stays, and memory
//! stays small.
//!
//! Memory is what the system measured of the program itself (GNU time), beside what the same run takes with a sound server.
//! Not here: what each fault is called (`directory.rs`), and sequences of them (`hostile_directory.rs`).
#![allow(
    clippy::expect_used,
    reason = "a test fails by panicking, and the message says what was expected"
)]

mod common;

use common::rcptsync::Rcptsync;
use common::{campaign, require};
use ldap_server::{Directory, Fault, Moment, Server, hostile};

const BASE: &str = "DC=corp,DC=example";

/// What may be taken beside an ordinary run where everything is refused by its beginning or its form.
const REFUSED_KIB: u64 = 8 * 1024;
/// Where a message of the largest size is taken to its end: its octets as received, checked, as entry and as record.
const LARGEST_KIB: u64 = 96 * 1024;
/// Where as much is held as may be.
const HELD_KIB: u64 = 288 * 1024;

const MIB: usize = 1024 * 1024;

fn seven() -> Directory {
    Directory::new(BASE).recipients(7)
}

/// An installation that has read seven recipients.
struct Installed {
    program: Rcptsync,
    /// Of a run with a sound server.
    ordinary_kib: u64,
}

impl Installed {
    fn new() -> Installed {
        let mut installed = Installed {
            program: Rcptsync::new("frames"),
            ordinary_kib: 0,
        };
        let sound = Server::start(seven());
        installed.configure(&sound);
        installed.program.run(&["sync"]).expect_code(0);
        let (code, kib, _) = installed.sync();
        assert_eq!(code, Some(0));
        installed.ordinary_kib = kib;
        installed
    }

    fn configure(&self, server: &Server) {
        let source = format!(
            "[source.corp]\nkind = \"ldap\"\nservers = [\"{}\"]\nbase = [\"{BASE}\"]\npage_size = 1000\n\
             timeout = \"20s\"\nreplication_delay = \"0s\"\nbind = {{ method = \"anonymous\" }}\n",
            server.url()
        );
        self.program.configure(&["example.com"], &source, "");
    }

    /// A run: its exit code, the most memory that it held, and what it said.
    fn sync(&self) -> (Option<i32>, u64, String) {
        let (run, kib) = self.program.run_measured(&["sync"]);
        (run.code, kib, run.stderr)
    }

    /// A run that fails for this cause, leaves the table alone and takes no more than this beside an ordinary one.
    #[track_caller]
    fn check(&self, directory: Directory, cause: &str, more_kib: u64) {
        let server = Server::start(directory);
        self.configure(&server);
        let (code, kib, said) = self.sync();
        assert_eq!(code, Some(75), "{cause}: {said}");
        assert!(said.contains(cause), "{cause}: {said}");
        assert_eq!(self.program.table_keys().len(), 7, "{cause}");
        let grown = kib.saturating_sub(self.ordinary_kib);
        assert!(
            grown < more_kib,
            "{cause}: {grown} KiB beside {}",
            self.ordinary_kib
        );
    }

    #[track_caller]
    fn check_page(&self, bytes: Vec<u8>, cause: &str, more_kib: u64) {
        self.check(
            seven().fault(Fault::BytesInPage { page: 1, bytes }),
            cause,
            more_kib,
        );
    }
}

/// One element of BER with a length of four octets.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).expect("test data is below 4 GiB");
    [&[tag, 0x84], length.to_be_bytes().as_slice(), content].concat()
}

/// The first page of a connection is its third request, behind the bind and the question about the server.
const PAGE_ID: u32 = 3;

fn entry(dn: &[u8], attributes: &[u8]) -> Vec<u8> {
    let parts = [element(0x04, dn), element(0x30, attributes)].concat();
    hostile::operation(PAGE_ID, 0x64, &parts)
}

fn attribute(name: &str, values: &[u8]) -> Vec<u8> {
    element(
        0x30,
        &[element(0x04, name.as_bytes()), element(0x31, values)].concat(),
    )
}

fn result(code: u8, matched: &[u8], text: &[u8], more: &[u8]) -> Vec<u8> {
    let parts = [
        element(0x0a, &[code]),
        element(0x04, matched),
        element(0x04, text),
        more.to_vec(),
    ];
    hostile::operation(PAGE_ID, 0x65, &parts.concat())
}

#[test]
fn what_is_no_message_is_refused_by_its_beginning() {
    if !require("time") {
        return;
    }
    let installed = Installed::new();
    let huge = |octets: [u8; 4]| [&[0x30, 0x84], octets.as_slice()].concat();
    for moment in [Moment::Bind, Moment::Page(1)] {
        let check = |bytes: Vec<u8>, cause| {
            installed.check(
                seven().fault(Fault::Bytes(moment, bytes)),
                cause,
                REFUSED_KIB,
            );
        };
        check(
            hostile::nested_headers(200_000),
            "nested deeper than 16 levels",
        );
        check(vec![0x30, 0x80], "a length of the indefinite form");
        check(vec![0x3f, 0x81, 0x81, 0x01], "a tag of the long form");
        check(
            vec![0x30, 0x88, 0, 0, 0, 0, 0, 0, 0, 5],
            "a length written with more than",
        );
        check(
            [0x30, 0x00].repeat(1_000_000),
            "no message id where one belongs",
        );
        check(
            b"GET / HTTP/1.1\r\n".repeat(1_000),
            "no message where one belongs",
        );
        // Two gigabytes are said to come, and come.
        for (octets, said) in [
            ([0x7f, 0xff, 0xff, 0xff], "a message of 2147483653 bytes"),
            ([0xff; 4], "a message of 4294967301 bytes"),
            ([0x01, 0x00, 0x00, 0x00], "a message of 16777222 bytes"),
        ] {
            let zeros = Fault::Zeros(moment, huge(octets), 1 << 31);
            installed.check(seven().fault(zeros), said, REFUSED_KIB);
        }
        // Just within the limit: it is taken to its end, and is none.
        let zeros = Fault::Zeros(moment, huge([0x00, 0xff, 0xff, 0xfa]), 0x00ff_fffa);
        installed.check(
            seven().fault(zeros),
            "is not an answer in LDAP",
            LARGEST_KIB,
        );
    }
}

#[test]
fn a_great_many_small_parts_are_refused() {
    if !require("time") {
        return;
    }
    let installed = Installed::new();
    let many = "more than 100000 elements in one message";
    let empty_sequences = [0x30, 0x00].repeat(1_000_000);
    installed.check_page(entry(b"CN=x", &empty_sequences), many, LARGEST_KIB);
    let attributes = attribute("a", b"").repeat(100_000);
    installed.check_page(entry(b"CN=x", &attributes), many, LARGEST_KIB);
    let values = [0x04, 0x00].repeat(1_000_000);
    installed.check_page(
        entry(b"CN=x", &attribute("proxyAddresses", &values)),
        many,
        LARGEST_KIB,
    );
    let names = b"CN=a,".repeat(3_000_000);
    installed.check_page(
        entry(&names, b""),
        "DN is longer than any directory's",
        LARGEST_KIB,
    );
    let controls = element(0xa0, &element(0x30, &element(0x04, b"1.2")).repeat(60_000));
    let done = hostile::operation(PAGE_ID, 0x65, b"\x0a\x01\x00\x04\x00\x04\x00");
    let done = element(0x30, &[&done[6..], controls.as_slice()].concat());
    installed.check_page(done, many, LARGEST_KIB);

    let referrals = |count, url: &[u8]| element(0xa3, &element(0x04, url).repeat(count));
    let referred = "page 1 ended with referral (10)";
    let long = b"ldap://a/".repeat(MIB);
    installed.check_page(
        result(10, b"", b"", &referrals(90_000, b"ldap://a/")),
        referred,
        LARGEST_KIB,
    );
    installed.check_page(
        result(10, b"", b"", &referrals(1, &long)),
        referred,
        LARGEST_KIB,
    );
    let reference = |urls: &[u8]| hostile::operation(PAGE_ID, 0x73, urls);
    let places: Vec<u8> = (0..90_000)
        .flat_map(|number| element(0x04, format!("ldap://{number}/").as_bytes()))
        .collect();
    let too_many = "refers to more than 1000 other places";
    installed.check_page(reference(&places), too_many, LARGEST_KIB);
    installed.check_page(reference(&element(0x04, &long)), too_many, LARGEST_KIB);
    let words = result(80, &long[..7 * MIB], &long[..7 * MIB], b"");
    installed.check_page(words, "page 1 ended with other (80)", LARGEST_KIB);
    let cookie = element(
        0x30,
        &[b"\x02\x01\x00".to_vec(), element(0x04, &long)].concat(),
    );
    let value = Fault::PagingControl {
        page: 1,
        value: cookie,
    };
    installed.check(
        seven().fault(value),
        "no cookie of believable size",
        LARGEST_KIB,
    );
}

/// Legal in every part, and without measure in its whole.
#[test]
fn what_is_held_has_a_measure() {
    if !require("time") {
        return;
    }
    let installed = Installed::new();
    let too_large = "the entries take more than 67108864 bytes";
    // A page of objects whose values come in pieces: they wait for the end of the page.
    let value = element(0x04, &b"x".repeat(256 * 1024));
    let bytes = entry(b"CN=x", &attribute("proxyAddresses;range=0-0", &value));
    let fault = Fault::RepeatedInPage {
        page: 1,
        bytes,
        times: 900,
    };
    installed.check(seven().fault(fault), too_large, HELD_KIB);
    // One object with values without end.
    let values: Vec<Vec<u8>> = (0..80).map(|_| b"x".repeat(MIB)).collect();
    let attributes = vec![("proxyAddresses".to_owned(), values)];
    let endless = Directory::new(BASE).raw_entry(format!("CN=x,{BASE}").as_bytes(), attributes);
    installed.check(endless.range_max(10), too_large, HELD_KIB);
}

/// As much as is legal, and nothing wrong with it: it is read, and memory does not grow with it.
#[test]
fn a_gigabyte_of_values_is_not_held() {
    if !require("time") {
        return;
    }
    let installed = Installed::new();
    let times = usize::try_from(campaign::extent(60, 990)).expect("small");
    let kept = attribute("proxyAddresses", &element(0x04, &b"x@".repeat(512 * 1024)));
    let dropped = attribute("proxyAddresses", &element(0x04, &b"x".repeat(MIB)));
    for attributes in [dropped, kept] {
        let bytes = entry(format!("CN=x,{BASE}").as_bytes(), &attributes);
        let fault = Fault::RepeatedInPage {
            page: 1,
            bytes,
            times,
        };
        let server = Server::start(seven().fault(fault));
        installed.configure(&server);
        let (code, kib, said) = installed.sync();
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(installed.program.table_keys().len(), 7);
        let grown = kib.saturating_sub(installed.ordinary_kib);
        assert!(grown < LARGEST_KIB, "{grown} KiB");
    }
    campaign::tell(
        2 * times,
        "MiB of values in legal messages, within 96 MiB of memory",
    );
}
