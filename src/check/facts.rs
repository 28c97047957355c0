//! What was found, as values: everything that a check judges. Nothing here asks anything.
//!
//! `Err(text)` is why something could not be looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::config::{Config, Table, TableKind};
use crate::directory::SourceSeen;
use crate::domain::Domain;
use crate::domains::{Domains, Entry};
use crate::error::Failure;
use crate::exchange::Organisation;
use crate::owners::Hand;
use crate::postfix::settings::Settings;
use crate::state::head::Head;
use crate::time::Timestamp;

/// A fact, or why it could not be had.
pub type Seen<T> = Result<T, String>;

/// Everything that was gathered.
#[derive(Debug)]
pub struct Facts<'run> {
    /// The configuration.
    pub config: &'run Config,
    /// When it was gathered.
    pub now: Timestamp,
    /// Whether this process is root's.
    pub is_root: bool,
    /// Whether this process is of the account that owns the state, or root's.
    pub is_owner: bool,
    /// This program's own files.
    pub files: Files,
    /// Per table of the configuration.
    pub tables: Vec<TableFacts<'run>>,
    /// The Postfix of this machine.
    pub gateway: Gateway,
    /// Per source of the configuration.
    pub sources: Vec<SourceFacts>,
    /// The domains that rows may exist for, as far as they are known now.
    pub listed: Domains,
    /// What `relay_domains` has.
    pub relayed: Seen<Vec<Entry>>,
    /// Proxmox Mail Gateway, where it is installed.
    pub pmg: Option<Pmg>,
}

/// Of a file or a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Where.
    pub path: PathBuf,
    /// Its permission bits.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// How many names it has.
    pub links: u64,
}

/// This program's own files.
#[derive(Debug)]
pub struct Files {
    /// Who owns the state and so runs `sync`: a number; `None` before the first run.
    pub owner: Option<u32>,
    /// The configuration.
    pub configuration: Seen<Stat>,
    /// Who else could put another in its place.
    pub configuration_hands: Vec<Hand>,
    /// Who else could put another in the place of what runs read, run or write, and of what.
    pub exposed: Vec<Exposed>,
    /// The state directory; `None` before the first run.
    pub state: Option<Seen<Stat>>,
    /// head.json; `None` where the account may not read it.
    pub head: Option<Result<Head, Failure>>,
    /// Per source with a secret.
    pub secrets: Vec<SecretFacts>,
    /// Per hook.
    pub hooks: Vec<HookFacts>,
    /// Why runs cannot leave their metrics, where they shall.
    pub metrics_trouble: Option<String>,
    /// Per file system that is written to.
    pub space: Vec<Space>,
}

impl Stat {
    /// Whether an account cannot read it, whatever its groups are.
    pub fn is_closed_to(&self, account: u32) -> bool {
        let needed = if self.uid == account { 0o400 } else { 0o044 };
        account != 0 && self.mode & needed == 0
    }
}

/// Something that somebody else could replace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposed {
    /// What it is for.
    pub purpose: Purpose,
    /// Where it is.
    pub path: PathBuf,
    /// Who could.
    pub hand: Hand,
}

/// What a file or a directory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// A program that runs.
    Program,
    /// A password, a key or a keytab.
    Secret,
    /// Certificates.
    Certificates,
    /// What makes a table.
    Template,
    /// The records of the last runs.
    State,
    /// A list or an export.
    Source,
    /// A table, or its directory.
    Table,
}

/// A secret that was read, and forgotten at once.
#[derive(Debug)]
pub struct SecretFacts {
    /// Whose.
    pub source: String,
    /// What came of it.
    pub outcome: SecretOutcome,
}

/// What came of reading a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretOutcome {
    /// It was read.
    Good,
    /// It was read, and accounts of its group may replace it.
    WrittenByGroup(PathBuf),
    /// It was read, and accounts of this group may read it, too; of an access control list without one.
    ReadByGroup(PathBuf, Option<u32>),
    /// It was read by root, and the account that owns the state cannot read it.
    ClosedToOwner(PathBuf),
    /// This account may not read it, and need not.
    Denied(String),
    /// It is a systemd credential, and this process has none.
    Credential(String),
    /// It cannot be read as it is.
    Bad(String),
}

/// A hook, looked at and not run.
#[derive(Debug)]
pub struct HookFacts {
    /// Its name.
    pub name: String,
    /// Program and arguments.
    pub command: String,
    /// Why it could not be started.
    pub trouble: Option<String>,
}

/// Room in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Space {
    /// The directory.
    pub path: PathBuf,
    /// Octets that a second copy of what lies there takes.
    pub needed: u64,
    /// Octets that are free.
    pub available: u64,
}

/// A table of the configuration.
#[derive(Debug)]
pub struct TableFacts<'run> {
    /// Its configuration.
    pub table: &'run Table,
    /// Its files.
    pub files: Vec<FileFacts>,
    /// Its directory.
    pub directory: Seen<Stat>,
    /// Why the account of the timer cannot make files there.
    pub directory_trouble: Option<String>,
}

/// A file of a table.
#[derive(Debug)]
pub struct FileFacts {
    /// Where it is.
    pub path: PathBuf,
    /// The name of its format.
    pub format: &'static str,
    /// What is there.
    pub content: Content,
    /// What the file system says of it; `None` where it is not there.
    pub stat: Option<Stat>,
    /// Its SELinux label, where the machine enforces labels.
    pub label: Option<String>,
}

/// What is at the path of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nothing.
    Missing,
    /// What was published last.
    AsPublished,
    /// Another table.
    Foreign,
    /// No table of this format.
    NoTable(String),
    /// It could not be looked at: not a regular file, or no permission.
    Refused(Box<Failure>),
}

/// The Postfix of this machine.
#[derive(Debug)]
pub enum Gateway {
    /// None.
    Absent,
    /// One that does not say what it is set to.
    Silent(String),
    /// One that does.
    Known(Box<Postfix>),
}

/// A Postfix that was asked.
#[derive(Debug)]
pub struct Postfix {
    /// All its settings.
    pub settings: Settings,
    /// What stands in `relay_recipient_maps`, in its order.
    pub maps: Vec<Map>,
    /// Every domain of ours or of `relay_domains`, in the forms that Postfix can be asked for.
    pub forms: BTreeMap<String, Domain>,
    /// Those forms of international domains that stand in `relay_domains` as they are.
    pub relayed_forms: Seen<BTreeSet<String>>,
    /// Those of them that are of a class which does not ask `relay_recipient_maps`: the parameter that says so.
    pub classes: BTreeMap<String, &'static str>,
    /// Lists of domains that could not be asked, and why.
    pub classes_unknown: Vec<(&'static str, String)>,
    /// What is asked before `relay_recipient_maps`.
    pub aliases: Vec<AliasMap>,
    /// Tables of `check_recipient_access`.
    pub access: Vec<AccessMap>,
    /// Tables that are older than their text.
    pub outdated: Vec<Outdated>,
    /// What our tables, opened as the account of Postfix, say against it; or why that could not be tried.
    pub opened: Vec<(String, Seen<Option<Closed>>)>,
}

/// A table that is older than its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outdated {
    /// `type:name`
    pub map: String,
    /// The text.
    pub text: String,
    /// What Postfix opens.
    pub index: String,
}

/// A table that the account of Postfix cannot open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The account.
    pub account: String,
    /// What postmap said.
    pub why: String,
    /// The first directory on the way that is closed to it, as far as mode bits say.
    pub closed_directory: Option<PathBuf>,
}

/// A table in `relay_recipient_maps`.
#[derive(Debug)]
pub struct Map {
    /// As it stands there.
    pub text: String,
    /// Its type, without `proxy:`.
    pub kind: String,
    /// What follows the type.
    pub name: String,
    /// Whether proxymap opens it.
    pub is_proxied: bool,
    /// What it says of the domains, or why it does not open.
    pub answers: Seen<MapAnswers>,
    /// What it holds, or why that cannot be listed.
    pub holds: Seen<MapHolds>,
}

/// What a table said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MapAnswers {
    /// Domains for which it takes everybody: it has `@domain`, or an address that nobody has.
    pub wildcards: BTreeSet<String>,
    /// Domains with a postmaster.
    pub postmasters: BTreeSet<String>,
    /// A key that stands in it and is not found.
    pub lost_key: Option<String>,
}

/// What a table holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MapHolds {
    /// The domain parts of its keys.
    pub domains: BTreeSet<String>,
    /// How many keys it has.
    pub keys_count: usize,
}

/// A table that is asked before `relay_recipient_maps`.
#[derive(Debug)]
pub struct AliasMap {
    /// Where it stands.
    pub parameter: &'static str,
    /// `type:name`
    pub text: String,
    /// Domains whose mail it takes as a whole.
    pub wildcards: Seen<BTreeSet<String>>,
    /// Single addresses in our domains that it has and no table in `relay_recipient_maps`.
    pub addresses: Seen<Vec<String>>,
}

/// A table of `check_recipient_access`.
#[derive(Debug)]
pub struct AccessMap {
    /// `type:name`
    pub text: String,
    /// Per domain that has a row of its own, what it says.
    pub rows: Seen<BTreeMap<String, String>>,
}

/// A source of the configuration.
#[derive(Debug)]
pub struct SourceFacts {
    /// Its name.
    pub name: String,
    /// Whether it is a directory and no file.
    pub is_directory: bool,
    /// What came of a complete read; `None` where it was not tried because its secret is not at hand.
    pub reading: Option<Result<ReadFacts, Box<Failure>>>,
    /// What its servers said; `None` for a file and where the read was refused.
    pub servers: Option<Result<SourceSeen, Box<Failure>>>,
    /// Per server, how far its clock is from ours: seconds, positive where it is ahead.
    pub clocks: Vec<(String, i64)>,
}

/// A complete read.
#[derive(Debug)]
pub struct ReadFacts {
    /// How many records.
    pub records_count: u64,
    /// From where.
    pub answered_by: String,
    /// What was read of Exchange.
    pub organisation: Option<Organisation>,
}

/// A Proxmox Mail Gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pmg {
    /// Section `mail` of pmg.conf: what is not at its default.
    pub mail: Seen<BTreeMap<String, String>>,
    /// The administrator's main.cf.in, where there is one.
    pub template: Option<Template>,
    /// The packaged main.cf.in.
    pub packaged: Seen<String>,
    /// main.cf as PMG wrote it last.
    pub generated: Seen<String>,
    /// The nodes of the cluster.
    pub nodes: Vec<String>,
}

/// An administrator's template.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    /// Its text.
    pub text: String,
    /// What it includes from its own directory: per name, where it leads, if anywhere.
    pub includes: BTreeMap<String, Option<PathBuf>>,
}

impl Facts<'_> {
    /// The Postfix of this machine, where it answers.
    pub fn postfix(&self) -> Option<&Postfix> {
        match &self.gateway {
            Gateway::Known(postfix) => Some(postfix),
            Gateway::Absent | Gateway::Silent(_) => None,
        }
    }

    /// The tables that `relay_recipient_maps` is to name: what a `pgsql:` there asks, and what other mail systems read, is not
    /// seen from here.
    pub fn recipient_tables(&self) -> impl Iterator<Item = &Table> {
        let tables = self.tables.iter().map(|facts| facts.table);
        let is_for_postfix =
            |table: &&Table| table.formats.iter().any(|format| format.is_for_postfix());
        tables
            .filter(|table| table.kind == TableKind::Recipients)
            .filter(is_for_postfix)
    }

    /// Whether the first run is still to come: no file of any table is there.
    pub fn is_before_first_run(&self) -> bool {
        let mut files = self.tables.iter().flat_map(|table| &table.files);
        files.all(|file| file.content == Content::Missing)
    }
}
