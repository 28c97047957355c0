//! Runs the program under test, from a directory of its own with configuration, state and tables.

use std::path::{Path, PathBuf};

use rcptsync::state::State;
use tempfile::TempDir;

use super::process::command;
use super::{temp_dir, temp_dir_in, write_file};

/// Where the program lies; the benchmarks, which share this module, find it themselves.
const PROGRAM: Option<&str> = option_env!("CARGO_BIN_EXE_rcptsync");

/// A run that takes longer has hung: coreutils' `timeout` ends it, with code 124.
const RUN_SECONDS_MAX: &str = "180";

/// An installation of the program.
#[derive(Debug)]
pub struct Rcptsync {
    directory: TempDir,
    /// The Postfix that the program asks; without one, that of this machine.
    pub mail_config: Option<PathBuf>,
}

/// The LDAP source of a configuration, and the rest of it as text.
#[derive(Debug)]
pub struct LdapConfig<'test> {
    pub server: String,
    pub starttls: bool,
    pub ca_file: &'test Path,
    pub bind_name: &'test str,
    pub password_file: &'test Path,
    pub page_size: u32,
    /// More keys of `[source.corp]`, each on a line of its own.
    pub source_more: &'test str,
    pub domains: &'test [&'test str],
    /// More sections.
    pub more: &'test str,
}

impl Rcptsync {
    /// An installation without configuration.
    pub fn new(name: &str) -> Rcptsync {
        let directory = temp_dir(name);
        // The program makes its state directory itself; tables live where other accounts may read them.
        std::fs::create_dir(directory.path().join("tables")).expect("a directory of our own");
        Rcptsync {
            directory,
            mail_config: None,
        }
    }

    /// An installation without configuration that lies in memory, where this machine has such a place: of thousands of runs
    /// each waits for the disk dozens of times.
    pub fn in_memory(name: &str) -> Rcptsync {
        let directory = temp_dir_in(Path::new("/dev/shm"), name);
        std::fs::create_dir(directory.path().join("tables")).expect("a directory of our own");
        Rcptsync {
            directory,
            mail_config: None,
        }
    }

    /// The directory of this installation.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The state directory of [`Rcptsync::configure_ldap`].
    pub fn state_dir(&self) -> PathBuf {
        self.directory().join("state")
    }

    /// The table's name as main.cf knows it, which is also that of its text.
    pub fn table(&self) -> PathBuf {
        self.directory().join("tables/relay_recipients")
    }

    /// The table as Postfix reads it.
    pub fn table_cdb(&self) -> PathBuf {
        self.directory().join("tables/relay_recipients.cdb")
    }

    /// Replaces the configuration.
    pub fn write_config(&self, toml: &str) {
        write_file(&self.config_file(), toml);
    }

    /// Replaces the configuration by one LDAP source and one table in both formats.
    pub fn configure_ldap(&self, config: &LdapConfig<'_>) {
        let table = toml::Table::try_from(std::collections::BTreeMap::from([(
            "list",
            config.domains.to_vec(),
        )]))
        .expect("a list of domains");
        self.write_config(&format!(
            "state_dir = \"{state}\"\n\
             run_timeout = \"2m\"\n\
             [domains]\n{table}\
             [source.corp]\n\
             kind = \"ldap\"\n\
             servers = [\"{server}\"]\n\
             starttls = {starttls}\n\
             ca_file = \"{ca}\"\n\
             page_size = {page_size}\n\
             {source_more}\n\
             [source.corp.bind]\n\
             method = \"simple\"\n\
             name = \"{bind_name}\"\n\
             password_file = \"{password}\"\n\
             [table.relay_recipients]\n\
             path = \"{path}\"\n\
             formats = [\"text\", \"cdb\"]\n\
             kind = \"recipients\"\n\
             folding = \"unicode\"\n\
             {more}\n",
            state = self.state_dir().display(),
            server = config.server,
            starttls = config.starttls,
            ca = config.ca_file.display(),
            page_size = config.page_size,
            source_more = config.source_more,
            bind_name = config.bind_name,
            password = config.password_file.display(),
            path = self.table().display(),
            more = config.more,
        ));
    }

    /// The configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.directory().join("rcptsync.toml")
    }

    /// Runs the program to its end.
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        self.run_under(&[], arguments)
    }

    /// Runs the program to its end below another: `env NAME=VALUE`, `setpriv --reuid=…`.
    pub fn run_under(&self, wrapper: &[&str], arguments: &[&str]) -> Outcome {
        let output = command("timeout")
            .args(["--kill-after=5", RUN_SECONDS_MAX])
            .args(wrapper)
            .arg(PROGRAM.expect("built for integration tests, which know the program"))
            .arg("--config")
            .arg(self.config_file())
            .args(arguments)
            .env_remove("RCPTSYNC_CONFIG")
            .envs(self.mail_config.iter().map(|path| ("MAIL_CONFIG", path)))
            .output()
            .expect("coreutils' timeout runs");
        Outcome {
            arguments: arguments.join(" "),
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: without_run_ids(&String::from_utf8_lossy(&output.stderr)),
        }
    }

    /// As if the machine had been started anew since the last run: what its clock says has passed.
    pub fn forget_clocks(&self) {
        let state = State::lock(&self.state_dir()).expect("nobody else");
        let mut head = state.head().expect("a state");
        head.clocks = None;
        state.store_head(&head).expect("our own directory");
    }

    /// Runs the program to its end: how that was, and the most memory that it held, in KiB (GNU time).
    pub fn run_measured(&self, arguments: &[&str]) -> (Outcome, u64) {
        let measured = self.directory().join("measured");
        let output = measured.display().to_string();
        let wrapper = ["time", "--quiet", "--format=%M", "--output", &output];
        let outcome = self.run_under(&wrapper, arguments);
        let text = std::fs::read_to_string(&measured).expect("GNU time has written");
        let kib = text.lines().last().and_then(|line| line.parse().ok());
        (outcome, kib.expect("a number of KiB"))
    }

    /// The words of a command line that runs the program on a terminal (`script` gives it one).
    pub fn words(&self, arguments: &[&str]) -> Vec<String> {
        let program = PROGRAM.expect("built for integration tests, which know the program");
        let config = self.config_file().display().to_string();
        let own = [
            "timeout",
            "--foreground",
            RUN_SECONDS_MAX,
            program,
            "--config",
            &config,
        ];
        own.iter()
            .chain(arguments)
            .map(|word| (*word).to_owned())
            .collect()
    }

    /// The keys of the published text. Postfix's own readers are asked elsewhere; this is only what the file says.
    pub fn table_keys(&self) -> std::collections::BTreeSet<String> {
        let text = std::fs::read_to_string(self.table()).expect("a published table");
        text.lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty())
            .map(|line| {
                line.strip_suffix(" OK")
                    .unwrap_or_else(|| panic!("a row without the value OK: {line:?}"))
                    .to_owned()
            })
            .collect()
    }
}

/// Lines without the id of the run in front: `20261126T033000Z-4711 `.
fn without_run_ids(text: &str) -> String {
    let is_id = |word: &str| {
        word.split_once("Z-").is_some_and(|(began, process)| {
            let digits = began.replacen('T', "", 1) + process;
            began.len() == 15 && digits.bytes().all(|octet| octet.is_ascii_digit())
        })
    };
    let of_line = |line| match str::split_once(line, ' ') {
        Some((word, rest)) if is_id(word) => rest,
        _ => line,
    };
    text.split_inclusive('\n').map(of_line).collect()
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    arguments: String,
    /// `None`: a signal.
    pub code: Option<i32>,
    pub stdout: String,
    /// Without the ids of runs.
    pub stderr: String,
}

impl Outcome {
    /// Fails the test with everything that the program said, unless it ended with `code`.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Outcome {
        assert_eq!(
            self.code,
            Some(code),
            "rcptsync {}\n--- standard output\n{}--- standard error\n{}",
            self.arguments,
            self.stdout,
            self.stderr
        );
        self
    }

    /// What `doctor --format json` found, in its order: `error postfix`. The code must fit to that.
    #[track_caller]
    pub fn findings(&self) -> Vec<String> {
        let report = self.json();
        let findings = report["findings"].as_array().expect("a list");
        let name = |finding: &serde_json::Value| {
            let text = |key: &str| finding[key].as_str().expect("a text").to_owned();
            assert!(!text("what").is_empty() && !text("why").is_empty());
            format!("{} {}", text("severity"), text("check"))
        };
        let found: Vec<String> = findings.iter().map(name).collect();
        let is_error = found.iter().any(|found| found.starts_with("error "));
        assert_eq!(self.code, Some(i32::from(is_error)), "{}", self.stderr);
        found
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("rcptsync {}: {error}\n{}", self.arguments, self.stdout))
    }
}
