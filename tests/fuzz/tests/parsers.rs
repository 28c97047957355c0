//! Every target with every seed, and with mutations of the seeds: what fuzzing found stays found.
//!
//! The seeds are real files and messages, and what was found by fuzzing (`seeds/TARGET/find-*`). The mutations here know nothing
//! of what they reach; the search that does is `tests/fuzz/run`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use fuzz::{TARGETS, Target};

// The directory is that of the product's own tests.
#[path = "../../common/campaign.rs"]
#[allow(dead_code, reason = "shared by several tests")]
mod campaign;
#[path = "../../common/random.rs"]
mod random;

use random::Random;

fn seeds(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("seeds")
        .join(target.name);
    let entries = std::fs::read_dir(&directory).expect("a folder of seeds for every target");
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let octets = std::fs::read(&path).expect("a seed");
            (path, octets)
        })
        .collect()
}

#[test]
fn every_seed_holds() {
    let mut failed = Vec::new();
    for target in TARGETS {
        let seeds = seeds(target);
        assert!(!seeds.is_empty(), "{} has no seed", target.name);
        for (path, octets) in seeds {
            if catch_unwind(AssertUnwindSafe(|| (target.check)(&octets))).is_err() {
                failed.push(path);
            }
        }
        (target.check)(&[]);
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// Mutations of the seeds.
#[test]
fn every_mutation_holds() {
    let rounds = campaign::extent(400, 20_000);
    let (seed, mut random) = campaign::seeded(7);
    let mut tried = 0_u64;
    let mut failed = Vec::new();
    for target in TARGETS {
        let seeds: Vec<Vec<u8>> = seeds(target)
            .into_iter()
            .map(|(_, octets)| octets)
            .collect();
        for _ in 0..rounds {
            let octets = mutated(&seeds, &mut random);
            tried += 1;
            if catch_unwind(AssertUnwindSafe(|| (target.check)(&octets))).is_err() {
                failed.push(format!("{}: {}", target.name, octets.escape_ascii()));
                break;
            }
        }
    }
    assert!(
        failed.is_empty(),
        "with the seed {seed}:\n{}",
        failed.join("\n")
    );
    campaign::tell(
        tried,
        &format!("mutations of what {} parsers read", TARGETS.len()),
    );
}

/// Octets that structure is made of.
const STRUCTURAL: &[u8] =
    b"\0\x01\x02\x04\x0a\x30\x31\x64\x65\x80\x84\x87\xff\n\r\t :,;=+\"\\#@<>*.-{}[]";

fn mutated(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut octets = random.pick(seeds).clone();
    for _ in 0..=random.below(6) {
        let (at, until) = (place(&octets, random), place(&octets, random));
        let (from, to) = (at.min(until), at.max(until));
        match random.below(8) {
            0 if at < octets.len() => octets[at] ^= 1 << random.below(8),
            1 if at < octets.len() => octets[at] = *random.pick(STRUCTURAL),
            2 => octets.insert(at, *random.pick(STRUCTURAL)),
            3 => drop(octets.drain(from..to.min(from + 16))),
            4 => octets.truncate(at),
            5 => {
                let copied = octets[from..to.min(from + 64)].to_vec();
                let at = place(&octets, random);
                octets.splice(at..at, copied);
            }
            6 => {
                let other = random.pick(seeds);
                let begin = place(other, random);
                let spliced = other[begin..other.len().min(begin + 64)].to_vec();
                octets.splice(at..at, spliced);
            }
            _ => {
                let characters: &[&str] = &[
                    "ß", "İ", "ﬁ", "Ａ", "\u{200d}", "\u{202e}", "\u{2028}", "\u{feff}", "ǅ",
                    "\r\n",
                ];
                octets.splice(at..at, random.pick(characters).bytes());
            }
        }
    }
    octets
}

fn place(octets: &[u8], random: &mut Random) -> usize {
    let length = u64::try_from(octets.len()).expect("short");
    usize::try_from(random.below(length + 1)).expect("short")
}
