//! Judging what the directory says of Exchange: what it does with mail for recipients it does not have.

use super::facts::Facts;
use super::{Told, info, some_of, warning};
use crate::directory::Posture;
use crate::exchange::Relation;

/// Whom no other remote domain is about.
const DEFAULT: &str = "*";
/// Enabled, for mail from outside, with validation of recipients.
const VALIDATES: i64 = 0x1 | 0x2 | 0x800;

fn postures<'facts>(facts: &'facts Facts<'_>) -> impl Iterator<Item = &'facts Posture> {
    let seen = facts
        .sources
        .iter()
        .filter_map(|source| source.servers.as_ref()?.as_ref().ok());
    seen.filter_map(|seen| seen.posture.as_ref())
}

pub(super) fn remote_domains(facts: &Facts<'_>) -> Vec<Told> {
    let mut found = Vec::new();
    for posture in postures(facts) {
        let sending: Vec<String> = posture
            .remote_domains
            .iter()
            .filter(|domain| domain.sends_reports && domain.name != DEFAULT)
            .map(|domain| domain.name.clone())
            .collect();
        let default = posture
            .remote_domains
            .iter()
            .find(|domain| domain.name == DEFAULT);
        let Some(default) = default else {
            continue;
        };
        let mend = "Set-RemoteDomain Default -NDREnabled";
        found.push(if default.sends_reports {
            info(
                "Exchange sends non-delivery reports to everybody (remote domain *)".into(),
                "what the gateway takes and Exchange refuses goes back to whoever stands in the envelope, forged or not; with \
                 the table in force that should be next to nothing",
                format!("count them; if forged senders get many: {mend} $false, with remote domains for partners that need them"),
            )
        } else {
            let but = if sending.is_empty() {
                String::new()
            } else {
                format!(", but to {}", some_of(&sending))
            };
            info(
                format!("Exchange sends no non-delivery reports{but} (remote domain *)"),
                "mail that cannot be delivered vanishes: a sender whose address is right never learns that it did not arrive",
                format!("with the table in force they are few: {mend} $true"),
            )
        });
    }
    found
}

pub(super) fn recipient_filter(facts: &Facts<'_>) -> Vec<Told> {
    let validating = postures(facts).filter(|posture| {
        posture
            .recipient_filter
            .is_some_and(|flags| flags & VALIDATES == VALIDATES)
    });
    validating
        .map(|_| {
            info(
                "the recipient filter of Exchange is set to refuse unknown recipients".into(),
                "on a Mailbox server it answers after the message, and one wrong recipient takes it from all others; Microsoft \
                 advises against it there. Whether the agent runs on a server, the directory does not say",
                "rcptsync verify --callout HOST:2525 shows what it answers".into(),
            )
        })
        .collect()
}

pub(super) fn domain_types(facts: &Facts<'_>) -> Vec<Told> {
    let mut found = Vec::new();
    for posture in postures(facts).filter(|posture| !posture.without_look_up.is_empty()) {
        found.push(info(
            format!("Exchange does not look recipients up in {}", some_of(&posture.without_look_up)),
            "they are authoritative, but AddressBookEnabled is off, so no recipient filter knows who exists there",
            "Set-AcceptedDomain NAME -AddressBookEnabled $true".into(),
        ));
    }
    let reads = facts
        .sources
        .iter()
        .filter_map(|source| source.reading.as_ref()?.as_ref().ok());
    for organisation in reads.filter_map(|read| read.organisation.as_ref()) {
        let relayed: Vec<String> = facts
            .listed
            .iter()
            .filter(|listed| facts.config.domains.may_lack_recipients(&listed.domain))
            .filter_map(|listed| organisation.accepted(&listed.domain))
            .filter(|accepted| accepted.relation != Relation::Authoritative)
            .map(|accepted| format!("{} ({})", accepted.domain, accepted.relation.name()))
            .collect();
        if !relayed.is_empty() {
            found.push(warning(
                format!(
                    "Exchange relays mail for listed domains: {}",
                    some_of(&relayed)
                ),
                "some of their recipients live where no source reads, and the table refuses them",
                "add a source for them, or say directory_is_complete = true in [domain.\"NAME\"]"
                    .into(),
            ));
        }
    }
    found
}
