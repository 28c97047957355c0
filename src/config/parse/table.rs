//! `[table.NAME]`: what is published, checked. Pure.

use std::path::{Path, PathBuf};

use super::super::reader::{Placed, Section};
use super::super::{Format, Relation, Table, TableFolding, TableKind};
use super::{name_is_plain, path_of, template};
use crate::fold::Folding;
use crate::table::value::{Meaning, RowValues, refuses};

/// A name has 255 octets at most (NAME_MAX), and those beside the table have its own, a suffix and some more.
const NAME_OCTETS_MAX: usize = 220;

/// `[table.NAME]`, in the order in which they are published.
pub(super) fn tables(root: &Section<'_, '_>, directory: &Path) -> Vec<Table> {
    let sections = root.named_sections("table").into_iter();
    let mut tables: Vec<Table> = sections
        .filter_map(|(name, section)| table(&name, section, directory))
        .collect();
    tables.sort_by_key(|table| TableKind::ALL.iter().position(|kind| *kind == table.kind));
    tables
}

fn table(name: &Placed<String>, section: Section<'_, '_>, directory: &Path) -> Option<Table> {
    name_is_plain(&section, name);
    let kind = kind(&section);
    let formats = formats(&section);
    let relation = relation(&section, &formats, name, directory);
    let path = path(&section, &formats, directory);
    if formats.contains(&Format::Template) && kind != TableKind::Recipients {
        section.problem(
            "kind",
            "a template is given recipients only; other kinds are for Postfix",
        );
    }
    let table = Table {
        name: name.value.clone(),
        path: path.unwrap_or_default(),
        template: template::template(&section, &formats, directory),
        values: values(&section, kind),
        kind,
        mode: mode(&section),
        folding: folding(&section),
        formats,
        relation,
    };
    section.finish();
    Some(table)
}

fn path(section: &Section<'_, '_>, formats: &[Format], directory: &Path) -> Option<PathBuf> {
    let path = path_of(section, "path", directory);
    let has_files = formats.is_empty() || formats.iter().any(|format| format.is_file());
    match &path {
        None if !has_files => {}
        None => section.problem(
            "path",
            "missing: the table's path as main.cf knows it, without a suffix",
        ),
        Some(path) if path.file_name().is_none() => {
            section.problem("path", "is a directory, not a file")
        }
        Some(path) if path.file_name().is_some_and(|name| name.len() > NAME_OCTETS_MAX) => section
            .problem(
                "path",
                format!("its last part has more than {NAME_OCTETS_MAX} octets, and a longer name is needed beside it"),
            ),
        Some(path) => {
            let name = path.to_string_lossy();
            let mut suffixes = Format::ALL.iter().map(|format| format.suffix());
            if let Some(suffix) =
                suffixes.find(|suffix| !suffix.is_empty() && name.ends_with(suffix))
            {
                section.problem(
                    "path",
                    format!(
                        "stands there without {suffix}, as in main.cf; the format adds its suffix"
                    ),
                );
            }
        }
    }
    path
}

/// Where the table stands in a database, which it says when that is one of its formats.
fn relation(
    section: &Section<'_, '_>,
    formats: &[Format],
    name: &Placed<String>,
    directory: &Path,
) -> Option<Relation> {
    let is_named = formats.contains(&Format::Postgresql);
    let Some(of_relation) = section.section("postgresql") else {
        if is_named && !section.has("postgresql") {
            let message = format!(
                "missing: a section [table.{}.postgresql] with host, database and role",
                name.value
            );
            section.problem("postgresql", message);
        }
        return None;
    };
    if !is_named {
        section.problem(
            "postgresql",
            "means nothing where \"postgresql\" is none of the formats",
        );
    }
    let relation = super::relation::relation(&of_relation, &name.value, directory);
    of_relation.finish();
    Some(relation)
}

fn formats(section: &Section<'_, '_>) -> Vec<Format> {
    let mut formats: Vec<Format> = Vec::new();
    for text in section.texts_needed("formats", "[\"text\", \"cdb\"]") {
        let named = Format::ALL
            .iter()
            .find(|format| format.name() == text.value);
        let Some(named) = named else {
            let known = Format::ALL.map(|format| format!("\"{}\"", format.name()));
            let known = known.join(", ");
            let message = format!("\"{}\": this version writes {known}", text.value);
            section.problem_at(&text.at, "formats", message);
            continue;
        };
        if *named == Format::Postgresql && !cfg!(feature = "postgresql") {
            section.problem_at(
                &text.at,
                "formats",
                "\"postgresql\" is not in this build: it lacks the cargo feature postgresql; \
                 build with `cargo build --release --features postgresql`",
            );
        }
        let is_same_file = |other: &&Format| {
            let are_files = other.is_file() && named.is_file();
            *other != named && are_files && other.suffix() == named.suffix()
        };
        match formats.iter().find(is_same_file) {
            None => formats.push(*named),
            Some(other) => {
                let message = format!(
                    "\"{}\" and \"{}\" are one file, PATH{}; name the one that main.cf names",
                    other.name(),
                    named.name(),
                    named.suffix()
                );
                section.problem_at(&text.at, "formats", message);
            }
        }
    }
    // Text before the index that stands beside it, or smtpd warns that the index is older than its source.
    formats.sort_unstable();
    formats.dedup();
    formats
}

fn kind(section: &Section<'_, '_>) -> TableKind {
    let Some(text) = section.text("kind") else {
        return TableKind::Recipients;
    };
    let known = TableKind::ALL;
    let found = known.iter().find(|kind| kind.name() == text.value);
    found.copied().unwrap_or_else(|| {
        let names: Vec<String> = (known.iter())
            .map(|kind| format!("\"{}\"", kind.name()))
            .collect();
        let message = format!("\"{}\" is none of {}", text.value, names.join(", "));
        section.problem_at(&text.at, "kind", message);
        TableKind::Recipients
    })
}

/// The right-hand sides, each under the key that the kind of table has for it.
fn values(section: &Section<'_, '_>, kind: TableKind) -> RowValues {
    let of_kind = |kinds: &[TableKind], key: &'static str| {
        let text = section.text(key)?;
        if kinds.contains(&kind) {
            return value(section, key, text);
        }
        let message = format!("means nothing in a table of kind \"{}\"", kind.name());
        section.problem_at(&text.at, key, message);
        None
    };
    let value = of_kind(TableKind::WITH_VALUE, "value");
    let internal_only = of_kind(&[TableKind::Access], "refused_internal_only");
    let unknown = of_kind(&[TableKind::Access], "refused_unknown");
    let next_hop = of_kind(&[TableKind::Transport], "next_hop");
    let remote_next_hop = of_kind(&[TableKind::Transport], "remote_next_hop");
    if kind != TableKind::Transport {
        let value = value.unwrap_or_else(|| kind.default_value().to_owned());
        if kind != TableKind::Access {
            return RowValues::alike(&value);
        }
        skips_no_restriction(section, &value);
        let refusal = |key, given: Option<String>, default: &str| {
            let given = given.filter(|text| is_refusal(section, key, text));
            given.unwrap_or_else(|| default.to_owned())
        };
        return RowValues::alike(&value)
            .with(
                Meaning::InternalOnly,
                &refusal(
                    "refused_internal_only",
                    internal_only,
                    REFUSED_INTERNAL_ONLY,
                ),
            )
            .with(
                Meaning::Domain,
                &refusal("refused_unknown", unknown, REFUSED_UNKNOWN),
            );
    }
    if next_hop.is_none() && remote_next_hop.is_none() && !section.has("next_hop") {
        section.problem(
            "next_hop",
            "missing: where mail goes, next_hop = \"smtp:[exchange.example.com]\" for every listed domain, or \
             remote_next_hop for mailboxes in another mail system",
        );
    }
    for (key, hop) in [
        ("next_hop", &next_hop),
        ("remote_next_hop", &remote_next_hop),
    ] {
        let is_hop = |hop: &String| hop.contains(':') && !hop.contains(char::is_whitespace);
        if hop.as_ref().is_some_and(|hop| !is_hop(hop)) {
            section.problem(
                key,
                "is no transport:nexthop such as \"smtp:[exchange.example.com]:25\" (transport(5))",
            );
        }
    }
    // What is not configured has no rows, and so no value.
    RowValues::default()
        .with(Meaning::Domain, &next_hop.unwrap_or_default())
        .with(Meaning::Remote, &remote_next_hop.unwrap_or_default())
}

/// What is answered to mail from outside for those who take none.
const REFUSED_INTERNAL_ONLY: &str =
    "550 5.7.1 This address accepts mail from inside the organisation only";
/// What is answered for an address that nobody has.
const REFUSED_UNKNOWN: &str = "550 5.1.1 User unknown";

fn value(section: &Section<'_, '_>, key: &'static str, text: Placed<String>) -> Option<String> {
    let is_open = text.value.is_empty() || text.value.trim() != text.value;
    let has_control = text.value.chars().any(char::is_control);
    if is_open {
        section.problem_at(
            &text.at,
            key,
            "must not be empty (an empty value crashes smtpd 3.7) nor begin or end with a space",
        );
    }
    if has_control {
        section.problem_at(&text.at, key, "holds a control character or a line end");
    }
    (!is_open && !has_control).then_some(text.value)
}

/// access(5): `OK`, and any number, would end the list of restrictions, and what stands behind them would not be asked.
fn skips_no_restriction(section: &Section<'_, '_>, value: &str) {
    let upper = value.to_ascii_uppercase();
    let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
    if is_number || upper == "OK" || upper.starts_with("PERMIT") || upper == "RELAY" {
        let message =
            "would accept without asking the restrictions behind it (access(5)); say \"DUNNO\"";
        section.problem("value", message);
    }
}

/// Anything else than a refusal might accept.
fn is_refusal(section: &Section<'_, '_>, key: &'static str, text: &str) -> bool {
    let is_refusal = refuses(text);
    if !is_refusal {
        section.problem(
            key,
            "is no refusal such as \"550 5.7.1 a sentence\" or \"REJECT a sentence\" (access(5))",
        );
    }
    is_refusal
}

fn mode(section: &Section<'_, '_>) -> u32 {
    const DEFAULT: u32 = 0o644;
    let Some(text) = section.text("mode") else {
        return DEFAULT;
    };
    match u32::from_str_radix(&text.value, 8) {
        Ok(mode) if mode & !0o777 == 0 && mode & 0o600 == 0o600 && mode & 0o133 == 0 => mode,
        _ => {
            section.problem_at(
                &text.at,
                "mode",
                "is the octal mode of a table: \"0644\", \"0640\" or \"0600\"",
            );
            DEFAULT
        }
    }
}

fn folding(section: &Section<'_, '_>) -> TableFolding {
    match section.text("folding") {
        None => TableFolding::Auto,
        Some(text) => match text.value.as_str() {
            "auto" => TableFolding::Auto,
            "unicode" => TableFolding::Fixed(Folding::Unicode),
            "ascii" => TableFolding::Fixed(Folding::Ascii),
            "both" => TableFolding::Fixed(Folding::Both),
            other => {
                let message =
                    format!("\"{other}\" is none of \"auto\", \"unicode\", \"ascii\", \"both\"");
                section.problem_at(&text.at, "folding", message);
                TableFolding::Auto
            }
        },
    }
}
