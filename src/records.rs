//! Many records, one behind the other: encoded once when they are read, and never all of them as values, nor in a `sync`
//! all of them in memory.
//!
//! A [`Spool`] takes them while a source is being read. In a `sync` it is a file in the state directory that no head names;
//! where nothing may be written it is memory. [`Records`] are what a finished spool or a stored file holds. They are walked
//! in blocks of whole records, from several threads at once if need be. The bytes of the file: `state::files`.
//!
//! Not here: which records count (`current`), and when a spool becomes a file that counts (`state`).
//!
//! Invariants: a file without its trailer gives no [`Records`], the trailer is written by [`Spool::finish`] alone, and
//! every octet of a stored file was held against its digest before one record of it is shown. A spool that nobody adopted
//! is removed when it is dropped.

use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::current::Missing;
use crate::error::Failure;
use crate::exit::Exit;
use crate::hold::hex;
use crate::record::{Record, RecordRef, length_of_first};
use crate::state::files::{RECORDS_TAIL_OCTETS, RecordsTail, missing_from_bytes, records_head};
use crate::state::{self, Broken, Lost};

/// About so much is read and written at once.
const BLOCK_OCTETS: usize = 1 << 20;

/// What may be spooled to a disk: a hundred million recipients and more. A directory that gives as much is not one of a mail
/// organisation, or does not end; a disk that is smaller says so itself.
const FILE_OCTETS_MAX: u64 = 64 << 30;

/// What may be kept in memory, by a dry run: fifteen million recipients.
const MEMORY_OCTETS_MAX: u64 = 2 << 30;

/// All records of a source, as read or as stored.
#[derive(Debug, Default)]
pub struct Records {
    place: Place,
    count: u64,
    digest: [u8; 32],
}

#[derive(Debug)]
enum Place {
    /// Blocks of whole records.
    Memory(Vec<Vec<u8>>),
    File {
        file: File,
        /// Where blocks of whole records begin, and where the last one ends.
        marks: Vec<u64>,
        /// While it is nobody's but ours.
        temporary: Option<Temporary>,
    },
}

/// The path of a file that is removed with this value; one that was renamed meanwhile is not there any more.
#[derive(Debug)]
struct Temporary(PathBuf);

/// Takes records while a source is being read.
#[derive(Debug)]
pub struct Spool {
    /// Where the file is to be; `None`: in memory.
    path: Option<PathBuf>,
    /// Once something was written to it.
    file: Option<(File, Temporary)>,
    blocks: Vec<Vec<u8>>,
    marks: Vec<u64>,
    /// Not yet in the file, or among the blocks.
    block: Vec<u8>,
    hash: Sha256,
    count: u64,
    is_known_by_guid: bool,
    /// After a write that failed, only [`Spool::reset`] makes it usable again.
    is_half: bool,
}

/// Why a record could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The file could not be written.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// More than any mail organisation has.
    #[error("the records take more than {0} bytes")]
    TooLarge(u64),
}

impl Spool {
    /// A spool in memory.
    pub fn in_memory() -> Spool {
        Spool::empty(None)
    }

    /// A spool in a file, which is made when there is something to write.
    pub(crate) fn at(path: PathBuf) -> Spool {
        Spool::empty(Some(path))
    }

    fn empty(path: Option<PathBuf>) -> Spool {
        let head = records_head();
        Spool {
            path,
            file: None,
            blocks: Vec::new(),
            marks: vec![head.len() as u64],
            block: Vec::new(),
            hash: Sha256::new_with_prefix(head),
            count: 0,
            is_known_by_guid: true,
            is_half: false,
        }
    }

    /// Throws away what was taken so far.
    pub fn reset(&mut self) {
        // The file first: its successor has the same name.
        self.file = None;
        *self = Spool::empty(self.path.take());
    }

    /// Takes a record.
    pub fn push(&mut self, record: RecordRef<'_>) -> Result<(), SpoolError> {
        self.block.extend_from_slice(record.octets());
        self.count += 1;
        self.is_known_by_guid &= !record.guid().is_empty();
        if self.block.len() < BLOCK_OCTETS {
            return Ok(());
        }
        self.end_block()
    }

    /// Whether every record taken has an `objectGUID`.
    pub fn is_known_by_guid(&self) -> bool {
        self.is_known_by_guid
    }

    fn end_block(&mut self) -> Result<(), SpoolError> {
        self.hash.update(&self.block);
        let end = self.end() + self.block.len() as u64;
        let octets_max = match self.path {
            Some(_) => FILE_OCTETS_MAX,
            None => MEMORY_OCTETS_MAX,
        };
        if end > octets_max {
            return Err(SpoolError::TooLarge(octets_max));
        }
        self.marks.push(end);
        if self.path.is_some() {
            self.is_half = true;
            let block = std::mem::take(&mut self.block);
            self.write(&block)?;
            self.block = block;
            self.block.clear();
            self.is_half = false;
        } else {
            let next = Vec::with_capacity(BLOCK_OCTETS + BLOCK_OCTETS / 16);
            self.blocks.push(std::mem::replace(&mut self.block, next));
        }
        Ok(())
    }

    fn end(&self) -> u64 {
        self.marks.last().copied().unwrap_or_default()
    }

    /// Writes to the file, which is made here with its head.
    fn write(&mut self, octets: &[u8]) -> Result<(), SpoolError> {
        let path = self.path.clone().unwrap_or_default();
        let mut written = || -> io::Result<(File, Temporary)> {
            let mut open = match self.file.take() {
                Some(open) => open,
                None => {
                    let mut file = state::create_new(&path)?;
                    let temporary = Temporary(path.clone());
                    file.write_all(&records_head())?;
                    (file, temporary)
                }
            };
            open.0.write_all(octets)?;
            Ok(open)
        };
        self.file = Some(written().map_err(|error| SpoolError::Io { path, error })?);
        Ok(())
    }

    /// To be called when nothing is missing among the records taken. Leaves an empty spool.
    pub fn finish(&mut self, missing: &[Missing]) -> Result<Records, SpoolError> {
        if self.is_half {
            let path = self.path.clone().unwrap_or_default();
            let error = io::Error::other("a part of it could not be written");
            return Err(SpoolError::Io { path, error });
        }
        if !self.block.is_empty() {
            self.end_block()?;
        }
        let begin = self.marks.first().copied().unwrap_or_default();
        let tail = RecordsTail {
            octets: self.end() - begin,
            count: self.count,
        };
        let tail = tail.to_bytes(missing);
        self.hash.update(&tail);
        let digest: [u8; 32] = self.hash.finalize_reset().into();
        if self.path.is_some() {
            self.write(&[&tail, digest.as_slice()].concat())?;
        }
        let place = match self.file.take() {
            Some((file, temporary)) => Place::File {
                file,
                marks: std::mem::take(&mut self.marks),
                temporary: Some(temporary),
            },
            None => Place::Memory(std::mem::take(&mut self.blocks)),
        };
        let count = self.count;
        *self = Spool::empty(self.path.take());
        Ok(Records {
            place,
            count,
            digest,
        })
    }
}

impl SpoolError {
    /// The failure with its answers; what remains in force is known to the caller alone and stays empty.
    pub fn failure(&self, source_name: &str) -> Failure {
        match self {
            SpoolError::Io { path, error } => Failure {
                exit: state::exit_of(error),
                what: format!("source {source_name}: its records could not be stored"),
                place: path.display().to_string(),
                why: error.to_string(),
                in_force: String::new(),
                next: "give state_dir free space, and to the account that runs rcptsync; the next run reads the source again"
                    .into(),
            },
            SpoolError::TooLarge(_) => Failure {
                exit: Exit::SourceFrozen,
                what: format!("source {source_name}: {self}"),
                place: format!("[source.{source_name}]"),
                why: "no mail organisation has as many".into(),
                in_force: String::new(),
                next: format!("check what [source.{source_name}] reads; it may reach too far"),
            },
        }
    }
}

impl Records {
    /// The records in a stored file, each octet of which is held against its digest here; and those that are missing beside
    /// them.
    pub fn open(file: File) -> Result<(Records, Vec<Missing>), Lost> {
        let length = file.metadata()?.len();
        let head = records_head();
        let begins = read_at(&file, 0, (head.len() as u64).min(length))?;
        if begins != head {
            let is_cut = head.starts_with(&begins);
            return Err(if is_cut { Broken::Digest } else { Broken::Kind }.into());
        }
        let begin = head.len() as u64;
        let tail_at = length
            .checked_sub(RECORDS_TAIL_OCTETS as u64)
            .filter(|at| *at >= begin)
            .ok_or(Broken::Digest)?;
        let (tail, digest) = RecordsTail::from_bytes(&read_at(&file, tail_at, length - tail_at)?)?;
        let end = (begin.checked_add(tail.octets))
            .filter(|end| *end <= tail_at)
            .ok_or(Broken::Digest)?;

        let mut hash = Sha256::new_with_prefix(head);
        let (marks, count) = marks(&file, begin..end, &mut hash)?;
        let missing = read_at(&file, end, tail_at - end)?;
        hash.update(&missing);
        hash.update(tail.numbers());
        if hash.finalize().as_slice() != digest {
            return Err(Broken::Digest.into());
        }
        if count != tail.count {
            return Err(Broken::Content.into());
        }
        let place = Place::File {
            file,
            marks,
            temporary: None,
        };
        let records = Records {
            place,
            count,
            digest,
        };
        Ok((records, missing_from_bytes(&missing)?))
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// What seals the file that holds these records, in hexadecimal digits.
    pub fn digest(&self) -> String {
        hex(&self.digest)
    }

    /// Shows every record, in the order read.
    pub fn for_each(&self, each: impl FnMut(RecordRef<'_>)) -> Result<(), Lost> {
        self.for_each_in(0..self.blocks_count(), each)
    }

    /// All of them as values: where they are known to be few.
    pub fn all(&self) -> Result<Vec<Record>, Lost> {
        let mut all = Vec::new();
        self.for_each(|record| all.push(record.to_record()))?;
        Ok(all)
    }

    /// How many blocks they lie in: a walk can be divided between these.
    pub(crate) fn blocks_count(&self) -> usize {
        match &self.place {
            Place::Memory(blocks) => blocks.len(),
            Place::File { marks, .. } => marks.len().saturating_sub(1),
        }
    }

    /// These, in memory.
    #[cfg(test)]
    pub(crate) fn of(records: &[Record]) -> Records {
        let mut spool = Spool::in_memory();
        let mut pushed = records.iter().map(|record| spool.push(record.view()));
        assert!(pushed.all(|pushed| pushed.is_ok()));
        spool.finish(&[]).unwrap_or_default()
    }

    /// Shows the records of some blocks.
    pub(crate) fn for_each_in(
        &self,
        blocks: Range<usize>,
        mut each: impl FnMut(RecordRef<'_>),
    ) -> Result<(), Lost> {
        let mut buffer = Vec::new();
        for number in blocks {
            let mut rest = self.block(number, &mut buffer)?;
            while !rest.is_empty() {
                let (record, behind) = RecordRef::first_of(rest)?;
                each(record);
                rest = behind;
            }
        }
        Ok(())
    }

    fn block<'a>(&'a self, number: usize, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], Lost> {
        match &self.place {
            Place::Memory(blocks) => Ok(blocks.get(number).map_or(&[], Vec::as_slice)),
            Place::File { file, marks, .. } => {
                let Some([begin, end]) = marks.get(number..number + 2) else {
                    return Ok(&[]);
                };
                let length = usize::try_from(end - begin).map_err(|_| Broken::Content)?;
                buffer.resize(length, 0);
                file.read_exact_at(buffer, *begin)?;
                Ok(buffer)
            }
        }
    }

    /// The finished spool that these records are in, if they are in one.
    pub(crate) fn spooled(&self) -> Option<(&File, &Path)> {
        match &self.place {
            Place::Memory(_) => None,
            Place::File {
                file, temporary, ..
            } => Some((file, &temporary.as_ref()?.0)),
        }
    }
}

impl Default for Place {
    fn default() -> Self {
        Place::Memory(Vec::new())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        state::remove(&self.0);
    }
}

/// Where blocks of whole records begin in a part of a file, and how many records there are. What is damaged is told as that:
/// the digest would not match.
fn marks(file: &File, part: Range<u64>, hash: &mut Sha256) -> Result<(Vec<u64>, u64), Lost> {
    let (mut at, mut count) = (part.start, 0);
    let mut marks = vec![at];
    let mut block = Vec::new();
    while at < part.end {
        let mut length = (part.end - at).min(BLOCK_OCTETS as u64);
        loop {
            block.resize(usize::try_from(length).map_err(|_| Broken::Digest)?, 0);
            file.read_exact_at(&mut block, at)?;
            let (whole, records_count) = whole_records(&block);
            if records_count > 0 {
                block.truncate(whole);
                count += records_count;
                break;
            }
            // One record that is longer than a block.
            let needed = length_of_first(&block).ok_or(Broken::Digest)? as u64;
            if needed > part.end - at {
                return Err(Broken::Digest.into());
            }
            length = needed;
        }
        hash.update(&block);
        at += block.len() as u64;
        marks.push(at);
    }
    Ok((marks, count))
}

/// How many octets at the beginning are whole records, and how many records they are.
fn whole_records(octets: &[u8]) -> (usize, u64) {
    let (mut whole, mut count) = (0, 0);
    while let Some(end) = length_of_first(&octets[whole..])
        .map(|length| whole + length)
        .filter(|end| *end <= octets.len())
    {
        (whole, count) = (end, count + 1);
    }
    (whole, count)
}

fn read_at(file: &File, at: u64, length: u64) -> Result<Vec<u8>, Lost> {
    let mut octets = vec![0; usize::try_from(length).map_err(|_| Broken::Digest)?];
    file.read_exact_at(&mut octets, at)?;
    Ok(octets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::current::Controller;
    use crate::record::Facts;
    use crate::time::Timestamp;

    fn record(number: usize, values_length: usize) -> Record {
        let value = format!("smtp:{number}@{}", "x".repeat(values_length));
        Record::of(Facts {
            guid: &number.to_le_bytes(),
            dn: &format!("CN={number}"),
            proxy_addresses: vec![value.as_bytes(); number % 4],
            ..Facts::default()
        })
    }

    fn missing() -> Vec<Missing> {
        vec![Missing {
            record: record(7, 3),
            since: Timestamp(5),
            shown_by: Controller {
                identity: "x".into(),
                usn: None,
            },
        }]
    }

    #[track_caller]
    fn take(spool: &mut Spool, records: &[Record], missing: &[Missing]) -> Records {
        for record in records {
            spool.push(record.view()).expect("taken");
        }
        spool.finish(missing).expect("finished")
    }

    fn open(path: &Path) -> Result<(Records, Vec<Missing>), Lost> {
        Records::open(File::open(path)?)
    }

    /// The same records from memory, from a spool and from a stored file, whole and in parts.
    #[track_caller]
    fn check(records: &[Record], blocks_count: std::ops::RangeInclusive<usize>) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("private/spool");
        let (mut on_disk, mut in_memory) = (Spool::at(path.clone()), Spool::in_memory());
        let spooled = take(&mut on_disk, records, &[]);
        let kept = take(&mut in_memory, records, &[]);
        let (stored, no_missing) = open(&path).expect("whole");
        assert_eq!(no_missing, []);
        for found in [&spooled, &kept, &stored] {
            assert_eq!(found.all().expect("readable"), records);
            assert_eq!(found.len(), records.len() as u64);
            assert_eq!(found.digest(), spooled.digest());
            assert!(blocks_count.contains(&found.blocks_count()), "{found:?}");
            let mut by_block = Vec::new();
            for number in 0..found.blocks_count() {
                let each = |record: RecordRef<'_>| by_block.push(record.to_record());
                found
                    .for_each_in(number..number + 1, each)
                    .expect("readable");
            }
            assert_eq!(by_block, records);
        }
        assert!(spooled.spooled().is_some() && stored.spooled().is_none());
        // The digest seals what is before it.
        let file = std::fs::read(&path).expect("the file");
        let (sealed, seal) = file.split_at(file.len() - 32);
        assert_eq!(Sha256::digest(sealed).as_slice(), seal);
        assert_eq!(hex(seal), spooled.digest());
        drop(spooled);
        assert!(!path.exists());
        // With others missing beside them; and a spool can be used again.
        let again = take(&mut on_disk, records, &missing());
        let (stored, found) = open(&path).expect("whole");
        assert_eq!(found, missing());
        assert_eq!(stored.all().expect("readable"), records);
        assert_ne!(again.digest(), kept.digest());
    }

    #[test]
    fn records_are_the_same_wherever_they_lie() {
        check(&[], 0..=0);
        check(&[record(0, 0)], 1..=1);
        let many: Vec<Record> = (0..20_000).map(|number| record(number, 40)).collect();
        check(&many, 2..=9);
        let long: Vec<Record> = [3, 400_000, 3, 800_000]
            .map(|length| record(3, length))
            .into();
        check(&long, 1..=4);
    }

    #[test]
    fn a_file_that_is_not_whole_gives_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("spool");
        let records: Vec<Record> = (0..9).map(|number| record(number, number)).collect();
        let kept = take(&mut Spool::at(path.clone()), &records, &missing());
        let whole = std::fs::read(&path).expect("the file");
        drop(kept);
        let broken = |bytes: &[u8]| {
            std::fs::write(&path, bytes).expect("written");
            match open(&path) {
                Err(Lost::Broken(broken)) => Some(broken),
                Err(Lost::Io(_)) | Ok(_) => None,
            }
        };
        for length in 0..whole.len() {
            let found = broken(&whole[..length]);
            assert_eq!(found, Some(Broken::Digest), "cut at {length}");
        }
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut flipped = whole.clone();
                flipped[at] ^= 1 << bit;
                assert!(broken(&flipped).is_some(), "bit {bit} at {at}");
            }
        }
        assert!(broken(&[&whole, b"x".as_slice()].concat()).is_some());
        let earlier = String::from_utf8_lossy(&records_head()).replace('3', "2");
        assert_eq!(broken(earlier.as_bytes()), Some(Broken::Kind));
        assert_eq!(broken(&whole), None);
    }

    #[test]
    fn an_unfinished_spool_is_nothing_and_leaves_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("spool");
        let long = record(3, BLOCK_OCTETS);
        let mut spool = Spool::at(path.clone());
        spool.push(record(1, 1).view()).expect("taken");
        assert!(
            !path.exists(),
            "a source that gives little may give nothing"
        );
        spool.push(long.view()).expect("taken");
        assert!(open(&path).is_err());
        spool.reset();
        assert!(!path.exists());
        // What a dead run left is in nobody's way.
        std::fs::write(&path, "left over").expect("written");
        let found = take(&mut spool, std::slice::from_ref(&long), &[]);
        assert!(found.all().expect("readable") == std::slice::from_ref(&long));
        spool.push(long.view()).expect("taken");
        drop((spool, found));
        assert!(!path.exists());
        assert_eq!(directory.path().read_dir().expect("a directory").count(), 0);
    }

    #[test]
    fn a_spool_that_could_not_be_written_is_never_finished() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file/spool");
        std::fs::write(directory.path().join("file"), "no directory").expect("written");
        let mut spool = Spool::at(path);
        let long = record(3, BLOCK_OCTETS);
        let pushed = spool.push(long.view()).expect_err("no directory");
        let failure = pushed.failure("corp");
        assert_eq!(failure.exit, Exit::NotWritten);
        assert!(failure.place.ends_with("file/spool"), "{failure:?}");
        spool.finish(&[]).expect_err("a part is missing");
        std::fs::remove_file(directory.path().join("file")).expect("removed");
        spool.finish(&[]).expect_err("a part is missing still");
        spool.reset();
        assert!(take(&mut spool, &[], &[]).is_empty());
    }
}
