//! Incremental reading against a real controller: after any change, what was followed is what a complete read finds.
//!
//! Batches of random mutations from a seed are applied; after each, one installation that lives through all of them reads
//! only what changed, and a new one reads everything. Their tables are equal byte for byte, and they are what the mutations
//! say. An account that cannot see deletions may keep the addresses of deleted objects until the next complete read, and
//! nothing else. Not here: two controllers of different age (`replication.rs`), what a run without a change costs
//! (`quiet.rs`), and controllers that misbehave (`tests/ldap-server`).
//!
//! `RCPTSYNC_TEST_SEED` repeats a run, `RCPTSYNC_CAMPAIGN=long` makes it longer.
#![allow(
    clippy::expect_used,
    reason = "a test fails by panicking, and the message says what was expected"
)]

mod common;

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::{LazyLock, Mutex, PoisonError};

use common::campaign;
use common::directory::Unit;
use common::mutation::{BASES, Batch, Changes, excluded};
use common::rcptsync::Rcptsync;
use common::samba::{self, Samba};

const SEED: u64 = 20_261_121;
const BATCHES_COUNT: u64 = 25;
const BATCHES_COUNT_LONG: u64 = 150;
const MUTATIONS_MAX: u64 = 30;

/// Enough that no mutation empties a domain.
const OBJECTS_COUNT: usize = 700;

/// How often the account that cannot see deletions reads completely.
const BATCHES_BETWEEN_FULL_READS: u64 = 6;

/// The domain that every test copies and then changes.
static DOMAIN: LazyLock<Mutex<Samba>> = LazyLock::new(|| Mutex::new(Samba::start(OBJECTS_COUNT)));

fn controller() -> Option<Samba> {
    samba::is_available()
        .then(|| Samba::copy_of(&DOMAIN.lock().unwrap_or_else(PoisonError::into_inner)))
}

/// An installation, configured alike but for the way of reading. The guard is not what is tested here.
fn install(samba: &Samba, incremental: &str) -> Rcptsync {
    let program = Rcptsync::new("incremental");
    let quoted =
        |texts: &[String]| format!("[\"{}\"]", texts.join("\", \"")).replace("\\,", "\\\\,");
    samba.configure(
        &program,
        &[],
        &format!(
            "base = {}\nincremental = \"{incremental}\"\nfull_every = \"24h\"",
            quoted(&BASES.map(|unit| unit.dn())),
        ),
        &format!(
            "[recipients]\nexclude_dn = {}\n\
             [guard]\nwindow = \"1s\"\nremoved_floor = 1000000\nadded_floor = 1000000\n",
            quoted(&excluded()),
        ),
    );
    program
}

/// Says on standard error where a run that fails is.
struct Place<'run> {
    seed: u64,
    number: u64,
    batch: &'run Batch,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = writeln!(
                std::io::stderr(),
                "RCPTSYNC_TEST_SEED={}, batch {}:\n  {}\n{}",
                self.seed,
                self.number,
                self.batch.said.join("\n  "),
                self.batch.ldif
            );
        }
    }
}

/// How the last read of the source went, told by `diff`, which stores nothing.
fn state(program: &Rcptsync) -> String {
    let diff = program.run(&["diff", "--format", "json"]);
    assert!(matches!(diff.code, Some(0 | 2)), "{diff:?}");
    let state = &diff.json()["sources"]["corp"]["state"];
    state.as_str().expect("a state").to_owned()
}

fn tables(program: &Rcptsync) -> [Vec<u8>; 2] {
    [program.table(), program.table_cdb()].map(|path| std::fs::read(path).expect("a table"))
}

#[track_caller]
fn check_keys(what: &str, found: &BTreeSet<String>, expected: &BTreeSet<String>) {
    let missing: Vec<_> = expected.difference(found).take(20).collect();
    let too_many: Vec<_> = found.difference(expected).take(20).collect();
    assert!(
        missing.is_empty() && too_many.is_empty(),
        "{what}\nmissing: {missing:#?}\ntoo many: {too_many:#?}"
    );
}

/// Whether the account of a run sees deletions.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deletions {
    Seen,
    Unseen,
}

/// One batch has been applied: both installations run, and are compared.
#[track_caller]
fn check_batch(
    followed: &Rcptsync,
    samba: &Samba,
    changes: &Changes,
    deletions: Deletions,
    what: &str,
) {
    let found = state(followed);
    assert!(
        ["changed", "unchanged"].contains(&found.as_str()),
        "{what}: the read was {found}"
    );
    followed.run(&["sync"]).expect_code(0);
    let complete = install(samba, "off");
    complete.run(&["sync"]).expect_code(0);
    let expected = changes.expected_accepted();
    check_keys(
        &format!("{what}: the complete read"),
        &complete.table_keys(),
        &expected,
    );
    let found = followed.table_keys();
    if deletions == Deletions::Seen {
        check_keys(&format!("{what}: followed"), &found, &expected);
        let is_equal = tables(followed) == tables(&complete);
        assert!(is_equal, "{what}: the same keys in other bytes");
        return;
    }
    let unseen = changes.keys_of_deleted();
    let missing: Vec<_> = expected.difference(&found).take(20).collect();
    let too_many = found
        .difference(&expected)
        .filter(|key| !unseen.contains(*key));
    let too_many: Vec<_> = too_many.take(20).collect();
    assert!(
        missing.is_empty() && too_many.is_empty(),
        "{what}: followed without sight of deletions\nmissing: {missing:#?}\ntoo many: {too_many:#?}"
    );
}

fn check(deletions: Deletions) {
    let Some(samba) = controller() else {
        return;
    };
    if deletions == Deletions::Seen {
        samba.let_account_see_deletions();
    }
    let (seed, _) = campaign::seeded(SEED);
    let batches_count = campaign::extent(BATCHES_COUNT, BATCHES_COUNT_LONG);
    let (mut changes, first) = Changes::new(seed, &samba.company);
    samba.modify(&first.ldif);
    let followed = install(&samba, "dirsync");
    followed.run(&["sync"]).expect_code(0);
    let (mut mutations_count, mut deletions_count) = (0, 0);
    for number in 1..=batches_count {
        // Small and large ones in turn, whatever the length of the run: what is rare in a large one meets nothing in a
        // small one.
        let size = 1 + (number * 7) % MUTATIONS_MAX;
        let size = usize::try_from(size).expect("a small number");
        let batch = changes.batch(size, &samba.tombstones());
        let place = Place {
            seed,
            number,
            batch: &batch,
        };
        mutations_count += batch.said.len();
        deletions_count += batch.deletions_count;
        samba.modify(&batch.ldif);
        let what = format!("RCPTSYNC_TEST_SEED={seed}, batch {number}");
        check_batch(&followed, &samba, &changes, deletions, &what);
        changes.remember_keys();
        let is_last = number == batches_count;
        let is_due = number % BATCHES_BETWEEN_FULL_READS == 0 || is_last;
        if deletions == Deletions::Unseen && is_due {
            followed.run(&["sync", "--full"]).expect_code(0);
            let keys = followed.table_keys();
            check_keys(
                &format!("{what}: --full"),
                &keys,
                &changes.expected_accepted(),
            );
            changes.forget_deleted();
        }
        drop(place);
    }
    assert_eq!(state(&followed), "unchanged");
    let status = followed.run(&["status"]).stdout;
    assert_eq!(
        status.contains("/G \"svc-sync@corp.example:LCRP\""),
        deletions == Deletions::Unseen,
        "{status}"
    );
    campaign::tell(
        mutations_count,
        &format!(
            "mutations of a directory in {batches_count} batches, {deletions_count} of them deletions"
        ),
    );
}

/// What the other tests stand on: the right to see deletions is one entry in one list of rights.
#[test]
fn the_commands_of_the_readme_let_the_account_see_deletions() {
    let Some(mut samba) = controller() else {
        return;
    };
    let (dn, _) = samba.company.some_user(0);
    let change = samba.company.delete(&dn);
    samba.modify(&change);
    assert!(!samba.tombstones().is_empty());
    assert!(samba.tombstones_for_account().is_empty());
    // A second time changes nothing, and the list, which is longer now, is not torn.
    for _ in 0..2 {
        samba.let_account_see_deletions();
        assert_eq!(samba.tombstones_for_account(), samba.tombstones());
    }
}

#[test]
fn what_is_followed_is_what_a_complete_read_finds() {
    check(Deletions::Seen);
}

#[test]
fn without_sight_of_deletions_only_deleted_addresses_stay_until_a_complete_read() {
    check(Deletions::Unseen);
}

/// A controller does not tell what the account may not read; only a complete read finds that somebody is out of sight.
#[test]
fn whoever_goes_out_of_sight_leaves_with_the_next_complete_read() {
    let Some(samba) = controller() else {
        return;
    };
    samba.let_account_see_deletions();
    let hidden = format!("OU=Hidden,{}", Unit::Staff.dn());
    samba.modify(&format!(
        "dn: {hidden}\nchangetype: add\nobjectClass: organizationalUnit\n"
    ));
    samba.hide_from_account(&hidden);
    let followed = install(&samba, "dirsync");
    followed.run(&["sync"]).expect_code(0);
    let (dn, key) = samba.company.some_user(0);
    let (relative, parent) = dn.split_once(",OU=").expect("a unit");
    let go = |from: &str, to: &str| {
        samba.modify(&format!(
            "dn: {relative},{from}\nchangetype: modrdn\nnewrdn: {relative}\n\
             deleteoldrdn: 1\nnewsuperior: {to}\n"
        ));
    };
    let parent = format!("OU={parent}");
    go(&parent, &hidden);
    followed.run(&["sync"]).expect_code(0);
    followed.run(&["sync", "--full"]).expect_code(0);
    assert!(
        !followed.table_keys().contains(&key),
        "{key} is still there"
    );
    // What changed while nobody saw it is not told either when it is back: it must be read.
    let change = format!(
        "dn: {relative},{hidden}\nchangetype: modify\nadd: proxyAddresses\n\
         proxyAddresses: smtp:while.hidden@example.com\n-\n"
    );
    samba.modify(&change);
    followed.run(&["sync"]).expect_code(0);
    go(&hidden, &parent);
    followed.run(&["sync"]).expect_code(0);
    for key in [key.as_str(), "while.hidden@example.com"] {
        assert!(followed.table_keys().contains(key), "{key} is missing");
    }
}
