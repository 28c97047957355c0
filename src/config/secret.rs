//! Passwords, keys and keytabs: where they stand, and how they are read.
//!
//! A secret comes from a file that others cannot read or from a systemd credential, never from the configuration, the
//! command line or the environment. It is read when it is needed and forgotten afterwards. [`Secret`] and
//! [`SecretFile`] have no `Display` and no `Serialize`, and their `Debug` shows nothing.

use std::fmt;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::regular;

/// Where a password, a key or a keytab stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretPlace {
    /// A file of its own.
    File(PathBuf),
    /// A name below `$CREDENTIALS_DIRECTORY` (systemd `LoadCredential=`).
    Credential(String),
}

/// A password in memory.
pub struct Secret(String);

/// A private key or a keytab in memory.
pub struct SecretFile(Vec<u8>);

/// Why a secret could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Not there, or no permission.
    #[error("{path}: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// Everybody on the machine may read it.
    #[error(
        "{path} can be read by every account on this machine (mode {mode:04o}); `chmod o= {path}` mends that"
    )]
    ReadByOthers {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A bind with an empty password is an anonymous bind that reports success (RFC 4513 section 5.1.2).
    #[error("{path} holds no password: its first line is empty")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Binary, or far too long.
    #[error(
        "{path} is not a password file: its first line is not UTF-8 text of at most {SECRET_OCTETS_MAX} octets"
    )]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// Root follows no link to a secret.
    #[error(
        "{path} is a symbolic link, which root does not follow to a secret; name the file itself"
    )]
    Link {
        /// The link.
        path: PathBuf,
    },
    /// Far too long for a key or a keytab.
    #[error(
        "{path} is longer than the {SECRET_FILE_OCTETS_MAX} octets that a key or a keytab may have"
    )]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// `credential = …` outside a unit.
    #[error(
        "credential {name}: this process has no systemd credentials (CREDENTIALS_DIRECTORY is not set)"
    )]
    NoCredentials {
        /// The credential's name.
        name: String,
    },
}

const SECRET_OCTETS_MAX: u64 = 4096;

/// A key file or a keytab is a few kilobytes.
const SECRET_FILE_OCTETS_MAX: u64 = 256 * 1024;

impl SecretPlace {
    /// Reads a password: the first line, without its line end.
    pub fn read(&self) -> Result<Secret, SecretError> {
        let (path, bytes) = self.read_octets(SECRET_OCTETS_MAX)?;
        let Some(bytes) = bytes else {
            return Err(SecretError::NotText { path });
        };
        let text =
            String::from_utf8(bytes).map_err(|_| SecretError::NotText { path: path.clone() })?;
        match text.lines().next() {
            None | Some("") => Err(SecretError::Empty { path }),
            Some(line) => Ok(Secret(line.to_owned())),
        }
    }

    /// Reads a whole file: a private key, a keytab. The path is for messages.
    pub fn read_file(&self) -> Result<(PathBuf, SecretFile), SecretError> {
        match self.read_octets(SECRET_FILE_OCTETS_MAX)? {
            (path, Some(bytes)) => Ok((path, SecretFile(bytes))),
            (path, None) => Err(SecretError::TooLong { path }),
        }
    }

    /// The octets, where they are no more than that.
    fn read_octets(&self, octets_max: u64) -> Result<(PathBuf, Option<Vec<u8>>), SecretError> {
        let path = self.path()?;
        let unreadable = |error| SecretError::Unreadable {
            path: path.clone(),
            error,
        };
        // Root reads whatever a link names, and another account may own the directory of the link.
        let opened = if !rustix::process::geteuid().is_root() {
            regular::open(&path)
        } else if path.symlink_metadata().map_err(unreadable)?.is_symlink() {
            return Err(SecretError::Link { path });
        } else {
            regular::open_itself(&path)
        };
        let file = opened.map_err(unreadable)?;
        let mode = file.metadata().map_err(unreadable)?.mode() & 0o7777;
        if mode & 0o007 != 0 {
            return Err(SecretError::ReadByOthers { path, mode });
        }
        let mut bytes = Vec::new();
        file.take(octets_max + 1)
            .read_to_end(&mut bytes)
            .map_err(unreadable)?;
        let is_whole = bytes.len() as u64 <= octets_max;
        Ok((path, is_whole.then_some(bytes)))
    }

    /// When a file of its own was written last. A credential is a copy that systemd made for this very run, so its time says
    /// nothing.
    pub fn modified(&self) -> Option<SystemTime> {
        match self {
            SecretPlace::File(path) => path.metadata().ok()?.modified().ok(),
            SecretPlace::Credential(_) => None,
        }
    }

    fn path(&self) -> Result<PathBuf, SecretError> {
        match self {
            SecretPlace::File(path) => Ok(path.clone()),
            SecretPlace::Credential(name) => match std::env::var_os("CREDENTIALS_DIRECTORY") {
                Some(directory) => Ok(PathBuf::from(directory).join(name)),
                None => Err(SecretError::NoCredentials { name: name.clone() }),
            },
        }
    }
}

impl Secret {
    /// A password that somebody has just typed; `None` for what no password file could hold.
    pub fn typed(text: String) -> Option<Secret> {
        let is_one_line = !text.is_empty() && !text.contains(['\n', '\r', '\0']);
        (is_one_line && text.len() as u64 <= SECRET_OCTETS_MAX).then_some(Secret(text))
    }

    /// The password itself, for the one call that sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl SecretFile {
    /// The octets themselves, for the one call that uses them.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretFile(…)")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[track_caller]
    fn check(content: &[u8], mode: u32, expected: Result<&str, &str>) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("password");
        std::fs::write(&path, content).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("mode set");
        match (SecretPlace::File(path).read(), expected) {
            (Ok(secret), Ok(text)) => assert_eq!(secret.reveal(), text),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (found, _) => unreachable!("found {found:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn a_password_is_the_first_line_of_a_private_file() {
        check(b"s3cret", 0o600, Ok("s3cret"));
        check(b"s3cret \r\nnote\n", 0o640, Ok("s3cret "));
        check(b"s3cret\n", 0o644, Err("can be read by every account"));
        check(b"", 0o600, Err("holds no password"));
        check(b"\nlater\n", 0o600, Err("holds no password"));
        check(b"\xff\n", 0o600, Err("not a password file"));
        check(&[b'a'; 5000], 0o600, Err("not a password file"));
    }

    #[test]
    fn a_secret_does_not_show_itself() {
        assert_eq!(format!("{:?}", Secret("s3cret".into())), "Secret(…)");
        assert_eq!(
            format!("{:?}", SecretFile(b"s3cret".to_vec())),
            "SecretFile(…)"
        );
    }

    #[test]
    fn a_key_is_a_whole_private_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("key");
        let said = |content: &[u8], mode: u32| {
            std::fs::write(&path, content).expect("written");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("set");
            match SecretPlace::File(path.clone()).read_file() {
                Ok((_, file)) => String::from_utf8_lossy(file.reveal()).into_owned(),
                Err(error) => error.to_string(),
            }
        };
        assert_eq!(said(b"two\nlines", 0o600), "two\nlines");
        assert!(said(b"two\nlines", 0o604).contains("can be read by every account"));
        assert!(said(&[b'a'; 300_000], 0o600).contains("is longer than"));
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&path, &link).expect("a link");
        std::fs::write(&path, "key").expect("written");
        let read = SecretPlace::File(link).read_file();
        match read {
            Err(error) => assert!(error.to_string().contains("is a symbolic link"), "{error}"),
            Ok(_) => assert!(!rustix::process::geteuid().is_root()),
        }
    }
}
