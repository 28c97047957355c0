//! rcptsync keeps a mail gateway's recipient tables equal to what Active Directory says.
pub mod address;
pub mod config;
pub mod dn;
pub mod domain;
pub mod entry;
pub mod error;
pub mod exit;
pub mod fold;
pub mod guard;
pub mod hold;
pub mod keys;
pub mod kind;
pub mod policy;
pub mod record;
pub mod source;
pub mod table;
pub mod time;
