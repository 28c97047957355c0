//! A directory whose answers are twisted in every way, at random: thousands of scripts, each drawn from a number.
//!
//! The embedded server knows what it told and what a script kept it from telling. The rule: whatever comes, a read gives
//! exactly what one server holds, or fails with its cause, in time, without a panic and without much memory; a twist that
//! changes nothing for a sound reader does no harm, and a sound server behind a hostile one stands in. A server that
//! controls the whole channel can still lie in good form (leave out an entry and end in order); no reader can tell, and
//! the guard is what stands there. Not here: rows with one fault each (`directory.rs`, `faults.rs`).
//!
//! A failure names its seed and its script; `RCPTSYNC_TEST_SEED` repeats a campaign with other numbers.
#![allow(
    clippy::expect_used,
    reason = "a test fails by panicking, and the message says what was expected"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use common::random::Random;
use common::{campaign, embedded, require};
use ldap_server::sequence::{STRANGER, Script};
use ldap_server::{Authority, Directory, Server, Validity};
use rcptsync::config::{Bind, Incremental, LdapSource, ServerAddress, Servers};
use rcptsync::current::Controller;
use rcptsync::directory::{Earlier, ReadFailure, read};
use rcptsync::exit::Exit;
use rcptsync::records::Spool;
use rcptsync::snapshot::{Cursor, Reading, SourceProgress};

const BASE: &str = "DC=corp,DC=example";
const UNITS: [&str; 2] = ["OU=Staff,DC=corp,DC=example", "OU=Rooms,DC=corp,DC=example"];

/// Recipients by their GUID: name and addresses.
type Recipients = BTreeMap<Vec<u8>, (String, Vec<Vec<u8>>)>;

/// A directory, and what is true of it.
#[derive(Clone)]
struct World {
    directory: Directory,
    /// Name and addresses by GUID.
    people: BTreeMap<String, (String, Vec<String>)>,
    /// The first may have been moved.
    units: [String; 2],
    next_number: u64,
}

impl World {
    fn draw(random: &mut Random, id: u8) -> World {
        let mut directory = Directory::new(BASE)
            .usn(1_000)
            .invocation_id([id; 16])
            .sees_deletions()
            .evaluates_filters()
            .entry(BASE, &[("objectGUID", &["================"])]);
        if random.below(3) == 0 {
            directory = directory.range_max(3);
        }
        if random.below(3) == 0 {
            directory = directory.dir_sync_round(1 + usize_of(random.below(2)));
        }
        if random.below(4) == 0 {
            directory = directory.page_max(2);
        }
        if random.below(4) == 0 {
            directory = directory.configuration(&format!("CN=Configuration,{BASE}"));
        }
        for (number, unit) in UNITS.iter().enumerate() {
            directory = directory.entry(unit, &[("objectGUID", &[&format!("{number:=<16}")])]);
        }
        let mut world = World {
            directory,
            people: BTreeMap::new(),
            units: UNITS.map(str::to_owned),
            next_number: u64::from(id) * 1_000,
        };
        // One in each unit at least: a base that holds nobody is not there for this server.
        for place in UNITS {
            world.add(random, place, false);
        }
        for _ in 0..random.below(8) {
            let place = world.place(random);
            world.add(random, &place, false);
        }
        world
    }

    fn place(&self, random: &mut Random) -> String {
        let [one, other] = self.units.clone();
        random.pick(&[BASE.to_owned(), one, other]).clone()
    }

    fn add(&mut self, random: &mut Random, place: &str, is_change: bool) {
        self.next_number += 1;
        let number = self.next_number;
        let (guid, dn) = (format!("{number:016}"), format!("CN={number},{place}"));
        let addresses = addresses(random, number);
        let values: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let attributes: &[(&str, &[&str])] =
            &[("objectGUID", &[&guid]), ("proxyAddresses", &values)];
        let directory = std::mem::take(&mut self.directory);
        self.directory = if is_change {
            directory.added(&dn, attributes)
        } else {
            directory.entry(&dn, attributes)
        };
        self.people.insert(guid, (dn, addresses));
    }

    /// A change, as a controller counts them.
    fn change(&mut self, random: &mut Random, may_move_units: bool) {
        // All but those who keep the units there, and nobody.
        let mut guids: Vec<String> = self.people.keys().skip(2).cloned().collect();
        guids.push(String::new());
        let guid = random.pick(&guids).clone();
        let directory = std::mem::take(&mut self.directory);
        let Some((dn, old)) = self.people.get(&guid).cloned() else {
            self.directory = directory.changed_elsewhere();
            let place = self.place(random);
            self.add(random, &place, true);
            return;
        };
        match random.below(if may_move_units { 5 } else { 4 }) {
            0 => {
                self.directory = directory.deleted(&dn);
                self.people.remove(&guid);
            }
            1 => {
                self.next_number += 1;
                let new = addresses(random, self.next_number);
                let values: Vec<&str> = new.iter().map(String::as_str).collect();
                self.directory = directory.changed(&dn, "proxyAddresses", &values);
                self.people.insert(guid, (dn, new));
            }
            2 => {
                self.directory = directory.changed(&dn, "proxyAddresses", &[]);
                self.people.insert(guid, (dn, Vec::new()));
            }
            3 => {
                self.next_number += 1;
                let to = format!("CN={},{}", self.next_number, self.place(random));
                self.directory = directory.moved(&dn, &to);
                self.people.insert(guid, (to, old));
            }
            _ => {
                let to = format!("OU=Moved{},{BASE}", self.next_number);
                self.next_number += 1;
                self.directory = directory.moved(&self.units[0], &to);
                for (dn, _) in self.people.values_mut() {
                    if let Some(relative) = dn.strip_suffix(self.units[0].as_str()) {
                        *dn = format!("{relative}{to}");
                    }
                }
                self.units[0] = to;
            }
        }
    }

    fn recipients(&self, bases: &[String]) -> Recipients {
        let is_inside = |dn: &str| bases.is_empty() || bases.iter().any(|base| dn.ends_with(base));
        let people = self.people.iter();
        people
            .filter(|(_, (dn, addresses))| is_inside(dn) && !addresses.is_empty())
            .map(|(guid, (dn, addresses))| {
                let mut octets: Vec<Vec<u8>> = addresses
                    .iter()
                    .map(|value| value.as_bytes().to_vec())
                    .collect();
                octets.sort();
                (guid.as_bytes().to_vec(), (dn.clone(), octets))
            })
            .collect()
    }
}

fn addresses(random: &mut Random, number: u64) -> Vec<String> {
    let count = 1 + random.below(7);
    (0..count)
        .map(|at| format!("smtp:{number}-{at}@example.com"))
        .collect()
}

fn usize_of(number: u64) -> usize {
    usize::try_from(number).expect("64 bits")
}

fn source(random: &mut Random, timeout: Duration) -> LdapSource {
    let units = UNITS.map(str::to_owned).to_vec();
    LdapSource {
        incremental: Incremental::Auto,
        full_every: None,
        replication_delay: Duration::ZERO,
        servers: Servers::Listed(Vec::new()),
        bases: random.pick(&[vec![], vec![BASE.to_owned()], units]).clone(),
        filter: LdapSource::DEFAULT_FILTER.into(),
        page_size: 1 + u32::try_from(random.below(5)).expect("small"),
        connect_timeout: Duration::from_secs(30),
        timeout,
        starttls: false,
        ca_file: None,
        bind: Bind::Anonymous,
    }
}

fn listed(servers: &[&Server]) -> Servers {
    let address = |server: &&Server| ServerAddress {
        url: server.url(),
        is_ldaps: server.url().starts_with("ldaps"),
        host: "127.0.0.1".into(),
        port: server.port(),
    };
    Servers::Listed(servers.iter().map(address).collect())
}

fn read_source(source: &LdapSource, earlier: Option<Earlier<'_>>) -> Result<Reading, ReadFailure> {
    let deadline = Instant::now() + Duration::from_secs(60);
    let (mut spool, progress) = (Spool::in_memory(), SourceProgress::default());
    read("corp", source, earlier, deadline, &mut spool, &progress)
}

/// What an answer left, so that it can be followed.
struct Known {
    answered_by: String,
    controller: Controller,
    cursor: Cursor,
    recipients: Recipients,
}

impl Known {
    fn earlier(&self, is_complete_read_due: bool) -> Earlier<'_> {
        Earlier {
            answered_by: &self.answered_by,
            controller: &self.controller,
            cursor: &self.cursor,
            is_complete_read_due,
            needs_organisation: false,
        }
    }
}

/// Who is there by this answer, and who gave it. Somebody who comes twice must come alike, unless he was touched.
fn told(reading: &Reading, before: Option<&Known>) -> (String, Recipients, bool) {
    let mut found = Recipients::new();
    let mut put = |record: rcptsync::record::RecordRef<'_>| {
        let values = record.proxy_addresses().map(<[u8]>::to_vec).collect();
        found.insert(record.guid().to_vec(), (record.dn().to_owned(), values));
    };
    match reading {
        Reading::Complete(snapshot) => {
            snapshot.records().for_each(put).expect("in memory");
            (snapshot.answered_by.clone(), found, false)
        }
        Reading::Followed(followed) => {
            let changes = followed.changes();
            changes.changed.iter().for_each(|record| put(record.view()));
            let mut all = before.expect("followed from somewhere").recipients.clone();
            all.append(&mut found);
            changes
                .gone
                .iter()
                .chain(&changes.deleted)
                .for_each(|guid| {
                    all.remove(guid);
                });
            (followed.answered_by.clone(), all, true)
        }
    }
}

/// One case: a world, perhaps followed from before; its server's script; perhaps another server behind it.
struct Case {
    seed: u64,
    script: Script,
    other: Option<Script>,
}

impl Case {
    fn is_expected_to_succeed(&self) -> bool {
        let is_sound = |script: &Script| script.is_harmless();
        if is_sound(&self.script) {
            return true;
        }
        // A refused account is final, as it must be; and a server that stalls uses up a short patience.
        let may_be_refused = self.script.twists.iter().any(|(answer, _)| *answer == 1);
        self.other.as_ref().is_some_and(is_sound) && !may_be_refused && !self.script.may_stall()
    }

    fn may_stall(&self) -> bool {
        self.script.may_stall() || self.other.as_ref().is_some_and(Script::may_stall)
    }

    fn told(&self) -> String {
        format!(
            "case {} (RCPTSYNC_TEST_SEED={0} repeats it first)\n{:?}\nother server: {:?}",
            self.seed, self.script, self.other
        )
    }
}

#[derive(Default)]
struct Tally {
    complete: u64,
    followed: u64,
    failed: u64,
}

fn check(seed: u64, tally: &mut Tally) {
    let mut random = Random::new(seed);
    let case = Case {
        seed,
        script: Script::draw(&mut |end| random.below(end)),
        other: match random.below(4) {
            0 => Some(Script::default()),
            1 => Some(Script::draw(&mut |end| random.below(end))),
            _ => None,
        },
    };
    let patience = if case.may_stall() {
        Duration::from_millis(250)
    } else {
        Duration::from_secs(30)
    };
    let mut source = source(&mut random, patience);
    let mut world = World::draw(&mut random, 1);
    let other_world = World::draw(&mut random, 2);
    let server = Server::start(world.directory.clone());
    let other = case
        .other
        .as_ref()
        .map(|script| Server::start(other_world.directory.clone().script(script.clone())));
    source.servers = listed(&[&server]);
    let before = (random.below(2) == 0).then(|| {
        let sound = LdapSource {
            timeout: Duration::from_secs(30),
            ..source.clone()
        };
        known(&sound, &world)
    });
    let is_due = random.below(4) == 0;
    if before.is_some() {
        let may_move_units = source.bases.len() < 2;
        for _ in 0..random.below(4) {
            world.change(&mut random, may_move_units);
        }
    }
    server.change(|_| world.directory.clone().script(case.script.clone()));
    let servers: Vec<&Server> = [&server].into_iter().chain(&other).collect();
    source.servers = listed(&servers);

    let started = Instant::now();
    let earlier = before.as_ref().map(|before| before.earlier(is_due));
    let read = read_source(&source, earlier);
    let took = started.elapsed();
    assert!(took < Duration::from_secs(55), "{took:?}\n{}", case.told());
    match read {
        Err(failure) => {
            tally.failed += 1;
            check_failure(&failure, &case);
        }
        Ok(reading) => {
            *match reading {
                Reading::Complete(_) => &mut tally.complete,
                Reading::Followed(_) => &mut tally.followed,
            } += 1;
            let other = other.as_ref().map(|other| (&other_world, other));
            let servers: Vec<_> = [(&world, &server)].into_iter().chain(other).collect();
            check_answer(&reading, before.as_ref(), &servers, &source.bases, &case);
        }
    }
}

/// What was read is what the server holds that gave it, but for what a script kept it from telling.
#[track_caller]
fn check_answer(
    reading: &Reading,
    before: Option<&Known>,
    servers: &[(&World, &Server)],
    bases: &[String],
    case: &Case,
) {
    let (answered_by, found, is_followed) = told(reading, before);
    let asked = servers
        .iter()
        .find(|(_, server)| server.url() == answered_by);
    let (world, server) = asked.expect("one of those that were asked");
    let touched = server.stats().touched;
    let old = before
        .filter(|_| is_followed)
        .map(|known| &known.recipients);
    let faults = differences(&found, &world.recipients(bases), old, &touched);
    assert!(
        faults.is_empty(),
        "{}\ntouched: {}\n{}",
        faults.join("\n"),
        text(&touched),
        case.told()
    );
}

/// A first read of a server without twists.
fn known(source: &LdapSource, world: &World) -> Known {
    let reading = read_source(source, None).expect("a sound server");
    let (answered_by, recipients, _) = told(&reading, None);
    assert_eq!(recipients, world.recipients(&source.bases));
    let Reading::Complete(snapshot) = reading else {
        unreachable!("there was nothing to follow")
    };
    Known {
        answered_by,
        controller: snapshot.controller.expect("a controller"),
        cursor: snapshot.cursor.expect("a cookie"),
        recipients,
    }
}

#[track_caller]
fn check_failure(failure: &ReadFailure, case: &Case) {
    let text = failure.to_string();
    let told = failure.failure("all stays");
    let is_named = !told.why.is_empty() && !told.next.is_empty();
    assert!(is_named, "{told:?}\n{}", case.told());
    let is_honest = matches!(
        told.exit,
        Exit::SourceFrozen | Exit::Permission | Exit::Configuration
    );
    assert!(is_honest, "{told:?}\n{}", case.told());
    assert!(!text.contains("library"), "{text}\n{}", case.told());
    // On a busy machine a sound server may need longer than the patience with one that stalls.
    let is_impatient = case.may_stall() && text.contains("no answer within");
    assert!(
        is_impatient || !case.is_expected_to_succeed(),
        "{text}\n{}",
        case.told()
    );
}

/// In what an answer differs from the truth, beyond what its server could not tell.
fn differences(
    found: &Recipients,
    truth: &Recipients,
    old: Option<&Recipients>,
    touched: &[Vec<u8>],
) -> Vec<String> {
    let is_touched = |dn: &str| {
        let mut names = touched.iter().filter(|name| !name.is_empty());
        names.any(|name| dn.as_bytes().ends_with(name))
    };
    // What a controller says of itself, or of its own end, may hide that something changed.
    let is_view_touched = touched.iter().any(Vec::is_empty);
    let mut faults = Vec::new();
    for (guid, (dn, values)) in truth {
        let is_told = found.get(guid) == Some(&(dn.clone(), values.clone()));
        let is_old = is_view_touched && old.is_some_and(|old| old.get(guid) == found.get(guid));
        if !is_told && !is_old && !is_touched(dn) {
            let told = found
                .get(guid)
                .map(|(dn, values)| format!("{dn} {}", text(values)));
            faults.push(format!("{dn} {}, told as {told:?}", text(values)));
        }
    }
    let strangers: Vec<_> = found
        .iter()
        .filter(|(guid, _)| !truth.contains_key(*guid))
        .collect();
    let is_old = |guid: &Vec<u8>| is_view_touched && old.is_some_and(|old| old.contains_key(guid));
    let is_stranger = |dn: &str| dn == STRANGER && is_touched(STRANGER);
    let excess: Vec<_> = strangers
        .iter()
        .filter(|(guid, (dn, _))| !is_old(guid) && !is_stranger(dn))
        .collect();
    if excess.len() > touched.len() {
        faults.push(format!("nobody holds {excess:?}"));
    }
    faults
}

fn text(values: &[Vec<u8>]) -> String {
    values.concat().escape_ascii().to_string()
}

#[test]
fn no_sequence_of_answers_makes_a_snapshot_that_is_not_the_truth() {
    let (seed, _) = campaign::seeded(0);
    let count = campaign::extent(1_000, 60_000);
    let mut tally = Tally::default();
    for number in 0..count {
        check(seed + number, &mut tally);
    }
    // A campaign in which everything fails, or nothing, has tried nothing.
    let Tally {
        complete,
        followed,
        failed,
    } = tally;
    assert!(complete > count / 10 && followed > count / 20 && failed > count / 4);
    campaign::tell(
        count,
        &format!(
            "sequences of twisted answers of a directory ({complete} read completely, {followed} followed, {failed} refused)"
        ),
    );
}

#[test]
fn the_same_number_is_the_same_script() {
    let draw = |seed| {
        let mut random = Random::new(seed);
        let scripts: Vec<Script> = (0..50)
            .map(|_| Script::draw(&mut |end| random.below(end)))
            .collect();
        format!("{scripts:?}")
    };
    assert_eq!(draw(7), draw(7));
    assert_ne!(draw(7), draw(8));
}

/// What becomes of the octets under way to a client, as a damaged line or somebody on it does to them.
#[derive(Clone, Copy, Debug)]
enum Damage {
    None,
    /// The stream ends in front of this octet.
    Cut(u64),
    /// The lowest bit of this octet is turned.
    Flip(u64),
    /// This octet comes twice.
    Twice(u64),
}

impl Damage {
    fn draw(random: &mut Random, is_tls: bool) -> Damage {
        let place = random.below(if is_tls { 4_500 } else { 2_500 });
        match random.below(4) {
            0 => Damage::None,
            2 if is_tls => Damage::Flip(place),
            3 if is_tls => Damage::Twice(place),
            // In clear another octet is another truth.
            _ => Damage::Cut(place),
        }
    }

    /// Does it to octets that begin at this place of the stream. Whether the stream ends behind them.
    fn apply(self, octets: &mut Vec<u8>, begin: u64) -> bool {
        let at = |place: u64| {
            let at = usize_of(place.checked_sub(begin)?);
            (at < octets.len()).then_some(at)
        };
        match self {
            Damage::None => false,
            Damage::Cut(place) => {
                let at = at(place);
                octets.truncate(at.unwrap_or(octets.len()));
                at.is_some()
            }
            Damage::Flip(place) => {
                if let Some(at) = at(place) {
                    octets[at] ^= 1;
                }
                false
            }
            Damage::Twice(place) => {
                if let Some(at) = at(place) {
                    octets.insert(at, octets[at]);
                }
                false
            }
        }
    }
}

/// Stands between one client and a server, and passes on what the server sends in pieces. Its port, and a thread that ends
/// with the client.
fn relay(server_port: u16, damage: Damage, piece: usize) -> (u16, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let thread = std::thread::spawn(move || {
        let (client, _) = listener.accept().expect("one client");
        let server = TcpStream::connect((Ipv4Addr::LOCALHOST, server_port)).expect("it listens");
        client.set_nodelay(true).expect("set");
        let mut requests = client.try_clone().expect("cloned");
        let mut to_server = server.try_clone().expect("cloned");
        let requests = std::thread::spawn(move || {
            let _ = std::io::copy(&mut requests, &mut to_server);
            let _ = to_server.shutdown(Shutdown::Write);
        });
        pass(&server, &client, damage, piece);
        let _ = server.shutdown(Shutdown::Both);
        let _ = client.shutdown(Shutdown::Both);
        let _ = requests.join();
    });
    (port, thread)
}

fn pass(mut server: &TcpStream, mut client: &TcpStream, damage: Damage, piece: usize) {
    let (mut passed, mut buffer) = (0, [0; 4096]);
    while let Ok(count @ 1..) = server.read(&mut buffer) {
        for octets in buffer[..count].chunks(piece) {
            let mut sent = octets.to_vec();
            let is_over = damage.apply(&mut sent, passed);
            if client.write_all(&sent).is_err() || is_over {
                return;
            }
            passed += octets.len() as u64;
        }
    }
}

/// Inside TLS nothing can be changed and nothing cut off unseen; how the octets arrive makes no difference.
#[test]
fn a_damaged_line_is_an_error_and_a_slow_one_is_not() {
    let (seed, mut random) = campaign::seeded(11);
    let count = campaign::extent(100, 5_000);
    let authority = Authority::new("Corp authority");
    let identity = authority.identity(&["127.0.0.1"], Validity::Current);
    let files = tempfile::tempdir().expect("a directory");
    std::fs::write(files.path().join("ca.pem"), authority.pem()).expect("written");
    let mut results = [0, 0];
    for number in 0..count {
        let world = World::draw(&mut random, 1);
        let is_tls = random.below(2) == 0;
        let directory = world.directory.clone();
        let server = Server::start(match is_tls {
            true => directory.ldaps(&identity),
            false => directory,
        });
        let damage = Damage::draw(&mut random, is_tls);
        let piece = *random.pick(&[1, 1, 2, 3, 7, 100, 4096]);
        let (port, thread) = relay(server.port(), damage, piece);
        // The length of a record may be what was changed; its rest is waited for.
        let patience = match damage {
            Damage::None | Damage::Cut(_) => Duration::from_secs(30),
            Damage::Flip(_) | Damage::Twice(_) => Duration::from_millis(400),
        };
        let mut source = source(&mut random, patience);
        source.connect_timeout = patience;
        source.ca_file = Some(files.path().join("ca.pem"));
        source.servers = Servers::Listed(vec![ServerAddress {
            url: format!("ldap{}://127.0.0.1:{port}", if is_tls { "s" } else { "" }),
            is_ldaps: is_tls,
            host: "127.0.0.1".into(),
            port,
        }]);
        let read = read_source(&source, None);
        thread.join().expect("the relay ends");
        let case =
            format!("seed {seed}, number {number}: {damage:?}, pieces of {piece}, TLS {is_tls}");
        match read {
            Ok(reading) => {
                results[0] += 1;
                let truth = world.recipients(&source.bases);
                assert_eq!(told(&reading, None).1, truth, "{case}");
            }
            Err(failure) => {
                results[1] += 1;
                assert!(!matches!(damage, Damage::None), "{case}: {failure}");
                let exit = failure.failure("").exit;
                assert_eq!(exit, Exit::SourceFrozen, "{case}: {failure}");
            }
        }
    }
    let has_both = results.iter().all(|result| *result > count / 10);
    assert!(has_both, "{results:?}");
    campaign::tell(
        count,
        "connections that were cut, changed inside TLS, or torn to single octets",
    );
}

/// The program itself, with tables on the disk: who was there before and is still there never leaves a table, whatever the
/// directory answers, and the next sound run makes it right.
#[test]
fn tables_never_lose_a_row() {
    if !require("time") {
        return;
    }
    let (seed, _) = campaign::seeded(0);
    let count = campaign::extent(6, 300);
    for number in seed..seed + count {
        check_tables(number);
    }
    campaign::tell(
        count,
        "twisted directories behind the program, with tables on the disk",
    );
}

/// What a run may take beside one with a sound server: it stores what it read, and the largest script has a message of 120 KB.
const MORE_KIB_MAX: u64 = 16 * 1024;

fn check_tables(number: u64) {
    let mut random = Random::new(number);
    let mut world = World::draw(&mut random, 1);
    let (server, program) = embedded::install(
        "hostile",
        world.directory.clone(),
        "timeout = \"2s\"\nreplication_delay = \"0s\"",
        // The guard is not what is tested here.
        "[guard]\nwindow = \"1s\"\nremoved_floor = 1000\nremoved_percent_max = 100\n",
    );
    program.run(&["sync"]).expect_code(0);
    let before = keys(&world);
    assert_eq!(program.table_keys(), before);
    for _ in 0..1 + random.below(4) {
        world.change(&mut random, true);
    }
    let after = keys(&world);
    let script = Script::draw(&mut |end| random.below(end));
    let case = format!("case {number} (RCPTSYNC_TEST_SEED={number} repeats it first): {script:?}");
    let serve = |script: Script| {
        server.change(|old| world.directory.clone().protected_like(&old).script(script));
    };
    serve(Script::default());
    let (_, ordinary_kib) = program.run_measured(&["diff"]);
    serve(script);
    let (run, kib) = program.run_measured(&["sync"]);
    let more_kib = kib.saturating_sub(ordinary_kib);
    assert!(more_kib < MORE_KIB_MAX, "{case}: {more_kib} KiB");
    let found = program.table_keys();
    assert!(!run.stderr.contains("panicked"), "{case}: {}", run.stderr);
    // What a script kept from being told is another truth.
    let is_touched = !server.stats().touched.is_empty();
    // That a domain loses more than half of its addresses is held, whatever the limits, and nothing else is.
    let is_halved =
        |in_force: &BTreeSet<String>| in_force.difference(&after).count() * 2 > in_force.len();
    match run.code {
        Some(0 | 65) if is_touched => {}
        Some(0) => assert_eq!(found, after, "{case}: {}", run.stderr),
        Some(65) => {
            assert!(is_halved(&before), "{case}: {}", run.stdout);
            assert_eq!(found, &before | &after, "{case}");
        }
        Some(75 | 77) => assert_eq!(found, before, "{case}"),
        code => assert_eq!(code, Some(75), "{case}: {}", run.stderr),
    }
    serve(Script::default());
    let healed = program.run(&["sync", "--full"]);
    let in_the_end = program.table_keys();
    match healed.code {
        Some(65) => {
            assert!(
                is_halved(&before) || is_halved(&found),
                "{case}: {}",
                healed.stdout
            );
            assert_eq!(in_the_end, &found | &after, "{case}");
        }
        code => assert_eq!((code, in_the_end), (Some(0), after), "{case}"),
    }
}

fn keys(world: &World) -> BTreeSet<String> {
    let addresses = world.people.values().flat_map(|(_, addresses)| addresses);
    let keys = addresses.map(|value| value.trim_start_matches("smtp:").to_owned());
    keys.collect()
}
