//! Finding domain controllers through DNS, and reading a global catalog, with a real controller and its own DNS.
//!
//! The program runs with a resolv.conf of its own, in a mount namespace of its own. Samba's catalog shows everything; one
//! that keeps back what is in no partial attribute set is `tests/ldap-server`. Not here: the order of records and every
//! answer that Samba does not give (unit tests of `directory::discover`).

mod common;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::dialogue::Dialogue;
use common::directory::{BASE, DOMAINS, LEAVERS, complete_domains};
use common::rcptsync::{Outcome, Rcptsync};
use common::samba::{self, Samba};
use common::{names, require, require_root, skip, write_file};
use ldap_server::{Directory, Server};
use rcptsync::config::{Bind, Incremental, LdapSource, ServerAddress, Servers};
use rcptsync::directory::read;
use rcptsync::records::Spool;
use rcptsync::snapshot::{Reading, SourceProgress};

const CONTROLLERS: &str = "_ldap._tcp.dc._msdcs.corp.example";
const OF_BERLIN: &str = "_ldap._tcp.Berlin._sites.dc._msdcs.corp.example";
const CATALOGS: &str = "_gc._tcp.corp.example";
const DC1: &str = "dc1.corp.example";

/// No server of ours takes it.
const NOBODY: Ipv4Addr = Ipv4Addr::new(127, 255, 255, 254);

/// The controller, if there is one and the program can be shown another resolv.conf.
fn controller() -> Option<std::sync::MutexGuard<'static, Samba>> {
    if !require("unshare") {
        return None;
    }
    let samba = samba::shared_with_names()?;
    let probe = common::process::command("unshare")
        .args(["-m", "sh", "-c", BIND_RESOLV_CONF])
        .arg(samba.resolv_conf())
        .arg("true")
        .status();
    if probe.is_ok_and(|status| status.success()) {
        return Some(samba);
    }
    skip("needs a mount namespace and a file /etc/resolv.conf");
    None
}

const BIND_RESOLV_CONF: &str = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";

fn sync(rcptsync: &Rcptsync, resolv_conf: &Path) -> Outcome {
    let resolv_conf = resolv_conf.to_str().expect("a path of text");
    let wrapper = ["unshare", "-m", "sh", "-c", BIND_RESOLV_CONF, resolv_conf];
    rcptsync.run_under(&wrapper, &["sync", "-v"])
}

/// A source of the company with these keys.
fn installation(samba: &Samba, keys: &str) -> Rcptsync {
    let rcptsync = Rcptsync::new("discover");
    let list = toml::Value::from(DOMAINS.to_vec());
    rcptsync.write_config(&format!(
        "state_dir = \"{state}\"\n\
         domains.list = {list}\n\
         recipients.exclude_dn = [\"{LEAVERS}\"]\n\
         {complete}\
         [source.corp]\n\
         kind = \"ldap\"\n\
         ca_file = \"{ca}\"\n\
         connect_timeout = \"2s\"\n\
         {keys}\n\
         [source.corp.bind]\n\
         method = \"simple\"\n\
         name = \"{account}\"\n\
         password_file = \"{password}\"\n\
         [table.relay_recipients]\n\
         path = \"{table}\"\n\
         formats = [\"text\"]\n\
         folding = \"unicode\"\n",
        complete = complete_domains(),
        state = rcptsync.state_dir().display(),
        ca = samba.ca_file().display(),
        account = samba::ACCOUNT,
        password = samba.password_file().display(),
        table = rcptsync.table().display(),
    ));
    rcptsync
}

/// With these keys, the company is read from `server`; the log has `words`, and is silent where there are none.
#[track_caller]
fn check(samba: &Samba, keys: &str, server: &str, words: &[&str]) {
    let rcptsync = installation(samba, keys);
    let outcome = sync(&rcptsync, &samba.resolv_conf()).expect_code(0);
    let log = &outcome.stderr;
    let answered = format!("read completely from {server},");
    assert!(log.contains(&answered), "{answered} is not in {log}");
    assert_eq!(log.contains("warning: "), !words.is_empty(), "{log}");
    for word in words {
        assert!(log.contains(word), "{word} is not in {log}");
    }
    let (found, expected) = (rcptsync.table_keys(), samba.company.expected_accepted());
    let wrong: Vec<_> = found.symmetric_difference(&expected).take(20).collect();
    assert!(wrong.is_empty(), "{keys}: {wrong:#?}");
}

/// With these keys, a source that was read once is frozen, and its table stays; the error has `words`.
#[track_caller]
fn check_frozen(samba: &Samba, keys: &str, resolv_conf: &Path, words: &[&str]) {
    let rcptsync = installation(samba, &format!("servers = [\"{}\"]", samba.ldaps_url()));
    sync(&rcptsync, resolv_conf).expect_code(0);
    let before = std::fs::read(rcptsync.table()).expect("a published table");
    let other = installation(samba, keys);
    let config = std::fs::read_to_string(other.config_file()).expect("a configuration");
    let (from, to) = (
        other.directory().display().to_string(),
        rcptsync.directory().display().to_string(),
    );
    rcptsync.write_config(&config.replace(&from, &to));
    let outcome = sync(&rcptsync, resolv_conf).expect_code(75);
    for word in words {
        assert!(
            outcome.stderr.contains(word),
            "{word} is not in {}",
            outcome.stderr
        );
    }
    assert!(
        outcome.stderr.contains("recipients stay"),
        "{}",
        outcome.stderr
    );
    let after = std::fs::read(rcptsync.table()).expect("a published table");
    assert_eq!(after, before);
}

fn resolv_conf_of_nobody(samba: &Samba) -> PathBuf {
    let file = samba.resolv_conf().with_file_name("nobody.conf");
    write_file(&file, format!("nameserver {NOBODY}\n"));
    file
}

const DISCOVER: &str = "discover = \"corp.example\"";

#[test]
fn controllers_are_found_and_read() {
    let Some(samba) = controller() else {
        return;
    };
    // As Samba made the records: dc1 alone, by name, in every place.
    check(&samba, DISCOVER, "ldaps://dc1.corp.example", &[]);
    check(
        &samba,
        "discover = \"CORP.Example\"\nstarttls = true",
        "ldap://dc1.corp.example",
        &[],
    );
    check(
        &samba,
        &format!("{DISCOVER}\nsite = \"Default-First-Site-Name\""),
        "ldaps://dc1.corp.example",
        &[],
    );
    // A site that nobody knows costs a warning and nothing else.
    check(
        &samba,
        &format!("{DISCOVER}\nsite = \"Atlantis\""),
        "ldaps://dc1.corp.example",
        &["_ldap._tcp.Atlantis._sites.dc._msdcs.corp.example: the name does not exist (NXDOMAIN)"],
    );
}

/// `init` takes a domain for one where DNS names its controllers, and for a host where it does not.
#[test]
fn init_finds_the_controllers_of_a_domain() {
    let Some(samba) = controller().filter(|_| require("script")) else {
        return;
    };
    samba.replace_records(CONTROLLERS, &[names::service(0, 100, DC1)]);
    let text = |path: PathBuf| path.display().to_string();
    let resolv_conf = text(samba.resolv_conf());
    let wrapper = ["unshare", "-m", "sh", "-c", BIND_RESOLV_CONF, &resolv_conf];
    let (ca_file, password_file) = (text(samba.ca_file()), text(samba.password_file()));
    let rest = [
        "--ca-file",
        &ca_file,
        "--name",
        samba::ACCOUNT,
        "--password-file",
        &password_file,
        "--base",
        BASE,
        "--domain",
        "example.com",
        "--table-path",
        "/srv/who",
        "--map-type",
        "cdb",
        "--always",
        "postmaster",
        "--must-contain",
        "none",
    ];
    let written = |program: &Rcptsync, lines: &[&str]| {
        let text = std::fs::read_to_string(program.config_file()).expect("it was written");
        for line in lines {
            assert!(text.contains(line), "{line} is not in {text}");
        }
    };
    for (answer, told, line) in [
        (
            "corp.example",
            "DNS names ldaps://dc1.corp.example",
            DISCOVER,
        ),
        (DC1, "trusted", "servers = [\"ldaps://dc1.corp.example\"]"),
        ("ldap://dc1.corp.example", "trusted", "starttls = true"),
    ] {
        let program = Rcptsync::new("discover-init");
        let output = text(program.config_file());
        let arguments = [&["init", "postfix", "--output", &output][..], &rest].concat();
        let mut dialogue = Dialogue::start_under(&wrapper, &program, &arguments);
        let ended = dialogue
            .answer("Directory server", answer)
            .wait_for(told)
            .end();
        assert_eq!(ended.code, 0, "{}", ended.shown);
        written(&program, &[line]);
    }
    // The forest as a whole, and a domain that is none.
    let program = Rcptsync::new("discover-init");
    let tried = |more: &[&str]| {
        let output = text(program.config_file());
        let all = [&["init", "postfix", "--try", "--output", &output][..], more].concat();
        program.run_under(&wrapper, &all)
    };
    let of_catalog: Vec<&str> = rest
        .iter()
        .copied()
        .filter(|word| !["--base", BASE].contains(word))
        .collect();
    let catalog = ["--server", "ldaps://dc1.corp.example:3269"];
    tried(&[&catalog[..], &of_catalog].concat()).expect_code(0);
    written(&program, &["servers = [\"ldaps://dc1.corp.example:3269\"]"]);
    let nowhere = ["--discover", "nowhere.corp.example"];
    let refused = tried(&[&nowhere[..], &rest].concat()).expect_code(75);
    assert!(refused.stderr.contains("NXDOMAIN"), "{}", refused.stderr);
}

#[test]
fn the_next_target_is_tried_and_strangers_are_not() {
    let Some(samba) = controller() else {
        return;
    };
    samba.add_records("down.corp.example", &[names::address(NOBODY)]);
    samba.replace_records(
        CONTROLLERS,
        &[
            names::service(10, 100, DC1),
            names::service(0, 100, "gone.corp.example"),
            names::service(5, 0, "down.corp.example"),
        ],
    );
    check(
        &samba,
        DISCOVER,
        "ldaps://dc1.corp.example",
        &["answered instead"],
    );

    // An answer too long for UDP is an answer.
    let many = (0..90).map(|number| names::service(0, 0, &format!("gone{number}.corp.example")));
    let many: Vec<_> = many.chain([names::service(9, 0, DC1)]).collect();
    samba.replace_records(CONTROLLERS, &many);
    check(
        &samba,
        DISCOVER,
        "ldaps://dc1.corp.example",
        &["answered instead"],
    );

    // The site comes first, whatever the priorities of the others; its one controller is down.
    samba.add_records(OF_BERLIN, &[names::service(50, 0, "down.corp.example")]);
    let berlin = format!("{DISCOVER}\nsite = \"Berlin\"");
    check(
        &samba,
        &berlin,
        "ldaps://dc1.corp.example",
        &["answered instead"],
    );
    samba.replace_records(OF_BERLIN, &[names::service(50, 0, DC1)]);
    samba.replace_records(CONTROLLERS, &[names::service(0, 0, "down.corp.example")]);
    check(&samba, &berlin, "ldaps://dc1.corp.example", &[]);
    check_frozen(
        &samba,
        DISCOVER,
        &samba.resolv_conf(),
        &["ldaps://down.corp.example", "Connection refused"],
    );

    // A stranger is skipped even where he answers: `localhost` is in the certificate of this controller.
    samba.replace_records(
        CONTROLLERS,
        &[names::service(0, 0, "localhost"), names::service(1, 0, DC1)],
    );
    check(
        &samba,
        DISCOVER,
        "ldaps://dc1.corp.example",
        &["localhost. is no host name in corp.example: skipped"],
    );
    samba.replace_records(
        CONTROLLERS,
        &[names::service(0, 0, "dc1.corp.example.evil.example")],
    );
    check_frozen(
        &samba,
        DISCOVER,
        &samba.resolv_conf(),
        &[
            "error: source corp: no server is known to ask",
            "DNS, SRV _ldap._tcp.dc._msdcs.corp.example",
            "every target was skipped: dc1.corp.example.evil.example. is no host name in corp.example",
            "name them as `servers` in [source.corp]",
        ],
    );
    samba.replace_records(CONTROLLERS, &[names::service(0, 100, DC1)]);
}

#[test]
fn without_an_answer_the_source_is_frozen() {
    let Some(samba) = controller() else {
        return;
    };
    let good = samba.resolv_conf();
    let empty = good.with_file_name("empty.conf");
    write_file(&empty, "# nothing\n");
    let nobody = resolv_conf_of_nobody(&samba);
    for (keys, resolv_conf, words) in [
        (
            DISCOVER,
            &nobody,
            ["no answer within 2s from 127.255.255.254", "port 53"],
        ),
        (
            DISCOVER,
            &empty,
            ["/etc/resolv.conf cannot be used", "name the DNS servers"],
        ),
        // A domain below the zone, which its server knows not to exist.
        (
            "discover = \"child.corp.example\"",
            &good,
            [
                "(NXDOMAIN)",
                "host -t SRV _ldap._tcp.dc._msdcs.child.corp.example",
            ],
        ),
    ] {
        check_frozen(&samba, keys, resolv_conf, &words);
    }
    // A name without such records.
    samba.add_records("_gc._tcp.other.corp.example", &[names::address(NOBODY)]);
    check_frozen(
        &samba,
        "discover = \"other.corp.example\"\nglobal_catalog = true",
        &good,
        &["the name has no SRV record", "the forest's root domain"],
    );
}

#[test]
fn a_global_catalog_is_read_only_if_it_has_the_addresses() {
    let Some(samba) = controller() else {
        return;
    };
    let over_tls = format!("{DISCOVER}\nglobal_catalog = true");
    let listed = format!("servers = [\"{}:3269\"]", samba.ldaps_url());
    let mark = |is_member: &str| {
        samba.modify(&format!(
            "dn: CN=Proxy-Addresses,CN=Schema,CN=Configuration,{BASE}\nchangetype: modify\n\
             replace: isMemberOfPartialAttributeSet\nisMemberOfPartialAttributeSet: {is_member}\n-\n"
        ));
    };
    let lacking = [
        "the check of the global catalog failed",
        "proxyAddresses is not in the global catalog",
        "port 636",
        "isMemberOfPartialAttributeSet to TRUE",
    ];
    // Active Directory's own schema does not mark it; Exchange's does.
    for keys in [&over_tls, &listed] {
        check_frozen(&samba, keys, &samba.resolv_conf(), &lacking);
    }
    mark("FALSE");
    check_frozen(&samba, &over_tls, &samba.resolv_conf(), &lacking);

    mark("TRUE");
    // A system object of the forest's configuration, with an address of ours: a whole forest has it, a domain has not.
    samba.modify(&format!(
        "dn: CN=System Attendant,CN=Services,CN=Configuration,{BASE}\nchangetype: add\n\
         objectClass: container\nproxyAddresses: SMTP:attendant@{}\n",
        DOMAINS[0]
    ));
    let address = samba.ldaps_url();
    for (keys, server) in [
        (over_tls.clone(), "ldaps://dc1.corp.example:3269".to_owned()),
        (
            format!("{over_tls}\nstarttls = true"),
            "ldap://dc1.corp.example:3268".to_owned(),
        ),
        (
            format!("{over_tls}\nbase = [\"{BASE}\"]"),
            "ldaps://dc1.corp.example:3269".to_owned(),
        ),
        (
            format!("{over_tls}\nsite = \"Default-First-Site-Name\""),
            "ldaps://dc1.corp.example:3269".to_owned(),
        ),
        (listed, format!("{address}:3269")),
        // An ordinary controller keeps configuration and domain apart.
        (DISCOVER.to_owned(), "ldaps://dc1.corp.example".to_owned()),
    ] {
        check(&samba, &keys, &server, &[]);
    }
    samba.replace_records(CATALOGS, &[names::service(0, 100, "dc1.other.example")]);
    check_frozen(
        &samba,
        &over_tls,
        &samba.resolv_conf(),
        &["SRV _gc._tcp.corp.example", "every target was skipped"],
    );
}

/// A catalog or a controller with seven recipients, whose schema marks our attributes so; an empty mark is none.
fn forest(ready: &str, schema: &[(&str, &str)]) -> Directory {
    let configuration = format!("CN=Configuration,{BASE}");
    let schema_dn = format!("CN=Schema,{configuration}");
    let mut directory = Directory::new(BASE)
        .recipients(7)
        .root("isGlobalCatalogReady", ready)
        .root("configurationNamingContext", &configuration)
        .root("schemaNamingContext", &schema_dn);
    for (name, mark) in schema {
        let dn = format!("CN={name},{schema_dn}");
        let mark: &[&str] = if mark.is_empty() { &[] } else { &[mark] };
        let attributes = [
            ("lDAPDisplayName", &[*name] as &[&str]),
            ("isMemberOfPartialAttributeSet", mark),
        ];
        directory = directory.entry(&dn, &attributes);
    }
    directory
}

/// What comes of reading a catalog, whose machine may answer at the ordinary port too: how many records, or the error.
#[track_caller]
fn check_catalog(catalog: Directory, ordinary: Option<Directory>, words: &[&str]) {
    let address = samba::free_address();
    let _catalog = Server::start_at(catalog, (address, 3268).into());
    let _ordinary = ordinary.map(|ordinary| Server::start_at(ordinary, (address, 389).into()));
    let source = LdapSource {
        incremental: Incremental::Off,
        full_every: None,
        replication_delay: Duration::ZERO,
        servers: Servers::Listed(vec![ServerAddress {
            url: format!("ldap://{address}:3268"),
            is_ldaps: false,
            host: address.to_string(),
            port: 3268,
        }]),
        bases: vec![BASE.into()],
        filter: "(proxyAddresses=smtp:*)".into(),
        page_size: 100,
        connect_timeout: Duration::from_secs(5),
        timeout: Duration::from_secs(5),
        starttls: false,
        ca_file: None,
        bind: Bind::Anonymous,
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    let (mut spool, progress) = (Spool::in_memory(), SourceProgress::default());
    let found = match read("corp", &source, None, deadline, &mut spool, &progress) {
        Ok(Reading::Followed(_)) => unreachable!("there is nothing to follow"),
        Ok(Reading::Complete(snapshot)) => format!("{} records", snapshot.records().len()),
        Err(failure) => format!("{:?}", failure.failure("all stays")),
    };
    for word in words {
        assert!(found.contains(word), "{word} is not in {found}");
    }
}

#[test]
fn a_catalog_that_hides_its_schema_is_asked_at_its_ordinary_port() {
    if !require_root() {
        return;
    }
    let hidden = [("objectGUID", ""), ("proxyAddresses", "")];
    let lacking = [("objectGUID", "TRUE"), ("proxyAddresses", "")];
    let complete = [("objectGUID", "TRUE"), ("proxyAddresses", "TRUE")];
    let forest = |schema| forest("TRUE", schema);
    let lack = [
        "SourceFrozen",
        "the check of the global catalog failed",
        "proxyAddresses is not in the global catalog",
    ];
    check_catalog(forest(&complete), None, &["7 records"]);
    check_catalog(forest(&lacking), Some(forest(&complete)), &lack);
    check_catalog(forest(&hidden), Some(forest(&complete)), &["7 records"]);
    check_catalog(forest(&hidden), Some(forest(&lacking)), &lack);
    check_catalog(
        forest(&[]),
        Some(forest(&complete)),
        &["SourceFrozen", "noSuchObject (32)", "read the schema"],
    );
    check_catalog(
        forest(&hidden),
        Some(forest(&hidden)),
        &["SourceFrozen", "does not show the marks of its schema"],
    );
    check_catalog(
        forest(&hidden),
        None,
        &[
            "SourceFrozen",
            ":389 does not say either: the connection: no connection: Connection refused",
            "let this machine reach ldap://",
        ],
    );
    // A controller that does not hold every domain yet, and a server that is none.
    for other in [
        self::forest("FALSE", &complete),
        Directory::new(BASE).recipients(7),
    ] {
        check_catalog(
            other,
            None,
            &[
                "SourceFrozen",
                "isGlobalCatalogReady: TRUE",
                "ask another server",
            ],
        );
    }
}
