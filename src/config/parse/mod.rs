//! From the text of the file to a [`Config`]: every value checked, every default in one place, all problems at once.
//!
//! Pure: it opens nothing, so `check` of a configuration needs neither the secret nor the network. A path that is not
//! absolute is taken from the directory of the configuration file.

mod domains;
mod hook;
mod relation;
mod source;
mod table;
mod template;

pub use source::server_address;

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::reader::{Placed, Problem, ReadFile, Reader, Section};
use super::{
    Config, DomainRules, Format, Limits, Metrics, Recipients, Relation, Table, Treatment, Verify,
};
use crate::address::Address;
use crate::dn::DistinguishedName;
use crate::domain::Domain;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// Parses `text`, the content of the file at `path` (absolute), alone: a template that lies in a file of its own is missing.
pub fn parse(path: &Path, text: &str) -> Result<Config, Vec<Problem>> {
    parse_with(path, text, None)
}

/// Parses `text`, the content of the file at `path` (absolute), and the templates that it names.
pub fn parse_with(
    path: &Path,
    text: &str,
    read: Option<&ReadFile<'_>>,
) -> Result<Config, Vec<Problem>> {
    let reader = Reader::new(text, read);
    let table = reader.parse();
    let config = table
        .as_ref()
        .map(|table| root(path, text, &reader, Section::root(&reader, table)));
    match (config, reader.into_problems()) {
        (Some(config), problems) if problems.is_empty() => Ok(config),
        (_, problems) => Err(problems),
    }
}

fn root(path: &Path, text: &str, reader: &Reader<'_>, root: Section<'_, '_>) -> Config {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let parsed = domains::parse(&root, reader);
    let sources = source::sources(&root, directory);
    domains::check_origin(&root, &parsed, &sources);
    let (complete, policies) = domains::each(&root, &parsed);
    if sources.is_empty() && !reader.has_told_of("source") {
        reader.report_missing(
            "source",
            "missing: at least one [source.NAME] says where recipients come from",
        );
    }
    let tables = table::tables(&root, directory);
    domains::check_policies(&root, &policies, &tables);
    if tables.is_empty() && !reader.has_told_of("table") {
        reader.report_missing(
            "table",
            "missing: at least one [table.NAME] says what to publish",
        );
    }
    let (hooks, notices) = hook::hooks(&root);
    let config = Config {
        path: path.to_owned(),
        text: text.to_owned(),
        state_dir: path_of(&root, "state_dir", directory)
            .unwrap_or_else(|| "/var/lib/rcptsync/state".into()),
        run_timeout: positive(&root, "run_timeout", 15 * MINUTE),
        recipients: root
            .section("recipients")
            .map_or_else(default_recipients, |section| {
                recipients(section, &parsed.rules.list)
            }),
        guard: root
            .section("guard")
            .map_or_else(default_limits, |section| {
                limits(section, parsed.whole_list())
            }),
        hooks,
        notices,
        history_keep: root.section("history").map_or(90 * DAY, |section| {
            let keep = section.duration("keep", 90 * DAY);
            section.finish();
            keep
        }),
        verify: root.section("verify").map(verify),
        metrics: (root.section("metrics")).and_then(|section| metrics(section, directory)),
        domains: DomainRules {
            complete,
            policies: policies.into_iter().map(|policy| policy.value).collect(),
            ..parsed.rules
        },
        sources,
        tables,
    };
    duplicates(
        &root,
        "hook",
        config.all_hooks().map(|hook| hook.name.clone()),
    );
    let places = (config.tables.iter()).flat_map(|table| {
        table
            .formats
            .iter()
            .filter_map(|format| place(table, *format))
    });
    duplicates(&root, "table", places);
    check_textfile(&root, &config);
    root.finish();
    config
}

/// Where a table is written in one format, so that the same place looks the same: `a/./b` and `a/b` are one file.
fn place(table: &Table, format: Format) -> Option<String> {
    let file = table.file(format);
    if format.is_file() {
        let plain = file.components().collect::<PathBuf>();
        return Some(plain.display().to_string());
    }
    table.relation.as_ref().map(Relation::name)
}

fn duplicates(root: &Section<'_, '_>, key: &'static str, names: impl Iterator<Item = String>) {
    let mut names: Vec<String> = names.collect();
    names.sort();
    for pair in names.windows(2).filter(|pair| pair[0] == pair[1]) {
        root.problem(key, format!("\"{}\" stands there twice", pair[0]));
    }
}

fn default_recipients() -> Recipients {
    Recipients {
        always: Vec::new(),
        exclude_dn: Vec::new(),
        exclude: Vec::new(),
        internal_only: Treatment::LeaveOut,
        system: Treatment::LeaveOut,
        grace: Duration::ZERO,
    }
}

fn recipients(section: Section<'_, '_>, domains: &[Domain]) -> Recipients {
    let default = default_recipients();
    let any_domain = domains.first().map_or("example.com", Domain::ascii);
    let mut always = Vec::new();
    for text in section.texts("always") {
        // Read as a local part, it would become "postmaster@example.com"@example.com.
        if text.value.contains('@') {
            let message = format!(
                "\"{}\" is an address; name the local part alone",
                text.value
            );
            section.problem_at(&text.at, "always", message);
            continue;
        }
        match Address::parse(&format!("{}@{any_domain}", text.value)) {
            Ok(address) => always.push(address.local().to_owned()),
            Err(error) => section.problem_at(
                &text.at,
                "always",
                format!(
                    "\"{}\" is no local part such as \"postmaster\": {error}",
                    text.value
                ),
            ),
        }
    }
    let mut exclude_dn = Vec::new();
    for text in section.texts("exclude_dn") {
        match DistinguishedName::parse(&text.value) {
            Ok(name) if !text.value.trim().is_empty() => exclude_dn.push(name),
            Ok(_) => section.problem_at(
                &text.at,
                "exclude_dn",
                "an empty name would exclude everything",
            ),
            Err(error) => section.problem_at(
                &text.at,
                "exclude_dn",
                format!("\"{}\": {error}", text.value),
            ),
        }
    }
    let recipients = Recipients {
        exclude: addresses(&section, "exclude", None),
        internal_only: treatment(&section, "internal_only"),
        system: treatment(&section, "system"),
        grace: section.duration("grace", default.grace),
        always,
        exclude_dn,
    };
    section.finish();
    recipients
}

fn treatment(section: &Section<'_, '_>, key: &'static str) -> Treatment {
    match section.text(key) {
        Some(text) if text.value == "accept" => Treatment::Accept,
        Some(text) if text.value != "leave_out" => {
            section.problem_at(
                &text.at,
                key,
                format!("\"{}\" is none of \"leave_out\", \"accept\"", text.value),
            );
            Treatment::LeaveOut
        }
        _ => Treatment::LeaveOut,
    }
}

/// Addresses; where `domains` are given, each must lie in one of them.
fn addresses(
    section: &Section<'_, '_>,
    key: &'static str,
    domains: Option<&[Domain]>,
) -> Vec<Address> {
    let mut found = Vec::new();
    for text in section.texts(key) {
        match Address::parse(&text.value) {
            Ok(address) if domains.is_some_and(|domains| !domains.contains(address.domain())) => {
                let message = format!(
                    "{} is not among the domains of [domains] list",
                    address.domain()
                );
                section.problem_at(&text.at, key, message);
            }
            Ok(address) => found.push(address),
            Err(error) => section.problem_at(&text.at, key, format!("\"{}\": {error}", text.value)),
        }
    }
    found
}

fn default_limits() -> Limits {
    Limits {
        removed_percent_max: 5.0,
        removed_floor: 10,
        window: DAY,
        added_percent_max: 100.0,
        added_floor: 1000,
        recipients_min: 1,
        must_contain: Vec::new(),
    }
}

fn limits(section: Section<'_, '_>, domains: Option<&[Domain]>) -> Limits {
    let default = default_limits();
    let limits = Limits {
        removed_percent_max: section.percent("removed_percent_max", default.removed_percent_max),
        removed_floor: section.integer("removed_floor", default.removed_floor, 0..u64::MAX),
        window: section.duration("window", default.window),
        added_percent_max: section.percent("added_percent_max", default.added_percent_max),
        added_floor: section.integer("added_floor", default.added_floor, 0..u64::MAX),
        recipients_min: section.integer("recipients_min", default.recipients_min, 0..u64::MAX),
        must_contain: addresses(&section, "must_contain", domains),
    };
    section.finish();
    limits
}

fn verify(section: Section<'_, '_>) -> Verify {
    const SAMPLES_MAX: u64 = 100;
    let smtp = section.text("smtp").and_then(|text| {
        let endpoint = text.value.parse();
        if let Err(error) = &endpoint {
            section.problem_at(&text.at, "smtp", format!("\"{}\" is {error}", text.value));
        }
        endpoint.ok()
    });
    let verify = Verify {
        postmap: section.boolean("postmap", true),
        smtp,
        samples: section.integer("samples", 5, 1..SAMPLES_MAX + 1) as usize,
        timeout: positive(&section, "timeout", Duration::from_secs(30)),
        patience: section.duration("patience", Duration::from_secs(11)),
    };
    section.finish();
    verify
}

fn metrics(section: Section<'_, '_>, directory: &Path) -> Option<Metrics> {
    let textfile = path_of(&section, "textfile", directory);
    if !section.has("textfile") {
        let message = "missing: the file for node_exporter, textfile = \"/var/lib/rcptsync/metrics/rcptsync.prom\"";
        section.problem("textfile", message);
    }
    section.finish();
    textfile.map(|textfile| Metrics { textfile })
}

/// A file of metrics that nothing would read.
fn check_textfile(root: &Section<'_, '_>, config: &Config) {
    let Some(Metrics { textfile }) = &config.metrics else {
        return;
    };
    let problem = |message: &str| root.problem("metrics", message);
    if textfile.extension().is_none_or(|suffix| suffix != "prom") {
        problem("textfile must end with .prom: node_exporter reads no other");
    }
    if textfile.starts_with(&config.state_dir) {
        problem("textfile lies in state_dir, which nobody else may read");
    }
}

/// Names become file names in the state directory and words in metrics.
fn name_is_plain(section: &Section<'_, '_>, name: &Placed<String>) {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if name.value.is_empty() || name.value.len() > 64 || !name.value.bytes().all(is_plain) {
        let message = format!(
            "\"{}\": a name has letters, digits, - and _, at most 64",
            name.value
        );
        section.problem_at(&name.at, "", message);
    }
}

fn positive(section: &Section<'_, '_>, key: &'static str, default: Duration) -> Duration {
    let duration = section.duration(key, default);
    if duration.is_zero() {
        section.problem(key, "must be longer than nothing");
    }
    duration
}

fn path_of(section: &Section<'_, '_>, key: &'static str, directory: &Path) -> Option<PathBuf> {
    let text = section.text(key)?;
    if text.value.is_empty() || text.value.contains('\0') {
        section.problem_at(&text.at, key, "is not a path");
    }
    // Joining an absolute path gives that path.
    Some(directory.join(text.value))
}
