//! The manual pages: rcptsync(1) from the definitions of the command line, rcptsync.toml(5) as it is written.
//!
//! One page has all verbs, because whoever is woken by a code looks for one place. clap_mangen makes a page of each verb, with
//! headings of its own, so pages are put together here, from `templates/man` and what [`clap::Command`] knows.
//! Not here: the keys of the configuration (the text of the page; tests compare it with what the parser knows).
//!
//! Pure: a command in, a page out.

mod roff;

use clap::builder::PossibleValue;
use clap::{Arg, Command, ValueEnum};

use crate::exit::Exit;
use crate::templates;

/// The pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Page {
    /// rcptsync(1): the program, its verbs, options, exit codes and files
    #[value(name = "rcptsync")]
    Program,
    /// rcptsync.toml(5): every section and key of the configuration
    #[value(name = "rcptsync.toml")]
    Configuration,
}

/// The source of a page, for man(1) and mandoc(1); `command` is the whole command line.
pub fn page(page: Page, mut command: Command) -> String {
    command.build();
    let version = command.get_version().unwrap_or_default();
    let text = match page {
        Page::Program => include_str!("../../templates/man/rcptsync.1"),
        Page::Configuration => include_str!("../../templates/man/rcptsync.toml.5"),
    };
    let values = [
        ("version", version.to_owned()),
        ("synopsis", verbs(&command).map(synopsis).collect()),
        ("verbs", verbs(&command).map(verb).collect()),
        ("options", arguments(&command).map(entry).collect()),
        ("exit_codes", exit_codes()),
    ];
    templates::fill(text, &values)
}

fn verbs(command: &Command) -> impl Iterator<Item = &Command> {
    command
        .get_subcommands()
        .filter(|verb| !is_added(verb.get_name()))
}

/// What a verb takes for itself; what the program takes everywhere.
fn arguments(command: &Command) -> impl Iterator<Item = &Arg> {
    let is_whole = command.has_subcommands();
    command.get_arguments().filter(move |argument| {
        !is_added(argument.get_id().as_str()) && argument.is_global_set() == is_whole
    })
}

/// What clap adds by itself.
fn is_added(name: &str) -> bool {
    matches!(name, "help" | "version")
}

fn synopsis(verb: &Command) -> String {
    let mut line = format!(".SY \"rcptsync {}\"\n", roff::inline(verb.get_name()));
    for argument in arguments(verb) {
        let name = name(argument, "\\~");
        line.push_str(&match argument.is_required_set() {
            true => format!("{name}\n"),
            false => format!("[{name}]\n"),
        });
    }
    line + ".YS\n"
}

/// As it is typed: the long name and the value, or the value alone.
fn name(argument: &Arg, space: &str) -> String {
    let value = value(argument);
    let Some(long) = argument.get_long() else {
        return value;
    };
    let long = format!("\\fB\\-\\-{}\\fR", roff::inline(long));
    match value.is_empty() {
        true => long,
        false => format!("{long}{space}{value}"),
    }
}

fn value(argument: &Arg) -> String {
    if !argument.get_action().takes_values() {
        return String::new();
    }
    let names = argument.get_value_names().unwrap_or_default();
    let names = names.iter().map(|name| name.as_str()).collect::<Vec<_>>();
    let is_many = argument
        .get_num_args()
        .is_some_and(|count| count.max_values() > 1);
    format!(
        "\\fI{}\\fR{}",
        roff::inline(&names.join(" ")),
        if is_many { "..." } else { "" }
    )
}

fn verb(verb: &Command) -> String {
    let about = verb.get_long_about().or_else(|| verb.get_about());
    let mut section = format!(".SS {}\n", roff::inline(verb.get_name()));
    section.push_str(&text(&about.map(ToString::to_string).unwrap_or_default()));
    section.extend(arguments(verb).map(entry));
    let after = verb.get_after_help().map(ToString::to_string);
    if let Some(after) = after {
        section.push_str(".PP\n");
        section.push_str(&text(&after));
    }
    section
}

/// Paragraphs, as help has them. The first sentence of a help text has no period.
fn text(text: &str) -> String {
    let paragraphs = text.split("\n\n").map(|paragraph| {
        let end = if paragraph.ends_with(['.', ':']) {
            ""
        } else {
            "."
        };
        roff::paragraph(&format!("{paragraph}{end}"))
    });
    paragraphs.collect::<Vec<_>>().join(".PP\n")
}

fn entry(argument: &Arg) -> String {
    let short = argument.get_short();
    let short = short.map_or_else(String::new, |short| format!("\\fB\\-{short}\\fR, "));
    let mut entry = format!(".TP\n{short}{}\n", name(argument, " "));
    let help = argument.get_long_help().or_else(|| argument.get_help());
    let mut help = help.map(ToString::to_string).unwrap_or_default();
    let defaults = argument.get_default_values();
    if argument.get_action().takes_values() && !defaults.is_empty() {
        let defaults: Vec<_> = defaults
            .iter()
            .map(|value| value.to_string_lossy())
            .collect();
        help.push_str(&format!(". Default: `{}`", defaults.join(" ")));
    }
    if let Some(variable) = argument.get_env() {
        help.push_str(&format!(
            "; the variable `{}` replaces it",
            variable.to_string_lossy()
        ));
    }
    entry.push_str(&text(&help));
    if !argument.is_hide_possible_values_set() && argument.get_action().takes_values() {
        entry.push_str(&possible(&argument.get_possible_values()));
    }
    entry
}

fn possible(values: &[PossibleValue]) -> String {
    if values.is_empty() {
        return String::new();
    }
    let values = values.iter().map(|value| {
        let help = value
            .get_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        format!(
            ".TP\n\\fB{}\\fR\n{}",
            roff::inline(value.get_name()),
            roff::paragraph(&help)
        )
    });
    format!(".RS\n{}.RE\n", values.collect::<String>())
}

fn exit_codes() -> String {
    let codes = Exit::codes().into_iter();
    let entry = |(code, meanings): (u8, Vec<&str>)| {
        format!(".TP\n.B {code}\n{}", roff::paragraph(&meanings.join("; ")))
    };
    codes.map(entry).collect()
}
