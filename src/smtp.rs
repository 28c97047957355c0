//! One SMTP session as a client leads it, up to `RCPT TO`: greeting, EHLO, MAIL, RCPT, RSET, QUIT. Never DATA.
//!
//! The other side may be hostile, broken or a tarpit, so everything it does is bounded: the time of a whole reply (not of a
//! read, which a server that drips could prolong for ever), the octets of a line and of a reply, and the whole run. It is
//! not spoken to before it has greeted (postscreen refuses whoever does). No TLS: a server that insists on it says 530,
//! and that is told. Not here: what a reply means (`probe::verdict`).
//!
//! Invariant: a command is one line. What goes into it is an [`Address`] or a [`Domain`], and neither can hold a line end.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::str::FromStr;
use std::time::{Duration, Instant};

use crate::address::{ADDRESS_OCTETS_MAX, Address};
use crate::domain::Domain;

/// RFC 5321 allows 512; servers that say more in a line exist.
const LINE_OCTETS_MAX: usize = 4096;
/// The longest answer to EHLO that was seen has some 20 lines.
const REPLY_OCTETS_MAX: usize = 32 * 1024;
/// A farewell is awaited for so long at most.
const FAREWELL: Duration = Duration::from_secs(5);
const PORT: u16 = 25;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    host: String,
    port: u16,
}

/// Why a text is no [`Endpoint`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not HOST:PORT, like mx1.example.com:25, 192.0.2.1:25 or [2001:db8::1]:25")]
pub struct NotAnEndpoint;

impl FromStr for Endpoint {
    type Err = NotAnEndpoint;

    /// Without a port, 25.
    fn from_str(text: &str) -> Result<Endpoint, NotAnEndpoint> {
        let (host, port) = match text.strip_prefix('[') {
            Some(literal) => {
                let (host, behind) = literal.split_once(']').ok_or(NotAnEndpoint)?;
                let port = behind.strip_prefix(':');
                if port.is_none() && !behind.is_empty() {
                    return Err(NotAnEndpoint);
                }
                (host, port)
            }
            None if text.matches(':').count() > 1 => (text, None),
            None => text
                .split_once(':')
                .map_or((text, None), |(host, port)| (host, Some(port))),
        };
        let port = match port {
            Some(port) => port.parse().map_err(|_| NotAnEndpoint)?,
            None => PORT,
        };
        let is_strange = |character: char| character.is_control() || character.is_whitespace();
        if host.is_empty() || host.contains(is_strange) || host.contains(['[', ']']) || port == 0 {
            return Err(NotAnEndpoint);
        }
        let host = host.to_owned();
        Ok(Endpoint { host, port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// What a server said, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Three digits, the first of them 2 to 5.
    pub code: u16,
    /// What stands behind the code, line by line. From elsewhere: not to be printed as it is.
    pub lines: Vec<String>,
    /// From the end of the command to the end of the reply.
    pub took: Duration,
}

impl Reply {
    /// All lines as one.
    pub fn text(&self) -> String {
        self.lines.join(" ")
    }

    /// The enhanced status code (RFC 3463) at the beginning of the text: `5.1.1`.
    pub fn enhanced(&self) -> Option<(u16, u16, u16)> {
        let first = self.lines.first()?.split_whitespace().next()?;
        let mut numbers = first.splitn(3, '.').map(str::parse);
        let mut number = || numbers.next()?.ok();
        Some((number()?, number()?, number()?))
    }
}

/// Code and text, not more of it than a person reads. Escape it before a terminal sees it.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:.400}", self.code, self.text())
    }
}

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub enum SmtpError {
    /// The name has no address.
    #[error("its name has no address: {0}")]
    Unresolved(io::Error),
    /// No connection.
    #[error("it cannot be connected to: {0}")]
    Unreachable(io::Error),
    /// No whole reply in time.
    #[error("no answer within {}", humantime::format_duration(*.0))]
    Silent(Duration),
    /// A reply began and did not end in time.
    #[error("an answer began and did not end within {}", humantime::format_duration(*.0))]
    Dripping(Duration),
    /// The connection ended.
    #[error("it closed the connection")]
    Closed,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(io::Error),
    /// More than any server has to say.
    #[error("its answer is longer than any answer of SMTP")]
    TooMuch,
    /// Something else than SMTP.
    #[error("this is no answer of SMTP: {0:?}")]
    NotSmtp(String),
    /// It answered what it was not asked: whatever it says from now on may belong to another question.
    #[error("it speaks without being asked")]
    Unasked,
    /// The whole run is over.
    #[error("the time for the whole run (run_timeout) is up")]
    TimeIsUp,
}

/// How long is waited.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For one reply, from its question to its end.
    pub reply: Duration,
    /// When everything must be over.
    pub deadline: Instant,
}

/// A session that is open.
#[derive(Debug)]
pub struct Session {
    stream: TcpStream,
    incoming: Incoming,
    patience: Patience,
    offers_smtputf8: bool,
}

impl Session {
    /// Connects and waits for the greeting, of whatever code: nothing is sent before.
    pub fn open(endpoint: &Endpoint, patience: Patience) -> Result<(Session, Reply), SmtpError> {
        let addresses = (endpoint.host.as_str(), endpoint.port).to_socket_addrs();
        let addresses = addresses.map_err(SmtpError::Unresolved)?;
        let mut session = Session {
            stream: connect(addresses, patience)?,
            incoming: Incoming::default(),
            patience,
            offers_smtputf8: false,
        };
        session
            .stream
            .set_nodelay(true)
            .map_err(SmtpError::Broken)?;
        let greeting = session.reply()?;
        Ok((session, greeting))
    }

    /// Says who asks: a name, or the address of this machine where it has no full name. A server that knows no EHLO is
    /// greeted with HELO.
    pub fn hello(&mut self, name: Option<&Domain>) -> Result<Reply, SmtpError> {
        let name = match name {
            Some(name) => name.ascii().to_owned(),
            None => self.name_of_this_machine()?,
        };
        let reply = self.ask(&format!("EHLO {name}"))?;
        if matches!(reply.code, 500 | 502) {
            return self.ask(&format!("HELO {name}"));
        }
        let is_smtputf8 = |line: &String| line.trim().eq_ignore_ascii_case("SMTPUTF8");
        self.offers_smtputf8 = reply.code == 250 && reply.lines.iter().skip(1).any(is_smtputf8);
        Ok(reply)
    }

    /// Whether addresses outside ASCII can be said (RFC 6531).
    pub fn offers_smtputf8(&self) -> bool {
        self.offers_smtputf8
    }

    /// Begins a transaction. Without a sender, that of a bounce, which no server may refuse.
    pub fn mail_from(
        &mut self,
        sender: Option<&Address>,
        with_smtputf8: bool,
    ) -> Result<Reply, SmtpError> {
        let sender = sender.map(said).unwrap_or_default();
        let extension = if with_smtputf8 { " SMTPUTF8" } else { "" };
        self.ask(&format!("MAIL FROM:<{sender}>{extension}"))
    }

    /// Asks for a recipient.
    pub fn rcpt_to(&mut self, address: &Address) -> Result<Reply, SmtpError> {
        self.ask(&format!("RCPT TO:<{}>", said(address)))
    }

    /// Forgets the transaction and takes leave. What the server says to that changes nothing.
    pub fn end(mut self) {
        self.patience.reply = self.patience.reply.min(FAREWELL);
        let _ = self.ask("RSET").and_then(|_| self.ask("QUIT"));
    }

    fn ask(&mut self, command: &str) -> Result<Reply, SmtpError> {
        debug_assert!(!command.contains(['\r', '\n']), "a command is one line");
        if self.incoming.has_begun() {
            // A farewell may come at any time, and answers whatever is asked now.
            return self.reply().and_then(|reply| match reply.code {
                421 => Ok(reply),
                _ => Err(SmtpError::Unasked),
            });
        }
        let left = self.left(Instant::now());
        if left.is_zero() {
            return Err(SmtpError::TimeIsUp);
        }
        let line = format!("{command}\r\n");
        let set = self.stream.set_write_timeout(Some(left));
        // Whoever closed the connection may have said why before; where not, reading fails as well.
        let _ = set.and_then(|()| self.stream.write_all(line.as_bytes()));
        self.reply()
    }

    /// What is left of the time for a reply that was asked for at `asked`.
    fn left(&self, asked: Instant) -> Duration {
        let now = Instant::now();
        let of_reply = self.patience.reply.saturating_sub(now - asked);
        of_reply.min(self.patience.deadline.saturating_duration_since(now))
    }

    fn reply(&mut self) -> Result<Reply, SmtpError> {
        let asked = Instant::now();
        loop {
            if let Some((code, lines)) = self.incoming.reply()? {
                let took = asked.elapsed();
                return Ok(Reply { code, lines, took });
            }
            self.receive(asked)?;
        }
    }

    /// Waits for more octets of the reply to what was asked then.
    fn receive(&mut self, asked: Instant) -> Result<(), SmtpError> {
        let late = |incoming: &Incoming, patience: Patience| {
            if patience.deadline <= Instant::now() {
                SmtpError::TimeIsUp
            } else if incoming.has_begun() {
                SmtpError::Dripping(patience.reply)
            } else {
                SmtpError::Silent(patience.reply)
            }
        };
        let left = self.left(asked);
        if left.is_zero() {
            return Err(late(&self.incoming, self.patience));
        }
        let mut block = [0; 1024];
        let set = self.stream.set_read_timeout(Some(left));
        match set.and_then(|()| self.stream.read(&mut block)) {
            Ok(0) => Err(SmtpError::Closed),
            Ok(count) => {
                self.incoming.take(&block[..count]);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) =>
            {
                Err(late(&self.incoming, self.patience))
            }
            Err(error) => Err(SmtpError::Broken(error)),
        }
    }

    /// Its full name; where it has none, its address as a literal (RFC 5321 section 4.1.4).
    fn name_of_this_machine(&self) -> Result<String, SmtpError> {
        let uname = rustix::system::uname();
        let name = uname.nodename().to_str().ok();
        let full = name.filter(|name| name.contains('.') && *name != "localhost.localdomain");
        if let Some(domain) = full.and_then(|name| Domain::parse(name).ok()) {
            return Ok(domain.ascii().to_owned());
        }
        let own = self.stream.local_addr().map_err(SmtpError::Broken)?;
        Ok(match own {
            SocketAddr::V4(own) => format!("[{}]", own.ip()),
            SocketAddr::V6(own) => format!("[IPv6:{}]", own.ip()),
        })
    }
}

/// What a server sends, put together to replies, however it comes in pieces. It waits for nothing.
#[derive(Debug, Default)]
pub struct Incoming {
    /// Octets that were received and not taken yet.
    unread: Vec<u8>,
    /// The lines so far of the reply that has begun.
    lines: Vec<String>,
    octets: usize,
    code: Option<u16>,
}

impl Incoming {
    /// Takes octets in.
    pub fn take(&mut self, octets: &[u8]) {
        self.unread.extend_from_slice(octets);
    }

    /// Whether there is something of a reply.
    pub fn has_begun(&self) -> bool {
        self.code.is_some() || !self.unread.is_empty()
    }

    /// The next whole reply, its code and what stands behind it line by line; `None` while its end is missing.
    pub fn reply(&mut self) -> Result<Option<(u16, Vec<String>)>, SmtpError> {
        while let Some(line) = self.line()? {
            self.octets += line.len();
            if self.octets > REPLY_OCTETS_MAX {
                return Err(SmtpError::TooMuch);
            }
            let (code, is_last, text) = parse(&line)
                .filter(|(found, ..)| self.code.is_none_or(|code| code == *found))
                .ok_or_else(|| {
                    let start: String = String::from_utf8_lossy(&line).chars().take(80).collect();
                    SmtpError::NotSmtp(start)
                })?;
            self.lines.push(text);
            if is_last {
                (self.octets, self.code) = (0, None);
                return Ok(Some((code, std::mem::take(&mut self.lines))));
            }
            self.code = Some(code);
        }
        Ok(None)
    }

    /// One line without its end.
    fn line(&mut self) -> Result<Option<Vec<u8>>, SmtpError> {
        let end = self.unread.iter().position(|octet| *octet == b'\n');
        if end.unwrap_or(self.unread.len()) > LINE_OCTETS_MAX {
            return Err(SmtpError::TooMuch);
        }
        Ok(end.map(|end| {
            let mut line: Vec<u8> = self.unread.drain(..=end).collect();
            line.truncate(line.trim_ascii_end().len());
            line
        }))
    }
}

/// The first of the addresses that takes a connection.
fn connect(
    addresses: impl Iterator<Item = SocketAddr>,
    patience: Patience,
) -> Result<TcpStream, SmtpError> {
    let mut failed = SmtpError::Unresolved(io::ErrorKind::NotFound.into());
    for address in addresses {
        let left = patience.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(SmtpError::TimeIsUp);
        }
        match TcpStream::connect_timeout(&address, left.min(patience.reply)) {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = SmtpError::Unreachable(error),
        }
    }
    Err(failed)
}

/// Code, whether the line is the last one, and text.
fn parse(line: &[u8]) -> Option<(u16, bool, String)> {
    let (digits, rest) = line.split_at_checked(3)?;
    let is_code = matches!(digits[0], b'2'..=b'5') && digits.iter().all(u8::is_ascii_digit);
    let code = std::str::from_utf8(digits).ok()?.parse().ok();
    let (is_last, text) = match rest {
        [] => (true, rest),
        [b' ', text @ ..] => (true, text),
        [b'-', text @ ..] => (false, text),
        _ => return None,
    };
    let text = String::from_utf8_lossy(text).into_owned();
    code.filter(|_| is_code).map(|code| (code, is_last, text))
}

/// An address as it is said at `RCPT TO`, without angle brackets: with the ASCII form of its domain where nothing else
/// stands against it, since every server understands that. Of the two forms one at least is short enough.
pub fn said(address: &Address) -> String {
    let local = address.quoted_local();
    let domain = address.domain();
    let ascii = format!("{local}@{}", domain.ascii());
    let unicode = format!("{local}@{}", domain.unicode());
    if unicode.len() > ADDRESS_OCTETS_MAX || (local.is_ascii() && ascii.len() <= ADDRESS_OCTETS_MAX)
    {
        ascii
    } else {
        unicode
    }
}

/// Whether a server must offer SMTPUTF8 for an address to be said.
pub fn needs_smtputf8(address: &Address) -> bool {
    !said(address).is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_endpoint(text: &str, expected: Option<(&str, u16)>) {
        let found: Option<Endpoint> = text.parse().ok();
        let found = found.map(|endpoint| (endpoint.host, endpoint.port));
        let expected = expected.map(|(host, port)| (host.to_owned(), port));
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn endpoints_in_every_form() {
        check_endpoint("mx1.example.com:2525", Some(("mx1.example.com", 2525)));
        check_endpoint("mx1.example.com", Some(("mx1.example.com", 25)));
        check_endpoint("192.0.2.1:25", Some(("192.0.2.1", 25)));
        check_endpoint("[2001:db8::1]:2525", Some(("2001:db8::1", 2525)));
        check_endpoint("[2001:db8::1]", Some(("2001:db8::1", 25)));
        check_endpoint("2001:db8::1", Some(("2001:db8::1", 25)));
        for text in [
            "",
            ":25",
            "[]:25",
            "host:",
            "host:0",
            "host:65536",
            "host:smtp",
            "[::1",
            "[::1]25",
            "[::1]:",
            "a b:25",
            "a\r\nb:25",
        ] {
            check_endpoint(text, None);
        }
        let endpoint: Endpoint = "[::1]:25".parse().expect("an endpoint");
        assert_eq!(endpoint.to_string(), "[::1]:25");
    }

    #[test]
    fn lines_of_replies() {
        let whole = |code, text: &str| Some((code, true, text.to_owned()));
        for (line, expected) in [
            (b"250 2.1.5 Ok".as_slice(), whole(250, "2.1.5 Ok")),
            (b"250", whole(250, "")),
            (b"250 ", whole(250, "")),
            (b"550 \xff", whole(550, "\u{fffd}")),
            (b"250-SIZE", Some((250, false, "SIZE".to_owned()))),
            (b"", None),
            (b"25", None),
            (b"2500", None),
            (b"25x Ok", None),
            (b"+50 Ok", None),
            (b"150 Ok", None),
            (b"650 Ok", None),
            (b"HTTP/1.1 400 Bad Request", None),
        ] {
            assert_eq!(parse(line), expected, "{line:?}");
        }
    }

    #[test]
    fn the_enhanced_code_stands_first_or_not_at_all() {
        let enhanced = |text: &str| {
            let lines = vec![text.to_owned()];
            let took = Duration::ZERO;
            let code = 550;
            Reply { code, lines, took }.enhanced()
        };
        assert_eq!(enhanced("5.1.1 <a@x>: unknown"), Some((5, 1, 1)));
        assert_eq!(enhanced("5.1.10 RESOLVER"), Some((5, 1, 10)));
        for text in [
            "",
            "User unknown",
            "<5.1.1@x> 5.1.1",
            "5.1",
            "5.1.1.1",
            "5.1.x",
        ] {
            assert_eq!(enhanced(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_said_is_no_longer_than_an_address() {
        let labels = "ü".repeat(50);
        let address = format!("é{}@{labels}.{labels}.example", "a".repeat(100));
        let address = Address::parse(&address).expect("an address");
        assert!(said(&address).len() <= ADDRESS_OCTETS_MAX && needs_smtputf8(&address));
    }

    #[test]
    fn what_is_said_of_an_address() {
        for (address, expected, is_outside_ascii) in [
            ("Anna@Example.com", "Anna@example.com", false),
            (
                "\"john doe\"@example.com",
                "\"john doe\"@example.com",
                false,
            ),
            ("a@bücher.example", "a@xn--bcher-kva.example", false),
            ("müller@bücher.example", "müller@bücher.example", true),
        ] {
            let address = Address::parse(address).expect("an address");
            assert_eq!(said(&address), expected);
            assert_eq!(needs_smtputf8(&address), is_outside_ascii);
        }
    }
}
