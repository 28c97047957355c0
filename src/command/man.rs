//! `man`: a manual page, for man(1). It needs no configuration and writes nothing.

use std::io::{self, IsTerminal, Write};

use clap::{CommandFactory, ValueEnum};

use crate::cli::Cli;
use crate::exit::Exit;
use crate::manual::{self, Page};

/// Prints the source of a page.
pub fn run(page: Page, out: &mut dyn Write) -> u8 {
    // A reader who has gone away changes nothing.
    let _ = out.write_all(manual::page(page, Cli::command()).as_bytes());
    if io::stdout().is_terminal() {
        let page = page.to_possible_value();
        let name = page.as_ref().map_or("", |value| value.get_name());
        let _ = writeln!(
            io::stderr(),
            "\nThis is the source of the page. To read it: rcptsync man {name} | man -l -"
        );
    }
    Exit::Current.code()
}
