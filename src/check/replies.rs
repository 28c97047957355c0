//! Judging what Postfix says to an unknown recipient: that it refuses, with which code, and before anything else.

use super::facts::{Facts, Postfix};
use super::gather::RESTRICTIONS;
use super::{Told, error, info, warning};
use crate::postfix::master::Service;

const EXPLICIT: &str = "reject_unlisted_recipient";
const CALLOUT: &str = "reject_unverified_recipient";

/// Per service that strangers reach, where it says so itself: `postconf -P 'smtp/inet/…'`, else main.cf.
fn mend(service: &Service, name: &str, value: &str) -> String {
    if service.overrides.contains_key(name) {
        format!(
            "postconf -P '{}/{name}={value}'; postfix reload",
            service.path()
        )
    } else {
        format!("postconf -e '{name} = {value}'; postfix reload")
    }
}

/// The services that say something which a test finds wrong, each once for main.cf and once for its own.
fn wrong<'facts>(
    postfix: &'facts Postfix,
    name: &str,
    is_wrong: impl Fn(&Service, &str) -> bool,
) -> Vec<(&'facts Service, &'facts str)> {
    let mut found: Vec<(&Service, &str)> = Vec::new();
    for service in postfix.settings.open_services() {
        let value = postfix.settings.of(service, name);
        let is_own = |service: &Service| service.overrides.contains_key(name);
        let is_told = !is_own(service) && found.iter().any(|(told, _)| !is_own(told));
        if is_wrong(service, value) && !is_told {
            found.push((service, value));
        }
    }
    found
}

fn place(service: &Service, name: &str) -> String {
    if service.overrides.contains_key(name) {
        format!("master.cf, {}: ", service.path())
    } else {
        String::new()
    }
}

pub(super) fn unlisted_recipient(facts: &Facts<'_>) -> Vec<Told> {
    const NAME: &str = "smtpd_reject_unlisted_recipient";
    let Some(postfix) = facts.postfix() else {
        return Vec::new();
    };
    let found = wrong(postfix, NAME, |service, value| {
        value != "yes" && !is_explicit(postfix, service)
    })
    .into_iter();
    found
        .map(|(service, value)| {
            error(
                format!(
                    "{}{NAME} = {value}, and no restriction says {EXPLICIT}",
                    place(service, NAME)
                ),
                "the table is never asked: every recipient of a relay domain is taken",
                mend(service, NAME, "yes"),
            )
        })
        .collect()
}

fn is_explicit(postfix: &Postfix, service: &Service) -> bool {
    words(postfix, service).iter().any(|word| word == EXPLICIT)
}

/// All restrictions of a service in the order in which they are looked at for a recipient.
fn words(postfix: &Postfix, service: &Service) -> Vec<String> {
    let lists = RESTRICTIONS
        .iter()
        .map(|name| postfix.settings.of(service, name));
    let words = lists.flat_map(crate::postfix::relay_domains::tokens);
    words.map(str::to_owned).collect()
}

pub(super) fn unknown_recipient_checks(facts: &Facts<'_>) -> Vec<Told> {
    const NAME: &str = "receive_override_options";
    let Some(postfix) = facts.postfix() else {
        return Vec::new();
    };
    let found = wrong(postfix, NAME, |_, value| {
        value.contains("no_unknown_recipient_checks")
    })
    .into_iter();
    found
        .map(|(service, value)| {
            error(
                format!("{}{NAME} = {value}", place(service, NAME)),
                "strangers reach this service, and it takes every recipient; only a service behind a content filter, on the \
                 loopback address, may skip the check",
                if service.overrides.contains_key(NAME) {
                    format!("take no_unknown_recipient_checks out of {} in master.cf", service.path())
                } else {
                    format!("postconf -e '{NAME} ='; set it for the service behind the filter alone")
                },
            )
        })
        .collect()
}

pub(super) fn reject_code(facts: &Facts<'_>) -> Vec<Told> {
    const NAME: &str = "unknown_relay_recipient_reject_code";
    let Some(postfix) = facts.postfix() else {
        return Vec::new();
    };
    let found = wrong(postfix, NAME, |_, value| value != "550").into_iter();
    found
        .map(|(service, value)| {
            let what = format!("{}{NAME} = {value}", place(service, NAME));
            let mend = mend(service, NAME, "550");
            if value.starts_with('4') {
                let why =
                    "the sender tries for days before anybody learns that the address is wrong";
                error(what, why, mend)
            } else {
                warning(
                    what,
                    "550 is what senders take for an address that does not exist",
                    mend,
                )
            }
        })
        .collect()
}

pub(super) fn soft_bounce(facts: &Facts<'_>) -> Vec<Told> {
    const NAME: &str = "soft_bounce";
    let Some(postfix) = facts.postfix() else {
        return Vec::new();
    };
    let found = wrong(postfix, NAME, |_, value| value == "yes").into_iter();
    found
        .map(|(service, _)| {
            error(
                format!("{}soft_bounce = yes", place(service, NAME)),
                "every 550 goes out as 450: senders try for days, and nothing is ever refused for good",
                mend(service, NAME, "no"),
            )
        })
        .collect()
}

pub(super) fn refusal_order(facts: &Facts<'_>) -> Vec<Told> {
    let Some(postfix) = facts.postfix() else {
        return Vec::new();
    };
    let mut found: Vec<Told> = Vec::new();
    for service in postfix.settings.open_services() {
        let words = words(postfix, service);
        let place_of = |is_it: &dyn Fn(&str) -> bool| words.iter().position(|word| is_it(word));
        let deferring = place_of(&|word| word == "check_policy_service" || word == CALLOUT);
        let refusing = place_of(&|word| word == EXPLICIT);
        let Some(deferring) = deferring.filter(|at| refusing.is_none_or(|refusing| *at < refusing))
        else {
            continue;
        };
        let word = words.get(deferring).map_or("", String::as_str);
        let told = info(
            format!("{}: {word} comes before {EXPLICIT}", service.path()),
            "a greylisting policy answers 450 to an unknown recipient first, and keeps a row for it; the refusal comes with the \
             second attempt",
            format!("put {EXPLICIT} right behind reject_unauth_destination"),
        );
        let is_same = |known: &Told| known.mend == told.mend && known.why == told.why;
        if !found.iter().any(is_same) {
            found.push(told);
        }
    }
    found
}

pub(super) fn callout_codes(facts: &Facts<'_>) -> Vec<Told> {
    const REJECT: &str = "unverified_recipient_reject_code";
    const DEFER: &str = "unverified_recipient_defer_code";
    let Some(postfix) = facts.postfix() else {
        return Vec::new();
    };
    if !is_callout_used(postfix) {
        return Vec::new();
    }
    let rejected = wrong(postfix, REJECT, |_, value| value != "550").into_iter().map(|(service, value)| {
        warning(
            format!("{}{REJECT} = {value}, and {CALLOUT} is used", place(service, REJECT)),
            "an address that does not exist is refused for the moment alone, and the sender tries for days",
            mend(service, REJECT, "550"),
        )
    });
    let deferred = wrong(postfix, DEFER, |_, value| value.starts_with('2'))
        .into_iter()
        .map(|(service, value)| {
            error(
                format!(
                    "{}{DEFER} = {value}, and {CALLOUT} is used",
                    place(service, DEFER)
                ),
                "whatever cannot be asked now is taken, and bounced later",
                mend(service, DEFER, "450"),
            )
        });
    rejected.chain(deferred).collect()
}

/// Among the restrictions, or in an access table.
fn is_callout_used(postfix: &Postfix) -> bool {
    let mut services = postfix.settings.open_services();
    let is_named =
        services.any(|service| words(postfix, service).iter().any(|word| word == CALLOUT));
    let mut rows = postfix
        .access
        .iter()
        .flat_map(|access| access.rows.iter().flatten());
    is_named || rows.any(|(_, action)| action.contains(CALLOUT))
}
