//! Judging the files of Proxmox Mail Gateway.
//!
//! Of a template only what can be read without Template Toolkit is judged: whether it names the table, whether what it
//! includes is there, and whether the text that it replaces still stands in the packaged template.

use super::facts::{Facts, Pmg, Template};
use super::{Told, error, info, not_checked, some_of, warning};

const MAPS: &str = "relay_recipient_maps";
const TEMPLATE: &str = "/etc/pmg/templates/main.cf.in";
const WRITE: &str = "pmgconfig sync --restart 1";

fn is_on(pmg: &Pmg, key: &str) -> Option<bool> {
    let mail = pmg.mail.as_ref().ok()?;
    Some(mail.get(key).is_some_and(|value| value != "0"))
}

pub(super) fn ndr_on_block(facts: &Facts<'_>) -> Vec<Told> {
    let Some(pmg) = &facts.pmg else {
        return Vec::new();
    };
    if let Err(why) = &pmg.mail {
        return vec![not_checked(
            "the mail settings of PMG",
            why,
            "run doctor as root",
        )];
    }
    if is_on(pmg, "ndr_on_block") != Some(true) {
        return Vec::new();
    }
    vec![error(
        "pmg.conf: ndr_on_block is on".into(),
        "PMG sends a bounce for everything it blocks, and the senders of spam are forged",
        "pmgsh set /config/mail --ndr_on_block 0".into(),
    )]
}

pub(super) fn verify_receivers(facts: &Facts<'_>) -> Vec<Told> {
    let mail = facts.pmg.as_ref().and_then(|pmg| pmg.mail.as_ref().ok());
    let Some(code) = mail.and_then(|mail| mail.get("verifyreceivers")) else {
        return Vec::new();
    };
    vec![warning(
        format!("pmg.conf: verifyreceivers is {code}"),
        "PMG then asks Exchange by SMTP for each recipient as well. From Exchange 2013 on port 25 says yes to everybody, and \
         with the table in force there is nothing left to ask",
        "pmgsh set /config/mail --delete verifyreceivers".into(),
    )]
}

/// The override, where it sets `relay_recipient_maps`.
fn with_maps(pmg: &Pmg) -> Option<&Template> {
    let template = pmg.template.as_ref();
    template.filter(|template| template.text.contains(MAPS))
}

pub(super) fn template(facts: &Facts<'_>) -> Vec<Told> {
    let Some(pmg) = &facts.pmg else {
        return Vec::new();
    };
    let Some(template) = with_maps(pmg) else {
        let what = match pmg.template {
            None => format!("{TEMPLATE} is not there"),
            Some(_) => format!("{TEMPLATE} does not say {MAPS}"),
        };
        return vec![error(
            what,
            "PMG writes main.cf from its templates, and its own has no table of recipients: every one is taken, or what was \
             written into main.cf by hand goes with the next change",
            format!("rcptsync init pmg --print shows the lines; then {WRITE}"),
        )];
    };
    let broken = template
        .includes
        .iter()
        .filter(|(_, target)| target.is_none());
    let mut found: Vec<Told> = broken
        .map(|(name, _)| {
            error(
                format!("{TEMPLATE} includes {name}, which leads nowhere"),
                "PMG cannot write main.cf any more",
                format!("ln -s /var/lib/pmg/templates/main.cf.in /etc/pmg/templates/{name}"),
            )
        })
        .collect();
    if template.includes.is_empty() {
        found.push(warning(
            format!("{TEMPLATE} is a copy"),
            "what an upgrade changes in the packaged template does not reach main.cf",
            "let it include the packaged one: rcptsync init pmg --print shows how".into(),
        ));
    } else {
        found.extend(drift(pmg, template));
    }
    found
}

/// What the template replaces must still stand in the packaged one.
fn drift(pmg: &Pmg, template: &Template) -> Vec<Told> {
    let packaged = match &pmg.packaged {
        Ok(packaged) => packaged,
        Err(why) => return vec![not_checked("what PMG's template replaces", why, "")],
    };
    let mut found = Vec::new();
    for pattern in replaced(&template.text) {
        let text = match literal(&pattern) {
            Some(text) if packaged.contains(&text) => continue,
            Some(text) => text,
            // A pattern around the one word that a refusal can be put behind.
            None if template.text.contains(BEFORE) => {
                if restrictions(packaged).contains(BEFORE) {
                    continue;
                }
                BEFORE.to_owned()
            }
            None => {
                found.push(not_checked(
                    &format!("whether \"{pattern}\" still matches in the packaged template of PMG"),
                    "it is a pattern, and only Template Toolkit knows what it matches",
                    "see in /etc/postfix/main.cf whether the line is there",
                ));
                continue;
            }
        };
        found.push(error(
            format!("{TEMPLATE} replaces \"{text}\", which the packaged template does not have"),
            "PMG was upgraded: the line that refuses unknown recipients early is not written any more",
            "see what the packaged template says now, and change the text that is replaced".into(),
        ));
    }
    found
}

/// What a template says of smtpd_recipient_restrictions: its line and those that continue it, directives in between.
fn restrictions(template: &str) -> String {
    let begins = |line: &&str| line.starts_with("smtpd_recipient_restrictions");
    let mut lines = template.lines().skip_while(|line| !begins(line));
    let first = lines.next().unwrap_or_default().to_owned();
    let continued = lines.take_while(|line| {
        line.is_empty() || line.starts_with([' ', '\t', '#']) || line.starts_with("[%")
    });
    continued.fold(first, |text, line| text + "\n" + line)
}

/// First arguments of `.replace('…', '…')`.
fn replaced(text: &str) -> Vec<String> {
    let calls = text.split(".replace(").skip(1);
    calls
        .filter_map(|rest| {
            let rest = rest.trim_start();
            let quote = rest
                .chars()
                .next()
                .filter(|quote| matches!(quote, '\'' | '"'))?;
            let (pattern, _) = rest.get(1..)?.split_once(quote)?;
            Some(pattern.to_owned())
        })
        .collect()
}

/// The text that a pattern stands for, where it stands for one alone.
fn literal(pattern: &str) -> Option<String> {
    let mut text = String::new();
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => {
                let escaped = characters.next()?;
                if escaped.is_alphanumeric() {
                    return None;
                }
                text.push(escaped);
            }
            '.' | '*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '|' | '^' | '$' => {
                return None;
            }
            _ => text.push(character),
        }
    }
    Some(text)
}

pub(super) fn generated(facts: &Facts<'_>) -> Vec<Told> {
    let Some(pmg) = &facts.pmg else {
        return Vec::new();
    };
    let Some(template) = with_maps(pmg) else {
        return Vec::new();
    };
    let generated = match &pmg.generated {
        Ok(generated) => generated,
        Err(why) => return vec![not_checked("what PMG wrote into main.cf", why, WRITE)],
    };
    let has_line = |line: &String| generated.lines().any(|found| squeezed(found) == *line);
    let own = own_lines(&template.text);
    let missing: Vec<String> = own.into_iter().filter(|line| !has_line(line)).collect();
    let said = said(generated);
    if !missing.is_empty() {
        return vec![error(
            format!(
                "/etc/postfix/main.cf lacks what {TEMPLATE} says: {}{said}",
                some_of(&missing)
            ),
            "the table is not asked: every recipient is taken",
            WRITE.into(),
        )];
    }
    if template.text.contains(EARLY) && !generated.contains(EARLY) {
        return vec![warning(
            format!("/etc/postfix/main.cf does not say {EARLY}, which {TEMPLATE} puts in{said}"),
            "an unknown recipient is greylisted with 450 before it is refused",
            format!("{WRITE}; if it is still not there, the packaged template has changed"),
        )];
    }
    Vec::new()
}

/// What a template wrote into main.cf about itself.
fn said(generated: &str) -> String {
    let lines = generated
        .lines()
        .filter_map(|line| line.strip_prefix("# rcptsync: "));
    let text = lines.collect::<Vec<_>>().join(" ");
    if text.is_empty() {
        text
    } else {
        format!("; it says: {text}")
    }
}

/// Behind this word the refusal belongs.
const BEFORE: &str = "reject_unauth_destination";
const EARLY: &str = "reject_unlisted_recipient";

/// Lines of a template that are written as they stand: settings about the table, without anything to put in place.
fn own_lines(text: &str) -> Vec<String> {
    let is_own = |line: &&str| line.starts_with(MAPS) && line.contains('=') && !line.contains("[%");
    text.lines().filter(is_own).map(squeezed).collect()
}

fn squeezed(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

pub(super) fn cluster(facts: &Facts<'_>) -> Vec<Told> {
    let Some(pmg) = facts.pmg.as_ref().filter(|pmg| pmg.nodes.len() > 1) else {
        return Vec::new();
    };
    let files: Vec<String> = facts
        .tables
        .iter()
        .flat_map(|table| &table.files)
        .map(|file| file.path.display().to_string())
        .collect();
    vec![not_checked(
        &format!("whether every node has the table: {}", some_of(&pmg.nodes)),
        "PMG copies the template to all nodes, but not the table: a node without it answers 451 to everybody",
        &format!("on each node: sha256sum {}", files.join(" ")),
    )]
}

pub(super) fn before_queue(facts: &Facts<'_>) -> Vec<Told> {
    let Some(pmg) = &facts.pmg else {
        return Vec::new();
    };
    if is_on(pmg, "before_queue_filtering") != Some(false) {
        return Vec::new();
    }
    vec![info(
        "pmg.conf: before_queue_filtering is off".into(),
        "PMG filters mail it has taken already: what it blocks is dropped without a word to the sender. With it on, spam and \
         viruses are refused in the dialogue (554)",
        "your choice: pmgsh set /config/mail --before_queue_filtering 1".into(),
    )]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_template_replaces() {
        let text = "[% text.replace('reject_unauth_destination', 'x').replace( \"a\\.b\", 'y') %]";
        assert_eq!(replaced(text), ["reject_unauth_destination", "a\\.b"]);
        assert_eq!(literal("a\\.b"), Some("a.b".into()));
        for pattern in ["a.b", "a\\s+b", "(a)", "^a"] {
            assert_eq!(literal(pattern), None, "{pattern}");
        }
    }

    #[test]
    fn own_lines_are_compared_without_regard_to_blanks() {
        let text = "[% INCLUDE x.in %]\nrelay_recipient_maps  = cdb:/x\nrelay_recipient_maps = [% own %]\n";
        assert_eq!(own_lines(text), ["relay_recipient_maps = cdb:/x"]);
    }
}
