//! Asking tables of Postfix, whatever their type, as `postmap -q` does: exact keys, and nothing of what a daemon tries
//! beside them.
//!
//! Invariant: a table that cannot be opened is an error, never one that has no such key.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Output;

use super::relay_domains::tokens;
use super::{Account, run_as, run_with_input};

/// Files that name files: deeper than this, they name each other.
const DEPTH_MAX: usize = 10;

/// `type:name`, without the detour over proxymap: that one serves a running Postfix only.
pub fn direct(map: &str) -> &str {
    let mut direct = map;
    while let Some(behind) = direct.strip_prefix("proxy:") {
        direct = behind;
    }
    direct
}

/// The keys that a table has, with their values.
pub fn look_up(map: &str, keys: &[String]) -> Result<BTreeMap<String, String>, String> {
    let input: String = keys.iter().map(|key| format!("{key}\n")).collect();
    let output = run_with_input("postmap", &["-q", "-", direct(map)], &input)
        .ok_or("postmap could not be started")?;
    refuse(&output)?;
    let answers = String::from_utf8_lossy(&output.stdout);
    let pair = |line: &str| {
        let (key, value) = line.split_once('\t')?;
        Some((key.to_owned(), value.to_owned()))
    };
    Ok(answers.lines().filter_map(pair).collect())
}

/// Whether an account can open a table.
pub fn opens_for(account: Account, map: &str) -> Result<(), String> {
    let output = run_as(account, "postmap", &["-q", "@", direct(map)])
        .ok_or("postmap could not be started as that account")?;
    refuse(&output)
}

/// postmap ends with 1 for a key that is not there, too, but then it says nothing of a fatal error.
fn refuse(output: &Output) -> Result<(), String> {
    let said = String::from_utf8_lossy(&output.stderr);
    let told = said.lines().find(|line| line.contains("fatal:"));
    match (told, output.status.code()) {
        (Some(line), _) => Err(line.trim_start_matches("postmap: ").to_owned()),
        (None, Some(0 | 1)) => Ok(()),
        (None, _) => Err(format!("postmap ended with {}", output.status)),
    }
}

/// Those of the names that a list of Postfix matches (`mydestination` and its like: names, files, tables, `!`), where parent
/// domains match nothing.
pub fn listed(list: &str, names: &[String]) -> Result<BTreeSet<String>, String> {
    let mut open: BTreeSet<String> = names.iter().cloned().collect();
    let mut found = BTreeSet::new();
    walk(list, false, 0, &mut open, &mut found)?;
    Ok(found)
}

/// The first pattern that matches a name decides, so what is decided is not open any more.
fn walk(
    list: &str,
    is_excluded: bool,
    depth: usize,
    open: &mut BTreeSet<String>,
    found: &mut BTreeSet<String>,
) -> Result<(), String> {
    for token in tokens(list) {
        if token.starts_with('#') {
            break;
        }
        let item = token.trim_start_matches('!');
        let is_excluded = is_excluded != ((token.len() - item.len()) % 2 == 1);
        let matched: Vec<String> = if item.starts_with('/') {
            if depth == DEPTH_MAX {
                return Err(format!("{item}: files name each other"));
            }
            let text = std::fs::read_to_string(item).map_err(|error| format!("{item}: {error}"))?;
            for line in text.lines().filter(|line| !line.starts_with('#')) {
                walk(line, is_excluded, depth + 1, open, found)?;
            }
            continue;
        } else if !item.starts_with('[') && item.contains(':') {
            let keys: Vec<String> = open.iter().cloned().collect();
            look_up(item, &keys)?.into_keys().collect()
        } else {
            let is_it = |name: &&String| name.eq_ignore_ascii_case(item);
            open.iter().filter(is_it).cloned().collect()
        };
        for name in matched {
            if open.remove(&name) && !is_excluded {
                found.insert(name);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(list: &str, expected: &[&str]) {
        let names = ["a.example", "b.example", "x.a.example"].map(str::to_owned);
        let found = listed(list, &names).expect("names alone");
        let found: Vec<&str> = found.iter().map(String::as_str).collect();
        assert_eq!(found, expected, "{list}");
    }

    #[test]
    fn the_first_pattern_that_matches_decides() {
        check("", &[]);
        check("localhost, A.example", &["a.example"]);
        check("!a.example a.example b.example", &["b.example"]);
        check("a.example # b.example", &["a.example"]);
        assert!(listed("/nonexistent/list", &[]).is_err());
    }

    #[test]
    fn proxymap_is_left_out() {
        assert_eq!(direct("proxy:proxy:cdb:/x"), "cdb:/x");
        assert_eq!(direct("cdb:/proxy:x"), "cdb:/proxy:x");
    }
}
