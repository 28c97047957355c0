//! Search references: what a directory says it holds elsewhere. Pure.
//!
//! A search at the root of an Active Directory domain always meets references to partitions that hold no recipients; a
//! reference to a child domain means that recipients were asked for and not given. It is covered when a source of its own
//! reads there.

use crate::config::{Source, SourceKind};
use crate::dn::DistinguishedName;

/// The references that no source covers and that may hide recipients, as they were received.
pub fn uncovered(referrals: &[String], sources: &[Source]) -> Vec<String> {
    let bases: Vec<DistinguishedName> = sources
        .iter()
        .filter_map(|source| match &source.kind {
            SourceKind::Ldap(ldap) => Some(&ldap.bases),
            SourceKind::Ldif(_) | SourceKind::List(_) => None,
        })
        .flatten()
        .filter_map(|base| DistinguishedName::parse(base).ok())
        .collect();
    let is_uncovered = |referral: &&String| match target(referral) {
        Some(target) => {
            !holds_no_recipients(&target) && !bases.iter().any(|base| is_covered(base, &target))
        }
        None => true,
    };
    referrals.iter().filter(is_uncovered).cloned().collect()
}

fn is_covered(base: &DistinguishedName, target: &str) -> bool {
    DistinguishedName::parse(target).is_ok_and(|target| base.is_at_or_under(&target))
}

/// The DN in `ldap://host/DN??scope`.
fn target(referral: &str) -> Option<String> {
    let (_, rest) = referral.split_once("://")?;
    let (_, rest) = rest.split_once('/')?;
    let encoded = rest.split('?').next().unwrap_or_default();
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut octets = encoded.bytes();
    while let Some(octet) = octets.next() {
        let decoded = if octet == b'%' {
            let digits = [octets.next()?, octets.next()?];
            u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
        } else {
            octet
        };
        bytes.push(decoded);
    }
    String::from_utf8(bytes)
        .ok()
        .filter(|target| !target.is_empty())
}

/// The partitions every domain controller refers to: configuration, schema and the two of DNS.
fn holds_no_recipients(target: &str) -> bool {
    let first = target.split(',').next().unwrap_or_default().trim();
    [
        "CN=Configuration",
        "CN=Schema",
        "DC=DomainDnsZones",
        "DC=ForestDnsZones",
    ]
    .iter()
    .any(|partition| first.eq_ignore_ascii_case(partition))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(referral: &str, base: &str, is_uncovered: bool) {
        let text = format!(
            "[domains]\nlist=['x']\n[table.t]\npath='t'\nformats=['cdb']\n[source.a]\nkind='ldap'\n\
             servers=['ldaps://dc']\nbase=['{base}']\nbind={{method='anonymous'}}\n"
        );
        let config =
            crate::config::parse(std::path::Path::new("/c"), &text).expect("a configuration");
        assert_eq!(
            !uncovered(&[referral.to_owned()], &config.sources).is_empty(),
            is_uncovered,
            "{referral}"
        );
    }

    #[test]
    fn only_a_child_domain_without_a_source_is_uncovered() {
        let base = "DC=corp,DC=example";
        check(
            "ldap://corp.example/CN=Configuration,DC=corp,DC=example",
            base,
            false,
        );
        check(
            "ldap://DomainDnsZones.corp.example/DC=DomainDnsZones,DC=corp,DC=example",
            base,
            false,
        );
        check(
            "ldap://corp.example/DC=ForestDnsZones,DC=corp,DC=example??sub",
            base,
            false,
        );
        check(
            "ldap://child.corp.example/DC=child,DC=corp,DC=example",
            base,
            true,
        );
        check(
            "ldap://child.corp.example/DC=child,DC=corp,DC=example",
            "dc=child, dc=corp,dc=example",
            false,
        );
        check(
            "ldap://child.corp.example/DC=child%2CDC=corp,DC=example",
            "OU=x,DC=child,DC=corp,DC=example",
            false,
        );
        check("ldap://elsewhere", base, true);
        check("nonsense", base, true);
    }
}
