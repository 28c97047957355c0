//! `[[hook]]`: programs that are run after a change, and programs that are told how things stand.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use super::{HOUR, name_is_plain, positive};
use crate::config::reader::Section;
use crate::config::{Hook, HookInput, NoticeHook};
use crate::notice::{Rules, When};

/// What a hook is run for.
enum Purpose {
    /// A table changed.
    Changed,
    /// There is something to be told.
    Notice(Rules),
}

/// Both kinds of hooks, each in the order of the file.
pub(super) fn hooks(root: &Section<'_, '_>) -> (Vec<Hook>, Vec<NoticeHook>) {
    let (mut hooks, mut notices) = (Vec::new(), Vec::new());
    for section in root.listed_sections("hook") {
        match hook(section) {
            Some((hook, Purpose::Changed)) => hooks.push(hook),
            Some((hook, Purpose::Notice(rules))) => notices.push(NoticeHook { hook, rules }),
            None => {}
        }
    }
    (hooks, notices)
}

fn hook(section: Section<'_, '_>) -> Option<(Hook, Purpose)> {
    let name = section.text("name");
    match &name {
        Some(name) => name_is_plain(&section, name),
        None => section.problem(
            "name",
            "missing: a name, under which it is reported and owed",
        ),
    }
    let run = section.texts("run");
    match run.first() {
        None => section.problem(
            "run",
            "missing: the program and its arguments, run = [\"/usr/local/bin/push\"]",
        ),
        Some(program) if !program.value.starts_with('/') => {
            section.problem_at(
                &program.at,
                "run",
                "the program is named by its absolute path; no shell and no PATH finds it",
            );
        }
        Some(_) => {}
    }
    let purpose = purpose(&section);
    let input = input(&section, &purpose);
    let timeout = positive(&section, "timeout", 30 * Duration::from_secs(1));
    section.finish();
    let mut words = run.into_iter().map(|word| word.value);
    let program = PathBuf::from(words.next()?);
    let hook = Hook {
        name: name?.value,
        program,
        arguments: words.collect(),
        input,
        timeout,
    };
    Some((hook, purpose))
}

fn purpose(section: &Section<'_, '_>) -> Purpose {
    const CHANGED: &str = "changed";
    let words = section.text_or_texts("when");
    let mut whens = BTreeSet::new();
    for word in &words {
        match When::ALL.iter().find(|when| when.name() == word.value) {
            Some(when) => drop(whens.insert(*when)),
            None if word.value == CHANGED => {}
            None => {
                let message = format!(
                    "\"{}\" is none of \"changed\", \"refused\", \"failed\", \"owed\", \"recovered\"",
                    word.value
                );
                section.problem_at(&word.at, "when", message);
            }
        }
    }
    let is_changed = words.iter().any(|word| word.value == CHANGED);
    if is_changed && !whens.is_empty() {
        section.problem(
            "when",
            "a hook for \"changed\" is told the difference and owed until it has succeeded; the other words are for a \
             [[hook]] of its own",
        );
    }
    if section.has("when") && words.is_empty() {
        section.problem(
            "when",
            "at least one is needed: when = [\"refused\", \"failed\"]",
        );
    }
    let remind_every = match section.text("remind_every") {
        None => Some(24 * HOUR),
        Some(text) if text.value == "none" => None,
        Some(text) => {
            let every = section.duration_of("remind_every", &text);
            if every.is_some_and(|every| every.is_zero()) {
                section.problem("remind_every", "must be longer than nothing, or \"none\"");
            }
            every
        }
    };
    let delay = section.duration("delay", Duration::ZERO);
    if whens.is_empty() {
        for key in ["remind_every", "delay"] {
            if section.has(key) && (is_changed || !section.has("when")) {
                section.problem(key, "only for a hook with when = \"refused\", \"failed\", \"owed\" or \"recovered\"");
            }
        }
        return Purpose::Changed;
    }
    Purpose::Notice(Rules {
        whens,
        remind_every,
        delay,
    })
}

fn input(section: &Section<'_, '_>, purpose: &Purpose) -> HookInput {
    let is_notice = matches!(purpose, Purpose::Notice(_));
    let default = if is_notice {
        HookInput::Json
    } else {
        HookInput::None
    };
    let Some(text) = section.text("input") else {
        return default;
    };
    match text.value.as_str() {
        "none" => HookInput::None,
        "json" => HookInput::Json,
        "text" if is_notice => HookInput::Text,
        other => {
            let offered = if is_notice {
                "\"none\", \"json\", \"text\""
            } else {
                "\"none\", \"json\""
            };
            section.problem_at(
                &text.at,
                "input",
                format!("\"{other}\" is none of {offered}"),
            );
            default
        }
    }
}
