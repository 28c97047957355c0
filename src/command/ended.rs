//! What every run tells at its end, however it ended: its record, and its metrics where they are asked for.
//!
//! Reads what the run left behind (head.json as it is now, not as the run believed it), and decides nothing. Nothing here
//! changes how a run ended: metrics that cannot be written are a warning, and those that stay grow old, which is an alert.

use std::io::Read;
use std::path::Path;

use super::plan;
use crate::certificate::Certificate;
use crate::config::secret::SecretPlace;
use crate::config::{Bind, Config, SourceKind};
use crate::metrics::{self, Dated, Seen, textfile};
use crate::state::State;
use crate::state::runs::RunRecord;
use crate::time::Timestamp;

/// A file of certificates has no more octets.
const PEM_OCTETS_MAX: u64 = 4 * 1024 * 1024;

/// Tells everybody who is told of every run.
pub fn tell(run: &plan::Run<'_>, state: &State, record: &RunRecord) {
    state.store_run(record);
    let Some(metrics) = &run.config.metrics else {
        return;
    };
    let (certificates, secrets) = dated(run.config);
    let head = state.head().ok();
    let text = metrics::text(&Seen {
        config: run.config,
        head: head.as_ref(),
        run: record,
        certificates,
        secrets,
    });
    if let Err(error) = textfile::write(&metrics.textfile, &text) {
        let path = metrics.textfile.display();
        tracing::warn!("the metrics could not be written, {path} is an old one or none: {error}");
    }
}

fn ends_of(pem: &[u8]) -> impl Iterator<Item = Timestamp> {
    Certificate::of_pem(pem).map(|certificate| certificate.not_after)
}

/// When the certificates that the configuration names end, and when its secrets were written. What cannot be looked at is
/// left out: the source that needs it says why.
fn dated(config: &Config) -> (Vec<Dated>, Vec<Dated>) {
    let (mut certificates, mut secrets) = (Vec::new(), Vec::new());
    let mut authority = |section: &str, file: Option<&Path>| {
        // From the end of the last one on it lets nobody be trusted.
        let ends = file.and_then(|file| ends_of(&read(file)?).max());
        certificates.extend(ends.map(|at| of(section, "authority", at)));
    };
    let mut secret = |section: &str, what: &'static str, place: &SecretPlace| {
        let modified = place.modified().map(Timestamp::from);
        secrets.extend(modified.map(|at| of(section, what, at)));
    };
    let mut clients = Vec::new();
    for source in &config.sources {
        let SourceKind::Ldap(ldap) = &source.kind else {
            continue;
        };
        let section = format!("source.{}", source.name);
        authority(&section, ldap.ca_file.as_deref());
        match &ldap.bind {
            Bind::Anonymous => {}
            Bind::Simple { password, .. } => secret(&section, "password", password),
            Bind::Gssapi { keytab, .. } => secret(&section, "keytab", keytab),
            Bind::External {
                certificate_file,
                key,
            } => {
                secret(&section, "key", key);
                let ends = read(certificate_file).and_then(|pem| ends_of(&pem).next());
                clients.extend(ends.map(|at| of(&section, "client", at)));
            }
        }
    }
    for table in &config.tables {
        if let Some(relation) = &table.relation {
            let section = format!("table.{}", table.name);
            authority(&section, relation.ca_file.as_deref());
            if let Some(password) = &relation.password {
                secret(&section, "password", password);
            }
        }
    }
    certificates.append(&mut clients);
    (certificates, secrets)
}

fn of(section: &str, what: &'static str, at: Timestamp) -> Dated {
    Dated {
        section: section.to_owned(),
        what,
        at,
    }
}

fn read(file: &Path) -> Option<Vec<u8>> {
    let mut pem = Vec::new();
    let file = std::fs::File::open(file).ok()?;
    file.take(PEM_OCTETS_MAX).read_to_end(&mut pem).ok()?;
    Some(pem)
}
