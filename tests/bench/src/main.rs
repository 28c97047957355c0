//! Measures rcptsync beside what administrators use today: one command, eleven rows, one table of results.
//!
//! `README.md` says what each row is and why it is fair. Not here: the inner loops, one by one (`../inner_loops.rs`).
//!
//! Invariant: a row whose work was not done right (another number of rows, other bytes) ends the whole run; a wrong answer
//! has no speed.

#![allow(
    clippy::expect_used,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a benchmark ends at the first thing that is not as it must be, and its numbers are small"
)]

#[path = "../../common/mod.rs"]
mod common;

mod directories;
mod in_process;
mod installation;
mod machine;
mod recipients;
mod results;
mod rows;
mod timed;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Parser;

use rows::Bench;

/// Measures rcptsync beside tinycdb, postmap, ldapsearch and scripts.
#[derive(Parser)]
#[command(name = "bench")]
struct Arguments {
    /// Rows to measure; all without any.
    #[arg(value_parser = clap::value_parser!(u8).range(1..=11))]
    rows: Vec<u8>,
    /// How often each side runs.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Recipients of the largest directory; rows 3 to 6 use a fifth of a million at most.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1_000..))]
    recipients: u64,
    /// Where the results go [default: tests/bench/RESULTS.md].
    #[arg(long)]
    output: Option<PathBuf>,
    /// Where databases and exports are kept for the next time [default: target/bench].
    #[arg(long)]
    work: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match measure(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            say(&why);
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<(), String> {
    if cfg!(debug_assertions) {
        return Err("run it with `cargo run --release -p bench`".to_owned());
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = here.join("../..").canonicalize().expect("the workspace");
    let numbers = match arguments.rows.as_slice() {
        [] => (1..=11).collect(),
        some => some.to_vec(),
    };
    if let Some(missing) = machine::missing(&numbers) {
        return Err(missing);
    }
    build(&workspace)?;
    let work = arguments.work.clone();
    let work = work.unwrap_or_else(|| workspace.join("target/bench"));
    std::fs::create_dir_all(&work).map_err(|error| format!("{}: {error}", work.display()))?;
    let bench = Bench {
        work: work.canonicalize().expect("a directory of our own"),
        rounds: usize::from(arguments.rounds),
        recipients: arguments.recipients,
    };
    let output = arguments.output.clone();
    let output = output.unwrap_or_else(|| here.join("RESULTS.md"));
    let head = machine::head(&as_given());
    let mut lines = Vec::new();
    for number in numbers {
        say(&format!("row {number}"));
        for line in bench.row(number) {
            say(&line.markdown());
            lines.push(line);
        }
        // After every row: what was measured stays measured.
        std::fs::write(&output, results::page(&head, &lines))
            .map_err(|error| format!("{}: {error}", output.display()))?;
    }
    Ok(())
}

/// Builds the program that is measured, so that it is never yesterday's.
fn build(workspace: &Path) -> Result<(), String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build
        .args(["build", "--release", "--package", "rcptsync"])
        .current_dir(workspace);
    // What `cargo run` says of this package would make build scripts think that all is new.
    for (name, _) in std::env::vars_os() {
        let of_this_package = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"];
        let name = name.to_string_lossy();
        if of_this_package
            .iter()
            .any(|prefix| name.starts_with(prefix))
        {
            build.env_remove(&*name);
        }
    }
    match build.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("cargo build: {status}")),
        Err(error) => Err(format!("cargo: {error}")),
    }
}

/// The arguments as they were given, for the results.
fn as_given() -> String {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => String::new(),
        some => format!(" -- {}", some.join(" ")),
    }
}

fn say(text: &str) {
    // Nobody to tell that nobody listens.
    let _ = writeln!(io::stderr(), "{text}");
}
