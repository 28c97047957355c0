//! Judging the sources: whether they can be read, whether every server answers, clocks, and how old what they said is.

use std::time::Duration;

use super::facts::Facts;
use super::{Told, error, not_checked, warning};
use crate::error::Failure;
use crate::time::rough;

/// Kerberos refuses at five minutes, and so does what follows from times that are compared.
const SKEW_MAX_SECONDS: u64 = 300;
/// As `status` takes it for critical.
const AGE_MAX: Duration = Duration::from_secs(86_400);

pub(super) fn sources(facts: &Facts<'_>) -> Vec<Told> {
    let mut found = Vec::new();
    for source in &facts.sources {
        match &source.reading {
            Some(Err(failure)) => found.push(error(
                what_failed(failure),
                "a source that cannot be read keeps its recipients as they were: nobody comes and nobody goes",
                failure.next.clone(),
            )),
            Some(Ok(read)) if read.records_count == 0 => found.push(error(
                format!(
                    "source {}: {} answers success with nothing",
                    source.name, read.answered_by
                ),
                "the account may see no address, or base and filter match nobody; its removals are held",
                format!("look at base, filter and account of [source.{}]", source.name),
            )),
            // Told where secrets are.
            Some(Ok(_)) | None => {}
        }
    }
    found
}

fn what_failed(failure: &Failure) -> String {
    let place = if failure.place.is_empty() {
        String::new()
    } else {
        format!(" ({})", failure.place)
    };
    let why = failure.why.lines().collect::<Vec<_>>().join("; ");
    format!("{}{place}: {why}", failure.what)
}

pub(super) fn servers(facts: &Facts<'_>) -> Vec<Told> {
    let mut found = Vec::new();
    for source in &facts.sources {
        let is_read = matches!(source.reading, Some(Ok(_)));
        match &source.servers {
            Some(Ok(seen)) if is_read => {
                let failed = seen.servers.iter().filter_map(|server| server.clock.as_ref().err());
                found.extend(failed.map(|failure| {
                    warning(
                        what_failed(failure),
                        "another server answers now; when that one fails, this one is needed",
                        failure.next.clone(),
                    )
                }));
            }
            Some(Err(failure)) if is_read => {
                found.push(warning(what_failed(failure), "the read before it succeeded", failure.next.clone()));
            }
            // What is wrong is told where sources are.
            Some(_) => {}
            None if source.is_directory && matches!(source.reading, Some(Err(_))) => found.push(not_checked(
                &format!("source {}: its other servers", source.name),
                "the read was refused, and a password that is wrong is not tried on one server after the other",
                "",
            )),
            None => {}
        }
    }
    found
}

pub(super) fn clock(facts: &Facts<'_>) -> Vec<Told> {
    let mut found = Vec::new();
    for (server, seconds) in facts.sources.iter().flat_map(|source| &source.clocks) {
        if seconds.unsigned_abs() > SKEW_MAX_SECONDS {
            let direction = if *seconds > 0 { "behind" } else { "ahead of" };
            found.push(warning(
                format!(
                    "the clock of this machine is {} {direction} that of {server}",
                    rough(Duration::from_secs(seconds.unsigned_abs()))
                ),
                "Kerberos and certificates go by it, and so do grace, holds and the age of what is known",
                "let both follow the same time: chronyc tracking, timedatectl status".into(),
            ));
        }
    }
    let Some(Ok(head)) = &facts.files.head else {
        return found;
    };
    let slack = facts.now.after(Duration::from_secs(SKEW_MAX_SECONDS));
    let times = head.sources.iter().filter_map(|(name, known)| {
        let at = known.current_at.max(known.complete_at)?;
        (at > slack).then_some((name, at))
    });
    found.extend(times.map(|(name, at)| {
        warning(
            format!("source {name} was read last at {at}, which is in the future"),
            "the clock ran ahead then, or runs behind now: until that time comes, ages are told as nothing",
            "set the clock right; the next complete read mends the record".into(),
        )
    }));
    found
}

pub(super) fn last_read(facts: &Facts<'_>) -> Vec<Told> {
    let Some(Ok(head)) = &facts.files.head else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (name, known) in &head.sources {
        let Some(at) = known.current_at else {
            continue;
        };
        let age = facts.now.since(at);
        if age > AGE_MAX {
            found.push(warning(
                format!("source {name} was read last {} ago, at {at}", rough(age)),
                "who came since then is refused",
                "see whether the timer runs: systemctl list-timers rcptsync.timer; rcptsync status"
                    .into(),
            ));
        }
    }
    found
}
