//! Where it is all written, and what comes next.
//!
//! Invariant: every place is known to be free before the first file is written, and what could be written goes again when another
//! could not.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;

use super::directory::SignedIn;
use super::terminal::{Question, Terminal};
use super::{Draft, SOURCE, from_here, wrong};
use crate::command::init::{new_file, not_written};
use crate::directory::Credentials;
use crate::error::Result;
use crate::harmless;
use crate::templates::{BindNames, SecretNames};
use crate::{command, config};

/// Where units look for what they hand over, as the shipped one does.
const OF_UNITS: &str = "/etc/rcptsync";
const DEFAULT_CONFIG: &str = "/etc/rcptsync/rcptsync.toml";

/// What is to be written, in this order.
pub struct Files {
    files: Vec<File>,
    /// The last of them.
    config: PathBuf,
}

struct File {
    path: PathBuf,
    content: Vec<u8>,
    is_secret: bool,
}

/// The last questions: where the password is to stand, and the configuration.
pub fn ask(
    draft: &mut Draft<'_>,
    terminal: &mut Terminal<'_>,
    signed_in: &SignedIn,
) -> Result<Files> {
    let mut files = Vec::new();
    if let (Some(authority), Some(path)) = (&draft.authority, &draft.names.source.ca_file) {
        files.push(File {
            path: path.into(),
            content: pem(authority).into_bytes(),
            is_secret: false,
        });
    }
    if let Credentials::Simple { password, .. } = &signed_in.credentials
        && draft.is_password_typed
    {
        files.push(File {
            path: place_of_password(draft, terminal)?,
            content: format!("{}\n", password.reveal()).into_bytes(),
            is_secret: true,
        });
    }
    if terminal.asks() {
        terminal.say("\nThe configuration, without its comments:\n");
        let text = draft.text();
        for line in text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty())
        {
            let line = line.split(" # ").next().unwrap_or_default().trim_end();
            terminal.say(&format!("    {line}"));
        }
    }
    let question = Question {
        option: "--output",
        text: "Write it to (this is the last question)",
        proposal: Some(draft.path().display().to_string()),
    };
    let given = draft.options.output.as_ref();
    let given = given.map(|path| path.display().to_string());
    let config = terminal.ask(&question, given, |_, answer| {
        let path = absolute(answer)?;
        match files.iter().any(|file| file.path == path) {
            true => Err(wrong("another file goes there")),
            false => Ok(path),
        }
    })?;
    files.push(File {
        path: config.clone(),
        content: draft.text().into_bytes(),
        is_secret: false,
    });
    Ok(Files { files, config })
}

/// That nothing is there.
pub fn is_free(path: &Path) -> Result<()> {
    match new_file::is_free(path) {
        true => Ok(()),
        false => Err(not_written(path, &io::ErrorKind::AlreadyExists.into())),
    }
}

/// Where nothing is yet, and something can be.
fn absolute(answer: &str) -> Result<PathBuf> {
    let path = std::path::absolute(answer).map_err(|error| wrong(&error.to_string()))?;
    is_free(&path)?;
    let directory = new_file::directory_of(&path);
    let above = directory.parent().unwrap_or(directory);
    match directory.is_dir() || above.is_dir() {
        true => Ok(path),
        false => Err(not_written(&path, &io::ErrorKind::NotFound.into())),
    }
}

/// Asks for it, and puts it into the draft: as a credential where the shipped unit hands it over, else as a file.
fn place_of_password(draft: &mut Draft<'_>, terminal: &mut Terminal<'_>) -> Result<PathBuf> {
    let proposal = draft.free_place(SOURCE, ".password");
    let question = Question {
        option: "--password-file",
        text: "The password goes into a new file that nobody else can read",
        proposal: Some(proposal.display().to_string()),
    };
    let path = terminal.ask(&question, None, |_, answer| absolute(answer))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_for_units = new_file::directory_of(&path) == Path::new(OF_UNITS) && has_systemd();
    if let Some(BindNames::Simple { password, .. }) = &mut draft.names.source.bind {
        *password = match (&draft.options.credential, is_for_units) {
            (Some(name), _) => SecretNames::Credential(name.clone()),
            (None, true) => SecretNames::Credential(name.into_owned()),
            (None, false) => SecretNames::File(path.display().to_string()),
        };
    }
    draft.config()?;
    Ok(path)
}

fn has_systemd() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine;
    const WIDTH: usize = 64;
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, behind) = rest.split_at(rest.len().min(WIDTH));
        pem.push_str(line);
        pem.push('\n');
        rest = behind;
    }
    pem + "-----END CERTIFICATE-----\n"
}

/// All of them, or none.
pub fn write(files: &Files, out: &mut dyn Write) -> Result<()> {
    for (at, file) in files.files.iter().enumerate() {
        if let Err(failure) = write_one(file) {
            for written in &files.files[..at] {
                // New a moment ago, and ours.
                let _ = fs::remove_file(&written.path);
            }
            return Err(failure);
        }
    }
    for file in &files.files {
        let path = harmless::key(file.path.as_os_str().as_encoded_bytes());
        let _ = writeln!(out, "wrote {path}");
    }
    Ok(())
}

fn write_one(file: &File) -> Result<()> {
    let directory = new_file::directory_of(&file.path);
    if !directory.exists() {
        fs::create_dir(directory).map_err(|error| not_written(directory, &error))?;
    }
    let written = match file.is_secret {
        true => new_file::write_secret(&file.path, &file.content),
        false => new_file::write(&file.path, &file.content, 0o644),
    };
    written.map_err(|error| not_written(&file.path, &error))
}

/// What `check` says of the new file, and the commands that come next.
pub fn tell_what_is_next(draft: &Draft<'_>, files: &Files, out: &mut dyn Write) -> Result<u8> {
    let config = config::load(&files.config)?;
    let code = command::check::run(&config, out)?;
    let path = files.config.display().to_string();
    let is_default = path == DEFAULT_CONFIG;
    let program = match is_default {
        true => "rcptsync".to_owned(),
        false => format!("rcptsync --config {path}"),
    };
    let publish = match is_default {
        true => {
            "systemctl start rcptsync.service && systemctl enable --now rcptsync.timer".to_owned()
        }
        false => format!("{program} sync"),
    };
    let as_the_run = as_the_run(draft, files, &program, out);
    let _ = writeln!(
        out,
        "\nNext:\n\
         \x20 1. everything around it, tried one by one:\n\
         \x20    {as_the_run} doctor\n\
         \x20 2. what would be published:\n\
         \x20    {as_the_run} diff\n\
         \x20 3. publish it, and go on doing so:\n\
         \x20    {publish}"
    );
    let target = draft.names.target;
    let _ = match target.is_postfix() {
        true => writeln!(
            out,
            "Then tell the gateway, once the table is published:\n\
             \x20    {program} init {} --install",
            target.name()
        ),
        false => writeln!(
            out,
            "Then tell the gateway; the lines for it:\n\
             \x20    {program} init {} --print --table-path {}",
            target.name(),
            draft.names.path()
        ),
    };
    Ok(code)
}

/// A command as the account of the run gives it, with what the run is handed.
fn as_the_run(draft: &Draft<'_>, files: &Files, program: &str, out: &mut dyn Write) -> String {
    let credential = credential(draft, files);
    let is_root = rustix::process::geteuid().is_root();
    if let Some(BindNames::Simple { password, .. }) = &draft.names.source.bind
        && let SecretNames::File(file) = password
        && is_root
    {
        let file = harmless::key(file.as_bytes());
        let _ = writeln!(
            out,
            "\nThe account of the run must be able to read the password:\n     chown rcptsync {file}"
        );
    }
    match credential {
        Some((name, file)) => format!(
            "systemd-run --pty --uid=rcptsync \\\n       -p LoadCredential={name}:{file} \\\n       {program}"
        ),
        None if is_root && has_systemd() => {
            format!("systemd-run --pty --uid=rcptsync {program}")
        }
        None => program.to_owned(),
    }
}

/// The credential of the run, and the file that it comes from.
fn credential(draft: &Draft<'_>, files: &Files) -> Option<(String, String)> {
    let secret = match draft.names.source.bind.as_ref()? {
        BindNames::Anonymous => return None,
        BindNames::Simple { password, .. } => password,
        BindNames::Gssapi { keytab, .. } => keytab,
    };
    let SecretNames::Credential(name) = secret else {
        return None;
    };
    let options = draft.options;
    let given = (options.password_file.as_ref()).or(options.keytab.as_ref());
    let written = files.files.iter().find(|file| file.is_secret);
    let file = match (given, written) {
        (Some(file), _) => from_here(file),
        (None, Some(file)) => file.path.display().to_string(),
        (None, None) => format!("{OF_UNITS}/{name}"),
    };
    Some((name.clone(), file))
}
