//! `doctor` and the directory: servers, clocks, and what Exchange does with mail that it refuses.
//!
//! Faults are served by the embedded LDAP server; that the settings of Exchange are found where Active Directory has them is
//! seen on a real Samba.

mod common;

use common::directory::RELAY_DOMAINS;
use common::embedded::{self, BASE};
use common::postfix::{self, Instance, Options};
use common::rcptsync::Rcptsync;
use common::{samba, write_file};
use ldap_server::{Directory, Server};

const ALWAYS: &str = "[recipients]\nalways = [\"postmaster\"]\n";
const CONFIGURATION: &str = "CN=Configuration,DC=corp,DC=example";

/// An installation, the directory it reads, and the Postfix of its machine.
struct Site {
    server: Server,
    program: Rcptsync,
    postfix: Instance,
}

impl Site {
    /// Everything as it should be.
    fn right(source_more: &str) -> Site {
        let directory = Directory::new(BASE)
            .recipients(3)
            .configuration(CONFIGURATION)
            .evaluates_filters();
        let (server, mut program) =
            embedded::install("doctor-directory", directory, source_more, ALWAYS);
        let postfix = gateway(&program, &["example.com"]);
        program.mail_config = Some(postfix.config_directory());
        program.run(&["sync"]).expect_code(0);
        Site {
            server,
            program,
            postfix,
        }
    }

    /// With one more object of the configuration.
    fn object(&self, class: &str, name: &str, attributes: &[(&str, &str)]) {
        let dn = format!("CN={name},{CONFIGURATION}");
        self.server.change(|directory| {
            let mut all: Vec<(&str, &[&str])> = Vec::new();
            let class = [class];
            all.push(("objectClass", &class));
            let values: Vec<[&str; 1]> = attributes.iter().map(|(_, value)| [*value]).collect();
            for ((name, _), value) in attributes.iter().zip(&values) {
                all.push((name, value));
            }
            directory.entry(&dn, &all)
        });
    }

    fn accepted(&self, name: &str, flags: &str) {
        let attributes = [
            ("msExchAcceptedDomainName", name),
            ("msExchAcceptedDomainFlags", flags),
        ];
        self.object("msExchAcceptedDomain", name, &attributes);
    }

    fn remote(&self, name: &str, accepted: Option<&str>) {
        let mut attributes = vec![("domainName", name)];
        attributes.extend(accepted.map(|bits| ("msExchRoutingAcceptMessageType", bits)));
        self.object(
            "msExchDomainContentConfig",
            &name.replace('*', "Default"),
            &attributes,
        );
    }

    fn replace_in_config(&self, from: &str, to: &str) {
        let path = self.program.config_file();
        let text = std::fs::read_to_string(&path).expect("our own file");
        assert!(text.contains(from), "{from}: {text}");
        write_file(&path, text.replace(from, to));
    }
}

fn gateway(program: &Rcptsync, relay_domains: &[&str]) -> Instance {
    let options = Options {
        relay_domains: relay_domains
            .iter()
            .map(|name| (*name).to_owned())
            .collect(),
        ..Options::default()
    };
    Instance::for_settings(&format!("cdb:{}", program.table().display()), &options)
}

/// One fault gives these findings and no other, and their text has `said`.
#[track_caller]
fn check(fault: impl FnOnce(&Site), expected: &str, said: &str) {
    let site = Site::right("");
    fault(&site);
    let expected: Vec<&str> = expected
        .split(", ")
        .filter(|name| !name.is_empty())
        .collect();
    let outcome = site.program.run(&["doctor", "--format", "json"]);
    assert_eq!(
        outcome.findings(),
        expected,
        "{}{}",
        outcome.stdout,
        outcome.stderr
    );
    assert!(
        outcome.stdout.contains(said),
        "{said:?} is not in {}",
        outcome.stdout
    );
}

#[test]
fn servers_and_their_clocks() {
    if !postfix::is_available() {
        return;
    }
    check(|_| {}, "", "");
    let url = |site: &Site| format!("\"{}\"", site.server.url());
    let dead = "\"ldaps://127.0.0.1:9\"";
    check(
        |site| site.replace_in_config(&url(site), &format!("{dead}, {}", url(site))),
        "warning servers",
        "127.0.0.1:9",
    );
    // It only stands by, so no read would find that out.
    check(
        |site| site.replace_in_config(&url(site), &format!("{}, {dead}", url(site))),
        "warning servers",
        "127.0.0.1:9",
    );
    check(
        |site| site.replace_in_config(&url(site), dead),
        "error sources",
        "127.0.0.1:9",
    );
    let clock = |time: &'static str| {
        move |site: &Site| {
            site.server
                .change(|directory| directory.root("currentTime", time))
        }
    };
    check(
        clock("20200101000000.0Z"),
        "warning clock",
        "ahead of that of ldaps:",
    );
    check(
        clock("20990101000000.0Z"),
        "warning clock",
        "behind that of ldaps:",
    );
    check(clock("at noon"), "", "");
}

/// Each refusal of a password brings an account nearer to being locked.
#[test]
fn a_wrong_password_is_tried_once() {
    if !postfix::is_available() {
        return;
    }
    let site = Site::right("");
    write_file(&site.program.directory().join("password"), "wrong");
    let url = format!("\"{}\"", site.server.url());
    let localhost = url.replace("127.0.0.1", "127.0.0.2");
    site.replace_in_config(&url, &format!("{url}, {localhost}"));
    let before = site.server.stats().binds.len();
    let found = site.program.run(&["doctor", "--format", "json"]).findings();
    assert_eq!(found, ["error sources", "info servers"]);
    assert_eq!(site.server.stats().binds.len(), before + 1);
}

#[test]
fn accepted_domains_beside_those_that_are_relayed() {
    if !postfix::is_available() {
        return;
    }
    check(|site| site.accepted("example.com", "12"), "", "");
    check(
        |site| {
            site.accepted("example.com", "12");
            site.accepted("example.net", "8");
        },
        "warning accepted_domains",
        "example.net",
    );
    check(
        |site| {
            site.accepted("example.org", "8");
            site.postfix
                .set("relay_domains", "example.com, example.org");
        },
        "error domains_without_recipients, warning accepted_domains",
        "relays domains that Exchange does not accept: example.com",
    );
    check(
        |site| site.accepted("example.com", "10"),
        "warning domain_types",
        "internal relay",
    );
    check(
        |site| site.accepted("example.com", "4"),
        "info domain_types",
        "AddressBookEnabled",
    );
}

#[test]
fn what_exchange_does_with_mail_it_refuses() {
    if !postfix::is_available() {
        return;
    }
    let everybody = "sends non-delivery reports to everybody";
    check(
        |site| site.remote("*", None),
        "info remote_domains",
        everybody,
    );
    check(
        |site| site.remote("*", Some("30")),
        "info remote_domains",
        everybody,
    );
    check(
        |site| site.remote("*", Some("14")),
        "info remote_domains",
        "sends no non-delivery reports (",
    );
    check(
        |site| {
            site.remote("*", Some("14"));
            site.remote("partner.example", Some("30"));
            site.remote("other.example", Some("14"));
        },
        "info remote_domains",
        "sends no non-delivery reports, but to partner.example (",
    );
    let filter = |flags: &'static str| {
        move |site: &Site| {
            let class = "msExchMessageHygieneRecipientFilterConfig";
            site.object(
                class,
                "RecipientFilterConfig",
                &[("msExchAgentsFlags", flags)],
            );
        }
    };
    check(filter("3"), "", "");
    check(
        filter("2051"),
        "info recipient_filter",
        "unknown recipients",
    );
}

#[test]
fn a_real_controller_shows_the_settings_of_exchange() {
    if !postfix::is_available() {
        return;
    }
    let Some(samba) = samba::shared() else {
        return;
    };
    let mut program = Rcptsync::new("doctor-samba");
    samba.configure(&program, &[], "", "[guard]\nremoved_floor = 1000\n");
    let postfix = gateway(&program, &RELAY_DOMAINS);
    program.mail_config = Some(postfix.config_directory());
    program.run(&["sync"]).expect_code(0);
    let outcome = program.run(&["doctor", "--format", "json"]);
    let expected = [
        "warning accepted_domains",
        "warning postmaster",
        "info remote_domains",
        "info recipient_filter",
    ];
    assert_eq!(outcome.findings(), expected, "{}", outcome.stdout);
    assert!(
        outcome.stdout.contains("but to partner.example.org"),
        "{}",
        outcome.stdout
    );
}
