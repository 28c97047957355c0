//! Looking at this program's own files: configuration, secrets, state, hooks, tables, and the room they have.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use super::exposed;
use crate::check::facts::{
    Content, FileFacts, Files, HookFacts, SecretFacts, SecretOutcome, Seen, Space, Stat, TableFacts,
};
use crate::config::secret::{SecretError, SecretPlace};
use crate::config::{Bind, Config, Hook, SourceKind, Table};
use crate::fold::Folding;
use crate::metrics::textfile::TextfileError;
use crate::owners;
use crate::publish::on_disk;
use crate::state::State;
use crate::state::head::Head;

/// Where the kernel says whether labels are enforced.
const SELINUX_ENFORCED: &str = "/sys/fs/selinux/enforce";
const LABEL_ATTRIBUTE: &str = "security.selinux";
/// A directory tree is not counted further down than this; the state has three levels.
const DEPTH_MAX: usize = 6;

pub(super) fn gather(config: &Config, state: &State) -> Files {
    let state_stat = match config.state_dir.metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        _ => Some(stat(&config.state_dir)),
    };
    let head = match state.head() {
        Err(failure) if failure.exit == crate::exit::Exit::Permission => None,
        head => Some(head.map_err(|failure| *failure)),
    };
    Files {
        owner: owner(config),
        configuration: stat(&config.path),
        configuration_hands: owners::hands_on(&config.path, &trusted(config)),
        exposed: exposed::exposed(config, &trusted(config)),
        state: state_stat,
        head,
        secrets: secrets(config),
        hooks: config.all_hooks().map(hook).collect(),
        metrics_trouble: (config.metrics.as_ref())
            .and_then(|metrics| textfile_trouble(&metrics.textfile, owner(config))),
        space: space(config),
    }
}

/// Who owns the state, and so runs `sync`.
pub(super) fn owner(config: &Config) -> Option<u32> {
    let metadata = config.state_dir.metadata().ok()?;
    Some(metadata.uid())
}

/// Who may replace what a run reads: root and the account that runs it.
fn trusted(config: &Config) -> Vec<u32> {
    let mut accounts = owners::trusted();
    // Root may look where somebody else runs the timer.
    accounts.extend(owner(config));
    accounts
}

fn stat(path: &Path) -> Seen<Stat> {
    let metadata = path
        .metadata()
        .map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(stat_of(path, &metadata))
}

fn stat_of(path: &Path, metadata: &std::fs::Metadata) -> Stat {
    Stat {
        path: path.to_owned(),
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        links: metadata.nlink(),
    }
}

fn secrets(config: &Config) -> Vec<SecretFacts> {
    let owner = owner(config);
    let mut found = Vec::new();
    for source in &config.sources {
        let SourceKind::Ldap(ldap) = &source.kind else {
            continue;
        };
        let (place, error) = match &ldap.bind {
            Bind::Anonymous => continue,
            Bind::Simple { password, .. } => (password, password.read().err()),
            Bind::External { key, .. } => (key, key.read_file().err()),
            Bind::Gssapi { keytab, .. } => (keytab, keytab.read_file().err()),
        };
        found.push(SecretFacts {
            source: source.name.clone(),
            outcome: outcome(place, error, owner),
        });
    }
    found
}

fn outcome(place: &SecretPlace, error: Option<SecretError>, owner: Option<u32>) -> SecretOutcome {
    let account = rustix::process::geteuid().as_raw();
    let is_owner = owner.is_none_or(|owner| account == owner);
    let Some(error) = error else {
        return good_outcome(place, owner);
    };
    if let SecretError::NoCredentials { name } = &error {
        return SecretOutcome::Credential(name.clone());
    }
    let is_denied = match &error {
        SecretError::Unreadable { error, .. } => error.kind() == ErrorKind::PermissionDenied,
        // Root alone follows none.
        SecretError::Link { .. } => true,
        SecretError::ReadByOthers { .. }
        | SecretError::Empty { .. }
        | SecretError::NotText { .. }
        | SecretError::TooLong { .. }
        | SecretError::NoCredentials { .. } => false,
    };
    if is_denied && !is_owner {
        return SecretOutcome::Denied(error.to_string());
    }
    SecretOutcome::Bad(error.to_string())
}

/// Of a secret that could be read.
fn good_outcome(place: &SecretPlace, owner: Option<u32>) -> SecretOutcome {
    let SecretPlace::File(path) = place else {
        return SecretOutcome::Good;
    };
    match stat(path) {
        Ok(found) if owner.is_some_and(|owner| found.is_closed_to(owner)) => {
            SecretOutcome::ClosedToOwner(path.clone())
        }
        Ok(found) if found.mode & 0o020 != 0 => SecretOutcome::WrittenByGroup(path.clone()),
        Ok(found) if found.mode & 0o040 != 0 && owners::has_access_list(path) => {
            SecretOutcome::ReadByGroup(path.clone(), None)
        }
        Ok(found) if found.mode & 0o040 != 0 && !is_own_group(found.gid, owner) => {
            SecretOutcome::ReadByGroup(path.clone(), Some(found.gid))
        }
        Ok(_) | Err(_) => SecretOutcome::Good,
    }
}

/// Whether it is the group of root or the first one of the account of the timer.
fn is_own_group(group: u32, owner: Option<u32>) -> bool {
    let owner = owner.unwrap_or(rustix::process::geteuid().as_raw());
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let is_of_owner = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        fields.get(2) == Some(&owner.to_string().as_str())
            && fields.get(3) == Some(&group.to_string().as_str())
    };
    group == 0 || accounts.lines().any(is_of_owner)
}

fn hook(hook: &Hook) -> HookFacts {
    let words = [hook.program.display().to_string()].into_iter();
    HookFacts {
        name: hook.name.clone(),
        command: words
            .chain(hook.arguments.iter().cloned())
            .collect::<Vec<_>>()
            .join(" "),
        trouble: hook_trouble(&hook.program),
    }
}

fn hook_trouble(program: &Path) -> Option<String> {
    let metadata = match program.metadata() {
        Ok(metadata) => metadata,
        Err(error) => return Some(error.to_string()),
    };
    if !metadata.is_file() {
        return Some("it is not a file".into());
    }
    rustix::fs::access(program, Access::EXEC_OK)
        .err()
        .map(|error| format!("it cannot be executed: {}", std::io::Error::from(error)))
}

/// What `metrics::textfile` would refuse, or the system.
fn textfile_trouble(path: &Path, owner: Option<u32>) -> Option<String> {
    let directory = match stat(parent_of(path)) {
        Ok(directory) => directory,
        Err(why) => return Some(why),
    };
    let metadata = path.symlink_metadata();
    if metadata.is_ok_and(|found| !found.is_file()) {
        return Some(TextfileError::NotAFile.to_string());
    }
    if directory.mode & 0o002 != 0 {
        return Some(TextfileError::OpenDirectory.to_string());
    }
    trouble_with(&directory, owner)
}

/// Per file system, the room that a second copy of the tables and of the state takes.
fn space(config: &Config) -> Vec<Space> {
    let mut systems: BTreeMap<u64, Space> = BTreeMap::new();
    let mut add = |directory: &Path, needed: u64| {
        let (Ok(metadata), Ok(system)) = (directory.metadata(), rustix::fs::statvfs(directory))
        else {
            return;
        };
        let known = systems.entry(metadata.dev()).or_insert_with(|| Space {
            path: directory.to_owned(),
            needed: 0,
            available: system.f_bavail.saturating_mul(system.f_frsize),
        });
        known.needed += needed;
    };
    for table in &config.tables {
        let files = table.formats.iter().map(|format| table.file(*format));
        let size = |file: PathBuf| file.metadata().map_or(0, |metadata| metadata.size());
        add(parent_of(&table.path), files.map(size).sum());
    }
    add(&config.state_dir, size_below(&config.state_dir, 0));
    systems.into_values().collect()
}

/// Octets of all files below a directory; no link is followed.
fn size_below(directory: &Path, depth: usize) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return 0;
    };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() && depth < DEPTH_MAX => {
            size_below(&entry.path(), depth + 1)
        }
        Ok(metadata) if metadata.is_file() => metadata.size(),
        Ok(_) | Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

fn parent_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// Looks at all tables of the configuration.
pub(super) fn tables<'run>(config: &'run Config, head: Option<&Head>) -> Vec<TableFacts<'run>> {
    let is_enforced =
        std::fs::read_to_string(SELINUX_ENFORCED).is_ok_and(|enforced| enforced.trim() == "1");
    let owner = owner(config);
    let of_table = |table: &'run Table| {
        let directory = stat(parent_of(&table.path));
        TableFacts {
            table,
            files: files_of(table, head, is_enforced),
            directory_trouble: directory
                .as_ref()
                .ok()
                .and_then(|directory| trouble_with(directory, owner)),
            directory,
        }
    };
    config.tables.iter().map(of_table).collect()
}

fn files_of(table: &Table, head: Option<&Head>, is_enforced: bool) -> Vec<FileFacts> {
    let known = head.and_then(|head| head.tables.get(&table.name));
    let pending = head.map_or(&[][..], |head| &head.pending);
    let mut files = Vec::new();
    for format in &table.formats {
        // One by one: a file that cannot be looked at hides no other.
        let mut alone = table.clone();
        alone.formats = vec![*format];
        let path = table.file(*format);
        let content = match on_disk::look(&alone, known, pending, Folding::Unicode) {
            Ok(found) => match found.into_iter().next().map(|file| file.content) {
                None | Some(on_disk::Content::Missing) => Content::Missing,
                Some(on_disk::Content::AsPublished(_)) => Content::AsPublished,
                Some(on_disk::Content::Foreign(..) | on_disk::Content::Unread(_)) => {
                    Content::Foreign
                }
                Some(on_disk::Content::NoTable(_, why)) => Content::NoTable(why),
            },
            Err(failure) => Content::Refused(failure),
        };
        let metadata = path.symlink_metadata().ok();
        files.push(FileFacts {
            format: format.name(),
            content,
            stat: metadata.map(|metadata| stat_of(&path, &metadata)),
            label: is_enforced.then(|| label(&path)).flatten(),
            path,
        });
    }
    files
}

fn label(path: &Path) -> Option<String> {
    let mut octets = [0_u8; 256];
    let length = rustix::fs::lgetxattr(path, LABEL_ATTRIBUTE, &mut octets).ok()?;
    let text = String::from_utf8_lossy(octets.get(..length)?);
    Some(text.trim_end_matches('\0').to_owned())
}

/// Why the account of the timer cannot make files in a directory. Where this process is of another account, the mode bits
/// must do.
fn trouble_with(directory: &Stat, owner: Option<u32>) -> Option<String> {
    let account = rustix::process::geteuid();
    let owner = owner.unwrap_or(account.as_raw());
    if account.as_raw() == owner {
        let access = rustix::fs::access(&directory.path, Access::WRITE_OK | Access::EXEC_OK);
        return access
            .err()
            .map(|error| std::io::Error::from(error).to_string());
    }
    // Its groups are not known here, so only what no group can mend is told.
    let is_open = owner == 0
        || (directory.uid == owner && directory.mode & 0o300 == 0o300)
        || (directory.uid != owner && directory.mode & 0o033 != 0 && directory.mode & 0o022 != 0);
    (!is_open).then(|| {
        format!(
            "it belongs to {} with mode {:04o}",
            directory.uid, directory.mode
        )
    })
}
