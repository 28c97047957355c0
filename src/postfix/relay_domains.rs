//! `relay_domains` of the Postfix on this machine.
//!
//! It is taken apart as `match_list` of Postfix does it: in order, files and tables in place, the first pattern that matches
//! a name decides.
//!
//! Invariant: [`relay_domains`] gives all domains or an error; a table that cannot be listed is never taken for an empty one.

use super::{main_cf, run};
use crate::config::Format;
use crate::domain::Domain;
use crate::domains::{Entry, Reach};
use crate::error::Failure;
use crate::exit::Exit;
use crate::fold::Folding;
use crate::table::format;

/// Files that name files: deeper than this, they name each other.
const DEPTH_MAX: usize = 10;
/// Types of tables whose keys `postmap -s` lists.
const LISTED_BY_POSTMAP: &[&str] = &["btree", "dbm", "hash", "inline", "lmdb", "sdbm", "texthash"];

/// Why the relay domains of this machine are not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RelayDomainsError {
    /// No main.cf.
    #[error("no Postfix is configured on this machine")]
    NoPostfix,
    /// postconf or postmap failed.
    #[error("{program} failed: {why}")]
    Failed {
        /// Which.
        program: &'static str,
        /// In its own words.
        why: String,
    },
    /// A table that can only be asked, not listed.
    #[error("{map} is a table of a type that cannot be listed, only asked")]
    NotListable {
        /// `type:name`
        map: String,
    },
    /// A file that is named there.
    #[error("{path}: {why}")]
    File {
        /// Which.
        path: String,
        /// Why it cannot be read.
        why: String,
    },
    /// Nothing there.
    #[error("it names no domain")]
    Empty,
}

impl RelayDomainsError {
    /// The five answers; what remains in force is for the caller to say.
    pub fn failure(&self) -> Failure {
        let next = match self {
            RelayDomainsError::NoPostfix => {
                "run this on the gateway, or name the domains in [domains] list instead of from = \"postfix\""
            }
            RelayDomainsError::NotListable { .. } => {
                "name the domains in [domains] list instead of from = \"postfix\", or write them into a table that can be \
                 listed (hash, lmdb, cdb, texthash, a file)"
            }
            RelayDomainsError::Failed { .. } | RelayDomainsError::File { .. } => {
                "`postconf -x relay_domains` must work for the account that runs rcptsync, and it must be able to read every \
                 file named there"
            }
            RelayDomainsError::Empty => {
                "name the domains in relay_domains, or in [domains] list instead of from = \"postfix\""
            }
        };
        Failure {
            exit: Exit::SourceFrozen,
            what: "the relay domains of Postfix could not be read".into(),
            place: format!("relay_domains in {}", main_cf().display()),
            why: self.to_string(),
            in_force: String::new(),
            next: next.into(),
        }
    }
}

/// `relay_domains` of the Postfix on this machine, in its order.
pub fn relay_domains() -> Result<Vec<Entry>, RelayDomainsError> {
    if !main_cf().exists() {
        return Err(RelayDomainsError::NoPostfix);
    }
    let text = setting("relay_domains")?;
    let parents = setting("parent_domain_matches_subdomains")?;
    let matches_sub_domains = tokens(&parents).any(|name| name == "relay_domains");
    let mut patterns = Vec::new();
    expand(&text, false, 0, &mut patterns)?;
    let entries: Vec<Entry> = patterns
        .iter()
        .filter_map(|pattern| entry(pattern, matches_sub_domains))
        .collect();
    if entries.iter().all(|entry| entry.is_excluded) {
        return Err(RelayDomainsError::Empty);
    }
    Ok(entries)
}

fn setting(name: &str) -> Result<String, RelayDomainsError> {
    ask("postconf", &["-xh", name])
}

fn ask(program: &'static str, arguments: &[&str]) -> Result<String, RelayDomainsError> {
    let failed = |why: &str| RelayDomainsError::Failed {
        program,
        why: why.trim().to_owned(),
    };
    let output = run(program, arguments).ok_or_else(|| failed("it could not be started"))?;
    if !output.status.success() {
        return Err(failed(&String::from_utf8_lossy(&output.stderr)));
    }
    String::from_utf8(output.stdout).map_err(|_| failed("its answer is not UTF-8"))
}

/// A pattern of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    text: String,
    is_excluded: bool,
}

/// The words of a list: separated by commas and white space, but not within braces.
pub fn tokens(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    let is_separator = move |character: char| {
        match character {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && matches!(character, ',' | ' ' | '\t' | '\r' | '\n')
    };
    text.split(is_separator).filter(|token| !token.is_empty())
}

/// Puts files and tables in their place.
fn expand(
    text: &str,
    is_excluded: bool,
    depth: usize,
    patterns: &mut Vec<Pattern>,
) -> Result<(), RelayDomainsError> {
    for token in tokens(text) {
        // Postfix warns of it and reads no further.
        if token.starts_with('#') {
            break;
        }
        let item = token.trim_start_matches('!');
        let is_excluded = is_excluded != ((token.len() - item.len()) % 2 == 1);
        if item.starts_with('/') {
            expand_file(item, is_excluded, depth, patterns)?;
        } else if !item.starts_with('[') && item.contains(':') {
            let keys = table_keys(item)?;
            patterns.extend(keys.into_iter().map(|text| Pattern { text, is_excluded }));
        } else {
            let text = item.to_owned();
            patterns.push(Pattern { text, is_excluded });
        }
    }
    Ok(())
}

fn expand_file(
    path: &str,
    is_excluded: bool,
    depth: usize,
    patterns: &mut Vec<Pattern>,
) -> Result<(), RelayDomainsError> {
    let failed = |why: String| RelayDomainsError::File {
        path: path.to_owned(),
        why,
    };
    if depth == DEPTH_MAX {
        return Err(failed("files name each other".into()));
    }
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        expand(line, is_excluded, depth + 1, patterns)?;
    }
    Ok(())
}

/// Every key of `type:name`.
pub(crate) fn table_keys(map: &str) -> Result<Vec<String>, RelayDomainsError> {
    let mut direct = map;
    while let Some(behind) = direct.strip_prefix("proxy:") {
        direct = behind;
    }
    let (kind, name) = direct.split_once(':').unwrap_or((direct, ""));
    if kind == "cdb" {
        return cdb_keys(&format!("{name}.cdb"));
    }
    if !LISTED_BY_POSTMAP.contains(&kind) {
        return Err(RelayDomainsError::NotListable { map: map.into() });
    }
    let listing = ask("postmap", &["-s", direct])?;
    let key = |line: &str| line.split('\t').next().unwrap_or_default().to_owned();
    Ok(listing.lines().map(key).collect())
}

/// postmap cannot list a CDB.
fn cdb_keys(path: &str) -> Result<Vec<String>, RelayDomainsError> {
    let failed = |why: String| RelayDomainsError::File {
        path: path.to_owned(),
        why,
    };
    let bytes = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    let rows = format::read(Format::Cdb, &bytes, Folding::Unicode)
        .map_err(|error| failed(error.to_string()))?;
    let key = |(key, _): (Vec<u8>, Vec<u8>)| {
        let key = key.strip_suffix(b"\0").unwrap_or(&key);
        String::from_utf8_lossy(key).into_owned()
    };
    Ok(rows.into_iter().map(key).collect())
}

/// What a pattern lists; `None` for one that matches no domain.
fn entry(pattern: &Pattern, matches_sub_domains: bool) -> Option<Entry> {
    let (reach, name) = match (pattern.text.strip_prefix('.'), matches_sub_domains) {
        (Some(name), false) => (Reach::SubDomains, name),
        // Postfix asks for the form with a dot only where parents do not match.
        (Some(_), true) => {
            tracing::warn!(
                "relay_domains: {:?} matches nothing, because parent_domain_matches_subdomains names relay_domains",
                pattern.text
            );
            return None;
        }
        (None, true) => (Reach::WithSubDomains, pattern.text.as_str()),
        (None, false) => (Reach::Itself, pattern.text.as_str()),
    };
    match Domain::parse(name) {
        Ok(domain) => Some(Entry {
            domain,
            reach,
            is_excluded: pattern.is_excluded,
        }),
        Err(error) => {
            tracing::warn!("relay_domains: {:?} lists nothing: {error}", pattern.text);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(relay_domains: &str, matches_sub_domains: bool, expected: &[&str]) {
        let mut patterns = Vec::new();
        expand(relay_domains, false, 0, &mut patterns).expect("patterns without a table");
        let found: Vec<String> = patterns
            .iter()
            .filter_map(|pattern| entry(pattern, matches_sub_domains))
            .map(|entry| {
                let sign = if entry.is_excluded { "!" } else { "" };
                let reach = match entry.reach {
                    Reach::Itself => "",
                    Reach::WithSubDomains => "*.",
                    Reach::SubDomains => ".",
                };
                format!("{sign}{reach}{}", entry.domain)
            })
            .collect();
        assert_eq!(found, expected, "{relay_domains}");
    }

    #[test]
    fn a_list_is_taken_apart_as_postfix_does_it() {
        check("", true, &[]);
        check(
            "example.com, B.Example\texample.org",
            false,
            &["example.com", "b.example", "example.org"],
        );
        check("example.com", true, &["*.example.com"]);
        check(".example.com", false, &[".example.com"]);
        check(".example.com", true, &[]);
        check(
            "!sub.example.com example.com",
            true,
            &["!*.sub.example.com", "*.example.com"],
        );
        check("!!example.com", false, &["example.com"]);
        check(
            "example.com # and more example.org",
            false,
            &["example.com"],
        );
        check(
            "*, [192.0.2.1], exa_mple.com, xn--bcher-kva.example",
            false,
            &["bücher.example"],
        );
    }

    #[test]
    fn braces_hold_a_table_together() {
        let text = "a.example, inline:{ {b.example = x}, c.example=y }, !d.example";
        let found: Vec<&str> = tokens(text).collect();
        let expected = [
            "a.example",
            "inline:{ {b.example = x}, c.example=y }",
            "!d.example",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_can_only_be_asked_is_refused() {
        for map in [
            "pcre:/x",
            "regexp:/x",
            "ldap:/x",
            "proxy:pgsql:/x",
            "static:all",
            "unknown:x",
        ] {
            let map = map.to_owned();
            assert_eq!(
                table_keys(&map),
                Err(RelayDomainsError::NotListable { map })
            );
        }
        let missing = table_keys("cdb:/nonexistent/relay_domains");
        assert!(
            matches!(missing, Err(RelayDomainsError::File { .. })),
            "{missing:?}"
        );
    }
}
