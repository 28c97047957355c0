//! The findings of `doctor`, for a person and for a program.

use std::io::{self, Write};

use serde_json::json;

use super::page::Page;
use super::{BAD, GOOD, HELD, STRONG, counted};
use crate::check::{CHECKS, Check, Finding, Severity};
use crate::harmless::key;

/// The findings by what they are about, the gravest first; the checks without one, if they are asked for; a line of counts.
pub fn text(out: &mut dyn Write, findings: &[Finding], are_all_shown: bool) -> io::Result<()> {
    let page = &mut Page::stdout(out);
    let mut areas: Vec<&str> = Vec::new();
    for area in findings.iter().map(area) {
        if !areas.contains(&area) {
            areas.push(area);
        }
    }
    for of in areas {
        page.line(format_args!("{STRONG}{of}{STRONG:#}"))?;
        for finding in findings.iter().filter(|finding| area(finding) == of) {
            print(page, finding)?;
        }
        page.blank()?;
    }
    let is_without = |check: &&Check| !findings.iter().any(|finding| finding.check == check.code);
    let without: Vec<&Check> = CHECKS.iter().filter(is_without).collect();
    if are_all_shown {
        page.line(format_args!(
            "{STRONG}without a finding, or with nothing to look at{STRONG:#}"
        ))?;
        for check in &without {
            page.hanging("  ", &format!("{} [{}]", check.title, check.code))?;
        }
        page.blank()?;
    }
    let count = |severity| count(findings, severity);
    page.hanging(
        "",
        &format!(
            "{}, {}, {} from {} checks; {} found nothing",
            counted(count(Severity::Error), "error", "errors"),
            counted(count(Severity::Warning), "warning", "warnings"),
            counted(count(Severity::Info), "note", "notes"),
            CHECKS.len(),
            without.len(),
        ),
    )
}

/// The heading of a finding.
fn area(finding: &Finding) -> &'static str {
    let check = CHECKS.iter().find(|check| check.code == finding.check);
    check.map_or("", Check::area)
}

fn print(page: &mut Page<'_>, finding: &Finding) -> io::Result<()> {
    let (style, name) = match finding.severity {
        Severity::Error => (BAD, "error"),
        Severity::Warning => (HELD, "warning"),
        Severity::Info => (GOOD, "info"),
    };
    let padding = " ".repeat("warning".len() - name.len());
    let what = format!(
        "{STRONG}{}{STRONG:#} [{}]",
        key(finding.what.as_bytes()),
        finding.check
    );
    page.hanging(&format!("  {style}{name}:{style:#}{padding} "), &what)?;
    page.hanging("    why:   ", &key(finding.why.as_bytes()))?;
    if !finding.mend.is_empty() {
        page.hanging("    mend:  ", &key(finding.mend.as_bytes()))?;
    }
    Ok(())
}

/// The same; the keys stay stable.
pub fn json(out: &mut dyn Write, findings: &[Finding]) -> io::Result<()> {
    let checks: Vec<_> = CHECKS
        .iter()
        .map(|check| json!({ "code": check.code, "title": check.title }))
        .collect();
    let report = json!({
        "schema": 1,
        "counts": {
            "error": count(findings, Severity::Error),
            "warning": count(findings, Severity::Warning),
            "info": count(findings, Severity::Info),
        },
        "findings": findings,
        "checks": checks,
    });
    super::json(out, &report)
}

fn count(findings: &[Finding], severity: Severity) -> u64 {
    let found = findings
        .iter()
        .filter(|finding| finding.severity == severity);
    found.count() as u64
}
