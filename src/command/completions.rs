//! `completions`: the script that lets a shell complete the command line. It needs no configuration and writes nothing.

use std::io::Write;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::exit::Exit;

/// Prints the script for a shell.
pub fn run(shell: Shell, out: &mut dyn Write) -> u8 {
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    // `generate` itself ends the process when the reader has gone away.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    let _ = out.write_all(&script);
    Exit::Current.code()
}
