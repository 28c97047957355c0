//! `[table.NAME.postgresql]`: where a table stands in a database, checked. Pure.

use std::path::Path;

use super::super::Relation;
use super::super::reader::Section;
use super::path_of;
use super::source::secret;

/// PostgreSQL cuts longer names.
const NAME_OCTETS_MAX: usize = 63;

/// Reads the section of the table called `table_name`.
pub(super) fn relation(section: &Section<'_, '_>, table_name: &str, directory: &Path) -> Relation {
    let needed = |key: &'static str, example: &str| {
        let text = section.text(key);
        if text.is_none() && !section.has(key) {
            section.problem(key, format!("missing: {example}"));
        }
        text.map(|text| {
            if text.value.is_empty() || text.value.chars().any(char::is_control) {
                section.problem_at(&text.at, key, "is empty, or holds a control character");
            }
            text.value
        })
        .unwrap_or_default()
    };
    let host = needed(
        "host",
        "the server, host = \"db.example.com\", or the directory of its socket, host = \"/run/postgresql\"",
    );
    let is_socket = host.starts_with('/');
    if host.contains([',', ' ', '@', '?', '[', ']']) || (!is_socket && host.contains('/')) {
        section.problem(
            "host",
            "is one host name, one address, or the directory of a socket",
        );
    }
    let has_password = section.has("password_file") || section.has("credential");
    let relation = Relation {
        port: section.integer("port", 5432, 1..65_536) as u16,
        database: needed("database", "database = \"mail\""),
        role: needed("role", "the account that writes, role = \"rcptsync\""),
        // A socket may know the account by that of the process; over the network there is no such thing.
        password: (has_password || !is_socket).then(|| {
            secret(
                section,
                directory,
                ("password_file", "credential"),
                "/etc/rcptsync/postgresql.password",
            )
        }),
        ca_file: path_of(section, "ca_file", directory),
        host,
        schema: String::new(),
        relation: String::new(),
    };
    if is_socket && relation.ca_file.is_some() {
        section.problem(
            "ca_file",
            "means nothing on a socket, where there is no TLS",
        );
    }
    let (schema, name) = name(section, table_name);
    Relation {
        schema,
        relation: name,
        ..relation
    }
}

/// Schema and relation; without one configured, the table's own name in `public`.
fn name(section: &Section<'_, '_>, table_name: &str) -> (String, String) {
    let text = section.text("relation");
    let full = text.as_ref().map_or(table_name, |text| &text.value);
    let (schema, name) = full.split_once('.').unwrap_or(("public", full));
    if !is_plain(schema) || !is_plain(name) {
        let message = format!(
            "\"{full}\": a relation is NAME or SCHEMA.NAME of lower-case letters, digits and _, at most \
             {NAME_OCTETS_MAX} each: relation = \"relay_recipients\""
        );
        match &text {
            Some(text) => section.problem_at(&text.at, "relation", message),
            None => section.problem("relation", message),
        }
    }
    (schema.to_owned(), name.to_owned())
}

/// Whether a name means the same with quotes and without, so that what gateways say without them is what we write.
fn is_plain(name: &str) -> bool {
    let is_letter = |octet: u8| octet.is_ascii_lowercase() || octet == b'_';
    name.len() <= NAME_OCTETS_MAX
        && name.bytes().next().is_some_and(is_letter)
        && name
            .bytes()
            .all(|octet| is_letter(octet) || octet.is_ascii_digit())
}
