//! Tables that the real postmap builds, and a real smtpd that answers from them.
//!
//! postmap is made to fail, hang, die, drop a line and write another file; strace does to its system calls what a bad disk or
//! a kill does. What runs here is that of Debian; the types that a machine lacks, and Postfix 3.11, which puts other types in
//! the place of Berkeley DB, are imitated at the border of the process where there is no other way. A run that is killed at
//! every step while postmap works is in `crash.rs`.

mod common;

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::PathBuf;

use common::plain::STAFF;
use common::postfix::{self, Gateway, Instance, Options};
use common::process::{command, succeed};
use common::rcptsync::Rcptsync;
use common::{require, set_mode, temp_dir, write_file};

const TYPES: [&str; 3] = ["hash", "btree", "lmdb"];

const NOBODY: u32 = 65534;

/// In place of more configuration: the whole run must be over soon.
const LITTLE_PATIENCE: &str = "# little patience";

fn suffix(map_type: &str) -> &'static str {
    if map_type == "lmdb" { ".lmdb" } else { ".db" }
}

/// An installation with a Postfix that nobody started, and one table in these formats.
struct Site {
    program: Rcptsync,
    postfix: Instance,
}

impl Site {
    fn new(formats: &[&str], more: &str) -> Site {
        let postfix = Instance::for_postmap(true);
        let mut program = Rcptsync::new("built");
        program.mail_config = Some(postfix.config_directory());
        let site = Site { program, postfix };
        site.configure(formats, more);
        site
    }

    fn configure(&self, formats: &[&str], more: &str) {
        self.program.write_config(&format!(
            "state_dir = \"state\"\nrun_timeout = \"{}\"\n[domains]\nlist = [\"example.com\"]\n{STAFF}\n\
             [table.relay_recipients]\npath = \"tables/relay_recipients\"\nformats = {formats:?}\n{more}\n",
            if more == LITTLE_PATIENCE { "3s" } else { "2m" },
        ));
    }

    /// The table in one of its formats.
    fn file(&self, map_type: &str) -> PathBuf {
        let name = format!("relay_recipients{}", suffix(map_type));
        self.program.directory().join("tables").join(name)
    }

    /// The private directory that postmap works in.
    fn bench(&self, map_type: &str) -> PathBuf {
        let name = format!(".relay_recipients{}.rcptsync-build", suffix(map_type));
        self.program.directory().join("tables").join(name)
    }

    /// The keys that postmap lists in a table.
    #[track_caller]
    fn keys(&self, map_type: &str) -> BTreeSet<String> {
        let map = format!("{map_type}:{}", self.program.table().display());
        let listed = self.postfix.postmap(&["-s", &map]);
        assert!(listed.status.success(), "{map}: {listed:?}");
        let text = String::from_utf8(listed.stdout).expect("UTF-8");
        let key = |line: &str| line.strip_suffix("\tOK").expect("a row").to_owned();
        text.lines().map(key).collect()
    }

    /// Everything that lies in the directory of the tables.
    fn names(&self) -> Vec<String> {
        let directory = self.program.directory().join("tables");
        let entries = std::fs::read_dir(directory).expect("our own directory");
        let mut names: Vec<String> = entries
            .map(|entry| {
                let name = entry.expect("an entry").file_name();
                name.to_string_lossy().into_owned()
            })
            .collect();
        names.sort();
        names
    }
}

#[test]
fn a_running_smtpd_answers_from_what_was_built_last() {
    if !postfix::is_available() {
        return;
    }
    for map_type in TYPES {
        let site = Site::new(&["text", map_type], "");
        site.program.staff("anna bob müller");
        site.program.run(&["sync"]).expect_code(0);
        let file_name = format!("relay_recipients{}", suffix(map_type));
        assert_eq!(site.names(), ["relay_recipients", &file_name]);
        let inode = || site.file(map_type).metadata().expect("a table").ino();
        let first = inode();
        let options = Options {
            relay_domains: vec!["example.com".into()],
            ..Options::default()
        };
        let gateway = Gateway::start(&site.program.table(), map_type, &options);
        let asked = [
            "anna@example.com",
            "Bob@Example.COM",
            "carl@example.com",
            "MÜLLER@example.com",
        ];
        let ask = || {
            let answers = gateway.rcpt(&asked);
            answers.iter().map(|answer| answer.code).collect::<Vec<_>>()
        };
        assert_eq!(ask(), [250, 250, 550, 250], "{map_type}");

        site.program.staff("anna carl müller");
        site.program.run(&["sync"]).expect_code(0);
        // The very next session, without a reload.
        assert_eq!(
            ask(),
            [250, 550, 250, 250],
            "{map_type}: {}",
            gateway.mail_log()
        );
        assert!(inode() != first, "{map_type}: the file was written into");
        assert!(!gateway.mail_log().contains("reload"), "{map_type}");
        assert!(
            !gateway.mail_log().contains("warning"),
            "{map_type}: {}",
            gateway.mail_log()
        );
        assert_eq!(
            site.file(map_type).metadata().expect("a table").mode() & 0o777,
            0o644
        );
        site.program.run_untouching(&["sync"], 0);
    }
}

/// A run dies between its decision and its rename, and what it had built is lost: the next run builds it anew.
#[test]
fn what_was_decided_is_built_anew_where_it_is_lost() {
    if !postfix::is_available() || !require("strace") {
        return;
    }
    for map_type in TYPES {
        let site = Site::new(&[map_type], "");
        site.program.staff("anna bob");
        site.program.run(&["sync"]).expect_code(0);
        site.program.staff("anna carl");
        let tables = site.program.directory().join("tables");
        let tables = tables.display().to_string();
        let log = site.program.directory().join("strace.log");
        let log = log.display().to_string();
        // The first moves what was built beside the live file.
        let inject = "inject=renameat:signal=KILL:when=2";
        let strace = [
            "strace",
            "-f",
            "-qq",
            "-o",
            &log,
            "-P",
            &tables,
            "-e",
            "signal=none",
            "-e",
            inject,
        ];
        site.program.run_under(&strace, &["sync"]);
        let prepared = format!(".relay_recipients{}.rcptsync-new", suffix(map_type));
        assert!(site.names().contains(&prepared), "{:?}", site.names());
        assert!(site.keys(map_type).contains("bob@example.com"));
        std::fs::remove_file(site.file(map_type).with_file_name(prepared)).expect("prepared");
        site.program
            .run(&["status"])
            .expect_output(&["1 rename decided and not done"]);
        let outcome = site.program.run(&["sync"]).expect_code(0);
        let keys: Vec<String> = site.keys(map_type).into_iter().collect();
        let expected = ["anna@example.com", "carl@example.com"];
        assert_eq!(keys, expected, "{map_type}: {}", outcome.stderr);
        assert_eq!(site.names().len(), 1, "{:?}", site.names());
        site.program.run_untouching(&["sync"], 0);
    }
}

/// Whatever a key looks like, and however main.cf folds: what is built has the rows of the text, octet by octet.
#[test]
fn what_is_built_has_the_rows_that_were_meant() {
    if !postfix::is_available() {
        return;
    }
    let staff = "Anna.Berg o'brien bestellung+amazon \"a,b\" \"a\\\"b\" (comment) semi;colon:colon [bracket] hash#inside \
                 a/b=c?d_e~f`g|h^i$j%k!l&m*n müller MÜLLER straße STRASSE Σίσυφος İstanbul 日本 nbsp\u{a0}inside";
    for (folding, smtputf8) in [
        ("unicode", "yes"),
        ("unicode", "no"),
        ("ascii", "no"),
        ("both", "yes"),
    ] {
        let more = format!("folding = \"{folding}\"\nmode = \"0640\"");
        let site = Site::new(&["text", "cdb", "btree", "lmdb"], &more);
        site.postfix.set("smtputf8_enable", smtputf8);
        site.program.staff(staff);
        site.program.run(&["sync"]).expect_code(0);
        let meant = site.program.table_keys();
        assert!(meant.len() >= 14, "{meant:?}");
        for map_type in ["btree", "lmdb"] {
            let keys = site.keys(map_type);
            assert_eq!(keys, meant, "{map_type} {folding} {smtputf8}");
            let mode = site.file(map_type).metadata().expect("a table").mode();
            assert_eq!(mode & 0o777, 0o640, "{map_type}");
        }
    }
}

/// Many rows are looked up and counted side by side; none is a table, too.
#[test]
fn many_rows_and_no_rows_are_tables() {
    if !postfix::is_available() {
        return;
    }
    for map_type in TYPES {
        let site = Site::new(&["text", map_type], "[guard]\nrecipients_min = 0\n");
        let many: Vec<String> = (0..6_000).map(|number| format!("n{number}")).collect();
        site.program.staff(&many.join(" "));
        site.program.run(&["sync"]).expect_code(0);
        assert_eq!(site.keys(map_type), site.program.table_keys());

        let site = Site::new(
            &[map_type],
            "[guard]\nrecipients_min = 0\n[recipients]\nexclude = [\"anna@example.com\"]\n",
        );
        site.program.staff("anna");
        site.program.run(&["sync"]).expect_code(0);
        assert_eq!(site.keys(map_type).len(), 0, "{map_type}");
    }
}

/// A key that the text cannot say is absent from what is built from it, and counted.
#[test]
fn a_leading_hash_is_absent_and_counted() {
    if !postfix::is_available() {
        return;
    }
    let site = Site::new(&["cdb", "hash"], "");
    let entry = "dn: CN=a,DC=x\nobjectClass: user\nproxyAddresses: SMTP:#1@example.com\nproxyAddresses: smtp:anna@example.com\n";
    site.program.write_settled("staff.ldif", entry);
    let text = std::fs::read_to_string(site.program.config_file()).expect("our own file");
    let text = text.replace("kind = \"list\"", "kind = \"ldif\"");
    site.program
        .write_config(&text.replace("staff.list", "staff.ldif"));
    let diff = site
        .program
        .run(&["diff", "--format", "json"])
        .expect_code(2);
    assert_eq!(diff.json()["noted"]["not_in_text"], 1, "{}", diff.stdout);
    site.program.run(&["sync"]).expect_code(0);
    let keys: Vec<String> = site.keys("hash").into_iter().collect();
    assert_eq!(keys, ["anna@example.com"]);
    let explained = site.program.run(&["explain", "#1@example.com"]);
    explained.expect_output(&["the cdb of relay_recipients has it"]);
}

/// postmap runs as the account that runs the program, and the file belongs to whom the old one belonged.
#[test]
fn it_does_not_matter_whose_directory_it_is() {
    if !postfix::is_available() || !require("setpriv") {
        return;
    }
    let as_nobody = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ];
    // Who runs the program, and whose the directory is.
    for (wrapper, owner) in [(&[][..], NOBODY), (&as_nobody[..], NOBODY), (&[], 0)] {
        for map_type in TYPES {
            let site = Site::new(&[map_type], "");
            let tables = site.program.directory().join("tables");
            chown(&tables, Some(owner), None).expect("root may");
            if !wrapper.is_empty() {
                chown(site.program.directory(), Some(owner), None).expect("root may");
            }
            for (round, staff) in ["anna bob", "anna carl"].into_iter().enumerate() {
                site.program.staff(staff);
                site.program.run_under(wrapper, &["sync"]).expect_code(0);
                let keys: Vec<String> = site.keys(map_type).into_iter().collect();
                let expected = [
                    "anna@example.com",
                    ["bob@example.com", "carl@example.com"][round],
                ];
                assert_eq!(keys, expected, "{wrapper:?} {owner} {map_type}");
                // From now on it is somebody else's.
                if wrapper.is_empty() && round == 0 {
                    chown(site.file(map_type), Some(NOBODY), Some(NOBODY)).expect("root may");
                }
            }
            let metadata = site.file(map_type).metadata().expect("a table");
            assert_eq!((metadata.uid(), metadata.gid()), (NOBODY, NOBODY));
            assert_eq!(site.names().len(), 1, "{:?}", site.names());
        }
    }
    // An account that may not write there is told so.
    let site = Site::new(&["lmdb"], "");
    site.program.staff("anna");
    let state = site.program.state_dir();
    std::fs::create_dir(&state).expect("a directory of our own");
    set_mode(&state, 0o700);
    chown(&state, Some(NOBODY), None).expect("root may");
    let outcome = site
        .program
        .run_under(&as_nobody, &["sync"])
        .expect_code(73);
    outcome.expect_answers(&["a table could not be built", "Permission denied"]);
    assert!(site.names().is_empty(), "{:?}", site.names());
}

/// Whoever may write to the directory of the table cannot lead postmap elsewhere by what lies at its place of work.
#[test]
fn what_lies_at_the_place_of_work_is_removed_and_not_followed() {
    if !postfix::is_available() {
        return;
    }
    let elsewhere = temp_dir("elsewhere");
    let precious = elsewhere.path().join("table.db");
    write_file(&precious, "precious");
    let lay: [fn(&Site, &std::path::Path); 4] = [
        |site, elsewhere| symlink(elsewhere, site.bench("hash")).expect("a link"),
        |site, _| write_file(&site.bench("hash"), "in the way"),
        |site, elsewhere| {
            std::fs::create_dir(site.bench("hash")).expect("a directory");
            let (from, to) = (
                elsewhere.join("table.db"),
                site.bench("hash").join("table.db"),
            );
            symlink(from, to).expect("a link");
        },
        // What a run that was killed leaves.
        |site, _| {
            write_file(&site.bench("hash").join("table"), "half a te");
            write_file(&site.bench("hash").join("table.db"), "half a tab");
        },
    ];
    for lay in lay {
        let site = Site::new(&["hash"], "");
        site.program.staff("anna");
        lay(&site, elsewhere.path());
        site.program.run(&["sync"]).expect_code(0);
        assert_eq!(site.names(), ["relay_recipients.db"]);
        assert_eq!(site.keys("hash").len(), 1);
        // And where there is nothing to build.
        lay(&site, elsewhere.path());
        site.program.run(&["sync"]).expect_code(0);
        assert_eq!(site.names(), ["relay_recipients.db"]);
        let kept = std::fs::read(&precious).expect("still there");
        assert_eq!(kept, b"precious");
    }
}

/// A table is in force; then something happens to the calls of postmap at a file of its place of work. The old table stays, it
/// is said why, nothing is left over, and the next run makes it good.
#[track_caller]
fn check_disturbed(map_type: &str, name: &str, call: &str, injection: &str, answers: &[&str]) {
    let site = Site::new(&["text", map_type], "");
    site.program.staff("anna bob");
    site.program.run(&["sync"]).expect_code(0);
    let is_hanging = injection == "signal=STOP";
    let more = if is_hanging { LITTLE_PATIENCE } else { "" };
    site.configure(&["text", map_type], more);
    site.program.staff("anna carl");
    let place = site.bench(map_type).join(name).display().to_string();
    let inject = format!("inject={call}:{injection}");
    let log = site.program.directory().join("strace.log");
    let log = log.display().to_string();
    let strace = [
        "strace",
        "-f",
        "-qq",
        "-o",
        &log,
        "-P",
        &place,
        "-e",
        "signal=none",
        "-e",
        &inject,
    ];
    let before = site.program.seen();
    let outcome = site.program.run_under(&strace, &["sync"]).expect_code(73);
    outcome.expect_answers(&["a table could not be built", "the old table stays in force"]);
    outcome.expect_answers(answers);
    assert!(
        site.program.seen() == before,
        "{map_type} {injection}: touched, or something is left: {:?}",
        site.names()
    );
    site.configure(&["text", map_type], "");
    site.program.run(&["sync"]).expect_code(0);
    assert!(site.keys(map_type).contains("carl@example.com"));
    assert_eq!(site.names().len(), 2, "{:?}", site.names());
}

#[test]
fn a_postmap_that_fails_leaves_the_old_table() {
    if !postfix::is_available() || !require("strace") {
        return;
    }
    for (map_type, file) in [
        ("hash", "table.db"),
        ("btree", "table.db"),
        ("lmdb", "table.lmdb"),
    ] {
        let full = ["postmap ended with exit code 1", "No space left on device"];
        let call = "pwrite64,write";
        check_disturbed(map_type, file, call, "error=ENOSPC", &full);
        let killed = ["postmap ended with signal 9"];
        check_disturbed(map_type, file, call, "signal=KILL", &killed);
    }
    // What it has built cannot be synced: the only sync of a file of Berkeley DB is ours.
    let unsynced = ["Input/output error"];
    check_disturbed("hash", "table.db", "fsync", "error=EIO", &unsynced);
}

#[test]
fn a_postmap_that_hangs_is_ended_and_leaves_the_old_table() {
    if !postfix::is_available() || !require("strace") {
        return;
    }
    let hung = ["postmap did not end within", "so it was ended"];
    for (map_type, file) in [("hash", "table.db"), ("lmdb", "table.lmdb")] {
        check_disturbed(map_type, file, "pwrite64", "signal=STOP", &hung);
    }
}

/// postmap ends with 0 when it takes a line for a comment, or the failure of a read for the end, and says nothing.
#[test]
fn a_line_that_postmap_drops_is_noticed() {
    if !postfix::is_available() || !require("strace") {
        return;
    }
    let site = Site::new(&["text"], "");
    site.program.staff("anna carl");
    site.program.run(&["sync"]).expect_code(0);
    let text = std::fs::read_to_string(site.program.table()).expect("a text");
    let (head, _) = text.split_once("anna").expect("the first row");
    let poke = |octets: &str| {
        let hex: String = octets.bytes().map(|octet| format!("{octet:02x}")).collect();
        format!("poke_exit=@arg2={hex}:when=1")
    };
    let check = |map_type: &str, first_row: &str, answers: &[&str]| {
        let injection = poke(&format!("{head}{first_row}"));
        check_disturbed(map_type, "table", "read", &injection, answers);
    };
    let not_found = r#"postmap does not find "anna@example.com" with its value in what it built"#;
    for map_type in TYPES {
        check(map_type, "#", &[not_found]);
    }
    check("hash", "anne", &[not_found]);
    check("lmdb", "anna@example.com NO", &[not_found]);
    // Of some it complains, and ends with 0 all the same.
    let complained = ["when it was built, postmap said:", "unbalanced"];
    check("btree", "\"", &complained);
    // The head of the text, which is a comment, becomes a row too many.
    let more = format!("stranger@example.com OK\n#{}", &head[25..]);
    let too_many = ["postmap built 3 rows where 2 were meant"];
    check_disturbed("hash", "table", "read", &poke(&more), &too_many);
    let unread = [not_found, "whether the disk is full"];
    check_disturbed("hash", "table", "read", "error=EIO", &unread);
}

#[test]
fn a_full_disk_leaves_the_old_table() {
    if !postfix::is_available() || !require("unshare") {
        return;
    }
    for map_type in TYPES {
        let site = Site::new(&[map_type], "");
        let many: Vec<String> = (0..3_000).map(|number| format!("number{number}")).collect();
        site.program.staff(&many.join(" "));
        // Room for the text, not for the table.
        let script = "mount -t tmpfs -o size=144k none tables && \"$0\" \"$@\"; code=$?; ls -A tables; exit $code";
        let directory = site.program.directory().display().to_string();
        let within = format!("cd {directory} && {script}");
        let wrapper = ["unshare", "-m", "sh", "-c", &within];
        let outcome = site
            .program
            .run_under(&wrapper, &["--quiet", "sync"])
            .expect_code(73);
        // postmap itself ends with 0, without a word, when it could not write an lmdb table.
        let why = match map_type {
            "lmdb" => "postmap does not find \"number0@example.com\"",
            _ => "No space left on device",
        };
        outcome.expect_answers(&["a table could not be built", why]);
        assert_eq!(outcome.stdout, "", "{map_type}: something is left");
    }
}

/// Another Postfix than that of this machine: programs that stand in for `postconf` and `postmap` in a namespace of their own.
/// `$POSTMAP` is the real postmap.
#[track_caller]
fn check_stand_in(
    map_type: &str,
    postconf: Option<&str>,
    postmap: Option<&str>,
    code: i32,
    answers: &[&str],
) {
    let site = Site::new(&[map_type], "");
    site.program.staff("anna");
    let directory = site.program.directory();
    succeed(
        command("cp")
            .arg("/usr/sbin/postmap")
            .arg(directory.join("real-postmap")),
    );
    let mut mounts = String::new();
    for (program, script) in [("postconf", postconf), ("postmap", postmap)] {
        if let Some(script) = script {
            let stand_in = directory.join(program);
            let real = format!("POSTMAP={}/real-postmap\n", directory.display());
            write_file(&stand_in, format!("#!/bin/sh\n{real}{script}\n"));
            set_mode(&stand_in, 0o755);
            let mount = format!(
                "mount --bind {} /usr/sbin/{program} && ",
                stand_in.display()
            );
            mounts.push_str(&mount);
        }
    }
    let script = format!("{mounts} exec \"$0\" \"$@\"");
    for verb in ["diff", "sync"] {
        let wrapper = ["unshare", "-m", "sh", "-c", &script];
        let outcome = site.program.run_under(&wrapper, &[verb]);
        if verb == "diff" && code != 78 {
            continue;
        }
        outcome.expect_code(code).expect_answers(answers);
        assert!(site.names().is_empty(), "{:?}", site.names());
    }
}

#[test]
fn what_this_postfix_cannot_build_is_told_before_anything_happens() {
    if !postfix::is_available() || !require("unshare") {
        return;
    }
    // The package is not installed: no line of it in dynamicmaps.cf.
    let site = Site::new(&["text", "lmdb"], "");
    let without = temp_dir("without-packages");
    write_file(&without.path().join("dynamicmaps.cf"), "");
    site.postfix
        .set("meta_directory", &without.path().display().to_string());
    // Not even a source is read: there is none.
    for verb in ["diff", "sync"] {
        let outcome = site.program.run(&[verb]).expect_code(78);
        outcome.expect_answers(&[
            "table relay_recipients: lmdb cannot be built here",
            "does not know the type; it knows",
            "postfix-lmdb",
            "nothing was touched",
        ]);
    }
    // `check` asks nothing of Postfix.
    site.program.run(&["check"]).expect_code(0);
    // No Postfix at all.
    let mut program = site.program;
    program.mail_config = Some(without.path().to_owned());
    for verb in ["diff", "sync"] {
        let outcome = program.run(&[verb]).expect_code(78);
        outcome.expect_answers(&[
            "no Postfix is configured on this machine",
            "publish cdb instead",
        ]);
    }
    assert!(program.seen().is_empty());

    // RHEL 10, openSUSE, Alpine: no Berkeley DB.
    let known = "echo cdb; echo lmdb";
    for map_type in ["hash", "btree"] {
        check_stand_in(
            map_type,
            Some(&format!(
                "case $1 in -m) {known};; *) echo default_database_type = lmdb;; esac"
            )),
            None,
            78,
            &[
                "it knows cdb, lmdb",
                "no Berkeley DB",
                "publish lmdb instead: formats = [\"lmdb\"]",
            ],
        );
    }
    // Postfix 3.11 told to redirect.
    let redirecting =
        "case $1 in -m) echo hash; echo lmdb;; *) echo non_bdb_migration_level = enable-redirect
                       echo default_database_type = cdb;; esac";
    check_stand_in(
        "hash",
        Some(redirecting),
        None,
        78,
        &[
            "puts cdb in its place (non_bdb_migration_level = enable-redirect)",
            "publish cdb instead",
        ],
    );
    // It is told to, and does not say so.
    check_stand_in(
        "hash",
        None,
        Some("exec $POSTMAP \"$1\" \"$2\" \"$(echo \"$3\" | sed s/^hash:/lmdb:/)\""),
        73,
        &["postmap ended well, but table.db: No such file or directory"],
    );
    check_stand_in(
        "lmdb",
        Some("exit 1"),
        None,
        78,
        &["`postconf -m` does not answer"],
    );
}

/// A table that somebody built by hand is in force: what it has is not lost.
#[test]
fn a_table_that_somebody_else_built_is_read_and_kept() {
    if !postfix::is_available() {
        return;
    }
    for map_type in TYPES {
        let site = Site::new(&[map_type], "");
        site.program.staff("anna bob");
        write_file(
            &site.program.table(),
            "anna@example.com OK\n\"a b\"@example.com OK\nstranger@example.com OK\n",
        );
        site.postfix.postmap_build(map_type, &site.program.table());
        std::fs::remove_file(site.program.table()).expect("our own file");
        let original = std::fs::read(site.file(map_type)).expect("a table");
        site.program.run_untouching(&["diff"], 65);
        let outcome = site.program.run(&["sync"]).expect_code(65);
        outcome.expect_output(&["+ bob@example.com", "stranger@example.com"]);
        let keys = site.keys(map_type);
        let expected =
            ["\"a b\"", "anna", "bob", "stranger"].map(|name| format!("{name}@example.com"));
        assert!(keys.iter().eq(&expected), "{map_type}: {keys:?}");
        let generations = std::fs::read_dir(site.program.state_dir().join("generation"));
        let is_kept = generations.expect("generations").any(|entry| {
            let path = entry.expect("an entry").path();
            let name = path.to_string_lossy().into_owned();
            name.ends_with(&format!(".original.relay_recipients.{map_type}"))
                && std::fs::read(&path).expect("an original") == original
        });
        assert!(is_kept, "{map_type}");
        let (_, digests) = site.program.holds();
        for digest in &digests {
            site.program.run(&["approve", digest]).expect_code(0);
        }
        site.program.run(&["sync"]).expect_code(0);
        assert_eq!(site.keys(map_type).len(), 2, "{map_type}");

        // Edited by hand, with Postfix's own means.
        let map = format!("{map_type}:{}", site.program.table().display());
        let gone = site.postfix.postmap(&["-d", "bob@example.com", &map]);
        assert!(gone.status.success(), "{gone:?}");
        site.program
            .run(&["sync"])
            .expect_code(0)
            .expect_output(&["written anew, with the same rows"]);
        assert_eq!(site.keys(map_type).len(), 2, "{map_type}");
    }
}

/// What postmap cannot list may still hold what nobody else knows.
#[test]
fn what_cannot_be_listed_is_not_replaced() {
    if !postfix::is_available() {
        return;
    }
    let built = |site: &Site, map_type: &str| {
        write_file(&site.program.table(), "stranger@example.com OK\n");
        site.postfix.postmap_build(map_type, &site.program.table());
        std::fs::remove_file(site.program.table()).expect("our own file");
    };
    for map_type in TYPES {
        // Half of a table.
        let site = Site::new(&[map_type], "");
        site.program.staff("anna");
        built(&site, map_type);
        let whole = std::fs::read(site.file(map_type)).expect("a table");
        write_file(&site.file(map_type), &whole[..whole.len() / 2]);
        let outcome = site.program.run_untouching(&["sync"], 73);
        let why = match map_type {
            "lmdb" => "postmap ended with",
            _ => "its end is missing",
        };
        outcome.expect_answers(&["a table cannot be read", why, "move it away"]);
        // Nothing that a gateway could read.
        for content in ["", "garbage that is no table of any kind"] {
            write_file(&site.file(map_type), content);
            let outcome = site.program.run(&["sync"]).expect_code(0);
            assert!(
                outcome.stderr.contains("it is written anew"),
                "{}",
                outcome.stderr
            );
            assert_eq!(site.keys(map_type).len(), 1);
        }
    }
    // main.cf still names another type.
    let site = Site::new(&["btree"], "");
    site.program.staff("anna");
    built(&site, "hash");
    let outcome = site.program.run_untouching(&["sync"], 73);
    outcome.expect_answers(&["it is a hash table, not btree"]);
    // The same of our own making is a change of mind.
    let site = Site::new(&["hash"], "");
    site.program.staff("anna");
    site.program.run(&["sync"]).expect_code(0);
    site.configure(&["btree"], "");
    site.program.run(&["sync"]).expect_code(0);
    assert_eq!(site.keys("btree").len(), 1);
    // A link is followed by nobody.
    let site = Site::new(&["lmdb"], "");
    site.program.staff("anna");
    symlink("/etc/hostname", site.file("lmdb")).expect("a link");
    site.program
        .run_untouching(&["sync"], 73)
        .expect_answers(&["is a symbolic link"]);
}

/// LMDB refuses keys that a CDB holds: a foreign one that is too long stays where it is, and counts as unsaid.
#[test]
fn a_key_too_long_for_lmdb_stops_nothing() {
    if !postfix::is_available() || !require("cdb") {
        return;
    }
    let site = Site::new(&["cdb", "lmdb"], "");
    site.program.staff("anna");
    let long = format!("{}@example.com", "a".repeat(600));
    let text = site.program.directory().join("by-hand");
    write_file(
        &text,
        format!("anna@example.com OK\n{long} OK\nstranger@example.com OK\n"),
    );
    let path = site.program.table_cdb();
    succeed(command("cdb").args(["-c", "-m"]).arg(&path).arg(&text));
    site.program.run(&["sync"]).expect_code(65);
    let keys: Vec<String> = site.keys("lmdb").into_iter().collect();
    assert_eq!(keys, ["anna@example.com", "stranger@example.com"]);
    let cdb = std::fs::read(&path).expect("a table");
    let has_long = cdb
        .windows(long.len())
        .any(|octets| octets == long.as_bytes());
    assert!(has_long, "the foreign row stays in the CDB");
}

#[test]
fn verify_looks_every_key_up_and_tells_what_others_have_built() {
    if !postfix::is_available() {
        return;
    }
    for map_type in TYPES {
        let site = Site::new(&["text", map_type], "");
        site.program.staff("anna bob müller");
        site.program.run(&["sync"]).expect_code(0);
        let verified = site.program.run(&["verify"]).expect_code(0);
        let file_name = format!("relay_recipients{}", suffix(map_type));
        let found = format!("{file_name}: as published; 3 keys found");
        assert!(verified.stdout.contains(&found), "{}", verified.stdout);

        let other = site.program.directory().join("other");
        write_file(&other, "anna@example.com OK\ndora@example.com OK\n");
        site.postfix.postmap_build(map_type, &other);
        let other = other.with_file_name(format!("other{}", suffix(map_type)));
        std::fs::copy(&other, site.file(map_type)).expect("our own directory");
        let verified = site.program.run(&["verify"]).expect_code(69);
        for said in [
            &format!(
                "{file_name}: other octets than were published, edited or cut: 2 rows missing, 1 added"
            ),
            "    + dora@example.com\n",
            "    - müller@example.com\n",
        ] {
            assert!(
                verified.stdout.contains(said),
                "{said}\n{}",
                verified.stdout
            );
        }

        write_file(&site.file(map_type), "no table");
        let verified = site.program.run(&["verify"]).expect_code(69);
        let said = format!("{file_name}: no table of its format");
        assert!(verified.stdout.contains(&said), "{}", verified.stdout);
    }
}
