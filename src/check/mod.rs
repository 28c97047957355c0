//! What `doctor` examines: a list of checks, each a small function over facts that were gathered once.
//!
//! ```text
//! gather (files, postconf, postmap, directory, PMG) -> Facts -> CHECKS -> findings
//! ```
//!
//! Gathering touches the world and decides nothing; judging is pure. A fact that could not be had is told as one that was
//! not checked, never passed over. Nothing is written and no lock is taken.
//!
//! Invariant: a gateway that is set up rightly gives no finding at all.

pub mod facts;
pub mod gather;

mod access;
mod classes;
mod domains;
mod exchange;
mod files;
mod maps;
mod pmg;
mod replies;
mod sources;
mod tables;

use serde::Serialize;

use facts::Facts;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Mail is refused that should not be, or accepted that should not be, or soon will be.
    Error,
    /// It works now, and something is in the way of its going on.
    Warning,
    /// Worth knowing; or not checked, and why.
    Info,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// The code of the check.
    pub check: &'static str,
    /// What is so.
    pub what: String,
    /// Why it matters.
    pub why: String,
    /// What to write or to run; empty where nothing is to be done.
    pub mend: String,
}

/// A finding of a check, which adds its code.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    severity: Severity,
    what: String,
    why: String,
    mend: String,
}

fn told(severity: Severity, what: String, why: &str, mend: String) -> Told {
    let why = why.to_owned();
    Told {
        severity,
        what,
        why,
        mend,
    }
}

fn error(what: String, why: &str, mend: String) -> Told {
    told(Severity::Error, what, why, mend)
}

fn warning(what: String, why: &str, mend: String) -> Told {
    told(Severity::Warning, what, why, mend)
}

fn info(what: String, why: &str, mend: String) -> Told {
    told(Severity::Info, what, why, mend)
}

/// What could not be looked at.
fn not_checked(what: &str, why: &str, mend: &str) -> Told {
    told(
        Severity::Info,
        format!("not checked: {what}"),
        why,
        mend.to_owned(),
    )
}

/// A list of names for one line: no longer than that.
fn some_of(names: &[String]) -> String {
    const SHOWN_MAX: usize = 8;
    let shown = names.iter().take(SHOWN_MAX).cloned().collect::<Vec<_>>();
    match names.len().saturating_sub(SHOWN_MAX) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// A check.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// Its name for programs; it stays.
    pub code: &'static str,
    /// What it looks at.
    pub title: &'static str,
    judge: fn(&Facts<'_>) -> Vec<Told>,
}

impl Check {
    /// What it is about: the heading that its findings stand under.
    pub fn area(&self) -> &'static str {
        match self.code {
            "sources" | "servers" | "last_read" => "sources",
            code if code.starts_with("table") || code == "selinux" => "tables",
            "reload_hook"
            | "postfix"
            | "relay_recipient_maps"
            | "map_type"
            | "map_opens"
            | "map_older"
            | "folding" => "what Postfix asks",
            "unlisted_recipient"
            | "unknown_recipient_checks"
            | "reject_code"
            | "soft_bounce"
            | "refusal_order"
            | "callout_codes" => "what Postfix answers",
            "policies" | "wildcards" | "postmaster" | "accepted_domains" => "domains",
            code if code.starts_with("domain") => "domains",
            "ignored_class" | "alias_wildcards" | "aliases" | "access_sub_domains" => {
                "what else decides about a recipient"
            }
            "remote_domains" | "recipient_filter" => "Exchange",
            code if code.starts_with("pmg_") => "Proxmox Mail Gateway",
            _ => "this machine",
        }
    }
}

const fn check(
    code: &'static str,
    title: &'static str,
    judge: fn(&Facts<'_>) -> Vec<Told>,
) -> Check {
    Check { code, title, judge }
}

/// All checks, from this machine to the gateway and the directory.
#[rustfmt::skip]
pub const CHECKS: &[Check] = &[
    check("configuration", "the configuration can be changed by nobody else", files::configuration),
    check("secrets", "passwords and keys can be read, by nobody else", files::secrets),
    check("state", "the state directory is private and can be used", files::state),
    check("replaceable", "nobody else can replace what a run reads, runs or writes", files::replaceable),
    check("disk_space", "there is room for a second copy of everything", files::disk_space),
    check("hooks", "hooks can be run", files::hooks),
    check("metrics", "metrics can be written where they shall be", files::metrics),
    check("reload_hook", "nothing reloads Postfix without need, and something does where there is one", maps::reload_hook),
    check("clock", "clocks agree, and nothing is from the future", sources::clock),
    check("sources", "every source can be read completely", sources::sources),
    check("servers", "every server of a source answers", sources::servers),
    check("last_read", "the sources were read lately", sources::last_read),
    check("tables_missing", "the tables are there", tables::missing),
    check("table_content", "the tables are what was published", tables::content),
    check("table_links", "no table has a second name", tables::links),
    check("table_directory", "tables can be replaced, and by nobody else", tables::directory),
    check("table_access", "Postfix can open the tables", tables::access),
    check("selinux", "the labels of the tables let Postfix read them", tables::selinux),
    check("postfix", "Postfix can be asked for its settings", maps::postfix),
    check("relay_recipient_maps", "Postfix asks the tables that are published", maps::relay_recipient_maps),
    check("table_asked", "tables of other kinds are asked, too", maps::table_asked),
    check("map_type", "the types of the tables are known to Postfix", maps::map_type),
    check("map_opens", "every table that Postfix asks opens and answers", maps::map_opens),
    check("map_older", "no table is older than its text", maps::map_older),
    check("folding", "keys are folded as Postfix folds them", maps::folding),
    check("unlisted_recipient", "unknown recipients are refused", replies::unlisted_recipient),
    check("unknown_recipient_checks", "no open service skips the check of recipients", replies::unknown_recipient_checks),
    check("reject_code", "the refusal is 550", replies::reject_code),
    check("soft_bounce", "a refusal stays a refusal", replies::soft_bounce),
    check("refusal_order", "unknown recipients are refused before greylisting and callouts", replies::refusal_order),
    check("callout_codes", "a callout refuses for good", replies::callout_codes),
    check("policies", "which domains the table leaves to others", domains::policies),
    check("wildcards", "no domain takes mail for everybody", domains::wildcards),
    check("domains_without_recipients", "every relay domain has recipients", domains::without_recipients),
    check("domains_not_relayed", "every listed domain is relayed", domains::not_relayed),
    check("domain_forms", "an international domain is relayed in both its forms", domains::both_forms),
    check("accepted_domains", "Exchange and Postfix agree on the domains", domains::accepted),
    check("postmaster", "every domain has a postmaster", domains::postmaster),
    check("ignored_class", "no domain is of a class that does not ask the table", classes::ignored),
    check("alias_wildcards", "no alias takes the mail of a whole domain", classes::alias_wildcards),
    check("aliases", "which aliases are taken beside the table", classes::aliases),
    check("access_sub_domains", "rows for a domain do not answer for its relayed sub-domains", access::sub_domains),
    check("remote_domains", "what Exchange sends back", exchange::remote_domains),
    check("recipient_filter", "what the recipient filter of Exchange does", exchange::recipient_filter),
    check("domain_types", "Exchange has all recipients of the domains and looks them up", exchange::domain_types),
    check("pmg_ndr_on_block", "PMG sends no bounces for blocked mail", pmg::ndr_on_block),
    check("pmg_verify_receivers", "PMG asks the table and not Exchange", pmg::verify_receivers),
    check("pmg_template", "PMG's template has the table and still fits", pmg::template),
    check("pmg_generated", "PMG has written its template into main.cf", pmg::generated),
    check("pmg_cluster", "which nodes need the table", pmg::cluster),
    check("pmg_before_queue", "whether PMG can refuse what it filters", pmg::before_queue),
];

/// All findings, the grave ones first; within a severity in the order of the checks.
pub fn judge(facts: &Facts<'_>) -> Vec<Finding> {
    let found = CHECKS.iter().flat_map(|check| {
        let told = (check.judge)(facts);
        told.into_iter().map(|told| Finding {
            severity: told.severity,
            check: check.code,
            what: told.what,
            why: told.why,
            mend: told.mend,
        })
    });
    let mut findings: Vec<Finding> = found.collect();
    findings.sort_by_key(|finding| finding.severity);
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_names_for_programs_and_unique() {
        let mut codes: Vec<&str> = CHECKS.iter().map(|check| check.code).collect();
        let is_name = |code: &&str| {
            code.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        };
        assert!(codes.iter().all(is_name));
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), CHECKS.len());
    }

    #[test]
    fn a_long_list_is_cut() {
        let names: Vec<String> = (0..10).map(|number| format!("d{number}")).collect();
        assert_eq!(some_of(&names[..2]), "d0, d1");
        assert!(some_of(&names).ends_with("d7 and 2 more"));
    }
}
