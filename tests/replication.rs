//! Two controllers of one domain that are not of the same age: what only the older one says removes nothing before
//! `replication_delay`, what either one adds counts at once.
//!
//! Samba does not replicate here: the second controller is a copy of the first, and then each is changed for itself. Waiting
//! means running the program until the table says it, and looking how long that took. Not here: one controller
//! (`incremental.rs`).
#![allow(
    clippy::expect_used,
    reason = "a test fails by panicking, and the message says what was expected"
)]

mod common;

use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use common::directory::{Company, LEAVERS, Unit};
use common::rcptsync::Rcptsync;
use common::samba::{self, Samba};
use common::{ldif, poll_until};

const OBJECTS_COUNT: usize = 300;

/// Long enough for the runs that must come before its end, short enough to wait for.
const SHORT_DELAY: Duration = Duration::from_secs(5);
const LONG_DELAY: Duration = Duration::from_secs(3600);

static DOMAIN: LazyLock<Mutex<Samba>> = LazyLock::new(|| Mutex::new(Samba::start(OBJECTS_COUNT)));

/// Two controllers that hold the same now.
fn pair() -> Option<(Samba, Samba)> {
    samba::is_available().then(|| {
        let first = Samba::copy_of(&DOMAIN.lock().unwrap_or_else(PoisonError::into_inner));
        let second = Samba::copy_of(&first);
        (first, second)
    })
}

/// An installation that asks `first`, and `second` when that does not answer.
fn install(first: &Samba, second: &Samba, incremental: &str, delay: Duration) -> Rcptsync {
    let program = Rcptsync::new("replication");
    let delay = delay.as_secs();
    first.configure(
        &program,
        &[second],
        &format!("incremental = \"{incremental}\"\nreplication_delay = \"{delay}s\""),
        &format!(
            "[recipients]\nexclude_dn = [\"{LEAVERS}\"]\n\
             [guard]\nwindow = \"1s\"\nremoved_floor = 1000000\n"
        ),
    );
    program
}

fn sync(program: &Rcptsync) {
    program.run(&["sync"]).expect_code(0);
}

#[track_caller]
fn check_in_table(program: &Rcptsync, key: &str, is_expected: bool, what: &str) {
    let is_there = program.table_keys().contains(key);
    assert_eq!(is_there, is_expected, "{key}: {what}");
}

/// Runs until a key that is missing on the controller that answers has left the table: not before the delay.
#[track_caller]
fn wait_until_gone(program: &Rcptsync, key: &str, missing_since: Instant) {
    poll_until(4 * SHORT_DELAY, &format!("{key} leaves"), || {
        sync(program);
        (!program.table_keys().contains(key)).then_some(())
    });
    assert!(
        missing_since.elapsed() >= SHORT_DELAY,
        "{key} left after {:?}",
        missing_since.elapsed()
    );
}

/// Three ways in which an older controller does not show an address, as changes that only the newer one has.
fn changes_of_the_newer(company: &mut Company) -> (String, [(&'static str, String); 3]) {
    let accepted = company.expected_accepted();
    let own_key = |company: &Company, dn: &str| {
        let keys = company.keys_of(dn);
        keys.into_iter().find(|key| !accepted.contains(key))
    };
    let find = |company: &Company, fits: &dyn Fn(&common::directory::Object) -> bool| {
        let objects = company.objects().iter().filter(|object| fits(object));
        let mut found = objects.filter_map(|object| {
            let dn = object.dn();
            own_key(company, &dn).map(|key| (dn, key))
        });
        found.next().expect("a company has every kind of object")
    };
    let (dn, _) = company.some_user(0);
    let mut text = company.add_address(&dn, "newer.address");
    let (group, group_key) = find(company, &|object| {
        object.is_internal_only && object.unit == Unit::Groups
    });
    ldif::push_line(&mut text, "dn", &group);
    text.push_str("changetype: modify\nreplace: msExchRequireAuthToSendTo\n");
    text.push_str("msExchRequireAuthToSendTo: FALSE\n-\n\n");
    let (leaver, leaver_key) = find(company, &|object| object.unit == Unit::Leavers);
    text.push_str(&company.move_to(&leaver, Unit::Staff));
    let rows = [
        ("an address given", "newer.address@example.com".to_owned()),
        ("a group opened for everybody", group_key),
        ("somebody back from the excluded unit", leaver_key),
    ];
    (text, rows)
}

fn check(incremental: &str) {
    let Some((mut newer, mut older)) = pair() else {
        return;
    };
    let (change, rows) = changes_of_the_newer(&mut newer.company);
    newer.modify(&change);
    let hasty = install(&newer, &older, incremental, SHORT_DELAY);
    let patient = install(&newer, &older, incremental, LONG_DELAY);
    for program in [&hasty, &patient] {
        sync(program);
        for (what, key) in &rows {
            check_in_table(program, key, true, what);
        }
    }

    newer.stop();
    let missing_since = Instant::now();
    for program in [&hasty, &patient] {
        sync(program);
        for (what, key) in &rows {
            check_in_table(program, key, true, what);
            let told = program.run(&["explain", key]);
            let text = format!("{}{}", told.stdout, told.stderr);
            assert!(text.contains("replication_delay"), "{what}: {text}");
        }
    }

    let (dn, removed) = older.company.some_user(1);
    let change = older.company.add_address(&dn, "added.on.the.older")
        + &older.company.remove_address(&dn, &removed);
    older.modify(&change);
    for program in [&hasty, &patient] {
        sync(program);
        let added = "added.on.the.older@example.com";
        check_in_table(program, added, true, "an addition counts at once");
        let what = "removed on the controller that showed it last";
        check_in_table(program, &removed, false, what);
    }

    for (_, key) in &rows {
        wait_until_gone(&hasty, key, missing_since);
    }
    sync(&patient);
    for (what, key) in &rows {
        check_in_table(&patient, key, true, what);
    }

    // The newer one is back: what it shows is there at once, and what only the older one had is as careful a matter.
    newer.start_again();
    // Whoever follows changes stays with the one that answered last, as long as it answers.
    older.stop();
    let missing_since = Instant::now();
    for program in [&hasty, &patient] {
        sync(program);
        for (what, key) in &rows {
            check_in_table(program, key, true, what);
        }
        let added = "added.on.the.older@example.com";
        check_in_table(program, added, true, "shown by the other controller only");
    }
    // It showed this one itself a moment ago.
    let (dn, _) = newer.company.some_user(0);
    let (_, key) = &rows[0];
    newer.modify(&newer.company.clone().remove_address(&dn, key));
    for program in [&hasty, &patient] {
        sync(program);
        check_in_table(
            program,
            key,
            false,
            "removed on the controller that showed it",
        );
    }
    wait_until_gone(&hasty, "added.on.the.older@example.com", missing_since);
    let added = "added.on.the.older@example.com";
    check_in_table(&patient, added, true, "an hour has not passed");
}

/// What the other tests stand on.
#[test]
fn a_copy_is_a_controller_of_its_own() {
    let Some((mut first, second)) = pair() else {
        return;
    };
    let identity = |samba: &Samba| {
        let service = samba.root_attribute("dsServiceName");
        samba.attribute_of(&service, "invocationId")
    };
    assert_ne!(identity(&first), identity(&second));
    let number = |samba: &Samba| samba.root_attribute("highestCommittedUSN");
    let before = number(&second);
    let (dn, key) = first.company.some_user(0);
    let change = first.company.remove_address(&dn, &key);
    first.modify(&change);
    assert_eq!(number(&second), before);
    let earlier = (identity(&first), number(&first));
    first.stop();
    first.start_again();
    assert_eq!((identity(&first), number(&first)), earlier);
}

#[test]
fn an_older_controller_removes_nothing_before_the_delay_when_changes_are_followed() {
    check("dirsync");
}

#[test]
fn an_older_controller_removes_nothing_before_the_delay_when_everything_is_read() {
    check("off");
}

/// The second one showed the address last, so the first one's word is not enough, although it had shown it before that:
/// somebody may have given the address again on the second.
#[test]
fn the_controller_that_showed_an_address_last_must_say_that_it_is_gone() {
    let Some((mut first, mut second)) = pair() else {
        return;
    };
    let program = install(&first, &second, "dirsync", LONG_DELAY);
    let (dn, key) = first.company.some_user(2);
    sync(&program);
    first.stop();
    sync(&program);
    check_in_table(&program, &key, true, "both controllers show it");
    first.start_again();
    second.stop();
    let change = first.company.remove_address(&dn, &key);
    first.modify(&change);
    sync(&program);
    check_in_table(&program, &key, true, "the second one showed it last");
    first.stop();
    second.start_again();
    second.modify(&change);
    sync(&program);
    check_in_table(&program, &key, false, "both say the same");
}
