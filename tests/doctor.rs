//! `doctor`: what is set up rightly gives no finding, and every fault gives its own and no other.
//!
//! Each row seeds one fault into an installation that is right, with a real Postfix behind it: its `postconf` and `postmap`
//! answer, from a main.cf of its own.

mod common;

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use common::plain::STAFF;
use common::postfix::{self, Instance, Options};
use common::process::{command, succeed};
use common::rcptsync::Rcptsync;
use common::{set_mode, write_file};
use rcptsync::state::State;
use rcptsync::time::Timestamp;

const MORE: &str = "[recipients]\nalways = [\"postmaster\"]\n";

/// An installation and the Postfix of its machine.
struct Setup {
    program: Rcptsync,
    postfix: Instance,
}

impl Setup {
    /// Everything as it should be.
    fn right() -> Setup {
        let mut program = Rcptsync::plain("doctor", STAFF, MORE);
        program.staff("anna bert");
        let options = Options {
            relay_domains: vec!["example.com".into()],
            ..Options::default()
        };
        let map = format!("cdb:{}", program.table().display());
        let postfix = Instance::for_settings(&map, &options);
        program.mail_config = Some(postfix.config_directory());
        program.run(&["sync"]).expect_code(0);
        Setup { program, postfix }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.program.directory().join(name)
    }

    fn set(&self, name: &str, value: &str) {
        self.postfix.set(name, value);
    }

    /// Replaces master.cf by smtpd services, each followed by its options.
    fn services(&self, services: &[&str]) {
        let lines: String = services.iter().map(|line| format!("{line}\n")).collect();
        write_file(&self.postfix.config_directory().join("master.cf"), lines);
    }

    /// A table of Postfix with these lines.
    fn table(&self, name: &str, kind: &str, lines: &str) -> String {
        let path = self.at(name);
        write_file(&path, lines);
        if !matches!(kind, "texthash" | "regexp") {
            self.postfix.postmap_build(kind, &path);
        }
        format!("{kind}:{}", path.display())
    }

    fn reconfigure(&self, sources: &str, more: &str) {
        self.program.configure(&["example.com"], sources, more);
    }

    /// What is found: `error relay_recipient_maps`, in the order of the report.
    fn found(&self) -> Vec<String> {
        self.program.run(&["doctor", "--format", "json"]).findings()
    }
}

/// One fault gives these findings and no other; `expected` is a list separated by commas.
#[track_caller]
fn check(fault: impl FnOnce(&Setup), expected: &str) {
    let setup = Setup::right();
    fault(&setup);
    let expected: Vec<&str> = expected
        .split(", ")
        .filter(|name| !name.is_empty())
        .collect();
    let found = setup.found();
    let told = || {
        let told = setup.program.run(&["doctor"]);
        format!("{}{}", told.stdout, told.stderr)
    };
    assert!(
        found == expected,
        "found {found:?}, expected {expected:?}\n{}",
        told()
    );
}

#[test]
fn what_is_right_gives_no_finding() {
    if !postfix::is_available() {
        return;
    }
    let setup = Setup::right();
    assert_eq!(
        setup.found(),
        Vec::<String>::new(),
        "{}",
        setup.program.run(&["doctor"]).stdout
    );
    let told = setup.program.run_untouching(&["doctor"], 0);
    assert!(
        told.stdout
            .starts_with("0 errors, 0 warnings, 0 notes from "),
        "{}",
        told.stdout
    );
}

/// Nothing else than what is right.
const NOTHING: &str = "";

#[test]
fn faults_in_what_postfix_asks() {
    if !postfix::is_available() {
        return;
    }
    let maps = "relay_recipient_maps";
    let ours = |setup: &Setup| setup.program.table().display().to_string();
    let more_maps = |setup: &Setup, more: &str| {
        let value = format!("cdb:{}, {more}", ours(setup));
        setup.set(maps, &value);
    };
    check(|setup| setup.set(maps, ""), "error relay_recipient_maps");
    check(
        |setup| {
            let rows = "anna@example.com OK\npostmaster@example.com OK\n";
            let other = setup.table("other", "hash", rows);
            setup.set(maps, &other);
        },
        "error relay_recipient_maps",
    );
    check(
        |setup| setup.set(maps, &format!("cdb:{}.cdb", ours(setup))),
        "error relay_recipient_maps, error map_opens",
    );
    check(
        |setup| setup.set(maps, &format!("hash:{}", ours(setup))),
        "error relay_recipient_maps, error map_opens",
    );
    check(
        |setup| {
            setup.postfix.postmap_build("hash", &setup.program.table());
            let map = format!("hash:{}", ours(setup));
            setup.set(maps, &map);
            let run = format!("run = [\"/usr/sbin/postmap\", \"{map}\"]");
            setup.reconfigure(STAFF, &format!("{MORE}[[hook]]\nname = \"build\"\n{run}\n"));
        },
        "warning relay_recipient_maps",
    );
    check(
        |setup| more_maps(setup, "nosuch:/nonexistent/table"),
        "error map_type",
    );
    check(
        |setup| {
            let other = setup.table("other", "hash", "x@example.com OK\n");
            more_maps(setup, &other);
            // A parameter of 3.11; an older one shows it where another refers to it.
            setup.set("smtpd_banner", "$myhostname ESMTP $non_bdb_migration_level");
            setup.set("non_bdb_migration_level", "enable-redirect");
        },
        "warning map_type",
    );
    check(
        |setup| {
            write_file(&setup.at("broken.cdb"), "no table");
            more_maps(setup, &format!("cdb:{}", setup.at("broken").display()));
        },
        "error map_opens",
    );
    check(
        |setup| {
            // As a program writes it that folds nothing.
            write_file(
                &setup.at("rows"),
                "Anna@example.com OK\npostmaster@example.com OK\n",
            );
            let made = setup.program.table_cdb();
            succeed(
                command("cdb")
                    .args(["-c", "-m"])
                    .arg(made)
                    .arg(setup.at("rows")),
            );
        },
        "error map_opens, warning table_content",
    );
    check(
        |setup| {
            let text = std::fs::File::options()
                .append(true)
                .open(setup.program.table());
            let later = SystemTime::now() + Duration::from_secs(60);
            text.and_then(|text| text.set_modified(later))
                .expect("a time of our own file");
        },
        "warning map_older",
    );
    check(
        |setup| setup.set("smtputf8_enable", "no"),
        "warning folding",
    );
}

#[test]
fn reloads_that_are_needed_and_others() {
    if !postfix::is_available() {
        return;
    }
    let hook = "[[hook]]\nname = \"reload\"\nrun = [\"/usr/sbin/postfix\", \"reload\"]\n";
    let text = |setup: &Setup| {
        let map = format!("texthash:{}", setup.program.table().display());
        setup.set("relay_recipient_maps", &map);
    };
    let with_hook = |setup: &Setup| setup.reconfigure(STAFF, &format!("{MORE}{hook}"));
    check(with_hook, "info reload_hook");
    let proxied = |setup: &Setup| {
        let map = format!("proxy:cdb:{}", setup.program.table().display());
        setup.set("relay_recipient_maps", &map);
    };
    for late in [&text as &dyn Fn(&Setup), &proxied] {
        check(late, "warning reload_hook");
        check(
            |setup| {
                late(setup);
                with_hook(setup);
            },
            NOTHING,
        );
    }
}

#[test]
fn faults_in_what_postfix_says() {
    if !postfix::is_available() {
        return;
    }
    let unlisted = "smtpd_reject_unlisted_recipient";
    check(
        |setup| setup.set(unlisted, "no"),
        "error unlisted_recipient",
    );
    check(
        |setup| {
            setup.set(unlisted, "no");
            setup.set("smtpd_recipient_restrictions", "reject_unlisted_recipient");
        },
        NOTHING,
    );
    let open = "smtp inet n - n - - smtpd";
    let options = "-o receive_override_options=no_unknown_recipient_checks";
    for (services, expected) in [
        (
            vec![format!("{open} -o {unlisted}=no")],
            "error unlisted_recipient",
        ),
        (
            vec![format!("{open} {options}")],
            "error unknown_recipient_checks",
        ),
        (
            vec![format!("smtpd pass - - n - - smtpd {options}")],
            "error unknown_recipient_checks",
        ),
        // Behind a content filter, and for those who log in.
        (
            vec![
                open.to_owned(),
                format!("127.0.0.1:10025 inet n - n - - smtpd {options}"),
                format!("submission inet n - n - - smtpd {options}"),
            ],
            NOTHING,
        ),
        (
            vec![format!("{open} -o soft_bounce=yes")],
            "error soft_bounce",
        ),
    ] {
        let lines: Vec<&str> = services.iter().map(String::as_str).collect();
        check(|setup| setup.services(&lines), expected);
    }
    let empty = "-o relay_recipient_maps=";
    check(
        |setup| setup.services(&[&format!("{open} {empty}")]),
        "error relay_recipient_maps",
    );
    let filter = format!("127.0.0.1:10025 inet n - n - - smtpd {empty}");
    check(|setup| setup.services(&[open, &filter]), NOTHING);
    // One says so itself, and the other does not.
    check(
        |setup| {
            setup.set(unlisted, "no");
            let explicit =
                format!("{open} -o smtpd_recipient_restrictions=reject_unlisted_recipient");
            setup.services(&[&explicit, "smtpd pass - - n - - smtpd"]);
        },
        "error unlisted_recipient",
    );
    check(
        |setup| setup.set("receive_override_options", "no_unknown_recipient_checks"),
        "error unknown_recipient_checks",
    );
    let code = "unknown_relay_recipient_reject_code";
    check(|setup| setup.set(code, "450"), "error reject_code");
    check(|setup| setup.set(code, "551"), "warning reject_code");
    check(|setup| setup.set("soft_bounce", "yes"), "error soft_bounce");
}

#[test]
fn what_comes_before_the_refusal() {
    if !postfix::is_available() {
        return;
    }
    let restrictions = "smtpd_recipient_restrictions";
    let set = |value: &'static str| move |setup: &Setup| setup.set(restrictions, value);
    let policy = "check_policy_service inet:127.0.0.1:10023";
    check(
        |setup| setup.set(restrictions, policy),
        "info refusal_order",
    );
    check(
        |setup| setup.set("smtpd_client_restrictions", policy),
        "info refusal_order",
    );
    check(
        |setup| {
            setup.set(
                restrictions,
                &format!("reject_unlisted_recipient, {policy}"),
            )
        },
        NOTHING,
    );
    check(
        set("reject_unverified_recipient"),
        "warning callout_codes, info refusal_order",
    );
    check(
        |setup| {
            set("reject_unlisted_recipient, reject_unverified_recipient")(setup);
            setup.set("unverified_recipient_reject_code", "550");
        },
        NOTHING,
    );
    check(
        |setup| {
            set("reject_unlisted_recipient, reject_unverified_recipient")(setup);
            setup.set("unverified_recipient_reject_code", "550");
            setup.set("unverified_recipient_defer_code", "250");
        },
        "error callout_codes",
    );
    check(
        |setup| {
            let rows = "example.com reject_unverified_recipient\n";
            let access = setup.table("callout", "hash", rows);
            setup.set(restrictions, &format!("check_recipient_access {access}"));
        },
        "warning callout_codes",
    );
}

#[test]
fn faults_in_the_domains() {
    if !postfix::is_available() {
        return;
    }
    let more_maps = |setup: &Setup, kind: &str, rows: &str| {
        let map = setup.table("more", kind, rows);
        let ours = setup.program.table().display().to_string();
        setup.set("relay_recipient_maps", &format!("cdb:{ours}, {map}"));
    };
    check(
        |setup| more_maps(setup, "hash", "@example.com OK\n"),
        "error wildcards",
    );
    check(
        |setup| more_maps(setup, "regexp", "/@example\\.com$/ OK\n"),
        "error wildcards, info domains_without_recipients",
    );
    check(
        |setup| setup.set("relay_domains", "example.com, example.org"),
        "error domains_without_recipients",
    );
    check(
        |setup| setup.set("relay_domains", ""),
        "warning domains_not_relayed",
    );
    check(
        |setup| {
            let patterns = setup.table("patterns", "regexp", "/^example\\.com$/ x\n");
            setup.set("relay_domains", &patterns);
        },
        "info domains_without_recipients, info domains_not_relayed",
    );
    check(
        |setup| {
            setup
                .program
                .configure(&["example.com", "example.net"], STAFF, MORE)
        },
        "warning domains_not_relayed",
    );
    check(
        |setup| {
            setup.reconfigure(STAFF, "");
            setup.program.run(&["sync"]).expect_code(0);
        },
        "warning postmaster",
    );
    let forms = ["bücher.example", "xn--bcher-kva.example"];
    let international = |setup: &Setup, relay_domains: &str| {
        setup
            .program
            .configure(&["example.com", "bücher.example"], STAFF, MORE);
        setup.program.run(&["sync"]).expect_code(0);
        setup.set("relay_domains", &format!("example.com, {relay_domains}"));
    };
    for form in forms {
        check(|setup| international(setup, form), "warning domain_forms");
    }
    check(|setup| international(setup, &forms.join(", ")), NOTHING);
}

#[test]
fn domains_that_a_policy_opens_are_shown() {
    if !postfix::is_available() {
        return;
    }
    let opened = |setup: &Setup| {
        let table = "formats = [\"cdb\"]\nfolding = \"unicode\"\n";
        let policies = "[domain.\"call.example\"]\npolicy = \"callout\"\n[domain.\"open.example\"]\npolicy = \"catch_all\"\n";
        let more = format!(
            "{MORE}{policies}[table.callout]\nkind = \"callout\"\npath = \"tables/callout\"\n{table}"
        );
        let domains = ["example.com", "call.example", "open.example"];
        setup.program.configure(&domains, STAFF, &more);
        setup.program.run(&["sync"]).expect_code(0);
        setup.set("relay_domains", &domains.join(", "));
        setup.set("unverified_recipient_reject_code", "550");
        setup.set(
            "address_verify_relay_transport",
            "relay:[exchange.example]:2525",
        );
        let callout = format!(
            "check_recipient_access cdb:{}",
            setup.at("tables/callout").display()
        );
        setup.set("smtpd_recipient_restrictions", &callout);
    };
    let shown = "info policies, info policies";
    check(opened, shown);
    check(
        |setup| {
            opened(setup);
            setup.set("address_verify_relay_transport", "$relay_transport");
        },
        "info policies, info policies, info policies",
    );
    check(
        |setup| {
            opened(setup);
            setup.set("unverified_recipient_reject_code", "450");
        },
        &format!("warning callout_codes, {shown}"),
    );
    check(
        |setup| {
            opened(setup);
            setup.set("smtpd_recipient_restrictions", "");
        },
        &format!("warning table_asked, {shown}"),
    );
    // One that no policy opens is a fault all the same.
    check(
        |setup| {
            opened(setup);
            let more = setup.table("more", "hash", "@example.com OK\n");
            let ours = setup.program.table().display().to_string();
            setup.set("relay_recipient_maps", &format!("cdb:{ours}, {more}"));
        },
        &format!("error wildcards, {shown}"),
    );
}

#[test]
fn every_format_that_is_set_up_rightly_gives_no_finding() {
    if !postfix::is_available() {
        return;
    }
    for format in ["hash", "btree", "lmdb"] {
        check(
            |setup| {
                let path = setup.program.config_file();
                let text = std::fs::read_to_string(&path).expect("our own file");
                write_file(&path, text.replace("\"cdb\"", &format!("\"{format}\"")));
                setup.program.run(&["sync"]).expect_code(0);
                let map = format!("{format}:{}", setup.program.table().display());
                setup.set("relay_recipient_maps", &map);
            },
            NOTHING,
        );
    }
}

#[test]
fn what_is_asked_before_the_table() {
    if !postfix::is_available() {
        return;
    }
    for (parameter, value) in [
        ("mydestination", "localhost, example.com"),
        ("virtual_alias_domains", "example.com"),
        ("virtual_mailbox_domains", "inline:{example.com=x}"),
    ] {
        check(|setup| setup.set(parameter, value), "error ignored_class");
    }
    check(
        |setup| setup.set("mydestination", "hash:/nonexistent/table"),
        "info ignored_class",
    );
    let aliases = |parameter: &'static str, kind: &'static str, rows: &'static str| {
        move |setup: &Setup| {
            let map = setup.table("aliases", kind, rows);
            setup.set(parameter, &map);
        }
    };
    let everybody = "@example.com anna@example.com\n";
    for parameter in [
        "virtual_alias_maps",
        "canonical_maps",
        "recipient_canonical_maps",
    ] {
        check(
            aliases(parameter, "hash", everybody),
            "error alias_wildcards",
        );
    }
    check(
        aliases(
            "virtual_alias_maps",
            "regexp",
            "/@example\\.com$/ anna@example.com\n",
        ),
        "error alias_wildcards, info aliases",
    );
    check(
        aliases(
            "virtual_alias_maps",
            "hash",
            "sales@example.com anna@example.com\n",
        ),
        "info aliases",
    );
    check(
        aliases(
            "virtual_alias_maps",
            "hash",
            "anna@example.com bert@example.com\nroot anna@example.com\n",
        ),
        NOTHING,
    );
    check(
        |setup| setup.set("canonical_maps", "hash:/nonexistent/table"),
        "info alias_wildcards",
    );
}

#[test]
fn rows_of_a_domain_that_answer_for_another() {
    if !postfix::is_available() {
        return;
    }
    let domains = ["example.com", "sub.example.com"];
    let access = |setup: &Setup, rows: &str| {
        setup.program.configure(&domains, STAFF, MORE);
        setup.program.staff("anna bert carl@sub.example.com");
        setup.program.run(&["sync"]).expect_code(0);
        setup.set("relay_domains", &domains.join(", "));
        let table = setup.table("access", "hash", rows);
        setup.set(
            "smtpd_recipient_restrictions",
            &format!("check_recipient_access {table}"),
        );
    };
    check(
        |setup| access(setup, "example.com DUNNO\n"),
        "warning access_sub_domains",
    );
    check(
        |setup| access(setup, "example.com DUNNO\nsub.example.com DUNNO\n"),
        NOTHING,
    );
    check(
        |setup| {
            access(setup, "example.com DUNNO\n");
            setup.set("parent_domain_matches_subdomains", "debug_peer_list");
        },
        NOTHING,
    );
    check(
        |setup| {
            let restrictions = "check_recipient_access hash:/nonexistent/table";
            setup.set("smtpd_recipient_restrictions", restrictions);
        },
        "info access_sub_domains",
    );
}

#[test]
fn a_postfix_that_cannot_be_asked() {
    if !postfix::is_available() {
        return;
    }
    check(
        |setup| {
            let master = setup.postfix.config_directory().join("master.cf");
            std::fs::remove_file(master).expect("our own file");
        },
        "error postfix",
    );
    let mut setup = Setup::right();
    setup.program.mail_config = Some(setup.at("nowhere"));
    assert_eq!(setup.found(), ["info postfix"]);
}

#[test]
fn faults_in_the_files_of_tables() {
    if !postfix::is_available() {
        return;
    }
    let tables = |setup: &Setup| setup.at("tables");
    check(
        |setup| {
            let link = setup.at("backup.cdb");
            std::fs::hard_link(setup.program.table_cdb(), link).expect("a second name");
        },
        "error table_links",
    );
    check(
        |setup| set_mode(&tables(setup), 0o777),
        "error table_directory",
    );
    check(
        |setup| set_mode(&setup.program.table_cdb(), 0o666),
        "error table_directory",
    );
    check(
        |setup| std::fs::remove_dir_all(tables(setup)).expect("our own files"),
        "error tables_missing, error table_directory",
    );
    check(
        |setup| std::fs::remove_file(setup.program.table_cdb()).expect("our own file"),
        "error tables_missing",
    );
    check(
        |setup| write_file(&setup.program.table_cdb(), "no table"),
        "error table_content, error map_opens",
    );
    check(
        |setup| {
            let text = std::fs::read_to_string(setup.program.table()).expect("our own file");
            let text = format!("{text}zoe@example.com OK\n");
            setup
                .program
                .write_settled("tables/relay_recipients", &text);
        },
        "warning table_content",
    );
    check(
        |setup| {
            let moved = setup.at("moved");
            std::fs::rename(setup.program.table(), &moved).expect("our own file");
            symlink(&moved, setup.program.table()).expect("a link");
        },
        "error table_content",
    );
    check(
        |setup| set_mode(&tables(setup), 0o700),
        "warning table_access",
    );
    check(
        |setup| set_mode(&setup.program.table_cdb(), 0o600),
        "warning table_access",
    );
    let proxied = |setup: &Setup| {
        let map = format!("proxy:cdb:{}", setup.program.table().display());
        setup.set("relay_recipient_maps", &map);
    };
    check(proxied, "warning reload_hook");
    check(
        |setup| {
            set_mode(&tables(setup), 0o700);
            proxied(setup);
        },
        "error table_access, warning reload_hook",
    );
}

#[test]
fn before_the_first_run_there_is_one_thing_to_do() {
    if !postfix::is_available() {
        return;
    }
    check(
        |setup| {
            for directory in ["state", "tables"] {
                std::fs::remove_dir_all(setup.at(directory)).expect("our own files");
            }
            std::fs::create_dir(setup.at("tables")).expect("a directory of our own");
        },
        "error tables_missing",
    );
    // It writes nothing.
    let program = Rcptsync::plain("doctor-first", STAFF, MORE);
    program.staff("anna");
    program.run_untouching(&["doctor"], 1);
    assert!(!program.directory().join("state").exists());
}

#[test]
fn faults_in_our_own_files() {
    if !postfix::is_available() {
        return;
    }
    check(
        |setup| set_mode(&setup.program.config_file(), 0o666),
        "error configuration",
    );
    check(
        |setup| set_mode(setup.program.directory(), 0o777),
        "error configuration",
    );
    check(|setup| set_mode(&setup.at("state"), 0o750), "warning state");
    check(
        |setup| write_file(&setup.at("state/head.json"), "{"),
        "error state",
    );
    let hook = |setup: &Setup| {
        let run = format!("run = [\"{}\"]", setup.at("push").display());
        setup.reconfigure(STAFF, &format!("{MORE}[[hook]]\nname = \"push\"\n{run}\n"));
    };
    let metrics = |setup: &Setup| {
        let metrics = "[metrics]\ntextfile = \"metrics/rcptsync.prom\"\n";
        setup.reconfigure(STAFF, &format!("{MORE}{metrics}"));
    };
    check(metrics, "warning metrics");
    let with_directory = |setup: &Setup| {
        metrics(setup);
        std::fs::create_dir(setup.at("metrics")).expect("a directory of our own");
    };
    check(with_directory, NOTHING);
    check(
        |setup| {
            with_directory(setup);
            set_mode(&setup.at("metrics"), 0o1777);
        },
        "warning metrics",
    );
    check(
        |setup| {
            with_directory(setup);
            symlink("elsewhere", setup.at("metrics/rcptsync.prom")).expect("a link");
        },
        "warning metrics",
    );
    check(hook, "error hooks");
    check(
        |setup| {
            hook(setup);
            write_file(&setup.at("push"), "#!/bin/sh\n");
        },
        "error hooks",
    );
    check(
        |setup| {
            hook(setup);
            write_file(&setup.at("push"), "#!/bin/sh\n");
            set_mode(&setup.at("push"), 0o755);
        },
        NOTHING,
    );
}

/// Root looks, and somebody else runs the timer.
#[test]
fn what_root_may_read_and_the_account_of_the_timer_may_not() {
    if !postfix::is_available() {
        return;
    }
    let given_away = |setup: &Setup| {
        let mut chown = command("chown");
        let chown = chown.args(["-R", "65534:65534"]);
        succeed(chown.args([setup.at("state"), setup.at("tables")]));
    };
    check(given_away, NOTHING);
    check(
        |setup| {
            given_away(setup);
            set_mode(&setup.program.config_file(), 0o600);
        },
        "error configuration",
    );
    check(
        |setup| {
            given_away(setup);
            write_file(&setup.at("password"), "s3cret");
            set_mode(&setup.at("password"), 0o600);
            setup.reconfigure(&directory("password_file = \"password\""), MORE);
        },
        "error secrets, error sources",
    );
}

/// A directory that nobody serves, beside the list.
fn directory(password: &str) -> String {
    format!(
        "{STAFF}[source.corp]\nkind = \"ldap\"\nservers = [\"ldaps://127.0.0.1:9\"]\nconnect_timeout = \"1s\"\n\
         [source.corp.bind]\nmethod = \"simple\"\nname = \"a\"\n{password}\n"
    )
}

#[test]
fn a_full_disk_is_seen_before_it_is_needed() {
    if !postfix::is_available() {
        return;
    }
    let setup = Setup::right();
    let mount = format!(
        "cp -a {0} {0}.kept && mount -t tmpfs -o size=256k,mode=755 none {0} && cp -a {0}.kept/. {0} && exec \"$@\"",
        setup.at("tables").display()
    );
    let wrapper = ["unshare", "-m", "sh", "-c", &mount, "sh"];
    let outcome = setup
        .program
        .run_under(&wrapper, &["doctor", "--format", "json"]);
    assert_eq!(
        outcome.findings(),
        ["error disk_space"],
        "{}",
        outcome.stdout
    );
}

#[test]
fn faults_in_secrets() {
    if !postfix::is_available() {
        return;
    }
    let file = directory("password_file = \"password\"");
    let with_mode = |mode: u32| {
        let file = file.clone();
        move |setup: &Setup| {
            write_file(&setup.at("password"), "s3cret");
            set_mode(&setup.at("password"), mode);
            setup.reconfigure(&file, MORE);
        }
    };
    check(with_mode(0o644), "error secrets");
    check(|setup| setup.reconfigure(&file, MORE), "error secrets");
    // It is read all the same, so the server is asked, and none is there.
    check(with_mode(0o620), "error sources, warning secrets");
    check(with_mode(0o600), "error sources");
    check(
        |setup| setup.reconfigure(&directory("credential = \"corp.password\""), MORE),
        "info secrets",
    );
}

#[test]
fn faults_in_sources() {
    if !postfix::is_available() {
        return;
    }
    check(
        |setup| std::fs::remove_file(setup.at("staff.list")).expect("our own file"),
        "error sources",
    );
    check(|setup| setup.program.staff(""), "error sources");
    let known_at = |setup: &Setup, at: Timestamp| {
        let state = State::lock(&setup.at("state")).expect("a state of our own");
        let mut head = state.head().expect("a head");
        let staff = head.sources.get_mut("staff").expect("the source");
        (staff.current_at, staff.complete_at) = (Some(at), Some(at));
        state.store_head(&head).expect("stored");
    };
    let day = Duration::from_secs(86_400);
    check(
        |setup| known_at(setup, Timestamp::now().after(day)),
        "warning clock",
    );
    check(
        |setup| known_at(setup, Timestamp::now().before(day * 2)),
        "warning last_read",
    );
}

#[test]
fn an_ordinary_account_is_told_what_was_not_checked() {
    if !postfix::is_available() {
        return;
    }
    let setup = Setup::right();
    let (nobody, group) = ("--reuid=65534", "--regid=65534");
    let wrapper = ["setpriv", nobody, group, "--clear-groups"];
    let program = |setup: &Setup| {
        setup
            .program
            .run_under(&wrapper, &["doctor", "--format", "json"])
    };
    let outcome = program(&setup);
    assert_eq!(
        outcome.findings(),
        ["info state", "info table_access"],
        "{}",
        outcome.stdout
    );
    // Its own installation in a directory that is root's.
    succeed(
        command("chown")
            .args(["-R", "65534:65534"])
            .arg(setup.at("state")),
    );
    let outcome = program(&setup);
    assert_eq!(
        outcome.findings(),
        ["error table_directory", "info table_access"],
        "{}",
        outcome.stdout
    );
}

/// `selinux` is tested where it is: the machines of tests enforce no labels.
#[test]
fn every_check_has_a_seeded_fault() {
    let tests = [
        include_str!("doctor.rs"),
        include_str!("doctor_directory.rs"),
        include_str!("doctor_pmg.rs"),
        include_str!("local_attackers.rs"),
    ];
    let is_seeded = |code: &str| {
        let mut severities = ["error", "warning", "info"].into_iter();
        severities.any(|severity| {
            let finding = format!("{severity} {code}");
            tests.iter().any(|test| test.contains(&finding))
        })
    };
    let without: Vec<&str> = rcptsync::check::CHECKS
        .iter()
        .map(|check| check.code)
        .filter(|code| *code != "selinux" && !is_seeded(code))
        .collect();
    assert_eq!(without, Vec::<&str>::new());
}
