//! Who could put another file in the place of one: whoever owns it or may write it, and the same of every directory and
//! link on the way to it from the root.
//!
//! Root and the account of this process are trusted; whoever can replace what they read can make them do things. In a
//! directory with the sticky bit a name belongs to its owner (as in /tmp), so such a directory is open to nobody; bits of a
//! group that is root's or the owner's own are those of no other account. What is made of it is decided elsewhere
//! (`check::files`), except for what no run puts up with ([`refused`]).
//!
//! [`open_directory`] goes the same way by open directories, so that nobody changes it meanwhile, and follows the links of
//! trusted accounts alone.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::fs::Metadata;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};

use crate::error::Failure;
use crate::exit::Exit;

const STICKY: u32 = 0o1000;
const OF_GROUP: u32 = 0o020;
const OF_OTHERS: u32 = 0o002;

/// As in the kernel: more links than these go round in a circle.
const LINKS_MAX: usize = 40;

const ACCESS_LIST: &str = "system.posix_acl_access";

/// Somebody else who could put another file in the place of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hand {
    /// Where: the file itself, or a directory or link above it.
    pub place: PathBuf,
    /// Its permission bits.
    pub mode: u32,
    /// Who.
    pub who: Who,
}

/// Who somebody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Every account may write there.
    Everybody,
    /// It belongs to this account.
    Owner(u32),
    /// Accounts of this group may write there.
    Group(u32),
    /// Accounts that an access control list names, or groups, may write there.
    Listed,
}

impl Hand {
    /// What takes it away.
    pub fn mend(&self) -> String {
        let place = self.place.display();
        match self.who {
            Who::Everybody => format!("chmod o-w {place}"),
            Who::Owner(_) => format!("chown -h root {place}"),
            Who::Group(_) => format!("chmod g-w {place}"),
            Who::Listed => format!("setfacl -b {place}"),
        }
    }
}

/// `every account may write /x (mode 0666)`
impl fmt::Display for Hand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (place, mode) = (self.place.display(), self.mode);
        match self.who {
            Who::Everybody => write!(f, "every account may write {place} (mode {mode:04o})"),
            Who::Owner(account) => write!(f, "{place} belongs to the account {account}"),
            Who::Group(group) => write!(
                f,
                "accounts of the group {group} may write {place} (mode {mode:04o})"
            ),
            Who::Listed => write!(
                f,
                "accounts that its access control list names may write {place} (getfacl shows them)"
            ),
        }
    }
}

/// The accounts that this process trusts: root's and its own.
pub fn trusted() -> Vec<u32> {
    let mut accounts = vec![0, rustix::process::geteuid().as_raw()];
    accounts.extend(unmapped_account());
    accounts
}

/// Everybody who could put another file in the place of `path`, other than the trusted accounts. What is not there, or may
/// not be looked at, ends the way.
pub fn hands_on(path: &Path, trusted: &[u32]) -> Vec<Hand> {
    let (mut above, end) = ways(path, trusted);
    above.extend(end);
    above.dedup();
    above
}

/// The same, on the way to it and at its end.
fn ways(path: &Path, trusted: &[u32]) -> (Vec<Hand>, Option<Hand>) {
    let (mut hands, mut end) = (Vec::new(), None);
    let Ok(absolute) = std::path::absolute(path) else {
        return (hands, end);
    };
    let (mut waiting, mut here) = (parts(&absolute), PathBuf::from("/"));
    let mut links_count = 0;
    let Ok(mut above) = here.symlink_metadata() else {
        return (hands, end);
    };
    hands.extend(hand(&here, &above, trusted));
    while let Some(name) = waiting.pop_front() {
        here.push(&name);
        let Ok(found) = here.symlink_metadata() else {
            break;
        };
        if found.is_symlink() {
            links_count += 1;
            // Elsewhere whoever may change a link may write in its directory, which is told already.
            if above.mode() & STICKY != 0 && !trusted.contains(&found.uid()) {
                hands.extend(hand(&here, &found, trusted));
            }
            let Ok(target) = here.read_link() else { break };
            here = match target.is_absolute() {
                true => PathBuf::from("/"),
                false => here.parent().unwrap_or(Path::new("/")).to_owned(),
            };
            waiting = parts(&target).into_iter().chain(waiting).collect();
            if links_count > LINKS_MAX {
                break;
            }
        } else if name == ".." {
            here.pop();
            here.pop();
        } else if waiting.is_empty() {
            end = hand(&here, &found, trusted);
        } else {
            hands.extend(hand(&here, &found, trusted));
        }
        let Ok(now) = here.symlink_metadata() else {
            break;
        };
        above = now;
    }
    (hands, end)
}

/// Who makes this process refuse to use a file: where every account may change it; and where root would do what another
/// account says.
pub fn refused(path: &Path) -> Option<Hand> {
    hands_on(path, &trusted()).into_iter().find(is_refused)
}

/// The same for the way to it, where its end is judged otherwise.
pub fn refused_above(path: &Path) -> Option<Hand> {
    let (above, _) = ways(path, &trusted());
    above.into_iter().find(is_refused)
}

fn is_refused(hand: &Hand) -> bool {
    match hand.who {
        Who::Everybody => true,
        Who::Owner(_) => rustix::process::geteuid().is_root(),
        Who::Group(_) | Who::Listed => false,
    }
}

/// The failure for a file that is refused.
pub fn refusal(what: &str, path: &Path, hand: &Hand) -> Box<Failure> {
    let place = hand.place.display();
    Box::new(Failure {
        exit: Exit::Configuration,
        what: what.into(),
        place: path.display().to_string(),
        why: format!("{hand}, who could put another in its place"),
        in_force: Failure::NOTHING_TOUCHED.into(),
        next: match hand.who {
            Who::Owner(account) => {
                format!(
                    "{}, or run it as the account {account} and not as root",
                    hand.mend()
                )
            }
            Who::Everybody | Who::Group(_) | Who::Listed => {
                format!(
                    "{}, after a look at who has written to {place}",
                    hand.mend()
                )
            }
        },
    })
}

/// Opens a directory. A link on the way is followed where it belongs to a trusted account, whatever happens to it meanwhile.
pub fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let on_the_way = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = || rustix::fs::open("/", on_the_way | OFlags::DIRECTORY, Mode::empty());
    let trusted = trusted();
    let mut waiting = parts(&std::path::absolute(path)?);
    let (mut directory, mut links_count) = (root()?, 0);
    while let Some(name) = waiting.pop_front() {
        let next = rustix::fs::openat(&directory, &name, on_the_way, Mode::empty())?;
        let found = rustix::fs::fstat(&next)?;
        if FileType::from_raw_mode(found.st_mode) != FileType::Symlink {
            directory = next;
            continue;
        }
        links_count += 1;
        if links_count > LINKS_MAX {
            return Err(rustix::io::Errno::LOOP.into());
        }
        if !trusted.contains(&found.st_uid) {
            let (name, account) = (name.display(), found.st_uid);
            let why = format!(
                "{name} on the way to it is a symbolic link of the account {account}, which is not followed"
            );
            return Err(io::Error::other(why));
        }
        let target = rustix::fs::readlinkat(&next, "", Vec::new())?.into_bytes();
        let target = PathBuf::from(OsString::from_vec(target));
        if target.is_absolute() {
            directory = root()?;
        }
        waiting = parts(&target).into_iter().chain(waiting).collect();
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(&directory, ".", flags, Mode::empty())?)
}

/// The names of a path, one after the other.
fn parts(path: &Path) -> VecDeque<OsString> {
    let named = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(named).collect()
}

/// Who else may write what was found there.
fn hand(place: &Path, found: &Metadata, trusted: &[u32]) -> Option<Hand> {
    let mode = found.mode() & 0o7777;
    let is_sticky = found.is_dir() && mode & STICKY != 0;
    let is_of_trusted_group = found.gid() == 0 || found.gid() == found.uid();
    let who = if !trusted.contains(&found.uid()) {
        Who::Owner(found.uid())
    } else if found.is_symlink() || is_sticky {
        return None;
    } else if mode & OF_OTHERS != 0 {
        Who::Everybody
    } else if mode & OF_GROUP != 0 && has_access_list(place) {
        // The bits of the group are the most that the list gives to anybody.
        Who::Listed
    } else if mode & OF_GROUP != 0 && !is_of_trusted_group {
        Who::Group(found.gid())
    } else {
        return None;
    };
    Some(Hand {
        place: place.to_owned(),
        mode,
        who,
    })
}

/// Whether an access control list says more of a file than its permission bits.
pub fn has_access_list(path: &Path) -> bool {
    // Its length does not matter: one that is longer than this is there, too.
    let found = rustix::fs::lgetxattr(path, ACCESS_LIST, &mut [0_u8; 64][..]);
    matches!(found, Ok(_) | Err(rustix::io::Errno::RANGE))
}

/// In a namespace that maps a few accounts alone, the files of all others, root's among them, seem to belong to this one.
fn unmapped_account() -> Option<u32> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let mapped = read("/proc/self/uid_map")?;
    let is_whole = mapped.split_whitespace().eq(["0", "0", "4294967295"]);
    match is_whole {
        true => None,
        false => read("/proc/sys/kernel/overflowuid")?.trim().parse().ok(),
    }
}
