//! The program against a real controller: what is in the directory is in the table, and nothing else is.
//!
//! Not here: what Postfix makes of the table (`gateway.rs`), and controllers that misbehave (`tests/ldap-server`).

mod common;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use common::certificates::Authority;
use common::directory::{
    BASE, Class, Company, DOMAINS, Dialect, LEAVERS, Object, Unit, complete_domains,
};
use common::postfix::Instance;
use common::rcptsync::{LdapConfig, Rcptsync};
use common::samba::{self, Samba};
use common::slapd::{self, Slapd};
use common::{set_mode, temp_dir, write_file};

/// How the program is told to read the company.
struct Reading {
    starttls: bool,
    page_size: u32,
    /// More keys of the source.
    source_more: &'static str,
}

const LDAPS: Reading = Reading {
    starttls: false,
    page_size: 1_000,
    source_more: "",
};

/// Every way to learn of a change, as keys of the source.
const WAYS_OF_FOLLOWING: [&str; 3] = [
    "incremental = \"off\"",
    "incremental = \"dirsync\"\nfull_every = \"0s\"",
    "incremental = \"dirsync\"",
];

fn configure(
    rcptsync: &Rcptsync,
    samba: &Samba,
    reading: &Reading,
    ca_file: &Path,
    password_file: &Path,
) {
    rcptsync.configure_ldap(&LdapConfig {
        server: if reading.starttls {
            samba.ldap_url()
        } else {
            samba.ldaps_url()
        },
        starttls: reading.starttls,
        ca_file,
        bind_name: samba::ACCOUNT,
        password_file,
        page_size: reading.page_size,
        source_more: reading.source_more,
        domains: &DOMAINS,
        more: &rules(),
    });
}

/// The rules that the company's truth is about. The guard is not what is tested here: one user may have forty addresses.
fn rules() -> String {
    format!(
        "{}[recipients]\nexclude_dn = [\"{LEAVERS}\"]\n[guard]\nremoved_floor = 1000\n",
        complete_domains()
    )
}

/// An installation that has published the company once.
fn synced(samba: &Samba, reading: &Reading) -> Rcptsync {
    let rcptsync = Rcptsync::new("active-directory");
    configure(
        &rcptsync,
        samba,
        reading,
        &samba.ca_file(),
        &samba.password_file(),
    );
    rcptsync.run(&["sync"]).expect_code(0);
    rcptsync
}

#[track_caller]
fn check_table(rcptsync: &Rcptsync, company: &Company) {
    let (found, expected) = (rcptsync.table_keys(), company.expected_accepted());
    let missing: Vec<_> = expected.difference(&found).take(20).collect();
    let too_many: Vec<_> = found.difference(&expected).take(20).collect();
    assert!(
        missing.is_empty() && too_many.is_empty(),
        "missing: {missing:#?}\ntoo many: {too_many:#?}"
    );
}

/// What a reader of the tables could notice: which files these are, and when they were written.
fn stamps(rcptsync: &Rcptsync) -> Vec<(PathBuf, u64, i64, i64, u64)> {
    [rcptsync.table(), rcptsync.table_cdb()]
        .into_iter()
        .map(|path| {
            let metadata = path.metadata().expect("a published table");
            (
                path,
                metadata.ino(),
                metadata.mtime(),
                metadata.mtime_nsec(),
                metadata.len(),
            )
        })
        .collect()
}

#[test]
fn the_table_is_what_the_directory_says() {
    let Some(samba) = samba::shared() else {
        return;
    };
    for reading in [
        LDAPS,
        Reading {
            page_size: 100,
            ..LDAPS
        },
        Reading {
            starttls: true,
            ..LDAPS
        },
        Reading {
            starttls: true,
            page_size: 100,
            source_more: "",
        },
    ] {
        let rcptsync = synced(&samba, &reading);
        check_table(&rcptsync, &samba.company);

        let diff = rcptsync
            .run(&["diff", "--format", "json"])
            .expect_code(0)
            .json();
        assert_eq!(diff["outcome"], "unchanged", "{diff:#}");
        let counts = &diff["tables"]["relay_recipients"]["counts"];
        let keys_count = samba.company.expected_accepted().len();
        assert_eq!(counts["in_force"], keys_count, "{diff:#}");
        assert_eq!(counts["wanted"], keys_count, "{diff:#}");
        assert_eq!(diff["sources"]["corp"]["cause"], serde_json::Value::Null);
    }
}

#[test]
fn everything_left_out_is_counted_with_its_reason() {
    let Some(samba) = samba::shared() else {
        return;
    };
    let rcptsync = synced(&samba, &LDAPS);
    let diff = rcptsync
        .run(&["diff", "--format", "json"])
        .expect_code(0)
        .json();
    let counts: BTreeMap<&str, u64> = diff["left_out"]
        .as_object()
        .expect("an object")
        .iter()
        .map(|(reason, count)| (reason.as_str(), count.as_u64().expect("a count")))
        .filter(|(_, count)| *count > 0)
        .collect();
    assert_eq!(counts, samba.company.expected_left_out_counts());
}

/// Of the objects of a kind, one whose first address only it has, and what `explain` says of that.
#[track_caller]
fn check_explained(
    rcptsync: &Rcptsync,
    company: &Company,
    class: Class,
    recipient_type: Option<u64>,
    is_internal_only: bool,
    parts: [&str; 2],
) {
    let is_meant = |object: &&Object| {
        object.class == class
            && object.recipient_type == recipient_type
            && object.is_internal_only == is_internal_only
            && object.unit != Unit::Leavers
            && object.is_found_by_filter()
    };
    let object = company.objects().iter().find(is_meant);
    let object = object.expect("the company has every kind");
    let dn = object.dn();
    let key = company.keys_of(&dn).swap_remove(0);
    let code = i32::from(!company.expected_accepted().contains(&key));
    let [kind, rule] = parts;
    let outcome = rcptsync.run_untouching(&["explain", &key], code);
    // Between two objects stands nothing else, so the rule follows its kind.
    let of_object = outcome
        .stdout
        .split("  from      ")
        .find(|part| part.contains(&format!("({kind})")));
    assert!(
        of_object.is_some_and(|part| part.contains(rule)),
        "{kind}: {}",
        outcome.stdout
    );
}

#[test]
fn explain_names_kind_and_rule_of_every_kind() {
    let Some(samba) = samba::shared() else {
        return;
    };
    let rcptsync = synced(&samba, &LDAPS);
    let counts = "counts: an SMTP address in the listed domain ";
    let system = "left out: it is a mailbox of Exchange itself (recipients.system";
    let internal = "left out: it refuses senders from outside (msExchRequireAuthToSendTo)";
    for (class, recipient_type, is_internal_only, parts) in [
        (Class::User, Some(1), false, ["user mailbox", counts]),
        (Class::User, Some(2), false, ["linked mailbox", counts]),
        (Class::User, Some(4), false, ["shared mailbox", counts]),
        (Class::User, Some(16), false, ["room mailbox", counts]),
        (Class::User, Some(32), false, ["equipment mailbox", counts]),
        (Class::User, Some(128), false, ["mail user", counts]),
        (
            Class::User,
            Some(1 << 31),
            false,
            ["remote user mailbox", counts],
        ),
        (
            Class::User,
            Some(1 << 33),
            false,
            ["remote room mailbox", counts],
        ),
        (
            Class::User,
            Some(1 << 35),
            false,
            ["remote shared mailbox", counts],
        ),
        (
            Class::User,
            Some(1 << 52),
            false,
            [
                "recipient of a kind unknown to this version: 4503599627370496",
                counts,
            ],
        ),
        (
            Class::User,
            None,
            false,
            ["of no kind that Exchange names", counts],
        ),
        (Class::Contact, Some(64), false, ["mail contact", counts]),
        (
            Class::Group,
            Some(256),
            false,
            ["distribution group", counts],
        ),
        (
            Class::Group,
            Some(256),
            true,
            ["distribution group", internal],
        ),
        (
            Class::Group,
            Some(1024),
            false,
            ["mail-enabled security group", counts],
        ),
        (
            Class::Group,
            Some(0x1000_0000),
            false,
            ["room list", counts],
        ),
        (
            Class::DynamicGroup,
            Some(2048),
            false,
            ["dynamic distribution group", counts],
        ),
        (
            Class::DynamicGroup,
            Some(2048),
            true,
            ["dynamic distribution group", internal],
        ),
        (
            Class::PublicFolder,
            Some(4096),
            false,
            ["mail-enabled public folder", counts],
        ),
        (
            Class::User,
            Some(0x80_0000_0000),
            false,
            ["monitoring mailbox", system],
        ),
        (
            Class::User,
            Some(0x80_0000),
            false,
            ["arbitration mailbox", system],
        ),
        (
            Class::User,
            Some(0x2000_0000),
            false,
            ["discovery mailbox", system],
        ),
        (
            Class::User,
            Some(0x10_0000_0000),
            false,
            ["public folder mailbox", system],
        ),
    ] {
        check_explained(
            &rcptsync,
            &samba.company,
            class,
            recipient_type,
            is_internal_only,
            parts,
        );
    }
    for (address, part) in [
        (
            "x@partner.example.org",
            "partner.example.org is an external relay domain",
        ),
        (
            "x@relay.example.net",
            "relay.example.net is an internal relay domain",
        ),
    ] {
        rcptsync
            .run_untouching(&["explain", address], 1)
            .expect_output(&[part]);
    }
}

#[test]
fn a_run_without_a_change_touches_no_table() {
    let Some(samba) = samba::shared() else {
        return;
    };
    for source_more in WAYS_OF_FOLLOWING {
        let rcptsync = synced(
            &samba,
            &Reading {
                source_more,
                ..LDAPS
            },
        );
        let before = stamps(&rcptsync);
        rcptsync.run(&["sync"]).expect_code(0);
        assert_eq!(stamps(&rcptsync), before, "{source_more}");
    }
}

#[test]
fn the_table_follows_every_kind_of_change() {
    let Some(mut samba) = samba::shared() else {
        return;
    };
    for (number, source_more) in WAYS_OF_FOLLOWING.into_iter().enumerate() {
        let rcptsync = synced(
            &samba,
            &Reading {
                source_more,
                ..LDAPS
            },
        );
        let mut follow = |name: &str, change: &dyn Fn(&mut Company) -> String| {
            let before = samba.company.expected_accepted();
            let ldif = change(&mut samba.company);
            samba.modify(&ldif);
            let is_change = samba.company.expected_accepted() != before;
            assert!(is_change, "{name}");
            // An ordinary account is never told of a deletion.
            let more = name.contains("deleted").then_some("--full");
            let arguments: Vec<&str> = ["sync"].into_iter().chain(more).collect();
            rcptsync.run(&arguments).expect_code(0);
            check_table(&rcptsync, &samba.company);
        };
        follow("an address is removed", &|company| {
            let (dn, key) = company.some_user(0);
            company.remove_address(&dn, &key)
        });
        follow("an address is added", &|company| {
            let (dn, _) = company.some_user(1);
            company.add_address(&dn, &format!("added.while.running{number}"))
        });
        follow("a user is added", &|company| company.add_user().1);
        follow("a user leaves", &|company| {
            let (dn, _) = company.some_user(2);
            company.move_to(&dn, Unit::Leavers)
        });
        follow("a user is deleted", &|company| {
            let (dn, _) = company.some_user(3);
            company.delete(&dn)
        });
    }
}

#[test]
fn a_dry_run_shows_a_change_and_makes_none() {
    let Some(mut samba) = samba::shared() else {
        return;
    };
    let rcptsync = synced(&samba, &LDAPS);
    let before = stamps(&rcptsync);
    let (dn, key) = samba.company.some_user(4);
    let ldif = samba.company.remove_address(&dn, &key);
    samba.modify(&ldif);

    let diff = rcptsync
        .run(&["diff", "--format", "json"])
        .expect_code(2)
        .json();
    assert_eq!(diff["outcome"], "changed", "{diff:#}");
    let removed = diff["tables"]["relay_recipients"]["removed"]
        .as_array()
        .expect("a list");
    assert!(removed.iter().any(|removed| *removed == *key), "{diff:#}");
    rcptsync.run(&["sync", "--dry-run"]).expect_code(2);
    assert_eq!(stamps(&rcptsync), before);

    rcptsync.run(&["sync"]).expect_code(0);
    check_table(&rcptsync, &samba.company);
}

#[test]
fn a_refused_account_leaves_the_tables_as_they_are() {
    let Some(samba) = samba::shared() else {
        return;
    };
    let rcptsync = synced(&samba, &LDAPS);
    let before = stamps(&rcptsync);
    let password_file = rcptsync.directory().join("wrong.password");
    write_file(&password_file, "not the password");
    set_mode(&password_file, 0o600);
    configure(&rcptsync, &samba, &LDAPS, &samba.ca_file(), &password_file);
    let outcome = rcptsync.run(&["sync"]).expect_code(77);
    assert!(
        !outcome.stderr.contains("not the password")
            && !outcome.stdout.contains("not the password"),
        "a secret is shown:\n{}",
        outcome.stderr
    );
    assert_eq!(stamps(&rcptsync), before);

    // Nor does the first run of all publish anything.
    let fresh = Rcptsync::new("active-directory");
    configure(&fresh, &samba, &LDAPS, &samba.ca_file(), &password_file);
    fresh.run(&["sync"]).expect_code(77);
    assert!(!fresh.table().exists() && !fresh.table_cdb().exists());
}

#[test]
fn a_server_that_nobody_vouches_for_is_not_read() {
    let Some(samba) = samba::shared() else {
        return;
    };
    for starttls in [false, true] {
        let reading = Reading { starttls, ..LDAPS };
        let rcptsync = synced(&samba, &reading);
        let before = stamps(&rcptsync);
        let other = Authority::new(&rcptsync.directory().join("tls"), "Somebody else");
        configure(
            &rcptsync,
            &samba,
            &reading,
            &other.file(),
            &samba.password_file(),
        );
        let outcome = rcptsync.run(&["sync"]).expect_code(75);
        assert!(
            outcome.stderr.contains("certificate"),
            "the cause is not named:\n{}",
            outcome.stderr
        );
        assert_eq!(stamps(&rcptsync), before);
    }
}

#[test]
fn our_cdb_is_byte_for_byte_that_of_postmap() {
    let Some(samba) = samba::shared() else {
        return;
    };
    if !common::require("postmap") {
        return;
    }
    let rcptsync = synced(&samba, &LDAPS);
    let directory = temp_dir("postmap");
    let text = directory.path().join("relay_recipients");
    std::fs::copy(rcptsync.table(), &text).expect("a copy");
    Instance::for_postmap(true).postmap_build("cdb", &text);
    let theirs = std::fs::read(text.with_extension("cdb")).expect("what postmap built");
    let ours = std::fs::read(rcptsync.table_cdb()).expect("a published table");
    // Not assert_eq: a megabyte of numbers tells nobody anything.
    assert!(
        ours == theirs,
        "{} bytes are ours, {} are postmap's",
        ours.len(),
        theirs.len()
    );
}

#[test]
fn a_server_with_the_limits_of_active_directory_is_read_completely() {
    if !slapd::is_available() {
        return;
    }
    let company = Company::generate(5, 4_500);
    let slapd = Slapd::start(&company.ldif(Dialect::OpenLdap));
    for page_size in [1_000, 333] {
        let rcptsync = Rcptsync::new("openldap");
        rcptsync.configure_ldap(&LdapConfig {
            server: slapd.ldaps_url(),
            starttls: false,
            ca_file: &slapd.ca_file(),
            bind_name: slapd::ACCOUNT,
            password_file: &slapd.password_file(),
            page_size,
            source_more: &format!("base = [\"{BASE}\"]"),
            domains: &DOMAINS,
            more: &rules(),
        });
        rcptsync.run(&["sync"]).expect_code(0);
        check_table(&rcptsync, &company);
    }
}
