//! Files that are whole or not believed: a kind, a payload, and a digest at the end.
//!
//! Source records, ledgers, generations and holds are immutable files of this form. One that was cut short, flipped or
//! written by another version does not open, and its reader falls back to what is safe. Not here: head.json, which
//! people must be able to read.
//!
//! Layout: `rcptsync KIND VERSION\n`, payload, 32 octets of SHA-256 over both. Records have the same, but are written and read
//! in a stream (`records`).

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use crate::hold::hex;

/// The octets of SHA-256.
pub(super) const DIGEST_OCTETS: usize = 32;

/// Why a sealed file is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// Another kind, or another version.
    #[error("it was written by another version of rcptsync, or is another kind of file")]
    Kind,
    /// The digest does not match: cut short or changed.
    #[error("it is damaged (its digest does not match)")]
    Digest,
    /// Whole, and not what was written under its name.
    #[error("it is whole, but not the file that was written there")]
    Another,
    /// The digest matches and the content makes no sense: a bug in the writer.
    #[error("its content makes no sense")]
    Content,
}

/// Collects a payload.
#[derive(Debug)]
pub(super) struct Writer<'payload> {
    /// What was collected before the bytes below.
    parts: Vec<Cow<'payload, [u8]>>,
    bytes: Vec<u8>,
}

/// A whole file, in parts: what is long is not copied together.
#[derive(Debug)]
pub struct Sealed<'payload> {
    parts: Vec<Cow<'payload, [u8]>>,
    digest: [u8; DIGEST_OCTETS],
}

impl<'payload> Writer<'payload> {
    /// `kind` names the payload and the version of its layout; another version is read anew from its origin.
    pub(super) fn new(kind: &str) -> Self {
        Writer {
            parts: Vec::new(),
            bytes: head(kind),
        }
    }

    /// A part of a payload.
    pub(super) fn plain() -> Self {
        Writer {
            parts: Vec::new(),
            bytes: Vec::new(),
        }
    }

    pub(super) fn number(&mut self, number: u64) {
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    pub(super) fn octets(&mut self, octets: &[u8]) {
        self.number(octets.len() as u64);
        self.bytes.extend_from_slice(octets);
    }

    /// The same for many octets.
    pub(super) fn long_octets(&mut self, octets: &'payload [u8]) {
        self.number(octets.len() as u64);
        self.parts.push(Cow::Owned(std::mem::take(&mut self.bytes)));
        self.parts.push(Cow::Borrowed(octets));
    }

    pub(super) fn list<T>(
        &mut self,
        items: &'payload [T],
        mut each: impl FnMut(&mut Self, &'payload T),
    ) {
        self.number(items.len() as u64);
        for item in items {
            each(self, item);
        }
    }

    /// The part of a payload.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        let mut bytes = self.parts.concat();
        bytes.extend_from_slice(&self.bytes);
        bytes
    }

    /// The whole file.
    pub(super) fn seal(self) -> Sealed<'payload> {
        let mut parts = self.parts;
        parts.push(Cow::Owned(self.bytes));
        let mut hash = Sha256::new();
        parts.iter().for_each(|part| hash.update(part));
        let digest = hash.finalize().into();
        Sealed { parts, digest }
    }
}

impl Sealed<'_> {
    /// What seals the file, in hexadecimal digits.
    pub fn digest(&self) -> String {
        hex(&self.digest)
    }

    /// All of it, one part behind the other.
    pub fn parts(&self) -> Vec<&[u8]> {
        let parts = self.parts.iter().map(AsRef::as_ref);
        parts.chain([self.digest.as_slice()]).collect()
    }
}

/// How a file of a kind begins.
pub(super) fn head(kind: &str) -> Vec<u8> {
    format!("rcptsync {kind}\n").into_bytes()
}

/// Takes a payload apart.
#[derive(Debug)]
pub(super) struct Reader<'file> {
    rest: &'file [u8],
}

impl<'file> Reader<'file> {
    pub(super) fn open(kind: &str, file: &'file [u8]) -> Result<Self, Broken> {
        let head = head(kind);
        if !file.starts_with(&head) {
            return Err(if head.starts_with(file) {
                Broken::Digest
            } else {
                Broken::Kind
            });
        }
        let sealed = file
            .len()
            .checked_sub(DIGEST_OCTETS)
            .filter(|end| *end >= head.len())
            .ok_or(Broken::Digest)?;
        let (content, digest) = file.split_at(sealed);
        if Sha256::digest(content).as_slice() != digest {
            return Err(Broken::Digest);
        }
        Ok(Reader {
            rest: &content[head.len()..],
        })
    }

    /// A part of a payload that was seen to be whole.
    pub(super) fn plain(rest: &'file [u8]) -> Self {
        Reader { rest }
    }

    pub(super) fn digest(&mut self) -> Result<[u8; DIGEST_OCTETS], Broken> {
        let (digest, rest) = self.rest.split_first_chunk().ok_or(Broken::Content)?;
        self.rest = rest;
        Ok(*digest)
    }

    pub(super) fn number(&mut self) -> Result<u64, Broken> {
        let (octets, rest) = self.rest.split_first_chunk::<8>().ok_or(Broken::Content)?;
        self.rest = rest;
        Ok(u64::from_le_bytes(*octets))
    }

    pub(super) fn octets(&mut self) -> Result<&'file [u8], Broken> {
        let length = usize::try_from(self.number()?).map_err(|_| Broken::Content)?;
        let (octets, rest) = self.rest.split_at_checked(length).ok_or(Broken::Content)?;
        self.rest = rest;
        Ok(octets)
    }

    pub(super) fn text(&mut self) -> Result<String, Broken> {
        String::from_utf8(self.octets()?.to_vec()).map_err(|_| Broken::Content)
    }

    /// The octets that the file ends with; for a payload that is too large to be copied out of it.
    pub(super) fn last_octets_length(mut self) -> Result<usize, Broken> {
        let octets = self.octets()?;
        self.rest
            .is_empty()
            .then_some(octets.len())
            .ok_or(Broken::Content)
    }

    pub(super) fn list<T>(
        &mut self,
        mut each: impl FnMut(&mut Self) -> Result<T, Broken>,
    ) -> Result<Vec<T>, Broken> {
        let count = self.number()?;
        (0..count).map(|_| each(self)).collect()
    }
}

/// What seals a file, in hexadecimal digits: the last octets of one that is whole.
pub(super) fn digest_of(file: &[u8]) -> String {
    hex(&file[file.len().saturating_sub(DIGEST_OCTETS)..])
}

/// The last octets of a payload, out of the whole file.
pub(super) fn last_octets(mut file: Vec<u8>, length: usize) -> Vec<u8> {
    file.truncate(file.len().saturating_sub(DIGEST_OCTETS));
    file.drain(..file.len().saturating_sub(length));
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_whole_or_not_believed() {
        let mut writer = Writer::new("test");
        writer.number(7);
        writer.octets(b"seven");
        writer.list(&[1, 2], |writer, number| writer.number(*number));
        writer.long_octets(b"long");
        let sealed = writer.seal();
        let file = sealed.parts().concat();
        assert!(file.ends_with(&sealed.digest));

        let mut reader = Reader::open("test", &file).expect("whole");
        assert_eq!(
            (reader.number(), reader.octets()),
            (Ok(7), Ok(b"seven".as_slice()))
        );
        assert_eq!(reader.list(Reader::number), Ok(vec![1, 2]));
        assert_eq!(reader.octets(), Ok(b"long".as_slice()));
        assert_eq!(reader.number(), Err(Broken::Content));

        assert_eq!(Reader::open("other", &file).err(), Some(Broken::Kind));
        for length in 0..file.len() {
            assert_eq!(
                Reader::open("test", &file[..length]).err(),
                Some(Broken::Digest),
                "cut at {length}"
            );
        }
        for at in 0..file.len() {
            let mut flipped = file.clone();
            flipped[at] ^= 1;
            assert!(Reader::open("test", &flipped).is_err(), "flipped at {at}");
        }
    }
}
