//! `[source.NAME]`: where recipients come from, checked. Pure.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use super::super::reader::{Placed, Section};
use super::super::secret::SecretPlace;
use super::super::{
    Bind, Discovery, FileSource, Incremental, LdapSource, ServerAddress, Servers, Source,
    SourceKind,
};
use super::{HOUR, name_is_plain, path_of, positive};
use crate::dn::DistinguishedName;

/// Each source is a bit of 64 in the row of a table; the other half is room for sources that were removed.
const SOURCES_MAX: usize = 32;

/// All of them, in the order of the file.
pub(super) fn sources(root: &Section<'_, '_>, directory: &Path) -> Vec<Source> {
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
        Some(kind) if kind.value == "ldap" => {
            Some(SourceKind::Ldap(Box::new(ldap(&section, directory))))
        }
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
    let servers = servers(section);
    let filter = filter(section);
    let mut bases = Vec::new();
    for base in section.texts("base") {
        if let Err(error) = DistinguishedName::parse(&base.value) {
            section.problem_at(&base.at, "base", format!("\"{}\": {error}", base.value));
        }
        bases.push(base.value);
    }
    let starttls = section.boolean("starttls", false);
    let bind = bind(section, directory);
    if let Servers::Listed(servers) = &servers {
        check_protection(section, servers, starttls, &bind);
    }
    LdapSource {
        bases,
        incremental: incremental(section, &filter),
        full_every: section
            .text("full_every")
            .and_then(|text| section.duration_of("full_every", &text)),
        replication_delay: section.duration("replication_delay", 4 * HOUR),
        filter,
        page_size: u32::try_from(section.integer("page_size", 1000, 1..100_001)).unwrap_or(1000),
        connect_timeout: positive(section, "connect_timeout", Duration::from_secs(5)),
        timeout: positive(section, "timeout", Duration::from_secs(30)),
        ca_file: path_of(section, "ca_file", directory),
        bind,
        starttls,
        servers,
    }
}

/// `discover` or `servers`, and what goes with the one or the other.
fn servers(section: &Section<'_, '_>) -> Servers {
    let discover = section.text("discover");
    let site = section.text("site");
    let is_global_catalog = section.boolean("global_catalog", false);
    let Some(domain) = discover else {
        if section.has("discover") {
            return Servers::Listed(Vec::new());
        }
        if site.is_some() {
            section.problem("site", "goes with discover = \"corp.example\" only");
        }
        if is_global_catalog {
            section.problem(
                "global_catalog",
                "goes with discover = \"corp.example\" only; in servers, port 3269 says the same: \
                 \"ldaps://dc1.corp.example:3269\"",
            );
        }
        return Servers::Listed(listed_servers(section));
    };
    if !section.texts("servers").is_empty() {
        section.problem("discover", "either servers or discover, not both");
    }
    if !is_dns_name(&domain.value) {
        section.problem_at(
            &domain.at,
            "discover",
            format!(
                "\"{}\" is not the DNS name of a domain, such as \"corp.example\"",
                domain.value
            ),
        );
    }
    if let Some(site) = &site
        && !is_dns_label(&site.value)
    {
        section.problem_at(
            &site.at,
            "site",
            format!(
                "\"{}\" is not a name that DNS can be asked for: up to 63 letters, digits, hyphens and underscores",
                site.value
            ),
        );
    }
    Servers::Discovered(Discovery {
        domain: domain.value.to_ascii_lowercase(),
        site: site.map(|site| site.value),
        is_global_catalog,
    })
}

fn listed_servers(section: &Section<'_, '_>) -> Vec<ServerAddress> {
    let mut servers = Vec::new();
    let example = "[\"ldaps://dc1.corp.example\"], or discover = \"corp.example\"";
    for text in section.texts_needed("servers", example) {
        match server_address(&text.value) {
            Ok(server) => servers.push(server),
            Err(message) => section.problem_at(
                &text.at,
                "servers",
                format!("\"{}\": {message}", text.value),
            ),
        }
    }
    // Whichever answers first is believed; a forest one day and one domain the next would be a mass removal.
    let catalog = servers.iter().find(|server| server.is_global_catalog());
    let other = servers.iter().find(|server| !server.is_global_catalog());
    if let (Some(catalog), Some(other)) = (catalog, other) {
        let message = format!(
            "{} is a global catalog and {} is not: they hold different things; name one kind only",
            catalog.url, other.url
        );
        section.problem("servers", message);
    }
    servers
}

/// Whether every server is reached as a password must travel. Discovered ones are by construction.
fn check_protection(
    section: &Section<'_, '_>,
    servers: &[ServerAddress],
    starttls: bool,
    bind: &Bind,
) {
    if starttls && servers.iter().any(|server| server.is_ldaps) {
        section.problem(
            "starttls",
            "an ldaps:// server speaks TLS from the first byte; use ldap:// with starttls",
        );
    }
    if !starttls
        && let Some(server) = servers.iter().find(|server| !server.is_ldaps)
        && let Some(why) = bind.needs_tls()
    {
        let message = format!(
            "{} is to be reached without TLS, and {why}; use ldaps:// or starttls = true",
            server.url
        );
        section.problem("servers", message);
    }
    if let Bind::Gssapi { .. } = bind {
        let is_address = |server: &&ServerAddress| server.host.parse::<IpAddr>().is_ok();
        if let Some(server) = servers.iter().find(is_address) {
            let message = format!(
                "{}: Kerberos knows a server by its name; write it as ldaps://dc1.corp.example",
                server.url
            );
            section.problem("servers", message);
        }
    }
}

/// A name that can be asked for and that can stand in a certificate. Not a mail domain: underscores are seen in names of
/// directories, and Microsoft's DNS knows no A-labels.
fn is_dns_name(text: &str) -> bool {
    // The longest question about it must remain a name: 253 octets.
    const OCTETS_MAX: usize = 155;
    text.len() <= OCTETS_MAX && text.split('.').all(is_dns_label)
}

fn is_dns_label(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=63).contains(&text.len()) && text.bytes().all(is_inner)
}

fn filter(section: &Section<'_, '_>) -> String {
    let Some(filter) = section.text("filter") else {
        return LdapSource::DEFAULT_FILTER.to_owned();
    };
    if !(filter.value.starts_with('(') && filter.value.ends_with(')')) {
        section.problem_at(
            &filter.at,
            "filter",
            "a search filter stands in parentheses: \"(proxyAddresses=smtp:*)\"",
        );
    }
    filter.value
}

fn incremental(section: &Section<'_, '_>, filter: &str) -> Incremental {
    let Some(text) = section.text("incremental") else {
        return Incremental::Auto;
    };
    match text.value.as_str() {
        "auto" => Incremental::Auto,
        "off" => Incremental::Off,
        "dirsync" => {
            if filter != LdapSource::DEFAULT_FILTER {
                // An object that ceases to match a filter of somebody's own is not reported as changed.
                section.problem_at(
                    &text.at,
                    "incremental",
                    "\"dirsync\" needs the default filter; leave `filter` out, or use \"off\"",
                );
            }
            Incremental::DirSync
        }
        other => {
            let message = format!("\"{other}\" is none of \"auto\", \"dirsync\", \"off\"");
            section.problem_at(&text.at, "incremental", message);
            Incremental::Auto
        }
    }
}

/// For messages.
const METHODS: &str = "\"simple\", \"external\", \"gssapi\" or \"anonymous\"";

fn bind(section: &Section<'_, '_>, directory: &Path) -> Bind {
    let Some(bind) = section.section("bind") else {
        section.problem(
            "bind",
            format!("missing: [source.NAME.bind] with method = {METHODS}"),
        );
        return Bind::Anonymous;
    };
    let method = bind.text("method");
    let found = match method.as_ref().map(|method| method.value.as_str()) {
        Some("anonymous") => Bind::Anonymous,
        Some("simple") => simple_bind(&bind, directory),
        Some("external") => external_bind(&bind, directory),
        Some("gssapi") => gssapi_bind(&bind, directory),
        Some(other) => {
            bind.problem("method", format!("\"{other}\" is none of {METHODS}"));
            return Bind::Anonymous;
        }
        None => {
            bind.problem("method", format!("missing: {METHODS}"));
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
    let password = secret(
        bind,
        directory,
        ("password_file", "credential"),
        "/etc/rcptsync/corp.password",
    );
    Bind::Simple { name, password }
}

fn external_bind(bind: &Section<'_, '_>, directory: &Path) -> Bind {
    let certificate_file = path_of(bind, "certificate_file", directory);
    if certificate_file.is_none() {
        bind.problem(
            "certificate_file",
            "missing: certificate_file = \"/etc/rcptsync/client.pem\"",
        );
    }
    let key = secret(
        bind,
        directory,
        ("key_file", "key_credential"),
        "/etc/rcptsync/client.key",
    );
    Bind::External {
        certificate_file: certificate_file.unwrap_or_default(),
        key,
    }
}

fn gssapi_bind(bind: &Section<'_, '_>, directory: &Path) -> Bind {
    if !cfg!(feature = "gssapi") {
        bind.problem(
            "method",
            "\"gssapi\" is not in this build: it lacks the cargo feature gssapi; \
             build with `cargo build --release --features gssapi`",
        );
    }
    let principal = bind.text("principal").map(|principal| principal.value);
    let principal = principal.unwrap_or_default();
    match principal.split_once('@') {
        Some((name, realm)) if !name.is_empty() && !realm.is_empty() && !realm.contains('@') => {
            if realm.chars().any(char::is_lowercase) {
                let message = format!(
                    "the realm of Active Directory is written in capitals: {name}@{}",
                    realm.to_uppercase()
                );
                bind.problem("principal", message);
            }
        }
        Some(_) | None => bind.problem(
            "principal",
            "missing: the account and its realm: principal = \"rcptsync@CORP.EXAMPLE\"",
        ),
    }
    let keytab = secret(
        bind,
        directory,
        ("keytab", "keytab_credential"),
        "/etc/rcptsync/rcptsync.keytab",
    );
    Bind::Gssapi { principal, keytab }
}

/// A secret: a file of its own, or a systemd credential.
pub(super) fn secret(
    bind: &Section<'_, '_>,
    directory: &Path,
    (file_key, credential_key): (&'static str, &'static str),
    example: &str,
) -> SecretPlace {
    let file = path_of(bind, file_key, directory);
    let credential = bind.text(credential_key);
    match (file, credential) {
        (Some(path), None) => return SecretPlace::File(path),
        (None, Some(name)) => {
            if name.value.is_empty() || name.value.contains('/') || name.value.starts_with('.') {
                bind.problem_at(
                    &name.at,
                    credential_key,
                    "is the name of a systemd credential, not a path",
                );
            }
            return SecretPlace::Credential(name.value);
        }
        (Some(_), Some(_)) => bind.problem(
            credential_key,
            format!("either {file_key} or {credential_key}, not both"),
        ),
        (None, None) => {
            let name = Path::new(example).file_name().unwrap_or_default().display();
            bind.problem(
                file_key,
                format!("missing: {file_key} = \"{example}\", or {credential_key} = \"{name}\""),
            );
        }
    }
    SecretPlace::Credential(String::new())
}

/// `ldap://` or `ldaps://`, a host, an optional port, and nothing that would be ignored.
pub fn server_address(url: &str) -> Result<ServerAddress, &'static str> {
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
