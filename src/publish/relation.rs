//! Tables that are a relation in PostgreSQL, which a fleet of gateways reads.
//!
//! What files do by a temporary file and a rename, a relation does by a transaction: the difference is written in it,
//! everything is read back in it and compared, and then it stays open until the decision to publish is on the disk. COMMIT
//! is the rename. Whatever happens before it leaves the old rows in force, and readers never wait.
//!
//! What is in force is the relation, not our memory of it. Nothing in PostgreSQL tells cheaply whether somebody wrote, so
//! each look asks for the number of rows and a checksum of them, which the server makes without sending a row; they are read
//! when that is not what we left there. The checksum finds accidents, not forgers: who may write the relation is for
//! the database to say.
//!
//! What somebody writes between the look and the lock is overwritten, as it is with a file.
//!
//! Invariant: a transaction that is committed has been read back and says exactly what was meant.

use std::iter::Peekable;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::on_disk::{Content, Foreign};
use crate::config::{Format, Relation};
use crate::error::{Failure, Result};
use crate::exit::Exit;
use crate::hold::hex;
use crate::postgresql::{DatabaseError, Session};
use crate::state::digest;
use crate::state::head::{Artefact, Stamp};
use crate::table::format::{Said, copy};
use crate::table::value::RowValues;

/// How long a look may take, and a lock be waited for.
const LOOK_TIME: Duration = Duration::from_secs(120);
const LOCK_SECONDS: u64 = 30;

/// More is not read of a relation that somebody else wrote.
const READ_OCTETS_MAX: usize = 1 << 30;

/// Longer texts are read so far: enough to see that they are not what was meant.
const TEXT_CHARS_MAX: u32 = 4000;

/// Rows that one statement removes or changes.
const BATCH_ROWS: usize = 10_000;

/// Octets that are sent at a time.
const BLOCK_OCTETS: usize = 1 << 16;

/// What is written and proven, and not yet in force.
#[derive(Debug)]
pub(super) struct Transaction {
    session: Session,
    /// Its number, by which the server tells its fate.
    number: String,
    stamp: Stamp,
}

/// Looks at a relation; one that is as we left it is not read.
pub(super) fn look(relation: &Relation, known: Option<&Artefact>) -> Result<Content> {
    let looked = || -> std::result::Result<Content, DatabaseError> {
        let session = Session::open(relation, Instant::now() + LOOK_TIME)?;
        set_up(&session, "ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
        let Some(identity) = identity(&session, relation)? else {
            return Ok(Content::Missing);
        };
        let stamp = stamp(&session, relation, identity)?;
        if let Some(known) = known.filter(|known| known.stamp == stamp) {
            return Ok(Content::AsPublished(known.clone()));
        }
        let mut bytes = Vec::new();
        session.copy_out(&rows_of(relation), &mut |row| {
            if bytes.len() + row.len() > READ_OCTETS_MAX {
                let why = format!("it has more than {READ_OCTETS_MAX} octets");
                return Err(DatabaseError::Wrong(why));
            }
            bytes.extend_from_slice(row);
            Ok(())
        })?;
        let artefact = Artefact {
            format: Format::Postgresql,
            path: relation.name(),
            digest: digest(&bytes),
            stamp,
            made_with: String::new(),
        };
        if known.is_some_and(|known| known.digest == artefact.digest) {
            return Ok(Content::AsPublished(artefact));
        }
        let rows = copy::read(&bytes).map_err(|error| DatabaseError::Wrong(error.to_string()))?;
        Ok(Content::Foreign(Foreign { bytes, artefact }, rows))
    };
    looked().map_err(|error| failure("a relation cannot be looked at", relation, &error))
}

/// Writes the difference and proves the whole, in a transaction that stays open. Gives the digest of its rows.
pub(super) fn prepare(
    relation: &Relation,
    said: &Said<'_>,
    values: &RowValues,
    deadline: Instant,
) -> Result<(Transaction, String)> {
    let prepared = || -> std::result::Result<(Transaction, String), DatabaseError> {
        let session = Session::open(relation, deadline)?;
        if first(session.row("SELECT pg_catalog.pg_is_in_recovery()::text")?)? != "false" {
            return Err(DatabaseError::Standby);
        }
        set_up(&session, "ISOLATION LEVEL READ COMMITTED READ WRITE")?;
        let left = deadline
            .saturating_duration_since(Instant::now())
            .as_millis();
        // The server must neither end the transaction while the decision is stored, nor keep it when we are gone.
        session.run(&format!(
            "SET LOCAL idle_in_transaction_session_timeout = {left}"
        ))?;
        let identity = match identity(&session, relation)? {
            Some(identity) => identity,
            None => {
                session.run(&creation(relation))?;
                tracing::warn!(
                    "{}: made anew; gateways cannot read it before GRANT SELECT ON {}.{} TO their role",
                    relation.name(),
                    relation.schema,
                    relation.relation
                );
                identity(&session, relation)?
                    .ok_or_else(|| DatabaseError::Wrong("it was made, and is not there".into()))?
            }
        };
        let name = quoted(relation);
        session.run(&format!("LOCK TABLE {name} IN SHARE ROW EXCLUSIVE MODE"))?;
        let difference = Difference::find(&session, relation, said, values)?;
        difference.write(&session, relation)?;
        let digest = prove(&session, relation, said, values)?;
        let stamp = stamp(&session, relation, identity)?;
        let number = first(session.row("SELECT txid_current()::text")?)?;
        Ok((
            Transaction {
                session,
                number,
                stamp,
            },
            digest,
        ))
    };
    prepared().map_err(|error| failure("a relation could not be written", relation, &error))
}

impl Transaction {
    /// Puts it in force.
    pub(super) fn commit(self, name: &str) -> Result<Stamp> {
        let committed = || -> std::result::Result<(), DatabaseError> {
            self.session.run("COMMIT")?;
            // COMMIT of a transaction that had failed reports success and rolls back.
            let question = format!("SELECT txid_status({})", self.number);
            match first(self.session.row(&question)?)?.as_str() {
                "committed" => Ok(()),
                other => Err(DatabaseError::Wrong(format!("the transaction is {other}"))),
            }
        };
        committed().map_err(|error| not_committed(name, &error))?;
        Ok(self.stamp)
    }
}

/// Begins, and lets no schema but the system's own give a meaning to what we say.
fn set_up(session: &Session, mode: &str) -> std::result::Result<(), DatabaseError> {
    session.run(&format!(
        "SET search_path = pg_catalog; SET client_encoding = 'UTF8'; \
         SET standard_conforming_strings = on; \
         SET lock_timeout = '{LOCK_SECONDS}s'; BEGIN {mode}"
    ))?;
    let encoding = first(session.row("SELECT current_setting('server_encoding')")?)?;
    if encoding != "UTF8" {
        let why = format!(
            "the database is encoded in {encoding}, in which not every address can be said; it must be UTF8"
        );
        return Err(DatabaseError::Wrong(why));
    }
    Ok(())
}

fn first(row: Option<Vec<String>>) -> std::result::Result<String, DatabaseError> {
    row.and_then(|row| row.into_iter().next())
        .ok_or_else(no_answer)
}

fn no_answer() -> DatabaseError {
    DatabaseError::Wrong("the database answered without a row".into())
}

/// The configuration takes no name that would need escapes.
fn quoted(relation: &Relation) -> String {
    format!("\"{}\".\"{}\"", relation.schema, relation.relation)
}

fn creation(relation: &Relation) -> String {
    let name = quoted(relation);
    format!(
        "CREATE TABLE {name} (address text COLLATE \"C\" PRIMARY KEY, value text NOT NULL); \
         COMMENT ON TABLE {name} IS 'Written by rcptsync; rows that somebody else writes here are held or removed.'"
    )
}

/// What the server numbers the database and the relation with; a relation that is dropped and made anew has another.
fn identity(
    session: &Session,
    relation: &Relation,
) -> std::result::Result<Option<(u64, u64)>, DatabaseError> {
    let row = session.row(&format!(
        "SELECT d.oid::text, c.oid::text FROM pg_class c \
         JOIN pg_namespace n ON n.oid = c.relnamespace \
         JOIN pg_database d ON d.datname = current_database() \
         WHERE n.nspname = '{}' AND c.relname = '{}' AND c.relkind IN ('r', 'p')",
        relation.schema, relation.relation
    ))?;
    let Some(row) = row else { return Ok(None) };
    match row.as_slice() {
        [database, relation] => Ok(Some((number(database)?, number(relation)?))),
        _ => Err(no_answer()),
    }
}

fn number<Number: std::str::FromStr>(text: &str) -> std::result::Result<Number, DatabaseError> {
    text.parse().map_err(|_| {
        DatabaseError::Wrong("the database answered with something that is no number".into())
    })
}

/// What changes when anybody writes: how many rows there are, and a sum over all of them.
fn stamp(
    session: &Session,
    relation: &Relation,
    identity: (u64, u64),
) -> std::result::Result<Stamp, DatabaseError> {
    let row = session.row(&format!(
        "SELECT count(*)::text, \
         (coalesce(sum(hashtextextended((address::text || E'\\t' || value::text) COLLATE \"C\", 0)), 0) % 9223372036854775807)::bigint::text \
         FROM {}",
        quoted(relation)
    ))?;
    match row.as_deref() {
        Some([count, sum]) => Ok(Stamp {
            inode: identity,
            size: number(count)?,
            modified: (number(sum)?, 0),
            changed: (0, 0),
        }),
        _ => Err(no_answer()),
    }
}

fn rows_of(relation: &Relation) -> String {
    format!(
        "COPY (SELECT left(address::text, {TEXT_CHARS_MAX}), left(value::text, {TEXT_CHARS_MAX}) FROM {} \
         ORDER BY address COLLATE \"C\") TO STDOUT",
        quoted(relation)
    )
}

/// What makes the rows of the relation those that are meant.
#[derive(Default)]
struct Difference<'said> {
    added: Vec<(&'said [u8], &'said [u8])>,
    changed: Vec<(&'said [u8], &'said [u8])>,
    removed: Vec<String>,
}

impl<'said> Difference<'said> {
    /// Compares with what is there now, which under the lock nobody else changes any more.
    fn find(
        session: &Session,
        relation: &Relation,
        said: &Said<'said>,
        values: &'said RowValues,
    ) -> std::result::Result<Difference<'said>, DatabaseError> {
        let mut difference = Difference::default();
        let mut meant = said.lines(values).peekable();
        let mut last: Option<Vec<u8>> = None;
        session.copy_out(&rows_of(relation), &mut |row| {
            let (key, value) = read_row(row)?;
            if last.as_ref() >= Some(&key) {
                let why = "two of its rows have one address; it needs a primary key on address";
                return Err(DatabaseError::Wrong(why.into()));
            }
            difference.pass(&mut meant, &key, &value)?;
            last = Some(key);
            Ok(())
        })?;
        difference.added.extend(meant);
        Ok(difference)
    }

    fn pass(
        &mut self,
        meant: &mut Peekable<impl Iterator<Item = (&'said [u8], &'said [u8])>>,
        key: &[u8],
        value: &[u8],
    ) -> std::result::Result<(), DatabaseError> {
        while let Some(row) = meant.next_if(|(next, _)| *next < key) {
            self.added.push(row);
        }
        match meant.next_if(|(next, _)| *next == key) {
            Some(row) if row.1 == value => {}
            Some(row) => self.changed.push(row),
            None => self.removed.push(text(key)?.to_owned()),
        }
        Ok(())
    }

    fn write(
        &self,
        session: &Session,
        relation: &Relation,
    ) -> std::result::Result<(), DatabaseError> {
        let name = quoted(relation);
        for batch in self.removed.chunks(BATCH_ROWS) {
            let keys = batch.iter().map(String::as_str).collect();
            let statement = format!("DELETE FROM {name} WHERE address = ANY($1::text[])");
            session.change(&statement, &[keys])?;
        }
        for batch in self.changed.chunks(BATCH_ROWS) {
            let keys = batch.iter().map(|(key, _)| text(key));
            let new = batch.iter().map(|(_, value)| text(value));
            let columns = [
                keys.collect::<std::result::Result<_, _>>()?,
                new.collect::<std::result::Result<_, _>>()?,
            ];
            let statement = format!(
                "UPDATE {name} r SET value = n.value FROM unnest($1::text[], $2::text[]) AS n (address, value) \
                 WHERE r.address = n.address"
            );
            session.change(&statement, &columns)?;
        }
        if !self.added.is_empty() {
            let statement = format!("COPY {name} (address, value) FROM STDIN");
            session.copy_in(&statement, &mut Blocks(self.added.iter()))?;
        }
        Ok(())
    }
}

/// Rows as blocks to send.
struct Blocks<'rows, Rows: Iterator<Item = &'rows (&'rows [u8], &'rows [u8])>>(Rows);

impl<'rows, Rows: Iterator<Item = &'rows (&'rows [u8], &'rows [u8])>> Iterator
    for Blocks<'rows, Rows>
{
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut block = Vec::new();
        while block.len() < BLOCK_OCTETS
            && let Some((key, value)) = self.0.next()
        {
            // Memory does not fail to be written to.
            let _ = copy::write_row(&mut block, key, value);
        }
        (!block.is_empty()).then_some(block)
    }
}

/// Reads everything back in the transaction: the same rows, in their order, and none beside. Gives their digest.
fn prove(
    session: &Session,
    relation: &Relation,
    said: &Said<'_>,
    values: &RowValues,
) -> std::result::Result<String, DatabaseError> {
    let mut meant = said.lines(values);
    let mut hash = Sha256::new();
    let mut is_equal = true;
    session.copy_out(&rows_of(relation), &mut |row| {
        hash.update(row);
        let (key, value) = read_row(row)?;
        is_equal &= meant.next() == Some((key.as_slice(), value.as_slice()));
        Ok(())
    })?;
    if !is_equal || meant.next().is_some() {
        let why = "read back before COMMIT, it has other rows than were meant; does a trigger, a rule or a type of its columns change them?";
        return Err(DatabaseError::Wrong(why.into()));
    }
    Ok(hex(&hash.finalize()))
}

fn read_row(row: &[u8]) -> std::result::Result<(Vec<u8>, Vec<u8>), DatabaseError> {
    copy::read_row(row).map_err(|error| DatabaseError::Wrong(error.to_string()))
}

fn text(octets: &[u8]) -> std::result::Result<&str, DatabaseError> {
    std::str::from_utf8(octets).map_err(|_| DatabaseError::Wrong("a row is not UTF-8".into()))
}

fn failure(what: &str, relation: &Relation, error: &DatabaseError) -> Box<Failure> {
    Box::new(Failure {
        exit: if is_denied(error) {
            Exit::Permission
        } else {
            Exit::NotWritten
        },
        what: what.into(),
        place: relation.name(),
        why: error.to_string(),
        in_force: "the rows that are in it stay in force".into(),
        next: next_step(relation, error),
    })
}

fn is_denied(error: &DatabaseError) -> bool {
    match error {
        DatabaseError::Secret(_) => true,
        DatabaseError::Refused { state, .. } => state.starts_with("28"),
        DatabaseError::NotBuilt
        | DatabaseError::Trust(_)
        | DatabaseError::System(_)
        | DatabaseError::Lost(_)
        | DatabaseError::TimeIsUp
        | DatabaseError::Standby
        | DatabaseError::Wrong(_) => false,
    }
}

fn next_step(relation: &Relation, error: &DatabaseError) -> String {
    let Relation {
        role,
        schema,
        relation: name,
        ..
    } = relation;
    let state = match error {
        DatabaseError::Refused { state, .. } => state.as_str(),
        DatabaseError::NotBuilt => {
            return "build with `cargo build --release --features postgresql`".into();
        }
        DatabaseError::Secret(_) => {
            return "mend password_file or credential of the table, then run again".into();
        }
        DatabaseError::Trust(_) => return "mend ca_file of the table, then run again".into(),
        DatabaseError::Standby => return "name the primary as host, then run again".into(),
        DatabaseError::Wrong(_) => {
            return format!(
                "mend the database or the relation {schema}.{name} (address text PRIMARY KEY, value text NOT NULL), then run again"
            );
        }
        DatabaseError::System(_) | DatabaseError::Lost(_) | DatabaseError::TimeIsUp => "",
    };
    match state {
        "28P01" | "28000" => format!(
            "mend role, password_file or pg_hba.conf: role {role} must be let in as it asks; then run again"
        ),
        "3D000" => "name the database that gateways read, or make it; then run again".into(),
        "3F000" => format!(
            "let the owner of the database run: CREATE SCHEMA {schema} AUTHORIZATION {role}"
        ),
        "42501" => format!(
            "let the owner run: CREATE TABLE {schema}.{name} (address text COLLATE \"C\" PRIMARY KEY, value text NOT NULL) where there \
             is none, then GRANT SELECT, INSERT, UPDATE, DELETE ON {schema}.{name} TO {role}"
        ),
        "55P03" => {
            "somebody holds a lock on it, such as CREATE INDEX or a migration; the next run tries again"
                .into()
        }
        "42703" | "42804" | "42883" | "42P07" => format!(
            "{schema}.{name} is not of our shape (address text PRIMARY KEY, value text NOT NULL): name another relation, or drop it"
        ),
        _ => {
            "look at the server, and at host, port and ca_file of the table (over the network it must offer TLS: ssl = on); the next run \
             tries again"
                .into()
        }
    }
}

/// Whether the server had committed when the answer was lost nobody knows here; the decision is on the disk.
fn not_committed(name: &str, error: &DatabaseError) -> Box<Failure> {
    let is_unknown = match error {
        DatabaseError::Refused { state, .. } => state.starts_with("08") || state.starts_with("57P"),
        DatabaseError::Standby | DatabaseError::Wrong(_) => false,
        DatabaseError::NotBuilt
        | DatabaseError::Secret(_)
        | DatabaseError::Trust(_)
        | DatabaseError::System(_)
        | DatabaseError::Lost(_)
        | DatabaseError::TimeIsUp => true,
    };
    let in_force = if is_unknown {
        "the old rows or the new ones, never a mixture: the connection was lost at COMMIT; the tables before it are replaced, and no hook was run"
    } else {
        "the old rows stay in force; the tables before it are replaced, and no hook was run"
    };
    Box::new(Failure {
        exit: Exit::NotWritten,
        what: "a relation could not be replaced".into(),
        place: name.to_owned(),
        why: error.to_string(),
        in_force: in_force.into(),
        next: "the next run looks which rows are in force and finishes what was decided".into(),
    })
}

/// What is in it, whoever wrote it.
pub(super) fn now(relation: &Relation) -> Result<Option<Artefact>> {
    Ok(match look(relation, None)? {
        Content::Missing | Content::NoTable(..) => None,
        Content::AsPublished(artefact) => Some(artefact),
        Content::Foreign(foreign, _) | Content::Unread(foreign) => Some(foreign.artefact),
    })
}
