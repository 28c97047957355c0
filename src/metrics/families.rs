//! The metrics, one after the other: name, meaning, and where its values come from.
//!
//! Names follow the conventions of Prometheus: base units, `_total` for what only grows, `_timestamp_seconds` for moments.
//! Labels are bounded by the configuration; of domains, of which a directory may have as many as it likes, head.json keeps a
//! bounded number.

use std::collections::BTreeMap;

use super::{Family, Sample, Seen};
use crate::config::Table;
use crate::exit::Exit;
use crate::hold::Cause;
use crate::policy::Reason;
use crate::state::head::{Head, HoldState, SourceState, TableState};
use crate::state::runs::Stage;
use crate::time::Timestamp;

/// Every metric, in the order of the file.
pub const FAMILIES: &[Family] = &[
    gauge(
        "rcptsync_build_info",
        "The program that ran last; always 1.",
        |_| {
            let version = ("version", env!("CARGO_PKG_VERSION").to_owned());
            vec![sample([version], 1.0)]
        },
    ),
    gauge(
        "rcptsync_last_run_timestamp_seconds",
        "When the last run began that held the lock, however it ended.",
        |seen| vec![sample([], seconds(seen.run.at))],
    ),
    gauge(
        "rcptsync_last_run_duration_seconds",
        "How long that run took, hooks included.",
        |seen| vec![sample([], of_milliseconds(seen.run.milliseconds))],
    ),
    gauge(
        "rcptsync_last_run_stage_duration_seconds",
        "How long each stage took that it came to.",
        |seen| {
            let stages = seen.run.stages.0.iter();
            let of_stage = |(stage, milliseconds): (&Stage, &u64)| {
                sample(
                    [label("stage", stage.name())],
                    of_milliseconds(*milliseconds),
                )
            };
            stages.map(of_stage).collect()
        },
    ),
    gauge(
        "rcptsync_last_run_exit_code",
        "The code it exited with.",
        |seen| vec![sample([], f64::from(seen.run.code))],
    ),
    gauge(
        "rcptsync_last_run_exit",
        "1 for everything that was true of it; the exit code names the most urgent alone.",
        exits,
    ),
    gauge(
        "rcptsync_last_run_left_out_values",
        "Values of the sources that get no row, by reason.",
        left_out,
    ),
    gauge(
        "rcptsync_generation",
        "The last generation, of whatever origin.",
        |seen| of_head(seen, |head| Some(head.generation as f64)),
    ),
    gauge(
        "rcptsync_last_publication_timestamp_seconds",
        "When tables were replaced last.",
        |seen| of_head(seen, |head| head.published_at.map(seconds)),
    ),
    gauge(
        "rcptsync_pending_renames",
        "Files whose replacement is decided and not done; the next run does it.",
        |seen| of_head(seen, |head| Some(head.pending.len() as f64)),
    ),
    gauge(
        "rcptsync_source_complete_timestamp_seconds",
        "When a source was last read completely; a failure never moves it.",
        |seen| of_sources(seen, |known| known.complete_at.map(seconds)),
    ),
    gauge(
        "rcptsync_source_current_timestamp_seconds",
        "When a source was last known as it is: read completely, or followed to its present state.",
        |seen| of_sources(seen, |known| known.current_at.map(seconds)),
    ),
    gauge(
        "rcptsync_source_frozen",
        "1 for a source that could not be read completely: its last complete records go on counting.",
        |seen| of_sources(seen, |known| Some(f64::from(known.frozen.is_some()))),
    ),
    gauge(
        "rcptsync_source_frozen_timestamp_seconds",
        "Since when it is frozen, if it is.",
        |seen| of_sources(seen, |known| Some(seconds(known.frozen.as_ref()?.since))),
    ),
    gauge(
        "rcptsync_source_records",
        "Records of a source that count.",
        |seen| {
            let of_read = |known: &SourceState| known.base.map(|_| known.records_count as f64);
            of_sources(seen, of_read)
        },
    ),
    gauge(
        "rcptsync_domains_frozen",
        "1 where the list of domains of a source, or relay_domains, could not be read; the last one goes on counting.",
        |seen| {
            of_head(seen, |head| {
                let sources = head.sources.values();
                let is_frozen = sources
                    .filter(|known| known.domains_frozen.is_some())
                    .count()
                    > 0
                    || head.relay_domains.frozen.is_some();
                Some(f64::from(is_frozen))
            })
        },
    ),
    gauge(
        "rcptsync_table_rows",
        "Rows of a table as it was published last.",
        |seen| of_tables(seen, |known| known.rows_count as f64),
    ),
    gauge(
        "rcptsync_domain_rows",
        "The same for each of its domains.",
        domain_rows,
    ),
    gauge(
        "rcptsync_table_leaving_rows",
        "Rows whose address has vanished and which stay for their grace.",
        |seen| of_tables(seen, |known| known.leaving_count as f64),
    ),
    counter(
        "rcptsync_table_rows_added_total",
        "Rows added to a table since its first publication.",
        |seen| of_tables(seen, |known| known.added_total as f64),
    ),
    counter(
        "rcptsync_table_rows_removed_total",
        "Rows removed from a table since its first publication.",
        |seen| of_tables(seen, |known| known.removed_total as f64),
    ),
    gauge(
        "rcptsync_holds",
        "Sets of changes that wait for approval, by cause.",
        |seen| {
            of_holds(seen, |table, cause, holds| {
                vec![sample(held(table, cause), holds.len() as f64)]
            })
        },
    ),
    gauge(
        "rcptsync_held_rows",
        "Rows in those sets: which would be added, which removed.",
        |seen| of_holds(seen, held_rows),
    ),
    gauge(
        "rcptsync_hook_owed",
        "1 for a hook that has not succeeded since the last publication.",
        hooks_owed,
    ),
    gauge(
        "rcptsync_certificate_expiry_timestamp_seconds",
        "When a certificate ends: that which the server of a source showed last, the client's own, the last authority of a ca_file.",
        certificates,
    ),
    gauge(
        "rcptsync_secret_modified_timestamp_seconds",
        "When the file of a password, key or keytab was written last; not known of systemd credentials.",
        |seen| {
            let of_secret = |secret: &super::Dated| {
                let section = label("section", &secret.section);
                sample([section, label("secret", secret.what)], seconds(secret.at))
            };
            seen.secrets.iter().map(of_secret).collect()
        },
    ),
];

const fn gauge(
    name: &'static str,
    help: &'static str,
    samples: fn(&Seen<'_>) -> Vec<Sample>,
) -> Family {
    Family {
        name,
        kind: "gauge",
        help,
        samples,
    }
}

const fn counter(
    name: &'static str,
    help: &'static str,
    samples: fn(&Seen<'_>) -> Vec<Sample>,
) -> Family {
    Family {
        kind: "counter",
        ..gauge(name, help, samples)
    }
}

fn sample<const LABELS: usize>(labels: [(&'static str, String); LABELS], value: f64) -> Sample {
    Sample {
        labels: labels.into(),
        value,
    }
}

fn label(name: &'static str, value: &str) -> (&'static str, String) {
    (name, value.to_owned())
}

fn seconds(at: Timestamp) -> f64 {
    at.0 as f64
}

fn of_milliseconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1000.0
}

fn exits(seen: &Seen<'_>) -> Vec<Sample> {
    let found = &seen.run.exits;
    let is_true =
        |exit: &Exit| found.contains(exit) || (*exit == Exit::Current && found.is_empty());
    let of_exit = |exit: Exit| sample([label("exit", exit.name())], f64::from(is_true(&exit)));
    Exit::OF_RUNS.map(of_exit).into()
}

/// Nothing where the run did not look at every value.
fn left_out(seen: &Seen<'_>) -> Vec<Sample> {
    let with_addresses = |table: &&Table| table.kind.has_addresses();
    let mut tables = seen.config.tables.iter().filter(with_addresses);
    let is_planned = tables.any(|table| seen.run.tables.contains_key(&table.name));
    if !is_planned || !seen.run.stages.0.contains_key(&Stage::Read) {
        return Vec::new();
    }
    let of_reason = |reason: Reason| {
        let count = seen.run.left_out.get(&reason).copied().unwrap_or(0);
        sample([label("reason", reason.name())], count as f64)
    };
    Reason::ALL.map(of_reason).into()
}

fn of_head(seen: &Seen<'_>, value: impl FnOnce(&Head) -> Option<f64>) -> Vec<Sample> {
    let value = seen.head.and_then(value);
    value.map(|value| sample([], value)).into_iter().collect()
}

fn of_sources(seen: &Seen<'_>, value: impl Fn(&SourceState) -> Option<f64>) -> Vec<Sample> {
    let mut samples = Vec::new();
    for source in &seen.config.sources {
        let known = seen.head.and_then(|head| head.sources.get(&source.name));
        let value = known.and_then(&value);
        samples.extend(value.map(|value| sample([label("source", &source.name)], value)));
    }
    samples
}

/// The tables that were published; of others nothing is known.
fn published<'run>(seen: &'run Seen<'_>) -> impl Iterator<Item = (&'run str, &'run TableState)> {
    seen.config.tables.iter().filter_map(|table| {
        let known = seen.head?.tables.get(&table.name)?;
        (known.ledger > 0).then_some((table.name.as_str(), known))
    })
}

fn of_tables(seen: &Seen<'_>, value: impl Fn(&TableState) -> f64) -> Vec<Sample> {
    published(seen)
        .map(|(name, known)| sample([label("table", name)], value(known)))
        .collect()
}

fn domain_rows(seen: &Seen<'_>) -> Vec<Sample> {
    let of_table = |(name, known): (&str, &TableState)| -> Vec<Sample> {
        let of_domain = |(domain, count): (&String, &u64)| {
            let labels = [label("table", name), label("domain", domain)];
            sample(labels, *count as f64)
        };
        known.domains.iter().map(of_domain).collect()
    };
    published(seen).flat_map(of_table).collect()
}

/// For every table and every cause what waits; a table of which nothing waits has zeros.
fn of_holds(
    seen: &Seen<'_>,
    value: impl Fn(&str, Cause, &[&HoldState]) -> Vec<Sample>,
) -> Vec<Sample> {
    let Some(head) = seen.head else {
        return Vec::new();
    };
    let mut waiting: BTreeMap<(&str, Cause), Vec<&HoldState>> = BTreeMap::new();
    for hold in head.holds.values() {
        if hold.is_current && !hold.is_approved(seen.run.at) {
            let of_cause = waiting.entry((&hold.table, hold.cause)).or_default();
            of_cause.push(hold);
        }
    }
    let mut samples = Vec::new();
    for table in &seen.config.tables {
        for cause in Cause::ALL {
            let holds = waiting.get(&(table.name.as_str(), cause));
            samples.extend(value(&table.name, cause, holds.map_or(&[], Vec::as_slice)));
        }
    }
    samples
}

fn held(table: &str, cause: Cause) -> [(&'static str, String); 2] {
    [label("table", table), label("cause", cause.name())]
}

fn held_rows(table: &str, cause: Cause, holds: &[&HoldState]) -> Vec<Sample> {
    let sum = |change: &str, count: fn(&HoldState) -> u64| {
        let [table, cause] = held(table, cause);
        let sum: u64 = holds.iter().map(|hold| count(hold)).sum();
        sample([table, cause, label("change", change)], sum as f64)
    };
    vec![
        sum("added", |hold| hold.added_count),
        sum("removed", |hold| hold.removed_count),
    ]
}

fn hooks_owed(seen: &Seen<'_>) -> Vec<Sample> {
    let Some(head) = seen.head else {
        return Vec::new();
    };
    let of_hook = |name: &String| {
        let told_last = head.hooks.get(name).copied().unwrap_or(0);
        let is_owed = told_last < head.published;
        sample([label("hook", name)], f64::from(is_owed))
    };
    let hooks = seen.config.hooks.iter();
    hooks.map(|hook| of_hook(&hook.name)).collect()
}

fn certificates(seen: &Seen<'_>) -> Vec<Sample> {
    let labels =
        |section: &str, what: &str| [label("section", section), label("certificate", what)];
    let of_server = of_sources(seen, |known| known.certificate_ends.map(seconds));
    let of_server = of_server.into_iter().map(|found| {
        let name = found.labels.first().map_or("", |(_, name)| name.as_str());
        sample(labels(&format!("source.{name}"), "server"), found.value)
    });
    let in_files = seen.certificates.iter();
    let in_files = in_files.map(|file| sample(labels(&file.section, file.what), seconds(file.at)));
    of_server.chain(in_files).collect()
}
