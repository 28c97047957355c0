//! `init` on a terminal: every answer tried with real servers, and what it wrote run for real.
//!
//! This slapd sends the certificate of its authority with its own, and Samba does not, as few controllers do. Not here: `init` without a person
//! (`init.rs`), but for the option that tries without asking.

mod common;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use common::certificates::Authority;
use common::dialogue::Dialogue;
use common::directory::{BASE, Company, Dialect};
use common::machine::Machine;
use common::process::{command, succeed};
use common::rcptsync::Rcptsync;
use common::samba::{self, ACCOUNT};
use common::slapd::{self, Slapd};
use common::{require, set_mode, write_file};

const WRONG: &str = "Wr0ng!passw0rd";

/// An installation on a machine without Postfix.
fn alone(name: &str) -> Rcptsync {
    let mut program = Rcptsync::new(name);
    program.mail_config = Some(program.directory().join("nowhere"));
    program
}

fn password(file: &Path) -> String {
    std::fs::read_to_string(file).expect("a password of our own")
}

/// What lies in the directory of an installation, without what was there before.
fn written(program: &Rcptsync) -> Vec<String> {
    let entries = std::fs::read_dir(program.directory()).expect("our directory");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<String> = names
        .map(|name| name.to_string_lossy().into_owned())
        .filter(|name| name != "tables")
        .collect();
    names.sort();
    names
}

fn fingerprint(certificate: &Path) -> String {
    let printed = succeed(
        command("openssl")
            .args(["x509", "-noout", "-fingerprint", "-sha256", "-in"])
            .arg(certificate),
    );
    let printed = String::from_utf8_lossy(&printed.stdout).into_owned();
    let (_, fingerprint) = printed.split_once('=').expect("NAME=FINGERPRINT");
    fingerprint.trim().to_owned()
}

/// Runs what was written: with a state of its own, and whatever the first publication would wait for told.
#[track_caller]
fn publishes(program: &Rcptsync) {
    program.run(&["check"]).expect_code(0);
    let text = std::fs::read_to_string(program.config_file()).expect("it was written");
    let state = program.state_dir().display().to_string();
    let text = text.replace("/var/lib/rcptsync/state", &state);
    program.write_config(&format!(
        "{text}\n[domain.\"example.com\"]\ndirectory_is_complete = true\n"
    ));
    program.run(&["diff"]).expect_code(2);
    program.run(&["sync"]).expect_code(0);
    program.run(&["diff"]).expect_code(0);
    assert!(program.table_keys().contains("postmaster@example.com"));
    assert!(program.table_keys().len() > 100);
}

/// A company in an OpenLDAP server.
fn company() -> Option<(Company, Slapd)> {
    if !slapd::is_available() || !require("script") {
        return None;
    }
    let company = Company::generate(20_261_126, 400);
    let slapd = Slapd::start(&company.ldif(Dialect::OpenLdap));
    Some((company, slapd))
}

/// The questions up to the account, for a server that is not trusted yet.
fn up_to_the_account<'dialogue>(
    dialogue: &'dialogue mut Dialogue,
    slapd: &Slapd,
) -> &'dialogue mut Dialogue {
    dialogue
        .answer("Gateway", "postfix")
        .answer("Directory server", &slapd.ldaps_url())
        .wait_for("not trusted: nobody knows who issued its certificate")
        .answer("Paste what", &fingerprint(&slapd.ca_file()))
        .wait_for("trusted")
        .answer("Sign in by", "")
}

/// The questions behind the account.
fn behind_the_account<'dialogue>(
    dialogue: &'dialogue mut Dialogue,
    program: &Rcptsync,
) -> &'dialogue mut Dialogue {
    dialogue
        .answer("Where to search", "")
        .answer("Domains of the table", "example.com")
        .answer("Table: its path", program.table().to_str().expect("text"))
        .answer("Its type", "cdb")
        .answer("Local parts", "")
        .answer("Canaries", "none")
}

#[test]
fn a_person_is_led_from_nothing_to_a_table() {
    let Some(samba) = samba::shared().filter(|_| require("script")) else {
        return;
    };
    let program = alone("dialogue");
    let canary = samba.company.some_user(0).1;
    let others = common::temp_dir("authority");
    let other_authority = Authority::new(others.path(), "Somebody else").file();
    let mut dialogue = Dialogue::start(&program, &["init"]);
    dialogue
        .answer("Gateway", "courier")
        .wait_for("no: \"courier\" is none of them")
        .answer("Gateway", "")
        .answer("Directory server", "dc1.nowhere.invalid")
        .wait_for("no: the connection failed")
        .wait_for("the name cannot be resolved")
        .answer("Directory server", "ldaps://127.0.0.1:1")
        .wait_for("no connection: Connection refused")
        .answer("Directory server", &samba.ldaps_url())
        .wait_for("certificate 1 of 1")
        .wait_for("issuer CN=Authority of a Samba domain")
        .wait_for("names dc1.corp.example, localhost")
        .wait_for("does not send the certificate of its authority")
        .answer("PEM file with it", "yes")
        .wait_for("no: the server does not show a certificate that could be saved")
        .answer("PEM file with it", "/nowhere/ca.pem")
        .wait_for("no: that is no file with the certificate of an authority")
        .wait_for("No such file or directory")
        .answer("PEM file with it", other_authority.to_str().expect("text"))
        .wait_for("no: the TLS handshake failed")
        .answer("PEM file with it", samba.ca_file().to_str().expect("text"))
        .answer("Sign in by", "simple")
        .answer("Account", ACCOUNT)
        .answer("not shown", WRONG)
        .wait_for("(52e)")
        .wait_for("This is attempt 2 of 2")
        .answer("Account", "")
        .answer("not shown", &password(&samba.password_file()))
        .wait_for("a Samba domain controller")
        .wait_for("DirSync")
        .answer("Where to search", "OU=Nowhere,DC=corp,DC=example")
        .wait_for("noSuchObject (32)")
        .answer("Where to search", "not a name")
        .answer("Where to search", "")
        .wait_for("1,000 objects on the first page, and more follow")
        .wait_for("user mailbox")
        .wait_for("left out: Exchange's own")
        .wait_for("1 example.com")
        .answer("Domains of the table", "99")
        .wait_for("no: there is no domain 99 in the list")
        .answer("Domains of the table", "1")
        .answer("Table: its path", "tables/relative")
        .wait_for("no: an absolute path")
        .answer("Table: its path", program.table().to_str().expect("text"))
        .answer("Its type", "dbm")
        .wait_for("no: one of cdb, lmdb, hash, btree")
        .answer("Its type", "cdb")
        .answer("Local parts", "postmaster@example.com")
        .wait_for("name the local part alone")
        .answer("Local parts", "")
        .answer("Canaries", "nobody-at-all@example.com")
        .wait_for("no: nobody in the directory has nobody-at-all@example.com")
        .answer("Canaries", &canary)
        .answer("The password goes into a new file", "");
    assert_eq!(written(&program), [""; 0]);
    write_file(&program.directory().join("taken.toml"), "mine");
    dialogue
        .answer(
            "Write it to",
            program
                .directory()
                .join("taken.toml")
                .to_str()
                .expect("text"),
        )
        .wait_for("nothing is overwritten")
        .answer("Write it to", "");
    let ended = dialogue.end();
    assert_eq!(ended.code, 0, "{}", ended.shown);
    let shown = anstream::adapter::strip_str(&ended.shown).to_string();
    for words in [
        ": good\n",
        " doctor\n",
        " diff\n",
        " init postfix --install\n",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    for secret in [WRONG, &password(&samba.password_file())] {
        assert!(!ended.shown.contains(secret), "{}", ended.shown);
    }
    // Nothing is wider than the terminal, but for what was typed or cannot be broken.
    let wide: Vec<&str> = ended
        .shown
        .lines()
        .filter(|line| line.chars().count() > 80)
        .collect();
    assert!(wide.iter().all(|line| line.contains('/')), "{wide:#?}");

    let names = ["corp.password", "rcptsync.toml", "taken.toml"];
    assert_eq!(written(&program), names);
    let mode = |name: &str| {
        let found = program
            .directory()
            .join(name)
            .metadata()
            .expect("it is there");
        found.permissions().mode() & 0o777
    };
    assert_eq!(names.map(mode), [0o600, 0o644, 0o644]);
    let owner = program.directory().metadata().expect("our directory").uid();
    let secret = program.directory().join("corp.password");
    assert_eq!(secret.metadata().expect("it is there").uid(), owner);
    publishes(&program);
}

#[test]
fn a_password_is_tried_twice_and_no_more() {
    let Some(samba) = samba::shared().filter(|_| require("script")) else {
        return;
    };
    let program = alone("dialogue-password");
    let ca_file = samba.ca_file().display().to_string();
    let url = samba.ldaps_url();
    let options = [
        "init",
        "pmg",
        "--server",
        &url,
        "--ca-file",
        &ca_file,
        "--method",
        "simple",
    ];
    let mut dialogue = Dialogue::start(&program, &[&options[..], &["--name", ACCOUNT]].concat());
    dialogue
        .wait_for("trusted")
        .answer("not shown", "")
        .wait_for("an empty password would sign in as nobody")
        .answer("not shown", WRONG)
        .wait_for("attempt 2 of 2")
        .answer("Account", "")
        .answer("not shown", WRONG);
    let ended = dialogue.end();
    assert_eq!(ended.code, 77, "{}", ended.shown);
    assert!(
        ended.shown.contains("nothing was written"),
        "{}",
        ended.shown
    );
    assert_eq!(written(&program), [""; 0]);
}

#[test]
fn whoever_leaves_leaves_nothing() {
    let Some((_, slapd)) = company() else {
        return;
    };
    const CTRL_C: &str = "\u{3}";
    const CTRL_D: &str = "\u{4}";
    let program = alone("dialogue-left");
    let left = |dialogue: &mut Dialogue, why: &str| {
        let ended = dialogue.end();
        assert_eq!(ended.code, 64, "{}", ended.shown);
        assert!(ended.shown.contains(why), "{}", ended.shown);
        assert!(
            ended.shown.contains("nothing was written"),
            "{}",
            ended.shown
        );
        assert_eq!(written(&program), [""; 0]);
    };
    for (key, why) in [(CTRL_C, "Ctrl-C"), (CTRL_D, "the input has ended")] {
        let mut dialogue = Dialogue::start(&program, &["init"]);
        dialogue.wait_for("Gateway").wait_for(">").press(key);
        left(&mut dialogue, why);

        // In the middle of a word, and where it is not shown.
        let mut dialogue = Dialogue::start(&program, &["init"]);
        let at_account = up_to_the_account(&mut dialogue, &slapd).answer("Account", slapd::ACCOUNT);
        at_account.wait_for("not shown").wait_for(">");
        at_account.press(if key == CTRL_C { "half a\u{3}" } else { key });
        left(&mut dialogue, why);

        let mut dialogue = Dialogue::start(&program, &["init"]);
        let at_account = up_to_the_account(&mut dialogue, &slapd)
            .answer("Account", slapd::ACCOUNT)
            .answer("not shown", &password(&slapd.password_file()));
        behind_the_account(at_account, &program)
            .answer("The password goes into", "")
            .wait_for("Write it to")
            .wait_for(">")
            .press(key);
        left(&mut dialogue, why);
    }
}

/// The options that answer every question about this server.
fn every_answer(program: &Rcptsync, company: &Company, slapd: &Slapd) -> Vec<String> {
    let text = |path: PathBuf| path.display().to_string();
    let pairs = [
        ("--server", slapd.ldaps_url()),
        ("--ca-file", text(program.directory().join("authority.pem"))),
        ("--ca-fingerprint", fingerprint(&slapd.ca_file())),
        ("--method", "simple".to_owned()),
        ("--name", slapd::ACCOUNT.to_owned()),
        ("--password-file", text(slapd.password_file())),
        ("--base", BASE.to_owned()),
        ("--domain", "example.com".to_owned()),
        ("--table-path", text(program.table())),
        ("--map-type", "cdb".to_owned()),
        ("--always", "postmaster".to_owned()),
        ("--must-contain", company.some_user(0).1),
        ("--output", text(program.config_file())),
    ];
    let options = pairs
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value]);
    ["init".to_owned(), "postfix".to_owned()]
        .into_iter()
        .chain(options)
        .collect()
}

#[test]
fn every_question_is_an_option_too() {
    let Some((company, slapd)) = company() else {
        return;
    };
    let program = alone("dialogue-options");
    let all = every_answer(&program, &company, &slapd);
    let all: Vec<&str> = all.iter().map(String::as_str).collect();

    let mut dialogue = Dialogue::start(&program, &all);
    let ended = dialogue.end();
    assert_eq!(ended.code, 0, "{}", ended.shown);
    assert!(!ended.shown.contains("> "), "{}", ended.shown);
    assert_eq!(written(&program), ["authority.pem", "rcptsync.toml"]);
    publishes(&program);

    // The same without a terminal; and one after the other is missing or wrong.
    let without = |name: &'static str| {
        let at = all
            .iter()
            .position(|word| *word == name)
            .expect("an option");
        let mut rest = all.clone();
        rest.drain(at..at + 2);
        rest.push("--try");
        rest
    };
    let with = |name: &'static str, value: &'static str| {
        let mut other = without(name);
        other.extend([name, value]);
        other
    };
    let saved = program.directory().join("authority.pem");
    let config = program.config_file();
    let check = |arguments: &[&str], code: i32, told: &[&str]| {
        std::fs::remove_file(&saved).ok();
        std::fs::remove_file(&config).ok();
        let outcome = program.run(arguments).expect_code(code);
        for told in told {
            assert!(outcome.stderr.contains(told), "{told}: {}", outcome.stderr);
        }
        assert_eq!(config.exists(), code == 0);
        assert_eq!(saved.exists(), code == 0);
    };
    let other = "0".repeat(64);
    let other: &'static str = other.leak();
    check(
        &with("--always", "postmaster"),
        0,
        &["certificate 2 of 2", "trusted"],
    );
    check(&without("--always"), 0, &[]);
    check(&without("--must-contain"), 0, &[]);
    check(
        &without("--server"),
        64,
        &["--server or --discover", "nobody can be asked"],
    );
    check(&without("--ca-fingerprint"), 78, &["ca_file"]);
    check(
        &with("--ca-fingerprint", other),
        77,
        &["is not the authority"],
    );
    check(&without("--password-file"), 64, &["--password-file"]);
    check(&with("--domain", "*"), 64, &["a wildcard"]);
    check(
        &with("--base", "OU=Nowhere,DC=corp,DC=example"),
        75,
        &["noSuchObject"],
    );
    check(
        &with("--must-contain", "nobody-at-all@example.com"),
        64,
        &["nobody in the directory"],
    );
    check(
        &with("--server", "ldaps://127.0.0.1:1"),
        75,
        &["Connection refused"],
    );
    let wrong = program.directory().join("wrong.password");
    write_file(&wrong, WRONG);
    set_mode(&wrong, 0o600);
    let wrong: &'static str = wrong.display().to_string().leak();
    check(
        &with("--password-file", wrong),
        77,
        &["invalidCredentials (49)"],
    );
    write_file(&config, "mine");
    let told = program.run(&with("--always", "postmaster")).expect_code(73);
    assert!(
        told.stderr.contains("nothing is overwritten"),
        "{}",
        told.stderr
    );
    assert!(!saved.exists());
}

#[test]
fn a_fingerprint_is_compared_and_there_is_no_exchange() {
    let Some((_, slapd)) = company() else {
        return;
    };
    let program = alone("dialogue-slapd");
    let mut dialogue = Dialogue::start(&program, &["init", "exim"]);
    dialogue
        .answer("Directory server", &slapd.ldap_url())
        .wait_for("not trusted")
        .wait_for("certificate 2 of 2")
        .wait_for("subject CN=Authority of an OpenLDAP server")
        .wait_for("issuer itself")
        .answer("Paste what", &"00".repeat(32))
        .wait_for("no: that is not the authority whose certificate the server shows")
        .answer("Paste what", "no")
        .wait_for("no: that is no file with the certificate of an authority")
        .answer("Paste what", "yes")
        .answer("Sign in by", "sometimes")
        .wait_for("no: \"sometimes\" is none of them")
        .answer("Sign in by", "simple")
        .answer("Account", slapd::ACCOUNT)
        .answer("not shown", &password(&slapd.password_file()))
        .wait_for("OpenLDAP")
        .answer("Where to search", BASE)
        .answer("Domains of the table", "exchange")
        .wait_for("no accepted domain is visible")
        .answer("Domains of the table", "postfix")
        .wait_for("no Postfix is configured on this machine")
        .answer("Domains of the table", "example.com")
        .answer("Table: its path", program.table().to_str().expect("text"))
        .answer("Local parts", "")
        .answer("Canaries", "none")
        .answer("The password goes into", "")
        .answer("Write it to", "");
    let ended = dialogue.end();
    assert_eq!(ended.code, 0, "{}", ended.shown);
    assert!(ended.shown.contains("init exim --print"), "{}", ended.shown);
    assert_eq!(
        written(&program),
        ["corp-ca.pem", "corp.password", "rcptsync.toml"]
    );
    let saved = program.directory().join("corp-ca.pem");
    assert_eq!(fingerprint(&saved), fingerprint(&slapd.ca_file()));
    let text = std::fs::read_to_string(program.config_file()).expect("it was written");
    for line in [
        "starttls = true",
        "base = [\"DC=corp,DC=example\"]",
        &format!("ca_file = \"{}\"", saved.display()),
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(!text.contains("FILL IN"), "{text}");
    publishes(&program);
}

/// The typed password becomes a credential of the shipped unit, and the commands that are named next work as they stand there.
#[test]
fn what_is_named_next_works_under_systemd() {
    let Some((_, slapd)) = company() else {
        return;
    };
    let Some(machine) = Machine::with_program("init") else {
        return;
    };
    let directory = slapd.password_file();
    let directory = directory.parent().expect("a file has a parent");
    let secret = password(&slapd.password_file());
    let database = machine.path(directory.to_str().expect("text"));
    // What it holds lies there since it was filled; only the one in the machine is asked.
    succeed(command("cp").arg("-a").args([directory, &database]));
    machine.succeed(&format!(
        "slapd -f {}/slapd.conf -h ldaps://127.0.0.1/",
        directory.display()
    ));
    let answers = [
        "postfix",
        "127.0.0.1",
        "yes",
        "",
        slapd::ACCOUNT,
        &secret,
        BASE,
        "example.com",
        "",
        "cdb",
        "",
        "none",
        "",
        "",
    ];
    machine.write("/root/answers", answers.join("\n") + "\n");
    let shown = machine.succeed("script -qec 'rcptsync init' /dev/null < /root/answers");
    // All of it was typed ahead, so the terminal showed it before the program began.
    let (_, shown) = shown
        .split_once("A configuration in a few questions")
        .expect("it began");
    assert!(!shown.contains(&secret), "{shown}");
    let config = machine
        .succeed("cat /etc/rcptsync/rcptsync.toml; stat -c '%U %a' /etc/rcptsync/corp.password");
    assert!(
        config.contains("credential = \"corp.password\""),
        "{config}"
    );
    assert!(config.ends_with("root 600\n"), "{config}");

    machine.succeed(
        "printf '[domain.\"example.com\"]\\ndirectory_is_complete = true\\n' >> /etc/rcptsync/rcptsync.toml",
    );
    let shown = shown.replace("\r\n", "\n").replace("\\\n", "");
    let named = |verb: &str| {
        let mut lines = shown.lines().map(str::trim);
        let line = lines.find(|line| line.starts_with("system") && line.contains(verb));
        assert!(line.is_some(), "{verb}: {shown}");
        line.unwrap_or_default().to_owned()
    };
    let diff = machine.run(&format!("script -qec '{}' /dev/null", named(" diff")));
    let said = String::from_utf8_lossy(&diff.stdout);
    assert_eq!(diff.status.code(), Some(2), "{said}");
    machine.succeed(&named("rcptsync.timer"));
    machine.succeed("rcptsync init postfix --install && systemctl is-active rcptsync.timer");
    let known = machine
        .succeed("postmap -q postmaster@example.com cdb:/var/lib/rcptsync/tables/relay_recipients");
    assert_eq!(known, "OK\n");
}

#[test]
fn without_a_terminal_nothing_is_asked_or_tried() {
    let program = alone("dialogue-nobody");
    let nobody = program.run(&["init"]).expect_code(64);
    nobody.expect_answers(&["no gateway is named"]);
    let printed = program.run(&["init", "postfix"]).expect_code(0);
    assert!(printed.stdout.contains("FILL IN"), "{}", printed.stdout);

    // On a terminal, too, where that is wanted.
    if require("script") {
        let mut dialogue = Dialogue::start(&program, &["init", "postfix", "--print"]);
        let ended = dialogue.end();
        assert_eq!(ended.code, 0);
        assert!(ended.shown.contains("FILL IN"), "{}", ended.shown);
    }
    assert_eq!(written(&program), [""; 0]);
}
