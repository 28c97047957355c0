//! The findings of `doctor`, for a person and for a program.

use std::io::{self, Write};

use serde_json::json;

use super::{BAD, GOOD, HELD, STRONG, counted, key};
use crate::check::{CHECKS, Finding, Severity};

/// One block a finding, the grave ones first, and a line of counts.
pub fn text(out: &mut dyn Write, findings: &[Finding]) -> io::Result<()> {
    for finding in findings {
        let (style, name) = match finding.severity {
            Severity::Error => (BAD, "error"),
            Severity::Warning => (HELD, "warning"),
            Severity::Info => (GOOD, "info"),
        };
        let (what, why) = (key(finding.what.as_bytes()), key(finding.why.as_bytes()));
        writeln!(
            out,
            "{style}{name}:{style:#} {STRONG}{what}{STRONG:#} [{}]",
            finding.check
        )?;
        writeln!(out, "  why:  {why}")?;
        if !finding.mend.is_empty() {
            writeln!(out, "  mend: {}", key(finding.mend.as_bytes()))?;
        }
        writeln!(out)?;
    }
    let count = |severity| count(findings, severity);
    writeln!(
        out,
        "{}, {}, {} from {} checks",
        counted(count(Severity::Error), "error", "errors"),
        counted(count(Severity::Warning), "warning", "warnings"),
        counted(count(Severity::Info), "note", "notes"),
        CHECKS.len()
    )
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
    serde_json::to_writer_pretty(&mut *out, &report)?;
    writeln!(out)
}

fn count(findings: &[Finding], severity: Severity) -> u64 {
    let found = findings
        .iter()
        .filter(|finding| finding.severity == severity);
    found.count() as u64
}
