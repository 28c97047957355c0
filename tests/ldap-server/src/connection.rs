//! One client, served until it leaves or a fault is due.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ServerConnection, StreamOwned};

use crate::ber::{Reader, element, header, number};
use crate::filter::Filter;
use crate::sequence::{End, Pieces, Script};
use crate::{
    DIR_SYNC, Directory, Fault, Identity, Moment, NoticeForm, Object, SHOW_DELETED, SearchSeen,
    Shared, controller,
};

const PAGED_RESULTS: &[u8] = b"1.2.840.113556.1.4.319";
const START_TLS: &[u8] = b"1.3.6.1.4.1.1466.20037";
const NOTICE: &[u8] = b"1.3.6.1.4.1.1466.20036";

const NO_OBJECT: &[u8] = b"0000208D: NameErr: DSID-0310028B, problem 2001 (NO_OBJECT), data 0\0";

const BIND_RESPONSE: u8 = 0x61;
const ENTRY: u8 = 0x64;
const DONE: u8 = 0x65;
const REFERENCE: u8 = 0x73;
const EXTENDED_RESPONSE: u8 = 0x78;

/// No client of ours asks for more at once.
const REQUEST_OCTETS_MAX: usize = 64 * 1024 * 1024;

/// The connection is to end.
struct Over;

impl From<io::Error> for Over {
    fn from(_: io::Error) -> Over {
        Over
    }
}

enum Transport {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
    Gone,
}

struct Connection<'shared> {
    transport: Transport,
    // The same socket, for ends that are not in order.
    socket: TcpStream,
    shared: &'shared Shared,
    // As it was when the request came.
    directory: Arc<Directory>,
    is_bound: bool,
    // Rounds of DirSync on this connection.
    rounds_count: u32,
    // Answers on this connection, and the last of them.
    answers_count: u32,
    answer_before: Vec<u8>,
}

struct Search {
    id: u32,
    base: String,
    scope: u32,
    filter: Filter,
    attributes: Vec<String>,
    // Size and cookie.
    paging: Option<(u32, Vec<u8>)>,
    // The cookie.
    dir_sync: Option<Vec<u8>>,
    shows_deleted: bool,
}

pub(crate) fn serve(stream: TcpStream, shared: &Shared) {
    let Ok(socket) = stream.try_clone() else {
        return;
    };
    let _ = socket.set_nodelay(true);
    let mut connection = Connection {
        transport: Transport::Plain(stream),
        socket,
        shared,
        directory: shared.directory(),
        is_bound: false,
        rounds_count: 0,
        answers_count: 0,
        answer_before: Vec::new(),
    };
    if let Some(identity) = &shared.directory().identity
        && connection.directory.is_ldaps
    {
        connection.protect(identity);
    }
    while connection.serve_one().is_ok() {}
    connection.transport.close();
    // A reset happens when the last clone of the socket is closed; shutting it down would be an end in order.
    if !matches!(connection.transport, Transport::Gone) {
        let _ = connection.socket.shutdown(Shutdown::Both);
    }
}

impl Transport {
    fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        match self {
            Transport::Plain(stream) => stream.read_exact(buffer),
            Transport::Tls(stream) => stream.read_exact(buffer),
            Transport::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Transport::Plain(stream) => stream.write_all(bytes),
            Transport::Tls(stream) => {
                stream.write_all(bytes)?;
                stream.flush()
            }
            Transport::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn close(&mut self) {
        if let Transport::Tls(stream) = self {
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    }
}

impl Connection<'_> {
    fn protect(&mut self, identity: &Identity) {
        let plain = std::mem::replace(&mut self.transport, Transport::Gone);
        if let Transport::Plain(stream) = plain
            && let Ok(session) = ServerConnection::new(identity.config.clone())
        {
            self.transport = Transport::Tls(Box::new(StreamOwned::new(session, stream)));
        }
    }

    fn serve_one(&mut self) -> Result<(), Over> {
        let frame = self.receive()?;
        self.directory = self.shared.directory();
        let mut message = Reader(Reader(&frame).read().ok_or(Over)?.1);
        let id = message.read_number().ok_or(Over)?;
        let (tag, operation) = message.read().ok_or(Over)?;
        let operation = Reader(operation);
        match tag {
            0x60 => self.bind(id, operation),
            0x63 => {
                let controls = message.read().map(|(_, controls)| controls);
                let search = self.read_search(id, operation, controls).ok_or(Over)?;
                self.search(&search)
            }
            0x77 => self.extended(id, operation),
            0x42 => {
                self.shared.stats().unbinds_count += 1;
                Err(Over)
            }
            _ => Err(Over),
        }
    }

    fn receive(&mut self) -> Result<Vec<u8>, Over> {
        let mut frame = Vec::new();
        let (header_octets, content_octets) = loop {
            if let Some(lengths) = header(&frame) {
                break lengths;
            }
            let mut octet = [0];
            self.transport.read_exact(&mut octet)?;
            frame.push(octet[0]);
        };
        if content_octets > REQUEST_OCTETS_MAX {
            return Err(Over);
        }
        frame.resize(header_octets + content_octets, 0);
        self.transport.read_exact(&mut frame[header_octets..])?;
        let mut stats = self.shared.stats();
        stats.requests_count += 1;
        stats.received.extend_from_slice(&frame);
        Ok(frame)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Over> {
        let directory = Arc::clone(&self.directory);
        if let Some(script) = &directory.script {
            return self.send_twisted(bytes, script);
        }
        self.shared.stats().sent_bytes += bytes.len();
        Ok(self.transport.write_all(bytes)?)
    }

    fn send_twisted(&mut self, bytes: &[u8], script: &Script) -> Result<(), Over> {
        self.answers_count += 1;
        let twisted = script.apply(self.answers_count, bytes, &self.answer_before);
        self.answer_before = bytes.to_vec();
        let mut stats = self.shared.stats();
        stats.sent_bytes += twisted.octets.len();
        stats.touched.extend(twisted.touched);
        drop(stats);
        match script.pieces {
            Pieces::Answers => self.transport.write_all(&twisted.octets)?,
            Pieces::Octets(count) => {
                for piece in twisted.octets.chunks(count) {
                    self.transport.write_all(piece)?;
                }
            }
        }
        match twisted.end {
            None => Ok(()),
            Some(End::Close) => Err(Over),
            Some(End::Reset) => Err(self.reset()),
            Some(End::Silence) => self.wait_for_the_end(),
        }
    }

    fn reset(&mut self) -> Over {
        let _ = rustix::net::sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO));
        self.transport = Transport::Gone;
        self.shared.sockets().clear();
        Over
    }

    fn bind(&mut self, id: u32, mut operation: Reader<'_>) -> Result<(), Over> {
        let _version = operation.read_number();
        let name = operation.read_text().ok_or(Over)?;
        let password = operation.read_text().ok_or(Over)?;
        self.shared
            .stats()
            .binds
            .push((name.clone(), password.clone()));
        self.fail_at(id, Moment::Bind, BIND_RESPONSE)?;
        let accounts = &self.directory.accounts;
        let is_right =
            accounts.is_empty() || name.is_empty() || accounts.contains(&(name.clone(), password));
        self.is_bound = is_right && !name.is_empty();
        let (code, text): (u32, &[u8]) = if is_right {
            (0, b"")
        } else {
            (49, b"80090308: LdapErr: DSID-0C09044E, comment: AcceptSecurityContext error, data 52e, v2580\0")
        };
        self.send(&message(id, &result(BIND_RESPONSE, code, text, &[]), &[]))
    }

    fn extended(&mut self, id: u32, mut operation: Reader<'_>) -> Result<(), Over> {
        let (_, name) = operation.read().ok_or(Over)?;
        if name != START_TLS {
            let refusal = result(EXTENDED_RESPONSE, 2, b"unknown extended request", &[]);
            return self.send(&message(id, &refusal, &[]));
        }
        self.shared.stats().start_tls_count += 1;
        self.fail_at(id, Moment::StartTls, EXTENDED_RESPONSE)?;
        let Some(identity) = self.directory.identity.clone() else {
            let refusal = result(EXTENDED_RESPONSE, 2, b"TLS is not available", &[]);
            return self.send(&message(id, &refusal, &[]));
        };
        let name = element(0x8a, &[START_TLS]);
        let mut answer = message(id, &result(EXTENDED_RESPONSE, 0, b"", &[&name]), &[]);
        for fault in &self.directory.faults {
            if let Fault::StartTlsInjection(bytes) = fault {
                answer.extend_from_slice(bytes);
            }
        }
        self.send(&answer)?;
        self.protect(&identity);
        Ok(())
    }

    fn read_search(
        &mut self,
        id: u32,
        mut operation: Reader<'_>,
        controls: Option<&[u8]>,
    ) -> Option<Search> {
        let base = operation.read_text()?;
        let scope = operation.read_number()?;
        for _deref_size_time_types in 0..4 {
            operation.read()?;
        }
        let (tag, content) = operation.read()?;
        let filter = Filter::parse(tag, content)?;
        let mut attributes = Vec::new();
        let mut wanted = Reader(operation.read()?.1);
        while let Some(name) = wanted.read_text() {
            attributes.push(name);
        }
        let mut search = Search {
            id,
            base,
            scope,
            filter,
            attributes,
            paging: None,
            dir_sync: None,
            shows_deleted: false,
        };
        let mut seen = SearchSeen {
            base: search.base.clone(),
            scope,
            attributes: search.attributes.clone(),
            page_size: None,
            is_paging_critical: false,
            dir_sync: None,
            shows_deleted: false,
        };
        let mut controls = Reader(controls.unwrap_or_default());
        while let Some((_, control)) = controls.read() {
            read_control(control, &mut search, &mut seen)?;
        }
        self.shared.stats().searches.push(seen);
        Some(search)
    }

    fn search(&mut self, search: &Search) -> Result<(), Over> {
        let directory = Arc::clone(&self.directory);
        if search.scope == 0 && search.base.is_empty() {
            let entry = entry_message(search, &directory.root_entry(), None);
            return self.send(&[entry, done(search.id, 0, b"", None)].concat());
        }
        if directory.is_bind_needed && !self.is_bound {
            let text = b"000004DC: LdapErr: DSID-0C0907E9, comment: In order to perform this operation a successful bind must be completed on the connection., data 0, v2580\0";
            return self.send(&done(search.id, 1, text, None));
        }
        if let Some(cookie) = &search.dir_sync {
            return self.dir_sync(search, cookie);
        }
        let Some(base) = directory.resolve(&search.base, search.shows_deleted) else {
            return self.send(&done(search.id, 32, NO_OBJECT, None));
        };
        if search.scope == 0 {
            return self.base_search(search, &base);
        }
        if !self.is_base(&base) {
            return self.send(&done(search.id, 32, NO_OBJECT, None));
        }
        self.page(search, &base)
    }

    /// One round of DirSync.
    fn dir_sync(&mut self, search: &Search, cookie: &[u8]) -> Result<(), Over> {
        self.rounds_count += 1;
        let round = self.rounds_count;
        self.fail_at(search.id, Moment::DirSync(round), DONE)?;
        let directory = Arc::clone(&self.directory);
        if !search.base.eq_ignore_ascii_case(&directory.base) {
            let text =
                b"00002095: SvcErr: DSID-03140C34, problem 5003 (WILL_NOT_PERFORM), data 0\0";
            return self.send(&done(search.id, 53, text, None));
        }
        let answer = match controller::round(&directory, cookie, &search.filter, &search.attributes)
        {
            Ok(answer) => answer,
            Err(code) => {
                let text = b"00000057: LdapErr: DSID-0C090B3C, comment: Error processing control, data 0, v2580\0";
                return self.send(&done(search.id, code, text, None));
            }
        };
        let entries = answer.entries.iter();
        let mut entries: Vec<Vec<u8>> = entries
            .map(|object| whole_entry(search.id, object))
            .collect();
        let mut has_more = answer.has_more;
        let mut value = None;
        let mut has_control = true;
        for fault in &directory.faults {
            match fault {
                Fault::EndlessDirSync => has_more = true,
                Fault::NoDirSyncControl { round: when } if *when == round => has_control = false,
                Fault::DirSyncControl {
                    round: when,
                    value: wanted,
                } if *when == round => {
                    value = Some(wanted.clone());
                }
                Fault::BytesInDirSync { round: when, bytes } if *when == round => {
                    entries.push(bytes.clone());
                }
                Fault::CutInDirSync {
                    round: when,
                    entries: kept,
                } if *when == round => {
                    self.send(&entries[..*kept].concat())?;
                    return Err(Over);
                }
                _ => {}
            }
        }
        let value = value.unwrap_or_else(|| controller::control_value(has_more, &answer.cookie));
        let control = has_control.then_some((DIR_SYNC, value.as_slice()));
        entries.push(done(search.id, 0, b"", control));
        self.send(&entries.concat())
    }

    fn is_base(&self, base: &str) -> bool {
        let directory = &self.directory;
        base.eq_ignore_ascii_case(&directory.base)
            || (directory.usn.is_some() && base.eq_ignore_ascii_case(&directory.dn_of_deleted()))
            || directory
                .objects
                .iter()
                .any(|object| is_below(&object.dn, base))
    }

    fn base_search(&mut self, search: &Search, base: &str) -> Result<(), Over> {
        self.fail_at(search.id, Moment::BaseSearch, DONE)?;
        let directory = Arc::clone(&self.directory);
        let alone = directory.service().into_iter();
        let alone: Vec<Object> = alone.chain(directory.container_of_deleted()).collect();
        let found = directory
            .objects
            .iter()
            .chain(&alone)
            .find(|object| object.dn.eq_ignore_ascii_case(base.as_bytes()));
        let Some(object) = found.filter(|object| search.shows(object)) else {
            return self.send(&done(search.id, 32, NO_OBJECT, None));
        };
        let control = search.paging.as_ref().map(|_| control_value(&[]));
        let control = control.as_deref().map(|value| (PAGED_RESULTS, value));
        if directory.evaluates_filters && !search.filter.matches(object) {
            return self.send(&done(search.id, 0, b"", control));
        }
        let object = if directory.faults.contains(&Fault::RangeVanished) {
            Object {
                attributes: Vec::new(),
                ..object.clone()
            }
        } else {
            object.clone()
        };
        let range = Ranges {
            values_max: directory.range_max.unwrap_or(usize::MAX),
            gap: directory
                .faults
                .iter()
                .find_map(|fault| match fault {
                    Fault::RangeGap(gap) => Some(*gap),
                    _ => None,
                })
                .unwrap_or(0),
        };
        let entry = entry_message(search, &object, Some(range));
        self.send(&[entry, done(search.id, 0, b"", control)].concat())
    }

    fn page(&mut self, search: &Search, base: &str) -> Result<(), Over> {
        let directory = Arc::clone(&self.directory);
        let below: Vec<&Object> = directory
            .objects
            .iter()
            .filter(|object| is_below(&object.dn, base) && search.shows(object))
            .filter(|object| !object.is_deleted || directory.sees_deletions)
            .filter(|object| !directory.evaluates_filters || search.filter.matches(object))
            .collect();
        let (number, offset) = search
            .paging
            .as_ref()
            .map_or((1, 0), |(_, cookie)| place(cookie));
        self.fail_at(search.id, Moment::Page(number), DONE)?;
        let mut size = search
            .paging
            .as_ref()
            .map_or(usize::MAX, |(size, _)| to_usize(*size))
            .min(directory.page_max.unwrap_or(usize::MAX));
        if directory.faults.contains(&Fault::TooManyEntriesInPage) {
            size += 1;
        }
        let mut end = offset.saturating_add(size).min(below.len());
        let mut has_more = end < below.len();
        for fault in &directory.faults {
            match fault {
                Fault::EndlessCookie => has_more = true,
                Fault::EndlessEmptyPages { page } if number >= *page => {
                    (end, has_more) = (offset, true)
                }
                _ => {}
            }
        }
        let ranges = directory
            .range_max
            .map(|values_max| Ranges { values_max, gap: 0 });
        let mut entries: Vec<Vec<u8>> = below[offset..end]
            .iter()
            .map(|object| entry_message(search, object, ranges))
            .collect();
        if !has_more {
            for url in &directory.references {
                let url = element(0x04, &[url.as_bytes()]);
                entries.push(message(search.id, &element(REFERENCE, &[&url]), &[]));
            }
        }
        // An endless cookie leads to where it came from.
        let next_offset = if end == below.len() && has_more {
            offset
        } else {
            end
        };
        let cookie = if has_more {
            cookie(number + 1, next_offset)
        } else {
            Vec::new()
        };
        self.send_page(search, number, &entries, (cookie, has_more))
    }

    fn send_page(
        &mut self,
        search: &Search,
        number: u32,
        entries: &[Vec<u8>],
        (cookie, has_more): (Vec<u8>, bool),
    ) -> Result<(), Over> {
        let mut code = 0;
        let mut control = search.paging.as_ref().map(|_| control_value(&cookie));
        let mut pause = None;
        let (mut extra, mut behind) = (Vec::new(), Vec::new());
        // Active Directory gives the first entries all the same, and says in the result that they are not all.
        if has_more && search.paging.is_none() {
            code = 4;
        }
        let directory = Arc::clone(&self.directory);
        for fault in &directory.faults {
            match fault {
                Fault::PageCode { page, code: wanted } if *page == number => code = *wanted,
                Fault::NoPagingControl { page } if *page == number => control = None,
                Fault::PagingControl { page, value } if *page == number => {
                    control = Some(value.clone())
                }
                Fault::SlowDrip {
                    page,
                    pause: wanted,
                } if *page == number => pause = Some(*wanted),
                Fault::BytesInPage { page, bytes } if *page == number => extra.clone_from(bytes),
                Fault::RepeatedInPage { page, bytes, times } if *page == number => {
                    for _ in 0..*times {
                        self.send(bytes)?;
                    }
                }
                Fault::BytesBehindPage { page, bytes } if *page == number => {
                    behind.clone_from(bytes)
                }
                Fault::CutAfterEntries {
                    page,
                    entries: kept,
                } if *page == number => {
                    self.send(&entries[..*kept].concat())?;
                    return Err(Over);
                }
                Fault::CutInMessage { page } if *page == number => {
                    let all = entries.concat();
                    self.send(&all[..all.len() - 3])?;
                    return Err(Over);
                }
                _ => {}
            }
        }
        let mut bytes = entries.concat();
        bytes.extend(extra);
        let control = control.as_deref().map(|value| (PAGED_RESULTS, value));
        bytes.extend(done(search.id, code, b"", control));
        bytes.extend(behind);
        match pause {
            None => self.send(&bytes),
            Some(pause) => self.drip(&bytes, pause),
        }
    }

    fn drip(&mut self, bytes: &[u8], pause: Duration) -> Result<(), Over> {
        for octet in bytes {
            self.send(&[*octet])?;
            std::thread::sleep(pause);
        }
        Ok(())
    }

    /// Does what the faults of this moment say instead of the answer.
    fn fail_at(&mut self, id: u32, moment: Moment, tag: u8) -> Result<(), Over> {
        let directory = Arc::clone(&self.directory);
        for fault in &directory.faults {
            match fault {
                Fault::Close(when) if *when == moment => return Err(Over),
                Fault::Reset(when) if *when == moment => return Err(self.reset()),
                Fault::Silence(when) if *when == moment => return self.wait_for_the_end(),
                Fault::Bytes(when, bytes) if *when == moment => {
                    self.send(bytes)?;
                    return self.wait_for_the_end();
                }
                Fault::Zeros(when, bytes, count) if *when == moment => {
                    self.send(bytes)?;
                    let zeros = vec![0; 1 << 16];
                    for _ in 0..count.div_ceil(1 << 16) {
                        self.send(&zeros)?;
                    }
                    return self.wait_for_the_end();
                }
                Fault::Code(when, code, text) if *when == moment => {
                    self.send(&message(id, &result(tag, *code, text, &[]), &[]))?;
                    return self.wait_for_the_end();
                }
                Fault::Notice(when, form) if *when == moment => {
                    self.send(&notice(*form))?;
                    return Err(Over);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Says nothing more; whatever still comes, a request or not, is only remembered.
    fn wait_for_the_end(&mut self) -> Result<(), Over> {
        let mut octet = [0];
        loop {
            self.transport.read_exact(&mut octet)?;
            self.shared.stats().received.push(octet[0]);
        }
    }
}

impl Search {
    fn shows(&self, object: &Object) -> bool {
        self.shows_deleted || !object.is_deleted
    }
}

fn read_control(control: &[u8], search: &mut Search, seen: &mut SearchSeen) -> Option<()> {
    let mut parts = Reader(control);
    let name = parts.read()?.1;
    let mut is_critical = false;
    let mut part = parts.read();
    if let Some((0x01, content)) = part {
        is_critical = content != [0];
        part = parts.read();
    }
    let value =
        |part: Option<(u8, &[u8])>| -> Option<Vec<u8>> { Some(Reader(part?.1).read()?.1.to_vec()) };
    match name {
        PAGED_RESULTS => {
            let value = value(part)?;
            let mut value = Reader(&value);
            let (size, cookie) = (value.read_number()?, value.read()?.1.to_vec());
            seen.page_size = Some(size);
            seen.is_paging_critical = is_critical;
            search.paging = Some((size, cookie));
        }
        DIR_SYNC => {
            let value = value(part)?;
            let mut value = Reader(&value);
            let (flags, bytes_max) = (value.read_number()?, value.read_number()?);
            let cookie = value.read()?.1.to_vec();
            search.dir_sync = Some(cookie.clone());
            seen.dir_sync = Some(crate::DirSyncSeen {
                flags,
                bytes_max,
                cookie,
                is_critical,
            });
        }
        SHOW_DELETED => {
            search.shows_deleted = true;
            seen.shows_deleted = true;
        }
        _ => {}
    }
    Some(())
}

#[derive(Clone, Copy)]
struct Ranges {
    values_max: usize,
    gap: usize,
}

fn entry_message(search: &Search, object: &Object, ranges: Option<Ranges>) -> Vec<u8> {
    let mut attributes = Vec::new();
    for (name, values) in &object.attributes {
        let wanted = search.attributes.iter().find(|wanted| {
            let base = wanted.split(';').next().unwrap_or_default();
            base == "*" || base.eq_ignore_ascii_case(name)
        });
        let Some(wanted) = wanted else {
            if search.attributes.is_empty() {
                attributes.extend(attribute(name, values));
            }
            continue;
        };
        let from = wanted
            .split_once(";range=")
            .and_then(|(_, range)| range.strip_suffix("-*"))
            .and_then(|from| from.parse::<usize>().ok());
        let values_max = ranges.map_or(usize::MAX, |ranges| ranges.values_max);
        if from.is_none() && values.len() <= values_max {
            attributes.extend(attribute(name, values));
            continue;
        }
        if from.is_none() {
            attributes.extend(attribute(name, &[]));
        }
        let from = from.unwrap_or(0);
        let from = if from == 0 {
            0
        } else {
            from + ranges.map_or(0, |ranges| ranges.gap)
        };
        let from = from.min(values.len());
        let to = from.saturating_add(values_max).min(values.len());
        let last = if to == values.len() {
            "*".to_owned()
        } else {
            (to - 1).to_string()
        };
        attributes.extend(attribute(
            &format!("{name};range={from}-{last}"),
            &values[from..to],
        ));
    }
    let dn = element(0x04, &[&object.dn]);
    let entry = element(ENTRY, &[&dn, &element(0x30, &[&attributes])]);
    message(search.id, &entry, &[])
}

/// An entry of DirSync: all that is there, and nothing in ranges.
fn whole_entry(id: u32, object: &Object) -> Vec<u8> {
    let attributes = object.attributes.iter();
    let attributes: Vec<u8> = attributes
        .flat_map(|(name, values)| attribute(name, values))
        .collect();
    let dn = element(0x04, &[&object.dn]);
    let entry = element(ENTRY, &[&dn, &element(0x30, &[&attributes])]);
    message(id, &entry, &[])
}

fn attribute(name: &str, values: &[Vec<u8>]) -> Vec<u8> {
    let values: Vec<u8> = values
        .iter()
        .flat_map(|value| element(0x04, &[value]))
        .collect();
    let name = element(0x04, &[name.as_bytes()]);
    element(0x30, &[&name, &element(0x31, &[&values])])
}

fn message(id: u32, operation: &[u8], rest: &[u8]) -> Vec<u8> {
    element(0x30, &[&number(0x02, id), operation, rest])
}

fn result(tag: u8, code: u32, text: &[u8], rest: &[&[u8]]) -> Vec<u8> {
    let (code, matched, text) = (
        number(0x0a, code),
        element(0x04, &[]),
        element(0x04, &[text]),
    );
    element(tag, &[&code, &matched, &text, &rest.concat()])
}

fn done(id: u32, code: u32, text: &[u8], control: Option<(&[u8], &[u8])>) -> Vec<u8> {
    let controls = control.map_or_else(Vec::new, |(oid, value)| {
        let (oid, value) = (element(0x04, &[oid]), element(0x04, &[value]));
        element(0xa0, &[&element(0x30, &[&oid, &value])])
    });
    message(id, &result(DONE, code, text, &[]), &controls)
}

pub(crate) fn notice(form: NoticeForm) -> Vec<u8> {
    let name = element(0x8a, &[NOTICE]);
    match form {
        NoticeForm::Standard => message(
            0,
            &result(EXTENDED_RESPONSE, 52, b"going down", &[&name]),
            &[],
        ),
        NoticeForm::ActiveDirectory => {
            message(0, &result(EXTENDED_RESPONSE, 52, b"going down", &[]), &name)
        }
    }
}

fn control_value(cookie: &[u8]) -> Vec<u8> {
    element(0x30, &[&number(0x02, 0), &element(0x04, &[cookie])])
}

/// A cookie holds the number of the page it leads to and the entries before it.
fn cookie(page: u32, offset: usize) -> Vec<u8> {
    let offset = u32::try_from(offset).expect("test data is below 4 Gi entries");
    [page.to_be_bytes(), offset.to_be_bytes()].concat()
}

fn place(cookie: &[u8]) -> (u32, usize) {
    let mut halves = cookie.chunks_exact(4).map(|half| {
        half.iter()
            .fold(0, |number, octet| number << 8 | u32::from(*octet))
    });
    match (halves.next(), halves.next()) {
        (Some(page), Some(offset)) => (page, to_usize(offset)),
        _ => (1, 0),
    }
}

fn to_usize(number: u32) -> usize {
    usize::try_from(number).expect("32 bits fit")
}

fn is_below(dn: &[u8], base: &str) -> bool {
    let start = dn.len().checked_sub(base.len());
    start.is_some_and(|start| dn[start..].eq_ignore_ascii_case(base.as_bytes()))
}
