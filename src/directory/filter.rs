//! What stands between the server and the LDAP crate: only whole, checked messages pass.
//!
//! The crate reads from one end of a socket pair; a task here copies between its other end and the server. Size, nesting
//! and shape are checked before the crate's parser sees a message (`message`), the bytes under way are bounded, and the
//! true end of a connection is kept, which the crate would report as "premature end of search stream" whatever it was.
//! Not here: connections and TLS (`wire`), what answers mean (`session`).
//!
//! Invariant: the crate's parser never holds a part of a message for longer than the rest takes to be copied.

use std::collections::VecDeque;
use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::ber::{self, BerError};
use super::message::{self, Awaited, MessageError};

/// The largest message accepted. Active Directory gives at most 5,000 values of an attribute at once, of at most 1,123
/// characters each: 5.6 MB; thrice that has room for names outside ASCII and for servers without such limits.
pub const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Messages that were passed on and not yet taken by the session: enough to keep both busy, and little memory.
const UNDER_WAY_BYTES_MAX: usize = 1024 * 1024;

const READ_BYTES: usize = 64 * 1024;

/// How a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// Between two messages.
    #[error("the server closed the connection before it had answered")]
    Closed,
    /// Within one.
    #[error("the connection ended in the middle of a message, {received_bytes} bytes into it")]
    ClosedInMessage {
        /// How much of it was there.
        received_bytes: usize,
    },
    /// Reset, unreachable, or damaged TLS.
    #[error("the connection broke: {0}")]
    Broken(io::Error),
    /// More than we are willing to hold.
    #[error(
        "the server announced a message of {announced_bytes} bytes; more than {FRAME_BYTES_MAX} are not accepted"
    )]
    TooLong {
        /// The length it claimed.
        announced_bytes: usize,
    },
    /// Octets that are no LDAP, or LDAP out of turn.
    #[error("the server sent something that is not an answer in LDAP: {0}")]
    Malformed(MessageError),
    /// A notice of disconnection.
    #[error(
        "the server ended the connection with a notice: {} ({}){}",
        super::failure::code_name(.0.code), .0.code, super::failure::said(&.0.diagnostic)
    )]
    Notice(message::Outcome),
}

/// The session's side of the filter.
pub struct Filter {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    state: Mutex<State>,
    room: Semaphore,
}

#[derive(Default)]
struct State {
    awaited: Option<Awaited>,
    lost: Option<Lost>,
    // What each message under way took of the room, in the order they were passed on.
    under_way: VecDeque<u32>,
}

impl Filter {
    /// Starts copying; the stream returned is for the LDAP crate.
    pub fn start<S>(server: S) -> io::Result<(Filter, StdUnixStream)>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (ours, for_library) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let library = UnixStream::from_std(ours)?;
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            // A batch holds one message begun earlier and one read's worth of others.
            room: Semaphore::new(UNDER_WAY_BYTES_MAX + READ_BYTES),
        });
        let task = tokio::spawn(run(server, library, Arc::clone(&shared)));
        Ok((Filter { shared, task }, for_library))
    }

    /// To be called for every message that came out of the LDAP crate: makes room for another.
    pub fn taken(&self) {
        let taken = self.shared.state().under_way.pop_front();
        if let Some(bytes) = taken {
            self.shared.room.add_permits(bytes_to_usize(bytes));
        }
    }

    /// Why the connection is over, told once; `None` while it is not.
    pub fn lost(&self) -> Option<Lost> {
        self.shared.state().lost.take()
    }

    /// Waits until what the crate wrote last has been sent.
    pub async fn flushed(self, patience: Duration) {
        let _ = tokio::time::timeout(patience, self.task).await;
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of the state is one assignment, so a panic elsewhere cannot have left it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn run<S>(server: S, library: UnixStream, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Send,
{
    let (from_server, mut to_server) = tokio::io::split(server);
    let (from_library, to_library) = tokio::io::split(library);
    tokio::select! {
        lost = copy_answers(from_server, to_library, &shared) => shared.state().lost = Some(lost),
        () = copy_requests(from_library, &mut to_server, &shared) => {
            // The crate is done: the close is told to the server, whose opinion of it does not matter.
            let _ = to_server.shutdown().await;
        }
    }
    // The crate's end of the pair closes as this returns, after `lost` has been set.
}

async fn copy_requests(
    mut from_library: impl AsyncRead + Unpin,
    to_server: &mut (impl AsyncWrite + Unpin),
    shared: &Shared,
) {
    let mut buffer = Vec::new();
    let mut chunk = vec![0; READ_BYTES];
    loop {
        match from_library.read(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(count) => buffer.extend_from_slice(&chunk[..count]),
        }
        let mut whole = 0;
        while let Ok(Some(header)) = ber::header(&buffer[whole..]) {
            let Some(frame) = buffer[whole..].get(..header.total_octets()) else {
                break;
            };
            if let Some(awaited) = message::awaited_by(frame) {
                shared.state().awaited = Some(awaited);
            }
            whole += frame.len();
        }
        let sent = async {
            to_server.write_all(&buffer[..whole]).await?;
            to_server.flush().await
        };
        if sent.await.is_err() {
            // The other direction knows better why: a notice, a close or a reset is there to be read.
            std::future::pending::<()>().await;
        }
        buffer.drain(..whole);
    }
}

async fn copy_answers(
    mut from_server: impl AsyncRead + Unpin,
    mut to_library: impl AsyncWrite + Unpin,
    shared: &Shared,
) -> Lost {
    let mut buffer = Vec::new();
    let mut chunk = vec![0; READ_BYTES];
    loop {
        let count = match from_server.read(&mut chunk).await {
            Ok(count) => count,
            // TLS that ends without its own farewell. Whatever had to come has not come either way.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
            Err(error) => return Lost::Broken(error),
        };
        match count {
            0 if buffer.is_empty() => return Lost::Closed,
            0 => {
                return Lost::ClosedInMessage {
                    received_bytes: buffer.len(),
                };
            }
            count => buffer.extend_from_slice(&chunk[..count]),
        }
        let (whole, room, verdict) = check_batch(&mut buffer, shared);
        if whole > 0 {
            match shared.room.acquire_many(room).await {
                Ok(permit) => permit.forget(),
                // Nobody closes the semaphore.
                Err(error) => return Lost::Broken(io::Error::other(error)),
            }
            if let Err(error) = to_library.write_all(&buffer[..whole]).await {
                return Lost::Broken(error);
            }
            buffer.drain(..whole);
        }
        // What was good before the bad is passed on all the same: it may be the refusal of a password.
        if let Err(lost) = verdict {
            return lost;
        }
    }
}

/// Checks the whole messages at the beginning of the buffer: how many bytes may pass, how much room they take, and
/// whether what follows them ends the connection.
fn check_batch(buffer: &mut [u8], shared: &Shared) -> (usize, u32, Result<(), Lost>) {
    let (mut whole, mut room) = (0, 0);
    let mut state = shared.state();
    loop {
        let rest = &mut buffer[whole..];
        match check_next(rest, state.awaited) {
            Ok(None) => return (whole, room, Ok(())),
            Err(lost) => return (whole, room, Err(lost)),
            Ok(Some((frame_bytes, is_last))) => {
                whole += frame_bytes;
                let takes = bytes_to_u32(frame_bytes.min(UNDER_WAY_BYTES_MAX));
                room += takes;
                state.under_way.push_back(takes);
                if is_last {
                    state.awaited = None;
                }
            }
        }
    }
}

fn check_next(rest: &mut [u8], awaited: Option<Awaited>) -> Result<Option<(usize, bool)>, Lost> {
    let malformed = |error: BerError| Lost::Malformed(error.into());
    let Some(header) = ber::header(rest).map_err(malformed)? else {
        return Ok(None);
    };
    if header.tag != ber::SEQUENCE {
        return Err(malformed(BerError::Missing("message")));
    }
    // Refused by its header, before anything of it is kept.
    let frame_bytes = header.total_octets();
    if frame_bytes > FRAME_BYTES_MAX {
        return Err(Lost::TooLong {
            announced_bytes: frame_bytes,
        });
    }
    let Some(frame) = rest.get_mut(..frame_bytes) else {
        return Ok(None);
    };
    match message::check_response(frame, awaited) {
        Ok(passed) => {
            if let Some(text) = passed.not_text.and_then(|range| frame.get_mut(range)) {
                text.iter_mut()
                    .filter(|octet| !octet.is_ascii())
                    .for_each(|octet| *octet = b'?');
            }
            Ok(Some((frame_bytes, passed.is_last)))
        }
        Err(MessageError::Notice(outcome)) => Err(Lost::Notice(outcome)),
        Err(error) => Err(Lost::Malformed(error)),
    }
}

fn bytes_to_u32(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn bytes_to_usize(bytes: u32) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expected: &str) {
        let mut bytes = bytes.to_vec();
        let found = match check_next(&mut bytes, None) {
            Ok(Some((frame_bytes, _))) => format!("{frame_bytes} bytes pass"),
            Ok(None) => "more".to_owned(),
            Err(lost) => lost.to_string(),
        };
        assert!(found.contains(expected), "{found}");
    }

    #[test]
    fn a_message_is_refused_by_its_header() {
        check(&[], "more");
        check(&[0x30, 0x84, 0x00, 0xff, 0xff, 0xf0], "more");
        check(
            &[0x30, 0x84, 0x7f, 0xff, 0xff, 0xff],
            "a message of 2147483653 bytes",
        );
        check(b"HTTP/1.1 400 Bad Request", "no message where one belongs");
        check(&[0x30, 0x80], "indefinite");
    }

    #[test]
    fn nested_headers_are_refused_without_recursion() {
        let mut bytes = vec![];
        for _ in 0..200_000 {
            let inner = bytes.len();
            bytes.extend(u32::try_from(inner).expect("short").to_le_bytes());
            bytes.extend([0x84, ber::SEQUENCE]);
        }
        bytes.reverse();
        // Reversed: every header holds all that follow it.
        check(&bytes, "nested deeper than 16 levels");
    }
}
