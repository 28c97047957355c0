//! Judging the files of the tables: there, whole, ours, replaceable, open to Postfix.

use super::facts::{Content, Facts, FileFacts, TableFacts};
use super::{Told, error, info, not_checked, warning};

/// Types of SELinux that other services' files have; a confined daemon may read none of them.
const PRIVATE_LABELS: &[&str] = &[
    "admin_home_t",
    "default_t",
    "tmp_t",
    "unlabeled_t",
    "user_home_t",
    "user_tmp_t",
];
/// Types that the policy lets Postfix read wherever the files lie.
const READ_LABELS: &[&str] = &[
    "etc_t",
    "postfix_etc_t",
    "postfix_data_t",
    "postfix_spool_t",
];

/// Before the first run all are missing, which is one thing to say and not ten.
pub(super) fn missing(facts: &Facts<'_>) -> Vec<Told> {
    let missing: Vec<String> = files(facts)
        .filter(|file| file.content == Content::Missing)
        .map(|file| file.path.display().to_string())
        .collect();
    if missing.is_empty() {
        return Vec::new();
    }
    vec![error(
        format!("not there: {}", missing.join(", ")),
        "a Postfix that is told to ask a table which is missing answers 451 to everybody",
        "rcptsync sync".into(),
    )]
}

fn files<'facts>(facts: &'facts Facts<'_>) -> impl Iterator<Item = &'facts FileFacts> {
    facts.tables.iter().flat_map(|table| &table.files)
}

pub(super) fn content(facts: &Facts<'_>) -> Vec<Told> {
    let mut found = Vec::new();
    for file in files(facts) {
        let path = file.path.display();
        match &file.content {
            Content::Missing | Content::AsPublished => {}
            Content::NoTable(why) => found.push(error(
                format!("{path} is no table of the format {}: {why}", file.format),
                "a smtpd that opens it dies, or answers 451 to everybody",
                "rcptsync sync".into(),
            )),
            // What was published last is not known to this account.
            Content::Foreign if !matches!(facts.files.head, Some(Ok(_))) => {}
            Content::Foreign => found.push(warning(
                format!("{path} is not what rcptsync published last"),
                "somebody else writes it, too: the next run takes over what the sources know and holds the other rows",
                "rcptsync diff shows what is held; let nobody else write the file".into(),
            )),
            Content::Refused(failure) if facts.is_owner => found.push(error(
                format!("{}: {path}: {}", failure.what, failure.why),
                "the table cannot be replaced",
                failure.next.clone(),
            )),
            Content::Refused(failure) => found.push(not_checked(
                &format!("{path}: {}", failure.why),
                "this account may not look at it",
                "run doctor as the account that owns the state",
            )),
        }
    }
    found
}

pub(super) fn links(facts: &Facts<'_>) -> Vec<Told> {
    let linked = files(facts).filter_map(|file| {
        let stat = file.stat.as_ref().filter(|stat| stat.links > 1)?;
        let path = file.path.display();
        Some(error(
            format!("{path} has {} names (hard links)", stat.links),
            "what writes into the file by another name writes into the table in force; and of an LMDB table with a second name a \
             running smtpd does not notice that it was replaced, and goes on answering from the old one",
            format!(
                "find $(df --output=target {path} | tail -1) -xdev -samefile {path}; remove the other names, and keep backups as \
                 copies"
            ),
        ))
    });
    linked.collect()
}

pub(super) fn directory(facts: &Facts<'_>) -> Vec<Told> {
    let mut found: Vec<Told> = Vec::new();
    for table in facts.tables.iter().filter(|facts| facts.table.has_files()) {
        let directory = match &table.directory {
            Ok(directory) => directory,
            Err(why) => {
                let mend = format!("install -d -m 0755 {}", parent_of(table));
                found.push(if facts.is_owner {
                    error(why.clone(), "no table can be written there", mend)
                } else {
                    not_checked(
                        "the directory of a table",
                        why,
                        "run doctor as the account that owns the state",
                    )
                });
                continue;
            }
        };
        let path = directory.path.display();
        if directory.mode & 0o002 != 0 {
            found.push(error(
                format!(
                    "every account may write in {path} (mode {:04o})",
                    directory.mode
                ),
                "whoever can replace a table decides who gets mail",
                format!("chmod o-w {path}"),
            ));
        }
        if let Some(why) = &table.directory_trouble {
            found.push(error(
                format!("the account of the timer cannot make files in {path}: {why}"),
                "a table is replaced by a new file beside it",
                format!("let the owner of state_dir own {path}, too"),
            ));
        }
    }
    // Several tables may share one.
    found.dedup();
    let open = files(facts).filter_map(|file| {
        let stat = file.stat.as_ref().filter(|stat| stat.mode & 0o002 != 0)?;
        let path = file.path.display();
        // Of a link the bits mean nothing.
        (!matches!(file.content, Content::Refused(_))).then(|| {
            error(
                format!("every account may write {path} (mode {:04o})", stat.mode),
                "whoever can write a table decides who gets mail",
                format!("chmod o-w {path}, and give [table.NAME] mode = \"0644\""),
            )
        })
    });
    found.extend(open);
    found
}

fn parent_of(table: &TableFacts<'_>) -> String {
    let parent = table.table.path.parent();
    parent.map_or_else(String::new, |parent| parent.display().to_string())
}

pub(super) fn access(facts: &Facts<'_>) -> Vec<Told> {
    let Some(postfix) = facts.postfix() else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (map, opened) in &postfix.opened {
        let closed = match opened {
            Ok(None) => continue,
            Ok(Some(closed)) => closed,
            Err(why) => {
                found.push(not_checked(
                    &format!("whether the account of Postfix can open {map}"),
                    why,
                    "run doctor as root",
                ));
                continue;
            }
        };
        let (place, mend) = match &closed.closed_directory {
            Some(directory) => {
                let directory = directory.display();
                (
                    format!("{directory} is closed to it"),
                    format!("chmod o+x {directory}"),
                )
            }
            None => (
                closed.why.clone(),
                "chmod o+r the file, and set mode = \"0644\" in [table.NAME]".into(),
            ),
        };
        let what = format!("the account {} cannot open {map}: {place}", closed.account);
        let is_proxied = map.starts_with("proxy:");
        found.push(if is_proxied {
            error(what, "proxymap opens it as that account and answers 451 to everybody", mend)
        } else {
            warning(
                what,
                "smtpd opens its tables as root and does not need this; proxymap, postmap -q and a Postfix that is confined do",
                mend,
            )
        });
    }
    found
}

pub(super) fn selinux(facts: &Facts<'_>) -> Vec<Told> {
    let labelled = files(facts).filter_map(|file| {
        let label = file.label.as_ref()?;
        label_told(&file.path.display().to_string(), label)
    });
    labelled.collect()
}

fn label_told(path: &str, label: &str) -> Option<Told> {
    let kind = label.split(':').nth(2)?;
    let mend = format!("semanage fcontext -a -t postfix_etc_t '{path}'; restorecon {path}");
    if PRIVATE_LABELS.contains(&kind) {
        return Some(error(
            format!("{path} has the SELinux type {kind}"),
            "SELinux is enforcing, and Postfix may not read files of that type",
            mend,
        ));
    }
    (!READ_LABELS.contains(&kind)).then(|| {
        info(
            format!(
                "not checked: whether Postfix may read files of the SELinux type {kind} ({path})"
            ),
            "the policy of this machine decides; ausearch -m AVC -c smtpd shows what it refused",
            mend,
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::*;

    #[track_caller]
    fn check(label: &str, expected: Option<Severity>) {
        let found = label_told("/x", label).map(|told| told.severity);
        assert_eq!(found, expected, "{label}");
    }

    #[test]
    fn labels_are_of_three_kinds() {
        check("system_u:object_r:postfix_etc_t:s0", None);
        check("unconfined_u:object_r:user_tmp_t:s0", Some(Severity::Error));
        check("system_u:object_r:var_lib_t:s0", Some(Severity::Info));
        check("no label", None);
    }
}
