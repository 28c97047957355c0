//! The report for a person at a terminal.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;

use super::difference::{Difference, HoldReport, TableDifference};
use super::{BAD, GOOD, HELD, STRONG, counted, number};
use crate::hold::{Cause, is_approvable, short};

/// Lines of one list before it is folded into a count.
const LINES_MAX: usize = 40;

/// Rows of a list that are shown at most: folding one line would save nothing.
pub const ROWS_SHOWN_MAX: usize = LINES_MAX + 1;

/// The whole report.
pub fn difference(out: &mut dyn Write, report: &Difference) -> io::Result<()> {
    for (name, table) in &report.tables {
        table_difference(out, name, table)?;
    }
    for address in &report.leaving {
        writeln!(
            out,
            "{HELD}leaving{HELD:#}  {} until {}",
            address.address, address.until
        )?;
    }
    for hold in &report.holds {
        hold_report(out, hold)?;
    }
    for (domain, signs) in &report.elsewhere {
        writeln!(
            out,
            "{HELD}elsewhere{HELD:#}  recipients of {domain} may live where no source reads: {signs}"
        )?;
    }
    for (domain, policy) in &report.policies {
        writeln!(
            out,
            "{HELD}policy{HELD:#}  {domain} is not decided on by its list: {policy}"
        )?;
    }
    sources(out, report)?;
    counts(out, "left out", &report.left_out)?;
    counts(out, "accepted, though", &report.noted)
}

fn counts<Name: Serialize>(
    out: &mut dyn Write,
    title: &str,
    counts: &BTreeMap<Name, u64>,
) -> io::Result<()> {
    if counts.is_empty() {
        return Ok(());
    }
    // The names of the JSON, so that both can be talked about.
    let name = |name: &Name| serde_json::to_value(name).ok()?.as_str().map(str::to_owned);
    let counted = counts
        .iter()
        .map(|(of, count)| format!("{} {}", number(*count), name(of).unwrap_or_default()));
    writeln!(out, "{title}  {}", counted.collect::<Vec<_>>().join(", "))
}

fn table_difference(out: &mut dyn Write, name: &str, table: &TableDifference) -> io::Result<()> {
    let counts = &table.counts;
    writeln!(
        out,
        "{STRONG}{name}{STRONG:#}  {} in force, {} wanted: {GOOD}{} added{GOOD:#}, {BAD}{} removed{BAD:#}, {} changed, \
         {HELD}{} held{HELD:#}",
        number(counts.in_force),
        number(counts.wanted),
        number(counts.added),
        number(counts.removed),
        number(counts.changed),
        number(counts.held),
    )?;
    for (domain, counts) in &table.domains {
        if counts.added + counts.removed + counts.held > 0 {
            writeln!(
                out,
                "  {domain}: {} in force, +{} -{}{}",
                number(counts.in_force),
                number(counts.added),
                number(counts.removed),
                if counts.held > 0 {
                    format!(", {} held", number(counts.held))
                } else {
                    String::new()
                },
            )?;
        }
    }
    list(
        out,
        &table.added,
        counts.added,
        &format!("  {GOOD}+"),
        &format!("{GOOD:#}"),
    )?;
    list(
        out,
        &table.removed,
        counts.removed,
        &format!("  {BAD}-"),
        &format!("{BAD:#}"),
    )?;
    let changed: Vec<String> = table
        .changed
        .iter()
        .map(|row| format!("{} {} -> {}", row.key, row.from, row.to))
        .collect();
    list(out, &changed, counts.changed, "  ~", "")?;
    for path in &table.restored {
        writeln!(out, "  written anew, with the same rows: {path}")?;
    }
    Ok(())
}

/// Shows `lines`, the first of `count`.
fn list(
    out: &mut dyn Write,
    lines: &[String],
    count: u64,
    before: &str,
    after: &str,
) -> io::Result<()> {
    let shown = if count > ROWS_SHOWN_MAX as u64 {
        LINES_MAX
    } else {
        lines.len()
    };
    for line in lines.iter().take(shown) {
        writeln!(out, "{before} {line}{after}")?;
    }
    let more = count.saturating_sub(shown as u64);
    if more > 0 {
        writeln!(
            out,
            "{before} … and {} more (--format unified shows all){after}",
            number(more)
        )?;
    }
    Ok(())
}

fn hold_report(out: &mut dyn Write, hold: &HoldReport) -> io::Result<()> {
    writeln!(
        out,
        "{HELD}held{HELD:#}  {}, table {}: {}",
        hold.scope,
        hold.table,
        hold_sentence(hold)
    )?;
    list(out, &hold.added, hold.added.len() as u64, "  +", "")?;
    list(out, &hold.removed, hold.removed.len() as u64, "  -", "")?;
    writeln!(out, "  release: {}", release(hold))
}

/// What lets the changes of a hold go.
pub fn release(hold: &HoldReport) -> String {
    if is_approvable(hold.cause, hold.removed.len() as u64) {
        format!("rcptsync approve {}", short(&hold.digest))
    } else {
        "let it be read once, or take it out of the configuration".to_owned()
    }
}

/// `3 additions and 1 removal wait`
fn waiting(hold: &HoldReport) -> String {
    let additions = counted(hold.added.len() as u64, "addition", "additions");
    let removals = counted(hold.removed.len() as u64, "removal", "removals");
    match (hold.added.is_empty(), hold.removed.is_empty()) {
        (true, true) => "nothing else waits for it".to_owned(),
        (true, false) => format!("{removals} wait"),
        (false, true) => format!("{additions} wait"),
        (false, false) => format!("{additions} and {removals} wait"),
    }
}

/// Why a hold stands there, and what mends it.
pub fn hold_sentence(hold: &HoldReport) -> String {
    let removals = counted(hold.removed.len() as u64, "removal", "removals");
    let waiting = waiting(hold);
    match hold.cause {
        Cause::RemovedPercentMax => format!(
            "{removals} would make {:.1} % within the window, {} % are allowed (removed_percent_max)",
            hold.found, hold.allowed
        ),
        Cause::DomainEmptied if hold.removed.is_empty() => {
            format!("nobody in the domain would be accepted; {waiting}")
        }
        Cause::DomainEmptied => format!("{removals} would take the domain's last address"),
        Cause::DomainHalved => format!("{removals} would take {:.0} % of the domain's addresses", hold.found),
        Cause::SourceEmpty => format!("the source answered success with nothing; {waiting}"),
        Cause::SourceNeverComplete => format!("the source has never been read completely; {waiting}"),
        Cause::SourceRemoved => format!("the source is not in the configuration any more; {waiting}"),
        Cause::DomainRemoved => format!("the domain is not listed any more; {waiting}"),
        Cause::DomainNarrowed => format!(
            "the whole domain would not pass any more, only those of it who are listed; {waiting}"
        ),
        Cause::MustContain => format!("no source gives this address of must_contain; {waiting}"),
        Cause::RecipientsMin => format!(
            "{:.0} recipients are fewer than recipients_min = {:.0}; {waiting}",
            hold.found, hold.allowed
        ),
        Cause::AddedPercentMax => format!(
            "{} would make {:.0} %, {} % are allowed in one run (added_percent_max)",
            counted(hold.added.len() as u64, "addition", "additions"),
            hold.found,
            hold.allowed
        ),
        Cause::ForeignTable => format!(
            "{} that no source knows, found in a file that rcptsync did not write. To keep them for good, enter them into a \
             source of kind \"list\"",
            counted(hold.removed.len() as u64, "row", "rows")
        ),
        Cause::ForeignValues => "the values in this file differ from row to row, so it may serve as an access or transport \
                                 map too; nothing is changed in it"
            .to_owned(),
        Cause::ForeignUnread => "rcptsync did not write the file that is there (this is the beginning of its SHA-256), and cannot \
                                 read it as a table of recipients: its template is your own, or it has lines that mean \
                                 something else; nothing is changed in it until this is approved"
            .to_owned(),
        Cause::DomainsNeverRead => format!("which domains it gives has never been read completely; {waiting}"),
        Cause::RecipientsElsewhere => format!(
            "there are signs that recipients of it live elsewhere, and a first table without them would refuse them: add a \
             source for them (contrib/export-cloud-recipients.ps1 writes a list), or say [domain.\"{}\"] \
             directory_is_complete = true, or policy = \"callout\"; {waiting}",
            hold.scope
        ),
        Cause::Rollback => format!("undone by going back to {}; {waiting}", hold.scope),
        Cause::Proof => format!(
            "undone, because a gateway contradicted {} after it was published; {waiting}",
            hold.scope
        ),
        Cause::UncoveredReferral => format!(
            "the directory holds a part of what was asked for there, and no source covers it: add one, or approve; \
             {waiting}"
        ),
    }
}

fn sources(out: &mut dyn Write, report: &Difference) -> io::Result<()> {
    for (name, source) in &report.sources {
        let records = counted(source.records, "record", "records");
        match (&source.answered_by, &source.cause) {
            (Some(answered_by), _) => {
                let state = source.state.name();
                writeln!(out, "source {name}  {state}, {records} from {answered_by}")?
            }
            (None, Some(cause)) => {
                let since = source.since.as_deref().unwrap_or_default();
                writeln!(
                    out,
                    "{HELD}source {name}{HELD:#}  {} since {since}, {records}: {cause}",
                    source.state.name()
                )?;
            }
            (None, None) => writeln!(out, "source {name}  {}", source.state.name())?,
        }
        for container in &source.folders_out_of_reach {
            writeln!(
                out,
                "{HELD}source {name}{HELD:#}  no base reaches the mail-enabled public folders in {container}"
            )?;
        }
    }
    Ok(())
}
