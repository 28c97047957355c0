//! rcptsync keeps a mail gateway's recipient tables equal to what Active Directory says.
pub mod address;
pub mod config;
pub mod directory;
pub mod dn;
pub mod domain;
pub mod entry;
pub mod error;
pub mod exit;
pub mod fold;
pub mod kind;
pub mod record;
pub mod source;
pub mod time;
