//! What ends a quiet run, and what following the changes of a directory must not lose or keep.
//!
//! Each test makes the program settle and then changes one thing that is no change of the sources: a deadline, an approval,
//! the clock, the account, a damaged file, a run that died. Not here: the changes themselves (`dirsync.rs`), and what a quiet
//! run costs (`quiet.rs`).
#![allow(
    clippy::expect_used,
    reason = "a test fails by panicking, and the message says what was expected"
)]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::embedded::{self, BASE};
use common::plain::STAFF;
use common::process::command;
use common::rcptsync::Rcptsync;
use common::{require, write_file};
use ldap_server::{Directory, Server};
use rcptsync::state::State;
use rcptsync::state::head::Head;
use rcptsync::time::Timestamp;

const DAY: Duration = Duration::from_secs(86_400);

fn company(recipients_count: usize) -> Directory {
    Directory::new(BASE)
        .recipients(recipients_count)
        .usn(1_000)
        .invocation_id([7; 16])
        .sees_deletions()
        .evaluates_filters()
}

fn dn(name: &str) -> String {
    format!("{name},{BASE}")
}

/// An installation that follows a directory and has found nothing new.
fn followed(directory: Directory, source_more: &str, more: &str) -> (Server, Rcptsync) {
    let source_more = format!("incremental = \"dirsync\"\nfull_every = \"24h\"\n{source_more}");
    let (server, program) = embedded::install("settled", directory, &source_more, more);
    for _ in 0..2 {
        program.run(&["sync"]).expect_code(0);
    }
    (server, program)
}

fn head(program: &Rcptsync) -> Head {
    State::view(&program.state_dir()).head().expect("a state")
}

/// Makes the state say something else.
fn rewrite(program: &Rcptsync, change: impl FnOnce(&mut Head)) {
    let state = State::lock(&program.state_dir()).expect("nobody else");
    let mut head = state.head().expect("a state");
    change(&mut head);
    state.store_head(&head).expect("our own directory");
}

#[track_caller]
fn source_state(program: &Rcptsync, expected: &str) {
    let diff = program.run(&["diff", "--format", "json"]).json();
    let source = &diff["sources"]["corp"];
    assert_eq!(source["state"], expected, "{source}");
}

/// Every file below a directory with its content.
fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let content = std::fs::read(&path).expect("a file");
            found.insert(path, content);
        }
    }
    found
}

/// Twenty people: one of them may go at any time.
const NAMES: &str = "a b c d e f g h i j k l m n o p q r s t";

/// The canary is missing, somebody has approved of that; a day later that approval says nothing any more.
#[test]
fn an_approval_that_lapses_ends_the_quiet() {
    let program = Rcptsync::plain(
        "settled",
        STAFF,
        "[guard]\nmust_contain = [\"a@example.com\"]\n",
    );
    program.staff(NAMES);
    program.run(&["sync"]).expect_code(0);
    program.staff(&NAMES[2..]);
    program.run(&["sync"]).expect_code(65);
    let (_, digests) = program.holds();
    program.run(&["approve", &digests[0]]).expect_code(0);
    for _ in 0..2 {
        program.run(&["sync"]).expect_code(0);
    }
    assert!(head(&program).settled.is_some());
    rewrite(&program, |head| {
        for hold in head.holds.values_mut() {
            hold.approved_at = hold.approved_at.map(|at| at.before(DAY));
        }
    });
    program.run(&["sync"]).expect_code(65);
}

/// What nobody has seen for a day cannot be approved, also where every run since was quiet.
#[test]
fn quiet_runs_forget_old_holds() {
    let program = Rcptsync::plain("settled", STAFF, "");
    program.staff(NAMES);
    program.run(&["sync"]).expect_code(0);
    program.staff("a b c d");
    program.run(&["sync"]).expect_code(65);
    let (_, digests) = program.holds();
    program.staff(NAMES);
    for _ in 0..2 {
        program.run(&["sync"]).expect_code(0);
    }
    rewrite(&program, |head| {
        for hold in head.holds.values_mut() {
            hold.last_seen = hold.last_seen.before(2 * DAY);
        }
    });
    program.run(&["sync"]).expect_code(0);
    assert!(head(&program).holds.is_empty());
    program.run(&["approve", &digests[0]]).expect_code(64);
}

/// A hold of a table that is not in the configuration any more is nobody's business.
#[test]
fn a_table_that_is_gone_holds_nothing() {
    let program = Rcptsync::plain("settled", STAFF, "");
    program.staff(NAMES);
    program.run(&["sync"]).expect_code(0);
    program.staff("a b c d");
    program.run(&["sync"]).expect_code(65);
    let config = std::fs::read_to_string(program.config_file()).expect("a configuration");
    let config = config
        .replace("[table.relay_recipients]", "[table.other]")
        .replace("tables/relay_recipients", "tables/other");
    program.write_config(&config);
    program.run(&["sync"]).expect_code(0);
    program.run(&["status"]).expect_code(0);
}

/// Somebody began to leave while the clock was ahead: the grace counts from when it was set right.
#[test]
fn a_clock_that_was_ahead_does_not_prolong_a_grace() {
    if !require("faketime") {
        return;
    }
    let program = Rcptsync::plain("settled", STAFF, "[recipients]\ngrace = \"1h\"\n");
    program.staff(NAMES);
    program.run(&["sync"]).expect_code(0);
    program.staff(&NAMES[2..]);
    program
        .run_under(&["faketime", "-f", "+10d"], &["sync"])
        .expect_code(0);
    program.run(&["sync"]).expect_code(0);
    let known = head(&program);
    let deadline = known.tables["relay_recipients"].next_deadline;
    let latest = Timestamp::now().after(Duration::from_secs(3_600));
    assert!(
        deadline.is_some_and(|deadline| deadline <= latest),
        "{deadline:?}"
    );
}

/// Two bases, one within the other: an object is read twice, and changes twice.
#[test]
fn an_object_below_two_bases_is_followed_as_one() {
    let named = |directory: Directory, dn: &str, guid: &str, more: &[(&str, &[&str])]| {
        let guid = format!("{guid:-<16}");
        directory.entry(
            dn,
            &[&[("objectGUID", [guid.as_str()].as_slice())], more].concat(),
        )
    };
    let directory = named(company(8), BASE, "domain", &[]);
    let directory = named(directory, &dn("OU=Staff"), "staff", &[]);
    let addresses: (&str, &[&str]) = ("proxyAddresses", &["SMTP:anna@example.com"]);
    let directory = named(directory, &dn("CN=anna,OU=Staff"), "anna", &[addresses]);
    let bases = format!("base = [\"{BASE}\", \"OU=Staff,{BASE}\"]");
    let (server, program) = followed(directory, &bases, "");
    assert_eq!(program.keys(), "0 1 2 3 4 5 6 7 anna");
    server.change(|directory| {
        directory.changed(
            &dn("CN=anna,OU=Staff"),
            "proxyAddresses",
            &["SMTP:anne@example.com"],
        )
    });
    source_state(&program, "changed");
    program.run(&["sync"]).expect_code(0);
    assert_eq!(program.keys(), "0 1 2 3 4 5 6 7 anne");
}

/// Another account may be shown more: what is new to it, nobody reports as a change.
#[test]
fn another_account_reads_everything() {
    let (server, program) = followed(company(8), "", "");
    let config = std::fs::read_to_string(program.config_file()).expect("a configuration");
    server.change(|directory| directory.account("other@corp.example", "s3cret-Pa55"));
    source_state(&program, "unchanged");
    program.write_config(&config.replace("rcptsync@corp.example", "other@corp.example"));
    source_state(&program, "complete");
}

/// Removals that wait go on waiting, whatever else is followed or not, and an approval needs no change of the directory.
#[test]
fn held_removals_wait_while_changes_are_followed() {
    let (server, program) = followed(company(40), "", "");
    let all = program.keys();
    server.change(|directory| {
        (0..20).fold(directory, |directory, number| {
            directory.deleted(&dn(&format!("CN={number}")))
        })
    });
    for _ in 0..3 {
        program.run(&["sync"]).expect_code(65);
        assert_eq!(program.keys(), all);
    }
    server.change(|directory| {
        directory.added(&dn("CN=x"), &[("proxyAddresses", &["SMTP:x@example.com"])])
    });
    program.run(&["sync"]).expect_code(65);
    assert_eq!(program.keys(), format!("{all} x"));
    source_state(&program, "unchanged");
    // Of one more it is less than a half, which is another hold.
    program.run(&["sync"]).expect_code(65);
    let (_, digests) = program.holds();
    program.run(&["approve", &digests[0]]).expect_code(0);
    program.run(&["sync"]).expect_code(0);
    assert_eq!(program.table_keys().len(), 21);
    source_state(&program, "unchanged");
}

/// A run that dies after it has stored what changed, and before it has said so: the next one is told the same again.
#[test]
fn changes_whose_head_was_never_written_are_followed_again() {
    let (server, program) = followed(company(40), "", "");
    let before = files(&program.state_dir());
    // Held, so that no table changes and the head alone is the commit.
    server.change(|directory| {
        (0..20).fold(directory, |directory, number| {
            directory.deleted(&dn(&format!("CN={number}")))
        })
    });
    program.run(&["sync"]).expect_code(65);
    for (path, content) in before {
        write_file(&path, content);
    }
    source_state(&program, "changed");
    server.change(|directory| {
        directory.changed(&dn("CN=30"), "proxyAddresses", &["SMTP:y@example.com"])
    });
    program.run(&["sync"]).expect_code(65);
    assert_eq!(head(&program).sources["corp"].records_count, 20);
    assert!(program.keys().ends_with(" y"), "{}", program.keys());
}

/// Records or changes that are damaged or gone are read anew, and nothing is removed because of them.
#[test]
fn damaged_records_lead_to_a_complete_read() {
    for name in ["base-", "changes-"] {
        for is_gone in [false, true] {
            let (server, program) = followed(company(40), "", "");
            server.change(|directory| directory.deleted(&dn("CN=1")));
            program.run(&["sync"]).expect_code(0);
            let expected = program.keys();
            let stored = files(&program.state_dir().join("source/corp"));
            let path = stored.keys().find(|path| {
                let file = path
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                file.starts_with(name)
            });
            let path = path.expect("a file of this kind");
            if is_gone {
                std::fs::remove_file(path).expect("our own file");
            } else {
                let mut content = stored[path].clone();
                let middle = content.len() / 2;
                content[middle] ^= 1;
                write_file(path, content);
            }
            source_state(&program, "complete");
            program.run(&["sync"]).expect_code(0);
            assert_eq!(program.keys(), expected);
            source_state(&program, "unchanged");
        }
    }
}

#[test]
fn looking_writes_nothing() {
    let (server, program) = followed(company(8), "", "");
    let check = || {
        let before = files(program.directory());
        program.run(&["diff"]);
        program.run(&["sync", "--dry-run"]);
        program.run(&["sync", "--dry-run", "--full"]);
        program.run(&["status"]);
        assert!(files(program.directory()) == before);
    };
    check();
    server.change(|directory| directory.changed_elsewhere());
    check();
    server.change(|directory| directory.deleted(&dn("CN=1")));
    check();
}

/// Another controller does not show somebody: the delay ends in the middle of quiet runs, and the address goes then.
#[test]
fn a_quiet_run_sees_the_end_of_the_replication_delay() {
    if !require("faketime") {
        return;
    }
    let (server, program) = followed(company(40), "replication_delay = \"1h\"", "");
    let all = program.keys();
    server.change(|directory| directory.invocation_id([8; 16]).deleted(&dn("CN=1")));
    for _ in 0..3 {
        program.run(&["sync"]).expect_code(0);
        assert_eq!(program.keys(), all);
    }
    assert!(head(&program).settled.is_some());
    let at = |offset: &str| program.run_under(&["faketime", "-f", offset], &["sync"]);
    program.forget_clocks();
    at("+50m").expect_code(0);
    assert_eq!(program.keys(), all);
    // Of a clock that is set ahead nobody waits less: the delay counts anew.
    let run = at("+70m").expect_code(0);
    assert!(run.stderr.contains("set ahead"), "{}", run.stderr);
    assert_eq!(program.keys(), all);
    program.forget_clocks();
    at("+120m").expect_code(0);
    assert_eq!(program.keys(), all);
    program.forget_clocks();
    at("+140m").expect_code(0);
    assert_eq!(program.table_keys().len(), 39);
}

/// The controller of before comes back, and another one does not know what it showed: nobody is lost on the way, and what
/// is deleted on the one that showed it goes at once.
#[test]
fn what_a_late_controller_catches_up_with_is_missing_no_more() {
    let (server, program) = followed(company(40), "", "");
    let addresses = |directory: Directory, values: &[&str]| {
        directory.changed(&dn("CN=1"), "proxyAddresses", values)
    };
    server.change(|directory| addresses(directory, &["SMTP:1@example.com", "smtp:x@example.com"]));
    program.run(&["sync"]).expect_code(0);
    assert!(program.keys().ends_with(" x"));
    server.change(|directory| addresses(directory.invocation_id([8; 16]), &["SMTP:1@example.com"]));
    program.run(&["sync"]).expect_code(0);
    assert!(program.keys().ends_with(" x"), "the second one may be late");
    server.change(|directory| addresses(directory, &["SMTP:1@example.com", "smtp:x@example.com"]));
    program.run(&["sync"]).expect_code(0);
    assert!(program.keys().ends_with(" x"));
    server.change(|directory| addresses(directory, &["SMTP:1@example.com"]));
    program.run(&["sync"]).expect_code(0);
    assert!(
        !program.keys().ends_with(" x"),
        "the second one showed it last"
    );
}

/// DirSync tells of one naming context, and a base may lie in another one that looks as if it were below the first.
#[test]
fn a_base_in_another_naming_context_is_not_followed() {
    let entry = |directory: Directory, name: &str, address: &str| {
        let guid = format!("{name:-<16}");
        let dn = format!("CN={name},CN=Configuration,{BASE}");
        let values: (&str, &[&str]) = ("proxyAddresses", &[address]);
        directory.entry(&dn, &[("objectGUID", [guid.as_str()].as_slice()), values])
    };
    let directory = company(8).root("namingContexts", &format!("CN=Configuration,{BASE}"));
    let directory = entry(directory, "anna", "SMTP:anna@example.com");
    let authority = format!("base = [\"CN=Configuration,{BASE}\"]\nincremental = \"auto\"");
    let (server, program) = embedded::install("settled", directory, &authority, "");
    program.run(&["sync"]).expect_code(0);
    server.change(|directory| {
        entry(
            directory.changed_elsewhere(),
            "bert",
            "SMTP:bert@example.com",
        )
    });
    program.run(&["sync"]).expect_code(0);
    assert_eq!(program.keys(), "anna bert");
}

/// One run is killed in front of a call, for every such call that it makes; then changes go on, and the next run is right.
#[track_caller]
fn check_killed(change: impl Fn(Directory) -> Directory, expected: &str) {
    // By all of their names; a question mark where an architecture may lack one.
    let calls = ["?rename,?renameat,renameat2", "fsync", "?unlink,unlinkat"];
    for call in calls {
        for number in 1.. {
            let (server, program) = followed(company(40), "", "");
            let before = program.keys();
            server.change(&change);
            let status = command("strace")
                .args(["-f", "-qq", "-o", "/dev/null", "-e", "signal=none", "-e"])
                .arg(format!("inject={call}:signal=SIGKILL:when={number}"))
                .arg(env!("CARGO_BIN_EXE_rcptsync"))
                .arg("--config")
                .arg(program.config_file())
                .args(["--quiet", "sync"])
                .status()
                .expect("strace runs");
            let what = format!("{call} {number}");
            let keys = program.keys();
            assert!(keys == before || keys == expected, "{what}: {keys}");
            if status.success() {
                assert!(
                    number > 2 || call.contains("unlink"),
                    "{what}: strace saw nothing"
                );
                break;
            }
            server.change(|directory| {
                directory.added(&dn("CN=z"), &[("proxyAddresses", &["SMTP:z@example.com"])])
            });
            program.run(&["sync"]).expect_code(0);
            assert_eq!(program.keys(), format!("{expected} z"), "{what}");
            program.run(&["sync", "--full"]).expect_code(0);
            assert_eq!(program.keys(), format!("{expected} z"), "{what}");
        }
    }
}

#[test]
fn a_killed_run_loses_no_change_that_was_followed() {
    if !require("strace") {
        return;
    }
    let numbers = |from: usize| {
        let mut keys: Vec<String> = (from..40).map(|number| number.to_string()).collect();
        keys.sort_by_key(|key| format!("{key}@"));
        keys.join(" ")
    };
    // A file of changes is added to the records.
    check_killed(|directory| directory.deleted(&dn("CN=0")), &numbers(1));
    // So many that all records are written anew.
    let more = |directory: Directory| {
        (0..12).fold(directory, |directory, number| {
            let address = format!("SMTP:x{number:02}@example.com");
            let addresses = [address.as_str()];
            directory.added(
                &dn(&format!("CN=x{number}")),
                &[("proxyAddresses", &addresses)],
            )
        })
    };
    let new: String = (0..12).map(|number| format!(" x{number:02}")).collect();
    check_killed(more, &format!("{}{new}", numbers(0)));
}

/// Whom the other controller may not know yet, nobody can say where the records are lost: nothing is removed before the
/// controller of before answers, or the delay is over.
#[test]
fn an_answer_of_another_controller_does_not_replace_lost_records() {
    if !require("faketime") {
        return;
    }
    for is_back in [true, false] {
        let (server, program) = followed(company(40), "replication_delay = \"1h\"", "");
        let all = program.keys();
        server.change(|directory| directory.invocation_id([8; 16]).deleted(&dn("CN=1")));
        let damage = || {
            for path in files(&program.state_dir().join("source/corp")).into_keys() {
                std::fs::remove_file(path).expect("our own file");
            }
        };
        damage();
        for _ in 0..2 {
            let run = program.run(&["sync"]).expect_code(65);
            run.expect_answers(&["its stored records are lost"]);
            assert_eq!(program.keys(), all);
        }
        if is_back {
            server.change(|directory| directory.invocation_id([7; 16]));
            program.run(&["sync"]).expect_code(0);
        } else {
            let later = |offset| program.run_under(&["faketime", "-f", offset], &["sync"]);
            later("+70m").expect_code(65);
            assert_eq!(program.keys(), all);
            program.forget_clocks();
            later("+140m").expect_code(0);
        }
        assert_eq!(program.table_keys().len(), 39);
    }
}

/// Whatever the configuration says else is decided anew, though no source has anything new.
#[test]
fn another_configuration_ends_the_quiet() {
    let (_server, program) = followed(company(40), "", "");
    let config = std::fs::read_to_string(program.config_file()).expect("a configuration");
    let key = "folding = \"unicode\"\n";
    let more = |section: &str| config.clone() + section;
    for (changed, code) in [
        (more("[recipients]\nexclude = [\"1@example.com\"]\n"), 2),
        (
            more(&format!("[recipients]\nexclude_dn = [\"CN=1,{BASE}\"]\n")),
            2,
        ),
        (more("[recipients]\nalways = [\"postmaster\"]\n"), 2),
        (more("[guard]\nmust_contain = [\"x@example.com\"]\n"), 65),
        (more("[guard]\nrecipients_min = 41\n"), 65),
        (
            more("[source.more]\nkind = \"list\"\npath = \"absent\"\n"),
            75,
        ),
        (config.replace("source.corp", "source.other"), 0),
        (config.replace("[\"example.com\"]", "[\"example.org\"]"), 65),
        (
            config.replace(key, "folding = \"unicode\"\nvalue = \"x\"\n"),
            2,
        ),
        (config.replace("tables/relay_recipients", "tables/moved"), 2),
        (
            config.replace("incremental = \"dirsync\"", "incremental = \"off\""),
            0,
        ),
    ] {
        program.run(&["diff"]).expect_code(0);
        program.write_config(&changed);
        let diff = program.run(&["diff"]);
        assert_eq!(
            diff.code,
            Some(code),
            "{changed}{}{}",
            diff.stdout,
            diff.stderr
        );
        program.write_config(&config);
    }
}
