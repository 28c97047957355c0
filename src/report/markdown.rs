//! The report for a merge request: GitHub-flavoured Markdown.
//!
//! Keys stand in code spans. No text from elsewhere can end one or open another construct: back-ticks and bars are
//! written as entities inside `<code>`, where Markdown is not interpreted further.

use std::io::{self, Write};

use super::difference::Difference;
use super::text::{hold_sentence, release};
use super::{counted, number};

/// Rows of one list before it is folded into a count.
const LINES_MAX: usize = 200;

/// The whole report.
pub fn difference(out: &mut dyn Write, report: &Difference) -> io::Result<()> {
    writeln!(out, "### Recipients: {}\n", report.outcome.name())?;
    writeln!(
        out,
        "| table | domain | in force | wanted | added | removed | held |"
    )?;
    writeln!(out, "|---|---|--:|--:|--:|--:|--:|")?;
    for (name, table) in &report.tables {
        for (domain, counts) in &table.domains {
            let figures = [
                counts.in_force,
                counts.wanted,
                counts.added,
                counts.removed,
                counts.held,
            ]
            .map(number);
            writeln!(
                out,
                "| {} | {} | {} |",
                code(name),
                code(domain),
                figures.join(" | ")
            )?;
        }
    }
    for (name, table) in &report.tables {
        list(out, &format!("added to {}", code(name)), &table.added)?;
        list(out, &format!("removed from {}", code(name)), &table.removed)?;
    }
    for hold in &report.holds {
        writeln!(
            out,
            "\n**Held:** {}, table {}: {}",
            code(&hold.scope),
            code(&hold.table),
            hold_sentence(hold)
        )?;
        writeln!(out, "\nRelease: `{}`", release(hold))?;
        list(out, "held additions", &hold.added)?;
        list(out, "held removals", &hold.removed)?;
    }
    for (domain, policy) in &report.policies {
        writeln!(out, "\n**Policy:** {}: {policy}", code(domain))?;
    }
    for (name, source) in report
        .sources
        .iter()
        .filter(|(_, source)| source.answered_by.is_none())
    {
        let cause = source
            .cause
            .as_deref()
            .unwrap_or("not in the configuration any more");
        writeln!(
            out,
            "\n**Source {}:** {}, {}",
            code(name),
            source.state.name(),
            code(cause)
        )?;
    }
    Ok(())
}

fn list(out: &mut dyn Write, title: &str, keys: &[String]) -> io::Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\n<details><summary>{}: {title}</summary>\n",
        counted(keys.len() as u64, "key", "keys")
    )?;
    for key in keys.iter().take(LINES_MAX) {
        writeln!(out, "- {}", code(key))?;
    }
    if keys.len() > LINES_MAX {
        writeln!(
            out,
            "- … and {} more",
            number((keys.len() - LINES_MAX) as u64)
        )?;
    }
    writeln!(out, "\n</details>")
}

fn code(text: &str) -> String {
    let mut escaped = String::from("<code>");
    for character in text.chars() {
        if character.is_alphanumeric() || matches!(character, '@' | '.' | '-' | ' ') {
            escaped.push(character);
        } else {
            escaped.push_str(&format!("&#{};", u32::from(character)));
        }
    }
    escaped + "</code>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_breaks_out_of_a_code_span() {
        assert_eq!(code("a.b@x"), "<code>a.b@x</code>");
        assert_eq!(
            code("`</code>|"),
            "<code>&#96;&#60;&#47;code&#62;&#124;</code>"
        );
    }
}
