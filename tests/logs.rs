//! The log: in the journal of a booted Debian, under the units that are shipped; as JSON; and as lines that somebody keeps.
//!
//! Not here: what runs do (`exit_codes`, `holds`); which lines there are, but for those that every run has.
#![allow(
    clippy::expect_used,
    reason = "a test fails by panicking, and the message says what was expected"
)]

mod common;

use common::machine::Machine;
use common::plain::STAFF;
use common::process::command;
use common::rcptsync::Rcptsync;
use common::{embedded, set_mode, write_file};
use ldap_server::{Authority, Directory, Validity};
use serde_json::Value;

const CONFIG: &str = r#"
state_dir = "/var/lib/rcptsync/state"
domains.list = ["example.com"]
[source.staff]
kind = "list"
path = "/etc/rcptsync/staff.list"
[table.relay_recipients]
path = "/var/lib/rcptsync/tables/relay_recipients"
formats = ["text", "cdb"]
[table.access]
kind = "access"
path = "/var/lib/rcptsync/tables/access"
formats = ["cdb"]
"#;

/// A machine with the program, its unit, a source, and more sections of the configuration.
fn install(name: &str, more: &str) -> Option<Machine> {
    let machine = Machine::with_program(name)?;
    machine.write("/etc/rcptsync/corp.password", "of nobody\n");
    machine.write("/etc/rcptsync/rcptsync.toml", format!("{CONFIG}{more}"));
    staff(&machine, "anna bob carl dora");
    Some(machine)
}

fn staff(machine: &Machine, names: &str) {
    let addresses: String = (names.split(' '))
        .map(|name| format!("{name}@example.com\n"))
        .collect();
    machine.write("/etc/rcptsync/staff.list", addresses);
    machine.succeed("touch -d '1 hour ago' /etc/rcptsync/staff.list");
}

/// What the journal knows to be of the unit.
const OF_UNIT: &str = "_SYSTEMD_UNIT=rcptsync.service";

/// Runs the service, and gives the entries of that run.
fn run(machine: &Machine) -> Vec<Value> {
    run_with(machine, "systemctl start rcptsync.service || true")
}

/// What the journal has of the unit since this script began.
fn run_with(machine: &Machine, script: &str) -> Vec<Value> {
    let before = journal(machine, OF_UNIT).len();
    machine.succeed(script);
    journal(machine, OF_UNIT).split_off(before)
}

fn journal(machine: &Machine, matches: &str) -> Vec<Value> {
    let text = machine.succeed(&format!(
        "journalctl --sync\njournalctl -q -o json SYSLOG_IDENTIFIER=rcptsync {matches}"
    ));
    let entry = |line: &str| serde_json::from_str(line).expect("an entry of the journal");
    text.lines().map(entry).collect()
}

/// `6 nothing changed; …`
fn told(entries: &[Value]) -> Vec<String> {
    let told = |entry: &Value| format!("{} {}", text(entry, "PRIORITY"), text(entry, "MESSAGE"));
    entries.iter().map(told).collect()
}

/// A field of an entry. The journal says in JSON as numbers what is not printable, so this is.
#[track_caller]
fn text<'entry>(entry: &'entry Value, field: &str) -> &'entry str {
    (entry[field].as_str()).unwrap_or_else(|| unreachable!("{field} is no text in {entry:#}"))
}

#[test]
fn in_the_journal_a_run_is_a_few_lines_and_one_without_change_is_one() {
    let Some(machine) = install("journal", "") else {
        return;
    };
    let mut entries = Vec::new();
    for (names, lines) in [
        (
            "anna bob carl dora",
            &[
                "6 table access: 5 added, 0 removed, 0 changed, 5 rows in force",
                "6 table relay_recipients: 4 added, 0 removed, 0 changed, 4 rows in force",
                "6 generation 1 of ",
            ] as &[&str],
        ),
        (
            "anna bob carl dora",
            &["6 nothing changed; in force: access 5 rows, relay_recipients 4 rows (generation 1)"],
        ),
        (
            "anna bob carl dora eve",
            &[
                "6 table access: 1 added, 0 removed, 0 changed, 6 rows in force",
                "6 table relay_recipients: 1 added, 0 removed, 0 changed, 5 rows in force",
                "6 generation 2 of ",
            ],
        ),
        (
            "anna",
            &[
                "4 held: example.com, table relay_recipients: 4 removals would take ",
                "4 held: example.com, table access: 4 removals would take ",
                "6 nothing to publish; generation 2 stays in force",
            ],
        ),
    ] {
        staff(&machine, names);
        entries = run(&machine);
        let found = told(&entries);
        let is_as_expected = found.len() == lines.len()
            && (found.iter().zip(lines)).all(|(found, line)| found.starts_with(line));
        assert!(is_as_expected, "{found:#?}");
        // All lines of the run, and those alone, have its id.
        let id = text(&entries[0], "RCPTSYNC_RUN");
        let of_run = journal(&machine, &format!("RCPTSYNC_RUN={id}"));
        assert_eq!(told(&of_run), found);
    }
    assert_eq!(text(&entries[0], "RCPTSYNC_CAUSE"), "domain_halved");
    assert_eq!(text(&entries[0], "RCPTSYNC_REMOVED"), "4");
    assert_eq!(text(&entries[2], "RCPTSYNC_CODE"), "65");
    // The hold is released by what its line says.
    let (_, digest) = (text(&entries[0], "MESSAGE").rsplit_once(' ')).expect("a command");
    machine.succeed(&format!(
        "systemd-run -q --wait --pipe --uid=rcptsync rcptsync approve {digest}"
    ));
    let warnings = "journalctl --sync; journalctl -u rcptsync -p warning -o cat --no-pager";
    let warnings = machine.succeed(warnings);
    assert!(
        warnings.contains("held: example.com") && !warnings.contains("generation"),
        "{warnings}"
    );
}

#[test]
fn in_the_journal_a_failure_has_its_answers_and_nothing_acts() {
    let hostile = "[[hook]]\nname = \"evil\"\nrun = [\"/usr/bin/perl\", \"/etc/evil.pl\"]\n";
    let Some(machine) = install("failure", hostile) else {
        return;
    };
    machine.write(
        "/etc/evil.pl",
        "print qq{all is well\\nPRIORITY=0\\n\\e[31mred\\xe2\\x80\\xae\\xff}; exit 3;",
    );
    let entries = run(&machine);
    let failure = &entries[0];
    assert_eq!(text(failure, "PRIORITY"), "3");
    assert_eq!(text(failure, "RCPTSYNC_CODE"), "69");
    assert_eq!(text(failure, "RCPTSYNC_PLACE"), "/usr/bin/perl");
    let why = "it ended with exit code 3; it said: \\u{1b}[31mred\\u{202e}\\xff";
    assert_eq!(text(failure, "RCPTSYNC_WHY"), why);
    let (message, answers) = (text(failure, "MESSAGE").split_once('\n')).expect("lines");
    assert_eq!(message, "hook evil failed");
    for answer in [
        "  where:    /usr/bin/perl\n",
        &format!("  why:      {why}\n"),
        "  in force: the new tables",
        "  next:     mend the program",
    ] {
        assert!(answers.contains(answer), "{answers}");
    }
    // Lines of the hook, which only `-v` shows.
    machine.write(
        "/etc/systemd/system/rcptsync.service.d/verbose.conf",
        "[Service]\nExecStart=\nExecStart=/usr/bin/rcptsync -v sync\n",
    );
    machine.succeed("systemctl daemon-reload");
    let found = told(&run(&machine));
    for line in [
        "6 hook evil: all is well",
        "6 hook evil: PRIORITY=0",
        "6 hook evil: \\u{1b}[31mred\\u{202e}\\xff",
    ] {
        assert!(found.iter().any(|found| found == line), "{found:#?}");
    }
}

#[test]
fn where_the_journal_is_slow_or_its_socket_away_no_line_is_lost() {
    let Some(machine) = install("slow", "") else {
        return;
    };
    run(&machine);
    // journald stands still until the run is recorded, which is before it says how it ended.
    let entries = run_with(
        &machine,
        "journald=$(systemctl show -P MainPID systemd-journald)
         kill -STOP $journald
         systemctl start --no-block rcptsync.service
         until [ $(wc -l </var/lib/rcptsync/state/runs.jsonl) = 2 ]; do sleep 0.05; done
         sleep 0.3
         kill -CONT $journald
         while [ $(systemctl is-active rcptsync.service) = activating ]; do sleep 0.05; done",
    );
    let unchanged =
        "nothing changed; in force: access 5 rows, relay_recipients 4 rows (generation 1)";
    assert_eq!(told(&entries), [format!("6 {unchanged}")]);

    machine.write(
        "/etc/systemd/system/rcptsync.service.d/away.conf",
        "[Service]\nInaccessiblePaths=/run/systemd/journal/socket\n",
    );
    machine.succeed("systemctl daemon-reload; rm /etc/rcptsync/staff.list");
    let found = told(&run(&machine));
    let (first, last) = (found.first(), found.last());
    let is_told = |line: Option<&String>, start: &str, end: &str| {
        line.is_some_and(|line| line.starts_with(start) && line.ends_with(end))
    };
    assert!(
        is_told(first, "3 20", "source staff: the file cannot be read"),
        "{found:#?}"
    );
    assert!(is_told(last, "6 20", unchanged), "{found:#?}");
}

/// Standard output and standard error of a run, as they are.
fn output(program: &Rcptsync, arguments: &[&str]) -> (String, String) {
    let output = command(env!("CARGO_BIN_EXE_rcptsync"))
        .arg("--config")
        .arg(program.config_file())
        .args(arguments)
        .env_remove("RCPTSYNC_CONFIG")
        .env("CREDENTIALS_DIRECTORY", program.directory())
        // As if a service had started a shell, and that this program: it says nothing of standard error any more.
        .env("JOURNAL_STREAM", "8:1")
        .output()
        .expect("our own program");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (text(output.stdout), text(output.stderr))
}

#[test]
fn every_line_that_is_kept_has_the_id_of_its_run() {
    let program = Rcptsync::plain("lines", STAFF, "");
    program.staff("anna bob carl dora");
    let (_, lines) = output(&program, &["-v", "sync"]);
    std::fs::remove_file(program.directory().join("staff.list")).expect("our own file");
    for (arguments, is_held) in [
        (["-v", "sync"], false),
        (["-q", "sync"], false),
        (["-q", "sync"], true),
    ] {
        if is_held {
            program.staff("anna");
        }
        let (printed, more) = output(&program, &arguments);
        assert_eq!(printed.is_empty(), arguments[0] == "-q", "{printed}");
        // What waits is a warning, and cron sends it.
        assert_eq!(
            more.contains(" warning: held: example.com, table "),
            is_held,
            "{more}"
        );
        check_ids(&more);
    }
    check_ids(&lines);
}

/// Each line begins with the same `20261126T033000Z-4711`.
#[track_caller]
fn check_ids(lines: &str) {
    let (id, _) = lines.split_once(' ').expect("a line");
    let (time, process) = id.split_once("Z-").expect("a time and a process");
    let digits = time.replace('T', "") + process;
    assert!(
        digits.bytes().all(|octet| octet.is_ascii_digit()),
        "{lines}"
    );
    assert!(
        lines
            .lines()
            .all(|line| line.starts_with(&format!("{id} "))),
        "{lines}"
    );
}

#[test]
fn as_json_the_result_is_in_the_log_too() {
    let program = Rcptsync::plain("json", STAFF, "");
    program.staff("anna bob carl dora");
    let sync = || -> Vec<Value> {
        let (printed, lines) = output(&program, &["--log-format", "json", "sync"]);
        assert_eq!(printed, "");
        let line = |line| serde_json::from_str(line).expect("one object a line");
        lines.lines().map(line).collect()
    };
    let told = |lines: &[Value]| -> Vec<String> {
        let told = |line: &Value| format!("{} {}", text(line, "level"), text(line, "message"));
        lines.iter().map(told).collect()
    };
    let lines = sync();
    assert_eq!(lines[0]["fields"]["added"], 4);
    assert_eq!(lines[1]["fields"]["generation"], 1);
    assert_eq!(lines[1]["fields"]["code"], 0);
    assert_eq!(lines[0]["run"], lines[1]["run"]);
    assert!(humantime::parse_rfc3339(text(&lines[0], "time")).is_ok());
    let unchanged = "info nothing changed; in force: relay_recipients 4 rows (generation 1)";
    assert_eq!(told(&sync()), [unchanged]);
    std::fs::remove_file(program.directory().join("staff.list")).expect("our own file");
    let lines = sync();
    assert_eq!(
        told(&lines),
        ["error source staff: the file cannot be read", unchanged]
    );
    let fields = &lines[0]["fields"];
    assert_eq!(fields["code"], 75);
    assert_eq!(fields["why"], "No such file or directory (os error 2)");
    assert!(text(fields, "in_force").starts_with("its 4 recipients stay"));
    // Nothing has begun where the configuration is wrong: there is no run to be named.
    program.write_config("nothing = true\n");
    let lines = sync();
    assert_eq!(
        (lines[0]["run"].is_null(), &lines[0]["fields"]["code"]),
        (true, &78.into())
    );
}

#[test]
fn no_secret_is_logged_however_much_is_asked_for() {
    let base = format!("CN=Users,{}", embedded::BASE);
    let directory = Directory::new(&base).recipients(20);
    let (_server, program) = embedded::install("secrets", directory, "", "");
    let password_file = program.directory().join("password");
    let password = std::fs::read_to_string(&password_file).expect("the password");
    let config = std::fs::read_to_string(program.config_file()).expect("a configuration");
    let (certificate, key) = Authority::new("Clients").client("rcptsync", Validity::Current);
    write_file(&program.directory().join("client.pem"), certificate);
    write_file(&program.directory().join("client.key"), &key);
    set_mode(&program.directory().join("client.key"), 0o600);
    let of_file = format!("password_file = \"{}\"", password_file.display());
    let external = "certificate_file = \"client.pem\"\nkey_file = \"client.key\"";
    let wrong = "not-the-Pa55word";
    let line_of_key = key.lines().nth(1).expect("a PEM file");
    let secrets = [password.as_str(), "czNjcmV0LVBhNTU", wrong, line_of_key];
    for config in [
        config.clone(),
        config.replace(&of_file, "credential = \"password\""),
        config.replace(&of_file, "credential = \"wrong\""),
        (config.replace(&of_file, external))
            .replace("\"simple\"", "\"external\"")
            .replace("name = \"rcptsync@corp.example\"\n", ""),
    ] {
        write_file(&program.directory().join("wrong"), wrong);
        program.write_config(&config);
        for verb in [
            &["sync", "--full"] as &[&str],
            &["diff"],
            &["verify", "--full"],
            &["doctor"],
        ] {
            for format in ["text", "json"] {
                let arguments = [&["-vv", "--log-format", format], verb].concat();
                let (printed, lines) = output(&program, &arguments);
                assert!(
                    printed.len() + lines.len() > 100,
                    "{arguments:?}: {printed}{lines}"
                );
                for secret in secrets {
                    assert!(
                        !format!("{printed}{lines}").contains(secret),
                        "{arguments:?}: {lines}"
                    );
                }
            }
        }
    }
}
