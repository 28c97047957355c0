//! `doctor` and Proxmox Mail Gateway: trees of its files as PMG has them, each with one fault.
//!
//! PMG itself does not run here; what its settings do is known from its source.

mod common;

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use common::plain::STAFF;
use common::rcptsync::Rcptsync;
use common::write_file;
use rcptsync::check::gather::{Begin, gather};
use rcptsync::check::judge;
use rcptsync::config;
use rcptsync::snapshot::Progress;
use rcptsync::time::Timestamp;

const PACKAGED: &str = "\
smtpd_sender_restrictions =
        permit_mynetworks
smtpd_recipient_restrictions =
        permit_mynetworks
        reject_unauth_destination
[%- IF postfix.usepolicy %] check_policy_service inet:127.0.0.1:10022[% END %]

recipient_delimiter = +
";

/// Wraps the packaged one; a pattern finds the place.
const WRAPPING: &str = "\
[%- packaged = BLOCK; INCLUDE 'main.cf.in.packaged'; END -%]
[%- placed = packaged.replace('(?m)^(smtpd_recipient_restrictions(?:.|\\n)*?reject_unauth_destination)', '$1 reject_unlisted_recipient') -%]
[% placed %]
relay_recipient_maps = cdb:/var/lib/rcptsync/tables/relay_recipients
";

const GENERATED: &str = "\
smtpd_recipient_restrictions =
        permit_mynetworks
        reject_unauth_destination reject_unlisted_recipient
relay_recipient_maps = cdb:/var/lib/rcptsync/tables/relay_recipients
";

const TEMPLATE: &str = "etc/pmg/templates/main.cf.in";
const LINK: &str = "etc/pmg/templates/main.cf.in.packaged";
const PMG_CONF: &str = "etc/pmg/pmg.conf";
const MAIN_CF: &str = "etc/postfix/main.cf";
const PACKAGED_PATH: &str = "var/lib/pmg/templates/main.cf.in";

/// A PMG that is set up rightly.
fn tree(root: &Path) {
    write_file(
        &root.join(PMG_CONF),
        "section: admin\n\temail a@example.com\n\nsection: mail\n\tbefore_queue_filtering 1\n\trelay 192.0.2.1\n\n",
    );
    write_file(&root.join(PACKAGED_PATH), PACKAGED);
    write_file(&root.join(TEMPLATE), WRAPPING);
    symlink(root.join(PACKAGED_PATH), root.join(LINK)).expect("a link");
    write_file(&root.join(MAIN_CF), GENERATED);
}

/// One fault gives these findings about PMG and no other.
#[track_caller]
fn check(fault: impl FnOnce(&Path), expected: &str) {
    let program = Rcptsync::plain("doctor-pmg", STAFF, "");
    program.staff("anna");
    let root = program.directory().join("root");
    tree(&root);
    fault(&root);
    let config = config::load(&program.config_file()).expect("a configuration");
    let (started, progress) = (Instant::now(), Progress::default());
    let begin = Begin {
        config: &config,
        now: Timestamp::now(),
        started,
        deadline: started + Duration::from_secs(60),
        progress: &progress,
    };
    let found: Vec<String> = judge(&gather(&begin, &root))
        .iter()
        .filter(|finding| finding.check.starts_with("pmg_"))
        .map(|finding| format!("{:?} {}", finding.severity, finding.check).to_lowercase())
        .collect();
    let expected: Vec<&str> = expected
        .split(", ")
        .filter(|name| !name.is_empty())
        .collect();
    assert_eq!(found, expected);
}

fn append(path: &Path, text: &str) {
    let before = std::fs::read_to_string(path).expect("our own file");
    write_file(path, before + text);
}

fn replace(path: &Path, from: &str, to: &str) {
    let before = std::fs::read_to_string(path).expect("our own file");
    assert!(before.contains(from), "{from}");
    write_file(path, before.replace(from, to));
}

fn remove(path: &Path) {
    std::fs::remove_file(path).expect("our own file");
}

#[test]
fn what_is_right_gives_no_finding() {
    check(|_| {}, "");
    // No PMG, no word of it.
    check(
        |root| std::fs::remove_dir_all(root).expect("our own files"),
        "",
    );
}

#[test]
fn settings_of_mail() {
    let mail = |key: &'static str, value: &'static str| {
        move |root: &Path| {
            replace(
                &root.join(PMG_CONF),
                "\trelay",
                &format!("\t{key} {value}\n\trelay"),
            )
        }
    };
    check(mail("ndr_on_block", "1"), "error pmg_ndr_on_block");
    check(mail("ndr_on_block", "0"), "");
    check(
        mail("verifyreceivers", "450"),
        "warning pmg_verify_receivers",
    );
    check(
        |root| {
            replace(
                &root.join(PMG_CONF),
                "before_queue_filtering 1",
                "before_queue_filtering 0",
            )
        },
        "info pmg_before_queue",
    );
    // All at their defaults.
    check(|root| remove(&root.join(PMG_CONF)), "info pmg_before_queue");
    // Of another section.
    check(
        |root| append(&root.join(PMG_CONF), "section: spam\n\tndr_on_block 1\n"),
        "",
    );
}

#[test]
fn the_template() {
    let template = |root: &Path| root.join(TEMPLATE);
    check(|root| remove(&template(root)), "error pmg_template");
    check(
        |root| write_file(&template(root), PACKAGED),
        "error pmg_template",
    );
    check(|root| remove(&root.join(LINK)), "error pmg_template");
    check(
        |root| {
            let own = "relay_recipient_maps = cdb:/var/lib/rcptsync/tables/relay_recipients\n";
            write_file(&template(root), format!("{PACKAGED}{own}"));
        },
        "warning pmg_template",
    );
    // An upgrade that names the word no more.
    let packaged = |root: &Path| root.join(PACKAGED_PATH);
    let other = "permit_auth_destination, reject";
    check(
        |root| replace(&packaged(root), "reject_unauth_destination", other),
        "error pmg_template",
    );
    // The word is somewhere else than where it is looked for.
    check(
        |root| {
            replace(&packaged(root), "reject_unauth_destination", other);
            append(
                &packaged(root),
                "smtpd_relay_restrictions = reject_unauth_destination\n",
            );
        },
        "error pmg_template",
    );
    // A text instead of a pattern.
    let literal = |root: &Path, text: &str| {
        let start = WRAPPING.find(".replace('").expect("a replacement") + ".replace('".len();
        let end = WRAPPING.find("', '$1").expect("its end");
        let (before, after) = (WRAPPING.get(..start), WRAPPING.get(end..));
        let text = format!(
            "{}{text}{}",
            before.unwrap_or_default(),
            after.unwrap_or_default()
        );
        write_file(&template(root), text);
    };
    check(|root| literal(root, "reject_unauth_destination"), "");
    check(
        |root| literal(root, "reject_unknown_word"),
        "error pmg_template",
    );
    check(
        |root| literal(root, "per.it_mynetworks$"),
        "info pmg_template",
    );
}

#[test]
fn what_was_generated() {
    let generated = |root: &Path| root.join(MAIN_CF);
    check(
        |root| {
            replace(
                &generated(root),
                "relay_recipient_maps",
                "#relay_recipient_maps",
            )
        },
        "error pmg_generated",
    );
    check(
        |root| replace(&generated(root), "tables/relay_recipients", "tables/other"),
        "error pmg_generated",
    );
    check(
        |root| replace(&generated(root), " reject_unlisted_recipient", ""),
        "warning pmg_generated",
    );
    check(|root| remove(&generated(root)), "info pmg_generated");
}

#[test]
fn a_cluster_has_several_nodes() {
    let cluster = |text: &'static str| {
        move |root: &Path| write_file(&root.join("etc/pmg/cluster.conf"), text)
    };
    check(
        cluster("master: 1\n\tip 192.0.2.1\n\tname pmg1\n\nnode: 2\n\tip 192.0.2.2\n\tname pmg2\n"),
        "info pmg_cluster",
    );
    check(cluster("master: 1\n\tip 192.0.2.1\n\tname pmg1\n"), "");
}
