//! An LDAP server for tests that misbehaves as a real one cannot be made to.
//!
//! It binds a free port of 127.0.0.1, serves a [`Directory`] with paged results as Active Directory does, remembers what
//! clients sent ([`Stats`]) and fails where its [`Fault`]s tell it to. Threads and blocking sockets; it ends when the
//! [`Server`] is dropped. With a number of its last change ([`Directory::usn`]) it is a controller that keeps count of its
//! changes and tells them (DirSync); [`Server::change`] changes what is served. Filters are evaluated for DirSync and, where
//! [`Directory::evaluates_filters`] asks for it, everywhere; else a subtree search finds every entry below its base.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "each place looks for the faults that concern it"
)]

mod ber;
mod connection;
mod controller;
mod filter;
pub mod sequence;
#[cfg(test)]
mod tests;
mod tls;

use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

pub use tls::{Authority, Identity, Validity};

/// What is served.
#[derive(Clone, Default)]
pub struct Directory {
    base: String,
    root: Vec<(String, Vec<Vec<u8>>)>,
    objects: Vec<Object>,
    accounts: Vec<(String, String)>,
    is_bind_needed: bool,
    range_max: Option<usize>,
    page_max: Option<usize>,
    evaluates_filters: bool,
    usn: Option<u64>,
    invocation_id: [u8; 16],
    sees_deletions: bool,
    dir_sync_round: Option<usize>,
    evicted: Option<u32>,
    lacks_dir_sync: bool,
    references: Vec<String>,
    faults: Vec<Fault>,
    script: Option<sequence::Script>,
    identity: Option<Identity>,
    is_ldaps: bool,
}

/// One entry.
#[derive(Clone, Debug, Default)]
struct Object {
    dn: Vec<u8>,
    attributes: Vec<(String, Vec<Vec<u8>>)>,
    /// What changed last with which number; an entry that was there from the beginning has none.
    changes: Vec<(String, u64)>,
    is_deleted: bool,
}

const DIR_SYNC: &[u8] = b"1.2.840.113556.1.4.841";
const SHOW_DELETED: &[u8] = b"1.2.840.113556.1.4.417";

/// When something goes wrong. Pages are counted from 1 in each search, rounds of DirSync from 1 on each connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Instead of the answer to StartTLS.
    StartTls,
    /// Instead of the answer to a bind.
    Bind,
    /// Instead of the answer to a search for one entry.
    BaseSearch,
    /// Instead of a page.
    Page(u32),
    /// Instead of a round of DirSync.
    DirSync(u32),
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection is closed in order.
    Close(Moment),
    /// The connection is reset.
    Reset(Moment),
    /// Nothing is answered any more.
    Silence(Moment),
    /// These octets are sent, and then nothing more.
    Bytes(Moment, Vec<u8>),
    /// These octets are sent, then so many zeros, then nothing more.
    Zeros(Moment, Vec<u8>, u64),
    /// This result code and text come, without entries.
    Code(Moment, u32, Vec<u8>),
    /// A notice of disconnection (52, "going down"), as the standard or as Active Directory encodes it; then a close.
    Notice(Moment, NoticeForm),
    /// The good answer to StartTLS, and behind it in clear what an attacker slips in.
    StartTlsInjection(Vec<u8>),
    /// The result of a page has this code, with its entries, a cookie and all.
    PageCode {
        /// Which page.
        page: u32,
        /// The code.
        code: u32,
    },
    /// The connection is closed in order after so many entries of a page.
    CutAfterEntries {
        /// Which page.
        page: u32,
        /// How many entries of it come.
        entries: usize,
    },
    /// The connection is closed in the middle of an entry.
    CutInMessage {
        /// Which page.
        page: u32,
    },
    /// The result of a page has no paging control.
    NoPagingControl {
        /// Which page.
        page: u32,
    },
    /// The value of the paging control of a page is this.
    PagingControl {
        /// Which page.
        page: u32,
        /// The octets.
        value: Vec<u8>,
    },
    /// The last page has a cookie that leads to itself.
    EndlessCookie,
    /// Every page from this one on is empty and has a cookie.
    EndlessEmptyPages {
        /// The first of them.
        page: u32,
    },
    /// Pages have one entry more than asked for.
    TooManyEntriesInPage,
    /// These octets come before the result of a page.
    BytesInPage {
        /// Which page.
        page: u32,
        /// A whole message, or not.
        bytes: Vec<u8>,
    },
    /// A message comes so many times before the result of a page, each in a write of its own.
    RepeatedInPage {
        /// Which page.
        page: u32,
        /// A whole message.
        bytes: Vec<u8>,
        /// How often.
        times: usize,
    },
    /// These octets come in one write with the result of a page, behind it.
    BytesBehindPage {
        /// Which page.
        page: u32,
        /// A whole message, or not.
        bytes: Vec<u8>,
    },
    /// A page comes octet by octet.
    SlowDrip {
        /// Which page.
        page: u32,
        /// Between two octets.
        pause: Duration,
    },
    /// The result of a round of DirSync has no control, and so no cookie.
    NoDirSyncControl {
        /// Which round.
        round: u32,
    },
    /// The value of the control of a round of DirSync is this.
    DirSyncControl {
        /// Which round.
        round: u32,
        /// The octets.
        value: Vec<u8>,
    },
    /// These octets stand between the entries of a round of DirSync and its result.
    BytesInDirSync {
        /// Which round.
        round: u32,
        /// The octets.
        bytes: Vec<u8>,
    },
    /// The connection is closed in order after so many entries of a round of DirSync.
    CutInDirSync {
        /// Which round.
        round: u32,
        /// How many entries of it come.
        entries: usize,
    },
    /// Every round of DirSync says that there is more.
    EndlessDirSync,
    /// The rest of an attribute begins so many values too late.
    RangeGap(usize),
    /// The attribute is gone when its rest is asked for.
    RangeVanished,
}

/// How a notice of disconnection is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeForm {
    /// RFC 4511 section 4.4.1.
    Standard,
    /// The name of the notice stands behind the operation, where controls belong.
    ActiveDirectory,
}

/// What clients did.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Connections accepted.
    pub connections_count: usize,
    /// Messages received, of any kind.
    pub requests_count: usize,
    /// Name and password of every bind.
    pub binds: Vec<(String, String)>,
    /// Every search.
    pub searches: Vec<SearchSeen>,
    /// Requests for StartTLS.
    pub start_tls_count: usize,
    /// Polite ends.
    pub unbinds_count: usize,
    /// Everything received, decrypted.
    pub received: Vec<u8>,
    /// How much was sent, before encryption.
    pub sent_bytes: usize,
    /// What a script kept from being told as it is ([`sequence`]).
    pub touched: Vec<Vec<u8>>,
}

/// A search as a client sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchSeen {
    /// Base DN.
    pub base: String,
    /// 0 the base, 2 the subtree.
    pub scope: u32,
    /// Attributes asked for.
    pub attributes: Vec<String>,
    /// Page size, where a paging control came.
    pub page_size: Option<u32>,
    /// Whether that control was critical.
    pub is_paging_critical: bool,
    /// The control of DirSync.
    pub dir_sync: Option<DirSyncSeen>,
    /// Whether deleted entries were asked for too.
    pub shows_deleted: bool,
}

/// A control of DirSync as a client sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirSyncSeen {
    /// 1 is `OBJECT_SECURITY`.
    pub flags: u32,
    /// How large an answer may be.
    pub bytes_max: u32,
    /// Empty at the beginning.
    pub cookie: Vec<u8>,
    /// Whether the control was critical.
    pub is_critical: bool,
}

impl Directory {
    /// An empty directory with this default naming context.
    pub fn new(base: &str) -> Directory {
        Directory {
            base: base.to_owned(),
            ..Directory::default()
        }
    }

    /// Says in its root DSE that the configuration is there.
    pub fn configuration(self, dn: &str) -> Directory {
        self.root("configurationNamingContext", dn)
    }

    /// With one more entry, whose values are text.
    pub fn entry(self, dn: &str, attributes: &[(&str, &[&str])]) -> Directory {
        let attributes = attributes.iter().map(|(name, values)| {
            let values = values.iter().map(|value| value.as_bytes().to_vec());
            ((*name).to_owned(), values.collect())
        });
        let attributes = attributes.collect();
        self.raw_entry(dn.as_bytes(), attributes)
    }

    /// With one more entry of any octets.
    pub fn raw_entry(mut self, dn: &[u8], attributes: Vec<(String, Vec<Vec<u8>>)>) -> Directory {
        self.objects.push(Object {
            dn: dn.to_vec(),
            attributes,
            ..Object::default()
        });
        self
    }

    /// With one more attribute of the root DSE, beside `defaultNamingContext`.
    pub fn root(mut self, name: &str, value: &str) -> Directory {
        self.root.push((name.to_owned(), vec![value.into()]));
        self
    }

    /// With so many recipients below the base: `CN=n` with `SMTP:n@example.com` and a GUID, counted from 0.
    pub fn recipients(mut self, count: usize) -> Directory {
        for number in 0..count {
            let dn = format!("CN={number},{}", self.base);
            let guid = format!("{number:016}").into_bytes();
            let address = format!("SMTP:{number}@example.com").into_bytes();
            let attributes = vec![
                ("objectGUID".to_owned(), vec![guid]),
                ("proxyAddresses".to_owned(), vec![address]),
            ];
            self = self.raw_entry(dn.as_bytes(), attributes);
        }
        self
    }

    /// With an account; without any, every name and password is right.
    pub fn account(mut self, name: &str, password: &str) -> Directory {
        self.accounts.push((name.to_owned(), password.to_owned()));
        self
    }

    /// Refuses searches before a bind with a name, but for the root DSE, as Active Directory does.
    pub fn needs_bind(mut self) -> Directory {
        self.is_bind_needed = true;
        self
    }

    /// Gives at most so many values of an attribute at once (Active Directory's MaxValRange).
    pub fn range_max(mut self, values_count: usize) -> Directory {
        self.range_max = Some(values_count);
        self
    }

    /// Gives at most so many entries in a page, and no more than those to a search without pages, which then ends with
    /// sizeLimitExceeded (Active Directory's MaxPageSize, 1,000).
    pub fn page_max(mut self, entries_count: usize) -> Directory {
        self.page_max = Some(entries_count);
        self
    }

    /// Evaluates the filters of all searches.
    pub fn evaluates_filters(mut self) -> Directory {
        self.evaluates_filters = true;
        self
    }

    /// Sends these search references with the last page.
    pub fn references(mut self, urls: &[&str]) -> Directory {
        self.references = urls.iter().map(|url| (*url).to_owned()).collect();
        self
    }

    /// Fails so.
    pub fn fault(mut self, fault: Fault) -> Directory {
        self.faults.push(fault);
        self
    }

    /// Twists its answers so.
    pub fn script(mut self, script: sequence::Script) -> Directory {
        self.script = Some(script);
        self
    }

    /// Fails no more.
    pub fn without_faults(mut self) -> Directory {
        self.faults.clear();
        self
    }

    /// With the accounts and the TLS of another.
    pub fn protected_like(mut self, other: &Directory) -> Directory {
        self.accounts.clone_from(&other.accounts);
        self.is_bind_needed = other.is_bind_needed;
        self.identity.clone_from(&other.identity);
        self.is_ldaps = other.is_ldaps;
        self
    }

    /// Speaks TLS from the first byte.
    pub fn ldaps(mut self, identity: &Identity) -> Directory {
        self.identity = Some(identity.clone());
        self.is_ldaps = true;
        self
    }

    /// Offers StartTLS.
    pub fn start_tls(mut self, identity: &Identity) -> Directory {
        self.identity = Some(identity.clone());
        self
    }
}

/// A running server; dropping it ends it and its connections.
pub struct Server {
    address: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    directory: Mutex<Arc<Directory>>,
    is_over: AtomicBool,
    stats: Mutex<Stats>,
    sockets: Mutex<Vec<TcpStream>>,
}

impl Shared {
    fn directory(&self) -> Arc<Directory> {
        let directory = self.directory.lock();
        Arc::clone(&directory.unwrap_or_else(PoisonError::into_inner))
    }

    fn stats(&self) -> MutexGuard<'_, Stats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sockets(&self) -> MutexGuard<'_, Vec<TcpStream>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Server {
    /// Starts serving at a free port of 127.0.0.1.
    pub fn start(directory: Directory) -> Server {
        Server::start_at(directory, (Ipv4Addr::LOCALHOST, 0).into())
    }

    /// Starts serving at an address of its own, for clients that know a port by its number.
    pub fn start_at(directory: Directory, address: SocketAddr) -> Server {
        let listener = TcpListener::bind(address).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let scheme = if directory.is_ldaps { "ldaps" } else { "ldap" };
        let shared = Arc::new(Shared {
            directory: Mutex::new(Arc::new(directory)),
            is_over: AtomicBool::new(false),
            stats: Mutex::default(),
            sockets: Mutex::default(),
        });
        let for_acceptor = Arc::clone(&shared);
        let acceptor = std::thread::spawn(move || accept(&listener, &for_acceptor));
        Server {
            address,
            scheme,
            shared,
            acceptor: Some(acceptor),
        }
    }

    /// `ldap://127.0.0.1:PORT` or `ldaps://…`.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// What clients did so far.
    pub fn stats(&self) -> Stats {
        self.shared.stats().clone()
    }

    /// Serves something else from the next request on, on connections that are open too.
    pub fn change(&self, change: impl FnOnce(Directory) -> Directory) {
        let directory = self.shared.directory.lock();
        let mut directory = directory.unwrap_or_else(PoisonError::into_inner);
        *directory = Arc::new(change(Directory::clone(&directory)));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        // Wakes the acceptor.
        let _ = TcpStream::connect(self.address);
        for socket in self.shared.sockets().drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.is_over.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let Ok(clone) = stream.try_clone() else {
            continue;
        };
        shared.sockets().push(clone);
        shared.stats().connections_count += 1;
        let shared = Arc::clone(shared);
        std::thread::spawn(move || connection::serve(stream, &shared));
    }
}

/// Octets that no sound server sends.
pub mod hostile {
    use crate::ber::{element, number};

    /// So many sequences, each holding the next.
    pub fn nested_headers(count: usize) -> Vec<u8> {
        let mut reversed = Vec::with_capacity(count * 6);
        for _ in 0..count {
            let inner = u32::try_from(reversed.len()).expect("test data is below 4 GiB");
            reversed.extend(inner.to_le_bytes());
            reversed.extend([0x84, 0x30]);
        }
        reversed.reverse();
        reversed
    }

    /// A message with this id and an operation of this tag that holds nothing.
    pub fn message(id: u32, tag: u8) -> Vec<u8> {
        operation(id, tag, &[])
    }

    /// A message with this id and an operation of this tag and content.
    pub fn operation(id: u32, tag: u8, content: &[u8]) -> Vec<u8> {
        element(0x30, &[&number(0x02, id), &element(tag, &[content])])
    }

    /// An entry with exactly these attributes, asked for or not.
    pub fn entry(id: u32, dn: &[u8], attributes: &[(&str, &[&str])]) -> Vec<u8> {
        let attributes = attributes.iter().flat_map(|(name, values)| {
            let values = values
                .iter()
                .flat_map(|value| element(0x04, &[value.as_bytes()]));
            let values: Vec<u8> = values.collect();
            let name = element(0x04, &[name.as_bytes()]);
            element(0x30, &[&name, &element(0x31, &[&values])])
        });
        let attributes: Vec<u8> = attributes.collect();
        let parts = [element(0x04, &[dn]), element(0x30, &[&attributes])].concat();
        operation(id, 0x64, &parts)
    }

    /// A BindResponse of success with this id.
    pub fn bind_success(id: u32) -> Vec<u8> {
        let result = [number(0x0a, 0), element(0x04, &[]), element(0x04, &[])].concat();
        element(0x30, &[&number(0x02, id), &element(0x61, &[&result])])
    }

    /// A message whose inner element is longer than the message.
    pub fn inner_too_long(id: u32) -> Vec<u8> {
        element(0x30, &[&number(0x02, id), &[0x64, 0x7f, 0x04, 0x00]])
    }
}
