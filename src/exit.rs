//! The exit codes, which are part of the interface.
//!
//! A run may have several truths to tell (a source frozen *and* a hook owed): all are kept, and [`Exit::first`] says
//! which one the process exits with. `status` alone speaks another language, that of monitoring plugins.
//!
//! Invariant: the order of the variants is the order of precedence.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Why a command ended as it did, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// 70: a bug of ours.
    Bug,
    /// 78: the configuration or the state directory is wrong.
    Configuration,
    /// 64: wrong command line.
    Usage,
    /// 77: no permission: configuration, secret or state denied, or the directory refused the account.
    Permission,
    /// 73: a table could not be written; the old one is in force.
    NotWritten,
    /// 74: another run holds the lock; nothing was touched.
    Locked,
    /// 65: changes are held; everything else is published.
    Held,
    /// 69: published, but a hook is owed.
    HookOwed,
    /// 69: a gateway, the system behind it or a file on the disk is not as the table says.
    Disagrees,
    /// 75: a source could not be read completely: its recipients stay as they were.
    SourceFrozen,
    /// 75: a server could not be asked, or what it said decides nothing.
    Undecided,
    /// 2: `diff` and `--dry-run`: changes would be published.
    WouldChange,
    /// 1: `explain`: the address is refused or unknown; `doctor`: a finding is an error.
    Refused,
    /// 0: the tables are current, nothing is held, frozen or owed.
    Current,
}

impl Exit {
    /// Everything that a run which holds the lock can end with, most urgent first; `sync` and `rollback` are such.
    pub const OF_RUNS: [Exit; 10] = [
        Exit::Bug,
        Exit::Configuration,
        Exit::Usage,
        Exit::Permission,
        Exit::NotWritten,
        Exit::Held,
        Exit::HookOwed,
        Exit::Disagrees,
        Exit::SourceFrozen,
        Exit::Current,
    ];

    /// Its name in records and metrics: `source_frozen`.
    pub fn name(self) -> &'static str {
        match self {
            Exit::Bug => "bug",
            Exit::Configuration => "configuration",
            Exit::Usage => "usage",
            Exit::Permission => "permission",
            Exit::NotWritten => "not_written",
            Exit::Locked => "locked",
            Exit::Held => "held",
            Exit::HookOwed => "hook_owed",
            Exit::Disagrees => "disagrees",
            Exit::SourceFrozen => "source_frozen",
            Exit::Undecided => "undecided",
            Exit::WouldChange => "would_change",
            Exit::Refused => "refused",
            Exit::Current => "current",
        }
    }

    /// The process's exit code (sysexits.h where one fits).
    pub fn code(self) -> u8 {
        match self {
            Exit::Bug => 70,
            Exit::Configuration => 78,
            Exit::Usage => 64,
            Exit::Permission => 77,
            Exit::NotWritten => 73,
            Exit::Locked => 74,
            Exit::Held => 65,
            Exit::HookOwed | Exit::Disagrees => 69,
            Exit::SourceFrozen | Exit::Undecided => 75,
            Exit::WouldChange => 2,
            Exit::Refused => 1,
            Exit::Current => 0,
        }
    }

    /// The one of several that decides the code.
    pub fn first(all: impl IntoIterator<Item = Exit>) -> Exit {
        all.into_iter().min().unwrap_or(Exit::Current)
    }

    /// All of them, the most urgent first.
    pub const ALL: [Exit; 14] = [
        Exit::Bug,
        Exit::Configuration,
        Exit::Usage,
        Exit::Permission,
        Exit::NotWritten,
        Exit::Locked,
        Exit::Held,
        Exit::HookOwed,
        Exit::Disagrees,
        Exit::SourceFrozen,
        Exit::Undecided,
        Exit::WouldChange,
        Exit::Refused,
        Exit::Current,
    ];

    /// What it means, for the help and the manual.
    fn meaning(self) -> &'static str {
        match self {
            Exit::Bug => "a bug; please report it",
            Exit::Configuration => "the configuration or the state directory is wrong",
            Exit::Usage => "wrong command line",
            Exit::Permission => "no permission to a file, or the directory refused the account",
            Exit::NotWritten => "a table could not be written; the old one is in force",
            Exit::Locked => "another run holds the lock; nothing was touched",
            Exit::Held => "changes are held; everything else is published",
            Exit::HookOwed => "published, but a hook is owed",
            Exit::Disagrees => "verify: a file or a server is not as the table says",
            Exit::SourceFrozen => "a source could not be read completely; its recipients stay",
            Exit::Undecided => "verify: a server could not be asked, or decides nothing",
            Exit::WouldChange => "diff, sync --dry-run: changes would be published",
            Exit::Refused => "explain: the address is refused; doctor: a finding is an error",
            Exit::Current => "the tables are current, nothing held or frozen, hooks done",
        }
    }

    /// Every code with all that it may mean, ascending.
    pub fn codes() -> BTreeMap<u8, Vec<&'static str>> {
        let mut codes: BTreeMap<u8, Vec<&str>> = BTreeMap::new();
        for exit in Exit::ALL {
            codes.entry(exit.code()).or_default().push(exit.meaning());
        }
        codes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precedence_is_that_of_the_manual() {
        let all = Exit::ALL;
        let mut sorted = all.to_vec();
        sorted.sort();
        let mut codes: Vec<u8> = sorted.iter().map(|exit| exit.code()).collect();
        codes.dedup();
        assert_eq!(codes, [70, 78, 64, 77, 73, 74, 65, 69, 75, 2, 1, 0]);
        assert_eq!(Exit::first(all), Exit::Bug);
        for exit in all {
            assert_eq!(serde_json::to_value(exit).ok(), Some(exit.name().into()));
        }
        assert_eq!(Exit::first([]), Exit::Current);
    }
}
