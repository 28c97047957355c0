//! What the program says of itself: manual pages through the readers of manual pages, completions through the shells.
//!
//! Neither verb needs a configuration, and neither looks for one. Not here: the keys of rcptsync.toml(5) (`manual_keys`).

mod common;

use std::path::Path;
use std::process::{Command, Output};

use clap::{CommandFactory, ValueEnum};
use clap_complete::Shell;
use common::rcptsync::Rcptsync;
use common::{require, write_file};
use rcptsync::cli::Cli;
use rcptsync::exit::Exit;
use rcptsync::manual::Page;

const PAGES: [(&str, Page); 2] = [
    ("rcptsync.1", Page::Program),
    ("rcptsync.toml.5", Page::Configuration),
];

/// Writes a page as the packages do, and says where it lies.
fn written(program: &Rcptsync, name: &str, page: Page) -> std::path::PathBuf {
    let page = page
        .to_possible_value()
        .expect("a page that can be asked for");
    let outcome = program.run(&["man", page.get_name()]).expect_code(0);
    let file = program.directory().join(name);
    write_file(&file, outcome.stdout);
    file
}

fn run(program: &str, arguments: &[&str], directory: &Path) -> Output {
    Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .env("MANWIDTH", "80")
        .env("LC_ALL", "C.UTF-8")
        .output()
        .expect("it runs")
}

/// As man(1) shows it at 80 columns.
fn shown(file: &Path) -> String {
    let output = run("man", &["-l", &file.to_string_lossy()], Path::new("/"));
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn the_pages_are_what_their_readers_understand() {
    if !require("mandoc") || !require("man") {
        return;
    }
    let program = Rcptsync::new("manual");
    for (name, page) in PAGES {
        let file = written(&program, name, page);
        let output = run("mandoc", &["-Tlint", name], program.directory());
        assert!(
            output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
        let text = shown(&file);
        assert!(
            text.contains(env!("CARGO_PKG_VERSION")) && !text.contains("{{"),
            "{text}"
        );
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{name}: {line}");
        }
    }
    assert!(!program.config_file().exists());
}

#[test]
fn the_page_has_every_verb_option_and_code() {
    if !require("man") {
        return;
    }
    let program = Rcptsync::new("manual");
    let text = shown(&written(&program, PAGES[0].0, PAGES[0].1));
    // A page is broken into lines where it likes.
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let command = Cli::command();
    for verb in command.get_subcommands() {
        let heading = format!("   {}", verb.get_name());
        let of_verb = text.lines().skip_while(|line| *line != heading).skip(1);
        let section: Vec<&str> = of_verb
            .take_while(|line| line.is_empty() || line.starts_with("    "))
            .collect();
        let section = section.join("\n");
        assert!(!section.is_empty(), "{} has no section", verb.get_name());
        for argument in verb.get_arguments() {
            let name = match argument.get_long() {
                Some(long) => format!("--{long}"),
                None => argument.get_value_names().unwrap_or_default()[0].to_string(),
            };
            assert!(section.contains(&name), "{} {name}", verb.get_name());
        }
        let about = verb.get_about().expect("help").to_string().replace('`', "");
        assert!(words.contains(&about), "{about}");
    }
    for option in command.get_arguments().filter_map(clap::Arg::get_long) {
        assert!(words.contains(&format!("--{option}")), "--{option}");
    }
    for (code, meanings) in Exit::codes() {
        for meaning in meanings {
            assert!(words.contains(meaning), "{code} {meaning}");
        }
    }
}

/// What bash offers behind `words`, the last of which is being typed.
#[track_caller]
fn check(program: &Rcptsync, words: &[&str], expected: &[&str]) {
    let script = program.directory().join("completions.bash");
    let complete = "source \"$1\"; shift; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1))\n\
                    compopt() { :; }\n\
                    _rcptsync rcptsync \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD-1]}\"\n\
                    printf '%s\\n' \"${COMPREPLY[@]}\"";
    let mut arguments = vec!["--norc", "-c", complete, "bash"];
    let script = script.to_string_lossy();
    arguments.push(&script);
    arguments.extend(words);
    let output = run("bash", &arguments, program.directory());
    let offered = String::from_utf8(output.stdout).expect("UTF-8");
    let offered: Vec<&str> = offered.lines().collect();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{words:?}"
    );
    assert_eq!(offered, expected, "{words:?}");
}

#[test]
fn bash_completes_verbs_options_values_and_files() {
    let program = Rcptsync::new("manual");
    let script = program.run(&["completions", "bash"]).expect_code(0).stdout;
    write_file(&program.directory().join("completions.bash"), script);
    write_file(&program.directory().join("other.toml"), "");
    check(&program, &["rcptsync", "di"], &["diff"]);
    check(&program, &["rcptsync", "diff", "--f"], &["--format"]);
    check(
        &program,
        &["rcptsync", "diff", "--format", ""],
        &["text", "json", "unified", "markdown"],
    );
    check(&program, &["rcptsync", "--color", "a"], &["auto", "always"]);
    check(&program, &["rcptsync", "init", "p"], &["postfix", "pmg"]);
    check(
        &program,
        &["rcptsync", "man", "rcptsync."],
        &["rcptsync.toml"],
    );
    check(&program, &["rcptsync", "--config", "oth"], &["other.toml"]);
    check(
        &program,
        &["rcptsync", "sync", "--config", "oth"],
        &["other.toml"],
    );
}

#[test]
fn the_shells_understand_their_completions() {
    let program = Rcptsync::new("manual");
    for (shell, name) in [
        (Shell::Bash, "bash"),
        (Shell::Zsh, "zsh"),
        (Shell::Fish, "fish"),
    ] {
        if !require(name) {
            continue;
        }
        let outcome = program
            .run(&["completions", &shell.to_string()])
            .expect_code(0);
        write_file(&program.directory().join(name), outcome.stdout);
        let output = run(name, &["-n", name], program.directory());
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{output:?}"
        );
    }
    if require("fish") {
        let line = "source fish; complete -C 'rcptsync diff --format m'";
        let output = run("fish", &["--no-config", "-c", line], program.directory());
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "markdown\tFor a merge request\n"
        );
    }
}

/// Help is read on a terminal of 80 columns: no text of it may bring longer lines along.
#[test]
fn help_fits_on_a_narrow_terminal() {
    let mut command = Cli::command().term_width(80);
    command.build();
    let helps = command
        .get_subcommands_mut()
        .map(|verb| verb.render_long_help());
    let mut helps: Vec<_> = helps.collect();
    helps.push(command.render_long_help());
    for help in helps {
        for line in help.to_string().lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
}
