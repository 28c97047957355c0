//! What the server answers as a controller, asked by a client of a few lines.
//!
//! Not here: its faults of connections and pages, which the tests of the program itself show.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::ber::{Reader, element, header, number};
use crate::{DIR_SYNC, Directory, Fault, Moment, SHOW_DELETED, Server};

const BASE: &str = "DC=corp,DC=example";
const PAGED_RESULTS: &[u8] = b"1.2.840.113556.1.4.319";
const WANTED: [&str; 4] = ["proxyAddresses", "isDeleted", "name", "parentGUID"];

/// The GUID of recipient 1, as octets in hexadecimal and as people write it.
const GUID_OCTETS: &str = "<GUID=30303030303030303030303030303031>";
const GUID_TEXT: &str = "<GUID=30303030-3030-3030-3030-303030303031>";

struct Client {
    stream: TcpStream,
    id: u32,
}

/// Entries in one line each, the result code, and the value of the control.
struct Answer {
    entries: Vec<String>,
    code: u32,
    control: Vec<u8>,
}

impl Client {
    fn new(server: &Server) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", server.port())).expect("a connection");
        Client { stream, id: 0 }
    }

    fn search(
        &mut self,
        base: &str,
        scope: u32,
        filter: &[u8],
        attributes: &[&str],
        control: Option<(&[u8], &[u8])>,
    ) -> Answer {
        self.id += 1;
        let names = attributes.iter();
        let names: Vec<u8> = names
            .flat_map(|name| element(0x04, &[name.as_bytes()]))
            .collect();
        let search = element(
            0x63,
            &[
                &element(0x04, &[base.as_bytes()]),
                &number(0x0a, scope),
                &number(0x0a, 0),
                &number(0x02, 0),
                &number(0x02, 0),
                &element(0x01, &[&[0]]),
                filter,
                &element(0x30, &[&names]),
            ],
        );
        let controls = control.map_or_else(Vec::new, |(oid, value)| {
            let parts = [
                element(0x04, &[oid]),
                element(0x01, &[&[0xff]]),
                element(0x04, &[value]),
            ];
            element(0xa0, &[&element(0x30, &[&parts.concat()])])
        });
        let request = element(0x30, &[&number(0x02, self.id), &search, &controls]);
        self.stream.write_all(&request).expect("sent");
        let mut entries = Vec::new();
        loop {
            let frame = self.receive();
            let mut message = Reader(Reader(&frame).read().expect("a message").1);
            assert_eq!(message.read_number(), Some(self.id));
            let (tag, operation) = message.read().expect("an operation");
            if tag == 0x64 {
                entries.push(line(operation));
                continue;
            }
            let control = message.read().map(|(_, controls)| {
                let mut control = Reader(Reader(controls).read().expect("a control").1);
                let _oid = control.read();
                control.read().expect("its value").1.to_vec()
            });
            return Answer {
                entries,
                code: Reader(operation).read_number().expect("a code"),
                control: control.unwrap_or_default(),
            };
        }
    }

    fn receive(&mut self) -> Vec<u8> {
        let mut frame = Vec::new();
        let (header_octets, content_octets) = loop {
            if let Some(lengths) = header(&frame) {
                break lengths;
            }
            let mut octet = [0];
            self.stream.read_exact(&mut octet).expect("an answer");
            frame.push(octet[0]);
        };
        frame.resize(header_octets + content_octets, 0);
        self.stream
            .read_exact(&mut frame[header_octets..])
            .expect("a whole answer");
        frame
    }

    /// One round of DirSync: what it tells, whether there is more, and the new cookie.
    fn dir_sync(&mut self, cookie: &[u8], filter: &[u8]) -> (Vec<String>, u32, bool, Vec<u8>) {
        let value = [number(0x02, 1), number(0x02, 0), element(0x04, &[cookie])].concat();
        let value = element(0x30, &[&value]);
        let control = Some((DIR_SYNC, value.as_slice()));
        let answer = self.search(BASE, 2, filter, &WANTED, control);
        let mut value = Reader(&answer.control);
        let Some((_, content)) = value.read() else {
            return (answer.entries, answer.code, false, Vec::new());
        };
        let mut value = Reader(content);
        let has_more = value.read_number() == Some(1);
        let _unused = value.read();
        let cookie = value.read().expect("a cookie").1.to_vec();
        (answer.entries, answer.code, has_more, cookie)
    }
}

/// `DN name=value,value name=`, the names in their order; what is not printable in hexadecimal.
fn line(entry: &[u8]) -> String {
    let mut entry = Reader(entry);
    let mut line = entry.read_text().expect("a DN");
    let mut attributes = Reader(entry.read().expect("attributes").1);
    while let Some((_, attribute)) = attributes.read() {
        let mut attribute = Reader(attribute);
        let name = attribute.read_text().expect("a name");
        let mut values = Reader(attribute.read().expect("values").1);
        let mut texts = Vec::new();
        while let Some((_, value)) = values.read() {
            let is_text = value.iter().all(|octet| matches!(octet, b' '..=b'~'));
            texts.push(match is_text {
                true => String::from_utf8_lossy(value).into_owned(),
                false => value.iter().map(|octet| format!("{octet:02x}")).collect(),
            });
        }
        line.push_str(&format!(" {name}={}", texts.join(",")));
    }
    line
}

fn everything() -> Vec<u8> {
    element(0x87, &[b"objectClass"])
}

fn nothing() -> Vec<u8> {
    element(0xa2, &[&everything()])
}

/// `(proxyAddresses=smtp:*)`
fn recipients() -> Vec<u8> {
    let parts = element(0x30, &[&element(0x80, &[b"smtp:"])]);
    element(0xa4, &[&element(0x04, &[b"proxyAddresses"]), &parts])
}

/// A controller of three recipients, `CN=0` to `CN=2`.
fn controller() -> Directory {
    Directory::new(BASE).recipients(3).usn(1000)
}

/// After a cookie was taken with a filter that matches nothing, `change` happens; what `filter` finds with it.
#[track_caller]
fn check(
    directory: Directory,
    change: impl FnOnce(Directory) -> Directory,
    filter: &[u8],
    expected: &[&str],
) {
    let server = Server::start(directory);
    let mut client = Client::new(&server);
    let (none, code, has_more, cookie) = client.dir_sync(&[], &nothing());
    assert_eq!((none.len(), code, has_more), (0, 0, false));
    server.change(change);
    let (found, code, has_more, next) = client.dir_sync(&cookie, filter);
    assert_eq!((code, has_more), (0, false));
    assert_eq!(found, expected);
    let (found, ..) = client.dir_sync(&next, filter);
    assert!(found.is_empty(), "told twice: {found:?}");
}

#[test]
fn dir_sync_tells_what_changed_and_nothing_else() {
    let guid = "objectGUID=0000000000000001 instanceType=4";
    let user = &format!("CN=1,{BASE}");
    check(controller(), |directory| directory, &everything(), &[]);
    check(
        controller(),
        Directory::changed_elsewhere,
        &everything(),
        &[],
    );
    check(
        controller(),
        |directory| directory.changed(user, "proxyAddresses", &["SMTP:a@x", "smtp:b@x"]),
        &everything(),
        &[&format!("{user} {guid} proxyAddresses=SMTP:a@x,smtp:b@x")],
    );
    // An attribute that is gone is told without values, one that nobody asked about not at all.
    check(
        controller(),
        |directory| directory.changed(user, "proxyAddresses", &[]),
        &everything(),
        &[&format!("{user} {guid} proxyAddresses=")],
    );
    check(
        controller(),
        |directory| directory.changed(user, "description", &["x"]),
        &everything(),
        &[],
    );
    check(
        controller(),
        |directory| directory.added(&format!("OU=New,{BASE}"), &[]),
        &everything(),
        &[&format!(
            "OU=New,{BASE} objectGUID=added00000001001 instanceType=4 name=New parentGUID={}",
            "0c".repeat(16)
        )],
    );
}

#[test]
fn a_move_is_told_of_what_was_moved_alone() {
    let unit = format!("OU=Unit,{BASE}");
    let directory = controller()
        .entry(&unit, &[("objectGUID", &["unit-unit-unit-u"])])
        .moved(&format!("CN=1,{BASE}"), &format!("CN=1,{unit}"));
    let server = Server::start(directory.clone());
    let mut client = Client::new(&server);
    let found = client.search(&unit, 2, &everything(), &["1.1"], None);
    assert_eq!(found.entries, [format!("CN=1,{unit}"), unit.clone()]);
    check(
        directory,
        |directory| directory.moved(&unit, &format!("OU=Other,{BASE}")),
        &everything(),
        &[&format!(
            "OU=Other,{BASE} objectGUID=unit-unit-unit-u instanceType=4 name=Other parentGUID={}",
            "0c".repeat(16)
        )],
    );
}

#[test]
fn deletions_are_told_where_they_may_be_seen() {
    let user = &format!("CN=1,{BASE}");
    check(
        controller(),
        |directory| directory.deleted(user),
        &everything(),
        &[],
    );
    let tombstone =
        format!("CN=1\\0ADEL:30303030-3030-3030-3030-303030303031,CN=Deleted Objects,{BASE}");
    let told = format!(
        "{tombstone} objectGUID=0000000000000001 instanceType=4 proxyAddresses= isDeleted=TRUE \
         name=1\\0ADEL:30303030-3030-3030-3030-303030303031 parentGUID={}",
        "de".repeat(16)
    );
    let directory = controller().sees_deletions();
    check(
        directory.clone(),
        |directory| directory.deleted(user),
        &everything(),
        &[&told],
    );
    check(
        directory.clone().deleted(user),
        |directory| directory.undeleted(b"0000000000000001", user),
        &everything(),
        &[&format!(
            "{user} objectGUID=0000000000000001 instanceType=4 isDeleted= name=1 parentGUID={}",
            "0c".repeat(16)
        )],
    );

    let server = Server::start(directory.deleted(user));
    let mut client = Client::new(&server);
    let found = client.search(GUID_TEXT, 0, &everything(), &["isDeleted"], None);
    assert_eq!(found.code, 32);
    let shown = Some((SHOW_DELETED, [].as_slice()));
    let found = client.search(GUID_TEXT, 0, &everything(), &["isDeleted"], shown);
    assert_eq!(found.entries, [format!("{tombstone} isDeleted=TRUE")]);
    assert!(server.stats().searches[1].shows_deleted);
}

#[test]
fn the_container_of_the_deleted_shows_who_may_see_them() {
    let user = dn_of_user();
    for (directory, shown, found) in [
        (controller(), "", 0),
        (controller().sees_deletions(), " name=Deleted Objects", 1),
    ] {
        let server = Server::start(directory.deleted(&user));
        let mut client = Client::new(&server);
        let with = Some((SHOW_DELETED, [].as_slice()));
        let container = format!("CN=Deleted Objects,{BASE}");
        let well_known = format!("<WKGUID=18E2EA80684F11D2B9AA00C04F79F805,{BASE}>");
        for base in [&container, &well_known] {
            let answer = client.search(base, 0, &everything(), &["name"], with);
            assert_eq!(answer.entries, [format!("{container}{shown}")]);
        }
        assert_eq!(
            client.search(&container, 0, &everything(), &[], None).code,
            32
        );
        let answer = client.search(&container, 2, &everything(), &["1.1"], with);
        assert_eq!((answer.code, answer.entries.len()), (0, found));
    }
}

fn dn_of_user() -> String {
    format!("CN=1,{BASE}")
}

/// The trap: the filter sees the present state, and who no longer matches is not told.
#[test]
fn a_narrow_filter_hides_who_lost_an_address() {
    let user = &format!("CN=1,{BASE}");
    check(
        controller(),
        |directory| directory.changed(user, "proxyAddresses", &["SIP:1@example.com"]),
        &recipients(),
        &[],
    );
}

#[test]
fn dir_sync_comes_in_rounds_in_the_order_of_the_changes() {
    let changed = [2, 0, 1]
        .into_iter()
        .fold(controller(), |directory, number| {
            directory.changed(
                &format!("CN={number},{BASE}"),
                "proxyAddresses",
                &["smtp:x@y"],
            )
        });
    let server = Server::start(changed.dir_sync_round(2));
    let mut client = Client::new(&server);
    let (found, _, has_more, cookie) = client.dir_sync(&[], &everything());
    assert!(found[0].starts_with("CN=2,") && found[1].starts_with("CN=0,") && has_more);
    let (found, _, has_more, _) = client.dir_sync(&cookie, &everything());
    assert!(found[0].starts_with("CN=1,") && found.len() == 1 && !has_more);
    // Entries that never changed come in rounds too; what changes between two of them comes in a later one.
    let server = Server::start(controller().dir_sync_round(1));
    let mut client = Client::new(&server);
    let (mut cookie, mut found) = (Vec::new(), Vec::new());
    for round in 0..4 {
        let (entries, _, has_more, next) = client.dir_sync(&cookie, &everything());
        found.extend(
            entries
                .into_iter()
                .map(|entry| entry.chars().take(4).collect::<String>()),
        );
        assert_eq!(has_more, round < 3);
        cookie = next;
        if round == 0 {
            let user = format!("CN=0,{BASE}");
            server.change(|directory| directory.changed(&user, "proxyAddresses", &["smtp:x@y"]));
        }
    }
    assert_eq!(found, ["CN=0", "CN=1", "CN=2", "CN=0"]);
}

#[test]
fn cookies_are_refused_or_lead_to_the_beginning() {
    let server = Server::start(controller());
    let mut client = Client::new(&server);
    let (.., cookie) = client.dir_sync(&[], &nothing());
    assert_eq!(client.dir_sync(b"garbage", &everything()).1, 12);
    let half = &cookie[..cookie.len() / 2];
    assert_eq!(client.dir_sync(half, &everything()).1, 12);
    // A restored controller, or another one, does not know these numbers.
    server.change(|directory| directory.invocation_id([7; 16]));
    assert_eq!(client.dir_sync(&cookie, &everything()).0.len(), 3);
    for code in [12, 53] {
        server.change(|directory| directory.evicts_cookies(code));
        assert_eq!(client.dir_sync(&cookie, &everything()).1, code);
        assert_eq!(client.dir_sync(&[], &everything()).1, 0);
    }
    server.change(Directory::no_dir_sync);
    assert_eq!(client.dir_sync(&[], &everything()).1, 12);
    let seen = server
        .stats()
        .searches
        .pop()
        .and_then(|search| search.dir_sync);
    let seen = seen.expect("the last search had the control");
    assert!(seen.flags == 1 && seen.is_critical && seen.cookie.is_empty());
    let value = [number(0x02, 1), number(0x02, 0), element(0x04, &[])].concat();
    let value = element(0x30, &[&value]);
    let control = Some((DIR_SYNC, value.as_slice()));
    let found = client.search("OU=Elsewhere", 2, &everything(), &[], control);
    assert_eq!(found.code, 53);
}

#[test]
fn faults_of_dir_sync_happen_in_their_round() {
    let answer = |fault| {
        let server = Server::start(controller().fault(fault));
        Client::new(&server).dir_sync(&[], &everything())
    };
    let code = Fault::Code(Moment::DirSync(1), 51, Vec::new());
    assert_eq!(answer(code).1, 51);
    assert!(answer(Fault::NoDirSyncControl { round: 1 }).3.is_empty());
    assert!(!answer(Fault::NoDirSyncControl { round: 2 }).3.is_empty());
    assert!(answer(Fault::EndlessDirSync).2);
}

#[test]
fn a_controller_says_who_it_is() {
    let server = Server::start(controller().invocation_id([7; 16]).usn(4711));
    let mut client = Client::new(&server);
    let names = ["highestCommittedUSN", "dsServiceName"];
    let root = client.search("", 0, &everything(), &names, None);
    let service = "CN=NTDS Settings,CN=DC1,CN=Servers,CN=Site,CN=Sites,CN=Configuration";
    assert_eq!(
        root.entries,
        [format!(
            " highestCommittedUSN=4711 dsServiceName={service},{BASE}"
        )]
    );
    let service = format!("{service},{BASE}");
    let found = client.search(&service, 0, &everything(), &["invocationId"], None);
    let expected = format!("{service} invocationId={}", "07".repeat(16));
    assert_eq!(found.entries, [expected]);
    // It is no recipient, and a search does not come upon it.
    assert_eq!(
        client
            .search(BASE, 2, &everything(), &["1.1"], None)
            .entries
            .len(),
        3
    );
    let root =
        Client::new(&Server::start(Directory::new(BASE))).search("", 0, &everything(), &[], None);
    assert_eq!(root.entries, [format!(" defaultNamingContext={BASE}")]);
}

#[test]
fn a_base_may_be_a_guid() {
    let server = Server::start(controller());
    let mut client = Client::new(&server);
    for base in [GUID_OCTETS, GUID_TEXT] {
        for scope in [0, 2] {
            let found = client.search(base, scope, &everything(), &["proxyAddresses"], None);
            let expected = format!("CN=1,{BASE} proxyAddresses=SMTP:1@example.com");
            assert_eq!((found.code, found.entries), (0, vec![expected]), "{base}");
        }
    }
    for base in ["<GUID=30303030-3030-3030-3030-303030303039>", "<GUID=x>"] {
        assert_eq!(client.search(base, 0, &everything(), &[], None).code, 32);
    }
    let value = element(0x30, &[&number(0x02, 10), &element(0x04, &[])]);
    let paged = Some((PAGED_RESULTS, value.as_slice()));
    assert!(
        !client
            .search(GUID_TEXT, 0, &everything(), &[], paged)
            .control
            .is_empty()
    );
}

#[test]
fn pages_are_no_larger_than_the_limit() {
    let server = Server::start(Directory::new(BASE).recipients(5).page_max(2));
    let mut client = Client::new(&server);
    let found = client.search(BASE, 2, &everything(), &["1.1"], None);
    assert_eq!((found.entries.len(), found.code), (2, 4));
    let value = element(0x30, &[&number(0x02, 1000), &element(0x04, &[])]);
    let paged = Some((PAGED_RESULTS, value.as_slice()));
    let found = client.search(BASE, 2, &everything(), &["1.1"], paged);
    assert_eq!((found.entries.len(), found.code), (2, 0));
    let whole = Server::start(Directory::new(BASE).recipients(2).page_max(2));
    let found = Client::new(&whole).search(BASE, 2, &everything(), &["1.1"], None);
    assert_eq!((found.entries.len(), found.code), (2, 0));
}

#[test]
fn filters_count_where_that_is_asked_for() {
    let directory = controller().entry(&format!("CN=Other,{BASE}"), &[("mail", &["x@y"])]);
    for (directory, expected) in [(directory.clone(), 4), (directory.evaluates_filters(), 3)] {
        let server = Server::start(directory);
        let found = Client::new(&server).search(BASE, 2, &recipients(), &["1.1"], None);
        assert_eq!(found.entries.len(), expected);
    }
}
