//! The report for a merge request: Markdown as GitHub and GitLab read it, short enough for a comment on either.
//!
//! What comes from elsewhere stands in code spans, which nothing in it can end: no mention, link, picture or tag comes to life. What
//! waits for somebody stands first. Lists are folded, and cut where the whole would grow beyond 60,000 octets.

use super::difference::{Difference, HoldReport, TableDifference};
use super::text::{hold_sentence, release};
use super::{counted, number};
use crate::harmless::key;

/// A comment on GitHub takes 65,536 characters, a note on GitLab 1,000,000, a summary of a job 1 MiB.
const OCTETS_MAX: usize = 60_000;

/// Kept free for the ends of what is open, and the line that says what is missing.
const RESERVE_OCTETS: usize = 400;

/// Rows of one list before the others become a count.
const LINES_MAX: usize = 200;

/// A text that does not grow beyond its limit.
#[derive(Default)]
struct Page {
    text: String,
    is_cut: bool,
}

impl Page {
    /// Adds a paragraph, a row or an item, unless it does not fit.
    fn add(&mut self, text: &str) {
        if text.len() <= self.left() {
            self.text.push_str(text);
        } else {
            self.is_cut = true;
        }
    }

    fn left(&self) -> usize {
        (OCTETS_MAX - RESERVE_OCTETS).saturating_sub(self.text.len())
    }

    /// Adds a folded list. Whatever its length, as much room as it takes is left to what follows.
    fn list(&mut self, title: &str, items: &[String]) {
        if items.is_empty() {
            return;
        }
        let count = counted(items.len() as u64, "row", "rows");
        let head = format!("\n<details><summary>{count}: {title}</summary>\n\n");
        let most = self.text.len() + self.left() / 2;
        if head.len() + RESERVE_OCTETS > self.left() {
            self.is_cut = true;
            return;
        }
        self.add(&head);
        let mut shown_count = 0;
        for item in items.iter().take(LINES_MAX) {
            let line = format!("- {}\n", span(&key(item.as_bytes())));
            if self.text.len() + line.len() > most {
                break;
            }
            self.text.push_str(&line);
            shown_count += 1;
        }
        if shown_count < items.len() {
            let more = number((items.len() - shown_count) as u64);
            self.text.push_str(&format!("- … and {more} more\n"));
        }
        self.text.push_str("\n</details>\n");
    }
}

/// The whole report.
pub fn difference(report: &Difference) -> String {
    let mut page = Page::default();
    page.add(&format!("### Recipients: {}\n", report.outcome.name()));
    for (name, table) in &report.tables {
        page.add(&headline(name, table));
    }
    for hold in &report.holds {
        page.add(&hold_line(hold));
    }
    notes(&mut page, report);
    domains(&mut page, report);
    for hold in &report.holds {
        let of = format!("held: {}, table {}", html(&hold.scope), html(&hold.table));
        page.list(&format!("to be added, {of}"), &hold.added);
        page.list(&format!("to be removed, {of}"), &hold.removed);
    }
    for (name, table) in &report.tables {
        page.list(&format!("added to {}", html(name)), &table.added);
        page.list(&format!("removed from {}", html(name)), &table.removed);
        let changed = table.changed.iter();
        let changed: Vec<String> = changed
            .map(|row| format!("{} {} -> {}", row.key, row.from, row.to))
            .collect();
        page.list(&format!("changed in {}", html(name)), &changed);
    }
    if page.is_cut {
        page.text.push_str(
            "\nThis is not all of it: the rest has no room here. `rcptsync diff` shows the whole.\n",
        );
    }
    page.text
}

fn headline(name: &str, table: &TableDifference) -> String {
    let counts = &table.counts;
    let written = match table.restored.len() as u64 {
        0 => String::new(),
        count => format!(
            "; {} written anew with the same rows",
            counted(count, "file", "files")
        ),
    };
    format!(
        "\n**{}**: {} in force, {} wanted; {} added, {} removed, {} changed, {} held{written}\n",
        span(name),
        number(counts.in_force),
        number(counts.wanted),
        number(counts.added),
        number(counts.removed),
        number(counts.changed),
        number(counts.held),
    )
}

fn hold_line(hold: &HoldReport) -> String {
    format!(
        "\n**Held:** {}, table {}: {}. Release: {}\n",
        span(&hold.scope),
        span(&hold.table),
        words(&hold_sentence(hold)),
        words(&release(hold))
    )
}

/// What else a reviewer should know: what no table decides on, what could not be read.
fn notes(page: &mut Page, report: &Difference) {
    for (domain, signs) in &report.elsewhere {
        page.add(&format!(
            "\n**Elsewhere:** recipients of {} may live where no source reads: {}\n",
            span(domain),
            span(signs)
        ));
    }
    for (domain, policy) in &report.policies {
        let domain = span(domain);
        page.add(&format!(
            "\n**Policy:** {domain} is not decided on by its list: {}\n",
            span(policy)
        ));
    }
    for (name, source) in &report.sources {
        if source.answered_by.is_none() {
            let cause = source.cause.as_deref();
            page.add(&format!(
                "\n**Source {}:** {}, {}\n",
                span(name),
                source.state.name(),
                span(cause.unwrap_or("not in the configuration any more"))
            ));
        }
        for container in &source.folders_out_of_reach {
            page.add(&format!(
                "\n**Source {}:** no base reaches the mail-enabled public folders in {}\n",
                span(name),
                span(container)
            ));
        }
    }
    if !report.leaving.is_empty() {
        let count = counted(report.leaving.len() as u64, "address is", "addresses are");
        page.add(&format!("\n{count} in the grace before leaving.\n"));
    }
}

/// The figures of each domain in which something happens.
fn domains(page: &mut Page, report: &Difference) {
    let (mut rows, mut quiet_count) = (Vec::new(), 0);
    for (name, table) in &report.tables {
        for (domain, counts) in &table.domains {
            if counts.added + counts.removed + counts.held == 0 {
                quiet_count += 1;
                continue;
            }
            let figures = [
                counts.in_force,
                counts.wanted,
                counts.added,
                counts.removed,
                counts.held,
            ];
            let figures = figures.map(number).join(" | ");
            let [name, domain] = [name, domain].map(|name| span(name).replace('|', "\\|"));
            rows.push(format!("| {name} | {domain} | {figures} |\n"));
        }
    }
    if rows.is_empty() {
        return;
    }
    page.add(
        "\n| table | domain | in force | wanted | added | removed | held |\n|---|---|--:|--:|--:|--:|--:|\n",
    );
    for row in rows.iter().take(LINES_MAX) {
        page.add(row);
    }
    let more = rows.len().saturating_sub(LINES_MAX) as u64;
    if more > 0 {
        page.add(&format!(
            "\nNot shown: {}.\n",
            counted(more, "row of this table", "rows of this table")
        ));
    }
    if quiet_count > 0 {
        page.add(&format!(
            "\nNothing changes in {}.\n",
            counted(quiet_count, "other domain", "other domains")
        ));
    }
}

/// A code span: one more back-tick around it than there are in a row within.
fn span(text: &str) -> String {
    let (mut longest, mut row) = (0, 0);
    for character in text.chars() {
        row = if character == '`' { row + 1 } else { 0 };
        longest = longest.max(row);
    }
    let fence = "`".repeat(longest + 1);
    // What begins or ends with a back-tick or a space needs a space of its own, which is not shown.
    let needs_room = |end: Option<char>| matches!(end, None | Some('`' | ' '));
    let room = match needs_room(text.chars().next()) || needs_room(text.chars().last()) {
        true => " ",
        false => "",
    };
    format!("{fence}{room}{text}{room}{fence}")
}

/// Code where tags are read and Markdown is not (`<summary>`).
fn html(text: &str) -> String {
    let mut escaped = String::from("<code>");
    for character in text.chars() {
        if character.is_alphanumeric() {
            escaped.push(character);
        } else {
            escaped.push_str(&format!("&#{};", u32::from(character)));
        }
    }
    escaped + "</code>"
}

/// A sentence of ours, in which nothing is taken for markup.
fn words(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if character.is_ascii_punctuation() && !matches!(character, ',' | '.' | ';' | ':' | '%') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_breaks_out_of_a_code_span() {
        for (text, expected) in [
            ("a.b@x", "`a.b@x`"),
            ("a`b", "``a`b``"),
            ("`", "`` ` ``"),
            ("``x", "``` ``x ```"),
            (" ", "`   `"),
            ("", "`  `"),
        ] {
            assert_eq!(span(text), expected);
        }
        assert_eq!(html("</code>"), "<code>&#60;&#47;code&#62;</code>");
        assert_eq!(words("a_b, <c>"), "a\\_b, \\<c\\>");
    }

    #[test]
    fn a_list_leaves_room_to_those_behind_it() {
        let mut page = Page::default();
        let long: Vec<String> = (0..1_000).map(|_| "x".repeat(254)).collect();
        for _ in 0..40 {
            page.list("t", &long);
        }
        assert!(
            page.is_cut && page.text.len() <= OCTETS_MAX,
            "{}",
            page.text.len()
        );
        let opened = page.text.matches("<details>").count();
        assert!(opened > 6, "{opened}");
        assert_eq!(opened, page.text.matches("</details>").count());
    }
}
