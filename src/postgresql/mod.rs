//! Talking to PostgreSQL: one session, and what can go wrong in it.
//!
//! A part of the build (cargo feature `postgresql`); without it there is no session to be had. What is asked, and what of
//! it is believed, is not decided here (`publish::relation`).
//!
//! Invariant: a password never enters an error, and nothing is sent in clear but on a socket of this machine.

#[cfg(feature = "postgresql")]
mod session;
#[cfg(not(feature = "postgresql"))]
#[path = "session_absent.rs"]
mod session;

pub use session::Session;

use crate::config::secret::SecretError;
use crate::trust::TrustError;

/// Why the database did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The configuration refuses such a table before.
    #[error("this build lacks the cargo feature postgresql")]
    NotBuilt,
    /// The password.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The authorities.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// No runtime, no socket.
    #[error(transparent)]
    System(#[from] std::io::Error),
    /// The server said no.
    #[error("{message} (SQLSTATE {state})")]
    Refused {
        /// Its code.
        state: String,
        /// Its words.
        message: String,
    },
    /// There is no connection, or none any more.
    #[error("{0}")]
    Lost(String),
    /// The time is up.
    #[error("the database did not answer in time")]
    TimeIsUp,
    /// It follows another server.
    #[error("the server is a standby, which only reads")]
    Standby,
    /// It answered, and the answer is not what it must be.
    #[error("{0}")]
    Wrong(String),
}
