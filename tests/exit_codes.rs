//! Every exit code, provoked: what is said, and that a refusal leaves the tables as they were to the inode.

mod common;

use std::fs::File;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use common::plain::STAFF;
use common::rcptsync::Rcptsync;
use common::{require_root, set_mode, write_file};
use ldap_server::{Authority, Directory, Server, Validity};

const NOBODY: u32 = 65534;
const AS_NOBODY: &[&str] = &[
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
];
const ALWAYS_FAILS: &str = "[[hook]]\nname = \"push\"\nrun = [\"/bin/false\"]\n";
const NOWHERE: &str = "[source.corp]\nkind = \"ldap\"\nservers = [\"ldap://127.0.0.1:1\"]\nbase = [\"DC=corp\"]\n\
                       connect_timeout = \"1s\"\nbind = { method = \"anonymous\" }\n";

/// An installation that has published four recipients.
fn published(name: &str) -> Rcptsync {
    let program = Rcptsync::plain(name, STAFF, "");
    program.staff("anna bob carl dora");
    program.run(&["sync"]).expect_code(0);
    program
}

/// Something happens to an installation; the verb must then refuse with this code and these answers, and touch nothing.
#[track_caller]
fn check<Kept>(
    happening: impl FnOnce(&Rcptsync) -> Kept,
    arguments: &[&str],
    code: i32,
    answers: &[&str],
) {
    let program = published("exit-code");
    let _kept = happening(&program);
    program
        .run_untouching(arguments, code)
        .expect_answers(answers);
}

#[test]
fn good_ends_are_0_1_and_2() {
    let program = Rcptsync::plain("good", STAFF, "");
    program.staff("anna bob");
    // Before the first run, nothing is there to look at and everything to do.
    for (arguments, code, output) in [
        (&["diff"][..], 2, "+ anna@example.com"),
        (&["sync", "--dry-run"], 2, "+ anna@example.com"),
        (&["status"], 2, "UNKNOWN: no run is recorded"),
        (&["explain", "anna@example.com"], 1, "refused"),
        (&["history"], 0, "nothing was published yet"),
        (&["check"], 0, "good"),
    ] {
        program
            .run_untouching(arguments, code)
            .expect_output(&[output]);
    }
    assert!(
        !program.state_dir().exists(),
        "a look made the state directory"
    );
    program
        .run(&["sync"])
        .expect_code(0)
        .expect_output(&["generation 1 of "]);
    for (arguments, code, output) in [
        (
            &["sync"][..],
            0,
            "nothing changed; in force: relay_recipients 2 rows (generation 1)",
        ),
        (&["sync", "--quiet"], 0, ""),
        (&["diff"], 0, "2 wanted: unchanged"),
        (&["diff", "--format", "unified"], 0, ""),
        (
            &["diff", "--format", "json"],
            0,
            "\"outcome\": \"unchanged\"",
        ),
        (&["diff", "--format", "markdown"], 0, ""),
        (&["sync", "--dry-run"], 0, "2 wanted: unchanged"),
        (&["explain", "ANNA@Example.COM"], 0, "accepted"),
        (&["explain", "eve@example.com"], 1, "never seen"),
        (&["explain", "no address"], 1, "refused"),
        (&["status"], 0, "RCPTSYNC OK"),
        (&["history"], 0, "    1  "),
        (&["history", "1"], 0, "+ anna@example.com"),
        (&["--help"], 0, "Exit codes:\n"),
        (&["--version"], 0, "rcptsync "),
    ] {
        let outcome = program.run_untouching(arguments, code);
        outcome.expect_output(&[output]);
        assert_eq!(outcome.stderr, "", "{arguments:?}");
    }
    assert_eq!(program.run(&["sync", "--quiet"]).stdout, "");
    program.staff("anna bob carl");
    program
        .run_untouching(&["diff"], 2)
        .expect_output(&["+ carl@example.com"]);
    program
        .run_untouching(&["diff", "--format", "unified"], 2)
        .expect_output(&["+carl@example.com OK\n"]);
    program.run_untouching(&["sync", "--dry-run"], 2);
    // A reader who has seen enough is no failure.
    let outcome = program.run_under(&["sh", "-c", "\"$@\" | head -c 1", "sh"], &["sync"]);
    assert_eq!((outcome.code, outcome.stdout.len()), (Some(0), 1));
    assert_eq!(program.keys(), "anna bob carl");
}

#[test]
fn wrong_command_lines_are_64() {
    for arguments in [
        &["sync", "--nonsense"][..],
        &["frobnicate"],
        &[],
        &["approve"],
        &["explain"],
        &["diff", "--format", "xml"],
        &["sync", "-v", "-q"],
        &["history", "minus-one"],
        &["status", "--warn-age", "soon"],
    ] {
        let program = published("usage");
        let outcome = program.run_untouching(arguments, 64);
        assert!(
            !outcome.stderr.is_empty() && outcome.stdout.is_empty(),
            "{arguments:?}"
        );
    }
    let digest = "0123456789abcdef";
    for (arguments, answers) in [
        (
            &["approve", digest][..],
            "no hold of the last 24 hours has the digest 0123456789abcdef",
        ),
        (&["approve", "0123456"], "at least 8 hexadecimal digits"),
        (&["approve", "../../lock"], "at least 8 hexadecimal digits"),
        (&["approve", ""], "at least 8 hexadecimal digits"),
        (&["history", "99"], "there is no generation 99"),
    ] {
        check(
            |_| (),
            arguments,
            64,
            &[answers, "every table stays as it was"],
        );
    }
}

#[test]
fn holds_are_65_and_dry_runs_say_the_same() {
    let program = published("held");
    program.staff("anna");
    for arguments in [
        &["diff"][..],
        &["sync", "--dry-run"],
        &["sync"],
        &["sync"],
        &["sync", "--quiet"],
    ] {
        let outcome = program.run_untouching(arguments, 65);
        if !arguments.contains(&"--quiet") {
            outcome.expect_output(&[
                "held  example.com, table relay_recipients: 3 removals would take 75 % of the domain's addresses",
                "- bob@example.com",
                "release: rcptsync approve ",
            ]);
        }
    }
    // The rest flows.
    program.staff("anna eve");
    program
        .run_untouching(&["diff"], 65)
        .expect_output(&["+ eve@example.com"]);
    program
        .run(&["sync"])
        .expect_code(65)
        .expect_output(&["generation 2 of "]);
    assert_eq!(program.keys(), "anna bob carl dora eve");
    program.staff("anna bob carl dora eve");
    program.run_untouching(&["sync"], 0);
}

#[test]
fn a_dry_run_prints_what_diff_prints() {
    let program = published("dry-run");
    for (names, code) in [
        ("anna bob carl dora", 0),
        ("anna bob carl dora eve", 2),
        ("anna eve", 65),
    ] {
        program.staff(names);
        let (diff, dry) = (
            program.run(&["diff"]),
            program.run_untouching(&["sync", "--dry-run"], code),
        );
        assert_eq!(
            (diff.code, diff.stdout, diff.stderr),
            (dry.code, dry.stdout, dry.stderr),
            "{names}"
        );
    }
    std::fs::remove_file(program.directory().join("staff.list")).expect("removed");
    program.run_untouching(&["sync"], 75);
    let (diff, dry) = (
        program.run(&["diff"]),
        program.run_untouching(&["sync", "--dry-run"], 75),
    );
    assert_eq!(
        (diff.code, diff.stdout, diff.stderr),
        (dry.code, dry.stdout, dry.stderr)
    );
}

#[test]
fn a_hook_that_fails_is_69_until_it_succeeds() {
    let program = published("hook");
    program.configure(&["example.com"], STAFF, ALWAYS_FAILS);
    program.staff("anna bob carl dora eve");
    let answers = &[
        "hook push failed",
        "/bin/false",
        "exit code 1",
        "the new tables are published and in use",
    ];
    program
        .run(&["sync"])
        .expect_code(69)
        .expect_answers(answers);
    assert_eq!(program.keys(), "anna bob carl dora eve");
    program
        .run_untouching(&["sync"], 69)
        .expect_answers(answers);
    // A look has no hooks to run.
    program.run_untouching(&["diff"], 0);
    program
        .run_untouching(&["status"], 1)
        .expect_output(&["hook push is owed"]);
    program.configure(
        &["example.com"],
        STAFF,
        &ALWAYS_FAILS.replace("false", "true"),
    );
    program.run_untouching(&["sync"], 0);
    program.run_untouching(&["status"], 0);
}

#[test]
fn tables_that_cannot_be_written_are_73() {
    let table = |program: &Rcptsync| program.directory().join("tables");
    let more = |program: &Rcptsync| program.staff("anna bob carl dora eve");
    check(
        |program| {
            more(program);
            let gone = program.directory().join("gone");
            std::fs::rename(table(program), gone).expect("renamed");
        },
        &["sync"],
        73,
        &[
            "a table could not be written",
            "relay_recipients",
            "No such file",
            "the old table stays in force",
        ],
    );
    for name in ["relay_recipients", "relay_recipients.cdb"] {
        for arguments in [&["sync"][..], &["diff"]] {
            check(
                |program| {
                    more(program);
                    let path = table(program).join(name);
                    std::fs::rename(&path, program.directory().join("moved")).expect("renamed");
                    symlink(program.directory().join("moved"), path).expect("a link");
                },
                arguments,
                73,
                &[
                    "a table was not touched",
                    "it is a symbolic link",
                    "remove it",
                ],
            );
            check(
                |program| {
                    more(program);
                    let path = table(program).join(name);
                    std::fs::remove_file(&path).expect("removed");
                    std::fs::create_dir(&path).expect("a directory");
                },
                arguments,
                73,
                &["a table was not touched", "it is not a regular file"],
            );
        }
    }
    // The text is good, and what stands in the way of the index is found before the text is replaced.
    check(
        |program| {
            more(program);
            let path = table(program).join(".relay_recipients.cdb.rcptsync-new");
            std::fs::create_dir(&path).expect("a directory");
        },
        &["sync"],
        73,
        &[
            "a table could not be written",
            "relay_recipients.cdb",
            "Is a directory",
        ],
    );
    // A table that cannot be looked at keeps neither another one nor what the sources said waiting.
    let program = Rcptsync::plain(
        "two-tables",
        STAFF,
        "[table.second]\npath = \"tables/second\"\nformats = [\"text\"]\n",
    );
    program.staff("anna bob");
    program.run(&["sync"]).expect_code(0);
    more(&program);
    let second = table(&program).join("second");
    std::fs::remove_file(&second).expect("removed");
    std::fs::create_dir(&second).expect("a directory");
    program
        .run(&["sync"])
        .expect_code(73)
        .expect_answers(&["a table was not touched", "tables/second"])
        .expect_output(&["published ", "relay_recipients.cdb"]);
    assert_eq!(program.keys(), "anna bob carl dora eve");
    std::fs::remove_dir(&second).expect("removed");
    program.run(&["sync"]).expect_code(0);
    let text = std::fs::read_to_string(&second).expect("a table");
    assert!(text.contains("eve@example.com OK\n"));
    // What failed is done as soon as it can be.
    let program = published("mended");
    more(&program);
    let gone = program.directory().join("gone");
    std::fs::rename(table(&program), &gone).expect("renamed");
    program.run(&["sync"]).expect_code(73);
    program
        .run(&["status"])
        .expect_code(2)
        .expect_output(&["CRITICAL", "could not be written"]);
    std::fs::rename(&gone, table(&program)).expect("renamed");
    program.run(&["sync"]).expect_code(0);
    assert_eq!(program.keys(), "anna bob carl dora eve");
    program.run(&["status"]).expect_code(0);
}

#[test]
fn a_lock_that_another_run_holds_is_74() {
    let lock = |program: &Rcptsync| {
        program.staff("anna bob carl dora eve");
        let lock = File::open(program.state_dir().join("lock")).expect("the lock of the last run");
        lock.lock().expect("nobody else holds it");
        lock
    };
    for arguments in [&["sync"][..], &["approve", "0123456789abcdef"]] {
        check(
            lock,
            arguments,
            74,
            &["another run is under way", "this run touched nothing"],
        );
    }
    // Who only looks does not wait.
    let program = published("locked");
    let _lock = lock(&program);
    let head = std::fs::read(program.state_dir().join("head.json")).expect("head.json");
    program.run_untouching(&["sync"], 74);
    program.run_untouching(&["diff"], 2);
    program.run_untouching(&["status"], 0);
    program.run_untouching(&["explain", "anna@example.com"], 0);
    program.run_untouching(&["history"], 0);
    assert_eq!(
        std::fs::read(program.state_dir().join("head.json")).expect("head.json"),
        head
    );
}

#[test]
fn sources_that_cannot_be_read_are_75() {
    let file = |name: &'static str, content: &'static str| {
        move |program: &Rcptsync| program.write_settled(name, content)
    };
    let frozen = "its 4 recipients stay";
    for (content, cause) in [
        ("anna@example.com", "the file is cut off"),
        ("", "the file is empty"),
        ("anna@example.com\n\0\n", "a NUL byte"),
    ] {
        check(
            file("staff.list", content),
            &["sync"],
            75,
            &["source staff: ", cause, "staff.list", frozen],
        );
        check(
            file("staff.list", content),
            &["diff"],
            75,
            &["source staff: ", cause, "staff.list", frozen],
        );
    }
    check(
        |program| std::fs::remove_file(program.directory().join("staff.list")).expect("removed"),
        &["sync"],
        75,
        &[
            "source staff: the file cannot be read",
            "No such file",
            frozen,
        ],
    );
    // A source that was never read holds every removal, and what is held is said before what is frozen; but there is
    // nothing to remove.
    for (source, cause) in [
        (NOWHERE, "Connection refused"),
        (
            "[source.corp]\nkind = \"ldif\"\npath = \"corp.ldif\"\n",
            "corp.ldif",
        ),
    ] {
        check(
            |program| {
                program.configure(&["example.com"], &format!("{STAFF}{source}"), "");
                program.write_settled(
                    "corp.ldif",
                    "dn: CN=x,DC=corp\nproxyAddresses SMTP:x@example.com\n",
                );
            },
            &["sync"],
            75,
            &[
                "source corp: ",
                cause,
                "it was never read completely, so nothing is removed",
            ],
        );
    }
}

#[test]
fn no_permission_is_77() {
    if !require_root() {
        return;
    }
    let program = published("denied");
    let before = program.seen();
    set_mode(&program.config_file(), 0o600);
    for verb in ["sync", "diff", "check"] {
        let outcome = program.run_under(AS_NOBODY, &[verb]).expect_code(77);
        outcome.expect_answers(&[
            "the configuration could not be read",
            "Permission denied",
            "rcptsync.toml",
        ]);
    }
    set_mode(&program.config_file(), 0o644);
    for verb in ["sync", "diff", "history"] {
        let outcome = program.run_under(AS_NOBODY, &[verb]).expect_code(77);
        outcome.expect_answers(&["the account that owns"]);
    }
    program
        .run_under(AS_NOBODY, &["explain", "anna@example.com"])
        .expect_code(77);
    program
        .run_under(AS_NOBODY, &["status"])
        .expect_code(3)
        .expect_output(&["RCPTSYNC UNKNOWN"]);
    assert!(program.seen() == before);

    let other =
        |program: &Rcptsync| chown(program.state_dir(), Some(NOBODY), None).expect("root may");
    for arguments in [&["sync"][..], &["approve", "0123456789abcdef"]] {
        let command = format!("sudo -u nobody {}", env!("CARGO_BIN_EXE_rcptsync"));
        check(
            other,
            arguments,
            77,
            &[
                "this is not the account that owns the state",
                "it belongs to nobody, this process runs as root",
                &command,
            ],
        );
    }
    // The command is one that a shell takes as it is meant.
    let program = published("quoted");
    other(&program);
    let config = program.directory().join("it's a name.toml");
    std::fs::copy(program.config_file(), &config).expect("copied");
    let config = config.to_str().expect("text").replace('\'', "'\\''");
    let outcome = program.run_untouching(&["sync", "--config", &config.replace("'\\''", "'")], 77);
    outcome.expect_answers(&[&format!("sync --config '{config}'")]);
    // A source whose file is denied. The account may do everything else.
    let program = Rcptsync::plain("denied", STAFF, "");
    program.staff("anna");
    set_mode(&program.directory().join("staff.list"), 0o600);
    set_mode(&program.directory().join("tables"), 0o777);
    std::fs::create_dir(program.state_dir()).expect("a directory");
    chown(program.state_dir(), Some(NOBODY), None).expect("root may");
    let outcome = program.run_under(AS_NOBODY, &["sync"]).expect_code(77);
    outcome.expect_answers(&[
        "source staff: ",
        "Permission denied",
        "let the account that runs rcptsync read the file",
    ]);
    assert!(program.seen().is_empty());
}

#[test]
fn a_refused_account_or_secret_is_77() {
    let authority = Authority::new("Corp authority");
    let identity = authority.identity(&["127.0.0.1"], Validity::Current);
    let directory = Directory::new("DC=corp")
        .recipients(4)
        .account("reader", "right")
        .needs_bind();
    let server = Server::start(directory.ldaps(&identity));
    let program = Rcptsync::plain(
        "account",
        &format!(
            "[source.corp]\nkind = \"ldap\"\nservers = [\"{}\"]\nca_file = \"ca.pem\"\n\
             bind = {{ method = \"simple\", name = \"reader\", password_file = \"password\" }}\n",
            server.url()
        ),
        "",
    );
    write_file(&program.directory().join("ca.pem"), authority.pem());
    let password = |text: &str, mode| {
        let path = program.directory().join("password");
        write_file(&path, text);
        set_mode(&path, mode);
    };
    password("right\n", 0o600);
    program.run(&["sync"]).expect_code(0);
    for (text, mode, answers) in [
        (
            "wrong",
            0o600,
            &[
                "the bind as reader ended with invalidCredentials (49)",
                "its 4 recipients stay",
            ][..],
        ),
        (
            "right",
            0o644,
            &["can be read by every account", "chmod o="],
        ),
        ("", 0o600, &["holds no password"]),
    ] {
        password(text, mode);
        for verb in ["sync", "diff"] {
            let outcome = program.run_untouching(&[verb], 77);
            outcome.expect_answers(answers);
            assert!(!outcome.stderr.contains("right\n") && !outcome.stderr.contains("wrong\n"));
        }
        program
            .run(&["status"])
            .expect_code(2)
            .expect_output(&["CRITICAL"]);
    }
    std::fs::remove_file(program.directory().join("password")).expect("removed");
    program
        .run_untouching(&["sync"], 77)
        .expect_answers(&["the password of the account cannot be read"]);
    password("right", 0o600);
    program.run_untouching(&["sync"], 0);
}

#[test]
fn a_wrong_configuration_or_state_is_78() {
    let head = |change: fn(String) -> String| {
        move |program: &Rcptsync| {
            program.staff("anna bob carl dora eve");
            let path = program.state_dir().join("head.json");
            let text = std::fs::read_to_string(&path).expect("head.json");
            write_file(&path, change(text));
        }
    };
    let newer = head(|text| text.replace("\"format\": 1", "\"format\": 2"));
    let stranger = head(|text| text.replace("\"format\": 1", "\"format\": 1, \"colour\": \"red\""));
    let way_on = "head.json.broken) and run again: the tables in force then count as foreign";
    for arguments in [
        &["sync"][..],
        &["diff"],
        &["approve", "0123456789abcdef"],
        &["explain", "anna@example.com"],
        &["history"],
    ] {
        for damage in [
            head(|text| text[..text.len() / 2].to_owned()),
            head(|_| String::new()),
            head(|_| "[]".to_owned()),
            head(|text| text.replace("\"format\": 1,", "")),
            stranger,
        ] {
            check(
                damage,
                arguments,
                78,
                &[
                    "the state cannot be used",
                    "head.json",
                    "it is damaged",
                    way_on,
                ],
            );
        }
        check(
            newer,
            arguments,
            78,
            &[
                "it was written by a newer rcptsync (format 2, known here: 1)",
                way_on,
            ],
        );
        check(
            |program| program.write_config("state_dir = 7\n"),
            arguments,
            78,
            &[
                "the configuration has 4 problems",
                "state_dir: is a whole number",
                "every table stays as it was",
            ],
        );
    }
    check(
        |program| std::fs::remove_file(program.config_file()).expect("removed"),
        &["sync"],
        78,
        &[
            "the configuration could not be read",
            "No such file",
            "RCPTSYNC_CONFIG",
        ],
    );
    check(
        |program| {
            std::fs::remove_dir_all(program.state_dir()).expect("removed");
            write_file(&program.state_dir(), "");
        },
        &["sync"],
        78,
        &[
            "the state directory cannot be used",
            "name a directory in state_dir",
        ],
    );
    // A monitoring plugin speaks 0 1 2 3 and nothing else.
    let program = published("status");
    newer(&program);
    program
        .run(&["status"])
        .expect_code(3)
        .expect_output(&["RCPTSYNC UNKNOWN", "newer"]);
    program.write_config("state_dir = 7\n");
    program
        .run(&["status"])
        .expect_code(3)
        .expect_output(&["RCPTSYNC UNKNOWN", "configuration"]);
    let json = program
        .run(&["status", "--format", "json"])
        .expect_code(3)
        .json();
    assert_eq!(json["level"].as_str(), Some("unknown"));
    // The way on that the message names.
    let program = published("way-on");
    newer(&program);
    let path = program.state_dir().join("head.json");
    std::fs::rename(&path, program.state_dir().join("head.json.broken")).expect("renamed");
    program.staff("anna");
    program.run_untouching(&["sync"], 65);
    program.staff("anna bob carl dora eve");
    program.run(&["sync"]).expect_code(0);
    assert_eq!(program.keys(), "anna bob carl dora eve");
    // Numbers of generations are never used twice.
    program
        .run(&["history", "1"])
        .expect_code(0)
        .expect_output(&["+ anna@example.com"]);
}

#[test]
fn the_state_is_private() {
    let program = published("private");
    let mode =
        |path: &std::path::Path| path.metadata().expect("it is there").permissions().mode() & 0o777;
    let head = program.state_dir().join("head.json");
    assert_eq!(
        (
            mode(&program.state_dir()),
            mode(&head),
            mode(&program.table())
        ),
        (0o700, 0o600, 0o644)
    );
    set_mode(&program.state_dir(), 0o755);
    let outcome = program.run_untouching(&["sync"], 0);
    assert!(
        outcome.stderr.contains("it is private (0700) now"),
        "{}",
        outcome.stderr
    );
    assert_eq!(mode(&program.state_dir()), 0o700);
}

#[test]
fn damaged_records_are_read_anew() {
    let program = published("damaged");
    for (directory, hint) in [("source/staff", "records"), ("ledger", "ledger")] {
        let path = program.state_dir().join(directory);
        for entry in std::fs::read_dir(path).expect("a directory of the state") {
            write_file(&entry.expect("an entry").path(), "garbage");
        }
        program.run_untouching(&["explain", "anna@example.com"], 0);
        let outcome = program.run(&["sync"]).expect_code(0);
        assert_eq!(program.keys(), "anna bob carl dora", "{hint}");
        assert!(
            directory == "source/staff" || outcome.stderr.contains("is lost"),
            "{}",
            outcome.stderr
        );
    }
}

#[test]
fn the_most_urgent_code_wins_and_status_names_all() {
    let program = Rcptsync::plain("precedence", "", "");
    let sources = format!("{STAFF}[source.guests]\nkind = \"list\"\npath = \"guests.list\"\n");
    program.configure(&["example.com"], &sources, "");
    program.staff("anna bob carl dora");
    program.write_settled("guests.list", "gwen@example.com\n");
    program.run(&["sync"]).expect_code(0);

    let guests_fail = || program.write_settled("guests.list", "");
    let hook_fails = || program.configure(&["example.com"], &sources, ALWAYS_FAILS);
    let last_exits = || {
        let status = program.run(&["status", "--format", "json"]).json();
        let exits = &status["runs"][0]["exits"];
        exits
            .as_array()
            .expect("a list")
            .iter()
            .map(|exit| exit.as_str().expect("text"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    guests_fail();
    program.run_untouching(&["sync"], 75);
    assert_eq!(last_exits(), "source_frozen");
    program
        .run(&["status"])
        .expect_code(1)
        .expect_output(&["WARNING", "source guests is frozen"]);
    program.staff("anna bob carl dora eve");
    program.run_untouching(&["diff"], 75);
    hook_fails();
    program.run(&["sync"]).expect_code(69);
    assert_eq!(last_exits(), "hook_owed source_frozen");
    program.staff("anna");
    program.run_untouching(&["sync"], 65);
    assert_eq!(last_exits(), "held hook_owed source_frozen");
    program.run_untouching(&["diff"], 65);
    program.run(&["status"]).expect_code(1).expect_output(&[
        "hook push is owed",
        "guests is frozen",
        "domain_halved",
    ]);
    let path = program.table_cdb();
    std::fs::remove_file(&path).expect("removed");
    std::fs::create_dir(&path).expect("a directory");
    program.run_untouching(&["sync"], 73);
    std::fs::remove_dir(&path).expect("removed");
    program.run(&["sync"]).expect_code(65);
    let lock = File::open(program.state_dir().join("lock")).expect("the lock");
    lock.lock().expect("free");
    program.run_untouching(&["sync"], 74);
    program.write_config("nonsense");
    program.run_untouching(&["sync"], 78);
    program.run_untouching(&["sync", "--nonsense"], 64);
}

#[test]
fn status_judges_by_age() {
    let program = Rcptsync::plain("status", STAFF, "");
    program.run(&["sync"]).expect_code(65);
    program
        .run(&["status"])
        .expect_code(2)
        .expect_output(&["CRITICAL", "source staff was never read completely"]);
    program.staff("anna bob carl dora");
    program.run(&["sync"]).expect_code(0);
    program
        .run(&["status"])
        .expect_code(0)
        .expect_output(&["RCPTSYNC OK - 4 rows in force, generation 1 | age="]);
    let older = common::poll_until(
        std::time::Duration::from_secs(10),
        "two seconds of age",
        || {
            let outcome = program.run(&["status", "--warn-age", "1s"]);
            (outcome.code != Some(0)).then_some(outcome)
        },
    );
    older
        .expect_code(1)
        .expect_output(&["RCPTSYNC WARNING - source staff was last read completely"]);
    program
        .run(&["status", "--crit-age", "1s"])
        .expect_code(2)
        .expect_output(&["RCPTSYNC CRITICAL"]);
    let json = program
        .run(&["status", "--format", "json"])
        .expect_code(0)
        .json();
    assert_eq!(
        (json["level"].as_str(), json["rows"].as_u64()),
        (Some("ok"), Some(4))
    );
}
