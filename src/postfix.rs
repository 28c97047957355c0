//! What the Postfix on this machine says of itself, through `postconf`.
//!
//! Asked only where a table's folding is "auto" and by `explain`, for the recipient delimiter. A machine without Postfix
//! (a host that builds tables for others) has no opinion. Not here: changing anything in Postfix.

use std::process::{Command, Stdio};

use crate::fold::Folding;

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
        // Without its main.cf, postconf sleeps a second before it fails.
        let directory = std::env::var_os("MAIL_CONFIG").unwrap_or_else(|| "/etc/postfix".into());
        if !std::path::Path::new(&directory).join("main.cf").exists() {
            return None;
        }
        let output = ["/usr/sbin/postconf", "/usr/local/sbin/postconf"]
            .iter()
            .find_map(|program| {
                let asked = Command::new(program)
                    .args(["-x", "smtputf8_enable", "recipient_delimiter"])
                    .stdin(Stdio::null())
                    .stderr(Stdio::null())
                    .output();
                asked.ok().filter(|output| output.status.success())
            });
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
