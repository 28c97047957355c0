//! A running gateway under load, while its tables are replaced as fast as that goes.
//!
//! Clients ask a real Postfix at `RCPT TO` without a pause: sessions of every length, several at once, pipelined or one
//! command at a time, ended with QUIT or without a word. Meanwhile the program publishes one change after the other, is
//! killed in between, and goes back. Every answer is judged: addresses that are in every table get 250, those that are in
//! none 550 5.1.1, and those that come and go what *one* table says that was in force since the session began. Nothing
//! else is right: no 4xx, no lost connection, no word of a daemon that died.
//!
//! The same load meets naive ways to replace a table (postmap on the live name, and a copy onto it), and what goes wrong then
//! is counted. Not here: a run that is killed at every system call (`crash.rs`).
#![allow(
    clippy::expect_used,
    reason = "a test fails by panicking, and the message says what was expected"
)]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use common::campaign::{extent, seeded, tell};
use common::plain::STAFF;
use common::postfix::{self, Answer, Gateway, Instance, Options, Session};
use common::process::{command, succeed};
use common::random::Random;
use common::rcptsync::{Outcome, Rcptsync};
use common::{SERVER_DEADLINE, poll_until, write_file};

/// Sessions at once.
const CLIENTS: u64 = 4;
/// Addresses that come and go: a publication is a set of them, one bit each.
const MOVING: usize = 64;
/// Addresses that are in every table, and that the clients ask for.
const KNOWN: u64 = 200;
/// More than it takes for threads to share the work of writing a table (`publish::prepare`).
const LARGE: u64 = 6_000;

/// What the numbers of an ordinary run begin with.
const SEED: u64 = 7;

/// Half of what may come and go does so with each run, which is what is tried here.
const GUARD: &str = "[guard]\nwindow = \"1ms\"\nremoved_percent_max = 100\n";

/// What was published, one set after the other, and how far that is.
struct Truth {
    sets: Mutex<Vec<u64>>,
    /// The last publication of which a run said that it is in force.
    finished: AtomicUsize,
    is_over: AtomicBool,
}

impl Truth {
    fn new(set: u64) -> Truth {
        Truth {
            sets: Mutex::new(vec![set]),
            finished: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
        }
    }

    /// From now on a reader may see this set.
    fn begin(&self, set: u64) {
        self.sets.lock().expect("no panic").push(set);
    }

    /// From now on nobody may see an older one.
    fn finish(&self) {
        self.finished.store(self.begun(), Ordering::SeqCst);
    }

    fn begun(&self) -> usize {
        self.sets.lock().expect("no panic").len() - 1
    }

    fn finished(&self) -> usize {
        self.finished.load(Ordering::SeqCst)
    }

    fn has(&self, publication: usize, moving: usize) -> bool {
        self.sets.lock().expect("no panic")[publication] >> moving & 1 == 1
    }
}

/// What may be asked.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Known(u64),
    Unknown(u64),
    Moving(usize),
}

impl Asked {
    fn any(random: &mut Random) -> Asked {
        match random.below(4) {
            0 => Asked::Known(random.below(KNOWN)),
            1 => Asked::Unknown(random.below(1_000_000)),
            _ => Asked::Moving(usize::try_from(random.below(MOVING as u64)).expect("small")),
        }
    }

    /// As somebody types it.
    fn address(self) -> String {
        match self {
            Asked::Known(number) if number % 3 == 0 => format!("KNOWN{number}@Example.COM"),
            Asked::Known(number) => format!("known{number}@example.com"),
            Asked::Unknown(number) => format!("unknown{number}@example.com"),
            Asked::Moving(number) => format!("moving{number}@example.com"),
        }
    }
}

/// Which tables may be behind an answer.
#[derive(Clone, Copy, PartialEq)]
enum Since {
    /// Those since the session began.
    Session,
    /// Those since the question was sent.
    Question,
    /// Any that ever was: the reader learns of new ones in its own time.
    Ever,
}

/// How a gateway reads the table.
#[derive(Clone, Copy)]
struct Reader {
    since: Since,
    /// Whether a session reads one table from its beginning to its end.
    is_one_a_session: bool,
    /// Whether other daemons end when a table is new: whoever was talking to them says so, and asks again.
    has_helpers_restarted: bool,
}

/// smtpd looks between sessions whether its tables were replaced.
const OF_SESSION: Reader = Reader {
    since: Since::Session,
    is_one_a_session: true,
    has_helpers_restarted: false,
};

/// Clients of a gateway, and what they found.
struct Load<'test> {
    port: u16,
    truth: &'test Truth,
    reader: Reader,
    sessions: AtomicU64,
    answers: AtomicU64,
    wrong: Mutex<Vec<String>>,
}

impl Load<'_> {
    fn on<'test>(port: u16, truth: &'test Truth, reader: Reader) -> Load<'test> {
        Load {
            port,
            truth,
            reader,
            sessions: AtomicU64::new(0),
            answers: AtomicU64::new(0),
            wrong: Mutex::new(Vec::new()),
        }
    }

    /// Sessions one after the other, while `replace` runs.
    fn during(&self, seed: u64, replace: impl FnOnce()) {
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                let mut random = Random::new(seed + client);
                scope.spawn(move || {
                    while !self.truth.is_over.load(Ordering::SeqCst) {
                        self.one_session(&mut random);
                    }
                });
            }
            // However it ends, the clients must end.
            let _over = OverAtEnd(&self.truth.is_over);
            replace();
        });
    }

    fn one_session(&self, random: &mut Random) {
        self.sessions.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = self.try_session(random) {
            self.tell_wrong(format!("a session ended early: {error}"));
        }
    }

    fn try_session(&self, random: &mut Random) -> std::io::Result<()> {
        let length = *random.pick(&[1, 3, 20, 100, 400]);
        let at_a_time = *random.pick(&[1, 25]);
        let first = match self.reader.since {
            Since::Session | Since::Question => self.truth.finished(),
            Since::Ever => 0,
        };
        let mut session = Session::open(self.port)?;
        // smtpd opened its tables before it greeted.
        let mut possible: Vec<usize> = (first..=self.truth.begun()).collect();
        let mut asked_count = 0;
        while asked_count < length && !self.truth.is_over.load(Ordering::SeqCst) {
            let asked: Vec<Asked> = (0..at_a_time).map(|_| Asked::any(random)).collect();
            let addresses: Vec<String> = asked.iter().map(|asked| asked.address()).collect();
            let sent_at = self.truth.finished();
            let answers = session.rcpt(&addresses)?;
            for (asked, answer) in asked.into_iter().zip(&answers) {
                if !self.reader.is_one_a_session {
                    let oldest = if self.reader.since == Since::Question {
                        sent_at
                    } else {
                        first
                    };
                    possible = (oldest..=self.truth.begun()).collect();
                }
                self.judge(asked, answer, &mut possible);
            }
            asked_count += at_a_time;
            if random.below(8) == 0 {
                session.again()?;
            }
        }
        // The others hang up, as spammers do.
        if random.below(2) == 0 {
            session.quit()
        } else {
            Ok(())
        }
    }

    /// Judges one answer, and leaves in `possible` the publications that may have given it.
    fn judge(&self, asked: Asked, answer: &Answer, possible: &mut Vec<usize>) {
        self.answers.fetch_add(1, Ordering::Relaxed);
        let is_accepted = answer.code == 250;
        let is_refused = answer.code == 550 && answer.text.starts_with("5.1.1 ");
        let before = possible.clone();
        let is_right = match asked {
            Asked::Known(_) => is_accepted,
            Asked::Unknown(_) => is_refused,
            Asked::Moving(number) => {
                possible.retain(|one| self.truth.has(*one, number) == is_accepted);
                (is_accepted || is_refused) && !possible.is_empty()
            }
        };
        if !is_right {
            self.tell_wrong(format!(
                "{}: {} {}; no table of {before:?} says that and all before it",
                asked.address(),
                answer.code,
                answer.text
            ));
            *possible = before;
        }
    }

    fn tell_wrong(&self, what: String) {
        self.wrong.lock().expect("no panic").push(what);
    }

    /// What a new session says of every address that comes and goes, as a set.
    fn set_in_force(&self) -> std::io::Result<u64> {
        let addresses: Vec<String> = (0..MOVING)
            .map(|number| Asked::Moving(number).address())
            .collect();
        let answers = Session::open(self.port)?.rcpt(&addresses)?;
        self.answers
            .fetch_add(answers.len() as u64, Ordering::Relaxed);
        let bits = answers.iter().enumerate();
        Ok(bits
            .filter(|(_, answer)| answer.code == 250)
            .fold(0, |set, (bit, _)| set | 1 << bit))
    }

    /// A session that begins now reads the table with this set.
    #[track_caller]
    fn expect_in_force(&self, expected: u64) {
        let is_in_force = || self.set_in_force().expect("an answer") == expected;
        if self.reader.since == Since::Ever {
            poll_until(SERVER_DEADLINE, "the gateway reads the new table", || {
                is_in_force().then_some(())
            });
        } else if !is_in_force() {
            self.tell_wrong("a new session does not read the new table".into());
        }
    }

    /// Fails the test unless every answer was right and no daemon of Postfix complained.
    #[track_caller]
    fn expect_no_fault(&self, gateway: &Gateway) {
        let wrong = self.wrong.lock().expect("no panic");
        let mut complaints = complaints(&gateway.mail_log());
        if self.reader.has_helpers_restarted {
            complaints.retain(|line| !line.ends_with("Connection reset by peer"));
        }
        assert!(
            wrong.is_empty() && complaints.is_empty(),
            "{} of {} answers were wrong: {:#?}\nthe log: {complaints:#?}",
            wrong.len(),
            self.answers.load(Ordering::Relaxed),
            wrong.iter().take(20).collect::<Vec<_>>()
        );
    }

    fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }
}

struct OverAtEnd<'test>(&'test AtomicBool);

impl Drop for OverAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Lines of the log in which a daemon dies, or complains.
fn complaints(log: &str) -> Vec<String> {
    const WORDS: [&str; 6] = ["fatal", "panic", "signal", "throttl", "warning:", "error:"];
    let is_one = |line: &&str| WORDS.iter().any(|word| line.contains(word));
    log.lines().filter(is_one).map(str::to_owned).collect()
}

/// An installation, and a gateway that asks its table.
struct Site {
    program: Rcptsync,
    gateway: Gateway,
    truth: Truth,
    write_source: Box<WriteSource>,
    seed: u64,
    /// A file that gets a second name before each replacement, as a backup of hard links gives it.
    linked: Option<PathBuf>,
}

/// Writes the source so that these addresses, of those that come and go, are in it.
type WriteSource = dyn Fn(&Rcptsync, u64) + Sync;

/// What happened while the clients asked.
#[derive(Default)]
struct Happened {
    replacements: u64,
    kills: u64,
}

/// Every so many replacements a run is killed, and every so many there is a `rollback` and a `verify`.
const KILLED_EVERY: u64 = 5;
const PUT_BACK_EVERY: u64 = 10;

impl Site {
    /// An installation that has published its first set; a gateway that asks `map_type:map` is started.
    fn start(
        mut program: Rcptsync,
        set: u64,
        write_source: Box<WriteSource>,
        map_type: &str,
        map: &Path,
        options: &Options,
    ) -> Site {
        let gateway = Gateway::start(map, map_type, options);
        program.mail_config = Some(gateway.config_directory());
        Site {
            program,
            gateway,
            truth: Truth::new(set),
            write_source,
            seed: seeded(SEED).0,
            linked: None,
        }
    }

    /// Publishes `formats` of a table, with `more` addresses for whom nobody asks; Postfix asks it as `map_type`.
    fn of_files(formats: &[&str], map_type: &str, more: u64) -> Site {
        let postfix = Instance::for_postmap(true);
        let mut program = Rcptsync::new("load");
        program.mail_config = Some(postfix.config_directory());
        configure(&program, formats, "");
        let write_source = Box::new(move |program: &Rcptsync, set| list(program, set, more));
        let set = any_set(&mut seeded(SEED).1);
        write_source(&program, set);
        program.run(&["sync"]).expect_code(0);
        let table = program.table();
        Site::start(program, set, write_source, map_type, &table, &options())
    }

    /// Replaces the table many times under load, and fails the test unless every answer was right.
    #[track_caller]
    fn check(&self, what: &str, reader: Reader, replacements: u64) {
        let load = Load::on(self.gateway.port(), &self.truth, reader);
        let mut random = Random::new(self.seed);
        let mut happened = Happened::default();
        load.during(self.seed, || {
            for _ in 0..replacements {
                self.replace(&load, &mut random, &mut happened);
            }
        });
        load.expect_no_fault(&self.gateway);
        let Happened {
            replacements,
            kills,
        } = happened;
        tell(
            load.answers(),
            &format!(
                "right answers at RCPT TO, during {replacements} replacements and {kills} killed runs: {what}"
            ),
        );
    }

    /// Publishes another set; from time to time a run is killed on its way there, or the set before is put back for a while.
    fn replace(&self, load: &Load<'_>, random: &mut Random, happened: &mut Happened) {
        let set = any_set(random);
        let before = *self
            .truth
            .sets
            .lock()
            .expect("no panic")
            .last()
            .expect("the first");
        self.truth.begin(set);
        (self.write_source)(&self.program, set);
        if let Some(linked) = &self.linked {
            let backup = format!("backup-{}", happened.replacements);
            let backup = self.program.directory().join(backup);
            std::fs::hard_link(linked, backup).expect("a second name");
        }
        // A run that dies between a rename and the new time of the old file tells nobody of it.
        let is_killed =
            self.linked.is_none() && happened.replacements % KILLED_EVERY == KILLED_EVERY - 1;
        if is_killed {
            // A run takes some 50 ms, and more where much else is done.
            let seconds = Duration::from_millis(random.below(120))
                .as_secs_f64()
                .to_string();
            let killed = ["timeout", "--signal=KILL", &seconds];
            let outcome = self.program.run_under(&killed, &["sync"]);
            happened.kills += u64::from(outcome.code != Some(0));
        }
        let published = self.put_in_force(load, &["sync"], set);
        happened.replacements += 1;
        if happened.replacements.is_multiple_of(PUT_BACK_EVERY) {
            let generation = generation(&published);
            for (number, set) in [(generation - 1, before), (generation, set)] {
                self.truth.begin(set);
                self.put_in_force(load, &["rollback", &number.to_string()], set);
                happened.replacements += 1;
            }
            // What was undone and is wanted by nobody waits no more.
            self.program.run(&["sync"]).expect_code(0);
            if !load.reader.has_helpers_restarted {
                let gateway = format!("127.0.0.1:{}", load.port);
                self.program
                    .run(&["verify", "--smtp", &gateway])
                    .expect_code(0);
            }
        }
    }

    /// A run that publishes what was begun, and what a session says that begins then.
    fn put_in_force(&self, load: &Load<'_>, verb: &[&str], set: u64) -> Outcome {
        let outcome = self.program.run(verb).expect_code(0);
        self.truth.finish();
        load.expect_in_force(set);
        outcome
    }
}

/// The number in `generation 4 of …`.
fn generation(outcome: &Outcome) -> u64 {
    let (_, rest) = outcome
        .stdout
        .rsplit_once("generation ")
        .expect("a run tells its generation");
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a number")
}

fn options() -> Options {
    Options {
        relay_domains: vec!["example.com".into()],
        // A smtpd that has died is started again sooner than by default, a minute later.
        more: vec![("service_throttle_time", "1s".into())],
        ..Options::default()
    }
}

fn configure(program: &Rcptsync, formats: &[&str], more: &str) {
    program.write_config(&format!(
        "state_dir = \"state\"\n[domains]\nlist = [\"example.com\"]\n{STAFF}\n{GUARD}\
         [table.relay_recipients]\npath = \"tables/relay_recipients\"\nformats = {formats:?}\n{more}\n"
    ));
}

fn any_set(random: &mut Random) -> u64 {
    random.below(1 << 32) << 32 | random.below(1 << 32)
}

/// The local parts that a source has with this set, and `more` for whom nobody asks.
fn names(set: u64, more: u64) -> impl Iterator<Item = String> {
    let known = (0..KNOWN).map(|number| format!("known{number}"));
    let is_there = move |bit: &usize| set >> bit & 1 == 1;
    let moving = (0..MOVING).filter(is_there);
    let moving = moving.map(|bit| format!("moving{bit}"));
    let more = (0..more).map(|number| format!("someone.else{number}"));
    let always = std::iter::once("postmaster".to_owned());
    always.chain(known).chain(moving).chain(more)
}

/// A source of kind list.
fn list(program: &Rcptsync, set: u64, more: u64) {
    program.staff(&names(set, more).collect::<Vec<_>>().join(" "));
}

#[test]
fn tables_of_every_type_that_postfix_reads() {
    if !postfix::is_available() {
        return;
    }
    for (format, more, replacements) in [
        ("cdb", 0, extent(30, 1000)),
        ("cdb", LARGE, extent(5, 100)),
        ("hash", 0, extent(20, 300)),
        ("btree", 0, extent(20, 300)),
        ("lmdb", 0, extent(20, 300)),
    ] {
        let site = Site::of_files(&["text", format], format, more);
        let rows = if more == 0 {
            ""
        } else {
            " with 6,000 rows more"
        };
        site.check(&format!("{format}{rows}"), OF_SESSION, replacements);
    }
}

/// A smtpd learns of a new table by the old one having no name any more; where a backup has linked that, by its time.
#[test]
fn tables_with_a_second_name() {
    if !postfix::is_available() {
        return;
    }
    for (format, suffix) in [("cdb", "cdb"), ("hash", "db"), ("btree", "db")] {
        let mut site = Site::of_files(&["text", format], format, 0);
        site.linked = Some(site.program.table().with_extension(suffix));
        site.check(
            &format!("{format} with a hard link each time"),
            OF_SESSION,
            extent(4, 50),
        );
    }
}

/// A smtpd that found no table answers 451 when the table is back, too; the run that brings it back says what to do.
#[test]
fn a_table_that_was_away() {
    const RELOAD: &str = "postfix reload";
    if !postfix::is_available() {
        return;
    }
    for (format, suffix) in [("cdb", "cdb"), ("hash", "db"), ("lmdb", "lmdb")] {
        let site = Site::of_files(&[format], format, 0);
        let code = || site.gateway.rcpt(&["known1@example.com"]).remove(0).code;
        assert_eq!(code(), 250, "{format}");
        let quiet = site.program.run(&["sync"]).expect_code(0);
        assert!(!quiet.stderr.contains(RELOAD), "{}", quiet.stderr);

        std::fs::remove_file(site.program.table().with_extension(suffix)).expect("our own file");
        assert_eq!(code(), 451, "{format}");
        let back = site.program.run(&["sync"]).expect_code(0);
        assert!(back.stderr.contains(RELOAD), "{}", back.stderr);
        let config = site.gateway.config_directory();
        succeed(command("postfix").arg("-c").arg(config).arg("reload"));
        poll_until(SERVER_DEADLINE, "the table is read", || {
            (code() == 250).then_some(())
        });
    }
}

/// What smtpd reads once, or through proxymap, is told of a new table by a reload, or learns of it some clients later.
#[test]
fn readers_that_are_told_or_late() {
    if !postfix::is_available() {
        return;
    }
    for (format, map_type, is_reloaded) in [
        ("text", "texthash", true),
        ("cdb", "proxy:cdb", true),
        ("cdb", "proxy:cdb", false),
    ] {
        let site = Site::of_files(&[format], map_type, 0);
        if is_reloaded {
            let config = site.gateway.config_directory().display().to_string();
            let run = ["/usr/sbin/postfix", "-c", &config, "reload"];
            let hook = format!("[[hook]]\nname = \"reload\"\nrun = {run:?}\n");
            configure(&site.program, &[format], &hook);
        }
        let reader = Reader {
            since: Since::Ever,
            // proxymap may go over to the new table in the middle of a session.
            is_one_a_session: map_type == "texthash",
            has_helpers_restarted: true,
        };
        let how = if is_reloaded { "with" } else { "without" };
        let what = format!("{map_type} {how} a reload each time");
        site.check(&what, reader, extent(4, 40));
    }
}

/// Tables of every kind at once: smtpd asks that of kind access, trivial-rewrite those of domains and transports.
#[test]
fn tables_of_every_kind() {
    const TABLES: &str = "\
        [table.access]\npath = \"tables/access\"\nformats = [\"text\", \"cdb\"]\nkind = \"access\"\n\
        [table.domains]\npath = \"tables/domains\"\nformats = [\"text\", \"lmdb\"]\nkind = \"domains\"\n\
        [table.transport]\npath = \"tables/transport\"\nformats = [\"text\", \"hash\"]\nkind = \"transport\"\n\
        next_hop = \"discard:\"\nremote_next_hop = \"discard:remote\"\n\
        [domain.\"example.com\"]\ndirectory_is_complete = true\n";
    if !postfix::is_available() {
        return;
    }
    let postfix = Instance::for_postmap(true);
    let mut program = Rcptsync::new("load");
    program.mail_config = Some(postfix.config_directory());
    let published = AtomicUsize::new(0);
    let write_source = Box::new(move |program: &Rcptsync, set| {
        // A domain more each time, and somebody who has an address in each.
        let mut domains = vec!["example.com".to_owned()];
        let more = 0..published.fetch_add(1, Ordering::Relaxed);
        domains.extend(more.map(|number| format!("more{number}.example")));
        program.write_config(&format!(
            "state_dir = \"state\"\n[domains]\nlist = {domains:?}\n\
             [source.corp]\nkind = \"ldif\"\npath = \"corp.ldif\"\n{GUARD}{TABLES}"
        ));
        let addresses = domains.iter();
        let addresses =
            addresses.map(|domain| format!("proxyAddresses: smtp:everywhere@{domain}\n"));
        let everywhere: String =
            std::iter::once("dn: CN=everywhere,DC=corp,DC=example\n".to_owned())
                .chain(addresses)
                .collect();
        program.write_settled("corp.ldif", &format!("{}{everywhere}\n", entries(set)));
    });
    let set = any_set(&mut seeded(SEED).1);
    write_source(&program, set);
    program.run(&["sync"]).expect_code(0);
    let table = |map_type: &str, name: &str| {
        format!(
            "{map_type}:{}",
            program.directory().join("tables").join(name).display()
        )
    };
    let options = Options {
        more: vec![
            ("relay_domains", table("lmdb", "domains")),
            ("transport_maps", table("hash", "transport")),
            ("relay_recipient_maps", String::new()),
            (
                "smtpd_recipient_restrictions",
                format!("check_recipient_access {}", table("cdb", "access")),
            ),
        ],
        ..options()
    };
    let access = program.directory().join("tables/access");
    let site = Site::start(program, set, write_source, "cdb", &access, &options);
    let reader = Reader {
        has_helpers_restarted: true,
        ..OF_SESSION
    };
    site.check(
        "tables of kind access, domains and transport",
        reader,
        extent(10, 100),
    );
}

/// A directory with an entry for each address; the mailboxes of some that are always there are elsewhere from time to time.
fn entries(set: u64) -> String {
    let entry = |(number, name): (usize, String)| {
        let is_remote = name.starts_with("known") && set >> (number % 64) & 1 == 1;
        let kind = if is_remote { "2147483648" } else { "1" };
        format!(
            "dn: CN={name},DC=corp,DC=example\nmsExchRecipientTypeDetails: {kind}\nproxyAddresses: SMTP:{name}@example.com\n\n"
        )
    };
    names(set, 0).enumerate().map(entry).collect()
}

#[cfg(feature = "postgresql")]
#[test]
fn a_table_in_a_database() {
    if !postfix::is_available() {
        return;
    }
    for map_type in ["pgsql", "proxy:pgsql"] {
        let Some(database) = common::postgresql::database() else {
            return;
        };
        let program = Rcptsync::new("load");
        configure(&program, &["postgresql"], &database.by_socket());
        let write_source = Box::new(|program: &Rcptsync, set| list(program, set, 0));
        let set = any_set(&mut seeded(SEED).1);
        write_source(&program, set);
        program.run(&["sync"]).expect_code(0);
        let reader = common::postgresql::READER;
        database.ask(&format!("GRANT SELECT ON relay_recipients TO {reader}"));
        let map = program.directory().join("relay_recipients.cf");
        let lines = format!(
            "hosts = inet:127.0.0.1:{}\nuser = {reader}\npassword = {}\ndbname = {}\n\
             query = SELECT value FROM relay_recipients WHERE address = '%s'\n",
            database.port(),
            common::postgresql::PASSWORD,
            database.name
        );
        write_file(&map, lines);
        let site = Site::start(program, set, write_source, map_type, &map, &options());
        let reader = Reader {
            since: Since::Question,
            is_one_a_session: false,
            has_helpers_restarted: false,
        };
        site.check(map_type, reader, extent(6, 150));
    }
}

/// How scripts replace a table.
#[derive(Clone, Copy, Debug)]
enum Naive {
    /// postmap is given the live name.
    Postmap,
    /// What postmap made elsewhere is copied onto the live file.
    Copy,
}

impl Naive {
    /// Gives whether it came to an end: a smtpd may go round in a hash table that was rebuilt below it for ever, and keeps the
    /// lock that the next postmap waits for.
    fn replace(self, site: &Site, map_type: &str, set: u64) -> bool {
        const PATIENCE_SECONDS: &str = "60";
        let table = site.program.table();
        let beside = site.program.directory().join("beside");
        let target = match self {
            Naive::Postmap => &table,
            Naive::Copy => &beside,
        };
        let rows = names(set, LARGE).map(|name| format!("{name}@example.com OK\n"));
        write_file(target, rows.collect::<String>());
        let mut postmap = command("timeout");
        postmap.args([
            PATIENCE_SECONDS,
            "postmap",
            &format!("{map_type}:{}", target.display()),
        ]);
        postmap.env("MAIL_CONFIG", site.gateway.config_directory());
        if !postmap.status().expect("coreutils' timeout runs").success() {
            return false;
        }
        if matches!(self, Naive::Copy) {
            let suffix = match map_type {
                "cdb" | "lmdb" => map_type,
                _ => "db",
            };
            let name = |path: &Path| path.with_extension(suffix);
            std::fs::copy(name(&beside), name(&table)).expect("our own files");
        }
        true
    }
}

/// What this test is worth: the same load notices these ways at once. (postmap on a live CDB or LMDB is not among them: it
/// renames, or writes a transaction. Nor is on a live btree of this size.)
#[test]
fn naive_ways_are_seen_to_fail() {
    const REPLACEMENTS_MAX: u64 = 500;
    if !postfix::is_available() {
        return;
    }
    for (naive, map_type, what) in [
        (Naive::Postmap, "hash", "`postmap hash:` on the live table"),
        (
            Naive::Copy,
            "hash",
            "a new hash table copied onto the live one",
        ),
        (Naive::Copy, "cdb", "a new CDB copied onto the live one"),
        (Naive::Copy, "lmdb", "a new LMDB copied onto the live one"),
    ] {
        let site = Site::of_files(&["text", map_type], map_type, LARGE);
        // Less is asked than of us: any table since the session began may be behind an answer.
        let reader = Reader {
            is_one_a_session: false,
            ..OF_SESSION
        };
        let load = Load::on(site.gateway.port(), &site.truth, reader);
        let wrong_count = || load.wrong.lock().expect("no panic").len();
        let mut random = Random::new(site.seed);
        let mut replacements = 0;
        load.during(site.seed, || {
            let enough = extent(5, 100);
            while replacements < enough || (wrong_count() == 0 && replacements < REPLACEMENTS_MAX) {
                let set = any_set(&mut random);
                site.truth.begin(set);
                if !naive.replace(&site, map_type, set) {
                    load.tell_wrong("postmap waits for a smtpd that does not end".into());
                    break;
                }
                site.truth.finish();
                replacements += 1;
            }
        });
        let deaths = complaints(&site.gateway.mail_log());
        let deaths = deaths
            .iter()
            .filter(|line| line.contains("killed by signal"))
            .count();
        let wrong = wrong_count();
        assert!(
            wrong > 0,
            "{what}: nothing wrong in {replacements} replacements"
        );
        tell(
            wrong,
            &format!(
                "wrong answers or lost sessions among {} answers, smtpd killed {deaths} times, during {replacements} naive \
                 replacements: {what}",
                load.answers()
            ),
        );
    }
}
