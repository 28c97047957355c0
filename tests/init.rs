//! `init`: what it writes is good, what it installs works on a real Postfix, and nothing that was there is overwritten.
//!
//! PMG's part, the template, is in `pmg.rs`.

mod common;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use common::plain::STAFF;
use common::postfix::{self, Gateway, Instance};
use common::process::{command, succeed};
use common::rcptsync::Rcptsync;
use common::slapd::free_port;
use common::write_file;

/// Of these the configuration is checked; those of the other targets name a format that this version does not know.
/// Those that read an index.
const INDEXED: [&str; 4] = ["postfix", "pmg", "exim", "qmail"];
/// Those that read what a template makes.
const TEMPLATED: [&str; 4] = ["opensmtpd", "sendmail", "haraka", "rspamd"];

/// An installation on a machine without Postfix.
fn alone(name: &str) -> Rcptsync {
    let mut program = Rcptsync::new(name);
    program.mail_config = Some(program.directory().join("nowhere"));
    program
}

/// The text with what `init` would write to a file in it.
#[track_caller]
fn written(program: &Rcptsync, arguments: &[&str]) -> String {
    let file = program.config_file();
    let _ = std::fs::remove_file(&file);
    let mut all = vec!["init"];
    all.extend(arguments);
    all.extend(["--output", file.to_str().expect("text")]);
    let outcome = program.run(&all).expect_code(0);
    outcome.expect_output(&[&format!("wrote {}\n", file.display())]);
    std::fs::read_to_string(&file).expect("it was written")
}

#[test]
fn every_configuration_is_good() {
    let program = alone("init");
    let named = [
        "--server",
        "ldap://dc1.corp.test",
        "--server",
        "ldap://dc2.corp.test:3389",
        "--domain",
        "bücher.example",
        "--domain",
        "example.org",
        "--table-path",
        "/srv/tables/who",
    ];
    for target in INDEXED {
        let text = written(&program, &[target]);
        assert!(text.contains("FILL IN"), "{text}");
        program.run(&["check"]).expect_code(0);

        let mut arguments = vec![target];
        arguments.extend(named);
        let text = written(&program, &arguments);
        let checked = program.run(&["check"]).expect_code(0);
        checked.expect_output(&[
            "  domains  bücher.example, example.org\n",
            "  source   corp: ldap, ldap://dc1.corp.test, ldap://dc2.corp.test:3389\n",
            "cdb, /srv/tables/who.cdb\n",
        ]);
        // One name remains: that of the account.
        assert_eq!(text.matches("FILL IN").count(), 2, "{text}");
        assert!(text.contains("starttls = true"), "{text}");
    }
    for target in TEMPLATED {
        let text = written(&program, &[target]);
        let table: toml::Table = text.parse().expect("TOML");
        assert_eq!(
            table["table"]["recipients"]["formats"][0].as_str(),
            Some("template"),
            "{text}"
        );
        program.run(&["check"]).expect_code(0);
    }
}

#[test]
fn both_parts_are_printed_and_the_second_names_the_same_table() {
    let program = alone("init-print");
    for (target, expected) in [
        (
            "postfix",
            "postconf -e 'relay_recipient_maps = cdb:/srv/who'",
        ),
        (
            "postfix",
            "postconf -e 'relay_domains = xn--bcher-kva.example, bücher.example'",
        ),
        ("postfix", "postfix-cdb. Install it before"),
        ("pmg", "relay_recipient_maps = cdb:/srv/who\n"),
        ("pmg", "FOREACH needed IN ['/srv/who.cdb'];"),
        ("exim", "!recipients = cdb;/srv/who.cdb\n"),
        (
            "exim",
            "domainlist rcptsync_domains = xn--bcher-kva.example : bücher.example\n",
        ),
        (
            "exim",
            "${lookup{postmaster@xn--bcher-kva.example}cdb{/srv/who.cdb}{known}{unknown}}",
        ),
        ("opensmtpd", "table recipients file:/srv/who\n"),
        ("sendmail", "cat /srv/who /etc/mail/access |"),
        ("haraka", "const FILE = '/srv/who';\n"),
        (
            "haraka",
            "new Set(['xn--bcher-kva.example', 'bücher.example'])",
        ),
        ("rspamd", "map = \"/srv/who\";\n"),
        (
            "qmail",
            "ln -s /srv/who.cdb /var/qmail/control/validrcptto.cdb\n",
        ),
    ] {
        let outcome = program
            .run(&[
                "init",
                target,
                "--domain",
                "bücher.example",
                "--table-path",
                "/srv/who",
            ])
            .expect_code(0);
        outcome.expect_output(&[
            "#### /etc/rcptsync/rcptsync.toml ###",
            "path = \"/srv/who\"",
            expected,
        ]);
        assert!(!outcome.stdout.contains("{{ "), "{}", outcome.stdout);
    }
    // Nothing was written.
    let left: Vec<_> = std::fs::read_dir(program.directory())
        .expect("our directory")
        .collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn a_wrong_command_line_is_64() {
    let program = alone("init-usage");
    program.configure(&["example.com"], STAFF, "");
    for (arguments, told) in [
        (&["courier"][..], "invalid value 'courier'"),
        (
            &["postfix", "--server", "dc1"],
            "a server is ldaps://HOST or ldap://HOST",
        ),
        (
            &["postfix", "--domain", "*.example.com"],
            "a wildcard is not a domain",
        ),
        (&["postfix", "--table-path", "tables/t"], "an absolute path"),
        (&["postfix", "--table-path", "/t'; x"], "an absolute path"),
        (
            &["postfix", "--table-path", "/tables/t.cdb"],
            "without .cdb",
        ),
        (
            &["postfix", "--install", "--domain", "example.com"],
            "cannot be used with",
        ),
        (&["exim", "--install"], "nothing can be installed for Exim"),
    ] {
        let mut all = vec!["init"];
        all.extend(arguments);
        let outcome = program.run(&all).expect_code(64);
        assert!(outcome.stderr.contains(told), "{told}: {}", outcome.stderr);
        assert_eq!(outcome.stdout, "");
    }
}

#[test]
fn no_file_is_overwritten() {
    let program = alone("init-output");
    let file = program.config_file();
    let output = ["init", "postfix", "--output", file.to_str().expect("text")];
    // The mode is the same under any umask: the account of the timer reads it.
    let umask = ["sh", "-c", "umask 077; exec \"$@\"", "sh"];
    program.run_under(&umask, &output).expect_code(0);
    let mode = file
        .metadata()
        .expect("it was written")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o644);

    for mine in ["mine\n", "", "# A comment of mine.\n"] {
        write_file(&file, mine);
        program
            .run(&output)
            .expect_code(73)
            .expect_answers(&["a file could not be written", "nothing is overwritten"]);
        let kept = std::fs::read_to_string(&file).expect("it is there");
        assert_eq!(kept, mine);
    }
    // But the default of the package, which nobody has touched: a link to it is somebody's.
    write_file(&file, include_str!("../templates/packaged.toml"));
    let link = program.directory().join("link.toml");
    symlink(&file, &link).expect("a link");
    let mut to_link = output;
    *to_link.last_mut().expect("the file") = link.to_str().expect("a path of ours");
    program.run(&to_link).expect_code(73);
    program.run(&output).expect_code(0);
    assert!(
        std::fs::read_to_string(&file)
            .expect("it is there")
            .contains("init postfix")
    );

    // A link is something that is there, whatever it leads to.
    std::fs::remove_file(&file).expect("removed");
    let elsewhere = program.directory().join("elsewhere");
    symlink(&elsewhere, &file).expect("a link");
    program.run(&output).expect_code(73);
    assert!(!elsewhere.exists());
    let names: Vec<_> = std::fs::read_dir(program.directory())
        .expect("our directory")
        .map(|entry| entry.expect("an entry").file_name())
        .filter(|name| name.to_string_lossy().starts_with('.'))
        .collect();
    assert!(names.is_empty(), "{names:?}");

    let missing = program.directory().join("missing/file.toml");
    program
        .run(&[
            "init",
            "postfix",
            "--output",
            missing.to_str().expect("text"),
        ])
        .expect_code(73)
        .expect_answers(&["make its directory first"]);
}

/// An installation whose configuration `init` wrote, with a list in the place of the directory, and a Postfix beside it whose
/// main.cf has `more`.
fn beside_postfix(name: &str, more: &str) -> (Rcptsync, Instance, u16) {
    let port = free_port();
    let instance = Instance::with_main_cf(port, |root| {
        format!("{}mynetworks = 192.0.2.1/32\n{more}", postfix::base(root))
    });
    let mut program = Rcptsync::new(name);
    program.mail_config = Some(instance.config_directory());
    let table = program.table().display().to_string();
    let text = written(
        &program,
        &[
            "postfix",
            "--domain",
            "example.com",
            "--domain",
            "example.org",
            "--table-path",
            &table,
        ],
    );
    let (before, source) = text.split_once("[source.corp]").expect("a source");
    let (_, behind) = source.split_once("[recipients]").expect("more sections");
    let state = program.state_dir().display().to_string();
    let before = before.replace("/var/lib/rcptsync/state", &state);
    program.write_config(&format!("{before}{STAFF}\n[recipients]{behind}"));
    program.run(&["check"]).expect_code(0);
    program.staff("anna bob carl@example.org");
    (program, instance, port)
}

fn main_cf(instance: &Instance) -> PathBuf {
    instance.config_directory().join("main.cf")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("a file of our own")
}

#[test]
fn a_postfix_that_is_set_up_refuses_the_unknown() {
    if !postfix::is_available() {
        return;
    }
    let (program, instance, port) = beside_postfix("init-postfix", "");
    let before = read(&main_cf(&instance));
    program
        .run(&["init", "postfix", "--install"])
        .expect_code(78)
        .expect_answers(&["No such file or directory", "publish it first", "451"]);
    assert_eq!(read(&main_cf(&instance)), before);

    program.run(&["sync"]).expect_code(0);
    let map = format!("cdb:{}", program.table().display());
    program
        .run(&["init", "postfix", "--install"])
        .expect_code(0)
        .expect_output(&[
            "set   relay_domains = example.com, example.org\n",
            &format!("set   relay_recipient_maps = {map}\n"),
            "next  postfix reload\n",
            "smtpd_recipient_restrictions is not set",
        ]);
    let copy = instance.config_directory().join("main.cf.before-rcptsync");
    assert_eq!(read(&copy), before);

    let after = read(&main_cf(&instance));
    // Not the gateway that it is.
    program
        .run(&["init", "pmg", "--install"])
        .expect_code(78)
        .expect_answers(&["this is no Proxmox Mail Gateway", "init postfix --install"]);
    let again = program
        .run(&["init", "postfix", "--install"])
        .expect_code(0);
    again.expect_output(&["is set up already"]);
    assert_eq!(read(&main_cf(&instance)), after);
    assert!(
        !instance
            .config_directory()
            .join("main.cf.before-rcptsync.2")
            .exists()
    );

    let gateway = Gateway::start_instance(instance, port);
    let answers = gateway.rcpt(&[
        "anna@example.com",
        "postmaster@example.com",
        "nobody-4711@example.com",
        "anna@example.net",
    ]);
    let codes: Vec<u16> = answers.iter().map(|answer| answer.code).collect();
    assert_eq!(codes, [250, 250, 550, 454], "{answers:?}");
    assert!(
        answers[2].text.contains("5.1.1")
            && answers[2]
                .text
                .contains("User unknown in relay recipient table"),
        "{answers:?}"
    );
}

/// What stands in the way is told with a command that mends it, and the command does.
#[track_caller]
fn check_conflict(more: &str, told: &[&str]) {
    let (program, instance, _) = beside_postfix("init-conflict", more);
    program.run(&["sync"]).expect_code(0);
    let before = read(&main_cf(&instance));
    let refused = program
        .run(&["init", "postfix", "--install"])
        .expect_code(78);
    refused.expect_answers(told);
    assert_eq!(read(&main_cf(&instance)), before);
    let directory = instance.config_directory();
    for line in refused
        .stderr
        .lines()
        .filter(|line| line.contains("postconf -e '"))
    {
        let at = line.find("postconf -e '").expect("a command");
        succeed(
            command("sh")
                .arg("-c")
                .arg(&line[at..])
                .env("MAIL_CONFIG", &directory),
        );
    }
    program
        .run(&["init", "postfix", "--install"])
        .expect_code(0);
    let asked = |name: &str| {
        let output = succeed(
            command("postconf")
                .args(["-xh", name])
                .env("MAIL_CONFIG", &directory),
        );
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    assert_eq!(
        asked("relay_recipient_maps"),
        format!("cdb:{}", program.table().display())
    );
    assert!(
        asked("relay_domains").contains("example.com"),
        "{}",
        asked("relay_domains")
    );
}

#[test]
fn a_parameter_with_another_value_is_not_overwritten() {
    if !postfix::is_available() {
        return;
    }
    check_conflict(
        "relay_recipient_maps = hash:/etc/postfix/relay_recipients\n",
        &[
            "relay_recipient_maps is hash:/etc/postfix/relay_recipients",
            "naming its path as `path`",
        ],
    );
    check_conflict(
        "relay_domains = example.org\n",
        &[
            "relay_domains lacks example.com: postconf -e 'relay_domains = example.org, example.com'",
        ],
    );
    check_conflict(
        "unknown_relay_recipient_reject_code = 450\nsoft_bounce = yes\nsmtpd_reject_unlisted_recipient = no\n",
        &[
            "postconf -e 'unknown_relay_recipient_reject_code = 550'",
            "postconf -e 'soft_bounce = no'",
            "postconf -e 'smtpd_reject_unlisted_recipient = yes'",
        ],
    );
}

#[test]
fn what_is_set_rightly_is_no_conflict() {
    if !postfix::is_available() {
        return;
    }
    let relay_domains = "relay_domains = example.com, inline:{example.org=x}\n";
    let (program, instance, _) = beside_postfix("init-rightly", relay_domains);
    program.run(&["sync"]).expect_code(0);
    let outcome = program
        .run(&["init", "postfix", "--install"])
        .expect_code(0);
    assert!(
        !outcome.stdout.contains("set   relay_domains"),
        "{}",
        outcome.stdout
    );
    assert!(read(&main_cf(&instance)).contains(relay_domains));
}

/// A domain that is relayed and has nobody in the table would lose all its mail.
#[test]
fn no_domain_loses_its_mail() {
    if !postfix::is_available() {
        return;
    }
    const LISTED: &str = "list = [\"example.com\", \"example.org\"]";
    for (relay_domains, list, told) in [
        (
            "example.com, example.net",
            LISTED,
            "example.net is relayed, and the table has no recipient of it",
        ),
        // Rows that the configuration adds to every domain are nobody's.
        (
            "example.com, example.net",
            "list = [\"example.com\", \"example.org\", \"example.net\"]",
            "example.net is relayed, and the table has no recipient of it",
        ),
        (
            "example.com, pcre:/etc/none",
            LISTED,
            "relay_domains cannot be listed",
        ),
    ] {
        let (program, instance, _) =
            beside_postfix("init-lost", &format!("relay_domains = {relay_domains}\n"));
        program.write_config(&read(&program.config_file()).replace(LISTED, list));
        program.run(&["sync"]).expect_code(0);
        let before = read(&main_cf(&instance));
        for target in ["postfix", "pmg"] {
            program
                .run(&["init", target, "--install"])
                .expect_code(78)
                .expect_answers(&[told]);
        }
        assert_eq!(read(&main_cf(&instance)), before);
    }
}

/// The restrictions that a machine has are shown with the check in its place; the command is one that Postfix takes.
#[test]
fn the_check_is_placed_before_greylisting() {
    if !postfix::is_available() {
        return;
    }
    const NAME: &str = "smtpd_recipient_restrictions";
    for (restrictions, expected) in [
        (
            "permit_mynetworks,\n  reject_unauth_destination,\n  check_policy_service inet:127.0.0.1:10023",
            Ok(
                "permit_mynetworks, reject_unauth_destination, reject_unlisted_recipient, check_policy_service inet:127.0.0.1:10023",
            ),
        ),
        (
            "reject_unauth_destination check_client_access inline:{a='x y'}",
            Ok(
                "reject_unauth_destination, reject_unlisted_recipient check_client_access inline:{a='x y'}",
            ),
        ),
        (
            "permit_mynetworks, reject_unauth_destination",
            Ok("permit_mynetworks, reject_unauth_destination, reject_unlisted_recipient"),
        ),
        (
            "reject_unlisted_recipient, reject_unauth_destination",
            Err("needs no change"),
        ),
        (
            "check_policy_service inet:127.0.0.1:10023",
            Err("before the first of them that greylists"),
        ),
    ] {
        let (program, instance, _) =
            beside_postfix("init-order", &format!("{NAME} = {restrictions}\n"));
        let outcome = program.run(&["init", "postfix"]).expect_code(0);
        let command_line = outcome
            .stdout
            .lines()
            .find(|line| line.starts_with(&format!("postconf -e '{NAME}")));
        assert_eq!(
            command_line.is_some(),
            expected.is_ok(),
            "{restrictions}: {}",
            outcome.stdout
        );
        let Some(line) = command_line else {
            outcome.expect_output(&[expected.expect_err("no command")]);
            continue;
        };
        let directory = instance.config_directory();
        succeed(
            command("sh")
                .arg("-c")
                .arg(line)
                .env("MAIL_CONFIG", &directory),
        );
        let output = succeed(
            command("postconf")
                .args(["-h", NAME])
                .env("MAIL_CONFIG", &directory),
        );
        let found = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        assert_eq!(Ok(found.as_str()), expected);
    }
}

/// Which type of table a machine gets depends on what its Postfix opens.
#[test]
fn the_type_is_one_that_postfix_has() {
    if !postfix::is_available() {
        return;
    }
    let (program, instance, _) = beside_postfix("init-type", "");
    program
        .run(&["init", "postfix"])
        .expect_code(0)
        .expect_output(&["formats = [\"text\", \"cdb\"]"]);
    // Without the list of the types that come in packages of their own.
    instance.set(
        "meta_directory",
        instance.config_directory().to_str().expect("text"),
    );
    write_file(&instance.config_directory().join("dynamicmaps.cf"), "");
    program
        .run(&["init", "postfix"])
        .expect_code(0)
        .expect_output(&[
            "formats = [\"text\", \"hash\"]",
            "relay_recipient_maps = hash:/var/lib/rcptsync/tables/relay_recipients",
            "This Postfix has no cdb",
        ]);
    program.run(&["sync"]).expect_code(0);
    program
        .run(&["init", "postfix", "--install"])
        .expect_code(78)
        .expect_answers(&[
            "has none of the types that `postconf -m` lists",
            "postfix-cdb",
        ]);
}
