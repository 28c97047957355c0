//! `head.json`: the one file that says what is. Everything else it names is immutable.
//!
//! Small (nothing in it grows with the directory) and readable by people. Replacing it is the commit point of a run. Its
//! last member is a digest of all before it: a flipped bit in the name of a table would otherwise make a table that was
//! never published out of one that was.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::digest;
use crate::config::Format;
use crate::current::Controller;
use crate::domains::Entry;
use crate::exchange::Organisation;
use crate::guard::Counts;
use crate::hold::{Cause, Place};
use crate::snapshot::Cursor;
use crate::time::{Clocks, Timestamp};

/// The layout of the state directory that this version reads and writes.
pub const FORMAT: u32 = 1;

/// The member that holds the digest.
pub(super) const DIGEST_KEY: &str = "digest";

const BEFORE_DIGEST: &str = ",\n  \"digest\": \"";
const BEHIND_DIGEST: &str = "\"\n}\n";

/// The file: the JSON object with the digest of its text as its last member.
pub(super) fn with_digest(mut text: Vec<u8>) -> Vec<u8> {
    let open = text.trim_ascii_end().strip_suffix(b"}");
    let length = open.map_or(text.len(), |open| open.trim_ascii_end().len());
    text.truncate(length);
    let digest = digest(&text);
    for part in [BEFORE_DIGEST, &digest, BEHIND_DIGEST] {
        text.extend_from_slice(part.as_bytes());
    }
    text
}

/// Whether the file ends with the digest of what stands before it.
pub(super) fn has_own_digest(file: &[u8]) -> bool {
    let at = file
        .len()
        .checked_sub(BEFORE_DIGEST.len() + 64 + BEHIND_DIGEST.len());
    at.and_then(|at| file.get(..at))
        .is_some_and(|text| with_digest([text, b"}"].concat()) == file)
}

/// The whole file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// [`FORMAT`]
    pub format: u32,
    /// The last generation, of whatever origin.
    pub generation: u64,
    /// The last generation that a run published: what hooks are owed.
    pub published: u64,
    /// When that was.
    #[serde(default)]
    pub published_at: Option<Timestamp>,
    /// The number of the next record or ledger file.
    pub next_file: u64,
    /// Per source.
    pub sources: BTreeMap<String, SourceState>,
    /// `relay_domains`, where domains come from there.
    #[serde(default)]
    pub relay_domains: RelayDomainsState,
    /// Per table.
    pub tables: BTreeMap<String, TableState>,
    /// Holds of the last runs, by digest; their rows stand in `hold/DIGEST`.
    pub holds: BTreeMap<String, HoldState>,
    /// Removals of the window that nobody approved, oldest first.
    pub removals: Vec<Removals>,
    /// Per hook, the last generation it was told of.
    pub hooks: BTreeMap<String, u64>,
    /// Renames that were decided and may not have happened.
    pub pending: Vec<PendingRename>,
    /// The clocks as the last run found them.
    #[serde(default)]
    pub clocks: Option<Clocks>,
    /// When the clock was last seen to be set ahead: what waits for a time that passes has waited since then at the longest.
    #[serde(default)]
    pub steady_since: Timestamp,
    /// What is still to be asked about the last publication.
    #[serde(default)]
    pub to_prove: Option<ToProve>,
    /// What the last run found, where nothing was left to do.
    #[serde(default)]
    pub settled: Option<Settled>,
}

/// What a run found that left nothing to do: true as long as everything it was made from is the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settled {
    /// When it was found.
    #[serde(default)]
    pub at: Timestamp,
    /// A digest of everything that the plan was made from.
    pub made_from: String,
    /// Its report (`report::difference`).
    pub report: serde_json::Value,
}

impl Head {
    /// Whether a hook has not succeeded since the last publication.
    pub fn owes(&self, hook: &str) -> bool {
        self.hooks.get(hook).copied().unwrap_or(0) < self.published
    }

    /// Takes in what the clocks of a run say. Gives by how much the time was set ahead since the last one.
    pub fn see(&mut self, clocks: Clocks) -> Option<Duration> {
        self.steady_since = self.steady_since.min(clocks.now);
        let earlier = self.clocks.replace(clocks)?;
        let ahead = clocks.set_ahead_since(earlier)?;
        self.steady_since = clocks.now;
        Some(ahead)
    }

    /// Since when something has waited that began to wait then, whatever the clock did meanwhile.
    pub fn waiting_since(&self, began: Timestamp, now: Timestamp) -> Timestamp {
        began.max(self.steady_since).min(now)
    }
}

impl Default for Head {
    fn default() -> Self {
        Head {
            format: FORMAT,
            generation: 0,
            published: 0,
            published_at: None,
            next_file: 1,
            sources: BTreeMap::new(),
            relay_domains: RelayDomainsState::default(),
            tables: BTreeMap::new(),
            holds: BTreeMap::new(),
            removals: Vec::new(),
            hooks: BTreeMap::new(),
            pending: Vec::new(),
            clocks: None,
            steady_since: Timestamp::default(),
            to_prove: None,
            settled: None,
        }
    }
}

/// A few questions about a generation, and what spoke against the one before it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToProve {
    /// The generation.
    pub generation: u64,
    /// Rows that tables must have where Postfix reads them.
    pub lookups: Vec<LookupToProve>,
    /// Addresses that a gateway must accept.
    pub accepted: Vec<String>,
    /// Addresses that a gateway must refuse.
    pub refused: Vec<String>,
    /// Sentences of what was contradicted before.
    pub contradicted_before: BTreeSet<String>,
}

/// One row, as Postfix is asked for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LookupToProve {
    /// `type:path`
    pub map: String,
    /// The key.
    pub key: String,
    /// What must be found.
    pub value: String,
}

/// What is known of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SourceState {
    /// The number of its record file, once it was read completely.
    pub base: Option<u64>,
    /// What seals that file: SHA-256 of everything before it.
    pub base_digest: String,
    /// The numbers of the files with changes since, oldest first.
    pub changes: Vec<u64>,
    /// What seals those files, one after the other ([`super::digest_with`]).
    pub changes_digest: String,
    /// Objects named in those.
    pub changes_count: u64,
    /// Records that count.
    pub records_count: u64,
    /// When it was last read completely; a failure never moves this.
    pub complete_at: Option<Timestamp>,
    /// When it was last known as it is: read completely, or followed to its present state.
    pub current_at: Option<Timestamp>,
    /// The server or file that answered last.
    pub answered_by: String,
    /// Which controller that is.
    pub controller: Option<Controller>,
    /// From where its changes can be followed; belongs to these very records.
    pub cursor: Option<Cursor>,
    /// What was asked: the answer to another question is no continuation of this one.
    pub question: String,
    /// When the certificate that its server showed last ends.
    #[serde(default)]
    pub certificate_ends: Option<Timestamp>,
    /// When the first of the records that are missing will have been so for `replication_delay`.
    pub missing_until: Option<Timestamp>,
    /// Search references met in the last complete read.
    pub referrals: Vec<String>,
    /// Since when and why it cannot be read.
    pub frozen: Option<Frozen>,
    /// It answered success with nothing, and somebody approved of that.
    pub is_empty_approved: bool,
    /// What its directory last said of Exchange.
    #[serde(default)]
    pub organisation: Option<Organisation>,
    /// Since when and why its accepted domains cannot be read.
    #[serde(default)]
    pub domains_frozen: Option<Frozen>,
}

/// What is known of `relay_domains`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelayDomainsState {
    /// As read last; empty while it was never read.
    pub entries: Vec<Entry>,
    /// Since when and why it cannot be read.
    pub frozen: Option<Frozen>,
}

/// Since when and why a source cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Frozen {
    /// The first failure in a row.
    pub since: Timestamp,
    /// The last cause.
    pub cause: String,
}

/// Domains of a table whose rows are counted one by one. Sub-domains are as many as the directory likes.
pub const DOMAINS_KEPT: usize = 500;

/// Under what name the rows of all other domains are counted; no domain can be called so.
pub const OTHER_DOMAINS: &str = "(others)";

/// What is known of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableState {
    /// The number of its ledger file.
    pub ledger: u64,
    /// The SHA-256 that seals that file.
    pub ledger_digest: String,
    /// Rows in it.
    pub rows_count: u64,
    /// Rows per domain: of the [`DOMAINS_KEPT`] with most rows each by its name, of all others together under
    /// [`OTHER_DOMAINS`].
    #[serde(default)]
    pub domains: BTreeMap<String, u64>,
    /// Rows added since it was first published.
    #[serde(default)]
    pub added_total: u64,
    /// Rows removed since then.
    #[serde(default)]
    pub removed_total: u64,
    /// When a row that is leaving must go at the latest.
    pub next_deadline: Option<Timestamp>,
    /// Rows that are leaving.
    #[serde(default)]
    pub leaving_count: u64,
    /// What stands on the disk.
    pub artefacts: Vec<Artefact>,
    /// SHA-256 of the foreign files found last whose originals are kept, so that each is kept once.
    pub originals: Vec<String>,
}

/// A published file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artefact {
    /// In which format.
    pub format: Format,
    /// Where.
    pub path: String,
    /// SHA-256 of its content.
    pub digest: String,
    /// What the file system said of it then: as long as that holds, the content is not read again.
    pub stamp: Stamp,
    /// SHA-256 of the template that made it, or nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub made_with: String,
}

/// What the file system says of a file; equal stamps mean an untouched file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stamp {
    /// Device and inode.
    pub inode: (u64, u64),
    /// Octets.
    pub size: u64,
    /// Modification time, seconds and nanoseconds.
    pub modified: (i64, i64),
    /// Change time, which nobody can set.
    pub changed: (i64, i64),
}

/// A hold of the last runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldState {
    /// The table.
    pub table: String,
    /// Why.
    pub cause: Cause,
    /// About what.
    pub scope: String,
    /// Additions that wait.
    pub added_count: u64,
    /// Removals that wait.
    pub removed_count: u64,
    /// When a hold of this cause and scope first stood there.
    pub since: Timestamp,
    /// The last run that found it.
    pub last_seen: Timestamp,
    /// Whether the last run found it.
    pub is_current: bool,
    /// When it was approved.
    pub approved_at: Option<Timestamp>,
    /// Where the objects were, from the run that found it: the records of a later one have them no more. Few.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<Place>,
}

/// How long an approval holds good; after that the directory has to be looked at again.
pub const APPROVAL_LIFE: Duration = Duration::from_secs(86_400);

impl HoldState {
    /// Whether it was approved less than [`APPROVAL_LIFE`] away from `now`. A clock that was set back does not prolong an
    /// approval beyond that.
    pub fn is_approved(&self, now: Timestamp) -> bool {
        self.approved_at
            .is_some_and(|at| now.apart(at) < APPROVAL_LIFE)
    }
}

/// Removals of one run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Removals {
    /// When.
    pub at: Timestamp,
    /// Of which table.
    pub table: String,
    /// How many, per scope.
    pub counts: Counts,
}

/// A rename that was decided: the temporary file beside `path` has the content with this digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PendingRename {
    /// The table.
    pub table: String,
    /// The format.
    pub format: Format,
    /// The published path.
    pub path: String,
    /// SHA-256 of the content.
    pub digest: String,
    /// SHA-256 of the template that made it, or nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub made_with: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_approval_lapses_after_a_day_of_any_clock() {
        let day = APPROVAL_LIFE.as_secs();
        let now = Timestamp(10 * day);
        for (approved_at, expected) in [
            (None, false),
            (Some(now), true),
            (Some(now.before(APPROVAL_LIFE)), false),
            (Some(Timestamp(9 * day + 1)), true),
            (Some(Timestamp(11 * day - 1)), true),
            (Some(now.after(APPROVAL_LIFE)), false),
        ] {
            let hold = HoldState {
                table: String::new(),
                cause: Cause::ForeignTable,
                scope: String::new(),
                added_count: 0,
                removed_count: 0,
                since: now,
                last_seen: now,
                is_current: true,
                approved_at,
                places: Vec::new(),
            };
            assert_eq!(hold.is_approved(now), expected, "{approved_at:?}");
        }
    }

    #[test]
    fn a_head_ends_with_its_own_digest() {
        let file = with_digest(b"{\n  \"format\": 1\n}\n".to_vec());
        assert!(has_own_digest(&file));
        assert!(serde_json::from_slice::<serde_json::Value>(&file).is_ok());
        for at in 0..file.len() {
            let mut flipped = file.clone();
            flipped[at] ^= 1;
            assert!(!has_own_digest(&flipped), "flipped at {at}");
            assert!(!has_own_digest(&file[..at]), "cut at {at}");
        }
    }
}
