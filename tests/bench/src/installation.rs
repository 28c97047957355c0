//! An installation of rcptsync to be measured: its configuration, and runs of the program that was built.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::process::{command, succeed};
use crate::recipients::DOMAINS;
use crate::timed::{self, Timed};

/// The program under measurement, beside this one.
pub fn program() -> PathBuf {
    let here = std::env::current_exe().expect("the place of this program");
    here.with_file_name("rcptsync")
}

/// Configuration, state and tables below one directory.
pub struct Installation {
    directory: PathBuf,
}

impl Installation {
    /// A new one, with one source and one table in both formats. The guard is not what is measured.
    pub fn new(directory: &Path, source: &str) -> Installation {
        let _ = std::fs::remove_dir_all(directory);
        std::fs::create_dir_all(directory.join("tables")).expect("a directory of our own");
        let installation = Installation {
            directory: directory.to_owned(),
        };
        let complete: String = DOMAINS
            .iter()
            .map(|domain| format!("[domain.\"{domain}\"]\ndirectory_is_complete = true\n"))
            .collect();
        let config = format!(
            "state_dir = \"{directory}/state\"\n\
             run_timeout = \"2h\"\n\
             [domains]\nlist = {DOMAINS:?}\n\
             {complete}\
             [source.corp]\n{source}\
             [guard]\nremoved_floor = 1000000\n\
             [table.relay_recipients]\n\
             path = \"{directory}/tables/relay_recipients\"\n\
             formats = [\"text\", \"cdb\"]\n\
             kind = \"recipients\"\n\
             folding = \"unicode\"\n",
            directory = directory.display(),
        );
        std::fs::write(installation.config_file(), config).expect("a file of our own");
        installation
    }

    fn config_file(&self) -> PathBuf {
        self.directory.join("rcptsync.toml")
    }

    /// The published text.
    pub fn text(&self) -> PathBuf {
        self.directory.join("tables/relay_recipients")
    }

    /// The published CDB.
    pub fn cdb(&self) -> PathBuf {
        self.directory.join("tables/relay_recipients.cdb")
    }

    /// The first run of all: nothing was read and nothing published before.
    pub fn first_sync(&self) -> Timed {
        for name in ["state", "tables"] {
            let _ = std::fs::remove_dir_all(self.directory.join(name));
        }
        std::fs::create_dir(self.directory.join("tables")).expect("a directory of our own");
        self.sync()
    }

    /// One run.
    pub fn sync(&self) -> Timed {
        timed::program(&sync(&self.config_file(), &[]))
    }

    /// How the source was read, told by `diff`, which stores nothing.
    pub fn source_state(&self) -> String {
        source_state(&self.config_file())
    }

    /// How many rows the published text has.
    pub fn rows_count(&self) -> u64 {
        rows_count(&self.text())
    }
}

/// A run of the program with a configuration.
pub fn sync(config_file: &Path, more: &[&str]) -> Command {
    let mut sync = Command::new(program());
    sync.arg("--config")
        .arg(config_file)
        .args(["--quiet", "sync"])
        .args(more)
        .env_remove("RCPTSYNC_CONFIG");
    sync
}

/// How the source `corp` of a configuration would be read now.
pub fn source_state(config_file: &Path) -> String {
    let mut diff = command(program().to_str().expect("a path that is text"));
    diff.arg("--config")
        .arg(config_file)
        .args(["--quiet", "diff", "--format", "json"]);
    let told = succeed(&mut diff).stdout;
    let told: serde_json::Value = serde_json::from_slice(&told).expect("JSON");
    told["sources"]["corp"]["state"]
        .as_str()
        .expect("the state of the source")
        .to_owned()
}

/// How many rows a text has.
pub fn rows_count(text: &Path) -> u64 {
    let text = std::fs::read(text).expect("a published table");
    let lines = text.split(|octet| *octet == b'\n');
    lines
        .filter(|line| !line.is_empty() && !line.starts_with(b"#"))
        .count() as u64
}
