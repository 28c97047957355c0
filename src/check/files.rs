//! Judging this program's own files: configuration, secrets, state, hooks, room.

use super::facts::{Facts, SecretOutcome, Stat};
use super::{Told, error, info, not_checked, warning};
use crate::report::number;

const WRITTEN_BY_OTHERS: u32 = 0o002;
const STICKY: u32 = 0o1000;

pub(super) fn configuration(facts: &Facts<'_>) -> Vec<Told> {
    let is_open = |stat: &Stat| stat.mode & WRITTEN_BY_OTHERS != 0 && stat.mode & STICKY == 0;
    let tell = |stat: &Stat| {
        let path = stat.path.display();
        error(
            format!("every account may write {path} (mode {:04o})", stat.mode),
            "whoever changes the configuration names the programs that run as hooks, and the domains that are accepted",
            format!("chmod o-w {path}"),
        )
    };
    let mut found = Vec::new();
    for seen in &facts.files.configuration {
        match seen {
            Ok(stat) if is_open(stat) => found.push(tell(stat)),
            Ok(_) => {}
            Err(why) => found.push(not_checked("who may write the configuration", why, "")),
        }
    }
    let configuration = facts.files.configuration.first();
    if let (Some(Ok(stat)), Some(owner)) = (configuration, facts.files.owner)
        && stat.is_closed_to(owner)
    {
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
    found
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
