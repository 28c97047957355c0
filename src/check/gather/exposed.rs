//! Looking for whoever else could replace what runs read, run or write: on the way from the root to each file.
//!
//! What every account may do in the directory of a table, and what a group may do to a secret, is looked for elsewhere (`files`).

use std::path::{Path, PathBuf};

use crate::check::facts::{Exposed, Purpose};
use crate::config::secret::SecretPlace;
use crate::config::{Bind, Config, SourceKind, Table};
use crate::owners::{self, Who};
use crate::postfix::program;

/// Everything that accounts other than these could replace.
pub(super) fn exposed(config: &Config, trusted: &[u32]) -> Vec<Exposed> {
    let mut found = Vec::new();
    for (purpose, path) in named(config) {
        for hand in owners::hands_on(&path, trusted) {
            let is_itself = hand.place == path;
            let is_meant = match (purpose, hand.who) {
                // Exports come from elsewhere, by an account of their own.
                (Purpose::Source, Who::Owner(_) | Who::Group(_) | Who::Listed) => false,
                (Purpose::Secret, Who::Group(_) | Who::Listed) => !is_itself,
                (Purpose::State, _) => !is_itself,
                (Purpose::Table, Who::Everybody) => {
                    !is_itself && !is_directory_of_table(config, &hand.place)
                }
                (_, _) => true,
            };
            let path = path.clone();
            if is_meant {
                found.push(Exposed {
                    purpose,
                    path,
                    hand,
                });
            }
        }
    }
    found
}

fn is_directory_of_table(config: &Config, place: &Path) -> bool {
    let mut tables = config.tables.iter();
    tables.any(|table| table.path.parent() == Some(place))
}

/// What a run depends on, each with what it is for.
fn named(config: &Config) -> Vec<(Purpose, PathBuf)> {
    let mut named = vec![(Purpose::State, config.state_dir.clone())];
    let mut add = |purpose, path: &Path| named.push((purpose, path.to_owned()));
    for source in &config.sources {
        match &source.kind {
            SourceKind::Ldif(file) | SourceKind::List(file) => add(Purpose::Source, &file.path),
            SourceKind::Ldap(ldap) => {
                if let Some(file) = &ldap.ca_file {
                    add(Purpose::Certificates, file);
                }
                match &ldap.bind {
                    Bind::Anonymous => {}
                    Bind::Simple { password, .. } => add_secret(&mut add, password),
                    Bind::Gssapi { keytab, .. } => add_secret(&mut add, keytab),
                    Bind::External {
                        certificate_file,
                        key,
                    } => {
                        add(Purpose::Certificates, certificate_file);
                        add_secret(&mut add, key);
                    }
                }
            }
        }
    }
    for hook in config.all_hooks() {
        add(Purpose::Program, &hook.program);
    }
    for program in program::places(&["postconf", "postmap"]) {
        add(Purpose::Program, &program);
    }
    for table in &config.tables {
        add_table(&mut add, config, table);
    }
    named
}

fn add_secret(add: &mut impl FnMut(Purpose, &Path), place: &SecretPlace) {
    match place {
        SecretPlace::File(path) => add(Purpose::Secret, path),
        // systemd hands it over, and nobody else has it.
        SecretPlace::Credential(_) => {}
    }
}

fn add_table(add: &mut impl FnMut(Purpose, &Path), config: &Config, table: &Table) {
    if let Some(relation) = &table.relation {
        if let Some(file) = &relation.ca_file {
            add(Purpose::Certificates, file);
        }
        if let Some(password) = &relation.password {
            add_secret(add, password);
        }
    }
    if let (Some(template), Some(directory)) = (&table.template, config.path.parent()) {
        let file = directory.join(template.name());
        if file.is_file() {
            add(Purpose::Template, &file);
        }
    }
    for format in table.formats.iter().filter(|format| format.is_file()) {
        add(Purpose::Table, &table.file(*format));
    }
}
