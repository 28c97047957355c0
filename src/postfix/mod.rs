//! What the Postfix on this machine says of itself, through `postconf` and `postmap`.
//!
//! Asked where a table's folding is "auto", by `explain` for the recipient delimiter, for `relay_domains` where domains
//! come from there or are compared with it ([`relay_domains`]), and for the types of tables it can build ([`map_types`]),
//! which `postmap` then builds and lists. `doctor` asks for everything ([`settings`], [`master`], [`lookup`]). A machine
//! without Postfix (a host that builds tables for others) has no opinion. Nothing in Postfix is changed, but for
//! `init --install` ([`parameters`]).

pub mod lookup;
pub mod map_types;
pub mod master;
pub mod parameters;
pub(crate) mod postmap;
pub(crate) mod program;
pub mod relay_domains;
pub mod settings;

use std::path::{Path, PathBuf};

use crate::fold::Folding;
pub(crate) use program::run;
use program::{run_as, run_with_input};

/// Settings of the local Postfix that matter for lookups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// `smtputf8_enable`
    pub is_smtputf8_enabled: bool,
    /// `recipient_delimiter`: a set of characters.
    pub recipient_delimiter: String,
}

impl Gateway {
    /// Asks postconf; `None` without a Postfix that is configured here.
    pub fn ask() -> Option<Gateway> {
        if !main_cf().exists() {
            return None;
        }
        let asked = run(
            "postconf",
            &["-x", "smtputf8_enable", "recipient_delimiter"],
        );
        let output = asked.filter(|output| output.status.success());
        let told =
            output.and_then(|output| Gateway::parse(&String::from_utf8_lossy(&output.stdout)));
        if told.is_none() {
            tracing::warn!(
                "this machine has a main.cf but postconf does not answer; keys are folded as Unicode"
            );
        }
        told
    }

    fn parse(output: &str) -> Option<Gateway> {
        let setting = |name: &str| {
            output.lines().find_map(|line| {
                let (found, value) = line.split_once('=')?;
                (found.trim() == name).then(|| value.trim().to_owned())
            })
        };
        Some(Gateway {
            is_smtputf8_enabled: setting("smtputf8_enable")? == "yes",
            recipient_delimiter: setting("recipient_delimiter").unwrap_or_default(),
        })
    }

    /// How it folds lookup keys.
    pub fn folding(&self) -> Folding {
        if self.is_smtputf8_enabled {
            Folding::Unicode
        } else {
            Folding::Ascii
        }
    }
}

/// The configuration that the programs of Postfix read.
pub(crate) fn main_cf() -> PathBuf {
    let directory = std::env::var_os("MAIL_CONFIG").unwrap_or_else(|| "/etc/postfix".into());
    Path::new(&directory).join("main.cf")
}

/// An account of this machine, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// Who.
    pub uid: u32,
    /// The group it starts with.
    pub gid: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_from_postconf() {
        let gateway =
            Gateway::parse("smtputf8_enable = no\nrecipient_delimiter = +-\n").expect("settings");
        assert_eq!(gateway.folding(), Folding::Ascii);
        assert_eq!(gateway.recipient_delimiter, "+-");
        let stock =
            Gateway::parse("smtputf8_enable = yes\nrecipient_delimiter =\n").expect("settings");
        assert_eq!(
            (stock.folding(), stock.recipient_delimiter.as_str()),
            (Folding::Unicode, "")
        );
        assert_eq!(Gateway::parse(""), None);
    }
}
