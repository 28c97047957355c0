//! `man`: a manual page, for man(1). It needs no configuration and writes nothing.

use std::io::Write;

use clap::CommandFactory;

use crate::cli::Cli;
use crate::exit::Exit;
use crate::manual::{self, Page};

/// Prints the source of a page.
pub fn run(page: Page, out: &mut dyn Write) -> u8 {
    // A reader who has gone away changes nothing.
    let _ = out.write_all(manual::page(page, Cli::command()).as_bytes());
    Exit::Current.code()
}
