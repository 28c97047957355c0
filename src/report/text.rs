//! The report for a person at a terminal.

use std::collections::BTreeMap;
use std::io::{self, Write};

use anstyle::Style;
use serde::Serialize;

use super::difference::{Difference, DomainCounts, HoldReport, Outcome, TableDifference};
use super::page::{Align, Cell, Page};
use super::{BAD, GOOD, HELD, PLAIN, STRONG, counted, number};
use crate::dn;
use crate::harmless::key;
use crate::hold::{Cause, Place, is_approvable, short};

/// Rows of one list before it is folded into a count.
const LINES_MAX: usize = 20;

/// Rows of a list that are shown at most: folding one line would save nothing.
pub const ROWS_SHOWN_MAX: usize = LINES_MAX + 1;

/// Domains, and places of the directory, before they are folded into one line.
const DOMAINS_MAX: usize = 12;
const PLACES_MAX: usize = 8;

/// Whether a difference was only looked at, or is what a run did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// What a run would do.
    Would,
    /// What a run did, and the generation that it published.
    Did(Option<u64>),
}

impl Told {
    /// What lists the rows that are not shown.
    fn all_rows(self) -> String {
        match self {
            Told::Would | Told::Did(None) => "rcptsync diff --format unified".to_owned(),
            Told::Did(Some(generation)) => format!("rcptsync history {generation}"),
        }
    }
}

/// The whole report.
pub fn difference(out: &mut dyn Write, report: &Difference, told: Told) -> io::Result<()> {
    let page = &mut Page::stdout(out);
    for (name, table) in &report.tables {
        table_difference(page, name, table, told)?;
    }
    let leaving = |of: &super::difference::Leaving| format!("{} until {}", of.address, of.until);
    let leaving: Vec<String> = report.leaving.iter().map(leaving).collect();
    list(
        page,
        "leaving  ",
        HELD,
        &leaving,
        leaving.len(),
        LINES_MAX,
        "rcptsync diff --format json",
    )?;
    for hold in &report.holds {
        hold_report(page, hold)?;
    }
    for (domain, signs) in &report.elsewhere {
        let text = format!("recipients of {domain} may live where no source reads: {signs}");
        page.hanging(&format!("{HELD}elsewhere{HELD:#}  "), &text)?;
    }
    for (domain, policy) in &report.policies {
        let text = format!("{domain} is not decided on by its list: {policy}");
        page.hanging(&format!("{HELD}policy{HELD:#}  "), &text)?;
    }
    sources(page, report)?;
    counts(page, "left out", &report.left_out)?;
    counts(page, "accepted, though", &report.noted)?;
    match told {
        Told::Would => page.hanging("", &verdict(report)),
        Told::Did(_) => Ok(()),
    }
}

/// What it comes to, for whoever reads the last line only.
fn verdict(report: &Difference) -> String {
    let sum = |count: fn(&TableDifference) -> u64| report.tables.values().map(count).sum::<u64>();
    let figures = [
        (sum(|table| table.counts.added), "addition", "additions"),
        (sum(|table| table.counts.removed), "removal", "removals"),
        (sum(|table| table.counts.changed), "new value", "new values"),
        (
            sum(|table| table.restored.len() as u64),
            "file anew",
            "files anew",
        ),
    ];
    let changes = figures.iter().filter(|(count, ..)| *count > 0);
    let changes: Vec<String> = changes
        .map(|(count, one, many)| counted(*count, one, many))
        .collect();
    let flows = match (changes.is_empty(), report.outcome) {
        (false, _) => format!("`rcptsync sync` would publish {}", changes.join(", ")),
        (true, Outcome::Changed) => "`rcptsync sync` would write the tables anew".to_owned(),
        (true, Outcome::Unchanged | Outcome::Held) => {
            "`rcptsync sync` would publish nothing".to_owned()
        }
    };
    match report.holds.len() as u64 {
        0 => flows,
        holds => format!("{flows}; {}", waiting_holds(holds)),
    }
}

/// `1 hold waits for a decision`
pub fn waiting_holds(holds: u64) -> String {
    let holds = counted(holds, "hold waits", "holds wait");
    format!("{holds} for a decision")
}

fn counts<Name: Serialize>(
    page: &mut Page<'_>,
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
    page.hanging(
        &format!("{title}  "),
        &counted.collect::<Vec<_>>().join(", "),
    )
}

fn table_difference(
    page: &mut Page<'_>,
    name: &str,
    table: &TableDifference,
    told: Told,
) -> io::Result<()> {
    let counts = &table.counts;
    let figures = [
        (GOOD, counts.added, "added"),
        (BAD, counts.removed, "removed"),
        (PLAIN, counts.changed, "changed"),
        (HELD, counts.held, "held"),
    ];
    let told_figures = figures.iter().filter(|(_, count, _)| *count > 0);
    let changes: Vec<String> = told_figures
        .map(|(style, count, what)| format!("{style}{} {what}{style:#}", number(*count)))
        .collect();
    let changes = if changes.is_empty() {
        "unchanged".to_owned()
    } else {
        changes.join(", ")
    };
    let (in_force, wanted) = (number(counts.in_force), number(counts.wanted));
    page.hanging(
        &format!("{STRONG}{name}{STRONG:#}  "),
        &format!("{in_force} in force, {wanted} wanted: {changes}"),
    )?;
    breakdown(page, table)?;
    let all = told.all_rows();
    list(
        page,
        "  + ",
        GOOD,
        &table.added,
        counts.added as usize,
        LINES_MAX,
        &all,
    )?;
    list(
        page,
        "  - ",
        BAD,
        &table.removed,
        counts.removed as usize,
        LINES_MAX,
        &all,
    )?;
    let changed: Vec<String> = table
        .changed
        .iter()
        .map(|row| format!("{} {} -> {}", row.key, row.from, row.to))
        .collect();
    list(
        page,
        "  ~ ",
        PLAIN,
        &changed,
        counts.changed as usize,
        LINES_MAX,
        &all,
    )?;
    for path in &table.restored {
        page.hanging("  ", &format!("written anew, with the same rows: {path}"))?;
    }
    Ok(())
}

/// A row of figures: those that are nothing stay empty.
fn figures(name: String, in_force: Option<u64>, [added, removed, held]: [u64; 3]) -> Vec<Cell> {
    let cell = |style, sign: &str, count: u64| match count {
        0 => (PLAIN, String::new()),
        _ => (style, format!("{sign}{}", number(count))),
    };
    vec![
        (PLAIN, name),
        (PLAIN, in_force.map_or_else(String::new, number)),
        cell(GOOD, "+", added),
        cell(BAD, "-", removed),
        cell(HELD, "", held),
    ]
}

/// The figures of each domain that changes, and those of each place in the directory, the greatest first.
fn breakdown(page: &mut Page<'_>, table: &TableDifference) -> io::Result<()> {
    let of = |counts: &DomainCounts| [counts.added, counts.removed, counts.held];
    let mut changed: Vec<(&String, &DomainCounts)> = (table.domains.iter())
        .filter(|(_, counts)| of(counts) != [0; 3])
        .collect();
    changed
        .sort_by_key(|(_, counts)| std::cmp::Reverse((counts.held + counts.removed, counts.added)));
    let strong = |name: &str| (STRONG, name.to_owned());
    let mut rows = Vec::new();
    if table.domains.len() > 1 && !changed.is_empty() {
        rows.push(
            ["domain", "in force", "added", "removed", "held"]
                .map(strong)
                .to_vec(),
        );
        let shown = folded(changed.len(), DOMAINS_MAX);
        let (shown, rest) = changed.split_at(shown);
        rows.extend(
            (shown.iter())
                .map(|(name, counts)| figures((*name).clone(), Some(counts.in_force), of(counts))),
        );
        if !rest.is_empty() {
            let sum = rest
                .iter()
                .fold([0; 3], |sum, (_, counts)| add(sum, of(counts)));
            rows.push(figures(
                format!("… and {} more domains", number(rest.len() as u64)),
                None,
                sum,
            ));
        }
    }
    if !table.places.is_empty() {
        rows.push(
            ["place in the directory", "", "added", "removed"]
                .map(strong)
                .to_vec(),
        );
        rows.extend(places(&table.places));
    }
    figures_table(page, "  ", &rows)
}

/// Rows of figures, without the columns that no figure stands in.
fn figures_table(page: &mut Page<'_>, indent: &str, rows: &[Vec<Cell>]) -> io::Result<()> {
    let has_figure = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        column == 0
            || cells
                .into_iter()
                .any(|(style, text)| *style != STRONG && !text.is_empty())
    };
    let columns: Vec<usize> = (0..5).filter(|column| has_figure(*column)).collect();
    let of_row = |row: &Vec<Cell>| {
        columns
            .iter()
            .filter_map(|column| row.get(*column).cloned())
            .collect()
    };
    let rows: Vec<Vec<Cell>> = rows.iter().map(of_row).collect();
    let aligns: Vec<Align> = columns
        .iter()
        .map(|column| {
            if *column == 0 {
                Align::Left
            } else {
                Align::Right
            }
        })
        .collect();
    page.table(indent, &aligns, &rows)
}

fn add(one: [u64; 3], other: [u64; 3]) -> [u64; 3] {
    std::array::from_fn(|at| one[at] + other[at])
}

/// Rows of figures for the places with the most changes.
fn places(places: &[Place]) -> Vec<Vec<Cell>> {
    let of = |place: &Place| [place.added, place.removed, 0];
    let (shown, rest) = places.split_at(folded(places.len(), PLACES_MAX));
    let mut rows: Vec<Vec<Cell>> = (shown.iter())
        .map(|place| figures(place_name(place, places), None, of(place)))
        .collect();
    if !rest.is_empty() {
        let sum = rest.iter().fold([0; 3], |sum, place| add(sum, of(place)));
        rows.push(figures(
            format!("… and {} more places", number(rest.len() as u64)),
            None,
            sum,
        ));
    }
    rows
}

/// `75 in OU=Sales,OU=Berlin, 50 in OU=Store,OU=Bremen, 26 in 4 more places`
pub fn places_sentence(places: &[Place]) -> String {
    const NAMED_MAX: usize = 3;
    let of = |place: &Place| place.added + place.removed;
    let (named, others) = places.split_at(folded(places.len(), NAMED_MAX));
    let mut parts: Vec<String> = (named.iter())
        .map(|place| format!("{} in {}", number(of(place)), place_name(place, places)))
        .collect();
    if !others.is_empty() {
        let (sum, count) = (others.iter().map(of).sum(), others.len() as u64);
        parts.push(format!("{} in {} more places", number(sum), number(count)));
    }
    parts.join(", ")
}

/// How many of a list are shown: folding one line would save nothing.
fn folded(count: usize, max: usize) -> usize {
    if count > max + 1 { max } else { count }
}

/// The container without its domain, where all are of one; a source without containers by its own name.
fn place_name(place: &Place, all: &[Place]) -> String {
    let domain_of =
        |place: &Place| place.container[dn::below_domain(&place.container).len()..].to_owned();
    if place.container.is_empty() {
        format!("source {}", place.source)
    } else if all
        .iter()
        .filter(|other| !other.container.is_empty())
        .all(|other| domain_of(other) == domain_of(place))
    {
        dn::below_domain(&place.container).to_owned()
    } else {
        place.container.clone()
    }
}

/// Shows `lines`, the first of `count`; `all` is the command that shows the others.
fn list(
    page: &mut Page<'_>,
    before: &str,
    style: Style,
    lines: &[String],
    count: usize,
    max: usize,
    all: &str,
) -> io::Result<()> {
    let shown = folded(count, max);
    for line in lines.iter().take(shown) {
        page.line(format_args!(
            "{style}{before}{}{style:#}",
            key(line.as_bytes())
        ))?;
    }
    if count > shown {
        let more = number((count - shown) as u64);
        page.hanging(
            &format!("{style}{before}"),
            &format!("… and {more} more{style:#} (`{all}` shows all)"),
        )?;
    }
    Ok(())
}

fn hold_report(page: &mut Page<'_>, hold: &HoldReport) -> io::Result<()> {
    const HELD_LINES_MAX: usize = 10;
    let sentence = format!(
        "{}, table {}: {}",
        hold.scope,
        hold.table,
        hold_sentence(hold)
    );
    page.hanging(&format!("{HELD}held{HELD:#}  "), &sentence)?;
    let places: Vec<Vec<Cell>> = places(&hold.places);
    figures_table(page, "      ", &places)?;
    let all = "rcptsync diff --format json";
    for (before, keys) in [("      + ", &hold.added), ("      - ", &hold.removed)] {
        list(page, before, HELD, keys, keys.len(), HELD_LINES_MAX, all)?;
    }
    page.hanging("      ", &format!("release: {}", release(hold)))
}

/// Where nobody knows what a hold would let go.
pub const NOT_APPROVABLE: &str = "let it be read once, or take it out of the configuration";

/// What lets the changes of a hold go.
pub fn release(hold: &HoldReport) -> String {
    if is_approvable(hold.cause, hold.removed.len() as u64) {
        format!("rcptsync approve {}", short(&hold.digest))
    } else {
        NOT_APPROVABLE.to_owned()
    }
}

/// `3 additions and 1 removal wait`
fn waiting(hold: &HoldReport) -> String {
    let (added, removed) = (hold.added.len() as u64, hold.removed.len() as u64);
    match (added, removed) {
        (0, 0) => "nothing else waits for it".to_owned(),
        (0, _) => counted(removed, "removal waits", "removals wait"),
        (_, 0) => counted(added, "addition waits", "additions wait"),
        (_, _) => format!(
            "{} and {} wait",
            counted(added, "addition", "additions"),
            counted(removed, "removal", "removals")
        ),
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

/// How each source was found.
fn sources(page: &mut Page<'_>, report: &Difference) -> io::Result<()> {
    let mut rows = Vec::new();
    for (name, source) in &report.sources {
        let (records, state) = (
            counted(source.records, "record", "records"),
            source.state.name(),
        );
        let (style, text) = match (&source.answered_by, &source.cause) {
            (Some(answered_by), _) => (PLAIN, format!("{state}, {records} from {answered_by}")),
            (None, Some(cause)) => {
                let since = source.since.as_deref().unwrap_or_default();
                (
                    HELD,
                    format!(
                        "{state} since {since}, {records}: {}",
                        cause_alone(name, cause)
                    ),
                )
            }
            (None, None) => (HELD, state.to_owned()),
        };
        rows.push(vec![(style, format!("source {name}")), (PLAIN, text)]);
        let folders = source.folders_out_of_reach.iter();
        rows.extend(folders.map(|container| {
            let text = format!("no base reaches the mail-enabled public folders in {container}");
            vec![(HELD, format!("source {name}")), (PLAIN, text)]
        }));
    }
    page.table("", &[Align::Left, Align::Left], &rows)
}

/// A cause that names its source, behind the name of that source.
pub fn cause_alone<'cause>(source: &str, cause: &'cause str) -> &'cause str {
    let named = cause
        .strip_prefix("source ")
        .and_then(|rest| rest.strip_prefix(source));
    named
        .and_then(|rest| rest.strip_prefix(": "))
        .unwrap_or(cause)
}
