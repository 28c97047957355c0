//! Looking at the files of Proxmox Mail Gateway. They are read, and nothing of PMG is run.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::check::facts::{Pmg, Seen, Template};

const CONFIGURATION: &str = "etc/pmg/pmg.conf";
const CLUSTER: &str = "etc/pmg/cluster.conf";
const TEMPLATES: &str = "etc/pmg/templates";
const PACKAGED: &str = "var/lib/pmg/templates/main.cf.in";
const GENERATED: &str = "etc/postfix/main.cf";
const TEMPLATE: &str = "main.cf.in";

/// What there is of PMG below `root`, which is `/` but in tests. It is there where its packaged template is: pmg.conf is
/// missing while all its settings are at their defaults.
pub fn look(root: &Path) -> Option<Pmg> {
    let text = |path: &str| std::fs::read_to_string(root.join(path));
    let configuration = text(CONFIGURATION);
    let packaged = text(PACKAGED);
    let is_missing = |found: &std::io::Result<String>| {
        found
            .as_ref()
            .is_err_and(|error| error.kind() == ErrorKind::NotFound)
    };
    if is_missing(&configuration) && is_missing(&packaged) {
        return None;
    }
    let directory = root.join(TEMPLATES);
    let template = std::fs::read_to_string(directory.join(TEMPLATE)).ok();
    let seen = |path: &str, found: std::io::Result<String>| -> Seen<String> {
        found.map_err(|error| format!("/{path}: {error}"))
    };
    Some(Pmg {
        mail: match configuration {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(BTreeMap::new()),
            found => seen(CONFIGURATION, found).map(|text| section(&text, "mail")),
        },
        template: template.map(|text| Template {
            includes: includes(&text, &directory),
            text,
        }),
        packaged: seen(PACKAGED, packaged),
        generated: seen(GENERATED, text(GENERATED)),
        nodes: nodes(&text(CLUSTER).unwrap_or_default()),
    })
}

/// `section: NAME`, then indented `key value` lines.
fn section(text: &str, name: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut is_inside = false;
    for line in text.lines() {
        match line.split_once(':') {
            Some(("section", named)) => is_inside = named.trim() == name,
            _ if is_inside && line.starts_with([' ', '\t']) => {
                let (key, value) = line
                    .trim()
                    .split_once(char::is_whitespace)
                    .unwrap_or((line.trim(), ""));
                found.insert(key.to_owned(), value.trim().to_owned());
            }
            _ => {}
        }
    }
    found
}

/// `master: 1` and `node: 2`, with an indented `name`.
fn nodes(text: &str) -> Vec<String> {
    let named = |line: &str| {
        let name = line
            .strip_prefix([' ', '\t'])?
            .trim()
            .strip_prefix("name")?;
        name.starts_with(char::is_whitespace)
            .then(|| name.trim().to_owned())
    };
    text.lines().filter_map(named).collect()
}

/// The files that a template includes, and where each leads.
fn includes(text: &str, directory: &Path) -> BTreeMap<String, Option<PathBuf>> {
    let mut found = BTreeMap::new();
    let behind = |word| text.split(word).skip(1);
    for rest in behind("INCLUDE").chain(behind("PROCESS")) {
        let name: String = rest
            .trim_start()
            .trim_start_matches(['"', '\''])
            .chars()
            .take_while(|character| character.is_ascii_alphanumeric() || "._-".contains(*character))
            .collect();
        // A name without a dot is that of a block.
        if name.contains('.') {
            let target = directory.join(&name).canonicalize().ok();
            found.insert(name, target);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mail_section_alone() {
        let text = "section: admin\n\temail a@example.com\n\nsection: mail\n\tndr_on_block 1\n\tverifyreceivers 550\n\tquiet\n\nsection: spam\n\tlanguages all\n";
        let found = section(text, "mail");
        let found: Vec<(&str, &str)> = found
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            found,
            [
                ("ndr_on_block", "1"),
                ("quiet", ""),
                ("verifyreceivers", "550")
            ]
        );
    }

    #[test]
    fn nodes_have_names() {
        let text = "master: 1\n\tfingerprint AA\n\tip 192.0.2.1\n\tname pmg1\n\nnode: 2\n\tip 192.0.2.2\n\tname pmg2\n";
        assert_eq!(nodes(text), ["pmg1", "pmg2"]);
    }

    #[test]
    fn files_are_included_and_blocks_are_not() {
        let text = "[% text = BLOCK %][% INCLUDE main.cf.in.packaged %][% END %][% INCLUDE 'other.in' %][% PROCESS own %]";
        let found = includes(text, Path::new("/nonexistent"));
        let names: Vec<&String> = found.keys().collect();
        assert_eq!(names, ["main.cf.in.packaged", "other.in"]);
        assert!(found.values().all(Option::is_none));
    }
}
