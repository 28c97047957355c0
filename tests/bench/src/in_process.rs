//! The parts of rcptsync that are timed inside this process, each behind one small function: where the program's own
//! functions change, this file changes and no other.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use rcptsync::config::{self, Config, Format};
use rcptsync::domains::Domains;
use rcptsync::fold::Folding;
use rcptsync::guard::{self, Approved, Counts, Evidence};
use rcptsync::hold::Released;
use rcptsync::publish;
use rcptsync::table::format::{self, Said};
use rcptsync::table::rows::{Facts, Rows, RowsBuilder, SourceSet};
use rcptsync::table::value::RowValues;
use rcptsync::time::Timestamp;

use crate::recipients::{self, DOMAINS};

/// The value of every row.
pub const VALUE: &str = "OK";

/// So many keys of as many recipients as that needs, sorted.
pub fn rows(keys_count: usize) -> Rows {
    let facts = Facts {
        sources: SourceSet::of(0),
        ..Facts::default()
    };
    let mut rows = RowsBuilder::default();
    let recipients = (0..).map(recipients::Recipient::of);
    let keys = recipients.flat_map(|recipient| recipient.keys());
    for key in keys.take(keys_count) {
        rows.push(key.as_bytes(), facts);
    }
    rows.finish()
}

/// The bytes of a format, in a file, with no more ado: row 1.
pub fn write(rows: &Rows, format: Format, file: &Path) {
    const BUFFER_BYTES: usize = 256 * 1024;
    let file = File::create(file).expect("a file of our own");
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, file);
    format::render(&Said::of(format, rows), &RowValues::alike(VALUE), &mut out)
        .expect("within the limits of CDB");
    out.flush().expect("space on the disk");
}

/// A table that is to be published.
pub struct Publication {
    config: Config,
    approved: Approved,
}

impl Publication {
    /// Publishes nothing yet; only what the guard has judged may be published.
    pub fn of(rows: &Rows, directory: &Path) -> Publication {
        let text = format!(
            "state_dir = \"{directory}/state\"\n\
             [domains]\nlist = {DOMAINS:?}\n\
             [source.corp]\nkind = \"list\"\npath = \"{directory}/list\"\n\
             [table.relay_recipients]\npath = \"{directory}/relay_recipients\"\nformats = [\"cdb\"]\n",
            directory = directory.display(),
        );
        let config = config::parse(&directory.join("rcptsync.toml"), &text);
        let config = config.expect("a configuration");
        let domains = Domains::exact(&config.domains.list).forms(Folding::Unicode);
        let judgement = guard::judge(&Evidence {
            kind: rcptsync::config::TableKind::Recipients,
            standing: &[],
            table: "relay_recipients",
            in_force: &Rows::default(),
            wanted: rows,
            is_first: true,
            values_vary: false,
            unread: None,
            sources: &[guard::SourceEvidence {
                name: "corp".to_owned(),
                ..guard::SourceEvidence::default()
            }],
            domains: &domains,
            domains_never_read: &[],
            elsewhere: &[],
            canaries_missing: &[],
            limits: &config.guard,
            grace: config.recipients.grace,
            window: &Counts::default(),
            released: &Released::default(),
            now: Timestamp::now(),
            steady_since: Timestamp::default(),
        });
        assert!(judgement.holds.is_empty(), "{:?}", judgement.holds);
        let approved = judgement.approved;
        Publication { config, approved }
    }

    /// Writes, syncs and proves the CDB beside the live one, as every publication does: row 2.
    pub fn prepare_cdb(&self) {
        let table = self.config.tables.first().expect("the one table");
        // No format that postmap builds, so nothing is waited for.
        publish::prepare(table, &[Format::Cdb], &self.approved, Instant::now())
            .expect("a table that can be written");
    }
}
