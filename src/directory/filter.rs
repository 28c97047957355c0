//! What stands between the server and all who read its answers: only whole, checked messages pass.
//!
//! Requests come from the LDAP crate through a socket pair, whose other end a task here copies to the server. The same task
//! reads the answers. What a search finds goes to the session in batches, a read's worth each; results go to the crate.
//! Size, nesting and shape are checked first (`message`), the bytes under way are bounded, and the true end of a connection
//! is kept, which the crate would report as "premature end of search stream" whatever it was. Not here: connections and
//! TLS (`wire`), what answers mean (`session`).
//!
//! Invariants: the crate's parser never holds a part of a message for longer than the rest takes to be copied. A batch is
//! handed over before any result that stood behind it, and says whether one did.

use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use super::ber::{self, BerError, Element, Elements};
use super::message::{self, Awaited, MessageError, Passed, Request};

/// The largest message accepted. Active Directory gives at most 5,000 values of an attribute at once, of at most 1,123
/// characters each: 5.6 MB; thrice that has room for names outside ASCII and for servers without such limits.
pub const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What was found and not yet taken by the session: enough to keep both busy, and little memory. A larger message goes alone.
const UNDER_WAY_BYTES_MAX: usize = 1024 * 1024;

const READ_BYTES: usize = 64 * 1024;

/// A server writes entry by entry. To be woken for each costs both sides more than the entries do, so that they are left
/// to gather for a moment; the result of a page waits no longer than that.
const GATHERING: Duration = Duration::from_micros(200);

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
    found: UnboundedReceiver<Batch>,
    task: JoinHandle<()>,
}

/// What a search found: entries and references, in the order they came.
pub struct Batch {
    /// The message id of the search.
    pub search_id: u32,
    /// The result stood behind these; the crate has it.
    pub is_last: bool,
    messages: Vec<u8>,
    taken_bytes: usize,
    // Given back when the batch is dropped.
    _room: OwnedSemaphorePermit,
}

impl Batch {
    /// The next message.
    pub fn next(&mut self) -> Result<Option<Element<'_>>, BerError> {
        let found = Elements::of(&self.messages[self.taken_bytes..], self.taken_bytes).read()?;
        if let Some(message) = found {
            self.taken_bytes = message.content_at + message.content.len();
        }
        Ok(found)
    }
}

struct Shared {
    state: Mutex<State>,
    room: Arc<Semaphore>,
}

#[derive(Default)]
struct State {
    awaited: Option<Awaited>,
    lost: Option<Lost>,
}

/// Octets from the server that were not passed on yet.
struct Received {
    buffer: Vec<u8>,
    filled: usize,
}

/// The whole messages at the beginning of what was received.
struct Checked {
    /// What they answer.
    asked: Option<Awaited>,
    /// Those that a search found stand first.
    found_bytes: usize,
    /// With the result behind them.
    whole_bytes: usize,
    is_last: bool,
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
            room: Arc::new(Semaphore::new(UNDER_WAY_BYTES_MAX)),
        });
        let (to_session, found) = mpsc::unbounded_channel();
        let task = tokio::spawn(run(server, library, to_session, Arc::clone(&shared)));
        let filter = Filter {
            shared,
            found,
            task,
        };
        Ok((filter, for_library))
    }

    /// The next batch of whatever search was asked; `None` when the connection is over.
    pub async fn found(&mut self) -> Option<Batch> {
        self.found.recv().await
    }

    /// Why the connection is over, told once; `None` while it is not.
    pub fn lost(&self) -> Option<Lost> {
        self.shared.state().lost.take()
    }

    /// Whoever asks next is told again why the connection is over.
    pub fn tell_again(&self, lost: Lost) {
        self.shared.state().lost = Some(lost);
    }

    /// Waits until what the crate wrote last has been sent.
    pub async fn flushed(mut self, patience: Duration) {
        let _ = tokio::time::timeout(patience, &mut self.task).await;
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of the state is one assignment, so a panic elsewhere cannot have left it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn run<S>(
    server: S,
    library: UnixStream,
    to_session: UnboundedSender<Batch>,
    shared: Arc<Shared>,
) where
    S: AsyncRead + AsyncWrite + Send,
{
    let (from_server, mut to_server) = tokio::io::split(server);
    let (from_library, to_library) = tokio::io::split(library);
    tokio::select! {
        lost = copy_answers(from_server, to_library, &to_session, &shared) => shared.state().lost = Some(lost),
        () = copy_requests(from_library, &mut to_server, &shared) => {
            // The crate is done: the close is told to the server, whose opinion of it does not matter.
            let _ = to_server.shutdown().await;
        }
    }
    // Both the batches and the crate's end of the pair end as this returns, after `lost` has been set.
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
    to_session: &UnboundedSender<Batch>,
    shared: &Shared,
) -> Lost {
    let mut received = Received {
        buffer: vec![0; READ_BYTES],
        filled: 0,
    };
    loop {
        match received.read(&mut from_server).await {
            Ok(()) => {}
            Err(Lost::Closed) if received.filled > 0 => {
                return Lost::ClosedInMessage {
                    received_bytes: received.filled,
                };
            }
            Err(lost) => return lost,
        }
        let (checked, verdict) = check_batch(received.octets(), shared);
        // What was good before the bad is passed on all the same: it may be the refusal of a password.
        if let Some(asked) = checked.asked
            && asked.request == Request::Search
            && checked.whole_bytes > 0
        {
            let found = &received.octets()[..checked.found_bytes];
            let takes = bytes_to_u32(found.len().min(UNDER_WAY_BYTES_MAX));
            let room = match Arc::clone(&shared.room).acquire_many_owned(takes).await {
                Ok(room) => room,
                // Nobody closes the semaphore.
                Err(error) => return Lost::Broken(io::Error::other(error)),
            };
            let batch = Batch {
                search_id: asked.id,
                is_last: checked.is_last,
                messages: found.to_vec(),
                taken_bytes: 0,
                _room: room,
            };
            if to_session.send(batch).is_err() {
                return Lost::Broken(io::ErrorKind::BrokenPipe.into());
            }
        }
        let result = &received.octets()[checked.found_bytes..checked.whole_bytes];
        if let Err(error) = to_library.write_all(result).await {
            return Lost::Broken(error);
        }
        let has_room = received.filled < received.buffer.len();
        received.pass(checked.whole_bytes);
        if let Err(lost) = verdict {
            return lost;
        }
        if checked.found_bytes > 0 && !checked.is_last && has_room {
            // First the session works on what there is. Then nothing runs on this thread, and the clock of the runtime is
            // too coarse.
            tokio::task::yield_now().await;
            std::thread::sleep(GATHERING);
        }
    }
}

impl Received {
    async fn read(&mut self, server: &mut (impl AsyncRead + Unpin)) -> Result<(), Lost> {
        if self.filled == self.buffer.len() {
            // A message larger than the buffer; it was not refused by its length, and half of it is here.
            self.buffer.resize(self.filled * 2, 0);
        }
        match server.read(&mut self.buffer[self.filled..]).await {
            Ok(0) => Err(Lost::Closed),
            // TLS that ends without its own farewell. Whatever had to come has not come either way.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Lost::Closed),
            Err(error) => Err(Lost::Broken(error)),
            Ok(count) => {
                self.filled += count;
                Ok(())
            }
        }
    }

    fn octets(&mut self) -> &mut [u8] {
        &mut self.buffer[..self.filled]
    }

    /// Forgets what was passed on. What stays is less than a message.
    fn pass(&mut self, bytes: usize) {
        self.buffer.copy_within(bytes..self.filled, 0);
        self.filled -= bytes;
    }
}

/// Checks the whole messages at the beginning of the buffer: what may pass, and whether what follows it ends the
/// connection.
fn check_batch(buffer: &mut [u8], shared: &Shared) -> (Checked, Result<(), Lost>) {
    let mut state = shared.state();
    let mut checked = Checked {
        asked: state.awaited,
        found_bytes: 0,
        whole_bytes: 0,
        is_last: false,
    };
    loop {
        match check_next(&mut buffer[checked.whole_bytes..], state.awaited) {
            Ok(None) => return (checked, Ok(())),
            Err(lost) => return (checked, Err(lost)),
            Ok(Some((frame_bytes, is_last))) => {
                checked.whole_bytes += frame_bytes;
                if is_last {
                    // Nothing passes behind it until something is asked again.
                    checked.is_last = true;
                    state.awaited = None;
                } else {
                    checked.found_bytes = checked.whole_bytes;
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
        Ok(Passed::Found) => Ok(Some((frame_bytes, false))),
        Ok(Passed::Last { not_text }) => {
            if let Some(text) = not_text.and_then(|range| frame.get_mut(range)) {
                text.iter_mut()
                    .filter(|octet| !octet.is_ascii())
                    .for_each(|octet| *octet = b'?');
            }
            Ok(Some((frame_bytes, true)))
        }
        Err(MessageError::Notice(outcome)) => Err(Lost::Notice(outcome)),
        Err(error) => Err(Lost::Malformed(error)),
    }
}

fn bytes_to_u32(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
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
