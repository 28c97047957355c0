//! What the state directory holds. The digests of its files are put right, so that what is behind them is reached.

use std::fs::File;
use std::path::Path;

use rcptsync::current::Missing;
use rcptsync::records::{Records, Spool};
use rcptsync::state::files::{
    Generation, Ledger, RecordsTail, changes_from_bytes, hold_from_bytes, records_head,
    sealed_changes, sealed_hold,
};
use rcptsync::state::head::Head;
use rcptsync::state::{State, digest};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::choice;

thread_local! {
    static DIRECTORY: TempDir = tempfile::tempdir().expect("a directory");
}

/// Writes a file, of which `look` is told the directory.
fn with_file<T>(name: &str, content: &[u8], look: impl FnOnce(&Path) -> T) -> T {
    DIRECTORY.with(|directory| {
        std::fs::write(directory.path().join(name), content).expect("written");
        look(directory.path())
    })
}

fn sealed_as(before: &[u8], content: &[u8]) -> Vec<u8> {
    let file = [before, content].concat();
    let seal = Sha256::digest(&file);
    [file.as_slice(), &seal].concat()
}

/// As they are, sealed, and with a tail that is right.
pub fn records(octets: &[u8]) {
    let (how, octets) = choice(octets);
    let file = match how % 3 {
        0 => octets.to_vec(),
        1 => sealed_as(&records_head(), octets),
        _ => {
            let (length, rest) = choice(octets);
            let (of_records, missing) = rest.split_at(rest.len().min(length));
            let tail = RecordsTail {
                octets: of_records.len() as u64,
                count: count(of_records),
            };
            let content = [of_records, missing, &tail.numbers()].concat();
            sealed_as(&records_head(), &content)
        }
    };
    let opened = with_file("base", &file, |directory| {
        File::open(directory.join("base"))
            .map_err(Into::into)
            .and_then(Records::open)
    });
    let Ok((records, missing)) = opened else {
        return;
    };
    check_records(&records, &missing);
}

fn check_records(records: &Records, missing: &[Missing]) {
    // Octets with a right digest of which no record is made: told when they are met.
    let Ok(all) = records.all() else { return };
    assert_eq!(all.len() as u64, records.len());
    let mut spool = Spool::in_memory();
    for record in &all {
        let view = record.view();
        let [facts, values] = view.octets_without_dn();
        assert!(facts.len() + values.len() <= view.octets().len());
        assert!(view.proxy_addresses().count() <= view.octets().len());
        spool.push(view).expect("memory");
    }
    let copied = spool.finish(missing).expect("memory");
    assert_eq!(copied.all().expect("memory"), all);
}

/// A straightforward count of records, each behind its length.
fn count(mut octets: &[u8]) -> u64 {
    let mut count = 0;
    while let Some((length, rest)) = octets.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        match rest.get(length..) {
            Some(rest) => octets = rest,
            None => return count,
        }
        count += 1;
    }
    count
}

/// Every other kind of sealed file: what opens is written as what opens again and is the same.
pub fn sealed(octets: &[u8]) {
    let (how, octets) = choice(octets);
    let heads = ["changes 2", "ledger 3", "generation 3", "hold 1"];
    let head = format!("rcptsync {}\n", heads[how % heads.len()]);
    // Unsealed: nothing opens.
    let whole = [head.as_bytes(), octets].concat();
    let file = sealed_as(head.as_bytes(), octets);
    match how % heads.len() {
        0 => {
            assert!(changes_from_bytes(&whole).is_err());
            if let Ok(changes) = changes_from_bytes(&file) {
                let again = sealed_changes(&changes).parts().concat();
                assert_eq!(changes_from_bytes(&again).as_ref(), Ok(&changes));
            }
        }
        1 => {
            assert!(Ledger::from_bytes(whole).is_err());
            if let Ok(ledger) = Ledger::from_bytes(file) {
                assert!(ledger.sources_in_use().count() <= ledger.source_names.len());
                let again = Ledger::from_bytes(ledger.sealed().parts().concat()).expect("whole");
                assert!(again.rows.iter().eq(ledger.rows.iter()));
                assert_eq!(again.rows.len(), ledger.rows.len());
                assert_eq!(
                    (again.source_names, again.values),
                    (ledger.source_names, ledger.values)
                );
            }
        }
        2 => {
            assert!(Generation::from_bytes(&whole).is_err());
            if let Ok(generation) = Generation::from_bytes(&file) {
                let again = generation.sealed().parts().concat();
                assert_eq!(Generation::from_bytes(&again), Ok(generation));
            }
        }
        _ => {
            assert!(hold_from_bytes(&whole).is_err());
            if let Ok(hold) = hold_from_bytes(&file) {
                let again = sealed_hold(&hold).parts().concat();
                // Numbers that are none are not equal to themselves.
                let found = hold_from_bytes(&again).expect("whole");
                assert_eq!(sealed_hold(&found).parts().concat(), again);
            }
        }
    }
}

/// `head.json`: as it is, and with a digest that is right.
pub fn head(octets: &[u8]) {
    let (how, octets) = choice(octets);
    let file = if how % 2 == 0 {
        octets.to_vec()
    } else {
        with_digest(octets)
    };
    let Some(head) = read_head(&file) else { return };
    let text = serde_json::to_vec_pretty(&head).expect("JSON");
    let end = text.len() - "\n}".len();
    let again = read_head(&with_digest(&text[..end]));
    assert_eq!(again, Some(head));
}

/// The layout as `state::head` describes it: the digest of all that stands before is the last member.
fn with_digest(text: &[u8]) -> Vec<u8> {
    let member = format!(",\n  \"digest\": \"{}\"\n}}\n", digest(text));
    [text, member.as_bytes()].concat()
}

fn read_head(file: &[u8]) -> Option<Head> {
    with_file("head.json", file, |directory| {
        State::view(directory).head().ok()
    })
}

/// What is kept for people and for hooks: never needed, and never in anybody's way.
pub fn remembered(octets: &[u8]) {
    let lines_count = octets.split(|octet| *octet == b'\n').count();
    with_file("runs.jsonl", octets, |directory| {
        let runs = State::view(directory).runs();
        assert!(runs.len() <= lines_count);
        let text: String = (runs.iter())
            .map(|run| serde_json::to_string(run).expect("JSON") + "\n")
            .collect();
        std::fs::write(directory.join("runs.jsonl"), &text).expect("written");
        assert_eq!(State::view(directory).runs().len(), runs.len(), "{text}");
    });
    with_file("notified.json", octets, |directory| {
        State::view(directory).notified();
    });
}
