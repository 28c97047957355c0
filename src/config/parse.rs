//! From the text of the file to a [`Config`]: every value checked, every default in one place, all problems at once.
//!
//! Pure: it opens nothing, so `check` of a configuration needs neither the secret nor the network. A path that is not
//! absolute is taken from the directory of the configuration file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::reader::{Placed, Problem, Reader, Section};
use super::secret::SecretPlace;
use super::{
    Bind, Config, FileSource, Format, Hook, LdapSource, Limits, Recipients, ServerAddress, Source,
    SourceKind, Table, TableFolding, Treatment,
};
use crate::address::Address;
use crate::dn::DistinguishedName;
use crate::domain::Domain;
use crate::fold::{self, Folding};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// Each source is a bit of 64 in the row of a table; the other half is room for sources that were removed.
const SOURCES_MAX: usize = 32;

/// Parses `text`, the content of the file at `path` (absolute).
pub fn parse(path: &Path, text: &str) -> Result<Config, Vec<Problem>> {
    let reader = Reader::new(text);
    let table = reader.parse();
    let config = table
        .as_ref()
        .map(|table| root(path, &reader, Section::root(&reader, table)));
    match (config, reader.into_problems()) {
        (Some(config), problems) if problems.is_empty() => Ok(config),
        (_, problems) => Err(problems),
    }
}

fn root(path: &Path, reader: &Reader<'_>, root: Section<'_, '_>) -> Config {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let domains = root.section("domains").map(domains);
    if domains.is_none() && !reader.has_told_of("domains") {
        reader.report_missing(
            "domains",
            "missing: name the domains to publish, [domains] list = [\"example.com\"]",
        );
    }
    let domains = domains.unwrap_or_default();
    let sources = sources(&root, directory);
    if sources.is_empty() && !reader.has_told_of("source") {
        reader.report_missing(
            "source",
            "missing: at least one [source.NAME] says where recipients come from",
        );
    }
    let tables = tables(&root, directory);
    if tables.is_empty() && !reader.has_told_of("table") {
        reader.report_missing(
            "table",
            "missing: at least one [table.NAME] says what to publish",
        );
    }
    let config = Config {
        path: path.to_owned(),
        state_dir: path_of(&root, "state_dir", directory)
            .unwrap_or_else(|| "/var/lib/rcptsync/state".into()),
        run_timeout: positive(&root, "run_timeout", 15 * MINUTE),
        recipients: root
            .section("recipients")
            .map_or_else(default_recipients, |section| recipients(section, &domains)),
        guard: root
            .section("guard")
            .map_or_else(default_limits, |section| limits(section, &domains)),
        hooks: root
            .listed_sections("hook")
            .into_iter()
            .filter_map(hook)
            .collect(),
        history_keep: root.section("history").map_or(90 * DAY, |section| {
            let keep = section.duration("keep", 90 * DAY);
            section.finish();
            keep
        }),
        domains,
        sources,
        tables,
    };
    duplicates(
        &root,
        "hook",
        config.hooks.iter().map(|hook| hook.name.clone()),
    );
    let files = config
        .tables
        .iter()
        .flat_map(|table| table.formats.iter().map(|format| table.file(*format)));
    // `a/./b` and `a/b` are one file.
    let plain = |file: PathBuf| file.components().collect::<PathBuf>();
    duplicates(
        &root,
        "table",
        files.map(|file| plain(file).display().to_string()),
    );
    root.finish();
    config
}

fn duplicates(root: &Section<'_, '_>, key: &'static str, names: impl Iterator<Item = String>) {
    let mut names: Vec<String> = names.collect();
    names.sort();
    for pair in names.windows(2).filter(|pair| pair[0] == pair[1]) {
        root.problem(key, format!("\"{}\" stands there twice", pair[0]));
    }
}

fn domains(section: Section<'_, '_>) -> Vec<Domain> {
    if section.text("from").is_some() {
        section.problem("from", "this version does not read domains from Exchange or Postfix; use list = [\"example.com\"]");
    }
    let mut domains: Vec<Domain> = Vec::new();
    for text in section.texts_needed("list", "[\"example.com\"]") {
        let domain = match Domain::parse(&text.value) {
            Ok(domain) => domain,
            Err(error) => {
                section.problem_at(&text.at, "list", format!("\"{}\": {error}", text.value));
                continue;
            }
        };
        let folded = fold::unicode(domain.unicode());
        match domains
            .iter()
            .find(|other| fold::unicode(other.unicode()) == folded)
        {
            Some(other) if *other == domain => {
                section.problem_at(&text.at, "list", format!("{domain} stands there twice"));
            }
            // straße.example and strasse.example: two owners, one lookup key.
            Some(other) => {
                let message = format!(
                    "{domain} and {other} are one domain to Postfix, which folds both to {folded}"
                );
                section.problem_at(&text.at, "list", message);
            }
            None => domains.push(domain),
        }
    }
    section.finish();
    domains
}

fn sources(root: &Section<'_, '_>, directory: &Path) -> Vec<Source> {
    let sections = root.named_sections("source");
    if sections.len() > SOURCES_MAX {
        root.problem(
            "source",
            format!(
                "there are {} sources, at most {SOURCES_MAX} are possible",
                sections.len()
            ),
        );
    }
    sections
        .into_iter()
        .filter_map(|(name, section)| source(&name, section, directory))
        .collect()
}

fn source(name: &Placed<String>, section: Section<'_, '_>, directory: &Path) -> Option<Source> {
    name_is_plain(&section, name);
    let kind = match section.text("kind") {
        Some(kind) if kind.value == "ldap" => Some(SourceKind::Ldap(ldap(&section, directory))),
        Some(kind) if kind.value == "ldif" => {
            Some(SourceKind::Ldif(file(&section, directory, Some(48 * HOUR))))
        }
        Some(kind) if kind.value == "list" => {
            Some(SourceKind::List(file(&section, directory, None)))
        }
        Some(kind) => {
            section.problem_at(
                &kind.at,
                "kind",
                format!("\"{}\" is none of \"ldap\", \"ldif\", \"list\"", kind.value),
            );
            return None;
        }
        None => {
            section.problem("kind", "missing: \"ldap\", \"ldif\" or \"list\"");
            return None;
        }
    };
    section.finish();
    kind.map(|kind| Source {
        name: name.value.clone(),
        kind,
    })
}

fn ldap(section: &Section<'_, '_>, directory: &Path) -> LdapSource {
    if section.text("discover").is_some() {
        section.problem(
            "discover",
            "this version does not search DNS for servers; use servers = [\"ldaps://…\"]",
        );
    }
    let mut servers = Vec::new();
    for text in section.texts_needed("servers", "[\"ldaps://dc1.corp.example\"]") {
        match server_address(&text.value) {
            Ok(server) => servers.push(server),
            Err(message) => section.problem_at(
                &text.at,
                "servers",
                format!("\"{}\": {message}", text.value),
            ),
        }
    }
    let filter = section.text("filter");
    if let Some(filter) = filter
        .as_ref()
        .filter(|filter| !(filter.value.starts_with('(') && filter.value.ends_with(')')))
    {
        section.problem_at(
            &filter.at,
            "filter",
            "a search filter stands in parentheses: \"(proxyAddresses=smtp:*)\"",
        );
    }
    let mut bases = Vec::new();
    for base in section.texts("base") {
        if let Err(error) = DistinguishedName::parse(&base.value) {
            section.problem_at(&base.at, "base", format!("\"{}\": {error}", base.value));
        }
        bases.push(base.value);
    }
    let starttls = section.boolean("starttls", false);
    if starttls && servers.iter().any(|server| server.is_ldaps) {
        section.problem(
            "starttls",
            "an ldaps:// server speaks TLS from the first byte; use ldap:// with starttls",
        );
    }
    let source = LdapSource {
        bases,
        filter: filter.map_or_else(
            || "(proxyAddresses=smtp:*)".to_owned(),
            |filter| filter.value,
        ),
        page_size: u32::try_from(section.integer("page_size", 1000, 1..100_001)).unwrap_or(1000),
        connect_timeout: positive(section, "connect_timeout", Duration::from_secs(5)),
        timeout: positive(section, "timeout", Duration::from_secs(30)),
        ca_file: path_of(section, "ca_file", directory),
        bind: bind(section, directory),
        starttls,
        servers,
    };
    if let Bind::Simple { .. } = source.bind
        && !starttls
        && let Some(server) = source.servers.iter().find(|server| !server.is_ldaps)
    {
        let message = format!(
            "{} would carry the password in clear text; use ldaps:// or starttls = true",
            server.url
        );
        section.problem("servers", message);
    }
    source
}

fn bind(section: &Section<'_, '_>, directory: &Path) -> Bind {
    let Some(bind) = section.section("bind") else {
        section.problem(
            "bind",
            "missing: [source.NAME.bind] with method = \"simple\" or \"anonymous\"",
        );
        return Bind::Anonymous;
    };
    let method = bind.text("method");
    let found = match method.as_ref().map(|method| method.value.as_str()) {
        Some("anonymous") => Bind::Anonymous,
        Some("simple") => simple_bind(&bind, directory),
        Some(other) => {
            bind.problem(
                "method",
                format!("\"{other}\" is none of \"simple\", \"anonymous\""),
            );
            return Bind::Anonymous;
        }
        None => {
            bind.problem("method", "missing: \"simple\" or \"anonymous\"");
            return Bind::Anonymous;
        }
    };
    bind.finish();
    found
}

fn simple_bind(bind: &Section<'_, '_>, directory: &Path) -> Bind {
    let name = bind.text("name").map(|name| name.value).unwrap_or_default();
    if name.is_empty() {
        bind.problem(
            "name",
            "missing: the account, as rcptsync@corp.example, CORP\\rcptsync or a DN",
        );
    }
    let file = path_of(bind, "password_file", directory);
    let credential = bind.text("credential");
    let password = match (file, credential) {
        (Some(path), None) => SecretPlace::File(path),
        (None, Some(name)) => {
            if name.value.is_empty() || name.value.contains('/') || name.value.starts_with('.') {
                bind.problem_at(
                    &name.at,
                    "credential",
                    "is the name of a systemd credential, not a path",
                );
            }
            SecretPlace::Credential(name.value)
        }
        (Some(_), Some(_)) => {
            bind.problem("credential", "either password_file or credential, not both");
            SecretPlace::Credential(String::new())
        }
        (None, None) => {
            bind.problem("password_file", "missing: password_file = \"/etc/rcptsync/corp.password\", or credential = \"corp.password\"");
            SecretPlace::Credential(String::new())
        }
    };
    Bind::Simple { name, password }
}

/// `ldap://` or `ldaps://`, a host, an optional port, and nothing that would be ignored.
fn server_address(url: &str) -> Result<ServerAddress, &'static str> {
    let (is_ldaps, rest) = match (url.strip_prefix("ldaps://"), url.strip_prefix("ldap://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => return Err("a server is ldaps://HOST or ldap://HOST"),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match rest.strip_prefix('[') {
        Some(inside) => {
            let (host, port) = inside
                .split_once(']')
                .ok_or("the IPv6 address lacks its closing bracket")?;
            host.parse::<std::net::Ipv6Addr>()
                .map_err(|_| "no IPv6 address stands in the brackets")?;
            (
                host,
                if port.is_empty() {
                    None
                } else {
                    Some(port.strip_prefix(':').ok_or("a port begins with \":\"")?)
                },
            )
        }
        None if rest.matches(':').count() > 1 => {
            return Err("an IPv6 address stands in brackets: ldaps://[2001:db8::1]");
        }
        None => match rest.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        },
    };
    let is_host_byte =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
    if host.is_empty() || !host.bytes().all(is_host_byte) {
        return Err("no host name or address; a base or a filter does not belong into the URL");
    }
    let port = match port {
        Some(text) => text
            .parse::<u16>()
            .ok()
            .filter(|port| *port > 0)
            .ok_or("the port is no number from 1 to 65535")?,
        None if is_ldaps => 636,
        None => 389,
    };
    Ok(ServerAddress {
        url: url.to_owned(),
        is_ldaps,
        host: host.to_owned(),
        port,
    })
}

fn file(
    section: &Section<'_, '_>,
    directory: &Path,
    max_age_default: Option<Duration>,
) -> FileSource {
    let path = path_of(section, "path", directory);
    if path.is_none() {
        section.problem("path", "missing: the file to read");
    }
    let max_age = match section.text("max_age") {
        None => max_age_default,
        Some(text) if text.value == "none" => None,
        Some(text) => section.duration_of("max_age", &text),
    };
    FileSource {
        path: path.unwrap_or_default(),
        max_age,
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

fn limits(section: Section<'_, '_>, domains: &[Domain]) -> Limits {
    let default = default_limits();
    let limits = Limits {
        removed_percent_max: section.percent("removed_percent_max", default.removed_percent_max),
        removed_floor: section.integer("removed_floor", default.removed_floor, 0..u64::MAX),
        window: section.duration("window", default.window),
        added_percent_max: section.percent("added_percent_max", default.added_percent_max),
        added_floor: section.integer("added_floor", default.added_floor, 0..u64::MAX),
        recipients_min: section.integer("recipients_min", default.recipients_min, 0..u64::MAX),
        must_contain: addresses(&section, "must_contain", Some(domains)),
    };
    section.finish();
    limits
}

fn tables(root: &Section<'_, '_>, directory: &Path) -> Vec<Table> {
    root.named_sections("table")
        .into_iter()
        .filter_map(|(name, section)| table(&name, section, directory))
        .collect()
}

fn table(name: &Placed<String>, section: Section<'_, '_>, directory: &Path) -> Option<Table> {
    name_is_plain(&section, name);
    if let Some(kind) = section
        .text("kind")
        .filter(|kind| kind.value != "recipients")
    {
        section.problem_at(
            &kind.at,
            "kind",
            format!(
                "\"{}\": this version writes \"recipients\" only",
                kind.value
            ),
        );
    }
    let path = path_of(&section, "path", directory);
    match &path {
        None => section.problem(
            "path",
            "missing: the table's path as main.cf knows it, without a suffix",
        ),
        Some(path) if path.file_name().is_none() => {
            section.problem("path", "is a directory, not a file")
        }
        Some(path) if path.extension().is_some_and(|suffix| suffix == "cdb") => {
            section.problem(
                "path",
                "stands there without .cdb, as in main.cf; the format adds its suffix",
            );
        }
        Some(_) => {}
    }
    let table = Table {
        name: name.value.clone(),
        path: path.unwrap_or_default(),
        formats: formats(&section),
        value: value(&section),
        mode: mode(&section),
        folding: folding(&section),
    };
    section.finish();
    Some(table)
}

fn formats(section: &Section<'_, '_>) -> Vec<Format> {
    let mut formats = Vec::new();
    for text in section.texts_needed("formats", "[\"text\", \"cdb\"]") {
        match text.value.as_str() {
            "text" => formats.push(Format::Text),
            "cdb" => formats.push(Format::Cdb),
            other => section.problem_at(
                &text.at,
                "formats",
                format!("\"{other}\": this version writes \"text\" and \"cdb\""),
            ),
        }
    }
    // Text before the index that stands beside it, or smtpd warns that the index is older than its source.
    formats.sort_unstable();
    formats.dedup();
    formats
}

fn value(section: &Section<'_, '_>) -> String {
    let Some(text) = section.text("value") else {
        return "OK".to_owned();
    };
    if text.value.is_empty() || text.value.trim() != text.value {
        section.problem_at(
            &text.at,
            "value",
            "must not be empty (an empty value crashes smtpd 3.7) nor begin or end with a space",
        );
    }
    if text.value.chars().any(char::is_control) {
        section.problem_at(&text.at, "value", "holds a control character or a line end");
    }
    text.value
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

fn hook(section: Section<'_, '_>) -> Option<Hook> {
    let name = section.text("name");
    match &name {
        Some(name) => name_is_plain(&section, name),
        None => section.problem(
            "name",
            "missing: a name, under which it is reported and owed",
        ),
    }
    let run = section.texts("run");
    match run.first() {
        None => section.problem(
            "run",
            "missing: the program and its arguments, run = [\"/usr/local/bin/push\"]",
        ),
        Some(program) if !program.value.starts_with('/') => {
            section.problem_at(
                &program.at,
                "run",
                "the program is named by its absolute path; no shell and no PATH finds it",
            );
        }
        Some(_) => {}
    }
    if let Some(when) = section.text("when").filter(|when| when.value != "changed") {
        section.problem_at(
            &when.at,
            "when",
            format!("\"{}\": this version knows \"changed\"", when.value),
        );
    }
    let wants_json = match section.text("input") {
        None => false,
        Some(text) if text.value == "json" => true,
        Some(text) => {
            if text.value != "none" {
                section.problem_at(
                    &text.at,
                    "input",
                    format!("\"{}\" is none of \"none\", \"json\"", text.value),
                );
            }
            false
        }
    };
    let timeout = positive(&section, "timeout", 30 * Duration::from_secs(1));
    section.finish();
    let mut words = run.into_iter().map(|word| word.value);
    let program = PathBuf::from(words.next()?);
    Some(Hook {
        name: name?.value,
        program,
        arguments: words.collect(),
        wants_json,
        timeout,
    })
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
