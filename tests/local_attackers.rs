//! An account of the same machine that may write somewhere on the way: what it plants leads nowhere.
//!
//! Each row plants something (a link, a pipe, a device, a file of holes, other owners and modes, another environment) in an
//! installation that has published, and runs the program as root or as another account. The run ends in time, with the code and
//! the answers of the row; and what lies outside is what it was: inode, content, mode, owner, time. `doctor` has a finding for
//! what an administrator can mend.

mod common;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::plain::STAFF;
use common::postfix::{self, Instance, Options};
use common::process::{command, succeed};
use common::rcptsync::{Outcome, Rcptsync};
use common::{campaign, require, require_root, set_mode, temp_dir, write_file};
use rustix::fs::{FileType, Mode, XattrFlags, makedev, mknodat, setxattr};
use tempfile::TempDir;

const NOBODY: u32 = 65_534;
const AS_NOBODY: &[&str] = &[
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
];

/// No run of these few rows takes so much; one that reads what never ends would.
const OCTETS_MAX: &str = "--as=1500000000";

thread_local! {
    static TRIES: Cell<u64> = const { Cell::new(0) };
}

fn tried() {
    TRIES.set(TRIES.get() + 1);
}

/// Inode, mode, owner, group, time of modification, content or target.
type Facts = (u64, u32, u32, u32, (i64, i64), Vec<u8>);

/// Everything below a directory.
fn facts(directory: &Path) -> BTreeMap<PathBuf, Facts> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(path) = waiting.pop() {
        let metadata = path.symlink_metadata().expect("it is there");
        let mut content = Vec::new();
        if metadata.is_dir() {
            let entries = std::fs::read_dir(&path).expect("readable");
            waiting.extend(entries.map(|entry| entry.expect("an entry").path()));
        } else if metadata.is_file() && metadata.size() < 1 << 20 {
            content = std::fs::read(&path).expect("readable");
        }
        let time = (metadata.mtime(), metadata.mtime_nsec());
        let (mode, owner, group) = (metadata.mode(), metadata.uid(), metadata.gid());
        found.insert(path, (metadata.ino(), mode, owner, group, time, content));
    }
    found
}

/// An installation that has published anna and bob, with bert to come; and what lies outside of it.
struct Site {
    program: Rcptsync,
    outside: TempDir,
}

impl Site {
    fn new() -> Site {
        Site::with(STAFF, "")
    }

    fn with(sources: &str, more: &str) -> Site {
        let mut program = Rcptsync::plain("local", STAFF, "");
        // No Postfix.
        program.mail_config = Some(program.directory().join("no-postfix"));
        program.staff("anna bob");
        program.run(&["sync"]).expect_code(0);
        program.staff("anna bert bob");
        program.configure(&["example.com"], sources, more);
        let outside = temp_dir("outside");
        // What an attacker would like to have written, read or removed: root's alone.
        write_file(&outside.path().join("victim"), "root:secret:0:0\n");
        set_mode(&outside.path().join("victim"), 0o600);
        for name in ["relay_recipients", "relay_recipients.cdb", "head.json"] {
            write_file(&outside.path().join("directory").join(name), "precious\n");
        }
        set_mode(&outside.path().join("directory"), 0o700);
        Site { program, outside }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.program.directory().join(name)
    }

    fn victim(&self) -> PathBuf {
        self.outside.path().join("victim")
    }

    fn elsewhere(&self) -> PathBuf {
        self.outside.path().join("directory")
    }

    /// Runs the program within bounds; nothing outside has changed then.
    #[track_caller]
    fn run_under(&self, wrapper: &[&str], arguments: &[&str]) -> Outcome {
        let before = facts(self.outside.path());
        let bounds = ["timeout", "--kill-after=5", "60", "prlimit", OCTETS_MAX];
        let outcome = self
            .program
            .run_under(&[&bounds, wrapper].concat(), arguments);
        let told = format!("{arguments:?}: {}\n{}", outcome.stdout, outcome.stderr);
        assert!(facts(self.outside.path()) == before, "outside: {told}");
        assert!(!told.contains("root:secret"), "{told}");
        assert!(!told.contains('\u{1b}'), "{told}");
        let is_ended = outcome
            .code
            .is_some_and(|code| !matches!(code, 70 | 124 | 134 | 137));
        assert!(is_ended, "{:?} {told}", outcome.code);
        tried();
        outcome
    }

    /// The run ends with that code; a failure has its five answers, and these parts.
    #[track_caller]
    fn check(&self, wrapper: &[&str], arguments: &[&str], code: i32, parts: &[&str]) -> Outcome {
        let outcome = self.run_under(wrapper, arguments).expect_code(code);
        if !parts.is_empty() {
            outcome.expect_answers(parts);
        }
        outcome
    }

    /// What `doctor` finds of the files of this machine.
    #[track_caller]
    fn found(&self) -> Vec<String> {
        let outcome = self.run_under(&[], &["doctor", "--format", "json"]);
        let of_files = [
            "configuration",
            "secrets",
            "state",
            "hooks",
            "metrics",
            "replaceable",
        ];
        let is_of_files = |finding: &String| {
            let (_, check) = finding.split_once(' ').expect("severity and check");
            of_files.contains(&check) || check.starts_with("table_")
        };
        let report = outcome.json();
        for finding in report["findings"].as_array().expect("a list") {
            let is_info = finding["severity"] == "info";
            let lacks_mend = finding["mend"].as_str().is_none_or(str::is_empty);
            assert!(is_info || !lacks_mend, "{finding}");
        }
        outcome.findings().into_iter().filter(is_of_files).collect()
    }
}

/// What is planted, and what the refusal says of it.
type Planted<Where> = (fn(&Where), &'static str);

/// What can lie in the place of a file.
#[derive(Clone, Copy, Debug)]
enum Thing {
    Link,
    LinkToNowhere,
    LinkToZeros,
    HardLink,
    Pipe,
    Socket,
    Zeros,
    Directory,
    Holes,
}

const THINGS: [Thing; 9] = [
    Thing::Link,
    Thing::LinkToNowhere,
    Thing::LinkToZeros,
    Thing::HardLink,
    Thing::Pipe,
    Thing::Socket,
    Thing::Zeros,
    Thing::Directory,
    Thing::Holes,
];

/// Puts it there in the place of what is there.
fn plant(thing: Thing, path: &Path, victim: &Path) {
    let removed = match path.symlink_metadata() {
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(_) => Ok(()),
    };
    removed.expect("our own");
    let special = |kind, device| {
        let mode = Mode::RUSR | Mode::WUSR;
        mknodat(rustix::fs::CWD, path, kind, mode, device).expect("root may");
    };
    match thing {
        Thing::Link => symlink(victim, path).expect("a link"),
        Thing::LinkToNowhere => symlink(victim.with_extension("nowhere"), path).expect("a link"),
        Thing::LinkToZeros => symlink("/dev/zero", path).expect("a link"),
        Thing::HardLink => std::fs::hard_link(victim, path).expect("a link"),
        Thing::Pipe => special(FileType::Fifo, 0),
        Thing::Socket => drop(UnixListener::bind(path).expect("a socket")),
        Thing::Zeros => special(FileType::CharacterDevice, makedev(1, 5)),
        Thing::Directory => std::fs::create_dir(path).expect("a directory"),
        Thing::Holes => {
            let file = std::fs::File::create(path).expect("a file");
            file.set_len(1 << 40).expect("a file system with holes");
            set_mode(path, 0o600);
        }
    }
}

/// An access control list that gives another account something (acl(5), in the form of the extended attribute).
fn give_by_list(path: &Path, account: u32, permissions: u16) {
    const NOBODY_IN_PARTICULAR: u32 = u32::MAX;
    let entries: [(u16, u16, u32); 5] = [
        (0x01, 6, NOBODY_IN_PARTICULAR),
        (0x02, permissions, account),
        (0x04, 0, NOBODY_IN_PARTICULAR),
        (0x10, permissions, NOBODY_IN_PARTICULAR),
        (0x20, 0, NOBODY_IN_PARTICULAR),
    ];
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, account) in entries {
        list.extend_from_slice(&tag.to_le_bytes());
        list.extend_from_slice(&permissions.to_le_bytes());
        list.extend_from_slice(&account.to_le_bytes());
    }
    setxattr(path, "system.posix_acl_access", &list, XattrFlags::empty())
        .expect("a file system with lists");
}

fn is_available() -> bool {
    require_root() && require("setpriv") && require("prlimit")
}

fn tell() {
    campaign::tell(
        TRIES.get(),
        "runs with something planted by a local account",
    );
}

#[test]
fn what_lies_in_the_place_of_a_table() {
    if !is_available() {
        return;
    }
    for name in ["relay_recipients", "relay_recipients.cdb"] {
        for thing in THINGS {
            let site = Site::new();
            let path = site.at("tables").join(name);
            plant(thing, &path, &site.victim());
            let outcome = site.run_under(&[], &["sync"]);
            // Read as a table of somebody else's: its rows wait, or it is none and is replaced.
            if matches!(thing, Thing::HardLink) {
                continue;
            }
            assert_eq!(outcome.code, Some(73), "{thing:?} {}", outcome.stderr);
            if matches!(thing, Thing::Holes) {
                continue;
            }
            outcome.expect_answers(&["neither follows nor replaces"]);
            let kind = path.symlink_metadata().expect("still there").file_type();
            assert!(!kind.is_file());
            let finding = "error table_content".to_owned();
            assert!(site.found().contains(&finding), "{thing:?}");
        }
        for thing in THINGS {
            let site = Site::new();
            let temporary = site.at("tables").join(format!(".{name}.rcptsync-new"));
            plant(thing, &temporary, &site.victim());
            let (code, parts): (i32, &[&str]) = match matches!(thing, Thing::Directory) {
                true => (73, &["Is a directory"]),
                false => (0, &[]),
            };
            site.check(&[], &["sync"], code, parts);
        }
    }
    tell();
}

#[test]
fn what_lies_in_the_place_of_a_file_of_the_state() {
    if !is_available() {
        return;
    }
    let seldom: &[&[&str]] = &[
        &["explain", "anna@example.com"],
        &["history", "1"],
        &["diff"],
        &["doctor"],
    ];
    let mut files = vec![
        "lock",
        "head.json",
        "runs.jsonl",
        "notified.json",
        "generation/1",
    ];
    files.extend(["generation", "source/staff", "ledger"]);
    let of_sources = Site::new();
    let inside: Vec<String> = facts(&of_sources.at("state"))
        .into_keys()
        .filter_map(|path| {
            path.strip_prefix(of_sources.at("state"))
                .ok()?
                .to_str()
                .map(str::to_owned)
        })
        .filter(|name| name.starts_with("ledger/") || name.starts_with("source/staff/"))
        .collect();
    assert_eq!(inside.len(), 2, "{inside:?}");
    files.extend(inside.iter().map(String::as_str));
    for file in files {
        for thing in THINGS {
            let site = Site::new();
            plant(thing, &site.at("state").join(file), &site.victim());
            let first: &[&[&str]] = &[&["status"], &["sync"]];
            let more = if campaign::is_long() { seldom } else { &[] };
            for arguments in more.iter().chain(first) {
                let outcome = site.run_under(&[], arguments);
                // A generation that is none cannot be shown.
                let is_of_history = file.starts_with("generation")
                    && arguments[0] == "history"
                    && outcome.code == Some(64);
                let is_known = is_of_history
                    || matches!(outcome.code, Some(0..=3 | 65 | 69 | 73 | 75 | 77 | 78));
                assert!(
                    is_known,
                    "{file} {thing:?} {arguments:?}: {:?} {}",
                    outcome.code, outcome.stderr
                );
            }
            // Old or new, and nothing in between.
            let keys = site.program.keys();
            assert!(
                ["anna bob", "anna bert bob"].contains(&keys.as_str()),
                "{file} {thing:?}: {keys}"
            );
        }
    }
    tell();
}

#[test]
fn the_log_of_runs_is_shown_without_what_moves_a_terminal() {
    if !is_available() {
        return;
    }
    let site = Site::new();
    plant(Thing::Link, &site.program.table(), &site.victim());
    site.check(&[], &["sync"], 73, &["a symbolic link"]);
    let runs = site.at("state/runs.jsonl");
    let text = std::fs::read_to_string(&runs).expect("runs");
    let (escape, mark) = ("\\u001b]0;owned\\u0007\\u001b[2J", "\\u202e");
    let text = text.replace("a symbolic link", &format!("a {escape}{mark}"));
    assert!(text.contains(escape));
    write_file(&runs, text);
    for arguments in [
        &["status"][..],
        &["status", "--format", "json"],
        &["history"],
    ] {
        let outcome = site.run_under(&[], arguments);
        // What a program reads may have it as it is.
        let is_json = arguments.contains(&"json");
        let has_mark = outcome.stdout.contains('\u{202e}');
        assert!(is_json || !has_mark, "{}", outcome.stdout);
    }
    tell();
}

/// Where the state lies, and what is planted on the way to it.
#[test]
fn the_way_to_the_state() {
    if !is_available() {
        return;
    }
    let on_the_way = |site: &Site, mode: u32, owner: u32| {
        let way = site.at("way");
        std::fs::create_dir(&way).expect("a directory");
        set_mode(&way, mode);
        chown(&way, Some(owner), Some(owner)).expect("root may");
        let config = std::fs::read_to_string(site.program.config_file()).expect("ours");
        site.program
            .write_config(&config.replace("\"state\"", "\"way/state\""));
        way
    };
    let what = "the state directory is not trusted";
    let site = Site::new();
    on_the_way(&site, 0o777, 0);
    site.check(
        &[],
        &["sync"],
        78,
        &[what, "every account may write", "chmod o-w"],
    );
    assert!(!site.at("way/state").exists());
    assert!(
        site.found().contains(&"error replaceable".to_owned()),
        "{:?}",
        site.found()
    );

    let site = Site::new();
    on_the_way(&site, 0o755, NOBODY);
    site.check(
        &[],
        &["sync"],
        78,
        &[what, "belongs to the account 65534", "and not as root"],
    );

    // As in /tmp: a name belongs to whoever has made it.
    for link_owner in [NOBODY, 0] {
        for target in ["directory", "empty"] {
            let site = Site::new();
            std::fs::create_dir(site.outside.path().join("empty")).expect("a directory");
            let way = on_the_way(&site, 0o1777, 0);
            symlink(site.outside.path().join(target), way.join("state")).expect("a link");
            std::os::unix::fs::lchown(way.join("state"), Some(link_owner), None).expect("root may");
            if link_owner == NOBODY {
                site.check(
                    &[],
                    &["sync"],
                    78,
                    &[what, "way/state belongs to the account 65534"],
                );
            } else if target == "empty" {
                // The administrator's own link.
                let code = site.program.run(&["sync"]).code;
                assert!(matches!(code, Some(0 | 65)), "{code:?}");
            }
        }
    }
    let site = Site::new();
    on_the_way(&site, 0o1777, 0);
    site.check(&[], &["sync"], 0, &[]);
    assert_eq!(
        site.at("way/state").metadata().expect("made").mode() & 0o7777,
        0o700
    );
    tell();
}

const TRUSTED_BY_ROOT: &str = "the configuration is not trusted";

#[test]
fn whose_configuration_it_is() {
    if !is_available() {
        return;
    }
    let all: &[&[&str]] = &[
        &["sync"],
        &["sync", "--dry-run"],
        &["diff"],
        &["check"],
        &["verify"],
        &["rollback", "1"],
        &["approve", "0123456789abcdef"],
        &["init", "postfix", "--install"],
    ];
    let config = |site: &Site| site.program.config_file();
    let plants: &[Planted<Site>] = &[
        (
            |site| set_mode(&site.program.config_file(), 0o666),
            "every account may write",
        ),
        (
            |site| set_mode(site.program.directory(), 0o777),
            "every account may write",
        ),
        (
            |site| chown(site.program.config_file(), Some(NOBODY), None).expect("root may"),
            "belongs to the account 65534",
        ),
        (
            |site| chown(site.program.directory(), Some(NOBODY), None).expect("root may"),
            "belongs to the account 65534",
        ),
        (
            |site| {
                set_mode(site.program.directory(), 0o1777);
                let moved = site.at("moved.toml");
                std::fs::rename(site.program.config_file(), &moved).expect("ours");
                symlink(&moved, site.program.config_file()).expect("a link");
                std::os::unix::fs::lchown(site.program.config_file(), Some(NOBODY), None)
                    .expect("root may");
            },
            "belongs to the account 65534",
        ),
    ];
    for (plant, why) in plants {
        let site = Site::new();
        plant(&site);
        for arguments in all {
            site.check(&[], arguments, 78, &[TRUSTED_BY_ROOT, why]);
        }
        assert_eq!(site.program.keys(), "anna bob");
        assert!(
            site.found().contains(&"error configuration".to_owned()),
            "{why}: {:?}",
            site.found()
        );
        // What happened can be seen all the same.
        site.check(&[], &["explain", "anna@example.com"], 0, &[]);
    }
    // As a caller of sudo would name it, whose environment was kept.
    let site = Site::new();
    chown(config(&site), Some(NOBODY), None).expect("root may");
    let output = command(env!("CARGO_BIN_EXE_rcptsync"))
        .arg("sync")
        .env("RCPTSYNC_CONFIG", config(&site))
        .env("SUDO_UID", "65534")
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains(TRUSTED_BY_ROOT));
    tried();
    // A group that may write it is told of, and no reason to stop; its own account and root may.
    let site = Site::new();
    set_mode(&config(&site), 0o664);
    site.check(&[], &["check"], 0, &[]);
    assert!(!site.found().contains(&"warning configuration".to_owned()));
    chown(config(&site), None, Some(NOBODY)).expect("root may");
    site.check(&[], &["check"], 0, &[]);
    assert!(
        site.found().contains(&"warning configuration".to_owned()),
        "{:?}",
        site.found()
    );
    chown(config(&site), None, Some(0)).expect("root may");
    give_by_list(&config(&site), NOBODY, 6);
    assert!(
        site.found().contains(&"warning configuration".to_owned()),
        "{:?}",
        site.found()
    );
    let site = Site::new();
    chown(config(&site), Some(NOBODY), None).expect("root may");
    site.check(AS_NOBODY, &["check"], 0, &[]);
    tell();
}

#[test]
fn what_lies_in_the_place_of_a_file_that_is_read() {
    if !is_available() {
        return;
    }
    let things = [
        Thing::LinkToZeros,
        Thing::Pipe,
        Thing::Socket,
        Thing::Zeros,
        Thing::Directory,
        Thing::Holes,
    ];
    let corp = |bind: &str| {
        format!(
            "[source.corp]\nkind = \"ldap\"\nservers = [\"ldaps://127.0.0.1:1\"]\nbase = [\"DC=x\"]\nca_file = \"ca\"\n\
             connect_timeout = \"1s\"\n[source.corp.bind]\n{bind}"
        )
    };
    let simple = corp("method = \"simple\"\nname = \"a\"\npassword_file = \"secret\"\n");
    let external =
        corp("method = \"external\"\ncertificate_file = \"certificate\"\nkey_file = \"secret\"\n");
    let gssapi = corp("method = \"gssapi\"\nprincipal = \"a@CORP.EXAMPLE\"\nkeytab = \"secret\"\n")
        .replace("127.0.0.1:1", "dc1.corp.example");
    let template =
        "[table.exim]\npath = \"tables/exim\"\nformats = [\"template\"]\ntemplate = \"mine\"\n";
    let ldif = "[source.export]\nkind = \"ldif\"\npath = \"export\"\n";
    let no_more = "";
    let rows: [(&str, &str, &str, &[i32]); 9] = [
        (STAFF, no_more, "rcptsync.toml", &[78]),
        (STAFF, template, "mine", &[78]),
        (STAFF, no_more, "staff.list", &[75]),
        (ldif, no_more, "export", &[65, 75]),
        (&simple, no_more, "secret", &[77, 78]),
        (&simple, no_more, "ca", &[77, 78]),
        (&external, no_more, "secret", &[77, 78]),
        (&external, no_more, "certificate", &[77, 78]),
        (&gssapi, no_more, "secret", &[77, 78]),
    ];
    for (sources, more, file, codes) in rows {
        for thing in things {
            let site = Site::with(sources, more);
            for (name, content) in [
                ("secret", "s3cret\n"),
                ("ca", CERTIFICATE),
                ("certificate", CERTIFICATE),
            ] {
                write_file(&site.at(name), content);
                set_mode(&site.at(name), 0o600);
            }
            plant(thing, &site.at(file), &site.victim());
            for wrapper in [&[][..], AS_NOBODY] {
                // The other account looks alone.
                let arguments = if wrapper.is_empty() {
                    ["sync"]
                } else {
                    ["check"]
                };
                let outcome = site.run_under(wrapper, &arguments);
                let is_meant = outcome.code.is_some_and(|code| codes.contains(&code));
                assert!(
                    is_meant || !wrapper.is_empty(),
                    "{file} {thing:?}: {:?}\n{}{}",
                    outcome.code,
                    outcome.stdout,
                    outcome.stderr
                );
            }
            assert_eq!(site.program.keys(), "anna bob", "{file} {thing:?}");
        }
    }
    // Whoever can write it can be every server.
    let site = Site::with(&simple, "");
    write_file(&site.at("secret"), "s3cret\n");
    set_mode(&site.at("secret"), 0o600);
    write_file(&site.at("ca"), CERTIFICATE);
    set_mode(&site.at("ca"), 0o666);
    let outcome = site.run_under(&[], &["sync"]);
    outcome.expect_answers(&[
        "every account may write",
        "decide which servers are trusted",
    ]);
    assert!(
        site.found().contains(&"error replaceable".to_owned()),
        "{:?}",
        site.found()
    );
    set_mode(&site.at("ca"), 0o644);
    assert_eq!(site.found(), Vec::<String>::new());
    tell();
}

/// The authority of nobody: PEM that is read before anything is asked.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\n\
MIIBdzCCAR2gAwIBAgIUPv4cR1d0j2Xq4bPqYk1VZ3bq0ukwCgYIKoZIzj0EAwIw\n\
-----END CERTIFICATE-----\n";

#[test]
fn who_may_read_and_replace_a_secret() {
    if !is_available() {
        return;
    }
    let simple = "[source.corp]\nkind = \"ldap\"\nservers = [\"ldaps://127.0.0.1:1\"]\nbase = [\"DC=x\"]\n\
                  connect_timeout = \"1s\"\n[source.corp.bind]\nmethod = \"simple\"\nname = \"a\"\n\
                  password_file = \"keys/secret\"\n";
    let check = |plant: fn(&Path), expected: &[&str]| {
        let site = Site::with(simple, "");
        let path = site.at("keys/secret");
        write_file(&path, "s3cret\n");
        set_mode(&path, 0o600);
        plant(&path);
        assert_eq!(site.found(), expected);
    };
    check(|_| {}, &[]);
    check(|path| set_mode(path, 0o640), &[]);
    check(|path| set_mode(path, 0o644), &["error secrets"]);
    check(
        |path| set_mode(path, 0o602),
        &["error secrets", "error replaceable"],
    );
    check(|path| set_mode(path, 0o660), &["warning secrets"]);
    check(
        |path| {
            set_mode(path, 0o640);
            chown(path, None, Some(NOBODY)).expect("root may");
        },
        &["warning secrets"],
    );
    check(|path| give_by_list(path, NOBODY, 4), &["warning secrets"]);
    check(
        |path| chown(path, Some(NOBODY), None).expect("root may"),
        &["error replaceable"],
    );
    check(
        |path| set_mode(path.parent().expect("one"), 0o777),
        &["error replaceable"],
    );
    check(|path| set_mode(path.parent().expect("one"), 0o1777), &[]);
    check(
        |path| {
            let directory = path.parent().expect("one");
            chown(directory, None, Some(NOBODY)).expect("root may");
            set_mode(directory, 0o775);
        },
        &["warning replaceable"],
    );
    check(
        |path| give_by_list(path.parent().expect("one"), NOBODY, 7),
        &["warning replaceable"],
    );
    tell();
}

/// A program that runs with all that the account of the run has.
#[test]
fn who_may_replace_a_hook() {
    if !is_available() {
        return;
    }
    let more = "[[hook]]\nname = \"push\"\nrun = [\"bin/push\"]\n";
    let site_of = |plant: fn(&Path)| {
        let site = Site::new();
        let program = site.at("bin/push");
        write_file(&program, "");
        // A program that nobody has open for writing at this moment.
        std::fs::copy("/bin/true", &program).expect("copied");
        set_mode(&program, 0o755);
        plant(&program);
        let more = more.replace("bin/push", &program.display().to_string());
        site.program.configure(&["example.com"], STAFF, &more);
        site
    };
    let refused: &[Planted<Path>] = &[
        (|path| set_mode(path, 0o757), "every account may write"),
        (
            |path| set_mode(path.parent().expect("one"), 0o777),
            "every account may write",
        ),
        (
            |path| chown(path, Some(NOBODY), None).expect("root may"),
            "belongs to the account 65534",
        ),
        (
            |path| chown(path.parent().expect("one"), Some(NOBODY), None).expect("root may"),
            "belongs to the account 65534",
        ),
    ];
    for (plant, why) in refused {
        let site = site_of(*plant);
        site.check(&[], &["sync"], 69, &["it was not started", why]);
        assert_eq!(site.program.keys(), "anna bert bob");
        assert!(
            site.found().contains(&"error replaceable".to_owned()),
            "{:?}",
            site.found()
        );
        site.check(&[], &["status"], 1, &[]);
    }
    let group: fn(&Path) = |path| {
        chown(path, None, Some(NOBODY)).expect("root may");
        set_mode(path, 0o775);
    };
    let site = site_of(group);
    site.check(&[], &["sync"], 0, &[]);
    assert_eq!(site.found(), ["warning replaceable"]);
    let site = site_of(|path| set_mode(path.parent().expect("one"), 0o1777));
    site.check(&[], &["sync"], 0, &[]);
    assert_eq!(site.found(), Vec::<String>::new());
    tell();
}

#[test]
fn whose_directory_a_table_lies_in() {
    if !is_available() {
        return;
    }
    let owner = |path: &Path| path.metadata().expect("a table").uid();
    let check = |plant: fn(&Site), code: i32, parts: &[&str], finding: &str| {
        let site = Site::new();
        plant(&site);
        site.check(&[], &["sync"], code, parts);
        if !finding.is_empty() {
            assert!(
                site.found().contains(&finding.to_owned()),
                "{:?}",
                site.found()
            );
        }
        site
    };
    check(
        |site| set_mode(&site.at("tables"), 0o777),
        73,
        &["every account may replace what lies in", "chmod o-w"],
        "error table_directory",
    );
    check(
        |site| set_mode(&site.at("tables"), 0o1777),
        0,
        &[],
        "error table_directory",
    );
    // As whoever was first in /tmp would like it: a table that stays theirs.
    check(
        |site| {
            set_mode(&site.at("tables"), 0o1777);
            chown(site.program.table_cdb(), Some(NOBODY), None).expect("root may");
        },
        73,
        &["it belongs to the account 65534"],
        "error table_content",
    );
    let site = check(
        |site| {
            chown(site.at("tables"), None, Some(NOBODY)).expect("root may");
            set_mode(&site.at("tables"), 0o775);
            chown(site.program.table_cdb(), Some(NOBODY), Some(NOBODY)).expect("root may");
        },
        0,
        &[],
        "warning replaceable",
    );
    assert_eq!(owner(&site.program.table_cdb()), 0);
    // A directory of its own account keeps its owner.
    let site = check(
        |site| {
            chown(site.at("tables"), Some(NOBODY), Some(NOBODY)).expect("root may");
            chown(site.program.table_cdb(), Some(NOBODY), Some(NOBODY)).expect("root may");
        },
        0,
        &[],
        "warning replaceable",
    );
    assert_eq!(owner(&site.program.table_cdb()), NOBODY);
    // Links on the way: those of the administrator lead somewhere, those of others nowhere.
    for (account, code) in [(0, 0), (NOBODY, 73)] {
        let site = Site::new();
        let moved = site.at("moved");
        std::fs::rename(site.at("tables"), &moved).expect("ours");
        symlink(&moved, site.at("tables")).expect("a link");
        std::os::unix::fs::lchown(site.at("tables"), Some(account), None).expect("root may");
        let parts: &[&str] = match code {
            0 => &[],
            _ => &["is a symbolic link of the account 65534, which is not followed"],
        };
        site.check(&[], &["sync"], code, parts);
    }
    // Bits that a table must not have, and what the file system lets nobody change.
    let site = Site::new();
    set_mode(&site.program.table_cdb(), 0o6755);
    set_mode(&site.at("tables"), 0o2755);
    site.check(&[], &["sync"], 0, &[]);
    assert_eq!(
        site.program.table_cdb().metadata().expect("a table").mode() & 0o7777,
        0o644
    );
    let site = Site::new();
    let mut immutable = command("chattr");
    if immutable
        .arg("+i")
        .arg(site.program.table_cdb())
        .status()
        .is_ok_and(|status| status.success())
    {
        site.check(&[], &["sync"], 73, &["Operation not permitted"]);
        succeed(command("chattr").arg("-i").arg(site.program.table_cdb()));
        site.check(&[], &["sync"], 0, &[]);
    }
    tell();
}

#[test]
fn whatever_the_caller_hides_or_opens() {
    if !is_available() {
        return;
    }
    for umask in ["000", "022", "077", "777"] {
        for wrapper in [&[][..], AS_NOBODY] {
            let site = Site::new();
            let mine = if wrapper.is_empty() { 0 } else { NOBODY };
            for name in ["tables", "."] {
                chown(site.at(name), Some(mine), Some(mine)).expect("root may");
            }
            std::fs::remove_dir_all(site.at("state")).expect("ours");
            for table in [site.program.table(), site.program.table_cdb()] {
                std::fs::remove_file(table).expect("ours");
            }
            let script = format!("umask {umask}; exec \"$@\"");
            let wrapper = [wrapper, &["sh", "-c", &script, "sh"]].concat();
            if mine == NOBODY {
                chown(site.program.config_file(), Some(mine), None).expect("root may");
            }
            for names in ["anna bert bob", "anna bert", "anna bert carl"] {
                site.program.staff(names);
                site.check(&wrapper, &["sync"], 0, &[]);
            }
            for (path, found) in facts(&site.at("state")) {
                let is_directory = path.is_dir();
                let expected = if is_directory { 0o700 } else { 0o600 };
                assert_eq!(found.1 & 0o7777, expected, "{umask} {path:?}");
            }
            for table in [site.program.table(), site.program.table_cdb()] {
                assert_eq!(
                    table.metadata().expect("a table").mode() & 0o7777,
                    0o644,
                    "{umask}"
                );
            }
        }
    }
    tell();
}

/// A hook that tells what it was given.
fn with_telling_hook(body: &str) -> Site {
    let site = Site::new();
    let script = site.at("tell.sh");
    write_file(
        &script,
        format!("log={}\n{body}\n", site.at("log").display()),
    );
    let more = format!(
        "[[hook]]\nname = \"tell\"\nrun = [\"/bin/sh\", \"{}\"]\ntimeout = \"20s\"\n",
        script.display()
    );
    site.program.configure(&["example.com"], STAFF, &more);
    site
}

#[test]
fn whatever_the_caller_sets() {
    if !is_available() {
        return;
    }
    let evil = temp_dir("evil");
    let marker = evil.path().join("marker");
    for name in ["postmap", "postconf", "sh", "env", "evil.sh"] {
        let path = evil.path().join(name);
        write_file(&path, format!("#!/bin/dash\ntouch {}\n", marker.display()));
        set_mode(&path, 0o755);
    }
    let evil = evil.path().display();
    let variables = [
        format!("PATH={evil}"),
        format!("BASH_ENV={evil}/evil.sh"),
        format!("ENV={evil}/evil.sh"),
        "IFS=/".into(),
        format!("TZ={evil}/evil.sh"),
        "TZ=:/dev/zero".into(),
        format!("SSL_CERT_FILE={evil}/evil.sh"),
        format!("KRB5_CONFIG={evil}/evil.sh"),
        format!("KRB5CCNAME=FILE:{evil}/evil.sh"),
        "RES_OPTIONS=attempts:9".into(),
        "LOCALDOMAIN=evil.example".into(),
        format!("HOSTALIASES={evil}/evil.sh"),
        "RUST_LOG=trace".into(),
        "RUST_BACKTRACE=full".into(),
        format!("CREDENTIALS_DIRECTORY={evil}"),
        format!("NOTIFY_SOCKET={evil}/socket"),
        "JOURNAL_STREAM=1:2".into(),
        "LANG=../../../../tmp".into(),
        "LC_ALL=zz_ZZ".into(),
        format!("HOME={evil}"),
        format!("TMPDIR={evil}"),
        "SUDO_UID=65534".into(),
    ];
    let given = "env | grep -v -e ^PWD= -e ^_= -e ^SHLVL= -e ^RCPTSYNC_ -e ^OLDPWD= | sort >> $log";
    for variable in &variables {
        let site = with_telling_hook(given);
        site.check(&["/usr/bin/env", variable], &["sync"], 0, &[]);
        assert_eq!(site.program.keys(), "anna bert bob");
        let log = std::fs::read_to_string(site.at("log")).expect("a log");
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        assert_eq!(log, format!("LANG=C.UTF-8\n{path}\n"), "{variable}");
    }
    assert!(!marker.exists());
    tell();
}

/// What programs of Postfix are given of the environment of the run: the place of main.cf, and nothing that was not meant for
/// them.
#[test]
fn postmap_gets_nothing_of_ours() {
    if !is_available() || !postfix::is_available() || !require("strace") {
        return;
    }
    let mut site = Site::new();
    let config = std::fs::read_to_string(site.program.config_file()).expect("ours");
    let config = config.replace("[\"text\", \"cdb\"]", "[\"hash\"]");
    site.program.write_config(&config);
    let trace = site.at("trace");
    let trace_name = trace.display().to_string();
    let secret = [
        "env",
        "SECRET=s3cret",
        "CREDENTIALS_DIRECTORY=/run",
        "NOTIFY_SOCKET=/run/x",
        "LD_BIND_NOW=1",
    ];
    let strace = [
        "strace",
        "-f",
        "-v",
        "-s",
        "9999",
        "-e",
        "trace=execve",
        "-o",
        &trace_name,
    ];
    let map = format!("hash:{}", site.program.table().display());
    let options = Options {
        relay_domains: vec!["example.com".into()],
        ..Options::default()
    };
    let postfix = Instance::for_settings(&map, &options);
    site.program.mail_config = Some(postfix.config_directory());
    site.program
        .run_under(&[&strace[..], &secret].concat(), &["sync"])
        .expect_code(0);
    let trace = std::fs::read_to_string(&trace).expect("a trace");
    let calls: Vec<&str> = trace
        .lines()
        .filter(|line| line.contains("execve(\"/usr/sbin/post"))
        .collect();
    assert!(calls.iter().any(|call| call.contains("postmap")), "{trace}");
    for call in calls {
        for name in ["SECRET", "CREDENTIALS", "NOTIFY", "LD_"] {
            assert!(!call.contains(name), "{call}");
        }
        assert!(call.contains("MAIL_CONFIG=/"), "{call}");
    }
    tried();
    tell();
}

#[test]
fn whatever_process_the_caller_is() {
    if !is_available() {
        return;
    }
    let tell_fds =
        "ls -l /proc/self/fd | sed -n 's/.* -> //p' > $log; ulimit -c >> $log; umask >> $log";
    let closed = [
        "0<&-",
        "1>&-",
        "2>&-",
        "0<&- 1>&-",
        "0<&- 2>&-",
        "1>&- 2>&-",
        "0<&- 1>&- 2>&-",
    ];
    let mut scripts: Vec<String> = closed
        .iter()
        .map(|closed| format!("exec \"$@\" {closed}"))
        .collect();
    scripts.extend(
        ["CHLD", "PIPE", "TERM", "HUP", "XFSZ"]
            .map(|signal| format!("exec env --ignore-signal={signal} \"$@\"")),
    );
    scripts.extend(
        ["CHLD", "PIPE", "TERM"].map(|signal| format!("exec env --block-signal={signal} \"$@\"")),
    );
    scripts.push("gone=$(mktemp -d); cd $gone; rmdir $gone; exec \"$@\"".into());
    scripts.push("ulimit -c unlimited; exec \"$@\"".into());
    scripts.push("exec 7</dev/null 8>/dev/null; exec \"$@\"".into());
    scripts.push("exec setsid -w \"$@\"".into());
    for script in &scripts {
        let site = with_telling_hook(tell_fds);
        let began = Instant::now();
        site.check(&["bash", "-c", script, "bash"], &["sync"], 0, &[]);
        // Whoever does not learn that a program has ended waits for its time to be over.
        assert!(began.elapsed() < Duration::from_secs(20), "{script}");
        assert_eq!(site.program.keys(), "anna bert bob", "{script}");
        site.check(&[], &["status"], 0, &[]);
        site.check(&[], &["sync"], 0, &[]);
        let log = std::fs::read_to_string(site.at("log")).expect("a log");
        let state = site.at("state").display().to_string();
        let tables = site.at("tables").display().to_string();
        assert!(
            !log.contains(&state) && !log.contains(&tables),
            "{script}: {log}"
        );
        assert!(log.ends_with("0\n0022\n"), "{script}: {log}");
    }
    // Without a name, and without any word at all (which the kernel makes an empty one).
    let site = Site::new();
    site.check(
        &["bash", "-c", "exec -a '' \"$@\"", "bash"],
        &["sync"],
        0,
        &[],
    );
    let program = env!("CARGO_BIN_EXE_rcptsync");
    let call =
        format!("$p = \"{program}\\0\"; $none = pack('Q', 0); syscall(59, $p, $none, $none)");
    if require("perl") && cfg!(target_arch = "x86_64") {
        let output = command("perl")
            .args(["-e", &call])
            .output()
            .expect("perl runs");
        assert_eq!(output.status.code(), Some(64), "{output:?}");
        tried();
    }
    tell();
}

#[test]
fn whatever_limits_the_caller_sets() {
    if !is_available() {
        return;
    }
    let long = campaign::is_long();
    let mut limits: Vec<String> = (4..=24)
        .step_by(if long { 1 } else { 4 })
        .map(|count| format!("--nofile={count}"))
        .collect();
    let sizes = [0_u64, 1, 100, 1000, 4096, 5000, 10_000, 50_000, 100_000];
    limits.extend(
        sizes
            .iter()
            .step_by(if long { 1 } else { 3 })
            .map(|size| format!("--fsize={size}")),
    );
    let many: String = (0..4000).map(|number| format!("name{number} ")).collect();
    for limit in limits {
        let site = Site::new();
        site.program.staff(&many);
        let more = "[guard]\nadded_floor = 10000\nremoved_floor = 10\n";
        site.program.configure(&["example.com"], STAFF, more);
        let before = site.program.table_keys();
        let outcome = site.run_under(&["prlimit", &limit], &["sync"]);
        // Not by a signal, either.
        assert!(
            outcome.code.is_some_and(|code| code < 124),
            "{limit}: {:?} {}",
            outcome.code,
            outcome.stderr
        );
        if outcome.code != Some(0) {
            let kept = site.program.table_keys();
            assert!(
                kept == before || kept.len() > 4000,
                "{limit}: {}",
                kept.len()
            );
        }
        let healed = site.run_under(&[], &["sync"]);
        assert!(
            matches!(healed.code, Some(0 | 65)),
            "{limit}: {}",
            healed.stderr
        );
        assert!(site.program.table_keys().len() >= 4000, "{limit}");
    }
    tell();
}

/// Another account that is quicker than a check: it goes on flipping what lies on the way, while root runs.
struct Flipper {
    child: std::process::Child,
    rounds: PathBuf,
}

impl Flipper {
    /// Runs this Perl in a loop, as that account, until it is told to stop.
    fn start(directory: &Path, body: &str) -> Flipper {
        let rounds = directory.join("rounds");
        let script = format!(
            "my $on = 1; my $rounds = 0; $SIG{{TERM}} = sub {{ $on = 0 }};\n\
             while ($on) {{ {body}; $rounds++ }}\n\
             open(my $out, '>', '{}'); print $out $rounds; close($out);",
            rounds.display()
        );
        let child = command(AS_NOBODY[0])
            .args(&AS_NOBODY[1..])
            .args(["perl", "-e", &script])
            .stderr(Stdio::null())
            .spawn()
            .expect("perl runs");
        Flipper { child, rounds }
    }

    fn stop(mut self) -> u64 {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("our own child");
        self.child.wait().expect("our own child");
        std::fs::read_to_string(&self.rounds)
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(0)
    }
}

#[test]
fn whoever_is_quicker_than_a_check() {
    if !is_available() || !require("perl") {
        return;
    }
    let whole = Duration::from_secs(campaign::extent(12, 480));
    let (mut rounds, mut runs_count) = (0, 0);
    // What is flipped, in a directory of that account: T is the directory of the tables, D the one outside.
    let bodies = [
        "rename('T', 'T.real'); symlink('D', 'T'); unlink('T'); rename('T.real', 'T')",
        "symlink('V', 'T/.relay_recipients.rcptsync-new'); unlink('T/.relay_recipients.rcptsync-new'); \
         link('T/mine', 'T/.relay_recipients.cdb.rcptsync-new'); unlink('T/.relay_recipients.cdb.rcptsync-new')",
        "unlink('T/relay_recipients'); symlink('V', 'T/relay_recipients'); unlink('T/relay_recipients')",
        "rename('T/metrics.prom', 'T/x'); symlink('V', 'T/metrics.prom'); unlink('T/metrics.prom'); \
         symlink('V', 'T/.metrics.prom.rcptsync-new'); unlink('T/.metrics.prom.rcptsync-new')",
    ];
    let each = whole / u32::try_from(bodies.len()).expect("a few");
    for body in bodies {
        let site = Site::with(STAFF, "[metrics]\ntextfile = \"web/tables/metrics.prom\"\n");
        let config = std::fs::read_to_string(site.program.config_file()).expect("ours");
        site.program
            .write_config(&config.replace("path = \"tables/", "path = \"web/tables/"));
        std::fs::create_dir(site.at("web")).expect("a directory");
        std::fs::rename(site.at("tables"), site.at("web/tables")).expect("ours");
        write_file(&site.at("web/tables/mine"), "mine\n");
        succeed(
            command("chown")
                .args(["-R", "65534:65534"])
                .arg(site.at("web")),
        );
        let tables = site.at("web/tables").display().to_string();
        let body = body
            .replace("'T", &format!("'{tables}"))
            .replace("'D'", &format!("'{}'", site.elsewhere().display()))
            .replace("'V'", &format!("'{}'", site.victim().display()));
        let flipper = Flipper::start(&site.at("web"), &body);
        let began = Instant::now();
        let mut at = 0;
        while began.elapsed() < each {
            at += 1;
            site.program.staff(&format!("anna bob new{}", at % 7));
            let outcome = site.run_under(&[], &["sync"]);
            assert!(
                matches!(outcome.code, Some(0 | 65 | 73)),
                "{body}: {:?} {}",
                outcome.code,
                outcome.stderr
            );
            runs_count += 1;
        }
        rounds += flipper.stop();
    }
    assert!(rounds > 1000, "{rounds}");
    campaign::tell(
        rounds,
        "times that another account flipped what lies on the way",
    );
    campaign::tell(runs_count, "runs during that, with nothing outside touched");
}

/// Whoever binds the socket of a database in /tmp while it is down would be told the password.
#[cfg(feature = "postgresql")]
#[test]
fn a_stranger_at_the_socket_of_the_database_is_told_nothing() {
    if !is_available() || !require("perl") {
        return;
    }
    const PORT: u32 = 5432;
    for (account, mode) in [(NOBODY, 0o1777), (NOBODY, 0o755), (0, 0o755)] {
        let site = Site::new();
        let sockets = site.at("sockets");
        std::fs::create_dir(&sockets).expect("a directory");
        set_mode(&sockets, mode);
        if mode == 0o755 {
            chown(&sockets, Some(account), None).expect("root may");
        }
        write_file(&site.at("password"), "s3cret\n");
        set_mode(&site.at("password"), 0o600);
        write_file(&site.at("heard"), "");
        set_mode(&site.at("heard"), 0o666);
        let table = format!(
            "[table.rows]\npath = \"tables/rows\"\nformats = [\"postgresql\"]\n[table.rows.postgresql]\n\
             host = \"{}\"\nport = {PORT}\ndatabase = \"mail\"\nrole = \"writer\"\npassword_file = \"password\"\n",
            sockets.display()
        );
        site.program.configure(&["example.com"], STAFF, &table);
        // It asks for the password in clear (AuthenticationCleartextPassword).
        let socket = sockets.join(format!(".s.PGSQL.{PORT}"));
        let script = format!(
            "use Socket; socket(my $s, PF_UNIX, SOCK_STREAM, 0); bind($s, sockaddr_un('{}')) or die; listen($s, 5);\n\
             while (accept(my $c, $s)) {{ sysread($c, my $x, 4096); syswrite($c, pack('aNN', 'R', 8, 3));\n\
             sysread($c, $x, 4096); open(my $h, '>>', '{}'); print $h $x; close($h); close($c) }}",
            socket.display(),
            site.at("heard").display()
        );
        let owner = format!("--reuid={account}");
        let mut server = command("setpriv")
            .args([&owner, "perl", "-e", &script])
            .spawn()
            .expect("perl runs");
        let is_there = || socket.exists().then_some(());
        common::poll_until(Duration::from_secs(20), "the socket", is_there);
        let outcome = site.run_under(&[], &["sync"]);
        server
            .kill()
            .and_then(|()| server.wait())
            .expect("our own child");
        let heard = std::fs::read_to_string(site.at("heard")).expect("a text");
        let is_stranger = mode == 0o1777;
        assert_eq!(
            heard.contains("s3cret"),
            !is_stranger,
            "{heard:?} {}",
            outcome.stderr
        );
        if is_stranger {
            outcome.expect_answers(&["a stranger answers at", "the account 65534"]);
            assert_eq!(outcome.code, Some(73), "{}", outcome.stderr);
        }
    }
    tell();
}

/// What `init` writes is new, or it writes nothing.
#[test]
fn what_lies_where_init_writes() {
    if !is_available() {
        return;
    }
    for thing in THINGS {
        let site = Site::new();
        let output = site.at("new.toml");
        plant(thing, &output, &site.victim());
        let output = output.display().to_string();
        let arguments = ["init", "postfix", "--output", &output];
        site.check(&[], &arguments, 73, &["File exists"]);
    }
    tell();
}
