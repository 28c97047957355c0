//! Octets on their way to the disk and back: counted and hashed as they pass, a block at a time, never all in memory.
//!
//! Nothing is opened, named or judged here.

use std::io::{self, BufReader, Read, Write};
use std::panic::resume_unwind;
use std::sync::mpsc::{channel, sync_channel};
use std::thread;

use sha2::{Digest, Sha256};

use crate::hold::hex;
use crate::table::format::RenderError;

/// Small enough to stay in a processor's cache between the one who fills it and the one who hashes it.
const BLOCK_OCTETS: usize = 1 << 18;

/// Blocks that wait while the disk is slower than the rendering.
const BLOCKS_WAITING_MAX: usize = 4;

/// How two streams of octets are known to be the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seal {
    /// How many there were.
    pub(super) octets: u64,
    /// Their SHA-256, as `sha256sum` prints it.
    pub(super) digest: String,
}

/// A stream that is hashed as it passes.
pub(super) struct Hashing<S> {
    stream: S,
    octets: u64,
    hash: Sha256,
}

impl<S> Hashing<S> {
    fn new(stream: S) -> Hashing<S> {
        Hashing {
            stream,
            octets: 0,
            hash: Sha256::new(),
        }
    }

    fn pass(&mut self, octets: &[u8]) {
        self.octets += octets.len() as u64;
        self.hash.update(octets);
    }

    /// Writes a block and gives it back to be filled anew.
    fn put(&mut self, block: Vec<u8>) -> io::Result<Vec<u8>>
    where
        S: Write,
    {
        self.stream.write_all(&block)?;
        self.pass(&block);
        Ok(block)
    }

    fn seal(self) -> Seal {
        Seal {
            octets: self.octets,
            digest: hex(&self.hash.finalize()),
        }
    }
}

impl<S: Read> Read for Hashing<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.pass(&buffer[..count]);
        Ok(count)
    }
}

/// A stream to read from in large pieces; [`seal_of_rest`] ends it.
pub(super) fn reading<S: Read>(stream: S) -> BufReader<Hashing<S>> {
    BufReader::with_capacity(BLOCK_OCTETS, Hashing::new(stream))
}

/// Reads what is left and gives the seal of everything.
pub(super) fn seal_of_rest<S: Read>(mut input: BufReader<Hashing<S>>) -> io::Result<Seal> {
    io::copy(&mut input, &mut io::sink())?;
    Ok(input.into_inner().seal())
}

/// Writes what `render` says to a stream and gives the seal of it. With a thread of its own for hashing and writing, the
/// rendering need not wait for either.
pub(super) fn write(
    stream: impl Write + Send,
    with_thread: bool,
    render: impl FnOnce(&mut Blocks<'_>) -> Result<(), RenderError>,
) -> Result<Seal, RenderError> {
    let mut hashing = Hashing::new(stream);
    if !with_thread {
        Blocks::through(&mut |block| hashing.put(block), render)?;
        return Ok(hashing.seal());
    }
    let (full, filled) = sync_channel::<Vec<u8>>(BLOCKS_WAITING_MAX);
    let (empty, emptied) = channel();
    let put_all = move || -> io::Result<Seal> {
        for block in filled {
            // Nobody wants it back once the rendering is over.
            let _ = empty.send(hashing.put(block)?);
        }
        Ok(hashing.seal())
    };
    let mut hand_over = move |block| {
        full.send(block)
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(emptied.try_recv().unwrap_or_default())
    };
    thread::scope(|scope| {
        let writer = thread::Builder::new().spawn_scoped(scope, put_all)?;
        let rendered = Blocks::through(&mut hand_over, render);
        drop(hand_over);
        let written = writer.join().unwrap_or_else(|panic| resume_unwind(panic));
        // Why the writer stopped says more than that it did.
        let seal = written?;
        rendered.map(|()| seal)
    })
}

/// Gives a block away and an empty one back.
type PutBlock<'put> = dyn FnMut(Vec<u8>) -> io::Result<Vec<u8>> + 'put;

/// Gathers small pieces into blocks.
pub(super) struct Blocks<'put> {
    block: Vec<u8>,
    put: &'put mut PutBlock<'put>,
}

impl<'put> Blocks<'put> {
    fn through(
        put: &'put mut PutBlock<'put>,
        render: impl FnOnce(&mut Blocks<'_>) -> Result<(), RenderError>,
    ) -> Result<(), RenderError> {
        let block = Vec::new();
        let mut blocks = Blocks { block, put };
        render(&mut blocks)?;
        Ok(blocks.flush()?)
    }
}

impl Write for Blocks<'_> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.write_all(octets)?;
        Ok(octets.len())
    }

    fn write_all(&mut self, octets: &[u8]) -> io::Result<()> {
        if self.block.len() + octets.len() > BLOCK_OCTETS {
            self.flush()?;
        }
        self.block.extend_from_slice(octets);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.block = (self.put)(std::mem::take(&mut self.block))?;
        self.block.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pieces: &[usize]) {
        let octets: Vec<u8> = (0..pieces.iter().sum::<usize>())
            .map(|at| at as u8)
            .collect();
        let meant = Seal {
            octets: octets.len() as u64,
            digest: crate::state::digest(&octets),
        };
        for with_thread in [false, true] {
            let mut written = Vec::new();
            let seal = write(&mut written, with_thread, |out| {
                let mut rest = octets.as_slice();
                for piece in pieces {
                    let (first, behind) = rest.split_at(*piece);
                    out.write_all(first)?;
                    rest = behind;
                }
                Ok(())
            });
            assert_eq!(seal.expect("memory"), meant, "{pieces:?} {with_thread}");
            assert!(written == octets, "{pieces:?} {with_thread}");
        }
        let mut input = reading(octets.as_slice());
        let mut first = vec![0; pieces.first().copied().unwrap_or(0)];
        input.read_exact(&mut first).expect("so many");
        assert_eq!(seal_of_rest(input).expect("memory"), meant, "{pieces:?}");
    }

    #[test]
    fn what_passes_is_sealed_whatever_its_pieces() {
        check(&[]);
        check(&[1, 2, 3]);
        check(&[BLOCK_OCTETS, 1]);
        check(&[1, BLOCK_OCTETS * 2 + 1, 7]);
        check(&[1000; 2000]);
    }

    struct Full;

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_is_told_as_such() {
        for with_thread in [false, true] {
            let piece = [0; 1000];
            let written = write(Full, with_thread, |out| {
                for _ in 0..10_000 {
                    out.write_all(&piece)?;
                }
                Ok(())
            });
            let is_told = matches!(
                &written,
                Err(RenderError::NotWritten(error)) if error.kind() == io::ErrorKind::StorageFull
            );
            assert!(is_told, "{with_thread}: {written:?}");
        }
    }
}
