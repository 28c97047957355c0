//! Where the list of domains comes from: `relay_domains` of a real Postfix, the accepted domains of a real controller.
//!
//! What a list of domains means is told by Postfix itself: a smtpd with the same `relay_domains` says to which addresses it
//! relays. What the parts of such a list mean one by one is tested where they are read.

mod common;

use std::collections::BTreeSet;
use std::path::Path;

use common::plain::STAFF;
use common::postfix::{self, Gateway, Instance, Options};
use common::rcptsync::Rcptsync;
use common::samba::{self, Samba};
use common::{require, write_file};
use ldap_server::{Directory, Fault, Moment, Server};
use rcptsync::domain::Domain;
use rcptsync::exchange::{AcceptedDomain, Organisation, Relation};
use rcptsync::state::State;

/// One address in each of many domains that are near each other.
const ADDRESSES: &str = "a@example.com a@sub.example.com a@deep.sub.example.com a@notexample.com a@example.org a@example.net \
                         a@com a@example.com.attacker.example a@sub.example.org";

/// Sections with these domains, a list as source, and one table.
fn configure(program: &Rcptsync, domains: &str, source: &str, more: &str) {
    program.write_config(&format!(
        "state_dir = \"state\"\n[domains]\n{domains}\n{source}\n[table.relay_recipients]\npath = \"tables/relay_recipients\"\n\
         formats = [\"text\", \"cdb\"]\nfolding = \"unicode\"\n{more}\n"
    ));
}

const FROM_POSTFIX: &str = "from = \"postfix\"";

/// The addresses that Postfix relays with this `relay_domains` are the rows that are published.
#[track_caller]
fn check(relay_domains: &str, parents: Option<&'static str>, directory: &Path) {
    let relay_domains = relay_domains.replace("$DIRECTORY", &directory.display().to_string());
    let options = Options {
        relay_domains: vec![relay_domains.clone()],
        parent_domain_matches_subdomains: parents,
        ..Options::default()
    };
    let gateway = Gateway::start(Path::new("all"), "static", &options);
    let addresses: Vec<&str> = ADDRESSES.split_whitespace().collect();
    let answers = gateway.rcpt(&addresses);
    let relayed: BTreeSet<String> = addresses
        .iter()
        .zip(answers)
        .filter(|(_, answer)| answer.code == 250)
        .map(|(address, _)| (*address).to_owned())
        .collect();
    assert!(
        !relayed.is_empty(),
        "{relay_domains} relays nothing: {}",
        gateway.mail_log()
    );

    let mut program = Rcptsync::new("relay-domains");
    program.mail_config = Some(gateway.config_directory());
    configure(&program, FROM_POSTFIX, STAFF, "");
    program.staff(ADDRESSES);
    program.run(&["sync"]).expect_code(0);
    assert_eq!(program.table_keys(), relayed, "{relay_domains} {parents:?}");
    program.run_untouching(&["sync"], 0);
}

#[test]
fn the_domains_are_those_that_postfix_relays() {
    if !postfix::is_available() {
        return;
    }
    let directory = common::temp_dir("relay-domains-files");
    let none = Some("debug_peer_list");
    for parents in [None, none] {
        for relay_domains in [
            "example.com, example.org",
            "Example.COM example.org",
            "sub.example.com",
            "!sub.example.com, example.com",
            "example.com, !sub.example.com",
            "deep.sub.example.com, !sub.example.com, example.com",
            "!deep.sub.example.com sub.example.com",
            ".example.com, example.org",
            "$myhostname, *, [192.0.2.1], example.net",
            "inline:{ {example.com = x}, .example.org=y }, example.net",
        ] {
            check(relay_domains, parents, directory.path());
        }
    }
}

#[test]
fn files_and_tables_are_listed_whatever_their_type() {
    if !postfix::is_available() {
        return;
    }
    let directory = common::temp_dir("relay-domains-files");
    let at = |name: &str| directory.path().join(name);
    write_file(
        &at("list"),
        "# a comment\nexample.net,\n  !sub.example.com\n",
    );
    let instance = Instance::for_postmap(true);
    for kind in ["hash", "btree", "lmdb", "cdb", "texthash"] {
        // Two types have one suffix.
        let source = at(kind);
        write_file(&source, "example.com x\n.example.org x\n# no.example x\n");
        if kind != "texthash" {
            instance.postmap_build(kind, &source);
        }
        let table = format!("{kind}:$DIRECTORY/{kind}");
        check(&table, None, directory.path());
        check(
            &format!("!sub.example.com proxy:{table}"),
            Some("none"),
            directory.path(),
        );
    }
    check("$DIRECTORY/list, example.com", None, directory.path());
    check(
        "!$DIRECTORY/list, example.com, example.org",
        Some("none"),
        directory.path(),
    );
}

/// What cannot be listed is told with its cause and freezes what was listed last.
#[track_caller]
fn check_unreadable(break_it: impl Fn(&Instance), parts: &[&str]) {
    let instance = Instance::for_postmap(true);
    let published = |program: &mut Rcptsync| {
        program.mail_config = Some(instance.config_directory());
        configure(program, FROM_POSTFIX, STAFF, "");
        program.staff("anna bob carl dora x@example.org");
    };
    // Never read: no table, and nobody can approve of one.
    let mut fresh = Rcptsync::new("relay-domains-never");
    published(&mut fresh);
    let mut program = Rcptsync::new("relay-domains-frozen");
    published(&mut program);
    instance.set("relay_domains", "example.com, example.org");
    program.run(&["sync"]).expect_code(0);

    break_it(&instance);
    fresh.run_untouching(&["sync"], 65).expect_answers(parts);
    assert!(!fresh.table().exists());
    let (holds, digests) = fresh.holds();
    assert_eq!(holds[0], "domains_never_read relay_domains:");
    fresh
        .run_untouching(&["approve", &digests[0]], 64)
        .expect_answers(&["waits for the domains of relay_domains"]);

    // Frozen: what was listed stays, and recipients go on.
    program.staff("anna bob carl eve x@example.org");
    let outcome = program.run(&["sync"]).expect_code(75);
    outcome
        .expect_answers(parts)
        .expect_answers(&["the domains that it gave last stay"]);
    assert_eq!(program.keys(), "anna bob carl eve x@example.org");
    program
        .run(&["status"])
        .expect_code(1)
        .expect_output(&["the domains of relay_domains are frozen since"]);
    program.run_untouching(&["explain", "anna@example.com"], 0);

    // What is stored counts where nothing is read, and what never was is still unknown.
    let outcome = program.run_untouching(&["diff", "--stored"], 0);
    assert_eq!(outcome.stderr, "");
    let report = fresh.run(&["diff", "--stored", "--format", "json"]);
    let report = report.expect_code(65).json();
    assert_eq!(report["holds"][0]["cause"], "domains_never_read");
}

#[test]
fn relay_domains_that_cannot_be_read_stay_as_they_were() {
    if !postfix::is_available() {
        return;
    }
    let set = |value: &'static str| move |instance: &Instance| instance.set("relay_domains", value);
    check_unreadable(
        set("pcre:/nonexistent/domains"),
        &["cannot be listed", "[domains] list"],
    );
    check_unreadable(
        set("example.com, regexp:/x"),
        &["regexp:/x is a table of a type"],
    );
    check_unreadable(set("hash:/nonexistent/domains"), &["postmap failed"]);
    check_unreadable(
        set("cdb:/nonexistent/domains"),
        &["/nonexistent/domains.cdb: "],
    );
    check_unreadable(set("/nonexistent/domains"), &["/nonexistent/domains: "]);
    check_unreadable(set(""), &["it names no domain"]);
    let remove = |instance: &Instance| {
        std::fs::remove_file(instance.config_directory().join("main.cf")).expect("our own file");
    };
    check_unreadable(remove, &["no Postfix is configured on this machine"]);
}

#[test]
fn a_domain_that_is_relayed_no_more_waits() {
    if !postfix::is_available() {
        return;
    }
    let instance = Instance::for_postmap(true);
    let mut program = Rcptsync::new("relay-domains-gone");
    program.mail_config = Some(instance.config_directory());
    configure(&program, FROM_POSTFIX, STAFF, "");
    program.staff("anna bob x@sub.example.com x@example.org");
    instance.set("relay_domains", "example.com, example.org");
    program.run(&["sync"]).expect_code(0);
    instance.set("relay_domains", "example.com");
    instance.set("parent_domain_matches_subdomains", "none");
    program.run_untouching(&["sync"], 65);
    assert_eq!(
        program.holds().0,
        [
            "domain_removed example.org: -x@example.org",
            "domain_removed sub.example.com: -x@sub.example.com"
        ]
    );
    program
        .run_untouching(&["explain", "x@example.org"], 0)
        .expect_output(&["its domain is not listed", "domain_removed"]);
    // Named in the list, it is listed whatever Postfix says.
    configure(
        &program,
        "from = \"postfix\"\nlist = [\"example.org\", \"sub.example.com\"]",
        STAFF,
        "",
    );
    program.run_untouching(&["sync"], 0);
}

/// The source and what the company needs beside it.
fn corp(samba: &Samba) -> String {
    format!(
        "[source.corp]\nkind = \"ldap\"\nservers = [\"{}\"]\nca_file = \"{}\"\n[source.corp.bind]\nmethod = \"simple\"\n\
         name = \"{}\"\npassword_file = \"{}\"\n",
        samba.ldaps_url(),
        samba.ca_file().display(),
        samba::ACCOUNT,
        samba.password_file().display(),
    )
}

fn rules() -> String {
    format!(
        "{}[recipients]\nexclude_dn = [\"{}\"]\n[guard]\nremoved_floor = 1000\n",
        common::directory::complete_domains(),
        common::directory::LEAVERS,
    )
}

const FROM_EXCHANGE: &str = "from = \"exchange\"";
const ACCEPTED_DOMAINS: &str = "CN=Accepted Domains,CN=Transport Settings,CN=Corp Organization,CN=Microsoft Exchange,CN=Services,\
                                CN=Configuration,DC=corp,DC=example";

fn set_flags(samba: &Samba, name: &str, flags: u32) {
    samba.modify(&format!(
        "dn: CN={name},{ACCEPTED_DOMAINS}\nchangetype: modify\nreplace: msExchAcceptedDomainFlags\n\
         msExchAcceptedDomainFlags: {flags}\n\n"
    ));
}

#[test]
fn the_domains_are_those_that_exchange_accepts() {
    let Some(samba) = samba::shared() else {
        return;
    };
    let program = Rcptsync::new("accepted-domains");
    configure(&program, FROM_EXCHANGE, &corp(&samba), &rules());
    program.run(&["sync"]).expect_code(0);
    let accepted = samba.company.expected_accepted();
    assert!(
        program.table_keys() == accepted,
        "not what the company accepts"
    );
    for (address, parts) in [
        (
            "nobody@partner.example.org",
            "partner.example.org is an external relay domain",
        ),
        (
            "nobody@relay.example.net",
            "relay.example.net is an internal relay domain",
        ),
    ] {
        program
            .run_untouching(&["explain", address], 1)
            .expect_output(&[parts]);
    }

    // With its sub-domains: deep.sub.example.com is one of the company's foreign domains.
    set_flags(&samba, "sub.example.com", 0x1_0008);
    program.run(&["sync"]).expect_code(0);
    let more: BTreeSet<String> = program
        .table_keys()
        .difference(&accepted)
        .cloned()
        .collect();
    assert!(!more.is_empty());
    assert!(
        more.iter()
            .all(|key| key.ends_with("@deep.sub.example.com")),
        "{more:?}"
    );
    let diff = program
        .run(&["diff", "--format", "json"])
        .expect_code(0)
        .json();
    let domains = diff["tables"]["relay_recipients"]["domains"]
        .as_object()
        .expect("domains");
    assert!(
        domains.contains_key("sub.example.com") && !domains.contains_key("deep.sub.example.com")
    );
    let one = more.first().expect("one");
    program
        .run_untouching(&["explain", one], 0)
        .expect_output(&["in a sub-domain of the listed domain sub.example.com"]);
    set_flags(&samba, "sub.example.com", 8);
    program.run_untouching(&["sync"], 65);
    let (holds, digests) = program.holds();
    assert!(
        holds[0].starts_with("domain_removed deep.sub.example.com: -"),
        "{holds:?}"
    );
    program.run(&["approve", &digests[0]]).expect_code(0);
    program.run(&["sync"]).expect_code(0);
    assert!(program.table_keys() == accepted);

    // A domain that turns into a relay is listed no more, and its rows wait; named, it is listed.
    set_flags(&samba, "sub.example.com", 9);
    program.run_untouching(&["sync"], 65);
    let (holds, _) = program.holds();
    assert!(
        holds[0].starts_with("domain_removed sub.example.com: -"),
        "{holds:?}"
    );
    configure(
        &program,
        "from = \"exchange\"\nlist = [\"sub.example.com\"]",
        &corp(&samba),
        &rules(),
    );
    program.run_untouching(&["sync"], 0);
    set_flags(&samba, "sub.example.com", 8);
}

#[test]
fn accepted_domains_that_nobody_may_see_are_unknown_and_not_none() {
    let Some(samba) = samba::shared() else {
        return;
    };
    let program = Rcptsync::new("accepted-domains-hidden");
    configure(&program, FROM_EXCHANGE, &corp(&samba), &rules());
    program.run(&["sync"]).expect_code(0);
    let restore = samba.hide_contents(ACCEPTED_DOMAINS);
    let parts = [
        "source corp: no accepted domain is visible",
        "the domains that it gave last stay",
    ];
    program.run_untouching(&["sync"], 75).expect_answers(&parts);
    program
        .run(&["status"])
        .expect_code(1)
        .expect_output(&["the domains of source corp are frozen since"]);
    let fresh = Rcptsync::new("accepted-domains-never");
    configure(&fresh, FROM_EXCHANGE, &corp(&samba), &rules());
    fresh.run_untouching(&["sync"], 65);
    assert_eq!(fresh.holds().0[0], "domains_never_read corp:");
    samba.show_contents(&restore);
    program.run_untouching(&["sync"], 0);
    program.run(&["status"]).expect_code(0);
    fresh.run(&["sync"]).expect_code(0);
}

#[test]
fn accepted_domains_that_cannot_be_read_freeze_domains_and_not_recipients() {
    let base = "DC=corp,DC=example";
    let source = |server: &Server| {
        format!(
            "[source.corp]\nkind = \"ldap\"\nservers = [\"{}\"]\nbase = [\"{base}\"]\nbind = {{ method = \"anonymous\" }}\n",
            server.url()
        )
    };
    let directory = || Directory::new(base).configuration("CN=Configuration,DC=elsewhere");
    let server = Server::start(directory().recipients(5));
    let program = Rcptsync::new("accepted-domains-broken");
    configure(&program, FROM_EXCHANGE, &source(&server), "");
    let parts = [
        "source corp: the accepted domains could not be read",
        "noSuchObject",
    ];
    program.run_untouching(&["sync"], 65).expect_answers(&parts);
    assert_eq!(program.holds().0[0], "domains_never_read corp:");
    // Once it was read.
    let state = State::lock(&program.state_dir()).expect("nobody else runs");
    let mut head = state.head().expect("a head");
    let corp = head.sources.get_mut("corp").expect("the source");
    corp.organisation = Some(Organisation {
        accepted_domains: vec![AcceptedDomain {
            domain: Domain::parse("example.com").expect("a domain"),
            relation: Relation::Authoritative,
            with_sub_domains: false,
        }],
        ..Organisation::default()
    });
    state.store_head(&head).expect("stored");
    drop(state);
    program
        .run(&["sync"])
        .expect_code(75)
        .expect_answers(&parts);
    assert_eq!(program.table_keys().len(), 5);
    drop(server);
    let server = Server::start(directory().recipients(7));
    configure(&program, FROM_EXCHANGE, &source(&server), "");
    program
        .run(&["sync"])
        .expect_code(75)
        .expect_answers(&parts);
    assert_eq!(program.table_keys().len(), 7);
    // A source that fails as a whole is told of once.
    drop(server);
    let outcome = program.run_untouching(&["sync"], 75);
    assert!(
        !outcome.stderr.contains("accepted domains"),
        "{}",
        outcome.stderr
    );
}

/// A controller with an organisation beside its own naming context, and recipients in two domains.
fn organisation(accepted: &[&str]) -> Directory {
    let base = "DC=corp,DC=example";
    let guid = "o".repeat(16);
    let directory = Directory::new(base)
        .recipients(3)
        .entry(
            &format!("CN=o,{base}"),
            &[
                ("objectGUID", &[&guid]),
                ("proxyAddresses", &["smtp:o@example.org"]),
            ],
        )
        .configuration("CN=Configuration,DC=forest")
        .usn(1_000)
        .invocation_id([7; 16])
        .sees_deletions()
        .evaluates_filters();
    accepted.iter().fold(directory, accept)
}

fn accept(directory: Directory, name: &&str) -> Directory {
    directory.entry(
        &format!("CN={name},CN=Configuration,DC=forest"),
        &[
            ("objectGUID", &[&format!("{name:-<16}")]),
            ("objectClass", &["msExchAcceptedDomain"]),
            ("msExchAcceptedDomainName", &[name]),
        ],
    )
}

/// Questions about the configuration that the server was asked.
fn looks_count(server: &Server) -> usize {
    let searches = server.stats().searches;
    let looks = searches
        .iter()
        .filter(|search| search.base.starts_with("CN=Configuration,"));
    looks.count()
}

/// The organisation lies where the changes that are followed do not reach.
#[test]
fn accepted_domains_are_looked_at_again_when_anything_was_written() {
    let server = Server::start(organisation(&["example.com"]));
    let program = Rcptsync::new("accepted-domains-followed");
    let source = format!(
        "[source.corp]\nkind = \"ldap\"\nservers = [\"{}\"]\nincremental = \"dirsync\"\nbind = {{ method = \"anonymous\" }}\n",
        server.url()
    );
    configure(&program, FROM_EXCHANGE, &source, "");
    let sync = |code| program.run(&["sync"]).expect_code(code);
    sync(0);
    assert_eq!(program.keys(), "0 1 2");
    assert!(!is_settled(&program));
    // Nothing was written, so nobody looks, and the last known list counts.
    let before = looks_count(&server);
    sync(0);
    sync(0);
    assert!(is_settled(&program));
    assert_eq!(looks_count(&server), before);
    // Something else was written: a look, and no news.
    server.change(Directory::changed_elsewhere);
    sync(0);
    assert!(is_settled(&program));
    assert!(looks_count(&server) > before);
    server.change(|directory| accept(directory.changed_elsewhere(), &"example.org"));
    sync(0);
    assert_eq!(program.keys(), "0 1 2 o@example.org");

    // A look that fails leaves the list and the recipients, and is told in every run until one succeeds: also in those that
    // find nothing written.
    sync(0);
    assert!(is_settled(&program));
    let closed = Fault::Close(Moment::Page(1));
    server.change(|directory| directory.changed_elsewhere().fault(closed));
    for _ in 0..2 {
        sync(75).expect_answers(&["source corp: the accepted domains could not be read"]);
        assert!(!is_settled(&program));
        program.run(&["status"]).expect_code(1);
    }
    assert_eq!(program.keys(), "0 1 2 o@example.org");
    server.change(Directory::without_faults);
    sync(0);
    program.run(&["status"]).expect_code(0);
    assert!(is_settled(&program));
}

/// Whether the next run may rely on what the last one found.
fn is_settled(program: &Rcptsync) -> bool {
    let head = State::view(&program.state_dir()).head();
    head.expect("a head").settled.is_some()
}

#[test]
fn relay_domains_are_read_although_nothing_else_is_new() {
    if !postfix::is_available() {
        return;
    }
    let instance = Instance::for_postmap(true);
    let mut program = Rcptsync::new("relay-domains-settled");
    program.mail_config = Some(instance.config_directory());
    configure(&program, FROM_POSTFIX, STAFF, "");
    program.staff("anna x@example.org");
    instance.set("relay_domains", "example.com");
    for _ in 0..2 {
        program.run(&["sync"]).expect_code(0);
    }
    assert_eq!(program.keys(), "anna");
    assert!(is_settled(&program));
    instance.set("relay_domains", "example.com, example.org");
    program.run(&["sync"]).expect_code(0);
    assert_eq!(program.keys(), "anna x@example.org");
    program.run(&["sync"]).expect_code(0);
    assert!(is_settled(&program));
    instance.set("relay_domains", "ldap:/nowhere");
    program.run_untouching(&["sync"], 75);
    assert!(!is_settled(&program));
    instance.set("relay_domains", "example.com, example.org");
    program.run_untouching(&["sync"], 0);
    assert!(is_settled(&program));
}

#[test]
fn differences_between_both_lists_are_told() {
    let Some(samba) = samba::shared() else {
        return;
    };
    if !require("postconf") {
        return;
    }
    let instance = Instance::for_postmap(true);
    instance.set("relay_domains", "example.com, old.example");
    let mut program = Rcptsync::new("differences");
    program.mail_config = Some(instance.config_directory());
    let differences = [
        "Exchange accepts domains that relay_domains of Postfix does not have: ",
        "bücher.example",
        "relay_domains of Postfix has domains that Exchange does not accept: old.example",
    ];
    for domains in [FROM_EXCHANGE, FROM_POSTFIX] {
        configure(&program, domains, &corp(&samba), &rules());
        let outcome = program.run(&["diff"]);
        for part in differences {
            assert!(outcome.stderr.contains(part), "{part}: {}", outcome.stderr);
        }
    }
}
