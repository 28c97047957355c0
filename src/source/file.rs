//! Reads a whole file that somebody else writes, and proves that it stood still meanwhile.
//!
//! The file is opened once. What was read counts only if the file was settled before (nobody had written to it for
//! [`SETTLED`]), if neither it nor its name changed while it was read, if it ends with a line end, and if every byte of
//! it is text. A link is followed: an administrator may link an export into place. Not here: what the lines mean
//! (`ldif`, `list`), and whether a source that fails freezes.
//!
//! Invariant: text that leaves this module is the whole of one version of the file, without a byte order mark.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::config::FileSource;
use crate::error::Failure;
use crate::exit::Exit;
use crate::time::{Timestamp, rough};

use crate::records::SpoolError;

use super::ldif::LdifError;

/// For so long nobody must have written to a file: an export that writes page by page pauses for less.
pub const SETTLED: Duration = Duration::from_secs(10);

/// So long is waited for a file to settle. One that is still being written then is not an export but a log, and must
/// not use up the time of the whole run.
pub const SETTLE_WAIT_MAX: Duration = Duration::from_secs(60);

/// The largest file that is read, since all of it is held in memory. The needed attributes of a million objects make
/// 360 MB of LDIF, and twice that in UTF-16.
pub const FILE_BYTES_MAX: u64 = 1 << 30;

/// Why a file source could not be read completely.
#[derive(Debug, thiserror::Error)]
pub enum FileFailure {
    /// The file itself.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: FileError,
    },
    /// The records in it could not be kept.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// Its content, which is not a complete LDIF export.
    #[error("{}: {error}", path.display())]
    Ldif {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: LdifError,
    },
}

/// Why a file is not proven to be whole text.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Not there, no permission, or a fault of the disk.
    #[error("the file cannot be read")]
    Unreadable(#[source] io::Error),
    /// A directory, a device, a pipe.
    #[error("the file is not a regular file")]
    NotRegular,
    /// Over [`FILE_BYTES_MAX`].
    #[error("the file is too large ({bytes} bytes)")]
    TooLarge {
        /// Its size.
        bytes: u64,
    },
    /// Still being written when the wait was over.
    #[error("the file is still being written")]
    Unsettled,
    /// Its time of modification lies ahead of the clock.
    #[error("the file was modified in the future ({} from now)", rough(*ahead))]
    FromTheFuture {
        /// How far.
        ahead: Duration,
    },
    /// Older than `max_age`.
    #[error("the file is too old ({}; max_age is {})", rough(*age), rough(*age_max))]
    TooOld {
        /// The time since its last modification.
        age: Duration,
        /// What the configuration allows.
        age_max: Duration,
    },
    /// Written to or replaced between the first and the last look at it.
    #[error("the file changed while it was read")]
    Changed,
    /// No bytes, or a byte order mark alone.
    #[error("the file is empty")]
    Empty,
    /// Ends within a line, or within a character.
    #[error("the file is cut off: its last line has no line end")]
    CutOff {
        /// The last line.
        line: usize,
    },
    /// Neither UTF-8 nor UTF-16.
    #[error("the file is not text: it is neither UTF-8 nor UTF-16")]
    NotText {
        /// The line with the first byte that is not.
        line: usize,
    },
    /// Text does not hold NUL; a file does after a crash, where its blocks were never written.
    #[error("the file is damaged: it holds a NUL byte")]
    Nul {
        /// The line with the first one.
        line: usize,
    },
}

/// What identifies one version of a file.
#[derive(PartialEq, Eq)]
struct Version {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    // Whoever writes and then sets the old time again (`cp -p` onto it) cannot set this one.
    changed: (i64, i64),
}

/// The clock of the run, which was read once, moved on by what passed since.
struct Clock {
    now: Timestamp,
    started: Instant,
}

impl FileFailure {
    /// The failure with its answers; what remains in force is known to the caller alone and stays empty.
    pub fn failure(&self, source_name: &str) -> Failure {
        let (path, line, what, why, next) = match self {
            FileFailure::File { path, error } => (
                path,
                error.line(),
                error.to_string(),
                error.why(),
                error.next(),
            ),
            FileFailure::Ldif { path, error } => (
                path,
                Some(error.line()),
                error.to_string(),
                error.why().to_owned(),
                error.next().to_owned(),
            ),
            FileFailure::Spool(error) => return error.failure(source_name),
        };
        Failure {
            exit: self.exit(),
            what: format!("source {source_name}: {what}"),
            place: match line {
                Some(line) => format!("{}, line {line}", path.display()),
                None => path.display().to_string(),
            },
            why,
            in_force: String::new(),
            next,
        }
    }

    fn exit(&self) -> Exit {
        match self {
            FileFailure::File {
                error: FileError::Unreadable(error),
                ..
            } if error.kind() == io::ErrorKind::PermissionDenied => Exit::Permission,
            FileFailure::File { .. } | FileFailure::Ldif { .. } | FileFailure::Spool(_) => {
                Exit::SourceFrozen
            }
        }
    }
}

impl FileError {
    fn line(&self) -> Option<usize> {
        match self {
            FileError::CutOff { line } | FileError::NotText { line } | FileError::Nul { line } => {
                Some(*line)
            }
            FileError::Unreadable(_)
            | FileError::NotRegular
            | FileError::TooLarge { .. }
            | FileError::Unsettled
            | FileError::FromTheFuture { .. }
            | FileError::TooOld { .. }
            | FileError::Changed
            | FileError::Empty => None,
        }
    }

    fn why(&self) -> String {
        match self {
            FileError::Unreadable(error) => error.to_string(),
            FileError::NotRegular => "it is a directory, a device or a pipe".to_owned(),
            FileError::TooLarge { .. } => {
                format!("at most {FILE_BYTES_MAX} bytes are read, since all are held in memory")
            }
            FileError::Unsettled => format!(
                "somebody wrote to it less than {} ago, and went on doing so",
                rough(SETTLED)
            ),
            FileError::FromTheFuture { .. } => {
                "the clock of this machine or of the one that wrote the file is wrong, so its age is unknown"
                    .to_owned()
            }
            FileError::TooOld { .. } => {
                "the export that writes it seems to have stopped, and whoever joined or left since is not in it"
                    .to_owned()
            }
            FileError::Changed => "it was written to or replaced at that moment".to_owned(),
            FileError::Empty => {
                "an export that failed leaves such a file, so it does not mean that nobody is there".to_owned()
            }
            FileError::CutOff { .. } => {
                "a full disk or an interrupted copy leaves such a file; the rest of it is missing".to_owned()
            }
            FileError::NotText { .. } => {
                "a byte there belongs to another character set (Windows-1252?) or to a binary file".to_owned()
            }
            FileError::Nul { .. } => {
                "a crash while it was written leaves such a file; UTF-32 is not understood either".to_owned()
            }
        }
    }

    fn next(&self) -> String {
        match self {
            FileError::Unreadable(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                "let the account that runs rcptsync read the file and enter every directory above it"
            }
            FileError::Unreadable(_) => "have the export write it there, or correct `path`",
            FileError::NotRegular => "let `path` name the file itself",
            FileError::TooLarge { .. } => {
                "export only proxyAddresses, objectGUID, msExchRecipientTypeDetails and msExchRequireAuthToSendTo"
            }
            FileError::Unsettled => {
                "let the export write another file and rename it into place when it is done"
            }
            FileError::FromTheFuture { .. } => "set the clocks (NTP), then write the file anew",
            FileError::TooOld { .. } => "look after the export, or raise `max_age` if it is right",
            FileError::Changed => {
                "nothing, the next run reads it again; if it happens often, let the export write another file and rename it"
            }
            FileError::Empty => {
                "look after the export; a list that is empty on purpose holds a comment line"
            }
            FileError::CutOff { .. } => {
                "look for a full disk, then write the file anew; a file made by hand needs a line end after its last line"
            }
            FileError::NotText { .. } => {
                "write it as UTF-8 (PowerShell: `-Encoding utf8`; ldifde: with or without `-u`)"
            }
            FileError::Nul { .. } => "write the file anew",
        }
        .to_owned()
    }
}

/// Reads the file of a source, waiting until it is settled, but not beyond `deadline`.
///
/// `now` is the time of the run, against which its age counts.
pub(super) fn read(
    source: &FileSource,
    now: Timestamp,
    deadline: Instant,
) -> Result<String, FileFailure> {
    read_text(source, now, deadline).map_err(|error| FileFailure::File {
        path: source.path.clone(),
        error,
    })
}

fn read_text(source: &FileSource, now: Timestamp, deadline: Instant) -> Result<String, FileError> {
    let started = Instant::now();
    let clock = Clock { now, started };
    let (file, before) = open_settled(
        &source.path,
        &clock,
        deadline.min(started + SETTLE_WAIT_MAX),
    )?;
    let age = clock.read().since(before.modified_at());
    if let Some(age_max) = source.max_age.filter(|age_max| age > *age_max) {
        return Err(FileError::TooOld { age, age_max });
    }
    let bytes = read_unchanged(file, &source.path, &before)?;
    decode(bytes)
}

fn open_settled(
    path: &Path,
    clock: &Clock,
    deadline: Instant,
) -> Result<(File, Version), FileError> {
    loop {
        // Without O_NONBLOCK, opening a pipe would wait for its writer.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
            .open(path)
            .map_err(FileError::Unreadable)?;
        let metadata = file.metadata().map_err(FileError::Unreadable)?;
        if !metadata.is_file() {
            return Err(FileError::NotRegular);
        }
        if metadata.len() > FILE_BYTES_MAX {
            return Err(FileError::TooLarge {
                bytes: metadata.len(),
            });
        }
        let version = Version::of(&metadata);
        let (modified, now) = (version.modified_at(), clock.read());
        let ahead = modified.since(now);
        if ahead > SETTLED {
            return Err(FileError::FromTheFuture { ahead });
        }
        let wait = modified.after(SETTLED).since(now);
        if wait.is_zero() {
            return Ok((file, version));
        }
        if Instant::now() + wait > deadline {
            return Err(FileError::Unsettled);
        }
        std::thread::sleep(wait);
    }
}

fn read_unchanged(file: File, path: &Path, before: &Version) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::with_capacity(usize::try_from(before.bytes).unwrap_or_default());
    (&file)
        .take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(FileError::Unreadable)?;
    let after = Version::of(&file.metadata().map_err(FileError::Unreadable)?);
    // The name, too: a file that was replaced meanwhile is whole, but it is yesterday's.
    let named = match std::fs::metadata(path) {
        Ok(metadata) => Version::of(&metadata),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(FileError::Changed),
        Err(error) => return Err(FileError::Unreadable(error)),
    };
    if *before != after || *before != named || bytes.len() as u64 != before.bytes {
        return Err(FileError::Changed);
    }
    Ok(bytes)
}

impl Version {
    fn of(metadata: &Metadata) -> Version {
        Version {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// The last modification, rounded up, so that the whole seconds of a [`Timestamp`] never make a file look settled
    /// too early.
    fn modified_at(&self) -> Timestamp {
        let (seconds, nanoseconds) = self.modified;
        Timestamp(u64::try_from(seconds).unwrap_or_default() + u64::from(nanoseconds > 0))
    }
}

impl Clock {
    fn read(&self) -> Timestamp {
        self.now.after(self.started.elapsed())
    }
}

/// The text of a whole file: UTF-8 or UTF-16, with or without a byte order mark. It ends with a line end and holds no NUL.
pub fn decode(bytes: Vec<u8>) -> Result<String, FileError> {
    let text = match bytes.as_slice() {
        [0xef, 0xbb, 0xbf, rest @ ..] => decode_utf8(rest.to_vec())?,
        [0xff, 0xfe, rest @ ..] => decode_utf16(rest, u16::from_le_bytes)?,
        [0xfe, 0xff, rest @ ..] => decode_utf16(rest, u16::from_be_bytes)?,
        unmarked if first_line_is_utf16(unmarked, u16::from_le_bytes) => {
            decode_utf16(unmarked, u16::from_le_bytes)?
        }
        unmarked if first_line_is_utf16(unmarked, u16::from_be_bytes) => {
            decode_utf16(unmarked, u16::from_be_bytes)?
        }
        _ => decode_utf8(bytes)?,
    };
    if text.is_empty() {
        return Err(FileError::Empty);
    }
    if let Some(at) = text.find('\0') {
        return Err(FileError::Nul {
            line: line_number(&text[..at]),
        });
    }
    if !text.ends_with('\n') {
        return Err(FileError::CutOff {
            line: line_number(&text),
        });
    }
    Ok(text)
}

fn decode_utf8(bytes: Vec<u8>) -> Result<String, FileError> {
    String::from_utf8(bytes).map_err(|error| {
        let (good, _) = error.as_bytes().split_at(error.utf8_error().valid_up_to());
        let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
        match error.utf8_error().error_len() {
            Some(_) => FileError::NotText { line },
            // The file ends within a character that was good so far.
            None => FileError::CutOff { line },
        }
    })
}

fn decode_utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, FileError> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let mut text = String::with_capacity(pairs.len());
    for decoded in char::decode_utf16(pairs.iter().map(|pair| unit(*pair))) {
        text.push(decoded.map_err(|_| FileError::NotText {
            line: line_number(&text),
        })?);
    }
    if !rest.is_empty() {
        return Err(FileError::CutOff {
            line: line_number(&text),
        });
    }
    Ok(text)
}

/// Whether the first line is UTF-16 in this byte order, told by the NUL in every character of it up to U+00FF.
fn first_line_is_utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> bool {
    let (pairs, _) = bytes.as_chunks::<2>();
    for (index, pair) in pairs.iter().enumerate() {
        match unit(*pair) {
            0x0a => return index > 0,
            0x01..=0xff => {}
            _ => return false,
        }
    }
    !pairs.is_empty()
}

/// The number of the line that `text` ends in.
fn line_number(text: &str) -> usize {
    1 + text.bytes().filter(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::io::Write;

    const NOW: Timestamp = Timestamp(1_795_219_200);

    fn utf16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(bytes).collect()
    }

    #[track_caller]
    fn check_decode(bytes: impl AsRef<[u8]>, expected: Result<&str, &str>) {
        let bytes = bytes.as_ref();
        let decoded = decode(bytes.to_vec()).map_err(|error| format!("{error:?}"));
        assert_eq!(
            decoded.as_deref(),
            expected.map_err(str::to_owned).as_ref().map(|text| *text),
            "{bytes:?}"
        );
    }

    #[test]
    fn every_encoding_that_an_export_has() {
        let text = "dn: CN=Jürgen 😀\r\nx: y\r\n";
        check_decode(text, Ok(text));
        check_decode(format!("\u{feff}{text}"), Ok(text));
        check_decode(
            utf16(&format!("\u{feff}{text}"), u16::to_le_bytes),
            Ok(text),
        );
        check_decode(
            utf16(&format!("\u{feff}{text}"), u16::to_be_bytes),
            Ok(text),
        );
        let text = "# Jürgen\n😀\n";
        check_decode(utf16(text, u16::to_le_bytes), Ok(text));
        check_decode(utf16(text, u16::to_be_bytes), Ok(text));
        check_decode("\n", Ok("\n"));
        check_decode(utf16("\u{feff}\n", u16::to_le_bytes), Ok("\n"));
    }

    #[test]
    fn nothing_else_is_text() {
        check_decode("", Err("Empty"));
        check_decode("\u{feff}", Err("Empty"));
        check_decode([0xff, 0xfe], Err("Empty"));
        check_decode("a", Err("CutOff { line: 1 }"));
        check_decode("a\nb", Err("CutOff { line: 2 }"));
        check_decode("a\nb\r", Err("CutOff { line: 2 }"));
        check_decode(b"a\nb\nJ\xfcrgen\n", Err("NotText { line: 3 }"));
        check_decode(b"a\nJ\xc3", Err("CutOff { line: 2 }"));
        check_decode("a\n\0\0\0\n", Err("Nul { line: 2 }"));
        check_decode(b"\xff\xfea\0\n\0b", Err("CutOff { line: 2 }"));
        check_decode(b"\xff\xfea\0\n\0\x00\xdc\n\0", Err("NotText { line: 2 }"));
        check_decode(b"\xff\xfe\0\0a\0\0\0", Err("Nul { line: 1 }"));
        check_decode(b"a\0b\n\0", Err("Nul { line: 1 }"));
        check_decode(b"\0\0\n", Err("Nul { line: 1 }"));
    }

    /// A file last written so many seconds before [`NOW`] (negative: after it).
    fn file_of_age(seconds: i64) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(b"a\n").expect("written");
        let modified = NOW.0.checked_add_signed(-seconds).expect("a time");
        file.as_file()
            .set_modified(std::time::UNIX_EPOCH + Duration::from_secs(modified))
            .expect("its time is set");
        file
    }

    #[track_caller]
    fn check_age(seconds: i64, max_age_seconds: Option<u64>, wait_seconds: u64, expected: &str) {
        let file = file_of_age(seconds);
        let source = FileSource {
            path: file.path().to_owned(),
            max_age: max_age_seconds.map(Duration::from_secs),
        };
        let deadline = Instant::now() + Duration::from_secs(wait_seconds);
        let outcome = match read_text(&source, NOW, deadline) {
            Ok(text) => text,
            Err(error) => error.to_string(),
        };
        assert_eq!(outcome, expected, "{seconds} s");
    }

    #[test]
    fn a_file_is_read_when_it_is_settled_and_not_too_old() {
        check_age(10, None, 0, "a\n");
        check_age(9, None, 0, "the file is still being written");
        check_age(9, None, 30, "a\n");
        check_age(-9, None, 5, "the file is still being written");
        check_age(
            -11,
            None,
            30,
            "the file was modified in the future (11s from now)",
        );
        check_age(3600, Some(3600), 0, "a\n");
        check_age(
            3700,
            Some(3600),
            0,
            "the file is too old (1h 1m; max_age is 1h)",
        );
        check_age(400_000_000, None, 0, "a\n");
    }

    #[test]
    fn a_file_that_changes_while_it_is_read_is_not_believed() {
        let changed = |change: &dyn Fn(&Path)| {
            let file = file_of_age(60);
            let opened = File::open(file.path()).expect("opened");
            let before = Version::of(&opened.metadata().expect("known"));
            change(file.path());
            read_unchanged(opened, file.path(), &before).map_err(|error| error.to_string())
        };
        let refused = Err("the file changed while it was read".to_owned());
        assert_eq!(changed(&|_| {}), Ok(b"a\n".to_vec()));
        assert_eq!(
            changed(&|path| std::fs::write(path, "b\n").expect("written")),
            refused
        );
        assert_eq!(
            changed(&|path| std::fs::remove_file(path).expect("removed")),
            refused
        );
        assert_eq!(
            changed(&|path| {
                let other = path.with_extension("new");
                std::fs::write(&other, "b\n").expect("written");
                std::fs::rename(&other, path).expect("renamed");
            }),
            refused
        );
    }

    #[track_caller]
    fn check_failure(path: &Path, exit: Exit, what: &str) {
        let source = FileSource {
            path: path.to_owned(),
            max_age: None,
        };
        let error = read_text(&source, Timestamp::now(), Instant::now()).expect_err("refused");
        let failure = FileFailure::File {
            path: path.to_owned(),
            error,
        }
        .failure("partners");
        assert_eq!((failure.exit, failure.what.as_str()), (exit, what));
        assert_eq!(failure.place, path.display().to_string());
        assert!(!failure.why.is_empty() && !failure.next.is_empty());
    }

    #[test]
    fn only_regular_files_are_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let unreadable = "source partners: the file cannot be read";
        let not_regular = "source partners: the file is not a regular file";
        check_failure(
            &directory.path().join("absent"),
            Exit::SourceFrozen,
            unreadable,
        );
        check_failure(directory.path(), Exit::SourceFrozen, not_regular);
        check_failure(Path::new("/dev/null"), Exit::SourceFrozen, not_regular);
        let pipe = directory.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .expect("a pipe");
        check_failure(&pipe, Exit::SourceFrozen, not_regular);
        let link = directory.path().join("link");
        let file = file_of_age(60);
        std::os::unix::fs::symlink(file.path(), &link).expect("a link");
        let source = FileSource {
            path: link,
            max_age: None,
        };
        let text = read_text(&source, NOW, Instant::now()).expect("links are followed");
        assert_eq!(text, "a\n");
    }

    #[test]
    fn a_refusal_of_the_system_is_one_of_permission() {
        let failure = FileFailure::File {
            path: "/etc/partners.ldif".into(),
            error: FileError::Unreadable(io::ErrorKind::PermissionDenied.into()),
        }
        .failure("partners");
        assert_eq!(failure.exit, Exit::Permission);
    }
}
