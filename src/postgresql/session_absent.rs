//! What stands for PostgreSQL in a build without the feature `postgresql`: there is no session.
//!
//! The configuration refuses such a table before; the types say the same.

use std::convert::Infallible;
use std::time::Instant;

use super::DatabaseError;
use crate::config::Relation;

/// A session; there is none.
#[derive(Debug)]
pub struct Session(Infallible);

impl Session {
    /// Always refuses.
    pub fn open(_relation: &Relation, _deadline: Instant) -> Result<Session, DatabaseError> {
        Err(DatabaseError::NotBuilt)
    }

    /// Never called.
    pub fn run(&self, _statements: &str) -> Result<(), DatabaseError> {
        match self.0 {}
    }

    /// Never called.
    pub fn row(&self, _query: &str) -> Result<Option<Vec<String>>, DatabaseError> {
        match self.0 {}
    }

    /// Never called.
    pub fn change(&self, _statement: &str, _columns: &[Vec<&str>]) -> Result<u64, DatabaseError> {
        match self.0 {}
    }

    /// Never called.
    pub fn copy_out(
        &self,
        _statement: &str,
        _each: &mut dyn FnMut(&[u8]) -> Result<(), DatabaseError>,
    ) -> Result<(), DatabaseError> {
        match self.0 {}
    }

    /// Never called.
    pub fn copy_in(
        &self,
        _statement: &str,
        _blocks: &mut dyn Iterator<Item = Vec<u8>>,
    ) -> Result<u64, DatabaseError> {
        match self.0 {}
    }
}
