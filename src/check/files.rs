//! Judging this program's own files: configuration, secrets, state, hooks, room.

use std::collections::BTreeMap;
use std::path::Path;

use super::facts::{Exposed, Facts, Purpose, SecretOutcome};
use super::{Severity, Told, error, info, not_checked, some_of, told, warning};
use crate::owners::Who;
use crate::report::number;

pub(super) fn configuration(facts: &Facts<'_>) -> Vec<Told> {
    let files = &facts.files;
    let mut found: Vec<Told> = (files.configuration_hands.iter())
        .map(|hand| {
            let severity = severity(facts, hand.who);
            let why = "whoever changes the configuration names the programs that run as hooks, and the domains that are accepted";
            told(severity, hand.to_string(), why, hand.mend())
        })
        .collect();
    match (&files.configuration, files.owner) {
        (Ok(stat), Some(owner)) if stat.is_closed_to(owner) => {
            let path = stat.path.display();
            found.push(error(
                format!(
                    "the account that owns the state cannot read {path} (mode {:04o})",
                    stat.mode
                ),
                "the timer runs as that account, and every run ends with 77",
                format!("chmod 0644 {path}: it holds no secret"),
            ));
        }
        (Ok(_), _) => {}
        (Err(why), _) => found.push(not_checked("who may write the configuration", why, "")),
    }
    found
}

/// How much it matters who else can replace something: what root does for another account is that account's.
fn severity(facts: &Facts<'_>, who: Who) -> Severity {
    let is_run_by_root = facts.files.owner.map_or(facts.is_root, |owner| owner == 0);
    match who {
        Who::Everybody => Severity::Error,
        Who::Owner(_) if is_run_by_root => Severity::Error,
        Who::Owner(_) | Who::Group(_) | Who::Listed => Severity::Warning,
    }
}

/// One finding a place, however much lies below it.
pub(super) fn replaceable(facts: &Facts<'_>) -> Vec<Told> {
    let mut places: BTreeMap<(&Path, String), Vec<&Exposed>> = BTreeMap::new();
    let is_told = |exposed: &&Exposed| facts.files.configuration_hands.contains(&exposed.hand);
    for exposed in facts
        .files
        .exposed
        .iter()
        .filter(|exposed| !is_told(exposed))
    {
        let place = (exposed.hand.place.as_path(), exposed.hand.to_string());
        places.entry(place).or_default().push(exposed);
    }
    let tell = |((place, what), mut exposed): ((&Path, String), Vec<&Exposed>)| {
        exposed.sort_by_key(|exposed| exposed.purpose);
        let first = exposed.first()?;
        let mut below: Vec<String> = (exposed.iter())
            .filter(|exposed| exposed.path != place)
            .map(|exposed| exposed.path.display().to_string())
            .collect();
        below.dedup();
        let above = match below.is_empty() {
            true => String::new(),
            false => format!(", on the way to {}", some_of(&below)),
        };
        // In the directory of another account nothing leads out of it, and its tables are that account's anyway.
        let is_of_table = first.purpose == Purpose::Table;
        let severity = match matches!(first.hand.who, Who::Owner(_)) && is_of_table {
            true => Severity::Warning,
            false => severity(facts, first.hand.who),
        };
        Some(told(
            severity,
            format!("{what}{above}"),
            why(first.purpose),
            first.hand.mend(),
        ))
    };
    places.into_iter().filter_map(tell).collect()
}

fn why(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Program => {
            "whoever can replace a program that is run has all that the account of the timer has"
        }
        Purpose::Secret => "whoever can replace a secret chooses as whom the directory is asked",
        Purpose::Certificates => {
            "whoever can replace the trusted certificates can answer in place of every server"
        }
        Purpose::Template => "whoever can replace a template decides what the mail system reads",
        Purpose::State => {
            "whoever can put another state in its place decides what counts as published, and where runs write"
        }
        Purpose::Source => "whoever can replace the file of a source decides who gets mail",
        Purpose::Table => "whoever can replace a table decides who gets mail",
    }
}

pub(super) fn secrets(facts: &Facts<'_>) -> Vec<Told> {
    let mut found = Vec::new();
    for secret in &facts.files.secrets {
        let source = &secret.source;
        match &secret.outcome {
            SecretOutcome::Good => {}
            SecretOutcome::WrittenByGroup(path) => found.push(warning(
                format!("source {source}: accounts of its group may replace {}", path.display()),
                "a secret that somebody else can replace lets them choose as whom the directory is asked",
                format!("chmod g-w {}", path.display()),
            )),
            SecretOutcome::ReadByGroup(path, group) => found.push(warning(
                match group {
                    Some(group) => format!(
                        "source {source}: accounts of the group {group} may read {}",
                        path.display()
                    ),
                    None => format!(
                        "source {source}: accounts that an access control list names may read {}",
                        path.display()
                    ),
                },
                "a secret is for the account of the timer alone; its group is one that others may be in",
                match group {
                    Some(_) => format!("chmod g-r {}", path.display()),
                    None => format!("setfacl -b {}", path.display()),
                },
            )),
            SecretOutcome::ClosedToOwner(path) => found.push(error(
                format!(
                    "source {source}: the account that owns the state cannot read {}",
                    path.display()
                ),
                "the timer runs as that account, and without the secret it cannot ask the directory",
                format!("chown it to that account, or hand it over as a systemd credential: credential = \"NAME\" in [source.{source}.bind]"),
            )),
            SecretOutcome::Bad(why) => found.push(error(
                format!("source {source}: its secret cannot be used: {why}"),
                "without it the directory cannot be asked, and the recipients stay as they were",
                format!("mend the file that [source.{source}.bind] names: owned by the account of the timer, mode 0600"),
            )),
            SecretOutcome::Denied(why) => found.push(not_checked(
                &format!("source {source}, because this account does not read its secret"),
                why,
                "run doctor as the account of the timer",
            )),
            SecretOutcome::Credential(name) => found.push(not_checked(
                &format!("source {source}, because its secret is a systemd credential"),
                "this process was not started by the unit that hands it over",
                &format!(
                    "systemd-run --pty --uid=rcptsync -p LoadCredential={name}:/etc/rcptsync/{name} rcptsync doctor"
                ),
            )),
        }
    }
    found
}

pub(super) fn state(facts: &Facts<'_>) -> Vec<Told> {
    let mut found = Vec::new();
    match &facts.files.state {
        Some(Ok(stat)) if stat.mode & 0o077 != 0 => {
            let path = stat.path.display();
            found.push(warning(
                format!(
                    "the state directory {path} is open to other accounts (mode {:04o})",
                    stat.mode
                ),
                "it holds what the directory says of every recipient",
                format!("chmod 0700 {path}"),
            ));
        }
        Some(Err(why)) => found.push(not_checked("who may read the state", why, "")),
        Some(Ok(_)) | None => {}
    }
    match &facts.files.head {
        Some(Err(failure)) => found.push(error(
            format!("{}: {}", failure.what, failure.why),
            "no run gets further than this, so the tables stay as they are",
            failure.next.clone(),
        )),
        None => found.push(not_checked(
            "what the last runs left behind",
            "this account may not read the state directory",
            "run doctor as the account that owns it, or as root",
        )),
        Some(Ok(_)) => {}
    }
    found
}

pub(super) fn disk_space(facts: &Facts<'_>) -> Vec<Told> {
    // A table of a few rows becomes one of a few thousand in one run.
    const ALWAYS_NEEDED: u64 = 1024 * 1024;
    let spaces = facts.files.space.iter();
    let tight = spaces.filter(|space| space.available < space.needed.max(ALWAYS_NEEDED));
    tight
        .map(|space| {
            error(
                format!(
                    "the file system of {} has {} KiB free",
                    space.path.display(),
                    number(space.available / 1024)
                ),
                "a table is written beside the one in force before it replaces it, and so is the state: there must be room \
                 for a second copy of both",
                format!("make room for {} KiB there", number(space.needed.max(ALWAYS_NEEDED) / 1024)),
            )
        })
        .collect()
}

pub(super) fn hooks(facts: &Facts<'_>) -> Vec<Told> {
    let failing = facts.files.hooks.iter().filter_map(|hook| {
        let why = hook.trouble.as_ref()?;
        let what = format!("hook {} cannot be run ({}): {why}", hook.name, hook.command);
        Some(if facts.is_owner {
            error(
                what,
                "it is owed as soon as it is to run, and every run ends with 69 until it has succeeded",
                "name a program that exists and that this account may execute, or take the hook out".into(),
            )
        } else {
            info(
                format!("not checked: {what}"),
                "the account of the timer may be allowed to",
                "run doctor as the account that owns the state".into(),
            )
        })
    });
    failing.collect()
}

pub(super) fn metrics(facts: &Facts<'_>) -> Vec<Told> {
    let (Some(metrics), Some(why)) = (&facts.config.metrics, &facts.files.metrics_trouble) else {
        return Vec::new();
    };
    let path = metrics.textfile.display();
    vec![warning(
        format!("the metrics {path} cannot be written: {why}"),
        "runs go on, but nothing tells Prometheus of them, and the alert for a missing run fires",
        "give it a directory of the account of the timer: install -d -m 0755 -o rcptsync -g rcptsync \
         /var/lib/rcptsync/metrics"
            .into(),
    )]
}
