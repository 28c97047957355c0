//! A small installation of the program: sources that the test writes, one table, all below one directory, and what a
//! reader of the tables would notice.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::rcptsync::{Outcome, Rcptsync};
use super::write_file;

/// One source of kind list, in `staff.list`.
pub const STAFF: &str = "[source.staff]\nkind = \"list\"\npath = \"staff.list\"\n";

/// `path`, what kind of file it is, inode, times of modification and change, content.
type Seen = BTreeMap<PathBuf, (u32, u64, (i64, i64), (i64, i64), Vec<u8>)>;

/// The local part of an address in example.com; every other key whole.
fn short(key: &str) -> String {
    match key.strip_suffix("@example.com") {
        None | Some("") => key.to_owned(),
        Some(local) => local.to_owned(),
    }
}

impl Rcptsync {
    /// An installation with these sources (paths count from its directory), `example.com` and more sections.
    pub fn plain(name: &str, sources: &str, more: &str) -> Rcptsync {
        let program = Rcptsync::new(name);
        program.configure(&["example.com"], sources, more);
        program
    }

    /// Replaces the configuration.
    pub fn configure(&self, domains: &[&str], sources: &str, more: &str) {
        let domains = domains.join("\", \"");
        self.write_config(&format!(
            "state_dir = \"state\"\n\
             [domains]\nlist = [\"{domains}\"]\n\
             {sources}\n\
             [table.relay_recipients]\n\
             path = \"tables/relay_recipients\"\n\
             formats = [\"text\", \"cdb\"]\n\
             folding = \"unicode\"\n\
             {more}\n"
        ));
    }

    /// Writes a file that counts as settled: nobody has written to it for an hour.
    pub fn write_settled(&self, name: &str, content: &str) {
        let path = self.directory().join(name);
        write_file(&path, content);
        let an_hour_ago = SystemTime::now() - Duration::from_secs(3600);
        std::fs::File::options()
            .append(true)
            .open(&path)
            .and_then(|file| file.set_modified(an_hour_ago))
            .expect("a time of our own file");
    }

    /// Writes `staff.list`: a comment, and these local parts of example.com or whole addresses, separated by spaces.
    pub fn staff(&self, names: &str) {
        let address = |name: &str| match name.contains('@') {
            true => format!("{name}\n"),
            false => format!("{name}@example.com\n"),
        };
        let lines: String = names.split_whitespace().map(address).collect();
        self.write_settled("staff.list", &format!("# staff\n{lines}"));
    }

    /// Everything in the directory of the tables as a reader could tell it apart, temporary files included.
    pub fn seen(&self) -> Seen {
        let directory = self.directory().join("tables");
        let Ok(entries) = std::fs::read_dir(&directory) else {
            return Seen::new();
        };
        let seen = entries.map(|entry| {
            let path = entry.expect("an entry").path();
            let metadata = path.symlink_metadata().expect("it is there");
            let content = if metadata.is_file() {
                std::fs::read(&path).expect("a readable file")
            } else {
                Vec::new()
            };
            let modified = (metadata.mtime(), metadata.mtime_nsec());
            let changed = (metadata.ctime(), metadata.ctime_nsec());
            let facts = (metadata.mode(), metadata.ino(), modified, changed, content);
            (path, facts)
        });
        seen.collect()
    }

    /// Runs the program, which must end so without any change that a reader of the tables could notice.
    #[track_caller]
    pub fn run_untouching(&self, arguments: &[&str], code: i32) -> Outcome {
        let before = self.seen();
        let outcome = self.run(arguments).expect_code(code);
        assert!(
            self.seen() == before,
            "{arguments:?} touched a table: {} {}",
            outcome.stdout,
            outcome.stderr
        );
        outcome
    }

    /// The keys of the published text in one line, local parts only where the domain is example.com.
    pub fn keys(&self) -> String {
        let keys: Vec<String> = self.table_keys().iter().map(|key| short(key)).collect();
        keys.join(" ")
    }

    /// The holds that `diff` finds: cause, scope, rows with their signs; and the digests in the same order.
    pub fn holds(&self) -> (Vec<String>, Vec<String>) {
        let report = self.run(&["diff", "--format", "json"]).json();
        let rows = |hold: &serde_json::Value, sign: &str, list: &str| -> String {
            let rows = hold[list].as_array().expect("a list of keys").iter();
            rows.map(|key| format!(" {sign}{}", short(key.as_str().expect("a key"))))
                .collect()
        };
        let holds = report["holds"].as_array().expect("a list of holds").iter();
        holds
            .map(|hold| {
                let text = |name: &str| hold[name].as_str().expect("text").to_owned();
                let (added, removed) = (rows(hold, "+", "added"), rows(hold, "-", "removed"));
                let line = format!("{} {}:{added}{removed}", text("cause"), text("scope"));
                (line, text("digest"))
            })
            .unzip()
    }
}

impl Outcome {
    /// Fails the test unless standard error names a failure with all five answers, and says this.
    #[track_caller]
    pub fn expect_answers(&self, parts: &[&str]) -> &Outcome {
        for part in [
            "error: ",
            "\n  where:    ",
            "\n  why:      ",
            "\n  in force: ",
            "\n  next:     ",
        ]
        .iter()
        .chain(parts)
        {
            assert!(
                self.stderr.contains(part),
                "{part:?} is missing in:\n{}",
                self.stderr
            );
        }
        self
    }

    /// Fails the test unless standard output says all of this.
    #[track_caller]
    pub fn expect_output(&self, parts: &[&str]) -> &Outcome {
        for part in parts {
            assert!(
                self.stdout.contains(part),
                "{part:?} is missing in:\n{}\n{}",
                self.stdout,
                self.stderr
            );
        }
        self
    }
}
