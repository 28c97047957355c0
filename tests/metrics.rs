//! Metrics: what a real run leaves in the textfile, however it ended, and who gets in the way of the file.
//!
//! After every run promtool must find nothing to complain about. Rules and dashboard are in `metrics_contrib.rs`.
#![allow(
    clippy::expect_used,
    reason = "a test fails by panicking, and the message says what was expected"
)]

mod common;

use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::machine::Machine;
use common::plain::STAFF;
use common::process::{command, succeed};
use common::prometheus::{self, Promtool};
use common::rcptsync::{Outcome, Rcptsync};
use common::slapd::{self, Slapd};
use common::{embedded, require, require_root, set_mode, write_file};
use ldap_server::{Authority, Directory, Validity};

const METRICS: &str = "[metrics]\ntextfile = \"metrics/rcptsync.prom\"\n";

/// Nobody in particular.
const STRANGER: u32 = 65_534;

/// An installation that leaves metrics.
struct Desk {
    program: Rcptsync,
    promtool: Option<Promtool>,
}

impl Desk {
    /// With anna, bob, carl and dora, who are not published yet.
    fn new(more: &str) -> Desk {
        let desk = Desk::of(Rcptsync::plain(
            "metrics",
            STAFF,
            &format!("{METRICS}{more}"),
        ));
        desk.program.staff("anna bob carl dora");
        desk
    }

    fn of(program: Rcptsync) -> Desk {
        std::fs::create_dir(program.directory().join("metrics")).expect("a directory of our own");
        Desk {
            program,
            promtool: Promtool::find(),
        }
    }

    /// One that was published.
    fn published(more: &str) -> Desk {
        let desk = Desk::new(more);
        desk.sync(0, &[]);
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.program.directory().join(name)
    }

    fn textfile(&self) -> PathBuf {
        self.path("metrics/rcptsync.prom")
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.textfile()).expect("metrics")
    }

    /// The value of a metric, all its labels being given.
    #[track_caller]
    fn value(&self, name: &str) -> f64 {
        let text = self.text();
        let line = text.lines().find_map(|line| {
            let rest = line.strip_prefix("rcptsync_")?.strip_prefix(name)?;
            rest.strip_prefix(' ')?.parse().ok()
        });
        line.unwrap_or_else(|| unreachable!("no {name}:\n{text}"))
    }

    /// Runs the program; then the metrics must say this: lines without `rcptsync_`; behind a minus what none begins with.
    #[track_caller]
    fn check(&self, wrapper: &[&str], arguments: &[&str], code: i32, expected: &[&str]) -> Outcome {
        let outcome = self.program.run_under(wrapper, arguments).expect_code(code);
        let text = self.text();
        if let Some(promtool) = &self.promtool {
            promtool.check_metrics(&text);
        }
        for expected in expected {
            let is_so = match expected.strip_prefix('-') {
                Some(absent) => !text.contains(&format!("\nrcptsync_{absent}")),
                None => text.contains(&format!("\nrcptsync_{expected}\n")),
            };
            assert!(is_so, "{expected}:\n{text}\n{}", outcome.stderr);
        }
        let whole = format!("last_run_exit_code {code}");
        assert!(text.contains(&whole), "{whole}:\n{text}");
        outcome
    }

    #[track_caller]
    fn sync(&self, code: i32, expected: &[&str]) -> Outcome {
        self.check(&[], &["sync"], code, expected)
    }
}

#[test]
fn each_run_tells_what_is_so_after_it() {
    let desk = Desk::new("[guard]\nremoved_floor = 1\n");
    desk.sync(
        0,
        &[
            "build_info{version=\"0.1.0\"} 1",
            "last_run_exit{exit=\"current\"} 1",
            "last_run_exit{exit=\"held\"} 0",
            "generation 1",
            "pending_renames 0",
            "source_frozen{source=\"staff\"} 0",
            "source_records{source=\"staff\"} 4",
            "domains_frozen 0",
            "table_rows{table=\"relay_recipients\"} 4",
            "domain_rows{table=\"relay_recipients\",domain=\"example.com\"} 4",
            "table_leaving_rows{table=\"relay_recipients\"} 0",
            "table_rows_added_total{table=\"relay_recipients\"} 4",
            "table_rows_removed_total{table=\"relay_recipients\"} 0",
            "holds{table=\"relay_recipients\",cause=\"removed_percent_max\"} 0",
            "last_run_left_out_values{reason=\"foreign_domain\"} 0",
            "-source_frozen_timestamp_seconds",
            "-hook_owed",
            "-certificate",
            "-secret",
        ],
    );
    let started = desk.value("last_run_timestamp_seconds");
    for same in [
        "last_publication_timestamp_seconds",
        "source_complete_timestamp_seconds{source=\"staff\"}",
        "source_current_timestamp_seconds{source=\"staff\"}",
    ] {
        assert_eq!(desk.value(same), started, "{same}");
    }
    for stage in ["read", "decide", "publish", "hooks"] {
        desk.value(&format!(
            "last_run_stage_duration_seconds{{stage=\"{stage}\"}}"
        ));
    }
    // Nothing changes: nothing is published.
    desk.sync(
        0,
        &[
            "generation 1",
            "table_rows_added_total{table=\"relay_recipients\"} 4",
            "-last_run_stage_duration_seconds{stage=\"proof\"}",
        ],
    );
    // One comes, one goes, and one is of elsewhere.
    desk.program
        .staff("anna bob carl emil fritz@foreign.example");
    desk.sync(
        0,
        &[
            "generation 2",
            "table_rows{table=\"relay_recipients\"} 4",
            "table_rows_added_total{table=\"relay_recipients\"} 5",
            "table_rows_removed_total{table=\"relay_recipients\"} 1",
            "last_run_left_out_values{reason=\"foreign_domain\"} 1",
        ],
    );
    // Half of them go.
    desk.program.staff("anna bob");
    desk.sync(
        65,
        &[
            "generation 2",
            "table_rows{table=\"relay_recipients\"} 4",
            "holds{table=\"relay_recipients\",cause=\"domain_halved\"} 1",
            "held_rows{table=\"relay_recipients\",cause=\"domain_halved\",change=\"removed\"} 2",
            "held_rows{table=\"relay_recipients\",cause=\"domain_halved\",change=\"added\"} 0",
            "last_run_exit{exit=\"held\"} 1",
            "last_run_exit{exit=\"current\"} 0",
        ],
    );
    // Only a run tells.
    let before = desk.text();
    let (_, digests) = desk.program.holds();
    for digest in digests {
        desk.program.run(&["approve", &digest]).expect_code(0);
    }
    desk.program.run(&["diff"]).expect_code(2);
    desk.program.run(&["sync", "--dry-run"]).expect_code(2);
    assert_eq!(desk.text(), before);
    desk.sync(
        0,
        &[
            "table_rows{table=\"relay_recipients\"} 2",
            "table_rows_removed_total{table=\"relay_recipients\"} 3",
            "holds{table=\"relay_recipients\",cause=\"domain_halved\"} 0",
        ],
    );
    desk.check(
        &[],
        &["rollback", "2"],
        0,
        &[
            "generation 4",
            "table_rows{table=\"relay_recipients\"} 4",
            "domain_rows{table=\"relay_recipients\",domain=\"example.com\"} 4",
            "table_rows_added_total{table=\"relay_recipients\"} 7",
            "holds{table=\"relay_recipients\",cause=\"rollback\"} 1",
            "held_rows{table=\"relay_recipients\",cause=\"rollback\",change=\"removed\"} 2",
            // It looks at no source.
            "-last_run_left_out_values",
            "-last_run_stage_duration_seconds{stage=\"read\"}",
        ],
    );
}

/// The staleness alert of somebody else's program never fired, because its time moved on failure, too.
#[test]
fn a_failure_moves_no_time_of_a_success() {
    if !require("faketime") {
        return;
    }
    let desk = Desk::published("");
    let times = [
        "source_complete_timestamp_seconds{source=\"staff\"}",
        "source_current_timestamp_seconds{source=\"staff\"}",
        "last_publication_timestamp_seconds",
    ];
    let before = times.map(|name| desk.value(name));
    let started = desk.value("last_run_timestamp_seconds");
    std::fs::remove_file(desk.path("staff.list")).expect("our own file");
    let later = ["faketime", "-f", "+1h"];
    desk.check(
        &later,
        &["sync"],
        75,
        &[
            "source_frozen{source=\"staff\"} 1",
            "source_records{source=\"staff\"} 4",
            "table_rows{table=\"relay_recipients\"} 4",
            "last_run_exit{exit=\"source_frozen\"} 1",
        ],
    );
    assert_eq!(times.map(|name| desk.value(name)), before);
    let run = desk.value("last_run_timestamp_seconds");
    assert!(run >= started + 3_600.0, "{run}");
    let since = "source_frozen_timestamp_seconds{source=\"staff\"}";
    assert_eq!(desk.value(since), run);
    // It freezes once.
    desk.check(&["faketime", "-f", "+2h"], &["sync"], 75, &[]);
    assert_eq!(desk.value(since), run);
    assert_eq!(times.map(|name| desk.value(name)), before);
    desk.program.staff("anna bob carl dora");
    desk.check(
        &["faketime", "-f", "+3h"],
        &["sync"],
        0,
        &[
            "source_frozen{source=\"staff\"} 0",
            "-source_frozen_timestamp_seconds",
        ],
    );
    assert!(desk.value(times[0]) >= started + 3.0 * 3_600.0);
    assert_eq!(desk.value(times[2]), before[2]);
}

#[test]
fn a_source_that_is_followed_is_current_and_not_complete() {
    if !require("faketime") {
        return;
    }
    let directory = Directory::new(embedded::BASE)
        .recipients(3)
        .usn(100)
        .invocation_id([7; 16])
        .sees_deletions()
        .evaluates_filters();
    let (server, program) = embedded::install(
        "metrics",
        directory,
        "incremental = \"dirsync\"\nfull_every = \"24h\"",
        METRICS,
    );
    let desk = Desk::of(program);
    desk.sync(0, &["source_records{source=\"corp\"} 3"]);
    let complete = "source_complete_timestamp_seconds{source=\"corp\"}";
    let current = "source_current_timestamp_seconds{source=\"corp\"}";
    let at = desk.value(complete);
    let certificate =
        "certificate_expiry_timestamp_seconds{section=\"source.corp\",certificate=\"server\"}";
    let ends = desk.value(certificate);
    desk.check(&["faketime", "-f", "+1h"], &["sync"], 0, &[]);
    assert_eq!(desk.value(complete), at);
    assert!(desk.value(current) >= at + 3_600.0);
    assert_eq!(desk.value(certificate), ends);
    // The account is refused: nothing is known of now, and what was known stays.
    write_file(&desk.path("password"), "another");
    let now = desk.value(current);
    desk.check(
        &["faketime", "-f", "+2h"],
        &["sync"],
        77,
        &[
            "last_run_exit{exit=\"permission\"} 1",
            "source_frozen{source=\"corp\"} 1",
        ],
    );
    assert_eq!((desk.value(complete), desk.value(current)), (at, now));
    assert_eq!(desk.value(certificate), ends);
    drop(server);
}

#[test]
fn a_hook_is_owed_until_it_has_succeeded() {
    let hook =
        |program: &str| format!("{METRICS}[[hook]]\nname = \"push\"\nrun = [\"{program}\"]\n");
    let desk = Desk::new("");
    desk.program
        .configure(&["example.com"], STAFF, &hook("/bin/false"));
    desk.sync(
        69,
        &[
            "hook_owed{hook=\"push\"} 1",
            "last_run_exit{exit=\"hook_owed\"} 1",
        ],
    );
    desk.program
        .configure(&["example.com"], STAFF, &hook("/bin/true"));
    desk.sync(
        0,
        &[
            "hook_owed{hook=\"push\"} 0",
            "last_run_exit{exit=\"hook_owed\"} 0",
        ],
    );
}

#[test]
fn a_table_that_cannot_be_written_is_told_as_it_is() {
    let desk = Desk::published("");
    desk.program.staff("anna bob carl dora emil");
    let (table, aside) = (desk.program.table_cdb(), desk.path("aside"));
    std::fs::rename(&table, &aside).expect("our own table");
    std::fs::create_dir(&table).expect("something in the way");
    desk.sync(
        73,
        &[
            "last_run_exit{exit=\"not_written\"} 1",
            "generation 1",
            "table_rows{table=\"relay_recipients\"} 4",
            "source_records{source=\"staff\"} 5",
            // Nobody looked at the values: there was no plan of the table.
            "-last_run_left_out_values",
        ],
    );
    std::fs::remove_dir(&table).expect("ours");
    desk.sync(
        0,
        &[
            "table_rows{table=\"relay_recipients\"} 5",
            "last_run_left_out_values{reason=\"system\"} 0",
        ],
    );
}

#[test]
fn what_nobody_knows_is_absent() {
    let desk = Desk::published("");
    let head = desk.path("state/head.json");
    let good = std::fs::read(&head).expect("head.json");
    std::fs::write(&head, &good[..good.len() - 9]).expect("our own file");
    desk.sync(
        78,
        &[
            "last_run_exit{exit=\"configuration\"} 1",
            "-last_run_left_out_values",
            "-last_run_stage",
            "-generation",
            "-last_publication",
            "-pending",
            "-source",
            "-domain",
            "-table",
            "-hold",
            "-hook",
        ],
    );
    std::fs::write(&head, good).expect("our own file");
    desk.sync(0, &["table_rows{table=\"relay_recipients\"} 4"]);
    // A source that was never read has no time and no records; a table that was never published has no rows.
    let desk = Desk::new("");
    std::fs::remove_file(desk.path("staff.list")).expect("our own file");
    desk.sync(
        65,
        &[
            "source_frozen{source=\"staff\"} 1",
            "-source_complete",
            "-source_current",
            "-source_records",
            "-last_publication",
            "-table_rows",
            "-domain_rows",
            "holds{table=\"relay_recipients\",cause=\"source_never_complete\"} 1",
        ],
    );
}

/// Rows of a table that somebody else wrote have domains that nobody checked.
#[test]
fn names_from_elsewhere_are_values_and_nothing_else() {
    let desk = Desk::new("");
    let foreign = "x@e\"v\"i}l.example OK\ny@back\\slash.example OK\nz@a,b=\"c\".example OK\nw@\u{1b}[31m.example OK\n";
    write_file(&desk.program.table(), foreign);
    desk.sync(
        65,
        &[
            "table_rows{table=\"relay_recipients\"} 8",
            "domain_rows{table=\"relay_recipients\",domain=\"e\\\"v\\\"i}l.example\"} 1",
            "domain_rows{table=\"relay_recipients\",domain=\"back\\\\slash.example\"} 1",
            "domain_rows{table=\"relay_recipients\",domain=\"a,b=\\\"c\\\".example\"} 1",
            "domain_rows{table=\"relay_recipients\",domain=\"\\\\u{1b}[31m.example\"} 1",
            "held_rows{table=\"relay_recipients\",cause=\"foreign_table\",change=\"removed\"} 4",
        ],
    );
}

#[test]
fn a_directory_with_many_domains_does_not_make_many_series() {
    let desk = Desk::new("");
    let domains: Vec<String> = (0..510)
        .map(|number| format!("d{number}.example"))
        .collect();
    let named: Vec<&str> = domains.iter().map(String::as_str).collect();
    desk.program.configure(&named, STAFF, METRICS);
    let names: Vec<String> = (domains.iter().enumerate())
        .flat_map(|(number, domain)| {
            // Ten domains have one address, all others two.
            let count = if (100..110).contains(&number) { 1 } else { 2 };
            (0..count).map(move |name| format!("n{name}@{domain}"))
        })
        .collect();
    desk.program.staff(&names.join(" "));
    desk.sync(
        0,
        &[
            "table_rows{table=\"relay_recipients\"} 1010",
            "domain_rows{table=\"relay_recipients\",domain=\"d99.example\"} 2",
            "-domain_rows{table=\"relay_recipients\",domain=\"d100.example\"}",
            "domain_rows{table=\"relay_recipients\",domain=\"(others)\"} 10",
        ],
    );
    let text = desk.text();
    assert_eq!(text.matches("\nrcptsync_domain_rows{").count(), 501);
}

fn text_of(command: &mut Command) -> String {
    String::from_utf8(succeed(command).stdout).expect("text")
}

#[test]
fn certificates_and_secrets_have_their_times() {
    if !slapd::is_available() {
        return;
    }
    let clients = Authority::new("Authority of clients");
    let slapd = Slapd::start_for_certificates(
        "dn: cn=a,dc=corp,dc=example\nobjectClass: organizationalRole\ncn: a\n",
        &clients.pem(),
    );
    let (certificate, key) = clients.client(slapd::CLIENT, Validity::Current);
    let desk = Desk::new("");
    write_file(&desk.path("client.pem"), certificate);
    desk.program.write_settled("client.key", &key);
    set_mode(&desk.path("client.key"), 0o600);
    let source = format!(
        "{STAFF}[source.corp]\nkind = \"ldap\"\nservers = [\"{}\"]\nca_file = \"{}\"\nbase = [\"{}\"]\n\
         bind = {{ method = \"external\", certificate_file = \"client.pem\", key_file = \"client.key\" }}\n",
        slapd.ldaps_url(),
        slapd.ca_file().display(),
        embedded::BASE,
    );
    desk.program.configure(&["example.com"], &source, METRICS);
    // It answers with nothing, which is held; its certificate was seen.
    desk.sync(65, &["source_frozen{source=\"corp\"} 0"]);
    // openssl says the same.
    let server = slapd.ca_file().with_file_name("server.pem");
    for (what, file) in [
        ("authority", slapd.ca_file()),
        ("client", desk.path("client.pem")),
        ("server", server),
    ] {
        let mut openssl = command("openssl");
        openssl.args(["x509", "-noout", "-enddate", "-dateopt", "iso_8601", "-in"]);
        let said = text_of(openssl.arg(&file));
        let date = said.trim().strip_prefix("notAfter=").expect("a date");
        let mut date_command = command("date");
        let seconds = text_of(date_command.args(["--utc", "+%s", "-d", date]));
        let name = format!(
            "certificate_expiry_timestamp_seconds{{section=\"source.corp\",certificate=\"{what}\"}}"
        );
        assert_eq!(desk.value(&name).to_string(), seconds.trim(), "{what}");
    }
    let written = desk.path("client.key").metadata().expect("our own").mtime();
    let name = "secret_modified_timestamp_seconds{section=\"source.corp\",secret=\"key\"}";
    assert_eq!(desk.value(name).to_string(), written.to_string());
    // Of a credential, which systemd copies for each run, nothing is known.
    let source = source.replace("key_file", "key_credential");
    desk.program.configure(&["example.com"], &source, METRICS);
    let credentials = format!(
        "CREDENTIALS_DIRECTORY={}",
        desk.program.directory().display()
    );
    desk.check(&["env", &credentials], &["sync"], 65, &["-secret"]);
}

/// The file is in the way of something or somebody; the run ends as it would without metrics, and says why there are none.
#[track_caller]
fn check_not_written(prepare: impl FnOnce(&Desk), wrapper: &[&str], why: &str) {
    let desk = Desk::published("");
    prepare(&desk);
    let listed = || {
        let mut seen = Vec::new();
        for entry in std::fs::read_dir(desk.path("metrics")).expect("ours") {
            let path = entry.expect("an entry").path();
            let metadata = path.symlink_metadata().expect("it is there");
            // Whoever opens a pipe waits.
            let content = metadata.is_file().then(|| std::fs::read(&path).ok());
            seen.push((path, metadata.ino(), metadata.mode(), content));
        }
        seen.sort();
        seen
    };
    let before = listed();
    let outcome = desk.program.run_under(wrapper, &["sync"]).expect_code(0);
    let told = format!(
        "the metrics could not be written, {}",
        desk.textfile().display()
    );
    for part in [&told, why] {
        assert!(outcome.stderr.contains(part), "{part}:\n{}", outcome.stderr);
    }
    assert_eq!(listed(), before, "{why}");
}

fn replace(desk: &Desk, with: impl FnOnce(&Path)) {
    std::fs::remove_file(desk.textfile()).expect("our own file");
    with(&desk.textfile());
}

#[test]
fn nothing_is_followed_and_nothing_strange_is_replaced() {
    let not_a_file = "it is not a regular file";
    let link = |desk: &Desk| {
        write_file(&desk.path("victim"), "precious");
        replace(desk, |path| symlink("../victim", path).expect("a link"));
    };
    check_not_written(link, &[], not_a_file);
    let dangling = |desk: &Desk| replace(desk, |path| symlink("/nowhere", path).expect("a link"));
    check_not_written(dangling, &[], not_a_file);
    let directory = |desk: &Desk| replace(desk, |path| std::fs::create_dir(path).expect("ours"));
    check_not_written(directory, &[], not_a_file);
    let pipe = |desk: &Desk| {
        replace(desk, |path| {
            succeed(command("mkfifo").arg(path));
        });
    };
    check_not_written(pipe, &[], not_a_file);
    let open = |desk: &Desk| set_mode(&desk.path("metrics"), 0o777);
    check_not_written(open, &[], "every account may write to its directory");
    let sticky = |desk: &Desk| set_mode(&desk.path("metrics"), 0o1777);
    check_not_written(sticky, &[], "every account may write to its directory");
}

#[test]
fn a_link_in_place_of_the_temporary_file_is_not_followed() {
    let desk = Desk::published("");
    write_file(&desk.path("victim"), "precious");
    let temporary = desk.path("metrics/.rcptsync.prom.rcptsync-new");
    symlink("../victim", &temporary).expect("a link");
    desk.sync(0, &[]);
    assert_eq!(
        std::fs::read(desk.path("victim")).expect("ours"),
        b"precious"
    );
    assert!(!temporary.is_symlink());
}

#[test]
fn the_file_is_for_everybody_to_read() {
    let desk = Desk::new("");
    desk.check(
        &["sh", "-c", "umask 077; exec \"$@\"", "sh"],
        &["sync"],
        0,
        &[],
    );
    assert_eq!(
        desk.textfile().metadata().expect("ours").mode() & 0o7777,
        0o644
    );
    // A file that another account left is replaced like any other.
    if require_root() {
        chown(desk.textfile(), Some(STRANGER), Some(STRANGER)).expect("root");
        set_mode(&desk.textfile(), 0o600);
        desk.sync(0, &[]);
        let metadata = desk.textfile().metadata().expect("ours");
        assert_eq!((metadata.uid(), metadata.mode() & 0o7777), (0, 0o644));
    }
}

#[test]
fn an_account_that_may_not_write_there_publishes_all_the_same() {
    if !require_root() || !require("setpriv") {
        return;
    }
    let account = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ];
    let give =
        |desk: &Desk| {
            succeed(command("chown").args(["-R", "65534:65534"]).args(
                ["state", "tables", "staff.list", "rcptsync.toml"].map(|name| desk.path(name)),
            ));
        };
    check_not_written(give, &account, "Permission denied");
    let of_others = |desk: &Desk| {
        give(desk);
        chown(desk.textfile(), Some(STRANGER), Some(STRANGER)).expect("root");
    };
    // Who owns the file and not its directory cannot replace it in one step.
    check_not_written(of_others, &account, "Permission denied");
    let gone = |desk: &Desk| {
        give(desk);
        set_mode(&desk.path("metrics"), 0o700);
    };
    check_not_written(gone, &account, "Permission denied");
}

#[test]
fn a_directory_that_is_not_there_is_not_made() {
    let desk = Desk::new("");
    std::fs::remove_dir(desk.path("metrics")).expect("ours");
    let outcome = desk.program.run(&["sync"]).expect_code(0);
    assert!(
        outcome.stderr.contains("No such file or directory"),
        "{}",
        outcome.stderr
    );
    assert!(!desk.path("metrics").exists());
}

/// Killed in front of every call that touches the file: the old metrics or the new ones, and the next run heals it.
#[test]
fn a_run_that_dies_leaves_the_old_metrics_or_the_new_ones() {
    if !require("strace") {
        return;
    }
    let desk = Desk::published("");
    let temporary = desk.path("metrics/.rcptsync.prom.rcptsync-new");
    let places = [desk.path("metrics"), temporary.clone(), desk.textfile()];
    let (mut killed, mut names) = (Vec::new(), "anna bob carl dora".to_owned());
    for call in [
        "openat", "unlinkat", "write", "fchmod", "fsync", "renameat", "close",
    ] {
        for count in 1.. {
            names.push_str(&format!(" {call}{count}"));
            desk.program.staff(&names);
            let before = desk.text();
            let inject = format!("{call}:signal=KILL:when={count}");
            let mut strace = vec!["strace", "-f", "-qq", "-o", "/dev/null"];
            for place in &places {
                strace.extend(["-P", place.to_str().expect("text")]);
            }
            let inject = [
                "-e".to_owned(),
                format!("trace={call}"),
                "-e".to_owned(),
                format!("inject={inject}"),
            ];
            strace.extend(inject.iter().map(String::as_str));
            let outcome = desk.program.run_under(&strace, &["sync"]);
            if outcome.code == Some(0) {
                break;
            }
            killed.push(call);
            let text = desk.text();
            let is_new =
                text.contains("\nrcptsync_build_info") && text.ends_with('\n') && text != before;
            assert!(text == before || is_new, "{call} {count}:\n{text}");
            if let Some(promtool) = &desk.promtool {
                promtool.check_metrics(&text);
            }
            desk.sync(0, &["pending_renames 0"]);
            assert!(!temporary.exists(), "{call} {count}");
        }
    }
    for call in ["openat", "write", "fchmod", "fsync", "renameat"] {
        assert!(killed.contains(&call), "{call} is not among {killed:?}");
    }
}

#[test]
fn a_run_that_does_not_get_the_lock_leaves_the_metrics_alone() {
    let desk = Desk::published("");
    let before = desk.text();
    let lock = std::fs::File::open(desk.path("state/lock")).expect("the lock");
    lock.lock().expect("nobody else holds it");
    desk.program.run(&["sync"]).expect_code(74);
    assert_eq!(desk.text(), before);
}

/// The way of the README: the file where the program may write, a link to it where node_exporter looks.
#[test]
fn a_real_node_exporter_serves_what_a_run_left() {
    let Some(node_exporter) = prometheus::node_exporter().filter(|_| require_root()) else {
        return;
    };
    let desk = Desk::published("");
    let collected = desk.path("collected");
    std::fs::create_dir(&collected).expect("ours");
    symlink(desk.textfile(), collected.join("rcptsync.prom")).expect("a link");
    let served = prometheus::scrape(&node_exporter, &collected, &desk.path("node_exporter.log"));
    for line in desk.text().lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').expect("a value");
        let value: f64 = value.parse().expect("a number");
        let is_served = served.lines().any(|served| {
            let served = served.rsplit_once(' ');
            served.is_some_and(|(found, found_value)| {
                sorted_labels(found) == sorted_labels(name) && found_value.parse() == Ok(value)
            })
        });
        assert!(is_served, "{line}:\n{served}");
    }
    for line in [
        "node_textfile_scrape_error 0",
        "node_textfile_mtime_seconds",
    ] {
        assert!(served.contains(line), "{line}:\n{served}");
    }
}

/// Labels in the order of their names, as node_exporter serves them. No value of this test has a comma.
fn sorted_labels(series: &str) -> Vec<&str> {
    let mut parts: Vec<&str> = series.split(['{', ',', '}']).collect();
    parts[1..].sort_unstable();
    parts.retain(|part| !part.is_empty());
    parts
}

/// The delivered unit under a real systemd, with its account and its sandbox, and node_exporter as on Debian.
#[test]
fn the_unit_may_write_its_metrics_and_node_exporter_reads_them() {
    let Some(node_exporter) = prometheus::node_exporter() else {
        return;
    };
    let Some(machine) = Machine::with_program("metrics") else {
        return;
    };
    machine.copy(&node_exporter, "/usr/bin/prometheus-node-exporter");
    machine.write("/etc/rcptsync/corp.password", "s3cret");
    machine.write(
        "/etc/rcptsync/staff.list",
        "anna@example.com\nbob@example.com\n",
    );
    machine.write(
        "/etc/rcptsync/rcptsync.toml",
        "state_dir = \"/var/lib/rcptsync/state\"\n\
         [domains]\nlist = [\"example.com\"]\n\
         [source.staff]\nkind = \"list\"\npath = \"staff.list\"\n\
         [table.relay_recipients]\npath = \"/var/lib/rcptsync/tables/relay_recipients\"\nformats = [\"cdb\"]\n\
         [metrics]\ntextfile = \"/var/lib/rcptsync/metrics/rcptsync.prom\"\n",
    );
    // A credential is younger than the secret that it is a copy of, so its age is told nobody.
    let age = machine.succeed(
        "touch -d '2 days ago' /etc/rcptsync/corp.password
         systemd-run --quiet --wait --pipe --property=LoadCredential=p:/etc/rcptsync/corp.password \\
           sh -c 'echo $(($(date +%s) - $(stat -c %Y $CREDENTIALS_DIRECTORY/p)))'",
    );
    let age: i64 = age.trim().parse().expect("seconds");
    assert!(age < 86_400, "{age}");
    // What the package of node_exporter brings along, and the line of the README.
    machine.succeed(
        "useradd --system prometheus
         mkdir -p /var/lib/prometheus/node-exporter
         ln -s /var/lib/rcptsync/metrics/rcptsync.prom /var/lib/prometheus/node-exporter/
         touch -d '1 hour ago' /etc/rcptsync/staff.list
         chmod 600 /etc/rcptsync/corp.password",
    );
    // No curl in a small Debian; bash can ask by itself.
    machine.write(
        "/root/scrape",
        "systemd-run --quiet --unit=exporter --uid=prometheus prometheus-node-exporter \\
           --collector.textfile.directory=/var/lib/prometheus/node-exporter --web.listen-address=127.0.0.1:9100
         trap 'systemctl stop exporter' EXIT
         until (exec 3<>/dev/tcp/127.0.0.1/9100) 2>/dev/null; do sleep 0.1; done
         exec 3<>/dev/tcp/127.0.0.1/9100
         printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3
         cat <&3\n",
    );
    let scraped = |expected: &[&str]| {
        let served = machine.succeed("bash /root/scrape");
        for line in expected {
            assert!(served.contains(line), "{line}:\n{served}");
        }
    };
    scraped(&["node_textfile_scrape_error 1"]);
    machine.succeed("systemctl start rcptsync.service");
    let (mode, owner) = ("-rw-r--r--", "rcptsync rcptsync");
    let listed = machine.succeed("ls -l /var/lib/rcptsync/metrics/rcptsync.prom");
    assert!(
        listed.starts_with(mode) && listed.contains(owner),
        "{listed}"
    );
    scraped(&[
        "node_textfile_scrape_error 0",
        "rcptsync_table_rows{table=\"relay_recipients\"} 2",
        "rcptsync_last_run_exit_code 0",
    ]);
    // Without its directory the unit runs all the same.
    machine.succeed("rm -r /var/lib/rcptsync/metrics; systemctl start rcptsync.service");
    let log = machine.succeed("journalctl -u rcptsync.service");
    assert!(log.contains("the metrics could not be written"), "{log}");
}
