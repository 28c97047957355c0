//! The mail that a gateway sends about itself: the shipped script and units, under a real systemd with all sandboxing of the unit,
//! through the Postfix of that machine into a mailbox. Not here: when something is told (`told`).

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine;
use common::machine::Machine;
use common::process::command;
use common::{poll_until, require};

fn contrib(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("contrib")
        .join(name)
}

const MAIL: &str = "/usr/libexec/rcptsync/notify-mail";

const CONFIG: &str = r#"
state_dir = "/var/lib/rcptsync/state"
[domains]
list = ["example.com"]
[source.staff]
kind = "list"
path = "/etc/rcptsync/staff.list"
[table.relay_recipients]
path = "/var/lib/rcptsync/tables/relay_recipients"
formats = ["text", "cdb"]
[[hook]]
name = "mail"
run = ["/usr/libexec/rcptsync/notify-mail", "root"]
when = ["refused", "failed", "owed", "recovered"]
input = "text"
"#;

/// A gateway with the program, its units and its Postfix, installed by hand.
struct Gateway {
    machine: Machine,
}

impl Gateway {
    fn boot(name: &str) -> Option<Gateway> {
        let machine = Machine::with_program(name)?;
        machine.succeed("mkdir -p /usr/libexec/rcptsync /etc/systemd/system/rcptsync.service.d");
        machine.copy(&contrib("notify/mail"), MAIL);
        machine.copy_unit("rcptsync-mail@.service", "/etc/systemd/system");
        machine.copy_unit(
            "rcptsync.service.d/told.conf",
            "/etc/systemd/system/rcptsync.service.d/told.conf",
        );
        machine.succeed(
            "echo secret > /etc/rcptsync/corp.password; newaliases; systemctl daemon-reload; systemctl start postfix",
        );
        machine.write("/etc/rcptsync/rcptsync.toml", CONFIG);
        Some(Gateway { machine })
    }

    /// Writes the list of recipients, an hour ago.
    fn staff(&self, count: usize) {
        let script = format!(
            "seq -f 'a%g@example.com' 1 {count} > /etc/rcptsync/staff.list; touch -d '1 hour ago' /etc/rcptsync/staff.list"
        );
        self.machine.succeed(&script);
    }

    /// What a script prints, without the line end.
    fn ask(&self, script: &str) -> String {
        let output = self.machine.run(script);
        String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned()
    }

    /// Runs the unit as the timer does; then root's mailbox has so many messages, and the unit ended with this code.
    #[track_caller]
    fn check(&self, code: &str, mails_count: usize) {
        self.machine.run("systemctl start rcptsync.service");
        let ended = self.code();
        let log = || {
            self.ask(
                "journalctl --no-pager --lines=30 --unit=rcptsync.service --unit=postfix@-.service",
            )
        };
        assert_eq!(ended, code, "{}", log());
        self.expect_mails(mails_count);
    }

    /// The code of the last run: of systemd where it calls it a failure, else of the record.
    fn code(&self) -> String {
        self.ask(
            r#"if systemctl -q is-failed rcptsync.service
               then systemctl show --value --property=ExecMainStatus rcptsync.service
               else tail -n 1 /var/lib/rcptsync/state/runs.jsonl | sed 's/.*"code":\([0-9]*\).*/\1/'
               fi"#,
        )
    }

    /// Once nothing is under way any more.
    #[track_caller]
    fn expect_mails(&self, count: usize) {
        let is_idle = || {
            self.ask("postqueue -j; systemctl list-jobs --no-legend")
                .is_empty()
        };
        poll_until(Duration::from_secs(60), "mail is delivered", || {
            is_idle().then_some(())
        });
        let mails = self.ask("grep -c '^From ' /var/mail/root || true");
        let mails = mails.parse().unwrap_or(0);
        assert_eq!(
            mails,
            count,
            "{}",
            self.ask("cat /var/mail/root; journalctl --no-pager --lines=30")
        );
    }

    /// A header of the last message.
    fn last(&self, header: &str) -> String {
        self.ask(&format!(
            "sed -n 's/^{header}: //p' /var/mail/root | tail -n 1"
        ))
    }
}

#[test]
fn a_gateway_mails_what_changes() {
    let Some(gateway) = Gateway::boot("told-changes") else {
        return;
    };
    gateway.staff(100);
    gateway.check("0", 0);
    gateway.staff(50);
    gateway.check("65", 1);
    assert_eq!(
        gateway.last("Subject"),
        "rcptsync on gateway.example: refused: changes of relay_recipients are held: domain_halved, example.com"
    );
    let mail = gateway.ask("cat /var/mail/root");
    for line in [
        "Return-Path: <>",
        "To: root",
        "From: rcptsync <rcptsync@gateway.example>",
        "Auto-Submitted: auto-generated",
        "Content-Transfer-Encoding: 7bit",
        "    - a51@example.com",
    ] {
        assert!(
            mail.lines().any(|found| found.starts_with(line)),
            "{line}: {mail}"
        );
    }
    // Nothing new; and the unit, which has told it, has not failed.
    gateway.check("65", 1);
    assert_eq!(
        gateway.ask("systemctl is-failed rcptsync.service"),
        "inactive"
    );
    // The command in the mail.
    let release = gateway.ask("sed -n 's/^    release: //p' /var/mail/root");
    gateway.machine.succeed(&format!(
        "setpriv --reuid=rcptsync --regid=rcptsync --clear-groups {release}"
    ));
    gateway.check("0", 2);
    assert!(
        gateway
            .last("Subject")
            .contains(": recovered: no change of relay_recipients is held")
    );
    gateway.machine.succeed("mv /etc/rcptsync/staff.list /root");
    gateway.check("75", 3);
    gateway.check("75", 3);
    // While the mail system is away, a run says so and fails; the next one tells.
    gateway
        .machine
        .succeed("systemctl stop postfix; mv /root/staff.list /etc/rcptsync");
    gateway.machine.run("systemctl start rcptsync.service");
    assert_eq!(gateway.code(), "69");
    let status = gateway.ask("rcptsync status || true");
    assert!(
        status.contains("hook mail is not told anything since"),
        "{status}"
    );
    gateway.machine.succeed("systemctl start postfix");
    gateway.check("0", 4);
    assert!(
        gateway
            .last("Subject")
            .ends_with("recovered: source staff is not frozen any more")
    );
}

#[test]
fn systemd_mails_about_runs_that_cannot_tell() {
    let Some(gateway) = Gateway::boot("told-onfailure") else {
        return;
    };
    gateway.staff(5);
    gateway
        .machine
        .write("/etc/rcptsync/rcptsync.toml", "state_dir = 'bücher' # [\n");
    gateway.check("78", 1);
    assert_eq!(
        gateway.last("Subject"),
        "rcptsync on gateway.example: rcptsync.service failed"
    );
    let mail = gateway.ask("cat /var/mail/root");
    for part in [
        "failed (result: exit-code, exit code or signal: 78)",
        "the configuration has",
        "rcptsync check",
    ] {
        assert!(mail.contains(part), "{part}: {mail}");
    }
    // A state directory that is not there: the program is not even started.
    gateway.machine.write("/etc/rcptsync/rcptsync.toml", CONFIG);
    gateway
        .machine
        .succeed("mv /var/lib/rcptsync/state /var/lib/rcptsync/moved");
    gateway.check("226", 2);
    let mail = gateway.ask("cat /var/mail/root");
    assert!(
        mail.contains("Failed to set up mount namespacing"),
        "{mail}"
    );
    // Whatever goes on: no more for some hours.
    gateway.check("226", 2);
    gateway.check("226", 2);
}

/// Why the script speaks SMTP: the sendmail command cannot reach the queue from the unit.
#[test]
fn the_sendmail_command_does_not_work_in_the_sandbox() {
    let Some(gateway) = Gateway::boot("told-sendmail") else {
        return;
    };
    gateway.staff(5);
    let sendmail = r#"run = ["/usr/bin/timeout", "5", "/usr/sbin/sendmail", "root"]"#;
    let config = CONFIG.replace(
        r#"run = ["/usr/libexec/rcptsync/notify-mail", "root"]"#,
        sendmail,
    );
    gateway.machine.write("/etc/rcptsync/rcptsync.toml", config);
    gateway.check("0", 0);
    gateway.machine.succeed("rm /etc/rcptsync/staff.list");
    // Only that it failed arrives, by the other unit.
    gateway.check("69", 1);
    assert!(gateway.last("Subject").ends_with("rcptsync.service failed"));
    let log = gateway.ask("journalctl --no-pager --unit=rcptsync.service");
    assert!(log.contains("hook mail failed"), "{log}");
}

/// A mail system that answers each command with the next of these replies, and what it was told.
fn mail_system(replies: &[&str]) -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its number").to_string();
    let replies: Vec<String> = replies.iter().map(|reply| format!("{reply}\r\n")).collect();
    let told = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a connection");
        let mut lines = BufReader::new(stream.try_clone().expect("the same connection"));
        let mut told = String::new();
        for reply in replies {
            let _ = (&stream).write_all(reply.as_bytes());
            let is_data = reply.starts_with("354");
            while let Ok(1..) = lines.read_line(&mut told) {
                if !is_data || told.ends_with("\r\n.\r\n") {
                    break;
                }
            }
        }
        told
    });
    (address, told)
}

/// How the script ends, what it says, and what the mail system was told.
fn send(
    replies: &[&str],
    subject: &str,
    text: &str,
    arguments: &[&str],
) -> (Option<i32>, String, String) {
    let (address, told) = mail_system(replies);
    let mut child = command("perl")
        .arg(contrib("notify/mail"))
        .args(["--server", &address])
        .args(arguments)
        .env("RCPTSYNC_SUBJECT", subject)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("perl runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(text.as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("our own child");
    // One that did not come to the mail system at all lets it go.
    drop(TcpStream::connect(&address));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (
        output.status.code(),
        said,
        told.join().expect("a mail system that ends"),
    )
}

const TAKEN: &[&str] = &[
    "220 mx",
    "250-mx\r\n250 8BITMIME",
    "250 ok",
    "250 ok",
    "354 go",
    "250 queued",
];

#[test]
fn a_message_is_one_message_whatever_is_in_it() {
    if !require("perl") {
        return;
    }
    let decode = |text: &str| {
        let text: String = text.split_whitespace().collect();
        let octets = base64::engine::general_purpose::STANDARD
            .decode(text)
            .expect("base64");
        String::from_utf8(octets).expect("UTF-8")
    };
    let long = format!("{}ü", "größe ".repeat(40));
    for (subject, text) in [
        ("plain", "one\n.\n..two\nQUIT\n"),
        (
            "a\r\nBcc: mallory@example.com\n\n.",
            "x\r\n.\r\nMAIL FROM:<mallory@example.com>\n",
        ),
        ("grün ✓", "grün\n.\n\u{0}\u{7}x\u{1b}[31m"),
        (&long, &long),
        ("", ""),
        ("long", &"x".repeat(5_000)),
    ] {
        let (code, said, told) = send(TAKEN, subject, text, &["root"]);
        assert_eq!((code, said.as_str()), (Some(0), ""), "{told}");
        let (envelope, rest) = told.split_once("DATA\r\n").expect("data");
        assert!(
            envelope.ends_with("MAIL FROM:<>\r\nRCPT TO:<root>\r\n"),
            "{envelope}"
        );
        let (headers, body) = rest.split_once("\r\n\r\n").expect("headers");
        let (body, quit) = body.split_once("\r\n.\r\n").expect("an end");
        assert_eq!(quit, "QUIT\r\n");
        assert!(
            rest.bytes()
                .all(|octet| octet.is_ascii_graphic() || b" \t\r\n".contains(&octet)),
            "{rest:?}"
        );
        assert!(rest.lines().all(|line| line.len() < 998), "{rest}");
        let names: Vec<&str> = headers
            .lines()
            .filter(|line| !line.starts_with(' '))
            .filter_map(|line| Some(line.split_once(": ")?.0))
            .collect();
        let expected = "From To Subject Date Message-ID Auto-Submitted MIME-Version Content-Type Content-Transfer-Encoding";
        assert_eq!(names.join(" "), expected, "{headers}");
        // Read as a mail program does.
        let body = body.replace("\r\n.", "\r\n");
        let body = match headers.ends_with("base64") {
            true => decode(&body),
            false => body.replace("\r\n", "\n"),
        };
        let sent = text
            .replace("\r\n", "\n")
            .replace(['\u{0}', '\u{7}', '\u{1b}'], "?");
        assert_eq!(body.trim_end(), sent.trim_end());
        let unfolded = headers.replace("\r\n ", " ");
        let found = unfolded
            .lines()
            .find_map(|line| line.strip_prefix("Subject: "))
            .expect("a subject");
        let words = found.split_whitespace().map(|word| {
            let coded = word
                .strip_prefix("=?UTF-8?B?")
                .and_then(|word| word.strip_suffix("?="));
            coded.map_or_else(|| format!("{word} "), decode)
        });
        let words: String = words.collect();
        let wanted: Vec<&str> = subject.split_whitespace().collect();
        assert_eq!(words.trim_end(), wanted.join(" "));
    }
}

#[test]
fn what_is_not_taken_is_tried_again() {
    if !require("perl") {
        return;
    }
    for (replies, arguments, code, part) in [
        (&["421 busy"][..], &["root"][..], 1, "421 busy"),
        (
            &["220 mx", "250 mx", "451 later"],
            &["root"],
            1,
            "451 later (to MAIL FROM:<>)",
        ),
        (
            &["220 mx", "250 mx", "250 ok", "452 full"],
            &["root"],
            1,
            "452 full (to root)",
        ),
        (
            &["220 mx", "250 mx", "250 ok", "550 who"],
            &["root"],
            1,
            "no recipient was taken",
        ),
        // Nobody gets it twice because another one is refused for now; one who is refused for good stops nobody.
        (
            &["220 mx", "250 mx", "250 ok", "250 ok", "450 later"],
            &["root", "dora@example.com"],
            1,
            "450 later",
        ),
        (
            &[
                "220 mx",
                "250 mx",
                "250 ok",
                "550 who",
                "250 ok",
                "354 go",
                "250 queued",
            ],
            &["root", "dora@example.com"],
            0,
            "550 who (to root)",
        ),
        (
            &["220 mx", "250 mx", "250 ok", "250 ok", "354 go", "451 full"],
            &["root"],
            1,
            "451 full",
        ),
        (&["hello"], &["root"], 1, "not a reply of SMTP"),
        (&["220 mx"], &["root"], 1, "hung up"),
        (&["220 mx"], &[], 1, "no recipient"),
        (&["220 mx"], &["a@example.com> SIZE=1"], 1, "not an address"),
        (&["220 mx"], &["--from", "a b", "root"], 1, "not an address"),
    ] {
        let (ended, said, told) = send(replies, "subject", "text", arguments);
        assert_eq!(ended, Some(code), "{arguments:?} {said} {told}");
        assert!(said.contains(part), "{part:?}: {said}");
    }
}
