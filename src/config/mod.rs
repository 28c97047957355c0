//! The configuration as the program may believe it: every value checked, every default filled in.
//!
//! [`load`] is the only way in; it reports all problems at once. Not here: secrets, which are read when they are used
//! (`secret`), and anything that asks the network or Postfix.

mod parse;
mod reader;
pub mod secret;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::address::Address;
use crate::dn::DistinguishedName;
use crate::domain::Domain;
use crate::error::{Failure, Result};
use crate::exit::Exit;
use crate::notice::Rules;
use crate::owners;
use crate::regular;
use crate::smtp::Endpoint;
use crate::table::format::Said;
use crate::table::format::template::Template;
use crate::table::rows::Rows;
use crate::table::value::RowValues;

pub use parse::{parse, parse_with, server_address};
pub use reader::Problem;
use secret::SecretPlace;

/// Reads and checks the file at `path`.
pub fn load(path: &Path) -> Result<Config> {
    let absolute = std::path::absolute(path).map_err(|error| unreadable(path, &error))?;
    let small = |file: &Path| regular::read(file, regular::SMALL_OCTETS_MAX);
    let bytes = small(&absolute).map_err(|error| unreadable(path, &error))?;
    let parsed = match std::str::from_utf8(&bytes) {
        Ok(text) => parse_with(&absolute, text, Some(&small)),
        Err(error) => Err(vec![not_utf8(&bytes[..error.valid_up_to()])]),
    };
    parsed.map_err(|problems| {
        Box::new(Failure {
            exit: Exit::Configuration,
            what: match problems.len() {
                1 => "the configuration has a problem".into(),
                count => format!("the configuration has {count} problems"),
            },
            place: path.display().to_string(),
            why: problems
                .iter()
                .map(Problem::to_string)
                .collect::<Vec<_>>()
                .join("\n"),
            in_force: Failure::NOTHING_TOUCHED.into(),
            next: "mend the file, then run `rcptsync check`".into(),
        })
    })
}

fn not_utf8(good: &[u8]) -> Problem {
    Problem {
        line: good.iter().filter(|byte| **byte == b'\n').count() + 1,
        key: String::new(),
        message: "holds a byte that is not UTF-8; save the file as UTF-8".into(),
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Box<Failure> {
    let is_denied = error.kind() == std::io::ErrorKind::PermissionDenied;
    Box::new(Failure {
        exit: if is_denied { Exit::Permission } else { Exit::Configuration },
        what: "the configuration could not be read".into(),
        place: path.display().to_string(),
        why: error.to_string(),
        in_force: Failure::NOTHING_TOUCHED.into(),
        next: "name the file with --config FILE or RCPTSYNC_CONFIG; this account must be able to read it".into(),
    })
}

/// The whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it came from.
    pub path: PathBuf,
    /// Its text, as read.
    pub text: String,
    /// Private directory of the program's own records.
    pub state_dir: PathBuf,
    /// Bound of a whole run, hooks included.
    pub run_timeout: Duration,
    /// The domains that rows may exist for.
    pub domains: DomainRules,
    /// Where recipients come from, in the order of the file.
    pub sources: Vec<Source>,
    /// Who of them counts.
    pub recipients: Recipients,
    /// The limits on a change.
    pub guard: Limits,
    /// What is published, in that order: by kind, then as in the file.
    pub tables: Vec<Table>,
    /// What is run after a change, in the order of the file.
    pub hooks: Vec<Hook>,
    /// What is run when there is something to be told, in the order of the file.
    pub notices: Vec<NoticeHook>,
    /// How long generations are kept.
    pub history_keep: Duration,
    /// How a publication is proven where gateways read it, if it is.
    pub verify: Option<Verify>,
    /// Where every run leaves its metrics, if it does.
    pub metrics: Option<Metrics>,
}

/// `[metrics]`
#[derive(Clone, Debug)]
pub struct Metrics {
    /// The file that the textfile collector of node_exporter reads; its name ends with `.prom`.
    pub textfile: PathBuf,
}

impl Config {
    /// Fails where another account decides what is in it: it names the programs that are run, the secrets that are read, and
    /// who gets to see them.
    pub fn trusted(&self) -> Result<()> {
        let what = "the configuration is not trusted";
        match owners::refused(&self.path) {
            None => Ok(()),
            Some(hand) => Err(owners::refusal(what, &self.path, &hand)),
        }
    }

    /// Every `[[hook]]`, whatever it is run for.
    pub fn all_hooks(&self) -> impl Iterator<Item = &Hook> {
        let notices = self.notices.iter().map(|notice| &notice.hook);
        self.hooks.iter().chain(notices)
    }
}

/// `[verify]`: what is asked after a publication.
#[derive(Clone, Debug)]
pub struct Verify {
    /// Whether Postfix on this machine looks a few rows up.
    pub postmap: bool,
    /// The gateway that is asked at RCPT TO.
    pub smtp: Option<Endpoint>,
    /// How many rows of a table, and how many addresses that nobody has.
    pub samples: usize,
    /// Bound of one reply.
    pub timeout: Duration,
    /// How long what a gateway says against the tables must last before it counts.
    pub patience: Duration,
}

/// `[domains]` and `[domain."NAME"]`
#[derive(Clone, Debug, Default)]
pub struct DomainRules {
    /// Named in the file; with `from`, in addition to those.
    pub list: Vec<Domain>,
    /// Where domains come from beside the list.
    pub from: Option<DomainsFrom>,
    /// `directory_is_complete`: no recipient of these lives anywhere else than in the sources.
    pub complete: Vec<Domain>,
    /// `policy`, where it is not `list`.
    pub policies: Vec<(Domain, DomainPolicy)>,
}

impl DomainRules {
    /// Who decides about the addresses of a domain.
    pub fn policy_of(&self, domain: &Domain) -> DomainPolicy {
        let found = self.policies.iter().find(|(of, _)| of == domain);
        found.map_or(DomainPolicy::List, |(_, policy)| *policy)
    }

    /// Whether a recipient of a domain whom no source knows would be refused, and nobody has said that there is none.
    pub fn may_lack_recipients(&self, domain: &Domain) -> bool {
        !self.complete.contains(domain) && self.policy_of(domain) == DomainPolicy::List
    }
}

/// Who decides about the addresses of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DomainPolicy {
    /// The table: what the sources do not list is refused.
    List,
    /// The system behind, which Postfix asks about each address (`reject_unverified_recipient`).
    Callout,
    /// Nobody: every address is accepted.
    CatchAll,
}

impl DomainPolicy {
    /// Its name in the configuration and in reports.
    pub fn name(self) -> &'static str {
        match self {
            DomainPolicy::List => "list",
            DomainPolicy::Callout => "callout",
            DomainPolicy::CatchAll => "catch_all",
        }
    }
}

/// Where domains come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DomainsFrom {
    /// The accepted domains in the directories that are read.
    Exchange,
    /// `relay_domains` of the Postfix on this machine.
    Postfix,
}

/// One `[source.NAME]`.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name in the file.
    pub name: String,
    /// What it reads.
    pub kind: SourceKind,
}

impl Source {
    /// How long a record must be missing elsewhere before that counts; nothing for a file, of which there is one.
    pub fn replication_delay(&self) -> Option<Duration> {
        match &self.kind {
            SourceKind::Ldap(ldap) => Some(ldap.replication_delay),
            SourceKind::Ldif(_) | SourceKind::List(_) => None,
        }
    }

    /// What is asked of a directory; nothing of a file.
    pub fn question(&self) -> String {
        match &self.kind {
            SourceKind::Ldap(ldap) => ldap.question(),
            SourceKind::Ldif(_) | SourceKind::List(_) => String::new(),
        }
    }

    /// Whether a directory is read that holds the accepted domains of Exchange. A global catalog is read for its recipients
    /// alone.
    pub fn has_accepted_domains(&self) -> bool {
        match &self.kind {
            SourceKind::Ldap(ldap) => !ldap.is_global_catalog(),
            SourceKind::Ldif(_) | SourceKind::List(_) => false,
        }
    }
}

/// What a source reads.
#[derive(Clone, Debug)]
pub enum SourceKind {
    /// `kind = "ldap"`
    Ldap(Box<LdapSource>),
    /// `kind = "ldif"`
    Ldif(FileSource),
    /// `kind = "list"`
    List(FileSource),
}

/// A directory that is asked over LDAP.
#[derive(Clone, Debug)]
pub struct LdapSource {
    /// Whom to ask.
    pub servers: Servers,
    /// Where to search; empty means the server's default naming context, and of a global catalog the whole forest.
    pub bases: Vec<String>,
    /// The search filter (RFC 4515).
    pub filter: String,
    /// Entries asked for per page.
    pub page_size: u32,
    /// Bound of name resolution, connection, StartTLS and the TLS handshake together.
    pub connect_timeout: Duration,
    /// Bound of the wait for one answer.
    pub timeout: Duration,
    /// StartTLS before anything else on `ldap://` servers.
    pub starttls: bool,
    /// Whether changes are followed between complete reads.
    pub incremental: Incremental,
    /// A complete read at least this often while changes are followed; `None` for a time that depends on what the account
    /// may see.
    pub full_every: Option<Duration>,
    /// How long a record that another controller showed must be missing before that counts.
    pub replication_delay: Duration,
    /// PEM file of the certificate authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Who to be.
    pub bind: Bind,
}

/// Whether the changes of a directory are followed (DirSync) between complete reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incremental {
    /// Where the directory offers it.
    Auto,
    /// Insisted on: a directory without it is an error.
    DirSync,
    /// Every read is complete.
    Off,
}

impl LdapSource {
    /// The filter when none is configured: whoever has an SMTP address.
    pub const DEFAULT_FILTER: &str = "(proxyAddresses=smtp:*)";

    /// What is asked, as one text: answers to another question do not continue the answers to this one.
    pub fn question(&self) -> String {
        let Self { filter, bases, .. } = self;
        format!("{filter:?} below {bases:?} as {}", self.bind.account())
    }

    /// Whether global catalogs are asked, which have a part of every domain.
    pub fn is_global_catalog(&self) -> bool {
        match &self.servers {
            Servers::Listed(servers) => {
                !servers.is_empty() && servers.iter().all(ServerAddress::is_global_catalog)
            }
            Servers::Discovered(discovery) => discovery.is_global_catalog,
        }
    }
}

/// Whom to ask, in which order; the first that answers completely is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Servers {
    /// `servers`: these, in their order. Either all of them are global catalogs or none is.
    Listed(Vec<ServerAddress>),
    /// `discover`: those that DNS names when a run begins, always over TLS.
    Discovered(Discovery),
}

/// What DNS is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovery {
    /// The domain, or the forest for global catalogs; ASCII, lower case, without a dot at either end.
    pub domain: String,
    /// The site whose controllers come first.
    pub site: Option<String>,
    /// Global catalogs instead of the controllers of the domain.
    pub is_global_catalog: bool,
}

/// A parsed `ldap://` or `ldaps://` URL: scheme, host, port and nothing more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAddress {
    /// As written, for messages: `ldaps://dc1.corp.example`.
    pub url: String,
    /// `ldaps://`: TLS from the first byte.
    pub is_ldaps: bool,
    /// Host name or address; an IPv6 address without its brackets.
    pub host: String,
    /// 389 or 636 unless the URL names another.
    pub port: u16,
}

impl ServerAddress {
    /// Where a controller serves a part of the attributes of every domain in the forest, in clear and over TLS.
    pub const GLOBAL_CATALOG_PORTS: [u16; 2] = [3268, 3269];

    /// Whether a global catalog answers there; nothing but the port tells.
    pub fn is_global_catalog(&self) -> bool {
        Self::GLOBAL_CATALOG_PORTS.contains(&self.port)
    }
}

/// How to authenticate.
#[derive(Clone, Debug)]
pub enum Bind {
    /// No name, no password.
    Anonymous,
    /// Name and password. The configuration is refused unless every server is reached over TLS.
    Simple {
        /// UPN, DOMAIN\account or DN.
        name: String,
        /// Where the password stands.
        password: SecretPlace,
    },
    /// The client certificate of the TLS connection (SASL EXTERNAL). The configuration is refused unless every server is
    /// reached over TLS.
    External {
        /// PEM: the client's certificate, then those that lead to its authority.
        certificate_file: PathBuf,
        /// Where its private key stands (PEM).
        key: SecretPlace,
    },
    /// Kerberos, with keys from a keytab (SASL GSSAPI). The configuration is refused unless every server is named and
    /// reached over TLS, and unless the program was built with the feature.
    Gssapi {
        /// The account: `rcptsync@CORP.EXAMPLE`.
        principal: String,
        /// Where its keys stand.
        keytab: SecretPlace,
    },
}

impl Bind {
    /// Who asks, as one text: another account may be shown other objects, and no directory reports those as changes.
    fn account(&self) -> String {
        match self {
            Bind::Anonymous => "nobody".to_owned(),
            Bind::Simple { name, .. } => format!("{name:?}"),
            Bind::External {
                certificate_file, ..
            } => format!("{certificate_file:?}"),
            Bind::Gssapi { principal, .. } => format!("{principal:?}"),
        }
    }

    /// Why every server must be reached over TLS, where that is so.
    pub fn needs_tls(&self) -> Option<&'static str> {
        match self {
            Bind::Anonymous => None,
            Bind::Simple { .. } => Some("a password does not travel in clear"),
            Bind::External { .. } => Some("a client certificate is shown in TLS alone"),
            Bind::Gssapi { .. } => Some("what follows a Kerberos bind is protected by TLS alone"),
        }
    }
}

/// A file that somebody else writes.
#[derive(Clone, Debug)]
pub struct FileSource {
    /// The file.
    pub path: PathBuf,
    /// A file not written for longer than this is frozen; `None` for no limit.
    pub max_age: Option<Duration>,
}

/// `[recipients]`
#[derive(Clone, Debug)]
pub struct Recipients {
    /// Local parts that every domain gets.
    pub always: Vec<String>,
    /// Subtrees whose entries do not count.
    pub exclude_dn: Vec<DistinguishedName>,
    /// Addresses that do not count.
    pub exclude: Vec<Address>,
    /// Groups and others that refuse senders from outside.
    pub internal_only: Treatment,
    /// Exchange's own mailboxes.
    pub system: Treatment,
    /// How long a vanished address stays.
    pub grace: Duration,
}

/// What to do with a class of recipients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// They get no row.
    LeaveOut,
    /// They get a row like any other.
    Accept,
}

/// `[guard]`
#[derive(Clone, Debug)]
pub struct Limits {
    /// Percent of a table, of a domain, of a source.
    pub removed_percent_max: f64,
    /// So many removals in a window are allowed whatever the percentage.
    pub removed_floor: u64,
    /// Removals of this time count together.
    pub window: Duration,
    /// Percent of a table.
    pub added_percent_max: f64,
    /// So many additions in a run are allowed whatever the percentage.
    pub added_floor: u64,
    /// A table with fewer recipients from sources than this is not believed.
    pub recipients_min: u64,
    /// Canaries: addresses whose absence means that the read, not the recipient, is at fault.
    pub must_contain: Vec<Address>,
}

/// One `[table.NAME]`.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its name in the file.
    pub name: String,
    /// The path that main.cf knows; a format adds its suffix.
    pub path: PathBuf,
    /// What is written, text first.
    pub formats: Vec<Format>,
    /// What the gateway asks it.
    pub kind: TableKind,
    /// The right-hand sides of the rows.
    pub values: RowValues,
    /// Permission bits of the published files.
    pub mode: u32,
    /// How the gateway folds keys.
    pub folding: TableFolding,
    /// For the format `template`, once it is read in.
    pub template: Option<Template>,
    /// Where the table stands in a database, if it does.
    pub relation: Option<Relation>,
}

impl Table {
    /// The file that holds the table in one format; of a relation, its name.
    pub fn file(&self, format: Format) -> PathBuf {
        if format == Format::Postgresql {
            let name = self.relation.as_ref().map(Relation::name);
            return name.unwrap_or_default().into();
        }
        let mut file = self.path.clone().into_os_string();
        file.push(format.suffix());
        file.into()
    }

    /// Whether any of it is a file.
    pub fn has_files(&self) -> bool {
        self.formats.iter().any(|format| format.is_file())
    }

    /// What the table says in one of its formats.
    pub fn said<'table>(&'table self, format: Format, rows: &'table Rows) -> Said<'table> {
        Said::of(format, rows).by(self.template.as_ref())
    }

    /// What a file of a format was made with, beside the rows: the digest of a template, or nothing.
    pub fn made_with(&self, format: Format) -> &str {
        let template = (self.template.as_ref()).filter(|_| format == Format::Template);
        template.map_or("", Template::digest)
    }
}

/// `[table.NAME.postgresql]`
#[derive(Clone, Debug)]
pub struct Relation {
    /// A name or an address, or the directory of a socket.
    pub host: String,
    /// Its port, which also names the socket.
    pub port: u16,
    /// The database.
    pub database: String,
    /// The account that writes.
    pub role: String,
    /// Its password, where it has one.
    pub password: Option<SecretPlace>,
    /// PEM file of the certificate authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The schema; lower-case letters, digits and `_`, so that it never needs quotes.
    pub schema: String,
    /// The relation in it; of the same letters.
    pub relation: String,
}

impl Relation {
    /// Whether it is reached through a socket of this machine, where there is no TLS.
    pub fn is_socket(&self) -> bool {
        self.host.starts_with('/')
    }

    /// What it is called in records and reports: everything but who writes.
    pub fn name(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        format!(
            "postgresql://{host}:{}/{}/{}.{}",
            self.port, self.database, self.schema, self.relation
        )
    }
}

/// What a gateway asks a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TableKind {
    /// Who is accepted: `relay_recipient_maps`.
    Recipients,
    /// Who is accepted and who is refused with which words: `check_recipient_access`.
    Access,
    /// The domains that mail is accepted for: `relay_domains`.
    Domains,
    /// Where mail goes: `transport_maps`.
    Transport,
    /// The domains of which the system behind is asked: `check_recipient_access` with `reject_unverified_recipient`.
    Callout,
}

impl TableKind {
    /// All of them, in the order in which their tables are published.
    pub const ALL: [TableKind; 5] = [
        TableKind::Recipients,
        TableKind::Access,
        TableKind::Callout,
        TableKind::Transport,
        TableKind::Domains,
    ];

    /// Those whose rows have one value, or one for most of them.
    pub const WITH_VALUE: &[TableKind] = &[
        TableKind::Recipients,
        TableKind::Access,
        TableKind::Domains,
        TableKind::Callout,
    ];

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            TableKind::Recipients => "recipients",
            TableKind::Access => "access",
            TableKind::Domains => "domains",
            TableKind::Transport => "transport",
            TableKind::Callout => "callout",
        }
    }

    /// The value of its rows where none is configured.
    pub fn default_value(self) -> &'static str {
        match self {
            TableKind::Recipients | TableKind::Domains => "OK",
            TableKind::Access => "DUNNO",
            TableKind::Callout => "reject_unverified_recipient",
            TableKind::Transport => "",
        }
    }

    /// Whether an address without a row in it is refused: what the guard expects of a table of recipients it expects of it.
    pub fn decides_on_recipients(self) -> bool {
        matches!(self, TableKind::Recipients | TableKind::Access)
    }

    /// Whether any of its rows come from the records of sources.
    pub fn has_addresses(self) -> bool {
        self.decides_on_recipients() || self == TableKind::Transport
    }
}

/// How keys of a table are folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableFolding {
    /// As the Postfix on this machine says; full Unicode folding where there is none.
    Auto,
    /// As configured.
    Fixed(crate::fold::Folding),
}

/// A form in which a table is written.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// `key value` lines, what postmap and texthash read.
    Text,
    /// D. J. Bernstein's constant database, written by us.
    Cdb,
    /// A hash table of Berkeley DB, built by postmap.
    Hash,
    /// A B-tree of Berkeley DB, built by postmap.
    Btree,
    /// OpenLDAP LMDB, built by postmap.
    Lmdb,
    /// What a template makes of the rows.
    Template,
    /// A relation in PostgreSQL.
    Postgresql,
}

impl Format {
    /// Every format, in the order in which those of a table are written.
    pub const ALL: [Format; 7] = [
        Format::Text,
        Format::Cdb,
        Format::Hash,
        Format::Btree,
        Format::Lmdb,
        Format::Template,
        Format::Postgresql,
    ];

    /// Whether it is a file, beside which another can be written.
    pub fn is_file(self) -> bool {
        self != Format::Postgresql
    }

    /// Whether it is a file that Postfix reads by the name of the table.
    pub fn is_for_postfix(self) -> bool {
        self.is_file() && self != Format::Template
    }

    /// What is appended to the table's path.
    pub fn suffix(self) -> &'static str {
        match self {
            Format::Text | Format::Template | Format::Postgresql => "",
            Format::Cdb => ".cdb",
            Format::Hash | Format::Btree => ".db",
            Format::Lmdb => ".lmdb",
        }
    }

    /// Its name in the configuration and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Format::Text => "text",
            Format::Cdb => "cdb",
            Format::Hash => MapType::Hash.name(),
            Format::Btree => MapType::Btree.name(),
            Format::Lmdb => MapType::Lmdb.name(),
            Format::Template => "template",
            Format::Postgresql => "postgresql",
        }
    }

    /// As what postmap builds it, where postmap does.
    pub fn map_type(self) -> Option<MapType> {
        match self {
            Format::Text | Format::Cdb | Format::Template | Format::Postgresql => None,
            Format::Hash => Some(MapType::Hash),
            Format::Btree => Some(MapType::Btree),
            Format::Lmdb => Some(MapType::Lmdb),
        }
    }
}

/// A type of table that only postmap can build. `dbm` and `sdbm` are not among them: each of their tables is two files, which
/// no one step can replace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapType {
    /// `hash:`
    Hash,
    /// `btree:`
    Btree,
    /// `lmdb:`
    Lmdb,
}

impl MapType {
    /// What Postfix calls it.
    pub fn name(self) -> &'static str {
        match self {
            MapType::Hash => "hash",
            MapType::Btree => "btree",
            MapType::Lmdb => "lmdb",
        }
    }

    /// Whether it is a file of Berkeley DB, which some builds of Postfix lack.
    pub fn is_berkeley_db(self) -> bool {
        match self {
            MapType::Hash | MapType::Btree => true,
            MapType::Lmdb => false,
        }
    }
}

/// One `[[hook]]`.
#[derive(Clone, Debug)]
pub struct Hook {
    /// Its name, unique; what it is owed is recorded under it.
    pub name: String,
    /// Absolute path of the program.
    pub program: PathBuf,
    /// Its arguments; no shell reads them.
    pub arguments: Vec<String>,
    /// What stands on its standard input.
    pub input: HookInput,
    /// When its whole process group is ended.
    pub timeout: Duration,
}

/// What a hook reads on its standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookInput {
    /// Nothing.
    None,
    /// The difference, or all that is to be told, as JSON.
    Json,
    /// What is to be told, as a person reads it.
    Text,
}

/// One `[[hook]]` that is told how things stand.
#[derive(Clone, Debug)]
pub struct NoticeHook {
    /// The program.
    pub hook: Hook,
    /// What it is told of, and when.
    pub rules: Rules,
}
