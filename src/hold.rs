//! A hold: a set of changes that is not applied until somebody releases it, or until the directory takes it back.
//!
//! One mechanism serves the guard, foreign tables and removed sources: what is held stays as it is in force, everything
//! else flows. A hold is named by a digest of what it holds, and an approval names that digest, so nobody releases more
//! than was looked at.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Changes of objects that lie in one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The source.
    pub source: String,
    /// The distinguished name of their container; empty for a source that has none, and for places beyond those that are
    /// told apart.
    pub container: String,
    /// Their rows that come.
    pub added: u64,
    /// Their rows that go.
    pub removed: u64,
}

/// Why changes are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// More removals within the window than the percentage allows.
    RemovedPercentMax,
    /// A domain would lose its last address.
    DomainEmptied,
    /// A domain of four or more would lose half of its addresses.
    DomainHalved,
    /// A source answered success with nothing.
    SourceEmpty,
    /// A source has never been read completely.
    SourceNeverComplete,
    /// A source is no longer in the configuration.
    SourceRemoved,
    /// A domain is no longer listed: in the configuration, or where the configuration takes its domains from.
    DomainRemoved,
    /// A row for a whole domain would go: from then on only those of it who are listed are accepted.
    DomainNarrowed,
    /// An address of `must_contain` is missing.
    MustContain,
    /// Fewer recipients than `recipients_min`.
    RecipientsMin,
    /// More additions in a run than the percentage allows.
    AddedPercentMax,
    /// Rows in a file that we did not write, which no source ever knew.
    ForeignTable,
    /// A foreign file whose values differ from row to row: it may serve as an access or transport map too.
    ForeignValues,
    /// A foreign file that nothing reads, for the template of the table is of the administrator's own making, or that has more in
    /// it than recipients. Its scope is the beginning of the file's digest.
    ForeignUnread,
    /// The domains of a source, or `relay_domains`, have never been read completely.
    DomainsNeverRead,
    /// A domain would be published for the first time although there are signs that recipients of it live elsewhere.
    RecipientsElsewhere,
    /// The directory holds a part of what was asked for elsewhere, and no source covers it.
    UncoveredReferral,
    /// Somebody went back to an earlier generation.
    Rollback,
    /// A gateway contradicted what was published, and the generation before is back.
    Proof,
}

impl Cause {
    /// All of them.
    pub const ALL: [Cause; 19] = [
        Cause::RemovedPercentMax,
        Cause::DomainEmptied,
        Cause::DomainHalved,
        Cause::SourceEmpty,
        Cause::SourceNeverComplete,
        Cause::SourceRemoved,
        Cause::DomainRemoved,
        Cause::DomainNarrowed,
        Cause::MustContain,
        Cause::RecipientsMin,
        Cause::AddedPercentMax,
        Cause::ForeignTable,
        Cause::ForeignValues,
        Cause::ForeignUnread,
        Cause::DomainsNeverRead,
        Cause::RecipientsElsewhere,
        Cause::UncoveredReferral,
        Cause::Rollback,
        Cause::Proof,
    ];

    /// Whether what a first table would lack is unknown, so that nobody can approve of it.
    pub fn is_ignorance(self) -> bool {
        matches!(self, Cause::SourceNeverComplete | Cause::DomainsNeverRead)
    }

    /// Whether it stands until it is released or the directory takes the changes back; others are found anew in every run.
    pub fn stands(self) -> bool {
        matches!(self, Cause::Rollback | Cause::Proof)
    }

    /// Its name in JSON and reports: `removed_percent_max`.
    pub fn name(self) -> &'static str {
        match self {
            Cause::RemovedPercentMax => "removed_percent_max",
            Cause::DomainEmptied => "domain_emptied",
            Cause::DomainHalved => "domain_halved",
            Cause::SourceEmpty => "source_empty",
            Cause::SourceNeverComplete => "source_never_complete",
            Cause::SourceRemoved => "source_removed",
            Cause::DomainRemoved => "domain_removed",
            Cause::DomainNarrowed => "domain_narrowed",
            Cause::MustContain => "must_contain",
            Cause::RecipientsMin => "recipients_min",
            Cause::AddedPercentMax => "added_percent_max",
            Cause::ForeignTable => "foreign_table",
            Cause::ForeignValues => "foreign_values",
            Cause::ForeignUnread => "foreign_unread",
            Cause::DomainsNeverRead => "domains_never_read",
            Cause::RecipientsElsewhere => "recipients_elsewhere",
            Cause::UncoveredReferral => "uncovered_referral",
            Cause::Rollback => "rollback",
            Cause::Proof => "proof",
        }
    }
}

/// Changes that wait.
#[derive(Clone, Debug, PartialEq)]
pub struct Hold {
    /// The table they are of.
    pub table: String,
    /// Why they wait.
    pub cause: Cause,
    /// What the cause is about: a table, a domain, a source, an address.
    pub scope: String,
    /// What was found: percent or a count, by the cause.
    pub found: f64,
    /// What is allowed.
    pub allowed: f64,
    /// Keys that would be added, sorted.
    pub added: Vec<Vec<u8>>,
    /// Keys that would be removed, sorted.
    pub removed: Vec<Vec<u8>>,
}

impl Hold {
    /// 64 hexadecimal digits that name this hold: of its cause, its scope and the rows, not of the figures.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for part in [self.table.as_str(), self.cause.name(), self.scope.as_str()] {
            hash.update(part);
            hash.update([0]);
        }
        for (sign, keys) in [(b'+', &self.added), (b'-', &self.removed)] {
            for key in keys {
                hash.update([sign]);
                hash.update(key);
                hash.update(b"\n");
            }
        }
        hex(&hash.finalize())
    }
}

/// As much of a digest as a person has to type.
pub fn short(digest: &str) -> &str {
    const DIGITS: usize = 12;
    digest.get(..DIGITS).unwrap_or(digest)
}

/// Lower-case hexadecimal digits.
pub fn hex(octets: &[u8]) -> String {
    use std::fmt::Write;
    octets.iter().fold(
        String::with_capacity(octets.len() * 2),
        |mut text, octet| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{octet:02x}");
            text
        },
    )
}

/// Whether an approval can answer a hold. The rows of a table in force that a source might miss can be let go by name; a first
/// table without that source cannot be approved of by anybody: nobody knows whom it would refuse.
pub fn is_approvable(cause: Cause, removed_count: u64) -> bool {
    !cause.is_ignorance() || removed_count > 0
}

/// What live approvals release in one table.
#[derive(Clone, Debug, Default)]
pub struct Released {
    conditions: HashSet<(Cause, String)>,
    added: HashSet<Vec<u8>>,
    removed: HashSet<Vec<u8>>,
}

impl Released {
    /// Takes in what one approved hold named.
    pub fn release(&mut self, hold: Hold) {
        self.conditions.insert((hold.cause, hold.scope));
        self.added.extend(hold.added);
        self.removed.extend(hold.removed);
    }

    /// Whether the addition of this key was approved.
    pub fn addition(&self, key: &[u8]) -> bool {
        self.added.contains(key)
    }

    /// Whether the removal of this key was approved.
    pub fn removal(&self, key: &[u8]) -> bool {
        self.removed.contains(key)
    }

    /// Whether a hold of this cause and scope was approved.
    pub fn condition(&self, cause: Cause, scope: &str) -> bool {
        self.conditions.contains(&(cause, scope.to_owned()))
    }
}

/// A hold that stands: changes that were undone, and wait as long as anybody wants them.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Why.
    pub cause: Cause,
    /// About what.
    pub scope: String,
    added: HashSet<Vec<u8>>,
    removed: HashSet<Vec<u8>>,
    /// Nobody knows which, so every change waits.
    is_lost: bool,
}

impl Standing {
    /// As a run left it behind.
    pub fn of(hold: Hold) -> Standing {
        Standing {
            cause: hold.cause,
            scope: hold.scope,
            added: hold.added.into_iter().collect(),
            removed: hold.removed.into_iter().collect(),
            is_lost: false,
        }
    }

    /// One whose rows are lost.
    pub fn lost(cause: Cause, scope: &str) -> Standing {
        Standing {
            cause,
            scope: scope.to_owned(),
            added: HashSet::new(),
            removed: HashSet::new(),
            is_lost: true,
        }
    }

    /// Whether the addition of this key waits.
    pub fn holds_addition(&self, key: &[u8]) -> bool {
        self.is_lost || self.added.contains(key)
    }

    /// Whether the removal of this key waits.
    pub fn holds_removal(&self, key: &[u8]) -> bool {
        self.is_lost || self.removed.contains(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_is_among_all() {
        // What serde expects is every variant there is.
        let error = serde_json::from_str::<Cause>("\"no cause\"").expect_err("it is none");
        let names: Vec<String> = Cause::ALL.map(|cause| format!("`{}`", cause.name())).into();
        let expected = format!("expected one of {} at", names.join(", "));
        assert!(error.to_string().contains(&expected), "{error}");
    }
}
