//! rcptsync keeps a mail gateway's recipient tables equal to what Active Directory says.
//!
//! ```text
//! config -> read sources -> records -> decisions -> table -> diff -> guard -> publish -> hooks -> record of the run
//!           (shell)         '-------- pure core: values in, values out -------'  (shell)
//! ```
//!
//! [`command::sync`] is that line, as one function with one exit; every other command is a prefix of it, or reads what it
//! left behind. Modules stand here in the order in which the line meets them.
//!
//! Three promises, and where each is kept:
//!
//! - *Never fewer than the truth.* A [`snapshot::Snapshot`] exists only when a read was proven complete; the [`guard`] holds
//!   removals that look wrong; a source that fails keeps its last records.
//! - *Never more than the truth.* An [`address::Address`] is never a wildcard and holds no line end; a [`keys::Key`] is
//!   made of nothing else; [`policy`] compares domains as names.
//! - *Never half.* [`publish`] proves a table before it renames it; [`state::head`] names what was decided before it
//!   happens, so a dead run is finished by the next.
//!
//! What grows with the directory is held once, and not as values: [`records`] lie in one stream of octets, on the disk while
//! a run goes on; the rows of a table lie in one buffer ([`table::rows`]); files are written and proven as they stream by.
//!
//! Invariants of the architecture: the core (`fold` to `table`, `diff`, `guard`, `hold`) opens nothing and asks no clock;
//! only `directory::session` names the LDAP crate, only `directory::discover` the one for DNS, only `directory::gssapi` the
//! one for Kerberos, only `postgresql::session` the one for PostgreSQL; only [`publish`] renames onto tables; only [`state`]
//! knows the state directory; only [`report`] prints results, only [`log`] lines. Beside the line stand [`check`], what
//! `doctor` examines, and [`notice`], what is told to whom.

pub mod cli;
pub mod command;
pub mod manual;

pub mod at_once;
pub mod error;
pub mod exit;
pub mod harmless;
pub mod leb128;
pub mod log;
pub mod owners;
pub mod regular;
pub mod surroundings;
pub mod time;

pub mod config;

pub mod current;
pub mod records;
pub mod snapshot;

pub mod certificate;
pub mod directory;
pub mod postgresql;
pub mod source;
pub mod trust;

pub mod address;
pub mod dn;
pub mod domain;
pub mod domains;
pub mod elsewhere;
pub mod entry;
pub mod exchange;
pub mod fold;
pub mod keys;
pub mod kind;
pub mod lookup;
pub mod policy;
pub mod record;

pub mod table;

pub mod diff;
pub mod guard;
pub mod hold;

pub mod publish;
pub mod state;

pub mod hook;
pub mod metrics;
pub mod notice;
pub mod postfix;
pub mod probe;
pub mod smtp;

pub mod check;
pub mod templates;

pub mod report;
