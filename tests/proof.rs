//! Proof after publishing: what a real Postfix answers decides whether a generation stays.

mod common;

use common::plain::STAFF;
use common::postfix::{self, Gateway, Options};
use common::process::command;
use common::rcptsync::Rcptsync;
use common::write_file;

/// An installation whose hook copies the table to a second gateway, which is asked after each publication. The hook loses
/// every line that holds what the file `lost` says.
struct Copied {
    program: Rcptsync,
    gateway: Gateway,
}

impl Copied {
    fn new(options: &Options) -> Copied {
        let program = Rcptsync::new("proof");
        let copy = program.directory().join("copy");
        // A gateway does not start without its table.
        write_file(&copy, "nobody@example.com OK\n");
        let instance = postfix::Instance::for_postmap(true);
        instance.postmap_build("cdb", &copy);
        let gateway = Gateway::start(&copy, "cdb", options);
        let script = format!(
            "#!/bin/sh\nset -e\ncd {}\ntest ! -e failing\ntouch lost\n\
             grep -v -F -f lost tables/relay_recipients | grep -v '^#' > copy || true\n\
             postmap -c {} cdb:copy\n",
            program.directory().display(),
            gateway.config_directory().display()
        );
        let hook = program.directory().join("copy.sh");
        write_file(&hook, script);
        let copied = Copied { program, gateway };
        copied.configure(&format!("127.0.0.1:{}", copied.gateway.port()));
        copied
    }

    fn configure(&self, smtp: &str) {
        let hook = self.program.directory().join("copy.sh");
        let more = format!(
            "[verify]\nsmtp = \"{smtp}\"\npostmap = false\ntimeout = \"20s\"\npatience = \"550ms\"\n\
             [[hook]]\nname = \"copy\"\nrun = [\"/bin/sh\", \"{}\"]\n",
            hook.display()
        );
        self.program.configure(&["example.com"], STAFF, &more);
    }

    fn lose(&self, what: &str) {
        write_file(&self.program.directory().join("lost"), what);
    }
}

#[test]
fn a_gateway_that_answers_as_the_table_says_is_no_news() {
    if !postfix::is_available() {
        return;
    }
    let copied = Copied::new(&Options::default());
    for names in ["anna bob", "anna bob cleo"] {
        copied.program.staff(names);
        let outcome = copied.program.run(&["sync"]).expect_code(0);
        assert!(!outcome.stderr.contains("verify"), "{}", outcome.stderr);
    }
}

#[test]
fn a_contradiction_puts_the_generation_before_back() {
    if !postfix::is_available() {
        return;
    }
    let copied = Copied::new(&Options::default());
    let program = &copied.program;
    program.staff("anna bob");
    program.run(&["sync"]).expect_code(0);
    program.staff("anna bob cleo");
    copied.lose("bob@");
    let outcome = program.run(&["sync"]).expect_code(69);
    outcome.expect_answers(&[
        "generation 2 was published, and gateways contradict it",
        "refuses bob@example.com, which the table has",
        "the rows of generation 1 are back, and the change is held",
    ]);
    assert_eq!(program.keys(), "anna bob");
    let status = program.run(&["status", "--format", "json"]).json();
    assert_eq!(status["runs"][0]["generation"], status["generation"]);
    let (holds, digests) = program.holds();
    assert_eq!(holds, ["proof generation 2: +cleo"]);
    // Not tried again until somebody says so.
    program.run_untouching(&["sync"], 65);
    copied.lose("nobody");
    program.run_untouching(&["sync"], 65);
    program.run(&["approve", &digests[0]]).expect_code(0);
    program.run(&["sync"]).expect_code(0);
    assert_eq!(program.keys(), "anna bob cleo");
    assert_eq!(
        copied.gateway.rcpt_codes(&["cleo@example.com"]),
        [(250, 1)].into()
    );
    let history = program.run(&["history"]);
    let line = "put back after a contradiction: +0 -1";
    assert!(history.stdout.contains(line), "{}", history.stdout);
}

/// smtpd keeps its connection to proxymap, which answers from the old table for as long.
#[test]
fn a_gateway_that_learns_of_it_later_is_asked_again() {
    if !postfix::is_available() {
        return;
    }
    let program = Rcptsync::plain("proof", STAFF, "");
    program.staff("anna bob");
    program.run(&["sync"]).expect_code(0);
    let options = Options {
        relay_domains: vec!["example.com".into()],
        ..Options::default()
    };
    let gateway = Gateway::start(&program.table(), "proxy:cdb", &options);
    let smtp = format!("127.0.0.1:{}", gateway.port());
    let more = format!("[verify]\nsmtp = \"{smtp}\"\npostmap = false\n");
    program.configure(&["example.com"], STAFF, &more);
    program.staff("anna bob cleo");
    let outcome = program.run(&["sync"]).expect_code(0);
    assert_eq!(program.keys(), "anna bob cleo", "{}", outcome.stderr);
}

#[test]
fn what_the_generation_before_shows_as_well_is_a_warning() {
    if !postfix::is_available() {
        return;
    }
    // It never looks into a table of recipients.
    let options = Options {
        more: vec![("relay_recipient_maps", String::new())],
        ..Options::default()
    };
    let copied = Copied::new(&options);
    copied.program.staff("anna bob");
    let accepts = "accepts addresses in example.com that nobody has";
    // There is no generation to go back to.
    let first = copied.program.run(&["sync"]).expect_code(69);
    first.expect_answers(&[accepts, "the tables of generation 1 stay"]);
    copied.program.staff("anna bob cleo");
    let outcome = copied.program.run(&["sync"]).expect_code(0);
    let warning = format!("{accepts}, as before this generation");
    assert!(outcome.stderr.contains(&warning), "{}", outcome.stderr);
    assert_eq!(copied.program.keys(), "anna bob cleo");
}

#[test]
fn delays_and_silence_are_warnings() {
    if !postfix::is_available() {
        return;
    }
    let restrictions =
        "reject_unlisted_recipient, check_recipient_access static:{450 4.2.0 Greylisted}";
    let options = Options {
        more: vec![("smtpd_recipient_restrictions", restrictions.into())],
        ..Options::default()
    };
    let copied = Copied::new(&options);
    copied.program.staff("anna bob");
    let outcome = copied.program.run(&["sync"]).expect_code(0);
    assert!(
        outcome
            .stderr
            .contains("decides nothing about anna@example.com"),
        "{}",
        outcome.stderr
    );
    // Nobody listens there.
    copied.configure("127.0.0.1:1");
    copied.program.staff("anna bob cleo");
    let outcome = copied.program.run(&["sync"]).expect_code(0);
    assert!(outcome.stderr.contains("verify: "), "{}", outcome.stderr);
    assert_eq!(copied.program.keys(), "anna bob cleo");
}

#[test]
fn a_proof_waits_for_its_hooks() {
    if !postfix::is_available() {
        return;
    }
    let copied = Copied::new(&Options::default());
    let program = &copied.program;
    program.staff("anna bob");
    program.run(&["sync"]).expect_code(0);
    write_file(&program.directory().join("failing"), "");
    program.staff("anna bob cleo");
    let outcome = program.run(&["sync"]).expect_code(69);
    assert!(
        outcome
            .stderr
            .contains("gateways are asked once every hook has succeeded")
    );
    assert_eq!(program.keys(), "anna bob cleo");
    // Now it succeeds, and copies wrongly.
    std::fs::remove_file(program.directory().join("failing")).expect("our own file");
    copied.lose("anna@");
    let outcome = program.run(&["sync"]).expect_code(69);
    outcome.expect_answers(&[
        "refuses anna@example.com",
        "the rows of generation 1 are back",
    ]);
    assert_eq!(program.keys(), "anna bob");
}

#[test]
fn what_cannot_be_put_back_now_is_put_back_by_the_next_run() {
    if !postfix::is_available() {
        return;
    }
    let copied = Copied::new(&Options::default());
    let program = &copied.program;
    program.staff("anna bob");
    program.run(&["sync"]).expect_code(0);
    // Nothing can be written beside the table from the hook on.
    let blocking = program
        .directory()
        .join("tables/.relay_recipients.rcptsync-new");
    let hook = program.directory().join("copy.sh");
    let script = std::fs::read_to_string(&hook).expect("our own file");
    write_file(&hook, format!("{script}mkdir -p {}\n", blocking.display()));
    program.staff("anna bob cleo");
    copied.lose("bob@");
    let outcome = program.run(&["sync"]).expect_code(73);
    outcome.expect_answers(&[
        "refuses bob@example.com",
        "the tables of generation 2 stay",
        "the next run goes back",
        "a table could not be written",
    ]);
    assert_eq!(program.keys(), "anna bob cleo");
    write_file(&hook, script);
    std::fs::remove_dir(&blocking).expect("a directory of our own");
    let outcome = program.run(&["sync"]).expect_code(69);
    outcome.expect_answers(&["the rows of generation 1 are back"]);
    assert_eq!(program.keys(), "anna bob");
    program.run_untouching(&["sync"], 65);
}

#[test]
fn postmap_is_asked_for_the_published_files() {
    if !postfix::is_available() {
        return;
    }
    let instance = postfix::Instance::for_postmap(true);
    let mut program = Rcptsync::plain("proof", STAFF, "");
    program.mail_config = Some(instance.config_directory());
    // Empties the index behind our back, once.
    let hook = program.directory().join("empty.sh");
    let directory = program.directory().display().to_string();
    write_file(
        &hook,
        format!(
            "#!/bin/sh\ncd {directory}\nif rm emptying; then echo | cdb -c tables/relay_recipients.cdb; fi\ntrue\n"
        ),
    );
    let more = format!(
        "[verify]\n[[hook]]\nname = \"empty\"\nrun = [\"/bin/sh\", \"{}\"]\n",
        hook.display()
    );
    program.configure(&["example.com"], STAFF, &more);
    program.staff("anna bob");
    program.run(&["sync"]).expect_code(0);
    write_file(&program.directory().join("emptying"), "");
    program.staff("anna bob cleo");
    let outcome = program.run(&["sync"]).expect_code(69);
    let cdb = format!("cdb:{}", program.table().display());
    outcome.expect_answers(&[
        &format!("{cdb} does not have anna@example.com"),
        "the rows of generation 1 are back",
    ]);
    let found = instance.postmap(&["-q", "anna@example.com", &cdb]);
    assert_eq!(String::from_utf8_lossy(&found.stdout), "OK\n");
    assert_eq!(program.keys(), "anna bob");
    // What stood there is kept.
    let kept = command("find")
        .arg(program.state_dir())
        .output()
        .expect("find runs");
    assert!(
        String::from_utf8_lossy(&kept.stdout).contains("relay_recipients.cdb"),
        "{kept:?}"
    );
    program.run_untouching(&["sync"], 65);
}
