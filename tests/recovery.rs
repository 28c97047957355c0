//! A run that died between its decision and its last rename: the next run goes forward, whatever is left on the disk.
//!
//! The moments are put together from the files of runs that ended well: head.json as it stands at the decision, and the
//! old or the new file at each live path and beside it.

mod common;

use std::path::{Path, PathBuf};

use common::plain::STAFF;
use common::rcptsync::Rcptsync;
use common::write_file;
use rcptsync::state::State;
use rcptsync::state::head::PendingRename;

/// What lies at a live path, and beside it, when the next run begins.
#[derive(Clone, Copy, Debug)]
struct Left {
    live: &'static str,
    beside: &'static str,
}

const NOT_RENAMED: Left = Left {
    live: "old",
    beside: "new",
};
const RENAMED: Left = Left {
    live: "new",
    beside: "",
};
const BESIDE_LOST: Left = Left {
    live: "old",
    beside: "",
};
const BESIDE_TORN: Left = Left {
    live: "old",
    beside: "torn",
};
const BOTH_LOST: Left = Left {
    live: "",
    beside: "",
};

fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().expect("a name").to_string_lossy();
    path.with_file_name(format!(".{name}.rcptsync-new"))
}

#[track_caller]
fn check(text: Left, cdb: Left, happening: fn(&Rcptsync), code: i32) {
    let program = Rcptsync::plain("recovery", STAFF, "");
    program.staff("anna bob carl dora");
    program.run(&["sync"]).expect_code(0);
    let head = || State::view(&program.state_dir()).head().expect("a head");
    let files = [program.table(), program.table_cdb()];
    let content = || {
        files
            .clone()
            .map(|path| std::fs::read(path).expect("a table"))
    };
    let (old_head, old) = (head(), content());
    program.staff("anna bob carl eve");
    program.run(&["sync"]).expect_code(0);
    let (mut decided, new) = (head(), content());

    let table = "relay_recipients";
    let decided_table = decided.tables.get_mut(table).expect("a table");
    for artefact in &decided_table.artefacts {
        decided.pending.push(PendingRename {
            table: table.to_owned(),
            format: artefact.format,
            path: artefact.path.clone(),
            digest: artefact.digest.clone(),
            made_with: String::new(),
        });
    }
    decided_table
        .artefacts
        .clone_from(&old_head.tables[table].artefacts);
    State::lock(&program.state_dir())
        .expect("nobody else runs")
        .store_head(&decided)
        .expect("stored");
    for (number, left) in [text, cdb].into_iter().enumerate() {
        for (path, what) in [
            (files[number].clone(), left.live),
            (beside(&files[number]), left.beside),
        ] {
            match what {
                "old" => write_file(&path, &old[number]),
                "new" => write_file(&path, &new[number]),
                "torn" => write_file(&path, &new[number][..new[number].len() / 2]),
                _ => drop(std::fs::remove_file(&path)),
            }
        }
    }
    happening(&program);

    program
        .run(&["status"])
        .expect_output(&["2 renames decided and not done; the next run finishes them"]);
    // Until then, who looks is told what the gateway reads, not what was decided.
    let reads_old = [text, cdb].iter().all(|left| left.live == "old");
    if reads_old && code == 0 {
        program.run(&["explain", "eve@example.com"]).expect_code(1);
        program.run(&["explain", "dora@example.com"]).expect_code(0);
        program.run(&["diff"]).expect_code(2);
    }
    let outcome = program.run(&["sync"]).expect_code(code);
    assert!(content() == new, "{text:?} {cdb:?}: {}", outcome.stderr);
    assert_eq!(
        program.seen().len(),
        2,
        "{text:?} {cdb:?}: something is left beside the tables"
    );
    assert_eq!(head().pending, []);
    program.run_untouching(&["sync"], code);
    assert_eq!(head().generation, 2);
}

#[test]
fn what_was_decided_is_done() {
    let lefts = [NOT_RENAMED, RENAMED, BESIDE_LOST, BESIDE_TORN, BOTH_LOST];
    for text in lefts {
        for cdb in lefts {
            check(text, cdb, |_| (), 0);
        }
    }
}

#[test]
fn what_was_decided_is_done_though_the_world_has_changed() {
    let no_source = |program: &Rcptsync| {
        std::fs::remove_file(program.directory().join("staff.list")).expect("removed");
    };
    check(NOT_RENAMED, NOT_RENAMED, no_source, 75);
    check(RENAMED, BESIDE_LOST, no_source, 75);
    check(RENAMED, NOT_RENAMED, |program| program.staff("anna"), 65);
}

#[test]
fn what_was_not_decided_is_forgotten() {
    let program = Rcptsync::plain("leftovers", STAFF, "");
    program.staff("anna bob");
    program.run(&["sync"]).expect_code(0);
    let seen = program.seen();
    for path in [program.table(), program.table_cdb()] {
        write_file(&beside(&path), "half a tab");
    }
    write_file(
        &program.state_dir().join("ledger/relay_recipients-99"),
        "half",
    );
    write_file(&program.state_dir().join("generation/2"), "half");
    program.run_untouching(&["history"], 0);
    program.run(&["sync"]).expect_code(0);
    assert!(program.seen() == seen);
    assert!(
        !program
            .state_dir()
            .join("ledger/relay_recipients-99")
            .exists()
    );
    program.staff("anna bob carl");
    program.run(&["sync"]).expect_code(0);
    program
        .run(&["history", "2"])
        .expect_code(0)
        .expect_output(&["+ carl@example.com"]);
}
