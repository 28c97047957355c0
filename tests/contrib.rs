//! What is delivered beside the program, through its own checkers.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use rcptsync::config::{self, SourceKind};
use rcptsync::current::SourceRecords;
use rcptsync::domains::Domains;
use rcptsync::fold::Folding;
use rcptsync::policy::{LeftOut, Reason};
use rcptsync::records::Spool;
use rcptsync::snapshot::SourceProgress;
use rcptsync::source::{file, ldif};
use rcptsync::table::wanted;
use rcptsync::time::Timestamp;

fn contrib(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("contrib")
        .join(path)
}

#[test]
fn the_sample_is_a_complete_company() {
    let config = config::load(&contrib("sample/rcptsync.toml")).expect("a configuration");
    let [source] = config.sources.as_slice() else {
        unreachable!("the sample has one source");
    };
    let SourceKind::Ldif(source) = &source.kind else {
        unreachable!("the sample is an LDIF export");
    };
    // A fresh checkout is not settled yet.
    let now = Timestamp::now().after(file::SETTLED * 2);
    let (mut spool, progress) = (Spool::in_memory(), SourceProgress::default());
    let snapshot = ldif::read(source, now, Instant::now(), &mut spool, &progress);
    let mut snapshot = snapshot.expect("a complete export");
    assert_eq!(snapshot.records().len(), 139);
    let domains = Domains::exact(&config.domains.list);
    let records = SourceRecords::shown(snapshot.take_records());
    let table = &config.tables[0];
    let wanted = wanted::rows(&config, table, &domains, &[&records], Folding::Unicode)
        .expect("records in memory");
    // Counted by another program, too.
    let expected = LeftOut::from([
        (Reason::NotSmtp, 79),
        (Reason::Malformed, 1),
        (Reason::ForeignDomain, 17),
        (Reason::ExcludedDn, 10),
        (Reason::System, 11),
        (Reason::InternalOnly, 9),
    ]);
    assert_eq!(
        (wanted.rows.len(), wanted.counted.left_out),
        (198, expected)
    );
    for address in [
        "info@nordwind.example",
        "siobhan.o'brien@nordwind.example",
        "\"messe 2026\"@nordwind.example",
    ] {
        assert!(wanted.rows.find(address.as_bytes()).is_some(), "{address}");
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn the_units_are_what_systemd_understands() {
    if Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_err()
    {
        assert!(
            std::env::var_os("REQUIRE_SERVERS").is_none(),
            "systemd-analyze is missing"
        );
        eprintln!("SKIPPED the_units_are_what_systemd_understands: systemd-analyze not found");
        return;
    }
    // `verify` wants the program to be there.
    let directory = tempfile::tempdir().expect("a directory");
    for name in ["rcptsync.service", "rcptsync.timer"] {
        let unit = std::fs::read_to_string(contrib("systemd").join(name)).expect("the unit");
        let unit = unit.replace("ExecStart=/usr/bin/rcptsync", "ExecStart=/bin/true");
        std::fs::write(directory.path().join(name), unit).expect("written");
    }
    let output = Command::new("systemd-analyze")
        .args(["verify", "--man=no", "rcptsync.service", "rcptsync.timer"])
        .current_dir(directory.path())
        .output()
        .expect("it runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && !told.contains("rcptsync."),
        "{told}"
    );
}
