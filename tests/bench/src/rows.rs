//! The eleven rows: what is done, beside what, and what the ratio should be. Why each is fair: `README.md`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rcptsync::config::Format;

use crate::common::process::{command, succeed};
use crate::common::rcptsync::Rcptsync;
use crate::common::samba::Samba;
use crate::directories::{Controller, FILTER, OpenLdap, export, export_source};
use crate::in_process::{self, Publication};
use crate::installation::{self, Installation, rows_count};
use crate::recipients::{self, BASE, DOMAINS, Recipient};
use crate::results::{Aim, Line, Side};
use crate::timed::{self, Timed, in_turn};

/// Rows 3 to 6 need a directory of so many at least, and the slow peers need not more.
const DIRECTORY_RECIPIENTS_MAX: u64 = 200_000;

/// Rows 1, 2 and 11 work on so many keys.
const KEYS_MAX: u64 = 1_000_000;

/// Filling Samba takes longer than in proportion.
const SAMBA_OBJECTS_MAX: u64 = 10_000;

/// Row 10 compares with the hundredth part.
const FEW: u64 = 100;

/// What is measured how.
pub struct Bench {
    /// Where everything lies that is worth keeping.
    pub work: PathBuf,
    /// How often each side runs.
    pub rounds: usize,
    /// The size of the largest directory.
    pub recipients: u64,
}

impl Bench {
    /// The lines of a row.
    pub fn row(&self, number: u8) -> Vec<Line> {
        match number {
            1 => self.render_cdb(),
            2 => self.publish_cdb(),
            3 => self.read_in_clear(),
            4 => self.shell_pipeline(),
            5 => self.scripts(),
            6 => self.read_over_tls(),
            7 => self.nothing_changed(),
            8 => self.one_address_changed(),
            9 => self.memory(),
            10 => self.flatness(),
            11 => self.lookups(),
            _ => Vec::new(),
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        let directory = self.work.join(name);
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).expect("a directory of our own");
        directory
    }

    fn keys_count(&self) -> usize {
        usize::try_from(self.recipients.min(KEYS_MAX)).unwrap_or(usize::MAX)
    }

    fn directory_recipients(&self) -> u64 {
        self.recipients.min(DIRECTORY_RECIPIENTS_MAX)
    }

    fn render_cdb(&self) -> Vec<Line> {
        let directory = self.at("render");
        let at = |name: &str| directory.join(name);
        let rows = in_process::rows(self.keys_count());
        let keys = || rows.keys();
        write_cdb_input(&at("records"), keys());
        in_process::write(&rows, Format::Text, &at("text"));
        strip_comments(&at("text"));
        let cdb = |options: &[&str], input: &str| {
            let mut cdb = command("cdb");
            cdb.arg("-c").args(options).arg("-t").arg(at("tmp"));
            cdb.arg(at("theirs.cdb")).arg(at(input));
            timed::program(&cdb)
        };
        // A file system may write at once what replaces another file; no side does that here.
        let anew = || ["ours.cdb", "theirs.cdb"].map(|name| std::fs::remove_file(at(name)).ok());
        let [ours, map, records] = in_turn(
            self.rounds,
            &mut [
                &mut || {
                    anew();
                    timed::in_process(|| in_process::write(&rows, Format::Cdb, &at("ours.cdb")))
                },
                &mut || cdb(&["-m"], "text"),
                &mut || {
                    let _ = std::fs::remove_file(at("theirs.cdb"));
                    cdb(&[], "records")
                },
            ],
        );
        assert_same_files(&at("ours.cdb"), &at("theirs.cdb"));
        let line = |theirs, aim, peer: &str| Line {
            row: 1,
            work: format!(
                "{} sorted keys in memory to a finished CDB, beside {peer}",
                rows.len()
            ),
            ours: Side::wall(&ours),
            theirs: Some(Side::wall(theirs)),
            aim,
        };
        // Whichever is faster for tinycdb counts.
        vec![
            line(&records, Aim::AtMost(0.5), "`cdb -c` of its own format"),
            line(&map, Aim::AtMost(0.5), "`cdb -c -m`"),
        ]
    }

    fn publish_cdb(&self) -> Vec<Line> {
        let directory = self.at("publish");
        let rows = in_process::rows(self.keys_count());
        let publication = Publication::of(&rows, &directory);
        let text = directory.join("text");
        in_process::write(&rows, Format::Text, &text);
        let postfix = MailConfig::new(&directory);
        let [ours, theirs] = in_turn(
            self.rounds,
            &mut [
                &mut || timed::in_process(|| publication.prepare_cdb()),
                &mut || {
                    let _ = std::fs::remove_file(text.with_extension("cdb"));
                    timed::program(postfix.postmap().arg(cdb_of(&text)))
                },
            ],
        );
        vec![Line {
            row: 2,
            work: format!(
                "{} sorted keys in memory to a CDB that is synced and proven, beside `postmap cdb:` of the text",
                rows.len()
            ),
            ours: Side::wall(&ours),
            theirs: Some(Side::wall(&theirs)),
            aim: Aim::AtMost(0.1),
        }]
    }

    fn read_in_clear(&self) -> Vec<Line> {
        let count = self.directory_recipients();
        let server = OpenLdap::start(&self.work, count);
        let program = Installation::new(&self.at("read"), &server.source_in_clear());
        let ldapsearch = server.ldapsearch(false);
        let [ours, theirs] = in_turn(
            self.rounds,
            &mut [&mut || program.first_sync(), &mut || {
                timed::program(&ldapsearch)
            }],
        );
        check_ours(&program, count);
        vec![Line {
            row: 3,
            work: format!(
                "first `sync` of {count} recipients in slapd to text and CDB, beside `ldapsearch` to /dev/null"
            ),
            ours: Side::wall(&ours),
            theirs: Some(Side::wall(&theirs)),
            aim: Aim::AtMost(0.8),
        }]
    }

    fn shell_pipeline(&self) -> Vec<Line> {
        let count = self.directory_recipients();
        let server = OpenLdap::start(&self.work, count);
        let directory = self.at("pipeline");
        let program = Installation::new(&directory.join("rcptsync"), &server.source_in_clear());
        let peer = Peer::new("pipeline.sh", &directory, &server);
        let [ours, theirs] = in_turn(
            self.rounds,
            &mut [&mut || program.first_sync(), &mut || peer.make_table()],
        );
        check_ours(&program, count);
        peer.check(str::is_ascii, count);
        vec![Line {
            row: 4,
            work: format!(
                "the same of {count}, beside `ldapsearch \\| awk \\| sort -u`, then `postmap cdb:`"
            ),
            ours: Side::wall(&ours),
            theirs: Some(Side::wall(&theirs)),
            aim: Aim::AtMost(0.3),
        }]
    }

    fn scripts(&self) -> Vec<Line> {
        let count = self.directory_recipients();
        let server = OpenLdap::start(&self.work, count);
        let directory = self.at("scripts");
        let program = Installation::new(&directory.join("rcptsync"), &server.source_in_clear());
        let perl = Peer::new("net_ldap.pl", &directory, &server);
        let python = Peer::new("ldap3_script.py", &directory, &server);
        let [ours, with_perl, with_python] = in_turn(
            self.rounds,
            &mut [
                &mut || program.first_sync(),
                &mut || perl.make_table(),
                &mut || python.make_table(),
            ],
        );
        check_ours(&program, count);
        perl.check(|_| true, count);
        python.check(|_| true, count);
        let line = |theirs, peer: &str| Line {
            row: 5,
            work: format!("the same of {count}, beside {peer}, then `postmap cdb:`"),
            ours: Side::wall(&ours),
            theirs: Some(Side::wall(theirs)),
            aim: Aim::AtMost(0.2),
        };
        vec![
            line(&with_perl, "Perl with Net::LDAP"),
            line(&with_python, "Python with ldap3"),
        ]
    }

    fn read_over_tls(&self) -> Vec<Line> {
        let count = self.directory_recipients();
        let server = OpenLdap::start(&self.work, count);
        let program = Installation::new(&self.at("read-tls"), &server.source_over_tls());
        let ldapsearch = server.ldapsearch(true);
        let [ours, theirs] = in_turn(
            self.rounds,
            &mut [&mut || program.first_sync(), &mut || {
                timed::program(&ldapsearch)
            }],
        );
        check_ours(&program, count);
        vec![Line {
            row: 6,
            work: format!(
                "the same of {count} over LDAPS with an account, beside `ldapsearch` over LDAPS to /dev/null"
            ),
            ours: Side::wall(&ours),
            theirs: Some(Side::wall(&theirs)),
            aim: Aim::AtMost(0.9),
        }]
    }

    fn nothing_changed(&self) -> Vec<Line> {
        vec![self.export_unchanged(), self.controller_unchanged()]
    }

    fn export_unchanged(&self) -> Line {
        let file = export(&self.work, self.recipients);
        let quiet = Installation::new(&self.at("quiet"), &export_source(&file));
        let first = Installation::new(&self.at("first"), &export_source(&file));
        quiet.first_sync();
        quiet.sync();
        let [ours, theirs] = in_turn(
            self.rounds,
            &mut [&mut || quiet.sync(), &mut || first.first_sync()],
        );
        check_ours(&quiet, self.recipients);
        Line {
            row: 7,
            work: format!(
                "`sync` of {} recipients in an LDIF file that did not change, beside the first `sync`",
                self.recipients
            ),
            ours: Side::wall(&ours),
            theirs: Some(Side::wall(&theirs)),
            aim: Aim::Report,
        }
    }

    fn controller_unchanged(&self) -> Line {
        let count = self.recipients.min(SAMBA_OBJECTS_MAX);
        let samba = Samba::start(usize::try_from(count).unwrap_or(usize::MAX));
        let program = Rcptsync::new("bench-samba");
        samba.configure(&program, &[], "incremental = \"dirsync\"", "");
        let config_file = program.config_file();
        let sync = |more: &[&str]| timed::program(&installation::sync(&config_file, more));
        sync(&[]);
        sync(&[]);
        assert_eq!(installation::source_state(&config_file), "unchanged");
        let [ours, theirs] = in_turn(
            self.rounds,
            &mut [&mut || sync(&[]), &mut || {
                let full = sync(&["--full"]);
                // What a full read leaves behind is settled by the next run.
                sync(&[]);
                full
            }],
        );
        Line {
            row: 7,
            work: format!(
                "`sync` with DirSync of {count} objects in Samba without a change, beside `sync --full`"
            ),
            ours: Side::wall(&ours),
            theirs: Some(Side::wall(&theirs)),
            aim: Aim::AtMost(0.05),
        }
    }

    fn one_address_changed(&self) -> Vec<Line> {
        let controller = Controller::start(self.recipients);
        let directory = self.at("change");
        let program = Installation::new(&directory.join("rcptsync"), &controller.source());
        program.first_sync();
        program.sync();
        assert_eq!(program.source_state(), "unchanged");
        let rows_before = program.rows_count();
        let records = directory.join("records");
        let mut cdb = command("cdb");
        cdb.arg("-c").arg("-t").arg(directory.join("tmp"));
        cdb.arg(directory.join("theirs.cdb")).arg(&records);
        let mut changes_count = 0;
        let [ours, theirs] = in_turn(
            self.rounds,
            &mut [
                &mut || {
                    let address = format!("changed{changes_count}@{}", DOMAINS[0]);
                    controller.change(&recipient_with_rows(changes_count), &address);
                    changes_count += 1;
                    program.sync()
                },
                &mut || {
                    let text = std::fs::read(program.text()).expect("a published table");
                    write_cdb_input(&records, keys_of_text(&text));
                    timed::program(&cdb)
                },
            ],
        );
        let rows_count = program.rows_count();
        assert_eq!(rows_count, rows_before + self.rounds as u64, "one row each");
        vec![Line {
            row: 8,
            work: format!(
                "one address changed of {} recipients ({rows_count} rows), from DirSync to text and CDB, \
                 beside `cdb -c` of the same table",
                self.recipients
            ),
            ours: Side::wall(&ours),
            theirs: Some(Side::wall(&theirs)),
            aim: Aim::AtMost(2.0),
        }]
    }

    fn memory(&self) -> Vec<Line> {
        let server = OpenLdap::start(&self.work, self.recipients);
        let program = Installation::new(&self.at("memory"), &server.source_in_clear());
        let first: Vec<_> = (0..self.rounds).map(|_| program.first_sync()).collect();
        check_ours(&program, self.recipients);
        let recipient = recipient_with_rows(0);
        let later: Vec<_> = (0..self.rounds)
            .map(|round| {
                let address = format!("changed{round}@{}", DOMAINS[0]);
                server.change(&recipient, Some(&address));
                program.sync()
            })
            .collect();
        server.change(&recipient, None);
        let text = std::fs::metadata(program.text()).expect("a published table");
        let line = |runs, what: &str| Line {
            row: 9,
            work: format!(
                "peak memory of {what} of {} recipients from slapd, beside the size of the published text",
                self.recipients
            ),
            ours: Side::memory(runs),
            theirs: Some(Side::bytes(text.len())),
            aim: Aim::AtMost(3.0),
        };
        vec![
            line(&first, "the first `sync`"),
            line(&later, "a later `sync` with one change"),
        ]
    }

    fn flatness(&self) -> Vec<Line> {
        let (many, few) = (self.recipients, self.recipients.div_ceil(FEW));
        let servers = [many, few].map(|count| OpenLdap::start(&self.work, count));
        let sources = servers.each_ref().map(OpenLdap::source_in_clear);
        let mut lines = self.flat_lines(many, few, "slapd", &sources);
        let exports = [many, few].map(|count| export_source(&export(&self.work, count)));
        lines.extend(self.flat_lines(many, few, "an LDIF file", &exports));
        lines
    }

    fn flat_lines(&self, many: u64, few: u64, what: &str, sources: &[String; 2]) -> Vec<Line> {
        let [large, small] = sources;
        let large = Installation::new(&self.at("large"), large);
        let small = Installation::new(&self.at("small"), small);
        let [ours, theirs] = in_turn(
            self.rounds,
            &mut [&mut || large.first_sync(), &mut || small.first_sync()],
        );
        check_ours(&large, many);
        check_ours(&small, few);
        let line = |cost: &str, large, small| Line {
            row: 10,
            work: format!(
                "{cost} for each recipient of a first `sync` from {what}: {many} recipients beside {few}"
            ),
            ours: large,
            theirs: Some(small),
            aim: Aim::AtMost(1.3),
        };
        vec![
            line(
                "time",
                Side::wall_each(&ours, many),
                Side::wall_each(&theirs, few),
            ),
            line(
                "processor time",
                Side::processor_each(&ours, many),
                Side::processor_each(&theirs, few),
            ),
        ]
    }

    fn lookups(&self) -> Vec<Line> {
        let directory = self.at("lookups");
        let rows = in_process::rows(self.keys_count());
        let [ours, theirs] = ["ours", "theirs"].map(|name| directory.join(name));
        in_process::write(&rows, Format::Cdb, &ours.with_extension("cdb"));
        in_process::write(&rows, Format::Text, &theirs);
        let postfix = MailConfig::new(&directory);
        succeed(postfix.postmap().arg(cdb_of(&theirs)));
        assert_same_files(&ours.with_extension("cdb"), &theirs.with_extension("cdb"));
        let keys = directory.join("keys");
        let mut lines: Vec<u8> = rows.keys().collect::<Vec<_>>().join(&b'\n');
        lines.push(b'\n');
        std::fs::write(&keys, lines).expect("a file of our own");
        let answers = directory.join("answers");
        let look_up = |table: &Path| {
            let mut shell = postfix.command("sh");
            shell
                .args(["-c", "exec postmap -q - \"$1\" < \"$2\"", "sh"])
                .arg(cdb_of(table))
                .arg(&keys);
            let file = std::fs::File::create(&answers).expect("a file of our own");
            timed::program_to(&shell, Stdio::from(file))
        };
        let [in_ours, in_theirs] = in_turn(
            self.rounds,
            &mut [&mut || look_up(&ours), &mut || look_up(&theirs)],
        );
        assert_eq!(
            rows_count(&answers),
            rows.len() as u64,
            "every key is found"
        );
        vec![Line {
            row: 11,
            work: format!(
                "{} lookups by `postmap -q -` in our CDB, beside those in postmap's (the same bytes)",
                rows.len()
            ),
            ours: Side::wall(&in_ours),
            theirs: Some(Side::wall(&in_theirs)),
            aim: Aim::Same,
        }]
    }
}

/// A configuration of Postfix for postmap alone; nothing of this machine's is read but where its kinds of tables lie.
struct MailConfig {
    directory: PathBuf,
}

impl MailConfig {
    fn new(directory: &Path) -> MailConfig {
        let directory = directory.join("postfix");
        std::fs::create_dir_all(&directory).expect("a directory of our own");
        std::fs::write(
            directory.join("main.cf"),
            "compatibility_level = 3.6\nmeta_directory = /etc/postfix\nshlib_directory = /usr/lib/postfix\n",
        )
        .expect("a file of our own");
        MailConfig { directory }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = command(program);
        command.env("MAIL_CONFIG", &self.directory);
        command
    }

    fn postmap(&self) -> Command {
        self.command("postmap")
    }
}

fn cdb_of(text: &Path) -> String {
    format!("cdb:{}", text.display())
}

/// A script of `peers/` and the table it makes.
struct Peer {
    command: Command,
    table: PathBuf,
}

impl Peer {
    fn new(script: &str, directory: &Path, server: &OpenLdap) -> Peer {
        let table = directory.join(format!("{script}.table"));
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("peers")
            .join(script);
        let mut command = MailConfig::new(directory).command(path.to_str().expect("text"));
        command
            .args([&server.url(), BASE, FILTER])
            .arg(&table)
            .args(DOMAINS);
        Peer { command, table }
    }

    /// Runs it, with nothing left from the time before.
    fn make_table(&self) -> Timed {
        let _ = std::fs::remove_file(&self.table);
        let _ = std::fs::remove_file(format!("{}.cdb", self.table.display()));
        timed::program(&self.command)
    }

    /// It did the job: its table holds those of the accepted addresses that `includes`, in the form of the directory.
    fn check(&self, includes: impl Fn(&str) -> bool, count: u64) {
        let expected: u64 = recipients::first(count)
            .map(|recipient| {
                recipient
                    .accepted()
                    .filter(|address| includes(address))
                    .count() as u64
            })
            .sum();
        assert_eq!(
            rows_count(&self.table),
            expected,
            "{}",
            self.table.display()
        );
    }
}

/// We did the job.
fn check_ours(program: &Installation, count: u64) {
    let expected: u64 = recipients::first(count)
        .map(|recipient| recipient.keys().len() as u64)
        .sum();
    assert_eq!(
        program.rows_count(),
        expected,
        "{}",
        program.text().display()
    );
    assert!(program.cdb().exists());
}

/// The recipient of this number among those that have rows.
fn recipient_with_rows(number: usize) -> Recipient {
    let recipients = (0..).map(Recipient::of);
    let mut with_rows = recipients.filter(|recipient| !recipient.is_internal_only());
    with_rows.nth(number).expect("there is always another one")
}

/// Keys in the format that `cdb -c` reads.
fn write_cdb_input<'keys>(file: &Path, keys: impl Iterator<Item = &'keys [u8]>) {
    let mut input = Vec::new();
    let value = in_process::VALUE.as_bytes();
    for key in keys {
        input.extend(format!("+{},{}:", key.len(), value.len()).bytes());
        input.extend_from_slice(key);
        input.extend_from_slice(b"->");
        input.extend_from_slice(value);
        input.push(b'\n');
    }
    input.push(b'\n');
    std::fs::write(file, input).expect("a file of our own");
}

fn keys_of_text(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let end = b" OK".as_slice();
    text.split(|octet| *octet == b'\n')
        .filter(|line| !line.starts_with(b"#"))
        .filter_map(move |line| line.strip_suffix(end))
}

/// `cdb -c -m` takes a comment for a row.
fn strip_comments(text: &Path) {
    let bytes = std::fs::read(text).expect("a file of our own");
    let lines = bytes.split_inclusive(|octet| *octet == b'\n');
    let rows: Vec<&[u8]> = lines.filter(|line| !line.starts_with(b"#")).collect();
    std::fs::write(text, rows.concat()).expect("a file of our own");
}

#[track_caller]
fn assert_same_files(one: &Path, other: &Path) {
    let [first, second] = [one, other].map(|path| std::fs::read(path).expect("a table"));
    assert!(
        first == second,
        "{} is not {}",
        one.display(),
        other.display()
    );
}
