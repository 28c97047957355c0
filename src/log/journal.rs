//! The journal of systemd, in its own protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL): entries with priority and fields, which are
//! named `RCPTSYNC_…`.
//!
//! journald looks up of which unit a process is when it *reads* an entry, and what ended meanwhile is of no unit: `journalctl -u`
//! would not show what a short run said at its end (systemd issue 2913). So each entry is waited for. It travels as a sealed
//! file in memory that carries a lock; once journald has closed it, the lock is free, and the entry is in the journal.
//!
//! Where the socket does not take an entry, it goes to standard error behind its priority (sd-daemon(3)): that is the journal
//! too, without fields. Why not a library: those known send values as they are, so what somebody wrote into an attribute would
//! reach the terminal of whoever reads the journal; and none of them waits.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, MemfdFlags, SealFlags, fcntl_add_seals, flock, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::line::Line;
use super::named;

const SOCKET: &str = "/run/systemd/journal/socket";

/// How long an entry is waited for. A journal that is slower keeps no run waiting a second time.
const PATIENCE: Duration = Duration::from_secs(2);

/// Between two looks.
const PAUSE: Duration = Duration::from_micros(200);

/// The way to the journal.
#[derive(Debug)]
pub struct Journal {
    socket: io::Result<UnixDatagram>,
    is_slow: AtomicBool,
}

impl Journal {
    /// The journal, where standard error leads to it.
    pub fn behind_standard_error() -> Option<Journal> {
        leads_to_the_journal(io::stderr()).then(|| Journal {
            socket: connected(),
            is_slow: AtomicBool::new(false),
        })
    }

    /// Says a line. It is in the journal when this returns, unless that is slow.
    pub fn say(&self, line: &Line, run: Option<&str>) -> io::Result<()> {
        if let Ok(socket) = &self.socket
            && let Ok(witness) = send(socket, &entry(line, run))
        {
            self.wait(&witness);
            return Ok(());
        }
        let (_, priority) = named(line.level);
        let run = run.map_or_else(String::new, |run| format!("{run} "));
        let text: String = (line.journal_message().lines())
            .map(|line| format!("<{priority}>{run}{line}\n"))
            .collect();
        io::stderr().lock().write_all(text.as_bytes())
    }

    fn wait(&self, witness: &File) {
        let deadline = Instant::now() + PATIENCE;
        while !self.is_slow.load(Ordering::Relaxed)
            && flock(witness, FlockOperation::NonBlockingLockExclusive).is_err()
        {
            self.is_slow
                .store(Instant::now() > deadline, Ordering::Relaxed);
            std::thread::sleep(PAUSE);
        }
    }
}

/// Whether standard output leads to the journal as well, by the same stream as standard error.
pub fn is_standard_output_too() -> bool {
    leads_to_the_journal(io::stdout())
}

/// As systemd.exec(5) says of `JOURNAL_STREAM`: that it is set is not enough, because a program in between may have put
/// something else in the place of the stream.
fn leads_to_the_journal(stream: impl AsFd) -> bool {
    let told = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    rustix::fs::fstat(stream).is_ok_and(|stat| told == format!("{}:{}", stat.st_dev, stat.st_ino))
}

fn connected() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.connect(SOCKET)?;
    Ok(socket)
}

/// Sends an entry, and gives the same file once more: it can be locked as soon as journald has done with it.
fn send(socket: &UnixDatagram, entry: &[u8]) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(memfd_create("rcptsync-entry", flags)?);
    file.write_all(entry)?;
    // journald reads what nobody can change any more.
    fcntl_add_seals(
        &file,
        SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE,
    )?;
    // Opened anew, so that it does not share the lock.
    let witness = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    let descriptors = [file.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(
        socket,
        &[IoSlice::new(&[])],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(witness)
}

fn entry(line: &Line, run: Option<&str>) -> Vec<u8> {
    let (_, priority) = named(line.level);
    let mut entry = Vec::new();
    put(&mut entry, "MESSAGE", &line.journal_message());
    put(&mut entry, "PRIORITY", &priority.to_string());
    put(&mut entry, "SYSLOG_IDENTIFIER", "rcptsync");
    if let Some(run) = run {
        put(&mut entry, "RCPTSYNC_RUN", run);
    }
    for (name, value) in &line.fields {
        let name = format!("RCPTSYNC_{}", name.to_ascii_uppercase());
        let text = value.as_str().map(str::to_owned);
        put(
            &mut entry,
            &name,
            &text.unwrap_or_else(|| value.to_string()),
        );
    }
    entry
}

/// The form with a length, which no value can break out of.
fn put(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend_from_slice(name.as_bytes());
    entry.push(b'\n');
    entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}
